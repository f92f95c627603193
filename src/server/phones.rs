//! SIP as the server sees it: who can call, what its trunks and phones are doing, and how a phone's password is kept.

use std::io::{BufRead, IsTerminal};
use std::sync::Arc;

use anyhow::{Context, bail};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, extract};

use crate::core::auth::{Action, Authority};
use crate::core::control::Rooms;
use crate::http;
use crate::sip::io::{Door, SipHandle};
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

/// Who may look at trunks and phones.
struct State {
    authority: Arc<Authority>,
    phones: SipHandle,
}

/// `/api/calls`, `/api/sip` and, where it is wanted, the WebSocket at `/sip`.
pub(super) fn router(
    authority: Arc<Authority>,
    phones: &SipHandle,
    config: &SipConfig,
    secure: bool,
) -> Router {
    let calls = http::manage::calls::router(authority.clone(), Arc::new(phones.clone()));
    let shared = Arc::new(State { authority, phones: phones.clone() });
    let router = Router::new().route("/api/sip", get(state)).with_state(shared).merge(calls);
    if config.websocket { router.merge(sip::io::websocket(phones.clone(), secure)) } else { router }
}

async fn state(extract::State(shared): extract::State<Arc<State>>, headers: HeaderMap) -> Response {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = value.and_then(|value| value.strip_prefix("Bearer "));
    let who = shared.authority.identify(token);
    match who.and_then(|who| shared.authority.authorise(&who, Action::Publish, EVERY_ROOM)) {
        Ok(()) => Json(shared.phones.state().await).into_response(),
        Err(error) => (StatusCode::UNAUTHORIZED, format!("{error}\n")).into_response(),
    }
}

/// Opens the SIP door, where there is one, and tells the rooms who can call.
pub(super) async fn open(
    door: Option<Door>,
    rooms: &Rooms,
    authority: &Arc<Authority>,
) -> anyhow::Result<Option<SipHandle>> {
    let Some(door) = door else { return Ok(None) };
    let phones = door.open((rooms.clone(), authority.clone()), http::RESERVED).await?;
    rooms.set_calls(Arc::new(phones.clone()));
    Ok(Some(phones))
}
