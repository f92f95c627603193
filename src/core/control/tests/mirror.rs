//! The real worker beside the fake one: each request goes to both, and both must take or refuse it. What
//! sessions say is scripted, and the events that come of it are the real worker's.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};

use crate::core::data::{DataCommand, DataEvent, DataMessage};
use crate::core::id::WorkerId;
use crate::core::mail::Mail;
use crate::core::message::{CloseEvent, FromWorker, Internal, Method, Notification, Request, TrackEvent};
use crate::core::rtp::batch::SendBatch;
use crate::core::rtp::bwe::RateLimits;
use crate::core::session::{Command, Event, Input, LocalCandidate, Output, Session, SessionFactory, Track};
use crate::core::time::Epoch;
use crate::core::worker::{GopConfig, Worker, WorkerConfig};

/// A session that says what the test puts in.
#[derive(Clone, Default)]
pub struct Script(Arc<Mutex<(VecDeque<Output>, u16)>>);

impl Session for Script {
    fn handle_input(&mut self, _: Instant, _: Input<'_>) {}

    fn command(&mut self, _: Instant, command: Command) -> Result<Value, String> {
        Ok(match command {
            Command::SetRemoteDtls { .. } => json!({"role": "server"}),
            Command::Data(DataCommand::Open { .. }) => {
                let mut script = self.0.lock().expect("a lock");
                script.1 += 1;
                json!({"streamId": script.1})
            }
            Command::RestartIce => json!({"usernameFragment": "new", "password": "secret"}),
            _ => Value::Null,
        })
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn poll_output(&mut self) -> Option<Output> {
        self.0.lock().expect("a lock").0.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn dump(&self) -> Value {
        json!({
            "iceLocalParameters": {"usernameFragment": "u", "password": "p", "iceLite": true},
            "iceLocalCandidates": [],
            "dtlsLocalParameters": {"role": "auto", "fingerprints": []},
        })
    }
}

#[derive(Default)]
struct Factory {
    made: Mutex<Option<Script>>,
}

impl SessionFactory for Factory {
    fn webrtc(
        &self,
        _: Instant,
        _: Epoch,
        _: &Value,
        _: &[LocalCandidate],
    ) -> Result<Box<dyn Session>, String> {
        let script = Script::default();
        *self.made.lock().expect("a lock") = Some(script.clone());
        Ok(Box::new(script))
    }

    fn route_key<'a>(&self, _: &'a [u8]) -> Option<&'a str> {
        None
    }
}

pub struct Mirror {
    worker: Worker,
    factory: Arc<Factory>,
    scripts: HashMap<u32, (Script, Internal)>,
}

/// What came of a request: the answer, and the events around it.
pub struct Outcome {
    pub accepted: bool,
    pub events: Vec<Notification>,
    pub answer: Option<Vec<u8>>,
}

impl Mirror {
    pub fn new(id: WorkerId, epoch: Epoch) -> Self {
        let factory = Arc::new(Factory::default());
        let config = WorkerConfig {
            id,
            candidates: Vec::new(),
            gop: GopConfig::default(),
            max_publish_bitrate: 10_000_000,
            layers: Default::default(),
            rates: RateLimits::default(),
            legs: Default::default(),
            channel: None,
            data: Default::default(),
        };
        let worker = Worker::new(config, epoch, factory.clone(), 1);
        Mirror { worker, factory, scripts: HashMap::new() }
    }

    pub fn request(&mut self, now: Instant, request: &Request, mail: Option<Mail>) -> Outcome {
        let made = match &mail {
            Some(Mail::Stream { .. }) => None,
            _ => Some(()),
        };
        if let Some(mail) = mail {
            self.worker.handle_mail(now, mail, None);
        }
        self.worker.handle_control(now, &request.to_json());
        if made.is_some()
            && request.method() == Some(Method::RouterCreateWebRtcTransport)
            && let (Some(script), Some(id)) =
                (self.factory.made.lock().expect("a lock").take(), request.internal.transport_id)
        {
            self.scripts.insert(id, (script, request.internal));
        }
        self.drain(now, Some(request.id))
    }

    /// Remembers the session of a stream transport.
    pub fn note(&mut self, script: Script, internal: Internal) {
        self.scripts.insert(internal.transport_id.expect("an id"), (script, internal));
    }

    /// Lets the session of a transport say something.
    pub fn say(&mut self, now: Instant, transport: u32, event: &str, data: Value) -> Vec<Notification> {
        let track = |data| {
            let event: TrackEvent = serde_json::from_value(data).expect("a track");
            let config = event.config_bytes();
            Track {
                id: event.track,
                kind: event.kind,
                codec: event.codec,
                config,
                reordered: event.reordered,
            }
        };
        let event = match event {
            "x.track" => Event::Track(track(data)),
            "x.trackchange" => Event::TrackChanged(track(data)),
            "x.data" => Event::Data(DataEvent::Message {
                stream: data["streamId"].as_u64().expect("a stream") as u16,
                message: DataMessage::from_json(data.as_object().expect("a message")).expect("a message"),
            }),
            "x.datachannel" => Event::Data(DataEvent::Opened {
                parameters: serde_json::from_value(data["sctpStreamParameters"].clone()).expect("parameters"),
                label: data["label"].as_str().expect("a label").to_owned(),
                protocol: String::new(),
            }),
            "x.dataclosed" => Event::Data(DataEvent::Closed {
                stream: data["streamId"].as_u64().expect("a stream") as u16,
                reason: "the remote party closed it",
            }),
            _ => {
                let close: CloseEvent = serde_json::from_value(data).expect("a close event");
                Event::Closed { reason: close.reason, ending: close.code }
            }
        };
        let (script, internal) = &self.scripts[&transport];
        script.0.lock().expect("a lock").0.push_back(Output::Event(event));
        // Any command makes the worker listen to the session.
        let data = json!({"usernameFragment": "u", "password": "p"});
        let poke = Request::new(u32::MAX, Method::XTransportSetRemoteIce, *internal, data);
        self.worker.handle_control(now, &poke.to_json());
        self.drain(now, None).events
    }

    /// Takes what conversions said.
    pub fn lanes(&mut self, now: Instant) -> Vec<Notification> {
        self.worker.handle_lanes(now);
        self.drain(now, None).events
    }

    fn drain(&mut self, now: Instant, id: Option<u32>) -> Outcome {
        let mut batch = SendBatch::new(64 * 1024, 64);
        while self.worker.flush(now, &mut batch) {
            batch.clear();
        }
        let mut outcome = Outcome { accepted: false, events: Vec::new(), answer: None };
        while let Some(json) = self.worker.poll_control() {
            match FromWorker::parse(&json).expect("an answer or an event") {
                FromWorker::Response(response) if Some(response.id) == id => {
                    outcome.accepted = response.result.is_ok();
                    outcome.answer = Some(json);
                }
                FromWorker::Response(_) => {}
                FromWorker::Notification(event) => outcome.events.push(event),
            }
        }
        outcome
    }
}
