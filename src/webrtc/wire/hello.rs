//! Looks into a DTLS ClientHello (RFC 6347 §4.2, RFC 8446 §4.1.2) before any engine is chosen: which
//! versions could this party be answered with? Its fragments may come in any order, spread over datagrams.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

const RECORD_HEADER: usize = 13;
const HANDSHAKE_HEADER: usize = 12;
/// A hello with post-quantum key shares is about 1,500 bytes.
const MAX_HELLO: usize = 8_192;
const VERSION_12: u16 = 0xfefd;
const VERSION_13: u16 = 0xfefc;
/// ECDHE_ECDSA with AES-128-GCM, AES-256-GCM, ChaCha20-Poly1305.
const SUITES_12: [u16; 3] = [0xc02b, 0xc02c, 0xcca9];
const EXTENDED_MASTER_SECRET: u16 = 23;
const SUPPORTED_VERSIONS: u16 = 43;

/// What a ClientHello could be answered with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Offered {
    /// DTLS 1.2 with an ECDSA suite and extended master secret.
    pub v12: bool,
    /// DTLS 1.3.
    pub v13: bool,
}

/// Puts the fragments of one ClientHello together.
#[derive(Debug, Default)]
pub struct HelloReader {
    body: Vec<u8>,
    seen: Vec<bool>,
}

impl HelloReader {
    /// Takes a datagram; once the hello is complete, tells what it offers.
    pub fn push(&mut self, datagram: &[u8]) -> Option<Offered> {
        let mut rest = datagram;
        while let Some((header, behind)) = rest.split_at_checked(RECORD_HEADER) {
            let length = usize::from(be16(header, 11)?);
            let (record, next) = behind.split_at_checked(length)?;
            let epoch = be16(header, 3)?;
            if header.first() == Some(&22) && epoch == 0 {
                self.push_record(record);
            }
            rest = next;
        }
        let complete = !self.seen.is_empty() && self.seen.iter().all(|seen| *seen);
        if complete { read_hello(&self.body) } else { None }
    }

    /// A record may hold several handshake messages or pieces of them.
    fn push_record(&mut self, record: &[u8]) {
        let mut rest = record;
        while let Some((header, behind)) = rest.split_at_checked(HANDSHAKE_HEADER) {
            let (Some(total), Some(offset), Some(length)) =
                (be24(header, 1), be24(header, 6), be24(header, 9))
            else {
                return;
            };
            let Some((fragment, next)) = behind.split_at_checked(length) else { return };
            if header.first() == Some(&1) {
                self.push_fragment(total, offset, fragment);
            }
            rest = next;
        }
    }

    fn push_fragment(&mut self, total: usize, offset: usize, fragment: &[u8]) {
        if total == 0 || total > MAX_HELLO || offset.saturating_add(fragment.len()) > total {
            return;
        }
        if self.body.len() != total {
            self.body = vec![0; total];
            self.seen = vec![false; total];
        }
        let to = self.body.iter_mut().zip(&mut self.seen).skip(offset);
        for ((byte, seen), from) in to.zip(fragment) {
            (*byte, *seen) = (*from, true);
        }
    }
}

/// The body of a ClientHello. Version and random, session id and cookie are passed over.
fn read_hello(body: &[u8]) -> Option<Offered> {
    let (_, rest) = body.split_at_checked(34)?;
    let (_, rest) = short_vector(rest)?;
    let (_, rest) = short_vector(rest)?;
    let (suites, rest) = vector(rest)?;
    let (_, rest) = short_vector(rest)?;
    let mut extensions = vector(rest).map(|(extensions, _)| extensions).unwrap_or_default();
    let (mut v12, mut v13, mut extended) = (true, false, false);
    while let Some((kind, behind)) = extensions.split_at_checked(2) {
        let (value, next) = vector(behind)?;
        match be16(kind, 0)? {
            EXTENDED_MASTER_SECRET => extended = true,
            SUPPORTED_VERSIONS => {
                let (versions, _) = short_vector(value)?;
                v12 = words(versions).any(|version| version == VERSION_12);
                v13 = words(versions).any(|version| version == VERSION_13);
            }
            _ => {}
        }
        extensions = next;
    }
    let has_suite = words(suites).any(|suite| SUITES_12.contains(&suite));
    Some(Offered { v12: v12 && extended && has_suite, v13 })
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u16> + '_ {
    bytes.chunks_exact(2).filter_map(|pair| be16(pair, 0))
}

/// A vector behind one byte of length.
fn short_vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// A vector behind two bytes of length.
fn vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = be16(bytes, 0)?;
    bytes.get(2..)?.split_at_checked(usize::from(length))
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn be24(bytes: &[u8], at: usize) -> Option<usize> {
    let [high, middle, low] = *bytes.get(at..)?.first_chunk::<3>()?;
    Some(u32::from_be_bytes([0, high, middle, low]) as usize)
}
