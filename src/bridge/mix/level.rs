//! How loud somebody is, and whether that is a voice: from the samples, or from what the packet says (RFC 6464).

/// Silence, in dBFS.
pub const SILENCE: f32 = -127.0;

/// The level of `samples` in dBFS; a full-scale sine has -3.
pub fn dbfs(samples: &[f32]) -> f32 {
    let power = samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len().max(1) as f32;
    (10.0 * power.max(1e-13).log10()).max(SILENCE)
}

/// A level in dBFS as a factor.
pub fn gain(dbfs: f32) -> f32 {
    10f32.powf(dbfs / 20.0)
}

/// Voice activity of one source.
#[derive(Debug)]
pub struct Voice {
    /// Louder than this is always somebody, in dBFS.
    threshold: f32,
    /// The noise around the voice, in dBFS.
    floor: f32,
    /// Loudness that falls slowly, for the choice of the loudest.
    score: f32,
    hold: u32,
    held: u32,
    /// Levels noted since the mean was taken, and how many.
    sum: f32,
    count: u16,
}

/// Above the noise by so much is somebody, even when quieter than the threshold.
const ABOVE_FLOOR: f32 = 12.0;
/// Quieter is nobody, whatever the noise.
const FAINT: f32 = 15.0;

impl Voice {
    /// `hold` is how many ticks of 20 ms somebody counts after falling silent.
    pub fn new(threshold: f32, hold: u32) -> Voice {
        Voice { threshold, floor: threshold, score: SILENCE, hold, held: 0, sum: 0.0, count: 0 }
    }

    /// Notes the level of 20 ms; `said` is the sender's own judgement, where it makes one.
    pub fn note(&mut self, dbfs: f32, said: Option<bool>) {
        let slope = if dbfs < self.floor { 0.2 } else { 0.002 };
        self.floor += (dbfs - self.floor) * slope;
        let above = dbfs > self.threshold - FAINT && dbfs > self.floor + ABOVE_FLOOR;
        let is_voice = above || self.would_count((dbfs, said == Some(true)));
        self.held = if is_voice { self.hold } else { self.held.saturating_sub(1) };
        // Half a second to fall from loud to silent.
        self.score = dbfs.max(self.score - 2.0).max(SILENCE);
        (self.sum, self.count) = (self.sum + dbfs, self.count.saturating_add(1));
    }

    /// The mean level since this was asked last, in dBFS; `None` when nothing came.
    pub fn take_mean(&mut self) -> Option<i8> {
        let (sum, count) = (std::mem::take(&mut self.sum), std::mem::take(&mut self.count));
        (count > 0).then(|| (sum / f32::from(count)).round().clamp(SILENCE, 0.0) as i8)
    }

    /// Whether a packet of that level, said to be a voice or not, makes somebody active.
    pub fn would_count(&self, (dbfs, said): (f32, bool)) -> bool {
        dbfs > if said { self.threshold - FAINT } else { self.threshold }
    }

    /// Somebody talks, or did a moment ago.
    pub fn is_active(&self) -> bool {
        self.held > 0
    }

    /// Somebody talks right now, or did within 100 ms.
    pub fn is_speaking(&self) -> bool {
        self.held + 5 >= self.hold && self.held > 0
    }

    /// Loudness lately, in dBFS.
    pub fn score(&self) -> f32 {
        self.score
    }
}

/// What an RFC 6464 element says: the level in dBFS and whether it is a voice.
pub fn of_packet(level: u8) -> (f32, bool) {
    (-f32::from(level & 0x7f), level & 0x80 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::mix::tests::sine;

    #[test]
    fn levels() {
        assert!((dbfs(&sine(440.0, 8_000, 8_000, 1.0)) + 3.01).abs() < 0.05);
        assert_eq!(dbfs(&[0.0; 100]), SILENCE);
        assert_eq!(of_packet(0x80 | 30), (-30.0, true));
        assert!((gain(-20.0) - 0.1).abs() < 1e-6);
    }

    #[test]
    fn a_voice_holds_and_noise_is_nobody() {
        let mut voice = Voice::new(-50.0, 50);
        for _ in 0..200 {
            voice.note(-60.0, None);
        }
        assert!(!voice.is_active());
        voice.note(-25.0, None);
        assert!(voice.is_active() && voice.is_speaking());
        for _ in 0..49 {
            voice.note(-60.0, None);
        }
        assert!(voice.is_active() && !voice.is_speaking());
        voice.note(-60.0, None);
        assert!(!voice.is_active());
        // A soft voice in a quiet room.
        for _ in 0..200 {
            voice.note(-90.0, None);
        }
        voice.note(-58.0, None);
        assert!(voice.is_active());
        assert_eq!(voice.take_mean().map(|mean| mean > -90), Some(true));
        assert_eq!(voice.take_mean(), None);
    }
}
