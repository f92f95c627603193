//! Flights (RFC 6347 §4.2.4): what is sent together, and sent again until it is answered; and the records they leave in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::secrets::{OVERHEAD, RecordKey};
use crate::webrtc::wire::record::{self, FRAGMENT_HEADER, HEADER, Record, content};

/// What the other side sends again is answered again, but not more often.
const ANSWER_GAP: Duration = Duration::from_millis(50);
/// The longest time between two tries.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// Records that came before their keys.
const MAX_EARLY: usize = 8;
/// The smallest piece of a message worth sending.
const MIN_PIECE: usize = 32;

/// Part of a flight.
pub enum Part {
    /// A handshake message; the last one of each side is sealed.
    Message {
        /// Its type.
        kind: u8,
        /// Its number.
        sequence: u16,
        /// Its body.
        body: Vec<u8>,
        /// Under the new keys.
        sealed: bool,
    },
    /// The next record is under the new keys.
    ChangeCipherSpec,
}

/// Records out and in: numbers, keys, and which numbers were there already.
#[derive(Default)]
pub struct Records {
    /// Numbers of the next records of epochs 0 and 1.
    next: [u64; 2],
    /// Seals ours.
    pub write: Option<RecordKey>,
    /// Opens theirs.
    pub read: Option<RecordKey>,
    /// The highest number of epoch 1 that came, and the 64 before it.
    window: Option<(u64, u64)>,
    early: VecDeque<(u8, u64, Vec<u8>)>,
}

impl Records {
    /// Adds a record to a datagram.
    pub fn put(&mut self, kind: u8, data: &[u8], sealed: bool, out: &mut Vec<u8>) -> Option<()> {
        let next = &mut self.next[usize::from(sealed)];
        let sequence = *next;
        *next += 1;
        if sealed {
            return self.write.as_ref()?.seal(kind, 1, sequence, data, out);
        }
        record::put_header(out, kind, 0, sequence, data.len());
        out.extend(data);
        Some(())
    }

    /// The content of a record of epoch 1, unless it was there already or nobody who has the key sealed it.
    pub fn open(&mut self, record: &Record<'_>) -> Option<Vec<u8>> {
        let Some(key) = &self.read else {
            if self.early.len() < MAX_EARLY {
                self.early.push_back((record.kind, record.sequence, record.content.to_vec()));
            }
            return None;
        };
        let (highest, seen) = self.window.unwrap_or((record.sequence, 0));
        let age = highest.checked_sub(record.sequence);
        if age.is_some_and(|age| age >= 64 || seen >> age & 1 == 1) {
            return None;
        }
        let content = key.open(record)?;
        self.window = Some(match age {
            Some(age) => (highest, seen | 1 << age),
            None => {
                let step = record.sequence - highest;
                (record.sequence, if step < 64 { seen << step | 1 } else { 1 })
            }
        });
        Some(content)
    }

    /// A record that came before its key, once the key is there.
    pub fn next_early(&mut self) -> Option<(u8, Vec<u8>)> {
        self.read.as_ref()?;
        while let Some((kind, sequence, data)) = self.early.pop_front() {
            if let Some(opened) = self.open(&Record { kind, epoch: 1, sequence, content: &data }) {
                return Some((kind, opened));
            }
        }
        None
    }
}

/// The last flight of ours.
#[derive(Default)]
pub struct Flight {
    parts: Vec<Part>,
    /// Number of our next message.
    next: u16,
    /// Messages of the other side that it answers, by the number behind the last.
    answers: u16,
    sent: Option<Instant>,
    due: Option<Instant>,
    tries: usize,
}

impl Flight {
    /// Begins a new flight: the one before was answered.
    pub fn clear(&mut self) {
        self.parts.clear();
        self.due = None;
        self.tries = 0;
    }

    /// The number of the next message.
    pub fn number(&mut self) -> u16 {
        self.next += 1;
        self.next - 1
    }

    /// Adds a part.
    pub fn push(&mut self, part: Part) {
        self.parts.push(part);
    }

    /// It is complete. `answers`: the number of the message that comes next; `wait`: an answer is expected.
    pub fn seal(&mut self, now: Instant, answers: u16, wait: Option<Duration>) {
        self.answers = answers;
        self.sent = Some(now);
        self.due = wait.map(|wait| now + wait);
    }

    /// When it is sent again.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It was answered.
    pub fn rest(&mut self) {
        self.due = None;
    }

    /// Sets the time of the next try; `false` when there were enough.
    pub fn retry(&mut self, now: Instant, first: Duration, most: usize) -> bool {
        self.tries += 1;
        let wait = first.saturating_mul(1 << self.tries.min(16)).min(MAX_WAIT);
        self.sent = Some(now);
        self.due = Some(now + wait);
        self.tries <= most
    }

    /// Whether a message that came again shows that this flight got lost.
    pub fn is_missed(&mut self, now: Instant, sequence: u16) -> bool {
        let long = self.sent.is_none_or(|sent| now.saturating_duration_since(sent) >= ANSWER_GAP);
        let missed = sequence < self.answers && !self.parts.is_empty() && long;
        if missed {
            self.sent = Some(now);
        }
        missed
    }

    /// Its datagrams, of `mtu` bytes at most, in records of new numbers.
    pub fn datagrams(&self, records: &mut Records, mtu: usize, mut out: impl FnMut(Vec<u8>)) -> Option<()> {
        let mut datagram = Vec::new();
        for part in &self.parts {
            let (kind, sequence, body, sealed) = match part {
                Part::Message { kind, sequence, body, sealed } => (*kind, *sequence, body, *sealed),
                Part::ChangeCipherSpec => {
                    if datagram.len() + HEADER + 1 > mtu {
                        out(std::mem::take(&mut datagram));
                    }
                    records.put(content::CHANGE_CIPHER_SPEC, &[1], false, &mut datagram)?;
                    continue;
                }
            };
            let frame = HEADER + FRAGMENT_HEADER + if sealed { OVERHEAD } else { 0 };
            let mut offset = 0;
            loop {
                let rest = body.len() - offset;
                if !datagram.is_empty() && datagram.len() + frame + rest.min(MIN_PIECE) > mtu {
                    out(std::mem::take(&mut datagram));
                }
                let room = mtu.saturating_sub(datagram.len() + frame).max(MIN_PIECE);
                let piece = &body[offset..offset + rest.min(room)];
                let mut content = Vec::with_capacity(FRAGMENT_HEADER + piece.len());
                record::put_fragment_header(&mut content, (kind, sequence), body.len(), offset, piece.len());
                content.extend(piece);
                records.put(content::HANDSHAKE, &content, sealed, &mut datagram)?;
                offset += piece.len();
                if offset >= body.len() {
                    break;
                }
            }
        }
        if !datagram.is_empty() {
            out(datagram);
        }
        Some(())
    }
}
