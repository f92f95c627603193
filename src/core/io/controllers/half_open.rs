//! Connections that have not said who they are: so many at once, and the next one takes the place of the oldest.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::core::control::controller::network;

#[derive(Clone)]
pub(super) struct HalfOpen(Arc<Shared>);

struct Shared {
    most: usize,
    most_of_one: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    /// In the order they came; dropping the sender evicts one.
    all: BTreeMap<u64, (Option<IpAddr>, oneshot::Sender<()>)>,
    by_address: HashMap<IpAddr, usize>,
}

/// One place; dropping it frees it.
pub(super) struct Place {
    shared: Arc<Shared>,
    number: u64,
    evicted: oneshot::Receiver<()>,
}

impl HalfOpen {
    /// At most `most`, and of one address other than this machine's `most_of_one`.
    pub fn new(most: usize, most_of_one: usize) -> Self {
        HalfOpen(Arc::new(Shared { most: most.max(1), most_of_one, waiting: Mutex::default() }))
    }

    /// A place for a connection of an address, at the cost of the oldest where there is none.
    pub fn enter(&self, remote: Option<IpAddr>) -> Option<Place> {
        let address = remote.map(network).filter(|address| !address.is_loopback());
        let mut waiting = self.0.lock();
        if let Some(address) = address
            && waiting.by_address.get(&address).is_some_and(|count| *count >= self.0.most_of_one)
        {
            return None;
        }
        while waiting.all.len() >= self.0.most {
            let oldest = waiting.all.keys().next().copied()?;
            waiting.remove(oldest);
        }
        let (sender, evicted) = oneshot::channel();
        let number = waiting.next;
        waiting.next += 1;
        waiting.all.insert(number, (address, sender));
        if let Some(address) = address {
            *waiting.by_address.entry(address).or_default() += 1;
        }
        Some(Place { shared: self.0.clone(), number, evicted })
    }
}

impl Waiting {
    fn remove(&mut self, number: u64) {
        let Some((Some(address), _)) = self.all.remove(&number) else { return };
        if let Some(count) = self.by_address.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Ready when another one has taken the place.
    pub fn poll_evicted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        std::pin::Pin::new(&mut self.evicted).poll(cx).map(drop)
    }

    /// Resolves when another one has taken the place.
    pub async fn evicted(&mut self) {
        std::future::poll_fn(|cx| self.poll_evicted(cx)).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.lock().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn evicted(place: &mut Place) -> bool {
        place.poll_evicted(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_oldest_gives_way_and_one_address_gets_its_share() {
        let places = HalfOpen::new(3, 2);
        let one: Option<IpAddr> = Some("192.0.2.1".parse().expect("an address"));
        let mut first = places.enter(one).expect("a place");
        let second = places.enter(one).expect("a place");
        assert!(places.enter(one).is_none(), "a third of one address");
        let mut third = places.enter(None).expect("a place");
        assert!(!evicted(&mut first));
        let _fourth = places.enter(None).expect("a place");
        assert!(evicted(&mut first) && !evicted(&mut third));
        drop(second);
        drop(first);
        assert!(places.enter(one).is_some());
        let local = Some("127.0.0.1".parse().expect("an address"));
        let mut kept: Vec<_> = (0..5).map(|_| places.enter(local).expect("a place")).collect();
        assert_eq!(kept.iter_mut().map(evicted).filter(|gone| *gone).count(), 2);
        drop(kept);
        drop((third, _fourth));
        let waiting = places.0.lock();
        assert!(waiting.all.is_empty() && waiting.by_address.is_empty());
    }
}
