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

    /// The number for a packet of our own, in between; what comes after it from the source moves up.
    pub fn insert(&mut self) -> u64 {
        let out = self.next;
        self.floor = if self.floor == u64::MAX { u64::MAX } else { out.wrapping_add(self.shift) };
        self.shift = self.shift.wrapping_sub(1);
        self.next = out + 1;
        out
    }

    /// Begins a new key's count of rollovers (RFC 4568 §6.4): the number that travels stays.
    pub fn forget_rollovers(&mut self) {
        let rollovers = self.next & !0xffff;
        self.next -= rollovers;
        self.shift = self.shift.wrapping_add(rollovers);
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
    fn packets_of_our_own_take_their_place() {
        let mut sequence = Sequence::new(65_534);
        assert_eq!(sequence.insert(), 65_534, "before any source");
        sequence.sync(10);
        assert_eq!(sequence.map(10), Some(65_535));
        assert_eq!((sequence.insert(), sequence.insert()), (65_536, 65_537));
        assert_eq!(sequence.map(11), Some(65_538));
        assert_eq!(sequence.map(10), None, "its number is another packet's now");
        sequence.forget_rollovers();
        assert_eq!(sequence.map(12), Some(3));
        assert_eq!(sequence.map(14), Some(5));
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
