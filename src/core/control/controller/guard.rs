//! How often an address may guess.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Addresses remembered; beyond them the one that was heard of first is forgotten.
const MAX_ADDRESSES: usize = 4_096;

/// The failures of every address lately.
#[derive(Debug)]
pub(super) struct Guard {
    most: u32,
    window: Duration,
    failures: HashMap<IpAddr, (u32, Instant)>,
    order: VecDeque<IpAddr>,
}

impl Guard {
    /// At most `most` failures of an address within `window`.
    pub fn new(most: u32, window: Duration) -> Self {
        Guard { most: most.max(1), window, failures: HashMap::new(), order: VecDeque::new() }
    }

    /// For how long nothing of an address is looked at; `None`: it may try.
    pub fn blocked(&mut self, address: IpAddr, now: Instant) -> Option<Duration> {
        let key = network(address);
        let (count, since) = *self.failures.get(&key)?;
        let left = (since + self.window).saturating_duration_since(now);
        if left.is_zero() {
            self.failures.remove(&key);
            self.order.retain(|other| *other != key);
            return None;
        }
        (count >= self.most).then_some(left)
    }

    /// Counts a failure.
    pub fn blame(&mut self, address: IpAddr, now: Instant) {
        let key = network(address);
        if let Some((count, _)) = self.failures.get_mut(&key) {
            *count = count.saturating_add(1);
            return;
        }
        if self.order.len() >= MAX_ADDRESSES
            && let Some(first) = self.order.pop_front()
        {
            self.failures.remove(&first);
        }
        self.failures.insert(key, (1, now));
        self.order.push_back(key);
    }
}

/// What counts as one address: IPv4 whole, IPv6 its /64.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)).into()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_guesses_too_often_has_to_wait() {
        let (window, start) = (Duration::from_secs(60), Instant::now());
        let mut guard = Guard::new(2, window);
        let [one, same, other] =
            ["2001:db8::1", "2001:db8::2:2", "192.0.2.1"].map(|text| text.parse().expect("an address"));
        assert_eq!(guard.blocked(one, start), None);
        guard.blame(one, start);
        assert_eq!(guard.blocked(one, start), None);
        guard.blame(same, start + Duration::from_secs(10));
        assert_eq!(guard.blocked(one, start + Duration::from_secs(20)), Some(Duration::from_secs(40)));
        assert_eq!(guard.blocked(other, start), None);
        assert_eq!(guard.blocked(one, start + window), None);
        assert!(guard.failures.is_empty() && guard.order.is_empty());
    }

    #[test]
    fn a_flood_of_addresses_is_forgotten() {
        let mut guard = Guard::new(2, Duration::from_secs(60));
        for number in 0..10_000u32 {
            guard.blame(IpAddr::V4(number.into()), Instant::now());
        }
        assert_eq!((guard.failures.len(), guard.order.len()), (MAX_ADDRESSES, MAX_ADDRESSES));
    }
}
