//! Things that go on side by side, each polled only when it was woken: who is in a thousand rooms pays for those in
//! which something happens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use slab::Slab;

/// See the module.
pub(super) struct Ready<T> {
    items: Slab<(T, Arc<Flag>)>,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Vec<usize>,
    waker: Option<Waker>,
}

/// Says that one of them was woken.
struct Flag {
    key: usize,
    raised: AtomicBool,
    woken: Arc<Woken>,
}

impl Woken {
    fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.raised.swap(true, Ordering::AcqRel) {
            return;
        }
        let waker = self.woken.with(|state| {
            state.keys.push(self.key);
            state.waker.take()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Default for Ready<T> {
    fn default() -> Self {
        Ready { items: Slab::new(), woken: Arc::default() }
    }
}

impl<T> Ready<T> {
    /// One more; it is polled the next time.
    pub fn push(&mut self, item: T) {
        let entry = self.items.vacant_entry();
        let flag =
            Arc::new(Flag { key: entry.key(), raised: AtomicBool::new(false), woken: self.woken.clone() });
        entry.insert((item, flag.clone()));
        flag.wake_by_ref();
    }

    /// Takes out those for which `gone` holds.
    pub fn remove(&mut self, gone: impl Fn(&T) -> bool) {
        self.items.retain(|_, (item, _)| !gone(item));
    }

    /// Polls those that were woken; `each` says what became of it.
    pub fn poll(&mut self, cx: &mut Context<'_>, mut each: impl FnMut(&mut T, &mut Context<'_>) -> Turn) {
        let keys = self.woken.with(|state| {
            match &mut state.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            std::mem::take(&mut state.keys)
        });
        let mut later = Vec::new();
        for key in keys {
            let Some((item, flag)) = self.items.get_mut(key) else { continue };
            flag.raised.store(false, Ordering::Release);
            let waker = Waker::from(flag.clone());
            match each(item, &mut Context::from_waker(&waker)) {
                Turn::Waits => {}
                Turn::Later => later.push(flag.clone()),
                Turn::Over => drop(self.items.try_remove(key)),
            }
        }
        // Without waking anybody: whoever put it off knows when to come again.
        self.woken.with(|state| {
            let put_off = later.into_iter().filter(|flag| !flag.raised.swap(true, Ordering::AcqRel));
            state.keys.extend(put_off.map(|flag| flag.key));
        });
    }
}

/// What became of a thing that was polled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// It waits for something, which will wake it.
    Waits,
    /// It is to be polled again, woken or not.
    Later,
    /// It is over.
    Over,
}

impl From<Poll<()>> for Turn {
    fn from(poll: Poll<()>) -> Self {
        if poll.is_ready() { Turn::Over } else { Turn::Waits }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_what_was_woken_is_polled() {
        let counter = Arc::new(Counter::default());
        let outer = Waker::from(counter.clone());
        let mut cx = Context::from_waker(&outer);
        let mut ready = Ready::default();
        let mut wakers: Vec<Option<Waker>> = vec![None, None, None];
        (0..3).for_each(|at| ready.push(at));
        let mut poll = |ready: &mut Ready<usize>, turn: Turn| {
            let mut polled = Vec::new();
            ready.poll(&mut cx, |at, cx| {
                polled.push(*at);
                wakers[*at] = Some(cx.waker().clone());
                turn
            });
            (polled, wakers.clone())
        };
        let (polled, wakers) = poll(&mut ready, Turn::Waits);
        assert_eq!(polled, [0, 1, 2]);
        assert_eq!(poll(&mut ready, Turn::Waits).0, Vec::<usize>::new());
        let wake = |at: usize| wakers[at].as_ref().expect("polled before").wake_by_ref();
        wake(1);
        wake(1);
        assert_eq!(counter.0.load(Ordering::Relaxed), 1, "once is enough");
        assert_eq!(poll(&mut ready, Turn::Later).0, [1]);
        assert_eq!(counter.0.load(Ordering::Relaxed), 1, "put off, not woken");
        wake(2);
        assert_eq!(poll(&mut ready, Turn::Over).0, [1, 2]);
        wake(1);
        wake(0);
        assert_eq!(poll(&mut ready, Turn::Waits).0, [0], "what is over is polled no more");
        ready.remove(|at| *at == 0);
        wake(0);
        assert_eq!(poll(&mut ready, Turn::Waits).0, Vec::<usize>::new());
    }
}
