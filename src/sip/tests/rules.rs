//! Who is let in where: rules about callers, bounds of rooms and trunks, trunks that bring a password.

use super::*;
use crate::core::control::calls::{CallError, Dial};
use crate::sip::demux::Order;
use crate::sip::session::digest::{Account, Answerer};

/// An INVITE of somebody with a number.
fn invite(from: &str, number: &str, caller: &str) -> Request {
    let mut invite = Party::new(from, number).invite();
    invite.headers.set("From", format!("<sip:{caller}@192.0.2.10>;tag=theirs"));
    invite.set_body("application/sdp", OFFER);
    invite
}

fn calls(bench: &mut Bench, number: &str, caller: &str) -> u16 {
    let tx = bench.request(OFFICE, invite(OFFICE, number, caller));
    bench.status(tx)
}

#[test]
fn rules_look_at_callers_and_the_first_that_matches_wins() {
    let mut bench = Bench::new(
        "trunks: [{ name: office, peers: [192.0.2.10] }]\n\
         dispatch:\n\
         - { name: nuisance, number: '6*', allow: ['+1900*'], refuse: not wanted here }\n\
         - { name: board, number: '600', allow: ['+4930*'], deny: ['+493099*'], room: board, hide_number: false }\n\
         - { name: others, number: '60?', room: 'lobby{1}' }\n\
         - { name: own, number: '61*', room: 'own{1}' }\n"
            .replace("lobby{1}", "waiting")
            .as_str(),
    );
    assert_eq!(calls(&mut bench, "600", "+19005550100"), 603);
    assert_eq!(calls(&mut bench, "600", "+49301234"), 200);
    assert_eq!(calls(&mut bench, "600", "+49309912"), 200);
    assert_eq!(calls(&mut bench, "612", "+49301234"), 200);
    assert_eq!(calls(&mut bench, "700", "+49301234"), 404);
    let seen: Vec<_> =
        bench.entered.iter().map(|enter| (enter.room.as_str(), enter.name.contains("4930"))).collect();
    assert_eq!(
        seen,
        [("board", true), ("waiting", false), ("own2", false)],
        "who is denied goes to the next rule"
    );
}

#[test]
fn each_caller_may_have_a_room_of_his_own_and_rooms_have_bounds() {
    let mut bench = Bench::new(
        "trunks: [{ name: office, peers: [192.0.2.10], max_calls: 5 }]\n\
         dispatch:\n\
         - { number: '1', room: desk, per_caller: true }\n\
         - { number: '2', room: hall, max_callers: 2 }\n\
         - { number: '3', pins: { '11': a, '22': b }, max_callers: 1 }\n",
    );
    assert_eq!((calls(&mut bench, "1", "+1"), calls(&mut bench, "1", "+1")), (200, 200));
    let rooms: Vec<_> = bench.entered.iter().map(|enter| enter.room.clone()).collect();
    assert!(rooms.iter().all(|room| room.starts_with("desk-")) && rooms[0] != rooms[1], "{rooms:?}");
    let hall: Vec<_> = (0..3).map(|_| calls(&mut bench, "2", "+1")).collect();
    assert_eq!(hall, [200, 200, 486]);
    assert_eq!(calls(&mut bench, "3", "+1"), 200);
    // Five calls are the trunk's.
    assert_eq!(calls(&mut bench, "1", "+1"), 503);
}

#[test]
fn a_server_that_stops_says_so_and_lets_calls_go_on() {
    let mut bench = Bench::new(OFFICE_ONLY);
    let party = bench.call(OFFICE, "room-x");
    bench.board.drain();
    assert_eq!(calls(&mut bench, "room-x", "+1"), 503);
    let mut options = Party::new(OFFICE, "x").within(Method::Options);
    options.headers.set("To", "<sip:203.0.113.1>");
    let tx = bench.request(OFFICE, options);
    assert_eq!(bench.status(tx), 503);
    assert!(bench.answer(tx).headers.get("Retry-After").is_some());
    let tx = bench.later(&party, Method::Invite, Some(OFFER));
    assert_eq!(bench.status(tx), 200);
    let order = Order { dial: Dial::new("x", "1"), principal: "key:desk".into() };
    assert!(matches!(bench.board.dial(bench.now, &order), Err(CallError::Unavailable(_))));
}

/// An INVITE from somewhere, with a password if there is one: the last status.
fn with_password(bench: &mut Bench, from: &str, user: &str, password: &str) -> u16 {
    let first = invite(from, "room-x", "+1");
    let tx = bench.request(from, first.clone());
    let mut answerer = Answerer::default();
    if bench.status(tx) != 401 || !answerer.challenged(bench.answer(tx)) {
        return bench.status(tx);
    }
    let mut second = first;
    second.headers.set("CSeq", "2 INVITE");
    answerer.sign(&mut second, &Account { username: user.into(), password: password.into() });
    let tx = bench.request(from, second);
    bench.status(tx)
}

#[test]
fn a_trunk_may_be_known_by_a_password_by_its_address_or_by_both() {
    const RULES: &str = "dispatch: [{ number: 'room-*', room: '{1}' }]\n";
    let with = |trunk: &str| Bench::new(&format!("trunks: [{{ name: t, {trunk} }}]\n{RULES}"));
    // By a password from anywhere.
    let mut bench = with("inbound_username: pbx, inbound_password: secret");
    assert_eq!(with_password(&mut bench, ELSEWHERE, "pbx", "guess"), 401);
    assert_eq!((bench.blamed, bench.entered.len()), (1, 0));
    assert_eq!(with_password(&mut bench, ELSEWHERE, "pbx", "secret"), 200);
    assert_eq!(bench.entered[0].principal.id(), "trunk:t");
    // By both.
    let mut bench = with("peers: [192.0.2.10], inbound_username: pbx, inbound_password: secret");
    assert_eq!(with_password(&mut bench, ELSEWHERE, "pbx", "secret"), 401, "from another address");
    assert_eq!(with_password(&mut bench, OFFICE, "pbx", "guess"), 401, "with another password");
    assert_eq!(with_password(&mut bench, OFFICE, "pbx", "secret"), 200);
    // By either.
    let mut bench =
        with("peers: [192.0.2.10], inbound_username: pbx, inbound_password: secret, trust_address: true");
    let tx = bench.request(OFFICE, invite(OFFICE, "room-x", "+1"));
    assert_eq!(bench.status(tx), 200, "the address is enough");
}

#[test]
fn a_trunk_that_wants_keys_is_offered_both_suites_and_answers_with_one() {
    const KEY: &str = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";
    let yaml = "trunks: [{ name: safe, host: '192.0.2.10', srtp: sdes, rtcp_mux: true, codecs: [pcma] }]\n\
                outbound: [{ number: '*', trunk: safe, principals: ['key:desk'] }]";
    for answered in [true, false] {
        let mut bench = Bench::new(yaml);
        let order = Order { dial: Dial::new("x", "12"), principal: "key:desk".into() };
        bench.board.dial(bench.now, &order).expect("a call");
        bench.drain();
        let (tx, request) = bench.last(Method::Invite);
        let offer = text(&request.body);
        assert!(offer.contains("RTP/SAVP 8 101 13") && offer.contains("a=rtcp-mux"), "{offer}");
        assert!(
            offer.contains("a=crypto:1 AES_CM_128_HMAC_SHA1_80 ")
                && offer.contains("a=crypto:2 AES_CM_128_HMAC_SHA1_32 ")
        );
        let crypto = format!("a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:{KEY}\r\n");
        let sdp = OFFER.replace("RTP/AVP 8 0 101", "RTP/SAVP 8 101") + if answered { &crypto } else { "" };
        bench.respond(tx, accept(&request, "there", &sdp));
        if answered {
            let crate::sip::session::media::Remote::Plain(remote) = &bench.connected[0].remote else {
                panic!("plain")
            };
            assert!(remote.srtp.is_some() && remote.srtp_local.is_some());
            assert_eq!(bench.count(&Method::Bye), 0);
        } else {
            assert!(bench.connected.is_empty(), "nothing flows in the clear");
            assert!(
                bench.last(Method::Bye).1.headers.get("Reason").is_some_and(|reason| reason.contains("488"))
            );
        }
    }
}
