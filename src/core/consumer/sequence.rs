//! Outgoing sequence numbers of one stream: the source's, shifted so that they continue what was sent
//! before, with no gap for packets that are left out on purpose (RFC 3550 §5.1).

/// See the module. Numbers are extended to 64 bits: the low 16 travel, the rest is SRTP's rollover counter.
#[derive(Clone, Copy, Debug)]
pub struct Sequence {
    next: u64,
    /// `out = input - shift`, wrapping.
    shift: u64,
    /// Older input than this belongs to an earlier source or an earlier shift.
    floor: u64,
}

impl Sequence {
    /// A stream whose first packet gets number `first`.
    pub fn new(first: u16) -> Self {
        // SRTP counts rollovers from the stream's first packet (RFC 3711 §3.3.1).
        Sequence { next: u64::from(first), shift: 0, floor: u64::MAX }
    }

    /// The next packet comes from another source (or place) and is numbered `input` there.
    pub fn sync(&mut self, input: u64) {
        self.shift = input.wrapping_sub(self.next);
        self.floor = input;
    }

    /// The outgoing number of packet `input`; `None` when it is too old to have a place.
    pub fn map(&mut self, input: u64) -> Option<u64> {
        if input < self.floor {
            return None;
        }
        let out = input.wrapping_sub(self.shift);
        self.next = self.next.max(out + 1);
        Some(out)
    }

    /// Packet `input` is not sent, and the receiver shall not miss it.
    pub fn skip(&mut self, input: u64) {
        // Only the newest can be closed over; an older hole has already been seen.
        if input >= self.floor && input.wrapping_sub(self.shift) >= self.next {
            self.shift = self.shift.wrapping_add(1);
            self.floor = input.wrapping_add(1);
        }
    }

    /// The number the next packet in order will have.
    pub fn next(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continues_over_sources_and_keeps_real_gaps() {
        let mut sequence = Sequence::new(65_535);
        sequence.sync(1_000);
        let first = sequence.map(1_000).unwrap();
        assert_eq!(first as u16, 65_535);
        assert_eq!(sequence.map(1_002), Some(first + 2), "a lost packet leaves its hole");
        assert_eq!(sequence.map(1_001), Some(first + 1), "a late one fills it");
        assert_eq!(sequence.map(999), None, "from before the join");
        sequence.sync(5);
        assert_eq!(sequence.map(5), Some(first + 3));
        assert_eq!((first + 3) as u16, 2);
    }

    #[test]
    fn a_skipped_packet_leaves_no_hole() {
        let mut sequence = Sequence::new(0);
        sequence.sync(10);
        let first = sequence.map(10).unwrap();
        sequence.skip(11);
        sequence.skip(12);
        assert_eq!(sequence.map(13), Some(first + 1));
        assert_eq!(sequence.map(11), None);
    }
}
