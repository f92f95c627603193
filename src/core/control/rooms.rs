//! [`Rooms`]: the doors' way in.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::core::auth::Principal;
use crate::core::control::config::RoomsConfig;
use crate::core::control::error::JoinError;
use crate::core::control::handle::Peer;
use crate::core::convert::Converter;
use crate::core::peer::{CloseReason, PeerKind};
use crate::core::room::{RoomName, RoomSummary};
use crate::core::time::Epoch;

/// Who wants to join which room, and as what.
#[derive(Clone, Debug)]
pub struct Join {
    /// The room; made when it does not exist.
    pub room: RoomName,
    /// By which door.
    pub kind: PeerKind,
    /// A publisher's name within the room; `live` when not given.
    pub name: Option<String>,
    /// Who it is, as far as rights go; already authorised.
    pub principal: Principal,
    /// Where it comes from.
    pub remote: Option<SocketAddr>,
    /// The publisher a viewer wants to see instead of the room's program.
    pub watch: Option<String>,
    /// Whether it sends media.
    pub publishes: bool,
}

/// All rooms of the node; cheap to clone.
#[derive(Clone)]
pub struct Rooms(Arc<()>);

impl Rooms {
    /// No rooms and no workers yet.
    pub fn new(_config: RoomsConfig, _epoch: Epoch, _converter: Option<Arc<dyn Converter>>) -> Self {
        todo!()
    }

    /// Lets somebody into a room. A publisher of the same name and principal is taken over at once.
    pub async fn join(&self, _join: Join) -> Result<Peer, JoinError> {
        todo!()
    }

    /// All rooms, by name.
    pub fn summaries(&self) -> Vec<RoomSummary> {
        todo!()
    }

    /// One room.
    pub fn summary(&self, _room: &RoomName) -> Option<RoomSummary> {
        todo!()
    }

    /// Closes every peer and waits until the workers have seen to it.
    pub async fn close_all(&self, _reason: CloseReason) {
        todo!()
    }
}
