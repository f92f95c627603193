//! Netstrings, `<decimal length>:<payload>,`: the framing of the control protocol, read piece by piece.
//!
//! The limit on a payload is the caller's: 65,536 bytes on a worker process's descriptor 3, 4 MiB between
//! our own threads. A reader that has failed stays failed until its owner says otherwise: a peer that breaks
//! the framing is best left, but a worker process has only one channel, and rooms that hang on it.

#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::io::Write;

/// The limit on a payload between our own threads.
pub const INSIDE_LIMIT: usize = 4 << 20;
/// The limit on a payload on descriptor 3 of a worker process.
pub const CHANNEL_LIMIT: usize = 65_536;
/// A length of more digits is none.
const MAX_DIGITS: usize = 9;

/// The framing is lost, or a message may not be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NetstringError {
    /// The length is no plain decimal number.
    #[error("a netstring begins with its length in decimal")]
    BadLength,
    /// The payload is longer than the limit.
    #[error("a message is longer than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// The payload is not followed by a comma.
    #[error("a netstring ends with a comma")]
    NoComma,
}

impl NetstringError {
    /// Whether a remote party can bring this about: always.
    pub fn is_expected(&self) -> bool {
        true
    }
}

/// Cuts a byte stream into payloads.
pub struct Reader {
    buffer: Vec<u8>,
    consumed: usize,
    /// Bytes still to come of a message that was too long.
    skip: usize,
    limit: usize,
    failed: Option<NetstringError>,
}

impl Reader {
    /// A reader of payloads of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Reader { buffer: Vec::new(), consumed: 0, skip: 0, limit, failed: None }
    }

    /// Takes bytes in. Drain [`next_payload`](Self::next_payload) afterwards: then no more than one
    /// unfinished message is ever held.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        self.buffer.drain(..self.consumed.min(self.buffer.len()));
        self.consumed = 0;
        let passed = self.skip.min(bytes.len());
        self.skip = self.skip.saturating_sub(passed);
        self.buffer.extend_from_slice(bytes.get(passed..).unwrap_or_default());
    }

    /// The next whole payload, if it is there.
    pub fn next_payload(&mut self) -> Result<Option<&[u8]>, NetstringError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let waiting = self.buffer.get(self.consumed..).unwrap_or_default();
        match split(waiting, self.limit) {
            Ok(Some((start, len))) => {
                let start = self.consumed.saturating_add(start);
                let end = start.saturating_add(len);
                self.consumed = end.saturating_add(1);
                Ok(self.buffer.get(start..end))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                self.failed = Some(error);
                Err(error)
            }
        }
    }

    /// Goes on after a fault. Of a message that was too long only itself is lost. After any other fault
    /// nothing tells where the next message begins, so what looks like the head of one is taken for it.
    pub fn recover(&mut self) {
        let Some(error) = self.failed.take() else { return };
        let waiting = self.buffer.get(self.consumed..).unwrap_or_default();
        let lost = match (error, header(waiting)) {
            (NetstringError::TooLong { .. }, Ok(Some((start, len)))) => {
                start.saturating_add(len).saturating_add(1)
            }
            _ => (1..waiting.len()).find(|at| begins(waiting, *at)).unwrap_or(waiting.len()),
        };
        let here = lost.min(waiting.len());
        self.consumed = self.consumed.saturating_add(here);
        self.skip = lost.saturating_sub(here);
    }

    /// How many bytes wait for the rest of their message.
    pub fn buffered(&self) -> usize {
        self.buffer.len().saturating_sub(self.consumed)
    }
}

/// Where the first payload of `bytes` starts and how long it is, once it is whole.
fn split(bytes: &[u8], limit: usize) -> Result<Option<(usize, usize)>, NetstringError> {
    let Some((start, len)) = header(bytes)? else { return Ok(None) };
    if len > limit {
        return Err(NetstringError::TooLong { limit });
    }
    match bytes.get(start.saturating_add(len)) {
        None => Ok(None),
        Some(b',') => Ok(Some((start, len))),
        Some(_) => Err(NetstringError::NoComma),
    }
}

/// Where the first payload of `bytes` starts and how long it says it is, once its length is there.
fn header(bytes: &[u8]) -> Result<Option<(usize, usize)>, NetstringError> {
    let (mut len, mut digits) = (0usize, 0usize);
    for byte in bytes {
        match byte {
            b':' if digits > 0 => return Ok(Some((digits.saturating_add(1), len))),
            // A leading zero stands only for the empty payload.
            b'0'..=b'9' if digits < MAX_DIGITS && !(digits > 0 && len == 0) => {
                digits = digits.saturating_add(1);
                len = len.saturating_mul(10).saturating_add(usize::from(byte.wrapping_sub(b'0')));
            }
            _ => return Err(NetstringError::BadLength),
        }
    }
    Ok(None)
}

/// Whether a message seems to begin at `at`: a length and a JSON object. Within JSON no number stands before a
/// colon, but in a text.
fn begins(bytes: &[u8], at: usize) -> bool {
    let Some((before, rest)) = bytes.split_at_checked(at) else { return false };
    !before.last().is_some_and(u8::is_ascii_digit)
        && match header(rest) {
            Ok(Some((start, _))) => matches!(rest.get(start), None | Some(b'{')),
            Ok(None) => rest.first().is_some_and(u8::is_ascii_digit),
            Err(_) => false,
        }
}

/// Appends `payload` as a netstring to `out`.
pub fn write(payload: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), NetstringError> {
    if payload.len() > limit {
        return Err(NetstringError::TooLong { limit });
    }
    // Writing into a Vec cannot fail.
    let _ = write!(out, "{}:", payload.len());
    out.extend_from_slice(payload);
    out.push(b',');
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(reader: &mut Reader) -> Result<Vec<Vec<u8>>, NetstringError> {
        let mut out = Vec::new();
        while let Some(payload) = reader.next_payload()? {
            out.push(payload.to_vec());
        }
        Ok(out)
    }

    #[test]
    fn faults_are_told_apart_and_stay() {
        for (bytes, error) in [
            (&b"x"[..], NetstringError::BadLength),
            (b":", NetstringError::BadLength),
            (b"01:a,", NetstringError::BadLength),
            (b"00:,", NetstringError::BadLength),
            (b"-1:", NetstringError::BadLength),
            (b"11:", NetstringError::TooLong { limit: 10 }),
            (b"9999999999", NetstringError::BadLength),
            (b"3:abcd", NetstringError::NoComma),
        ] {
            let mut reader = Reader::new(10);
            reader.feed(bytes);
            assert_eq!(reader.next_payload(), Err(error), "{bytes:?}");
            reader.feed(b"1:a,");
            assert_eq!(reader.next_payload(), Err(error), "{bytes:?}");
            assert!(reader.buffered() <= bytes.len());
        }
    }

    #[test]
    fn one_message_too_long_costs_only_itself() {
        let stream = b"1:a,12:bbbbbbbbbbbb,1:c,11:ddddddddddd,2:{},";
        for cut in 1..stream.len() {
            let mut reader = Reader::new(10);
            let (mut read, mut faults) = (Vec::new(), 0);
            for piece in stream.chunks(cut) {
                reader.feed(piece);
                loop {
                    match reader.next_payload() {
                        Ok(Some(payload)) => read.push(payload.to_vec()),
                        Ok(None) => break,
                        Err(error) => {
                            assert_eq!(error, NetstringError::TooLong { limit: 10 });
                            faults += 1;
                            reader.recover();
                        }
                    }
                }
            }
            assert_eq!((read, faults), (vec![b"a".to_vec(), b"c".to_vec(), b"{}".to_vec()], 2));
        }
    }

    #[test]
    fn the_next_message_is_found_behind_a_broken_one() {
        // A length too small: the rest of the payload, whatever it holds, is no message.
        let mut reader = Reader::new(100);
        reader.feed(br#"9:{"a":[1,2:3]},7:{"b":1},"#);
        assert_eq!(reader.next_payload(), Err(NetstringError::NoComma));
        reader.recover();
        assert_eq!(read_all(&mut reader), Ok(vec![br#"{"b":1}"#.to_vec()]));
        // So is one right behind noise, and noise without an end is forgotten.
        reader.feed(br#"hello, 7 worlds7:{"b":1},hello"#);
        assert_eq!(reader.next_payload(), Err(NetstringError::BadLength));
        reader.recover();
        assert_eq!(reader.next_payload(), Ok(Some(&br#"{"b":1}"#[..])));
        assert_eq!(reader.next_payload(), Err(NetstringError::BadLength));
        reader.recover();
        assert_eq!(reader.next_payload(), Ok(None));
        assert_eq!(reader.buffered(), 0);
        reader.feed(b"2:{},");
        assert_eq!(read_all(&mut reader), Ok(vec![b"{}".to_vec()]));
    }

    #[test]
    fn the_limit_is_exact() {
        let mut out = Vec::new();
        assert_eq!(write(&[b'a'; 10], 10, &mut out), Ok(()));
        assert_eq!(write(&[b'a'; 11], 10, &mut out), Err(NetstringError::TooLong { limit: 10 }));
        let mut reader = Reader::new(10);
        reader.feed(&out);
        assert_eq!(read_all(&mut reader), Ok(vec![vec![b'a'; 10]]));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_is_cut(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8),
            cut in 1usize..50,
        ) {
            let mut stream = Vec::new();
            for payload in &payloads {
                write(payload, 200, &mut stream).unwrap();
            }
            let mut reader = Reader::new(200);
            let mut read = Vec::new();
            for piece in stream.chunks(cut) {
                reader.feed(piece);
                read.extend(read_all(&mut reader).unwrap());
            }
            prop_assert_eq!(read, payloads);
            prop_assert_eq!(reader.buffered(), 0);
        }
    }
}
