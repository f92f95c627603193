//! Parsing and writing of what is on the wire, pure and fuzzed.

pub mod hello;
pub mod stun;
