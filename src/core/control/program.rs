//! The program: which publisher a room's viewers see, and what each of their consumers is fed from.

use std::sync::Arc;

use futures_channel::oneshot;
use serde_json::json;
use tracing::info;

use crate::core::capabilities::{Kind, RtpCodec, RtpParameters, select};
use crate::core::control::error::ControlError;
use crate::core::control::publish::Pending;
use crate::core::control::state::{Reply, State, Target, Timer, on_consumer, on_transport};
use crate::core::convert::Format;
use crate::core::id::{ConnId, ConsumerId, ProducerId, RouterId, TransportId};
use crate::core::message::{Internal, Method};
use crate::core::peer::{Feed, Refused, Source};
use crate::core::room::{Room, RoomName};

impl State {
    /// Whether a viewer would see something: the program, or the publisher it asked for.
    pub fn is_live_for(&self, room: &Room, watch: Option<&str>) -> bool {
        let Some(name) = watch else { return room.program.is_some() };
        self.publisher_called(room, name).is_some_and(|conn| {
            room.awaited == Some(conn) || self.members.get(&conn).is_some_and(|entry| entry.peer.is_live())
        })
    }

    fn publisher_called(&self, room: &Room, name: &str) -> Option<ConnId> {
        let called = |conn: &&ConnId| self.members.get(*conn).is_some_and(|entry| entry.peer.name == name);
        room.publishers.iter().rev().find(called).copied()
    }

    /// The publisher that came back and is waited for, else the one that went live last.
    fn choose_program(&self, room: &Room) -> Option<ConnId> {
        let live = |conn: &&ConnId| self.members.get(*conn).is_some_and(|entry| entry.peer.is_live());
        let since = |conn: &&ConnId| self.members.get(*conn).and_then(|entry| entry.peer.live_since);
        room.awaited.or_else(|| room.publishers.iter().filter(live).max_by_key(since).copied())
    }

    /// Looks again at what a room's viewers should get.
    pub fn refresh(&mut self, name: &RoomName) {
        let Some(room) = self.rooms.get(name) else { return };
        let program = self.choose_program(room);
        if program != room.program {
            match program {
                Some(conn) => info!(room = %name, %conn, "the program is now this publisher"),
                None => info!(room = %name, "nothing is live any more"),
            }
        }
        let members = room.members();
        if let Some(room) = self.rooms.get_mut(name) {
            room.program = program;
        }
        self.bring_voices(name);
        for conn in members {
            self.point_all(conn);
        }
    }

    fn point_all(&mut self, conn: ConnId) {
        let Ok(peer) = self.member(conn) else { return };
        let consumers: Vec<ConsumerId> = peer.feeds.iter().map(|feed| feed.consumer).collect();
        for consumer in consumers {
            self.point(conn, consumer);
        }
    }

    /// Points a consumer to what it should be fed from now.
    pub fn point(&mut self, conn: ConnId, consumer: ConsumerId) {
        let wanted = self.wanted(conn, consumer);
        let (source, refusal) = match wanted {
            Ok(source) => (source, None),
            Err(refused) => (None, Some(refused)),
        };
        self.note_refusal(conn, consumer, refusal);
        let Some(entry) = self.members.get(&conn) else { return };
        let room = entry.room.clone();
        let (router, worker) = (entry.peer.router, entry.peer.worker);
        let Some(feed) = entry.peer.feeds.iter().find(|feed| feed.consumer == consumer) else { return };
        let old = feed.source;
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

    pub fn feed_mut(&mut self, conn: ConnId, consumer: ConsumerId) -> Option<&mut Feed> {
        let entry = self.members.get_mut(&conn)?;
        entry.peer.feeds.iter_mut().find(|feed| feed.consumer == consumer)
    }

    /// What a consumer should be fed from; starts conversions, mixes and pipes where they are missing.
    fn wanted(&mut self, conn: ConnId, consumer: ConsumerId) -> Result<Option<Source>, Refused> {
        let Some(entry) = self.members.get(&conn) else { return Ok(None) };
        let (name, router) = (entry.room.clone(), entry.peer.router);
        let Some(feed) = entry.peer.feeds.iter().find(|feed| feed.consumer == consumer) else {
            return Ok(None);
        };
        let (kind, accepts, watch) = (feed.kind, Arc::clone(&feed.accepts), entry.peer.watch.clone());
        if kind == Kind::Audio
            && (watch.is_none() || feed.playing)
            && let Some(mixed) = self.voices_for(conn, consumer)
        {
            return self.mixed_source(&name, router, mixed).map(Some);
        }
        let Some(room) = self.rooms.get(&name) else { return Ok(None) };
        let candidates = match watch {
            Some(watch) => self.publisher_called(room, &watch).into_iter().collect(),
            None if kind == Kind::Audio => self.other_voice(room, conn),
            None => self.pictures_for(room, conn),
        };
        let mut refusal = None;
        for publisher in candidates {
            let Some(track) = self.members.get(&publisher).and_then(|entry| entry.peer.track(kind)) else {
                continue;
            };
            let (origin, format) = (track.producer, track.format.clone());
            match self.direct_source(&name, router, publisher, (origin, &format), &accepts) {
                Ok(source) => {
                    self.say_instead(conn, consumer, publisher, source, refusal);
                    return Ok(Some(source));
                }
                Err(refused) => {
                    refusal.get_or_insert(refused);
                }
            }
        }
        refusal.map_or(Ok(None), Err)
    }

    /// Somebody else is shown than who should be: says so once.
    fn say_instead(
        &mut self,
        conn: ConnId,
        consumer: ConsumerId,
        instead: ConnId,
        source: Source,
        refusal: Option<Refused>,
    ) {
        let old = self.feed_mut(conn, consumer).and_then(|feed| feed.source);
        if let Some(refused) = refusal.filter(|_| old.map(|old| old.origin) != Some(source.origin)) {
            info!(%conn, %instead, "another publisher is shown: {}", refused.text);
        }
    }

    /// A track as it is, or converted.
    fn direct_source(
        &mut self,
        name: &RoomName,
        router: RouterId,
        owner: ConnId,
        (origin, format): (ProducerId, &Format),
        accepts: &[RtpCodec],
    ) -> Result<Source, Refused> {
        let as_it_is = !format.reordered && select(accepts, &format.codec).is_some();
        let job = if as_it_is { None } else { Some(self.job_for(name, owner, origin, format, accepts)?) };
        let home = job.and_then(|id| self.jobs.get(&id)).map_or(origin, |job| job.output);
        let local = self.on_router_of_viewer(name, router, home)?;
        Ok(Source { origin, job, mix: None, home, local })
    }

    fn mixed_source(
        &mut self,
        name: &RoomName,
        router: RouterId,
        (output, producer): (u32, ProducerId),
    ) -> Result<Source, Refused> {
        let local = self.on_router_of_viewer(name, router, producer)?;
        Ok(Source { origin: producer, job: None, mix: Some(output), home: producer, local })
    }

    /// Whose sound a receiver gets that hears one publisher only: the program's, if it is not its own.
    fn other_voice(&self, room: &Room, conn: ConnId) -> Vec<ConnId> {
        let others = self.voices_but(room, conn);
        match others[..] {
            [(other, _)] if room.awaited.is_none_or(|awaited| awaited == other) => vec![other],
            _ => room.program.filter(|program| *program != conn).into_iter().collect(),
        }
    }

    fn on_router_of_viewer(
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
        if let Some(job) = source.job.and_then(|id| self.jobs.get_mut(&id)) {
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
    pub fn release(&mut self, room: &RoomName, router: RouterId, source: Source) {
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

    /// Counts one user of a conversion less.
    pub fn release_job(&mut self, id: u32) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.users = job.users.saturating_sub(1);
        if job.users == 0 {
            job.idled += 1;
            let linger = State::millis(self.config.convert_linger_ms);
            self.timers.set(linger, Timer::Job(id, job.idled));
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
            feed.refusal = refusal;
        }
        if passing {
            self.set_retry();
        }
    }

    /// Asks again later for what was refused for the time being.
    pub fn set_retry(&mut self) {
        if !self.retry_set {
            self.retry_set = true;
            self.timers.set(State::millis(self.config.convert_retry_ms), Timer::Retry);
        }
    }

    /// Asks again now.
    pub fn retry_refused(&mut self) {
        let waiting: Vec<(ConnId, ConsumerId)> = self
            .members
            .values()
            .flat_map(|entry| entry.peer.feeds.iter().map(|feed| (entry.peer.conn, feed)))
            .filter(|(_, feed)| feed.refusal.as_ref().is_some_and(|refused| refused.passing))
            .map(|(conn, feed)| (conn, feed.consumer))
            .collect();
        for (conn, consumer) in waiting {
            self.point(conn, consumer);
        }
    }

    /// Asks for a consumer that follows the program.
    pub fn consume(
        &mut self,
        conn: ConnId,
        transport: TransportId,
        kind: Kind,
        rtp: &RtpParameters,
    ) -> Result<(ConsumerId, Pending), ControlError> {
        let (router, worker) = self.place(conn, transport)?;
        let limit = self.config.max_consumers_per_peer;
        let consumer = ConsumerId(self.dispatcher.allocate());
        let peer = self.member(conn)?;
        if peer.feeds.len() >= limit {
            return Err(ControlError::NotAllowed("the peer receives all the tracks it may receive"));
        }
        let accepts = rtp.codecs.iter().filter(|codec| !codec.is_feature()).cloned().collect();
        peer.feeds.push(Feed {
            consumer,
            transport,
            kind,
            accepts,
            source: None,
            refusal: None,
            playing: false,
        });
        self.dispatcher.subscribe(consumer.0, worker, Target::Feed(conn));
        let internal = on_consumer(router, consumer);
        self.tell(worker, Method::RouterCreateConsumer, internal, json!({"kind": kind}));
        let (waiter, pending) = oneshot::channel();
        let internal = Internal { consumer_id: Some(consumer.0), ..on_transport(router, transport) };
        let reply = Reply::Feed(conn, consumer, waiter);
        self.ask(worker, Method::ConsumerEnable, internal, json!({"rtpParameters": rtp}), reply);
        self.point(conn, consumer);
        Ok((consumer, pending))
    }

    /// A consumer could not be made.
    pub fn drop_feed(&mut self, conn: ConnId, consumer: ConsumerId) {
        self.dispatcher.unsubscribe(consumer.0);
        let Some(entry) = self.members.get_mut(&conn) else { return };
        let (room, router, worker) = (entry.room.clone(), entry.peer.router, entry.peer.worker);
        let Some(at) = entry.peer.feeds.iter().position(|feed| feed.consumer == consumer) else { return };
        let feed = entry.peer.feeds.remove(at);
        if let Some(source) = feed.source {
            self.release(&room, router, source);
        }
        self.tell(worker, Method::ConsumerClose, on_consumer(router, consumer), json!({}));
    }
}
