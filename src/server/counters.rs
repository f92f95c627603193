//! `GET /api/workers`: the counters of the workers' loops, for who holds a key to every room.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::core::auth::{Action, Authority};
use crate::core::io::IoStats;

/// A room that nobody can have: only a key to every room opens it.
const EVERY_ROOM: &str = "metrics";

struct Counters {
    authority: Arc<Authority>,
    workers: Vec<Arc<IoStats>>,
}

/// The route; `workers` in the order of their numbers.
pub(super) fn router(authority: Arc<Authority>, workers: Vec<Arc<IoStats>>) -> Router {
    Router::new().route("/api/workers", get(show)).with_state(Arc::new(Counters { authority, workers }))
}

async fn show(State(counters): State<Arc<Counters>>, headers: HeaderMap) -> Response {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = value.and_then(|value| value.strip_prefix("Bearer "));
    let allowed = counters
        .authority
        .identify(token)
        .and_then(|who| counters.authority.authorise(&who, Action::Publish, EVERY_ROOM));
    if allowed.is_err() {
        return (StatusCode::UNAUTHORIZED, "This needs the publish key.\n").into_response();
    }
    let workers: Vec<_> = counters.workers.iter().map(|stats| stats.snapshot()).collect();
    match serde_json::to_string(&workers) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
