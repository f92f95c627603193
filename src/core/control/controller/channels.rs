//! Data channels of a room that a controller is in: those of the others to be consumed, its own to be fed, by the
//! same requests as on its routers.

use serde_json::{Value, json};

use crate::core::control::controller::code::Fault;
use crate::core::control::controller::member::{Then, asked_for, read};
use crate::core::control::controller::scope::{Entity, Kind, Owner};
use crate::core::control::controller::{ControllerId, watch};
use crate::core::control::data::DataInfo;
use crate::core::control::peer_events::PeerEvent;
use crate::core::control::publish::Pending;
use crate::core::control::state::State;
use crate::core::id::{ConnId, DataConsumerId, DataProducerId, TransportId};
use crate::core::message::{Internal, Method};

/// What becomes of a request.
pub(super) enum Channelled {
    /// It is done.
    Done,
    /// A worker answers.
    Later(Then, Pending),
}

/// The request: on which attached router, of which peer, about what.
pub(super) struct OnChannel<'a> {
    pub conn: ConnId,
    pub router: u32,
    pub internal: &'a Internal,
    /// The controller's id of the data producer or consumer.
    pub name: u32,
    /// The controller's id of the transport.
    pub transport: Option<u32>,
    pub data: Value,
}

impl State {
    /// Carries out a request about data channels.
    pub(super) fn member_channel(
        &mut self,
        id: ControllerId,
        method: Method,
        request: OnChannel<'_>,
    ) -> Result<Channelled, Fault> {
        let OnChannel { conn, router, internal, name, transport, data } = request;
        let producer = DataProducerId(internal.data_producer_id.unwrap_or_default());
        let consumer = DataConsumerId(internal.data_consumer_id.unwrap_or_default());
        let by = internal.transport_id.map(TransportId);
        let done = match method {
            Method::XTransportProduceData | Method::XRouterProduceData => {
                self.own(id)?.scope.check_new(name)?;
                let parameters = by.map(|_| read(&data, "sctpStreamParameters")).transpose()?;
                let text = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                let app_data = data.get("appData").cloned().unwrap_or_default();
                let info = (parameters, text("label"), text("protocol"), app_data);
                let (made, pending) = self.produce_data(conn, by, info)?;
                self.enter_member(id, name, (Kind::DataProducer, made.0), (conn, router, transport))?;
                (Then::Made(name), pending)
            }
            Method::XTransportConsumeData | Method::XRouterConsumeData => {
                self.own(id)?.scope.check_new(name)?;
                let (made, pending) = self.consume_data(conn, by, producer)?;
                self.enter_member(id, name, (Kind::DataConsumer, made.id.0), (conn, router, transport))?;
                (Then::Made(name), pending)
            }
            Method::XDataProducerClose => {
                self.close_data_producer(conn, producer)?;
                self.closed(id, name, &asked_for());
                return Ok(Channelled::Done);
            }
            Method::XDataConsumerClose => {
                self.close_data_consumer(conn, consumer)?;
                self.closed(id, name, &asked_for());
                return Ok(Channelled::Done);
            }
            Method::XDataProducerDump
            | Method::XDataProducerGetStats
            | Method::XDataProducerPause
            | Method::XDataProducerResume
            | Method::XDataProducerSend => {
                // Others' can be looked at: what would change them was refused before.
                let owner = self.data.owner(producer).unwrap_or(conn);
                (
                    Then::Pass,
                    self.pending(|state, waiter| {
                        state.ask_data_producer(owner, producer, method, data, waiter)
                    })?,
                )
            }
            _ => (
                Then::Pass,
                self.pending(|state, waiter| state.ask_data_consumer(conn, consumer, method, data, waiter))?,
            ),
        };
        Ok(Channelled::Later(done.0, done.1))
    }

    /// A data channel of somebody else's in a room that a controller is in.
    pub(super) fn channel_seen(&mut self, id: ControllerId, (router, own): (u32, ConnId), info: &DataInfo) {
        let Ok(worker) = self.member(own).map(|peer| peer.worker) else { return };
        let Some(controller) = self.controllers.list.get_mut(&id) else { return };
        let name = controller.scope.give();
        let (kind, owner, ours) = (Kind::DataProducer, Owner::Room(info.conn), info.id.0);
        controller.scope.insert(name, Entity { kind, owner, ours, worker, router, transport: None });
        let mut data = watch::of_channel(info);
        data["dataProducerId"] = name.into();
        self.controllers.tell(id, router, "dataadded", &data);
    }
}

/// What happened to a data channel of the peer, in the words of the protocol.
pub(super) fn told(event: PeerEvent) -> Option<(u32, &'static str, Value)> {
    let ended = || json!({"code": "track_ended", "reason": "it, or what it hung on, is closed"});
    Some(match event {
        PeerEvent::DataProducerClosed(producer) => (producer.0, "close", ended()),
        PeerEvent::DataConsumerClosed(consumer) => (consumer.0, "close", ended()),
        PeerEvent::DataConsumerPaused(consumer) => (consumer.0, "sourcepaused", Value::Null),
        PeerEvent::DataConsumerResumed(consumer) => (consumer.0, "sourceresumed", Value::Null),
        PeerEvent::DataMessage { consumer, message } => (consumer.0, "x.message", message.to_json()),
        PeerEvent::BufferedAmountLow { consumer, buffered } => {
            (consumer.0, "x.bufferedamountlow", json!({"bufferedAmount": buffered}))
        }
        PeerEvent::DataChannel { transport, parameters, label, protocol } => {
            let data = json!({"sctpStreamParameters": parameters, "label": label, "protocol": protocol});
            (transport.0, "x.datachannel", data)
        }
        _ => return None,
    })
}
