//! Rooms over WebSocket: clients that negotiate by capabilities join a room, send tracks into it and take
//! others' out of it (mediasoup-client 2 and 3, unmodified). What happens at the other doors appears to them as
//! ordinary peers, and they to the others.
//!
//! | what | where |
//! | --- | --- |
//! | protoo: requests, responses and notifications as JSON | `wire` |
//! | which dialect, room, name and token a URL means | `demux` |
//! | what both dialects have in common: open requests, limits, what is asked of the room | `session` |
//! | the v2 protocol | `session/v2` |
//! | the v3 dialect | `session/v3` |
//! | sockets | `io` |
//!
//! `docs/room-protocol.md` is the reference for clients.

pub mod config;
mod demux;
pub mod error;
pub mod io;
pub mod session;
pub mod wire;

#[cfg(test)]
mod tests;

pub use config::Config;
