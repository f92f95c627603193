//! From what the delay does, and how much arrives, to a rate (draft-ietf-rmcat-gcc-02 §5.5); and from loss
//! to a bound on it (§6).

use std::time::Duration;

use super::delay::Usage;
use crate::core::time::MediaTime;

/// What is kept of the arriving rate when the queue grows.
const BACK_OFF: f64 = 0.85;
/// What is kept of the rate at which a queue was seen to drain: that is all the path takes.
const USABLE: f64 = 0.92;
/// The rate at which a queue was seen to drain is known for so long.
const CARRIED_MICROS: i64 = 2_000_000;
/// Growth per second while the link's capacity is not known.
const GROWTH: f64 = 1.08;
/// The rate grows to this multiple of what arrives, and not further: nothing is known beyond.
const BEYOND: f64 = 1.25;
/// Packets that probing for capacity adds per response time.
const PACKET_BITS: f64 = 1200.0 * 8.0;
/// How much of the past stays in the capacity.
const CAPACITY_MEMORY: f64 = 0.95;
/// Below: no loss that matters. Above: congestion. In between the rate stands.
const LOSS: (f64, f64) = (0.02, 0.10);

/// What is known of the link's capacity: seen each time the queue began to grow.
#[derive(Clone, Copy, Debug)]
struct Capacity {
    mean: f64,
    /// Variance, as a part of the mean.
    spread: f64,
}

impl Capacity {
    fn add(&mut self, seen: f64) {
        self.mean = CAPACITY_MEMORY * self.mean + (1.0 - CAPACITY_MEMORY) * seen;
        let off = (self.mean - seen).powi(2) / self.mean.max(1.0);
        self.spread = CAPACITY_MEMORY * self.spread + (1.0 - CAPACITY_MEMORY) * off;
        self.spread = self.spread.clamp(400.0, 2500.0);
    }

    fn deviation(&self) -> f64 {
        (self.spread * self.mean).sqrt()
    }
}

/// Additive increase, multiplicative decrease.
#[derive(Debug)]
pub struct RateControl {
    rate: f64,
    holding: bool,
    capacity: Option<Capacity>,
    updated: Option<MediaTime>,
    reduced: Option<MediaTime>,
    /// What was seen to leave the queue on the way, and when.
    drained: Option<(f64, MediaTime)>,
}

impl RateControl {
    /// Begins at `rate` bits per second.
    pub fn new(rate: f64) -> Self {
        RateControl { rate, holding: false, capacity: None, updated: None, reduced: None, drained: None }
    }

    /// Bits per second.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// When the queue last grew.
    pub fn reduced(&self) -> Option<MediaTime> {
        self.reduced
    }

    /// What fits for sure although packets are lost: a queue that overflows still drains.
    pub fn carried(&self, now: MediaTime) -> f64 {
        let young = self.drained.filter(|(_, at)| now.micros_since(*at) < CARRIED_MICROS);
        young.map_or(0.0, |(rate, _)| USABLE * rate)
    }

    /// More was seen to go through.
    pub fn raise(&mut self, rate: f64) {
        if rate > self.rate {
            self.rate = rate;
        }
        if self.capacity.is_some_and(|known| rate > known.mean + 3.0 * known.deviation()) {
            self.capacity = None;
        }
    }

    /// One report of the receiver; `drained` is what leaves the queue, where that is known.
    pub fn update(
        &mut self,
        now: MediaTime,
        usage: Usage,
        drained: Option<f64>,
        arriving: Option<f64>,
        round_trip: Duration,
    ) {
        let passed = self.updated.map_or(0.0, |at| now.micros_since(at) as f64 / 1e6).clamp(0.0, 1.0);
        self.updated = Some(now);
        self.drained = drained.map(|rate| (rate, now)).or(self.drained);
        match usage {
            Usage::Over => match drained {
                Some(drained) => self.reduce(now, drained, USABLE),
                None => self.back_off(now, arriving, round_trip),
            },
            Usage::Under => self.holding = true,
            Usage::Normal if self.holding => self.holding = false,
            Usage::Normal => self.grow(passed, arriving, round_trip),
        }
    }

    fn back_off(&mut self, now: MediaTime, arriving: Option<f64>, round_trip: Duration) {
        self.holding = true;
        let pause = round_trip.clamp(Duration::from_millis(10), Duration::from_millis(200));
        let recent = self.reduced.is_some_and(|at| now < at + pause);
        let arriving = arriving.unwrap_or(self.rate);
        // A second reduction within a round trip only if the first was by far too small.
        if recent && arriving > self.rate * 0.5 {
            return;
        }
        self.reduce(now, arriving, BACK_OFF);
    }

    /// The path was seen to take `seen`; the part `kept` of that is used.
    fn reduce(&mut self, now: MediaTime, seen: f64, kept: f64) {
        self.holding = true;
        if self.capacity.is_some_and(|known| (seen - known.mean).abs() > 3.0 * known.deviation()) {
            self.capacity = None;
        }
        match &mut self.capacity {
            Some(known) => known.add(seen),
            None => self.capacity = Some(Capacity { mean: seen, spread: 400.0 }),
        }
        self.rate = self.rate.min(kept * seen);
        self.reduced = Some(now);
    }

    fn grow(&mut self, passed: f64, arriving: Option<f64>, round_trip: Duration) {
        let Some(arriving) = arriving else { return };
        if self.capacity.is_some_and(|known| arriving > known.mean + 3.0 * known.deviation()) {
            self.capacity = None;
        }
        let grown = match self.capacity {
            Some(_) => {
                let response = round_trip.as_secs_f64() + 0.1;
                self.rate + (PACKET_BITS / response).max(4000.0) * passed
            }
            None => self.rate * GROWTH.powf(passed) + 1000.0 * passed,
        };
        // What is known already stays, even if less is sent for a while.
        self.rate = grown.min(BEYOND * arriving + 10_000.0).max(self.rate);
    }
}

/// Bound on the rate by loss.
#[derive(Debug, Default)]
pub struct LossBound {
    bound: Option<f64>,
    reduced: Option<MediaTime>,
    updated: Option<MediaTime>,
}

impl LossBound {
    /// Of late `lost` (0 to 1) of the packets did not arrive; `rate` is what was thought to fit, `carried` what does
    /// for sure.
    pub fn update(&mut self, now: MediaTime, lost: f64, rate: f64, carried: f64, round_trip: Duration) {
        let passed = self.updated.map_or(0.0, |at| now.micros_since(at) as f64 / 1e6).clamp(0.0, 1.0);
        self.updated = Some(now);
        if lost > LOSS.1 {
            let pause = round_trip + Duration::from_millis(300);
            if self.reduced.is_none_or(|at| now >= at + pause) {
                let reduced = self.bound.unwrap_or(rate).min(rate) * (1.0 - 0.5 * lost);
                self.bound = Some(reduced.max(carried));
                self.reduced = Some(now);
            }
        } else if lost < LOSS.0
            && let Some(bound) = &mut self.bound
        {
            *bound = *bound * GROWTH.powf(passed) + 1000.0 * passed;
            if *bound >= rate {
                self.bound = None;
            }
        }
    }

    /// Whether loss bounds the rate.
    pub fn is_bound(&self) -> bool {
        self.bound.is_some()
    }

    /// `rate`, or less.
    pub fn apply(&self, rate: f64) -> f64 {
        self.bound.map_or(rate, |bound| bound.min(rate))
    }
}
