//! Controllers over real workers, in virtual time: identities, ids, ownership, back-pressure, bad input.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::core::auth::{Action, AuthConfig, Authority, KeyConfig, Principal, Secret};
use crate::core::capabilities::Kind;
use crate::core::control::calls::{Asked, CallError, CallInfo, Calls, Dial, Direction};
use crate::core::control::controller::{ControlConfig, Door, Ending, Output, Session};
use crate::core::control::dispatcher::Link;
use crate::core::control::events::RoomEvent;
use crate::core::control::netstring;
use crate::core::control::tests::fake::{Post, one, opus};
use crate::core::control::tests::mirror::Mirror;
use crate::core::control::{Join, Peer, Produce, Rooms, RoomsConfig, WebRtcOptions};
use crate::core::id::{ProducerId, SessionId, WorkerId};
use crate::core::message::{Method, Request};
use crate::core::peer::{CloseReason, PeerKind};
use crate::core::room::RoomName;
use crate::core::time::Epoch;

struct Worker {
    id: WorkerId,
    link: Option<Link>,
    mirror: Mirror,
    silent: bool,
    log: Vec<Request>,
}

/// Rooms with workers, and a door for controllers.
struct Desk {
    rooms: Rooms,
    door: Arc<Door>,
    workers: Vec<Worker>,
    epoch: Epoch,
    now: Instant,
}

/// A controller that speaks JSON.
struct Remote {
    session: Session,
    reader: netstring::Reader,
    answers: Vec<Value>,
    events: Vec<Value>,
    ending: Option<Ending>,
    next: u32,
}

fn key(name: &str, methods: &[&str]) -> KeyConfig {
    key_of(name, methods, &["*"], &[Action::Control])
}

fn key_of(name: &str, methods: &[&str], rooms: &[&str], actions: &[Action]) -> KeyConfig {
    KeyConfig {
        name: name.into(),
        key: Some(Secret::new(format!("{name}-secret"))),
        key_file: None,
        key_sha256: None,
        rooms: rooms.iter().map(|room| room.to_string()).collect(),
        actions: actions.to_vec(),
        methods: methods.iter().map(|method| method.to_string()).collect(),
    }
}

impl Desk {
    fn new(workers: u16, keys: Vec<KeyConfig>, change: impl FnOnce(&mut ControlConfig)) -> Self {
        let now = Instant::now();
        let epoch = Epoch { instant: now, unix: Duration::ZERO };
        let rooms = Rooms::new(RoomsConfig::default(), epoch, None);
        let authority = Authority::new(&AuthConfig { keys, ..AuthConfig::default() }, None).expect("keys");
        let mut config = ControlConfig::default();
        change(&mut config);
        let door = Door::new(rooms.clone(), Arc::new(authority), config, &["api"]);
        let mut desk = Desk { rooms, door, workers: Vec::new(), epoch, now };
        for id in (0..workers).map(WorkerId) {
            let mirror = Mirror::new(id, epoch);
            desk.workers.push(Worker { id, link: None, mirror, silent: false, log: Vec::new() });
            desk.revive(usize::from(id.0));
        }
        desk
    }

    fn revive(&mut self, worker: usize) {
        let worker = &mut self.workers[worker];
        worker.link = Some(self.rooms.worker_up(worker.id, Arc::new(Post::default())));
    }

    fn kill(&mut self, worker: usize) {
        let worker = &mut self.workers[worker];
        self.rooms.worker_lost(worker.link.take().expect("a live worker"));
        worker.mirror = Mirror::new(worker.id, self.epoch);
    }

    fn pump(&mut self) {
        self.rooms.handle_time(self.now);
        let mut cx = Context::from_waker(Waker::noop());
        for worker in &mut self.workers {
            let Some(link) = worker.link else { continue };
            while let Poll::Ready(Some(json)) = self.rooms.poll_send(link, &mut cx) {
                let request = Request::parse(&json).expect("a request");
                worker.log.push(request.clone());
                if worker.silent {
                    continue;
                }
                let outcome = worker.mirror.request(self.now, &request, None);
                self.rooms.receive(link, &outcome.answer.expect("the worker answers"));
                for event in outcome.events {
                    self.rooms.receive(link, &event.to_json());
                }
            }
        }
    }

    /// Runs `future` to its end while the workers do their part.
    fn run<F: Future>(&mut self, future: F) -> F::Output {
        let (mut future, mut cx) = (std::pin::pin!(future), Context::from_waker(Waker::noop()));
        for _ in 0..10 {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
            self.pump();
        }
        panic!("the workers answered all, and yet it waits");
    }

    /// Somebody who publishes sound over WHIP.
    fn publisher(&mut self, room: &str, name: &str) -> (Peer, ProducerId) {
        let join = Join {
            name: Some(name.into()),
            publishes: true,
            ..Join::new(room_name(room), PeerKind::Whip, Principal::anonymous())
        };
        let rooms = self.rooms.clone();
        let peer = self.run(rooms.join(join)).expect("let in");
        let made = self.run(peer.create_webrtc_transport(WebRtcOptions::default())).expect("a transport");
        let track = Produce::new(Kind::Audio, one(&opus(), 1));
        let producer = self.run(peer.produce(made.id, track)).expect("a producer");
        (peer, producer)
    }

    fn pass(&mut self, millis: u64) {
        self.pump();
        self.now += Duration::from_millis(millis);
        self.pump();
    }

    fn connect(&mut self) -> Remote {
        self.connect_from(None)
    }

    fn connect_from(&mut self, address: Option<IpAddr>) -> Remote {
        Remote {
            session: Session::new(self.door.clone(), address, self.now),
            reader: netstring::Reader::new(usize::MAX),
            answers: Vec::new(),
            events: Vec::new(),
            ending: None,
            next: 0,
        }
    }

    /// A text conversation: what is answered to `text`.
    fn text(&mut self, session: &mut Session, text: &str) -> (String, Option<Ending>) {
        session.handle_bytes(self.now, text.as_bytes());
        self.pump();
        let (bytes, ending) = take(session, self.now);
        (String::from_utf8(bytes).expect("a text"), ending)
    }

    /// Asks and waits for the answer.
    fn ask(
        &mut self,
        remote: &mut Remote,
        method: &str,
        internal: Value,
        data: Value,
    ) -> Result<Value, String> {
        let id = remote.send(self.now, method, &internal, &data);
        // Some take several steps.
        let at = (0..8).find_map(|_| {
            self.pump();
            remote.take(self.now);
            remote.answers.iter().position(|answer| answer["id"] == id)
        });
        let answer =
            at.map(|at| remote.answers.remove(at)).unwrap_or_else(|| panic!("no answer to {method}"));
        match answer["accepted"].as_bool() {
            Some(true) => Ok(answer["data"].clone()),
            _ => Err(answer["code"].as_str().expect("a code").to_owned()),
        }
    }

    /// A router 1 with a transport 2 that sends producer 3, which consumer 5 hands to transport 4.
    fn furnish(&mut self, remote: &mut Remote) {
        let router = json!({"routerId": 1});
        self.ask(remote, "worker.createRouter", router, json!({})).expect("a router");
        for transport in [2, 4] {
            let internal = json!({"routerId": 1, "transportId": transport});
            let made = self.ask(remote, "router.createWebRtcTransport", internal, json!({}));
            assert_eq!(made.expect("a transport")["transportId"], transport);
        }
        let rtp = |ssrc: u32| {
            json!({"codecs": [{"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2}],
                "encodings": [{"ssrc": ssrc}]})
        };
        let internal = json!({"routerId": 1, "transportId": 2, "producerId": 3});
        let data = json!({"kind": "audio", "rtpParameters": rtp(7)});
        assert_eq!(self.ask(remote, "router.createProducer", internal, data), Ok(json!({})));
        let internal = json!({"routerId": 1, "consumerId": 5, "producerId": 3});
        assert_eq!(
            self.ask(remote, "router.createConsumer", internal, json!({"kind": "audio"})),
            Ok(json!({}))
        );
        let internal = json!({"routerId": 1, "consumerId": 5, "transportId": 4});
        let data = json!({"rtpParameters": rtp(8)});
        assert_eq!(self.ask(remote, "consumer.enable", internal, data), Ok(json!({})));
    }

    fn count(&self, method: Method) -> usize {
        let requests = self.workers.iter().flat_map(|worker| &worker.log);
        requests.filter(|request| request.method() == Some(method)).count()
    }

    /// Nothing of any controller is left.
    fn assert_bare(&mut self) {
        self.pump();
        assert_eq!(self.rooms.step(|state| state.dispatcher.subscriptions()), 0);
        let dump = Request::new(1, Method::WorkerDump, Default::default(), json!({}));
        for worker in &mut self.workers {
            let answer = worker.mirror.request(self.now, &dump, None).answer.expect("an answer");
            let answer: Value = serde_json::from_slice(&answer).expect("JSON");
            assert_eq!(answer["data"]["routers"], json!([]), "{:?}", worker.id);
        }
    }
}

fn room_name(name: &str) -> RoomName {
    RoomName::new(name, &[]).expect("a name")
}

fn take(session: &mut Session, now: Instant) -> (Vec<u8>, Option<Ending>) {
    let (mut bytes, mut cx) = (Vec::new(), Context::from_waker(Waker::noop()));
    loop {
        session.advance(now);
        match session.poll_output(&mut cx) {
            Poll::Ready(Output::Bytes(more)) => bytes.extend(more),
            Poll::Ready(Output::End(ending)) => return (bytes, Some(ending)),
            Poll::Pending => return (bytes, None),
        }
    }
}

impl Remote {
    /// The events since the last look, each with its target and data.
    fn events(&mut self, now: Instant) -> Vec<(String, u64, Value)> {
        self.take(now);
        let event = |event: Value| {
            let name = event["event"].as_str().expect("a name").to_owned();
            (name, event["targetId"].as_u64().expect("an id"), event["data"].clone())
        };
        self.events.drain(..).map(event).collect()
    }

    fn send(&mut self, now: Instant, method: &str, internal: &Value, data: &Value) -> u32 {
        self.next += 1;
        let request = json!({"id": self.next, "method": method, "internal": internal, "data": data});
        self.send_json(now, &request.to_string());
        self.next
    }

    fn send_json(&mut self, now: Instant, json: &str) {
        let mut framed = Vec::new();
        netstring::write(json.as_bytes(), usize::MAX, &mut framed).expect("short enough");
        self.session.handle_bytes(now, &framed);
    }

    fn take(&mut self, now: Instant) {
        let (bytes, ending) = take(&mut self.session, now);
        self.ending = ending;
        self.reader.feed(&bytes);
        while let Some(payload) = self.reader.next_payload().expect("netstrings") {
            let message: Value = serde_json::from_slice(payload).expect("JSON");
            let kind = if message["event"].is_null() { &mut self.answers } else { &mut self.events };
            kind.push(message);
        }
    }

    /// What was told since the last look: target, event, code.
    fn told(&mut self, now: Instant) -> Vec<(u64, String, String)> {
        self.take(now);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let told = |event: &Value| {
            (event["targetId"].as_u64().expect("an id"), text(&event["event"]), text(&event["data"]["code"]))
        };
        self.events.drain(..).map(|event| told(&event)).collect()
    }

    fn code(&self) -> Option<&'static str> {
        match self.ending.as_ref()? {
            Ending::Stranger => Some("stranger"),
            Ending::Fault(fault) => Some(fault.code.as_str()),
        }
    }
}

fn closes(told: &[(u64, String, String)]) -> Vec<(u64, &str)> {
    let mut closes: Vec<_> = told
        .iter()
        .filter(|(_, event, _)| event == "close")
        .map(|(target, _, code)| (*target, code.as_str()))
        .collect();
    closes.sort_unstable();
    closes
}

#[test]
fn controllers_with_the_same_ids_do_not_meet() {
    let mut desk = Desk::new(2, Vec::new(), |_| {});
    let (mut one, mut two) = (desk.connect(), desk.connect());
    desk.furnish(&mut one);
    desk.furnish(&mut two);
    for remote in [&mut one, &mut two] {
        let dump = desk.ask(remote, "router.dump", json!({"routerId": 1}), json!({})).expect("a dump");
        assert_eq!(dump["routerId"], 1);
        assert_eq!(dump["mapProducerConsumers"], json!({"3": ["5"]}));
        assert_eq!(dump["mapConsumerProducer"], json!({"5": "3"}));
        assert_eq!(dump["consumers"][0]["sourceProducerId"], 3);
        let internal = json!({"routerId": 1, "transportId": 2});
        let stats = desk.ask(remote, "transport.getStats", internal, json!({})).expect("statistics");
        assert_eq!(stats[0]["id"], 2);
    }
    let dumps: Vec<Value> = (0..2)
        .map(|worker| {
            desk.ask(&mut one, "worker.dump", json!({}), json!({"workerId": worker})).expect("a dump")
        })
        .collect();
    let routers: usize = dumps.iter().map(|dump| dump["routers"].as_array().expect("a list").len()).sum();
    assert_eq!(routers, 1, "its own and no other");
    desk.ask(&mut two, "worker.createRouter", json!({"routerId": 9}), json!({})).expect("a router");
    let asked = desk.ask(&mut one, "router.dump", json!({"routerId": 9}), json!({}));
    assert_eq!(asked, Err("unknown_id".into()), "another controller's");
    drop((one, two));
    desk.assert_bare();
}

#[test]
fn text_is_pipelined_and_answered_in_kind() {
    let mut desk = Desk::new(1, Vec::new(), |_| {});
    let mut session = desk.connect().session;
    let (said, ending) = desk.text(
        &mut session,
        "Request worker.createRouter\r\n1\r\nrouterId: 7\r\n\r\n\
         Request router.createPlainRtpTransport\r\n2\r\nrouterId: 7\r\ntransportId: x\r\n\r\n\
         Request router.close\r\n3\r\nrouterId: 7\r\n\r\n\
         Request router.close\r\n4\r\nrouterId: 7\r\n\r\n\
         Notification whatever\r\n\r\n\
         Request CreateConference\r\n000000005\r\n\r\n",
    );
    assert_eq!(ending, None);
    let parts: Vec<&str> = said.split_inclusive("\r\n\r\n").collect();
    assert!(
        parts.contains(&"Response worker.createRouter\r\n1 OK\r\nrouterId: 7\r\nworkerId: 0\r\n\r\n"),
        "{said}"
    );
    assert!(said.contains(
        "Response router.createPlainRtpTransport\r\n2 ERROR\r\ncode: bad_data\r\n\
         reason: internal.transportId has to be a number\r\n\r\n"
    ));
    assert!(said.contains("Response router.close\r\n3 OK\r\n\r\n"), "{said}");
    assert!(said.contains("Notification close\r\ntargetId: 7\r\ncode: closed\r\n"), "{said}");
    assert!(
        said.contains("Response CreateConference\r\n5 OK\r\nrouterId: 2147483648\r\nworkerId: 0\r\n\r\n"),
        "{said}"
    );
}

#[test]
fn what_ends_says_so_once_and_frees_its_id() {
    let mut desk = Desk::new(1, Vec::new(), |_| {});
    let mut remote = desk.connect();
    desk.furnish(&mut remote);
    let internal = json!({"routerId": 1, "transportId": 2});
    assert_eq!(desk.ask(&mut remote, "transport.close", internal.clone(), json!({})), Ok(json!({})));
    let told = remote.told(desk.now);
    assert_eq!(closes(&told).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2, 3, 5]);
    assert_eq!(
        desk.ask(&mut remote, "transport.dump", internal.clone(), json!({})),
        Err("unknown_id".into())
    );
    desk.ask(&mut remote, "router.createWebRtcTransport", internal, json!({})).expect("the id is free");
    assert_eq!(desk.ask(&mut remote, "router.close", json!({"routerId": 1}), json!({})), Ok(json!({})));
    let told = remote.told(desk.now);
    assert_eq!(closes(&told).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2, 4]);
    desk.assert_bare();
    desk.furnish(&mut remote);
}

#[test]
fn what_was_refused_leaves_nothing() {
    let mut desk = Desk::new(1, Vec::new(), |_| {});
    let mut remote = desk.connect();
    desk.furnish(&mut remote);
    let internal = json!({"routerId": 1, "transportId": 2, "producerId": 9});
    let data = json!({"kind": "smell", "rtpParameters": {}});
    assert_eq!(desk.ask(&mut remote, "router.createProducer", internal, data), Err("refused".into()));
    let internal = json!({"routerId": 1, "producerId": 9});
    assert_eq!(desk.ask(&mut remote, "producer.dump", internal, json!({})), Err("unknown_id".into()));
    for (method, internal, code) in [
        ("worker.createRouter", json!({"routerId": 3}), "duplicate_id"),
        ("router.createWebRtcTransport", json!({"routerId": 1, "transportId": 1}), "duplicate_id"),
        ("worker.createRouter", json!({"routerId": 0}), "bad_data"),
        ("worker.createRouter", json!({"routerId": 1u32 << 31}), "bad_data"),
        ("worker.createRouter", json!({"routerId": "6"}), "bad_data"),
        ("worker.createRouter", json!({}), "bad_data"),
        ("router.dump", json!({"routerId": 2}), "unknown_id"),
        ("producer.dump", json!({"routerId": 1, "producerId": 5}), "unknown_id"),
        ("worker.explode", json!({}), "unknown_method"),
        ("x.worker.fail", json!({}), "bad_data"),
        ("x.router.createDirectTransport", json!({"routerId": 1}), "not_supported"),
    ] {
        let asked = desk.ask(&mut remote, method, internal.clone(), json!({}));
        assert_eq!(asked, Err(code.into()), "{method} {internal}");
    }
    drop(remote);
    desk.assert_bare();
}

#[test]
fn a_lost_worker_is_told_of_each_of_its_entities() {
    let mut desk = Desk::new(2, Vec::new(), |_| {});
    let (mut one, mut two) = (desk.connect(), desk.connect());
    desk.furnish(&mut one);
    desk.furnish(&mut two);
    let mut waits = desk.connect();
    desk.workers[0].silent = true;
    let (internal, data) = (json!({"routerId": 8}), json!({"workerId": 0}));
    let request = waits.send(desk.now, "worker.createRouter", &internal, &data);
    desk.pump();
    desk.kill(0);
    let told = one.told(desk.now);
    let all: Vec<(u64, &str)> = (1..=5).map(|id| (id, "worker_lost")).collect();
    assert_eq!(closes(&told), all);
    assert_eq!(told.last().map(|(target, ..)| *target), Some(1), "the router comes last");
    assert_eq!(two.told(desk.now), [], "it has nothing there");
    waits.take(desk.now);
    assert_eq!(
        (&waits.answers[0]["id"], &waits.answers[0]["code"]),
        (&json!(request), &json!("worker_lost"))
    );
    assert_eq!(waits.events, Vec::<Value>::new(), "what was never made does not end");
    // Elsewhere at once, and there again as soon as the worker is back.
    desk.furnish(&mut one);
    desk.workers[0].silent = false;
    desk.revive(0);
    let made = desk.ask(&mut waits, "worker.createRouter", internal, data);
    assert_eq!(made, Ok(json!({"routerId": 8, "workerId": 0})));
}

#[test]
fn what_a_controller_made_ends_with_it_but_for_what_lingers() {
    let mut desk = Desk::new(1, Vec::new(), |config| config.max_linger_ms = 5_000);
    let mut remote = desk.connect();
    desk.furnish(&mut remote);
    let (internal, data) = (json!({"routerId": 10}), json!({"linger": 60_000}));
    desk.ask(&mut remote, "worker.createRouter", internal, data).expect("a router");
    let session = desk.ask(&mut remote, "Hello", json!({}), json!({})).expect("hello")["session"].clone();
    drop(remote);
    desk.pass(3_000);
    assert_eq!(desk.count(Method::RouterClose), 1);

    let mut again = desk.connect();
    let wrong = json!({"session": "0".repeat(32)});
    assert_eq!(desk.ask(&mut again, "Resume", json!({}), wrong), Err("unknown_id".into()));
    let resumed = desk.ask(&mut again, "Resume", json!({}), json!({"session": session.clone()}));
    assert_eq!(resumed, Ok(json!({"session": session, "routers": [10], "rooms": []})));
    desk.ask(&mut again, "router.dump", json!({"routerId": 10}), json!({})).expect("it is there");
    desk.pass(4_000);
    desk.ask(&mut again, "router.dump", json!({"routerId": 10}), json!({})).expect("it is not over");
    drop(again);
    desk.pass(4_000);
    assert_eq!(desk.count(Method::RouterClose), 1);
    desk.pass(1_000);
    assert_eq!(desk.count(Method::RouterClose), 2);
    desk.assert_bare();
}

#[test]
fn who_made_much_is_cleared_away_a_little_at_a_time() {
    let mut desk = Desk::new(1, Vec::new(), |config| config.max_open_requests = 5_000);
    let mut remote = desk.connect();
    for router in 1..=2_000 {
        remote.send(desk.now, "worker.createRouter", &json!({"routerId": router}), &json!({}));
    }
    desk.pump();
    remote.take(desk.now);
    assert_eq!(remote.answers.len(), 2_000);
    drop(remote);
    let mut cx = Context::from_waker(Waker::noop());
    let link = desk.workers[0].link.expect("a live worker");
    let mut waiting = Vec::new();
    while let Poll::Ready(Some(json)) = desk.rooms.poll_send(link, &mut cx) {
        waiting.push(json);
    }
    assert_eq!(waiting.len(), 64);
    for json in waiting {
        let request = Request::parse(&json).expect("a request");
        let outcome = desk.workers[0].mirror.request(desk.now, &request, None);
        desk.rooms.receive(link, &outcome.answer.expect("an answer"));
    }
    desk.assert_bare();
}

#[test]
fn where_keys_are_known_a_controller_says_who_it_is() {
    let keys = vec![key("desk", &["*"]), key("eye", &["worker.dump", "Hello"])];
    let mut desk = Desk::new(1, keys, |config| config.max_failures = 3);
    let address: Option<IpAddr> = Some("192.0.2.7".parse().expect("an address"));
    let mut remote = desk.connect_from(address);
    let hello = desk.ask(&mut remote, "Hello", json!({}), json!({})).expect("hello");
    assert_eq!((&hello["authenticated"], &hello["session"]), (&json!(false), &Value::Null));
    assert!(hello["capabilities"]["methods"].as_array().expect("a list").contains(&json!("router.dump")));
    let asked = desk.ask(&mut remote, "worker.dump", json!({}), json!({}));
    assert_eq!(asked, Err("not_authenticated".into()));
    let credentials = |user: &str, secret: &str| json!({"user": user, "passwd": secret});
    for (user, secret) in [("desk", "eye-secret"), ("desk", ""), ("nobody", "desk-secret")] {
        let asked = desk.ask(&mut remote, "Authenticate", json!({}), credentials(user, secret));
        assert_eq!(asked, Err("bad_credentials".into()));
    }
    let right = credentials("desk", "desk-secret");
    let asked = desk.ask(&mut remote, "Authenticate", json!({}), right.clone());
    assert_eq!(asked, Err("too_many_attempts".into()), "even the right one");
    let mut other = desk.connect_from(Some("192.0.2.8".parse().expect("an address")));
    desk.ask(&mut other, "Authenticate", json!({}), right.clone()).expect("another address");
    desk.pass(60_000);
    let mut remote = desk.connect_from(address);
    desk.ask(&mut remote, "Authenticate", json!({}), credentials("eye", "eye-secret")).expect("forgiven");
    desk.ask(&mut remote, "worker.dump", json!({}), json!({})).expect("allowed");
    let asked = desk.ask(&mut remote, "worker.createRouter", json!({"routerId": 1}), json!({}));
    assert_eq!(asked, Err("not_allowed".into()));
    assert_eq!(desk.ask(&mut remote, "Authenticate", json!({}), right), Err("refused".into()), "once");
}

#[test]
fn what_lingers_of_one_user_is_unknown_to_another() {
    let mut desk = Desk::new(1, vec![key("one", &["*"]), key("two", &["*"])], |_| {});
    let mut remote = desk.connect();
    let credentials = |user: &str| json!({"user": user, "passwd": format!("{user}-secret")});
    let session = desk.ask(&mut remote, "Authenticate", json!({}), credentials("one")).expect("let in");
    let (internal, data) = (json!({"routerId": 1}), json!({"linger": 60_000}));
    desk.ask(&mut remote, "worker.createRouter", internal, data).expect("a router");
    drop(remote);
    let mut thief = desk.connect();
    desk.ask(&mut thief, "Authenticate", json!({}), credentials("two")).expect("let in");
    assert_eq!(desk.ask(&mut thief, "Resume", json!({}), session), Err("unknown_id".into()));
}

#[test]
fn who_has_too_much_open_is_not_read_from() {
    let mut desk = Desk::new(1, Vec::new(), |config| config.max_open_requests = 3);
    let mut remote = desk.connect();
    desk.workers[0].silent = true;
    for _ in 0..5 {
        remote.send(desk.now, "worker.dump", &json!({}), &json!({}));
    }
    desk.pump();
    assert!(!remote.session.wants_input());
    assert_eq!(desk.count(Method::WorkerDump), 3);
    desk.workers[0].silent = false;
    for request in desk.workers[0].log.clone() {
        let outcome = desk.workers[0].mirror.request(desk.now, &request, None);
        desk.rooms.receive(desk.workers[0].link.expect("alive"), &outcome.answer.expect("an answer"));
    }
    remote.take(desk.now);
    desk.pump();
    remote.take(desk.now);
    assert_eq!(remote.answers.len(), 5);
    assert!(remote.session.wants_input());
}

#[test]
fn who_does_not_read_is_given_up_and_waited_for_by_nobody() {
    let mut desk = Desk::new(1, Vec::new(), |config| config.max_queued_bytes = 20_000);
    let mut remote = desk.connect();
    desk.furnish(&mut remote);
    let mut asked = 0;
    while remote.session.wants_input() {
        remote.send(desk.now, "router.dump", &json!({"routerId": 1}), &json!({}));
        desk.pump();
        asked += 1;
        assert!(asked < 100, "it never stops");
    }
    let mut cx = Context::from_waker(Waker::noop());
    assert!(remote.session.poll_given_up(&mut cx).is_pending());
    // Events come whether it reads or not.
    while remote.session.poll_given_up(&mut cx).is_pending() {
        let targets: Vec<u32> = desk.rooms.step(|state| state.dispatcher.targets());
        for target in targets {
            let event =
                json!({"targetId": target, "event": "icestatechange", "data": {"iceState": "x".repeat(500)}});
            desk.rooms.receive(desk.workers[0].link.expect("alive"), event.to_string().as_bytes());
        }
    }
    remote.take(desk.now);
    assert_eq!(remote.code(), Some("too_slow"));
    drop(remote);
    desk.assert_bare();
}

#[test]
fn requests_and_messages_that_make_no_sense() {
    let mut desk = Desk::new(1, Vec::new(), |_| {});
    let mut remote = desk.connect();
    desk.furnish(&mut remote);
    desk.workers[0].silent = true;
    remote.send_json(desk.now, r#"{"id":77,"method":"router.dump","internal":{"routerId":1}}"#);
    let twice = r#"{"id":77,"method":"router.dump","internal":{"routerId":1},"data":7}"#;
    remote.send_json(desk.now, twice);
    for nonsense in
        ["[1]", "not json", r#"{"id":1}"#, r#"{"id":"1","method":"Hello"}"#, r#"{"method":"Hello"}"#]
    {
        remote.send_json(desk.now, nonsense);
    }
    remote.take(desk.now);
    assert_eq!(
        remote.answers.iter().map(|answer| &answer["code"]).collect::<Vec<_>>(),
        ["duplicate_request"]
    );
    assert_eq!(remote.told(desk.now), vec![(0, "error".to_owned(), "bad_request".to_owned()); 5]);
    assert_eq!(remote.ending, None, "the framing is whole");
    remote.session.handle_bytes(desk.now, b"oops");
    assert_eq!(remote.told(desk.now), [(0, "error".to_owned(), "bad_framing".to_owned())]);
    assert_eq!(remote.code(), Some("bad_framing"));

    for stranger in ["GET / HTTP/1.1\r\n\r\n", "Request / HTTP/1.1\r\nHost: x\r\n\r\n", "\u{16}\u{3}\u{1}"] {
        let mut session = desk.connect().session;
        assert_eq!(desk.text(&mut session, stranger), (String::new(), Some(Ending::Stranger)));
    }
    let mut session = desk.connect().session;
    let (said, ending) = desk.text(&mut session, "Request Hello\r\n1\r\n\r\nRequest Hello\r\nx\r\n\r\n");
    assert!(said.starts_with("Response Hello\r\n1 OK\r\n"));
    assert!(said.contains("Notification error\r\ntargetId: 0\r\ncode: bad_framing\r\n"));
    assert!(matches!(ending, Some(Ending::Fault(_))));
    let mut session = desk.connect().session;
    let long = format!("Request Hello\r\n1\r\n\r\nRequest Hello\r\n1\r\na: {}", "x".repeat(70_000));
    let (said, _) = desk.text(&mut session, &long);
    assert!(said.contains("code: bad_framing") && said.contains("longer than 65536 bytes"), "{said}");
}

#[test]
fn who_says_nothing_is_closed_in_time() {
    let mut desk = Desk::new(1, Vec::new(), |config| config.idle_timeout_ms = 30_000);
    let mut silent = desk.connect();
    let mut remote = desk.connect();
    remote.session.handle_bytes(desk.now, b"1");
    assert_eq!(silent.session.poll_timeout(), Some(desk.now + Duration::from_secs(10)));
    desk.pass(10_000);
    for late in [&mut silent, &mut remote] {
        late.session.handle_timeout(desk.now);
        late.take(desk.now);
        assert_eq!(late.code(), Some("idle"));
    }
    assert_eq!(silent.events, Vec::<Value>::new(), "nobody knows how it speaks");
    assert_eq!(remote.told(desk.now), [(0, "error".to_owned(), "idle".to_owned())]);

    let mut remote = desk.connect();
    desk.ask(&mut remote, "Hello", json!({}), json!({})).expect("hello");
    desk.pass(29_000);
    desk.ask(&mut remote, "Hello", json!({}), json!({})).expect("hello");
    assert_eq!(remote.session.poll_timeout(), Some(desk.now + Duration::from_secs(30)));
}

#[test]
fn there_are_only_so_many_controllers_and_entities() {
    let change = |config: &mut ControlConfig| (config.max_controllers, config.max_entities) = (1, 2);
    let mut desk = Desk::new(1, Vec::new(), change);
    let mut remote = desk.connect();
    for router in 1..=2 {
        desk.ask(&mut remote, "worker.createRouter", json!({"routerId": router}), json!({}))
            .expect("a router");
    }
    let asked = desk.ask(&mut remote, "worker.createRouter", json!({"routerId": 3}), json!({}));
    assert_eq!(asked, Err("limit".into()));
    let mut other = desk.connect();
    other.send(desk.now, "Hello", &json!({}), &json!({}));
    other.take(desk.now);
    assert_eq!(other.code(), Some("too_many_controllers"));
    drop(remote);
    let mut other = desk.connect();
    desk.ask(&mut other, "Hello", json!({}), json!({})).expect("there is a place again");
}

#[test]
fn a_worker_that_does_not_answer_in_time_is_told_to_forget_it() {
    let mut desk = Desk::new(1, Vec::new(), |_| {});
    let mut remote = desk.connect();
    desk.workers[0].silent = true;
    remote.send(desk.now, "worker.createRouter", &json!({"routerId": 1}), &json!({}));
    desk.pump();
    desk.workers[0].silent = false;
    desk.pass(RoomsConfig::default().request_timeout_ms + 1);
    remote.take(desk.now);
    assert_eq!(remote.answers[0]["code"], "timeout");
    assert_eq!(desk.count(Method::RouterClose), 1);
    desk.furnish(&mut remote);
}

#[test]
fn the_end_of_the_server_is_told() {
    let mut desk = Desk::new(1, Vec::new(), |_| {});
    let mut remote = desk.connect();
    desk.furnish(&mut remote);
    desk.door.shut_down();
    remote.take(desk.now);
    assert_eq!(remote.told(desk.now).last(), Some(&(0, "error".to_owned(), "shutdown".to_owned())));
    assert_eq!(remote.code(), Some("shutdown"));
}

fn named(events: &[(String, u64, Value)]) -> Vec<&str> {
    events.iter().map(|(name, ..)| name.as_str()).collect()
}

#[test]
fn who_watches_a_room_sees_every_door() {
    let mut desk = Desk::new(1, Vec::new(), |_| {});
    let mut remote = desk.connect();
    desk.ask(&mut remote, "room.watch", json!({"watchId": 5}), json!({"room": "lobby"})).expect("a watch");
    assert_eq!(remote.events(desk.now), [], "the room is not there yet");
    let (peer, producer) = desk.publisher("lobby", "camera");
    let (_other, _) = desk.publisher("elsewhere", "camera");
    let events = remote.events(desk.now);
    assert_eq!(named(&events), ["roomopened", "peerjoined", "trackadded"]);
    assert!(events.iter().all(|(_, target, data)| (*target, &data["room"]) == (5, &json!("lobby"))));
    let (joined, added) = (&events[1].2, &events[2].2);
    assert_eq!((&joined["kind"], &joined["name"]), (&json!("whip"), &json!("camera")));
    assert_eq!((&added["conn"], &added["track"]), (&joined["conn"], &json!(producer)));
    assert_eq!(added["codec"]["mimeType"], "audio/opus");

    let mut late = desk.connect();
    desk.ask(&mut late, "room.watch", json!({"watchId": 1}), json!({})).expect("a watch of all");
    assert_eq!(named(&late.events(desk.now)).iter().filter(|name| **name == "trackadded").count(), 2);

    let conn = json!(peer.conn());
    let whom = json!({"room": "lobby", "conn": conn});
    desk.ask(&mut remote, "peer.mute", json!({}), whom.clone()).expect("muted");
    assert_eq!(remote.events(desk.now)[0].2["paused"], true);
    let stats = desk.ask(&mut remote, "peer.getStats", json!({}), whom.clone()).expect("statistics");
    assert_eq!(stats["tracks"][0]["track"], json!(producer));
    let set = json!({"room": "lobby", "conn": conn, "displayName": "Kamera", "appData": {"seat": 3}});
    desk.ask(&mut remote, "peer.set", json!({}), set).expect("set");
    assert_eq!(remote.events(desk.now)[0].2["displayName"], "Kamera");
    let dump = desk.ask(&mut remote, "room.dump", json!({}), json!({"room": "lobby"})).expect("a dump");
    assert_eq!((&dump["live"], &dump["peers"][0]["appData"]), (&json!(true), &json!({"seat": 3})));
    assert_eq!(dump["workers"], json!([{"workerId": 0, "receivers": 0, "home": true, "piped": 0}]));
    desk.ask(&mut remote, "peer.kick", json!({}), whom.clone()).expect("kicked");
    let events = remote.events(desk.now);
    assert_eq!(named(&events), ["trackremoved", "peerleft", "roomclosed"]);
    assert_eq!(events[1].2["code"], "kicked");
    assert_eq!(desk.run(peer.closed()).code, "kicked");
    assert_eq!(desk.ask(&mut remote, "peer.kick", json!({}), whom), Err("unknown_room".into()));
    let nobody = json!({"room": "elsewhere", "conn": conn});
    assert_eq!(desk.ask(&mut remote, "peer.dump", json!({}), nobody), Err("unknown_peer".into()));
    desk.ask(&mut remote, "room.unwatch", json!({"watchId": 5}), json!({})).expect("unwatched");
    assert_eq!(closes(&remote.told(desk.now)), [(5, "closed")]);
    desk.publisher("lobby", "again");
    assert_eq!(remote.events(desk.now), []);
}

#[test]
fn a_room_that_a_controller_opened_ends_with_it_unless_it_lingers() {
    let mut desk = Desk::new(1, Vec::new(), |_| {});
    let mut remote = desk.connect();
    desk.ask(&mut remote, "room.open", json!({}), json!({"room": "short"})).expect("open");
    desk.ask(&mut remote, "room.open", json!({}), json!({"room": "long", "linger": 1000})).expect("open");
    let (guest, _) = desk.publisher("short", "guest");
    let (theirs, _) = desk.publisher("theirs", "guest");
    let again = desk.ask(&mut remote, "room.open", json!({}), json!({"room": "theirs"}));
    assert_eq!(again, Err("room_exists".into()));
    assert_eq!(desk.ask(&mut remote, "room.open", json!({}), json!({"room": "api"})), Err("bad_data".into()));
    let list = desk.ask(&mut remote, "room.list", json!({}), json!({"limit": 2})).expect("rooms");
    assert_eq!((&list["rooms"][0]["name"], &list["more"]), (&json!("long"), &json!(true)));
    let list = desk.ask(&mut remote, "room.list", json!({}), json!({"after": "short"})).expect("rooms");
    assert_eq!((&list["rooms"][0]["name"], &list["more"]), (&json!("theirs"), &json!(false)));
    drop(remote);
    assert_eq!(desk.run(guest.closed()).code, "controller_gone");
    let there = |desk: &Desk, room: &str| desk.rooms.summary(&room_name(room)).is_some();
    assert_eq!(["short", "long", "theirs"].map(|room| there(&desk, room)), [false, true, true]);
    desk.pass(1_000);
    assert!(!there(&desk, "long"));
    desk.run(theirs.close(CloseReason::left()));
    desk.assert_bare();
}

#[test]
fn a_closed_room_that_was_opened_anew_is_not_the_controllers() {
    let mut desk = Desk::new(1, Vec::new(), |_| {});
    let mut remote = desk.connect();
    desk.ask(&mut remote, "room.open", json!({}), json!({"room": "r"})).expect("open");
    desk.ask(&mut remote, "room.close", json!({}), json!({"room": "r", "reason": "lunch"})).expect("closed");
    assert_eq!(
        desk.ask(&mut remote, "room.close", json!({}), json!({"room": "r"})),
        Err("unknown_room".into())
    );
    let (_peer, _) = desk.publisher("r", "guest");
    drop(remote);
    assert!(desk.rooms.summary(&room_name("r")).is_some());
}

#[test]
fn a_controller_in_a_room_hears_and_is_heard() {
    let mut desk = Desk::new(1, Vec::new(), |_| {});
    let (peer, _) = desk.publisher("talk", "whip");
    let mut remote = desk.connect();
    let data = json!({"room": "talk", "name": "agent", "publishes": true});
    let attached = desk.ask(&mut remote, "room.attach", json!({"routerId": 1}), data).expect("attached");
    let events = remote.events(desk.now);
    assert_eq!(named(&events), ["trackadded"]);
    assert_eq!(events[0].1, 1);
    let theirs = events[0].2["producerId"].clone();
    for transport in [2, 4] {
        let internal = json!({"routerId": 1, "transportId": transport});
        let made = desk.ask(&mut remote, "router.createWebRtcTransport", internal, json!({}));
        assert_eq!(made.expect("a transport")["transportId"], transport);
    }
    let rtp = json!(one(&opus(), 77));
    let internal = json!({"routerId": 1, "transportId": 2, "producerId": 3});
    let data = json!({"kind": "audio", "rtpParameters": rtp});
    assert_eq!(desk.ask(&mut remote, "router.createProducer", internal, data), Ok(json!({})));
    let peers = desk.rooms.peers(&room_name("talk")).expect("a room");
    let agent = peers.iter().find(|it| it.info.kind == PeerKind::Controller).expect("a peer");
    assert_eq!((agent.info.name.as_str(), agent.tracks.len()), ("agent", 1));
    assert_eq!(attached["conn"], json!(agent.info.conn));

    let internal = json!({"routerId": 1, "consumerId": 5, "producerId": theirs});
    desk.ask(&mut remote, "router.createConsumer", internal, json!({"kind": "audio"})).expect("a consumer");
    let internal = json!({"routerId": 1, "consumerId": 6});
    desk.ask(&mut remote, "router.createConsumer", internal, json!({"kind": "audio"})).expect("the program");
    let dump = desk.ask(&mut remote, "consumer.dump", json!({"routerId": 1, "consumerId": 5}), json!({}));
    assert_eq!(dump, Err("refused".into()), "on no transport yet");
    for consumer in [5, 6] {
        let internal = json!({"routerId": 1, "consumerId": consumer, "transportId": 4});
        let data = json!({"rtpParameters": one(&opus(), 80 + consumer)});
        desk.ask(&mut remote, "consumer.enable", internal, data).expect("enabled");
    }
    let dump = desk.ask(&mut remote, "consumer.dump", json!({"routerId": 1, "consumerId": 5}), json!({}));
    let dump = dump.expect("a dump");
    assert_eq!((&dump["consumerId"], &dump["sourceProducerId"]), (&json!(5), &theirs));
    for (method, internal, code) in [
        ("producer.pause", json!({"routerId": 1, "producerId": theirs}), "not_allowed"),
        ("producer.close", json!({"routerId": 1, "producerId": theirs}), "not_allowed"),
        ("router.dump", json!({"routerId": 1}), "not_supported"),
        ("consumer.enable", json!({"routerId": 1, "consumerId": 5, "transportId": 4}), "bad_data"),
    ] {
        assert_eq!(desk.ask(&mut remote, method, internal, json!({})), Err(code.into()), "{method}");
    }
    desk.ask(&mut remote, "producer.dump", json!({"routerId": 1, "producerId": theirs}), json!({}))
        .expect("shown");

    let mut watcher = desk.connect();
    desk.ask(&mut watcher, "room.watch", json!({"watchId": 1}), json!({"room": "talk"})).expect("a watch");
    watcher.events(desk.now);
    desk.ask(&mut remote, "room.say", json!({"routerId": 1}), json!({"message": {"hi": 1}})).expect("said");
    let said = watcher.events(desk.now);
    assert_eq!((&said[0].2["from"], &said[0].2["message"]), (&attached["conn"], &json!({"hi": 1})));

    desk.run(peer.close(CloseReason::left()));
    let told = remote.told(desk.now);
    let theirs = theirs.as_u64().expect("an id");
    let gone = closes(&told);
    assert!(gone.iter().any(|(id, _)| *id == theirs) && gone.iter().any(|(id, _)| *id == 5), "{gone:?}");
    desk.ask(&mut remote, "transport.close", json!({"routerId": 1, "transportId": 2}), json!({}))
        .expect("closed");
    let told = remote.told(desk.now);
    assert_eq!(closes(&told).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2, 3]);
    assert!(desk.rooms.peers(&room_name("talk")).expect("a room")[0].tracks.is_empty());
    desk.ask(&mut remote, "router.close", json!({"routerId": 1}), json!({})).expect("left");
    let told = remote.told(desk.now);
    assert_eq!(closes(&told), [(1, "left"), (4, "router_closed"), (6, "router_closed")]);
    drop((remote, watcher));
    desk.assert_bare();
}

#[test]
fn one_that_is_in_a_room_twice_speaks_to_itself_over_a_data_channel() {
    let mut desk = Desk::new(1, Vec::new(), |_| {});
    let mut remote = desk.connect();
    for (router, name) in [(1, "one"), (11, "two")] {
        let data = json!({"room": "talk", "name": name, "publishes": true});
        desk.ask(&mut remote, "room.attach", json!({"routerId": router}), data).expect("attached");
    }
    let channel = json!({"label": "chat", "protocol": "p", "appData": {"of": 1}});
    let internal = json!({"routerId": 1, "dataProducerId": 2});
    let made =
        desk.ask(&mut remote, "x.router.produceData", internal.clone(), channel).expect("a data producer");
    assert_eq!(made["dataProducerId"], 2);
    let told = remote.events(desk.now);
    assert_eq!(named(&told), ["dataadded"], "the one that made it is not told");
    assert_eq!(
        (told[0].1, &told[0].2["label"], &told[0].2["appData"]),
        (11, &json!("chat"), &json!({"of": 1}))
    );
    let seen = told[0].2["dataProducerId"].clone();
    let theirs = json!({"routerId": 11, "dataProducerId": seen});
    let dump = desk.ask(&mut remote, "x.dataProducer.dump", theirs.clone(), json!({})).expect("shown");
    // Its own id and the one it is seen by are one thing on the worker.
    assert_eq!(dump["dataProducerId"], 2);
    for method in ["x.dataProducer.pause", "x.dataProducer.close", "x.dataProducer.send"] {
        let refused = desk.ask(&mut remote, method, theirs.clone(), json!({"text": "no"}));
        assert_eq!(refused, Err("not_allowed".into()), "{method}");
    }
    let listener = json!({"routerId": 11, "dataConsumerId": 12, "dataProducerId": seen});
    desk.ask(&mut remote, "x.router.consumeData", listener.clone(), json!({})).expect("a data consumer");
    desk.ask(&mut remote, "x.dataProducer.pause", internal.clone(), json!({})).expect("paused");
    desk.ask(&mut remote, "x.dataProducer.resume", internal.clone(), json!({})).expect("resumed");
    desk.ask(&mut remote, "x.dataProducer.send", internal.clone(), json!({"text": "hi"})).expect("sent");
    desk.pump();
    let told = remote.events(desk.now);
    assert_eq!(named(&told), ["sourcepaused", "sourceresumed", "x.message"]);
    assert_eq!((told[2].1, &told[2].2), (12, &json!({"text": "hi"})));
    let stats = desk.ask(&mut remote, "x.dataConsumer.getStats", listener, json!({})).expect("statistics");
    assert_eq!(stats[0]["messagesSent"], 1, "{stats}");

    let dump = desk.ask(&mut remote, "room.dump", json!({}), json!({"room": "talk"})).expect("a dump");
    let peer =
        |name: &str| dump["peers"].as_array().into_iter().flatten().find(|it| it["name"] == name).cloned();
    let (one, two) = (peer("one").expect("one"), peer("two").expect("two"));
    assert_eq!(one["dataTracks"][0]["label"], "chat");
    assert_eq!(two["dataConsumers"][0]["dataTrack"], one["dataTracks"][0]["dataTrack"]);
    let worker = desk.ask(&mut remote, "worker.dump", json!({}), json!({})).expect("a dump");
    assert_eq!(worker["rooms"][0]["room"], "talk");
    assert_eq!((&worker["rooms"][0]["home"], &worker["routers"]), (&json!(true), &json!([])));

    desk.ask(&mut remote, "x.dataProducer.close", internal, json!({})).expect("closed");
    desk.pump();
    let mut gone: Vec<u64> = closes(&remote.told(desk.now)).iter().map(|(id, _)| *id).collect();
    gone.sort_unstable();
    let seen = seen.as_u64().expect("an id");
    assert_eq!(gone, [2, 12, seen], "each that it has of it, once");
    drop(remote);
    desk.assert_bare();
}

#[test]
fn tracks_of_a_room_it_is_in_twice_end_for_either() {
    let mut desk = Desk::new(1, Vec::new(), |_| {});
    let mut remote = desk.connect();
    for router in [1, 11] {
        desk.ask(&mut remote, "room.attach", json!({"routerId": router}), json!({"room": "talk"}))
            .expect("attached");
    }
    let (peer, _) = desk.publisher("talk", "whip");
    let told = remote.events(desk.now);
    assert_eq!(named(&told), ["trackadded", "trackadded"]);
    let mut seen: Vec<u64> = told.iter().filter_map(|event| event.2["producerId"].as_u64()).collect();
    desk.run(peer.close(CloseReason::left()));
    let mut gone: Vec<u64> = closes(&remote.told(desk.now)).iter().map(|(id, _)| *id).collect();
    seen.sort_unstable();
    gone.sort_unstable();
    assert_eq!(gone, seen);
    drop(remote);
    desk.assert_bare();
}

#[test]
fn a_controller_that_is_sent_away_or_loses_its_worker_is_told_of_all_it_had_in_the_room() {
    let mut desk = Desk::new(1, Vec::new(), |_| {});
    let mut remote = desk.connect();
    for code in ["kicked", "worker_lost"] {
        let data = json!({"room": "talk"});
        let attached = desk.ask(&mut remote, "room.attach", json!({"routerId": 1}), data).expect("attached");
        let internal = json!({"routerId": 1, "transportId": 2});
        desk.ask(&mut remote, "router.createWebRtcTransport", internal, json!({})).expect("a transport");
        match code {
            "kicked" => {
                let whom = json!({"room": "talk", "conn": attached["conn"]});
                desk.ask(&mut remote, "peer.kick", json!({}), whom).expect("kicked");
            }
            _ => desk.kill(0),
        }
        let with = if code == "kicked" { "router_closed" } else { code };
        assert_eq!(closes(&remote.told(desk.now)), [(1, code), (2, with)]);
    }
    desk.revive(0);
    let data = json!({"room": "talk"});
    desk.ask(&mut remote, "room.attach", json!({"routerId": 1}), data).expect("attached again");
    drop(remote);
    desk.assert_bare();
}

#[test]
fn rights_go_by_rooms() {
    let keys = vec![key_of("news", &["*"], &["news*"], &[Action::Control])];
    let mut desk = Desk::new(1, keys, |_| {});
    let mut remote = desk.connect();
    let credentials = json!({"user": "news", "passwd": "news-secret"});
    desk.ask(&mut remote, "Authenticate", json!({}), credentials).expect("let in");
    let (one, _) = desk.publisher("news-1", "a");
    let (other, _) = desk.publisher("sport", "a");
    let list = desk.ask(&mut remote, "room.list", json!({}), json!({})).expect("rooms");
    assert_eq!(list["rooms"].as_array().map(Vec::len), Some(1));
    desk.ask(&mut remote, "room.watch", json!({"watchId": 1}), json!({})).expect("a watch");
    let events = remote.events(desk.now);
    assert!(events.iter().all(|(_, _, data)| data["room"] == "news-1") && events.len() == 3, "{events:?}");
    let whom = json!({"room": "sport", "conn": other.conn()});
    for (method, internal) in [
        ("room.dump", json!({})),
        ("room.open", json!({})),
        ("room.close", json!({})),
        ("room.watch", json!({"watchId": 2})),
        ("room.attach", json!({"routerId": 2})),
        ("peer.list", json!({})),
        ("peer.kick", json!({})),
    ] {
        assert_eq!(
            desk.ask(&mut remote, method, internal, whom.clone()),
            Err("not_allowed".into()),
            "{method}"
        );
    }
    // A move takes the right in both rooms.
    for (from, conn, to, result) in [
        ("news-1", one.conn(), "sport", Err("not_allowed".into())),
        ("sport", other.conn(), "news-1", Err("not_allowed".into())),
        ("news-1", other.conn(), "news-2", Err("unknown_peer".into())),
        ("news-1", one.conn(), "news-2", Ok(json!({}))),
    ] {
        let whom = json!({"room": from, "conn": conn, "to": to});
        assert_eq!(desk.ask(&mut remote, "peer.move", json!({}), whom), result, "{from} to {to}");
    }
    assert_eq!(
        named(&remote.events(desk.now)),
        ["roomopened", "trackremoved", "peerleft", "roomclosed", "peerjoined", "trackadded"]
    );
    let dial = json!({"room": "news-1", "number": "100"});
    assert_eq!(
        desk.ask(&mut remote, "call.dial", json!({}), dial),
        Err("not_allowed".into()),
        "another right"
    );
}

/// Has one call in each of two rooms.
struct Switchboard;

impl Calls for Switchboard {
    fn dial<'a>(&'a self, who: &'a Principal, dial: Dial) -> Asked<'a, Result<SessionId, CallError>> {
        Box::pin(async move {
            assert_eq!((who.id(), dial.numbers.len()), ("key:desk", 2));
            Ok(SessionId::new(7))
        })
    }

    fn hang_up<'a>(&'a self, call: SessionId, text: &'a str) -> Asked<'a, Result<(), CallError>> {
        assert_eq!((call, text), (SessionId::new(1), "enough"));
        Box::pin(async { Ok(()) })
    }

    fn hold(&self, _: SessionId, _: bool) -> Asked<'_, Result<(), CallError>> {
        Box::pin(async { Err(CallError::NotNow("it rings")) })
    }

    fn send_dtmf<'a>(&'a self, _: SessionId, _: &'a str) -> Asked<'a, Result<(), CallError>> {
        Box::pin(async { Ok(()) })
    }

    fn transfer<'a>(
        &'a self,
        _: &'a Principal,
        _: SessionId,
        _: &'a str,
    ) -> Asked<'a, Result<(), CallError>> {
        Box::pin(async { Ok(()) })
    }

    fn list(&self) -> Asked<'_, Vec<CallInfo>> {
        let call = |id, room: &str| CallInfo {
            id: SessionId::new(id),
            conn: None,
            direction: Direction::In,
            state: "active",
            room: room.into(),
            trunk: "t".into(),
            number: "100".into(),
            codec: None,
            seconds: 1,
        };
        Box::pin(async move { vec![call(1, "news"), call(2, "sport")] })
    }
}

#[test]
fn calls_take_a_right_of_their_own() {
    let keys = vec![key_of("desk", &["*"], &["news"], &[Action::Control, Action::Call])];
    let mut desk = Desk::new(1, keys, |_| {});
    let mut remote = desk.connect();
    let credentials = json!({"user": "desk", "passwd": "desk-secret"});
    desk.ask(&mut remote, "Authenticate", json!({}), credentials).expect("let in");
    let dial = json!({"room": "news", "numbers": ["100", "101"], "ring": 20, "play": "hold"});
    let asked = desk.ask(&mut remote, "call.dial", json!({}), dial.clone());
    assert_eq!(asked, Err("not_supported".into()), "nobody carries calls");
    desk.rooms.set_calls(Arc::new(Switchboard));
    let id = |number| json!(SessionId::new(number));
    assert_eq!(desk.ask(&mut remote, "call.dial", json!({}), dial), Ok(json!({"call": id(7)})));
    let list = desk.ask(&mut remote, "call.list", json!({}), json!({})).expect("calls");
    assert_eq!((&list["calls"][0]["id"], list["calls"].as_array().map(Vec::len)), (&id(1), Some(1)));
    let end = json!({"call": id(1), "reason": "enough"});
    assert_eq!(desk.ask(&mut remote, "call.hangUp", json!({}), end), Ok(json!({})));
    for (method, data, code) in [
        ("call.hangUp", json!({"call": id(2)}), "unknown_call"),
        ("call.hangUp", json!({"call": "x"}), "unknown_call"),
        ("call.hold", json!({"call": id(1)}), "refused"),
        ("call.dial", json!({"room": "news"}), "bad_data"),
        ("call.dial", json!({"room": "sport", "number": "1"}), "not_allowed"),
        ("call.dial", json!({"room": "news", "number": "1", "play": "jazz"}), "bad_data"),
    ] {
        assert_eq!(
            desk.ask(&mut remote, method, json!({}), data.clone()),
            Err(code.into()),
            "{method} {data}"
        );
    }
}

#[test]
fn a_watch_that_is_not_read_ends_and_the_controller_stays() {
    let mut desk = Desk::new(1, Vec::new(), |config| config.max_queued_bytes = 4_000);
    let mut remote = desk.connect();
    desk.ask(&mut remote, "room.watch", json!({"watchId": 1}), json!({"room": "r"})).expect("a watch");
    let (_peer, _) = desk.publisher("r", "p");
    let room = room_name("r");
    for number in 0..5_000 {
        let text = format!("{number}: {}", "x".repeat(100));
        desk.rooms.announce(&room, RoomEvent::Notice { conn: None, text });
        if number % 10 == 0 {
            // It looks, and takes nothing.
            remote.session.advance(desk.now);
        }
    }
    remote.take(desk.now);
    assert_eq!(remote.told(desk.now).last(), Some(&(1, "close".to_owned(), "lagged".to_owned())));
    desk.ask(&mut remote, "room.watch", json!({"watchId": 1}), json!({"room": "r"})).expect("another watch");
}
