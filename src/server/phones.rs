//! SIP as the server sees it: its ports, calls over HTTP, and how a phone's password is kept.

use std::io::{BufRead, IsTerminal};
use std::sync::Arc;

use anyhow::{Context, bail};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::Deserialize;

use crate::core::auth::{Action, Authority, Principal};
use crate::core::control::Rooms;
use crate::http;
use crate::sip::demux::{DialError, DialOrder};
use crate::sip::io::{Door, SipHandle};
use crate::sip::session::SessionId;
use crate::sip::session::registrar::user_line;
use crate::sip::{self, SipConfig};

/// A room that nobody can have: only a key to every room opens it.
const EVERY_ROOM: &str = "metrics";

/// What `viaduct hash-password` is asked.
#[derive(clap::Args)]
pub struct Password {
    /// The user who registers with it.
    user: String,
    /// The realm, `sip.realm` of the configuration.
    #[arg(long, default_value = "viaduct")]
    realm: String,
}

impl Password {
    /// Reads a password from standard input and prints the line for `sip.users_file`.
    pub fn run(&self) -> anyhow::Result<()> {
        if self.user.is_empty() || self.user.contains([':', '"', ' ']) || self.realm.contains([':', '"']) {
            bail!(
                "a user has no colon, quotation mark or space in its name, a realm no colon or quotation mark"
            );
        }
        let input = std::io::stdin();
        if input.is_terminal() {
            eprintln!("Password of {} (it is shown as you type):", self.user);
        }
        let mut line = String::new();
        input.lock().read_line(&mut line).context("cannot read the password")?;
        let password = line.trim_end_matches(['\r', '\n']);
        if password.is_empty() {
            bail!("an empty password");
        }
        println!("{}", user_line(&self.user, &self.realm, password));
        Ok(())
    }
}

/// Who may look at calls and order them.
struct Calls {
    authority: Arc<Authority>,
    phones: SipHandle,
}

/// What `POST /api/calls` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dial {
    room: String,
    number: String,
    trunk: Option<String>,
    caller_id: Option<String>,
    ring_s: Option<u32>,
}

/// What is done to a call: exactly one of these.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    Hold(bool),
    Dtmf(String),
    Transfer(String),
}

/// `/api/calls`, `/api/sip` and, where it is wanted, the WebSocket at `/sip`.
pub(super) fn router(
    authority: Arc<Authority>,
    phones: &SipHandle,
    config: &SipConfig,
    secure: bool,
) -> Router {
    let calls = Arc::new(Calls { authority, phones: phones.clone() });
    let router = Router::new()
        .route("/api/calls", get(list).post(dial))
        .route("/api/calls/{id}", delete(hang_up).patch(change))
        .route("/api/sip", get(state))
        .with_state(calls);
    if config.websocket { router.merge(sip::io::websocket(phones.clone(), secure)) } else { router }
}

type Answer = Result<Response, (StatusCode, String)>;

impl Calls {
    /// Who asks, if he may publish in `room`.
    fn admit(&self, headers: &HeaderMap, room: &str) -> Result<Principal, (StatusCode, String)> {
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = value.and_then(|value| value.strip_prefix("Bearer "));
        let who = self.authority.identify(token);
        let who = who.and_then(|who| self.authority.authorise(&who, Action::Publish, room).map(|()| who));
        who.map_err(|error| (StatusCode::UNAUTHORIZED, format!("{error}\n")))
    }

    /// The call of that name, if he who asks may publish in its room.
    async fn find(
        &self,
        headers: &HeaderMap,
        id: &str,
    ) -> Result<(SessionId, Principal), (StatusCode, String)> {
        let unknown = || (StatusCode::NOT_FOUND, "there is no such call\n".to_owned());
        let calls = self.phones.calls().await;
        let call = calls.iter().find(|call| call.id.to_string() == id).ok_or_else(unknown)?;
        Ok((call.id, self.admit(headers, &call.room)?))
    }
}

fn refused(error: DialError) -> (StatusCode, String) {
    let status = match error {
        DialError::Denied(_) => StatusCode::FORBIDDEN,
        DialError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        DialError::NotRegistered => StatusCode::NOT_FOUND,
    };
    (status, format!("{error}\n"))
}

async fn list(State(calls): State<Arc<Calls>>, headers: HeaderMap) -> Answer {
    let all = calls.phones.calls().await;
    let mine: Vec<_> = all.into_iter().filter(|call| calls.admit(&headers, &call.room).is_ok()).collect();
    if mine.is_empty() {
        calls.admit(&headers, EVERY_ROOM)?;
    }
    Ok(Json(mine).into_response())
}

async fn state(State(calls): State<Arc<Calls>>, headers: HeaderMap) -> Answer {
    calls.admit(&headers, EVERY_ROOM)?;
    Ok(Json(calls.phones.state().await).into_response())
}

async fn dial(State(calls): State<Arc<Calls>>, headers: HeaderMap, Json(ask): Json<Dial>) -> Answer {
    let who = calls.admit(&headers, &ask.room)?;
    let order = DialOrder {
        room: ask.room,
        number: ask.number,
        trunk: ask.trunk,
        caller_id: ask.caller_id,
        principal: who.id().to_owned(),
        ring_s: ask.ring_s,
    };
    let id = calls.phones.dial(order).await.map_err(refused)?;
    Ok((StatusCode::CREATED, Json(serde_json::json!({ "id": id }))).into_response())
}

async fn hang_up(State(calls): State<Arc<Calls>>, headers: HeaderMap, Path(id): Path<String>) -> Answer {
    let (id, _) = calls.find(&headers, &id).await?;
    calls.phones.hang_up(id, "somebody in charge ended it").await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn change(
    State(calls): State<Arc<Calls>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Json(change): Json<Change>,
) -> Answer {
    let (id, who) = calls.find(&headers, &id).await?;
    match change {
        Change::Hold(held) => drop(calls.phones.hold(id, held).await),
        Change::Dtmf(digits) => drop(calls.phones.send_dtmf(id, &digits).await),
        Change::Transfer(number) => calls.phones.transfer(id, &number, who.id()).await.map_err(refused)?,
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Opens the SIP door, where there is one.
pub(super) async fn open(door: Option<Door>, rooms: &Rooms) -> anyhow::Result<Option<SipHandle>> {
    match door {
        Some(door) => Ok(Some(door.open(rooms.clone(), http::RESERVED).await?)),
        None => Ok(None),
    }
}
