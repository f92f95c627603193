//! WebSockets of rooms: lets them in, gives each its session, and runs it as one task, whatever it consumes.

mod asks;
mod connection;
mod places;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{ConnectInfo, FromRequestParts, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use tracing::debug;

use super::Config;
use super::demux::{self, Dialect, Target};
use super::error::Refusal;
use super::session::v2::V2;
use super::session::v3::V3;
use crate::core::auth::{Action, Authority, Principal};
use crate::core::capabilities::ortc::Capabilities;
use crate::core::capabilities::room::{self, capabilities};
use crate::core::control::Rooms;
use crate::core::io::connections::{Connections, Place};
use crate::core::origins::Origins;
use connection::Client;
use places::Places;

/// The subprotocol (RFC 6455 §1.9) of all our messages.
const PROTOCOL: &str = "protoo";
/// What a WebSocket reads and writes at once; its buffers stay this small while nothing larger comes.
const BUFFER: usize = 4096;

/// What every connection needs.
struct Door {
    rooms: Rooms,
    authority: Arc<Authority>,
    config: Config,
    origins: Origins,
    reserved: &'static [&'static str],
    connections: Connections,
    places: Places,
    /// What rooms offer to v2 clients.
    v2: Arc<Capabilities>,
    /// What they offer to v3 clients.
    v3: Arc<Capabilities>,
}

/// The route `/ws`; no room has a name in `reserved`.
pub fn router(
    rooms: Rooms,
    authority: Arc<Authority>,
    config: Config,
    origins: Origins,
    reserved: &'static [&'static str],
) -> Router {
    let v2 = capabilities(&rooms.offered_codecs(), config.v2_dialect());
    let v3 = capabilities(&rooms.offered_codecs(), room::Dialect::V3);
    let door = Door {
        rooms,
        authority,
        origins,
        reserved,
        connections: Connections::new(config.max_connections, config.max_connections_per_address),
        places: Places::default(),
        v2: Arc::new(v2),
        v3: Arc::new(v3),
        config,
    };
    Router::new().route("/ws", any(upgrade)).with_state(Arc::new(door))
}

async fn upgrade(State(door): State<Arc<Door>>, request: Request) -> Response {
    match door.admit(request).await {
        Ok(response) => response,
        Err(refusal) => {
            debug!(%refusal, "a room client was turned away");
            let code = StatusCode::from_u16(refusal.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (code, format!("{}\n", refusal.reason)).into_response()
        }
    }
}

impl Door {
    async fn admit(self: Arc<Self>, request: Request) -> Result<Response, Refusal> {
        let remote = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
        let (mut parts, _) = request.into_parts();
        self.check_origin(&parts.headers)?;
        let query = Query::<demux::Query>::try_from_uri(&parts.uri);
        let Query(query) = query.map_err(|_| Refusal::bad("the URL's query cannot be read"))?;
        let target = query.target(self.reserved)?;
        let principal = self.authority.identify(query.token.as_deref())?;
        self.authority.authorise(&principal, Action::Watch, target.room.as_str())?;
        let publish = self.authority.authorise(&principal, Action::Publish, target.room.as_str());
        // Only now: a page that was refused learns why by asking without a WebSocket.
        let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
        let upgrade = upgrade.map_err(|_| Refusal::new(426, "this address is for WebSockets"))?;
        let place =
            match remote {
                Some(remote) => {
                    let place = self.connections.admit(remote.ip());
                    Some(place.ok_or_else(|| {
                        Refusal::new(503, "there are too many connections; try again shortly")
                    })?)
                }
                None => None,
            };
        let upgrade = upgrade.protocols([PROTOCOL]);
        if upgrade.selected_protocol().is_none() {
            return Err(Refusal::bad("the WebSocket needs the subprotocol \"protoo\""));
        }
        Ok(self.open(upgrade, target, principal, remote, publish.is_ok(), place))
    }

    /// A browser says which page it is that connects; what is no browser says nothing.
    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("null"));
        match self.origins.allow(text(header::ORIGIN), text(header::HOST)) {
            true => Ok(()),
            false => Err(Refusal::new(403, "pages of this origin may not connect (http.origins)")),
        }
    }

    fn open(
        self: Arc<Self>,
        upgrade: WebSocketUpgrade,
        target: Target,
        principal: Principal,
        remote: Option<SocketAddr>,
        may_publish: bool,
        place: Option<Place>,
    ) -> Response {
        let upgrade = upgrade
            .read_buffer_size(BUFFER)
            .write_buffer_size(BUFFER)
            // What is too long is told so; what is far too long is not even read.
            .max_message_size(self.config.max_message_bytes.saturating_mul(2));
        upgrade.on_upgrade(move |socket| async move {
            let (v2, v3) = (self.v2.clone(), self.v3.clone());
            let client = Client { door: self, target, principal, remote, may_publish };
            match client.target.dialect {
                Dialect::V2 => connection::run(client, socket, V2::new(v2, may_publish)).await,
                Dialect::V3 => {
                    let protocol = V3::new(client.target.peer.clone(), v3, may_publish);
                    connection::run(client, socket, protocol).await;
                }
            }
            drop(place);
        })
    }
}
