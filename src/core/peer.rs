//! A member of a room as a value: what kind of party it is and why it left.

use std::fmt;

use serde::Serialize;

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
}

impl fmt::Display for PeerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PeerKind::Whip => "whip",
            PeerKind::Whep => "whep",
            PeerKind::Rtmp => "rtmp",
            PeerKind::Clip => "clip",
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
