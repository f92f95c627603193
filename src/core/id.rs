//! Identifiers. Entities of the control protocol are numbers chosen by the caller (`u32`, as in the v2
//! worker channel); a connection of a remote party is a 128-bit [`ConnId`] that stays unique over nodes.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! numeric_id {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

numeric_id! {
    /// A worker thread or process, numbered from 0 in the order of its media port.
    WorkerId(u16);
    /// Producers and consumers on one worker.
    RouterId(u32);
    /// One media path of a peer.
    TransportId(u32);
    /// A track into a router.
    ProducerId(u32);
    /// A track out of a router.
    ConsumerId(u32);
    /// A data channel into a router.
    DataProducerId(u32);
    /// A data channel out of a router.
    DataConsumerId(u32);
    /// One stream socket (RTMP, ICE-TCP) owned by a worker's I/O loop; never reused in a worker's life.
    StreamId(u32);
}

/// One connection of one remote party: 32 bits of node, 16 of worker, 80 of randomness.
///
/// It stands in each log line, event and API object that concerns the party. It is a name, not a
/// secret: knowing it authorises nothing.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnId(u128);

impl ConnId {
    /// Builds an id from its parts; only the low 80 bits of `random` are used.
    pub fn new(node: u32, worker: WorkerId, random: u128) -> Self {
        let random = random & ((1 << 80) - 1);
        ConnId((u128::from(node) << 96) | (u128::from(worker.0) << 80) | random)
    }

    /// Reads the 32 hex digits that `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(ConnId)
    }

    /// The worker the connection was first pinned to.
    pub fn worker(self) -> WorkerId {
        WorkerId(((self.0 >> 80) & 0xffff) as u16)
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ConnId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One telephone call, in every log line and event: 128 bits of randomness, unique over nodes.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId(u128);

impl SessionId {
    /// Builds an id from random bits.
    pub fn new(random: u128) -> Self {
        SessionId(random)
    }

    /// Reads the 32 hex digits that `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok().map(SessionId)).flatten()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for SessionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A random number, for numbers that others must not guess or that must not meet by chance.
pub fn random() -> u64 {
    let mut bytes = [0; 8];
    // It fails only where the system has no source of randomness, where nothing of ours may run.
    #[allow(clippy::expect_used)]
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has randomness");
    u64::from_ne_bytes(bytes)
}

/// A value that may identify a person (address, phone number, token): it never prints itself.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Pii<T>(pub T);

impl<T> fmt::Debug for Pii<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(private)")
    }
}

impl<T> fmt::Display for Pii<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(private)")
    }
}
