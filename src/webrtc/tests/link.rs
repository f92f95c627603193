//! A remote party (full ICE agent's checks and a DTLS endpoint) and the link to it, in virtual time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Dtls, Output as DtlsOutput};

use crate::core::data::DataCommand;
use crate::core::rtp::path::Path;
use crate::core::session::{Command, DtlsRole, Event, Fingerprint, Input, LocalCandidate, Output, Session};
use crate::webrtc::session::channels::Channels;
use crate::webrtc::wire::stun::{Class, IntegrityKey, Message, Writer, attr};
use crate::webrtc::{Certificate, Factory, SessionConfig, WebRtcSession};

/// Which DTLS the remote party speaks.
#[derive(Clone, Copy, Debug)]
pub enum Speaks {
    Only12,
    Only13,
    Either,
}

/// What the link does to datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub delay: Duration,
    pub jitter: Duration,
    /// Of 100.
    pub loss: u64,
}

pub const FAIR: Weather = Weather { delay: Duration::from_millis(10), jitter: Duration::ZERO, loss: 0 };

struct Flying {
    at: Instant,
    to_server: bool,
    path: Path,
    data: Vec<u8>,
}

/// Our session, the remote party and what flies between them.
pub struct World {
    pub now: Instant,
    pub server: WebRtcSession,
    pub events: Vec<Event>,
    pub weather: Weather,
    pub path: Path,
    pub ufrag: String,
    pub pwd: String,
    /// Answers to our checks: `None` for success, else the error code.
    pub answers: Vec<Option<u16>>,
    pub remote_ufrag: String,
    /// Send checks by oneself.
    pub checking: bool,
    pub nominate: bool,
    pub dtls: Dtls,
    pub dtls_connected: bool,
    pub dtls_closed: bool,
    pub keys: Option<(Vec<u8>, dimpl::SrtpProfile)>,
    pub fingerprints: Vec<Fingerprint>,
    /// The remote party's data channels.
    pub data: Option<Channels>,
    next_check: Instant,
    flying: Vec<Flying>,
    seed: u64,
}

pub fn path(remote: &str) -> Path {
    Path::Udp { socket: 0, local: [192, 0, 2, 1].into(), remote: remote.parse().expect("address") }
}

impl World {
    pub fn new(config: SessionConfig, speaks: Speaks, mtu: usize) -> World {
        World::with_options(config, speaks, mtu, &serde_json::json!({}))
    }

    /// Both ends carry data channels.
    pub fn with_data(config: SessionConfig, speaks: Speaks) -> World {
        let data = Channels::new(&config.sctp, 1200, "remote".to_owned());
        let mut world = World::with_options(config, speaks, 1200, &serde_json::json!({"enableSctp": true}));
        world.data = Some(data);
        world
    }

    fn with_options(config: SessionConfig, speaks: Speaks, mtu: usize, options: &serde_json::Value) -> World {
        let now = Instant::now();
        let factory = Factory::new(config, Certificate::generate().expect("certificate")).expect("factory");
        let candidate = LocalCandidate { tcp: false, address: "192.0.2.1:8189".parse().expect("address") };
        let server = factory.session(options, &[candidate]).expect("session");
        let dump = server.dump();
        let text = |name: &str| dump["iceLocalParameters"][name].as_str().expect("credentials").to_owned();
        let certificate = Certificate::generate().expect("certificate");
        let dtls_config = dimpl::Config::builder().mtu(mtu).build().expect("config");
        let (dtls_config, identity) = (Arc::new(dtls_config), certificate.to_dtls());
        let dtls = match speaks {
            Speaks::Only12 => Dtls::new_12(dtls_config, identity, now),
            Speaks::Only13 => Dtls::new_13(dtls_config, identity, now),
            Speaks::Either => Dtls::new_auto(dtls_config, identity, now),
        };
        World {
            now,
            events: Vec::new(),
            weather: FAIR,
            path: path("198.51.100.7:50000"),
            ufrag: text("usernameFragment"),
            pwd: text("password"),
            answers: Vec::new(),
            remote_ufrag: "remo".to_owned(),
            checking: true,
            nominate: true,
            dtls,
            dtls_connected: false,
            dtls_closed: false,
            keys: None,
            fingerprints: certificate.fingerprints(),
            data: None,
            next_check: now,
            flying: Vec::new(),
            seed: 1,
            server,
        }
    }

    /// Tells our session the remote certificate; `role` is the remote's.
    pub fn connect(&mut self, role: DtlsRole) -> serde_json::Value {
        let fingerprints = self.fingerprints[2..3].to_vec();
        let answer = self.command(Command::SetRemoteDtls { role, fingerprints }).expect("set remote DTLS");
        if role != DtlsRole::Server {
            self.say_hello();
        }
        answer
    }

    /// The remote party's first flight.
    pub fn say_hello(&mut self) {
        self.dtls.set_active(true);
        self.dtls.handle_timeout(self.now).expect("begin");
        self.drain_client();
    }

    pub fn say_good_bye(&mut self) {
        self.dtls.close().expect("close");
        self.drain_client();
    }

    /// Something else than SCTP over DTLS.
    pub fn say(&mut self, data: &[u8]) {
        self.dtls.send_application_data(data).expect("sent");
        self.drain_client();
    }

    pub fn input(&mut self, input: Input<'_>) {
        self.server.handle_input(self.now, input);
        self.drain_server();
    }

    pub fn command(&mut self, command: Command) -> Result<serde_json::Value, String> {
        let result = self.server.command(self.now, command);
        self.drain_server();
        result
    }

    /// Lets virtual time pass, at most `limit`, until `done`.
    pub fn run(&mut self, limit: Duration, mut done: impl FnMut(&World) -> bool) -> bool {
        let end = self.now + limit;
        while !done(self) {
            let next = self.next_event().filter(|at| *at <= end);
            let Some(next) = next else {
                self.now = end;
                self.wake();
                return done(self);
            };
            self.now = next.max(self.now);
            self.deliver();
            self.wake();
        }
        true
    }

    pub fn pass(&mut self, time: Duration) {
        self.run(time, |_| false);
    }

    /// One check over `path`; nothing of it is lost.
    pub fn check(&mut self, path: Path, nominate: bool) {
        let request = self.request(nominate);
        self.server.handle_input(self.now, Input::Datagram { path, data: &request });
        self.drain_server();
        self.pass(self.weather.delay * 2);
    }

    pub fn request(&mut self, nominate: bool) -> Vec<u8> {
        let mut transaction = [0; 12];
        transaction[..8].copy_from_slice(&self.random().to_be_bytes());
        let mut writer = Writer::new(Class::Request, transaction)
            .attribute(attr::USERNAME, format!("{}:{}", self.ufrag, self.remote_ufrag).as_bytes())
            .attribute(attr::PRIORITY, &1_000u32.to_be_bytes())
            .attribute(attr::ICE_CONTROLLING, &7u64.to_be_bytes());
        if nominate {
            writer = writer.attribute(attr::USE_CANDIDATE, &[]);
        }
        writer.finish(Some(&IntegrityKey::new(&self.pwd)))
    }

    /// A datagram of the remote party to our session, through the weather.
    pub fn send(&mut self, path: Path, data: Vec<u8>) {
        self.fly(true, path, data);
    }

    /// The paths that were selected, with their allowance.
    pub fn selections(&self) -> Vec<(Path, Option<u32>)> {
        self.events
            .iter()
            .filter_map(|event| match event {
                Event::SelectedPath { path, probation } => Some((*path, *probation)),
                _ => None,
            })
            .collect()
    }

    pub fn server_keys(&self) -> Option<&crate::core::rtp::keys::SrtpKeys> {
        self.events.iter().find_map(|event| match event {
            Event::SrtpKeys(keys) => Some(keys),
            _ => None,
        })
    }

    pub fn closed(&self) -> Option<(&str, bool)> {
        self.events.iter().find_map(|event| match event {
            Event::Closed { reason, ending } => Some((reason.as_str(), ending.is_clean())),
            _ => None,
        })
    }

    pub fn ice_states(&self) -> Vec<&'static str> {
        self.events
            .iter()
            .filter_map(|e| if let Event::IceState(state) = e { Some(*state) } else { None })
            .collect()
    }

    fn next_event(&mut self) -> Option<Instant> {
        let check = self.checking.then_some(self.next_check);
        let flying = self.flying.iter().map(|flying| flying.at).min();
        let client = self.client_timeout();
        let data = self.data.as_ref().and_then(Channels::poll_timeout);
        [check, flying, client, data, self.server.poll_timeout()].into_iter().flatten().min()
    }

    fn deliver(&mut self) {
        let now = self.now;
        let (mut arrived, flying): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.flying).into_iter().partition(|flying| flying.at <= now);
        self.flying = flying;
        arrived.sort_by_key(|flying| flying.at);
        for Flying { to_server, path, data, .. } in arrived {
            if to_server {
                self.server.handle_input(now, Input::Datagram { path, data: &data });
                self.drain_server();
            } else {
                self.client_takes(&data);
            }
        }
    }

    fn wake(&mut self) {
        if self.checking && self.now >= self.next_check {
            let request = self.request(self.nominate);
            self.fly(true, self.path, request);
            let period = if self.answers.is_empty() { 50 } else { 2_500 };
            self.next_check = self.now + Duration::from_millis(period);
        }
        if self.client_timeout().is_some_and(|at| self.now >= at) {
            let _ = self.dtls.handle_timeout(self.now);
            self.drain_client();
        }
        if let Some(data) = &mut self.data {
            data.handle_timeout(self.now);
            self.drain_client();
        }
        if self.server.poll_timeout().is_some_and(|at| self.now >= at) {
            self.server.handle_timeout(self.now);
            self.drain_server();
        }
    }

    fn drain_server(&mut self) {
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Datagram { path, data } => self.fly(false, path, data),
                Output::Event(event) => self.events.push(event),
                Output::Bytes(_) => panic!("a WebRTC session has no byte stream"),
            }
        }
    }

    fn client_takes(&mut self, data: &[u8]) {
        if Message::is_stun(data) {
            let message = Message::parse(data).expect("our STUN");
            if message.class == Class::Success {
                assert!(message.verify(&IntegrityKey::new(&self.pwd)), "our answers are signed");
            }
            return self.answers.push(message.error);
        }
        let _ = self.dtls.handle_timeout(self.now);
        self.drain_client();
        let _ = self.dtls.handle_packet(data);
        self.drain_client();
    }

    fn client_timeout(&mut self) -> Option<Instant> {
        let mut buffer = [0; 2048];
        match self.dtls.poll_output(&mut buffer) {
            DtlsOutput::Timeout(at) => Some(at).filter(|at| *at < self.now + Duration::from_secs(3600)),
            other => panic!("not drained: {other:?}"),
        }
    }

    /// Asks the remote party's data channels for something.
    pub fn client_command(&mut self, command: DataCommand) -> Result<serde_json::Value, String> {
        let answer = self.data.as_mut().expect("data channels").command(self.now, command, true);
        self.drain_client();
        answer
    }

    fn drain_client(&mut self) {
        self.drain_client_dtls();
        while let Some(packet) = self.data.as_mut().and_then(Channels::poll_packet) {
            self.dtls.send_application_data(&packet).expect("sent");
            self.drain_client_dtls();
        }
    }

    fn drain_client_dtls(&mut self) {
        let mut buffer = [0; 2048];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                DtlsOutput::Packet(packet) => {
                    let packet = packet.to_vec();
                    self.fly(true, self.path, packet);
                }
                DtlsOutput::Timeout(_) => break,
                DtlsOutput::ApplicationData(packet) => {
                    if let Some(data) = &mut self.data {
                        data.handle_packet(self.now, packet);
                    }
                }
                DtlsOutput::Connected => {
                    self.dtls_connected = true;
                    if let Some(data) = &mut self.data {
                        data.start(self.now, self.dtls.is_active());
                    }
                }
                DtlsOutput::KeyingMaterial(keys, profile) => self.keys = Some((keys.to_vec(), profile)),
                DtlsOutput::CloseNotify => self.dtls_closed = true,
                _ => {}
            }
        }
    }

    fn fly(&mut self, to_server: bool, path: Path, data: Vec<u8>) {
        if self.random() % 100 < self.weather.loss {
            return;
        }
        let jitter = self.weather.jitter.as_micros() as u64;
        let jitter = if jitter == 0 { 0 } else { self.random() % jitter };
        let at = self.now + self.weather.delay + Duration::from_micros(jitter);
        self.flying.push(Flying { at, to_server, path, data });
    }

    pub fn reseed(&mut self, seed: u64) {
        self.seed = seed;
    }

    /// xorshift64*.
    fn random(&mut self) -> u64 {
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        self.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }
}
