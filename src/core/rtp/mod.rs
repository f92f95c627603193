//! RTP, RTCP and SRTP by offset: parsing, rewriting, history, protection (RFC 3550, 3711, 4585, 4588, 7714, 8285).

pub mod batch;
pub mod keys;
pub mod path;
