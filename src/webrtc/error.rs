//! What can go wrong on the way from an offer to keys.

/// Errors of this module.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WebRtcError {
    /// A STUN message that breaks RFC 8489.
    #[error("malformed STUN message: {0}")]
    Stun(&'static str),
    /// A message of data channel establishment that breaks RFC 8832.
    #[error("malformed DCEP message: {0}")]
    Dcep(&'static str),
    /// DTLS broke off.
    #[error("DTLS failed: {0}")]
    Dtls(String),
    /// The certificate file is not one of ours.
    #[error("the DTLS certificate cannot be used: {0}")]
    Certificate(String),
    /// DTLS settings that the library refuses.
    #[error("DTLS settings: {0}")]
    Config(String),
}

impl WebRtcError {
    /// Whether a remote party alone can cause it.
    pub fn is_expected(&self) -> bool {
        matches!(self, WebRtcError::Stun(_) | WebRtcError::Dcep(_) | WebRtcError::Dtls(_))
    }
}

/// Why an offer is refused, in words for the person behind the encoder.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SdpError {
    /// Longer than `webrtc.sdp.max_bytes`, or too many lines.
    #[error("the offer is too large: {0}")]
    TooLarge(String),
    /// It cannot be read as SDP.
    #[error("the offer is not valid SDP: {0}")]
    Malformed(String),
    /// A part that WebRTC needs is missing.
    #[error("the offer {0}")]
    Missing(String),
    /// It can be read, but nothing in it can be used.
    #[error("{0}")]
    NotAcceptable(String),
}

impl SdpError {
    /// The HTTP status: 400 for what cannot be read, 406 for what cannot be used, 413 for what is too large.
    pub fn status(&self) -> u16 {
        match self {
            SdpError::TooLarge(_) => 413,
            SdpError::Malformed(_) | SdpError::Missing(_) => 400,
            SdpError::NotAcceptable(_) => 406,
        }
    }

    /// Always: an offer comes from outside.
    pub fn is_expected(&self) -> bool {
        true
    }
}
