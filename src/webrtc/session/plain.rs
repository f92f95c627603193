//! DTLS without ICE, as telephones speak it on the port of their RTP (RFC 5763): a handshake over paths that the leg
//! answers for. Until the party has spoken it is said to be where its SDP says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use tracing::debug;

use super::certificate;
use super::dtls::{DtlsContext, DtlsOutput, Handshake};
use crate::core::rtp::path::Path;
use crate::core::session::{Command, DtlsRole, Ending, Event, Fingerprint, Input, Output, Session};
use crate::webrtc::{SessionConfig, WebRtcError};

/// See the module.
pub(super) struct DtlsSession {
    config: Arc<SessionConfig>,
    context: Arc<DtlsContext>,
    conn: String,
    role: DtlsRole,
    handshake: Option<Handshake>,
    /// Datagrams that came before the remote fingerprint.
    early: Vec<(Path, Vec<u8>)>,
    path: Option<Path>,
    state: &'static str,
    deadline: Option<Instant>,
    closed: bool,
    out: VecDeque<Output>,
}

impl DtlsSession {
    /// A handshake still to come; `options` name the connection for the log.
    pub fn new(config: Arc<SessionConfig>, context: Arc<DtlsContext>, options: &Value) -> DtlsSession {
        DtlsSession {
            config,
            context,
            conn: options.get("x.connId").and_then(Value::as_str).unwrap_or("-").to_owned(),
            role: DtlsRole::Auto,
            handshake: None,
            early: Vec::new(),
            path: None,
            state: "new",
            deadline: None,
            closed: false,
            out: VecDeque::new(),
        }
    }

    /// As in [`super::WebRtcSession`].
    fn set_remote(
        &mut self,
        now: Instant,
        role: DtlsRole,
        fingerprints: Vec<Fingerprint>,
    ) -> Result<Value, String> {
        if self.handshake.is_some() {
            return Err("remote DTLS parameters were already set".to_owned());
        }
        if !fingerprints.iter().any(Fingerprint::is_supported) {
            return Err("no fingerprint of a supported algorithm".to_owned());
        }
        let client = role == DtlsRole::Server;
        let handshake = Handshake::unchecked(&self.context, client, fingerprints);
        self.handshake = Some(handshake.map_err(|error| error.to_string())?);
        self.role = if client { DtlsRole::Client } else { DtlsRole::Server };
        self.deadline = Some(now + self.config.dtls_timeout());
        self.begin(now);
        for (path, data) in std::mem::take(&mut self.early) {
            self.take(now, path, &data);
        }
        Ok(json!({ "role": self.role }))
    }

    fn begin(&mut self, now: Instant) {
        let client = self.handshake.as_ref().is_some_and(Handshake::is_client);
        if client && self.state == "new" && self.path.is_some() {
            self.set_state("connecting");
            self.drive(now, |handshake, out| handshake.handle_timeout(now, out));
        }
    }

    fn take(&mut self, now: Instant, path: Path, data: &[u8]) {
        if self.handshake.is_none() {
            if self.early.len() < self.config.max_early_datagrams {
                self.early.push((path, data.to_vec()));
            }
            return;
        }
        self.path = Some(path);
        if self.state == "new" {
            self.set_state("connecting");
        }
        self.drive(now, |handshake, out| handshake.handle_packet(now, data, out));
    }

    fn drive(
        &mut self,
        now: Instant,
        action: impl FnOnce(&mut Handshake, &mut Vec<DtlsOutput>) -> Result<(), WebRtcError>,
    ) {
        let Some(handshake) = self.handshake.as_mut() else { return };
        let mut outputs = Vec::new();
        let result = action(handshake, &mut outputs);
        self.take_outputs(now, outputs);
        if let Err(error) = result {
            self.set_state(if self.state == "connected" { "closed" } else { "failed" });
            self.close(now, error.to_string(), Ending::Error);
        }
    }

    fn take_outputs(&mut self, now: Instant, outputs: Vec<DtlsOutput>) {
        for output in outputs {
            match output {
                DtlsOutput::Packet(data) => {
                    if let Some(path) = self.path {
                        self.out.push_back(Output::Datagram { path, data });
                    }
                }
                DtlsOutput::Keys(keys) => {
                    debug!(conn = %self.conn, profile = ?keys.profile, "DTLS is through");
                    self.deadline = None;
                    self.set_state("connected");
                    self.out.push_back(Output::Event(Event::SrtpKeys(keys)));
                }
                // A telephone has no data channels.
                DtlsOutput::Data(_) => {}
                DtlsOutput::Closed => {
                    self.set_state("closed");
                    self.close(now, "the remote party closed the connection".to_owned(), Ending::Left);
                }
            }
        }
    }

    fn close(&mut self, now: Instant, reason: String, ending: Ending) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let mut outputs = Vec::new();
        if let Some(handshake) = self.handshake.as_mut() {
            handshake.close(now, &mut outputs);
        }
        self.take_outputs(now, outputs);
        debug!(conn = %self.conn, reason, "DTLS ends");
        self.out.push_back(Output::Event(Event::Closed { reason, ending }));
    }

    fn set_state(&mut self, state: &'static str) {
        self.state = state;
        let shown = self.handshake.as_ref().and_then(Handshake::remote_certificate);
        let certificate = shown.filter(|_| state == "connected").map(certificate::to_pem);
        self.out.push_back(Output::Event(Event::DtlsState { state, certificate }));
    }
}

impl Session for DtlsSession {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        if let Input::Datagram { path, data } = input
            && !self.closed
        {
            self.take(now, path, data);
        }
    }

    fn command(&mut self, now: Instant, command: Command) -> Result<Value, String> {
        if self.closed {
            return Err("the transport is closed".to_owned());
        }
        match command {
            Command::SetRemoteDtls { role, fingerprints } => self.set_remote(now, role, fingerprints),
            Command::SetRemotePath { path } => {
                // Where it has spoken from since is better known.
                if self.state == "new" {
                    self.path = Some(path);
                    self.begin(now);
                }
                Ok(json!({}))
            }
            Command::SetRemoteIce { .. } | Command::RequestKeyframe { .. } => Ok(json!({})),
            Command::RestartIce => Err("the transport has no ICE".to_owned()),
            Command::Data(_) => Err("the transport carries no data channels".to_owned()),
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
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            let seconds = self.config.dtls_timeout().as_secs();
            self.set_state("failed");
            return self.close(now, format!("DTLS was not through within {seconds} s"), Ending::Timeout);
        }
        if self.handshake.as_ref().and_then(Handshake::poll_timeout).is_some_and(|at| now >= at) {
            self.drive(now, |handshake, out| handshake.handle_timeout(now, out));
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        let handshake = self.handshake.as_ref().and_then(Handshake::poll_timeout);
        self.deadline.into_iter().chain(handshake).min()
    }

    fn dump(&self) -> Value {
        json!({
            "dtlsLocalParameters": { "role": self.role, "fingerprints": self.context.fingerprints() },
            "dtlsState": self.state,
        })
    }
}
