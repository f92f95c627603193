//! What a session asks of the room, and what comes back: values, so that a session is tested without one.

use std::num::NonZeroU8;

use serde_json::Value;

use crate::core::capabilities::RtpParameters;
use crate::core::control::{Consumed, DataConsumed, IceParameters, Produce, WebRtcTransport};
use crate::core::data::SctpStreamParameters;
use crate::core::id::{ConnId, ConsumerId, DataConsumerId, DataProducerId, ProducerId, TransportId};
use crate::core::message::WebRtcOptions;
use crate::core::profile::Profile;
use crate::core::session::{DtlsRole, Fingerprint};

/// How somebody enters a room.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name in the room.
    pub name: String,
    /// Its name for people.
    pub display_name: Option<String>,
    /// The application's own.
    pub app_data: Value,
    /// Nobody is told of it.
    pub spy: bool,
    /// The others are told of it at once, not only when it is announced.
    pub announced: bool,
}

/// A request to the room, or to the client's own things in it. Requests are begun in the order in which they
/// are asked; what belongs to one transport reaches the worker in that order.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Enters; answered with [`Answer::Joined`] when all that was in the room has been told.
    Join(Entry),
    /// [`Answer::Done`]: tells the others of a client that entered unannounced; its name for people, its application's data.
    Announce(Option<String>, Value),
    /// Leaves; answered at once, and nothing is told of the room any more.
    Leave,
    /// [`Answer::Transport`].
    CreateTransport(WebRtcOptions),
    /// [`Answer::Role`]: ours, after the client said its own and its certificates' fingerprints.
    ConnectTransport(TransportId, DtlsRole, Vec<Fingerprint>),
    /// [`Answer::Ice`].
    RestartIce(TransportId),
    /// [`Answer::Done`].
    CloseTransport(TransportId),
    /// [`Answer::Value`].
    TransportStats(TransportId),
    /// [`Answer::Producer`].
    Produce(TransportId, Produce),
    /// [`Answer::Done`].
    CloseProducer(ProducerId),
    /// [`Answer::Done`].
    PauseProducer(ProducerId),
    /// [`Answer::Done`].
    ResumeProducer(ProducerId),
    /// [`Answer::Value`].
    ProducerStats(ProducerId),
    /// [`Answer::Consumed`].
    Consume {
        /// By which transport.
        transport: TransportId,
        /// Which track.
        track: ProducerId,
        /// How.
        rtp: RtpParameters,
        /// Not yet.
        paused: bool,
    },
    /// [`Answer::Done`].
    CloseConsumer(ConsumerId),
    /// [`Answer::Done`].
    PauseConsumer(ConsumerId),
    /// [`Answer::Done`].
    ResumeConsumer(ConsumerId),
    /// [`Answer::Done`].
    PreferProfile(ConsumerId, Profile),
    /// [`Answer::Done`]: spatial, temporal.
    PreferLayers(ConsumerId, u8, Option<u8>),
    /// [`Answer::Done`]: how much it counts where the client's path does not take all.
    SetPriority(ConsumerId, NonZeroU8),
    /// [`Answer::Done`].
    RequestKeyframe(ConsumerId),
    /// [`Answer::Value`].
    ConsumerStats(ConsumerId),
    /// [`Answer::DataProducer`].
    ProduceData {
        /// By which transport.
        transport: TransportId,
        /// On which stream, and how it delivers.
        parameters: SctpStreamParameters,
        /// Its name for applications.
        label: String,
        /// The sub-protocol spoken on it.
        protocol: String,
        /// The application's own.
        app_data: Value,
    },
    /// [`Answer::Done`].
    CloseDataProducer(DataProducerId),
    /// [`Answer::Value`].
    DataProducerStats(DataProducerId),
    /// [`Answer::DataConsumed`]: by which transport, what.
    ConsumeData(TransportId, DataProducerId),
    /// [`Answer::Done`].
    CloseDataConsumer(DataConsumerId),
    /// [`Answer::Value`].
    DataConsumerStats(DataConsumerId),
    /// [`Answer::Done`].
    Rename(Option<String>),
}

/// What comes back.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The client is in the room.
    Joined(ConnId),
    /// A transport stands.
    Transport(WebRtcTransport),
    /// Our role of DTLS.
    Role(DtlsRole),
    /// New credentials.
    Ice(IceParameters),
    /// A track stands.
    Producer(ProducerId),
    /// A consumer stands.
    Consumed(Box<Consumed>),
    /// A data producer stands.
    DataProducer(DataProducerId),
    /// A data consumer stands.
    DataConsumed(Box<DataConsumed>),
    /// Statistics.
    Value(Value),
    /// It is done.
    Done,
}
