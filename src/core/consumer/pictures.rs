//! Numbers of pictures that continue over sources: the picture id and TL0PICIDX of VP8 and VP9, the frame number of
//! the dependency descriptor. A receiver that sees them jump takes frames for missing, or for old.
//!
//! A source's own numbers are kept until another takes its place, so that most packets are sent as they are.

use crate::core::payload::{Codec, numbers};
use crate::core::rtp::dependency::frame_number;
use crate::core::rtp::extension::ExtensionKind;
use crate::core::rtp::store::{FRAME_START, Stored};

/// What is added to a packet's numbers. It must be the same when the packet is sent again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Shift {
    /// To the picture id.
    pub picture: u16,
    /// To the TL0PICIDX.
    pub tl0: u8,
    /// To the frame number.
    pub frame: u16,
}

impl Shift {
    /// Whether the payload changes.
    pub fn moves_payload(&self) -> bool {
        self.picture != 0 || self.tl0 != 0
    }
}

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pictures {
    shift: Shift,
    /// The newest numbers as they were sent.
    picture: Option<u16>,
    tl0: Option<u8>,
    frame: Option<u16>,
    /// The next packet is the first of another source.
    joining: bool,
}

impl Pictures {
    /// What comes next is of another source.
    pub fn join(&mut self) {
        self.joining = true;
    }

    /// What to add to the numbers of a packet of `codec`; `omitted` pictures of the source were left out before
    /// it. With `described` the receiver reads dependency descriptors.
    pub fn shift(&mut self, codec: Codec, packet: &Stored<'_>, omitted: u16, described: bool) -> Shift {
        let numbered = matches!(codec, Codec::Vp8 | Codec::Vp9);
        let element = if described { packet.extension(ExtensionKind::DependencyDescriptor) } else { None };
        if !numbered && element.is_none() {
            return Shift::default();
        }
        if self.joining {
            self.joining = false;
            self.begin(codec, packet, element);
        }
        // Other formats say by differences what a frame refers to, so that theirs must keep the gaps.
        let omitted = if codec == Codec::Vp8 { omitted } else { 0 };
        let shift = Shift { picture: self.shift.picture.wrapping_sub(omitted), ..self.shift };
        if numbered && packet.meta.has(FRAME_START) {
            let (picture, tl0) = numbers(codec, packet.payload).unwrap_or_default();
            self.note(
                picture.map(|id| id.wrapping_add(shift.picture)),
                tl0.map(|id| id.wrapping_add(shift.tl0)),
            );
        }
        if let Some(frame) = element.and_then(frame_number).map(|frame| frame.wrapping_add(shift.frame))
            && self.frame.is_none_or(|newest| frame.wrapping_sub(newest).cast_signed() > 0)
        {
            self.frame = Some(frame);
        }
        shift
    }

    /// The first picture of a source follows the last that was sent.
    fn begin(&mut self, codec: Codec, packet: &Stored<'_>, element: Option<&[u8]>) {
        let (picture, tl0) = numbers(codec, packet.payload).unwrap_or_default();
        let frame = element.and_then(frame_number);
        let after = |last: Option<u16>, first: Option<u16>| {
            last.zip(first).map_or(0, |(last, first)| last.wrapping_add(1).wrapping_sub(first))
        };
        self.shift = Shift {
            picture: after(self.picture, picture),
            tl0: self.tl0.zip(tl0).map_or(0, |(last, first)| last.wrapping_add(1).wrapping_sub(first)),
            frame: after(self.frame, frame),
        };
    }

    fn note(&mut self, picture: Option<u16>, tl0: Option<u8>) {
        // 15 bits count, however many travel.
        let newer = |newest: u16, id: u16| {
            id.wrapping_sub(newest) & 0x7fff != 0 && id.wrapping_sub(newest) & 0x4000 == 0
        };
        if let Some(id) = picture
            && self.picture.is_none_or(|newest| newer(newest, id))
        {
            self.picture = Some(id);
        }
        if let Some(id) = tl0
            && self.tl0.is_none_or(|newest| id.wrapping_sub(newest).cast_signed() > 0)
        {
            self.tl0 = Some(id);
        }
    }
}
