//! H.264 over RTP (RFC 6184, packetization-mode 1) and as much of the bitstream (ITU-T H.264 §7.3) as forwarding
//! needs: NAL unit types, parameter sets, slice types. Access units inside the program are NAL units, each
//! behind its length in four bytes (ISO/IEC 14496-15 §5.3.2 with `lengthSizeMinusOne` 3).
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod config;
mod depacketize;
mod packetize;
mod sps;

pub use config::DecoderConfig;
pub use depacketize::Depacketizer;
pub use packetize::Packetizer;
pub use sps::{Colour, Sps};

use super::FrameFacts;
use super::bits::BitReader;

/// Coded slice of a picture that is not IDR.
pub const NAL_SLICE: u8 = 1;
/// Coded slice of an IDR picture.
pub const NAL_IDR: u8 = 5;
/// Supplemental enhancement information.
pub const NAL_SEI: u8 = 6;
/// Sequence parameter set.
pub const NAL_SPS: u8 = 7;
/// Picture parameter set.
pub const NAL_PPS: u8 = 8;
/// Access unit delimiter.
pub const NAL_AUD: u8 = 9;
/// Filler data.
pub const NAL_FILLER: u8 = 12;
/// RFC 6184 §5.7.1: several NAL units of one time in a payload.
pub const STAP_A: u8 = 24;
/// RFC 6184 §5.8: a piece of a NAL unit.
pub const FU_A: u8 = 28;

/// The type of a NAL unit or RTP payload: the low five bits of its first byte; 0 when it is empty.
pub fn nal_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |first| first & 0x1f)
}

/// The NAL units of an access unit in its length-prefixed form. Stops at the first length that does not fit.
pub fn nals(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        loop {
            let (length, tail) = rest.split_first_chunk::<4>()?;
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            let (nal, tail) = tail.split_at_checked(length)?;
            rest = tail;
            if !nal.is_empty() {
                return Some(nal);
            }
        }
    })
}

/// Whether the length-prefixed form of `data` is sound from the first byte to the last.
pub fn is_well_formed(data: &[u8]) -> bool {
    let mut rest = data;
    while !rest.is_empty() {
        let Some((length, tail)) = rest.split_first_chunk::<4>() else { return false };
        let Ok(length) = usize::try_from(u32::from_be_bytes(*length)) else { return false };
        let Some((_, tail)) = tail.split_at_checked(length) else { return false };
        rest = tail;
    }
    !data.is_empty()
}

/// Adds `nal` to `unit` behind its length.
pub fn push_nal(unit: &mut Vec<u8>, nal: &[u8]) {
    let Ok(length) = u32::try_from(nal.len()) else { return };
    unit.extend_from_slice(&length.to_be_bytes());
    unit.extend_from_slice(nal);
}

/// The NAL units of a byte stream with start codes (ITU-T H.264 annex B).
pub fn annex_b_nals(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = find_start_code(stream).map_or(&[][..], |(_, after)| after);
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (nal, after) = find_start_code(rest).unwrap_or((rest, &[]));
            rest = after;
            let end = nal.iter().rposition(|byte| *byte != 0).and_then(|last| last.checked_add(1));
            if let Some(nal) = end.and_then(|end| nal.get(..end)) {
                return Some(nal);
            }
        }
        None
    })
}

/// What stands before the next `00 00 01` and what after it.
fn find_start_code(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.windows(3).position(|window| window == [0, 0, 1])?;
    Some((bytes.get(..at)?, bytes.get(at.checked_add(3)?..)?))
}

/// An access unit of a byte stream with start codes, added to `unit` in length-prefixed form; delimiters and
/// filler are left out.
pub fn from_annex_b(stream: &[u8], unit: &mut Vec<u8>) {
    annex_b_nals(stream)
        .filter(|nal| !matches!(nal_type(nal), NAL_AUD | NAL_FILLER))
        .for_each(|nal| push_nal(unit, nal));
}

/// A length-prefixed access unit, added to `stream` with start codes.
pub fn to_annex_b(data: &[u8], stream: &mut Vec<u8>) {
    for nal in nals(data) {
        stream.extend_from_slice(&[0, 0, 0, 1]);
        stream.extend_from_slice(nal);
    }
}

/// Whether decoding can start at this access unit: it has an IDR slice, or brings a sequence parameter set, as
/// encoders do at their recovery points too.
pub fn is_keyframe(data: &[u8]) -> bool {
    nals(data).any(|nal| matches!(nal_type(nal), NAL_IDR | NAL_SPS))
}

/// Whether every slice of the access unit has `nal_ref_idc` 0: no other picture refers to it.
pub fn is_discardable(data: &[u8]) -> bool {
    let mut slices = nals(data).filter(|nal| matches!(nal_type(nal), 1..=5)).peekable();
    slices.peek().is_some() && slices.all(|nal| nal.first().is_some_and(|first| first & 0x60 == 0))
}

/// The kinds of slices (ITU-T H.264 table 7-6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SliceType {
    /// Predicted from one picture.
    P,
    /// Predicted from two pictures, one of which may be shown later.
    B,
    /// Not predicted from other pictures.
    I,
    /// Switching P.
    Sp,
    /// Switching I.
    Si,
}

/// The type of the slice that `nal` carries; `None` when it carries none.
pub fn slice_type(nal: &[u8]) -> Option<SliceType> {
    if !matches!(nal_type(nal), NAL_SLICE | 2 | NAL_IDR) {
        return None;
    }
    let mut bits = BitReader::new(nal.get(1..)?);
    let _first_mb = bits.ue()?;
    match bits.ue()?.checked_rem(5)? {
        0 => Some(SliceType::P),
        1 => Some(SliceType::B),
        2 => Some(SliceType::I),
        3 => Some(SliceType::Sp),
        _ => Some(SliceType::Si),
    }
}

/// Whether the access unit has a B slice.
pub fn has_b_slices(data: &[u8]) -> bool {
    nals(data).any(|nal| slice_type(nal) == Some(SliceType::B))
}

/// Width and height of the picture, where a payload carries a sequence parameter set.
pub fn dimensions(payload: &[u8]) -> Option<(u16, u16)> {
    let sps = match nal_type(payload) {
        NAL_SPS => payload,
        STAP_A => {
            let (length, rest) = payload.get(1..)?.split_first_chunk::<2>()?;
            // Encoders put it first.
            rest.get(..usize::from(u16::from_be_bytes(*length))).filter(|nal| nal_type(nal) == NAL_SPS)?
        }
        _ => return None,
    };
    let sps = Sps::parse(sps)?;
    Some((u16::try_from(sps.width).ok()?, u16::try_from(sps.height).ok()?))
}

/// What an RTP payload tells about its frame (RFC 6184 §5.4 to §5.8).
pub fn inspect(payload: &[u8], marker: bool) -> FrameFacts {
    let Some((&first, rest)) = payload.split_first() else { return FrameFacts::default() };
    let unreferenced = first & 0x60 == 0;
    let facts = match first & 0x1f {
        STAP_A => aggregate_facts(rest),
        FU_A => fragment_facts(rest),
        kind => nal_facts(kind, rest.first().copied().unwrap_or(0)),
    };
    let (start, keyframe, slice) = facts;
    FrameFacts { start, end: marker, keyframe, discardable: slice && unreferenced }
}

/// Start, keyframe, slice: of a NAL unit by its type and the first byte behind its header, whose top bit is set
/// when the slice begins at the first macroblock (`first_mb_in_slice` is `ue(v)` 0).
fn nal_facts(kind: u8, second: u8) -> (bool, bool, bool) {
    match kind {
        NAL_SPS => (true, true, false),
        NAL_SEI | NAL_PPS | NAL_AUD => (true, false, false),
        NAL_IDR => (second & 0x80 != 0, true, true),
        NAL_SLICE | 2 => (second & 0x80 != 0, false, true),
        3 | 4 => (false, false, true),
        _ => (false, false, false),
    }
}

fn fragment_facts(rest: &[u8]) -> (bool, bool, bool) {
    let Some((&header, rest)) = rest.split_first() else { return (false, false, false) };
    let begins = header & 0x80 != 0;
    let (start, keyframe, slice) = nal_facts(header & 0x1f, rest.first().copied().unwrap_or(0));
    (start && begins, keyframe, slice)
}

fn aggregate_facts(mut rest: &[u8]) -> (bool, bool, bool) {
    let mut facts = (false, false, false);
    let mut first = true;
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let Some((nal, tail)) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length))) else {
            break;
        };
        let (start, keyframe, slice) = nal_facts(nal_type(nal), nal.get(1).copied().unwrap_or(0));
        facts = (facts.0 || (first && start), facts.1 || keyframe, facts.2 || slice);
        first = false;
        rest = tail;
    }
    facts
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests;
