//! Settings of a worker.

use std::time::Duration;

use serde::Deserialize;

use crate::core::consumer::ReplayLimits;
use crate::core::id::WorkerId;
use crate::core::rtp::bwe::RateLimits;
use crate::core::rtp::store::StoreLimits;
use crate::core::session::LocalCandidate;
use crate::core::transport::plain::LegsConfig;
use crate::core::worker::settings::LogSettings;

/// The cached group of pictures: what a new viewer sees at once.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct GopConfig {
    /// Bytes of one producer's packets held at most, group and retransmission history together. A group
    /// that grows beyond it is given up, and new viewers wait for the next keyframe. Default 16,777,216.
    pub max_bytes: usize,
    /// A group longer than this is given up, in milliseconds. Default 20,000.
    pub max_ms: u64,
    /// How much is kept for retransmission, in milliseconds. Default 1,000.
    pub history_ms: u64,
    /// Pace at which a group is sent to a viewer who joins, in bits per second. Default 50,000,000.
    pub catchup_bitrate: u64,
    /// Shortest time between two replays to a viewer whose picture broke while its source cannot be asked
    /// for a keyframe, in milliseconds. Default 1,000.
    pub replay_interval_ms: u64,
}

impl Default for GopConfig {
    fn default() -> Self {
        GopConfig {
            max_bytes: 16 << 20,
            max_ms: 20_000,
            history_ms: 1_000,
            catchup_bitrate: 50_000_000,
            replay_interval_ms: 1_000,
        }
    }
}

/// Settings of one worker.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Which worker it is.
    pub id: WorkerId,
    /// Addresses its WebRTC transports offer.
    pub candidates: Vec<LocalCandidate>,
    /// The cached group of pictures.
    pub gop: GopConfig,
    /// What a publisher is told it may send at most, in bits per second.
    pub max_publish_bitrate: u64,
    /// Bounds of what a receiver's path is thought to take.
    pub rates: RateLimits,
    /// Plain RTP legs.
    pub legs: LegsConfig,
    /// Set where the worker is a process under a foreign dispatcher.
    pub channel: Option<ChannelConfig>,
}

/// A worker process under a foreign dispatcher, which knows the v2 worker channel and nothing of ours: our
/// own events stay unsaid, and where that protocol leaves us no choice (DTLS roles) it is followed.
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    /// The name its dispatcher gave it.
    pub name: String,
    /// What its log tells.
    pub log: LogSettings,
}

impl WorkerConfig {
    pub(super) fn store(&self, video: bool) -> StoreLimits {
        let base = if video { StoreLimits::VIDEO } else { StoreLimits::AUDIO };
        let history = Duration::from_millis(self.gop.history_ms);
        if !video {
            return StoreLimits { history, ..base };
        }
        let group_age = Duration::from_millis(self.gop.max_ms);
        StoreLimits { history, group_age, max_bytes: self.gop.max_bytes, ..base }
    }

    pub(super) fn replay(&self) -> ReplayLimits {
        ReplayLimits {
            bitrate: self.gop.catchup_bitrate,
            interval: Duration::from_millis(self.gop.replay_interval_ms),
        }
    }
}
