//! Reading and writing of TLS's presentation language (RFC 5246 §4): big-endian numbers and vectors behind their length.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// What is left to read. Each step answers `None` where too little is there.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    /// So many bytes.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of `count` bytes, eight at most.
    pub fn number(&mut self, count: usize) -> Option<u64> {
        let bytes = self.take(count)?;
        Some(bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    /// One byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.number(1).map(|number| number as u8)
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Option<u16> {
        self.number(2).map(|number| number as u16)
    }

    /// Three bytes.
    pub fn u24(&mut self) -> Option<usize> {
        self.number(3).map(|number| number as usize)
    }

    /// A vector behind a length of `bytes` bytes.
    pub fn vector(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let length = self.number(bytes)?;
        self.take(usize::try_from(length).ok()?)
    }

    /// A vector of 16-bit numbers behind a length of `bytes` bytes.
    pub fn words(&mut self, bytes: usize) -> Option<Vec<u16>> {
        Some(words(self.vector(bytes)?))
    }
}

/// 16-bit numbers one after the other.
pub fn words(bytes: &[u8]) -> Vec<u16> {
    bytes.as_chunks().0.iter().map(|pair| u16::from_be_bytes(*pair)).collect()
}

/// Adds the low `count` bytes of a number.
pub fn put(out: &mut Vec<u8>, number: u64, count: usize) {
    out.extend(number.to_be_bytes().iter().skip(8usize.saturating_sub(count)));
}

/// Adds what `write` writes, behind its length in `bytes` bytes.
pub fn put_vector(out: &mut Vec<u8>, bytes: usize, write: impl FnOnce(&mut Vec<u8>)) {
    let mut content = Vec::new();
    write(&mut content);
    put(out, content.len() as u64, bytes);
    out.append(&mut content);
}

/// Adds 16-bit numbers, behind their length in `bytes` bytes.
pub fn put_words(out: &mut Vec<u8>, bytes: usize, numbers: &[u16]) {
    put_vector(out, bytes, |out| numbers.iter().for_each(|number| out.extend(number.to_be_bytes())));
}
