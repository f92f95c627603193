//! Whose picture a room shows to those that can take only one: the speaker's, kept for a while against flapping, else
//! that of the publisher that came last.

use std::cmp::Reverse;

use tracing::info;

use crate::core::capabilities::Kind;
use crate::core::control::state::{State, Timer};
use crate::core::id::ConnId;
use crate::core::room::{Room, RoomName};

/// Speakers remembered: the last is shown to the present one, and to all when that one leaves.
const MAX_SPEAKERS: usize = 8;

impl State {
    /// Publishers in the order in which a receiver should be shown them, without itself.
    pub fn pictures_for(&self, room: &Room, conn: ConnId) -> Vec<ConnId> {
        // A publisher that came back is waited for; nobody else is flashed meanwhile.
        if let Some(awaited) = room.awaited {
            return vec![awaited];
        }
        let spoke = room.speakers.shown.iter().copied();
        let mut rest: Vec<ConnId> = room.publishers.clone();
        rest.sort_by_key(|conn| Reverse(self.members.get(conn).and_then(|entry| entry.peer.live_since)));
        let mut order: Vec<ConnId> = Vec::new();
        for other in spoke.chain(rest).filter(|other| *other != conn) {
            if self.shows(other) && !order.contains(&other) {
                order.push(other);
            }
        }
        order
    }

    /// Whether somebody sends a picture now.
    fn shows(&self, conn: ConnId) -> bool {
        let track = self.members.get(&conn).and_then(|entry| entry.peer.track(Kind::Video));
        track.is_some_and(|track| !track.is_paused())
    }

    /// The present picture has been shown for long enough.
    pub fn speaker_may_change(&mut self, name: &RoomName, changes: u64) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        if room.speakers.changes == changes {
            room.speakers.held = false;
            self.show_speaker(name);
        }
    }

    /// Shows who speaks, unless another picture came only a moment ago.
    pub fn show_speaker(&mut self, name: &RoomName) {
        let Some((owner, _)) = self.speaker(name) else { return };
        let Some(room) = self.rooms.get(name).filter(|room| !room.speakers.held) else { return };
        if !self.shows(owner) || room.speakers.shown.first() == Some(&owner) {
            return;
        }
        let Some(room) = self.rooms.get_mut(name) else { return };
        let speakers = &mut room.speakers;
        speakers.shown.retain(|other| *other != owner);
        speakers.shown.insert(0, owner);
        speakers.shown.truncate(MAX_SPEAKERS);
        speakers.held = true;
        speakers.changes += 1;
        let timer = Timer::Speaker(name.clone(), speakers.changes);
        self.timers.set(State::millis(self.config.speaker_hold_ms), timer);
        info!(room = %name, conn = %owner, "the room shows this speaker");
        self.refresh(name);
    }
}
