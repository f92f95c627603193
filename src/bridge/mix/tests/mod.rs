//! Tones and their frequencies.

mod mixer;
mod room;
mod source;

use std::f32::consts::PI;

/// `count` samples of a sine.
pub fn sine(frequency: f32, rate: u32, count: usize, peak: f32) -> Vec<f32> {
    let step = 2.0 * std::f64::consts::PI * f64::from(frequency) / f64::from(rate);
    (0..count).map(|at| ((at as f64 * step).sin() as f32) * peak).collect()
}

/// The power of `samples` at `frequency` (the sine and cosine of that very frequency that fit best), as a part of
/// their whole power.
pub fn part(samples: &[f32], frequency: f32, rate: u32) -> f32 {
    let step = 2.0 * std::f64::consts::PI * f64::from(frequency) / f64::from(rate);
    let (mut xs, mut xc, mut ss, mut sc, mut cc, mut whole) =
        (0.0f64, 0.0f64, 0.0f64, 0.0f64, 0.0f64, 1e-12f64);
    for (at, sample) in samples.iter().enumerate() {
        let ((sine, cosine), sample) = ((at as f64 * step).sin_cos(), f64::from(*sample));
        (xs, xc) = (xs + sample * sine, xc + sample * cosine);
        (ss, sc, cc) = (ss + sine * sine, sc + sine * cosine, cc + cosine * cosine);
        whole += sample * sample;
    }
    let (a, b) = ((xs * cc - xc * sc) / (ss * cc - sc * sc), (xc * ss - xs * sc) / (ss * cc - sc * sc));
    ((a * xs + b * xc) / whole) as f32
}

/// The largest part of the power outside `frequency` over pieces of 50 ms: a click is loud there.
pub fn beside(samples: &[f32], frequency: f32, rate: u32) -> f32 {
    samples
        .chunks_exact(rate as usize / 20)
        .map(|piece| 1.0 - part(piece, frequency, rate))
        .fold(0.0, f32::max)
}

/// The amplitude at `frequency`.
pub fn amplitude(samples: &[f32], frequency: f32, rate: u32) -> f32 {
    let step = 2.0 * PI * frequency / rate as f32;
    let (mut sine, mut cosine) = (0.0f64, 0.0f64);
    for (at, sample) in samples.iter().enumerate() {
        let angle = f64::from(step) * at as f64;
        sine += f64::from(*sample) * angle.sin();
        cosine += f64::from(*sample) * angle.cos();
    }
    (2.0 * (sine * sine + cosine * cosine).sqrt() / samples.len().max(1) as f64) as f32
}
