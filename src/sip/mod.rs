//! SIP: telephones, trunks and PBXs join rooms (RFC 3261 and company).
//!
//! | part | what is done |
//! |---|---|
//! | wire | messages, URIs, digest, session descriptions |

pub mod config;
pub mod demux;
pub mod egress;
pub mod error;
pub mod ingress;
pub mod io;
pub mod session;
pub mod wire;

pub use config::SipConfig;
pub use error::{SipError, WireError};

#[cfg(test)]
mod tests;
