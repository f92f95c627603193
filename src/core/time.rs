//! Time on the media clock. Wall and monotonic time come in as arguments everywhere; only `io` files read
//! a clock. All routers of a node share one [`Epoch`], so a time needs no translation between workers.

use std::ops::{Add, Sub};
use std::time::{Duration, Instant};

/// Microseconds since the node's [`Epoch`]; negative for media captured before it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MediaTime(pub i64);

impl MediaTime {
    /// `micros` microseconds after the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        MediaTime(micros)
    }

    /// `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        MediaTime(millis * 1000)
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// How much later than `earlier` this is, in microseconds; negative when it is earlier.
    pub const fn micros_since(self, earlier: MediaTime) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This time in ticks of a clock of `rate` Hz, wrapped to 32 bits as an RTP timestamp is.
    pub const fn to_ticks(self, rate: u32) -> u32 {
        ((self.0 as i128 * rate as i128).div_euclid(1_000_000)) as u32
    }
}

impl Add<Duration> for MediaTime {
    type Output = MediaTime;
    fn add(self, rhs: Duration) -> MediaTime {
        MediaTime(self.0.saturating_add(rhs.as_micros() as i64))
    }
}

impl Sub<Duration> for MediaTime {
    type Output = MediaTime;
    fn sub(self, rhs: Duration) -> MediaTime {
        MediaTime(self.0.saturating_sub(rhs.as_micros() as i64))
    }
}

/// Where the node's media clock begins: one instant, read once at start on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Epoch {
    /// The monotonic instant of [`MediaTime`] zero.
    pub instant: Instant,
    /// The same instant as time since the UNIX epoch.
    pub unix: Duration,
}

/// Seconds between the NTP era (1900) and the UNIX era (1970), RFC 5905 §6.
const NTP_OFFSET_SECONDS: u64 = 2_208_988_800;

impl Epoch {
    /// The media time of the monotonic instant `now`.
    pub fn media_time(&self, now: Instant) -> MediaTime {
        match now.checked_duration_since(self.instant) {
            Some(after) => MediaTime(after.as_micros() as i64),
            None => MediaTime(-(self.instant.duration_since(now).as_micros() as i64)),
        }
    }

    /// The monotonic instant of `time`; the epoch itself for times before it.
    pub fn instant(&self, time: MediaTime) -> Instant {
        self.instant + Duration::from_micros(u64::try_from(time.0).unwrap_or(0))
    }

    /// `time` as a 64-bit NTP timestamp (32.32 fixed point), as sender reports carry it (RFC 3550 §4).
    pub fn ntp(&self, time: MediaTime) -> u64 {
        let micros = (self.unix.as_micros() as i128 + i128::from(time.0)).max(0) as u128;
        let seconds = (micros / 1_000_000) as u64 + NTP_OFFSET_SECONDS;
        let fraction = ((micros % 1_000_000) << 32) / 1_000_000;
        (seconds << 32) | fraction as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_wrap_and_go_below_zero() {
        assert_eq!(MediaTime::from_millis(1000).to_ticks(90_000), 90_000);
        assert_eq!(MediaTime::from_millis(-1).to_ticks(48_000), 48u32.wrapping_neg());
    }

    #[test]
    fn ntp_of_the_unix_epoch() {
        let epoch = Epoch { instant: Instant::now(), unix: Duration::ZERO };
        assert_eq!(epoch.ntp(MediaTime(500_000)), (2_208_988_800 << 32) | (1 << 31));
    }
}
