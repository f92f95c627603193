//! A worker's UDP sockets: non-blocking, with large buffers, the local address of each datagram told and
//! chosen (`IP_PKTINFO`, `IPV6_RECVPKTINFO`), trains of datagrams received whole (`UDP_GRO`), no
//! fragmentation by a learned path MTU (`IP_PMTUDISC_PROBE`; it also spares the IP-ID generator).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Once;

use crate::core::io::config::IoConfig;
use crate::core::io::sys;

/// GSO failures in a row, each cured by sending the datagrams singly, after which a socket does without.
const GSO_STRIKES: u8 = 8;

/// One UDP socket of a worker.
pub(crate) struct UdpSocket {
    fd: OwnedFd,
    /// What it is bound to.
    pub address: SocketAddr,
    /// Replies must name the local address they leave from.
    pub any_address: bool,
    gso: bool,
    strikes: u8,
    overflow: u32,
}

impl UdpSocket {
    /// Binds `address` for the traffic of many parties.
    pub fn bind(address: SocketAddr, config: &IoConfig) -> io::Result<UdpSocket> {
        let socket = Self::open(address, config, config.udp_receive_buffer)?;
        // Fails on old kernels and only costs speed there.
        let _ = sys::set_option(socket.fd.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1);
        warn_of_small_buffer(socket.fd.as_fd(), config.udp_receive_buffer);
        Ok(socket)
    }

    /// Binds `address` for one party: a small buffer, and nothing worth receiving in trains.
    pub fn bind_leg(address: SocketAddr, config: &IoConfig) -> io::Result<UdpSocket> {
        Self::open(address, config, config.leg_receive_buffer)
    }

    fn open(address: SocketAddr, config: &IoConfig, receive: usize) -> io::Result<UdpSocket> {
        let fd = sys::socket(&address, libc::SOCK_DGRAM)?;
        let socket = fd.as_fd();
        if address.is_ipv6() {
            sys::set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
            sys::set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
            let probe = libc::IPV6_PMTUDISC_PROBE;
            sys::set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, probe)?;
        } else {
            sys::set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
            sys::set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
        }
        let send = config.udp_send_buffer.min(receive);
        set_buffer(socket, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, receive)?;
        set_buffer(socket, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, send)?;
        // Fails on old kernels and only costs a number there.
        let _ = sys::set_option(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1);
        let gso = config.gso && sys::get_option(socket, libc::SOL_UDP, libc::UDP_SEGMENT).is_ok();
        sys::bind(socket, &address)?;
        let address = sys::local_address(socket)?;
        let any_address = address.ip().is_unspecified();
        Ok(UdpSocket { fd, address, any_address, gso, strikes: 0, overflow: 0 })
    }

    /// Whether runs may leave as one message.
    pub fn gso(&self) -> bool {
        self.gso
    }

    /// A run left as one message.
    pub fn gso_worked(&mut self) {
        self.strikes = 0;
    }

    /// A run was refused as one message but its datagrams were not. Some routes (tunnels, cards without
    /// checksum offload) cannot take runs; where all fail, the socket gives up trying.
    pub fn gso_failed(&mut self, error: &io::Error) {
        self.strikes += 1;
        if self.gso && self.strikes >= GSO_STRIKES {
            self.gso = false;
            tracing::info!(port = self.address.port(), %error, "no segmentation offload here: sending packet by packet");
        }
    }

    /// Takes the kernel's count of dropped datagrams (`SO_RXQ_OVFL`); how many are new.
    pub fn overflowed(&mut self, total: u32) -> u32 {
        let new = total.wrapping_sub(self.overflow);
        self.overflow = total;
        new
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sets a buffer's size past the system's limit where allowed, else up to it.
fn set_buffer(socket: BorrowedFd<'_>, force: i32, plain: i32, bytes: usize) -> io::Result<()> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    sys::set_option(socket, libc::SOL_SOCKET, force, bytes)
        .or_else(|_| sys::set_option(socket, libc::SOL_SOCKET, plain, bytes))
}

/// Says once that the system holds the receive buffer below what bursts of many publishers need.
fn warn_of_small_buffer(socket: BorrowedFd<'_>, wanted: usize) {
    static SAID: Once = Once::new();
    // The kernel doubles what it is asked for, to account for its own overhead.
    let got = sys::get_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF).unwrap_or(0) / 2;
    if usize::try_from(got).is_ok_and(|got| got < wanted.min(1 << 20)) {
        SAID.call_once(|| {
            tracing::info!(
                got,
                wanted,
                "small socket buffers; raise net.core.rmem_max and wmem_max for many streams"
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_up_segmentation_only_after_a_row_of_failures() {
        let mut socket =
            UdpSocket::bind("127.0.0.1:0".parse().expect("address"), &IoConfig::default()).expect("bind");
        let error = io::Error::from_raw_os_error(libc::EIO);
        for _ in 1..GSO_STRIKES {
            socket.gso_failed(&error);
        }
        socket.gso_worked();
        for _ in 0..GSO_STRIKES {
            assert!(socket.gso());
            socket.gso_failed(&error);
        }
        assert!(!socket.gso());
    }
}
