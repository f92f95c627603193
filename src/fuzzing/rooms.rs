//! Sessions of room clients: any messages, between events of a room that answers everything.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::core::capabilities::Kind;
use crate::core::capabilities::room::{Dialect, RoomCodec, capabilities};
use crate::core::control::{
    Consumed, DtlsParameters, IceParameters, PeerEvent, PeerInfo, RoomEvent, TrackInfo, WebRtcTransport,
};
use crate::core::id::{ConnId, ConsumerId, ProducerId, TransportId, WorkerId};
use crate::core::io::clock;
use crate::core::peer::{CloseReason, Layers, PeerKind};
use crate::core::profile::Profile;
use crate::core::session::DtlsRole;
use crate::rooms::Config;
use crate::rooms::error::Refusal;
use crate::rooms::session::asks::{Answer, Ask};
use crate::rooms::session::v2::V2;
use crate::rooms::session::{Answered, Output, Session};
use crate::rooms::wire::Message;

/// Each line is a message, or `!` and letters, each of which makes something happen. Every request is responded to
/// exactly once, and what we send are messages.
pub fn rooms(data: &[u8]) {
    let room = Arc::new(capabilities(&RoomCodec::ALL, Dialect::V2));
    let now = clock::now();
    COUNT.set(0);
    let session = Session::new(Config::default(), now, random, V2::new(room, true));
    let mut run = Run { session, now, open: BTreeSet::new(), made: 0, refuses: false, closed: false };
    for line in data.split(|byte| *byte == b'\n') {
        let Ok(text) = std::str::from_utf8(line) else { continue };
        match text.strip_prefix('!') {
            Some(letters) => letters.bytes().for_each(|letter| run.happen(letter)),
            None => run.hear(text),
        }
        run.drain();
    }
    assert!(run.closed || run.open.is_empty(), "without a response: {:?}", run.open);
}

thread_local!(static COUNT: Cell<u64> = const { Cell::new(0) });

/// The same numbers in every run, spread over all bits.
fn random() -> u64 {
    COUNT.set(COUNT.get() + 1);
    COUNT.get().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8
}

struct Run {
    session: Session<V2>,
    now: Instant,
    open: BTreeSet<u64>,
    /// Entities made so far.
    made: u32,
    refuses: bool,
    closed: bool,
}

impl Run {
    fn hear(&mut self, text: &str) {
        if let Ok(Message::Request { id, .. }) = Message::parse(text) {
            self.open.insert(id);
        }
        self.session.handle_text(self.now, text);
    }

    fn happen(&mut self, letter: u8) {
        let (conn, producer) =
            (ConnId::new(0, WorkerId(0), u128::from(letter % 3)), ProducerId(letter.into()));
        let event = match letter {
            b'0'..=b'2' => RoomEvent::PeerJoined(peer(conn)),
            b'3'..=b'5' => RoomEvent::PeerLeft { conn, reason: CloseReason::left() },
            b'a'..=b'f' => RoomEvent::TrackAdded(track(conn, producer)),
            b'g'..=b'i' => {
                let paused = letter == b'g';
                RoomEvent::TrackChanged(TrackInfo { paused, ..track(conn, ProducerId(b'a'.into())) })
            }
            b'j'..=b'o' => RoomEvent::TrackRemoved { conn, producer: ProducerId((letter - 9).into()) },
            b'p' => RoomEvent::ActiveSpeaker(Some((conn, producer))),
            b'q' => return self.refuses = !self.refuses,
            b't' => return self.pass(1_000),
            b'T' => return self.pass(60_000),
            b'L' => return self.session.handle_left(self.now, &CloseReason::left()),
            other => return self.own(other),
        };
        self.session.handle_room_event(self.now, event);
    }

    fn own(&mut self, letter: u8) {
        let number = u32::from(letter % 8);
        let event = match letter {
            b'A'..=b'H' => {
                PeerEvent::TransportClosed { transport: TransportId(number), reason: CloseReason::left() }
            }
            b'I'..=b'K' => PeerEvent::ProducerPaused { producer: ProducerId(number) },
            b'M'..=b'P' => {
                PeerEvent::ProducerClosed { producer: ProducerId(number), reason: CloseReason::left() }
            }
            b'Q'..=b'S' => {
                PeerEvent::ConsumerClosed { consumer: ConsumerId(number), reason: CloseReason::left() }
            }
            _ => PeerEvent::EffectiveProfile { consumer: ConsumerId(number), profile: Profile::Low },
        };
        self.session.handle_own_event(self.now, event);
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.session.handle_timeout(self.now);
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            assert!(!self.closed, "something behind the end: {output:?}");
            match output {
                Output::Send(text) => self.sent(&text),
                Output::Ask(id, ask) => {
                    let answer = self.answer(ask);
                    self.session.handle_answer(self.now, id, answer);
                }
                Output::Close(..) => self.closed = true,
            }
        }
    }

    fn sent(&mut self, text: &str) {
        match Message::parse(text) {
            Ok(Message::Response { id, result }) => {
                // A second request of one id is refused while the first is under way, which cannot be here.
                assert!(self.open.remove(&id), "an answer to nothing: {id} {result:?}");
            }
            Ok(Message::Notification { .. }) => {}
            other => panic!("no message: {other:?}"),
        }
    }

    fn answer(&mut self, ask: Ask) -> Answered {
        self.made += 1;
        let made = self.made % 8;
        if self.refuses {
            return Err(Refusal::bad("no"));
        }
        Ok(match ask {
            Ask::Join(_) => Answer::Joined(ConnId::new(0, WorkerId(0), 0)),
            Ask::CreateTransport(_) => Answer::Transport(transport(made)),
            Ask::ConnectTransport(..) => Answer::Role(DtlsRole::Client),
            Ask::RestartIce(_) => Answer::Ice(transport(made).ice),
            Ask::Produce(..) => Answer::Producer(ProducerId(made)),
            Ask::Consume { rtp, .. } => Answer::Consumed(Box::new(Consumed {
                consumer: ConsumerId(made),
                kind: Kind::Video,
                rtp,
                converted: false,
                producer_paused: false,
                layers: Layers::Simple,
            })),
            Ask::TransportStats(_) | Ask::ProducerStats(_) | Ask::ConsumerStats(_) => {
                Answer::Value(json!([]))
            }
            _ => Answer::Done,
        })
    }
}

fn peer(conn: ConnId) -> PeerInfo {
    PeerInfo {
        conn,
        name: "peer".into(),
        display_name: None,
        kind: PeerKind::Room,
        publishes: true,
        spy: false,
        app_data: Value::Null,
    }
}

fn track(conn: ConnId, producer: ProducerId) -> TrackInfo {
    let (kind, mime, clock_rate) = match producer.0 % 3 {
        0 => (Kind::Audio, "audio/opus", 48_000),
        1 => (Kind::Video, "video/H264", 90_000),
        _ => (Kind::Audio, "audio/mpeg4-generic", 44_100),
    };
    let codec =
        crate::core::capabilities::RtpCodec { mime_type: mime.into(), clock_rate, ..Default::default() };
    TrackInfo {
        conn,
        producer,
        kind,
        codec,
        paused: false,
        muted: false,
        layers: Layers::Simple,
        app_data: Value::Null,
    }
}

fn transport(made: u32) -> WebRtcTransport {
    WebRtcTransport {
        id: TransportId(made),
        ice: IceParameters { username_fragment: "u".into(), password: "p".into(), ice_lite: true },
        candidates: Vec::new(),
        dtls: DtlsParameters { role: DtlsRole::Auto, fingerprints: Vec::new() },
        sctp: None,
    }
}
