//! What can go wrong on an RTMP connection, and how a publisher is turned away.

/// Why a connection ended before its time.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RtmpError {
    /// The first byte is not RTMP's; the text names what it looks like.
    #[error("not RTMP: {0}")]
    NotRtmp(&'static str),
    /// A message is longer than allowed.
    #[error("a message of {size} bytes is over the limit of {limit}")]
    MessageTooLong {
        /// Announced length.
        size: usize,
        /// `max_message_bytes`.
        limit: usize,
    },
    /// Too many chunk streams are in use.
    #[error("more than {0} chunk streams")]
    TooManyChunkStreams(usize),
    /// Begun messages hold too many bytes.
    #[error("more than {0} bytes in unfinished messages")]
    TooManyPartialBytes(usize),
    /// A header that refers to the one before, on a chunk stream that had none.
    #[error("chunk stream {0} begins without a full header")]
    NoPreviousHeader(u32),
    /// A chunk size of nothing.
    #[error("chunk size {0} is not allowed")]
    BadChunkSize(u32),
    /// Too many bytes came before `publish`.
    #[error("more than {0} bytes before publishing")]
    TooMuchBeforePublish(usize),
    /// AMF0 that breaks its own rules or our bounds.
    #[error("bad AMF0: {0}")]
    Amf(&'static str),
    /// A message too short for its type.
    #[error("a message of type {0} is too short")]
    Truncated(u8),
    /// Commands in an order that means nothing.
    #[error("{0}")]
    BadOrder(&'static str),
    /// An address that is none.
    #[error("this is no RTMP address: {0}")]
    BadUrl(&'static str),
    /// TLS failed.
    #[error("TLS: {0}")]
    Tls(String),
}

impl RtmpError {
    /// Whether a network can be expected to bring this about without anybody's program being wrong:
    /// true for all, since every one is the remote party's doing.
    pub fn is_expected(&self) -> bool {
        true
    }
}

/// Why a publisher is turned away; each becomes the status its encoder understands best.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reject {
    /// The room's or the publisher's name cannot be, or somebody else has it.
    BadName,
    /// The publish key is missing or wrong.
    BadAuth,
    /// Not allowed; the text says why, for the person at the encoder.
    Denied(String),
    /// There is no such room.
    NotFound,
    /// No more publishers can be taken.
    ServerFull,
}

impl Reject {
    /// The status code of RTMP.
    pub fn code(&self) -> &'static str {
        match self {
            Reject::BadName | Reject::NotFound => "NetStream.Publish.BadName",
            Reject::BadAuth | Reject::Denied(_) => "NetStream.Publish.Denied",
            Reject::ServerFull => "NetConnection.Connect.Rejected",
        }
    }

    /// The sentence for the person at the encoder.
    pub fn text(&self) -> &str {
        match self {
            Reject::BadName => "this name is not allowed or is taken by another publisher",
            Reject::BadAuth => "the publish key is missing or wrong",
            Reject::Denied(text) => text,
            Reject::NotFound => "there is no such room",
            Reject::ServerFull => "the server takes no more publishers",
        }
    }
}
