//! Plain RTP legs over loopback: the real worker on its thread, real ports of a range, many telephones.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::core::control::netstring;
use crate::core::io::clock;
use crate::core::io::config::IoConfig;
use crate::core::io::pool::{Seat, WorkerPool, WorkerPort};
use crate::core::session::{LocalCandidate, Session, SessionFactory};
use crate::core::time::Epoch;
use crate::core::worker::{GopConfig, LegsConfig, Worker, WorkerConfig};

const PHONES: u32 = 60;

struct NoSessions;

impl SessionFactory for NoSessions {
    fn webrtc(
        &self,
        _: Instant,
        _: Epoch,
        _: &Value,
        _: &[LocalCandidate],
    ) -> Result<Box<dyn Session>, String> {
        Err("none".to_string())
    }
    fn route_key<'a>(&self, _: &'a [u8]) -> Option<&'a str> {
        None
    }
}

struct Control {
    _pool: WorkerPool,
    port: WorkerPort,
    reader: netstring::Reader,
    requests: u32,
    answers: HashMap<u32, Value>,
}

impl Control {
    fn new(ports: (u16, u16)) -> Self {
        let listen = vec!["127.0.0.1".parse().expect("address")];
        let (leg_port_min, leg_port_max) = ports;
        let config = IoConfig {
            workers: 1,
            pin: false,
            port: 0,
            listen,
            leg_port_min,
            leg_port_max,
            ..Default::default()
        };
        let make = |seat: Seat| {
            let config = WorkerConfig {
                id: seat.id,
                candidates: seat.candidates,
                gop: GopConfig::default(),
                max_publish_bitrate: 1_000_000,
                legs: LegsConfig::default(),
            };
            Worker::new(config, seat.epoch, seat.factory, seat.seed)
        };
        let (pool, mut ports) =
            WorkerPool::start(config, clock::epoch(), Arc::new(NoSessions), make).expect("start");
        let port = ports.pop().expect("one");
        port.control.set_nonblocking(false).expect("blocking");
        port.control.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        let reader = netstring::Reader::new(1 << 20);
        Control { _pool: pool, port, reader, requests: 0, answers: HashMap::new() }
    }

    fn ask(&mut self, method: &str, ids: [u32; 3], data: Value) -> u32 {
        self.requests += 1;
        let [transport, producer, consumer] = ids;
        let internal =
            json!({"routerId": 1, "transportId": transport, "producerId": producer, "consumerId": consumer});
        let mut request = json!({"id": self.requests, "method": method, "internal": internal, "data": data});
        if let Some(internal) = request["internal"].as_object_mut() {
            internal.retain(|_, id| *id != 0);
        }
        let mut bytes = Vec::new();
        netstring::write(&serde_json::to_vec(&request).expect("json"), 1 << 20, &mut bytes).expect("short");
        self.port.control.write_all(&bytes).expect("write");
        self.requests
    }

    fn answer(&mut self, id: u32) -> Result<Value, String> {
        let mut buffer = [0; 65_536];
        loop {
            if let Some(answer) = self.answers.remove(&id) {
                return match answer.get("data") {
                    Some(data) => Ok(data.clone()),
                    None => Err(answer["reason"].to_string()),
                };
            }
            while let Some(payload) = self.reader.next_payload().expect("framing") {
                let message: Value = serde_json::from_slice(payload).expect("json");
                if let Some(id) = message["id"].as_u64() {
                    self.answers.insert(id as u32, message);
                }
            }
            if self.answers.contains_key(&id) {
                continue;
            }
            let count = self.port.control.read(&mut buffer).expect("an answer in time");
            assert!(count > 0, "the worker is there");
            self.reader.feed(&buffer[..count]);
        }
    }

    fn ok(&mut self, method: &str, ids: [u32; 3], data: Value) -> Value {
        let id = self.ask(method, ids, data);
        self.answer(id).unwrap_or_else(|reason| panic!("{method}: {reason}"))
    }
}

/// `count` ports in a row, from an even one on, that nobody has.
fn free_ports(count: u16) -> (u16, u16) {
    let free = |port| UdpSocket::bind(("127.0.0.1", port)).is_ok();
    let base = (31_000..60_000).step_by(usize::from(count)).find(|base| (*base..base + count).all(free));
    let base = base.expect("free ports");
    (base, base + count - 1)
}

fn packet(ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 160).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend([ssrc as u8; 160]);
    packet
}

#[test]
fn many_telephones_each_hear_the_next_one_on_ports_of_the_range() {
    let range = free_ports(2 * PHONES as u16);
    let mut control = Control::new(range);
    control.ok("worker.createRouter", [0; 3], json!({}));
    let codecs = json!([{"mimeType": "audio/PCMU", "payloadType": 0, "clockRate": 8000}]);
    for round in 0..2 {
        let phones: Vec<UdpSocket> =
            (0..PHONES).map(|_| UdpSocket::bind("127.0.0.1:0").expect("bind")).collect();
        let base = 10_000 * (round + 1);
        let mut ports = Vec::new();
        for (n, phone) in (0..).zip(&phones) {
            phone.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
            let made = control.ok("router.createPlainRtpTransport", [base + n, 0, 0], json!({}));
            let (port, rtcp) = (made["localPort"].as_u64().unwrap_or(0), made["x.rtcpPort"].as_u64());
            assert!(port % 2 == 0 && rtcp == Some(port + 1), "{made}");
            assert!((u64::from(range.0)..=u64::from(range.1)).contains(&port), "{port}");
            ports.push(port as u16);
            let address = phone.local_addr().expect("address");
            let remote = json!({"ip": address.ip(), "port": address.port()});
            control.ok("transport.setRemoteParameters", [base + n, 0, 0], remote);
            let rtp = json!({"kind": "audio", "rtpParameters": {"codecs": codecs, "encodings": [{}]}});
            control.ok("router.createProducer", [base + n, base + 1000 + n, 0], rtp);
        }
        let mut different = ports.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), PHONES as usize);
        let more = control.ask("router.createPlainRtpTransport", [base + 999, 0, 0], json!({}));
        assert!(control.answer(more).is_err_and(|reason| reason.contains("no RTP port")));
        for n in 0..PHONES {
            let (consumer, source) = (base + 2000 + n, base + 1000 + (n + 1) % PHONES);
            control.ok("router.createConsumer", [0, source, consumer], json!({"kind": "audio"}));
            let rtp = json!({"codecs": codecs, "encodings": [{"ssrc": consumer}]});
            control.ok("consumer.enable", [base + n, 0, consumer], json!({"rtpParameters": rtp}));
        }
        for sequence in 0..5 {
            for (n, (phone, port)) in (0..).zip(phones.iter().zip(&ports)) {
                phone.send_to(&packet(n, sequence), ("127.0.0.1", *port)).expect("send");
            }
        }
        let mut buffer = [0; 2000];
        for (n, (phone, port)) in (0..PHONES).zip(phones.iter().zip(&ports)) {
            for _ in 0..5 {
                let (len, from) = phone.recv_from(&mut buffer).expect("the next one's voice");
                assert_eq!((len, from.port()), (172, *port), "symmetric");
                assert_eq!(buffer[20], ((n + 1) % PHONES) as u8);
            }
        }
        assert_eq!(control.port.stats.snapshot().legs, 2 * u64::from(PHONES));
        for n in 0..PHONES {
            control.ok("transport.close", [base + n, 0, 0], json!({}));
        }
        // The answer is given in the round that closes the sockets; the next round has counted them.
        control.ok("worker.dump", [0; 3], json!({}));
    }
    let began = Instant::now();
    while control.port.stats.snapshot().legs > 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "sockets stay open");
        control.ok("worker.dump", [0; 3], json!({}));
    }
}
