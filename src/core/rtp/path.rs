//! A media path: what a datagram's source and destination are called inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::core::id::StreamId;

/// Where datagrams come from and go to: a UDP 5-tuple or a framed TCP connection (RFC 4571).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Path {
    /// Through UDP socket number `socket` of the worker.
    Udp {
        /// Number of the worker's socket: its own first, those of plain RTP legs from
        /// [`FIRST_LEG_SOCKET`] on.
        socket: u32,
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

/// Number of the first leg's socket in [`Path::Udp`]; below it are the worker's own.
pub const FIRST_LEG_SOCKET: u32 = 256;

/// One UDP socket of a plain RTP leg.
#[derive(Clone, Copy, Debug)]
pub struct LegSocket {
    /// Its number in [`Path::Udp`].
    pub socket: u32,
    /// What it is bound to.
    pub address: SocketAddr,
}

/// The UDP sockets of a plain RTP leg.
#[derive(Clone, Copy, Debug)]
pub struct LegSockets {
    /// For RTP, and RTCP where there is no other.
    pub rtp: LegSocket,
    /// For RTCP.
    pub rtcp: Option<LegSocket>,
}

impl Path {
    /// From UDP socket `socket` to `remote`, from whichever of our addresses leads there.
    pub fn toward(socket: u32, remote: SocketAddr) -> Path {
        let local: IpAddr = match remote {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Path::Udp { socket, local, remote }
    }

    /// The number of the UDP socket.
    pub fn socket(&self) -> Option<u32> {
        match *self {
            Path::Udp { socket, .. } => Some(socket),
            Path::Tcp { .. } => None,
        }
    }

    /// The remote address.
    pub fn remote(&self) -> SocketAddr {
        match *self {
            Path::Udp { remote, .. } | Path::Tcp { remote, .. } => remote,
        }
    }
}
