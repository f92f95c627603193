//! What a client is shown of its room: the peers that take part, whichever door they came by, and their tracks.
//! Viewers at other doors and spies are not shown, nor is the client itself.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::core::control::calls::CallEvent;
use crate::core::control::{DataInfo, PeerInfo, RoomEvent, TrackInfo};
use crate::core::id::{ConnId, DataProducerId, ProducerId};
use crate::core::peer::PeerKind;

/// See the module.
#[derive(Debug, Default)]
pub struct View {
    peers: HashMap<ConnId, Seen>,
    /// Who speaks.
    speaker: Option<ConnId>,
    /// How many were shown so far.
    count: u64,
}

/// A peer that is shown.
#[derive(Debug)]
pub struct Seen {
    /// What is known of it.
    pub info: PeerInfo,
    /// By what name it is shown: its own, unless somebody else is shown by it.
    pub name: String,
    /// Its tracks.
    pub tracks: Vec<TrackInfo>,
    /// Its data channels.
    pub channels: Vec<DataInfo>,
    order: u64,
}

impl Seen {
    /// Its name for people.
    pub fn display_name(&self) -> &str {
        self.info.display_name.as_deref().unwrap_or(&self.info.name)
    }

    /// What it is, in the shape in which clients describe their browsers.
    pub fn device(&self) -> Value {
        if let Some(device) = self.info.app_data.get("device") {
            return device.clone();
        }
        let name = match self.info.kind {
            PeerKind::Whip => "WHIP publisher",
            PeerKind::Whep => "WHEP viewer",
            PeerKind::Rtmp => "RTMP encoder",
            PeerKind::Clip => "built-in clip",
            PeerKind::Sip => "telephone",
            PeerKind::Room | PeerKind::RoomV2 => "room client",
            PeerKind::Controller => "application",
            PeerKind::Push => "RTMP target",
            PeerKind::Pull => "RTMP source",
            PeerKind::File => "recording",
        };
        json!({"flag": self.info.kind, "name": name, "version": ""})
    }
}

/// Whether somebody takes part in a room, as opposed to watching it.
fn takes_part(info: &PeerInfo) -> bool {
    !info.spy && (info.publishes || matches!(info.kind, PeerKind::Room | PeerKind::RoomV2))
}

impl View {
    /// Somebody joined; answers how it is shown, if it is.
    pub fn joined(&mut self, info: PeerInfo) -> Option<&Seen> {
        if !takes_part(&info) {
            return None;
        }
        let taken = |name: &str| self.peers.values().any(|seen| seen.name == name);
        let mut name = info.name.clone();
        for number in 2.. {
            if !taken(&name) {
                break;
            }
            name = format!("{}~{number}", info.name);
        }
        self.count += 1;
        let (conn, order) = (info.conn, self.count);
        self.peers.insert(conn, Seen { info, name, tracks: Vec::new(), channels: Vec::new(), order });
        self.peers.get(&conn)
    }

    /// Something about somebody is another; answers its former name for people.
    pub fn changed(&mut self, info: PeerInfo) -> Option<(&Seen, String)> {
        let seen = self.peers.get_mut(&info.conn)?;
        let former = seen.display_name().to_owned();
        seen.info = info;
        Some((seen, former))
    }

    /// Somebody left; answers how it was shown.
    pub fn left(&mut self, conn: ConnId) -> Option<Seen> {
        self.peers.remove(&conn)
    }

    /// Whether anybody speaks.
    pub fn has_speaker(&self) -> bool {
        self.speaker.is_some()
    }

    /// By what name whoever speaks is shown to the client, which is told of itself by its own.
    pub fn speaker<'a>(&'a self, (own, name): (Option<ConnId>, &'a str)) -> Option<&'a str> {
        let speaker = self.speaker?;
        match self.get(speaker) {
            Some(seen) => Some(&seen.name),
            None => (own == Some(speaker)).then_some(name),
        }
    }

    /// A track is there, or is another; answers whose.
    pub fn track(&mut self, track: TrackInfo) -> Option<&Seen> {
        let seen = self.peers.get_mut(&track.conn)?;
        match seen.tracks.iter_mut().find(|known| known.producer == track.producer) {
            Some(known) => *known = track,
            None => seen.tracks.push(track),
        }
        Some(seen)
    }

    /// A track is gone.
    pub fn track_gone(&mut self, conn: ConnId, producer: ProducerId) {
        if let Some(seen) = self.peers.get_mut(&conn) {
            seen.tracks.retain(|track| track.producer != producer);
        }
    }

    /// Whatever happened, for those who look later.
    pub fn take(&mut self, event: RoomEvent) {
        match event {
            RoomEvent::ActiveSpeaker(speaker) => self.speaker = speaker.map(|(conn, _)| conn),
            RoomEvent::PeerJoined(info) => drop(self.joined(info)),
            RoomEvent::PeerChanged(info) => drop(self.changed(info)),
            RoomEvent::PeerLeft { conn, .. } => drop(self.left(conn)),
            RoomEvent::TrackAdded(track) | RoomEvent::TrackChanged(track) => drop(self.track(track)),
            RoomEvent::TrackRemoved { conn, producer } => self.track_gone(conn, producer),
            RoomEvent::DataAdded(info) => {
                if let Some(seen) = self.peers.get_mut(&info.conn) {
                    seen.channels.push(info);
                }
            }
            RoomEvent::DataRemoved { conn, data_producer } => {
                if let Some(seen) = self.peers.get_mut(&conn) {
                    seen.channels.retain(|channel| channel.id != data_producer);
                }
            }
            _ => {}
        }
    }

    /// A track and whose it is.
    pub fn track_of(&self, producer: ProducerId) -> Option<(&Seen, &TrackInfo)> {
        self.peers.values().find_map(|seen| {
            let track = seen.tracks.iter().find(|track| track.producer == producer)?;
            Some((seen, track))
        })
    }

    /// Whose a data channel is.
    pub fn owner_of_channel(&self, producer: DataProducerId) -> Option<&Seen> {
        self.peers.values().find(|seen| seen.channels.iter().any(|channel| channel.id == producer))
    }

    /// What clients are told of a call; `peer` is what they call the one it is.
    pub fn call(&self, call: &CallEvent, peer: &str) -> Value {
        let name = call.conn.and_then(|conn| self.get(conn)).map(|seen| seen.name.as_str());
        let (id, number, code) = (call.call, &call.number, call.code);
        let mut told =
            json!({"callId": id, "direction": call.direction, "number": number, "state": call.state});
        told["code"] = json!(code);
        told["text"] = json!(call.text);
        told[peer] = json!(name);
        told
    }

    /// Somebody who is shown.
    pub fn get(&self, conn: ConnId) -> Option<&Seen> {
        self.peers.get(&conn)
    }

    /// All who are shown, in the order in which they came.
    pub fn peers(&self) -> Vec<&Seen> {
        let mut peers: Vec<_> = self.peers.values().collect();
        peers.sort_unstable_by_key(|seen| seen.order);
        peers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::WorkerId;

    fn info(number: u128, name: &str, kind: PeerKind) -> PeerInfo {
        PeerInfo {
            conn: ConnId::new(0, WorkerId(0), number),
            name: name.into(),
            display_name: None,
            kind,
            publishes: kind != PeerKind::Whep,
            spy: false,
            app_data: Value::Null,
        }
    }

    #[test]
    fn who_only_watches_is_not_shown_but_who_sits_in_the_room_is() {
        let mut view = View::default();
        assert!(view.joined(info(1, "live", PeerKind::Whep)).is_none());
        assert!(view.joined(PeerInfo { spy: true, ..info(2, "eve", PeerKind::RoomV2) }).is_none());
        assert!(view.joined(PeerInfo { publishes: false, ..info(3, "bob", PeerKind::RoomV2) }).is_some());
        assert!(view.joined(info(4, "camera", PeerKind::Rtmp)).is_some());
        let names: Vec<_> = view.peers().iter().map(|seen| seen.name.clone()).collect();
        assert_eq!(names, ["bob", "camera"]);
    }

    #[test]
    fn two_of_one_name_are_told_apart() {
        let mut view = View::default();
        for number in 1..=3 {
            view.joined(info(number, "bob", PeerKind::Room));
        }
        let names: Vec<_> = view.peers().iter().map(|seen| seen.name.clone()).collect();
        assert_eq!(names, ["bob", "bob~2", "bob~3"]);
        assert_eq!(
            view.left(info(2, "", PeerKind::Room).conn).map(|seen| seen.name).as_deref(),
            Some("bob~2")
        );
    }

    #[test]
    fn a_door_stands_in_for_a_browser() {
        let mut view = View::default();
        let seen = view.joined(info(1, "camera", PeerKind::Rtmp)).expect("shown");
        assert_eq!(seen.device(), json!({"flag": "rtmp", "name": "RTMP encoder", "version": ""}));
        assert_eq!(seen.display_name(), "camera");
        let device = json!({"flag": "firefox"});
        let browser = PeerInfo { app_data: json!({"device": device}), ..info(2, "x", PeerKind::RoomV2) };
        assert_eq!(view.joined(browser).expect("shown").device(), device);
    }
}
