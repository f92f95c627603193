//! What a door may ask of its peer's own transports, tracks and consumers while they live.

use std::num::NonZeroU8;

use futures_channel::oneshot;
use serde_json::{Value, json};

use crate::core::control::error::ControlError;
use crate::core::control::events::{PeerInfo, RoomEvent};
use crate::core::control::handle::{Peer, answer};
use crate::core::control::peer_events::PeerEvent;
use crate::core::control::publish::Pending;
use crate::core::control::state::{Reply, State, on_consumer, on_producer, on_transport};
use crate::core::id::{ConnId, ConsumerId, ProducerId, TransportId};
use crate::core::message::Method;
use crate::core::peer::{CloseReason, Track};
use crate::core::profile::Profile;

impl Peer {
    /// Gives it another name for people.
    pub async fn rename(&self, display_name: Option<String>) -> Result<(), ControlError> {
        self.rooms().step(|state| state.rename(self.conn(), display_name))
    }

    /// Closes one of its transports, with what it carries; the peer stays.
    pub async fn close_transport(&self, transport: TransportId) -> Result<(), ControlError> {
        answer(self.rooms().step(|state| state.close_one_transport(self.conn(), transport))?).await.map(drop)
    }

    /// A transport's statistics, as the worker tells them.
    pub async fn transport_stats(&self, transport: TransportId) -> Result<Value, ControlError> {
        self.ask_own_transport(transport, Method::TransportGetStats, json!({})).await
    }

    /// A transport's state, as the worker tells it.
    pub async fn dump_transport(&self, transport: TransportId) -> Result<Value, ControlError> {
        self.ask_own_transport(transport, Method::TransportDump, json!({})).await
    }

    /// Bounds what the party is asked to send at most on a transport, in bits a second.
    pub async fn set_max_bitrate(&self, transport: TransportId, bitrate: u64) -> Result<(), ControlError> {
        let data = json!({"bitrate": bitrate});
        self.ask_own_transport(transport, Method::TransportSetMaxBitrate, data).await.map(drop)
    }

    /// Ends one of its tracks; the transport stays.
    pub async fn close_producer(&self, producer: ProducerId) -> Result<(), ControlError> {
        self.rooms().step(|state| {
            let producer = state.track_of(self.conn(), producer)?;
            state.drop_track(self.conn(), producer);
            Ok(())
        })
    }

    /// What the party sends is forwarded no more.
    pub async fn pause_producer(&self, producer: ProducerId) -> Result<(), ControlError> {
        let ask = |state: &mut State| state.pause_track(self.conn(), producer, |track| track.paused = true);
        answer(self.rooms().step(ask)?).await.map(drop)
    }

    /// What the party sends is forwarded again.
    pub async fn resume_producer(&self, producer: ProducerId) -> Result<(), ControlError> {
        let ask = |state: &mut State| state.pause_track(self.conn(), producer, |track| track.paused = false);
        answer(self.rooms().step(ask)?).await.map(drop)
    }

    /// A track's statistics, as the worker tells them.
    pub async fn producer_stats(&self, producer: ProducerId) -> Result<Value, ControlError> {
        self.ask_producer(producer, Method::ProducerGetStats, json!({})).await
    }

    /// A track's state, as the worker tells it.
    pub async fn dump_producer(&self, producer: ProducerId) -> Result<Value, ControlError> {
        self.ask_producer(producer, Method::ProducerDump, json!({})).await
    }

    /// Ends what it is sent by one consumer; the transport stays.
    pub async fn close_consumer(&self, consumer: ConsumerId) -> Result<(), ControlError> {
        self.rooms().step(|state| {
            state.check_feed(self.conn(), consumer)?;
            state.drop_feed(self.conn(), consumer);
            Ok(())
        })
    }

    /// The party is sent nothing more.
    pub async fn pause_consumer(&self, consumer: ConsumerId) -> Result<(), ControlError> {
        self.ask_consumer(consumer, Method::ConsumerPause, json!({})).await.map(drop)
    }

    /// The party is sent the track, or the program, again.
    pub async fn resume_consumer(&self, consumer: ConsumerId) -> Result<(), ControlError> {
        self.ask_consumer(consumer, Method::ConsumerResume, json!({})).await.map(drop)
    }

    /// The party asked for a keyframe by its signalling.
    pub async fn request_keyframe(&self, consumer: ConsumerId) -> Result<(), ControlError> {
        self.ask_consumer(consumer, Method::ConsumerRequestKeyFrame, json!({})).await.map(drop)
    }

    /// The best quality the party wants of a track.
    pub async fn set_preferred_profile(
        &self,
        consumer: ConsumerId,
        profile: Profile,
    ) -> Result<(), ControlError> {
        let data = json!({"profile": profile});
        self.ask_consumer(consumer, Method::ConsumerSetPreferredProfile, data).await.map(drop)
    }

    /// The layers the party wants of a track.
    pub async fn set_preferred_layers(
        &self,
        consumer: ConsumerId,
        spatial: u8,
        temporal: Option<u8>,
    ) -> Result<(), ControlError> {
        let mut data = json!({"spatialLayer": spatial});
        if let (Some(temporal), Some(map)) = (temporal, data.as_object_mut()) {
            map.insert("temporalLayer".into(), temporal.into());
        }
        self.ask_consumer(consumer, Method::XConsumerSetPreferredLayers, data).await.map(drop)
    }

    /// How much a consumer counts where the party's path does not take all.
    pub async fn set_priority(&self, consumer: ConsumerId, priority: NonZeroU8) -> Result<(), ControlError> {
        self.ask_consumer(consumer, Method::XConsumerSetPriority, json!({"priority": priority}))
            .await
            .map(drop)
    }

    /// A consumer's statistics, as the worker tells them.
    pub async fn consumer_stats(&self, consumer: ConsumerId) -> Result<Value, ControlError> {
        self.ask_consumer(consumer, Method::ConsumerGetStats, json!({})).await
    }

    /// A consumer's state, as the worker tells it.
    pub async fn dump_consumer(&self, consumer: ConsumerId) -> Result<Value, ControlError> {
        self.ask_consumer(consumer, Method::ConsumerDump, json!({})).await
    }

    async fn ask_own_transport(
        &self,
        transport: TransportId,
        method: Method,
        data: Value,
    ) -> Result<Value, ControlError> {
        let ask = |state: &mut State| state.ask_transport(self.conn(), transport, method, data);
        answer(self.rooms().step(ask)?).await
    }

    async fn ask_producer(
        &self,
        producer: ProducerId,
        method: Method,
        data: Value,
    ) -> Result<Value, ControlError> {
        let ask = |state: &mut State| state.ask_track(self.conn(), producer, method, data);
        answer(self.rooms().step(ask)?).await
    }

    pub(super) async fn ask_consumer(
        &self,
        consumer: ConsumerId,
        method: Method,
        data: Value,
    ) -> Result<Value, ControlError> {
        let ask = |state: &mut State| state.ask_feed(self.conn(), consumer, method, data);
        answer(self.rooms().step(ask)?).await
    }
}

/// The answer to what is so already.
pub(super) fn done() -> Pending {
    let (waiter, pending) = oneshot::channel();
    // The other end is in our hands.
    drop(waiter.send(Ok(Value::Null)));
    pending
}

impl State {
    /// Another name for people, of which the others are told.
    pub fn rename(&mut self, conn: ConnId, display_name: Option<String>) -> Result<(), ControlError> {
        if display_name.as_ref().is_some_and(|name| name.len() > self.config.max_app_data_bytes) {
            return Err(ControlError::NotAllowed("the name is too long"));
        }
        let Some(entry) = self.members.get_mut(&conn) else { return Err(ControlError::Closed) };
        entry.peer.display_name = display_name;
        let (room, spy, info) = (entry.room.clone(), entry.peer.spy, PeerInfo::of(&entry.peer));
        self.emit_of(&room, spy, || RoomEvent::PeerChanged(info));
        Ok(())
    }

    /// The number by which the room knows a track of a peer that is called so.
    pub fn track_of(&mut self, conn: ConnId, producer: ProducerId) -> Result<ProducerId, ControlError> {
        let track = self.member(conn)?.track_called(producer).map(|track| track.producer);
        track.ok_or(ControlError::NotAllowed("that is no track of this peer"))
    }

    /// Whether a peer has a consumer.
    pub fn check_feed(&mut self, conn: ConnId, consumer: ConsumerId) -> Result<(), ControlError> {
        match self.member(conn)?.feeds.iter().any(|feed| feed.consumer == consumer) {
            true => Ok(()),
            false => Err(ControlError::NotAllowed("that is no consumer of this peer")),
        }
    }

    /// Asks a consumer of a peer something.
    pub fn ask_feed(
        &mut self,
        conn: ConnId,
        consumer: ConsumerId,
        method: Method,
        data: Value,
    ) -> Result<Pending, ControlError> {
        self.check_feed(conn, consumer)?;
        let feed = self.feed_mut(conn, consumer).ok_or(ControlError::Closed)?;
        let (worker, internal) = (feed.worker, on_consumer(feed.router, consumer));
        let (waiter, pending) = oneshot::channel();
        self.ask(worker, method, internal, data, Reply::Value(waiter));
        Ok(pending)
    }

    /// Asks a track of a peer something.
    pub fn ask_track(
        &mut self,
        conn: ConnId,
        producer: ProducerId,
        method: Method,
        data: Value,
    ) -> Result<Pending, ControlError> {
        let track = self.member(conn)?.track_called(producer);
        let (sent, transport) = track
            .map(|track| (track.sent, track.transport))
            .ok_or(ControlError::NotAllowed("that is no track of this peer"))?;
        let (router, worker) = self.place(conn, transport)?;
        let internal = on_producer(router, sent);
        let (waiter, pending) = oneshot::channel();
        self.ask(worker, method, internal, data, Reply::Value(waiter));
        Ok(pending)
    }

    /// What holds a track back changes: tells the worker, those who take it, those who watch.
    pub fn pause_track(
        &mut self,
        conn: ConnId,
        producer: ProducerId,
        change: impl FnOnce(&mut Track),
    ) -> Result<Pending, ControlError> {
        let producer = self.track_of(conn, producer)?;
        let track = self.track_mut(producer).ok_or(ControlError::Closed)?;
        let before = track.is_paused();
        change(track);
        let paused = track.is_paused();
        if paused == before {
            return Ok(done());
        }
        let method = if paused { Method::ProducerPause } else { Method::ProducerResume };
        let pending = self.ask_track(conn, producer, method, json!({}))?;
        self.emit_track(conn, producer, RoomEvent::TrackChanged);
        self.tell_takers(producer, paused);
        let Some(room) = self.members.get(&conn).map(|entry| entry.room.clone()) else { return Ok(pending) };
        if paused {
            self.unheard(&room, producer);
        }
        // Another track may stand for it now, or somebody else be heard and seen.
        self.refresh(&room);
        Ok(pending)
    }

    /// A transport ended on the worker's side, and its peer stays: so ends what it carried.
    pub fn drop_carried(&mut self, conn: ConnId, transport: TransportId, reason: &CloseReason) {
        let Some(entry) = self.members.get_mut(&conn) else { return };
        let room = entry.room.clone();
        let feeds = entry.peer.feeds.iter().filter(|feed| feed.transport == transport);
        let consumers: Vec<ConsumerId> = feeds.map(|feed| feed.consumer).collect();
        let mut tracks: Vec<Track> =
            entry.peer.tracks.extract_if(.., |it| it.transport == transport).collect();
        tracks.iter_mut().for_each(|track| self.track_gone(&room, conn, track));
        if !tracks.is_empty() {
            self.refresh(&room);
        }
        for track in tracks {
            self.end_derived(&room, track.producer);
            self.end_at_home(&room, &track);
            let (producer, reason) = (track.sent, reason.clone());
            self.tell_peer(conn, PeerEvent::ProducerClosed { producer, reason });
        }
        for consumer in consumers {
            self.drop_feed(conn, consumer);
            self.tell_peer(conn, PeerEvent::ConsumerClosed { consumer, reason: reason.clone() });
        }
        self.tell_peer(conn, PeerEvent::TransportClosed { transport, reason: reason.clone() });
    }

    /// Closes a transport of a peer that stays.
    pub fn close_one_transport(
        &mut self,
        conn: ConnId,
        transport: TransportId,
    ) -> Result<Pending, ControlError> {
        let (router, worker) = self.place(conn, transport)?;
        let peer = self.member(conn)?;
        let here = peer.tracks.iter().filter(|track| track.transport == transport);
        let tracks: Vec<_> = here.map(|track| track.producer).collect();
        let feeds: Vec<_> =
            peer.feeds.iter().filter(|feed| feed.transport == transport).map(|feed| feed.consumer).collect();
        for track in tracks {
            self.drop_track(conn, track);
        }
        for feed in feeds {
            self.drop_feed(conn, feed);
        }
        self.forget_transport(conn, transport);
        let (waiter, pending) = oneshot::channel();
        let internal = on_transport(router, transport);
        self.ask(worker, Method::TransportClose, internal, json!({}), Reply::Value(waiter));
        Ok(pending)
    }
}
