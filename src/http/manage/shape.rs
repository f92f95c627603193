//! What the API shows of rooms and peers, and what it takes: the shapes of `/api/openapi.json`. They are its own, so
//! that the inside may change without them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::core::capabilities::Kind;
use crate::core::control::{ConsumerInfo, PeerDetail, TrackInfo};
use crate::core::peer::{CloseReason, Layers};
use crate::core::room::{PublisherSummary, RoomSummary};

/// The most entries of a page, and how many there are unless asked otherwise.
const MAX_PAGE: usize = 1000;

/// A room.
#[derive(Debug, Serialize, ToSchema)]
pub struct Room {
    /// Its name.
    #[schema(example = "demo")]
    pub name: String,
    /// Who publishes, in the order they joined.
    pub publishers: Vec<Publisher>,
    /// How many only watch.
    pub viewers: usize,
    /// Whether a publisher's media is there.
    pub live: bool,
    /// What a person should know: conversions refused and why.
    pub notices: Vec<String>,
}

/// A publisher, as everybody who may watch sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Publisher {
    /// Its connection.
    #[schema(example = "00000000000000000000000000000001")]
    pub conn: String,
    /// Its name within the room.
    pub name: String,
    /// Its name for people.
    pub display_name: Option<String>,
    /// By which door it came: `whip`, `rtmp`, `clip`, `sip`, `room`, `roomv2`, `controller`.
    pub kind: String,
    /// What it sends.
    pub tracks: Vec<PublishedTrack>,
}

/// A publisher's track, in short.
#[derive(Debug, Serialize, ToSchema)]
pub struct PublishedTrack {
    /// `audio` or `video`.
    pub kind: &'static str,
    /// Its mime type.
    #[schema(example = "video/H264")]
    pub codec: String,
}

/// Somebody in a room.
#[derive(Debug, Serialize, ToSchema)]
pub struct Peer {
    /// Its connection.
    #[schema(example = "00000000000000000000000000000001")]
    pub conn: String,
    /// Its name within the room.
    pub name: String,
    /// Its name for people.
    pub display_name: Option<String>,
    /// By which door it came.
    pub kind: String,
    /// Whether it may send.
    pub publishes: bool,
    /// The others are not told of it.
    pub spy: bool,
    /// The application's own.
    pub app_data: Value,
    /// Its transports.
    pub transports: Vec<u32>,
    /// What it sends.
    pub producers: Vec<Producer>,
    /// What it is sent.
    pub consumers: Vec<Consumer>,
}

/// A track into a room.
#[derive(Debug, Serialize, ToSchema)]
pub struct Producer {
    /// Its number.
    pub id: u32,
    /// Whose it is.
    pub conn: String,
    /// `audio` or `video`.
    pub kind: &'static str,
    /// Its mime type.
    #[schema(example = "audio/opus")]
    pub codec: String,
    /// It is held back.
    pub paused: bool,
    /// `simple`, `simulcast` or `svc`.
    pub layers: &'static str,
    /// The application's own.
    pub app_data: Value,
}

/// A track out of a room.
#[derive(Debug, Serialize, ToSchema)]
pub struct Consumer {
    /// Its number.
    pub id: u32,
    /// Who gets it.
    pub conn: String,
    /// The transport it goes by.
    pub transport: u32,
    /// `audio` or `video`.
    pub kind: &'static str,
    /// The producer it is for; none: the room's program.
    pub producer: Option<u32>,
    /// The producer it is fed from now.
    pub source: Option<u32>,
    /// That is converted on the way.
    pub converted: bool,
    /// Why it is fed from nothing although there is something.
    pub refusal: Option<String>,
}

/// A room to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRoom {
    /// Its name: 1 to 64 of `A-Z a-z 0-9 . _ ~ -`, no dot in front.
    #[schema(example = "standup")]
    pub name: String,
}

/// What is to be changed about a peer; what is left out stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PeerChange {
    /// Its name for people.
    pub display_name: Option<String>,
    /// The application's own.
    #[schema(value_type = Option<Object>)]
    pub app_data: Option<Value>,
    /// Whether its sound is held back, whatever it wants itself.
    pub mute_audio: Option<bool>,
    /// Whether its picture is held back, whatever it wants itself.
    pub mute_video: Option<bool>,
}

/// Where somebody is to be moved.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// The other room.
    #[schema(example = "standup")]
    pub room: String,
}

/// Why something is ended.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Why {
    /// For those it concerns; a default stands in.
    #[param(max_length = 120)]
    pub reason: Option<String>,
}

/// Where a stream of events begins.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Since {
    /// Behind the event of this number.
    pub after: Option<u64>,
}

/// A part of a list. A `Link` header with `rel="next"` leads to the next one.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// Entries at most; 1 to 1000, which is the default.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
    /// Go on behind this entry.
    pub after: Option<String>,
}

impl Page {
    /// The part of `all` that is asked for, and the key of its last entry if more follow. `all` is sorted by `key`.
    pub fn cut<T>(&self, all: Vec<T>, key: impl Fn(&T) -> String) -> (Vec<T>, Option<String>) {
        let limit = self.limit.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
        let behind = |entry: &T| self.after.as_ref().is_none_or(|after| key(entry) > *after);
        let mut part: Vec<T> = all.into_iter().filter(behind).collect();
        if part.len() <= limit {
            return (part, None);
        }
        part.truncate(limit);
        let last = part.last().map(key);
        (part, last)
    }
}

/// Sound or picture, as the API writes it.
fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Audio => "audio",
        Kind::Video => "video",
    }
}

impl From<RoomSummary> for Room {
    fn from(room: RoomSummary) -> Self {
        Room {
            name: room.name.to_string(),
            publishers: room.publishers.into_iter().map(Publisher::from).collect(),
            viewers: room.viewers,
            live: room.live,
            notices: room.notices,
        }
    }
}

impl From<PublisherSummary> for Publisher {
    fn from(publisher: PublisherSummary) -> Self {
        let tracks = publisher.tracks.into_iter();
        Publisher {
            conn: publisher.conn.to_string(),
            name: publisher.name,
            display_name: publisher.display_name,
            kind: publisher.kind.to_string(),
            tracks: tracks
                .map(|track| PublishedTrack { kind: word(track.kind), codec: track.codec })
                .collect(),
        }
    }
}

impl From<PeerDetail> for Peer {
    fn from(peer: PeerDetail) -> Self {
        let conn = peer.info.conn.to_string();
        let consumers = peer.consumers.into_iter().map(|consumer| Consumer::of(conn.clone(), consumer));
        Peer {
            name: peer.info.name,
            display_name: peer.info.display_name,
            kind: peer.info.kind.to_string(),
            publishes: peer.info.publishes,
            spy: peer.info.spy,
            app_data: peer.info.app_data,
            transports: peer.transports.iter().map(|transport| transport.0).collect(),
            producers: peer.tracks.into_iter().map(Producer::from).collect(),
            consumers: consumers.collect(),
            conn,
        }
    }
}

impl From<TrackInfo> for Producer {
    fn from(track: TrackInfo) -> Self {
        Producer {
            id: track.producer.0,
            conn: track.conn.to_string(),
            kind: word(track.kind),
            codec: track.codec.mime_type,
            paused: track.paused,
            layers: match track.layers {
                Layers::Simple => "simple",
                Layers::Simulcast { .. } => "simulcast",
                Layers::Svc { .. } => "svc",
            },
            app_data: track.app_data,
        }
    }
}

impl Consumer {
    fn of(conn: String, consumer: ConsumerInfo) -> Self {
        Consumer {
            id: consumer.consumer.0,
            conn,
            transport: consumer.transport.0,
            kind: word(consumer.kind),
            producer: consumer.track.map(|track| track.0),
            source: consumer.source.map(|source| source.0),
            converted: consumer.converted,
            refusal: consumer.refusal,
        }
    }
}

impl Why {
    /// The reason to give; `otherwise` where none was given.
    pub fn reason(&self, otherwise: &str) -> CloseReason {
        let text: String = self.reason.as_deref().unwrap_or(otherwise).chars().take(120).collect();
        CloseReason::new("kicked", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_and_end() {
        let all = || ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        let page = |limit, after: Option<&str>| {
            Page { limit, after: after.map(str::to_owned) }.cut(all(), String::clone)
        };
        assert_eq!(page(Some(2), None), (vec!["a".into(), "b".into()], Some("b".into())));
        assert_eq!(page(Some(2), Some("b")), (vec!["c".into(), "d".into()], Some("d".into())));
        assert_eq!(page(Some(2), Some("d")), (vec!["e".into()], None));
        assert_eq!(page(Some(5), None).1, None);
        assert_eq!(page(Some(0), Some("bb")).0, ["c"], "an entry that is gone is no hindrance");
    }
}
