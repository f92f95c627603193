//! Where a consumer reads in its producer's store. Everything a receiver gets, live packets and the cached
//! group of pictures alike, is read by this cursor at the moment it is sent: nothing is copied ahead.
//!
//! ```text
//! Waiting ──keyframe or, for sound, any packet──► Reading (catching up) ──reaches the head──► Reading (live)
//!    ▲                                                 │ fell behind the tail, source changed, link too slow
//!    └─────────────────────────────────────────────────┘
//! ```

use std::time::Duration;

use crate::core::rtp::store::PacketStore;
use crate::core::time::MediaTime;

/// How often a catching-up cursor gets its next portion.
const PORTION: Duration = Duration::from_millis(5);
/// What may be sent at once when a replay begins: a keyframe should not wait for the pace ...
const FIRST_PORTION: i64 = 96 * 1024;
/// ... but where the pace is that of a narrow path, no more than it takes in this time, and a few packets.
const PORTION_MICROS: i128 = 50_000;
const LEAST_PORTION: i64 = 4 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Cursor {
    at: u64,
    state: State,
    /// The group may be replayed: cleared when the receiver's link could not take it.
    replay: bool,
}

#[derive(Debug)]
enum State {
    Waiting,
    Reading { pace: Option<Pace> },
}

/// Catching up: a token bucket in bytes.
#[derive(Debug)]
struct Pace {
    /// Frames older than the newest are read, not only a frame of many packets.
    behind: bool,
    credit: i64,
    refilled: MediaTime,
    sent: u32,
    lost: u32,
}

/// A point in the store from which reading begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Start {
    /// The first packet to read.
    pub index: u64,
    /// Frames from there to the newest, both included.
    pub frames: u32,
    /// Timestamp of the newest frame.
    pub edge: u64,
    /// Its time on the media clock.
    pub edge_time: MediaTime,
}

impl Cursor {
    /// A cursor that waits for the first packet of a source.
    pub fn new() -> Self {
        Cursor { at: 0, state: State::Waiting, replay: true }
    }

    /// The source is another one, or what was sent is lost to the receiver: begin anew. With `replay` the
    /// cached group will do; otherwise only what comes from `head` on.
    pub fn restart(&mut self, head: u64, replay: bool) {
        self.at = head;
        self.state = State::Waiting;
        self.replay = replay;
    }

    /// It waits for another stream of the same source.
    pub fn reseat(&mut self, head: u64) {
        self.restart(head, self.replay);
    }

    /// Index of the next packet to read.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Whether reading has not begun.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting)
    }

    /// Whether a keyframe at `index` is one to begin with.
    pub fn would_take(&self, index: u64) -> bool {
        self.replay || index >= self.at
    }

    /// Whether older packets than the newest are being read faster than real time.
    pub fn is_catching_up(&self) -> bool {
        matches!(&self.state, State::Reading { pace: Some(pace) } if pace.behind)
    }

    /// Begins reading if the store has what is needed: for pictures a keyframe, for sound anything newer
    /// than the last restart.
    pub fn begin(&mut self, store: &PacketStore, video: bool, now: MediaTime) -> Option<Start> {
        let from = self.at.max(store.tail());
        let index = if !video {
            Some(from).filter(|index| *index < store.head())
        } else {
            store.keyframe().filter(|index| self.would_take(*index))
        }?;
        let start = Start::survey(store, index)?;
        self.begin_at(&start, now);
        Some(start)
    }

    /// Reads on at `start`, wherever it stands.
    pub fn begin_at(&mut self, start: &Start, now: MediaTime) {
        let pace = Pace { behind: start.frames > 1, credit: FIRST_PORTION, refilled: now, sent: 0, lost: 0 };
        self.at = start.index;
        self.state = State::Reading { pace: Some(pace) };
    }

    /// Whether the next packet may be sent now; if not, when to ask again. `bitrate` is the pace in bits a
    /// second.
    pub fn may_read(&mut self, now: MediaTime, bitrate: u64) -> Result<(), MediaTime> {
        let State::Reading { pace: Some(pace) } = &mut self.state else { return Ok(()) };
        let elapsed = now.micros_since(pace.refilled);
        let earned = |micros: i128| (micros * i128::from(bitrate) / 8_000_000) as i64;
        let most = earned(PORTION_MICROS).clamp(LEAST_PORTION, FIRST_PORTION);
        if elapsed > 0 {
            pace.credit = pace.credit.saturating_add(earned(i128::from(elapsed)));
            pace.refilled = now;
        }
        pace.credit = pace.credit.min(most);
        if pace.credit > 0 { Ok(()) } else { Err(now + PORTION) }
    }

    /// The packet at the cursor, of `bytes`, was sent or left out.
    pub fn advance(&mut self, bytes: usize, head: u64) {
        self.at += 1;
        if let State::Reading { pace } = &mut self.state {
            match pace {
                Some(running) if self.at < head => {
                    running.credit -= bytes as i64;
                    running.sent += 1;
                }
                Some(_) => *pace = None,
                None => {}
            }
        }
    }

    /// The receiver misses `count` packets. Answers whether its link plainly cannot take the replay.
    pub fn note_loss(&mut self, count: u32) -> bool {
        let State::Reading { pace: Some(pace) } = &mut self.state else { return false };
        pace.lost = pace.lost.saturating_add(count);
        pace.sent > 50 && pace.lost > pace.sent / 4
    }
}

impl Default for Cursor {
    fn default() -> Self {
        Cursor::new()
    }
}

impl Start {
    /// Counts the frames from `index` to the head and finds the newest of them.
    pub fn survey(store: &PacketStore, index: u64) -> Option<Start> {
        let first = store.get(index)?;
        let mut start = Start { index, frames: 1, edge: first.meta.timestamp, edge_time: first.meta.time };
        for packet in (index + 1..store.head()).filter_map(|at| store.get(at)) {
            if packet.meta.timestamp > start.edge {
                start.frames += 1;
                (start.edge, start.edge_time) = (packet.meta.timestamp, packet.meta.time);
            }
        }
        Some(start)
    }
}
