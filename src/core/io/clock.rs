//! The two clocks, read in one place.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::core::time::Epoch;

/// Where the node's media clock begins; read once at start.
pub fn epoch() -> Epoch {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Epoch { instant: Instant::now(), unix }
}

/// The monotonic clock; the loop reads it once a phase.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Sleeps for `pause`.
pub(crate) fn sleep(pause: Duration) {
    std::thread::sleep(pause);
}
