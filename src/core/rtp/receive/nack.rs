//! Loss and its repair: which packets are missing, when to ask for them, when to stop (RFC 4585 §6.2.1).

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::rtp::window::SequenceWindow;
use crate::core::time::MediaTime;

/// Bounds of loss repair.
#[derive(Clone, Copy, Debug)]
pub struct NackLimits {
    /// Missing packets tracked at once; beyond it the oldest are given up and a keyframe asked for.
    pub max_missing: usize,
    /// A missing packet older than this is given up.
    pub max_age: Duration,
    /// Requests for one packet.
    pub max_retries: u8,
    /// Wait before the first request, for packets that are only out of order.
    pub reorder: Duration,
    /// Shortest wait between two requests for one packet, whatever the round-trip time.
    pub min_interval: Duration,
}

impl Default for NackLimits {
    fn default() -> Self {
        NackLimits {
            max_missing: 512,
            max_age: Duration::from_secs(1),
            max_retries: 10,
            reorder: Duration::from_millis(5),
            min_interval: Duration::from_millis(20),
        }
    }
}

/// Sequence numbers asked for at once, so that a request fits a datagram.
const MAX_REQUEST: usize = 250;

#[derive(Clone, Copy, Debug)]
struct Missing {
    sequence: u64,
    since: MediaTime,
    next: MediaTime,
    requests: u8,
}

/// Finds gaps and says when to ask for what.
#[derive(Debug)]
pub struct NackGenerator {
    limits: NackLimits,
    newest: Option<u64>,
    /// Ascending.
    missing: VecDeque<Missing>,
    gave_up: bool,
}

impl NackGenerator {
    /// One that has seen nothing.
    pub fn new(limits: NackLimits) -> Self {
        NackGenerator { limits, newest: None, missing: VecDeque::new(), gave_up: false }
    }

    /// Notes that a packet arrived (first time, late or retransmitted).
    pub fn received(&mut self, now: MediaTime, sequence: u64) {
        let Some(newest) = self.newest else {
            self.newest = Some(sequence);
            return;
        };
        if sequence <= newest {
            if let Ok(place) = self.missing.binary_search_by_key(&sequence, |missing| missing.sequence) {
                self.missing.remove(place);
            }
            return;
        }
        self.newest = Some(sequence);
        let gap = sequence - newest - 1;
        if gap > self.limits.max_missing as u64 {
            self.missing.clear();
            self.gave_up = true;
            return;
        }
        for sequence in newest + 1..sequence {
            let next = now + self.limits.reorder;
            self.missing.push_back(Missing { sequence, since: now, next, requests: 0 });
        }
        while self.missing.len() > self.limits.max_missing {
            self.missing.pop_front();
            self.gave_up = true;
        }
    }

    /// Puts the sequence numbers to ask for now into `lost` (which it clears), ascending. Returns `true` when
    /// something was given up since the last call: ask for a keyframe.
    pub fn poll(&mut self, now: MediaTime, round_trip: Duration, lost: &mut Vec<u16>) -> bool {
        lost.clear();
        let limits = self.limits;
        let interval = round_trip.max(limits.min_interval);
        let mut gave_up = std::mem::take(&mut self.gave_up);
        self.missing.retain_mut(|missing| {
            if now < missing.next || lost.len() >= MAX_REQUEST {
                return true;
            }
            let age = now.micros_since(missing.since);
            if missing.requests >= limits.max_retries || age > limits.max_age.as_micros() as i64 {
                gave_up = true;
                return false;
            }
            lost.push(missing.sequence as u16);
            // Each further request waits a quarter longer: a congested path is not helped by more.
            missing.next = now + interval + interval * u32::from(missing.requests) / 4;
            missing.requests += 1;
            true
        });
        gave_up
    }

    /// When `poll` may have something; `None` when nothing is missing.
    pub fn next_timeout(&self) -> Option<MediaTime> {
        if self.gave_up {
            return Some(MediaTime(i64::MIN));
        }
        self.missing.iter().map(|missing| missing.next).min()
    }

    /// Missing packets before `sequence` are not needed any more (a keyframe begins there).
    pub fn forget_before(&mut self, sequence: u64) {
        let keep = self.missing.partition_point(|missing| missing.sequence < sequence);
        self.missing.drain(..keep);
    }

    /// How many packets are missing.
    pub fn missing(&self) -> usize {
        self.missing.len()
    }
}

/// Refuses what it has seen: needed where SRTP's replay window does not see the packets (RTX, plain RTP).
#[derive(Clone, Debug, Default)]
pub struct DuplicateGuard {
    window: Option<SequenceWindow>,
}

impl DuplicateGuard {
    /// Whether `sequence` is new (neither seen nor too old to tell); notes it.
    pub fn accept(&mut self, sequence: u64) -> bool {
        let Some(window) = &mut self.window else {
            self.window = Some(SequenceWindow::starting_at(sequence));
            return true;
        };
        let new = window.is_new(sequence);
        if new {
            window.note(sequence);
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(50);

    fn ms(millis: i64) -> MediaTime {
        MediaTime::from_millis(millis)
    }

    fn poll(nack: &mut NackGenerator, at: i64) -> (Vec<u16>, bool) {
        let mut lost = vec![9];
        let gave_up = nack.poll(ms(at), RTT, &mut lost);
        (lost, gave_up)
    }

    #[test]
    fn reordering_asks_for_nothing() {
        let mut nack = NackGenerator::new(NackLimits::default());
        for (at, sequence) in [(0, 10), (1, 12), (2, 13), (3, 11), (4, 14)] {
            nack.received(ms(at), sequence);
            assert_eq!(poll(&mut nack, at), (vec![], false));
        }
        assert_eq!((nack.next_timeout(), nack.missing()), (None, 0));
    }

    #[test]
    fn a_loss_is_asked_for_at_the_pace_of_the_round_trip_until_it_comes() {
        let mut nack = NackGenerator::new(NackLimits::default());
        nack.received(ms(0), 65_534);
        nack.received(ms(10), 65_538);
        assert_eq!(nack.next_timeout(), Some(ms(15)));
        assert_eq!(poll(&mut nack, 14), (vec![], false));
        assert_eq!(poll(&mut nack, 15), (vec![65_535, 0, 1], false));
        assert_eq!(poll(&mut nack, 64), (vec![], false));
        nack.received(ms(64), 65_536);
        assert_eq!(poll(&mut nack, 65), (vec![65_535, 1], false));
        nack.received(ms(70), 65_535);
        nack.received(ms(70), 65_537);
        assert_eq!(nack.next_timeout(), None);
        assert_eq!(poll(&mut nack, 5000), (vec![], false));
    }

    #[test]
    fn what_never_comes_is_given_up_once() {
        let mut nack = NackGenerator::new(NackLimits::default());
        nack.received(ms(0), 1);
        nack.received(ms(0), 3);
        let (mut requests, mut given_up) = (0, 0);
        for at in 0..3000 {
            let (lost, gave_up) = poll(&mut nack, at);
            requests += lost.len();
            given_up += usize::from(gave_up);
        }
        assert_eq!(given_up, 1);
        assert!((5..=10).contains(&requests), "{requests}");
    }

    #[test]
    fn a_great_gap_is_given_up_at_once_and_the_list_is_bounded() {
        let mut nack = NackGenerator::new(NackLimits::default());
        nack.received(ms(0), 1);
        nack.received(ms(0), 1000);
        assert_eq!(nack.missing(), 0);
        assert!(nack.next_timeout().is_some_and(|due| due <= ms(0)));
        assert_eq!(poll(&mut nack, 0), (vec![], true));
        for step in 0..1000 {
            nack.received(ms(0), 1000 + 2 * step);
        }
        assert_eq!(nack.missing(), 512);
        let (lost, gave_up) = poll(&mut nack, 100);
        assert_eq!((lost.len(), gave_up), (MAX_REQUEST, true));
        nack.forget_before(2500);
        assert!(nack.missing() < 260);
        assert!(!poll(&mut nack, 110).1);
    }

    #[test]
    fn duplicates_are_refused() {
        let mut guard = DuplicateGuard::default();
        let taken: Vec<_> = [5, 6, 5, 9, 7, 7, 2000, 9, 8].into_iter().filter(|n| guard.accept(*n)).collect();
        assert_eq!(taken, [5, 6, 9, 7, 2000]);
    }
}
