//! Calls and registrations as values: messages, media's answers and time go in, [`Action`]s come out.
//!
//! A transaction below (RFC 3261 §17) repeats what is lost and matches answers; it is known here only by
//! its number. Everything above, dialogs included, lives here and runs in tests with a hand-moved clock.

pub mod aside;
pub mod branch;
pub mod call;
pub mod dialog;
pub mod digest;
pub mod established;
pub mod guard;
pub mod inbound;
pub mod locate;
pub mod media;
pub mod offer;
pub mod offers;
pub mod outbound;
pub mod pin;
pub mod preset;
pub mod refer;
pub mod register;
pub mod registrar;
pub mod timer;
pub mod trunk;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::rand;

use crate::core::control::RoomEvent;
pub use crate::core::id::SessionId;
use crate::sip::config::{SipConfig, Transport};
use crate::sip::wire::{Request, Response, Uri};
use media::MediaAsk;

/// A name for a new call.
pub fn new_session() -> SessionId {
    SessionId::new(u128::from_be_bytes(random()))
}

/// Random bytes.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The operating system's generator does not fail once it has started.
    let _ = rand::fill(&mut bytes);
    bytes
}

/// A random word for tags, branches and Call-IDs.
pub fn token() -> String {
    random::<10>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A random number below `bound`.
pub fn random_below(bound: u64) -> u64 {
    u64::from_be_bytes(random()) % bound.max(1)
}

/// A transaction that a remote party opened.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServerTx(pub u64);

/// A transaction that we opened.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClientTx(pub u64);

/// A stream connection.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FlowId(pub u64);

/// Where a message came from.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// The remote address as the kernel saw it.
    pub addr: SocketAddr,
    /// How it came.
    pub transport: Transport,
    /// The connection, where there is one.
    pub flow: Option<FlowId>,
}

/// Where a message is to go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Destination {
    /// The next hop.
    pub uri: Uri,
    /// The connection to use while it stands.
    pub flow: Option<FlowId>,
    /// The address to use instead of the URI's.
    pub addr: Option<SocketAddr>,
    /// How, where the URI does not say.
    pub transport: Transport,
    /// The name server may choose another transport (RFC 3263 §4.1).
    pub any: bool,
    /// Proxies that a request outside of any dialog goes through, as `Route` lines.
    pub routes: Vec<String>,
}

impl Destination {
    /// The address of the next hop, where it is known without a name server.
    pub fn ip(&self) -> Option<IpAddr> {
        self.addr.map(|addr| addr.ip()).or(self.uri.ip()).map(|ip| ip.to_canonical())
    }
}

/// Why a transaction of ours has no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TxFailure {
    /// Nothing came in time.
    Timeout,
    /// It could not be sent.
    Transport,
}

/// What comes from below.
#[derive(Debug)]
pub enum Incoming {
    /// A new request, any but ACK and CANCEL.
    Request {
        /// Its transaction.
        tx: ServerTx,
        /// Where it came from.
        source: Source,
        /// The request.
        request: Request,
    },
    /// An ACK of a 2xx.
    Ack {
        /// Where it came from.
        source: Source,
        /// The request.
        request: Request,
    },
    /// The INVITE is to be given up; the CANCEL is answered already.
    Cancel {
        /// The INVITE's transaction.
        tx: ServerTx,
    },
    /// No ACK came for our 2xx.
    NoAck {
        /// The INVITE's transaction.
        tx: ServerTx,
    },
    /// An answer to a request of ours.
    Response {
        /// The request's transaction.
        tx: ClientTx,
        /// Where it came from.
        source: Source,
        /// The response.
        response: Response,
    },
    /// No answer to a request of ours.
    Failed {
        /// The request's transaction.
        tx: ClientTx,
        /// Why.
        failure: TxFailure,
    },
    /// A 2xx to an INVITE whose transaction is over: repeated, or of another branch.
    Late {
        /// Where it came from.
        source: Source,
        /// The response.
        response: Response,
    },
    /// A stream connection is gone.
    FlowClosed(FlowId),
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Send a request in a new transaction. Via is the transport's.
    Send {
        /// Its number.
        tx: ClientTx,
        /// What.
        request: Request,
        /// Where to.
        to: Destination,
    },
    /// Send a CANCEL for the INVITE of `tx`.
    Cancel {
        /// The INVITE's transaction.
        tx: ClientTx,
        /// `Reason` header, if any.
        reason: Option<String>,
    },
    /// Send an ACK of a 2xx, outside of any transaction.
    Ack {
        /// What.
        request: Request,
        /// Where to.
        to: Destination,
    },
    /// Answer a request.
    Respond {
        /// Its transaction.
        tx: ServerTx,
        /// With what.
        response: Response,
    },
    /// Ask media of a call.
    Media {
        /// Whose.
        call: SessionId,
        /// What.
        ask: MediaAsk,
    },
    /// Decide where a call goes that was told to try elsewhere.
    Redirect {
        /// Whose.
        call: SessionId,
        /// The trunk that said so.
        from: String,
        /// Where, in groups, the best first.
        contacts: Vec<Vec<Uri>>,
    },
    /// Decide on a transfer that the other side of a call asks for.
    Refer {
        /// Whose.
        call: SessionId,
        /// The REFER's transaction.
        tx: ServerTx,
        /// The REFER.
        request: Box<Request>,
        /// Whom to call.
        target: refer::ReferTo,
    },
    /// Tell a call's room.
    Tell {
        /// Which.
        call: SessionId,
        /// Its room.
        room: String,
        /// What happened.
        event: RoomEvent,
    },
    /// The party at this address did something that honest ones rarely do.
    Blame {
        /// Who.
        addr: IpAddr,
        /// What, in words.
        what: &'static str,
    },
}

/// Which of our addresses a remote party is to be told.
pub trait Addresses: Send {
    /// Our address toward `remote` by `transport`.
    fn toward(&self, remote: Option<IpAddr>, transport: Transport) -> SocketAddr;
}

/// What every step needs: the time, the configuration, a place for actions.
pub struct Ctx<'a> {
    /// Now.
    pub now: Instant,
    /// The configuration.
    pub config: &'a Arc<SipConfig>,
    /// Our addresses.
    pub addresses: &'a dyn Addresses,
    /// Where actions go.
    pub out: &'a mut VecDeque<Action>,
    /// The last number given to a transaction.
    pub last_tx: &'a mut u64,
}

impl Ctx<'_> {
    /// Sends a request; answers its transaction.
    pub fn send(&mut self, request: Request, to: Destination) -> ClientTx {
        *self.last_tx += 1;
        let tx = ClientTx(*self.last_tx);
        self.out.push_back(Action::Send { tx, request, to });
        tx
    }

    /// Answers a request.
    pub fn respond(&mut self, tx: ServerTx, response: Response) {
        self.out.push_back(Action::Respond { tx, response });
    }

    /// Asks media.
    pub fn media(&mut self, call: SessionId, ask: MediaAsk) {
        self.out.push_back(Action::Media { call, ask });
    }

    /// Our Contact toward a remote party.
    pub fn contact(&self, user: &str, remote: Option<IpAddr>, transport: Transport) -> Uri {
        let own = self.addresses.toward(remote, transport);
        let uri = Uri::sip(Some(user), &own.ip().to_string(), Some(own.port()));
        match transport.param() {
            Some(name) => uri.with_param("transport", name),
            None => uri,
        }
    }
}
