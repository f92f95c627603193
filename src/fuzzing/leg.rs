//! A telephone's leg under any datagrams from anywhere.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::core::id::WorkerId;
use crate::core::io::clock;
use crate::core::rtp::batch::SendBatch;
use crate::core::rtp::bwe::RateLimits;
use crate::core::rtp::header::is_rtcp;
use crate::core::rtp::path::{FIRST_LEG_SOCKET, LegSocket, LegSockets, Path};
use crate::core::session::NoSessions;
use crate::core::time::Epoch;
use crate::core::worker::{Action, GopConfig, LegsConfig, Worker, WorkerConfig};

/// Where datagrams come from; the SDP names the first.
const SOURCES: [&str; 4] = ["10.0.0.9:4000", "198.51.100.7:61000", "198.51.100.7:61001", "192.0.2.66:9"];

/// A leg whose own sound comes back to it; see [`leg`].
fn worker(epoch: Epoch) -> Worker {
    let config = WorkerConfig {
        id: WorkerId(0),
        candidates: Vec::new(),
        gop: GopConfig::default(),
        max_publish_bitrate: 1_000_000,
        layers: Default::default(),
        rates: RateLimits::default(),
        legs: LegsConfig::default(),
        channel: None,
        data: Default::default(),
    };
    let mut worker = Worker::new(config, epoch, Arc::new(NoSessions), 1);
    let codecs = json!([{"mimeType": "audio/PCMU", "payloadType": 0, "clockRate": 8000},
        {"mimeType": "audio/CN", "payloadType": 13, "clockRate": 8000},
        {"mimeType": "audio/telephone-event", "payloadType": 101, "clockRate": 8000}]);
    let all = json!({"routerId": 1, "transportId": 2, "producerId": 3, "consumerId": 4});
    for (method, data) in [
        ("worker.createRouter", json!({})),
        ("router.createPlainRtpTransport", json!({"x.latch": true})),
        ("transport.setRemoteParameters", json!({"ip": "10.0.0.9", "port": 4000})),
        (
            "router.createProducer",
            json!({"kind": "audio", "rtpParameters": {"codecs": codecs, "encodings": [{}]}}),
        ),
        ("router.createConsumer", json!({"kind": "audio"})),
        ("consumer.enable", json!({"rtpParameters": {"codecs": codecs, "encodings": [{"ssrc": 7}]}})),
    ] {
        let request = json!({"id": 1, "method": method, "internal": all, "data": data});
        worker.handle_control(epoch.instant, request.to_string().as_bytes());
    }
    let address = |port| SocketAddr::from(([0, 0, 0, 0], port));
    let socket = |n: u16| LegSocket { socket: FIRST_LEG_SOCKET + u32::from(n), address: address(10_000 + n) };
    worker.handle_leg_opened(epoch.instant, 2, Ok(LegSockets { rtp: socket(0), rtcp: Some(socket(1)) }));
    worker
}

/// Plain RTP legs: each datagram is led by a byte that says from where it comes, to which socket and how much
/// later, and by its length. Sound goes to the SDP's address and to nobody who has not sent.
pub fn leg(data: &[u8]) {
    let epoch = clock::epoch();
    let mut worker = worker(epoch);
    let mut batch = SendBatch::new(1 << 16, 64);
    let (mut now, mut rest) = (epoch.instant, data);
    let sources: Vec<SocketAddr> = SOURCES.iter().map(|source| source.parse().expect("an address")).collect();
    let mut known = HashSet::from([sources[0]]);
    while let [choice, length, tail @ ..] = rest {
        let (datagram, later) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = later;
        let remote = sources[usize::from(choice & 3)];
        let socket = FIRST_LEG_SOCKET + u32::from(choice >> 2 & 1);
        now += Duration::from_millis(u64::from(choice >> 3) * 20);
        known.insert(remote);
        let path = Path::Udp { socket, local: [192, 0, 2, 1].into(), remote };
        worker.handle_leg(now, path, &mut datagram.to_vec());
        worker.handle_timeout(now);
        while worker.flush(now, &mut batch) {}
        for run in batch.runs() {
            let to = run.path.remote();
            let media = !batch.datagrams(run).all(is_rtcp);
            assert!(known.contains(&to) || !media, "sound to a stranger");
        }
        batch.clear();
        while let Some(event) = worker.poll_control() {
            assert!(serde_json::from_slice::<Value>(&event).is_ok());
        }
        while let Some(action) = worker.poll_action() {
            assert!(matches!(action, Action::OpenLeg { .. }), "{action:?}");
        }
    }
}
