//! Settings of plain RTP legs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The `legs` section: ports of plain RTP legs (SIP), and how their parties are found and given up.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LegsConfig {
    /// First UDP port for legs. A leg has a pair, even for RTP and odd for RTCP, or one for both.
    /// Default 10000.
    pub port_min: u16,
    /// Last UDP port for legs. Default 10999.
    pub port_max: u16,
    /// How long a party that should send may send nothing, in milliseconds; then the leg counts as dead.
    /// 0: for ever. Default 30,000.
    pub media_timeout_ms: u64,
    /// How long after the connection sound should have come, and be reported to have arrived, before it is
    /// said that it flows in one direction only, in milliseconds. Default 3,000.
    pub one_way_ms: u64,
    /// Packets in a row from one source, of one SSRC, that show where the party is. Default 3.
    pub latch_packets: u8,
    /// How long after the connection an address other than the SDP's is accepted, in milliseconds.
    /// Default 10,000.
    pub latch_guard_ms: u64,
    /// How long sound goes to the SDP's address before anything came from there, in milliseconds.
    /// Pictures never do. Default 5,000.
    pub unlatched_ms: u64,
    /// How long the party must have been silent before the same stream is accepted from another address
    /// (a NAT that chose another port), in milliseconds. Default 500.
    pub rebind_ms: u64,
}

impl Default for LegsConfig {
    fn default() -> Self {
        LegsConfig {
            port_min: 10_000,
            port_max: 10_999,
            media_timeout_ms: 30_000,
            one_way_ms: 3_000,
            latch_packets: 3,
            latch_guard_ms: 10_000,
            unlatched_ms: 5_000,
            rebind_ms: 500,
        }
    }
}

impl LegsConfig {
    pub(super) fn one_way(&self) -> Duration {
        Duration::from_millis(self.one_way_ms)
    }

    pub(super) fn guard(&self) -> Duration {
        Duration::from_millis(self.latch_guard_ms)
    }

    pub(super) fn unlatched(&self) -> Duration {
        Duration::from_millis(self.unlatched_ms)
    }

    pub(super) fn rebind(&self) -> Duration {
        Duration::from_millis(self.rebind_ms)
    }
}
