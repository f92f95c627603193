//! The certificate we show in DTLS (RFC 8827 §6.5): self-signed ECDSA P-256, recognised by its fingerprint
//! (RFC 8122). Where it is kept is the server's affair.

use aws_lc_rs::digest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::core::base64;
use crate::core::session::Fingerprint;
use crate::webrtc::WebRtcError;

/// Hashes a fingerprint may use, in the order of the v2 dump.
const ALGORITHMS: [(&str, &digest::Algorithm); 5] = [
    ("sha-1", &digest::SHA1_FOR_LEGACY_USE_ONLY),
    ("sha-224", &digest::SHA224),
    ("sha-256", &digest::SHA256),
    ("sha-384", &digest::SHA384),
    ("sha-512", &digest::SHA512),
];

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

    /// Reads what [`Self::to_pem`] wrote: a certificate and an ECDSA P-256 key in PKCS#8.
    pub fn from_pem(pem: &str) -> Result<Certificate, WebRtcError> {
        let refused =
            |what: &str, error: &dyn std::fmt::Display| WebRtcError::Certificate(format!("{what}: {error}"));
        let certificate =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| refused("certificate", &e))?;
        let key =
            PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| refused("private key", &e))?;
        let private_key = key.secret_pkcs8_der().to_vec();
        let algorithm = &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING;
        aws_lc_rs::signature::EcdsaKeyPair::from_pkcs8(algorithm, &private_key)
            .map_err(|e| refused("private key", &e))?;
        Ok(Certificate { certificate: certificate.to_vec(), private_key })
    }

    /// Certificate and PKCS#8 key, one PEM block each.
    pub fn to_pem(&self) -> String {
        pem_block("CERTIFICATE", &self.certificate) + &pem_block("PRIVATE KEY", &self.private_key)
    }

    /// Its fingerprints, `sha-1` to `sha-512`.
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        ALGORITHMS
            .iter()
            .map(|(name, algorithm)| Fingerprint {
                algorithm: (*name).to_owned(),
                value: hex_pairs(digest::digest(algorithm, &self.certificate).as_ref()),
            })
            .collect()
    }

    /// In the form the DTLS library takes.
    pub(crate) fn to_dtls(&self) -> dimpl::DtlsCertificate {
        dimpl::DtlsCertificate {
            certificate: self.certificate.clone(),
            private_key: self.private_key.clone(),
        }
    }
}

/// Whether we can compute fingerprints of this algorithm.
pub(super) fn supports(algorithm: &str) -> bool {
    ALGORITHMS.iter().any(|(name, _)| name.eq_ignore_ascii_case(algorithm))
}

/// Whether `certificate` (DER) is one that `fingerprints` name.
pub(super) fn matches(certificate: &[u8], fingerprints: &[Fingerprint]) -> bool {
    fingerprints.iter().any(|wanted| {
        ALGORITHMS.iter().filter(|(name, _)| name.eq_ignore_ascii_case(&wanted.algorithm)).any(
            |(_, algorithm)| {
                hex_pairs(digest::digest(algorithm, certificate).as_ref()).eq_ignore_ascii_case(&wanted.value)
            },
        )
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
