//! Bytes of a log in segments: reserved at one end, released at the other, recycled between.

use std::collections::VecDeque;

/// Where some bytes lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    /// Number of the segment, counted from the first ever.
    pub(super) segment: u64,
    offset: u32,
}

/// A log of bytes.
pub(super) struct Segments {
    size: usize,
    live: VecDeque<Box<[u8]>>,
    /// Number of the first live segment.
    first: u64,
    /// Bytes used of the last live segment.
    fill: usize,
    spare: Vec<Box<[u8]>>,
    /// The fewest there were since the last [`Segments::settle`].
    unused: usize,
    live_bytes: usize,
}

impl Segments {
    pub(super) fn new(size: usize) -> Self {
        let size = size.clamp(1 << 10, 1 << 24);
        Segments {
            size,
            live: VecDeque::new(),
            first: 0,
            fill: 0,
            spare: Vec::new(),
            unused: 0,
            live_bytes: 0,
        }
    }

    /// Takes `len` bytes behind those taken last.
    pub(super) fn reserve(&mut self, len: usize) -> (Spot, &mut [u8]) {
        let room = self.live.back().map_or(0, |segment| segment.len() - self.fill);
        if room < len || self.live.is_empty() {
            let segment = match self.spare.pop_if(|segment| segment.len() >= len) {
                Some(segment) => segment,
                None => vec![0; self.size.max(len)].into(),
            };
            self.unused = self.unused.min(self.spare.len());
            self.live_bytes += segment.len();
            self.live.push_back(segment);
            self.fill = 0;
        }
        let number = self.first + self.live.len() as u64 - 1;
        let spot = Spot { segment: number, offset: self.fill as u32 };
        let start = self.fill;
        self.fill += len;
        let end = self.fill;
        let place = self.live.back_mut().and_then(|segment| segment.get_mut(start..end));
        (spot, place.unwrap_or_default())
    }

    /// The `len` bytes at `spot`.
    #[inline]
    pub(super) fn get(&self, spot: Spot, len: usize) -> Option<&[u8]> {
        let segment = self.live.get(usize::try_from(spot.segment.checked_sub(self.first)?).ok()?)?;
        let start = spot.offset as usize;
        segment.get(start..start + len)
    }

    /// The bytes at `gone` are needed no more; `oldest` is the segment of the next that are.
    pub(super) fn release(&mut self, gone: Spot, oldest: u64) {
        if gone.segment == oldest {
            return;
        }
        while self.first < oldest {
            let Some(segment) = self.live.pop_front() else {
                self.fill = 0;
                return;
            };
            self.first += 1;
            self.live_bytes -= segment.len();
            if segment.len() == self.size {
                self.spare.push(segment);
            }
        }
    }

    /// Lets go the spare segments that nothing needed since the last call. A group of pictures is released at once and
    /// the next one grows slowly: the time between two calls should hold several.
    pub(super) fn settle(&mut self) {
        let unused = self.unused.min(self.spare.len());
        self.spare.truncate(self.spare.len() - unused);
        self.unused = self.spare.len();
    }

    /// Lets one spare segment go.
    pub(super) fn shrink(&mut self) {
        self.spare.pop();
        if self.spare.is_empty() {
            self.spare = Vec::new();
        }
    }

    /// Bytes of the live segments.
    pub(super) fn used(&self) -> usize {
        self.live_bytes
    }

    /// Bytes of all segments.
    pub(super) fn memory(&self) -> usize {
        self.live_bytes + self.spare.iter().map(|segment| segment.len()).sum::<usize>()
    }
}
