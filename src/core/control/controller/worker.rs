//! Requests that a worker carries out, on what the controller itself has made.
//!
//! Ids are entered when they are asked for, so that a controller need not wait for one answer before the next
//! request; what is refused is taken out again. Each entity that ends gives one event `close`.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::core::control::controller::code::{Code, Fault};
use crate::core::control::controller::scope::{Entity, Kind, Owner};
use crate::core::control::controller::vocabulary::Entry;
use crate::core::control::controller::wire::Ask;
use crate::core::control::controller::{Controller, ControllerId, Rest, gone};
use crate::core::control::error::ControlError;
use crate::core::control::state::{Answer, Reply, State, Target, Timer};
use crate::core::id::WorkerId;
use crate::core::message::{Internal, Method};
use crate::core::peer::CloseReason;

/// Routers left behind that are closed at once.
const SWEEP: usize = 64;
/// How long a worker that is asked too much is left alone.
const SWEEP_PAUSE: Duration = Duration::from_millis(100);

/// A controller's request that waits for a worker's answer.
#[derive(Clone, Copy, Debug)]
pub(in crate::core::control) struct Asked {
    controller: ControllerId,
    request: u32,
    method: Method,
    /// The entity it makes or ends, by the controller's id.
    subject: Option<u32>,
}

/// What a request makes.
fn makes(method: Method) -> Option<Kind> {
    match method {
        Method::WorkerCreateRouter => Some(Kind::Router),
        Method::RouterCreateWebRtcTransport | Method::RouterCreatePlainRtpTransport => Some(Kind::Transport),
        Method::RouterCreateProducer => Some(Kind::Producer),
        Method::RouterCreateConsumer => Some(Kind::Consumer),
        Method::XTransportProduceData | Method::XRouterProduceData => Some(Kind::DataProducer),
        Method::XTransportConsumeData | Method::XRouterConsumeData => Some(Kind::DataConsumer),
        _ => None,
    }
}

/// What a request ends.
fn ends(method: Method) -> Option<Kind> {
    match method {
        Method::RouterClose => Some(Kind::Router),
        Method::TransportClose => Some(Kind::Transport),
        Method::ProducerClose => Some(Kind::Producer),
        Method::ConsumerClose => Some(Kind::Consumer),
        Method::XDataProducerClose => Some(Kind::DataProducer),
        Method::XDataConsumerClose => Some(Kind::DataConsumer),
        _ => None,
    }
}

pub(super) fn id_of(map: &Map<String, Value>, key: &str) -> Option<u32> {
    map.get(key).and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok())
}

impl State {
    /// Passes a request on to the worker that has its router; an answer at once, or later.
    pub(super) fn worker_asked(
        &mut self,
        id: ControllerId,
        entry: &'static Entry,
        method: Method,
        ask: Ask,
    ) -> Result<Rest, Fault> {
        match method {
            Method::XWorkerFail if !self.controllers.drills() => {
                return Err(Fault::new(Code::NotAllowed, "`control.drills` is off"));
            }
            Method::WorkerDump | Method::WorkerUpdateSettings | Method::XWorkerFail => {
                self.ask_a_worker(id, method, ask)?;
            }
            Method::WorkerCreateRouter => self.make_router(id, ask)?,
            Method::XRouterCreateStreamTransport
            | Method::XRouterCreateDirectTransport
            | Method::XRouterCreatePipeTransport => {
                return Err(Fault::new(Code::NotSupported, "what it takes cannot be handed in from outside"));
            }
            _ => return self.ask_on_router(id, entry, method, ask),
        }
        Ok(Rest::Nothing)
    }

    pub(super) fn own(&mut self, id: ControllerId) -> Result<&mut Controller, Fault> {
        let found = self.controllers.list.get_mut(&id);
        found.ok_or_else(gone)
    }

    pub(super) fn check_count(&mut self, id: ControllerId) -> Result<(), Fault> {
        let most = self.controllers.config.max_entities;
        match self.own(id)?.scope.len() < most {
            true => Ok(()),
            false => Err(Fault::new(Code::Limit, format!("the controller has {most} entities"))),
        }
    }

    /// Requests of a worker as a whole: of the one that is named, or of the first.
    fn ask_a_worker(&mut self, id: ControllerId, method: Method, mut ask: Ask) -> Result<(), Fault> {
        let worker = match id_of(&ask.data, "workerId") {
            Some(number) => self.worker_called(number)?,
            None => self.dispatcher.workers().next().ok_or(ControlError::WorkerLost)?,
        };
        ask.data.remove("workerId");
        let asked = Asked { controller: id, request: ask.id, method, subject: None };
        self.ask(worker, method, Internal::default(), Value::Object(ask.data), Reply::Controlled(asked));
        Ok(())
    }

    fn worker_called(&self, number: u32) -> Result<WorkerId, Fault> {
        let found = self.dispatcher.workers().find(|worker| u32::from(worker.0) == number);
        found.ok_or_else(|| Fault::new(Code::UnknownId, format!("no worker {number}")))
    }

    fn make_router(&mut self, id: ControllerId, ask: Ask) -> Result<(), Fault> {
        self.check_count(id)?;
        let worker = match id_of(&ask.data, "workerId") {
            Some(number) => self.worker_called(number)?,
            None => self.dispatcher.least_loaded(&[]).ok_or(ControlError::WorkerLost)?,
        };
        let scope = &mut self.own(id)?.scope;
        let router = match id_of(&ask.internal, "routerId") {
            Some(router) => {
                scope.check_new(router)?;
                router
            }
            None => scope.give(),
        };
        if let Some(linger) = id_of(&ask.data, "linger").filter(|ms| *ms > 0) {
            let most = self.controllers.config.max_linger_ms;
            self.own(id)?.linger.insert(router, u64::from(linger).min(most));
        }
        let ours = self.dispatcher.allocate();
        let (kind, owner) = (Kind::Router, Owner::Controller);
        self.enter(id, router, Entity { kind, owner, ours, worker, router, transport: None });
        let method = Method::WorkerCreateRouter;
        let asked = Asked { controller: id, request: ask.id, method, subject: Some(router) };
        let internal = Internal { router_id: Some(ours), ..Internal::default() };
        self.ask(worker, method, internal, json!({}), Reply::Controlled(asked));
        Ok(())
    }

    fn ask_on_router(
        &mut self,
        id: ControllerId,
        entry: &'static Entry,
        method: Method,
        mut ask: Ask,
    ) -> Result<Rest, Fault> {
        let made = makes(method);
        if made.is_some() {
            self.check_count(id)?;
        }
        let scope = &self.own(id)?.scope;
        let mut internal = Internal::default();
        let router_id = id_of(&ask.internal, Kind::Router.key()).unwrap_or_default();
        let router = scope.get(router_id, Kind::Router)?;
        internal.router_id = Some(router.ours);
        for kind in Kind::ON_ROUTER {
            if made == Some(kind) || !entry.is_internal(kind.key()) {
                continue;
            }
            // Those that may be left out are.
            let Some(named) = id_of(&ask.internal, kind.key()) else { continue };
            let entity = scope.get(named, kind)?;
            if entity.router != router_id {
                let reason = format!("that {} is on another router", kind.as_str());
                return Err(Fault::new(Code::UnknownId, reason));
            }
            let reads = matches!(
                method,
                Method::RouterCreateConsumer
                    | Method::ProducerDump
                    | Method::ProducerGetStats
                    | Method::XTransportConsumeData
                    | Method::XRouterConsumeData
                    | Method::XDataProducerDump
                    | Method::XDataProducerGetStats
            );
            if matches!(entity.owner, Owner::Room(_)) && !reads {
                return Err(Fault::new(Code::NotAllowed, "that is somebody else's in the room"));
            }
            put(&mut internal, kind, entity.ours);
        }
        if let Owner::Member(conn) = router.owner {
            return self.member_asked(id, (conn, router_id), method, (ask, internal));
        }
        if method == Method::XConsumerSetProducer
            && let Some(producer) = id_of(&ask.data, "producerId")
        {
            let source = scope.get(producer, Kind::Producer)?;
            if source.router != router_id {
                return Err(Fault::new(Code::UnknownId, "that producer is on another router"));
            }
            ask.data.insert("producerId".into(), source.ours.into());
        }
        let subject = made.or(ends(method)).and_then(|kind| id_of(&ask.internal, kind.key()));
        if let (Some(kind), Some(new)) = (made, subject) {
            scope.check_new(new)?;
            let ours = self.dispatcher.allocate();
            put(&mut internal, kind, ours);
            let on_it = kind != Kind::Transport && entry.is_internal(Kind::Transport.key());
            let transport = id_of(&ask.internal, Kind::Transport.key()).filter(|_| on_it);
            let (owner, worker) = (Owner::Controller, router.worker);
            let entity = Entity { kind, owner, ours, worker, router: router_id, transport };
            self.enter(id, new, entity);
        }
        // A connection's id stands in log lines; a controller's transports have one of their own.
        ask.data.remove("x.connId");
        let asked = Asked { controller: id, request: ask.id, method, subject };
        self.ask(router.worker, method, internal, Value::Object(ask.data), Reply::Controlled(asked));
        Ok(Rest::Nothing)
    }

    /// Enters an entity and listens to its events.
    fn enter(&mut self, id: ControllerId, name: u32, entity: Entity) {
        if let Ok(controller) = self.own(id) {
            controller.scope.insert(name, entity);
            self.dispatcher.subscribe(entity.ours, entity.worker, Target::Controlled(id));
            if matches!(entity.kind, Kind::Router | Kind::Transport) {
                self.dispatcher.add_load(entity.worker);
            }
        }
    }

    /// Takes an entity out, with all that goes with it.
    pub(super) fn take_out(&mut self, id: ControllerId, name: u32) -> Vec<(u32, Entity)> {
        let Some(controller) = self.controllers.list.get_mut(&id) else { return Vec::new() };
        let gone = controller.scope.remove(name);
        for (name, entity) in &gone {
            controller.linger.remove(name);
            controller.unbound.remove(name);
            if entity.owner != Owner::Controller || entity.kind == Kind::Watch {
                continue;
            }
            self.dispatcher.unsubscribe(entity.ours);
            if matches!(entity.kind, Kind::Router | Kind::Transport) {
                self.dispatcher.drop_load(entity.worker);
            }
        }
        gone
    }

    /// Says of an entity, and of all that goes with it, that it is gone.
    pub(super) fn closed(&mut self, id: ControllerId, name: u32, data: &Value) {
        let gone = self.take_out(id, name);
        let by = gone.last().map(|(_, entity)| entity.kind);
        for (gone, _) in gone {
            // What hangs on something that was asked to end was not asked to itself.
            let with = match by {
                _ if gone == name || data["code"] == Code::WorkerLost.as_str() => None,
                Some(Kind::Router) => Some("router_closed"),
                _ => Some("transport_closed"),
            };
            match with {
                None => self.controllers.tell(id, gone, "close", data),
                Some(code) => {
                    let data = json!({"code": code, "reason": "what it was on is closed"});
                    self.controllers.tell(id, gone, "close", &data);
                }
            }
        }
    }

    /// A worker answered.
    pub(in crate::core::control) fn controlled_answer(&mut self, asked: Asked, answer: Answer) {
        let Asked { controller: id, request, method, subject } = asked;
        let made = makes(method).is_some();
        let result = match answer {
            Ok(mut data) => {
                match subject {
                    Some(name) if !made => {
                        self.closed(id, name, &json!({"code": "closed", "reason": "closed as it was asked"}));
                    }
                    _ => {}
                }
                self.translate(id, (method, subject), &mut data);
                Ok(data)
            }
            Err(error) => {
                if let Some(name) = subject.filter(|_| made) {
                    self.not_made(id, name, &error);
                }
                Err(error.into())
            }
        };
        self.controllers.answer(id, request, &result);
    }

    /// Something was not made. If the worker only did not say so in time, it may be there all the same.
    fn not_made(&mut self, id: ControllerId, name: u32, error: &ControlError) {
        let gone = self.take_out(id, name);
        if *error != ControlError::Timeout {
            return;
        }
        let scope = self.controllers.list.get(&id).map(|controller| &controller.scope);
        let Some((_, entity)) = gone.last().copied() else { return };
        let router = match entity.kind {
            Kind::Router => Some(entity.ours),
            _ => {
                scope.and_then(|scope| scope.get(entity.router, Kind::Router).ok()).map(|router| router.ours)
            }
        };
        let mut internal = Internal { router_id: router, ..Internal::default() };
        put(&mut internal, entity.kind, entity.ours);
        let method = match entity.kind {
            Kind::Router => Method::RouterClose,
            Kind::Transport => Method::TransportClose,
            Kind::Producer => Method::ProducerClose,
            Kind::Consumer => Method::ConsumerClose,
            Kind::DataProducer => Method::XDataProducerClose,
            Kind::DataConsumer => Method::XDataConsumerClose,
            Kind::Watch => return,
        };
        self.tell(entity.worker, method, internal, json!({}));
    }

    /// Puts the controller's ids into an answer; `subject`: the entity asked for, or the attached router.
    pub(super) fn translate(
        &self,
        id: ControllerId,
        (method, subject): (Method, Option<u32>),
        data: &mut Value,
    ) {
        let Some(controller) = self.controllers.list.get(&id) else { return };
        let scope = &controller.scope;
        match method {
            Method::WorkerCreateRouter => {
                let router = subject.and_then(|name| scope.get(name, Kind::Router).ok());
                *data = json!({"routerId": subject, "workerId": router.map(|router| router.worker)});
            }
            Method::WorkerDump => {
                if let Some(routers) = data.get_mut("routers").and_then(Value::as_array_mut) {
                    routers.retain(|router| {
                        let ours = router["routerId"].as_u64().and_then(|ours| u32::try_from(ours).ok());
                        ours.is_some_and(|ours| scope.theirs(ours).is_some())
                    });
                }
                scope.translate(None, data);
                data["rooms"] = self.rooms_on(id, data["workerId"].as_u64());
            }
            Method::TransportGetStats => {
                let transports = data.as_array_mut().into_iter().flatten();
                transports
                    .filter_map(|stats| stats.get_mut("id"))
                    .for_each(|id| scope.translate_id(None, id));
            }
            Method::RouterDump
            | Method::RouterCreateWebRtcTransport
            | Method::RouterCreatePlainRtpTransport
            | Method::TransportDump
            | Method::ProducerDump
            | Method::ConsumerDump
            | Method::ProducerGetStats
            | Method::ConsumerGetStats
            | Method::XTransportProduceData
            | Method::XTransportConsumeData
            | Method::XRouterProduceData
            | Method::XRouterConsumeData
            | Method::XDataProducerDump
            | Method::XDataProducerGetStats
            | Method::XDataConsumerDump
            | Method::XDataConsumerGetStats => scope.translate(subject, data),
            _ => {}
        }
    }

    /// An entity of a controller says something.
    pub(in crate::core::control) fn controlled_event(
        &mut self,
        id: ControllerId,
        ours: u32,
        event: &str,
        mut data: Value,
    ) {
        let Some(controller) = self.controllers.list.get(&id) else { return };
        let Some((name, _)) = controller.scope.theirs(ours) else { return };
        match event {
            "close" => {
                self.closed(id, name, &data);
                return;
            }
            "audiolevels" => controller.scope.translate_levels(&mut data),
            _ => controller.scope.translate(None, &mut data),
        }
        self.controllers.tell(id, name, event, &data);
    }

    /// Ends a router of a controller that is gone.
    pub(super) fn end_router(&mut self, id: ControllerId, name: u32) {
        let Some((_, router)) = self.take_out(id, name).pop() else { return };
        if let Owner::Member(conn) = router.owner {
            self.close_member(conn, CloseReason::left());
        } else {
            self.controllers.swept.push_back((router.worker, router.ours));
            self.sweep();
        }
    }

    /// Closes routers left behind, a few at a time: a worker that is asked too much at once is given up.
    pub(in crate::core::control) fn sweep(&mut self) {
        while self.controllers.sweeping < SWEEP {
            let Some((worker, ours)) = self.controllers.swept.pop_front() else { return };
            self.controllers.sweeping += 1;
            let internal = Internal { router_id: Some(ours), ..Internal::default() };
            self.ask(worker, Method::RouterClose, internal, json!({}), Reply::Swept(worker, ours));
        }
    }

    /// One is closed, or could not be asked for now.
    pub(in crate::core::control) fn swept(&mut self, worker: WorkerId, ours: u32, answer: &Answer) {
        self.controllers.sweeping = self.controllers.sweeping.saturating_sub(1);
        match answer {
            Err(ControlError::Overloaded) => {
                self.controllers.swept.push_back((worker, ours));
                self.timers.set(SWEEP_PAUSE, Timer::Sweep);
            }
            _ => self.sweep(),
        }
    }

    /// A worker failed: whoever had something there is told of each.
    pub(in crate::core::control) fn controllers_lost(&mut self, worker: WorkerId) {
        let on_it = |controller: &Controller| -> Vec<u32> {
            let routers = controller.scope.routers().into_iter();
            let there = |router: &u32| {
                // The peer of an attached one is told by itself.
                let own = |router: Entity| router.owner == Owner::Controller && router.worker == worker;
                controller.scope.get(*router, Kind::Router).is_ok_and(own)
            };
            routers.filter(there).collect()
        };
        let lost: Vec<(ControllerId, u32)> = self
            .controllers
            .list
            .iter()
            .flat_map(|(id, controller)| on_it(controller).into_iter().map(|router| (*id, router)))
            .collect();
        let data = json!({"code": Code::WorkerLost.as_str(), "reason": "the worker that carried it failed"});
        for (id, router) in lost {
            self.closed(id, router, &data);
            self.forget_if_bare(id);
        }
    }
}

/// Names an entity in a request to a worker.
fn put(internal: &mut Internal, kind: Kind, ours: u32) {
    let place = match kind {
        Kind::Router => &mut internal.router_id,
        Kind::Transport => &mut internal.transport_id,
        Kind::Producer => &mut internal.producer_id,
        Kind::Consumer => &mut internal.consumer_id,
        Kind::DataProducer => &mut internal.data_producer_id,
        Kind::DataConsumer => &mut internal.data_consumer_id,
        Kind::Watch => return,
    };
    *place = Some(ours);
}
