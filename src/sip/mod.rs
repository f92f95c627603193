//! SIP: telephones, trunks and PBXs join rooms (RFC 3261 and company).
//!
//! | part | what is done |
//! |---|---|
//! | transports | UDP, TCP, TLS (both directions), WebSocket (RFC 7118, inbound); rport; keepalives stripped |
//! | transactions | on `rsipstack`, behind `io/stack.rs`; 2xx are acknowledged by the call |
//! | servers | NAPTR and SRV (RFC 3263) with failover, proxies, TLS with certificates checked and shown |
//! | calls in | peer address or digest, dispatch rules, PIN with prompts, delayed offers, reliable ringing (RFC 3262) |
//! | calls out | outbound rules, several numbers at once, forking, digest (MD5, SHA-256, auth-int), early media, PRACK, CANCEL, ringback into the room, redirections that the rules allow |
//! | established | re-INVITE, UPDATE, hold both ways, session timers (RFC 4028), glare, INFO keys and keyframes, BYE with Reason |
//! | transfers | REFER in (blind, attended) and out, NOTIFY |
//! | registrations | ours at trunks with backoff; phones here with expiry, Path, several contacts |
//! | media | G.711, G.722, Opus, telephone-event, CN, H.264; RTP/AVP(F), SDES (RFC 4568), ICE with DTLS-SRTP |
//! | not done | GRUU, connecting to WebSocket servers |
//!
//! `session` holds calls and registrations as values, `demux` finds whose a message is, `ingress` and `egress`
//! are the rules, `io` moves bytes and media.

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
