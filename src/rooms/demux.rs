//! What a WebSocket's URL means, before anything is said on it: the dialect, the room, the client's name, its
//! token.

#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use serde::Deserialize;

use super::error::Refusal;
use crate::core::room::RoomName;

/// Generations of clients, told apart by how their URL calls the client's name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Dialect {
    /// `peerName`: mediasoup-client 2.
    V2,
    /// `peerId`: mediasoup-client 3.
    V3,
}

/// The query of the URL.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Query {
    room_id: Option<String>,
    peer_name: Option<String>,
    peer_id: Option<String>,
    /// The key or token.
    pub token: Option<String>,
}

/// What the query means.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Target {
    /// The generation of the client.
    pub dialect: Dialect,
    /// The room.
    pub room: RoomName,
    /// What the client calls itself.
    pub peer: String,
}

impl Query {
    /// Reads it; no room has a name in `reserved`.
    pub fn target(&self, reserved: &[&str]) -> Result<Target, Refusal> {
        let (dialect, peer) = match (&self.peer_name, &self.peer_id) {
            (Some(name), None) => (Dialect::V2, name),
            (None, Some(id)) => (Dialect::V3, id),
            (Some(_), Some(_)) => return Err(Refusal::bad("the URL has both peerName (v2) and peerId (v3)")),
            (None, None) => {
                return Err(Refusal::bad("the URL needs peerName (v2 clients) or peerId (v3 clients)"));
            }
        };
        let room = self.room_id.as_deref().ok_or_else(|| Refusal::bad("the URL needs roomId"))?;
        let room = RoomName::new(room, reserved).map_err(|error| Refusal::bad(error.to_string()))?;
        Ok(Target { dialect, room, peer: peer.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(room: Option<&str>, name: Option<&str>, id: Option<&str>) -> Query {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Query { room_id: own(room), peer_name: own(name), peer_id: own(id), token: None }
    }

    #[test]
    fn the_name_tells_the_dialect() {
        let target = query(Some("room"), Some("alice"), None).target(&[]).expect("a target");
        assert_eq!(
            (target.dialect, target.room.as_str(), target.peer.as_str()),
            (Dialect::V2, "room", "alice")
        );
        let target = query(Some("room"), None, Some("x7")).target(&[]).expect("a target");
        assert_eq!((target.dialect, target.peer.as_str()), (Dialect::V3, "x7"));
        for bad in [
            query(None, Some("a"), None),
            query(Some("room"), None, None),
            query(Some("room"), Some("a"), Some("b")),
            query(Some("no/room"), Some("a"), None),
            query(Some("api"), Some("a"), None),
        ] {
            assert_eq!(bad.target(&["api"]).expect_err("refused").code, 400);
        }
    }
}
