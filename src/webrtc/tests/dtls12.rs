//! Our DTLS 1.2 against itself: certificates of both kinds, cookies, bad weather, and parties that are not who they say.
//! `session` and `link` have it against the library's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, RsaEncoding, RsaKeyPair};

use crate::core::rtp::keys::SrtpKeys;
use crate::webrtc::Certificate;
use crate::webrtc::session::certificate::fingerprints_of;
use crate::webrtc::session::dtls::DtlsOutput;
use crate::webrtc::session::dtls12::{Dtls12, Identity, Settings, Signer};

struct Rsa(RsaKeyPair, u16, &'static dyn RsaEncoding);

impl Signer for Rsa {
    fn scheme(&self) -> u16 {
        self.1
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![0; self.0.public_modulus_len()];
        self.0.sign(self.2, &SystemRandom::new(), message, &mut out).ok()?;
        Some(out)
    }
}

/// An identity as OpenSSL makes them, whose signatures are of `scheme`.
fn rsa(scheme: u16) -> Identity {
    let encoding: &dyn RsaEncoding = match scheme {
        0x0401 => &signature::RSA_PKCS1_SHA256,
        0x0501 => &signature::RSA_PKCS1_SHA384,
        _ => &signature::RSA_PSS_SHA256,
    };
    let key =
        rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).expect("a key");
    let params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    let certificate = params.self_signed(&key).expect("signed").der().to_vec();
    let pair = RsaKeyPair::from_pkcs8(&key.serialize_der()).expect("a pair");
    Identity { certificate, key: Box::new(Rsa(pair, scheme, encoding)), suites: [0xc02f, 0xc030] }
}

fn ecdsa() -> Identity {
    Certificate::generate().and_then(|made| made.to_identity()).expect("an identity")
}

/// Two engines and what flies between them; the client is the first.
struct Pair {
    now: Instant,
    ends: [Dtls12; 2],
    flying: Vec<(Instant, usize, Vec<u8>)>,
    keys: [Option<SrtpKeys>; 2],
    closed: [bool; 2],
    data: [Vec<Vec<u8>>; 2],
    faults: [Option<String>; 2],
    /// Of 100.
    loss: u64,
    sent: usize,
    seed: u64,
}

impl Pair {
    fn new(client: Identity, server: Identity, settings: Settings) -> Pair {
        Pair::expecting([&server.certificate.clone(), &client.certificate.clone()], client, server, settings)
    }

    /// `expected`: the certificates of which each end has been told.
    fn expecting(expected: [&[u8]; 2], client: Identity, server: Identity, settings: Settings) -> Pair {
        let end = |identity, client, expected: &[u8]| {
            Dtls12::new(Arc::new(identity), settings, client, fingerprints_of(expected)).expect("an engine")
        };
        Pair {
            now: Instant::now(),
            ends: [end(client, true, expected[0]), end(server, false, expected[1])],
            flying: Vec::new(),
            keys: [None, None],
            closed: [false; 2],
            data: [Vec::new(), Vec::new()],
            faults: [None, None],
            loss: 0,
            sent: 0,
            seed: 7,
        }
    }

    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.seed >> 33
    }

    fn act(
        &mut self,
        end: usize,
        step: impl FnOnce(&mut Dtls12, Instant, &mut Vec<DtlsOutput>) -> Result<(), crate::webrtc::WebRtcError>,
    ) {
        let mut outputs = Vec::new();
        if let Err(error) = step(&mut self.ends[end], self.now, &mut outputs) {
            self.faults[end].get_or_insert(error.to_string());
        }
        for output in outputs {
            match output {
                DtlsOutput::Packet(data) => {
                    self.sent += 1;
                    let jitter = Duration::from_millis(self.random() % 15);
                    if self.random() % 100 >= self.loss {
                        self.flying.push((self.now + Duration::from_millis(10) + jitter, 1 - end, data));
                    }
                }
                DtlsOutput::Keys(keys) => self.keys[end] = Some(keys),
                DtlsOutput::Data(data) => self.data[end].push(data),
                DtlsOutput::Closed => self.closed[end] = true,
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.act(0, |engine, now, out| engine.handle_timeout(now, out));
        loop {
            let flying = self.flying.iter().map(|flying| flying.0);
            let timers = self.ends.iter().filter_map(Dtls12::poll_timeout);
            let Some(next) = flying.chain(timers).min().filter(|at| *at <= end) else { break };
            self.now = next.max(self.now);
            let now = self.now;
            let (arrived, rest) =
                std::mem::take(&mut self.flying).into_iter().partition(|flying| flying.0 <= now);
            self.flying = rest;
            let arrived: Vec<(Instant, usize, Vec<u8>)> = arrived;
            for (_, to, data) in arrived {
                self.act(to, |engine, now, out| engine.handle_packet(now, &data, out));
            }
            for at in 0..2 {
                if self.faults[at].is_none() && self.ends[at].poll_timeout().is_some_and(|due| due <= now) {
                    self.act(at, |engine, now, out| engine.handle_timeout(now, out));
                }
            }
            if self.faults.iter().all(Option::is_some) {
                break;
            }
        }
        self.now = end;
    }

    fn assert_through(&self, what: &str) {
        let [Some(client), Some(server)] = &self.keys else { panic!("{what}: {:?}", self.faults) };
        assert_eq!(
            (&client.local.key, &client.remote.salt),
            (&server.remote.key, &server.local.salt),
            "{what}"
        );
        assert_ne!(client.local.key, client.remote.key);
    }
}

const SETTINGS: Settings =
    Settings { mtu: 1200, retransmit: Duration::from_millis(100), retries: 8, cookie: false };
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn certificates_of_either_kind_are_taken_in_either_role() {
    for (name, client, server) in [
        ("ECDSA both", ecdsa(), ecdsa()),
        ("RSA client", rsa(0x0401), ecdsa()),
        ("RSA-PSS client", rsa(0x0804), ecdsa()),
        ("RSA server", ecdsa(), rsa(0x0501)),
        ("RSA-PSS server", ecdsa(), rsa(0x0804)),
        ("RSA both", rsa(0x0401), rsa(0x0401)),
    ] {
        let mut pair = Pair::new(client, server, SETTINGS);
        pair.run(SECOND);
        pair.assert_through(name);
    }
}

#[test]
fn a_cookie_costs_a_round_trip_and_small_datagrams_cost_nothing() {
    let mut pair = Pair::new(ecdsa(), ecdsa(), Settings { cookie: true, ..SETTINGS });
    pair.run(Duration::from_millis(199));
    pair.assert_through("cookie");
    assert!(pair.sent <= 7, "{} datagrams", pair.sent);
    let mut pair = Pair::new(ecdsa(), ecdsa(), Settings { cookie: true, mtu: 200, ..SETTINGS });
    pair.run(5 * SECOND);
    pair.assert_through("small");
}

#[test]
fn bad_weather_costs_time_only() {
    for seed in 1..40 {
        let mut pair = Pair::new(ecdsa(), ecdsa(), Settings { cookie: seed % 2 == 0, mtu: 400, ..SETTINGS });
        (pair.seed, pair.loss) = (seed * 31, 25);
        pair.run(30 * SECOND);
        pair.assert_through(&format!("seed {seed}"));
        assert!(pair.sent < 400, "seed {seed}: {} datagrams", pair.sent);
        assert!(pair.ends.iter().all(|end| end.poll_timeout().is_none()), "nothing is sent again for ever");
    }
}

#[test]
fn a_party_that_is_not_who_it_should_be_is_refused_on_both_sides() {
    let stranger = ecdsa();
    for side in 0..2 {
        let (client, server) = (ecdsa(), rsa(0x0401));
        let real = [server.certificate.clone(), client.certificate.clone()];
        let mut expected = [&real[0][..], &real[1][..]];
        expected[side] = &stranger.certificate;
        let mut pair = Pair::expecting(expected, client, server, SETTINGS);
        pair.run(SECOND);
        assert_eq!(
            pair.faults[side].as_deref(),
            Some("DTLS failed: the remote certificate is not the one its SDP names")
        );
        assert!(
            pair.faults[1 - side].as_ref().is_some_and(|fault| fault.contains("alert 42")),
            "{:?}",
            pair.faults
        );
        assert!(pair.keys[side].is_none());
    }
}

#[test]
fn a_certificate_without_its_key_is_worth_nothing() {
    for side in 0..2 {
        let victim = rsa(0x0401);
        let mut thief = rsa(0x0401);
        thief.certificate = victim.certificate.clone();
        let (client, server) = if side == 0 { (ecdsa(), thief) } else { (thief, ecdsa()) };
        let mut pair = Pair::new(client, server, SETTINGS);
        pair.run(SECOND);
        assert_eq!(
            pair.faults[side].as_deref(),
            Some("DTLS failed: the remote party does not have the key of its certificate")
        );
        assert!(pair.keys[side].is_none());
    }
}

#[test]
fn nobody_there_is_said_after_some_tries_and_good_bye_is_heard() {
    let mut pair = Pair::new(ecdsa(), ecdsa(), SETTINGS);
    pair.loss = 100;
    pair.run(60 * SECOND);
    assert_eq!(pair.faults[0].as_deref(), Some("DTLS failed: the remote party does not answer"));
    assert_eq!(pair.sent, 9);
    let mut pair = Pair::new(ecdsa(), ecdsa(), SETTINGS);
    pair.run(SECOND);
    pair.assert_through("good-bye");
    pair.act(0, |engine, _, out| {
        engine.close(out);
        Ok(())
    });
    pair.run(SECOND);
    assert_eq!(pair.closed, [false, true]);
}

#[test]
fn what_strangers_put_in_between_changes_nothing() {
    let mut pair = Pair::new(ecdsa(), ecdsa(), SETTINGS);
    pair.run(SECOND);
    pair.assert_through("before");
    let sent = pair.sent;
    // An alert in the clear, a forged record of the new keys, a hello, noise.
    let alert = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40];
    let mut forged = vec![21, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 30];
    forged.extend([0; 30]);
    for data in [&alert[..], &forged, &[22; 100], &[]] {
        for end in 0..2 {
            pair.act(end, |engine, now, out| engine.handle_packet(now, data, out));
        }
    }
    assert_eq!((pair.sent, &pair.faults, pair.closed), (sent, &[None, None], [false; 2]));
}

#[test]
fn application_data_goes_both_ways_once_it_is_through_and_counts_once() {
    let mut pair = Pair::new(ecdsa(), ecdsa(), SETTINGS);
    pair.act(1, |engine, _, out| {
        engine.send_data(b"too early", out);
        Ok(())
    });
    assert!(pair.flying.is_empty());
    pair.run(SECOND);
    for end in 0..2 {
        pair.act(end, |engine, _, out| {
            engine.send_data(&[end as u8; 1_000], out);
            Ok(())
        });
    }
    // What comes twice is taken once; what was changed on the way, not at all.
    let repeated = pair.flying.clone();
    let mut changed = pair.flying.clone();
    changed.iter_mut().for_each(|(_, _, datagram)| *datagram.last_mut().expect("a byte") ^= 1);
    pair.flying.extend(repeated);
    pair.flying.extend(changed);
    pair.run(SECOND);
    assert_eq!(pair.data, [vec![vec![1; 1_000]], vec![vec![0; 1_000]]]);
    pair.act(0, |engine, _, out| {
        engine.close(out);
        engine.send_data(b"too late", out);
        Ok(())
    });
    pair.run(SECOND);
    assert!(pair.closed[1]);
    assert_eq!(pair.data[1].len(), 1);
}
