//! How fast a source is: bits and frames per second over its own times, so that a group read faster than real
//! time counts as what it is.

use std::collections::VecDeque;

use crate::core::time::MediaTime;

/// The span that is looked back on.
const WINDOW: i64 = 4_000_000;
/// Less says nothing yet.
const ENOUGH: i64 = 500_000;
/// Bounds the frames remembered, whatever their times.
const MAX_FRAMES: usize = 1_024;

/// Frames of the last seconds.
#[derive(Default)]
pub struct SourceRate {
    frames: VecDeque<(MediaTime, usize)>,
    bytes: usize,
}

impl SourceRate {
    /// Notes a frame of `bytes` at `time`. A little out of order, as B-frames are, does not matter.
    pub fn add(&mut self, time: MediaTime, bytes: usize) {
        let last = self.frames.back().map_or(time, |(last, _)| *last);
        if last.micros_since(time) > ENOUGH {
            self.frames.clear();
            self.bytes = 0;
        }
        let time = if self.frames.is_empty() { time } else { time.max(last) };
        self.frames.push_back((time, bytes));
        self.bytes += bytes;
        while let Some(&(first, bytes)) = self.frames.front() {
            if time.micros_since(first) <= WINDOW && self.frames.len() <= MAX_FRAMES {
                break;
            }
            self.bytes -= bytes;
            self.frames.pop_front();
        }
    }

    fn span(&self) -> Option<i64> {
        let span = self.frames.back()?.0.micros_since(self.frames.front()?.0);
        (span >= ENOUGH).then_some(span)
    }

    /// Bits per second, once there is enough to tell.
    pub fn bits_per_second(&self) -> Option<u32> {
        let span = self.span()?;
        // The span lies between the first and the last frame, so the last one's bytes are outside.
        let bytes = self.bytes - self.frames.back().map_or(0, |(_, bytes)| *bytes);
        u32::try_from(bytes as u128 * 8_000_000 / span as u128).ok()
    }

    /// Frames per second, once there is enough to tell.
    pub fn frames_per_second(&self) -> Option<f32> {
        let span = self.span()?;
        Some((self.frames.len() - 1) as f32 * 1_000_000.0 / span as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_source() {
        let mut rate = SourceRate::default();
        for index in 0..300 {
            assert_eq!(rate.bits_per_second().is_some(), index > 25, "{index}");
            rate.add(MediaTime::from_micros(index * 20_000), 2_500);
        }
        assert_eq!(rate.bits_per_second(), Some(1_000_000));
        assert_eq!(rate.frames_per_second(), Some(50.0));
        rate.add(MediaTime::from_micros(0), 1);
        assert_eq!(rate.bits_per_second(), None);
    }
}
