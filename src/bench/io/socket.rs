//! A UDP socket for each party, connected to the server, with whole trains received at once (`UDP_GRO`) and the
//! time of arrival told by the kernel (`SO_TIMESTAMPNS`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::core::io::epoll::{Epoll, Interest};
use crate::core::io::receive::Receiver;
use crate::core::io::sys;

/// Bytes of a socket's buffer.
const BUFFER: i32 = 1 << 20;

/// Datagrams of one train: 64 KiB of IP at most.
const TRAIN: usize = 40;

/// Which party's socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token(pub usize);

/// All sockets.
pub(super) struct Sockets {
    epoll: Epoll,
    receiver: Receiver,
    sockets: Vec<UdpSocket>,
}

impl Sockets {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Sockets { epoll: Epoll::new(256)?, receiver: Receiver::new(4), sockets: Vec::new() })
    }

    /// The socket called `number`, towards `remote`: one more, or a new one in place of the old.
    pub(super) fn set(&mut self, number: usize, remote: SocketAddr) -> io::Result<()> {
        let any: IpAddr = Ipv4Addr::UNSPECIFIED.into();
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(remote)?;
        self.watch(number, socket)
    }

    /// One more on the loopback address, towards nobody yet; its address.
    pub(super) fn add_unconnected(&mut self) -> io::Result<SocketAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = socket.local_addr()?;
        self.watch(self.sockets.len(), socket)?;
        Ok(address)
    }

    /// Gives a socket its other end.
    pub(super) fn connect(&self, number: usize, remote: SocketAddr) -> io::Result<()> {
        self.sockets[number].connect(remote)
    }

    fn watch(&mut self, number: usize, socket: UdpSocket) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        let fd = socket.as_fd();
        sys::set_option(fd, libc::SOL_UDP, libc::UDP_GRO, 1)?;
        sys::set_option(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
        sys::set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER)
            .or_else(|_| sys::set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, BUFFER))?;
        self.epoll.add(&socket, number as u64, Interest::READ)?;
        match self.sockets.get_mut(number) {
            Some(old) => *old = socket,
            None => self.sockets.push(socket),
        }
        Ok(())
    }

    /// How many sockets have something now.
    pub(super) fn look(&mut self) -> io::Result<usize> {
        self.epoll.wait(Some(Duration::ZERO))
    }

    /// The `index`th of them.
    pub(super) fn ready(&self, index: usize) -> Option<Token> {
        self.epoll.ready(index).map(|ready| Token(ready.token as usize))
    }

    /// Sends; what does not go is lost, as on any network.
    pub(super) fn send(&self, number: usize, datagram: &[u8]) {
        let _ = self.sockets[number].send(datagram);
    }

    /// Sends datagrams of equal size (the last may be shorter) back to back, as they leave an encoder's host: the
    /// kernel cuts the trains (`UDP_SEGMENT`).
    pub(super) fn send_burst(&self, number: usize, datagrams: &[Vec<u8>]) -> io::Result<()> {
        let Some(first) = datagrams.first() else { return Ok(()) };
        let size = first.len() as i32;
        sys::set_option(self.sockets[number].as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, size)?;
        datagrams.chunks(TRAIN).for_each(|train| self.send(number, &train.concat()));
        sys::set_option(self.sockets[number].as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 0)
    }

    /// Hands over what waits, each datagram with its arrival in nanoseconds since 1970.
    pub(super) fn receive(
        &mut self,
        number: usize,
        mut take: impl FnMut(&mut [u8], u64) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let count = match self.receiver.receive(&self.sockets[number]) {
            // The server was not there for one of our datagrams.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(()),
            other => other?,
        };
        for index in 0..count {
            let Some(mut train) = self.receiver.train(index) else { continue };
            let arrived = match train.arrived {
                Some(arrived) => arrived,
                None => SystemTime::now().duration_since(UNIX_EPOCH)?,
            };
            for datagram in train.datagrams() {
                take(datagram, arrived.as_nanos() as u64)?;
            }
        }
        Ok(())
    }
}
