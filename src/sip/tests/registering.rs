//! Registrations, ours elsewhere and phones' here.

use super::*;
use crate::sip::session::digest::{Account, Answerer};

fn bare(user: &str, contact: &str, seconds: u32, seq: u32) -> Request {
    let mut request = Request::new(Method::Register, "sip:gw");
    let headers = &mut request.headers;
    headers.push("Via", "SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bKr;rport");
    headers.push("From", format!("<sip:{user}@gw>;tag=1"));
    headers.push("To", format!("<sip:{user}@gw>"));
    headers.push("Call-ID", contact.replace(':', "-"));
    headers.push("CSeq", format!("{seq} REGISTER"));
    headers.push("Contact", format!("<{contact}>;expires={seconds}"));
    request
}

pub fn register(bench: &mut Bench, user: &str, contact: &str, seconds: u32) {
    register_by(bench, source(ELSEWHERE), user, contact, seconds);
}

pub fn register_by(bench: &mut Bench, by: Source, user: &str, contact: &str, seconds: u32) {
    let tx = bench.request_by(by, bare(user, contact, seconds, 1));
    assert_eq!(bench.status(tx), 401);
    let mut answerer = Answerer::default();
    assert!(answerer.challenged(bench.answer(tx)));
    let mut request = bare(user, contact, seconds, 2);
    answerer.sign(&mut request, &Account { username: user.into(), password: user.into() });
    let tx = bench.request_by(by, request);
    assert_eq!(bench.status(tx), 200, "{:?}", bench.answer(tx));
}

#[test]
fn phones_register_for_a_while() {
    let mut bench = Bench::new("{}");
    register(&mut bench, "alice", "sip:alice@198.51.100.7:40000", 120);
    assert_eq!(bench.board.phones(bench.now), [("alice".to_owned(), 1)]);
    bench.pass_s(121);
    assert_eq!(bench.board.phones(bench.now), []);
}

#[test]
fn replayed_stale_and_wrong_credentials_are_refused() {
    let mut bench = Bench::new("digest: [sha-256, md5]");
    let tx = bench.request(ELSEWHERE, bare("alice", "sip:a@h", 300, 1));
    assert_eq!(bench.answer(tx).headers.lines("WWW-Authenticate").count(), 2);
    let mut answerer = Answerer::default();
    assert!(answerer.challenged(bench.answer(tx)));
    let account = |password: &str| Account { username: "alice".into(), password: password.into() };
    let mut signed = bare("alice", "sip:a@h", 300, 2);
    answerer.sign(&mut signed, &account("alice"));
    assert!(signed.headers.get("Authorization").is_some_and(|line| line.contains("SHA-256")));
    let tx = bench.request(ELSEWHERE, signed.clone());
    assert_eq!(bench.status(tx), 200);
    let tx = bench.request(ELSEWHERE, signed);
    assert_eq!(bench.status(tx), 401, "the same credentials again");
    bench.pass_s(301);
    let mut late = bare("alice", "sip:a@h", 300, 3);
    answerer.sign(&mut late, &account("alice"));
    let tx = bench.request(ELSEWHERE, late);
    let challenge = bench.answer(tx).headers.get("WWW-Authenticate").expect("a challenge").to_owned();
    assert!(challenge.contains("stale=true"));
    assert_eq!(bench.blamed, 0, "none of this is an attack");
    assert!(answerer.challenged(bench.answer(tx)));
    let mut wrong = bare("alice", "sip:a@h", 300, 4);
    answerer.sign(&mut wrong, &account("guess"));
    let tx = bench.request(ELSEWHERE, wrong);
    assert_eq!((bench.status(tx), bench.blamed), (401, 1));
}

#[test]
fn a_digest_over_the_body_holds_for_that_body_only() {
    let mut bench = Bench::new("digest_integrity: true");
    let tx = bench.request(ELSEWHERE, bare("alice", "sip:a@h", 300, 1));
    let mut challenge = bench.answer(tx).clone();
    let line = challenge.headers.get("WWW-Authenticate").expect("a challenge").to_owned();
    assert!(line.contains("auth,auth-int"), "{line}");
    challenge.headers.set("WWW-Authenticate", line.replace("auth,auth-int", "auth-int"));
    let mut answerer = Answerer::default();
    assert!(answerer.challenged(&challenge));
    let mut request = bare("alice", "sip:a@h", 300, 2);
    request.set_body("text/plain", "as it was");
    answerer.sign(&mut request, &Account { username: "alice".into(), password: "alice".into() });
    let mut changed = request.clone();
    changed.body = b"as it is".to_vec();
    let tx = bench.request(ELSEWHERE, changed);
    assert_eq!((bench.status(tx), bench.blamed), (401, 1));
    let tx = bench.request(ELSEWHERE, request);
    assert_eq!(bench.status(tx), 200);
}

#[test]
fn nobody_registers_for_somebody_else() {
    let mut bench = Bench::new("{}");
    let tx = bench.request(ELSEWHERE, bare("bob", "sip:x@h", 300, 1));
    let mut answerer = Answerer::default();
    assert!(answerer.challenged(bench.answer(tx)));
    let mut request = bare("bob", "sip:x@h", 300, 2);
    answerer.sign(&mut request, &Account { username: "alice".into(), password: "alice".into() });
    let tx = bench.request(ELSEWHERE, request);
    assert_eq!(bench.status(tx), 403);
}

#[test]
fn registrations_that_are_too_brief_are_told_what_is_not() {
    let mut bench = Bench::new("{}");
    let tx = bench.request(ELSEWHERE, bare("alice", "sip:a@h", 5, 1));
    let mut answerer = Answerer::default();
    assert!(answerer.challenged(bench.answer(tx)));
    let mut request = bare("alice", "sip:a@h", 5, 2);
    answerer.sign(&mut request, &Account { username: "alice".into(), password: "alice".into() });
    let tx = bench.request(ELSEWHERE, request);
    assert_eq!((bench.status(tx), bench.answer(tx).headers.get("Min-Expires")), (423, Some("60")));
}

const PROVIDER: &str =
    "trunks: [{ name: office, preset: registrar, host: '192.0.2.10', username: gw, password: secret }]";

#[test]
fn we_register_refresh_and_leave() {
    let mut bench = Bench::new(PROVIDER);
    bench.pass_s(0);
    let (tx, request) = bench.last(Method::Register);
    let mut challenge = request.response(401, "", "t");
    challenge.headers.push("WWW-Authenticate", "Digest realm=\"p\", nonce=\"n\", qop=\"auth\"");
    bench.respond(tx, challenge);
    let (tx, request) = bench.last(Method::Register);
    assert!(request.headers.get("Authorization").is_some());
    let mut response = request.response(200, "", "t");
    // Somebody else is registered there too; ours is the one with our address.
    response
        .headers
        .push("Contact", "<sip:gw@198.51.100.1>;expires=3000, <sip:gw@203.0.113.1:5060>;expires=100");
    bench.respond(tx, response);
    assert_eq!(bench.board.trunk_states()[0].1, Some(true));
    let before = bench.count(&Method::Register);
    bench.pass_s(85);
    assert_eq!(bench.count(&Method::Register), before);
    bench.pass_s(10);
    assert_eq!(bench.count(&Method::Register), before + 1);
    let (tx, request) = bench.last(Method::Register);
    bench.respond(tx, request.response(200, "", "t"));
    bench.board.close(bench.now);
    bench.drain();
    let (tx, request) = bench.last(Method::Register);
    assert_eq!(request.headers.get("Expires"), Some("0"));
    bench.respond(tx, request.response(200, "", "t"));
    assert!(bench.board.is_quiet());
}

#[test]
fn a_dead_registrar_is_asked_less_and_less_often() {
    let mut bench = Bench::new(PROVIDER);
    let mut asked = Vec::new();
    for _ in 0..3600 {
        bench.pass_s(1);
        while bench.count(&Method::Register) > asked.len() {
            asked.push(bench.now);
            let (tx, _) = bench.last(Method::Register);
            bench.fail(tx, TxFailure::Timeout);
        }
    }
    assert!((6..25).contains(&asked.len()), "{} attempts in an hour", asked.len());
    let last = asked[asked.len() - 1] - asked[asked.len() - 2];
    assert!(last >= Duration::from_secs(290), "{last:?}");
    assert_eq!(bench.board.trunk_states()[0].1, Some(false));
}
