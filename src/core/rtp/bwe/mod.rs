//! How much a receiver's path takes: the sender's side of congestion control (draft-ietf-rmcat-gcc-02 over
//! transport-wide feedback; REMB and receiver reports where there is none).
//!
//! One [`Estimator`] a transport. It is told each packet that goes out and each report that comes in, and
//! answers a rate; what is done with the rate (which layers, how fast a burst may leave) is decided elsewhere.
//! The other way, an [`ArrivalEstimator`] watches what a publisher's path takes.

mod control;
mod delay;
mod log;
mod pace;
mod probe;
mod queue;
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
use pace::Pace;
use probe::Prober;
use queue::Queue;

/// Round trip assumed before one is known.
const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(100);
/// Packets that a reading of loss is made of, and how long it lasts at least.
const LOSS_PACKETS: u32 = 50;
const LOSS_MICROS: i64 = 500_000;
/// The receiver's clock in feedback wraps here.
const ARRIVAL_WRAP: i64 = (1 << 24) * 64_000;
/// A queue that grew counts as a sign of trouble for so long.
const TROUBLE_MICROS: i64 = 20_000_000;
/// A queue out of which less than this part comes of what goes in grows.
const UNSATURATED: f64 = 0.9;
/// The same where the reading is a rough one.
const FAR_LESS: f64 = 0.5;
/// What was found out about a path is fresh for so long.
const FRESH_MICROS: i64 = 3_000_000;
/// A queue out of which packets were lost is full for so long.
const OVERFLOW_MICROS: i64 = 500_000;
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
    queue: Queue,
    arriving: ArrivalRate,
    /// What was sent of that which is reported, by when it was sent.
    departing: ArrivalRate,
    control: RateControl,
    /// Set while the path shows its bound.
    pace: Option<Pace>,
    loss: LossBound,
    prober: Prober,
    round_trip: Option<Duration>,
    /// Unwrapped arrival of the last packet reported.
    clock: Option<i64>,
    /// Packets that arrived and were lost since the last reading of loss, and when it began.
    window: (u32, u32, MediaTime),
    /// When the newest loss was heard of.
    lost: Option<MediaTime>,
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
            queue: Queue::default(),
            arriving: ArrivalRate::default(),
            departing: ArrivalRate::default(),
            pace: None,
            control: RateControl::new(limits.initial_bitrate as f64),
            loss: LossBound::default(),
            prober: Prober::default(),
            round_trip: None,
            clock: None,
            window: (0, 0, MediaTime::default()),
            lost: None,
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
        if let Some(pace) = &mut self.pace {
            pace.sent(now, bytes);
        }
    }

    /// The round-trip time is known.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = Some(round_trip);
    }

    /// Transport-wide feedback of the receiver.
    pub fn feedback(&mut self, now: MediaTime, feedback: &TransportFeedback<'_>) {
        let mut newest = None;
        for arrival in feedback.arrivals() {
            let Some(sent) = self.log.report(arrival.sequence, arrival.time.is_some()) else { continue };
            self.departing.add(sent.at.as_micros(), sent.bytes);
            newest = newest.max(Some(sent.at));
            let Some(time) = arrival.time else {
                self.window.1 += 1;
                self.lost = Some(now);
                continue;
            };
            let time = self.unwrap(time);
            self.window.0 += 1;
            self.trend.arrived(sent.at, time);
            self.queue.arrived(sent.at, time, sent.bytes);
            self.arriving.add(time, sent.bytes);
            if sent.probe != 0 {
                self.prober.arrived(sent.probe, time, sent.bytes);
            }
        }
        self.heard = Some(now);
        let usage = self.usage();
        let drained = self.queue.drained().map(|drained| drained.bitrate);
        self.control.update(now, usage, drained, self.arriving.bitrate(), self.round_trip());
        if let Some(arriving) =
            self.arriving.bitrate().filter(|_| usage == Usage::Normal && self.queue.is_short())
        {
            // What arrives without a queue fits.
            self.control.raise(UNSATURATED * arriving);
        }
        if let Some(shown) = self.prober.result(now)
            && usage != Usage::Over
        {
            self.control.raise(shown.min(self.limits.max_bitrate as f64));
        }
        self.read_loss(now);
        self.set_pace(now, newest.filter(|_| usage == Usage::Over));
    }

    /// What the queue on the way does: it grows for sure where less leaves it than is sent. Where there is none to
    /// speak of it does no harm that it grows.
    fn usage(&self) -> Usage {
        let sent = self.departing.bitrate().unwrap_or(f64::INFINITY);
        let overrun = self.queue.drained().is_some_and(|drained| {
            let part = if drained.sure { UNSATURATED } else { FAR_LESS };
            drained.bitrate < part * sent
        });
        match self.trend.usage() {
            _ if overrun => Usage::Over,
            Usage::Over if self.queue.is_short() => Usage::Under,
            usage => usage,
        }
    }

    /// Follows the bound of the path; of what was sent up to `found` is known how much waited in the queue.
    fn set_pace(&mut self, now: MediaTime, found: Option<MediaTime>) {
        let Some(bound) = self.troubled(now) else {
            self.pace = None;
            return;
        };
        let overflows = self.lost.is_some_and(|at| now.micros_since(at) < OVERFLOW_MICROS);
        let one_way = self.round_trip().as_secs_f64() / 2.0;
        let fresh = self.control.reduced().is_some_and(|at| now.micros_since(at) < FRESH_MICROS);
        let pace = self.pace.get_or_insert_with(|| Pace::new(now));
        pace.set_rate(bound, fresh, now);
        if let Some(found) = found {
            let waits = self.queue.waits() as f64 / 1e6;
            let since = now.micros_since(found) as f64 / 1e6 - one_way;
            let rate = bound as f64 / 8.0;
            // A queue that overflows holds no more behind that packet than there was before it.
            let room = if overflows { waits * rate } else { f64::INFINITY };
            let behind = (self.log.bytes_after(found) as f64).min(room);
            // Since it left, the queue has drained.
            pace.set_backlog(behind - (since - waits).max(0.0) * rate, now);
        }
    }

    /// Whether the path has shown how much it takes, and gets no more.
    pub fn is_paced(&self) -> bool {
        self.pace.is_some()
    }

    /// How long so many bytes are under way on a path that has shown how much it takes.
    pub fn takes(&self, bytes: usize) -> Duration {
        self.pace.as_ref().map_or(Duration::ZERO, |pace| pace.takes(bytes))
    }

    /// When the next packet of a picture may leave, if not now: on a path that has shown how much it takes what
    /// waits does so here. With `empty` it waits until nothing else is on its way.
    pub fn wait(&self, now: MediaTime, empty: bool) -> Option<MediaTime> {
        self.pace.as_ref()?.wait(now, empty)
    }

    /// The fraction (0 to 1) lost of one stream, of a receiver report; counts where there is no transport-wide
    /// feedback.
    pub fn receiver_report(&mut self, now: MediaTime, lost: f64) {
        if self.heard.is_none() {
            let rate = self.remb.map_or(self.control.rate(), |remb| remb as f64);
            self.loss.update(now, lost, rate, 0.0, self.round_trip());
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
        if self.remb.is_some() { self.estimate() } else { self.troubled(now) }
    }

    /// The estimate, where the path itself has shown that it takes no more.
    fn troubled(&self, now: MediaTime) -> Option<u64> {
        let grew = self.control.reduced().is_some_and(|at| now.micros_since(at) < TROUBLE_MICROS);
        (grew || self.loss.is_bound()).then(|| self.estimate())?
    }

    /// When the queue on the way was last found to grow.
    pub fn reduced(&self) -> Option<MediaTime> {
        self.control.reduced()
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
        let (lost, carried) = (f64::from(lost) / f64::from(total), self.control.carried(now));
        self.loss.update(now, lost, self.control.rate(), carried, self.round_trip());
    }
}
