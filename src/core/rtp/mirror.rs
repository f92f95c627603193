//! Copies of a transport's packets in the clear for somebody who listens in (`transport.startMirroring` of the v2
//! worker channel): what comes once it is decrypted, what goes before it is encrypted.

use std::collections::VecDeque;

use serde::Deserialize;

use crate::core::rtp::header::is_rtcp;

/// Copies that may wait for a flush; more are left out.
const MAX_WAITING: usize = 4096;

/// Which packets are wanted; all, where nothing is said.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Wanted {
    /// RTP to the party.
    pub send_rtp: bool,
    /// RTCP to the party.
    pub send_rtcp: bool,
    /// RTP of the party.
    pub recv_rtp: bool,
    /// RTCP of the party.
    pub recv_rtcp: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Wanted { send_rtp: true, send_rtcp: true, recv_rtp: true, recv_rtcp: true }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Mirror {
    wanted: Wanted,
    waiting: VecDeque<Vec<u8>>,
}

impl Mirror {
    /// One that copies what is `wanted`.
    pub fn new(wanted: Wanted) -> Self {
        Mirror { wanted, waiting: VecDeque::new() }
    }

    /// A packet of the party, in the clear.
    pub fn received(&mut self, packet: &[u8]) {
        if if is_rtcp(packet) { self.wanted.recv_rtcp } else { self.wanted.recv_rtp } {
            self.copy(packet, &[]);
        }
    }

    /// An RTP packet for the party, before it is sealed: header, and what stands behind it.
    pub fn sends_rtp(&mut self, header: &[u8], payload: &[u8]) {
        if self.wanted.send_rtp {
            self.copy(header, payload);
        }
    }

    /// RTCP for the party, before it is sealed.
    pub fn sends_rtcp(&mut self, compound: &[u8]) {
        if self.wanted.send_rtcp {
            self.copy(compound, &[]);
        }
    }

    fn copy(&mut self, head: &[u8], rest: &[u8]) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back([head, rest].concat());
        }
    }

    /// The next copy.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        self.waiting.pop_front()
    }
}
