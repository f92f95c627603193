//! Plain RTP legs with a hand-moved clock: telephones behind NATs on links that lose, strangers who would
//! like to be heard, keys pressed and played.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::core::id::WorkerId;
use crate::core::plain::SdesKeys;
use crate::core::rtp::batch::SendBatch;
use crate::core::rtp::bwe::RateLimits;
use crate::core::rtp::header::{HeaderFields, RtpView, is_rtcp, write_header};
use crate::core::rtp::keys::SrtpProfile;
use crate::core::rtp::path::Path;
use crate::core::rtp::path::{LegSocket, LegSockets};
use crate::core::rtp::rtcp::{Compound, Packet, write};
use crate::core::rtp::srtp::{SrtpReceiver, SrtpSender};
use crate::core::rtp::tone::{Tone, ToneReceiver};
use crate::core::session::{LocalCandidate, NoSessions};
use crate::core::time::{Epoch, MediaTime};
use crate::core::worker::{Action, GopConfig, Worker, WorkerConfig};

struct Lab {
    worker: Worker,
    now: Instant,
    epoch: Epoch,
    batch: SendBatch,
    requests: u32,
    answers: Vec<Value>,
    events: Vec<Value>,
    /// From which socket, to whom, what.
    sent: Vec<(u32, SocketAddr, Vec<u8>)>,
    next_socket: u32,
    closed: Vec<u32>,
    refuse: bool,
    random: u64,
}

impl Lab {
    fn new() -> Self {
        let now = Instant::now();
        let epoch = Epoch { instant: now, unix: Duration::from_secs(1_700_000_000) };
        let announced = "203.0.113.1:8189".parse().unwrap();
        let config = WorkerConfig {
            id: WorkerId(0),
            candidates: vec![LocalCandidate { tcp: false, address: announced }],
            gop: GopConfig::default(),
            max_publish_bitrate: 10_000_000,
            layers: Default::default(),
            rates: RateLimits::default(),
            legs: Default::default(),
            channel: None,
            data: Default::default(),
        };
        let mut lab = Lab {
            worker: Worker::new(config, epoch, Arc::new(NoSessions), 42),
            now,
            epoch,
            batch: SendBatch::new(64 * 1024, 64),
            requests: 0,
            answers: Vec::new(),
            events: Vec::new(),
            sent: Vec::new(),
            next_socket: 256,
            closed: Vec::new(),
            refuse: false,
            random: 7,
        };
        lab.ok("worker.createRouter", [0; 3], json!({}));
        lab
    }

    fn ask(&mut self, method: &str, ids: [u32; 3], data: Value) -> u32 {
        self.requests += 1;
        let mut internal = json!({"routerId": 1});
        for (name, id) in ["transportId", "producerId", "consumerId"].iter().zip(ids) {
            if id != 0 {
                internal[name] = json!(id);
            }
        }
        let request = json!({"id": self.requests, "method": method, "internal": internal, "data": data});
        self.worker.handle_control(self.now, &serde_json::to_vec(&request).unwrap());
        self.requests
    }

    fn request(&mut self, method: &str, ids: [u32; 3], data: Value) -> Result<Value, String> {
        let id = self.ask(method, ids, data);
        self.pump();
        let at = self.answers.iter().position(|answer| answer["id"] == json!(id)).expect("an answer");
        let answer = self.answers.remove(at);
        match answer["accepted"] == json!(true) {
            true => Ok(answer["data"].clone()),
            false => Err(answer["reason"].as_str().unwrap().to_owned()),
        }
    }

    fn ok(&mut self, method: &str, ids: [u32; 3], data: Value) -> Value {
        self.request(method, ids, data).unwrap_or_else(|reason| panic!("{method}: {reason}"))
    }

    /// What a loop does: sockets opened and closed, datagrams sent, messages taken.
    fn pump(&mut self) {
        loop {
            while let Some(action) = self.worker.poll_action() {
                match action {
                    Action::OpenLeg { leg, ipv6, pair, .. } => {
                        let opened = self.open(ipv6, pair);
                        self.worker.handle_leg_opened(self.now, leg, opened);
                    }
                    Action::CloseSocket { socket } => self.closed.push(socket),
                    other => panic!("{other:?}"),
                }
            }
            let more = self.worker.flush(self.now, &mut self.batch);
            for run in self.batch.runs() {
                let Path::Udp { socket, remote, .. } = run.path else { panic!("a TCP path") };
                self.sent.extend(self.batch.datagrams(run).map(|data| (socket, remote, data.to_vec())));
            }
            self.batch.clear();
            if !more {
                break;
            }
        }
        while let Some(message) = self.worker.poll_control() {
            let message: Value = serde_json::from_slice(&message).unwrap();
            match message.get("id") {
                Some(_) => self.answers.push(message),
                None => self.events.push(message),
            }
        }
    }

    fn open(&mut self, ipv6: bool, pair: bool) -> Result<LegSockets, String> {
        if self.refuse {
            return Err("no RTP port of the range is free".into());
        }
        let mut next = || {
            let socket = self.next_socket;
            self.next_socket += 1;
            let ip = if ipv6 { "::" } else { "0.0.0.0" }.parse().unwrap();
            LegSocket { socket, address: SocketAddr::new(ip, 10_000 + (socket - 256) as u16) }
        };
        let rtp = next();
        Ok(LegSockets { rtp, rtcp: pair.then(next) })
    }

    /// Moves the clock, doing on the way what is due.
    fn run(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        while let Some(at) = self.worker.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.worker.handle_timeout(self.now);
            self.pump();
        }
        self.now = end;
        self.pump();
    }

    /// A telephone's leg: transport, producer and consumer have the ids 10, 11, 12 above `base`.
    fn leg(&mut self, base: u32, remote: Value, mut options: Value) -> Value {
        let transport = base + 10;
        options["x.latch"] = json!(true);
        if options.get("x.rtcpMux").is_none() {
            options["x.rtcpMux"] = json!(false);
        }
        let answer = self.ok("router.createPlainRtpTransport", [transport, 0, 0], options);
        self.ok("transport.setRemoteParameters", [transport, 0, 0], remote);
        answer
    }

    fn produce(&mut self, base: u32, kind: &str, codecs: Value) {
        let data = json!({"kind": kind, "rtpParameters": {"codecs": codecs, "encodings": [{}]}});
        self.ok("router.createProducer", [base + 10, base + 11, 0], data);
    }

    /// `base` hears what `other` says.
    fn consume(&mut self, base: u32, other: u32, kind: &str, codecs: Value) {
        let consumer = base + 12;
        self.ok("router.createConsumer", [0, other + 11, consumer], json!({"kind": kind}));
        let rtp = json!({"codecs": codecs, "encodings": [{"ssrc": 9000 + base}]});
        self.ok("consumer.enable", [base + 10, 0, consumer], json!({"rtpParameters": rtp}));
    }

    fn events(&mut self, name: &str) -> Vec<Value> {
        let (found, rest) = std::mem::take(&mut self.events).into_iter().partition(|e| e["event"] == name);
        self.events = rest;
        let found: Vec<Value> = found;
        found.into_iter().map(|event| event["data"].clone()).collect()
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) % 100 < percent
    }

    /// What was sent to `address`, and is not looked at again.
    fn to(&mut self, address: &str) -> Vec<Vec<u8>> {
        let address: SocketAddr = address.parse().unwrap();
        let (found, rest) = std::mem::take(&mut self.sent).into_iter().partition(|(_, to, _)| *to == address);
        self.sent = rest;
        let found: Vec<(u32, SocketAddr, Vec<u8>)> = found;
        found.into_iter().map(|(_, _, data)| data).collect()
    }

    fn media(&self) -> MediaTime {
        self.epoch.media_time(self.now)
    }
}

/// A telephone: G.711 in packets of 20 ms.
struct Phone {
    /// The RTP socket of our side.
    socket: u32,
    /// Where its packets come from, as we see it.
    from: String,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    payload_type: u8,
    srtp: Option<SrtpSender>,
    loss: u64,
}

impl Phone {
    fn new(socket: u32, from: &str) -> Self {
        let ssrc = 0x1000 + socket;
        Phone {
            socket,
            from: from.into(),
            ssrc,
            sequence: 65_530,
            timestamp: 77,
            payload_type: 0,
            srtp: None,
            loss: 0,
        }
    }

    fn path(&self) -> Path {
        Path::Udp { socket: self.socket, local: [192, 0, 2, 1].into(), remote: self.from.parse().unwrap() }
    }

    fn packet(&mut self, payload_type: u8, timestamp: u32, marker: bool, payload: &[u8]) -> Vec<u8> {
        let fields = HeaderFields {
            marker,
            padding: false,
            payload_type,
            sequence: self.sequence,
            timestamp,
            ssrc: self.ssrc,
        };
        let mut packet = vec![0; 1500];
        let header = write_header(&mut packet, &fields, &[]).unwrap();
        let index = u64::from(self.sequence);
        self.sequence = self.sequence.wrapping_add(1);
        let len = match &mut self.srtp {
            Some(srtp) => srtp.seal_rtp(&mut packet, header, index, fields.ssrc, payload).unwrap(),
            None => {
                packet[header..header + payload.len()].copy_from_slice(payload);
                header + payload.len()
            }
        };
        packet.truncate(len);
        packet
    }

    fn say(&mut self, lab: &mut Lab, payload_type: u8, timestamp: u32, marker: bool, payload: &[u8]) {
        let mut packet = self.packet(payload_type, timestamp, marker, payload);
        if !lab.chance(self.loss) {
            lab.worker.handle_leg(lab.now, self.path(), &mut packet);
            lab.pump();
        }
    }

    /// Speaks for so many packets, 20 ms apart.
    fn talk(&mut self, lab: &mut Lab, packets: usize) {
        for _ in 0..packets {
            lab.run(20);
            self.timestamp = self.timestamp.wrapping_add(160);
            let byte = self.sequence as u8;
            self.say(lab, self.payload_type, self.timestamp, false, &[byte; 160]);
        }
    }

    /// Presses a key for 100 ms; `lost`: packets of it that do not arrive.
    fn press(&mut self, lab: &mut Lab, event: u8, lost: &[usize]) {
        let begun = self.timestamp.wrapping_add(160);
        for n in 0..7usize {
            lab.run(20);
            let (end, duration) = (n >= 4, 160 * (n.min(4) as u16 + 1));
            let [d0, d1] = duration.to_be_bytes();
            let payload = [event, (u8::from(end) << 7) | 10, d0, d1];
            // A marker that means nothing, as some have it.
            let mut packet = self.packet(101, begun, n % 2 == 1, &payload);
            if !lost.contains(&n) {
                lab.worker.handle_leg(lab.now, self.path(), &mut packet);
                lab.pump();
            }
        }
        self.timestamp = begun.wrapping_add(160 * 7);
    }
}

fn pcmu() -> Value {
    json!([{"mimeType": "audio/PCMU", "payloadType": 0, "clockRate": 8000},
        {"mimeType": "audio/CN", "payloadType": 13, "clockRate": 8000},
        {"mimeType": "audio/telephone-event", "payloadType": 101, "clockRate": 8000}])
}

fn at(address: &str) -> Value {
    let address: SocketAddr = address.parse().unwrap();
    json!({"ip": address.ip(), "port": address.port(), "x.rtcpMux": false, "x.dtmf": [[101, 8000]]})
}

const A_SDP: &str = "10.0.0.9:4000";
const A_REAL: &str = "198.51.100.7:61000";
const B: &str = "203.0.113.20:5000";

/// Two telephones in a room, A behind a NAT; B is heard at once.
fn call() -> (Lab, Phone, Phone) {
    let mut lab = Lab::new();
    lab.leg(0, at(A_SDP), json!({}));
    lab.leg(100, at(B), json!({}));
    for base in [0, 100] {
        lab.produce(base, "audio", pcmu());
    }
    lab.consume(0, 100, "audio", pcmu());
    lab.consume(100, 0, "audio", pcmu());
    (lab, Phone::new(256, A_REAL), Phone::new(258, B))
}

fn views(packets: &[Vec<u8>]) -> Vec<RtpView<'_>> {
    packets.iter().filter(|data| !is_rtcp(data)).map(|data| RtpView::parse(data).unwrap()).collect()
}

/// Holes in the numbers of what was received.
fn holes(views: &[RtpView<'_>]) -> usize {
    views.windows(2).filter(|pair| pair[1].sequence != pair[0].sequence.wrapping_add(1)).count()
}

#[test]
fn the_v2_shapes_are_answered_once_the_sockets_are_open() {
    let mut lab = Lab::new();
    let id = lab.ask("router.createPlainRtpTransport", [10, 0, 0], json!({}));
    assert!(lab.worker.poll_control().is_none(), "not before");
    lab.pump();
    let answer = lab.answers.pop().expect("now");
    assert_eq!(answer["id"], id);
    let data = &answer["data"];
    assert_eq!((&data["transportId"], &data["localPort"]), (&json!(10), &json!(10_000)));
    assert_eq!((&data["localIP"], data.get("x.rtcpPort")), (&json!("203.0.113.1"), None));
    assert!(data["rtpListener"]["ssrcTable"].is_object() && data.get("tuple").is_none());
    let remote = json!({"remoteIP": "192.0.2.9", "remotePort": 4000, "x.rtcpMux": true});
    let data = lab.ok("router.createPlainRtpTransport", [20, 0, 0], remote);
    assert_eq!(data["tuple"]["remotePort"], 4000);
    assert_eq!(data["tuple"]["protocol"], "udp");
    assert!(data.get("x.rtcpPort").is_none(), "one port for both");
    assert_eq!(
        lab.ok("transport.setRemoteParameters", [20, 0, 0], json!({"ip": "192.0.2.8", "port": 1})),
        json!({})
    );
    assert!(lab.request("transport.setRemoteParameters", [20, 0, 0], json!({"ip": "x"})).is_err());
    assert!(lab.ok("transport.getStats", [20, 0, 0], json!({})).is_object());
    // The address it names is the one, for pictures too and for ever: a recorder never answers.
    lab.produce(10, "video", h264(json!([])));
    lab.ok("transport.setRemoteParameters", [10, 0, 0], json!({"ip": "192.0.2.7", "port": 2}));
    lab.consume(0, 10, "video", h264(json!([])));
    let mut camera = Phone::new(257, "192.0.2.8:1");
    lab.run(60_000);
    camera.say(&mut lab, 96, 1, true, &IDR);
    assert_eq!(views(&lab.to("192.0.2.7:2")).len(), 1);
    lab.ok("transport.close", [10, 0, 0], json!({}));
    lab.ok("router.close", [0; 3], json!({}));
    lab.closed.sort_unstable();
    assert_eq!(lab.closed, [256, 257]);
}

#[test]
fn without_ports_there_is_no_leg_and_a_hasty_close_leaves_nothing() {
    let mut lab = Lab::new();
    lab.refuse = true;
    let refused = lab.request("router.createPlainRtpTransport", [10, 0, 0], json!({}));
    assert_eq!(refused, Err("no RTP port of the range is free".into()));
    assert!(lab.request("transport.dump", [10, 0, 0], json!({})).is_err());
    lab.refuse = false;
    lab.ask("router.createPlainRtpTransport", [20, 0, 0], json!({"x.rtcpMux": false}));
    lab.ask("transport.close", [20, 0, 0], json!({}));
    lab.pump();
    let rejected = lab.answers.iter().filter(|answer| answer["rejected"] == json!(true)).count();
    assert_eq!((lab.answers.len(), rejected), (2, 1));
    assert_eq!(lab.closed, [256, 257], "opened for nobody");
}

#[test]
fn two_telephones_hear_each_other_through_a_nat() {
    let (mut lab, mut a, mut b) = call();
    b.talk(&mut lab, 5);
    let to_sdp = lab.to(A_SDP);
    assert_eq!(views(&to_sdp).len(), 5, "sound goes to the SDP's address while nothing is known");
    a.talk(&mut lab, 10);
    b.talk(&mut lab, 10);
    let heard = lab.to(B);
    let heard = views(&heard);
    assert_eq!(heard.len(), 8, "the first two packets of A were its trial");
    assert_eq!(holes(&heard), 0);
    assert!(heard.windows(2).all(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp) == 160));
    assert!(heard.iter().all(|view| (view.ssrc, view.payload_type) == (9100, 0)));
    let heard = lab.to(A_REAL);
    assert_eq!(views(&heard).len(), 10, "and now to where A really is");
    assert_eq!(lab.events("x.mediastarted").len(), 2);
    assert_eq!(lab.ok("transport.dump", [10, 0, 0], json!({}))["tuple"]["remotePort"], 61_000);
}

#[test]
fn strangers_are_not_heard_once_the_party_is_known() {
    let (mut lab, mut a, mut b) = call();
    b.talk(&mut lab, 3);
    a.talk(&mut lab, 5);
    lab.to(B);
    let mut stranger = Phone::new(256, "192.0.2.66:4444");
    // It knows the stream's SSRC and numbers, or sends another stream, or fakes the party's address.
    (stranger.ssrc, stranger.sequence) = (a.ssrc, a.sequence);
    let mut faker = Phone::new(256, A_REAL);
    faker.ssrc = 0xbad;
    for _ in 0..50 {
        a.talk(&mut lab, 1);
        for _ in 0..3 {
            stranger.say(&mut lab, 0, 1, false, &[0xbb; 160]);
        }
        faker.say(&mut lab, 0, 1, false, &[0xcc; 160]);
    }
    let heard = lab.to(B);
    let heard = views(&heard);
    assert_eq!((heard.len(), holes(&heard)), (50, 0));
    assert!(heard.iter().all(|view| view.payload[0] != 0xbb && view.payload[0] != 0xcc));
    assert!(lab.to("192.0.2.66:4444").is_empty());
    let stats = lab.ok("transport.getStats", [10, 0, 0], json!({}));
    assert_eq!((&stats["x.packetsIgnored"], &stats["x.packetsUnknown"]), (&json!(152), &json!(50)));
}

#[test]
fn a_nat_that_forgets_on_a_lossy_link_costs_a_moment() {
    let (mut lab, mut a, mut b) = call();
    a.loss = 5;
    a.talk(&mut lab, 200);
    lab.to(B);
    a.from = "198.51.100.7:62222".into();
    for _ in 0..100 {
        a.talk(&mut lab, 1);
        b.talk(&mut lab, 1);
    }
    let (old, new) = (lab.to(A_REAL), lab.to("198.51.100.7:62222"));
    let (old, new) = (views(&old), views(&new));
    assert!(old.len() < 20 && new.len() > 80, "{} {}", old.len(), new.len());
    assert_eq!(new[0].sequence, old[old.len() - 1].sequence.wrapping_add(1), "one stream all the while");
    let heard = lab.to(B);
    let heard = views(&heard);
    assert!(heard.len() > 70, "{}", heard.len());
    assert!(heard.windows(2).all(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp) < 160 * 40));
}

#[test]
fn keys_are_told_once_whatever_is_lost_of_them_and_nobody_misses_their_packets() {
    let (mut lab, mut a, _) = call();
    a.talk(&mut lab, 5);
    lab.to(B);
    for (event, lost) in [(1, &[][..]), (1, &[0, 1, 2, 3]), (10, &[4, 5]), (11, &[4, 5, 6])] {
        a.press(&mut lab, event, lost);
        a.talk(&mut lab, 12);
    }
    // The network repeats the last packet of all, end and number included.
    let mut again = {
        a.sequence = a.sequence.wrapping_sub(1);
        a.packet(101, a.timestamp, false, &[2, 0x8a, 3, 0x20])
    };
    for _ in 0..3 {
        lab.worker.handle_leg(lab.now, a.path(), &mut again);
    }
    lab.pump();
    let keys = lab.events("x.dtmf");
    let told: Vec<_> = keys.iter().map(|key| key["digit"].as_str().unwrap()).collect();
    assert_eq!(told, ["1", "1", "*", "#"]);
    assert!(keys[..3].iter().all(|key| key["duration"] == 100), "{keys:?}");
    let heard = lab.to(B);
    let heard = views(&heard);
    assert_eq!(heard.len(), 48);
    // What truly was lost leaves its holes; the packets of keys that came leave none.
    assert!(holes(&heard) <= 9, "{}", holes(&heard));
    assert_eq!(views(&lab.to(A_REAL)).len(), 0);
}

#[test]
fn keys_are_played_into_the_stream_and_sound_gives_way() {
    let (mut lab, mut a, mut b) = call();
    for _ in 0..10 {
        a.talk(&mut lab, 1);
        b.talk(&mut lab, 1);
    }
    lab.to(B);
    let refused = lab.request("x.consumer.sendDtmf", [0, 0, 112], json!({"digits": "1z"}));
    assert!(refused.is_err_and(|reason| reason.contains('z')));
    lab.ok("x.consumer.sendDtmf", [0, 0, 112], json!({"digits": "42#", "duration": 100}));
    a.talk(&mut lab, 60);
    let heard = lab.to(B);
    let heard = views(&heard);
    assert_eq!(holes(&heard), 0, "one stream of numbers");
    let mut ear = ToneReceiver::new(vec![(101, 8000)]);
    let mut keys = Vec::new();
    for view in &heard {
        ear.receive(lab.media(), view.payload_type, view.timestamp, view.payload, &mut keys);
    }
    let expected = |key| Tone { key, duration_ms: 100 };
    assert_eq!(keys, [expected('4'), expected('2'), expected('#')]);
    let tones: Vec<_> = heard.iter().filter(|view| view.payload_type == 101).collect();
    assert_eq!(tones.iter().filter(|view| view.payload[1] & 0x80 != 0).count(), 9, "each end three times");
    assert_eq!(tones.iter().filter(|view| view.marker).count(), 3);
    assert!(heard.len() - tones.len() < 45, "sound gave way: {}", heard.len() - tones.len());
    let mut last = heard[0].timestamp;
    for view in &heard {
        let ahead = view.timestamp.wrapping_sub(last) as i32;
        assert!((-800..4000).contains(&ahead), "the clock goes on: {ahead}");
        last = view.timestamp;
    }
    assert!(views(&lab.to(A_REAL)).iter().all(|view| view.payload_type == 0));
}

#[test]
fn keys_can_be_played_to_a_party_that_hears_nobody() {
    let mut lab = Lab::new();
    lab.leg(0, at(B), json!({}));
    lab.ok("router.createConsumer", [0, 0, 12], json!({"kind": "audio"}));
    let rtp = json!({"codecs": [{"mimeType": "audio/PCMA", "payloadType": 8, "clockRate": 8000}],
        "encodings": [{"ssrc": 5}]});
    lab.ok("consumer.enable", [10, 0, 12], json!({"rtpParameters": rtp}));
    lab.ok("x.consumer.sendDtmf", [0, 0, 12], json!({"digits": "9"}));
    lab.run(1000);
    let heard = lab.to(B);
    let heard = views(&heard);
    assert_eq!(heard.len(), 10, "eight in 160 ms and the end twice more");
    assert!(heard.iter().all(|view| view.payload_type == 101 && view.timestamp == heard[0].timestamp));
}

#[test]
fn before_the_party_is_found_sound_goes_out_for_five_seconds_and_pictures_never() {
    let (mut lab, _, mut b) = call();
    b.talk(&mut lab, 500);
    let count = views(&lab.to(A_SDP)).len();
    assert!((240..=250).contains(&count), "{count}");
    let mut a = Phone::new(256, A_SDP);
    a.talk(&mut lab, 1);
    b.talk(&mut lab, 10);
    let heard = lab.to(A_SDP);
    let heard = views(&heard);
    assert_eq!(heard.len(), 10, "it goes on live, with nothing of what was said meanwhile");
    assert_eq!(heard[9].payload[0], b.sequence.wrapping_sub(1) as u8);
}

fn sdes(profile: SrtpProfile, byte: u8) -> SdesKeys {
    let (key, salt) = SdesKeys::lengths(profile);
    SdesKeys::new(profile, (0..(key + salt) as u8).map(|n| n ^ byte).collect()).unwrap()
}

#[test]
fn keys_of_the_sdp_protect_both_directions_and_are_checked() {
    for profile in [
        SrtpProfile::Aes128CmSha1_80,
        SrtpProfile::Aes128CmSha1_32,
        SrtpProfile::AeadAes128Gcm,
        SrtpProfile::AeadAes256Gcm,
    ] {
        let (ours, theirs) = (sdes(profile, 1), sdes(profile, 2));
        let mut lab = Lab::new();
        let mut remote = at(A_SDP);
        remote["x.srtp"] = json!(theirs);
        lab.leg(0, remote.clone(), json!({"x.srtpLocal": ours}));
        lab.leg(100, at(B), json!({}));
        for base in [0, 100] {
            lab.produce(base, "audio", pcmu());
        }
        lab.consume(0, 100, "audio", pcmu());
        lab.consume(100, 0, "audio", pcmu());
        let (mut a, mut b) = (Phone::new(256, A_REAL), Phone::new(258, B));
        let sender = |keys: &SdesKeys| SrtpSender::new(profile, &keys.material().unwrap()).unwrap();
        a.sequence = 100;
        a.talk(&mut lab, 5);
        a.srtp = Some(sender(&ours));
        a.talk(&mut lab, 5);
        assert!(views(&lab.to(B)).is_empty(), "in the clear, or with other keys: nothing");
        a.srtp = Some(sender(&theirs));
        a.talk(&mut lab, 5);
        // The same keys said again, as a re-INVITE does, go on where they were.
        lab.ok("transport.setRemoteParameters", [10, 0, 0], remote);
        a.talk(&mut lab, 5);
        b.talk(&mut lab, 5);
        assert_eq!(views(&lab.to(B)).len(), 10, "the first proven packet is enough");
        let mut receiver = SrtpReceiver::new(profile, &ours.material().unwrap(), 4).unwrap();
        let mut opened = 0;
        for mut data in lab.to(A_REAL) {
            match is_rtcp(&data) {
                true => assert!(receiver.open_rtcp(&mut data).is_ok()),
                false => {
                    let (len, _) = receiver.open_rtp(&mut data).expect("our keys");
                    assert_eq!(len, 172);
                    opened += 1;
                }
            }
        }
        assert_eq!(opened, 5);
        let stats = lab.ok("transport.getStats", [10, 0, 0], json!({}));
        assert_eq!(stats["x.packetsRefused"], 10);
    }
}

#[test]
fn new_keys_begin_a_new_count_of_rollovers() {
    let profile = SrtpProfile::Aes128CmSha1_80;
    let mut lab = Lab::new();
    let with = |ours: u8, theirs: u8| {
        let mut remote = at(B);
        remote["x.srtp"] = json!(sdes(profile, theirs));
        remote["x.srtpLocal"] = json!(sdes(profile, ours));
        remote
    };
    lab.leg(0, with(1, 2), json!({}));
    lab.leg(100, at(A_SDP), json!({}));
    lab.produce(100, "audio", pcmu());
    lab.consume(0, 100, "audio", pcmu());
    let mut other = Phone::new(258, A_SDP);
    // The numbers of 23 minutes, so that ours roll over.
    for _ in 0..70_000 {
        other.timestamp = other.timestamp.wrapping_add(160);
        lab.now += Duration::from_micros(50);
        let timestamp = other.timestamp;
        other.say(&mut lab, 0, timestamp, false, &[1; 10]);
    }
    lab.sent.clear();
    lab.ok("transport.setRemoteParameters", [10, 0, 0], with(3, 2));
    other.talk(&mut lab, 5);
    let keys = sdes(profile, 3).material().unwrap();
    let mut receiver = SrtpReceiver::new(profile, &keys, 4).unwrap();
    let rtp = lab.to(B).into_iter().filter(|data| !is_rtcp(data));
    let opened = rtp.filter(|data| receiver.open_rtp(&mut data.clone()).is_ok()).count();
    assert_eq!(opened, 5, "a receiver that knows only the new keys");
}

#[test]
fn a_leg_that_hears_nothing_says_why_and_dies_after_thirty_seconds() {
    let (mut lab, mut a, mut b) = call();
    lab.run(2900);
    assert!(lab.events("x.oneway").is_empty());
    lab.run(200);
    let said = lab.events("x.oneway");
    assert_eq!(said.len(), 2, "both");
    let text = said[0]["text"].as_str().unwrap();
    assert!(text.contains("203.0.113.1:10000") && text.contains(A_SDP), "{text}");
    assert!(text.contains("blocked, or a NAT"), "{text}");
    b.talk(&mut lab, 1500);
    let dead: Vec<_> = lab.events.iter().filter(|event| event["event"] == "x.mediatimeout").collect();
    assert_eq!(dead.len(), 1, "A, and not B who speaks");
    assert_eq!(dead[0]["targetId"], 10);
    a.from = A_SDP.into();
    a.talk(&mut lab, 5);
    assert!(lab.events("x.oneway").is_empty(), "said once");
}

#[test]
fn what_was_refused_is_named_as_the_cause() {
    let mut lab = Lab::new();
    let mut remote = at(A_SDP);
    remote["x.srtp"] = json!(sdes(SrtpProfile::Aes128CmSha1_80, 1));
    lab.leg(0, remote, json!({"x.srtpLocal": sdes(SrtpProfile::Aes128CmSha1_80, 2)}));
    lab.produce(0, "audio", pcmu());
    let mut a = Phone::new(256, A_SDP);
    a.talk(&mut lab, 160);
    let said = lab.events("x.oneway");
    assert!(said[0]["text"].as_str().unwrap().contains("SRTP keys"), "{said:?}");
}

#[test]
fn a_hold_of_twenty_minutes_is_no_fault_and_the_call_talks_again() {
    let (mut lab, mut a, mut b) = call();
    a.talk(&mut lab, 10);
    b.talk(&mut lab, 10);
    let mut held = at(A_SDP);
    (held["x.sends"], held["x.receives"]) = (json!(false), json!(false));
    lab.ok("transport.setRemoteParameters", [10, 0, 0], held);
    lab.sent.clear();
    b.talk(&mut lab, 20 * 60 * 50);
    assert!(views(&lab.to(A_REAL)).is_empty(), "it wants nothing");
    assert!(lab.events("x.mediatimeout").is_empty() && lab.events("x.oneway").is_empty());
    lab.ok("transport.setRemoteParameters", [10, 0, 0], at(A_SDP));
    lab.to(B);
    b.talk(&mut lab, 10);
    a.talk(&mut lab, 10);
    assert_eq!((views(&lab.to(A_REAL)).len(), views(&lab.to(B)).len()), (10, 10));
    lab.run(31_000);
    assert_eq!(lab.events("x.mediatimeout").len(), 2);
}

#[test]
fn a_new_address_in_the_sdp_is_found_anew() {
    let (mut lab, mut a, mut b) = call();
    a.talk(&mut lab, 10);
    lab.ok("transport.setRemoteParameters", [10, 0, 0], at("192.0.2.99:7000"));
    lab.sent.clear();
    a.talk(&mut lab, 5);
    assert!(views(&lab.to(B)).is_empty(), "the old party still sends; it is not the new one");
    b.talk(&mut lab, 2);
    assert_eq!(views(&lab.to("192.0.2.99:7000")).len(), 2);
    let mut next = Phone::new(256, "192.0.2.99:7000");
    next.ssrc = 0x7777;
    next.talk(&mut lab, 10);
    let heard = lab.to(B);
    let heard = views(&heard);
    assert!(heard.len() >= 8, "{}", heard.len());
    assert!(heard.iter().all(|view| view.ssrc == 9100), "to B it is one stream");
}

#[test]
fn a_party_that_changes_its_stream_is_followed_without_a_seam() {
    let (mut lab, mut a, _) = call();
    a.talk(&mut lab, 20);
    (a.ssrc, a.sequence, a.timestamp) = (0x4444, 5, 3_000_000_000);
    a.talk(&mut lab, 20);
    let heard = lab.to(B);
    let heard = views(&heard);
    assert_eq!((heard.len(), holes(&heard)), (18 + 18, 0));
    let steps: Vec<_> =
        heard.windows(2).map(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp)).collect();
    assert!(steps.iter().all(|step| (1..=160 * 5).contains(step)), "{steps:?}");
}

#[test]
fn a_party_that_counts_anew_is_followed_and_late_packets_are_not_mistaken_for_that() {
    let (mut lab, mut a, _) = call();
    a.talk(&mut lab, 20);
    lab.to(B);
    // Resumed behind its PBX: the same source, its numbers from anywhere.
    a.sequence = a.sequence.wrapping_sub(20_000);
    a.talk(&mut lab, 20);
    let packets = lab.to(B);
    let heard = views(&packets);
    assert_eq!((heard.len(), holes(&heard)), (18, 0), "all but the two that could have been late ones");
    // A few that went astray for seconds are not.
    let before = a.sequence;
    a.sequence = a.sequence.wrapping_sub(500);
    a.talk(&mut lab, 1);
    a.sequence = before;
    a.talk(&mut lab, 10);
    let packets = lab.to(B);
    assert_eq!((views(&packets).len(), holes(&views(&packets))), (10, 0));
}

#[test]
fn comfort_noise_is_passed_on_as_such() {
    let (mut lab, mut a, _) = call();
    a.talk(&mut lab, 5);
    for _ in 0..3 {
        lab.run(200);
        a.timestamp += 1600;
        let timestamp = a.timestamp;
        a.say(&mut lab, 13, timestamp, false, &[40]);
    }
    a.talk(&mut lab, 5);
    let heard = lab.to(B);
    let heard = views(&heard);
    let types: Vec<_> = heard.iter().map(|view| view.payload_type).collect();
    assert_eq!(types, [0, 0, 0, 13, 13, 13, 0, 0, 0, 0, 0]);
    assert_eq!(holes(&heard), 0);
}

#[test]
fn reports_go_beside_the_media_and_come_from_anywhere_near() {
    let (mut lab, mut a, mut b) = call();
    lab.run(100);
    for _ in 0..100 {
        a.talk(&mut lab, 1);
        b.talk(&mut lab, 1);
    }
    let reports = lab.to("203.0.113.20:5001");
    assert!(reports.len() >= 3, "to the next port: {}", reports.len());
    let packets: Vec<_> = Compound::new(reports.last().unwrap()).map(Result::unwrap).collect();
    assert!(
        matches!(packets[0], Packet::SenderReport(report) if report.ssrc == 9100 && report.info.packets > 50)
    );
    assert!(packets.iter().any(|packet| matches!(packet, Packet::SourceDescription(_))));
    let blocks = packets.iter().find_map(|packet| match packet {
        Packet::ReceiverReport(report) => report.reports.clone().next(),
        _ => None,
    });
    assert_eq!(blocks.map(|block| (block.ssrc, block.lost)), Some((b.ssrc, 0)));
    // B's RTCP turns out to come from another port: symmetric, as RTP is.
    let mut plain = Vec::new();
    write::receiver_report(&mut plain, b.ssrc, &[]);
    let remote = "203.0.113.20:7777".parse().unwrap();
    let path = Path::Udp { socket: 259, local: [192, 0, 2, 1].into(), remote };
    lab.worker.handle_leg(lab.now, path, &mut plain.clone());
    lab.run(2000);
    assert!(!lab.to("203.0.113.20:7777").is_empty());
    assert!(lab.to("203.0.113.20:5001").is_empty());
    // A stranger's reports go unheard.
    let remote = "192.0.2.66:9".parse().unwrap();
    lab.worker.handle_leg(
        lab.now,
        Path::Udp { socket: 259, local: [192, 0, 2, 1].into(), remote },
        &mut plain,
    );
    lab.run(2000);
    assert!(lab.to("192.0.2.66:9").is_empty());
    lab.to("203.0.113.20:7777");
    lab.ok("transport.close", [110, 0, 0], json!({}));
    let last = lab.to("203.0.113.20:7777");
    let bye = Compound::new(last.last().unwrap()).any(|packet| matches!(packet, Ok(Packet::Goodbye(_))));
    assert!(bye, "it is told that we go");
    assert_eq!(lab.closed, [258, 259]);
}

#[test]
fn a_party_that_never_reports_our_stream_does_not_hear_it() {
    let (mut lab, mut a, mut b) = call();
    for n in 0..400 {
        a.talk(&mut lab, 1);
        b.talk(&mut lab, 1);
        if n % 100 == 99 {
            let mut plain = Vec::new();
            write::receiver_report(&mut plain, b.ssrc, &[]);
            let remote = "203.0.113.20:5001".parse().unwrap();
            let path = Path::Udp { socket: 259, local: [192, 0, 2, 1].into(), remote };
            lab.worker.handle_leg(lab.now, path, &mut plain);
        }
    }
    lab.pump();
    let said = lab.events("x.oneway");
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0]["direction"], "out");
    assert!(said[0]["text"].as_str().unwrap().contains(B));
}

fn h264(feedback: Value) -> Value {
    json!([{"mimeType": "video/H264", "payloadType": 96, "clockRate": 90000,
        "parameters": {"packetization-mode": 1}, "rtcpFeedback": feedback}])
}

/// A picture of one packet, by the header of its NAL unit.
const fn slice(header: u8) -> [u8; 40] {
    let mut payload = [0x88; 40];
    payload[0] = header;
    payload
}

const IDR: [u8; 40] = slice(0x65);

#[test]
fn keyframes_are_asked_for_in_the_way_the_party_understands() {
    for (feedback, ask) in [
        (json!([{"type": "nack", "parameter": "pli"}]), "pli"),
        (json!([{"type": "ccm", "parameter": "fir"}]), "fir"),
        (json!([]), "signalling"),
    ] {
        let mut lab = Lab::new();
        lab.leg(0, at(B), json!({"x.rtcpMux": true}));
        let mut mux = at(B);
        mux["x.rtcpMux"] = json!(true);
        lab.ok("transport.setRemoteParameters", [10, 0, 0], mux);
        lab.leg(100, at(A_SDP), json!({}));
        lab.produce(0, "video", h264(feedback));
        lab.consume(100, 0, "video", h264(json!([])));
        let mut b = Phone::new(256, B);
        b.say(&mut lab, 96, 1, true, &IDR);
        lab.sent.clear();
        lab.events.clear();
        lab.run(1000);
        lab.ok("consumer.requestKeyFrame", [0, 0, 112], json!({}));
        lab.run(10);
        let compounds = lab.to(B);
        let asked = compounds.iter().flat_map(|data| Compound::new(data)).find_map(|packet| match packet {
            Ok(Packet::PictureLoss { media, .. }) if media == b.ssrc => Some("pli"),
            Ok(Packet::FullIntraRequest(_)) => Some("fir"),
            _ => None,
        });
        let by_signalling = !lab.events("x.keyframerequest").is_empty();
        assert_eq!(asked.unwrap_or(if by_signalling { "signalling" } else { "nothing" }), ask);
    }
}

#[test]
fn pictures_wait_until_the_party_is_found_and_begin_with_a_keyframe() {
    let mut lab = Lab::new();
    lab.leg(0, at(A_SDP), json!({}));
    lab.leg(100, at(B), json!({}));
    lab.produce(0, "video", h264(json!([])));
    lab.produce(100, "video", h264(json!([])));
    lab.consume(0, 100, "video", h264(json!([])));
    let mut b = Phone::new(258, B);
    let mut picture = |lab: &mut Lab, n: u32| {
        lab.run(33);
        let payload = if n.is_multiple_of(30) { IDR } else { slice(0x41) };
        b.say(lab, 96, n * 3000, true, &payload);
    };
    (0..40).for_each(|n| picture(&mut lab, n));
    assert!(lab.to(A_SDP).iter().all(|data| is_rtcp(data)), "a stranger may be there");
    let mut a = Phone::new(256, A_REAL);
    for _ in 0..3 {
        lab.run(5);
        a.say(&mut lab, 96, 1, true, &IDR);
    }
    (40..50).for_each(|n| picture(&mut lab, n));
    let seen = lab.to(A_REAL);
    let seen = views(&seen);
    assert_eq!(seen[0].payload[0], 0x65, "a keyframe first");
    assert_eq!((seen.len(), holes(&seen)), (20, 0), "the cached group, then live");
}

#[test]
fn packets_of_any_length_go_through_as_they_are() {
    let (mut lab, mut a, _) = call();
    a.from = A_SDP.into();
    for samples in [80u32, 160, 240, 480] {
        for _ in 0..5 {
            lab.run(u64::from(samples) / 8);
            a.timestamp += samples;
            let timestamp = a.timestamp;
            a.say(&mut lab, 0, timestamp, false, &vec![1; samples as usize]);
        }
    }
    let heard = lab.to(B);
    let heard = views(&heard);
    assert_eq!((heard.len(), holes(&heard)), (20, 0));
    let sound: usize = heard.iter().map(|view| view.payload.len()).sum();
    assert_eq!(sound, 5 * (80 + 160 + 240 + 480));
    let first = heard[0].timestamp;
    assert_eq!(heard[19].timestamp.wrapping_sub(first), 4 * 80 + 5 * (160 + 240 + 480));
}

#[test]
fn noise_on_a_legs_port_is_nothing() {
    let (mut lab, a, _) = call();
    let mut datagrams: Vec<Vec<u8>> = vec![vec![], vec![0x80], vec![0x80, 200], vec![1; 30], vec![0xb0; 12]];
    datagrams.extend((0..200u16).map(|n| (0..n % 60).map(|at| 0x80 ^ (n * 31 + at) as u8).collect()));
    for data in &mut datagrams {
        lab.worker.handle_leg(lab.now, a.path(), data);
        let nowhere = Path::Udp { socket: 9999, local: [192, 0, 2, 1].into(), remote: B.parse().unwrap() };
        lab.worker.handle_leg(lab.now, nowhere, data);
    }
    lab.run(100);
    assert!(lab.events("x.dtmf").is_empty());
}

#[test]
fn parameter_sets_of_the_sdp_reach_receivers_in_band() {
    let mut lab = Lab::new();
    lab.leg(0, at(B), json!({}));
    lab.leg(100, at(A_SDP), json!({}));
    let mut codecs = h264(json!([]));
    codecs[0]["parameters"]["sprop-parameter-sets"] = json!("Z0LAHg==,aM48gA==");
    lab.produce(0, "video", codecs);
    lab.consume(100, 0, "video", h264(json!([])));
    Phone::new(258, A_SDP).say(&mut lab, 96, 1, true, &slice(0x41));
    let mut b = Phone::new(256, B);
    for n in 0..61u32 {
        lab.run(33);
        let payload = if n.is_multiple_of(30) { IDR } else { slice(0x41) };
        b.say(&mut lab, 96, n * 3000, true, &payload);
    }
    let seen = lab.to(A_SDP);
    let seen = views(&seen);
    assert_eq!((seen.len(), holes(&seen)), (64, 0));
    let keyframes: Vec<_> =
        seen.windows(2).filter(|pair| pair[1].payload[0] == 0x65).map(|pair| pair[0].payload).collect();
    assert_eq!(keyframes.len(), 3);
    assert!(keyframes.iter().all(|sets| sets[..4] == [0x78, 0, 4, 0x67]), "{keyframes:?}");
    assert!(seen.windows(2).all(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp) <= 3000));
}

#[test]
fn what_nobody_agreed_on_leaves_no_hole_and_comfort_noise_needs_no_word() {
    let mut lab = Lab::new();
    let bare = json!([{"mimeType": "audio/PCMU", "payloadType": 0, "clockRate": 8000}]);
    lab.leg(0, at(A_SDP), json!({}));
    lab.leg(100, at(B), json!({}));
    lab.produce(0, "audio", bare);
    lab.consume(100, 0, "audio", pcmu());
    let mut a = Phone::new(256, A_SDP);
    a.talk(&mut lab, 3);
    for payload_type in [13, 99] {
        lab.run(20);
        a.timestamp += 160;
        let timestamp = a.timestamp;
        a.say(&mut lab, payload_type, timestamp, false, &[40]);
    }
    a.talk(&mut lab, 3);
    let heard = lab.to(B);
    let heard = views(&heard);
    let types: Vec<_> = heard.iter().map(|view| view.payload_type).collect();
    assert_eq!((types, holes(&heard)), (vec![0, 0, 0, 13, 0, 0, 0], 0));
}
