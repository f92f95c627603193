//! AES counter mode and HMAC-SHA1 (RFC 3711 §4.1.1, §4.2.1). The blocks of the HMAC key are hashed once; a
//! packet then costs its own blocks and one more.

use aes::Aes128Enc;
use aes::cipher::{BlockCipherEncrypt, BlockSizeUser, InnerIvInit, KeyInit, StreamCipher, consts::U16};
use ctr::{Ctr128BE, CtrCore, flavors};
use sha1::block_api::compress;

use super::SrtpError;

const SHA1_START: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
const BLOCK: usize = 64;

/// The keystream of `cipher` from counter block `iv` on.
pub(super) fn keystream<C>(cipher: &C, iv: [u8; 16]) -> impl StreamCipher + use<'_, C>
where
    C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
{
    Ctr128BE::from_core(CtrCore::<&C, flavors::Ctr128BE>::inner_iv_init(cipher, &iv.into()))
}

/// A counter-mode key with its session salt.
pub(super) struct CounterKey {
    cipher: Aes128Enc,
    salt: [u8; 14],
}

impl CounterKey {
    pub(super) fn new(key: &[u8; 16], salt: [u8; 14]) -> Self {
        CounterKey { cipher: Aes128Enc::new(key.into()), salt }
    }

    /// IV = (salt << 16) xor (ssrc << 64) xor (index << 16), of 128 bits.
    fn iv(&self, ssrc: u32, index: u64) -> [u8; 16] {
        let mut iv = [0; 16];
        if let Some(place) = iv.first_chunk_mut::<14>() {
            *place = self.salt;
        }
        (u128::from_be_bytes(iv) ^ (u128::from(ssrc) << 64) ^ (u128::from(index) << 16)).to_be_bytes()
    }

    /// Encrypts or decrypts `data` where it is.
    pub(super) fn apply(&self, ssrc: u32, index: u64, data: &mut [u8]) {
        keystream(&self.cipher, self.iv(ssrc, index)).apply_keystream(data);
    }

    /// Encrypts `plain` into `out`, which is as long.
    pub(super) fn apply_to(
        &self,
        ssrc: u32,
        index: u64,
        plain: &[u8],
        out: &mut [u8],
    ) -> Result<(), SrtpError> {
        keystream(&self.cipher, self.iv(ssrc, index))
            .try_apply_keystream_b2b(plain, out)
            .map_err(|_| SrtpError::NoRoom)
    }
}

/// An HMAC-SHA1 key, its two blocks already hashed.
pub(super) struct HmacKey {
    inner: [u32; 5],
    outer: [u32; 5],
}

impl HmacKey {
    pub(super) fn new(key: &[u8; 20]) -> Self {
        let state = |pad: u8| {
            let mut block = [pad; BLOCK];
            block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
            let mut state = SHA1_START;
            compress(&mut state, &[block]);
            state
        };
        HmacKey { inner: state(0x36), outer: state(0x5c) }
    }

    /// The tag of `data` followed by `tail`.
    pub(super) fn tag(&self, data: &[u8], tail: [u8; 4]) -> [u8; 20] {
        let digest = finish(self.inner, data, &tail);
        finish(self.outer, &digest, &[])
    }
}

/// Hashes `data` and `tail` (together less than 2^29 bytes) after one block already in `state`.
fn finish(mut state: [u32; 5], data: &[u8], tail: &[u8]) -> [u8; 20] {
    let (blocks, rest) = data.as_chunks::<BLOCK>();
    compress(&mut state, blocks);
    let bits = (BLOCK.saturating_add(data.len()).saturating_add(tail.len()) as u64).saturating_mul(8);
    let mut last = [0u8; 2 * BLOCK];
    let ending = rest.iter().chain(tail).chain(&[0x80]);
    last.iter_mut().zip(ending).for_each(|(byte, value)| *byte = *value);
    // The length takes the last 8 bytes of the block that the 0x80 leaves room in.
    let used = rest.len().saturating_add(tail.len()).saturating_add(1);
    let blocks = if used.saturating_add(8) <= BLOCK { 1 } else { 2 };
    let (last, _) = last.as_chunks_mut::<BLOCK>();
    if let Some(place) = last.get_mut(blocks - 1).and_then(|block| block.last_chunk_mut::<8>()) {
        *place = bits.to_be_bytes();
    }
    compress(&mut state, last.get(..blocks).unwrap_or(&[]));
    let mut out = [0; 20];
    out.chunks_exact_mut(4).zip(state).for_each(|(place, word)| place.copy_from_slice(&word.to_be_bytes()));
    out
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, Mac};

    use super::*;

    /// RFC 3711 appendix B.2.
    #[test]
    fn keystream_of_the_rfc() {
        let key = 0x2B7E151628AED2A6ABF7158809CF4F3C_u128.to_be_bytes();
        let salt = [0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd];
        let mut stream = vec![0; 0xff02 * 16];
        CounterKey::new(&key, salt).apply(0, 0, &mut stream);
        let block = |n: usize| u128::from_be_bytes(stream[n * 16..][..16].try_into().unwrap());
        assert_eq!(block(0), 0xE03EAD0935C95E80E166B16DD92B4EB4);
        assert_eq!(block(1), 0xD23513162B02D0F72A43A2FE4A5F97AB);
        assert_eq!(block(0xfeff), 0xEC8CDF7398607CB0F2D21675EA9EA1E4);
        assert_eq!(block(0xff00), 0x362B7C3C6773516318A077D7FC5073AE);
        assert_eq!(block(0xff01), 0x6A2CC3787889374FBEB4C81B17BA6C44);
    }

    #[test]
    fn tag_agrees_with_the_hmac_crate_for_each_length() {
        let key = [7u8; 20];
        let data: Vec<u8> = (0..300u32).map(|n| n as u8).collect();
        for len in 0..data.len() {
            let mut mac = Hmac::<sha1::Sha1>::new_from_slice(&key).unwrap();
            mac.update(&data[..len]);
            mac.update(&[1, 2, 3, 4]);
            assert_eq!(
                HmacKey::new(&key).tag(&data[..len], [1, 2, 3, 4])[..],
                mac.finalize().into_bytes()[..]
            );
        }
    }
}
