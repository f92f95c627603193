//! What a consumer sent lately: which stored packet an outgoing sequence number stands for, so that a NACK
//! (RFC 4585 §6.2.1) is answered from the producer's store, and not twice for one loss.

use std::time::Duration;

use crate::core::consumer::pictures::Shift;
use crate::core::time::MediaTime;

/// What of a packet was decided when it was sent. A packet that is sent again under its own number must be the
/// same to the byte: SRTP's keystream and nonce depend on that number alone (RFC 3711 §9.1, RFC 7714 §8.4).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stamp {
    /// Transport-wide sequence number.
    pub transport_sequence: u16,
    /// abs-send-time.
    pub send_time: [u8; 3],
    /// The MID was in it.
    pub mid: bool,
    /// RTP padding.
    pub padding: u8,
    /// The marker bit.
    pub marker: bool,
    /// What was added to the numbers of its picture.
    pub shift: Shift,
}

/// One sent packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sent {
    /// Its index in the store of the producer's stream.
    pub index: u64,
    /// Which stream that was.
    pub stream: u8,
    /// The timestamp it was sent with.
    pub timestamp: u32,
    /// The rest of its header.
    pub stamp: Stamp,
}

/// The same in half a cache line, for there is a ring of them a receiver.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The low bits.
    index: u32,
    timestamp: u32,
    /// When it was sent again last: microseconds modulo 2^32, never 0; 0: not yet.
    resent: u32,
    sequence: u16,
    stamp: Stamp,
    stream: u8,
}

const _: () = assert!(size_of::<Option<Entry>>() == 32);

/// A ring of the newest sent packets, found by sequence number.
#[derive(Debug)]
pub struct History {
    ring: Vec<Option<Entry>>,
    capacity: usize,
    /// Index of the packet noted last.
    newest: u64,
}

impl History {
    /// Remembers the newest `capacity` packets (rounded up to a power of two); nothing is allocated
    /// before the first.
    pub fn new(capacity: usize) -> Self {
        History { ring: Vec::new(), capacity: capacity.next_power_of_two(), newest: 0 }
    }

    /// Notes a packet.
    pub fn push(&mut self, sequence: u16, (stream, index): (u8, u64), timestamp: u32, stamp: Stamp) {
        if self.ring.is_empty() {
            self.ring = vec![None; self.capacity];
        }
        self.newest = index;
        let at = usize::from(sequence) & (self.capacity - 1);
        self.ring[at] = Some(Entry { index: index as u32, timestamp, resent: 0, sequence, stamp, stream });
    }

    /// The packet sent as `sequence`, unless it is forgotten.
    pub fn get(&self, sequence: u16) -> Option<Sent> {
        let at = usize::from(sequence) & (self.capacity - 1);
        let entry = (*self.ring.get(at)?).filter(|entry| entry.sequence == sequence)?;
        Some(self.sent(&entry))
    }

    /// The packet sent as `sequence`, unless it was resent less than `guard` ago or is forgotten.
    pub fn take_for_resend(&mut self, sequence: u16, now: MediaTime, guard: Duration) -> Option<Sent> {
        let at = usize::from(sequence) & (self.capacity - 1);
        let entry = self.ring.get_mut(at)?.as_mut().filter(|entry| entry.sequence == sequence)?;
        let micros = now.as_micros() as u32;
        if entry.resent != 0 && u128::from(micros.wrapping_sub(entry.resent)) < guard.as_micros() {
            return None;
        }
        entry.resent = micros.max(1);
        let entry = *entry;
        Some(self.sent(&entry))
    }

    fn sent(&self, entry: &Entry) -> Sent {
        let step = entry.index.wrapping_sub(self.newest as u32).cast_signed();
        Sent {
            index: self.newest.wrapping_add_signed(i64::from(step)),
            stream: entry.stream,
            timestamp: entry.timestamp,
            stamp: entry.stamp,
        }
    }

    /// Forgets everything: the store behind the indexes is another one now.
    pub fn clear(&mut self) {
        self.ring.fill(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_sent_once_per_guard() {
        let (mut history, now) = (History::new(8), MediaTime::from_millis(5));
        for n in 0..10u16 {
            history.push(65_530u16.wrapping_add(n), (0, u64::from(n)), u32::from(n), Stamp::default());
        }
        let guard = Duration::from_millis(20);
        assert!(history.take_for_resend(65_530, now, guard).is_none(), "overwritten");
        assert_eq!(history.take_for_resend(3, now, guard).map(|sent| sent.index), Some(9));
        assert!(history.take_for_resend(3, now + guard / 2, guard).is_none(), "asked twice for one loss");
        assert!(history.take_for_resend(3, now + guard, guard).is_some());
        history.clear();
        assert!(history.take_for_resend(4, now, guard).is_none());
    }
}
