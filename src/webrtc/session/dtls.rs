//! The DTLS handshake of one session: datagrams, application data and time in; datagrams, keys, application data and the
//! end out. 1.2 (RFC 6347) is our own [`Dtls12`], 1.3 (RFC 9147) is `dimpl`, from which nothing else of it is seen.
//!
//! As a server we look into the ClientHello first and make the engine that suits it (see [`DtlsPolicy`]).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Dtls, Output};

use super::certificate::{self, Certificate};
use super::dtls12::{Dtls12, Identity, Settings, split_keys};
use crate::core::rtp::keys::{SrtpKeys, SrtpProfile};
use crate::core::session::Fingerprint;
use crate::webrtc::wire::hello::HelloReader;
use crate::webrtc::{DtlsPolicy, SessionConfig, WebRtcError};

/// Datagrams that are kept until a ClientHello is complete; with more the engine has to cope.
const MAX_HELLO_DATAGRAMS: usize = 16;
/// The engine says "never" with a time years away.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What all sessions share.
pub(super) struct DtlsContext {
    config: Arc<dimpl::Config>,
    settings: Settings,
    policy: DtlsPolicy,
    certificate: Certificate,
    identity: Arc<Identity>,
    fingerprints: Vec<Fingerprint>,
}

impl DtlsContext {
    pub fn new(config: &SessionConfig, certificate: Certificate) -> Result<DtlsContext, WebRtcError> {
        let retransmit = Duration::from_millis(config.dtls_retransmit_ms.max(1));
        // The path of a ClientHello has answered to ICE, so a cookie round trip would only cost time.
        let dtls = dimpl::Config::builder()
            .mtu(config.dtls_mtu)
            .use_server_cookie(false)
            .flight_start_rto(retransmit)
            .flight_retries(config.dtls_retries)
            .handshake_timeout(config.dtls_timeout().max(Duration::from_millis(1)))
            .build()
            .map_err(|error| WebRtcError::Config(error.to_string()))?;
        let settings =
            Settings { mtu: config.dtls_mtu, retransmit, retries: config.dtls_retries, cookie: false };
        Ok(DtlsContext {
            config: Arc::new(dtls),
            settings,
            policy: config.dtls,
            identity: Arc::new(certificate.to_identity()?),
            fingerprints: certificate.fingerprints(),
            certificate,
        })
    }

    pub fn fingerprints(&self) -> &[Fingerprint] {
        &self.fingerprints
    }

    /// An engine for `version` in our role.
    fn engine(
        &self,
        now: Instant,
        client: bool,
        version: Version,
        fingerprints: &[Fingerprint],
    ) -> Result<Engine, WebRtcError> {
        let (config, certificate) = (Arc::clone(&self.config), self.certificate.to_dtls());
        let mut library = match version {
            Version::V12 => {
                let (identity, fingerprints) = (Arc::clone(&self.identity), fingerprints.to_vec());
                let ours = Dtls12::new(identity, self.settings, client, fingerprints)?;
                return Ok(Engine::Ours(Box::new(ours)));
            }
            Version::V13 => Dtls::new_13(config, certificate, now),
            Version::Either => Dtls::new_auto(config, certificate, now),
        };
        if client {
            library.set_active(true);
        }
        Ok(Engine::Library(Box::new(library)))
    }
}

enum Engine {
    Ours(Box<Dtls12>),
    Library(Box<Dtls>),
}

#[derive(Clone, Copy, Debug)]
enum Version {
    V12,
    V13,
    Either,
}

/// What a handshake yields.
pub(in crate::webrtc) enum DtlsOutput {
    Packet(Vec<u8>),
    /// It is through.
    Keys(SrtpKeys),
    /// Application data: an SCTP packet.
    Data(Vec<u8>),
    /// close_notify from the other side.
    Closed,
}

/// One handshake.
pub(super) struct Handshake {
    context: Arc<DtlsContext>,
    engine: Option<Engine>,
    client: bool,
    fingerprints: Vec<Fingerprint>,
    /// The ClientHello and its datagrams, while the version is open.
    hello: Option<(HelloReader, Vec<Vec<u8>>)>,
    /// The other side's certificate, once it was found to be the right one.
    verified: Option<Vec<u8>>,
    /// Of the library: the handshake is done, what it exported.
    connected: bool,
    keys: Option<SrtpKeys>,
    /// The keys were handed over.
    through: bool,
    wake: Option<Instant>,
}

impl Handshake {
    /// A handshake with the party whose certificate `fingerprints` name; as a client it begins at once.
    pub fn new(
        context: &Arc<DtlsContext>,
        now: Instant,
        client: bool,
        fingerprints: Vec<Fingerprint>,
    ) -> Result<Handshake, WebRtcError> {
        let version = match context.policy {
            DtlsPolicy::V13 => Some(Version::V13),
            DtlsPolicy::V12 => Some(Version::V12),
            DtlsPolicy::PreferGcm => client.then_some(Version::V12),
            DtlsPolicy::Auto => client.then_some(Version::Either),
        };
        let make = |version| guard(|| context.engine(now, client, version, &fingerprints));
        let engine = version.map(make).transpose()?;
        Ok(Handshake::on(context, engine, client, fingerprints))
    }

    /// A handshake over a path that no connectivity check has shown to be the party's: 1.2, and as a server with a
    /// cookie.
    pub fn unchecked(
        context: &Arc<DtlsContext>,
        client: bool,
        fingerprints: Vec<Fingerprint>,
    ) -> Result<Handshake, WebRtcError> {
        let settings = Settings { cookie: true, ..context.settings };
        let ours = Dtls12::new(Arc::clone(&context.identity), settings, client, fingerprints)?;
        Ok(Handshake::on(context, Some(Engine::Ours(Box::new(ours))), client, Vec::new()))
    }

    fn on(
        context: &Arc<DtlsContext>,
        engine: Option<Engine>,
        client: bool,
        fingerprints: Vec<Fingerprint>,
    ) -> Handshake {
        Handshake {
            context: Arc::clone(context),
            hello: engine.is_none().then(Default::default),
            engine,
            client,
            fingerprints,
            verified: None,
            connected: false,
            keys: None,
            through: false,
            wake: None,
        }
    }

    /// The certificate the other side showed, if it is the one its SDP names.
    pub fn remote_certificate(&self) -> Option<&[u8]> {
        self.verified.as_deref()
    }

    pub fn is_connected(&self) -> bool {
        self.through
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wake
    }

    /// Begins (as a client) or goes on.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<DtlsOutput>) -> Result<(), WebRtcError> {
        self.step(now, out, |engine, out| engine.handle_timeout(now, out))
    }

    pub fn handle_packet(
        &mut self,
        now: Instant,
        packet: &[u8],
        out: &mut Vec<DtlsOutput>,
    ) -> Result<(), WebRtcError> {
        let Some((reader, datagrams)) = &mut self.hello else {
            return self.take(now, packet, out);
        };
        datagrams.push(packet.to_vec());
        let auto = self.context.policy == DtlsPolicy::Auto;
        let version = match reader.push(packet) {
            Some(offered) if offered.v13 && (auto || !offered.v12) => Version::V13,
            None if datagrams.len() < MAX_HELLO_DATAGRAMS => return Ok(()),
            _ => Version::V12,
        };
        let (context, fingerprints) = (Arc::clone(&self.context), &self.fingerprints);
        self.engine = Some(guard(|| context.engine(now, false, version, fingerprints))?);
        let (_, datagrams) = self.hello.take().unwrap_or_default();
        datagrams.iter().try_for_each(|datagram| self.take(now, datagram, out))
    }

    fn take(&mut self, now: Instant, packet: &[u8], out: &mut Vec<DtlsOutput>) -> Result<(), WebRtcError> {
        self.step(now, out, |engine, out| engine.handle_timeout(now, out))?;
        self.step(now, out, |engine, out| engine.handle_packet(now, packet, out))
    }

    /// Sends application data, once connected; before, it is dropped.
    pub fn send(&mut self, now: Instant, data: &[u8], out: &mut Vec<DtlsOutput>) -> Result<(), WebRtcError> {
        match self.through {
            true => self.step(now, out, |engine, out| engine.send(data, out)),
            false => Ok(()),
        }
    }

    /// Says good-bye, if there is anybody to say it to.
    pub fn close(&mut self, now: Instant, out: &mut Vec<DtlsOutput>) {
        if self.through {
            // An error here means that it is closed already.
            let _ = self.step(now, out, Engine::close);
        }
        self.engine = None;
        self.wake = None;
    }

    fn step(
        &mut self,
        now: Instant,
        out: &mut Vec<DtlsOutput>,
        action: impl FnOnce(&mut Engine, &mut Vec<DtlsOutput>) -> Result<(), WebRtcError>,
    ) -> Result<(), WebRtcError> {
        let Some(mut engine) = self.engine.take() else { return Ok(()) };
        guard(|| action(&mut engine, out))?;
        match &mut engine {
            Engine::Ours(ours) => {
                self.wake = ours.poll_timeout();
                if ours.is_through() && !std::mem::replace(&mut self.through, true) {
                    self.verified = Some(ours.remote_certificate().to_vec());
                }
            }
            Engine::Library(library) => guard(|| self.drain(now, library, out))?,
        }
        self.engine = Some(engine);
        Ok(())
    }

    fn drain(&mut self, now: Instant, dtls: &mut Dtls, out: &mut Vec<DtlsOutput>) -> Result<(), WebRtcError> {
        let mut buffer = vec![0; 2048];
        loop {
            match dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => out.push(DtlsOutput::Packet(packet.to_vec())),
                Output::BufferTooSmall { needed } if needed <= 65_536 => buffer.resize(needed, 0),
                Output::PeerCert(certificate) => {
                    if !certificate::matches(certificate, &self.fingerprints) {
                        let text = "the remote certificate is not the one its SDP names";
                        return Err(WebRtcError::Dtls(text.to_owned()));
                    }
                    self.verified = Some(certificate.to_vec());
                }
                Output::Connected => self.connected = true,
                Output::KeyingMaterial(material, profile) => {
                    self.keys = Some(library_keys(&material, profile, self.client)?);
                }
                Output::ApplicationData(data) if self.connected && self.verified.is_some() => {
                    out.push(DtlsOutput::Data(data.to_vec()));
                }
                Output::CloseNotify => out.push(DtlsOutput::Closed),
                Output::Timeout(at) => {
                    self.wake = Some(at).filter(|at| *at < now + NEVER);
                    return self.hand_over(out);
                }
                _ => {}
            }
        }
    }

    fn hand_over(&mut self, out: &mut Vec<DtlsOutput>) -> Result<(), WebRtcError> {
        if !self.connected || self.through {
            return Ok(());
        }
        match self.keys.take() {
            Some(keys) if self.verified.is_some() => {
                self.through = true;
                out.push(DtlsOutput::Keys(keys));
                Ok(())
            }
            Some(_) => Err(WebRtcError::Dtls("no certificate".to_owned())),
            None => Err(WebRtcError::Dtls("no SRTP profile in common".to_owned())),
        }
    }
}

impl Engine {
    fn handle_timeout(&mut self, now: Instant, out: &mut Vec<DtlsOutput>) -> Result<(), WebRtcError> {
        match self {
            Engine::Ours(ours) => ours.handle_timeout(now, out),
            Engine::Library(library) => library.handle_timeout(now).map_err(library_error),
        }
    }

    fn handle_packet(
        &mut self,
        now: Instant,
        packet: &[u8],
        out: &mut Vec<DtlsOutput>,
    ) -> Result<(), WebRtcError> {
        match self {
            Engine::Ours(ours) => ours.handle_packet(now, packet, out),
            Engine::Library(library) => library.handle_packet(packet).map_err(library_error),
        }
    }

    fn send(&mut self, data: &[u8], out: &mut Vec<DtlsOutput>) -> Result<(), WebRtcError> {
        match self {
            Engine::Ours(ours) => {
                ours.send_data(data, out);
                Ok(())
            }
            Engine::Library(library) => library.send_application_data(data).map(drop).map_err(library_error),
        }
    }

    fn close(&mut self, out: &mut Vec<DtlsOutput>) -> Result<(), WebRtcError> {
        match self {
            Engine::Ours(ours) => {
                ours.close(out);
                Ok(())
            }
            Engine::Library(library) => library.close().map_err(library_error),
        }
    }
}

fn library_error(error: dimpl::Error) -> WebRtcError {
    WebRtcError::Dtls(error.to_string())
}
/// The library works on bytes from a network; should it panic, only this session is lost.
fn guard<T>(action: impl FnOnce() -> Result<T, WebRtcError>) -> Result<T, WebRtcError> {
    catch_unwind(AssertUnwindSafe(action))
        .unwrap_or_else(|_| Err(WebRtcError::Dtls("the DTLS library broke".to_owned())))
}

fn library_keys(material: &[u8], profile: dimpl::SrtpProfile, client: bool) -> Result<SrtpKeys, WebRtcError> {
    let (profile, lengths) = match profile {
        dimpl::SrtpProfile::AEAD_AES_256_GCM => (SrtpProfile::AeadAes256Gcm, (32, 12)),
        dimpl::SrtpProfile::AEAD_AES_128_GCM => (SrtpProfile::AeadAes128Gcm, (16, 12)),
        dimpl::SrtpProfile::AES128_CM_SHA1_80 => (SrtpProfile::Aes128CmSha1_80, (16, 14)),
        _ => return Err(WebRtcError::Dtls("unknown SRTP profile".to_owned())),
    };
    split_keys(material, profile, lengths, client)
        .ok_or_else(|| WebRtcError::Dtls("keying material too short".to_owned()))
}
