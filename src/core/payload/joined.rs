//! Payloads into pictures where a picture is its payloads without their descriptors, one behind the other (VP8: RFC
//! 7741 §4.5, VP9: RFC 9628 §4). A picture with a missing packet is left out whole.

use super::{AccessUnit, Codec, vp8, vp9};

/// The largest picture put together: a 4K keyframe has room, a sender that never ends a picture has not.
const MAX_PICTURE: usize = 8 << 20;

/// One payload of a picture.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Part<'a> {
    /// The picture begins here.
    pub start: bool,
    /// A frame begins here: the picture, or the next size of it (VP9).
    pub frame: bool,
    pub keyframe: bool,
    pub discardable: bool,
    /// What is behind the descriptor.
    pub data: &'a [u8],
}

/// Puts pictures together; keeps its buffer between them.
pub struct Depacketizer {
    read: for<'a> fn(&'a [u8]) -> Option<Part<'a>>,
    picture: Vec<u8>,
    /// Where its frames begin.
    frames: Vec<usize>,
    /// The picture being put together, and what its first payload says.
    open: Option<Open>,
    next: Option<u16>,
    gap: bool,
}

#[derive(Clone, Copy)]
struct Open {
    timestamp: u32,
    keyframe: bool,
    discardable: bool,
}

impl Depacketizer {
    /// For `codec`, if its pictures are made so.
    pub fn new(codec: Codec) -> Option<Depacketizer> {
        let read = match codec {
            Codec::Vp8 => vp8::part,
            Codec::Vp9 => vp9::part,
            _ => return None,
        };
        Some(Depacketizer {
            read,
            picture: Vec::new(),
            frames: Vec::new(),
            open: None,
            next: None,
            gap: false,
        })
    }

    /// Takes the packet `sequence`; see [`super::Depacketizer::push`].
    pub fn push(
        &mut self,
        sequence: u16,
        timestamp: u32,
        marker: bool,
        payload: &[u8],
        sink: &mut impl FnMut(AccessUnit<'_>),
    ) {
        let lost = self.next.is_some_and(|next| next != sequence);
        self.next = Some(sequence.wrapping_add(1));
        if lost {
            self.leave_out();
        } else if self.open.is_some_and(|open| open.timestamp != timestamp) {
            // Its marker is missing and no packet: it was whole.
            self.finish(sink);
        }
        // A packet may be padding only.
        if payload.is_empty() {
            return;
        }
        let part = (self.read)(payload);
        match (part, self.open) {
            (Some(Part { start: true, keyframe, discardable, .. }), None) => {
                self.open = Some(Open { timestamp, keyframe, discardable });
            }
            (Some(_), Some(_)) => {}
            // The rest of a picture whose beginning is lost, or what is none.
            _ => return self.leave_out(),
        }
        let Some(part) =
            part.filter(|part| self.picture.len().saturating_add(part.data.len()) <= MAX_PICTURE)
        else {
            return self.leave_out();
        };
        if part.frame {
            self.frames.push(self.picture.len());
        }
        self.picture.extend_from_slice(part.data);
        if marker {
            self.finish(sink);
        }
    }

    fn leave_out(&mut self) {
        self.gap = true;
        self.open = None;
        self.picture.clear();
        self.frames.clear();
    }

    fn finish(&mut self, sink: &mut impl FnMut(AccessUnit<'_>)) {
        if let Some(Open { timestamp, keyframe, discardable }) = self.open.take() {
            let gap = std::mem::take(&mut self.gap);
            if self.frames.len() > 1 {
                self.index();
            }
            sink(AccessUnit { timestamp, data: &self.picture, keyframe, discardable, gap });
        }
        self.picture.clear();
        self.frames.clear();
    }

    /// Says where frames of several sizes begin, as a superframe does (VP9 bitstream specification, annex B).
    fn index(&mut self) {
        // Eight at the most; sizes of four bytes.
        let begins = self.frames.iter().copied();
        let ends = self.frames.iter().copied().skip(1).chain([self.picture.len()]);
        let sizes: Vec<u32> = begins.zip(ends).map(|(begin, end)| end.saturating_sub(begin) as u32).collect();
        let Some(more) = sizes.len().checked_sub(1).filter(|more| *more < 8) else { return };
        let marker = 0xd8 | more as u8;
        self.picture.push(marker);
        self.picture.extend(sizes.iter().flat_map(|size| size.to_le_bytes()));
        self.picture.push(marker);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    type Out = (u32, Vec<u8>, bool, bool);

    /// What comes out of packets of (sequence, timestamp, marker, payload).
    fn run(codec: Codec, packets: &[(u16, u32, bool, &[u8])]) -> Vec<Out> {
        let mut depacketizer = Depacketizer::new(codec).unwrap();
        let mut out = Vec::new();
        for (sequence, timestamp, marker, payload) in packets {
            depacketizer.push(*sequence, *timestamp, *marker, payload, &mut |unit| {
                out.push((unit.timestamp, unit.data.to_vec(), unit.keyframe, unit.gap));
            });
        }
        out
    }

    #[test]
    fn pictures_of_vp8_lose_their_descriptors() {
        let out = run(
            Codec::Vp8,
            &[
                (65_535, 10, false, &[0x90, 0x80, 0x01, 0x00, 1, 2]),
                (0, 10, true, &[0x80, 0x80, 0x01, 3]),
                (1, 20, true, &[0x10, 0x01, 4]),
            ],
        );
        assert_eq!(out, [(10, vec![0x00, 1, 2, 3], true, false), (20, vec![0x01, 4], false, false)]);
    }

    #[test]
    fn a_picture_with_a_missing_packet_is_left_out_and_that_is_said() {
        let (first, rest): (&[u8], &[u8]) = (&[0x10, 0x00, 1], &[0x00, 2]);
        let whole = |at: u16, time| (at, time, true, &[0x10, 0x01, 9][..]);
        for (packets, seen) in [
            // The last packet of a picture is missing, the first one, a whole picture.
            (vec![(1, 10, false, first), whole(3, 20)], vec![20]),
            (vec![whole(1, 5), (3, 10, true, rest), whole(4, 20)], vec![5, 20]),
            (vec![whole(1, 10), whole(3, 20)], vec![10, 20]),
        ] {
            let out = run(Codec::Vp8, &packets);
            assert_eq!(out.iter().map(|(time, ..)| *time).collect::<Vec<_>>(), seen);
            assert_eq!(out.last(), Some(&(20, vec![0x01, 9], false, true)), "{packets:?}");
        }
    }

    #[test]
    fn a_missing_marker_costs_nothing() {
        let out = run(Codec::Vp8, &[(1, 10, false, &[0x10, 0x00, 1]), (2, 20, true, &[0x10, 0x01, 2])]);
        assert_eq!(out, [(10, vec![0x00, 1], true, false), (20, vec![0x01, 2], false, false)]);
    }

    #[test]
    fn pictures_of_vp9_lose_their_descriptors_and_structure() {
        // I, B, E, V: a picture id of 7 bits; a structure of one size with its width and height, and one picture.
        let key = [0x8e, 0x05, 0x18, 0x01, 0x40, 0x00, 0xb4, 1, 0b0000_0100, 1, 0x82, 0x49];
        let next = [0xcc, 0x06, 0x86];
        let out = run(Codec::Vp9, &[(1, 10, true, &key), (2, 20, true, &next)]);
        assert_eq!(out, [(10, vec![0x82, 0x49], true, false), (20, vec![0x86], false, false)]);
    }

    #[test]
    fn sizes_of_one_picture_are_one_unit() {
        // L: temporal and spatial layer, TL0PICIDX.
        let small = [0x28 | 0x04, 0x00, 0x01, 1];
        let large = [0x28 | 0x04, 0x03, 0x01, 2];
        let out = run(Codec::Vp9, &[(1, 10, false, &small), (2, 10, true, &large)]);
        let index = [0xd9, 1, 0, 0, 0, 1, 0, 0, 0, 0xd9];
        assert_eq!(out, [(10, [&[1, 2][..], &index].concat(), true, false)]);
    }
}
