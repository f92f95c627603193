//! What a call asks of media and what media answers: neither knows the other beyond these values.

use std::net::{IpAddr, SocketAddr};

use crate::core::auth::Principal;
use crate::core::capabilities::{Kind, RtpParameters};
use crate::core::convert::Sound;
use crate::core::id::ConnId;
use crate::core::peer::CloseReason;
use crate::core::plain::PlainRemote;
use crate::core::session::{DtlsRole, Fingerprint};

/// What media is to do for one call; done in order.
#[derive(Debug)]
pub enum MediaAsk {
    /// Go into a room. The first thing of all.
    Enter(Enter),
    /// Go into another room with all that there is; only as far as its own right goes. Answered by
    /// [`MediaEvent::Moved`] or [`MediaEvent::NotMoved`].
    Move {
        /// The room's name, to be checked there.
        room: String,
    },
    /// Play recorded prompts to the party, by name.
    Play {
        /// One after the other.
        prompts: Vec<&'static str>,
    },
    /// Make our ends of streams. Answered by [`MediaEvent::Opened`].
    Open {
        /// To be found in the answer.
        serial: u32,
        /// Which.
        streams: Vec<OpenStream>,
    },
    /// Tell our ends the remote ones. Answered by [`MediaEvent::Connected`].
    Connect {
        /// To be found in the answer.
        serial: u32,
        /// Which.
        streams: Vec<ConnectStream>,
    },
    /// Close a stream; the call goes on.
    Close {
        /// Its place among the media sections.
        index: usize,
    },
    /// Play keys to the other side.
    Dtmf {
        /// `0`-`9`, `*`, `#`, `A`-`D`, `,` for a pause.
        digits: String,
    },
    /// The other side asked for a keyframe.
    Keyframe,
    /// Play to everybody in the room, until it leaves or plays something else; nothing: stop.
    PlayToRoom {
        /// One after the other; a tone or music goes on while it is the last.
        sounds: Vec<Sound>,
    },
    /// Leave the room; the last thing of all.
    Leave {
        /// Why, for people.
        reason: String,
        /// What the room hears once.
        farewell: Option<Sound>,
    },
}

/// Into which room, as whom.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Enter {
    /// The room's name, to be checked there.
    pub room: String,
    /// The name shown in the room; it holds no phone number unless a rule allows that.
    pub name: String,
    /// Who it is, as far as rights go, safe to log: `trunk:office`, `user:alice`.
    pub principal: Principal,
    /// Its own right decides whether it may enter. False: whoever had it called was asked.
    pub asks: bool,
    /// Where the party is.
    pub remote: Option<SocketAddr>,
    /// Milliseconds without packets after which it counts as gone.
    pub media_timeout_ms: u64,
}

/// Our end of a stream to be made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OpenStream {
    /// Its place among the media sections. One that is there already is replaced.
    pub index: usize,
    /// Sound or picture.
    pub kind: Kind,
    /// Which kind of end.
    pub how: How,
    /// The other side has an IPv6 address.
    pub ipv6: bool,
}

/// Which kind of end a stream has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum How {
    /// RTP, or SRTP with keys from the description.
    Plain {
        /// RTP and RTCP on one port from the start.
        mux: bool,
    },
    /// SRTP with keys from a DTLS handshake on its port.
    Dtls,
    /// The same behind ICE.
    Ice,
}

/// Our end as it came to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Local {
    /// A port, or a pair.
    Plain {
        /// Address to tell.
        ip: IpAddr,
        /// RTP.
        port: u16,
        /// RTCP, where it has its own.
        rtcp_port: Option<u16>,
    },
    /// A port with DTLS.
    Dtls {
        /// Address to tell.
        ip: IpAddr,
        /// RTP, and RTCP where both sides agree to that.
        port: u16,
        /// The certificate's fingerprints.
        fingerprints: Vec<Fingerprint>,
    },
    /// ICE and DTLS.
    Ice {
        /// Username fragment and password.
        ice: (String, String),
        /// UDP candidates.
        candidates: Vec<SocketAddr>,
        /// The certificate's fingerprints.
        fingerprints: Vec<Fingerprint>,
    },
}

impl Local {
    /// The address for `c=` and `m=`.
    pub fn address(&self) -> SocketAddr {
        match self {
            Local::Plain { ip, port, .. } | Local::Dtls { ip, port, .. } => SocketAddr::new(*ip, *port),
            Local::Ice { candidates, .. } => {
                let nowhere = SocketAddr::from(([0, 0, 0, 0], 9));
                let first = candidates.iter().find(|c| c.is_ipv4()).or(candidates.first());
                first.copied().unwrap_or(nowhere)
            }
        }
    }
}

/// The remote end of a stream and what flows.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectStream {
    /// Its place among the media sections.
    pub index: usize,
    /// Sound or picture.
    pub kind: Kind,
    /// Where and how.
    pub remote: Remote,
    /// What it sends.
    pub produce: RtpParameters,
    /// What we may send it.
    pub consume: RtpParameters,
    /// Whether what it sends goes into the room now.
    pub take: bool,
    /// Whether it is sent the program now.
    pub give: bool,
    /// We hold it: it hears music, or a tone, in place of the program.
    pub hold: bool,
}

/// The remote end.
#[derive(Clone, Debug, PartialEq)]
pub enum Remote {
    /// RTP or SRTP.
    Plain(PlainRemote),
    /// DTLS, and SRTP with its keys.
    Dtls {
        /// Where, and what flows.
        remote: PlainRemote,
        /// Its role.
        role: DtlsRole,
        /// Its certificate's fingerprints.
        fingerprints: Vec<Fingerprint>,
    },
    /// The same behind ICE.
    Ice {
        /// Its role.
        role: DtlsRole,
        /// Its certificate's fingerprints.
        fingerprints: Vec<Fingerprint>,
        /// Its ICE credentials.
        ice: (String, String),
    },
}

/// What media tells a call.
#[derive(Clone, Debug)]
pub enum MediaEvent {
    /// It is a member of its room.
    Entered {
        /// As this one.
        conn: ConnId,
    },
    /// It is in another room now, as it asked or as somebody in charge of its room wanted. Its ends are the same.
    Moved {
        /// Which.
        room: String,
    },
    /// It could not go into another room and stays.
    NotMoved {
        /// Why, for people.
        text: String,
    },
    /// The ends asked for are there.
    Opened {
        /// Of the ask.
        serial: u32,
        /// Each with its place.
        locals: Vec<(usize, Local)>,
    },
    /// The remote ends are known.
    Connected {
        /// Of the ask.
        serial: u32,
    },
    /// What was asked could not be done.
    Failed {
        /// The SIP status that says it best.
        status: u16,
        /// For people.
        text: String,
    },
    /// The party pressed a key.
    Dtmf {
        /// Which.
        digit: char,
        /// How long.
        duration_ms: u32,
    },
    /// First packets came.
    Started,
    /// Media flows in one direction only.
    OneWay {
        /// What is seen, and the likely cause.
        text: String,
    },
    /// No packets come.
    Timeout,
    /// Somebody needs a keyframe of the party, and RTCP cannot ask.
    KeyframeWanted,
    /// The room let it go.
    Ended(CloseReason),
}
