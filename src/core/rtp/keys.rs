//! SRTP keying material as a handshake yields it (RFC 5764 §4.2).

/// Keys of one DTLS-SRTP session (RFC 5764 §4.2): `local` protects what we send.
#[derive(Clone)]
pub struct SrtpKeys {
    /// The protection profile.
    pub profile: SrtpProfile,
    /// Master key and salt for sending.
    pub local: KeyingMaterial,
    /// Master key and salt for receiving.
    pub remote: KeyingMaterial,
}

/// A master key with its salt. It does not print itself.
#[derive(Clone)]
pub struct KeyingMaterial {
    /// 16 or 32 bytes.
    pub key: Vec<u8>,
    /// 14 bytes for AES-CM, 12 for GCM.
    pub salt: Vec<u8>,
}

impl std::fmt::Debug for SrtpKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SrtpKeys").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// SRTP protection profiles (RFC 5764, RFC 7714).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SrtpProfile {
    /// SRTP_AES128_CM_HMAC_SHA1_80.
    Aes128CmSha1_80,
    /// SRTP_AES128_CM_HMAC_SHA1_32.
    Aes128CmSha1_32,
    /// SRTP_AEAD_AES_128_GCM.
    AeadAes128Gcm,
    /// SRTP_AEAD_AES_256_GCM.
    AeadAes256Gcm,
}
