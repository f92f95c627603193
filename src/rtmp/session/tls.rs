//! RTMP over TLS: the TLS connection is driven without a socket, like the session in it, so that both
//! move to the worker as one value.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, ServerConnection};
use serde_json::Value;

use crate::core::capabilities::RtpCodec;
use crate::core::session::{Command, Event, Frame, Input, Output, Session};
use crate::rtmp::RtmpError;
use crate::rtmp::session::Fail;

/// A TLS connection with an RTMP session inside.
pub struct TlsSession<S> {
    tls: Connection,
    inner: S,
    /// An event that comes after the bytes before it.
    event: Option<Event>,
    /// TLS broke; nothing that comes is looked at any more.
    broken: bool,
}

impl<S: Fail> TlsSession<S> {
    /// Wraps the session of somebody who connected to us; the TLS handshake has not begun.
    pub fn new(config: Arc<rustls::ServerConfig>, inner: S) -> Result<Self, RtmpError> {
        let tls = ServerConnection::new(config).map_err(|error| RtmpError::Tls(error.to_string()))?;
        Ok(Self::around(tls.into(), inner))
    }

    /// Wraps a session of ours with `host`; the TLS handshake begins with the first output.
    pub fn connect(config: Arc<rustls::ClientConfig>, host: &str, inner: S) -> Result<Self, RtmpError> {
        let fault = |error: &dyn std::fmt::Display| RtmpError::Tls(error.to_string());
        let name = ServerName::try_from(host.to_owned()).map_err(|error| fault(&error))?;
        let tls = ClientConnection::new(config, name).map_err(|error| fault(&error))?;
        Ok(Self::around(tls.into(), inner))
    }

    fn around(mut tls: Connection, inner: S) -> Self {
        // Only what the session says is ever buffered.
        tls.set_buffer_limit(None);
        TlsSession { tls, inner, event: None, broken: false }
    }

    /// The session inside.
    pub fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    fn decrypt(&mut self, now: Instant, mut data: &[u8]) -> Result<(), rustls::Error> {
        let mut plain = [0; 4096];
        while !data.is_empty() {
            let general = |error: std::io::Error| rustls::Error::General(error.to_string());
            self.tls.read_tls(&mut data).map_err(general)?;
            let state = self.tls.process_new_packets()?;
            let closed = state.peer_has_closed();
            while let Ok(count @ 1..) = self.tls.reader().read(&mut plain) {
                self.inner.handle_input(now, Input::Bytes(plain.get(..count).unwrap_or_default()));
            }
            if closed {
                self.inner.handle_input(now, Input::Eof);
                return Ok(());
            }
        }
        Ok(())
    }

    fn encrypted(&mut self) -> Option<Output> {
        let mut bytes = Vec::new();
        while self.tls.wants_write() && self.tls.write_tls(&mut bytes).is_ok_and(|count| count > 0) {}
        (!bytes.is_empty()).then_some(Output::Bytes(bytes))
    }
}

impl<S: Fail> Session for TlsSession<S> {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Bytes(_) if self.broken => {}
            Input::Bytes(data) => {
                if let Err(error) = self.decrypt(now, data) {
                    self.broken = true;
                    self.inner.fail(&RtmpError::Tls(error.to_string()));
                }
            }
            other => self.inner.handle_input(now, other),
        }
    }

    fn takes_frames(&self) -> bool {
        self.inner.takes_frames()
    }

    fn handle_frame(&mut self, now: Instant, codec: &RtpCodec, frame: Frame) {
        self.inner.handle_frame(now, codec, frame);
    }

    fn command(&mut self, now: Instant, command: Command) -> Result<Value, String> {
        self.inner.command(now, command)
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.inner.handle_timeout(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        loop {
            if let Some(event) = self.event.take() {
                if matches!(event, Event::Closed { .. }) && !self.broken {
                    self.tls.send_close_notify();
                }
                if let Some(bytes) = self.encrypted() {
                    self.event = Some(event);
                    self.broken |= matches!(self.event, Some(Event::Closed { .. }));
                    return Some(bytes);
                }
                return Some(Output::Event(event));
            }
            match self.inner.poll_output() {
                // Writing to memory without a limit does not fail.
                Some(Output::Bytes(bytes)) => drop(self.tls.writer().write_all(&bytes)),
                Some(Output::Event(event)) => self.event = Some(event),
                Some(other) => return Some(other),
                None => return self.encrypted(),
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.inner.poll_timeout()
    }

    fn dump(&self) -> Value {
        let mut dump = self.inner.dump();
        if let Some(members) = dump.as_object_mut() {
            members.insert("tls".to_owned(), Value::Bool(true));
        }
        dump
    }
}
