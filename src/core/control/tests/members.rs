//! Members that take each track of a room by itself, as browsers in rooms and controllers do.

use std::task::{Context, Poll, Waker};

use serde_json::json;

use super::events::drain;
use super::fake::{Net, aac, codec, h264, one, opus, pcmu, vp8};
use super::track;
use crate::core::capabilities::{Kind, RtpCodec};
use crate::core::control::{ControlError, PeerEvent, PeerEvents, Produce, WebRtcOptions};
use crate::core::id::{ConsumerId, ProducerId};
use crate::core::message::Method;
use crate::core::peer::{CloseReason, Layers};
use crate::core::room::RoomName;

fn next(events: &mut PeerEvents) -> Option<PeerEvent> {
    match events.poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(event) => event,
        Poll::Pending => None,
    }
}

fn ended(consumer: ConsumerId) -> Option<PeerEvent> {
    Some(PeerEvent::ConsumerClosed { consumer, reason: CloseReason::track_ended() })
}

#[test]
fn a_member_takes_tracks_one_by_one_and_hears_what_becomes_of_them() {
    let mut net = Net::new(1, |_| {});
    let (alice, tracks, _) = net.member("alice", &[opus(), vp8()]);
    let (bob, own, transport) = net.member("bob", &[opus()]);
    let mut events = bob.events();
    let other = RtpCodec { payload_type: 0, ..pcmu() };
    let sound = net.take(&bob, transport, tracks[0], &[other, opus()]).expect("a consumer");
    let picture = net.take(&bob, transport, tracks[1], &[h264(), vp8()]).expect("a consumer");
    assert_eq!((sound.kind, sound.converted, sound.producer_paused), (Kind::Audio, false, false));
    assert_eq!(sound.rtp.codecs, [opus()], "of all that it takes the one that fits");
    assert_eq!(
        (net.source(sound.consumer), net.source(picture.consumer)),
        (Some(tracks[0]), Some(tracks[1]))
    );
    let echo = net.take(&bob, transport, own[0], &[opus()]).expect("its own voice, to test");
    assert_eq!(net.source(echo.consumer), Some(own[0]));

    net.run(alice.pause_producer(tracks[1])).expect("paused");
    assert_eq!(next(&mut events), Some(PeerEvent::ConsumerPaused { consumer: picture.consumer }));
    assert!(net.take(&bob, transport, tracks[1], &[vp8()]).expect("one more").producer_paused);
    net.run(alice.resume_producer(tracks[1])).expect("resumed");
    assert_eq!(next(&mut events), Some(PeerEvent::ConsumerResumed { consumer: picture.consumer }));
    next(&mut events);

    net.run(bob.pause_consumer(sound.consumer)).expect("paused");
    assert!(net.workers[0].consumers[&sound.consumer.0].paused);
    for asked in [bob.request_keyframe(picture.consumer), bob.request_keyframe(sound.consumer)] {
        net.run(asked).expect("asked");
    }
    net.run(bob.close_consumer(sound.consumer)).expect("closed");
    assert_eq!(net.run(bob.close_consumer(sound.consumer)).map_err(|error| error.is_expected()), Err(true));
    net.run(alice.close_producer(tracks[1])).expect("closed");
    assert_eq!(next(&mut events), ended(picture.consumer));
    next(&mut events);
    assert_eq!(next(&mut events), None);
    net.leave(&alice);
    net.leave(&bob);
    net.assert_clean();
}

#[test]
fn what_cannot_be_taken_is_refused_in_words() {
    let mut net = Net::new(1, |config| config.max_consumers_per_peer = 2);
    let (alice, tracks, _) = net.member("alice", &[opus(), vp8()]);
    let (bob, _, transport) = net.member("bob", &[]);
    let refused = net.take(&bob, transport, tracks[1], &[h264()]);
    let words = "no conversion from video/VP8 to video/H264";
    assert_eq!(refused, Err(ControlError::Refused(words.into())));
    let refused = net.take(&bob, transport, ProducerId(9_999), &[h264()]);
    assert!(matches!(refused, Err(ControlError::NotAllowed(_))));
    let elsewhere = net.try_join(true, |join| join.room = RoomName::new("other", &[]).expect("a name"));
    let elsewhere = elsewhere.expect("let in");
    let there = net.run(elsewhere.create_webrtc_transport(WebRtcOptions::default())).expect("a transport").id;
    assert!(net.take(&elsewhere, there, tracks[0], &[opus()]).is_err(), "of another room");
    assert!(net.take(&bob, there, tracks[0], &[opus()]).is_err(), "by somebody else's transport");
    for _ in 0..2 {
        net.take(&bob, transport, tracks[0], &[opus()]).expect("a consumer");
    }
    assert!(net.take(&bob, transport, tracks[0], &[opus()]).is_err(), "one too many");
    let big = json!("x".repeat(20_000));
    let rtp = one(&opus(), 7);
    let produced =
        net.run(bob.produce(transport, Produce { app_data: big, ..Produce::new(Kind::Audio, rtp) }));
    assert!(matches!(produced, Err(ControlError::NotAllowed(_))));
    for peer in [&alice, &bob, &elsewhere] {
        net.leave(peer);
    }
    net.assert_clean();
}

#[test]
fn an_encoders_tracks_are_converted_for_members_and_stay_theirs_when_they_change() {
    let mut net = Net::new(1, |_| {});
    let (encoder, stream) = net.stream("live");
    net.event(0, stream, "x.track", track(0, &aac(), false));
    net.event(0, stream, "x.track", track(1, &h264(), false));
    let mut watcher = net.rooms.watch(&encoder.room());
    assert_eq!(drain(&mut watcher), ["opened", "+live", "+audio/mpeg4-generic", "+video/H264"]);
    let tracks = net.tracks(&encoder);
    let (bob, _, transport) = net.member("bob", &[]);
    let (eve, _, by_eve) = net.member("eve", &[]);
    let mut events = bob.events();
    let sound = net.take(&bob, transport, tracks[0], &[opus()]).expect("a consumer");
    let too = net.take(&eve, by_eve, tracks[0], &[opus()]).expect("a consumer");
    assert!(sound.converted && net.source(sound.consumer) == net.source(too.consumer));
    assert_eq!((net.stub.started(), net.source(sound.consumer) == Some(tracks[0])), (1, false));
    let picture = net.take(&bob, transport, tracks[1], &[vp8(), h264()]).expect("a consumer");
    assert_eq!((picture.converted, net.source(picture.consumer)), (false, Some(tracks[1])));

    // B-frames appear: the same consumer goes on with the conversion.
    net.event(0, stream, "x.trackchange", track(1, &h264(), true));
    let converted = net.source(picture.consumer);
    assert!(converted.is_some() && converted != Some(tracks[1]));
    net.break_conversion(0, "broke");
    assert_eq!(net.source(picture.consumer), None);
    net.advance(10_100);
    assert!(net.source(picture.consumer).is_some());
    // No place for it: it is fed when there is one.
    *net.stub.limit.lock().expect("a lock") = 0;
    net.event(0, stream, "x.trackchange", track(1, &h264(), false));
    net.event(0, stream, "x.trackchange", track(1, &h264(), true));
    let late = net.take(&eve, by_eve, tracks[1], &[h264()]).expect("a consumer that waits");
    assert_eq!((net.source(picture.consumer), net.source(late.consumer)), (None, None));
    *net.stub.limit.lock().expect("a lock") = 9;
    net.advance(10_100);
    assert!(net.source(late.consumer).is_some() && net.source(picture.consumer) == net.source(late.consumer));

    // Another codec is another track.
    net.event(0, stream, "x.trackchange", track(0, &pcmu(), false));
    assert_eq!(next(&mut events), ended(sound.consumer));
    let told = drain(&mut watcher);
    assert!(
        told.iter().any(|line| line.contains("audio/mpeg4-generic is converted to audio/opus")),
        "{told:?}"
    );
    assert_eq!(told[told.len() - 2..], ["-track", "+audio/PCMU"]);
    for peer in [&encoder, &bob, &eve] {
        net.leave(peer);
    }
    net.assert_clean();
}

#[test]
fn members_on_another_worker_are_fed_through_a_pipe() {
    let mut net = Net::new(2, |config| config.receivers_per_router = 1);
    let (alice, tracks) = net.publish("alice", &[opus(), vp8()]);
    let (near, _) = net.view(&[opus()]);
    let spy = net.try_join(false, |join| join.spy = true).expect("let in");
    let transport = net.run(spy.create_webrtc_transport(WebRtcOptions::default())).expect("a transport").id;
    let taken: Vec<_> = [(tracks[0], opus()), (tracks[1], vp8())]
        .map(|(track, codec)| net.take(&spy, transport, track, &[codec]).expect("a consumer"))
        .into();
    let piped = net.source(taken[0].consumer).expect("a source");
    assert!(piped != tracks[0] && net.workers[1].producers.contains_key(&piped.0));
    net.run(alice.close_producer(tracks[0])).expect("closed");
    assert!(!net.workers[1].producers.contains_key(&piped.0));
    for peer in [&alice, &near, &spy] {
        net.leave(peer);
    }
    net.advance(5_100);
    net.assert_clean();
}

#[test]
fn where_many_receive_members_do_so_on_other_workers_and_survive_those() {
    let mut net = Net::new(2, |config| config.consumers_per_router = 2);
    let (alice, tracks, by_alice) = net.member("alice", &[opus(), vp8()]);
    let (bob, his, by_bob) = net.member("bob", &[vp8()]);
    let of_bob = [opus(), vp8()];
    let near: Vec<_> = [0, 1]
        .map(|at| net.take(&bob, by_bob, tracks[at], &of_bob[at..=at]).expect("a consumer").consumer)
        .into();
    let (eve, _, by_eve) = net.member("eve", &[opus()]);
    let mut events = eve.events();
    let far = net.take(&eve, by_eve, tracks[0], &[opus()]).expect("a consumer").consumer;
    assert_eq!(near.iter().map(|it| net.source(*it)).collect::<Vec<_>>(), [Some(tracks[0]), Some(tracks[1])]);
    let piped = net.source(far).expect("a source");
    assert!(piped != tracks[0] && net.workers[1].producers.contains_key(&piped.0));
    // What she sends by it all the same is piped home.
    let rtp = one(&opus(), 77);
    let sent = net.run(eve.produce(by_eve, Produce::new(Kind::Audio, rtp))).expect("a track");
    let at_home = net.tracks(&eve)[1];
    assert!(at_home != sent && net.workers[0].producers.contains_key(&at_home.0));
    let hears = net.take(&alice, by_alice, at_home, &[opus()]).expect("a consumer").consumer;
    assert_eq!(net.source(hears), Some(at_home));
    net.run(eve.pause_consumer(far)).expect("paused");
    assert!(net.workers[1].consumers[&far.0].paused);

    net.kill(1);
    net.revive(1);
    assert!([&alice, &bob, &eve].iter().all(|peer| net.closed(peer).is_none()), "they stay");
    let reason = CloseReason::worker_lost();
    let ended = PeerEvent::ProducerClosed { producer: sent, reason: reason.clone() };
    assert_eq!(next(&mut events), Some(ended));
    assert!(!net.workers[0].producers.contains_key(&at_home.0));
    assert_eq!(next(&mut events), Some(PeerEvent::ConsumerClosed { consumer: far, reason: reason.clone() }));
    assert_eq!(next(&mut events), Some(PeerEvent::TransportClosed { transport: by_eve, reason }));
    let options = WebRtcOptions { receives: true, ..WebRtcOptions::default() };
    let again = net.run(eve.create_webrtc_transport(options)).expect("a transport").id;
    let far = net.take(&eve, again, his[0], &[vp8()]).expect("a consumer").consumer;
    assert!(net.source(far).is_some() && net.workers[1].routers.len() == 1);
    net.run(eve.close_transport(again)).expect("closed");
    net.advance(5_100);
    assert!(net.workers[1].is_bare(), "the room has left that worker");
    assert!(net.take(&alice, by_alice, his[0], &[vp8()]).is_ok());
    for peer in [&alice, &bob, &eve] {
        net.leave(peer);
    }
    net.assert_clean();
    assert_eq!(net.rooms.step(|state| state.dispatcher.loads()), [0, 0]);
}

#[test]
fn a_member_outlives_its_transports_and_is_told_what_went_with_them() {
    let mut net = Net::new(1, |_| {});
    let (alice, tracks, _) = net.member("alice", &[opus()]);
    let (bob, own, transport) = net.member("bob", &[vp8()]);
    let mut events = bob.events();
    let taken = net.take(&bob, transport, tracks[0], &[opus()]).expect("a consumer").consumer;
    net.event(0, transport, "close", json!({"reason": "timed out", "code": "timeout"}));
    let reason = CloseReason::new("timeout", "timed out");
    let gone = PeerEvent::ConsumerClosed { consumer: taken, reason: reason.clone() };
    assert_eq!(next(&mut events), Some(gone));
    assert_eq!(next(&mut events), Some(PeerEvent::TransportClosed { transport, reason }));
    assert_eq!(net.closed(&bob), None);
    // What it sends goes on, until that transport ends too.
    let hers = net.run(alice.create_webrtc_transport(WebRtcOptions::default())).expect("a transport").id;
    let picture = net.take(&alice, hers, own[0], &[vp8()]).expect("a consumer").consumer;
    let mut told = alice.events();
    let sends = net.rooms.step(|state| state.members[&bob.conn()].peer.transports[0].id);
    net.event(0, sends, "close", json!({"reason": "", "code": "left"}));
    assert!(
        matches!(next(&mut events), Some(PeerEvent::ProducerClosed { producer, .. }) if producer == own[0])
    );
    assert_eq!(next(&mut told), ended(picture));
    assert_eq!(net.rooms.peers(&bob.room()).expect("a room")[1].tracks, []);
    net.leave(&alice);
    net.leave(&bob);
    net.assert_clean();
}

#[test]
fn of_camera_and_screen_the_program_shows_the_first_and_every_voice_is_mixed() {
    let mut net = Net::new(1, |_| {});
    let (alice, tracks, _) = net.member("alice", &[opus(), vp8(), opus(), vp8()]);
    let (viewer, consumers) = net.view(&[opus(), vp8()]);
    assert_eq!(net.source(consumers[1]), Some(tracks[1]), "the camera");
    assert_eq!((net.mixer.running(), net.voices_in_mix().len()), (1, 2));
    net.run(alice.pause_producer(tracks[1])).expect("paused");
    assert_eq!(net.source(consumers[1]), Some(tracks[3]), "the screen");
    net.run(alice.resume_producer(tracks[1])).expect("resumed");
    assert_eq!(net.source(consumers[1]), Some(tracks[1]));
    net.run(alice.close_producer(tracks[2])).expect("closed");
    assert_eq!(net.source(consumers[0]), Some(tracks[0]), "one voice needs no mix");
    net.leave(&alice);
    net.leave(&viewer);
    net.assert_clean();
}

#[test]
fn layers_are_told_as_the_sender_announced_them() {
    let mut net = Net::new(1, |_| {});
    let (alice, _, transport) = net.member("alice", &[]);
    let mut of = |rtp| {
        let producer = net.run(alice.produce(transport, Produce::new(Kind::Video, rtp))).expect("a track");
        net.rooms.step(|state| state.track(producer).map(|(_, track)| track.layers)).expect("there")
    };
    let mut rtp = one(&vp8(), 500);
    assert_eq!(of(rtp.clone()), Layers::Simple);
    rtp = one(&codec("video/VP9", 90_000), 501);
    for (mode, layers) in [
        ("L1T1", Layers::Simple),
        ("L3T2_KEY", Layers::Svc { spatial: 3, temporal: 2 }),
        ("S2T1h", Layers::Svc { spatial: 2, temporal: 1 }),
        ("L9999T1", Layers::Simple),
        ("", Layers::Simple),
    ] {
        rtp.encodings[0].scalability_mode = Some(mode.into());
        rtp.encodings[0].ssrc = rtp.encodings[0].ssrc.map(|ssrc| ssrc + 1);
        assert_eq!(of(rtp.clone()), layers, "{mode}");
    }
    net.leave(&alice);
    net.assert_clean();
}

#[test]
fn somebody_with_rights_mutes_renames_and_sends_away() {
    let mut net = Net::new(1, |_| {});
    let (alice, tracks, transport) = net.member("alice", &[opus(), vp8()]);
    let (bob, _, by_bob) = net.member("bob", &[]);
    let taken = net.take(&bob, by_bob, tracks[0], &[opus()]).expect("a consumer").consumer;
    let (room, rooms) = (alice.room(), net.rooms.clone());
    let (mut hers, mut his, mut watcher) = (alice.events(), bob.events(), rooms.watch(&room));
    drain(&mut watcher);
    net.run(rooms.mute(&room, alice.conn(), Kind::Audio, true)).expect("muted");
    assert_eq!(next(&mut hers), Some(PeerEvent::ProducerPaused { producer: tracks[0] }));
    assert_eq!(next(&mut his), Some(PeerEvent::ConsumerPaused { consumer: taken }));
    let held = |net: &Net, track: ProducerId| net.workers[0].producers[&track.0].paused;
    assert_eq!((held(&net, tracks[0]), held(&net, tracks[1])), (true, false));
    // She cannot undo it, and it goes for what she sends next.
    net.run(alice.pause_producer(tracks[0])).expect("paused");
    net.run(alice.resume_producer(tracks[0])).expect("as far as she goes");
    let second = net.produce(&alice, transport, &opus());
    assert!(held(&net, tracks[0]) && held(&net, second));
    assert_eq!(next(&mut hers), Some(PeerEvent::ProducerPaused { producer: second }));
    net.run(rooms.mute(&room, alice.conn(), Kind::Audio, false)).expect("unmuted");
    assert!(!held(&net, tracks[0]) && !held(&net, second));
    assert_eq!(next(&mut his), Some(PeerEvent::ConsumerResumed { consumer: taken }));
    drain(&mut watcher);

    rooms
        .set_peer(&room, alice.conn(), Some(Some("Alice".into())), Some(json!({"hand": true})))
        .expect("set");
    assert_eq!(drain(&mut watcher), ["~alice Some(\"Alice\")"]);
    let detail = &rooms.peers(&room).expect("a room")[0];
    assert_eq!((detail.tracks.len(), detail.transports.len()), (3, 2));
    assert_eq!(
        (detail.info.app_data["hand"] == true, rooms.peers(&room).expect("a room")[1].consumers[0].track),
        (true, Some(tracks[0]))
    );
    net.run(rooms.close_track(&room, alice.conn(), second, "enough")).expect("closed");
    net.run(rooms.kick(&room, alice.conn(), "out")).expect("kicked");
    assert_eq!(net.closed(&alice), Some(CloseReason::new("kicked", "out")));
    assert_eq!(net.run(rooms.kick(&room, alice.conn(), "out")), Err(ControlError::Closed));
    let asked = net.run(rooms.peer(&room, bob.conn()).expect("there").dump_transport(by_bob));
    assert!(asked.is_ok());
    net.leave(&bob);
    net.assert_clean();
}

#[test]
fn a_room_that_is_opened_stays_until_it_is_let_go_or_its_worker_fails() {
    let mut net = Net::new(1, |config| config.max_rooms = 1);
    let (room, rooms) = (RoomName::new("room", &[]).expect("a name"), net.rooms.clone());
    let mut watcher = rooms.watch(&room);
    rooms.open(&room).expect("opened");
    assert!(rooms.open(&RoomName::new("other", &[]).expect("a name")).is_err(), "no place for more");
    let (alice, _, _) = net.member("alice", &[opus()]);
    net.leave(&alice);
    assert_eq!(drain(&mut watcher), ["opened", "+alice", "+audio/opus", "-track", "- left"]);
    rooms.let_go(&room);
    assert_eq!(drain(&mut watcher), ["closed left"]);
    net.assert_clean();

    rooms.open(&room).expect("opened");
    let (bob, _, _) = net.member("bob", &[]);
    rooms.let_go(&room);
    assert!(rooms.summary(&room).is_some(), "somebody is there");
    assert!(rooms.close(&room, &CloseReason::new("kicked", "closed by hand")));
    assert_eq!(net.closed(&bob).map(|reason| reason.code), Some("kicked"));
    assert!(!rooms.close(&room, &CloseReason::left()));
    drain(&mut watcher);
    net.assert_clean();

    rooms.open(&room).expect("opened");
    net.pump();
    net.kill(0);
    net.revive(0);
    assert_eq!(drain(&mut watcher), ["opened", "closed worker_lost"]);
    assert_eq!(net.workers[0].count(Method::RouterClose), 0);
    rooms.open(&room).expect("opened again");
    rooms.let_go(&room);
    net.assert_clean();
}
