//! UDP sockets of plain RTP legs: opened when a leg is made, from a range of ports that all workers share,
//! and closed with it. RTP has the even port of a pair and RTCP the odd one above (RFC 3550 §11), or both
//! share one port (RFC 5761).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use slab::Slab;

use crate::core::io::config::IoConfig;
use crate::core::io::epoll::{Epoll, Interest};
use crate::core::io::sys;
use crate::core::io::udp::UdpSocket;
use crate::core::worker::{FIRST_LEG_SOCKET, LegSocket, LegSockets};

/// Ports that another process holds are passed over, this many for one leg.
const TRIES: usize = 64;

/// The ports for legs that are free. Each is given out again as late as possible, so that what still comes
/// for an ended call does not reach the next one.
pub(crate) struct PortRange {
    first: u16,
    taken: Mutex<Taken>,
}

struct Taken {
    ports: Vec<bool>,
    next: usize,
    free: usize,
}

impl PortRange {
    /// The ports from `config.leg_port_min` to `config.leg_port_max`, both included.
    pub fn new(config: &IoConfig) -> Self {
        let (first, last) = (config.leg_port_min, config.leg_port_max);
        let count = usize::from(last.saturating_sub(first)) + usize::from(last >= first);
        let next = (sys::random() as usize).checked_rem(count).unwrap_or(0);
        PortRange { first, taken: Mutex::new(Taken { ports: vec![false; count], next, free: count }) }
    }

    /// Takes an even port and the odd one above, or any one port.
    fn take(self: &Arc<Self>, pair: bool) -> Option<Lease> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let width = if pair { 2 } else { 1 };
        let count = taken.ports.len();
        if taken.free < width {
            return None;
        }
        for step in 0..count {
            let at = (taken.next + step) % count;
            let even = (usize::from(self.first) + at).is_multiple_of(2);
            let free = taken.ports.get(at..at + width).is_some_and(|ports| !ports.contains(&true));
            if free && (even || !pair) {
                taken.ports[at..at + width].fill(true);
                taken.free -= width;
                taken.next = (at + width) % count;
                return Some(Lease { range: self.clone(), at, width });
            }
        }
        None
    }

    /// How many ports are free.
    #[cfg(test)]
    pub fn free(&self) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).free
    }
}

/// Ports of the range that are in use until this is dropped.
struct Lease {
    range: Arc<PortRange>,
    at: usize,
    width: usize,
}

impl Lease {
    fn port(&self) -> u16 {
        self.range.first + self.at as u16
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut taken = self.range.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.ports[self.at..self.at + self.width].fill(false);
        taken.free += self.width;
    }
}

/// One open socket; the lease is shared by the two of a pair.
struct Leg {
    socket: UdpSocket,
    _lease: Arc<Lease>,
}

/// The open sockets of one worker's legs.
#[derive(Default)]
pub(crate) struct Legs {
    sockets: Slab<Leg>,
    closing: Vec<u32>,
}

impl Legs {
    /// Opens the sockets of one leg on `ip` and watches them under `token` plus their slots.
    pub fn open(
        &mut self,
        range: &Arc<PortRange>,
        (ip, pair): (IpAddr, bool),
        config: &IoConfig,
        epoll: &Epoll,
        token: u64,
    ) -> Result<LegSockets, String> {
        let mut passed_over = Vec::new();
        for _ in 0..TRIES {
            let lease = range.take(pair).ok_or("no RTP port of the range is free")?;
            match self.bind(ip, Arc::new(lease), config, epoll, token) {
                Ok(sockets) => return Ok(sockets),
                // Kept until the end, so that the next try is another port.
                Err((error, lease)) if error.raw_os_error() == Some(libc::EADDRINUSE) => {
                    passed_over.push(lease);
                }
                Err((error, _)) => return Err(format!("an RTP port cannot be opened: {error}")),
            }
        }
        Err("the RTP ports of the range are held by other programs".into())
    }

    fn bind(
        &mut self,
        ip: IpAddr,
        lease: Arc<Lease>,
        config: &IoConfig,
        epoll: &Epoll,
        token: u64,
    ) -> Result<LegSockets, (io::Error, Arc<Lease>)> {
        let mut opened = Vec::new();
        for offset in 0..lease.width as u16 {
            let address = SocketAddr::new(ip, lease.port() + offset);
            match UdpSocket::bind_leg(address, config) {
                Ok(socket) => opened.push(socket),
                Err(error) => return Err((error, lease)),
            }
        }
        let mut added = Vec::new();
        for socket in opened {
            let address = socket.address;
            let slot = self.sockets.insert(Leg { socket, _lease: lease.clone() });
            let number = slot as u32 + FIRST_LEG_SOCKET;
            added.push(LegSocket { socket: number, address });
            let watched = &self.sockets[slot].socket;
            if let Err(error) = epoll.add(watched, token + slot as u64, Interest::READ) {
                added.iter().for_each(|leg| self.close(leg.socket));
                return Err((error, lease));
            }
        }
        let mut added = added.into_iter();
        match added.next() {
            Some(rtp) => Ok(LegSockets { rtp, rtcp: added.next() }),
            None => Err((io::ErrorKind::InvalidInput.into(), lease)),
        }
    }

    /// The socket in `slot`.
    pub fn slot(&mut self, slot: usize) -> Option<&mut UdpSocket> {
        self.sockets.get_mut(slot).map(|leg| &mut leg.socket)
    }

    /// The socket that paths call `number`.
    pub fn socket(&mut self, number: u32) -> Option<&mut UdpSocket> {
        self.slot(number.checked_sub(FIRST_LEG_SOCKET)? as usize)
    }

    /// Closes a socket after the next flush: what was said last still leaves through it, and no other leg
    /// gets its number before.
    pub fn close(&mut self, number: u32) {
        self.closing.push(number);
    }

    /// A flush is done.
    pub fn flushed(&mut self) {
        for number in self.closing.drain(..) {
            if let Some(slot) = number.checked_sub(FIRST_LEG_SOCKET) {
                drop(self.sockets.try_remove(slot as usize));
            }
        }
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.sockets.len()
    }
}

/// Where a leg that may take any address listens: on what the configuration says of the family, else of
/// the other one.
pub(crate) fn listen_address(config: &IoConfig, ipv6: bool) -> Option<IpAddr> {
    let of = |ipv6: bool| config.listen.iter().find(move |ip| ip.is_ipv6() == ipv6).copied();
    of(ipv6).or_else(|| of(!ipv6))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket as StdSocket};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn config(min: u16, max: u16) -> IoConfig {
        IoConfig { leg_port_min: min, leg_port_max: max, ..IoConfig::default() }
    }

    #[test]
    fn pairs_are_even_and_odd_and_come_back_last() {
        let range = Arc::new(PortRange::new(&config(20_001, 20_008)));
        let pairs: Vec<_> = std::iter::from_fn(|| range.take(true)).collect();
        let mut ports: Vec<u16> = pairs.iter().map(Lease::port).collect();
        ports.sort_unstable();
        assert_eq!(ports, [20_002, 20_004, 20_006], "20,001 and 20,008 have no partner");
        let single: Vec<u16> = std::iter::from_fn(|| {
            range.take(false).map(|lease| {
                let port = lease.port();
                std::mem::forget(lease);
                port
            })
        })
        .collect();
        assert_eq!(single.len(), 2);
        assert_eq!(range.free(), 0);
        let mut pairs = pairs.into_iter();
        let first = pairs.next().expect("three");
        let port = first.port();
        drop(first);
        assert_eq!(range.take(true).map(|lease| lease.port()), Some(port), "the only free one");
        drop(pairs);
        let (one, two) = (range.take(true).expect("free"), range.take(true).expect("free"));
        let later = [one.port(), two.port()];
        drop(one);
        assert!(!later.contains(&range.take(true).expect("free").port()), "the one that rested longest");
    }

    #[test]
    fn a_range_of_nothing_gives_nothing() {
        for (min, max) in [(10, 9), (9, 9)] {
            assert!(Arc::new(PortRange::new(&config(min, max))).take(true).is_none());
        }
    }

    #[test]
    fn ports_of_other_programs_are_passed_over_and_all_come_back() {
        // Six ports in a row of which somebody else holds one, wherever the system has them.
        let base = (40_000u16..60_000)
            .step_by(6)
            .find(|base| (0..6).all(|offset| StdSocket::bind((HERE, base + offset)).is_ok()));
        let base = base.expect("six free ports");
        let held = StdSocket::bind((HERE, base + 3)).expect("free a moment ago");
        let config = config(base, base + 5);
        let range = Arc::new(PortRange::new(&config));
        let epoll = Epoll::new(4).expect("epoll");
        let mut legs = Legs::default();
        let open = |legs: &mut Legs| legs.open(&range, (HERE, true), &config, &epoll, 7);
        let first = open(&mut legs).expect("a pair");
        let second = open(&mut legs).expect("another pair");
        let mut ports = [first.rtp.address.port(), second.rtp.address.port()];
        ports.sort_unstable();
        assert_eq!(ports, [base, base + 4]);
        assert_eq!(first.rtcp.map(|leg| leg.address.port()), Some(first.rtp.address.port() + 1));
        assert!(open(&mut legs).is_err_and(|reason| reason.contains("no RTP port")));
        assert_eq!(legs.len(), 4);
        for leg in [first.rtp, second.rtp].into_iter().chain(first.rtcp).chain(second.rtcp) {
            legs.close(leg.socket);
            assert!(legs.socket(leg.socket).is_some(), "until the flush");
        }
        legs.flushed();
        assert_eq!((legs.len(), range.free()), (0, 6));
        drop(held);
        assert!(open(&mut legs).is_ok() && open(&mut legs).is_ok() && open(&mut legs).is_ok());
    }
}
