//! Looks into a DTLS ClientHello (RFC 6347 §4.2, RFC 8446 §4.1.2) before any engine is chosen: which
//! versions could this party be answered with? Its fragments may come in any order, spread over datagrams.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::handshake::{ClientHello, kind};
use super::record::{Assembler, content, fragments, records};

const VERSION_12: u16 = 0xfefd;
const VERSION_13: u16 = 0xfefc;
/// ECDHE_ECDSA with AES-128-GCM and AES-256-GCM.
pub const SUITES_12: [u16; 2] = [0xc02b, 0xc02c];

/// What a ClientHello could be answered with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Offered {
    /// DTLS 1.2 with an ECDSA suite.
    pub v12: bool,
    /// DTLS 1.3.
    pub v13: bool,
}

/// Puts the fragments of one ClientHello together.
#[derive(Default)]
pub struct HelloReader(Assembler);

impl HelloReader {
    /// Takes a datagram; once the hello is complete, tells what it offers.
    pub fn push(&mut self, datagram: &[u8]) -> Option<Offered> {
        let plain = |kind: u8, epoch: u16| kind == content::HANDSHAKE && epoch == 0;
        for record in records(datagram).filter(|record| plain(record.kind, record.epoch)) {
            fragments(record.content).filter(|piece| piece.kind == kind::CLIENT_HELLO).for_each(|piece| {
                self.0.push(&piece);
            });
        }
        let hello = ClientHello::parse(&self.0.pop()?.body)?;
        let offers = |version| hello.versions.as_ref().is_some_and(|list| list.contains(&version));
        let suite = hello.suites.iter().any(|suite| SUITES_12.contains(suite));
        let v12 = hello.versions.is_none() || offers(VERSION_12);
        Some(Offered { v12: v12 && suite, v13: offers(VERSION_13) })
    }
}
