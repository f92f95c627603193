//! How loud the tracks of a room are and who speaks: asked of the room's mix while one runs, which hears everybody,
//! else of the home router, which hears those whose packets say (RFC 6464); and of neither while nobody wants to know.

use serde::Deserialize;
use serde_json::{Value, json};
use tracing::debug;

use crate::core::capabilities::Kind;
use crate::core::control::events::RoomEvent;
use crate::core::control::state::{State, Target, on_router};
use crate::core::convert::MixCommand;
use crate::core::id::{ConnId, ConsumerId, ProducerId};
use crate::core::message::Method;
use crate::core::observer::SpeakerConfig;
use crate::core::room::{Ears, Room, RoomName};

/// What one event of a router looks back upon, in milliseconds.
const ROUTER_SPAN: u32 = 500;

/// Data of `audiolevels` and `x.levels`: numbers of tracks with their levels in dBov.
#[derive(Deserialize)]
struct Levels {
    entries: Vec<(u32, i8)>,
}

impl State {
    /// Begins or ends to listen to a room, as is wanted now.
    pub fn tune(&mut self, name: &RoomName) {
        let Some(room) = self.rooms.get(name) else { return };
        let wanted = match () {
            () if !self.wants_levels(name, room) => Ears::Off,
            () if self.mixes.contains_key(name) => Ears::Mix,
            () => Ears::Router,
        };
        let old = room.ears;
        if old == wanted {
            return;
        }
        self.listen(name, old, false);
        self.listen(name, wanted, true);
        if let Some(room) = self.rooms.get_mut(name) {
            room.ears = wanted;
        }
    }

    fn listen(&mut self, name: &RoomName, ears: Ears, enabled: bool) {
        let Some((router, worker)) = self.rooms.get(name).and_then(Room::home) else { return };
        match ears {
            Ears::Off => {}
            Ears::Mix => self.tell_mix(name, MixCommand::TellLevels(enabled)),
            Ears::Router => {
                match enabled {
                    true => self.dispatcher.subscribe(router.0, worker, Target::Router(name.clone())),
                    false => self.dispatcher.unsubscribe(router.0),
                }
                let (method, data) = (Method::RouterSetAudioLevelsEvent, json!({"enabled": enabled}));
                self.tell(worker, method, on_router(router), data);
            }
        }
    }

    /// Somebody watches the room, or somebody in it is shown who speaks; and there is something to be heard.
    fn wants_levels(&self, name: &RoomName, room: &Room) -> bool {
        let members = || room.publishers.iter().filter_map(|conn| self.members.get(conn));
        let with = |kind| members().filter(move |entry| entry.peer.tracks_of(kind).next().is_some());
        let shown = room.pictures > 0 && with(Kind::Video).nth(1).is_some();
        (shown || self.watchers.is_attended(name)) && with(Kind::Audio).next().is_some()
    }

    /// The home router says how loud its tracks were.
    pub fn router_heard(&mut self, name: &RoomName, data: &Value) {
        let Ok(Levels { entries }) = Levels::deserialize(data) else {
            return debug!(room = %name, "levels were not understood");
        };
        let known = |(track, level)| {
            let producer = ProducerId(track);
            Some((*self.owners.get(&producer)?, producer, level))
        };
        let levels = entries.into_iter().filter_map(known).collect();
        self.heard(name, levels, ROUTER_SPAN);
    }

    /// The mix says how loud its sources were.
    pub fn mix_heard(&mut self, name: &RoomName, data: &Value) {
        let (Ok(Levels { entries }), Some(mix)) = (Levels::deserialize(data), self.mixes.get(name)) else {
            return debug!(room = %name, "levels were not understood");
        };
        let known = |(track, level)| {
            let (owner, producer) = mix.voice_of(ConsumerId(track))?;
            Some((owner, producer, level))
        };
        let levels = entries.into_iter().filter_map(known).collect();
        self.heard(name, levels, MixCommand::LEVELS_MS);
    }

    fn heard(&mut self, name: &RoomName, mut levels: Vec<(ConnId, ProducerId, i8)>, span_ms: u32) {
        levels.sort_by_key(|(_, _, level)| std::cmp::Reverse(*level));
        let config = SpeakerConfig { loud: self.config.speaker_dbov, lead_ms: self.config.speaker_lead_ms };
        let Some(room) = self.rooms.get_mut(name) else { return };
        let reported: Vec<_> = levels.iter().map(|(_, producer, level)| (*producer, *level)).collect();
        let changed = room.observer.report(&reported, span_ms, config);
        let silent = std::mem::replace(&mut room.silent, levels.is_empty());
        if !(silent && levels.is_empty()) {
            // Twice a second, to as many as a room has members, is more than any of them asks for.
            self.emit_of(name, true, || RoomEvent::AudioLevels(levels));
        }
        if changed {
            self.speaker_changed(name);
        }
        // Those who watched may have gone unnoticed until now.
        self.tune(name);
    }

    /// Another speaks, or nobody any more.
    pub fn speaker_changed(&mut self, name: &RoomName) {
        let speaker = self.speaker(name);
        self.emit(name, || RoomEvent::ActiveSpeaker(speaker));
        if let Some((owner, _)) = speaker {
            debug!(room = %name, conn = %owner, "speaks");
            self.show_speaker(name);
        }
    }

    /// Who speaks in a room.
    pub fn speaker(&self, name: &RoomName) -> Option<(ConnId, ProducerId)> {
        let producer = self.rooms.get(name)?.observer.active()?;
        Some((*self.owners.get(&producer)?, producer))
    }

    /// A track is gone, or held back: nobody speaks by it.
    pub fn unheard(&mut self, name: &RoomName, producer: ProducerId) {
        if self.rooms.get_mut(name).is_some_and(|room| room.observer.forget(producer)) {
            self.emit(name, || RoomEvent::ActiveSpeaker(None));
        }
    }
}
