//! What is told of a producer: `producer.dump` and `producer.getStats` of the v2 worker channel.

use serde_json::{Map, Value, json};

use crate::core::id::TransportId;
use crate::core::producer::{Input, Producer};
use crate::core::rtp::extension::ExtensionKind;
use crate::core::time::MediaTime;

impl Producer {
    /// `producer.dump`.
    pub fn dump(&self) -> Value {
        let streams: Vec<Value> = (0..self.streams.len()).filter_map(|at| self.stream_info(at)).collect();
        let losses: Vec<f64> =
            self.receptions().map(|reception| reception.receive.loss_percentage()).collect();
        json!({
            "producerId": self.id,
            "kind": self.kind,
            "rtpParameters": self.parameters,
            "rtpStreamInfos": streams,
            "lossPercentage": losses.iter().sum::<f64>() / losses.len().max(1) as f64,
            "headerExtensionIds": self.header_extension_ids(),
            "paused": self.paused,
            "x.preferredProfile": self.preferred,
            "x.rungs": self.rungs.iter().map(|rung| json!({
                "encodingIdx": rung.stream,
                "spatialLayer": rung.spatial,
                "temporalLayer": rung.temporal,
                "bitrate": rung.bitrate,
            })).collect::<Vec<_>>(),
            "x.store": {
                "bytes": self.streams.iter().map(|stream| stream.store.memory()).sum::<usize>(),
                "packets": self.streams.iter().map(|stream| stream.store.head() - stream.store.tail()).sum::<u64>(),
                "groupPackets": self.streams.iter().map(|stream| stream.store.group_packets()).sum::<usize>(),
            },
        })
    }

    /// The ids its router has for the extensions that matter.
    fn header_extension_ids(&self) -> Value {
        let known = [
            ("ssrcAudioLevel", ExtensionKind::AudioLevel),
            ("absSendTime", ExtensionKind::AbsSendTime),
            ("rid", ExtensionKind::Rid),
        ];
        let id = |kind| self.extensions.id(kind).map(|id| self.mapping.extension(id));
        let ids = known.into_iter().filter_map(|(name, kind)| Some((name.to_owned(), json!(id(kind)?))));
        Value::Object(ids.collect::<Map<_, _>>())
    }

    fn stream_info(&self, at: usize) -> Option<Value> {
        let stream = self.streams.get(at)?;
        let reception = stream.reception.as_deref()?;
        let codec = &self.formats[0].codec;
        Some(json!({
            "rtpStream": {"params": {
                "ssrc": reception.ssrc,
                "payloadType": codec.payload_type,
                "mimeType": codec.mime_type,
                "clockRate": codec.clock_rate,
                "useNack": reception.nack.is_some(),
                "usePli": codec.has_feedback("nack", "pli"),
            }},
            "rid": self.parameters.encodings.get(at).and_then(|encoding| encoding.encoding_id.as_deref()).unwrap_or(""),
            "rtxSsrc": reception.rtx_ssrc.unwrap_or(0),
            "active": stream.is_flowing(),
            "profile": self.profile(at),
        }))
    }

    /// `producer.getStats`: one object per RTP stream; `transport` is the one it comes through.
    pub fn stats(&self, transport: Option<TransportId>, now: MediaTime) -> Value {
        if !matches!(self.input, Input::Rtp(_)) {
            return json!([{
                "type": "inbound-rtp",
                "timestamp": now.as_micros() / 1000,
                "kind": self.kind,
                "mediaType": self.kind,
                "mimeType": self.formats[0].codec.mime_type,
                "packetCount": self.streams.iter().map(|stream| stream.store.head()).sum::<u64>(),
                "transportId": transport,
            }]);
        }
        (0..self.streams.len()).filter_map(|at| self.stats_of(at, transport, now)).collect()
    }

    /// The same of one stream alone, where it comes as RTP; nothing of one that never came.
    pub fn stats_of(&self, at: usize, transport: Option<TransportId>, now: MediaTime) -> Option<Value> {
        let stream = self.streams.get(at)?;
        let reception = stream.reception.as_deref().filter(|reception| reception.receive.packets() > 0)?;
        let receive = &reception.receive;
        let rungs = self.rungs.iter().filter(|rung| rung.stream == at);
        let rates = rungs.map(|rung| (format!("{}.{}", rung.spatial, rung.temporal), json!(rung.bitrate)));
        Some(json!({
            "type": "inbound-rtp",
            "id": format!("{:08x}{:08x}", self.id.0, reception.ssrc.unwrap_or(0)),
            "timestamp": now.as_micros() / 1000,
            "ssrc": reception.ssrc,
            "kind": self.kind,
            "mediaType": self.kind,
            "mimeType": self.formats[0].codec.mime_type,
            "packetCount": receive.packets(),
            "byteCount": receive.bytes(),
            "bitrate": stream.meter.bitrate(),
            "packetsLost": receive.lost().max(0),
            "fractionLost": receive.fraction_lost(),
            "packetsDiscarded": 0,
            "packetsRepaired": reception.repaired(),
            "nackCount": reception.nacks,
            "pliCount": reception.picture_losses,
            // We ask by PLI, and nobody is told of slices any more.
            "firCount": 0,
            "sliCount": 0,
            "jitter": receive.jitter(),
            "transportId": transport,
            "x.score": stream.score(),
            "x.rid": self.parameters.encodings.get(at).and_then(|encoding| encoding.encoding_id.as_deref()),
            "x.frameWidth": stream.dimensions.map(|(width, _)| width),
            "x.frameHeight": stream.dimensions.map(|(_, height)| height),
            "x.bitrateByLayer": rates.collect::<Map<_, _>>(),
        }))
    }
}
