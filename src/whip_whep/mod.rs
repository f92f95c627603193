//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep-03): publishing and watching over WebRTC with one
//! HTTP request.

pub mod config;

pub use config::{Config, IceServer};
