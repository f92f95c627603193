//! Rooms of two telephones and two browsers each, whose tones are timed.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;

use super::process::{Server, machine};
use super::socket::{Sockets, Token};
use super::{JOIN_TIMEOUT, deliver, exchange, wall};
use crate::bench::client::{Client, Identity, Media};
use crate::bench::ear::{self, Ear, Mouth, OPUS, Tones, Voice, Way};
use crate::bench::phone::{Answer, Codec, Phone, from_ulaw};
use crate::bench::{Options, http, sdp};
use crate::core::io::sys;
use crate::core::rtp::header::{HeaderFields, RtpView, write_header};

const FRAME: Duration = Duration::from_millis(20);
/// Parties' timers are looked at this often.
const TICK: Duration = Duration::from_millis(100);
const NAP: Duration = Duration::from_micros(250);
const SSRC: u32 = 0xea00_0000;

/// Measures and prints.
pub(super) fn run(options: &Options, rooms: usize) -> anyhow::Result<()> {
    let machine = machine();
    let sip = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let server = Server::start(&[
        format!("sip.udp={sip}"),
        "sip.tcp=null".into(),
        "sip.trunks=[{name: bench, peers: [127.0.0.1]}]".into(),
        "sip.dispatch=[{from: [bench], number: \"*\", room: \"{1}\"}]".into(),
        "legs.port_min=10000".into(),
        "legs.port_max=10999".into(),
    ])?;
    if let Some(core) = sys::allowed_cores().first() {
        sys::pin_to(*core)?;
    }
    let mut bench = Bench::new(server)?;
    for room in 0..rooms {
        bench.fill(room, sip)?;
    }
    bench.drive(Instant::now() + Duration::from_secs(options.settle))?;
    bench.listening = true;
    bench.drive(Instant::now() + Duration::from_secs(options.seconds))?;
    // The last tones are still on their way.
    bench.sending = false;
    bench.drive(Instant::now() + Duration::from_millis(200))?;
    report(options, &machine, rooms, bench.ways())
}

fn report(
    options: &Options,
    machine: &str,
    rooms: usize,
    ways: Vec<(&'static str, Way)>,
) -> anyhow::Result<()> {
    let mut text = format!(
        "{machine}; {rooms} rooms of two telephones (G.711) and two browsers (Opus), mixed at 48 kHz\n\n\
         | from, to | tones | heard | p50 ms | p99 ms |\n|---|---|---|---|---|\n"
    );
    let mut told = Vec::new();
    for (name, mut way) in ways {
        let [p50, p99] = [50.0, 99.0].map(|percent| way.delays.percentile(percent));
        let shown = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
        let (sent, heard) = (way.sent, way.heard);
        text.push_str(&format!("| {name} | {sent} | {heard} | {} | {} |\n", shown(p50), shown(p99)));
        told.push(json!({ "way": name, "sent": sent, "heard": heard, "p50": p50, "p99": p99 }));
    }
    deliver(options, &text, &json!({ "bench": "ear", "machine": machine, "rooms": rooms, "addedMs": told }))
}

/// One of a room's four.
struct Party {
    room: usize,
    wire: Wire,
    voice: Option<Voice>,
    next: Instant,
    sequence: u64,
}

enum Wire {
    Phone(Ear),
    Sender(Box<Client>),
    Viewer(Box<Client>, Ear, opus::Decoder),
}

struct Bench {
    server: Server,
    identity: Identity,
    sockets: Sockets,
    parties: Vec<Party>,
    tones: Vec<Tones>,
    /// Of each pair of mouth and ear, by [`place`].
    delays: [Way; 4],
    next_tick: Instant,
    began: Instant,
    sending: bool,
    listening: bool,
}

/// Where a way's delays stand.
fn place(mouth: Mouth, browser: bool) -> usize {
    usize::from(mouth == Mouth::Browser) * 2 + usize::from(browser)
}

impl Bench {
    fn new(server: Server) -> anyhow::Result<Self> {
        Ok(Bench {
            server,
            identity: Identity::generate()?,
            sockets: Sockets::new()?,
            parties: Vec::new(),
            tones: Vec::new(),
            delays: Default::default(),
            next_tick: Instant::now(),
            began: Instant::now(),
            sending: true,
            listening: false,
        })
    }

    /// A room of its own: who speaks by telephone, who listens by telephone, the same by browser.
    fn fill(&mut self, room: usize, sip: std::net::SocketAddr) -> anyhow::Result<()> {
        self.tones.push(Tones::default());
        self.dial(room, sip, Some(Voice::new(Mouth::Phone)?))?;
        self.dial(room, sip, None)?;
        self.join(room, true)?;
        self.join(room, false)
    }

    fn add(&mut self, room: usize, wire: Wire, voice: Option<Voice>) {
        // Frames of different parties do not begin together, so that every phase of the mix's clock is met.
        let phase = Duration::from_micros(3700) * self.parties.len() as u32;
        let now = Instant::now();
        let into = now.duration_since(self.began).as_nanos() % FRAME.as_nanos();
        let wait = (phase.as_nanos() + FRAME.as_nanos() - into) % FRAME.as_nanos();
        let next = now + Duration::from_nanos(wait as u64);
        self.parties.push(Party { room, wire, voice, next, sequence: 0 });
    }

    fn dial(&mut self, room: usize, sip: std::net::SocketAddr, voice: Option<Voice>) -> anyhow::Result<()> {
        let number = self.parties.len();
        let mut phone = Phone::new(number, 1, 0, Codec::Pcmu);
        let rtp = self.sockets.add_unconnected()?;
        let signalling = UdpSocket::bind("127.0.0.1:0")?;
        signalling.set_read_timeout(Some(JOIN_TIMEOUT))?;
        let at = signalling.local_addr()?;
        signalling.send_to(phone.invite(&format!("ear{room}"), sip, at, rtp).as_bytes(), sip)?;
        let mut buffer = [0; 65_536];
        loop {
            let len = signalling.recv(&mut buffer).context("no answer to a call")?;
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            let Some(answer) = Answer::read(&text).filter(|answer| answer.status >= 200) else { continue };
            anyhow::ensure!(answer.status < 300, "a call was refused:\n{text}");
            phone.answered(&answer)?;
            signalling.send_to(phone.ack(at).unwrap_or_default().as_bytes(), sip)?;
            break;
        }
        self.sockets.connect(number, phone.remote.context("no address")?)?;
        self.add(room, Wire::Phone(Ear::new(8000)), voice);
        Ok(())
    }

    fn join(&mut self, room: usize, publishes: bool) -> anyhow::Result<()> {
        let number = self.parties.len();
        let ufrag = format!("ear{number:04}");
        let local = sdp::Local {
            ufrag: &ufrag,
            pwd: "a-password-of-the-bench-22",
            fingerprint: &self.identity.fingerprint,
            ssrc: publishes.then_some(SSRC + number as u32),
        };
        let door = if publishes { "whip" } else { "whep" };
        let token = publishes.then_some(self.server.key.as_str());
        let request =
            http::post(&self.server.host, &format!("/ear{room}/{door}"), token, &ear::offer(&local));
        let http::Response { status, body, .. } = exchange(&self.server.host, &request)?;
        anyhow::ensure!(status == 201, "{door} answered {status}: {body}");
        let answer =
            sdp::answer(&body).with_context(|| format!("an answer without what we need:\n{body}"))?;
        self.sockets.set(number, answer.address)?;
        let client = Box::new(Client::new(&self.identity, &local, answer, Instant::now()));
        if publishes {
            self.add(room, Wire::Sender(client), Some(Voice::new(Mouth::Browser)?));
        } else {
            let decoder = opus::Decoder::new(48_000, opus::Channels::Mono)?;
            self.add(room, Wire::Viewer(client, Ear::new(48_000), decoder), None);
        }
        let limit = Instant::now() + JOIN_TIMEOUT;
        while !self.parties[number].client().is_some_and(|client| client.is_ready()) {
            anyhow::ensure!(Instant::now() < limit, "a browser got no connection");
            self.next_tick = Instant::now();
            self.drive(Instant::now() + Duration::from_millis(5))?;
        }
        Ok(())
    }

    /// Everybody's work until `end`.
    fn drive(&mut self, end: Instant) -> anyhow::Result<()> {
        while Instant::now() < end {
            let now = Instant::now();
            for number in 0..self.parties.len() {
                if now >= self.parties[number].next {
                    self.parties[number].next += FRAME;
                    self.speak(number)?;
                }
            }
            if now >= self.next_tick {
                self.next_tick = now + TICK;
                for number in 0..self.parties.len() {
                    if let Some(client) = self.parties[number].client() {
                        client.handle_timeout(now)?;
                    }
                    self.flush(number);
                }
            }
            std::thread::sleep(NAP);
            while self.receive_ready()? {}
        }
        Ok(())
    }

    fn flush(&mut self, number: usize) {
        while let Some(datagram) = self.parties[number].client().and_then(Client::poll_output) {
            self.sockets.send(number, &datagram);
        }
    }

    /// Sends a party's next packet: of its voice, or of silence.
    fn speak(&mut self, number: usize) -> anyhow::Result<()> {
        let party = &mut self.parties[number];
        let clock = if matches!(party.wire, Wire::Phone(_)) { 160 } else { 960 };
        party.sequence += 1;
        let (payload, begins) = match &mut party.voice {
            Some(voice) => voice.speak()?,
            None => (vec![0xff; 160], None),
        };
        let mouth = if clock == 160 { Mouth::Phone } else { Mouth::Browser };
        let fields = HeaderFields {
            marker: false,
            payload_type: if clock == 160 { 0 } else { OPUS },
            sequence: party.sequence as u16,
            timestamp: (party.sequence * clock) as u32,
            ssrc: SSRC + number as u32,
            padding: false,
        };
        let mut out = vec![0; 1500];
        let header = write_header(&mut out, &fields, &[])?;
        let len = match &mut party.wire {
            Wire::Viewer(..) => return Ok(()),
            Wire::Phone(_) => {
                out[header..header + payload.len()].copy_from_slice(&payload);
                header + payload.len()
            }
            Wire::Sender(client) => match &mut client.sender {
                Some(sender) => sender.seal_rtp(&mut out, header, party.sequence, fields.ssrc, &payload)?,
                None => return Ok(()),
            },
        };
        if let Some(behind) = begins.filter(|_| self.listening && self.sending) {
            self.tones[party.room].sent(mouth, wall()? + behind);
        }
        self.sockets.send(number, &out[..len]);
        Ok(())
    }

    fn receive_ready(&mut self) -> anyhow::Result<bool> {
        let ready = self.sockets.look()?;
        for index in 0..ready {
            if let Some(Token(number)) = self.sockets.ready(index) {
                self.receive(number)?;
            }
        }
        Ok(ready > 0)
    }

    fn receive(&mut self, number: usize) -> anyhow::Result<()> {
        let now = Instant::now();
        let Bench { sockets, parties, tones, delays, listening, .. } = self;
        // One that is being dialled has a socket and no more yet.
        let Some(party) = parties.get_mut(number) else { return Ok(()) };
        let listens = *listening && party.voice.is_none();
        sockets.receive(number, |datagram, arrived| {
            let browser = !matches!(party.wire, Wire::Phone(_));
            let Some(after) = party.wire.take(now, datagram)? else { return Ok(()) };
            if let Some((mouth, late)) = tones[party.room].heard(arrived + after).filter(|_| listens) {
                let way = &mut delays[place(mouth, browser)];
                way.delays.add(late);
                way.heard += 1;
            }
            Ok(())
        })?;
        self.flush(number);
        Ok(())
    }

    /// Each way with its name.
    fn ways(mut self) -> Vec<(&'static str, Way)> {
        let named = [
            ("telephone, telephone", Mouth::Phone, false),
            ("telephone, browser", Mouth::Phone, true),
            ("browser, telephone", Mouth::Browser, false),
            ("browser, browser", Mouth::Browser, true),
        ];
        let way = |(name, mouth, browser)| {
            let mut way = std::mem::take(&mut self.delays[place(mouth, browser)]);
            way.sent = self.tones.iter().map(|tones| tones.count(mouth)).sum();
            (name, way)
        };
        named.map(way).into()
    }
}

impl Party {
    fn client(&mut self) -> Option<&mut Client> {
        match &mut self.wire {
            Wire::Phone(_) => None,
            Wire::Sender(client) | Wire::Viewer(client, ..) => Some(client),
        }
    }
}

impl Wire {
    /// Takes a datagram; answers how many nanoseconds after its first sample a tone begins, if one does.
    fn take(&mut self, now: Instant, datagram: &mut [u8]) -> anyhow::Result<Option<u64>> {
        match self {
            Wire::Phone(ear) => {
                let Ok(view) = RtpView::parse(datagram) else { return Ok(None) };
                let samples: Vec<i16> = view.payload.iter().map(|byte| from_ulaw(*byte)).collect();
                Ok(if view.payload_type == 0 { ear.hear(&samples) } else { None })
            }
            Wire::Sender(client) => client.handle(now, datagram).map(|_| None),
            Wire::Viewer(client, ear, decoder) => {
                let Some(Media::Rtp(len, _)) = client.handle(now, datagram)? else { return Ok(None) };
                let Ok(view) = RtpView::parse(&datagram[..len]) else { return Ok(None) };
                let mut samples = [0; 5760];
                let count = decoder.decode(view.payload, &mut samples, false).unwrap_or(0);
                Ok(ear.hear(&samples[..count]))
            }
        }
    }
}
