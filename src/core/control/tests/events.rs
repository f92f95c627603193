//! What watchers of rooms are told, and in which order.

use std::task::{Context, Poll, Waker};

use super::fake::{Net, h264, opus};
use crate::core::control::{End, RoomEvent, RoomEvents, WebRtcOptions};
use crate::core::peer::CloseReason;
use crate::core::room::RoomName;

pub fn room() -> RoomName {
    RoomName::new("room", &[]).expect("a name")
}

fn next(events: &mut RoomEvents) -> Option<RoomEvent> {
    match events.poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(event) => event,
        Poll::Pending => None,
    }
}

/// What waits, in short.
pub fn drain(events: &mut RoomEvents) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(event) = next(events) {
        lines.push(match event {
            RoomEvent::RoomOpened => "opened".into(),
            RoomEvent::RoomClosed { reason } => format!("closed {}", reason.code),
            RoomEvent::PeerJoined(peer) => format!("+{}", peer.name),
            RoomEvent::PeerChanged(peer) => format!("~{} {:?}", peer.name, peer.display_name),
            RoomEvent::PeerLeft { reason, .. } => format!("- {}", reason.code),
            RoomEvent::TrackAdded(track) => format!("+{}", track.codec.mime_type),
            RoomEvent::TrackChanged(track) => format!("~{} {}", track.codec.mime_type, track.paused),
            RoomEvent::TrackRemoved { .. } => "-track".into(),
            other => format!("{other:?}"),
        });
    }
    lines
}

#[test]
fn a_watcher_is_told_what_is_there_and_then_what_happens_in_order() {
    let mut net = Net::new(1, |_| {});
    let mut early = net.rooms.watch(&room());
    assert_eq!(drain(&mut early), Vec::<String>::new());
    let (alice, producers) = net.publish("alice", &[opus(), h264()]);
    assert_eq!(drain(&mut early), ["opened", "+alice", "+audio/opus", "+video/H264"]);
    let mut late = net.rooms.watch(&room());
    assert_eq!(drain(&mut late), ["opened", "+alice", "+audio/opus", "+video/H264"]);
    net.run(alice.pause_producer(producers[0])).expect("paused");
    net.run(alice.pause_producer(producers[0])).expect("paused again");
    net.run(alice.resume_producer(producers[0])).expect("resumed");
    net.run(alice.close_producer(producers[1])).expect("closed");
    let told = ["~audio/opus true", "~audio/opus false", "-track"];
    assert_eq!(
        (drain(&mut early), drain(&mut late)),
        (told.map(str::to_owned).into(), told.map(str::to_owned).into())
    );
    net.run(alice.close(CloseReason::new("kicked", "out")));
    assert_eq!(drain(&mut early), ["-track", "- kicked", "closed kicked"]);
    net.assert_clean();
}

#[test]
fn spies_are_shown_only_to_those_with_rights_over_the_room() {
    let mut net = Net::new(1, |_| {});
    let (alice, _) = net.publish("alice", &[opus()]);
    let (mut member, mut overseer, mut all) =
        (net.rooms.watch(&room()), net.rooms.oversee(&room()), net.rooms.watch_all());
    drain(&mut member);
    drain(&mut overseer);
    let spy = net.try_join(true, |join| {
        (join.name, join.spy) = (Some("spy".into()), true);
    });
    let spy = spy.expect("let in");
    let transport = net.run(spy.create_webrtc_transport(WebRtcOptions::default())).expect("a transport").id;
    let refused = net.run(spy.produce(
        transport,
        crate::core::control::Produce::new(
            crate::core::capabilities::Kind::Audio,
            super::fake::one(&opus(), 9),
        ),
    ));
    assert!(refused.is_err());
    assert_eq!(drain(&mut overseer), ["+spy"]);
    assert_eq!(drain(&mut net.rooms.watch(&room())), ["opened", "+alice", "+audio/opus"]);
    net.leave(&spy);
    assert_eq!(drain(&mut overseer), ["- left"]);
    assert_eq!(drain(&mut member), Vec::<String>::new());
    net.leave(&alice);
    let mut told = 0;
    while let Poll::Ready(Some((name, _))) = all.poll_next(&mut Context::from_waker(Waker::noop())) {
        assert_eq!(name, room());
        told += 1;
    }
    // Opened, alice, her track; the spy, its end; her track's end, hers, the room's.
    assert_eq!(told, 8);
    net.assert_clean();
}

#[test]
fn a_watcher_that_does_not_read_is_cut_off_and_told_so() {
    let mut net = Net::new(1, |config| config.max_waiting_events = 3);
    let (mut slow, mut quick) = (net.rooms.watch(&room()), net.rooms.watch(&room()));
    let (alice, _) = net.publish("alice", &[opus()]);
    assert_eq!(drain(&mut quick), ["opened", "+alice", "+audio/opus"]);
    net.leave(&alice);
    assert_eq!(drain(&mut quick), ["-track", "- left", "closed left"]);
    assert_eq!((next(&mut slow), slow.end()), (None, Some(End::Lagged)));
    assert_eq!(quick.end(), None);
    net.assert_clean();
}
