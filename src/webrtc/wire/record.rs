//! DTLS records (RFC 6347 §4.1) and the pieces of handshake messages in them (§4.2.2, §4.2.3).
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;

use super::bytes::{Bytes, put};

/// Content types.
pub mod content {
    /// The ciphers change with the next record.
    pub const CHANGE_CIPHER_SPEC: u8 = 20;
    /// Alerts.
    pub const ALERT: u8 = 21;
    /// Handshake messages.
    pub const HANDSHAKE: u8 = 22;
    /// What the handshake was for.
    pub const APPLICATION_DATA: u8 = 23;
}

/// DTLS 1.2.
pub const VERSION: u16 = 0xfefd;
/// Bytes before a record's content.
pub const HEADER: usize = 13;
/// Bytes before a piece of a message.
pub const FRAGMENT_HEADER: usize = 12;
/// The longest content (RFC 5246 §6.2.1), with room for what encryption adds.
const MAX_CONTENT: usize = (1 << 14) + 2048;
/// The longest message: a certificate with its chain has room.
const MAX_MESSAGE: usize = 32_768;
/// Messages that may be under way at once: more than there are in any flight.
const MAX_AHEAD: u16 = 8;

/// One record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Record<'a> {
    /// One of [`content`].
    pub kind: u8,
    /// Which keys it is under.
    pub epoch: u16,
    /// Its number within the epoch.
    pub sequence: u64,
    /// Its content.
    pub content: &'a [u8],
}

/// The records of a datagram, up to the first that makes no sense.
pub fn records(datagram: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = Bytes(datagram);
    std::iter::from_fn(move || {
        let kind = rest.u8().filter(|kind| (20..=23).contains(kind))?;
        // The first ClientHello may say 1.0; whatever 1.x there is looks the same.
        rest.u8().filter(|major| *major == 0xfe)?;
        rest.u8()?;
        let (epoch, sequence) = (rest.u16()?, rest.number(6)?);
        let content = rest.vector(2).filter(|content| content.len() <= MAX_CONTENT)?;
        Some(Record { kind, epoch, sequence, content })
    })
}

/// Adds a record's header before `length` bytes of content.
pub fn put_header(out: &mut Vec<u8>, kind: u8, epoch: u16, sequence: u64, length: usize) {
    out.push(kind);
    out.extend(VERSION.to_be_bytes());
    out.extend(epoch.to_be_bytes());
    put(out, sequence, 6);
    put(out, length as u64, 2);
}

/// A piece of a handshake message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fragment<'a> {
    /// The message's type.
    pub kind: u8,
    /// Bytes of the whole message.
    pub total: usize,
    /// The message's number.
    pub sequence: u16,
    /// Where the piece belongs.
    pub offset: usize,
    /// The piece.
    pub body: &'a [u8],
}

/// The pieces in a record of kind [`content::HANDSHAKE`].
pub fn fragments(record: &[u8]) -> impl Iterator<Item = Fragment<'_>> {
    let mut rest = Bytes(record);
    std::iter::from_fn(move || {
        let (kind, total, sequence, offset) = (rest.u8()?, rest.u24()?, rest.u16()?, rest.u24()?);
        let body = rest.vector(3)?;
        let fits = offset.checked_add(body.len())? <= total && total <= MAX_MESSAGE;
        fits.then_some(Fragment { kind, total, sequence, offset, body })
    })
}

/// Adds the header of a piece.
pub fn put_fragment_header(
    out: &mut Vec<u8>,
    (kind, sequence): (u8, u16),
    total: usize,
    offset: usize,
    length: usize,
) {
    out.push(kind);
    put(out, total as u64, 3);
    out.extend(sequence.to_be_bytes());
    put(out, offset as u64, 3);
    put(out, length as u64, 3);
}

/// A whole handshake message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// Its type.
    pub kind: u8,
    /// Its number.
    pub sequence: u16,
    /// Its body.
    pub body: Vec<u8>,
}

struct Partial {
    kind: u8,
    body: Vec<u8>,
    seen: Vec<bool>,
    missing: usize,
}

/// Puts messages together and in order.
#[derive(Default)]
pub struct Assembler {
    next: u16,
    partial: BTreeMap<u16, Partial>,
}

impl Assembler {
    /// Number of the message that comes next.
    pub fn next(&self) -> u16 {
        self.next
    }

    /// Takes a piece, unless it is of a message that was there already, or of one far ahead.
    pub fn push(&mut self, fragment: &Fragment<'_>) {
        let ahead = fragment.sequence.wrapping_sub(self.next);
        if ahead >= MAX_AHEAD {
            return;
        }
        let new = || Partial {
            kind: fragment.kind,
            body: vec![0; fragment.total],
            seen: vec![false; fragment.total],
            missing: fragment.total,
        };
        let partial = self.partial.entry(fragment.sequence).or_insert_with(new);
        if partial.kind != fragment.kind || partial.body.len() != fragment.total {
            return;
        }
        let room = partial.body.iter_mut().zip(&mut partial.seen).skip(fragment.offset);
        for ((byte, seen), from) in room.zip(fragment.body) {
            if !std::mem::replace(seen, true) {
                partial.missing = partial.missing.saturating_sub(1);
                *byte = *from;
            }
        }
    }

    /// The next message, once it is whole.
    pub fn pop(&mut self) -> Option<Message> {
        let sequence = self.next;
        self.partial.get(&sequence).filter(|partial| partial.missing == 0)?;
        let Partial { kind, body, .. } = self.partial.remove(&sequence)?;
        self.next = self.next.wrapping_add(1);
        Some(Message { kind, sequence, body })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_swapped_and_overlapping_pieces_is_put_together_once() {
        let body: Vec<u8> = (0..100).collect();
        let piece = |sequence, from: usize, to: usize| Fragment {
            kind: 1,
            total: 100,
            sequence,
            offset: from,
            body: &body[from..to],
        };
        let mut assembler = Assembler::default();
        for (from, to) in [(60, 100), (0, 30), (20, 50)] {
            assembler.push(&piece(0, from, to));
            assert_eq!(assembler.pop(), None);
        }
        assembler.push(&Fragment { total: 90, ..piece(0, 50, 60) });
        assembler.push(&Fragment { kind: 2, ..piece(0, 50, 60) });
        assert_eq!(assembler.pop(), None, "pieces of another message");
        assembler.push(&piece(1, 0, 100));
        assembler.push(&piece(0, 40, 70));
        assert_eq!(assembler.pop().unwrap(), Message { kind: 1, sequence: 0, body: body.clone() });
        assert_eq!(assembler.pop().unwrap().sequence, 1);
        assembler.push(&piece(0, 0, 100));
        assembler.push(&piece(2 + MAX_AHEAD, 0, 100));
        assert!(assembler.pop().is_none() && assembler.partial.is_empty());
    }

    #[test]
    fn records_stop_at_the_first_that_makes_no_sense() {
        let mut datagram = Vec::new();
        put_header(&mut datagram, content::HANDSHAKE, 1, 0x0102_0304_0506, 3);
        datagram.extend([7, 8, 9]);
        let one = Record { kind: 22, epoch: 1, sequence: 0x0102_0304_0506, content: &[7, 8, 9] };
        for rest in [&[][..], &[22, 0xfe], &[22, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[40; 20]] {
            let whole = [&datagram[..], rest].concat();
            assert_eq!(records(&whole).collect::<Vec<_>>(), [one]);
        }
    }
}
