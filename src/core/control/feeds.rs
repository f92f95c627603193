//! Consumers of members: how they are made and ended, pointed to what feeds them, and what is counted on the way.

use std::sync::Arc;

use futures_channel::oneshot;
use serde_json::json;
use tracing::info;

use crate::core::capabilities::{Kind, RtpCodec, RtpParameters, select};
use crate::core::control::error::ControlError;
use crate::core::control::events::RoomEvent;
use crate::core::control::publish::Pending;
use crate::core::control::state::{Reply, State, Target, Timer, on_consumer, on_transport};
use crate::core::convert::Format;
use crate::core::id::{ConnId, ConsumerId, ProducerId, RouterId, TransportId};
use crate::core::message::{Internal, Method};
use crate::core::peer::{Feed, Follows, Refused, Source};
use crate::core::room::{Room, RoomName};

/// A consumer to be made.
pub(super) struct NewFeed {
    pub transport: TransportId,
    pub kind: Kind,
    pub follows: Follows,
    /// Every codec the receiver takes.
    pub accepts: Arc<[RtpCodec]>,
    /// It sends nothing at first.
    pub paused: bool,
}

impl State {
    /// Asks for a consumer: all of it at once, and feeds it.
    pub fn add_feed(
        &mut self,
        conn: ConnId,
        new: NewFeed,
        rtp: &RtpParameters,
    ) -> Result<(ConsumerId, Pending), ControlError> {
        let NewFeed { transport, kind, follows, accepts, paused } = new;
        let (router, worker) = self.place(conn, transport)?;
        let limit = self.config.max_consumers_per_peer;
        let consumer = ConsumerId(self.dispatcher.allocate());
        let peer = self.member(conn)?;
        if peer.feeds.len() >= limit {
            return Err(ControlError::NotAllowed("the peer receives all the tracks it may receive"));
        }
        peer.feeds.push(Feed {
            consumer,
            transport,
            router,
            worker,
            kind,
            follows,
            accepts,
            source: None,
            refusal: None,
            playing: None,
        });
        self.dispatcher.subscribe(consumer.0, worker, Target::Feed(conn));
        let internal = on_consumer(router, consumer);
        let data = json!({"kind": kind, "x.reports": matches!(follows, Follows::Track(_))});
        self.tell(worker, Method::RouterCreateConsumer, internal, data);
        if paused {
            self.tell(worker, Method::ConsumerPause, internal, json!({}));
        }
        let (waiter, pending) = oneshot::channel();
        let internal = Internal { consumer_id: Some(consumer.0), ..on_transport(router, transport) };
        let reply = Reply::Feed(conn, consumer, waiter);
        self.ask(worker, Method::ConsumerEnable, internal, json!({"rtpParameters": rtp}), reply);
        self.point(conn, consumer);
        if let Some(room) = self.members.get(&conn).map(|entry| entry.room.clone()) {
            self.count_feed(&room, conn, consumer);
        }
        Ok((consumer, pending))
    }

    /// Counts a consumer in the room it is in now.
    pub fn count_feed(&mut self, room: &RoomName, conn: ConnId, consumer: ConsumerId) {
        let Some(feed) = self.feed_mut(conn, consumer) else { return };
        let (kind, follows, router) = (feed.kind, feed.follows, feed.router);
        let seat = self.rooms.get_mut(room).and_then(|room| room.seat_mut(router));
        seat.into_iter().for_each(|seat| seat.consumers += 1);
        if follows == Follows::Program {
            self.count_follower(room, kind, |count| count + 1);
        }
    }

    fn count_follower(&mut self, name: &RoomName, kind: Kind, change: fn(usize) -> usize) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        room.followers = change(room.followers);
        if kind == Kind::Video {
            room.pictures = change(room.pictures);
            self.tune(name);
        }
    }

    /// Ends a consumer of a peer that stays.
    pub fn drop_feed(&mut self, conn: ConnId, consumer: ConsumerId) {
        let Some(entry) = self.members.get_mut(&conn) else { return };
        let room = entry.room.clone();
        let Some(at) = entry.peer.feeds.iter().position(|feed| feed.consumer == consumer) else { return };
        let feed = entry.peer.feeds.remove(at);
        self.forget_feed(&room, conn, &feed);
        self.tell(feed.worker, Method::ConsumerClose, on_consumer(feed.router, consumer), json!({}));
    }

    /// What a consumer stood in is in order without it.
    pub fn forget_feed(&mut self, room: &RoomName, conn: ConnId, feed: &Feed) {
        let seat = self.rooms.get_mut(room).and_then(|room| room.seat_mut(feed.router));
        seat.into_iter().for_each(|seat| seat.consumers = seat.consumers.saturating_sub(1));
        self.dispatcher.unsubscribe(feed.consumer.0);
        self.waiting.remove(&(conn, feed.consumer));
        self.count_refusal(room, conn, feed.refusal.as_ref(), None);
        if let Follows::Track(track) = feed.follows
            && let Some(track) = self.track_mut(track)
        {
            track.takers.remove(&(conn, feed.consumer));
        }
        if let Some(source) = feed.source {
            self.release(room, feed.router, source);
        }
        if feed.follows == Follows::Program {
            self.count_follower(room, feed.kind, |count| count.saturating_sub(1));
        }
    }

    pub fn feed_mut(&mut self, conn: ConnId, consumer: ConsumerId) -> Option<&mut Feed> {
        let entry = self.members.get_mut(&conn)?;
        entry.peer.feeds.iter_mut().find(|feed| feed.consumer == consumer)
    }

    /// Points a consumer to what it should be fed from now.
    pub fn point(&mut self, conn: ConnId, consumer: ConsumerId) {
        let wanted = match self.feed_mut(conn, consumer).map(|feed| feed.follows) {
            Some(Follows::Program) => self.program_source(conn, consumer),
            Some(Follows::Track(track)) => self.track_source(conn, consumer, track),
            None => return,
        };
        let (source, refusal) = match wanted {
            Ok(source) => (source, None),
            Err(refused) => (None, Some(refused)),
        };
        self.note_refusal(conn, consumer, refusal);
        let source = source.or_else(|| self.slate_source(conn, consumer));
        let Some(entry) = self.members.get(&conn) else { return };
        let room = entry.room.clone();
        let Some(feed) = entry.peer.feeds.iter().find(|feed| feed.consumer == consumer) else { return };
        let (router, worker, old) = (feed.router, feed.worker, feed.source);
        if old == source {
            return;
        }
        if let Some(source) = source {
            self.hold(&room, router, source);
        }
        if old.map(|source| source.local) != source.map(|source| source.local) {
            let data = json!({"producerId": source.map(|source| source.local)});
            self.tell(worker, Method::XConsumerSetProducer, on_consumer(router, consumer), data);
        }
        if let Some(feed) = self.feed_mut(conn, consumer) {
            feed.source = source;
        }
        if let Some(old) = old {
            self.release(&room, router, old);
        }
    }

    /// A track as it is, or converted.
    pub fn direct_source(
        &mut self,
        name: &RoomName,
        router: RouterId,
        owner: ConnId,
        (origin, format): (ProducerId, &Format),
        accepts: &[RtpCodec],
    ) -> Result<Source, Refused> {
        let as_it_is = !format.reordered && select(accepts, &format.codec).is_some();
        let job = if as_it_is { None } else { Some(self.job_for(name, owner, origin, format, accepts)?) };
        let home = job.and_then(|id| self.jobs.get(id)).map_or(origin, |job| job.output);
        let local = self.on_router_of_viewer(name, router, home)?;
        Ok(Source { origin, job, mix: None, home, local })
    }

    /// An output of the room's mix.
    pub fn mixed_source(
        &mut self,
        name: &RoomName,
        router: RouterId,
        (output, producer): (u32, ProducerId),
    ) -> Result<Source, Refused> {
        let local = self.on_router_of_viewer(name, router, producer)?;
        Ok(Source { origin: producer, job: None, mix: Some(output), home: producer, local })
    }

    pub fn on_router_of_viewer(
        &mut self,
        name: &RoomName,
        router: RouterId,
        home: ProducerId,
    ) -> Result<ProducerId, Refused> {
        let at_home = self.rooms.get(name).and_then(Room::home).is_some_and(|(id, _)| id == router);
        if at_home {
            return Ok(home);
        }
        let failed =
            Refused { text: "the track could not be brought to the viewer's worker".into(), passing: true };
        self.pipe_to(name, router, home).ok_or(failed)
    }

    /// Counts one more user of what lies between a publisher and a consumer.
    fn hold(&mut self, room: &RoomName, router: RouterId, source: Source) {
        if let Some(job) = source.job.and_then(|id| self.jobs.get_mut(id)) {
            job.users += 1;
        }
        if let Some(output) = source.mix {
            self.hold_mix(room, output);
        }
        let pipe = self.rooms.get_mut(room).and_then(|room| room.pipe_mut(router));
        if let Some(track) = pipe.and_then(|pipe| pipe.tracks.get_mut(&source.home)) {
            track.users += 1;
        }
    }

    /// Counts one user less; what nobody uses ends a while later.
    fn release(&mut self, room: &RoomName, router: RouterId, source: Source) {
        if let Some(id) = source.job {
            self.release_job(id);
        }
        if let Some(output) = source.mix {
            self.release_mix(room, output);
        }
        let pipe = self.rooms.get_mut(room).and_then(|room| room.pipe_mut(router));
        if let Some(track) = pipe.and_then(|pipe| pipe.tracks.get_mut(&source.home)) {
            track.users = track.users.saturating_sub(1);
            if track.users == 0 {
                track.idled += 1;
                let linger = State::millis(self.config.pipe_linger_ms);
                self.timers.set(linger, Timer::Piped(room.clone(), router, source.home, track.idled));
            }
        }
    }

    fn note_refusal(&mut self, conn: ConnId, consumer: ConsumerId, refusal: Option<Refused>) {
        let Some(feed) = self.feed_mut(conn, consumer) else { return };
        let kind = feed.kind;
        let passing = refusal.as_ref().is_some_and(|refused| refused.passing);
        if feed.refusal != refusal {
            match &refusal {
                Some(refused) => info!(%conn, ?kind, "not sent: {}", refused.text),
                None => info!(%conn, ?kind, "can be sent again"),
            }
            let old = std::mem::replace(&mut feed.refusal, refusal.clone());
            if let Some(room) = self.members.get(&conn).map(|entry| entry.room.clone()) {
                self.count_refusal(&room, conn, old.as_ref(), refusal.as_ref());
            }
        }
        if passing {
            self.waiting.insert((conn, consumer));
            self.set_retry();
        } else {
            self.waiting.remove(&(conn, consumer));
        }
    }

    /// Keeps the list of what a room's members are told in words; says each sentence to its watchers once.
    fn count_refusal(&mut self, name: &RoomName, conn: ConnId, old: Option<&Refused>, new: Option<&Refused>) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        let mut said = None;
        if let Some(Refused { text, .. }) = new {
            let count = room.refusals.entry(text.clone()).or_default();
            *count += 1;
            said = (*count == 1).then(|| text.clone());
        }
        if let Some(Refused { text, .. }) = old
            && let Some(count) = room.refusals.get_mut(text)
        {
            *count -= 1;
            if *count == 0 {
                room.refusals.remove(text);
            }
        }
        if let Some(text) = said {
            self.emit(name, || RoomEvent::Notice { conn: Some(conn), text });
        }
    }

    /// Asks again later for what was refused for the time being.
    fn set_retry(&mut self) {
        if !self.retry_set {
            self.retry_set = true;
            self.timers.set(State::millis(self.config.convert_retry_ms), Timer::Retry);
        }
    }

    /// Asks again now.
    pub fn retry_refused(&mut self) {
        for (conn, consumer) in std::mem::take(&mut self.waiting) {
            self.point(conn, consumer);
        }
    }
}
