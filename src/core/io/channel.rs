//! The channel of a worker process: the socket its dispatcher passed to it, and the log lines that share it
//! with messages. A payload that begins with `{` is a message, one with `D`, `W` or `E` a line.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::core::io::sys;
use crate::core::lane::Wake;
use crate::core::worker::{LogLevel, LogSettings, LogTag};

/// Lines that wait for the dispatcher; more are counted and left out.
const MAX_LINES: usize = 1024;
/// Bytes of a line; the rest is cut off.
const MAX_LINE: usize = 4096;

/// Takes over the channel that was passed as descriptor `fd`.
pub(super) fn inherit(fd: RawFd) -> io::Result<UnixStream> {
    if fd <= libc::STDERR_FILENO {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a standard stream is no channel"));
    }
    // SAFETY: borrowed only to ask what it is; a descriptor that is not open answers EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let kind = sys::get_option(borrowed, libc::SOL_SOCKET, libc::SO_TYPE)?;
    let domain = sys::get_option(borrowed, libc::SOL_SOCKET, libc::SO_DOMAIN)?;
    if (kind, domain) != (libc::SOCK_STREAM, libc::AF_UNIX) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a UNIX stream socket"));
    }
    // SAFETY: it is open, and whoever started the process passed it to us alone.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    sys::set_close_on_exec(owned.as_fd())?;
    Ok(UnixStream::from(owned))
}

/// Log lines on their way to the dispatcher. What it wants to hear it may change at any time.
pub struct ChannelLog {
    wanted: AtomicU16,
    lines: Mutex<Lines>,
    wake: Arc<dyn Wake>,
}

#[derive(Default)]
struct Lines {
    waiting: VecDeque<Vec<u8>>,
    left_out: u64,
}

impl ChannelLog {
    /// One that `wake` has emptied when a line waits.
    pub(super) fn new(settings: LogSettings, wake: Arc<dyn Wake>) -> Self {
        ChannelLog { wanted: AtomicU16::new(settings.to_bits()), lines: Mutex::default(), wake }
    }

    /// What is wanted from now on.
    pub(super) fn set(&self, settings: LogSettings) {
        self.wanted.store(settings.to_bits(), Ordering::Relaxed);
        // What nobody wanted so far was not even asked about.
        tracing::callsite::rebuild_interest_cache();
    }

    /// What is wanted.
    pub fn settings(&self) -> LogSettings {
        LogSettings::from_bits(self.wanted.load(Ordering::Relaxed))
    }

    /// Whether a line of `level` about `tag` is wanted.
    pub fn wants(&self, level: LogLevel, tag: LogTag) -> bool {
        self.settings().wants(level, tag)
    }

    /// Queues a line.
    pub fn push(&self, level: LogLevel, text: &str) {
        let mut line = Vec::with_capacity(text.len().min(MAX_LINE) + 1);
        line.push(level.letter());
        line.extend_from_slice(&text.as_bytes()[..text.floor_char_boundary(MAX_LINE)]);
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        match lines.waiting.len() < MAX_LINES {
            true => lines.waiting.push_back(line),
            false => lines.left_out += 1,
        }
        drop(lines);
        self.wake.wake();
    }

    /// The next line.
    pub(super) fn pop(&self) -> Option<Vec<u8>> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.waiting.pop_front().or_else(|| {
            let left_out = std::mem::take(&mut lines.left_out);
            (left_out > 0).then(|| format!("W{left_out} log lines were left out").into_bytes())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self) {}
    }

    #[test]
    fn lines_are_bounded_and_what_is_left_out_is_told() {
        let log = ChannelLog::new(LogSettings::default(), Arc::new(Nobody));
        for n in 0..=MAX_LINES {
            log.push(LogLevel::Error, &format!("line {n}"));
        }
        assert_eq!(log.pop().as_deref(), Some(&b"Eline 0"[..]));
        let rest: Vec<_> = std::iter::from_fn(|| log.pop()).collect();
        assert_eq!(rest.len(), MAX_LINES);
        assert_eq!(rest.last().map(Vec::as_slice), Some(&b"W1 log lines were left out"[..]));
        log.push(LogLevel::Debug, &"ä".repeat(MAX_LINE));
        let line = log.pop().expect("a line");
        assert_eq!(line.len(), MAX_LINE + 1);
        assert!(std::str::from_utf8(&line).is_ok(), "cut between characters");
    }

    #[test]
    fn only_a_unix_socket_is_a_channel() {
        use std::os::fd::IntoRawFd;
        assert!(inherit(2).is_err() && inherit(-1).is_err());
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("bind");
        assert!(inherit(std::os::fd::AsRawFd::as_raw_fd(&udp)).is_err());
        let (near, _far) = UnixStream::pair().expect("pair");
        assert!(inherit(near.into_raw_fd()).is_ok());
    }
}
