//! What the main thread knows of rooms, peers and what it asked the workers to do for them.
//!
//! All of it changes under one lock, in steps that never wait: ids are ours to choose and a worker handles
//! its requests in order, so whole chains (transport, consumer, producer) are asked for at once, and what
//! must be known of the answers is kept as a [`Reply`] beside each request. Only the doors' own calls wait.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use serde_json::Value;
use tracing::{debug, trace, warn};

use crate::core::control::calls::Calls;
use crate::core::control::config::RoomsConfig;
use crate::core::control::controller::{Asked, ControllerId, Controllers};
use crate::core::control::data::Channels;
use crate::core::control::dispatcher::{Dispatcher, Incoming, Link};
use crate::core::control::error::ControlError;
use crate::core::control::events::Watchers;
use crate::core::control::handle::Shared;
use crate::core::control::jobs::Jobs;
use crate::core::control::mix::RoomMix;
use crate::core::control::peer_events::PeerEvent;
use crate::core::control::player::Player;
use crate::core::control::slack::Slack;
use crate::core::control::streams::Streams;
use crate::core::control::timers::Timers;
use crate::core::convert::{Converter, Mixer};
use crate::core::id::{
    ConnId, ConsumerId, DataConsumerId, DataProducerId, ProducerId, RouterId, TransportId, WorkerId,
};
use crate::core::mail::MailSender;
use crate::core::message::{CloseEvent, Internal, Method, TrackEvent};
use crate::core::peer::{CloseReason, Member, PeerKind};
use crate::core::room::{Room, RoomName};
use crate::core::session::Ending;
use crate::core::time::Epoch;

/// An answer as a door waits for it.
pub(super) type Answer = Result<Value, ControlError>;
/// The end that gives it.
pub(super) type Waiter = oneshot::Sender<Answer>;

/// What to do with an answer.
pub(super) enum Reply {
    /// Nothing, but a refusal is worth a line.
    Quiet(Method),
    /// Somebody waits.
    Value(Waiter),
    /// A router of a room was made or not.
    Router(RoomName, RouterId),
    /// A peer's transport.
    Transport(ConnId, TransportId, Waiter),
    /// A peer's track.
    Track(ConnId, ProducerId, Option<Waiter>),
    /// A peer's consumer.
    Feed(ConnId, ConsumerId, Waiter),
    /// A peer's data producer.
    DataProducer(DataProducerId, Waiter),
    /// A peer's data consumer.
    DataConsumer(DataConsumerId, Waiter),
    /// A step of a conversion.
    Job(u32),
    /// A step of piping something to a router.
    Piped(RoomName, RouterId),
    /// A step of a room's mix, by its transport.
    Mix(RoomName, TransportId),
    /// The transport of what a member plays to its room.
    Player(ConnId, TransportId),
    /// A request of a controller.
    Controlled(Asked),
    /// A router that a controller left behind is closed.
    Swept(WorkerId, u32),
}

impl Reply {
    /// Whether the asker can be told that it is too much, and may ask again.
    fn is_patient(&self) -> bool {
        matches!(
            self,
            Reply::Value(_)
                | Reply::Transport(..)
                | Reply::Feed(..)
                | Reply::DataProducer(..)
                | Reply::DataConsumer(..)
                | Reply::Controlled(_)
                | Reply::Swept(..)
        )
    }
}

/// Whose event it is.
#[derive(Clone)]
pub(super) enum Target {
    /// A peer's transport.
    Transport(ConnId),
    /// A peer's consumer.
    Feed(ConnId),
    /// A peer's data producer.
    DataProducer(ConnId),
    /// A peer's data consumer.
    DataConsumer(ConnId),
    /// A peer's track.
    Track(ConnId),
    /// A room's home router.
    Router(RoomName),
    /// The transport of a conversion.
    Job(u32),
    /// The transport of a room's mix.
    Mix(RoomName),
    /// The transport of what a member plays to its room.
    Player(ConnId),
    /// An entity that a controller made.
    Controlled(ControllerId),
}

/// What happens later.
pub(super) enum Timer {
    /// A peer should have a transport by now.
    Join(ConnId),
    /// The tracks of a publisher that came back should be there by now.
    Takeover(RoomName, ConnId),
    /// A conversion has idled since it fell idle for that time.
    Job(u32, u64),
    /// A piped track has idled.
    Piped(RoomName, RouterId, ProducerId, u64),
    /// A router has had no viewer.
    Seat(RoomName, RouterId, u64),
    /// Refused conversions are asked for again.
    Retry,
    /// Conversions of a track that failed may be tried again.
    Forgive(ProducerId),
    /// An output of a mix has idled since it fell idle for that time.
    MixOutput(RoomName, u32, u64),
    /// A mix that failed may be tried again.
    Remix(RoomName),
    /// The room's picture may change to another speaker again.
    Speaker(RoomName, u64),
    /// Somebody has been shown nothing for a moment.
    Slate(RoomName),
    /// A router has outlived its controller, since it left that time.
    Linger(ControllerId, u32, u64),
    /// A room has outlived the controller that opened it, since that left that time.
    LingerRoom(ControllerId, RoomName, u64),
    /// Routers that a controller left behind are closed.
    Sweep,
    /// What a crowd took may be given back.
    Slack,
}

/// A member with what its door holds.
pub(super) struct Entry {
    pub room: RoomName,
    pub peer: Member,
    pub shared: Arc<Shared>,
}

/// See the module.
pub(super) struct State {
    pub config: RoomsConfig,
    pub epoch: Epoch,
    pub converter: Option<Arc<dyn Converter>>,
    pub mixer: Option<Arc<dyn Mixer>>,
    pub calls: Option<Arc<dyn Calls>>,
    pub streams: Option<Arc<dyn Streams>>,
    pub watchers: Watchers,
    pub dispatcher: Dispatcher<Reply, Target>,
    pub timers: Timers<Timer>,
    pub rooms: BTreeMap<RoomName, Room>,
    pub members: HashMap<ConnId, Entry>,
    pub data: Channels,
    /// Routers that more than one room uses: by how many more.
    pub shared: HashMap<RouterId, usize>,
    /// Whose each track is.
    pub owners: HashMap<ProducerId, ConnId>,
    /// Consumers that are fed from nothing for the time being.
    pub waiting: BTreeSet<(ConnId, ConsumerId)>,
    pub jobs: Jobs,
    /// Rooms whose voices are mixed.
    pub mixes: HashMap<RoomName, RoomMix>,
    /// Rooms whose mix failed, or found no place, lately.
    pub unmixed: HashMap<RoomName, String>,
    /// What members play to their rooms.
    pub players: HashMap<ConnId, Player>,
    /// How often something was played to one listener; the number of the last.
    pub plays: u32,
    /// Conversions that failed lately, by the track they were of.
    pub failures: HashMap<ProducerId, String>,
    /// Conversions that found no place lately, by the track they would be of.
    pub busy: HashMap<ProducerId, String>,
    pub controllers: Controllers,
    pub retry_set: bool,
    pub clock_claimed: bool,
    pub slack: Slack,
    /// Counts publishers as they go live.
    pub lives: u64,
    undelivered: Vec<(Reply, ControlError)>,
    stuck: Vec<WorkerId>,
}

impl State {
    pub fn new(config: RoomsConfig, epoch: Epoch, converter: Option<Arc<dyn Converter>>) -> Self {
        State {
            epoch,
            mixer: None,
            calls: None,
            streams: None,
            watchers: Watchers::default(),
            mixes: HashMap::new(),
            unmixed: HashMap::new(),
            players: HashMap::new(),
            plays: 0,
            dispatcher: Dispatcher::new(&config),
            config,
            converter,
            timers: Timers::default(),
            rooms: BTreeMap::new(),
            members: HashMap::new(),
            data: Channels::default(),
            shared: HashMap::new(),
            owners: HashMap::new(),
            waiting: BTreeSet::new(),
            jobs: Jobs::default(),
            failures: HashMap::new(),
            busy: HashMap::new(),
            controllers: Controllers::default(),
            retry_set: false,
            clock_claimed: false,
            slack: Slack::default(),
            lives: 0,
            undelivered: Vec::new(),
            stuck: Vec::new(),
        }
    }

    /// Asks a worker for something whose failure is dealt with by `reply`.
    pub fn ask(&mut self, worker: WorkerId, method: Method, internal: Internal, data: Value, reply: Reply) {
        let patient = reply.is_patient();
        self.timers.nudge();
        let request = (method, internal, data);
        if let Err((reply, error)) = self.dispatcher.request(worker, request, reply, patient) {
            if !patient && error == ControlError::Overloaded {
                self.stuck.push(worker);
            }
            self.undelivered.push((reply, error));
        }
    }

    /// Asks by `ask`, with somebody who waits for the answer.
    pub fn pending(
        &mut self,
        ask: impl FnOnce(&mut State, Waiter) -> Result<(), ControlError>,
    ) -> Result<oneshot::Receiver<Answer>, ControlError> {
        let (waiter, pending) = oneshot::channel();
        ask(self, waiter)?;
        Ok(pending)
    }

    /// Asks for something that cannot reasonably fail.
    pub fn tell(&mut self, worker: WorkerId, method: Method, internal: Internal, data: Value) {
        self.ask(worker, method, internal, data, Reply::Quiet(method));
    }

    /// Deals with what failed on the way out; called at the end of each step.
    pub fn settle(&mut self) {
        while let Some((reply, error)) = self.undelivered.pop() {
            self.answered(reply, Err(error));
        }
        while let Some(worker) = self.stuck.pop() {
            if let Some(link) = self.dispatcher.link(worker) {
                warn!(%worker, "the worker takes no requests any more; it is given up");
                self.worker_lost(link);
            }
        }
    }

    /// A worker is there, for the first time or again.
    pub fn worker_up(&mut self, worker: WorkerId, mail: MailSender) -> Link {
        if let Some(old) = self.dispatcher.link(worker) {
            self.worker_lost(old);
        }
        self.dispatcher.add(worker, mail)
    }

    /// A worker is gone: so are its routers, and every answer it owed.
    pub fn worker_lost(&mut self, link: Link) {
        let Some(replies) = self.dispatcher.remove(link) else { return };
        self.close_routers_of(link.worker);
        for reply in replies {
            self.answered(reply, Err(ControlError::WorkerLost));
        }
        self.controllers_lost(link.worker);
        self.settle();
    }

    /// A message of a worker.
    pub fn receive(&mut self, link: Link, json: &[u8]) {
        match self.dispatcher.receive(link, json) {
            Some(Incoming::Answer(reply, result)) => self.answered(reply, result),
            Some(Incoming::Event { subscriber, target, event, data }) => {
                self.event(subscriber, target, &event, data);
            }
            None => debug!(worker = %link.worker, "a message of a worker concerned nobody"),
        }
        self.settle();
    }

    fn answered(&mut self, reply: Reply, result: Answer) {
        match reply {
            Reply::Quiet(method) => match result {
                Ok(_) | Err(ControlError::WorkerLost) => {}
                Err(ControlError::Rejected(reason)) => {
                    debug!(method = method.as_str(), reason, "a worker refused");
                }
                Err(error) => warn!(method = method.as_str(), %error, "a request failed"),
            },
            // Whoever waited may have gone.
            Reply::Value(waiter) => drop(waiter.send(result)),
            Reply::Router(room, router) => {
                if let Err(error) = result {
                    self.router_failed(&room, router, &error);
                }
            }
            Reply::Transport(conn, transport, waiter) => {
                if result.is_err() {
                    self.forget_transport(conn, transport);
                }
                drop(waiter.send(result));
            }
            Reply::Track(conn, producer, waiter) => self.track_answered(conn, producer, waiter, result),
            Reply::Feed(conn, consumer, waiter) => {
                if result.is_err() {
                    self.drop_feed(conn, consumer);
                }
                drop(waiter.send(result));
            }
            Reply::DataProducer(id, waiter) => self.data_producer_answered(id, waiter, result),
            Reply::DataConsumer(id, waiter) => self.data_consumer_answered(id, waiter, result),
            Reply::Job(job) => {
                if let Err(error) = result {
                    self.job_failed(job, &error.to_string(), false);
                }
            }
            Reply::Mix(room, transport) => {
                if let Err(error) = result {
                    self.mix_failed(&room, transport, &error.to_string(), false);
                }
            }
            Reply::Player(conn, transport) => {
                if let Err(error) = result {
                    self.player_failed(conn, transport, &error.to_string());
                }
            }
            Reply::Piped(room, router) => {
                if let Err(error) = result {
                    debug!(%room, %router, %error, "a track was not piped");
                }
            }
            Reply::Controlled(asked) => self.controlled_answer(asked, result),
            Reply::Swept(worker, router) => self.swept(worker, router, &result),
        }
    }

    fn event(&mut self, subscriber: Target, target: u32, event: &str, data: Value) {
        match (subscriber, event) {
            (Target::Transport(conn), "close") => {
                self.transport_closed(conn, TransportId(target), &CloseEvent::read(data));
            }
            (Target::Transport(conn), "x.track" | "x.trackchange") => match serde_json::from_value(data) {
                Ok(track) => self.session_track(conn, TransportId(target), track),
                Err(error) => warn!(%conn, %error, "a track's event was not understood"),
            },
            (Target::Transport(conn), _) if self.leg_event(conn, TransportId(target), event, &data) => {}
            (Target::Transport(conn), _) if self.transport_event(conn, TransportId(target), event, &data) => {
            }
            (Target::Transport(conn), _) => {
                debug!(%conn, event, "transport");
                trace!(%conn, event, %data, "transport");
            }
            (Target::DataProducer(conn), _) => self.data_producer_event(conn, DataProducerId(target), event),
            (Target::DataConsumer(conn), _) => {
                self.data_consumer_event(conn, DataConsumerId(target), event, &data);
            }
            (Target::Feed(conn), _) => {
                if !self.consumer_event(conn, ConsumerId(target), event, data) {
                    debug!(%conn, consumer = target, event, "consumer");
                }
            }
            (Target::Track(conn), "x.score") => {
                let producer = ProducerId(target);
                self.tell_peer(conn, PeerEvent::ProducerScore { producer, score: data });
            }
            (Target::Track(conn), _) => debug!(%conn, producer = target, event, "producer"),
            (Target::Job(job), "close") => {
                let reason = CloseEvent::read(data).reason;
                self.job_failed(job, &reason, true);
            }
            (Target::Job(job), _) => debug!(job, event, "conversion"),
            (Target::Mix(room), "close") => {
                let reason = CloseEvent::read(data).reason;
                self.mix_failed(&room, TransportId(target), &reason, true);
            }
            (Target::Player(conn), "close") => {
                self.player_failed(conn, TransportId(target), &CloseEvent::read(data).reason);
            }
            (Target::Player(conn), "x.playend") => self.player_ended(conn),
            (Target::Player(conn), _) => debug!(%conn, event, "player"),
            (Target::Mix(room), "x.playend") => self.play_ended(&room, &data),
            (Target::Mix(room), "x.levels") => self.mix_heard(&room, &data),
            (Target::Router(room), "audiolevels") => self.router_heard(&room, &data),
            (Target::Router(room), _) => debug!(%room, event, "router"),
            (Target::Mix(room), _) => debug!(%room, event, "mix"),
            (Target::Controlled(id), _) => self.controlled_event(id, target, event, data),
        }
    }

    fn transport_closed(&mut self, conn: ConnId, transport: TransportId, event: &CloseEvent) {
        // Closed by us without being asked: the party was turned away.
        let code = if event.code == Ending::Closed { Ending::Left } else { event.code };
        let text = if event.reason.is_empty() { "the connection ended" } else { &event.reason };
        let reason = CloseReason::new(code.as_str(), text);
        self.forget_transport(conn, transport);
        if self.members.get(&conn).is_some_and(|entry| entry.peer.kind.outlives_transports()) {
            self.drop_carried(conn, transport, &reason);
        } else {
            self.close_member(conn, reason);
        }
    }

    /// Lets time pass; returns when to come again.
    pub fn handle_time(&mut self, now: Instant) -> Option<Instant> {
        self.timers.start(now);
        while let Some(timer) = self.timers.pop(now) {
            self.run_out(timer);
        }
        for reply in self.dispatcher.expire(now) {
            self.answered(reply, Err(ControlError::Timeout));
        }
        self.settle();
        self.watch_slack();
        self.timers.start(now);
        // Requests made just now get their deadline here.
        self.dispatcher.expire(now);
        [self.timers.next(), self.dispatcher.next_deadline()].into_iter().flatten().min()
    }

    fn run_out(&mut self, timer: Timer) {
        match timer {
            Timer::Join(conn) => {
                // A controller decides by itself when it wants a transport.
                let idle = |entry: &Entry| {
                    entry.peer.transports.is_empty() && entry.peer.kind != PeerKind::Controller
                };
                if self.members.get(&conn).is_some_and(idle) {
                    self.close_member(
                        conn,
                        CloseReason::new("timeout", "the peer joined and then did nothing"),
                    );
                }
            }
            Timer::Takeover(room, conn) => {
                if let Some(state) = self.rooms.get_mut(&room)
                    && state.awaited == Some(conn)
                {
                    state.awaited = None;
                    self.refresh(&room);
                }
            }
            Timer::Job(job, idled) => self.job_idle(job, idled),
            Timer::Piped(room, router, producer, idled) => self.piped_idle(&room, router, producer, idled),
            Timer::Seat(room, router, emptied) => self.seat_idle(&room, router, emptied),
            Timer::Retry => {
                self.retry_set = false;
                self.busy.clear();
                self.retry_refused();
            }
            Timer::MixOutput(room, output, idled) => self.mix_output_idle(&room, output, idled),
            Timer::Remix(room) => {
                self.unmixed.remove(&room);
                self.refresh(&room);
            }
            Timer::Linger(id, router, left) => self.linger_over(id, router, left),
            Timer::LingerRoom(id, room, left) => self.room_linger_over(id, &room, left),
            Timer::Sweep => self.sweep(),
            Timer::Slack => self.slack_over(),
            Timer::Slate(room) => self.slate_due(&room),
            Timer::Speaker(room, count) => self.speaker_may_change(&room, count),
            Timer::Forgive(producer) => {
                self.failures.remove(&producer);
                self.retry_refused();
            }
        }
    }

    /// Asks every worker for something harmless; once that is answered, so is all that went before.
    pub fn barriers(&mut self) -> Vec<oneshot::Receiver<Answer>> {
        let workers: Vec<WorkerId> = self.dispatcher.workers().collect();
        let mut receivers = Vec::new();
        for worker in workers {
            let (sender, receiver) = oneshot::channel();
            let nobody = Internal::default();
            self.ask(worker, Method::WorkerUpdateSettings, nobody, Value::Null, Reply::Value(sender));
            receivers.push(receiver);
        }
        receivers
    }

    /// Milliseconds of the configuration as a duration.
    pub fn millis(value: u64) -> Duration {
        Duration::from_millis(value)
    }
}

impl CloseEvent {
    fn read(data: Value) -> Self {
        serde_json::from_value(data).unwrap_or_default()
    }
}

/// Ids for [`Internal`], by what they are.
pub(super) fn on_router(router: RouterId) -> Internal {
    Internal { router_id: Some(router.0), ..Internal::default() }
}

/// A transport on a router.
pub(super) fn on_transport(router: RouterId, transport: TransportId) -> Internal {
    Internal { transport_id: Some(transport.0), ..on_router(router) }
}

/// A consumer on a router.
pub(super) fn on_consumer(router: RouterId, consumer: ConsumerId) -> Internal {
    Internal { consumer_id: Some(consumer.0), ..on_router(router) }
}

/// A producer on a router.
pub(super) fn on_producer(router: RouterId, producer: ProducerId) -> Internal {
    Internal { producer_id: Some(producer.0), ..on_router(router) }
}

/// Hands a track's event on, typed.
pub(super) type SessionTrack = TrackEvent;
