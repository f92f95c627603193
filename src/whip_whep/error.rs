//! Refusals: a status, a sentence for a person (`text/plain`, always), and the headers that belong to it.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::core::auth::AuthError;
use crate::core::control::{ControlError, JoinError};
use crate::webrtc::SdpError;

/// What in the configuration cannot be put into a header.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `allow_origin` is no origin.
    #[error("whip_whep.allow_origin: {0:?} is neither * nor an origin")]
    Origin(String),
    /// An ICE server's address or credentials cannot stand in a `Link` header.
    #[error("whip_whep.ice_servers: {0:?} cannot be announced")]
    IceServer(String),
}

/// Why a request is turned down.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) text: String,
    pub(super) extra: Extra,
}

/// Headers that make a refusal useful to a program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Extra {
    None,
    /// `WWW-Authenticate` (RFC 6750 §3).
    Challenge(&'static str),
    /// `Retry-After` in seconds when to ask again for what is not there yet.
    RetrySoon,
    /// `Retry-After` in seconds when the server has no room.
    RetryLater,
    /// `Accept-Post`: what a POST may hold.
    AcceptPost,
    /// `Accept-Patch`: what a PATCH may hold (RFC 5789 §3.1).
    AcceptPatch,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Refusal { status, text: text.into(), extra: Extra::None }
    }

    pub(super) fn with(self, extra: Extra) -> Self {
        Refusal { extra, ..self }
    }

    pub(super) fn full(text: impl Into<String>) -> Self {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text).with(Extra::RetryLater)
    }

    pub(super) fn no_session() -> Self {
        Refusal::new(StatusCode::NOT_FOUND, "There is no such session (any more)")
    }

    pub(super) fn internal() -> Self {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "The server made a mistake; its log says more")
    }

    /// The answer; `soon` and `later` are the two values of `Retry-After`.
    pub(super) fn respond(self, soon: u32, later: u32) -> Response {
        let mut response = (self.status, sentence(self.text)).into_response();
        let line = match self.extra {
            Extra::None => return response,
            Extra::Challenge(challenge) => (header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge)),
            Extra::RetrySoon => (header::RETRY_AFTER, soon.into()),
            Extra::RetryLater => (header::RETRY_AFTER, later.into()),
            Extra::AcceptPost => (super::wire::ACCEPT_POST, HeaderValue::from_static(super::wire::SDP)),
            Extra::AcceptPatch => {
                (super::wire::ACCEPT_PATCH, HeaderValue::from_static(super::wire::FRAGMENT))
            }
        };
        response.headers_mut().insert(line.0, line.1);
        response
    }
}

/// `text` with a capital in front and a full stop behind.
fn sentence(text: String) -> String {
    let mut chars = text.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    let mut sentence: String = first.chain(chars).collect();
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence.push('\n');
    sentence
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        let (status, extra) = match error {
            AuthError::NeedCredentials => {
                (StatusCode::UNAUTHORIZED, Extra::Challenge("Bearer realm=\"viaduct\""))
            }
            AuthError::UnknownSecret => (
                StatusCode::UNAUTHORIZED,
                Extra::Challenge("Bearer realm=\"viaduct\", error=\"invalid_token\""),
            ),
            AuthError::Denied => (StatusCode::FORBIDDEN, Extra::None),
        };
        Refusal::new(status, error.to_string()).with(extra)
    }
}

impl From<SdpError> for Refusal {
    fn from(error: SdpError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
        Refusal::new(status, error.to_string())
    }
}

impl From<JoinError> for Refusal {
    fn from(error: JoinError) -> Self {
        let text = error.to_string();
        match error {
            JoinError::NameTaken => Refusal::new(StatusCode::CONFLICT, text),
            JoinError::NothingLive => Refusal::new(StatusCode::CONFLICT, text).with(Extra::RetrySoon),
            JoinError::RoomFull | JoinError::ServerFull | JoinError::NoWorker => Refusal::full(text),
            JoinError::BadName(_) | JoinError::DataTooBig => Refusal::new(StatusCode::BAD_REQUEST, text),
            JoinError::Worker(error) => error.into(),
        }
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        let text = error.to_string();
        match error {
            ControlError::WorkerLost
            | ControlError::Timeout
            | ControlError::Overloaded
            | ControlError::Closed => Refusal::full(text),
            ControlError::NotAllowed(_) | ControlError::Refused(_) => {
                Refusal::new(StatusCode::FORBIDDEN, text)
            }
            // The offer was read and found good, so what the worker refuses is our mistake.
            ControlError::Rejected(_) | ControlError::BadAnswer(_) => Refusal::internal(),
        }
    }
}
