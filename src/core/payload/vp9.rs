//! VP9 payload descriptor (RFC 9628 §4.2): a picture is made of the frames of its spatial layers.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::FrameFacts;
use super::joined::Part;
use crate::core::rtp::layers::{Layer, LayerFacts, LayerSet};

/// A payload descriptor, as far as forwarding needs it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Descriptor {
    /// First payload of a layer's frame.
    begins: bool,
    /// Last payload of a layer's frame.
    ends: bool,
    /// The frame refers to earlier pictures.
    predicted: bool,
    /// No frame of a larger picture refers to it.
    unreferenced: bool,
    picture: Option<(usize, bool)>,
    /// Temporal and spatial layer; whether no later frame of a higher rate refers to what was before.
    layer: Option<(Layer, bool)>,
    tl0: Option<usize>,
    /// Where the scalability structure begins.
    structure: Option<usize>,
    /// Where it ends, but for the structure.
    end: usize,
}

impl Descriptor {
    fn read(payload: &[u8]) -> Option<Descriptor> {
        // I P L F B E V Z
        let first = *payload.first()?;
        let flexible = first & 0x10 != 0;
        let mut found = Descriptor {
            begins: first & 0x08 != 0,
            ends: first & 0x04 != 0,
            predicted: first & 0x40 != 0,
            unreferenced: first & 0x01 != 0,
            picture: None,
            layer: None,
            tl0: None,
            structure: None,
            end: 0,
        };
        let mut at: usize = 1;
        if first & 0x80 != 0 {
            let long = payload.get(at)? & 0x80 != 0;
            found.picture = Some((at, long));
            at = at.checked_add(if long { 2 } else { 1 })?;
        }
        if first & 0x20 != 0 {
            // TID(3) U SID(3) D
            let byte = *payload.get(at)?;
            found.layer = Some((Layer::new((byte >> 1) & 0x07, byte >> 5), byte & 0x10 != 0));
            at = at.checked_add(1)?;
            if !flexible {
                found.tl0 = Some(at);
                at = at.checked_add(1)?;
            }
        }
        if flexible && found.predicted {
            // P_DIFF(7) N, up to three of them.
            for _ in 0..3 {
                let more = payload.get(at)? & 0x01 != 0;
                at = at.checked_add(1)?;
                if !more {
                    break;
                }
            }
        }
        found.structure = (first & 0x02 != 0).then_some(at);
        found.end = at;
        (at <= payload.len()).then_some(found)
    }

    /// Its length, the structure included.
    fn length(&self, payload: &[u8]) -> Option<usize> {
        let Some(mut at) = self.structure else { return Some(self.end) };
        // N_S(3) Y G - - -
        let head = *payload.get(at)?;
        at = at.checked_add(1)?;
        if head & 0x10 != 0 {
            at = at.checked_add(usize::from(head >> 5).checked_add(1)?.checked_mul(4)?)?;
        }
        if head & 0x08 != 0 {
            let pictures = *payload.get(at)?;
            at = at.checked_add(1)?;
            for _ in 0..pictures {
                // T(3) U R(2) - -, and R references.
                at = at.checked_add(1)?.checked_add(usize::from((payload.get(at)? >> 2) & 0x03))?;
            }
        }
        Some(at)
    }

    fn spatial(&self) -> u8 {
        self.layer.map_or(0, |(layer, _)| layer.spatial)
    }

    /// A frame of the smallest picture that refers to nothing begins everything anew. Larger ones are predicted
    /// from it even where they refer to no earlier picture.
    fn is_keyframe(&self) -> bool {
        !self.predicted && self.spatial() == 0
    }
}

/// A payload as a part of its picture.
pub(super) fn part(payload: &[u8]) -> Option<Part<'_>> {
    let found = Descriptor::read(payload)?;
    let start = found.begins && found.spatial() == 0;
    let data = payload.get(found.length(payload)?..)?;
    Some(Part {
        start,
        frame: found.begins,
        keyframe: start && found.is_keyframe(),
        discardable: false,
        data,
    })
}

/// What a payload tells about its picture (all spatial layers of one time).
pub fn inspect(payload: &[u8], marker: bool) -> FrameFacts {
    let ends = FrameFacts { end: marker, ..FrameFacts::default() };
    let Some(found) = Descriptor::read(payload) else { return ends };
    let start = found.begins && found.spatial() == 0;
    FrameFacts { start, keyframe: start && found.is_keyframe(), ..ends }
}

/// What a payload means to receivers of each layer.
pub fn layers(payload: &[u8]) -> LayerFacts {
    let Some(found) = Descriptor::read(payload) else { return LayerFacts::plain(false) };
    let plain = LayerFacts::plain(found.is_keyframe());
    let Some((layer, up)) = found.layer else { return plain };
    let reaches = |target: Layer| match target.spatial.cmp(&layer.spatial) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => true,
        std::cmp::Ordering::Greater => !found.unreferenced,
    };
    let needed = LayerSet::of(|target| reaches(target) && target.temporal >= layer.temporal);
    let anew = !found.predicted && layer.spatial > 0;
    let restarts = if anew { LayerSet::of(|target| target.spatial == layer.spatial) } else { plain.restarts };
    // Encoders set the bit where a frame refers to lower rates only.
    let syncs = LayerSet::of(|target| {
        up && layer.temporal > 0 && target.temporal == layer.temporal && target.spatial >= layer.spatial
    });
    LayerFacts { layer, ends: found.ends, needed, chain: needed, restarts, syncs, ..plain }
}

/// Width and height of the largest picture, where the payload carries the scalability structure.
pub fn dimensions(payload: &[u8]) -> Option<(u16, u16)> {
    let at = Descriptor::read(payload)?.structure?;
    // N_S(3) Y G - - -
    let head = *payload.get(at)?;
    if head & 0x10 == 0 {
        return None;
    }
    let largest = at.checked_add(1)?.checked_add(usize::from(head >> 5).checked_mul(4)?)?;
    let &[w0, w1, h0, h1] = payload.get(largest..)?.first_chunk::<4>()?;
    Some((u16::from_be_bytes([w0, w1]), u16::from_be_bytes([h0, h1])))
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

    /// A layer's frame, non-flexible: `flags` of the first byte beside I and L.
    fn frame(flags: u8, layer: u8) -> LayerFacts {
        layers(&[0xa0 | flags, 0x81, 0x02, layer, 0x09, 0x00])
    }

    #[test]
    fn pictures_and_rates() {
        let smallest = frame(0x4c, 0x00);
        assert_eq!((smallest.needed, smallest.restarts), (LayerSet::ALL, LayerSet::EMPTY));
        let alone = frame(0x4d, 0x00);
        assert!(alone.needed.has(Layer::new(0, 0)) && !alone.needed.has(Layer::new(1, 3)), "K-SVC");
        let second = frame(0x4c, 0x53);
        assert!(second.layer == Layer::new(1, 2) && second.ends && !frame(0x48, 0).ends);
        assert!(second.needed.has(Layer::new(1, 2)) && second.needed.has(Layer::new(2, 2)));
        assert!(!second.needed.has(Layer::new(1, 1)) && !second.needed.has(Layer::new(0, 2)));
        assert!(second.syncs.has(Layer::new(2, 2)) && !second.syncs.has(Layer::new(0, 2)));
        assert_eq!(frame(0x0c, 0).restarts, LayerSet::ALL);
        let anew = frame(0x0c, 0x03).restarts;
        assert!(anew.has(Layer::new(1, 0)) && !anew.has(Layer::new(2, 0)));
    }

    #[test]
    fn numbers_are_moved_behind_any_descriptor() {
        let mut payload = [0xec, 0xff, 0xff, 0x00, 0xff, 0xaa];
        assert_eq!(numbers(&payload), Some((Some(0x7fff), Some(0xff))));
        renumber(&mut payload, 2, 3);
        assert_eq!(payload, [0xec, 0x80, 0x01, 0x00, 0x02, 0xaa]);
        let mut flexible = [0xfc, 0x05, 0x00, 0x03, 0x02, 0xaa];
        renumber(&mut flexible, 1, 9);
        assert_eq!(flexible, [0xfc, 0x06, 0x00, 0x03, 0x02, 0xaa], "no TL0PICIDX in flexible mode");
        for length in 0..payload.len() {
            renumber(&mut payload[..length].to_vec(), 1, 1);
        }
    }

    #[test]
    fn the_size_of_the_largest_picture() {
        let head = [0xae, 0x81, 0x02, 0x00, 0x00, 0x30, 1, 64, 0, 180, 2, 128, 1, 104];
        assert_eq!(dimensions(&head), Some((640, 360)));
        assert_eq!(dimensions(&head[..12]), None);
    }
}
