//! Every request a controller can make, as one table: it decides which fields a request has and of which type,
//! and the reference in `docs/control-protocol.md` is made from it.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::core::auth::Action;
use crate::core::control::controller::code::{Code, Fault};
use crate::core::message::Method;

mod data;
mod events;
mod rooms;
mod streams;
mod worker;

pub use events::{EVENTS, Event};
pub use rooms::{CallMethod, RoomMethod};
pub use streams::StreamMethod;

/// What a field holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Type {
    /// A number from 0 to 4294967295.
    Number,
    /// A text. In the text form without quotes, whatever it looks like.
    Text,
    /// True or false.
    Flag,
    /// An object or a list.
    Json,
}

impl Type {
    /// As the reference calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Type::Number => "number",
            Type::Text => "text",
            Type::Flag => "flag",
            Type::Json => "JSON",
        }
    }

    fn holds(self, value: &Value) -> bool {
        match self {
            Type::Number => value.as_u64().is_some_and(|number| u32::try_from(number).is_ok()),
            Type::Text => value.is_string(),
            Type::Flag => value.is_boolean(),
            Type::Json => value.is_object() || value.is_array(),
        }
    }
}

/// A field of a request.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its key.
    pub name: &'static str,
    /// What it holds.
    pub of: Type,
    /// Whether a request without it is refused.
    pub required: bool,
    /// What it means.
    pub about: &'static str,
}

impl Field {
    const fn new(name: &'static str, of: Type, about: &'static str) -> Self {
        Field { name, of, required: true, about }
    }

    const fn number(name: &'static str, about: &'static str) -> Self {
        Self::new(name, Type::Number, about)
    }

    const fn text(name: &'static str, about: &'static str) -> Self {
        Self::new(name, Type::Text, about)
    }

    const fn flag(name: &'static str, about: &'static str) -> Self {
        Self::new(name, Type::Flag, about)
    }

    const fn json(name: &'static str, about: &'static str) -> Self {
        Self::new(name, Type::Json, about)
    }

    const fn optional(self) -> Self {
        Field { required: false, ..self }
    }
}

/// Who carries a request out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum By {
    /// The connection itself, before anybody is authenticated.
    Session(Greeting),
    /// The worker that has the router.
    Worker(Method),
    /// The Dispatcher, for rooms.
    Room(RoomMethod),
    /// Whoever carries calls.
    Call(CallMethod),
    /// Whoever carries streams.
    Stream(StreamMethod),
}

/// What a connection answers itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Greeting {
    /// `Hello`.
    Hello,
    /// `Authenticate`.
    Authenticate,
    /// `Resume`.
    Resume,
}

/// One kind of request.
#[derive(Debug)]
pub struct Entry {
    /// Its `method`, or type in the text form.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Ids: `internal` in JSON.
    pub internal: &'static [Field],
    /// The rest: `data` in JSON.
    pub data: &'static [Field],
    /// The answer's data.
    pub answer: &'static str,
    /// The right it takes.
    pub action: Action,
    /// Who carries it out.
    pub by: By,
}

/// Requests of the connection itself.
const GREETINGS: &[Entry] = &[
    Entry {
        name: "Hello",
        about: "Who the server is and what it can do. May come before `Authenticate`.",
        internal: &[],
        data: &[],
        answer: "`{name, version, authenticated, session?, capabilities: {methods, events, codes, maxMessageBytes, maxOpenRequests, maxLingerMs}}`",
        action: Action::Control,
        by: By::Session(Greeting::Hello),
    },
    Entry {
        name: "Authenticate",
        about: "Says who the controller is. Has to come before anything but `Hello` where keys with the action `control` are configured.",
        internal: &[],
        data: &[Field::text("user", "`name` of a key in `auth.keys`"), Field::text("passwd", "the key")],
        answer: "`{session}`",
        action: Action::Control,
        by: By::Session(Greeting::Authenticate),
    },
    Entry {
        name: "Resume",
        about: "Takes over what an earlier connection of the same user left lingering, with its ids. Only as long as this one has made nothing.",
        internal: &[],
        data: &[Field::text("session", "what `Hello` or `Authenticate` answered then")],
        answer: "`{session, routers: [routerId], rooms: [name]}`",
        action: Action::Control,
        by: By::Session(Greeting::Resume),
    },
];

/// The whole vocabulary, by chapters of the reference.
pub const CHAPTERS: &[(&str, &[Entry])] = &[
    ("Greeting", GREETINGS),
    ("Workers", worker::WORKERS),
    ("Routers", worker::ROUTERS),
    ("Transports", worker::TRANSPORTS),
    ("Producers", worker::PRODUCERS),
    ("Consumers", worker::CONSUMERS),
    ("Data channels", data::CHANNELS),
    ("Rooms", rooms::ROOMS),
    ("Peers", rooms::PEERS),
    ("Calls", rooms::CALLS),
    ("Streams", streams::STREAMS),
];

static NAMES: LazyLock<HashMap<&'static str, &'static Entry>> = LazyLock::new(|| {
    let entries = CHAPTERS.iter().flat_map(|(_, entries)| entries.iter());
    entries.map(|entry| (entry.name, entry)).collect()
});

/// Every request there is.
pub fn names() -> impl Iterator<Item = &'static str> {
    CHAPTERS.iter().flat_map(|(_, entries)| entries.iter().map(|entry| entry.name))
}

impl Entry {
    /// The request called `name`.
    pub fn find(name: &str) -> Option<&'static Entry> {
        NAMES.get(name).copied()
    }

    /// Whether ids stand in `internal` under `key`.
    pub fn is_internal(&self, key: &str) -> bool {
        self.internal.iter().any(|field| field.name == key)
    }

    /// Whether `key` holds a text.
    pub fn is_text(&self, key: &str) -> bool {
        self.internal.iter().chain(self.data).any(|field| field.name == key && field.of == Type::Text)
    }

    /// Refuses what lacks a field or has one of a wrong type. Fields that nobody knows are passed over.
    pub fn check(&self, internal: &Map<String, Value>, data: &Map<String, Value>) -> Result<(), Fault> {
        for (part, fields, values) in [("internal", self.internal, internal), ("data", self.data, data)] {
            for field in fields {
                match values.get(field.name) {
                    Some(Value::Null) | None if field.required => {
                        return Err(Fault::new(Code::BadData, format!("{part}.{} is missing", field.name)));
                    }
                    Some(value) if !value.is_null() && !field.of.holds(value) => {
                        let reason = format!("{part}.{} has to be a {}", field.name, field.of.as_str());
                        return Err(Fault::new(Code::BadData, reason));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_a_worker_is_offered_or_known_not_to_be() {
        for method in Method::ALL {
            let by = Entry::find(method.as_str()).map(|entry| entry.by);
            assert_eq!(by, Some(By::Worker(*method)), "{}", method.as_str());
        }
    }

    #[test]
    fn names_are_unique() {
        assert_eq!(names().count(), NAMES.len());
        let events: std::collections::BTreeSet<&str> = EVENTS.iter().map(|event| event.name).collect();
        assert_eq!(events.len(), EVENTS.len());
    }
}
