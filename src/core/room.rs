//! Rooms as values: their names and what the outside sees of them.

use std::borrow::Borrow;
use std::fmt;

use serde::Serialize;

use crate::core::capabilities::Kind;
use crate::core::id::ConnId;
use crate::core::peer::PeerKind;

/// The longest name of a room.
pub const MAX_NAME: usize = 64;

/// A room's name: 1 to 64 of `A-Z a-z 0-9 . _ ~ -`, with no dot in front, and none of the words that the
/// HTTP routes need.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct RoomName(String);

/// Why a text is no room name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RoomNameError {
    /// No character at all.
    #[error("a room needs a name")]
    Empty,
    /// Longer than [`MAX_NAME`].
    #[error("a room name has at most {MAX_NAME} characters")]
    TooLong,
    /// A character that may not stand there.
    #[error("a room name has only letters, digits and . _ ~ -, and no dot in front; this has {0:?}")]
    Character(char),
    /// A word the server needs itself.
    #[error("{0:?} is a word the server needs itself; choose another room name")]
    Reserved(String),
}

impl RoomName {
    /// Checks `name`; `reserved` are compared without case.
    pub fn new(name: &str, reserved: &[&str]) -> Result<Self, RoomNameError> {
        if name.is_empty() {
            return Err(RoomNameError::Empty);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~' | '-');
        if let Some(bad) = name.chars().find(|&c| !allowed(c)) {
            return Err(RoomNameError::Character(bad));
        }
        if name.starts_with('.') {
            return Err(RoomNameError::Character('.'));
        }
        if name.len() > MAX_NAME {
            return Err(RoomNameError::TooLong);
        }
        if reserved.iter().any(|word| word.eq_ignore_ascii_case(name)) {
            return Err(RoomNameError::Reserved(name.to_owned()));
        }
        Ok(RoomName(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for RoomName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A room as lists and pages show it.
#[derive(Clone, Debug, Serialize)]
pub struct RoomSummary {
    /// Its name.
    pub name: RoomName,
    /// Who publishes, in the order they joined.
    pub publishers: Vec<PublisherSummary>,
    /// How many watch.
    pub viewers: usize,
    /// Whether a publisher's media is there.
    pub live: bool,
    /// What a person should know: conversions refused and why.
    pub notices: Vec<String>,
}

/// A publisher of a room.
#[derive(Clone, Debug, Serialize)]
pub struct PublisherSummary {
    /// Its connection.
    pub conn: ConnId,
    /// Its name within the room.
    pub name: String,
    /// By which door it came.
    pub kind: PeerKind,
    /// What it sends.
    pub tracks: Vec<TrackSummary>,
}

/// A track of a publisher.
#[derive(Clone, Debug, Serialize)]
pub struct TrackSummary {
    /// Sound or picture.
    pub kind: Kind,
    /// Its mime type.
    pub codec: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged() {
        assert_eq!(RoomName::new("My-room_1.~", &[]).map(|n| n.to_string()), Ok("My-room_1.~".into()));
        assert_eq!(RoomName::new("", &[]), Err(RoomNameError::Empty));
        assert_eq!(RoomName::new(".well-known", &[]), Err(RoomNameError::Character('.')));
        assert_eq!(RoomName::new("a/b", &[]), Err(RoomNameError::Character('/')));
        assert_eq!(RoomName::new("größe", &[]), Err(RoomNameError::Character('ö')));
        assert!(RoomName::new(&"x".repeat(64), &[]).is_ok());
        assert_eq!(RoomName::new(&"x".repeat(65), &[]), Err(RoomNameError::TooLong));
        assert_eq!(RoomName::new("API", &["api"]), Err(RoomNameError::Reserved("API".into())));
    }
}
