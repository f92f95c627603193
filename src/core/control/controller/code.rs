//! What is said to a controller whose request was not carried out: a code for programs, a sentence for people.

use crate::core::control::error::{ControlError, JoinError, MoveError};

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal;)*) => {
        /// Why a request was not carried out, or a connection ended.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Code { $($(#[doc = $doc])* $name,)* }

        impl Code {
            /// All of them, each with its meaning.
            pub const ALL: &'static [(Code, &'static str)] = &[$((Code::$name, concat!($($doc),*)),)*];

            /// The code on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// The code that is written so.
            pub fn parse(text: &str) -> Option<Code> {
                match text { $($text => Some(Code::$name),)* _ => None }
            }
        }
    };
}

codes! {
    /// The message is no request: no JSON object, no `id`, no `method`.
    BadRequest = "bad_request";
    /// A field is missing, or has a wrong type or value; the reason names it.
    BadData = "bad_data";
    /// Nothing is called so.
    UnknownMethod = "unknown_method";
    /// The method exists, and cannot be used from outside or not on that.
    NotSupported = "not_supported";
    /// The controller has no entity of that id and kind. Ids of other controllers are unknown, too.
    UnknownId = "unknown_id";
    /// The controller has an entity of that id already, of whatever kind.
    DuplicateId = "duplicate_id";
    /// A request of the same id (uuid) waits for its answer.
    DuplicateRequest = "duplicate_request";
    /// No such room.
    UnknownRoom = "unknown_room";
    /// No such peer in the room.
    UnknownPeer = "unknown_peer";
    /// No such call.
    UnknownCall = "unknown_call";
    /// No such stream in the room.
    UnknownStream = "unknown_stream";
    /// The room is there already.
    RoomExists = "room_exists";
    /// `Authenticate` has to come first.
    NotAuthenticated = "not_authenticated";
    /// User and password do not belong together.
    BadCredentials = "bad_credentials";
    /// Too many attempts to authenticate came from there; the reason says for how long it lasts.
    TooManyAttempts = "too_many_attempts";
    /// The user's rights do not go so far.
    NotAllowed = "not_allowed";
    /// A bound of the configuration is reached; the reason names what there is too much of.
    Limit = "limit";
    /// A value is longer than it may be; the reason names it.
    TooBig = "too_big";
    /// The worker has more to do than it can take in; ask again later.
    Overloaded = "overloaded";
    /// The worker did not answer in time.
    Timeout = "timeout";
    /// The worker failed, and with it all it carried.
    WorkerLost = "worker_lost";
    /// The worker (or whoever else was asked) refused; the reason says why.
    Refused = "refused";
    /// The framing is lost; the connection is closed.
    BadFraming = "bad_framing";
    /// More waits to be read by the controller than may; the connection is closed.
    TooSlow = "too_slow";
    /// Too little came in time; the connection is closed.
    Idle = "idle";
    /// There are all the controllers there may be; the connection is closed.
    TooManyControllers = "too_many_controllers";
    /// The server stops; the connection is closed.
    Shutdown = "shutdown";
}

/// A refusal.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}: {reason}", code.as_str())]
pub struct Fault {
    /// For programs.
    pub code: Code,
    /// For people.
    pub reason: String,
}

impl Fault {
    /// A refusal of that code.
    pub fn new(code: Code, reason: impl Into<String>) -> Self {
        Fault { code, reason: reason.into() }
    }

    /// Whether a remote party can bring this about, as opposed to a fault of our own.
    pub fn is_expected(&self) -> bool {
        !matches!(self.code, Code::WorkerLost | Code::Timeout | Code::Overloaded)
    }
}

impl From<ControlError> for Fault {
    fn from(error: ControlError) -> Self {
        let code = match &error {
            ControlError::WorkerLost => Code::WorkerLost,
            ControlError::Timeout => Code::Timeout,
            ControlError::Rejected(_) | ControlError::BadAnswer(_) => Code::Refused,
            ControlError::Overloaded => Code::Overloaded,
            ControlError::Closed => Code::UnknownPeer,
            ControlError::NotAllowed(_) | ControlError::Refused(_) => Code::Refused,
        };
        Fault::new(code, error.to_string())
    }
}

impl From<MoveError> for Fault {
    fn from(error: MoveError) -> Self {
        match error {
            MoveError::Room(error) => error.into(),
            MoveError::Peer(error) => error.into(),
        }
    }
}

impl From<JoinError> for Fault {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Worker(error) => error.into(),
            JoinError::NoWorker => Fault::new(Code::WorkerLost, error.to_string()),
            JoinError::RoomFull | JoinError::ServerFull => Fault::new(Code::Limit, error.to_string()),
            JoinError::DataTooBig => Fault::new(Code::TooBig, error.to_string()),
            JoinError::NameTaken | JoinError::NothingLive | JoinError::BadName(_) => {
                Fault::new(Code::Refused, error.to_string())
            }
        }
    }
}
