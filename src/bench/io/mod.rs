//! Runs the stages: sockets of all parties in one epoll loop on this thread.

mod legs;
mod process;
mod socket;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;

use super::client::{Client, Identity, Media};
use super::media::{FRAME_RATE, frame};
use super::result::{Delays, Stage, Usage, report};
use super::viewer::Viewer;
use super::{Options, http, sdp};
use crate::core::io::sys;
use crate::core::rtp::header::{HeaderFields, write_header};
use crate::core::time::MediaTime;
use process::Server;
use socket::{Sockets, Token};

const ROOM: &str = "bench";
const PUBLISHER_SSRC: u32 = 0x0b5e_55ed;
/// Each party's timers are looked at this often.
const TICK: Duration = Duration::from_millis(100);
/// Parties are looked at in this many groups, one each tenth of [`TICK`].
const GROUPS: usize = 10;
/// Sockets are looked at this often and never waited for: to wake us would be work of the server's, which with
/// receivers behind a network card it does not have. Arrivals are stamped by the kernel.
const NAP: Duration = Duration::from_millis(1);
/// For a party to become ready.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Measures and prints. Workers take the last cores; we keep to the first, out of their way.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if !options.legs.is_empty() {
        return legs::run(options);
    }
    let server = Server::find(options)?;
    if let Some(core) = sys::allowed_cores().first() {
        sys::pin_to(*core)?;
    }
    let mut bench = Bench::new(server)?;
    bench.publish()?;
    bench.drive(Instant::now() + Duration::from_secs(2))?;
    let empty = bench.server.resident()?;
    let mut stages = Vec::new();
    for viewers in &options.viewers {
        let mut stage = bench.stage(*viewers, options)?;
        stage.resident_empty = empty;
        eprintln!("{viewers} viewers: {:.0} ns/packet", stage.cpu_per_packet());
        stages.push(stage);
    }
    let text = report(&process::machine(), &mut stages);
    println!("{text}");
    if let Some(file) = &options.output {
        std::fs::write(file, &text).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

struct Party {
    client: Client,
    /// `None`: the publisher.
    viewer: Option<Viewer>,
}

struct Bench {
    server: Server,
    identity: Identity,
    sockets: Sockets,
    parties: Vec<Party>,
    start: Instant,
    frame: u64,
    sequence: u64,
    next_frame: Instant,
    next_group: Instant,
    group: usize,
    delays: Delays,
    key_delays: Delays,
    measuring: bool,
}

impl Bench {
    fn new(server: Server) -> anyhow::Result<Self> {
        let now = Instant::now();
        Ok(Bench {
            server,
            identity: Identity::generate()?,
            sockets: Sockets::new()?,
            parties: Vec::new(),
            start: now,
            frame: 0,
            sequence: 0,
            next_frame: now,
            next_group: now,
            group: 0,
            delays: Delays::default(),
            key_delays: Delays::default(),
            measuring: false,
        })
    }

    fn stage(&mut self, viewers: usize, options: &Options) -> anyhow::Result<Stage> {
        while self.parties.len() <= viewers {
            self.join(false)?;
        }
        self.drive(Instant::now() + Duration::from_secs(options.settle))?;
        let before = self.usage()?;
        let refused = self.refused();
        self.parties.iter_mut().filter_map(|party| party.viewer.as_mut()).for_each(Viewer::restart);
        self.measuring = true;
        let began = Instant::now();
        self.drive(began + Duration::from_secs(options.seconds))?;
        self.measuring = false;
        let after = self.usage()?;
        let seen = || self.parties.iter().filter_map(|party| party.viewer.as_ref());
        Ok(Stage {
            viewers,
            seconds: began.elapsed().as_secs_f64(),
            usage: (before, after),
            received: seen().map(|viewer| viewer.packets).sum(),
            lost: seen().map(Viewer::lost).sum(),
            refused: self.refused() - refused,
            delays: std::mem::take(&mut self.delays),
            key_delays: std::mem::take(&mut self.key_delays),
            resident: self.server.resident()?,
            resident_empty: 0,
        })
    }

    fn refused(&self) -> u64 {
        self.parties.iter().map(|party| party.client.refused).sum()
    }

    fn usage(&self) -> anyhow::Result<Usage> {
        let mut usage = self.server.usage()?;
        let request = http::get(&self.server.host, "/api/workers", Some(&self.server.key));
        if let Ok((200, body)) = exchange(&self.server.host, &request) {
            let workers: Vec<serde_json::Value> = serde_json::from_str(&body).unwrap_or_default();
            let sum = |name: &str| workers.iter().map(|worker| worker[name].as_u64()).sum();
            usage.packets = sum("udp_out_packets");
            usage.calls = sum("udp_out_calls");
            usage.messages = sum("udp_out_messages");
        }
        Ok(usage)
    }

    fn publish(&mut self) -> anyhow::Result<()> {
        self.join(true)
    }

    /// One more party, up to the moment that it has its keys.
    fn join(&mut self, publishes: bool) -> anyhow::Result<()> {
        let number = self.parties.len();
        let ufrag = format!("bn{number:04}");
        let local = sdp::Local {
            ufrag: &ufrag,
            pwd: "a-password-of-the-bench-22",
            fingerprint: &self.identity.fingerprint,
            ssrc: publishes.then_some(PUBLISHER_SSRC),
        };
        let door = if publishes { "whip" } else { "whep" };
        let token = publishes.then_some(self.server.key.as_str());
        let offer = sdp::offer(&local);
        let request = http::post(&self.server.host, &format!("/{ROOM}/{door}"), token, &offer);
        let (status, body) = exchange(&self.server.host, &request)?;
        anyhow::ensure!(status == 201, "{door} answered {status}: {body}");
        let answer =
            sdp::answer(&body).with_context(|| format!("an answer without what we need:\n{body}"))?;
        self.sockets.add(answer.address)?;
        let viewer = (!publishes).then(|| Viewer::new(0xbe00_0000 + number as u32, answer.transport_cc));
        let client = Client::new(&self.identity, ufrag, answer, Instant::now());
        self.parties.push(Party { client, viewer });
        self.tend(number, Instant::now())?;
        let limit = Instant::now() + JOIN_TIMEOUT;
        while !self.parties[number].client.is_ready() {
            anyhow::ensure!(Instant::now() < limit, "party {number} got no connection");
            self.drive(Instant::now() + Duration::from_millis(5))?;
        }
        Ok(())
    }

    /// Everybody's work until `end`.
    fn drive(&mut self, end: Instant) -> anyhow::Result<()> {
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            if now >= self.next_frame {
                self.send_frame()?;
            }
            if now >= self.next_group {
                self.next_group = now + TICK / GROUPS as u32;
                self.group = (self.group + 1) % GROUPS;
                for number in (self.group..self.parties.len()).step_by(GROUPS) {
                    self.tend(number, now)?;
                }
            }
            let until = end.min(self.next_frame).min(self.next_group);
            std::thread::sleep(until.saturating_duration_since(now).min(NAP));
            while self.receive_ready()? {}
        }
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
        let Party { client, viewer } = &mut self.parties[number];
        client.handle_timeout(now)?;
        let report = viewer.as_mut().filter(|_| client.is_ready()).and_then(|viewer| viewer.report(time));
        if let (Some(report), Some(sender)) = (report, &mut client.sender) {
            let mut out = vec![0; report.len() + 32];
            let len = sender.seal_rtcp(&report, &mut out)?;
            self.sockets.send(number, &out[..len]);
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
        let Party { client, viewer } = &mut self.parties[number];
        self.sockets.receive(number, |datagram, arrived| {
            let media = client.handle(now, datagram)?;
            let Some(viewer) = viewer else { return Ok(()) };
            match media {
                Some(Media::Rtp(len, index)) => {
                    let stamp = viewer.rtp(time, &datagram[..len], index);
                    if let Some(stamp) = stamp.filter(|_| measuring) {
                        let into = if stamp.key { &mut *keys } else { &mut *delays };
                        into.add(arrived.saturating_sub(stamp.sent));
                    }
                }
                Some(Media::Rtcp(len)) => viewer.rtcp(time, &datagram[..len]),
                None => {}
            }
            Ok(())
        })?;
        self.flush(number);
        Ok(())
    }

    fn send_frame(&mut self) -> anyhow::Result<()> {
        self.next_frame += Duration::from_nanos(1_000_000_000 / FRAME_RATE);
        let Some(Party { client, .. }) = self.parties.first_mut() else { return Ok(()) };
        let Some(sender) = &mut client.sender else { return Ok(()) };
        let sent = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
        let mut datagrams = Vec::new();
        for piece in frame(self.frame, sent) {
            let mut out = vec![0; 1500];
            let fields = HeaderFields {
                marker: piece.marker,
                payload_type: sdp::PAYLOAD_TYPE,
                sequence: self.sequence as u16,
                timestamp: (self.frame * 90_000 / FRAME_RATE) as u32,
                ssrc: PUBLISHER_SSRC,
                padding: false,
            };
            let wide = (self.sequence as u16).to_be_bytes();
            let header = write_header(&mut out, &fields, &[(sdp::TRANSPORT_CC_ID, &wide)])?;
            let len = sender.seal_rtp(&mut out, header, self.sequence, PUBLISHER_SSRC, &piece.payload)?;
            out.truncate(len);
            datagrams.push(out);
            self.sequence += 1;
        }
        self.frame += 1;
        // A keyframe's parameter sets are shorter than what follows them.
        let short = datagrams.iter().take_while(|datagram| datagram.len() < 1000).count();
        datagrams.drain(..short).for_each(|datagram| self.sockets.send(0, &datagram));
        Ok(self.sockets.send_burst(0, &datagrams)?)
    }
}

/// One request, one answer, one connection.
fn exchange(host: &str, request: &str) -> anyhow::Result<(u16, String)> {
    let address: SocketAddr = host.parse().context("the server's address must be IP:PORT")?;
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (status, body) = http::answer(&text).context("no HTTP answer")?;
    Ok((status, body.to_owned()))
}
