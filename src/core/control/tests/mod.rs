//! Rooms against workers that answer by the protocol, in no time: a fake one that shows what it was asked,
//! and the real one.

mod controllers;
mod data;
mod events;
mod fake;
mod levels;
mod many;
mod members;
mod mirror;
mod mix;
mod random;
mod random_members;
mod relocate;

use serde_json::json;

use crate::core::auth::Principal;
use crate::core::capabilities::Kind;
use crate::core::control::{ControlError, JoinError, Produce, WebRtcOptions};
use crate::core::message::Method;
use crate::core::peer::{CloseReason, PeerKind};
use crate::core::room::RoomName;
use crate::core::session::DtlsRole;
use fake::{Net, aac, h264, opus, vp8};

fn one_worker() -> Net {
    Net::new(1, |_| {})
}

fn track(track: u32, codec: &crate::core::capabilities::RtpCodec, reordered: bool) -> serde_json::Value {
    let kind = if codec.mime_type.starts_with("audio/") { "audio" } else { "video" };
    json!({"track": track, "kind": kind, "codec": codec, "config": "1210", "reordered": reordered})
}

#[test]
fn a_viewer_is_fed_from_the_publisher_until_it_leaves() {
    let mut net = one_worker();
    assert_eq!(net.try_join(false, |_| {}).err(), Some(JoinError::NothingLive));
    let publisher = net.join_publisher("live");
    assert_eq!(net.try_join(false, |_| {}).err(), Some(JoinError::NothingLive));
    let transport =
        net.run(publisher.create_webrtc_transport(WebRtcOptions::default())).expect("a transport");
    assert_eq!((transport.ice.username_fragment.as_str(), transport.dtls.role), ("u", DtlsRole::Auto));
    let ice = Some(("a".to_owned(), "b".to_owned()));
    let role = net.run(publisher.connect_webrtc(transport.id, DtlsRole::Client, Vec::new(), ice));
    assert_eq!(role, Ok(DtlsRole::Server));
    let audio = net.produce(&publisher, transport.id, &opus());
    let video = net.produce(&publisher, transport.id, &h264());
    let (viewer, consumers) = net.view(&[opus(), h264()]);
    assert_eq!(net.source(consumers[0]), Some(audio));
    assert_eq!(net.source(consumers[1]), Some(video));
    let summary = net.rooms.summary(&viewer.room()).expect("a room");
    assert!(summary.live && summary.viewers == 1 && summary.notices.is_empty());
    assert_eq!(summary.publishers[0].tracks.len(), 2);

    net.leave(&publisher);
    assert_eq!(net.closed(&publisher).map(|reason| reason.code), Some("left"));
    assert_eq!((net.source(consumers[0]), net.source(consumers[1])), (None, None));
    assert_eq!(net.closed(&viewer), None);
    let (again, producers) = net.publish("live", &[h264()]);
    assert_eq!(net.source(consumers[1]), Some(producers[0]));
    net.leave(&again);
    net.leave(&viewer);
    assert_eq!(
        Net::error(net.poll(viewer.create_webrtc_transport(WebRtcOptions::default())).expect("done")),
        ControlError::Closed
    );
    net.assert_clean();
}

#[test]
fn a_publisher_that_comes_back_takes_over_without_a_flash_of_another() {
    let mut net = one_worker();
    let (other, other_producers) = net.publish("other", &[h264()]);
    let (old, old_producers) = net.publish("live", &[h264()]);
    let (viewer, consumers) = net.view(&[h264()]);
    assert_eq!(net.source(consumers[0]), Some(old_producers[0]));
    let new = net.join_publisher("live");
    assert_eq!(net.closed(&old).map(|reason| reason.code), Some("taken_over"));
    assert_eq!(net.source(consumers[0]), None);
    net.advance(2_900);
    assert_eq!(net.source(consumers[0]), None);
    let transport = net.run(new.create_webrtc_transport(WebRtcOptions::default())).expect("a transport").id;
    let producer = net.produce(&new, transport, &h264());
    assert_eq!(net.source(consumers[0]), Some(producer));

    let newer = net.join_publisher("live");
    net.advance(3_100);
    assert_eq!(net.source(consumers[0]), Some(other_producers[0]));
    for peer in [&other, &newer, &viewer] {
        net.leave(peer);
    }
    net.assert_clean();
}

#[test]
fn another_principal_may_not_take_a_name_but_may_take_another() {
    let mut net = one_worker();
    let (publisher, _) = net.publish("live", &[opus()]);
    let somebody = |join: &mut crate::core::control::Join| join.principal = Principal::internal();
    assert_eq!(net.try_join(true, somebody).err(), Some(JoinError::NameTaken));
    assert_eq!(net.closed(&publisher), None);
    let other = net.try_join(true, |join| {
        somebody(join);
        join.name = Some("cam2".into());
    });
    net.leave(&other.expect("let in"));
    let bad = net.try_join(true, |join| join.name = Some("a b".into()));
    assert!(matches!(bad.err(), Some(JoinError::BadName(_))));
    net.leave(&publisher);
    net.assert_clean();
}

#[test]
fn the_program_is_the_newest_publisher_unless_one_is_asked_for() {
    let mut net = one_worker();
    let (first, first_producers) = net.publish("a", &[opus(), h264()]);
    let (viewer, consumers) = net.view(&[opus(), h264()]);
    let (faithful, faithful_consumers) = net.view_of(Some("a"), &[h264()]);
    assert_eq!(net.try_join(false, |join| join.watch = Some("b".into())).err(), Some(JoinError::NothingLive));
    let (second, second_producers) = net.publish("b", &[h264()]);
    assert_eq!(net.source(consumers[1]), Some(second_producers[0]));
    // Only one of them speaks.
    assert_eq!(net.source(consumers[0]), Some(first_producers[0]));
    assert_eq!(net.source(faithful_consumers[0]), Some(first_producers[1]));
    net.leave(&second);
    assert_eq!(net.source(consumers[0]), Some(first_producers[0]));
    assert_eq!(net.source(consumers[1]), Some(first_producers[1]));
    for peer in [&first, &viewer, &faithful] {
        net.leave(peer);
    }
    net.assert_clean();
}

#[test]
fn aac_is_converted_once_for_all_and_for_a_while_after() {
    let mut net = one_worker();
    let (publisher, transport) = net.stream("live");
    net.event(0, transport, "x.track", track(0, &aac(), false));
    net.event(0, transport, "x.track", track(1, &h264(), false));
    assert_eq!(net.stub.started(), 0);
    let (one, one_consumers) = net.view(&[opus(), h264()]);
    let (two, two_consumers) = net.view(&[opus(), h264()]);
    assert_eq!((net.stub.started(), net.stub.running()), (1, 1));
    assert_eq!(net.stub.jobs.lock().expect("a lock")[0].from.config, [0x12, 0x10]);
    let derived = net.source(one_consumers[0]).expect("a source");
    assert_eq!(net.source(two_consumers[0]), Some(derived));
    let rtp = &net.workers[0].producers[&derived.0].data["rtpParameters"];
    assert_eq!(rtp["codecs"][0]["mimeType"], "audio/opus");
    let video = net.source(one_consumers[1]).expect("a source");
    assert_eq!(net.workers[0].producers[&video.0].data["x.track"], 1);

    net.leave(&one);
    net.advance(6_000);
    assert_eq!(net.stub.running(), 1);
    net.leave(&two);
    net.advance(4_900);
    assert_eq!(net.stub.running(), 1);
    net.advance(200);
    assert_eq!(net.stub.running(), 0);
    let (three, three_consumers) = net.view(&[opus()]);
    assert_eq!((net.stub.started(), net.stub.running()), (2, 1));
    // Back within the linger: the same job goes on, and the stale timer does not end it.
    net.leave(&three);
    net.advance(3_000);
    let (four, four_consumers) = net.view(&[opus()]);
    net.advance(3_000);
    assert_eq!((net.stub.started(), net.stub.running()), (2, 1));
    assert!(net.source(four_consumers[0]).is_some() && three_consumers != four_consumers);
    net.leave(&publisher);
    assert_eq!((net.source(four_consumers[0]), net.stub.running()), (None, 0));
    net.leave(&four);
    net.assert_clean();
}

#[test]
fn b_frames_that_appear_later_are_converted_from_then_on() {
    let mut net = one_worker();
    let (publisher, transport) = net.stream("live");
    net.event(0, transport, "x.track", track(0, &h264(), false));
    let (viewer, consumers) = net.view(&[h264()]);
    let plain = net.source(consumers[0]).expect("a source");
    net.event(0, transport, "x.trackchange", track(0, &h264(), true));
    assert_eq!(net.stub.running(), 1);
    assert!(net.source(consumers[0]).is_some_and(|source| source != plain));
    net.event(0, transport, "x.trackchange", track(0, &h264(), false));
    assert_eq!((net.source(consumers[0]), net.stub.running()), (Some(plain), 0));
    // Another codec is another producer.
    net.event(0, transport, "x.trackchange", track(0, &vp8(), false));
    assert_eq!(net.workers[0].producers.len(), 1);
    assert!(!net.workers[0].producers.contains_key(&plain.0));
    for peer in [&publisher, &viewer] {
        net.leave(peer);
    }
    net.assert_clean();
}

#[test]
fn a_refused_conversion_is_told_and_retried() {
    let mut net = one_worker();
    *net.stub.limit.lock().expect("a lock") = 0;
    let (publisher, transport) = net.stream("live");
    net.event(0, transport, "x.track", track(0, &aac(), false));
    let (viewer, consumers) = net.view(&[opus()]);
    assert_eq!(net.source(consumers[0]), None);
    assert_eq!(viewer.notices(), ["all converters are busy"]);
    let summary = net.rooms.summary(&viewer.room()).expect("a room");
    assert_eq!(summary.notices, ["all converters are busy"]);
    let (crowd, _) = net.view(&[opus()]);
    net.advance(10_100);
    net.leave(&crowd);
    // One refusal answers for all viewers: one attempt at first, one at the retry.
    assert_eq!(net.stub.refused(), 2);
    *net.stub.limit.lock().expect("a lock") = 1;
    net.advance(10_100);
    assert!(net.source(consumers[0]).is_some());
    assert_eq!(viewer.notices(), Vec::<String>::new());

    let (other, other_consumers) = net.view(&[vp8(), opus()]);
    assert_eq!(net.source(other_consumers[0]), None);
    net.event(0, transport, "x.track", track(1, &h264(), true));
    assert_eq!(other.notices(), ["no conversion from video/H264 with B-frames to video/VP8"]);
    for peer in [&publisher, &viewer, &other] {
        net.leave(peer);
    }
    net.assert_clean();
}

#[test]
fn a_place_that_falls_free_is_taken_soon() {
    let mut net = one_worker();
    *net.stub.limit.lock().expect("a lock") = 1;
    let (publisher, transport) = net.stream("live");
    net.event(0, transport, "x.track", track(0, &aac(), false));
    net.event(0, transport, "x.track", track(1, &h264(), true));
    let (listener, _) = net.view(&[opus()]);
    let (watcher, consumers) = net.view(&[h264()]);
    assert_eq!(watcher.notices(), ["all converters are busy"]);
    net.leave(&listener);
    net.advance(5_000);
    net.advance(600);
    assert!(net.source(consumers[0]).is_some());
    net.leave(&publisher);
    net.leave(&watcher);
    net.assert_clean();
}

#[test]
fn a_conversion_that_breaks_is_left_alone_for_a_while() {
    let mut net = one_worker();
    let (publisher, transport) = net.stream("live");
    net.event(0, transport, "x.track", track(0, &aac(), false));
    let (viewer, consumers) = net.view(&[opus()]);
    net.break_conversion(0, "broken frames");
    assert_eq!((net.stub.started(), net.source(consumers[0])), (1, None));
    assert!(viewer.notices()[0].contains("broken frames"));
    net.advance(5_000);
    assert_eq!(net.stub.started(), 1);
    net.advance(5_100);
    assert_eq!(net.stub.started(), 2);
    assert!(net.source(consumers[0]).is_some());
    net.leave(&publisher);
    net.leave(&viewer);
    net.assert_clean();
}

#[test]
fn a_lost_worker_takes_its_rooms_and_nothing_else() {
    let mut net = Net::new(2, |_| {});
    let (here, _) = net.publish("live", &[opus()]);
    let elsewhere = net.try_join(true, |join| join.room = RoomName::new("other", &[]).expect("a name"));
    let elsewhere = elsewhere.expect("let in");
    assert_eq!((net.workers[0].routers.len(), net.workers[1].routers.len()), (1, 1));
    let mut waiting = Box::pin(here.create_webrtc_transport(WebRtcOptions::default()));
    net.workers[0].silent = true;
    assert_eq!(net.poll(waiting.as_mut()), None);
    net.kill(0);
    assert_eq!(net.poll(waiting), Some(Err(ControlError::WorkerLost)));
    assert_eq!(net.closed(&here).map(|reason| reason.code), Some("worker_lost"));
    assert_eq!(net.closed(&elsewhere), None);
    let (again, _) = net.publish("live", &[opus()]);
    assert_eq!(net.workers[1].routers.len(), 2);
    net.revive(0);
    let third = net.try_join(true, |join| join.room = RoomName::new("third", &[]).expect("a name"));
    assert_eq!(net.workers[0].routers.len(), 1);
    net.kill(0);
    net.kill(1);
    assert_eq!(net.try_join(true, |_| {}).err(), Some(JoinError::NoWorker));
    assert_eq!(net.closed(&again).map(|reason| reason.code), Some("worker_lost"));
    assert!(net.closed(&third.expect("let in")).is_some() && net.closed(&elsewhere).is_some());
    net.assert_clean();
}

#[test]
fn a_worker_that_does_not_answer_costs_the_request() {
    let mut net = one_worker();
    let publisher = net.join_publisher("live");
    net.workers[0].silent = true;
    let mut waiting = Box::pin(publisher.create_webrtc_transport(WebRtcOptions::default()));
    assert_eq!(net.poll(waiting.as_mut()), None);
    net.advance(5_000);
    assert_eq!(net.poll(waiting.as_mut()), None);
    net.advance(1_100);
    assert_eq!(net.poll(waiting), Some(Err(ControlError::Timeout)));
}

#[test]
fn a_worker_that_takes_nothing_is_refused_work_and_then_given_up() {
    let mut net = Net::new(1, |config| config.max_pending_requests = 4);
    let publisher = net.join_publisher("live");
    net.workers[0].silent = true;
    let mut waiting: Vec<_> =
        (0..4).map(|_| Box::pin(publisher.create_webrtc_transport(WebRtcOptions::default()))).collect();
    for future in &mut waiting {
        assert_eq!(net.poll(future.as_mut()), None);
    }
    assert_eq!(
        net.poll(publisher.restart_ice(crate::core::id::TransportId(0))).map(|result| result.is_err()),
        Some(true)
    );
    let other = net.try_join(true, |join| join.name = Some("b".into())).expect("let in");
    let refused = net.poll(other.create_webrtc_transport(WebRtcOptions::default()));
    assert_eq!(refused, Some(Err(ControlError::Overloaded)));
    // What must be asked for is asked for beyond the bound, but not without end.
    for n in 0..4 {
        let room = RoomName::new(&format!("room{n}"), &[]).expect("a name");
        let _ = net.try_join(true, |join| join.room = room);
    }
    let room = RoomName::new("last", &[]).expect("a name");
    let _ = net.try_join(true, |join| join.room = room);
    assert_eq!(net.closed(&publisher).map(|reason| reason.code), Some("worker_lost"));
}

#[test]
fn viewers_beyond_a_routers_share_are_fed_through_a_pipe() {
    let mut net = Net::new(2, |config| config.receivers_per_router = 2);
    let (publisher, producers) = net.publish("live", &[h264()]);
    let viewers: Vec<_> = (0..4).map(|_| net.view(&[h264()])).collect();
    assert_eq!((net.workers[0].consumers.len(), net.workers[1].consumers.len()), (3, 2));
    let piped = net.source(viewers[2].1[0]).expect("a source");
    assert_ne!(piped, producers[0]);
    assert_eq!(net.source(viewers[3].1[0]), Some(piped));
    assert_eq!(net.workers[1].count(Method::RouterCreateProducer), 1);
    // The far producer knows the stream by the number of the consumer that feeds the pipe.
    let into_pipe =
        net.workers[0].consumers.iter().find(|(_, consumer)| consumer.source == Some(producers[0].0));
    let numbers: Vec<u32> = viewers.iter().map(|(_, consumers)| consumers[0].0).collect();
    assert!(into_pipe.is_some());
    let named = net.workers[1].producers[&piped.0].data["x.track"].as_u64().expect("a number") as u32;
    assert!(net.workers[0].consumers.contains_key(&named) && !numbers.contains(&named));

    // A fifth finds both full and joins the emptiest; there is no third worker.
    let (fifth, fifth_consumers) = net.view(&[h264()]);
    assert!(net.source(fifth_consumers[0]).is_some());
    // A switch of the program reaches the far side too.
    let (second, second_producers) = net.publish("b", &[h264()]);
    assert_eq!(net.source(viewers[0].1[0]), Some(second_producers[0]));
    assert!(net.source(viewers[2].1[0]).is_some_and(|source| source != piped));
    net.advance(5_100);
    assert!(!net.workers[1].producers.contains_key(&piped.0));
    net.leave(&second);
    for (viewer, _) in &viewers[2..] {
        net.leave(viewer);
    }
    net.leave(&fifth);
    net.advance(5_100);
    assert!(net.workers[1].is_bare());
    for (viewer, _) in &viewers[..2] {
        net.leave(viewer);
    }
    net.leave(&publisher);
    net.assert_clean();
}

#[test]
fn conversions_reach_the_far_side_and_a_lost_far_worker_costs_its_viewers_only() {
    let mut net = Net::new(2, |config| config.receivers_per_router = 1);
    let (publisher, transport) = net.stream("live");
    net.event(0, transport, "x.track", track(0, &aac(), false));
    let (near, _) = net.view(&[opus()]);
    let (far, far_consumers) = net.view(&[opus()]);
    assert_eq!(net.stub.started(), 1);
    let piped = net.source(far_consumers[0]).expect("a source");
    let rtp = &net.workers[1].producers[&piped.0].data["rtpParameters"];
    assert_eq!(rtp["codecs"][0]["mimeType"], "audio/opus");
    net.kill(1);
    assert_eq!(net.closed(&far).map(|reason| reason.code), Some("worker_lost"));
    assert_eq!((net.closed(&near), net.closed(&publisher)), (None, None));
    net.leave(&near);
    net.leave(&publisher);
    net.assert_clean();
}

#[test]
fn limits_hold() {
    let mut net = Net::new(1, |config| {
        config.max_rooms = 1;
        config.max_publishers_per_room = 1;
        config.max_viewers_per_room = 1;
        config.max_tracks_per_peer = 1;
        config.max_consumers_per_peer = 1;
        config.max_transports_per_peer = 1;
    });
    let (publisher, _) = net.publish("live", &[opus()]);
    let full = net.try_join(true, |join| join.name = Some("b".into()));
    assert_eq!(full.err(), Some(JoinError::RoomFull));
    let other = RoomName::new("other", &[]).expect("a name");
    assert_eq!(net.try_join(true, |join| join.room = other).err(), Some(JoinError::ServerFull));
    let (viewer, _) = net.view(&[opus()]);
    assert_eq!(net.try_join(false, |_| {}).err(), Some(JoinError::RoomFull));
    for peer in [&publisher, &viewer] {
        let refused = net.run(peer.create_webrtc_transport(WebRtcOptions::default()));
        assert!(matches!(Net::error(refused), ControlError::NotAllowed(_)));
    }
    // Taking over needs no place of its own.
    let (new, _) = net.publish("live", &[opus()]);
    assert!(net.closed(&publisher).is_some());
    let transport = crate::core::id::TransportId(0);
    let rtp = fake::one(&opus(), 1);
    let strange = net.run(new.produce(transport, Produce::new(Kind::Audio, rtp)));
    assert!(matches!(Net::error(strange), ControlError::NotAllowed(_)));
    net.leave(&new);
    net.leave(&viewer);
    net.assert_clean();
}

#[test]
fn endings_are_told_with_their_cause() {
    let mut net = one_worker();
    let (rtmp, transport) = net.stream("live");
    net.event(0, transport, "close", json!({"reason": "end of stream", "code": "left"}));
    assert_eq!(net.closed(&rtmp), Some(CloseReason::new("left", "end of stream")));
    let idle = net.join_publisher("live");
    net.advance(15_100);
    assert_eq!(net.closed(&idle).map(|reason| reason.code), Some("timeout"));
    let (whip, _) = net.publish("live", &[opus()]);
    let transport = net.workers[0].transports.keys().copied().next().expect("a transport");
    let lost = json!({"reason": "ICE consent lost", "code": "timeout"});
    net.event(0, crate::core::id::TransportId(transport), "close", lost);
    assert_eq!(net.closed(&whip).map(|reason| reason.code), Some("timeout"));

    let (kept, _) = net.publish("live", &[opus()]);
    let (viewer, _) = net.view(&[opus()]);
    let rooms = net.rooms.clone();
    net.run(rooms.close_all(CloseReason::shutdown()));
    for peer in [&kept, &viewer] {
        assert_eq!(net.closed(peer), Some(CloseReason::shutdown()));
    }
    net.assert_clean();
}

#[test]
fn a_room_that_cannot_be_made_closes_its_peers() {
    let mut net = one_worker();
    net.workers[0].refuse = Some(Method::WorkerCreateRouter);
    let peer = net.join_publisher("live");
    assert_eq!(net.closed(&peer).map(|reason| reason.code), Some("error"));
    net.workers[0].refuse = Some(Method::RouterCreateProducer);
    let peer = net.try_join(true, |join| join.kind = PeerKind::Whip).expect("let in");
    let transport = net.run(peer.create_webrtc_transport(WebRtcOptions::default())).expect("a transport").id;
    let refused = net.run(peer.produce(transport, Produce::new(Kind::Audio, fake::one(&opus(), 1))));
    assert_eq!(Net::error(refused), ControlError::Rejected("refused on purpose".into()));
    assert!(!net.rooms.summaries()[0].live);
    net.leave(&peer);
}
