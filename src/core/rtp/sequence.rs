//! Sequence numbers and timestamps without end: 16 and 32 bits on the wire, 64 inside.
//!
//! The first value seen maps to one full round above itself, so that packets that were sent before it
//! and arrive after it still have a place.

macro_rules! unwrapper {
    ($(#[$doc:meta])* $name:ident, $wire:ty, $signed:ty, $round:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default)]
        pub struct $name {
            newest: Option<u64>,
        }

        impl $name {
            /// One that has seen nothing.
            pub const fn new() -> Self {
                $name { newest: None }
            }

            /// The extended value of `value`: the one nearest to the newest seen so far.
            pub fn unwrap(&mut self, value: $wire) -> u64 {
                let extended = self.peek(value);
                self.newest = Some(self.newest.map_or(extended, |newest| newest.max(extended)));
                extended
            }

            /// The same without learning from it.
            pub fn peek(&self, value: $wire) -> u64 {
                match self.newest {
                    None => (1 << $round) | u64::from(value),
                    Some(newest) => {
                        let step = value.wrapping_sub(newest as $wire) as $signed;
                        newest.saturating_add_signed(i64::from(step))
                    }
                }
            }

            /// The newest value seen.
            pub fn newest(&self) -> Option<u64> {
                self.newest
            }

            /// Another sender goes on, with `value` first: what comes now is newer than all that came before.
            pub fn restart(&mut self, value: $wire) {
                let rounds = self.newest.map_or(1, |newest| (newest >> $round).saturating_add(2));
                self.newest = Some((rounds << $round) | u64::from(value));
            }

            /// Forgets everything: the next value is a first one.
            pub fn reset(&mut self) {
                self.newest = None;
            }
        }
    };
}

unwrapper! {
    /// Extends 16-bit sequence numbers.
    SequenceUnwrapper, u16, i16, 16
}

unwrapper! {
    /// Extends 32-bit timestamps.
    TimestampUnwrapper, u32, i32, 32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wraps_forwards_and_back() {
        let mut unwrapper = SequenceUnwrapper::new();
        let seen: Vec<_> = [65_534, 0, 65_535, 1, 65_533].map(|value| unwrapper.unwrap(value)).into();
        assert_eq!(seen, [131_070, 131_072, 131_071, 131_073, 131_069]);
        assert_eq!((unwrapper.newest(), unwrapper.peek(2)), (Some(131_073), 131_074));
        assert_eq!(unwrapper.newest(), Some(131_073), "a look teaches nothing");
        unwrapper.restart(65_535);
        assert_eq!((unwrapper.unwrap(65_535), unwrapper.unwrap(0)), (5 * 65_536 - 1, 5 * 65_536));
        unwrapper.reset();
        assert_eq!(unwrapper.unwrap(5), 65_541);
    }

    #[test]
    fn what_was_sent_before_the_first_has_a_place() {
        let mut unwrapper = SequenceUnwrapper::new();
        assert_eq!((unwrapper.unwrap(0), unwrapper.unwrap(65_535)), (65_536, 65_535));
        let mut unwrapper = TimestampUnwrapper::new();
        assert_eq!((unwrapper.unwrap(0), unwrapper.unwrap(u32::MAX)), (1 << 32, u64::from(u32::MAX)));
    }

    proptest! {
        /// However packets are shuffled within half the number space, each keeps its distance to the others.
        #[test]
        fn sequences_keep_their_distances(start: u16, steps in prop::collection::vec(-3000i64..6000, 1..200)) {
            let mut unwrapper = SequenceUnwrapper::new();
            let first = unwrapper.unwrap(start);
            let mut truth = first as i64;
            for step in steps {
                truth = (truth + step).max(first as i64 - 20_000).max(0);
                let near = unwrapper.newest().unwrap_or(0) as i64 - 30_000;
                truth = truth.max(near);
                prop_assert_eq!(unwrapper.unwrap(truth as u16), truth as u64);
            }
        }

        #[test]
        fn timestamps_keep_their_distances(start: u32, steps in prop::collection::vec(-90_000i64..90_000_000, 1..200)) {
            let mut unwrapper = TimestampUnwrapper::new();
            let mut truth = unwrapper.unwrap(start) as i64;
            for step in steps {
                truth += step;
                prop_assert_eq!(unwrapper.unwrap(truth as u32), truth as u64);
            }
        }
    }
}
