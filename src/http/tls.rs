//! The self-signed certificate of `--dev`. Keeping it is the caller's.

use super::Error;

/// A certificate and its private key, both PEM.
pub struct SelfSigned {
    /// The certificate.
    pub certificate: String,
    /// The private key; goes into a file of mode 0600.
    pub key: String,
}

/// Makes a self-signed certificate for `names` (host names and addresses).
pub fn self_signed(names: &[String]) -> Result<SelfSigned, Error> {
    let made = rcgen::generate_simple_self_signed(names)?;
    Ok(SelfSigned { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() })
}
