//! Who is in which room: joining, taking over, leaving, and what goes with a lost worker.

use std::sync::Arc;

use serde_json::json;
use tracing::{info, trace, warn};

use crate::core::control::error::{ControlError, JoinError};
use crate::core::control::events::{PeerInfo, RoomEvent};
use crate::core::control::handle::Shared;
use crate::core::control::rooms::Join;
use crate::core::control::state::{Entry, Reply, State, Timer, on_consumer, on_router, on_transport};
use crate::core::id::{ConnId, RouterId, TransportId, WorkerId};
use crate::core::message::Method;
use crate::core::peer::{CloseReason, Feed, Member, Muted, Path, PeerKind};
use crate::core::room::{Ears, MAX_NAME, Room, RoomName, RoomNameError};

/// A publisher's name when it gives none.
const DEFAULT_NAME: &str = "live";

impl State {
    /// Lets somebody in, or says why not.
    pub fn join(&mut self, mut join: Join) -> Result<Arc<Shared>, JoinError> {
        join.publishes &= !join.spy;
        self.check_app_data(&join.app_data).map_err(|_| JoinError::DataTooBig)?;
        let name = join.name.clone().unwrap_or_else(|| DEFAULT_NAME.to_owned());
        let replaced = if join.publishes { self.publisher_to_replace(&join, &name)? } else { None };
        self.check_room(&join, replaced.is_some())?;
        let (router, worker) = self.seat_for(&join.room, join.publishes)?;
        let conn = ConnId::new(0, worker, random_bits());
        let shared = Arc::new(Shared::new(conn, join.room.clone(), join.principal.clone()));
        trace!(%conn, remote = ?join.remote, "address");
        info!(%conn, room = %join.room, kind = %join.kind, name, principal = %join.principal, "joined");
        let peer = Member {
            conn,
            kind: join.kind,
            name,
            principal: join.principal,
            display_name: join.display_name,
            app_data: join.app_data,
            spy: join.spy,
            announced: join.announced,
            publishes: join.publishes,
            watch: join.watch,
            worker,
            router,
            transports: Vec::new(),
            tracks: Vec::new(),
            feeds: Vec::new(),
            muted: Muted::default(),
            live_since: None,
        };
        let hidden = peer.is_hidden();
        let info = self.watchers.is_watched(&join.room).then(|| PeerInfo::of(&peer));
        self.dispatcher.add_load(worker);
        let entry = Entry { room: join.room.clone(), peer, shared: shared.clone() };
        self.members.insert(conn, entry);
        self.enter_room(&join.room, conn, join.publishes, router);
        if !join.kind.is_attended() {
            self.timers.set(State::millis(self.config.join_timeout_ms), Timer::Join(conn));
        }
        if let Some(old) = replaced {
            self.take_over(&join.room, old, conn);
        }
        if let Some(info) = info {
            self.emit_of(&join.room, hidden, || RoomEvent::PeerJoined(info));
        }
        Ok(shared)
    }

    /// The publisher of the same name, if the same party is behind it.
    fn publisher_to_replace(&self, join: &Join, name: &str) -> Result<Option<ConnId>, JoinError> {
        check_name(join.kind, name)?;
        let Some(room) = self.rooms.get(&join.room) else { return Ok(None) };
        let mut same = room.publishers.iter().filter_map(|conn| self.members.get(conn));
        match same.find(|entry| entry.peer.name == name) {
            Some(entry) if join.takes_over && entry.peer.principal == join.principal => {
                Ok(Some(entry.peer.conn))
            }
            Some(_) => Err(JoinError::NameTaken),
            None => Ok(None),
        }
    }

    fn check_room(&self, join: &Join, replaces: bool) -> Result<(), JoinError> {
        let only_watches = join.kind == PeerKind::Whep && !join.publishes;
        let Some(room) = self.rooms.get(&join.room) else {
            return if only_watches { Err(JoinError::NothingLive) } else { Ok(()) };
        };
        if only_watches && !self.is_live_for(room, join.watch.as_deref()) {
            return Err(JoinError::NothingLive);
        }
        if self.is_full(room, join.publishes) && !replaces { Err(JoinError::RoomFull) } else { Ok(()) }
    }

    /// Whether there is no place for one more.
    pub fn is_full(&self, room: &Room, publishes: bool) -> bool {
        let (publishers, viewers) = (room.publishers.len(), room.viewers.len());
        publishers + viewers >= self.config.max_peers_per_room
            || (publishes && publishers >= self.config.max_publishers_per_room)
            || (!publishes && viewers >= self.config.max_viewers_per_room)
    }

    /// The router for a new peer; makes the room if need be.
    pub fn seat_for(&mut self, name: &RoomName, publishes: bool) -> Result<(RouterId, WorkerId), JoinError> {
        self.make_room(name)?;
        let seat = if publishes { None } else { self.receiver_seat(name) };
        let home = self.rooms.get(name).and_then(Room::home);
        seat.or(home).ok_or(JoinError::NoWorker)
    }

    /// Makes a room where there is none of that name.
    pub fn make_room(&mut self, name: &RoomName) -> Result<(), JoinError> {
        if self.rooms.contains_key(name) {
            return Ok(());
        }
        if self.rooms.len() >= self.config.max_rooms {
            return Err(JoinError::ServerFull);
        }
        let worker = self.dispatcher.least_loaded(&[]).ok_or(JoinError::NoWorker)?;
        let router = self.open_router(name, worker);
        self.rooms.insert(name.clone(), Room::new(router, worker));
        self.emit(name, || RoomEvent::RoomOpened);
        Ok(())
    }

    /// Asks a worker for a router of a room.
    pub fn open_router(&mut self, room: &RoomName, worker: WorkerId) -> RouterId {
        let router = RouterId(self.dispatcher.allocate());
        let reply = Reply::Router(room.clone(), router);
        self.ask(worker, Method::WorkerCreateRouter, on_router(router), json!({}), reply);
        router
    }

    fn take_over(&mut self, name: &RoomName, old: ConnId, new: ConnId) {
        if let Some(room) = self.rooms.get_mut(name)
            && room.program == Some(old)
        {
            room.awaited = Some(new);
            let wait = State::millis(self.config.takeover_wait_ms);
            self.timers.set(wait, Timer::Takeover(name.clone(), new));
        }
        info!(conn = %new, old = %old, room = %name, "takes over");
        self.close_member(old, CloseReason::taken_over());
    }

    /// A router could not be made: whoever is on it cannot stay.
    pub fn router_failed(&mut self, room: &RoomName, router: RouterId, error: &ControlError) {
        if *error != ControlError::WorkerLost {
            warn!(%room, %router, %error, "a router could not be made");
        }
        let reason = CloseReason::new("error", format!("the room could not be made: {error}"));
        self.close_router(room, router, &reason);
    }

    /// All routers of a worker are gone.
    pub fn close_routers_of(&mut self, worker: WorkerId) {
        let seats =
            self.rooms.iter().flat_map(|(name, room)| room.seats.iter().map(move |seat| (name, seat)));
        let lost: Vec<_> = seats
            .filter(|(_, seat)| seat.worker == worker)
            .map(|(name, seat)| (name.clone(), seat.router))
            .collect();
        for (room, router) in lost {
            self.close_router(&room, router, &CloseReason::worker_lost());
        }
    }

    /// Closes the peers on a router, what others have there, and then the router; the home router takes the whole room
    /// with it.
    pub fn close_router(&mut self, name: &RoomName, router: RouterId, reason: &CloseReason) {
        let Some(room) = self.rooms.get(name) else { return };
        let whole = room.home().is_some_and(|(home, _)| home == router);
        let here =
            |conn: &ConnId| whole || self.members.get(conn).is_some_and(|entry| entry.peer.router == router);
        let (members, others): (Vec<ConnId>, Vec<ConnId>) = room.everybody().partition(here);
        for conn in members {
            self.close_member(conn, reason.clone());
        }
        for conn in others {
            self.drop_paths(conn, router, reason);
        }
        match whole {
            true => self.close_room(name, reason),
            false => self.close_seat(name, router),
        }
    }

    /// Ends a peer, whoever wants it.
    pub fn close_member(&mut self, conn: ConnId, reason: CloseReason) {
        let Some(mut entry) = self.members.remove(&conn) else { return };
        info!(%conn, room = %entry.room, kind = %entry.peer.kind, code = reason.code, "left: {}", reason.text);
        entry.shared.end(reason.clone());
        self.dispatcher.drop_load(entry.peer.worker);
        self.close_data_of(conn);
        self.players.remove(&conn);
        let feeds = std::mem::take(&mut entry.peer.feeds);
        for feed in &feeds {
            self.forget_feed(&entry.room, conn, feed);
        }
        self.leave_room(&entry.room, conn, entry.peer.router);
        let mut tracks = std::mem::take(&mut entry.peer.tracks);
        tracks.iter_mut().for_each(|track| self.track_gone(&entry.room, conn, track));
        self.emit_of(&entry.room, entry.peer.is_hidden(), || RoomEvent::PeerLeft {
            conn,
            reason: reason.clone(),
        });
        let over = self.rooms.get(&entry.room).is_some_and(Room::is_over);
        if over && !self.is_shared(&entry.room) {
            tracks.iter().for_each(|track| self.forget_jobs_of(track.producer));
            self.close_room(&entry.room, &reason);
            for path in &entry.peer.transports {
                self.dispatcher.unsubscribe(path.id.0);
                self.uncount(path);
            }
            return;
        }
        if entry.peer.publishes {
            self.refresh(&entry.room);
            for track in &tracks {
                self.end_derived(&entry.room, track.producer);
                self.end_at_home(&entry.room, track);
            }
        }
        self.close_transports(&entry, &feeds, &reason);
        if over {
            self.close_room(&entry.room, &reason);
        }
    }

    /// Enters somebody into a room's lists.
    pub fn enter_room(&mut self, name: &RoomName, conn: ConnId, publishes: bool, router: RouterId) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        if publishes {
            room.publishers.push(conn);
        } else {
            room.viewers.insert(conn);
            self.take_seat(name, router);
        }
    }

    /// Takes somebody off a room's lists.
    pub fn leave_room(&mut self, name: &RoomName, conn: ConnId, router: RouterId) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        room.publishers.retain(|other| *other != conn);
        room.speakers.shown.retain(|other| *other != conn);
        if room.awaited == Some(conn) {
            room.awaited = None;
        }
        if room.viewers.remove(&conn) {
            self.leave_seat(name, router);
        }
    }

    fn close_transports(&mut self, entry: &Entry, feeds: &[Feed], reason: &CloseReason) {
        for feed in feeds {
            let internal = on_consumer(feed.router, feed.consumer);
            self.tell(feed.worker, Method::ConsumerClose, internal, json!({}));
        }
        for path in &entry.peer.transports {
            self.dispatcher.unsubscribe(path.id.0);
            let data = json!({"x.reason": reason.text});
            let internal = on_transport(path.router, path.id);
            self.tell(path.worker, Method::TransportClose, internal, data);
            if path.counted {
                self.leave_seat(&entry.room, path.router);
            }
            self.uncount(path);
        }
    }

    /// A path that counted as a load of its worker is gone.
    fn uncount(&mut self, path: &Path) {
        if path.counted {
            self.dispatcher.drop_load(path.worker);
        }
    }

    /// The last peer has left, or nobody wants the room to stay.
    pub fn close_room(&mut self, name: &RoomName, reason: &CloseReason) {
        self.clear_shared(name);
        let Some(room) = self.rooms.remove(name) else { return };
        if let (Ears::Router, Some((router, _))) = (room.ears, room.home()) {
            self.dispatcher.unsubscribe(router.0);
        }
        if let Some(mix) = self.mixes.remove(name) {
            self.dispatcher.unsubscribe(mix.transport.0);
        }
        if let Some(slate) = room.slate {
            self.forget_jobs_of(slate);
        }
        self.unmixed.remove(name);
        for seat in &room.seats {
            self.let_router_go(seat, &reason.text);
        }
        info!(room = %name, "the room is closed");
        self.emit(name, || RoomEvent::RoomClosed { reason: reason.clone() });
    }

    /// A transport is gone on the worker's side, or was never made.
    pub fn forget_transport(&mut self, conn: ConnId, transport: TransportId) {
        self.dispatcher.unsubscribe(transport.0);
        self.forget_player(conn, transport);
        let Some(entry) = self.members.get_mut(&conn) else { return };
        let Some(at) = entry.peer.transports.iter().position(|path| path.id == transport) else { return };
        let path = entry.peer.transports.remove(at);
        let room = entry.room.clone();
        if path.counted {
            self.leave_seat(&room, path.router);
        }
        self.uncount(&path);
    }

    /// Ends what a peer that stays has on a router that is lost.
    fn drop_paths(&mut self, conn: ConnId, router: RouterId, reason: &CloseReason) {
        let Ok(peer) = self.member(conn) else { return };
        let here: Vec<_> =
            peer.transports.iter().filter(|path| path.router == router).map(|path| path.id).collect();
        if !here.is_empty() && !peer.kind.outlives_transports() {
            return self.close_member(conn, reason.clone());
        }
        for transport in here {
            self.drop_carried(conn, transport, reason);
            self.forget_transport(conn, transport);
        }
    }

    /// Ends everybody.
    pub fn close_everybody(&mut self, reason: &CloseReason) {
        // Viewers first: a publisher that ends before them would only be replaced under them.
        let mut all: Vec<(bool, ConnId)> =
            self.members.iter().map(|(conn, entry)| (entry.peer.publishes, *conn)).collect();
        all.sort_unstable();
        for (_, conn) in all {
            self.close_member(conn, reason.clone());
        }
    }
}

/// Names of the doors stand in URLs and have their characters; those of applications are theirs.
fn check_name(kind: PeerKind, name: &str) -> Result<(), JoinError> {
    if !kind.is_attended() {
        let bad = |error: RoomNameError| error.to_string().replace("room name", "publisher's name");
        return RoomName::new(name, &[]).map(drop).map_err(|error| JoinError::BadName(bad(error)));
    }
    let length = name.chars().count();
    if length == 0 || length > MAX_NAME || name.chars().any(char::is_control) {
        let text = format!("a peer's name has 1 to {MAX_NAME} printable characters");
        return Err(JoinError::BadName(text));
    }
    Ok(())
}

fn random_bits() -> u128 {
    let mut bytes = [0; 16];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        warn!("the system gives no randomness; a connection's id may repeat");
    }
    u128::from_le_bytes(bytes)
}
