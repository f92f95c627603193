//! Refusals of the API: a status, a code for programs and a sentence for people, as JSON.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::core::auth::AuthError;
use crate::core::control::controller::code::{Code, Fault};
use crate::core::control::{CallError, ControlError, JoinError, MoveError, StreamError};

/// What a refusal says.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    #[serde(skip)]
    #[schema(ignore)]
    status: StatusCode,
    /// For programs; the list is in the API's description.
    #[schema(example = "unknown_room")]
    code: &'static str,
    /// For people.
    #[schema(example = "there is no such room now")]
    reason: String,
}

/// What a request comes to.
pub type Answer<T> = Result<T, Problem>;

impl Problem {
    /// A refusal.
    pub fn new(status: StatusCode, code: &'static str, reason: impl Into<String>) -> Self {
        Problem { status, code, reason: reason.into() }
    }

    /// The request itself is wrong.
    pub fn bad(reason: impl Into<String>) -> Self {
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", reason)
    }

    /// There is no such thing: `code` is `unknown_` and what.
    pub fn unknown(code: &'static str, what: &str) -> Self {
        Problem::new(StatusCode::NOT_FOUND, code, format!("there is no such {what} now"))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Denied => Problem::new(StatusCode::FORBIDDEN, "denied", error.to_string()),
            _ => Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", error.to_string()),
        }
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        let (status, code) = match error {
            ControlError::Closed => (StatusCode::NOT_FOUND, "gone"),
            ControlError::Rejected(_) => (StatusCode::BAD_REQUEST, "rejected"),
            ControlError::NotAllowed(_) => (StatusCode::FORBIDDEN, "not_allowed"),
            ControlError::Refused(_) => (StatusCode::UNPROCESSABLE_ENTITY, "refused"),
            ControlError::WorkerLost => (StatusCode::SERVICE_UNAVAILABLE, "worker_lost"),
            ControlError::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            ControlError::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timeout"),
            ControlError::BadAnswer(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        Problem::new(status, code, error.to_string())
    }
}

impl From<MoveError> for Problem {
    fn from(error: MoveError) -> Self {
        match error {
            MoveError::Room(error) => error.into(),
            MoveError::Peer(error) => error.into(),
        }
    }
}

impl From<JoinError> for Problem {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Worker(error) => error.into(),
            JoinError::BadName(_) | JoinError::DataTooBig => Problem::bad(error.to_string()),
            JoinError::NameTaken => Problem::new(StatusCode::CONFLICT, "name_taken", error.to_string()),
            JoinError::NothingLive => Problem::new(StatusCode::NOT_FOUND, "nothing_live", error.to_string()),
            JoinError::RoomFull | JoinError::ServerFull | JoinError::NoWorker => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "full", error.to_string())
            }
        }
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        let status = match error {
            CallError::Denied(_) => StatusCode::FORBIDDEN,
            CallError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            CallError::NotRegistered | CallError::Unknown => StatusCode::NOT_FOUND,
            CallError::Bad(_) => StatusCode::BAD_REQUEST,
            CallError::NotNow(_) => StatusCode::CONFLICT,
        };
        Problem::new(status, error.code(), error.to_string())
    }
}

/// The status that goes with a code of the control protocol.
pub(super) fn status_of(code: Code) -> StatusCode {
    match code {
        Code::BadRequest | Code::BadData | Code::BadFraming => StatusCode::BAD_REQUEST,
        Code::NotAuthenticated | Code::BadCredentials => StatusCode::UNAUTHORIZED,
        Code::NotAllowed => StatusCode::FORBIDDEN,
        Code::UnknownMethod
        | Code::UnknownId
        | Code::UnknownRoom
        | Code::UnknownPeer
        | Code::UnknownCall
        | Code::UnknownStream => StatusCode::NOT_FOUND,
        Code::DuplicateId | Code::DuplicateRequest | Code::RoomExists => StatusCode::CONFLICT,
        Code::TooBig => StatusCode::PAYLOAD_TOO_LARGE,
        Code::NotSupported | Code::Refused => StatusCode::UNPROCESSABLE_ENTITY,
        Code::TooManyAttempts => StatusCode::TOO_MANY_REQUESTS,
        Code::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Code::Limit
        | Code::Overloaded
        | Code::WorkerLost
        | Code::TooSlow
        | Code::Idle
        | Code::TooManyControllers
        | Code::Shutdown => StatusCode::SERVICE_UNAVAILABLE,
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Problem::new(status_of(fault.code), fault.code.as_str(), fault.reason)
    }
}

impl From<StreamError> for Problem {
    fn from(error: StreamError) -> Self {
        let status = match error {
            StreamError::Bad(_) => StatusCode::BAD_REQUEST,
            StreamError::Forbidden(_) => StatusCode::FORBIDDEN,
            StreamError::NoFile | StreamError::Unknown => StatusCode::NOT_FOUND,
            StreamError::NotNow(_) => StatusCode::CONFLICT,
            StreamError::Limit(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::new(status, error.code(), error.to_string())
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        Problem::new(rejection.status(), "bad_request", rejection.body_text())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Problem::bad(rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Problem::bad(rejection.body_text())
    }
}
