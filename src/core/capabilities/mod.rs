//! RTP dictionaries of the control protocol: the shapes of the v2 worker channel (codecs, encodings,
//! header extensions, RTCP), used inside and outside, and the rules by which a receiver's list of
//! codecs is matched with a producer's codec.
//!
//! | file | what |
//! | --- | --- |
//! | `room` | what a room offers to clients that negotiate by capabilities: codecs, payload types, extensions |
//! | `ortc` | what a client and a room have in common; the parameters of a track in and out of it |
//! | `sent` | whether what is said of a track into a router can be true |
//! | `h264` | profiles behind `profile-level-id` |
//! | `wire` | the JSON of the v2 and v3 clients |

mod direction;
mod h264;
mod mapping;
pub mod ortc;
pub mod room;
mod sent;
mod wire;

pub use direction::Direction;
pub use mapping::RtpMapping;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::core::profile::Profile;

/// What a track carries.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Sound.
    Audio,
    /// Picture.
    Video,
}

/// One RTCP feedback message a codec is used with (`a=rtcp-fb`, RFC 4585 §4.2).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RtcpFeedback {
    /// `nack`, `ccm`, `goog-remb`, `transport-cc`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `pli`, `fir`, or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parameter: String,
}

/// A codec with its payload type. RTX stands as a codec of its own with `apt` in `parameters`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RtpCodec {
    /// `audio/opus`, `video/H264`, ...; compared without case. AAC from RTMP is `audio/mpeg4-generic`.
    pub mime_type: String,
    /// RTP payload type, 0 to 127.
    pub payload_type: u8,
    /// RTP clock in Hz.
    pub clock_rate: u32,
    /// Audio channels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<u8>,
    /// Format parameters (`a=fmtp`): strings or integers.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// Feedback the sender of media accepts for it.
    #[serde(default)]
    pub rtcp_feedback: Vec<RtcpFeedback>,
}

impl RtpCodec {
    /// Whether the mime type is `mime`, without case.
    pub fn is(&self, mime: &str) -> bool {
        self.mime_type.eq_ignore_ascii_case(mime)
    }

    /// Whether this is RTX, RED, FEC, comfort noise or DTMF: a codec that never stands alone.
    pub fn is_feature(&self) -> bool {
        let name = self.mime_type.split('/').nth(1).unwrap_or_default().to_ascii_lowercase();
        matches!(
            name.as_str(),
            "rtx" | "red" | "ulpfec" | "flexfec-03" | "flexfec" | "cn" | "telephone-event"
        )
    }

    /// A format parameter as text, whether it was given as a string or a number.
    pub fn parameter(&self, name: &str) -> Option<String> {
        match self.parameters.get(name)? {
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    /// H.264 of which nothing larger than a packet, and no two NAL units in one, can be taken: packetization-mode 0, said
    /// in so many words. Where nothing is said nothing is assumed, for receivers that say nothing take both.
    pub fn takes_single_units_only(&self) -> bool {
        self.is("video/H264") && self.parameter("packetization-mode").as_deref() == Some("0")
    }

    /// The payload type an RTX codec repairs.
    pub fn apt(&self) -> Option<u8> {
        self.parameter("apt")?.parse().ok()
    }

    /// Whether feedback `kind` (with `parameter`, possibly empty) was negotiated.
    pub fn has_feedback(&self, kind: &str, parameter: &str) -> bool {
        self.rtcp_feedback.iter().any(|fb| fb.kind == kind && fb.parameter == parameter)
    }
}

/// The SSRC of a retransmission stream.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RtxEncoding {
    /// RTP synchronisation source.
    pub ssrc: u32,
}

/// Forward error correction of a stream.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FecEncoding {
    /// `red`, `red+ulpfec`, `flexfec`.
    pub mechanism: String,
    /// The SSRC it comes as; absent where it shares that of the stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssrc: Option<u32>,
}

/// One RTP stream of a track.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Encoding {
    /// RTP synchronisation source; absent where the stream is found by MID or RID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssrc: Option<u32>,
    /// Payload type of its codec; the first media codec where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec_payload_type: Option<u8>,
    /// Its forward error correction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fec: Option<FecEncoding>,
    /// Its retransmission stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtx: Option<RtxEncoding>,
    /// Whether it is sent; absent means it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// RTP stream id of a simulcast layer (RFC 8851); `rid` in the v3 protocol.
    #[serde(alias = "rid", skip_serializing_if = "Option::is_none")]
    pub encoding_id: Option<String>,
    /// The streams this one is no use without.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dependency_encoding_ids: Vec<String>,
    /// Which layer of a simulcast track it is, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// By how much its picture is smaller than the source's.
    #[serde(alias = "scaleResolutionDownBy", skip_serializing_if = "Option::is_none")]
    pub resolution_scale: Option<f64>,
    /// The share of the source's frames it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub framerate_scale: Option<f64>,
    /// Frames a second at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_framerate: Option<f64>,
    /// Bits a second at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bitrate: Option<u64>,
    /// Its layers (W3C WebRTC-SVC): `L1T3`, `L3T3_KEY`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scalability_mode: Option<String>,
    /// Nothing is sent in silence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dtx: Option<bool>,
}

/// A header extension and its local id (`a=extmap`, RFC 8285).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HeaderExtension {
    /// The extension's URI.
    pub uri: String,
    /// 1 to 14 in the one-byte form, to 255 in the two-byte form.
    pub id: u8,
    /// Encrypted on the wire (RFC 6904).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypt: bool,
    /// Its attributes.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub parameters: Map<String, Value>,
}

impl HeaderExtension {
    /// `uri` by the number `id`.
    pub fn new(uri: impl Into<String>, id: u8) -> Self {
        HeaderExtension { uri: uri.into(), id, encrypt: false, parameters: Map::new() }
    }
}

/// RTCP of a track.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RtcpParameters {
    /// Canonical name shared by the tracks that belong together (lip sync).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cname: Option<String>,
    /// Packets of RTCP may stand alone (RFC 5506); absent means they may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reduced_size: Option<bool>,
}

/// Everything that describes a track's RTP, sent or received.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RtpParameters {
    /// Media id (`a=mid`), written into each packet when the extension was negotiated. v3 calls it `mid`.
    #[serde(alias = "mid", skip_serializing_if = "Option::is_none")]
    pub mux_id: Option<String>,
    /// Codecs, media and RTX. A producer sends the first media codec unless told otherwise; a consumer
    /// lists every codec its receiver takes.
    pub codecs: Vec<RtpCodec>,
    /// Streams; a consumer has exactly one.
    pub encodings: Vec<Encoding>,
    /// Header extensions.
    pub header_extensions: Vec<HeaderExtension>,
    /// RTCP.
    pub rtcp: RtcpParameters,
}

/// The entry of `accepted` that takes media of codec `source` untouched, if there is one.
///
/// Among several H.264 entries the best is the one with the source's packetization mode and profile; a
/// profile that differs is no obstacle, because what encoders declare and what they send differ too.
pub fn select<'a>(accepted: &'a [RtpCodec], source: &RtpCodec) -> Option<&'a RtpCodec> {
    let fits = accepted.iter().filter(|codec| {
        codec.is(&source.mime_type)
            && codec.clock_rate == source.clock_rate
            && same_or_default(codec, source, "profile-id", "0")
            && same_or_default(codec, source, "profile", "0")
            && (!codec.takes_single_units_only() || source.takes_single_units_only())
    });
    // `max_by_key` takes the last of equals, and the receiver lists its preferred entry first.
    fits.rev().max_by_key(|codec| closeness(codec, source))
}

/// Whether a parameter that changes the bitstream is equal in both, `default` standing in where absent.
fn same_or_default(a: &RtpCodec, b: &RtpCodec, name: &str, default: &str) -> bool {
    if !a.is("video/VP9") && !a.is("video/AV1") {
        return true;
    }
    let value = |codec: &RtpCodec| codec.parameter(name).unwrap_or_else(|| default.to_owned());
    value(a) == value(b)
}

/// How well an H.264 entry fits a source: packetization mode before profile.
fn closeness(codec: &RtpCodec, source: &RtpCodec) -> u8 {
    if !codec.is("video/H264") {
        return 0;
    }
    let mode = |codec: &RtpCodec| codec.parameter("packetization-mode").unwrap_or_else(|| "0".to_owned());
    let profile = |codec: &RtpCodec| {
        let id = codec.parameter("profile-level-id").unwrap_or_default().to_ascii_lowercase();
        id.get(..4).map(str::to_owned)
    };
    u8::from(mode(codec) == "1") * 2 + u8::from(profile(codec) == profile(source))
}

/// Known header extension URIs; the table is that of [`ExtensionKind`](crate::core::rtp::extension::ExtensionKind).
pub mod ext {
    use crate::core::rtp::extension::ExtensionKind;

    /// RFC 8843 §15: the media id.
    pub const MID: &str = ExtensionKind::Mid.uri();
    /// RFC 8852: the stream id of a simulcast layer.
    pub const RID: &str = ExtensionKind::Rid.uri();
    /// RFC 8852: the stream id that an RTX stream repairs.
    pub const REPAIRED_RID: &str = ExtensionKind::RepairedRid.uri();
    /// 24-bit 6.18 fixed-point send time.
    pub const ABS_SEND_TIME: &str = ExtensionKind::AbsSendTime.uri();
    /// Transport-wide congestion control.
    pub const TRANSPORT_CC: &str = ExtensionKind::TransportCc.uri();
    /// RFC 6464: audio level of the packet.
    pub const AUDIO_LEVEL: &str = ExtensionKind::AudioLevel.uri();
    /// 3GPP TS 26.114: rotation of the picture.
    pub const VIDEO_ORIENTATION: &str = ExtensionKind::VideoOrientation.uri();
    /// Bounds of the receiver's playout delay.
    pub const PLAYOUT_DELAY: &str = ExtensionKind::PlayoutDelay.uri();
    /// AV1 RTP payload specification, appendix A.
    pub const DEPENDENCY_DESCRIPTOR: &str = ExtensionKind::DependencyDescriptor.uri();
    /// Absolute capture time.
    pub const ABS_CAPTURE_TIME: &str = ExtensionKind::AbsCaptureTime.uri();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codec(mime: &str, payload_type: u8, fmtp: &[(&str, &str)]) -> RtpCodec {
        RtpCodec {
            mime_type: mime.into(),
            payload_type,
            clock_rate: 90_000,
            channels: None,
            parameters: fmtp.iter().map(|(k, v)| ((*k).into(), Value::from(*v))).collect(),
            rtcp_feedback: Vec::new(),
        }
    }

    #[test]
    fn h264_prefers_mode_then_profile_then_order() {
        let high = ("profile-level-id", "64001f");
        let base = ("profile-level-id", "42e01f");
        let accepted = [
            codec("video/H264", 1, &[high, ("packetization-mode", "0")]),
            codec("video/H264", 2, &[base, ("packetization-mode", "1")]),
            codec("video/H264", 3, &[high, ("packetization-mode", "1")]),
        ];
        let of = |source: &RtpCodec| select(&accepted, source).map(|codec| codec.payload_type);
        assert_eq!(of(&codec("video/h264", 9, &[high])), Some(3));
        assert_eq!(of(&codec("video/h264", 9, &[("profile-level-id", "4d001f")])), Some(2));
        assert_eq!(of(&codec("video/VP8", 9, &[])), None);
    }

    #[test]
    fn streams_are_read_in_both_dialects() {
        let v2 = r#"{"ssrc":1,"encodingId":"low0","profile":"low","rtx":{"ssrc":2},"resolutionScale":4.0}"#;
        let v2: Encoding = serde_json::from_str(v2).unwrap();
        assert_eq!((v2.encoding_id.as_deref(), v2.profile), (Some("low0"), Some(Profile::Low)));
        let v3 =
            r#"{"rid":"q","active":true,"scalabilityMode":"L1T3","scaleResolutionDownBy":4,"dtx":false}"#;
        let v3: Encoding = serde_json::from_str(v3).unwrap();
        assert_eq!((v3.encoding_id.as_deref(), v3.resolution_scale), (Some("q"), Some(4.0)));
        assert_eq!(serde_json::from_str::<Encoding>(&serde_json::to_string(&v3).unwrap()).unwrap(), v3);
    }

    #[test]
    fn vp9_profiles_are_different_bitstreams() {
        let accepted = [codec("video/VP9", 1, &[("profile-id", "2")]), codec("video/VP9", 2, &[])];
        let chosen = select(&accepted, &codec("video/VP9", 9, &[("profile-id", "0")]));
        assert_eq!(chosen.map(|codec| codec.payload_type), Some(2));
    }
}
