//! The certificate we show in DTLS (RFC 8827 §6.5): self-signed ECDSA, recognised by its fingerprint
//! (RFC 8122). Where it is kept is the server's affair.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::dtls12::{Ecdsa, Identity};
use crate::core::base64;
use crate::core::session::{FINGERPRINT_ALGORITHMS, Fingerprint};
use crate::webrtc::WebRtcError;
use crate::webrtc::wire::hello::SUITES_12;

/// The hash behind each of [`FINGERPRINT_ALGORITHMS`].
const HASHES: [&digest::Algorithm; FINGERPRINT_ALGORITHMS.len()] =
    [&digest::SHA1_FOR_LEGACY_USE_ONLY, &digest::SHA224, &digest::SHA256, &digest::SHA384, &digest::SHA512];

/// Curves our key may be on.
const CURVES: [&EcdsaSigningAlgorithm; 2] =
    [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING];

/// A certificate with its private key; it never prints the key.
#[derive(Clone)]
pub struct Certificate {
    certificate: Vec<u8>,
    private_key: Vec<u8>,
}

impl Certificate {
    /// Makes a new one.
    pub fn generate() -> Result<Certificate, WebRtcError> {
        let refused = |error: rcgen::Error| WebRtcError::Certificate(error.to_string());
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(refused)?;
        let mut params = rcgen::CertificateParams::new(Vec::new()).map_err(refused)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "viaduct");
        // Firefox refuses two certificates of one issuer with the same serial number.
        let mut serial = [0; 16];
        aws_lc_rs::rand::fill(&mut serial)
            .map_err(|_| WebRtcError::Certificate("no random numbers".to_owned()))?;
        serial[0] &= 0x7f;
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&serial));
        let certificate = params.self_signed(&key).map_err(refused)?;
        Ok(Certificate { certificate: certificate.der().to_vec(), private_key: key.serialize_der() })
    }

    /// Reads a certificate and its private key, each the first PEM block of its kind: an ECDSA key on P-256
    /// or P-384, in PKCS#8 or SEC 1.
    pub fn from_pem(pem: &str) -> Result<Certificate, WebRtcError> {
        let refused =
            |what: &str, error: &dyn std::fmt::Display| WebRtcError::Certificate(format!("{what}: {error}"));
        let certificate =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| refused("certificate", &e))?;
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| refused("private key", &e))?;
        let private_key = key.secret_der().to_vec();
        if CURVES.iter().all(|curve| EcdsaKeyPair::from_private_key_der(curve, &private_key).is_err()) {
            return Err(refused("private key", &"not an ECDSA key on P-256 or P-384"));
        }
        Ok(Certificate { certificate: certificate.to_vec(), private_key })
    }

    /// Certificate and PKCS#8 key, one PEM block each.
    pub fn to_pem(&self) -> String {
        to_pem(&self.certificate) + &pem_block("PRIVATE KEY", &self.private_key)
    }

    /// Its fingerprints, `sha-1` to `sha-512`.
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        fingerprints_of(&self.certificate)
    }

    /// In the form our own engine takes.
    pub(in crate::webrtc) fn to_identity(&self) -> Result<Identity, WebRtcError> {
        let [p256, p384] = CURVES.map(|curve| EcdsaKeyPair::from_private_key_der(curve, &self.private_key));
        let key = p256.map(|pair| Ecdsa { pair, scheme: 0x0403 });
        let key = key.or_else(|_| p384.map(|pair| Ecdsa { pair, scheme: 0x0503 }));
        let key = key.map_err(|error| WebRtcError::Certificate(error.to_string()))?;
        Ok(Identity { certificate: self.certificate.clone(), key: Box::new(key), suites: SUITES_12 })
    }

    /// In the form the DTLS library takes.
    pub(crate) fn to_dtls(&self) -> dimpl::DtlsCertificate {
        dimpl::DtlsCertificate {
            certificate: self.certificate.clone(),
            private_key: self.private_key.clone(),
        }
    }
}

/// A certificate (DER) as text.
pub(super) fn to_pem(certificate: &[u8]) -> String {
    pem_block("CERTIFICATE", certificate)
}

/// The fingerprints of a certificate (DER), `sha-1` to `sha-512`.
pub(in crate::webrtc) fn fingerprints_of(certificate: &[u8]) -> Vec<Fingerprint> {
    let known = FINGERPRINT_ALGORITHMS.iter().zip(HASHES);
    let print = |(name, hash): (&&str, _)| Fingerprint {
        algorithm: (*name).to_owned(),
        value: hex_pairs(digest::digest(hash, certificate).as_ref()),
    };
    known.map(print).collect()
}

/// Whether `certificate` (DER) is one that `fingerprints` name.
pub(super) fn matches(certificate: &[u8], fingerprints: &[Fingerprint]) -> bool {
    let known = || FINGERPRINT_ALGORITHMS.iter().zip(HASHES);
    fingerprints.iter().any(|wanted| {
        let hash = known().find(|(name, _)| name.eq_ignore_ascii_case(&wanted.algorithm));
        hash.is_some_and(|(_, hash)| {
            hex_pairs(digest::digest(hash, certificate).as_ref()).eq_ignore_ascii_case(&wanted.value)
        })
    })
}

/// `AB:CD:...`
fn hex_pairs(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

fn pem_block(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let encoded = base64::encode(der);
    for line in encoded.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}
