//! The packet store: the plain packets of one producer stream, kept once, as history for retransmission and
//! as the current group of pictures for a viewer who joins.
//!
//! It is a log in order of arrival. Each packet has an index that only grows; a consumer is a cursor into it.
//! Bytes lie in recycled segments, so a push allocates nothing once warm.

mod segments;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::rtp::extension::ExtensionKind;
use crate::core::rtp::layers::LayerFacts;
use crate::core::time::MediaTime;
use segments::{Segments, Spot};

/// First packet of a frame.
pub const FRAME_START: u8 = 1;
/// Last packet of a frame.
pub const FRAME_END: u8 = 2;
/// Part of a frame decoding can start at.
pub const KEYFRAME: u8 = 4;
/// Part of a frame no other refers to.
pub const DISCARDABLE: u8 = 8;

/// Bytes of header extension elements kept of one packet.
const MAX_ELEMENTS: usize = 1024;
/// Padding that is worth a longer run (bytes).
const MAX_PADDING: u16 = 8;
/// Segments that were not needed for so long, and for as long as a group may last, are given back.
const SETTLE_INTERVAL: Duration = Duration::from_secs(10);
/// How far back the first packet of a keyframe is looked for when a later one shows it to be one.
const START_SEARCH: u64 = 64;

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
    /// Size of a segment: 64 KiB suits video, 8 KiB sound.
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
    /// What it means to receivers of each layer.
    pub layers: LayerFacts,
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
    /// RTP padding that makes it as long as the packets of its frame behind it, as far as they are here: with it
    /// they can leave as one run. Encoders that split a frame "about equally" put the longer pieces last.
    pub padding: u8,
    extensions: &'a [u8],
}

impl<'a> Stored<'a> {
    /// Its header extension elements.
    pub fn extensions(&self) -> StoredExtensions<'a> {
        StoredExtensions { rest: self.extensions }
    }

    /// One element.
    pub fn extension(&self, kind: ExtensionKind) -> Option<&'a [u8]> {
        self.extensions().find(|(known, _)| *known == kind).map(|(_, data)| data)
    }
}

/// Iterator over the extension elements of a packet held.
#[derive(Clone, Debug)]
pub struct StoredExtensions<'a> {
    /// Kind, length, data; again and again.
    rest: &'a [u8],
}

impl<'a> Iterator for StoredExtensions<'a> {
    type Item = (ExtensionKind, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[kind, len], rest) = self.rest.split_first_chunk()?;
        let (data, rest) = rest.split_at_checked(usize::from(len))?;
        self.rest = rest;
        Some((ExtensionKind::from_number(kind)?, data))
    }
}

struct Slot {
    meta: PacketMeta,
    spot: Spot,
    extensions: u16,
    payload: u16,
    padding: u8,
    /// Payload bytes pushed before this packet, since the store was made.
    bytes_before: u64,
}

/// The plain packets of one producer stream.
pub struct PacketStore {
    limits: StoreLimits,
    slots: VecDeque<Slot>,
    /// Index of the first slot.
    tail: u64,
    segments: Segments,
    bytes_pushed: u64,
    /// First packet of the newest keyframe.
    group: Option<u64>,
    /// By the low bits of a sequence number, the index of the packet last stored under it.
    places: Box<[u64]>,
    last_push: MediaTime,
    settled: MediaTime,
}

impl PacketStore {
    /// An empty store.
    pub fn new(limits: StoreLimits) -> Self {
        PacketStore {
            limits,
            slots: VecDeque::new(),
            tail: 0,
            segments: Segments::new(limits.segment),
            bytes_pushed: 0,
            group: None,
            places: Box::default(),
            last_push: MediaTime(i64::MIN),
            settled: MediaTime(i64::MIN),
        }
    }

    /// Appends a packet and returns its index. What no longer fits the limits leaves at the other end.
    /// Payloads are cut at 65,535 bytes and elements at 1 KiB in all; no honest packet has more.
    pub fn push<'e>(
        &mut self,
        meta: PacketMeta,
        extensions: impl IntoIterator<Item = (ExtensionKind, &'e [u8]), IntoIter: Clone>,
        payload: &[u8],
    ) -> u64 {
        let mut room = 0;
        let elements = extensions.into_iter().take_while(move |(_, data)| {
            room += 2 + data.len();
            room <= MAX_ELEMENTS && data.len() <= 255
        });
        let payload = payload.get(..usize::from(u16::MAX)).unwrap_or(payload);
        let room = elements.clone().map(|(_, data)| 2 + data.len()).sum::<usize>();
        let (spot, mut place) = self.segments.reserve(room + payload.len());
        for (kind, data) in elements {
            place = put(place, &[kind as u8, data.len() as u8]);
            place = put(place, data);
        }
        put(place, payload);

        let index = self.head();
        self.slots.push_back(Slot {
            meta,
            spot,
            extensions: room as u16,
            payload: payload.len() as u16,
            padding: 0,
            bytes_before: self.bytes_pushed,
        });
        self.bytes_pushed += payload.len() as u64;
        self.last_push = self.last_push.max(meta.arrival);
        self.note_place(meta.sequence, index);
        self.note_keyframe(&meta, index);
        self.pad_up_to_newest();
        while self.slots.len() > self.limits.max_packets
            || self.segments.used() > self.limits.max_bytes && self.slots.len() > 1
        {
            self.drop_tail();
        }
        index
    }

    /// The packet at `index`, if it is still held.
    #[inline]
    pub fn get(&self, index: u64) -> Option<Stored<'_>> {
        let slot = self.slot(index)?;
        let extensions = usize::from(slot.extensions);
        let bytes = self.segments.get(slot.spot, extensions + usize::from(slot.payload))?;
        let (extensions, payload) = bytes.split_at_checked(extensions)?;
        Some(Stored { index, meta: slot.meta, payload, padding: slot.padding, extensions })
    }

    /// What is known of the packet at `index`, without its bytes.
    pub fn meta(&self, index: u64) -> Option<&PacketMeta> {
        self.slot(index).map(|slot| &slot.meta)
    }

    /// The index the next packet will get.
    pub fn head(&self) -> u64 {
        self.tail + self.slots.len() as u64
    }

    /// The oldest index held; equal to `head` when empty.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// The index of the packet with extended sequence number `sequence`, if it is still held.
    pub fn find(&self, sequence: u64) -> Option<u64> {
        let mask = self.places.len().checked_sub(1)? as u64;
        let index = *self.places.get((sequence & mask) as usize)?;
        self.slot(index).filter(|slot| slot.meta.sequence == sequence).map(|_| index)
    }

    /// Where the current group of pictures begins: the first packet of the newest keyframe, if it and all
    /// that came after it are held.
    pub fn keyframe(&self) -> Option<u64> {
        self.group
    }

    /// How much has come since the current group of pictures began, as time in microseconds.
    pub fn keyframe_age(&self) -> Option<i64> {
        let start = self.slot(self.group?)?;
        Some(self.last_push.micros_since(start.meta.arrival))
    }

    /// Whether all packets of the frame that begins at `index` are here, the last one included.
    pub fn is_frame_whole(&self, index: u64) -> bool {
        let Some(first) = self.meta(index) else { return false };
        let (mut count, mut last) = (0, None);
        for meta in (index..self.head()).filter_map(|at| self.meta(at)) {
            if meta.timestamp == first.timestamp {
                count += 1;
                last = last.or(meta.has(FRAME_END).then_some(meta.sequence));
            }
        }
        last.is_some_and(|last| last.wrapping_sub(first.sequence).wrapping_add(1) == count)
    }

    /// Payload bytes from the keyframe on.
    pub fn group_bytes(&self) -> usize {
        let start = self.group.and_then(|group| self.slot(group));
        start.map_or(0, |slot| (self.bytes_pushed - slot.bytes_before) as usize)
    }

    /// Packets from the keyframe on.
    pub fn group_packets(&self) -> usize {
        self.group.map_or(0, |group| (self.head() - group) as usize)
    }

    /// Lets go of what is neither history nor current group. Call it now and then (each 100 ms or so), also when
    /// nothing arrives.
    pub fn trim(&mut self, now: MediaTime) {
        let start = self.group.and_then(|group| self.slot(group));
        if start.is_some_and(|slot| older(now, slot.meta.arrival, self.limits.group_age)) {
            self.group = None;
        }
        let keep = self.group.unwrap_or(u64::MAX);
        while self.tail < keep
            && self.slots.front().is_some_and(|slot| older(now, slot.meta.arrival, self.limits.history))
        {
            self.drop_tail();
        }
        if older(now, self.last_push, self.limits.history) {
            self.segments.shrink();
        }
        if older(now, self.settled, self.limits.group_age + SETTLE_INTERVAL) {
            self.settled = now;
            self.segments.settle();
        }
        if self.slots.is_empty() && self.slots.capacity() > 0 {
            self.slots = VecDeque::new();
            self.places = Box::default();
        }
    }

    /// Forgets the current group: the next keyframe begins a new one (codec or source changed).
    pub fn break_group(&mut self) {
        self.group = None;
    }

    /// Bytes of memory held, recycled segments included.
    pub fn memory(&self) -> usize {
        self.segments.memory()
            + self.slots.capacity() * size_of::<Slot>()
            + self.places.len() * size_of::<u64>()
    }

    fn slot(&self, index: u64) -> Option<&Slot> {
        self.slots.get(usize::try_from(index.checked_sub(self.tail)?).ok()?)
    }

    fn drop_tail(&mut self) {
        if let Some(slot) = self.slots.pop_front() {
            if self.group == Some(self.tail) {
                self.group = None;
            }
            self.tail += 1;
            let oldest = self.slots.front().map_or(u64::MAX, |next| next.spot.segment);
            self.segments.release(slot.spot, oldest);
        }
    }

    fn note_place(&mut self, sequence: u64, index: u64) {
        if self.places.len() < 2 * self.slots.len() {
            let size = (4 * self.slots.len()).next_power_of_two().max(64);
            self.places = vec![u64::MAX; size].into();
            for (at, slot) in self.slots.iter().enumerate() {
                let place = (slot.meta.sequence & (size as u64 - 1)) as usize;
                self.places[place] = self.tail + at as u64;
            }
        }
        let mask = self.places.len() as u64 - 1;
        self.places[(sequence & mask) as usize] = index;
    }

    /// Gives the packets right before the newest, where they are of its frame and a little shorter, padding.
    fn pad_up_to_newest(&mut self) {
        let mut slots = self.slots.iter_mut().rev();
        let Some(newest) = slots.next() else { return };
        let (timestamp, len, mut sequence) = (newest.meta.timestamp, newest.payload, newest.meta.sequence);
        for slot in slots {
            sequence = sequence.wrapping_sub(1);
            let place = (slot.meta.timestamp, slot.meta.sequence) == (timestamp, sequence);
            let short = len.saturating_sub(slot.payload);
            if !place || short == 0 || short > MAX_PADDING || slot.payload == 0 {
                return;
            }
            slot.padding = short as u8;
        }
    }

    /// A keyframe begins a group at its first packet, also when only a later packet shows that it is one.
    fn note_keyframe(&mut self, meta: &PacketMeta, index: u64) {
        if !meta.has(KEYFRAME) || self.limits.group_age.is_zero() {
            return;
        }
        let current = self.group.and_then(|group| self.slot(group));
        if current.is_some_and(|slot| slot.meta.timestamp >= meta.timestamp) {
            return; // the same frame, or a late packet of an older one
        }
        let mut at = index;
        loop {
            match self.slot(at) {
                Some(slot) if slot.meta.timestamp == meta.timestamp => {
                    if slot.meta.has(FRAME_START) {
                        self.group = Some(at);
                        return;
                    }
                }
                // Packets of other frames may lie between when packets came out of order.
                Some(_) => {}
                None => return,
            }
            if index - at >= START_SEARCH || at == 0 {
                return;
            }
            at -= 1;
        }
    }
}

fn put<'a>(place: &'a mut [u8], data: &[u8]) -> &'a mut [u8] {
    let (head, rest) = place.split_at_mut(data.len());
    head.copy_from_slice(data);
    rest
}

fn older(now: MediaTime, then: MediaTime, age: Duration) -> bool {
    now.micros_since(then) > age.as_micros() as i64
}
