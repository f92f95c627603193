//! Large rooms: viewers beyond what one router should serve go to a router on another worker, and pipes
//! carry there what they watch.

use std::collections::HashMap;

use serde_json::json;
use tracing::{debug, info};

use crate::core::capabilities::{Encoding, Kind, RtpCodec};
use crate::core::control::error::ControlError;
use crate::core::control::jobs::one_stream;
use crate::core::control::state::{Reply, State, Timer, on_consumer, on_producer, on_router, on_transport};
use crate::core::convert::Format;
use crate::core::id::{ConsumerId, ProducerId, RouterId, TransportId, WorkerId};
use crate::core::lane::growing;
use crate::core::mail::Mail;
use crate::core::message::{Internal, Method};
use crate::core::peer::{Carrier, Track};
use crate::core::room::{Pipe, PipedTrack, Room, RoomName, Seat};

impl State {
    /// The router for one more receiver: a present one with room, else a new one on a worker the room is not
    /// on yet, else the emptiest.
    pub fn receiver_seat(&mut self, name: &RoomName) -> Option<(RouterId, WorkerId)> {
        let room = self.rooms.get(name)?;
        if let Some(seat) = room.free_seat(self.config.receivers_per_router, self.config.consumers_per_router)
        {
            return Some((seat.router, seat.worker));
        }
        let taken: Vec<WorkerId> = room.own_seats().map(|seat| seat.worker).collect();
        if let Some(worker) = self.dispatcher.least_loaded(&taken)
            && let Some(router) = self.open_seat(name, worker)
        {
            return Some((router, worker));
        }
        let room = self.rooms.get(name)?;
        room.own_seats()
            .min_by_key(|seat| (seat.consumers, seat.receivers))
            .map(|seat| (seat.router, seat.worker))
    }

    /// A router of the room on another worker, joined with the home router by a pipe.
    fn open_seat(&mut self, name: &RoomName, worker: WorkerId) -> Option<RouterId> {
        let attach = self.post_pipe(name, worker)?;
        let router = self.open_router(name, worker);
        self.ask_pipe(name, (router, worker), attach);
        info!(room = %name, %worker, "the room spreads to another worker");
        Some(router)
    }

    /// A router of another room becomes one of this room too, joined with the home router by a pipe.
    pub fn share_router(
        &mut self,
        name: &RoomName,
        (router, worker): (RouterId, WorkerId),
    ) -> Result<(), ControlError> {
        if self.rooms.get_mut(name).is_some_and(|room| room.seat_mut(router).is_some()) {
            return Ok(());
        }
        let attach = self.post_pipe(name, worker).ok_or(ControlError::Overloaded)?;
        *self.shared.entry(router).or_default() += 1;
        self.ask_pipe(name, (router, worker), attach);
        if let Some(seat) = self.rooms.get_mut(name).and_then(|room| room.seat_mut(router)) {
            seat.lent = true;
        }
        // Nobody may come to it after all.
        self.note_empty_seat(name, router);
        Ok(())
    }

    /// Mails the lanes of a pipe from a room's home router to a worker.
    fn post_pipe(&mut self, name: &RoomName, worker: WorkerId) -> Option<(u32, u32)> {
        let (_, home_worker) = self.rooms.get(name)?.home()?;
        let home_mail = self.dispatcher.mail(home_worker)?.clone();
        let far_mail = self.dispatcher.mail(worker)?.clone();
        let (to_far, at_far) = growing(self.config.pipe_lane, Some(far_mail.waker()));
        let (to_home, at_home) = growing(self.config.pipe_lane, Some(home_mail.waker()));
        let (home_attach, far_attach) = (self.dispatcher.allocate(), self.dispatcher.allocate());
        home_mail.send(Mail::Pipe { attach: home_attach, input: at_home, output: to_far }).ok()?;
        far_mail.send(Mail::Pipe { attach: far_attach, input: at_far, output: to_home }).ok()?;
        Some((home_attach, far_attach))
    }

    /// Asks for both ends of a pipe whose lanes are mailed, and enters the router among those of the room.
    fn ask_pipe(
        &mut self,
        name: &RoomName,
        (router, worker): (RouterId, WorkerId),
        (home_attach, far_attach): (u32, u32),
    ) {
        let Some((home_router, home_worker)) = self.rooms.get(name).and_then(Room::home) else { return };
        let home = TransportId(self.dispatcher.allocate());
        let far = TransportId(self.dispatcher.allocate());
        let reply = || Reply::Piped(name.clone(), router);
        let method = Method::XRouterCreatePipeTransport;
        let internal = on_transport(home_router, home);
        self.ask(home_worker, method, internal, json!({"attach": home_attach}), reply());
        self.ask(worker, method, on_transport(router, far), json!({"attach": far_attach}), reply());
        let pipe = Pipe { home, far, tracks: HashMap::new() };
        if let Some(room) = self.rooms.get_mut(name) {
            room.seats.push(Seat::new(router, worker, Some(pipe)));
        }
    }

    /// The producer on `router` that stands for `home` of the home router; piped there if it is not yet.
    pub fn pipe_to(&mut self, name: &RoomName, router: RouterId, home: ProducerId) -> Option<ProducerId> {
        let (kind, codec) = self.format_of(name, home)?;
        let consumer = ConsumerId(self.dispatcher.allocate());
        let producer = ProducerId(self.dispatcher.allocate());
        let room = self.rooms.get_mut(name)?;
        let (home_router, home_worker) = room.home()?;
        let seat = room.seat_mut(router)?;
        let worker = seat.worker;
        let pipe = seat.pipe.as_mut()?;
        if let Some(track) = pipe.tracks.get(&home) {
            return Some(track.producer);
        }
        pipe.tracks.insert(home, PipedTrack { consumer, producer, users: 0, idled: 0 });
        let from = End { router: home_router, worker: home_worker, transport: pipe.home };
        let to = End { router, worker, transport: pipe.far };
        let streams = self.track(home).map(|(_, track)| track.encodings.clone()).unwrap_or_default();
        let piped = (home, consumer, producer);
        self.ask_piped(|| Reply::Piped(name.clone(), router), (from, to), piped, (kind, &codec, &streams));
        Some(producer)
    }

    /// Asks for what carries a track from one end of a pipe to the other: a consumer of it here, a producer there.
    fn ask_piped(
        &mut self,
        reply: impl Fn() -> Reply,
        (from, to): (End, End),
        (source, consumer, producer): (ProducerId, ConsumerId, ProducerId),
        (kind, codec, streams): (Kind, &RtpCodec, &[Encoding]),
    ) {
        // Both ends name the stream by the number of the consumer that feeds the pipe.
        let near = one_stream(codec, consumer.0);
        let mut far = near.clone();
        if streams.len() > 1 {
            let stream = |stream: &Encoding| Encoding { codec_payload_type: None, ..stream.clone() };
            far.encodings = streams.iter().map(stream).collect();
        }
        let internal = Internal { producer_id: Some(source.0), ..on_consumer(from.router, consumer) };
        self.ask(from.worker, Method::RouterCreateConsumer, internal, json!({"kind": kind}), reply());
        let internal = Internal { transport_id: Some(from.transport.0), ..internal };
        self.ask(from.worker, Method::ConsumerEnable, internal, json!({"rtpParameters": near}), reply());
        let internal = Internal { producer_id: Some(producer.0), ..on_transport(to.router, to.transport) };
        let data = json!({"kind": kind, "rtpParameters": far, "x.track": consumer});
        self.ask(to.worker, Method::RouterCreateProducer, internal, data, reply());
    }

    /// Brings a track that comes in on some router of a room to its home router. Answers its producer there, and what
    /// carries it; itself where that is where it comes in.
    pub fn pipe_home(
        &mut self,
        name: &RoomName,
        router: RouterId,
        sent: ProducerId,
        (format, streams): (&Format, &[Encoding]),
    ) -> (ProducerId, Option<Carrier>) {
        let there = (sent, None);
        let Some((home_router, home_worker)) = self.rooms.get(name).and_then(Room::home) else {
            return there;
        };
        let seat = self.rooms.get_mut(name).and_then(|room| room.seat_mut(router));
        let Some((worker, pipe)) = seat.and_then(|seat| Some((seat.worker, seat.pipe.as_ref()?))) else {
            return there;
        };
        let from = End { router, worker, transport: pipe.far };
        let to = End { router: home_router, worker: home_worker, transport: pipe.home };
        let producer = ProducerId(self.dispatcher.allocate());
        let consumer = ConsumerId(self.dispatcher.allocate());
        let piped = (sent, consumer, producer);
        let reply = || Reply::Piped(name.clone(), router);
        self.ask_piped(reply, (from, to), piped, (format.kind, &format.codec, streams));
        (producer, Some(Carrier { router, worker, consumer }))
    }

    /// Ends the producer at home of a track that came in elsewhere. What fed the pipe ends with the track.
    pub fn end_at_home(&mut self, name: &RoomName, track: &Track) {
        let Some((router, worker)) = self.rooms.get(name).and_then(Room::home) else { return };
        if track.sent != track.producer {
            self.tell(worker, Method::ProducerClose, on_producer(router, track.producer), json!({}));
        }
    }

    /// Kind and codec of a producer on a room's home router, a publisher's or a conversion's.
    fn format_of(&self, name: &RoomName, producer: ProducerId) -> Option<(Kind, RtpCodec)> {
        if let Some(job) = self.jobs.by_output(producer) {
            return Some((job.to.kind, job.to.codec.clone()));
        }
        if let Some(output) = self.mixes.get(name).and_then(|mix| mix.output_of(producer)) {
            return Some((output.format.kind, output.format.codec.clone()));
        }
        let (_, track) = self.track(producer)?;
        Some((track.format.kind, track.format.codec.clone()))
    }

    /// Stops piping a producer of the home router to anywhere.
    pub fn unpipe_everywhere(&mut self, name: &RoomName, home: ProducerId) {
        let Some(room) = self.rooms.get(name) else { return };
        let routers: Vec<RouterId> = room.seats.iter().map(|seat| seat.router).collect();
        for router in routers {
            self.unpipe(name, router, home);
        }
    }

    fn unpipe(&mut self, name: &RoomName, router: RouterId, home: ProducerId) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        let Some((home_router, home_worker)) = room.home() else { return };
        let Some(seat) = room.seat_mut(router) else { return };
        let worker = seat.worker;
        let Some(track) = seat.pipe.as_mut().and_then(|pipe| pipe.tracks.remove(&home)) else { return };
        debug!(room = %name, %router, "a track is no longer piped");
        let internal = on_consumer(home_router, track.consumer);
        self.tell(home_worker, Method::ConsumerClose, internal, json!({}));
        self.tell(worker, Method::ProducerClose, on_producer(router, track.producer), json!({}));
    }

    /// A piped track has had no user since it fell idle for the `idled`th time.
    pub fn piped_idle(&mut self, name: &RoomName, router: RouterId, home: ProducerId, idled: u64) {
        let pipe = self.rooms.get_mut(name).and_then(|room| room.pipe_mut(router));
        let track = pipe.and_then(|pipe| pipe.tracks.get(&home));
        if track.is_some_and(|track| track.users == 0 && track.idled == idled) {
            self.unpipe(name, router, home);
        }
    }

    /// One receiver more on a router of a room.
    pub fn take_seat(&mut self, name: &RoomName, router: RouterId) {
        let seat = self.rooms.get_mut(name).and_then(|room| room.seat_mut(router));
        seat.into_iter().for_each(|seat| seat.receivers += 1);
    }

    /// One receiver less.
    pub fn leave_seat(&mut self, name: &RoomName, router: RouterId) {
        let seat = self.rooms.get_mut(name).and_then(|room| room.seat_mut(router));
        seat.into_iter().for_each(|seat| seat.receivers = seat.receivers.saturating_sub(1));
        self.note_empty_seat(name, router);
    }

    /// Sets the timer that closes a router nobody is on any more.
    fn note_empty_seat(&mut self, name: &RoomName, router: RouterId) {
        let linger = State::millis(self.config.pipe_linger_ms);
        let Some(seat) = self.rooms.get_mut(name).and_then(|room| room.seat_mut(router)) else { return };
        if seat.pipe.is_some() && seat.receivers == 0 {
            seat.emptied += 1;
            self.timers.set(linger, Timer::Seat(name.clone(), router, seat.emptied));
        }
    }

    /// A router has had no viewer since it fell empty for the `emptied`th time.
    pub fn seat_idle(&mut self, name: &RoomName, router: RouterId, emptied: u64) {
        let seat = self.rooms.get_mut(name).and_then(|room| room.seat_mut(router));
        if seat.is_some_and(|seat| seat.receivers == 0 && seat.emptied == emptied) {
            self.close_seat(name, router);
        }
    }

    /// Closes a router that is not the home router, and the pipe to it.
    pub fn close_seat(&mut self, name: &RoomName, router: RouterId) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        let Some((home_router, home_worker)) = room.home() else { return };
        let Some(at) = room.seats.iter().position(|seat| seat.router == router && seat.pipe.is_some()) else {
            return;
        };
        let seat = room.seats.remove(at);
        info!(room = %name, worker = %seat.worker, "the room leaves a worker");
        self.end_data_on(name, router);
        if let Some(pipe) = &seat.pipe {
            for track in pipe.tracks.values() {
                let internal = on_consumer(home_router, track.consumer);
                self.tell(home_worker, Method::ConsumerClose, internal, json!({}));
            }
            let internal = on_transport(home_router, pipe.home);
            self.tell(home_worker, Method::TransportClose, internal, json!({}));
        }
        self.let_router_go(&seat, "");
    }

    /// Whether other rooms use a router of this one.
    pub fn is_shared(&self, name: &RoomName) -> bool {
        let mut seats = self.rooms.get(name).into_iter().flat_map(|room| &room.seats);
        seats.any(|seat| self.shared.contains_key(&seat.router))
    }

    /// A room is about to close, and leaves routers to others: takes off them what the room itself has there.
    pub fn clear_shared(&mut self, name: &RoomName) {
        if !self.is_shared(name) {
            return;
        }
        self.end_mix(name, false);
        let Some(room) = self.rooms.get(name) else { return };
        let (slate, routers) = (room.slate, room.seats.iter().skip(1).map(|seat| seat.router));
        for router in routers.collect::<Vec<_>>() {
            self.close_seat(name, router);
        }
        if let Some(slate) = slate {
            self.end_jobs_of(slate);
        }
        self.tune(name);
    }

    /// A room uses a router no more: the last closes it.
    pub fn let_router_go(&mut self, seat: &Seat, reason: &str) {
        let router = seat.router;
        match self.shared.get_mut(&router) {
            Some(others) if *others > 1 => *others -= 1,
            Some(_) => drop(self.shared.remove(&router)),
            None => {
                let data = json!({"x.reason": reason});
                return self.tell(seat.worker, Method::RouterClose, on_router(router), data);
            }
        }
        if let Some(pipe) = &seat.pipe {
            let internal = on_transport(router, pipe.far);
            self.tell(seat.worker, Method::TransportClose, internal, json!({}));
        }
    }
}

/// One end of a pipe.
#[derive(Clone, Copy)]
struct End {
    router: RouterId,
    worker: WorkerId,
    transport: TransportId,
}
