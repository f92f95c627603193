//! A window of sequence numbers below the newest: replay protection (RFC 3711 §3.3.2) and the guard against
//! duplicates. It is wide, because a retransmission without RTX comes under its old number up to a second late.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

const WORDS: usize = 16;
/// Indices remembered: a word less than there is, for the newest word is only partly below the newest index.
pub(super) const WINDOW: u64 = 64 * 15;

/// Which of the last [`WINDOW`] indices were seen.
#[derive(Clone, Debug)]
pub(super) struct SequenceWindow {
    newest: u64,
    seen: [u64; WORDS],
}

impl SequenceWindow {
    /// A window that has seen `first`.
    pub(super) fn starting_at(first: u64) -> Self {
        let mut window = SequenceWindow { newest: first, seen: [0; WORDS] };
        window.set(first);
        window
    }

    /// The newest index seen.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Whether `index` is neither seen nor too old.
    pub(super) fn is_new(&self, index: u64) -> bool {
        if index > self.newest {
            return true;
        }
        self.newest.saturating_sub(index) < WINDOW && self.word(index) & bit(index) == 0
    }

    /// Notes `index`, which is new.
    pub(super) fn note(&mut self, index: u64) {
        if index > self.newest {
            // Clear what the step brings into the window: whole words beyond the newest one's.
            let (from, to) = (self.newest / 64, index / 64);
            for step in 1..=to.saturating_sub(from).min(WORDS as u64) {
                if let Some(place) = self.seen.get_mut(place(from.wrapping_add(step))) {
                    *place = 0;
                }
            }
            self.newest = index;
        }
        self.set(index);
    }

    fn set(&mut self, index: u64) {
        if let Some(word) = self.seen.get_mut(place(index / 64)) {
            *word |= bit(index);
        }
    }

    fn word(&self, index: u64) -> u64 {
        self.seen.get(place(index / 64)).copied().unwrap_or(u64::MAX)
    }
}

fn place(word: u64) -> usize {
    (word & 15) as usize
}

fn bit(index: u64) -> u64 {
    1u64.wrapping_shl((index & 63) as u32)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_set(steps in prop::collection::vec(-1500i64..200, 1..600)) {
            let mut window = SequenceWindow::starting_at(100_000);
            let mut seen = std::collections::BTreeSet::from([100_000u64]);
            for step in steps {
                let index = window.newest().saturating_add_signed(step);
                let newest = seen.last().copied().unwrap_or(0);
                let new = !seen.contains(&index) && (index > newest || newest - index < WINDOW);
                prop_assert_eq!(window.is_new(index), new);
                if new {
                    window.note(index);
                    seen.insert(index);
                }
            }
        }
    }
}
