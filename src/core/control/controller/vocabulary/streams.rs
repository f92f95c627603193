//! Streams that the server itself fetches, sends away or plays.

use crate::core::auth::Action;
use crate::core::control::controller::vocabulary::worker::NOTHING;
use crate::core::control::controller::vocabulary::{By, Entry, Field};

/// What is asked of streams.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StreamMethod {
    /// `stream.push`.
    Push,
    /// `stream.pull`.
    Pull,
    /// `stream.play`.
    Play,
    /// `stream.list`.
    List,
    /// `stream.pause`.
    Pause,
    /// `stream.stop`.
    Stop,
}

const ROOM: Field = Field::text("room", "");
const STREAM: Field = Field::text("stream", "its `id`");
const NAME: Field = Field::text("name", "the publisher's name in the room").optional();
const DISPLAY_NAME: Field = Field::text("displayName", "its name for people").optional();
const INFO: &str = "`{id, kind, room, conn, what, state, reason?, attempts}`";

const fn stream(
    name: &'static str,
    method: StreamMethod,
    about: &'static str,
    data: &'static [Field],
    answer: &'static str,
) -> Entry {
    Entry { name, about, internal: &[], data, answer, action: Action::Control, by: By::Stream(method) }
}

pub(super) const STREAMS: &[Entry] = &[
    stream(
        "stream.push",
        StreamMethod::Push,
        "Sends the room's program, or one publisher's tracks, to an RTMP server, again and again if it breaks. What becomes of it is told by the room's event `stream`.",
        &[
            ROOM,
            Field::text("url", "`rtmp://` or `rtmps://`"),
            Field::text("peer", "name of the publisher; otherwise the program").optional(),
        ],
        INFO,
    ),
    stream(
        "stream.pull",
        StreamMethod::Pull,
        "Fetches a stream from an RTMP server into the room as a publisher of kind `pull`, again and again if it breaks.",
        &[ROOM, Field::text("url", "`rtmp://` or `rtmps://`"), NAME, DISPLAY_NAME],
        INFO,
    ),
    stream(
        "stream.play",
        StreamMethod::Play,
        "Plays a file below `media_dir` in the room as a publisher of kind `file`.",
        &[
            ROOM,
            Field::text("file", "its path below `media_dir`"),
            Field::flag("loop", "begin anew at its end; default false").optional(),
            NAME,
            DISPLAY_NAME,
        ],
        INFO,
    ),
    stream(
        "stream.list",
        StreamMethod::List,
        "The streams of a room, and those that ended lately.",
        &[ROOM],
        "`{streams: [stream]}`",
    ),
    stream(
        "stream.pause",
        StreamMethod::Pause,
        "Holds a player, or lets it go on.",
        &[ROOM, STREAM, Field::flag("paused", "default true").optional()],
        INFO,
    ),
    stream("stream.stop", StreamMethod::Stop, "Ends a stream.", &[ROOM, STREAM], NOTHING),
];
