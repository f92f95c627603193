//! SRTP and SRTCP (RFC 3711, RFC 7714): one sender and one receiver per transport, one set of session keys
//! for all its streams.
//!
//! | profile | cipher and tag | by |
//! |---|---|---|
//! | AEAD_AES_128_GCM, AEAD_AES_256_GCM | AES-GCM, 16-byte tag | aws-lc, out of place (`gcm`) |
//! | AES128_CM_HMAC_SHA1_80, _32 | AES counter mode, HMAC-SHA1 of 10 or 4 bytes | `aes`, `ctr`, `sha1` with the key's blocks hashed beforehand (`counter`) |
//!
//! Always encrypted and authenticated, no MKI, key derivation rate 0: what DTLS-SRTP uses.

mod counter;
mod derive;
mod gcm;
mod receiver;
mod sender;
mod suite;
#[cfg(test)]
mod tests;

pub use receiver::SrtpReceiver;
pub use sender::SrtpSender;

/// What is wrong with a protected packet, or with keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SrtpError {
    /// Key or salt have the wrong length for the profile.
    #[error("SRTP keys of the wrong length")]
    Keys,
    /// Cut short, or no RTP.
    #[error("malformed SRTP packet")]
    Malformed,
    /// The tag is not right.
    #[error("SRTP authentication failed")]
    Authentication,
    /// Seen before, or too old to tell.
    #[error("SRTP packet replayed")]
    Replay,
    /// More streams than the receiver may hold.
    #[error("too many SRTP streams")]
    TooManyStreams,
    /// The output buffer is too small.
    #[error("no room for the SRTP packet")]
    NoRoom,
    /// The SRTCP index has come to its end: the keys must not be used any more.
    #[error("SRTCP index used up")]
    Exhausted,
}

impl SrtpError {
    /// Whether any network can be expected to send such a thing.
    pub fn is_expected(&self) -> bool {
        !matches!(self, SrtpError::Keys | SrtpError::NoRoom | SrtpError::Exhausted)
    }
}

/// The most bytes protection adds to an RTP packet in any profile.
pub const MAX_RTP_OVERHEAD: usize = 16;
/// The most bytes protection adds to an RTCP packet in any profile.
pub const MAX_RTCP_OVERHEAD: usize = 20;
