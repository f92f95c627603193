//! RTP, RTCP and SRTP by offset: parsing, rewriting, history, protection (RFC 3550, 3711, 4585, 4588, 7714, 8285).
//!
//! Everything here takes time as [`MediaTime`](crate::core::time::MediaTime), touches no socket and, once
//! warm, allocates nothing per packet.

pub mod batch;
pub mod bwe;
pub mod clock;
pub mod dependency;
pub mod extension;
pub mod header;
pub mod keys;
pub mod layers;
pub mod mirror;
pub mod path;
pub mod receive;
pub mod rtcp;
pub mod sequence;
pub mod srtp;
pub mod store;
pub mod tone;
mod window;
