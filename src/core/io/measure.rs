//! What a sent packet costs: 500 receivers on the loopback interface, 7 datagrams of 1,200 bytes each, as
//! one video frame makes them. Run by hand, in a release build:
//! `cargo test --release --lib measure -- --ignored --nocapture`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::core::io::config::IoConfig;
use crate::core::io::receive::Receiver;
use crate::core::io::send::Sender;
use crate::core::io::stats::IoCounters;
use crate::core::io::sys;
use crate::core::io::udp::UdpSocket;
use crate::core::rtp::batch::SendBatch;
use crate::core::rtp::path::Path;

const RECEIVERS: usize = 500;
const PACKETS: usize = 7;
const SIZE: usize = 1200;
const ROUNDS: usize = 60;

fn socket(address: &str, gso: bool) -> UdpSocket {
    let config = IoConfig { gso, ..IoConfig::default() };
    UdpSocket::bind(address.parse().expect("address"), &config).expect("bind")
}

struct Case {
    name: &'static str,
    gso: bool,
    gro: bool,
    read: bool,
    any: bool,
}

/// Reads all receivers until told to stop; how many datagrams came.
fn drain(sockets: &[UdpSocket], stop: &AtomicBool) -> u64 {
    let (mut receiver, mut packets) = (Receiver::new(4), 0);
    while !stop.load(Ordering::Relaxed) {
        for socket in sockets {
            let count = receiver.receive(socket).expect("receive");
            for index in 0..count {
                packets += receiver.train(index).expect("train").datagrams().count() as u64;
            }
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    packets
}

fn measure(case: &Case) -> (u64, IoCounters, u64) {
    let sinks: Vec<UdpSocket> = (0..RECEIVERS).map(|_| socket("127.0.0.1:0", true)).collect();
    for sink in &sinks {
        let gro = i32::from(case.gro);
        sys::set_option(sink.as_fd(), libc::SOL_UDP, libc::UDP_GRO, gro).expect("option");
    }
    let remotes: Vec<SocketAddr> = sinks.iter().map(|sink| sink.address).collect();
    let sinks = Arc::new(sinks);
    let stop = Arc::new(AtomicBool::new(false));
    let reader = case.read.then(|| {
        let (sinks, stop) = (sinks.clone(), stop.clone());
        std::thread::spawn(move || drain(&sinks, &stop))
    });
    let mut sockets = [socket(if case.any { "0.0.0.0:0" } else { "127.0.0.1:0" }, case.gso)];
    let local = "127.0.0.1".parse().expect("address");
    let defaults = IoConfig::default();
    let mut batch = SendBatch::new(defaults.send_batch_bytes, defaults.send_batch_runs);
    let mut sender = Sender::new(Duration::from_millis(2));
    let mut counters = IoCounters::default();
    let payload = [7u8; SIZE];
    let mut costs = Vec::new();
    for _ in 0..ROUNDS {
        let before = sys::thread_cpu_time();
        for remote in &remotes {
            let path = Path::Udp { socket: 0, local, remote: *remote };
            for _ in 0..PACKETS {
                if !batch.push(path, &payload) {
                    sender.send(&mut sockets[..], &batch, &mut counters, |_, _| {});
                    batch.clear();
                    assert!(batch.push(path, &payload));
                }
            }
        }
        sender.send(&mut sockets[..], &batch, &mut counters, |_, _| {});
        batch.clear();
        let used = sys::thread_cpu_time() - before;
        costs.push(used.as_nanos() as u64 / (RECEIVERS * PACKETS) as u64);
        std::thread::sleep(Duration::from_millis(3));
    }
    std::thread::sleep(Duration::from_millis(50));
    stop.store(true, Ordering::Relaxed);
    let received = reader.map_or(0, |reader| reader.join().expect("reader"));
    costs.sort_unstable();
    (costs[costs.len() / 4], counters, received)
}

#[test]
#[ignore = "a measurement"]
fn cost_of_a_sent_packet() {
    let case = |name, gso, gro, read, any| Case { name, gso, gro, read, any };
    let cases = [
        case("GSO, GRO receivers", true, true, true, false),
        case("GSO, GRO receivers, address chosen", true, true, true, true),
        case("GSO, plain unread receivers", true, false, false, false),
        case("singly, GRO receivers", false, true, true, false),
        case("singly, GRO receivers, address chosen", false, true, true, true),
        case("singly, plain unread receivers", false, false, false, false),
    ];
    let mut all: HashMap<&str, Vec<u64>> = HashMap::new();
    for _ in 0..3 {
        for case in &cases {
            let (cost, counters, received) = measure(case);
            assert_eq!(counters.udp_out_packets, (ROUNDS * RECEIVERS * PACKETS) as u64);
            if case.read {
                assert!(received * 10 >= counters.udp_out_packets * 9, "{received} received");
            }
            all.entry(case.name).or_default().push(cost);
            let per_call = counters.udp_out_packets / counters.udp_out_calls;
            println!("{:40} {cost:5} ns a packet, {per_call} packets a call", case.name);
        }
    }
    for case in &cases {
        println!("{:40} {:?}", case.name, all[case.name]);
    }
}
