//! A worker that forwards the bench's stream to the bench's viewers, with a clock moved by hand: what it allocates.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bench::media::FRAME_RATE;
use crate::bench::sdp::{PAYLOAD_TYPE, RTX_PAYLOAD_TYPE, TRANSPORT_CC_ID};
use crate::bench::source::{Pattern, Source};
use crate::bench::viewer::Viewer;
use crate::core::capabilities::ext;
use crate::core::id::WorkerId;
use crate::core::io::allocations;
use crate::core::rtp::batch::SendBatch;
use crate::core::rtp::header::is_rtcp;
use crate::core::rtp::keys::{KeyingMaterial, SrtpKeys, SrtpProfile};
use crate::core::rtp::path::Path;
use crate::core::rtp::srtp::{SrtpReceiver, SrtpSender};
use crate::core::session::{Command, Event, Input, LocalCandidate, Output, Session, SessionFactory};
use crate::core::time::{Epoch, MediaTime};
use crate::core::worker::{Worker, WorkerConfig};

const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;
const PUBLISHER: u8 = 1;
const SSRC: u32 = 500;
/// Every so many packets one is lost on its way to a viewer.
const LOSS: usize = 97;

/// Both directions of a party have the same keys: what counts here is how often memory is asked for.
fn keys(of: u8) -> KeyingMaterial {
    KeyingMaterial { key: vec![of; 16], salt: vec![of; 12] }
}

fn path(of: u8) -> Path {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Path::Udp { socket: 0, local, remote: SocketAddr::new(local, 1000 + u16::from(of)) }
}

/// A session that is through with its handshake at the first datagram.
struct Ready {
    name: u8,
    out: VecDeque<Output>,
}

impl Session for Ready {
    fn handle_input(&mut self, _now: Instant, input: Input<'_>) {
        let Input::Datagram { path, .. } = input else { return };
        self.out.push_back(Output::Event(Event::SelectedPath { path, probation: None }));
        let keys = SrtpKeys { profile: PROFILE, local: keys(self.name), remote: keys(self.name) };
        self.out.push_back(Output::Event(Event::SrtpKeys(keys)));
    }
    fn command(&mut self, _now: Instant, _command: Command) -> Result<Value, String> {
        Ok(json!({}))
    }
    fn handle_timeout(&mut self, _now: Instant) {}
    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn dump(&self) -> Value {
        json!({})
    }
}

struct Factory;

impl SessionFactory for Factory {
    fn webrtc(
        &self,
        _now: Instant,
        _epoch: Epoch,
        options: &Value,
        _candidates: &[LocalCandidate],
    ) -> Result<Box<dyn Session>, String> {
        let name = options["name"].as_u64().unwrap_or(0) as u8;
        let key = char::from(name).to_string();
        Ok(Box::new(Ready { name, out: VecDeque::from([Output::Event(Event::Route { key })]) }))
    }
    fn route_key<'a>(&self, datagram: &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(datagram.get(1..2)?).ok()
    }
}

struct Party {
    name: u8,
    viewer: Viewer,
    receiver: SrtpReceiver,
    sender: SrtpSender,
    inbox: Vec<Vec<u8>>,
}

/// What memory was asked for, and by what.
#[derive(Debug, Default)]
struct Asked {
    media: u64,
    feedback: u64,
    flush: u64,
    timers: u64,
}

struct Lab {
    worker: Worker,
    begin: Instant,
    now: Instant,
    batch: SendBatch,
    source: Source,
    keys: SrtpSender,
    parties: Vec<Party>,
    requests: u32,
    delivered: usize,
    asked: Asked,
}

/// How often `what` asks for memory.
fn counted(total: &mut u64, what: impl FnOnce()) {
    let before = allocations::count();
    what();
    *total += allocations::count() - before;
}

impl Lab {
    fn new(viewers: u8) -> Self {
        let begin = Instant::now();
        let config = WorkerConfig {
            id: WorkerId(0),
            candidates: Vec::new(),
            gop: Default::default(),
            max_publish_bitrate: 10_000_000,
            layers: Default::default(),
            rates: Default::default(),
            legs: Default::default(),
            channel: None,
            data: Default::default(),
        };
        let epoch = Epoch { instant: begin, unix: Duration::from_secs(1_700_000_000) };
        let pattern = Pattern { keyframe_every: 2 * FRAME_RATE, paced: false, deaf: false };
        let mut lab = Lab {
            worker: Worker::new(config, epoch, Arc::new(Factory), 42),
            begin,
            now: begin,
            batch: SendBatch::new(512 << 10, 512),
            source: Source::new(SSRC, pattern, begin),
            keys: SrtpSender::new(PROFILE, &keys(PUBLISHER)).unwrap(),
            parties: Vec::new(),
            requests: 0,
            delivered: 0,
            asked: Asked::default(),
        };
        lab.request("worker.createRouter", [0; 3], json!({}));
        lab.connect(PUBLISHER);
        let producer = parameters(None, SSRC);
        lab.request("router.createProducer", [1, 1, 0], json!({"kind": "video", "rtpParameters": producer}));
        for name in PUBLISHER + 1..=PUBLISHER + viewers {
            lab.watch(name);
        }
        lab
    }

    fn request(&mut self, method: &str, ids: [u32; 3], data: Value) {
        self.requests += 1;
        let mut internal = json!({"routerId": 1});
        for (name, id) in ["transportId", "producerId", "consumerId"].iter().zip(ids) {
            if id != 0 {
                internal[name] = json!(id);
            }
        }
        let request = json!({"id": self.requests, "method": method, "internal": internal, "data": data});
        self.worker.handle_control(self.now, request.to_string().as_bytes());
        while let Some(message) = self.worker.poll_control() {
            let message: Value = serde_json::from_slice(&message).unwrap();
            assert!(message.get("reason").is_none(), "{method}: {message}");
        }
    }

    fn connect(&mut self, name: u8) {
        self.request("router.createWebRtcTransport", [u32::from(name), 0, 0], json!({"name": name}));
        self.worker.handle_datagram(self.now, path(name), &mut [1, name]);
    }

    fn watch(&mut self, name: u8) {
        let id = u32::from(name);
        self.connect(name);
        self.request("router.createConsumer", [0, 1, id], json!({"kind": "video"}));
        let wanted = json!({"rtpParameters": parameters(Some(id * 10 + 1), id * 10)});
        self.request("consumer.enable", [id, 1, id], wanted);
        self.parties.push(Party {
            name,
            viewer: Viewer::new(id, true, 0),
            receiver: SrtpReceiver::new(PROFILE, &keys(name), 8).unwrap(),
            sender: SrtpSender::new(PROFILE, &keys(name)).unwrap(),
            inbox: Vec::new(),
        });
    }

    fn media_time(&self) -> MediaTime {
        MediaTime(self.now.duration_since(self.begin).as_micros() as i64)
    }

    /// Lets the worker send what it has, and puts it into the viewers' inboxes.
    fn flush(&mut self) {
        loop {
            let mut more = false;
            counted(&mut self.asked.flush, || more = self.worker.flush(self.now, &mut self.batch));
            for run in self.batch.runs() {
                let party = self.parties.iter_mut().find(|party| path(party.name) == run.path);
                if let Some(party) = party {
                    party.inbox.extend(self.batch.datagrams(run).map(<[u8]>::to_vec));
                }
            }
            self.batch.clear();
            if !more {
                break;
            }
        }
        while self.worker.poll_control().is_some() || self.worker.poll_action().is_some() {}
    }

    /// One tenth of a second: frames come, timers run, viewers report and ask for what they miss.
    fn run_tenth(&mut self) {
        let end = self.now + Duration::from_millis(100);
        loop {
            let timer = self.worker.poll_timeout();
            let next = timer.into_iter().chain([self.source.next_due()]).min().filter(|at| *at < end);
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            if timer.is_some_and(|at| at <= self.now) {
                counted(&mut self.asked.timers, || self.worker.handle_timeout(self.now));
            }
            for mut datagram in self.source.poll(self.now, 7, &mut self.keys).unwrap() {
                counted(&mut self.asked.media, || {
                    self.worker.handle_datagram(self.now, path(PUBLISHER), &mut datagram);
                });
            }
            self.flush();
        }
        self.now = end;
        self.listen();
        self.flush();
    }

    /// The viewers take what they got, but for some, and report.
    fn listen(&mut self) {
        let time = self.media_time();
        for party in &mut self.parties {
            for mut datagram in party.inbox.drain(..) {
                self.delivered += 1;
                if is_rtcp(&datagram) {
                    let len = party.receiver.open_rtcp(&mut datagram).unwrap();
                    party.viewer.rtcp(time, &datagram[..len]);
                } else if !self.delivered.is_multiple_of(LOSS) {
                    let (len, index) = party.receiver.open_rtp(&mut datagram).unwrap();
                    party.viewer.rtp(time, &datagram[..len], index, 7);
                }
            }
            if let Some(report) = party.viewer.report(time) {
                let mut sealed = vec![0; report.len() + 32];
                let len = party.sender.seal_rtcp(&report, &mut sealed).unwrap();
                counted(&mut self.asked.feedback, || {
                    self.worker.handle_datagram(self.now, path(party.name), &mut sealed[..len]);
                });
            }
        }
    }
}

/// What a publisher sends, or with `rtx` what a viewer takes.
fn parameters(rtx: Option<u32>, ssrc: u32) -> Value {
    let feedback = json!([{"type": "nack"}, {"type": "nack", "parameter": "pli"}, {"type": "transport-cc"}]);
    let parameters = json!({"packetization-mode": 1, "profile-level-id": "42e01f"});
    json!({
        "codecs": [
            {"mimeType": "video/H264", "payloadType": PAYLOAD_TYPE, "clockRate": 90000,
                "parameters": parameters, "rtcpFeedback": feedback},
            {"mimeType": "video/rtx", "payloadType": RTX_PAYLOAD_TYPE, "clockRate": 90000,
                "parameters": {"apt": PAYLOAD_TYPE}},
        ],
        "headerExtensions": [{"uri": ext::TRANSPORT_CC, "id": TRANSPORT_CC_ID}],
        "encodings": [{"ssrc": ssrc, "rtx": rtx.map(|ssrc| json!({"ssrc": ssrc}))}],
        "rtcp": {"cname": "c"},
    })
}

#[test]
fn nothing_is_allocated_for_a_forwarded_packet() {
    let mut lab = Lab::new(10);
    (0..100).for_each(|_| lab.run_tenth());
    (lab.asked, lab.delivered) = Default::default();
    let lost: i64 = lab.parties.iter().map(|party| party.viewer.lost()).sum();
    (0..100).for_each(|_| lab.run_tenth());
    assert!(lab.delivered > 10 * 10 * 210, "{} packets", lab.delivered);
    let lost = lab.parties.iter().map(|party| party.viewer.lost()).sum::<i64>() - lost;
    assert!(lost > 100, "lost packets were asked for: {lost}");
    let Asked { media, feedback, flush, timers } = lab.asked;
    assert_eq!((media, feedback, flush), (0, 0, 0), "for {} packets", lab.delivered);
    // Reports are made by the clock and not by the packet: one a second to each party, and twenty to the publisher.
    assert!(timers < 10 * 300, "{timers} in ten seconds");
}
