//! The client's side of a handshake: says hello, and proves who it is when it is asked.

use std::time::Instant;

use super::secrets::{GROUPS, KeyExchange, suite};
use super::{
    Awaits, Dtls12, Fault, MALFORMED, NO_COMMON, NO_SRTP, PROFILES, UNEXPECTED, WRONG_SIGNATURE, signature,
};
use crate::webrtc::session::dtls::DtlsOutput;
use crate::webrtc::wire::handshake::{self, ClientHello, Flags, ServerHello, kind};
use crate::webrtc::wire::record::Message;

/// ECDHE with ECDSA and with RSA, AES-128-GCM before AES-256-GCM.
const SUITES: [u16; 4] = [0xc02b, 0xc02f, 0xc02c, 0xc030];

impl Dtls12 {
    pub(super) fn say_hello(&mut self, now: Instant, out: &mut Vec<DtlsOutput>) -> Result<(), Fault> {
        let hello = ClientHello {
            random: self.randoms.0.clone(),
            cookie: self.cookie.clone(),
            suites: SUITES.to_vec(),
            versions: None,
            groups: Some(GROUPS.to_vec()),
            schemes: Some(signature::SCHEMES.to_vec()),
            srtp: PROFILES.iter().map(|row| row.0).collect(),
            flags: Flags { extended_master_secret: true, renegotiation_info: true, point_formats: true },
        };
        // What went before a cookie does not count.
        self.transcript.clear();
        self.flight.clear();
        self.add(kind::CLIENT_HELLO, hello.to_bytes());
        self.send_new(now, true, out);
        Ok(())
    }

    pub(super) fn as_client(
        &mut self,
        now: Instant,
        message: &Message,
        out: &mut Vec<DtlsOutput>,
    ) -> Result<(), Fault> {
        let Message { kind, sequence, body } = message;
        match (self.awaits, *kind) {
            (Awaits::ServerHello, kind::HELLO_VERIFY_REQUEST) if self.cookie.is_empty() => {
                self.cookie = handshake::read_hello_verify_request(body).ok_or(MALFORMED)?;
                return self.say_hello(now, out);
            }
            (Awaits::ServerHello, kind::SERVER_HELLO) => self.take_server_hello(body)?,
            (Awaits::Certificate, kind::CERTIFICATE) => {
                self.take_certificate(body)?;
                self.awaits = Awaits::ServerKeyExchange;
            }
            (Awaits::ServerKeyExchange, kind::SERVER_KEY_EXCHANGE) => self.take_key_exchange(body)?,
            (Awaits::RequestOrDone, kind::CERTIFICATE_REQUEST) if !self.asked => {
                let schemes = handshake::read_certificate_request(body).ok_or(MALFORMED)?;
                if !schemes.contains(&self.identity.key.scheme()) {
                    return Err((40, "the remote party does not take our kind of certificate"));
                }
                self.asked = true;
            }
            (Awaits::RequestOrDone, kind::SERVER_HELLO_DONE) => {
                self.note(*kind, *sequence, body);
                return self.answer_server(now, out);
            }
            (Awaits::Finished, kind::FINISHED) => {
                self.take_finished(message)?;
                self.flight.rest();
                return self.finish(out);
            }
            _ => return Err(UNEXPECTED),
        }
        self.note(*kind, *sequence, body);
        Ok(())
    }

    fn take_server_hello(&mut self, body: &[u8]) -> Result<(), Fault> {
        let hello = ServerHello::parse(body).ok_or((70, "the remote party has no DTLS 1.2"))?;
        self.suite = suite(hello.suite).filter(|_| SUITES.contains(&hello.suite));
        self.suite.ok_or(NO_COMMON)?;
        self.srtp = hello.srtp.filter(|number| PROFILES.iter().any(|row| row.0 == *number));
        self.srtp.ok_or(NO_SRTP)?;
        self.extended = hello.flags.extended_master_secret;
        self.randoms.1 = hello.random;
        self.awaits = Awaits::Certificate;
        Ok(())
    }

    fn take_key_exchange(&mut self, body: &[u8]) -> Result<(), Fault> {
        let (parameters, group, public, signed) =
            handshake::read_server_key_exchange(body).ok_or(MALFORMED)?;
        let message = [&self.randoms.0[..], &self.randoms.1, parameters].concat();
        if !signature::verify(&self.remote_certificate, &message, &signed) {
            return Err(WRONG_SIGNATURE);
        }
        let (exchange, own) = KeyExchange::new(group).ok_or(NO_COMMON)?;
        (self.exchange, self.remote_public) = (Some(exchange), public.to_vec());
        self.own_public = own;
        self.awaits = Awaits::RequestOrDone;
        Ok(())
    }

    fn answer_server(&mut self, now: Instant, out: &mut Vec<DtlsOutput>) -> Result<(), Fault> {
        self.flight.clear();
        if self.asked {
            self.add(kind::CERTIFICATE, handshake::certificate(&self.identity.certificate));
        }
        let public = std::mem::take(&mut self.own_public);
        self.add(kind::CLIENT_KEY_EXCHANGE, handshake::client_key_exchange(&public));
        self.make_keys()?;
        if self.asked {
            let signed = self.identity.sign(&self.transcript)?;
            self.add(kind::CERTIFICATE_VERIFY, signed);
        }
        self.add_finished()?;
        self.awaits = Awaits::Finished;
        self.send_new(now, true, out);
        Ok(())
    }
}
