//! Writing RTCP: each function appends one packet to `out`; a compound is several calls.

use super::{Arrival, ReportBlock, SenderInfo};

/// SR with at most 31 report blocks.
pub fn sender_report(out: &mut Vec<u8>, ssrc: u32, info: &SenderInfo, reports: &[ReportBlock]) {
    let _ = (out, ssrc, info, reports);
    todo!()
}

/// RR with at most 31 report blocks.
pub fn receiver_report(out: &mut Vec<u8>, ssrc: u32, reports: &[ReportBlock]) {
    let _ = (out, ssrc, reports);
    todo!()
}

/// SDES with one canonical name of at most 255 bytes.
pub fn cname(out: &mut Vec<u8>, ssrc: u32, cname: &str) {
    let _ = (out, ssrc, cname);
    todo!()
}

/// BYE for at most 31 sources.
pub fn goodbye(out: &mut Vec<u8>, ssrcs: &[u32]) {
    let _ = (out, ssrcs);
    todo!()
}

/// Generic NACK for `lost`, which should ascend; packed 17 to an entry.
pub fn nack(out: &mut Vec<u8>, sender: u32, media: u32, lost: &[u16]) {
    let _ = (out, sender, media, lost);
    todo!()
}

/// PLI.
pub fn picture_loss(out: &mut Vec<u8>, sender: u32, media: u32) {
    let _ = (out, sender, media);
    todo!()
}

/// FIR for one source; `number` counts requests.
pub fn full_intra_request(out: &mut Vec<u8>, sender: u32, media: u32, number: u8) {
    let _ = (out, sender, media, number);
    todo!()
}

/// REMB of `bitrate` bits per second for `ssrcs`.
pub fn remb(out: &mut Vec<u8>, sender: u32, bitrate: u64, ssrcs: &[u32]) {
    let _ = (out, sender, bitrate, ssrcs);
    todo!()
}

/// Transport-wide feedback on consecutive sequence numbers; returns how many of `arrivals` went in (a step
/// in time too large for a delta ends the packet).
pub fn transport_feedback(
    out: &mut Vec<u8>,
    sender: u32,
    media: u32,
    number: u8,
    arrivals: &[Arrival],
) -> usize {
    let _ = (out, sender, media, number, arrivals);
    todo!()
}
