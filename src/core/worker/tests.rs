//! The worker with a hand-moved clock, stand-in sessions that hand over known keys, and receivers that
//! decrypt what they get.

mod bounds;
mod data;
mod layers;
mod levels;
mod mirroring;
mod narrow;
mod simulcast;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{GopConfig, Verdict, Worker, WorkerConfig};
use crate::core::capabilities::{Kind, RtpCodec, ext};
use crate::core::convert::{DirectIn, DirectOut};
use crate::core::id::WorkerId;
use crate::core::lane::lane;
use crate::core::mail::Mail;
use crate::core::rtp::batch::SendBatch;
use crate::core::rtp::bwe::RateLimits;
use crate::core::rtp::header::{HeaderFields, RtpView, write_header};
use crate::core::rtp::keys::{KeyingMaterial, SrtpKeys, SrtpProfile};
use crate::core::rtp::path::Path;
use crate::core::rtp::rtcp::{Compound, Packet, SenderInfo, write};
use crate::core::rtp::srtp::{SrtpReceiver, SrtpSender};
use crate::core::session::{
    Command, Ending, Event, Frame, Input, LocalCandidate, Output, Session, SessionFactory, Track,
};
use crate::core::time::{Epoch, MediaTime};

/// Both sides use the same key: what matters here is whose it is, not how it was agreed.
fn keys(of: u8) -> KeyingMaterial {
    KeyingMaterial { key: vec![of; 16], salt: vec![of ^ 0x55; 12] }
}

/// Is routed by the second byte of a "STUN" datagram and connected by the first one.
struct Stub {
    name: u8,
    out: VecDeque<Output>,
    timeout: Option<Instant>,
}

impl Session for Stub {
    fn handle_input(&mut self, _now: Instant, input: Input<'_>) {
        if let Input::Datagram { path, data } = input {
            assert!(data.get(2) != Some(&0xee), "a datagram that breaks the session");
            self.out.push_back(Output::Datagram { path, data: vec![1, self.name] });
            self.out.push_back(Output::Event(Event::SelectedPath { path, probation: None }));
            let keys = SrtpKeys {
                profile: SrtpProfile::AeadAes128Gcm,
                local: keys(self.name),
                remote: keys(self.name),
            };
            self.out.push_back(Output::Event(Event::SrtpKeys(keys)));
        }
    }
    fn command(&mut self, _now: Instant, command: Command) -> Result<Value, String> {
        match command {
            Command::SetRemoteDtls { .. } => Ok(json!({"role": "server"})),
            _ => Ok(json!({})),
        }
    }
    fn handle_timeout(&mut self, _now: Instant) {
        self.timeout = None;
        self.out
            .push_back(Output::Event(Event::Closed { reason: "silence".into(), ending: Ending::Timeout }));
    }
    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }
    fn poll_timeout(&self) -> Option<Instant> {
        self.timeout
    }
    fn dump(&self) -> Value {
        json!({"iceRole": "controlled"})
    }
}

struct Stubs;

impl SessionFactory for Stubs {
    fn webrtc(
        &self,
        _now: Instant,
        _epoch: Epoch,
        options: &Value,
        _candidates: &[LocalCandidate],
    ) -> Result<Box<dyn Session>, String> {
        let name = options["name"].as_u64().ok_or("no name")? as u8;
        let key = char::from(name).to_string();
        let out = VecDeque::from([Output::Event(Event::Route { key })]);
        Ok(Box::new(Stub { name, out, timeout: None }))
    }
    fn route_key<'a>(&self, datagram: &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(datagram.get(1..2)?).ok()
    }
}

/// A source inside the program, fed by the test.
struct Source(VecDeque<Output>);

impl Session for Source {
    fn handle_input(&mut self, _now: Instant, input: Input<'_>) {
        if let Input::Bytes(bytes) = input {
            // Frame number n of a 30 Hz stream, a keyframe each 30: `[n]` repeated is its content.
            for &n in bytes {
                self.0.push_back(Output::Event(Event::Frame(frame(u64::from(n)))));
            }
        }
    }
    fn command(&mut self, _now: Instant, _command: Command) -> Result<Value, String> {
        Ok(json!({}))
    }
    fn handle_timeout(&mut self, _now: Instant) {}
    fn poll_output(&mut self) -> Option<Output> {
        self.0.pop_front()
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn dump(&self) -> Value {
        json!({})
    }
}

/// Two NAL units for a keyframe's SPS and IDR slice, one for the others; each behind its length.
fn frame(n: u64) -> Frame {
    let keyframe = n.is_multiple_of(30);
    let mut data = Vec::new();
    let mut nal = |head: u8, len: usize| {
        data.extend((len as u32 + 1).to_be_bytes());
        data.push(head);
        data.extend(std::iter::repeat_n(n as u8, len));
    };
    if keyframe {
        nal(0x67, 12);
        nal(0x65, 3_000);
    } else {
        nal(0x41, 1_500);
    }
    let time = MediaTime::from_micros(n as i64 * 33_333);
    Frame { track: 0, pts: time, dts: time, keyframe, discardable: false, data }
}

struct Lab {
    worker: Worker,
    now: Instant,
    epoch: Epoch,
    batch: SendBatch,
    requests: u32,
    events: Vec<Value>,
    sent: Vec<(Path, Instant, Vec<u8>)>,
}

impl Lab {
    fn new() -> Self {
        let now = Instant::now();
        let epoch = Epoch { instant: now, unix: Duration::from_secs(1_700_000_000) };
        let config = WorkerConfig {
            id: WorkerId(0),
            candidates: Vec::new(),
            gop: GopConfig::default(),
            max_publish_bitrate: 10_000_000,
            layers: Default::default(),
            rates: RateLimits::default(),
            legs: Default::default(),
            channel: None,
            data: Default::default(),
        };
        let worker = Worker::new(config, epoch, Arc::new(Stubs), 42);
        let batch = SendBatch::new(64 * 1024, 64);
        Lab { worker, now, epoch, batch, requests: 0, events: Vec::new(), sent: Vec::new() }
    }

    fn request(&mut self, method: &str, ids: [u32; 3], data: Value) -> Result<Value, String> {
        self.requests += 1;
        let mut internal = json!({"routerId": 1});
        for (name, id) in ["transportId", "producerId", "consumerId"].iter().zip(ids) {
            if id != 0 {
                internal[name] = json!(id);
            }
        }
        let request = json!({"id": self.requests, "method": method, "internal": internal, "data": data});
        self.worker.handle_control(self.now, &serde_json::to_vec(&request).unwrap());
        let mut answer = None;
        while let Some(message) = self.worker.poll_control() {
            let message: Value = serde_json::from_slice(&message).unwrap();
            if message["id"] == json!(self.requests) {
                answer = Some(match message["accepted"] == json!(true) {
                    true => Ok(message["data"].clone()),
                    false => Err(message["reason"].as_str().unwrap().to_owned()),
                });
            } else {
                self.events.push(message);
            }
        }
        answer.expect("each request is answered at once")
    }

    fn ok(&mut self, method: &str, ids: [u32; 3], data: Value) -> Value {
        self.request(method, ids, data).unwrap_or_else(|reason| panic!("{method}: {reason}"))
    }

    /// Creates a WebRTC transport whose session is called `name` and connects it from port `name`.
    fn connect(&mut self, id: u32, name: u8) {
        self.ok("router.createWebRtcTransport", [id, 0, 0], json!({"name": name}));
        let verdict = self.worker.handle_datagram(self.now, path(name), &mut [1, name]);
        assert_eq!(verdict, Verdict::Claimed);
    }

    fn flush(&mut self) {
        loop {
            let more = self.worker.flush(self.now, &mut self.batch);
            for run in self.batch.runs() {
                self.sent.extend(self.batch.datagrams(run).map(|data| (run.path, self.now, data.to_vec())));
            }
            self.batch.clear();
            if !more {
                break;
            }
        }
        while let Some(message) = self.worker.poll_control() {
            self.events.push(serde_json::from_slice(&message).unwrap());
        }
    }

    /// Moves the clock, doing on the way what is due.
    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(at) = self.worker.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.worker.handle_timeout(self.now);
            self.flush();
        }
        self.now = end;
        self.flush();
    }

    /// What `name` received, decrypted: RTP and RTCP.
    fn received(&mut self, viewer: &mut Viewer) {
        for (to, at, mut data) in std::mem::take(&mut self.sent) {
            if to != path(viewer.name) {
                self.sent.push((to, at, data));
                continue;
            }
            match data[0] {
                128..=191 if (192..=223).contains(&data[1]) => {
                    let len = viewer.keys.open_rtcp(&mut data).expect("rtcp for me");
                    viewer.rtcp.push(data[..len].to_vec());
                }
                128..=191 => {
                    let (len, _) = viewer.keys.open_rtp(&mut data).expect("rtp for me");
                    viewer.rtp.push((at, data[..len].to_vec()));
                }
                _ => {}
            }
        }
    }
}

struct Viewer {
    name: u8,
    keys: SrtpReceiver,
    back: SrtpSender,
    rtp: Vec<(Instant, Vec<u8>)>,
    rtcp: Vec<Vec<u8>>,
}

impl Viewer {
    fn new(name: u8) -> Self {
        let profile = SrtpProfile::AeadAes128Gcm;
        Viewer {
            name,
            keys: SrtpReceiver::new(profile, &keys(name), 64).unwrap(),
            back: SrtpSender::new(profile, &keys(name)).unwrap(),
            rtp: Vec::new(),
            rtcp: Vec::new(),
        }
    }

    fn say(&mut self, lab: &mut Lab, plain: &[u8]) {
        let mut sealed = vec![0; plain.len() + 64];
        let len = self.back.seal_rtcp(plain, &mut sealed).unwrap();
        lab.worker.handle_datagram(lab.now, path(self.name), &mut sealed[..len]);
        lab.flush();
    }

    fn of(&self, ssrc: u32) -> Vec<RtpView<'_>> {
        let views = self.rtp.iter().map(|(_, data)| RtpView::parse(data).unwrap());
        views.filter(|view| view.ssrc == ssrc).collect()
    }
}

fn path(port: u8) -> Path {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Path::Udp { socket: 0, local, remote: SocketAddr::new(local, u16::from(port)) }
}

fn h264(payload_type: u8) -> Value {
    json!({"mimeType": "video/H264", "payloadType": payload_type, "clockRate": 90000,
        "parameters": {"packetization-mode": 1, "profile-level-id": "42e01f"},
        "rtcpFeedback": [{"type": "nack"}, {"type": "nack", "parameter": "pli"}]})
}

fn receiver(ssrc: u32) -> Value {
    json!({"rtpParameters": {
        "codecs": [h264(102), {"mimeType": "video/rtx", "payloadType": 103, "clockRate": 90000,
            "parameters": {"apt": 102}}],
        "encodings": [{"ssrc": ssrc, "rtx": {"ssrc": ssrc + 1}}],
        "headerExtensions": [], "rtcp": {"cname": "c"},
    }})
}

/// A stream transport 10 with producer 20, fed through `feed`.
fn with_source(lab: &mut Lab) {
    lab.ok("worker.createRouter", [0; 3], json!({}));
    let stream = crate::core::id::StreamId(5);
    let track = Track {
        id: 0,
        kind: Kind::Video,
        codec: serde_json::from_value::<RtpCodec>(h264(96)).unwrap(),
        config: vec![0xab],
        reordered: false,
    };
    let session = Box::new(Source(VecDeque::from([Output::Event(Event::Track(track))])));
    let mail = Mail::Stream { attach: 3, session, socket: None };
    lab.worker.handle_mail(lab.now, mail, Some(stream));
    lab.ok("x.router.createStreamTransport", [10, 0, 0], json!({"attach": 3}));
    let event = lab.events.iter().find(|event| event["event"] == "x.track").expect("announced");
    assert_eq!((event["targetId"].clone(), event["data"]["config"].clone()), (json!(10), json!("ab")));
    let parameters = json!({"codecs": [h264(96)], "encodings": [{}]});
    lab.ok(
        "router.createProducer",
        [10, 20, 0],
        json!({"kind": "video", "rtpParameters": parameters, "x.track": 0}),
    );
}

fn feed(lab: &mut Lab, frames: std::ops::Range<u8>) {
    for n in frames {
        let due = lab.epoch.instant(frame(u64::from(n)).pts);
        if due > lab.now {
            lab.run(due - lab.now);
        }
        lab.worker.handle_stream(lab.now, crate::core::id::StreamId(5), &[n]);
        lab.flush();
    }
}

fn watch(lab: &mut Lab, transport: u32, consumer: u32, name: u8, ssrc: u32) -> Viewer {
    lab.connect(transport, name);
    lab.ok("router.createConsumer", [0, 20, consumer], json!({"kind": "video"}));
    lab.ok("consumer.enable", [transport, 20, consumer], receiver(ssrc));
    lab.flush();
    Viewer::new(name)
}

#[test]
fn a_viewer_who_joins_gets_the_group_at_once_and_is_live_after() {
    let mut lab = Lab::new();
    with_source(&mut lab);
    feed(&mut lab, 0..80);
    let mut viewer = watch(&mut lab, 11, 30, b'v', 7000);
    let joined = lab.now;
    feed(&mut lab, 80..100);
    lab.received(&mut viewer);
    let packets = viewer.of(7000);
    assert!(packets.windows(2).all(|w| w[1].sequence == w[0].sequence.wrapping_add(1)));
    assert!(packets.iter().all(|packet| packet.payload_type == 102));
    // The group began with frame 60.
    let content: Vec<u8> = packets.iter().filter_map(|packet| packet.payload.last().copied()).collect();
    assert_eq!(content.iter().min(), Some(&60));
    assert!(content.windows(2).all(|w| w[0] <= w[1]), "in order");
    let stamps: Vec<u32> = packets.iter().map(|packet| packet.timestamp).collect();
    let distinct = stamps.windows(2).filter(|w| w[0] != w[1]).count() + 1;
    assert_eq!(distinct, 40, "frames 60 to 99, each with a time of its own");
    assert!(stamps.windows(2).all(|w| w[1].wrapping_sub(w[0]) as i32 >= 0));
    let replay = stamps[content.iter().position(|n| *n == 79).unwrap()].wrapping_sub(stamps[0]);
    assert_eq!(replay, 19 * 90, "twenty cached frames within twenty milliseconds");
    let live = stamps.last().unwrap().wrapping_sub(stamps[content.iter().position(|n| *n == 79).unwrap()]);
    assert!((live as i32 - 20 * 3000).abs() <= 20, "live frames keep their distance: {live}");
    let late = viewer
        .rtp
        .iter()
        .filter(|(at, data)| *at > joined + Duration::from_millis(100) && data.last() < Some(&80));
    assert_eq!(late.count(), 0, "the replay is faster than real time");
}

#[test]
fn a_track_that_is_paused_reaches_nobody_and_comes_back_with_a_keyframe() {
    let mut lab = Lab::new();
    with_source(&mut lab);
    feed(&mut lab, 0..65);
    let mut viewer = watch(&mut lab, 11, 30, b'v', 7000);
    feed(&mut lab, 65..70);
    lab.ok("producer.pause", [0, 20, 0], json!({}));
    feed(&mut lab, 70..95);
    lab.received(&mut viewer);
    let shown = |viewer: &Viewer| -> Vec<u8> {
        viewer.of(7000).iter().filter_map(|packet| packet.payload.last().copied()).collect()
    };
    assert_eq!(shown(&viewer).last(), Some(&69));
    lab.ok("producer.resume", [0, 20, 0], json!({}));
    feed(&mut lab, 95..130);
    lab.received(&mut viewer);
    let shown = shown(&viewer);
    let first = shown.iter().copied().find(|n| *n > 69);
    assert_eq!((first, shown.last()), (Some(120), Some(&129)), "the group begins with frame 120");
    let packets = viewer.of(7000);
    assert!(packets.windows(2).all(|w| w[1].sequence == w[0].sequence.wrapping_add(1)), "no gap");
}

#[test]
fn sender_reports_tie_the_timeline_to_the_clock() {
    let mut lab = Lab::new();
    with_source(&mut lab);
    feed(&mut lab, 0..40);
    let mut viewer = watch(&mut lab, 11, 30, b'v', 7000);
    feed(&mut lab, 40..80);
    lab.received(&mut viewer);
    let last = *viewer.of(7000).last().map(|view| &view.timestamp).unwrap();
    let reports: Vec<SenderInfo> = viewer
        .rtcp
        .iter()
        .flat_map(|data| Compound::new(data))
        .filter_map(|packet| match packet {
            Ok(Packet::SenderReport(report)) if report.ssrc == 7000 => Some(report.info),
            _ => None,
        })
        .collect();
    assert!(reports.len() >= 3, "{} reports", reports.len());
    for report in reports {
        let capture = lab.epoch.ntp(frame(79).pts);
        let seconds = (capture as i64 - report.ntp as i64) as f64 / 2f64.powi(32);
        let ticks = f64::from(last.wrapping_sub(report.rtp) as i32);
        assert!((ticks / 90_000.0 - seconds).abs() < 0.002, "{} against {seconds}", ticks / 90_000.0);
    }
}

/// Sound every 20 ms and a picture every 40, of an encoder whose clock runs 200 ppm fast.
struct Encoder(VecDeque<Output>);

impl Encoder {
    fn track(id: u32, kind: Kind, codec: Value) -> Output {
        let codec = serde_json::from_value(codec).unwrap();
        Output::Event(Event::Track(Track { id, kind, codec, config: Vec::new(), reordered: false }))
    }
}

impl Session for Encoder {
    fn handle_input(&mut self, _now: Instant, input: Input<'_>) {
        let Input::Bytes(bytes) = input else { return };
        let n = u32::from_be_bytes(bytes.try_into().unwrap());
        let pts = MediaTime::from_millis(i64::from(n) * 20);
        let sound = Frame { track: 1, pts, dts: pts, keyframe: true, discardable: false, data: vec![9; 80] };
        self.0.push_back(Output::Event(Event::Frame(sound)));
        if n.is_multiple_of(2) {
            let picture = Frame { track: 0, pts, dts: pts, ..frame(u64::from(n / 2)) };
            self.0.push_back(Output::Event(Event::Frame(picture)));
        }
    }
    fn command(&mut self, _now: Instant, _command: Command) -> Result<Value, String> {
        Ok(json!({}))
    }
    fn handle_timeout(&mut self, _now: Instant) {}
    fn poll_output(&mut self) -> Option<Output> {
        self.0.pop_front()
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn dump(&self) -> Value {
        json!({})
    }
}

#[test]
fn sound_and_picture_stay_together_for_ten_minutes() {
    let opus = json!({"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2});
    let mut lab = Lab::new();
    lab.ok("worker.createRouter", [0; 3], json!({}));
    let tracks = [Encoder::track(0, Kind::Video, h264(96)), Encoder::track(1, Kind::Audio, opus.clone())];
    let stream = crate::core::id::StreamId(5);
    let mail = Mail::Stream { attach: 3, session: Box::new(Encoder(tracks.into())), socket: None };
    lab.worker.handle_mail(lab.now, mail, Some(stream));
    lab.ok("x.router.createStreamTransport", [10, 0, 0], json!({"attach": 3}));
    lab.connect(11, b'v');
    let sound = json!({"rtpParameters": {"codecs": [opus.clone()], "encodings": [{"ssrc": 8000}]}});
    for (track, kind, codec, receiver) in
        [(0, "video", h264(96), receiver(7000)), (1, "audio", opus.clone(), sound)]
    {
        let parameters = json!({"codecs": [codec], "encodings": [{}]});
        let producer = json!({"kind": kind, "rtpParameters": parameters, "x.track": track});
        lab.ok("router.createProducer", [10, 20 + track, 0], producer);
        lab.ok("router.createConsumer", [0, 20 + track, 30 + track], json!({"kind": kind}));
        lab.ok("consumer.enable", [11, 20 + track, 30 + track], receiver);
    }
    let mut viewer = Viewer::new(b'v');
    let mut reports = std::collections::HashMap::new();
    for n in 0..10 * 60 * 50u32 {
        lab.worker.handle_stream(lab.now, stream, &n.to_be_bytes());
        lab.run(Duration::from_micros(20_000 - 4));
        lab.received(&mut viewer);
        for packet in viewer.rtcp.iter().flat_map(|data| Compound::new(data)) {
            if let Ok(Packet::SenderReport(report)) = packet {
                reports.insert(report.ssrc, report.info);
            }
        }
        viewer.rtcp.clear();
        let kept = viewer.rtp.len().saturating_sub(20);
        viewer.rtp.drain(..kept);
    }
    // When a receiver presents what was captured at the same time: by each stream's own report.
    let shown = |ssrc: u32, rate: f64, back: u32| {
        let last = viewer.of(ssrc).last().unwrap().timestamp.wrapping_sub(back);
        let report: &SenderInfo = &reports[&ssrc];
        report.ntp as f64 / 2f64.powi(32) + f64::from(last.wrapping_sub(report.rtp) as i32) / rate
    };
    // The last picture is as old as the last sound but one.
    let apart = shown(8000, 48_000.0, 960) - shown(7000, 90_000.0, 0);
    assert!(apart.abs() < 0.040, "{:.1} ms apart", apart * 1000.0);
}

#[test]
fn a_lost_packet_is_sent_again_as_rtx_and_only_once() {
    let mut lab = Lab::new();
    with_source(&mut lab);
    let mut viewer = watch(&mut lab, 11, 30, b'v', 7000);
    feed(&mut lab, 0..10);
    lab.received(&mut viewer);
    let (lost, payload) = viewer.of(7000).get(5).map(|view| (view.sequence, view.payload.to_vec())).unwrap();
    let mut nack = Vec::new();
    write::nack(&mut nack, 1, 7000, &[lost]);
    viewer.say(&mut lab, &nack);
    viewer.say(&mut lab, &nack);
    lab.received(&mut viewer);
    let resent = viewer.of(7001);
    assert_eq!(resent.len(), 1);
    assert_eq!(resent[0].payload_type, 103);
    assert_eq!(resent[0].payload[..2], lost.to_be_bytes());
    assert_eq!(resent[0].payload[2..], payload);
}

/// SRTP's keystream depends on the packet's number alone: the same number with other bytes gives keys away.
#[test]
fn without_rtx_a_packet_is_sent_again_to_the_byte() {
    let mut lab = Lab::new();
    with_source(&mut lab);
    lab.connect(11, b'v');
    lab.ok("router.createConsumer", [0, 20, 30], json!({"kind": "video"}));
    let mut plain = receiver(7000);
    plain["rtpParameters"]["codecs"] = json!([h264(102)]);
    plain["rtpParameters"]["encodings"] = json!([{"ssrc": 7000}]);
    plain["rtpParameters"]["headerExtensions"] =
        json!([{"uri": ext::ABS_SEND_TIME, "id": 1}, {"uri": ext::TRANSPORT_CC, "id": 2}]);
    lab.ok("consumer.enable", [11, 20, 30], plain);
    let mut viewer = Viewer::new(b'v');
    feed(&mut lab, 0..10);
    let rtp = |lab: &Lab| -> Vec<Vec<u8>> {
        let sent = lab.sent.iter().map(|(_, _, data)| data);
        sent.filter(|data| data[0] >= 128 && data[1] & 0x7f == 102).cloned().collect()
    };
    let first = rtp(&lab)[5].clone();
    lab.sent.clear();
    lab.run(Duration::from_millis(50));
    let mut nack = Vec::new();
    write::nack(&mut nack, 1, 7000, &[u16::from_be_bytes([first[2], first[3]])]);
    viewer.say(&mut lab, &nack);
    assert_eq!(rtp(&lab), [first]);
}

#[test]
fn a_broken_picture_is_mended_from_the_cache_when_the_source_cannot_be_asked() {
    let mut lab = Lab::new();
    with_source(&mut lab);
    let mut viewer = watch(&mut lab, 11, 30, b'v', 7000);
    feed(&mut lab, 0..50);
    lab.received(&mut viewer);
    let before = viewer.of(7000).last().unwrap().timestamp;
    let count = viewer.rtp.len();
    let mut pli = Vec::new();
    write::picture_loss(&mut pli, 1, 7000);
    lab.run(Duration::from_millis(1_000));
    viewer.say(&mut lab, &pli);
    viewer.say(&mut lab, &pli);
    lab.run(Duration::from_millis(50));
    lab.received(&mut viewer);
    let again: Vec<_> = viewer.of(7000).into_iter().skip(count).collect();
    assert_eq!(again.first().and_then(|view| view.payload.last()), Some(&30), "from the keyframe");
    assert!(again.iter().all(|view| view.timestamp.wrapping_sub(before) as i32 > 0), "time never goes back");
    let keyframes = again.iter().filter(|view| view.payload.last() == Some(&30)).count();
    assert!(keyframes <= 4, "replayed once, not twice");
}

#[test]
fn a_program_consumer_switches_sources_without_a_seam() {
    let mut lab = Lab::new();
    with_source(&mut lab);
    lab.connect(11, b'v');
    lab.ok("router.createConsumer", [0, 0, 30], json!({"kind": "video"}));
    lab.ok("consumer.enable", [11, 0, 30], receiver(7000));
    feed(&mut lab, 0..10);
    let mut viewer = Viewer::new(b'v');
    lab.received(&mut viewer);
    assert!(viewer.rtp.is_empty(), "no source yet");
    lab.ok("x.consumer.setProducer", [0, 0, 30], json!({"producerId": 20}));
    feed(&mut lab, 10..20);
    // A second source: a bridge job's frames through a Direct transport.
    let (to_job, _from_worker) = lane::<DirectOut>(64, None);
    let (to_worker, from_job) = lane::<DirectIn>(64, None);
    lab.worker.handle_mail(lab.now, Mail::Direct { attach: 9, input: from_job, output: to_job }, None);
    lab.ok("x.router.createDirectTransport", [12, 0, 0], json!({"attach": 9}));
    let parameters = json!({"codecs": [h264(97)], "encodings": [{}]});
    lab.ok("router.createProducer", [12, 21, 0], json!({"kind": "video", "rtpParameters": parameters}));
    lab.ok("x.consumer.setProducer", [0, 0, 30], json!({"producerId": 21}));
    let shifted = frame(150);
    let now = lab.epoch.media_time(lab.now);
    to_worker.send(DirectIn::Frame(Frame { pts: now, dts: now, ..shifted })).unwrap();
    lab.worker.handle_lanes(lab.now);
    lab.flush();
    lab.ok("producer.close", [0, 20, 0], json!({}));
    lab.received(&mut viewer);
    let packets = viewer.of(7000);
    assert!(packets.windows(2).all(|w| w[1].sequence == w[0].sequence.wrapping_add(1)));
    assert!(packets.windows(2).all(|w| w[1].timestamp.wrapping_sub(w[0].timestamp) as i32 >= 0));
    assert_eq!(packets.last().and_then(|view| view.payload.last()), Some(&150));
    // Closing the job's lane ends its transport, and the dispatcher hears of it.
    drop(to_worker);
    lab.worker.handle_lanes(lab.now);
    lab.flush();
    assert!(lab.events.iter().any(|event| event["event"] == "close" && event["targetId"] == 12));
}

/// A WebRTC publisher in the place of the stream.
#[test]
fn a_keyframe_that_cannot_be_asked_for_yet_keeps_nobody_busy() {
    let mut lab = Lab::new();
    lab.ok("worker.createRouter", [0; 3], json!({}));
    lab.ok("router.createWebRtcTransport", [10, 0, 0], json!({"name": b'p'}));
    let opus = json!({"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2});
    let tracks = [
        (20, "video", json!({"codecs": [h264(96)], "encodings": [{"ssrc": 500}]})),
        (21, "video", json!({"muxId": "1", "codecs": [h264(96)], "encodings": [{"encodingId": "q"}]})),
        (22, "audio", json!({"codecs": [opus], "encodings": [{"ssrc": 502}]})),
    ];
    for (id, kind, parameters) in tracks {
        lab.ok("router.createProducer", [10, id, 0], json!({"kind": kind, "rtpParameters": parameters}));
        lab.ok("router.createConsumer", [0, id, id + 10], json!({"kind": kind}));
        lab.ok("consumer.requestKeyFrame", [0, 0, id + 10], json!({}));
    }
    let idle = |lab: &mut Lab| {
        lab.run(Duration::from_secs(1));
        lab.worker.handle_timeout(lab.now);
        lab.worker.poll_timeout().is_none_or(|at| at > lab.now)
    };
    assert!(idle(&mut lab), "nobody is connected");
    lab.worker.handle_datagram(lab.now, path(b'p'), &mut [1, b'p']);
    assert!(idle(&mut lab), "one stream can be asked, the other has not come");
    let asked = lab.sent.iter().filter(|(_, _, data)| matches!(data.get(1), Some(206))).count();
    assert!(asked > 0, "who connects is asked");
}

#[test]
fn a_publisher_is_asked_for_what_is_missing() {
    let mut lab = Lab::new();
    lab.ok("worker.createRouter", [0; 3], json!({}));
    lab.connect(10, b'p');
    let parameters = json!({"codecs": [h264(96)], "encodings": [{"ssrc": 500}]});
    lab.ok("router.createProducer", [10, 20, 0], json!({"kind": "video", "rtpParameters": parameters}));
    let mut publisher = Viewer::new(b'p');
    let send = |lab: &mut Lab, keys: &mut SrtpSender, sequence: u16, head: u8| {
        let mut data = vec![0; 200];
        let fields = HeaderFields {
            marker: true,
            payload_type: 96,
            sequence,
            timestamp: u32::from(sequence) * 3000,
            ssrc: 500,
            ..HeaderFields::default()
        };
        let header = write_header(&mut data, &fields, &[]).unwrap();
        let payload = [head, 0x88, sequence as u8];
        let len = keys.seal_rtp(&mut data, header, u64::from(sequence), 500, &payload).unwrap();
        lab.worker.handle_datagram(lab.now, path(b'p'), &mut data[..len]);
        lab.flush();
    };
    let profile = SrtpProfile::AeadAes128Gcm;
    let mut keys_out = SrtpSender::new(profile, &keys(b'p')).unwrap();
    send(&mut lab, &mut keys_out, 1, 0x41);
    let mut viewer = watch(&mut lab, 11, 30, b'v', 7000);
    lab.run(Duration::from_millis(1));
    lab.received(&mut publisher);
    let asked = |publisher: &Viewer, what: fn(&Packet<'_>) -> bool| {
        publisher
            .rtcp
            .iter()
            .flat_map(|data| Compound::new(data))
            .filter(|p| what(p.as_ref().unwrap()))
            .count()
    };
    let pli = |packet: &Packet<'_>| matches!(packet, Packet::PictureLoss { media: 500, .. });
    assert_eq!(asked(&publisher, pli), 1, "a viewer without a group needs a keyframe");
    send(&mut lab, &mut keys_out, 2, 0x65);
    send(&mut lab, &mut keys_out, 4, 0x41);
    lab.run(Duration::from_millis(30));
    lab.received(&mut publisher);
    let nack = |packet: &Packet<'_>| matches!(packet, Packet::Nack(nack) if nack.lost().eq([3u16]));
    assert!(asked(&publisher, nack) >= 1, "packet 3 is asked for");
    assert_eq!(asked(&publisher, pli), 1, "and no second keyframe");
    send(&mut lab, &mut keys_out, 3, 0x41);
    lab.run(Duration::from_millis(300));
    lab.received(&mut viewer);
    let mut content: Vec<u8> = viewer.of(7000).iter().map(|view| view.payload[2]).collect();
    content.sort_unstable();
    assert_eq!(content, [2, 3, 4], "forwarded from the keyframe on, the late one too");
    lab.run(Duration::from_secs(2));
    lab.received(&mut publisher);
    let report = |packet: &Packet<'_>| matches!(packet, Packet::ReceiverReport(r) if r.reports.clone().any(|b| b.ssrc == 500));
    assert!(asked(&publisher, report) >= 2);
}

#[test]
fn who_is_switched_waits_for_a_keyframe_of_its_own_and_not_for_long() {
    let mut lab = Lab::new();
    with_source(&mut lab);
    feed(&mut lab, 0..3);
    lab.connect(13, b'p');
    let parameters = json!({"codecs": [h264(96)], "encodings": [{"ssrc": 500}]});
    lab.ok("router.createProducer", [13, 40, 0], json!({"kind": "video", "rtpParameters": parameters}));
    let mut keys_out = SrtpSender::new(SrtpProfile::AeadAes128Gcm, &keys(b'p')).unwrap();
    let mut sequence = 0u16;
    let mut send = |lab: &mut Lab, head: u8| {
        sequence += 1;
        let mut data = vec![0; 200];
        let timestamp = u32::from(sequence) * 3000;
        let fields = HeaderFields {
            marker: true,
            payload_type: 96,
            sequence,
            timestamp,
            ssrc: 500,
            ..HeaderFields::default()
        };
        let header = write_header(&mut data, &fields, &[]).unwrap();
        let payload = [head, 0x88, 100 + sequence as u8];
        let len = keys_out.seal_rtp(&mut data, header, u64::from(sequence), 500, &payload).unwrap();
        lab.worker.handle_datagram(lab.now, path(b'p'), &mut data[..len]);
        lab.run(Duration::from_millis(33));
    };
    send(&mut lab, 0x65);
    (0..30).for_each(|_| send(&mut lab, 0x41));
    let mut viewer = watch(&mut lab, 11, 30, b'v', 7000);
    lab.run(Duration::from_millis(100));
    lab.received(&mut viewer);
    let seen = |viewer: &Viewer| viewer.of(7000).last().and_then(|view| view.payload.last().copied());
    assert!(seen(&viewer).is_some_and(|last| last < 100), "the first source");
    // Its group is a second old: nothing of it is sent, a keyframe is asked for.
    lab.ok("x.consumer.setProducer", [0, 0, 30], json!({"producerId": 40}));
    let before = viewer.of(7000).len();
    (0..3).for_each(|_| send(&mut lab, 0x41));
    lab.received(&mut viewer);
    assert_eq!(viewer.of(7000).len(), before);
    send(&mut lab, 0x65);
    send(&mut lab, 0x41);
    lab.received(&mut viewer);
    let news: Vec<u8> = viewer.of(7000)[before..].iter().map(|view| view.payload[2]).collect();
    assert_eq!(news, [135, 136], "from the keyframe on");
    // Where none comes the cached group is sent after half a second.
    (0..30).for_each(|_| send(&mut lab, 0x41));
    lab.ok("x.consumer.setProducer", [0, 0, 30], json!({"producerId": 20}));
    lab.run(Duration::from_millis(50));
    lab.ok("x.consumer.setProducer", [0, 0, 30], json!({"producerId": 40}));
    lab.received(&mut viewer);
    let before = viewer.of(7000).len();
    (0..12).for_each(|_| send(&mut lab, 0x41));
    lab.received(&mut viewer);
    assert_eq!(viewer.of(7000).len(), before);
    (0..6).for_each(|_| send(&mut lab, 0x41));
    lab.received(&mut viewer);
    assert_eq!(viewer.of(7000)[before].payload[2], 135, "from the cached keyframe on");
}

#[test]
fn a_session_that_panics_loses_only_itself() {
    let mut lab = Lab::new();
    with_source(&mut lab);
    let mut viewer = watch(&mut lab, 11, 30, b'v', 7000);
    lab.connect(12, b'x');
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    lab.worker.handle_datagram(lab.now, path(b'x'), &mut [1, b'x', 0xee]);
    std::panic::set_hook(hook);
    lab.flush();
    let close = lab.events.iter().find(|event| event["event"] == "close" && event["targetId"] == 12);
    assert_eq!(close.map(|event| event["data"]["code"].clone()), Some(json!("error")));
    feed(&mut lab, 0..3);
    lab.received(&mut viewer);
    assert!(!viewer.rtp.is_empty());
}

#[test]
fn faults_of_the_controller_are_answered_in_words() {
    let mut lab = Lab::new();
    lab.ok("worker.createRouter", [0; 3], json!({}));
    let fails = |lab: &mut Lab, method: &str, ids, data| lab.request(method, ids, data).unwrap_err();
    assert_eq!(fails(&mut lab, "worker.createRouter", [0; 3], json!({})), "Router already exists");
    assert_eq!(fails(&mut lab, "router.explode", [0; 3], json!({})), "unknown method \"router.explode\"");
    assert_eq!(fails(&mut lab, "transport.close", [9, 0, 0], json!({})), "Transport does not exist");
    assert_eq!(fails(&mut lab, "transport.close", [0; 3], json!({})), "internal.transportId is missing");
    lab.connect(10, b'p');
    let why =
        fails(&mut lab, "router.createProducer", [10, 20, 0], json!({"kind": "depth", "rtpParameters": {}}));
    assert!(why.starts_with("data.kind: "), "{why}");
    let why =
        fails(&mut lab, "router.createProducer", [10, 20, 0], json!({"kind": "video", "rtpParameters": {}}));
    assert_eq!(why, "rtpParameters.codecs holds no media codec");
    lab.worker.handle_control(lab.now, b"{\"id\": \"x\"}");
    assert!(lab.worker.poll_control().is_none(), "what cannot be answered is dropped");
    lab.ok("router.close", [0; 3], json!({}));
    assert!(lab.worker.poll_timeout().is_none());
    assert_eq!(lab.worker.handle_datagram(lab.now, path(b'p'), &mut [1, b'p']), Verdict::Unknown);
}

#[test]
fn telephones_with_dtls_press_keys_and_are_played_some() {
    let mut lab = Lab::new();
    lab.ok("worker.createRouter", [0; 3], json!({}));
    lab.connect(11, b'p');
    let codecs = json!([{"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2},
        {"mimeType": "audio/telephone-event", "payloadType": 110, "clockRate": 48000}]);
    // SIP names no SSRC.
    let rtp = json!({"codecs": codecs, "encodings": [{}]});
    lab.ok("router.createProducer", [11, 20, 0], json!({"kind": "audio", "rtpParameters": rtp}));
    let mut sender = SrtpSender::new(SrtpProfile::AeadAes128Gcm, &keys(b'p')).unwrap();
    let mut sequence = 0;
    let mut send = |lab: &mut Lab, payload_type: u8, payload: &[u8]| {
        let fields = HeaderFields { payload_type, sequence, timestamp: 9600, ssrc: 5, ..Default::default() };
        let mut packet = vec![0; 200];
        let header = write_header(&mut packet, &fields, &[]).unwrap();
        let len = sender.seal_rtp(&mut packet, header, u64::from(sequence), 5, payload).unwrap();
        sequence += 1;
        assert_eq!(lab.worker.handle_datagram(lab.now, path(b'p'), &mut packet[..len]), Verdict::Claimed);
        lab.flush();
    };
    send(&mut lab, 111, &[1; 60]);
    for _ in 0..3 {
        send(&mut lab, 110, &[3, 0x8a, 0x12, 0xc0]);
    }
    let keys: Vec<_> = lab.events.iter().filter(|event| event["event"] == "x.dtmf").collect();
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert_eq!(
        (&keys[0]["targetId"], &keys[0]["data"]),
        (&json!(11), &json!({"digit": "3", "duration": 100}))
    );
    // The same party hears nobody, and is played a key all the same.
    lab.ok("router.createConsumer", [0, 0, 30], json!({"kind": "audio"}));
    let rtp = json!({"codecs": codecs, "encodings": [{"ssrc": 7000}]});
    lab.ok("consumer.enable", [11, 0, 30], json!({"rtpParameters": rtp}));
    lab.ok("x.consumer.sendDtmf", [0, 0, 30], json!({"digits": "8", "duration": 100}));
    lab.run(Duration::from_secs(1));
    let mut party = Viewer::new(b'p');
    lab.received(&mut party);
    let packets = party.of(7000);
    assert_eq!(packets.len(), 7, "five in 100 ms and the end twice more");
    assert!(packets.iter().all(|view| view.payload_type == 110 && view.payload[0] == 8));
    assert_eq!(packets[6].payload, [8, 0x8a, 0x12, 0xc0]);
}
