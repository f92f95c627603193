//! The frames: H.264 fragmentation units (RFC 6184 §5.8) whose bytes mean nothing but their stamp.

/// Frames a second.
pub const FRAME_RATE: u64 = 30;
/// Packets of an ordinary frame.
pub const FRAME_PACKETS: usize = 7;
/// Packets of a keyframe, its parameter sets not counted.
pub const KEYFRAME_PACKETS: usize = 60;
/// Payload of a packet: with 20 bytes of header and 16 of tag a datagram has 1,200 bytes.
pub const PAYLOAD: usize = 1164;

const FU_A: u8 = 28;
const STAP_A: u8 = 24;
const NRI: u8 = 3 << 5;
/// The two header bytes of a fragment, then the stamp.
const STAMP: std::ops::Range<usize> = 2..10;

/// One packet of a frame.
#[derive(Clone, Debug)]
pub struct Piece {
    /// RTP payload.
    pub payload: Vec<u8>,
    /// Last of its frame.
    pub marker: bool,
}

impl Piece {
    /// Writes when it is sent, in nanoseconds since 1970; parameter sets have no place for it.
    pub fn stamp(&mut self, sent: u64) {
        if self.payload.len() == PAYLOAD {
            self.payload[STAMP].copy_from_slice(&sent.to_be_bytes());
        }
    }
}

/// The packets of a frame.
pub fn frame(key: bool) -> Vec<Piece> {
    let count = if key { KEYFRAME_PACKETS } else { FRAME_PACKETS };
    let parameters = key.then(parameter_sets);
    let fragments = (0..count).map(|number| {
        let (first, last) = (number == 0, number + 1 == count);
        let kind = if key { 5 } else { 1 };
        let mut payload = vec![0xa5; PAYLOAD];
        payload[0] = NRI | FU_A;
        payload[1] = u8::from(first) << 7 | u8::from(last) << 6 | kind;
        Piece { payload, marker: last }
    });
    parameters.into_iter().chain(fragments).collect()
}

/// SPS and PPS of a 640x360 baseline picture, in one packet.
fn parameter_sets() -> Piece {
    let sps = [0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x50];
    let pps = [0x68, 0xcb, 0x83, 0xcb, 0x20];
    let mut payload = vec![NRI | STAP_A];
    for unit in [&sps[..], &pps[..]] {
        payload.extend_from_slice(&(unit.len() as u16).to_be_bytes());
        payload.extend_from_slice(unit);
    }
    Piece { payload, marker: false }
}

/// What a received payload tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    /// When it was sent, nanoseconds since 1970.
    pub sent: u64,
    /// Part of a keyframe.
    pub key: bool,
}

/// Reads the stamp; `None` in parameter sets.
pub fn stamp(payload: &[u8]) -> Option<Stamp> {
    let (&first, &second) = (payload.first()?, payload.get(1)?);
    if first & 0x1f != FU_A {
        return None;
    }
    let bytes = payload.get(STAMP)?.try_into().ok()?;
    Some(Stamp { sent: u64::from_be_bytes(bytes), key: second & 0x1f == 5 })
}
