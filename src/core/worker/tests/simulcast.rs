//! Publishers of tracks with layers, and receivers of them with a synthetic decoder that judges every packet.

use super::*;
use crate::core::rtp::dependency::tests::{L1T3, L2T1_KEY, Shape, descriptor};

/// 30 pictures a second.
pub(super) const PICTURE: Duration = Duration::from_micros(33_333);
pub(super) const SSRCS: [u32; 3] = [1001, 1002, 1003];
pub(super) const RIDS: [&str; 3] = ["q", "h", "f"];
pub(super) const PROFILES: [&str; 3] = ["low", "medium", "high"];
/// Bytes of a picture of each stream: about 70, 290 and 960 kbit/s.
pub(super) const SIZES: [usize; 3] = [300, 1_200, 4_000];
/// What a packet carries of its picture.
pub(super) const PIECE: usize = 1_000;

/// Which codec a publisher sends, and how its pictures depend on each other.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Coding {
    /// VP8 with three frame rates.
    Vp8,
    /// H.264 with one frame rate.
    H264,
    /// H.264 with three frame rates, told by dependency descriptors.
    H264Described,
    /// VP9 with two picture sizes, each predicted from the smaller one.
    Vp9Spatial,
    /// AV1 with two picture sizes that depend on each other in keyframes only.
    Av1Key,
}

impl Coding {
    pub(super) fn codec(self) -> Value {
        let feedback = json!([{"type": "nack"}, {"type": "nack", "parameter": "pli"}, {"type": "goog-remb"}]);
        match self {
            Coding::Vp8 => {
                json!({"mimeType": "video/VP8", "payloadType": 96, "clockRate": 90000, "rtcpFeedback": feedback})
            }
            Coding::H264 | Coding::H264Described => h264(96),
            Coding::Vp9Spatial => {
                json!({"mimeType": "video/VP9", "payloadType": 96, "clockRate": 90000, "rtcpFeedback": feedback})
            }
            Coding::Av1Key => {
                json!({"mimeType": "video/AV1", "payloadType": 96, "clockRate": 90000, "rtcpFeedback": feedback})
            }
        }
    }

    pub(super) fn is_spatial(self) -> bool {
        matches!(self, Coding::Vp9Spatial | Coding::Av1Key)
    }

    pub(super) fn structure(self) -> Option<(&'static [Shape], &'static [u32])> {
        match self {
            Coding::H264Described => Some(L1T3),
            Coding::Av1Key => Some(L2T1_KEY),
            _ => None,
        }
    }

    pub(super) fn is_described(self) -> bool {
        self.structure().is_some()
    }
}

/// One frame as its publisher knows it: of stream, picture and spatial layer.
pub(super) type Name = (u8, u32, u8);

/// A stream being sent.
pub(super) struct Sending {
    pub(super) ssrc: u32,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) picture: u16,
    pub(super) tl0: u8,
    pub(super) number: u16,
    /// Pictures since the keyframe.
    pub(super) since: u32,
    pub(super) keyframe: bool,
    pub(super) active: bool,
    /// Keyframes it was asked for.
    pub(super) asked: u32,
}

/// A publisher of one or several streams.
pub(super) struct Publisher {
    pub(super) name: u8,
    pub(super) coding: Coding,
    pub(super) streams: Vec<Sending>,
    pub(super) rids: bool,
    pub(super) keys: SrtpSender,
    pub(super) back: SrtpReceiver,
    pub(super) rollovers: std::collections::HashMap<u32, u64>,
    /// The picture being captured.
    pub(super) picture: u32,
    /// Pictures of streams that the network loses.
    pub(super) lose: Vec<(usize, u32)>,
    /// How many times the bytes of another picture a keyframe has.
    pub(super) keyframe_weight: usize,
    /// How long a request takes to it and its answer to be made.
    pub(super) delay: Duration,
    /// What it may send at most, in bits per second, as it was told last.
    pub(super) limit: u64,
    /// Requests on their way.
    pub(super) requests: VecDeque<(Instant, usize)>,
}

impl Publisher {
    /// Transport 10 with producer 20.
    pub(super) fn join(lab: &mut Lab, coding: Coding, count: usize, rids: bool) -> Publisher {
        lab.ok("worker.createRouter", [0; 3], json!({}));
        lab.connect(10, b'p');
        let encodings: Vec<Value> = (0..count)
            .map(|at| match rids {
                true => json!({"encodingId": RIDS[at]}),
                false if count > 1 => json!({"ssrc": SSRCS[at], "profile": PROFILES[at]}),
                false => json!({"ssrc": SSRCS[at]}),
            })
            .collect();
        let rtx = json!({"mimeType": "video/rtx", "payloadType": 97, "clockRate": 90000, "parameters": {"apt": 96}});
        let parameters = json!({
            "muxId": "0",
            "codecs": [coding.codec(), rtx],
            "encodings": encodings,
            "headerExtensions": [
                {"uri": ext::MID, "id": 1}, {"uri": ext::RID, "id": 2}, {"uri": ext::REPAIRED_RID, "id": 3},
                {"uri": ext::DEPENDENCY_DESCRIPTOR, "id": 4},
            ],
        });
        lab.ok("router.createProducer", [10, 20, 0], json!({"kind": "video", "rtpParameters": parameters}));
        let sending = |at: usize| Sending {
            ssrc: SSRCS[at],
            sequence: 65_500 - 1000 * at as u16,
            timestamp: u32::MAX - 90_000 * (1 + at as u32),
            picture: 0x7ff0 - 100 * at as u16,
            tl0: 250 - at as u8,
            number: 65_530 + at as u16,
            since: 0,
            keyframe: true,
            active: true,
            asked: 0,
        };
        let profile = SrtpProfile::AeadAes128Gcm;
        Publisher {
            name: b'p',
            coding,
            streams: (0..count).map(sending).collect(),
            rids,
            keys: SrtpSender::new(profile, &keys(b'p')).unwrap(),
            back: SrtpReceiver::new(profile, &keys(b'p'), 64).unwrap(),
            rollovers: Default::default(),
            picture: 0,
            lose: Vec::new(),
            keyframe_weight: 1,
            delay: Duration::ZERO,
            limit: u64::MAX,
            requests: VecDeque::new(),
        }
    }

    /// Sends pictures for so long, answering requests for keyframes.
    pub(super) fn run(&mut self, lab: &mut Lab, span: Duration) {
        let end = lab.now + span;
        while lab.now < end {
            self.capture(lab);
            lab.run(PICTURE);
        }
    }

    /// Sends one picture of each stream.
    pub(super) fn capture(&mut self, lab: &mut Lab) {
        self.listen(lab);
        for at in 0..self.streams.len() {
            if self.streams[at].active {
                self.send_picture(lab, at);
            }
        }
        self.picture += 1;
        self.streams.iter_mut().for_each(|stream| stream.timestamp = stream.timestamp.wrapping_add(3_000));
    }

    /// Takes in what the worker asks.
    pub(super) fn listen(&mut self, lab: &mut Lab) {
        let mine: Vec<_> = lab.sent.extract_if(.., |(to, ..)| *to == path(self.name)).collect();
        for (_, at, mut data) in mine {
            let Ok(len) = self.back.open_rtcp(&mut data) else { continue };
            for packet in Compound::new(&data[..len]).flatten() {
                match packet {
                    Packet::PictureLoss { media, .. } => {
                        let stream = self.streams.iter().position(|stream| stream.ssrc == media);
                        self.requests.extend(stream.map(|stream| (at + self.delay, stream)));
                    }
                    Packet::Remb(remb) => self.limit = remb.bitrate,
                    _ => {}
                }
            }
        }
        while let Some((_, stream)) = self.requests.pop_front_if(|(at, _)| *at <= lab.now) {
            let stream = &mut self.streams[stream];
            (stream.keyframe, stream.asked) = (true, stream.asked + 1);
        }
    }

    pub(super) fn send_picture(&mut self, lab: &mut Lab, at: usize) {
        let stream = &mut self.streams[at];
        if std::mem::take(&mut stream.keyframe) {
            stream.since = 0;
        }
        let since = stream.since;
        stream.since += 1;
        stream.picture = stream.picture.wrapping_add(1) & 0x7fff;
        let (n, key) = (self.picture, since == 0);
        // T0 T2 T1 T2: to which picture each refers, and whether to one of a lower rate.
        let (temporal, back) = match since % 4 {
            0 => (0, 4),
            1 => (2, 1),
            2 => (1, 2),
            _ => (2, 1),
        };
        let one_rate = self.coding.is_spatial() || self.coding == Coding::H264;
        let (temporal, back) = if one_rate { (0, 1) } else { (temporal, back) };
        if temporal == 0 {
            stream.tl0 = stream.tl0.wrapping_add(1);
        }
        let mut frames: Vec<(u8, u8, Vec<Name>)> = Vec::new();
        let spatials = if self.coding.is_spatial() { 2 } else { 1 };
        for spatial in 0..spatials {
            let mut references = Vec::new();
            if !key {
                references.push((at as u8, n - back, spatial));
            }
            // In a keyframe, or where every picture is, predicted from the smaller one.
            if spatial > 0 && (key || self.coding == Coding::Vp9Spatial) {
                references.push((at as u8, n, 0));
            }
            frames.push((spatial, temporal, references));
        }
        for (spatial, temporal, references) in frames {
            self.send_frame(lab, at, (spatial, temporal), key, &references, spatial + 1 == spatials);
        }
    }

    pub(super) fn send_frame(
        &mut self,
        lab: &mut Lab,
        at: usize,
        (spatial, temporal): (u8, u8),
        key: bool,
        references: &[Name],
        last: bool,
    ) {
        // A picture of twice the width has four times the bytes.
        let size = match self.streams.len() {
            1 if !self.coding.is_spatial() => SIZES[2],
            _ => SIZES[at] << (2 * spatial),
        };
        let size = if key { size * self.keyframe_weight } else { size };
        let pieces = size.div_ceil(PIECE);
        let (name, since) = ((at as u8, self.picture, spatial), self.streams[at].since - 1);
        self.streams[at].number = self.streams[at].number.wrapping_add(1);
        for piece in 0..pieces {
            let (first, end) = (piece == 0, piece + 1 == pieces);
            let stream = &self.streams[at];
            let mut payload = match self.coding {
                Coding::Vp8 => {
                    let head = 0x80 | u8::from(first) << 4;
                    let [high, low] = stream.picture.to_be_bytes();
                    // Every frame of a higher rate but the second T2 refers to lower ones only.
                    let sync = temporal > 0 && since % 4 != 3;
                    let layer = temporal << 6 | u8::from(sync) << 5;
                    vec![head, 0xe0, high | 0x80, low, stream.tl0, layer, u8::from(!key)]
                }
                Coding::Vp9Spatial => {
                    let predicted = !key;
                    let flags = 0xa0 | u8::from(predicted) << 6 | u8::from(first) << 3 | u8::from(end) << 2;
                    let [high, low] = stream.picture.to_be_bytes();
                    vec![flags, high | 0x80, low, spatial << 1 | u8::from(spatial > 0), stream.tl0]
                }
                Coding::H264 | Coding::H264Described if key => vec![0x65, 0x80 * u8::from(first)],
                Coding::H264 | Coding::H264Described => vec![0x41, 0x80 * u8::from(first)],
                Coding::Av1Key => {
                    vec![u8::from(!first) << 7 | 0x10 | u8::from(key && first && spatial == 0) << 3]
                }
            };
            payload.extend(mark(name, references, first, end));
            payload.resize(payload.len() + (size / pieces), 0xee);
            let template = match self.coding {
                Coding::H264Described => [if key { 0 } else { 1 }, 3, 2, 4][since as usize % 4],
                _ => [if key { 1 } else { 0 }, if key { 3 } else { 2 }][usize::from(spatial)],
            };
            let structure = self.coding.structure().filter(|_| key && spatial == 0 && first);
            let element = self
                .coding
                .is_described()
                .then(|| descriptor((first, end), template, self.streams[at].number, structure));
            self.send_packet(lab, at, last && end, &payload, element);
        }
    }

    pub(super) fn send_packet(
        &mut self,
        lab: &mut Lab,
        at: usize,
        marker: bool,
        payload: &[u8],
        element: Option<Vec<u8>>,
    ) {
        let stream = &mut self.streams[at];
        let (sequence, ssrc) = (stream.sequence, stream.ssrc);
        stream.sequence = stream.sequence.wrapping_add(1);
        let rollover = self.rollovers.entry(ssrc).or_default();
        let index = *rollover << 16 | u64::from(sequence);
        *rollover += u64::from(sequence == u16::MAX);
        let fields = HeaderFields {
            marker,
            payload_type: 96,
            sequence,
            timestamp: stream.timestamp,
            ssrc,
            padding: false,
        };
        let rid = RIDS[at].as_bytes();
        let mut elements: Vec<(u8, &[u8])> = Vec::new();
        if self.rids && self.picture < 20 {
            elements.extend([(1, &b"0"[..]), (2, rid)]);
        }
        elements.extend(element.as_deref().map(|element| (4, element)));
        let mut packet = vec![0; payload.len() + 300];
        let header = write_header(&mut packet, &fields, &elements).unwrap();
        let len = self.keys.seal_rtp(&mut packet, header, index, ssrc, payload).unwrap();
        if !self.lose.contains(&(at, self.picture)) {
            lab.worker.handle_datagram(lab.now, path(self.name), &mut packet[..len]);
        }
    }

    pub(super) fn keyframes(&mut self) {
        self.streams.iter_mut().for_each(|stream| stream.keyframe = true);
    }
}

/// What each packet tells the decoder: its frame, what that refers to, whether it is its first and last packet.
pub(super) fn mark(name: Name, references: &[Name], first: bool, last: bool) -> Vec<u8> {
    let mut out = vec![0xab, 0xcd, u8::from(first) | u8::from(last) << 1, references.len() as u8];
    for (stream, picture, spatial) in std::iter::once(&name).chain(references) {
        out.push(*stream);
        out.extend(picture.to_be_bytes());
        out.push(*spatial);
    }
    out
}

pub(super) fn read_mark(payload: &[u8]) -> (Name, Vec<Name>, bool, bool) {
    let at = payload.windows(2).position(|pair| pair == [0xab, 0xcd]).expect("a packet of the publisher");
    let body = &payload[at + 2..];
    let name = |at: usize| {
        let bytes = &body[2 + 6 * at..8 + 6 * at];
        (bytes[0], u32::from_be_bytes(bytes[1..5].try_into().unwrap()), bytes[5])
    };
    let references = (1..=usize::from(body[1])).map(name).collect();
    (name(0), references, body[0] & 1 == 1, body[0] & 2 == 2)
}

/// Decodes what a receiver gets, in order of sequence numbers, and insists on everything a decoder needs.
#[derive(Default)]
pub(super) struct Decoder {
    pub(super) decoded: std::collections::HashSet<Name>,
    pub(super) sequence: Option<u16>,
    pub(super) timestamp: Option<u32>,
    pub(super) picture_id: Option<u16>,
    pub(super) tl0: Option<u8>,
    pub(super) number: Option<u16>,
    /// The frame being received.
    pub(super) open: Option<Name>,
    /// A picture began and its marker has not come.
    pub(super) unmarked: bool,
    /// Pictures shown: when, of which stream, which, up to which spatial layer.
    pub(super) shown: Vec<(Instant, u8, u32, u8)>,
    /// Pictures that could not be decoded.
    pub(super) broken: Vec<Name>,
}

impl Decoder {
    /// Takes in what `viewer` received on `ssrc`; each packet must follow the one before.
    pub(super) fn take(&mut self, coding: Coding, viewer: &mut Viewer, ssrc: u32) {
        for (at, data) in viewer.rtp.extract_if(.., |(_, data)| RtpView::parse(data).unwrap().ssrc == ssrc) {
            let view = RtpView::parse(&data).unwrap();
            if let Some(last) = self.sequence {
                assert_eq!(view.sequence, last.wrapping_add(1), "a gap after {:?}", self.shown.last());
            }
            self.sequence = Some(view.sequence);
            if view.payload.is_empty() {
                continue;
            }
            self.packet(coding, at, &view);
        }
    }

    pub(super) fn packet(&mut self, coding: Coding, at: Instant, view: &RtpView<'_>) {
        let (name, references, first, last) = read_mark(view.payload);
        let new_picture = self.timestamp != Some(view.timestamp);
        if new_picture {
            assert!(!self.unmarked, "a picture before {name:?} was left without a marker");
            if let Some(before) = self.timestamp {
                assert!(view.timestamp.wrapping_sub(before).cast_signed() > 0, "time runs back at {name:?}");
            }
            (self.timestamp, self.unmarked) = (Some(view.timestamp), true);
        }
        assert!(self.unmarked, "{name:?} comes after the marker of its picture");
        if first {
            assert_eq!(self.open, None, "{name:?} begins within another frame");
            self.open = Some(name);
            self.numbers(coding, view, new_picture);
        }
        assert_eq!(self.open, Some(name), "out of order");
        if last {
            self.open = None;
            match references.iter().all(|reference| self.decoded.contains(reference)) {
                true => drop(self.decoded.insert(name)),
                false => self.broken.push(name),
            }
        }
        if view.marker {
            assert!(last, "a marker in the middle of {name:?}");
            self.unmarked = false;
            self.shown.push((at, name.0, name.1, name.2));
        }
    }

    /// Numbers of pictures and frames go up by one (VP8), or at least up.
    pub(super) fn numbers(&mut self, coding: Coding, view: &RtpView<'_>, new_picture: bool) {
        let payload = view.payload;
        if coding == Coding::Vp8 {
            let id = u16::from_be_bytes([payload[2] & 0x7f, payload[3]]);
            let (tl0, base) = (payload[4], payload[5] >> 6 == 0);
            if let Some(before) = self.picture_id {
                assert_eq!(id, (before + 1) & 0x7fff, "picture ids");
            }
            if let Some(before) = self.tl0 {
                assert_eq!(tl0, before.wrapping_add(u8::from(base)), "TL0PICIDX");
            }
            (self.picture_id, self.tl0) = (Some(id), Some(tl0));
        }
        if coding == Coding::Vp9Spatial && new_picture {
            let id = u16::from_be_bytes([payload[1] & 0x7f, payload[2]]);
            if let Some(before) = self.picture_id {
                assert_eq!(id, (before + 1) & 0x7fff, "picture ids");
            }
            self.picture_id = Some(id);
        }
        if coding.is_described() {
            let (_, element) = view.extensions().find(|(id, _)| *id == 9).expect("a descriptor");
            let number = u16::from_be_bytes([element[1], element[2]]);
            if let Some(before) = self.number {
                assert!(number.wrapping_sub(before).cast_signed() > 0, "frame numbers");
            }
            self.number = Some(number);
        }
    }

    /// The longest time without a new picture, by when they came.
    pub(super) fn longest_break(&self) -> Duration {
        let times = self.shown.windows(2).map(|pair| pair[1].0.saturating_duration_since(pair[0].0));
        times.max().unwrap_or_default()
    }

    /// Pictures a second of the last second.
    pub(super) fn rate(&self) -> usize {
        let last = self.shown.last().expect("pictures").0;
        self.shown
            .iter()
            .filter(|shown| last.saturating_duration_since(shown.0) < Duration::from_secs(1))
            .count()
    }

    /// The stream and spatial layer seen last.
    pub(super) fn now(&self) -> (u8, u8) {
        let (_, stream, _, spatial) = *self.shown.last().expect("pictures");
        (stream, spatial)
    }
}

/// A receiver on transport `id` with consumer `id + 100`.
pub(super) struct Watcher {
    pub(super) id: u32,
    pub(super) viewer: Viewer,
    pub(super) decoder: Decoder,
    pub(super) coding: Coding,
}

impl Watcher {
    pub(super) fn join(lab: &mut Lab, coding: Coding, id: u32, name: u8) -> Watcher {
        enable(lab, coding, id, name);
        Watcher { id, viewer: Viewer::new(name), decoder: Decoder::default(), coding }
    }

    pub(super) fn look(&mut self, lab: &mut Lab) {
        lab.received(&mut self.viewer);
        self.decoder.take(self.coding, &mut self.viewer, self.id);
    }

    /// Says what its path takes.
    pub(super) fn remb(&mut self, lab: &mut Lab, bitrate: u64) {
        let mut plain = Vec::new();
        write::remb(&mut plain, 1, bitrate, &[self.id]);
        self.viewer.say(lab, &plain);
    }

    /// Watches for so long.
    pub(super) fn watch(&mut self, lab: &mut Lab, publisher: &mut Publisher, seconds: f64) {
        publisher.run(lab, Duration::from_secs_f64(seconds));
        self.look(lab);
    }

    pub(super) fn prefer(&self, lab: &mut Lab, method: &str, data: Value) {
        lab.ok(method, [0, 0, self.id + 100], data);
    }

    pub(super) fn whole(&self) {
        assert_eq!(self.decoder.broken, [], "everything can be decoded");
    }
}

/// A WebRTC transport `id` called `name`, with consumer `id + 100` that sends as `id`, and `id + 1` again.
pub(super) fn enable(lab: &mut Lab, coding: Coding, id: u32, name: u8) {
    enable_with(lab, coding, id, name, &[(ext::DEPENDENCY_DESCRIPTOR, 9), (ext::TRANSPORT_CC, 5)]);
}

/// The same with these header extensions.
pub(super) fn enable_with(lab: &mut Lab, coding: Coding, id: u32, name: u8, extensions: &[(&str, u8)]) {
    let extensions: Vec<_> = extensions.iter().map(|(uri, id)| json!({"uri": uri, "id": id})).collect();
    lab.connect(id, name);
    lab.ok("router.createConsumer", [0, 20, id + 100], json!({"kind": "video"}));
    let mut codec = coding.codec();
    codec["payloadType"] = json!(102);
    let rtx =
        json!({"mimeType": "video/rtx", "payloadType": 103, "clockRate": 90000, "parameters": {"apt": 102}});
    let parameters = json!({
        "codecs": [codec, rtx],
        "encodings": [{"ssrc": id, "rtx": {"ssrc": id + 1}}],
        "headerExtensions": extensions,
    });
    lab.ok("consumer.enable", [id, 20, id + 100], json!({"rtpParameters": parameters}));
    lab.flush();
}
