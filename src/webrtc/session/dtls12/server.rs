//! The server's side of a handshake: waits for a ClientHello, shows its certificate and asks for one.

use std::time::Instant;

use super::secrets::{GROUPS, KeyExchange, suite};
use super::{
    Awaits, BROKEN, Dtls12, Fault, MALFORMED, NO_COMMON, NO_SRTP, PROFILES, UNEXPECTED, WRONG_SIGNATURE,
    signature,
};
use crate::webrtc::session::dtls::DtlsOutput;
use crate::webrtc::session::dtls12::flight::Part;
use crate::webrtc::wire::handshake::{self, ClientHello, Flags, ServerHello, Signed, kind};
use crate::webrtc::wire::record::Message;

impl Dtls12 {
    pub(super) fn as_server(
        &mut self,
        now: Instant,
        message: &Message,
        out: &mut Vec<DtlsOutput>,
    ) -> Result<(), Fault> {
        let Message { kind, sequence, body } = message;
        match (self.awaits, *kind) {
            (Awaits::ClientHello, kind::CLIENT_HELLO) => return self.take_client_hello(now, message, out),
            (Awaits::Certificate, kind::CERTIFICATE) => {
                self.take_certificate(body)?;
                self.note(*kind, *sequence, body);
                self.awaits = Awaits::ClientKeyExchange;
            }
            (Awaits::ClientKeyExchange, kind::CLIENT_KEY_EXCHANGE) => {
                self.remote_public = handshake::read_client_key_exchange(body).ok_or(MALFORMED)?.to_vec();
                self.note(*kind, *sequence, body);
                self.make_keys()?;
                self.awaits = Awaits::CertificateVerify;
            }
            (Awaits::CertificateVerify, kind::CERTIFICATE_VERIFY) => {
                let signed = Signed::parse(body).ok_or(MALFORMED)?;
                if !signature::verify(&self.remote_certificate, &self.transcript, &signed) {
                    return Err(WRONG_SIGNATURE);
                }
                self.note(*kind, *sequence, body);
                self.awaits = Awaits::Finished;
            }
            (Awaits::Finished, kind::FINISHED) => {
                self.take_finished(message)?;
                self.flight.clear();
                self.add_finished()?;
                self.send_new(now, false, out);
                self.finish(out)?;
            }
            _ => return Err(UNEXPECTED),
        }
        Ok(())
    }

    fn take_client_hello(
        &mut self,
        now: Instant,
        message: &Message,
        out: &mut Vec<DtlsOutput>,
    ) -> Result<(), Fault> {
        let hello = ClientHello::parse(&message.body).ok_or(MALFORMED)?;
        self.flight.clear();
        if hello.cookie != self.cookie {
            let (sequence, body) = (self.flight.number(), handshake::hello_verify_request(&self.cookie));
            let kind = kind::HELLO_VERIFY_REQUEST;
            self.flight.push(Part::Message { kind, sequence, body, sealed: false });
            self.send_new(now, false, out);
            return Ok(());
        }
        self.note(message.kind, message.sequence, &message.body);
        let ours = self.identity.suites;
        let number = ours.into_iter().find(|suite| hello.suites.contains(suite)).ok_or(NO_COMMON)?;
        let groups = hello.groups.as_deref();
        // RFC 8422 §5.1: who names none takes any.
        let takes = |group: &u16| groups.is_none_or(|groups| groups.contains(group));
        let group = GROUPS.into_iter().find(takes).ok_or(NO_COMMON)?;
        let scheme = self.identity.key.scheme();
        if hello.schemes.as_ref().is_some_and(|schemes| !schemes.contains(&scheme)) {
            return Err(NO_COMMON);
        }
        (self.suite, self.extended) = (suite(number), hello.flags.extended_master_secret);
        self.srtp = PROFILES.iter().map(|row| row.0).find(|ours| hello.srtp.contains(ours));
        self.srtp.ok_or(NO_SRTP)?;
        self.randoms.0 = hello.random.clone();
        let (exchange, public) = KeyExchange::new(group).ok_or(BROKEN)?;
        self.exchange = Some(exchange);
        self.answer_hello(&hello, number, &handshake::key_parameters(group, &public))?;
        self.awaits = Awaits::Certificate;
        self.send_new(now, true, out);
        Ok(())
    }

    fn answer_hello(&mut self, hello: &ClientHello, suite: u16, parameters: &[u8]) -> Result<(), Fault> {
        let answer = ServerHello {
            random: self.randoms.1.clone(),
            suite,
            srtp: self.srtp,
            flags: Flags { extended_master_secret: self.extended, ..hello.flags },
        };
        self.add(kind::SERVER_HELLO, answer.to_bytes());
        self.add(kind::CERTIFICATE, handshake::certificate(&self.identity.certificate));
        let message = [&self.randoms.0[..], &self.randoms.1, parameters].concat();
        let signed = self.identity.sign(&message)?;
        self.add(kind::SERVER_KEY_EXCHANGE, [parameters, &signed].concat());
        self.add(kind::CERTIFICATE_REQUEST, handshake::certificate_request(&signature::SCHEMES));
        self.add(kind::SERVER_HELLO_DONE, Vec::new());
        Ok(())
    }
}
