//! VP8 payload descriptor (RFC 7741 §4.2) and what of the frame header marks a keyframe (§4.3).
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::FrameFacts;
use super::joined::Part;
use crate::core::rtp::layers::{Layer, LayerFacts, LayerSet};

/// A payload descriptor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Descriptor {
    /// First payload of a frame.
    start: bool,
    discardable: bool,
    /// Where the picture id stands, and whether it has 15 bits.
    picture: Option<(usize, bool)>,
    /// Where TL0PICIDX stands.
    tl0: Option<usize>,
    /// Temporal layer, and whether the frame refers to the lowest one only.
    temporal: Option<(u8, bool)>,
    /// Its length.
    length: usize,
}

impl Descriptor {
    fn read(payload: &[u8]) -> Option<Descriptor> {
        let first = *payload.first()?;
        // X R N S R PID: a frame begins where a partition does (S) and it is partition 0.
        let mut found = Descriptor {
            start: first & 0x10 != 0 && first & 0x07 == 0,
            discardable: first & 0x20 != 0,
            picture: None,
            tl0: None,
            temporal: None,
            length: 1,
        };
        if first & 0x80 == 0 {
            return Some(found);
        }
        // I L T K - - - -
        let extension = *payload.get(1)?;
        let mut at: usize = 2;
        if extension & 0x80 != 0 {
            let long = payload.get(at)? & 0x80 != 0;
            found.picture = Some((at, long));
            at = at.checked_add(if long { 2 } else { 1 })?;
        }
        if extension & 0x40 != 0 {
            found.tl0 = Some(at);
            at = at.checked_add(1)?;
        }
        if extension & 0x30 != 0 {
            let byte = *payload.get(at)?;
            if extension & 0x20 != 0 {
                // TID(2) Y KEYIDX(5)
                found.temporal = Some((byte >> 6, byte & 0x20 != 0));
            }
            at = at.checked_add(1)?;
        }
        found.length = at;
        (at <= payload.len()).then_some(found)
    }

    fn is_keyframe(&self, payload: &[u8]) -> bool {
        // The P bit of the frame header is 0 in a keyframe.
        self.start && payload.get(self.length).is_some_and(|header| header & 0x01 == 0)
    }
}

/// A payload as a part of its frame.
pub(super) fn part(payload: &[u8]) -> Option<Part<'_>> {
    let found = Descriptor::read(payload)?;
    let (start, discardable, data) = (found.start, found.discardable, payload.get(found.length..)?);
    Some(Part { start, frame: start, keyframe: found.is_keyframe(payload), discardable, data })
}

/// What a payload tells about its frame.
pub fn inspect(payload: &[u8], marker: bool) -> FrameFacts {
    let ends = FrameFacts { end: marker, ..FrameFacts::default() };
    let Some(found) = Descriptor::read(payload) else { return ends };
    let (start, discardable) = (found.start, found.discardable);
    FrameFacts { start, keyframe: found.is_keyframe(payload), discardable, ..ends }
}

/// What a payload means to receivers of each frame rate.
pub fn layers(payload: &[u8], keyframe: bool) -> LayerFacts {
    let plain = LayerFacts::plain(keyframe);
    let Some((of, sync)) = Descriptor::read(payload).and_then(|found| found.temporal) else { return plain };
    let needed = LayerSet::of(|target| target.temporal >= of);
    let syncs = LayerSet::of(|target| sync && of > 0 && target.temporal == of);
    LayerFacts { layer: Layer::new(0, of), needed, chain: needed, syncs, ..plain }
}

/// Width and height of the picture, out of the first payload of a keyframe.
pub fn dimensions(payload: &[u8]) -> Option<(u16, u16)> {
    let found = Descriptor::read(payload)?;
    if !found.is_keyframe(payload) {
        return None;
    }
    // Frame tag (3), start code, 14 bits of width and height with 2 of scaling each (RFC 6386 §9.1).
    let header = payload.get(found.length..)?.get(3..)?.strip_prefix(&[0x9d, 0x01, 0x2a])?;
    let &[w0, w1, h0, h1] = header.first_chunk::<4>()?;
    Some((u16::from_le_bytes([w0, w1]) & 0x3fff, u16::from_le_bytes([h0, h1]) & 0x3fff))
}

/// The picture id and TL0PICIDX, as far as they are there.
pub fn numbers(payload: &[u8]) -> Option<(Option<u16>, Option<u8>)> {
    let found = Descriptor::read(payload)?;
    Some(super::numbers_at(payload, found.picture, found.tl0))
}

/// Moves the picture id and TL0PICIDX on, as far as they are there.
pub fn renumber(payload: &mut [u8], picture: u16, tl0: u8) {
    let Some(found) = Descriptor::read(payload) else { return };
    super::renumber(payload, (found.picture, picture), (found.tl0, tl0));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    const FACTS: FrameFacts = FrameFacts { start: false, end: false, keyframe: false, discardable: false };

    #[test]
    fn keyframe_with_long_picture_id() {
        let facts = inspect(&[0x90, 0x80, 0x81, 0x02, 0x10, 0x00], false);
        assert_eq!(facts, FrameFacts { start: true, keyframe: true, ..FACTS });
    }

    #[test]
    fn interframe_unreferenced_and_its_second_packet() {
        let first = inspect(&[0x30, 0x01], false);
        assert_eq!(first, FrameFacts { start: true, discardable: true, ..FACTS });
        let second = inspect(&[0x20, 0x00], true);
        assert_eq!(second, FrameFacts { end: true, discardable: true, ..FACTS });
    }

    #[test]
    fn every_cut_is_survived() {
        let whole = [0x90, 0xf0, 0x81, 0x02, 0x10, 0x20, 0x00];
        for length in 0..whole.len() {
            assert!(!inspect(&whole[..length], true).keyframe);
            renumber(&mut whole[..length].to_vec(), 1, 1);
        }
        assert!(inspect(&whole, true).keyframe);
    }

    #[test]
    fn temporal_layers_and_their_syncs() {
        let of = |byte: u8| layers(&[0x90, 0xe0, 0x81, 0x02, 0x10, byte, 0x01], false);
        let base = of(0x00);
        assert_eq!((base.layer, base.needed, base.syncs), (Layer::new(0, 0), LayerSet::ALL, LayerSet::EMPTY));
        let top = of(0xa0);
        assert!(top.needed.has(Layer::new(0, 2)) && !top.needed.has(Layer::new(0, 1)));
        assert!(top.syncs.has(Layer::new(0, 2)) && !top.syncs.has(Layer::new(0, 1)));
        assert_eq!(of(0x80).syncs, LayerSet::EMPTY);
        assert_eq!(layers(&[0x10, 0x01], true), LayerFacts::plain(true));
    }

    #[test]
    fn numbers_are_moved_and_keep_their_width() {
        let mut long = [0x90, 0xe0, 0xff, 0xfe, 0xff, 0x00, 0x01];
        assert_eq!(numbers(&long), Some((Some(0x7ffe), Some(0xff))));
        renumber(&mut long, 3, 2);
        assert_eq!(long, [0x90, 0xe0, 0x80, 0x01, 0x01, 0x00, 0x01]);
        let mut short = [0x90, 0x80, 0x7f, 0x01];
        renumber(&mut short, 258, 2);
        assert_eq!(short, [0x90, 0x80, 0x01, 0x01]);
    }

    #[test]
    fn the_size_of_a_picture() {
        let keyframe = [0x90, 0x80, 0x05, 0x50, 0x42, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x41, 0x00];
        assert_eq!(dimensions(&keyframe), Some((640, 360)));
        assert_eq!(dimensions(&keyframe[..11]), None);
    }
}
