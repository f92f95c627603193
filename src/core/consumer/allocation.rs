//! What each receiver of a path gets of tracks with layers: an amount of bits a second is dealt out over their
//! ladders (see [`Rung`](crate::core::producer::Rung)). Pure: everything that counts comes in as a value.
//!
//! Each first gets the lowest rung, whatever it takes; then one after the other goes up, by priority, while what
//! all take together fits. On a ladder the frame rate comes before the picture size, so that what is given up
//! first is frame rate. Where nobody knows how much the path takes, each goes up a step at a time while its link
//! is healthy, and down when it is not.

/// A rung that is not taken yet must leave this part of the path free, in percent: rates vary.
const HEADROOM: u64 = 10;
/// A rung that is taken may exceed what the path is thought to take by this much, in percent.
const TOLERANCE: u64 = 5;

/// How far a receiver may go up now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ascent {
    /// Not at all.
    None,
    /// One rung, where nothing is known of the path.
    Step,
    /// As far as it wants.
    Free,
}

/// One receiver's part of the path.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Bits a second of each rung it may be put on, in order of quality; never empty.
    pub rungs: &'a [u64],
    /// The rung it is on.
    pub now: Option<usize>,
    /// The rung it begins with where nothing is known of the path.
    pub start: usize,
    /// Whether it may go up.
    pub ascent: Ascent,
    /// Its reports show no loss that counts.
    pub healthy: bool,
    /// How many steps it makes while one of priority 1 makes one.
    pub priority: u8,
}

/// The rung for each of `wishes`, into `rungs`. `path` is what there is for all of them in bits a second, where
/// that is known.
pub fn allocate(path: Option<u64>, wishes: &[Wish<'_>], rungs: &mut Vec<usize>) {
    rungs.clear();
    match path {
        Some(path) => deal_out(path, wishes, rungs),
        None => rungs.extend(wishes.iter().map(step)),
    }
}

fn deal_out(path: u64, wishes: &[Wish<'_>], rungs: &mut Vec<usize>) {
    rungs.resize(wishes.len(), 0);
    let mut taken: u64 = wishes.iter().map(|wish| rate(wish, 0)).sum();
    let mut order: Vec<usize> = (0..wishes.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(wishes.get(*at).map(|wish| wish.priority)));
    let mut moved = true;
    while std::mem::take(&mut moved) {
        for &at in &order {
            let (Some(wish), Some(rung)) = (wishes.get(at), rungs.get_mut(at)) else { continue };
            for _ in 0..wish.priority.max(1) {
                let Some(next) = better(path, taken, wish, *rung) else { break };
                taken = taken - rate(wish, *rung) + rate(wish, next);
                (*rung, moved) = (next, true);
            }
        }
    }
}

/// The next rung above `rung` that fits.
fn better(path: u64, taken: u64, wish: &Wish<'_>, rung: usize) -> Option<usize> {
    let fits = |next: &usize| {
        // Going down is of use only where what is left fits for sure.
        let (kept, room) = match wish.now {
            Some(now) if *next == now => (true, path + path * TOLERANCE / 100),
            Some(now) if *next < now => (true, path),
            _ => (false, path - path * HEADROOM / 100),
        };
        let allowed = kept || wish.now.is_none() || wish.ascent != Ascent::None;
        allowed && taken - rate(wish, rung) + rate(wish, *next) <= room
    };
    // A rung may cost less than the one below it: a larger picture at a lower rate.
    (rung + 1..wish.rungs.len()).find(fits)
}

/// Without knowledge of the path: a step up, or down.
fn step(wish: &Wish<'_>) -> usize {
    let last = wish.rungs.len().saturating_sub(1);
    match (wish.now, wish.ascent) {
        (Some(now), _) if !wish.healthy => now.saturating_sub(1).min(last),
        (None, _) => wish.start.min(last),
        (_, Ascent::Free) => last,
        (Some(now), Ascent::Step) => (now + 1).min(last),
        (Some(now), Ascent::None) => now.min(last),
    }
}

fn rate(wish: &Wish<'_>, rung: usize) -> u64 {
    wish.rungs.get(rung).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Three picture sizes at two frame rates each, in kbit/s.
    const LADDER: [u64; 6] = [60, 100, 300, 500, 900, 1500];

    fn wish(now: Option<usize>) -> Wish<'static> {
        Wish { rungs: &LADDER, now, start: 1, ascent: Ascent::Free, healthy: true, priority: 1 }
    }

    fn rungs(path: impl Into<Option<u64>>, wishes: &[Wish<'_>]) -> Vec<usize> {
        let mut out = Vec::new();
        allocate(path.into(), wishes, &mut out);
        out
    }

    #[test]
    fn one_gets_what_fits_and_never_nothing() {
        assert_eq!(rungs(10, &[wish(None)]), [0]);
        assert_eq!(rungs(600, &[wish(None)]), [3]);
        assert_eq!(rungs(100_000, &[wish(None)]), [5]);
    }

    #[test]
    fn going_up_takes_more_room_than_staying() {
        assert_eq!(rungs(1520, &[wish(Some(4))]), [4], "no headroom");
        assert_eq!(rungs(1520, &[wish(Some(5))]), [5]);
        assert_eq!(rungs(1440, &[wish(Some(5))]), [5], "rates vary");
        assert_eq!(rungs(1400, &[wish(Some(5))]), [4], "the frame rate goes first");
        assert_eq!(rungs(10_000, &[Wish { ascent: Ascent::None, ..wish(Some(2)) }]), [2]);
    }

    #[test]
    fn several_share_and_the_important_one_goes_first() {
        assert_eq!(rungs(700, &[wish(None), wish(None)]), [2, 2]);
        assert_eq!(rungs(1100, &[wish(None), wish(None)]), [3, 2]);
        let important = Wish { priority: 10, ..wish(None) };
        assert_eq!(rungs(1100, &[wish(None), important]), [0, 4]);
    }

    #[test]
    fn an_unknown_path_is_climbed_step_by_step() {
        let stepping = |now, healthy| Wish { ascent: Ascent::Step, healthy, ..wish(now) };
        assert_eq!(rungs(None, &[stepping(None, true), stepping(Some(2), true)]), [1, 3]);
        assert_eq!(rungs(None, &[stepping(Some(5), true), stepping(Some(5), false)]), [5, 4]);
        assert_eq!(rungs(None, &[wish(Some(0)), Wish { ascent: Ascent::None, ..wish(Some(2)) }]), [5, 2]);
    }

    proptest! {
        /// What is dealt out fits, unless it is the least there is.
        #[test]
        fn it_fits(
            path in 0u64..10_000,
            all in prop::collection::vec((prop::collection::vec(1u64..3000, 1..8), prop::option::of(0usize..8), 1u8..5), 1..6),
        ) {
            let wishes: Vec<_> = all
                .iter()
                .map(|(rungs, now, priority)| Wish { rungs, now: *now, priority: *priority, ..wish(None) })
                .collect();
            let out = rungs(path, &wishes);
            let total: u64 = wishes.iter().zip(&out).map(|(wish, rung)| wish.rungs[*rung]).sum();
            let least: u64 = wishes.iter().map(|wish| wish.rungs[0]).sum();
            prop_assert!(total <= least.max(path + path * TOLERANCE / 100), "{total} {path} {least}");
        }
    }
}
