//! DTLS without ICE, as telephones speak it on the port of their RTP (RFC 5763): a handshake over paths that the leg
//! answers for. Until the party has spoken it is said to be where its SDP says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use tracing::debug;

use super::dtls::{DtlsContext, DtlsOutput, Handshake};
use super::link::{DtlsLink, Heard};
use crate::core::rtp::path::Path;
use crate::core::session::{Command, DtlsRole, Ending, Event, Fingerprint, Input, Output, Session};
use crate::webrtc::{SessionConfig, WebRtcError};

/// See the module.
pub(super) struct DtlsSession {
    dtls: DtlsLink,
    closed: bool,
    out: VecDeque<Output>,
}

impl DtlsSession {
    /// A handshake still to come; `options` name the connection for the log.
    pub fn new(config: &Arc<SessionConfig>, context: &Arc<DtlsContext>, options: &Value) -> DtlsSession {
        DtlsSession { dtls: DtlsLink::new(config, context, options), closed: false, out: VecDeque::new() }
    }

    fn set_remote(
        &mut self,
        now: Instant,
        role: DtlsRole,
        fingerprints: Vec<Fingerprint>,
    ) -> Result<Value, String> {
        let early = self.dtls.set_remote(role, fingerprints, Handshake::unchecked)?;
        self.dtls.arm(now);
        self.begin(now);
        for (path, data) in early {
            self.take(now, path, &data);
        }
        Ok(json!({ "role": self.dtls.role }))
    }

    fn begin(&mut self, now: Instant) {
        if self.dtls.may_begin(&mut self.out) {
            self.drive(now, |handshake, out| handshake.handle_timeout(now, out));
        }
    }

    fn take(&mut self, now: Instant, path: Path, data: &[u8]) {
        if self.dtls.takes(path, data, &mut self.out) {
            self.drive(now, |handshake, out| handshake.handle_packet(now, data, out));
        }
    }

    fn drive(
        &mut self,
        now: Instant,
        action: impl FnOnce(&mut Handshake, &mut Vec<DtlsOutput>) -> Result<(), WebRtcError>,
    ) {
        for heard in self.dtls.drive(None, &mut self.out, action) {
            // A telephone has no data channels.
            if let Heard::Ended(reason, ending) = heard {
                self.close(now, reason, ending);
            }
        }
    }

    fn close(&mut self, now: Instant, reason: String, ending: Ending) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        self.dtls.close(now, None, &mut self.out);
        debug!(conn = %self.dtls.conn, reason, "DTLS ends");
        self.out.push_back(Output::Event(Event::Closed { reason, ending }));
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
                if self.dtls.state == "new" {
                    self.dtls.path = Some(path);
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
        if let Some(reason) = self.dtls.expired(now, &mut self.out) {
            return self.close(now, reason, Ending::Timeout);
        }
        if self.dtls.is_due(now) {
            self.drive(now, |handshake, out| handshake.handle_timeout(now, out));
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.closed { None } else { self.dtls.poll_timeout() }
    }

    fn dump(&self) -> Value {
        json!({ "dtlsLocalParameters": self.dtls.dump(), "dtlsState": self.dtls.state })
    }
}
