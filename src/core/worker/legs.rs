//! Plain RTP legs: sockets asked for and opened, the remote side, keys of a telephone, and what a leg tells.

use std::net::IpAddr;
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tracing::debug;

use crate::core::capabilities::RtpCodec;
use crate::core::message::{Request, Response};
use crate::core::plain::{PlainOptions, PlainRemote};
use crate::core::producer::Input as ProducerInput;
use crate::core::rtp::path::{FIRST_LEG_SOCKET, LegSockets, Path};
use crate::core::rtp::tone::Tone;
use crate::core::session::{Command, Ending, Input};
use crate::core::time::MediaTime;
use crate::core::transport::plain::{LegEvent, PlainTransport};
use crate::core::transport::{Asked, Transport, TransportKind};
use crate::core::worker::control::field;
use crate::core::worker::{Action, Place, Worker};

/// What the v2 worker channel has beside our options.
#[derive(Default, Deserialize)]
#[serde(default)]
struct V2Options {
    #[serde(rename = "remoteIP")]
    remote_ip: Option<IpAddr>,
    #[serde(rename = "remotePort")]
    remote_port: Option<u16>,
}

impl Worker {
    /// Makes a plain transport and asks for its sockets; the answer follows when they are open.
    pub(super) fn create_plain(&mut self, now: Instant, request: &Request) -> Result<(), String> {
        let (key, id) = self.new_transport(request)?;
        let fault = |fault: serde_json::Error| format!("data: {fault}");
        let options = PlainOptions::deserialize(&request.data).map_err(fault)?;
        let v2 = V2Options::deserialize(&request.data).map_err(fault)?;
        let ipv6 = options.local_ip.map_or(options.ipv6, |ip| ip.is_ipv6());
        let ip = options.local_ip.unwrap_or_else(|| self.announced(ipv6));
        let ssrc = self.random() as u32 | 1;
        let mut plain = PlainTransport::new(&options, &self.config.legs, ip, ssrc);
        plain.asked_by = Some(request.id);
        if options.dtls {
            plain.session = Some(self.factory.dtls(&request.data)?);
        }
        if let (Some(ip), Some(port)) = (v2.remote_ip, v2.remote_port) {
            let remote = PlainRemote { rtcp_mux: true, ..PlainRemote::at((ip, port).into()) };
            plain.connect(self.epoch.media_time(now), remote)?;
        }
        let place = self.insert_transport(key, id, &request.data, TransportKind::Plain(Box::new(plain)));
        // One handshake protects one port.
        let pair = !options.rtcp_mux && !options.dtls;
        self.actions.push_back(Action::OpenLeg { leg: id, ip: options.local_ip, ipv6, pair });
        self.reschedule(place);
        Ok(())
    }

    /// The address told to parties of a family: the first candidate, as for WebRTC.
    fn announced(&self, ipv6: bool) -> IpAddr {
        let udp = self.config.candidates.iter().filter(|candidate| !candidate.tcp);
        let mut addresses = udp.map(|candidate| candidate.address.ip());
        let any = addresses.clone().next();
        let found = addresses.find(|ip| ip.is_ipv6() == ipv6).or(any);
        found.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST))
    }

    /// The sockets a leg asked for by [`Action::OpenLeg`] are open, or cannot be.
    pub fn handle_leg_opened(&mut self, _now: Instant, leg: u32, opened: Result<LegSockets, String>) {
        let place = self.transports.get(&leg).copied();
        let announced = opened.as_ref().ok().map(|sockets| self.announced(sockets.rtp.address.is_ipv6()));
        let plain = place.and_then(|place| self.plain_mut(place));
        let Some((plain, place)) = plain.zip(place) else {
            self.forget_sockets(opened.ok());
            return;
        };
        let id = plain.asked_by.take().unwrap_or_default();
        match opened {
            Ok(sockets) => {
                plain.sockets = Some(sockets);
                let bound = sockets.rtp.address.ip();
                // Bound to one address: that is the one, unless another is announced for it.
                plain.set_ip(announced.filter(|_| bound.is_unspecified()).unwrap_or(bound));
                for socket in [Some(sockets.rtp), sockets.rtcp].into_iter().flatten() {
                    let at = socket.socket.saturating_sub(FIRST_LEG_SOCKET) as usize;
                    if self.legs.len() <= at {
                        self.legs.resize(at + 1, None);
                    }
                    if let Some(slot) = self.legs.get_mut(at) {
                        *slot = Some(place);
                    }
                }
                let dump = self.dump_of(place).unwrap_or_default();
                self.answers.push_back(Response::accepted(id, dump).to_json());
                self.start_sending(place);
            }
            Err(reason) => {
                self.answers.push_back(Response::rejected(id, reason.clone()).to_json());
                self.end_transport(place, &reason, Ending::Error);
            }
        }
    }

    fn dump_of(&self, place: Place) -> Option<Value> {
        let space = self.spaces.get(place.0)?;
        Some(space.transports.get(place.1)?.dump(&space.router))
    }

    fn plain_mut(&mut self, place: Place) -> Option<&mut PlainTransport> {
        match &mut self.spaces.get_mut(place.0)?.transports.get_mut(place.1)?.kind {
            TransportKind::Plain(plain) => Some(plain),
            _ => None,
        }
    }

    /// `transport.setRemoteParameters`.
    pub(super) fn connect_plain(&mut self, now: Instant, request: &Request) -> Result<Value, String> {
        let place = self.transport(request)?;
        let remote = PlainRemote::deserialize(&request.data).map_err(|fault| format!("data: {fault}"))?;
        let media = self.epoch.media_time(now);
        let space = self.spaces.get_mut(place.0).ok_or("Router does not exist")?;
        let transport = space.transports.get_mut(place.1).ok_or("Transport does not exist")?;
        let Transport { kind, producers, consumers, .. } = transport;
        let TransportKind::Plain(plain) = kind else { return Err("the transport is not a plain one".into()) };
        let types = remote.dtmf_payload_types.clone();
        let path = plain.sockets.as_ref().map(|sockets| Path::toward(sockets.rtp.socket, remote.rtp));
        let rekeyed = plain.connect(media, remote)?;
        let shakes = plain.session.is_some();
        for key in &*producers {
            if let Some(ProducerInput::Rtp(input)) =
                space.router.producers.get_mut(*key).map(|found| &mut found.input)
            {
                input.tones.add_types(&types);
            }
        }
        for consumer in &*consumers {
            let Some(consumer) = space.router.consumers.get_mut(*consumer) else { continue };
            if !types.is_empty() {
                consumer.set_tone_types(&types);
            }
            if rekeyed {
                consumer.rekeyed();
            }
        }
        self.start_sending(place);
        if let Some(path) = path.filter(|_| shakes) {
            self.session_command(now, place, Command::SetRemotePath { path })?;
        }
        Ok(json!({}))
    }

    /// `x.consumer.sendDtmf`.
    pub(super) fn send_dtmf(&mut self, now: Instant, request: &Request) -> Result<Value, String> {
        let digits: String = field(&request.data, "digits")?;
        let millis: u32 = match request.data.get("duration") {
            Some(_) => field(&request.data, "duration")?,
            None => 160,
        };
        let place = self.consumer(request)?;
        let media = self.epoch.media_time(now);
        let space = self.spaces.get_mut(place.0).ok_or("Router does not exist")?;
        let consumer = space.router.consumers.get_mut(place.1).ok_or("Consumer does not exist")?;
        consumer.play(media, &digits, millis)?;
        if let Some(transport) = consumer.transport {
            self.queue((place.0, transport));
            self.reschedule((place.0, transport));
        }
        Ok(json!({}))
    }

    /// Takes one datagram on a leg's socket.
    pub fn handle_leg(&mut self, now: Instant, path: Path, data: &mut [u8]) {
        let slot = path.socket().and_then(|socket| socket.checked_sub(FIRST_LEG_SOCKET));
        let Some(&Some(place)) = slot.and_then(|slot| self.legs.get(slot as usize)) else { return };
        match data.first() {
            Some(128..=191) => {}
            Some(20..=63) => return self.leg_handshake(now, place, path, data),
            _ => return,
        }
        let media = self.epoch.media_time(now);
        let Some(space) = self.spaces.get_mut(place.0) else { return };
        let Some(transport) = space.transports.get_mut(place.1) else { return };
        let TransportKind::Plain(plain) = &mut transport.kind else { return };
        let mut asked = Asked::default();
        let heard = plain.receive(&mut space.router, (media, &self.epoch), path, data, &mut asked);
        let (id, conn) = (transport.id.0, transport.conn);
        if !plain.tones.is_empty() {
            let tones = std::mem::take(&mut plain.tones);
            self.notify_tones(id, &tones);
        }
        if heard.found {
            debug!(%conn, "the party's media was found");
            self.notify(id, "x.mediastarted", json!({"remote": path.remote()}));
            self.restart_consumers(place, media);
        }
        if let Some(producer) = heard.changed {
            debug!(%conn, "the party sends another stream");
            self.start_readers(place.0, producer, media);
        }
        if asked.resend {
            self.queue(place);
        }
        for consumer in asked.keyframes {
            self.lost_picture(place.0, (consumer, None), media);
        }
        if heard.rtcp {
            self.leg_timeout(place, media);
        }
        self.reschedule(place);
    }

    fn leg_handshake(&mut self, now: Instant, place: Place, path: Path, data: &[u8]) {
        let media = self.epoch.media_time(now);
        let Some(plain) = self.plain_mut(place).filter(|plain| plain.may_shake_hands(media, &path)) else {
            return;
        };
        let bare = plain.is_bare();
        self.session_input(now, place, Input::Datagram { path, data });
        if let Some(plain) = self.plain_mut(place).filter(|plain| bare && !plain.is_bare()) {
            plain.shook_hands(path);
            self.restart_consumers(place, media);
        }
    }

    /// What a leg receives can flow now, or to somewhere else.
    fn restart_consumers(&mut self, place: Place, now: MediaTime) {
        let transport = self.spaces.get(place.0).and_then(|space| space.transports.get(place.1));
        let consumers = transport.map(|transport| transport.consumers.clone()).unwrap_or_default();
        consumers.into_iter().for_each(|consumer| self.start_consumer((place.0, consumer), now));
    }

    /// What reads `producer` has begun anew, because another source stands behind it.
    fn start_readers(&mut self, space: usize, producer: usize, now: MediaTime) {
        let Some(entry) = self.spaces.get(space) else { return };
        let Some(source) = entry.router.producers.get(producer) else { return };
        let readers = source.consumers.clone();
        readers.into_iter().for_each(|reader| self.start_consumer((space, reader), now));
    }

    /// Tells what is wrong with a leg, if anything is.
    pub(super) fn leg_timeout(&mut self, place: Place, now: MediaTime) {
        let transport = self.spaces.get_mut(place.0).and_then(|space| space.transports.get_mut(place.1));
        let Some(transport) = transport else { return };
        let (id, conn) = (transport.id.0, transport.conn);
        let TransportKind::Plain(plain) = &mut transport.kind else { return };
        let mut events = Vec::new();
        plain.troubles(now, &mut events);
        for (event, _) in &events {
            debug!(%conn, event, "a leg's media is in trouble");
        }
        self.notify_leg(id, events);
    }

    /// Keys whose end was lost are told once their time is over; keys being played go on.
    pub(super) fn tones_timeout(&mut self, place: Place, now: MediaTime) {
        let Some(space) = self.spaces.get_mut(place.0) else { return };
        let Some(transport) = space.transports.get(place.1) else { return };
        let mut tones = Vec::new();
        for key in &transport.producers {
            if let Some(ProducerInput::Rtp(input)) =
                space.router.producers.get_mut(*key).map(|found| &mut found.input)
            {
                tones.extend(input.tones.handle_timeout(now));
            }
        }
        let due = |key: &usize| space.router.consumers.get(*key)?.tone_due();
        let play = transport.consumers.iter().filter_map(due).any(|at| at <= now);
        let id = transport.id.0;
        self.notify_tones(id, &tones);
        if play {
            self.queue(place);
        }
    }

    /// Sends the RTCP of a leg that is due.
    pub(super) fn report_leg(&mut self, place: Place, now: MediaTime, limit: u64) {
        let Some(space) = self.spaces.get_mut(place.0) else { return };
        let Some(transport) = space.transports.get_mut(place.1) else { return };
        let TransportKind::Plain(plain) = &mut transport.kind else { return };
        let mut events = Vec::new();
        let tracks = (&transport.producers[..], &transport.consumers[..]);
        let datagrams = &mut self.datagrams;
        let mut out = |path, data| datagrams.push_back((path, data));
        plain.report(tracks, &mut space.router, (now, &self.epoch), limit, (&mut out, &mut events));
        let id = transport.id.0;
        self.notify_leg(id, events);
    }

    fn notify_leg(&mut self, transport: u32, events: Vec<LegEvent>) {
        events.into_iter().for_each(|(event, data)| self.notify(transport, event, data));
    }

    pub(super) fn notify_tones(&mut self, transport: u32, tones: &[Tone]) {
        for tone in tones {
            let data = json!({"digit": tone.key, "duration": tone.duration_ms});
            self.notify(transport, "x.dtmf", data);
        }
    }

    /// Says good-bye on a leg that ends.
    pub(super) fn leg_goodbye(&mut self, now: Instant, place: Place) {
        let media = self.epoch.media_time(now);
        let Some(space) = self.spaces.get_mut(place.0) else { return };
        let Some(transport) = space.transports.get_mut(place.1) else { return };
        if let TransportKind::Plain(plain) = &mut transport.kind {
            self.datagrams.extend(plain.goodbye(media, &space.router));
        }
    }

    /// A leg is gone: its sockets close after the flush, and a request that still waits is answered.
    pub(super) fn end_leg(&mut self, asked_by: Option<u32>, sockets: Option<LegSockets>) {
        if let Some(id) = asked_by {
            self.answers.push_back(Response::rejected(id, "the transport was closed").to_json());
        }
        self.forget_sockets(sockets);
    }

    fn forget_sockets(&mut self, sockets: Option<LegSockets>) {
        let Some(LegSockets { rtp, rtcp }) = sockets else { return };
        for socket in [Some(rtp), rtcp].into_iter().flatten() {
            let at = socket.socket.saturating_sub(FIRST_LEG_SOCKET) as usize;
            if let Some(slot) = self.legs.get_mut(at) {
                *slot = None;
            }
            self.actions.push_back(Action::CloseSocket { socket: socket.socket });
        }
    }
}

/// Payload type 13 is comfort noise for whoever speaks at 8 kHz, said or not (RFC 3551 §6).
pub(super) fn add_comfort_noise(codecs: &mut Vec<RtpCodec>, main: &RtpCodec) {
    const TYPE: u8 = 13;
    let audio = main.mime_type.to_ascii_lowercase().starts_with("audio/") && main.clock_rate == 8000;
    if audio && codecs.iter().all(|codec| codec.payload_type != TYPE) {
        codecs.push(RtpCodec {
            mime_type: "audio/CN".into(),
            payload_type: TYPE,
            clock_rate: 8000,
            channels: None,
            parameters: Map::new(),
            rtcp_feedback: Vec::new(),
        });
    }
}

#[cfg(test)]
mod tests;
