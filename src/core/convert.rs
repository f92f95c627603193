//! Conversion on demand. When a consumer cannot take a producer as it is, the core raises a request
//! through [`Converter`]; the bridge implements it and `server.rs` plugs it in, so that core names no
//! codec. A job lives only while somebody consumes its output.
//!
//! A [`Mixer`] is the other half: one [`MixJob`] a room, many tracks in and many out through one Direct
//! transport, for receivers that can take only one track of sound.

use serde_json::Value;

use crate::core::capabilities::{Kind, RtpCodec};
use crate::core::id::ConnId;
use crate::core::lane;
use crate::core::session::Frame;
use crate::core::time::{Epoch, MediaTime};

/// What a job reads: frames of one producer through a Direct transport.
#[derive(Debug)]
pub enum DirectOut {
    /// One coded frame; `Frame::track` is the consumer's id. `catchup` is set while the producer's cached
    /// group of pictures is being read faster than real time.
    Frame {
        /// The frame.
        frame: Frame,
        /// The frame is older than the live edge.
        catchup: bool,
    },
    /// One packet as it came, late, lost and reordered as the network made it; for consumers enabled with
    /// `x.packets`.
    Packet(Packet),
    /// Before the next picture one is missing, which others may refer to.
    Gap,
    /// Somebody behind the job's output needs a keyframe.
    KeyframeRequest,
}

/// A packet of sound for a jitter buffer.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The consumer's id.
    pub track: u32,
    /// Extended sequence number.
    pub sequence: u64,
    /// Extended RTP timestamp, in ticks of its codec's clock.
    pub timestamp: u64,
    /// When it was captured, as far as is known, on the media clock.
    pub time: MediaTime,
    /// When it arrived.
    pub arrival: MediaTime,
    /// RTP marker: the first packet of a talk spurt.
    pub marker: bool,
    /// RTP payload type: which of the producer's codecs it is.
    pub payload_type: u8,
    /// RFC 6464: the level in -dBov in the low seven bits, voice activity in the high one.
    pub level: Option<u8>,
    /// The payload.
    pub payload: Vec<u8>,
}

/// What a job writes: frames of its output tracks, on the source's media clock.
#[derive(Debug)]
pub enum DirectIn {
    /// One coded frame; `Frame::track` is the `x.track` of the producer it is for, 0 where there is one.
    Frame(Frame),
    /// One coded frame of a stream that runs evenly although what it holds is older at one time than at another.
    Aged {
        /// The frame; its timestamps are those of the even run.
        frame: Frame,
        /// When what it holds was captured.
        time: MediaTime,
    },
    /// Something for whoever asked for the job: an event of the Direct transport.
    Event {
        /// Its name.
        name: &'static str,
        /// Its data.
        data: Value,
    },
    /// The job cannot decode its input until a keyframe comes.
    NeedKeyframe,
    /// The job has ended; the reason is for people.
    Failed(String),
}

/// A coded format on one side of a job.
#[derive(Clone, Debug)]
pub struct Format {
    /// Sound or picture.
    pub kind: Kind,
    /// The codec.
    pub codec: RtpCodec,
    /// Codec configuration, as in [`crate::core::session::Track::config`].
    pub config: Vec<u8>,
    /// Frames are not in presentation order.
    pub reordered: bool,
}

/// One conversion, running on a bridge thread until either lane closes.
pub struct Job {
    /// Whose media it is.
    pub conn: ConnId,
    /// What comes in.
    pub from: Format,
    /// What goes out.
    pub to: Format,
    /// Frames in.
    pub input: lane::Receiver<DirectOut>,
    /// Frames out.
    pub output: lane::Sender<DirectIn>,
}

/// Why a job was not begun; the text is for the viewer and the log.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// No converter knows this pair of codecs.
    #[error("no conversion from {from} to {to}")]
    Unsupported {
        /// Source codec.
        from: String,
        /// Wanted codec.
        to: String,
    },
    /// The configured number of jobs of this kind is running.
    #[error("{0}")]
    Busy(String),
}

/// Whoever converts.
pub trait Converter: Send + Sync {
    /// The best output for a receiver that takes `accepted`, or `None` if `from` can be turned into none
    /// of them. Costs nothing and starts nothing.
    fn target(&self, from: &Format, accepted: &[RtpCodec]) -> Option<Format>;
    /// Starts a job.
    fn start(&self, job: Job) -> Result<(), Refusal>;
    /// What a receiver of `accepted` gets while there is no picture for it, if that can be made.
    fn slate(&self, accepted: &[RtpCodec]) -> Option<Format>;
    /// Shows a slate.
    fn show_slate(&self, job: SlateJob) -> Result<(), Refusal>;
}

/// A still picture for those of a room who can be shown no other, running on a bridge thread until either lane closes.
pub struct SlateJob {
    /// The room; its name stands in the picture.
    pub room: String,
    /// The node's clock.
    pub epoch: Epoch,
    /// What goes out.
    pub to: Format,
    /// Requests for keyframes in.
    pub input: lane::Receiver<DirectOut>,
    /// Frames out.
    pub output: lane::Sender<DirectIn>,
}

/// What can be played to one output of a mix, or to all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Sound {
    /// The far end rings (once; it repeats while it stays the last in line).
    Ringback,
    /// The far end is busy.
    Busy,
    /// The call cannot be made.
    Congestion,
    /// Somebody joined.
    JoinChime,
    /// Somebody left.
    LeaveChime,
    /// A key, `0` to `9`, `*`, `#`, `A` to `D`, for so many milliseconds.
    Dtmf(char, u32),
    /// A recorded prompt, by name (`enter-pin`, `wrong-pin`, ...).
    Prompt(String),
    /// Music or tone on hold, until something else is played.
    Hold,
    /// Nothing for so many milliseconds.
    Silence(u32),
}

/// What a running mix is told.
#[derive(Clone, Debug)]
pub enum MixCommand {
    /// A track comes in from now on.
    AddSource {
        /// The consumer that brings it: [`Packet::track`].
        track: u32,
        /// Whose it is.
        owner: ConnId,
        /// What it is.
        format: Format,
    },
    /// A track comes in no more.
    RemoveSource {
        /// Its number.
        track: u32,
    },
    /// Somebody listens.
    AddOutput {
        /// [`Frame::track`] of what goes out.
        track: u32,
        /// As what.
        format: Format,
        /// Whose tracks are left out.
        without: Option<ConnId>,
    },
    /// Nobody listens to it any more.
    RemoveOutput {
        /// Its number.
        track: u32,
    },
    /// From now on it tells how loud its sources are every [`MixCommand::LEVELS_MS`], or no longer.
    TellLevels(bool),
    /// Plays sounds one after the other, in place of what was being played.
    Play {
        /// To one output, or to all.
        output: Option<u32>,
        /// What; nothing: stop.
        sounds: Vec<Sound>,
        /// The room is heard beneath.
        over: bool,
        /// Said with the event of its end.
        number: u32,
    },
}

impl MixCommand {
    /// How often a mix tells levels, and what each looks back upon, in milliseconds.
    pub const LEVELS_MS: u32 = 200;
}

/// One room's mix, running on a bridge thread until either lane closes.
pub struct MixJob {
    /// The room, for the log.
    pub room: String,
    /// The node's clock.
    pub epoch: Epoch,
    /// Packets in.
    pub input: lane::Receiver<DirectOut>,
    /// Frames out; the event `x.playend` `{"track", "number"}` when all that was to be played to one output has been;
    /// and the event `x.levels` `{"entries": [[track, dBov], ...]}` while it is wanted.
    pub output: lane::Sender<DirectIn>,
    /// What to do.
    pub commands: std::sync::mpsc::Receiver<MixCommand>,
}

/// Whoever mixes.
pub trait Mixer: Send + Sync {
    /// Whether a track of that format can be mixed in.
    fn takes(&self, from: &Format) -> bool;
    /// What a receiver of `accepted` gets.
    fn output(&self, accepted: &[RtpCodec]) -> Option<Format>;
    /// Whether a receiver that takes Opus too gets this codec of a telephone as it is.
    fn passes(&self, codec: &RtpCodec) -> bool;
    /// Starts a mix.
    fn mix(&self, job: MixJob) -> Result<(), Refusal>;
}
