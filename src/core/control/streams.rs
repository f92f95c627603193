//! Streams that the server itself fetches, sends away or plays because somebody asked it to: RTMP pulled and pushed,
//! files. How one is begun, what may be asked of it, and what its room is told of it.
//!
//! Whoever carries them is the [`Streams`] of the rooms; HTTP and controllers reach it by
//! [`Rooms::streams`](crate::core::control::Rooms::streams). Who asks has been authorised for the room before.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::auth::Principal;
use crate::core::control::calls::Asked;
use crate::core::id::{ConnId, SessionId};
use crate::core::room::RoomName;

/// Whoever carries streams.
pub trait Streams: Send + Sync {
    /// Begins one. Resolves as soon as it is under way: what comes of it is announced in the room.
    fn begin<'a>(
        &'a self,
        who: &'a Principal,
        room: &'a RoomName,
        wanted: Wanted,
    ) -> Asked<'a, Result<StreamInfo, StreamError>>;
    /// Every stream of a room, those that ended lately too.
    fn list(&self, room: &RoomName) -> Vec<StreamInfo>;
    /// Holds a player, or lets it go on.
    fn pause(&self, room: &RoomName, stream: SessionId, paused: bool) -> Result<StreamInfo, StreamError>;
    /// Ends one.
    fn stop(&self, room: &RoomName, stream: SessionId) -> Result<(), StreamError>;
}

/// A stream that is wanted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Wanted {
    /// The room is sent away.
    Push(Push),
    /// Something is fetched into the room.
    Pull(Pull),
    /// A file is played in the room.
    Play(Play),
}

/// What is sent where.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Push {
    /// `rtmp://` or `rtmps://`.
    pub url: Url,
    /// The publisher by name whose tracks go out; otherwise the room's program.
    #[serde(default)]
    pub peer: Option<String>,
}

/// What is fetched.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pull {
    /// `rtmp://` or `rtmps://`.
    pub url: Url,
    /// The publisher's name in the room.
    #[serde(default)]
    pub name: Option<String>,
    /// Its name for people.
    #[serde(default)]
    pub display_name: Option<String>,
}

/// What is played.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Play {
    /// A file below `media_dir`.
    pub file: String,
    /// Begin anew at its end.
    #[serde(default, rename = "loop")]
    pub repeats: bool,
    /// The publisher's name in the room.
    #[serde(default)]
    pub name: Option<String>,
    /// Its name for people.
    #[serde(default)]
    pub display_name: Option<String>,
}

/// An address with a key in it: never printed.
#[derive(Clone, Deserialize, Eq, PartialEq)]
#[serde(transparent)]
pub struct Url(pub String);

impl std::fmt::Debug for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(private)")
    }
}

/// What a stream is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    /// Sent away.
    Push,
    /// Fetched.
    Pull,
    /// A file.
    Play,
}

/// Where a stream has got to.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamState {
    /// On its way to the other end.
    Connecting,
    /// Media flows.
    Live,
    /// Held by whoever is in charge.
    Paused,
    /// It broke; it is tried again after a while. The reason says what broke.
    Waiting,
    /// It is over: the end of the file, or as it was asked. The reason says which.
    Ended,
    /// It is given up. The reason says why.
    Failed,
}

impl StreamState {
    /// Whether nothing comes after it.
    pub fn is_over(self) -> bool {
        matches!(self, StreamState::Ended | StreamState::Failed)
    }
}

/// A stream as lists and events show it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamInfo {
    /// Which.
    pub id: SessionId,
    /// What it is.
    pub kind: StreamKind,
    /// The room.
    pub room: RoomName,
    /// The member it is in the room, while it is one.
    pub conn: Option<ConnId>,
    /// Whereto, wherefrom (without the stream's name, which usually is a key), or which file.
    pub what: String,
    /// Where it has got to.
    pub state: StreamState,
    /// Why it is there, in words; of a push that is live, what of the room it cannot send and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How often it was tried since it last was live.
    pub attempts: u32,
}

/// Why something asked of a stream was not done.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StreamError {
    /// What is wanted makes no sense.
    #[error("{0}")]
    Bad(String),
    /// It may not be done.
    #[error("{0}")]
    Forbidden(String),
    /// There is no such file.
    #[error("there is no such file below media_dir")]
    NoFile,
    /// There is no such stream.
    #[error("there is no such stream in this room")]
    Unknown,
    /// It cannot be done to this stream.
    #[error("{0}")]
    NotNow(&'static str),
    /// There are all the streams there may be.
    #[error("{0}")]
    Limit(String),
}

impl StreamError {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            StreamError::Bad(_) => "bad_request",
            StreamError::Forbidden(_) => "forbidden_target",
            StreamError::NoFile => "unknown_file",
            StreamError::Unknown => "unknown_stream",
            StreamError::NotNow(_) => "not_now",
            StreamError::Limit(_) => "full",
        }
    }
}

/// The `streams` section of the configuration.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct StreamsConfig {
    /// Streams at once. Default 64.
    pub max: usize,
    /// Of one room. Default 16.
    pub max_per_room: usize,
    /// Milliseconds before a stream that broke is tried again; doubled each time. Default 1000.
    pub retry_min_ms: u64,
    /// Milliseconds that this grows to. Default 30000.
    pub retry_max_ms: u64,
    /// Tries in a row after which it is given up; 0: never. Default 0.
    pub max_retries: u32,
    /// Milliseconds for which lists show a stream that is over. Default 60000.
    pub keep_ended_ms: u64,
}

impl Default for StreamsConfig {
    fn default() -> Self {
        StreamsConfig {
            max: 64,
            max_per_room: 16,
            retry_min_ms: 1_000,
            retry_max_ms: 30_000,
            max_retries: 0,
            keep_ended_ms: 60_000,
        }
    }
}

impl StreamsConfig {
    /// How long to wait after the try of that number (from 1) failed; `None`: it is given up. `random` spreads those
    /// that broke together over half the time.
    pub fn pause(&self, attempts: u32, random: u64) -> Option<Duration> {
        if self.max_retries > 0 && attempts > self.max_retries {
            return None;
        }
        let doublings = attempts.saturating_sub(1).min(32);
        let most = self.retry_min_ms.saturating_mul(1 << doublings).min(self.retry_max_ms);
        let spread = (most / 2).max(1);
        Some(Duration::from_millis(most - random % spread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let config = StreamsConfig::default();
        let pause = |attempts, random| config.pause(attempts, random).map(|pause| pause.as_millis());
        assert_eq!(
            [1, 2, 3, 6, 99].map(|attempts| pause(attempts, 0)),
            [1_000, 2_000, 4_000, 30_000, 30_000].map(Some)
        );
        assert_eq!(pause(1, 499), Some(501));
        assert!((0..2_000).all(|random| pause(4, random).is_some_and(|ms| (4_000..=8_000).contains(&ms))));
        let given_up = StreamsConfig { max_retries: 2, retry_min_ms: 0, ..config };
        assert_eq!([1, 2, 3].map(|attempts| given_up.pause(attempts, 7).is_some()), [true, true, false]);
    }

    #[test]
    fn addresses_are_not_printed() {
        let push: Push = serde_json::from_str(r#"{"url": "rtmp://a/live/k3y"}"#).expect("a push");
        assert!(!format!("{push:?}").contains("k3y"));
        assert!(serde_json::from_str::<Push>(r#"{"url": "rtmp://a/live/k3y", "x": 1}"#).is_err());
    }
}
