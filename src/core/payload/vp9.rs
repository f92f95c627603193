//! VP9 payload descriptor (RFC 9628 §4.2).
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::FrameFacts;

/// What a payload tells about its picture (all spatial layers of one time).
pub fn inspect(payload: &[u8], marker: bool) -> FrameFacts {
    let (begins, predicted, layer) = read(payload).unwrap_or((false, true, 0));
    // Spatial layers above the lowest are predicted from it even where P is 0.
    let start = begins && layer == 0;
    FrameFacts { start, end: marker, keyframe: start && !predicted, discardable: false }
}

/// Whether a layer frame begins, whether it is predicted from earlier pictures, and its spatial layer.
fn read(payload: &[u8]) -> Option<(bool, bool, u8)> {
    // I P L F B E V Z
    let (&first, mut rest) = payload.split_first()?;
    if first & 0x80 != 0 {
        let long = rest.first()? & 0x80 != 0;
        rest = rest.get(if long { 2 } else { 1 }..)?;
    }
    let mut layer = 0;
    if first & 0x20 != 0 {
        // TID(3) U SID(3) D
        layer = rest.first()?.wrapping_shr(1) & 0x07;
    }
    Some((first & 0x08 != 0, first & 0x40 != 0, layer))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    #[test]
    fn keyframe_begins_at_the_lowest_layer_only() {
        assert!(inspect(&[0xac, 0x81, 0x02, 0x00, 0x00], false).keyframe);
        let upper = inspect(&[0xac, 0x81, 0x02, 0x02, 0x00], true);
        assert_eq!(upper, FrameFacts { end: true, ..FrameFacts::default() });
    }

    #[test]
    fn predicted_frame_and_cut_descriptor() {
        let facts = inspect(&[0xcc, 0x01, 0x00], true);
        assert_eq!(facts, FrameFacts { start: true, end: true, keyframe: false, discardable: false });
        assert_eq!(inspect(&[0xac, 0x81], false), FrameFacts::default());
        assert_eq!(inspect(&[], false), FrameFacts::default());
    }
}
