//! Messages on their way: from a session, a pipe or a controller to a data producer, and from there to
//! each of its consumers. All of them share the bytes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tracing::{debug, info};

use crate::core::consumer::Progress;
use crate::core::data::{DataCommand, DataEvent, DataMessage, Outlet};
use crate::core::lane::SendError;
use crate::core::mail::PipeMessage;
use crate::core::session::Command;
use crate::core::time::MediaTime;
use crate::core::transport::TransportKind;
use crate::core::worker::{Place, Worker};

/// When to look again at a full lane.
const RETRY: Duration = Duration::from_millis(2);

/// A message that came to a transport, by its stream or its number on the pipe.
pub(super) struct Arrived {
    place: Place,
    number: u32,
    message: DataMessage,
}

impl Worker {
    /// Something happened to the data channels of a session.
    pub(in crate::core::worker) fn take_data_event(&mut self, now: Instant, place: Place, event: DataEvent) {
        let Some(id) = self.transport_id(place) else { return };
        match event {
            DataEvent::State(state) => self.notify(id, "sctpstatechange", json!({ "sctpState": state })),
            DataEvent::Opened { parameters, label, protocol } => {
                let data = json!({"sctpStreamParameters": parameters, "label": label, "protocol": protocol});
                self.notify(id, "x.datachannel", data);
            }
            DataEvent::Message { stream, message } => self.arrive(now, place, u32::from(stream), message),
            DataEvent::Low { stream } => {
                if let Some(consumer) = self.outlet_id(place, stream) {
                    self.notify(consumer, "x.bufferedamountlow", Value::Null);
                }
            }
            DataEvent::Closed { stream, reason } => {
                debug!(transport = id, stream, reason, "a data channel is closed");
                self.channel_closed(now, place, stream);
            }
        }
    }

    /// A message came to a transport. What comes while another is on its way waits for its turn, so that a
    /// party that is its own receiver does not make us call ourselves without end.
    pub(in crate::core::worker) fn arrive(
        &mut self,
        now: Instant,
        place: Place,
        number: u32,
        message: DataMessage,
    ) {
        self.data.arrived.push_back(Arrived { place, number, message });
        if self.data.arrived.len() > 1 {
            return;
        }
        while let Some(Arrived { place, number, message }) = self.data.arrived.front() {
            let (place, message) = (*place, message.clone());
            let inlet = self
                .spaces
                .get(place.0)
                .and_then(|space| space.transports.get(place.1)?.data.inlets.get(number).copied());
            if let Some(producer) = inlet {
                self.take_message(now, (place.0, producer), message);
            }
            self.data.arrived.pop_front();
        }
    }

    /// Hands a message to everybody who consumes its producer.
    pub(super) fn take_message(&mut self, now: Instant, place: Place, message: DataMessage) {
        let Some(producer) = self.data_producer_at(place) else { return };
        if !producer.receive(&message) {
            return;
        }
        for at in producer.consumers.clone() {
            // A refusal is counted there, and one that is final ends the consumer.
            let _ = self.deliver(now, (place.0, at), &message);
        }
    }

    /// Sends a message to a consumer's receiver; answers how many bytes wait there.
    pub(super) fn deliver(
        &mut self,
        now: Instant,
        place: Place,
        message: &DataMessage,
    ) -> Result<u64, String> {
        let consumer = self.data_consumer_at(place).ok_or("Data consumer does not exist")?;
        if consumer.paused {
            return Ok(0);
        }
        let (id, transport, reliable) = (consumer.id.0, consumer.transport, consumer.delivery.is_reliable());
        let result = match (&consumer.outlet, transport) {
            (Outlet::Stream(stream), Some(at)) => {
                let send = DataCommand::Send { stream: *stream, message: message.clone() };
                let answer = self.session_command(now, (place.0, at), Command::Data(send));
                answer.map(|buffered| buffered.as_u64().unwrap_or(0))
            }
            (Outlet::Pipe(_), Some(at)) => self.queue_for_pipe(now, place, at, message),
            _ => self.tell_controller(now, (place, id), reliable, message),
        };
        if let Some(consumer) = self.data_consumer_at(place) {
            consumer.note(message, result.is_ok());
        }
        result
    }

    fn queue_for_pipe(
        &mut self,
        now: Instant,
        place: Place,
        transport: usize,
        message: &DataMessage,
    ) -> Result<u64, String> {
        let limit = self.config.data.pipe_buffer_bytes;
        let consumer = self.data_consumer_at(place).ok_or("Data consumer does not exist")?;
        let Outlet::Pipe(queue) = &mut consumer.outlet else { return Err("no pipe".into()) };
        if queue.push(message.clone(), limit).is_err() {
            info!(conn = %consumer.conn, data_consumer = %consumer.id, "a pipe does not take a data channel's messages");
            self.end_data_consumer(now, place, false);
            return Err("the pipe is full".into());
        }
        let bytes = queue.payload_bytes() as u64;
        self.queue((place.0, transport));
        Ok(bytes)
    }

    fn tell_controller(
        &mut self,
        now: Instant,
        (place, id): (Place, u32),
        reliable: bool,
        message: &DataMessage,
    ) -> Result<u64, String> {
        if self.answers.len() >= self.config.data.max_waiting_events {
            if reliable {
                info!(data_consumer = id, "the controller does not take a data channel's messages");
                self.end_data_consumer(now, place, false);
            }
            return Err("the controller does not read".into());
        }
        self.notify(id, "x.message", message.to_json());
        Ok(0)
    }

    /// Moves what waits for a pipe into its lane.
    pub(in crate::core::worker) fn flush_data(&mut self, place: Place, now: MediaTime) -> Progress {
        let Some(space) = self.spaces.get_mut(place.0) else { return Progress::Drained };
        let Some(transport) = space.transports.get(place.1) else { return Progress::Drained };
        let TransportKind::Pipe { output, .. } = &transport.kind else { return Progress::Drained };
        let mut sent = false;
        let mut progress = Progress::Drained;
        for (track, key) in &transport.data.outlets {
            let outlet = space.router.data_consumers.get_mut(*key).map(|consumer| &mut consumer.outlet);
            let Some(Outlet::Pipe(queue)) = outlet else { continue };
            while let Some(message) = queue.pop() {
                match output.push(PipeMessage::Data { track: *track, message }) {
                    Err(SendError::Full(PipeMessage::Data { message, .. })) => {
                        queue.put_back(message);
                        progress = Progress::Paced(now + RETRY);
                        break;
                    }
                    _ => sent = true,
                }
            }
        }
        if sent {
            output.wake();
        }
        progress
    }

    /// A channel is over: so are those who used it.
    pub(in crate::core::worker) fn channel_closed(&mut self, now: Instant, place: Place, stream: u16) {
        let ports = |worker: &Worker| {
            let data = &worker.spaces.get(place.0)?.transports.get(place.1)?.data;
            let number = u32::from(stream);
            Some((data.inlets.get(&number).copied(), data.outlets.get(&number).copied()))
        };
        let Some((producer, consumer)) = ports(self) else { return };
        if let Some(producer) = producer {
            self.end_data_producer(now, (place.0, producer), false);
        }
        if let Some(consumer) = consumer {
            self.end_data_consumer(now, (place.0, consumer), false);
        }
    }

    fn transport_id(&self, place: Place) -> Option<u32> {
        Some(self.spaces.get(place.0)?.transports.get(place.1)?.id.0)
    }

    fn outlet_id(&self, place: Place, stream: u16) -> Option<u32> {
        let space = self.spaces.get(place.0)?;
        let key = space.transports.get(place.1)?.data.outlets.get(&u32::from(stream))?;
        space.router.data_consumers.get(*key).map(|consumer| consumer.id.0)
    }
}
