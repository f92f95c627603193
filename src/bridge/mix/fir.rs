//! Rates that are whole multiples of each other, by a polyphase filter: a windowed sinc (Kaiser) of 24 taps at the
//! lower rate, so 1.5 ms of delay at 8 kHz. What lies on both sides of half the lower rate is taken away by 50 dB.

use std::f32::consts::PI;

/// Taps at the lower rate.
const TAPS: usize = 24;
/// Kaiser's window for about 50 dB.
const BETA: f32 = 4.55;

/// A change of rate by a whole factor.
pub struct Fir {
    factor: usize,
    up: bool,
    /// Going up: one row of [`TAPS`] for each output phase. Going down: one row of all taps.
    rows: Vec<f32>,
    /// The last inputs, newest last.
    past: Vec<f32>,
}

impl Fir {
    /// From one rate to the other; `None` where neither is a multiple of the other, or both are equal.
    pub fn new(from: u32, to: u32) -> Option<Fir> {
        let up = to > from;
        let (low, high) = if up { (from, to) } else { (to, from) };
        if low == 0 || low == high || high % low != 0 {
            return None;
        }
        let factor = (high / low) as usize;
        let prototype = prototype(factor);
        let rows = if up { phases(&prototype, factor) } else { prototype };
        let memory = if up { TAPS } else { TAPS * factor };
        Some(Fir { factor, up, rows, past: vec![0.0; memory] })
    }

    /// Takes `input` and appends what comes of it to `output`. Going down, `input` is a multiple of the factor long.
    pub fn process(&mut self, input: &[f32], output: &mut Vec<f32>) {
        let memory = self.past.len();
        self.past.extend_from_slice(input);
        if self.up {
            for at in 0..input.len() {
                let window = &self.past[at + 1..=at + memory];
                output.extend(self.rows.chunks_exact(TAPS).map(|row| dot(row, window)));
            }
        } else {
            for at in (0..input.len()).step_by(self.factor) {
                let window = &self.past[at + self.factor..at + self.factor + memory];
                output.push(dot(&self.rows, window));
            }
        }
        let spent = self.past.len() - memory;
        self.past.drain(..spent);
    }

    /// Forgets what went before.
    pub fn reset(&mut self) {
        self.past.iter_mut().for_each(|sample| *sample = 0.0);
    }
}

/// The filter at the higher rate, `TAPS * factor` long, its sum 1.
fn prototype(factor: usize) -> Vec<f32> {
    let length = TAPS * factor;
    let middle = (length - 1) as f32 / 2.0;
    let tap = |at: usize| {
        let x = at as f32 - middle;
        let angle = PI * x / factor as f32;
        let sinc = if angle.abs() < 1e-6 { 1.0 } else { angle.sin() / angle };
        let place = x / (middle + 0.5);
        sinc * bessel(BETA * (1.0 - place * place).max(0.0).sqrt())
    };
    let mut taps: Vec<f32> = (0..length).map(tap).collect();
    let sum: f32 = taps.iter().sum();
    taps.iter_mut().for_each(|tap| *tap /= sum);
    taps
}

/// Rows of the prototype for each output phase, each to be laid on a window with the newest sample last.
fn phases(prototype: &[f32], factor: usize) -> Vec<f32> {
    let mut rows = Vec::with_capacity(prototype.len());
    for phase in 0..factor {
        let row: Vec<f32> = prototype.iter().skip(phase).step_by(factor).copied().collect();
        rows.extend(row.iter().rev().map(|tap| tap * factor as f32));
    }
    rows
}

/// Modified Bessel function of the first kind, order 0, as a power series.
fn bessel(x: f32) -> f32 {
    let (mut sum, mut term) = (1.0f32, 1.0f32);
    for n in 1..20 {
        let half = x / (2.0 * n as f32);
        term *= half * half;
        sum += term;
    }
    sum
}

/// Eight sums side by side, which the compiler turns into vector instructions.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::mix::tests::{beside, sine};

    fn convert(from: u32, to: u32, frequency: f32) -> Vec<f32> {
        let mut fir = Fir::new(from, to).expect("a whole factor");
        let mut output = Vec::new();
        for piece in sine(frequency, from, from as usize, 0.5).chunks(from as usize / 50) {
            fir.process(piece, &mut output);
        }
        assert_eq!(output.len(), to as usize);
        output
    }

    #[test]
    fn a_sine_stays_a_sine_of_its_loudness() {
        for (from, to) in
            [(8_000, 48_000), (8_000, 16_000), (16_000, 48_000), (48_000, 8_000), (16_000, 8_000)]
        {
            for frequency in [300.0, 1_000.0, 3_000.0] {
                let output = convert(from, to, frequency);
                let noise = beside(&output[1_000..], frequency, to);
                assert!(noise < 3e-5, "{from} to {to}: {noise} beside {frequency} Hz");
                let peak = output[1_000..].iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
                assert!((0.47..0.53).contains(&peak), "{from} to {to}: {peak}");
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_carry_is_taken_away() {
        let output = convert(48_000, 8_000, 6_000.0);
        assert!(output[1_000..].iter().all(|sample| sample.abs() < 0.005));
    }

    #[test]
    fn only_whole_factors() {
        assert!(Fir::new(44_100, 48_000).is_none() && Fir::new(8_000, 8_000).is_none());
    }
}
