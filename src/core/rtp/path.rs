//! A media path: what a datagram's source and destination are called inside.

use std::net::{IpAddr, SocketAddr};

use crate::core::id::StreamId;

/// Where datagrams come from and go to: a UDP 5-tuple or a framed TCP connection (RFC 4571).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Path {
    /// Through UDP socket number `socket` of the worker.
    Udp {
        /// Index of the worker's socket.
        socket: u8,
        /// Local address the datagram arrived at, or leaves from.
        local: IpAddr,
        /// Remote address.
        remote: SocketAddr,
    },
    /// Over an ICE-TCP connection, one frame a datagram.
    Tcp {
        /// The connection.
        stream: StreamId,
        /// Remote address.
        remote: SocketAddr,
    },
}

impl Path {
    /// The remote address.
    pub fn remote(&self) -> SocketAddr {
        match *self {
            Path::Udp { remote, .. } | Path::Tcp { remote, .. } => remote,
        }
    }
}
