//! A producer: one track into a router, of one stream or of several layers. Whatever it comes as, SRTP packets,
//! frames of a stream session, frames of a bridge job or packets of a pipe, each of its streams ends in a
//! [`PacketStore`](crate::core::rtp::store::PacketStore) that the consumers read.

mod frames;
mod keyframes;
mod ladder;
mod meter;
mod report;
mod stream;

use crate::core::capabilities::{Encoding, Kind, RtpCodec, RtpMapping, RtpParameters, select};
use crate::core::id::{ConnId, ProducerId};
use crate::core::payload::{Codec, FrameFacts, dimensions, inspect};
use crate::core::profile::Profile;
use crate::core::rtp::clock::PublisherClock;
use crate::core::rtp::extension::{ExtensionKind, ExtensionMap};
use crate::core::rtp::header::RtpView;
use crate::core::rtp::layers::LayerFacts;
use crate::core::rtp::rtcp::SenderInfo;
use crate::core::rtp::store::{DISCARDABLE, FRAME_END, FRAME_START, KEYFRAME, PacketMeta, StoreLimits};
use crate::core::rtp::tone::{Tone, ToneReceiver};
use crate::core::session::Frame;
use crate::core::time::MediaTime;

pub use frames::FrameInput;
pub use keyframes::KeyframeRequests;
pub use ladder::{FlowLimits, Rung};
pub use stream::{Reception, Stream};

/// Largest payload our own packetizers make: with header, extensions and tag it stays below a datagram.
pub const MAX_PAYLOAD: usize = 1180;
/// Streams of one track at most; browsers send three.
pub const MAX_STREAMS: usize = 8;

/// A media codec of a producer.
#[derive(Clone, Debug)]
pub struct Format {
    /// Its parameters.
    pub codec: RtpCodec,
    /// Which it is.
    pub kind: Codec,
    /// Payload type of its retransmissions.
    pub rtx_payload_type: Option<u8>,
    /// Its payload type in the router, where that was said.
    pub mapped: Option<u8>,
}

impl Format {
    /// The entry of `accepted` that takes it untouched: the one that has its number in the router, else the best.
    pub fn accepted_by<'a>(&self, accepted: &'a [RtpCodec]) -> Option<&'a RtpCodec> {
        let named =
            |codec: &&RtpCodec| Some(codec.payload_type) == self.mapped && codec.is(&self.codec.mime_type);
        accepted.iter().find(named).or_else(|| select(accepted, &self.codec))
    }
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

/// What all RTP streams of a track have in common.
pub struct RtpInput {
    /// Keys of a telephone in it.
    pub tones: ToneReceiver,
}

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
    /// Its streams, as its parameters list them: at least one.
    pub streams: Vec<Stream>,
    /// How it comes.
    pub input: Input,
    /// Keys of its consumers within the router.
    pub consumers: Vec<usize>,
    /// Paused: what comes is not forwarded.
    pub paused: bool,
    /// The highest profile for consumers that prefer none.
    pub preferred: Profile,
    /// Packets came since the last flush.
    pub changed: bool,
    extensions: ExtensionMap,
    /// Keys of its streams, the smallest picture first.
    order: Vec<usize>,
    rungs: Vec<Rung>,
    /// A stream came, or came back.
    news: bool,
    mapping: RtpMapping,
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
        let rtp = matches!(input, Input::Rtp(_));
        let streams = streams(&parameters.encodings, &formats, limits, rtp)?;
        let order = (0..streams.len()).collect();
        Ok(Producer {
            id,
            conn,
            kind,
            transport,
            formats,
            streams,
            input,
            consumers: Vec::new(),
            paused: false,
            preferred: Profile::Default,
            changed: false,
            extensions,
            order,
            rungs: Vec::new(),
            news: false,
            mapping: RtpMapping::default(),
            parameters,
        })
    }

    /// What its router calls the numbers of its party.
    pub fn set_mapping(&mut self, mapping: RtpMapping) {
        for format in &mut self.formats {
            format.mapped = mapping.payload_type(format.codec.payload_type);
        }
        self.mapping = mapping;
    }

    /// The format a stored packet's codec tag stands for.
    pub fn format(&self, tag: u8) -> Option<&Format> {
        self.formats.get(usize::from(tag))
    }

    /// Takes a decrypted RTP packet of the stream `at`; `rtx` when it came as a retransmission of it. Answers
    /// whether it is new.
    pub fn receive(&mut self, at: usize, view: &RtpView<'_>, rtx: bool, now: MediaTime) -> bool {
        let by = |format: &&Format| match rtx {
            true => format.rtx_payload_type == Some(view.payload_type),
            false => format.codec.payload_type == view.payload_type,
        };
        let Some(tag) = self.formats.iter().position(|format| by(&format)) else { return false };
        let Some(stream) = self.streams.get_mut(at) else { return false };
        let Some(reception) = &mut stream.reception else { return false };
        let Some(placed) = reception.take(view, rtx, now) else { return false };
        let kind = self.formats[tag].kind;
        let facts = inspect(kind, placed.payload, view.marker);
        let map = self.extensions;
        let layers = match kind.is_video() {
            true => {
                let id = map.id(ExtensionKind::DependencyDescriptor);
                let found = id.and_then(|id| view.extensions().find(|(found, _)| *found == id));
                stream.layers(kind, placed.payload, &facts, found.map(|(_, element)| element))
            }
            false => LayerFacts::plain(true),
        };
        let meta = PacketMeta {
            sequence: placed.sequence,
            timestamp: placed.timestamp,
            time: placed.time,
            arrival: now,
            marker: view.marker,
            flags: flags(&facts),
            payload_type: view.payload_type,
            codec: tag as u8,
            layers,
        };
        let elements = view.extensions().filter_map(|(id, data)| Some((map.kind(id)?, data)));
        let kept = elements.filter(|(kind, _)| keep(*kind));
        if facts.keyframe {
            stream.dimensions = dimensions(kind, placed.payload).or(stream.dimensions);
        }
        self.news |= stream.push(meta, kept, placed.payload);
        true
    }

    /// Takes a decrypted packet of the stream that [`Producer::receive`] did not want: keys of a telephone are
    /// read out of it. It stays a place without content in the stream, so that nobody misses it there.
    pub fn receive_other(&mut self, at: usize, view: &RtpView<'_>, now: MediaTime, tones: &mut Vec<Tone>) {
        let Input::Rtp(input) = &mut self.input else { return };
        let Some(stream) = self.streams.get_mut(at) else { return };
        let Some(reception) = &mut stream.reception else { return };
        let Some(placed) = reception.take(view, false, now) else { return };
        input.tones.receive(now, view.payload_type, view.timestamp, view.payload, tones);
        let store = &mut stream.store;
        let codec =
            store.head().checked_sub(1).and_then(|last| store.meta(last)).map_or(0, |last| last.codec);
        let meta = PacketMeta {
            sequence: placed.sequence,
            timestamp: placed.timestamp,
            time: placed.time,
            arrival: now,
            payload_type: view.payload_type,
            codec,
            ..Default::default()
        };
        store.push(meta, [], &[]);
    }

    /// The party sends its stream `at` from another source now, beginning with `sequence`: what comes is newer
    /// than all that came before. Consumers must begin anew.
    pub fn change_source(&mut self, at: usize, ssrc: u32, sequence: u16) {
        let clock_rate = self.formats.first().map_or(90_000, |format| format.codec.clock_rate);
        let Some(stream) = self.streams.get_mut(at) else { return };
        if let Some(reception) = &mut stream.reception {
            reception.restart(ssrc, sequence, clock_rate);
            stream.store.break_group();
        }
    }

    /// Takes a frame of a stream session or a bridge job, captured at a time that may be another than its own.
    pub fn receive_frame(&mut self, frame: &Frame, captured: MediaTime, now: MediaTime) {
        let Input::Frames(input) = &mut self.input else { return };
        let (Some(format), Some(stream)) = (self.formats.first(), self.streams.first_mut()) else { return };
        let first = *input.first.get_or_insert(frame.pts);
        let rate = format.codec.clock_rate;
        // One second up, so that a frame presented before the first one has a place.
        let micros = i128::from(frame.pts.micros_since(first)) + 1_000_000;
        let timestamp = (micros * i128::from(rate) / 1_000_000).max(0) as u64;
        let mut meta = PacketMeta {
            sequence: 0,
            timestamp,
            time: captured,
            arrival: now,
            marker: true,
            flags: 0,
            payload_type: format.codec.payload_type,
            codec: 0,
            layers: LayerFacts::default(),
        };
        let sequence = &mut input.sequence;
        let mut push = |payload: &[u8], marker: bool, facts: FrameFacts| {
            (meta.sequence, meta.marker, meta.flags) = (*sequence, marker, flags(&facts));
            *sequence += 1;
            stream.push(meta, [], payload);
        };
        match &mut input.packetizer {
            Some(packetizer) => packetizer.packetize(&frame.data, MAX_PAYLOAD, &mut push),
            None => {
                let (keyframe, discardable) = (frame.keyframe, frame.discardable);
                push(&frame.data, true, FrameFacts { start: true, end: true, keyframe, discardable });
            }
        }
        if frame.keyframe {
            stream.keyframes.answered(now);
        }
    }

    /// Takes a packet of another router's store, of the stream `at`.
    pub fn receive_piped<'e>(
        &mut self,
        at: usize,
        meta: PacketMeta,
        extensions: impl Iterator<Item = (ExtensionKind, &'e [u8])> + Clone,
        payload: &[u8],
    ) {
        let Some(stream) = self.streams.get_mut(at) else { return };
        if meta.has(KEYFRAME)
            && let Some(format) = self.formats.get(usize::from(meta.codec))
        {
            stream.dimensions = dimensions(format.kind, payload).or(stream.dimensions);
        }
        self.news |= stream.push(meta, extensions, payload);
    }

    /// A sender report of the stream `at`.
    pub fn sender_report(
        &mut self,
        at: usize,
        publisher: &mut PublisherClock,
        now: MediaTime,
        info: &SenderInfo,
    ) {
        if let Some(reception) = self.streams.get_mut(at).and_then(|stream| stream.reception.as_mut()) {
            reception.sender_report(publisher, now, info);
        }
    }

    /// Its streams that come as RTP.
    pub fn receptions(&self) -> impl Iterator<Item = &Reception> {
        self.streams.iter().filter_map(|stream| stream.reception.as_deref())
    }

    /// When a request for a keyframe of any of its streams may go out next; not of one that nobody can name yet.
    pub fn keyframes_due(&self) -> Option<MediaTime> {
        let named = |stream: &&Stream| stream.reception.as_ref().is_none_or(|it| it.ssrc.is_some());
        self.streams.iter().filter(named).filter_map(|stream| stream.keyframes.due()).min()
    }
}

impl RtpInput {
    /// For a track of `parameters`.
    pub fn new(parameters: &RtpParameters) -> Self {
        RtpInput { tones: ToneReceiver::new(tone_types(&parameters.codecs)) }
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
            mapped: None,
            codec: codec.clone(),
        })
        .collect()
}

/// A stream for each encoding. They share the bytes that one track may take.
fn streams(
    encodings: &[Encoding],
    formats: &[Format],
    limits: StoreLimits,
    rtp: bool,
) -> Result<Vec<Stream>, String> {
    let one = [Encoding::default()];
    let encodings = if encodings.is_empty() { &one } else { encodings };
    if encodings.len() > MAX_STREAMS {
        return Err(format!("rtpParameters.encodings holds more than {MAX_STREAMS} streams"));
    }
    let limits = StoreLimits { max_bytes: limits.max_bytes / encodings.len(), ..limits };
    let stream = |encoding: &Encoding| {
        let named = encoding.codec_payload_type;
        let codec =
            formats.iter().find(|format| named.is_none_or(|named| named == format.codec.payload_type));
        let codec = &codec.ok_or("an encoding's codecPayloadType is that of no media codec")?.codec;
        let reception = rtp.then(|| Box::new(Reception::new(encoding, codec)));
        Ok(Stream::new(limits, reception))
    };
    encodings.iter().map(stream).collect()
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
