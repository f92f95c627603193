//! Calls set up and ended against a server that has one core for all of its threads.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;

use super::process::{Server, machine};
use super::{deliver, pin_beside};
use crate::bench::Options;
use crate::bench::call::{Addresses, Calls};
use crate::bench::phone::{Answer, agree};
use crate::core::io::sys;

/// How often calls are looked at.
const NAP: Duration = Duration::from_millis(1);
/// Calls that may stand beyond those that are due: what is slow is not to be refused.
const SPARE: usize = 500;

/// Measures and prints.
pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let machine = machine();
    let sip = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let at_once = options.calls.cps as usize * (options.calls.talk as usize + 1) + SPARE;
    let server = pin_beside(|| Server::start(&settings(sip, at_once)))?;
    let signalling = UdpSocket::bind("127.0.0.1:0")?;
    signalling.set_nonblocking(true)?;
    let _ = sys::set_option(signalling.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, 4 << 20);
    // What the server sends before it knows where a telephone really is goes nowhere.
    let rtp = UdpSocket::bind("127.0.0.1:0")?;
    let addresses = Addresses { server: sip, own: signalling.local_addr()?, rtp: rtp.local_addr()? };
    let empty = server.resident()?;
    let (usage, began) = (server.usage()?, Instant::now());
    let mut calls = Calls::new(&options.calls, addresses, began);
    let mut full = empty;
    let mut looked = began;
    while !calls.is_over() {
        calls.handle_timeout(Instant::now());
        while let Some(text) = calls.poll_output() {
            signalling.send_to(text.as_bytes(), sip)?;
        }
        std::thread::sleep(NAP);
        receive(&signalling, sip.port(), &mut calls)?;
        if looked.elapsed() > Duration::from_millis(250) {
            looked = Instant::now();
            full = full.max(server.resident()?);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let load = server.usage()?.cpu.saturating_sub(usage.cpu) as f64 / seconds / 1e9;
    let tally = &mut calls.tally;
    let failed: usize = tally.failed.values().sum();
    let reasons: Vec<String> = tally.failed.iter().map(|(what, count)| format!("{count} × {what}")).collect();
    let [setup50, setup99] = [50.0, 99.0].map(|percent| tally.setups.percentile(percent).unwrap_or(0.0));
    let [end50, end99] = [50.0, 99.0].map(|percent| tally.endings.percentile(percent).unwrap_or(0.0));
    let per_call = full.saturating_sub(empty) as f64 / 1024.0 / tally.most.max(1) as f64;
    let text = format!(
        "{machine}; the server on one core; each call into a room of its own for {} s\n\n\
         | calls | begun a second | answered | ended in order | failed | at once | INVITE to 200, p50 / p99 ms | BYE to 200, p50 / p99 ms | \
         repeated | load, % of a core | KiB per call |\n|---|---|---|---|---|---|---|---|---|---|---|\n\
         | {} | {} | {} | {} | {failed} | {} | {setup50:.1} / {setup99:.1} | {end50:.1} / {end99:.1} | {} | {:.1} | {per_call:.0} |\n{}",
        options.calls.talk,
        tally.begun,
        options.calls.cps,
        tally.answered,
        tally.whole,
        tally.most,
        tally.repeated,
        100.0 * load,
        if reasons.is_empty() { String::new() } else { format!("\nFailed: {}\n", reasons.join(", ")) },
    );
    let told = json!({
        "bench": "calls",
        "machine": machine,
        "calls": tally.begun,
        "callsPerSecond": options.calls.cps,
        "talkSeconds": options.calls.talk,
        "answered": tally.answered,
        "ended": tally.whole,
        "failed": tally.failed,
        "atOnce": tally.most,
        "setupMs": { "p50": setup50, "p99": setup99 },
        "endMs": { "p50": end50, "p99": end99 },
        "repeated": tally.repeated,
        "load": load,
        "kibPerCall": per_call,
    });
    deliver(options, &text, &told)?;
    anyhow::ensure!(failed == 0, "{failed} of {} calls failed: {}", calls.tally.begun, reasons.join(", "));
    Ok(())
}

fn settings(sip: std::net::SocketAddr, calls: usize) -> Vec<String> {
    let last = (10_000 + 2 * calls).min(65_535);
    vec![
        format!("sip.udp={sip}"),
        "sip.tcp=null".into(),
        format!("sip.trunks=[{{name: bench, peers: [127.0.0.1], max_calls: {calls}}}]"),
        "sip.dispatch=[{from: [bench], number: \"*\", room: \"{1}\"}]".into(),
        format!("sip.limits.max_calls={calls}"),
        "sip.limits.trunk_requests_per_second=100000".into(),
        format!("rooms.max_rooms={calls}"),
        "legs.port_min=10000".into(),
        format!("legs.port_max={last}"),
    ]
}

/// Hands over what the server says.
fn receive(socket: &UdpSocket, server: u16, calls: &mut Calls) -> anyhow::Result<()> {
    let mut buffer = [0; 65_536];
    loop {
        let (len, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("signalling"),
        };
        if from.port() != server {
            continue;
        }
        let text = String::from_utf8_lossy(&buffer[..len]);
        match Answer::read(&text) {
            Some(answer) => calls.handle_answer(&answer, Instant::now()),
            None => {
                if let Some(ok) = agree(&text) {
                    socket.send_to(ok.as_bytes(), from)?;
                }
            }
        }
    }
}
