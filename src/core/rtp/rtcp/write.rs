//! Writing RTCP: each function appends one packet to `out`; a compound is several calls.

use super::transport_cc::write_body;
use super::{Arrival, ReportBlock, SenderInfo, kind};

/// Report blocks, sources and the like: the count field has five bits.
const MAX_COUNT: usize = 31;

/// SR with at most 31 report blocks.
pub fn sender_report(out: &mut Vec<u8>, ssrc: u32, info: &SenderInfo, reports: &[ReportBlock]) {
    let reports = &reports[..reports.len().min(MAX_COUNT)];
    packet(out, kind::SENDER_REPORT, reports.len(), |out| {
        put_u32(out, ssrc);
        out.extend_from_slice(&info.ntp.to_be_bytes());
        put_u32(out, info.rtp);
        put_u32(out, info.packets);
        put_u32(out, info.octets);
        reports.iter().for_each(|report| put_report(out, report));
    });
}

/// RR with at most 31 report blocks.
pub fn receiver_report(out: &mut Vec<u8>, ssrc: u32, reports: &[ReportBlock]) {
    let reports = &reports[..reports.len().min(MAX_COUNT)];
    packet(out, kind::RECEIVER_REPORT, reports.len(), |out| {
        put_u32(out, ssrc);
        reports.iter().for_each(|report| put_report(out, report));
    });
}

fn put_report(out: &mut Vec<u8>, report: &ReportBlock) {
    put_u32(out, report.ssrc);
    let lost = report.lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
    put_u32(out, u32::from(report.fraction_lost) << 24 | lost);
    put_u32(out, report.highest);
    put_u32(out, report.jitter);
    put_u32(out, report.last_sr);
    put_u32(out, report.delay_since_last_sr);
}

/// SDES with one canonical name, cut at 255 bytes.
pub fn cname(out: &mut Vec<u8>, ssrc: u32, cname: &str) {
    let name = &cname.as_bytes()[..cname.len().min(255)];
    packet(out, kind::SOURCE_DESCRIPTION, 1, |out| {
        let start = out.len();
        put_u32(out, ssrc);
        out.extend_from_slice(&[1, name.len() as u8]);
        out.extend_from_slice(name);
        out.push(0); // ends the chunk, padding follows
        let len = (out.len() - start).next_multiple_of(4);
        out.resize(start + len, 0);
    });
}

/// BYE for at most 31 sources.
pub fn goodbye(out: &mut Vec<u8>, ssrcs: &[u32]) {
    let ssrcs = &ssrcs[..ssrcs.len().min(MAX_COUNT)];
    packet(out, kind::GOODBYE, ssrcs.len(), |out| ssrcs.iter().for_each(|ssrc| put_u32(out, *ssrc)));
}

/// Generic NACK for `lost`, which should ascend; packed up to 17 to an entry.
pub fn nack(out: &mut Vec<u8>, sender: u32, media: u32, lost: &[u16]) {
    packet(out, kind::TRANSPORT_FEEDBACK, 1, |out| {
        put_u32(out, sender);
        put_u32(out, media);
        let mut lost = lost.iter().copied().peekable();
        while let Some(first) = lost.next() {
            let mut mask = 0u16;
            while let Some(next) = lost.next_if(|next| (1..=16).contains(&next.wrapping_sub(first))) {
                mask |= 1 << (next.wrapping_sub(first) - 1);
            }
            put_u32(out, u32::from(first) << 16 | u32::from(mask));
        }
    });
}

/// PLI.
pub fn picture_loss(out: &mut Vec<u8>, sender: u32, media: u32) {
    packet(out, kind::PAYLOAD_FEEDBACK, 1, |out| {
        put_u32(out, sender);
        put_u32(out, media);
    });
}

/// FIR for one source; `number` counts requests.
pub fn full_intra_request(out: &mut Vec<u8>, sender: u32, media: u32, number: u8) {
    packet(out, kind::PAYLOAD_FEEDBACK, 4, |out| {
        put_u32(out, sender);
        put_u32(out, 0);
        put_u32(out, media);
        put_u32(out, u32::from(number) << 24);
    });
}

/// REMB of `bitrate` bits per second for at most 255 `ssrcs`.
pub fn remb(out: &mut Vec<u8>, sender: u32, bitrate: u64, ssrcs: &[u32]) {
    let ssrcs = &ssrcs[..ssrcs.len().min(255)];
    packet(out, kind::PAYLOAD_FEEDBACK, 15, |out| {
        put_u32(out, sender);
        put_u32(out, 0);
        out.extend_from_slice(b"REMB");
        // Bitrate = mantissa of 18 bits << exponent.
        let exponent = (64 - bitrate.leading_zeros()).saturating_sub(18);
        let mantissa = (bitrate >> exponent) as u32;
        put_u32(out, (ssrcs.len() as u32) << 24 | exponent << 18 | mantissa);
        ssrcs.iter().for_each(|ssrc| put_u32(out, *ssrc));
    });
}

/// TMMBR of `bitrate` bits per second, packet headers not counted, for `ssrcs` (RFC 5104 §4.2.1).
pub fn max_bitrate_request(out: &mut Vec<u8>, sender: u32, bitrate: u64, ssrcs: &[u32]) {
    packet(out, kind::TRANSPORT_FEEDBACK, 3, |out| {
        put_u32(out, sender);
        put_u32(out, 0);
        // Bitrate = mantissa of 17 bits << exponent.
        let exponent = (64 - bitrate.leading_zeros()).saturating_sub(17);
        let mantissa = (bitrate >> exponent) as u32;
        for ssrc in ssrcs {
            put_u32(out, *ssrc);
            put_u32(out, exponent << 26 | mantissa << 9);
        }
    });
}

/// Transport-wide feedback on consecutive sequence numbers; returns how many of `arrivals` went in (a step
/// in time too large for a delta ends the packet). With no arrival it writes nothing.
pub fn transport_feedback(
    out: &mut Vec<u8>,
    sender: u32,
    media: u32,
    number: u8,
    arrivals: &[Arrival],
) -> usize {
    let Some(first) = arrivals.first() else {
        return 0;
    };
    let mut taken = 0;
    packet(out, kind::TRANSPORT_FEEDBACK, 15, |out| {
        put_u32(out, sender);
        put_u32(out, media);
        let at = out.len();
        out.extend_from_slice(&[0; 8]);
        let (reference, count) = write_body(out, &arrivals[..arrivals.len().min(4096)]);
        let head = u64::from(first.sequence) << 48
            | (count as u64) << 32
            | u64::from(reference) << 8
            | u64::from(number);
        out[at..at + 8].copy_from_slice(&head.to_be_bytes());
        taken = count;
    });
    taken
}

/// Writes header, body, padding to four bytes (with the P bit) and the length.
fn packet(out: &mut Vec<u8>, packet_type: u8, format: usize, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0x80 | format as u8, packet_type, 0, 0]);
    body(out);
    let padding = (out.len() - start).next_multiple_of(4) - (out.len() - start);
    if padding > 0 {
        out.resize(out.len() + padding - 1, 0);
        out.push(padding as u8);
        out[start] |= 0x20;
    }
    let words = ((out.len() - start) / 4 - 1) as u16;
    out[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}
