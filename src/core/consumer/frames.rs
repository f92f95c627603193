//! Frames for a bridge job: packets of the store put together again and laid into the job's lane, or each
//! packet as it came for a job with a jitter buffer of its own. The job reads them on its own clock; nothing
//! here wakes it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::core::consumer::Progress;
use crate::core::consumer::cursor::Cursor;
use crate::core::convert::{DirectOut, Packet};
use crate::core::lane::{SendError, Sender};
use crate::core::payload::Depacketizer;
use crate::core::producer::{Producer, Stream};
use crate::core::rtp::extension::ExtensionKind;
use crate::core::rtp::store::{DISCARDABLE, KEYFRAME, Stored};
use crate::core::session::Frame;
use crate::core::time::MediaTime;

/// When to look again at a full lane: jobs drain theirs at least this often.
const RETRY: Duration = Duration::from_millis(5);
/// A job that is this far behind the live edge, and not catching up, goes on at the next keyframe.
const MAX_LAG_MICROS: i64 = 2_000_000;

/// See the module.
pub struct FrameOutput {
    lane: Arc<Sender<DirectOut>>,
    track: u32,
    packets: bool,
    depacketizer: Option<(u8, Depacketizer)>,
    pending: VecDeque<DirectOut>,
}

impl FrameOutput {
    /// Frames (or single packets) marked as of `track` into `lane`.
    pub fn new(lane: Arc<Sender<DirectOut>>, track: u32, packets: bool) -> Self {
        FrameOutput { lane, track, packets, depacketizer: None, pending: VecDeque::new() }
    }

    pub(super) fn restart(&mut self) {
        self.depacketizer = None;
        self.pending.clear();
    }

    pub(super) fn send(
        &mut self,
        source: &Producer,
        stream: &Stream,
        cursor: &mut Cursor,
        now: MediaTime,
    ) -> Progress {
        let head = stream.store.head();
        loop {
            if !self.drain_pending() {
                return Progress::Paced(now + RETRY);
            }
            let Some(packet) = stream.store.get(cursor.at()).filter(|_| cursor.at() < head) else {
                return Progress::Drained;
            };
            let catchup = cursor.is_catching_up();
            // How old a single packet is may be the sender's word only.
            let since = if self.packets { packet.meta.arrival } else { packet.meta.time };
            if !catchup && now.micros_since(since) > MAX_LAG_MICROS {
                cursor.restart(head, false);
                self.restart();
                return Progress::Drained;
            }
            self.take(source, &packet, catchup);
            cursor.advance(packet.payload.len(), head);
        }
    }

    /// Moves what waited into the lane; `false` while it is full.
    fn drain_pending(&mut self) -> bool {
        while let Some(value) = self.pending.pop_front() {
            match self.lane.push(value) {
                Ok(()) | Err(SendError::Closed(_)) => {}
                Err(SendError::Full(value)) => {
                    self.pending.push_front(value);
                    return false;
                }
            }
        }
        true
    }

    fn take(&mut self, source: &Producer, packet: &Stored<'_>, catchup: bool) {
        let Some(format) = source.format(packet.meta.codec) else { return };
        let (track, meta) = (self.track, &packet.meta);
        if self.packets {
            self.pending.push_back(DirectOut::Packet(Packet {
                track,
                sequence: meta.sequence,
                timestamp: meta.timestamp,
                time: meta.time,
                arrival: meta.arrival,
                marker: meta.marker,
                payload_type: meta.payload_type,
                level: packet.extension(ExtensionKind::AudioLevel).and_then(|data| data.first().copied()),
                payload: packet.payload.to_vec(),
            }));
            return;
        }
        let mut emit = |frame: Frame, gap: bool| {
            self.pending.extend(gap.then_some(DirectOut::Gap));
            self.pending.push_back(DirectOut::Frame { frame, catchup });
        };
        if self.depacketizer.as_ref().is_none_or(|(codec, _)| *codec != meta.codec) {
            self.depacketizer = Depacketizer::new(format.kind).map(|made| (meta.codec, made));
        }
        let Some((_, depacketizer)) = &mut self.depacketizer else {
            // One payload is one frame.
            let frame = Frame {
                track,
                pts: meta.time,
                dts: meta.time,
                keyframe: meta.has(KEYFRAME),
                discardable: meta.has(DISCARDABLE),
                data: packet.payload.to_vec(),
            };
            return emit(frame, false);
        };
        let rate = i64::from(format.codec.clock_rate.max(1));
        let (sequence, timestamp) = (meta.sequence as u16, meta.timestamp as u32);
        depacketizer.push(sequence, timestamp, meta.marker, packet.payload, &mut |unit| {
            let back = i64::from(timestamp.wrapping_sub(unit.timestamp) as i32);
            let time = MediaTime(meta.time.0 - back * 1_000_000 / rate);
            let frame = Frame {
                track,
                pts: time,
                dts: time,
                keyframe: unit.keyframe,
                discardable: unit.discardable,
                data: unit.data.to_vec(),
            };
            emit(frame, unit.gap && format.kind.is_video());
        });
    }
}
