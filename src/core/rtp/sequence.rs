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
