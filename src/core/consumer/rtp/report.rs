//! What is told of an outgoing RTP stream: its part of `consumer.dump` and `consumer.getStats`.

use serde_json::{Value, json};

use crate::core::capabilities::{Kind, RtpCodec};
use crate::core::consumer::rtp::RtpOutput;
use crate::core::time::MediaTime;

impl RtpOutput {
    /// The codec it goes as: the one it sends now, else the first it may.
    fn codec(&self) -> Option<&RtpCodec> {
        let current = self.current.map(|current| current.payload_type);
        let mut media = self.accepted.iter().filter(|codec| !codec.is_feature());
        media.clone().find(|codec| Some(codec.payload_type) == current).or_else(|| media.next())
    }

    pub(in crate::core::consumer) fn dump(&self) -> Value {
        let codec = self.codec();
        json!({"params": {
            "ssrc": self.ssrc,
            "payloadType": codec.map(|codec| codec.payload_type),
            "mimeType": codec.map(|codec| &codec.mime_type),
            "clockRate": codec.map(|codec| codec.clock_rate),
            "useNack": self.has_feedback("nack", ""),
            "usePli": self.has_feedback("nack", "pli"),
        }})
    }

    /// How much its receiver misses, in percent.
    pub(in crate::core::consumer) fn loss_percentage(&self) -> f64 {
        f64::from(self.report.fraction_lost) * 100.0 / 256.0
    }

    /// `consumer.getStats`; `id` is the consumer's.
    pub(in crate::core::consumer) fn stats(&self, id: u32, kind: Kind, now: MediaTime) -> Value {
        json!({
            "type": "outbound-rtp",
            "id": format!("{id:08x}{:08x}", self.ssrc),
            "timestamp": now.as_micros() / 1000,
            "ssrc": self.ssrc,
            "mediaType": kind,
            "kind": kind,
            "mimeType": self.codec().map(|codec| &codec.mime_type),
            "packetCount": self.sent.packets,
            "byteCount": self.sent.bytes,
            "bitrate": self.sent.rate.bitrate_at(now.as_micros()),
            "packetsLost": self.report.lost.max(0),
            "fractionLost": self.report.fraction_lost,
            // We send all we take, and nobody tells of slices any more.
            "packetsDiscarded": 0,
            "sliCount": 0,
            "packetsRepaired": self.sent.resent,
            "nackCount": self.sent.nacks,
            "pliCount": self.sent.plis,
            "firCount": self.sent.firs,
            "roundTripTime": self.round_trip.map_or(0.0, |rtt| rtt.as_secs_f64() * 1000.0),
        })
    }
}
