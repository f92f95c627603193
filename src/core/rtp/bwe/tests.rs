//! The estimator against links as a hand-moved clock makes them: a bottleneck with a queue, delay and loss.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Estimator, RateLimits};
use crate::core::rtp::receive::TransportCcRecorder;
use crate::core::rtp::rtcp::{Compound, Packet};
use crate::core::time::MediaTime;

const LIMITS: RateLimits =
    RateLimits { initial_bitrate: 1_000_000, min_bitrate: 50_000, max_bitrate: 50_000_000 };

/// A link with one queue, and the receiver behind it.
struct Lab {
    now: MediaTime,
    capacity: f64,
    one_way: i64,
    loss: f64,
    queue_limit: i64,
    /// When the bottleneck is free again.
    free: i64,
    on_the_way: VecDeque<(i64, u16)>,
    reports: VecDeque<(i64, Vec<u8>)>,
    recorder: TransportCcRecorder,
    estimator: Estimator,
    random: u64,
    worst_queue: i64,
    dropped: u32,
    padded: usize,
}

impl Lab {
    fn new(capacity: f64) -> Self {
        Lab {
            now: MediaTime::from_millis(10),
            capacity,
            one_way: 20_000,
            loss: 0.0,
            queue_limit: 400_000,
            free: 0,
            on_the_way: VecDeque::new(),
            reports: VecDeque::new(),
            recorder: TransportCcRecorder::new(Duration::from_millis(50)),
            estimator: Estimator::new(LIMITS),
            random: 0x9e37_79b9,
            worst_queue: 0,
            dropped: 0,
            padded: 0,
        }
    }

    fn chance(&mut self) -> f64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 40) as f64 / (1u64 << 24) as f64
    }

    fn send(&mut self, bytes: usize) {
        let sequence = self.estimator.next_sequence();
        self.estimator.sent(self.now, bytes);
        let now = self.now.as_micros();
        let waiting = (self.free - now).max(0);
        self.worst_queue = self.worst_queue.max(waiting);
        if waiting > self.queue_limit || self.chance() < self.loss {
            self.dropped += 1;
            return;
        }
        self.free = now + waiting + (bytes as f64 * 8e6 / self.capacity) as i64;
        self.on_the_way.push_back((self.free + self.one_way, sequence));
    }

    fn frame(&mut self, bytes: usize) {
        let packets = bytes.div_ceil(1200).max(1);
        (0..packets).for_each(|_| self.send(bytes / packets));
    }

    /// One millisecond passes.
    fn tick(&mut self) {
        self.now = self.now + Duration::from_millis(1);
        let now = self.now.as_micros();
        while let Some((at, sequence)) = self.on_the_way.front().copied().filter(|(at, _)| *at <= now) {
            self.on_the_way.pop_front();
            self.recorder.received(MediaTime::from_micros(at), sequence);
        }
        let mut report = Vec::new();
        if self.recorder.poll(self.now, 1, 2, &mut report) {
            self.reports.push_back((now + self.one_way, report));
        }
        while self.reports.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, report)) = self.reports.pop_front() else { break };
            for packet in Compound::new(&report).map_while(Result::ok) {
                if let Packet::TransportFeedback(feedback) = packet {
                    self.estimator.feedback(self.now, &feedback);
                }
            }
        }
        let padding = self.estimator.padding(self.now);
        for at in (0..padding).step_by(1000) {
            self.send((padding - at).min(1000));
        }
        self.padded += padding;
    }

    fn estimate(&self) -> f64 {
        self.estimator.estimate().map_or(0.0, |rate| rate as f64)
    }

    /// Frames of 30 a second and sound of 50 packets a second for `seconds`; `rate` of the picture by time.
    fn run(&mut self, seconds: i64, mut rate: impl FnMut(&Lab) -> f64) {
        for milli in 0..seconds * 1000 {
            if milli % 33 == 0 {
                let bits = rate(self);
                self.frame((bits / 30.0 / 8.0) as usize);
            }
            if milli % 20 == 7 {
                self.send(160);
            }
            self.tick();
        }
    }

    /// A publisher that follows the estimate.
    fn follow(&mut self, seconds: i64) {
        // The sound takes its part.
        let rate = |lab: &Lab| if lab.estimate() > 0.0 { lab.estimate() - 64_000.0 } else { 300_000.0 };
        self.run(seconds, rate);
    }
}

#[test]
fn who_sends_what_is_estimated_fills_the_link_and_not_its_queue() {
    for capacity in [500_000.0, 2_000_000.0, 8_000_000.0] {
        let mut lab = Lab::new(capacity);
        lab.follow(40);
        lab.worst_queue = 0;
        let mut low = f64::MAX;
        for _ in 0..20 {
            lab.follow(1);
            low = low.min(lab.estimate());
        }
        assert!(low > 0.6 * capacity, "{low} of {capacity}");
        assert!(lab.estimate() < 1.15 * capacity, "{} of {capacity}", lab.estimate());
        assert!(lab.worst_queue < 250_000, "{} us of queue at {capacity}", lab.worst_queue);
    }
}

#[test]
fn a_link_that_shrinks_is_noticed_within_two_seconds() {
    let mut lab = Lab::new(3_000_000.0);
    lab.follow(30);
    lab.capacity = 600_000.0;
    lab.follow(2);
    assert!(lab.estimate() < 700_000.0, "{}", lab.estimate());
    assert_eq!(lab.estimator.bound(lab.now), lab.estimator.estimate());
    lab.follow(10);
    lab.worst_queue = 0;
    lab.follow(5);
    assert!(lab.estimate() > 300_000.0, "{}", lab.estimate());
    assert!(lab.worst_queue < 300_000, "{}", lab.worst_queue);
}

#[test]
fn a_probe_finds_room_for_the_next_layer() {
    let mut lab = Lab::new(10_000_000.0);
    lab.run(2, |_| 300_000.0);
    let before = lab.estimate();
    assert!(before < 1_500_000.0, "{before}");
    assert_eq!(lab.estimator.bound(lab.now), None, "no sign of trouble");
    for _ in 0..40 {
        lab.estimator.want(lab.now, 2_500_000);
        lab.run(1, |_| 300_000.0);
        if lab.estimate() >= 2_500_000.0 {
            break;
        }
    }
    let took = lab.now.as_micros() / 1_000_000;
    assert!(lab.estimate() >= 2_500_000.0, "{} after {took} s", lab.estimate());
    assert!(took <= 5, "{took} s");
    assert!(lab.padded < 60_000, "{} bytes of padding", lab.padded);
}

#[test]
fn a_probe_does_not_find_room_that_is_not_there() {
    let mut lab = Lab::new(1_200_000.0);
    lab.run(2, |_| 500_000.0);
    lab.worst_queue = 0;
    for _ in 0..60 {
        lab.estimator.want(lab.now, 2_500_000);
        lab.run(1, |_| 500_000.0);
        assert!(lab.estimate() < 1_500_000.0, "{}", lab.estimate());
    }
    assert!(lab.padded > 0, "it was tried");
    assert!(lab.padded < 120_000, "{} bytes of padding: tried ever less often", lab.padded);
    assert!(lab.worst_queue < 150_000, "{}", lab.worst_queue);
    assert_eq!(lab.dropped, 0);
}

#[test]
fn keyframes_in_bursts_are_no_congestion() {
    let mut lab = Lab::new(10_000_000.0);
    let mut count = 0;
    lab.run(5, |_| 2_000_000.0);
    let settled = lab.estimate();
    lab.run(60, |_| {
        count += 1;
        if count % 60 == 0 { 16_000_000.0 } else { 1_700_000.0 }
    });
    assert!(lab.estimate() > 0.9 * settled.min(2_000_000.0), "{} after {settled}", lab.estimate());
}

#[test]
fn random_loss_is_no_congestion_and_heavy_loss_is() {
    let mut lab = Lab::new(10_000_000.0);
    lab.run(10, |_| 1_500_000.0);
    let before = lab.estimate();
    lab.loss = 0.05;
    lab.run(20, |_| 1_500_000.0);
    assert!(lab.estimate() > 0.8 * before, "{} after {before}", lab.estimate());
    lab.loss = 0.4;
    lab.run(5, |_| 1_500_000.0);
    assert!(lab.estimate() < 0.5 * before, "{} after {before}", lab.estimate());
    lab.loss = 0.0;
    lab.run(40, |_| 1_500_000.0);
    assert!(lab.estimate() > 0.8 * before, "it recovers: {} after {before}", lab.estimate());
}

#[test]
fn remb_counts_alone_and_as_a_bound() {
    let mut estimator = Estimator::new(LIMITS);
    assert_eq!(estimator.estimate(), None);
    estimator.remb(700_000);
    assert_eq!(estimator.estimate(), Some(700_000));
    estimator.receiver_report(MediaTime::from_millis(5000), 0.3);
    assert!(estimator.estimate().is_some_and(|rate| (500_000..650_000).contains(&rate)));
    let mut lab = Lab::new(10_000_000.0);
    lab.run(5, |_| 1_000_000.0);
    lab.estimator.remb(200_000);
    assert_eq!(lab.estimator.estimate(), Some(200_000));
}

#[test]
fn what_was_reported_is_forgotten() {
    let mut lab = Lab::new(10_000_000.0);
    lab.run(30, |_| 4_000_000.0);
    assert!(lab.estimator.unreported() < 100, "{}", lab.estimator.unreported());
    lab.one_way = 3_600_000_000;
    lab.run(20, |_| 12_000_000.0);
    assert!(lab.estimator.unreported() <= 4096, "{}", lab.estimator.unreported());
}
