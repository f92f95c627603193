//! What a publisher's path takes, seen from the receiving end: by when each packet says it was sent
//! (abs-send-time) and when it came. For publishers that are told a bound (REMB, TMMBR) instead of what arrived.

use std::time::Duration;

use crate::core::rtp::bwe::control::RateControl;
use crate::core::rtp::bwe::delay::DelayTrend;
use crate::core::rtp::bwe::rate::ArrivalRate;
use crate::core::rtp::bwe::{DEFAULT_ROUND_TRIP, RateLimits};
use crate::core::time::MediaTime;

/// The clock of abs-send-time: 18 bits of a second, 24 in all.
const TICKS: i64 = 1 << 18;
const WRAP: i64 = 1 << 24;
/// How often the rate follows what is seen.
const INTERVAL: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug)]
pub struct ArrivalEstimator {
    limits: RateLimits,
    /// When the last packet was sent, in ticks of its sender.
    sent: Option<i64>,
    trend: DelayTrend,
    arriving: ArrivalRate,
    control: RateControl,
    next: MediaTime,
}

impl ArrivalEstimator {
    /// Nothing came yet.
    pub fn new(limits: RateLimits) -> Self {
        ArrivalEstimator {
            limits,
            sent: None,
            trend: DelayTrend::default(),
            arriving: ArrivalRate::default(),
            control: RateControl::new(limits.initial_bitrate as f64),
            next: MediaTime::default(),
        }
    }

    /// A packet of `bytes` bytes came that has `element` as its abs-send-time.
    pub fn arrived(&mut self, now: MediaTime, element: &[u8], bytes: usize, round_trip: Option<Duration>) {
        let [a, b, c] = *element else { return };
        let sent = self.unwrap(i64::from(u32::from_be_bytes([0, a, b, c])));
        self.trend.arrived(MediaTime::from_micros(sent * 1_000_000 / TICKS), now.as_micros());
        self.arriving.add(now.as_micros(), u16::try_from(bytes).unwrap_or(u16::MAX));
        if now >= self.next {
            self.next = now + INTERVAL;
            let round_trip = round_trip.unwrap_or(DEFAULT_ROUND_TRIP);
            self.control.update(now, self.trend.usage(), None, self.arriving.bitrate(), round_trip);
        }
    }

    /// The estimate in bits per second, once the queue has grown: it rises from there as more comes through. A
    /// path that carries all it is given without a sign of trouble has no bound.
    pub fn bound(&self) -> Option<u64> {
        self.control.reduced()?;
        Some((self.control.rate() as u64).clamp(self.limits.min_bitrate, self.limits.max_bitrate))
    }

    fn unwrap(&mut self, ticks: i64) -> i64 {
        let last = self.sent.unwrap_or(ticks);
        let ahead = (ticks - last).rem_euclid(WRAP);
        let sent = last + if ahead > WRAP / 2 { ahead - WRAP } else { ahead };
        self.sent = Some(sent.max(last));
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rtp::extension::abs_send_time;

    /// A publisher of 30 frames a second that keeps to what it is told, behind a link with a queue; what it is
    /// told and the queue in milliseconds after each second.
    fn publish(capacity: f64, wanted: f64, seconds: i64) -> Vec<(Option<u64>, i64)> {
        let mut estimator = ArrivalEstimator::new(RateLimits::default());
        let (mut free, mut told, mut seconds_told) = (0i64, None::<u64>, Vec::new());
        for frame in 0..seconds * 30 {
            let now = MediaTime::from_micros(60_000_000 + frame * 33_333);
            let rate = told.map_or(wanted, |bound| wanted.min(bound as f64));
            let packets = (rate / 30.0 / 9600.0).ceil().max(1.0);
            for _ in 0..packets as usize {
                let bytes = rate / 30.0 / 8.0 / packets;
                free = free.max(now.as_micros()) + (bytes * 8e6 / capacity) as i64;
                let arrival = MediaTime::from_micros(free + 20_000);
                estimator.arrived(arrival, &abs_send_time(now), bytes as usize, None);
            }
            if frame % 30 == 29 {
                told = estimator.bound();
                seconds_told.push((told, (free - now.as_micros()).max(0) / 1000));
            }
        }
        seconds_told
    }

    #[test]
    fn a_publisher_is_held_to_what_its_path_takes() {
        for capacity in [300_000.0, 1_000_000.0, 4_000_000.0] {
            let told = publish(capacity, 3.0 * capacity, 40);
            let settled: Vec<_> = told.iter().skip(15).collect();
            let rates: Vec<f64> =
                settled.iter().filter_map(|(told, _)| told.map(|rate| rate as f64)).collect();
            assert_eq!(rates.len(), settled.len(), "told all the time");
            let mean = rates.iter().sum::<f64>() / rates.len() as f64;
            assert!((0.6..1.05).contains(&(mean / capacity)), "{mean} of {capacity}");
            assert!(settled.iter().all(|(_, queue)| *queue < 600), "{settled:?}");
        }
    }

    #[test]
    fn a_path_that_takes_it_all_has_no_bound() {
        let told = publish(10_000_000.0, 2_000_000.0, 70);
        assert!(told.iter().all(|(told, _)| told.is_none()), "{told:?}");
    }

    #[test]
    fn nonsense_does_no_harm() {
        let mut estimator = ArrivalEstimator::new(RateLimits::default());
        for at in 0..1000u32 {
            let element = (at.wrapping_mul(2_654_435_761)).to_be_bytes();
            let now = MediaTime::from_millis(i64::from(at));
            estimator.arrived(now, &element[..(at % 5) as usize], 70_000, None);
        }
        assert!(estimator.bound().is_none_or(|bound| bound >= 50_000));
    }
}
