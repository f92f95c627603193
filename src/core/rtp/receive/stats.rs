//! Reception statistics and report blocks (RFC 3550 §6.4.1, appendices A.3 and A.8).

use crate::core::rtp::rtcp::{ReportBlock, SenderInfo};
use crate::core::time::MediaTime;

/// Statistics of one incoming stream. Packets repaired by an RTX stream are not counted here: they were lost.
#[derive(Clone, Debug)]
pub struct ReceiveStats {
    clock_rate: u32,
    first: u64,
    newest: u64,
    packets: u64,
    bytes: u64,
    /// Transit time of the newest packet in ticks; meaningless by itself, its changes are the jitter.
    transit: u32,
    /// Jitter in ticks, 16 times.
    jitter: u64,
    expected_before: u64,
    packets_before: u64,
    /// Packets expected and lost in the interval of the newest report.
    interval: (u64, u64),
    last_sr: Option<(u32, MediaTime)>,
    fraction_lost: u8,
}

impl ReceiveStats {
    /// For a stream with an RTP clock of `clock_rate` Hz.
    pub fn new(clock_rate: u32) -> Self {
        ReceiveStats {
            clock_rate,
            first: 0,
            newest: 0,
            packets: 0,
            bytes: 0,
            transit: 0,
            jitter: 0,
            expected_before: 0,
            packets_before: 0,
            interval: (0, 0),
            last_sr: None,
            fraction_lost: 0,
        }
    }

    /// Counts a packet. `sequence` is extended, `bytes` its payload; duplicates must be kept away.
    pub fn packet(&mut self, now: MediaTime, sequence: u64, timestamp: u32, bytes: usize) {
        let transit = now.to_ticks(self.clock_rate).wrapping_sub(timestamp);
        if self.packets == 0 {
            (self.first, self.newest, self.transit) = (sequence, sequence, transit);
        } else if sequence > self.newest {
            let change = transit.wrapping_sub(self.transit).cast_signed().unsigned_abs();
            // A jump of the timestamps by minutes is no jitter.
            if u64::from(change) < u64::from(self.clock_rate) * 60 {
                self.jitter = self.jitter + u64::from(change) - ((self.jitter + 8) >> 4);
            }
            (self.newest, self.transit) = (sequence, transit);
        } else {
            self.first = self.first.min(sequence);
        }
        self.packets += 1;
        self.bytes += bytes as u64;
    }

    /// Notes a sender report of the stream.
    pub fn sender_report(&mut self, now: MediaTime, info: &SenderInfo) {
        self.last_sr = Some(((info.ntp >> 16) as u32, now));
    }

    /// Report block for the next RR; starts a new interval for the fraction lost.
    pub fn report(&mut self, now: MediaTime, ssrc: u32) -> ReportBlock {
        let expected = self.expected();
        let expected_interval = expected.saturating_sub(self.expected_before);
        let lost_interval =
            expected_interval.saturating_sub(self.packets.saturating_sub(self.packets_before));
        let fraction_lost = (lost_interval * 256).checked_div(expected_interval).unwrap_or(0).min(255) as u8;
        (self.expected_before, self.packets_before) = (expected, self.packets);
        self.interval = (expected_interval, lost_interval);
        self.fraction_lost = fraction_lost;
        let (last_sr, delay) = self.last_sr.map_or((0, 0), |(ntp, arrival)| {
            (ntp, (now.micros_since(arrival).max(0) as u128 * 65_536 / 1_000_000) as u32)
        });
        ReportBlock {
            ssrc,
            fraction_lost,
            lost: self.lost().clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest: self.newest as u32,
            jitter: self.jitter(),
            last_sr,
            delay_since_last_sr: delay,
        }
    }

    /// Packets expected and lost in the interval of the newest report.
    pub fn interval(&self) -> (u64, u64) {
        self.interval
    }

    fn expected(&self) -> u64 {
        if self.packets == 0 { 0 } else { self.newest - self.first + 1 }
    }

    /// The highest sequence number received; 0 before the first.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// Packets received.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Payload bytes received.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Packets lost and not repaired under their own number.
    pub fn lost(&self) -> i64 {
        self.expected() as i64 - self.packets as i64
    }

    /// What the last report block said of the packets since the one before, in 256ths.
    pub fn fraction_lost(&self) -> u8 {
        self.fraction_lost
    }

    /// The same in percent.
    pub fn loss_percentage(&self) -> f64 {
        f64::from(self.fraction_lost) * 100.0 / 256.0
    }

    /// Interarrival jitter in ticks.
    pub fn jitter(&self) -> u32 {
        (self.jitter >> 4).min(u64::from(u32::MAX)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(stats: &mut ReceiveStats, sequences: impl IntoIterator<Item = u64>) {
        for sequence in sequences {
            let now = MediaTime::from_millis(20 * sequence as i64);
            stats.packet(now, sequence, 960 * sequence as u32, 100);
        }
    }

    #[test]
    fn loss_in_all_and_by_interval() {
        let mut stats = ReceiveStats::new(48_000);
        assert_eq!(stats.report(MediaTime(0), 1), ReportBlock { ssrc: 1, ..Default::default() });
        stream(&mut stats, (100..200).filter(|n| n % 4 != 1));
        let report = stats.report(MediaTime(0), 1);
        assert_eq!((report.fraction_lost, report.lost, report.highest), (64, 25, 199));
        stream(&mut stats, 200..300);
        let report = stats.report(MediaTime(0), 1);
        assert_eq!((report.fraction_lost, report.lost), (0, 25));
        // A packet before the first one seen moves the beginning; late ones repair.
        stream(&mut stats, [99, 101, 105]);
        assert_eq!(stats.lost(), 23);
        assert_eq!((stats.packets(), stats.bytes(), stats.jitter()), (178, 17_800, 0));
    }

    #[test]
    fn jitter_follows_the_rfc_and_ignores_a_jump() {
        let mut stats = ReceiveStats::new(8000);
        for n in 0..500i64 {
            let late = if n % 2 == 0 { 0 } else { 5 };
            stats.packet(MediaTime::from_millis(20 * n + late), n as u64, 160 * n as u32, 160);
        }
        assert!((38..=40).contains(&stats.jitter()), "5 ms are 40 ticks: {}", stats.jitter());
        stats.packet(MediaTime::from_millis(20 * 500), 500, 3_000_000_000, 160);
        assert!(stats.jitter() <= 40);
    }

    #[test]
    fn the_last_sender_report_is_echoed() {
        let mut stats = ReceiveStats::new(8000);
        let info = SenderInfo { ntp: 0x1122_3344_5566_7788, ..Default::default() };
        stats.sender_report(MediaTime::from_millis(1000), &info);
        let report = stats.report(MediaTime::from_millis(1500), 1);
        assert_eq!((report.last_sr, report.delay_since_last_sr), (0x3344_5566, 32_768));
    }
}
