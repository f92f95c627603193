//! The v3 dialect, as mediasoup's demo speaks it: a stay step by step, and what can happen in between.

use serde_json::{Value, json};

use super::lab::{Lab, call, conn, consumed, peer, told_of_call, track, transport};
use crate::core::capabilities::Kind;
use crate::core::control::calls::CallState;
use crate::core::control::{DataConsumed, DataInfo, IceParameters, PeerEvent, PeerInfo, RoomEvent};
use crate::core::data::SctpStreamParameters;
use crate::core::id::{ConsumerId, DataConsumerId, DataProducerId, ProducerId, TransportId};
use crate::core::peer::{CloseReason, PeerKind};
use crate::core::room::RoomName;
use crate::core::session::DtlsRole;
use crate::rooms::error::Refusal;
use crate::rooms::session::asks::{Answer, Ask};
use crate::rooms::session::v3::V3;

/// The parameters with which a browser sends VP8 in three layers.
fn sent_vp8() -> Value {
    json!({"mid": "0", "codecs": [
        {"mimeType": "video/VP8", "clockRate": 90000, "payloadType": 96, "parameters": {}},
        {"mimeType": "video/rtx", "clockRate": 90000, "payloadType": 97, "parameters": {"apt": 96}},
    ], "headerExtensions": [{"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 9, "encrypt": false, "parameters": {}}],
    "encodings": [{"rid": "q", "active": true}, {"rid": "h", "active": true}, {"rid": "f", "active": true}],
    "rtcp": {"cname": "", "reducedSize": true}})
}

fn alice() -> Vec<RoomEvent> {
    let info = PeerInfo { display_name: Some("Alice A.".into()), ..peer(2, "alice", PeerKind::Room) };
    vec![
        RoomEvent::PeerJoined(info),
        RoomEvent::TrackAdded(track(2, 21, "audio/opus")),
        RoomEvent::TrackAdded(track(2, 22, "video/VP8")),
    ]
}

fn channel(number: u128, id: u32) -> DataInfo {
    let parameters: SctpStreamParameters =
        serde_json::from_value(json!({"streamId": 3, "ordered": true})).expect("parameters");
    DataInfo {
        conn: conn(number),
        id: DataProducerId(id),
        parameters: Some(parameters),
        label: "chat".into(),
        protocol: String::new(),
        app_data: Value::Null,
    }
}

/// Makes a transport, the first of which takes the client into a room in which `there` happened before.
fn make_transport(lab: &mut Lab<V3>, made: u32, consuming: bool, there: Option<Vec<RoomEvent>>) -> Value {
    let data =
        json!({"producing": !consuming, "consuming": consuming, "sctpCapabilities": {"numStreams": {}}});
    let id = lab.raw_request("createWebRtcTransport", data);
    if let Some(there) = there {
        let (ask, Ask::Join(entry)) = lab.ask() else { panic!("no join") };
        assert!(!entry.announced && !entry.spy);
        there.into_iter().for_each(|event| lab.event(event));
        lab.answer(ask, Ok(Answer::Joined(conn(1))));
    }
    let (ask, Ask::CreateTransport(options)) = lab.ask() else { panic!("no transport") };
    assert!(options.enable_sctp && options.udp);
    lab.answer(ask, Ok(Answer::Transport(transport(made))));
    lab.response(id).expect("a transport")
}

/// A client with both transports that has joined.
fn joined(there: Vec<RoomEvent>) -> Lab<V3> {
    let mut lab = Lab::v3("bob", true);
    let capabilities = lab.query("getRouterRtpCapabilities", json!({})).expect("capabilities");
    make_transport(&mut lab, 1, false, Some(there));
    make_transport(&mut lab, 2, true, None);
    let data = json!({"displayName": "Bob", "device": {"flag": "chrome"}, "rtpCapabilities": capabilities,
        "sctpCapabilities": {"numStreams": {"OS": 1024, "MIS": 1024}}});
    let id = lab.raw_request("join", data);
    let (ask, Ask::Announce(name, app_data)) = lab.ask() else { panic!("not announced") };
    assert_eq!((name.as_deref(), &app_data["device"]["flag"]), (Some("Bob"), &json!("chrome")));
    lab.answer(ask, Ok(Answer::Done));
    lab.response(id).expect("joined");
    lab
}

/// The room has made the consumer that was asked for next; answers what the client is told.
fn consume(lab: &mut Lab<V3>, made: u32) -> (u64, Value) {
    let (ask, Ask::Consume { transport: TransportId(2), rtp, paused: true, .. }) = lab.ask() else {
        panic!("not consumed")
    };
    lab.answer(ask, Ok(Answer::Consumed(Box::new(consumed(made, rtp)))));
    let (id, method, data) = lab.requested();
    assert_eq!(method, "newConsumer");
    (id, data)
}

#[test]
fn a_stay_step_by_step() {
    let mut lab = Lab::v3("bob", true);
    let capabilities = lab.query("getRouterRtpCapabilities", json!({})).expect("capabilities");
    assert_eq!(capabilities["codecs"][0]["mimeType"], "audio/opus");
    let made = make_transport(&mut lab, 1, false, Some(alice()));
    assert_eq!((&made["id"], &made["dtlsParameters"]["role"]), (&json!("1"), &json!("auto")));
    assert_eq!(made["iceParameters"]["usernameFragment"], "u");
    make_transport(&mut lab, 2, true, None);
    lab.quiet();
    let data = json!({"displayName": "Bob", "device": {"flag": "chrome"}, "rtpCapabilities": capabilities});
    let id = lab.raw_request("join", data);
    assert!(matches!(lab.done(), Ask::Announce(..)));
    let peers = lab.response(id).expect("joined")["peers"].clone();
    assert_eq!(
        peers,
        json!([{"id": "alice", "displayName": "Alice A.",
        "device": {"flag": "room", "name": "room client", "version": ""}}])
    );
    // A consumer for each of her tracks, which flows once the client knows it.
    let mut requested = Vec::new();
    for (made, kind, mid) in [(31, "audio", "0"), (32, "video", "1")] {
        let (ask, Ask::Consume { transport: TransportId(2), track, rtp, paused: true }) = lab.ask() else {
            panic!("not consumed")
        };
        let mut consumed = consumed(made, rtp);
        consumed.kind = if kind == "audio" { Kind::Audio } else { Kind::Video };
        lab.answer(ask, Ok(Answer::Consumed(Box::new(consumed))));
        let (id, method, told) = lab.requested();
        assert_eq!(
            (method.as_str(), &told["peerId"], &told["kind"]),
            ("newConsumer", &json!("alice"), &json!(kind))
        );
        assert_eq!((&told["producerId"], &told["id"]), (&json!(track.to_string()), &json!(made.to_string())));
        assert_eq!((&told["rtpParameters"]["mid"], &told["type"]), (&json!(mid), &json!("simple")));
        requested.push((id, made));
    }
    lab.quiet();
    for (id, made) in requested {
        lab.accept(id);
        assert!(matches!(lab.done(), Ask::ResumeConsumer(ConsumerId(id)) if id == made));
    }
    lab.quiet();
    // Sending.
    let dtls = json!({"role": "client", "fingerprints": [{"algorithm": "sha-256", "value": "AA:BB"}]});
    let id = lab.raw_request("connectWebRtcTransport", json!({"transportId": "1", "dtlsParameters": dtls}));
    let (ask, Ask::ConnectTransport(TransportId(1), DtlsRole::Client, _)) = lab.ask() else {
        panic!("not connected")
    };
    lab.answer(ask, Ok(Answer::Role(DtlsRole::Server)));
    assert_eq!(lab.response(id).expect("connected"), json!({}));
    let data = json!({"transportId": "1", "kind": "video", "rtpParameters": sent_vp8(), "appData": {"source": "cam"}});
    let id = lab.raw_request("produce", data);
    let (ask, Ask::Produce(TransportId(1), track)) = lab.ask() else { panic!("not produced") };
    assert_eq!((track.rtp.mux_id.as_deref(), track.rtp.encodings.len()), (Some("0"), 3));
    assert_eq!(track.app_data, json!({"source": "cam"}));
    lab.answer(ask, Ok(Answer::Producer(ProducerId(41))));
    assert_eq!(lab.response(id).expect("produced"), json!({"id": "41"}));
    let id = lab.raw_request("pauseProducer", json!({"producerId": "41"}));
    assert!(matches!(lab.done(), Ask::PauseProducer(ProducerId(41))));
    lab.response(id).expect("paused");
}

#[test]
fn what_happens_in_the_room_is_told() {
    let mut lab = joined(Vec::new());
    for event in alice() {
        lab.event(event);
    }
    let (method, data) = lab.note();
    assert_eq!((method.as_str(), &data["id"]), ("newPeer", &json!("alice")));
    let (first, told) = consume(&mut lab, 31);
    assert_eq!(told["kind"], "video", "as the room says");
    let (second, _) = consume(&mut lab, 32);
    lab.accept(first);
    lab.accept(second);
    lab.asked.clear();
    lab.own(PeerEvent::ConsumerPaused { consumer: ConsumerId(31) });
    assert_eq!(lab.note(), ("consumerPaused".into(), json!({"consumerId": "31"})));
    lab.own(PeerEvent::LayersChanged { consumer: ConsumerId(32), layers: Some((2, Some(1))) });
    let layers = json!({"consumerId": "32", "spatialLayer": 2, "temporalLayer": 1});
    assert_eq!(lab.note(), ("consumerLayersChanged".into(), layers));
    lab.event(RoomEvent::ActiveSpeaker(Some((conn(2), ProducerId(21)))));
    assert_eq!(lab.note(), ("activeSpeaker".into(), json!({"peerId": "alice"})));
    lab.event(RoomEvent::PeerChanged(PeerInfo {
        display_name: Some("Al".into()),
        ..peer(2, "alice", PeerKind::Room)
    }));
    let name = json!({"peerId": "alice", "displayName": "Al", "oldDisplayName": "Alice A."});
    assert_eq!(lab.note(), ("peerDisplayNameChanged".into(), name));
    lab.event(call(2, CallState::Ringing));
    assert_eq!(lab.note(), ("callState".into(), told_of_call("peerId", "alice", "ringing")));
    let room = RoomName::new("elsewhere", &[]).expect("a name");
    lab.own(PeerEvent::Moved { room });
    assert_eq!(lab.note(), ("moved".into(), json!({"roomId": "elsewhere"})));
    // A consumer that ended is not asked for again while its track is still there.
    let reason = CloseReason::left();
    lab.own(PeerEvent::ConsumerClosed { consumer: ConsumerId(31), reason: reason.clone() });
    assert_eq!(lab.note(), ("consumerClosed".into(), json!({"consumerId": "31"})));
    lab.event(RoomEvent::TrackRemoved { conn: conn(2), producer: ProducerId(21) });
    lab.event(RoomEvent::PeerLeft { conn: conn(2), reason });
    assert_eq!(lab.note(), ("peerClosed".into(), json!({"peerId": "alice"})));
    lab.quiet();
}

#[test]
fn a_client_that_does_not_take_a_consumer_or_pauses_it_gets_nothing_of_it() {
    let mut lab = joined(alice());
    let (first, _) = consume(&mut lab, 31);
    let (second, _) = consume(&mut lab, 32);
    let pause = lab.raw_request("pauseConsumer", json!({"consumerId": "31"}));
    assert!(matches!(lab.done(), Ask::PauseConsumer(ConsumerId(31))));
    lab.response(pause).expect("paused");
    lab.accept(first);
    lab.text(&json!({"response": true, "id": second, "errorCode": 400, "errorReason": "no"}).to_string());
    assert!(matches!(lab.done(), Ask::CloseConsumer(ConsumerId(32))));
    lab.quiet();
    let resume = lab.raw_request("resumeConsumer", json!({"consumerId": "31"}));
    assert!(matches!(lab.done(), Ask::ResumeConsumer(ConsumerId(31))));
    lab.response(resume).expect("resumed");
    assert_eq!(lab.query("pauseConsumer", json!({"consumerId": "32"})).expect_err("gone").code, 404);
}

#[test]
fn who_speaks_is_told_to_who_comes_later_and_of_the_client_itself() {
    let mut there = vec![RoomEvent::PeerJoined(peer(2, "alice", PeerKind::Room))];
    there.push(RoomEvent::ActiveSpeaker(Some((conn(2), ProducerId(21)))));
    let mut lab = joined(there);
    let speaks = |name: Value| ("activeSpeaker".to_owned(), json!({ "peerId": name }));
    assert_eq!(lab.note(), speaks(json!("alice")));
    lab.event(RoomEvent::ActiveSpeaker(Some((conn(1), ProducerId(11)))));
    assert_eq!(lab.note(), speaks(json!("bob")));
    lab.event(RoomEvent::ActiveSpeaker(None));
    assert_eq!(lab.note(), speaks(Value::Null));
    lab.quiet();
}

#[test]
fn what_counts_more_and_how_well_it_gets_through() {
    let mut lab = joined(alice());
    let (first, _) = consume(&mut lab, 31);
    consume(&mut lab, 32);
    lab.accept(first);
    lab.asked.clear();
    let prefer = lab.raw_request("setConsumerPriority", json!({"consumerId": "32", "priority": 255}));
    let set = lab.done();
    assert!(matches!(set, Ask::SetPriority(ConsumerId(32), priority) if priority.get() == 255), "{set:?}");
    lab.response(prefer).expect("set");
    for (data, code) in [
        (json!({"consumerId": "32", "priority": 0}), 400),
        (json!({"consumerId": "32", "priority": 256}), 400),
        (json!({"consumerId": "9", "priority": 1}), 404),
    ] {
        assert_eq!(lab.query("setConsumerPriority", data.clone()).expect_err("refused").code, code, "{data}");
    }
    let scores = json!([{"encodingIdx": 0, "ssrc": 5, "score": 7}]);
    lab.own(PeerEvent::ProducerScore { producer: ProducerId(11), score: json!({ "scores": scores }) });
    assert_eq!(lab.note(), ("producerScore".into(), json!({"producerId": "11", "score": scores})));
    lab.quiet();
}

#[test]
fn channels_of_data_go_both_ways() {
    let mut lab = joined(vec![
        RoomEvent::PeerJoined(peer(2, "alice", PeerKind::Room)),
        RoomEvent::DataAdded(channel(2, 51)),
    ]);
    let (ask, Ask::ConsumeData(TransportId(2), DataProducerId(51))) = lab.ask() else {
        panic!("not consumed")
    };
    let made = DataConsumed {
        id: DataConsumerId(61),
        data_producer_id: DataProducerId(51),
        sctp_stream_parameters: channel(2, 51).parameters,
        label: "chat".into(),
        protocol: String::new(),
        app_data: Value::Null,
    };
    lab.answer(ask, Ok(Answer::DataConsumed(Box::new(made))));
    let (id, method, told) = lab.requested();
    assert_eq!(
        (method.as_str(), &told["peerId"], &told["label"]),
        ("newDataConsumer", &json!("alice"), &json!("chat"))
    );
    assert_eq!(told["sctpStreamParameters"]["streamId"], 3);
    lab.accept(id);
    let data = json!({"transportId": "1", "sctpStreamParameters": {"streamId": 0, "ordered": true}, "label": "chat",
        "protocol": "", "appData": {}});
    let id = lab.raw_request("produceData", data);
    let (ask, Ask::ProduceData { transport: TransportId(1), label, .. }) = lab.ask() else {
        panic!("not produced")
    };
    assert_eq!(label, "chat");
    lab.answer(ask, Ok(Answer::DataProducer(DataProducerId(71))));
    assert_eq!(lab.response(id).expect("produced"), json!({"id": "71"}));
    lab.event(RoomEvent::DataRemoved { conn: conn(2), data_producer: DataProducerId(51) });
    lab.own(PeerEvent::DataConsumerClosed(DataConsumerId(61)));
    assert_eq!(lab.note(), ("dataConsumerClosed".into(), json!({"dataConsumerId": "61"})));
    lab.quiet();
}

#[test]
fn requests_wait_for_the_place_in_the_room_and_share_its_refusal() {
    let mut lab = Lab::v3("bob", true);
    let first = lab.raw_request("createWebRtcTransport", json!({"producing": true}));
    let second = lab.raw_request("createWebRtcTransport", json!({"consuming": true}));
    let (ask, Ask::Join(_)) = lab.ask() else { panic!("no join") };
    lab.quiet();
    lab.answer(ask, Err(Refusal::new(503, "full")));
    for id in [first, second] {
        assert_eq!(lab.response(id).expect_err("refused").code, 503);
    }
    // It may try again.
    lab.raw_request("createWebRtcTransport", json!({}));
    assert!(matches!(lab.ask().1, Ask::Join(_)));
}

#[test]
fn who_has_a_place_and_does_not_join_is_sent_away() {
    let mut lab = Lab::v3("bob", true);
    make_transport(&mut lab, 1, false, Some(Vec::new()));
    lab.pass(59_000);
    assert!(lab.closed.is_none());
    lab.pass(2_000);
    assert!(lab.closed.is_some());
}

#[test]
fn what_is_wrong_is_refused_in_words() {
    let mut lab = Lab::v3("bob", false);
    assert_eq!(lab.query("produce", json!({})).expect_err("may not").code, 403);
    let mut lab = Lab::v3("bob", true);
    for method in ["produce", "connectWebRtcTransport", "restartIce", "pauseConsumer", "changeDisplayName"] {
        assert_eq!(lab.query(method, json!({})).expect_err(method).code, 409, "{method} outside");
    }
    let mut lab = joined(Vec::new());
    for (method, data, code) in [
        ("explode", json!({}), 400),
        ("restartIce", json!({"transportId": "9"}), 404),
        ("restartIce", json!({"transportId": 1}), 400),
        ("restartIce", json!({"transportId": "x"}), 400),
        ("pauseProducer", json!({"producerId": "9"}), 404),
        ("getDataConsumerStats", json!({"dataConsumerId": "9"}), 404),
        ("changeDisplayName", json!({"displayName": ""}), 400),
        ("join", json!({"displayName": "Bob"}), 409),
        ("produce", json!({"transportId": "1", "kind": "audio", "rtpParameters": sent_vp8()}), 400),
    ] {
        assert_eq!(lab.query(method, data.clone()).expect_err(method).code, code, "{method} {data}");
    }
    lab.quiet();
}

#[test]
fn ice_is_restarted_and_what_others_end_is_told() {
    let mut lab = joined(Vec::new());
    let id = lab.raw_request("restartIce", json!({"transportId": "1"}));
    let (ask, Ask::RestartIce(TransportId(1))) = lab.ask() else { panic!("no restart") };
    let ice = IceParameters { username_fragment: "v".into(), password: "q".into(), ice_lite: true };
    lab.answer(ask, Ok(Answer::Ice(ice)));
    assert_eq!(lab.response(id).expect("restarted")["usernameFragment"], "v");
    let reason = CloseReason::new("error", "gone");
    lab.own(PeerEvent::TransportClosed { transport: TransportId(2), reason });
    assert_eq!(lab.note(), ("transportClosed".into(), json!({"transportId": "2", "reason": "gone"})));
    // What comes now has no way to the client.
    alice().into_iter().for_each(|event| lab.event(event));
    assert_eq!(lab.note().0, "newPeer");
    lab.quiet();
}
