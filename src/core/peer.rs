//! A member of a room as a value: what kind of party it is, what it sends and receives, and why it left.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::core::auth::Principal;
use crate::core::capabilities::{Kind, RtpCodec};
use crate::core::convert::Format;
use crate::core::id::{ConnId, ConsumerId, ProducerId, RouterId, TransportId, WorkerId};

/// By which door a peer came.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerKind {
    /// A WHIP publisher.
    Whip,
    /// A WHEP viewer.
    Whep,
    /// An RTMP publisher.
    Rtmp,
    /// The built-in looped clip.
    Clip,
    /// A telephone.
    Sip,
    /// A browser that speaks the v3 room protocol.
    Room,
    /// A browser that speaks the v2 room protocol.
    RoomV2,
    /// A member that a controller made and drives.
    Controller,
}

impl fmt::Display for PeerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PeerKind::Whip => "whip",
            PeerKind::Whep => "whep",
            PeerKind::Rtmp => "rtmp",
            PeerKind::Clip => "clip",
            PeerKind::Sip => "sip",
            PeerKind::Room => "room",
            PeerKind::RoomV2 => "roomv2",
            PeerKind::Controller => "controller",
        })
    }
}

/// Why a peer is gone.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct CloseReason {
    /// For people.
    pub text: String,
    /// For programs: `taken_over`, `worker_lost`, `kicked`, `left`, `timeout`, `shutdown`, `error`.
    pub code: &'static str,
}

impl CloseReason {
    /// A reason of the given code.
    pub fn new(code: &'static str, text: impl Into<String>) -> Self {
        CloseReason { text: text.into(), code }
    }

    /// The party left by itself.
    pub fn left() -> Self {
        Self::new("left", "the peer left")
    }

    /// The same party came back and took its place.
    pub fn taken_over() -> Self {
        Self::new("taken_over", "the publisher came back on another connection, which took over")
    }

    /// The worker that carried it failed.
    pub fn worker_lost() -> Self {
        Self::new("worker_lost", "the worker that carried the connection failed; connect again")
    }

    /// The server stops.
    pub fn shutdown() -> Self {
        Self::new("shutdown", "the server is shutting down")
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.code)
    }
}

/// One party in a room.
#[derive(Debug)]
pub struct Member {
    /// Its connection.
    pub conn: ConnId,
    /// By which door it came.
    pub kind: PeerKind,
    /// A publisher's name within the room.
    pub name: String,
    /// Who it is, as far as rights go.
    pub principal: Principal,
    /// Its name for people.
    pub display_name: Option<String>,
    /// The application's own.
    pub app_data: Value,
    /// Other members are not told of it, and it may not send.
    pub spy: bool,
    /// Whether it may send media.
    pub publishes: bool,
    /// The publisher it wants instead of the room's program.
    pub watch: Option<String>,
    /// The worker its transports are on.
    pub worker: WorkerId,
    /// The router its transports are on.
    pub router: RouterId,
    /// Its transports.
    pub transports: Vec<TransportId>,
    /// What it sends.
    pub tracks: Vec<Track>,
    /// What it receives.
    pub feeds: Vec<Feed>,
    /// When its first track stood, counted over all publishers; the newest is the room's program.
    pub live_since: Option<u64>,
}

/// How a track is layered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum Layers {
    /// One stream, one layer.
    #[default]
    Simple,
    /// Several streams of one picture.
    Simulcast {
        /// How many.
        streams: u8,
    },
    /// Layers within one stream.
    Svc {
        /// Spatial layers.
        spatial: u8,
        /// Temporal layers.
        temporal: u8,
    },
}

/// A track a member sends.
#[derive(Debug)]
pub struct Track {
    /// Its producer on the room's home router.
    pub producer: ProducerId,
    /// The transport it comes by.
    pub transport: TransportId,
    /// What it carries.
    pub format: Format,
    /// Its number within a stream session.
    pub session_track: Option<u32>,
    /// The worker has made the producer.
    pub ready: bool,
    /// Its member, or somebody with the right to, holds it back.
    pub paused: bool,
    /// Its layers.
    pub layers: Layers,
    /// The application's own.
    pub app_data: Value,
}

/// A consumer of a member that follows the program.
#[derive(Debug)]
pub struct Feed {
    /// The consumer.
    pub consumer: ConsumerId,
    /// The transport it goes by.
    pub transport: TransportId,
    /// Sound or picture.
    pub kind: Kind,
    /// Every codec the receiver takes.
    pub accepts: Arc<[RtpCodec]>,
    /// What it is fed from.
    pub source: Option<Source>,
    /// Why it is fed from nothing although there is something.
    pub refusal: Option<Refused>,
    /// Something is played to it alone.
    pub playing: bool,
}

/// Where a feed's media comes from, step by step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Source {
    /// The publisher's own producer.
    pub origin: ProducerId,
    /// The conversion in between.
    pub job: Option<u32>,
    /// The output of the room's mix that it is; `origin` is that output then.
    pub mix: Option<u32>,
    /// The producer on the home router that has the right codec.
    pub home: ProducerId,
    /// The producer on the receiver's router; another than `home` when it was piped there.
    pub local: ProducerId,
}

/// Why a feed gets nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// For the viewer and the log.
    pub text: String,
    /// It may go better later without anything else changing.
    pub passing: bool,
}

impl Member {
    /// Whether media of it is there.
    pub fn is_live(&self) -> bool {
        self.tracks.iter().any(|track| track.ready)
    }

    /// The newest track of a kind.
    pub fn track(&self, kind: Kind) -> Option<&Track> {
        self.tracks.iter().rev().find(|track| track.ready && track.format.kind == kind)
    }
}
