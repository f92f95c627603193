//! Parsing and writing of what is on the wire, pure and fuzzed.

pub mod bytes;
pub mod dcep;
pub mod handshake;
pub mod hello;
pub mod record;
pub mod stun;
