//! What can go wrong with the listener itself, as opposed to with a request.

use std::path::PathBuf;

/// Why the listener could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate or key file could not be read.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system or the PEM reader said.
        reason: String,
    },
    /// A certificate and key that do not belong together, or a key of an unknown kind.
    #[error("the certificate in {path} cannot be used: {reason}")]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// What the TLS library said.
        reason: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a self-signed certificate: {0}")]
    SelfSigned(#[from] rcgen::Error),
    /// The TLS library refused its settings.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The system refused something about a listening socket.
    #[error("listening for HTTP: {0}")]
    Listen(#[from] std::io::Error),
}

impl Error {
    /// Whether the network or its users cause this in the ordinary course of things: never, all of
    /// these are the operator's to mend.
    pub fn is_expected(&self) -> bool {
        false
    }
}
