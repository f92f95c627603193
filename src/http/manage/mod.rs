//! The API: what the pages read, and what an application does with rooms, peers, tracks and calls, as JSON.
//!
//! `/api/openapi.json` (OpenAPI 3.1) describes it; it is made from the functions that answer. A refusal is
//! `{"code", "reason"}`. Lists come in pages (`limit`, `after`, a `Link` to the next). `Idempotency-Key` makes a repeated
//! POST safe.
//!
//! | file | what |
//! | --- | --- |
//! | `rooms` | rooms, peers, tracks |
//! | `calls` | telephone calls |
//! | `streams` | RTMP pushed and pulled, files played |
//! | `shape` | what is shown and taken |
//! | `vocabulary` | the control protocol's requests, described |
//! | `problem` | refusals |

pub mod calls;
mod problem;
mod rooms;
mod shape;
mod streams;
mod vocabulary;

use std::sync::Arc;

use axum::extract::Query;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoParams, Modify, OpenApi};

use super::api::bearer;
use crate::core::auth::{Action, AuthError, Authority, Principal};
use crate::core::control::Rooms;
pub use problem::{Answer, Problem};
use shape::Page;
pub(in crate::http) use shape::Since;

/// A query, or what is wrong with it.
pub(in crate::http) type Asked<T> = Result<Query<T>, QueryRejection>;
/// A body, or what is wrong with it.
type Sent<T> = Result<Json<T>, JsonRejection>;

/// What the functions need.
struct Manage {
    authority: Arc<Authority>,
    rooms: Rooms,
}

impl Manage {
    /// Who asks, if he may do `action` in `room`.
    fn admit(&self, headers: &HeaderMap, action: Action, room: &str) -> Answer<Principal> {
        let who = self.authority.identify(bearer(headers))?;
        self.authority.authorise(&who, action, room)?;
        Ok(who)
    }

    /// Whether he who asks may watch `room`; a token that nobody knows gives what no token gives.
    fn may_watch(&self, headers: &HeaderMap, room: &str) -> bool {
        let who = self.authority.identify(bearer(headers)).unwrap_or_else(|_| Principal::anonymous());
        self.authority.authorise(&who, Action::Watch, room).is_ok()
    }
}

/// Refuses somebody without a key, before anything else of his request is looked at.
fn known(authority: &Authority, headers: &HeaderMap) -> Answer<()> {
    match authority.identify(bearer(headers))? == Principal::anonymous() {
        true => Err(AuthError::NeedCredentials.into()),
        false => Ok(()),
    }
}

/// Makes a POST safe to repeat.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code)] // read by the layer in `io`; this is its description
struct IdempotencyKey {
    /// Any text of at most 128 characters. The same key with the same body gives the same answer for ten minutes, and
    /// nothing is done twice; with another body it is refused (422, `idempotency_mismatch`).
    #[param(rename = "Idempotency-Key", max_length = 128)]
    key: Option<String>,
}

/// The description of the API.
#[derive(OpenApi)]
#[openapi(
    info(title = "Viaduct", description = "Rooms, their peers and tracks, and telephone calls; below `/api/control` each request of the control protocol. Rights come with a bearer key: reading takes `watch`, changing rooms `control`, calls `call` (docs/http-api.md, docs/control-protocol.md, auth.keys)."),
    paths(rooms::list, rooms::show, rooms::create, rooms::close, rooms::peers, rooms::peer, rooms::change, rooms::kick,
        rooms::relocate, rooms::peer_stats, rooms::producers, rooms::close_producer, rooms::consumers, rooms::consumer_stats,
        streams::pushes, streams::push, streams::pulls, streams::pull, streams::players, streams::play, streams::show,
        streams::change, streams::stop, calls::list, calls::dial, calls::change, calls::hang_up),
    modifiers(&Bearer),
    security((), ("bearer" = [])),
)]
struct Description;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A key of auth.keys."))
            .build();
        openapi
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// `/api/openapi.json`.
pub fn description() -> String {
    let mut document = serde_json::to_value(Description::openapi()).unwrap_or_default();
    if let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) {
        vocabulary::describe(paths);
    }
    document.to_string()
}

/// The routes, but for calls, which are there only where a door makes them.
pub fn router(authority: Arc<Authority>, rooms: Rooms) -> Router {
    let document: Arc<str> = description().into();
    let openapi = move || async move {
        let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
        (headers, document.to_string())
    };
    Router::new()
        .route("/api/openapi.json", get(openapi))
        .route("/api/rooms", get(rooms::list).post(rooms::create))
        .route("/api/rooms/{room}", get(rooms::show).delete(rooms::close))
        .route("/api/rooms/{room}/peers", get(rooms::peers))
        .route("/api/rooms/{room}/peers/{conn}", get(rooms::peer).patch(rooms::change).delete(rooms::kick))
        .route("/api/rooms/{room}/peers/{conn}/move", post(rooms::relocate))
        .route("/api/rooms/{room}/peers/{conn}/stats", get(rooms::peer_stats))
        .route("/api/rooms/{room}/producers", get(rooms::producers))
        .route("/api/rooms/{room}/producers/{producer}", delete(rooms::close_producer))
        .route("/api/rooms/{room}/consumers", get(rooms::consumers))
        .route("/api/rooms/{room}/consumers/{consumer}/stats", get(rooms::consumer_stats))
        .route("/api/rooms/{room}/pushes", get(streams::pushes).post(streams::push))
        .route("/api/rooms/{room}/pulls", get(streams::pulls).post(streams::pull))
        .route("/api/rooms/{room}/players", get(streams::players).post(streams::play))
        .route(
            "/api/rooms/{room}/streams/{stream}",
            get(streams::show).patch(streams::change).delete(streams::stop),
        )
        .with_state(Arc::new(Manage { authority, rooms }))
}

/// JSON that nobody keeps.
pub(in crate::http) fn fresh(value: impl Serialize) -> Response {
    let mut response = Json(value).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A part of a list at `path`, with the way to the next (RFC 8288) if there is one.
fn listed(part: impl Serialize, path: &str, page: &Page, last: Option<String>) -> Response {
    let mut response = fresh(part);
    if let Some(last) = last {
        let limit = page.limit.map(|limit| format!("&limit={limit}")).unwrap_or_default();
        if let Ok(link) = HeaderValue::from_str(&format!("<{path}?after={last}{limit}>; rel=\"next\"")) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    response
}
