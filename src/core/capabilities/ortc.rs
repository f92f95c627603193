//! Negotiation by capabilities, in the manner of ORTC: a room says what it takes, a client says what of that
//! it can receive, and every track's parameters follow from the two. There is no offer and no answer.
//!
//! Payload types and extension ids of a sender stay its own: what forwards its packets looks at codecs and
//! URIs, and writes those of the receiver. So a producer's parameters are checked against the room's, and a
//! consumer's are made of the room's.

use super::h264;
use super::{
    Direction, Encoding, HeaderExtension, Kind, RtcpParameters, RtpCodec, RtpParameters, RtxEncoding, ext,
};

/// A codec somebody can take, under the payload type that the room gave it.
#[derive(Clone, Debug, PartialEq)]
pub struct CodecCapability {
    /// Sound or picture.
    pub kind: Kind,
    /// The codec; media or RTX.
    pub codec: RtpCodec,
}

/// A header extension somebody can take, under the id that the room gave it.
#[derive(Clone, Debug, PartialEq)]
pub struct ExtensionCapability {
    /// Of which tracks; `None`: of both kinds.
    pub kind: Option<Kind>,
    /// URI and id.
    pub extension: HeaderExtension,
    /// Which way.
    pub direction: Direction,
}

/// What a room, or a client of one, can take.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Capabilities {
    /// Codecs, preferred ones first, each RTX behind what it repairs.
    pub codecs: Vec<CodecCapability>,
    /// Header extensions.
    pub header_extensions: Vec<ExtensionCapability>,
}

/// How much of a client's capabilities must be the room's own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// All of it, with the room's numbers: v2 clients send what is left of the room's.
    Subset,
    /// Whatever both have counts: v3 clients may send all they have.
    Common,
}

/// Why capabilities or parameters are refused; the text is for the client.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OrtcError {
    /// Capabilities name a codec that the room does not have, or under another number.
    #[error("the room has no codec {0} with payload type {1}")]
    NotInRoom(String, u8),
    /// Capabilities name an extension that the room does not have, or under another id.
    #[error("the room has no header extension {0} with id {1}")]
    ExtensionNotInRoom(String, u8),
    /// A track is sent in a codec that the room does not have.
    #[error("wrong RTP parameters: the room does not take {0}")]
    UnsupportedCodec(String),
    /// Parameters contradict themselves.
    #[error("wrong RTP parameters: {0}")]
    Malformed(&'static str),
}

/// The numbers of a consumer that somebody must choose.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// SSRC of the media.
    pub ssrc: u32,
    /// SSRC of its retransmissions; used where the receiver takes them.
    pub rtx_ssrc: u32,
    /// Canonical name: that of the tracks it belongs together with.
    pub cname: String,
    /// Media id, where the receiver tells its tracks apart by it.
    pub mid: Option<String>,
}

/// The most encodings of one track: layers times what anybody sends.
const MAX_ENCODINGS: usize = 8;

impl Capabilities {
    /// What a client that said `theirs` can receive from this room, under the room's numbers, its feedback
    /// and extensions where both sides have them.
    pub fn receivable(&self, theirs: &Capabilities, rule: Rule) -> Result<Capabilities, OrtcError> {
        if rule == Rule::Subset {
            self.check_subset(theirs)?;
        }
        let mut codecs: Vec<CodecCapability> = Vec::new();
        for ours in self.codecs.iter().filter(|ours| ours.codec.apt().is_none()) {
            let Some(their) = theirs.codecs.iter().find(|their| same_format(&ours.codec, &their.codec))
            else {
                continue;
            };
            let mut codec = ours.codec.clone();
            codec.rtcp_feedback.retain(|feedback| their.codec.rtcp_feedback.contains(feedback));
            codecs.push(CodecCapability { kind: ours.kind, codec });
            let rtx = self.rtx_of(ours.codec.payload_type);
            if let Some(rtx) = rtx.filter(|_| theirs.rtx_of(their.codec.payload_type).is_some()) {
                codecs.push(rtx.clone());
            }
        }
        let known = |ours: &&ExtensionCapability| {
            theirs.header_extensions.iter().any(|their| {
                let same_kind = ours.kind.is_none() || their.kind.is_none() || ours.kind == their.kind;
                same_kind && ours.extension.uri == their.extension.uri
            })
        };
        let header_extensions = self.header_extensions.iter().filter(known).cloned().collect();
        Ok(Capabilities { codecs, header_extensions })
    }

    fn check_subset(&self, theirs: &Capabilities) -> Result<(), OrtcError> {
        for CodecCapability { codec, .. } in &theirs.codecs {
            let same = |ours: &CodecCapability| {
                let formats = match codec.apt() {
                    Some(apt) => ours.codec.apt() == Some(apt),
                    None => same_format(&ours.codec, codec),
                };
                ours.codec.payload_type == codec.payload_type && formats
            };
            if !self.codecs.iter().any(same) {
                return Err(OrtcError::NotInRoom(codec.mime_type.clone(), codec.payload_type));
            }
        }
        for ExtensionCapability { extension, .. } in &theirs.header_extensions {
            let same = |ours: &HeaderExtension| ours.uri == extension.uri && ours.id == extension.id;
            if !self.header_extensions.iter().any(|ours| same(&ours.extension)) {
                return Err(OrtcError::ExtensionNotInRoom(extension.uri.clone(), extension.id));
            }
        }
        Ok(())
    }

    fn rtx_of(&self, payload_type: u8) -> Option<&CodecCapability> {
        self.codecs.iter().find(|entry| entry.codec.apt() == Some(payload_type))
    }

    /// Media codecs of a kind.
    fn media(&self, kind: Kind) -> impl Iterator<Item = &CodecCapability> {
        self.codecs.iter().filter(move |entry| entry.kind == kind && !entry.codec.is_feature())
    }

    /// Whether a track in `source` can be received as it is. One that cannot may still be converted.
    pub fn can_consume(&self, kind: Kind, source: &RtpCodec) -> bool {
        self.media(kind).any(|entry| same_codec(&entry.codec, source))
    }

    /// What a client sends, checked against the room: only codecs and extensions that the room has are left
    /// of it, under the client's own numbers.
    pub fn produced(&self, kind: Kind, mut sent: RtpParameters) -> Result<RtpParameters, OrtcError> {
        check_codecs(&sent)?;
        check_encodings(&sent.encodings)?;
        let media: Vec<&RtpCodec> = sent.codecs.iter().filter(|codec| !codec.is_feature()).collect();
        if media.is_empty() {
            return Err(OrtcError::Malformed("there is no media codec"));
        }
        if let Some(codec) = media.iter().find(|codec| !self.can_consume(kind, codec)) {
            return Err(OrtcError::UnsupportedCodec(codec.mime_type.clone()));
        }
        let codecs = sent.codecs.clone();
        sent.codecs.retain(|codec| match codec.apt() {
            Some(apt) => codecs.iter().any(|other| other.payload_type == apt && !other.is_feature()),
            None => !codec.is_feature() || codec.is("audio/telephone-event"),
        });
        sent.header_extensions.retain(|extension| {
            let known = |ours: &ExtensionCapability| {
                ours.extension.uri == extension.uri && ours.kind.is_none_or(|of| of == kind)
            };
            self.header_extensions.iter().any(known)
        });
        Ok(sent)
    }

    /// The parameters under which the client that can receive this gets a track whose codec is `source`: that
    /// codec where it can take it as it is, else every codec of the kind, one of which the track will be
    /// converted to. No codecs: it can have none.
    pub fn consumed(&self, kind: Kind, source: &RtpCodec, numbers: Numbers) -> RtpParameters {
        let direct = self.media(kind).filter(|entry| same_codec(&entry.codec, source));
        // Of several profiles the source's own stands first: clients judge by the first.
        let best = direct.max_by_key(|entry| same_format(&entry.codec, source));
        let media: Vec<&CodecCapability> = match best {
            Some(entry) => vec![entry],
            None => self.media(kind).collect(),
        };
        let mut codecs = Vec::new();
        for entry in media {
            let mut codec = entry.codec.clone();
            keep_source_parameters(&mut codec, source);
            prefer_transport_cc(&mut codec, self.sends_transport_cc(kind));
            codecs.push(codec);
            codecs.extend(self.rtx_of(entry.codec.payload_type).map(|rtx| rtx.codec.clone()));
        }
        let has_rtx = codecs.iter().any(|codec| codec.apt().is_some());
        let encoding = Encoding {
            ssrc: Some(numbers.ssrc),
            rtx: has_rtx.then_some(RtxEncoding { ssrc: numbers.rtx_ssrc }),
            ..Encoding::default()
        };
        RtpParameters {
            header_extensions: self.sent_extensions(kind, numbers.mid.is_some()),
            mux_id: numbers.mid,
            codecs,
            encodings: vec![encoding],
            rtcp: RtcpParameters { cname: Some(numbers.cname), reduced_size: Some(true) },
        }
    }

    fn sends_transport_cc(&self, kind: Kind) -> bool {
        let sent = |row: &ExtensionCapability| {
            row.extension.uri == ext::TRANSPORT_CC && row.kind.is_none_or(|of| of == kind)
        };
        self.header_extensions.iter().any(|row| sent(row) && row.direction.sends())
    }

    fn sent_extensions(&self, kind: Kind, mid: bool) -> Vec<HeaderExtension> {
        let sent = |row: &&ExtensionCapability| {
            let named = |uris: &[&str]| uris.contains(&row.extension.uri.as_str());
            row.direction.sends()
                && row.kind.is_none_or(|of| of == kind)
                // A consumer has one stream, whose SSRC is told.
                && !named(&[ext::RID, ext::REPAIRED_RID])
                && (mid || !named(&[ext::MID]))
        };
        self.header_extensions.iter().filter(sent).map(|row| row.extension.clone()).collect()
    }
}

/// Whether a receiver of `ours` decodes media of `source`. H.264 profiles do not count, because what
/// encoders declare and what they send differ, and decoders take more than they say (see [`super::select`]).
fn same_codec(ours: &RtpCodec, source: &RtpCodec) -> bool {
    super::select(std::slice::from_ref(ours), source).is_some()
}

/// Whether two entries of capabilities are the same format (RFC 6184 §8.2.2, the VP9 and AV1 payload
/// specifications): what must be equal before one numbering can stand for both.
fn same_format(a: &RtpCodec, b: &RtpCodec) -> bool {
    let channels = |codec: &RtpCodec| codec.channels.unwrap_or(1);
    let h264 =
        || h264::packetization_mode(a) == h264::packetization_mode(b) && h264::profile(a) == h264::profile(b);
    same_codec(a, b) && channels(a) == channels(b) && (!a.is("video/H264") || h264())
}

/// What of a source's format its receivers must know to play it as it is: whether Opus is meant to be heard in
/// stereo (RFC 7587 §6.1).
fn keep_source_parameters(codec: &mut RtpCodec, source: &RtpCodec) {
    if codec.is("audio/opus") && source.is("audio/opus") {
        for name in ["sprop-stereo", "stereo"] {
            if let Some(value) = source.parameters.get(name) {
                codec.parameters.insert(name.to_owned(), value.clone());
            }
        }
    }
}

/// A receiver that reports every packet's arrival needs no estimate of its own, and the other way round.
fn prefer_transport_cc(codec: &mut RtpCodec, negotiated: bool) {
    let dropped = if negotiated { "goog-remb" } else { "transport-cc" };
    codec.rtcp_feedback.retain(|feedback| feedback.kind != dropped);
}

fn check_codecs(sent: &RtpParameters) -> Result<(), OrtcError> {
    for (place, codec) in sent.codecs.iter().enumerate() {
        if codec.payload_type > 127 {
            return Err(OrtcError::Malformed("a payload type is above 127"));
        }
        if sent.codecs.iter().take(place).any(|other| other.payload_type == codec.payload_type) {
            return Err(OrtcError::Malformed("two codecs have one payload type"));
        }
    }
    for (place, extension) in sent.header_extensions.iter().enumerate() {
        if extension.id == 0
            || sent.header_extensions.iter().take(place).any(|other| other.id == extension.id)
        {
            return Err(OrtcError::Malformed("two header extensions have one id, or one has id 0"));
        }
    }
    Ok(())
}

fn check_encodings(encodings: &[Encoding]) -> Result<(), OrtcError> {
    if encodings.is_empty() || encodings.len() > MAX_ENCODINGS {
        return Err(OrtcError::Malformed("there must be between one and eight encodings"));
    }
    let ssrcs =
        encodings.iter().flat_map(|encoding| [encoding.ssrc, encoding.rtx.as_ref().map(|rtx| rtx.ssrc)]);
    let mut ssrcs: Vec<u32> = ssrcs.flatten().collect();
    let mut rids: Vec<&str> =
        encodings.iter().filter_map(|encoding| encoding.encoding_id.as_deref()).collect();
    let (all_ssrcs, all_rids) = (ssrcs.len(), rids.len());
    ssrcs.sort_unstable();
    ssrcs.dedup();
    rids.sort_unstable();
    rids.dedup();
    if ssrcs.first() == Some(&0) || ssrcs.len() < all_ssrcs || rids.len() < all_rids {
        return Err(OrtcError::Malformed("two encodings have one ssrc or one rid, or an ssrc is 0"));
    }
    // RFC 8851 §10: letters, digits, - and _; RFC 8285 leaves 16 bytes in the one-byte form.
    let is_rid = |rid: &&str| {
        (1..=16).contains(&rid.len())
            && rid.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if !rids.iter().all(is_rid) {
        return Err(OrtcError::Malformed("a rid has 1 to 16 letters, digits, - or _"));
    }
    let nameless =
        encodings.iter().filter(|encoding| encoding.ssrc.is_none() && encoding.encoding_id.is_none());
    if encodings.len() > 1 && nameless.count() > 0 {
        return Err(OrtcError::Malformed("of several encodings each needs an ssrc or a rid"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::core::capabilities::room::{Dialect, RoomCodec, capabilities};

    fn room(dialect: Dialect) -> Capabilities {
        capabilities(&RoomCodec::ALL, dialect)
    }

    fn codec(mime: &str, clock_rate: u32, parameters: Value) -> RtpCodec {
        serde_json::from_value(json!({"mimeType": mime, "payloadType": 96, "clockRate": clock_rate,
            "parameters": parameters}))
        .expect("a codec")
    }

    /// A browser with sound, VP8 with retransmission, and H.264 without.
    fn browser() -> Capabilities {
        let feedback =
            json!([{"type": "nack"}, {"type": "nack", "parameter": "pli"}, {"type": "transport-cc"}]);
        let h264 = json!({"packetization-mode": 1, "profile-level-id": "42e034"});
        serde_json::from_value(json!({
            "codecs": [
                {"mimeType": "audio/OPUS", "preferredPayloadType": 111, "clockRate": 48000, "channels": 2},
                {"mimeType": "video/VP8", "preferredPayloadType": 96, "clockRate": 90000, "rtcpFeedback": feedback},
                {"mimeType": "video/rtx", "preferredPayloadType": 97, "clockRate": 90000, "parameters": {"apt": 96}},
                {"mimeType": "video/H264", "preferredPayloadType": 98, "clockRate": 90000, "parameters": h264},
            ],
            "headerExtensions": [
                {"kind": "video", "uri": ext::MID, "preferredId": 9},
                {"kind": "video", "uri": ext::RID, "preferredId": 10},
                {"kind": "video", "uri": ext::TRANSPORT_CC, "preferredId": 4},
                {"kind": "audio", "uri": ext::TRANSPORT_CC, "preferredId": 4},
                {"kind": "audio", "uri": "urn:nobody", "preferredId": 5},
            ],
        }))
        .expect("capabilities")
    }

    fn numbers() -> Numbers {
        Numbers { ssrc: 1, rtx_ssrc: 2, cname: "c".into(), mid: Some("3".into()) }
    }

    #[test]
    fn what_both_have_gets_the_rooms_numbers() {
        let room = room(Dialect::V3);
        let both = room.receivable(&browser(), Rule::Common).expect("accepted");
        let names: Vec<_> = both.codecs.iter().map(|entry| entry.codec.mime_type.as_str()).collect();
        assert_eq!(names, ["audio/opus", "video/VP8", "video/rtx", "video/H264"]);
        assert!(both.codecs.iter().all(|entry| room.codecs.iter().any(|ours| {
            ours.codec.payload_type == entry.codec.payload_type && ours.codec.is(&entry.codec.mime_type)
        })));
        let vp8 = &both.codecs[1].codec;
        assert!(vp8.has_feedback("nack", "pli") && !vp8.has_feedback("goog-remb", ""));
        let ids: Vec<_> = both.header_extensions.iter().map(|row| row.extension.id).collect();
        assert_eq!(ids, [1, 2, 5, 5]);
    }

    #[test]
    fn a_v2_client_may_only_leave_out() {
        let room = room(Dialect::V2);
        assert!(room.receivable(&room, Rule::Subset).is_ok());
        let opus_only = Capabilities { codecs: room.codecs[..1].to_vec(), header_extensions: Vec::new() };
        assert_eq!(room.receivable(&opus_only, Rule::Subset).expect("accepted"), opus_only);
        let error = room.receivable(&browser(), Rule::Subset);
        assert_eq!(error, Err(OrtcError::NotInRoom("audio/OPUS".into(), 111)));
        let mut moved = room.clone();
        moved.header_extensions[0].extension.id += 1;
        assert!(matches!(room.receivable(&moved, Rule::Subset), Err(OrtcError::ExtensionNotInRoom(..))));
    }

    #[test]
    fn a_consumer_gets_the_sources_codec_and_its_retransmission() {
        let both = room(Dialect::V3).receivable(&browser(), Rule::Common).expect("accepted");
        let rtp = both.consumed(Kind::Video, &codec("video/VP8", 90_000, json!({})), numbers());
        let names: Vec<_> = rtp.codecs.iter().map(|codec| codec.mime_type.as_str()).collect();
        assert_eq!(names, ["video/VP8", "video/rtx"]);
        assert_eq!(rtp.codecs[1].apt(), Some(rtp.codecs[0].payload_type));
        let encoding = Encoding { ssrc: Some(1), rtx: Some(RtxEncoding { ssrc: 2 }), ..Encoding::default() };
        assert_eq!(rtp.encodings, [encoding]);
        let uris: Vec<_> = rtp.header_extensions.iter().map(|ext| ext.uri.as_str()).collect();
        assert_eq!(uris, [ext::MID, ext::TRANSPORT_CC], "a RID only tells layers apart");
        assert!(rtp.codecs[0].has_feedback("transport-cc", ""));
        let audio = both.consumed(Kind::Audio, &codec("audio/opus", 48_000, json!({"stereo": 1})), numbers());
        assert_eq!((audio.codecs.len(), audio.encodings[0].rtx.is_none()), (1, true));
        assert_eq!(audio.codecs[0].parameter("stereo").as_deref(), Some("1"));
        assert!(audio.header_extensions.is_empty(), "the room only receives it for sound");
    }

    #[test]
    fn of_two_profiles_the_sources_own_comes_first() {
        let room = room(Dialect::V3);
        let profile = |id: &str| {
            let h264 = json!({"packetization-mode": 1, "profile-level-id": id});
            let rtp = room.consumed(Kind::Video, &codec("video/H264", 90_000, h264), numbers());
            rtp.codecs[0].parameter("profile-level-id")
        };
        assert_eq!(profile("640028").as_deref(), Some("64001f"));
        assert_eq!(profile("42c01f").as_deref(), Some("42e01f"));
    }

    #[test]
    fn what_must_be_converted_lists_everything_the_receiver_takes() {
        let both = room(Dialect::V3).receivable(&browser(), Rule::Common).expect("accepted");
        let aac = codec("audio/mpeg4-generic", 48_000, json!({}));
        assert!(!both.can_consume(Kind::Audio, &aac));
        assert_eq!(both.consumed(Kind::Audio, &aac, numbers()).codecs[0].mime_type, "audio/opus");
        let h265 = codec("video/H265", 90_000, json!({}));
        assert_eq!(both.consumed(Kind::Video, &h265, numbers()).codecs.len(), 3);
        let deaf = Capabilities::default();
        assert!(deaf.consumed(Kind::Audio, &aac, numbers()).codecs.is_empty());
    }

    fn sent(encodings: Value) -> RtpParameters {
        serde_json::from_value(json!({
            "codecs": [
                {"mimeType": "video/VP8", "payloadType": 96, "clockRate": 90000},
                {"mimeType": "video/rtx", "payloadType": 97, "clockRate": 90000, "parameters": {"apt": 96}},
                {"mimeType": "video/rtx", "payloadType": 99, "clockRate": 90000, "parameters": {"apt": 98}},
                {"mimeType": "video/red", "payloadType": 100, "clockRate": 90000},
            ],
            "headerExtensions": [{"uri": ext::RID, "id": 10}, {"uri": "urn:nobody", "id": 5}],
            "encodings": encodings,
        }))
        .expect("parameters")
    }

    #[test]
    fn a_track_keeps_the_senders_numbers_and_loses_what_the_room_does_not_know() {
        let kept = room(Dialect::V3).produced(Kind::Video, sent(json!([{"rid": "a"}, {"rid": "b"}])));
        let kept = kept.expect("accepted");
        let types: Vec<_> = kept.codecs.iter().map(|codec| codec.payload_type).collect();
        assert_eq!(
            (types, kept.header_extensions[0].id, kept.header_extensions.len()),
            (vec![96, 97], 10, 1)
        );
        assert_eq!(kept.encodings.len(), 2);
    }

    #[test]
    fn tracks_that_make_no_sense_are_refused() {
        let room = capabilities(&[RoomCodec::Opus, RoomCodec::H264], Dialect::V3);
        let error = room.produced(Kind::Video, sent(json!([{"ssrc": 1}])));
        assert_eq!(error, Err(OrtcError::UnsupportedCodec("video/VP8".into())));
        let room = capabilities(&RoomCodec::ALL, Dialect::V3);
        assert!(room.produced(Kind::Audio, sent(json!([{"ssrc": 1}]))).is_err(), "a picture is no sound");
        for bad in [
            json!([]),
            json!([{"ssrc": 0}]),
            json!([{"ssrc": 5}, {"ssrc": 5}]),
            json!([{"ssrc": 5, "rtx": {"ssrc": 5}}]),
            json!([{"rid": "a"}, {"rid": "a"}]),
            json!([{"rid": "a"}, {}]),
            json!([{"rid": "a/b"}]),
            json!([{"rid": ""}]),
            json!([{"ssrc": 1}, {"ssrc": 2}, {"ssrc": 3}, {"ssrc": 4}, {"ssrc": 5}, {"ssrc": 6}, {"ssrc": 7},
                {"ssrc": 8}, {"ssrc": 9}]),
        ] {
            let error = room.produced(Kind::Video, sent(bad.clone()));
            assert!(matches!(error, Err(OrtcError::Malformed(_))), "{bad}");
        }
        let twice = |change: fn(&mut RtpParameters)| {
            let mut sent = sent(json!([{"ssrc": 1}]));
            change(&mut sent);
            room.produced(Kind::Video, sent).is_err()
        };
        assert!(twice(|sent| sent.codecs[1].payload_type = 96));
        assert!(twice(|sent| sent.header_extensions[1].id = 10));
        assert!(twice(|sent| sent.codecs.truncate(0)));
    }
}
