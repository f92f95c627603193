//! Requests about telephone calls, carried out by whoever carries calls.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::core::auth::Principal;
use crate::core::control::calls::{CallError, CallInfo, Calls, Dial, Meanwhile};
use crate::core::control::controller::code::{Code, Fault};
use crate::core::control::controller::session::Session;
use crate::core::control::controller::vocabulary::CallMethod;
use crate::core::control::controller::wire::Ask;
use crate::core::control::controller::worker::id_of;
use crate::core::control::controller::{ControllerId, Task};
use crate::core::control::rooms::Rooms;
use crate::core::id::SessionId;
use crate::core::room::RoomName;

impl Session {
    /// Carries out a request about calls, in its time.
    pub(super) fn call_asked(&self, id: ControllerId, method: CallMethod, ask: Ask) -> Task {
        let (rooms, reserved) = (self.rooms().clone(), self.reserved());
        Box::pin(async move {
            let result = match rooms.calls() {
                Some(calls) => carry_out(&rooms, calls, (id, reserved), method, &ask.data).await,
                None => Err(Fault::new(Code::NotSupported, "no door of this gateway carries calls")),
            };
            rooms.step(|state| state.controllers.answer(id, ask.id, &result));
        })
    }
}

async fn carry_out(
    rooms: &Rooms,
    calls: Arc<dyn Calls>,
    (id, reserved): (ControllerId, &[&str]),
    method: CallMethod,
    data: &Map<String, Value>,
) -> Result<Value, Fault> {
    let may = |room: &str| rooms.step(|state| state.may_call(id, room));
    let who: Principal = rooms.step(|state| state.controllers.who(id))?;
    let text = |key: &str| data.get(key).and_then(Value::as_str);
    match method {
        CallMethod::List => {
            let mut all = calls.list().await;
            all.retain(|call| may(&call.room).is_ok());
            return Ok(json!({"calls": all}));
        }
        CallMethod::Dial => {
            let dial = wanted(data, reserved)?;
            may(&dial.room)?;
            let call = calls.dial(&who, dial).await.map_err(refused)?;
            return Ok(json!({"call": call}));
        }
        _ => {}
    }
    let call = called(&*calls, text("call").unwrap_or_default()).await?;
    // Calls of other rooms are unknown.
    may(&call.room).map_err(|_| refused(CallError::Unknown))?;
    let done = match method {
        CallMethod::HangUp => calls.hang_up(call.id, text("reason").unwrap_or("ended by a controller")).await,
        CallMethod::Hold => {
            let held = data.get("held").and_then(Value::as_bool).unwrap_or(true);
            calls.hold(call.id, held).await
        }
        CallMethod::SendDtmf => calls.send_dtmf(call.id, text("digits").unwrap_or_default()).await,
        CallMethod::Transfer => calls.transfer(&who, call.id, text("number").unwrap_or_default()).await,
        CallMethod::List | CallMethod::Dial => Ok(()),
    };
    done.map(|()| Value::Null).map_err(refused)
}

/// The call of an id, as a list shows it.
async fn called(calls: &dyn Calls, id: &str) -> Result<CallInfo, Fault> {
    let id = SessionId::parse(id).ok_or_else(|| refused(CallError::Unknown))?;
    let found = calls.list().await.into_iter().find(|call| call.id == id);
    found.ok_or_else(|| refused(CallError::Unknown))
}

fn wanted(data: &Map<String, Value>, reserved: &[&str]) -> Result<Dial, Fault> {
    let bad = |reason: &str| Fault::new(Code::BadData, reason);
    let text = |key: &str| data.get(key).and_then(Value::as_str).map(str::to_owned);
    let room = text("room").unwrap_or_default();
    RoomName::new(&room, reserved).map_err(|error| bad(&format!("data.room: {error}")))?;
    let numbers: Vec<String> = match (text("number"), data.get("numbers").and_then(Value::as_array)) {
        (Some(number), None) => vec![number],
        (None, Some(numbers)) => {
            let numbers = numbers.iter().map(|number| number.as_str().map(str::to_owned)).collect();
            Option::ok_or_else(numbers, || bad("data.numbers has to be a list of texts"))?
        }
        _ => return Err(bad("either data.number or data.numbers says whom to call")),
    };
    let play = match text("play").as_deref() {
        None | Some("ringback") => Meanwhile::Ringback,
        Some("nothing") => Meanwhile::Nothing,
        Some("hold") => Meanwhile::Hold,
        Some(other) => match other.strip_prefix("prompt:") {
            Some(name) => Meanwhile::Prompt(name.to_owned()),
            None => return Err(bad("data.play is `ringback`, `nothing`, `hold` or `prompt:<name>`")),
        },
    };
    let ring_s = id_of(data, "ring");
    Ok(Dial { room, numbers, trunk: text("trunk"), caller_id: text("callerId"), ring_s, play })
}

fn refused(error: CallError) -> Fault {
    let code = match &error {
        CallError::Unknown => Code::UnknownCall,
        CallError::Denied(_) => Code::NotAllowed,
        CallError::Bad(_) => Code::BadData,
        _ => Code::Refused,
    };
    Fault::new(code, error.to_string())
}
