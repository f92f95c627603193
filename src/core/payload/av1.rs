//! AV1 aggregation header (RTP Payload Format For AV1, version 1.0, §4.4).
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::FrameFacts;

/// What a payload tells about its temporal unit. An OBU that begins shows a possible start only; the RTP timestamp
/// tells it from a later packet of the same unit.
pub fn inspect(payload: &[u8], marker: bool) -> FrameFacts {
    // Z Y W W N - - -
    let Some(header) = payload.first() else { return FrameFacts { end: marker, ..FrameFacts::default() } };
    let continued = header & 0x80 != 0;
    let sequence = header & 0x08 != 0;
    FrameFacts { start: !continued, end: marker, keyframe: sequence && !continued, discardable: false }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    #[test]
    fn first_packet_of_a_coded_video_sequence() {
        assert!(inspect(&[0x18, 0x0a], false).keyframe);
        assert_eq!(inspect(&[0x90, 0x0a], true), FrameFacts { end: true, ..FrameFacts::default() });
        assert_eq!(inspect(&[], false), FrameFacts::default());
    }
}
