//! [`Rooms`]: the doors' way in, and what drives it all from outside.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use serde_json::Value;

use crate::core::auth::Principal;
use crate::core::capabilities::room::RoomCodec;
use crate::core::control::calls::Calls;
use crate::core::control::config::RoomsConfig;
use crate::core::control::dispatcher::Link;
use crate::core::control::error::JoinError;
use crate::core::control::handle::Peer;
use crate::core::control::state::State;
use crate::core::control::streams::Streams;
use crate::core::convert::{Converter, Mixer, Sound};
use crate::core::id::WorkerId;
use crate::core::mail::MailSender;
use crate::core::peer::{CloseReason, Member, PeerKind};
use crate::core::room::{PublisherSummary, Room, RoomName, RoomSummary, TrackSummary};
use crate::core::time::Epoch;

/// Who wants to join which room, and as what.
#[derive(Clone, Debug)]
pub struct Join {
    /// The room; made when it does not exist.
    pub room: RoomName,
    /// By which door.
    pub kind: PeerKind,
    /// A publisher's name within the room; `live` when not given.
    pub name: Option<String>,
    /// Who it is, as far as rights go; already authorised.
    pub principal: Principal,
    /// Where it comes from.
    pub remote: Option<SocketAddr>,
    /// The publisher a viewer wants to see instead of the room's program.
    pub watch: Option<String>,
    /// Whether it sends media.
    pub publishes: bool,
    /// Its name for people.
    pub display_name: Option<String>,
    /// The application's own.
    pub app_data: Value,
    /// Other members are not told of it, and it may not send.
    pub spy: bool,
    /// A publisher of the same name and principal is replaced; else the name counts as taken.
    pub takes_over: bool,
    /// Other members are told of it at once; else when [`Peer::announce`] is called.
    pub announced: bool,
}

impl Join {
    /// Somebody without a name who only receives.
    pub fn new(room: RoomName, kind: PeerKind, principal: Principal) -> Self {
        Join {
            room,
            kind,
            name: None,
            principal,
            remote: None,
            watch: None,
            publishes: false,
            display_name: None,
            app_data: Value::Null,
            spy: false,
            takes_over: true,
            announced: true,
        }
    }
}

/// All rooms of the node; cheap to clone.
#[derive(Clone)]
pub struct Rooms(Arc<Mutex<State>>);

impl Rooms {
    /// No rooms and no workers yet.
    pub fn new(config: RoomsConfig, epoch: Epoch, converter: Option<Arc<dyn Converter>>) -> Self {
        Rooms(Arc::new(Mutex::new(State::new(config, epoch, converter))))
    }

    /// The same, with somebody who mixes for receivers of one track.
    pub fn with_mixer(self, mixer: Arc<dyn Mixer>) -> Self {
        self.step(|state| state.mixer = Some(mixer));
        self
    }

    /// Whoever carries telephone calls, from now on.
    pub fn set_calls(&self, calls: Arc<dyn Calls>) {
        self.step(|state| state.calls = Some(calls));
    }

    /// Whoever carries telephone calls; `None` where no door does.
    pub fn calls(&self) -> Option<Arc<dyn Calls>> {
        self.step(|state| state.calls.clone())
    }

    /// Whoever carries streams, from now on.
    pub fn set_streams(&self, streams: Arc<dyn Streams>) {
        self.step(|state| state.streams = Some(streams));
    }

    /// Whoever carries streams; `None` where nobody does.
    pub fn streams(&self) -> Option<Arc<dyn Streams>> {
        self.step(|state| state.streams.clone())
    }

    /// Plays `sounds` once over a room, to those who hear its mix now.
    pub fn play_once(&self, room: &RoomName, sounds: Vec<Sound>) {
        self.step(|state| state.play_once(room, sounds));
    }

    /// One step under the lock. What a panic in an earlier step left is still the best that is known.
    pub(super) fn step<T>(&self, step: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let result = step(&mut state);
        state.settle();
        result
    }

    /// Lets somebody into a room. A publisher of the same name and principal is taken over at once.
    pub async fn join(&self, join: Join) -> Result<Peer, JoinError> {
        let shared = self.step(|state| state.join(join))?;
        Ok(Peer::new(shared, self.clone()))
    }

    /// Codecs of pictures that publishers are asked for first.
    pub fn video_codecs(&self) -> Vec<String> {
        self.step(|state| state.config.video_codecs.clone())
    }

    /// Codecs that room protocols offer, preferred ones first.
    pub fn offered_codecs(&self) -> Vec<RoomCodec> {
        self.step(|state| state.config.offered())
    }

    /// All rooms, by name.
    pub fn summaries(&self) -> Vec<RoomSummary> {
        self.step(|state| state.rooms.iter().map(|(name, room)| state.summarise(name, room)).collect())
    }

    /// One room.
    pub fn summary(&self, room: &RoomName) -> Option<RoomSummary> {
        self.step(|state| state.rooms.get_key_value(room).map(|(name, room)| state.summarise(name, room)))
    }

    /// Closes every peer and waits until the workers have seen to it.
    pub async fn close_all(&self, reason: CloseReason) {
        let barriers = self.step(|state| {
            state.close_everybody(&reason);
            state.barriers()
        });
        for barrier in barriers {
            // A worker that fails has closed its peers too.
            let _ = barrier.await;
        }
    }

    /// A worker is there, for the first time or in place of one that failed, whose peers are closed.
    pub fn worker_up(&self, worker: WorkerId, mail: MailSender) -> Link {
        self.step(|state| state.worker_up(worker, mail))
    }

    /// A worker's control socket is closed or broken.
    pub fn worker_lost(&self, link: Link) {
        self.step(|state| state.worker_lost(link));
    }

    /// The next request for a worker; `None` when this life of it is over.
    pub fn poll_send(&self, link: Link, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        self.step(|state| state.dispatcher.poll_send(link, cx))
    }

    /// One message of a worker.
    pub fn receive(&self, link: Link, json: &[u8]) {
        self.step(|state| state.receive(link, json));
    }

    /// Lets time pass; returns when to call again at the latest.
    pub fn handle_time(&self, now: Instant) -> Option<Instant> {
        self.step(|state| state.handle_time(now))
    }

    /// Whether the caller is the first who offers to drive the clock, and so must.
    pub fn claim_clock(&self) -> bool {
        self.step(|state| !std::mem::replace(&mut state.clock_claimed, true))
    }

    /// Ready when something was asked or set that [`handle_time`](Self::handle_time) has not seen.
    pub fn poll_time_wanted(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.step(|state| state.timers.poll_wanted(cx))
    }
}

impl State {
    fn summarise(&self, name: &RoomName, room: &Room) -> RoomSummary {
        let entries = room.publishers.iter().filter_map(|conn| self.members.get(conn));
        let publishers: Vec<&Member> = entries.map(|entry| &entry.peer).collect();
        RoomSummary {
            name: name.clone(),
            publishers: publishers.iter().map(|peer| summarise_publisher(peer)).collect(),
            viewers: room.viewers.len(),
            live: publishers.iter().any(|peer| peer.is_live()),
            notices: room.refusals.keys().cloned().collect(),
        }
    }
}

fn summarise_publisher(peer: &Member) -> PublisherSummary {
    let tracks = peer.tracks.iter().filter(|track| track.ready);
    PublisherSummary {
        conn: peer.conn,
        name: peer.name.clone(),
        display_name: peer.display_name.clone(),
        kind: peer.kind,
        tracks: tracks
            .map(|track| TrackSummary {
                kind: track.format.kind,
                codec: track.format.codec.mime_type.clone(),
            })
            .collect(),
    }
}
