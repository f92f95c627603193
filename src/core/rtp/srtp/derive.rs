//! Key derivation (RFC 3711 §4.3, RFC 6188 for 256-bit keys, RFC 7714 §11), key derivation rate 0.

use aes::cipher::{KeyInit, StreamCipher};

use super::SrtpError;
use super::counter::keystream;

/// Which session key is derived from the master key.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Label {
    RtpCipher = 0,
    RtpAuth = 1,
    RtpSalt = 2,
    RtcpCipher = 3,
    RtcpAuth = 4,
    RtcpSalt = 5,
}

/// Fills `out` with the session key of `label`. `salt` is 12 or 14 bytes; a short one is padded on the right.
pub(super) fn derive(key: &[u8], salt: &[u8], label: Label, out: &mut [u8]) -> Result<(), SrtpError> {
    let mut iv = [0u8; 16];
    let place = iv.get_mut(..salt.len()).filter(|place| place.len() <= 14).ok_or(SrtpError::Keys)?;
    place.copy_from_slice(salt);
    // key_id = label || r with r = 0, right-aligned in 112 bits; two counter bytes follow.
    iv[7] ^= label as u8;
    out.fill(0);
    match key.len() {
        16 => {
            let cipher = aes::Aes128Enc::new_from_slice(key).map_err(|_| SrtpError::Keys)?;
            keystream(&cipher, iv).apply_keystream(out);
        }
        32 => {
            let cipher = aes::Aes256Enc::new_from_slice(key).map_err(|_| SrtpError::Keys)?;
            keystream(&cipher, iv).apply_keystream(out);
        }
        _ => return Err(SrtpError::Keys),
    }
    Ok(())
}
