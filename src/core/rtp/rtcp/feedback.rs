//! Feedback messages with lists: NACK, FIR, REMB.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::read::{Reader, words};

/// Generic NACK (RFC 4585 §6.2.1).
#[derive(Clone, Copy, Debug)]
pub struct Nack<'a> {
    /// Who asks.
    pub sender: u32,
    /// Whose packets.
    pub media: u32,
    pub(super) entries: &'a [u8],
}

impl<'a> Nack<'a> {
    /// The sequence numbers asked for.
    pub fn lost(&self) -> impl Iterator<Item = u16> + use<'a> {
        words(self.entries).flat_map(|entry| {
            let (first, mask) = ((entry >> 16) as u16, entry & 0xffff);
            let others =
                (1u16..=16).filter(move |bit| mask.wrapping_shl(1).wrapping_shr(u32::from(*bit)) & 1 == 1);
            std::iter::once(first).chain(others.map(move |bit| first.wrapping_add(bit)))
        })
    }
}

/// FIR (RFC 5104 §4.3.1).
#[derive(Clone, Copy, Debug)]
pub struct FullIntraRequest<'a> {
    /// Who asks.
    pub sender: u32,
    pub(super) entries: &'a [u8],
}

/// One request of a FIR.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FirEntry {
    /// Whose keyframe is wanted.
    pub ssrc: u32,
    /// Command number: a repeated one is a repeated request.
    pub number: u8,
}

impl<'a> FullIntraRequest<'a> {
    /// The requests.
    pub fn entries(&self) -> impl Iterator<Item = FirEntry> + use<'a> {
        self.entries.as_chunks::<8>().0.iter().map(|[a, b, c, d, number, ..]| FirEntry {
            ssrc: u32::from_be_bytes([*a, *b, *c, *d]),
            number: *number,
        })
    }
}

/// REMB (draft-alvestrand-rmcat-remb-03).
#[derive(Clone, Copy, Debug)]
pub struct Remb<'a> {
    /// Who estimates.
    pub sender: u32,
    /// Bits per second.
    pub bitrate: u64,
    ssrcs: &'a [u8],
}

impl<'a> Remb<'a> {
    /// Reads from the sender's SSRC on.
    pub(super) fn read(mut reader: Reader<'a>) -> Option<Self> {
        let sender = reader.u32()?;
        reader.bytes(8)?; // no media source, "REMB"
        let word = reader.u32()?;
        let [count, ..] = word.to_be_bytes();
        let (exponent, mantissa) = ((word >> 18) & 0x3f, u64::from(word & 0x3_ffff));
        let bitrate =
            if exponent > mantissa.leading_zeros() { u64::MAX } else { mantissa.wrapping_shl(exponent) };
        Some(Remb { sender, bitrate, ssrcs: reader.bytes(usize::from(count).saturating_mul(4))? })
    }

    /// The streams it is about.
    pub fn ssrcs(&self) -> impl Iterator<Item = u32> + use<'a> {
        words(self.ssrcs)
    }
}
