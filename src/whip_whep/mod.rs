//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep-03): publishing and watching over WebRTC with one
//! HTTP request.
//!
//! | request | answer |
//! | --- | --- |
//! | `POST /<room>/whip` (`?name=`), `POST /<room>/whep` (`?peer=`) | 201 with the answer, all candidates in it |
//! | `PATCH` on the session | 204 for late candidates, 200 for an ICE restart; 412, 428 by `If-Match` |
//! | `DELETE` on the session | 200 (an encoder takes no other 2xx without a warning), then 404 |
//! | `OPTIONS` | 204 with CORS and what may be sent |
//! | `HEAD /<room>/whep` | 200, `application/sdp` |
//! | nothing live yet | 409 with `Retry-After` |
//! | full, or a worker failed | 503 with `Retry-After` |
//!
//! A refusal is a sentence of `text/plain`. Not done: the server's counter-offer (406 is final), the
//! events and layers extensions.

pub mod config;
pub mod doors;
pub mod error;
mod io;
mod open;
mod patch;
mod session;
mod wire;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_response_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, head, options, patch, post};
use serde::Deserialize;
use tracing::debug;

use crate::core::auth::{Action, Authority, Principal};
use crate::core::peer::CloseReason;
use crate::core::room::RoomName;
use crate::webrtc::SdpLimits;

pub use config::{Config, IceServer};
pub use doors::{Doors, Member};
pub use error::ConfigError;

use error::{Extra, Refusal};
use patch::Patched;
use session::{Session, Sessions};

/// For a preflight, on the endpoint those of the session too: clients ask there whether they can trickle.
const METHODS: HeaderValue = HeaderValue::from_static("OPTIONS, HEAD, POST, PATCH, DELETE");
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "Location, ETag, Link, Accept-Post, Accept-Patch, Retry-After, WWW-Authenticate",
);
const TAKEN: HeaderValue = HeaderValue::from_static("Authorization, Content-Type, If-Match");
/// Seconds for which a browser keeps the answer to a preflight.
const PREFLIGHT_AGE: HeaderValue = HeaderValue::from_static("7200");

/// Which way the media goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Role {
    /// WHIP.
    Publish,
    /// WHEP.
    Play,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Role::Publish => "whip",
            Role::Play => "whep",
        }
    }

    fn action(self) -> Action {
        match self {
            Role::Publish => Action::Publish,
            Role::Play => Action::Watch,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.word().to_ascii_uppercase())
    }
}

/// The two doors.
struct Gate<D: Doors> {
    doors: D,
    authority: Arc<Authority>,
    config: Config,
    limits: SdpLimits,
    reserved: &'static [&'static str],
    sessions: Sessions<D::Member>,
    origin: HeaderValue,
    links: Vec<HeaderValue>,
}

impl Config {
    /// Whether all of it can be used.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.headers().map(drop)
    }

    /// `Access-Control-Allow-Origin`, and a `Link` for each ICE server.
    fn headers(&self) -> Result<(HeaderValue, Vec<HeaderValue>), ConfigError> {
        let origin = HeaderValue::from_str(&self.allow_origin)
            .map_err(|_| ConfigError::Origin(self.allow_origin.clone()))?;
        let link =
            |server: &IceServer| wire::link(server).ok_or_else(|| ConfigError::IceServer(server.url.clone()));
        Ok((origin, self.ice_servers.iter().map(link).collect::<Result<_, _>>()?))
    }
}

/// The routes of both doors. `limits` are those of `webrtc.sdp`; no room has a name in `reserved`.
pub fn router<D: Doors>(
    doors: D,
    authority: Arc<Authority>,
    config: Config,
    limits: SdpLimits,
    reserved: &'static [&'static str],
) -> Result<Router, ConfigError> {
    let (origin, links) = config.headers()?;
    let sessions = Sessions::new(config.max_sessions);
    let gate = Arc::new(Gate { doors, authority, config, limits, reserved, sessions, origin, links });
    let endpoint = |role| endpoint::<D>(role);
    let resource = |role| resource::<D>(role);
    Ok(Router::new()
        .route("/{room}/whip", endpoint(Role::Publish))
        .route("/{room}/whip/", endpoint(Role::Publish))
        .route("/{room}/whip/{secret}", resource(Role::Publish))
        .route("/{room}/whep", endpoint(Role::Play))
        .route("/{room}/whep/", endpoint(Role::Play))
        .route("/{room}/whep/{secret}", resource(Role::Play))
        .layer(map_response_with_state(gate.clone(), share::<D>))
        .with_state(gate))
}

type Shared<D> = State<Arc<Gate<D>>>;

fn endpoint<D: Doors>(role: Role) -> MethodRouter<Arc<Gate<D>>> {
    let methods =
        post(move |State(gate): Shared<D>, Path(room): Path<String>, request: Request| async move {
            let answer = gate.post(role, &room, request).await;
            gate.respond(answer)
        })
        .options(move || {
            let allow = if role == Role::Play { "OPTIONS, HEAD, POST" } else { "OPTIONS, POST" };
            preflight(wire::ACCEPT_POST, wire::SDP, allow)
        });
    match role {
        Role::Publish => methods,
        Role::Play => methods.merge(head(|State(gate): Shared<D>, Path(room): Path<String>| async move {
            let found = gate.room(&room).map(|_| [(header::CONTENT_TYPE, wire::SDP)].into_response());
            gate.respond(found)
        })),
    }
}

fn resource<D: Doors>(role: Role) -> MethodRouter<Arc<Gate<D>>> {
    type Names = Path<(String, String)>;
    let patch =
        patch(move |State(gate): Shared<D>, Path((room, secret)): Names, request: Request| async move {
            let answer = gate.clone().patch(role, &room, secret, request).await;
            gate.respond(answer)
        });
    let delete =
        delete(move |State(gate): Shared<D>, Path((room, secret)): Names, headers: HeaderMap| async move {
            let answer = gate.clone().delete(role, &room, secret, &headers).await;
            gate.respond(answer)
        });
    patch
        .merge(delete)
        .merge(options(move || preflight(wire::ACCEPT_PATCH, wire::FRAGMENT, "OPTIONS, PATCH, DELETE")))
}

async fn preflight(name: axum::http::HeaderName, accepted: &'static str, allow: &'static str) -> Response {
    let headers = [
        (name, HeaderValue::from_static(accepted)),
        (header::ALLOW, HeaderValue::from_static(allow)),
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, TAKEN),
        (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// CORS on every answer, refusals included: a page must be able to read why.
async fn share<D: Doors>(State(gate): Shared<D>, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, gate.origin.clone());
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if gate.origin != "*" {
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    }
    response
}

#[derive(Debug, Default, Deserialize)]
struct Asked {
    name: Option<String>,
    peer: Option<String>,
}

impl<D: Doors> Gate<D> {
    fn respond(&self, answer: Result<Response, Refusal>) -> Response {
        answer.unwrap_or_else(|refusal| {
            debug!(status = refusal.status.as_u16(), reason = %refusal.text, "request refused");
            refusal.respond(self.config.retry_after_s, self.config.retry_after_full_s)
        })
    }

    fn room(&self, name: &str) -> Result<RoomName, Refusal> {
        RoomName::new(name, self.reserved)
            .map_err(|error| Refusal::new(StatusCode::NOT_FOUND, error.to_string()))
    }

    fn admit(&self, headers: &HeaderMap, role: Role, room: &RoomName) -> Result<Principal, Refusal> {
        let principal = self.authority.identify(wire::bearer(headers))?;
        self.authority.authorise(&principal, role.action(), room.as_str())?;
        Ok(principal)
    }

    async fn post(self: &Arc<Self>, role: Role, room: &str, request: Request) -> Result<Response, Refusal> {
        let room = self.room(room)?;
        let principal = self.admit(request.headers(), role, &room)?;
        if !wire::is_content(request.headers(), wire::SDP) {
            let text = format!("an offer is of type {}", wire::SDP);
            let refusal = Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
            return Err(refusal.with(Extra::AcceptPost));
        }
        let Query(asked) = Query::<Asked>::try_from_uri(request.uri())
            .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the query cannot be read"))?;
        let remote = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(remote)| *remote);
        let offer = self.body(request.into_body()).await?;
        let request = open::Request {
            role,
            room: room.clone(),
            principal,
            remote,
            name: asked.name,
            watch: asked.peer,
            offer,
        };
        let opened = io::detached(open::open(self.clone(), request)).await;
        let opened = opened.ok_or_else(Refusal::internal)??;
        self.created(role, &room, opened)
    }

    /// 201 (RFC 9725 §4.2). The secret stands in the path: a query would be lost on the way with OBS,
    /// and is what proxies log.
    fn created(&self, role: Role, room: &RoomName, opened: open::Opened) -> Result<Response, Refusal> {
        let location = format!("/{room}/{}/{}", role.word(), opened.secret);
        let mut response = (StatusCode::CREATED, opened.answer).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(wire::SDP));
        headers.insert(header::LOCATION, value(&location)?);
        headers.insert(header::ETAG, value(&opened.tag)?);
        headers.insert(wire::ACCEPT_PATCH, HeaderValue::from_static(wire::FRAGMENT));
        for link in &self.links {
            headers.append(header::LINK, link.clone());
        }
        Ok(response)
    }

    async fn patch(
        self: Arc<Self>,
        role: Role,
        room: &str,
        secret: String,
        request: Request,
    ) -> Result<Response, Refusal> {
        let session = self.session(role, room, &secret, request.headers())?;
        let (parts, body) = request.into_parts();
        let body = self.body(body).await?;
        match patch::patch(self, secret, session, parts.headers, body).await? {
            Patched::Trickle => Ok(StatusCode::NO_CONTENT.into_response()),
            Patched::Restarted { tag, fragment } => {
                let headers = [(header::CONTENT_TYPE, value(wire::FRAGMENT)?), (header::ETAG, value(&tag)?)];
                Ok((headers, fragment).into_response())
            }
        }
    }

    async fn delete(
        self: Arc<Self>,
        role: Role,
        room: &str,
        secret: String,
        headers: &HeaderMap,
    ) -> Result<Response, Refusal> {
        let session = self.session(role, room, &secret, headers)?;
        if !self.sessions.remove(&secret) {
            return Err(Refusal::no_session());
        }
        io::detached(async move { session.member.close(CloseReason::left()).await }).await;
        Ok(StatusCode::OK.into_response())
    }

    /// The session behind a URL. Knowing the URL is enough; a token that comes along must be the one
    /// that opened it.
    fn session(
        &self,
        role: Role,
        room: &str,
        secret: &str,
        headers: &HeaderMap,
    ) -> Result<Session<D::Member>, Refusal> {
        let session = self.sessions.get(role, room, secret).ok_or_else(Refusal::no_session)?;
        if let Some(token) = wire::bearer(headers).filter(|token| !token.is_empty())
            && self.authority.identify(Some(token))? != session.principal
        {
            return Err(Refusal::new(StatusCode::FORBIDDEN, "another token opened this session"));
        }
        Ok(session)
    }

    async fn body(&self, body: Body) -> Result<Vec<u8>, Refusal> {
        let max = self.config.max_body_bytes;
        to_bytes(body, max).await.map(Vec::from).map_err(|_| {
            let text = format!("the body is longer than {max} bytes, or broke off");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text)
        })
    }
}

fn value(text: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(text).map_err(|_| Refusal::internal())
}
