//! Data channels of a room that is spread over workers: a copy of a producer on each router where somebody
//! consumes it, fed through the room's pipes. From one far router to another it goes by the home router.

use serde_json::json;
use tracing::debug;

use super::state::{Channels, on_data_consumer, on_data_producer};
use crate::core::control::state::{Reply, State};
use crate::core::id::{DataConsumerId, DataProducerId, RouterId, TransportId, WorkerId};
use crate::core::message::{Internal, Method};
use crate::core::room::RoomName;

/// A copy of a data producer on another router.
pub(in crate::core::control) struct Piped {
    /// The router it comes from, one pipe away.
    from: (RouterId, WorkerId),
    to: (RouterId, WorkerId),
    /// What feeds the pipe there.
    consumer: DataConsumerId,
    /// The copy.
    producer: DataProducerId,
    /// Consumers and further pipes that read it.
    users: usize,
}

/// One router's end of the pipe between two routers.
type End = (RouterId, WorkerId, TransportId);

impl State {
    /// The producer on `router` that stands for `origin`, with one more user; piped there if it is not yet.
    pub(super) fn data_on(
        &mut self,
        room: &RoomName,
        router: RouterId,
        origin: DataProducerId,
    ) -> Option<DataProducerId> {
        let own = self.data.producers.get(&origin)?.router;
        if own == router {
            return Some(origin);
        }
        if let Some(piped) = self.data.piped.get_mut(&(router, origin)) {
            piped.users += 1;
            return Some(piped.producer);
        }
        let (home, _) = self.rooms.get(room)?.home()?;
        let from = if router == home { own } else { home };
        let source = self.data_on(room, from, origin)?;
        let piped = self.pipe_data(room, (from, router), origin, source);
        if piped.is_none() {
            self.release_data(room, from, origin);
        }
        piped
    }

    fn pipe_data(
        &mut self,
        room: &RoomName,
        (from, to): (RouterId, RouterId),
        origin: DataProducerId,
        source: DataProducerId,
    ) -> Option<DataProducerId> {
        let (near, far) = self.pipe_between(room, from, to)?;
        let info = &self.data.producers.get(&origin)?.info;
        let data = json!({"label": info.label, "protocol": info.protocol, "x.connId": info.conn});
        let delivery = info.parameters.map(|parameters| parameters.delivery);
        let consumer = DataConsumerId(self.dispatcher.allocate());
        let producer = DataProducerId(self.dispatcher.allocate());
        let reply = || Reply::Piped(room.clone(), to);
        let internal = Internal {
            transport_id: Some(near.2.0),
            data_producer_id: Some(source.0),
            ..on_data_consumer(near.0, consumer)
        };
        self.ask(near.1, Method::XTransportConsumeData, internal, json!({}), reply());
        // Both ends name the channel by the number of the consumer that feeds the pipe.
        let mut data = data;
        if let Some(fields) = data.as_object_mut() {
            fields.insert("x.track".into(), json!(consumer));
            fields.extend(delivery.map(|delivery| ("x.delivery".to_owned(), json!(delivery))));
        }
        let internal = Internal { transport_id: Some(far.2.0), ..on_data_producer(far.0, producer) };
        self.ask(far.1, Method::XTransportProduceData, internal, data, reply());
        let piped = Piped { from: (near.0, near.1), to: (far.0, far.1), consumer, producer, users: 1 };
        self.data.piped.insert((to, origin), piped);
        Some(producer)
    }

    /// The ends of the pipe between the home router and another: the one at `from` first.
    fn pipe_between(&self, room: &RoomName, from: RouterId, to: RouterId) -> Option<(End, End)> {
        let room = self.rooms.get(room)?;
        let (home_router, home_worker) = room.home()?;
        let far = room.seats.iter().find(|seat| seat.pipe.is_some() && [from, to].contains(&seat.router))?;
        let pipe = far.pipe.as_ref()?;
        let at_home = (home_router, home_worker, pipe.home);
        let at_far = (far.router, far.worker, pipe.far);
        Some(if from == home_router { (at_home, at_far) } else { (at_far, at_home) })
    }

    /// One user less of a producer's copy on `router`; the last one ends it.
    pub(super) fn release_data(&mut self, room: &RoomName, router: RouterId, origin: DataProducerId) {
        let Some(piped) = self.data.piped.get_mut(&(router, origin)) else { return };
        piped.users = piped.users.saturating_sub(1);
        if piped.users > 0 {
            return;
        }
        let Some(piped) = self.data.piped.remove(&(router, origin)) else { return };
        debug!(%room, %router, "a data channel is no longer piped");
        let from = piped.from.0;
        let internal = on_data_consumer(from, piped.consumer);
        self.tell(piped.from.1, Method::XDataConsumerClose, internal, json!({}));
        self.end_copy(&piped);
        self.release_data(room, from, origin);
    }

    /// A producer is gone: so are its copies. What feeds the pipes ends with what it consumes.
    pub(super) fn unpipe_data(&mut self, room: &RoomName, origin: DataProducerId) {
        let routers: Vec<RouterId> = match self.rooms.get(room) {
            Some(room) => room.seats.iter().map(|seat| seat.router).collect(),
            None => return,
        };
        for router in routers {
            if let Some(piped) = self.data.piped.remove(&(router, origin)) {
                self.end_copy(&piped);
            }
        }
    }

    /// A room has a router no more: so is gone what it had on it, also of members that stay, the copies on it, and those
    /// it fed. Another room may still be there.
    pub fn end_data_on(&mut self, room: &RoomName, router: RouterId) {
        self.end_data_of_members(room, router);
        let Channels { producers, piped, .. } = &mut self.data;
        let elsewhere =
            |origin: &DataProducerId| producers.get(origin).is_some_and(|made| made.room != *room);
        piped.retain(|(_, origin), piped| {
            elsewhere(origin) || (piped.from.0 != router && piped.to.0 != router)
        });
    }

    fn end_copy(&mut self, piped: &Piped) {
        let internal = on_data_producer(piped.to.0, piped.producer);
        self.tell(piped.to.1, Method::XDataProducerClose, internal, json!({}));
    }
}
