//! The built-in clip in the room `demo`, put back whenever its worker is lost.

use std::time::{Duration, Instant};

use crate::bridge::clip::ClipSession;
use crate::core::auth::Principal;
use crate::core::control::{Join, Peer, Rooms};
use crate::core::peer::PeerKind;
use crate::core::room::RoomName;
use crate::core::time::Epoch;

use super::banner::DEMO;

/// How long to wait before another try.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps the clip playing for as long as it is polled.
pub(super) async fn play(rooms: Rooms, epoch: Epoch) {
    loop {
        match begin(&rooms, epoch).await {
            Ok(peer) => {
                let reason = peer.closed().await;
                tracing::debug!(conn = %peer.conn(), "the demo clip ended: {reason}");
            }
            Err(error) => tracing::warn!("the demo clip does not play: {error:#}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn begin(rooms: &Rooms, epoch: Epoch) -> anyhow::Result<Peer> {
    let join = Join {
        name: Some("clip".into()),
        publishes: true,
        ..Join::new(RoomName::new(DEMO, &[])?, PeerKind::Clip, Principal::internal())
    };
    let peer = rooms.join(join).await?;
    peer.adopt(Box::new(ClipSession::new(epoch, Instant::now())), None).await?;
    Ok(peer)
}
