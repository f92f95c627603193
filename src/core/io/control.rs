//! The worker's end of the control socket: netstrings, non-blocking both ways. While more than the
//! configured bytes wait for the main thread, no request is read and no event is taken from the engine.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::core::control::netstring;
use crate::core::io::engine::Engine;
use crate::core::io::epoll::Interest;
use crate::core::io::queue::WriteQueue;
use crate::core::io::{clock, sys};

/// Bytes read in one round; the rest waits in the socket.
const READ: usize = 256 << 10;
/// How long the last answers may take to be taken when the worker ends.
const LINGER: Duration = Duration::from_millis(200);

/// The control socket and what waits on either side of it.
pub(crate) struct ControlSocket {
    socket: UnixStream,
    reader: netstring::Reader,
    out: WriteQueue,
    limit: usize,
    scratch: Vec<u8>,
}

impl ControlSocket {
    /// Over `socket`, with at most about `limit` bytes waiting to be written.
    pub fn new(socket: UnixStream, limit: usize) -> io::Result<ControlSocket> {
        socket.set_nonblocking(true)?;
        let reader = netstring::Reader::new(netstring::INSIDE_LIMIT);
        Ok(ControlSocket { socket, reader, out: WriteQueue::default(), limit, scratch: vec![0; READ] })
    }

    /// What to watch the socket for.
    pub fn interest(&self) -> Interest {
        Interest { read: !self.congested(), write: !self.out.is_empty() }
    }

    fn congested(&self) -> bool {
        self.out.len() > self.limit
    }

    /// Reads what waits; `false` when the main thread closed its end or the framing is lost.
    pub fn read(&mut self) -> bool {
        if self.congested() {
            return true;
        }
        match sys::read(self.socket.as_fd(), &mut self.scratch) {
            Ok(0) => false,
            Ok(count) => {
                self.reader.feed(self.scratch.get(..count).unwrap_or_default());
                true
            }
            Err(error) => {
                matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
            }
        }
    }

    /// Hands what was read to the engine; `false` when the framing is lost.
    pub fn deliver(&mut self, now: Instant, engine: &mut impl Engine) -> bool {
        loop {
            match self.reader.next_payload() {
                Ok(Some(json)) => engine.handle_control(now, json),
                Ok(None) => return true,
                Err(error) => {
                    tracing::error!(%error, "the control socket of a worker lost its framing");
                    return false;
                }
            }
        }
    }

    /// Takes the engine's answers and events and writes what the socket takes; `false` when it is broken.
    pub fn write(&mut self, engine: &mut impl Engine) -> bool {
        loop {
            while !self.congested() {
                let Some(payload) = engine.poll_control() else { break };
                if let Err(error) = netstring::write(&payload, netstring::INSIDE_LIMIT, self.out.tail()) {
                    tracing::error!(%error, bytes = payload.len(), "an answer of a worker was dropped");
                }
            }
            if self.out.is_empty() {
                return true;
            }
            let was_congested = self.congested();
            if self.out.write_to(self.socket.as_fd()).is_err() {
                return false;
            }
            // Room again: the engine may have more to say, and would not be asked before the next round.
            if !was_congested || self.congested() {
                return true;
            }
        }
    }

    /// Delivers the last answers within a short time, before the worker ends.
    pub fn finish(&mut self, engine: &mut impl Engine) {
        let deadline = clock::now() + LINGER;
        while self.write(engine) && !self.out.is_empty() {
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() || !sys::wait_writable(self.socket.as_fd(), left).unwrap_or(false) {
                break;
            }
        }
    }
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
