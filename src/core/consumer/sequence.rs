//! Outgoing sequence numbers of one stream: the source's, shifted so that they continue what was sent
//! before, with no gap for packets that are left out on purpose (RFC 3550 §5.1).
//!
//! ```text
//! source   10 11 12 13 14 15      12 and 14 are left out
//! out      70 71  - 72  - 73      a late 11 or 13 still finds its place
//! ```

/// How many changes of the shift are remembered for packets that come late: half a second and more of a stream
/// of which every second frame is left out.
const PAST: usize = 16;

/// See the module. Numbers are extended to 64 bits: the low 16 travel, the rest is SRTP's rollover counter.
#[derive(Clone, Copy, Debug)]
pub struct Sequence {
    next: u64,
    now: Run,
    /// Earlier runs of the same source, the newest first; kept only where packets are left out.
    past: [Run; PAST],
}

/// Packets of the source with one shift.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// The first of them.
    from: u64,
    /// Behind the last of them.
    until: u64,
    /// `out = input - shift`, wrapping.
    shift: u64,
    /// Frames left out before.
    omitted: u16,
}

impl Run {
    /// Nothing is old enough to be of it.
    const NONE: Run = Run { from: u64::MAX, until: u64::MAX, shift: 0, omitted: 0 };

    fn number(&self, input: u64) -> u64 {
        input.wrapping_sub(self.shift)
    }
}

/// What a packet is that is not sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeftOut {
    /// Of no frame: padding.
    Alone,
    /// The first that is left out of its picture.
    First,
    /// Another of the same picture.
    More,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// Its number.
    pub number: u64,
    /// Frames that were left out before it since the source was joined.
    pub omitted: u16,
}

impl Sequence {
    /// A stream whose first packet gets number `first`.
    pub fn new(first: u16) -> Self {
        // SRTP counts rollovers from the stream's first packet (RFC 3711 §3.3.1).
        Sequence { next: u64::from(first), now: Run::NONE, past: [Run::NONE; PAST] }
    }

    /// The next packet comes from another source (or place) and is numbered `input` there.
    pub fn sync(&mut self, input: u64) {
        self.now = Run { from: input, shift: input.wrapping_sub(self.next), ..Run::NONE };
        self.past = [Run::NONE; PAST];
    }

    /// Where packet `input` goes; nowhere when it is too old to have a place.
    #[inline]
    pub fn map(&mut self, input: u64) -> Option<Place> {
        if input < self.now.from {
            return self.map_late(input);
        }
        let number = self.now.number(input);
        self.next = self.next.max(number + 1);
        Some(Place { number, omitted: self.now.omitted })
    }

    fn map_late(&self, input: u64) -> Option<Place> {
        let run = self.past.iter().find(|run| (run.from..run.until).contains(&input))?;
        Some(Place { number: run.number(input), omitted: run.omitted })
    }

    /// Whether packets newer than `input` have been sent or left out.
    pub fn is_late(&self, input: u64) -> bool {
        input < self.now.from || self.now.number(input) < self.next
    }

    /// Packet `input` is not sent, and the receiver shall not miss it. Only the newest can be closed over: for
    /// another answers the number that stays without a packet.
    pub fn skip(&mut self, input: u64, left: LeftOut) -> Option<u64> {
        if input < self.now.from {
            return self.map_late(input).map(|place| place.number);
        }
        let number = self.now.number(input);
        if number < self.next {
            return Some(number);
        }
        // What is missing between two packets of a frame that is left out is left out too.
        let within = left == LeftOut::More && self.now.number(self.now.from) == self.next;
        if input > self.now.from && !within {
            self.past.copy_within(..PAST - 1, 1);
            self.past[0] = Run { until: input, ..self.now };
        }
        let closed = if within { input - self.now.from + 1 } else { 1 };
        let omitted = self.now.omitted.wrapping_add(u16::from(left == LeftOut::First));
        let shift = self.now.shift.wrapping_add(closed);
        self.now = Run { from: input + 1, shift, omitted, ..Run::NONE };
        None
    }

    /// The number for a packet of our own, in between; what comes after it from the source moves up.
    pub fn insert(&mut self) -> u64 {
        let out = self.next;
        let from = if self.now.from == u64::MAX { u64::MAX } else { out.wrapping_add(self.now.shift) };
        self.now = Run { from, shift: self.now.shift.wrapping_sub(1), ..self.now };
        self.past = [Run::NONE; PAST];
        self.next = out + 1;
        out
    }

    /// Begins a new key's count of rollovers (RFC 4568 §6.4): the number that travels stays.
    pub fn forget_rollovers(&mut self) {
        let rollovers = self.next & !0xffff;
        self.next -= rollovers;
        for run in self.past.iter_mut().chain([&mut self.now]) {
            run.shift = run.shift.wrapping_add(rollovers);
        }
    }

    /// The number the next packet in order will have.
    pub fn next(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(sequence: &mut Sequence, input: u64) -> Option<u64> {
        sequence.map(input).map(|place| place.number)
    }

    #[test]
    fn continues_over_sources_and_keeps_real_gaps() {
        let mut sequence = Sequence::new(65_535);
        sequence.sync(1_000);
        let first = number(&mut sequence, 1_000).unwrap();
        assert_eq!(first as u16, 65_535);
        assert_eq!(number(&mut sequence, 1_002), Some(first + 2), "a lost packet leaves its hole");
        assert_eq!(number(&mut sequence, 1_001), Some(first + 1), "a late one fills it");
        assert_eq!(number(&mut sequence, 999), None, "from before the join");
        sequence.sync(5);
        assert_eq!(number(&mut sequence, 5), Some(first + 3));
        assert_eq!((first + 3) as u16, 2);
    }

    #[test]
    fn packets_of_our_own_take_their_place() {
        let mut sequence = Sequence::new(65_534);
        assert_eq!(sequence.insert(), 65_534, "before any source");
        sequence.sync(10);
        assert_eq!(number(&mut sequence, 10), Some(65_535));
        assert_eq!((sequence.insert(), sequence.insert()), (65_536, 65_537));
        assert_eq!(number(&mut sequence, 11), Some(65_538));
        assert_eq!(number(&mut sequence, 10), None, "its number is another packet's now");
        sequence.forget_rollovers();
        assert_eq!(number(&mut sequence, 12), Some(3));
        assert_eq!(number(&mut sequence, 14), Some(5));
    }

    #[test]
    fn a_skipped_packet_leaves_no_hole_and_a_late_one_finds_its_place() {
        let mut sequence = Sequence::new(0);
        sequence.sync(10);
        let first = number(&mut sequence, 10).unwrap();
        assert_eq!(sequence.skip(12, LeftOut::First), None);
        assert_eq!(sequence.skip(13, LeftOut::More), None);
        assert_eq!(sequence.map(14), Some(Place { number: first + 2, omitted: 1 }));
        assert_eq!(sequence.map(11), Some(Place { number: first + 1, omitted: 0 }), "of before");
        sequence.sync(10);
        let first = number(&mut sequence, 10).unwrap();
        sequence.skip(11, LeftOut::First);
        sequence.skip(13, LeftOut::More);
        assert_eq!(number(&mut sequence, 14), Some(first + 1), "12 is of the same frame");
        assert_eq!(sequence.skip(12, LeftOut::More), None);
        assert_eq!(number(&mut sequence, 16), Some(first + 3));
        assert_eq!(sequence.skip(15, LeftOut::First), Some(first + 2), "the hole it was to fill");
    }

    proptest! {
        /// Frames of three packets, some left out whole, packets out of order by a few places: each number is
        /// given once, and only those of packets that never came are missing.
        #[test]
        fn numbers_are_given_once_and_have_no_gaps(
            first in any::<u16>(),
            start in 1u64 << 16..1 << 40,
            left_out in prop::collection::vec(any::<bool>(), 40),
            swaps in prop::collection::vec((0usize..117, 1usize..6), 0..20),
            lost in prop::collection::btree_set(1u64..119, 0..10),
        ) {
            let mut order: Vec<u64> = (0..120).collect();
            for (at, by) in swaps {
                order[1..].swap(at, (at + by).min(118));
            }
            let mut sequence = Sequence::new(first);
            sequence.sync(start);
            let mut given = std::collections::BTreeMap::new();
            let mut frame = None;
            for packet in order.into_iter().filter(|packet| !lost.contains(packet)) {
                let (input, of) = (start + packet, packet / 3);
                if of > 0 && left_out[of as usize] {
                    let left = if frame == Some(of) { LeftOut::More } else { LeftOut::First };
                    frame = Some(of);
                    if let Some(hole) = sequence.skip(input, left) {
                        prop_assert!(given.insert(hole, input).is_none());
                    }
                } else if let Some(place) = sequence.map(input) {
                    prop_assert!(given.insert(place.number, input).is_none());
                }
            }
            let span = given.last_key_value().unwrap().0 - given.first_key_value().unwrap().0 + 1;
            let missing = span - given.len() as u64;
            prop_assert!(missing <= lost.len() as u64, "{missing} of {span}");
        }
    }
}
