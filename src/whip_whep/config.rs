//! Settings of the WHIP and WHEP doors.

use serde::Deserialize;

/// The `whip_whep` section of the configuration.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Origins whose pages may call us (`Access-Control-Allow-Origin`): `*`, or one origin; default `*`.
    pub allow_origin: String,
    /// Size of an SDP body in bytes; default 65536.
    pub max_body_bytes: usize,
    /// Publishers and viewers in all; default 10000.
    pub max_sessions: usize,
    /// Whether a PATCH without `If-Match` is refused with 428 (RFC 9725 §4.3.1); default true.
    pub require_if_match: bool,
    /// Seconds named by `Retry-After` when nothing is live yet; default 2.
    pub retry_after_s: u32,
    /// Seconds named by `Retry-After` when the room or the server is full; default 10.
    pub retry_after_full_s: u32,
    /// STUN and TURN servers for clients, one `Link` header each; default none.
    pub ice_servers: Vec<IceServer>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            allow_origin: "*".to_owned(),
            max_body_bytes: 64 * 1024,
            max_sessions: 10_000,
            require_if_match: true,
            retry_after_s: 2,
            retry_after_full_s: 10,
            ice_servers: Vec::new(),
        }
    }
}

/// A STUN or TURN server that clients are told of (RFC 9725 §4.6).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct IceServer {
    /// `stun:host:port` or `turn:host:port?transport=udp`.
    pub url: String,
    /// User name, for TURN.
    pub username: Option<String>,
    /// Password, for TURN.
    pub credential: Option<String>,
}
