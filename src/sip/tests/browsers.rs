//! Calls to phones in web pages, alone and beside others: everybody gets an offer that he can take.

use super::registering::register_by;
use super::*;
use crate::core::control::calls::Dial;
use crate::core::session::DtlsRole;
use crate::sip::demux::Order;
use crate::sip::session::FlowId;
use crate::sip::session::media::{How, Remote};

const OUT: &str = "outbound: [{ number: '*', trunk: phones, principals: ['key:desk'] }]\n";

fn web() -> Source {
    Source { transport: Transport::Wss, flow: Some(FlowId(7)), ..source(ELSEWHERE) }
}

fn ring(bench: &mut Bench) -> (SessionId, Vec<(ClientTx, Request, Destination)>) {
    let order = Order { dial: Dial::new("x", "alice"), principal: "key:desk".into() };
    let id = bench.board.dial(bench.now, &order).expect("a call");
    bench.drain();
    (id, std::mem::take(&mut bench.sent))
}

/// A browser's answer to our offer.
const ANSWER: &str = "v=0\r\no=- 5 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
    m=audio 40000 UDP/TLS/RTP/SAVPF 111 110\r\nc=IN IP4 198.51.100.7\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\n\
    a=ice-ufrag:theirs\r\na=ice-pwd:password-of-22-letters\r\na=fingerprint:sha-256 CC:DD\r\na=setup:active\r\n\
    a=rtpmap:111 opus/48000/2\r\na=rtpmap:110 telephone-event/48000\r\n";

#[test]
fn a_phone_in_a_page_is_offered_what_it_can_take() {
    let mut bench = Bench::new(OUT);
    register_by(&mut bench, web(), "alice", "sip:x7f3@q9.invalid;transport=ws", 600);
    let (id, sent) = ring(&mut bench);
    let [(tx, invite, to)] = &sent[..] else { panic!("one INVITE, not {}", sent.len()) };
    assert_eq!((to.transport, to.flow), (Transport::Wss, Some(FlowId(7))), "by its own connection");
    let offer = text(&invite.body);
    for line in [
        "a=ice-lite",
        "m=audio 8189 UDP/TLS/RTP/SAVPF 111 9 8 0 110 101 13",
        "a=mid:0",
        "a=setup:actpass",
        "a=fingerprint:sha-256 AA:BB",
        "a=ice-ufrag:ufrag",
        "a=candidate:1 1 udp 2130706431 203.0.113.1 8189 typ host",
        "a=rtcp-mux",
    ] {
        assert!(offer.lines().any(|known| known == line), "{line} in {offer}");
    }
    bench.respond(*tx, accept(invite, "there", ANSWER));
    let Remote::Ice { role, fingerprints, ice } = &bench.connected[0].remote else { panic!("ICE") };
    assert_eq!((*role, ice.0.as_str()), (DtlsRole::Client, "theirs"));
    assert_eq!(fingerprints[0].value, "CC:DD");
    assert_eq!(bench.states(id).last(), Some(&(CallState::Answered, Some(200))));
}

#[test]
fn a_page_and_a_desk_phone_ring_together_and_either_may_answer() {
    for page_answers in [true, false] {
        let mut bench = Bench::new(OUT);
        register_by(&mut bench, web(), "alice", "sip:x7f3@q9.invalid;transport=ws", 600);
        register_by(&mut bench, source(ELSEWHERE), "alice", "sip:alice@198.51.100.7:40000", 600);
        let (_, sent) = ring(&mut bench);
        let [page, desk] = &sent[..] else { panic!("two INVITEs, not {}", sent.len()) };
        assert!(text(&page.1.body).contains("SAVPF") && text(&desk.1.body).contains(" RTP/AVP "));
        let ends: Vec<_> = bench.opened.iter().map(|end| (end.index, end.how)).collect();
        assert_eq!(ends, [(0, How::Ice), (2, How::Plain { mux: false })]);
        let (winner, sdp) = if page_answers { (page, ANSWER) } else { (desk, OFFER) };
        bench.respond(winner.0, accept(&winner.1, "there", sdp));
        assert_eq!(bench.connected.len(), 1);
        assert_eq!(bench.connected[0].index, if page_answers { 0 } else { 2 });
        assert_eq!(bench.closed, [if page_answers { 2 } else { 0 }], "what nobody answered is closed");
        // What comes later is about the ends that were answered.
        bench.board.hold(bench.now, bench.ids[0], true).expect("a call");
        bench.drain();
        let (tx, hold) = bench.last(Method::Invite);
        assert_eq!(text(&hold.body).contains("ice-ufrag"), page_answers);
        bench.respond(tx, accept(&hold, "", &sdp.replace("sendrecv", "recvonly")));
        assert_eq!(bench.connected[0].index, if page_answers { 0 } else { 2 });
    }
}

#[test]
fn a_phone_at_an_ipv6_address_is_told_one() {
    let mut bench = Bench::new(OUT);
    let by = Source { addr: "[2001:db8::7]:5060".parse().expect("address"), ..source(ELSEWHERE) };
    register_by(&mut bench, by, "alice", "sip:alice@[2001:db8::7]", 600);
    ring(&mut bench);
    assert!(bench.opened[0].ipv6);
    let mut bench = Bench::new(&OFFICE_ONLY.replace("192.0.2.10", "'2001:db8::/32'"));
    bench.request_by(by, Party::new("[2001:db8::7]:5060", "room-x").invite());
    assert!(bench.opened[0].ipv6, "the offer of a call that came without one");
}
