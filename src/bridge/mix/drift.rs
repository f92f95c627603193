//! The sender's clock and ours differ by some parts in a million. A little faster or slower than it came, the sound
//! is read between its samples (a windowed sinc of 16 taps), so that nothing is ever left out.

use std::f32::consts::PI;
use std::sync::OnceLock;

/// Samples that one output sample is made of.
const TAPS: usize = 16;
/// Samples at the beginning of the input that are past already.
pub const LEAD: usize = TAPS / 2 - 1;
/// Steps between two samples.
const PHASES: usize = 64;

/// See the module.
#[derive(Default)]
pub struct Drift {
    /// Place between two samples, 0 up to 1.
    fraction: f64,
    /// Input samples an output sample, less 1.
    speed: f64,
}

impl Drift {
    /// Sets how much faster (positive) or slower the input is read, in parts per million.
    pub fn set(&mut self, ppm: f64) {
        self.speed = ppm * 1e-6;
    }

    /// Whether samples are only copied.
    fn is_idle(&self) -> bool {
        self.speed == 0.0 && self.fraction == 0.0
    }

    /// Samples that must be there to read `count`.
    pub fn needs(&self, count: usize) -> usize {
        let read = (count as f64 * (1.0 + self.speed) + self.fraction) as usize + 1;
        if self.is_idle() { count + LEAD } else { read.max(count) + TAPS }
    }

    /// Reads samples into `output`, the first [`LEAD`] of `input` being past already. Answers how many of the
    /// input are spent.
    pub fn read(&mut self, input: &[f32], output: &mut [f32]) -> usize {
        if self.is_idle() {
            output.copy_from_slice(&input[LEAD..LEAD + output.len()]);
            return output.len();
        }
        let rows = rows();
        let mut at = 0usize;
        for sample in output.iter_mut() {
            let place = self.fraction * PHASES as f64;
            let (row, share) = (place as usize, place.fract() as f32);
            let window = &input[at..at + TAPS];
            let (low, high) = (&rows[row * TAPS..][..TAPS], &rows[(row + 1) * TAPS..][..TAPS]);
            let mut sums = [0.0f32; 8];
            for lane in 0..TAPS {
                sums[lane % 8] += window[lane] * (low[lane] + (high[lane] - low[lane]) * share);
            }
            *sample = sums.iter().sum();
            let next = self.fraction + 1.0 + self.speed;
            let whole = next as usize;
            self.fraction = next - whole as f64;
            at += whole;
        }
        if self.speed == 0.0 && self.fraction.min(1.0 - self.fraction) < 0.01 {
            // Near enough to a whole sample to go on copying.
            at += usize::from(self.fraction > 0.5);
            self.fraction = 0.0;
        }
        at
    }
}

fn rows() -> &'static [f32] {
    static ROWS: OnceLock<Vec<f32>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let mut rows = Vec::with_capacity((PHASES + 1) * TAPS);
        for phase in 0..=PHASES {
            let fraction = phase as f32 / PHASES as f32;
            let row: Vec<f32> = (0..TAPS)
                .map(|tap| {
                    let x = tap as f32 - LEAD as f32 - fraction;
                    let sinc = if x.abs() < 1e-6 { 1.0 } else { (PI * x).sin() / (PI * x) };
                    let window = (PI * x / TAPS as f32).cos();
                    sinc * window * window
                })
                .collect();
            let sum: f32 = row.iter().sum();
            rows.extend(row.iter().map(|tap| tap / sum));
        }
        rows
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::mix::tests::{beside, sine};

    #[test]
    fn a_sine_read_a_little_faster_is_a_sine() {
        for (rate, frequency, ppm) in
            [(48_000u32, 1_000.0f32, 500.0), (8_000, 1_000.0, -500.0), (8_000, 2_500.0, 1_000.0)]
        {
            let input = sine(frequency, rate, rate as usize * 5, 0.5);
            let mut drift = Drift::default();
            let (mut at, mut output) = (0, Vec::new());
            let mut frame = vec![0.0; rate as usize / 50];
            for tick in 0..200 {
                drift.set(if tick < 20 { 0.0 } else { ppm });
                at += drift.read(&input[at..], &mut frame);
                output.extend_from_slice(&frame);
            }
            let spent = at as f64 / (200 * frame.len()) as f64;
            assert!(((spent - 1.0) * 1e6 - f64::from(ppm as f32) * 0.9).abs() < 40.0, "{spent}");
            let heard = frequency as f64 * (1.0 + ppm * 1e-6);
            let noise = beside(&output[output.len() / 4..output.len() / 2], heard as f32, rate);
            assert!(noise < 1e-4, "{noise} beside {frequency} Hz at {rate}");
        }
    }
}
