use crate::core::capabilities::{Kind, RtpCodec};
use crate::core::convert::Format;
use crate::core::id::{ConnId, WorkerId};
use crate::core::session::Frame;
use crate::core::time::MediaTime;

pub fn conn() -> ConnId {
    ConnId::new(0, WorkerId(0), 7)
}

pub fn codec(mime: &str, parameters: &[(&str, &str)]) -> RtpCodec {
    RtpCodec {
        mime_type: mime.to_owned(),
        payload_type: 100,
        clock_rate: 48_000,
        channels: None,
        parameters: parameters.iter().map(|(name, value)| (name.to_string(), (*value).into())).collect(),
        rtcp_feedback: Vec::new(),
    }
}

pub fn audio_format(mime: &str, config: &[u8]) -> Format {
    Format { kind: Kind::Audio, codec: codec(mime, &[]), config: config.to_vec(), reordered: false }
}

pub fn frame(millis: i64, data: Vec<u8>) -> Frame {
    let time = MediaTime::from_millis(millis);
    Frame { track: 0, pts: time, dts: time, keyframe: true, discardable: false, data }
}
