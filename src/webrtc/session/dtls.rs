//! The DTLS handshake (RFC 6347, RFC 9147) of one session on `dimpl`, from which nothing else of it is
//! seen: datagrams and time in; datagrams, keys and the end out.
//!
//! The library's own choice between versions is 1.3 whenever it is offered. As a server that prefers GCM we
//! want 1.2 (see [`DtlsPolicy`]), so the ClientHello is looked into first, and the engine made to suit it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Dtls, Output};

use super::certificate::{self, Certificate};
use crate::core::rtp::keys::{KeyingMaterial, SrtpKeys, SrtpProfile};
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
    policy: DtlsPolicy,
    certificate: Certificate,
    fingerprints: Vec<Fingerprint>,
}

impl DtlsContext {
    pub fn new(config: &SessionConfig, certificate: Certificate) -> Result<DtlsContext, WebRtcError> {
        // The path of a ClientHello has answered to ICE, so a cookie round trip would only cost time.
        let dtls = dimpl::Config::builder()
            .mtu(config.dtls_mtu)
            .use_server_cookie(false)
            .flight_start_rto(Duration::from_millis(config.dtls_retransmit_ms.max(1)))
            .flight_retries(config.dtls_retries)
            .handshake_timeout(config.dtls_timeout().max(Duration::from_millis(1)))
            .build()
            .map_err(|error| WebRtcError::Config(error.to_string()))?;
        let fingerprints = certificate.fingerprints();
        Ok(DtlsContext { config: Arc::new(dtls), policy: config.dtls, certificate, fingerprints })
    }

    pub fn fingerprints(&self) -> &[Fingerprint] {
        &self.fingerprints
    }

    /// An engine for `version` in our role.
    fn engine(&self, now: Instant, client: bool, version: Version) -> Dtls {
        let config = Arc::clone(&self.config);
        let certificate = self.certificate.to_dtls();
        let mut dtls = match version {
            Version::V12 => Dtls::new_12(config, certificate, now),
            Version::V13 => Dtls::new_13(config, certificate, now),
            Version::Either => Dtls::new_auto(config, certificate, now),
        };
        if client {
            dtls.set_active(true);
        }
        dtls
    }
}

#[derive(Clone, Copy, Debug)]
enum Version {
    V12,
    V13,
    Either,
}

/// What a handshake yields.
pub(super) enum DtlsOutput {
    Packet(Vec<u8>),
    Keys(SrtpKeys),
    /// close_notify from the other side.
    Closed,
}

/// One handshake.
pub(super) struct Handshake {
    context: Arc<DtlsContext>,
    dtls: Option<Dtls>,
    client: bool,
    fingerprints: Vec<Fingerprint>,
    /// The ClientHello and its datagrams, while the version is open.
    hello: Option<(HelloReader, Vec<Vec<u8>>)>,
    /// The other side's certificate, once it was found to be the right one.
    verified: Option<Vec<u8>>,
    connected: bool,
    keys: Option<SrtpKeys>,
    handed_over: bool,
    wake: Option<Instant>,
}

impl Handshake {
    /// A handshake with the party whose certificate `fingerprints` name; as a client it begins at once.
    pub fn new(
        context: Arc<DtlsContext>,
        now: Instant,
        client: bool,
        fingerprints: Vec<Fingerprint>,
    ) -> Result<Handshake, WebRtcError> {
        let version = match context.policy {
            DtlsPolicy::V12 => Some(Version::V12),
            DtlsPolicy::V13 => Some(Version::V13),
            DtlsPolicy::PreferGcm if !client => None,
            DtlsPolicy::PreferGcm | DtlsPolicy::Auto => Some(Version::Either),
        };
        let dtls = match version {
            Some(version) => Some(guard(|| Ok(context.engine(now, client, version)))?),
            None => None,
        };
        Ok(Handshake {
            context,
            hello: dtls.is_none().then(Default::default),
            dtls,
            client,
            fingerprints,
            verified: None,
            connected: false,
            keys: None,
            handed_over: false,
            wake: None,
        })
    }

    /// The certificate the other side showed, if it is the one its SDP names.
    pub fn remote_certificate(&self) -> Option<&[u8]> {
        self.verified.as_deref()
    }

    pub fn is_connected(&self) -> bool {
        self.handed_over
    }

    pub fn is_client(&self) -> bool {
        self.client
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wake
    }

    /// Begins (as a client) or goes on.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<DtlsOutput>) -> Result<(), WebRtcError> {
        self.step(now, out, |dtls| dtls.handle_timeout(now))
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
        let version = match reader.push(packet) {
            Some(offered) if offered.v13 && !offered.v12 => Version::V13,
            None if datagrams.len() < MAX_HELLO_DATAGRAMS => return Ok(()),
            _ => Version::V12,
        };
        let context = Arc::clone(&self.context);
        self.dtls = Some(guard(|| Ok(context.engine(now, false, version)))?);
        let (_, datagrams) = self.hello.take().unwrap_or_default();
        datagrams.iter().try_for_each(|datagram| self.take(now, datagram, out))
    }

    fn take(&mut self, now: Instant, packet: &[u8], out: &mut Vec<DtlsOutput>) -> Result<(), WebRtcError> {
        self.step(now, out, |dtls| dtls.handle_timeout(now))?;
        self.step(now, out, |dtls| dtls.handle_packet(packet))
    }

    /// Says good-bye, if there is anybody to say it to.
    pub fn close(&mut self, now: Instant, out: &mut Vec<DtlsOutput>) {
        if self.connected {
            // An error here means that it is closed already.
            let _ = self.step(now, out, |dtls| dtls.close());
        }
        self.dtls = None;
        self.wake = None;
    }

    fn step(
        &mut self,
        now: Instant,
        out: &mut Vec<DtlsOutput>,
        action: impl FnOnce(&mut Dtls) -> Result<(), dimpl::Error>,
    ) -> Result<(), WebRtcError> {
        let Some(mut dtls) = self.dtls.take() else { return Ok(()) };
        guard(|| action(&mut dtls).map_err(|error| WebRtcError::Dtls(error.to_string())))?;
        guard(|| self.drain(now, &mut dtls, out))?;
        self.dtls = Some(dtls);
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
                    self.keys = Some(split_keys(&material, profile, self.client)?);
                }
                Output::CloseNotify => out.push(DtlsOutput::Closed),
                Output::Timeout(at) => {
                    self.wake = Some(at).filter(|at| *at < now + NEVER);
                    break;
                }
                _ => {}
            }
        }
        self.hand_over(out)
    }

    fn hand_over(&mut self, out: &mut Vec<DtlsOutput>) -> Result<(), WebRtcError> {
        if !self.connected || self.handed_over {
            return Ok(());
        }
        match self.keys.take() {
            Some(keys) if self.verified.is_some() => {
                self.handed_over = true;
                out.push(DtlsOutput::Keys(keys));
                Ok(())
            }
            Some(_) => Err(WebRtcError::Dtls("no certificate".to_owned())),
            None => Err(WebRtcError::Dtls("no SRTP profile in common".to_owned())),
        }
    }
}

/// The library works on bytes from a network; should it panic, only this session is lost.
fn guard<T>(action: impl FnOnce() -> Result<T, WebRtcError>) -> Result<T, WebRtcError> {
    catch_unwind(AssertUnwindSafe(action))
        .unwrap_or_else(|_| Err(WebRtcError::Dtls("the DTLS library broke".to_owned())))
}

/// RFC 5764 §4.2: client key, server key, client salt, server salt.
fn split_keys(material: &[u8], profile: dimpl::SrtpProfile, client: bool) -> Result<SrtpKeys, WebRtcError> {
    let (profile, key, salt) = match profile {
        dimpl::SrtpProfile::AEAD_AES_256_GCM => (SrtpProfile::AeadAes256Gcm, 32, 12),
        dimpl::SrtpProfile::AEAD_AES_128_GCM => (SrtpProfile::AeadAes128Gcm, 16, 12),
        dimpl::SrtpProfile::AES128_CM_SHA1_80 => (SrtpProfile::Aes128CmSha1_80, 16, 14),
        _ => return Err(WebRtcError::Dtls("unknown SRTP profile".to_owned())),
    };
    let part = |from: usize, length: usize| {
        material
            .get(from..from + length)
            .map(<[u8]>::to_vec)
            .ok_or_else(|| WebRtcError::Dtls("keying material too short".to_owned()))
    };
    let theirs = KeyingMaterial { key: part(0, key)?, salt: part(2 * key, salt)? };
    let ours = KeyingMaterial { key: part(key, key)?, salt: part(2 * key + salt, salt)? };
    Ok(match client {
        true => SrtpKeys { profile, local: theirs, remote: ours },
        false => SrtpKeys { profile, local: ours, remote: theirs },
    })
}
