//! The two families of profiles behind one face: session keys for RTP or for RTCP in one direction.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::SrtpError;
use super::counter::{CounterKey, HmacKey};
use super::derive::{Label, derive};
use super::gcm::{self, GcmKey};
use crate::core::rtp::keys::{KeyingMaterial, SrtpProfile};

/// Bytes of an RTCP packet that stay in the clear.
const RTCP_CLEAR: usize = 8;
/// The E bit of the word behind an SRTCP packet: encrypted.
pub(super) const ENCRYPTED: u32 = 1 << 31;

/// Session keys of one direction, for RTP or RTCP.
pub(super) enum Suite {
    Gcm { key: GcmKey, salt: [u8; 12] },
    Counter { key: Box<CounterKey>, auth: HmacKey, tag: usize },
}

/// Where the plain payload of a packet to protect is.
#[derive(Clone, Copy)]
pub(super) enum Plain<'a> {
    /// Elsewhere.
    Outside(&'a [u8]),
    /// Behind the header, this long.
    Inside(usize),
}

impl Plain<'_> {
    fn len(&self) -> usize {
        match self {
            Plain::Outside(payload) => payload.len(),
            Plain::Inside(len) => *len,
        }
    }
}

impl Suite {
    /// Session keys for RTP.
    pub(super) fn rtp(profile: SrtpProfile, keys: &KeyingMaterial) -> Result<Self, SrtpError> {
        Self::derive(profile, keys, [Label::RtpCipher, Label::RtpAuth, Label::RtpSalt], false)
    }

    /// Session keys for RTCP.
    pub(super) fn rtcp(profile: SrtpProfile, keys: &KeyingMaterial) -> Result<Self, SrtpError> {
        Self::derive(profile, keys, [Label::RtcpCipher, Label::RtcpAuth, Label::RtcpSalt], true)
    }

    fn derive(
        profile: SrtpProfile,
        keys: &KeyingMaterial,
        [cipher, auth, salt]: [Label; 3],
        rtcp: bool,
    ) -> Result<Self, SrtpError> {
        let (key_len, salt_len) = match profile {
            SrtpProfile::AeadAes128Gcm => (16, 12),
            SrtpProfile::AeadAes256Gcm => (32, 12),
            SrtpProfile::Aes128CmSha1_80 | SrtpProfile::Aes128CmSha1_32 => (16, 14),
        };
        if keys.key.len() != key_len || keys.salt.len() != salt_len {
            return Err(SrtpError::Keys);
        }
        let fill = |label, out: &mut [u8]| derive(&keys.key, &keys.salt, label, out);
        if salt_len == 12 {
            let (mut key, mut session_salt) = ([0; 32], [0; 12]);
            let key = key.get_mut(..key_len).ok_or(SrtpError::Keys)?;
            fill(cipher, key)?;
            fill(salt, &mut session_salt)?;
            return Self::gcm(key, session_salt);
        }
        let (mut key, mut auth_key, mut session_salt) = ([0; 16], [0; 20], [0; 14]);
        fill(cipher, &mut key)?;
        fill(auth, &mut auth_key)?;
        fill(salt, &mut session_salt)?;
        // The short tag is for RTP only (RFC 5764 §4.1.2).
        let tag = if profile == SrtpProfile::Aes128CmSha1_32 && !rtcp { 4 } else { 10 };
        Ok(Suite::Counter {
            key: Box::new(CounterKey::new(&key, session_salt)),
            auth: HmacKey::new(&auth_key),
            tag,
        })
    }

    /// GCM with a session key as it is.
    pub(super) fn gcm(key: &[u8], salt: [u8; 12]) -> Result<Self, SrtpError> {
        Ok(Suite::Gcm { key: GcmKey::new(key)?, salt })
    }

    /// Length of the tag.
    pub(super) fn tag_len(&self) -> usize {
        match self {
            Suite::Gcm { .. } => gcm::TAG,
            Suite::Counter { tag, .. } => *tag,
        }
    }

    /// Protects an RTP packet whose header is in `out`; returns the length of the datagram.
    #[inline]
    pub(super) fn seal_rtp(
        &self,
        out: &mut [u8],
        header_len: usize,
        index: u64,
        ssrc: u32,
        plain: Plain<'_>,
    ) -> Result<usize, SrtpError> {
        let end = header_len.checked_add(plain.len()).ok_or(SrtpError::NoRoom)?;
        let total = end.checked_add(self.tag_len()).ok_or(SrtpError::NoRoom)?;
        let out = out.get_mut(..total).ok_or(SrtpError::NoRoom)?;
        match self {
            Suite::Gcm { key, salt } => {
                let (header, body) = out.split_at_mut_checked(header_len).ok_or(SrtpError::NoRoom)?;
                let nonce = nonce(salt, ssrc, index);
                match plain {
                    Plain::Outside(payload) => key.seal(&nonce, header, payload, body)?,
                    Plain::Inside(len) => key.seal_in_place(&nonce, header, body, len)?,
                }
            }
            Suite::Counter { key, auth, .. } => {
                let (data, tag) = out.split_at_mut_checked(end).ok_or(SrtpError::NoRoom)?;
                let body = data.get_mut(header_len..).ok_or(SrtpError::NoRoom)?;
                match plain {
                    Plain::Outside(payload) => key.apply_to(ssrc, index, payload, body)?,
                    Plain::Inside(_) => key.apply(ssrc, index, body),
                }
                put_tag(tag, &auth.tag(data, roc(index)));
            }
        }
        Ok(total)
    }

    /// Opens an RTP packet in place; returns the length of header and plain payload.
    pub(super) fn open_rtp(
        &self,
        packet: &mut [u8],
        header_len: usize,
        index: u64,
        ssrc: u32,
    ) -> Result<usize, SrtpError> {
        let end = packet.len().checked_sub(self.tag_len()).ok_or(SrtpError::Malformed)?;
        if end < header_len {
            return Err(SrtpError::Malformed);
        }
        match self {
            Suite::Gcm { key, salt } => {
                let (header, body) = packet.split_at_mut_checked(header_len).ok_or(SrtpError::Malformed)?;
                key.open(&nonce(salt, ssrc, index), header, body)?;
            }
            Suite::Counter { key, auth, .. } => {
                let (data, tag) = packet.split_at_mut_checked(end).ok_or(SrtpError::Malformed)?;
                check_tag(tag, &auth.tag(data, roc(index)))?;
                key.apply(ssrc, index, data.get_mut(header_len..).ok_or(SrtpError::Malformed)?);
            }
        }
        Ok(end)
    }

    /// Protects the RTCP packet `plain` into `out`; returns the length of the datagram.
    pub(super) fn seal_rtcp(&self, plain: &[u8], index: u32, out: &mut [u8]) -> Result<usize, SrtpError> {
        let (clear, payload) = plain.split_at_checked(RTCP_CLEAR).ok_or(SrtpError::Malformed)?;
        let total = plain.len().saturating_add(4).saturating_add(self.tag_len());
        let out = out.get_mut(..total).ok_or(SrtpError::NoRoom)?;
        let ssrc = rtcp_ssrc(clear)?;
        let word = (index | ENCRYPTED).to_be_bytes();
        let (header, body) = out.split_at_mut_checked(RTCP_CLEAR).ok_or(SrtpError::NoRoom)?;
        header.copy_from_slice(clear);
        match self {
            Suite::Gcm { key, salt } => {
                let end = body.len().saturating_sub(4);
                let (body, trailer) = body.split_at_mut_checked(end).ok_or(SrtpError::NoRoom)?;
                trailer.copy_from_slice(&word);
                key.seal(&nonce(salt, ssrc, u64::from(index)), &rtcp_aad(clear, word), payload, body)?;
            }
            Suite::Counter { key, auth, .. } => {
                let body = body.get_mut(..payload.len()).ok_or(SrtpError::NoRoom)?;
                key.apply_to(ssrc, u64::from(index), payload, body)?;
                let (data, rest) = out.split_at_mut_checked(plain.len()).ok_or(SrtpError::NoRoom)?;
                let (trailer, tag) = rest.split_at_mut_checked(4).ok_or(SrtpError::NoRoom)?;
                trailer.copy_from_slice(&word);
                put_tag(tag, &auth.tag(data, word));
            }
        }
        Ok(total)
    }

    /// The word with E bit and index of an SRTCP packet.
    pub(super) fn rtcp_word(&self, packet: &[u8]) -> Result<u32, SrtpError> {
        let behind = match self {
            Suite::Gcm { .. } => 0,
            Suite::Counter { tag, .. } => *tag,
        };
        let end = packet.len().checked_sub(behind).ok_or(SrtpError::Malformed)?;
        let word = packet.get(..end).and_then(|data| data.last_chunk::<4>()).ok_or(SrtpError::Malformed)?;
        Ok(u32::from_be_bytes(*word))
    }

    /// Opens an SRTCP packet in place; `word` is [`Suite::rtcp_word`]. Returns the plain length.
    pub(super) fn open_rtcp(&self, packet: &mut [u8], word: u32, ssrc: u32) -> Result<usize, SrtpError> {
        let extra = self.tag_len().saturating_add(4);
        let end = packet.len().checked_sub(extra).ok_or(SrtpError::Malformed)?;
        if end < RTCP_CLEAR {
            return Err(SrtpError::Malformed);
        }
        let index = u64::from(word & !ENCRYPTED);
        let word = word.to_be_bytes();
        match self {
            Suite::Gcm { key, salt } => {
                let body_end = packet.len().saturating_sub(4);
                let packet = packet.get_mut(..body_end).ok_or(SrtpError::Malformed)?;
                let (clear, body) = packet.split_at_mut_checked(RTCP_CLEAR).ok_or(SrtpError::Malformed)?;
                key.open(&nonce(salt, ssrc, index), &rtcp_aad(clear, word), body)?;
            }
            Suite::Counter { key, auth, .. } => {
                let (data, rest) = packet.split_at_mut_checked(end).ok_or(SrtpError::Malformed)?;
                check_tag(rest.get(4..).ok_or(SrtpError::Malformed)?, &auth.tag(data, word))?;
                key.apply(ssrc, index, data.get_mut(RTCP_CLEAR..).ok_or(SrtpError::Malformed)?);
            }
        }
        Ok(end)
    }
}

/// The SSRC of an RTCP packet's sender.
pub(super) fn rtcp_ssrc(packet: &[u8]) -> Result<u32, SrtpError> {
    let bytes = packet.get(4..).and_then(|rest| rest.first_chunk::<4>()).ok_or(SrtpError::Malformed)?;
    Ok(u32::from_be_bytes(*bytes))
}

/// Two zero bytes, SSRC, 48-bit index, xor salt (RFC 7714 §8.1; §9.1 with the 31-bit SRTCP index).
fn nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> [u8; 12] {
    let value = (u128::from(ssrc) << 48) | u128::from(index & 0xffff_ffff_ffff);
    let [_, _, _, _, rest @ ..] = value.to_be_bytes();
    let mut nonce: [u8; 12] = rest;
    nonce.iter_mut().zip(salt).for_each(|(byte, salt)| *byte ^= salt);
    nonce
}

fn roc(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

fn rtcp_aad(clear: &[u8], word: [u8; 4]) -> [u8; RTCP_CLEAR + 4] {
    let mut aad = [0; RTCP_CLEAR + 4];
    aad.iter_mut().zip(clear.iter().chain(&word)).for_each(|(byte, value)| *byte = *value);
    aad
}

fn put_tag(place: &mut [u8], tag: &[u8; 20]) {
    place.iter_mut().zip(tag).for_each(|(byte, value)| *byte = *value);
}

fn check_tag(given: &[u8], tag: &[u8; 20]) -> Result<(), SrtpError> {
    let tag = tag.get(..given.len()).ok_or(SrtpError::Malformed)?;
    verify_slices_are_equal(given, tag).map_err(|_| SrtpError::Authentication)
}
