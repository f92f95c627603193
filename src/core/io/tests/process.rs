//! A worker process's channel as its dispatcher sees it: a socket, real ports, no session behind them.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::NoSessions;
use crate::core::control::netstring::{self, CHANNEL_LIMIT};
use crate::core::io::config::IoConfig;
use crate::core::io::pool::Seat;
use crate::core::io::process::{ProcessConfig, RunningProcess, WorkerProcess};
use crate::core::worker::{
    ChannelConfig, GopConfig, LegsConfig, LogLevel, LogSettings, Worker, WorkerConfig,
};

struct Channel {
    socket: UnixStream,
    reader: netstring::Reader,
    process: RunningProcess,
    requests: u32,
    lines: VecDeque<String>,
    events: VecDeque<Value>,
}

impl Channel {
    fn open(log: LogSettings) -> Channel {
        let (near, far) = UnixStream::pair().expect("pair");
        near.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        let io = IoConfig {
            listen: vec!["127.0.0.1".parse().expect("address")],
            leg_port_min: 30_000,
            leg_port_max: 39_999,
            ..IoConfig::default()
        };
        let process = WorkerProcess::over(ProcessConfig { io, log }, far).expect("a wake");
        let make = move |seat: Seat| {
            let config = WorkerConfig {
                id: seat.id,
                candidates: seat.candidates,
                gop: GopConfig::default(),
                max_publish_bitrate: 1_000_000,
                layers: Default::default(),
                rates: Default::default(),
                legs: LegsConfig::default(),
                data: Default::default(),
                channel: Some(ChannelConfig { name: "lab#1".into(), log }),
            };
            Worker::new(config, seat.epoch, seat.factory, seat.seed)
        };
        let process = process.start(Arc::new(NoSessions), make).expect("free ports");
        let reader = netstring::Reader::new(CHANNEL_LIMIT);
        Channel {
            socket: near,
            reader,
            process,
            requests: 0,
            lines: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("write");
    }

    fn ask(&mut self, method: &str, internal: Value, data: Value) -> Result<Value, String> {
        self.requests += 1;
        let request = json!({"id": self.requests, "method": method, "internal": internal, "data": data});
        let mut bytes = Vec::new();
        netstring::write(request.to_string().as_bytes(), CHANNEL_LIMIT, &mut bytes).expect("short");
        self.write(&bytes);
        self.answer(self.requests)
    }

    fn ok(&mut self, method: &str, internal: Value, data: Value) -> Value {
        self.ask(method, internal, data).unwrap_or_else(|reason| panic!("{method}: {reason}"))
    }

    fn answer(&mut self, id: u32) -> Result<Value, String> {
        loop {
            let message = self.heard().expect("an answer");
            if message["id"] != json!(id) {
                self.events.push_back(message);
                continue;
            }
            return match (message["accepted"] == json!(true), message["rejected"] == json!(true)) {
                (true, false) => Ok(message["data"].clone()),
                (false, true) => Err(message["reason"].as_str().expect("a reason").to_owned()),
                _ => panic!("{message}"),
            };
        }
    }

    /// The next message; lines are put aside. `None` when the worker has closed its end.
    fn heard(&mut self) -> Option<Value> {
        let mut buffer = [0; 65_536];
        loop {
            while let Some(payload) = self.reader.next_payload().expect("framing") {
                match payload.first() {
                    Some(b'{') => return Some(serde_json::from_slice(payload).expect("json")),
                    Some(b'D' | b'W' | b'E') => {
                        self.lines.push_back(String::from_utf8(payload.to_vec()).expect("text"));
                    }
                    other => panic!("{other:?}"),
                }
            }
            match self.socket.read(&mut buffer).expect("something in time") {
                0 => return None,
                count => self.reader.feed(&buffer[..count]),
            }
        }
    }
}

const ROUTER: u32 = 10_000_000;

fn router() -> Value {
    json!({"routerId": ROUTER})
}

#[test]
fn requests_of_the_v2_worker_channel_are_answered_in_its_shapes() {
    let mut channel = Channel::open(LogSettings::default());
    assert_eq!(
        channel.ok("worker.dump", json!(null), json!(null)),
        json!({"workerId": "lab#1", "routers": []})
    );
    assert_eq!(channel.ok("worker.createRouter", router(), json!(null)), json!({}));
    let empty = json!({"routerId": ROUTER, "transports": [], "producers": [], "consumers": [],
        "mapProducerConsumers": {}, "mapConsumerProducer": {}, "audioLevelsEventEnabled": false});
    assert_eq!(channel.ok("router.dump", router(), json!({})), empty);
    for enabled in [true, true, false, false] {
        channel.ok("router.setAudioLevelsEvent", router(), json!({"enabled": enabled}));
    }
    let plain = json!({"routerId": ROUTER, "transportId": 20_000_000});
    let dump = channel.ok(
        "router.createPlainRtpTransport",
        plain.clone(),
        json!({"remoteIP": "127.0.0.1", "remotePort": 9}),
    );
    let port = dump["localPort"].as_u64().expect("a port");
    assert!((30_000..40_000).contains(&port) && dump["localIP"] == "127.0.0.1", "{dump}");
    let tuple = json!({"localIP": "127.0.0.1", "localPort": port, "remoteIP": "127.0.0.1", "remotePort": 9, "protocol": "udp"});
    assert_eq!(dump["tuple"], tuple);
    assert!(dump.get("x.rtcpPort").is_none(), "RTP and RTCP share a port");
    assert!(UdpSocket::bind(("127.0.0.1", port as u16)).is_err(), "it is really open");
    let mut producer = plain.clone();
    producer["producerId"] = json!(30_000_000);
    let opus = json!({"mimeType": "audio/opus", "payloadType": 100, "clockRate": 48000, "channels": 2});
    let rtp =
        json!({"codecs": [opus], "encodings": [{"ssrc": 7}], "headerExtensions": [], "rtcp": {"cname": "x"}});
    let mapping = json!({"codecPayloadTypes": [[100, 100]], "headerExtensionIds": []});
    channel.ok(
        "router.createProducer",
        producer.clone(),
        json!({"kind": "audio", "rtpParameters": rtp, "rtpMapping": mapping, "paused": false}),
    );
    let consumer = json!({"routerId": ROUTER, "consumerId": 40_000_000, "producerId": 30_000_000});
    channel.ok("router.createConsumer", consumer.clone(), json!({"kind": "audio"}));
    assert_eq!(
        channel.ok("consumer.getStats", consumer.clone(), json!({})),
        json!([]),
        "before it is enabled"
    );
    channel.ok("producer.pause", producer.clone(), json!({}));
    channel.ok("producer.resume", producer.clone(), json!({}));
    channel.ok("producer.close", producer, json!({}));
    let events: Vec<_> = channel.events.drain(..).map(|event| event["event"].clone()).collect();
    assert_eq!(events, ["sourcepaused", "sourceresumed", "close"]);
    channel.ok("transport.close", plain, json!({}));
    assert!(UdpSocket::bind(("127.0.0.1", port as u16)).is_ok(), "and closed");
    channel.ok("router.close", router(), json!({}));
    assert_eq!(channel.ok("worker.dump", json!({}), json!({}))["routers"], json!([]));
}

#[test]
fn bad_input_costs_only_itself() {
    let mut channel = Channel::open(LogSettings::default());
    channel.ok("worker.createRouter", router(), json!({}));
    let why = |channel: &mut Channel, method: &str, internal, data| {
        channel.ask(method, internal, data).expect_err("refused")
    };
    assert_eq!(why(&mut channel, "router.explode", router(), json!({})), "unknown method \"router.explode\"");
    assert_eq!(why(&mut channel, "router.dump", json!({"routerId": 1}), json!({})), "Router does not exist");
    assert_eq!(why(&mut channel, "router.dump", json!([1]), json!({})), "internal.routerId is missing");
    assert_eq!(why(&mut channel, "worker.createRouter", router(), json!({})), "Router already exists");
    let nobody = json!({"routerId": ROUTER, "transportId": 1, "producerId": 2, "consumerId": 3});
    for method in crate::core::message::Method::ALL.iter().map(|method| method.as_str()) {
        if !method.starts_with("worker.") && !method.starts_with("router.") && !method.starts_with("x.") {
            let data = json!({"profile": "low"});
            let reason = why(&mut channel, method, nobody.clone(), data);
            assert!(
                reason.ends_with("does not exist") || reason.ends_with("not supported by this version"),
                "{method}: {reason}"
            );
        }
    }
    // What has no id is dropped; what is no netstring too; what is too long is passed over.
    for noise in [
        &br#"9:{"a":[1,2:3]},"#[..],
        b"15:{\"method\":\"a.b\"},",
        b"2:no,",
        b"0:,",
        b"23:{\"id\":\"1\",\"method\":\"x\"},",
        b"nonsense",
        b"5:{},,",
        &[&b"70000:"[..], &[b'{'; 70_000], b","].concat(),
    ] {
        channel.write(noise);
        // In the socket's order, so the noise was taken before this is answered.
        let dump = channel.ok("worker.dump", json!({}), json!({}));
        assert_eq!(dump["routers"][0]["routerId"], ROUTER, "{:?}", noise.get(..20));
    }
    assert!(channel.lines.iter().all(|line| line.starts_with('E')), "{:?}", channel.lines);
}

#[test]
fn an_answer_that_is_too_long_is_refused_and_not_forgotten() {
    let mut channel = Channel::open(LogSettings::default());
    for n in 0..500 {
        channel.ok("worker.createRouter", json!({"routerId": ROUTER + n}), json!({}));
    }
    let why = channel.ask("worker.dump", json!({}), json!({})).map(drop).expect_err("too long");
    assert!(why.contains("too long"), "{why}");
    channel.ok("router.dump", router(), json!({}));
}

#[test]
fn a_plain_transport_takes_no_orders_of_a_webrtc_one() {
    let mut channel = Channel::open(LogSettings::default());
    channel.ok("worker.createRouter", router(), json!({}));
    let plain = json!({"routerId": ROUTER, "transportId": 20_000_000});
    channel.ok("router.createPlainRtpTransport", plain.clone(), json!({}));
    let dtls = json!({"fingerprints": [{"algorithm": "sha-256", "value": "AA"}]});
    for (method, data) in [
        ("transport.setRemoteDtlsParameters", dtls),
        ("transport.changeUfragPwd", json!({})),
        ("transport.setMaxBitrate", json!({"bitrate": 100_000})),
    ] {
        assert!(channel.ask(method, plain.clone(), data).is_err(), "{method}");
    }
    let stats = channel.ok("transport.getStats", plain.clone(), json!({}));
    let ours = |stats: &serde_json::Map<String, Value>| stats.keys().all(|key| key.starts_with("x."));
    assert!(stats.as_object().is_some_and(ours), "{stats}");
    channel.ok("transport.setRemoteParameters", plain, json!({"ip": "127.0.0.1", "port": 9}));
}

#[test]
fn the_log_tells_what_it_is_asked_to() {
    let mut channel = Channel::open(LogSettings::new(LogLevel::Warn, ["info"]));
    let settings = json!({"logLevel": "debug", "logTags": ["ice", "dtls"]});
    channel.ok("worker.updateSettings", json!(null), settings);
    let why =
        channel.ask("worker.updateSettings", json!(null), json!({"logLevel": "loud"})).expect_err("refused");
    assert!(why.contains("loud"), "{why}");
}

#[test]
fn it_ends_when_its_channel_is_closed_and_when_it_is_told_to() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let ended = |process: &mut RunningProcess| {
        let limit = async { tokio::time::timeout(Duration::from_secs(10), process.ended()).await };
        runtime.block_on(limit).expect("in time").expect("cleanly");
    };
    let mut channel = Channel::open(LogSettings::default());
    channel.ok("worker.createRouter", router(), json!({}));
    drop(channel.socket);
    ended(&mut channel.process);
    let mut channel = Channel::open(LogSettings::default());
    channel.ok("worker.createRouter", router(), json!({}));
    let plain = json!({"routerId": ROUTER, "transportId": 20_000_000});
    channel.ok("router.createPlainRtpTransport", plain, json!({}));
    channel.process.stop();
    let last: Vec<_> = std::iter::from_fn(|| channel.heard()).map(|event| event["event"].clone()).collect();
    assert_eq!(last, ["close"], "the transport is told before the channel ends");
    ended(&mut channel.process);
    channel.process.join();
}
