//! What can go wrong when the workers' ports and threads are set up.

use std::io;

use crate::core::io::port_owner::PortTaken;

/// Why the pool did not start.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    /// Somebody holds a port.
    #[error(transparent)]
    PortTaken(#[from] PortTaken),
    /// The configured port leaves no room for all workers below 65,536.
    #[error("port {first} leaves no room for {workers} workers; choose a lower one")]
    PortRange {
        /// The first port.
        first: u16,
        /// How many are needed.
        workers: u16,
    },
    /// The configuration names no address to listen on.
    #[error("no address to listen on for media")]
    NothingToListenOn,
    /// The system refused something else.
    #[error("{what}: {answer}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said to it.
        answer: io::Error,
    },
}

impl IoError {
    /// A refusal of the system.
    pub(crate) fn system(what: impl Into<String>, answer: io::Error) -> Self {
        IoError::System { what: what.into(), answer }
    }

    /// Whether a network can cause it: never, these happen at start only.
    pub fn is_expected(&self) -> bool {
        false
    }
}
