//! The loop and the pool with an engine that sends back what it gets, over loopback.

mod phones;
mod process;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::core::control::netstring;
use crate::core::id::StreamId;
use crate::core::io::config::IoConfig;
use crate::core::io::engine::{Action, Engine, LegSocket, LegSockets, Verdict};
use crate::core::io::pool::{PoolEvent, Seat, WorkerPool, WorkerPort};
use crate::core::io::{clock, stats::IoCounters};
use crate::core::mail::Mail;
use crate::core::rtp::batch::SendBatch;
use crate::core::rtp::path::Path;
use crate::core::session::{Command, Input, NoSessions, Output, Session};

/// Sends everything back to where it came from.
#[derive(Default)]
struct Echo {
    datagrams: VecDeque<(Path, Vec<u8>)>,
    control: VecDeque<Vec<u8>>,
    actions: VecDeque<Action>,
    busy: Duration,
}

impl Engine for Echo {
    fn handle_control(&mut self, _: Instant, json: &[u8]) {
        match json {
            b"panic" => panic!("asked to"),
            b"busy" => self.busy = Duration::from_micros(300),
            b"big" => self.control.push_back(vec![b'x'; 100_000]),
            b"end" => self.actions.push_back(Action::Shutdown),
            other => self.control.push_back(other.to_vec()),
        }
    }
    fn poll_control(&mut self) -> Option<Vec<u8>> {
        self.control.pop_front()
    }
    fn handle_mail(&mut self, _: Instant, mail: Mail, stream: Option<StreamId>) {
        assert!(matches!(mail, Mail::Stream { attach: 7, socket: None, .. }));
        let stream = stream.expect("a socket came with it");
        self.actions.push_back(Action::Write { stream, bytes: b"hello".to_vec() });
    }
    fn handle_datagram(&mut self, _: Instant, path: Path, data: &mut [u8]) -> Verdict {
        if data.starts_with(b"?") {
            return Verdict::Unknown;
        }
        let began = Instant::now();
        while began.elapsed() < self.busy {
            std::hint::spin_loop();
        }
        self.datagrams.push_back((path, data.to_vec()));
        Verdict::Claimed
    }
    fn handle_stream(&mut self, _: Instant, stream: StreamId, data: &[u8]) {
        let bytes = if data == b"flood" { vec![b'x'; 1 << 20] } else { data.to_vec() };
        self.actions.push_back(Action::Write { stream, bytes });
        if data.ends_with(b"bye") {
            self.actions.push_back(Action::Close { stream });
        }
    }
    fn handle_stream_closed(&mut self, _: Instant, stream: StreamId) {
        self.control.push_back(format!("closed {stream}").into_bytes());
    }
    fn handle_lanes(&mut self, _: Instant) {}
    fn handle_timeout(&mut self, _: Instant) {}
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn handle_leg(&mut self, _now: Instant, _path: Path, _data: &mut [u8]) {}
    fn handle_leg_opened(&mut self, _now: Instant, _leg: u32, _opened: Result<LegSockets, String>) {}
    fn handle_mirror_opened(&mut self, _transport: u32, _opened: Result<LegSocket, String>) {}
    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
    fn flush(&mut self, _: Instant, batch: &mut SendBatch) -> bool {
        while let Some((path, data)) = self.datagrams.pop_front() {
            if !batch.push(path, &data) {
                self.datagrams.push_front((path, data));
                return true;
            }
        }
        false
    }
    fn handle_shutdown(&mut self, _: Instant) {}
}

struct NoSession;

impl Session for NoSession {
    fn handle_input(&mut self, _: Instant, _: Input<'_>) {}
    fn command(&mut self, _: Instant, _: Command) -> Result<Value, String> {
        Ok(Value::Null)
    }
    fn handle_timeout(&mut self, _: Instant) {}
    fn poll_output(&mut self) -> Option<Output> {
        None
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn dump(&self) -> Value {
        Value::Null
    }
}

struct Bench {
    pool: WorkerPool,
    port: WorkerPort,
    reader: netstring::Reader,
}

const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));

impl Bench {
    fn new(config: IoConfig) -> Bench {
        let listen = vec!["127.0.0.1".parse().expect("address"), "::1".parse().expect("address")];
        let config = IoConfig { workers: 1, pin: false, port: 0, listen, ..config };
        let make = |_: Seat| Echo::default();
        let started = WorkerPool::start(config, clock::epoch(), Arc::new(NoSessions), make);
        let (pool, mut ports) = started.expect("start");
        let mut bench =
            Bench { pool, port: ports.pop().expect("one"), reader: netstring::Reader::new(1 << 20) };
        bench.plug();
        bench
    }

    fn plug(&mut self) {
        self.port.control.set_nonblocking(false).expect("blocking");
        self.port.control.set_read_timeout(PATIENCE).expect("timeout");
        self.reader = netstring::Reader::new(1 << 20);
    }

    fn address(&self, v4: bool) -> SocketAddr {
        let found = self.port.candidates.iter().find(|c| !c.tcp && c.address.is_ipv4() == v4);
        found.expect("candidate").address
    }

    fn udp(&self, v4: bool) -> UdpSocket {
        let socket = UdpSocket::bind(if v4 { "127.0.0.1:0" } else { "[::1]:0" }).expect("bind");
        socket.set_read_timeout(PATIENCE).expect("timeout");
        socket.connect(self.address(v4)).expect("connect");
        socket
    }

    fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address(true)).expect("connect");
        stream.set_read_timeout(PATIENCE).expect("timeout");
        stream
    }

    fn say(&mut self, text: &str) {
        let mut bytes = Vec::new();
        netstring::write(text.as_bytes(), 1 << 20, &mut bytes).expect("short");
        self.port.control.write_all(&bytes).expect("write");
    }

    /// The next answer; `None` when the worker closed its end.
    fn heard(&mut self) -> Option<Vec<u8>> {
        let mut buffer = [0; 65_536];
        loop {
            if let Some(payload) = self.reader.next_payload().expect("framing") {
                return Some(payload.to_vec());
            }
            match self.port.control.read(&mut buffer).expect("an answer in time") {
                0 => return None,
                count => self.reader.feed(&buffer[..count]),
            }
        }
    }

    fn adopt(&mut self) -> UnixStream {
        let (near, far) = UnixStream::pair().expect("pair");
        let mail = Mail::Stream { attach: 7, session: Box::new(NoSession), socket: Some(far.into()) };
        assert!(self.port.mail.send(mail).is_ok());
        near.set_read_timeout(PATIENCE).expect("timeout");
        near
    }

    /// Waits until the counters say so.
    fn counters(&self, enough: impl Fn(&IoCounters) -> bool) -> IoCounters {
        let began = Instant::now();
        loop {
            let counters = self.port.stats.snapshot();
            if enough(&counters) || began.elapsed() > Duration::from_secs(10) {
                assert!(enough(&counters), "{counters:?}");
                return counters;
            }
            std::thread::yield_now();
        }
    }
}

fn framed(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u16).to_be_bytes()[..], payload].concat()
}

#[test]
fn datagrams_go_through_over_both_families() {
    let bench = Bench::new(IoConfig::default());
    for v4 in [true, false] {
        let client = bench.udp(v4);
        for number in 0..50u8 {
            client.send(&[number; 1000]).expect("send");
        }
        let mut buffer = [0; 2000];
        for number in 0..50u8 {
            let len = client.recv(&mut buffer).expect("echo");
            assert_eq!((len, buffer[0]), (1000, number));
        }
    }
    let counters = bench.counters(|c| c.udp_out_packets == 100);
    assert_eq!((counters.udp_in_packets, counters.udp_in_malformed), (100, 0));
}

#[test]
fn ice_tcp_frames_go_through_however_they_are_cut() {
    let bench = Bench::new(IoConfig::default());
    let mut client = bench.tcp();
    let sent = [framed(b"first"), framed(&[]), framed(&[7; 1200])].concat();
    for piece in sent.chunks(5) {
        client.write_all(piece).expect("write");
    }
    let mut echo = vec![0; sent.len() - 2];
    client.read_exact(&mut echo).expect("echo");
    assert_eq!(echo, [framed(b"first"), framed(&[7; 1200])].concat());
    drop(client);
    let mut bench = bench;
    assert_eq!(bench.heard().expect("told"), b"closed 1");
}

#[test]
fn ice_tcp_that_brings_nothing_valid_is_closed() {
    let bench = Bench::new(IoConfig { tcp_first_frame_ms: 100, ..IoConfig::default() });
    let mut stranger = bench.tcp();
    stranger.write_all(&framed(b"?")).expect("write");
    let mut silent = bench.tcp();
    let mut endless = bench.tcp();
    endless.write_all(&[0xff, 0xff]).expect("write");
    let mut proven = bench.tcp();
    proven.write_all(&[framed(b"mine"), framed(b"?")].concat()).expect("write");
    let mut buffer = [0; 100];
    for client in [&mut stranger, &mut silent, &mut endless] {
        assert_eq!(client.read(&mut buffer).expect("closed, not reset"), 0);
    }
    proven.read_exact(&mut buffer[..6]).expect("echo");
    proven.write_all(&framed(b"still")).expect("write");
    proven.read_exact(&mut buffer[..7]).expect("still open");
    bench.counters(|c| c.tcp_refused == 3 && c.streams == 1);
}

#[test]
fn ice_tcp_connections_of_one_address_are_bounded() {
    let bench = Bench::new(IoConfig { tcp_connections_per_address: 2, ..IoConfig::default() });
    let mut clients: Vec<_> = (0..3).map(|_| bench.tcp()).collect();
    let mut buffer = [0; 10];
    assert_eq!(clients[2].read(&mut buffer).expect("closed"), 0);
    drop(clients.remove(0));
    bench.counters(|c| c.streams == 1);
    let mut next = bench.tcp();
    next.write_all(&framed(b"x")).expect("write");
    next.read_exact(&mut buffer[..3]).expect("accepted");
}

#[test]
fn an_adopted_stream_is_read_written_and_closed_after_its_last_bytes() {
    let mut bench = Bench::new(IoConfig::default());
    let mut client = bench.adopt();
    let mut buffer = [0; 100];
    client.read_exact(&mut buffer[..5]).expect("greeting");
    client.write_all(b"ping").expect("write");
    client.read_exact(&mut buffer[..4]).expect("echo");
    client.write_all(b"and bye").expect("write");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("closed");
    assert_eq!(rest, b"and bye");
    drop(client);
    bench.counters(|c| c.streams == 0 && c.rounds > 1);
    bench.say("told of nothing");
    assert_eq!(bench.heard().expect("answer"), b"told of nothing");
}

#[test]
fn an_adopted_stream_that_takes_nothing_is_closed_and_the_engine_told() {
    let mut bench = Bench::new(IoConfig { stream_write_bytes: 3 << 20, ..IoConfig::default() });
    let mut client = bench.adopt();
    let mut answered = 0;
    let told = loop {
        // One megabyte an answer, none of it read; the answer to "next" says the flood was handled.
        client.write_all(b"flood").expect("write");
        bench.counters(|c| c.stream_in_bytes >= (answered + 1) * 5 || c.streams_overflowed == 1);
        answered += 1;
        bench.say("next");
        match bench.heard().expect("answer") {
            answer if answer == b"next" => assert!(answered < 20, "never closed"),
            answer => break answer,
        }
    };
    assert_eq!(told, b"closed 1");
    bench.counters(|c| c.streams == 0 && c.streams_overflowed == 1);
}

#[test]
fn a_panicking_worker_is_replaced_on_the_same_port() {
    let mut bench = Bench::new(IoConfig::default());
    let client = bench.udp(true);
    let mut lost = bench.tcp();
    lost.write_all(&framed(b"x")).expect("write");
    let mut buffer = [0; 100];
    lost.read_exact(&mut buffer[..3]).expect("echo");
    bench.say("panic");
    assert_eq!(bench.heard(), None, "main sees the old control socket close");
    assert_eq!(lost.read(&mut buffer).unwrap_or(0), 0, "its streams are gone");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    let PoolEvent::Replaced { worker, port } = runtime.block_on(bench.pool.next_event()).expect("event");
    assert_eq!((worker, &port.candidates), (bench.port.id, &bench.port.candidates));
    bench.port = port;
    bench.plug();
    client.send(b"again").expect("send");
    assert_eq!(client.recv(&mut buffer).expect("echo"), 5);
    bench.say("alive");
    assert_eq!(bench.heard().expect("answer"), b"alive");
}

#[test]
fn a_slow_reader_of_control_gets_everything_in_the_end() {
    let mut bench = Bench::new(IoConfig { control_write_bytes: 200_000, ..IoConfig::default() });
    for _ in 0..100 {
        bench.say("big");
    }
    bench.say("last");
    for _ in 0..100 {
        assert_eq!(bench.heard().expect("answer").len(), 100_000);
    }
    assert_eq!(bench.heard().expect("answer"), b"last");
}

#[test]
fn a_worker_ends_when_asked_and_frees_its_port() {
    let mut bench = Bench::new(IoConfig::default());
    let address = bench.address(true);
    bench.say("end");
    assert_eq!(bench.heard(), None);
    let Bench { pool, port, .. } = bench;
    pool.shutdown();
    drop(port);
    UdpSocket::bind(address).expect("free again");
}

#[test]
fn the_pool_ends_workers_that_sleep() {
    let bench = Bench::new(IoConfig::default());
    let address = bench.address(false);
    bench.counters(|c| c.rounds > 0);
    bench.pool.shutdown();
    UdpSocket::bind(address).expect("free again");
}

#[test]
fn a_loaded_worker_puts_its_rounds_off() {
    let mut bench = Bench::new(IoConfig { tick_us: 1000, ..IoConfig::default() });
    let client = bench.udp(true);
    bench.say("busy");
    let mut buffer = [0; 10];
    let began = Instant::now();
    while bench.port.stats.snapshot().tick_rounds < 5 && began.elapsed() < Duration::from_secs(10) {
        client.send(b"work").expect("send");
        client.recv(&mut buffer).expect("echo");
    }
    let counters = bench.counters(|c| c.tick_rounds >= 5);
    assert!(counters.tick_wait_us >= counters.tick_rounds, "{counters:?}");
}
