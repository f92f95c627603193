//! Host candidates as an answer lists them (RFC 8839 §5.1, RFC 8445 §5.1, RFC 6544 §4).

use crate::core::session::LocalCandidate;

/// RFC 8445 §5.1.2.1, component 1. UDP gets the recommended type preference of a host candidate, TCP a lower
/// one (RFC 6544 §4.2), so that a full agent that can use both takes UDP.
pub fn priority(candidate: &LocalCandidate, index: usize) -> u32 {
    let type_preference: u32 = if candidate.tcp { 90 } else { 126 };
    let local_preference = 65_535 - u32::try_from(index).unwrap_or(u32::MAX).min(65_535);
    (type_preference << 24) | (local_preference << 8) | 255
}

/// The value of `a=candidate` for the candidate at `index` of the list.
pub fn line(candidate: &LocalCandidate, index: usize) -> String {
    let (protocol, suffix) = if candidate.tcp { ("tcp", " tcptype passive") } else { ("udp", "") };
    let (ip, port) = (candidate.address.ip(), candidate.address.port());
    let (foundation, priority) = (index + 1, priority(candidate, index));
    format!("{foundation} 1 {protocol} {priority} {ip} {port} typ host{suffix}")
}
