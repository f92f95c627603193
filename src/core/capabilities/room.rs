//! What a room offers to clients that negotiate by capabilities: its codecs with payload types of its own,
//! the retransmission format of each picture, feedback, and header extensions with ids of its own. Both
//! generations of clients get the same payload types; extension ids and feedback are those they grew up with.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Direction;
use super::ortc::{Capabilities, CodecCapability, ExtensionCapability};
use super::{HeaderExtension, Kind, RtcpFeedback, RtpCodec, ext};

/// A codec that rooms can offer; everything here is forwarded as it is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum RoomCodec {
    /// Opus, 48 kHz, two channels on paper (RFC 7587).
    Opus,
    /// G.722, whose RTP clock says 8 kHz although it samples at 16 (RFC 3551 §4.5.2).
    G722,
    /// G.711 A-law.
    Pcma,
    /// G.711 mu-law.
    Pcmu,
    /// VP8.
    Vp8,
    /// H.264 in packetization mode 1: constrained baseline, and for v3 clients, which compare profiles, high.
    H264,
    /// VP9, profile 0.
    Vp9,
    /// AV1, main profile.
    Av1,
}

/// Generations of clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// mediasoup-client 2.
    V2,
    /// mediasoup-client 2 without the extensions whose ids move. Its answers take the ids that it found in a
    /// trial offer of sound and picture; Chromium numbers extensions by what a connection offers first, and
    /// refuses an answer that gives a picture sent before sound another number for one of them.
    V2Safe,
    /// mediasoup-client 3.
    V3,
}

/// Payload types in the order in which they are given out: the dynamic range, from where nobody else begins,
/// then what RFC 3551 leaves open.
fn dynamic() -> impl Iterator<Item = u8> {
    (100..=127).chain(96..=99).chain(77..=95).chain(35..=71)
}

impl RoomCodec {
    /// All of them, in the order in which rooms offer them unless told otherwise.
    pub const ALL: [RoomCodec; 8] = [
        RoomCodec::Opus,
        RoomCodec::G722,
        RoomCodec::Pcma,
        RoomCodec::Pcmu,
        RoomCodec::Vp8,
        RoomCodec::H264,
        RoomCodec::Vp9,
        RoomCodec::Av1,
    ];

    /// Sound or picture.
    pub fn kind(self) -> Kind {
        match self {
            RoomCodec::Opus | RoomCodec::G722 | RoomCodec::Pcma | RoomCodec::Pcmu => Kind::Audio,
            RoomCodec::Vp8 | RoomCodec::H264 | RoomCodec::Vp9 | RoomCodec::Av1 => Kind::Video,
        }
    }

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        self.mime_type().split_once('/').map_or("", |(_, name)| name)
    }

    fn mime_type(self) -> &'static str {
        match self {
            RoomCodec::Opus => "audio/opus",
            RoomCodec::G722 => "audio/G722",
            RoomCodec::Pcma => "audio/PCMA",
            RoomCodec::Pcmu => "audio/PCMU",
            RoomCodec::Vp8 => "video/VP8",
            RoomCodec::H264 => "video/H264",
            RoomCodec::Vp9 => "video/VP9",
            RoomCodec::Av1 => "video/AV1",
        }
    }

    /// The payload type that RFC 3551 fixed.
    fn fixed(self) -> Option<u8> {
        match self {
            RoomCodec::Pcmu => Some(0),
            RoomCodec::Pcma => Some(8),
            RoomCodec::G722 => Some(9),
            _ => None,
        }
    }

    /// The format parameters of each entry it makes.
    fn variants(self, dialect: Dialect) -> Vec<Value> {
        let h264 = |profile: &str| json!({"packetization-mode": 1, "level-asymmetry-allowed": 1, "profile-level-id": profile});
        match self {
            RoomCodec::Opus => vec![json!({"minptime": 10, "useinbandfec": 1})],
            // v2 clients compare only the mode and would take one format of theirs for both.
            RoomCodec::H264 if dialect != Dialect::V3 => vec![h264("42e01f")],
            RoomCodec::H264 => vec![h264("42e01f"), h264("64001f")],
            RoomCodec::Vp9 => vec![json!({"profile-id": 0})],
            _ => vec![json!({})],
        }
    }

    fn feedback(self, dialect: Dialect) -> Vec<RtcpFeedback> {
        let names: &[(&str, &str)] = match self.kind() {
            Kind::Audio => &[("transport-cc", "")],
            Kind::Video => {
                &[("nack", ""), ("nack", "pli"), ("ccm", "fir"), ("goog-remb", ""), ("transport-cc", "")]
            }
        };
        let known = |kind: &str| dialect == Dialect::V3 || kind != "transport-cc";
        let feedback = |(kind, parameter): &(&str, &str)| RtcpFeedback {
            kind: (*kind).to_owned(),
            parameter: (*parameter).to_owned(),
        };
        names.iter().filter(|(kind, _)| known(kind)).map(feedback).collect()
    }

    fn entry(self, payload_type: u8, parameters: Value, dialect: Dialect) -> RtpCodec {
        RtpCodec {
            mime_type: self.mime_type().to_owned(),
            payload_type,
            clock_rate: match self {
                RoomCodec::Opus => 48_000,
                _ if self.kind() == Kind::Audio => 8_000,
                _ => 90_000,
            },
            channels: match self.kind() {
                Kind::Audio => Some(if self == RoomCodec::Opus { 2 } else { 1 }),
                Kind::Video => None,
            },
            parameters: object(parameters),
            rtcp_feedback: self.feedback(dialect),
        }
    }
}

/// What a room offers: `codecs` in the order in which senders should prefer them, each named once.
pub fn capabilities(codecs: &[RoomCodec], dialect: Dialect) -> Capabilities {
    let mut types = dynamic();
    let mut offered = Vec::new();
    for codec in codecs {
        for parameters in codec.variants(dialect) {
            let Some(payload_type) = codec.fixed().or_else(|| types.next()) else { break };
            let kind = codec.kind();
            offered.push(CodecCapability { kind, codec: codec.entry(payload_type, parameters, dialect) });
            if let Some(rtx) = (kind == Kind::Video).then(|| types.next()).flatten() {
                offered.push(CodecCapability { kind, codec: retransmission(rtx, payload_type) });
            }
        }
    }
    Capabilities { codecs: offered, header_extensions: extensions(dialect) }
}

fn retransmission(payload_type: u8, apt: u8) -> RtpCodec {
    RtpCodec {
        mime_type: "video/rtx".to_owned(),
        payload_type,
        clock_rate: 90_000,
        channels: None,
        parameters: object(json!({"apt": apt})),
        rtcp_feedback: Vec::new(),
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Extensions with their ids; only what we read, pass on or write.
fn extensions(dialect: Dialect) -> Vec<ExtensionCapability> {
    use Direction::{RecvOnly, SendRecv};
    let (audio, video) = (Some(Kind::Audio), Some(Kind::Video));
    let table: &[(Option<Kind>, &str, u8, Direction)] = match dialect {
        Dialect::V2Safe => &[
            (audio, ext::AUDIO_LEVEL, 1, SendRecv),
            (None, ext::ABS_SEND_TIME, 3, SendRecv),
            (video, ext::RID, 6, SendRecv),
        ],
        Dialect::V2 => &[
            (audio, ext::AUDIO_LEVEL, 1, SendRecv),
            (None, ext::ABS_SEND_TIME, 3, SendRecv),
            (video, ext::VIDEO_ORIENTATION, 4, SendRecv),
            (None, ext::MID, 5, SendRecv),
            (video, ext::RID, 6, SendRecv),
        ],
        Dialect::V3 => &[
            (audio, ext::MID, 1, SendRecv),
            (video, ext::MID, 1, SendRecv),
            (video, ext::RID, 2, RecvOnly),
            (video, ext::REPAIRED_RID, 3, RecvOnly),
            (audio, ext::ABS_SEND_TIME, 4, SendRecv),
            (video, ext::ABS_SEND_TIME, 4, SendRecv),
            (audio, ext::TRANSPORT_CC, 5, RecvOnly),
            (video, ext::TRANSPORT_CC, 5, SendRecv),
            (audio, ext::AUDIO_LEVEL, 6, SendRecv),
            (video, ext::DEPENDENCY_DESCRIPTOR, 7, RecvOnly),
            (video, ext::VIDEO_ORIENTATION, 8, SendRecv),
            (video, ext::PLAYOUT_DELAY, 11, SendRecv),
        ],
    };
    let row = |(kind, uri, id, direction): &(Option<Kind>, &str, u8, Direction)| ExtensionCapability {
        kind: *kind,
        extension: HeaderExtension::new(*uri, *id),
        direction: *direction,
    };
    table.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_types_are_the_same_for_both_generations_and_never_twice() {
        let types = |dialect| {
            let all = capabilities(&RoomCodec::ALL, dialect);
            all.codecs.iter().map(|entry| entry.codec.payload_type).collect::<Vec<_>>()
        };
        for dialect in [Dialect::V2, Dialect::V2Safe, Dialect::V3] {
            let mut sorted = types(dialect);
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), types(dialect).len());
        }
        assert_eq!(types(Dialect::V2)[..6], [100, 9, 8, 0, 101, 102]);
    }

    #[test]
    fn every_picture_has_its_retransmission_right_behind_it() {
        let all = capabilities(&[RoomCodec::Opus, RoomCodec::H264, RoomCodec::Vp8], Dialect::V3);
        let names: Vec<_> = all.codecs.iter().map(|entry| entry.codec.mime_type.as_str()).collect();
        let rtx = "video/rtx";
        assert_eq!(names, ["audio/opus", "video/H264", rtx, "video/H264", rtx, "video/VP8", rtx]);
        for pair in all.codecs.windows(2).filter(|pair| pair[1].codec.is(rtx)) {
            assert_eq!(pair[1].codec.apt(), Some(pair[0].codec.payload_type));
        }
    }

    #[test]
    fn the_older_generation_is_not_offered_what_it_never_knew() {
        let v2 = capabilities(&RoomCodec::ALL, Dialect::V2);
        assert!(v2.codecs.iter().all(|entry| !entry.codec.has_feedback("transport-cc", "")));
        assert!(v2.header_extensions.iter().all(|row| row.extension.uri != ext::TRANSPORT_CC));
        let safe = capabilities(&RoomCodec::ALL, Dialect::V2Safe);
        let moving = [ext::MID, ext::VIDEO_ORIENTATION, ext::TRANSPORT_CC];
        assert!(safe.header_extensions.iter().all(|row| !moving.contains(&row.extension.uri.as_str())));
        assert!(safe.header_extensions.iter().all(|row| v2.header_extensions.contains(row)));
    }
}
