//! One stream of a producer: what it sent lately, when its source is asked for a keyframe and, where it comes as
//! RTP, its reception. A track has one, or one for each layer of a simulcast.

use crate::core::capabilities::{Encoding, RtpCodec};
use crate::core::producer::KeyframeRequests;
use crate::core::rtp::clock::{PublisherClock, StreamClock};
use crate::core::rtp::header::RtpView;
use crate::core::rtp::receive::{DuplicateGuard, NackGenerator, NackLimits, ReceiveStats};
use crate::core::rtp::rtcp::SenderInfo;
use crate::core::rtp::sequence::SequenceUnwrapper;
use crate::core::rtp::store::{PacketStore, StoreLimits};
use crate::core::time::MediaTime;

/// See the module.
pub struct Stream {
    /// What it sent lately.
    pub store: PacketStore,
    /// Whether and when its source is asked for a keyframe.
    pub keyframes: KeyframeRequests,
    /// How it is received, where it comes as RTP.
    pub reception: Option<Box<Reception>>,
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
        Stream { store: PacketStore::new(limits), keyframes: KeyframeRequests::default(), reception }
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
        if !rtx {
            self.receive.packet(now, sequence, view.timestamp, payload.len());
        }
        let (timestamp, time) = self.clock.map(now, view.timestamp);
        Some(Placed { sequence, timestamp, time, payload })
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
