//! Requests about the rooms of the gateway and the peers in them.

use std::future::Future;
use std::pin::Pin;

use serde_json::{Map, Value, json};

use crate::core::auth::Action;
use crate::core::capabilities::Kind as Media;
use crate::core::control::controller::code::{Code, Fault};
use crate::core::control::controller::member::Attachment;
use crate::core::control::controller::scope::{Entity, Kind, Owner};
use crate::core::control::controller::session::Session;
use crate::core::control::controller::vocabulary::RoomMethod;
use crate::core::control::controller::watch::Watch;
use crate::core::control::controller::wire::Ask;
use crate::core::control::controller::worker::id_of;
use crate::core::control::controller::{ControllerId, Kept, Task};
use crate::core::control::events::RoomEvent;
use crate::core::control::handle::Peer;
use crate::core::control::moderate::PeerDetail;
use crate::core::control::rooms::Join;
use crate::core::control::state::{State, Timer};
use crate::core::convert::Sound;
use crate::core::id::{ConnId, ProducerId, RouterId};
use crate::core::peer::{CloseReason, PeerKind};
use crate::core::room::{RoomName, Seat};

/// Rooms in one answer.
const MOST_ROOMS: usize = 1_000;
/// Sounds played by one request.
const MOST_SOUNDS: usize = 32;

type Data = Map<String, Value>;
/// An answer that takes time.
type Later = Pin<Box<dyn Future<Output = Result<Value, Fault>> + Send>>;

impl Session {
    /// Carries out a request about rooms; the answer may take time.
    pub(super) fn room_asked(&mut self, id: ControllerId, method: RoomMethod, ask: Ask) -> Option<Task> {
        let request = ask.id;
        let later = match self.carry_out(id, method, ask) {
            Ok(Ok(answer)) => return self.answered(id, request, &Ok(answer)),
            Ok(Err(later)) => later,
            Err(fault) => return self.answered(id, request, &Err(fault)),
        };
        let rooms = self.rooms().clone();
        Some(Box::pin(async move {
            let result = later.await;
            rooms.step(|state| state.controllers.answer(id, request, &result));
        }))
    }

    fn answered(&self, id: ControllerId, request: u32, result: &Result<Value, Fault>) -> Option<Task> {
        self.rooms().step(|state| state.controllers.answer(id, request, result));
        None
    }

    fn carry_out(
        &mut self,
        id: ControllerId,
        method: RoomMethod,
        ask: Ask,
    ) -> Result<Result<Value, Later>, Fault> {
        let data = &ask.data;
        Ok(Ok(match method {
            RoomMethod::List => self.list_rooms(id, data),
            RoomMethod::Dump => {
                let room = self.room(id, data)?;
                self.rooms().step(|state| state.dump_room(&room)).ok_or_else(unknown_room)?
            }
            RoomMethod::Open => {
                let room = self.room(id, data)?;
                let linger = id_of(data, "linger").map(u64::from);
                self.rooms().step(|state| state.controller_opens(id, room, linger))?;
                Value::Null
            }
            RoomMethod::Close => {
                let room = self.room(id, data)?;
                let reason = CloseReason::new("closed", reason(data, "the room was closed"));
                if !self.rooms().close(&room, &reason) {
                    return Err(unknown_room());
                }
                Value::Null
            }
            RoomMethod::Watch => self.watch(id, &ask)?,
            RoomMethod::Unwatch => {
                let watch = id_of(&ask.internal, Kind::Watch.key()).unwrap_or_default();
                self.rooms().step(|state| {
                    state.own(id)?.scope.get(watch, Kind::Watch)?;
                    state.closed(id, watch, &json!({"code": "closed", "reason": "closed as it was asked"}));
                    Ok::<_, Fault>(())
                })?;
                self.unwatch(watch);
                Value::Null
            }
            RoomMethod::Attach => self.attach(id, &ask)?,
            RoomMethod::Play => {
                let room = self.room(id, data)?;
                let sounds = sounds(data)?;
                self.rooms().step(|state| {
                    if !state.rooms.contains_key(&room) {
                        return Err(unknown_room());
                    }
                    state.play_once(&room, sounds);
                    Ok(())
                })?;
                Value::Null
            }
            RoomMethod::Say => {
                let message = data.get("message").cloned().unwrap_or_default();
                let router = id_of(&ask.internal, Kind::Router.key()).unwrap_or_default();
                self.rooms().step(|state| state.controller_says(id, router, message))?;
                Value::Null
            }
            RoomMethod::Peers => {
                let room = self.room(id, data)?;
                let peers = self.rooms().peers(&room).ok_or_else(unknown_room)?;
                json!({"peers": peers.iter().map(of_peer).collect::<Vec<_>>()})
            }
            RoomMethod::Peer => {
                let (room, conn) = (self.room(id, data)?, conn(data)?);
                let peers = self.rooms().peers(&room).ok_or_else(unknown_room)?;
                let peer = peers.iter().find(|peer| peer.info.conn == conn);
                peer.map(of_peer).ok_or_else(unknown_peer)?
            }
            RoomMethod::Set => {
                let (room, conn) = (self.room(id, data)?, conn(data)?);
                let name = data.get("displayName").map(|name| name.as_str().map(str::to_owned));
                self.rooms().set_peer(&room, conn, name, data.get("appData").cloned())?;
                Value::Null
            }
            RoomMethod::Move => {
                let (room, to) = (self.room(id, data)?, self.room_named(id, data, "to")?);
                if self.rooms().summary(&room).is_none() {
                    return Err(unknown_room());
                }
                self.rooms().move_peer(&room, conn(data)?, &to)?;
                Value::Null
            }
            RoomMethod::Stats | RoomMethod::Kick | RoomMethod::Mute | RoomMethod::CloseTrack => {
                let (room, conn) = (self.room(id, data)?, conn(data)?);
                return self.of_somebody(method, (room, conn), data).map(Err);
            }
        }))
    }

    /// Requests that somebody's worker has to be asked about.
    fn of_somebody(
        &self,
        method: RoomMethod,
        (room, conn): (RoomName, ConnId),
        data: &Data,
    ) -> Result<Later, Fault> {
        if self.rooms().summary(&room).is_none() {
            return Err(unknown_room());
        }
        let rooms = self.rooms().clone();
        let peer = rooms.peer(&room, conn).ok_or_else(unknown_peer)?;
        let text = reason(data, "sent away by a controller");
        Ok(match method {
            RoomMethod::Kick => Box::pin(async move {
                rooms.kick(&room, conn, &text).await?;
                Ok(Value::Null)
            }),
            RoomMethod::CloseTrack => {
                let track = ProducerId(id_of(data, "track").unwrap_or_default());
                Box::pin(async move {
                    rooms.close_track(&room, conn, track, &text).await?;
                    Ok(Value::Null)
                })
            }
            RoomMethod::Mute => {
                let muted = data.get("muted").and_then(Value::as_bool).unwrap_or(true);
                let kinds = match data.get("kind").and_then(Value::as_str) {
                    None => vec![Media::Audio, Media::Video],
                    Some("audio") => vec![Media::Audio],
                    Some("video") => vec![Media::Video],
                    Some(_) => return Err(Fault::new(Code::BadData, "data.kind is `audio` or `video`")),
                };
                Box::pin(async move {
                    for kind in kinds {
                        rooms.mute(&room, conn, kind, muted).await?;
                    }
                    Ok(Value::Null)
                })
            }
            _ => {
                let detail =
                    rooms.peers(&room).and_then(|peers| peers.into_iter().find(|it| it.info.conn == conn));
                let detail = detail.ok_or_else(unknown_peer)?;
                Box::pin(statistics(peer, detail))
            }
        })
    }

    /// The room that a request names, if the controller may control it.
    pub(super) fn room(&self, id: ControllerId, data: &Data) -> Result<RoomName, Fault> {
        self.room_named(id, data, "room")
    }

    /// A room that a field names, if the controller has the right there.
    fn room_named(&self, id: ControllerId, data: &Data, field: &str) -> Result<RoomName, Fault> {
        let name = data.get(field).and_then(Value::as_str).unwrap_or_default();
        let name = RoomName::new(name, self.reserved());
        let name = name.map_err(|error| Fault::new(Code::BadData, format!("data.{field}: {error}")))?;
        self.rooms().step(|state| state.controllers.may_control(id, name.as_str()))?;
        Ok(name)
    }

    fn list_rooms(&self, id: ControllerId, data: &Data) -> Value {
        let after = data.get("after").and_then(Value::as_str).unwrap_or_default();
        let limit = id_of(data, "limit").map_or(MOST_ROOMS, |limit| limit as usize).clamp(1, MOST_ROOMS);
        let mut rooms = self.rooms().summaries();
        rooms.retain(|room| {
            let name = room.name.as_str();
            name > after && self.rooms().step(|state| state.controllers.may_control(id, name).is_ok())
        });
        let more = rooms.len() > limit;
        rooms.truncate(limit);
        json!({"rooms": rooms, "more": more})
    }

    fn watch(&mut self, id: ControllerId, ask: &Ask) -> Result<Value, Fault> {
        let room = match ask.data.get("room").filter(|room| !room.is_null()) {
            Some(_) => Some(self.room(id, &ask.data)?),
            None => None,
        };
        let watch = id_of(&ask.internal, Kind::Watch.key()).unwrap_or_default();
        self.rooms().step(|state| state.enter_watch(id, watch))?;
        self.keep_watch(Watch::new(watch, room, self.rooms()));
        Ok(Value::Null)
    }

    fn attach(&mut self, id: ControllerId, ask: &Ask) -> Result<Value, Fault> {
        let (data, room) = (&ask.data, self.room(id, &ask.data)?);
        let router = id_of(&ask.internal, Kind::Router.key()).unwrap_or_default();
        let text = |key: &str| data.get(key).and_then(Value::as_str).map(str::to_owned);
        let flag = |key: &str, default| data.get(key).and_then(Value::as_bool).unwrap_or(default);
        let publishes = flag("publishes", false);
        let shared = self.rooms().step(|state| {
            state.check_count(id)?;
            state.own(id)?.scope.check_new(router)?;
            let who = state.controllers.who(id)?;
            let join = Join {
                name: text("name"),
                publishes,
                display_name: text("displayName"),
                app_data: data.get("appData").cloned().unwrap_or_default(),
                spy: flag("spy", !publishes),
                ..Join::new(room.clone(), PeerKind::Controller, who)
            };
            Ok::<_, Fault>(state.join(join)?)
        })?;
        let peer = Peer::new(shared, self.rooms().clone());
        self.rooms().step(|state| state.enter_attached(id, router, peer.conn()))?;
        let answer = json!({"conn": peer.conn(), "workerId": peer.conn().worker()});
        let events = self.rooms().oversee(&room);
        self.keep_attachment(Attachment::new(router, peer, events));
        Ok(answer)
    }
}

impl State {
    /// Makes a room that stays until its controller goes.
    fn controller_opens(
        &mut self,
        id: ControllerId,
        name: RoomName,
        linger: Option<u64>,
    ) -> Result<(), Fault> {
        if self.rooms.contains_key(&name) {
            return Err(Fault::new(Code::RoomExists, "the room is there already"));
        }
        self.check_count(id)?;
        self.make_room(&name)?;
        let Some(room) = self.rooms.get_mut(&name) else { return Err(unknown_room()) };
        room.kept = true;
        let home = room.home().map_or(RouterId(0), |(home, _)| home);
        let most = self.controllers.max_linger_ms();
        let linger = linger.filter(|ms| *ms > 0).map(|ms| ms.min(most));
        self.own(id)?.rooms.insert(name, Kept { home, linger });
        Ok(())
    }

    /// Ends the rooms that a controller opened, or lets them linger.
    pub(super) fn rooms_left(&mut self, id: ControllerId, (left, crowded): (u64, bool)) {
        let Ok(controller) = self.own(id) else { return };
        let rooms: Vec<(RoomName, Kept)> =
            controller.rooms.iter().map(|(name, kept)| (name.clone(), *kept)).collect();
        for (name, kept) in rooms {
            match kept.linger.filter(|_| !crowded) {
                Some(ms) => self.timers.set(State::millis(ms), Timer::LingerRoom(id, name, left)),
                None => self.end_kept(id, &name),
            }
        }
    }

    /// A room has outlived its controller for as long as was asked.
    pub(in crate::core::control) fn room_linger_over(
        &mut self,
        id: ControllerId,
        name: &RoomName,
        left: u64,
    ) {
        if self.controllers.lingers(id, left) {
            self.end_kept(id, name);
            self.forget_if_bare(id);
        }
    }

    /// Ends a room that a controller opened, if it is still that one.
    fn end_kept(&mut self, id: ControllerId, name: &RoomName) {
        let kept = self.own(id).ok().and_then(|controller| controller.rooms.remove(name));
        let home = self.rooms.get(name).and_then(|room| room.home()).map(|(home, _)| home);
        if let Some(home) = home.filter(|home| kept.is_some_and(|kept| kept.home == *home)) {
            let reason = CloseReason::new("controller_gone", "the controller that opened the room is gone");
            self.close_router(name, home, &reason);
        }
    }

    fn enter_watch(&mut self, id: ControllerId, watch: u32) -> Result<(), Fault> {
        self.check_count(id)?;
        let most = self.controllers.max_watches();
        let ours = self.dispatcher.allocate();
        let scope = &mut self.own(id)?.scope;
        scope.check_new(watch)?;
        if scope.count(Kind::Watch) >= most {
            return Err(Fault::new(Code::Limit, format!("the controller watches {most} times")));
        }
        scope.insert(watch, Entity::alone(Kind::Watch, Owner::Controller, watch, ours));
        Ok(())
    }

    fn enter_attached(&mut self, id: ControllerId, router: u32, conn: ConnId) -> Result<(), Fault> {
        // A router of the room may carry several attachments, so none of its ids stands for this one.
        let ours = self.dispatcher.allocate();
        let worker = self.member(conn)?.worker;
        let entity = Entity { worker, ..Entity::alone(Kind::Router, Owner::Member(conn), router, ours) };
        self.own(id)?.scope.insert(router, entity);
        Ok(())
    }

    fn controller_says(&mut self, id: ControllerId, router: u32, message: Value) -> Result<(), Fault> {
        let entity = self.own(id)?.scope.get(router, Kind::Router)?;
        let Owner::Member(conn) = entity.owner else {
            return Err(Fault::new(Code::NotSupported, "that router is no room"));
        };
        self.check_app_data(&message)?;
        let room = self.members.get(&conn).map(|entry| entry.room.clone()).ok_or_else(unknown_room)?;
        self.emit(&room, || RoomEvent::Message { from: conn, data: message });
        Ok(())
    }

    /// The rooms of a worker that a controller may control, and what of them is there.
    pub(super) fn rooms_on(&self, id: ControllerId, worker: Option<u64>) -> Value {
        let seats =
            self.rooms.iter().flat_map(|(name, room)| room.seats.iter().map(move |seat| (name, seat)));
        let here = seats.filter(|(_, seat)| worker == Some(u64::from(seat.worker.0)));
        let shown = here.filter(|(name, _)| self.controllers.may_control(id, name.as_str()).is_ok());
        let seat = |(name, seat): (&RoomName, &Seat)| json!({"room": name, "receivers": seat.receivers, "consumers": seat.consumers, "home": seat.pipe.is_none()});
        shown.map(seat).collect()
    }

    fn dump_room(&self, name: &RoomName) -> Option<Value> {
        let room = self.rooms.get(name)?;
        let workers: Vec<Value> = room
            .seats
            .iter()
            .map(|seat| {
                let piped = seat.pipe.as_ref().map_or(0, |pipe| pipe.tracks.len());
                json!({"workerId": seat.worker, "receivers": seat.receivers, "home": seat.pipe.is_none(), "piped": piped})
            })
            .collect();
        let entries = room.everybody().filter_map(|conn| self.members.get(&conn));
        let peers: Vec<Value> =
            entries.map(|entry| of_peer(&PeerDetail::of(&entry.peer, &self.data))).collect();
        let live = room.publishers.iter().filter_map(|conn| self.members.get(conn));
        Some(json!({
            "room": name,
            "live": live.into_iter().any(|entry| entry.peer.is_live()),
            "kept": room.kept,
            "program": room.program,
            "notices": room.refusals.keys().collect::<Vec<_>>(),
            "workers": workers,
            "peers": peers,
        }))
    }
}

/// A peer with all it has; its tracks and consumers by their numbers in the room.
fn of_peer(peer: &PeerDetail) -> Value {
    let mut value = json!(peer);
    value["tracks"] = peer.tracks.iter().map(super::watch::of_track).collect();
    value["dataTracks"] = peer.data_tracks.iter().map(super::watch::of_channel).collect();
    value
}

async fn statistics(peer: Peer, detail: PeerDetail) -> Result<Value, Fault> {
    let (mut transports, mut tracks, mut consumers) = (Vec::new(), Vec::new(), Vec::new());
    for transport in detail.transports {
        transports.push(peer.transport_stats(transport).await?);
    }
    for track in detail.tracks {
        tracks.push(json!({"track": track.producer, "stats": peer.producer_stats(track.producer).await?}));
    }
    for it in detail.consumers {
        consumers.push(json!({"consumer": it.consumer, "stats": peer.consumer_stats(it.consumer).await?}));
    }
    Ok(json!({"transports": transports, "tracks": tracks, "consumers": consumers}))
}

fn unknown_room() -> Fault {
    Fault::new(Code::UnknownRoom, "no such room")
}

fn unknown_peer() -> Fault {
    Fault::new(Code::UnknownPeer, "no such peer in this room")
}

fn conn(data: &Data) -> Result<ConnId, Fault> {
    let text = data.get("conn").and_then(Value::as_str).unwrap_or_default();
    ConnId::parse(text).ok_or_else(|| Fault::new(Code::BadData, "data.conn has to be 32 hexadecimal digits"))
}

fn reason(data: &Data, default: &str) -> String {
    data.get("reason").and_then(Value::as_str).unwrap_or(default).to_owned()
}

fn sounds(data: &Data) -> Result<Vec<Sound>, Fault> {
    let list = data.get("sounds").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() || list.len() > MOST_SOUNDS {
        let reason = format!("data.sounds has to be a list of 1 to {MOST_SOUNDS}");
        return Err(Fault::new(Code::BadData, reason));
    }
    list.iter().map(|sound| sound.as_str().and_then(sound_called)).collect::<Option<_>>().ok_or_else(|| {
        Fault::new(Code::BadData, "data.sounds: one of them is none; the reference lists what there is")
    })
}

fn sound_called(text: &str) -> Option<Sound> {
    let mut parts = text.split(':');
    let (name, first, second) = (parts.next()?, parts.next(), parts.next());
    let millis = |text: Option<&str>| text.and_then(|text| text.parse().ok()).filter(|ms| *ms <= 60_000u32);
    Some(match (name, first, second) {
        ("ringback", None, None) => Sound::Ringback,
        ("busy", None, None) => Sound::Busy,
        ("congestion", None, None) => Sound::Congestion,
        ("join", None, None) => Sound::JoinChime,
        ("leave", None, None) => Sound::LeaveChime,
        ("prompt", Some(name), None) => Sound::Prompt(name.to_owned()),
        ("silence", ms, None) => Sound::Silence(millis(ms)?),
        ("dtmf", Some(key), ms) => {
            let mut keys = key.chars();
            let key = keys.next().filter(|_| keys.next().is_none())?;
            Sound::Dtmf(key, millis(ms)?)
        }
        _ => return None,
    })
}

impl State {
    /// What a controller may do in a room is asked of its key.
    pub(super) fn may_call(&self, id: ControllerId, room: &str) -> Result<(), Fault> {
        self.controllers.may(id, Action::Call, room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sounds_are_read() {
        assert_eq!(sound_called("prompt:enter-pin"), Some(Sound::Prompt("enter-pin".into())));
        assert_eq!(sound_called("dtmf:#:200"), Some(Sound::Dtmf('#', 200)));
        assert_eq!(sound_called("silence:500"), Some(Sound::Silence(500)));
        for bad in ["", "prompt", "dtmf:12:5", "dtmf:1", "silence:x", "silence:99999999", "join:x", "bang"] {
            assert_eq!(sound_called(bad), None, "{bad}");
        }
    }
}
