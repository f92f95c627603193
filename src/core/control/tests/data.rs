//! Data channels: who hears what in a room, on one worker and on two.

use std::task::{Context, Poll, Waker};

use serde_json::json;

use super::fake::{Net, h264, opus, vp8};
use crate::core::control::{
    ControlError, DataConsumed, Join, Peer, PeerEvent, PeerEvents, RoomEvent, RoomEvents, WebRtcOptions,
};
use crate::core::data::{DataMessage, SctpStreamParameters};
use crate::core::id::{DataConsumerId, DataProducerId, TransportId};
use crate::core::message::Method;
use crate::core::room::RoomName;

fn told(events: &mut PeerEvents) -> Vec<PeerEvent> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut all = Vec::new();
    while let Poll::Ready(Some(event)) = events.poll_next(&mut cx) {
        all.push(event);
    }
    all
}

fn seen(events: &mut RoomEvents) -> Vec<RoomEvent> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut all = Vec::new();
    while let Poll::Ready(Some(event)) = events.poll_next(&mut cx) {
        if matches!(event, RoomEvent::DataAdded(_) | RoomEvent::DataRemoved { .. }) {
            all.push(event);
        }
    }
    all
}

/// A member with a transport for data.
fn join(net: &mut Net, name: &str) -> (Peer, TransportId) {
    let peer = net.join_publisher(name);
    let options = WebRtcOptions { enable_sctp: true, ..WebRtcOptions::default() };
    let transport = net.run(peer.create_webrtc_transport(options)).expect("a transport").id;
    (peer, transport)
}

/// A viewer without a transport.
fn viewer(net: &mut Net) -> Peer {
    net.try_join(false, |_| {}).expect("let in")
}

fn produce(net: &mut Net, peer: &Peer, transport: TransportId, stream: u16) -> DataProducerId {
    let parameters: SctpStreamParameters =
        serde_json::from_value(json!({"streamId": stream, "maxRetransmits": 1})).expect("parameters");
    let data = ("chat".to_owned(), "p".to_owned(), json!({"of": "x"}));
    net.run(peer.produce_data(transport, parameters, data.0, data.1, data.2)).expect("a data producer")
}

fn speaker(net: &mut Net, peer: &Peer) -> DataProducerId {
    net.run(peer.produce_direct_data("chat".into(), String::new(), json!({}))).expect("a data producer")
}

fn listen(net: &mut Net, peer: &Peer, producer: DataProducerId) -> DataConsumerId {
    net.run(peer.consume_direct_data(producer)).expect("a data consumer").id
}

fn say(net: &mut Net, peer: &Peer, producer: DataProducerId, text: &str) {
    net.run(peer.send_data(producer, &DataMessage::text(text))).expect("sent");
    net.flow();
}

fn heard(consumer: DataConsumerId, text: &str) -> PeerEvent {
    PeerEvent::DataMessage { consumer, message: DataMessage::text(text) }
}

#[test]
fn members_consume_each_others_channels_and_watchers_see_them() {
    let mut net = Net::new(1, |_| {});
    let (alice, from_alice) = join(&mut net, "alice");
    let mut watched = net.rooms.watch(&alice.room());
    let chat = produce(&mut net, &alice, from_alice, 0);
    let (bob, to_bob) = join(&mut net, "bob");
    let consumed = net.run(bob.consume_data(to_bob, chat)).expect("a data consumer");
    let DataConsumed { sctp_stream_parameters: Some(parameters), .. } = consumed else {
        panic!("{consumed:?}")
    };
    assert_eq!(parameters.delivery.max_retransmits, Some(1));
    assert_eq!((consumed.label.as_str(), consumed.protocol.as_str()), ("chat", "p"));
    assert_eq!((consumed.data_producer_id, &consumed.app_data), (chat, &json!({"of": "x"})));
    let added = seen(&mut watched);
    assert!(
        matches!(&added[..], [RoomEvent::DataAdded(info)] if info.id == chat && info.conn == alice.conn())
    );
    // Who comes later is told too.
    let mut later = net.rooms.watch(&alice.room());
    assert_eq!(seen(&mut later), added);

    let mut events = bob.events();
    let mut own = alice.events();
    net.run(alice.pause_data_producer(chat)).expect("paused");
    net.run(alice.resume_data_producer(chat)).expect("resumed");
    let stats = net.run(alice.data_producer_stats(chat)).expect("statistics");
    assert_eq!(stats[0]["type"], "data-producer");
    net.run(bob.data_consumer_stats(consumed.id)).expect("statistics");
    net.run(bob.set_buffered_amount_low_threshold(consumed.id, 1_000)).expect("set");
    net.run(alice.close_data_producer(chat)).expect("closed");
    net.flow();
    let expected = [
        PeerEvent::DataConsumerPaused(consumed.id),
        PeerEvent::DataConsumerResumed(consumed.id),
        PeerEvent::DataConsumerClosed(consumed.id),
    ];
    assert_eq!(told(&mut events), expected);
    assert_eq!(told(&mut own), [], "who closed it knows");
    assert_eq!(seen(&mut watched), [RoomEvent::DataRemoved { conn: alice.conn(), data_producer: chat }]);
    net.leave(&alice);
    net.leave(&bob);
    net.assert_clean();
}

#[test]
fn the_room_is_spoken_to_and_heard_from_here() {
    let mut net = Net::new(1, |_| {});
    let (alice, from_alice) = join(&mut net, "alice");
    let (server, _) = join(&mut net, "server");
    let chat = produce(&mut net, &alice, from_alice, 3);
    let mut events = server.events();
    let hears = listen(&mut net, &server, chat);
    net.event(0, from_alice, "x.data", json!({"streamId": 3, "text": "hello"}));
    assert_eq!(told(&mut events), [heard(hears, "hello")]);
    let mut own = alice.events();
    let announcements = speaker(&mut net, &server);
    let to_alice = listen(&mut net, &alice, announcements);
    say(&mut net, &server, announcements, "closing");
    net.run(server.send_to_data_consumer(hears, &DataMessage::text("psst"))).expect("sent");
    net.flow();
    assert_eq!(told(&mut own), [heard(to_alice, "closing")]);
    assert_eq!(told(&mut events), [heard(hears, "psst")]);
    // The party closes its channel.
    net.event(0, from_alice, "x.dataclosed", json!({"streamId": 3}));
    assert_eq!(told(&mut own), [PeerEvent::DataProducerClosed(chat)]);
    assert_eq!(told(&mut events), [PeerEvent::DataConsumerClosed(hears)]);
    // And opens one in band.
    let opened = json!({"sctpStreamParameters": {"streamId": 4}, "label": "files", "protocol": ""});
    net.event(0, from_alice, "x.datachannel", opened);
    let mut opened = told(&mut own);
    let Some(PeerEvent::DataChannel { transport, parameters, label, .. }) = opened.pop() else {
        panic!("{opened:?}")
    };
    assert_eq!((transport, parameters.stream_id, label.as_str()), (from_alice, 4, "files"));
    net.leave(&server);
    net.leave(&alice);
    net.assert_clean();
}

#[test]
fn a_room_on_two_workers_keeps_its_chat() {
    let mut net = Net::new(2, |config| config.receivers_per_router = 1);
    let (publisher, _) = net.publish("live", &[h264()]);
    let (near, far) = (viewer(&mut net), viewer(&mut net));
    assert_eq!(net.workers[1].routers.len(), 1);
    let (mut at_publisher, mut at_near, mut at_far) = (publisher.events(), near.events(), far.events());
    let from_publisher = speaker(&mut net, &publisher);
    let from_far = speaker(&mut net, &far);
    let near_hears = (listen(&mut net, &near, from_publisher), listen(&mut net, &near, from_far));
    let far_hears = (listen(&mut net, &far, from_publisher), listen(&mut net, &far, from_far));
    let publisher_hears = listen(&mut net, &publisher, from_far);
    say(&mut net, &publisher, from_publisher, "hello");
    say(&mut net, &far, from_far, "answer");
    assert_eq!(told(&mut at_near), [heard(near_hears.0, "hello"), heard(near_hears.1, "answer")]);
    assert_eq!(told(&mut at_far), [heard(far_hears.0, "hello"), heard(far_hears.1, "answer")]);
    assert_eq!(told(&mut at_publisher), [heard(publisher_hears, "answer")]);
    // One copy each way, however many listen.
    let copies = |net: &Net, worker: usize| net.workers[worker].count(Method::XTransportProduceData);
    assert_eq!((copies(&net, 0), copies(&net, 1)), (1, 1));
    // The last who listens ends the copy.
    net.run(near.close_data_consumer(near_hears.1)).expect("closed");
    assert_eq!(net.workers[0].data_producers.len(), 2);
    net.run(publisher.close_data_consumer(publisher_hears)).expect("closed");
    net.pump();
    assert_eq!(net.workers[0].data_producers.len(), 1);
    // An end reaches the far side.
    net.run(publisher.close_data_producer(from_publisher)).expect("closed");
    net.flow();
    assert_eq!(told(&mut at_far), [PeerEvent::DataConsumerClosed(far_hears.0)]);
    assert_eq!(net.workers[1].data_producers.len(), 1);
    for peer in [&far, &near, &publisher] {
        net.leave(peer);
    }
    net.assert_clean();
}

#[test]
fn a_member_that_is_moved_keeps_its_channels_in_the_other_room() {
    let mut net = Net::new(2, |_| {});
    let other = RoomName::new("other", &[]).expect("a name");
    let ((alice, by_alice), (bob, by_bob)) = (join(&mut net, "alice"), join(&mut net, "bob"));
    let eve = net.try_join(true, |join| (join.room, join.name) = (other.clone(), Some("eve".into())));
    let eve = eve.expect("let in");
    let options = WebRtcOptions { enable_sctp: true, ..WebRtcOptions::default() };
    let by_eve = net.run(eve.create_webrtc_transport(options)).expect("a transport").id;
    let (chat, direct) = (produce(&mut net, &alice, by_alice, 0), speaker(&mut net, &alice));
    let (his, hers) = (produce(&mut net, &bob, by_bob, 0), produce(&mut net, &eve, by_eve, 0));
    let bob_hears = net.run(bob.consume_data(by_bob, chat)).expect("a data consumer").id;
    let alice_hears = net.run(alice.consume_data(by_alice, his)).expect("a data consumer").id;
    let (mut at_alice, mut at_bob) = (alice.events(), bob.events());
    let (mut here, mut there) = (net.rooms.watch(&alice.room()), net.rooms.watch(&other));
    [&mut here, &mut there].into_iter().for_each(|watcher| drop(seen(watcher)));

    let rooms = net.rooms.clone();
    rooms.move_peer(&alice.room(), alice.conn(), &other).expect("moved");
    net.flow();
    let closed = PeerEvent::DataConsumerClosed;
    let expected = [
        closed(alice_hears),
        PeerEvent::DataProducerClosed(direct),
        PeerEvent::Moved { room: other.clone() },
    ];
    assert_eq!(told(&mut at_alice), expected);
    assert_eq!(told(&mut at_bob), [closed(bob_hears)]);
    let removed = |id| RoomEvent::DataRemoved { conn: alice.conn(), data_producer: id };
    assert_eq!(seen(&mut here), [removed(chat), removed(direct)]);
    assert!(matches!(&seen(&mut there)[..], [RoomEvent::DataAdded(info)] if info.id == chat));
    assert!(net.run(bob.consume_data(by_bob, chat)).is_err(), "she is in the other room");
    net.run(eve.consume_data(by_eve, chat)).expect("a data consumer");
    net.run(alice.consume_data(by_alice, hers)).expect("a data consumer");
    net.run(alice.pause_data_producer(chat)).expect("still hers");

    rooms.move_peer(&other, alice.conn(), &bob.room()).expect("moved back");
    net.flow();
    net.run(bob.consume_data(by_bob, chat)).expect("a data consumer");
    for peer in [&alice, &bob, &eve] {
        net.leave(peer);
    }
    net.advance(5_100);
    net.assert_clean();
}

#[test]
fn from_one_far_router_to_another_it_goes_by_the_home_router() {
    let mut net = Net::new(3, |config| config.receivers_per_router = 1);
    let (publisher, _) = net.publish("live", &[h264()]);
    let peers: Vec<Peer> = (0..3).map(|_| viewer(&mut net)).collect();
    assert!(net.workers.iter().all(|worker| worker.routers.len() == 1));
    let chat = speaker(&mut net, &peers[1]);
    let mut events = peers[2].events();
    let hears = listen(&mut net, &peers[2], chat);
    say(&mut net, &peers[1], chat, "over");
    assert_eq!(told(&mut events), [heard(hears, "over")]);
    net.run(peers[2].close_data_consumer(hears)).expect("closed");
    net.pump();
    assert!(net.workers[0].data_producers.is_empty(), "nobody needs the copy on the home router either");
    let hears = listen(&mut net, &peers[2], chat);
    net.leave(&peers[1]);
    net.flow();
    assert_eq!(told(&mut events), [PeerEvent::DataConsumerClosed(hears)]);
    net.leave(&peers[2]);
    net.leave(&peers[0]);
    net.leave(&publisher);
    net.assert_clean();
}

#[test]
fn what_is_not_ones_own_is_refused_and_everything_is_bounded() {
    let mut net = Net::new(1, |config| {
        config.max_data_producers_per_peer = 2;
        config.max_data_consumers_per_peer = 1;
        config.max_data_label_bytes = 4;
    });
    let (alice, from_alice) = join(&mut net, "alice");
    let (bob, to_bob) = join(&mut net, "bob");
    let chat = produce(&mut net, &alice, from_alice, 0);
    let not_allowed = |result: Result<(), ControlError>| {
        assert!(matches!(result, Err(ControlError::NotAllowed(_))), "{result:?}");
    };
    not_allowed(net.run(bob.close_data_producer(chat)));
    not_allowed(net.run(bob.pause_data_producer(chat)));
    not_allowed(net.run(bob.send_data(chat, &DataMessage::text("as alice"))));
    not_allowed(net.run(bob.consume_data(from_alice, chat)).map(drop));
    not_allowed(net.run(bob.consume_data(to_bob, DataProducerId(9_999))).map(drop));
    not_allowed(net.run(alice.produce_direct_data("label".into(), String::new(), json!({}))).map(drop));
    let consumed = net.run(bob.consume_data(to_bob, chat)).expect("a data consumer");
    not_allowed(net.run(bob.consume_data(to_bob, chat)).map(drop));
    not_allowed(net.run(alice.close_data_consumer(consumed.id)));
    produce(&mut net, &alice, from_alice, 1);
    not_allowed(net.run(alice.produce_direct_data("c".into(), String::new(), json!({}))).map(drop));
    let spy = net.try_join(true, |join: &mut Join| (join.name, join.spy) = (None, true)).expect("let in");
    not_allowed(net.run(spy.produce_direct_data("c".into(), String::new(), json!({}))).map(drop));
    // Another room's are out of reach.
    let elsewhere = |join: &mut Join| join.room = RoomName::new("other", &[]).expect("a name");
    let stranger = net.try_join(true, elsewhere).expect("let in");
    not_allowed(net.run(stranger.consume_direct_data(chat)).map(drop));
    net.leave(&stranger);
    // A refusal leaves nothing behind.
    net.workers[0].refuse = Some(Method::XTransportConsumeData);
    net.run(bob.close_data_consumer(consumed.id)).expect("closed");
    assert!(net.run(bob.consume_data(to_bob, chat)).is_err());
    net.workers[0].refuse = None;
    net.workers[0].refusals.clear();
    net.run(bob.consume_data(to_bob, chat)).expect("a data consumer");
    for peer in [&spy, &alice, &bob] {
        net.leave(peer);
    }
    net.assert_clean();
}

#[test]
fn a_lost_worker_takes_its_channels_along() {
    let mut net = Net::new(2, |config| config.receivers_per_router = 1);
    let (publisher, _) = net.publish("live", &[h264()]);
    let (near, far) = (viewer(&mut net), viewer(&mut net));
    let (from_near, from_far) = (speaker(&mut net, &near), speaker(&mut net, &far));
    let mut events = near.events();
    listen(&mut net, &far, from_near);
    let hears = listen(&mut net, &near, from_far);
    net.kill(1);
    net.pump();
    net.flow();
    assert!(net.closed(&far).is_some());
    assert_eq!(told(&mut events), [PeerEvent::DataConsumerClosed(hears)]);
    assert_eq!(net.workers[0].data_producers.keys().copied().collect::<Vec<_>>(), [from_near.0]);
    assert!(net.workers[0].data_consumers.is_empty());
    net.leave(&near);
    net.leave(&publisher);
    net.revive(1);
    net.assert_clean();
}

#[test]
fn who_receives_on_another_worker_hears_of_its_end_and_stays() {
    let mut net = Net::new(2, |config| config.consumers_per_router = 2);
    let (alice, tracks, by_alice) = net.member("alice", &[opus(), vp8()]);
    let (bob, _, by_bob) = net.member("bob", &[vp8()]);
    for (track, codec) in [(tracks[0], opus()), (tracks[1], vp8())] {
        net.take(&bob, by_bob, track, &[codec]).expect("a consumer");
    }
    let (eve, _, by_eve) = net.member("eve", &[opus()]);
    assert!(net.workers[1].transports.contains_key(&by_eve.0), "she receives there");
    let chat = speaker(&mut net, &alice);
    let mut events = eve.events();
    let far = net.run(eve.consume_data(by_eve, chat)).expect("a data consumer");
    let near = net.run(bob.consume_data(by_bob, chat)).expect("a data consumer");
    assert!(net.workers[1].data_consumers.contains_key(&far.id.0));
    assert!(net.workers[0].data_consumers.contains_key(&near.id.0));
    net.kill(1);
    net.pump();
    net.flow();
    assert!(net.closed(&eve).is_none());
    assert!(told(&mut events).contains(&PeerEvent::DataConsumerClosed(far.id)));
    assert_eq!(net.workers[0].data_consumers.keys().copied().collect::<Vec<_>>(), [near.id.0]);
    assert!(net.run(alice.consume_data(by_alice, chat)).is_ok());
    net.revive(1);
    for peer in [&alice, &bob, &eve] {
        net.leave(peer);
    }
    net.assert_clean();
}
