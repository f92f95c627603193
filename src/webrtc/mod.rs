//! WebRTC: from an SDP offer to SRTP keys. Media itself never enters here; see `core::session`.
//!
//! | part | what | RFC |
//! | --- | --- | --- |
//! | [`wire`] | STUN messages | 8489 |
//! | [`session`] | ICE-lite, consent, DTLS, keys | 8445 §2.5, 7675, 6544, 6347, 9147, 5764 |
//! | [`sdp`] | offer and answer | 8866, 8829, 8843, 8840, 9725 |
//!
//! Not done: full ICE (we are always reachable), data channels.

pub mod config;
pub mod error;
pub mod sdp;
pub mod session;
#[cfg(test)]
mod tests;
pub mod wire;

pub use config::{DtlsPolicy, SdpLimits, SessionConfig};
pub use error::{SdpError, WebRtcError};
pub use session::certificate::Certificate;
pub use session::{Factory, WebRtcSession};
