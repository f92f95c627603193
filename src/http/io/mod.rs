//! Sockets of the HTTP listener: accepts within the limits, hands each connection to hyper, and lets
//! requests under way finish when the server stops.

mod connection;
pub mod control;
mod idempotency;
pub mod methods;
mod stall;
mod tls;

use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::{Config, Error, TlsFiles};
use crate::core::io::connections::Connections;
use connection::Server;
use idempotency::Idempotency;

/// How long to wait before accepting again when the system is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` on `listeners` until `shutdown` resolves, then lets requests under way finish for
/// `drain_timeout_ms`. With `tls` every listener speaks HTTPS and answers plain HTTP with a redirect.
///
/// A handler finds the remote address as `ConnectInfo<SocketAddr>` in the request's extensions.
pub async fn serve(
    listeners: Vec<TcpListener>,
    router: axum::Router,
    tls: Option<TlsFiles>,
    config: Config,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let acceptor = match tls {
        Some(files) => {
            let (acceptor, reload) = tls::acceptor(files, config.tls_reload())?;
            tasks.spawn(until(stopped.clone(), reload));
            Some(acceptor)
        }
        None => None,
    };
    let drain = config.drain_timeout();
    let repeated = axum::middleware::from_fn_with_state(Idempotency::new(&config), idempotency::layer);
    let server = Arc::new(Server {
        router: router.layer(repeated).layer(DefaultBodyLimit::max(config.max_body_bytes)),
        acceptor,
        connections: Connections::new(config.max_connections, config.max_connections_per_address),
        config,
    });
    for listener in listeners {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tasks.spawn(accept(listener, server.clone(), stopped.clone(), drain));
    }
    shutdown.await;
    stop.send_replace(true);
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// Runs `work` until the server stops.
async fn until(mut stopped: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = over(&mut stopped) => {}
    }
}

/// Resolves when the server stops.
async fn over(stopped: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is over, too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn accept(
    listener: tokio::net::TcpListener,
    server: Arc<Server>,
    stopped: watch::Receiver<bool>,
    drain: Duration,
) {
    let mut connections = JoinSet::new();
    let mut stop = stopped.clone();
    loop {
        tokio::select! {
            () = over(&mut stop) => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended && error.is_panic() {
                    warn!("a connection's task panicked");
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, remote)) => {
                    connections.spawn(connection::run(server.clone(), stream, remote, stopped.clone()));
                }
                Err(error) => {
                    debug!(%error, "accepting failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let finished = timeout(drain, async { while connections.join_next().await.is_some() {} }).await;
    if finished.is_err() {
        debug!(left = connections.len(), "connections cut off at the end");
    }
}
