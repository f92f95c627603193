//! One stream of a producer: what it sent lately, when its source is asked for a keyframe and, where it comes as
//! RTP, its reception. A track has one, or one for each layer of a simulcast.

use crate::core::capabilities::{Encoding, RtpCodec};
use crate::core::payload::{self, Codec, FrameFacts};
use crate::core::producer::KeyframeRequests;
use crate::core::producer::ladder::{Flow, PERFECT};
use crate::core::producer::meter::Meter;
use crate::core::rtp::clock::{PublisherClock, StreamClock};
use crate::core::rtp::dependency::DependencyReader;
use crate::core::rtp::extension::ExtensionKind;
use crate::core::rtp::header::RtpView;
use crate::core::rtp::layers::LayerFacts;
use crate::core::rtp::receive::{DuplicateGuard, NackGenerator, NackLimits, ReceiveStats, Score};
use crate::core::rtp::rtcp::{ReportBlock, SenderInfo};
use crate::core::rtp::sequence::SequenceUnwrapper;
use crate::core::rtp::store::{FRAME_START, KEYFRAME, PacketMeta, PacketStore, StoreLimits};
use crate::core::time::MediaTime;

/// See the module.
pub struct Stream {
    /// What it sent lately.
    pub store: PacketStore,
    /// Whether and when its source is asked for a keyframe.
    pub keyframes: KeyframeRequests,
    /// How it is received, where it comes as RTP.
    pub reception: Option<Box<Reception>>,
    /// Width and height of its picture, where a keyframe told them.
    pub dimensions: Option<(u16, u16)>,
    pub(super) flow: Flow,
    pub(super) meter: Meter,
    pub(super) layered: bool,
    /// The score that was told.
    pub(super) told: u8,
    /// Its dependency descriptors, where its packets have them.
    dependency: DependencyReader,
}

/// Reception of one RTP stream.
pub struct Reception {
    /// Its synchronisation source, once known.
    pub ssrc: Option<u32>,
    /// Its retransmission stream's.
    pub rtx_ssrc: Option<u32>,
    /// Statistics and report blocks.
    pub receive: ReceiveStats,
    /// Loss repair, where negotiated.
    pub nack: Option<NackGenerator>,
    /// How well it gets through to us.
    pub score: Score,
    /// Packets that came as retransmissions: in all, and before the newest report.
    repaired: (u64, u64),
    /// Keyframes asked for.
    pub picture_losses: u64,
    /// Requests for packets made.
    pub nacks: u64,
    duplicates: DuplicateGuard,
    clock: StreamClock,
    sequence: SequenceUnwrapper,
}

/// Where a packet stands in its stream.
pub(super) struct Placed<'a> {
    pub sequence: u64,
    pub timestamp: u64,
    pub time: MediaTime,
    pub payload: &'a [u8],
}

impl Stream {
    /// One that has sent nothing.
    pub(super) fn new(limits: StoreLimits, reception: Option<Box<Reception>>) -> Self {
        Stream {
            store: PacketStore::new(limits),
            keyframes: KeyframeRequests::default(),
            reception,
            dimensions: None,
            flow: Flow::new(),
            meter: Meter::default(),
            layered: false,
            told: PERFECT,
            dependency: DependencyReader::default(),
        }
    }

    /// What a packet of a video `codec` means to receivers of each layer: by its dependency descriptor, else by
    /// its payload.
    pub(super) fn layers(
        &mut self,
        codec: Codec,
        payload: &[u8],
        facts: &FrameFacts,
        descriptor: Option<&[u8]>,
    ) -> LayerFacts {
        let described = descriptor.and_then(|element| {
            let layers = self.dependency.read(element)?;
            self.dimensions = self.dependency.dimensions().or(self.dimensions);
            Some(layers)
        });
        described.unwrap_or_else(|| payload::layers(codec, payload, facts))
    }

    /// Takes a packet in. Answers whether receivers may have to be put on another layer for it: the stream is
    /// back, or turns out to have layers.
    pub(super) fn push<'e>(
        &mut self,
        meta: PacketMeta,
        extensions: impl IntoIterator<Item = (ExtensionKind, &'e [u8]), IntoIter: Clone>,
        payload: &[u8],
    ) -> bool {
        if meta.has(KEYFRAME) {
            self.keyframes.answered(meta.arrival);
        }
        let mut news = self.flow.note(meta.timestamp, meta.arrival);
        if news {
            self.meter = Meter::default();
        }
        self.meter.add(payload.len(), meta.has(FRAME_START), &meta.layers);
        if !self.layered && meta.layers.is_layered() {
            (self.layered, news) = (true, true);
        }
        self.store.push(meta, extensions, payload);
        news
    }
}

impl Reception {
    /// For the stream described by `encoding`; `codec` is its media codec.
    pub(super) fn new(encoding: &Encoding, codec: &RtpCodec) -> Self {
        let nack = codec.has_feedback("nack", "").then(|| NackGenerator::new(NackLimits::default()));
        Reception {
            ssrc: encoding.ssrc,
            rtx_ssrc: encoding.rtx.as_ref().map(|rtx| rtx.ssrc),
            receive: ReceiveStats::new(codec.clock_rate),
            nack,
            score: Score::new(),
            repaired: (0, 0),
            picture_losses: 0,
            nacks: 0,
            duplicates: DuplicateGuard::default(),
            clock: StreamClock::new(codec.clock_rate),
            sequence: SequenceUnwrapper::new(),
        }
    }

    /// Takes note of a packet; `None` when it came before. In a packet of the retransmission stream the first
    /// two bytes are the number it had (RFC 4588 §4).
    pub(super) fn take<'a>(&mut self, view: &RtpView<'a>, rtx: bool, now: MediaTime) -> Option<Placed<'a>> {
        let (sequence, payload) = match rtx {
            true => {
                let (original, rest) = view.payload.split_first_chunk::<2>()?;
                (self.sequence.peek(u16::from_be_bytes(*original)), rest)
            }
            false => (self.sequence.unwrap(view.sequence), view.payload),
        };
        if !self.duplicates.accept(sequence) {
            return None;
        }
        if let Some(nack) = &mut self.nack {
            nack.received(now, sequence);
        }
        match rtx {
            true => self.repaired.0 += 1,
            false => self.receive.packet(now, sequence, view.timestamp, payload.len()),
        }
        let (timestamp, time) = self.clock.map(now, view.timestamp);
        Some(Placed { sequence, timestamp, time, payload })
    }

    /// The report block about it, where anything came.
    pub fn report(&mut self, now: MediaTime) -> Option<ReportBlock> {
        let ssrc = self.ssrc.filter(|_| self.receive.packets() > 0)?;
        let block = self.receive.report(now, ssrc);
        let (expected, lost) = self.receive.interval();
        self.score.add(expected, lost, self.repaired.0 - self.repaired.1);
        self.repaired.1 = self.repaired.0;
        Some(block)
    }

    /// Packets that were lost and came as retransmissions.
    pub fn repaired(&self) -> u64 {
        self.repaired.0
    }

    /// A sender report of the stream: ties its clock to the publisher's.
    pub(super) fn sender_report(
        &mut self,
        publisher: &mut PublisherClock,
        now: MediaTime,
        info: &SenderInfo,
    ) {
        self.receive.sender_report(now, info);
        self.clock.sender_report(publisher, now, info);
    }

    /// The party sends from another source now, beginning with `sequence`; nothing of the old one's clock holds.
    pub(super) fn restart(&mut self, ssrc: u32, sequence: u16, clock_rate: u32) {
        self.ssrc = Some(ssrc);
        self.receive = ReceiveStats::new(clock_rate);
        self.nack = self.nack.take().map(|_| NackGenerator::new(NackLimits::default()));
        self.duplicates = DuplicateGuard::default();
        self.clock = StreamClock::new(clock_rate);
        self.sequence.restart(sequence);
    }
}
