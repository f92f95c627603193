//! The DTLS of one session, whatever finds its paths: a handshake that begins when the remote fingerprint and, as
//! a client, a path are known, its state, its deadline and its end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use tracing::debug;

use super::certificate;
use super::dtls::{DtlsContext, DtlsOutput, Handshake};
use crate::core::rtp::path::Path;
use crate::core::session::{DtlsRole, Ending, Event, Fingerprint, Output};
use crate::webrtc::{SessionConfig, WebRtcError};

/// See the module.
pub(super) struct DtlsLink {
    config: Arc<SessionConfig>,
    context: Arc<DtlsContext>,
    pub conn: String,
    pub role: DtlsRole,
    handshake: Option<Handshake>,
    /// Datagrams that came before the remote fingerprint.
    early: Vec<(Path, Vec<u8>)>,
    /// Where it goes: where it last came from, or where the session says.
    pub path: Option<Path>,
    pub state: &'static str,
    pub deadline: Option<Instant>,
}

/// What a session has to act on.
pub(super) enum Heard {
    /// Keys were agreed on.
    Connected,
    /// Application data.
    Data(Vec<u8>),
    /// It has failed, or was closed by the remote party.
    Ended(String, Ending),
}

impl DtlsLink {
    /// A handshake still to come; `options` name the connection for the log.
    pub fn new(config: &Arc<SessionConfig>, context: &Arc<DtlsContext>, options: &Value) -> DtlsLink {
        DtlsLink {
            config: Arc::clone(config),
            context: Arc::clone(context),
            conn: options.get("x.connId").and_then(Value::as_str).unwrap_or("-").to_owned(),
            role: DtlsRole::Auto,
            handshake: None,
            early: Vec::new(),
            path: None,
            state: "new",
            deadline: None,
        }
    }

    /// Makes the handshake, by `make(context, client, fingerprints)`. The remote role `auto` makes us the server,
    /// which is what an answerer of `actpass` may choose. The caller begins, and hands back what came early.
    pub fn set_remote(
        &mut self,
        role: DtlsRole,
        fingerprints: Vec<Fingerprint>,
        make: impl FnOnce(&Arc<DtlsContext>, bool, Vec<Fingerprint>) -> Result<Handshake, WebRtcError>,
    ) -> Result<Vec<(Path, Vec<u8>)>, String> {
        if self.handshake.is_some() {
            return Err("remote DTLS parameters were already set".to_owned());
        }
        if !fingerprints.iter().any(Fingerprint::is_supported) {
            return Err("no fingerprint of a supported algorithm".to_owned());
        }
        let client = role == DtlsRole::Server;
        self.handshake = Some(make(&self.context, client, fingerprints).map_err(|error| error.to_string())?);
        self.role = if client { DtlsRole::Client } else { DtlsRole::Server };
        Ok(std::mem::take(&mut self.early))
    }

    /// Whether it may still go on: with `Some(true)` the handshake is through.
    pub fn is_connected(&self) -> Option<bool> {
        self.handshake.as_ref().map(Handshake::is_connected)
    }

    pub fn is_client(&self) -> bool {
        self.role == DtlsRole::Client
    }

    /// The handshake has to be through within the time there is for it.
    pub fn arm(&mut self, now: Instant) {
        self.deadline.get_or_insert(now + self.config.dtls_timeout());
    }

    /// As a client: whether the first flight may go, now that there is a path for it.
    pub fn may_begin(&mut self, out: &mut VecDeque<Output>) -> bool {
        let may = self.handshake.is_some() && self.is_client() && self.state == "new" && self.path.is_some();
        if may {
            self.set_state("connecting", out);
        }
        may
    }

    /// A datagram came over `path`; answers whether the handshake is to have it: it is kept until there is one.
    pub fn takes(&mut self, path: Path, data: &[u8], out: &mut VecDeque<Output>) -> bool {
        if self.handshake.is_none() {
            if self.early.len() < self.config.max_early_datagrams {
                self.early.push((path, data.to_vec()));
            }
            return false;
        }
        self.path = Some(path);
        if self.state == "new" {
            self.set_state("connecting", out);
        }
        true
    }

    /// Lets the handshake act. Once it is through, datagrams go over `selected` where there is one.
    pub fn drive(
        &mut self,
        selected: Option<Path>,
        out: &mut VecDeque<Output>,
        action: impl FnOnce(&mut Handshake, &mut Vec<DtlsOutput>) -> Result<(), WebRtcError>,
    ) -> Vec<Heard> {
        let Some(handshake) = self.handshake.as_mut() else { return Vec::new() };
        let mut outputs = Vec::new();
        let result = action(handshake, &mut outputs);
        let mut heard: Vec<Heard> =
            outputs.into_iter().filter_map(|output| self.take(output, selected, out)).collect();
        if let Err(error) = result {
            self.set_state(if self.state == "connected" { "closed" } else { "failed" }, out);
            heard.push(Heard::Ended(error.to_string(), Ending::Error));
        }
        heard
    }

    fn take(
        &mut self,
        output: DtlsOutput,
        selected: Option<Path>,
        out: &mut VecDeque<Output>,
    ) -> Option<Heard> {
        match output {
            DtlsOutput::Packet(data) => {
                let path = selected.filter(|_| self.state == "connected").or(self.path);
                out.extend(path.map(|path| Output::Datagram { path, data }));
                None
            }
            DtlsOutput::Data(packet) => Some(Heard::Data(packet)),
            DtlsOutput::Keys(keys) => {
                debug!(conn = %self.conn, profile = ?keys.profile, "DTLS is through");
                self.deadline = None;
                self.set_state("connected", out);
                out.push_back(Output::Event(Event::SrtpKeys(keys)));
                Some(Heard::Connected)
            }
            DtlsOutput::Closed => {
                self.set_state("closed", out);
                Some(Heard::Ended("the remote party closed the connection".to_owned(), Ending::Left))
            }
        }
    }

    /// Whether the handshake wants to act at `now`.
    pub fn is_due(&self, now: Instant) -> bool {
        self.poll_handshake().is_some_and(|at| now >= at)
    }

    /// Whether the time for it is over; then why it ends.
    pub fn expired(&mut self, now: Instant, out: &mut VecDeque<Output>) -> Option<String> {
        self.deadline.filter(|deadline| now >= *deadline)?;
        self.set_state("failed", out);
        Some(format!("DTLS was not through within {} s", self.config.dtls_timeout().as_secs()))
    }

    /// When it wants to act next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline.into_iter().chain(self.poll_handshake()).min()
    }

    fn poll_handshake(&self) -> Option<Instant> {
        self.handshake.as_ref().and_then(Handshake::poll_timeout)
    }

    /// Says goodbye; what comes back does not matter any more.
    pub fn close(&mut self, now: Instant, selected: Option<Path>, out: &mut VecDeque<Output>) {
        self.drive(selected, out, |handshake, outputs| {
            handshake.close(now, outputs);
            Ok(())
        });
        if matches!(self.state, "connecting" | "connected") {
            self.set_state("closed", out);
        }
    }

    fn set_state(&mut self, state: &'static str, out: &mut VecDeque<Output>) {
        self.state = state;
        let shown = self.handshake.as_ref().and_then(Handshake::remote_certificate);
        let certificate = shown.filter(|_| state == "connected").map(certificate::to_pem);
        out.push_back(Output::Event(Event::DtlsState { state, certificate }));
    }

    /// Its part of a dump.
    pub fn dump(&self) -> Value {
        json!({ "role": self.role, "fingerprints": self.context.fingerprints() })
    }
}
