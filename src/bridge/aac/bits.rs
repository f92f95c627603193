//! Bits, most significant first, on their way into bytes; or only counted.

/// See the module.
#[derive(Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    /// Bits that are no whole byte yet.
    rest: u64,
    length: usize,
    counts: bool,
}

impl BitWriter {
    /// Counts, and keeps nothing.
    pub fn counting() -> BitWriter {
        BitWriter { counts: true, ..BitWriter::default() }
    }

    /// Adds the lowest `count` bits of `value`, at most 32.
    pub fn put(&mut self, value: u32, count: u8) {
        let before = self.length % 8;
        self.length += usize::from(count);
        if self.counts {
            return;
        }
        self.rest = (self.rest << count) | u64::from(value);
        let mut bits = before + usize::from(count);
        while bits >= 8 {
            bits -= 8;
            self.bytes.push((self.rest >> bits) as u8);
        }
        self.rest &= (1 << bits) - 1;
    }

    /// Bits so far.
    pub fn len(&self) -> usize {
        self.length
    }

    /// The bytes, the last one filled up with zeros.
    pub fn finish(mut self) -> Vec<u8> {
        let rest = self.length % 8;
        if rest > 0 {
            self.put(0, (8 - rest) as u8);
        }
        self.bytes
    }
}
