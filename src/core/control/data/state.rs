//! What is known of data channels: who produces, who consumes, and on which router.

use std::collections::{BTreeMap, HashMap};

use futures_channel::oneshot;
use serde_json::{Value, json};
use tracing::{debug, info};

use super::pipes::Piped;
use super::{DataConsumed, DataInfo};
use crate::core::control::error::ControlError;
use crate::core::control::events::RoomEvent;
use crate::core::control::peer_events::PeerEvent;
use crate::core::control::publish::Pending;
use crate::core::control::state::{Answer, Reply, State, Target, Waiter, on_router};
use crate::core::data::{DataMessage, SctpStreamParameters};
use crate::core::id::{ConnId, DataConsumerId, DataProducerId, RouterId, TransportId, WorkerId};
use crate::core::message::{Internal, Method};
use crate::core::room::RoomName;

/// Data channels of all rooms.
#[derive(Default)]
pub(in crate::core::control) struct Channels {
    pub(super) producers: BTreeMap<DataProducerId, Produced>,
    pub(super) consumers: BTreeMap<DataConsumerId, Consuming>,
    owned: HashMap<ConnId, Owned>,
    /// Copies of producers, by the router they are on and what they are copies of.
    pub(super) piped: HashMap<(RouterId, DataProducerId), Piped>,
}

impl Channels {
    /// Whether nothing is known of anybody.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
            && self.consumers.is_empty()
            && self.owned.is_empty()
            && self.piped.is_empty()
    }

    /// Whose a data producer is.
    pub fn owner(&self, id: DataProducerId) -> Option<ConnId> {
        self.producers.get(&id).map(|made| made.info.conn)
    }

    /// What a peer is sent: each consumer with what it was asked for by.
    pub fn taken_by(&self, conn: ConnId) -> impl Iterator<Item = (DataConsumerId, DataProducerId)> {
        let owned = self.owned.get(&conn).into_iter().flat_map(|owned| &owned.consumers);
        owned.filter_map(|id| Some((*id, self.consumers.get(id)?.origin)))
    }

    /// What a peer sends on, as others see it.
    pub fn of(&self, conn: ConnId) -> impl Iterator<Item = &DataInfo> {
        let owned = self.owned.get(&conn).into_iter().flat_map(|owned| &owned.producers);
        owned.filter_map(|id| self.producers.get(id)).filter(|made| made.ready).map(|made| &made.info)
    }
}

/// What belongs to one peer.
#[derive(Default)]
struct Owned {
    producers: Vec<DataProducerId>,
    consumers: Vec<DataConsumerId>,
}

/// A data producer where its owner is.
pub(super) struct Produced {
    pub room: RoomName,
    pub router: RouterId,
    pub worker: WorkerId,
    /// The worker has made it.
    pub ready: bool,
    pub info: DataInfo,
}

/// A data consumer.
pub(super) struct Consuming {
    pub conn: ConnId,
    pub room: RoomName,
    pub router: RouterId,
    pub worker: WorkerId,
    pub direct: bool,
    /// The producer it was asked for by.
    pub origin: DataProducerId,
}

impl State {
    /// Asks for a data producer.
    pub fn produce_data(
        &mut self,
        conn: ConnId,
        transport: Option<TransportId>,
        (parameters, label, protocol, app_data): (Option<SctpStreamParameters>, String, String, Value),
    ) -> Result<(DataProducerId, Pending), ControlError> {
        let (room, router, worker) = self.data_place(conn, transport)?;
        if self.member(conn)?.spy {
            return Err(ControlError::NotAllowed("a spy says nothing"));
        }
        let owned = self.data.owned.get(&conn);
        if owned.is_some_and(|owned| owned.producers.len() >= self.config.max_data_producers_per_peer) {
            return Err(ControlError::NotAllowed("the peer has all the data producers it may have"));
        }
        if label.len() > self.config.max_data_label_bytes || protocol.len() > self.config.max_data_label_bytes
        {
            return Err(ControlError::NotAllowed("the data channel's label or protocol is too long"));
        }
        let id = DataProducerId(self.dispatcher.allocate());
        self.dispatcher.subscribe(id.0, worker, Target::DataProducer(conn));
        let mut data = json!({"label": label, "protocol": protocol, "x.connId": conn});
        if let (Some(parameters), Some(fields)) = (parameters, data.as_object_mut()) {
            fields.insert("sctpStreamParameters".into(), json!(parameters));
        }
        let info = DataInfo { conn, id, parameters, label, protocol, app_data };
        self.data.owned.entry(conn).or_default().producers.push(id);
        self.data.producers.insert(id, Produced { room, router, worker, ready: false, info });
        let method = match transport {
            Some(_) => Method::XTransportProduceData,
            None => Method::XRouterProduceData,
        };
        let transport_id = transport.map(|transport| transport.0);
        let internal = Internal { transport_id, ..on_data_producer(router, id) };
        let (waiter, pending) = oneshot::channel();
        self.ask(worker, method, internal, data, Reply::DataProducer(id, waiter));
        Ok((id, pending))
    }

    /// A data producer was made or refused.
    pub fn data_producer_answered(&mut self, id: DataProducerId, waiter: Waiter, result: Answer) {
        match (&result, self.data.producers.get_mut(&id)) {
            (Ok(_), Some(produced)) => {
                produced.ready = true;
                let (room, info) = (produced.room.clone(), produced.info.clone());
                info!(conn = %info.conn, %room, label = info.label, "a data channel");
                self.emit(&room, || RoomEvent::DataAdded(info));
            }
            (Err(_), Some(_)) => self.forget_data_producer(id),
            (_, None) => {}
        }
        drop(waiter.send(result));
    }

    /// Asks for a data consumer; its answer holds the stream, everything else is known already.
    pub fn consume_data(
        &mut self,
        conn: ConnId,
        transport: Option<TransportId>,
        origin: DataProducerId,
    ) -> Result<(DataConsumed, Pending), ControlError> {
        let (room, router, worker) = self.data_place(conn, transport)?;
        let owned = self.data.owned.get(&conn);
        if owned.is_some_and(|owned| owned.consumers.len() >= self.config.max_data_consumers_per_peer) {
            return Err(ControlError::NotAllowed("the peer has all the data consumers it may have"));
        }
        let produced = self.data.producers.get(&origin).filter(|produced| produced.room == room);
        let info = produced.ok_or(ControlError::NotAllowed("no such data producer"))?.info.clone();
        let local = self.data_on(&room, router, origin).ok_or(ControlError::WorkerLost)?;
        let id = DataConsumerId(self.dispatcher.allocate());
        self.dispatcher.subscribe(id.0, worker, Target::DataConsumer(conn));
        let direct = transport.is_none();
        self.data.owned.entry(conn).or_default().consumers.push(id);
        self.data.consumers.insert(id, Consuming { conn, room, router, worker, direct, origin });
        let method = match transport {
            Some(_) => Method::XTransportConsumeData,
            None => Method::XRouterConsumeData,
        };
        let internal = Internal {
            transport_id: transport.map(|transport| transport.0),
            data_producer_id: Some(local.0),
            ..on_data_consumer(router, id)
        };
        let (waiter, pending) = oneshot::channel();
        let data = json!({"x.connId": conn});
        self.ask(worker, method, internal, data, Reply::DataConsumer(id, waiter));
        let consumed = DataConsumed {
            id,
            data_producer_id: origin,
            sctp_stream_parameters: None,
            label: info.label,
            protocol: info.protocol,
            app_data: info.app_data,
        };
        Ok((consumed, pending))
    }

    /// A data consumer was made or refused.
    pub fn data_consumer_answered(&mut self, id: DataConsumerId, waiter: Waiter, result: Answer) {
        if result.is_err() {
            self.forget_data_consumer(id);
        }
        drop(waiter.send(result));
    }

    /// Where a member's data channels are: its room, router and worker.
    fn data_place(
        &mut self,
        conn: ConnId,
        transport: Option<TransportId>,
    ) -> Result<(RoomName, RouterId, WorkerId), ControlError> {
        let place = transport.map(|transport| self.place(conn, transport)).transpose()?;
        let entry = self.members.get(&conn).ok_or(ControlError::Closed)?;
        let (router, worker) = place.unwrap_or((entry.peer.router, entry.peer.worker));
        Ok((entry.room.clone(), router, worker))
    }

    /// Asks a data producer of a peer something.
    pub fn ask_data_producer(
        &mut self,
        conn: ConnId,
        id: DataProducerId,
        method: Method,
        data: Value,
        waiter: Waiter,
    ) -> Result<(), ControlError> {
        let produced = self.data.producers.get(&id).filter(|produced| produced.info.conn == conn);
        let produced = produced.ok_or(ControlError::NotAllowed("that is no data producer of this peer"))?;
        let (worker, internal) = (produced.worker, on_data_producer(produced.router, id));
        self.ask(worker, method, internal, data, Reply::Value(waiter));
        Ok(())
    }

    /// Asks a data consumer of a peer something.
    pub fn ask_data_consumer(
        &mut self,
        conn: ConnId,
        id: DataConsumerId,
        method: Method,
        data: Value,
        waiter: Waiter,
    ) -> Result<(), ControlError> {
        let consuming = self.data.consumers.get(&id).filter(|consuming| consuming.conn == conn);
        let consuming = consuming.ok_or(ControlError::NotAllowed("that is no data consumer of this peer"))?;
        let (worker, internal) = (consuming.worker, on_data_consumer(consuming.router, id));
        self.ask(worker, method, internal, data, Reply::Value(waiter));
        Ok(())
    }

    /// Ends a data producer of a peer.
    pub fn close_data_producer(&mut self, conn: ConnId, id: DataProducerId) -> Result<(), ControlError> {
        let produced = self.data.producers.get(&id).filter(|produced| produced.info.conn == conn);
        let produced = produced.ok_or(ControlError::NotAllowed("that is no data producer of this peer"))?;
        let (worker, internal) = (produced.worker, on_data_producer(produced.router, id));
        self.tell(worker, Method::XDataProducerClose, internal, json!({}));
        self.forget_data_producer(id);
        Ok(())
    }

    /// Ends a data consumer of a peer.
    pub fn close_data_consumer(&mut self, conn: ConnId, id: DataConsumerId) -> Result<(), ControlError> {
        let consuming = self.data.consumers.get(&id).filter(|consuming| consuming.conn == conn);
        let consuming = consuming.ok_or(ControlError::NotAllowed("that is no data consumer of this peer"))?;
        let (worker, internal) = (consuming.worker, on_data_consumer(consuming.router, id));
        self.tell(worker, Method::XDataConsumerClose, internal, json!({}));
        self.forget_data_consumer(id);
        Ok(())
    }

    /// Takes the data channels of a peer that is moved out of its room: what it is sent there ends, and what others
    /// there are sent of it. What goes by no transport ends, too.
    pub fn move_data_out(&mut self, conn: ConnId) {
        let Some(owned) = self.data.owned.get(&conn) else { return };
        let (producers, mut consumers) = (owned.producers.clone(), owned.consumers.clone());
        let taken =
            self.data.consumers.iter().filter(|(_, it)| it.conn != conn && producers.contains(&it.origin));
        consumers.extend(taken.map(|(id, _)| *id));
        for id in consumers {
            let Some(taker) = self.data.consumers.get(&id).map(|consuming| consuming.conn) else { continue };
            if self.close_data_consumer(taker, id).is_ok() {
                self.tell_peer(taker, PeerEvent::DataConsumerClosed(id));
            }
        }
        for id in producers {
            let Some(produced) = self.data.producers.get(&id) else { continue };
            if produced.info.parameters.is_none() {
                if self.close_data_producer(conn, id).is_ok() {
                    self.tell_peer(conn, PeerEvent::DataProducerClosed(id));
                }
            } else if produced.ready {
                let room = produced.room.clone();
                self.emit(&room, || RoomEvent::DataRemoved { conn, data_producer: id });
            }
        }
    }

    /// Brings them into the other room.
    pub fn move_data_in(&mut self, to: &RoomName, conn: ConnId) {
        let producers = self.data.owned.get(&conn).map(|owned| owned.producers.clone()).unwrap_or_default();
        for id in producers {
            let Some(produced) = self.data.producers.get_mut(&id) else { continue };
            produced.room = to.clone();
            if produced.ready {
                let info = produced.info.clone();
                self.emit(to, || RoomEvent::DataAdded(info));
            }
        }
    }

    /// A peer is gone, and its transports with it: so is what went by them. What went by none is closed here.
    pub fn close_data_of(&mut self, conn: ConnId) {
        let Some(owned) = self.data.owned.remove(&conn) else { return };
        for id in owned.consumers {
            match self.data.consumers.get(&id).is_some_and(|consuming| consuming.direct) {
                true => drop(self.close_data_consumer(conn, id)),
                false => self.forget_data_consumer(id),
            }
        }
        for id in owned.producers {
            match self.data.producers.get(&id).is_some_and(|produced| produced.info.parameters.is_none()) {
                true => drop(self.close_data_producer(conn, id)),
                false => self.forget_data_producer(id),
            }
        }
    }

    /// Ends what members have on a router that is gone, whose worker says nothing of it any more.
    pub(super) fn end_data_of_members(&mut self, room: &RoomName, router: RouterId) {
        let here = self.data.consumers.iter();
        let here = here.filter(|(_, consuming)| consuming.router == router && consuming.room == *room);
        for (id, conn) in here.map(|(id, consuming)| (*id, consuming.conn)).collect::<Vec<_>>() {
            self.forget_data_consumer(id);
            self.tell_peer(conn, PeerEvent::DataConsumerClosed(id));
        }
        let here = self.data.producers.iter();
        let here = here.filter(|(_, produced)| produced.router == router && produced.room == *room);
        for (id, conn) in here.map(|(id, produced)| (*id, produced.info.conn)).collect::<Vec<_>>() {
            self.forget_data_producer(id);
            self.tell_peer(conn, PeerEvent::DataProducerClosed(id));
        }
    }

    /// A data producer is gone on the worker's side, or was never made. Its consumers there end by themselves.
    fn forget_data_producer(&mut self, id: DataProducerId) {
        self.dispatcher.unsubscribe(id.0);
        let Some(produced) = self.data.producers.remove(&id) else { return };
        if let Some(owned) = self.data.owned.get_mut(&produced.info.conn) {
            owned.producers.retain(|other| *other != id);
        }
        self.unpipe_data(&produced.room, id);
        if produced.ready {
            let conn = produced.info.conn;
            self.emit(&produced.room, || RoomEvent::DataRemoved { conn, data_producer: id });
        }
    }

    fn forget_data_consumer(&mut self, id: DataConsumerId) {
        self.dispatcher.unsubscribe(id.0);
        let Some(consuming) = self.data.consumers.remove(&id) else { return };
        if let Some(owned) = self.data.owned.get_mut(&consuming.conn) {
            owned.consumers.retain(|other| *other != id);
        }
        self.release_data(&consuming.room, consuming.router, consuming.origin);
    }

    /// Something happened to a data producer.
    pub fn data_producer_event(&mut self, conn: ConnId, id: DataProducerId, event: &str) {
        debug!(%conn, data_producer = %id, event, "data producer");
        if event == "close" {
            self.forget_data_producer(id);
            self.tell_peer(conn, PeerEvent::DataProducerClosed(id));
        }
    }

    /// Something happened to a data consumer.
    pub fn data_consumer_event(&mut self, conn: ConnId, id: DataConsumerId, event: &str, data: &Value) {
        let told = match event {
            "close" => {
                self.forget_data_consumer(id);
                PeerEvent::DataConsumerClosed(id)
            }
            "sourcepaused" => PeerEvent::DataConsumerPaused(id),
            "sourceresumed" => PeerEvent::DataConsumerResumed(id),
            "x.bufferedamountlow" => {
                let buffered = data["bufferedAmount"].as_u64().unwrap_or_default();
                PeerEvent::BufferedAmountLow { consumer: id, buffered }
            }
            "x.message" => match data.as_object().map(DataMessage::from_json) {
                Some(Ok(message)) => PeerEvent::DataMessage { consumer: id, message },
                _ => return,
            },
            _ => return debug!(%conn, data_consumer = %id, event, "data consumer"),
        };
        self.tell_peer(conn, told);
    }
}

/// A data producer on a router.
pub(super) fn on_data_producer(router: RouterId, producer: DataProducerId) -> Internal {
    Internal { data_producer_id: Some(producer.0), ..on_router(router) }
}

/// A data consumer on a router.
pub(super) fn on_data_consumer(router: RouterId, consumer: DataConsumerId) -> Internal {
    Internal { data_consumer_id: Some(consumer.0), ..on_router(router) }
}
