//! What both dialects have in common: framing, open requests, limits, the end.

use serde_json::json;

use super::lab::{Lab, peer};
use crate::core::control::RoomEvent;
use crate::core::peer::{CloseReason, PeerKind};
use crate::rooms::Config;
use crate::rooms::error::Refusal;
use crate::rooms::session::CloseCode;

#[test]
fn what_is_no_message_is_dropped_and_nothing_else_changes() {
    let mut lab = Lab::new();
    for text in ["", "{", "[]", "{}", r#"{"response":true,"id":9,"ok":true}"#, r#"{"request":true}"#] {
        lab.text(text);
    }
    lab.quiet();
    assert_eq!(lab.closed, None);
    lab.ok("queryRoom", json!({}));
}

#[test]
fn one_id_cannot_stand_for_two_requests_under_way() {
    let mut lab = Lab::joined(vec![]);
    let first = lab.request("createTransport", json!({"id": 1, "direction": "recv"}));
    let again =
        json!({"request": true, "id": first, "method": "mediasoup-request", "data": {"method": "queryRoom"}});
    lab.text(&again.to_string());
    assert_eq!(lab.response(first).expect_err("refused").code, 400);
    let (ask, _) = lab.ask();
    lab.answer(ask, Err(Refusal::new(503, "the worker failed")));
    assert_eq!(lab.response(first), Err(Refusal::new(503, "the worker failed")));
    lab.text(&again.to_string());
    assert!(lab.response(first).is_ok(), "the id is free again");
}

#[test]
fn a_client_has_so_many_requests_under_way_and_no_more() {
    let config = Config { max_requests: 2, ..Config::default() };
    let mut lab = Lab::with(config, true);
    lab.join("bob", vec![]);
    for id in 1..=2 {
        lab.request("createTransport", json!({"id": id, "direction": "recv"}));
    }
    assert_eq!(lab.refused("createTransport", json!({"id": 3, "direction": "recv"})), 429);
    assert_eq!(lab.asked.len(), 2);
}

#[test]
fn a_client_that_talks_too_much_is_read_later() {
    let config = Config { messages_per_second: 10, message_burst: 3, ..Config::default() };
    let mut lab = Lab::with(config, true);
    for _ in 0..3 {
        assert_eq!(lab.session.may_read(lab.now), Ok(()));
        lab.ok("queryRoom", json!({}));
    }
    let Err(Some(at)) = lab.session.may_read(lab.now) else { panic!("may go on") };
    let wait = at.duration_since(lab.now).as_millis();
    assert_eq!(wait, 100, "a tenth of a second for each");
    lab.pass(100);
    assert_eq!(lab.session.may_read(lab.now), Ok(()));
    lab.pass(10_000);
    for _ in 0..3 {
        lab.ok("queryRoom", json!({}));
    }
    assert!(lab.session.may_read(lab.now).is_err(), "no more than the burst is saved up");
}

#[test]
fn who_joins_no_room_is_sent_away() {
    let mut lab = Lab::new();
    lab.pass(59_999);
    assert_eq!(lab.closed, None);
    lab.pass(1);
    assert_eq!(lab.closed.take().map(|(code, _)| code), Some(CloseCode::Policy));
    let mut lab = Lab::joined(vec![]);
    lab.pass(600_000);
    assert_eq!(lab.closed, None);
    lab.notify("leave", json!({}));
    lab.done();
    lab.pass(60_000);
    assert_eq!(lab.closed.map(|(code, _)| code), Some(CloseCode::Policy), "nor after leaving");
}

#[test]
fn the_end_tells_clients_whether_to_come_back() {
    let code = |reason| {
        let mut lab = Lab::joined(vec![]);
        lab.left(reason);
        assert_eq!(lab.told(), ("closed".into(), json!({})));
        lab.quiet();
        lab.closed.expect("closed").0
    };
    assert_eq!(code(CloseReason::new("kicked", "by a controller")), CloseCode::Removed);
    assert_eq!(code(CloseReason::taken_over()), CloseCode::Removed);
    assert_eq!(code(CloseReason::worker_lost()), CloseCode::Restart);
    assert_eq!(code(CloseReason::shutdown()), CloseCode::GoingAway);
    let numbers = [CloseCode::Removed, CloseCode::Restart, CloseCode::GoingAway].map(CloseCode::number);
    assert_eq!(numbers, [4000, 1012, 1001]);
}

#[test]
fn nothing_is_sent_behind_the_end() {
    let mut lab = Lab::joined(vec![]);
    lab.left(CloseReason::shutdown());
    lab.told();
    lab.event(RoomEvent::PeerJoined(peer(2, "alice", PeerKind::RoomV2)));
    lab.request("queryRoom", json!({}));
    lab.quiet();
}
