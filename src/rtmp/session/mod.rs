//! One RTMP connection as a value, from the handshake to the good-bye.
//!
//! ```text
//! Handshake --C2--> Commands --publish--> Waiting --accept--> Live --deleteStream, Close--> Over
//!     |                |                     |--reject--> Over  |
//!     +---- garbage, timeout, hang-up -------+------------------+--> Over
//! ```
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value as Json, json};

use crate::core::session::{Command, Ending, Event, Input, Output, Session};
use crate::core::time::Epoch;
use crate::rtmp::ingress::{Ingress, Sink};
use crate::rtmp::wire::amf0::{self, AmfLimits, Value};
use crate::rtmp::wire::chunk::{ChunkLimits, ChunkReader, Message, write_message};
use crate::rtmp::wire::handshake::{Handshake, Progress};
use crate::rtmp::wire::{kind, take, take_u8, take_u32, take_uint};
use crate::rtmp::{PublishRequest, Reject, RtmpConfig, RtmpError};

mod commands;
pub mod tls;

/// Chunk size we send with once we said so.
const OUR_CHUNK_SIZE: u32 = 4096;
/// User control events (specification 1.0, section 7.1.7).
const STREAM_BEGIN: u16 = 0;
const PING_REQUEST: u16 = 6;
const PING_RESPONSE: u16 = 7;
/// Chunk streams we send on: control, commands, status.
const CONTROL_CHUNKS: u32 = 2;
const COMMAND_CHUNKS: u32 = 3;
const STATUS_CHUNKS: u32 = 5;

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
    reader: ChunkReader,
    /// What came while the door was being asked.
    pending: Vec<u8>,
    sink: Sink,
    send_chunk_size: usize,
    received: u64,
    acknowledged: u64,
    ack_window: u32,
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
        let limits = ChunkLimits {
            message_bytes: config.max_message_bytes,
            partial_bytes: config.max_partial_bytes,
            streams: config.max_chunk_streams,
        };
        RtmpSession {
            epoch,
            phase: Phase::Handshake(Handshake::default()),
            deadline: now.checked_add(config.handshake_timeout()),
            reader: ChunkReader::new(limits),
            pending: Vec::new(),
            sink: Sink::default(),
            send_chunk_size: crate::rtmp::wire::chunk::DEFAULT_CHUNK_SIZE,
            received: 0,
            acknowledged: 0,
            ack_window: config.window_bytes,
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
        self.send_control(STREAM_BEGIN, self.stream);
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
        self.reader.partial_bytes().saturating_add(self.pending.len())
    }

    /// As if so much had come and been acknowledged.
    #[cfg(test)]
    pub(in crate::rtmp) fn pretend_received(&mut self, bytes: u64) {
        (self.received, self.acknowledged) = (bytes, bytes);
    }

    /// Ends the session over a fault below it.
    pub(in crate::rtmp) fn fail(&mut self, error: &RtmpError) {
        self.end(&error.to_string(), Ending::Error);
    }

    fn end(&mut self, reason: &str, ending: Ending) {
        if !matches!(self.phase, Phase::Over) {
            self.phase = Phase::Over;
            self.deadline = None;
            self.request = None;
            self.sink.event(Event::Closed { reason: reason.to_owned(), ending });
        }
    }

    fn limits(&self) -> AmfLimits {
        AmfLimits {
            depth: self.config.max_amf_depth,
            values: self.config.max_amf_values,
            string_bytes: self.config.max_amf_string_bytes,
        }
    }

    fn take_bytes(&mut self, now: Instant, data: &[u8]) {
        let mut rest = data;
        self.received = self.received.saturating_add(data.len() as u64);
        if let Phase::Handshake(handshake) = &mut self.phase {
            let time = self.epoch.media_time(now).as_micros() as u64;
            match shake(handshake, &mut rest, time) {
                Ok((answer, done)) => {
                    if let Some(answer) = answer {
                        self.send_bytes(answer);
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
        } else if self.received > self.config.max_bytes_before_publish as u64 {
            let error = RtmpError::TooMuchBeforePublish(self.config.max_bytes_before_publish);
            return self.end(&error.to_string(), Ending::Error);
        }
        self.take_chunks(now, rest);
    }

    /// Reads messages up to the end, or up to the one that has to wait for the door.
    fn take_chunks(&mut self, now: Instant, mut data: &[u8]) {
        while matches!(self.phase, Phase::Commands | Phase::Live(_)) {
            let taken = match self.reader.read(&mut data) {
                Ok(Some(message)) => self.take_message(now, message),
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
        self.acknowledge();
    }

    fn acknowledge(&mut self) {
        let due = self.received.saturating_sub(self.acknowledged) >= u64::from(self.ack_window.max(1));
        if due && matches!(self.phase, Phase::Commands | Phase::Live(_)) {
            self.acknowledged = self.received;
            // The report counts modulo 2^32.
            self.send(CONTROL_CHUNKS, 0, kind::ACK, (self.received as u32).to_be_bytes().to_vec());
        }
    }

    fn take_message(&mut self, now: Instant, message: Message) -> Result<(), RtmpError> {
        let mut body = message.payload.as_slice();
        let short = RtmpError::Truncated(message.kind);
        match message.kind {
            kind::SET_CHUNK_SIZE => self.reader.set_chunk_size(take_u32(&mut body).ok_or(short)?)?,
            kind::ABORT => self.reader.abort(take_u32(&mut body).ok_or(short)?),
            kind::WINDOW_ACK_SIZE => self.ack_window = take_u32(&mut body).ok_or(short)?,
            kind::USER_CONTROL => self.take_control(body).ok_or(short)?,
            kind::AUDIO | kind::VIDEO => self.take_media(now, message.kind, message.timestamp, body),
            kind::AGGREGATE => self.take_aggregate(now, message.timestamp, body),
            kind::DATA_AMF0 => self.take_data(body),
            kind::DATA_AMF3 => self.take_data(strip_amf3(body)),
            kind::COMMAND_AMF0 => self.take_command(now, message.stream, body)?,
            kind::COMMAND_AMF3 => self.take_command(now, message.stream, strip_amf3(body))?,
            _ => {}
        }
        Ok(())
    }

    fn take_control(&mut self, mut body: &[u8]) -> Option<()> {
        let event = take_uint(&mut body, 2)? as u16;
        if event == PING_REQUEST {
            let time = take_u32(&mut body)?;
            self.send_control(PING_RESPONSE, time);
        }
        Some(())
    }

    fn take_media(&mut self, now: Instant, kind: u8, timestamp: u32, body: &[u8]) {
        if let Phase::Live(ingress) = &mut self.phase {
            match kind {
                kind::VIDEO => ingress.video(now, timestamp, body, &mut self.sink),
                kind::AUDIO => ingress.audio(now, timestamp, body, &mut self.sink),
                _ => {}
            }
        }
    }

    /// Several messages in one; their times count from the first one's (section 7.1.6).
    fn take_aggregate(&mut self, now: Instant, base: u32, mut body: &[u8]) {
        let mut first = None;
        while let Some((kind, time, tag)) = take_tag(&mut body) {
            let offset = time.wrapping_sub(*first.get_or_insert(time));
            match kind {
                kind::DATA_AMF0 => self.take_data(tag),
                _ => self.take_media(now, kind, base.wrapping_add(offset), tag),
            }
        }
    }

    /// Metadata and other data messages: told to the room as they are.
    fn take_data(&mut self, body: &[u8]) {
        if !matches!(self.phase, Phase::Live(_)) {
            return;
        }
        let values = match amf0::Reader::new(body, self.limits()).all() {
            Ok(values) => values,
            Err(error) => return self.sink.say("data", format!("a data message was left out: {error}")),
        };
        let mut values = values.as_slice();
        if values.first().and_then(Value::as_str) == Some("@setDataFrame") {
            values = values.get(1..).unwrap_or_default();
        }
        let Some((name, values)) = values.split_first() else { return };
        let Some(name) = name.as_str() else { return };
        if name == "onMetaData" {
            let encoder = values.first().and_then(|value| value.get("encoder")).and_then(Value::as_str);
            self.encoder = encoder.map(|text| text.chars().take(128).collect()).or(self.encoder.take());
        }
        let data: Vec<Json> = values.iter().map(Value::to_json).collect();
        self.sink.event(Event::Message(json!({ "name": name, "data": data })));
    }

    fn send_bytes(&mut self, bytes: Vec<u8>) {
        match self.sink.out.back_mut() {
            Some(Output::Bytes(waiting)) => waiting.extend_from_slice(&bytes),
            _ => self.sink.out.push_back(Output::Bytes(bytes)),
        }
    }

    fn send(&mut self, chunk_stream: u32, stream: u32, kind: u8, payload: Vec<u8>) {
        let mut bytes = Vec::new();
        let message = Message { chunk_stream, stream, kind, timestamp: 0, payload };
        write_message(&mut bytes, self.send_chunk_size, &message);
        self.send_bytes(bytes);
    }

    fn send_control(&mut self, event: u16, value: u32) {
        let mut payload = event.to_be_bytes().to_vec();
        payload.extend_from_slice(&value.to_be_bytes());
        self.send(CONTROL_CHUNKS, 0, kind::USER_CONTROL, payload);
    }

    fn send_command(&mut self, values: &[Value]) {
        self.send(COMMAND_CHUNKS, 0, kind::COMMAND_AMF0, amf0::write_all(values));
    }

    fn send_status(&mut self, level: &str, code: &str, text: &str) {
        let info = status(level, code, text);
        let values = [Value::text("onStatus"), Value::Number(0.0), Value::Null, info];
        self.send(STATUS_CHUNKS, self.stream, kind::COMMAND_AMF0, amf0::write_all(&values));
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

/// The AMF3 forms of messages carry AMF0 behind one byte that says so.
fn strip_amf3(body: &[u8]) -> &[u8] {
    body.strip_prefix(&[0]).unwrap_or(body)
}

/// Takes one FLV tag off an aggregate: type, time, body.
fn take_tag<'a>(data: &mut &'a [u8]) -> Option<(u8, u32, &'a [u8])> {
    let kind = take_u8(data)?;
    let size = take_uint(data, 3)? as usize;
    let low = take_uint(data, 3)? as u32;
    let high = u32::from(take_u8(data)?);
    take(data, 3)?;
    let body = take(data, size)?;
    let _back_pointer = take(data, data.len().min(4));
    Some((kind, (high << 24) | low, body))
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
            ingress.handle_timeout(now, &mut self.sink);
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.sink.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let media = match &self.phase {
            Phase::Live(ingress) => ingress.poll_timeout(),
            _ => None,
        };
        [self.deadline, media, self.nudge].into_iter().flatten().min()
    }

    fn dump(&self) -> Json {
        json!({ "protocol": "rtmp", "encoder": self.encoder, "bytesReceived": self.received })
    }
}
