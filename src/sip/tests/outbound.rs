//! Calls of ours, transfers, and who may have them.

use super::*;
use crate::core::control::calls::{CallError, Dial};
use crate::sip::demux::Order;

const OUT: &str = "trunks: [{ name: office, host: '192.0.2.10', username: gw, password: secret }]\n\
                   dispatch: [{ number: 'room-*', room: '{1}' }]\n\
                   outbound:\n\
                   - { number: '+49*', trunk: office, principals: ['key:desk', 'trunk:office'], transfer: true }\n\
                   - { number: '*', trunk: phones, principals: ['key:desk'] }\n";

fn order(number: &str) -> Order {
    Order { dial: Dial::new("x", number), principal: "key:desk".into() }
}

fn dial(bench: &mut Bench, number: &str) -> (SessionId, ClientTx, Request) {
    let id = bench.board.dial(bench.now, &order(number)).expect("a call");
    bench.drain();
    let (tx, invite) = bench.last(Method::Invite);
    (id, tx, invite)
}

#[test]
fn nobody_calls_out_without_a_rule() {
    let mut bench = Bench::new(OFFICE_ONLY);
    assert!(matches!(bench.board.dial(bench.now, &order("+4930")), Err(CallError::Denied(_))));
    let mut bench = Bench::new(OUT);
    let stranger = Order { principal: "anonymous".into(), ..order("+4930") };
    assert!(matches!(bench.board.dial(bench.now, &stranger), Err(CallError::Denied(_))));
    bench.drain();
    assert_eq!(bench.count(&Method::Invite), 0);
}

#[test]
fn a_challenged_call_comes_through_and_can_be_ended() {
    let mut bench = Bench::new(OUT);
    let (id, tx, invite) = dial(&mut bench, "+49301");
    assert_eq!(invite.uri, "sip:+49301@192.0.2.10");
    let mut challenge = invite.response(407, "", "t");
    challenge
        .headers
        .push("Proxy-Authenticate", "Digest realm=\"p\", nonce=\"n\", qop=\"auth\", algorithm=SHA-256");
    bench.respond(tx, challenge.clone());
    let (tx, invite) = bench.last(Method::Invite);
    assert_eq!(invite.headers.cseq().map(|(number, _)| number), Some(2));
    let credentials = invite.headers.get("Proxy-Authorization").expect("credentials");
    assert!(credentials.contains("algorithm=SHA-256") && credentials.contains("nc=00000001"));
    bench.respond(tx, accept(&invite, "there", OFFER));
    assert_eq!(bench.acks.len(), 1);
    assert_eq!(bench.acks[0].uri, "sip:callee@192.0.2.10:5060");
    let states = bench.states(id);
    assert_eq!(states, [(CallState::Calling, None), (CallState::Answered, Some(200))]);
    let response = accept(&invite, "there", OFFER);
    bench.incoming(Incoming::Late { source: source(OFFICE), response });
    assert_eq!(bench.acks.len(), 2, "a repeated 200 is acknowledged again");
    bench.board.hang_up(bench.now, id, "over").expect("a call");
    bench.drain();
    let (tx, bye) = bench.last(Method::Bye);
    bench.respond(tx, bye.response(200, "", ""));
    assert!(bench.board.is_empty());
}

#[test]
fn a_wrong_password_is_tried_once_more_at_most() {
    let mut bench = Bench::new(OUT);
    let (id, ..) = dial(&mut bench, "+49301");
    for nonce in ["a", "b", "c", "d"] {
        let (tx, invite) = bench.last(Method::Invite);
        let mut challenge = invite.response(401, "", "t");
        challenge.headers.push("WWW-Authenticate", format!("Digest realm=\"p\", nonce=\"{nonce}\""));
        bench.respond(tx, challenge);
    }
    assert_eq!(bench.count(&Method::Invite), 3);
    let last = bench.events(id)[1];
    assert_eq!((last.state, last.code), (CallState::Failed, Some(401)));
    assert!(last.text.contains("password"), "{last:?}");
    assert!(bench.board.is_empty());
}

#[test]
fn early_media_is_heard_and_reliable_ringing_acknowledged() {
    let mut bench = Bench::new(OUT);
    let (id, tx, invite) = dial(&mut bench, "+49301");
    let mut progress = accept(&invite, "there", OFFER);
    progress.status = 183;
    progress.headers.push("Require", "100rel");
    progress.headers.push("RSeq", "7");
    bench.respond(tx, progress.clone());
    assert_eq!(bench.connected[0].produce.codecs[0].mime_type, "audio/PCMA");
    let (_, prack) = bench.last(Method::Prack);
    assert_eq!(prack.headers.get("RAck"), Some("7 1 INVITE"));
    bench.respond(tx, progress);
    assert_eq!(bench.count(&Method::Prack), 1, "the same again is no new one");
    assert!(bench.states(id).contains(&(CallState::Early, Some(183))));
    // Nobody sends what was announced: it rings on.
    bench.board.handle_media(bench.now, id, MediaEvent::Timeout);
    bench.drain();
    assert!(bench.cancelled.is_empty());
    bench.respond(tx, accept(&invite, "there", OFFER));
    let bye_seq = {
        bench.board.hang_up(bench.now, id, "over").expect("a call");
        bench.drain();
        bench.last(Method::Bye).1.headers.cseq().map(|(number, _)| number)
    };
    assert_eq!(bye_seq, Some(3), "behind the INVITE and the PRACK");
    let reason = bench.last(Method::Bye).1.headers.get("Reason").map(str::to_owned);
    assert_eq!(reason.as_deref(), Some("Q.850;cause=16;text=\"over\""));
}

#[test]
fn giving_up_waits_for_the_first_ringing_and_survives_an_answer() {
    let mut bench = Bench::new(OUT);
    let (id, tx, invite) = dial(&mut bench, "+49301");
    bench.pass_s(61);
    assert!(bench.cancelled.is_empty(), "nothing was heard yet");
    assert_eq!(bench.states(id)[1], (CallState::Failed, Some(408)));
    bench.respond(tx, invite.response(180, "", "there"));
    assert_eq!(bench.cancelled, [tx]);
    bench.respond(tx, accept(&invite, "there", OFFER));
    assert_eq!((bench.acks.len(), bench.count(&Method::Bye)), (1, 1));
    assert!(bench.board.is_empty());
}

fn register(bench: &mut Bench, user: &str, contact: &str) {
    super::registering::register(bench, user, contact, 600);
}

#[test]
fn all_phones_of_a_user_ring_and_the_first_answer_wins() {
    let mut bench = Bench::new(OUT);
    register(&mut bench, "bob", "sip:bob@198.51.100.7:40000");
    register(&mut bench, "bob", "sip:bob@198.51.100.7:40002");
    let (id, second_tx, second) = dial(&mut bench, "bob");
    let (first_tx, first) = {
        let (tx, request, _) = &bench.sent[bench.sent.len() - 2];
        (*tx, request.clone())
    };
    assert_ne!(first.uri, second.uri);
    bench.respond(first_tx, first.response(180, "", "one"));
    bench.respond(second_tx, second.response(180, "", "two"));
    bench.respond(second_tx, accept(&second, "two", OFFER));
    assert_eq!(bench.cancelled, [first_tx]);
    bench.respond(first_tx, accept(&first, "one", OFFER));
    let (_, bye) = bench.last(Method::Bye);
    assert_eq!(bye.headers.tag("To").as_deref(), Some("one"), "the loser's answer is ended");
    assert_eq!(bench.acks.len(), 2);
    assert!(bench.states(id).contains(&(CallState::Answered, Some(200))));
    assert_eq!(bench.board.len(), 1);
}

#[test]
fn failures_are_told_in_the_other_sides_words() {
    let mut bench = Bench::new(OUT);
    let (id, tx, invite) = dial(&mut bench, "+49301");
    let mut refusal = invite.response(488, "", "t");
    refusal.headers.push("Warning", "305 there \"no codec in common\"");
    bench.respond(tx, refusal);
    let told = bench.events(id)[1];
    assert_eq!((told.state, told.code), (CallState::Failed, Some(488)));
    assert!(told.text.contains("no codec in common"));
    assert!(!told.number.contains("4930"), "the room is not shown the number");
    let (id, tx, invite) = dial(&mut bench, "+49301");
    let mut moved = invite.response(302, "", "t");
    moved.headers.push("Contact", "<sip:premium@203.0.113.99>");
    bench.respond(tx, moved);
    assert_eq!(bench.states(id)[1], (CallState::Failed, Some(302)), "not followed");
}

#[test]
fn limits_of_a_trunk_hold() {
    let mut bench = Bench::new(
        &OUT.replace("password: secret", "password: secret, max_calls_per_minute: 2, prefixes: ['+49']"),
    );
    dial(&mut bench, "+49301");
    dial(&mut bench, "+49302");
    assert!(matches!(bench.board.dial(bench.now, &order("+49303")), Err(CallError::Unavailable(_))));
    bench.pass_s(61);
    assert!(bench.board.dial(bench.now, &order("+49303")).is_ok());
}

#[test]
fn a_party_is_transferred_where_a_rule_allows_it() {
    let mut bench = Bench::new(OUT);
    let party = bench.call(OFFICE, "room-x");
    let refer = |bench: &mut Bench, seq: u32, target: &str| {
        let mut refer = party.within(Method::Refer);
        refer.headers.set("CSeq", format!("{seq} REFER"));
        refer.headers.push("Refer-To", target);
        bench.request(OFFICE, refer)
    };
    let denied = refer(&mut bench, 2, "<sip:+1900@192.0.2.10>");
    assert_eq!(bench.status(denied), 403);
    let allowed = refer(&mut bench, 3, "<sip:+49305@192.0.2.10?Replaces=a%3Bto-tag%3Db%3Bfrom-tag%3Dc>");
    assert_eq!(bench.status(allowed), 202);
    let (tx, invite) = bench.last(Method::Invite);
    assert_eq!(invite.headers.get("Replaces"), Some("a;to-tag=b;from-tag=c"));
    assert_eq!(bench.entered.last().map(|enter| enter.room.as_str()), Some("x"));
    bench.respond(tx, invite.response(180, "", "there"));
    bench.respond(tx, accept(&invite, "there", OFFER));
    let notices: Vec<_> =
        bench.sent.iter().filter(|(_, request, _)| request.method == Method::Notify).collect();
    let bodies: Vec<_> = notices.iter().map(|(_, request, _)| text(&request.body)).collect();
    assert_eq!(bodies, ["SIP/2.0 100 Trying\r\n", "SIP/2.0 180 Ringing\r\n", "SIP/2.0 200 OK\r\n"]);
    let state = notices[2].1.headers.get("Subscription-State").expect("a state");
    assert!(state.starts_with("terminated"));
}

#[test]
fn a_party_sent_elsewhere_is_let_go_when_it_got_there() {
    let mut bench = Bench::new(OUT);
    let party = bench.call(OFFICE, "room-x");
    let id = bench.ids[0];
    bench.board.transfer(bench.now, id, "+49301", "key:desk").expect("a transfer");
    bench.drain();
    let (tx, refer) = bench.last(Method::Refer);
    assert_eq!(refer.headers.get("Refer-To"), Some("<sip:+49301@192.0.2.10>"));
    bench.respond(tx, refer.response(202, "", ""));
    let mut notify = party.within(Method::Notify);
    notify.headers.set("CSeq", "2 NOTIFY");
    notify.headers.push("Event", "refer");
    notify.headers.push("Subscription-State", "terminated;reason=noresource");
    notify.set_body("message/sipfrag", "SIP/2.0 200 OK\r\n");
    let tx = bench.request(OFFICE, notify);
    assert_eq!(bench.status(tx), 200);
    assert_eq!(bench.count(&Method::Bye), 1);
}
