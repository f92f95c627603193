//! DTLS 1.2 (RFC 6347) as DTLS-SRTP needs it (RFC 5764, RFC 8827 §6.5): both sides show a certificate and prove that
//! they have its key, fingerprints say whose it is. Ephemeral elliptic-curve keys and AES-GCM only; no resumption, no
//! renegotiation, no compression. A value: datagrams and time in, datagrams, keys and data out.
//!
//! Ours, beside the library that has 1.3, because that library takes no RSA certificates, and telephones (baresip,
//! FreeSWITCH, Linphone) and GStreamer have no others.
//!
//! | file | what |
//! |---|---|
//! | `client`, `server` | the two orders of messages |
//! | `flight` | sending, and sending again |
//! | `secrets` | keys |
//! | `signature` | who signed |

mod client;
mod flight;
mod secrets;
mod server;
mod signature;

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;

use self::flight::{Flight, Part, Records};
use self::secrets::{KeyExchange, Master, Suite};
pub use self::signature::{Ecdsa, Signer};
use super::certificate;
use super::dtls::DtlsOutput;
use crate::core::rtp::keys::{KeyingMaterial, SrtpKeys, SrtpProfile};
use crate::core::session::Fingerprint;
use crate::webrtc::WebRtcError;
use crate::webrtc::wire::handshake::{Signed, kind::FINISHED, read_certificate};
use crate::webrtc::wire::record::{self, Assembler, Message, content, fragments, records};

/// SRTP profiles by preference (RFC 5764 §4.1.2, RFC 7714 §14.2) with the bytes of their keys and salts. AES with 128
/// bits first: nobody breaks it, and its ten rounds for fourteen are felt at each packet.
const PROFILES: [(u16, SrtpProfile, usize, usize); 4] = [
    (7, SrtpProfile::AeadAes128Gcm, 16, 12),
    (8, SrtpProfile::AeadAes256Gcm, 32, 12),
    (1, SrtpProfile::Aes128CmSha1_80, 16, 14),
    (2, SrtpProfile::Aes128CmSha1_32, 16, 14),
];
const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;

/// What we show: a certificate and its key.
pub struct Identity {
    /// In DER.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: Box<dyn Signer>,
    /// Cipher suites that go with it, by preference.
    pub suites: [u16; 2],
}

impl Identity {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Fault> {
        let signature = self.key.sign(message).ok_or(BROKEN)?;
        Ok(Signed { scheme: self.key.scheme(), signature }.to_bytes())
    }
}

/// How it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes of the largest datagram.
    pub mtu: usize,
    /// Until a flight is sent again the first time.
    pub retransmit: Duration,
    /// How often.
    pub retries: usize,
    /// As a server: the party must show that it is where it says before anything large is sent there.
    pub cookie: bool,
}

/// An alert's number, and what is wrong in words.
type Fault = (u8, &'static str);

const UNEXPECTED: Fault = (10, "a message out of turn");
const MALFORMED: Fault = (50, "a message that makes no sense");
const WRONG_CERTIFICATE: Fault = (42, "the remote certificate is not the one its SDP names");
const WRONG_SIGNATURE: Fault = (51, "the remote party does not have the key of its certificate");
const NO_COMMON: Fault = (40, "no cipher suite, group or signature in common");
const NO_SRTP: Fault = (40, "no SRTP profile in common");
const BROKEN: Fault = (80, "a key could not be made");

/// What comes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Awaits {
    ClientHello,
    ServerHello,
    Certificate,
    ServerKeyExchange,
    RequestOrDone,
    ClientKeyExchange,
    CertificateVerify,
    Finished,
    Nothing,
}

/// See the module.
pub struct Dtls12 {
    identity: Arc<Identity>,
    settings: Settings,
    client: bool,
    fingerprints: Vec<Fingerprint>,
    awaits: Awaits,
    /// A server's: to be repeated. A client's: to repeat.
    cookie: Vec<u8>,
    /// The client's, the server's.
    randoms: (Vec<u8>, Vec<u8>),
    suite: Option<Suite>,
    extended: bool,
    srtp: Option<u16>,
    exchange: Option<KeyExchange>,
    own_public: Vec<u8>,
    remote_public: Vec<u8>,
    remote_certificate: Vec<u8>,
    /// As a client: the server wants to see our certificate.
    asked: bool,
    master: Option<Master>,
    /// All messages so far, as they are hashed.
    transcript: Vec<u8>,
    assembler: Assembler,
    records: Records,
    flight: Flight,
    closed: bool,
}

impl Dtls12 {
    /// An engine for a handshake with the party whose certificate `fingerprints` name.
    pub fn new(
        identity: Arc<Identity>,
        settings: Settings,
        client: bool,
        fingerprints: Vec<Fingerprint>,
    ) -> Result<Dtls12, WebRtcError> {
        let cookie = if settings.cookie && !client { random(20)? } else { Vec::new() };
        Ok(Dtls12 {
            identity,
            settings,
            client,
            fingerprints,
            awaits: if client { Awaits::ServerHello } else { Awaits::ClientHello },
            cookie,
            randoms: if client { (random(32)?, Vec::new()) } else { (Vec::new(), random(32)?) },
            suite: None,
            extended: false,
            srtp: None,
            exchange: None,
            own_public: Vec::new(),
            remote_public: Vec::new(),
            remote_certificate: Vec::new(),
            asked: false,
            master: None,
            transcript: Vec::new(),
            assembler: Assembler::default(),
            records: Records::default(),
            flight: Flight::default(),
            closed: false,
        })
    }

    /// Whether the keys are there.
    pub fn is_through(&self) -> bool {
        self.awaits == Awaits::Nothing
    }

    /// The other side's certificate, in DER, once it is the right one.
    pub fn remote_certificate(&self) -> &[u8] {
        &self.remote_certificate
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.flight.due()
    }

    /// Begins, as a client, or sends again what was not answered.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<DtlsOutput>) -> Result<(), WebRtcError> {
        if self.client
            && self.transcript.is_empty()
            && self.awaits == Awaits::ServerHello
            && self.cookie.is_empty()
        {
            return self.say_hello(now, out).map_err(|fault| self.fail(fault, out));
        }
        if self.flight.due().is_some_and(|due| now >= due) {
            if !self.flight.retry(now, self.settings.retransmit, self.settings.retries) {
                self.end();
                return Err(WebRtcError::Dtls("the remote party does not answer".to_owned()));
            }
            self.send(out);
        }
        Ok(())
    }

    /// Takes a datagram.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        datagram: &[u8],
        out: &mut Vec<DtlsOutput>,
    ) -> Result<(), WebRtcError> {
        if self.closed {
            return Ok(());
        }
        let before = self.assembler.next();
        let mut missed = false;
        for found in records(datagram) {
            match found.epoch {
                0 => missed |= self.take(now, found.kind, found.content, false, out)?,
                1 => {
                    if let Some(opened) = self.records.open(&found) {
                        missed |= self.take(now, found.kind, &opened, true, out)?;
                    }
                }
                _ => {}
            }
            while let Some((kind, opened)) = self.records.next_early() {
                self.take(now, kind, &opened, true, out)?;
            }
        }
        if missed && before == self.assembler.next() {
            self.send(out);
        }
        Ok(())
    }

    /// A record's content. Answers whether our last flight seems to be lost.
    fn take(
        &mut self,
        now: Instant,
        kind: u8,
        data: &[u8],
        sealed: bool,
        out: &mut Vec<DtlsOutput>,
    ) -> Result<bool, WebRtcError> {
        match kind {
            content::HANDSHAKE => {
                let missed = self.take_pieces(now, data, sealed);
                while let Some(message) = self.assembler.pop() {
                    self.message(now, &message, out).map_err(|fault| self.fail(fault, out))?;
                }
                return Ok(missed);
            }
            content::ALERT => self.alert(data, sealed, out)?,
            content::APPLICATION_DATA if sealed && self.is_through() => {
                out.push(DtlsOutput::Data(data.to_vec()));
            }
            // That the ciphers changed is shown by the record after it.
            _ => {}
        }
        Ok(false)
    }

    fn take_pieces(&mut self, now: Instant, data: &[u8], sealed: bool) -> bool {
        let mut missed = false;
        for piece in fragments(data) {
            // The last message of each side proves that the keys agree; it counts under them only, and it alone does.
            if sealed != (piece.kind == FINISHED) {
                continue;
            }
            if piece.sequence < self.assembler.next() {
                missed |= self.flight.is_missed(now, piece.sequence);
            } else if !self.is_through() {
                self.assembler.push(&piece);
            }
        }
        missed
    }

    fn message(&mut self, now: Instant, message: &Message, out: &mut Vec<DtlsOutput>) -> Result<(), Fault> {
        match self.client {
            true => self.as_client(now, message, out),
            false => self.as_server(now, message, out),
        }
    }

    /// Once everything is agreed on, alerts in the clear are not believed.
    fn alert(&mut self, data: &[u8], sealed: bool, out: &mut Vec<DtlsOutput>) -> Result<(), WebRtcError> {
        let &[level, description] = data else { return Ok(()) };
        if !sealed && self.is_through() {
            return Ok(());
        }
        if description == CLOSE_NOTIFY {
            self.end();
            out.push(DtlsOutput::Closed);
        } else if level == FATAL {
            self.end();
            return Err(WebRtcError::Dtls(format!("the remote party broke off with alert {description}")));
        }
        Ok(())
    }

    /// Sends application data, once it is through.
    pub fn send_data(&mut self, data: &[u8], out: &mut Vec<DtlsOutput>) {
        let mut datagram = Vec::new();
        if self.is_through()
            && !self.closed
            && self.records.put(content::APPLICATION_DATA, data, true, &mut datagram).is_some()
        {
            out.push(DtlsOutput::Packet(datagram));
        }
    }

    /// Says good-bye.
    pub fn close(&mut self, out: &mut Vec<DtlsOutput>) {
        if !self.closed {
            self.end();
            self.put_alert(1, CLOSE_NOTIFY, out);
        }
    }

    fn fail(&mut self, (alert, text): Fault, out: &mut Vec<DtlsOutput>) -> WebRtcError {
        self.put_alert(FATAL, alert, out);
        self.end();
        WebRtcError::Dtls(text.to_owned())
    }

    fn end(&mut self) {
        self.closed = true;
        self.flight.rest();
    }

    fn put_alert(&mut self, level: u8, description: u8, out: &mut Vec<DtlsOutput>) {
        let mut datagram = Vec::new();
        let sealed = self.is_through();
        if self.records.put(content::ALERT, &[level, description], sealed, &mut datagram).is_some() {
            out.push(DtlsOutput::Packet(datagram));
        }
    }

    // What both roles do.

    /// Adds a message to the flight and to what is hashed.
    fn add(&mut self, kind: u8, body: Vec<u8>) {
        let sequence = self.flight.number();
        self.note(kind, sequence, &body);
        self.flight.push(Part::Message { kind, sequence, body, sealed: false });
    }

    /// Messages are hashed as if they had come in one piece.
    fn note(&mut self, kind: u8, sequence: u16, body: &[u8]) {
        record::put_fragment_header(&mut self.transcript, (kind, sequence), body.len(), 0, body.len());
        self.transcript.extend(body);
    }

    /// Adds the two parts with which each side ends.
    fn add_finished(&mut self) -> Result<(), Fault> {
        let master = self.master.as_ref().ok_or(BROKEN)?;
        let body = master.verify_data(self.client, &self.transcript).ok_or(BROKEN)?;
        let sequence = self.flight.number();
        self.note(FINISHED, sequence, &body);
        self.flight.push(Part::ChangeCipherSpec);
        self.flight.push(Part::Message { kind: FINISHED, sequence, body, sealed: true });
        Ok(())
    }

    fn send_new(&mut self, now: Instant, answered: bool, out: &mut Vec<DtlsOutput>) {
        let wait = answered.then_some(self.settings.retransmit);
        self.flight.seal(now, self.assembler.next(), wait);
        self.send(out);
    }

    fn send(&mut self, out: &mut Vec<DtlsOutput>) {
        let sent = self.flight.datagrams(&mut self.records, self.settings.mtu, |datagram| {
            out.push(DtlsOutput::Packet(datagram));
        });
        debug_assert!(sent.is_some(), "a flight has its keys");
    }

    /// The other side's certificate: the one its SDP names.
    fn take_certificate(&mut self, body: &[u8]) -> Result<(), Fault> {
        let found = read_certificate(body).ok_or(MALFORMED)?;
        if found.is_empty() {
            return Err((42, "the remote party shows no certificate"));
        }
        if !certificate::matches(found, &self.fingerprints) {
            return Err(WRONG_CERTIFICATE);
        }
        self.remote_certificate = found.to_vec();
        Ok(())
    }

    /// Master secret and keys; all messages up to ClientKeyExchange are in the transcript.
    fn make_keys(&mut self) -> Result<(), Fault> {
        let suite = self.suite.ok_or(BROKEN)?;
        let shared =
            self.exchange.take().and_then(|exchange| exchange.agree(&self.remote_public)).ok_or(MALFORMED)?;
        let hash = self.extended.then(|| suite.hash(&self.transcript));
        let master = Master::new(suite, &shared, hash.as_deref(), self.randoms.clone()).ok_or(BROKEN)?;
        let (client, server) = master.record_keys().ok_or(BROKEN)?;
        let (write, read) = if self.client { (client, server) } else { (server, client) };
        (self.records.write, self.records.read) = (Some(write), Some(read));
        self.master = Some(master);
        Ok(())
    }

    /// The other side's Finished; adds it to what is hashed.
    fn take_finished(&mut self, message: &Message) -> Result<(), Fault> {
        let master = self.master.as_ref().ok_or(UNEXPECTED)?;
        let expected = master.verify_data(!self.client, &self.transcript).ok_or(BROKEN)?;
        verify_slices_are_equal(&expected, &message.body)
            .map_err(|_| (51, "the handshake was tampered with on the way"))?;
        self.note(message.kind, message.sequence, &message.body);
        Ok(())
    }

    /// It is through: the keys.
    fn finish(&mut self, out: &mut Vec<DtlsOutput>) -> Result<(), Fault> {
        self.awaits = Awaits::Nothing;
        let keys = self.srtp.and_then(|number| self.srtp_keys(number)).ok_or(BROKEN)?;
        out.push(DtlsOutput::Keys(keys));
        self.transcript = Vec::new();
        self.master = None;
        Ok(())
    }

    fn srtp_keys(&self, number: u16) -> Option<SrtpKeys> {
        let (_, profile, key, salt) = PROFILES.into_iter().find(|row| row.0 == number)?;
        let material = self.master.as_ref()?.export(2 * (key + salt))?;
        split_keys(&material, profile, (key, salt), self.client)
    }
}

/// RFC 5764 §4.2: client key, server key, client salt, server salt.
pub(super) fn split_keys(
    material: &[u8],
    profile: SrtpProfile,
    (key, salt): (usize, usize),
    client: bool,
) -> Option<SrtpKeys> {
    let part = |from: usize, length: usize| Some(material.get(from..from + length)?.to_vec());
    let theirs = KeyingMaterial { key: part(0, key)?, salt: part(2 * key, salt)? };
    let ours = KeyingMaterial { key: part(key, key)?, salt: part(2 * key + salt, salt)? };
    Some(match client {
        true => SrtpKeys { profile, local: theirs, remote: ours },
        false => SrtpKeys { profile, local: ours, remote: theirs },
    })
}

fn random(count: usize) -> Result<Vec<u8>, WebRtcError> {
    let mut bytes = vec![0; count];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| WebRtcError::Dtls("no random numbers".to_owned()))?;
    Ok(bytes)
}
