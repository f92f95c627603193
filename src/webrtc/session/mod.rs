//! A WebRTC party as a `Session`: ICE-lite and DTLS, until its keys are handed to the worker.
//!
//! ```text
//! STUN checks ─► ice ─► path ─┐
//! DTLS from a checked path ───┴► dtls ─► certificate compared ─► keys
//!                                   └──► sctp ─► channels ─► messages, where they were asked for
//! ```
//! A ClientHello is answered as soon as it comes over a path that passed a check, before any nomination;
//! one that comes before its fingerprint is known waits for `SetRemoteDtls`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use tracing::debug;

use crate::core::data::DataCommand;
use crate::core::rtp::path::Path;
use crate::core::session::{
    Command, DtlsRole, Ending, Event, Fingerprint, Input, LocalCandidate, Output, Session, SessionFactory,
};
use crate::core::time::Epoch;
use crate::webrtc::wire::stun::Message;
use crate::webrtc::{SessionConfig, WebRtcError};

pub mod certificate;
pub(crate) mod channels;
pub(in crate::webrtc) mod dtls;
pub(in crate::webrtc) mod dtls12;
mod ice;
mod link;
mod plain;
mod sctp;

use certificate::Certificate;
use channels::Channels;
use dtls::{DtlsContext, DtlsOutput, Handshake};
use ice::IceAgent;
use link::{DtlsLink, Heard};
use plain::DtlsSession;

/// Makes WebRTC sessions that share a certificate and settings.
pub struct Factory {
    config: Arc<SessionConfig>,
    dtls: Arc<DtlsContext>,
}

impl Factory {
    /// A factory for sessions that show `certificate`.
    pub fn new(config: SessionConfig, certificate: Certificate) -> Result<Factory, WebRtcError> {
        let dtls = Arc::new(DtlsContext::new(&config, certificate)?);
        Ok(Factory { config: Arc::new(config), dtls })
    }

    /// A new session; see [`SessionFactory::webrtc`].
    pub fn session(&self, options: &Value, candidates: &[LocalCandidate]) -> Result<WebRtcSession, String> {
        let candidates = choose(options, candidates);
        if candidates.is_empty() {
            return Err("no local address of the protocols asked for".to_owned());
        }
        let ice = IceAgent::new(&self.config)?;
        let route = Event::Route { key: ice.credentials().ufrag.clone() };
        let config = &self.config;
        let dtls = DtlsLink::new(config, &self.dtls, options);
        let data = (options.get("enableSctp").and_then(Value::as_bool) == Some(true))
            .then(|| Box::new(Channels::new(&config.sctp, config.dtls_mtu, dtls.conn.clone())));
        Ok(WebRtcSession {
            config: Arc::clone(config),
            candidates,
            ice,
            dtls,
            data,
            ice_deadline: None,
            closed: false,
            out: VecDeque::from([Output::Event(route)]),
        })
    }
}

impl SessionFactory for Factory {
    fn webrtc(
        &self,
        _now: Instant,
        _epoch: Epoch,
        options: &Value,
        candidates: &[LocalCandidate],
    ) -> Result<Box<dyn Session>, String> {
        Ok(Box::new(self.session(options, candidates)?))
    }

    fn dtls(&self, options: &Value) -> Result<Box<dyn Session>, String> {
        Ok(Box::new(DtlsSession::new(&self.config, &self.dtls, options)))
    }

    fn route_key<'a>(&self, datagram: &'a [u8]) -> Option<&'a str> {
        Message::parse(datagram).ok()?.local_ufrag()
    }
}

/// The candidates that the options of `router.createWebRtcTransport` ask for, best first, each with the local
/// preference it is told with: 20,000, more for what is preferred, family before protocol. UDP comes first where
/// nothing else decides.
fn choose(options: &Value, candidates: &[LocalCandidate]) -> Vec<(LocalCandidate, u32)> {
    let option = |name: &str, default| options.get(name).and_then(Value::as_bool).unwrap_or(default);
    let (udp, tcp) = (option("udp", true), option("tcp", true));
    let preference = |candidate: &LocalCandidate| {
        let family = if candidate.address.is_ipv4() { "preferIPv4" } else { "preferIPv6" };
        let protocol = if candidate.tcp { "preferTcp" } else { "preferUdp" };
        20_000 + 10_000 * u32::from(option(family, false)) + 5_000 * u32::from(option(protocol, false))
    };
    let wanted = candidates.iter().filter(|candidate| if candidate.tcp { tcp } else { udp });
    let mut chosen: Vec<_> = wanted.map(|candidate| (candidate.clone(), preference(candidate))).collect();
    chosen.sort_by_key(|(candidate, preference)| (std::cmp::Reverse(*preference), candidate.tcp));
    chosen
}

/// One remote WebRTC party.
pub struct WebRtcSession {
    config: Arc<SessionConfig>,
    /// With their local preferences, best first.
    candidates: Vec<(LocalCandidate, u32)>,
    ice: IceAgent,
    dtls: DtlsLink,
    /// Data channels, where they were asked for.
    data: Option<Box<Channels>>,
    ice_deadline: Option<Instant>,
    closed: bool,
    out: VecDeque<Output>,
}

impl Session for WebRtcSession {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        if self.closed {
            return;
        }
        match input {
            Input::Datagram { path, data } if Message::is_stun(data) => {
                self.through_ice(now, |ice, out| ice.handle(now, path, data, out));
            }
            Input::Datagram { path, data } => self.handle_dtls(now, path, data),
            Input::Authenticated { path } => self.ice.prove(now, path, &mut self.out),
            Input::PathClosed { path } => {
                self.through_ice(now, |ice, out| ice.path_closed(now, path, out));
            }
            Input::Bytes(_) | Input::Eof => {}
        }
    }

    fn command(&mut self, now: Instant, command: Command) -> Result<Value, String> {
        if self.closed {
            return Err("the transport is closed".to_owned());
        }
        match command {
            Command::SetRemoteDtls { role, fingerprints } => self.set_remote_dtls(now, role, fingerprints),
            Command::SetRemoteIce { ufrag, .. } => {
                self.ice.set_remote_ufrag(ufrag);
                Ok(json!({}))
            }
            Command::SetRemotePath { .. } => Ok(json!({})),
            Command::RestartIce => {
                let credentials = self.ice.restart(&mut self.out)?;
                Ok(json!({ "usernameFragment": credentials.ufrag, "password": credentials.pwd }))
            }
            Command::RequestKeyframe { .. } => Ok(json!({})),
            Command::Data(command) => self.data_command(now, command),
            Command::Close { reason } => {
                self.close(now, reason, Ending::Closed);
                Ok(json!({}))
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        if self.ice_deadline.is_some_and(|deadline| now >= deadline) {
            let seconds = self.config.ice_timeout().as_secs();
            return self.close(
                now,
                format!("no connectivity check arrived within {seconds} s"),
                Ending::Timeout,
            );
        }
        if let Some(reason) = self.dtls.expired(now, &mut self.out) {
            return self.close(now, reason, Ending::Timeout);
        }
        self.through_ice(now, |ice, out| ice.handle_timeout(now, out));
        if self.ice.is_dead(now) {
            return self.close(now, "the remote party is gone".to_owned(), Ending::Timeout);
        }
        if self.dtls.is_due(now) {
            self.drive(now, |handshake, out| handshake.handle_timeout(now, out));
        }
        if let Some(data) = self.data.as_mut().filter(|data| data.poll_timeout().is_some_and(|at| now >= at))
        {
            data.handle_timeout(now);
            self.flush_data(now);
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        let data = self.data.as_ref().and_then(|data| data.poll_timeout());
        [self.ice_deadline, self.ice.poll_timeout(), self.dtls.poll_timeout(), data]
            .into_iter()
            .flatten()
            .min()
    }

    fn dump(&self) -> Value {
        let credentials = self.ice.credentials();
        let mut dump = json!({
            "iceRole": "controlled",
            "iceLocalParameters": {
                "usernameFragment": credentials.ufrag,
                "password": credentials.pwd,
                "iceLite": true,
            },
            "iceLocalCandidates": self.dump_candidates(),
            "iceState": self.ice.state().name(),
            "dtlsLocalParameters": self.dtls.dump(),
            "dtlsState": self.dtls.state,
        });
        if let Some(data) = &self.data {
            (dump["sctpState"], dump["sctpParameters"]) = data.dump();
        }
        if let (Some(path), Value::Object(fields)) = (self.ice.selected(), &mut dump) {
            fields.insert("iceSelectedTuple".to_owned(), self.dump_tuple(path));
        }
        dump
    }
}

impl WebRtcSession {
    fn set_remote_dtls(
        &mut self,
        now: Instant,
        role: DtlsRole,
        fingerprints: Vec<Fingerprint>,
    ) -> Result<Value, String> {
        let early = self.dtls.set_remote(role, fingerprints, |context, client, fingerprints| {
            Handshake::new(context, now, client, fingerprints)
        })?;
        self.arm(now);
        self.begin(now);
        for (path, data) in early {
            self.handle_dtls(now, path, &data);
        }
        Ok(json!({ "role": self.dtls.role }))
    }

    /// Lets the ICE agent act and follows up what changed.
    fn through_ice(&mut self, now: Instant, action: impl FnOnce(&mut IceAgent, &mut VecDeque<Output>)) {
        let (before, state) = (self.ice.selected(), self.ice.state());
        action(&mut self.ice, &mut self.out);
        let selected = self.ice.selected();
        if selected != before {
            self.dtls.path = selected.or(self.dtls.path);
        }
        if state != self.ice.state() {
            debug!(conn = %self.dtls.conn, state = self.ice.state().name(), "ICE");
        }
        self.arm(now);
        self.begin(now);
    }

    /// Sets the deadlines of what is still outstanding.
    fn arm(&mut self, now: Instant) {
        let Some(connected) = self.dtls.is_connected() else { return };
        if !self.ice.heard_of_remote() {
            self.ice_deadline.get_or_insert(now + self.config.ice_timeout());
            return;
        }
        self.ice_deadline = None;
        if !connected {
            self.dtls.arm(now);
        }
    }

    /// As a DTLS client: the first flight, as soon as there is a path for it.
    fn begin(&mut self, now: Instant) {
        if self.dtls.may_begin(&mut self.out) {
            self.drive(now, |handshake, out| handshake.handle_timeout(now, out));
        }
    }

    /// A DTLS datagram; over a path that never passed a check it is dropped.
    fn handle_dtls(&mut self, now: Instant, path: Path, data: &[u8]) {
        let is_dtls = data.first().is_some_and(|byte| (20..64).contains(byte));
        if !self.closed && is_dtls && self.ice.knows(&path) && self.dtls.takes(path, data, &mut self.out) {
            self.drive(now, |handshake, out| handshake.handle_packet(now, data, out));
        }
    }

    fn drive(
        &mut self,
        now: Instant,
        action: impl FnOnce(&mut Handshake, &mut Vec<DtlsOutput>) -> Result<(), WebRtcError>,
    ) {
        let heard = self.dtls.drive(self.ice.selected(), &mut self.out, action);
        for heard in heard {
            match heard {
                Heard::Connected => self.connected(now),
                Heard::Data(packet) => {
                    if let Some(data) = &mut self.data {
                        data.handle_packet(now, &packet);
                    }
                }
                Heard::Ended(reason, ending) => self.close(now, reason, ending),
            }
        }
        self.flush_data(now);
    }

    fn connected(&mut self, now: Instant) {
        if let Some(path) = self.dtls.path {
            self.ice.prove(now, path, &mut self.out);
        }
        if let Some(data) = &mut self.data {
            data.start(now, self.dtls.is_client());
        }
    }

    fn data_command(&mut self, now: Instant, command: DataCommand) -> Result<Value, String> {
        let data = self.data.as_mut().ok_or("the transport was made without SCTP")?;
        let answer = data.command(now, command, self.dtls.is_client());
        self.flush_data(now);
        answer
    }

    /// Hands on what the data channels have to say and to send.
    fn flush_data(&mut self, now: Instant) {
        let Some(data) = &mut self.data else { return };
        while let Some(event) = data.poll_event() {
            self.out.push_back(Output::Event(Event::Data(event)));
        }
        let packets: Vec<_> = std::iter::from_fn(|| data.poll_packet()).collect();
        if !packets.is_empty() {
            self.drive(now, |handshake, out| {
                packets.iter().try_for_each(|packet| handshake.send(now, packet, out))
            });
        }
    }

    fn close(&mut self, now: Instant, reason: String, ending: Ending) {
        if self.closed {
            return;
        }
        self.closed = true;
        self.dtls.close(now, self.ice.selected(), &mut self.out);
        debug!(conn = %self.dtls.conn, reason, "WebRTC session ends");
        self.out.push_back(Output::Event(Event::Closed { reason, ending }));
    }

    fn dump_candidates(&self) -> Vec<Value> {
        let dump = |(index, (local, preference)): (u32, &(LocalCandidate, u32))| {
            let protocol = if local.tcp { "tcp" } else { "udp" };
            let mut value = json!({
                "foundation": format!("{protocol}candidate"),
                "family": if local.address.is_ipv4() { "ipv4" } else { "ipv6" },
                "ip": local.address.ip().to_string(),
                "port": local.address.port(),
                // RFC 8445 §5.1.2.1 with a type preference of 64, as v2 clients know it; no two are equal.
                "priority": (64 << 24) | (preference.saturating_sub(index) << 8) | 255,
                "type": "host",
                "protocol": protocol,
            });
            if let (true, Value::Object(fields)) = (local.tcp, &mut value) {
                fields.insert("tcpType".to_owned(), json!("passive"));
            }
            value
        };
        (0..).zip(&self.candidates).map(dump).collect()
    }

    /// The local port is that of the candidate the path belongs to, as far as can be told from here.
    fn dump_tuple(&self, path: Path) -> Value {
        let (tcp, local) = match path {
            Path::Udp { local, .. } => (false, Some(local)),
            Path::Tcp { .. } => (true, None),
        };
        let known = self.candidates.iter().map(|(candidate, _)| candidate);
        let same_protocol = || known.clone().filter(move |candidate| candidate.tcp == tcp);
        let candidate = same_protocol()
            .find(|candidate| Some(candidate.address.ip()) == local)
            .or_else(|| same_protocol().next());
        let announced = candidate.map(|candidate| candidate.address);
        json!({
            "localIP": local.or(announced.map(|address| address.ip())).map(|ip| ip.to_string()),
            "localPort": announced.map(|address| address.port()),
            "remoteIP": path.remote().ip().to_string(),
            "remotePort": path.remote().port(),
            "protocol": if tcp { "tcp" } else { "udp" },
        })
    }
}
