//! The Dispatcher's edge: moves netstrings between its queues and the workers' control sockets, and gives
//! it the clock. One task a worker, one for time, all on the main thread's runtime.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tracing::{debug, info, warn};

use crate::core::control::Rooms;
use crate::core::control::dispatcher::Link;
use crate::core::control::netstring::{self, INSIDE_LIMIT, Reader};
use crate::core::io::pool::WorkerPort;
use crate::core::io::sys;

/// Bytes taken from the queue, or from the socket, at once. What waits beyond stays in the bounded queue,
/// or in the socket, where it holds the other side back.
const BATCH: usize = 64 * 1024;

impl Rooms {
    /// Puts a worker to use; call it within the runtime, first for every worker of the pool and then with
    /// each replacement. Peers on an earlier worker of the same number are closed.
    pub fn attach_worker(&self, port: WorkerPort) -> io::Result<()> {
        port.control.set_nonblocking(true)?;
        let socket = UnixStream::from_std(port.control)?;
        let link = self.worker_up(port.id, port.mail);
        if self.claim_clock() {
            tokio::spawn(run_clock(self.clone()));
        }
        tokio::spawn(serve(self.clone(), link, socket));
        Ok(())
    }
}

/// Lets time pass whenever something is due or newly set.
async fn run_clock(rooms: Rooms) {
    let mut next: Option<Instant> = None;
    loop {
        let wanted = poll_fn(|cx| rooms.poll_time_wanted(cx));
        match next {
            Some(at) => drop(tokio::time::timeout_at(at.into(), wanted).await),
            None => wanted.await,
        }
        next = rooms.handle_time(Instant::now());
        if rooms.take_slack() {
            // Takes milliseconds, in which others go on.
            tokio::task::spawn_blocking(sys::give_back_memory);
        }
    }
}

async fn serve(rooms: Rooms, link: Link, socket: UnixStream) {
    let (input, output) = socket.into_split();
    let ended = tokio::select! {
        ended = read(&rooms, link, input) => ended,
        ended = write(&rooms, link, output) => ended,
    };
    match ended {
        Ok(()) => debug!(worker = %link.worker, "the worker's control socket is closed"),
        Err(error) => warn!(worker = %link.worker, %error, "the worker's control socket failed"),
    }
    rooms.worker_lost(link);
    info!(worker = %link.worker, "the worker is gone");
}

async fn read(rooms: &Rooms, link: Link, mut socket: OwnedReadHalf) -> io::Result<()> {
    let mut reader = Reader::new(INSIDE_LIMIT);
    let mut buffer = vec![0; BATCH];
    loop {
        let len = socket.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        reader.feed(buffer.get(..len).unwrap_or_default());
        while let Some(payload) = reader.next_payload().map_err(io::Error::other)? {
            rooms.receive(link, payload);
        }
    }
}

async fn write(rooms: &Rooms, link: Link, mut socket: OwnedWriteHalf) -> io::Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    while poll_fn(|cx| {
        while batch.len() < BATCH {
            match rooms.poll_send(link, cx) {
                Poll::Ready(Some(json)) => {
                    // The dispatcher refuses what is too long.
                    let _ = netstring::write(&json, INSIDE_LIMIT, &mut batch);
                }
                Poll::Ready(None) => return Poll::Ready(false),
                Poll::Pending if batch.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(true)
    })
    .await
    {
        socket.write_all(&batch).await?;
        batch.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream as StdUnixStream;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::core::auth::Principal;
    use crate::core::control::{ControlError, Join, RoomsConfig, WebRtcOptions};
    use crate::core::id::WorkerId;
    use crate::core::io::stats::IoStats;
    use crate::core::lane::Wake;
    use crate::core::mail::{Mail, Mailbox};
    use crate::core::message::{Method, Request, Response};
    use crate::core::peer::PeerKind;
    use crate::core::room::RoomName;
    use crate::core::time::Epoch;

    struct NoMail;

    impl Wake for NoMail {
        fn wake(&self) {}
    }

    impl Mailbox for NoMail {
        fn send(&self, mail: Mail) -> Result<(), Mail> {
            Err(mail)
        }

        fn waker(&self) -> Arc<dyn Wake> {
            Arc::new(NoMail)
        }
    }

    /// Answers requests with nothing until it is asked for a transport, and then hangs up.
    fn worker_that_dies_on_a_transport(mut socket: StdUnixStream) {
        let mut reader = Reader::new(INSIDE_LIMIT);
        let mut buffer = [0; 1000];
        loop {
            let len = socket.read(&mut buffer).expect("a readable socket");
            if len == 0 {
                return;
            }
            reader.feed(&buffer[..len]);
            while let Some(json) = reader.next_payload().expect("netstrings") {
                let request = Request::parse(json).expect("a request");
                if request.method() == Some(Method::RouterCreateWebRtcTransport) {
                    return;
                }
                let mut out = Vec::new();
                let answer = Response::accepted(request.id, serde_json::Value::Null).to_json();
                netstring::write(&answer, INSIDE_LIMIT, &mut out).expect("short enough");
                socket.write_all(&out).expect("a writable socket");
            }
        }
    }

    #[test]
    fn a_worker_that_hangs_up_closes_its_peers() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let epoch = Epoch { instant: Instant::now(), unix: Duration::ZERO };
        let rooms = Rooms::new(RoomsConfig::default(), epoch, None);
        let (ours, theirs) = StdUnixStream::pair().expect("a socket pair");
        let worker = std::thread::spawn(move || worker_that_dies_on_a_transport(theirs));
        let stats = Arc::new(IoStats::default());
        let port = WorkerPort {
            id: WorkerId(0),
            control: ours,
            mail: Arc::new(NoMail),
            candidates: Vec::new(),
            stats,
        };
        runtime.block_on(async {
            rooms.attach_worker(port).expect("attached");
            let room = RoomName::new("r", &[]).expect("a name");
            let join = Join { publishes: true, ..Join::new(room, PeerKind::Whip, Principal::internal()) };
            let peer = rooms.join(join).await.expect("joined");
            assert_eq!(
                peer.create_webrtc_transport(WebRtcOptions::default()).await,
                Err(ControlError::WorkerLost)
            );
            assert_eq!(peer.closed().await.code, "worker_lost");
        });
        worker.join().expect("no panic");
    }
}
