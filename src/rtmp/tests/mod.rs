//! Whole sessions, fed from memory with a hand-moved clock; and, on request, real encoders on loopback.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::session::{Event, Frame, Input, Output, Session, Track};
use crate::core::time::Epoch;
use crate::rtmp::wire::amf0::{self, AmfLimits, Value};
use crate::rtmp::wire::chunk::{ChunkLimits, ChunkReader, Message, write_message};
use crate::rtmp::wire::{handshake, kind};
use crate::rtmp::{RtmpConfig, RtmpSession};

mod chunks;
mod client;
mod doors;
mod live;
mod media;
mod mutations;
mod publishing;
mod tls;

/// avcC that libx264 wrote: Main 1920x1080, two reorder frames allowed.
const MAIN: &str =
    "014d4028ffe1001e674d4028eca03c0113f2e02d40404050000003001000000303c0f183196001000568ebe3cb20";
/// avcC that libx264 wrote: Baseline 640x360.
const BASELINE: &str =
    "0142c01effe1001d6742c01ed900a02ff97016a0202028000003000800000301e078b1724001000568cb83cb20";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap()).collect()
}

/// A publisher's end, written down: it makes bytes and reads answers.
struct Client {
    start: Instant,
    now: Instant,
    session: RtmpSession,
    chunk_size: usize,
    reader: ChunkReader,
    raw: Vec<u8>,
    shaken: bool,
    answers: Vec<Message>,
    events: Vec<Event>,
}

impl Client {
    fn new() -> Self {
        Self::with(RtmpConfig::default())
    }

    fn with(config: RtmpConfig) -> Self {
        let start = Instant::now();
        let epoch = Epoch { instant: start, unix: Duration::from_secs(1_000_000) };
        Client {
            start,
            now: start,
            session: RtmpSession::new(Arc::new(config), epoch, start),
            chunk_size: 128,
            reader: ChunkReader::new(ChunkLimits {
                message_bytes: 1 << 20,
                partial_bytes: 1 << 20,
                streams: 8,
            }),
            raw: Vec::new(),
            shaken: false,
            answers: Vec::new(),
            events: Vec::new(),
        }
    }

    fn feed(&mut self, data: &[u8]) {
        self.session.handle_input(self.now, Input::Bytes(data));
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Bytes(bytes) => self.raw.extend(bytes),
                Output::Event(event) => self.events.push(event),
                Output::Datagram { .. } => panic!("no datagrams here"),
            }
        }
        let opening = 1 + 2 * handshake::BLOCK;
        if !self.shaken && self.raw.len() >= opening {
            self.raw.drain(..opening);
            self.shaken = true;
        }
        let raw = std::mem::take(&mut self.raw);
        if !self.shaken {
            self.raw = raw;
            return;
        }
        let mut rest = raw.as_slice();
        while let Some(message) = self.reader.read(&mut rest).unwrap() {
            if message.kind == kind::SET_CHUNK_SIZE {
                let size = u32::from_be_bytes(message.payload[..4].try_into().unwrap());
                self.reader.set_chunk_size(size).unwrap();
            }
            self.answers.push(message);
        }
    }

    /// Moves the clock and lets the session see it, as a driver would.
    fn wait(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        while self.session.poll_timeout().is_some_and(|at| at <= self.now) {
            self.session.handle_timeout(self.now);
            self.drain();
        }
    }

    fn message(&self, chunk_stream: u32, stream: u32, kind: u8, timestamp: u32, payload: Vec<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        let message = Message { chunk_stream, stream, kind, timestamp, payload };
        write_message(&mut out, self.chunk_size, &message);
        out
    }

    fn command(&self, stream: u32, values: &[Value]) -> Vec<u8> {
        self.message(3, stream, kind::COMMAND_AMF0, 0, amf0::write_all(values))
    }

    fn handshake(&mut self) {
        let mut opening = vec![3];
        opening.extend((0..handshake::BLOCK).map(|at| (at * 31) as u8));
        self.feed(&opening);
        assert!(self.shaken, "the handshake was not answered");
        self.feed(&[7; handshake::BLOCK]);
    }

    /// What ffmpeg and OBS send up to `publish`.
    fn commands(&self, app: &str, stream: &str) -> Vec<u8> {
        let text = Value::text;
        let url = format!("rtmp://host.example:1935/{app}");
        let connect = Value::object([
            ("app", text(app)),
            ("type", text("nonprivate")),
            ("flashVer", text("FMLE/3.0 (compatible; FMSc/1.0)")),
            ("swfUrl", text(&url)),
            ("tcUrl", text(&url)),
        ]);
        let null = || Value::Null;
        [
            self.command(0, &[text("connect"), Value::Number(1.0), connect]),
            self.command(0, &[text("releaseStream"), Value::Number(2.0), null(), text(stream)]),
            self.command(0, &[text("FCPublish"), Value::Number(3.0), null(), text(stream)]),
            self.command(0, &[text("createStream"), Value::Number(4.0), null()]),
            self.command(1, &[text("publish"), Value::Number(5.0), null(), text(stream), text("live")]),
        ]
        .concat()
    }

    /// Handshake, commands, let in.
    fn publishing() -> Self {
        let mut client = Client::new();
        client.handshake();
        client.feed(&client.commands("studio", "k3y"));
        assert!(client.session.take_request().is_some());
        client.session.accept(client.now);
        client.drain();
        client.answers.clear();
        client
    }

    fn video(&mut self, timestamp: u32, body: &[u8]) {
        self.feed(&self.message(6, 1, kind::VIDEO, timestamp, body.to_vec()));
    }

    fn audio(&mut self, timestamp: u32, body: &[u8]) {
        self.feed(&self.message(4, 1, kind::AUDIO, timestamp, body.to_vec()));
    }

    /// Commands among the answers, by name.
    fn commands_answered(&self) -> Vec<Vec<Value>> {
        let limits = AmfLimits { depth: 8, values: 100, string_bytes: 1000 };
        let commands = self.answers.iter().filter(|message| message.kind == kind::COMMAND_AMF0);
        commands.map(|message| amf0::Reader::new(&message.payload, limits).all().unwrap()).collect()
    }

    /// The codes of status answers.
    fn codes(&self) -> Vec<String> {
        let commands = self.commands_answered();
        let code = |values: &Vec<Value>| {
            values.iter().find_map(|value| value.get("code")?.as_str().map(str::to_owned))
        };
        commands.iter().filter_map(code).collect()
    }

    fn frames(&self) -> Vec<&Frame> {
        self.events.iter().filter_map(frame).collect()
    }

    fn tracks(&self) -> Vec<&Track> {
        self.events.iter().filter_map(track).collect()
    }

    fn notices(&self) -> Vec<&str> {
        self.events.iter().filter_map(notice).collect()
    }

    fn closed(&self) -> Option<(&str, bool)> {
        self.events.iter().find_map(|event| match event {
            Event::Closed { reason, ending } => Some((reason.as_str(), ending.is_clean())),
            _ => None,
        })
    }
}

fn frame(event: &Event) -> Option<&Frame> {
    match event {
        Event::Frame(frame) => Some(frame),
        _ => None,
    }
}

fn notice(event: &Event) -> Option<&str> {
    match event {
        Event::Notice(text) => Some(text),
        _ => None,
    }
}

fn track(event: &Event) -> Option<&Track> {
    match event {
        Event::Track(track) | Event::TrackChanged(track) => Some(track),
        _ => None,
    }
}

/// A classic H.264 tag.
fn avc(keyframe: bool, packet: u8, composition: i32, data: &[u8]) -> Vec<u8> {
    let mut body = vec![if keyframe { 0x17 } else { 0x27 }, packet];
    body.extend(&composition.to_be_bytes()[1..]);
    body.extend(data);
    body
}

/// NAL units behind four-byte lengths.
fn unit(nals: &[&[u8]]) -> Vec<u8> {
    nals.iter().flat_map(|nal| [&(nal.len() as u32).to_be_bytes()[..], nal].concat()).collect()
}

const IDR: &[u8] = &[0x65, 0x88, 0x84, 0x00];
/// slice_type 5 (P), referred to.
const P: &[u8] = &[0x41, 0b1001_1000, 0x11];
/// slice_type 6 (B), not referred to.
const B: &[u8] = &[0x01, 0b1001_1100, 0x22];
const AAC_48K: &[u8] = &[0xaf, 0, 0x11, 0x90];
