//! Data channels in the control protocol: making, asking and ending data producers and data consumers.
//! [`flow`] moves their messages.

mod flow;

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use serde_json::{Value, json};

use crate::core::data::{
    DataCommand, DataConsumer, DataMessage, DataProducer, Delivery, Inlet, Outlet, SctpStreamParameters,
    SendQueue,
};
use crate::core::id::{ConnId, DataConsumerId, DataProducerId};
use crate::core::message::{Method, Request};
use crate::core::session::Command;
use crate::core::transport::{DataPorts, TransportKind};
use crate::core::worker::control::{Answer, field};
use crate::core::worker::{Place, Worker};

use flow::Arrived;

/// What a worker knows of data channels beside what its routers hold.
#[derive(Default)]
pub(super) struct Channels {
    producers: HashMap<u32, Place>,
    consumers: HashMap<u32, Place>,
    /// Messages on their way.
    arrived: VecDeque<Arrived>,
    /// Data producers whose transport is gone.
    orphans: Vec<u32>,
}

impl Worker {
    /// Carries out a method of data channels.
    pub(super) fn data_request(&mut self, now: Instant, method: Method, request: &Request) -> Answer {
        match method {
            Method::XTransportProduceData => self.produce_data(now, request, false),
            Method::XRouterProduceData => self.produce_data(now, request, true),
            Method::XTransportConsumeData => self.consume_data(now, request, false),
            Method::XRouterConsumeData => self.consume_data(now, request, true),
            Method::XDataProducerClose => {
                let place = self.data_producer(request)?;
                self.end_data_producer(now, place, true);
                Ok(json!({}))
            }
            Method::XDataProducerDump => self.with_data_producer(request, |producer| producer.dump()),
            Method::XDataProducerGetStats => {
                let media = self.epoch.media_time(now);
                self.with_data_producer(request, |producer| producer.stats(media))
            }
            Method::XDataProducerPause | Method::XDataProducerResume => {
                self.pause_data_producer(request, method == Method::XDataProducerPause)
            }
            Method::XDataProducerSend => self.send_from_controller(now, request),
            Method::XDataConsumerClose => {
                let place = self.data_consumer(request)?;
                self.end_data_consumer(now, place, true);
                Ok(json!({}))
            }
            Method::XDataConsumerDump => self.data_consumer_dump(request),
            Method::XDataConsumerGetStats => self.data_consumer_stats(now, request),
            Method::XDataConsumerPause | Method::XDataConsumerResume => {
                let place = self.data_consumer(request)?;
                let consumer = self.data_consumer_at(place).ok_or("Data consumer does not exist")?;
                consumer.paused = method == Method::XDataConsumerPause;
                Ok(json!({}))
            }
            Method::XDataConsumerSend => self.send_to_one(now, request),
            Method::XDataConsumerSetBufferedAmountLowThreshold => self.set_low_threshold(now, request),
            _ => Err(format!("method \"{}\" is none of data channels", request.method)),
        }
    }

    fn produce_data(&mut self, now: Instant, request: &Request, direct: bool) -> Answer {
        let id = request.internal.data_producer_id.ok_or("internal.dataProducerId is missing")?;
        if self.data.producers.contains_key(&id) {
            return Err("Data producer already exists".into());
        }
        let (key, transport) = match direct {
            true => (self.router(request)?, None),
            false => self.transport(request).map(|(key, at)| (key, Some(at)))?,
        };
        let (inlet, delivery) = self.inlet(now, key, transport, &request.data)?;
        let data = &request.data;
        let text = |name: &str| data.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let whose = (DataProducerId(id), self.conn_of(data, id), transport);
        let producer = DataProducer::new(whose, inlet, delivery, (text("label"), text("protocol")));
        let space = self.spaces.get_mut(key).ok_or("Router does not exist")?;
        let at = space.router.data_producers.insert(producer);
        if let (Some(number), Some(transport)) =
            (inlet.number(), transport.and_then(|at| space.transports.get_mut(at)))
        {
            transport.data.inlets.insert(number, at);
        }
        self.data.producers.insert(id, (key, at));
        if data.get("paused").and_then(Value::as_bool) == Some(true)
            && let Some(producer) = self.data_producer_at((key, at))
        {
            producer.paused = true;
        }
        self.with_data_producer(request, |producer| producer.dump())
    }

    /// Where the messages of a new data producer will come from, and how its channel delivers.
    fn inlet(
        &mut self,
        now: Instant,
        key: usize,
        transport: Option<usize>,
        data: &Value,
    ) -> Result<(Inlet, Delivery), String> {
        let Some(at) = transport else { return Ok((Inlet::Direct, delivery(data)?)) };
        let space = self.spaces.get(key).ok_or("Router does not exist")?;
        let transport = space.transports.get(at).ok_or("Transport does not exist")?;
        let (inlet, delivery, take) = match &transport.kind {
            TransportKind::WebRtc(_) => {
                let parameters: SctpStreamParameters = field(data, "sctpStreamParameters")?;
                (Inlet::Stream(parameters.stream_id), parameters.delivery, Some(parameters))
            }
            TransportKind::Pipe { .. } => (Inlet::Pipe(field(data, "x.track")?), delivery(data)?, None),
            _ => return Err("a transport of this kind carries no data channels".into()),
        };
        if inlet.number().is_some_and(|number| transport.data.inlets.contains_key(&number)) {
            return Err("another data producer has this stream".into());
        }
        if let Some(parameters) = take {
            self.session_command(now, (key, at), Command::Data(DataCommand::Take(parameters)))?;
        }
        Ok((inlet, delivery))
    }

    fn consume_data(&mut self, now: Instant, request: &Request, direct: bool) -> Answer {
        let id = request.internal.data_consumer_id.ok_or("internal.dataConsumerId is missing")?;
        if self.data.consumers.contains_key(&id) {
            return Err("Data consumer already exists".into());
        }
        let (key, source) = self.data_producer(request)?;
        let transport = match direct {
            true => None,
            false => Some(self.transport(request)?.1),
        };
        let data = &request.data;
        let producer = self.data_producer_at((key, source)).ok_or("Data producer does not exist")?;
        let names = (producer.label.clone(), producer.protocol.clone());
        let delivery = match data.get("x.delivery") {
            Some(_) => delivery(data)?,
            None => producer.delivery,
        };
        let outlet = self.outlet(now, (key, transport), delivery, names, data)?;
        let number = match &outlet {
            Outlet::Stream(stream) => Some(u32::from(*stream)),
            Outlet::Pipe(_) => Some(id),
            Outlet::Direct => None,
        };
        let whose = (DataConsumerId(id), self.conn_of(data, id), transport);
        let mut consumer = DataConsumer::new(whose, source, outlet, delivery);
        consumer.paused = data.get("paused").and_then(Value::as_bool) == Some(true);
        let parameters = match consumer.outlet {
            Outlet::Stream(stream_id) => Some(SctpStreamParameters { stream_id, delivery }),
            _ => None,
        };
        let space = self.spaces.get_mut(key).ok_or("Router does not exist")?;
        let at = space.router.add_data_consumer(consumer);
        if let (Some(number), Some(transport)) =
            (number, transport.and_then(|at| space.transports.get_mut(at)))
        {
            transport.data.outlets.insert(number, at);
        }
        self.data.consumers.insert(id, (key, at));
        Ok(match parameters {
            Some(parameters) => json!({ "sctpStreamParameters": parameters }),
            None => json!({}),
        })
    }

    /// Opens what the messages of a new data consumer go through.
    fn outlet(
        &mut self,
        now: Instant,
        (key, transport): (usize, Option<usize>),
        delivery: Delivery,
        names: (String, String),
        data: &Value,
    ) -> Result<Outlet, String> {
        let Some(at) = transport else { return Ok(Outlet::Direct) };
        let space = self.spaces.get(key).ok_or("Router does not exist")?;
        match &space.transports.get(at).ok_or("Transport does not exist")?.kind {
            TransportKind::WebRtc(_) => {
                let stream = data.get("streamId").map(|_| field(data, "streamId")).transpose()?;
                let announce =
                    (data.get("x.announce").and_then(Value::as_bool) == Some(true)).then_some(names);
                let open = DataCommand::Open { stream, delivery, announce };
                let answer = self.session_command(now, (key, at), Command::Data(open))?;
                field(&answer, "streamId").map(Outlet::Stream)
            }
            TransportKind::Pipe { .. } => Ok(Outlet::Pipe(SendQueue::new(delivery.is_reliable()))),
            _ => Err("a transport of this kind carries no data channels".into()),
        }
    }

    fn conn_of(&self, data: &Value, id: u32) -> ConnId {
        let conn = data.get("x.connId").and_then(Value::as_str).and_then(ConnId::parse);
        conn.unwrap_or_else(|| ConnId::new(0, self.config.id, u128::from(id)))
    }

    fn pause_data_producer(&mut self, request: &Request, paused: bool) -> Answer {
        let place = self.data_producer(request)?;
        let producer = self.data_producer_at(place).ok_or("Data producer does not exist")?;
        if std::mem::replace(&mut producer.paused, paused) == paused {
            return Ok(json!({}));
        }
        let consumers = producer.consumers.clone();
        let event = if paused { "sourcepaused" } else { "sourceresumed" };
        for at in consumers {
            if let Some(id) = self.data_consumer_at((place.0, at)).map(|consumer| consumer.id.0) {
                self.notify(id, event, Value::Null);
            }
        }
        Ok(json!({}))
    }

    fn send_from_controller(&mut self, now: Instant, request: &Request) -> Answer {
        let place = self.data_producer(request)?;
        let producer = self.data_producer_at(place).ok_or("Data producer does not exist")?;
        if producer.inlet != Inlet::Direct {
            return Err("the data producer is fed by its transport".into());
        }
        let message = message(request)?;
        self.take_message(now, place, message);
        Ok(json!({}))
    }

    fn send_to_one(&mut self, now: Instant, request: &Request) -> Answer {
        let place = self.data_consumer(request)?;
        let message = message(request)?;
        self.deliver(now, place, &message).map(|buffered| json!({ "bufferedAmount": buffered }))
    }

    fn data_consumer_dump(&mut self, request: &Request) -> Answer {
        let place = self.data_consumer(request)?;
        let router = &self.spaces.get(place.0).ok_or("Router does not exist")?.router;
        let consumer = router.data_consumers.get(place.1).ok_or("Data consumer does not exist")?;
        Ok(consumer.dump(router.data_producers.get(consumer.producer)))
    }

    fn data_consumer_stats(&mut self, now: Instant, request: &Request) -> Answer {
        let place = self.data_consumer(request)?;
        let buffered = self.buffered(now, place);
        let media = self.epoch.media_time(now);
        let router = &self.spaces.get(place.0).ok_or("Router does not exist")?.router;
        let consumer = router.data_consumers.get(place.1).ok_or("Data consumer does not exist")?;
        Ok(consumer.stats(router.data_producers.get(consumer.producer), buffered, media))
    }

    fn buffered(&mut self, now: Instant, place: Place) -> u64 {
        let Some(consumer) = self.data_consumer_at(place) else { return 0 };
        match (&consumer.outlet, consumer.transport) {
            (Outlet::Stream(stream), Some(at)) => {
                let command = Command::Data(DataCommand::Buffered { stream: *stream });
                self.session_command(now, (place.0, at), command).ok().and_then(|v| v.as_u64()).unwrap_or(0)
            }
            (Outlet::Pipe(queue), _) => queue.payload_bytes() as u64,
            _ => 0,
        }
    }

    fn set_low_threshold(&mut self, now: Instant, request: &Request) -> Answer {
        let place = self.data_consumer(request)?;
        let threshold: u32 = field(&request.data, "threshold")?;
        let consumer = self.data_consumer_at(place).ok_or("Data consumer does not exist")?;
        consumer.low_threshold = threshold as usize;
        let (Outlet::Stream(stream), Some(at)) = (&consumer.outlet, consumer.transport) else {
            return Err("nothing waits for a data consumer of this kind".into());
        };
        let command = DataCommand::SetLow { stream: *stream, threshold: threshold as usize };
        self.session_command(now, (place.0, at), Command::Data(command))
    }

    fn with_data_producer(&self, request: &Request, read: impl FnOnce(&DataProducer) -> Value) -> Answer {
        let place = self.data_producer(request)?;
        let router = self.spaces.get(place.0).map(|space| &space.router);
        let producer = router.and_then(|router| router.data_producers.get(place.1));
        producer.map(read).ok_or_else(|| "Data producer does not exist".into())
    }

    fn data_producer(&self, request: &Request) -> Result<Place, String> {
        let id = request.internal.data_producer_id.ok_or("internal.dataProducerId is missing")?;
        let place = self.data.producers.get(&id).copied();
        self.in_router(request, place, "Data producer does not exist")
    }

    fn data_consumer(&self, request: &Request) -> Result<Place, String> {
        let id = request.internal.data_consumer_id.ok_or("internal.dataConsumerId is missing")?;
        let place = self.data.consumers.get(&id).copied();
        self.in_router(request, place, "Data consumer does not exist")
    }

    fn data_producer_at(&mut self, place: Place) -> Option<&mut DataProducer> {
        self.spaces.get_mut(place.0)?.router.data_producers.get_mut(place.1)
    }

    fn data_consumer_at(&mut self, place: Place) -> Option<&mut DataConsumer> {
        self.spaces.get_mut(place.0)?.router.data_consumers.get_mut(place.1)
    }

    /// Ends a data producer and its consumers; `close`: and its channel, where it has one.
    pub(super) fn end_data_producer(&mut self, now: Instant, place: Place, close: bool) {
        let Some(space) = self.spaces.get_mut(place.0) else { return };
        let Some(producer) = space.router.data_producers.try_remove(place.1) else { return };
        self.data.producers.remove(&producer.id.0);
        if let (Some(at), Some(number)) = (producer.transport, producer.inlet.number()) {
            if let Some(transport) = space.transports.get_mut(at) {
                transport.data.inlets.remove(&number);
            }
            if let (Inlet::Stream(stream), true) = (producer.inlet, close) {
                self.close_channel(now, (place.0, at), stream);
            }
        }
        for consumer in producer.consumers {
            self.end_data_consumer(now, (place.0, consumer), true);
        }
        self.notify(producer.id.0, "close", Value::Null);
    }

    /// Ends a data consumer; `close`: and its channel, where it has one.
    pub(super) fn end_data_consumer(&mut self, now: Instant, place: Place, close: bool) {
        let Some(space) = self.spaces.get_mut(place.0) else { return };
        let Some(consumer) = space.router.remove_data_consumer(place.1) else { return };
        self.data.consumers.remove(&consumer.id.0);
        if let Some(at) = consumer.transport {
            if let Some(transport) = space.transports.get_mut(at) {
                transport.data.outlets.retain(|_, key| *key != place.1);
            }
            if let (Outlet::Stream(stream), true) = (&consumer.outlet, close) {
                self.close_channel(now, (place.0, at), *stream);
            }
        }
        self.notify(consumer.id.0, "close", Value::Null);
    }

    /// Both directions of a channel end together (RFC 8831 §6.7), so whoever else uses it is told.
    fn close_channel(&mut self, now: Instant, place: Place, stream: u16) {
        // A session that is gone has closed it.
        let _ = self.session_command(now, place, Command::Data(DataCommand::Close { stream }));
        self.channel_closed(now, place, stream);
    }

    /// A transport is gone and its channels with it: its data consumers end; its data producers do so
    /// with the next [`end_orphans`](Self::end_orphans), because that concerns other sessions.
    pub(super) fn end_data_of_transport(&mut self, key: usize, data: &DataPorts) {
        for at in data.outlets.values() {
            let Some(space) = self.spaces.get_mut(key) else { return };
            if let Some(consumer) = space.router.remove_data_consumer(*at) {
                self.data.consumers.remove(&consumer.id.0);
                self.notify(consumer.id.0, "close", Value::Null);
            }
        }
        for at in data.inlets.values() {
            if let Some(producer) = self.data_producer_at((key, *at)) {
                producer.transport = None;
                let id = producer.id.0;
                self.data.orphans.push(id);
            }
        }
    }

    /// Ends the data producers whose transport is gone.
    pub(super) fn end_orphans(&mut self, now: Instant) {
        while let Some(id) = self.data.orphans.pop() {
            if let Some(&place) = self.data.producers.get(&id) {
                self.end_data_producer(now, place, false);
            }
        }
    }

    /// Ends the data channels of a router that is closed.
    pub(super) fn end_data_of_router(&mut self, now: Instant, key: usize) {
        let Some(router) = self.spaces.get(key).map(|space| &space.router) else { return };
        let producers: Vec<_> = router.data_producers.iter().map(|(at, _)| at).collect();
        producers.into_iter().for_each(|at| self.end_data_producer(now, (key, at), false));
    }
}

impl Inlet {
    /// The stream, or the number on the pipe.
    fn number(self) -> Option<u32> {
        match self {
            Inlet::Stream(stream) => Some(u32::from(stream)),
            Inlet::Pipe(track) => Some(track),
            Inlet::Direct => None,
        }
    }
}

/// How a channel without SCTP parameters of its own delivers.
fn delivery(data: &Value) -> Result<Delivery, String> {
    match data.get("x.delivery") {
        Some(_) => field(data, "x.delivery"),
        None => Ok(Delivery::RELIABLE),
    }
}

fn message(request: &Request) -> Result<DataMessage, String> {
    DataMessage::from_json(request.data.as_object().ok_or("data is no object")?)
}
