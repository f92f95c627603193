//! Requests of the control protocol. Each method is one function; what the protocol leaves undefined (a
//! wrong type, an id of another router) is answered with an error that names it.

use std::sync::Arc;
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::error;

use crate::core::capabilities::{Kind, RtpMapping, RtpParameters};
use crate::core::consumer::{Consumer, FrameOutput, Output, PipeOutput, RtpOutput};
use crate::core::id::{ConnId, ConsumerId, ProducerId, RouterId, TransportId};
use crate::core::mail::Mail;
use crate::core::message::{Method, Request, Response};
use crate::core::producer::{FrameInput, Input, Producer, RtpInput};
use crate::core::router::Router;
use crate::core::session::{Command, DtlsRole, Ending, Fingerprint};
use crate::core::transport::stream::StreamTransport;
use crate::core::transport::webrtc::WebRtcTransport;
use crate::core::transport::{Transport, TransportKind};
use crate::core::worker::legs::add_comfort_noise;
use crate::core::worker::{Action, Place, Space, Worker};

pub(super) type Answer = Result<Value, String>;

impl Worker {
    /// Takes one request. What has no id cannot be answered and is dropped.
    pub fn handle_control(&mut self, now: Instant, json: &[u8]) {
        let Some(request) = Request::parse(json) else {
            error!(bytes = json.len(), "a control message that is no request");
            return;
        };
        let result = match request.method() {
            // Answered when their sockets are open.
            Some(Method::RouterCreatePlainRtpTransport) => match self.create_plain(now, &request) {
                Ok(()) => return,
                Err(reason) => Err(reason),
            },
            Some(Method::TransportStartMirroring) => match self.start_mirroring(&request) {
                Ok(()) => return,
                Err(reason) => Err(reason),
            },
            Some(method) if method.is_of_data_channels() => self.data_request(now, method, &request),
            Some(method) => self.carry_out(now, method, &request),
            None => Err(format!("unknown method \"{}\"", request.method)),
        };
        let response = Response { id: request.id, result };
        self.answers.push_back(response.to_json());
    }

    fn carry_out(&mut self, now: Instant, method: Method, request: &Request) -> Answer {
        let data = &request.data;
        match method {
            // Whoever runs the worker replaces it, as after any panic.
            Method::XWorkerFail => panic!("asked to fail, to rehearse it"),
            Method::WorkerDump => Ok(self.dump()),
            Method::WorkerUpdateSettings => self.update_settings(request),
            Method::WorkerCreateRouter => self.create_router(request),
            Method::RouterClose => self.close_router(now, request),
            Method::RouterDump => self.router_dump(request),
            Method::RouterSetAudioLevelsEvent => self.set_audio_levels(now, request),
            Method::RouterCreateWebRtcTransport => self.create_webrtc_transport(now, request),
            Method::XRouterCreateStreamTransport
            | Method::XRouterCreateDirectTransport
            | Method::XRouterCreatePipeTransport => self.attach_transport(now, request),
            Method::RouterCreateProducer => self.create_producer(now, request),
            Method::RouterCreateConsumer => self.create_consumer(now, request),
            Method::TransportClose => self.close_transport(now, request),
            Method::TransportDump => self.transport_dump(request),
            Method::TransportGetStats => self.transport_stats(now, request),
            Method::TransportSetRemoteParameters => self.connect_plain(now, request),
            Method::XConsumerSendDtmf => self.send_dtmf(now, request),
            Method::TransportSetRemoteDtlsParameters => self.set_remote_dtls(now, request),
            Method::TransportSetMaxBitrate => self.set_max_bitrate(request),
            Method::TransportStopMirroring => self.stop_mirroring(request),
            Method::XTransportSetRemoteIce => {
                let (ufrag, pwd) = (field(data, "usernameFragment")?, field(data, "password")?);
                let place = self.transport(request)?;
                self.session_command(now, place, Command::SetRemoteIce { ufrag, pwd })
            }
            Method::TransportChangeUfragPwd => {
                let place = self.transport(request)?;
                self.session_command(now, place, Command::RestartIce)
            }
            Method::ProducerClose => {
                let place = self.producer(request)?;
                self.end_producer(place);
                Ok(json!({}))
            }
            Method::ProducerDump => self.with_producer(request, |producer| producer.dump()),
            Method::ProducerGetStats => {
                let media = self.epoch.media_time(now);
                let place = self.producer(request)?;
                let space = self.spaces.get(place.0).ok_or("Router does not exist")?;
                let producer = space.router.producers.get(place.1).ok_or("Producer does not exist")?;
                Ok(producer.stats(space.transport_id(producer.transport), media))
            }
            Method::ProducerPause | Method::ProducerResume => {
                self.pause_producer(now, request, method == Method::ProducerPause)
            }
            Method::ConsumerClose => {
                let place = self.consumer(request)?;
                self.end_consumer(place, "closed");
                Ok(json!({}))
            }
            Method::ConsumerDump => self.consumer_dump(request),
            Method::ConsumerGetStats => {
                let media = self.epoch.media_time(now);
                let place = self.consumer(request)?;
                let space = self.spaces.get(place.0).ok_or("Router does not exist")?;
                let consumer = space.router.consumers.get(place.1).ok_or("Consumer does not exist")?;
                let own = consumer.transport.and_then(|key| space.transport_id(key));
                let source = consumer.producer.and_then(|key| space.router.producers.get(key));
                let source = source.map(|source| (source, space.transport_id(source.transport)));
                Ok(consumer.stats(media, own, source))
            }
            Method::ConsumerEnable => self.enable_consumer(now, request),
            Method::ConsumerPause | Method::ConsumerResume => {
                self.pause_consumer(now, request, method == Method::ConsumerPause)
            }
            Method::XConsumerSetProducer => self.set_producer(now, request),
            Method::ProducerSetPreferredProfile => self.prefer_for_all(now, request),
            Method::ConsumerSetPreferredProfile => self.prefer_profile(now, request),
            Method::ConsumerSetEncodingPreferences | Method::XConsumerSetPreferredLayers => {
                self.prefer_layers(now, request)
            }
            Method::XConsumerSetPriority => self.set_priority(now, request),
            Method::ConsumerRequestKeyFrame => {
                let place = self.consumer(request)?;
                self.lost_picture(place.0, (place.1, None), self.epoch.media_time(now));
                Ok(json!({}))
            }
            _ => Err(format!("method \"{}\" is not supported by this version", request.method)),
        }
    }

    fn dump(&self) -> Value {
        let routers: Vec<_> = self.spaces.iter().map(|(_, space)| router_dump(space)).collect();
        let id = self.config.channel.as_ref().map_or_else(|| json!(self.config.id), |own| json!(own.name));
        json!({"workerId": id, "routers": routers})
    }

    fn create_router(&mut self, request: &Request) -> Answer {
        let id = request.internal.router_id.ok_or("internal.routerId is missing")?;
        if self.routers.contains_key(&id) {
            return Err("Router already exists".into());
        }
        let router = Router::new(RouterId(id));
        let key = self.spaces.insert(Space { router, transports: slab::Slab::new(), levels: None });
        self.routers.insert(id, key);
        Ok(json!({}))
    }

    fn close_router(&mut self, now: Instant, request: &Request) -> Answer {
        let key = self.router(request)?;
        self.end_router(now, key, &reason(&request.data, "router closed"));
        Ok(json!({}))
    }

    /// The worker ends: whoever is still there is told.
    pub fn handle_shutdown(&mut self, now: Instant) {
        let routers: Vec<_> = self.spaces.iter().map(|(key, _)| key).collect();
        routers.into_iter().for_each(|key| self.end_router(now, key, "the worker ends"));
    }

    /// Takes a router away with all that is in it.
    fn end_router(&mut self, now: Instant, key: usize, reason: &str) {
        let transports: Vec<_> = self
            .spaces
            .get(key)
            .map(|space| space.transports.iter().map(|(at, _)| at).collect())
            .unwrap_or_default();
        for at in transports {
            self.say_goodbye(now, (key, at), reason);
            self.end_transport((key, at), reason, Ending::Closed);
        }
        let consumers: Vec<_> = self
            .spaces
            .get(key)
            .map(|space| space.router.consumers.iter().map(|(at, _)| at).collect())
            .unwrap_or_default();
        consumers.into_iter().for_each(|at| self.end_consumer((key, at), "router_closed"));
        self.end_data_of_router(now, key);
        self.forget_audio_levels(key);
        self.spaces.try_remove(key);
        self.routers.retain(|_, at| *at != key);
    }

    fn router_dump(&self, request: &Request) -> Answer {
        let key = self.router(request)?;
        self.spaces.get(key).map(router_dump).ok_or_else(|| "Router does not exist".into())
    }

    fn create_webrtc_transport(&mut self, now: Instant, request: &Request) -> Answer {
        let (key, id) = self.new_transport(request)?;
        let session = self.factory.webrtc(now, self.epoch, &request.data, &self.config.candidates)?;
        let ssrc = self.random() as u32 | 1;
        let kind = TransportKind::WebRtc(Box::new(WebRtcTransport::new(session, ssrc, self.config.rates)));
        let place = self.insert_transport(key, id, &request.data, kind);
        self.drain_session(now, place, None);
        self.transport_dump(request)
    }

    /// Stream, Direct and Pipe transports: around what was mailed before.
    fn attach_transport(&mut self, now: Instant, request: &Request) -> Answer {
        let (key, id) = self.new_transport(request)?;
        let attach: u32 = field(&request.data, "attach")?;
        let at = self.mail.iter().position(|(number, ..)| *number == attach);
        let (_, mail, stream) =
            at.and_then(|at| self.mail.remove(at)).ok_or_else(|| format!("no mail numbered {attach}"))?;
        let kind = match (request.method(), mail) {
            (Some(Method::XRouterCreateStreamTransport), Mail::Stream { session, .. }) => {
                TransportKind::Stream(Box::new(StreamTransport::new(session, stream)))
            }
            (Some(Method::XRouterCreateDirectTransport), Mail::Direct { input, output, .. }) => {
                TransportKind::Direct { input, output: Arc::new(output) }
            }
            (Some(Method::XRouterCreatePipeTransport), Mail::Pipe { input, output, .. }) => {
                TransportKind::Pipe { input, output: Arc::new(output) }
            }
            _ => {
                self.actions.extend(stream.map(|stream| Action::Close { stream }));
                return Err(format!("mail {attach} is not what {} takes", request.method));
            }
        };
        let lanes = !matches!(kind, TransportKind::Stream(_));
        let place = self.insert_transport(key, id, &request.data, kind);
        if lanes {
            self.lanes.push(place);
        }
        if let Some(stream) = stream {
            self.streams.insert(stream, place);
        }
        self.drain_session(now, place, None);
        Ok(json!({"transportId": id}))
    }

    pub(super) fn new_transport(&self, request: &Request) -> Result<(usize, u32), String> {
        let key = self.router(request)?;
        let id = request.internal.transport_id.ok_or("internal.transportId is missing")?;
        if self.transports.contains_key(&id) {
            return Err("Transport already exists".into());
        }
        Ok((key, id))
    }

    pub(super) fn insert_transport(
        &mut self,
        key: usize,
        id: u32,
        data: &Value,
        kind: TransportKind,
    ) -> Place {
        let conn = data.get("x.connId").and_then(Value::as_str).and_then(ConnId::parse);
        let conn = conn.unwrap_or_else(|| ConnId::new(0, self.config.id, u128::from(id)));
        let transport = Transport::new(TransportId(id), conn, kind);
        let at = self.spaces.get_mut(key).map(|space| space.transports.insert(transport)).unwrap_or_default();
        self.transports.insert(id, (key, at));
        (key, at)
    }

    fn create_producer(&mut self, now: Instant, request: &Request) -> Answer {
        let place = self.transport(request)?;
        let id = request.internal.producer_id.ok_or("internal.producerId is missing")?;
        if self.producers.contains_key(&id) {
            return Err("Producer already exists".into());
        }
        let kind: Kind = field(&request.data, "kind")?;
        let mut parameters: RtpParameters = field(&request.data, "rtpParameters")?;
        let mapping: RtpMapping = match request.data.get("rtpMapping") {
            Some(_) => field(&request.data, "rtpMapping")?,
            None => RtpMapping::default(),
        };
        let track = request.data.get("x.track").and_then(Value::as_u64).map(|track| track as u32);
        parameters.check_sent(kind)?;
        let codec = parameters.codecs.iter().find(|codec| !codec.is_feature());
        let codec = codec.ok_or("rtpParameters.codecs holds no media codec")?.clone();
        let limits = self.config.store(kind == Kind::Video);
        let media = self.epoch.media_time(now);
        let space = self.spaces.get_mut(place.0).ok_or("Router does not exist")?;
        let transport = space.transports.get_mut(place.1).ok_or("Transport does not exist")?;
        if matches!(transport.kind, TransportKind::WebRtc(_) | TransportKind::Plain(_)) {
            let others = transport.producers.iter().filter_map(|key| space.router.producers.get(*key));
            for other in others {
                parameters.check_beside(&other.parameters)?;
            }
        }
        let input = match &transport.kind {
            TransportKind::WebRtc(_) => Input::Rtp(Box::new(RtpInput::new(&parameters))),
            TransportKind::Plain(_) => {
                add_comfort_noise(&mut parameters.codecs, &codec);
                Input::Rtp(Box::new(RtpInput::new(&parameters)))
            }
            TransportKind::Stream(_) | TransportKind::Direct { .. } => {
                Input::Frames(FrameInput::new(track.unwrap_or(0), &codec))
            }
            TransportKind::Pipe { .. } => Input::Pipe { track: track.ok_or("data[\"x.track\"] is missing")? },
        };
        let mut producer =
            Producer::new(ProducerId(id), transport.conn, kind, place.1, parameters, input, limits)?;
        producer.set_mapping(mapping);
        let key = space.router.producers.insert(producer);
        let added = match &mut transport.kind {
            TransportKind::WebRtc(webrtc) => {
                webrtc.add_producer(key, &space.router);
                Ok(())
            }
            TransportKind::Plain(plain) => {
                plain.add_producer(key, &mut space.router);
                Ok(())
            }
            TransportKind::Stream(stream) => stream.attach(track.unwrap_or(0), key, &mut space.router, media),
            _ => Ok(()),
        };
        if let Err(fault) = added {
            space.router.remove_producer(key);
            return Err(fault);
        }
        transport.producers.push(key);
        self.producers.insert(id, (place.0, key));
        if request.data.get("paused").and_then(Value::as_bool) == Some(true) {
            self.set_producer_paused((place.0, key), true);
        }
        self.reschedule(place);
        Ok(json!({}))
    }

    fn create_consumer(&mut self, now: Instant, request: &Request) -> Answer {
        let key = self.router(request)?;
        let id = request.internal.consumer_id.ok_or("internal.consumerId is missing")?;
        if self.consumers.contains_key(&id) {
            return Err("Consumer already exists".into());
        }
        let kind: Kind = field(&request.data, "kind")?;
        let source = match request.internal.producer_id {
            Some(_) => Some(self.producer(request)?),
            None => None,
        };
        let space = self.spaces.get_mut(key).ok_or("Router does not exist")?;
        if let Some((_, source)) = source
            && space.router.producers.get(source).is_some_and(|producer| producer.kind != kind)
        {
            return Err("the producer is of another kind".into());
        }
        let conn = ConnId::new(0, self.config.id, u128::from(id));
        let at = space.router.consumers.insert(Consumer::new(ConsumerId(id), conn, kind));
        self.consumers.insert(id, (key, at));
        if let Some((_, source)) = source {
            space.router.connect(at, Some(source));
        }
        let asked = request.data.get("x.reports").and_then(Value::as_bool) == Some(true);
        let consumer = &mut space.router.consumers[at];
        (consumer.bound, consumer.reports) = (source.is_some(), source.is_some() || asked);
        self.start_consumer((key, at), self.epoch.media_time(now));
        Ok(json!({}))
    }

    fn enable_consumer(&mut self, now: Instant, request: &Request) -> Answer {
        let consumer = self.consumer(request)?;
        let place = self.transport(request)?;
        if consumer.0 != place.0 {
            return Err("the transport is another router's".into());
        }
        let parameters: RtpParameters = field(&request.data, "rtpParameters")?;
        let random = self.random();
        let space = self.spaces.get_mut(place.0).ok_or("Router does not exist")?;
        let transport = space.transports.get_mut(place.1).ok_or("Transport does not exist")?;
        let entry = space.router.consumers.get_mut(consumer.1).ok_or("Consumer does not exist")?;
        if entry.transport.is_some() {
            return Err("Consumer already enabled".into());
        }
        entry.output = match &mut transport.kind {
            TransportKind::WebRtc(_) => {
                Output::Rtp(Box::new(RtpOutput::new(entry.kind, &parameters, random)?))
            }
            TransportKind::Plain(_) => {
                Output::Rtp(Box::new(RtpOutput::new(entry.kind, &parameters, random)?.unpadded()))
            }
            TransportKind::Direct { output, .. } => {
                let packets = request.data.get("x.packets").and_then(Value::as_bool) == Some(true);
                Output::Frames(FrameOutput::new(output.clone(), entry.id.0, packets))
            }
            TransportKind::Pipe { output, .. } => Output::Pipe(PipeOutput::new(output.clone(), entry.id.0)),
            TransportKind::Stream(stream) => {
                let outlet = stream.outlet().ok_or("the transport's session takes no consumers")?;
                Output::Frames(FrameOutput::new(outlet, entry.id.0, false))
            }
        };
        (entry.transport, entry.conn, entry.parameters) = (Some(place.1), transport.conn, parameters);
        let added = match &mut transport.kind {
            TransportKind::WebRtc(webrtc) => webrtc.add_consumer(consumer.1, &space.router),
            TransportKind::Plain(plain) => plain.add_consumer(consumer.1, &mut space.router),
            _ => Ok(()),
        };
        if let Err(fault) = added {
            if let Some(entry) = space.router.consumers.get_mut(consumer.1) {
                (entry.transport, entry.output) = (None, Output::None);
            }
            return Err(fault);
        }
        transport.consumers.push(consumer.1);
        self.start_consumer(consumer, self.epoch.media_time(now));
        self.reschedule(place);
        Ok(json!({}))
    }

    fn set_producer(&mut self, now: Instant, request: &Request) -> Answer {
        let consumer = self.consumer(request)?;
        let source = match request.data.get("producerId") {
            None | Some(Value::Null) => None,
            Some(id) => {
                let id =
                    id.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or("data.producerId is no id")?;
                let place = self.producers.get(&id).filter(|place| place.0 == consumer.0);
                Some(place.ok_or("Producer does not exist")?.1)
            }
        };
        let space = self.spaces.get_mut(consumer.0).ok_or("Router does not exist")?;
        let kind = space.router.consumers.get(consumer.1).map(|entry| entry.kind);
        if let Some(source) = source
            && space.router.producers.get(source).map(|producer| producer.kind) != kind
        {
            return Err("the producer is of another kind".into());
        }
        space.router.connect(consumer.1, source);
        self.start_consumer(consumer, self.epoch.media_time(now));
        Ok(json!({}))
    }

    fn pause_consumer(&mut self, now: Instant, request: &Request, paused: bool) -> Answer {
        let place = self.consumer(request)?;
        let space = self.spaces.get_mut(place.0).ok_or("Router does not exist")?;
        let router = &mut space.router;
        let consumer = router.consumers.get_mut(place.1).ok_or("Consumer does not exist")?;
        if consumer.paused != paused {
            consumer.paused = paused;
            let source = consumer.producer.and_then(|key| router.producers.get(key));
            consumer.restart(source, true);
            self.start_consumer(place, self.epoch.media_time(now));
        }
        Ok(json!({}))
    }

    fn pause_producer(&mut self, now: Instant, request: &Request, paused: bool) -> Answer {
        let place = self.producer(request)?;
        self.set_producer_paused(place, paused);
        if !paused {
            let consumers = self
                .spaces
                .get(place.0)
                .and_then(|space| space.router.producers.get(place.1))
                .map(|producer| producer.consumers.clone())
                .unwrap_or_default();
            let media = self.epoch.media_time(now);
            consumers.into_iter().for_each(|consumer| self.start_consumer((place.0, consumer), media));
        }
        Ok(json!({}))
    }

    fn set_producer_paused(&mut self, place: Place, paused: bool) {
        let Some(space) = self.spaces.get_mut(place.0) else { return };
        let Some(producer) = space.router.producers.get_mut(place.1) else { return };
        if producer.paused == paused {
            return;
        }
        producer.paused = paused;
        producer.streams.iter_mut().for_each(|stream| stream.store.break_group());
        let mut ids = Vec::new();
        for key in &producer.consumers {
            if let Some(consumer) = space.router.consumers.get_mut(*key) {
                consumer.restart(Some(producer), false);
                ids.push(consumer.id.0);
            }
        }
        let event = if paused { "sourcepaused" } else { "sourceresumed" };
        ids.into_iter().for_each(|id| self.notify(id, event, Value::Null));
    }

    fn set_remote_dtls(&mut self, now: Instant, request: &Request) -> Answer {
        let place = self.transport(request)?;
        let role = match request.data.get("role") {
            None => DtlsRole::Auto,
            Some(_) => field(&request.data, "role")?,
        };
        let mut fingerprints: Vec<Fingerprint> = field(&request.data, "fingerprints")?;
        let role = match (role, &self.config.channel) {
            // A v2 client that leaves the choice to us waits for our ClientHello.
            (DtlsRole::Auto, Some(_)) => DtlsRole::Server,
            (role, _) => role,
        };
        if self.config.channel.is_some() {
            // The protocol takes the last one that it supports.
            let last = fingerprints.iter().rposition(Fingerprint::is_supported);
            fingerprints = last.map(|at| fingerprints.swap_remove(at)).into_iter().collect();
        }
        self.session_command(now, place, Command::SetRemoteDtls { role, fingerprints })
    }

    /// `transport.setMaxBitrate`: told to the party with the next report.
    fn set_max_bitrate(&mut self, request: &Request) -> Answer {
        const LEAST: u64 = 10_000;
        let place = self.transport(request)?;
        let bitrate: u64 = field(&request.data, "bitrate")?;
        let space = self.spaces.get_mut(place.0).ok_or("Router does not exist")?;
        let transport = space.transports.get_mut(place.1).ok_or("Transport does not exist")?;
        let TransportKind::WebRtc(_) = transport.kind else {
            return Err("the transport is not a WebRTC one".into());
        };
        transport.max_bitrate = Some(bitrate.max(LEAST));
        Ok(json!({}))
    }

    fn close_transport(&mut self, now: Instant, request: &Request) -> Answer {
        let place = self.transport(request)?;
        let reason = reason(&request.data, "closed by the controller");
        self.say_goodbye(now, place, &reason);
        self.end_transport(place, &reason, Ending::Closed);
        Ok(json!({}))
    }

    pub(super) fn say_goodbye(&mut self, now: Instant, place: Place, reason: &str) {
        self.leg_goodbye(now, place);
        // A transport without a session has nobody to say good-bye to.
        let _ = self.session_command(now, place, Command::Close { reason: reason.to_owned() });
    }

    pub(super) fn transport_dump(&self, request: &Request) -> Answer {
        let place = self.transport(request)?;
        let space = self.spaces.get(place.0).ok_or("Router does not exist")?;
        let transport = space.transports.get(place.1).ok_or("Transport does not exist")?;
        Ok(transport.dump(&space.router))
    }

    fn transport_stats(&self, now: Instant, request: &Request) -> Answer {
        let place = self.transport(request)?;
        let space = self.spaces.get(place.0).ok_or("Router does not exist")?;
        let transport = space.transports.get(place.1).ok_or("Transport does not exist")?;
        Ok(match &transport.kind {
            TransportKind::WebRtc(webrtc) => {
                webrtc.stats(transport.id, transport.max_bitrate, self.epoch.media_time(now))
            }
            TransportKind::Plain(plain) => plain.stats(),
            _ => json!({}),
        })
    }

    fn consumer_dump(&self, request: &Request) -> Answer {
        let place = self.consumer(request)?;
        let space = self.spaces.get(place.0).ok_or("Router does not exist")?;
        let consumer = space.router.consumers.get(place.1).ok_or("Consumer does not exist")?;
        Ok(consumer.dump(consumer.producer.and_then(|key| space.router.producers.get(key))))
    }

    fn with_producer(&self, request: &Request, read: impl FnOnce(&Producer) -> Value) -> Answer {
        let place = self.producer(request)?;
        let producer = self.spaces.get(place.0).and_then(|space| space.router.producers.get(place.1));
        producer.map(read).ok_or_else(|| "Producer does not exist".into())
    }

    /// Ends a producer. Consumers made for it end too; program consumers wait for their next source.
    pub(super) fn end_producer(&mut self, place: Place) {
        let Some(space) = self.spaces.get_mut(place.0) else { return };
        let Some(producer) = space.router.remove_producer(place.1) else { return };
        self.producers.remove(&producer.id.0);
        let bound = |key: &usize| space.router.consumers.get(*key).is_some_and(|consumer| consumer.bound);
        let ending: Vec<_> = producer.consumers.iter().copied().filter(bound).collect();
        if let Some(transport) = space.transports.get_mut(producer.transport) {
            transport.producers.retain(|key| *key != place.1);
            match &mut transport.kind {
                TransportKind::WebRtc(webrtc) => webrtc.remove_producer(place.1),
                TransportKind::Plain(plain) => plain.remove_producer(place.1),
                TransportKind::Stream(stream) => stream.detach(place.1),
                _ => {}
            }
        }
        ending.into_iter().for_each(|consumer| self.end_consumer((place.0, consumer), "track_ended"));
    }

    /// Ends a consumer; `why` as a code.
    pub(super) fn end_consumer(&mut self, place: Place, why: &str) {
        let Some(space) = self.spaces.get_mut(place.0) else { return };
        let Some(consumer) = space.router.remove_consumer(place.1) else { return };
        self.consumers.remove(&consumer.id.0);
        if let Some(transport) = consumer.transport.and_then(|key| space.transports.get_mut(key)) {
            transport.consumers.retain(|key| *key != place.1);
            match &mut transport.kind {
                TransportKind::WebRtc(webrtc) => webrtc.remove_consumer(place.1),
                TransportKind::Plain(plain) => plain.remove_consumer(place.1),
                _ => {}
            }
        }
        self.notify(consumer.id.0, "close", json!({"code": why}));
    }

    pub(super) fn router(&self, request: &Request) -> Result<usize, String> {
        let id = request.internal.router_id.ok_or("internal.routerId is missing")?;
        self.routers.get(&id).copied().ok_or_else(|| "Router does not exist".into())
    }

    pub(super) fn transport(&self, request: &Request) -> Result<Place, String> {
        let id = request.internal.transport_id.ok_or("internal.transportId is missing")?;
        let place = self.transports.get(&id).copied();
        self.in_router(request, place, "Transport does not exist")
    }

    pub(super) fn producer(&self, request: &Request) -> Result<Place, String> {
        let id = request.internal.producer_id.ok_or("internal.producerId is missing")?;
        let place = self.producers.get(&id).copied();
        self.in_router(request, place, "Producer does not exist")
    }

    pub(super) fn consumer(&self, request: &Request) -> Result<Place, String> {
        let id = request.internal.consumer_id.ok_or("internal.consumerId is missing")?;
        let place = self.consumers.get(&id).copied();
        self.in_router(request, place, "Consumer does not exist")
    }

    pub(super) fn in_router(
        &self,
        request: &Request,
        place: Option<Place>,
        missing: &str,
    ) -> Result<Place, String> {
        let router = self.router(request)?;
        place.filter(|place| place.0 == router).ok_or_else(|| missing.into())
    }
}

fn router_dump(space: &Space) -> Value {
    let router = &space.router;
    let ids = |keys: &[usize]| -> Vec<_> {
        keys.iter()
            .filter_map(|key| router.consumers.get(*key))
            .map(|consumer| consumer.id.0.to_string())
            .collect()
    };
    let readers: serde_json::Map<String, Value> = router
        .producers
        .iter()
        .map(|(_, producer)| (producer.id.to_string(), json!(ids(&producer.consumers))))
        .collect();
    let sources: serde_json::Map<String, Value> = router
        .consumers
        .iter()
        .filter_map(|(_, consumer)| {
            let source = router.producers.get(consumer.producer?)?;
            Some((consumer.id.to_string(), json!(source.id.to_string())))
        })
        .collect();
    let transports: Vec<_> = space.transports.iter().map(|(_, transport)| transport.dump(router)).collect();
    let producers: Vec<_> = router.producers.iter().map(|(_, producer)| producer.dump()).collect();
    let consumers: Vec<_> = router
        .consumers
        .iter()
        .map(|(_, consumer)| consumer.dump(consumer.producer.and_then(|key| router.producers.get(key))))
        .collect();
    let mut dump = json!({
        "routerId": router.id,
        "transports": transports,
        "producers": producers,
        "consumers": consumers,
        "mapProducerConsumers": readers,
        "mapConsumerProducer": sources,
        "audioLevelsEventEnabled": space.levels.is_some(),
    });
    if !router.data_producers.is_empty() {
        let data_producers: Vec<_> =
            router.data_producers.iter().map(|(_, producer)| producer.dump()).collect();
        let data_consumers: Vec<_> = router
            .data_consumers
            .iter()
            .map(|(_, consumer)| consumer.dump(router.data_producers.get(consumer.producer)))
            .collect();
        dump["x.dataProducers"] = json!(data_producers);
        dump["x.dataConsumers"] = json!(data_consumers);
    }
    dump
}

/// A field of the data, or an error that names it.
pub(super) fn field<T: DeserializeOwned>(data: &Value, name: &str) -> Result<T, String> {
    let value = data.get(name).ok_or_else(|| format!("data.{name} is missing"))?;
    T::deserialize(value).map_err(|fault| format!("data.{name}: {fault}"))
}

fn reason(data: &Value, default: &str) -> String {
    data.get("x.reason").and_then(Value::as_str).unwrap_or(default).to_owned()
}
