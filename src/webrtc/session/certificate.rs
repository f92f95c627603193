//! The certificate we show in DTLS (RFC 8827 §6.5): self-signed ECDSA P-256, recognised by its fingerprint.
//! Where it is kept is the server's affair.

use crate::core::session::Fingerprint;
use crate::webrtc::WebRtcError;

/// A certificate with its private key; cheap to clone, never prints the key.
#[derive(Clone)]
pub struct Certificate {
    certificate: Vec<u8>,
    private_key: Vec<u8>,
}

impl Certificate {
    /// Makes a new one.
    pub fn generate() -> Result<Certificate, WebRtcError> {
        todo!()
    }

    /// Reads what [`Self::to_pem`] wrote.
    pub fn from_pem(_pem: &str) -> Result<Certificate, WebRtcError> {
        todo!()
    }

    /// Certificate and PKCS#8 key, one PEM block each.
    pub fn to_pem(&self) -> String {
        let _ = (&self.certificate, &self.private_key);
        todo!()
    }

    /// `sha-256` and its friends over the certificate, sha-256 last (v2 clients take the last).
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        todo!()
    }
}
