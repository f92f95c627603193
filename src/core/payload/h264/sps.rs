//! Sequence parameter sets (ITU-T H.264 §7.3.2.1 and annex E): the size of the picture, what reordering the
//! encoder promises, and its colours.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{NAL_SPS, nal_type};
use crate::core::payload::bits::BitReader;

/// What a sequence parameter set says, as far as it is of use here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sps {
    /// `profile_idc`.
    pub profile: u8,
    /// The byte of constraint flags.
    pub constraints: u8,
    /// `level_idc`.
    pub level: u8,
    /// Width in pixels after cropping.
    pub width: u32,
    /// Height in pixels after cropping.
    pub height: u32,
    /// `pic_order_cnt_type`; 2 means output order is decoding order.
    pub poc_type: u8,
    /// `max_num_reorder_frames`, where the VUI says it.
    pub max_reorder_frames: Option<u32>,
    /// Colours, where the VUI says them.
    pub colour: Option<Colour>,
    /// Only frames, no fields.
    pub frames_only: bool,
}

/// How samples become light (ITU-T H.264 §E.2.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Colour {
    /// Luma from 0 to 255, not 16 to 235.
    pub full_range: bool,
    /// `matrix_coefficients`: 1 is BT.709, 5 and 6 are BT.601; 2 is unspecified.
    pub matrix: u8,
}

impl Sps {
    /// Reads the NAL unit `nal`; `None` when it is no SPS, is cut short, or its numbers are out of bounds.
    pub fn parse(nal: &[u8]) -> Option<Sps> {
        if nal_type(nal) != NAL_SPS {
            return None;
        }
        let mut bits = BitReader::new(nal.get(1..)?);
        let profile = u8::try_from(bits.bits(8)?).ok()?;
        let constraints = u8::try_from(bits.bits(8)?).ok()?;
        let level = u8::try_from(bits.bits(8)?).ok()?;
        bits.ue()?;
        let chroma = if has_chroma_fields(profile) { read_chroma(&mut bits)? } else { Chroma::default() };
        bits.ue()?;
        let poc_type = read_poc(&mut bits)?;
        bits.ue()?;
        bits.skip(1)?;
        let size = read_size(&mut bits, chroma)?;
        let vui = if bits.bit()? { read_vui(&mut bits) } else { Vui::default() };
        Some(Sps {
            profile,
            constraints,
            level,
            width: size.width,
            height: size.height,
            poc_type,
            max_reorder_frames: vui.max_reorder_frames,
            colour: vui.colour,
            frames_only: size.frames_only,
        })
    }

    /// Whether the stream can hold pictures that are shown in another order than they are sent. Baseline has no
    /// B slices, output order of type 2 is decoding order, and a VUI may promise it.
    pub fn may_reorder(&self) -> bool {
        let intra_only = self.constraints & 0x10 != 0 && self.profile >= 100;
        self.profile != 66 && self.poc_type != 2 && self.max_reorder_frames != Some(0) && !intra_only
    }
}

fn has_chroma_fields(profile: u8) -> bool {
    matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135)
}

#[derive(Clone, Copy)]
struct Chroma {
    format: u32,
    separate: bool,
}

impl Default for Chroma {
    fn default() -> Self {
        Chroma { format: 1, separate: false }
    }
}

fn read_chroma(bits: &mut BitReader<'_>) -> Option<Chroma> {
    let format = bits.ue()?;
    let separate = format == 3 && bits.bit()?;
    bits.ue()?;
    bits.ue()?;
    bits.skip(1)?;
    if bits.bit()? {
        let lists = if format == 3 { 12u32 } else { 8 };
        for list in 0..lists {
            if bits.bit()? {
                skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(Chroma { format, separate })
}

fn skip_scaling_list(bits: &mut BitReader<'_>, size: u32) -> Option<()> {
    let (mut last, mut next) = (8i64, 8i64);
    for _ in 0..size {
        if next != 0 {
            let delta = i64::from(bits.se()?);
            next = last.checked_add(delta)?.checked_add(256)?.rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

fn read_poc(bits: &mut BitReader<'_>) -> Option<u8> {
    let kind = bits.ue()?;
    match kind {
        0 => {
            bits.ue()?;
        }
        1 => {
            bits.skip(1)?;
            bits.se()?;
            bits.se()?;
            for _ in 0..bits.ue()?.min(255) {
                bits.se()?;
            }
        }
        _ => {}
    }
    u8::try_from(kind).ok().filter(|kind| *kind <= 2)
}

struct Size {
    width: u32,
    height: u32,
    frames_only: bool,
}

fn read_size(bits: &mut BitReader<'_>, chroma: Chroma) -> Option<Size> {
    let width_blocks = bits.ue()?.checked_add(1)?;
    let height_units = bits.ue()?.checked_add(1)?;
    let frames_only = bits.bit()?;
    if !frames_only {
        bits.skip(1)?;
    }
    bits.skip(1)?;
    let fields = if frames_only { 1u32 } else { 2 };
    let mut width = width_blocks.checked_mul(16)?;
    let mut height = height_units.checked_mul(16)?.checked_mul(fields)?;
    if bits.bit()? {
        let (left, right, top, bottom) = (bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?);
        let coded = if chroma.separate { 0 } else { chroma.format };
        let unit_x = if matches!(coded, 1 | 2) { 2u32 } else { 1 };
        let unit_y = (if coded == 1 { 2u32 } else { 1 }).checked_mul(fields)?;
        width = width.checked_sub(left.checked_add(right)?.checked_mul(unit_x)?)?;
        height = height.checked_sub(top.checked_add(bottom)?.checked_mul(unit_y)?)?;
    }
    (width > 0 && height > 0 && width <= 16_384 && height <= 16_384).then_some(Size {
        width,
        height,
        frames_only,
    })
}

#[derive(Default)]
struct Vui {
    max_reorder_frames: Option<u32>,
    colour: Option<Colour>,
}

/// A VUI that is cut short still gives what was read of it.
fn read_vui(bits: &mut BitReader<'_>) -> Vui {
    let mut vui = Vui::default();
    let _ = fill_vui(bits, &mut vui);
    vui
}

fn fill_vui(bits: &mut BitReader<'_>, vui: &mut Vui) -> Option<()> {
    if bits.bit()? && bits.bits(8)? == 255 {
        bits.skip(32)?;
    }
    if bits.bit()? {
        bits.skip(1)?;
    }
    if bits.bit()? {
        bits.skip(3)?;
        let full_range = bits.bit()?;
        let mut matrix = 2;
        if bits.bit()? {
            bits.skip(16)?;
            matrix = u8::try_from(bits.bits(8)?).ok()?;
        }
        vui.colour = Some(Colour { full_range, matrix });
    }
    if bits.bit()? {
        bits.ue()?;
        bits.ue()?;
    }
    if bits.bit()? {
        bits.skip(65)?;
    }
    let nal_hrd = bits.bit()?;
    if nal_hrd {
        skip_hrd(bits)?;
    }
    let vcl_hrd = bits.bit()?;
    if vcl_hrd {
        skip_hrd(bits)?;
    }
    if nal_hrd || vcl_hrd {
        bits.skip(1)?;
    }
    bits.skip(1)?;
    if bits.bit()? {
        bits.skip(1)?;
        for _ in 0..4 {
            bits.ue()?;
        }
        vui.max_reorder_frames = Some(bits.ue()?);
    }
    Some(())
}

fn skip_hrd(bits: &mut BitReader<'_>) -> Option<()> {
    let count = bits.ue()?.checked_add(1)?.min(32);
    bits.skip(8)?;
    for _ in 0..count {
        bits.ue()?;
        bits.ue()?;
        bits.skip(1)?;
    }
    bits.skip(20)
}
