//! Keys of a DTLS 1.2 handshake: suites, the pseudo-random function (RFC 5246 §5), the master secret (§8.1, RFC 7627),
//! AES-GCM records (RFC 5288, RFC 6347 §4.1.2.1) and what is exported for SRTP (RFC 5764 §4.2).

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey};
use aws_lc_rs::digest::{self, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::tls_prf;

use crate::webrtc::wire::record::{self, Record};

/// What a record grows by: the explicit part of the nonce before it, the tag behind it.
pub const OVERHEAD: usize = EXPLICIT + 16;
const EXPLICIT: usize = 8;
const MASTER: usize = 48;

/// Key exchange groups: X25519, P-256, P-384.
pub const GROUPS: [u16; 3] = [29, 23, 24];

/// A cipher suite: ephemeral elliptic-curve keys, AES-GCM.
#[derive(Clone, Copy)]
pub struct Suite {
    aead: &'static aead::Algorithm,
    prf: &'static tls_prf::Algorithm,
    hash: &'static digest::Algorithm,
    key: usize,
}

/// The suite of a number: with ECDSA, or as clients also with RSA.
pub fn suite(number: u16) -> Option<Suite> {
    match number {
        0xc02b | 0xc02f => {
            Some(Suite { aead: &aead::AES_128_GCM, prf: &tls_prf::P_SHA256, hash: &digest::SHA256, key: 16 })
        }
        0xc02c | 0xc030 => {
            Some(Suite { aead: &aead::AES_256_GCM, prf: &tls_prf::P_SHA384, hash: &digest::SHA384, key: 32 })
        }
        _ => None,
    }
}

impl Suite {
    /// Hash of the handshake's messages so far.
    pub fn hash(&self, transcript: &[u8]) -> Vec<u8> {
        digest(self.hash, transcript).as_ref().to_vec()
    }
}

/// Our half of a key exchange.
pub struct KeyExchange {
    group: u16,
    private: EphemeralPrivateKey,
}

fn algorithm(group: u16) -> Option<&'static agreement::Algorithm> {
    match group {
        29 => Some(&agreement::X25519),
        23 => Some(&agreement::ECDH_P256),
        24 => Some(&agreement::ECDH_P384),
        _ => None,
    }
}

impl KeyExchange {
    /// A fresh key; with it, its public half.
    pub fn new(group: u16) -> Option<(KeyExchange, Vec<u8>)> {
        let private = EphemeralPrivateKey::generate(algorithm(group)?, &SystemRandom::new()).ok()?;
        let public = private.compute_public_key().ok()?.as_ref().to_vec();
        Some((KeyExchange { group, private }, public))
    }

    /// The secret shared with whoever has `public`.
    pub fn agree(self, public: &[u8]) -> Option<Vec<u8>> {
        let theirs = UnparsedPublicKey::new(algorithm(self.group)?, public);
        agreement::agree_ephemeral(self.private, theirs, (), |secret| Ok(secret.to_vec())).ok()
    }
}

/// The master secret with what it is used with.
pub struct Master {
    suite: Suite,
    secret: Vec<u8>,
    /// The client's random, then the server's.
    randoms: (Vec<u8>, Vec<u8>),
}

impl Master {
    /// From the shared secret. `session_hash`: of all messages up to ClientKeyExchange, where both sides want the
    /// extended master secret.
    pub fn new(
        suite: Suite,
        shared: &[u8],
        session_hash: Option<&[u8]>,
        randoms: (Vec<u8>, Vec<u8>),
    ) -> Option<Master> {
        let plain = [&randoms.0[..], &randoms.1].concat();
        let (label, seed) = match session_hash {
            Some(hash) => (&b"extended master secret"[..], hash),
            None => (&b"master secret"[..], &plain[..]),
        };
        let secret = derive(suite, shared, label, seed, MASTER)?;
        Some(Master { suite, secret, randoms })
    }

    fn derive(&self, label: &[u8], seed: &[u8], length: usize) -> Option<Vec<u8>> {
        derive(self.suite, &self.secret, label, seed, length)
    }

    /// What a Finished message holds.
    pub fn verify_data(&self, client: bool, transcript: &[u8]) -> Option<Vec<u8>> {
        let label = if client { &b"client finished"[..] } else { b"server finished" };
        self.derive(label, &self.suite.hash(transcript), 12)
    }

    /// Keys for records: those of the client, then those of the server.
    pub fn record_keys(&self) -> Option<(RecordKey, RecordKey)> {
        let seed = [&self.randoms.1[..], &self.randoms.0].concat();
        let key = self.suite.key;
        let block = self.derive(b"key expansion", &seed, 2 * key + 8)?;
        let make = |key_at: usize, salt_at: usize| {
            RecordKey::new(
                self.suite.aead,
                block.get(key_at..key_at + key)?,
                block.get(salt_at..salt_at + 4)?,
            )
        };
        Some((make(0, 2 * key)?, make(key, 2 * key + 4)?))
    }

    /// So many bytes for SRTP.
    pub fn export(&self, length: usize) -> Option<Vec<u8>> {
        let seed = [&self.randoms.0[..], &self.randoms.1].concat();
        self.derive(b"EXTRACTOR-dtls_srtp", &seed, length)
    }
}

fn derive(suite: Suite, secret: &[u8], label: &[u8], seed: &[u8], length: usize) -> Option<Vec<u8>> {
    let secret = tls_prf::Secret::new(suite.prf, secret).ok()?;
    Some(secret.derive(label, seed, length).ok()?.as_ref().to_vec())
}

/// The key for the records of one direction.
pub struct RecordKey {
    key: LessSafeKey,
    salt: [u8; 4],
}

impl RecordKey {
    fn new(algorithm: &'static aead::Algorithm, key: &[u8], salt: &[u8]) -> Option<RecordKey> {
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
        Some(RecordKey { key, salt: salt.try_into().ok()? })
    }

    fn nonce(&self, explicit: [u8; EXPLICIT]) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.salt);
        nonce[4..].copy_from_slice(&explicit);
        Nonce::assume_unique_for_key(nonce)
    }

    /// Adds a sealed record to `out`. No number may come twice.
    pub fn seal(&self, kind: u8, epoch: u16, sequence: u64, content: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let number = (u64::from(epoch) << 48) | sequence;
        let mut sealed = content.to_vec();
        let aad = Aad::from(associated(number, kind, content.len()));
        let nonce = self.nonce(number.to_be_bytes());
        self.key.seal_in_place_append_tag(nonce, aad, &mut sealed).ok()?;
        record::put_header(out, kind, epoch, sequence, EXPLICIT + sealed.len());
        out.extend(number.to_be_bytes());
        out.extend(sealed);
        Some(())
    }

    /// The content of a sealed record; `None` for one that was not sealed with this key.
    pub fn open(&self, record: &Record<'_>) -> Option<Vec<u8>> {
        let (explicit, sealed) = record.content.split_first_chunk::<EXPLICIT>()?;
        let length = sealed.len().checked_sub(OVERHEAD - EXPLICIT)?;
        let number = (u64::from(record.epoch) << 48) | record.sequence;
        let aad = Aad::from(associated(number, record.kind, length));
        let mut content = sealed.to_vec();
        self.key.open_in_place(self.nonce(*explicit), aad, &mut content).ok()?;
        content.truncate(length);
        Some(content)
    }
}

/// Number, type, version and length of a record (RFC 5246 §6.2.3.3).
fn associated(number: u64, kind: u8, length: usize) -> [u8; 13] {
    let mut data = [0; 13];
    data[..8].copy_from_slice(&number.to_be_bytes());
    data[8] = kind;
    data[9..11].copy_from_slice(&record::VERSION.to_be_bytes());
    data[11..].copy_from_slice(&(length as u16).to_be_bytes());
    data
}
