//! Plain RTP legs over loopback: the real worker on its thread, real ports of a range, many telephones.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::core::auth::Principal;
use crate::core::capabilities::{Encoding, Kind, RtpCodec, RtpParameters};
use crate::core::control::{
    Join, Peer, PeerEvent, PeerEvents, PlainOptions, PlainRemote, PlainTransport, Produce, Rooms,
    RoomsConfig, netstring,
};
use crate::core::id::{ConsumerId, ProducerId};
use crate::core::io::clock;
use crate::core::io::config::IoConfig;
use crate::core::io::pool::{Seat, WorkerPool, WorkerPort};
use crate::core::peer::{CloseReason, PeerKind};
use crate::core::room::RoomName;
use crate::core::rtp::bwe::RateLimits;
use crate::core::session::NoSessions;
use crate::core::worker::{GopConfig, LegsConfig, Worker, WorkerConfig};

const PHONES: u32 = 60;

struct Control {
    _pool: WorkerPool,
    port: WorkerPort,
    reader: netstring::Reader,
    requests: u32,
    answers: HashMap<u32, Value>,
}

/// One worker with legs on `ports`.
fn start(ports: (u16, u16)) -> (WorkerPool, WorkerPort) {
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
            layers: Default::default(),
            rates: RateLimits::default(),
            legs: LegsConfig::default(),
            channel: None,
            data: Default::default(),
        };
        Worker::new(config, seat.epoch, seat.factory, seat.seed)
    };
    let started = WorkerPool::start(config, clock::epoch(), Arc::new(NoSessions), make);
    let (pool, mut ports) = started.expect("start");
    (pool, ports.pop().expect("one"))
}

impl Control {
    fn new(ports: (u16, u16)) -> Self {
        let (pool, port) = start(ports);
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

/// `count` ports in a row, from an even one not below `first` on, that nobody has.
fn free_ports(first: u16, count: u16) -> (u16, u16) {
    let free = |port| UdpSocket::bind(("127.0.0.1", port)).is_ok();
    let base =
        (first..first + 5_000).step_by(usize::from(count)).find(|base| (*base..base + count).all(free));
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
    let range = free_ports(20_000, 2 * PHONES as u16);
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
            let made =
                control.ok("router.createPlainRtpTransport", [base + n, 0, 0], json!({"x.rtcpMux": false}));
            let (port, rtcp) = (made["localPort"].as_u64().unwrap_or(0), made["x.rtcpPort"].as_u64());
            assert!(port % 2 == 0 && rtcp == Some(port + 1), "{made}");
            assert!((u64::from(range.0)..=u64::from(range.1)).contains(&port), "{port}");
            ports.push(port as u16);
            let address = phone.local_addr().expect("address");
            let remote = json!({"ip": address.ip(), "port": address.port(), "x.rtcpMux": false});
            control.ok("transport.setRemoteParameters", [base + n, 0, 0], remote);
            let rtp = json!({"kind": "audio", "rtpParameters": {"codecs": codecs, "encodings": [{}]}});
            control.ok("router.createProducer", [base + n, base + 1000 + n, 0], rtp);
        }
        let mut different = ports.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), PHONES as usize);
        let more =
            control.ask("router.createPlainRtpTransport", [base + 999, 0, 0], json!({"x.rtcpMux": false}));
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
            control.ok("transport.close", [base + n, 0, 0], json!({"x.rtcpMux": false}));
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

/// A telephone in a room, by way of the doors' own interface.
struct Guest {
    peer: Peer,
    leg: PlainTransport,
    events: PeerEvents,
    phone: UdpSocket,
    producer: ProducerId,
    consumer: ConsumerId,
    sequence: u16,
}

fn codecs() -> Vec<RtpCodec> {
    let codecs = json!([{"mimeType": "audio/PCMU", "payloadType": 0, "clockRate": 8000},
        {"mimeType": "audio/telephone-event", "payloadType": 101, "clockRate": 8000}]);
    serde_json::from_value(codecs).expect("codecs")
}

impl Guest {
    async fn join(rooms: &Rooms, name: &str, ssrc: u32) -> Guest {
        let room = RoomName::new("phones", &[]).expect("a name");
        let join = Join {
            name: Some(name.into()),
            publishes: true,
            ..Join::new(room, PeerKind::Whip, Principal::internal())
        };
        let peer = rooms.join(join).await.expect("joined");
        let events = peer.events();
        let leg = peer.create_plain_transport(PlainOptions::default()).await.expect("a leg");
        let phone = UdpSocket::bind("127.0.0.1:0").expect("bind");
        phone.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        let remote = PlainRemote {
            dtmf_payload_types: vec![(101, 8000)],
            ..PlainRemote::at(phone.local_addr().expect("address"))
        };
        peer.connect_plain(leg.id, remote).await.expect("connected");
        let mut rtp =
            RtpParameters { codecs: codecs(), encodings: vec![Encoding::default()], ..Default::default() };
        let producer = peer.produce(leg.id, Produce::new(Kind::Audio, rtp.clone())).await.expect("a track");
        rtp.encodings[0].ssrc = Some(ssrc);
        let consumer = peer.consume_program(leg.id, Kind::Audio, rtp).await.expect("the program");
        Guest { peer, leg, events, phone, producer, consumer, sequence: 0 }
    }

    fn say(&mut self, payload_type: u8, payload: &[u8]) {
        let mut packet = packet(7, self.sequence);
        packet.truncate(12);
        packet[1] = payload_type;
        packet.extend(payload);
        self.sequence += 1;
        self.phone.send_to(&packet, ("127.0.0.1", self.leg.port)).expect("send");
    }

    /// The next RTP packet of `payload_type`.
    fn hear(&self, payload_type: u8) -> Vec<u8> {
        let mut buffer = [0; 2000];
        loop {
            let len = self.phone.recv(&mut buffer).expect("something in time");
            if buffer[1] & 0x7f == payload_type {
                return buffer[12..len].to_vec();
            }
        }
    }
}

#[test]
fn a_door_joins_two_telephones_and_is_told_their_keys() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let (_pool, port) = start(free_ports(26_000, 8));
    runtime.block_on(async {
        let rooms = Rooms::new(RoomsConfig::default(), clock::epoch(), None);
        rooms.attach_worker(port).expect("attached");
        let mut one = Guest::join(&rooms, "one", 11).await;
        let mut two = Guest::join(&rooms, "two", 22).await;
        one.say(0, &[1; 160]);
        let transport = one.leg.id;
        assert_eq!(one.events.next().await, Some(PeerEvent::MediaStarted { transport }));
        assert_eq!(two.hear(0)[0], 1);
        two.say(0, &[2; 160]);
        assert_eq!(one.hear(0)[0], 2);
        one.say(101, &[5, 0x8a, 3, 0x20]);
        one.say(101, &[5, 0x8a, 3, 0x20]);
        let key = PeerEvent::Dtmf { transport, digit: '5', duration_ms: 100 };
        assert_eq!(one.events.next().await, Some(key));
        two.peer.send_dtmf(two.consumer, "7", 100).await.expect("played");
        let mut ends = 0;
        while ends < 3 {
            let key = two.hear(101);
            assert_eq!(key[0], 7);
            ends += u32::from(key[1] & 0x80 != 0);
        }
        // On hold nothing of one is forwarded; afterwards it is again.
        one.peer.pause_producer(one.producer).await.expect("paused");
        one.say(0, &[3; 160]);
        one.peer.pause_consumer(one.consumer).await.expect("paused");
        one.peer.resume_consumer(one.consumer).await.expect("resumed");
        one.peer.resume_producer(one.producer).await.expect("resumed");
        // What was said on hold has been handled before this answer came, or is handled after it.
        one.peer
            .connect_plain(transport, PlainRemote::at(one.phone.local_addr().expect("address")))
            .await
            .expect("again");
        one.say(0, &[4; 160]);
        while two.hear(0)[0] != 4 {}
        one.peer.close_transport(transport).await.expect("closed");
        assert!(one.peer.close_transport(transport).await.is_err());
        two.peer.close(CloseReason::left()).await;
        assert_eq!(two.events.next().await, Some(PeerEvent::MediaStarted { transport: two.leg.id }));
        assert_eq!(two.events.next().await, None);
        assert!(two.peer.create_plain_transport(PlainOptions::default()).await.is_err());
    });
}
