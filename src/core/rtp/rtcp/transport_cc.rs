//! Transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
//!
//! Behind the header come status chunks (two bytes each, runs or vectors of symbols), then a delta in
//! units of 250 µs for each packet received: one byte, or two signed ones.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::read::Reader;

/// Microseconds of a delta's unit.
const DELTA: i64 = 250;
/// Microseconds of the reference time's unit.
const REFERENCE: i64 = 64_000;
/// The reference time has 24 bits.
const REFERENCE_MASK: i64 = 0xff_ffff;

/// Feedback on a run of transport-wide sequence numbers.
#[derive(Clone, Copy, Debug)]
pub struct TransportFeedback<'a> {
    /// Who reports.
    pub sender: u32,
    /// Any stream of the transport.
    pub media: u32,
    /// First sequence number reported on.
    pub base: u16,
    /// How many are reported on.
    pub count: u16,
    /// Reference time in units of 64 ms, 24 bits, signed.
    pub reference: i32,
    /// Counts feedback packets.
    pub number: u8,
    body: &'a [u8],
}

/// What became of one packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Arrival {
    /// Transport-wide sequence number.
    pub sequence: u16,
    /// Microseconds on the receiver's clock, modulo 2^24 · 64 ms; `None`: lost.
    pub time: Option<i64>,
}

impl<'a> TransportFeedback<'a> {
    /// Reads from the sender's SSRC on.
    pub(super) fn read(mut reader: Reader<'a>) -> Option<Self> {
        let (sender, media) = (reader.u32()?, reader.u32()?);
        let (base, count) = (reader.u16()?, reader.u16()?);
        let [r0, r1, r2, number] = reader.u32()?.to_be_bytes();
        let reference = i32::from_be_bytes([r0, r1, r2, 0]) >> 8;
        Some(TransportFeedback { sender, media, base, count, reference, number, body: reader.0 })
    }

    /// Each packet reported on, in order. Ends early where the message is malformed.
    pub fn arrivals(&self) -> Arrivals<'a> {
        Arrivals {
            symbols: Symbols { chunks: Reader(self.body), left: self.count, chunk: Chunk::Done },
            deltas: Reader(self.deltas().unwrap_or(&[])),
            sequence: self.base,
            time: i64::from(self.reference).saturating_mul(REFERENCE),
        }
    }

    /// What stands behind the status chunks.
    fn deltas(&self) -> Option<&'a [u8]> {
        let mut symbols = Symbols { chunks: Reader(self.body), left: self.count, chunk: Chunk::Done };
        while symbols.left > 0 {
            symbols.next()?;
        }
        Some(symbols.chunks.0)
    }
}

/// Iterator over [`Arrival`]s.
#[derive(Clone, Debug)]
pub struct Arrivals<'a> {
    symbols: Symbols<'a>,
    deltas: Reader<'a>,
    sequence: u16,
    time: i64,
}

impl Iterator for Arrivals<'_> {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let delta = match self.symbols.next()? {
            1 => Some(i64::from(self.deltas.u8()?)),
            2 => Some(i64::from(self.deltas.u16()?.cast_signed())),
            _ => None,
        };
        let time = delta.map(|delta| {
            self.time = self.time.saturating_add(delta.saturating_mul(DELTA));
            self.time
        });
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        Some(Arrival { sequence, time })
    }
}

/// The status symbols of the chunks: 0 lost, 1 small delta, 2 large delta.
#[derive(Clone, Debug)]
struct Symbols<'a> {
    chunks: Reader<'a>,
    left: u16,
    chunk: Chunk,
}

#[derive(Clone, Copy, Debug)]
enum Chunk {
    Run { symbol: u8, left: u16 },
    Vector { bits: u16, width: u8, left: u8 },
    Done,
}

impl Iterator for Symbols<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        self.left = self.left.checked_sub(1)?;
        loop {
            match &mut self.chunk {
                Chunk::Run { symbol, left } if *left > 0 => {
                    *left = left.saturating_sub(1);
                    return Some(*symbol);
                }
                Chunk::Vector { bits, width, left } if *left > 0 => {
                    *left = left.saturating_sub(1);
                    // Symbols are read from the top of the 16 bits.
                    let symbol = bits.wrapping_shr(16u32.saturating_sub(u32::from(*width))) as u8;
                    *bits = bits.wrapping_shl(u32::from(*width));
                    return Some(symbol);
                }
                _ => {
                    let word = self.chunks.u16()?;
                    self.chunk = if word & 0x8000 == 0 {
                        Chunk::Run { symbol: ((word >> 13) & 3) as u8, left: word & 0x1fff }
                    } else if word & 0x4000 == 0 {
                        Chunk::Vector { bits: word.wrapping_shl(2), width: 1, left: 14 }
                    } else {
                        Chunk::Vector { bits: word.wrapping_shl(2), width: 2, left: 7 }
                    };
                }
            }
        }
    }
}

/// Writes chunks and deltas for `arrivals`, which stand behind the header; returns the reference time and how
/// many went in. A step in time that no delta can hold ends the list.
pub(super) fn write_body(out: &mut Vec<u8>, arrivals: &[Arrival]) -> (u32, usize) {
    let first = arrivals.iter().find_map(|arrival| arrival.time).unwrap_or(0);
    let reference = first.div_euclid(REFERENCE);
    let deltas = deltas(reference.saturating_mul(REFERENCE), arrivals);
    write_chunks(out, &deltas);
    for delta in deltas.iter().flatten() {
        match u8::try_from(*delta) {
            Ok(small) => out.push(small),
            Err(_) => out.extend_from_slice(&delta.to_be_bytes()),
        }
    }
    ((reference & REFERENCE_MASK) as u32, deltas.len())
}

fn deltas(mut time: i64, arrivals: &[Arrival]) -> Vec<Option<i16>> {
    let mut deltas = Vec::with_capacity(arrivals.len());
    for arrival in arrivals {
        let delta = match arrival.time {
            None => None,
            Some(next) => match i16::try_from(next.saturating_sub(time).div_euclid(DELTA)) {
                Ok(delta) => Some(delta),
                Err(_) => break,
            },
        };
        time = time.saturating_add(i64::from(delta.unwrap_or(0)).saturating_mul(DELTA));
        deltas.push(delta);
    }
    deltas
}

fn symbol(delta: &Option<i16>) -> u16 {
    match delta {
        None => 0,
        Some(0..=255) => 1,
        Some(_) => 2,
    }
}

fn write_chunks(out: &mut Vec<u8>, mut deltas: &[Option<i16>]) {
    while let Some(first) = deltas.first() {
        let first = symbol(first);
        let run = deltas.iter().take(0x1fff).take_while(|delta| symbol(delta) == first).count();
        let narrow = deltas.iter().take(14).all(|delta| symbol(delta) < 2);
        let (chunk, taken) = if run >= if narrow { 14 } else { 7 } || run == deltas.len() {
            (first.wrapping_shl(13) | run as u16, run)
        } else {
            let (tag, width, count) = if narrow { (0x8000, 1, 14) } else { (0xc000, 2, 7) };
            let bits = |bits: u16, n: usize| bits.wrapping_shl(width) | deltas.get(n).map_or(0, symbol);
            (tag | (0..count).fold(0u16, bits), count)
        };
        out.extend_from_slice(&chunk.to_be_bytes());
        deltas = deltas.get(taken..).unwrap_or(&[]);
    }
}
