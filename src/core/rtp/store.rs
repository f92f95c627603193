//! The packet store: the plain packets of one producer stream, kept once, as history for retransmission and
//! as the current group of pictures for a viewer who joins.
//!
//! It is a log in order of arrival. Each packet has an index that only grows; a consumer is a cursor into it.
//! Bytes lie in recycled segments, so a push allocates nothing once warm.

use std::time::Duration;

use crate::core::rtp::extension::ExtensionKind;
use crate::core::time::MediaTime;

/// First packet of a frame.
pub const FRAME_START: u8 = 1;
/// Last packet of a frame.
pub const FRAME_END: u8 = 2;
/// Part of a frame decoding can start at.
pub const KEYFRAME: u8 = 4;
/// Part of a frame no other refers to.
pub const DISCARDABLE: u8 = 8;

/// Bounds of one store.
#[derive(Clone, Copy, Debug)]
pub struct StoreLimits {
    /// Packets younger than this are kept for retransmission.
    pub history: Duration,
    /// A group of pictures older than this is given up.
    pub group_age: Duration,
    /// Bytes held at most, group and history together.
    pub max_bytes: usize,
    /// Packets held at most.
    pub max_packets: usize,
    /// Size of a segment: 64 KiB suits video, 4 KiB sound.
    pub segment: usize,
}

impl StoreLimits {
    /// For a video stream: one second of history, groups of up to 20 s and 16 MiB.
    pub const VIDEO: StoreLimits = StoreLimits {
        history: Duration::from_secs(1),
        group_age: Duration::from_secs(20),
        max_bytes: 16 << 20,
        max_packets: 32_768,
        segment: 64 << 10,
    };
    /// For an audio stream: one second of history, no group.
    pub const AUDIO: StoreLimits = StoreLimits {
        history: Duration::from_secs(1),
        group_age: Duration::ZERO,
        max_bytes: 256 << 10,
        max_packets: 512,
        segment: 8 << 10,
    };
}

/// What is known of a packet beside its bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PacketMeta {
    /// Extended sequence number.
    pub sequence: u64,
    /// Extended RTP timestamp.
    pub timestamp: u64,
    /// Media time.
    pub time: MediaTime,
    /// When it arrived.
    pub arrival: MediaTime,
    /// Marker bit.
    pub marker: bool,
    /// [`FRAME_START`], [`FRAME_END`], [`KEYFRAME`], [`DISCARDABLE`].
    pub flags: u8,
    /// The producer's payload type.
    pub payload_type: u8,
    /// The caller's tag for the codec.
    pub codec: u8,
}

impl PacketMeta {
    /// Whether all of `flags` are set.
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

/// A packet held.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// Its place in the log.
    pub index: u64,
    /// What is known of it.
    pub meta: PacketMeta,
    /// Its payload, without padding.
    pub payload: &'a [u8],
    extensions: &'a [u8],
}

impl<'a> Stored<'a> {
    /// Its header extension elements.
    pub fn extensions(&self) -> impl Iterator<Item = (ExtensionKind, &'a [u8])> {
        let _ = self.extensions;
        std::iter::empty()
    }

    /// One element.
    pub fn extension(&self, kind: ExtensionKind) -> Option<&'a [u8]> {
        self.extensions().find(|(known, _)| *known == kind).map(|(_, data)| data)
    }
}

/// The plain packets of one producer stream.
pub struct PacketStore {
    limits: StoreLimits,
}

impl PacketStore {
    /// An empty store.
    pub fn new(limits: StoreLimits) -> Self {
        PacketStore { limits }
    }

    /// Appends a packet and returns its index. What no longer fits the limits leaves at the other end.
    pub fn push<'e>(
        &mut self,
        meta: PacketMeta,
        extensions: impl IntoIterator<Item = (ExtensionKind, &'e [u8])>,
        payload: &[u8],
    ) -> u64 {
        let _ = (meta, extensions.into_iter().count(), payload, self.limits);
        todo!()
    }

    /// The packet at `index`, if it is still held.
    pub fn get(&self, index: u64) -> Option<Stored<'_>> {
        let _ = index;
        todo!()
    }

    /// The index the next packet will get.
    pub fn head(&self) -> u64 {
        todo!()
    }

    /// The oldest index held; equal to `head` when empty.
    pub fn tail(&self) -> u64 {
        todo!()
    }

    /// The index of the packet with extended sequence number `sequence`, if it is still held.
    pub fn find(&self, sequence: u64) -> Option<u64> {
        let _ = sequence;
        todo!()
    }

    /// Where the current group of pictures begins: the first packet of the newest keyframe, if it and all
    /// that came after it are held.
    pub fn keyframe(&self) -> Option<u64> {
        todo!()
    }

    /// Payload bytes from the keyframe on.
    pub fn group_bytes(&self) -> usize {
        todo!()
    }

    /// Packets from the keyframe on.
    pub fn group_packets(&self) -> usize {
        todo!()
    }

    /// Lets go of what is neither history nor current group. Call it now and then (each 100 ms or so), also when
    /// nothing arrives.
    pub fn trim(&mut self, now: MediaTime) {
        let _ = now;
        todo!()
    }

    /// Forgets the current group: the next keyframe begins a new one (codec or source changed).
    pub fn break_group(&mut self) {
        todo!()
    }

    /// Bytes of memory held, recycled segments included.
    pub fn memory(&self) -> usize {
        todo!()
    }
}
