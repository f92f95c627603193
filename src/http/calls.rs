//! `/api/calls`: telephone calls over HTTP, for those who may publish in a call's room.
//!
//! | request | what it does |
//! | --- | --- |
//! | `GET /api/calls` | lists them |
//! | `POST /api/calls` | calls somebody into a room |
//! | `PATCH /api/calls/<id>` | `{"hold": true}`, `{"dtmf": "12#"}` or `{"transfer": "601"}` |
//! | `DELETE /api/calls/<id>` | ends one |

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::Deserialize;

use super::api::bearer;
use crate::core::auth::{Action, AuthError, Authority, Principal};
use crate::core::control::{CallError, Calls, Dial};
use crate::core::id::SessionId;

/// A room that nobody can have: only a key to every room opens it.
const EVERY_ROOM: &str = "metrics";

struct Api {
    authority: Arc<Authority>,
    calls: Arc<dyn Calls>,
}

/// What is done to a call: exactly one of these.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    Hold(bool),
    Dtmf(String),
    Transfer(String),
}

/// The routes.
pub fn router(authority: Arc<Authority>, calls: Arc<dyn Calls>) -> Router {
    Router::new()
        .route("/api/calls", get(list).post(dial))
        .route("/api/calls/{id}", delete(hang_up).patch(change))
        .with_state(Arc::new(Api { authority, calls }))
}

type Answer = Result<Response, (StatusCode, String)>;

impl Api {
    /// Who asks, if he may publish in `room`.
    fn admit(&self, headers: &HeaderMap, room: &str) -> Result<Principal, (StatusCode, String)> {
        let who = self.authority.identify(bearer(headers));
        let who = who.and_then(|who| self.authority.authorise(&who, Action::Publish, room).map(|()| who));
        who.map_err(|error| {
            let denied = error == AuthError::Denied;
            (if denied { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED }, format!("{error}\n"))
        })
    }

    /// The call of that name, if he who asks may publish in its room.
    async fn find(
        &self,
        headers: &HeaderMap,
        id: &str,
    ) -> Result<(SessionId, Principal), (StatusCode, String)> {
        let id = SessionId::parse(id);
        let calls = self.calls.list().await;
        let call =
            calls.iter().find(|call| Some(call.id) == id).ok_or_else(|| refused(CallError::Unknown))?;
        Ok((call.id, self.admit(headers, &call.room)?))
    }
}

fn refused(error: CallError) -> (StatusCode, String) {
    let status = match error {
        CallError::Denied(_) => StatusCode::FORBIDDEN,
        CallError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        CallError::NotRegistered | CallError::Unknown => StatusCode::NOT_FOUND,
        CallError::Bad(_) => StatusCode::BAD_REQUEST,
        CallError::NotNow(_) => StatusCode::CONFLICT,
    };
    (status, format!("{error}\n"))
}

async fn list(State(api): State<Arc<Api>>, headers: HeaderMap) -> Answer {
    let all = api.calls.list().await;
    let mine: Vec<_> = all.into_iter().filter(|call| api.admit(&headers, &call.room).is_ok()).collect();
    if mine.is_empty() {
        api.admit(&headers, EVERY_ROOM)?;
    }
    Ok(Json(mine).into_response())
}

async fn dial(State(api): State<Arc<Api>>, headers: HeaderMap, Json(dial): Json<Dial>) -> Answer {
    let who = api.admit(&headers, &dial.room)?;
    let id = api.calls.dial(&who, dial).await.map_err(refused)?;
    Ok((StatusCode::CREATED, Json(serde_json::json!({ "id": id }))).into_response())
}

async fn hang_up(State(api): State<Arc<Api>>, headers: HeaderMap, Path(id): Path<String>) -> Answer {
    let (id, _) = api.find(&headers, &id).await?;
    api.calls.hang_up(id, "somebody in charge ended it").await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn change(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Json(change): Json<Change>,
) -> Answer {
    let (id, who) = api.find(&headers, &id).await?;
    let done = match &change {
        Change::Hold(held) => api.calls.hold(id, *held).await,
        Change::Dtmf(digits) => api.calls.send_dtmf(id, digits).await,
        Change::Transfer(number) => api.calls.transfer(&who, id, number).await,
    };
    done.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
