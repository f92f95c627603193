//! The vocabulary of the worker channel: the 34 methods of mediasoup v2, and ours with `x.`.

use crate::core::auth::Action;
use crate::core::control::controller::vocabulary::{By, Entry, Field};
use crate::core::message::Method;

pub(super) const ROUTER: Field = Field::number("routerId", "");
pub(super) const TRANSPORT: Field = Field::number("transportId", "");
const PRODUCER: Field = Field::number("producerId", "");
const CONSUMER: Field = Field::number("consumerId", "");

const ON_ROUTER: &[Field] = &[ROUTER];
const ON_TRANSPORT: &[Field] = &[ROUTER, TRANSPORT];
const ON_PRODUCER: &[Field] = &[ROUTER, PRODUCER];
const ON_CONSUMER: &[Field] = &[ROUTER, CONSUMER];

const WORKER: Field =
    Field::number("workerId", "which worker; otherwise the one with the least load").optional();
pub(super) const NOTHING: &str = "nothing";

pub(super) const fn entry(
    method: Method,
    about: &'static str,
    internal: &'static [Field],
    data: &'static [Field],
    answer: &'static str,
) -> Entry {
    let (name, by) = (method.as_str(), By::Worker(method));
    Entry { name, about, internal, data, answer, action: Action::Control, by }
}

pub(super) const WORKERS: &[Entry] = &[
    entry(
        Method::WorkerDump,
        "What the controller has on a worker, and the rooms that it may control of which something is there.",
        &[],
        &[Field::number("workerId", "which worker; otherwise the first").optional()],
        "`{workerId, routers: [router], rooms: [{room, receivers, consumers, home}]}`",
    ),
    entry(
        Method::WorkerUpdateSettings,
        "What a worker logs. Workers of the gateway log what `log.level` says: accepted, without effect.",
        &[],
        &[
            Field::text("logLevel", "`debug`, `warn`, `error`").optional(),
            Field::json("logTags", "list of texts").optional(),
        ],
        NOTHING,
    ),
    entry(
        Method::WorkerCreateRouter,
        "A new router, pinned to a worker.",
        &[Field::number("routerId", "new")],
        &[
            WORKER,
            Field::number(
                "linger",
                "milliseconds that it outlives the connection, at most `control.max_linger_ms`",
            )
            .optional(),
        ],
        NOTHING,
    ),
    entry(
        Method::XWorkerFail,
        "Lets a worker fail, to rehearse it: everything on it is lost, and it is replaced. Only with `control.drills`. Answered with `worker_lost`.",
        &[],
        &[Field::number("workerId", "which")],
        NOTHING,
    ),
    Entry {
        name: "CreateConference",
        about: "The same under the name it had in 2014. Without `routerId` the server gives one.",
        internal: &[Field::number("routerId", "its id").optional()],
        data: &[WORKER, Field::number("linger", "as above").optional()],
        answer: "`{routerId}`",
        action: Action::Control,
        by: By::Worker(Method::WorkerCreateRouter),
    },
];

pub(super) const ROUTERS: &[Entry] = &[
    entry(Method::RouterClose, "Ends a router and all that is on it.", ON_ROUTER, &[], NOTHING),
    entry(
        Method::RouterDump,
        "What is on a router, and who consumes whom.",
        ON_ROUTER,
        &[],
        "`{routerId, transports, producers, consumers, mapProducerConsumers, mapConsumerProducer, audioLevelsEventEnabled}`",
    ),
    entry(
        Method::RouterCreateWebRtcTransport,
        "A transport for ICE, DTLS and SRTP.",
        &[ROUTER, Field::number("transportId", "new")],
        &[
            Field::flag("udp", "offer UDP; default true").optional(),
            Field::flag("tcp", "offer TCP; default true").optional(),
            Field::flag("preferIPv4", "").optional(),
            Field::flag("preferIPv6", "").optional(),
            Field::flag("preferUdp", "").optional(),
            Field::flag("preferTcp", "").optional(),
            Field::flag("enableSctp", "carry data channels; default false").optional(),
        ],
        "the transport's dump",
    ),
    entry(
        Method::RouterCreatePlainRtpTransport,
        "A transport for RTP and RTCP on a port of its own.",
        &[ROUTER, Field::number("transportId", "new")],
        &[
            Field::text("remoteIP", "where to send, with `remotePort`").optional(),
            Field::number("remotePort", "").optional(),
            Field::text("localIP", "the address to listen on").optional(),
            Field::flag("preferIPv4", "").optional(),
            Field::flag("preferIPv6", "").optional(),
        ],
        "the transport's dump",
    ),
    entry(
        Method::RouterCreateProducer,
        "A track into the router.",
        &[ROUTER, TRANSPORT, Field::number("producerId", "new")],
        &[
            Field::text("kind", "`audio` or `video`"),
            Field::json("rtpParameters", "codecs, encodings, header extensions"),
            Field::json(
                "rtpMapping",
                "`{codecPayloadTypes: [[from, to]], headerExtensionIds: [[from, to]]}`",
            )
            .optional(),
            Field::flag("paused", "default false").optional(),
        ],
        NOTHING,
    ),
    entry(
        Method::RouterCreateConsumer,
        "A track out of the router, on no transport yet.",
        &[
            ROUTER,
            Field::number("consumerId", "new"),
            Field::number(
                "producerId",
                "the producer; without it, on an attached router, the room's program",
            )
            .optional(),
        ],
        &[Field::text("kind", "`audio` or `video`, as the producer")],
        NOTHING,
    ),
    entry(
        Method::RouterSetAudioLevelsEvent,
        "Switches the event `audiolevels`.",
        ON_ROUTER,
        &[Field::flag("enabled", "")],
        NOTHING,
    ),
    entry(Method::XRouterCreateStreamTransport, "Not from outside.", ON_ROUTER, &[], NOTHING),
    entry(Method::XRouterCreateDirectTransport, "Not from outside.", ON_ROUTER, &[], NOTHING),
    entry(Method::XRouterCreatePipeTransport, "Not from outside.", ON_ROUTER, &[], NOTHING),
];

pub(super) const TRANSPORTS: &[Entry] = &[
    entry(
        Method::TransportClose,
        "Ends a transport and its producers; its consumers are on no transport then.",
        ON_TRANSPORT,
        &[],
        NOTHING,
    ),
    entry(Method::TransportDump, "The state of a transport.", ON_TRANSPORT, &[], "the transport's dump"),
    entry(
        Method::TransportGetStats,
        "The statistics of a transport.",
        ON_TRANSPORT,
        &[],
        "a list of one object; of a plain transport an object",
    ),
    entry(
        Method::TransportSetRemoteDtlsParameters,
        "The remote side of DTLS. Once.",
        ON_TRANSPORT,
        &[
            Field::text("role", "`auto`, `client` or `server`; default `auto`").optional(),
            Field::json("fingerprints", "`[{algorithm, value}]`"),
        ],
        "`{role}`, our own",
    ),
    entry(
        Method::TransportSetRemoteParameters,
        "The remote address of a plain transport.",
        ON_TRANSPORT,
        &[Field::text("ip", ""), Field::number("port", "")],
        NOTHING,
    ),
    entry(
        Method::TransportSetMaxBitrate,
        "The bound on what the remote side may send.",
        ON_TRANSPORT,
        &[Field::number("bitrate", "bit/s")],
        NOTHING,
    ),
    entry(
        Method::TransportChangeUfragPwd,
        "New local ICE credentials.",
        ON_TRANSPORT,
        &[],
        "`{usernameFragment, password}`",
    ),
    entry(
        Method::TransportStartMirroring,
        "Copies decrypted packets to an address.",
        ON_TRANSPORT,
        &[
            Field::text("remoteIP", ""),
            Field::number("remotePort", ""),
            Field::text("localIP", "").optional(),
            Field::flag("sendRtp", "").optional(),
            Field::flag("sendRtcp", "").optional(),
            Field::flag("recvRtp", "").optional(),
            Field::flag("recvRtcp", "").optional(),
        ],
        NOTHING,
    ),
    entry(Method::TransportStopMirroring, "Stops copying.", ON_TRANSPORT, &[], NOTHING),
    entry(
        Method::XTransportSetRemoteIce,
        "The remote ICE credentials.",
        ON_TRANSPORT,
        &[Field::text("usernameFragment", ""), Field::text("password", "")],
        NOTHING,
    ),
];

pub(super) const PRODUCERS: &[Entry] = &[
    entry(Method::ProducerClose, "Ends a track, and the consumers made for it.", ON_PRODUCER, &[], NOTHING),
    entry(Method::ProducerDump, "The state of a producer.", ON_PRODUCER, &[], "the producer's dump"),
    entry(
        Method::ProducerGetStats,
        "The statistics of a producer.",
        ON_PRODUCER,
        &[],
        "a list, one object a stream",
    ),
    entry(Method::ProducerPause, "Stops forwarding.", ON_PRODUCER, &[], NOTHING),
    entry(Method::ProducerResume, "Goes on forwarding.", ON_PRODUCER, &[], NOTHING),
    entry(
        Method::ProducerSetPreferredProfile,
        "The highest layer taken from a layered track.",
        ON_PRODUCER,
        &[Field::text("profile", "`default`, `low`, `medium`, `high`")],
        NOTHING,
    ),
];

pub(super) const CONSUMERS: &[Entry] = &[
    entry(Method::ConsumerClose, "Ends a consumer.", ON_CONSUMER, &[], NOTHING),
    entry(Method::ConsumerDump, "The state of a consumer.", ON_CONSUMER, &[], "the consumer's dump"),
    entry(Method::ConsumerGetStats, "The statistics of a consumer.", ON_CONSUMER, &[], "a list of objects"),
    entry(
        Method::ConsumerEnable,
        "Puts a consumer on a transport.",
        &[ROUTER, TRANSPORT, CONSUMER],
        &[Field::json("rtpParameters", "with one encoding that has an ssrc")],
        NOTHING,
    ),
    entry(Method::ConsumerPause, "Stops sending.", ON_CONSUMER, &[], NOTHING),
    entry(Method::ConsumerResume, "Goes on sending, with a keyframe.", ON_CONSUMER, &[], NOTHING),
    entry(
        Method::ConsumerSetPreferredProfile,
        "The layer the receiver wants.",
        ON_CONSUMER,
        &[Field::text("profile", "`default`, `low`, `medium`, `high`")],
        NOTHING,
    ),
    entry(
        Method::ConsumerSetEncodingPreferences,
        "The layer by numbers, for tests.",
        ON_CONSUMER,
        &[
            Field::number("qualityLayer", "").optional(),
            Field::number("spatialLayer", "").optional(),
            Field::number("temporalLayer", "").optional(),
        ],
        NOTHING,
    ),
    entry(
        Method::XConsumerSetPreferredLayers,
        "The layer the receiver wants, by numbers.",
        ON_CONSUMER,
        &[
            Field::number("spatialLayer", "0 is the lowest"),
            Field::number("temporalLayer", "0 is the lowest; default the highest").optional(),
        ],
        NOTHING,
    ),
    entry(
        Method::XConsumerSetPriority,
        "How much a consumer counts among those of its transport when the path does not take all.",
        ON_CONSUMER,
        &[Field::number("priority", "1 to 255; 1 at first")],
        NOTHING,
    ),
    entry(Method::ConsumerRequestKeyFrame, "Asks the source for a keyframe.", ON_CONSUMER, &[], NOTHING),
    entry(
        Method::XConsumerSendDtmf,
        "Plays telephone events into what a consumer of a plain transport sends.",
        ON_CONSUMER,
        &[
            Field::text("digits", "`0`-`9`, `*`, `#`, `A`-`D`, `,` for a pause"),
            Field::number("duration", "milliseconds each").optional(),
        ],
        NOTHING,
    ),
    entry(
        Method::XConsumerSetProducer,
        "Gives a consumer another source, or none.",
        ON_CONSUMER,
        &[Field::number("producerId", "the new source; null: none").optional()],
        NOTHING,
    ),
];
