//! Files played in a room, as a publisher: read ahead by a thread of their own, given out by time alone.
//!
//! | container | picture | sound |
//! |---|---|---|
//! | MP4, MOV, M4A (ISO/IEC 14496-12, whole or fragmented) | H.264 | AAC-LC, Opus |
//! | Matroska, WebM | H.264 | AAC-LC, Opus |
//! | WAV | | PCM, brought to Opus as it is read |
//!
//! Other codecs are left out; a file in which nothing is left is refused. Coded frames go out as they are: what a
//! receiver cannot take is converted as it is for every publisher.

pub mod io;
mod reader;
mod session;

use crate::core::session::Track;

pub use session::{FileSession, Remote};

/// Why a file cannot be played.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FileError {
    /// There is none of that name below the folder, or the name leads out of it.
    #[error("there is no such file")]
    NotFound,
    /// Of a kind that is not played.
    #[error("this file cannot be played: {0}")]
    Unsupported(String),
    /// The system, or the file itself, broke off.
    #[error("the file cannot be read: {0}")]
    Broken(String),
}

impl FileError {
    /// Whether somebody who asks can bring this about: always, by the file that he names.
    pub fn is_expected(&self) -> bool {
        true
    }
}

/// One coded frame of a file.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    track: u32,
    /// Microseconds from the file's beginning, rounds of a loop added.
    time: i64,
    keyframe: bool,
    data: Vec<u8>,
}

/// What the reading thread hands over.
#[derive(Debug)]
enum Item {
    Sample(Sample),
    /// Nothing follows.
    End,
    /// Nothing follows, for a reason.
    Failed(FileError),
}

/// A file that is open: its tracks, and what comes of them.
pub struct Opened {
    tracks: Vec<Track>,
    items: std::sync::mpsc::Receiver<Item>,
}
