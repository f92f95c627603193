//! A worker as a value: routers, their transports, the sessions behind them, and the timers of all. It
//! reads no clock and touches no socket; `core/io/worker.rs` drives it, and tests do with a clock moved by
//! hand. It knows no room and no protocol.
//!
//! ```text
//! datagram ─► demultiplex ─► session (STUN, DTLS)
//!                        └─► SRTP ─► producer ─► store ◄─ cursor ─ consumer ─► seal ─► SendBatch
//! stream bytes ─► session ─► frames ─► producer ─► store
//! ```

mod config;
mod control;
mod data;
mod input;
mod layers;
mod legs;
mod levels;
mod mirroring;
mod output;
mod sessions;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use slab::Slab;

use crate::core::id::{StreamId, TransportId, WorkerId};
use crate::core::mail::Mail;
use crate::core::message::Notification;
use crate::core::router::Router;
use crate::core::rtp::path::Path;
pub use crate::core::rtp::path::{FIRST_LEG_SOCKET, LegSocket, LegSockets};
use crate::core::session::{LocalCandidate, SessionFactory};
use crate::core::time::{Epoch, MediaTime};
use crate::core::transport::Transport;

pub use crate::core::transport::plain::LegsConfig;
pub use config::{ChannelConfig, DataConfig, GopConfig, LayersConfig, WorkerConfig};
use mirroring::Mirroring;
pub use settings::{LogLevel, LogSettings, LogTag};

/// Whether a datagram was somebody's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It belongs to a session.
    Claimed,
    /// It is nobody's; an ICE-TCP connection whose first frame is nobody's is closed.
    Unknown,
}

/// What the worker asks of its loop.
#[derive(Debug)]
pub enum Action {
    /// Queue bytes for a stream.
    Write {
        /// The stream.
        stream: StreamId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Deliver what waits and close the stream. This is not reported back by `handle_stream_closed`.
    Close {
        /// The stream.
        stream: StreamId,
    },
    /// Open UDP sockets for a plain RTP leg; answered by [`Worker::handle_leg_opened`].
    OpenLeg {
        /// Whose: the transport's id.
        leg: u32,
        /// The address to listen on, where it matters.
        ip: Option<IpAddr>,
        /// An IPv6 address, where any will do.
        ipv6: bool,
        /// A port for RTP and another for RTCP, instead of one for both.
        pair: bool,
    },
    /// Open a UDP socket for the copies of a transport's packets; answered by
    /// [`Worker::handle_mirror_opened`].
    OpenMirror {
        /// Whose.
        transport: u32,
        /// The address to send from, where it matters.
        ip: Option<IpAddr>,
        /// Copies go to an IPv6 address.
        ipv6: bool,
    },
    /// Close a leg's socket once the flush is done.
    CloseSocket {
        /// Its number in [`Path::Udp`].
        socket: u32,
    },
    /// Change what the log tells (a worker process).
    Log(LogSettings),
    /// End the worker.
    Shutdown,
}

/// Mail that no request has named yet; more is a fault of the dispatcher and the oldest is dropped.
const MAX_MAIL: usize = 1024;

/// A router with its transports.
struct Space {
    router: Router,
    transports: Slab<Transport>,
    /// When the levels of its voices are told next, if anybody wants them.
    levels: Option<MediaTime>,
}

impl Space {
    /// The id of the transport at `key`.
    fn transport_id(&self, key: usize) -> Option<TransportId> {
        self.transports.get(key).map(|transport| transport.id)
    }
}

/// Where a transport lives: key of its space, key within it.
type Place = (usize, usize);

/// See the module.
pub struct Worker {
    config: WorkerConfig,
    epoch: Epoch,
    factory: Arc<dyn SessionFactory>,
    spaces: Slab<Space>,
    routers: HashMap<u32, usize>,
    transports: HashMap<u32, Place>,
    producers: HashMap<u32, Place>,
    consumers: HashMap<u32, Place>,
    data: data::Channels,
    paths: HashMap<Path, Place>,
    /// Legs by their sockets' numbers above the first.
    legs: Vec<Option<Place>>,
    mirrors: Vec<Mirroring>,
    routes: HashMap<String, Place>,
    streams: HashMap<StreamId, Place>,
    lanes: Vec<Place>,
    mail: VecDeque<(u32, Mail, Option<StreamId>)>,
    timers: BTreeSet<(Instant, Place)>,
    /// Spaces by the time their levels are told next.
    level_ticks: BTreeSet<(MediaTime, usize)>,
    flush: VecDeque<Place>,
    datagrams: VecDeque<(Path, Vec<u8>)>,
    answers: VecDeque<Vec<u8>>,
    actions: VecDeque<Action>,
    trim: MediaTime,
    random: u64,
}

impl Worker {
    /// A worker without routers. `seed` feeds identifiers that must not be guessed from outside but are no
    /// secrets (SSRCs, first sequence numbers).
    pub fn new(config: WorkerConfig, epoch: Epoch, factory: Arc<dyn SessionFactory>, seed: u64) -> Self {
        Worker {
            config,
            epoch,
            factory,
            spaces: Slab::new(),
            routers: HashMap::new(),
            transports: HashMap::new(),
            producers: HashMap::new(),
            consumers: HashMap::new(),
            data: data::Channels::default(),
            paths: HashMap::new(),
            legs: Vec::new(),
            mirrors: Vec::new(),
            routes: HashMap::new(),
            streams: HashMap::new(),
            lanes: Vec::new(),
            mail: VecDeque::new(),
            timers: BTreeSet::new(),
            level_ticks: BTreeSet::new(),
            flush: VecDeque::new(),
            datagrams: VecDeque::new(),
            answers: VecDeque::new(),
            actions: VecDeque::new(),
            trim: MediaTime::default(),
            random: seed,
        }
    }

    /// Which worker this is.
    pub fn id(&self) -> WorkerId {
        self.config.id
    }

    /// The candidates its WebRTC transports offer.
    pub fn candidates(&self) -> &[LocalCandidate] {
        &self.config.candidates
    }

    /// The next answer or event for the dispatcher: one message.
    pub fn poll_control(&mut self) -> Option<Vec<u8>> {
        self.answers.pop_front()
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Takes a hand-over from the main thread; its socket, if it had one, is now `stream`. It waits for
    /// the request that names it.
    pub fn handle_mail(&mut self, _now: Instant, mail: Mail, stream: Option<StreamId>) {
        let (Mail::Stream { attach, .. } | Mail::Direct { attach, .. } | Mail::Pipe { attach, .. }) = &mail;
        let attach = *attach;
        if self.mail.len() >= MAX_MAIL
            && let Some((_, _, Some(stream))) = self.mail.pop_front()
        {
            self.actions.push_back(Action::Close { stream });
        }
        self.mail.push_back((attach, mail, stream));
    }

    fn notify(&mut self, target: u32, event: &str, data: Value) {
        if self.config.channel.is_some() && event.starts_with("x.") {
            return;
        }
        self.answers.push_back(Notification::new(target, event, data).to_json());
    }

    /// Splitmix64: enough for identifiers, nothing for keys.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Puts a transport into the flush queue.
    fn queue(&mut self, place: Place) {
        let Some(transport) = self.spaces.get_mut(place.0).and_then(|s| s.transports.get_mut(place.1)) else {
            return;
        };
        if !transport.queued {
            transport.queued = true;
            self.flush.push_back(place);
        }
    }

    /// Enters the transport's next deadline among the timers, in place of the one it had.
    fn reschedule(&mut self, place: Place) {
        let Some(space) = self.spaces.get_mut(place.0) else { return };
        let Some(transport) = space.transports.get(place.1) else { return };
        let media = transport.next_due(&space.router).map(|at| self.epoch.instant(at));
        let session = transport.session().and_then(|session| session.poll_timeout());
        let due = media.into_iter().chain(session).min();
        if due == transport.deadline {
            return;
        }
        let Some(transport) = space.transports.get_mut(place.1) else { return };
        if let Some(old) = std::mem::replace(&mut transport.deadline, due) {
            self.timers.remove(&(old, place));
        }
        if let Some(due) = due {
            self.timers.insert((due, place));
        }
    }
}
