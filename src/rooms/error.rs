//! What can be wrong with what a client says, and with what it asks for. Codes are those of HTTP.

use crate::core::auth::AuthError;
use crate::core::capabilities::ortc::OrtcError;
use crate::core::control::{ControlError, JoinError};

/// A message that is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WireError {
    /// No JSON, or no object.
    #[error("the message is no JSON object")]
    NotJson,
    /// Neither request nor response nor notification, or a field of the wrong type.
    #[error("the message is no request, response or notification")]
    NotProtoo,
}

/// Why a request is not carried out: a code for programs, a sentence for people.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{reason} ({code})")]
pub struct Refusal {
    /// As in HTTP.
    pub code: u16,
    /// Why.
    pub reason: String,
}

impl Refusal {
    /// A refusal in the given words.
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        Refusal { code, reason: reason.into() }
    }

    /// The request itself is wrong.
    pub fn bad(reason: impl Into<String>) -> Self {
        Refusal::new(400, reason)
    }

    /// There is no such thing.
    pub fn unknown(what: &str, id: impl std::fmt::Display) -> Self {
        Refusal::new(404, format!("there is no {what} {id}"))
    }
}

impl From<OrtcError> for Refusal {
    fn from(error: OrtcError) -> Self {
        Refusal::bad(error.to_string())
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        let code = if error == AuthError::Denied { 403 } else { 401 };
        Refusal::new(code, error.to_string())
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        let code = match error {
            ControlError::Rejected(_) => 400,
            ControlError::NotAllowed(_) => 403,
            ControlError::Closed => 410,
            ControlError::Refused(_) => 422,
            ControlError::WorkerLost | ControlError::Overloaded => 503,
            ControlError::Timeout => 504,
            ControlError::BadAnswer(_) => 500,
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<JoinError> for Refusal {
    fn from(error: JoinError) -> Self {
        let code = match &error {
            JoinError::NameTaken => 409,
            JoinError::NothingLive => 404,
            JoinError::BadName(_) => 400,
            JoinError::DataTooBig => 413,
            JoinError::RoomFull | JoinError::ServerFull | JoinError::NoWorker | JoinError::Worker(_) => 503,
        };
        Refusal::new(code, error.to_string())
    }
}
