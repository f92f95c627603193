//! SIP on the wire (RFC 3261 §7, §20, §25): messages, URIs, header values, read tolerantly and written plainly.
//!
//! Reading takes what real parties send (compact names, folded lines, bare line feeds, odd spacing) and
//! refuses only what has no one meaning. Nothing here knows a transaction or a call.

pub mod auth;
pub mod dns;
pub mod frame;
pub mod message;
pub mod name;
pub mod refusal;
pub mod sdp;
pub mod uri;
pub mod value;
pub mod via;

pub use message::{Headers, Message, Method, Request, Response, WireLimits};
pub use name::NameAddr;
pub use uri::Uri;
