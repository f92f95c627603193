//! One RTMP connection as a value, from the handshake to the good-bye; `client` is the other end's side of it.
//!
//! ```text
//! Handshake --C2--> Commands --publish--> Waiting --accept--> Live --deleteStream, Close--> Over
//!     |                |                     |--reject--> Over  |
//!     +---- garbage, timeout, hang-up -------+------------------+--> Over
//! ```
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value as Json;

use crate::core::session::{Command, Ending, Input, Output, Session};
use crate::core::time::Epoch;
use crate::rtmp::ingress::Ingress;
use crate::rtmp::wire::amf0::{self, Value};
use crate::rtmp::wire::chunk::Message;
use crate::rtmp::wire::handshake::{Handshake, Progress};
use crate::rtmp::wire::kind;
use crate::rtmp::{PublishRequest, Reject, RtmpConfig, RtmpError};
use link::{Link, strip_amf3};

pub mod client;
mod commands;
mod link;
pub mod tls;

/// Codecs by four letters that are taken and sent ("Enhanced RTMP").
const OUR_CODECS: [&str; 3] = ["avc1", "mp4a", "Opus"];

/// A session that can be ended over a fault below it.
pub trait Fail: Session {
    /// Ends it.
    fn fail(&mut self, error: &RtmpError);
}

enum Phase {
    Handshake(Handshake),
    Commands,
    Waiting,
    Live(Box<Ingress>),
    Over,
}

/// One publisher. Before `publish` it is driven by the main thread, afterwards by a worker.
pub struct RtmpSession {
    config: Arc<RtmpConfig>,
    epoch: Epoch,
    phase: Phase,
    deadline: Option<Instant>,
    link: Link,
    /// What came while the door was being asked.
    pending: Vec<u8>,
    app: Option<String>,
    host: Option<String>,
    encoder: Option<String>,
    stream: u32,
    request: Option<PublishRequest>,
    /// Output waits for a driver that has not looked at this session yet.
    nudge: Option<Instant>,
}

impl RtmpSession {
    /// A session for a connection accepted at `now`.
    pub fn new(config: Arc<RtmpConfig>, epoch: Epoch, now: Instant) -> Self {
        RtmpSession {
            epoch,
            phase: Phase::Handshake(Handshake::default()),
            deadline: now.checked_add(config.handshake_timeout()),
            link: Link::new(&config),
            pending: Vec::new(),
            app: None,
            host: None,
            encoder: None,
            stream: 0,
            request: None,
            nudge: None,
            config,
        }
    }

    /// What the party wants to publish, once it has said so; the session waits for
    /// [`accept`](Self::accept) or [`reject`](Self::reject).
    pub fn take_request(&mut self) -> Option<PublishRequest> {
        self.request.take()
    }

    /// Lets the publisher in. The answer to it waits in the session until the worker drains it.
    pub fn accept(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Waiting) {
            return;
        }
        self.phase = Phase::Live(Box::new(Ingress::new(&self.config, self.epoch, now)));
        self.deadline = now.checked_add(self.config.idle_timeout());
        self.nudge = Some(now);
        self.link.send_control(link::STREAM_BEGIN, self.stream);
        self.send_status("status", "NetStream.Publish.Start", "publishing");
        let pending = std::mem::take(&mut self.pending);
        self.take_chunks(now, &pending);
    }

    /// Turns the publisher away and ends the session.
    pub fn reject(&mut self, now: Instant, reject: Reject) {
        let _ = now;
        if matches!(self.phase, Phase::Waiting) {
            self.send_status("error", reject.code(), reject.text());
            self.end(reject.text(), Ending::Closed);
        }
    }

    /// Bytes of unfinished messages and of what waits for the door, for tests and metrics.
    pub fn held_bytes(&self) -> usize {
        self.link.partial_bytes().saturating_add(self.pending.len())
    }

    /// As if so much had come and been acknowledged.
    #[cfg(test)]
    pub(in crate::rtmp) fn pretend_received(&mut self, bytes: u64) {
        self.link.pretend_received(bytes);
    }

    fn end(&mut self, reason: &str, ending: Ending) {
        if !matches!(self.phase, Phase::Over) {
            self.phase = Phase::Over;
            self.deadline = None;
            self.request = None;
            self.link.close(reason, ending);
        }
    }

    fn take_bytes(&mut self, now: Instant, data: &[u8]) {
        let mut rest = data;
        self.link.count(data.len());
        if let Phase::Handshake(handshake) = &mut self.phase {
            let time = self.epoch.media_time(now).as_micros() as u64;
            match shake(handshake, &mut rest, time) {
                Ok((answer, done)) => {
                    if let Some(answer) = answer {
                        self.link.send_bytes(answer);
                    }
                    if done {
                        self.phase = Phase::Commands;
                        self.deadline = now.checked_add(self.config.publish_timeout());
                    }
                }
                Err(error) => return self.end(&error.to_string(), Ending::Error),
            }
        }
        if matches!(self.phase, Phase::Live(_)) {
            self.deadline = now.checked_add(self.config.idle_timeout());
        } else if self.link.received() > self.config.max_bytes_before_publish as u64 {
            let error = RtmpError::TooMuchBeforePublish(self.config.max_bytes_before_publish);
            return self.end(&error.to_string(), Ending::Error);
        }
        self.take_chunks(now, rest);
    }

    /// Reads messages up to the end, or up to the one that has to wait for the door.
    fn take_chunks(&mut self, now: Instant, mut data: &[u8]) {
        while matches!(self.phase, Phase::Commands | Phase::Live(_)) {
            let taken = match self.link.next(&mut data) {
                Ok(Some(message)) => self.take_message(now, &message),
                Ok(None) => break,
                Err(error) => Err(error),
            };
            if let Err(error) = taken {
                self.end(&error.to_string(), Ending::Error);
            }
        }
        if matches!(self.phase, Phase::Waiting) {
            self.pending.extend_from_slice(data);
        }
        if matches!(self.phase, Phase::Commands | Phase::Live(_)) {
            self.link.acknowledge();
        }
    }

    fn take_message(&mut self, now: Instant, message: &Message) -> Result<(), RtmpError> {
        match (message.kind, &mut self.phase) {
            (kind::COMMAND_AMF0, _) => self.take_command(now, message.stream, &message.payload),
            (kind::COMMAND_AMF3, _) => self.take_command(now, message.stream, strip_amf3(&message.payload)),
            (_, Phase::Live(ingress)) => {
                ingress.take(now, message, self.config.amf_limits(), &mut self.link.sink);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn send_status(&mut self, level: &str, code: &str, text: &str) {
        let info = status(level, code, text);
        let values = [Value::text("onStatus"), Value::Number(0.0), Value::Null, info];
        self.link.send(link::STATUS_CHUNKS, self.stream, kind::COMMAND_AMF0, amf0::write_all(&values));
    }
}

fn status(level: &str, code: &str, text: &str) -> Value {
    Value::object([
        ("level", Value::text(level)),
        ("code", Value::text(code)),
        ("description", Value::text(text)),
    ])
}

/// Drives the handshake: what to send, and whether it is over.
fn shake(
    handshake: &mut Handshake,
    data: &mut &[u8],
    micros: u64,
) -> Result<(Option<Vec<u8>>, bool), RtmpError> {
    let mut answer = None;
    loop {
        match handshake.take(data, (micros / 1000) as u32, micros)? {
            Progress::More => return Ok((answer, false)),
            Progress::Answer(bytes) => answer = Some(bytes),
            Progress::Done => return Ok((answer, true)),
        }
    }
}

impl Fail for RtmpSession {
    fn fail(&mut self, error: &RtmpError) {
        self.end(&error.to_string(), Ending::Error);
    }
}

impl Session for RtmpSession {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Bytes(_) if matches!(self.phase, Phase::Over) => {}
            Input::Bytes(data) => self.take_bytes(now, data),
            Input::Eof => self.end("the publisher hung up", Ending::Error),
            Input::Datagram { .. } | Input::Authenticated { .. } | Input::PathClosed { .. } => {}
        }
    }

    fn command(&mut self, _now: Instant, command: Command) -> Result<Json, String> {
        match command {
            Command::Close { reason } => {
                if matches!(self.phase, Phase::Live(_)) {
                    self.send_status("error", "NetConnection.Connect.Closed", &reason);
                }
                self.end(&reason, Ending::Closed);
                Ok(Json::Null)
            }
            // RTMP has no word for it.
            Command::RequestKeyframe { .. } => Ok(Json::Null),
            _ => Err("not a command for an RTMP publisher".to_owned()),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.nudge = None;
        if self.deadline.is_some_and(|at| now >= at) {
            let reason = match &self.phase {
                Phase::Handshake(_) => "no RTMP handshake in time",
                Phase::Live(_) => "nothing came from the publisher any more",
                _ => "connected, but did not publish in time",
            };
            return self.end(reason, Ending::Timeout);
        }
        if let Phase::Live(ingress) = &mut self.phase {
            ingress.handle_timeout(now, &mut self.link.sink);
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.link.sink.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let media = match &self.phase {
            Phase::Live(ingress) => ingress.poll_timeout(),
            _ => None,
        };
        [self.deadline, media, self.nudge].into_iter().flatten().min()
    }

    fn dump(&self) -> Json {
        let told = match &self.phase {
            Phase::Live(ingress) => ingress.encoder(),
            _ => None,
        };
        let mut dump = self.link.dump();
        dump.insert("encoder".to_owned(), told.or(self.encoder.as_deref()).into());
        Json::Object(dump)
    }
}
