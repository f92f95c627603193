//! The other end: we connect to a server, to publish there or to play what is published there.
//!
//! ```text
//! Shaking --S1--> Connecting --_result--> Creating --_result--> Asking --onStatus--> Ready
//! Ready --frames--> Pushing        Ready --messages--> Pulling        anything --error, hang-up--> Over
//! ```
#![deny(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value as Json;

use crate::core::capabilities::RtpCodec;
use crate::core::session::{Command, Ending, Frame, Input, Output, Session};
use crate::core::time::Epoch;
use crate::rtmp::egress::{Egress, Tag};
use crate::rtmp::ingress::Ingress;
use crate::rtmp::session::link::{self, Link};
use crate::rtmp::session::{Fail, OUR_CODECS};
use crate::rtmp::wire::amf0::{self, Value};
use crate::rtmp::wire::chunk::Message;
use crate::rtmp::wire::handshake::{ClientHandshake, Progress};
use crate::rtmp::wire::kind;
use crate::rtmp::wire::url::RtmpUrl;
use crate::rtmp::{RtmpConfig, RtmpError};

/// Transaction numbers of what is answered.
const CONNECT: f64 = 1.0;
const CREATE_STREAM: f64 = 4.0;
/// Milliseconds that a server is told to keep for us.
const BUFFER_MS: u32 = 1_000;
/// Letters of a server's text that are passed on.
const MAX_TEXT: usize = 200;

/// What is wanted of the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wish {
    /// To send there.
    Publish,
    /// To receive from there.
    Play,
}

enum Phase {
    Shaking(ClientHandshake),
    Connecting,
    Creating,
    Asking,
    Pulling(Box<Ingress>),
    Pushing(Box<Egress>),
    Over,
}

/// See the module.
pub struct RtmpClient {
    config: Arc<RtmpConfig>,
    epoch: Epoch,
    link: Link,
    phase: Phase,
    url: RtmpUrl,
    wish: Wish,
    deadline: Option<Instant>,
    stream: u32,
    takes_opus: bool,
    redirect: Option<String>,
    /// Output waits for a driver that has not looked at this session yet.
    nudge: Option<Instant>,
}

impl RtmpClient {
    /// A session for a connection made at `now`.
    pub fn new(config: Arc<RtmpConfig>, epoch: Epoch, now: Instant, url: RtmpUrl, wish: Wish) -> Self {
        let mut link = Link::new(&config);
        let (handshake, opening) = ClientHandshake::begin(epoch.media_time(now).as_micros() as u64);
        link.send_bytes(opening);
        RtmpClient {
            deadline: now.checked_add(config.handshake_timeout()),
            config,
            epoch,
            link,
            phase: Phase::Shaking(handshake),
            url,
            wish,
            stream: 0,
            takes_opus: false,
            redirect: None,
            nudge: None,
        }
    }

    /// Whether the server agreed: the session can go to a worker.
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Pulling(_) | Phase::Pushing(_))
    }

    /// Whether the server said that it takes Opus ("Enhanced RTMP").
    pub fn takes_opus(&self) -> bool {
        self.takes_opus
    }

    /// Where the server sent us instead.
    pub fn take_redirect(&mut self) -> Option<String> {
        self.redirect.take()
    }

    fn end(&mut self, reason: &str, ending: Ending) {
        if !matches!(self.phase, Phase::Over) {
            self.phase = Phase::Over;
            self.deadline = None;
            self.link.close(reason, ending);
        }
    }

    fn take_bytes(&mut self, now: Instant, data: &[u8]) {
        let mut rest = data;
        self.link.count(data.len());
        if let Phase::Shaking(handshake) = &mut self.phase {
            match handshake.take(&mut rest) {
                Ok(Progress::Answer(answer)) => {
                    self.link.send_bytes(answer);
                    self.connect(now);
                }
                Ok(_) => return,
                Err(error) => return self.end(&error.to_string(), Ending::Error),
            }
        }
        if matches!(self.phase, Phase::Pulling(_)) {
            self.deadline = now.checked_add(self.config.idle_timeout());
        }
        while !matches!(self.phase, Phase::Over) {
            let taken = match self.link.next(&mut rest) {
                Ok(Some(message)) => self.take_message(now, &message),
                Ok(None) => break,
                Err(error) => Err(error),
            };
            if let Err(error) = taken {
                self.end(&error.to_string(), Ending::Error);
            }
        }
        if !matches!(self.phase, Phase::Over) {
            self.link.acknowledge();
        }
    }

    fn connect(&mut self, now: Instant) {
        self.phase = Phase::Connecting;
        self.deadline = now.checked_add(self.config.publish_timeout());
        let names = || OUR_CODECS.iter().map(|name| Value::text(name)).collect();
        let url = self.url.connect_url();
        let mut about = vec![
            ("app", Value::text(self.url.app())),
            ("type", Value::text("nonprivate")),
            (
                "flashVer",
                Value::text(concat!("FMLE/3.0 (compatible; viaduct ", env!("CARGO_PKG_VERSION"), ")")),
            ),
            ("tcUrl", Value::text(&url)),
            ("fourCcList", Value::Array(names())),
        ];
        if self.wish == Wish::Play {
            about.extend([
                ("fpad", Value::Bool(false)),
                ("capabilities", Value::Number(15.0)),
                // AAC and what goes with it; H.264.
                ("audioCodecs", Value::Number(1024.0)),
                ("videoCodecs", Value::Number(128.0)),
                ("videoFunction", Value::Number(1.0)),
            ]);
        }
        let about = Value::Object(about.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
        self.link.send_command(0, &[Value::text("connect"), Value::Number(CONNECT), about]);
    }

    fn take_message(&mut self, now: Instant, message: &Message) -> Result<(), RtmpError> {
        match message.kind {
            kind::COMMAND_AMF0 => self.take_command(now, &message.payload),
            kind::COMMAND_AMF3 => self.take_command(now, link::strip_amf3(&message.payload)),
            kind::USER_CONTROL => {
                if matches!(self.phase, Phase::Pulling(_)) {
                    self.end("the source has ended", Ending::Left);
                }
                Ok(())
            }
            _ => {
                if let Phase::Pulling(ingress) = &mut self.phase {
                    ingress.take(now, message, self.config.amf_limits(), &mut self.link.sink);
                }
                Ok(())
            }
        }
    }

    fn take_command(&mut self, now: Instant, body: &[u8]) -> Result<(), RtmpError> {
        let values = amf0::Reader::new(body, self.config.amf_limits()).all()?;
        let name = values.first().and_then(Value::as_str).ok_or(RtmpError::Amf("a command without name"))?;
        let transaction = values.get(1).and_then(Value::as_number).unwrap_or_default();
        let info = values.get(3).unwrap_or(&Value::Null);
        match (name, &self.phase) {
            ("_result", Phase::Connecting) if transaction == CONNECT => self.connected(info),
            ("_result", Phase::Creating) if transaction == CREATE_STREAM => self.created(info),
            ("_error", Phase::Connecting | Phase::Creating)
                if transaction == CONNECT || transaction == CREATE_STREAM =>
            {
                self.refused(info);
            }
            ("onStatus", _) => self.take_status(now, info),
            ("close", _) => self.end("the server closed the connection", Ending::Left),
            _ => {}
        }
        Ok(())
    }

    fn connected(&mut self, info: &Value) {
        let takes = |list: &Value| match list {
            Value::Array(names) => {
                names.iter().filter_map(Value::as_str).any(|name| matches!(name, "Opus" | "*"))
            }
            Value::Object(members) => members.iter().any(|(name, _)| matches!(name.as_str(), "Opus" | "*")),
            _ => false,
        };
        self.takes_opus =
            ["fourCcList", "audioFourCcInfoMap"].iter().filter_map(|key| info.get(key)).any(takes);
        self.phase = Phase::Creating;
        let window = self.config.window_bytes.to_be_bytes().to_vec();
        self.link.send(link::CONTROL_CHUNKS, 0, kind::WINDOW_ACK_SIZE, window);
        self.link.enlarge_chunks();
        let null = || Value::Null;
        if self.wish == Wish::Publish {
            let stream = Value::text(self.url.stream());
            self.link
                .send_command(0, &[Value::text("releaseStream"), Value::Number(2.0), null(), stream.clone()]);
            self.link.send_command(0, &[Value::text("FCPublish"), Value::Number(3.0), null(), stream]);
        }
        self.link.send_command(0, &[Value::text("createStream"), Value::Number(CREATE_STREAM), null()]);
    }

    fn created(&mut self, stream: &Value) {
        self.phase = Phase::Asking;
        self.stream = stream.as_number().unwrap_or(1.0) as u32;
        let name = Value::text(self.url.stream());
        let (ask, last) = match self.wish {
            Wish::Publish => ("publish", Value::text("live")),
            // Live, else recorded.
            Wish::Play => ("play", Value::Number(-2000.0)),
        };
        self.link.send_command(self.stream, &[Value::text(ask), Value::Number(5.0), Value::Null, name, last]);
        if self.wish == Wish::Play {
            let mut payload = link::SET_BUFFER_LENGTH.to_be_bytes().to_vec();
            payload.extend(self.stream.to_be_bytes());
            payload.extend(BUFFER_MS.to_be_bytes());
            self.link.send(link::CONTROL_CHUNKS, 0, kind::USER_CONTROL, payload);
        }
    }

    fn take_status(&mut self, now: Instant, info: &Value) {
        let text = |key| info.get(key).and_then(Value::as_str).unwrap_or_default();
        match (text("code"), &self.phase) {
            ("NetStream.Publish.Start", Phase::Asking) => {
                self.phase = Phase::Pushing(Box::new(Egress::new(now)));
                self.deadline = None;
                self.nudge = Some(now);
            }
            ("NetStream.Play.Start", Phase::Asking) => {
                self.phase = Phase::Pulling(Box::new(Ingress::new(&self.config, self.epoch, now)));
                self.deadline = now.checked_add(self.config.idle_timeout());
                self.nudge = Some(now);
            }
            ("NetStream.Play.UnpublishNotify" | "NetStream.Play.Stop" | "NetStream.Play.Complete", _) => {
                self.end("the source has ended", Ending::Left);
            }
            _ if text("level") == "error" => self.refused(info),
            _ => {}
        }
    }

    /// The server said no, or that the stream is elsewhere.
    fn refused(&mut self, info: &Value) {
        let text = |key| info.get(key).and_then(Value::as_str);
        let ex = info.get("ex");
        let elsewhere = ex.and_then(|ex| ex.get("redirect")).and_then(Value::as_str);
        let moved = ex.and_then(|ex| ex.get("code")).and_then(Value::as_number) == Some(302.0);
        if let Some(url) = elsewhere.filter(|_| moved) {
            self.redirect = Some(url.to_owned());
            return self.end("the server sent us elsewhere", Ending::Left);
        }
        let words = [text("code"), text("description")].into_iter().flatten().collect::<Vec<_>>().join(": ");
        // What a server says may quote the stream's name, which is a secret.
        let words = words
            .replace(Some(self.url.stream()).filter(|name| !name.is_empty()).unwrap_or("\0"), "(private)");
        let words: String = words.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect();
        self.end(&format!("the server refused: {words}"), Ending::Error);
    }

    fn goodbye(&mut self) {
        let stream = Value::Number(f64::from(self.stream));
        if self.wish == Wish::Publish && matches!(self.phase, Phase::Pushing(_)) {
            let name = Value::text(self.url.stream());
            self.link.send_command(0, &[Value::text("FCUnpublish"), Value::Number(6.0), Value::Null, name]);
        }
        if self.is_ready() {
            self.link
                .send_command(0, &[Value::text("deleteStream"), Value::Number(7.0), Value::Null, stream]);
        }
    }
}

impl Fail for RtmpClient {
    fn fail(&mut self, error: &RtmpError) {
        self.end(&error.to_string(), Ending::Error);
    }
}

impl Session for RtmpClient {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Bytes(_) if matches!(self.phase, Phase::Over) => {}
            Input::Bytes(data) => self.take_bytes(now, data),
            Input::Eof => self.end("the server hung up", Ending::Error),
            Input::Datagram { .. } | Input::Authenticated { .. } | Input::PathClosed { .. } => {}
        }
    }

    fn takes_frames(&self) -> bool {
        self.wish == Wish::Publish
    }

    fn handle_frame(&mut self, now: Instant, codec: &RtpCodec, frame: Frame) {
        let Phase::Pushing(egress) = &mut self.phase else { return };
        let (link, stream) = (&mut self.link, self.stream);
        egress.frame(now, codec, &frame, &mut |Tag { kind, timestamp, payload }| {
            let chunk_stream = match kind {
                kind::VIDEO => link::VIDEO_CHUNKS,
                _ => link::AUDIO_CHUNKS,
            };
            link.send_message(&Message { chunk_stream, stream, kind, timestamp, payload });
        });
    }

    fn command(&mut self, _now: Instant, command: Command) -> Result<Json, String> {
        match command {
            Command::Close { reason } => {
                self.goodbye();
                self.end(&reason, Ending::Closed);
                Ok(Json::Null)
            }
            // RTMP has no word for it.
            Command::RequestKeyframe { .. } => Ok(Json::Null),
            _ => Err("not a command for an RTMP connection".to_owned()),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.nudge = None;
        if self.deadline.is_some_and(|at| now >= at) {
            let reason = match &self.phase {
                Phase::Shaking(_) => "no RTMP handshake in time",
                Phase::Pulling(_) => "nothing came from the server any more",
                _ => "the server did not agree in time",
            };
            return self.end(reason, Ending::Timeout);
        }
        if let Phase::Pulling(ingress) = &mut self.phase {
            ingress.handle_timeout(now, &mut self.link.sink);
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.link.sink.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let media = match &self.phase {
            Phase::Pulling(ingress) => ingress.poll_timeout(),
            _ => None,
        };
        [self.deadline, media, self.nudge].into_iter().flatten().min()
    }

    fn dump(&self) -> Json {
        let mut dump = self.link.dump();
        dump.insert("target".to_owned(), self.url.to_string().into());
        if let Phase::Pushing(egress) = &self.phase {
            dump.insert("frames".to_owned(), egress.frames().into());
        }
        Json::Object(dump)
    }
}
