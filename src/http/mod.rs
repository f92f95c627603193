//! The one HTTP(S) listener: pages, the JSON that they read, and whatever routes others hand in
//! (WHIP and WHEP). HTTP/1.1 (RFC 9112), TLS 1.2 and 1.3.
//!
//! | what | where |
//! | --- | --- |
//! | listener, limits, TLS with reload | `io` |
//! | pages, embedded from `web/` | `pages` |
//! | `/api/server`, `/healthz` | `api` |
//! | `/api/rooms`, `/api/calls`, `/api/openapi.json` | `manage` |
//! | controllers over WebSocket at `/control` | `io::control` |
//! | the control protocol's requests at `/api/control/<method>`, its events at `/api/events` | `io::methods` |
//! | self-signed certificate for `--dev` | `tls` |

pub mod api;
pub mod config;
pub mod error;
pub mod io;
pub mod manage;
pub mod pages;
mod plain;
pub mod tls;

#[cfg(test)]
mod tests;

pub use api::Facts;
pub use config::{Config, TlsFiles};
pub use error::Error;

/// First path segments that are ours: no room may be called so. Compared without case.
pub const RESERVED: &[&str] = &[
    "api",
    "apple-touch-icon.png",
    "assets",
    "control",
    "docs",
    "favicon.ico",
    "favicon.svg",
    "healthz",
    "hls",
    "index.html",
    "live",
    "login",
    "manifest.json",
    "metrics",
    "moq",
    "new",
    "publish",
    "readyz",
    "robots.txt",
    "rtc",
    "sip",
    "static",
    "status",
    "watch",
    "whep",
    "whip",
    "ws",
];

/// The pages as a router; `server` merges the API and the other adapters' routers into it before it goes to
/// [`io::serve`].
pub fn router(facts: Facts) -> axum::Router {
    api::router(facts).merge(pages::router())
}
