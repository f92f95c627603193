//! Reads an RBSP bit by bit: fixed-length fields and Exp-Golomb codes (ITU-T H.264 §7.2, §9.1), with the
//! emulation prevention bytes of a NAL unit left out on the way (§7.4.1.1).
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// A cursor over the bits of one NAL unit's payload. Every read past the end is `None`.
pub struct BitReader<'a> {
    bytes: std::slice::Iter<'a, u8>,
    zeros: u8,
    current: u8,
    left: u8,
}

impl<'a> BitReader<'a> {
    /// Reads `payload`, the bytes behind the NAL unit header, emulation prevention included.
    pub fn new(payload: &'a [u8]) -> Self {
        BitReader { bytes: payload.iter(), zeros: 0, current: 0, left: 0 }
    }

    fn next_byte(&mut self) -> Option<u8> {
        let mut byte = *self.bytes.next()?;
        if self.zeros >= 2 && byte == 3 {
            self.zeros = 0;
            byte = *self.bytes.next()?;
        }
        self.zeros = if byte == 0 { self.zeros.saturating_add(1) } else { 0 };
        Some(byte)
    }

    /// One bit.
    pub fn bit(&mut self) -> Option<bool> {
        if self.left == 0 {
            self.current = self.next_byte()?;
            self.left = 8;
        }
        self.left = self.left.saturating_sub(1);
        Some(self.current.checked_shr(u32::from(self.left))? & 1 == 1)
    }

    /// `count` bits, at most 32, most significant first.
    pub fn bits(&mut self, count: u32) -> Option<u32> {
        let mut value = 0u32;
        for _ in 0..count {
            value = value.wrapping_shl(1) | u32::from(self.bit()?);
        }
        Some(value)
    }

    /// Leaves out `count` bits.
    pub fn skip(&mut self, count: u32) -> Option<()> {
        for _ in 0..count {
            self.bit()?;
        }
        Some(())
    }

    /// An unsigned Exp-Golomb code, `ue(v)`; codes of more than 32 bits are refused.
    pub fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0u32;
        while !self.bit()? {
            zeros = zeros.checked_add(1)?;
            if zeros > 31 {
                return None;
            }
        }
        let suffix = self.bits(zeros)?;
        1u32.checked_shl(zeros)?.checked_sub(1)?.checked_add(suffix)
    }

    /// A signed Exp-Golomb code, `se(v)`.
    pub fn se(&mut self) -> Option<i32> {
        let code = i64::from(self.ue()?);
        let half = code.checked_add(1)?.checked_div(2)?;
        i32::try_from(if code & 1 == 1 { half } else { half.checked_neg()? }).ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes() {
        // 1 | 010 | 011 | 00100 | 00101 -> 0, 1, 2, 3, 4 and as signed 0, 1, -1, 2, -2.
        let bytes = [0b1010_0110, 0b0100_0010, 0b1000_0000];
        let mut reader = BitReader::new(&bytes);
        let unsigned: Vec<u32> = (0..5).filter_map(|_| reader.ue()).collect();
        assert_eq!(unsigned, [0, 1, 2, 3, 4]);
        let mut reader = BitReader::new(&bytes);
        let signed: Vec<i32> = (0..5).filter_map(|_| reader.se()).collect();
        assert_eq!(signed, [0, 1, -1, 2, -2]);
    }

    #[test]
    fn emulation_prevention_is_left_out_and_the_end_is_none() {
        let mut reader = BitReader::new(&[0, 0, 3, 1]);
        assert_eq!(reader.bits(24), Some(1));
        assert_eq!(reader.bit(), None);
        assert_eq!(BitReader::new(&[0, 0, 0, 0, 0, 0]).ue(), None);
    }
}
