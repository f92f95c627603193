//! Settings of a worker.

use std::time::Duration;

use serde::Deserialize;

use crate::core::consumer::{ClimbLimits, ReplayLimits};
use crate::core::id::WorkerId;
use crate::core::producer::FlowLimits;
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

/// Data channels on their way through a worker; those of its WebRTC parties have their own in `webrtc.sctp`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// Bytes of one channel that may wait for a place in a pipe to another worker. Default 2,000,000.
    pub pipe_buffer_bytes: usize,
    /// Answers and events that may wait for the main thread before messages for it find no place. Default 4,096.
    pub max_waiting_events: usize,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig { pipe_buffer_bytes: 2_000_000, max_waiting_events: 4_096 }
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
    /// Tracks with layers.
    pub layers: LayersConfig,
    /// What a publisher is told it may send at most, in bits per second.
    pub max_publish_bitrate: u64,
    /// Bounds of what a receiver's path is thought to take.
    pub rates: RateLimits,
    /// Plain RTP legs.
    pub legs: LegsConfig,
    /// Data channels.
    pub data: DataConfig,
    /// Set where the worker is a process under a foreign dispatcher.
    pub channel: Option<ChannelConfig>,
}

/// Tracks with layers: simulcast and scalable coding.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct LayersConfig {
    /// A layer that was silent for so long while others of its track went on is gone, in milliseconds.
    /// Default 500.
    pub silence_ms: u64,
    /// A layer that nobody wanted for so long may be stopped by its source, in milliseconds. Default 5,000.
    pub unwanted_ms: u64,
    /// A layer that was stopped, is wanted again and does not come for so long is gone, in milliseconds.
    /// Default 3,000.
    pub revival_ms: u64,
    /// How long a receiver stays on a layer before it gets a higher one, in milliseconds. Default 2,000.
    pub settle_ms: u64,
    /// The same after attempts that failed, each of which doubles it, at most, in milliseconds. Default 60,000.
    pub max_settle_ms: u64,
    /// How long a layer may take more than the path has before the receiver gets a lower one, in milliseconds.
    /// Default 500.
    pub overload_ms: u64,
    /// A picture that has waited for so long for a path that takes no more is left out, and all up to the next
    /// keyframe, in milliseconds. Default 500.
    pub max_wait_ms: u64,
}

impl Default for LayersConfig {
    fn default() -> Self {
        LayersConfig {
            silence_ms: 500,
            unwanted_ms: 5_000,
            revival_ms: 3_000,
            settle_ms: 2_000,
            max_settle_ms: 60_000,
            overload_ms: 500,
            max_wait_ms: 500,
        }
    }
}

impl LayersConfig {
    pub(super) fn flow(&self) -> FlowLimits {
        FlowLimits {
            silence: Duration::from_millis(self.silence_ms),
            unwanted: Duration::from_millis(self.unwanted_ms),
            revival: Duration::from_millis(self.revival_ms),
        }
    }

    pub(super) fn climb(&self) -> ClimbLimits {
        ClimbLimits {
            settle: Duration::from_millis(self.settle_ms),
            max_settle: Duration::from_millis(self.max_settle_ms),
            overload: Duration::from_millis(self.overload_ms),
        }
    }
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
            max_wait: Duration::from_millis(self.layers.max_wait_ms),
        }
    }
}
