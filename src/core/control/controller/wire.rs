//! A controller's bytes: which of the two forms they are in, and requests, answers and events in either.
//!
//! | | text | JSON |
//! | --- | --- | --- |
//! | framing | [`text`] | [`netstring`] |
//! | request | `Request <method>`, uuid, ids and data as parameters | `{id, method, internal?, data?}` |
//! | answer | `Response <method>`, uuid, `OK`, data as parameters | `{id, accepted: true, data}` |
//! | refusal | the same with `ERROR`, `code`, `reason` | `{id, rejected: true, code, reason}` |
//! | event | `Notification <event>`, `targetId`, data as parameters | `{targetId, event, data?}` |

#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use serde_json::{Map, Value, json};

use crate::core::control::controller::code::{Code, Fault};
use crate::core::control::controller::vocabulary::Entry;
use crate::core::control::netstring::{self, NetstringError};
use crate::core::control::text::{self, Message, TextError};

/// The connection is of no use any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WireError {
    /// What came first is neither form.
    #[error("neither a message of the control protocol nor a netstring")]
    Stranger,
    /// The text form broke.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The netstrings broke.
    #[error(transparent)]
    Netstring(#[from] NetstringError),
}

impl WireError {
    /// Whether a remote party can bring this about: always.
    pub fn is_expected(&self) -> bool {
        true
    }
}

/// How a controller speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// Lines.
    Text,
    /// JSON in netstrings.
    Json,
}

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// Repeated in the answer.
    pub id: u32,
    /// What is asked for.
    pub method: String,
    /// Ids.
    pub internal: Map<String, Value>,
    /// The rest.
    pub data: Map<String, Value>,
}

/// What a controller said.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// A request.
    Ask(Ask),
    /// Something with intact framing that is no request.
    Nonsense(Fault),
    /// A response or a notification, of which a server that asks nothing needs none.
    Unneeded,
}

/// The bytes of one connection, cut into what they say.
pub struct Wire {
    stage: Stage,
    limit: usize,
}

enum Stage {
    /// The first bytes, as long as they may still become either form.
    Undecided(Vec<u8>),
    Text(text::Reader),
    Json(netstring::Reader),
    Strange,
}

impl Wire {
    /// For messages of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Wire { stage: Stage::Undecided(Vec::new()), limit }
    }

    /// The same for somebody whose form is known.
    pub fn of(form: Form, limit: usize) -> Self {
        let stage = match form {
            Form::Text => Stage::Text(text::Reader::new(limit)),
            Form::Json => Stage::Json(netstring::Reader::new(limit)),
        };
        Wire { stage, limit }
    }

    /// Takes bytes in; drain [`next_heard`](Self::next_heard) afterwards.
    pub fn feed(&mut self, bytes: &[u8]) {
        match &mut self.stage {
            Stage::Undecided(first) => {
                first.extend_from_slice(bytes);
                let first = std::mem::take(first);
                self.decide(first);
            }
            Stage::Text(reader) => reader.feed(bytes),
            Stage::Json(reader) => reader.feed(bytes),
            Stage::Strange => {}
        }
    }

    fn decide(&mut self, first: Vec<u8>) {
        let words: [&[u8]; 3] = [b"Request ", b"Response ", b"Notification "];
        self.stage = match first.first() {
            Some(byte) if byte.is_ascii_digit() => {
                let mut reader = netstring::Reader::new(self.limit);
                reader.feed(&first);
                Stage::Json(reader)
            }
            _ if words.iter().any(|word| first.starts_with(word)) => {
                let mut reader = text::Reader::new(self.limit);
                reader.feed(&first);
                Stage::Text(reader)
            }
            _ if words.iter().any(|word| word.starts_with(&first)) => Stage::Undecided(first),
            _ => Stage::Strange,
        };
    }

    /// The next thing that was said, if it is there whole.
    pub fn next_heard(&mut self) -> Result<Option<Heard>, WireError> {
        match &mut self.stage {
            Stage::Undecided(_) => Ok(None),
            Stage::Strange => Err(WireError::Stranger),
            Stage::Text(reader) => Ok(reader.next_message()?.map(of_text)),
            Stage::Json(reader) => Ok(reader.next_payload()?.map(of_json)),
        }
    }

    /// The form, once it is known.
    pub fn form(&self) -> Option<Form> {
        match self.stage {
            Stage::Undecided(_) | Stage::Strange => None,
            Stage::Text(_) => Some(Form::Text),
            Stage::Json(_) => Some(Form::Json),
        }
    }

    /// How many bytes wait for the rest of their message.
    pub fn buffered(&self) -> usize {
        match &self.stage {
            Stage::Undecided(first) => first.len(),
            Stage::Strange => 0,
            Stage::Text(reader) => reader.buffered(),
            Stage::Json(reader) => reader.buffered(),
        }
    }
}

/// The vocabulary says which parameters are ids, and which are texts whatever they look like.
fn of_text(message: Message) -> Heard {
    let Message::Request { kind, uuid, parameters } = message else { return Heard::Unneeded };
    let entry = Entry::find(&kind);
    let (mut internal, mut data) = (Map::new(), Map::new());
    for (key, value) in parameters {
        let value = text::read_value(&value, entry.is_some_and(|entry| entry.is_text(&key)));
        let part = if entry.is_some_and(|entry| entry.is_internal(&key)) { &mut internal } else { &mut data };
        part.insert(key, value);
    }
    Heard::Ask(Ask { id: uuid, method: kind, internal, data })
}

/// `internal` and `data` that are no objects count as empty, as in the worker channel.
fn of_json(payload: &[u8]) -> Heard {
    let nonsense = |reason: String| Heard::Nonsense(Fault::new(Code::BadRequest, reason));
    let mut message = match serde_json::from_slice(payload) {
        Ok(Value::Object(message)) => message,
        Ok(_) => return nonsense("a message is a JSON object".into()),
        Err(error) => return nonsense(format!("a message is a JSON object: {error}")),
    };
    let Some(method) = message.get_mut("method").map(Value::take) else {
        let other = ["accepted", "rejected", "event"].iter().any(|key| message.contains_key(*key));
        return if other { Heard::Unneeded } else { nonsense("`method` is missing".into()) };
    };
    let Value::String(method) = method else { return nonsense("`method` has to be a text".into()) };
    let id = message.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
    let Some(id) = id else { return nonsense("`id` has to be a number from 0 to 4294967295".into()) };
    let mut object = |key: &str| match message.get_mut(key).map(Value::take) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    Heard::Ask(Ask { id, method, internal: object("internal"), data: object("data") })
}

impl Form {
    /// Appends an answer.
    pub fn answer(self, id: u32, method: &str, result: &Result<Value, Fault>, out: &mut Vec<u8>) {
        match self {
            Form::Text => {
                let parameters = match result {
                    Ok(data) => text::write_parameters(data),
                    Err(fault) => text::write_parameters(&json!({
                        "code": fault.code.as_str(),
                        "reason": fault.reason,
                    })),
                };
                // A type that was read is a name.
                let (kind, ok) = (method.to_owned(), result.is_ok());
                Message::Response { kind, uuid: id, ok, parameters }.write(out);
            }
            Form::Json => {
                let message = match result {
                    Ok(Value::Null) => json!({"id": id, "accepted": true, "data": {}}),
                    Ok(data) => json!({"id": id, "accepted": true, "data": data}),
                    Err(fault) => json!({
                        "id": id,
                        "rejected": true,
                        "code": fault.code.as_str(),
                        "reason": fault.reason,
                    }),
                };
                write_json(&message, out);
            }
        }
    }

    /// Appends an event; 0 stands for the connection itself.
    pub fn event(self, target: u32, event: &str, data: &Value, out: &mut Vec<u8>) {
        match self {
            Form::Text => {
                let mut parameters = vec![("targetId".to_owned(), target.to_string())];
                parameters
                    .extend(text::write_parameters(data).into_iter().filter(|(key, _)| key != "targetId"));
                Message::Notification { kind: event.to_owned(), parameters }.write(out);
            }
            Form::Json => {
                let mut message = json!({"targetId": target, "event": event});
                if let (false, Some(map)) = (data.is_null(), message.as_object_mut()) {
                    map.insert("data".to_owned(), data.clone());
                }
                write_json(&message, out);
            }
        }
    }
}

fn write_json(message: &Value, out: &mut Vec<u8>) {
    let json = serde_json::to_vec(message).unwrap_or_default();
    // What is written is bounded by the connection's queue.
    let _ = netstring::write(&json, usize::MAX, out);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    fn hear(bytes: &[u8], cut: usize) -> Result<Vec<Heard>, WireError> {
        let (mut wire, mut heard) = (Wire::new(1000), Vec::new());
        for piece in bytes.chunks(cut) {
            wire.feed(piece);
            while let Some(one) = wire.next_heard()? {
                heard.push(one);
            }
        }
        Ok(heard)
    }

    fn netstring(json: &str) -> Vec<u8> {
        let mut out = Vec::new();
        netstring::write(json.as_bytes(), 1000, &mut out).unwrap();
        out
    }

    #[test]
    fn both_forms_say_the_same() {
        let text = b"Request router.createConsumer\r\n7\r\nrouterId: 1\r\nconsumerId: 2\r\nproducerId: 3\r\n\
            kind: video\r\n\r\n";
        let json = netstring(
            r#"{"id":7,"method":"router.createConsumer","internal":{"routerId":1,"consumerId":2,"producerId":3},"data":{"kind":"video"}}"#,
        );
        for cut in [1, 1000] {
            let heard = hear(text, cut).unwrap();
            assert_eq!(heard, hear(&json, cut).unwrap());
            let [Heard::Ask(ask)] = &heard[..] else { panic!("{heard:?}") };
            assert_eq!((&ask.internal["consumerId"], &ask.data["kind"]), (&json!(2), &json!("video")));
        }
    }

    #[test]
    fn a_text_that_looks_like_a_number_stays_one() {
        let heard = hear(b"Request Authenticate\r\n1\r\nuser: 007\r\npasswd: 1e5\r\n\r\n", 99).unwrap();
        let [Heard::Ask(ask)] = &heard[..] else { panic!("{heard:?}") };
        assert_eq!((&ask.data["user"], &ask.data["passwd"]), (&json!("007"), &json!("1e5")));
    }

    #[test]
    fn strangers_are_known_by_their_first_bytes() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"POST /control HTTP/1.1\r\n",
            b"REPORT / HTTP/1.1\r\n",
            b"\x16\x03\x01",
            b"{\"id\":1}",
            b"\r\n",
            b"request Hello",
        ] {
            assert_eq!(hear(bytes, 1), Err(WireError::Stranger), "{bytes:?}");
        }
        assert_eq!(hear(b"Requ", 1), Ok(vec![]));
        assert!(matches!(hear(b"Request / HTTP/1.1\r\n\r\n", 5), Err(WireError::Text(TextError::BadStart))));
    }

    #[test]
    fn nonsense_within_good_framing_is_said_to_be_that() {
        for json in
            ["[]", "{", "{}", "\"x\"", r#"{"id":1}"#, r#"{"method":"x"}"#, r#"{"id":-1,"method":"x"}"#]
        {
            let heard = hear(&netstring(json), 1000).unwrap();
            assert!(
                matches!(&heard[..], [Heard::Nonsense(fault)] if fault.code == Code::BadRequest),
                "{heard:?}"
            );
        }
        let deep = format!(r#"{{"id":1,"method":"x","data":{}"#, "[".repeat(500));
        assert!(matches!(&hear(&netstring(&deep), 1000).unwrap()[..], [Heard::Nonsense(_)]));
        for json in [r#"{"id":1,"accepted":true}"#, r#"{"event":"x"}"#] {
            assert_eq!(hear(&netstring(json), 1000), Ok(vec![Heard::Unneeded]));
        }
    }

    #[test]
    fn answers_and_events_in_both_forms() {
        let mut out = Vec::new();
        Form::Text.answer(3, "Hello", &Ok(json!({"name": "x", "list": [1]})), &mut out);
        let fault = Fault::new(Code::BadData, "no\r\nway");
        Form::Text.answer(4, "a.b", &Err(fault.clone()), &mut out);
        Form::Text.event(5, "close", &json!({"code": "timeout"}), &mut out);
        let expected = "Response Hello\r\n3 OK\r\nlist: [1]\r\nname: x\r\n\r\n\
            Response a.b\r\n4 ERROR\r\ncode: bad_data\r\nreason: \"no\\r\\nway\"\r\n\r\n\
            Notification close\r\ntargetId: 5\r\ncode: timeout\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);

        let mut out = Vec::new();
        Form::Json.answer(3, "x", &Ok(Value::Null), &mut out);
        Form::Json.answer(4, "x", &Err(fault), &mut out);
        Form::Json.event(5, "close", &Value::Null, &mut out);
        let mut reader = netstring::Reader::new(1000);
        reader.feed(&out);
        let mut read = Vec::new();
        while let Some(payload) = reader.next_payload().unwrap() {
            read.push(serde_json::from_slice::<Value>(payload).unwrap());
        }
        assert_eq!(
            read,
            [
                json!({"id": 3, "accepted": true, "data": {}}),
                json!({"id": 4, "rejected": true, "code": "bad_data", "reason": "no\r\nway"}),
                json!({"targetId": 5, "event": "close"}),
            ]
        );
    }
}
