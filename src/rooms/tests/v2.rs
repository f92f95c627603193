//! The v2 protocol, as its client speaks it: the call of the protocol's description step by step, and what can
//! happen in between.

use serde_json::{Value, json};

use super::lab::{Lab, call, conn, consumed, dtls, peer, sent_vp8, told_of_call, track, transport};
use crate::core::capabilities::Kind;
use crate::core::control::calls::CallState;
use crate::core::control::{IceParameters, PeerEvent, PeerInfo, RoomEvent};
use crate::core::id::{ConsumerId, ProducerId, TransportId};
use crate::core::peer::{CloseReason, PeerKind};
use crate::core::profile::Profile;
use crate::core::room::RoomName;
use crate::core::session::DtlsRole;
use crate::rooms::Config;
use crate::rooms::error::Refusal;
use crate::rooms::session::asks::{Answer, Ask};

/// Alice, with sound and picture.
fn alice() -> Vec<RoomEvent> {
    let info = PeerInfo { app_data: json!({"displayName": "Alice"}), ..peer(2, "alice", PeerKind::RoomV2) };
    vec![
        RoomEvent::PeerJoined(info),
        RoomEvent::TrackAdded(track(2, 21, "audio/opus")),
        RoomEvent::TrackAdded(track(2, 22, "video/VP8")),
    ]
}

fn left(number: u128) -> RoomEvent {
    RoomEvent::PeerLeft { conn: conn(number), reason: CloseReason::left() }
}

#[test]
fn a_call_step_by_step() {
    let mut lab = Lab::new();
    // 1: who is there.
    let joined = lab.join("bob", alice());
    let peers = joined["peers"].as_array().expect("peers").clone();
    assert_eq!((peers.len(), &peers[0]["name"]), (1, &json!("alice")));
    assert_eq!(peers[0]["appData"], json!({"displayName": "Alice"}));
    let consumers = peers[0]["consumers"].as_array().expect("consumers").clone();
    let kinds: Vec<_> = consumers.iter().map(|consumer| consumer["kind"].clone()).collect();
    assert_eq!(kinds, ["audio", "video"]);
    let video = &consumers[1];
    assert_eq!((&video["peerName"], &video["paused"]), (&json!("alice"), &json!(false)));
    assert_eq!(video["appData"], json!({"source": "test"}));
    let rtp = &video["rtpParameters"];
    assert_eq!((&rtp["codecs"][0]["name"], &rtp["codecs"][0]["payloadType"]), (&json!("VP8"), &json!(101)));
    assert_eq!(rtp["codecs"][1]["parameters"]["apt"], 101);
    assert!(rtp["encodings"][0]["rtx"]["ssrc"].is_u64());
    // 2: sending; we begin DTLS.
    let made = lab.send_transport(11, 1);
    assert_eq!(made["dtlsParameters"]["role"], "client");
    assert_eq!(made["iceParameters"]["iceLite"], true);
    let data = json!({"id": 12, "kind": "video", "transportId": 11, "rtpParameters": sent_vp8(), "paused": false,
        "appData": {"camera": 1}});
    let request = lab.request("createProducer", data);
    let (ask, Ask::Produce(TransportId(1), produce)) = lab.ask() else { panic!("not produced") };
    assert_eq!(
        (produce.kind, produce.paused, &produce.app_data),
        (Kind::Video, false, &json!({"camera": 1}))
    );
    assert_eq!(produce.rtp.codecs[0].payload_type, 96, "the client's own numbers stay");
    lab.answer(ask, Ok(Answer::Producer(ProducerId(31))));
    assert_eq!(lab.response(request), Ok(json!({})));
    // 3: receiving; the client's certificate comes later, and the consumer right behind it.
    let made = lab.recv_transport(13, 2);
    assert_eq!(made["dtlsParameters"]["role"], "auto");
    lab.notify("updateTransport", json!({"id": 13, "dtlsParameters": dtls("client")}));
    let (ask, Ask::ConnectTransport(TransportId(2), DtlsRole::Client, _)) = lab.ask() else {
        panic!("not connected")
    };
    let enabled = lab.enable(video, 13, 42);
    lab.answer(ask, Ok(Answer::Role(DtlsRole::Server)));
    assert_eq!(enabled, json!({"paused": false, "preferredProfile": "default", "effectiveProfile": null}));
    lab.own(PeerEvent::EffectiveProfile { consumer: ConsumerId(42), profile: Profile::Default });
    let (method, data) = lab.told();
    assert_eq!(method, "consumerEffectiveProfileChanged");
    assert_eq!(data, json!({"id": video["id"], "peerName": "alice", "profile": "default"}));
    // 4: others come and go.
    lab.event(RoomEvent::PeerJoined(peer(3, "carol", PeerKind::RoomV2)));
    let (method, data) = lab.told();
    assert_eq!(
        (method.as_str(), &data["name"], &data["consumers"]),
        ("newPeer", &json!("carol"), &json!([]))
    );
    lab.event(RoomEvent::TrackAdded(track(3, 33, "audio/opus")));
    let (method, data) = lab.told();
    assert_eq!(
        (method.as_str(), &data["kind"], &data["peerName"]),
        ("newConsumer", &json!("audio"), &json!("carol"))
    );
    lab.event(left(3));
    assert_eq!(lab.told(), ("peerClosed".into(), json!({"name": "carol"})));
    lab.event(RoomEvent::TrackRemoved { conn: conn(2), producer: ProducerId(22) });
    assert_eq!(lab.told(), ("consumerClosed".into(), json!({"id": video["id"], "peerName": "alice"})));
    lab.quiet();
}

#[test]
fn joining_is_refused_for_what_is_wrong_with_it() {
    let mut lab = Lab::new();
    let capabilities = lab.ok("queryRoom", json!({}))["rtpCapabilities"].clone();
    assert_eq!(lab.ok("queryRoom", json!({}))["mandatoryCodecPayloadTypes"], json!([]));
    let join = |name: Value, capabilities: &Value| json!({"peerName": name, "rtpCapabilities": capabilities});
    assert_eq!(lab.refused("join", join(json!(""), &capabilities)), 400);
    assert_eq!(lab.refused("join", join(json!("a\nb"), &capabilities)), 400);
    assert_eq!(lab.refused("join", join(json!("x".repeat(65)), &capabilities)), 400);
    assert_eq!(lab.refused("join", join(json!(7), &capabilities)), 400);
    assert_eq!(lab.refused("join", join(json!("bob"), &json!(null))), 400);
    let mut foreign = capabilities.clone();
    foreign["codecs"][0]["preferredPayloadType"] = json!(77);
    assert_eq!(lab.refused("join", join(json!("bob"), &foreign)), 400);
    lab.quiet();
    let id = lab.request("join", join(json!("bob"), &capabilities));
    assert_eq!(lab.refused("join", join(json!("bob"), &capabilities)), 409, "while it is under way");
    let (ask, _) = lab.ask();
    lab.answer(ask, Err(Refusal::new(409, "taken")));
    assert_eq!(lab.response(id), Err(Refusal::new(409, "taken")));
    lab.join("bob", vec![]);
    assert_eq!(lab.refused("join", join(json!("bob"), &capabilities)), 409, "already in");
}

#[test]
fn nothing_works_outside_the_room_and_unknown_things_are_said_to_be() {
    let mut lab = Lab::new();
    for method in ["createTransport", "restartTransport", "createProducer", "enableConsumer"] {
        assert_eq!(lab.refused(method, json!({"id": 1})), 409, "{method}");
    }
    lab.notify("pauseProducer", json!({"id": 1}));
    let mut lab = Lab::joined(vec![]);
    assert_eq!(lab.refused("updateProducer", json!({"id": 1})), 400);
    assert_eq!(lab.refused("createTransport", json!({"id": "x", "direction": "send"})), 400);
    assert_eq!(lab.refused("createTransport", json!({"id": 1, "direction": "up"})), 400);
    assert_eq!(lab.refused("restartTransport", json!({"id": 1})), 404);
    assert_eq!(lab.refused("queryRoom", json!({"notification": true})), 400);
    let plain = json!({"id": 1, "direction": "recv", "plainRtpParameters": {"ip": "203.0.113.1", "port": 9}});
    assert_eq!(lab.refused("createTransport", plain), 403);
    let id = lab.raw_request("no-such-thing", json!({}));
    assert_eq!(lab.response(id).expect_err("unknown").code, 400);
    for method in
        ["updateTransport", "closeTransport", "closeProducer", "pauseConsumer", "updateProducer", "x"]
    {
        lab.notify(method, json!({"id": 999, "dtlsParameters": dtls("client")}));
    }
    lab.notify("enableTransportStats", json!({"id": 999}));
    lab.quiet();
}

#[test]
fn a_spy_or_a_viewer_may_not_send() {
    let mut lab = Lab::with(Config::default(), false);
    lab.join("bob", vec![]);
    let send = json!({"id": 1, "direction": "send", "dtlsParameters": dtls("server")});
    assert_eq!(lab.refused("createTransport", send.clone()), 403);
    lab.recv_transport(2, 2);
    let produce = json!({"id": 3, "kind": "video", "transportId": 2, "rtpParameters": sent_vp8()});
    assert_eq!(lab.refused("createProducer", produce), 400);

    let mut lab = Lab::new();
    let capabilities = lab.ok("queryRoom", json!({}))["rtpCapabilities"].clone();
    let id = lab.request("join", json!({"peerName": "eve", "rtpCapabilities": capabilities, "spy": true}));
    let (ask, Ask::Join(entry)) = lab.ask() else { panic!("no join") };
    assert!(entry.spy);
    lab.answer(ask, Ok(Answer::Joined(conn(1))));
    assert_eq!(lab.response(id), Ok(json!({"peers": []})));
    assert_eq!(lab.refused("createTransport", send), 403);
}

#[test]
fn other_doors_appear_as_peers_and_what_nobody_can_take_as_it_is_is_offered_converted() {
    let mut lab = Lab::joined(vec![]);
    lab.event(RoomEvent::PeerJoined(peer(2, "camera", PeerKind::Rtmp)));
    let (_, data) = lab.told();
    let device = json!({"flag": "rtmp", "name": "RTMP encoder", "version": ""});
    assert_eq!(data["appData"], json!({"displayName": "camera", "device": device}));
    lab.event(RoomEvent::TrackAdded(track(2, 21, "audio/mpeg4-generic")));
    let (_, data) = lab.told();
    assert_eq!(data["rtpParameters"]["codecs"][0]["name"], "opus");
    let whep = PeerInfo { publishes: false, ..peer(4, "live", PeerKind::Whep) };
    lab.event(RoomEvent::PeerJoined(whep));
    lab.event(left(4));
    lab.quiet();
}

#[test]
fn a_client_without_a_codec_still_hears_of_the_track() {
    let mut lab = Lab::new();
    let mut capabilities = lab.ok("queryRoom", json!({}))["rtpCapabilities"].clone();
    capabilities["codecs"].as_array_mut().expect("codecs").retain(|codec| codec["kind"] == "audio");
    let id = lab.request("join", json!({"peerName": "ear", "rtpCapabilities": capabilities}));
    let (ask, _) = lab.ask();
    alice().into_iter().for_each(|event| lab.event(event));
    lab.answer(ask, Ok(Answer::Joined(conn(1))));
    let peers = lab.response(id).expect("in");
    let video = peers["peers"][0]["consumers"][1].clone();
    assert_eq!(video["rtpParameters"]["codecs"], json!([]));
    lab.recv_transport(13, 2);
    assert_eq!(lab.refused("enableConsumer", json!({"id": video["id"], "transportId": 13})), 400);
}

#[test]
fn pauses_are_told_of_enabled_consumers_and_never_back_to_who_paused() {
    let mut lab = Lab::new();
    let joined = lab.join("bob", alice());
    let consumers = joined["peers"][0]["consumers"].clone();
    let (audio, video) = (&consumers[0], &consumers[1]);
    let paused = |producer: u32, mime: &str, paused| {
        let mut track = track(2, producer, mime);
        track.paused = paused;
        RoomEvent::TrackChanged(track)
    };
    lab.event(paused(22, "video/VP8", true));
    lab.quiet();
    lab.recv_transport(13, 2);
    let enabled = lab.enable(video, 13, 42);
    assert_eq!(enabled["paused"], true, "the response says how things are");
    lab.event(paused(22, "video/VP8", false));
    assert_eq!(lab.told(), ("consumerResumed".into(), json!({"id": video["id"], "peerName": "alice"})));
    lab.enable(audio, 13, 43);
    lab.event(paused(21, "audio/opus", true));
    assert_eq!(lab.told(), ("consumerPaused".into(), json!({"id": audio["id"], "peerName": "alice"})));
    lab.event(paused(21, "audio/opus", true));
    lab.quiet();
    lab.notify("pauseConsumer", json!({"id": video["id"]}));
    assert!(matches!(lab.done(), Ask::PauseConsumer(ConsumerId(42))));
    lab.notify("pauseConsumer", json!({"id": video["id"]}));
    lab.notify("resumeConsumer", json!({"id": video["id"]}));
    assert!(matches!(lab.done(), Ask::ResumeConsumer(ConsumerId(42))));
    lab.quiet();
}

#[test]
fn a_pause_while_a_consumer_is_being_made_is_not_lost() {
    let mut lab = Lab::new();
    let joined = lab.join("bob", alice());
    let video = joined["peers"][0]["consumers"][1].clone();
    lab.recv_transport(13, 2);
    let data = json!({"id": video["id"], "transportId": 13, "paused": false, "preferredProfile": "low"});
    let request = lab.request("enableConsumer", data.clone());
    assert_eq!(lab.refused("enableConsumer", data), 409);
    let (ask, Ask::Consume { rtp, paused: false, .. }) = lab.ask() else { panic!("not consumed") };
    lab.notify("pauseConsumer", json!({"id": video["id"]}));
    lab.quiet();
    lab.answer(ask, Ok(Answer::Consumed(Box::new(consumed(42, rtp)))));
    assert_eq!(lab.response(request).expect("enabled")["preferredProfile"], "low");
    assert!(matches!(lab.done(), Ask::PauseConsumer(ConsumerId(42))));
    assert!(matches!(lab.done(), Ask::PreferProfile(ConsumerId(42), Profile::Low)));
}

#[test]
fn a_track_is_paused_while_either_side_says_so() {
    let mut lab = Lab::joined(vec![]);
    lab.send_transport(11, 1);
    let data =
        json!({"id": 12, "kind": "video", "transportId": 11, "rtpParameters": sent_vp8(), "paused": false});
    let request = lab.request("createProducer", data);
    lab.notify("pauseProducer", json!({"id": 12}));
    let (ask, _) = lab.ask();
    lab.answer(ask, Ok(Answer::Producer(ProducerId(31))));
    lab.response(request).expect("made");
    assert!(matches!(lab.done(), Ask::PauseProducer(ProducerId(31))), "said before it stood");
    lab.own(PeerEvent::ProducerPaused { producer: ProducerId(31) });
    assert_eq!(lab.told(), ("producerPaused".into(), json!({"id": 12, "peerName": "bob"})));
    lab.notify("resumeProducer", json!({"id": 12}));
    lab.quiet();
    lab.own(PeerEvent::ProducerResumed { producer: ProducerId(31) });
    assert_eq!(lab.told(), ("producerResumed".into(), json!({"id": 12, "peerName": "bob"})));
    lab.quiet();
    let room = RoomName::new("elsewhere", &[]).expect("a name");
    lab.own(PeerEvent::Moved { room });
    assert_eq!(lab.note(), ("moved".into(), json!({"roomId": "elsewhere"})));
    lab.own(PeerEvent::ProducerClosed { producer: ProducerId(31), reason: CloseReason::left() });
    assert_eq!(lab.told(), ("producerClosed".into(), json!({"id": 12, "peerName": "bob"})));
    lab.notify("closeProducer", json!({"id": 12}));
    lab.quiet();
}

#[test]
fn a_transport_takes_its_tracks_with_it_and_frees_its_consumers() {
    let mut lab = Lab::new();
    let joined = lab.join("bob", alice());
    let video = joined["peers"][0]["consumers"][1].clone();
    lab.recv_transport(13, 2);
    lab.enable(&video, 13, 42);
    lab.own(PeerEvent::TransportClosed { transport: TransportId(2), reason: CloseReason::left() });
    assert_eq!(lab.told(), ("transportClosed".into(), json!({"id": 13})));
    // The client makes it again under the same id.
    lab.recv_transport(13, 3);
    lab.enable(&video, 13, 43);
    lab.notify("closeTransport", json!({"id": 13}));
    assert!(matches!(lab.done(), Ask::CloseTransport(TransportId(3))));
    assert_eq!(lab.refused("enableConsumer", json!({"id": video["id"], "transportId": 13})), 404);
    lab.quiet();
}

#[test]
fn what_is_closed_while_it_is_made_is_closed_when_it_stands() {
    let mut lab = Lab::joined(vec![]);
    let request = lab.request("createTransport", json!({"id": 11, "direction": "recv"}));
    lab.notify("closeTransport", json!({"id": 11}));
    let (ask, _) = lab.ask();
    lab.answer(ask, Ok(Answer::Transport(transport(1))));
    assert!(matches!(lab.done(), Ask::CloseTransport(TransportId(1))));
    assert_eq!(lab.response(request).expect_err("closed").code, 410);
    lab.send_transport(12, 2);
    let data = json!({"id": 14, "kind": "video", "transportId": 12, "rtpParameters": sent_vp8()});
    let request = lab.request("createProducer", data);
    lab.notify("closeTransport", json!({"id": 12}));
    let (ask, _) = lab.ask();
    assert!(matches!(lab.done(), Ask::CloseTransport(TransportId(2))));
    lab.answer(ask, Err(Refusal::new(403, "that is no transport of this peer")));
    assert_eq!(lab.response(request).expect_err("closed").code, 403);
    lab.quiet();
}

#[test]
fn wrong_certificates_close_a_transport() {
    let mut lab = Lab::joined(vec![]);
    lab.recv_transport(13, 2);
    lab.notify("updateTransport", json!({"id": 13, "dtlsParameters": dtls("client")}));
    let (ask, _) = lab.ask();
    lab.answer(ask, Err(Refusal::bad("unsupported fingerprint")));
    assert_eq!(lab.told(), ("transportClosed".into(), json!({"id": 13})));
    assert!(matches!(lab.done(), Ask::CloseTransport(TransportId(2))));
}

#[test]
fn ice_is_restarted_with_new_credentials() {
    let mut lab = Lab::joined(vec![]);
    lab.recv_transport(13, 2);
    let request = lab.request("restartTransport", json!({"id": 13}));
    let (ask, Ask::RestartIce(TransportId(2))) = lab.ask() else { panic!("not restarted") };
    let ice = IceParameters { username_fragment: "new".into(), password: "pwd".into(), ice_lite: true };
    lab.answer(ask, Ok(Answer::Ice(ice)));
    let ice = json!({"usernameFragment": "new", "password": "pwd", "iceLite": true});
    assert_eq!(lab.response(request), Ok(json!({"iceParameters": ice})));
}

#[test]
fn profiles_are_preferred_without_an_echo_except_to_the_application() {
    let mut lab = Lab::new();
    let joined = lab.join("bob", alice());
    let id = joined["peers"][0]["consumers"][1]["id"].clone();
    lab.recv_transport(13, 2);
    lab.enable(&joined["peers"][0]["consumers"][1], 13, 42);
    lab.notify("setConsumerPreferredProfile", json!({"id": id, "profile": "high"}));
    assert!(matches!(lab.done(), Ask::PreferProfile(ConsumerId(42), Profile::High)));
    lab.notify("setConsumerPreferredProfile", json!({"id": id, "profile": "none"}));
    lab.notify("setConsumerPreferredProfile", json!({"id": id, "profile": "ultra"}));
    lab.quiet();
    let data = json!({"consumerId": id, "profile": "low"});
    let request = lab.raw_request("change-consumer-preferred-profile", data);
    assert!(matches!(lab.done(), Ask::PreferProfile(ConsumerId(42), Profile::Low)));
    let set = json!({"id": id, "peerName": "alice", "profile": "low"});
    assert_eq!(lab.told(), ("consumerPreferredProfileSet".into(), set));
    assert_eq!(lab.response(request), Ok(json!({})));
    let request = lab.raw_request("request-consumer-keyframe", json!({"consumerId": id}));
    assert!(matches!(lab.done(), Ask::RequestKeyframe(ConsumerId(42))));
    assert_eq!(lab.response(request), Ok(json!({})));
}

#[test]
fn statistics_come_at_their_interval_and_not_of_what_is_paused() {
    let mut lab = Lab::new();
    let joined = lab.join("bob", alice());
    let video = joined["peers"][0]["consumers"][1].clone();
    lab.recv_transport(13, 2);
    lab.notify("enableTransportStats", json!({"id": 13, "interval": 1}));
    lab.notify("enableConsumerStats", json!({"id": video["id"], "interval": 2500}));
    lab.pass(999);
    lab.quiet();
    lab.pass(1);
    let (ask, Ask::TransportStats(TransportId(2))) = lab.ask() else { panic!("not asked") };
    lab.pass(1_000);
    lab.quiet();
    lab.answer(ask, Ok(Answer::Value(json!([{"type": "transport"}]))));
    let stats = json!({"id": 13, "stats": [{"type": "transport"}]});
    assert_eq!(lab.told(), ("transportStats".into(), stats));
    lab.notify("disableTransportStats", json!({"id": 13}));
    lab.pass(500);
    lab.quiet();
    lab.enable(&video, 13, 42);
    lab.pass(2_500);
    let (ask, Ask::ConsumerStats(ConsumerId(42))) = lab.ask() else { panic!("not asked") };
    lab.answer(ask, Ok(Answer::Value(json!([]))));
    let stats = json!({"id": video["id"], "peerName": "alice", "stats": []});
    assert_eq!(lab.told(), ("consumerStats".into(), stats));
    lab.notify("pauseConsumer", json!({"id": video["id"]}));
    lab.done();
    lab.pass(2_500);
    lab.quiet();
}

#[test]
fn subscriptions_have_a_bound() {
    let config = Config { max_stats: 1, ..Config::default() };
    let mut lab = Lab::with(config, true);
    lab.join("bob", vec![]);
    lab.recv_transport(13, 2);
    lab.recv_transport(14, 3);
    for id in [13, 14] {
        lab.notify("enableTransportStats", json!({"id": id}));
    }
    lab.pass(1_000);
    assert!(matches!(lab.done(), Ask::TransportStats(TransportId(2))));
    lab.quiet();
}

#[test]
fn who_comes_later_is_told_who_speaks() {
    let mut there = alice();
    there.push(RoomEvent::ActiveSpeaker(Some((conn(2), ProducerId(21)))));
    let mut lab = Lab::joined(there);
    let note = lab.sent.pop_front().expect("told");
    assert_eq!((&note["method"], &note["data"]), (&json!("active-speaker"), &json!({"peerName": "alice"})));
    lab.quiet();
}

#[test]
fn who_speaks_and_who_is_called_what_is_told() {
    let mut lab = Lab::joined(alice());
    let speaks = |number| RoomEvent::ActiveSpeaker(Some((conn(number), ProducerId(21))));
    let mut told = |event| {
        lab.event(event);
        let note = lab.sent.pop_front().expect("told");
        (note["method"].clone(), note["data"].clone())
    };
    assert_eq!(told(speaks(2)), (json!("active-speaker"), json!({"peerName": "alice"})));
    assert_eq!(told(speaks(1)).1, json!({"peerName": "bob"}));
    assert_eq!(told(RoomEvent::ActiveSpeaker(None)).1, json!({"peerName": null}));
    let held = (json!("call-state"), told_of_call("peerName", "alice", "held"));
    assert_eq!(told(call(2, CallState::Held)), held);
    let named = PeerInfo {
        display_name: Some("Alice A.".into()),
        app_data: json!({"displayName": "Alice"}),
        ..peer(2, "alice", PeerKind::RoomV2)
    };
    let change = json!({"peerName": "alice", "displayName": "Alice A.", "oldDisplayName": "alice"});
    assert_eq!(told(RoomEvent::PeerChanged(named)), (json!("display-name-changed"), change));
    let request = lab.raw_request("change-display-name", json!({"displayName": "Robert"}));
    let Ask::Rename(Some(name)) = lab.done() else { panic!("not renamed") };
    assert_eq!(name, "Robert");
    assert_eq!(lab.response(request), Ok(json!({})));
}

#[test]
fn who_leaves_may_come_back_by_the_same_connection() {
    let mut lab = Lab::joined(alice());
    lab.notify("leave", json!({}));
    assert!(matches!(lab.done(), Ask::Leave));
    lab.event(left(2));
    lab.quiet();
    let joined = lab.join("bob", vec![]);
    assert_eq!(joined, json!({"peers": []}), "nothing is left of the first time");
    // Leaving before being in comes to the same.
    let mut lab = Lab::new();
    let capabilities = lab.ok("queryRoom", json!({}))["rtpCapabilities"].clone();
    let id = lab.request("join", json!({"peerName": "bob", "rtpCapabilities": capabilities}));
    lab.notify("leave", json!({}));
    let (ask, _) = lab.ask();
    lab.answer(ask, Ok(Answer::Joined(conn(1))));
    lab.response(id).expect("in");
    assert!(matches!(lab.done(), Ask::Leave));
}

#[test]
fn what_flows_before_the_answer_is_in_the_answer() {
    let mut lab = Lab::new();
    let joined = lab.join("bob", alice());
    let video = joined["peers"][0]["consumers"][1].clone();
    lab.recv_transport(13, 2);
    let request = lab.request("enableConsumer", json!({"id": video["id"], "transportId": 13}));
    let (ask, Ask::Consume { rtp, .. }) = lab.ask() else { panic!("not consumed") };
    lab.own(PeerEvent::EffectiveProfile { consumer: ConsumerId(42), profile: Profile::Low });
    lab.quiet();
    lab.answer(ask, Ok(Answer::Consumed(Box::new(consumed(42, rtp)))));
    assert_eq!(lab.response(request).expect("enabled")["effectiveProfile"], "low");
}
