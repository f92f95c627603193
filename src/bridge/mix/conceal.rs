//! What is heard in place of lost packets of G.711 and G.722: the last period again and again, softer each time
//! (after the idea of ITU-T G.711 appendix I), gone after 60 ms. What comes afterwards is blended in.

use crate::bridge::mix::pitch;

/// Microseconds at full loudness, and until silence.
const FULL: usize = 10_000;
const GONE: usize = 60_000;
/// Microseconds of blending at the seams.
const SEAM: usize = 4_000;

/// A filled gap as it goes on.
#[derive(Default)]
pub struct Conceal {
    cycle: Vec<f32>,
    made: usize,
    /// What the gap would have gone on with, to blend in the first real samples; empty: nothing to blend.
    step: f32,
}

impl Conceal {
    /// Whether a gap is being filled.
    pub fn is_running(&self) -> bool {
        !self.cycle.is_empty()
    }

    fn begin(&mut self, past: &[f32], rate: u32) {
        let default = rate as usize / 100;
        let period = pitch::at_end(past, rate).map_or(default, |pitch| pitch.period).min(past.len());
        let Some(from) = past.len().checked_sub(period).filter(|_| period > 1) else {
            self.cycle = vec![0.0; default.max(1)];
            return;
        };
        self.cycle.clear();
        self.cycle.extend_from_slice(&past[from..]);
        // Where the cycle closes, and where it follows what was played, no step may be heard.
        let seam = (period / 4).max(1);
        for at in 0..seam.min(from) {
            let share = (at + 1) as f32 / seam as f32;
            let place = period - seam + at;
            self.cycle[place] = self.cycle[place] * (1.0 - share) + past[from - seam.min(from) + at] * share;
        }
        let last = past.last().copied().unwrap_or(0.0);
        self.step = if from > 0 { last - past[from - 1] } else { 0.0 };
        self.made = 0;
    }

    /// Appends `count` samples in place of lost ones; `past` is what was heard before, without them.
    pub fn fill(&mut self, past: &[f32], count: usize, rate: u32, output: &mut Vec<f32>) {
        if self.cycle.is_empty() {
            self.begin(past, rate);
        }
        output.extend((0..count).map(|_| self.next(rate)));
    }

    fn next(&mut self, rate: u32) -> f32 {
        let micros = self.made * 1_000 / (rate as usize / 1_000);
        let gain = match micros {
            ..FULL => 1.0,
            FULL..GONE => 1.0 - (micros - FULL) as f32 / (GONE - FULL) as f32,
            _ => 0.0,
        };
        let sample = self.cycle[self.made % self.cycle.len()];
        let step = if micros < SEAM { self.step * (1.0 - micros as f32 / SEAM as f32) } else { 0.0 };
        self.made += 1;
        (sample + step) * gain
    }

    /// Blends the first of the real `samples` in, and ends.
    pub fn end(&mut self, samples: &mut [f32], rate: u32) {
        if self.cycle.is_empty() {
            return;
        }
        let seam = SEAM * rate as usize / 1_000_000;
        for (at, sample) in samples.iter_mut().take(seam).enumerate() {
            let share = (at + 1) as f32 / seam as f32;
            *sample = *sample * share + self.next(rate) * (1.0 - share);
        }
        self.cycle.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::mix::tests::sine;

    #[test]
    fn a_gap_in_a_tone_is_filled_without_a_step_and_fades() {
        for rate in [8_000u32, 48_000] {
            let tone = sine(330.0, rate, rate as usize, 0.5);
            let cut = rate as usize / 20;
            let mut output = tone[..cut].to_vec();
            let mut conceal = Conceal::default();
            conceal.fill(&tone[..cut], rate as usize / 100, rate, &mut output);
            let mut rest = tone[output.len()..output.len() + rate as usize / 50].to_vec();
            conceal.end(&mut rest, rate);
            output.extend(rest);
            let steepest =
                |samples: &[f32]| samples.windows(2).fold(0.0f32, |most, w| most.max((w[1] - w[0]).abs()));
            assert!(steepest(&output) < steepest(&tone) * 1.5, "{rate}");
            let error = output.iter().zip(&tone).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
            assert!(error < 0.15, "{error} at {rate}");
            let mut conceal = Conceal::default();
            output.clear();
            conceal.fill(&tone[..cut], rate as usize / 10, rate, &mut output);
            assert!(output[output.len() * 7 / 10..].iter().all(|sample| *sample == 0.0));
            assert!(conceal.is_running());
        }
    }
}
