//! Members that are moved to another room.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::events::{drain, room};
use super::fake::{Net, aac, h264, opus, vp8};
use super::track;
use crate::core::capabilities::Kind;
use crate::core::control::{ControlError, Join, JoinError, MoveError, PeerEvent, Produce};
use crate::core::convert::Sound;
use crate::core::id::ProducerId;
use crate::core::peer::PeerKind;
use crate::core::room::RoomName;

fn other() -> RoomName {
    RoomName::new("other", &[]).expect("a name")
}

fn there(join: &mut Join) {
    join.room = other();
}

#[test]
fn a_member_that_is_moved_is_heard_and_seen_in_the_other_room_and_back() {
    let mut net = Net::new(2, |_| {});
    let (alice, tracks, by_alice) = net.member("alice", &[opus(), vp8()]);
    let (bob, his, by_bob) = net.member("bob", &[opus()]);
    let taken = net.take(&bob, by_bob, tracks[0], &[opus()]).expect("a consumer").consumer;
    let from_bob = net.take(&alice, by_alice, his[0], &[opus()]).expect("a consumer").consumer;
    let eve = net.try_join(true, |join| (join.room, join.name) = (other(), Some("eve".into())));
    let eve = eve.expect("let in");
    let transport = net.run(eve.create_webrtc_transport(Default::default())).expect("a transport").id;
    let hers = net.produce(&eve, transport, &opus());
    let rooms = net.rooms.clone();
    let (mut here, mut elsewhere) = (rooms.watch(&room()), rooms.watch(&other()));
    let (mut follows, mut told, mut his_told) = (alice.watch(), alice.events(), bob.events());
    [&mut here, &mut elsewhere, &mut follows].into_iter().for_each(|watcher| drop(drain(watcher)));

    rooms.move_peer(&room(), alice.conn(), &other()).expect("moved");
    net.pump();
    assert_eq!(alice.room(), other());
    assert_eq!(drain(&mut here), ["-track", "-track", "- moved"]);
    assert_eq!(drain(&mut elsewhere), ["+alice", "+audio/opus", "+video/VP8"]);
    let seen = drain(&mut follows);
    assert_eq!(seen[..5], ["-track", "- moved", "-track", "-track", "- moved"], "everybody leaves");
    assert_eq!(seen[5..], ["+eve", "+audio/opus", "+alice", "+audio/opus", "+video/VP8"]);
    let next = |events: &mut crate::core::control::PeerEvents| match events
        .poll_next(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(event) => event,
        Poll::Pending => None,
    };
    assert!(
        matches!(next(&mut told), Some(PeerEvent::ConsumerClosed { consumer, .. }) if consumer == from_bob)
    );
    assert_eq!(next(&mut told), Some(PeerEvent::Moved { room: other() }));
    assert!(
        matches!(next(&mut his_told), Some(PeerEvent::ConsumerClosed { consumer, .. }) if consumer == taken)
    );

    // Her tracks are others there, and hers by their old numbers.
    let moved = net.tracks(&alice);
    assert!(moved.iter().all(|track| !tracks.contains(track)));
    let heard = net.take(&alice, by_alice, hers, &[opus()]).expect("a consumer").consumer;
    assert!(net.source(heard).is_some_and(|source| source != hers), "through a pipe");
    assert!(net.take(&alice, by_alice, his[0], &[opus()]).is_err(), "he is in the other room");
    net.run(alice.pause_producer(tracks[0])).expect("paused");
    assert_eq!(drain(&mut elsewhere), ["~audio/opus true"]);
    let (viewer, consumers) = {
        let peer = net.try_join(false, there).expect("let in");
        let by = net.run(peer.create_webrtc_transport(Default::default())).expect("a transport").id;
        let rtp = super::fake::one(&vp8(), 900);
        let consumer = net.run(peer.consume_program(by, Kind::Video, rtp));
        (peer, consumer.expect("a consumer"))
    };
    assert_eq!(net.source(consumers), Some(moved[1]));
    net.run(alice.close_producer(tracks[1])).expect("closed");
    assert_eq!(net.source(consumers), None);
    let left = net.workers.iter().any(|worker| worker.producers.contains_key(&moved[1].0));
    assert!(!left, "nothing of it is left at home");

    rooms.move_peer(&other(), alice.conn(), &room()).expect("moved back");
    net.pump();
    assert_eq!(net.tracks(&alice), [tracks[0]], "at home again");
    assert!(net.take(&bob, by_bob, tracks[0], &[opus()]).expect("a consumer").producer_paused);
    for peer in [&viewer, &eve, &alice, &bob] {
        net.leave(peer);
    }
    net.advance(5_100);
    net.assert_clean();
}

#[test]
fn a_track_that_is_just_being_made_and_what_is_played_move_along() {
    let mut net = Net::new(2, |_| {});
    let (alice, _, by_alice) = net.member("alice", &[]);
    let (bob, _, _) = net.member("bob", &[]);
    assert!(alice.play_to_room(vec![Sound::Ringback]));
    let rooms = net.rooms.clone();
    // The worker has not answered yet.
    let rtp = super::fake::one(&opus(), 4_711);
    let mut making = pin!(alice.produce(by_alice, Produce::new(Kind::Audio, rtp)));
    assert!(making.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    rooms.move_peer(&room(), alice.conn(), &other()).expect("moved");
    let mut there = rooms.watch(&other());
    assert_eq!(drain(&mut there), ["opened", "+alice"]);
    let made = net.run(making).expect("a producer");
    assert_eq!(drain(&mut there), ["+audio/opus", "+audio/opus"], "the tone and the voice");
    assert!(!net.tracks(&alice).contains(&made), "it is piped");
    assert!(alice.play_to_room(Vec::new()));
    net.pump();
    assert_eq!(drain(&mut there), ["-track"]);
    for peer in [&alice, &bob] {
        net.leave(peer);
    }
    net.advance(5_100);
    net.assert_clean();
}

#[test]
fn an_encoder_and_a_viewer_move_and_their_old_room_may_close() {
    let mut net = Net::new(2, |_| {});
    let (encoder, stream) = net.stream("live");
    net.event(0, stream, "x.track", track(0, &aac(), false));
    net.event(0, stream, "x.track", track(1, &h264(), false));
    let (viewer, consumers) = net.view(&[opus(), h264()]);
    let rooms = net.rooms.clone();
    rooms.move_peer(&room(), viewer.conn(), &other()).expect("moved");
    net.pump();
    assert_eq!((net.source(consumers[0]), net.source(consumers[1])), (None, None), "nothing is live there");
    rooms.move_peer(&room(), encoder.conn(), &other()).expect("moved");
    net.pump();
    assert!(rooms.summary(&room()).is_none(), "nobody is left there");
    let live = rooms.summary(&other()).expect("a room");
    assert!(live.live && live.viewers == 1 && live.publishers[0].tracks.len() == 2);
    assert!(net.source(consumers[0]).is_some() && net.source(consumers[1]).is_some());
    assert_eq!(net.stub.running(), 1, "its sound is converted there");
    // What the session says is still understood.
    net.event(0, stream, "x.trackchange", track(1, &h264(), true));
    assert_eq!(net.stub.running(), 2);
    net.event(0, stream, "x.trackchange", track(0, &opus(), false));
    assert_eq!(rooms.summary(&other()).expect("a room").publishers[0].tracks[1].codec, "audio/opus");
    net.leave(&encoder);
    assert_eq!(net.source(consumers[1]), None);
    net.leave(&viewer);
    net.assert_clean();
}

#[test]
fn a_lost_worker_takes_along_who_is_on_it_wherever_they_were_moved() {
    for lost in [0, 1] {
        let mut net = Net::new(2, |_| {});
        let (alice, _, _) = net.member("alice", &[opus()]);
        let (encoder, _) = net.publish("encoder", &[opus()]);
        let eve = net.try_join(true, there).expect("let in");
        let rooms = net.rooms.clone();
        for peer in [&alice, &encoder] {
            rooms.move_peer(&room(), peer.conn(), &other()).expect("moved");
        }
        net.pump();
        net.kill(lost);
        net.revive(lost);
        net.pump();
        // Her connection is another than her transports; his is not. With its home the room goes.
        let gone = [&alice, &encoder, &eve].map(|peer| net.closed(peer).is_some());
        assert_eq!(gone, if lost == 0 { [false, true, false] } else { [true, true, true] });
        for peer in [&alice, &eve] {
            net.leave(peer);
        }
        net.advance(5_100);
        net.assert_clean();
    }
}

#[test]
fn who_cannot_be_moved_is_told_why() {
    let mut net = Net::new(1, |config| config.max_publishers_per_room = 2);
    let (alice, _, _) = net.member("alice", &[opus()]);
    let rooms = net.rooms.clone();
    let other_alice = net.try_join(true, |join| (join.room, join.name) = (other(), Some("alice".into())));
    let other_alice = other_alice.expect("let in");
    let refused = rooms.move_peer(&room(), alice.conn(), &other());
    assert_eq!(refused, Err(MoveError::Room(JoinError::NameTaken)));
    assert_eq!(rooms.move_peer(&other(), alice.conn(), &room()), Err(ControlError::Closed.into()));
    assert_eq!(rooms.move_peer(&room(), alice.conn(), &room()), Ok(()));
    let controlled = net.try_join(true, |join| {
        (join.name, join.kind) = (Some("driven".into()), PeerKind::Controller);
    });
    let controlled = controlled.expect("let in");
    assert!(matches!(
        rooms.move_peer(&room(), controlled.conn(), &other()),
        Err(MoveError::Peer(ControlError::NotAllowed(_)))
    ));
    let bob =
        net.try_join(true, |join| (join.room, join.name) = (other(), Some("bob".into()))).expect("let in");
    let refused = rooms.move_peer(&other(), bob.conn(), &room());
    assert_eq!(refused, Err(MoveError::Room(JoinError::RoomFull)));
    let transport = net.run(bob.create_webrtc_transport(Default::default())).expect("a transport").id;
    assert!(net.produce(&bob, transport, &opus()) != ProducerId(0));
    for peer in [&alice, &other_alice, &controlled, &bob] {
        net.leave(peer);
    }
    net.assert_clean();
}

#[test]
fn who_comes_later_is_not_put_on_a_router_that_somebody_was_moved_with() {
    let mut net = Net::new(3, |config| config.receivers_per_router = 1);
    let routers = |net: &Net| net.workers.iter().map(|worker| worker.routers.len()).sum::<usize>();
    let eve = net.try_join(true, |join| (join.room, join.name) = (other(), Some("eve".into())));
    let eve = eve.expect("let in");
    let (alice, _, _) = net.member("alice", &[opus()]);
    let rooms = net.rooms.clone();
    rooms.move_peer(&room(), alice.conn(), &other()).expect("moved");
    net.pump();
    assert_eq!(routers(&net), 2, "home, and the one she came with");
    let viewers = [0, 1].map(|_| net.try_join(false, there).expect("let in"));
    net.pump();
    assert_eq!(routers(&net), 3, "home takes one, a router of the room's own the next");
    for peer in viewers.iter().chain([&eve, &alice]) {
        net.leave(peer);
    }
    net.advance(5_100);
    net.assert_clean();
}
