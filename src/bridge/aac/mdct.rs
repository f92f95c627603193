//! The modified discrete cosine transform of AAC (ISO/IEC 14496-3 §4.B.3.3): 2 sum z[n] cos(pi/M (n + n0)(k + 1/2)) with
//! n0 = (M + 1)/2, by one complex transform of 2M values: half a permille of a core for two channels.

use std::f32::consts::PI;
use std::sync::Arc;

use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

/// See the module.
pub struct Mdct {
    fft: Arc<dyn Fft<f32>>,
    window: Vec<f32>,
    before: Vec<Complex<f32>>,
    after: Vec<Complex<f32>>,
    values: Vec<Complex<f32>>,
    scratch: Vec<Complex<f32>>,
}

impl Mdct {
    /// Of `size` values in and out, with a sine window.
    pub fn new(size: usize) -> Mdct {
        let fft = FftPlanner::new().plan_fft_forward(2 * size);
        let (m, turn) = (size as f32, |angle: f32| Complex::from_polar(1.0, -angle));
        let window = (0..2 * size).map(|n| (PI / (2.0 * m) * (n as f32 + 0.5)).sin()).collect();
        let before = (0..2 * size).map(|n| turn(PI * n as f32 / (2.0 * m))).collect();
        let after = (0..size).map(|k| turn(PI / m * (m + 1.0) / 2.0 * (k as f32 + 0.5)) * 2.0).collect();
        let scratch = vec![Complex::default(); fft.get_inplace_scratch_len()];
        Mdct { fft, window, before, after, values: Vec::new(), scratch }
    }

    /// The spectrum of the samples of the frame before and of this one.
    pub fn forward(&mut self, old: &[f32], new: &[f32]) -> Vec<f32> {
        let samples = old.iter().chain(new).zip(&self.window).zip(&self.before);
        self.values.clear();
        self.values.extend(samples.map(|((sample, window), turn)| turn * (sample * window)));
        self.fft.process_with_scratch(&mut self.values, &mut self.scratch);
        self.values.iter().zip(&self.after).map(|(value, turn)| (value * turn).re).collect()
    }
}
