//! Packets for a WebRTC receiver: header rewritten by offset, payload sealed out of the producer's store
//! straight into the send batch (the encryption is the copy), retransmissions likewise (RFC 3550, 4588, 8285).

mod report;

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::capabilities::{Kind, RtpCodec, RtpParameters};
use crate::core::consumer::cursor::{Cursor, Start};
use crate::core::consumer::history::{History, Sent, Stamp};
use crate::core::consumer::layers::Choice;
use crate::core::consumer::pictures::{Pictures, Shift};
use crate::core::consumer::sequence::{LeftOut, Place, Sequence};
use crate::core::consumer::timeline::Timeline;
use crate::core::consumer::tones::Tones;
use crate::core::consumer::{Progress, ReplayLimits};
use crate::core::payload::{Codec, renumber_payload};
use crate::core::producer::{Producer, Stream, tone_types};
use crate::core::rtp::batch::{MAX_DATAGRAM, SendBatch};
use crate::core::rtp::bwe::ArrivalRate;
use crate::core::rtp::bwe::Estimator;
use crate::core::rtp::dependency;
use crate::core::rtp::extension::{ExtensionKind, ExtensionMap};
use crate::core::rtp::header::{HeaderFields, extension_mut, write_header, write_padding};
use crate::core::rtp::layers::{Layer, LayerFacts, LayerFilter};
use crate::core::rtp::mirror::Mirror;
use crate::core::rtp::path::Path;
use crate::core::rtp::receive::Score;
use crate::core::rtp::rtcp::{ReportBlock, SenderInfo};
use crate::core::rtp::srtp::{MAX_RTP_OVERHEAD, SrtpSender};
use crate::core::rtp::store::Stored;
use crate::core::time::{Epoch, MediaTime};

/// Sent packets remembered for NACK: more than a second of 5 Mbit/s.
const VIDEO_HISTORY: usize = 512;
/// Ten seconds of 20 ms packets need no more than this for a round trip.
const AUDIO_HISTORY: usize = 64;
/// Two NACKs for one packet within this are one loss, when no round-trip time is known.
const RESEND_GUARD: Duration = Duration::from_millis(20);
/// Resends that may wait for one flush.
const MAX_RESENDS: usize = 256;
/// A picture is large that is under way for longer. None is begun for so long once a smaller size was chosen, whose
/// keyframe should be there by then; meanwhile it is looked for this often.
const LARGE: Duration = Duration::from_millis(100);
const YIELDING: Duration = Duration::from_millis(400);
const HELD: Duration = Duration::from_millis(20);
/// Packets that carry the MID although the SSRC is signalled: enough to be seen, few enough to cost nothing.
const MID_PACKETS: u32 = 32;

/// Extensions of the source that mean the same to every receiver.
const PASSED: [ExtensionKind; 4] = [
    ExtensionKind::AudioLevel,
    ExtensionKind::VideoOrientation,
    ExtensionKind::PlayoutDelay,
    ExtensionKind::DependencyDescriptor,
];

/// How packets are protected.
pub enum Seal<'a> {
    /// As SRTP with these keys.
    Srtp(&'a mut SrtpSender),
    /// Not at all.
    Plain,
    /// Either way, with a copy in the clear for somebody who listens in.
    Mirrored(Option<&'a mut SrtpSender>, &'a mut Mirror),
}

impl<'a> Seal<'a> {
    /// With the keys of `sender`, where there are any, and copies into `mirror`.
    pub fn new(sender: Option<&'a mut SrtpSender>, mirror: Option<&'a mut Mirror>) -> Self {
        match (sender, mirror) {
            (sender, Some(mirror)) => Seal::Mirrored(sender, mirror),
            (Some(sender), None) => Seal::Srtp(sender),
            (None, None) => Seal::Plain,
        }
    }

    /// Puts `payload` behind the header at `out[..header]`; the datagram's length.
    #[inline]
    fn seal(
        &mut self,
        out: &mut [u8],
        header: usize,
        (index, ssrc): (u64, u32),
        payload: &[u8],
    ) -> Option<usize> {
        match self {
            Seal::Srtp(sender) => sender.seal_rtp(out, header, index, ssrc, payload).ok(),
            Seal::Plain => {
                let end = header + payload.len();
                out.get_mut(header..end)?.copy_from_slice(payload);
                Some(end)
            }
            Seal::Mirrored(sender, mirror) => {
                mirror.sends_rtp(out.get(..header)?, payload);
                Seal::new(sender.as_deref_mut(), None).seal(out, header, (index, ssrc), payload)
            }
        }
    }

    /// The same for a packet that stands whole in `out[..len]`.
    fn seal_in_place(
        &mut self,
        out: &mut [u8],
        header: usize,
        len: usize,
        (index, ssrc): (u64, u32),
    ) -> Option<usize> {
        match self {
            Seal::Srtp(sender) => sender.seal_rtp_in_place(out, header, len, index, ssrc).ok(),
            Seal::Plain => Some(len),
            Seal::Mirrored(sender, mirror) => {
                mirror.sends_rtp(out.get(..len)?, &[]);
                Seal::new(sender.as_deref_mut(), None).seal_in_place(out, header, len, (index, ssrc))
            }
        }
    }
}

/// Packets that may stand in for padding at one turn.
const PADDING_PACKETS: u16 = 32;

/// What sealing needs of the receiver's transport, for one turn.
pub struct Sink<'a> {
    /// Where to.
    pub path: Path,
    /// The time of this flush.
    pub now: MediaTime,
    /// Its keys.
    pub seal: Seal<'a>,
    /// The flush being made.
    pub batch: &'a mut SendBatch,
    /// abs-send-time of this flush.
    pub send_time: [u8; 3],
    /// Gives out transport-wide sequence numbers and learns from them; none for parties that never report.
    pub estimator: Option<&'a mut Estimator>,
    /// Packets the path may still get before it is proven.
    pub allowance: &'a mut Option<u32>,
}

/// The state of one outgoing RTP stream and its retransmission stream.
pub struct RtpOutput {
    accepted: Vec<RtpCodec>,
    ssrc: u32,
    rtx_ssrc: Option<u32>,
    mid: Vec<u8>,
    extensions: ExtensionMap,
    current: Option<Current>,
    timeline: Timeline,
    sequence: Sequence,
    pictures: Pictures,
    filter: LayerFilter,
    /// Timestamp of the picture that something was left out of last.
    left_out: Option<u64>,
    /// The packet sent last ended its picture.
    ended: bool,
    /// Since when its receiver shall get a smaller picture: until that comes, this one takes what is left of the path.
    yields: Option<MediaTime>,
    rtx_sequence: u64,
    history: History,
    resends: VecDeque<u16>,
    round_trip: Option<Duration>,
    sent: Counters,
    report: ReportBlock,
    score: Score,
    /// Packets sent again before the newest report.
    resent: u64,
    pub(super) tones: Option<Box<Tones>>,
    /// Which bits of a packet's padding are sent: all or none.
    padding: u8,
}

/// How the current source's codec travels.
#[derive(Clone, Copy)]
struct Current {
    codec: u8,
    kind: Codec,
    /// Which of the source's streams.
    stream: u8,
    payload_type: u8,
    rtx_payload_type: Option<u8>,
}

#[derive(Default)]
struct Counters {
    packets: u64,
    bytes: u64,
    resent: u64,
    nacks: u64,
    plis: u64,
    firs: u64,
    rate: ArrivalRate,
    mids: u32,
}

impl RtpOutput {
    /// The output described by `parameters`, which list every codec the receiver takes and one encoding.
    /// `random` seeds the first sequence numbers and timestamp (RFC 3550 §5.1).
    pub fn new(kind: Kind, parameters: &RtpParameters, random: u64) -> Result<Self, String> {
        let encoding = parameters.encodings.first().ok_or("rtpParameters.encodings is empty")?;
        let ssrc = encoding.ssrc.ok_or("rtpParameters.encodings[0].ssrc is missing")?;
        let accepted: Vec<_> = parameters.codecs.clone();
        if accepted.iter().all(RtpCodec::is_feature) {
            return Err("rtpParameters.codecs holds no media codec".into());
        }
        let pairs = parameters.header_extensions.iter().map(|ext| (ext.uri.as_str(), ext.id));
        let history = if kind == Kind::Video { VIDEO_HISTORY } else { AUDIO_HISTORY };
        Ok(RtpOutput {
            accepted,
            ssrc,
            rtx_ssrc: encoding.rtx.as_ref().map(|rtx| rtx.ssrc),
            mid: parameters.mux_id.clone().unwrap_or_default().into_bytes(),
            extensions: ExtensionMap::from_uris(pairs),
            current: None,
            timeline: Timeline::new(random as u32),
            // Kept in the lower half so that the first minutes of a stream have no rollover.
            sequence: Sequence::new((random >> 32) as u16 & 0x7fff),
            pictures: Pictures::default(),
            filter: LayerFilter::new(Layer::TOP),
            left_out: None,
            ended: true,
            yields: None,
            rtx_sequence: (random >> 48) & 0x7fff,
            history: History::new(history),
            resends: VecDeque::new(),
            round_trip: None,
            sent: Counters::default(),
            report: ReportBlock::default(),
            score: Score::new(),
            resent: 0,
            tones: Tones::new(tone_types(&parameters.codecs)),
            padding: u8::MAX,
        })
    }

    /// The stream's synchronisation source.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Its retransmission stream's.
    pub fn rtx_ssrc(&self) -> Option<u32> {
        self.rtx_ssrc
    }

    /// Whether any accepted codec asked for feedback `kind` with `parameter`.
    pub fn has_feedback(&self, kind: &str, parameter: &str) -> bool {
        self.accepted.iter().any(|codec| codec.has_feedback(kind, parameter))
    }

    /// Counts a PLI of the receiver.
    pub fn note_pli(&mut self) {
        self.sent.plis += 1;
    }

    /// Counts an FIR of the receiver.
    pub fn note_fir(&mut self) {
        self.sent.firs += 1;
    }

    pub(super) fn restart(&mut self) {
        self.history.clear();
        self.resends.clear();
        self.current = None;
    }

    /// Joins `source` at `start` of the stream chosen; `false` when the receiver takes none of what comes there.
    pub(super) fn sync(&mut self, source: &Producer, choice: Choice, start: &Start) -> bool {
        let Some(stream) = source.streams.get(choice.stream) else { return false };
        let Some(first) = stream.store.get(start.index) else { return false };
        let Some(format) = source.format(first.meta.codec) else { return false };
        let Some(codec) = format.accepted_by(&self.accepted) else { return false };
        let payload_type = codec.payload_type;
        let rtx = |codec: &&RtpCodec| codec.is(&rtx_mime(&format.codec)) && codec.apt() == Some(payload_type);
        self.current = Some(Current {
            codec: first.meta.codec,
            kind: format.kind,
            stream: choice.stream as u8,
            payload_type,
            rtx_payload_type: self.accepted.iter().find(rtx).map(|codec| codec.payload_type),
        });
        self.timeline.sync(format.codec.clock_rate, start.edge, start.edge_time, start.frames);
        self.sequence.sync(first.meta.sequence);
        self.pictures.join();
        self.filter = LayerFilter::new(self.readable(choice.layer));
        (self.left_out, self.ended, self.yields) = (None, true, None);
        true
    }

    /// Sends from the cursor on while the pace, the path and the batch allow.
    pub(super) fn send(
        &mut self,
        source: &Producer,
        stream: &Stream,
        cursor: &mut Cursor,
        limits: &ReplayLimits,
        sink: &mut Sink<'_>,
    ) -> Progress {
        if let progress @ (Progress::Full | Progress::Paced(_)) = self.send_resends(source, sink) {
            return progress;
        }
        let layered = stream.is_layered();
        let head = stream.store.head();
        while cursor.at() < head {
            if *sink.allowance == Some(0) {
                return Progress::Drained;
            }
            if sink.batch.is_full() {
                return Progress::Full;
            }
            if let Err(at) = cursor.may_read(sink.now, limits.bitrate) {
                return Progress::Paced(at);
            }
            if let Some(at) = self.wait_for_path(stream, cursor, sink) {
                return match self.is_too_late(stream, cursor, limits, sink.now) {
                    true => {
                        cursor.restart(head, false);
                        Progress::Drained
                    }
                    false => Progress::Paced(at),
                };
            }
            let Some(packet) = stream.store.get(cursor.at()) else {
                cursor.advance(0, head);
                continue;
            };
            if self.current.is_some_and(|current| current.codec != packet.meta.codec) {
                // The source changed its codec: begin again where it did.
                cursor.restart(cursor.at(), false);
                self.current = None;
                return Progress::Drained;
            }
            if layered && !self.passes(&packet) {
                self.leave_out_layer(&packet, sink);
                cursor.advance(0, head);
                continue;
            }
            self.send_packet(&packet, sink);
            cursor.advance(packet.payload.len(), head);
        }
        Progress::Drained
    }

    /// When the next packet may leave, if not now: pictures wait where the path takes no more.
    #[inline]
    fn wait_for_path(&self, stream: &Stream, cursor: &Cursor, sink: &Sink<'_>) -> Option<MediaTime> {
        let estimator =
            sink.estimator.as_ref().filter(|estimator| estimator.is_paced() && self.is_video())?;
        let Some(since) = self.yields else { return estimator.wait(sink.now, false) };
        if !self.ended {
            return None;
        }
        // The smaller picture would have to wait for one that takes long.
        let takes = estimator.takes(picture_bytes(stream, cursor.at()));
        let early = sink.now.micros_since(since) < YIELDING.as_micros() as i64;
        let held = (takes > LARGE && early).then(|| sink.now + HELD);
        estimator.wait(sink.now, true).or(held)
    }

    /// Whether what waits at the cursor has waited for so long that the next keyframe is the better picture.
    fn is_too_late(&self, stream: &Stream, cursor: &Cursor, limits: &ReplayLimits, now: MediaTime) -> bool {
        let waits = stream.store.meta(cursor.at()).map_or(0, |meta| now.micros_since(meta.arrival));
        self.ended
            && self.yields.is_none()
            && !cursor.is_catching_up()
            && waits > limits.max_wait.as_micros() as i64
    }

    fn is_video(&self) -> bool {
        self.current.is_some_and(|current| current.kind.is_video())
    }

    fn send_packet(&mut self, packet: &Stored<'_>, sink: &mut Sink<'_>) {
        let Some(current) = self.current else { return };
        if packet.payload.is_empty() {
            // Padding that only fed the source's bandwidth estimator.
            if let Some(hole) = self.sequence.skip(packet.meta.sequence, LeftOut::Alone) {
                self.fill(hole, packet, sink);
            }
            return;
        }
        let timestamp = self.timeline.map(packet.meta.timestamp);
        let Some(Place { number: index, omitted }) = self.sequence.map(packet.meta.sequence) else { return };
        let described = self.extensions.id(ExtensionKind::DependencyDescriptor).is_some();
        let stamp = Stamp {
            padding: packet.padding & self.padding,
            marker: packet.meta.marker || self.ends_picture(&packet.meta.layers),
            shift: self.pictures.shift(current.kind, packet, omitted, described),
            ..self.fresh_stamp(sink)
        };
        self.ended = stamp.marker;
        let fields = HeaderFields {
            marker: stamp.marker,
            padding: stamp.padding > 0,
            payload_type: current.payload_type,
            sequence: index as u16,
            timestamp,
            ssrc: self.ssrc,
        };
        if self.seal(&fields, index, Some(packet), packet.payload, &stamp, sink) {
            self.history.push(index as u16, (current.stream, packet.index), timestamp, stamp);
            self.stamp_used(sink);
        }
    }

    /// Whether the receiver's layer needs a packet of a stream with layers.
    fn passes(&mut self, packet: &Stored<'_>) -> bool {
        let meta = &packet.meta;
        match self.sequence.is_late(meta.sequence) {
            true => self.filter.take_late(&meta.layers),
            false => self.filter.take(&meta.layers, meta.timestamp),
        }
    }

    /// Whether a packet is the last that the receiver gets of its picture, although larger ones follow.
    fn ends_picture(&self, layers: &LayerFacts) -> bool {
        layers.ends && layers.layer.spatial >= self.filter.current().spatial
    }

    /// Passes over a packet of a layer above the receiver's.
    fn leave_out_layer(&mut self, packet: &Stored<'_>, sink: &mut Sink<'_>) {
        let timestamp = Some(packet.meta.timestamp);
        let left = if self.left_out == timestamp { LeftOut::More } else { LeftOut::First };
        self.left_out = timestamp;
        if let Some(hole) = self.sequence.skip(packet.meta.sequence, left) {
            self.fill(hole, packet, sink);
        }
    }

    /// Sends nothing but padding under a number that would be asked for in vain.
    fn fill(&mut self, hole: u64, packet: &Stored<'_>, sink: &mut Sink<'_>) {
        let Some(current) = self.current.filter(|_| self.padding != 0) else { return };
        let fields = HeaderFields {
            marker: false,
            padding: true,
            payload_type: current.payload_type,
            sequence: hole as u16,
            timestamp: self.timeline.map(packet.meta.timestamp),
            ssrc: self.ssrc,
        };
        let stamp = Stamp { padding: 1, ..self.fresh_stamp(sink) };
        if self.seal(&fields, hole, None, &[], &stamp, sink) {
            self.stamp_used(sink);
        }
    }

    /// What the receiver shall get of a stream with layers.
    pub(super) fn set_target(&mut self, layer: Layer) {
        self.filter.set_target(self.readable(layer));
        self.yields = None;
    }

    /// Whether the receiver can tell the frames of a picture of several sizes apart: AV1 itself does not say where
    /// one ends.
    pub(super) fn reads_sizes(&self, codec: Codec) -> bool {
        codec != Codec::Av1 || self.extensions.id(ExtensionKind::DependencyDescriptor).is_some()
    }

    fn readable(&self, layer: Layer) -> Layer {
        let all = self.current.is_none_or(|current| self.reads_sizes(current.kind));
        if all { layer } else { Layer { spatial: 0, ..layer } }
    }

    /// A smaller picture was chosen: until its keyframe is there, this one takes no more than it must.
    pub(super) fn give_way(&mut self, now: MediaTime) {
        self.filter.set_target(Layer { temporal: 0, ..self.filter.current() });
        self.yields = self.yields.or(Some(now));
    }

    /// Whether a smaller picture is to take its place.
    pub(super) fn gives_way(&self) -> bool {
        self.yields.is_some()
    }

    /// What it gets of a stream with layers.
    pub(super) fn filter(&self) -> &LayerFilter {
        &self.filter
    }

    /// Whether no picture is half sent.
    pub(super) fn is_between_pictures(&self) -> bool {
        self.ended
    }

    /// The stamp of a packet that is sent for the first time.
    pub(super) fn fresh_stamp(&self, sink: &Sink<'_>) -> Stamp {
        Stamp {
            transport_sequence: sink.estimator.as_ref().map_or(0, |estimator| estimator.next_sequence()),
            send_time: sink.send_time,
            mid: self.sent.mids < MID_PACKETS && !self.mid.is_empty(),
            ..Stamp::default()
        }
    }

    pub(super) fn stamp_used(&mut self, sink: &mut Sink<'_>) {
        self.sent.mids += 1;
        if let Some(estimator) = &mut sink.estimator
            && self.extensions.id(ExtensionKind::TransportCc).is_some()
        {
            estimator.sent(sink.now, sink.batch.last_len());
        }
    }

    /// Writes header and extensions into the batch and seals `payload`, with its padding, behind them.
    pub(super) fn seal(
        &mut self,
        fields: &HeaderFields,
        index: u64,
        packet: Option<&Stored<'_>>,
        payload: &[u8],
        stamp: &Stamp,
        sink: &mut Sink<'_>,
    ) -> bool {
        let transport_sequence = stamp.transport_sequence.to_be_bytes();
        let mut elements: [(u8, &[u8]); 7] = [(0, &[]); 7];
        let mut count = 0;
        let mut add = |id: Option<u8>, data| {
            if let (Some(id), Some(slot)) = (id, elements.get_mut(count)) {
                *slot = (id, data);
                count += 1;
            }
        };
        add(self.extensions.id(ExtensionKind::TransportCc), &transport_sequence[..]);
        add(self.extensions.id(ExtensionKind::AbsSendTime), &stamp.send_time[..]);
        for kind in PASSED {
            if let Some(id) = self.extensions.id(kind)
                && let Some(data) = packet.and_then(|packet| packet.extension(kind))
            {
                add(Some(id), data);
            }
        }
        if stamp.mid {
            add(self.extensions.id(ExtensionKind::Mid), &self.mid[..]);
        }
        let slot = sink.batch.slot();
        let Ok(header) = write_header(slot, fields, &elements[..count]) else { return false };
        let end = header + payload.len() + usize::from(stamp.padding);
        if end + MAX_RTP_OVERHEAD > MAX_DATAGRAM {
            return false;
        }
        if stamp.shift.frame != 0
            && let Some(id) = self.extensions.id(ExtensionKind::DependencyDescriptor)
            && let Some(element) = extension_mut(&mut slot[..header], id)
        {
            dependency::renumber(element, stamp.shift.frame);
        }
        let stream = (index, fields.ssrc);
        let sealed = match stamp.padding == 0 && !stamp.shift.moves_payload() {
            true => sink.seal.seal(slot, header, stream, payload),
            false => {
                let (body, padding) = slot[header..end].split_at_mut(payload.len());
                body.copy_from_slice(payload);
                let kind = self.current.map_or(Codec::Other, |current| current.kind);
                renumber_payload(kind, body, stamp.shift.picture, stamp.shift.tl0);
                write_padding(padding);
                sink.seal.seal_in_place(slot, header, end, stream)
            }
        };
        let Some(len) = sealed else { return false };
        sink.batch.commit(sink.path, len);
        if let Some(left) = sink.allowance {
            *left = left.saturating_sub(1);
        }
        self.sent.packets += 1;
        self.sent.bytes += payload.len() as u64;
        self.sent.rate.add(sink.now.as_micros(), len as u16);
        true
    }

    /// Queues what the history still knows of `lost`; answers how many were asked for.
    pub(super) fn queue_resend(&mut self, lost: impl Iterator<Item = u16>) -> u32 {
        let mut asked = 0;
        for sequence in lost {
            asked += 1;
            if self.resends.len() < MAX_RESENDS {
                self.resends.push_back(sequence);
            }
        }
        self.sent.nacks += 1;
        asked
    }

    /// The number of a packet of our own.
    pub(super) fn next_index(&mut self) -> u64 {
        self.sequence.insert()
    }

    /// Clock rate of what is sent now, or will be.
    pub(super) fn clock_rate(&self) -> u32 {
        match self.current {
            Some(_) => self.timeline.rate(),
            None => {
                self.accepted.iter().find(|codec| !codec.is_feature()).map_or(8000, |codec| codec.clock_rate)
            }
        }
    }

    /// The timestamp a packet of our own has that begins at `time`: beside the source's where one flows.
    pub(super) fn timestamp_of(&mut self, stream: Option<&Stream>, time: MediaTime, rate: u32) -> u32 {
        let newest = stream.filter(|_| self.current.is_some()).and_then(|stream| {
            let last = stream.store.head().checked_sub(1)?;
            stream.store.meta(last)
        });
        let Some(newest) = newest else { return self.timeline.at(time, rate) };
        let since =
            i128::from(time.micros_since(newest.arrival)) * i128::from(self.timeline.rate()) / 1_000_000;
        let out = self.timeline.live(newest.timestamp).wrapping_add(since as u32);
        self.timeline.note(out)
    }

    /// Passes over what the source has sent; the receiver shall not miss it.
    pub(super) fn leave_out(&mut self, stream: &Stream, cursor: &mut Cursor) {
        let head = stream.store.head();
        while cursor.at() < head {
            let packet = stream.store.get(cursor.at());
            if let Some(packet) = &packet {
                self.sequence.skip(packet.meta.sequence, LeftOut::Alone);
            }
            cursor.advance(packet.map_or(0, |packet| packet.payload.len()), head);
        }
    }

    /// Packets leave without padding, for parties that may not know what it is.
    pub fn unpadded(mut self) -> Self {
        self.padding = 0;
        self
    }

    /// New keys protect the stream from now on.
    pub fn rekeyed(&mut self) {
        self.sequence.forget_rollovers();
        self.history.clear();
    }

    /// Whether resends wait for a flush.
    pub fn has_resends(&self) -> bool {
        !self.resends.is_empty()
    }

    fn send_resends(&mut self, source: &Producer, sink: &mut Sink<'_>) -> Progress {
        while let Some(&sequence) = self.resends.front() {
            if sink.batch.is_full() {
                return Progress::Full;
            }
            if *sink.allowance == Some(0) {
                self.resends.clear();
                break;
            }
            let estimator = sink.estimator.as_ref().filter(|_| self.is_video());
            if let Some(at) = estimator.and_then(|path| path.wait(sink.now, self.yields.is_some())) {
                return Progress::Paced(at);
            }
            self.resends.pop_front();
            self.resend(sequence, source, sink);
        }
        Progress::Drained
    }

    /// Sends one packet again: as RTX with its original number in front (RFC 4588 §4), or as it was.
    fn resend(&mut self, sequence: u16, source: &Producer, sink: &mut Sink<'_>) {
        let guard =
            self.round_trip.map_or(RESEND_GUARD, |rtt| rtt.clamp(RESEND_GUARD / 2, RESEND_GUARD * 10));
        let Some(sent) = self.history.take_for_resend(sequence, sink.now, guard) else { return };
        let left = self.current.is_some_and(|current| current.stream != sent.stream);
        if left && sink.estimator.as_ref().is_some_and(|estimator| estimator.is_paced()) {
            // Of a picture that the receiver has no use for once the one that was chosen is there.
            return;
        }
        let Some(packet) = stored(source, &sent) else { return };
        let Some(current) = self.current.filter(|current| current.codec == packet.meta.codec) else { return };
        let mut fields = HeaderFields {
            marker: sent.stamp.marker,
            padding: sent.stamp.padding > 0,
            payload_type: current.payload_type,
            sequence,
            timestamp: sent.timestamp,
            ssrc: self.ssrc,
        };
        let done = match (self.rtx_ssrc, current.rtx_payload_type) {
            (Some(_), Some(_)) => self.seal_rtx(&mut fields, &packet, sent.stamp.shift, sink),
            _ => {
                // The newest number with these low 16 bits.
                let newest = self.sequence.next().saturating_sub(1);
                let back = (newest as u16).wrapping_sub(sequence);
                let index = newest.saturating_sub(u64::from(back));
                self.seal(&fields, index, Some(&packet), packet.payload, &sent.stamp, sink)
            }
        };
        self.sent.resent += u64::from(done);
    }

    /// Sends the packet that `fields` numbered on the retransmission stream, its number in front (RFC 4588 §4).
    fn seal_rtx(
        &mut self,
        fields: &mut HeaderFields,
        packet: &Stored<'_>,
        shift: Shift,
        sink: &mut Sink<'_>,
    ) -> bool {
        let Some(current) = self.current else { return false };
        let (Some(ssrc), Some(payload_type)) = (self.rtx_ssrc, current.rtx_payload_type) else {
            return false;
        };
        let mut payload = [0u8; MAX_DATAGRAM];
        let len = packet.payload.len() + 2;
        let Some(room) = payload.get_mut(..len) else { return false };
        room[..2].copy_from_slice(&fields.sequence.to_be_bytes());
        room[2..].copy_from_slice(packet.payload);
        renumber_payload(current.kind, &mut room[2..], shift.picture, shift.tl0);
        let index = self.rtx_sequence;
        self.rtx_sequence += 1;
        (fields.ssrc, fields.payload_type, fields.sequence) = (ssrc, payload_type, index as u16);
        fields.padding = false;
        let stamp =
            Stamp { shift: Shift { frame: shift.frame, ..Shift::default() }, ..self.fresh_stamp(sink) };
        let done = self.seal(fields, index, Some(packet), &payload[..len], &stamp, sink);
        if done {
            self.stamp_used(sink);
        }
        done
    }

    /// Sends `bytes` that the receiver can do without: what it got last, again, on the retransmission stream
    /// (RFC 4588), where one was negotiated. Answers what is missing.
    pub(super) fn pad(&mut self, source: &Producer, bytes: usize, sink: &mut Sink<'_>) -> usize {
        let Some(current) = self.current.filter(|current| current.rtx_payload_type.is_some()) else {
            return bytes;
        };
        let newest = self.sequence.next() as u16;
        let mut missing = bytes;
        for back in 1..=PADDING_PACKETS {
            let sequence = newest.wrapping_sub(back);
            if missing == 0 || sink.batch.is_full() || *sink.allowance == Some(0) {
                break;
            }
            let Some(sent) = self.history.get(sequence) else { break };
            let Some(packet) = stored(source, &sent) else { break };
            let mut fields = HeaderFields {
                marker: sent.stamp.marker,
                padding: false,
                payload_type: current.payload_type,
                sequence,
                timestamp: sent.timestamp,
                ssrc: self.ssrc,
            };
            if !self.seal_rtx(&mut fields, &packet, sent.stamp.shift, sink) {
                break;
            }
            missing = missing.saturating_sub(sink.batch.last_len());
        }
        missing
    }

    pub(super) fn receiver_report(&mut self, report: &ReportBlock, now_ntp: u64) {
        let expected = report.highest.wrapping_sub(self.report.highest);
        // The first report has nothing before it; a wild number says nothing.
        if self.report.highest != 0 && expected < 1 << 16 {
            let lost = u64::from(expected) * u64::from(report.fraction_lost) / 256;
            self.score.add(u64::from(expected), lost, self.sent.resent - self.resent);
        }
        (self.report, self.resent) = (*report, self.sent.resent);
        if let Some(micros) = report.round_trip(now_ntp) {
            self.round_trip = Some(Duration::from_micros(micros));
        }
    }

    /// What the next sender report says: where the stream's timeline stands at `now`.
    pub fn sender_info(&self, stream: &Stream, now: MediaTime, epoch: &Epoch) -> Option<SenderInfo> {
        self.current?;
        let newest = stream.store.get(stream.store.head().checked_sub(1)?)?;
        let since = now.micros_since(newest.meta.time);
        let ticks = i128::from(since) * i128::from(self.timeline.rate()) / 1_000_000;
        Some(SenderInfo {
            ntp: epoch.ntp(now),
            rtp: self.timeline.live(newest.meta.timestamp).wrapping_add(ticks as u32),
            packets: self.sent.packets as u32,
            octets: self.sent.bytes as u32,
        })
    }

    /// How well the receiver gets it.
    pub(super) fn score(&self) -> &Score {
        &self.score
    }
}

/// Bytes of the picture that begins at `at`.
fn picture_bytes(stream: &Stream, at: u64) -> usize {
    let packets = (at..stream.store.head()).map_while(|at| stream.store.get(at));
    let mut timestamp = None;
    let of_it =
        packets.take_while(|packet| packet.meta.timestamp == *timestamp.get_or_insert(packet.meta.timestamp));
    of_it.map(|packet| packet.payload.len()).sum()
}

/// A packet sent before, if its stream still has it.
fn stored<'s>(source: &'s Producer, sent: &Sent) -> Option<Stored<'s>> {
    source.streams.get(usize::from(sent.stream))?.store.get(sent.index)
}

fn rtx_mime(codec: &RtpCodec) -> String {
    let kind = codec.mime_type.split('/').next().unwrap_or("video");
    format!("{kind}/rtx")
}
