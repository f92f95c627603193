//! Consumers of particular tracks, for members that take each track by itself: what of a track such a member gets,
//! and what becomes of it when the track pauses or ends.

use std::collections::BTreeSet;

use crate::core::capabilities::{Kind, RtpParameters, select};
use crate::core::control::error::ControlError;
use crate::core::control::feeds::NewFeed;
use crate::core::control::handle::{Peer, answer};
use crate::core::control::jobs::unsupported;
use crate::core::control::peer_events::PeerEvent;
use crate::core::control::publish::Pending;
use crate::core::control::state::State;
use crate::core::convert::Format;
use crate::core::id::{ConnId, ConsumerId, ProducerId, TransportId};
use crate::core::peer::{CloseReason, Follows, Layers, Refused, Source, Track};

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
        transport: TransportId,
        track: ProducerId,
        rtp: RtpParameters,
        paused: bool,
    ) -> Result<Consumed, ControlError> {
        let ask = |state: &mut State| state.consume_track(self.conn(), transport, track, rtp, paused);
        let (consumed, pending) = self.rooms().step(ask)?;
        answer(pending).await?;
        Ok(consumed)
    }
}

impl State {
    pub fn consume_track(
        &mut self,
        conn: ConnId,
        transport: TransportId,
        track: ProducerId,
        rtp: RtpParameters,
        paused: bool,
    ) -> Result<(Consumed, Pending), ControlError> {
        let room = self.members.get(&conn).map(|entry| &entry.room).ok_or(ControlError::Closed)?;
        let known = self.track(track).filter(|(_, track)| track.ready);
        let here = known.filter(|(owner, _)| self.members.get(owner).is_some_and(|it| it.room == *room));
        let (_, source) = here.ok_or(ControlError::NotAllowed("there is no such track in this room"))?;
        let (rtp, converted) = self.suit(&source.format, rtp)?;
        let (kind, producer_paused) = (source.format.kind, source.is_paused());
        let layers = if converted { Layers::Simple } else { source.layers };
        let accepts = rtp.codecs.iter().filter(|codec| !codec.is_feature()).cloned().collect();
        let feed = NewFeed { transport, kind, follows: Follows::Track(track), accepts, paused };
        let (consumer, pending) = self.add_feed(conn, feed, &rtp)?;
        if let Some(track) = self.track_mut(track) {
            track.takers.insert((conn, consumer));
        }
        Ok((Consumed { consumer, kind, rtp, converted, producer_paused, layers }, pending))
    }

    /// What a party that takes `rtp` is sent of a track, and whether that is a conversion.
    fn suit(&self, format: &Format, mut rtp: RtpParameters) -> Result<(RtpParameters, bool), ControlError> {
        let accepts: Vec<_> = rtp.codecs.iter().filter(|codec| !codec.is_feature()).cloned().collect();
        let as_it_is = select(&accepts, &format.codec).filter(|_| !format.reordered);
        let target = || self.converter.as_ref().and_then(|converter| converter.target(format, &accepts));
        let chosen = match as_it_is {
            Some(codec) => Some((codec.payload_type, false)),
            None => {
                target().and_then(|to| select(&accepts, &to.codec).map(|codec| (codec.payload_type, true)))
            }
        };
        let (number, converted) =
            chosen.ok_or_else(|| ControlError::Refused(unsupported(format, &accepts).to_string()))?;
        rtp.codecs.retain(|codec| codec.payload_type == number || codec.apt() == Some(number));
        if !rtp.codecs.iter().any(|codec| codec.apt().is_some()) {
            rtp.encodings.iter_mut().for_each(|encoding| encoding.rtx = None);
        }
        Ok((rtp, converted))
    }

    /// What a consumer of a track should be fed from; starts a conversion or a pipe where it is missing.
    pub fn track_source(
        &mut self,
        conn: ConnId,
        consumer: ConsumerId,
        track: ProducerId,
    ) -> Result<Option<Source>, Refused> {
        let Some(entry) = self.members.get(&conn) else { return Ok(None) };
        let Some(feed) = entry.peer.feeds.iter().find(|feed| feed.consumer == consumer) else {
            return Ok(None);
        };
        let (name, router, accepts) = (entry.room.clone(), feed.router, feed.accepts.clone());
        let Some((owner, source)) = self.track(track) else { return Ok(None) };
        let format = source.format.clone();
        self.direct_source(&name, router, owner, (track, &format), &accepts).map(Some)
    }

    /// A track and whose it is.
    pub fn track(&self, producer: ProducerId) -> Option<(ConnId, &Track)> {
        let owner = *self.owners.get(&producer)?;
        let tracks = &self.members.get(&owner)?.peer.tracks;
        Some((owner, tracks.iter().find(|track| track.producer == producer)?))
    }

    pub fn track_mut(&mut self, producer: ProducerId) -> Option<&mut Track> {
        let owner = self.owners.get(&producer)?;
        let tracks = &mut self.members.get_mut(owner)?.peer.tracks;
        tracks.iter_mut().find(|track| track.producer == producer)
    }

    /// Looks again at what those get who take a track by itself.
    pub fn point_takers(&mut self, producer: ProducerId) {
        let Some((_, track)) = self.track(producer) else { return };
        for (conn, consumer) in track.takers.clone() {
            self.point(conn, consumer);
        }
    }

    /// A track ended: so do the consumers of it.
    pub fn close_takers(&mut self, takers: BTreeSet<(ConnId, ConsumerId)>) {
        for (conn, consumer) in takers {
            self.drop_feed(conn, consumer);
            self.tell_peer(conn, PeerEvent::ConsumerClosed { consumer, reason: CloseReason::track_ended() });
        }
    }

    /// Tells those who take a track by itself that it pauses or goes on.
    pub fn tell_takers(&mut self, producer: ProducerId, paused: bool) {
        let Some((_, track)) = self.track(producer) else { return };
        for &(conn, consumer) in &track.takers {
            let event = match paused {
                true => PeerEvent::ConsumerPaused { consumer },
                false => PeerEvent::ConsumerResumed { consumer },
            };
            self.tell_peer(conn, event);
        }
    }
}
