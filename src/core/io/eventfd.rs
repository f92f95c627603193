//! Wakes a worker that sleeps, and costs one atomic swap when it does not.
//!
//! The worker is in one of three states: asleep (armed), awake, awake and signalled. A waker swaps in
//! "signalled" and writes to the eventfd only when it found "asleep". While a round runs or the tick
//! puts the next one off, no wake makes a system call.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};

use crate::core::io::sys;
use crate::core::lane::Wake;

const ASLEEP: u8 = 0;
const AWAKE: u8 = 1;
const SIGNALLED: u8 = 2;

/// An eventfd with its state.
#[derive(Debug)]
pub struct EventFd {
    fd: OwnedFd,
    state: AtomicU8,
}

impl EventFd {
    /// A new one; its worker is awake and signalled, so that its first round looks at everything.
    pub fn new() -> io::Result<EventFd> {
        Ok(EventFd { fd: sys::eventfd()?, state: AtomicU8::new(SIGNALLED) })
    }

    /// Whether the worker was signalled since it last asked. Everything sent before the signal is
    /// visible afterwards.
    pub fn take(&self) -> bool {
        self.state.swap(AWAKE, Ordering::AcqRel) == SIGNALLED
    }

    /// Empties the eventfd; call it when it was found readable. A waker that was slow may write after
    /// its signal was taken: that costs one empty round.
    pub fn drain(&self) {
        let mut count = [0u8; 8];
        let _ = sys::read(self.fd.as_fd(), &mut count);
    }

    /// Declares that the worker is about to sleep; `false` when it was signalled meanwhile and must not.
    pub fn arm(&self) -> bool {
        self.state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Wake for EventFd {
    fn wake(&self) {
        if self.state.swap(SIGNALLED, Ordering::AcqRel) == ASLEEP {
            // Cannot fail but when the counter overflows, and then the reader wakes all the same.
            let _ = sys::write(self.fd.as_fd(), &1u64.to_ne_bytes());
        }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl EventFd {
    /// Whether the eventfd is readable, that is whether a wake made a system call.
    #[cfg(test)]
    fn written(&self) -> bool {
        sys::wait_readable(self.fd.as_fd(), std::time::Duration::ZERO).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_writes_only_when_the_worker_sleeps() {
        let event = EventFd::new().expect("eventfd");
        assert!(event.take(), "a new worker looks at everything once");
        event.wake();
        assert!(!event.written(), "awake: no system call");
        assert!(!event.arm(), "signalled meanwhile: must not sleep");
        assert!(event.take());
        assert!(event.arm());
        event.wake();
        event.wake();
        assert!(event.written());
        assert!(event.take());
        event.drain();
        assert!(!event.written());
        assert!(!event.take());
    }
}
