//! Moving a member to another room without its leaving: its transports stay where they are, and pipes join their
//! routers with those of the other room. Its door sees everybody leave and others join.

use std::collections::BTreeSet;

use serde_json::json;
use tracing::info;

use crate::core::control::error::{ControlError, JoinError, MoveError};
use crate::core::control::events::{PeerInfo, RoomEvent};
use crate::core::control::peer_events::PeerEvent;
use crate::core::control::rooms::Rooms;
use crate::core::control::state::{State, Target, on_consumer};
use crate::core::id::{ConnId, RouterId, WorkerId};
use crate::core::message::Method;
use crate::core::peer::{Carrier, CloseReason, Follows, PeerKind, Track};
use crate::core::room::{Room, RoomName};

impl Rooms {
    /// Moves somebody to another room, which is made when it is not there. What it sends is heard and seen there at
    /// once, and it is sent that room's program; consumers of single tracks and data channels of others end.
    pub fn move_peer(&self, room: &RoomName, conn: ConnId, to: &RoomName) -> Result<(), MoveError> {
        self.step(|state| state.relocate(room, conn, to))
    }
}

impl State {
    fn relocate(&mut self, from: &RoomName, conn: ConnId, to: &RoomName) -> Result<(), MoveError> {
        let peer = &*self.here(from, conn)?;
        if from == to {
            return Ok(());
        }
        // Its controller knows its entities by the room they are in.
        if peer.kind == PeerKind::Controller {
            return Err(ControlError::NotAllowed("what a controller joined to a room stays there").into());
        }
        let places: BTreeSet<(RouterId, WorkerId)> =
            peer.transports.iter().map(|path| (path.router, path.worker)).collect();
        let (publishes, name) = (peer.publishes, peer.name.clone());
        self.check_place(to, publishes, &name)?;
        let place = self.seat_for(to, publishes)?;
        if let Err(error) = places.into_iter().try_for_each(|router| self.share_router(to, router)) {
            if self.rooms.get(to).is_some_and(Room::is_over) {
                self.close_room(to, &CloseReason::new("error", error.to_string()));
            }
            return Err(error.into());
        }
        info!(%conn, %from, %to, "moves");
        let reason = CloseReason::new("moved", format!("the peer moved to room {to}"));
        let followers = self.detach_followers(from, conn, &reason);
        let tracks = self.move_out(from, conn, &reason);
        self.move_in(to, conn, place, tracks);
        self.attach_followers(to, followers);
        self.tell_peer(conn, PeerEvent::Moved { room: to.clone() });
        Ok(())
    }

    fn check_place(&self, to: &RoomName, publishes: bool, name: &str) -> Result<(), JoinError> {
        let Some(room) = self.rooms.get(to) else { return Ok(()) };
        let mut others = room.publishers.iter().filter_map(|other| self.members.get(other));
        match () {
            () if publishes && others.any(|other| other.peer.name == name) => Err(JoinError::NameTaken),
            () if self.is_full(room, publishes) => Err(JoinError::RoomFull),
            () => Ok(()),
        }
    }

    /// Takes a member and what it has out of its room; answers what it sends.
    fn move_out(&mut self, from: &RoomName, conn: ConnId, reason: &CloseReason) -> Vec<Track> {
        self.move_data_out(conn);
        self.detach_feeds(from, conn, reason);
        let Some(entry) = self.members.get_mut(&conn) else { return Vec::new() };
        let (home, hidden, publishes) = (entry.peer.router, entry.peer.is_hidden(), entry.peer.publishes);
        let mut tracks = std::mem::take(&mut entry.peer.tracks);
        let counted = entry.peer.transports.iter().filter(|path| path.counted);
        for router in counted.map(|path| path.router).collect::<Vec<_>>() {
            self.leave_seat(from, router);
        }
        self.leave_room(from, conn, home);
        tracks.iter_mut().for_each(|track| self.track_gone(from, conn, track));
        self.emit_of(from, hidden, || RoomEvent::PeerLeft { conn, reason: reason.clone() });
        if publishes {
            self.refresh(from);
            for track in &mut tracks {
                self.end_derived(from, track.producer);
                self.end_at_home(from, track);
                if let Some(Carrier { router, worker, consumer }) = track.carrier.take() {
                    self.tell(worker, Method::ConsumerClose, on_consumer(router, consumer), json!({}));
                }
            }
        }
        if self.rooms.get(from).is_some_and(Room::is_over) {
            self.close_room(from, reason);
        }
        tracks
    }

    /// Ends a member's consumers of single tracks, and leaves those of the program without a source.
    fn detach_feeds(&mut self, from: &RoomName, conn: ConnId, reason: &CloseReason) {
        let Ok(peer) = self.member(conn) else { return };
        let single = |follows| matches!(follows, Follows::Track(_));
        let ended = peer.feeds.iter().filter(|feed| single(feed.follows)).map(|feed| feed.consumer);
        for consumer in ended.collect::<Vec<_>>() {
            self.drop_feed(conn, consumer);
            self.tell_peer(conn, PeerEvent::ConsumerClosed { consumer, reason: reason.clone() });
        }
        let Ok(peer) = self.member(conn) else { return };
        let mut feeds = std::mem::take(&mut peer.feeds);
        for feed in &mut feeds {
            self.forget_feed(from, conn, feed);
            self.dispatcher.subscribe(feed.consumer.0, feed.worker, Target::Feed(conn));
            if feed.source.is_some() {
                let internal = on_consumer(feed.router, feed.consumer);
                self.tell(feed.worker, Method::XConsumerSetProducer, internal, json!({"producerId": null}));
            }
            (feed.source, feed.refusal, feed.playing) = (None, None, None);
        }
        if let Ok(peer) = self.member(conn) {
            peer.feeds = feeds;
        }
    }

    /// Brings a member and what it sends into a room that its routers are joined to.
    fn move_in(
        &mut self,
        to: &RoomName,
        conn: ConnId,
        (router, worker): (RouterId, WorkerId),
        tracks: Vec<Track>,
    ) {
        self.lives += 1;
        let lives = self.lives;
        let Some(entry) = self.members.get_mut(&conn) else { return };
        entry.shared.set_room(to.clone());
        entry.room = to.clone();
        let peer = &mut entry.peer;
        self.dispatcher.drop_load(peer.worker);
        self.dispatcher.add_load(worker);
        (peer.router, peer.worker, peer.watch) = (router, worker, None);
        peer.live_since = tracks.iter().any(|track| track.ready).then_some(lives);
        for path in &mut peer.transports {
            if !std::mem::replace(&mut path.counted, true) {
                self.dispatcher.add_load(path.worker);
            }
        }
        let (info, publishes, hidden) = (PeerInfo::of(peer), peer.publishes, peer.is_hidden());
        let (paths, feeds) = (peer.transports.clone(), peer.feeds.iter().map(|feed| feed.consumer));
        let feeds: Vec<_> = feeds.collect();
        paths.iter().for_each(|path| self.take_seat(to, path.router));
        self.enter_room(to, conn, publishes, router);
        self.emit_of(to, hidden, || RoomEvent::PeerJoined(info));
        for mut track in tracks {
            let Some(path) = paths.iter().find(|path| path.id == track.transport) else { continue };
            let what = (&track.format, track.encodings.as_slice());
            (track.producer, track.carrier) = self.pipe_home(to, path.router, track.sent, what);
            self.owners.insert(track.producer, conn);
            self.dispatcher.subscribe(track.sent.0, path.worker, Target::Track(conn));
            let producer = track.producer;
            if let Ok(peer) = self.member(conn) {
                peer.tracks.push(track);
            }
            self.emit_track(conn, producer, RoomEvent::TrackAdded);
        }
        self.move_data_in(to, conn);
        for consumer in feeds {
            self.count_feed(to, conn, consumer);
        }
        self.refresh(to);
    }
}
