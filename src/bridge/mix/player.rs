//! Sounds played one after the other to one listener, or to all.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::bridge::mix::fir::Fir;
use crate::bridge::mix::prompts::Prompts;
use crate::bridge::mix::tones::Tone;
use crate::bridge::mix::wav::Wav;
use crate::core::convert::Sound;

enum Playing {
    Tone(Tone),
    Recording { wav: Arc<Wav>, at: usize, fir: Option<Fir>, loops: bool, ready: Vec<f32> },
}

/// See the module.
pub struct Player {
    line: VecDeque<Sound>,
    playing: Option<Playing>,
    /// The room is heard beneath.
    pub over: bool,
    /// Whoever asked for it knows it by that.
    pub number: u32,
}

impl Player {
    /// Plays `sounds` from the next tick on.
    pub fn new(sounds: Vec<Sound>, over: bool, number: u32) -> Player {
        Player { line: sounds.into(), playing: None, over, number }
    }

    /// The mix runs at another rate from now on.
    pub fn set_rate(&mut self, rate: u32) {
        if let Some(Playing::Recording { wav, fir, ready, .. }) = &mut self.playing {
            *fir = Fir::new(wav.rate, rate);
            ready.clear();
        }
    }

    /// Adds what is played to `output`; `false` once all has been played.
    pub fn add(&mut self, rate: u32, prompts: &Prompts, output: &mut [f32]) -> bool {
        let mut done = 0;
        while done < output.len() {
            if self.playing.is_none() {
                let Some(sound) = self.line.pop_front() else { return done > 0 };
                self.playing = start(&sound, rate, prompts);
                continue;
            }
            let last = self.line.is_empty();
            let rest = &mut output[done..];
            let made = match &mut self.playing {
                Some(Playing::Tone(tone)) => tone.add(rate, last && tone.repeats(), rest),
                Some(Playing::Recording { wav, at, fir, loops, ready }) => {
                    let again = *loops && last;
                    recorded(wav, at, (fir, rate), again, ready);
                    let made = ready.len().min(rest.len());
                    rest.iter_mut().zip(ready.drain(..made)).for_each(|(sample, new)| *sample += new);
                    made
                }
                None => 0,
            };
            done += made;
            if done < output.len() && made == 0 {
                self.playing = None;
            }
        }
        true
    }
}

fn start(sound: &Sound, rate: u32, prompts: &Prompts) -> Option<Playing> {
    let wav = match sound {
        Sound::Prompt(name) => prompts.get(name),
        Sound::Hold => prompts.music.clone(),
        _ => None,
    };
    if let Some(wav) = wav {
        let fir = Fir::new(wav.rate, rate);
        return Some(Playing::Recording { wav, at: 0, fir, loops: *sound == Sound::Hold, ready: Vec::new() });
    }
    if let Sound::Prompt(name) = sound {
        tracing::warn!(name, "there is no such prompt");
    }
    Tone::new(sound).map(Playing::Tone)
}

/// Makes sure that 20 ms are ready, unless the recording ends.
fn recorded(
    wav: &Wav,
    at: &mut usize,
    (fir, rate): (&mut Option<Fir>, u32),
    loops: bool,
    ready: &mut Vec<f32>,
) {
    let piece = wav.rate as usize / 50;
    while ready.len() < rate as usize / 50 {
        if *at >= wav.samples.len() {
            if !loops || wav.samples.is_empty() {
                return;
            }
            *at = 0;
        }
        let end = (*at + piece).min(wav.samples.len());
        let mut samples = wav.samples[*at..end].to_vec();
        samples.resize(piece, 0.0);
        *at = end;
        match fir {
            Some(fir) => fir.process(&samples, ready),
            None => ready.extend_from_slice(&samples),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::mix::level::dbfs;

    #[test]
    fn prompts_and_tones_follow_each_other_and_the_last_repeats() {
        let prompts = Prompts::new(Default::default(), None);
        let sounds = vec![
            Sound::Prompt("please-hold".into()),
            Sound::Prompt("none".into()),
            Sound::Silence(100),
            Sound::Hold,
        ];
        let mut player = Player::new(sounds, false, 0);
        let wav = prompts.get("please-hold").expect("a prompt");
        let spoken = wav.samples.len() * 2 / 320;
        let mut levels = Vec::new();
        for _ in 0..1_000 {
            let mut frame = vec![0.0; 320];
            assert!(player.add(16_000, &prompts, &mut frame));
            levels.push(dbfs(&frame));
        }
        assert!(levels[..spoken].iter().any(|level| *level > -25.0));
        assert!(
            levels[spoken + 2] < -100.0 && levels[spoken + 10] > -40.0,
            "{:?}",
            &levels[spoken..spoken + 12]
        );
        assert!(levels[900..].iter().any(|level| *level > -40.0));
        let mut player = Player::new(vec![Sound::JoinChime], true, 0);
        let mut frame = vec![0.0; 160];
        let ticks = std::iter::repeat_with(|| player.add(8_000, &prompts, &mut frame))
            .take_while(|more| *more)
            .count();
        assert_eq!(ticks, 12);
    }
}
