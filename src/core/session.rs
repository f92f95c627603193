//! The one trait that joins adapters and core: a remote party's protocol as a value.
//!
//! The law: one mutation (`handle_*` or `command`), then drain `poll_output` to `None` and re-read
//! `poll_timeout`, before the next. Nothing here reads a clock or touches a socket.
//!
//! A WebRTC session does ICE and DTLS and hands its keys up; RTP and RTCP never enter it. A stream
//! session (RTMP) or a source (a looped clip) turns its bytes into tracks and frames itself.

use std::net::SocketAddr;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::capabilities::{Kind, RtpCodec};
use crate::core::data::{DataCommand, DataEvent};
use crate::core::rtp::keys::SrtpKeys;
use crate::core::rtp::path::Path;
use crate::core::time::{Epoch, MediaTime};

/// What comes in.
#[derive(Debug)]
pub enum Input<'a> {
    /// One STUN or DTLS datagram (RFC 7983 demultiplexing is the worker's).
    Datagram {
        /// Where it came from.
        path: Path,
        /// Its bytes.
        data: &'a [u8],
    },
    /// An SRTP or SRTCP packet on `path` was authenticated: proof that the party is really there.
    Authenticated {
        /// Where it came from.
        path: Path,
    },
    /// An ICE-TCP connection is gone.
    PathClosed {
        /// Which.
        path: Path,
    },
    /// Bytes of a stream socket.
    Bytes(&'a [u8]),
    /// The remote end closed its stream socket.
    Eof,
}

/// What the worker asks of a session.
#[derive(Clone, Debug)]
pub enum Command {
    /// `transport.setRemoteDtlsParameters`: `role` is the remote's (`auto`, `client`, `server`).
    /// Answers `{"role": <local role>}`.
    SetRemoteDtls {
        /// The remote role.
        role: DtlsRole,
        /// The remote certificate's fingerprints.
        fingerprints: Vec<Fingerprint>,
    },
    /// The remote ICE credentials, where the adapter has them (`x.transport.setRemoteIce`).
    SetRemoteIce {
        /// Remote username fragment.
        ufrag: String,
        /// Remote password.
        pwd: String,
    },
    /// Where the party is said to be: a DTLS client without ICE begins there.
    SetRemotePath {
        /// The path.
        path: Path,
    },
    /// `transport.changeUfragPwd`: answers `{"usernameFragment", "password"}`.
    RestartIce,
    /// Somebody needs a keyframe of `track`; a session that cannot ask ignores it.
    RequestKeyframe {
        /// The track's number within the session.
        track: u32,
    },
    /// Something about data channels.
    Data(DataCommand),
    /// Say good-bye as the protocol can (DTLS close_notify, RTMP NetStream status) and end.
    Close {
        /// Why, for people.
        reason: String,
    },
}

/// Makes no sessions: for workers all of whose parties are plain, as in tests and under fuzzing.
pub struct NoSessions;

impl SessionFactory for NoSessions {
    fn webrtc(
        &self,
        _now: Instant,
        _epoch: Epoch,
        _options: &Value,
        _candidates: &[LocalCandidate],
    ) -> Result<Box<dyn Session>, String> {
        Err("no sessions here".to_owned())
    }

    fn route_key<'a>(&self, _datagram: &'a [u8]) -> Option<&'a str> {
        None
    }
}

/// DTLS role, named as the control protocol does.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DtlsRole {
    /// Either; the answerer decides.
    #[default]
    Auto,
    /// Sends the ClientHello.
    Client,
    /// Waits for it.
    Server,
}

/// A certificate fingerprint (RFC 8122).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Fingerprint {
    /// `sha-256`, ...
    pub algorithm: String,
    /// Upper-case hex pairs with colons.
    pub value: String,
}

/// Hashes a fingerprint may use, in the order in which they are told.
pub const FINGERPRINT_ALGORITHMS: [&str; 5] = ["sha-1", "sha-224", "sha-256", "sha-384", "sha-512"];

impl Fingerprint {
    /// Whether we can compute fingerprints of its algorithm.
    pub fn is_supported(&self) -> bool {
        FINGERPRINT_ALGORITHMS.iter().any(|name| name.eq_ignore_ascii_case(&self.algorithm))
    }
}

/// What goes out.
#[derive(Debug)]
pub enum Output {
    /// A STUN or DTLS datagram.
    Datagram {
        /// Where to.
        path: Path,
        /// Its bytes.
        data: Vec<u8>,
    },
    /// Bytes for the stream socket.
    Bytes(Vec<u8>),
    /// Something the worker acts on.
    Event(Event),
}

/// What a session tells the worker.
#[derive(Debug)]
pub enum Event {
    /// Unclaimed datagrams that [`SessionFactory::route_key`] maps to `key` are this session's.
    Route {
        /// Local ICE username fragment.
        key: String,
    },
    /// The key is no longer this session's (after an ICE restart).
    Unroute {
        /// Local ICE username fragment.
        key: String,
    },
    /// ICE state: `connected`, `completed`, `disconnected`.
    IceState(&'static str),
    /// Media goes to this path from now on, at most `probation` packets until something
    /// authenticated came from it (`None`: no limit any more). RFC 7675 consent is the session's.
    SelectedPath {
        /// The path.
        path: Path,
        /// Packet allowance until the path is proven.
        probation: Option<u32>,
    },
    /// Consent was lost: nothing more may be sent.
    PathLost,
    /// How the handshake stands.
    DtlsState {
        /// `connecting`, `connected`, `failed`, `closed`.
        state: &'static str,
        /// With `connected`: the certificate the party showed, in PEM.
        certificate: Option<String>,
    },
    /// The keys for SRTP in both directions.
    SrtpKeys(SrtpKeys),
    /// A track appeared (stream sessions): the worker announces it and buffers its frames until a
    /// producer takes them.
    Track(Track),
    /// A track's properties changed (new parameter sets, B-frames appeared).
    TrackChanged(Track),
    /// One frame of a track.
    Frame(Frame),
    /// Application data with no track (AMF data messages), as JSON.
    Message(Value),
    /// Something about data channels.
    Data(DataEvent),
    /// A line for the person who runs the encoder or the server, said once at level info.
    Notice(String),
    /// The session is over; the worker drops it and tells the controller.
    Closed {
        /// Why, for people.
        reason: String,
        /// How.
        ending: Ending,
    },
}

/// How a session, or a transport, ended.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// As it was asked on this side.
    Closed,
    /// The party said good-bye.
    Left,
    /// Nothing that was due came from the party.
    Timeout,
    /// The party broke off or broke a rule, or something broke here.
    #[default]
    Error,
}

impl Ending {
    /// The code on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Closed => "closed",
            Ending::Left => "left",
            Ending::Timeout => "timeout",
            Ending::Error => "error",
        }
    }

    /// Whether nothing went wrong.
    pub fn is_clean(self) -> bool {
        matches!(self, Ending::Closed | Ending::Left)
    }
}

/// A track of a stream session.
#[derive(Clone, Debug)]
pub struct Track {
    /// The track's number within the session.
    pub id: u32,
    /// Sound or picture.
    pub kind: Kind,
    /// Its codec; `payload_type` is the session's suggestion and means nothing outside.
    pub codec: RtpCodec,
    /// Codec configuration: AudioSpecificConfig for AAC; empty where parameter sets travel in band.
    pub config: Vec<u8>,
    /// Frames are not in presentation order (B-frames): no WebRTC receiver can take it as it is.
    pub reordered: bool,
}

/// One coded frame: an access unit of video, a packet of audio.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The track's number within the session.
    pub track: u32,
    /// Presentation time.
    pub pts: MediaTime,
    /// Decoding time; equal to `pts` without B-frames.
    pub dts: MediaTime,
    /// Decoding can start here. H.264 keyframes carry their SPS and PPS.
    pub keyframe: bool,
    /// No other frame refers to it.
    pub discardable: bool,
    /// H.264: NAL units, each behind its length in four bytes, big-endian. AAC: one raw access unit.
    /// Opus: one packet.
    pub data: Vec<u8>,
}

/// A remote party's protocol as a value; see the module's law.
pub trait Session: Send {
    /// Takes bytes in.
    fn handle_input(&mut self, now: Instant, input: Input<'_>);
    /// Whether consumers can be put on its transport: their frames are given to [`handle_frame`](Self::handle_frame).
    fn takes_frames(&self) -> bool {
        false
    }
    /// Takes a frame for its party, coded in `codec`; [`Frame::track`] is the consumer's id.
    fn handle_frame(&mut self, now: Instant, codec: &RtpCodec, frame: Frame) {
        let _ = (now, codec, frame);
    }
    /// Takes a command; `Err` is a sentence for the controller.
    fn command(&mut self, now: Instant, command: Command) -> Result<Value, String>;
    /// Takes time in; called no earlier than `poll_timeout` said.
    fn handle_timeout(&mut self, now: Instant);
    /// The next thing to do, or `None` when drained.
    fn poll_output(&mut self) -> Option<Output>;
    /// When to call `handle_timeout`.
    fn poll_timeout(&self) -> Option<Instant>;
    /// The session's part of its transport's dump (ICE and DTLS parameters, stream name, ...).
    fn dump(&self) -> Value;
}

/// Makes the sessions that a worker is asked for by name, and tells whose an unclaimed datagram is.
pub trait SessionFactory: Send + Sync {
    /// A new WebRTC session; `options` are those of `router.createWebRtcTransport` and `candidates`
    /// the worker's own addresses.
    fn webrtc(
        &self,
        now: Instant,
        epoch: Epoch,
        options: &Value,
        candidates: &[LocalCandidate],
    ) -> Result<Box<dyn Session>, String>;

    /// A DTLS handshake without ICE, over paths that the caller answers for; `options` are those of
    /// `router.createPlainRtpTransport`.
    fn dtls(&self, options: &Value) -> Result<Box<dyn Session>, String> {
        let _ = options;
        Err("there is no DTLS here".to_owned())
    }

    /// The key of [`Event::Route`] that an unclaimed datagram names (a STUN request's local ufrag).
    fn route_key<'a>(&self, datagram: &'a [u8]) -> Option<&'a str>;
}

/// A host candidate of a worker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LocalCandidate {
    /// `true`: passive ICE-TCP (RFC 6544); `false`: UDP.
    pub tcp: bool,
    /// The address to tell the remote party (announced, or the socket's own).
    pub address: SocketAddr,
}
