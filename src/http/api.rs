//! What the pages tell of the server, and the health check.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

/// What the pages tell a person about this server. Ports, never addresses: a page takes the host from
/// its own location, which is the address that works for whoever reads it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    /// Version of the program.
    pub version: String,
    /// Port of the RTMP listener, if it runs.
    pub rtmp_port: Option<u16>,
    /// Port of the listener that speaks HTTPS, if one does.
    pub https_port: Option<u16>,
    /// Port of the listener that speaks plain HTTP, if one does.
    pub http_port: Option<u16>,
    /// Where the operator finds the publish key, in words after "The key:" ("printed when the server
    /// starts"). Never the key.
    pub key_hint: String,
    /// The room with the built-in picture, if it plays.
    pub demo_room: Option<String>,
}

pub(super) fn router(facts: Facts) -> Router {
    Router::new()
        .route("/api/server", get(server))
        .route("/healthz", get(|| async { ([(header::CACHE_CONTROL, "no-store")], "ok\n") }))
        .with_state(Arc::new(facts))
}

async fn server(State(facts): State<Arc<Facts>>) -> Response {
    ([(header::CACHE_CONTROL, "no-store"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")], Json(&*facts))
        .into_response()
}

/// The token of `Authorization: Bearer` (RFC 6750 §2.1).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
