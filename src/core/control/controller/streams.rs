//! Requests about streams that the server fetches, sends away or plays, carried out by whoever carries them.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::core::control::controller::code::{Code, Fault};
use crate::core::control::controller::session::Session;
use crate::core::control::controller::vocabulary::StreamMethod;
use crate::core::control::controller::wire::Ask;
use crate::core::control::controller::{ControllerId, Task};
use crate::core::control::rooms::Rooms;
use crate::core::control::streams::{StreamError, Streams, Wanted};
use crate::core::id::SessionId;
use crate::core::room::RoomName;

impl Session {
    /// Carries out a request about streams, in its time.
    pub(super) fn stream_asked(&self, id: ControllerId, method: StreamMethod, ask: Ask) -> Task {
        let (rooms, room) = (self.rooms().clone(), self.room(id, &ask.data));
        Box::pin(async move {
            let result = match (room, rooms.streams()) {
                (Err(fault), _) => Err(fault),
                (_, None) => Err(Fault::new(Code::NotSupported, "nothing here carries streams")),
                (Ok(room), Some(streams)) => carry_out(&rooms, streams, (id, room), method, ask.data).await,
            };
            rooms.step(|state| state.controllers.answer(id, ask.id, &result));
        })
    }
}

async fn carry_out(
    rooms: &Rooms,
    streams: Arc<dyn Streams>,
    (id, room): (ControllerId, RoomName),
    method: StreamMethod,
    mut data: Map<String, Value>,
) -> Result<Value, Fault> {
    data.remove("room");
    let named = |data: &Map<String, Value>| {
        let text = data.get("stream").and_then(Value::as_str).unwrap_or_default();
        SessionId::parse(text).ok_or_else(|| Fault::from(StreamError::Unknown))
    };
    let wanted = match method {
        StreamMethod::Push => Wanted::Push(read(data)?),
        StreamMethod::Pull => Wanted::Pull(read(data)?),
        StreamMethod::Play => Wanted::Play(read(data)?),
        StreamMethod::List => return Ok(json!({"streams": streams.list(&room)})),
        StreamMethod::Pause => {
            let paused = data.get("paused").and_then(Value::as_bool).unwrap_or(true);
            return Ok(json!(streams.pause(&room, named(&data)?, paused)?));
        }
        StreamMethod::Stop => {
            streams.stop(&room, named(&data)?)?;
            return Ok(Value::Null);
        }
    };
    let who = rooms.step(|state| state.controllers.who(id))?;
    Ok(json!(streams.begin(&who, &room, wanted).await?))
}

fn read<T: DeserializeOwned>(data: Map<String, Value>) -> Result<T, Fault> {
    serde_json::from_value(Value::Object(data))
        .map_err(|error| Fault::new(Code::BadData, format!("data: {error}")))
}

impl From<StreamError> for Fault {
    fn from(error: StreamError) -> Self {
        let code = match &error {
            StreamError::Bad(_) => Code::BadData,
            StreamError::Forbidden(_) => Code::NotAllowed,
            StreamError::Unknown => Code::UnknownStream,
            StreamError::NoFile | StreamError::NotNow(_) => Code::Refused,
            StreamError::Limit(_) => Code::Limit,
        };
        Fault::new(code, error.to_string())
    }
}
