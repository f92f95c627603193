//! The sockets of RTMP on the main thread: accepts, drives each connection up to `publish`, asks the
//! door, and hands connection and socket to the worker.

pub mod client;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::core::id::ConnId;
use crate::core::session::{Event, Input, Output, Session};
use crate::core::time::Epoch;
use crate::rtmp::{Reject, RtmpConfig, RtmpError, RtmpSession, Target, TlsSession, resolve};

/// Bytes read at once.
const READ: usize = 16 << 10;
/// How long a party that was turned away may take to read why.
const LINGER: Duration = Duration::from_secs(2);
/// Pause after a failed accept (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Gives the TLS configuration of the moment (certificates may be reloaded).
pub type TlsProvider = Arc<dyn Fn() -> Arc<rustls::ServerConfig> + Send + Sync>;

/// A listening socket, bound by `server.rs`.
pub struct Listener {
    /// The socket.
    pub socket: std::net::TcpListener,
    /// Set for RTMPS.
    pub tls: Option<TlsProvider>,
}

/// Decides who may publish; `server.rs` implements it with authority and rooms.
pub trait RtmpDoor: Send + Sync + 'static {
    /// A place for a publisher in its room.
    type Admission: Admission;
    /// Asks for a place. That somebody was turned away is logged by the door, which knows whom.
    fn publish(
        &self,
        target: Target,
        remote: SocketAddr,
    ) -> impl Future<Output = Result<Self::Admission, Reject>> + Send;
}

/// A place in a room, waiting for its session.
pub trait Admission: Send + 'static {
    /// The connection's id, for log lines.
    fn conn(&self) -> ConnId;
    /// Hands session and socket to the worker; on `Err` (for people) the place is given up too.
    fn adopt(
        self,
        session: Box<dyn Session>,
        socket: OwnedFd,
    ) -> impl Future<Output = Result<(), String>> + Send;
    /// Gives the place up: the party left before it was handed over.
    fn abandon(self) -> impl Future<Output = ()> + Send;
}

/// A session as the main thread drives it: RTMP, plain or within TLS.
trait Half: Session + Sized + 'static {
    fn rtmp(&mut self) -> &mut RtmpSession;
}

impl Half for RtmpSession {
    fn rtmp(&mut self) -> &mut RtmpSession {
        self
    }
}

impl Half for TlsSession<RtmpSession> {
    fn rtmp(&mut self) -> &mut RtmpSession {
        self.inner_mut()
    }
}

/// Serves until dropped. Connections still on the main thread end with it; those handed over do not.
pub async fn serve<D: RtmpDoor>(
    listeners: Vec<Listener>,
    config: Arc<RtmpConfig>,
    epoch: Epoch,
    door: Arc<D>,
) -> io::Result<()> {
    let context = Arc::new(Context { config, epoch, door, half_open: Mutex::default() });
    let mut tasks = JoinSet::new();
    for listener in listeners {
        listener.socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(listener.socket)?;
        tasks.spawn(accept(socket, listener.tls, context.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            return Err(io::Error::other(error));
        }
    }
    Ok(())
}

struct Context<D> {
    config: Arc<RtmpConfig>,
    epoch: Epoch,
    door: Arc<D>,
    half_open: Mutex<HashMap<IpAddr, usize>>,
}

/// One of the connections that have not begun to publish.
struct Slot<D> {
    context: Arc<Context<D>>,
    address: IpAddr,
}

impl<D> Slot<D> {
    fn take(context: &Arc<Context<D>>, remote: SocketAddr) -> Option<Self> {
        let address = network(remote.ip());
        let mut open = context.half_open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = open.get(&address).copied().unwrap_or_default();
        let all: usize = open.values().sum();
        if all >= context.config.max_half_open || of_address >= context.config.max_half_open_per_address {
            return None;
        }
        open.insert(address, of_address + 1);
        Some(Slot { context: context.clone(), address })
    }
}

impl<D> Drop for Slot<D> {
    fn drop(&mut self) {
        let mut open = self.context.half_open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: an IPv4 address, an IPv6 network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
        address => address,
    }
}

async fn accept<D: RtmpDoor>(listener: TcpListener, tls: Option<TlsProvider>, context: Arc<Context<D>>) {
    let mut connections = JoinSet::new();
    let (mut turned_away, mut said) = (0u64, None::<Instant>);
    loop {
        while connections.try_join_next().is_some() {}
        let (socket, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "an RTMP connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(slot) = Slot::take(&context, remote) else {
            turned_away += 1;
            // One line a second: whoever floods the port shall not flood the log.
            if said.is_none_or(|said| said.elapsed() >= Duration::from_secs(1)) {
                said = Some(Instant::now());
                tracing::info!(turned_away, "RTMP connections refused: too many have not begun to publish");
            }
            continue;
        };
        connections.spawn(connection(socket, remote, tls.clone(), slot));
    }
}

async fn connection<D: RtmpDoor>(
    socket: TcpStream,
    remote: SocketAddr,
    tls: Option<TlsProvider>,
    slot: Slot<D>,
) {
    let _ = socket.set_nodelay(true);
    tracing::trace!(%remote, "RTMP connection accepted");
    let context = slot.context.clone();
    let session = RtmpSession::new(context.config.clone(), context.epoch, Instant::now());
    let outcome = match tls {
        None => serve_half(socket, remote, session, slot).await,
        Some(provider) => match TlsSession::new(provider(), session) {
            Ok(session) => serve_half(socket, remote, session, slot).await,
            Err(error) => Err(Ending::from(error)),
        },
    };
    match outcome {
        Ok(()) => {}
        Err(Ending::Quiet(reason)) => tracing::debug!(%reason, "RTMP connection ended before publishing"),
        Err(Ending::Refused(reason)) => tracing::debug!(%reason, "RTMP connection refused"),
        Err(Ending::Broken(reason)) => tracing::info!(%reason, "RTMP connection ended before publishing"),
    }
}

/// Why a connection did not get as far as a worker.
enum Ending {
    /// Somebody looked and left (port scans, health checks).
    Quiet(&'static str),
    /// The door or the protocol turned it away.
    Refused(String),
    /// It broke a rule or broke off.
    Broken(String),
}

impl From<RtmpError> for Ending {
    fn from(error: RtmpError) -> Self {
        Ending::Broken(error.to_string())
    }
}

impl From<io::Error> for Ending {
    fn from(error: io::Error) -> Self {
        Ending::Broken(error.to_string())
    }
}

async fn serve_half<D: RtmpDoor, S: Half>(
    mut socket: TcpStream,
    remote: SocketAddr,
    mut session: S,
    slot: Slot<D>,
) -> Result<(), Ending> {
    let patience = slot.context.config.publish_timeout();
    let request = until(&mut socket, &mut session, patience, |session| session.rtmp().take_request()).await?;
    let target = resolve(&request);
    let room = target.room.clone();
    match slot.context.door.publish(target, remote).await {
        Ok(admission) => hand_over(socket, session, admission).await,
        Err(reject) => {
            session.rtmp().reject(Instant::now(), reject.clone());
            dismiss(&mut socket, &mut session).await;
            Err(Ending::Refused(format!("room {room:?}: {}", reject.text())))
        }
    }
}

async fn hand_over<S: Half, A: Admission>(
    socket: TcpStream,
    mut session: S,
    admission: A,
) -> Result<(), Ending> {
    let conn = admission.conn();
    let socket = match socket.into_std() {
        Ok(socket) => OwnedFd::from(socket),
        Err(error) => {
            admission.abandon().await;
            return Err(error.into());
        }
    };
    session.rtmp().accept(Instant::now());
    if let Err(reason) = admission.adopt(Box::new(session), socket).await {
        tracing::warn!(%conn, %reason, "an RTMP publisher could not be handed to its worker");
    }
    Ok(())
}

/// Drives a session until `ready` answers something. What it has to say then stays in it.
async fn until<S: Session, T>(
    socket: &mut TcpStream,
    session: &mut S,
    patience: Duration,
    mut ready: impl FnMut(&mut S) -> Option<T>,
) -> Result<T, Ending> {
    let mut buffer = vec![0; READ];
    let mut heard = false;
    loop {
        if let Some(answer) = ready(session) {
            return Ok(answer);
        }
        let patience =
            session.poll_timeout().map_or(patience, |at| at.saturating_duration_since(Instant::now()));
        let ended = drain(socket, session, patience).await?;
        if let Some(reason) = ended {
            linger(socket).await;
            return Err(Ending::Broken(reason));
        }
        match timeout(patience, socket.read(&mut buffer)).await {
            Ok(Ok(0)) if !heard => return Err(Ending::Quiet("it hung up without a byte")),
            Ok(Ok(0)) => session.handle_input(Instant::now(), Input::Eof),
            Ok(Ok(count)) => {
                heard = true;
                session.handle_input(Instant::now(), Input::Bytes(&buffer[..count]));
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => session.handle_timeout(Instant::now()),
        }
    }
}

/// Writes what the session wants written; the reason if it is over.
async fn drain<S: Session>(
    socket: &mut TcpStream,
    session: &mut S,
    patience: Duration,
) -> Result<Option<String>, Ending> {
    let (mut bytes, mut ended) = (Vec::new(), None);
    while let Some(output) = session.poll_output() {
        match output {
            Output::Bytes(more) => bytes.extend_from_slice(&more),
            Output::Event(Event::Closed { reason, .. }) => ended = Some(reason),
            Output::Event(_) | Output::Datagram { .. } => {}
        }
    }
    if bytes.is_empty() {
        return Ok(ended);
    }
    match timeout(patience.max(LINGER), socket.write_all(&bytes)).await {
        Ok(written) => written?,
        Err(_) => return Err(Ending::Broken("it does not read what it is answered".to_owned())),
    }
    Ok(ended)
}

/// Writes the last words and waits for the party to have read them: closing at once with bytes unread
/// would reset the connection and lose the reason.
async fn dismiss<S: Session>(socket: &mut TcpStream, session: &mut S) {
    if drain(socket, session, LINGER).await.is_ok() {
        linger(socket).await;
    }
}

async fn linger(socket: &mut TcpStream) {
    let rest = async {
        socket.shutdown().await?;
        let mut buffer = [0; 1024];
        while socket.read(&mut buffer).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(LINGER, rest).await;
}
