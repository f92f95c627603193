//! The doors for controllers: sockets bound at start, and the WebSocket among the HTTP routes.

use std::net::TcpListener;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;

use super::{bind, tls};
use crate::core::control::controller::{ControlConfig, Door};
use crate::core::io::controllers::bind_unix;
pub(super) use crate::core::io::controllers::{Listeners, serve};
use crate::core::origins::Origins;
use crate::http::{self, TlsFiles};

/// Binds what is configured.
pub(super) fn bind(config: &ControlConfig, files: Option<&TlsFiles>) -> anyhow::Result<Listeners> {
    let plain = config.listen.map(bind::tcp).transpose()?;
    let tls = match config.tls_listen {
        None => None,
        Some(address) => {
            let files = files.context("control.tls_listen needs http.tls (or --dev)")?;
            Some((bind::tcp(address)?, tls::provider(files.clone())?))
        }
    };
    let unix = match &config.unix {
        None => None,
        Some(path) => {
            let bound = bind_unix(path).with_context(|| format!("control.unix: {}", path.display()))?;
            Some((bound, path.clone()))
        }
    };
    Ok(Listeners { plain, tls, unix })
}

/// The ports and what they are for.
pub(super) fn ports(listeners: &Listeners) -> Vec<(u16, &'static str)> {
    let port = |listener: &TcpListener| listener.local_addr().map_or(0, |address| address.port());
    let plain = listeners.plain.iter().map(|listener| (port(listener), "controllers"));
    let tls = listeners.tls.iter().map(|(listener, _)| (port(listener), "controllers (TLS)"));
    plain.chain(tls).collect()
}

/// The WebSocket, where it is wanted and somebody has to say who it is.
pub(super) fn router(door: &Arc<Door>, origins: Origins) -> Router {
    match door.config().websocket && door.asks_for_credentials() {
        true => http::io::control::router(door.clone(), origins),
        false => Router::new(),
    }
}
