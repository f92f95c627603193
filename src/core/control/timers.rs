//! Timers for code that knows no clock: they are set for "so long from now" and begin to run when whoever
//! has a clock looks in next, which is at once, because setting one wakes it.

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Timers that yield a `K` when they run out. Cancelling is the owner's: a `K` may come late or in vain.
pub struct Timers<K> {
    fresh: Vec<(Duration, K)>,
    running: BTreeMap<(Instant, u64), K>,
    count: u64,
    wanted: bool,
    waker: Option<Waker>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Timers { fresh: Vec::new(), running: BTreeMap::new(), count: 0, wanted: false, waker: None }
    }
}

impl<K> Timers<K> {
    /// Yields `key` in `after` from now.
    pub fn set(&mut self, after: Duration, key: K) {
        self.fresh.push((after, key));
        self.nudge();
    }

    /// Makes whoever drives the timers look in, because something new waits.
    pub fn nudge(&mut self) {
        self.wanted = true;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Ready when something new waits.
    pub fn poll_wanted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.wanted {
            return Poll::Ready(());
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Starts what was set since the last call.
    pub fn start(&mut self, now: Instant) {
        self.wanted = false;
        for (after, key) in self.fresh.drain(..) {
            self.count += 1;
            self.running.insert((now + after, self.count), key);
        }
    }

    /// One that has run out.
    pub fn pop(&mut self, now: Instant) -> Option<K> {
        let entry = self.running.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    /// How many are set.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.fresh.len() + self.running.len()
    }

    /// When the next runs out.
    pub fn next(&self) -> Option<Instant> {
        self.running.first_key_value().map(|((at, _), _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_out_in_order_from_the_moment_they_were_seen() {
        let base = Instant::now();
        let at = |ms| base + Duration::from_millis(ms);
        let mut timers = Timers::default();
        timers.set(Duration::from_millis(20), 'b');
        timers.set(Duration::from_millis(10), 'a');
        assert!(timers.wanted);
        timers.start(at(100));
        assert_eq!((timers.next(), timers.pop(at(109))), (Some(at(110)), None));
        assert_eq!(
            (timers.pop(at(120)), timers.pop(at(120)), timers.pop(at(120))),
            (Some('a'), Some('b'), None)
        );
    }
}
