//! What waits, waits here: on a path that has shown how much it takes, no more is sent than leaves its queue, as what
//! lies in our stores can still be left out. A bucket that leaks at the path's rate; a bit faster, so that a path
//! that has more to give shows it.

use std::time::Duration;

use crate::core::time::MediaTime;

/// How much faster it leaks than the path is thought to take: while that has just been found out, and later, when all
/// that is known is that it takes so much at least.
const MARGIN: (f64, f64) = (1.25, 2.5);
/// So much may be on its way: a few packets at once cost less than they gain.
const DEPTH: Duration = Duration::from_millis(40);
/// ... and however narrow the path, two whole packets.
const LEAST: f64 = 2_400.0;
/// A queue that was found is waited for no longer: what more was sent is lost, or will be in the way all the same.
const FOUND: Duration = Duration::from_millis(200);
/// Sooner one need not come back.
const STEP: Duration = Duration::from_millis(2);

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Bytes per second.
    rate: f64,
    backlog: f64,
    at: MediaTime,
}

impl Pace {
    /// Nothing is on its way.
    pub fn new(now: MediaTime) -> Self {
        Pace { rate: 0.0, backlog: 0.0, at: now }
    }

    /// The path is thought to take `bitrate` bits per second; `found` just now.
    pub fn set_rate(&mut self, bitrate: u64, found: bool, now: MediaTime) {
        let margin = if found { MARGIN.0 } else { MARGIN.1 };
        self.backlog = self.backlog(now);
        (self.rate, self.at) = (bitrate as f64 * margin / 8.0, now);
    }

    /// So many bytes were found to lie in the queue.
    pub fn set_backlog(&mut self, bytes: f64, now: MediaTime) {
        (self.backlog, self.at) = (bytes.clamp(0.0, self.rate * FOUND.as_secs_f64()), now);
    }

    /// `bytes` went out.
    pub fn sent(&mut self, now: MediaTime, bytes: usize) {
        self.backlog = self.backlog(now) + bytes as f64;
        self.at = now;
    }

    /// When the next packet may leave, if not now; with `empty` once nothing is on its way any more.
    pub fn wait(&self, now: MediaTime, empty: bool) -> Option<MediaTime> {
        let most = if empty { 0.0 } else { (self.rate * DEPTH.as_secs_f64()).max(LEAST) };
        let over = self.backlog(now) - most;
        let wait = Duration::from_secs_f64((over / self.rate.max(1.0)).clamp(0.0, 1.0));
        (over > 0.0).then(|| now + wait.max(STEP))
    }

    /// How long so many bytes are under way.
    pub fn takes(&self, bytes: usize) -> Duration {
        Duration::from_secs_f64((bytes as f64 / self.rate.max(1.0)).min(60.0))
    }

    fn backlog(&self, now: MediaTime) -> f64 {
        let passed = now.micros_since(self.at).max(0) as f64 / 1e6;
        (self.backlog - self.rate * passed).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lets_through_what_the_path_takes() {
        let mut pace = Pace::new(MediaTime::default());
        pace.set_rate(800_000, true, MediaTime::default());
        let mut sent = 0;
        for milli in 0..10_000 {
            let now = MediaTime::from_millis(milli);
            while pace.wait(now, false).is_none() {
                pace.sent(now, 1000);
                sent += 1000;
            }
        }
        assert!((1_250_000..1_260_000).contains(&sent), "{sent}");
    }

    #[test]
    fn a_queue_that_was_found_is_waited_for() {
        let (mut pace, now) = (Pace::new(MediaTime::default()), MediaTime::from_millis(5));
        pace.set_rate(800_000, true, now);
        assert_eq!(pace.wait(now, true), None);
        pace.set_backlog(90_000.0, now);
        assert_eq!(pace.wait(now, true), Some(now + Duration::from_millis(200)));
        assert_eq!(pace.wait(now, false), Some(now + Duration::from_millis(160)));
        pace.set_rate(400_000, true, now + Duration::from_millis(100));
        assert_eq!(pace.wait(now + Duration::from_millis(100), true), Some(now + Duration::from_millis(300)));
        pace.sent(now + Duration::from_millis(300), 100);
        assert_eq!(pace.wait(now + Duration::from_millis(300), false), None);
    }
}
