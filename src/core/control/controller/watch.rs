//! What happens in rooms, as events of a watch.

use std::task::{Context, Poll};

use serde_json::{Value, json};

use crate::core::control::controller::ControllerId;
use crate::core::control::data::DataInfo;
use crate::core::control::events::{AllEvents, RoomEvent, RoomEvents, TrackInfo};
use crate::core::control::queue::End;
use crate::core::control::rooms::Rooms;
use crate::core::room::RoomName;

/// What a session keeps of a watch.
pub(super) struct Watch {
    pub id: u32,
    source: Source,
}

enum Source {
    One(RoomName, RoomEvents),
    All(AllEvents),
}

impl Watch {
    /// Of one room, or of all that the controller may control.
    pub fn new(id: u32, room: Option<RoomName>, rooms: &Rooms) -> Self {
        let source = match room {
            Some(room) => {
                let events = rooms.oversee(&room);
                Source::One(room, events)
            }
            None => Source::All(rooms.watch_all()),
        };
        Watch { id, source }
    }

    /// Tells the controller what happened, one thing at a time; `Ready(false)`: it is over.
    pub fn poll(&mut self, cx: &mut Context<'_>, rooms: &Rooms, controller: ControllerId) -> Poll<bool> {
        let next = match &mut self.source {
            Source::One(room, events) => {
                events.poll_next(cx).map(|event| event.map(|event| (room.clone(), event)))
            }
            Source::All(events) => events.poll_next(cx),
        };
        let Poll::Ready(next) = next else { return Poll::Pending };
        let Some((room, event)) = next else {
            let end = match &self.source {
                Source::One(_, events) => events.end(),
                Source::All(events) => events.end(),
            };
            let (code, reason) = match end {
                Some(End::Lagged) => ("lagged", "the controller did not read what happened"),
                _ => ("closed", "nothing happens any more"),
            };
            let data = json!({"code": code, "reason": reason});
            rooms.step(|state| state.closed(controller, self.id, &data));
            return Poll::Ready(false);
        };
        let all = matches!(self.source, Source::All(_));
        let (name, data) = told(&room, event);
        rooms.step(|state| {
            let controllers = &mut state.controllers;
            // Which rooms it may control was asked once where it named one.
            if !all || controllers.may_control(controller, room.as_str()).is_ok() {
                controllers.tell(controller, self.id, name, &data);
            }
        });
        Poll::Ready(true)
    }
}

/// An event's name and data.
fn told(room: &RoomName, event: RoomEvent) -> (&'static str, Value) {
    let (name, mut data) = match event {
        RoomEvent::RoomOpened => ("roomopened", json!({})),
        RoomEvent::RoomClosed { reason } => {
            ("roomclosed", json!({"code": reason.code, "reason": reason.text}))
        }
        RoomEvent::PeerJoined(peer) => ("peerjoined", json!(peer)),
        RoomEvent::PeerChanged(peer) => ("peerchanged", json!(peer)),
        RoomEvent::PeerLeft { conn, reason } => {
            ("peerleft", json!({"conn": conn, "code": reason.code, "reason": reason.text}))
        }
        RoomEvent::TrackAdded(track) => ("trackadded", of_track(&track)),
        RoomEvent::TrackChanged(track) => ("trackchanged", of_track(&track)),
        RoomEvent::TrackRemoved { conn, producer } => {
            ("trackremoved", json!({"conn": conn, "track": producer}))
        }
        RoomEvent::DataAdded(channel) => ("dataadded", of_channel(&channel)),
        RoomEvent::DataRemoved { conn, data_producer } => {
            ("dataremoved", json!({"conn": conn, "dataTrack": data_producer}))
        }
        RoomEvent::ActiveSpeaker(speaker) => {
            let (conn, track) = speaker.unzip();
            ("activespeaker", json!({"conn": conn, "track": track}))
        }
        RoomEvent::AudioLevels(entries) => ("levels", json!({"entries": entries})),
        RoomEvent::Message { from, data } => ("message", json!({"from": from, "message": data})),
        RoomEvent::Dtmf { conn, digit, duration_ms } => {
            ("dtmf", json!({"conn": conn, "digit": digit, "duration": duration_ms}))
        }
        RoomEvent::Call(call) => ("call", json!(call)),
        RoomEvent::Stream(stream) => ("stream", json!(stream)),
        RoomEvent::Notice { conn, text } => ("notice", json!({"conn": conn, "text": text})),
    };
    data["room"] = room.as_str().into();
    (name, data)
}

/// A data channel of a room.
pub(super) fn of_channel(channel: &DataInfo) -> Value {
    json!({
        "conn": channel.conn,
        "dataTrack": channel.id,
        "sctpStreamParameters": channel.parameters,
        "label": channel.label,
        "protocol": channel.protocol,
        "appData": channel.app_data,
    })
}

/// A track of a room. Its number there is none of the controller's ids.
pub(super) fn of_track(track: &TrackInfo) -> Value {
    json!({
        "conn": track.conn,
        "track": track.producer,
        "kind": track.kind,
        "codec": track.codec,
        "paused": track.paused,
        "layers": track.layers,
        "appData": track.app_data,
    })
}
