//! Data channels: what the worker channel of mediasoup v2 did not have, in the shapes of v3 with `x.`.

use crate::core::control::controller::vocabulary::worker::{NOTHING, ROUTER, TRANSPORT, entry};
use crate::core::control::controller::vocabulary::{Entry, Field};
use crate::core::message::Method;

const PRODUCER: Field = Field::number("dataProducerId", "");
const CONSUMER: Field = Field::number("dataConsumerId", "");
const NEW_PRODUCER: Field = Field::number("dataProducerId", "new");
const NEW_CONSUMER: Field = Field::number("dataConsumerId", "new");
const ON_PRODUCER: &[Field] = &[ROUTER, PRODUCER];
const ON_CONSUMER: &[Field] = &[ROUTER, CONSUMER];
const LABEL: Field = Field::text("label", "its name for applications").optional();
const PROTOCOL: Field = Field::text("protocol", "the sub-protocol spoken on it").optional();
const APP_DATA: Field = Field::json("appData", "the application's own, told in rooms").optional();
const MESSAGE: &[Field] =
    &[Field::text("text", "the message").optional(), Field::text("binary", "or this, in base64").optional()];

pub(super) const CHANNELS: &[Entry] = &[
    entry(
        Method::XTransportProduceData,
        "A data channel that the remote party feeds.",
        &[ROUTER, TRANSPORT, NEW_PRODUCER],
        &[
            Field::json(
                "sctpStreamParameters",
                "`{streamId, ordered?, maxPacketLifeTime?, maxRetransmits?}`",
            ),
            LABEL,
            PROTOCOL,
            APP_DATA,
        ],
        "the data producer's dump",
    ),
    entry(
        Method::XTransportConsumeData,
        "A data channel to the remote party.",
        &[ROUTER, TRANSPORT, NEW_CONSUMER, PRODUCER],
        &[],
        "`{sctpStreamParameters}`",
    ),
    entry(
        Method::XRouterProduceData,
        "A data producer that the controller feeds.",
        &[ROUTER, NEW_PRODUCER],
        &[LABEL, PROTOCOL, APP_DATA],
        "the data producer's dump",
    ),
    entry(
        Method::XRouterConsumeData,
        "A data consumer whose messages come to the controller, as events `x.message`.",
        &[ROUTER, NEW_CONSUMER, PRODUCER],
        &[],
        NOTHING,
    ),
    entry(Method::XDataProducerClose, "Ends a data producer, and its consumers.", ON_PRODUCER, &[], NOTHING),
    entry(
        Method::XDataProducerDump,
        "The state of a data producer.",
        ON_PRODUCER,
        &[],
        "the data producer's dump",
    ),
    entry(
        Method::XDataProducerGetStats,
        "The statistics of a data producer.",
        ON_PRODUCER,
        &[],
        "a list of one object",
    ),
    entry(Method::XDataProducerPause, "Drops what comes from it.", ON_PRODUCER, &[], NOTHING),
    entry(Method::XDataProducerResume, "Forwards again.", ON_PRODUCER, &[], NOTHING),
    entry(Method::XDataProducerSend, "A message into the room.", ON_PRODUCER, MESSAGE, NOTHING),
    entry(Method::XDataConsumerClose, "Ends a data consumer.", ON_CONSUMER, &[], NOTHING),
    entry(
        Method::XDataConsumerDump,
        "The state of a data consumer.",
        ON_CONSUMER,
        &[],
        "the data consumer's dump",
    ),
    entry(
        Method::XDataConsumerGetStats,
        "The statistics of a data consumer.",
        ON_CONSUMER,
        &[],
        "a list of one object",
    ),
    entry(Method::XDataConsumerPause, "Drops what would go to it.", ON_CONSUMER, &[], NOTHING),
    entry(Method::XDataConsumerResume, "Sends again.", ON_CONSUMER, &[], NOTHING),
    entry(
        Method::XDataConsumerSend,
        "A message to this receiver alone.",
        ON_CONSUMER,
        MESSAGE,
        "`{bufferedAmount}`",
    ),
    entry(
        Method::XDataConsumerSetBufferedAmountLowThreshold,
        "Asks for the event `x.bufferedamountlow`.",
        ON_CONSUMER,
        &[Field::number("threshold", "bytes that wait, at most, when it comes")],
        NOTHING,
    ),
];
