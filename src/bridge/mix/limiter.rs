//! Several people at once are louder than what a sample can hold. The loudness is taken back at once and comes back
//! slowly; the little that is too loud before it is taken back is bent, not cut.

/// No sample goes beyond.
const CEILING: f32 = 0.98;
/// Bending begins here.
const KNEE: f32 = 0.8;
/// How much of the lost loudness comes back in 20 ms.
const RELEASE: f32 = 0.06;

/// See the module.
pub struct Limiter {
    gain: f32,
}

impl Default for Limiter {
    fn default() -> Self {
        Limiter { gain: 1.0 }
    }
}

impl Limiter {
    /// Limits 20 ms in place.
    pub fn process(&mut self, samples: &mut [f32]) {
        let peak = samples.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
        let wanted = if peak * self.gain > KNEE { KNEE / peak } else { 1.0 };
        let target = if wanted < self.gain { wanted } else { self.gain + (wanted - self.gain) * RELEASE };
        if self.gain == 1.0 && target >= 1.0 {
            return;
        }
        // Down within an eighth of the frame, up over all of it.
        let slope = if target < self.gain { samples.len() / 8 } else { samples.len() }.max(1);
        let step = (target - self.gain) / slope as f32;
        for (at, sample) in samples.iter_mut().enumerate() {
            let gain = self.gain + step * (at + 1).min(slope) as f32;
            *sample = bend(*sample * gain);
        }
        self.gain = if target > 0.999 { 1.0 } else { target };
    }
}

fn bend(sample: f32) -> f32 {
    let size = sample.abs();
    if size <= KNEE {
        return sample;
    }
    let room = CEILING - KNEE;
    (KNEE + room * ((size - KNEE) / room).tanh()).copysign(sample)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::mix::tests::{beside, sine};

    #[test]
    fn the_loud_is_softened_and_the_soft_left_alone() {
        let mut limiter = Limiter::default();
        let soft = sine(440.0, 8_000, 1_600, 0.5);
        let mut output = soft.clone();
        output.chunks_mut(160).for_each(|frame| limiter.process(frame));
        assert_eq!(output, soft);
        let mut loud = sine(440.0, 8_000, 8_000, 2.5);
        loud.chunks_mut(160).for_each(|frame| limiter.process(frame));
        assert!(loud.iter().all(|sample| sample.abs() <= CEILING));
        assert!(beside(&loud[400..], 440.0, 8_000) < 0.002);
        let mut again = sine(440.0, 8_000, 16_000, 0.5);
        again.chunks_mut(160).for_each(|frame| limiter.process(frame));
        let wanted = sine(440.0, 8_000, 16_000, 0.5);
        assert!(again[15_000..].iter().zip(&wanted[15_000..]).all(|(a, b)| (a - b).abs() < 0.002));
    }
}
