//! The JSON that the pages read, and the health check.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use serde_json::Value;

use super::RESERVED;
use crate::core::auth::{Action, Authority, Principal};
use crate::core::control::Rooms;
use crate::core::room::RoomName;

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

/// The rooms as the API shows them; the tests put some of their own there.
pub trait RoomIndex: Send + Sync + 'static {
    /// Every room that the bearer of `token` may watch.
    fn rooms(&self, token: Option<&str>) -> Vec<Value>;
    /// One room, if it exists and the bearer of `token` may watch it.
    fn room(&self, name: &str, token: Option<&str>) -> Option<Value>;
}

/// The rooms of this server, each shown to whoever may watch it.
pub struct Directory {
    /// The rooms.
    pub rooms: Rooms,
    /// Who may watch which.
    pub authority: Arc<Authority>,
}

impl Directory {
    fn may_watch(&self, room: &str, token: Option<&str>) -> bool {
        let who = self.authority.identify(token).unwrap_or_else(|_| Principal::anonymous());
        self.authority.authorise(&who, Action::Watch, room).is_ok()
    }
}

impl RoomIndex for Directory {
    fn rooms(&self, token: Option<&str>) -> Vec<Value> {
        let rooms = self.rooms.summaries();
        let shown = rooms.iter().filter(|room| self.may_watch(room.name.as_str(), token));
        shown.flat_map(serde_json::to_value).collect()
    }

    fn room(&self, name: &str, token: Option<&str>) -> Option<Value> {
        let name = RoomName::new(name, RESERVED).ok().filter(|_| self.may_watch(name, token))?;
        serde_json::to_value(self.rooms.summary(&name)?).ok()
    }
}

struct Api {
    facts: Facts,
    rooms: Box<dyn RoomIndex>,
}

pub(super) fn router(facts: Facts, rooms: impl RoomIndex) -> Router {
    let api = Arc::new(Api { facts, rooms: Box::new(rooms) });
    Router::new()
        .route("/api/rooms", get(rooms_list))
        .route("/api/rooms/{room}", get(room))
        .route("/api/server", get(server))
        .route("/healthz", get(|| async { ([(header::CACHE_CONTROL, "no-store")], "ok\n") }))
        .with_state(api)
}

async fn rooms_list(State(api): State<Arc<Api>>, headers: HeaderMap) -> Response {
    fresh(Value::Array(api.rooms.rooms(bearer(&headers))))
}

async fn room(State(api): State<Arc<Api>>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    match api.rooms.room(&name, bearer(&headers)) {
        Some(room) => fresh(room),
        None => (StatusCode::NOT_FOUND, "There is no such room now.\n").into_response(),
    }
}

async fn server(State(api): State<Arc<Api>>) -> Response {
    fresh(&api.facts)
}

fn fresh(value: impl Serialize) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    match serde_json::to_vec(&value) {
        Ok(json) => (headers, json).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// The token of `Authorization: Bearer` (RFC 6750 §2.1).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
