//! Rooms as values: their names, the routers they spread over, and what the outside sees of them.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use serde::Serialize;

use crate::core::capabilities::Kind;
use crate::core::id::{ConnId, ConsumerId, ProducerId, RouterId, TransportId, WorkerId};
use crate::core::observer::Observer;
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

/// A room: its routers and who is in it. The first seat is the home router; all publishers are there, and
/// pipes carry from it to the others what somebody watches there.
#[derive(Debug)]
pub struct Room {
    /// Its routers, home first; never empty.
    pub seats: Vec<Seat>,
    /// Who may send, in the order they came.
    pub publishers: Vec<ConnId>,
    /// Who only receives.
    pub viewers: BTreeSet<ConnId>,
    /// The publisher that feeds the program.
    pub program: Option<ConnId>,
    /// A publisher that came back and whose tracks are waited for.
    pub awaited: Option<ConnId>,
    /// Whose picture is shown, by who speaks.
    pub speakers: Speakers,
    /// Who speaks.
    pub observer: Observer,
    /// What tells how loud its tracks are.
    pub ears: Ears,
    /// The last that was told of it was that nothing is heard.
    pub silent: bool,
    /// Consumers that follow the program.
    pub followers: usize,
    /// Those of them that are of pictures.
    pub pictures: usize,
    /// It stays while nobody is in it.
    pub kept: bool,
    /// Whether a slate is shown in it.
    pub blank: Blank,
    /// What stands for the source of its slate.
    pub slate: Option<ProducerId>,
    /// Why consumers are fed from nothing although there is something, and how many.
    pub refusals: BTreeMap<String, usize>,
}

/// Whether a room shows a slate to those who can be shown nothing else.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Blank {
    /// Everybody sees something.
    #[default]
    No,
    /// Somebody has seen nothing for a moment.
    Waiting,
    /// A slate is shown.
    Shown,
}

/// What tells how loud the tracks of a room are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ears {
    /// Nothing: nobody wants to know.
    Off,
    /// Its home router.
    Router,
    /// Its mix.
    Mix,
}

/// Whose picture the room shows, by who speaks.
#[derive(Debug, Default)]
pub struct Speakers {
    /// Who was shown as the speaker, the last one first.
    pub shown: Vec<ConnId>,
    /// The picture changed a moment ago and stays for now.
    pub held: bool,
    /// How often it changed; tells a stale timer from a fresh one.
    pub changes: u64,
}

/// One router of a room.
#[derive(Debug)]
pub struct Seat {
    /// The router.
    pub router: RouterId,
    /// The worker it lives on.
    pub worker: WorkerId,
    /// Viewers on it, and transports by which others receive.
    pub receivers: usize,
    /// Consumers on it.
    pub consumers: usize,
    /// How often it fell empty; tells a stale timer from a fresh one.
    pub emptied: u64,
    /// The pipe from the home router; none for the home router itself.
    pub pipe: Option<Pipe>,
    /// It is another room's as well, or was: only those are on it who were moved here with it.
    pub lent: bool,
}

/// The two ends of a pipe and what goes through it.
#[derive(Debug)]
pub struct Pipe {
    /// The transport on the home router.
    pub home: TransportId,
    /// The transport on the other router.
    pub far: TransportId,
    /// Piped tracks by their producer on the home router.
    pub tracks: HashMap<ProducerId, PipedTrack>,
}

/// A track that goes through a pipe.
#[derive(Clone, Copy, Debug)]
pub struct PipedTrack {
    /// The consumer that takes it from the home router.
    pub consumer: ConsumerId,
    /// The producer it becomes on the other.
    pub producer: ProducerId,
    /// Feeds that use it.
    pub users: usize,
    /// How often it fell idle.
    pub idled: u64,
}

impl Room {
    /// A room on its home router, empty.
    pub fn new(router: RouterId, worker: WorkerId) -> Self {
        Room {
            seats: vec![Seat::new(router, worker, None)],
            publishers: Vec::new(),
            viewers: BTreeSet::new(),
            program: None,
            awaited: None,
            speakers: Speakers::default(),
            observer: Observer::default(),
            ears: Ears::Off,
            silent: true,
            followers: 0,
            pictures: 0,
            kept: false,
            blank: Blank::No,
            slate: None,
            refusals: BTreeMap::new(),
        }
    }

    /// The home router and its worker.
    pub fn home(&self) -> Option<(RouterId, WorkerId)> {
        self.seats.first().map(|seat| (seat.router, seat.worker))
    }

    /// The seat of a router.
    pub fn seat_mut(&mut self, router: RouterId) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|seat| seat.router == router)
    }

    /// The pipe to a router.
    pub fn pipe_mut(&mut self, router: RouterId) -> Option<&mut Pipe> {
        self.seat_mut(router)?.pipe.as_mut()
    }

    /// The seat a receiver should take: the first with fewer than so many receivers and consumers.
    pub fn free_seat(&self, receivers: usize, consumers: usize) -> Option<&Seat> {
        self.own_seats().find(|seat| seat.receivers < receivers && seat.consumers < consumers)
    }

    /// The routers that were made for it.
    pub fn own_seats(&self) -> impl Iterator<Item = &Seat> {
        self.seats.iter().filter(|seat| !seat.lent)
    }

    /// Everybody in it.
    pub fn everybody(&self) -> impl Iterator<Item = ConnId> {
        self.publishers.iter().chain(&self.viewers).copied()
    }

    /// Whether nobody is in it, and nobody wants it to stay.
    pub fn is_over(&self) -> bool {
        self.publishers.is_empty() && self.viewers.is_empty() && !self.kept
    }
}

impl Seat {
    /// A router with nobody on it.
    pub fn new(router: RouterId, worker: WorkerId, pipe: Option<Pipe>) -> Self {
        Seat { router, worker, receivers: 0, consumers: 0, emptied: 0, pipe, lent: false }
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
    /// Its name for people.
    pub display_name: Option<String>,
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
