//! Who may send how much: a rate per address, failures counted, and a ban for those who fail too often.
//!
//! Asked before a message is read, so that a flood costs little. IPv6 addresses count by their /64.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::sip::config::SipLimits;
use crate::sip::session::trunk::Net;

/// What is to become of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    /// It may be read.
    Yes,
    /// Its sender is banned.
    Banned,
    /// Its sender sends too fast.
    TooFast,
}

/// What was turned away since the last report.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Turned {
    /// Messages of banned addresses.
    pub banned: u64,
    /// Requests beyond the rate.
    pub fast: u64,
    /// New bans.
    pub bans: u64,
}

impl Turned {
    /// Adds what came later.
    pub fn add(&mut self, more: Turned) {
        self.banned += more.banned;
        self.fast += more.fast;
        self.bans += more.bans;
    }
}

/// How many banned addresses are passed over, at most, where one must be forgotten.
const BANNED_PASSED: usize = 1_000;

#[derive(Debug)]
struct Record {
    tokens: f64,
    at: Instant,
    failures: VecDeque<Instant>,
    banned_until: Option<Instant>,
}

/// The counts of every address that was heard of lately.
#[derive(Debug)]
pub struct Guard {
    limits: SipLimits,
    exempt: Vec<Net>,
    records: HashMap<IpAddr, Record>,
    order: VecDeque<IpAddr>,
    turned: Turned,
}

impl Guard {
    /// A guard that has heard of nobody.
    pub fn new(limits: &SipLimits) -> Self {
        let exempt = limits.never_ban.iter().filter_map(|text| Net::parse(text)).collect();
        Guard {
            limits: limits.clone(),
            exempt,
            records: HashMap::new(),
            order: VecDeque::new(),
            turned: Turned::default(),
        }
    }

    /// Whether anything of an address is listened to at all.
    pub fn is_banned(&mut self, address: IpAddr, now: Instant) -> bool {
        let Some(record) = self.records.get_mut(&key(address)) else { return false };
        match record.banned_until {
            Some(until) if until > now => {
                self.turned.banned += 1;
                true
            }
            Some(_) => {
                record.banned_until = None;
                record.failures.clear();
                false
            }
            None => false,
        }
    }

    /// Whether a request that opens something may be looked at.
    pub fn admit(&mut self, address: IpAddr, is_trunk: bool, now: Instant) -> Admission {
        if self.is_banned(address, now) {
            return Admission::Banned;
        }
        let rate =
            if is_trunk { self.limits.trunk_requests_per_second } else { self.limits.requests_per_second };
        let rate = f64::from(rate.max(1));
        let record = self.record(address, now, rate);
        let passed = now.saturating_duration_since(record.at).as_secs_f64();
        // Twice the rate may come in a burst: a phone registers, subscribes and calls at once.
        record.tokens = (record.tokens + passed * rate).min(rate * 2.0);
        record.at = now;
        if record.tokens < 1.0 {
            self.turned.fast += 1;
            return Admission::TooFast;
        }
        record.tokens -= 1.0;
        Admission::Yes
    }

    /// Counts a failure; `true` when that brought a ban.
    pub fn blame(&mut self, address: IpAddr, now: Instant) -> bool {
        let (most, window, ban) = (self.limits.ban_failures, self.limits.ban_window_s, self.limits.ban_s);
        if ban == 0 || self.exempt.iter().any(|net| net.holds(address)) {
            return false;
        }
        let rate = f64::from(self.limits.requests_per_second.max(1));
        let record = self.record(address, now, rate);
        record.failures.push_back(now);
        while record
            .failures
            .front()
            .is_some_and(|at| now.saturating_duration_since(*at) > Duration::from_secs(window))
        {
            record.failures.pop_front();
        }
        if record.failures.len() < most.max(1) as usize || record.banned_until.is_some() {
            return false;
        }
        record.failures.clear();
        record.banned_until = Some(now + Duration::from_secs(ban));
        self.turned.bans += 1;
        true
    }

    fn record(&mut self, address: IpAddr, now: Instant, rate: f64) -> &mut Record {
        let key = key(address);
        if !self.records.contains_key(&key) {
            if self.records.len() >= self.limits.max_tracked_addresses.max(1) {
                self.forget_one(now);
            }
            self.order.push_back(key);
        }
        let fresh = || Record { tokens: rate * 2.0, at: now, failures: VecDeque::new(), banned_until: None };
        self.records.entry(key).or_insert_with(fresh)
    }

    /// Forgets the oldest, but rather one that is not banned: many made-up senders shall not lift a ban.
    fn forget_one(&mut self, now: Instant) {
        let banned = |address: &IpAddr| {
            let until = self.records.get(address).and_then(|record| record.banned_until);
            until.is_some_and(|until| now < until)
        };
        let at = self.order.iter().take(BANNED_PASSED).position(|address| !banned(address)).unwrap_or(0);
        if let Some(address) = self.order.remove(at) {
            self.records.remove(&address);
        }
    }

    /// What was turned away since it was last asked.
    pub fn take_turned(&mut self) -> Turned {
        std::mem::take(&mut self.turned)
    }
}

fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let net = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from(net))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_pass_floods_do_not() {
        let limits = SipLimits { requests_per_second: 5, ..SipLimits::default() };
        let (mut guard, now) = (Guard::new(&limits), Instant::now());
        let address = "192.0.2.1".parse().expect("address");
        let admitted = |guard: &mut Guard, now| {
            (0..100).filter(|_| guard.admit(address, false, now) == Admission::Yes).count()
        };
        assert_eq!(admitted(&mut guard, now), 10);
        assert_eq!(admitted(&mut guard, now + Duration::from_secs(1)), 5);
        assert_eq!(guard.admit("192.0.2.2".parse().expect("address"), false, now), Admission::Yes);
        assert_eq!(guard.take_turned().fast, 185);
    }

    #[test]
    fn who_fails_often_is_banned_for_a_while() {
        let limits = SipLimits { ban_failures: 3, ban_s: 60, ..SipLimits::default() };
        let (mut guard, now) = (Guard::new(&limits), Instant::now());
        let [bad, neighbour, home] =
            ["2001:db8::1", "2001:db8::ffff", "::1"].map(|text| text.parse().expect("address"));
        let bans: Vec<bool> = (0..3).map(|_| guard.blame(bad, now)).collect();
        assert_eq!(bans, [false, false, true]);
        assert!(guard.is_banned(neighbour, now + Duration::from_secs(59)));
        assert!(!guard.is_banned(bad, now + Duration::from_secs(61)));
        assert!((0..9).all(|_| !guard.blame(home, now)));
    }

    #[test]
    fn many_senders_lift_no_ban() {
        let limits = SipLimits { max_tracked_addresses: 10, ban_failures: 1, ..SipLimits::default() };
        let (mut guard, now) = (Guard::new(&limits), Instant::now());
        let bad = IpAddr::from([192, 0, 2, 1]);
        assert!(guard.blame(bad, now));
        for last in 0..200u8 {
            guard.admit(IpAddr::from([10, 0, 0, last]), false, now);
        }
        assert!(guard.is_banned(bad, now));
        assert_eq!((guard.records.len(), guard.order.len()), (10, 10));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let limits = SipLimits { max_tracked_addresses: 10, ..SipLimits::default() };
        let (mut guard, now) = (Guard::new(&limits), Instant::now());
        for last in 0..200u8 {
            guard.admit(IpAddr::from([10, 0, 0, last]), false, now);
        }
        assert_eq!((guard.records.len(), guard.order.len()), (10, 10));
    }
}
