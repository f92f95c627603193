//! What can go wrong between the main thread and a worker, and at a room's door.

/// A request to a worker failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ControlError {
    /// The worker is gone, and with it all it carried.
    #[error("the worker failed")]
    WorkerLost,
    /// The worker did not answer in time.
    #[error("request timeout")]
    Timeout,
    /// The worker refused; the reason is its own.
    #[error("{0}")]
    Rejected(String),
    /// Too many requests, or too much mail, wait for the worker.
    #[error("the worker is overloaded")]
    Overloaded,
    /// The peer is closed already.
    #[error("the peer is closed")]
    Closed,
    /// The worker's answer was not understood.
    #[error("the worker's answer was not understood: {0}")]
    BadAnswer(String),
    /// The peer may not do this, or not so often.
    #[error("{0}")]
    NotAllowed(&'static str),
    /// It cannot be done for this peer; why is for people.
    #[error("{0}")]
    Refused(String),
}

impl ControlError {
    /// Whether a remote party can bring this about, as opposed to a fault of our own.
    pub fn is_expected(&self) -> bool {
        matches!(
            self,
            ControlError::Closed
                | ControlError::Rejected(_)
                | ControlError::NotAllowed(_)
                | ControlError::Refused(_)
        )
    }
}

/// Why somebody was not moved to another room.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MoveError {
    /// The other room does not take it.
    #[error(transparent)]
    Room(#[from] JoinError),
    /// It is not there, or cannot be moved.
    #[error(transparent)]
    Peer(#[from] ControlError),
}

/// Why somebody was not let into a room.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JoinError {
    /// Another party publishes under this name.
    #[error("somebody else publishes under this name in this room")]
    NameTaken,
    /// Nobody publishes there (or not the publisher that was asked for).
    #[error("nothing is live in this room yet")]
    NothingLive,
    /// The room has all the peers it may have.
    #[error("the room is full")]
    RoomFull,
    /// The server has all the rooms it may have.
    #[error("the server is full")]
    ServerFull,
    /// More data of the application than a peer may have.
    #[error("the application's data is too big")]
    DataTooBig,
    /// The publisher's name will not do.
    #[error("{0}")]
    BadName(String),
    /// No worker is running.
    #[error("no worker is running")]
    NoWorker,
    /// The worker did not make the room.
    #[error("the room could not be made: {0}")]
    Worker(#[from] ControlError),
}
