//! A DTLS 1.2 handshake under any datagrams.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::core::io::clock;
use crate::core::rtp::path::Path;
use crate::core::session::{Command, DtlsRole, Fingerprint, Input, Output, SessionFactory};
use crate::webrtc::wire::handshake::{self, ClientHello, ServerHello, Signed};
use crate::webrtc::wire::record::{Assembler, fragments, records};
use crate::webrtc::{Certificate, Factory, SessionConfig};

/// More than a datagram's worth of what can come out for one datagram would be a weapon in others' hands.
const MOST: usize = 4;

/// Records, the messages in them, and an engine that is given them. The first byte says which role it has; each
/// datagram stands behind its length in two bytes, whose high bit lets a second pass first.
pub fn dtls(data: &[u8]) {
    let Some((role, mut rest)) = data.split_first() else { return };
    let (mut now, path) = (start(), Path::toward(0, ([192, 0, 2, 1], 4000).into()));
    let Ok(mut session) = factory().dtls(&json!({})) else { return };
    let role = if role & 1 == 0 { DtlsRole::Client } else { DtlsRole::Server };
    let print = Fingerprint { algorithm: "sha-256".to_owned(), value: "AA".to_owned() };
    let _ = session.command(now, Command::SetRemotePath { path });
    let _ = session.command(now, Command::SetRemoteDtls { role, fingerprints: vec![print] });
    let mut assembler = Assembler::default();
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let length = u16::from_be_bytes(*length);
        if length & 0x8000 != 0 {
            now += Duration::from_secs(1);
            session.handle_timeout(now);
            while session.poll_output().is_some() {}
        }
        let (datagram, tail) = tail.split_at(usize::from(length & 0x7fff).min(tail.len()));
        rest = tail;
        read(datagram, &mut assembler);
        session.handle_input(now, Input::Datagram { path, data: datagram });
        let out = std::iter::from_fn(|| session.poll_output());
        let sent = out.filter(|output| matches!(output, Output::Datagram { .. })).count();
        assert!(sent <= MOST, "{sent} datagrams for one");
    }
}

/// What is written as it was read is read the same.
fn read(datagram: &[u8], assembler: &mut Assembler) {
    records(datagram).for_each(|record| fragments(record.content).for_each(|piece| assembler.push(&piece)));
    while let Some(message) = assembler.pop() {
        let body = &message.body;
        if let Some(hello) = ClientHello::parse(body).filter(|hello| hello.versions.is_none()) {
            let again = ClientHello::parse(&hello.to_bytes());
            // The signalling suite also says what the extension says.
            assert_eq!(again.map(|again| again.suites), Some(hello.suites));
        }
        if let Some(hello) = ServerHello::parse(body) {
            assert_eq!(ServerHello::parse(&hello.to_bytes()), Some(hello));
        }
        if let Some(signed) = Signed::parse(body) {
            assert_eq!(Signed::parse(&signed.to_bytes()), Some(signed));
        }
        let _ = (handshake::read_certificate(body), handshake::read_server_key_exchange(body));
    }
}

fn factory() -> &'static Factory {
    static FACTORY: OnceLock<Arc<Factory>> = OnceLock::new();
    FACTORY.get_or_init(|| {
        let certificate = Certificate::generate().expect("a certificate");
        Arc::new(Factory::new(SessionConfig::default(), certificate).expect("a factory"))
    })
}

fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(clock::now)
}
