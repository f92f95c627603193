//! A call whole: signalling and media by one hand-moved clock, the switchboard above and a worker's leg below.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::*;
use crate::core::plain::PlainTransport;
use crate::core::rtp::batch::SendBatch;
use crate::core::rtp::bwe::RateLimits;
use crate::core::rtp::header::{HeaderFields, RtpView, is_rtcp, write_header};
use crate::core::rtp::path::{LegSocket, LegSockets, Path};
use crate::core::session::{LocalCandidate, NoSessions};
use crate::core::time::Epoch;
use crate::core::worker::{self, GopConfig, Worker, WorkerConfig};
use crate::sip::session::media::Remote;

/// Where the caller's sound really comes from: behind a NAT, as its SDP does not know.
const CALLER: &str = "198.51.100.9:61000";
/// Somebody else in the room.
const OTHER: &str = "203.0.113.20:5000";
const PACKET: Duration = Duration::from_millis(20);
/// Ids of the caller's transport, producer and consumer, and of the other's.
const CALLERS: [u32; 3] = [10, 11, 12];
const OTHERS: [u32; 3] = [20, 21, 22];

/// The worker of the caller's room.
pub struct Line {
    worker: Worker,
    batch: SendBatch,
    requests: u32,
    answers: Vec<Value>,
    events: Vec<Value>,
    sent: Vec<(SocketAddr, Vec<u8>)>,
    sockets: u32,
    /// What flows now: into the room, out of it.
    flows: Option<(bool, bool)>,
}

impl Line {
    fn new(now: Instant) -> Self {
        let candidates =
            vec![LocalCandidate { tcp: false, address: "203.0.113.1:8189".parse().expect("address") }];
        let config = WorkerConfig {
            id: WorkerId(0),
            candidates,
            gop: GopConfig::default(),
            max_publish_bitrate: 10_000_000,
            layers: Default::default(),
            rates: RateLimits::default(),
            legs: Default::default(),
            channel: None,
            data: Default::default(),
        };
        let epoch = Epoch { instant: now, unix: Duration::from_secs(1_700_000_000) };
        let mut line = Line {
            worker: Worker::new(config, epoch, Arc::new(NoSessions), 42),
            batch: SendBatch::new(64 * 1024, 64),
            requests: 0,
            answers: Vec::new(),
            events: Vec::new(),
            sent: Vec::new(),
            sockets: 256,
            flows: None,
        };
        line.ask(now, "worker.createRouter", [0; 3], json!({}));
        // The other party, and what it says.
        line.ask(
            now,
            "router.createPlainRtpTransport",
            [OTHERS[0], 0, 0],
            json!({"x.latch": true, "x.rtcpMux": false}),
        );
        let at: SocketAddr = OTHER.parse().expect("address");
        line.ask(
            now,
            "transport.setRemoteParameters",
            [OTHERS[0], 0, 0],
            json!({"ip": at.ip(), "port": at.port(), "x.rtcpMux": false}),
        );
        let codecs = json!([{"mimeType": "audio/PCMA", "payloadType": 8, "clockRate": 8000}]);
        let said = json!({"kind": "audio", "rtpParameters": {"codecs": codecs, "encodings": [{}]}});
        line.ask(now, "router.createProducer", [OTHERS[0], OTHERS[1], 0], said);
        line
    }

    fn ask(&mut self, now: Instant, method: &str, ids: [u32; 3], data: Value) -> Value {
        self.requests += 1;
        let mut internal = json!({"routerId": 1});
        for (name, id) in ["transportId", "producerId", "consumerId"].iter().zip(ids) {
            if id != 0 {
                internal[name] = json!(id);
            }
        }
        let id = self.requests;
        let request = json!({"id": id, "method": method, "internal": internal, "data": data});
        self.worker.handle_control(now, &serde_json::to_vec(&request).expect("JSON"));
        self.pump(now);
        let at = self.answers.iter().position(|answer| answer["id"] == json!(id)).expect("an answer");
        let answer = self.answers.remove(at);
        assert_eq!(answer["accepted"], json!(true), "{method}: {answer}");
        answer["data"].clone()
    }

    fn pump(&mut self, now: Instant) {
        loop {
            while let Some(action) = self.worker.poll_action() {
                let worker::Action::OpenLeg { leg, .. } = action else { continue };
                let mut next = || {
                    let port = 10_000 + (self.sockets - 256) as u16;
                    self.sockets += 1;
                    let address = SocketAddr::from(([0, 0, 0, 0], port));
                    LegSocket { socket: self.sockets - 1, address }
                };
                let rtp = next();
                let rtcp = Some(next());
                self.worker.handle_leg_opened(now, leg, Ok(LegSockets { rtp, rtcp }));
            }
            let more = self.worker.flush(now, &mut self.batch);
            for run in self.batch.runs() {
                let Path::Udp { remote, .. } = run.path else { continue };
                self.sent.extend(self.batch.datagrams(run).map(|data| (remote, data.to_vec())));
            }
            self.batch.clear();
            if !more {
                break;
            }
        }
        while let Some(message) = self.worker.poll_control() {
            let message: Value = serde_json::from_slice(&message).expect("JSON");
            let into = if message.get("id").is_some() { &mut self.answers } else { &mut self.events };
            into.push(message);
        }
    }

    /// Does what a call asks of media, as the rooms do it.
    pub fn serve(&mut self, now: Instant, ask: &MediaAsk) -> Option<MediaEvent> {
        match ask {
            MediaAsk::Open { serial, streams } => {
                let [stream] = &streams[..] else { panic!("one stream") };
                let made = self.ask(
                    now,
                    "router.createPlainRtpTransport",
                    [CALLERS[0], 0, 0],
                    json!({"x.latch": true, "x.rtcpMux": false, "x.mediaTimeoutMs": 30_000}),
                );
                let made: PlainTransport = serde_json::from_value(made).expect("a transport");
                let local = Local::Plain { ip: made.ip, port: made.port, rtcp_port: made.rtcp_port };
                Some(MediaEvent::Opened { serial: *serial, locals: vec![(stream.index, local)] })
            }
            MediaAsk::Connect { serial, streams } => {
                self.connect(now, &streams[0]);
                Some(MediaEvent::Connected { serial: *serial })
            }
            _ => None,
        }
    }

    fn connect(&mut self, now: Instant, stream: &ConnectStream) {
        let Remote::Plain(remote) = &stream.remote else { panic!("a plain stream") };
        self.ask(now, "transport.setRemoteParameters", [CALLERS[0], 0, 0], json!(remote));
        if self.flows.is_none() {
            let said = json!({"kind": "audio", "rtpParameters": stream.produce});
            self.ask(now, "router.createProducer", [CALLERS[0], CALLERS[1], 0], said);
            for (listener, source, heard) in [
                (CALLERS, OTHERS, json!(stream.consume)),
                (
                    OTHERS,
                    CALLERS,
                    json!({"codecs": [{"mimeType": "audio/PCMA", "payloadType": 8, "clockRate": 8000}], "encodings": [{"ssrc": 77}]}),
                ),
            ] {
                self.ask(now, "router.createConsumer", [0, source[1], listener[2]], json!({"kind": "audio"}));
                let heard = json!({"rtpParameters": heard});
                self.ask(now, "consumer.enable", [listener[0], 0, listener[2]], heard);
            }
        }
        let (take, give) = self.flows.unwrap_or((true, true));
        let turn = |on: bool| if on { "resume" } else { "pause" };
        if take != stream.take {
            self.ask(now, &format!("producer.{}", turn(stream.take)), [0, CALLERS[1], 0], json!({}));
        }
        if give != stream.give {
            self.ask(now, &format!("consumer.{}", turn(stream.give)), [0, 0, CALLERS[2]], json!({}));
        }
        self.flows = Some((stream.take, stream.give));
    }

    /// A packet of a party's voice comes in.
    fn hear(&mut self, now: Instant, (socket, from): (u32, &str), number: u64) {
        let fields = HeaderFields {
            marker: false,
            padding: false,
            payload_type: 8,
            sequence: number as u16,
            timestamp: (number * 160) as u32,
            ssrc: 0x5000 + socket,
        };
        let mut packet = vec![0; 1500];
        let header = write_header(&mut packet, &fields, &[]).expect("a header");
        packet[header..header + 160].fill(number as u8);
        packet.truncate(header + 160);
        let remote = from.parse().expect("address");
        self.worker.handle_leg(now, Path::Udp { socket, local: [192, 0, 2, 1].into(), remote }, &mut packet);
        self.pump(now);
    }

    /// How many packets of sound went to a party since it was last asked.
    fn heard_at(&mut self, address: &str) -> usize {
        let address: SocketAddr = address.parse().expect("address");
        let (his, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.sent).into_iter().partition(|(to, _)| *to == address);
        self.sent = others;
        let sound = |data: &&Vec<u8>| !is_rtcp(data) && RtpView::parse(data).is_ok();
        his.iter().map(|(_, data)| data).filter(sound).count()
    }
}

/// Both halves on one clock.
struct Call {
    bench: Bench,
    number: u64,
    /// The worker's sockets of the caller's leg and the other's.
    sockets: (u32, u32),
    caller_speaks: bool,
}

impl Call {
    fn line(&mut self) -> &mut Line {
        self.bench.line.as_mut().expect("a line")
    }

    /// So much time passes; the other speaks all the time, the caller while she does.
    fn pass(&mut self, time: Duration) {
        let end = self.bench.now + time;
        while self.bench.now < end {
            self.bench.pass(PACKET);
            let now = self.bench.now;
            self.number += 1;
            let (number, sockets, speaks) = (self.number, self.sockets, self.caller_speaks);
            let line = self.line();
            if line.worker.poll_timeout().is_some_and(|at| at <= now) {
                line.worker.handle_timeout(now);
                line.pump(now);
            }
            line.hear(now, (sockets.1, OTHER), number);
            if speaks {
                line.hear(now, (sockets.0, CALLER), number);
            }
            let events = std::mem::take(&mut line.events);
            if events.iter().any(|event| event["event"] == "x.mediatimeout") {
                let id = self.bench.ids[0];
                self.bench.board.handle_media(now, id, MediaEvent::Timeout);
                self.bench.drain();
            }
            self.refresh();
        }
    }

    /// The other side agrees to whatever refreshes the session.
    fn refresh(&mut self) {
        while let Some(at) =
            self.bench.sent.iter().position(|(_, request, _)| request.method == Method::Update)
        {
            let (tx, update, _) = self.bench.sent.remove(at);
            let mut response = update.response(200, "", "");
            response.headers.push("Session-Expires", "600;refresher=uac");
            self.bench.respond(tx, response);
            self.bench.refreshes += 1;
        }
    }

    /// How many packets the caller and the other hear in a second.
    fn second(&mut self) -> (usize, usize) {
        self.line().heard_at(CALLER);
        self.line().heard_at(OTHER);
        self.pass(Duration::from_secs(1));
        (self.line().heard_at(CALLER), self.line().heard_at(OTHER))
    }
}

#[test]
fn after_twenty_minutes_of_hold_the_call_talks_again() {
    let mut bench = Bench::new(&format!("{OFFICE_ONLY}calls: {{ session_expires_s: 600 }}"));
    bench.line = Some(Line::new(bench.now));
    let party = bench.call(OFFICE, "room-x");
    // The other's two sockets were opened first, then the caller's.
    let mut call = Call { bench, number: 0, sockets: (258, 256), caller_speaks: true };
    call.pass(Duration::from_secs(2));
    assert_eq!(call.second(), (50, 50), "both hear each other");

    let hold = OFFER.replace("sendrecv", "sendonly").replace("- 1 1", "- 1 2");
    let tx = call.bench.later(&party, Method::Invite, Some(&hold));
    assert!(text(&call.bench.answer(tx).body).contains("a=recvonly"));
    let party = call.bench.acknowledge(party, tx, None);
    // Most telephones send nothing then, whatever they said.
    call.caller_speaks = false;
    call.pass(Duration::from_secs(1));
    assert_eq!(call.second(), (0, 0), "nobody hears anybody");
    call.pass(Duration::from_secs(20 * 60));
    assert_eq!((call.bench.board.len(), call.bench.refreshes), (1, 4), "the call stands, refreshed by us");
    assert_eq!((call.bench.count(&Method::Bye), call.line().heard_at(CALLER)), (0, 0));

    let resume = OFFER.replace("- 1 1", "- 1 3");
    let tx = call.bench.later(&party, Method::Invite, Some(&resume));
    assert!(text(&call.bench.answer(tx).body).contains("a=sendrecv"));
    call.bench.acknowledge(party, tx, None);
    call.caller_speaks = true;
    call.pass(Duration::from_secs(1));
    assert_eq!(call.second(), (50, 50), "both hear each other again");

    // Silence is a fault once more.
    call.caller_speaks = false;
    call.pass(Duration::from_secs(32));
    assert_eq!(call.bench.count(&Method::Bye), 1);
}
