//! The messages of a DTLS 1.2 handshake with certificates and ephemeral elliptic-curve keys (RFC 5246 §7.4, RFC 8422,
//! RFC 5764, RFC 7627): what is read of them and how they are written.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::bytes::{Bytes, put, put_vector, put_words, words};
use super::record::VERSION;

/// Message types.
pub mod kind {
    #![allow(missing_docs)]
    pub const HELLO_REQUEST: u8 = 0;
    pub const CLIENT_HELLO: u8 = 1;
    pub const SERVER_HELLO: u8 = 2;
    pub const HELLO_VERIFY_REQUEST: u8 = 3;
    pub const CERTIFICATE: u8 = 11;
    pub const SERVER_KEY_EXCHANGE: u8 = 12;
    pub const CERTIFICATE_REQUEST: u8 = 13;
    pub const SERVER_HELLO_DONE: u8 = 14;
    pub const CERTIFICATE_VERIFY: u8 = 15;
    pub const CLIENT_KEY_EXCHANGE: u8 = 16;
    pub const FINISHED: u8 = 20;
}

mod extension {
    pub const SUPPORTED_GROUPS: u16 = 10;
    pub const POINT_FORMATS: u16 = 11;
    pub const SIGNATURE_ALGORITHMS: u16 = 13;
    pub const USE_SRTP: u16 = 14;
    pub const EXTENDED_MASTER_SECRET: u16 = 23;
    pub const SUPPORTED_VERSIONS: u16 = 43;
    pub const RENEGOTIATION_INFO: u16 = 0xff01;
}

/// Signalling value that stands for an empty `renegotiation_info` (RFC 5746 §3.3).
const EMPTY_RENEGOTIATION_INFO: u16 = 0x00ff;
/// `named_curve` (RFC 8422 §5.4).
const NAMED_CURVE: u8 = 3;
/// Kinds of certificates we ask clients for: RSA and ECDSA.
const CERTIFICATE_TYPES: [u8; 2] = [64, 1];

/// What a ClientHello says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClientHello {
    /// 32 bytes.
    pub random: Vec<u8>,
    /// From a HelloVerifyRequest.
    pub cookie: Vec<u8>,
    /// Cipher suites by preference.
    pub suites: Vec<u16>,
    /// Versions (RFC 8446 §4.2.1); none: 1.2 and below.
    pub versions: Option<Vec<u16>>,
    /// Key exchange groups.
    pub groups: Option<Vec<u16>>,
    /// Signature schemes it can check.
    pub schemes: Option<Vec<u16>>,
    /// SRTP profiles by preference.
    pub srtp: Vec<u16>,
    /// Extensions that have no values.
    pub flags: Flags,
}

/// What both sides say alike, by extensions that say nothing more.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Flags {
    /// RFC 7627.
    pub extended_master_secret: bool,
    /// RFC 5746.
    pub renegotiation_info: bool,
    /// RFC 8422 §5.1.2.
    pub point_formats: bool,
}

impl ClientHello {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Option<ClientHello> {
        let mut rest = Bytes(body);
        rest.u16()?;
        let random = rest.take(32)?.to_vec();
        rest.vector(1)?;
        let (cookie, suites) = (rest.vector(1)?.to_vec(), rest.words(2)?);
        rest.vector(1)?;
        let mut hello = ClientHello { random, cookie, suites, ..ClientHello::default() };
        hello.flags.renegotiation_info = hello.suites.contains(&EMPTY_RENEGOTIATION_INFO);
        hello.flags.read(Bytes(rest.vector(2).unwrap_or_default()), |kind, mut value| {
            match kind {
                extension::SUPPORTED_GROUPS => hello.groups = Some(value.words(2)?),
                extension::SIGNATURE_ALGORITHMS => hello.schemes = Some(value.words(2)?),
                extension::USE_SRTP => hello.srtp = value.words(2)?,
                extension::SUPPORTED_VERSIONS => hello.versions = Some(words(value.vector(1)?)),
                _ => {}
            }
            Some(())
        })?;
        Some(hello)
    }

    /// Writes a body; versions are not written, for it is one of 1.2.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = VERSION.to_be_bytes().to_vec();
        out.extend(&self.random);
        put_vector(&mut out, 1, |_| {});
        put_vector(&mut out, 1, |out| out.extend(&self.cookie));
        put_words(&mut out, 2, &self.suites);
        put_vector(&mut out, 1, |out| out.push(0));
        put_vector(&mut out, 2, |out| {
            let lists = [
                (extension::SUPPORTED_GROUPS, self.groups.as_deref()),
                (extension::SIGNATURE_ALGORITHMS, self.schemes.as_deref()),
            ];
            for (kind, list) in lists.into_iter().filter_map(|(kind, list)| Some((kind, list?))) {
                out.extend(kind.to_be_bytes());
                put_vector(out, 2, |out| put_words(out, 2, list));
            }
            put_srtp(out, &self.srtp);
            self.flags.put(out);
        });
        out
    }
}

fn put_srtp(out: &mut Vec<u8>, profiles: &[u16]) {
    if !profiles.is_empty() {
        out.extend(extension::USE_SRTP.to_be_bytes());
        put_vector(out, 2, |out| {
            put_words(out, 2, profiles);
            // No MKI.
            put_vector(out, 1, |_| {});
        });
    }
}

impl Flags {
    /// Reads a list of extensions; those that are none of these are for `other`.
    fn read(
        &mut self,
        mut extensions: Bytes<'_>,
        mut other: impl FnMut(u16, Bytes<'_>) -> Option<()>,
    ) -> Option<()> {
        while !extensions.0.is_empty() {
            match (extensions.u16()?, Bytes(extensions.vector(2)?)) {
                (extension::EXTENDED_MASTER_SECRET, _) => self.extended_master_secret = true,
                (extension::RENEGOTIATION_INFO, _) => self.renegotiation_info = true,
                (extension::POINT_FORMATS, _) => self.point_formats = true,
                (kind, value) => other(kind, value)?,
            }
        }
        Some(())
    }

    fn put(self, out: &mut Vec<u8>) {
        if self.extended_master_secret {
            out.extend(extension::EXTENDED_MASTER_SECRET.to_be_bytes());
            put_vector(out, 2, |_| {});
        }
        if self.renegotiation_info {
            out.extend(extension::RENEGOTIATION_INFO.to_be_bytes());
            put_vector(out, 2, |out| put_vector(out, 1, |_| {}));
        }
        if self.point_formats {
            out.extend(extension::POINT_FORMATS.to_be_bytes());
            // Uncompressed.
            put_vector(out, 2, |out| put_vector(out, 1, |out| out.push(0)));
        }
    }
}

/// What a ServerHello says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServerHello {
    /// 32 bytes.
    pub random: Vec<u8>,
    /// The suite taken.
    pub suite: u16,
    /// The SRTP profile taken.
    pub srtp: Option<u16>,
    /// Extensions that have no values.
    pub flags: Flags,
}

impl ServerHello {
    /// Reads a body; `None` also for another version than 1.2.
    pub fn parse(body: &[u8]) -> Option<ServerHello> {
        let mut rest = Bytes(body);
        rest.u16().filter(|version| *version == VERSION)?;
        let random = rest.take(32)?.to_vec();
        rest.vector(1)?;
        let suite = rest.u16()?;
        rest.u8().filter(|compression| *compression == 0)?;
        let mut hello = ServerHello { random, suite, ..ServerHello::default() };
        hello.flags.read(Bytes(rest.vector(2).unwrap_or_default()), |kind, mut value| {
            if kind == extension::USE_SRTP {
                hello.srtp = value.words(2)?.first().copied();
            }
            Some(())
        })?;
        Some(hello)
    }

    /// Writes a body.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = VERSION.to_be_bytes().to_vec();
        out.extend(&self.random);
        // No session is ever resumed.
        put_vector(&mut out, 1, |_| {});
        out.extend(self.suite.to_be_bytes());
        out.push(0);
        put_vector(&mut out, 2, |out| {
            put_srtp(out, self.srtp.as_slice());
            self.flags.put(out);
        });
        out
    }
}

/// HelloVerifyRequest (RFC 6347 §4.2.1): the cookie.
pub fn hello_verify_request(cookie: &[u8]) -> Vec<u8> {
    // Always 1.0, whatever is spoken then.
    let mut out = 0xfeffu16.to_be_bytes().to_vec();
    put_vector(&mut out, 1, |out| out.extend(cookie));
    out
}

/// The cookie of a HelloVerifyRequest.
pub fn read_hello_verify_request(body: &[u8]) -> Option<Vec<u8>> {
    let mut rest = Bytes(body);
    rest.u16()?;
    rest.vector(1).map(<[u8]>::to_vec)
}

/// Certificate: one, without a chain.
pub fn certificate(der: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_vector(&mut out, 3, |out| put_vector(out, 3, |out| out.extend(der)));
    out
}

/// The party's own certificate, the first; empty where it has none.
pub fn read_certificate(body: &[u8]) -> Option<&[u8]> {
    let list = Bytes(body).vector(3)?;
    if list.is_empty() { Some(list) } else { Bytes(list).vector(3) }
}

/// A signature and how it was made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signed {
    /// Signature scheme (RFC 8446 §4.2.3 gives the pairs of RFC 5246 one number each).
    pub scheme: u16,
    /// The signature.
    pub signature: Vec<u8>,
}

impl Signed {
    /// Reads one: also the body of CertificateVerify.
    pub fn parse(bytes: &[u8]) -> Option<Signed> {
        let mut rest = Bytes(bytes);
        Some(Signed { scheme: rest.u16()?, signature: rest.vector(2)?.to_vec() })
    }

    /// Writes one.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.scheme.to_be_bytes().to_vec();
        put_vector(&mut out, 2, |out| out.extend(&self.signature));
        out
    }
}

/// ServerECDHParams (RFC 8422 §5.4).
pub fn key_parameters(group: u16, public: &[u8]) -> Vec<u8> {
    let mut out = vec![NAMED_CURVE];
    out.extend(group.to_be_bytes());
    put_vector(&mut out, 1, |out| out.extend(public));
    out
}

/// A ServerKeyExchange: its parameters as they are signed, group, public key, signature.
pub fn read_server_key_exchange(body: &[u8]) -> Option<(&[u8], u16, &[u8], Signed)> {
    let mut rest = Bytes(body);
    rest.u8().filter(|kind| *kind == NAMED_CURVE)?;
    let (group, public) = (rest.u16()?, rest.vector(1)?);
    let parameters = body.get(..body.len().checked_sub(rest.0.len())?)?;
    Some((parameters, group, public, Signed::parse(rest.0)?))
}

/// CertificateRequest for certificates that can be checked by `schemes`.
pub fn certificate_request(schemes: &[u16]) -> Vec<u8> {
    let mut out = Vec::new();
    put_vector(&mut out, 1, |out| out.extend(CERTIFICATE_TYPES));
    put_words(&mut out, 2, schemes);
    // No authority is preferred: fingerprints decide.
    put(&mut out, 0, 2);
    out
}

/// The signature schemes that a CertificateRequest takes.
pub fn read_certificate_request(body: &[u8]) -> Option<Vec<u16>> {
    let mut rest = Bytes(body);
    rest.vector(1)?;
    rest.words(2)
}

/// ClientKeyExchange (RFC 8422 §5.7).
pub fn client_key_exchange(public: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_vector(&mut out, 1, |out| out.extend(public));
    out
}

/// The public key in a ClientKeyExchange.
pub fn read_client_key_exchange(body: &[u8]) -> Option<&[u8]> {
    Bytes(body).vector(1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn hellos_are_read_as_they_are_written() {
        let client = ClientHello {
            random: vec![7; 32],
            cookie: vec![1, 2, 3],
            suites: vec![0xc02b, 0xc02f],
            versions: None,
            groups: Some(vec![29, 23]),
            schemes: Some(vec![0x0403, 0x0401]),
            srtp: vec![8, 7, 1],
            flags: Flags { extended_master_secret: true, renegotiation_info: true, point_formats: true },
        };
        assert_eq!(ClientHello::parse(&client.to_bytes()).unwrap(), client);
        let server = ServerHello {
            random: vec![9; 32],
            suite: 0xc02b,
            srtp: Some(7),
            flags: Flags { extended_master_secret: true, renegotiation_info: false, point_formats: true },
        };
        assert_eq!(ServerHello::parse(&server.to_bytes()).unwrap(), server);
        let bare = ClientHello { random: vec![7; 32], suites: vec![1], ..ClientHello::default() };
        assert_eq!(ClientHello::parse(&bare.to_bytes()).unwrap(), bare);
    }

    #[test]
    fn the_other_messages_are_read_as_they_are_written() {
        assert_eq!(read_hello_verify_request(&hello_verify_request(&[5; 20])).unwrap(), [5; 20]);
        assert_eq!(read_certificate(&certificate(&[1, 2, 3])).unwrap(), [1, 2, 3]);
        assert_eq!(read_certificate(&[0, 0, 0]).unwrap(), [0u8; 0]);
        let signed = Signed { scheme: 0x0403, signature: vec![4; 70] };
        let exchange = [key_parameters(29, &[3; 32]), signed.to_bytes()].concat();
        let (parameters, group, public, read) = read_server_key_exchange(&exchange).unwrap();
        assert_eq!((parameters, group, public), (&key_parameters(29, &[3; 32])[..], 29, &[3u8; 32][..]));
        assert_eq!(read, signed);
        assert_eq!(read_certificate_request(&certificate_request(&[0x0401])).unwrap(), [0x0401]);
        assert_eq!(read_client_key_exchange(&client_key_exchange(&[6; 65])).unwrap(), [6; 65]);
    }
}
