//! Controllers over WebSocket at `/control`: the same two forms as over TCP, chosen by the subprotocol, one
//! message in each WebSocket message. JSON needs no netstring around it there.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde::Deserialize;
use tokio::time::timeout;

use crate::core::auth::Secret;
use crate::core::control::controller::wire::Form;
use crate::core::control::controller::{Door, Ending, Output, Session};
use crate::core::control::netstring;
use crate::core::origins::Origins;
use crate::http::api::bearer;
use crate::http::manage::Problem;

/// The subprotocols.
const TEXT: &str = "viaduct-text";
const JSON: &str = "viaduct-json";
/// RFC 6455 §7.4.1.
const NORMAL: u16 = 1000;
const POLICY: u16 = 1008;

/// The key, for pages, which cannot send a header.
#[derive(Deserialize)]
struct Token {
    token: Option<Secret>,
}

#[derive(Clone)]
struct Shared {
    door: Arc<Door>,
    origins: Origins,
}

/// The route; only for a door that asks who comes, because pages of any site may knock.
pub fn router(door: Arc<Door>, origins: Origins) -> Router {
    let shared = Shared { door, origins };
    Router::new().route("/control", any(upgrade)).with_state(shared)
}

async fn upgrade(
    State(shared): State<Shared>,
    remote: Option<axum::Extension<ConnectInfo<SocketAddr>>>,
    token: Result<Query<Token>, QueryRejection>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    // What cannot be read is nobody's.
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("null"));
    if !shared.origins.allow(text(header::ORIGIN), text(header::HOST)) {
        return (StatusCode::FORBIDDEN, "Pages of this site may not connect here (http.origins).\n")
            .into_response();
    }
    let limit = shared.door.config().max_message_bytes;
    let upgrade = upgrade.protocols([JSON, TEXT]).max_message_size(limit).max_frame_size(limit);
    let form = match upgrade.selected_protocol().and_then(|name| name.to_str().ok()) {
        Some(JSON) => Form::Json,
        Some(TEXT) => Form::Text,
        _ => {
            let text = "Ask for the WebSocket subprotocol viaduct-json or viaduct-text.\n";
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
    };
    let token = token.map(|Query(query)| query.token).unwrap_or_default();
    let secret = token.as_ref().map(Secret::reveal).or_else(|| bearer(&headers));
    let (door, now) = (shared.door.clone(), Instant::now());
    let session = match secret {
        // It says who it is by a request of its own.
        None => Session::new(door, remote.map(|extension| extension.0.0.ip()), now),
        Some(secret) => {
            let known = door.identify(Some(secret)).map_err(Problem::from);
            let opened = known.and_then(|who| Ok(Session::authenticated(door, who, form, now)?));
            match opened {
                Ok(session) => session,
                Err(problem) => return problem.into_response(),
            }
        }
    };
    upgrade.on_upgrade(move |socket| async move { carry(socket, session, form, &shared.door).await })
}

/// What is to be done next.
enum Next {
    Heard(Option<Message>),
    Output(Output),
    Timeout,
    Ping,
}

/// Carries messages until either side ends.
async fn carry(mut socket: WebSocket, mut session: Session, form: Form, door: &Door) {
    let mut ping = tokio::time::interval(door.config().keepalive());
    let patience = door.config().write_timeout();
    loop {
        let (wants_input, deadline) = (session.wants_input(), session.poll_timeout());
        let next = tokio::select! {
            message = socket.recv(), if wants_input => Next::Heard(message.and_then(Result::ok)),
            output = poll_fn(|cx| session.poll_output(cx)) => Next::Output(output),
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => {
                Next::Timeout
            }
            _ = ping.tick() => Next::Ping,
        };
        match next {
            Next::Heard(Some(Message::Text(text))) => heard(&mut session, form, text.as_bytes()),
            Next::Heard(Some(Message::Binary(data))) => heard(&mut session, form, &data),
            Next::Heard(Some(Message::Ping(_) | Message::Pong(_))) => {}
            Next::Heard(Some(Message::Close(_)) | None) => return,
            Next::Output(Output::Bytes(bytes)) => {
                for message in messages(form, &bytes) {
                    let sent = timeout(patience, socket.send(Message::Text(message.into()))).await;
                    if !matches!(sent, Ok(Ok(()))) {
                        return;
                    }
                }
                session.advance(Instant::now());
            }
            Next::Output(Output::End(ending)) => {
                let _ = timeout(patience, socket.send(Message::Close(Some(farewell(&ending))))).await;
                return;
            }
            Next::Timeout => session.handle_timeout(Instant::now()),
            Next::Ping => {
                if !matches!(timeout(patience, socket.send(Message::Ping(Bytes::new()))).await, Ok(Ok(()))) {
                    return;
                }
            }
        }
    }
}

/// Gives a message to the session in the framing that it knows.
fn heard(session: &mut Session, form: Form, message: &[u8]) {
    let now = Instant::now();
    match form {
        Form::Text => session.handle_bytes(now, message),
        Form::Json => {
            let mut framed = Vec::with_capacity(message.len() + 8);
            // The WebSocket bounds the message.
            let _ = netstring::write(message, usize::MAX, &mut framed);
            session.handle_bytes(now, &framed);
        }
    }
}

/// Takes what the session wrote out of its framing.
fn messages(form: Form, bytes: &[u8]) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match form {
        Form::Text => text(bytes).split_inclusive("\r\n\r\n").map(str::to_owned).collect(),
        Form::Json => {
            let (mut reader, mut found) = (netstring::Reader::new(usize::MAX), Vec::new());
            reader.feed(bytes);
            while let Ok(Some(payload)) = reader.next_payload() {
                found.push(text(payload));
            }
            found
        }
    }
}

fn farewell(ending: &Ending) -> CloseFrame {
    match ending {
        Ending::Stranger => CloseFrame { code: POLICY, reason: "bad_framing".into() },
        Ending::Fault(fault) => CloseFrame { code: NORMAL, reason: fault.code.as_str().into() },
    }
}
