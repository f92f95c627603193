//! VP8 payload descriptor (RFC 7741 §4.2) and the one bit of the frame header that marks a keyframe (§4.3).
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::FrameFacts;

/// What a payload tells about its frame.
pub fn inspect(payload: &[u8], marker: bool) -> FrameFacts {
    read(payload, marker).unwrap_or(FrameFacts { end: marker, ..FrameFacts::default() })
}

fn read(payload: &[u8], marker: bool) -> Option<FrameFacts> {
    let (&first, mut rest) = payload.split_first()?;
    // X R N S R PID: a frame begins where a partition does (S) and it is partition 0.
    let start = first & 0x10 != 0 && first & 0x07 == 0;
    let discardable = first & 0x20 != 0;
    if first & 0x80 != 0 {
        // I L T K - - - -
        let (&extension, tail) = rest.split_first()?;
        rest = tail;
        if extension & 0x80 != 0 {
            let long = rest.first()? & 0x80 != 0;
            rest = rest.get(if long { 2 } else { 1 }..)?;
        }
        if extension & 0x40 != 0 {
            rest = rest.get(1..)?;
        }
        if extension & 0x30 != 0 {
            rest = rest.get(1..)?;
        }
    }
    // The P bit of the frame header is 0 in a keyframe.
    let keyframe = start && rest.first()? & 0x01 == 0;
    Some(FrameFacts { start, end: marker, keyframe, discardable })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    #[test]
    fn keyframe_with_long_picture_id() {
        let facts = inspect(&[0x90, 0x80, 0x81, 0x02, 0x10, 0x00], false);
        assert_eq!(facts, FrameFacts { start: true, end: false, keyframe: true, discardable: false });
    }

    #[test]
    fn interframe_unreferenced_and_its_second_packet() {
        let first = inspect(&[0x30, 0x01], false);
        assert_eq!(first, FrameFacts { start: true, end: false, keyframe: false, discardable: true });
        let second = inspect(&[0x20, 0x00], true);
        assert_eq!(second, FrameFacts { start: false, end: true, keyframe: false, discardable: true });
    }

    #[test]
    fn every_cut_is_survived() {
        let whole = [0x90, 0xf0, 0x81, 0x02, 0x10, 0x20, 0x00];
        for length in 0..whole.len() {
            assert!(!inspect(&whole[..length], true).keyframe);
        }
        assert!(inspect(&whole, true).keyframe);
    }
}
