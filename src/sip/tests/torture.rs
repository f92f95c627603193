//! Messages that are strange, broken or hostile.

use super::*;

#[test]
fn folded_compact_and_oddly_spaced_headers_are_read() {
    let text = "INVITE sip:a@h;x=\"y SIP/2.0\nTO :\n sip:b@h ;   tag    = 19\nf: \"J \\\" R\" <sip:jr@h>;tag=9\n\
                v:  SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK1,\n SIP/2.0/TCP 192.0.2.3\ni: 7\ncseq: 0009\n INVITE\nl: 2\n\nab-garbage";
    let text = text.replace(";x=\"y", "");
    let Message::Request(request) = Message::parse(text.as_bytes(), &LIMITS).expect("a message") else {
        panic!("a request")
    };
    assert_eq!(request.headers.cseq(), Some((9, Method::Invite)));
    assert_eq!(request.headers.tag("To").as_deref(), Some("19"));
    assert_eq!(request.headers.all("Via").count(), 2);
    assert_eq!(request.body, b"ab");
}

#[test]
fn what_has_no_one_meaning_is_refused() {
    let good = "OPTIONS sip:h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:h>\r\n\
                Call-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
    assert!(Message::parse(good.as_bytes(), &LIMITS).is_ok());
    for (from, to) in [
        ("Content-Length: 0", "Content-Length: 9"),
        ("Content-Length: 0", "Content-Length: -1"),
        ("CSeq: 1 OPTIONS", "CSeq: 1 INVITE"),
        ("CSeq: 1 OPTIONS", "CSeq: 4294967296 OPTIONS"),
        ("CSeq: 1 OPTIONS", "CSeq: 1 OPTIONS\r\nCSeq: 2 OPTIONS"),
        ("SIP/2.0\r\n", "SIP/7.0\r\n"),
        ("sip:h SIP", "<sip:h> SIP"),
        ("Call-ID: 1\r\n", ""),
        ("To: <sip:h>", "To <sip:h>"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert!(Message::parse(bad.as_bytes(), &LIMITS).is_err(), "{bad}");
    }
    let long = good.replace("To: ", &format!("X: {}\r\nTo: ", "a".repeat(20_000)));
    assert!(Message::parse(long.as_bytes(), &LIMITS).is_err());
}

#[test]
fn a_party_of_rfc_2543_and_one_that_takes_no_description_get_their_answers() {
    let mut bench = Bench::new(OFFICE_ONLY);
    let mut invite = Party::new(OFFICE, "room-x").invite();
    invite.headers.remove("Contact");
    let tx = bench.request(OFFICE, invite.clone());
    assert_eq!(bench.status(tx), 400, "nobody to talk to");
    invite.headers.set("From", "<sip:caller@192.0.2.10>");
    invite.set_body("application/sdp", OFFER);
    let tx = bench.request(OFFICE, invite.clone());
    assert_eq!(bench.status(tx), 200);
    invite.headers.set("Accept", "text/nobodyKnowsThis");
    let tx = bench.request(OFFICE, invite.clone());
    assert_eq!(bench.status(tx), 406);
    invite.headers.remove("Accept");
    invite.uri = "sip:room-x@h?Route=%3Csip:elsewhere%3E".into();
    let tx = bench.request(OFFICE, invite.clone());
    assert_eq!(bench.status(tx), 400);
    invite.method = Method::Other("RE%47IST%45R".into());
    let answer = crate::sip::demux::without_transaction(&invite).expect("an answer");
    assert!(answer.status == 405 && answer.headers.get("Allow").is_some());
}

#[test]
fn broken_bytes_do_no_harm() {
    let party = Party::new(OFFICE, "room-x");
    let mut invite = party.invite();
    invite.set_body("application/sdp", OFFER);
    let good = Message::Request(invite).to_bytes();
    let mut bench = Bench::new(OFFICE_ONLY);
    let mut seed = 1u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % below
    };
    for round in 0..3000 {
        let mut bad = good.clone();
        for _ in 0..=next(6) {
            let at = next(bad.len());
            match next(3) {
                0 => bad[at] = next(256) as u8,
                1 => drop(bad.remove(at)),
                _ => bad.insert(at, b"\r\n:;<>\"@, "[next(10)]),
            }
        }
        if let Ok(Message::Request(request)) = Message::parse(&bad, &LIMITS) {
            bench.last_tx += 1;
            let tx = ServerTx(bench.last_tx);
            bench.incoming(Incoming::Request { tx, source: source(OFFICE), request });
        }
        bench.pass(Duration::from_millis(round % 50));
        bench.answers.clear();
        bench.sent.clear();
    }
    bench.board.close(bench.now);
    bench.pass_s(100);
    assert!(bench.board.is_empty(), "{} calls are left", bench.board.len());
}

#[test]
fn what_nobody_supports_is_said() {
    let mut bench = Bench::new(OFFICE_ONLY);
    let mut invite = Party::new(OFFICE, "room-x").invite();
    invite.headers.push("Require", "nothing-we-know, timer");
    let tx = bench.request(OFFICE, invite.clone());
    assert_eq!(
        (bench.status(tx), bench.answer(tx).headers.get("Unsupported")),
        (420, Some("nothing-we-know"))
    );
    invite.headers.remove("Require");
    invite.uri = "http://example.com".into();
    let tx = bench.request(OFFICE, invite.clone());
    assert_eq!(bench.status(tx), 416);
    invite.uri = "sip:room-x@h".into();
    invite.headers.set("Max-Forwards", "0");
    let tx = bench.request(OFFICE, invite.clone());
    assert_eq!(bench.status(tx), 483);
    invite.headers.remove("Max-Forwards");
    invite.method = Method::Subscribe;
    invite.headers.set("CSeq", "1 SUBSCRIBE");
    let tx = bench.request(OFFICE, invite);
    assert_eq!(bench.status(tx), 405);
    assert!(bench.answer(tx).headers.get("Allow").is_some_and(|allow| allow.contains("REFER")));
}
