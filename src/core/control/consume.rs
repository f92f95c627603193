//! Consumers of particular tracks, for members that take each track by itself.

use crate::core::capabilities::{Kind, RtpParameters};
use crate::core::control::error::ControlError;
use crate::core::control::handle::Peer;
use crate::core::id::{ConsumerId, ProducerId, TransportId};
use crate::core::peer::Layers;

/// What a member is sent of a track.
#[derive(Clone, Debug, PartialEq)]
pub struct Consumed {
    /// The consumer.
    pub consumer: ConsumerId,
    /// Sound or picture.
    pub kind: Kind,
    /// As it will be sent: of the codecs the party takes the one that fits, with what repairs it.
    pub rtp: RtpParameters,
    /// The track is converted on the way.
    pub converted: bool,
    /// The source is paused.
    pub producer_paused: bool,
    /// The layers that can be chosen from.
    pub layers: Layers,
}

impl Peer {
    /// Sends the party a track of the room by itself: as it is, or converted where the party cannot take it. `rtp`
    /// lists every codec the party takes, and one encoding with its ssrc.
    pub async fn consume(
        &self,
        _transport: TransportId,
        _track: ProducerId,
        _rtp: RtpParameters,
        _paused: bool,
    ) -> Result<Consumed, ControlError> {
        Err(ControlError::NotAllowed("tracks cannot be consumed by themselves yet"))
    }
}
