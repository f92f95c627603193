//! Data channels out of a router.

use serde_json::{Value, json};

use crate::core::data::{DataMessage, DataProducer, Delivery, SctpStreamParameters, SendQueue};
use crate::core::id::{ConnId, DataConsumerId};
use crate::core::time::MediaTime;

/// Where a data consumer's messages go.
#[derive(Debug)]
pub enum Outlet {
    /// A stream of its transport's session.
    Stream(u16),
    /// A pipe; what finds its lane full waits here.
    Pipe(SendQueue),
    /// The control protocol.
    Direct,
}

/// See the module.
#[derive(Debug)]
pub struct DataConsumer {
    /// Its id in the control protocol.
    pub id: DataConsumerId,
    /// Whose it is.
    pub conn: ConnId,
    /// Key of its producer.
    pub producer: usize,
    /// Key of its transport within the router; none for a direct one.
    pub transport: Option<usize>,
    /// Where its messages go.
    pub outlet: Outlet,
    /// How it delivers.
    pub delivery: Delivery,
    /// What would go is dropped.
    pub paused: bool,
    /// The bytes at which its controller wants to hear that little waits.
    pub low_threshold: usize,
    sent: (u64, u64),
    refused: u64,
}

impl DataConsumer {
    /// A consumer of the producer `producer`.
    pub fn new(
        (id, conn, transport): (DataConsumerId, ConnId, Option<usize>),
        producer: usize,
        outlet: Outlet,
        delivery: Delivery,
    ) -> Self {
        DataConsumer {
            id,
            conn,
            producer,
            transport,
            outlet,
            delivery,
            paused: false,
            low_threshold: 0,
            sent: (0, 0),
            refused: 0,
        }
    }

    /// Counts a message that was, or was not, taken on its way.
    pub fn note(&mut self, message: &DataMessage, taken: bool) {
        if taken {
            self.sent.0 += 1;
            self.sent.1 += message.payload.len() as u64;
        } else {
            self.refused += 1;
        }
    }

    /// `x.dataConsumer.dump`.
    pub fn dump(&self, producer: Option<&DataProducer>) -> Value {
        let (kind, parameters) = match self.outlet {
            Outlet::Stream(stream_id) => {
                ("sctp", Some(SctpStreamParameters { stream_id, delivery: self.delivery }))
            }
            Outlet::Pipe(_) => ("pipe", None),
            Outlet::Direct => ("direct", None),
        };
        json!({
            "dataConsumerId": self.id,
            "type": kind,
            "dataProducerId": producer.map(|producer| producer.id),
            "sctpStreamParameters": parameters,
            "label": producer.map(|producer| &producer.label),
            "protocol": producer.map(|producer| &producer.protocol),
            "paused": self.paused,
            "dataProducerPaused": producer.is_some_and(|producer| producer.paused),
            "bufferedAmountLowThreshold": self.low_threshold,
        })
    }

    /// `x.dataConsumer.getStats`; `buffered` bytes wait for its receiver.
    pub fn stats(&self, producer: Option<&DataProducer>, buffered: u64, now: MediaTime) -> Value {
        let dropped = match &self.outlet {
            Outlet::Pipe(queue) => queue.dropped(),
            _ => 0,
        };
        json!([{
            "type": "data-consumer",
            "timestamp": now.as_micros() / 1000,
            "label": producer.map(|producer| &producer.label),
            "protocol": producer.map(|producer| &producer.protocol),
            "messagesSent": self.sent.0,
            "bytesSent": self.sent.1,
            "bufferedAmount": buffered,
            "x.messagesRefused": self.refused + dropped,
        }])
    }
}
