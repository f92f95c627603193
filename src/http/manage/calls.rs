//! `/api/calls`: telephone calls over HTTP, for those who may call (or publish) in a call's room.
//!
//! | request | what it does |
//! | --- | --- |
//! | `GET /api/calls` | lists them |
//! | `POST /api/calls` | calls somebody into a room |
//! | `PATCH /api/calls/<id>` | `{"hold": true}`, `{"dtmf": "12#"}` or `{"transfer": "601"}` |
//! | `DELETE /api/calls/<id>` | ends one |

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::{Answer, Problem};
use super::shape::Page;
use super::{Asked, Sent, bearer, fresh, known, listed};
use crate::core::auth::{Action, Authority, Principal};
use crate::core::control::{CallError, Calls, Dial};
use crate::core::id::SessionId;

/// A room that nobody can have: only a key to every room opens it.
const EVERY_ROOM: &str = "metrics";

pub(super) struct Api {
    authority: Arc<Authority>,
    calls: Arc<dyn Calls>,
}

/// What is done to a call: exactly one of these.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    /// Put it on hold, or take it back.
    Hold(bool),
    /// Send keys: `0`-`9`, `*`, `#`, `A`-`D`, `,` for a pause.
    Dtmf(String),
    /// Ask the other side to call this number instead.
    Transfer(String),
}

/// A call that is under way.
#[derive(Serialize, ToSchema)]
pub(super) struct Dialled {
    /// Its id.
    #[schema(example = "00000000000000000000000000000001")]
    id: String,
}

/// A call to be made.
#[derive(ToSchema)]
#[allow(dead_code)] // describes `Dial`
pub(super) struct NewCall {
    /// Into which room.
    room: String,
    /// Whom: numbers, `sip:` URIs or names of registered users, all rung at once. One may stand as `number`.
    numbers: Vec<String>,
    /// By which trunk, where the rules shall not choose it.
    trunk: Option<String>,
    /// The caller's number to show, where rule and trunk leave it open.
    caller_id: Option<String>,
    /// Seconds it may ring.
    ring_s: Option<u32>,
    /// What the room hears until somebody answers: `ringback` (the default), `nothing`, `hold`, or `{"prompt": NAME}`.
    #[schema(value_type = Option<Object>)]
    play: Option<String>,
}

/// A call.
#[derive(ToSchema)]
#[allow(dead_code)] // describes `CallInfo`
pub(super) struct Call {
    /// Its id.
    id: String,
    /// The member it is in the room, once it is one.
    conn: Option<String>,
    /// `in`: they called; `out`: we did.
    direction: String,
    /// `setup`, `active`, `held` or `ending`.
    state: String,
    /// The room it is in, or on its way to.
    room: String,
    /// The trunk, or `phones`, or `anyone`.
    trunk: String,
    /// The other side's number.
    number: String,
    /// Codec of its sound.
    codec: Option<String>,
    /// Seconds since it was answered.
    seconds: u64,
}

/// The routes.
pub fn router(authority: Arc<Authority>, calls: Arc<dyn Calls>) -> Router {
    Router::new()
        .route("/api/calls", get(list).post(dial))
        .route("/api/calls/{call}", delete(hang_up).patch(change))
        .with_state(Arc::new(Api { authority, calls }))
}

impl Api {
    /// Who asks, if he may order calls in `room`.
    fn admit(&self, headers: &HeaderMap, room: &str) -> Answer<Principal> {
        let who = self.authority.identify(bearer(headers))?;
        // Whoever may send into a room may bring somebody to the telephone, too.
        let may = |action| self.authority.authorise(&who, action, room);
        may(Action::Call).or_else(|error| may(Action::Publish).map_err(|_| error))?;
        Ok(who)
    }

    /// The call of that name, if he who asks may order calls in its room.
    async fn find(&self, headers: &HeaderMap, id: &str) -> Answer<(SessionId, Principal)> {
        let id = SessionId::parse(id);
        let calls = self.calls.list().await;
        let call = calls.iter().find(|call| Some(call.id) == id).ok_or(CallError::Unknown)?;
        Ok((call.id, self.admit(headers, &call.room)?))
    }
}

/// The calls in rooms where the bearer may order calls, by id.
#[utoipa::path(get, path = "/api/calls", tag = "calls", params(Page),
    responses((status = 200, description = "The calls", body = [Call]), (status = 401, description = "`unauthorized`", body = Problem)))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    page: Asked<Page>,
) -> Answer<Response> {
    let Query(page) = page?;
    let all = api.calls.list().await;
    let mut mine: Vec<_> = all.into_iter().filter(|call| api.admit(&headers, &call.room).is_ok()).collect();
    if mine.is_empty() {
        api.admit(&headers, EVERY_ROOM)?;
    }
    mine.sort_by_cached_key(|call| call.id.to_string());
    let (part, last) = page.cut(mine, |call| call.id.to_string());
    Ok(listed(part, "/api/calls", &page, last))
}

/// Calls one or several numbers into a room; the first that answers has the call.
#[utoipa::path(post, path = "/api/calls", tag = "calls", request_body = NewCall, params(super::IdempotencyKey),
    responses((status = 201, description = "It is under way: what comes of it is an event of the room", body = Dialled),
        (status = 400, description = "`bad_request`", body = Problem), (status = 403, description = "`denied`: by key, or by no outbound rule", body = Problem),
        (status = 404, description = "`not_registered`", body = Problem), (status = 503, description = "`unavailable`: the trunk", body = Problem)))]
pub(super) async fn dial(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Sent<Dial>,
) -> Answer<Response> {
    known(&api.authority, &headers)?;
    let Json(dial) = body?;
    let who = api.admit(&headers, &dial.room)?;
    let id = api.calls.dial(&who, dial).await?;
    Ok((StatusCode::CREATED, fresh(Dialled { id: id.to_string() })).into_response())
}

/// Ends a call.
#[utoipa::path(delete, path = "/api/calls/{call}", tag = "calls", params(("call" = String, Path, description = "Its id")),
    responses((status = 204, description = "It ends"), (status = 404, description = "`unknown_call`", body = Problem)))]
pub(super) async fn hang_up(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let (id, _) = api.find(&headers, &id).await?;
    api.calls.hang_up(id, "somebody in charge ended it").await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Holds a call, sends keys, or moves it elsewhere.
#[utoipa::path(patch, path = "/api/calls/{call}", tag = "calls", request_body = Change, params(("call" = String, Path, description = "Its id")),
    responses((status = 204, description = "It is done"), (status = 404, description = "`unknown_call`", body = Problem),
        (status = 409, description = "`not_now`", body = Problem)))]
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Sent<Change>,
) -> Answer<StatusCode> {
    let (id, who) = api.find(&headers, &id).await?;
    let Json(change) = body?;
    match &change {
        Change::Hold(held) => api.calls.hold(id, *held).await,
        Change::Dtmf(digits) => api.calls.send_dtmf(id, digits).await,
        Change::Transfer(number) => api.calls.transfer(&who, id, number).await,
    }?;
    Ok(StatusCode::NO_CONTENT)
}
