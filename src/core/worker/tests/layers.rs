//! Tracks with layers: publishers that send several, receivers that are put on one and on another, and what they
//! see. A synthetic decoder judges every packet a receiver gets.

use super::*;
use crate::core::rtp::dependency::tests::{L1T3, L2T1_KEY, Shape, descriptor};

/// 30 pictures a second.
const PICTURE: Duration = Duration::from_micros(33_333);
const SSRCS: [u32; 3] = [1001, 1002, 1003];
const RIDS: [&str; 3] = ["q", "h", "f"];
const PROFILES: [&str; 3] = ["low", "medium", "high"];
/// Bytes of a picture of each stream: about 70, 290 and 960 kbit/s.
const SIZES: [usize; 3] = [300, 1_200, 4_000];
/// What a packet carries of its picture.
const PIECE: usize = 1_000;

/// Which codec a publisher sends, and how its pictures depend on each other.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Coding {
    /// VP8 with three frame rates.
    Vp8,
    /// H.264 with three frame rates, told by dependency descriptors.
    H264Described,
    /// VP9 with two picture sizes, each predicted from the smaller one.
    Vp9Spatial,
    /// AV1 with two picture sizes that depend on each other in keyframes only.
    Av1Key,
}

impl Coding {
    fn codec(self) -> Value {
        let feedback = json!([{"type": "nack"}, {"type": "nack", "parameter": "pli"}]);
        match self {
            Coding::Vp8 => {
                json!({"mimeType": "video/VP8", "payloadType": 96, "clockRate": 90000, "rtcpFeedback": feedback})
            }
            Coding::H264Described => h264(96),
            Coding::Vp9Spatial => {
                json!({"mimeType": "video/VP9", "payloadType": 96, "clockRate": 90000, "rtcpFeedback": feedback})
            }
            Coding::Av1Key => {
                json!({"mimeType": "video/AV1", "payloadType": 96, "clockRate": 90000, "rtcpFeedback": feedback})
            }
        }
    }

    fn is_spatial(self) -> bool {
        matches!(self, Coding::Vp9Spatial | Coding::Av1Key)
    }

    fn structure(self) -> Option<(&'static [Shape], &'static [u32])> {
        match self {
            Coding::H264Described => Some(L1T3),
            Coding::Av1Key => Some(L2T1_KEY),
            _ => None,
        }
    }

    fn is_described(self) -> bool {
        self.structure().is_some()
    }
}

/// One frame as its publisher knows it: of stream, picture and spatial layer.
type Name = (u8, u32, u8);

/// A stream being sent.
struct Sending {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    picture: u16,
    tl0: u8,
    number: u16,
    /// Pictures since the keyframe.
    since: u32,
    keyframe: bool,
    active: bool,
    /// Keyframes it was asked for.
    asked: u32,
}

/// A publisher of one or several streams.
struct Publisher {
    name: u8,
    coding: Coding,
    streams: Vec<Sending>,
    rids: bool,
    keys: SrtpSender,
    back: SrtpReceiver,
    rollovers: std::collections::HashMap<u32, u64>,
    /// The picture being captured.
    picture: u32,
    /// Sequence numbers that the network loses.
    lose: Vec<(usize, u32)>,
}

impl Publisher {
    /// Transport 10 with producer 20.
    fn join(lab: &mut Lab, coding: Coding, count: usize, rids: bool) -> Publisher {
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
        }
    }

    /// Sends pictures for so long, answering requests for keyframes.
    fn run(&mut self, lab: &mut Lab, span: Duration) {
        let end = lab.now + span;
        while lab.now < end {
            self.listen(lab);
            for at in 0..self.streams.len() {
                if self.streams[at].active {
                    self.send_picture(lab, at);
                }
            }
            self.picture += 1;
            self.streams
                .iter_mut()
                .for_each(|stream| stream.timestamp = stream.timestamp.wrapping_add(3_000));
            lab.run(PICTURE);
        }
    }

    /// Takes in what the worker asks.
    fn listen(&mut self, lab: &mut Lab) {
        let mine: Vec<_> = lab.sent.extract_if(.., |(to, ..)| *to == path(self.name)).collect();
        for (_, _, mut data) in mine {
            let Ok(len) = self.back.open_rtcp(&mut data) else { continue };
            for packet in Compound::new(&data[..len]).flatten() {
                if let Packet::PictureLoss { media, .. } = packet
                    && let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == media)
                {
                    (stream.keyframe, stream.asked) = (true, stream.asked + 1);
                }
            }
        }
    }

    fn send_picture(&mut self, lab: &mut Lab, at: usize) {
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
        let (temporal, back) = if self.coding.is_spatial() { (0, 1) } else { (temporal, back) };
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

    fn send_frame(
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
                Coding::H264Described if key => vec![0x65, 0x80 * u8::from(first)],
                Coding::H264Described => vec![0x41, 0x80 * u8::from(first)],
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

    fn send_packet(
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

    fn keyframes(&mut self) {
        self.streams.iter_mut().for_each(|stream| stream.keyframe = true);
    }
}

/// What each packet tells the decoder: its frame, what that refers to, whether it is its first and last packet.
fn mark(name: Name, references: &[Name], first: bool, last: bool) -> Vec<u8> {
    let mut out = vec![0xab, 0xcd, u8::from(first) | u8::from(last) << 1, references.len() as u8];
    for (stream, picture, spatial) in std::iter::once(&name).chain(references) {
        out.push(*stream);
        out.extend(picture.to_be_bytes());
        out.push(*spatial);
    }
    out
}

fn read_mark(payload: &[u8]) -> (Name, Vec<Name>, bool, bool) {
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
struct Decoder {
    decoded: std::collections::HashSet<Name>,
    sequence: Option<u16>,
    timestamp: Option<u32>,
    picture_id: Option<u16>,
    tl0: Option<u8>,
    number: Option<u16>,
    /// The frame being received.
    open: Option<Name>,
    /// A picture began and its marker has not come.
    unmarked: bool,
    /// Pictures shown: when, of which stream, which, up to which spatial layer.
    shown: Vec<(Instant, u8, u32, u8)>,
    /// Pictures that could not be decoded.
    broken: Vec<Name>,
}

impl Decoder {
    /// Takes in what `viewer` received on `ssrc`; each packet must follow the one before.
    fn take(&mut self, coding: Coding, viewer: &mut Viewer, ssrc: u32) {
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

    fn packet(&mut self, coding: Coding, at: Instant, view: &RtpView<'_>) {
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
    fn numbers(&mut self, coding: Coding, view: &RtpView<'_>, new_picture: bool) {
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
    fn longest_break(&self) -> Duration {
        let times = self.shown.windows(2).map(|pair| pair[1].0.saturating_duration_since(pair[0].0));
        times.max().unwrap_or_default()
    }

    /// Pictures a second of the last second.
    fn rate(&self) -> usize {
        let last = self.shown.last().expect("pictures").0;
        self.shown
            .iter()
            .filter(|shown| last.saturating_duration_since(shown.0) < Duration::from_secs(1))
            .count()
    }

    /// The stream and spatial layer seen last.
    fn now(&self) -> (u8, u8) {
        let (_, stream, _, spatial) = *self.shown.last().expect("pictures");
        (stream, spatial)
    }
}

/// A receiver on transport `id` with consumer `id + 100`.
struct Watcher {
    id: u32,
    viewer: Viewer,
    decoder: Decoder,
    coding: Coding,
}

impl Watcher {
    fn join(lab: &mut Lab, coding: Coding, id: u32, name: u8) -> Watcher {
        lab.connect(id, name);
        lab.ok("router.createConsumer", [0, 20, id + 100], json!({"kind": "video"}));
        let mut codec = coding.codec();
        codec["payloadType"] = json!(102);
        let rtx = json!({"mimeType": "video/rtx", "payloadType": 103, "clockRate": 90000, "parameters": {"apt": 102}});
        let parameters = json!({
            "codecs": [codec, rtx],
            "encodings": [{"ssrc": id, "rtx": {"ssrc": id + 1}}],
            "headerExtensions": [{"uri": ext::DEPENDENCY_DESCRIPTOR, "id": 9}],
        });
        lab.ok("consumer.enable", [id, 20, id + 100], json!({"rtpParameters": parameters}));
        lab.flush();
        Watcher { id, viewer: Viewer::new(name), decoder: Decoder::default(), coding }
    }

    fn look(&mut self, lab: &mut Lab) {
        lab.received(&mut self.viewer);
        self.decoder.take(self.coding, &mut self.viewer, self.id);
    }

    /// Says what its path takes.
    fn remb(&mut self, lab: &mut Lab, bitrate: u64) {
        let mut plain = Vec::new();
        write::remb(&mut plain, 1, bitrate, &[self.id]);
        self.viewer.say(lab, &plain);
    }

    /// Watches for so long.
    fn watch(&mut self, lab: &mut Lab, publisher: &mut Publisher, seconds: f64) {
        publisher.run(lab, Duration::from_secs_f64(seconds));
        self.look(lab);
    }

    fn prefer(&self, lab: &mut Lab, method: &str, data: Value) {
        lab.ok(method, [0, 0, self.id + 100], data);
    }

    fn whole(&self) {
        assert_eq!(self.decoder.broken, [], "everything can be decoded");
    }
}

fn events(lab: &mut Lab, target: u32, name: &str) -> Vec<Value> {
    let found = lab.events.extract_if(.., |event| event["targetId"] == target && event["event"] == name);
    found.map(|event| event["data"].clone()).collect()
}

#[test]
fn a_viewer_gets_the_best_stream_its_path_takes_and_sees_no_break() {
    for rids in [false, true] {
        let mut lab = Lab::new();
        let mut publisher = Publisher::join(&mut lab, Coding::Vp8, 3, rids);
        publisher.run(&mut lab, Duration::from_secs(3));
        let mut watcher = Watcher::join(&mut lab, Coding::Vp8, 11, b'v');
        watcher.remb(&mut lab, 5_000_000);
        watcher.watch(&mut lab, &mut publisher, 3.0);
        assert_eq!(watcher.decoder.now().0, 2, "the best");
        for (bitrate, stream) in [(400_000, 1), (90_000, 0), (400_000, 1), (3_000_000, 2)] {
            watcher.remb(&mut lab, bitrate);
            watcher.watch(&mut lab, &mut publisher, 6.0);
            assert_eq!(watcher.decoder.now().0, stream, "at {bitrate} bit/s");
            assert!((30..=31).contains(&watcher.decoder.rate()), "at {bitrate} bit/s");
        }
        watcher.whole();
        assert!(
            watcher.decoder.longest_break() < Duration::from_millis(80),
            "{:?}",
            watcher.decoder.longest_break()
        );
    }
}

#[test]
fn frame_rate_is_given_up_before_the_picture_size() {
    for coding in [Coding::Vp8, Coding::H264Described] {
        let mut lab = Lab::new();
        let mut publisher = Publisher::join(&mut lab, coding, 1, false);
        publisher.run(&mut lab, Duration::from_secs(3));
        let mut watcher = Watcher::join(&mut lab, coding, 11, b'v');
        for (bitrate, rate) in [(2_000_000, 30), (500_000, 15), (250_000, 8), (560_000, 15), (2_000_000, 30)]
        {
            watcher.remb(&mut lab, bitrate);
            watcher.watch(&mut lab, &mut publisher, 8.0);
            let now = watcher.decoder.rate();
            assert!(now.abs_diff(rate) <= 1, "{now} pictures a second at {bitrate} bit/s");
        }
        watcher.whole();
    }
}

#[test]
fn scalable_pictures_are_cut_down_and_keep_their_marker() {
    for coding in [Coding::Vp9Spatial, Coding::Av1Key] {
        let mut lab = Lab::new();
        let mut publisher = Publisher::join(&mut lab, coding, 1, false);
        publisher.run(&mut lab, Duration::from_secs(3));
        let mut watcher = Watcher::join(&mut lab, coding, 11, b'v');
        for (bitrate, spatial) in [(1_000_000, 1), (100_000, 0), (1_000_000, 1)] {
            watcher.remb(&mut lab, bitrate);
            watcher.watch(&mut lab, &mut publisher, 6.0);
            assert_eq!(watcher.decoder.now(), (0, spatial), "at {bitrate} bit/s");
            assert!((30..=31).contains(&watcher.decoder.rate()), "at {bitrate} bit/s");
        }
        watcher.whole();
        assert!(watcher.decoder.longest_break() < Duration::from_millis(80));
    }
}

#[test]
fn a_stream_that_dies_is_left_at_once_and_taken_again_when_it_is_back() {
    let mut lab = Lab::new();
    let mut publisher = Publisher::join(&mut lab, Coding::Vp8, 3, false);
    publisher.run(&mut lab, Duration::from_secs(3));
    let mut watcher = Watcher::join(&mut lab, Coding::Vp8, 11, b'v');
    watcher.remb(&mut lab, 5_000_000);
    watcher.watch(&mut lab, &mut publisher, 3.0);
    publisher.streams[2].active = false;
    watcher.watch(&mut lab, &mut publisher, 3.0);
    assert_eq!(watcher.decoder.now().0, 1);
    let silence = watcher.decoder.longest_break();
    assert!(silence < Duration::from_millis(800), "{silence:?}");
    (publisher.streams[2].active, publisher.streams[2].keyframe) = (true, true);
    watcher.watch(&mut lab, &mut publisher, 6.0);
    assert_eq!(watcher.decoder.now().0, 2);
    assert_eq!(watcher.decoder.longest_break(), silence, "no break on the way back");
    watcher.whole();
}

#[test]
fn profiles_are_preferred_and_told() {
    let mut lab = Lab::new();
    let mut publisher = Publisher::join(&mut lab, Coding::Vp8, 3, false);
    publisher.run(&mut lab, Duration::from_secs(3));
    let mut watcher = Watcher::join(&mut lab, Coding::Vp8, 11, b'v');
    watcher.remb(&mut lab, 10_000_000);
    watcher.prefer(&mut lab, "consumer.setPreferredProfile", json!({"profile": "low"}));
    watcher.watch(&mut lab, &mut publisher, 2.0);
    assert_eq!(watcher.decoder.now().0, 0);
    events(&mut lab, 111, "effectiveprofilechange");
    watcher.prefer(&mut lab, "consumer.setPreferredProfile", json!({"profile": "high"}));
    watcher.watch(&mut lab, &mut publisher, 1.0);
    assert_eq!(events(&mut lab, 111, "effectiveprofilechange"), [json!({"profile": "high"})]);
    let layers = events(&mut lab, 111, "x.layerschange");
    assert_eq!(layers.last(), Some(&json!({"spatialLayer": 2, "temporalLayer": 2})));
    let dump = lab.ok("consumer.dump", [0, 0, 111], json!({}));
    assert_eq!((&dump["preferredProfile"], &dump["effectiveProfile"]), (&json!("high"), &json!("high")));
    watcher.prefer(&mut lab, "consumer.setPreferredProfile", json!({"profile": "default"}));
    lab.ok("producer.setPreferredProfile", [0, 20, 0], json!({"profile": "medium"}));
    watcher.watch(&mut lab, &mut publisher, 1.0);
    assert_eq!(watcher.decoder.now().0, 1);
    watcher.prefer(&mut lab, "x.consumer.setPreferredLayers", json!({"spatialLayer": 0, "temporalLayer": 1}));
    watcher.watch(&mut lab, &mut publisher, 2.0);
    assert!(watcher.decoder.now().0 == 0 && (15..=16).contains(&watcher.decoder.rate()));
    for (profile, fault) in [("none", "invalid profile"), ("best", "unknown profile")] {
        let refused = lab.request("consumer.setPreferredProfile", [0, 0, 111], json!({"profile": profile}));
        assert!(refused.unwrap_err().contains(fault));
    }
    lab.ok("consumer.pause", [0, 0, 111], json!({}));
    watcher.watch(&mut lab, &mut publisher, 0.5);
    assert_eq!(events(&mut lab, 111, "effectiveprofilechange").last(), Some(&json!({"profile": "none"})));
    watcher.whole();
}

#[test]
fn nobody_is_asked_for_keyframes_of_streams_that_nobody_wants() {
    let mut lab = Lab::new();
    let mut publisher = Publisher::join(&mut lab, Coding::Vp8, 3, true);
    publisher.run(&mut lab, Duration::from_secs(25));
    let mut watcher = Watcher::join(&mut lab, Coding::Vp8, 11, b'v');
    watcher.prefer(&mut lab, "x.consumer.setPreferredLayers", json!({"spatialLayer": 1}));
    watcher.remb(&mut lab, 5_000_000);
    watcher.watch(&mut lab, &mut publisher, 0.1);
    publisher.streams[2].asked = 0;
    watcher.watch(&mut lab, &mut publisher, 6.0);
    assert_eq!(watcher.decoder.now().0, 1);
    assert_eq!(publisher.streams[2].asked, 0);
    assert!(publisher.streams[1].asked > 0, "its cached group was too old");
    let wanted = events(&mut lab, 20, "x.wantedlayers");
    let last = wanted.last().expect("told")["encodings"].clone();
    assert_eq!(
        last.as_array().unwrap().iter().map(|of| of["wanted"] == true).collect::<Vec<_>>(),
        [true, true, false]
    );
    assert_eq!(last[2]["rid"], "f");
    // Its source stops it, and it can be had again.
    publisher.streams[2].active = false;
    watcher.watch(&mut lab, &mut publisher, 5.0);
    watcher.prefer(&mut lab, "x.consumer.setPreferredLayers", json!({"spatialLayer": 2}));
    watcher.watch(&mut lab, &mut publisher, 0.1);
    let wanted = events(&mut lab, 20, "x.wantedlayers");
    assert_eq!(wanted.last().expect("told")["encodings"][2]["wanted"], true);
    (publisher.streams[2].active, publisher.streams[2].keyframe) = (true, true);
    watcher.watch(&mut lab, &mut publisher, 3.0);
    assert_eq!(watcher.decoder.now().0, 2);
    watcher.whole();
}

#[test]
fn a_receiver_that_says_nothing_climbs_step_by_step() {
    let mut lab = Lab::new();
    let mut publisher = Publisher::join(&mut lab, Coding::Vp8, 3, false);
    publisher.run(&mut lab, Duration::from_secs(3));
    let mut watcher = Watcher::join(&mut lab, Coding::Vp8, 11, b'v');
    watcher.watch(&mut lab, &mut publisher, 20.0);
    assert_eq!(watcher.decoder.now().0, 2);
    watcher.whole();
    assert_eq!(events(&mut lab, 20, "x.score"), [json!(null); 0], "all is well");
    assert_eq!(events(&mut lab, 111, "x.score").last().unwrap()["producerScores"], json!([10, 10, 10]));
    publisher.streams[0].active = false;
    watcher.watch(&mut lab, &mut publisher, 1.0);
    let scores = events(&mut lab, 20, "x.score");
    assert_eq!(scores.last().unwrap()["scores"][0], json!({"encodingIdx": 0, "ssrc": 1001, "score": 0}));
}

#[test]
fn one_path_is_shared_and_priority_counts() {
    let mut lab = Lab::new();
    let mut publisher = Publisher::join(&mut lab, Coding::Vp8, 3, false);
    publisher.run(&mut lab, Duration::from_secs(3));
    let mut watcher = Watcher::join(&mut lab, Coding::Vp8, 11, b'v');
    // A second view of the same track on the same transport.
    lab.ok("router.createConsumer", [0, 20, 211], json!({"kind": "video"}));
    let mut codec = Coding::Vp8.codec();
    codec["payloadType"] = json!(102);
    let parameters = json!({"codecs": [codec], "encodings": [{"ssrc": 500}]});
    lab.ok("consumer.enable", [11, 20, 211], json!({"rtpParameters": parameters}));
    lab.ok("x.consumer.setPriority", [0, 0, 211], json!({"priority": 20}));
    watcher.remb(&mut lab, 1_050_000);
    watcher.watch(&mut lab, &mut publisher, 10.0);
    let mut second = Decoder::default();
    second.take(Coding::Vp8, &mut watcher.viewer, 500);
    assert_eq!((watcher.decoder.now().0, second.now().0), (0, 2));
}

#[test]
fn a_network_that_loses_pictures_breaks_no_more_than_those() {
    let mut lab = Lab::new();
    let mut publisher = Publisher::join(&mut lab, Coding::Vp8, 3, true);
    publisher.run(&mut lab, Duration::from_secs(3));
    let mut watcher = Watcher::join(&mut lab, Coding::Vp8, 11, b'v');
    watcher.remb(&mut lab, 5_000_000);
    watcher.watch(&mut lab, &mut publisher, 3.0);
    let next = publisher.picture;
    publisher.lose = (0..3).flat_map(|stream| [(stream, next + 5), (stream, next + 40)]).collect();
    // The decoder insists on numbers without gaps: what is lost on the way in is a gap indeed.
    publisher.run(&mut lab, Duration::from_secs(3));
    lab.received(&mut watcher.viewer);
    let sequences: Vec<u16> = watcher.viewer.of(11).iter().map(|view| view.sequence).collect();
    let gaps = sequences.windows(2).filter(|pair| pair[1] != pair[0].wrapping_add(1)).count();
    assert_eq!(gaps, 2);
    publisher.keyframes();
    watcher.remb(&mut lab, 200_000);
    publisher.run(&mut lab, Duration::from_secs(3));
    lab.received(&mut watcher.viewer);
    let after: Vec<u16> = watcher.viewer.of(11).iter().map(|view| view.sequence).collect();
    let gaps = after.windows(2).filter(|pair| pair[1] != pair[0].wrapping_add(1)).count();
    assert_eq!(gaps, 2, "a change of the stream brings none");
}

#[test]
fn receivers_behind_a_pipe_choose_too_and_what_they_do_not_want_is_not_carried() {
    let (mut near, mut far) = (Lab::new(), Lab::new());
    let mut publisher = Publisher::join(&mut near, Coding::Vp8, 3, true);
    let ((to_far, at_far), (to_near, at_near)) = (lane(1024, None), lane(1024, None));
    near.worker.handle_mail(near.now, Mail::Pipe { attach: 1, input: at_near, output: to_far }, None);
    near.ok("x.router.createPipeTransport", [50, 0, 0], json!({"attach": 1}));
    near.ok("router.createConsumer", [0, 20, 70], json!({"kind": "video"}));
    let one = json!({"codecs": [Coding::Vp8.codec()], "encodings": [{"ssrc": 70}]});
    near.ok("consumer.enable", [50, 20, 70], json!({"rtpParameters": one}));
    far.ok("worker.createRouter", [0; 3], json!({}));
    far.worker.handle_mail(far.now, Mail::Pipe { attach: 2, input: at_far, output: to_near }, None);
    far.ok("x.router.createPipeTransport", [60, 0, 0], json!({"attach": 2}));
    let three = json!({
        "codecs": [Coding::Vp8.codec()],
        "encodings": RIDS.map(|rid| json!({"encodingId": rid})),
    });
    let track = json!({"kind": "video", "rtpParameters": three, "x.track": 70});
    far.ok("router.createProducer", [60, 20, 0], track);

    let run = |near: &mut Lab, far: &mut Lab, publisher: &mut Publisher, seconds: u32| {
        let mut carried = [0; 3];
        for _ in 0..30 * seconds {
            publisher.run(near, PICTURE);
            let before: Vec<u64> = counts(far);
            far.worker.handle_lanes(near.now);
            far.run(near.now - far.now);
            near.worker.handle_lanes(near.now);
            near.flush();
            counts(far)
                .iter()
                .zip(before)
                .zip(&mut carried)
                .for_each(|((after, before), sum)| *sum += after - before);
        }
        carried
    };
    fn counts(far: &mut Lab) -> Vec<u64> {
        let space = far.worker.spaces.get(0).expect("a router");
        space
            .router
            .producers
            .iter()
            .next()
            .map(|(_, source)| source)
            .map_or_else(Vec::new, |source| source.streams.iter().map(|stream| stream.store.head()).collect())
    }
    run(&mut near, &mut far, &mut publisher, 3);
    let mut watcher = Watcher::join(&mut far, Coding::Vp8, 11, b'v');
    watcher.remb(&mut far, 5_000_000);
    run(&mut near, &mut far, &mut publisher, 10);
    watcher.look(&mut far);
    assert_eq!(watcher.decoder.now().0, 2);
    let carried = run(&mut near, &mut far, &mut publisher, 2);
    assert!(carried[0] > 0 && carried[1] == 0 && carried[2] > 0, "{carried:?}");
    watcher.remb(&mut far, 400_000);
    run(&mut near, &mut far, &mut publisher, 12);
    watcher.look(&mut far);
    assert_eq!(watcher.decoder.now().0, 1);
    let carried = run(&mut near, &mut far, &mut publisher, 1);
    assert!(carried[1] > 0 && carried[2] == 0, "{carried:?}");
    watcher.look(&mut far);
    watcher.whole();
    let silence = watcher.decoder.longest_break();
    assert!(silence < Duration::from_millis(150), "{silence:?}");
}
