//! What comes in from sockets and lanes.

use std::time::Instant;

use crate::core::capabilities::Kind;
use crate::core::consumer::Output;
use crate::core::convert::DirectIn;
use crate::core::id::StreamId;
use crate::core::lane::Closed;
use crate::core::mail::PipeMessage;
use crate::core::producer::Input as ProducerInput;
use crate::core::rtp::header::is_rtcp;
use crate::core::rtp::path::Path;
use crate::core::session::{Ending, Frame, Input};
use crate::core::time::MediaTime;
use crate::core::transport::webrtc::Received;
use crate::core::transport::{Asked, TransportKind};
use crate::core::worker::{Place, Verdict, Worker};

/// How often a session hears that its party is alive; RFC 7675 consent lasts 30 s.
const PROOF_INTERVAL_MICROS: i64 = 1_000_000;

impl Worker {
    /// Takes one datagram or ICE-TCP frame (RFC 7983: the first byte tells what it is).
    pub fn handle_datagram(&mut self, now: Instant, path: Path, data: &mut [u8]) -> Verdict {
        let Some(&first) = data.first() else { return Verdict::Unknown };
        match first {
            0..=3 => self.handle_stun(now, path, data),
            20..=63 => match self.paths.get(&path) {
                Some(&place) => self.session_input(now, place, Input::Datagram { path, data }),
                None => Verdict::Unknown,
            },
            128..=191 => self.handle_media(now, path, data),
            _ => Verdict::Unknown,
        }
    }

    fn handle_stun(&mut self, now: Instant, path: Path, data: &[u8]) -> Verdict {
        let routed = self.factory.route_key(data).and_then(|key| self.routes.get(key)).copied();
        let Some(place) = routed.or_else(|| self.paths.get(&path).copied()) else { return Verdict::Unknown };
        self.session_input(now, place, Input::Datagram { path, data })
    }

    fn handle_media(&mut self, now: Instant, path: Path, data: &mut [u8]) -> Verdict {
        let Some(&place) = self.paths.get(&path) else { return Verdict::Unknown };
        let media = self.epoch.media_time(now);
        let Some(space) = self.spaces.get_mut(place.0) else { return Verdict::Unknown };
        let Some(transport) = space.transports.get_mut(place.1) else { return Verdict::Unknown };
        let TransportKind::WebRtc(webrtc) = &mut transport.kind else { return Verdict::Unknown };
        let mut asked = Asked::default();
        let rtcp = is_rtcp(data);
        let received = match rtcp {
            true => webrtc.receive_rtcp(&mut space.router, media, &self.epoch, data, &mut asked),
            false => webrtc.receive_rtp(&mut space.router, media, data),
        };
        match received {
            Received::Media => {}
            Received::Tones => {
                let tones = std::mem::take(&mut webrtc.tones);
                let id = transport.id.0;
                self.notify_tones(id, &tones);
                return Verdict::Claimed;
            }
            Received::Refused => return Verdict::Claimed,
        }
        let news = match webrtc.proven {
            Some((at, proven)) => proven != path || media.micros_since(at) > PROOF_INTERVAL_MICROS,
            None => true,
        };
        webrtc.proven = Some((if news { media } else { webrtc.proven.map_or(media, |(at, _)| at) }, path));
        if asked.resend {
            self.queue(place);
        }
        if asked.narrower {
            self.choose_layers(place, media);
        }
        for consumer in asked.keyframes {
            self.lost_picture(place.0, (consumer, None), media);
        }
        if news {
            self.session_input(now, place, Input::Authenticated { path });
        }
        self.reschedule(place);
        Verdict::Claimed
    }

    /// A receiver's decoder lost its picture: of the stream its consumer reads, or of another where that carries
    /// several.
    pub(super) fn lost_picture(
        &mut self,
        space: usize,
        (consumer, stream): (usize, Option<usize>),
        now: MediaTime,
    ) {
        let limits = self.config.replay();
        let Some(entry) = self.spaces.get_mut(space) else { return };
        let router = &mut entry.router;
        let Some(target) = router.consumers.get(consumer) else { return };
        let Some(key) = target.producer else { return };
        let at = stream.unwrap_or_else(|| target.stream());
        let Some(source) = router.producers.get_mut(key).filter(|source| source.kind == Kind::Video) else {
            return;
        };
        let Some(stream) = source.streams.get_mut(at) else { return };
        let deaf = match &source.input {
            ProducerInput::Rtp(_) => stream.keyframes.is_deaf(),
            ProducerInput::Frames(_) => {
                let transport = entry.transports.get(source.transport);
                !matches!(transport.map(|transport| &transport.kind), Some(TransportKind::Direct { .. }))
            }
            ProducerInput::Pipe { .. } => false,
        };
        stream.keyframes.want();
        let transport = source.transport;
        if deaf && let Some(target) = router.consumers.get_mut(consumer) {
            let replays = target.replay(source, at, now, &limits);
            if let (true, Some(own)) = (replays, target.transport) {
                self.queue((space, own));
            }
        }
        self.ask_keyframes((space, transport), now);
        self.reschedule((space, transport));
    }

    /// Takes bytes of a stream socket.
    pub fn handle_stream(&mut self, now: Instant, stream: StreamId, data: &[u8]) {
        if let Some(&place) = self.streams.get(&stream) {
            self.session_input(now, place, Input::Bytes(data));
        }
    }

    /// A stream socket or ICE-TCP connection is gone.
    pub fn handle_stream_closed(&mut self, now: Instant, stream: StreamId) {
        if let Some(place) = self.streams.remove(&stream) {
            self.session_input(now, place, Input::Eof);
            return;
        }
        let is_it = |path: &&Path| matches!(path, Path::Tcp { stream: found, .. } if *found == stream);
        let Some(path) = self.paths.keys().find(is_it).copied() else { return };
        if let Some(place) = self.paths.remove(&path) {
            self.session_input(now, place, Input::PathClosed { path });
        }
    }

    /// Drains every lane.
    pub fn handle_lanes(&mut self, now: Instant) {
        let media = self.epoch.media_time(now);
        for at in (0..self.lanes.len()).rev() {
            let Some(&place) = self.lanes.get(at) else { continue };
            while let Some(message) = self.next_from_lane(place) {
                match message {
                    FromLane::Job(message) => self.take_from_job(media, place, message),
                    FromLane::Pipe(message) => self.take_from_pipe(now, place, message),
                    FromLane::Closed => {
                        self.end_transport(place, "the other end of its lane is gone", Ending::Left);
                        break;
                    }
                }
            }
        }
    }

    fn next_from_lane(&mut self, place: Place) -> Option<FromLane> {
        let transport = self.spaces.get(place.0)?.transports.get(place.1)?;
        let popped = match &transport.kind {
            TransportKind::Direct { input, .. } => input.pop().map(|value| value.map(FromLane::Job)),
            TransportKind::Pipe { input, .. } => input.pop().map(|value| value.map(FromLane::Pipe)),
            _ => return None,
        };
        match popped {
            Ok(message) => message,
            Err(Closed) => Some(FromLane::Closed),
        }
    }

    fn take_from_job(&mut self, media: MediaTime, place: Place, message: DirectIn) {
        match message {
            DirectIn::Frame(frame) => self.take_frame(media, place, &frame, frame.pts),
            DirectIn::Aged { frame, time } => self.take_frame(media, place, &frame, time),
            DirectIn::NeedKeyframe => {
                let transport = self.spaces.get(place.0).and_then(|space| space.transports.get(place.1));
                let consumers = transport.map(|transport| transport.consumers.clone()).unwrap_or_default();
                for consumer in consumers {
                    self.lost_picture(place.0, (consumer, None), media);
                }
            }
            DirectIn::Event { name, data } => {
                let transport = self.spaces.get(place.0).and_then(|space| space.transports.get(place.1));
                if let Some(id) = transport.map(|transport| transport.id.0) {
                    self.notify(id, name, data);
                }
            }
            DirectIn::Failed(reason) => self.end_transport(place, &reason, Ending::Error),
        }
    }

    fn take_frame(&mut self, now: MediaTime, place: Place, frame: &Frame, captured: MediaTime) {
        let Some(space) = self.spaces.get_mut(place.0) else { return };
        let Some(transport) = space.transports.get(place.1) else { return };
        let fits = |key: &&usize| {
            let input = space.router.producers.get(**key).map(|producer| &producer.input);
            matches!(input, Some(ProducerInput::Frames(input)) if input.track == frame.track)
        };
        let Some(&key) = transport.producers.iter().find(fits) else { return };
        if let Some(producer) = space.router.producers.get_mut(key) {
            producer.receive_frame(frame, captured, now);
            space.router.note_changed(key);
        }
    }

    fn take_from_pipe(&mut self, now: Instant, place: Place, message: PipeMessage) {
        let Some(space) = self.spaces.get_mut(place.0) else { return };
        let Some(transport) = space.transports.get(place.1) else { return };
        match message {
            PipeMessage::Packet(packet) => {
                let fits = |key: &&usize| {
                    let input = space.router.producers.get(**key).map(|producer| &producer.input);
                    matches!(input, Some(ProducerInput::Pipe { track }) if *track == packet.track)
                };
                let Some(&key) = transport.producers.iter().find(fits) else { return };
                if let Some(producer) = space.router.producers.get_mut(key) {
                    let elements = packet.extensions.iter().map(|(kind, data)| (*kind, &data[..]));
                    let stream = usize::from(packet.stream);
                    producer.receive_piped(stream, packet.meta, elements, &packet.payload);
                    space.router.note_changed(key);
                }
            }
            PipeMessage::KeyframeRequest { track, stream } => {
                if let Some(&(space, consumer)) = self.consumers.get(&track) {
                    self.lost_picture(
                        space,
                        (consumer, Some(usize::from(stream))),
                        self.epoch.media_time(now),
                    );
                }
            }
            PipeMessage::Wanted { track, streams } => {
                let Some(&(space, consumer)) = self.consumers.get(&track) else { return };
                let Some(router) = self.spaces.get_mut(space).map(|space| &mut space.router) else { return };
                let Some(entry) = router.consumers.get_mut(consumer) else { return };
                let source = entry.producer.and_then(|key| router.producers.get(key));
                if let (Output::Pipe(output), Some(source)) = (&mut entry.output, source) {
                    output.set_wanted(source, streams);
                }
                self.queue(place);
            }
            PipeMessage::Data { track, message } => self.arrive(now, place, track, message),
        }
    }
}

enum FromLane {
    Job(DirectIn),
    Pipe(PipeMessage),
    Closed,
}
