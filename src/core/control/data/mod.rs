//! What a door does with data channels: producing, consuming, sending into the room from here, and the
//! events that come back. A data producer is known by one id in all of its room; where a receiver sits on
//! another worker, [`pipes`] carries it there.

mod pipes;
mod state;

use futures_channel::oneshot;
use serde::Serialize;
use serde_json::{Value, json};

use crate::core::control::error::ControlError;
use crate::core::control::handle::{Peer, answer, read};
use crate::core::control::state::State;
use crate::core::data::{DataMessage, SctpStreamParameters};
use crate::core::id::{ConnId, DataConsumerId, DataProducerId, TransportId};
use crate::core::message::Method;

pub(super) use state::Channels;

/// A data producer as others in the room see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataInfo {
    /// Whose it is.
    #[serde(rename = "connId")]
    pub conn: ConnId,
    /// It.
    #[serde(rename = "dataProducerId")]
    pub id: DataProducerId,
    /// How it delivers; `None` for one that is fed by [`Peer::send_data`].
    #[serde(rename = "sctpStreamParameters")]
    pub parameters: Option<SctpStreamParameters>,
    /// Its name for applications.
    pub label: String,
    /// The sub-protocol spoken on it.
    pub protocol: String,
    /// Whatever its owner added.
    pub app_data: Value,
}

/// A data consumer that was made, as its receiver must know it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataConsumed {
    /// The data consumer.
    pub id: DataConsumerId,
    /// What it consumes.
    pub data_producer_id: DataProducerId,
    /// Its stream and how it delivers; `None` for one whose messages come as
    /// [`PeerEvent::DataMessage`](super::PeerEvent::DataMessage).
    pub sctp_stream_parameters: Option<SctpStreamParameters>,
    /// The producer's name for applications.
    pub label: String,
    /// The sub-protocol spoken on it.
    pub protocol: String,
    /// Whatever the producer's owner added.
    pub app_data: Value,
}

impl Peer {
    /// Makes a data producer of what the party sends on a stream of `transport`.
    pub async fn produce_data(
        &self,
        transport: TransportId,
        parameters: SctpStreamParameters,
        label: String,
        protocol: String,
        app_data: Value,
    ) -> Result<DataProducerId, ControlError> {
        let info = (Some(parameters), label, protocol, app_data);
        self.new_data_producer(Some(transport), info).await
    }

    /// Makes a data producer that is fed from here, by [`Peer::send_data`].
    pub async fn produce_direct_data(
        &self,
        label: String,
        protocol: String,
        app_data: Value,
    ) -> Result<DataProducerId, ControlError> {
        self.new_data_producer(None, (None, label, protocol, app_data)).await
    }

    async fn new_data_producer(
        &self,
        transport: Option<TransportId>,
        info: (Option<SctpStreamParameters>, String, String, Value),
    ) -> Result<DataProducerId, ControlError> {
        let (id, pending) = self.rooms().step(|state| state.produce_data(self.conn(), transport, info))?;
        answer(pending).await?;
        Ok(id)
    }

    /// Sends the party the messages of a data producer of its room, on a stream of `transport` that is
    /// chosen here.
    pub async fn consume_data(
        &self,
        transport: TransportId,
        data_producer: DataProducerId,
    ) -> Result<DataConsumed, ControlError> {
        self.new_data_consumer(Some(transport), data_producer).await
    }

    /// Has the messages of a data producer come here, as [`PeerEvent::DataMessage`](super::PeerEvent).
    pub async fn consume_direct_data(
        &self,
        data_producer: DataProducerId,
    ) -> Result<DataConsumed, ControlError> {
        self.new_data_consumer(None, data_producer).await
    }

    async fn new_data_consumer(
        &self,
        transport: Option<TransportId>,
        producer: DataProducerId,
    ) -> Result<DataConsumed, ControlError> {
        let ask = |state: &mut State| state.consume_data(self.conn(), transport, producer);
        let (mut consumed, pending) = self.rooms().step(ask)?;
        let mut answer = answer(pending).await?;
        consumed.sctp_stream_parameters = match answer.get_mut("sctpStreamParameters") {
            Some(parameters) => Some(read(parameters.take())?),
            None => None,
        };
        Ok(consumed)
    }

    /// A message into the room through a producer made by [`Peer::produce_direct_data`].
    pub async fn send_data(
        &self,
        producer: DataProducerId,
        message: &DataMessage,
    ) -> Result<(), ControlError> {
        self.ask_data_producer(producer, Method::XDataProducerSend, message.to_json()).await.map(drop)
    }

    /// A message to the receiver of one data consumer alone.
    pub async fn send_to_data_consumer(
        &self,
        consumer: DataConsumerId,
        message: &DataMessage,
    ) -> Result<(), ControlError> {
        self.ask_data_consumer(consumer, Method::XDataConsumerSend, message.to_json()).await.map(drop)
    }

    /// Ends a data producer of this peer, and with it whatever consumes it.
    pub async fn close_data_producer(&self, producer: DataProducerId) -> Result<(), ControlError> {
        self.rooms().step(|state| state.close_data_producer(self.conn(), producer))
    }

    /// Ends a data consumer of this peer.
    pub async fn close_data_consumer(&self, consumer: DataConsumerId) -> Result<(), ControlError> {
        self.rooms().step(|state| state.close_data_consumer(self.conn(), consumer))
    }

    /// Drops what the producer's party sends from now on.
    pub async fn pause_data_producer(&self, producer: DataProducerId) -> Result<(), ControlError> {
        self.ask_data_producer(producer, Method::XDataProducerPause, json!({})).await.map(drop)
    }

    /// Forwards it again.
    pub async fn resume_data_producer(&self, producer: DataProducerId) -> Result<(), ControlError> {
        self.ask_data_producer(producer, Method::XDataProducerResume, json!({})).await.map(drop)
    }

    /// Drops what would go to the consumer's receiver from now on.
    pub async fn pause_data_consumer(&self, consumer: DataConsumerId) -> Result<(), ControlError> {
        self.ask_data_consumer(consumer, Method::XDataConsumerPause, json!({})).await.map(drop)
    }

    /// Sends again.
    pub async fn resume_data_consumer(&self, consumer: DataConsumerId) -> Result<(), ControlError> {
        self.ask_data_consumer(consumer, Method::XDataConsumerResume, json!({})).await.map(drop)
    }

    /// Statistics of a data producer of this peer.
    pub async fn data_producer_stats(&self, producer: DataProducerId) -> Result<Value, ControlError> {
        self.ask_data_producer(producer, Method::XDataProducerGetStats, json!({})).await
    }

    /// Statistics of a data consumer of this peer.
    pub async fn data_consumer_stats(&self, consumer: DataConsumerId) -> Result<Value, ControlError> {
        self.ask_data_consumer(consumer, Method::XDataConsumerGetStats, json!({})).await
    }

    /// Asks for [`PeerEvent::BufferedAmountLow`](super::PeerEvent) when at most `bytes` wait for a receiver.
    pub async fn set_buffered_amount_low_threshold(
        &self,
        consumer: DataConsumerId,
        bytes: usize,
    ) -> Result<(), ControlError> {
        let method = Method::XDataConsumerSetBufferedAmountLowThreshold;
        self.ask_data_consumer(consumer, method, json!({"threshold": bytes})).await.map(drop)
    }

    async fn ask_data_producer(
        &self,
        producer: DataProducerId,
        method: Method,
        data: Value,
    ) -> Result<Value, ControlError> {
        let ask = |waiter| {
            self.rooms().step(|state| state.ask_data_producer(self.conn(), producer, method, data, waiter))
        };
        asked(ask).await
    }

    async fn ask_data_consumer(
        &self,
        consumer: DataConsumerId,
        method: Method,
        data: Value,
    ) -> Result<Value, ControlError> {
        let ask = |waiter| {
            self.rooms().step(|state| state.ask_data_consumer(self.conn(), consumer, method, data, waiter))
        };
        asked(ask).await
    }
}

async fn asked(
    ask: impl FnOnce(oneshot::Sender<Result<Value, ControlError>>) -> Result<(), ControlError>,
) -> Result<Value, ControlError> {
    let (waiter, pending) = oneshot::channel();
    ask(waiter)?;
    answer(pending).await
}
