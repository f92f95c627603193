//! protoo: requests, responses and notifications, each a JSON object in one WebSocket message. Both sides may
//! send any of them; a response answers the request of the same id.
//!
//! | message | JSON |
//! | --- | --- |
//! | request | `{"request": true, "id", "method", "data"}` |
//! | response | `{"response": true, "id", "ok": true, "data"}` |
//! | refusal | `{"response": true, "id", "ok": false, "errorCode", "errorReason"}` |
//! | notification | `{"notification": true, "method", "data"}` |

#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::{Refusal, WireError};

/// The longest method name that is looked at; longer ones are unknown anyway.
const MAX_METHOD: usize = 128;
/// Ids that JavaScript can count.
const MAX_ID: u64 = 1 << 53;

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Wants a response.
    Request {
        /// Chosen by the sender.
        id: u64,
        /// What to do.
        method: String,
        /// With what; an object.
        data: Value,
    },
    /// Answers a request.
    Response {
        /// The request's.
        id: u64,
        /// Data, or a refusal.
        result: Result<Value, Refusal>,
    },
    /// Wants nothing.
    Notification {
        /// What happened.
        method: String,
        /// More of it; an object.
        data: Value,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    request: bool,
    #[serde(default)]
    response: bool,
    #[serde(default)]
    notification: bool,
    id: Option<u64>,
    method: Option<String>,
    #[serde(default)]
    data: Value,
    #[serde(default)]
    ok: bool,
    #[serde(default)]
    error_code: Option<u16>,
    #[serde(default)]
    error_reason: Option<String>,
}

impl Message {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Message, WireError> {
        let value: Value = serde_json::from_str(text).map_err(|_| WireError::NotJson)?;
        if !value.is_object() {
            return Err(WireError::NotJson);
        }
        let raw: Raw = serde_json::from_value(value).map_err(|_| WireError::NotProtoo)?;
        let method = raw.method.filter(|method| method.len() <= MAX_METHOD);
        let id = raw.id.filter(|id| *id <= MAX_ID);
        match (raw.request, raw.response, raw.notification) {
            (true, false, false) => match (id, method) {
                (Some(id), Some(method)) => Ok(Message::Request { id, method, data: object(raw.data) }),
                _ => Err(WireError::NotProtoo),
            },
            (false, true, false) => {
                let refusal = || Refusal {
                    code: raw.error_code.unwrap_or(500),
                    reason: raw.error_reason.unwrap_or_default(),
                };
                let id = id.ok_or(WireError::NotProtoo)?;
                let result = if raw.ok { Ok(object(raw.data)) } else { Err(refusal()) };
                Ok(Message::Response { id, result })
            }
            (false, false, true) => {
                let method = method.ok_or(WireError::NotProtoo)?;
                Ok(Message::Notification { method, data: object(raw.data) })
            }
            _ => Err(WireError::NotProtoo),
        }
    }

    /// The JSON text.
    pub fn to_text(&self) -> String {
        let value = match self {
            Message::Request { id, method, data } => {
                json!({"request": true, "id": id, "method": method, "data": data})
            }
            Message::Response { id, result: Ok(data) } => {
                json!({"response": true, "id": id, "ok": true, "data": data})
            }
            Message::Response { id, result: Err(Refusal { code, reason }) } => {
                json!({"response": true, "id": id, "ok": false, "errorCode": code, "errorReason": reason})
            }
            Message::Notification { method, data } => {
                json!({"notification": true, "method": method, "data": data})
            }
        };
        value.to_string()
    }
}

/// What is not there, or is no object, counts as an empty one.
fn object(data: Value) -> Value {
    if data.is_object() { data } else { Value::Object(Map::new()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_both_ways() {
        let data = json!({"a": 1});
        for message in [
            Message::Request { id: 7, method: "join".into(), data: data.clone() },
            Message::Response { id: 7, result: Ok(data.clone()) },
            Message::Response { id: 7, result: Err(Refusal::new(404, "no")) },
            Message::Notification { method: "x".into(), data },
        ] {
            assert_eq!(Message::parse(&message.to_text()), Ok(message));
        }
    }

    #[test]
    fn data_that_is_no_object_counts_as_empty() {
        let empty = Message::Notification { method: "x".into(), data: json!({}) };
        for data in ["null", "3", "[1]", "\"text\""] {
            let text = format!(r#"{{"notification":true,"method":"x","data":{data}}}"#);
            assert_eq!(Message::parse(&text), Ok(empty.clone()));
        }
        assert_eq!(Message::parse(r#"{"notification":true,"method":"x"}"#), Ok(empty));
    }

    #[test]
    fn what_is_no_message_is_told_apart_from_what_is_no_json() {
        for text in ["", "[]", "7", "{", "nonsense"] {
            assert_eq!(Message::parse(text), Err(WireError::NotJson), "{text}");
        }
        for text in [
            "{}",
            r#"{"request":true,"id":1}"#,
            r#"{"request":true,"method":"x"}"#,
            r#"{"request":true,"id":-1,"method":"x"}"#,
            r#"{"request":true,"id":1.5,"method":"x"}"#,
            r#"{"request":true,"id":9007199254740993,"method":"x"}"#,
            r#"{"request":1,"id":1,"method":"x"}"#,
            r#"{"request":true,"response":true,"id":1,"method":"x"}"#,
            r#"{"response":true,"ok":true}"#,
            r#"{"notification":true,"method":7}"#,
        ] {
            assert_eq!(Message::parse(text), Err(WireError::NotProtoo), "{text}");
        }
        let long = format!(r#"{{"notification":true,"method":"{}"}}"#, "x".repeat(129));
        assert_eq!(Message::parse(&long), Err(WireError::NotProtoo));
    }
}
