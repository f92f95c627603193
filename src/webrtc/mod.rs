//! WebRTC: from an SDP offer to SRTP keys. Media itself never enters here; see `core::session`.
//!
//! | part | what | RFC |
//! | --- | --- | --- |
//! | [`wire`] | STUN messages, data channel establishment | 8489, 8832 |
//! | [`session`] | ICE-lite, consent, DTLS, keys | 8445 §2.5, 7675, 6544, 6347, 9147, 5764 |
//! | [`session`] | data channels: SCTP over DTLS | 8831, 8261, 9260, 3758, 6525 |
//! | [`sdp`] | offer and answer | 8866, 8829, 8843, 8840, 9725 |
//!
//! Not done: full ICE (we are always reachable), message interleaving (RFC 8260).

pub mod config;
pub mod error;
pub mod sdp;
pub mod session;
#[cfg(test)]
mod tests;
pub mod wire;

pub use config::{DtlsPolicy, SctpConfig, SdpLimits, SessionConfig};
pub use error::{SdpError, WebRtcError};
pub use session::certificate::Certificate;
pub use session::{Factory, WebRtcSession};
