//! What joins the adapters to rooms and rights: the RTMP door.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::core::auth::{Action, Authority};
use crate::core::control::{Join, JoinError, Peer, Rooms};
use crate::core::id::{ConnId, Pii};
use crate::core::peer::{CloseReason, PeerKind};
use crate::core::room::RoomName;
use crate::core::session::Session;
use crate::http;
use crate::rtmp::io::{Admission, RtmpDoor};
use crate::rtmp::{Reject, Target};

/// Asks rights and rooms for those who publish over RTMP.
pub(super) struct RtmpPublish {
    pub authority: Arc<Authority>,
    pub rooms: Rooms,
}

impl RtmpDoor for RtmpPublish {
    type Admission = Place;

    async fn publish(&self, target: Target, remote: SocketAddr) -> Result<Place, Reject> {
        let admitted = self.admit(target, remote).await;
        if let Err(reject) = &admitted {
            tracing::info!(remote = %Pii(remote), "turned an RTMP publisher away: {}", reject.text());
        }
        admitted
    }
}

impl RtmpPublish {
    async fn admit(&self, target: Target, remote: SocketAddr) -> Result<Place, Reject> {
        let room =
            RoomName::new(&target.room, http::RESERVED).map_err(|error| Reject::Denied(error.to_string()))?;
        let principal = self.authority.identify(target.key.as_deref()).map_err(|_| Reject::BadAuth)?;
        let allowed = self.authority.authorise(&principal, Action::Publish, room.as_str());
        allowed.map_err(|_| Reject::BadAuth)?;
        let join = Join {
            name: target.name,
            remote: Some(remote),
            publishes: true,
            ..Join::new(room, PeerKind::Rtmp, principal)
        };
        self.rooms.join(join).await.map(Place).map_err(|error| match error {
            JoinError::NameTaken => Reject::BadName,
            JoinError::RoomFull | JoinError::ServerFull => Reject::ServerFull,
            other => Reject::Denied(other.to_string()),
        })
    }
}

/// A peer that waits for its session.
pub(super) struct Place(Peer);

impl Admission for Place {
    fn conn(&self) -> ConnId {
        self.0.conn()
    }

    async fn adopt(self, session: Box<dyn Session>, socket: OwnedFd) -> Result<(), String> {
        match self.0.adopt(session, Some(socket)).await {
            Ok(_) => Ok(()),
            Err(error) => {
                self.0.close(CloseReason::new("error", error.to_string())).await;
                Err(error.to_string())
            }
        }
    }

    async fn abandon(self) {
        self.0.close(CloseReason::left()).await;
    }
}
