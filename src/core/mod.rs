//! The core: forwards RTP between producers and consumers on pinned worker threads and is asked for
//! everything through one control protocol. It names no adapter and no codec library.
//!
//! Bottom to top: `id, time → rtp → payload → capabilities, profile → session → producer, consumer →
//! router → transport, peer, room → worker → control → io` (held by `tests/integration/layering.rs`).

pub mod auth;
pub mod base64;
pub mod capabilities;
pub mod consumer;
pub mod control;
pub mod convert;
pub mod data;
pub mod egress;
pub mod id;
pub mod io;
pub mod lane;
pub mod mail;
pub mod message;
pub mod observer;
pub mod origins;
pub mod payload;
pub mod peer;
pub mod plain;
pub mod producer;
pub mod profile;
pub mod room;
pub mod router;
pub mod rtp;
pub mod session;
pub mod time;
pub mod transport;
pub mod worker;
