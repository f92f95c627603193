//! Calls that come in.

use super::*;
use crate::core::peer::CloseReason;
use crate::sip::session::media::Remote;

fn with(config: &str) -> Bench {
    Bench::new(&format!("{OFFICE_ONLY}{config}"))
}

#[test]
fn a_trunks_call_enters_the_room_its_number_names() {
    let mut bench = with("");
    let party = bench.call(OFFICE, "room-talk");
    assert_eq!(bench.entered[0].room, "talk");
    assert_eq!(bench.entered[0].principal.id(), "trunk:office");
    assert!(!bench.entered[0].name.contains("4930"), "the caller's number stays hidden");
    let stream = &bench.connected[0];
    assert_eq!(stream.produce.codecs[0].mime_type, "audio/PCMA");
    let Remote::Plain(remote) = &stream.remote else { panic!("a plain stream") };
    assert_eq!(remote.rtp, "192.0.2.10:4000".parse().expect("address"));
    assert_eq!(remote.dtmf_payload_types, [(101, 8000)]);
    let tx = bench.later(&party, Method::Bye, None);
    assert_eq!(bench.status(tx), 200);
    assert_eq!(bench.left, ["the other side hung up"]);
    assert!(bench.board.is_empty());
}

#[test]
fn strangers_and_unknown_numbers_are_refused_in_words() {
    let mut bench = with("");
    let mut invite = Party::new(OFFICE, "nothing").invite();
    invite.set_body("application/sdp", OFFER);
    let tx = bench.request(OFFICE, invite.clone());
    assert_eq!((bench.status(tx), bench.answer(tx).reason.as_str()), (404, "No room has this number"));
    let tx = bench.request(ELSEWHERE, invite);
    assert_eq!(bench.status(tx), 401);
    assert!(bench.entered.is_empty());
}

#[test]
fn codecs_nobody_has_are_named_in_a_warning() {
    let mut bench = with("");
    let mut invite = Party::new(OFFICE, "room-x").invite();
    let sdp = OFFER.replace("RTP/AVP 8 0 101", "RTP/AVP 18 3 101");
    invite.set_body("application/sdp", sdp);
    let tx = bench.request(OFFICE, invite);
    assert_eq!(bench.status(tx), 488);
    let warning = bench.answer(tx).headers.get("Warning").expect("a warning").to_owned();
    assert!(warning.contains("offered codecs: G729, GSM") && warning.contains("OPUS"), "{warning}");
}

#[test]
fn hold_is_answered_in_its_direction_and_taken_back_after_twenty_minutes() {
    let mut bench = with("calls: { session_expires_s: 600 }");
    let party = bench.call(OFFICE, "room-x");
    let version = |response: &Response| {
        let body = text(&response.body);
        let origin = body.lines().find(|line| line.starts_with("o=")).expect("o=");
        origin.split(' ').nth(2).and_then(|text| text.parse::<u64>().ok()).expect("a version")
    };
    let hold = OFFER.replace("sendrecv", "sendonly").replace("- 1 1", "- 1 2");
    let tx = bench.later(&party, Method::Invite, Some(&hold));
    assert!(text(&bench.answer(tx).body).contains("a=recvonly"));
    let held = version(bench.answer(tx));
    assert!(!bench.connected[0].take, "music on hold stays out of the room");
    let party = bench.acknowledge(party, tx, None);
    bench.board.handle_media(bench.now, bench.ids[0], MediaEvent::Timeout);
    bench.drain();
    assert!(!bench.board.is_empty(), "silence during a hold is no fault");
    for _ in 0..4 {
        // We refresh; the other side answers each time.
        bench.pass_s(300);
        let (tx, update) = bench.last(Method::Update);
        let mut response = update.response(200, "", "");
        response.headers.push("Session-Expires", "600;refresher=uac");
        bench.respond(tx, response);
    }
    let resume = OFFER.replace("- 1 1", "- 1 3");
    let tx = bench.later(&party, Method::Invite, Some(&resume));
    assert!(text(&bench.answer(tx).body).contains("a=sendrecv"));
    assert!(version(bench.answer(tx)) > held);
    assert!(bench.connected[0].take && bench.connected[0].give);
    assert_eq!(bench.opened.len(), 1, "the port stays the same all along");
}

#[test]
fn a_session_that_nobody_refreshes_ends() {
    let mut bench = with("");
    let party = Party::new(OFFICE, "room-x");
    let mut invite = party.invite();
    invite.headers.push("Session-Expires", "90;refresher=uac");
    invite.set_body("application/sdp", OFFER);
    let tx = bench.request(OFFICE, invite);
    assert_eq!(bench.answer(tx).headers.get("Session-Expires"), Some("90;refresher=uac"));
    assert!(bench.answer(tx).headers.lists("Require", "timer"));
    let party = bench.acknowledge(party, tx, None);
    bench.pass_s(50);
    let mut update = party.within(Method::Update);
    update.headers.set("CSeq", "2 UPDATE");
    update.headers.push("Session-Expires", "90;refresher=uac");
    let tx = bench.request(OFFICE, update);
    assert_eq!(bench.status(tx), 200);
    bench.pass_s(55);
    assert_eq!(bench.count(&Method::Bye), 0, "it was refreshed");
    bench.pass_s(10);
    let (_, bye) = bench.last(Method::Bye);
    assert!(bye.headers.get("Reason").is_some_and(|reason| reason.contains("408")));
    assert_eq!(bench.left, ["nobody refreshed the session"]);
}

#[test]
fn an_interval_too_small_is_answered_with_ours() {
    let mut bench = with("");
    let mut invite = Party::new(OFFICE, "room-x").invite();
    invite.headers.push("Session-Expires", "60");
    invite.set_body("application/sdp", OFFER);
    let tx = bench.request(OFFICE, invite);
    assert_eq!((bench.status(tx), bench.answer(tx).headers.get("Min-SE")), (422, Some("90")));
}

#[test]
fn an_offer_may_come_with_the_ack() {
    let mut bench = with("");
    let party = Party::new(OFFICE, "room-x");
    let tx = bench.request(OFFICE, party.invite());
    let offered = text(&bench.answer(tx).body);
    assert!(offered.contains("opus/48000/2") && offered.contains("PCMU/8000"), "{offered}");
    assert!(bench.connected.is_empty());
    bench.acknowledge(party, tx, Some(OFFER));
    assert_eq!(bench.connected[0].produce.codecs[0].mime_type, "audio/PCMA");
}

#[test]
fn cancelled_and_unacknowledged_calls_leave_nothing_behind() {
    let mut bench = with("");
    bench.media_works = false;
    let mut invite = Party::new(OFFICE, "room-x").invite();
    invite.set_body("application/sdp", OFFER);
    let tx = bench.request(OFFICE, invite.clone());
    bench.incoming(Incoming::Cancel { tx });
    assert_eq!(bench.status(tx), 487);
    assert!(bench.board.is_empty());
    bench.media_works = true;
    invite.headers.set("Call-ID", "another");
    let tx = bench.request(OFFICE, invite);
    bench.incoming(Incoming::NoAck { tx });
    let (bye, request) = bench.last(Method::Bye);
    bench.respond(bye, request.response(200, "", ""));
    assert!(bench.board.is_empty());
    assert_eq!(bench.left.len(), 2);
}

#[test]
fn reliable_ringing_is_repeated_until_its_prack() {
    let mut bench = with("");
    bench.media_works = false;
    let party = Party::new(OFFICE, "room-x");
    let mut invite = party.invite();
    invite.headers.push("Require", "100rel");
    invite.set_body("application/sdp", OFFER);
    let tx = bench.request(OFFICE, invite);
    let ringing = |bench: &Bench| bench.answers.iter().filter(|(of, r)| *of == tx && r.status == 180).count();
    bench.pass(Duration::from_millis(1600));
    assert_eq!(ringing(&bench), 3, "at 0, 0.5 and 1.5 s");
    let tag = bench.answer(tx).headers.tag("To").expect("a tag");
    let mut prack = Party { remote_tag: tag, ..party }.within(Method::Prack);
    prack.headers.set("CSeq", "2 PRACK");
    prack.headers.push("RAck", "1 1 INVITE");
    let acknowledged = bench.request(OFFICE, prack);
    assert_eq!(bench.status(acknowledged), 200);
    bench.pass_s(40);
    assert_eq!(ringing(&bench), 3);
}

#[test]
fn a_call_without_an_offer_gets_ours_in_its_reliable_ringing() {
    let mut bench = with("");
    let party = Party::new(OFFICE, "room-x");
    let mut invite = party.invite();
    invite.headers.push("Require", "100rel");
    let tx = bench.request(OFFICE, invite);
    let ringing = bench.answer(tx).clone();
    assert_eq!(ringing.status, 183);
    assert!(text(&ringing.body).contains("m=audio") && bench.connected.is_empty());
    let tag = ringing.headers.tag("To").expect("a tag");
    let party = Party { remote_tag: tag, ..party };
    let mut prack = party.within(Method::Prack);
    prack.headers.set("CSeq", "2 PRACK");
    prack.headers.push("RAck", "1 1 INVITE");
    prack.set_body("application/sdp", OFFER);
    let acknowledged = bench.request(OFFICE, prack);
    assert_eq!(bench.status(acknowledged), 200);
    assert_eq!(bench.connected.len(), 1, "the answer came in PRACK");
    let answer = bench.answer(tx).clone();
    assert!(answer.status == 200 && answer.body.is_empty(), "nothing is said twice");
    bench.acknowledge(party, tx, None);
    assert_eq!((bench.board.len(), bench.count(&Method::Bye)), (1, 0));
}

#[test]
fn a_bye_out_of_the_blue_ends_nobodys_call() {
    let mut bench = with("");
    let party = bench.call(OFFICE, "room-x");
    let guess = Party { remote_tag: "guessed".into(), ..Party::new(ELSEWHERE, "room-x") };
    let spoofed = Party { call_id: party.call_id.clone(), ..guess };
    let tx = bench.request(ELSEWHERE, spoofed.within(Method::Bye));
    assert_eq!(bench.status(tx), 481);
    assert!(bench.board.len() == 1 && bench.blamed == 1, "and whoever sent it is remembered");
    let mut bye = party.within(Method::Bye);
    bye.headers.set("CSeq", "2 BYE");
    bye.headers.push("Reason", "Q.850;cause=16;text=\"Normal call clearing\"");
    let tx = bench.request(OFFICE, bye);
    assert_eq!(bench.status(tx), 200);
    assert!(bench.left[0].contains("Normal call clearing"), "{:?}", bench.left);
}

#[test]
fn two_changes_at_once_make_way_for_each_other() {
    let mut bench = with("");
    let party = bench.call(OFFICE, "room-x");
    let id = bench.ids[0];
    bench.board.hold(bench.now, id, true).expect("a call");
    bench.drain();
    let (ours, invite) = bench.last(Method::Invite);
    assert!(text(&invite.body).contains("a=sendonly"));
    let theirs = bench.later(&party, Method::Invite, Some(OFFER));
    assert_eq!(bench.status(theirs), 491);
    bench.respond(ours, invite.response(491, "", ""));
    bench.pass_s(5);
    let (again, invite) = bench.last(Method::Invite);
    assert!(again != ours && text(&invite.body).contains("a=sendonly"));
    bench.respond(again, accept(&invite, "", &OFFER.replace("sendrecv", "recvonly")));
    assert_eq!(bench.acks.len(), 1);
    assert!(!bench.connected[0].take && bench.connected[0].give);
}

#[test]
fn keys_come_by_info_and_keyframes_are_asked_for() {
    let mut bench = with("");
    let party = bench.call(OFFICE, "room-x");
    let mut info = party.within(Method::Info);
    info.headers.set("CSeq", "2 INFO");
    info.set_body("application/dtmf-relay", "Signal=5\r\nDuration=200\r\n");
    let tx = bench.request(OFFICE, info.clone());
    assert_eq!(bench.status(tx), 200);
    assert_eq!(bench.keys(), "5");
    info.headers.set("CSeq", "3 INFO");
    info.set_body("application/media_control+xml", "<to_encoder><picture_fast_update/></to_encoder>");
    bench.request(OFFICE, info.clone());
    assert_eq!(bench.keyframes, 1);
    info.set_body("application/strange", "x");
    let tx = bench.request(OFFICE, info);
    assert_eq!(bench.status(tx), 500, "the same CSeq again");
}

#[test]
fn a_bye_with_a_guessed_tag_ends_nothing() {
    let mut bench = with("");
    let party = bench.call(OFFICE, "room-x");
    let mut bye = Party { remote_tag: "guess".into(), ..party.clone() }.within(Method::Bye);
    bye.headers.set("CSeq", "9 BYE");
    let tx = bench.request(ELSEWHERE, bye);
    assert_eq!(bench.status(tx), 481);
    assert_eq!((bench.board.len(), bench.blamed), (1, 1));
}

#[test]
fn options_tell_the_real_state() {
    let mut bench = with("limits: { max_calls: 1 }");
    let mut options = Party::new(OFFICE, "x").within(Method::Options);
    options.headers.set("To", "<sip:203.0.113.1>");
    let tx = bench.request(OFFICE, options.clone());
    assert_eq!(bench.status(tx), 200);
    bench.call(OFFICE, "room-x");
    let tx = bench.request(OFFICE, options);
    assert_eq!(bench.status(tx), 503);
    assert!(bench.answer(tx).headers.get("Retry-After").is_some());
}

#[test]
fn a_call_that_the_room_lets_go_hears_why() {
    for (reason, said) in [
        (
            CloseReason::worker_lost(),
            "Q.850;cause=41;text=\"the worker that carried the connection failed; connect again\"",
        ),
        (CloseReason::new("kicked", "no \"guests\"\r\n"), "Q.850;cause=16;text=\"no \\\"guests\\\"\""),
    ] {
        let mut bench = with("");
        bench.call(OFFICE, "room-x");
        let id = bench.ids[0];
        bench.board.handle_media(bench.now, id, MediaEvent::Ended(reason));
        bench.drain();
        let (_, bye) = bench.last(Method::Bye);
        assert_eq!(bye.headers.get("Reason"), Some(said));
    }
}

#[test]
fn a_dead_leg_is_hung_up_with_a_reason() {
    let mut bench = with("");
    bench.call(OFFICE, "room-x");
    let id = bench.ids[0];
    bench.board.handle_media(bench.now, id, MediaEvent::Timeout);
    bench.drain();
    let (tx, bye) = bench.last(Method::Bye);
    assert!(bye.headers.get("Reason").is_some_and(|reason| reason.contains("Media Timeout")));
    bench.fail(tx, TxFailure::Timeout);
    assert!(bench.board.is_empty());
}

#[test]
fn requests_follow_the_route_that_proxies_recorded() {
    let mut bench = with("");
    let party = Party::new(OFFICE, "room-x");
    let mut invite = party.invite();
    invite.headers.push("Record-Route", "<sip:p2.example.com;lr>, <sip:p1.example.com;lr>");
    invite.set_body("application/sdp", OFFER);
    let tx = bench.request(OFFICE, invite);
    assert_eq!(bench.answer(tx).headers.all("Record-Route").count(), 2);
    bench.acknowledge(party, tx, None);
    bench.board.hang_up(bench.now, bench.ids[0], "over").expect("a call");
    bench.drain();
    let (_, bye, to) = bench.sent.last().expect("a BYE");
    let routes: Vec<_> = bye.headers.all("Route").collect();
    assert_eq!(routes, ["<sip:p2.example.com;lr>", "<sip:p1.example.com;lr>"]);
    assert_eq!(to.uri.host, "p2.example.com");
    assert!(bye.uri.starts_with("sip:caller@192.0.2.10"));
}

const PINS: &str = "trunks: [{ name: office, peers: [192.0.2.10] }]\n\
                    dispatch: [{ name: conference, pins: { '1234': board, '99': team } }]\n";

fn press(bench: &mut Bench, id: SessionId, keys: &str) {
    for digit in keys.chars() {
        bench.board.handle_media(bench.now, id, MediaEvent::Dtmf { digit, duration_ms: 100 });
        bench.drain();
    }
}

#[test]
fn the_right_pin_opens_its_room() {
    let mut bench = Bench::new(PINS);
    bench.call(OFFICE, "4930");
    let id = bench.ids[0];
    assert!(bench.entered[0].room.starts_with("lobby-"));
    assert_eq!(bench.played, ["enter-pin"]);
    press(&mut bench, id, "12#");
    assert_eq!(bench.played, ["enter-pin", "wrong-pin"]);
    press(&mut bench, id, "99#");
    assert_eq!(bench.board.summaries(bench.now)[0].room, "team");
    assert_eq!(
        (bench.count(&Method::Invite), bench.opened.len()),
        (0, 1),
        "its media stays as it was agreed on"
    );
    assert!(bench.connected[0].take);
    assert_eq!(bench.keys(), "", "nobody else learns the PIN");
    assert!(bench.told.iter().all(|(room, _)| room == "team"), "nobody hears of the lobby");
    assert_eq!(bench.states(id), [(CallState::Answered, Some(200))]);
    press(&mut bench, id, "7");
    assert_eq!(bench.keys(), "7");
}

#[test]
fn a_call_that_is_moved_tells_both_rooms_and_needs_no_pin_any_more() {
    let mut bench = Bench::new(OFFICE_ONLY);
    let party = bench.call(OFFICE, "room-x");
    let id = bench.ids[0];
    let moved = |room: &str| MediaEvent::Moved { room: room.to_owned() };
    bench.board.handle_media(bench.now, id, moved("y"));
    bench.drain();
    let told = |bench: &Bench, from: usize| -> Vec<_> {
        let told = bench.told[from..].iter().filter_map(|(room, event)| match event {
            RoomEvent::Call(event) => Some((room.clone(), event.state)),
            _ => None,
        });
        told.collect()
    };
    let in_room = |room: &str, state| (room.to_owned(), state);
    assert_eq!(told(&bench, 2), [in_room("x", CallState::Moved), in_room("y", CallState::Answered)]);
    let count = bench.told.len();
    bench.later(&party, Method::Bye, None);
    assert_eq!(told(&bench, count), [in_room("y", CallState::Ended)]);

    // Somebody in charge lets a caller in who has entered no PIN.
    let mut bench = Bench::new(PINS);
    bench.call(OFFICE, "4930");
    let id = bench.ids[0];
    press(&mut bench, id, "12");
    bench.board.handle_media(bench.now, id, moved("board"));
    bench.drain();
    assert_eq!(told(&bench, 0), [in_room("board", CallState::Answered)]);
    press(&mut bench, id, "5");
    bench.pass_s(60);
    assert_eq!((bench.keys().as_str(), bench.count(&Method::Bye)), ("5", 0));

    // Or the room does not take it.
    let mut bench = Bench::new(PINS);
    bench.call(OFFICE, "4930");
    let id = bench.ids[0];
    bench.board.handle_media(bench.now, id, MediaEvent::NotMoved { text: "the room is full".into() });
    bench.drain();
    assert_eq!(bench.count(&Method::Bye), 1);
}

#[test]
fn guessing_a_pin_and_waiting_both_end_the_call() {
    let mut bench = Bench::new(PINS);
    bench.call(OFFICE, "4930");
    let id = bench.ids[0];
    press(&mut bench, id, "1111#2222#3333#");
    bench.pass_s(5);
    assert_eq!(bench.count(&Method::Bye), 1);
    assert_eq!(bench.blamed, 0, "a trunk is not banned for its callers");
    let mut bench = Bench::new(PINS);
    bench.call(OFFICE, "4930");
    bench.pass_s(31);
    assert_eq!(bench.count(&Method::Bye), 1);
}
