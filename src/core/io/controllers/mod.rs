//! The sockets of controllers: TCP, TLS and UNIX, accepted within bounds, each connection one task.
//!
//! A connection that has not said who it is costs a task of some hundred bytes and no buffer. There may be so many
//! of them, and then each further one ends the oldest: who comes and speaks at once is never kept out by those who
//! say nothing.

mod connection;
mod half_open;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, trace, warn};

use crate::core::control::controller::{Door, Ending, Session};
use crate::core::id::Pii;
use crate::core::io::{clock, sys};
use connection::carry;
use half_open::{HalfOpen, Place};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 2_048;
/// How long to wait before accepting again when the system is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long controllers may take to read the last word when the server stops.
const LAST_WORD: Duration = Duration::from_millis(500);

/// Gives the TLS configuration of the moment (certificates may be read again).
pub type TlsProvider = Arc<dyn Fn() -> Arc<rustls::ServerConfig> + Send + Sync>;

/// Where controllers connect, bound already.
#[derive(Default)]
pub struct Listeners {
    /// Plain TCP.
    pub plain: Option<std::net::TcpListener>,
    /// TLS.
    pub tls: Option<(std::net::TcpListener, TlsProvider)>,
    /// A UNIX socket, with its path: the file goes when the server stops.
    pub unix: Option<(std::os::unix::net::UnixListener, PathBuf)>,
}

/// Binds a UNIX socket that only the server's user can open. A file left by a process that is gone is replaced.
pub fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let bound = match std::os::unix::net::UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            std::os::unix::net::UnixListener::bind(path)
        }
        bound => bound,
    }?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(bound)
}

struct Shared {
    door: Arc<Door>,
    half_open: HalfOpen,
    stopped: watch::Receiver<bool>,
}

/// Serves controllers until `shutdown` resolves, then tells them.
pub async fn serve(
    door: Arc<Door>,
    listeners: Listeners,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let config = door.config();
    let half_open = HalfOpen::new(config.max_half_open, config.max_half_open_per_address);
    let shared = Arc::new(Shared { door: door.clone(), half_open, stopped });
    let mut tasks = JoinSet::new();
    if let Some(listener) = listeners.plain {
        tasks.spawn(accept(Listener::Tcp(tcp(listener)?, None), shared.clone()));
    }
    if let Some((listener, provider)) = listeners.tls {
        tasks.spawn(accept(Listener::Tcp(tcp(listener)?, Some(provider)), shared.clone()));
    }
    let mut file = None;
    if let Some((listener, path)) = listeners.unix {
        listener.set_nonblocking(true)?;
        tasks.spawn(accept(Listener::Unix(UnixListener::from_std(listener)?), shared.clone()));
        file = Some(path);
    }
    shutdown.await;
    door.shut_down();
    stop.send_replace(true);
    while tasks.join_next().await.is_some() {}
    if let Some(path) = file {
        // Somebody may have taken it away already.
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

fn tcp(listener: std::net::TcpListener) -> io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    // Who comes in a crowd of the silent waits behind them for no more than a moment, instead of being dropped.
    sys::listen(listener.as_fd(), BACKLOG)?;
    tokio::net::TcpListener::from_std(listener)
}

/// Resolves when the server stops.
async fn over(stopped: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is over, too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

enum Listener {
    Tcp(tokio::net::TcpListener, Option<TlsProvider>),
    Unix(UnixListener),
}

enum Accepted {
    Tcp(TcpStream, SocketAddr, Option<TlsProvider>),
    Unix(UnixStream),
}

impl Listener {
    async fn next(&self) -> io::Result<Accepted> {
        match self {
            Listener::Tcp(listener, tls) => {
                let (stream, from) = listener.accept().await?;
                Ok(Accepted::Tcp(stream, from, tls.clone()))
            }
            Listener::Unix(listener) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}

/// Takes connections until the server stops.
async fn accept(listener: Listener, shared: Arc<Shared>) {
    let (mut connections, mut stopped) = (JoinSet::new(), shared.stopped.clone());
    loop {
        tokio::select! {
            () = over(&mut stopped) => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    warn!("a controller's task panicked");
                }
            }
            accepted = listener.next() => match accepted {
                Ok(accepted) => start(accepted, &shared, &mut connections),
                Err(error) => {
                    debug!(%error, "accepting a controller failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    let _ = timeout(LAST_WORD, async { while connections.join_next().await.is_some() {} }).await;
}

fn start(accepted: Accepted, shared: &Arc<Shared>, tasks: &mut JoinSet<()>) {
    let remote = match &accepted {
        Accepted::Tcp(_, remote, _) => Some(remote.ip()),
        Accepted::Unix(_) => None,
    };
    let Some(place) = shared.half_open.enter(remote) else {
        trace!(remote = ?remote.map(Pii), "too many half-open connections of controllers");
        return;
    };
    let shared = shared.clone();
    match accepted {
        Accepted::Tcp(stream, remote, tls) => tasks.spawn(run_tcp(shared, stream, remote, tls, place)),
        Accepted::Unix(stream) => tasks.spawn(run_unix(shared, stream, place)),
    };
}

async fn run_unix(shared: Arc<Shared>, stream: UnixStream, place: Place) {
    let session = Session::new(shared.door.clone(), None, clock::now());
    said(carry(session, stream, place, shared.door.config().write_timeout()).await);
}

async fn run_tcp(
    shared: Arc<Shared>,
    stream: TcpStream,
    remote: SocketAddr,
    tls: Option<TlsProvider>,
    mut place: Place,
) {
    let config = shared.door.config();
    // Answers are written whole.
    let _ = stream.set_nodelay(true);
    if let Err(error) = sys::keep_alive(stream.as_fd(), config.keepalive()) {
        debug!(%error, "a controller's connection has no keep-alive");
    }
    let began = clock::now();
    let session = Session::new(shared.door.clone(), Some(remote.ip()), began);
    let Some(provider) = tls else {
        return said(carry(session, stream, place, config.write_timeout()).await);
    };
    let shake = TlsAcceptor::from(provider()).accept(stream);
    tokio::select! {
        () = place.evicted() => {}
        shaken = timeout(config.greeting_timeout(), shake) => match shaken {
            Ok(Ok(stream)) => said(carry(session, stream, place, config.write_timeout()).await),
            Ok(Err(error)) => trace!(%error, "TLS handshake of a controller failed"),
            Err(_) => trace!("TLS handshake of a controller took too long"),
        },
    }
}

/// Says why a connection ended.
fn said(ending: io::Result<Option<Ending>>) {
    match ending {
        Ok(None) => debug!("a controller hung up"),
        Ok(Some(Ending::Stranger)) => debug!("a connection to the control port was none of a controller"),
        Ok(Some(Ending::Fault(fault))) => {
            debug!(code = fault.code.as_str(), reason = fault.reason, "a controller's connection was closed")
        }
        Err(error) => debug!(%error, "a controller's connection broke off"),
    }
}

#[cfg(test)]
mod tests;
