//! STUN messages as ICE uses them (RFC 8489, RFC 8445 §16): Binding requests, responses, indications.
//!
//! Parsing borrows and allocates nothing; attributes behind MESSAGE-INTEGRITY count for nothing
//! (RFC 8489 §14.5), so that nobody on the way can add a nomination to a signed request.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use crate::webrtc::WebRtcError;

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER: usize = 20;
const INTEGRITY_LEN: usize = 20;
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// Attribute types (RFC 8489 §18.3, RFC 8445 §20.1).
pub mod attr {
    /// Whom the credentials belong to; in ICE `receiver's ufrag:sender's ufrag`.
    pub const USERNAME: u16 = 0x0006;
    /// HMAC-SHA1 over the message up to it.
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    /// Why a request was refused.
    pub const ERROR_CODE: u16 = 0x0009;
    /// Attributes that were not understood.
    pub const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    /// HMAC-SHA256; browsers do not send it, so it is read over.
    pub const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
    /// The sender's address as the receiver saw it.
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    /// Priority of a peer-reflexive candidate.
    pub const PRIORITY: u16 = 0x0024;
    /// Nomination.
    pub const USE_CANDIDATE: u16 = 0x0025;
    /// From here up an unknown attribute may be ignored.
    pub const OPTIONAL: u16 = 0x8000;
    /// CRC-32 of the message.
    pub const FINGERPRINT: u16 = 0x8028;
    /// The sender controls.
    pub const ICE_CONTROLLED: u16 = 0x8029;
    /// The sender is controlled.
    pub const ICE_CONTROLLING: u16 = 0x802a;
}

/// What kind of message it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// Wants an answer.
    Request,
    /// Wants none.
    Indication,
    /// A good answer.
    Success,
    /// A refusal.
    Error,
}

/// 96 bits that tie an answer to its request.
pub type TransactionId = [u8; 12];

/// A Binding message, borrowed from its datagram.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Request, indication, answer.
    pub class: Class,
    /// Its transaction.
    pub transaction: TransactionId,
    /// USERNAME.
    pub username: Option<&'a str>,
    /// PRIORITY.
    pub priority: Option<u32>,
    /// USE-CANDIDATE is there.
    pub use_candidate: bool,
    /// ICE-CONTROLLING with its tie-breaker.
    pub controlling: Option<u64>,
    /// ICE-CONTROLLED with its tie-breaker.
    pub controlled: Option<u64>,
    /// XOR-MAPPED-ADDRESS.
    pub mapped: Option<SocketAddr>,
    /// ERROR-CODE, the number.
    pub error: Option<u16>,
    /// The first attribute that must be understood and is not.
    pub unknown: Option<u16>,
    signed: Option<Signed<'a>>,
}

/// The part of a message that its MESSAGE-INTEGRITY covers.
#[derive(Clone, Copy, Debug)]
struct Signed<'a> {
    message_type: [u8; 2],
    length: u16,
    rest: &'a [u8],
    mac: &'a [u8],
}

impl<'a> Message<'a> {
    /// Whether a datagram looks like STUN: the two zero bits and the magic cookie (RFC 7983, RFC 8489 §5).
    pub fn is_stun(datagram: &[u8]) -> bool {
        datagram.first().is_some_and(|byte| byte & 0xc0 == 0) && datagram.get(4..8) == Some(COOKIE.as_slice())
    }

    /// Parses a Binding message. A FINGERPRINT that is there must be right.
    pub fn parse(datagram: &'a [u8]) -> Result<Message<'a>, WebRtcError> {
        let (header, body) = datagram.split_at_checked(HEADER).ok_or(WebRtcError::Stun("short header"))?;
        if !Message::is_stun(datagram) {
            return Err(WebRtcError::Stun("not STUN"));
        }
        if usize::from(be16(header, 2)?) != body.len() || body.len() % 4 != 0 {
            return Err(WebRtcError::Stun("length"));
        }
        let class = match be16(header, 0)? {
            0x0001 => Class::Request,
            0x0011 => Class::Indication,
            0x0101 => Class::Success,
            0x0111 => Class::Error,
            _ => return Err(WebRtcError::Stun("not a Binding message")),
        };
        let mut message = Message::empty(class, array(header, 8)?);
        message.read_attributes(datagram)?;
        Ok(message)
    }

    /// The part of a request's USERNAME before the colon: the receiver's ufrag.
    pub fn local_ufrag(&self) -> Option<&'a str> {
        Some(self.username?.split_once(':')?.0)
    }

    /// The part of a request's USERNAME behind the colon: the sender's ufrag.
    pub fn remote_ufrag(&self) -> Option<&'a str> {
        Some(self.username?.split_once(':')?.1)
    }

    /// Whether there is a MESSAGE-INTEGRITY.
    pub fn is_signed(&self) -> bool {
        self.signed.is_some()
    }

    /// Whether its MESSAGE-INTEGRITY was made with `key`; compared in constant time.
    pub fn verify(&self, key: &IntegrityKey) -> bool {
        let Some(signed) = &self.signed else { return false };
        let mut mac = key.0.clone();
        mac.update(&signed.message_type);
        mac.update(&signed.length.to_be_bytes());
        mac.update(signed.rest);
        mac.verify_slice(signed.mac).is_ok()
    }

    fn empty(class: Class, transaction: TransactionId) -> Message<'a> {
        Message {
            class,
            transaction,
            username: None,
            priority: None,
            use_candidate: false,
            controlling: None,
            controlled: None,
            mapped: None,
            error: None,
            unknown: None,
            signed: None,
        }
    }

    fn read_attributes(&mut self, datagram: &'a [u8]) -> Result<(), WebRtcError> {
        let mut offset = HEADER;
        while let Some(rest) = datagram.get(offset..).filter(|rest| !rest.is_empty()) {
            let kind = be16(rest, 0)?;
            let length = usize::from(be16(rest, 2)?);
            let padded = length.next_multiple_of(4).saturating_add(4);
            let value = rest
                .get(4..)
                .and_then(|value| value.get(..length))
                .filter(|_| padded <= rest.len())
                .ok_or(WebRtcError::Stun("attribute too long"))?;
            if kind == attr::FINGERPRINT {
                return check_fingerprint(datagram, offset, value);
            }
            if self.signed.is_none() {
                self.read_attribute(kind, value, datagram, offset)?;
            }
            offset = offset.saturating_add(padded);
        }
        Ok(())
    }

    fn read_attribute(
        &mut self,
        kind: u16,
        value: &'a [u8],
        datagram: &'a [u8],
        offset: usize,
    ) -> Result<(), WebRtcError> {
        match kind {
            attr::USERNAME => {
                self.username =
                    Some(std::str::from_utf8(value).map_err(|_| WebRtcError::Stun("USERNAME not UTF-8"))?);
            }
            attr::PRIORITY => self.priority = Some(u32::from_be_bytes(array(value, 0)?)),
            attr::USE_CANDIDATE => self.use_candidate = true,
            attr::ICE_CONTROLLING => self.controlling = Some(u64::from_be_bytes(array(value, 0)?)),
            attr::ICE_CONTROLLED => self.controlled = Some(u64::from_be_bytes(array(value, 0)?)),
            attr::XOR_MAPPED_ADDRESS => self.mapped = Some(read_address(value, &self.transaction)?),
            attr::ERROR_CODE => self.error = Some(read_error(value)?),
            attr::MESSAGE_INTEGRITY => self.signed = Some(Signed::new(datagram, offset, value)?),
            attr::MESSAGE_INTEGRITY_SHA256 | attr::UNKNOWN_ATTRIBUTES => {}
            unknown if unknown < attr::OPTIONAL => {
                self.unknown.get_or_insert(unknown);
            }
            _ => {}
        }
        Ok(())
    }
}

impl<'a> Signed<'a> {
    /// The covered length counts up to the end of MESSAGE-INTEGRITY, whatever follows (RFC 8489 §14.5).
    fn new(datagram: &'a [u8], offset: usize, mac: &'a [u8]) -> Result<Signed<'a>, WebRtcError> {
        let covered =
            offset.checked_sub(HEADER).and_then(|body| body.checked_add(INTEGRITY_LEN.saturating_add(4)));
        let length = covered.and_then(|length| u16::try_from(length).ok());
        match (length, datagram.get(4..offset)) {
            (Some(length), Some(rest)) if mac.len() == INTEGRITY_LEN => {
                Ok(Signed { message_type: array(datagram, 0)?, length, rest, mac })
            }
            _ => Err(WebRtcError::Stun("MESSAGE-INTEGRITY")),
        }
    }
}

/// A short-term password, hashed once.
#[derive(Clone)]
pub struct IntegrityKey(Hmac<Sha1>);

impl IntegrityKey {
    /// The key of `password` (RFC 8489 §9.1.1).
    pub fn new(password: &str) -> IntegrityKey {
        // HMAC takes a key of any length, so the error cannot happen; an empty key would be refused by peers.
        let mac = Hmac::<Sha1>::new_from_slice(password.as_bytes());
        IntegrityKey(mac.unwrap_or_else(|_| Hmac::<Sha1>::new(&Default::default())))
    }
}

/// Writes one message; attributes in the order of the calls, [`Writer::finish`] last.
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A Binding message of `class`.
    pub fn new(class: Class, transaction: TransactionId) -> Writer {
        let message_type: u16 = match class {
            Class::Request => 0x0001,
            Class::Indication => 0x0011,
            Class::Success => 0x0101,
            Class::Error => 0x0111,
        };
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&message_type.to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&COOKIE);
        bytes.extend_from_slice(&transaction);
        Writer { bytes }
    }

    /// Adds an attribute. A value that would not fit into a datagram is left out.
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Writer {
        let Ok(length) = u16::try_from(value.len()) else { return self };
        self.bytes.extend_from_slice(&kind.to_be_bytes());
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Adds XOR-MAPPED-ADDRESS.
    pub fn mapped(self, address: SocketAddr) -> Writer {
        let transaction: TransactionId = self.bytes.get(8..HEADER).map(to_array).unwrap_or_default();
        let mut value = vec![0, if address.is_ipv4() { 1 } else { 2 }];
        value.extend_from_slice(&(address.port() ^ 0x2112).to_be_bytes());
        match address.ip() {
            IpAddr::V4(ip) => value.extend(xor(&ip.octets(), &COOKIE)),
            IpAddr::V6(ip) => value.extend(xor(&ip.octets(), &xor_pad(&transaction))),
        }
        self.attribute(attr::XOR_MAPPED_ADDRESS, &value)
    }

    /// Adds ERROR-CODE.
    pub fn error(self, code: u16, reason: &str) -> Writer {
        let class = code.checked_div(100).unwrap_or_default() as u8;
        let number = code.checked_rem(100).unwrap_or_default() as u8;
        let mut value = vec![0, 0, class, number];
        value.extend_from_slice(reason.as_bytes());
        self.attribute(attr::ERROR_CODE, &value)
    }

    /// Adds MESSAGE-INTEGRITY (with a key) and FINGERPRINT.
    pub fn finish(mut self, key: Option<&IntegrityKey>) -> Vec<u8> {
        if let Some(key) = key {
            self.set_length(INTEGRITY_LEN.saturating_add(4));
            let mut mac = key.0.clone();
            mac.update(&self.bytes);
            let code = mac.finalize().into_bytes();
            self = self.attribute(attr::MESSAGE_INTEGRITY, &code);
        }
        self.set_length(8);
        let crc = crc32(&self.bytes) ^ FINGERPRINT_XOR;
        self.attribute(attr::FINGERPRINT, &crc.to_be_bytes()).bytes
    }

    /// Sets the header's length to what is there and `more` bytes.
    fn set_length(&mut self, more: usize) {
        let length = self.bytes.len().saturating_sub(HEADER).saturating_add(more);
        if let Some(field) = self.bytes.get_mut(2..4) {
            field.copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
}

fn be16(bytes: &[u8], at: usize) -> Result<u16, WebRtcError> {
    Ok(u16::from_be_bytes(array(bytes, at)?))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], WebRtcError> {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().ok_or(WebRtcError::Stun("short"))
}

fn to_array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk::<N>().copied().unwrap_or([0; N])
}

fn xor<'b>(bytes: &'b [u8], pad: &'b [u8]) -> impl Iterator<Item = u8> + 'b {
    bytes.iter().zip(pad).map(|(byte, pad)| byte ^ pad)
}

fn xor_pad(transaction: &TransactionId) -> [u8; 16] {
    let mut pad = [0; 16];
    for (to, from) in pad.iter_mut().zip(COOKIE.iter().chain(transaction)) {
        *to = *from;
    }
    pad
}

fn read_address(value: &[u8], transaction: &TransactionId) -> Result<SocketAddr, WebRtcError> {
    let port = be16(value, 2)? ^ 0x2112;
    let pad = xor_pad(transaction);
    let ip = match value.get(1) {
        Some(1) => {
            let octets: [u8; 4] = array(value, 4)?;
            IpAddr::V4(Ipv4Addr::from(to_array::<4>(&xor(&octets, &pad).collect::<Vec<_>>())))
        }
        Some(2) => {
            let octets: [u8; 16] = array(value, 4)?;
            IpAddr::V6(Ipv6Addr::from(to_array::<16>(&xor(&octets, &pad).collect::<Vec<_>>())))
        }
        _ => return Err(WebRtcError::Stun("address family")),
    };
    Ok(SocketAddr::new(ip, port))
}

fn read_error(value: &[u8]) -> Result<u16, WebRtcError> {
    let [_, _, class, number]: [u8; 4] = array(value, 0)?;
    Ok(u16::from(class & 7).saturating_mul(100).saturating_add(u16::from(number)))
}

/// FINGERPRINT is the last attribute and covers all before it (RFC 8489 §14.7).
fn check_fingerprint(datagram: &[u8], offset: usize, value: &[u8]) -> Result<(), WebRtcError> {
    let covered = datagram.get(..offset).unwrap_or_default();
    let right = u32::from_be_bytes(array(value, 0)?) == crc32(covered) ^ FINGERPRINT_XOR;
    if !right || value.len() != 4 || datagram.len() != offset.saturating_add(8) {
        return Err(WebRtcError::Stun("FINGERPRINT"));
    }
    Ok(())
}

/// CRC-32 of ITU V.42, a byte at a time.
fn crc32(bytes: &[u8]) -> u32 {
    let fold = |crc: u32, byte: &u8| {
        let entry = CRC_TABLE.get(usize::from(crc.to_le_bytes()[0] ^ byte)).copied().unwrap_or_default();
        entry ^ (crc >> 8)
    };
    !bytes.iter().fold(u32::MAX, fold)
}

static CRC_TABLE: [u32; 256] = crc_table();

#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}
