//! Speech repeats itself every few milliseconds. Where it does, a period can be taken out or put in, and a gap be
//! filled, without a click. All by the same search for the period.

/// Shortest and longest period looked for, in microseconds: 400 Hz to 66 Hz.
const SHORTEST: usize = 2_500;
const LONGEST: usize = 15_000;
/// The search runs at about this rate first.
const COARSE: usize = 8_000;
/// A period as sure as this may be taken out or put in.
const SURE: f32 = 0.85;
/// Below this mean square there is nothing to be heard: -60 dBFS.
const QUIET: f32 = 1e-6;

/// A period and how alike what follows it is, up to 1.
#[derive(Clone, Copy, Debug)]
pub struct Pitch {
    /// In samples.
    pub period: usize,
    /// Correlation.
    pub likeness: f32,
}

fn samples(micros: usize, rate: u32) -> usize {
    micros * rate as usize / 1_000_000
}

fn likeness(a: &[f32], b: &[f32], step: usize) -> f32 {
    let (mut cross, mut power_a, mut power_b) = (0.0f32, 1e-9f32, 1e-9f32);
    for (a, b) in a.iter().step_by(step).zip(b.iter().step_by(step)) {
        cross += a * b;
        power_a += a * a;
        power_b += b * b;
    }
    cross / (power_a * power_b).sqrt()
}

/// Finds the lag at which `part(lag)`, two slices that should be alike, are most alike.
fn search<'a>(
    rate: u32,
    longest: usize,
    part: impl Fn(usize) -> Option<(&'a [f32], &'a [f32])>,
) -> Option<Pitch> {
    let step = (rate as usize / COARSE).max(1);
    let score = |lag: usize, step: usize| part(lag).map(|(a, b)| likeness(a, b, step));
    let range = samples(SHORTEST, rate)..=samples(LONGEST, rate).min(longest);
    let best = |pitch: Option<Pitch>, found: Pitch| match pitch {
        Some(pitch) if pitch.likeness >= found.likeness => Some(pitch),
        _ => Some(found),
    };
    let coarse = range
        .step_by(step)
        .filter_map(|period| Some(Pitch { period, likeness: score(period, step)? }))
        .fold(None, best)?;
    let around = coarse.period.saturating_sub(step).max(1)..=coarse.period + step;
    around.filter_map(|period| Some(Pitch { period, likeness: score(period, 1)? })).fold(None, best)
}

/// The period at the end of `past`.
pub fn at_end(past: &[f32], rate: u32) -> Option<Pitch> {
    let window = samples(10_000, rate);
    let end = past.len();
    search(rate, end.saturating_sub(window), |lag| {
        Some((past.get(end.checked_sub(window)?..end)?, past.get(end.checked_sub(window + lag)?..end - lag)?))
    })
}

/// The period at the beginning of `samples`.
fn at_start(ahead: &[f32], rate: u32) -> Option<Pitch> {
    search(rate, ahead.len() / 2, |lag| Some((ahead.get(..lag)?, ahead.get(lag..2 * lag)?)))
}

fn usable(ahead: &[f32], rate: u32) -> Option<usize> {
    let power = ahead.iter().map(|sample| sample * sample).sum::<f32>() / ahead.len().max(1) as f32;
    if power < QUIET {
        let period = (ahead.len() / 2).min(samples(LONGEST, rate));
        return (period >= samples(SHORTEST, rate)).then_some(period);
    }
    at_start(ahead, rate).filter(|pitch| pitch.likeness >= SURE).map(|pitch| pitch.period)
}

/// Takes a period out of `samples` behind the first `past`. Answers how many samples are gone; 0: it could not be
/// done without being heard.
pub fn take_out(samples: &mut Vec<f32>, past: usize, rate: u32) -> usize {
    let Some(ahead) = samples.get_mut(past..) else { return 0 };
    let Some(period) = usable(ahead, rate) else { return 0 };
    for at in 0..period {
        let share = at as f32 / period as f32;
        ahead[period + at] = ahead[at] * (1.0 - share) + ahead[period + at] * share;
    }
    samples.drain(past..past + period);
    period
}

/// Puts a period in. Answers how many samples are new; 0 as above.
pub fn put_in(samples: &mut Vec<f32>, past: usize, rate: u32) -> usize {
    let Some(ahead) = samples.get(past..) else { return 0 };
    let Some(period) = usable(ahead, rate) else { return 0 };
    let mut blend = Vec::with_capacity(period);
    for at in 0..period {
        let share = at as f32 / period as f32;
        blend.push(ahead[period + at] * (1.0 - share) + ahead[at] * share);
    }
    samples.splice(past + period..past + period, blend);
    period
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::mix::tests::{beside, sine};

    #[test]
    fn periods_go_and_come_unheard() {
        for rate in [8_000, 16_000, 48_000] {
            for frequency in [120.0, 237.0, 440.0, 1_000.0] {
                let tone = sine(frequency, rate, rate as usize, 0.5);
                let mut ahead = tone.clone();
                let gone = take_out(&mut ahead, 7, rate);
                assert!(gone > 0 && ahead.len() == tone.len() - gone);
                let noise = beside(&ahead, frequency, rate);
                assert!(noise < 0.015, "{noise} at {frequency} Hz without {gone} of {rate}");
                let mut ahead = tone.clone();
                let new = put_in(&mut ahead, 7, rate);
                assert!(new > 0 && ahead.len() == tone.len() + new);
                let noise = beside(&ahead, frequency, rate);
                assert!(noise < 0.015, "{noise} at {frequency} Hz with {new} of {rate}");
            }
        }
    }

    #[test]
    fn noise_is_left_alone() {
        let mut seed = 1u32;
        let mut noise: Vec<f32> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / (1 << 24) as f32 - 0.5
        })
        .take(2_000)
        .collect();
        assert_eq!((take_out(&mut noise, 0, 16_000), noise.len()), (0, 2_000));
    }
}
