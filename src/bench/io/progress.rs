//! The line that says how far a measurement is: rewritten in place on a terminal, now and then a new one elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

const ON_TERMINAL: Duration = Duration::from_millis(250);
const ELSEWHERE: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Progress {
    terminal: bool,
    next: Instant,
}

impl Progress {
    pub(super) fn new() -> Self {
        Progress { terminal: stderr().is_terminal(), next: Instant::now() }
    }

    /// Says `text`, if the last was said long enough ago.
    pub(super) fn say(&mut self, now: Instant, text: impl FnOnce() -> String) {
        if now < self.next {
            return;
        }
        self.next = now + if self.terminal { ON_TERMINAL } else { ELSEWHERE };
        let (begin, end) = if self.terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        let mut out = stderr().lock();
        // Who cannot be told is not told.
        let _ = write!(out, "{begin}{}{end}", text());
        let _ = out.flush();
    }

    /// Says `text` for good.
    pub(super) fn done(&mut self, text: &str) {
        let begin = if self.terminal { "\r\x1b[K" } else { "" };
        let _ = writeln!(stderr(), "{begin}{text}");
        self.next = Instant::now();
    }
}
