//! How well a stream gets through, from 0 (nothing does) to 10 (everything), by what was lost and what of that was
//! repaired: the mean of the last reports, in which the newer ones count for more.

/// Reports that count: half a minute at one a second.
const SAMPLES: usize = 24;
/// Repaired is not the same as never lost: it came late. By how much of a loss a repair counts.
const REPAIRED: f64 = 0.25;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Score {
    samples: [u8; SAMPLES],
    count: usize,
    lost: f64,
}

impl Score {
    /// Nothing has been heard: all is well.
    pub fn new() -> Self {
        Score { samples: [0; SAMPLES], count: 0, lost: 0.0 }
    }

    /// A report of so many packets expected, lost and repaired since the last one.
    pub fn add(&mut self, expected: u64, lost: u64, repaired: u64) {
        if expected == 0 {
            return;
        }
        let repaired = repaired.min(lost);
        let missed = (lost - repaired) as f64 + repaired as f64 * REPAIRED;
        let delivered = (1.0 - missed / expected as f64).clamp(0.0, 1.0);
        self.lost = lost as f64 / expected as f64;
        if self.count == SAMPLES {
            self.samples.rotate_left(1);
            self.count -= 1;
        }
        self.samples[self.count] = (delivered.powi(4) * 10.0).round() as u8;
        self.count += 1;
    }

    /// The score.
    pub fn value(&self) -> u8 {
        let weighed = self.samples[..self.count].iter().zip(1u32..);
        let (sum, weights) = weighed
            .fold((0, 0), |(sum, all), (sample, weight)| (sum + u32::from(*sample) * weight, all + weight));
        (sum + weights / 2).checked_div(weights).map_or(10, |mean| mean as u8)
    }

    /// What the newest report says was lost, in percent.
    pub fn loss_percentage(&self) -> f64 {
        self.lost * 100.0
    }
}

impl Default for Score {
    fn default() -> Self {
        Score::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_brings_it_down_and_time_brings_it_back() {
        let mut score = Score::new();
        assert_eq!(score.value(), 10);
        (0..30).for_each(|_| score.add(100, 0, 0));
        score.add(100, 50, 0);
        assert!((8..10).contains(&score.value()), "{}", score.value());
        assert_eq!(score.loss_percentage(), 50.0);
        (0..10).for_each(|_| score.add(100, 50, 0));
        assert!(score.value() < 5, "{}", score.value());
        (0..24).for_each(|_| score.add(100, 0, 0));
        assert_eq!(score.value(), 10);
    }

    #[test]
    fn repaired_counts_for_less_than_lost() {
        let (mut lost, mut repaired) = (Score::new(), Score::new());
        lost.add(100, 20, 0);
        repaired.add(100, 20, 20);
        assert!(lost.value() < repaired.value() && repaired.value() < 10);
        lost.add(0, 0, 0);
        lost.add(10, 100, 200);
        assert!(lost.value() <= 10);
    }
}
