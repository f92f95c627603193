//! Bytes of RTMP, read and written: handshake, chunks, AMF0, the bodies of audio and video messages.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod amf0;
pub mod chunk;
pub mod flv;
pub mod handshake;
pub mod url;

/// Message types (specification 1.0, sections 5.4 and 7.1).
pub mod kind {
    /// Set Chunk Size.
    pub const SET_CHUNK_SIZE: u8 = 1;
    /// Abort Message.
    pub const ABORT: u8 = 2;
    /// Acknowledgement.
    pub const ACK: u8 = 3;
    /// User Control.
    pub const USER_CONTROL: u8 = 4;
    /// Window Acknowledgement Size.
    pub const WINDOW_ACK_SIZE: u8 = 5;
    /// Set Peer Bandwidth.
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    /// Audio.
    pub const AUDIO: u8 = 8;
    /// Video.
    pub const VIDEO: u8 = 9;
    /// Data in AMF3.
    pub const DATA_AMF3: u8 = 15;
    /// Command in AMF3.
    pub const COMMAND_AMF3: u8 = 17;
    /// Data in AMF0.
    pub const DATA_AMF0: u8 = 18;
    /// Command in AMF0.
    pub const COMMAND_AMF0: u8 = 20;
    /// Several messages in one.
    pub const AGGREGATE: u8 = 22;
}

/// Takes `count` bytes off the front.
pub(crate) fn take<'a>(data: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = data.split_at_checked(count)?;
    *data = tail;
    Some(head)
}

/// Takes a big-endian number of up to eight bytes off the front.
pub(crate) fn take_uint(data: &mut &[u8], bytes: usize) -> Option<u64> {
    Some(take(data, bytes)?.iter().fold(0, |value, &byte| (value << 8) | u64::from(byte)))
}

/// Takes one byte off the front.
pub(crate) fn take_u8(data: &mut &[u8]) -> Option<u8> {
    let (&first, tail) = data.split_first()?;
    *data = tail;
    Some(first)
}

/// Takes a 32-bit big-endian number off the front.
pub(crate) fn take_u32(data: &mut &[u8]) -> Option<u32> {
    take_uint(data, 4).map(|value| value as u32)
}
