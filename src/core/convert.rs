//! Conversion on demand. When a consumer cannot take a producer as it is, the core raises a request
//! through [`Converter`]; the bridge implements it and `server.rs` plugs it in, so that core names no
//! codec. A job lives only while somebody consumes its output.

use crate::core::capabilities::{Kind, RtpCodec};
use crate::core::id::ConnId;
use crate::core::lane;
use crate::core::session::Frame;

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
    /// Somebody behind the job's output needs a keyframe.
    KeyframeRequest,
}

/// What a job writes: frames of its output track, on the source's media clock.
#[derive(Debug)]
pub enum DirectIn {
    /// One coded frame; `Frame::track` is 0.
    Frame(Frame),
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
}
