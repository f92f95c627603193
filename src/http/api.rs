//! The JSON that the pages read.

use std::sync::Arc;

use axum::Router;
use serde::Serialize;
use serde_json::Value;

/// What the pages tell a person about this server. Ports, never addresses: a page takes the host from
/// its own location, which is the address that works for whoever reads it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    /// Version of the program.
    pub version: String,
    /// Port of the RTMP listener, if it runs.
    pub rtmp_port: Option<u16>,
    /// Port of the listener that speaks HTTPS, if one does.
    pub https_port: Option<u16>,
    /// Port of the listener that speaks plain HTTP, if one does.
    pub http_port: Option<u16>,
    /// Where the operator finds the publish key, in words ("printed at start in the terminal" or the
    /// path of the file that holds it). Never the key.
    pub key_hint: String,
    /// The room with the built-in picture, if it plays.
    pub demo_room: Option<String>,
}

/// The rooms as the API shows them.
pub trait RoomIndex: Send + Sync + 'static {
    /// Every room that the bearer of `token` may watch.
    fn rooms(&self, token: Option<&str>) -> Vec<Value>;
    /// One room, if it exists and the bearer of `token` may watch it.
    fn room(&self, name: &str, token: Option<&str>) -> Option<Value>;
}

pub(super) fn router(facts: Facts, rooms: impl RoomIndex) -> Router {
    let _ = (facts, Arc::new(rooms));
    Router::new()
}
