//! Calls of ours until somebody answers: several numbers at once, redirections, early media, what the room hears.

use super::*;
use crate::core::control::calls::{CallError, Dial, Meanwhile};
use crate::sip::demux::Order;

const TWO: &str = "trunks:\n\
                   - { name: office, host: '192.0.2.10', username: gw, password: secret, max_calls: 3 }\n\
                   - { name: other, host: trunk.example, follow_redirects: true, max_calls: 2 }\n\
                   outbound:\n\
                   - { number: '+49*', trunk: office, principals: ['key:desk'] }\n\
                   - { number: '+1*', trunk: other, principals: ['key:desk'] }\n";

fn order(numbers: &[&str]) -> Order {
    let numbers = numbers.iter().map(|number| (*number).to_owned()).collect();
    Order { dial: Dial { numbers, ..Dial::new("x", "") }, principal: "key:desk".into() }
}

/// Dials; answers the call and each INVITE with its transaction.
fn dial(bench: &mut Bench, order: &Order) -> (SessionId, Vec<(ClientTx, Request)>) {
    let before = bench.sent.len();
    let id = bench.board.dial(bench.now, order).expect("a call");
    bench.drain();
    (id, bench.sent[before..].iter().map(|(tx, request, _)| (*tx, request.clone())).collect())
}

fn calls(bench: &Bench, trunk: &str) -> usize {
    let states = bench.board.trunk_states();
    states.iter().find(|(name, ..)| name == trunk).map_or(0, |(.., calls)| *calls)
}

#[test]
fn of_several_numbers_the_first_to_answer_has_the_call() {
    let mut bench = Bench::new(TWO);
    let (id, invites) = dial(&mut bench, &order(&["+49301", "+49302", "+1555"]));
    let uris: Vec<_> = invites.iter().map(|(_, invite)| invite.uri.as_str()).collect();
    assert_eq!(uris, ["sip:+49301@192.0.2.10", "sip:+49302@192.0.2.10", "sip:+1555@trunk.example"]);
    assert_eq!((calls(&bench, "office"), calls(&bench, "other")), (2, 1));
    for (tx, invite) in &invites {
        bench.respond(*tx, invite.response(180, "", &format!("{tx:?}")));
    }
    let (tx, invite) = &invites[2];
    bench.respond(*tx, accept(invite, "there", OFFER));
    assert_eq!(bench.cancelled, [invites[0].0, invites[1].0]);
    assert_eq!((calls(&bench, "office"), calls(&bench, "other")), (0, 1), "one line is taken");
    for (tx, invite) in &invites[..2] {
        bench.respond(*tx, invite.response(487, "", "late"));
    }
    assert_eq!(bench.states(id).last(), Some(&(CallState::Answered, Some(200))));
    assert_eq!(bench.board.summaries(bench.now)[0].trunk, "other");
    bench.board.hang_up(bench.now, id, "over").expect("a call");
    bench.drain();
    let (tx, bye) = bench.last(Method::Bye);
    assert_eq!(bye.uri, "sip:callee@192.0.2.10:5060");
    bench.respond(tx, bye.response(200, "", ""));
    assert_eq!((calls(&bench, "office"), calls(&bench, "other")), (0, 0));
}

#[test]
fn a_number_that_may_not_be_called_does_not_stop_the_others() {
    let mut bench = Bench::new(TWO);
    let (_, invites) = dial(&mut bench, &order(&["+33", "+49301"]));
    assert_eq!(invites.len(), 1);
    assert!(matches!(bench.board.dial(bench.now, &order(&["+33"])), Err(CallError::Denied(_))));
    assert!(matches!(bench.board.dial(bench.now, &order(&[])), Err(CallError::Bad(_))));
}

#[test]
fn two_branches_of_a_proxy_may_both_answer() {
    let mut bench = Bench::new(TWO);
    let (_, invites) = dial(&mut bench, &order(&["+49301"]));
    let (tx, invite) = &invites[0];
    bench.respond(*tx, accept(invite, "one", OFFER));
    // The same INVITE, answered by another branch (RFC 3261 §13.2.2.4), and then the first answer once more.
    let late = |tag| Incoming::Late { source: source(OFFICE), response: accept(invite, tag, OFFER) };
    bench.incoming(late("two"));
    let (_, bye) = bench.last(Method::Bye);
    assert_eq!(bye.headers.tag("To").as_deref(), Some("two"));
    let acks = bench.acks.len();
    bench.incoming(late("one"));
    assert_eq!((bench.acks.len(), bench.count(&Method::Bye)), (acks + 1, 1));
    assert_eq!(bench.board.len(), 1);
}

#[test]
fn the_room_hears_it_ring_until_sound_comes_from_there() {
    let mut bench = Bench::new(TWO);
    let (id, invites) = dial(&mut bench, &order(&["+49301"]));
    let (tx, invite) = &invites[0];
    assert!(bench.heard.is_empty());
    bench.respond(*tx, invite.response(180, "", "there"));
    bench.respond(*tx, invite.response(180, "", "there"));
    assert_eq!(bench.heard, [vec![Sound::Ringback]]);
    let mut progress = accept(invite, "there", OFFER);
    progress.status = 183;
    bench.respond(*tx, progress);
    bench.respond(*tx, invite.response(180, "", "there"));
    assert_eq!(bench.heard, [vec![Sound::Ringback], vec![]]);
    let states = [
        (CallState::Calling, None),
        (CallState::Ringing, Some(180)),
        (CallState::Early, Some(183)),
        (CallState::Early, Some(180)),
    ];
    assert_eq!(bench.states(id), states);
    bench.respond(*tx, accept(invite, "there", OFFER));
    assert_eq!(bench.heard.len(), 2);
}

#[test]
fn what_else_is_played_begins_at_once_and_a_failure_has_its_tone() {
    let mut bench = Bench::new(TWO);
    let mut prompted = order(&["+49301"]);
    prompted.dial.play = Meanwhile::Prompt("please-hold".into());
    let (_, invites) = dial(&mut bench, &prompted);
    assert_eq!(bench.heard, [vec![Sound::Prompt("please-hold".into())]]);
    let (tx, invite) = &invites[0];
    bench.respond(*tx, invite.response(486, "", "there"));
    assert_eq!(bench.heard[1..], [vec![Sound::Busy]]);
    prompted.dial.play = Meanwhile::Nothing;
    let (_, invites) = dial(&mut bench, &prompted);
    bench.respond(invites[0].0, invites[0].1.response(180, "", "there"));
    bench.respond(invites[0].0, invites[0].1.response(503, "", "there"));
    assert_eq!(bench.heard.len(), 2);
}

#[test]
fn an_answer_given_before_the_call_is_answered_holds() {
    let mut bench = Bench::new(TWO);
    let (id, invites) = dial(&mut bench, &order(&["+49301"]));
    let (tx, invite) = &invites[0];
    let mut progress = accept(invite, "there", OFFER);
    progress.status = 183;
    progress.headers.push("Require", "100rel");
    progress.headers.push("RSeq", "1");
    bench.respond(*tx, progress);
    // The other side moves to another port before it answers (RFC 3311 §5.2).
    let mut update = invite.clone();
    update.method = Method::Update;
    update.headers.set("From", format!("{};tag=there", invite.headers.get("To").expect("To")));
    update.headers.set("To", invite.headers.get("From").expect("From").to_owned());
    update.headers.set("CSeq", "1 UPDATE");
    update.set_body("application/sdp", OFFER.replace("audio 4000", "audio 4444").replace("1 1 IN", "1 2 IN"));
    let updated = bench.request(OFFICE, update);
    assert_eq!(bench.status(updated), 200);
    assert!(text(&bench.answer(updated).body).contains("m=audio"));
    // The 2xx need not repeat what was agreed on.
    let mut answer = accept(invite, "there", OFFER);
    answer.body.clear();
    answer.headers.remove("Content-Type");
    bench.respond(*tx, answer);
    assert_eq!(bench.states(id).last(), Some(&(CallState::Answered, Some(200))));
    assert_eq!(bench.count(&Method::Bye), 0);
}

fn moved(invite: &Request, contacts: &str) -> Response {
    let mut moved = invite.response(302, "", "t");
    moved.headers.push("Contact", contacts);
    moved
}

#[test]
fn a_redirection_is_followed_where_the_rules_allow_it() {
    let mut bench = Bench::new(TWO);
    let (id, invites) = dial(&mut bench, &order(&["+1555"]));
    let (tx, invite) = &invites[0];
    // Best first; a host that nobody knows gets nothing: its number goes where the rules say.
    let contacts =
        "<sip:+1777@evil.example>;q=0.1, <sip:+33@trunk.example>;q=0.9, <sip:+4930@elsewhere.example>;q=0.5";
    bench.respond(*tx, moved(invite, contacts));
    assert_eq!(bench.acks.len(), 0);
    let (tx, invite) = bench.last(Method::Invite);
    assert_eq!(invite.uri, "sip:+4930@192.0.2.10", "+33 is allowed nowhere");
    assert_eq!((calls(&bench, "office"), calls(&bench, "other")), (1, 2));
    bench.respond(tx, invite.response(486, "", "t"));
    let (tx, invite) = bench.last(Method::Invite);
    assert_eq!(invite.uri, "sip:+1777@trunk.example");
    bench.respond(tx, accept(&invite, "there", OFFER));
    assert_eq!(bench.states(id).last(), Some(&(CallState::Answered, Some(200))));
    assert_eq!((calls(&bench, "office"), calls(&bench, "other")), (0, 1));
}

#[test]
fn redirections_go_nowhere_else_and_not_on_for_ever() {
    let mut bench = Bench::new(TWO);
    let (id, invites) = dial(&mut bench, &order(&["+1555"]));
    bench.respond(invites[0].0, moved(&invites[0].1, "<sip:+33@trunk.example>"));
    let last = bench.events(id).into_iter().rev().find(|event| event.state == CallState::Failed);
    assert!(last.is_some_and(|event| event.text.contains("redirected")), "{:?}", bench.events(id));
    assert!(bench.board.is_empty());
    let (_, invites) = dial(&mut bench, &order(&["+1555"]));
    let mut last = invites[0].clone();
    for _ in 0..10 {
        bench.respond(last.0, moved(&last.1, "<sip:+1555@trunk.example>"));
        last = bench.last(Method::Invite);
    }
    assert!(bench.count(&Method::Invite) <= 5 && bench.board.is_empty());
    assert_eq!((calls(&bench, "office"), calls(&bench, "other")), (0, 0));
}

#[test]
fn a_bye_that_wants_our_password_gets_it() {
    let mut bench = Bench::new(TWO);
    let (id, invites) = dial(&mut bench, &order(&["+49301"]));
    bench.respond(invites[0].0, accept(&invites[0].1, "there", OFFER));
    bench.board.hang_up(bench.now, id, "over").expect("a call");
    bench.drain();
    let (tx, bye) = bench.last(Method::Bye);
    let mut challenge = bye.response(407, "", "");
    challenge.headers.push("Proxy-Authenticate", "Digest realm=\"p\", nonce=\"n\", qop=\"auth\"");
    bench.respond(tx, challenge.clone());
    let (tx, again) = bench.last(Method::Bye);
    assert!(again.headers.get("Proxy-Authorization").is_some());
    assert_eq!(again.headers.cseq().map(|(seq, _)| seq), bye.headers.cseq().map(|(seq, _)| seq + 1));
    bench.respond(tx, challenge);
    assert_eq!(bench.count(&Method::Bye), 2, "but not twice");
    assert!(bench.board.is_empty());
}
