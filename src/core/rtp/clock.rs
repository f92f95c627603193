//! From a stream's RTP timestamps to media time, with one clock per publisher, so that what was captured
//! together stays together (RFC 3550 §6.4.1).
//!
//! A stream's clock is a line: an anchor (timestamp, media time) and the nominal rate. The first packet's
//! arrival gives the first anchor. Sender reports tie the streams of a publisher together: the first report
//! of any of them fixes how the publisher's wall clock lies to media time (so that this stream does not move),
//! and from then on each report of each stream sets that stream's anchor, which also follows its drift.

use crate::core::rtp::rtcp::SenderInfo;
use crate::core::rtp::sequence::TimestampUnwrapper;
use crate::core::time::MediaTime;

/// A packet this much older than its arrival does not belong to the line any more (microseconds).
const MAX_LATE: i64 = 10_000_000;
/// A packet this much in the future does not either.
const MAX_EARLY: i64 = 2_000_000;
/// Sender reports that contradict the line are ignored this often; then the publisher's wall clock is taken
/// to have been set anew.
const MAX_BAD_REPORTS: u8 = 3;

/// The publisher's wall clock as we know it: shared by the publisher's streams.
#[derive(Clone, Copy, Debug, Default)]
pub struct PublisherClock {
    /// Media time less wall time, in microseconds.
    offset: Option<i64>,
}

/// One stream's clock.
#[derive(Clone, Debug)]
pub struct StreamClock {
    rate: u32,
    timestamps: TimestampUnwrapper,
    anchor: Option<(u64, MediaTime)>,
    bad_reports: u8,
}

impl StreamClock {
    /// For an RTP clock of `rate` Hz.
    pub fn new(rate: u32) -> Self {
        StreamClock { rate: rate.max(1), timestamps: TimestampUnwrapper::new(), anchor: None, bad_reports: 0 }
    }

    /// Extends `timestamp` and gives its media time. `arrival` anchors the clock at the first packet, and anew
    /// after a jump of the timestamps.
    pub fn map(&mut self, arrival: MediaTime, timestamp: u32) -> (u64, MediaTime) {
        let extended = self.timestamps.unwrap(timestamp);
        if let Some(time) = self.time_of(extended) {
            let late = arrival.micros_since(time);
            if (-MAX_EARLY..=MAX_LATE).contains(&late) {
                return (extended, time);
            }
        }
        self.anchor = Some((extended, arrival));
        self.bad_reports = 0;
        (extended, arrival)
    }

    /// Takes a sender report of the stream.
    pub fn sender_report(&mut self, publisher: &mut PublisherClock, now: MediaTime, info: &SenderInfo) {
        if info.ntp == 0 {
            return; // a sender without a wall clock
        }
        let wall = wall_micros(info.ntp);
        let extended = match self.timestamps.newest() {
            Some(_) => self.timestamps.peek(info.rtp),
            None => self.timestamps.unwrap(info.rtp),
        };
        // Where the line puts the report now; without a line, at its arrival.
        let line = self.time_of(extended).unwrap_or(now);
        let offset = *publisher.offset.get_or_insert(line.0.saturating_sub(wall));
        let time = MediaTime(wall.saturating_add(offset));
        if (-MAX_EARLY..=MAX_LATE).contains(&line.micros_since(time)) {
            self.bad_reports = 0;
            self.anchor = Some((extended, time));
            return;
        }
        self.bad_reports = self.bad_reports.saturating_add(1);
        if self.bad_reports > MAX_BAD_REPORTS {
            self.bad_reports = 0;
            publisher.offset = Some(line.0.saturating_sub(wall));
        }
    }

    /// The media time of an extended timestamp; `None` before the first packet.
    pub fn time_of(&self, timestamp: u64) -> Option<MediaTime> {
        let (at, time) = self.anchor?;
        let ticks = i128::from(timestamp) - i128::from(at);
        let micros = (ticks * 1_000_000).div_euclid(i128::from(self.rate));
        Some(MediaTime(time.0.saturating_add(micros as i64)))
    }

    /// The extended timestamp of a media time; `None` before the first packet.
    pub fn timestamp_at(&self, time: MediaTime) -> Option<u64> {
        let (at, anchor) = self.anchor?;
        let micros = i128::from(time.0) - i128::from(anchor.0);
        let ticks = (micros * i128::from(self.rate)).div_euclid(1_000_000);
        Some(at.saturating_add_signed(ticks as i64))
    }
}

fn wall_micros(ntp: u64) -> i64 {
    let seconds = (ntp >> 32) as i64;
    let fraction = ((ntp & 0xffff_ffff) * 1_000_000) >> 32;
    seconds * 1_000_000 + fraction as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: i64) -> MediaTime {
        MediaTime::from_millis(millis)
    }

    fn report(wall_ms: u64, rtp: u32) -> SenderInfo {
        let ntp = ((wall_ms / 1000) << 32) | (((wall_ms % 1000) << 32) / 1000 + 1);
        SenderInfo { ntp, rtp, ..Default::default() }
    }

    fn near(a: MediaTime, b: MediaTime) -> bool {
        a.micros_since(b).abs() < 100
    }

    #[test]
    fn before_a_report_the_first_arrival_counts() {
        let mut clock = StreamClock::new(90_000);
        assert_eq!(clock.time_of(0), None);
        let (first, time) = clock.map(ms(500), u32::MAX - 2999);
        assert_eq!(time, ms(500));
        let (second, time) = clock.map(ms(560), 0);
        assert_eq!((second - first, time.as_micros()), (3000, 533_333));
        assert_eq!(clock.timestamp_at(time), Some(second - 1), "rounded down");
    }

    #[test]
    fn reports_join_audio_and_video() {
        let mut publisher = PublisherClock::default();
        let (mut audio, mut video) = (StreamClock::new(48_000), StreamClock::new(90_000));
        // Captured together at wall time 1,000,000 ms; the video is encoded and comes 150 ms later.
        audio.map(ms(20), 4800);
        video.map(ms(170), 9000);
        audio.sender_report(&mut publisher, ms(30), &report(1_000_000, 4800));
        video.sender_report(&mut publisher, ms(900), &report(1_000_000, 9000));
        let (_, heard) = audio.map(ms(1020), 4800 + 48_000);
        let (_, seen) = video.map(ms(1170), 9000 + 90_000);
        assert!(near(heard, ms(1020)), "the stream of the first report does not move: {heard:?}");
        assert!(near(seen, heard), "{seen:?}");
    }

    #[test]
    fn drift_is_followed_by_reports() {
        let mut publisher = PublisherClock::default();
        let (mut audio, mut video) = (StreamClock::new(48_000), StreamClock::new(90_000));
        // The audio clock runs 0.1 % fast against the wall clock, video is true: ten minutes.
        for second in 0..600u32 {
            let at = ms(i64::from(second) * 1000);
            let (a, v) = (second * 48_048, second * 90_000);
            let heard = audio.map(at, a).1;
            let seen = video.map(at, v).1;
            assert!(heard.micros_since(seen).abs() < 6_000, "{second} s: {heard:?} {seen:?}");
            if second % 5 == 0 {
                let wall = 5_000_000 + u64::from(second) * 1000;
                audio.sender_report(&mut publisher, at, &report(wall, a));
                video.sender_report(&mut publisher, at, &report(wall, v));
            }
        }
    }

    #[test]
    fn a_jump_of_the_timestamps_anchors_anew() {
        let mut clock = StreamClock::new(90_000);
        clock.map(ms(0), 1000);
        assert_eq!(clock.map(ms(100), 3_000_000_000).1, ms(100));
        assert_eq!(clock.map(ms(133), 3_000_003_000).1.as_micros(), 133_333);
        // A stall of the network is no jump: the packets keep their times.
        assert_eq!(clock.map(ms(5000), 3_000_009_000).1.as_micros(), 200_000);
    }

    #[test]
    fn a_wild_report_is_ignored_and_a_clock_set_anew_is_followed() {
        let mut publisher = PublisherClock::default();
        let mut clock = StreamClock::new(8000);
        clock.map(ms(0), 0);
        clock.sender_report(&mut publisher, ms(0), &report(1_000_000, 0));
        clock.sender_report(&mut publisher, ms(0), &SenderInfo::default());
        clock.sender_report(&mut publisher, ms(1000), &report(77_000_000, 8000));
        assert!(near(clock.map(ms(1000), 8000).1, ms(1000)));
        for second in 2..10u32 {
            let wall = 77_000_000 + u64::from(second) * 1000;
            clock.sender_report(&mut publisher, ms(1000 * i64::from(second)), &report(wall, 8000 * second));
            let (_, time) = clock.map(ms(1000 * i64::from(second)), 8000 * second);
            assert!(near(time, ms(1000 * i64::from(second))), "{second}: {time:?}");
        }
        let mut other = StreamClock::new(8000);
        other.map(ms(10_100), 5);
        other.sender_report(&mut publisher, ms(10_100), &report(77_000_000 + 10_000, 5));
        assert!(near(other.map(ms(10_100), 5).1, ms(10_000)), "the new wall clock is shared");
    }
}
