//! Opus packets (RFC 6716 §3.1, RFC 7587): one packet is one payload. Its length in time stands in the first
//! byte.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Samples at 48 kHz that a packet lasts; `None` when it is empty or longer than 120 ms.
pub fn duration(packet: &[u8]) -> Option<u32> {
    let (&toc, rest) = packet.split_first()?;
    let config = toc.wrapping_shr(3);
    let frame: u32 = match config {
        0..=11 => *[480, 960, 1920, 2880].get(usize::from(config & 3))?,
        12..=15 => *[480, 960].get(usize::from(config & 1))?,
        _ => *[120, 240, 480, 960].get(usize::from(config & 3))?,
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(rest.first()? & 0x3f),
    };
    frame.checked_mul(frames).filter(|samples| (1..=5760).contains(samples))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration(&[0xfc, 0]), Some(960));
        assert_eq!(duration(&[0x0b, 0x03]), Some(2880));
        assert_eq!(duration(&[0x78, 0]), Some(960));
        assert_eq!(duration(&[0xff, 0x3f]), None);
        assert_eq!(duration(&[]), None);
    }
}
