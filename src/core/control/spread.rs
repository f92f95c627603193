//! Large rooms: viewers beyond what one router should serve go to a router on another worker, and pipes
//! carry there what they watch.

use std::collections::HashMap;

use serde_json::json;
use tracing::{debug, info};

use crate::core::capabilities::{Encoding, Kind, RtpCodec};
use crate::core::control::jobs::one_stream;
use crate::core::control::state::{Reply, State, Timer, on_consumer, on_producer, on_router, on_transport};
use crate::core::id::{ConsumerId, ProducerId, RouterId, TransportId, WorkerId};
use crate::core::lane::lane;
use crate::core::mail::Mail;
use crate::core::message::{Internal, Method};
use crate::core::room::{Pipe, PipedTrack, RoomName, Seat};

impl State {
    /// The router for one more receiver: a present one with room, else a new one on a worker the room is not
    /// on yet, else the emptiest.
    pub fn receiver_seat(&mut self, name: &RoomName) -> Option<(RouterId, WorkerId)> {
        let room = self.rooms.get(name)?;
        if let Some(seat) = room.free_seat(self.config.receivers_per_router, self.config.consumers_per_router)
        {
            return Some((seat.router, seat.worker));
        }
        let taken: Vec<WorkerId> = room.seats.iter().map(|seat| seat.worker).collect();
        if let Some(worker) = self.dispatcher.least_loaded(&taken)
            && let Some(router) = self.open_seat(name, worker)
        {
            return Some((router, worker));
        }
        let room = self.rooms.get(name)?;
        room.seats
            .iter()
            .min_by_key(|seat| (seat.consumers, seat.receivers))
            .map(|seat| (seat.router, seat.worker))
    }

    /// A router of the room on another worker, joined with the home router by a pipe.
    fn open_seat(&mut self, name: &RoomName, worker: WorkerId) -> Option<RouterId> {
        let (home_router, home_worker) = self.rooms.get(name)?.home()?;
        let home_mail = self.dispatcher.mail(home_worker)?.clone();
        let far_mail = self.dispatcher.mail(worker)?.clone();
        let (to_far, at_far) = lane(self.config.pipe_lane, Some(far_mail.waker()));
        let (to_home, at_home) = lane(self.config.pipe_lane, Some(home_mail.waker()));
        let (home_attach, far_attach) = (self.dispatcher.allocate(), self.dispatcher.allocate());
        home_mail.send(Mail::Pipe { attach: home_attach, input: at_home, output: to_far }).ok()?;
        far_mail.send(Mail::Pipe { attach: far_attach, input: at_far, output: to_home }).ok()?;
        let router = self.open_router(name, worker);
        let home = TransportId(self.dispatcher.allocate());
        let far = TransportId(self.dispatcher.allocate());
        let reply = || Reply::Piped(name.clone(), router);
        let method = Method::XRouterCreatePipeTransport;
        let internal = on_transport(home_router, home);
        self.ask(home_worker, method, internal, json!({"attach": home_attach}), reply());
        self.ask(worker, method, on_transport(router, far), json!({"attach": far_attach}), reply());
        let pipe = Pipe { home, far, tracks: HashMap::new() };
        self.rooms.get_mut(name)?.seats.push(Seat::new(router, worker, Some(pipe)));
        info!(room = %name, %worker, "the room spreads to another worker");
        Some(router)
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
        let (near, far) = (pipe.home, pipe.far);
        // Both ends name the stream by the number of the consumer that feeds the pipe.
        let near_rtp = one_stream(&codec, consumer.0);
        let mut far_rtp = near_rtp.clone();
        if let Some(streams) = self.track(home).map(|(_, track)| &track.encodings).filter(|all| all.len() > 1)
        {
            let stream = |stream: &Encoding| Encoding { codec_payload_type: None, ..stream.clone() };
            far_rtp.encodings = streams.iter().map(stream).collect();
        }
        let reply = || Reply::Piped(name.clone(), router);
        let internal = Internal { producer_id: Some(home.0), ..on_consumer(home_router, consumer) };
        let method = Method::RouterCreateConsumer;
        self.ask(home_worker, method, internal, json!({"kind": kind}), reply());
        let internal = Internal { transport_id: Some(near.0), ..internal };
        self.ask(home_worker, Method::ConsumerEnable, internal, json!({"rtpParameters": near_rtp}), reply());
        let internal = Internal { producer_id: Some(producer.0), ..on_transport(router, far) };
        let data = json!({"kind": kind, "rtpParameters": far_rtp, "x.track": consumer});
        self.ask(worker, Method::RouterCreateProducer, internal, data, reply());
        Some(producer)
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
        self.end_data_on(router);
        if let Some(pipe) = seat.pipe {
            for track in pipe.tracks.values() {
                let internal = on_consumer(home_router, track.consumer);
                self.tell(home_worker, Method::ConsumerClose, internal, json!({}));
            }
            let internal = on_transport(home_router, pipe.home);
            self.tell(home_worker, Method::TransportClose, internal, json!({}));
        }
        self.tell(seat.worker, Method::RouterClose, on_router(router), json!({}));
    }
}
