//! H.265 payloads (RFC 7798 §4.4): single NAL units, aggregation packets, fragmentation units. Looked at only.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::FrameFacts;

const AGGREGATION: u8 = 48;
const FRAGMENTATION: u8 = 49;

/// What a payload tells about its frame.
pub fn inspect(payload: &[u8], marker: bool) -> FrameFacts {
    let (start, keyframe) = read(payload).unwrap_or((false, false));
    FrameFacts { start, end: marker, keyframe, discardable: false }
}

fn read(payload: &[u8]) -> Option<(bool, bool)> {
    let (header, rest) = payload.split_first_chunk::<2>()?;
    match kind(header.first().copied()?) {
        AGGREGATION => read_aggregation(rest),
        FRAGMENTATION => {
            let (&fu, rest) = rest.split_first()?;
            let (start, keyframe) = nal(fu & 0x3f, rest.first().copied().unwrap_or(0));
            Some((start && fu & 0x80 != 0, keyframe))
        }
        kind => Some(nal(kind, rest.first().copied().unwrap_or(0))),
    }
}

fn kind(first: u8) -> u8 {
    first.wrapping_shr(1) & 0x3f
}

/// Start and keyframe, by the type and the first byte behind the two of the header, whose top bit is
/// `first_slice_segment_in_pic_flag` in a slice.
fn nal(kind: u8, third: u8) -> (bool, bool) {
    match kind {
        16..=23 => (third & 0x80 != 0, true),
        0..=31 => (third & 0x80 != 0, false),
        32..=34 => (true, true),
        35 | 39 => (true, false),
        _ => (false, false),
    }
}

fn read_aggregation(mut rest: &[u8]) -> Option<(bool, bool)> {
    let mut facts: Option<(bool, bool)> = None;
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let (unit, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let (start, keyframe) = nal(kind(unit.first().copied()?), unit.get(2).copied().unwrap_or(0));
        facts = Some(facts.map_or((start, keyframe), |(first, any)| (first, any || keyframe)));
        rest = tail;
    }
    facts
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    #[test]
    fn parameter_sets_and_fragments() {
        assert!(inspect(&[0x60, 0x01, 0x00, 0x02, 0x40, 0x01], false).keyframe);
        let piece = inspect(&[0x62, 0x01, 0x93, 0x80], false);
        assert_eq!(piece, FrameFacts { start: true, end: false, keyframe: true, discardable: false });
        let later = inspect(&[0x62, 0x01, 0x53, 0x80], true);
        assert_eq!(later, FrameFacts { start: false, end: true, keyframe: true, discardable: false });
        assert_eq!(inspect(&[0x02, 0x01], false), FrameFacts::default());
    }
}
