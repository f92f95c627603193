//! Telephones in mixed rooms: calls made over SIP, RTP both ways, each leg's sound looked at in the end.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::process::{Server, machine};
use super::socket::{Sockets, Token};
use crate::bench::Options;
use crate::bench::phone::{Answer, NOTES, PACKET_RATE, Phone, agree, sound};
use crate::core::io::sys;

/// Telephones send in this many groups, spread over a packet's time.
const GROUPS: usize = 20;
const GROUP_TIME: Duration = Duration::from_nanos(1_000_000_000 / PACKET_RATE / GROUPS as u64);
/// For a call to be answered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Unanswered INVITEs at once.
const DIALLING: usize = 20;

/// Measures and prints.
pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let most = options.legs.iter().copied().max().unwrap_or(0);
    let sip = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let server = Server::start(&settings(sip, most))?;
    if let Some(core) = sys::allowed_cores().first() {
        sys::pin_to(*core)?;
    }
    let mut bench = Legs::new(server, sip, options)?;
    let empty = bench.server.resident()?;
    let mut text = format!(
        "{}; {:?}, rooms of {}, {} singing\n\n\
         | legs | load, % of a core | legs per core | CPU ns per packet in or out | in and out, % of what is due | KiB per leg | set-ups/s | lost | wrong sound |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        machine(),
        options.codec,
        options.room_size,
        options.singing,
    );
    for &legs in &options.legs {
        let row = bench.stage(legs, options, empty)?;
        eprintln!("{row}");
        text.push_str(&row);
        text.push('\n');
    }
    bench.hang_up()?;
    println!("{text}");
    if let Some(file) = &options.output {
        std::fs::write(file, &text).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

fn settings(sip: SocketAddr, legs: usize) -> Vec<String> {
    let calls = legs + 100;
    let last = (10_000 + 2 * calls).min(65_535);
    vec![
        format!("sip.udp={sip}"),
        "sip.tcp=null".into(),
        format!("sip.trunks=[{{name: bench, peers: [127.0.0.1], max_calls: {calls}}}]"),
        format!("sip.dispatch=[{{from: [bench], number: \"*\", room: \"{{1}}\", max_callers: {calls}}}]"),
        format!("sip.limits.max_calls={calls}"),
        "sip.limits.trunk_requests_per_second=100000".into(),
        "legs.port_min=10000".into(),
        format!("legs.port_max={last}"),
    ]
}

struct Legs {
    server: Server,
    sip: SocketAddr,
    signalling: UdpSocket,
    sockets: Sockets,
    phones: Vec<Phone>,
    sounds: Vec<Vec<Vec<u8>>>,
    next: Instant,
    group: usize,
    listening: bool,
    /// Packets sent in all.
    sent: u64,
}

impl Legs {
    fn new(server: Server, sip: SocketAddr, options: &Options) -> anyhow::Result<Self> {
        let signalling = UdpSocket::bind("127.0.0.1:0")?;
        signalling.set_nonblocking(true)?;
        let notes = NOTES.iter().map(|note| Some(*note)).chain(Some(None));
        let sounds = notes.map(|note| sound(options.codec, note)).collect::<anyhow::Result<_>>()?;
        Ok(Legs {
            server,
            sip,
            signalling,
            sockets: Sockets::new()?,
            phones: Vec::new(),
            sounds,
            next: Instant::now(),
            group: 0,
            listening: false,
            sent: 0,
        })
    }

    fn stage(&mut self, legs: usize, options: &Options, empty: u64) -> anyhow::Result<String> {
        let began = Instant::now();
        let before = self.phones.len();
        self.call(legs, options)?;
        let rate = (legs - before) as f64 / began.elapsed().as_secs_f64().max(0.001);
        self.drive(Instant::now() + Duration::from_secs(options.settle))?;
        self.phones.iter_mut().for_each(Phone::restart);
        let (usage, began, sent) = (self.server.usage()?, Instant::now(), self.sent);
        self.drive(began + Duration::from_secs(options.seconds))?;
        let (after, seconds) = (self.server.usage()?, began.elapsed().as_secs_f64());
        let received: u64 = self.phones.iter().map(|phone| phone.received).sum();
        let into = (self.sent - sent) as f64;
        let lost: i64 = self.phones.iter().map(Phone::lost).sum();
        self.listening = true;
        self.drive(Instant::now() + Duration::from_secs(1))?;
        self.listening = false;
        let complaint = |phone: &Phone| {
            // The last room may have fewer telephones than sing in a full one.
            let first = phone.number - phone.number % options.room_size.max(1);
            let singing = options.singing.min(NOTES.len()).min(legs - first);
            Some((phone.number, phone.complaint(singing)?))
        };
        let complaints: Vec<_> = self.phones.iter().filter_map(complaint).collect();
        for (number, complaint) in complaints.iter().take(5) {
            eprintln!("leg {number}: {complaint}");
        }
        let cpu = after.cpu.saturating_sub(usage.cpu) as f64;
        let load = cpu / seconds / 1e9;
        let due = seconds * (PACKET_RATE as usize * legs) as f64;
        let out = received as f64;
        let resident = self.server.resident()?.saturating_sub(empty) as f64 / 1024.0 / legs.max(1) as f64;
        Ok(format!(
            "| {legs} | {:.1} | {:.0} | {:.0} | {:.1}, {:.1} | {resident:.0} | {rate:.0} | {lost} | {} |",
            100.0 * load,
            legs as f64 / load.max(1e-6),
            cpu / (into + out).max(1.0),
            100.0 * into / due,
            100.0 * out / due,
            complaints.len(),
        ))
    }

    /// Calls until `legs` are in their rooms.
    fn call(&mut self, legs: usize, options: &Options) -> anyhow::Result<()> {
        let at = self.signalling.local_addr()?;
        let mut limit = Instant::now() + ANSWER_TIMEOUT;
        let mut in_call = self.phones.iter().filter(|phone| phone.remote.is_some()).count();
        while in_call < legs {
            while self.phones.len() < legs && self.phones.len() - in_call < DIALLING {
                let number = self.phones.len();
                let phone = Phone::new(number, options.room_size, options.singing, options.codec);
                let rtp = self.sockets.add_unconnected()?;
                let room = format!("room{}", number / options.room_size.max(1));
                self.signalling.send_to(phone.invite(&room, self.sip, at, rtp).as_bytes(), self.sip)?;
                self.phones.push(phone);
            }
            self.drive(Instant::now() + Duration::from_millis(1))?;
            let now = self.phones.iter().filter(|phone| phone.remote.is_some()).count();
            if now > in_call {
                limit = Instant::now() + ANSWER_TIMEOUT;
            }
            in_call = now;
            anyhow::ensure!(Instant::now() < limit, "no answer; {in_call} of {legs} are in a call");
        }
        Ok(())
    }

    fn hang_up(&mut self) -> anyhow::Result<()> {
        let at = self.signalling.local_addr()?;
        for phone in &self.phones {
            if let Some(bye) = phone.bye(at) {
                self.signalling.send_to(bye.as_bytes(), self.sip)?;
            }
        }
        self.drive(Instant::now() + Duration::from_millis(300))
    }

    /// Everybody's work until `end`.
    fn drive(&mut self, end: Instant) -> anyhow::Result<()> {
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            while now >= self.next {
                self.next += GROUP_TIME;
                self.group = (self.group + 1) % GROUPS;
                self.send_group();
            }
            std::thread::sleep(end.min(self.next).saturating_duration_since(Instant::now()));
            while self.receive()? {}
            self.signal()?;
        }
    }

    fn send_group(&mut self) {
        for number in (self.group..self.phones.len()).step_by(GROUPS) {
            let phone = &mut self.phones[number];
            if phone.remote.is_some()
                && let Some(packet) = phone.packet(&self.sounds)
            {
                self.sockets.send(number, &packet);
                self.sent += 1;
            }
        }
    }

    fn receive(&mut self) -> anyhow::Result<bool> {
        let ready = self.sockets.look()?;
        for index in 0..ready {
            let Some(Token(number)) = self.sockets.ready(index) else { continue };
            let (phone, listening) = (&mut self.phones[number], self.listening);
            self.sockets.receive(number, |datagram, _| phone.hear(datagram, listening))?;
        }
        Ok(ready > 0)
    }

    /// What the server says of calls.
    fn signal(&mut self) -> anyhow::Result<()> {
        let at = self.signalling.local_addr()?;
        let mut buffer = [0; 65_536];
        loop {
            let len = match self.signalling.recv(&mut buffer) {
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("signalling"),
            };
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            let Some(answer) = Answer::read(&text) else {
                if let Some(ok) = agree(&text) {
                    self.signalling.send_to(ok.as_bytes(), self.sip)?;
                }
                continue;
            };
            let Some((number, "INVITE")) = answer.call() else { continue };
            let Some(phone) = self.phones.get_mut(number) else { continue };
            anyhow::ensure!(answer.status < 300, "call {number} was refused:\n{text}");
            if answer.status < 200 {
                continue;
            }
            if phone.remote.is_none() {
                phone.answered(&answer).with_context(|| text.clone())?;
                if let Some(remote) = phone.remote {
                    self.sockets.connect(number, remote)?;
                }
            }
            if let Some(ack) = phone.ack(at) {
                self.signalling.send_to(ack.as_bytes(), self.sip)?;
            }
        }
    }
}
