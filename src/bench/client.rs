//! One party of the load: the checks of a controlling ICE agent towards a lite or a full one (RFC 8445), the client's
//! half of the DTLS handshake (RFC 5764), and the keys. Datagrams and time in, datagrams out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use dimpl::{Dtls, DtlsCertificate, Output};

use super::sdp::{Answer, Local};
use crate::core::rtp::header::is_rtcp;
use crate::core::rtp::keys::{KeyingMaterial, SrtpProfile};
use crate::core::rtp::srtp::{SrtpReceiver, SrtpSender};
use crate::webrtc::Certificate;
use crate::webrtc::wire::stun::{Class, IntegrityKey, Message, Writer, attr};

/// Until the first check is answered, and afterwards to keep consent (RFC 7675).
const CHECK_EVERY: Duration = Duration::from_millis(200);
const CONSENT_EVERY: Duration = Duration::from_secs(4);

/// What all parties of a bench share.
#[derive(Clone)]
pub struct Identity {
    config: Arc<dimpl::Config>,
    certificate: DtlsCertificate,
    /// SHA-256 of the certificate.
    pub fingerprint: String,
}

impl Identity {
    /// A new certificate.
    pub fn generate() -> anyhow::Result<Self> {
        let certificate = Certificate::generate()?.to_dtls();
        let fingerprint = fingerprint(&certificate.certificate);
        Ok(Identity { config: Arc::new(dimpl::Config::default()), certificate, fingerprint })
    }
}

/// A datagram that was for the media layer.
#[derive(Debug, Eq, PartialEq)]
pub enum Media {
    /// Plain RTP of this length, with its extended sequence number.
    Rtp(usize, u64),
    /// Plain RTCP of this length.
    Rtcp(usize),
}

/// One party.
pub struct Client {
    ufrag: String,
    answer: Answer,
    /// Of the server's password, for our checks; of ours, for its checks.
    key: IntegrityKey,
    own_key: IntegrityKey,
    dtls: Dtls,
    begun: bool,
    verified: bool,
    /// Sealing for what we send.
    pub sender: Option<SrtpSender>,
    receiver: Option<SrtpReceiver>,
    /// How packets are protected, once it is known.
    pub profile: Option<SrtpProfile>,
    reachable: bool,
    next_check: Instant,
    transaction: u64,
    out: VecDeque<Vec<u8>>,
    /// Packets that could not be opened.
    pub refused: u64,
}

impl Client {
    /// The party that made the offer of `local` and has its answer.
    pub fn new(identity: &Identity, local: &Local<'_>, answer: Answer, now: Instant) -> Self {
        let mut dtls = Dtls::new_12(identity.config.clone(), identity.certificate.clone(), now);
        dtls.set_active(true);
        Client {
            key: IntegrityKey::new(&answer.pwd),
            own_key: IntegrityKey::new(local.pwd),
            ufrag: local.ufrag.to_owned(),
            answer,
            dtls,
            begun: false,
            verified: false,
            sender: None,
            receiver: None,
            profile: None,
            reachable: false,
            next_check: now,
            transaction: 0,
            out: VecDeque::new(),
            refused: 0,
        }
    }

    /// Whether media can flow.
    pub fn is_ready(&self) -> bool {
        self.sender.is_some()
    }

    /// What to send next.
    pub fn poll_output(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// Checks and handshake by the clock; call it every 100 ms or so.
    pub fn handle_timeout(&mut self, now: Instant) -> anyhow::Result<()> {
        if now >= self.next_check {
            self.next_check = now + if self.reachable { CONSENT_EVERY } else { CHECK_EVERY };
            self.check();
        }
        if self.begun && !self.is_ready() {
            self.dtls.handle_timeout(now)?;
            self.drain()?;
        }
        Ok(())
    }

    fn check(&mut self) {
        let mut transaction = [0; 12];
        self.transaction += 1;
        transaction[..8].copy_from_slice(&self.transaction.to_be_bytes());
        let username = format!("{}:{}", self.answer.ufrag, self.ufrag);
        let request = Writer::new(Class::Request, transaction)
            .attribute(attr::USERNAME, username.as_bytes())
            .attribute(attr::PRIORITY, &0x6eff_ffff_u32.to_be_bytes())
            .attribute(attr::ICE_CONTROLLING, &7_u64.to_be_bytes())
            .attribute(attr::USE_CANDIDATE, &[])
            .finish(Some(&self.key));
        self.out.push_back(request);
    }

    /// Takes a datagram; media is opened where it lies.
    pub fn handle(&mut self, now: Instant, datagram: &mut [u8]) -> anyhow::Result<Option<Media>> {
        match datagram.first() {
            Some(128..=191) => return Ok(self.open(datagram)),
            Some(20..=63) => {
                self.dtls.handle_packet(datagram)?;
                self.drain()?;
            }
            Some(0..=3) => self.checked(now, datagram)?,
            _ => {}
        }
        Ok(None)
    }

    fn open(&mut self, datagram: &mut [u8]) -> Option<Media> {
        let receiver = self.receiver.as_mut()?;
        let opened = if is_rtcp(datagram) {
            receiver.open_rtcp(datagram).map(Media::Rtcp)
        } else {
            receiver.open_rtp(datagram).map(|(len, index)| Media::Rtp(len, index))
        };
        self.refused += u64::from(opened.is_err());
        opened.ok()
    }

    fn checked(&mut self, now: Instant, datagram: &[u8]) -> anyhow::Result<()> {
        let Ok(message) = Message::parse(datagram) else { return Ok(()) };
        if message.class == Class::Request && message.verify(&self.own_key) {
            let reply = Writer::new(Class::Success, message.transaction).mapped(self.answer.address);
            self.out.push_back(reply.finish(Some(&self.own_key)));
        }
        if message.class == Class::Success && message.verify(&self.key) {
            self.reachable = true;
            if !self.begun {
                self.begun = true;
                self.dtls.handle_timeout(now)?;
                self.drain()?;
            }
        }
        Ok(())
    }

    fn drain(&mut self) -> anyhow::Result<()> {
        let mut buffer = vec![0; 2048];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => self.out.push_back(packet.to_vec()),
                Output::PeerCert(certificate) => {
                    self.verified = fingerprint(certificate) == self.answer.fingerprint;
                }
                Output::KeyingMaterial(material, profile) => {
                    anyhow::ensure!(self.verified, "the server's certificate is not the one of its answer");
                    let (profile, ours, theirs) = split(&material, profile)?;
                    self.sender = Some(SrtpSender::new(profile, &ours)?);
                    self.receiver = Some(SrtpReceiver::new(profile, &theirs, 8)?);
                    self.profile = Some(profile);
                }
                Output::CloseNotify => anyhow::bail!("the server closed the session"),
                Output::Timeout(_) => return Ok(()),
                _ => {}
            }
        }
    }
}

/// SHA-256 of a certificate, upper-case pairs with colons.
fn fingerprint(certificate: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, certificate);
    digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// RFC 5764 §4.2: client key, server key, client salt, server salt; we are the client.
fn split(
    material: &[u8],
    profile: dimpl::SrtpProfile,
) -> anyhow::Result<(SrtpProfile, KeyingMaterial, KeyingMaterial)> {
    let (profile, key, salt) = match profile {
        dimpl::SrtpProfile::AEAD_AES_256_GCM => (SrtpProfile::AeadAes256Gcm, 32, 12),
        dimpl::SrtpProfile::AEAD_AES_128_GCM => (SrtpProfile::AeadAes128Gcm, 16, 12),
        dimpl::SrtpProfile::AES128_CM_SHA1_80 => (SrtpProfile::Aes128CmSha1_80, 16, 14),
        _ => anyhow::bail!("unknown SRTP profile"),
    };
    anyhow::ensure!(material.len() >= 2 * (key + salt), "keying material too short");
    let part = |from: usize, len: usize| material[from..from + len].to_vec();
    let ours = KeyingMaterial { key: part(0, key), salt: part(2 * key, salt) };
    let theirs = KeyingMaterial { key: part(key, key), salt: part(2 * key + salt, salt) };
    Ok((profile, ours, theirs))
}
