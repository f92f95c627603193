//! Viaduct: a multi-protocol media gateway. See `ARCHITECTURE.md` for the shape and the words.

pub mod bench;
pub mod bridge;
pub mod config;
pub mod core;
pub mod fuzzing;
pub mod http;
pub mod rooms;
pub mod rtmp;
pub mod server;
pub mod sip;
pub mod webrtc;
pub mod whip_whep;
