//! Whose stream it is: from the address and stream key that a person typed to room, key and name.
//!
//! | server field | stream key field | room | publish key |
//! |---|---|---|---|
//! | `rtmp://host/<room>` | `<key>` | from the address | the stream key |
//! | `rtmp://host/<room>?key=<key>` | empty or anything | from the address | `key=` |
//! | `rtmp://host/live` | `<room>?key=<key>` | from the stream key | `key=` |
//! | `rtmp://host/live/<room>` | `<key>` | from the address | the stream key |
//! | `rtmp://host` | `<room>?key=<key>` or `<room>/<key>` | from the stream key | `key=` or the rest |
//!
//! The application `live` always means that the room follows; a room that is itself called `live` is
//! reached as `rtmp://host/live` with the stream key `live?key=...`. `name=<publisher>` may stand beside
//! `key=`. A trailing slash and the instance suffix that some encoders add (`_definst_`) are ignored.

use std::fmt;

/// What `connect` and `publish` asked for, as it was written.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct PublishRequest {
    /// The application of `connect`, query and all.
    pub app: String,
    /// The stream name of `publish`, query and all. It usually is a secret.
    pub stream: String,
    /// The host of `tcUrl`, without port.
    pub host: Option<String>,
}

impl fmt::Debug for PublishRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublishRequest(private)")
    }
}

/// Where a publisher wants to go.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Target {
    /// The room; not yet checked, possibly empty.
    pub room: String,
    /// The publish key.
    pub key: Option<String>,
    /// The publisher's name within the room.
    pub name: Option<String>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("room", &self.room)
            .field("key", &self.key.as_ref().map(|_| "(private)"))
            .field("name", &self.name)
            .finish()
    }
}

/// The application name behind which the room stands in the stream key.
const ROOM_IN_KEY: &str = "live";

/// Reads a request as the table of this module says.
pub fn resolve(request: &PublishRequest) -> Target {
    let (app, app_query) = split_query(&request.app);
    let (stream, stream_query) = split_query(&request.stream);
    let mut app_parts: Vec<&str> = parts(app).filter(|part| *part != "_definst_").collect();
    if app_parts.first().copied() == Some(ROOM_IN_KEY) {
        app_parts.remove(0);
    }
    let (room, rest) = match app_parts.first() {
        Some(room) => ((*room).to_owned(), stream.trim_matches('/').to_owned()),
        None => {
            let stream = stream.trim_matches('/');
            let (room, rest) = stream.split_once('/').unwrap_or((stream, ""));
            (room.to_owned(), rest.to_owned())
        }
    };
    let find = |name| query(stream_query, name).or_else(|| query(app_query, name));
    let key = find("key").or(Some(rest)).filter(|key| !key.is_empty());
    Target { room: decode(&room), key, name: find("name").filter(|name| !name.is_empty()) }
}

fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

fn query(query: &str, name: &str) -> Option<String> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then(|| decode(value))
    };
    query.split(['&', '?']).find_map(pair)
}

/// Undoes percent-encoding; a `%` that begins no code stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..2).filter(|_| first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(app: &str, stream: &str) -> (String, Option<String>, Option<String>) {
        let target = resolve(&PublishRequest { app: app.into(), stream: stream.into(), host: None });
        (target.room, target.key, target.name)
    }

    fn want(room: &str, key: &str, name: &str) -> (String, Option<String>, Option<String>) {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        (room.to_owned(), some(key), some(name))
    }

    #[test]
    fn every_shape_of_the_table() {
        assert_eq!(target("studio", "k3y"), want("studio", "k3y", ""));
        assert_eq!(target("studio/", "/k3y"), want("studio", "k3y", ""));
        assert_eq!(target("studio/_definst_", "k3y"), want("studio", "k3y", ""));
        assert_eq!(target("studio?key=k3y", ""), want("studio", "k3y", ""));
        assert_eq!(target("studio?key=k3y", "any"), want("studio", "k3y", ""));
        assert_eq!(target("live", "studio?key=k3y"), want("studio", "k3y", ""));
        assert_eq!(target("live/", "studio?name=cam2&key=k3y"), want("studio", "k3y", "cam2"));
        assert_eq!(target("live/studio", "k3y"), want("studio", "k3y", ""));
        assert_eq!(target("live", "studio/k3y"), want("studio", "k3y", ""));
        assert_eq!(target("", "studio?key=k3y"), want("studio", "k3y", ""));
        assert_eq!(target("live", "live?key=k3y"), want("live", "k3y", ""));
    }

    #[test]
    fn missing_parts_are_missing() {
        assert_eq!(target("studio", ""), want("studio", "", ""));
        assert_eq!(target("live", ""), want("", "", ""));
        assert_eq!(target("live", "studio?key="), want("studio", "", ""));
        assert_eq!(target("studio", "k3y?name="), want("studio", "k3y", ""));
    }

    #[test]
    fn percent_codes_are_undone_and_broken_ones_left() {
        assert_eq!(target("a%20b", "x?key=%41%zz%"), want("a b", "A%zz%", ""));
        assert_eq!(target("studio", "x?key=%ff"), want("studio", "%ff", ""));
    }

    #[test]
    fn nothing_private_is_printed() {
        let request = PublishRequest { app: "live".into(), stream: "studio?key=k3y".into(), host: None };
        assert!(!format!("{request:?} {:?}", resolve(&request)).contains("k3y"));
    }
}
