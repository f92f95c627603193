//! Reading compound packets.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::feedback::{FullIntraRequest, Nack, Remb};
use super::transport_cc::TransportFeedback;
use super::{ReportBlock, RtcpError, SenderInfo, kind};

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
    rest: &'a [u8],
}

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (block, rest) = self.rest.split_first_chunk::<24>()?;
        self.rest = rest;
        let mut block = Reader(block);
        let ssrc = block.u32()?;
        let [fraction_lost, l0, l1, l2] = block.u32()?.to_be_bytes();
        // The sign of the 24-bit number is spread over the upper byte.
        let lost = i32::from_be_bytes([l0, l1, l2, 0]) >> 8;
        Some(ReportBlock {
            ssrc,
            fraction_lost,
            lost,
            highest: block.u32()?,
            jitter: block.u32()?,
            last_sr: block.u32()?,
            delay_since_last_sr: block.u32()?,
        })
    }
}

/// SDES.
#[derive(Clone, Copy, Debug)]
pub struct SourceDescription<'a> {
    chunks: &'a [u8],
}

impl<'a> SourceDescription<'a> {
    /// The canonical names as (SSRC, bytes).
    pub fn cnames(&self) -> impl Iterator<Item = (u32, &'a [u8])> + use<'a> {
        let mut rest = self.chunks;
        std::iter::from_fn(move || {
            loop {
                let mut chunk = Reader(rest);
                let ssrc = chunk.u32()?;
                let mut cname = None;
                loop {
                    let item = chunk.u8()?;
                    if item == 0 {
                        break;
                    }
                    let len = usize::from(chunk.u8()?);
                    let value = chunk.bytes(len)?;
                    if item == 1 && cname.is_none() {
                        cname = Some(value);
                    }
                }
                // A chunk is padded with zeros to a multiple of four bytes.
                let used = rest.len().checked_sub(chunk.0.len())?;
                rest = rest.get(used.checked_next_multiple_of(4)?..).unwrap_or(&[]);
                if let Some(cname) = cname {
                    return Some((ssrc, cname));
                }
            }
        })
    }
}

/// BYE.
#[derive(Clone, Copy, Debug)]
pub struct Goodbye<'a> {
    ssrcs: &'a [u8],
}

impl<'a> Goodbye<'a> {
    /// Who leaves.
    pub fn ssrcs(&self) -> impl Iterator<Item = u32> + use<'a> {
        words(self.ssrcs)
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

    fn step(&mut self) -> Result<Packet<'a>, RtcpError> {
        let rest = std::mem::take(&mut self.rest);
        let [first, packet_type, l0, l1] = *rest.first_chunk::<4>().ok_or(RtcpError::Short)?;
        if first >> 6 != 2 {
            return Err(RtcpError::Version);
        }
        let len = usize::from(u16::from_be_bytes([l0, l1])).saturating_add(1).saturating_mul(4);
        let (packet, rest) = rest.split_at_checked(len).ok_or(RtcpError::Short)?;
        let mut body = packet.get(4..).ok_or(RtcpError::Short)?;
        if first & 0x20 != 0 {
            let padding = usize::from(*body.last().ok_or(RtcpError::Padding)?);
            let end = body.len().checked_sub(padding).ok_or(RtcpError::Padding)?;
            body = body.get(..end).filter(|_| padding > 0).ok_or(RtcpError::Padding)?;
        }
        self.rest = rest;
        packet_of(packet_type, first & 0x1f, body).ok_or(RtcpError::Malformed(packet_type))
    }
}

impl<'a> Iterator for Compound<'a> {
    type Item = Result<Packet<'a>, RtcpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let packet = self.step();
        if packet.is_err() {
            self.rest = &[];
        }
        Some(packet)
    }
}

/// Reads one packet's body; `None` when it is malformed.
fn packet_of(packet_type: u8, format: u8, body: &[u8]) -> Option<Packet<'_>> {
    let mut reader = Reader(body);
    Some(match (packet_type, format) {
        (kind::SENDER_REPORT, _) => {
            let ssrc = reader.u32()?;
            let ntp = (u64::from(reader.u32()?) << 32) | u64::from(reader.u32()?);
            let info = SenderInfo { ntp, rtp: reader.u32()?, packets: reader.u32()?, octets: reader.u32()? };
            Packet::SenderReport(SenderReport { ssrc, info, reports: report_blocks(reader, format)? })
        }
        (kind::RECEIVER_REPORT, _) => {
            let ssrc = reader.u32()?;
            Packet::ReceiverReport(ReceiverReport { ssrc, reports: report_blocks(reader, format)? })
        }
        (kind::SOURCE_DESCRIPTION, _) => Packet::SourceDescription(SourceDescription { chunks: body }),
        (kind::GOODBYE, _) => {
            let ssrcs = reader.bytes(usize::from(format).saturating_mul(4))?;
            Packet::Goodbye(Goodbye { ssrcs })
        }
        (kind::TRANSPORT_FEEDBACK, 1) => {
            let (sender, media) = (reader.u32()?, reader.u32()?);
            Packet::Nack(Nack { sender, media, entries: reader.0 })
        }
        (kind::TRANSPORT_FEEDBACK, 15) => Packet::TransportFeedback(TransportFeedback::read(reader)?),
        (kind::PAYLOAD_FEEDBACK, 1) => Packet::PictureLoss { sender: reader.u32()?, media: reader.u32()? },
        (kind::PAYLOAD_FEEDBACK, 4) => {
            let sender = reader.u32()?;
            reader.u32()?;
            Packet::FullIntraRequest(FullIntraRequest { sender, entries: reader.0 })
        }
        (kind::PAYLOAD_FEEDBACK, 15) if body.get(8..12) == Some(b"REMB") => Packet::Remb(Remb::read(reader)?),
        _ => Packet::Other { packet_type, format },
    })
}

fn report_blocks<'a>(mut reader: Reader<'a>, count: u8) -> Option<ReportBlocks<'a>> {
    Some(ReportBlocks { rest: reader.bytes(usize::from(count).saturating_mul(24))? })
}

/// Whole big-endian words of `bytes`.
pub(super) fn words(bytes: &[u8]) -> impl Iterator<Item = u32> + use<'_> {
    bytes.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word))
}

/// Reads from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*bytes))
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*bytes))
    }
}
