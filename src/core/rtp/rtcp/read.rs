//! Reading compound packets.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::feedback::{FullIntraRequest, Nack, Remb};
use super::transport_cc::TransportFeedback;
use super::{ReportBlock, RtcpError, SenderInfo};

/// One packet of a compound.
#[derive(Clone, Copy, Debug)]
pub enum Packet<'a> {
    /// SR.
    SenderReport(SenderReport<'a>),
    /// RR.
    ReceiverReport(ReceiverReport<'a>),
    /// SDES.
    SourceDescription(SourceDescription<'a>),
    /// BYE.
    Goodbye(Goodbye<'a>),
    /// Generic NACK.
    Nack(Nack<'a>),
    /// PLI: the decoder of `media` lost its picture.
    PictureLoss {
        /// Who asks.
        sender: u32,
        /// Whose keyframe is wanted.
        media: u32,
    },
    /// FIR.
    FullIntraRequest(FullIntraRequest<'a>),
    /// Receiver estimated maximum bitrate.
    Remb(Remb<'a>),
    /// Transport-wide congestion control feedback.
    TransportFeedback(TransportFeedback<'a>),
    /// Well-formed, and not for us (XR, APP, other feedback).
    Other {
        /// Packet type.
        packet_type: u8,
        /// The count or format field.
        format: u8,
    },
}

/// SR: what was sent, and what was received.
#[derive(Clone, Copy, Debug)]
pub struct SenderReport<'a> {
    /// The sender.
    pub ssrc: u32,
    /// Its stream.
    pub info: SenderInfo,
    /// What it receives.
    pub reports: ReportBlocks<'a>,
}

/// RR.
#[derive(Clone, Copy, Debug)]
pub struct ReceiverReport<'a> {
    /// The reporter.
    pub ssrc: u32,
    /// What it receives.
    pub reports: ReportBlocks<'a>,
}

/// Iterator over report blocks.
#[derive(Clone, Copy, Debug)]
pub struct ReportBlocks<'a> {
    pub(super) rest: &'a [u8],
}

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;
    fn next(&mut self) -> Option<ReportBlock> {
        todo!()
    }
}

/// SDES.
#[derive(Clone, Copy, Debug)]
pub struct SourceDescription<'a> {
    pub(super) chunks: &'a [u8],
}

impl<'a> SourceDescription<'a> {
    /// The canonical names as (SSRC, bytes).
    pub fn cnames(&self) -> impl Iterator<Item = (u32, &'a [u8])> {
        let _ = self.chunks;
        std::iter::empty()
    }
}

/// BYE.
#[derive(Clone, Copy, Debug)]
pub struct Goodbye<'a> {
    pub(super) ssrcs: &'a [u8],
}

impl<'a> Goodbye<'a> {
    /// Who leaves.
    pub fn ssrcs(&self) -> impl Iterator<Item = u32> + 'a {
        let _ = self.ssrcs;
        std::iter::empty()
    }
}

/// Iterator over the packets of a compound. An error ends it; what came before was good.
#[derive(Clone, Copy, Debug)]
pub struct Compound<'a> {
    rest: &'a [u8],
}

impl<'a> Compound<'a> {
    /// Reads `datagram`. Reduced-size RTCP (RFC 5506) is accepted.
    pub fn new(datagram: &'a [u8]) -> Self {
        Compound { rest: datagram }
    }
}

impl<'a> Iterator for Compound<'a> {
    type Item = Result<Packet<'a>, RtcpError>;
    fn next(&mut self) -> Option<Self::Item> {
        let _ = self.rest;
        todo!()
    }
}
