//! RTMP within TLS, both ends in memory.

use std::io::{Read, Write};

use rustls::pki_types::{PrivateKeyDer, ServerName};

use super::*;
use crate::core::session::Command;
use crate::rtmp::TlsSession;

pub(super) fn configs() -> (Arc<rustls::ServerConfig>, Arc<rustls::ClientConfig>) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

struct Pair {
    now: Instant,
    client: rustls::ClientConnection,
    session: TlsSession<RtmpSession>,
    received: Vec<u8>,
    events: Vec<Event>,
}

impl Pair {
    fn new() -> Self {
        let (server, client) = configs();
        let now = Instant::now();
        let epoch = Epoch { instant: now, unix: Duration::ZERO };
        let inner = RtmpSession::new(Arc::new(RtmpConfig::default()), epoch, now);
        let name = ServerName::try_from("localhost").unwrap();
        Pair {
            now,
            client: rustls::ClientConnection::new(client, name).unwrap(),
            session: TlsSession::new(server, inner).unwrap(),
            received: Vec::new(),
            events: Vec::new(),
        }
    }

    fn exchange(&mut self) {
        loop {
            let mut wire = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut wire).unwrap();
            }
            let quiet = wire.is_empty();
            for part in wire.chunks(100) {
                self.session.handle_input(self.now, Input::Bytes(part));
            }
            let mut back = Vec::new();
            while let Some(output) = self.session.poll_output() {
                match output {
                    Output::Bytes(bytes) => {
                        assert!(self.closed().is_none(), "bytes after the end");
                        back.extend(bytes);
                    }
                    Output::Event(event) => self.events.push(event),
                    Output::Datagram { .. } => panic!("no datagrams here"),
                }
            }
            if quiet && back.is_empty() {
                return;
            }
            let mut back = back.as_slice();
            while !back.is_empty() {
                self.client.read_tls(&mut back).unwrap();
                self.client.process_new_packets().unwrap();
                let _ = self.client.reader().read_to_end(&mut self.received);
            }
        }
    }

    fn say(&mut self, data: &[u8]) {
        self.client.writer().write_all(data).unwrap();
        self.exchange();
    }

    fn closed(&self) -> Option<bool> {
        self.events.iter().find_map(|event| {
            if let Event::Closed { ending, .. } = event { Some(ending.is_clean()) } else { None }
        })
    }
}

#[test]
fn a_publisher_within_tls() {
    let mut pair = Pair::new();
    let plain = Client::new();
    pair.say(&[3; 1 + 2 * handshake::BLOCK]);
    assert_eq!(pair.received.len(), 1 + 2 * handshake::BLOCK);
    pair.say(&plain.commands("studio", "k3y"));
    assert!(pair.session.inner_mut().take_request().is_some());
    let now = pair.now;
    pair.session.inner_mut().accept(now);
    pair.received.clear();
    pair.exchange();
    let text = String::from_utf8_lossy(&pair.received).into_owned();
    assert!(text.contains("NetStream.Publish.Start"));
    let sound = [
        plain.message(4, 1, kind::AUDIO, 0, AAC_48K.to_vec()),
        plain.message(4, 1, kind::AUDIO, 21, vec![0xaf, 1, 1, 2]),
    ];
    pair.say(&sound.concat());
    assert!(matches!(pair.events[..], [Event::Track(_), Event::Frame(_)]), "{:?}", pair.events);
    assert_eq!(pair.session.dump()["tls"], true);
    pair.session.command(now, Command::Close { reason: "kicked".into() }).unwrap();
    pair.exchange();
    assert_eq!(pair.closed(), Some(true));
}

#[test]
fn close_notify_is_a_hang_up_and_garbage_ends_it() {
    let mut pair = Pair::new();
    pair.say(&[3]);
    pair.client.send_close_notify();
    pair.exchange();
    assert_eq!(pair.closed(), Some(false));

    let mut pair = Pair::new();
    pair.session.handle_input(pair.now, Input::Bytes(b"\x03no TLS at all"));
    let mut alerted = false;
    while let Some(output) = pair.session.poll_output() {
        match output {
            Output::Event(event) => pair.events.push(event),
            _ => alerted = true,
        }
    }
    assert!(alerted);
    assert_eq!(pair.closed(), Some(false));
}
