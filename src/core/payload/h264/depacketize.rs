//! Payloads into access units (RFC 6184 §5.6 to §5.8). A unit with a missing packet is left out whole: a decoder
//! shows less harm from a missing picture than from half of one.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{FU_A, NAL_AUD, NAL_FILLER, STAP_A, is_discardable, is_keyframe, nal_type, push_nal};
use crate::core::payload::AccessUnit;

/// The largest access unit put together: a 4K keyframe has room, a sender that never ends a frame has not.
const MAX_UNIT: usize = 8 << 20;

/// Puts access units together; keeps its buffer between frames.
#[derive(Default)]
pub struct Depacketizer {
    unit: Vec<u8>,
    timestamp: Option<u32>,
    next: Option<u16>,
    /// Where in `unit` the NAL unit begins that FU-A pieces are being added to.
    open: Option<usize>,
    broken: bool,
    gap: bool,
}

impl Depacketizer {
    /// Takes the packet `sequence`; see [`crate::core::payload::Depacketizer::push`].
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
        if self.timestamp.is_some_and(|current| current != timestamp) {
            // No marker closed the unit: unless a packet is missing, an encoder without markers sent it.
            self.broken |= lost;
            self.finish(sink);
        }
        if self.timestamp.is_none() {
            self.timestamp = Some(timestamp);
            // Whether the missing packet belonged to this unit or to the one before is seen by its first byte.
            self.broken = lost && !super::inspect(payload, marker).start;
            self.gap |= lost;
        } else if lost {
            self.broken = true;
        }
        if !self.broken && self.add(payload).is_none() {
            self.broken = true;
        }
        if marker {
            self.finish(sink);
        }
    }

    fn finish(&mut self, sink: &mut impl FnMut(AccessUnit<'_>)) {
        let Some(timestamp) = self.timestamp.take() else { return };
        if self.broken || self.open.is_some() {
            self.gap = true;
        } else if !self.unit.is_empty() {
            let gap = std::mem::take(&mut self.gap);
            sink(AccessUnit {
                timestamp,
                data: &self.unit,
                keyframe: is_keyframe(&self.unit),
                discardable: is_discardable(&self.unit),
                gap,
            });
        }
        self.unit.clear();
        self.open = None;
        self.broken = false;
    }

    /// `None`: the payload makes no sense where it stands.
    fn add(&mut self, payload: &[u8]) -> Option<()> {
        if self.unit.len().checked_add(payload.len())? > MAX_UNIT {
            return None;
        }
        match nal_type(payload) {
            STAP_A => self.add_aggregate(payload.get(1..)?),
            FU_A => self.add_fragment(payload),
            1..=23 => self.add_nal(payload),
            // Empty payloads probe the bandwidth; STAP-B, MTAP and FU-B belong to interleaved mode.
            0 if payload.is_empty() => Some(()),
            _ => None,
        }
    }

    fn add_nal(&mut self, nal: &[u8]) -> Option<()> {
        if self.open.is_some() {
            return None;
        }
        if !matches!(nal_type(nal), NAL_AUD | NAL_FILLER) {
            push_nal(&mut self.unit, nal);
        }
        Some(())
    }

    fn add_aggregate(&mut self, mut rest: &[u8]) -> Option<()> {
        while !rest.is_empty() {
            let (length, tail) = rest.split_first_chunk::<2>()?;
            let (nal, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            if !nal.is_empty() {
                self.add_nal(nal)?;
            }
            rest = tail;
        }
        Some(())
    }

    fn add_fragment(&mut self, payload: &[u8]) -> Option<()> {
        let (&[indicator, header], body) = payload.split_first_chunk()?;
        if header & 0x80 != 0 {
            if self.open.is_some() {
                return None;
            }
            self.open = Some(self.unit.len());
            self.unit.extend_from_slice(&[0, 0, 0, 0, (indicator & 0xe0) | (header & 0x1f)]);
        }
        let open = self.open?;
        self.unit.extend_from_slice(body);
        if header & 0x40 != 0 {
            self.open = None;
            let length = self.unit.len().checked_sub(open)?.checked_sub(4)?;
            let length = u32::try_from(length).ok()?.to_be_bytes();
            self.unit.get_mut(open..open.checked_add(4)?)?.copy_from_slice(&length);
        }
        Some(())
    }
}
