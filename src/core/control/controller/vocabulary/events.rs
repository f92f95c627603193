//! What a controller is told unasked, as one table from which the reference is made.

/// Something a controller is told unasked.
#[derive(Debug)]
pub struct Event {
    /// Its name.
    pub name: &'static str,
    /// What its `targetId` is.
    pub target: &'static str,
    /// Its data.
    pub data: &'static str,
    /// When it comes.
    pub about: &'static str,
}

/// Every event there is.
pub const EVENTS: &[Event] = &[
    Event {
        name: "error",
        target: "0: the connection",
        data: "`{code, reason}`",
        about: "A message was no request (the connection goes on), or the connection is about to be closed.",
    },
    Event {
        name: "close",
        target: "router, transport, producer, consumer, watch",
        data: "`{code, reason?, clean?}`",
        about: "It is gone, whoever ended it: once for each. Its id is free again.",
    },
    Event {
        name: "audiolevels",
        target: "router",
        data: "`{entries: [[producerId, dBov]]}`",
        about: "How loud it is, every 500 ms while switched on.",
    },
    Event {
        name: "iceselectedtuplechange",
        target: "WebRTC transport",
        data: "`{iceSelectedTuple}`",
        about: "Media goes another way.",
    },
    Event {
        name: "icestatechange",
        target: "WebRTC transport",
        data: "`{iceState}`",
        about: "`connected`, `completed` or `disconnected`.",
    },
    Event {
        name: "dtlsstatechange",
        target: "WebRTC transport",
        data: "`{dtlsState, dtlsRemoteCert?}`",
        about: "`connecting`, `connected`, `failed` or `closed`.",
    },
    Event { name: "sourcepaused", target: "consumer", data: "nothing", about: "Its producer was paused." },
    Event { name: "sourceresumed", target: "consumer", data: "nothing", about: "Its producer was resumed." },
    Event {
        name: "effectiveprofilechange",
        target: "consumer",
        data: "`{profile}`",
        about: "Another layer is sent.",
    },
    Event {
        name: "x.layerschange",
        target: "consumer",
        data: "`{spatialLayer, temporalLayer}`, or null",
        about: "Other layers of a track that has several are sent, or none.",
    },
    Event {
        name: "x.score",
        target: "producer, consumer",
        data: "`{scores: [{encodingIdx, ssrc?, rid?, score}]}`; `{score, producerScore, producerScores}`",
        about: "How well a track gets through has changed: 10 is all, 0 nothing.",
    },
    Event {
        name: "x.wantedlayers",
        target: "producer",
        data: "`{encodings: [{encodingIdx, ssrc?, rid?, wanted}]}`",
        about: "Which streams of a track somebody wants: the others need not be sent.",
    },
    Event {
        name: "x.message",
        target: "data consumer",
        data: "`{text}` or `{binary}`, in base64",
        about: "A message came.",
    },
    Event {
        name: "x.datachannel",
        target: "WebRTC transport",
        data: "`{sctpStreamParameters, label, protocol}`",
        about: "The party opened a data channel by itself (RFC 8832): what it says waits until a data producer names the stream.",
    },
    Event {
        name: "x.bufferedamountlow",
        target: "data consumer",
        data: "`{bufferedAmount}`",
        about: "No more than the threshold waits.",
    },
    Event {
        name: "x.pausechange",
        target: "producer of an attached router",
        data: "`{paused}`",
        about: "Somebody with rights over the room paused it, or lets it go on.",
    },
    Event {
        name: "x.sctpstatechange",
        target: "WebRTC transport",
        data: "`{sctpState}`",
        about: "`connecting`, `connected`, `failed` or `closed`.",
    },
    Event {
        name: "x.mediastarted",
        target: "plain transport",
        data: "`{remote}`",
        about: "The first media arrived.",
    },
    Event {
        name: "x.dtmf",
        target: "plain transport",
        data: "`{digit, duration}`",
        about: "The party pressed a key.",
    },
    Event {
        name: "x.oneway",
        target: "plain transport",
        data: "`{text}`",
        about: "Media flows in one direction only, or not at all, and why that may be.",
    },
    Event {
        name: "x.mediatimeout",
        target: "plain transport",
        data: "nothing",
        about: "No packet came although the party should send.",
    },
    Event {
        name: "x.keyframerequest",
        target: "plain transport",
        data: "nothing",
        about: "Somebody needs a keyframe of the party, and RTCP cannot ask for it.",
    },
    Event { name: "roomopened", target: "watch", data: "`{room}`", about: "The room is there." },
    Event {
        name: "roomclosed",
        target: "watch",
        data: "`{room, code, reason}`",
        about: "The room is gone; everybody has left before.",
    },
    Event {
        name: "peerjoined",
        target: "watch",
        data: "`{room, conn, name, displayName, kind, publishes, spy, appData}`",
        about: "Somebody is in the room. `kind` is the door: `sip`, `rtmp`, `whip`, `whep`, `room`, `roomv2`, `controller`, `clip`.",
    },
    Event {
        name: "peerchanged",
        target: "watch",
        data: "as of `peerjoined`",
        about: "Its name for people, or the application's data, is another.",
    },
    Event {
        name: "peerleft",
        target: "watch",
        data: "`{room, conn, code, reason}`",
        about: "Somebody is gone.",
    },
    Event {
        name: "trackadded",
        target: "watch, attached router",
        data: "`{room, conn, track, kind, codec, paused, layers, appData}`; of a router also `producerId`",
        about: "A track can be consumed.",
    },
    Event {
        name: "trackchanged",
        target: "watch, attached router",
        data: "as of `trackadded`",
        about: "Its codec, its layers, or whether it is paused, is another.",
    },
    Event {
        name: "trackremoved",
        target: "watch",
        data: "`{room, conn, track}`",
        about: "A track is gone. On an attached router the producer has its `close`.",
    },
    Event {
        name: "dataadded",
        target: "watch, attached router",
        data: "`{room, conn, dataTrack, sctpStreamParameters, label, protocol, appData}`; of a router also `dataProducerId`",
        about: "A data channel can be consumed.",
    },
    Event {
        name: "dataremoved",
        target: "watch",
        data: "`{room, conn, dataTrack}`",
        about: "A data channel is gone.",
    },
    Event {
        name: "activespeaker",
        target: "watch",
        data: "`{room, conn, track}`, null for nobody",
        about: "Who speaks now.",
    },
    Event {
        name: "levels",
        target: "watch",
        data: "`{room, entries: [[conn, track, dBov]]}`",
        about: "How loud it is, the loudest first.",
    },
    Event {
        name: "message",
        target: "watch",
        data: "`{room, from, message}`",
        about: "A member says something to the others.",
    },
    Event {
        name: "dtmf",
        target: "watch",
        data: "`{room, conn, digit, duration}`",
        about: "Somebody pressed a key of a telephone.",
    },
    Event {
        name: "call",
        target: "watch",
        data: "`{room, call, conn, direction, trunk, number, state, code?, text}`",
        about: "A call of the room got on: `calling`, `ringing`, `early`, `answered`, `held`, `resumed`, `transfer`, `moved`, `failed`, `ended`.",
    },
    Event {
        name: "stream",
        target: "watch",
        data: "`{room, id, kind, conn, what, state, reason?, attempts}`",
        about: "A stream that the server sends away (`push`), fetches (`pull`) or plays (`play`) got somewhere: `connecting`, `live`, `paused`, `waiting`, `ended`, `failed`.",
    },
    Event {
        name: "notice",
        target: "watch",
        data: "`{room, conn, text}`",
        about: "What people should know: a conversion begun or refused, sound that goes one way only.",
    },
];
