//! Attended transfers: one call takes the place of another (RFC 3891).

use super::*;
use crate::core::control::calls::{CallError, Dial};
use crate::sip::demux::Order;

const DESK: &str = "trunks: [{ name: office, host: '192.0.2.10' }, { name: other, peers: [198.51.100.7] }]\n\
                    dispatch: [{ number: 'room-*', room: '{1}' }, { number: pin, pins: { '1': board } }]\n\
                    outbound: [{ number: '*', trunk: office, principals: ['key:desk'], transfer: true }]\n";

/// An INVITE of a new party that is to take the place of `party`'s call.
fn replacing(bench: &Bench, party: &Party, tx: ServerTx, more: &str) -> Request {
    let ours = bench.answer(tx).headers.tag("To").expect("a tag");
    let mut invite = Party::new(&party.from, "anything").invite();
    invite.set_body("application/sdp", OFFER);
    invite.headers.push("Replaces", format!("{};to-tag={ours};from-tag=theirs{more}", party.call_id));
    invite
}

fn calls_in(bench: &mut Bench, number: &str) -> (Party, ServerTx) {
    let party = Party::new(OFFICE, number);
    let mut invite = party.invite();
    invite.set_body("application/sdp", OFFER);
    let tx = bench.request(OFFICE, invite);
    assert_eq!(bench.status(tx), 200);
    (bench.acknowledge(party, tx, None), tx)
}

#[test]
fn who_was_handed_a_call_takes_its_place_in_the_room() {
    let mut bench = Bench::new(DESK);
    let (party, tx) = calls_in(&mut bench, "room-sales");
    let invite = replacing(&bench, &party, tx, "");
    let new = bench.request(OFFICE, invite);
    assert_eq!(bench.status(new), 200);
    assert_eq!(bench.entered[1].room, "sales", "whatever number it dialled");
    let (bye_tx, bye) = bench.last(Method::Bye);
    assert_eq!(bye.headers.call_id(), party.call_id);
    bench.respond(bye_tx, bye.response(200, "", ""));
    assert_eq!(bench.left, ["another call took its place"]);
    assert_eq!(bench.board.len(), 1);
}

#[test]
fn nobody_takes_the_place_of_a_call_that_is_not_his() {
    let mut bench = Bench::new(DESK);
    let (party, tx) = calls_in(&mut bench, "room-sales");
    let early = replacing(&bench, &party, tx, ";early-only");
    let wrong = {
        let mut wrong = replacing(&bench, &party, tx, "");
        let line = wrong.headers.get("Replaces").expect("Replaces").replace("theirs", "guessed");
        wrong.headers.set("Replaces", line);
        wrong
    };
    let mut broken = replacing(&bench, &party, tx, "");
    broken.headers.set("Replaces", "abc;to-tag=1");
    let foreign = replacing(&bench, &party, tx, "");
    let (lobby, lobby_tx) = calls_in(&mut bench, "pin");
    let around_the_pin = replacing(&bench, &lobby, lobby_tx, "");
    for (from, invite, status) in [
        (OFFICE, early, 486),
        (OFFICE, wrong, 481),
        (OFFICE, broken, 400),
        (ELSEWHERE, foreign, 403),
        (OFFICE, around_the_pin, 481),
    ] {
        let tx = bench.request(from, invite);
        assert_eq!(bench.status(tx), status);
    }
    assert_eq!((bench.board.len(), bench.count(&Method::Bye)), (2, 0));
}

#[test]
fn two_parties_are_handed_to_each_other() {
    let mut bench = Bench::new(DESK);
    let (party, _) = calls_in(&mut bench, "room-desk");
    let first = bench.ids[0];
    let order = Order { dial: Dial::new("desk", "601"), principal: "key:desk".into() };
    let second = bench.board.dial(bench.now, &order).expect("a call");
    bench.drain();
    let (tx, invite) = bench.last(Method::Invite);
    let to = |bench: &Bench| bench.board.summaries(bench.now).len();
    assert!(
        matches!(
            bench.board.transfer(bench.now, first, &second.to_string(), "key:desk"),
            Err(CallError::NotNow(_))
        ),
        "it is not answered yet"
    );
    bench.respond(tx, accept(&invite, "there", OFFER));
    calls_in(&mut bench, "room-other");
    let foreign = bench.ids[2];
    assert!(
        matches!(
            bench.board.transfer(bench.now, first, &foreign.to_string(), "key:desk"),
            Err(CallError::Unknown)
        ),
        "it is of another room"
    );
    bench.board.transfer(bench.now, first, &second.to_string(), "key:desk").expect("a transfer");
    bench.drain();
    let (tx, refer) = bench.last(Method::Refer);
    let call_id = invite.headers.call_id().to_owned();
    let our_tag = invite.headers.tag("From").expect("a tag");
    assert_eq!(
        refer.headers.get("Refer-To").map(str::to_owned),
        Some(format!(
            "<sip:callee@192.0.2.10:5060?Replaces={call_id}%3Bto-tag%3Dthere%3Bfrom-tag%3D{our_tag}>"
        ))
    );
    assert_eq!(refer.headers.call_id(), party.call_id);
    bench.respond(tx, refer.response(202, "", ""));
    let mut notify = party.within(Method::Notify);
    notify.headers.set("CSeq", "2 NOTIFY");
    notify.headers.push("Event", "refer");
    notify.headers.push("Subscription-State", "terminated;reason=noresource");
    notify.set_body("message/sipfrag", "SIP/2.0 200 OK\r\n");
    bench.request(OFFICE, notify);
    let (_, bye) = bench.last(Method::Bye);
    assert_eq!(bye.headers.call_id(), party.call_id, "it got there and is let go");
    assert_eq!(to(&bench), 3, "the other call ends with its own BYE");
}
