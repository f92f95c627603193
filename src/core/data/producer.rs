//! Data channels into a router.

use serde_json::{Value, json};

use crate::core::data::{DataMessage, Delivery, SctpStreamParameters};
use crate::core::id::{ConnId, DataProducerId};
use crate::core::time::MediaTime;

/// Where a data producer's messages come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Inlet {
    /// A stream of its transport's session.
    Stream(u16),
    /// A pipe, where it has this number.
    Pipe(u32),
    /// The control protocol.
    Direct,
}

/// See the module.
#[derive(Debug)]
pub struct DataProducer {
    /// Its id in the control protocol.
    pub id: DataProducerId,
    /// Whose it is.
    pub conn: ConnId,
    /// Key of its transport within the router; none for a direct one.
    pub transport: Option<usize>,
    /// Where its messages come from.
    pub inlet: Inlet,
    /// How its channel delivers; consumers do the same.
    pub delivery: Delivery,
    /// Its name for applications.
    pub label: String,
    /// The sub-protocol spoken on it.
    pub protocol: String,
    /// What comes is dropped.
    pub paused: bool,
    /// Keys of its consumers.
    pub consumers: Vec<usize>,
    received: (u64, u64),
}

impl DataProducer {
    /// A producer without consumers.
    pub fn new(
        (id, conn, transport): (DataProducerId, ConnId, Option<usize>),
        inlet: Inlet,
        delivery: Delivery,
        (label, protocol): (String, String),
    ) -> Self {
        DataProducer {
            id,
            conn,
            transport,
            inlet,
            delivery,
            label,
            protocol,
            paused: false,
            consumers: Vec::new(),
            received: (0, 0),
        }
    }

    /// Counts a message; whether it goes on.
    pub fn receive(&mut self, message: &DataMessage) -> bool {
        self.received.0 += 1;
        self.received.1 += message.payload.len() as u64;
        !self.paused
    }

    /// `x.dataProducer.dump`.
    pub fn dump(&self) -> Value {
        let (kind, parameters) = match self.inlet {
            Inlet::Stream(stream_id) => {
                ("sctp", Some(SctpStreamParameters { stream_id, delivery: self.delivery }))
            }
            Inlet::Pipe(_) => ("pipe", None),
            Inlet::Direct => ("direct", None),
        };
        json!({
            "dataProducerId": self.id,
            "type": kind,
            "sctpStreamParameters": parameters,
            "label": self.label,
            "protocol": self.protocol,
            "paused": self.paused,
        })
    }

    /// `x.dataProducer.getStats`.
    pub fn stats(&self, now: MediaTime) -> Value {
        json!([{
            "type": "data-producer",
            "timestamp": now.as_micros() / 1000,
            "label": self.label,
            "protocol": self.protocol,
            "messagesReceived": self.received.0,
            "bytesReceived": self.received.1,
        }])
    }
}
