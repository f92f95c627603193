//! `transport.startMirroring`: what somebody who listens in gets.

use super::*;
use crate::core::rtp::path::LegSocket;
use crate::core::rtp::rtcp::write::receiver_report;
use crate::core::worker::Action;

/// Asks for copies of what transport `id` gets and sends, and opens the socket; the answer.
fn mirror(lab: &mut Lab, id: u32, data: Value) -> Value {
    let request = json!({"id": 9999, "method": "transport.startMirroring",
        "internal": {"routerId": 1, "transportId": id}, "data": data});
    lab.worker.handle_control(lab.now, request.to_string().as_bytes());
    let asked = std::iter::from_fn(|| lab.worker.poll_action());
    let asked: Vec<_> = asked.filter(|action| matches!(action, Action::OpenMirror { .. })).collect();
    if let [Action::OpenMirror { transport, ip, ipv6 }] = asked[..] {
        assert_eq!((transport, ip, ipv6), (id, None, false));
        lab.flush();
        assert!(lab.events.iter().all(|event| event["id"] != 9999), "not before the socket is open");
        let address = "127.0.0.1:40000".parse().unwrap();
        lab.worker.handle_mirror_opened(id, Ok(LegSocket { socket: 300, address }));
    }
    lab.flush();
    let at = lab.events.iter().position(|event| event["id"] == 9999);
    lab.events.remove(at.expect("an answer"))
}

/// What the listener got since the last call.
fn copies(lab: &mut Lab) -> Vec<Vec<u8>> {
    lab.flush();
    let to: SocketAddr = "192.0.2.7:5000".parse().unwrap();
    let (copies, rest): (Vec<_>, Vec<_>) = lab.sent.drain(..).partition(|(path, ..)| path.remote() == to);
    lab.sent = rest;
    assert!(copies.iter().all(|(path, ..)| path.socket() == Some(300)));
    copies.into_iter().map(|(.., data)| data).collect()
}

fn target() -> Value {
    json!({"remoteIP": "192.0.2.7", "remotePort": 5000})
}

#[test]
fn a_listener_gets_both_directions_in_the_clear() {
    let mut lab = Lab::new();
    with_source(&mut lab);
    let mut viewer = watch(&mut lab, 11, 30, b'v', 7000);
    assert_eq!(mirror(&mut lab, 11, target())["accepted"], true);
    feed(&mut lab, 0..3);
    let sent = copies(&mut lab);
    lab.received(&mut viewer);
    let views: Vec<_> = viewer.rtp.iter().map(|(_, data)| data.clone()).collect();
    let rtp: Vec<_> = sent.iter().filter(|copy| !(192..=223).contains(&copy[1])).cloned().collect();
    assert!(!views.is_empty());
    assert_eq!(rtp, views, "packet by packet what the viewer decrypted");
    assert!(sent.len() > rtp.len(), "and the reports");
    let mut report = Vec::new();
    receiver_report(&mut report, 1, &[]);
    viewer.say(&mut lab, &report);
    assert!(copies(&mut lab).contains(&report), "also what the viewer says");
    lab.ok("transport.stopMirroring", [11, 0, 0], json!({}));
    feed(&mut lab, 3..6);
    assert_eq!(copies(&mut lab), [[0u8; 0]; 0]);
    let closed = std::iter::from_fn(|| lab.worker.poll_action());
    assert_eq!(closed.filter(|action| matches!(action, Action::CloseSocket { socket: 300 })).count(), 1);
}

#[test]
fn only_what_is_wanted_is_copied() {
    let mut lab = Lab::new();
    with_source(&mut lab);
    let mut viewer = watch(&mut lab, 11, 30, b'v', 7000);
    let mut wanted = target();
    wanted["sendRtp"] = json!(false);
    wanted["sendRtcp"] = json!(false);
    assert_eq!(mirror(&mut lab, 11, wanted)["accepted"], true);
    feed(&mut lab, 0..3);
    assert_eq!(copies(&mut lab), [[0u8; 0]; 0]);
    let mut report = Vec::new();
    receiver_report(&mut report, 1, &[]);
    viewer.say(&mut lab, &report);
    assert_eq!(copies(&mut lab), [report]);
}

#[test]
fn a_transport_is_mirrored_once_and_its_end_ends_it() {
    let mut lab = Lab::new();
    with_source(&mut lab);
    lab.connect(11, b'v');
    assert!(mirror(&mut lab, 10, target())["reason"].as_str().is_some_and(|why| why.contains("network")));
    assert!(mirror(&mut lab, 11, json!({}))["reason"].as_str().is_some_and(|why| why.contains("remoteIP")));
    assert_eq!(mirror(&mut lab, 11, target())["accepted"], true);
    assert_eq!(mirror(&mut lab, 11, target())["reason"], "Transport is already mirroring");
    lab.ok("transport.close", [11, 0, 0], json!({}));
    let closed = std::iter::from_fn(|| lab.worker.poll_action());
    assert_eq!(closed.filter(|action| matches!(action, Action::CloseSocket { socket: 300 })).count(), 1);
    // A socket that opens for nobody is closed, and whoever waits for it is told.
    lab.connect(12, b'w');
    let internal = json!({"routerId": 1, "transportId": 12});
    let request =
        json!({"id": 77, "method": "transport.startMirroring", "internal": internal, "data": target()});
    lab.worker.handle_control(lab.now, request.to_string().as_bytes());
    lab.ok("transport.close", [12, 0, 0], json!({}));
    assert!(lab.events.iter().any(|answer| answer["id"] == 77 && answer["rejected"] == true));
    let address = "127.0.0.1:40001".parse().unwrap();
    lab.worker.handle_mirror_opened(12, Ok(LegSocket { socket: 301, address }));
    let closed = std::iter::from_fn(|| lab.worker.poll_action());
    assert_eq!(closed.filter(|action| matches!(action, Action::CloseSocket { socket: 301 })).count(), 1);
}
