//! AVCDecoderConfigurationRecord (ISO/IEC 14496-15 §5.3.3.1): the parameter sets as RTMP and MP4 carry them.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{NAL_PPS, NAL_SPS, nal_type, push_nal};

/// The parameter sets of a stream and how its access units write lengths.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DecoderConfig {
    /// `profile_idc`.
    pub profile: u8,
    /// The byte of constraint flags.
    pub constraints: u8,
    /// `level_idc`.
    pub level: u8,
    /// Bytes of each length in front of a NAL unit: 1, 2 or 4.
    pub length_size: u8,
    /// Sequence parameter sets, as NAL units.
    pub sps: Vec<Vec<u8>>,
    /// Picture parameter sets, as NAL units.
    pub pps: Vec<Vec<u8>>,
}

impl DecoderConfig {
    /// Reads a record; `None` when it is cut short, of another version, or has no parameter sets.
    pub fn parse(record: &[u8]) -> Option<DecoderConfig> {
        let (&[version, profile, constraints, level, length, count], mut rest) =
            record.split_first_chunk()?;
        let length_size = (length & 3).checked_add(1)?;
        if version != 1 || length_size == 3 {
            return None;
        }
        let sps = read_sets(&mut rest, count & 0x1f, NAL_SPS)?;
        let (&count, tail) = rest.split_first()?;
        rest = tail;
        let pps = read_sets(&mut rest, count, NAL_PPS)?;
        if sps.is_empty() || pps.is_empty() {
            return None;
        }
        Some(DecoderConfig { profile, constraints, level, length_size, sps, pps })
    }

    /// Makes a record's worth of facts from parameter sets seen in band.
    pub fn from_sets(sps: &[u8], pps: &[u8]) -> Option<DecoderConfig> {
        let &[_, profile, constraints, level, ..] = sps else { return None };
        Some(DecoderConfig {
            profile,
            constraints,
            level,
            length_size: 4,
            sps: vec![sps.to_vec()],
            pps: vec![pps.to_vec()],
        })
    }

    /// The record, for access units whose lengths have four bytes. Profiles that may have other samples than 8 bit 4:2:0
    /// say what theirs are; ours never have.
    pub fn record(&self) -> Vec<u8> {
        const WITH_SAMPLES: [u8; 4] = [100, 110, 122, 144];
        let mut record = vec![1, self.profile, self.constraints, self.level, 0xff];
        for (sets, flags) in [(&self.sps, 0xe0), (&self.pps, 0)] {
            record.push(flags | (sets.len().min(31) as u8));
            for set in sets.iter().take(31) {
                record.extend_from_slice(&(set.len() as u16).to_be_bytes());
                record.extend_from_slice(set);
            }
        }
        if WITH_SAMPLES.contains(&self.profile) {
            record.extend_from_slice(&[0xfd, 0xf8, 0xf8, 0]);
        }
        record
    }

    /// Adds the parameter sets to an access unit in length-prefixed form.
    pub fn push_sets(&self, unit: &mut Vec<u8>) {
        self.sps.iter().chain(&self.pps).for_each(|nal| push_nal(unit, nal));
    }

    /// An access unit whose lengths have `length_size` bytes, added to `unit` with four-byte lengths.
    /// `false` when a length does not fit; what was sound before it has been added.
    pub fn widen(&self, data: &[u8], unit: &mut Vec<u8>) -> bool {
        let mut rest = data;
        let size = usize::from(self.length_size);
        while !rest.is_empty() {
            let Some((length, tail)) = rest.split_at_checked(size) else { return false };
            let length = length.iter().fold(0usize, |sum, byte| sum.wrapping_shl(8) | usize::from(*byte));
            let Some((nal, tail)) = tail.split_at_checked(length) else { return false };
            if !nal.is_empty() {
                push_nal(unit, nal);
            }
            rest = tail;
        }
        true
    }

    /// `profile-level-id` of RFC 6184 §8.1: profile, constraints and level in hex.
    pub fn profile_level_id(&self) -> String {
        format!("{:02x}{:02x}{:02x}", self.profile, self.constraints, self.level)
    }
}

fn read_sets(rest: &mut &[u8], count: u8, kind: u8) -> Option<Vec<Vec<u8>>> {
    let mut sets = Vec::new();
    for _ in 0..count {
        let (length, tail) = rest.split_first_chunk::<2>()?;
        let (nal, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        if nal_type(nal) == kind {
            sets.push(nal.to_vec());
        }
        *rest = tail;
    }
    Some(sets)
}
