//! Signatures of a DTLS 1.2 handshake: ours by ECDSA, theirs by ECDSA or RSA, whatever their certificate is of.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P256_SHA512_ASN1, ECDSA_P384_SHA256_ASN1,
    ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA512_ASN1, EcdsaKeyPair, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};

use crate::webrtc::wire::handshake::Signed;

/// What we can check, by preference.
pub const SCHEMES: [u16; 9] = [0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601];

type Algorithm = &'static dyn VerificationAlgorithm;

/// In TLS 1.2 a scheme of ECDSA names the hash only; the curve is the certificate's.
fn algorithms(scheme: u16) -> &'static [Algorithm] {
    match scheme {
        0x0403 => &[&ECDSA_P256_SHA256_ASN1, &ECDSA_P384_SHA256_ASN1],
        0x0503 => &[&ECDSA_P384_SHA384_ASN1, &ECDSA_P256_SHA384_ASN1],
        0x0603 => &[&ECDSA_P256_SHA512_ASN1, &ECDSA_P384_SHA512_ASN1],
        0x0401 => &[&RSA_PKCS1_2048_8192_SHA256],
        0x0501 => &[&RSA_PKCS1_2048_8192_SHA384],
        0x0601 => &[&RSA_PKCS1_2048_8192_SHA512],
        0x0804 => &[&RSA_PSS_2048_8192_SHA256],
        0x0805 => &[&RSA_PSS_2048_8192_SHA384],
        0x0806 => &[&RSA_PSS_2048_8192_SHA512],
        _ => &[],
    }
}

/// Whoever has the key of a certificate.
pub trait Signer: Send + Sync {
    /// Its signature scheme.
    fn scheme(&self) -> u16;
    /// Signs a message.
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>>;
}

/// A key of ECDSA and the scheme that goes with its curve.
pub struct Ecdsa {
    /// The key.
    pub pair: EcdsaKeyPair,
    /// Its signature scheme.
    pub scheme: u16,
}

impl Signer for Ecdsa {
    fn scheme(&self) -> u16 {
        self.scheme
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        Some(self.pair.sign(&SystemRandom::new(), message).ok()?.as_ref().to_vec())
    }
}

/// Whether the key of `certificate` (DER) signed `message`.
pub fn verify(certificate: &[u8], message: &[u8], signed: &Signed) -> bool {
    let Some(key) = public_key(certificate) else { return false };
    algorithms(signed.scheme)
        .iter()
        .any(|algorithm| UnparsedPublicKey::new(*algorithm, key).verify(message, &signed.signature).is_ok())
}

/// The SubjectPublicKeyInfo of a certificate (RFC 5280 §4.1). Nothing else in a certificate matters here: its
/// fingerprint says whose it is.
fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (outer, _) = element(certificate).filter(|(found, _)| found.tag == SEQUENCE)?;
    let (body, _) = element(outer.content).filter(|(found, _)| found.tag == SEQUENCE)?;
    let mut rest = body.content;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.1;
    }
    // Serial number, signature algorithm, issuer, validity, subject.
    for _ in 0..5 {
        rest = element(rest)?.1;
    }
    let (key, _) = element(rest).filter(|(found, _)| found.tag == SEQUENCE)?;
    Some(key.whole)
}

struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
}

/// One element of DER, and what stands behind it.
fn element(der: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, behind) = rest.split_at_checked(length)?;
    let whole = der.get(..der.len().checked_sub(behind.len())?)?;
    Some((Element { tag, content, whole }, behind))
}
