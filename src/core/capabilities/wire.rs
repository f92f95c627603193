//! The JSON of clients, two generations of it. Both read into one form: what differs are names (`muxId` and
//! `mid`, `encodingId` and `rid`), which the reader takes either way, and what is there besides.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Direction;
use super::ortc::{Capabilities, CodecCapability, ExtensionCapability};
use super::{HeaderExtension, Kind, RtcpFeedback, RtpCodec, RtpParameters};

/// Codecs and extensions of one client; a browser has about 60 and 30.
const MAX_ENTRIES: usize = 256;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawCapabilities {
    #[serde(default)]
    codecs: Vec<RawCodec>,
    #[serde(default)]
    header_extensions: Vec<RawExtension>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawCodec {
    kind: Option<Kind>,
    mime_type: String,
    preferred_payload_type: Option<u8>,
    clock_rate: u32,
    channels: Option<u8>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(default)]
    rtcp_feedback: Option<Vec<RtcpFeedback>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawExtension {
    #[serde(default)]
    kind: Option<String>,
    uri: String,
    preferred_id: u8,
    #[serde(default)]
    direction: Option<String>,
}

impl<'de> Deserialize<'de> for Capabilities {
    /// Either shape.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawCapabilities::deserialize(deserializer)?;
        if raw.codecs.len() > MAX_ENTRIES || raw.header_extensions.len() > MAX_ENTRIES {
            return Err(serde::de::Error::custom("capabilities have too many entries"));
        }
        Ok(Capabilities {
            codecs: raw.codecs.into_iter().filter_map(codec).collect(),
            header_extensions: raw.header_extensions.into_iter().map(extension).collect(),
        })
    }
}

/// `None` for what is neither sound nor picture.
fn codec(raw: RawCodec) -> Option<CodecCapability> {
    let of_mime = |mime: &str| match mime.split('/').next()?.to_ascii_lowercase().as_str() {
        "audio" => Some(Kind::Audio),
        "video" => Some(Kind::Video),
        _ => None,
    };
    let kind = raw.kind.or_else(|| of_mime(&raw.mime_type))?;
    let codec = RtpCodec {
        mime_type: raw.mime_type,
        payload_type: raw.preferred_payload_type.unwrap_or_default(),
        clock_rate: raw.clock_rate,
        channels: raw.channels,
        parameters: raw.parameters.unwrap_or_default(),
        rtcp_feedback: raw.rtcp_feedback.unwrap_or_default(),
    };
    Some(CodecCapability { kind, codec })
}

fn extension(raw: RawExtension) -> ExtensionCapability {
    ExtensionCapability {
        kind: match raw.kind.as_deref() {
            Some("audio") => Some(Kind::Audio),
            Some("video") => Some(Kind::Video),
            _ => None,
        },
        extension: HeaderExtension::new(raw.uri, raw.preferred_id),
        direction: raw.direction.as_deref().and_then(Direction::read).unwrap_or(Direction::SendRecv),
    }
}

fn subtype(codec: &RtpCodec) -> &str {
    codec.mime_type.split('/').nth(1).unwrap_or_default()
}

impl Capabilities {
    /// As mediasoup-client 2 reads them.
    pub fn to_v2(&self) -> Value {
        let codec = |entry: &CodecCapability| {
            let mut value = codec_json(entry);
            value.insert("name".into(), subtype(&entry.codec).into());
            Value::Object(value)
        };
        // No kind means both.
        let extension = |row: &ExtensionCapability| {
            let kind = row.kind.map_or(json!(""), |kind| json!(kind));
            json!({"kind": kind, "uri": row.extension.uri, "preferredId": row.extension.id})
        };
        json!({
            "codecs": self.codecs.iter().map(codec).collect::<Vec<_>>(),
            "headerExtensions": self.header_extensions.iter().map(extension).collect::<Vec<_>>(),
            "fecMechanisms": [],
        })
    }

    /// As mediasoup-client 3 reads them: an extension belongs to one kind.
    pub fn to_v3(&self) -> Value {
        let extension = |row: &ExtensionCapability| {
            let kinds = row.kind.map_or(vec![Kind::Audio, Kind::Video], |kind| vec![kind]);
            let of_kind = |kind: Kind| {
                json!({
                    "kind": kind, "uri": row.extension.uri, "preferredId": row.extension.id,
                    "preferredEncrypt": false, "direction": row.direction.word(),
                })
            };
            kinds.into_iter().map(of_kind).collect::<Vec<_>>()
        };
        json!({
            "codecs": self.codecs.iter().map(codec_json).collect::<Vec<_>>(),
            "headerExtensions": self.header_extensions.iter().flat_map(extension).collect::<Vec<_>>(),
        })
    }
}

fn codec_json(entry: &CodecCapability) -> Map<String, Value> {
    let codec = &entry.codec;
    let mut value = Map::new();
    value.insert("kind".into(), json!(entry.kind));
    value.insert("mimeType".into(), codec.mime_type.as_str().into());
    value.insert("clockRate".into(), codec.clock_rate.into());
    value.insert("preferredPayloadType".into(), codec.payload_type.into());
    value.insert("parameters".into(), Value::Object(codec.parameters.clone()));
    value.insert("rtcpFeedback".into(), json!(codec.rtcp_feedback));
    if let Some(channels) = codec.channels {
        value.insert("channels".into(), channels.into());
    }
    value
}

impl RtpParameters {
    /// As mediasoup-client 2 reads them: codecs have a `name` beside the mime type.
    pub fn to_v2(&self) -> Value {
        let mut value = json!(self);
        let codecs = value.get_mut("codecs").and_then(Value::as_array_mut);
        for (json, codec) in codecs.into_iter().flatten().zip(&self.codecs) {
            json["name"] = subtype(codec).into();
        }
        value
    }

    /// As mediasoup-client 3 reads them: `mid` and `rid`.
    pub fn to_v3(&self) -> Value {
        let mut value = json!(self);
        rename(&mut value, "muxId", "mid");
        for encoding in value.get_mut("encodings").and_then(Value::as_array_mut).into_iter().flatten() {
            rename(encoding, "encodingId", "rid");
            rename(encoding, "resolutionScale", "scaleResolutionDownBy");
        }
        value
    }
}

fn rename(value: &mut Value, from: &str, to: &str) {
    if let Some(map) = value.as_object_mut()
        && let Some(inner) = map.remove(from)
    {
        map.insert(to.to_owned(), inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::capabilities::room::{Dialect, RoomCodec, capabilities};

    #[test]
    fn a_room_reads_back_what_it_says_in_either_shape() {
        for dialect in [Dialect::V2, Dialect::V3] {
            let room = capabilities(&RoomCodec::ALL, dialect);
            let json = if dialect == Dialect::V2 { room.to_v2() } else { room.to_v3() };
            assert_eq!(serde_json::from_value::<Capabilities>(json).expect("capabilities"), room);
        }
    }

    #[test]
    fn parameters_of_both_generations_read_into_one_form() {
        let v2 = json!({"muxId": null, "codecs": [], "rtcp": {},
            "headerExtensions": [], "encodings": [{"encodingId": "low1", "profile": "low"}]});
        let v3 = json!({"mid": "0", "codecs": [], "rtcp": {"cname": "", "reducedSize": true}, "msid": "a b",
            "headerExtensions": [], "encodings": [{"rid": "low1", "active": true, "dtx": false}]});
        let v2: RtpParameters = serde_json::from_value(v2).expect("v2 parameters");
        let v3: RtpParameters = serde_json::from_value(v3).expect("v3 parameters");
        assert_eq!(v2.encodings[0].encoding_id.as_deref(), Some("low1"));
        assert_eq!(v3.encodings[0].encoding_id, v2.encodings[0].encoding_id);
        assert_eq!((v2.mux_id, v3.mux_id.as_deref()), (None, Some("0")));
        let out =
            RtpParameters { mux_id: Some("7".into()), encodings: v3.encodings, ..RtpParameters::default() };
        assert_eq!((&out.to_v3()["mid"], &out.to_v3()["encodings"][0]["rid"]), (&json!("7"), &json!("low1")));
        assert_eq!(out.to_v3().get("muxId"), None);
    }

    #[test]
    fn a_kind_may_be_missing_and_other_media_are_left_out() {
        let json = json!({"codecs": [
            {"mimeType": "audio/opus", "clockRate": 48000, "channels": 2},
            {"mimeType": "application/x", "clockRate": 90000},
        ], "headerExtensions": [{"kind": "", "uri": "u", "preferredId": 3}]});
        let caps: Capabilities = serde_json::from_value(json).expect("capabilities");
        assert_eq!(caps.codecs.len(), 1);
        assert_eq!(caps.header_extensions[0].kind, None);
        let many = vec![json!({"uri": "u", "preferredId": 3}); 257];
        assert!(serde_json::from_value::<Capabilities>(json!({"headerExtensions": many})).is_err());
    }
}
