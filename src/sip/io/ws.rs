//! SIP over WebSocket (RFC 7118) as a route for the HTTP listener.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use tokio::sync::mpsc;

use crate::sip::io::SipHandle;

/// Messages that may wait in each direction.
const QUEUE: usize = 64;
/// How often the connection is kept alive: many proxies close a silent one after half a minute.
const PING: Duration = Duration::from_secs(20);
/// Bytes of one message, whatever the configuration says later.
const MAX_MESSAGE: usize = 64 << 10;

/// The route `/sip`; `secure` says whether the listener speaks TLS.
pub fn router(phones: SipHandle, secure: bool) -> Router {
    Router::new().route("/sip", any(upgrade)).with_state((phones, secure))
}

async fn upgrade(
    State((phones, secure)): State<(SipHandle, bool)>,
    remote: Option<axum::Extension<ConnectInfo<SocketAddr>>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let remote = remote.map_or(SocketAddr::from(([0, 0, 0, 0], 0)), |extension| extension.0.0);
    let upgrade = upgrade.protocols(["sip"]).max_message_size(MAX_MESSAGE);
    upgrade.on_upgrade(move |socket| carry(socket, phones, remote, secure)).into_response()
}

/// Carries messages until either side ends.
async fn carry(mut socket: WebSocket, phones: SipHandle, remote: SocketAddr, secure: bool) {
    let (received, from) = mpsc::channel(QUEUE);
    let (to, mut sending) = mpsc::channel::<Vec<u8>>(QUEUE);
    phones.websocket(remote, secure, from, to).await;
    let mut ping = tokio::time::interval(PING);
    loop {
        tokio::select! {
            _ = ping.tick() => {
                if socket.send(Message::Ping(Bytes::new())).await.is_err() {
                    return;
                }
            }
            message = socket.recv() => {
                let data = match message {
                    Some(Ok(Message::Text(text))) => text.as_bytes().to_vec(),
                    Some(Ok(Message::Binary(data))) => data.to_vec(),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                };
                if received.send(data).await.is_err() {
                    return;
                }
            }
            data = sending.recv() => {
                let Some(data) = data else { return };
                let message = match String::from_utf8(data) {
                    Ok(text) => Message::Text(text.into()),
                    Err(error) => Message::Binary(error.into_bytes().into()),
                };
                if socket.send(message).await.is_err() {
                    return;
                }
            }
        }
    }
}
