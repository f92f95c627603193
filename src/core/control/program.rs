//! The program: which publisher a room's viewers see.

use std::sync::Arc;

use tracing::info;

use crate::core::capabilities::{Kind, RtpParameters};
use crate::core::control::error::ControlError;
use crate::core::control::feeds::NewFeed;
use crate::core::control::publish::Pending;
use crate::core::control::state::State;
use crate::core::id::{ConnId, ConsumerId, TransportId};
use crate::core::peer::{Follows, Refused, Source};
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
        let feeds = self.program_feeds(room);
        if let Some(room) = self.rooms.get_mut(name) {
            room.program = program;
        }
        self.bring_voices(name);
        for (conn, consumer) in feeds {
            self.point(conn, consumer);
        }
        self.tune(name);
    }

    fn program_feeds(&self, room: &Room) -> Vec<(ConnId, ConsumerId)> {
        if room.followers == 0 {
            return Vec::new();
        }
        let entries = room.everybody().filter_map(|conn| self.members.get(&conn));
        let feeds = entries.flat_map(|entry| entry.peer.feeds.iter().map(|feed| (entry.peer.conn, feed)));
        let program = feeds.filter(|(_, feed)| feed.follows == Follows::Program);
        program.map(|(conn, feed)| (conn, feed.consumer)).collect()
    }

    /// What a consumer of the program should be fed from; starts conversions, mixes and pipes where they are missing.
    pub fn program_source(&mut self, conn: ConnId, consumer: ConsumerId) -> Result<Option<Source>, Refused> {
        let Some(entry) = self.members.get(&conn) else { return Ok(None) };
        let name = entry.room.clone();
        let Some(feed) = entry.peer.feeds.iter().find(|feed| feed.consumer == consumer) else {
            return Ok(None);
        };
        let router = feed.router;
        let (kind, accepts, watch) = (feed.kind, Arc::clone(&feed.accepts), entry.peer.watch.clone());
        if kind == Kind::Audio
            && (watch.is_none() || feed.playing.is_some())
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

    /// Whose sound a receiver gets that hears one publisher only: the program's, if it is not its own.
    fn other_voice(&self, room: &Room, conn: ConnId) -> Vec<ConnId> {
        let others = self.voices_but(room, conn);
        match others[..] {
            [(other, _)] if room.awaited.is_none_or(|awaited| awaited == other) => vec![other],
            _ => room.program.filter(|program| *program != conn).into_iter().collect(),
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
        let accepts = rtp.codecs.iter().filter(|codec| !codec.is_feature()).cloned().collect();
        let feed = NewFeed { transport, kind, follows: Follows::Program, accepts, paused: false };
        self.add_feed(conn, feed, rtp)
    }
}
