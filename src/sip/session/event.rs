//! What those who watch a call are told: progress and failure in words and SIP codes, tones, the end.

use serde::Serialize;

/// Something that happened in a call.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum CallEvent {
    /// The other side is being called.
    Calling,
    /// It rings there; `early` when sound comes with it.
    Ringing {
        /// 180, 181, 182 or 183.
        status: u16,
        /// Sound comes before the answer.
        early: bool,
    },
    /// It was answered.
    Answered,
    /// It was not: the code, and why in words.
    Failed {
        /// SIP status; 408 and 503 also stand for our own side's.
        status: u16,
        /// For people.
        text: String,
    },
    /// A key was pressed.
    Dtmf {
        /// `0`-`9`, `*`, `#`, `A`-`D`.
        digit: char,
        /// How long it was held, in milliseconds.
        duration_ms: u32,
    },
    /// The other side put the call on hold, or took it back.
    Hold {
        /// On hold.
        held: bool,
    },
    /// A transfer went on.
    Transfer {
        /// SIP status of the new call.
        status: u16,
    },
    /// Something is wrong with the media, in words.
    Notice {
        /// For people.
        text: String,
    },
    /// It is over.
    Ended {
        /// Why, for people.
        text: String,
    },
}
