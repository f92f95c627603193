//! A worker that answers at once by the protocol and forwards nothing, a converter that converts nothing,
//! and a clock moved by hand. The real worker runs beside the fake one; see `mirror`.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::core::auth::Principal;
use crate::core::capabilities::{Encoding, Kind, RtpCodec, RtpParameters};
use crate::core::control::dispatcher::Link;
use crate::core::control::tests::mirror::{Mirror, Script};
use crate::core::control::{
    Consumed, ControlError, Join, JoinError, Peer, Produce, Rooms, RoomsConfig, WebRtcOptions,
};
use crate::core::convert::{Converter, DirectIn, Format, Job, MixCommand, MixJob, Mixer, Refusal, SlateJob};
use crate::core::id::{ConsumerId, ProducerId, TransportId, WorkerId};
use crate::core::lane::{Closed, Wake};
use crate::core::mail::{Mail, Mailbox};
use crate::core::message::{FromWorker, Internal, Method, Notification, Request, Response};
use crate::core::peer::{CloseReason, PeerKind};
use crate::core::room::RoomName;
use crate::core::time::Epoch;

#[derive(Clone, Default)]
pub struct Post(Arc<Mutex<Vec<Mail>>>);

impl Wake for Post {
    fn wake(&self) {}
}

impl Mailbox for Post {
    fn send(&self, mail: Mail) -> Result<(), Mail> {
        self.0.lock().expect("a lock").push(mail);
        Ok(())
    }

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(self.clone())
    }
}

impl Post {
    fn take(&self, wanted: u64) -> Option<Mail> {
        let mut mails = self.0.lock().expect("a lock");
        let at = mails.iter().position(|mail| match mail {
            Mail::Stream { attach, .. } | Mail::Direct { attach, .. } | Mail::Pipe { attach, .. } => {
                u64::from(*attach) == wanted
            }
        })?;
        Some(mails.remove(at))
    }
}

pub struct Transport {
    router: u32,
    direct: bool,
    mail: Option<Mail>,
}

pub struct Producer {
    router: u32,
    transport: u32,
    pub paused: bool,
    pub data: Value,
}

pub struct Consumer {
    router: u32,
    pub source: Option<u32>,
    pub paused: bool,
    follows: bool,
    transport: Option<u32>,
}

pub struct Worker {
    id: WorkerId,
    pub link: Option<Link>,
    post: Post,
    pub silent: bool,
    pub routers: BTreeSet<u32>,
    pub transports: BTreeMap<u32, Transport>,
    pub producers: BTreeMap<u32, Producer>,
    pub consumers: BTreeMap<u32, Consumer>,
    /// Data producers: their routers and transports.
    pub data_producers: BTreeMap<u32, (u32, Option<u32>)>,
    /// Data consumers: their routers, transports and producers.
    pub data_consumers: BTreeMap<u32, (u32, Option<u32>, u32)>,
    /// Routers that tell levels.
    pub levels: BTreeSet<u32>,
    pub log: Vec<Request>,
    pub refusals: Vec<String>,
    pub refuse: Option<Method>,
    pub mirror: Mirror,
}

type Done = Result<Value, String>;

impl Worker {
    pub fn count(&self, method: Method) -> usize {
        self.log.iter().filter(|request| request.method() == Some(method)).count()
    }

    fn handle(&mut self, request: &Request) -> Done {
        let method = request.method().ok_or("unknown method")?;
        if self.refuse == Some(method) {
            return Err("refused on purpose".into());
        }
        let internal = request.internal;
        if let Some(router) = internal.router_id
            && method != Method::WorkerCreateRouter
            && !self.routers.contains(&router)
        {
            return Err("Router does not exist".into());
        }
        let router = internal.router_id.unwrap_or_default();
        let data = &request.data;
        match method {
            Method::WorkerUpdateSettings => {}
            Method::WorkerCreateRouter => insist(self.routers.insert(router), "Router already exists")?,
            Method::RouterClose => self.close_router(router),
            Method::RouterCreateWebRtcTransport
            | Method::XRouterCreateStreamTransport
            | Method::XRouterCreateDirectTransport
            | Method::XRouterCreatePipeTransport => {
                return self.create_transport(method, router, internal.transport_id, data);
            }
            Method::RouterSetAudioLevelsEvent => match data["enabled"] == true {
                true => insist(self.levels.insert(router), "told already")?,
                false => insist(self.levels.remove(&router), "not told")?,
            },
            Method::ProducerPause | Method::ProducerResume => {
                let paused = method == Method::ProducerPause;
                self.producer(internal.producer_id)?.paused = paused;
            }
            Method::TransportSetRemoteDtlsParameters => return Ok(json!({"role": "server"})),
            Method::XTransportSetRemoteIce => {}
            Method::TransportChangeUfragPwd => {
                return Ok(json!({"usernameFragment": "new", "password": "secret"}));
            }
            Method::TransportDump | Method::TransportGetStats => {
                let id = internal.transport_id.ok_or("missing transportId")?;
                insist(self.transports.contains_key(&id), "transport not found")?;
            }
            Method::TransportClose => self.close_transport(internal.transport_id)?,
            Method::RouterCreateProducer => {
                let transport = internal.transport_id.ok_or("missing transportId")?;
                insist(self.transports.contains_key(&transport), "transport not found")?;
                let id = internal.producer_id.ok_or("missing producerId")?;
                let producer =
                    Producer { router, transport, paused: data["paused"] == true, data: data.clone() };
                insist(self.producers.insert(id, producer).is_none(), "Producer already exists")?;
            }
            Method::ProducerClose => {
                self.close_producer(internal.producer_id.ok_or("missing producerId")?)?
            }
            Method::RouterCreateConsumer => {
                let id = internal.consumer_id.ok_or("missing consumerId")?;
                if let Some(producer) = internal.producer_id {
                    self.check_producer(router, producer)?;
                }
                let follows = internal.producer_id.is_none();
                let consumer = Consumer {
                    router,
                    source: internal.producer_id,
                    paused: false,
                    follows,
                    transport: None,
                };
                insist(self.consumers.insert(id, consumer).is_none(), "Consumer already exists")?;
            }
            Method::ConsumerEnable => {
                let transport = internal.transport_id.ok_or("missing transportId")?;
                insist(self.transports.contains_key(&transport), "transport not found")?;
                insist(data["rtpParameters"]["encodings"][0]["ssrc"].is_u64(), "no ssrc")?;
                self.consumer(internal.consumer_id)?.transport = Some(transport);
            }
            Method::ConsumerPause | Method::ConsumerResume => {
                self.consumer(internal.consumer_id)?.paused = method == Method::ConsumerPause;
            }
            Method::ConsumerRequestKeyFrame | Method::ConsumerGetStats | Method::ConsumerDump => {
                self.consumer(internal.consumer_id)?;
            }
            Method::ProducerGetStats | Method::ProducerDump => drop(self.producer(internal.producer_id)?),
            Method::ConsumerClose => {
                let id = internal.consumer_id.ok_or("missing consumerId")?;
                insist(self.consumers.remove(&id).is_some(), "Consumer not found")?;
            }
            Method::XConsumerSetProducer => {
                let source = data["producerId"].as_u64().map(|id| id as u32);
                if let Some(producer) = source {
                    self.check_producer(router, producer)?;
                }
                self.consumer(internal.consumer_id)?.source = source;
            }
            method if method.as_str().contains("ata") => self.handle_data(method, &internal)?,
            other => return Err(format!("the fake worker knows no {}", other.as_str())),
        }
        Ok(Value::Null)
    }

    fn handle_data(&mut self, method: Method, internal: &Internal) -> Result<(), String> {
        let router = internal.router_id.unwrap_or_default();
        let transport = internal.transport_id;
        let producer = internal.data_producer_id;
        let known = producer.is_some_and(|id| self.data_producers.get(&id).is_some_and(|it| it.0 == router));
        let consumer = internal.data_consumer_id;
        match method {
            Method::XTransportProduceData | Method::XRouterProduceData => {
                insist(transport.is_none_or(|id| self.transports.contains_key(&id)), "transport not found")?;
                let id = producer.ok_or("missing dataProducerId")?;
                insist(self.data_producers.insert(id, (router, transport)).is_none(), "exists")
            }
            Method::XTransportConsumeData | Method::XRouterConsumeData => {
                insist(transport.is_none_or(|id| self.transports.contains_key(&id)), "transport not found")?;
                insist(known, "Data producer not found")?;
                let id = consumer.ok_or("missing dataConsumerId")?;
                let entry = (router, transport, producer.unwrap_or_default());
                insist(self.data_consumers.insert(id, entry).is_none(), "exists")
            }
            Method::XDataProducerClose => {
                insist(known, "Data producer not found")?;
                self.close_data(|id, _| Some(id) == producer);
                Ok(())
            }
            Method::XDataConsumerClose => {
                let id = consumer.ok_or("missing dataConsumerId")?;
                insist(self.data_consumers.remove(&id).is_some(), "Data consumer not found")
            }
            _ if consumer.is_some() => {
                insist(consumer.is_some_and(|id| self.data_consumers.contains_key(&id)), "not found")
            }
            _ => insist(known, "Data producer not found"),
        }
    }

    /// Ends data producers with their consumers.
    fn close_data(&mut self, which: impl Fn(u32, Option<u32>) -> bool) {
        let ended: Vec<_> =
            self.data_producers.extract_if(.., |id, it| which(*id, it.1)).map(|it| it.0).collect();
        self.data_consumers.retain(|_, it| !ended.contains(&it.2));
    }

    fn consumer(&mut self, id: Option<u32>) -> Result<&mut Consumer, String> {
        id.and_then(|id| self.consumers.get_mut(&id)).ok_or("Consumer not found".into())
    }

    fn producer(&mut self, id: Option<u32>) -> Result<&mut Producer, String> {
        id.and_then(|id| self.producers.get_mut(&id)).ok_or("Producer not found".into())
    }

    fn check_producer(&self, router: u32, id: u32) -> Result<(), String> {
        insist(self.producers.get(&id).is_some_and(|p| p.router == router), "Producer not found")
    }

    fn create_transport(&mut self, method: Method, router: u32, id: Option<u32>, data: &Value) -> Done {
        let id = id.ok_or("missing transportId")?;
        let mail = match method {
            Method::RouterCreateWebRtcTransport => None,
            _ => Some(data["attach"].as_u64().and_then(|n| self.post.take(n)).ok_or("no such mail")?),
        };
        let direct = method == Method::XRouterCreateDirectTransport;
        let transport = Transport { router, direct, mail };
        insist(self.transports.insert(id, transport).is_none(), "Transport already exists")?;
        Ok(json!({
            "transportId": id,
            "iceLocalParameters": {"usernameFragment": "u", "password": "p", "iceLite": true},
            "iceLocalCandidates": [],
            "dtlsLocalParameters": {"role": "auto", "fingerprints": []},
        }))
    }

    fn close_transport(&mut self, id: Option<u32>) -> Result<(), String> {
        let id = id.ok_or("missing transportId")?;
        insist(self.transports.remove(&id).is_some(), "transport not found")?;
        let producers: Vec<u32> =
            self.producers.iter().filter(|(_, p)| p.transport == id).map(|(id, _)| *id).collect();
        for producer in producers {
            self.close_producer(producer)?;
        }
        for consumer in self.consumers.values_mut().filter(|c| c.transport == Some(id)) {
            consumer.transport = None;
        }
        self.close_data(|_, transport| transport == Some(id));
        self.data_consumers.retain(|_, it| it.1 != Some(id));
        Ok(())
    }

    fn close_producer(&mut self, id: u32) -> Result<(), String> {
        insist(self.producers.remove(&id).is_some(), "Producer not found")?;
        self.consumers.retain(|_, c| c.follows || c.source != Some(id));
        for consumer in self.consumers.values_mut().filter(|c| c.source == Some(id)) {
            consumer.source = None;
        }
        Ok(())
    }

    fn close_router(&mut self, router: u32) {
        self.routers.remove(&router);
        self.levels.remove(&router);
        self.transports.retain(|_, t| t.router != router);
        self.producers.retain(|_, p| p.router != router);
        self.consumers.retain(|_, c| c.router != router);
        self.data_producers.retain(|_, it| it.0 != router);
        self.data_consumers.retain(|_, it| it.0 != router);
    }

    /// Gives a request to the fake and to the real worker; answers with the real one's answer and events.
    fn answer(&mut self, now: Instant, request: &Request) -> Vec<Vec<u8>> {
        let result = self.handle(request);
        let accepted = result.is_ok();
        if let Err(reason) = &result {
            self.refusals.push(format!("{reason}: {request:?}"));
            if self.refuse.is_some() && self.refuse == request.method() {
                return vec![Response::rejected(request.id, reason.as_str()).to_json()];
            }
        }
        let transport = request.internal.transport_id.and_then(|id| self.transports.get_mut(&id));
        let mail = transport.and_then(|transport| transport.mail.take());
        let outcome = self.mirror.request(now, request, mail);
        let answer = outcome.answer.expect("the real worker answers");
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(outcome.accepted, accepted, "{request:?}: {result:?} here, {text} there");
        let events = outcome.events.iter().map(Notification::to_json);
        std::iter::once(answer).chain(events).collect()
    }

    /// Events of the real worker: what it ended by itself ends here too.
    fn follow(&mut self, events: Vec<Notification>) -> Vec<Vec<u8>> {
        for event in events.iter().filter(|event| event.event == "close") {
            if self.transports.contains_key(&event.target_id) {
                self.close_transport(Some(event.target_id)).expect("a transport");
            }
            self.close_data(|id, _| id == event.target_id);
            self.data_consumers.remove(&event.target_id);
        }
        events.iter().map(Notification::to_json).collect()
    }

    pub fn is_bare(&self) -> bool {
        self.routers.is_empty()
            && self.transports.is_empty()
            && self.producers.is_empty()
            && self.consumers.is_empty()
            && self.data_producers.is_empty()
            && self.data_consumers.is_empty()
    }
}

fn insist(holds: bool, reason: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason.to_owned()) }
}

/// Turns AAC into Opus and reordered H.264 into ordered, as often at once as it is told.
pub struct Stub {
    pub jobs: Mutex<Vec<Job>>,
    pub limit: Mutex<usize>,
    refused: Mutex<usize>,
    slates: Mutex<Vec<SlateJob>>,
}

impl Stub {
    /// Jobs whose lanes are open.
    pub fn running(&self) -> usize {
        let jobs = self.jobs.lock().expect("a lock");
        let open = |job: &&Job| loop {
            match job.input.pop() {
                Ok(Some(_)) => {}
                Ok(None) => break true,
                Err(Closed) => break false,
            }
        };
        jobs.iter().filter(open).count()
    }

    /// Slates whose lanes are open.
    pub fn slates(&self) -> usize {
        let slates = self.slates.lock().expect("a lock");
        slates.iter().filter(|slate| !matches!(slate.input.pop(), Err(Closed))).count()
    }

    /// How often it had no place.
    pub fn refused(&self) -> usize {
        *self.refused.lock().expect("a lock")
    }

    pub fn started(&self) -> usize {
        self.jobs.lock().expect("a lock").len()
    }
}

impl Converter for Stub {
    fn target(&self, from: &Format, accepted: &[RtpCodec]) -> Option<Format> {
        let wanted = match () {
            () if from.codec.is("audio/mpeg4-generic") => "audio/opus",
            () if from.codec.is("video/H264") => "video/H264",
            () => return None,
        };
        let codec = accepted.iter().find(|codec| codec.is(wanted))?.clone();
        Some(Format { kind: from.kind, codec, config: Vec::new(), reordered: false })
    }

    fn start(&self, job: Job) -> Result<(), Refusal> {
        if self.running() >= *self.limit.lock().expect("a lock") {
            *self.refused.lock().expect("a lock") += 1;
            return Err(Refusal::Busy("all converters are busy".into()));
        }
        self.jobs.lock().expect("a lock").push(job);
        Ok(())
    }

    fn slate(&self, accepted: &[RtpCodec]) -> Option<Format> {
        let codec = accepted.iter().find(|codec| codec.is("video/H264"))?.clone();
        Some(Format { kind: Kind::Video, codec, config: Vec::new(), reordered: false })
    }

    fn show_slate(&self, job: SlateJob) -> Result<(), Refusal> {
        self.slates.lock().expect("a lock").push(job);
        Ok(())
    }
}

/// Mixes Opus and PCMU into either, as often at once as it is told.
#[derive(Default)]
pub struct MixStub {
    jobs: Mutex<Vec<MixJob>>,
    pub full: Mutex<bool>,
    pub opus_only: Mutex<bool>,
}

impl MixStub {
    /// Mixes whose lanes are open.
    pub fn running(&self) -> usize {
        let jobs = self.jobs.lock().expect("a lock");
        let open = |job: &&MixJob| loop {
            match job.input.pop() {
                Ok(Some(_)) => {}
                Ok(None) => break true,
                Err(Closed) => break false,
            }
        };
        jobs.iter().filter(open).count()
    }

    pub fn started(&self) -> usize {
        self.jobs.lock().expect("a lock").len()
    }

    /// What the last mix was told since the last look.
    pub fn told(&self) -> Vec<MixCommand> {
        let jobs = self.jobs.lock().expect("a lock");
        jobs.last().map(|job| job.commands.try_iter().collect()).unwrap_or_default()
    }

    fn say(&self, value: DirectIn) {
        let jobs = self.jobs.lock().expect("a lock");
        jobs.last().expect("a mix").output.send(value).expect("an open lane");
    }
}

impl Mixer for MixStub {
    fn takes(&self, from: &Format) -> bool {
        from.codec.is("audio/opus") || from.codec.is("audio/PCMU")
    }

    fn output(&self, accepted: &[RtpCodec]) -> Option<Format> {
        let codec = accepted.iter().find(|codec| codec.is("audio/opus") || codec.is("audio/PCMU"))?.clone();
        Some(Format { kind: Kind::Audio, codec, config: Vec::new(), reordered: false })
    }

    fn passes(&self, codec: &RtpCodec) -> bool {
        codec.is("audio/opus") || !*self.opus_only.lock().expect("a lock")
    }

    fn mix(&self, job: MixJob) -> Result<(), Refusal> {
        if *self.full.lock().expect("a lock") {
            return Err(Refusal::Busy("all mixers are busy".into()));
        }
        self.jobs.lock().expect("a lock").push(job);
        Ok(())
    }
}

pub struct Net {
    pub rooms: Rooms,
    pub mixer: Arc<MixStub>,
    pub workers: Vec<Worker>,
    pub stub: Arc<Stub>,
    now: Instant,
    epoch: Epoch,
    ssrc: u32,
}

impl Net {
    pub fn new(workers: u16, change: impl FnOnce(&mut RoomsConfig)) -> Self {
        let mut config = RoomsConfig::default();
        change(&mut config);
        let now = Instant::now();
        let stub = Arc::new(Stub {
            jobs: Mutex::default(),
            limit: Mutex::new(10),
            refused: Mutex::default(),
            slates: Mutex::default(),
        });
        let epoch = Epoch { instant: now, unix: Duration::ZERO };
        let mixer = Arc::new(MixStub::default());
        let rooms = Rooms::new(config, epoch, Some(stub.clone())).with_mixer(mixer.clone());
        let mut net = Net { rooms, mixer, workers: Vec::new(), stub, now, epoch, ssrc: 0 };
        for id in 0..workers {
            let post = Post::default();
            let link = Some(net.rooms.worker_up(WorkerId(id), Arc::new(post.clone())));
            net.workers.push(new_worker(WorkerId(id), link, post, epoch));
        }
        net
    }

    /// Handles what waits for the workers until nothing does.
    pub fn pump(&mut self) {
        self.rooms.handle_time(self.now);
        let mut cx = Context::from_waker(Waker::noop());
        let mut again = true;
        while again {
            again = false;
            for worker in &mut self.workers {
                let Some(link) = worker.link else { continue };
                while let Poll::Ready(Some(json)) = self.rooms.poll_send(link, &mut cx) {
                    again = true;
                    let request = Request::parse(&json).expect("a request");
                    if !worker.silent {
                        for message in worker.answer(self.now, &request) {
                            assert!(FromWorker::parse(&message).is_some());
                            self.rooms.receive(link, &message);
                        }
                    }
                    worker.log.push(request);
                }
            }
        }
    }

    /// Runs `future` to its end while the workers do their part.
    pub fn run<F: Future>(&mut self, future: F) -> F::Output {
        self.poll(future).expect("the workers answered all, and yet it waits")
    }

    /// Polls `future`, lets the workers do their part, and polls it once more.
    pub fn poll<F: Future>(&mut self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut cx = Context::from_waker(Waker::noop());
        let first = future.as_mut().poll(&mut cx);
        self.pump();
        match first {
            Poll::Ready(output) => Some(output),
            Poll::Pending => match future.poll(&mut cx) {
                Poll::Ready(output) => Some(output),
                Poll::Pending => None,
            },
        }
    }

    pub fn advance(&mut self, millis: u64) {
        self.pump();
        self.now += Duration::from_millis(millis);
        self.pump();
    }

    /// The session behind a transport says something.
    pub fn event(&mut self, worker: usize, target: TransportId, event: &str, data: Value) {
        let worker = &mut self.workers[worker];
        let events = worker.mirror.say(self.now, target.0, event, data);
        let link = worker.link.expect("a live worker");
        for message in worker.follow(events) {
            self.rooms.receive(link, &message);
        }
        self.pump();
    }

    /// The newest conversion breaks.
    pub fn break_conversion(&mut self, worker: usize, reason: &str) {
        let failed = DirectIn::Failed(reason.into());
        let sent = self.stub.jobs.lock().expect("a lock").last().expect("a job").output.send(failed);
        assert!(sent.is_ok());
        self.lanes(worker);
    }

    /// Lets what waits in pipes, and for controllers, go on until all is quiet.
    pub fn flow(&mut self) {
        for _ in 0..4 {
            let live = |worker: &usize| self.workers[*worker].link.is_some();
            let live: Vec<usize> = (0..self.workers.len()).filter(live).collect();
            live.into_iter().for_each(|worker| self.lanes(worker));
        }
    }

    /// The last mix says something.
    pub fn mix_says(&mut self, value: DirectIn) {
        self.mixer.say(value);
        self.lanes(0);
    }

    /// The numbers of the tracks that the room's mix takes.
    pub fn voices_in_mix(&self) -> Vec<u32> {
        let worker = &self.workers[0];
        let of_mix = |consumer: &Consumer| {
            let transport = consumer.transport.and_then(|at| worker.transports.get(&at));
            consumer.follows && transport.is_some_and(|transport| transport.direct)
        };
        worker.consumers.iter().filter(|(_, consumer)| of_mix(consumer)).map(|(id, _)| *id).collect()
    }

    /// The mix finds a publisher the loudest.
    pub fn speaks(&mut self, voice: ProducerId) {
        let source = Some(voice.0);
        let taken = |consumer: &&Consumer| consumer.source == source && consumer.follows;
        let mut consumers = self.workers[0].consumers.iter();
        let of_mix =
            |transport: Option<u32>| transport.is_some_and(|at| self.workers[0].transports[&at].direct);
        let found = consumers.find(|(_, consumer)| taken(consumer) && of_mix(consumer.transport));
        let track = *found.expect("a voice in the mix").0;
        for _ in 0..4 {
            self.mix_says(DirectIn::Event { name: "x.levels", data: json!({"entries": [[track, -30]]}) });
        }
    }

    /// The router of the room says how loud tracks are.
    pub fn hears(&mut self, levels: &[(ProducerId, i8)]) {
        let router = *self.workers[0].levels.iter().next().expect("a router that tells levels");
        let event = Notification::new(router, "audiolevels", json!({"entries": levels}));
        let link = self.workers[0].link.expect("a live worker");
        self.rooms.receive(link, &event.to_json());
        self.pump();
    }

    fn lanes(&mut self, worker: usize) {
        let worker = &mut self.workers[worker];
        let events = worker.mirror.lanes(self.now);
        let link = worker.link.expect("a live worker");
        for message in worker.follow(events) {
            self.rooms.receive(link, &message);
        }
        self.pump();
    }

    pub fn kill(&mut self, worker: usize) {
        let id = self.workers[worker].id;
        if let Some(link) = self.workers[worker].link.take() {
            self.rooms.worker_lost(link);
        }
        self.workers[worker] = new_worker(id, None, Post::default(), self.epoch);
    }

    pub fn revive(&mut self, worker: usize) {
        let dead = &mut self.workers[worker];
        dead.link = Some(self.rooms.worker_up(dead.id, Arc::new(dead.post.clone())));
    }

    pub fn try_join(&mut self, publishes: bool, change: impl FnOnce(&mut Join)) -> Result<Peer, JoinError> {
        let room = RoomName::new("room", &[]).expect("a name");
        let kind = if publishes { PeerKind::Whip } else { PeerKind::Whep };
        let mut join = Join { publishes, ..Join::new(room, kind, Principal::anonymous()) };
        change(&mut join);
        let rooms = self.rooms.clone();
        self.run(rooms.join(join))
    }

    pub fn join_publisher(&mut self, name: &str) -> Peer {
        self.try_join(true, |join| join.name = Some(name.into())).expect("let in")
    }

    /// A WHIP publisher with the given codecs; returns its producers in their order.
    pub fn publish(&mut self, name: &str, codecs: &[RtpCodec]) -> (Peer, Vec<ProducerId>) {
        let peer = self.join_publisher(name);
        let transport =
            self.run(peer.create_webrtc_transport(WebRtcOptions::default())).expect("a transport").id;
        let producers = codecs.iter().map(|codec| self.produce(&peer, transport, codec)).collect();
        (peer, producers)
    }

    pub fn produce(&mut self, peer: &Peer, transport: TransportId, codec: &RtpCodec) -> ProducerId {
        self.ssrc += 1;
        let rtp = one(codec, self.ssrc);
        self.run(peer.produce(transport, Produce::new(kind_of(codec), rtp))).expect("a producer")
    }

    /// A member that takes each track by itself, sends the given codecs, and has a transport to receive by.
    pub fn member(&mut self, name: &str, codecs: &[RtpCodec]) -> (Peer, Vec<ProducerId>, TransportId) {
        let change = |join: &mut Join| (join.name, join.kind) = (Some(name.to_owned()), PeerKind::RoomV2);
        let peer = self.try_join(true, change).expect("let in");
        let transport =
            self.run(peer.create_webrtc_transport(WebRtcOptions::default())).expect("a transport").id;
        let producers = codecs.iter().map(|codec| self.produce(&peer, transport, codec)).collect();
        let options = WebRtcOptions { receives: true, ..WebRtcOptions::default() };
        let receive = self.run(peer.create_webrtc_transport(options)).expect("a transport").id;
        (peer, producers, receive)
    }

    /// Has a member take a track in one of `codecs`.
    pub fn take(
        &mut self,
        peer: &Peer,
        transport: TransportId,
        track: ProducerId,
        codecs: &[RtpCodec],
    ) -> Result<Consumed, ControlError> {
        self.ssrc += 1;
        let rtp = RtpParameters { codecs: codecs.to_vec(), ..one(&codecs[0], self.ssrc) };
        self.run(peer.consume(transport, track, rtp, false))
    }

    /// A party that sends and hears, as a telephone does: its producer and its consumer.
    pub fn call(&mut self, name: &str, codec: &RtpCodec) -> (Peer, ProducerId, ConsumerId) {
        let peer = self.join_publisher(name);
        let transport =
            self.run(peer.create_webrtc_transport(WebRtcOptions::default())).expect("a transport").id;
        let producer = self.produce(&peer, transport, codec);
        self.ssrc += 1;
        let consumer = self.run(peer.consume_program(transport, Kind::Audio, one(codec, self.ssrc)));
        (peer, producer, consumer.expect("a consumer"))
    }

    /// A stream session's peer and transport.
    pub fn stream(&mut self, name: &str) -> (Peer, TransportId) {
        let kind = PeerKind::Rtmp;
        let change = |join: &mut Join| (join.name, join.kind) = (Some(name.to_owned()), kind);
        let peer = self.try_join(true, change).expect("let in");
        let script = Script::default();
        let transport = self.run(peer.adopt(Box::new(script.clone()), None)).expect("adopted");
        for worker in &mut self.workers {
            if let Some(here) = worker.transports.get(&transport.0) {
                let router_id = Some(here.router);
                let internal = Internal { router_id, transport_id: Some(transport.0), ..Internal::default() };
                worker.mirror.note(script.clone(), internal);
            }
        }
        (peer, transport)
    }

    /// The producers of a peer, in their order.
    pub fn tracks(&self, peer: &Peer) -> Vec<ProducerId> {
        let peers = self.rooms.peers(&peer.room()).expect("a room");
        let peer = peers.iter().find(|detail| detail.info.conn == peer.conn()).expect("in the room");
        peer.tracks.iter().map(|track| track.producer).collect()
    }

    /// A WHEP viewer of the program with one consumer a codec.
    pub fn view(&mut self, codecs: &[RtpCodec]) -> (Peer, Vec<ConsumerId>) {
        self.view_of(None, codecs)
    }

    pub fn view_of(&mut self, watch: Option<&str>, codecs: &[RtpCodec]) -> (Peer, Vec<ConsumerId>) {
        let peer = self.try_join(false, |join| join.watch = watch.map(Into::into)).expect("let in");
        let transport =
            self.run(peer.create_webrtc_transport(WebRtcOptions::default())).expect("a transport").id;
        let consume = |codec: &RtpCodec| {
            self.ssrc += 1;
            let pending = peer.consume_program(transport, kind_of(codec), one(codec, self.ssrc));
            self.run(pending).expect("a consumer")
        };
        let consumers = codecs.iter().map(consume).collect();
        (peer, consumers)
    }

    pub fn leave(&mut self, peer: &Peer) {
        self.run(peer.close(CloseReason::left()));
    }

    /// The producer a consumer is fed from, as its worker sees it.
    pub fn source(&self, consumer: ConsumerId) -> Option<ProducerId> {
        let found = self.workers.iter().find_map(|worker| worker.consumers.get(&consumer.0));
        found.expect("a consumer of that number").source.map(ProducerId)
    }

    pub fn closed(&mut self, peer: &Peer) -> Option<CloseReason> {
        self.poll(peer.closed())
    }

    pub fn error<T: std::fmt::Debug>(result: Result<T, ControlError>) -> ControlError {
        result.expect_err("it should have failed")
    }

    /// Nobody is left and nothing of anybody; no worker had a reason to refuse anything.
    pub fn assert_clean(&mut self) {
        self.pump();
        assert!(self.rooms.summaries().is_empty());
        for worker in &self.workers {
            assert_eq!(worker.refusals, Vec::<String>::new());
            assert!(worker.is_bare(), "something is left on {:?}", worker.id);
            assert!(worker.post.0.lock().expect("a lock").is_empty(), "mail is left");
        }
        assert_eq!(self.stub.running(), 0);
        assert_eq!(self.mixer.running(), 0);
        assert_eq!(self.rooms.step(|state| (state.members.len(), state.jobs.len())), (0, 0));
        assert_eq!(self.rooms.step(|state| (state.owners.len(), state.waiting.len())), (0, 0));
        assert_eq!(self.rooms.step(|state| state.shared.len()), 0);
        assert!(self.rooms.step(|state| state.data.is_empty()));
        assert_eq!(self.rooms.step(|state| (state.mixes.len(), state.unmixed.len())), (0, 0));
        assert_eq!(self.rooms.step(|state| state.dispatcher.subscriptions()), 0);
    }
}

fn new_worker(id: WorkerId, link: Option<Link>, post: Post, epoch: Epoch) -> Worker {
    Worker {
        id,
        link,
        post,
        silent: false,
        routers: BTreeSet::new(),
        transports: BTreeMap::new(),
        producers: BTreeMap::new(),
        consumers: BTreeMap::new(),
        data_producers: BTreeMap::new(),
        data_consumers: BTreeMap::new(),
        levels: BTreeSet::new(),
        log: Vec::new(),
        refusals: Vec::new(),
        refuse: None,
        mirror: Mirror::new(id, epoch),
    }
}

fn kind_of(codec: &RtpCodec) -> Kind {
    if codec.mime_type.starts_with("audio/") { Kind::Audio } else { Kind::Video }
}

pub fn codec(mime_type: &str, clock_rate: u32) -> RtpCodec {
    let payload_type = 96 + mime_type.len();
    let json = json!({"mimeType": mime_type, "payloadType": payload_type, "clockRate": clock_rate});
    serde_json::from_value(json).expect("a codec")
}

pub fn opus() -> RtpCodec {
    RtpCodec { channels: Some(2), ..codec("audio/opus", 48_000) }
}

pub fn aac() -> RtpCodec {
    RtpCodec { channels: Some(2), ..codec("audio/mpeg4-generic", 44_100) }
}

pub fn pcmu() -> RtpCodec {
    codec("audio/PCMU", 8_000)
}

pub fn h264() -> RtpCodec {
    codec("video/H264", 90_000)
}

pub fn vp8() -> RtpCodec {
    codec("video/VP8", 90_000)
}

pub fn one(codec: &RtpCodec, ssrc: u32) -> RtpParameters {
    RtpParameters {
        codecs: vec![codec.clone()],
        encodings: vec![Encoding { ssrc: Some(ssrc), ..Encoding::default() }],
        ..RtpParameters::default()
    }
}
