//! How many connections of one kind are open, in all and of one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A count of open connections with its two bounds; cheap to clone.
#[derive(Clone)]
pub struct Connections(Arc<Shared>);

struct Shared {
    max: usize,
    max_per_address: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One open connection; dropping it frees its place.
pub struct Place {
    shared: Arc<Shared>,
    address: IpAddr,
}

impl Connections {
    /// None open yet, of at most so many.
    pub fn new(max: usize, max_per_address: usize) -> Self {
        Connections(Arc::new(Shared { max, max_per_address, open: Mutex::default() }))
    }

    /// A place for a connection from `remote`, if there is one left. Loopback counts in the total only:
    /// that is a reverse proxy, behind which everybody has one address.
    pub fn admit(&self, remote: IpAddr) -> Option<Place> {
        let address = subscriber(remote);
        let mut open = self.0.lock();
        let same = open.by_address.get(&address).copied().unwrap_or(0);
        if open.total >= self.0.max || (same >= self.0.max_per_address && !address.is_loopback()) {
            return None;
        }
        open.total += 1;
        open.by_address.insert(address, same + 1);
        drop(open);
        Some(Place { shared: self.0.clone(), address })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.shared.lock();
        open.total = open.total.saturating_sub(1);
        if let Some(same) = open.by_address.get_mut(&self.address) {
            *same = same.saturating_sub(1);
            if *same == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

/// The address that stands for one subscriber: IPv4 whole, IPv6 its /64.
fn subscriber(remote: IpAddr) -> IpAddr {
    match remote.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_subscriber_and_freed() {
        let connections = Connections::new(3, 2);
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let same = "2001:db8::ffff:2".parse().unwrap();
        let other = "2001:db8:0:1::1".parse().unwrap();
        let first = connections.admit(one).unwrap();
        let _second = connections.admit(same).unwrap();
        assert!(connections.admit(one).is_none(), "a third of one /64");
        let _third = connections.admit(other).unwrap();
        assert!(connections.admit("192.0.2.1".parse().unwrap()).is_none(), "a fourth in all");
        drop(first);
        assert!(connections.admit(same).is_some());
    }

    #[test]
    fn a_proxy_on_this_machine_is_bounded_by_the_total_only() {
        let connections = Connections::new(3, 1);
        let places: Vec<_> = (0..4).map(|_| connections.admit("127.0.0.1".parse().unwrap())).collect();
        assert_eq!(places.iter().flatten().count(), 3);
    }
}
