//! AES-GCM by aws-lc, out of place: the ciphertext is written where the datagram is assembled, so that the
//! encryption is the copy. The safe interface of `aws-lc-rs` works in place only.

use std::ptr::NonNull;

use aws_lc_sys::{
    EVP_AEAD_CTX, EVP_AEAD_CTX_free, EVP_AEAD_CTX_new, EVP_AEAD_CTX_open_gather, EVP_AEAD_CTX_seal_scatter,
    EVP_aead_aes_128_gcm, EVP_aead_aes_256_gcm,
};

use super::SrtpError;

/// Length of the tag.
pub(super) const TAG: usize = 16;

/// A key, expanded.
pub(super) struct GcmKey {
    context: NonNull<EVP_AEAD_CTX>,
}

// SAFETY: the context is owned by this value alone and has no tie to the thread that made it.
unsafe impl Send for GcmKey {}

impl GcmKey {
    /// Expands a key of 16 or 32 bytes.
    pub(super) fn new(key: &[u8]) -> Result<Self, SrtpError> {
        // SAFETY: both functions return a pointer to a static.
        let algorithm = match key.len() {
            16 => unsafe { EVP_aead_aes_128_gcm() },
            32 => unsafe { EVP_aead_aes_256_gcm() },
            _ => return Err(SrtpError::Keys),
        };
        // SAFETY: `key` is readable for its length, which fits the algorithm; the context copies it.
        let context = unsafe { EVP_AEAD_CTX_new(algorithm, key.as_ptr(), key.len(), TAG) };
        NonNull::new(context).map(|context| GcmKey { context }).ok_or(SrtpError::Keys)
    }

    /// Encrypts `plain` into `body`, the tag behind it. `body` is at least `TAG` longer than `plain`.
    pub(super) fn seal(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        plain: &[u8],
        body: &mut [u8],
    ) -> Result<(), SrtpError> {
        let (cipher, tag) = body.split_at_mut_checked(plain.len()).ok_or(SrtpError::NoRoom)?;
        let tag = tag.first_chunk_mut::<TAG>().ok_or(SrtpError::NoRoom)?;
        self.seal_raw(nonce, aad, plain.as_ptr(), cipher, tag)
    }

    /// Encrypts the first `len` bytes of `body` where they are, the tag behind them.
    pub(super) fn seal_in_place(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        body: &mut [u8],
        len: usize,
    ) -> Result<(), SrtpError> {
        let (cipher, tag) = body.split_at_mut_checked(len).ok_or(SrtpError::NoRoom)?;
        let tag = tag.first_chunk_mut::<TAG>().ok_or(SrtpError::NoRoom)?;
        let plain = cipher.as_ptr();
        self.seal_raw(nonce, aad, plain, cipher, tag)
    }

    /// `plain` is either `cipher` itself or as many readable bytes that do not overlap it.
    fn seal_raw(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        plain: *const u8,
        cipher: &mut [u8],
        tag: &mut [u8; TAG],
    ) -> Result<(), SrtpError> {
        let mut tag_len = 0;
        // SAFETY: the context is initialised; each pointer is valid for the length beside it; the callers
        // above hold to the rule on `plain`, which is the C function's own; no extra input.
        let done = unsafe {
            EVP_AEAD_CTX_seal_scatter(
                self.context.as_ptr(),
                cipher.as_mut_ptr(),
                tag.as_mut_ptr(),
                &mut tag_len,
                TAG,
                nonce.as_ptr(),
                nonce.len(),
                plain,
                cipher.len(),
                std::ptr::null(),
                0,
                aad.as_ptr(),
                aad.len(),
            )
        };
        if done == 1 && tag_len == TAG { Ok(()) } else { Err(SrtpError::NoRoom) }
    }

    /// Decrypts `body` (ciphertext and tag) where it is; returns the plain length.
    pub(super) fn open(&self, nonce: &[u8; 12], aad: &[u8], body: &mut [u8]) -> Result<usize, SrtpError> {
        let len = body.len().checked_sub(TAG).ok_or(SrtpError::Malformed)?;
        let (cipher, tag) = body.split_at_mut_checked(len).ok_or(SrtpError::Malformed)?;
        let at = cipher.as_mut_ptr();
        // SAFETY: the context is initialised; each pointer is valid for the length beside it; input and
        // output are the same bytes, which the C function allows.
        let done = unsafe {
            EVP_AEAD_CTX_open_gather(
                self.context.as_ptr(),
                at,
                nonce.as_ptr(),
                nonce.len(),
                at,
                len,
                tag.as_ptr(),
                tag.len(),
                aad.as_ptr(),
                aad.len(),
            )
        };
        if done == 1 { Ok(len) } else { Err(SrtpError::Authentication) }
    }
}

impl Drop for GcmKey {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `EVP_AEAD_CTX_new` and is freed once; the function wipes the key.
        unsafe { EVP_AEAD_CTX_free(self.context.as_ptr()) }
    }
}
