//! The ports of a worker: UDP sockets, and TCP listeners on the same number, one for each address.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::core::io::config::IoConfig;
use crate::core::io::error::IoError;
use crate::core::io::listener::Listener;
use crate::core::io::port_owner::{PortTaken, Protocol};
use crate::core::io::sys;
use crate::core::io::udp::UdpSocket;

/// Port 0 takes any free number; it must be free for all sockets, which takes a few tries at worst.
const TRIES: usize = 16;

/// The sockets on a worker's port. They outlive the worker's engine, so that a replacement takes them over.
pub(crate) struct Ports {
    /// One for each address listened on; `Path::Udp::socket` is the index.
    pub udp: Vec<UdpSocket>,
    /// ICE-TCP.
    pub tcp: Vec<Listener>,
}

impl Ports {
    /// Binds the ports of the `worker`th of `workers` workers.
    pub fn bind(config: &IoConfig, worker: u16, workers: u16) -> Result<Ports, IoError> {
        if config.port == 0 {
            let mut tries = (1..TRIES).map(|_| Self::bind_on(config, 0));
            return match tries.find(|bound| !matches!(bound, Err(IoError::PortTaken(_)))) {
                Some(bound) => bound,
                None => Self::bind_on(config, 0),
            };
        }
        let range = || IoError::PortRange { first: config.port, workers };
        Self::bind_on(config, config.port.checked_add(worker).ok_or_else(range)?)
    }

    /// Binds the first number from `first` to `last` that is free, beginning anywhere between them so that
    /// neighbours who share the range seldom meet.
    pub fn bind_within(config: &IoConfig, first: u16, last: u16) -> Result<Ports, IoError> {
        let count = u64::from(last.saturating_sub(first)) + 1;
        let start = sys::random() % count;
        let mut taken = None;
        for step in 0..count {
            // Below `last`, so it fits.
            let port = first.saturating_add(((start + step) % count) as u16);
            match Self::bind_on(config, port) {
                Err(error @ IoError::PortTaken(_)) => taken = Some(error),
                bound => return bound,
            }
        }
        Err(taken.unwrap_or(IoError::NothingToListenOn))
    }

    fn bind_on(config: &IoConfig, port: u16) -> Result<Ports, IoError> {
        let mut ports = Ports { udp: Vec::new(), tcp: Vec::new() };
        let mut missing = None;
        for ip in &config.listen {
            // The number that port 0 became holds for the rest.
            let port = ports.udp.first().map_or(port, |first| first.address.port());
            let address = SocketAddr::new(*ip, port);
            match UdpSocket::bind(address, config) {
                Ok(socket) => ports.udp.push(socket),
                Err(error) if ip.is_ipv6() && no_ipv6(&error) => {
                    missing = Some((address, error));
                    continue;
                }
                Err(error) => return Err(refused(address, Protocol::Udp, error)),
            }
            if config.tcp {
                let address = ports.udp.last().map_or(address, |socket| socket.address);
                let listener = Listener::bind(address);
                ports.tcp.push(listener.map_err(|error| refused(address, Protocol::Tcp, error))?);
            }
        }
        match missing {
            Some((address, error)) if ports.udp.is_empty() => Err(refused(address, Protocol::Udp, error)),
            Some((address, _)) => {
                tracing::debug!(ip = %address.ip(), "this host has no such IPv6 address, going without");
                Ok(ports)
            }
            None if ports.udp.is_empty() => Err(IoError::NothingToListenOn),
            None => Ok(ports),
        }
    }
}

/// Whether the host lacks IPv6, or the address.
fn no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn refused(address: SocketAddr, protocol: Protocol, error: io::Error) -> IoError {
    let (ip, port): (IpAddr, u16) = (address.ip(), address.port());
    if error.raw_os_error() == Some(libc::EADDRINUSE) {
        return PortTaken::find(port, protocol).into();
    }
    IoError::system(format!("cannot listen on {protocol} port {port} of {ip}"), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_holder() {
        let holder = std::net::UdpSocket::bind("0.0.0.0:0").expect("bind");
        let port = holder.local_addr().expect("address").port();
        let config = IoConfig { port, ..IoConfig::default() };
        let error = Ports::bind(&config, 0, 1).map(drop).expect_err("taken").to_string();
        let pid = std::process::id();
        assert!(error.starts_with(&format!("UDP port {port} is already taken by")), "{error}");
        assert!(error.ends_with(&format!("(pid {pid})")), "{error}");
    }

    #[test]
    fn any_port_is_the_same_for_all_sockets() {
        let ports = Ports::bind(&IoConfig { port: 0, ..IoConfig::default() }, 0, 1).expect("bind");
        let number = ports.udp[0].address.port();
        assert!(ports.udp.iter().all(|socket| socket.address.port() == number));
        assert!(ports.tcp.iter().all(|tcp| tcp.address().expect("bound").port() == number));
    }

    #[test]
    fn a_worker_that_hears_nobody_does_not_start() {
        let error = Ports::bind(&IoConfig { listen: Vec::new(), ..IoConfig::default() }, 0, 1).map(drop);
        assert!(matches!(error, Err(IoError::NothingToListenOn)));
    }

    #[test]
    fn workers_beyond_the_last_port_are_refused() {
        let error = Ports::bind(&IoConfig { port: 65535, ..IoConfig::default() }, 1, 2).map(drop);
        assert!(matches!(error, Err(IoError::PortRange { first: 65535, workers: 2 })));
    }
}
