//! How late packets come, and how long a jitter buffer must therefore wait: the 97th percentile of what was seen
//! lately, above the fastest packet of the last seconds, which follows a drifting clock.

use crate::core::time::MediaTime;

/// Width of a step of the histogram, in microseconds.
const STEP: i64 = 1_000;
/// Steps: up to 400 ms.
const STEPS: usize = 400;
/// How much of what was seen counts.
const PERCENTILE: f32 = 0.97;
/// Weight of the newest packet once there are many: the last seconds count.
const FORGET: f32 = 0.006;
/// The fastest packet is looked for over one to two spans of this length.
const SPAN: i64 = 4_000_000;

/// See the module.
pub struct Delay {
    clock: u32,
    /// Arrival less timestamp of the fastest packet in this span and the one before.
    fastest: [Option<i64>; 2],
    span_began: i64,
    histogram: Box<[f32; STEPS]>,
    packets: u32,
    late: i64,
}

impl Delay {
    /// Of a stream with an RTP clock of `clock` Hz.
    pub fn new(clock: u32) -> Delay {
        Delay {
            clock: clock.max(1),
            fastest: [None; 2],
            span_began: 0,
            histogram: Box::new([0.0; STEPS]),
            packets: 0,
            late: 0,
        }
    }

    fn micros(&self, timestamp: u64) -> i64 {
        (i128::from(timestamp) * 1_000_000 / i128::from(self.clock)) as i64
    }

    fn base(&self) -> Option<i64> {
        self.fastest.iter().flatten().min().copied()
    }

    /// Notes a packet.
    pub fn arrived(&mut self, timestamp: u64, arrival: MediaTime) {
        let offset = arrival.as_micros() - self.micros(timestamp);
        if self.fastest[0].is_none() || arrival.as_micros() - self.span_began > SPAN {
            self.fastest = [None, self.fastest[0]];
            self.span_began = arrival.as_micros();
        }
        let fastest = self.fastest[0].get_or_insert(offset);
        *fastest = (*fastest).min(offset);
        let late = offset - self.base().unwrap_or(offset);
        let step = usize::try_from(late / STEP).unwrap_or(0).min(STEPS - 1);
        self.packets = self.packets.saturating_add(1);
        let weight = (1.0 / self.packets as f32).max(FORGET);
        self.histogram.iter_mut().for_each(|share| *share *= 1.0 - weight);
        self.histogram[step] += weight;
        self.late = self.percentile();
    }

    fn percentile(&self) -> i64 {
        let mut sum = 0.0;
        for (step, share) in self.histogram.iter().enumerate() {
            sum += share;
            if sum >= PERCENTILE {
                // What came in the first step came in time.
                return if step == 0 { 0 } else { (step as i64 + 1) * STEP };
            }
        }
        STEPS as i64 * STEP
    }

    /// How late nearly all packets come at most, in microseconds after the fastest.
    pub fn lateness(&self) -> i64 {
        self.late
    }

    /// How long after the earliest it could have been played the sample of `timestamp` is at `now`, in microseconds.
    pub fn waited(&self, timestamp: i64, now: MediaTime) -> i64 {
        let micros = (i128::from(timestamp) * 1_000_000 / i128::from(self.clock)) as i64;
        now.as_micros() - micros - self.base().unwrap_or(now.as_micros() - micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_stream_waits_for_nothing_and_a_shaken_one_for_its_jitter() {
        let mut delay = Delay::new(8_000);
        let arrive = |delay: &mut Delay, n: u64, late: i64| {
            delay.arrived(n * 160, MediaTime::from_micros(n as i64 * 20_000 + late));
        };
        for n in 0..500 {
            arrive(&mut delay, n, (n % 3) as i64 * 200);
        }
        assert_eq!(delay.lateness(), 0);
        for n in 500..1_500u64 {
            arrive(&mut delay, n, (n * 7919 % 41) as i64 * 1_000);
        }
        assert!((35_000..=45_000).contains(&delay.lateness()), "{}", delay.lateness());
        for n in 1_500..4_500 {
            arrive(&mut delay, n, 0);
        }
        assert_eq!(delay.lateness(), 0);
    }

    #[test]
    fn a_drifting_clock_is_no_jitter() {
        let mut delay = Delay::new(48_000);
        for n in 0..6_000u64 {
            delay.arrived(n * 960, MediaTime::from_micros((n as i64 * 20_000) * 1_000_200 / 1_000_000));
        }
        assert!(delay.lateness() <= 2_000, "{}", delay.lateness());
        let now = MediaTime::from_micros(6_000 * 20_000 * 1_000_200 / 1_000_000);
        assert!((0..2_500).contains(&delay.waited(6_000 * 960, now)));
    }
}
