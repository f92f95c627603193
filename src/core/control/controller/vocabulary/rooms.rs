//! The rooms of the gateway, whoever is in them, and the calls that lead into them: what the Dispatcher itself
//! carries out.

use crate::core::auth::Action;
use crate::core::control::controller::vocabulary::worker::NOTHING;
use crate::core::control::controller::vocabulary::{By, Entry, Field};

/// What is asked of rooms.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RoomMethod {
    /// `room.list`.
    List,
    /// `room.dump`.
    Dump,
    /// `room.open`.
    Open,
    /// `room.close`.
    Close,
    /// `room.watch`.
    Watch,
    /// `room.unwatch`.
    Unwatch,
    /// `room.attach`.
    Attach,
    /// `room.play`.
    Play,
    /// `room.say`.
    Say,
    /// `peer.list`.
    Peers,
    /// `peer.dump`.
    Peer,
    /// `peer.getStats`.
    Stats,
    /// `peer.kick`.
    Kick,
    /// `peer.move`.
    Move,
    /// `peer.mute`.
    Mute,
    /// `peer.set`.
    Set,
    /// `peer.closeTrack`.
    CloseTrack,
}

/// What is asked of calls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CallMethod {
    /// `call.list`.
    List,
    /// `call.dial`.
    Dial,
    /// `call.hangUp`.
    HangUp,
    /// `call.hold`.
    Hold,
    /// `call.sendDtmf`.
    SendDtmf,
    /// `call.transfer`.
    Transfer,
}

const ROOM: Field = Field::text("room", "");
const CONN: Field = Field::text("conn", "of the peer, 32 hexadecimal digits");
const REASON: Field = Field::text("reason", "for people").optional();
const CALL: Field = Field::text("call", "");
const WATCH: Field = Field::number("watchId", "");

const fn room(
    name: &'static str,
    method: RoomMethod,
    about: &'static str,
    (internal, data): (&'static [Field], &'static [Field]),
    answer: &'static str,
) -> Entry {
    Entry { name, about, internal, data, answer, action: Action::Control, by: By::Room(method) }
}

const fn call(
    name: &'static str,
    method: CallMethod,
    about: &'static str,
    data: &'static [Field],
    answer: &'static str,
) -> Entry {
    Entry { name, about, internal: &[], data, answer, action: Action::Call, by: By::Call(method) }
}

pub(super) const ROOMS: &[Entry] = &[
    room(
        "room.list",
        RoomMethod::List,
        "The rooms that the controller may control, by name.",
        (
            &[],
            &[
                Field::text("after", "go on behind this name").optional(),
                Field::number("limit", "how many at most; default and most 1000").optional(),
            ],
        ),
        "`{rooms: [{name, publishers, viewers, live, notices}], more}`",
    ),
    room(
        "room.dump",
        RoomMethod::Dump,
        "A room: where it is carried, and everybody in it.",
        (&[], &[ROOM]),
        "`{room, live, kept, program, notices, workers: [{workerId, receivers, home, piped}], peers: [peer]}`",
    ),
    room(
        "room.open",
        RoomMethod::Open,
        "Makes a room that stays while nobody is in it. It ends with the controller, and everybody in it with it, unless it shall linger.",
        (
            &[],
            &[
                ROOM,
                Field::number(
                    "linger",
                    "milliseconds that it outlives the connection, at most `control.max_linger_ms`",
                )
                .optional(),
            ],
        ),
        NOTHING,
    ),
    room(
        "room.close",
        RoomMethod::Close,
        "Ends a room and everybody in it.",
        (&[], &[ROOM, REASON]),
        NOTHING,
    ),
    room(
        "room.watch",
        RoomMethod::Watch,
        "Tells what there is and what happens in a room, which need not be there yet, or in all that the controller may control: as events of the watch.",
        (
            &[Field::number("watchId", "new")],
            &[Field::text("room", "the room's name; otherwise all").optional()],
        ),
        NOTHING,
    ),
    room("room.unwatch", RoomMethod::Unwatch, "Ends a watch.", (&[WATCH], &[]), NOTHING),
    room(
        "room.attach",
        RoomMethod::Attach,
        "Joins a room, which is made if need be, as a peer of kind `controller`. The room is a router then: what the controller produces there is the peer's, what others produce is told by `trackadded` and can be consumed. `router.close` leaves.",
        (
            &[Field::number("routerId", "new")],
            &[
                ROOM,
                Field::text("name", "the peer's name; a publisher of the same name and user is taken over")
                    .optional(),
                Field::text("displayName", "its name for people").optional(),
                Field::json("appData", "the application's own").optional(),
                Field::flag("publishes", "whether it may produce; default false").optional(),
                Field::flag("spy", "other members are not told of it; default: if it does not publish")
                    .optional(),
            ],
        ),
        "`{conn, workerId}`",
    ),
    room(
        "room.play",
        RoomMethod::Play,
        "Plays sounds once to all who hear the room's mix.",
        (
            &[],
            &[
                ROOM,
                Field::json(
                    "sounds",
                    "a list of `ringback`, `busy`, `congestion`, `join`, `leave`, `prompt:<name>`, `dtmf:<key>:<ms>`, `silence:<ms>`",
                ),
            ],
        ),
        NOTHING,
    ),
    room(
        "room.say",
        RoomMethod::Say,
        "Says something to the others of a room, as the peer by which the controller is attached to it.",
        (&[Field::number("routerId", "the attached router")], &[Field::json("message", "what")]),
        NOTHING,
    ),
];

pub(super) const PEERS: &[Entry] = &[
    room("peer.list", RoomMethod::Peers, "Everybody in a room.", (&[], &[ROOM]), "`{peers: [peer]}`"),
    room(
        "peer.dump",
        RoomMethod::Peer,
        "Somebody in a room.",
        (&[], &[ROOM, CONN]),
        "a peer: `{conn, name, displayName, kind, publishes, spy, appData, transports, tracks, consumers, dataTracks, dataConsumers}`",
    ),
    room(
        "peer.getStats",
        RoomMethod::Stats,
        "The statistics of all that somebody sends and receives.",
        (&[], &[ROOM, CONN]),
        "`{transports, tracks, consumers}`, lists of what the worker tells of each",
    ),
    room("peer.kick", RoomMethod::Kick, "Sends somebody away.", (&[], &[ROOM, CONN, REASON]), NOTHING),
    room(
        "peer.move",
        RoomMethod::Move,
        "Moves somebody to another room, in which the controller has the right, too. Its connection and media stay: what it sends is heard and seen there, it hears and sees what is there. Members that a controller joined stay where they are.",
        (&[], &[ROOM, CONN, Field::text("to", "the other room; made when it is not there")]),
        NOTHING,
    ),
    room(
        "peer.mute",
        RoomMethod::Mute,
        "Holds back what somebody sends, whatever it wants itself; or no longer.",
        (
            &[],
            &[
                ROOM,
                CONN,
                Field::flag("muted", "default true").optional(),
                Field::text("kind", "`audio` or `video`; otherwise both").optional(),
            ],
        ),
        NOTHING,
    ),
    room(
        "peer.set",
        RoomMethod::Set,
        "Changes somebody's name for people, the application's data beside it, or both.",
        (
            &[],
            &[ROOM, CONN, Field::text("displayName", "").optional(), Field::json("appData", "").optional()],
        ),
        NOTHING,
    ),
    room(
        "peer.closeTrack",
        RoomMethod::CloseTrack,
        "Ends one track of somebody.",
        (&[], &[ROOM, CONN, Field::number("track", "its number in events and dumps of the room"), REASON]),
        NOTHING,
    ),
];

pub(super) const CALLS: &[Entry] = &[
    call(
        "call.list",
        CallMethod::List,
        "The calls of rooms in which the controller may call.",
        &[],
        "`{calls: [call]}`",
    ),
    call(
        "call.dial",
        CallMethod::Dial,
        "Calls one or several numbers into a room; the first that answers has the call. What comes of it is told by the room's event `call`.",
        &[
            ROOM,
            Field::text("number", "whom: a number, a `sip:` URI or a registered user").optional(),
            Field::json("numbers", "or several, rung at once").optional(),
            Field::text("trunk", "by which trunk").optional(),
            Field::text("callerId", "the number to show").optional(),
            Field::number("ring", "seconds it may ring").optional(),
            Field::text("play", "what the room hears meanwhile: `ringback` (default), `nothing`, `hold`")
                .optional(),
        ],
        "`{call}`",
    ),
    call("call.hangUp", CallMethod::HangUp, "Ends a call, whatever its state.", &[CALL, REASON], NOTHING),
    call(
        "call.hold",
        CallMethod::Hold,
        "Puts a call on hold, or takes it back.",
        &[CALL, Field::flag("held", "default true").optional()],
        NOTHING,
    ),
    call(
        "call.sendDtmf",
        CallMethod::SendDtmf,
        "Sends keys to the other side.",
        &[CALL, Field::text("digits", "`0`-`9`, `*`, `#`, `A`-`D`, `,` for a pause")],
        NOTHING,
    ),
    call(
        "call.transfer",
        CallMethod::Transfer,
        "Asks the other side to call somebody else instead.",
        &[CALL, Field::text("number", "whom; the id of another call of its room joins the two parties")],
        NOTHING,
    ),
];
