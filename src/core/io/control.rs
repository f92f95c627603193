//! The worker's end of the control socket: netstrings, non-blocking both ways. While more than the
//! configured bytes wait for the main thread, no request is read and no event is taken from the engine.
//!
//! In a worker process the other end is somebody else's: messages are shorter there, log lines travel among
//! them, and a fault of the framing costs the message it is in, because rooms hang on the socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::control::netstring::{self, NetstringError};
use crate::core::io::channel::ChannelLog;
use crate::core::io::engine::Engine;
use crate::core::io::epoll::Interest;
use crate::core::io::queue::WriteQueue;
use crate::core::io::{clock, sys};
use crate::core::message::{FromWorker, Response};

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
    payload_limit: usize,
    log: Option<Arc<ChannelLog>>,
    scratch: Vec<u8>,
}

impl ControlSocket {
    /// Over `socket`, with at most about `limit` bytes waiting to be written. `log`: a worker process's.
    pub fn new(socket: UnixStream, limit: usize, log: Option<Arc<ChannelLog>>) -> io::Result<ControlSocket> {
        socket.set_nonblocking(true)?;
        let payload_limit = if log.is_some() { netstring::CHANNEL_LIMIT } else { netstring::INSIDE_LIMIT };
        let reader = netstring::Reader::new(payload_limit);
        let (out, scratch) = (WriteQueue::default(), vec![0; READ]);
        Ok(ControlSocket { socket, reader, out, limit, payload_limit, log, scratch })
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
                    if self.log.is_none() {
                        return false;
                    }
                    self.reader.recover();
                }
            }
        }
    }

    /// Takes the engine's answers and events and writes what the socket takes; `false` when it is broken.
    pub fn write(&mut self, engine: &mut impl Engine) -> bool {
        loop {
            while !self.congested() {
                let line = self.log.as_ref().and_then(|log| log.pop());
                let Some(payload) = line.or_else(|| engine.poll_control()) else { break };
                if let Err(error) = netstring::write(&payload, self.payload_limit, self.out.tail()) {
                    self.refuse(&payload, error);
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

    /// Nobody waits in vain for an answer that is too long.
    fn refuse(&mut self, payload: &[u8], error: NetstringError) {
        tracing::error!(%error, bytes = payload.len(), "a message of a worker was not sent");
        if let Some(FromWorker::Response(answer)) = FromWorker::parse(payload) {
            let refusal = Response::rejected(answer.id, format!("the answer is too long: {error}"));
            // Short enough for any limit.
            let _ = netstring::write(&refusal.to_json(), self.payload_limit, self.out.tail());
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
