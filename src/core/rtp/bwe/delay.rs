//! Whether a queue grows on the way to the receiver (draft-ietf-rmcat-gcc-02 §5.2 and §5.3, with the trend
//! line of today's senders in place of the Kalman filter).
//!
//! We send a frame's packets as one burst, which every slow link spreads out. What is watched is therefore
//! the first packet of each burst: it waits only for what earlier bursts have left in the queue, so a large
//! keyframe on a link that can take it is no sign of trouble.

use std::collections::VecDeque;

use crate::core::time::MediaTime;

/// Packets sent within this of a burst's first belong to it.
const BURST_MICROS: i64 = 5_000;
/// Bursts the trend is read from.
const WINDOW: usize = 20;
/// Weight of the past in the smoothed delay.
const SMOOTHING: f64 = 0.9;
/// Scales the trend to the threshold's unit.
const GAIN: f64 = 4.0;
/// The trend counts for more the more bursts were seen, up to this many.
const MAX_COUNT: u32 = 60;
/// Bounds of the threshold, and where it begins.
const THRESHOLD: (f64, f64, f64) = (6.0, 600.0, 12.5);
/// How fast the threshold follows the trend downwards and upwards, per millisecond.
const FOLLOW: (f64, f64) = (0.039, 0.0087);
/// A trend this far above the threshold is an outlier that the threshold does not follow.
const OUTLIER: f64 = 15.0;
/// Milliseconds above the threshold until it counts.
const OVERUSE_MILLIS: f64 = 10.0;
/// A pause this long says nothing about the queue: the reading begins anew.
const MAX_GAP_MICROS: i64 = 3_000_000;

/// What the delay does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Usage {
    /// The queue neither grows nor shrinks.
    Normal,
    /// The queue grows: more is sent than the path takes.
    Over,
    /// The queue drains.
    Under,
}

#[derive(Clone, Copy, Debug)]
struct Burst {
    sent: MediaTime,
    arrived: i64,
}

/// See the module.
#[derive(Debug)]
pub struct DelayTrend {
    burst: Option<Burst>,
    previous: Option<Burst>,
    /// Arrival and smoothed delay of the last bursts, both in milliseconds.
    window: VecDeque<(f64, f64)>,
    count: u32,
    accumulated: f64,
    smoothed: f64,
    threshold: f64,
    updated: Option<f64>,
    over_for: f64,
    over_count: u32,
    last_trend: f64,
    usage: Usage,
}

impl Default for DelayTrend {
    fn default() -> Self {
        DelayTrend {
            burst: None,
            previous: None,
            window: VecDeque::new(),
            count: 0,
            accumulated: 0.0,
            smoothed: 0.0,
            threshold: THRESHOLD.2,
            updated: None,
            over_for: 0.0,
            over_count: 0,
            last_trend: 0.0,
            usage: Usage::Normal,
        }
    }
}

impl DelayTrend {
    /// A packet sent at `sent` arrived at `arrived` (microseconds, receiver's clock).
    pub fn arrived(&mut self, sent: MediaTime, arrived: i64) {
        let Some(burst) = &mut self.burst else {
            self.burst = Some(Burst { sent, arrived });
            return;
        };
        let since = sent.micros_since(burst.sent);
        if since < 0 {
            // It was overtaken; its burst is closed.
            return;
        }
        if since <= BURST_MICROS {
            burst.arrived = burst.arrived.min(arrived);
            return;
        }
        if since > MAX_GAP_MICROS {
            *self = DelayTrend { burst: Some(Burst { sent, arrived }), ..DelayTrend::default() };
            return;
        }
        let done = *burst;
        self.burst = Some(Burst { sent, arrived });
        if let Some(previous) = self.previous.replace(done) {
            let sent = done.sent.micros_since(previous.sent);
            let millis = ((done.arrived - previous.arrived) - sent) as f64 / 1000.0;
            self.sample(done.arrived as f64 / 1000.0, millis, sent as f64 / 1000.0);
        }
    }

    /// What the delay does at the moment.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// One burst came `delta` milliseconds later than the last one promised, `interval` after it.
    fn sample(&mut self, arrival: f64, delta: f64, interval: f64) {
        self.count = (self.count + 1).min(MAX_COUNT);
        self.accumulated += delta;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * self.accumulated;
        if self.window.len() == WINDOW {
            self.window.pop_front();
        }
        self.window.push_back((arrival, self.smoothed));
        if self.window.len() == WINDOW
            && let Some(slope) = slope(&self.window)
        {
            let trend = f64::from(self.count) * slope * GAIN;
            self.judge(trend, interval);
            self.follow(trend, arrival);
            self.last_trend = trend;
        }
    }

    fn judge(&mut self, trend: f64, interval: f64) {
        if trend > self.threshold {
            self.over_for += if self.over_count == 0 { interval / 2.0 } else { interval };
            self.over_count += 1;
            if self.over_for > OVERUSE_MILLIS && self.over_count > 1 && trend >= self.last_trend {
                (self.over_for, self.over_count) = (0.0, 0);
                self.usage = Usage::Over;
            }
            return;
        }
        (self.over_for, self.over_count) = (0.0, 0);
        self.usage = if trend < -self.threshold { Usage::Under } else { Usage::Normal };
    }

    /// The threshold follows the trend, so that a link that is always uneven is not taken for a full one.
    fn follow(&mut self, trend: f64, arrival: f64) {
        let passed = self.updated.map_or(0.0, |at| (arrival - at).clamp(0.0, 100.0));
        self.updated = Some(arrival);
        let size = trend.abs();
        if size > self.threshold + OUTLIER {
            return;
        }
        let pace = if size < self.threshold { FOLLOW.0 } else { FOLLOW.1 };
        let moved = self.threshold + pace * (size - self.threshold) * passed;
        self.threshold = moved.clamp(THRESHOLD.0, THRESHOLD.1);
    }
}

/// Slope of the line through the points, by least squares.
fn slope(points: &VecDeque<(f64, f64)>) -> Option<f64> {
    let count = points.len() as f64;
    let (x_sum, y_sum) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x_mean, y_mean) = (x_sum / count, y_sum / count);
    let (numerator, denominator) = points.iter().fold((0.0, 0.0), |(n, d), (x, y)| {
        (n + (x - x_mean) * (y - y_mean), d + (x - x_mean) * (x - x_mean))
    });
    (denominator > 0.0).then(|| numerator / denominator)
}
