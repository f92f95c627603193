//! Runs the stages: sockets of all parties in one epoll loop on this thread.

mod calls;
mod control;
mod ear;
mod legs;
mod party;
mod process;
mod progress;
mod rooms;
mod soak;
mod socket;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;

use super::client::Identity;
use super::result::{Delays, Stage, Usage, report};
use super::source::{FRAME_INTERVAL, Pattern, Source};
use super::viewer::Viewer;
use super::{Options, http, media, sdp};
use crate::core::io::sys;
use crate::core::time::MediaTime;
use party::{Party, Role};
use process::Server;
use progress::Progress;
use socket::{Sockets, Token};

const FIRST_SSRC: u32 = 0x0b5e_0000;
/// Each party's timers are looked at this often.
const TICK: Duration = Duration::from_millis(100);
/// Parties are looked at in this many groups, one each tenth of [`TICK`].
const GROUPS: usize = 10;
/// Sockets are looked at this often and never waited for: to wake us would be work of the server's, which with
/// receivers behind a network card it does not have. Arrivals are stamped by the kernel.
const NAP: Duration = Duration::from_millis(1);
/// Longer than any measurement.
const NEVER: Duration = Duration::from_secs(1 << 30);
/// For a party to become ready.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Measures and prints. Workers take the last cores; we keep to the first, out of their way.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if options.control.control {
        return control::run(options);
    }
    if options.calls.calls.is_some() {
        return calls::run(options);
    }
    if let Some(rooms) = options.calls.ear {
        return ear::run(options, rooms);
    }
    if !options.legs.is_empty() {
        return legs::run(options);
    }
    anyhow::ensure!(options.room_size > 1, "a room has two members at least");
    let server = Server::find(options)?;
    let machine = process::machine();
    if let Some(core) = sys::allowed_cores().first() {
        sys::pin_to(*core)?;
    }
    let mut bench = Bench::new(server, options)?;
    if let Some(seconds) = options.soak {
        return soak::run(&mut bench, Duration::from_secs(seconds));
    }
    let empty = bench.begin()?;
    let mut stages = Vec::new();
    for size in bench.sizes() {
        let mut stage = bench.stage(size)?;
        stage.resident_empty = empty;
        bench.progress.done(&format!(
            "{} streams, {} receivers: {:.0} ns/packet",
            stage.streams,
            stage.viewers,
            stage.cpu_per_packet()
        ));
        stages.push(stage);
    }
    bench.leave();
    let circumstances = format!("{machine}; {}", bench.circumstances());
    let text = report(&circumstances, &mut stages);
    let stages: Vec<_> = stages.iter_mut().map(Stage::json).collect();
    deliver(options, &text, &serde_json::json!({"circumstances": circumstances, "stages": stages}))
}

/// Starts a server that has one core for all of its threads, and takes another one for us.
fn pin_beside(start: impl FnOnce() -> anyhow::Result<Server>) -> anyhow::Result<Server> {
    let cores = sys::allowed_cores();
    if let Some(core) = cores.last() {
        sys::pin_to(*core)?;
    }
    let server = start()?;
    if let Some(core) = cores.first() {
        sys::pin_to(*core)?;
    }
    Ok(server)
}

/// Prints a report and writes it where the options say.
fn deliver(options: &Options, text: &str, told: &serde_json::Value) -> anyhow::Result<()> {
    println!("{text}");
    if let Some(file) = &options.output {
        write(file, text)?;
    }
    if let Some(file) = &options.json {
        write(file, &format!("{told:#}\n"))?;
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| file.display().to_string())
}

struct Bench<'a> {
    options: &'a Options,
    server: Server,
    identity: Identity,
    sockets: Sockets,
    parties: Vec<Party>,
    /// How many ever came in.
    entered: u64,
    /// Which of them publish.
    sources: Vec<usize>,
    start: Instant,
    next_group: Instant,
    group: usize,
    delays: Delays,
    key_delays: Delays,
    measuring: bool,
    progress: Progress,
    doing: String,
}

impl<'a> Bench<'a> {
    fn new(server: Server, options: &'a Options) -> anyhow::Result<Self> {
        let now = Instant::now();
        Ok(Bench {
            options,
            server,
            identity: Identity::generate()?,
            sockets: Sockets::new()?,
            parties: Vec::new(),
            entered: 0,
            sources: Vec::new(),
            start: now,
            next_group: now,
            group: 0,
            delays: Delays::default(),
            key_delays: Delays::default(),
            measuring: false,
            progress: Progress::new(),
            doing: String::new(),
        })
    }

    /// How large the stages are: receivers, or rooms.
    fn sizes(&self) -> Vec<usize> {
        let rooms = &self.options.rooms;
        if rooms.is_empty() { self.options.viewers.clone() } else { rooms.clone() }
    }

    /// What was sent how.
    fn circumstances(&self) -> String {
        let profile = self.parties.iter().find_map(|party| party.client.profile);
        format!(
            "{}, frames {}, a keyframe each {} s{}",
            profile.map_or("no media".to_owned(), |profile| format!("{profile:?}")),
            if self.options.paced { "paced" } else { "in bursts" },
            self.options.keyframe_seconds,
            if self.options.rooms.is_empty() {
                String::new()
            } else {
                format!(", rooms of {}", self.options.room_size)
            },
        )
    }

    /// Publishes the one stream that all receive; answers the memory of the server before anybody does.
    fn begin(&mut self) -> anyhow::Result<u64> {
        if self.options.rooms.is_empty() {
            self.join("bench", true)?;
        }
        self.doing = "beginning".to_owned();
        self.drive(Instant::now() + Duration::from_secs(2))?;
        self.server.resident()
    }

    fn stage(&mut self, size: usize) -> anyhow::Result<Stage> {
        let already = self.parties.len();
        match self.options.rooms.is_empty() {
            true => self.fill_audience(size)?,
            false => self.fill_rooms(size)?,
        }
        self.doing = "settling".to_owned();
        self.drive(Instant::now() + Duration::from_secs(self.options.settle))?;
        let before = self.usage()?;
        let refused = self.refused();
        self.parties.iter_mut().filter_map(Party::viewer_mut).for_each(Viewer::restart);
        (self.delays, self.key_delays) = Default::default();
        self.measuring = true;
        self.doing = format!("measuring for {} s", self.options.seconds);
        let began = Instant::now();
        self.drive(began + Duration::from_secs(self.options.seconds))?;
        self.measuring = false;
        let after = self.usage()?;
        let (first_pictures, no_picture) = self.first_pictures(already);
        let seen = || self.parties.iter().filter_map(Party::viewer);
        Ok(Stage {
            streams: self.sources.len(),
            viewers: seen().count(),
            seconds: began.elapsed().as_secs_f64(),
            usage: (before, after),
            received: seen().map(|viewer| viewer.packets).sum(),
            lost: seen().map(Viewer::lost).sum(),
            refused: self.refused() - refused,
            delays: std::mem::take(&mut self.delays),
            key_delays: std::mem::take(&mut self.key_delays),
            first_pictures,
            no_picture,
            resident: self.server.resident()?,
            resident_empty: 0,
        })
    }

    fn fill_audience(&mut self, receivers: usize) -> anyhow::Result<()> {
        while self.parties.len() - self.sources.len() < receivers {
            self.doing = format!("joining, {} of {receivers}", self.parties.len() - self.sources.len());
            self.join("bench", false)?;
        }
        Ok(())
    }

    fn fill_rooms(&mut self, rooms: usize) -> anyhow::Result<()> {
        let size = self.options.room_size;
        for room in self.sources.len() / size..rooms {
            self.doing = format!("joining, room {room} of {rooms}");
            let name = |member: usize| format!("bench{room}x{member}");
            for member in 0..size {
                self.join(&name(member), true)?;
            }
            for (from, to) in (0..size * size).map(|pair| (pair / size, pair % size)) {
                if from != to {
                    self.join(&name(from), false)?;
                }
            }
        }
        Ok(())
    }

    /// How long those took who joined behind the first `already` parties, and how many have had nothing.
    fn first_pictures(&self, already: usize) -> (Delays, usize) {
        let mut delays = Delays::default();
        let joined = || self.parties[already..].iter().filter_map(Party::viewer);
        joined().filter_map(|viewer| viewer.first_picture).for_each(|nanos| delays.add(nanos));
        (delays, joined().filter(|viewer| viewer.first_picture.is_none()).count())
    }

    fn refused(&self) -> u64 {
        self.parties.iter().map(|party| party.client.refused).sum()
    }

    fn usage(&self) -> anyhow::Result<Usage> {
        let mut usage = self.server.usage()?;
        let request = http::get(&self.server.host, "/api/workers", Some(&self.server.key));
        if let Ok(http::Response { status: 200, body, .. }) = exchange(&self.server.host, &request) {
            let workers: Vec<serde_json::Value> = serde_json::from_str(&body).unwrap_or_default();
            let sum = |name: &str| {
                let each: Option<Vec<_>> = workers.iter().map(|worker| worker[name].as_u64()).collect();
                each.filter(|each| !each.is_empty()).map(|each| each.iter().sum())
            };
            usage.packets = sum("udp_out_packets");
            usage.calls = sum("udp_out_calls");
            usage.messages = sum("udp_out_messages");
        }
        Ok(usage)
    }

    /// One more party, up to the moment that it has its keys.
    fn join(&mut self, room: &str, publishes: bool) -> anyhow::Result<()> {
        let number = self.parties.len();
        self.enter(number, room, publishes)?;
        let limit = Instant::now() + JOIN_TIMEOUT;
        while !self.parties[number].client.is_ready() {
            anyhow::ensure!(Instant::now() < limit, "party {number} got no connection");
            self.drive(Instant::now() + Duration::from_millis(5))?;
        }
        Ok(())
    }

    /// The party called `number`, one more or in place of the one that was, says what it wants.
    fn enter(&mut self, number: usize, room: &str, publishes: bool) -> anyhow::Result<()> {
        self.entered += 1;
        let asked = wall()?;
        let ssrc = FIRST_SSRC + number as u32;
        let ufrag = format!("bn{:07}", self.entered);
        let fingerprint = self.identity.fingerprint.clone();
        let local = sdp::Local {
            ufrag: &ufrag,
            pwd: "a-password-of-the-bench-22",
            fingerprint: &fingerprint,
            ssrc: publishes.then_some(ssrc),
        };
        let door = if publishes { &self.options.whip } else { &self.options.whep };
        let path = door.replace("{room}", room);
        let token = Some(self.server.key.as_str()).filter(|key| publishes && !key.is_empty());
        let request = http::post(&self.server.host, &path, token, &sdp::offer(&local));
        let http::Response { status, location, body } = exchange(&self.server.host, &request)?;
        anyhow::ensure!(status == 201, "{path} answered {status}: {body}");
        let answer =
            sdp::answer(&body).with_context(|| format!("an answer without what we need:\n{body}"))?;
        self.sockets.set(number, answer.address)?;
        let role = match publishes {
            true => Role::Source(self.source(ssrc)),
            false => Role::Viewer(Box::new(Viewer::new(ssrc, answer.transport_cc, asked))),
        };
        let party = Party::new(&self.identity, &local, answer, role, location);
        match self.parties.get_mut(number) {
            Some(old) => *old = party,
            None => self.parties.push(party),
        }
        if publishes {
            self.sources.push(number);
        }
        self.tend(number, Instant::now())
    }

    /// Frames of many sources do not begin together.
    fn source(&self, ssrc: u32) -> Source {
        let pattern = Pattern {
            keyframe_every: self.options.keyframe_seconds.max(1) * media::FRAME_RATE,
            paced: self.options.paced,
            deaf: self.options.deaf,
        };
        let step = FRAME_INTERVAL * 7 / 30 * (self.sources.len() as u32 % 30);
        let wait = if self.options.idle { NEVER } else { step };
        Source::new(ssrc, pattern, Instant::now() + wait)
    }

    /// Everybody's work until `end`.
    fn drive(&mut self, end: Instant) -> anyhow::Result<()> {
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            let next_packet = self.send_due(now)?;
            if now >= self.next_group {
                self.next_group = now + TICK / GROUPS as u32;
                self.group = (self.group + 1) % GROUPS;
                for number in (self.group..self.parties.len()).step_by(GROUPS) {
                    self.tend(number, now)?;
                }
            }
            self.progress.say(now, || self.doing.clone());
            let until = next_packet.map_or(end, |at| end.min(at)).min(self.next_group);
            std::thread::sleep(until.saturating_duration_since(Instant::now()).min(NAP));
            while self.receive_ready()? {}
        }
    }

    /// Sends what sources have; answers when the next packet is due.
    fn send_due(&mut self, now: Instant) -> anyhow::Result<Option<Instant>> {
        let mut next = None;
        for &number in &self.sources {
            let Party { client, role: Role::Source(source), .. } = &mut self.parties[number] else {
                continue;
            };
            let Some(sender) = &mut client.sender else { continue };
            let mut datagrams = source.poll(now, wall()?, sender)?;
            // A keyframe's parameter sets are shorter than what follows them.
            let short = datagrams.iter().take_while(|datagram| datagram.len() < 1000).count();
            datagrams.drain(..short).for_each(|datagram| self.sockets.send(number, &datagram));
            self.sockets.send_burst(number, &datagrams)?;
            let due = source.next_due();
            next = Some(next.map_or(due, |next: Instant| next.min(due)));
        }
        Ok(next)
    }

    /// What all sockets have by now; whether there was anything.
    fn receive_ready(&mut self) -> anyhow::Result<bool> {
        let ready = self.sockets.look()?;
        for index in 0..ready {
            if let Some(token) = self.sockets.ready(index) {
                self.receive(token)?;
            }
        }
        Ok(ready > 0)
    }

    fn media_time(&self, now: Instant) -> MediaTime {
        MediaTime(now.duration_since(self.start).as_micros() as i64)
    }

    /// A party's timers, and what it has to send.
    fn tend(&mut self, number: usize, now: Instant) -> anyhow::Result<()> {
        let time = self.media_time(now);
        let party = &mut self.parties[number];
        party.client.handle_timeout(now)?;
        if let Some(report) = party.report(time)? {
            self.sockets.send(number, &report);
        }
        self.flush(number);
        Ok(())
    }

    fn flush(&mut self, number: usize) {
        while let Some(datagram) = self.parties[number].client.poll_output() {
            self.sockets.send(number, &datagram);
        }
    }

    fn receive(&mut self, Token(number): Token) -> anyhow::Result<()> {
        let now = Instant::now();
        let time = self.media_time(now);
        let (measuring, delays, keys) = (self.measuring, &mut self.delays, &mut self.key_delays);
        let party = &mut self.parties[number];
        self.sockets.receive(number, |datagram, arrived| {
            if let Some(stamp) = party.take((now, time), datagram, arrived)?.filter(|_| measuring) {
                let into = if stamp.key { &mut *keys } else { &mut *delays };
                into.add(arrived.saturating_sub(stamp.sent));
            }
            Ok(())
        })?;
        self.flush(number);
        Ok(())
    }

    /// Ends the sessions at a server that lives on.
    fn leave(&mut self) {
        if self.server.is_foreign() {
            (0..self.parties.len()).rev().for_each(|number| self.exit(number));
        }
    }

    /// Ends a party's session.
    fn exit(&self, number: usize) {
        let Some(location) = &self.parties[number].location else { return };
        let request = http::delete(&self.server.host, location, Some(&self.server.key));
        // A server that does not take it will notice by itself that nobody is there any more.
        let _ = exchange(&self.server.host, &request);
    }
}

/// Nanoseconds since 1970.
fn wall() -> anyhow::Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64)
}

/// One request, one answer, one connection.
fn exchange(host: &str, request: &str) -> anyhow::Result<http::Response> {
    let address: SocketAddr = host.parse().context("the server's address must be IP:PORT")?;
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    http::response(&text).context("no HTTP answer")
}
