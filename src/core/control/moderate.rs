//! What somebody with rights over a room may do in it: keep it, close it, see who is there and what they send and
//! receive, silence them, send them away. Doors have asked [`authorise`](crate::core::auth) before.

use serde::Serialize;
use serde_json::Value;

use crate::core::capabilities::Kind;
use crate::core::control::asks::done;
use crate::core::control::data::{Channels, DataInfo};
use crate::core::control::error::{ControlError, JoinError};
use crate::core::control::events::{PeerInfo, RoomEvent, TrackInfo};
use crate::core::control::handle::{Peer, answer};
use crate::core::control::peer_events::PeerEvent;
use crate::core::control::publish::Pending;
use crate::core::control::rooms::Rooms;
use crate::core::control::state::State;
use crate::core::id::{ConnId, ConsumerId, DataConsumerId, DataProducerId, ProducerId, TransportId};
use crate::core::peer::{CloseReason, Feed, Follows, Member};
use crate::core::room::RoomName;

/// A member of a room with all it has.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerDetail {
    /// Who it is.
    #[serde(flatten)]
    pub info: PeerInfo,
    /// Its transports.
    pub transports: Vec<TransportId>,
    /// What it sends.
    pub tracks: Vec<TrackInfo>,
    /// What it is sent.
    pub consumers: Vec<ConsumerInfo>,
    /// The data channels it sends on.
    pub data_tracks: Vec<DataInfo>,
    /// The data channels it is sent.
    pub data_consumers: Vec<DataConsumerInfo>,
}

/// A data consumer of a member.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataConsumerInfo {
    /// The data consumer.
    pub data_consumer: DataConsumerId,
    /// The data channel it is for.
    pub data_track: DataProducerId,
}

/// A consumer of a member.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerInfo {
    /// The consumer.
    pub consumer: ConsumerId,
    /// The transport it goes by.
    pub transport: TransportId,
    /// Sound or picture.
    pub kind: Kind,
    /// The track it is for; none: the room's program.
    pub track: Option<ProducerId>,
    /// The track it is fed from, or the output of the mix.
    pub source: Option<ProducerId>,
    /// What it is fed from is a conversion of that.
    pub converted: bool,
    /// Why it is fed from nothing although there is something.
    pub refusal: Option<String>,
}

impl PeerDetail {
    pub(super) fn of(peer: &Member, channels: &Channels) -> Self {
        let taken = channels.taken_by(peer.conn);
        let taken = taken.map(|(data_consumer, data_track)| DataConsumerInfo { data_consumer, data_track });
        let tracks = peer.tracks.iter().filter(|track| track.ready);
        PeerDetail {
            info: PeerInfo::of(peer),
            transports: peer.transports.iter().map(|path| path.id).collect(),
            tracks: tracks.map(|track| TrackInfo::of(peer.conn, track)).collect(),
            consumers: peer.feeds.iter().map(ConsumerInfo::of).collect(),
            data_tracks: channels.of(peer.conn).cloned().collect(),
            data_consumers: taken.collect(),
        }
    }
}

impl ConsumerInfo {
    fn of(feed: &Feed) -> Self {
        let track = match feed.follows {
            Follows::Program => None,
            Follows::Track(track) => Some(track),
        };
        ConsumerInfo {
            consumer: feed.consumer,
            transport: feed.transport,
            kind: feed.kind,
            track,
            source: feed.source.map(|source| source.origin),
            converted: feed.source.is_some_and(|source| source.job.is_some()),
            refusal: feed.refusal.as_ref().map(|refused| refused.text.clone()),
        }
    }
}

impl Rooms {
    /// Makes a room that stays while nobody is in it; one that is there stays from now on.
    pub fn open(&self, room: &RoomName) -> Result<(), JoinError> {
        self.step(|state| {
            state.make_room(room)?;
            state.rooms.get_mut(room).into_iter().for_each(|room| room.kept = true);
            Ok(())
        })
    }

    /// The room no longer stays when nobody is in it.
    pub fn let_go(&self, room: &RoomName) {
        self.step(|state| {
            let Some(found) = state.rooms.get_mut(room) else { return };
            found.kept = false;
            if found.is_over() {
                state.close_room(room, &CloseReason::new("left", "nobody is in the room"));
            }
        });
    }

    /// Ends a room and everybody in it; `false` when there is none.
    pub fn close(&self, room: &RoomName, reason: &CloseReason) -> bool {
        self.step(|state| {
            let Some((home, _)) = state.rooms.get(room).and_then(|room| room.home()) else { return false };
            state.close_router(room, home, reason);
            true
        })
    }

    /// Everybody in a room, spies included, publishers first.
    pub fn peers(&self, room: &RoomName) -> Option<Vec<PeerDetail>> {
        self.step(|state| {
            let entries = state.rooms.get(room)?.everybody().filter_map(|conn| state.members.get(&conn));
            Some(entries.map(|entry| PeerDetail::of(&entry.peer, &state.data)).collect())
        })
    }

    /// Somebody in a room, to be asked what its own door may ask: statistics, dumps, preferences, its end.
    pub fn peer(&self, room: &RoomName, conn: ConnId) -> Option<Peer> {
        let shared = self.step(|state| {
            let entry = state.members.get(&conn).filter(|entry| entry.room == *room)?;
            Some(entry.shared.clone())
        })?;
        Some(Peer::new(shared, self.clone()))
    }

    /// Sends somebody away; `text` is for people.
    pub async fn kick(&self, room: &RoomName, conn: ConnId, text: &str) -> Result<(), ControlError> {
        let peer = self.peer(room, conn).ok_or(ControlError::Closed)?;
        peer.close(CloseReason::new("kicked", text)).await;
        Ok(())
    }

    /// Holds back what somebody sends of a kind, whatever it wants itself; or no longer. That goes for what it sends
    /// later too.
    pub async fn mute(
        &self,
        room: &RoomName,
        conn: ConnId,
        kind: Kind,
        muted: bool,
    ) -> Result<(), ControlError> {
        for pending in self.step(|state| state.mute(room, conn, kind, muted))? {
            answer(pending).await?;
        }
        Ok(())
    }

    /// Changes somebody's name for people, the application's data beside it, or both.
    pub fn set_peer(
        &self,
        room: &RoomName,
        conn: ConnId,
        display_name: Option<Option<String>>,
        app_data: Option<Value>,
    ) -> Result<(), ControlError> {
        self.step(|state| state.set_peer(room, conn, display_name, app_data))
    }

    /// Ends one track of somebody.
    pub async fn close_track(
        &self,
        room: &RoomName,
        conn: ConnId,
        producer: ProducerId,
        text: &str,
    ) -> Result<(), ControlError> {
        self.step(|state| {
            let track =
                state.here(room, conn)?.track_called(producer).map(|track| (track.producer, track.sent));
            let (producer, sent) = track.ok_or(ControlError::NotAllowed("that is no track of this peer"))?;
            state.drop_track(conn, producer);
            let reason = CloseReason::new("kicked", text);
            state.tell_peer(conn, PeerEvent::ProducerClosed { producer: sent, reason });
            Ok(())
        })
    }
}

impl Peer {
    /// Tells the others of somebody who joined unannounced, by this name for people and with the application's data.
    /// Those who see everybody have been told before and are told again.
    pub fn announce(&self, display_name: Option<String>, app_data: Value) -> Result<(), ControlError> {
        self.rooms().step(|state| state.announce(&self.room(), self.conn(), display_name, app_data))
    }
}

impl State {
    /// Somebody, if it is in that room.
    pub fn here(&mut self, room: &RoomName, conn: ConnId) -> Result<&mut Member, ControlError> {
        let entry = self.members.get_mut(&conn).filter(|entry| entry.room == *room);
        entry.map(|entry| &mut entry.peer).ok_or(ControlError::Closed)
    }

    fn mute(
        &mut self,
        room: &RoomName,
        conn: ConnId,
        kind: Kind,
        muted: bool,
    ) -> Result<Vec<Pending>, ControlError> {
        let peer = self.here(room, conn)?;
        peer.muted.set(kind, muted);
        let tracks = peer.tracks.iter().filter(|track| track.format.kind == kind && track.muted != muted);
        let sent: Vec<ProducerId> = tracks.map(|track| track.sent).collect();
        let mut pending = vec![done()];
        for producer in sent {
            pending.push(self.pause_track(conn, producer, |track| track.muted = muted)?);
            let event = match muted {
                true => PeerEvent::ProducerPaused { producer },
                false => PeerEvent::ProducerResumed { producer },
            };
            self.tell_peer(conn, event);
        }
        Ok(pending)
    }

    fn set_peer(
        &mut self,
        room: &RoomName,
        conn: ConnId,
        display_name: Option<Option<String>>,
        app_data: Option<Value>,
    ) -> Result<(), ControlError> {
        app_data.as_ref().map_or(Ok(()), |data| self.check_app_data(data))?;
        let peer = self.here(room, conn)?;
        if let Some(name) = display_name {
            peer.display_name = name;
        }
        if let Some(data) = app_data {
            peer.app_data = data;
        }
        let (info, hidden) = (PeerInfo::of(peer), peer.is_hidden());
        self.emit_of(room, hidden, || RoomEvent::PeerChanged(info));
        Ok(())
    }

    fn announce(
        &mut self,
        room: &RoomName,
        conn: ConnId,
        display_name: Option<String>,
        app_data: Value,
    ) -> Result<(), ControlError> {
        self.check_app_data(&app_data)?;
        let peer = self.here(room, conn)?;
        (peer.display_name, peer.app_data, peer.announced) = (display_name, app_data, true);
        let (info, hidden) = (PeerInfo::of(peer), peer.is_hidden());
        self.emit_of(room, hidden, || RoomEvent::PeerJoined(info));
        Ok(())
    }
}
