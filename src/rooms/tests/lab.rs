//! A client in front of a session, and a room behind it that says what a test tells it to.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::core::capabilities::room::{Dialect, RoomCodec, capabilities};
use crate::core::capabilities::{Kind, RtpCodec, RtpParameters};
use crate::core::control::calls::{CallEvent, CallState, Direction};
use crate::core::control::{
    Consumed, DtlsParameters, IceParameters, PeerEvent, PeerInfo, RoomEvent, TrackInfo, WebRtcTransport,
};
use crate::core::id::{ConnId, ConsumerId, ProducerId, SessionId, TransportId, WorkerId};
use crate::core::peer::{CloseReason, Layers, PeerKind};
use crate::core::session::{DtlsRole, Fingerprint};
use crate::rooms::Config;
use crate::rooms::error::Refusal;
use crate::rooms::session::asks::{Answer, Ask};
use crate::rooms::session::v2::V2;
use crate::rooms::session::v3::V3;
use crate::rooms::session::{AskId, CloseCode, Output, Protocol, Session};

pub struct Lab<P: Protocol = V2> {
    pub session: Session<P>,
    pub now: Instant,
    pub sent: VecDeque<Value>,
    pub asked: VecDeque<(AskId, Ask)>,
    pub closed: Option<(CloseCode, String)>,
    last_id: u64,
}

/// Numbers that repeat from run to run and never meet.
fn random() -> u64 {
    thread_local!(static STATE: Cell<u64> = const { Cell::new(7) });
    STATE.with(|state| {
        state
            .set(state.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        state.get() >> 16
    })
}

pub fn conn(number: u128) -> ConnId {
    ConnId::new(0, WorkerId(0), number)
}

pub fn peer(number: u128, name: &str, kind: PeerKind) -> PeerInfo {
    PeerInfo {
        conn: conn(number),
        name: name.into(),
        display_name: None,
        kind,
        publishes: true,
        spy: false,
        app_data: Value::Null,
    }
}

pub fn track(number: u128, producer: u32, mime: &str) -> TrackInfo {
    let audio = mime.starts_with("audio/");
    let codec = json!({"mimeType": mime, "payloadType": 96, "clockRate": if audio { 48000 } else { 90000 }});
    let codec: RtpCodec = serde_json::from_value(codec).expect("a codec");
    TrackInfo {
        conn: conn(number),
        producer: ProducerId(producer),
        kind: if audio { Kind::Audio } else { Kind::Video },
        codec,
        paused: false,
        muted: false,
        layers: Layers::Simple,
        app_data: json!({"source": "test"}),
    }
}

/// The parameters with which a browser sends VP8.
pub fn sent_vp8() -> Value {
    json!({"muxId": null, "codecs": [
        {"name": "VP8", "mimeType": "video/VP8", "clockRate": 90000, "payloadType": 96, "parameters": {}},
        {"name": "rtx", "mimeType": "video/rtx", "clockRate": 90000, "payloadType": 97, "parameters": {"apt": 96}},
    ], "headerExtensions": [], "encodings": [{"ssrc": 1111, "rtx": {"ssrc": 1112}}], "rtcp": {"cname": "c"}})
}

pub fn dtls(role: &str) -> Value {
    json!({"role": role, "fingerprints": [{"algorithm": "sha-256", "value": "AA:BB"}]})
}

impl<P: Protocol> Lab<P> {
    fn of(session: Session<P>, now: Instant) -> Self {
        Lab { session, now, sent: VecDeque::new(), asked: VecDeque::new(), closed: None, last_id: 0 }
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Send(text) => self.sent.push_back(serde_json::from_str(&text).expect("JSON")),
                Output::Ask(id, ask) => self.asked.push_back((id, ask)),
                Output::Close(code, reason) => self.closed = Some((code, reason)),
            }
        }
    }

    pub fn text(&mut self, text: &str) {
        self.session.handle_text(self.now, text);
        self.drain();
    }

    /// Sends a protoo request; answers its id.
    pub fn raw_request(&mut self, method: &str, data: Value) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        self.text(&json!({"request": true, "id": id, "method": method, "data": data}).to_string());
        id
    }

    /// The response to a request, which must be the next thing that was sent.
    pub fn response(&mut self, id: u64) -> Result<Value, Refusal> {
        let response = self.sent.pop_front().expect("a response");
        assert_eq!((&response["response"], &response["id"]), (&json!(true), &json!(id)), "{response}");
        match response["ok"].as_bool() {
            Some(true) => Ok(response["data"].clone()),
            _ => Err(Refusal::new(
                response["errorCode"].as_u64().expect("a code") as u16,
                response["errorReason"].as_str().expect("a reason"),
            )),
        }
    }

    pub fn quiet(&self) {
        assert!(self.sent.is_empty() && self.asked.is_empty(), "{:?} {:?}", self.sent, self.asked);
    }

    /// The next request to the room.
    pub fn ask(&mut self) -> (AskId, Ask) {
        self.asked.pop_front().expect("a request to the room")
    }

    pub fn answer(&mut self, id: AskId, answer: Result<Answer, Refusal>) {
        self.session.handle_answer(self.now, id, answer);
        self.drain();
    }

    /// Says that the next request to the room is done; answers what it was.
    pub fn done(&mut self) -> Ask {
        let (id, ask) = self.ask();
        self.answer(id, Ok(Answer::Done));
        ask
    }

    pub fn event(&mut self, event: RoomEvent) {
        self.session.handle_room_event(self.now, event);
        self.drain();
    }

    pub fn own(&mut self, event: PeerEvent) {
        self.session.handle_own_event(self.now, event);
        self.drain();
    }

    pub fn left(&mut self, reason: CloseReason) {
        self.session.handle_left(self.now, &reason);
        self.drain();
    }

    pub fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.session.handle_timeout(self.now);
        self.drain();
    }

    /// The next notification: its method and fields.
    pub fn note(&mut self) -> (String, Value) {
        let mut note = self.sent.pop_front().expect("a notification");
        assert_eq!(note["notification"], true, "{note}");
        (note["method"].as_str().expect("a method").to_owned(), note["data"].take())
    }

    /// The next request to the client: its id, method and fields.
    pub fn requested(&mut self) -> (u64, String, Value) {
        let mut note = self.sent.pop_front().expect("a request");
        assert_eq!(note["request"], true, "{note}");
        let id = note["id"].as_u64().expect("an id");
        (id, note["method"].as_str().expect("a method").to_owned(), note["data"].take())
    }

    /// The client responds to a request.
    pub fn accept(&mut self, id: u64) {
        self.text(&json!({"response": true, "id": id, "ok": true, "data": {}}).to_string());
    }
}

impl Lab<V3> {
    /// A v3 client.
    pub fn v3(peer: &str, may_publish: bool) -> Self {
        let now = Instant::now();
        let room = Arc::new(capabilities(&RoomCodec::ALL, Dialect::V3));
        Lab::of(
            Session::new(Config::default(), now, random, V3::new(peer.to_owned(), room, may_publish)),
            now,
        )
    }

    /// A request and its response, which needs the room for nothing.
    pub fn query(&mut self, method: &str, data: Value) -> Result<Value, Refusal> {
        let id = self.raw_request(method, data);
        self.response(id)
    }
}

impl Lab<V2> {
    pub fn new() -> Self {
        Self::with(Config::default(), true)
    }

    pub fn with(config: Config, may_publish: bool) -> Self {
        let now = Instant::now();
        let room = Arc::new(capabilities(&RoomCodec::ALL, Dialect::V2));
        let session = Session::new(config, now, random, V2::new(room, may_publish));
        Lab::of(session, now)
    }

    /// Somebody who has joined a room in which `there` happened before.
    pub fn joined(there: Vec<RoomEvent>) -> Self {
        let mut lab = Lab::new();
        lab.join("bob", there);
        lab
    }

    /// Joins, as connection 1.
    pub fn join(&mut self, name: &str, there: Vec<RoomEvent>) -> Value {
        let query = self.ok("queryRoom", json!({"target": "room"}));
        let data = json!({"peerName": name, "rtpCapabilities": query["rtpCapabilities"], "spy": false,
            "appData": {"displayName": "Bob B."}});
        let id = self.request("join", data);
        let (ask, Ask::Join(entry)) = self.ask() else { panic!("no join") };
        self.event(RoomEvent::PeerJoined(PeerInfo {
            display_name: entry.display_name,
            app_data: entry.app_data,
            ..peer(1, &entry.name, PeerKind::RoomV2)
        }));
        there.into_iter().for_each(|event| self.event(event));
        assert!(self.sent.is_empty(), "told before it was in: {:?}", self.sent);
        self.answer(ask, Ok(Answer::Joined(conn(1))));
        self.response(id).expect("let in")
    }

    /// Sends a request of the v2 protocol.
    pub fn request(&mut self, method: &str, mut data: Value) -> u64 {
        data["method"] = method.into();
        self.raw_request("mediasoup-request", data)
    }

    /// A request that is answered without the room, and its response.
    pub fn ok(&mut self, method: &str, data: Value) -> Value {
        let id = self.request(method, data);
        self.response(id).expect(method)
    }

    /// A request that is refused at once, and the code.
    pub fn refused(&mut self, method: &str, data: Value) -> u16 {
        let id = self.request(method, data);
        self.response(id).expect_err(method).code
    }

    /// Sends a notification of the v2 protocol.
    pub fn notify(&mut self, method: &str, mut data: Value) {
        data["method"] = method.into();
        data["notification"] = true.into();
        data["target"] = "peer".into();
        let text = json!({"notification": true, "method": "mediasoup-notification", "data": data});
        self.text(&text.to_string());
    }

    /// The next notification of the v2 protocol: its method and fields.
    pub fn told(&mut self) -> (String, Value) {
        let mut note = self.sent.pop_front().expect("a notification");
        assert_eq!(note["method"], "mediasoup-notification", "{note}");
        let data = note["data"].as_object_mut().expect("fields");
        assert_eq!(data.remove("notification"), Some(json!(true)));
        assert_eq!(data.remove("target"), Some(json!("peer")));
        let method = data.remove("method").expect("a method");
        (method.as_str().expect("a method").to_owned(), note["data"].take())
    }

    /// A transport by which the client sends, `id` with it and `made` in the core.
    pub fn send_transport(&mut self, id: u32, made: u32) -> Value {
        let data = json!({"id": id, "direction": "send", "options": {}, "dtlsParameters": dtls("server")});
        let request = self.request("createTransport", data);
        let (ask, Ask::CreateTransport(_)) = self.ask() else { panic!("no transport") };
        self.answer(ask, Ok(Answer::Transport(transport(made))));
        let (ask, Ask::ConnectTransport(_, role, fingerprints)) = self.ask() else { panic!("not connected") };
        assert_eq!((role, fingerprints.len()), (DtlsRole::Server, 1));
        self.answer(ask, Ok(Answer::Role(DtlsRole::Client)));
        self.response(request).expect("a transport")
    }

    /// A transport by which it receives.
    pub fn recv_transport(&mut self, id: u32, made: u32) -> Value {
        let request = self.request("createTransport", json!({"id": id, "direction": "recv", "options": {}}));
        let (ask, Ask::CreateTransport(_)) = self.ask() else { panic!("no transport") };
        self.answer(ask, Ok(Answer::Transport(transport(made))));
        self.response(request).expect("a transport")
    }

    /// Enables a consumer, which becomes `made` in the core; answers the response.
    pub fn enable(&mut self, consumer: &Value, transport: u32, made: u32) -> Value {
        let request = self.request(
            "enableConsumer",
            json!({"id": consumer["id"], "transportId": transport,
            "paused": false, "preferredProfile": "default"}),
        );
        let (ask, Ask::Consume { track, rtp, .. }) = self.ask() else { panic!("not consumed") };
        assert!(track.0 > 0);
        self.answer(ask, Ok(Answer::Consumed(Box::new(consumed(made, rtp)))));
        self.response(request).expect("enabled")
    }
}

pub fn consumed(made: u32, rtp: RtpParameters) -> Consumed {
    Consumed {
        consumer: ConsumerId(made),
        kind: Kind::Video,
        rtp,
        converted: false,
        producer_paused: false,
        layers: Layers::Simple,
    }
}

pub fn transport(made: u32) -> WebRtcTransport {
    let fingerprints = vec![Fingerprint { algorithm: "sha-256".into(), value: "CC".into() }];
    WebRtcTransport {
        id: TransportId(made),
        ice: IceParameters { username_fragment: "u".into(), password: "p".into(), ice_lite: true },
        candidates: Vec::new(),
        dtls: DtlsParameters { role: DtlsRole::Auto, fingerprints },
        sctp: None,
    }
}

/// A call of room `r` has got on, or was moved there.
pub fn call(number: u128, state: CallState) -> RoomEvent {
    RoomEvent::Call(CallEvent {
        call: SessionId::new(7),
        conn: Some(conn(number)),
        direction: Direction::Out,
        trunk: "office".into(),
        number: "***67".into(),
        state,
        code: Some(180),
        text: "it rings".into(),
    })
}

/// What clients are told of it.
pub fn told_of_call(key: &str, name: &str, state: &str) -> Value {
    let id = json!(SessionId::new(7));
    json!({"callId": id, key: name, "direction": "out", "number": "***67", "state": state, "code": 180, "text": "it rings"})
}
