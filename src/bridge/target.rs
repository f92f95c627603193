//! Which conversion a pair of formats needs, if any. Pure.

use serde_json::{Map, Value, json};

use crate::bridge::aac;
use crate::core::capabilities::{Kind, RtpCodec};
use crate::core::convert::Format;
use crate::core::payload::Codec;

/// Constrained baseline, level 3.1: what every WebRTC endpoint has to take (RFC 7742 §6.2).
const BASELINE: &str = "42e01f";

/// The best output for a receiver of `accepted`; see [`crate::core::convert::Converter::target`].
pub fn target(from: &Format, accepted: &[RtpCodec]) -> Option<Format> {
    match Codec::from_mime(&from.codec.mime_type) {
        Codec::Aac => sound(accepted),
        Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::G722 => {
            let takes = |codec: &RtpCodec| {
                Codec::from_mime(&codec.mime_type) == Codec::Aac && codec.clock_rate == aac::RATE
            };
            accepted.iter().any(takes).then(aac_format)
        }
        Codec::H264 => picture(accepted).filter(|to| from.reordered || to.codec.takes_single_units_only()),
        Codec::Vp8 | Codec::Vp9 => picture(accepted),
        _ => None,
    }
}

/// What a receiver of `accepted` gets of a picture of our own.
pub fn slate(accepted: &[RtpCodec]) -> Option<Format> {
    picture(accepted)
}

fn sound(accepted: &[RtpCodec]) -> Option<Format> {
    let takes = |codec| accepted.iter().any(|accepted| Codec::from_mime(&accepted.mime_type) == codec);
    let (mime, payload_type, clock_rate, channels, parameters) = if takes(Codec::Opus) {
        // RFC 7587 §7: always two channels, whatever is inside.
        ("audio/opus", 97, 48_000, Some(2), json!({ "minptime": 10, "useinbandfec": 1 }))
    } else if takes(Codec::Pcmu) {
        ("audio/PCMU", 0, 8_000, Some(1), json!({}))
    } else if takes(Codec::Pcma) {
        ("audio/PCMA", 8, 8_000, Some(1), json!({}))
    } else {
        return None;
    };
    Some(format(Kind::Audio, mime, payload_type, clock_rate, channels, parameters))
}

/// AAC as we make it.
pub fn aac_format() -> Format {
    let parameters = json!({ "config": aac::CONFIG });
    let mut format = format(Kind::Audio, "audio/mpeg4-generic", 97, aac::RATE, Some(2), parameters);
    format.config = aac::CONFIG_BYTES.to_vec();
    format
}

fn picture(accepted: &[RtpCodec]) -> Option<Format> {
    let h264 = || accepted.iter().filter(|codec| Codec::from_mime(&codec.mime_type) == Codec::H264);
    let single = h264().all(RtpCodec::takes_single_units_only);
    let mut usable = h264().filter(|codec| single || !codec.takes_single_units_only());
    let profile = |codec: &RtpCodec| codec.parameter("profile-level-id").unwrap_or_default();
    let first = usable.clone().next()?;
    // A decoder of a higher profile takes constrained baseline too, but is named by its own profile.
    let baseline = usable.any(|codec| profile(codec).starts_with("42") || profile(codec).is_empty());
    let profile = if baseline { BASELINE.to_owned() } else { profile(first) };
    let parameters = json!({
        "packetization-mode": u8::from(!single), "level-asymmetry-allowed": 1, "profile-level-id": profile
    });
    Some(format(Kind::Video, "video/H264", 96, 90_000, None, parameters))
}

fn format(
    kind: Kind,
    mime: &str,
    payload_type: u8,
    clock_rate: u32,
    channels: Option<u8>,
    parameters: Value,
) -> Format {
    let codec = codec(mime, (payload_type, clock_rate, channels), parameters);
    Format { kind, codec, config: Vec::new(), reordered: false }
}

/// A codec as it stands in RTP parameters.
pub(super) fn codec(
    mime: &str,
    (payload_type, clock_rate, channels): (u8, u32, Option<u8>),
    parameters: Value,
) -> RtpCodec {
    let parameters = match parameters {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    RtpCodec {
        mime_type: mime.to_owned(),
        payload_type,
        clock_rate,
        channels,
        parameters,
        rtcp_feedback: Vec::new(),
    }
}
