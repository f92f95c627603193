//! What happens in rooms, for whoever watches: members, tracks, who speaks, calls, notices.
//!
//! Within a room the order can be relied on: `PeerJoined` before that peer's `TrackAdded` and `DataAdded`,
//! `TrackRemoved` and `DataRemoved` before `PeerLeft`, everybody's `PeerLeft` before `RoomClosed`. Watchers are never waited for.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use serde::Serialize;
use serde_json::Value;

use crate::core::capabilities::{Kind, RtpCodec};
use crate::core::control::calls::CallEvent;
use crate::core::control::data::DataInfo;
use crate::core::control::handle::Peer;
use crate::core::control::queue::{End, Reader, Writer, queue};
use crate::core::control::rooms::Rooms;
use crate::core::control::state::State;
use crate::core::control::streams::StreamInfo;
use crate::core::id::{ConnId, DataProducerId, ProducerId};
use crate::core::peer::{CloseReason, Layers, Member, PeerKind, Track};
use crate::core::room::RoomName;

/// Something that happened in a room.
#[derive(Clone, Debug, PartialEq)]
pub enum RoomEvent {
    /// The room is there.
    RoomOpened,
    /// The room is gone.
    RoomClosed {
        /// Why.
        reason: CloseReason,
    },
    /// Somebody is in the room.
    PeerJoined(PeerInfo),
    /// Its name for people, or the application's data, is another.
    PeerChanged(PeerInfo),
    /// Somebody is gone.
    PeerLeft {
        /// Who.
        conn: ConnId,
        /// Why.
        reason: CloseReason,
    },
    /// A track can be consumed.
    TrackAdded(TrackInfo),
    /// Its codec, its layers, or whether it is paused, is another.
    TrackChanged(TrackInfo),
    /// A track is gone.
    TrackRemoved {
        /// Whose.
        conn: ConnId,
        /// Which.
        producer: ProducerId,
    },
    /// A data channel can be consumed.
    DataAdded(DataInfo),
    /// A data channel is gone.
    DataRemoved {
        /// Whose.
        conn: ConnId,
        /// Which.
        data_producer: DataProducerId,
    },
    /// Who speaks now, or nobody.
    ActiveSpeaker(Option<(ConnId, ProducerId)>),
    /// How loud the tracks of sound are, in dBov, the loudest first; only for those who oversee the room.
    AudioLevels(Vec<(ConnId, ProducerId, i8)>),
    /// A member says something to the others.
    Message {
        /// Who.
        from: ConnId,
        /// What.
        data: Value,
    },
    /// Somebody pressed a key of a telephone.
    Dtmf {
        /// Who.
        conn: ConnId,
        /// `0`-`9`, `*`, `#`, `A`-`D`.
        digit: char,
        /// For how long.
        duration_ms: u32,
    },
    /// A call that concerns the room.
    Call(CallEvent),
    /// A stream that the server fetches, sends away or plays has got somewhere.
    Stream(StreamInfo),
    /// Something people should know: a conversion begun or refused, sound that goes one way only.
    Notice {
        /// Whom it concerns.
        conn: Option<ConnId>,
        /// In words.
        text: String,
    },
}

/// A member of a room as others see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerInfo {
    /// Its connection.
    pub conn: ConnId,
    /// Its name; unique among those who publish.
    pub name: String,
    /// Its name for people.
    pub display_name: Option<String>,
    /// By which door it came.
    pub kind: PeerKind,
    /// Whether it may send media.
    pub publishes: bool,
    /// It is not to be announced to other members.
    pub spy: bool,
    /// The application's own.
    pub app_data: Value,
}

/// A track as others see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrackInfo {
    /// Whose.
    pub conn: ConnId,
    /// Which.
    pub producer: ProducerId,
    /// Sound or picture.
    pub kind: Kind,
    /// Its codec.
    pub codec: RtpCodec,
    /// It is held back, by its member or by somebody with rights over the room.
    pub paused: bool,
    /// It is by somebody with rights over the room.
    pub muted: bool,
    /// Its layers.
    pub layers: Layers,
    /// The application's own.
    pub app_data: Value,
}

impl PeerInfo {
    pub(super) fn of(peer: &Member) -> Self {
        PeerInfo {
            conn: peer.conn,
            name: peer.name.clone(),
            display_name: peer.display_name.clone(),
            kind: peer.kind,
            publishes: peer.publishes,
            spy: peer.spy,
            app_data: peer.app_data.clone(),
        }
    }
}

impl TrackInfo {
    pub(super) fn of(conn: ConnId, track: &Track) -> Self {
        TrackInfo {
            conn,
            producer: track.producer,
            kind: track.format.kind,
            codec: track.format.codec.clone(),
            paused: track.is_paused(),
            muted: track.muted,
            layers: track.layers,
            app_data: track.app_data.clone(),
        }
    }
}

/// The events of one room; see [`Rooms::watch`].
pub struct RoomEvents(Reader<Arc<RoomEvent>>);

impl RoomEvents {
    /// The next event; `None` once [`end`](Self::end) says why.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<RoomEvent>> {
        self.0.poll_next(cx).map(|event| event.map(Arc::unwrap_or_clone))
    }

    /// Waits for the next event.
    pub async fn next(&mut self) -> Option<RoomEvent> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Why nothing comes any more.
    pub fn end(&self) -> Option<End> {
        self.0.end()
    }
}

/// The events of all rooms; see [`Rooms::watch_all`].
pub struct AllEvents(Reader<(RoomName, Arc<RoomEvent>)>);

impl AllEvents {
    /// The next event; `None` once [`end`](Self::end) says why.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(RoomName, RoomEvent)>> {
        self.0.poll_next(cx).map(|event| event.map(|(room, event)| (room, Arc::unwrap_or_clone(event))))
    }

    /// Waits for the next event.
    pub async fn next(&mut self) -> Option<(RoomName, RoomEvent)> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Why nothing comes any more.
    pub fn end(&self) -> Option<End> {
        self.0.end()
    }
}

/// With fewer rooms watched nobody looks whether they still are.
const SWEEP_FROM: usize = 64;

/// Who watches what.
#[derive(Default)]
pub(super) struct Watchers {
    rooms: HashMap<RoomName, Vec<Watcher>>,
    /// With so many rooms watched, those that nobody watches any more are looked for.
    sweep_at: usize,
    all: Vec<Writer<(RoomName, Arc<RoomEvent>)>>,
}

pub(super) struct Watcher {
    events: Writer<Arc<RoomEvent>>,
    /// The member it is for: it watches the room that one is in.
    of: Option<ConnId>,
    /// Spies and levels are shown to it.
    oversees: bool,
}

impl Watchers {
    /// Whether somebody watches that one room.
    pub fn is_attended(&self, room: &RoomName) -> bool {
        self.rooms.contains_key(room)
    }

    pub fn is_watched(&self, room: &RoomName) -> bool {
        !self.all.is_empty() || self.rooms.contains_key(room)
    }

    fn add(&mut self, room: &RoomName, watcher: Watcher) {
        // Where nothing happens it is not noticed that somebody watches no more; looking whenever the number has doubled
        // costs little.
        let watchers = self.rooms.entry(room.clone()).or_default();
        if watchers.len().is_power_of_two() {
            watchers.retain(|watcher| watcher.events.is_read());
        }
        watchers.push(watcher);
        if self.rooms.len() >= self.sweep_at.max(SWEEP_FROM) {
            self.sweep();
            self.sweep_at = self.rooms.len() * 2;
        }
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.rooms.len() + self.all.len()
    }

    fn sweep(&mut self) {
        self.rooms.retain(|_, watchers| {
            watchers.retain(|watcher| watcher.events.is_read());
            !watchers.is_empty()
        });
    }

    fn tell(&mut self, room: &RoomName, event: RoomEvent, hidden: bool) {
        let event = Arc::new(event);
        self.all.retain(|events| events.push((room.clone(), event.clone())));
        let Some(watchers) = self.rooms.get_mut(room) else { return };
        watchers.retain(|watcher| match hidden && !watcher.oversees {
            true => watcher.events.is_read(),
            false => watcher.events.push(event.clone()),
        });
        if watchers.is_empty() {
            self.rooms.remove(room);
        }
    }
}

impl Rooms {
    /// What other members may know of a room: first what is there, then what happens. The room need not be there;
    /// it may come and go. A watcher that does not read is cut off when `rooms.max_waiting_events` wait for it.
    pub fn watch(&self, room: &RoomName) -> RoomEvents {
        self.step(|state| state.watch(room, false, None))
    }

    /// The same for somebody with rights over the room, who is shown spies and levels too.
    pub fn oversee(&self, room: &RoomName) -> RoomEvents {
        self.step(|state| state.watch(room, true, None))
    }

    /// What there is and what happens in all rooms, spies included.
    pub fn watch_all(&self) -> AllEvents {
        self.step(State::watch_all)
    }

    /// Tells those who watch a room something that happened at a door: a call, a message.
    pub fn announce(&self, room: &RoomName, event: RoomEvent) {
        self.step(|state| state.emit(room, || event));
    }
}

impl Peer {
    /// What it may know of the room it is in, as [`Rooms::watch`] tells it. When it is moved, everybody it knew leaves,
    /// and those of the other room join.
    pub fn watch(&self) -> RoomEvents {
        self.rooms().step(|state| state.watch(&self.room(), false, Some(self.conn())))
    }
}

impl State {
    fn watch(&mut self, room: &RoomName, oversees: bool, of: Option<ConnId>) -> RoomEvents {
        let first = self.present(room, oversees).into_iter().map(Arc::new).collect();
        let (events, reader) = queue(first, self.config.max_waiting_events);
        self.watchers.add(room, Watcher { events, of, oversees });
        self.tune(room);
        RoomEvents(reader)
    }

    fn watch_all(&mut self) -> AllEvents {
        let present = |name: &RoomName| {
            let events = self.present(name, true);
            let name = name.clone();
            events.into_iter().map(move |event| (name.clone(), Arc::new(event)))
        };
        let first = self.rooms.keys().flat_map(present).collect();
        let (events, reader) = queue(first, self.config.max_waiting_events);
        self.watchers.all.push(events);
        AllEvents(reader)
    }

    /// What is in a room, as the events that would have told so.
    fn present(&self, name: &RoomName, spies: bool) -> Vec<RoomEvent> {
        let Some(room) = self.rooms.get(name) else { return Vec::new() };
        let mut events = vec![RoomEvent::RoomOpened];
        for conn in room.everybody() {
            let Some(peer) = self.members.get(&conn).map(|entry| &entry.peer) else { continue };
            if peer.is_hidden() && !spies {
                continue;
            }
            events.push(RoomEvent::PeerJoined(PeerInfo::of(peer)));
            let tracks = peer.tracks.iter().filter(|track| track.ready);
            events.extend(tracks.map(|track| RoomEvent::TrackAdded(TrackInfo::of(conn, track))));
            events.extend(self.data.of(conn).cloned().map(RoomEvent::DataAdded));
        }
        if let Some(speaker) = self.speaker(name) {
            events.push(RoomEvent::ActiveSpeaker(Some(speaker)));
        }
        events
    }

    /// Takes those who watch for a member out of its room: for them everybody leaves.
    pub fn detach_followers(&mut self, room: &RoomName, conn: ConnId, reason: &CloseReason) -> Vec<Watcher> {
        let Some(watchers) = self.watchers.rooms.get_mut(room) else { return Vec::new() };
        let followers: Vec<Watcher> = watchers.extract_if(.., |watcher| watcher.of == Some(conn)).collect();
        if watchers.is_empty() {
            self.watchers.rooms.remove(room);
        }
        for watcher in &followers {
            let ends =
                self.present(room, watcher.oversees).into_iter().rev().filter_map(|event| match event {
                    RoomEvent::TrackAdded(TrackInfo { conn, producer, .. }) => {
                        Some(RoomEvent::TrackRemoved { conn, producer })
                    }
                    RoomEvent::DataAdded(info) => {
                        Some(RoomEvent::DataRemoved { conn: info.conn, data_producer: info.id })
                    }
                    RoomEvent::PeerJoined(info) => {
                        Some(RoomEvent::PeerLeft { conn: info.conn, reason: reason.clone() })
                    }
                    RoomEvent::ActiveSpeaker(_) => Some(RoomEvent::ActiveSpeaker(None)),
                    _ => None,
                });
            watcher.events.push_all(ends.map(Arc::new));
        }
        followers
    }

    /// Lets those who watch for a member watch the room it has come to.
    pub fn attach_followers(&mut self, room: &RoomName, followers: Vec<Watcher>) {
        for watcher in followers {
            let present = self.present(room, watcher.oversees).into_iter();
            let there = present.filter(|event| !matches!(event, RoomEvent::RoomOpened));
            if watcher.events.push_all(there.map(Arc::new)) {
                self.watchers.add(room, watcher);
            }
        }
        self.tune(room);
    }

    /// Tells those who watch a room; `event` is made only if somebody does.
    pub fn emit(&mut self, room: &RoomName, event: impl FnOnce() -> RoomEvent) {
        if self.watchers.is_watched(room) {
            self.watchers.tell(room, event(), false);
        }
    }

    /// Tells what a track that stands is now.
    pub fn emit_track(&mut self, conn: ConnId, producer: ProducerId, event: fn(TrackInfo) -> RoomEvent) {
        let Some(entry) = self.members.get(&conn) else { return };
        let track = entry.peer.tracks.iter().find(|track| track.producer == producer && track.ready);
        if let Some(track) = track
            && self.watchers.is_watched(&entry.room)
        {
            let info = TrackInfo::of(conn, track);
            self.watchers.tell(&entry.room, event(info), false);
        }
    }

    /// Tells something; if it is `hidden`, only those who oversee the room.
    pub fn emit_of(&mut self, room: &RoomName, hidden: bool, event: impl FnOnce() -> RoomEvent) {
        if self.watchers.is_watched(room) {
            self.watchers.tell(room, event(), hidden);
        }
    }
}
