//! Tones made as they are needed: the telephone's (ETSI TR 101 041-1: 425 Hz), keys (ITU-T Q.23), chimes, and a few soft
//! notes for those who wait.

use std::f32::consts::PI;

use crate::core::convert::Sound;

/// One stretch of a tone: up to two frequencies (0: none), for so many milliseconds.
#[derive(Clone, Copy, Debug)]
struct Part {
    frequencies: [f32; 2],
    millis: u32,
    peak: f32,
}

/// A tone being played.
pub struct Tone {
    parts: Vec<Part>,
    repeats: bool,
    part: usize,
    at: u32,
}

/// Rise and fall of each part, in milliseconds.
const EDGE: u32 = 5;

const fn part(low: f32, high: f32, millis: u32, peak: f32) -> Part {
    Part { frequencies: [low, high], millis, peak }
}

const fn pause(millis: u32) -> Part {
    part(0.0, 0.0, millis, 0.0)
}

impl Tone {
    /// The tone of a sound that is one.
    pub fn new(sound: &Sound) -> Option<Tone> {
        const LOUD: f32 = 0.15;
        const SOFT: f32 = 0.06;
        let (parts, repeats) = match sound {
            Sound::Ringback => (vec![part(425.0, 0.0, 1_000, LOUD), pause(4_000)], true),
            Sound::Busy => (vec![part(425.0, 0.0, 500, LOUD), pause(500)], true),
            Sound::Congestion => (vec![part(425.0, 0.0, 250, LOUD), pause(250)], true),
            Sound::JoinChime => (vec![part(660.0, 0.0, 90, SOFT), part(880.0, 0.0, 140, SOFT)], false),
            Sound::LeaveChime => (vec![part(880.0, 0.0, 90, SOFT), part(660.0, 0.0, 140, SOFT)], false),
            Sound::Dtmf(key, millis) => {
                let (low, high) = key_frequencies(*key)?;
                (vec![part(low, high, (*millis).clamp(40, 6_000), LOUD), pause(60)], false)
            }
            Sound::Hold => {
                let notes = [262.0, 330.0, 392.0, 523.0, 392.0, 330.0];
                let mut parts: Vec<Part> = notes.iter().map(|note| part(*note, 0.0, 400, SOFT)).collect();
                parts.push(pause(2_600));
                (parts, true)
            }
            Sound::Silence(millis) => (vec![pause((*millis).min(60_000))], false),
            Sound::Prompt(_) => return None,
        };
        Some(Tone { parts, repeats, part: 0, at: 0 })
    }

    /// Whether it goes on for ever.
    pub fn repeats(&self) -> bool {
        self.repeats
    }

    /// Adds to `output` what comes next at `rate`. Answers how many samples there were; fewer than asked: the end.
    pub fn add(&mut self, rate: u32, repeat: bool, output: &mut [f32]) -> usize {
        for (done, sample) in output.iter_mut().enumerate() {
            let Some(part) = self.parts.get(self.part) else { return done };
            let length = part.millis * (rate / 1_000);
            let edge = (EDGE * (rate / 1_000)) as f32;
            let shape = (self.at.min(length - self.at) as f32 / edge).min(1.0);
            for frequency in part.frequencies.iter().filter(|frequency| **frequency > 0.0) {
                let angle = (self.at as f32 * frequency / rate as f32).fract();
                *sample += (2.0 * PI * angle).sin() * part.peak * shape;
            }
            self.at += 1;
            if self.at >= length {
                (self.part, self.at) = (self.part + 1, 0);
                if self.part == self.parts.len() && repeat {
                    self.part = 0;
                }
            }
        }
        output.len()
    }
}

fn key_frequencies(key: char) -> Option<(f32, f32)> {
    const KEYS: &str = "123A456B789C*0#D";
    let at = KEYS.find(key.to_ascii_uppercase())?;
    Some(([697.0, 770.0, 852.0, 941.0][at / 4], [1_209.0, 1_336.0, 1_477.0, 1_633.0][at % 4]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::mix::tests::{amplitude, beside};

    #[test]
    fn keys_and_telephone_tones_have_their_frequencies() {
        let mut tone = Tone::new(&Sound::Dtmf('5', 100)).expect("a tone");
        let mut output = vec![0.0; 8_000];
        assert_eq!(tone.add(8_000, false, &mut output), 160 * 8);
        for (frequency, there) in [(770.0, true), (1_336.0, true), (697.0, false), (1_209.0, false)] {
            let found = amplitude(&output[80..720], frequency, 8_000);
            assert_eq!(found > 0.1, there, "{frequency}: {found}");
        }
        let mut tone = Tone::new(&Sound::Busy).expect("a tone");
        let mut output = vec![0.0; 48_000 * 3];
        assert_eq!(tone.add(48_000, tone.repeats(), &mut output), 48_000 * 3);
        assert!(beside(&output[2_400..21_600], 425.0, 48_000) < 1e-3);
        assert!(output[24_000..48_000].iter().all(|sample| *sample == 0.0));
        assert!(beside(&output[50_400..69_600], 425.0, 48_000) < 1e-3);
        assert!(Tone::new(&Sound::Dtmf('x', 100)).is_none());
    }
}
