//! One controller's connection over any stream of bytes, driven by a single poll: nothing is buffered for a
//! connection that says nothing.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::core::control::controller::{Ending, Output, Session};
use crate::core::io::clock;
use crate::core::io::controllers::half_open::Place;

/// Bytes read at once.
const READ: usize = 16 << 10;
/// Reads and writes in one go, before others get their turn.
const TURNS: usize = 64;

struct Connection<S> {
    session: Session,
    stream: S,
    /// Held while it has not said who it is.
    place: Option<Place>,
    /// What is being written, and how much of it is.
    writing: Vec<u8>,
    written: usize,
    /// When the stream last took something.
    moved: Instant,
    write_timeout: Duration,
    timer: Pin<Box<Sleep>>,
    /// The controller says nothing more.
    hung_up: bool,
}

/// Carries a connection to its end; why, unless the controller hung up.
pub(super) async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
    session: Session,
    stream: S,
    place: Place,
    write_timeout: Duration,
) -> io::Result<Option<Ending>> {
    let now = clock::now();
    let mut connection = Connection {
        session,
        stream,
        place: Some(place),
        writing: Vec::new(),
        written: 0,
        moved: now,
        write_timeout,
        timer: Box::pin(tokio::time::sleep_until(now.into())),
        hung_up: false,
    };
    poll_fn(|cx| connection.poll(cx)).await
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Ending>>> {
        for _ in 0..TURNS {
            let wrote = self.poll_write(cx)?;
            if self.writing.is_empty() {
                match self.session.poll_output(cx) {
                    Poll::Ready(Output::Bytes(bytes)) => {
                        self.writing = bytes;
                        self.moved = clock::now();
                        self.session.advance(self.moved);
                        continue;
                    }
                    Poll::Ready(Output::End(ending)) => return Poll::Ready(Ok(Some(ending))),
                    Poll::Pending if self.hung_up && !self.session.owes() => return Poll::Ready(Ok(None)),
                    Poll::Pending => {}
                }
            } else if self.session.poll_given_up(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            let read = self.poll_read(cx)?;
            if self.session.is_open() {
                self.place = None;
            }
            if !wrote && !read {
                return self.poll_time(cx);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what the stream takes; whether it took something.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut moved = false;
        while let Some(rest) = self.writing.get(self.written..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut self.stream).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => self.written += count?,
                Poll::Pending => break,
            }
            moved = true;
        }
        if moved {
            self.moved = clock::now();
        }
        if self.written == self.writing.len() {
            (self.writing, self.written) = (Vec::new(), 0);
            // TLS keeps what it has sealed until it is told.
            if let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(cx) {
                flushed?;
            }
        }
        Ok(moved)
    }

    /// Reads what is there, if the session takes it; whether there was something.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.hung_up || !self.session.wants_input() {
            return Ok(false);
        }
        let mut space = [MaybeUninit::uninit(); READ];
        let mut buffer = ReadBuf::uninit(&mut space);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Pending => Ok(false),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                self.hung_up = true;
                Ok(true)
            }
            Poll::Ready(Ok(())) => {
                self.session.handle_bytes(clock::now(), buffer.filled());
                Ok(true)
            }
        }
    }

    /// Waits for whatever is due first; called last.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Ending>>> {
        if let Some(place) = &mut self.place
            && place.poll_evicted(cx).is_ready()
        {
            return Poll::Ready(Ok(None));
        }
        let stalled = (!self.writing.is_empty()).then(|| self.moved + self.write_timeout);
        let Some(due) = stalled.into_iter().chain(self.session.poll_timeout()).min() else {
            return Poll::Pending;
        };
        if self.timer.deadline() != due.into() {
            self.timer.as_mut().reset(due.into());
        }
        ready!(self.timer.as_mut().poll(cx));
        let now = clock::now();
        if stalled.is_some_and(|at| at <= now) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.session.handle_timeout(now);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
