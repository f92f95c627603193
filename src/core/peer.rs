//! A member of a room as a value: what kind of party it is, what it sends and receives, and why it left.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::core::auth::Principal;
use crate::core::capabilities::{Encoding, Kind, RtpCodec, RtpParameters};
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
    /// The server sends the room away over RTMP.
    Push,
    /// The server fetches a stream over RTMP.
    Pull,
    /// The server plays a file.
    File,
}

impl PeerKind {
    /// Whether somebody stays in touch with the peer by other means than its media, and sees when it is gone.
    pub fn is_attended(self) -> bool {
        matches!(self, PeerKind::Room | PeerKind::RoomV2 | PeerKind::Controller)
    }
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
            PeerKind::Push => "push",
            PeerKind::Pull => "pull",
            PeerKind::File => "file",
        })
    }
}

/// Why a peer is gone.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct CloseReason {
    /// For people.
    pub text: String,
    /// For programs: `taken_over`, `worker_lost`, `kicked`, `moved`, `left`, `timeout`, `shutdown`, `error`; of a
    /// consumer also `track_ended`.
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
    /// Other members have been told of it, unless it is a spy.
    pub announced: bool,
    /// Whether it may send media.
    pub publishes: bool,
    /// The publisher it wants instead of the room's program.
    pub watch: Option<String>,
    /// The worker its transports are on, but for some it only receives by.
    pub worker: WorkerId,
    /// The router they are on.
    pub router: RouterId,
    /// Its transports.
    pub transports: Vec<Path>,
    /// What it sends.
    pub tracks: Vec<Track>,
    /// What it receives.
    pub feeds: Vec<Feed>,
    /// Kinds of track that somebody with rights over the room silenced.
    pub muted: Muted,
    /// When its first track stood, counted over all publishers; the newest is the room's program.
    pub live_since: Option<u64>,
}

impl Member {
    /// Whether other members are not told of it.
    pub fn is_hidden(&self) -> bool {
        self.spy || !self.announced
    }
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

impl Layers {
    /// As the parameters of a track announce them.
    pub fn of(rtp: &RtpParameters) -> Self {
        if let Ok(streams @ 2..) = u8::try_from(rtp.encodings.len()) {
            return Layers::Simulcast { streams };
        }
        let mode = rtp.encodings.first().and_then(|encoding| encoding.scalability_mode.as_deref());
        match mode.and_then(scalability) {
            None | Some((1, 1)) => Layers::Simple,
            Some((spatial, temporal)) => Layers::Svc { spatial, temporal },
        }
    }
}

/// Spatial and temporal layers of a scalability mode: `L3T2`, `S2T1`, `L2T3_KEY`.
fn scalability(mode: &str) -> Option<(u8, u8)> {
    let (spatial, rest) = mode.strip_prefix(['L', 'S'])?.split_once('T')?;
    let temporal = rest.split('_').next()?;
    let spatial = spatial.trim_end_matches('h').parse().ok()?;
    Some((spatial, temporal.trim_end_matches('h').parse().ok()?))
}

/// A track a member sends.
#[derive(Debug)]
pub struct Track {
    /// Its producer on the room's home router.
    pub producer: ProducerId,
    /// Its producer on the router its transport is on, by which its door knows it; another where that is not the home
    /// router, to which it is piped.
    pub sent: ProducerId,
    /// What pipes it there, where it is piped.
    pub carrier: Option<Carrier>,
    /// The transport it comes by.
    pub transport: TransportId,
    /// What it carries.
    pub format: Format,
    /// Its streams.
    pub encodings: Vec<Encoding>,
    /// Its number within a stream session.
    pub session_track: Option<u32>,
    /// The worker has made the producer.
    pub ready: bool,
    /// Its member holds it back.
    pub paused: bool,
    /// Somebody with rights over the room does.
    pub muted: bool,
    /// Its layers.
    pub layers: Layers,
    /// The application's own.
    pub app_data: Value,
    /// Who is sent it by itself, and by which consumer.
    pub takers: BTreeSet<(ConnId, ConsumerId)>,
}

/// The consumer that takes a track from the router it comes in on to the home router of its room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Carrier {
    /// The router the track comes in on.
    pub router: RouterId,
    /// The worker that is on.
    pub worker: WorkerId,
    /// The consumer.
    pub consumer: ConsumerId,
}

/// Kinds of track that are held back whatever their member wants.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Muted {
    /// Sound.
    pub audio: bool,
    /// Picture.
    pub video: bool,
}

impl Muted {
    /// Whether tracks of that kind are.
    pub fn holds(self, kind: Kind) -> bool {
        match kind {
            Kind::Audio => self.audio,
            Kind::Video => self.video,
        }
    }

    /// Mutes a kind, or no longer.
    pub fn set(&mut self, kind: Kind, muted: bool) {
        match kind {
            Kind::Audio => self.audio = muted,
            Kind::Video => self.video = muted,
        }
    }
}

/// A transport of a member, and where it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Path {
    /// The transport.
    pub id: TransportId,
    /// The router it is on.
    pub router: RouterId,
    /// The worker that is on.
    pub worker: WorkerId,
    /// It counts as a receiver of its own there.
    pub counted: bool,
}

/// What a consumer is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Follows {
    /// The room's program, whoever that is at the time.
    Program,
    /// One track, for as long as that lives.
    Track(ProducerId),
}

/// A consumer of a member.
#[derive(Debug)]
pub struct Feed {
    /// The consumer.
    pub consumer: ConsumerId,
    /// The transport it goes by.
    pub transport: TransportId,
    /// The router that is on.
    pub router: RouterId,
    /// The worker that is on.
    pub worker: WorkerId,
    /// Sound or picture.
    pub kind: Kind,
    /// What it is for.
    pub follows: Follows,
    /// Every codec the receiver takes.
    pub accepts: Arc<[RtpCodec]>,
    /// What it is fed from.
    pub source: Option<Source>,
    /// Why it is fed from nothing although there is something.
    pub refusal: Option<Refused>,
    /// The number of what is played to it alone.
    pub playing: Option<u32>,
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

    /// The track of a kind that stands for it where only one can be taken: the first that is not paused, else the
    /// first.
    pub fn track(&self, kind: Kind) -> Option<&Track> {
        let mut running = self.tracks_of(kind).filter(|track| !track.is_paused());
        running.next().or_else(|| self.tracks_of(kind).next())
    }

    /// One of its transports, and where it is.
    pub fn path(&self, transport: TransportId) -> Option<Path> {
        self.transports.iter().find(|path| path.id == transport).copied()
    }

    /// The track that others, or its own door, know by that number.
    pub fn track_called(&self, producer: ProducerId) -> Option<&Track> {
        self.tracks.iter().find(|track| track.producer == producer || track.sent == producer)
    }

    /// Its tracks of a kind.
    pub fn tracks_of(&self, kind: Kind) -> impl Iterator<Item = &Track> {
        self.tracks.iter().filter(move |track| track.ready && track.format.kind == kind)
    }
}

impl Track {
    /// Whether it is held back, whoever does.
    pub fn is_paused(&self) -> bool {
        self.paused || self.muted
    }
}

impl CloseReason {
    /// The track that was consumed ended.
    pub fn track_ended() -> Self {
        Self::new("track_ended", "the track ended")
    }
}

impl PeerKind {
    /// Whether such a member stays when a transport of it ends: it has another connection, which tells it.
    pub fn outlives_transports(self) -> bool {
        matches!(self, PeerKind::Room | PeerKind::RoomV2 | PeerKind::Controller)
    }
}
