//! What is told of a producer: `producer.dump` and `producer.getStats` of the v2 worker channel.

use serde_json::{Value, json};

use crate::core::producer::{Input, Producer, Reception};
use crate::core::time::MediaTime;

impl Producer {
    /// `producer.dump`.
    pub fn dump(&self) -> Value {
        let streams: Vec<Value> = self.receptions().map(|reception| self.stream_info(reception)).collect();
        json!({
            "producerId": self.id,
            "kind": self.kind,
            "rtpParameters": self.parameters,
            "rtpStreamInfos": streams,
            "paused": self.paused,
            "x.store": {
                "bytes": self.streams.iter().map(|stream| stream.store.memory()).sum::<usize>(),
                "packets": self.streams.iter().map(|stream| stream.store.head() - stream.store.tail()).sum::<u64>(),
                "groupPackets": self.streams.iter().map(|stream| stream.store.group_packets()).sum::<usize>(),
            },
        })
    }

    fn stream_info(&self, reception: &Reception) -> Value {
        let codec = &self.formats[0].codec;
        json!({
            "rtpStream": {"params": {
                "ssrc": reception.ssrc,
                "payloadType": codec.payload_type,
                "mimeType": codec.mime_type,
                "clockRate": codec.clock_rate,
                "useNack": reception.nack.is_some(),
                "usePli": codec.has_feedback("nack", "pli"),
            }},
            "rtxSsrc": reception.rtx_ssrc,
            "active": true,
            "profile": "default",
        })
    }

    /// `producer.getStats`: one object per RTP stream.
    pub fn stats(&self, now: MediaTime) -> Value {
        if !matches!(self.input, Input::Rtp(_)) {
            return json!([{
                "type": "inbound-rtp",
                "timestamp": now.as_micros() / 1000,
                "kind": self.kind,
                "mediaType": self.kind,
                "mimeType": self.formats[0].codec.mime_type,
                "packetCount": self.streams.iter().map(|stream| stream.store.head()).sum::<u64>(),
            }]);
        }
        self.receptions().map(|reception| self.stream_stats(reception, now)).collect()
    }

    fn stream_stats(&self, reception: &Reception, now: MediaTime) -> Value {
        json!({
            "type": "inbound-rtp",
            "timestamp": now.as_micros() / 1000,
            "ssrc": reception.ssrc,
            "kind": self.kind,
            "mediaType": self.kind,
            "mimeType": self.formats[0].codec.mime_type,
            "packetCount": reception.receive.packets(),
            "byteCount": reception.receive.bytes(),
            "packetsLost": reception.receive.lost(),
            "jitter": reception.receive.jitter(),
        })
    }
}
