//! Conversions: at most one job for each pair of a track and a wanted format, alive while somebody
//! consumes its output and a little longer.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use tracing::{info, warn};

use crate::core::capabilities::{Encoding, RtpCodec, RtpParameters};
use crate::core::control::events::RoomEvent;
use crate::core::control::publish::same_codec;
use crate::core::control::state::{Reply, State, Target, Timer, on_consumer, on_transport};
use crate::core::convert::{Converter, DirectIn, DirectOut, Format, Job, Refusal};
use crate::core::id::{ConnId, ConsumerId, ProducerId, RouterId, TransportId, WorkerId};
use crate::core::lane::{Receiver, Sender, lane};
use crate::core::mail::Mail;
use crate::core::message::{Internal, Method};
use crate::core::peer::Refused;
use crate::core::room::{Room, RoomName};

/// How long after a conversion's end its place is surely free.
const SLOT_FREED: Duration = Duration::from_millis(500);

/// A running conversion.
pub(super) struct Conversion {
    pub room: RoomName,
    /// The publisher's track.
    pub origin: ProducerId,
    /// What comes out.
    pub to: Format,
    pub worker: WorkerId,
    pub router: RouterId,
    /// The Direct transport that carries both ways.
    pub transport: TransportId,
    /// Takes the track from the router, if it is of one.
    pub consumer: Option<ConsumerId>,
    /// Brings the output back.
    pub output: ProducerId,
    /// Feeds that use it.
    pub users: usize,
    /// How often it fell idle.
    pub idled: u64,
}

impl Conversion {
    /// One of `origin` into a format, for nobody yet; `consumer`: takes the track from the router.
    pub fn new(
        (room, origin, to): (RoomName, ProducerId, Format),
        (worker, router): (WorkerId, RouterId),
        consumer: Option<ConsumerId>,
        mut allocate: impl FnMut() -> u32,
    ) -> Self {
        let (transport, output) = (TransportId(allocate()), ProducerId(allocate()));
        Conversion { room, origin, to, worker, router, transport, consumer, output, users: 0, idled: 0 }
    }
}

/// A worker's ends of the lanes to a job.
pub(super) type WorkerEnds = (Receiver<DirectIn>, Sender<DirectOut>);
/// The job's ends.
pub(super) type JobEnds = (Receiver<DirectOut>, Sender<DirectIn>);

/// All conversions, found by their number, by what they are of, and by what they make.
#[derive(Default)]
pub(super) struct Jobs {
    all: HashMap<u32, Conversion>,
    of: HashMap<ProducerId, Vec<u32>>,
    outputs: HashMap<ProducerId, u32>,
}

impl Jobs {
    pub fn get(&self, id: u32) -> Option<&Conversion> {
        self.all.get(&id)
    }

    pub fn get_mut(&mut self, id: u32) -> Option<&mut Conversion> {
        self.all.get_mut(&id)
    }

    /// Those of a track.
    pub fn of(&self, origin: ProducerId) -> &[u32] {
        self.of.get(&origin).map_or(&[], Vec::as_slice)
    }

    /// The one that makes a producer.
    pub fn by_output(&self, output: ProducerId) -> Option<&Conversion> {
        self.all.get(self.outputs.get(&output)?)
    }

    #[cfg(test)]
    pub fn producers(&self) -> impl Iterator<Item = ProducerId> {
        self.outputs.keys().copied()
    }

    #[cfg(test)]
    pub fn consumers(&self) -> impl Iterator<Item = ConsumerId> {
        self.all.values().filter_map(|job| job.consumer)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.all.len() + self.of.len() + self.outputs.len()
    }

    pub fn insert(&mut self, id: u32, job: Conversion) {
        self.of.entry(job.origin).or_default().push(id);
        self.outputs.insert(job.output, id);
        self.all.insert(id, job);
    }

    pub fn remove(&mut self, id: u32) -> Option<Conversion> {
        let job = self.all.remove(&id)?;
        self.outputs.remove(&job.output);
        if let Some(of) = self.of.get_mut(&job.origin) {
            of.retain(|other| *other != id);
            if of.is_empty() {
                self.of.remove(&job.origin);
            }
        }
        Some(job)
    }
}

impl State {
    /// The job that turns `origin` into something of `accepts`, started if it is not there.
    pub fn job_for(
        &mut self,
        room: &RoomName,
        owner: ConnId,
        origin: ProducerId,
        from: &Format,
        accepts: &[RtpCodec],
    ) -> Result<u32, Refused> {
        // One refusal answers for all viewers until the next round.
        if let Some(text) = self.failures.get(&origin).or_else(|| self.busy.get(&origin)) {
            return Err(Refused { text: text.clone(), passing: true });
        }
        let converter = self.converter.clone();
        let target = converter.as_ref().and_then(|converter| converter.target(from, accepts));
        let (Some(converter), Some(to)) = (converter, target) else {
            return Err(refused(unsupported(from, accepts)));
        };
        let wanted = |job: &Conversion| {
            same_codec(&job.to.codec, &to.codec) && job.to.codec.parameters == to.codec.parameters
        };
        let mut running = self.jobs.of(origin).iter();
        if let Some(id) = running.find(|id| self.jobs.get(**id).is_some_and(wanted)) {
            return Ok(*id);
        }
        self.start_job(room, owner, origin, converter.as_ref(), (from, to))
    }

    fn start_job(
        &mut self,
        room: &RoomName,
        owner: ConnId,
        origin: ProducerId,
        converter: &dyn Converter,
        (from, to): (&Format, Format),
    ) -> Result<u32, Refused> {
        let (router, worker) = self.job_place(room)?;
        let (lanes, (input, output)) = self.job_lanes(worker)?;
        let job = Job { conn: owner, from: from.clone(), to: to.clone(), input, output };
        if let Err(refusal) = converter.start(job) {
            if let Refusal::Busy(text) = &refusal {
                self.busy.insert(origin, text.clone());
            }
            return Err(refused(refusal));
        }
        let id = self.dispatcher.allocate();
        // Dropping refused mail closes the lanes, and with them the job ends.
        let mail = Mail::Direct { attach: id, input: lanes.0, output: lanes.1 };
        let mailbox = self.dispatcher.mail(worker).ok_or_else(|| passing("the worker failed"))?;
        mailbox.send(mail).map_err(|_| passing("the worker is overloaded"))?;
        info!(conn = %owner, %room, from = from.codec.mime_type, to = to.codec.mime_type, "conversion begins");
        let text = format!("{} is converted to {}", describe(from), to.codec.mime_type);
        self.emit(room, || RoomEvent::Notice { conn: Some(owner), text });
        let consumer = ConsumerId(self.dispatcher.allocate());
        let what = (room.clone(), origin, to);
        let job = Conversion::new(what, (worker, router), Some(consumer), || self.dispatcher.allocate());
        self.ask_for_output(id, &job, owner);
        self.ask_for_input(id, &job, consumer, from);
        self.jobs.insert(id, job);
        Ok(id)
    }

    /// Where the jobs of a room are.
    pub fn job_place(&self, room: &RoomName) -> Result<(RouterId, WorkerId), Refused> {
        self.rooms.get(room).and_then(Room::home).ok_or_else(|| passing("the room is closing"))
    }

    /// Lanes between a worker and a job: the worker's ends, the job's.
    pub fn job_lanes(&self, worker: WorkerId) -> Result<(WorkerEnds, JobEnds), Refused> {
        let mailbox = self.dispatcher.mail(worker).ok_or_else(|| passing("the worker failed"))?;
        let (frames_in, job_input) = lane(self.config.convert_lane, None);
        let (job_output, frames_out) = lane(self.config.convert_lane, Some(mailbox.waker()));
        Ok(((frames_out, frames_in), (job_input, job_output)))
    }

    /// The requests that put what a job makes into the room.
    pub fn ask_for_output(&mut self, id: u32, job: &Conversion, owner: ConnId) {
        let (router, worker) = (job.router, job.worker);
        self.dispatcher.subscribe(job.transport.0, worker, Target::Job(id));
        let internal = on_transport(router, job.transport);
        let data = json!({"attach": id, "x.connId": owner});
        self.ask(worker, Method::XRouterCreateDirectTransport, internal, data, Reply::Job(id));
        let internal = Internal { producer_id: Some(job.output.0), ..on_transport(router, job.transport) };
        let data = json!({"kind": job.to.kind, "rtpParameters": one_stream(&job.to.codec, job.output.0)});
        self.ask(worker, Method::RouterCreateProducer, internal, data, Reply::Job(id));
    }

    /// The requests that bring a track to a job.
    fn ask_for_input(&mut self, id: u32, job: &Conversion, consumer: ConsumerId, from: &Format) {
        let (router, worker) = (job.router, job.worker);
        let internal = Internal { producer_id: Some(job.origin.0), ..on_consumer(router, consumer) };
        let data = json!({"kind": from.kind});
        self.ask(worker, Method::RouterCreateConsumer, internal, data, Reply::Job(id));
        let internal = Internal {
            consumer_id: Some(consumer.0),
            producer_id: Some(job.origin.0),
            ..on_transport(router, job.transport)
        };
        let data = json!({"rtpParameters": one_stream(&from.codec, consumer.0)});
        self.ask(worker, Method::ConsumerEnable, internal, data, Reply::Job(id));
    }

    /// A job broke down, or could not be put in place; `closed`: its transport is gone.
    pub fn job_failed(&mut self, id: u32, reason: &str, closed: bool) {
        let Some(job) = self.jobs.get(id) else { return };
        let (room, origin) = (job.room.clone(), job.origin);
        let text = format!("the conversion to {} failed: {reason}", job.to.codec.mime_type);
        warn!(%room, "{text}");
        self.failures.insert(origin, text);
        self.timers.set(State::millis(self.config.convert_failure_ms), Timer::Forgive(origin));
        self.end_job(id, closed);
        self.refresh(&room);
        self.point_takers(origin);
    }

    /// A job has had no listener since it fell idle for the `idled`th time.
    pub fn job_idle(&mut self, id: u32, idled: u64) {
        if self.jobs.get(id).is_some_and(|job| job.users == 0 && job.idled == idled) {
            self.end_job(id, false);
        }
    }

    /// Ends the jobs of a track and what was piped of it: the track itself is ending.
    pub fn end_derived(&mut self, room: &RoomName, origin: ProducerId) {
        self.end_jobs_of(origin);
        self.unpipe_everywhere(room, origin);
        self.failures.remove(&origin);
        self.busy.remove(&origin);
    }

    /// Ends the jobs of a track.
    pub fn end_jobs_of(&mut self, origin: ProducerId) {
        for id in self.jobs.of(origin).to_vec() {
            self.end_job(id, false);
        }
    }

    /// Forgets the jobs of a track whose router is closing, and they with it.
    pub fn forget_jobs_of(&mut self, origin: ProducerId) {
        for id in self.jobs.of(origin).to_vec() {
            if let Some(job) = self.jobs.remove(id) {
                self.dispatcher.unsubscribe(job.transport.0);
            }
        }
        self.failures.remove(&origin);
        self.busy.remove(&origin);
    }

    /// Counts one user of a conversion less.
    pub fn release_job(&mut self, id: u32) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.users = job.users.saturating_sub(1);
        if job.users == 0 {
            job.idled += 1;
            let linger = State::millis(self.config.convert_linger_ms);
            self.timers.set(linger, Timer::Job(id, job.idled));
        }
    }

    fn end_job(&mut self, id: u32, closed: bool) {
        let Some(job) = self.jobs.remove(id) else { return };
        info!(room = %job.room, to = job.to.codec.mime_type, "conversion ends");
        self.unpipe_everywhere(&job.room, job.output);
        self.dispatcher.unsubscribe(job.transport.0);
        if let Some(consumer) = job.consumer {
            let internal = on_consumer(job.router, consumer);
            self.tell(job.worker, Method::ConsumerClose, internal, json!({}));
        } else {
            self.slate_over(&job.room, job.origin);
        }
        if !closed {
            let internal = on_transport(job.router, job.transport);
            self.tell(job.worker, Method::TransportClose, internal, json!({}));
        }
        if !self.busy.is_empty() {
            self.timers.set(SLOT_FREED, Timer::Retry);
        }
    }
}

/// One codec, one stream.
pub(super) fn one_stream(codec: &RtpCodec, ssrc: u32) -> RtpParameters {
    RtpParameters {
        codecs: vec![codec.clone()],
        encodings: vec![Encoding { ssrc: Some(ssrc), ..Encoding::default() }],
        ..RtpParameters::default()
    }
}

/// Something that may be over soon.
fn passing(text: &str) -> Refused {
    Refused { text: text.to_owned(), passing: true }
}

fn refused(refusal: Refusal) -> Refused {
    Refused { text: refusal.to_string(), passing: matches!(refusal, Refusal::Busy(_)) }
}

/// Why nothing that a receiver takes can be made of a track.
pub(super) fn unsupported(from: &Format, accepts: &[RtpCodec]) -> Refusal {
    let mut names: Vec<&str> = accepts.iter().map(|codec| codec.mime_type.as_str()).collect();
    names.dedup();
    Refusal::Unsupported { from: describe(from), to: names.join(", ") }
}

fn describe(format: &Format) -> String {
    let order = if format.reordered { " with B-frames" } else { "" };
    format!("{}{order}", format.codec.mime_type)
}
