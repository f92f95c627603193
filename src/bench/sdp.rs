//! Offers as a browser would make them, cut down to one H.264 track, and what we need of the answer.

use std::net::SocketAddr;

/// H.264.
pub const PAYLOAD_TYPE: u8 = 96;
/// Its retransmissions.
pub const RTX_PAYLOAD_TYPE: u8 = 97;
/// Id of the transport-wide sequence number's header extension: the one mediasoup knows it by, and any other server
/// takes.
pub const TRANSPORT_CC_ID: u8 = 5;

/// What an offer is made of.
#[derive(Clone, Debug)]
pub struct Local<'a> {
    /// ICE username fragment.
    pub ufrag: &'a str,
    /// ICE password.
    pub pwd: &'a str,
    /// SHA-256 of our certificate.
    pub fingerprint: &'a str,
    /// The SSRC we send with; `None` for a viewer.
    pub ssrc: Option<u32>,
}

/// An offer.
pub fn offer(local: &Local<'_>) -> String {
    let direction = if local.ssrc.is_some() { "sendonly" } else { "recvonly" };
    let mut lines = vec![
        "v=0".to_owned(),
        "o=- 1 1 IN IP4 0.0.0.0".to_owned(),
        "s=-".to_owned(),
        "t=0 0".to_owned(),
        "a=group:BUNDLE 0".to_owned(),
        format!("m=video 9 UDP/TLS/RTP/SAVPF {PAYLOAD_TYPE} {RTX_PAYLOAD_TYPE}"),
        "c=IN IP4 0.0.0.0".to_owned(),
        format!("a=ice-ufrag:{}", local.ufrag),
        format!("a=ice-pwd:{}", local.pwd),
        format!("a=fingerprint:sha-256 {}", local.fingerprint),
        "a=setup:active".to_owned(),
        "a=mid:0".to_owned(),
        format!("a={direction}"),
        "a=rtcp-mux".to_owned(),
        "a=rtcp-rsize".to_owned(),
        format!("a=extmap:{TRANSPORT_CC_ID} {}", crate::core::capabilities::ext::TRANSPORT_CC),
        format!("a=rtpmap:{PAYLOAD_TYPE} H264/90000"),
        format!(
            "a=fmtp:{PAYLOAD_TYPE} level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"
        ),
        format!("a=rtcp-fb:{PAYLOAD_TYPE} nack"),
        format!("a=rtcp-fb:{PAYLOAD_TYPE} nack pli"),
        format!("a=rtcp-fb:{PAYLOAD_TYPE} ccm fir"),
        format!("a=rtcp-fb:{PAYLOAD_TYPE} transport-cc"),
        format!("a=rtpmap:{RTX_PAYLOAD_TYPE} rtx/90000"),
        format!("a=fmtp:{RTX_PAYLOAD_TYPE} apt={PAYLOAD_TYPE}"),
    ];
    if let Some(ssrc) = local.ssrc {
        lines.push(format!("a=msid:bench bench\r\na=ssrc:{ssrc} cname:bench"));
    }
    lines.push(String::new());
    lines.join("\r\n")
}

/// What we need of an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// Remote ICE username fragment.
    pub ufrag: String,
    /// Remote ICE password.
    pub pwd: String,
    /// The first UDP candidate over IPv4.
    pub address: SocketAddr,
    /// The server's certificate, SHA-256, upper case with colons.
    pub fingerprint: String,
    /// It takes transport-wide feedback.
    pub transport_cc: bool,
}

/// Reads an answer.
pub fn answer(text: &str) -> Option<Answer> {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let candidate = |line: &str| {
        let fields: Vec<_> = line.strip_prefix("a=candidate:")?.split(' ').collect();
        let udp = fields.get(2)?.eq_ignore_ascii_case("udp");
        let address = SocketAddr::new(fields.get(4)?.parse().ok()?, fields.get(5)?.parse().ok()?);
        Some(address).filter(|address| udp && address.is_ipv4())
    };
    Some(Answer {
        ufrag: value("a=ice-ufrag:")?.to_owned(),
        pwd: value("a=ice-pwd:")?.to_owned(),
        address: text.lines().find_map(candidate)?,
        fingerprint: value("a=fingerprint:sha-256 ")?.to_ascii_uppercase(),
        transport_cc: text.contains(crate::core::capabilities::ext::TRANSPORT_CC),
    })
}
