//! What was sent under which transport-wide sequence number, until the receiver has said what became of it.
//! Eight bytes a packet: there is one log for every receiver.

use std::collections::VecDeque;

use crate::core::time::MediaTime;

/// Packets remembered at most: two seconds of 16 Mbit/s. The receiver reports many times in that.
const MAX_PACKETS: usize = 4096;
/// Packets remembered longer than this are of no use to anybody.
const MAX_AGE_MICROS: i64 = 4_000_000;

/// One packet that was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sent {
    /// When.
    pub at: MediaTime,
    /// Its bytes, headers included.
    pub bytes: u16,
    /// The probe it was part of; 0: none.
    pub probe: u8,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Microseconds since the epoch, modulo 2^32.
    at: u32,
    bytes: u16,
    probe: u8,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Unknown,
    Lost,
    Arrived,
}

/// See the module.
#[derive(Debug, Default)]
pub struct SentLog {
    entries: VecDeque<Entry>,
    /// Sequence number of the first entry.
    first: u16,
    /// When the last packet was sent; places the entries' times.
    last: MediaTime,
}

impl SentLog {
    /// The number of the next packet.
    pub fn next(&self) -> u16 {
        self.first.wrapping_add(self.entries.len() as u16)
    }

    /// Notes a packet.
    pub fn push(&mut self, now: MediaTime, bytes: usize, probe: u8) {
        let at = now.as_micros() as u32;
        let old = |entry: &Entry| i64::from(at.wrapping_sub(entry.at)) > MAX_AGE_MICROS;
        while self.entries.len() >= MAX_PACKETS || self.entries.front().is_some_and(old) {
            self.entries.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        let bytes = u16::try_from(bytes).unwrap_or(u16::MAX);
        self.entries.push_back(Entry { at, bytes, probe, fate: Fate::Unknown });
        self.last = now;
    }

    /// The packet numbered `sequence`, if that is news: it was not reported before, or only as lost.
    pub fn report(&mut self, sequence: u16, arrived: bool) -> Option<Sent> {
        let entry = self.entries.get_mut(usize::from(sequence.wrapping_sub(self.first)))?;
        let fate = if arrived { Fate::Arrived } else { Fate::Lost };
        if entry.fate == Fate::Arrived || entry.fate == fate {
            return None;
        }
        entry.fate = fate;
        let ago = (self.last.as_micros() as u32).wrapping_sub(entry.at);
        let at = MediaTime::from_micros(self.last.as_micros() - i64::from(ago));
        let sent = Sent { at, bytes: entry.bytes, probe: entry.probe };
        while self.entries.front().is_some_and(|entry| entry.fate == Fate::Arrived) {
            self.entries.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        Some(sent)
    }

    /// Bytes that were sent after `at`.
    pub fn bytes_after(&self, at: MediaTime) -> u64 {
        let since = self.last.micros_since(at);
        let after = |entry: &&Entry| i64::from((self.last.as_micros() as u32).wrapping_sub(entry.at)) < since;
        self.entries.iter().rev().take_while(after).map(|entry| u64::from(entry.bytes)).sum()
    }

    /// How many packets it remembers.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}
