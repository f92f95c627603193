//! What the client sends. A track is paused while either side says so: the client by its notifications, somebody
//! with rights over the room by the control protocol.

use serde_json::json;

use super::messages::{CreateProducer, Direction, Ref};
use super::{Ask, Inside, Link, RequestId, Then, nothing, notify, unexpected};
use crate::core::capabilities::ortc::Capabilities;
use crate::core::control::Produce;
use crate::core::id::ProducerId;
use crate::rooms::error::Refusal;
use crate::rooms::session::Answered;
use crate::rooms::session::asks::Answer;

/// A track of the client.
pub(super) struct Producer {
    /// The client's id of the transport.
    pub transport: u32,
    /// The core's id, once it stands.
    pub id: Option<ProducerId>,
    /// The client paused it.
    paused: bool,
    /// Somebody else paused it.
    held: bool,
    /// What the core was asked for when it was made.
    made_paused: bool,
}

impl Producer {
    pub fn is_paused(&self) -> bool {
        self.paused || self.held
    }
}

impl Inside {
    pub(super) fn create_producer(
        &mut self,
        link: &mut Link,
        request: RequestId,
        room: &Capabilities,
        create: CreateProducer,
    ) -> Result<(), Refusal> {
        let CreateProducer { id, kind, transport_id, rtp_parameters, paused, app_data } = create;
        if self.producers.contains_key(&id) {
            return Err(Refusal::new(409, format!("there is a producer {id} already")));
        }
        let transport = self.transport(transport_id)?;
        let sends = |direction| direction == Direction::Send;
        if !self.transports.get(&transport_id).is_some_and(|transport| sends(transport.direction)) {
            return Err(Refusal::bad(format!("transport {transport_id} is for receiving")));
        }
        let rtp = room.produced(kind, rtp_parameters)?;
        let producer =
            Producer { transport: transport_id, id: None, paused, held: false, made_paused: paused };
        self.producers.insert(id, producer);
        let track = Produce { kind, rtp, paused, app_data };
        link.ask(Ask::Produce(transport, track), Then::Produced(request, id));
        Ok(())
    }

    pub(super) fn produced(&mut self, link: &mut Link, request: RequestId, id: u32, answer: Answered) {
        let made = match answer {
            Ok(Answer::Producer(made)) => made,
            other => {
                self.producers.remove(&id);
                return link.respond(request, Err(other.err().unwrap_or_else(unexpected)));
            }
        };
        let Some(producer) = self.producers.get_mut(&id) else {
            // The client closed it meanwhile.
            link.ask(Ask::CloseProducer(made), Then::Nothing);
            return link.respond(request, Err(Refusal::new(410, "the producer was closed")));
        };
        producer.id = Some(made);
        if producer.paused != producer.made_paused {
            let ask = if producer.paused { Ask::PauseProducer(made) } else { Ask::ResumeProducer(made) };
            link.ask(ask, Then::Nothing);
        }
        link.respond(request, Ok(nothing()));
    }

    pub(super) fn pause_producer(
        &mut self,
        link: &mut Link,
        Ref { id }: Ref,
        paused: bool,
    ) -> Result<(), Refusal> {
        let producer = self.producers.get_mut(&id).ok_or_else(|| Refusal::unknown("producer", id))?;
        let was = producer.is_paused();
        producer.paused = paused;
        if producer.is_paused() != was
            && let Some(id) = producer.id
        {
            link.ask(if paused { Ask::PauseProducer(id) } else { Ask::ResumeProducer(id) }, Then::Nothing);
        }
        Ok(())
    }

    /// Clients close producers of a transport that they have closed, too; so an unknown one is nothing.
    pub(super) fn close_producer(&mut self, link: &mut Link, Ref { id }: Ref) -> Result<(), Refusal> {
        if let Some(id) = self.producers.remove(&id).and_then(|producer| producer.id) {
            link.ask(Ask::CloseProducer(id), Then::Nothing);
        }
        Ok(())
    }

    /// Somebody else paused it, or lets it go on.
    pub(super) fn producer_held(&mut self, link: &mut Link, producer: ProducerId, held: bool) {
        let Some(id) = self.producer_of(producer) else { return };
        let Some(known) = self.producers.get_mut(&id).filter(|known| known.held != held) else { return };
        known.held = held;
        if !held && known.paused {
            // It goes on when the client, too, says so.
            link.ask(Ask::PauseProducer(producer), Then::Nothing);
        }
        let method = if held { "producerPaused" } else { "producerResumed" };
        notify(link, method, json!({"id": id, "peerName": self.name}));
    }

    /// It ended without the client's doing.
    pub(super) fn producer_gone(&mut self, link: &mut Link, producer: ProducerId) {
        if let Some(id) = self.producer_of(producer) {
            self.producers.remove(&id);
            notify(link, "producerClosed", json!({"id": id, "peerName": self.name}));
        }
    }

    fn producer_of(&self, producer: ProducerId) -> Option<u32> {
        let found = self.producers.iter().find(|(_, known)| known.id == Some(producer));
        found.map(|(id, _)| *id)
    }
}
