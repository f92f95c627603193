//! Who speaks in a room, by how loud its tracks are said to be from time to time: the loudest, with hysteresis.
//!
//! One report may be of half a second (`audiolevels` of a router) or less (a mix). A voice counts that is loud, or
//! stands well above what its line has been lately: a line that hums is nobody.

use std::collections::BTreeMap;

use crate::core::id::ProducerId;

/// Quieter than this is nobody, in dBov.
const FAINT: f32 = -80.0;
/// What is above the noise of its line by so many dB is somebody.
const ABOVE_FLOOR: f32 = 12.0;
/// The noise of a line follows what is quieter within so many milliseconds, what is louder within so many.
const FALLS_MS: f32 = 250.0;
const RISES_MS: f32 = 10_000.0;

/// When somebody is the speaker.
#[derive(Clone, Copy, Debug)]
pub struct SpeakerConfig {
    /// As loud as this is always somebody, in dBov.
    pub loud: i8,
    /// For how long somebody must be the loudest to follow another, in milliseconds.
    pub lead_ms: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Observer {
    active: Option<ProducerId>,
    lines: BTreeMap<ProducerId, Line>,
}

#[derive(Debug)]
struct Line {
    /// Its noise, in dBov.
    floor: f32,
    /// For how long, lately, it was the loudest.
    lead_ms: u32,
}

impl Observer {
    /// Who speaks.
    pub fn active(&self) -> Option<ProducerId> {
        self.active
    }

    /// Takes the levels of the last `span_ms`, in dBov, the loudest first. Returns whether another speaks now.
    pub fn report(&mut self, levels: &[(ProducerId, i8)], span_ms: u32, config: SpeakerConfig) -> bool {
        self.lines.retain(|line, _| levels.iter().any(|(producer, _)| producer == line));
        let mut loudest = None;
        for &(producer, level) in levels {
            let line = self.lines.entry(producer).or_insert(Line { floor: f32::from(level), lead_ms: 0 });
            if line.is_voice(level, span_ms, config.loud) && loudest.is_none() {
                loudest = Some(producer);
            }
        }
        for (producer, line) in &mut self.lines {
            line.lead_ms = match Some(*producer) == loudest {
                true => (line.lead_ms + span_ms).min(config.lead_ms),
                false => line.lead_ms.saturating_sub(span_ms),
            };
        }
        let leads = |producer: &ProducerId| self.lines[producer].lead_ms >= config.lead_ms;
        let next = loudest.filter(|producer| self.active.is_none() || leads(producer));
        if next.is_none() || next == self.active {
            return false;
        }
        self.active = next;
        true
    }

    /// A track is gone, or held back. Returns whether nobody speaks any more.
    pub fn forget(&mut self, producer: ProducerId) -> bool {
        self.lines.remove(&producer);
        let spoke = self.active == Some(producer);
        if spoke {
            self.active = None;
        }
        spoke
    }
}

impl Line {
    /// Judges the level of `span_ms`, and learns of it what is noise.
    fn is_voice(&mut self, level: i8, span_ms: u32, loud: i8) -> bool {
        let level = f32::from(level);
        let within = if level < self.floor { FALLS_MS } else { RISES_MS };
        let is_voice = level >= f32::from(loud) || (level >= FAINT && level >= self.floor + ABOVE_FLOOR);
        self.floor += (level - self.floor) * (span_ms as f32 / within).min(1.0);
        is_voice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ProducerId = ProducerId(1);
    const B: ProducerId = ProducerId(2);
    const CONFIG: SpeakerConfig = SpeakerConfig { loud: -50, lead_ms: 800 };

    fn report(observer: &mut Observer, a: i8, b: i8) -> Option<ProducerId> {
        let mut levels = [(A, a), (B, b)];
        levels.sort_by_key(|(_, level)| std::cmp::Reverse(*level));
        observer.report(&levels, 500, CONFIG);
        observer.active()
    }

    #[test]
    fn the_first_voice_counts_at_once_and_another_only_once_it_leads() {
        let mut observer = Observer::default();
        assert_eq!(report(&mut observer, -127, -127), None);
        assert_eq!(report(&mut observer, -30, -127), Some(A));
        assert_eq!(report(&mut observer, -127, -127), Some(A), "silence is no other speaker");
        assert_eq!(report(&mut observer, -40, -30), Some(A), "half a second is not enough");
        assert_eq!(report(&mut observer, -30, -40), Some(A));
        assert_eq!(report(&mut observer, -40, -30), Some(A), "the other was louder in between");
        assert_eq!(report(&mut observer, -40, -30), Some(B));
        assert!(!observer.forget(A) && observer.forget(B));
        assert_eq!(report(&mut observer, -35, -127), Some(A), "after nobody at once");
    }

    #[test]
    fn a_line_that_hums_is_nobody_and_a_soft_voice_on_a_quiet_line_is_somebody() {
        let mut observer = Observer::default();
        for _ in 0..100 {
            assert_eq!(report(&mut observer, -58, -90), None);
        }
        assert_eq!(report(&mut observer, -58, -70), Some(B), "softer than the hum, and louder than its line");
        for _ in 0..4 {
            assert_eq!(report(&mut observer, -58, -90), Some(B));
        }
        assert_eq!(report(&mut observer, -85, -90), Some(B));
        for _ in 0..3 {
            report(&mut observer, -40, -90);
        }
        assert_eq!(observer.active(), Some(A));
    }

    #[test]
    fn short_reports_add_up_to_the_same() {
        let mut observer = Observer::default();
        observer.report(&[(A, -30), (B, -127)], 200, CONFIG);
        let mut later = (0..4).map(|_| observer.report(&[(B, -30), (A, -127)], 200, CONFIG));
        assert!(later.by_ref().take(3).all(|changed| !changed) && later.next() == Some(true));
    }
}
