//! A producer: one track into a router. Whatever it comes as, SRTP packets, frames of a stream session,
//! frames of a bridge job or packets of a pipe, it ends in one [`PacketStore`] that its consumers read.

use std::time::Duration;

use serde_json::{Value, json};

use crate::core::capabilities::{Kind, RtpCodec, RtpParameters};
use crate::core::id::{ConnId, ProducerId};
use crate::core::payload::{Codec, FrameFacts, Packetizer, inspect};
use crate::core::rtp::clock::{PublisherClock, StreamClock};
use crate::core::rtp::extension::{ExtensionKind, ExtensionMap};
use crate::core::rtp::header::RtpView;
use crate::core::rtp::receive::{DuplicateGuard, NackGenerator, NackLimits, ReceiveStats};
use crate::core::rtp::rtcp::SenderInfo;
use crate::core::rtp::sequence::SequenceUnwrapper;
use crate::core::rtp::store::{
    DISCARDABLE, FRAME_END, FRAME_START, KEYFRAME, PacketMeta, PacketStore, StoreLimits,
};
use crate::core::rtp::tone::{Tone, ToneReceiver};
use crate::core::session::Frame;
use crate::core::time::MediaTime;

/// Largest payload our own packetizers make: with header, extensions and tag it stays below a datagram.
pub const MAX_PAYLOAD: usize = 1180;

/// A media codec of a producer.
#[derive(Clone, Debug)]
pub struct Format {
    /// Its parameters.
    pub codec: RtpCodec,
    /// Which it is.
    pub kind: Codec,
    /// Payload type of its retransmissions.
    pub rtx_payload_type: Option<u8>,
}

/// How a producer's packets come.
pub enum Input {
    /// As RTP of a remote party.
    Rtp(Box<RtpInput>),
    /// As frames, of a stream session or a bridge job.
    Frames(FrameInput),
    /// From another router.
    Pipe {
        /// The track's number on the pipe.
        track: u32,
    },
}

/// Reception of one RTP stream.
pub struct RtpInput {
    /// Its synchronisation source, once known.
    pub ssrc: Option<u32>,
    /// Its retransmission stream's.
    pub rtx_ssrc: Option<u32>,
    /// Statistics and report blocks.
    pub receive: ReceiveStats,
    /// Loss repair, where negotiated.
    pub nack: Option<NackGenerator>,
    /// Keys of a telephone in it.
    pub tones: ToneReceiver,
    duplicates: DuplicateGuard,
    clock: StreamClock,
    sequence: SequenceUnwrapper,
}

/// Frames to packets.
pub struct FrameInput {
    /// The track's number within its session.
    pub track: u32,
    packetizer: Option<Packetizer>,
    sequence: u64,
    first: Option<MediaTime>,
}

/// When to ask the source for a keyframe: asked for by many receivers, asked once per window, and again
/// while none comes.
#[derive(Debug, Default)]
pub struct KeyframeRequests {
    wanted: bool,
    asked: Option<MediaTime>,
    unanswered: u32,
}

/// Shortest time between two requests to one source.
const KEYFRAME_WINDOW: Duration = Duration::from_millis(500);
/// Requests in a row without a keyframe after which the source counts as deaf (OBS ignores them all).
const DEAF_AFTER: u32 = 3;

/// See the module.
pub struct Producer {
    /// Its id in the control protocol.
    pub id: ProducerId,
    /// Whose it is.
    pub conn: ConnId,
    /// Sound or picture.
    pub kind: Kind,
    /// Key of its transport within the router.
    pub transport: usize,
    /// As it was created.
    pub parameters: RtpParameters,
    /// Its media codecs.
    pub formats: Vec<Format>,
    /// What it sent lately.
    pub store: PacketStore,
    /// How it comes.
    pub input: Input,
    /// Keys of its consumers within the router.
    pub consumers: Vec<usize>,
    /// Paused: what comes is not forwarded.
    pub paused: bool,
    /// Whether and when its source is asked for a keyframe.
    pub keyframes: KeyframeRequests,
    /// Packets came since the last flush.
    pub changed: bool,
    extensions: ExtensionMap,
}

impl Producer {
    /// A producer of `parameters`; `input` says how its packets come.
    pub fn new(
        id: ProducerId,
        conn: ConnId,
        kind: Kind,
        transport: usize,
        parameters: RtpParameters,
        input: Input,
        limits: StoreLimits,
    ) -> Result<Self, String> {
        let formats = formats(&parameters.codecs);
        if formats.is_empty() {
            return Err("rtpParameters.codecs holds no media codec".into());
        }
        let pairs = parameters.header_extensions.iter().map(|ext| (ext.uri.as_str(), ext.id));
        let extensions = ExtensionMap::from_uris(pairs);
        Ok(Producer {
            id,
            conn,
            kind,
            transport,
            formats,
            store: PacketStore::new(limits),
            input,
            consumers: Vec::new(),
            paused: false,
            keyframes: KeyframeRequests::default(),
            changed: false,
            extensions,
            parameters,
        })
    }

    /// The format a stored packet's codec tag stands for.
    pub fn format(&self, tag: u8) -> Option<&Format> {
        self.formats.get(usize::from(tag))
    }

    /// Takes a decrypted RTP packet; `rtx` when it came on the retransmission stream. Answers whether it is
    /// new.
    pub fn receive(&mut self, view: &RtpView<'_>, rtx: bool, now: MediaTime) -> bool {
        let Input::Rtp(input) = &mut self.input else { return false };
        let by = |format: &&Format| match rtx {
            true => format.rtx_payload_type == Some(view.payload_type),
            false => format.codec.payload_type == view.payload_type,
        };
        let Some(tag) = self.formats.iter().position(|format| by(&format)) else { return false };
        let (sequence, payload) = match rtx {
            true => match view.payload.split_first_chunk::<2>() {
                Some((original, rest)) => (input.sequence.peek(u16::from_be_bytes(*original)), rest),
                None => return false,
            },
            false => (input.sequence.unwrap(view.sequence), view.payload),
        };
        if !input.duplicates.accept(sequence) {
            return false;
        }
        if let Some(nack) = &mut input.nack {
            nack.received(now, sequence);
        }
        if !rtx {
            input.receive.packet(now, sequence, view.timestamp, payload.len());
        }
        let (timestamp, time) = input.clock.map(now, view.timestamp);
        let facts = inspect(self.formats[tag].kind, payload, view.marker);
        let meta = PacketMeta {
            sequence,
            timestamp,
            time,
            arrival: now,
            marker: view.marker,
            flags: flags(&facts),
            payload_type: view.payload_type,
            codec: tag as u8,
        };
        let map = self.extensions;
        let elements = view.extensions().filter_map(|(id, data)| Some((map.kind(id)?, data)));
        let kept = elements.filter(|(kind, _)| keep(*kind));
        if facts.keyframe {
            self.keyframes.answered();
        }
        self.store.push(meta, kept, payload);
        true
    }

    /// Takes a decrypted packet of the stream that [`Producer::receive`] did not want: keys of a telephone are
    /// read out of it. It stays a place without content in the stream, so that nobody misses it there.
    pub fn receive_other(&mut self, view: &RtpView<'_>, now: MediaTime, tones: &mut Vec<Tone>) {
        let Input::Rtp(input) = &mut self.input else { return };
        let sequence = input.sequence.unwrap(view.sequence);
        if !input.duplicates.accept(sequence) {
            return;
        }
        if let Some(nack) = &mut input.nack {
            nack.received(now, sequence);
        }
        input.receive.packet(now, sequence, view.timestamp, view.payload.len());
        input.tones.receive(now, view.payload_type, view.timestamp, view.payload, tones);
        let (timestamp, time) = input.clock.map(now, view.timestamp);
        let head = self.store.head();
        let codec = head.checked_sub(1).and_then(|last| self.store.meta(last)).map_or(0, |last| last.codec);
        let payload_type = view.payload_type;
        let meta =
            PacketMeta { sequence, timestamp, time, arrival: now, payload_type, codec, ..Default::default() };
        self.store.push(meta, [], &[]);
    }

    /// The party sends from another source now, beginning with `sequence`: what comes is newer than all that
    /// came before, and nothing of the old source's clock holds. Consumers must begin anew.
    pub fn change_source(&mut self, ssrc: u32, sequence: u16) {
        let Input::Rtp(input) = &mut self.input else { return };
        let clock_rate = self.formats.first().map_or(90_000, |format| format.codec.clock_rate);
        input.ssrc = Some(ssrc);
        input.receive = ReceiveStats::new(clock_rate);
        input.nack = input.nack.take().map(|_| NackGenerator::new(NackLimits::default()));
        input.duplicates = DuplicateGuard::default();
        input.clock = StreamClock::new(clock_rate);
        input.sequence.restart(sequence);
        self.store.break_group();
    }

    /// Takes a frame of a stream session or a bridge job.
    pub fn receive_frame(&mut self, frame: &Frame, now: MediaTime) {
        let Input::Frames(input) = &mut self.input else { return };
        let Some(format) = self.formats.first() else { return };
        let first = *input.first.get_or_insert(frame.pts);
        let rate = format.codec.clock_rate;
        // One second up, so that a frame presented before the first one has a place.
        let micros = i128::from(frame.pts.micros_since(first)) + 1_000_000;
        let timestamp = (micros * i128::from(rate) / 1_000_000).max(0) as u64;
        let mut meta = PacketMeta {
            sequence: 0,
            timestamp,
            time: frame.pts,
            arrival: now,
            marker: true,
            flags: 0,
            payload_type: format.codec.payload_type,
            codec: 0,
        };
        let (store, sequence) = (&mut self.store, &mut input.sequence);
        let mut push = |payload: &[u8], marker: bool, facts: FrameFacts| {
            (meta.sequence, meta.marker, meta.flags) = (*sequence, marker, flags(&facts));
            *sequence += 1;
            store.push(meta, [], payload);
        };
        match &mut input.packetizer {
            Some(packetizer) => packetizer.packetize(&frame.data, MAX_PAYLOAD, &mut push),
            None => {
                let (keyframe, discardable) = (frame.keyframe, frame.discardable);
                push(&frame.data, true, FrameFacts { start: true, end: true, keyframe, discardable });
            }
        }
        if frame.keyframe {
            self.keyframes.answered();
        }
    }

    /// Takes a packet of another router's store.
    pub fn receive_piped<'e>(
        &mut self,
        meta: PacketMeta,
        extensions: impl Iterator<Item = (ExtensionKind, &'e [u8])> + Clone,
        payload: &[u8],
    ) {
        if meta.has(KEYFRAME) {
            self.keyframes.answered();
        }
        self.store.push(meta, extensions, payload);
    }

    /// A sender report of the stream: ties its clock to the publisher's.
    pub fn sender_report(&mut self, publisher: &mut PublisherClock, now: MediaTime, info: &SenderInfo) {
        if let Input::Rtp(input) = &mut self.input {
            input.receive.sender_report(now, info);
            input.clock.sender_report(publisher, now, info);
        }
    }

    /// `producer.dump` of the v2 worker channel.
    pub fn dump(&self) -> Value {
        let streams: Vec<Value> = match &self.input {
            Input::Rtp(input) => vec![json!({
                "rtpStream": {"params": {
                    "ssrc": input.ssrc,
                    "payloadType": self.formats[0].codec.payload_type,
                    "mimeType": self.formats[0].codec.mime_type,
                    "clockRate": self.formats[0].codec.clock_rate,
                    "useNack": input.nack.is_some(),
                    "usePli": self.formats[0].codec.has_feedback("nack", "pli"),
                }},
                "rtxSsrc": input.rtx_ssrc,
                "active": true,
                "profile": "default",
            })],
            _ => Vec::new(),
        };
        json!({
            "producerId": self.id,
            "kind": self.kind,
            "rtpParameters": self.parameters,
            "rtpStreamInfos": streams,
            "paused": self.paused,
            "x.store": {
                "bytes": self.store.memory(),
                "packets": self.store.head() - self.store.tail(),
                "groupPackets": self.store.group_packets(),
            },
        })
    }

    /// `producer.getStats`: one object per RTP stream.
    pub fn stats(&self, now: MediaTime) -> Value {
        let Input::Rtp(input) = &self.input else {
            return json!([{
                "type": "inbound-rtp",
                "timestamp": now.as_micros() / 1000,
                "kind": self.kind,
                "mediaType": self.kind,
                "mimeType": self.formats[0].codec.mime_type,
                "packetCount": self.store.head(),
            }]);
        };
        json!([{
            "type": "inbound-rtp",
            "timestamp": now.as_micros() / 1000,
            "ssrc": input.ssrc,
            "kind": self.kind,
            "mediaType": self.kind,
            "mimeType": self.formats[0].codec.mime_type,
            "packetCount": input.receive.packets(),
            "byteCount": input.receive.bytes(),
            "packetsLost": input.receive.lost(),
            "jitter": input.receive.jitter(),
        }])
    }
}

impl RtpInput {
    /// For the stream described by `parameters`; `codec` is its first media codec.
    pub fn new(parameters: &RtpParameters, codec: &RtpCodec) -> Self {
        let encoding = parameters.encodings.first();
        let nack = codec.has_feedback("nack", "").then(|| NackGenerator::new(NackLimits::default()));
        RtpInput {
            ssrc: encoding.and_then(|encoding| encoding.ssrc),
            rtx_ssrc: encoding.and_then(|encoding| encoding.rtx.as_ref()).map(|rtx| rtx.ssrc),
            receive: ReceiveStats::new(codec.clock_rate),
            nack,
            tones: ToneReceiver::new(tone_types(&parameters.codecs)),
            duplicates: DuplicateGuard::default(),
            clock: StreamClock::new(codec.clock_rate),
            sequence: SequenceUnwrapper::new(),
        }
    }
}

impl FrameInput {
    /// For frames of `track`, coded as `codec`.
    pub fn new(track: u32, codec: &RtpCodec) -> Self {
        FrameInput {
            track,
            packetizer: Packetizer::new(Codec::from_mime(&codec.mime_type)),
            sequence: 1 << 16,
            first: None,
        }
    }
}

impl KeyframeRequests {
    /// A receiver cannot go on without a keyframe.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether the source is to be asked now. Call again no later than [`KeyframeRequests::next`].
    pub fn take(&mut self, now: MediaTime) -> bool {
        let open = self.next().is_none_or(|at| now >= at);
        if !self.wanted || !open {
            return false;
        }
        self.asked = Some(now);
        self.unanswered += 1;
        // Asked again while none comes, at a slower pace once the source seems deaf.
        self.wanted = self.unanswered < DEAF_AFTER;
        true
    }

    /// When the next request may go out.
    pub fn next(&self) -> Option<MediaTime> {
        self.asked.map(|asked| asked + KEYFRAME_WINDOW)
    }

    /// Whether a request waits for its window.
    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// The source has ignored several requests in a row.
    pub fn is_deaf(&self) -> bool {
        self.unanswered >= DEAF_AFTER
    }

    fn answered(&mut self) {
        (self.wanted, self.unanswered) = (false, 0);
    }
}

/// Payload types of telephone events, each with its clock rate.
pub fn tone_types(codecs: &[RtpCodec]) -> Vec<(u8, u32)> {
    let tones = codecs.iter().filter(|codec| codec.is("audio/telephone-event"));
    tones.map(|codec| (codec.payload_type, codec.clock_rate)).collect()
}

/// The media codecs; behind them comfort noise (RFC 3389), which stands in for them in silence.
fn formats(codecs: &[RtpCodec]) -> Vec<Format> {
    let media = codecs.iter().filter(|codec| !codec.is_feature());
    if media.clone().next().is_none() {
        return Vec::new();
    }
    let media = media.chain(codecs.iter().filter(|codec| codec.is("audio/CN")));
    let rtx = |payload_type| {
        let repairs = |codec: &&RtpCodec| codec.is_feature() && codec.apt() == Some(payload_type);
        codecs.iter().find(repairs).map(|codec| codec.payload_type)
    };
    media
        .map(|codec| Format {
            kind: Codec::from_mime(&codec.mime_type),
            rtx_payload_type: rtx(codec.payload_type),
            codec: codec.clone(),
        })
        .collect()
}

fn flags(facts: &FrameFacts) -> u8 {
    let mut flags = 0;
    for (set, flag) in [
        (facts.start, FRAME_START),
        (facts.end, FRAME_END),
        (facts.keyframe, KEYFRAME),
        (facts.discardable, DISCARDABLE),
    ] {
        if set {
            flags |= flag;
        }
    }
    flags
}

/// Extensions worth their bytes in the store: those that receivers get, or the core reads later.
fn keep(kind: ExtensionKind) -> bool {
    matches!(
        kind,
        ExtensionKind::AudioLevel
            | ExtensionKind::VideoOrientation
            | ExtensionKind::PlayoutDelay
            | ExtensionKind::DependencyDescriptor
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyframe_requests_are_merged_and_retried() {
        let mut requests = KeyframeRequests::default();
        let at = MediaTime::from_millis;
        assert!(!requests.take(at(0)), "nobody asked");
        requests.want();
        requests.want();
        assert!(requests.take(at(0)));
        assert!(!requests.take(at(100)), "within the window");
        assert!(requests.take(at(500)), "none came: again");
        requests.answered();
        assert!(!requests.take(at(1000)));
        for n in 2..10 {
            requests.want();
            assert_eq!(requests.is_deaf(), n >= 5);
            assert!(requests.take(at(n * 1000)));
        }
    }
}
