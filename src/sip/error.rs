//! What can be wrong with a SIP message or a session description.

/// A text could not be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WireError {
    /// A bound of the configuration was passed.
    #[error("too large: {0}")]
    TooLarge(&'static str),
    /// The first line is neither a request nor a response of SIP/2.0.
    #[error("the first line is none of SIP")]
    StartLine,
    /// The version is not SIP/2.0.
    #[error("another version than SIP/2.0")]
    Version,
    /// A header line cannot be read.
    #[error("a header line cannot be read")]
    Header,
    /// A header that every message has is missing or cannot be read.
    #[error("{0} is missing or cannot be read")]
    Missing(&'static str),
    /// The body is shorter than Content-Length says.
    #[error("the body is shorter than Content-Length says")]
    Short,
    /// A URI cannot be read.
    #[error("a URI cannot be read")]
    Uri,
    /// A session description cannot be read.
    #[error("the session description cannot be read: {0}")]
    Sdp(String),
}

impl WireError {
    /// Whether a remote party can bring this about: always so.
    pub fn is_expected(&self) -> bool {
        true
    }
}

/// SIP could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SipError {
    /// A listener could not be opened.
    #[error("cannot listen for SIP on {0}: {1}")]
    Listen(String, std::io::Error),
    /// The configuration contradicts itself.
    #[error("sip: {0}")]
    Config(String),
    /// A certificate or key could not be used.
    #[error("sip.tls: {0}")]
    Tls(String),
}
