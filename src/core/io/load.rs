//! How busy a worker is, and how long that lets it put off its next round.
//!
//! Lightly loaded, a worker sleeps until something comes and forwards it at once. Above the configured
//! load each round begins at the earliest one tick after the last began (two above 85 %), so that the
//! packets of a frame leave together: one message where there were several. What controllers ask is no such load.

use std::time::{Duration, Instant};

use crate::core::io::config::IoConfig;

/// The span over which load is averaged.
const SPAN: Duration = Duration::from_millis(100);
/// How often the processor time is read: it takes a system call.
const SAMPLE: Duration = Duration::from_millis(20);
/// Above this load the tick doubles.
const HEAVY: f64 = 0.85;
/// Once begun, the tick ends below this part of the load it begins at: it makes the same work cheaper,
/// and would switch itself off otherwise.
const LEAVE: f64 = 0.6;

/// The load of one worker's thread.
pub(crate) struct Load {
    tick: Option<Duration>,
    from: f64,
    ticking: bool,
    rounds: f64,
    processor: f64,
    last_end: Instant,
    sampled: Instant,
    cpu: Duration,
    /// Time spent on requests since then.
    requests: Duration,
}

impl Load {
    /// An idle thread at `now` that has used `cpu` processor time.
    pub fn new(config: &IoConfig, now: Instant, cpu: Duration) -> Load {
        Load {
            tick: config.tick(),
            from: f64::from(config.tick_from_percent) / 100.0,
            ticking: false,
            rounds: 0.0,
            processor: 0.0,
            last_end: now,
            sampled: now,
            cpu,
            requests: Duration::ZERO,
        }
    }

    /// A round began and ended, in which `requests` was spent on those of controllers: putting rounds off makes these
    /// no cheaper, and media would wait for nothing. `cpu` reads the thread's processor time, and is called now and then.
    pub fn round(
        &mut self,
        began: Instant,
        ended: Instant,
        requests: Duration,
        cpu: impl FnOnce() -> Duration,
    ) {
        let busy = ended.saturating_duration_since(began).saturating_sub(requests);
        self.requests += requests;
        average(&mut self.rounds, busy, ended.saturating_duration_since(self.last_end));
        self.last_end = ended;
        let span = ended.saturating_duration_since(self.sampled);
        if span >= SAMPLE {
            let used = cpu();
            let media = used.saturating_sub(self.cpu).saturating_sub(self.requests);
            average(&mut self.processor, media, span);
            (self.cpu, self.requests) = (used, Duration::ZERO);
            self.sampled = ended;
        }
        let load = self.load();
        self.ticking = if self.ticking { load >= self.from * LEAVE } else { load >= self.from };
    }

    /// Part of a core, 0 to 1: the larger of the time spent in rounds (which counts what other threads
    /// take from this one) and of the processor time (which counts sleeping and waking).
    pub fn load(&self) -> f64 {
        self.rounds.max(self.processor)
    }

    /// When the next round may begin after one that began at `began`; `None`: at once.
    pub fn next_round(&self, began: Instant) -> Option<Instant> {
        let tick = self.tick.filter(|_| self.ticking)?;
        Some(began + if self.load() > HEAVY { tick * 2 } else { tick })
    }
}

/// Moves `average` towards `busy / span`, the more the longer `span` is.
fn average(average: &mut f64, busy: Duration, span: Duration) {
    if span.is_zero() {
        return;
    }
    let (busy, span) = (busy.as_secs_f64(), span.as_secs_f64());
    let weight = span / (span + SPAN.as_secs_f64());
    *average += weight * ((busy / span).min(1.0) - *average);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds of `busy` microseconds every `period`, for half a second.
    fn run(load: &mut Load, start: Instant, busy: u64, period: u64) -> Instant {
        let mut now = start;
        for _ in 0..500_000 / period {
            let end = now + Duration::from_micros(busy);
            load.round(now, end, Duration::ZERO, || Duration::ZERO);
            now += Duration::from_micros(period);
        }
        now
    }

    #[test]
    fn the_tick_begins_above_a_quarter_doubles_near_the_end_and_leaves_late() {
        let start = Instant::now();
        let mut load = Load::new(&IoConfig::default(), start, Duration::ZERO);
        let now = run(&mut load, start, 200, 1000);
        assert_eq!(load.next_round(now), None, "a fifth: forward at once");
        let now = run(&mut load, now, 300, 1000);
        assert_eq!(load.next_round(now), Some(now + Duration::from_millis(2)));
        let now = run(&mut load, now, 950, 1000);
        assert_eq!(load.next_round(now), Some(now + Duration::from_millis(4)));
        let now = run(&mut load, now, 200, 1000);
        assert!(load.next_round(now).is_some(), "the tick itself made it cheaper");
        let now = run(&mut load, now, 50, 1000);
        assert_eq!(load.next_round(now), None);
    }

    #[test]
    fn a_thread_that_only_wakes_and_sleeps_is_loaded_too() {
        let start = Instant::now();
        let mut load = Load::new(&IoConfig::default(), start, Duration::ZERO);
        for millis in 1..500 {
            let now = start + Duration::from_millis(millis);
            load.round(now, now, Duration::ZERO, || Duration::from_micros(400 * millis));
        }
        assert!((0.35..0.45).contains(&load.load()), "{}", load.load());
    }

    #[test]
    fn requests_of_controllers_put_no_packet_off() {
        let start = Instant::now();
        let mut load = Load::new(&IoConfig::default(), start, Duration::ZERO);
        let (busy, requests) = (Duration::from_micros(600), Duration::from_micros(500));
        for millis in 1..500 {
            let now = start + Duration::from_millis(millis);
            load.round(now, now + busy, requests, || busy * millis as u32);
        }
        assert_eq!(load.next_round(start), None);
        assert!((0.05..0.15).contains(&load.load()), "{}", load.load());
    }

    #[test]
    fn no_tick_when_it_is_turned_off() {
        let start = Instant::now();
        let mut load = Load::new(&IoConfig { tick_us: 0, ..IoConfig::default() }, start, Duration::ZERO);
        let now = run(&mut load, start, 900, 1000);
        assert_eq!(load.next_round(now), None);
    }
}
