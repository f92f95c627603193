//! The stream sockets of a worker: ICE-TCP connections that come in (passive candidates, RFC 6544) and
//! sockets handed over by the main thread (RTMP).
//!
//! | | read | write queue full |
//! |---|---|---|
//! | ICE-TCP | frames (RFC 4571), each a datagram | the frame is dropped, counted |
//! | adopted | bytes | the stream is closed, counted |
//!
//! Each stream is read once a round, up to a bound, so that none starves the others. What was queued in
//! a round is written once, at its end.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::core::id::{Pii, StreamId};
use crate::core::io::config::IoConfig;
use crate::core::io::engine::{Engine, Verdict};
use crate::core::io::epoll::{Epoll, Interest};
use crate::core::io::framing::Frames;
use crate::core::io::queue::WriteQueue;
use crate::core::io::stats::IoCounters;
use crate::core::io::sys;
use crate::core::rtp::path::Path;

/// Tokens of streams in epoll; the low half is the stream's id.
pub(crate) const TOKEN: u64 = 1 << 32;
/// How often silent and closing streams are looked for, while there are any.
const CHECK: Duration = Duration::from_millis(250);

enum Kind {
    Adopted,
    IceTcp {
        remote: SocketAddr,
        frames: Frames,
        /// Set until a frame was somebody's: when that must have happened.
        prove_by: Option<Instant>,
    },
}

struct Stream {
    fd: OwnedFd,
    kind: Kind,
    queue: WriteQueue,
    watched: Interest,
    /// Queued something in this round.
    dirty: bool,
    /// Being closed: what waits is delivered until then.
    close_by: Option<Instant>,
    /// Our direction has been shut down.
    shut: bool,
}

impl Stream {
    fn remote_ip(&self) -> Option<IpAddr> {
        match &self.kind {
            Kind::IceTcp { remote, .. } => Some(remote.ip()),
            Kind::Adopted => None,
        }
    }

    /// When something must have happened.
    fn deadline(&self) -> Option<Instant> {
        match self.kind {
            Kind::IceTcp { prove_by, .. } => self.close_by.or(prove_by),
            Kind::Adopted => self.close_by,
        }
    }
}

/// What a read brought about.
enum Fate {
    Keep,
    /// It is over; the engine is told if it knew the stream.
    Gone {
        known: bool,
    },
}

/// All stream sockets of a worker.
pub(crate) struct Streams {
    config: IoConfig,
    table: HashMap<StreamId, Stream>,
    per_address: HashMap<IpAddr, usize>,
    connections: usize,
    dirty: Vec<StreamId>,
    scratch: Vec<u8>,
    last_id: u32,
    next_check: Option<Instant>,
}

impl Streams {
    /// None yet.
    pub fn new(config: &IoConfig) -> Streams {
        Streams {
            config: config.clone(),
            table: HashMap::new(),
            per_address: HashMap::new(),
            connections: 0,
            dirty: Vec::new(),
            scratch: vec![0; config.stream_read_bytes.max(2048)],
            last_id: 0,
            next_check: None,
        }
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Takes an ICE-TCP connection in, unless a bound is reached: then it is closed.
    pub fn accept(
        &mut self,
        now: Instant,
        epoll: &Epoll,
        (fd, remote): (OwnedFd, SocketAddr),
        out: &mut IoCounters,
    ) {
        let of_address = self.per_address.get(&remote.ip()).copied().unwrap_or(0);
        if self.connections >= self.config.tcp_connections
            || of_address >= self.config.tcp_connections_per_address
        {
            out.tcp_refused += 1;
            tracing::debug!("too many ICE-TCP connections, one was closed");
            return;
        }
        let prove_by = now + Duration::from_millis(u64::from(self.config.tcp_first_frame_ms));
        let frames = Frames::new(self.config.tcp_frame_bytes);
        let kind = Kind::IceTcp { remote, frames, prove_by: Some(prove_by) };
        let id = self.next_id();
        if self.insert(epoll, id, fd, kind).is_ok() {
            out.tcp_accepted += 1;
            tracing::trace!(stream = %id, remote = %Pii(remote), "ICE-TCP connection");
            self.check_at(now + CHECK);
        }
    }

    /// Takes a socket of the main thread's over. The id is valid even when that failed; the caller then
    /// reports it closed.
    pub fn adopt(&mut self, epoll: &Epoll, fd: OwnedFd) -> (StreamId, io::Result<()>) {
        let id = self.next_id();
        let result =
            sys::set_nonblocking(fd.as_fd()).and_then(|()| self.insert(epoll, id, fd, Kind::Adopted));
        (id, result)
    }

    fn next_id(&mut self) -> StreamId {
        // A worker that has seen 4 billion streams has been replaced before.
        self.last_id = self.last_id.wrapping_add(1);
        StreamId(self.last_id)
    }

    fn insert(&mut self, epoll: &Epoll, id: StreamId, fd: OwnedFd, kind: Kind) -> io::Result<()> {
        // Not a TCP socket (a test's socket pair): then there is nothing to turn off.
        let _ = sys::set_option(fd.as_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
        let watched = Interest::READ;
        epoll.add(&fd, TOKEN | u64::from(id.0), watched)?;
        let queue = WriteQueue::default();
        let stream = Stream { fd, kind, queue, watched, dirty: false, close_by: None, shut: false };
        if let Some(ip) = stream.remote_ip() {
            *self.per_address.entry(ip).or_insert(0) += 1;
            self.connections += 1;
        }
        self.table.insert(id, stream);
        Ok(())
    }

    /// Drops the socket and what waits for it.
    fn remove(&mut self, id: StreamId) {
        let Some(stream) = self.table.remove(&id) else { return };
        let Some(ip) = stream.remote_ip() else { return };
        self.connections = self.connections.saturating_sub(1);
        if let Some(count) = self.per_address.get_mut(&ip) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_address.remove(&ip);
            }
        }
    }

    fn end(&mut self, now: Instant, id: StreamId, known: bool, engine: &mut impl Engine) {
        self.remove(id);
        if known {
            engine.handle_stream_closed(now, id);
        }
    }

    /// Reads what a stream has, up to the bound of a round.
    pub fn read(&mut self, now: Instant, id: StreamId, engine: &mut impl Engine, out: &mut IoCounters) {
        let Some(stream) = self.table.get_mut(&id) else { return };
        let fate = match sys::read(stream.fd.as_fd(), &mut self.scratch) {
            Ok(0) => Fate::Gone { known: true },
            Ok(count) => {
                out.stream_in_bytes += count as u64;
                let bytes = self.scratch.get_mut(..count).unwrap_or_default();
                receive(stream, now, id, bytes, engine, out)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Fate::Keep
            }
            Err(_) => Fate::Gone { known: true },
        };
        if let Fate::Gone { known } = fate {
            let unproven = matches!(stream.kind, Kind::IceTcp { prove_by: Some(_), .. });
            let known = known && !unproven && stream.close_by.is_none();
            self.end(now, id, known, engine);
        }
    }

    /// Queues bytes for a stream; `false` when its queue is full and the engine must be told it is closed.
    #[must_use]
    pub fn write(&mut self, id: StreamId, bytes: &[u8], out: &mut IoCounters) -> bool {
        let limit = self.config.stream_write_bytes;
        let Some(stream) = self.table.get_mut(&id).filter(|stream| stream.close_by.is_none()) else {
            return true;
        };
        if stream.queue.len().saturating_add(bytes.len()) > limit {
            out.streams_overflowed += 1;
            tracing::debug!(stream = %id, "a stream takes its bytes too slowly and was closed");
            self.remove(id);
            return false;
        }
        stream.queue.tail().extend_from_slice(bytes);
        mark(&mut self.dirty, stream, id);
        true
    }

    /// Queues a frame for an ICE-TCP connection, or drops it when the queue is full.
    pub fn frame(&mut self, id: StreamId, frame: &[u8], out: &mut IoCounters) {
        let limit = self.config.tcp_write_bytes;
        let Some(stream) = self.table.get_mut(&id).filter(|stream| stream.close_by.is_none()) else { return };
        let Ok(len) = u16::try_from(frame.len()) else { return };
        if stream.queue.len() + 2 + frame.len() > limit {
            out.tcp_out_dropped += 1;
            return;
        }
        out.tcp_out_packets += 1;
        let tail = stream.queue.tail();
        tail.extend_from_slice(&len.to_be_bytes());
        tail.extend_from_slice(frame);
        mark(&mut self.dirty, stream, id);
    }

    /// Closes a stream once what waits is delivered, or after a while.
    pub fn close(&mut self, now: Instant, id: StreamId) {
        let Some(stream) = self.table.get_mut(&id) else { return };
        let linger = Duration::from_millis(u64::from(self.config.stream_linger_ms));
        stream.close_by.get_or_insert(now + linger);
        mark(&mut self.dirty, stream, id);
        self.check_at(now + CHECK);
    }

    /// Writes what the round queued, once a stream.
    pub fn flush(&mut self, now: Instant, epoll: &Epoll, engine: &mut impl Engine, out: &mut IoCounters) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            self.push(now, id, epoll, engine, out);
        }
        self.dirty = dirty;
    }

    /// Writes what one stream takes.
    pub fn push(
        &mut self,
        now: Instant,
        id: StreamId,
        epoll: &Epoll,
        engine: &mut impl Engine,
        out: &mut IoCounters,
    ) {
        let Some(stream) = self.table.get_mut(&id) else { return };
        stream.dirty = false;
        let Ok(written) = stream.queue.write_to(stream.fd.as_fd()) else {
            let known = stream.close_by.is_none();
            return self.end(now, id, known, engine);
        };
        out.stream_out_bytes += written as u64;
        if stream.close_by.is_some() && stream.queue.is_empty() && !stream.shut {
            // The other end closes next; closing first with bytes unread would reset the connection and
            // could take away what was just delivered.
            stream.shut = true;
            sys::shutdown_write(stream.fd.as_fd());
        }
        let wanted = Interest { read: true, write: !stream.queue.is_empty() };
        if wanted != stream.watched && epoll.modify(&stream.fd, TOKEN | u64::from(id.0), wanted).is_ok() {
            stream.watched = wanted;
        }
    }

    fn check_at(&mut self, at: Instant) {
        self.next_check = Some(self.next_check.map_or(at, |next| next.min(at)));
    }

    /// When `handle_timeout` wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_check
    }

    /// Ends the streams whose time is over.
    pub fn handle_timeout(&mut self, now: Instant, engine: &mut impl Engine, out: &mut IoCounters) {
        if self.next_check.is_none_or(|at| at > now) {
            return;
        }
        let mut overdue = Vec::new();
        let mut waiting = false;
        for (id, stream) in &self.table {
            match stream.deadline() {
                Some(deadline) if deadline <= now => overdue.push(*id),
                Some(_) => waiting = true,
                None => {}
            }
        }
        for id in overdue {
            let closing = self.table.get(&id).is_some_and(|stream| stream.close_by.is_some());
            if !closing {
                out.tcp_refused += 1;
                tracing::debug!(stream = %id, "an ICE-TCP connection stayed silent and was closed");
            }
            self.end(now, id, false, engine);
        }
        self.next_check = waiting.then_some(now + CHECK);
    }
}

fn mark(dirty: &mut Vec<StreamId>, stream: &mut Stream, id: StreamId) {
    if !stream.dirty {
        stream.dirty = true;
        dirty.push(id);
    }
}

/// Hands what was read to the engine.
fn receive(
    stream: &mut Stream,
    now: Instant,
    id: StreamId,
    bytes: &mut [u8],
    engine: &mut impl Engine,
    out: &mut IoCounters,
) -> Fate {
    if stream.close_by.is_some() {
        return Fate::Keep;
    }
    let Kind::IceTcp { remote, frames, prove_by } = &mut stream.kind else {
        engine.handle_stream(now, id, bytes);
        return Fate::Keep;
    };
    let path = Path::Tcp { stream: id, remote: *remote };
    let fed = frames.feed(bytes, |frame| {
        out.tcp_in_packets += 1;
        let claimed = engine.handle_datagram(now, path, frame) == Verdict::Claimed;
        if claimed {
            *prove_by = None;
        }
        claimed || prove_by.is_none()
    });
    match fed {
        Ok(()) => Fate::Keep,
        Err(error) => {
            out.tcp_refused += 1;
            tracing::debug!(stream = %id, %error, "an ICE-TCP connection was closed");
            Fate::Gone { known: true }
        }
    }
}
