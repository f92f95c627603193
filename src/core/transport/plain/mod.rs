//! Plain RTP legs: RTP and RTCP with no session around them, as SIP parties speak it (RFC 3550, RFC 3551),
//! on UDP sockets of their own, in the clear or with keys out of the SDP (RFC 4568).
//!
//! | file | what |
//! |---|---|
//! | `latch` | where the party really is: symmetric RTP (RFC 4961), and who is not the party |
//! | `parameter_sets` | what an H.264 party has only in its SDP |
//! | `sources` | which of its streams is whose, also when it changes its SSRC |
//! | `watch` | whether media flows, in both directions |
//! | `words` | what is wrong with a leg, in a sentence |
//!
//! Keys of a telephone (RFC 4733) are read by the producer and played by the consumer, comfort noise
//! (RFC 3389) is a format of the producer like any other.

mod config;
mod latch;
mod parameter_sets;
mod sources;
mod watch;
mod words;

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use crate::core::capabilities::Kind;
use crate::core::consumer::{Progress, ReplayLimits, Seal, Sink};
use crate::core::id::ProducerId;
use crate::core::plain::{PlainOptions, PlainRemote, SdesKeys};
use crate::core::producer::Input;
use crate::core::router::Router;
use crate::core::rtp::batch::SendBatch;
use crate::core::rtp::bwe::RateLimits;
use crate::core::rtp::extension::abs_send_time;
use crate::core::rtp::header::{RtpView, is_rtcp};
use crate::core::rtp::keys::{KeyingMaterial, SrtpKeys};
use crate::core::rtp::mirror::Mirror;
use crate::core::rtp::path::{LegSockets, Path};
use crate::core::rtp::rtcp::write;
use crate::core::rtp::srtp::{MAX_RTCP_OVERHEAD, SrtpReceiver, SrtpSender};
use crate::core::rtp::tone::Tone;
use crate::core::session::Session;
use crate::core::time::{Epoch, MediaTime};
use crate::core::transport::feedback::{Asked, Feedback, Incoming, compounds};

pub use config::LegsConfig;

use latch::{Latch, Stream, Taken};
use sources::Sources;
use watch::{Trouble, Watch};

/// Distinct SSRCs one party may send.
const MAX_STREAMS: usize = 16;

/// What a leg tells its controller: the event's name and data.
pub type LegEvent = (&'static str, Value);

/// SRTP, one direction each; the keys are kept to tell new ones from those said again.
#[derive(Default)]
struct Protection {
    offered: Option<SdesKeys>,
    sender: Option<(SdesKeys, SrtpSender)>,
    receiver: Option<(SdesKeys, SrtpReceiver)>,
}

#[derive(Default)]
struct Counters {
    received: u64,
    sent: u64,
    /// SRTP that did not open.
    refused: u64,
    /// Of no payload type that was agreed.
    unknown: u64,
}

/// See the module.
pub struct PlainTransport {
    /// Its sockets, once open.
    pub sockets: Option<LegSockets>,
    /// The request that is answered once they are.
    pub asked_by: Option<u32>,
    /// Keys of a telephone that were pressed.
    pub tones: Vec<Tone>,
    /// The DTLS handshake, where the keys come from one: nothing flows before.
    pub session: Option<Box<dyn Session>>,
    /// Copies of its packets for somebody who listens in.
    pub mirror: Option<Box<Mirror>>,
    ip: IpAddr,
    remote: Option<PlainRemote>,
    latch: Latch,
    /// Where its RTCP comes from, where that is not where its RTP comes from.
    rtcp: Option<Path>,
    protection: Protection,
    sources: Sources,
    feedback: Feedback,
    watch: Watch,
    fir: u8,
    counters: Counters,
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Heard {
    /// The party was found, or found elsewhere: media may flow.
    pub found: bool,
    /// Consumers of this producer begin anew.
    pub changed: Option<usize>,
    /// It was a report.
    pub rtcp: bool,
}

impl PlainTransport {
    /// A leg without sockets; `ip` is the address told to the party, `ssrc` our source in feedback messages.
    pub fn new(options: &PlainOptions, config: &LegsConfig, ip: IpAddr, ssrc: u32) -> Self {
        PlainTransport {
            sockets: None,
            asked_by: None,
            tones: Vec::new(),
            session: None,
            mirror: None,
            ip,
            remote: None,
            latch: Latch::new(config, options.latch),
            rtcp: None,
            protection: Protection { offered: options.srtp_local.clone(), ..Protection::default() },
            sources: Sources::default(),
            feedback: Feedback::new(ssrc, RateLimits::default()),
            watch: Watch::new(config, options.media_timeout_ms),
            fir: 0,
            counters: Counters::default(),
        }
    }

    /// The address told to the party, where it differs from what was foreseen.
    pub fn set_ip(&mut self, ip: IpAddr) {
        self.ip = ip;
    }

    /// The remote side, as its SDP says. Answers whether new keys protect what we send.
    pub fn connect(&mut self, now: MediaTime, remote: PlainRemote) -> Result<bool, String> {
        let rekeyed = self.protect(&remote)?;
        let before = self.latch.sdp();
        self.latch.arm(now, remote.rtp);
        let anew = before != Some(remote.rtp);
        if anew {
            self.rtcp = None;
        }
        self.watch.connect(now, remote.sends, remote.receives, anew);
        self.remote = Some(remote);
        Ok(rekeyed)
    }

    /// Takes the keys of a DTLS handshake.
    pub fn set_keys(&mut self, keys: &SrtpKeys) -> Result<(), String> {
        let told = |material: &KeyingMaterial| {
            let inline = [&material.key[..], &material.salt].concat();
            SdesKeys::new(keys.profile, inline).ok_or_else(|| "SRTP keys of the wrong length".to_owned())
        };
        let (ours, theirs) = (told(&keys.local)?, told(&keys.remote)?);
        self.use_keys(ours, theirs).map(drop)
    }

    /// Whether a DTLS datagram over `path` may be the party's.
    pub fn may_shake_hands(&self, now: MediaTime, path: &Path) -> bool {
        self.session.is_some() && self.latch.may_be_it(now, path)
    }

    /// The handshake over `path` is through: the party is there.
    pub fn shook_hands(&mut self, path: Path) {
        self.latch.vouch(path);
    }

    /// Keys are still to come.
    pub fn is_bare(&self) -> bool {
        self.session.is_some() && self.protection.sender.is_none()
    }

    /// Takes the keys of both sides; a key said again goes on where it was.
    fn protect(&mut self, remote: &PlainRemote) -> Result<bool, String> {
        if self.session.is_some() {
            return Ok(false);
        }
        let ours = remote.srtp_local.as_ref().or(self.protection.offered.as_ref()).cloned();
        let (Some(theirs), Some(ours)) = (&remote.srtp, ours) else {
            if remote.srtp.is_some() {
                return Err("keys of the remote side, and none of ours".into());
            }
            (self.protection.sender, self.protection.receiver) = (None, None);
            return Ok(false);
        };
        self.use_keys(ours, theirs.clone())
    }

    fn use_keys(&mut self, ours: SdesKeys, theirs: SdesKeys) -> Result<bool, String> {
        let bad = |_| "SRTP keys of the wrong length".to_owned();
        let mut rekeyed = false;
        if self.protection.receiver.as_ref().is_none_or(|(keys, _)| *keys != theirs) {
            let material = theirs.material().ok_or("SRTP keys of the wrong length")?;
            let receiver = SrtpReceiver::new(theirs.profile, &material, MAX_STREAMS).map_err(bad)?;
            self.protection.receiver = Some((theirs, receiver));
        }
        if self.protection.sender.as_ref().is_none_or(|(keys, _)| *keys != ours) {
            let material = ours.material().ok_or("SRTP keys of the wrong length")?;
            let sender = SrtpSender::new(ours.profile, &material).map_err(bad)?;
            self.protection.sender = Some((ours, sender));
            rekeyed = true;
        }
        Ok(rekeyed)
    }

    /// Payload types of the telephone events that the party takes, and sends.
    pub fn tone_types(&self) -> &[(u8, u32)] {
        self.remote.as_ref().map_or(&[], |remote| &remote.dtmf_payload_types)
    }

    /// A producer was added: its streams become known.
    pub fn add_producer(&mut self, key: usize, router: &mut Router) {
        let types = self.tone_types().to_vec();
        let Some(producer) = router.producers.get_mut(key) else { return };
        self.sources.add(key, &producer.parameters);
        self.feedback.add_producer(key, &producer.parameters.encodings);
        if let Input::Rtp(input) = &mut producer.input {
            input.tones.add_types(&types);
        }
    }

    /// A producer is gone.
    pub fn remove_producer(&mut self, key: usize) {
        self.sources.remove(key);
        self.feedback.remove_producer(key);
    }

    /// A consumer was enabled.
    pub fn add_consumer(&mut self, key: usize, router: &mut Router) -> Result<(), String> {
        self.feedback.add_consumer(key, router)?;
        let Some(consumer) = router.consumers.get_mut(key) else { return Ok(()) };
        // What a telephone can take in a moment is little.
        consumer.fresh = true;
        if !self.tone_types().is_empty() {
            consumer.set_tone_types(self.tone_types());
        }
        Ok(())
    }

    /// A consumer is gone.
    pub fn remove_consumer(&mut self, key: usize) {
        self.feedback.remove_consumer(key);
    }

    /// Takes a datagram from one of its sockets.
    pub fn receive(
        &mut self,
        router: &mut Router,
        (now, epoch): (MediaTime, &Epoch),
        path: Path,
        data: &mut [u8],
        asked: &mut Asked,
    ) -> Heard {
        match is_rtcp(data) {
            true => self.receive_rtcp(router, (now, epoch), path, data, asked),
            false => self.receive_rtp(router, now, path, data),
        }
    }

    fn receive_rtp(&mut self, router: &mut Router, now: MediaTime, path: Path, data: &mut [u8]) -> Heard {
        let mut heard = Heard::default();
        if self.is_bare() {
            self.counters.refused += 1;
            return heard;
        }
        let mut plain = data;
        let proven = self.protection.receiver.is_some();
        if let Some((_, receiver)) = &mut self.protection.receiver {
            if self.latch.is_hopeless(now, &path) {
                return heard;
            }
            let Ok((len, _)) = receiver.open_rtp(plain) else {
                self.counters.refused += 1;
                return heard;
            };
            plain = plain.get_mut(..len).unwrap_or_default();
        }
        let Ok(mut view) = RtpView::parse(plain) else { return heard };
        let stream = Stream { ssrc: view.ssrc, sequence: view.sequence, proven };
        match self.latch.take(now, path, stream) {
            Taken::Ours => {}
            Taken::Found => heard.found = true,
            Taken::Not => return heard,
        }
        if let Some(mirror) = &mut self.mirror {
            mirror.received(plain);
        }
        self.watch.hear(now, true);
        self.counters.received += 1;
        let Some(owner) = self.sources.owner(&view, router, proven) else {
            self.counters.unknown += 1;
            return heard;
        };
        let Some(producer) = router.producers.get_mut(owner.key) else { return heard };
        if owner.new {
            self.feedback.incoming.retain(|_, incoming| incoming.producer != owner.key || incoming.rtx);
            let incoming = Incoming { producer: owner.key, stream: 0, rtx: owner.rtx };
            self.feedback.incoming.insert(view.ssrc, incoming);
        }
        if owner.changed {
            producer.change_source(0, view.ssrc, view.sequence);
            for reader in &producer.consumers {
                if let Some(consumer) = router.consumers.get_mut(*reader) {
                    consumer.restart(Some(producer), false);
                }
            }
            heard.changed = Some(owner.key);
        }
        let repairs = producer.receptions().any(|reception| reception.nack.is_some());
        // Numbers that the party is asked for again must stay its own.
        if let Some(sets) = self.sources.parameter_sets(owner.key).filter(|_| !repairs)
            && let Some(laid) = sets.pass(&mut view)
        {
            producer.receive(0, &laid, false, now);
        }
        if producer.receive(0, &view, owner.rtx, now) {
            router.note_changed(owner.key);
        } else if !owner.rtx {
            producer.receive_other(0, &view, now, &mut self.tones);
        }
        heard
    }

    fn receive_rtcp(
        &mut self,
        router: &mut Router,
        (now, epoch): (MediaTime, &Epoch),
        path: Path,
        data: &mut [u8],
        asked: &mut Asked,
    ) -> Heard {
        let heard = Heard { rtcp: true, ..Heard::default() };
        if self.is_bare() {
            self.counters.refused += 1;
            return heard;
        }
        let mut plain = data;
        if let Some((_, receiver)) = &mut self.protection.receiver {
            let Ok(len) = receiver.open_rtcp(plain) else {
                self.counters.refused += 1;
                return heard;
            };
            plain = plain.get_mut(..len).unwrap_or_default();
        } else if !self.may_report(path.remote().ip()) {
            self.latch.ignored += 1;
            return heard;
        }
        let own = |socket: &LegSockets| socket.rtcp.is_some_and(|rtcp| path.socket() == Some(rtcp.socket));
        if self.sockets.as_ref().is_some_and(own) {
            self.rtcp = Some(path);
        }
        if let Some(mirror) = &mut self.mirror {
            mirror.received(plain);
        }
        self.watch.hear(now, false);
        let names = words::names_a_stream(plain, &self.feedback);
        self.feedback.take(plain, router, now, epoch, asked);
        if let Some(names) = names {
            self.watch.report(now, names);
        }
        heard
    }

    /// RTCP in the clear is believed from the address that RTP comes from, else from those of the SDP.
    fn may_report(&self, ip: IpAddr) -> bool {
        let told = self.remote.as_ref().and_then(|remote| remote.rtcp);
        self.latch.is_at(ip) || (self.latch.found().is_none() && told.is_some_and(|rtcp| rtcp.ip() == ip))
    }

    /// Where its RTCP goes now, if anywhere.
    fn rtcp_path(&self, now: MediaTime) -> Option<Path> {
        let (sockets, remote) = (self.sockets.as_ref()?, self.remote.as_ref()?);
        let rtp = self.latch.target(now, sockets.rtp.socket, false).filter(|_| !self.is_bare())?;
        if remote.rtcp_mux {
            return Some(rtp);
        }
        if self.session.is_some() {
            // It would need a handshake of its own.
            return None;
        }
        if let Some(learnt) = self.rtcp {
            return Some(learnt);
        }
        let next = |address: SocketAddr| SocketAddr::new(address.ip(), address.port().saturating_add(1));
        let told = remote.rtcp.unwrap_or_else(|| next(remote.rtp));
        // A party that is not where its SDP says has its RTCP next to its RTP, most likely.
        let to = if rtp.remote() == remote.rtp { told } else { next(rtp.remote()) };
        let socket = sockets.rtcp.unwrap_or(sockets.rtp).socket;
        match rtp {
            Path::Udp { local, .. } => Some(Path::Udp { socket, local, remote: to }),
            Path::Tcp { .. } => None,
        }
    }

    /// Lets each consumer send what waits. `Full`: come back with an empty batch.
    pub fn flush(
        &mut self,
        consumers: &[usize],
        router: &mut Router,
        now: MediaTime,
        limits: &ReplayLimits,
        batch: &mut SendBatch,
    ) -> Progress {
        let before = batch.packets();
        let mut paced: Option<MediaTime> = None;
        for &key in consumers {
            let Some(consumer) = router.consumers.get_mut(key) else { continue };
            let source = consumer.producer.and_then(|key| router.producers.get(key));
            let Some(path) = self.rtp_path(now, consumer.kind).filter(|_| !consumer.paused) else {
                consumer.hold(source);
                continue;
            };
            let sender = self.protection.sender.as_mut().map(|(_, sender)| sender);
            let seal = Seal::new(sender, self.mirror.as_deref_mut());
            let mut sink = Sink {
                path,
                now,
                seal,
                batch: &mut *batch,
                send_time: abs_send_time(now),
                estimator: None,
                allowance: &mut None,
            };
            match consumer.take_turn(source, now, limits, &mut sink) {
                Progress::Drained => {}
                Progress::Paced(at) => paced = Some(paced.map_or(at, |other| other.min(at))),
                Progress::Full => {
                    self.note_sent(now, batch.packets() - before);
                    return Progress::Full;
                }
            }
        }
        self.note_sent(now, batch.packets() - before);
        paced.map_or(Progress::Drained, Progress::Paced)
    }

    fn note_sent(&mut self, now: MediaTime, packets: u64) {
        if packets > 0 {
            self.counters.sent += packets;
            self.watch.send(now);
        }
    }

    /// Where media of `kind` goes now, if anywhere.
    fn rtp_path(&self, now: MediaTime, kind: Kind) -> Option<Path> {
        let (sockets, remote) = (self.sockets.as_ref()?, self.remote.as_ref()?);
        let wanted = remote.receives && !self.is_bare();
        self.latch.target(now, sockets.rtp.socket, kind == Kind::Video).filter(|_| wanted)
    }

    /// When the leg itself has something to do.
    pub fn next_due(&self, producers: &[usize], router: &Router) -> Option<MediaTime> {
        let reports = self.can_report().then(|| self.feedback.next_due(producers, router))?;
        reports.into_iter().chain(self.watch.due()).min()
    }

    /// Whether RTCP can go out now.
    pub fn can_report(&self) -> bool {
        self.remote.is_some()
    }

    /// What is wrong with it, since the last call.
    pub fn troubles(&mut self, now: MediaTime, events: &mut Vec<LegEvent>) {
        while let Some(trouble) = self.watch.poll(now) {
            events.push(match trouble {
                Trouble::Timeout => ("x.mediatimeout", json!({})),
                Trouble::Deaf | Trouble::Unheard => ("x.oneway", words::one_way(self, trouble)),
            });
        }
    }

    /// Makes the RTCP that is due, as datagrams; keyframes that RTCP cannot ask for become events.
    pub fn report(
        &mut self,
        (producers, consumers): (&[usize], &[usize]),
        router: &mut Router,
        (now, epoch): (MediaTime, &Epoch),
        limit: u64,
        (out, events): (&mut impl FnMut(Path, Vec<u8>), &mut Vec<LegEvent>),
    ) {
        if !self.can_report() {
            return;
        }
        let mut requests = Vec::new();
        self.ask_keyframes(producers, router, now, &mut requests, events);
        let mut plain = self.feedback.report((producers, consumers), router, (now, epoch), limit);
        plain.append(&mut requests);
        let Some(path) = self.rtcp_path(now) else { return };
        for compound in compounds(&plain) {
            if let Some(mirror) = &mut self.mirror {
                mirror.sends_rtcp(compound);
            }
            let Some((_, sender)) = &mut self.protection.sender else {
                out(path, compound.to_vec());
                continue;
            };
            let mut sealed = vec![0; compound.len() + MAX_RTCP_OVERHEAD];
            if let Ok(len) = sender.seal_rtcp(compound, &mut sealed) {
                sealed.truncate(len);
                out(path, sealed);
            }
        }
    }

    /// Keyframes of parties that were not heard to take PLI: by FIR (RFC 5104 §4.3.1) where that was agreed,
    /// else by whatever the signalling has.
    fn ask_keyframes(
        &mut self,
        producers: &[usize],
        router: &mut Router,
        now: MediaTime,
        out: &mut Vec<u8>,
        events: &mut Vec<LegEvent>,
    ) {
        for key in producers {
            let Some(producer) = router.producers.get_mut(*key) else { continue };
            let has = |kind, parameter| {
                producer.formats.iter().any(|format| format.codec.has_feedback(kind, parameter))
            };
            let (pli, fir) = (has("nack", "pli"), has("ccm", "fir"));
            if pli || producer.kind != Kind::Video {
                continue;
            }
            for stream in &mut producer.streams {
                if !stream.keyframes.take(now) {
                    continue;
                }
                match &stream.reception {
                    Some(reception) if fir => {
                        self.fir = self.fir.wrapping_add(1);
                        let ssrc = self.feedback.own_ssrc();
                        write::full_intra_request(out, ssrc, reception.ssrc.unwrap_or(0), self.fir);
                    }
                    _ => events.push(("x.keyframerequest", json!({}))),
                }
            }
        }
    }

    /// BYE for what we sent (RFC 3550 §6.6), as a datagram.
    pub fn goodbye(&mut self, now: MediaTime, router: &Router) -> Option<(Path, Vec<u8>)> {
        let path = self.rtcp_path(now).filter(|_| self.watch.is_sending())?;
        let ssrcs: Vec<u32> = self.feedback.outgoing.keys().copied().collect();
        let first = *ssrcs.first()?;
        let mut plain = Vec::new();
        write::receiver_report(&mut plain, first, &[]);
        let name = self
            .feedback
            .outgoing
            .values()
            .find_map(|key| router.consumers.get(*key)?.parameters.rtcp.cname.as_deref());
        write::cname(&mut plain, first, name.unwrap_or("viaduct"));
        write::goodbye(&mut plain, &ssrcs);
        let Some((_, sender)) = &mut self.protection.sender else { return Some((path, plain)) };
        let mut sealed = vec![0; plain.len() + MAX_RTCP_OVERHEAD];
        let len = sender.seal_rtcp(&plain, &mut sealed).ok()?;
        sealed.truncate(len);
        Some((path, sealed))
    }

    /// `transport.dump`.
    pub fn dump(&self, producer_id: impl Fn(usize) -> Option<ProducerId>) -> Value {
        let port = |socket: &LegSockets| socket.rtp.address.port();
        let mut dump = json!({
            "localIP": self.ip,
            "localPort": self.sockets.as_ref().map_or(0, port),
            "rtpListener": {
                "ssrcTable": self.sources.table(producer_id),
                "muxIdTable": {},
                "ridTable": {},
            },
            "x.kind": "plain",
            "x.latched": self.latch.found().is_some(),
            "x.srtp": self.protection.sender.is_some(),
        });
        if let Some(Value::Object(dtls)) = self.session.as_ref().map(|session| session.dump())
            && let Value::Object(fields) = &mut dump
        {
            fields.extend(dtls);
        }
        if let Some(rtcp) = self.sockets.as_ref().and_then(|sockets| sockets.rtcp) {
            dump["x.rtcpPort"] = json!(rtcp.address.port());
        }
        let remote = self.latch.remote();
        if let Some(remote) = remote {
            dump["tuple"] = json!({
                "localIP": self.ip,
                "localPort": self.sockets.as_ref().map_or(0, port),
                "remoteIP": remote.ip(),
                "remotePort": remote.port(),
                "protocol": "udp",
            });
        }
        dump
    }

    /// `transport.getStats`: an empty object in v2; ours are additions.
    pub fn stats(&self) -> Value {
        json!({
            "x.packetsReceived": self.counters.received,
            "x.packetsSent": self.counters.sent,
            "x.packetsRefused": self.counters.refused,
            "x.packetsUnknown": self.counters.unknown,
            "x.packetsIgnored": self.latch.ignored,
            "x.roundTripTime": self.feedback.round_trip.map(|rtt| rtt.as_secs_f64() * 1000.0),
        })
    }
}
