//! What goes out: the flush, and all that happens because time has passed.

use std::time::{Duration, Instant};

use serde_json::json;
use tracing::debug;

use crate::core::consumer::{Output, Progress};
use crate::core::convert::DirectOut;
use crate::core::mail::PipeMessage;
use crate::core::message::CloseEvent;
use crate::core::producer::Input as ProducerInput;
use crate::core::rtp::batch::{MAX_DATAGRAM, SendBatch};
use crate::core::rtp::path::Path;
use crate::core::session::{Command, Ending};
use crate::core::time::MediaTime;
use crate::core::transport::TransportKind;
use crate::core::worker::{Action, Place, Worker};

/// How often stores let go of what nobody needs any more.
const TRIM_INTERVAL: Duration = Duration::from_millis(100);

impl Worker {
    /// Seals what waits into `batch`; `true`: the batch filled up, send it, clear it and call again.
    pub fn flush(&mut self, now: Instant, batch: &mut SendBatch) -> bool {
        self.end_orphans(now);
        if self.flush_datagrams(batch) || self.flush_transports(now, batch) {
            return true;
        }
        // Copies of what has just been sealed; and whoever cannot go on without a keyframe has asked for it.
        let copied = !self.mirrors.is_empty() && self.take_mirrored();
        (copied || !self.datagrams.is_empty()) && self.flush_datagrams(batch)
    }

    fn flush_datagrams(&mut self, batch: &mut SendBatch) -> bool {
        while let Some((path, data)) = self.datagrams.pop_front() {
            if data.len() <= MAX_DATAGRAM && !batch.push(path, &data) {
                self.datagrams.push_front((path, data));
                return true;
            }
        }
        false
    }

    fn flush_transports(&mut self, now: Instant, batch: &mut SendBatch) -> bool {
        self.take_turns();
        let media = self.epoch.media_time(now);
        while let Some(&place) = self.flush.front() {
            let progress = self.flush_transport(place, media, batch);
            if progress == Progress::Full {
                return true;
            }
            self.flush.pop_front();
            self.end_turn(place, progress, media);
        }
        false
    }

    /// Queues the transports whose consumers have something new to read.
    fn take_turns(&mut self) {
        for (key, space) in &mut self.spaces {
            if !space.router.has_turns() {
                continue;
            }
            let (transports, flush) = (&mut space.transports, &mut self.flush);
            space.router.take_turns(|at| {
                if let Some(transport) = transports.get_mut(at)
                    && !transport.queued
                {
                    transport.queued = true;
                    flush.push_back((key, at));
                }
            });
        }
    }

    fn flush_transport(&mut self, place: Place, now: MediaTime, batch: &mut SendBatch) -> Progress {
        let limits = self.config.replay();
        let Some(space) = self.spaces.get_mut(place.0) else { return Progress::Drained };
        let Some(transport) = space.transports.get_mut(place.1) else { return Progress::Drained };
        let router = &mut space.router;
        if let TransportKind::WebRtc(webrtc) = &mut transport.kind {
            return webrtc.flush(&transport.consumers, router, now, &limits, batch);
        }
        if let TransportKind::Plain(plain) = &mut transport.kind {
            return plain.flush(&transport.consumers, router, now, &limits, batch);
        }
        let mut paced: Option<MediaTime> = None;
        for &key in &transport.consumers {
            let Some(consumer) = router.consumers.get_mut(key) else { continue };
            let Some(source) = consumer.producer.and_then(|key| router.producers.get(key)) else { continue };
            if let Progress::Paced(at) = consumer.advance(source, now, &limits, None) {
                paced = Some(paced.map_or(at, |other| other.min(at)));
            }
        }
        self.pass_frames(place, now);
        if let Progress::Paced(at) = self.flush_data(place, now) {
            paced = Some(paced.map_or(at, |other| other.min(at)));
        }
        paced.map_or(Progress::Drained, Progress::Paced)
    }

    /// A transport has sent what it may: note when to come back, and who needs a keyframe to go on.
    fn end_turn(&mut self, place: Place, progress: Progress, now: MediaTime) {
        let Some(space) = self.spaces.get_mut(place.0) else { return };
        let Some(transport) = space.transports.get_mut(place.1) else { return };
        transport.queued = false;
        let pace = match progress {
            Progress::Paced(at) => Some(at),
            _ => None,
        };
        let changed = std::mem::replace(&mut transport.pace, pace) != pace;
        let router = &mut space.router;
        let mut asked = Vec::new();
        for consumer in &transport.consumers {
            let source = router.want_keyframe(*consumer).and_then(|source| router.producers.get(source));
            asked.extend(source.map(|source| source.transport));
        }
        for transport in asked {
            self.ask_keyframes((place.0, transport), now);
            self.reschedule((place.0, transport));
        }
        self.tell_layers(place);
        if changed || pace.is_some() {
            self.reschedule(place);
        }
    }

    /// When [`Worker::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let trim = (!self.producers.is_empty()).then(|| self.epoch.instant(self.trim + TRIM_INTERVAL));
        timer.into_iter().chain(trim).chain(self.next_audio_levels()).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let media = self.epoch.media_time(now);
        let mut due = Vec::new();
        while let Some(&(at, place)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            if let Some(transport) =
                self.spaces.get_mut(place.0).and_then(|space| space.transports.get_mut(place.1))
            {
                transport.deadline = None;
                due.push(place);
            }
        }
        for place in due {
            self.session_timeout(now, place);
            self.transport_timeout(place, media);
            self.reschedule(place);
        }
        self.tell_audio_levels(media);
        if media.micros_since(self.trim) >= TRIM_INTERVAL.as_micros() as i64 {
            self.trim = media;
            self.tick_layers(media);
            for (_, space) in &mut self.spaces {
                space.router.producers.iter_mut().for_each(|(_, producer)| {
                    producer.streams.iter_mut().for_each(|stream| stream.store.trim(media));
                });
            }
        }
    }

    fn transport_timeout(&mut self, place: Place, now: MediaTime) {
        let transport = self.spaces.get(place.0).and_then(|space| space.transports.get(place.1));
        if transport.is_some_and(|transport| transport.pace.is_some_and(|at| at <= now)) {
            self.queue(place);
        }
        self.leg_timeout(place, now);
        self.tones_timeout(place, now);
        self.report(place, now);
        self.ask_keyframes(place, now);
    }

    /// Sends the RTCP that is due.
    fn report(&mut self, place: Place, now: MediaTime) {
        let Some(space) = self.spaces.get(place.0) else { return };
        let Some(transport) = space.transports.get(place.1) else { return };
        let webrtc = match &transport.kind {
            TransportKind::WebRtc(webrtc) => webrtc,
            TransportKind::Plain(_) => {
                self.report_leg(place, now, self.publish_limit(place, now));
                return self.give_up_waiting(place);
            }
            _ => return,
        };
        let due = webrtc.next_due(&transport.producers, &space.router).is_some_and(|at| at <= now);
        let wanted = transport.producers.iter().any(|key| {
            space.router.producers.get(*key).is_some_and(|producer| producer.keyframes_due().is_some())
        });
        if due || wanted {
            self.send_reports(place, now);
            self.give_up_waiting(place);
        }
    }

    fn send_reports(&mut self, place: Place, now: MediaTime) {
        // Asks every receiver of the publisher: only when something is really said.
        let limit = self.publish_limit(place, now);
        let Some(space) = self.spaces.get_mut(place.0) else { return };
        let Some(transport) = space.transports.get_mut(place.1) else { return };
        let TransportKind::WebRtc(webrtc) = &mut transport.kind else { return };
        let tracks = (&transport.producers[..], &transport.consumers[..]);
        let datagrams = &mut self.datagrams;
        webrtc.report(tracks, &mut space.router, (now, &self.epoch), limit, &mut |path, data| {
            datagrams.push_back((path, data));
        });
    }

    /// What a publisher is told it may send: no more than its controller allows, nor than the best of its
    /// receivers can take, where the path of each has shown its bound; of a track of several sizes, of which they get
    /// one that fits, no more than its streams take that somebody wants.
    fn publish_limit(&self, place: Place, now: MediaTime) -> u64 {
        let best = || {
            let space = self.spaces.get(place.0)?;
            let transport = space.transports.get(place.1)?;
            let mut best = None;
            for producer in transport.producers.iter().filter_map(|key| space.router.producers.get(*key)) {
                if producer.has_sizes() && !producer.consumers.is_empty() {
                    best = best.max(Some(producer.wanted_bitrate()?));
                    continue;
                }
                for consumer in producer.consumers.iter().filter_map(|key| space.router.consumers.get(*key)) {
                    let receiver = space.transports.get(consumer.transport?)?;
                    let TransportKind::WebRtc(webrtc) = &receiver.kind else { return None };
                    best = best.max(Some(webrtc.bound(now)?));
                }
            }
            best
        };
        let own = self.spaces.get(place.0).and_then(|space| space.transports.get(place.1)?.max_bitrate);
        let most = own.unwrap_or(u64::MAX).min(self.config.max_publish_bitrate);
        best().map_or(most, |best: u64| best.min(most))
    }

    /// Asks the sources behind a transport for the keyframes that are wanted and due.
    pub(super) fn ask_keyframes(&mut self, place: Place, now: MediaTime) {
        let Some(space) = self.spaces.get_mut(place.0) else { return };
        let Some(transport) = space.transports.get_mut(place.1) else { return };
        if let TransportKind::WebRtc(_) | TransportKind::Plain(_) = &transport.kind {
            self.report(place, now);
            return;
        }
        let mut tracks = Vec::new();
        for key in &transport.producers {
            let Some(producer) = space.router.producers.get_mut(*key) else { continue };
            for (at, stream) in producer.streams.iter_mut().enumerate() {
                if !stream.keyframes.take(now) {
                    continue;
                }
                match (&transport.kind, &producer.input) {
                    (TransportKind::Stream(session), _) => tracks.extend(session.track_of(*key)),
                    (TransportKind::Direct { output, .. }, _) => {
                        let _ = output.push(DirectOut::KeyframeRequest);
                    }
                    (TransportKind::Pipe { output, .. }, ProducerInput::Pipe { track }) => {
                        let _ = output.send(PipeMessage::KeyframeRequest { track: *track, stream: at as u8 });
                    }
                    _ => {}
                }
            }
        }
        let instant = self.epoch.instant(now);
        for track in tracks {
            // A session that cannot ask its party says so by doing nothing.
            let _ = self.session_command(instant, place, Command::RequestKeyframe { track });
        }
    }

    /// Consumers that waited for a keyframe which does not come begin with what is cached.
    fn give_up_waiting(&mut self, place: Place) {
        let Some(space) = self.spaces.get_mut(place.0) else { return };
        let Some(transport) = space.transports.get(place.1) else { return };
        let mut transports = Vec::new();
        for key in &transport.producers {
            let Some(producer) = space.router.producers.get(*key) else { continue };
            if !producer.streams.iter().any(|stream| stream.keyframes.is_overdue()) {
                continue;
            }
            for consumer in &producer.consumers {
                let Some(consumer) = space.router.consumers.get_mut(*consumer) else { continue };
                let overdue =
                    producer.streams.get(consumer.stream()).is_some_and(|it| it.keyframes.is_overdue());
                if overdue && consumer.take_cached(producer) {
                    transports.extend(consumer.transport);
                }
            }
        }
        transports.into_iter().for_each(|transport| self.queue((place.0, transport)));
    }

    /// The transport's media can flow from now on.
    pub(super) fn start_sending(&mut self, place: Place) {
        let transport = self.spaces.get(place.0).and_then(|space| space.transports.get(place.1));
        if transport.is_some_and(|transport| !transport.consumers.is_empty()) {
            self.queue(place);
        }
        self.reschedule(place);
    }

    /// A consumer has a (new) source or receiver: lets it begin, with a keyframe if it needs one.
    pub(super) fn start_consumer(&mut self, place: Place, now: MediaTime) {
        let Some(space) = self.spaces.get_mut(place.0) else { return };
        let Some(consumer) = space.router.consumers.get(place.1).filter(|entry| entry.is_active()) else {
            return;
        };
        let transport = consumer.transport;
        self.rechoose(place, now);
        let Some(space) = self.spaces.get_mut(place.0) else { return };
        if let Some(source) = space.router.want_keyframe(place.1)
            && let Some(source) = space.router.producers.get(source).map(|source| source.transport)
        {
            self.ask_keyframes((place.0, source), now);
            self.reschedule((place.0, source));
        }
        if let Some(transport) = transport {
            self.queue((place.0, transport));
        }
    }

    /// Takes a transport away: its producers end, its consumers have no receiver any more, the dispatcher
    /// is told.
    pub(super) fn end_transport(&mut self, place: Place, reason: &str, ending: Ending) {
        let Some(space) = self.spaces.get_mut(place.0) else { return };
        let Some(transport) = space.transports.try_remove(place.1) else { return };
        debug!(conn = %transport.conn, reason, ?ending, "transport closed");
        self.end_mirroring(place, "the transport was closed");
        let id = transport.id.0;
        self.transports.remove(&id);
        if let Some(deadline) = transport.deadline {
            self.timers.remove(&(deadline, place));
        }
        self.flush.retain(|queued| *queued != place);
        self.lanes.retain(|lane| *lane != place);
        match &transport.kind {
            TransportKind::WebRtc(webrtc) => {
                self.routes.retain(|_, owner| *owner != place);
                for path in &webrtc.paths {
                    if self.paths.get(path) == Some(&place) {
                        self.paths.remove(path);
                    }
                    if let Path::Tcp { stream, .. } = *path {
                        self.actions.push_back(Action::Close { stream });
                    }
                }
            }
            TransportKind::Plain(plain) => {
                let (asked_by, sockets) = (plain.asked_by, plain.sockets);
                self.end_leg(asked_by, sockets);
            }
            TransportKind::Stream(stream) => {
                if let Some(stream) = stream.stream {
                    self.streams.remove(&stream);
                    self.actions.push_back(Action::Close { stream });
                }
            }
            TransportKind::Direct { .. } | TransportKind::Pipe { .. } => {}
        }
        for consumer in &transport.consumers {
            if let Some(consumer) =
                self.spaces.get_mut(place.0).and_then(|space| space.router.consumers.get_mut(*consumer))
            {
                (consumer.transport, consumer.output) = (None, Output::None);
            }
        }
        for producer in &transport.producers {
            self.end_producer((place.0, *producer));
        }
        self.end_data_of_transport(place.0, &transport.data);
        self.notify(id, "close", json!(CloseEvent::new(ending, reason)));
    }
}
