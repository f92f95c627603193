//! One receiver: what came, what is missing, and the reports a browser would send.

use std::time::Duration;

use super::media::{KEYFRAME_PACKETS, Stamp, stamp};
use super::sdp::{PAYLOAD_TYPE, RTX_PAYLOAD_TYPE, TRANSPORT_CC_ID};
use crate::core::rtp::header::RtpView;
use crate::core::rtp::receive::{NackGenerator, NackLimits, ReceiveStats, TransportCcRecorder};
use crate::core::rtp::rtcp::{Compound, Packet, write};
use crate::core::time::MediaTime;

const REPORT_EVERY: i64 = 1_000_000;
const FEEDBACK_EVERY: Duration = Duration::from_millis(100);

/// One receiver.
pub struct Viewer {
    ssrc: u32,
    media: u32,
    stats: ReceiveStats,
    nack: NackGenerator,
    recorder: Option<TransportCcRecorder>,
    next_report: MediaTime,
    lost: Vec<u16>,
    lost_before: i64,
    /// When it asked to watch, in nanoseconds since 1970, and the keyframe that is coming in: its timestamp and how
    /// much of it is there.
    asked: u64,
    picture: (u32, usize),
    /// Nanoseconds from asking to the first whole keyframe.
    pub first_picture: Option<u64>,
    /// Packets of the stream received since the last [`Viewer::restart`].
    pub packets: u64,
}

impl Viewer {
    /// A receiver that reports under `ssrc` and asked to watch at `asked` (nanoseconds since 1970); with `transport_cc`
    /// it sends transport-wide feedback.
    pub fn new(ssrc: u32, transport_cc: bool, asked: u64) -> Self {
        Viewer {
            ssrc,
            media: 0,
            stats: ReceiveStats::new(90_000),
            nack: NackGenerator::new(NackLimits::default()),
            recorder: transport_cc.then(|| TransportCcRecorder::new(FEEDBACK_EVERY)),
            next_report: MediaTime(0),
            lost: Vec::new(),
            lost_before: 0,
            asked,
            picture: (0, 0),
            first_picture: None,
            packets: 0,
        }
    }

    /// Takes a plain packet that arrived at `arrived` (nanoseconds since 1970); `index` is its extended sequence
    /// number. Returns its stamp.
    pub fn rtp(&mut self, now: MediaTime, packet: &[u8], index: u64, arrived: u64) -> Option<Stamp> {
        let view = RtpView::parse(packet).ok()?;
        let wide = view.extensions().find(|(id, _)| *id == TRANSPORT_CC_ID);
        let wide = wide.and_then(|(_, data)| Some(u16::from_be_bytes(*data.first_chunk()?)));
        if let (Some(recorder), Some(sequence)) = (&mut self.recorder, wide) {
            recorder.received(now, sequence);
        }
        if view.payload_type == RTX_PAYLOAD_TYPE {
            let (original, payload) = view.payload.split_first_chunk()?;
            let newest = self.stats.newest();
            let step = u16::from_be_bytes(*original).wrapping_sub(newest as u16).cast_signed();
            self.nack.received(now, newest.saturating_add_signed(i64::from(step)));
            let stamp = stamp(payload)?;
            self.note_picture(stamp, view.timestamp, arrived);
            return Some(stamp);
        }
        // Some servers probe the path with packets of no stream.
        if view.payload_type != PAYLOAD_TYPE {
            return None;
        }
        self.media = view.ssrc;
        self.packets += 1;
        self.stats.packet(now, index, view.timestamp, view.payload.len());
        self.nack.received(now, index);
        let stamp = stamp(view.payload)?;
        self.note_picture(stamp, view.timestamp, arrived);
        Some(stamp)
    }

    fn note_picture(&mut self, stamp: Stamp, timestamp: u32, arrived: u64) {
        if self.first_picture.is_some() || !stamp.key {
            return;
        }
        let before = if self.picture.0 == timestamp { self.picture.1 } else { 0 };
        self.picture = (timestamp, before + 1);
        if self.picture.1 == KEYFRAME_PACKETS {
            self.first_picture = Some(arrived.saturating_sub(self.asked));
        }
    }

    /// Takes a plain compound.
    pub fn rtcp(&mut self, now: MediaTime, packet: &[u8]) {
        for packet in Compound::new(packet).flatten() {
            if let Packet::SenderReport(report) = packet
                && report.ssrc == self.media
            {
                self.stats.sender_report(now, &report.info);
            }
        }
    }

    /// The compound that is due, if any.
    pub fn report(&mut self, now: MediaTime) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        if now >= self.next_report && self.packets > 0 {
            self.next_report = MediaTime(now.0 + REPORT_EVERY);
            let block = self.stats.report(now, self.media);
            write::receiver_report(&mut out, self.ssrc, &[block]);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.poll(now, self.ssrc, self.media, &mut out);
        }
        self.nack.poll(now, Duration::from_millis(20), &mut self.lost);
        if !self.lost.is_empty() {
            write::nack(&mut out, self.ssrc, self.media, &self.lost);
        }
        Some(out).filter(|out| !out.is_empty())
    }

    /// Begins a measurement.
    pub fn restart(&mut self) {
        self.packets = 0;
        self.lost_before = self.stats.lost();
    }

    /// Packets lost since then, repaired or not.
    pub fn lost(&self) -> i64 {
        self.stats.lost() - self.lost_before
    }
}
