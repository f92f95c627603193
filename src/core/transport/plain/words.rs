//! What is wrong with a leg, for the person who has to mend it.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::core::rtp::rtcp::{Compound, Packet};
use crate::core::transport::feedback::Feedback;
use crate::core::transport::plain::PlainTransport;
use crate::core::transport::plain::watch::Trouble;

/// Whether a compound's reports name a stream that we send; `None` when there is no report in it.
pub(super) fn names_a_stream(compound: &[u8], feedback: &Feedback) -> Option<bool> {
    let mut named = None;
    for packet in Compound::new(compound).map_while(Result::ok) {
        let mut blocks = match &packet {
            Packet::SenderReport(report) => report.reports,
            Packet::ReceiverReport(report) => report.reports,
            _ => continue,
        };
        let ours = blocks.any(|block| feedback.consumer_of(block.ssrc).is_some());
        named = Some(ours || named == Some(true));
    }
    named
}

/// Data of the event `x.oneway`.
pub(super) fn one_way(leg: &PlainTransport, trouble: Trouble) -> Value {
    let port = leg.sockets.as_ref().map_or(0, |sockets| sockets.rtp.address.port());
    let local = format_address(leg.ip, port);
    let remote = leg.latch.found().map(|path| path.remote()).or(leg.latch.sdp());
    let remote = remote.map_or_else(|| "(unknown)".into(), |remote| remote.to_string());
    let text = match trouble {
        Trouble::Unheard => format!(
            "we send from {local} to {remote}, and the party's reports say that nothing of it arrives: UDP from \
             here is blocked, or the party sits behind a NAT that lets nothing in"
        ),
        _ => format!("{}: {}", deafness(leg, &local, &remote), cause(leg)),
    };
    let direction = if trouble == Trouble::Unheard { "out" } else { "in" };
    json!({"text": text, "local": local, "remote": remote, "direction": direction})
}

fn deafness(leg: &PlainTransport, local: &str, remote: &str) -> String {
    match leg.watch.is_sending() {
        true => format!("we send to {remote} from {local}, nothing returns"),
        false => format!("nothing comes to {local} from {remote}, and there is nothing to send"),
    }
}

/// The likeliest cause, by what did come.
fn cause(leg: &PlainTransport) -> String {
    let counters = &leg.counters;
    if counters.refused > 0 {
        let refused = counters.refused;
        return format!("{refused} packets came that the SRTP keys of the SDP do not open");
    }
    if let Some(stranger) = leg.latch.stranger {
        let ignored = leg.latch.ignored;
        return format!("{ignored} packets came from {stranger}, which was not taken for the party");
    }
    let far = leg.latch.sdp().is_some_and(|sdp| !is_private(sdp.ip()));
    if far && is_private(leg.ip) {
        return format!(
            "our address {} is private and cannot be reached from there; announce the public one",
            leg.ip
        );
    }
    "UDP to our RTP ports is blocked, or a NAT is in between; nothing latched".into()
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local() || v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

fn format_address(ip: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(ip, port).to_string()
}
