//! When a receiver changes its rung: up only after it has been where it is for a while, and longer after an attempt
//! that failed; down once what it gets has been too much for a moment, so that a keyframe alone does not do it.

use std::time::Duration;

use crate::core::consumer::allocation::Ascent;
use crate::core::time::MediaTime;

/// An attempt that is given up within this has failed.
const FAILED_WITHIN: Duration = Duration::from_secs(10);

/// Times of change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClimbLimits {
    /// On a rung before the next higher one.
    pub settle: Duration,
    /// The same after attempts that failed, at most.
    pub max_settle: Duration,
    /// Of too much, before the next lower one.
    pub overload: Duration,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Climb {
    moved: Option<MediaTime>,
    rose: Option<MediaTime>,
    /// By which the wait has been lengthened: a power of two.
    failures: u32,
    /// Since when it is too much.
    over: Option<MediaTime>,
    free: bool,
}

impl Climb {
    /// The receiver has said what it wants: it gets that at once.
    pub fn set_free(&mut self) {
        self.free = true;
    }

    /// How far it may go up.
    pub fn ascent(&self, now: MediaTime, limits: &ClimbLimits) -> Ascent {
        let Some(moved) = self.moved.filter(|_| !self.free) else { return Ascent::Free };
        let wait = limits.settle.saturating_mul(1 << self.failures.min(16)).min(limits.max_settle);
        if now.micros_since(moved) < micros(wait) { Ascent::None } else { Ascent::Step }
    }

    /// It is on rung `from` and should be on `to`; `urgent`: it cannot stay for a moment. Answers where it goes.
    pub fn settle(
        &mut self,
        from: Option<usize>,
        to: usize,
        urgent: bool,
        now: MediaTime,
        limits: &ClimbLimits,
    ) -> usize {
        let free = std::mem::take(&mut self.free);
        let Some(from) = from.filter(|_| !free) else {
            (self.moved, self.over) = (Some(now), None);
            return to;
        };
        if to < from {
            let over = *self.over.get_or_insert(now);
            if !urgent && now.micros_since(over) < micros(limits.overload) {
                return from;
            }
            if self.rose.is_some_and(|at| now.micros_since(at) < micros(FAILED_WITHIN)) {
                self.failures += 1;
            }
            (self.moved, self.rose) = (Some(now), None);
        } else if to > from {
            (self.moved, self.rose) = (Some(now), Some(now));
        } else if self.rose.is_some_and(|at| now.micros_since(at) > 3 * micros(FAILED_WITHIN)) {
            self.failures = 0;
        }
        self.over = None;
        to
    }
}

fn micros(duration: Duration) -> i64 {
    duration.as_micros() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ClimbLimits = ClimbLimits {
        settle: Duration::from_secs(2),
        max_settle: Duration::from_secs(60),
        overload: Duration::from_millis(500),
    };

    fn ms(millis: i64) -> MediaTime {
        MediaTime::from_millis(millis)
    }

    #[test]
    fn a_moment_of_too_much_changes_nothing() {
        let mut climb = Climb::default();
        assert_eq!(climb.settle(None, 2, false, ms(0), &LIMITS), 2);
        assert_eq!(climb.settle(Some(2), 1, false, ms(100), &LIMITS), 2);
        assert_eq!(climb.settle(Some(2), 2, false, ms(500), &LIMITS), 2);
        assert_eq!(climb.settle(Some(2), 1, false, ms(600), &LIMITS), 2);
        assert_eq!(climb.settle(Some(2), 1, false, ms(1100), &LIMITS), 1);
        assert_eq!(climb.settle(Some(1), 0, true, ms(1200), &LIMITS), 0, "its stream is gone");
    }

    #[test]
    fn attempts_that_fail_are_made_less_often() {
        let mut climb = Climb::default();
        assert_eq!(climb.ascent(ms(0), &LIMITS), Ascent::Free);
        climb.settle(None, 1, false, ms(0), &LIMITS);
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..7 {
            let begun = now;
            while climb.ascent(ms(now), &LIMITS) == Ascent::None {
                now += 100;
            }
            waits.push((now - begun) / 1000);
            assert_eq!(climb.settle(Some(1), 2, false, ms(now), &LIMITS), 2);
            now += 1000;
            assert_eq!(climb.settle(Some(2), 1, true, ms(now), &LIMITS), 1);
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60]);
        climb.settle(Some(1), 2, false, ms(now + 100), &LIMITS);
        climb.settle(Some(2), 2, false, ms(now + 31_000), &LIMITS);
        climb.settle(Some(2), 1, true, ms(now + 50_000), &LIMITS);
        assert_eq!(climb.ascent(ms(now + 52_000), &LIMITS), Ascent::Step, "forgotten after a success");
    }

    #[test]
    fn a_wish_is_granted_at_once() {
        let mut climb = Climb::default();
        climb.settle(None, 1, false, ms(0), &LIMITS);
        assert_eq!(climb.ascent(ms(10), &LIMITS), Ascent::None);
        climb.set_free();
        assert_eq!(climb.ascent(ms(10), &LIMITS), Ascent::Free);
        assert_eq!(climb.settle(Some(1), 0, false, ms(10), &LIMITS), 0);
        assert_eq!(climb.ascent(ms(10), &LIMITS), Ascent::None);
    }
}
