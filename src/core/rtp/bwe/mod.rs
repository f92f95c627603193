//! How much a receiver's path takes: the sender's side of congestion control (draft-ietf-rmcat-gcc-02 over
//! transport-wide feedback; REMB and receiver reports where there is none).
//!
//! One [`Estimator`] a transport. It is told each packet that goes out and each report that comes in, and
//! answers a rate; what is done with the rate (which layers, how fast a burst may leave) is decided elsewhere.
//! The other way, an [`ArrivalEstimator`] watches what a publisher's path takes.

mod control;
mod delay;
mod log;
mod probe;
mod rate;
mod receive;

pub use rate::ArrivalRate;
pub use receive::ArrivalEstimator;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Deserialize;

use crate::core::rtp::rtcp::TransportFeedback;
use crate::core::time::MediaTime;
use control::{LossBound, RateControl};
use delay::{DelayTrend, Usage};
use log::SentLog;
use probe::Prober;

/// Round trip assumed before one is known.
const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(100);
/// Packets that a reading of loss is made of, and how long it lasts at least.
const LOSS_PACKETS: u32 = 50;
const LOSS_MICROS: i64 = 500_000;
/// The receiver's clock in feedback wraps here.
const ARRIVAL_WRAP: i64 = (1 << 24) * 64_000;
/// A queue that grew counts as a sign of trouble for so long.
const TROUBLE_MICROS: i64 = 20_000_000;
/// A receiver whose feedback stops is not known any more.
const SILENCE_MICROS: i64 = 5_000_000;

/// Bounds of what a receiver's path is thought to take.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimits {
    /// Bits per second assumed before anything is known. Default 1,500,000.
    pub initial_bitrate: u64,
    /// No path is thought to take less, bit/s. Default 50,000.
    pub min_bitrate: u64,
    /// No path is thought to take more, bit/s. Default 100,000,000.
    pub max_bitrate: u64,
}

impl Default for RateLimits {
    fn default() -> Self {
        RateLimits { initial_bitrate: 1_500_000, min_bitrate: 50_000, max_bitrate: 100_000_000 }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Estimator {
    limits: RateLimits,
    log: SentLog,
    trend: DelayTrend,
    arriving: ArrivalRate,
    control: RateControl,
    loss: LossBound,
    prober: Prober,
    round_trip: Option<Duration>,
    /// Unwrapped arrival of the last packet reported.
    clock: Option<i64>,
    /// Packets that arrived and were lost since the last reading of loss, and when it began.
    window: (u32, u32, MediaTime),
    heard: Option<MediaTime>,
    remb: Option<u64>,
}

impl Estimator {
    /// Nothing is known yet.
    pub fn new(limits: RateLimits) -> Self {
        Estimator {
            limits,
            log: SentLog::default(),
            trend: DelayTrend::default(),
            arriving: ArrivalRate::default(),
            control: RateControl::new(limits.initial_bitrate as f64),
            loss: LossBound::default(),
            prober: Prober::default(),
            round_trip: None,
            clock: None,
            window: (0, 0, MediaTime::default()),
            heard: None,
            remb: None,
        }
    }

    /// The transport-wide sequence number of the next packet.
    pub fn next_sequence(&self) -> u16 {
        self.log.next()
    }

    /// The packet with the [next](Self::next_sequence) number went out.
    pub fn sent(&mut self, now: MediaTime, bytes: usize) {
        let probe = self.prober.sent(now, bytes);
        self.log.push(now, bytes, probe);
    }

    /// The round-trip time is known.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = Some(round_trip);
    }

    /// Transport-wide feedback of the receiver.
    pub fn feedback(&mut self, now: MediaTime, feedback: &TransportFeedback<'_>) {
        for arrival in feedback.arrivals() {
            let Some(sent) = self.log.report(arrival.sequence, arrival.time.is_some()) else { continue };
            let Some(time) = arrival.time else {
                self.window.1 += 1;
                continue;
            };
            let time = self.unwrap(time);
            self.window.0 += 1;
            self.trend.arrived(sent.at, time);
            self.arriving.add(time, sent.bytes);
            if sent.probe != 0 {
                self.prober.arrived(sent.probe, time, sent.bytes);
            }
        }
        self.heard = Some(now);
        let usage = self.trend.usage();
        self.control.update(now, usage, self.arriving.bitrate(), self.round_trip());
        if let Some(shown) = self.prober.result(now)
            && usage != Usage::Over
        {
            self.control.raise(shown.min(self.limits.max_bitrate as f64));
        }
        self.read_loss(now);
    }

    /// The fraction (0 to 1) lost of one stream, of a receiver report; counts where there is no transport-wide
    /// feedback.
    pub fn receiver_report(&mut self, now: MediaTime, lost: f64) {
        if self.heard.is_none() {
            let rate = self.remb.map_or(self.control.rate(), |remb| remb as f64);
            self.loss.update(now, lost, rate, self.round_trip());
        }
    }

    /// The receiver's own estimate.
    pub fn remb(&mut self, bitrate: u64) {
        self.remb = Some(bitrate);
    }

    /// What the path takes in bits per second; `None` while the receiver has said nothing.
    pub fn estimate(&self) -> Option<u64> {
        let own = self.heard.map(|_| self.loss.apply(self.control.rate()));
        let rate = match (own, self.remb) {
            (Some(own), None) => own,
            (Some(own), Some(remb)) => own.min(remb as f64),
            (None, Some(remb)) => self.loss.apply(remb as f64),
            (None, None) => return None,
        };
        Some((rate as u64).clamp(self.limits.min_bitrate, self.limits.max_bitrate))
    }

    /// The estimate, if the path has shown that it takes no more: the queue grew lately, packets were lost or
    /// the receiver says so. A path that carries all it is given without a sign of trouble has no bound.
    pub fn bound(&self, now: MediaTime) -> Option<u64> {
        let grew = self.control.reduced().is_some_and(|at| now.micros_since(at) < TROUBLE_MICROS);
        (grew || self.loss.is_bound() || self.remb.is_some()).then(|| self.estimate())?
    }

    /// Something better could be sent if the path took `bitrate`: it is probed for now and then.
    pub fn want(&mut self, now: MediaTime, bitrate: u64) {
        let heard = self.heard.is_some_and(|at| now.micros_since(at) < SILENCE_MICROS);
        if let Some(known) = self.estimate().filter(|_| heard && self.trend.usage() == Usage::Normal) {
            self.prober.want(now, bitrate.min(self.limits.max_bitrate) as f64, known as f64);
        }
    }

    /// Bytes of padding to send now.
    pub fn padding(&mut self, now: MediaTime) -> usize {
        self.prober.due(now)
    }

    /// When to ask for padding again.
    pub fn next_due(&self) -> Option<MediaTime> {
        self.prober.next_due()
    }

    /// Packets sent of which nothing was heard yet.
    pub fn unreported(&self) -> usize {
        self.log.len()
    }

    fn round_trip(&self) -> Duration {
        self.round_trip.unwrap_or(DEFAULT_ROUND_TRIP)
    }

    fn unwrap(&mut self, time: i64) -> i64 {
        let last = *self.clock.get_or_insert(time);
        let ahead = (time - last).rem_euclid(ARRIVAL_WRAP);
        let ahead = if ahead > ARRIVAL_WRAP / 2 { ahead - ARRIVAL_WRAP } else { ahead };
        self.clock = Some(last + ahead.max(0));
        last + ahead
    }

    fn read_loss(&mut self, now: MediaTime) {
        let (arrived, lost, began) = self.window;
        let total = arrived + lost;
        if total < LOSS_PACKETS || now.micros_since(began) < LOSS_MICROS {
            return;
        }
        self.window = (0, 0, now);
        self.loss.update(now, f64::from(lost) / f64::from(total), self.control.rate(), self.round_trip());
    }
}
