//! Where this server may connect because somebody asked it to (RTMP pushed and pulled): the public Internet, and what
//! the operator allows. Networks of one's own are behind the firewall that the asker is in front of.
//!
//! A name is resolved once; the addresses found are judged, and the connection goes to one of them: a name cannot
//! lead somewhere else between the check and the connection. `core/io/egress` connects.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// The `egress` section of the configuration.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct EgressConfig {
    /// Targets that are not public and may be reached all the same: networks (`10.1.0.0/16`, `fd00::/8`), addresses,
    /// names (`studio.lan`), names below one (`*.lan`). Default none.
    pub allow: Vec<String>,
    /// File with the certificate authorities that are trusted, in PEM. Default: the system's.
    pub ca: Option<PathBuf>,
    /// Milliseconds for finding a name's addresses, and for connecting to each. Default 10000.
    pub connect_timeout_ms: u64,
    /// Times a target may point elsewhere, which is judged again. Default 3.
    pub max_redirects: u32,
}

impl Default for EgressConfig {
    fn default() -> Self {
        EgressConfig { allow: Vec::new(), ca: None, connect_timeout_ms: 10_000, max_redirects: 3 }
    }
}

impl EgressConfig {
    /// `connect_timeout_ms`.
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }
}

/// Why a target is not connected to.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EgressError {
    /// An entry of `egress.allow` that cannot be read.
    #[error("egress.allow: {0:?} is no network, address or name")]
    BadRule(String),
    /// The certificate authorities cannot be read.
    #[error("egress.ca: {0}")]
    BadAuthorities(String),
    /// The address is none of the public Internet.
    #[error("the target is in a network that is not public (egress.allow)")]
    Forbidden,
    /// The name leads nowhere.
    #[error("the target's name cannot be resolved")]
    Unresolved,
    /// Nobody answers there.
    #[error("the target cannot be reached: {0}")]
    Unreachable(String),
}

impl EgressError {
    /// Whether trying again later may help; the rest is the operator's or the asker's to mend.
    pub fn is_expected(&self) -> bool {
        matches!(self, EgressError::Unresolved | EgressError::Unreachable(_))
    }
}

/// What may be connected to.
#[derive(Clone, Debug, Default)]
pub struct EgressRules {
    networks: Vec<Network>,
    names: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct Network {
    address: IpAddr,
    prefix: u32,
}

impl EgressRules {
    /// Reads `egress.allow`.
    pub fn new(allow: &[String]) -> Result<Self, EgressError> {
        let mut rules = EgressRules::default();
        for entry in allow {
            let bad = || EgressError::BadRule(entry.clone());
            match (Network::parse(entry), entry.contains('/')) {
                (Some(network), _) => rules.networks.push(network),
                (None, true) => return Err(bad()),
                (None, false) if is_name(entry.strip_prefix("*.").unwrap_or(entry)) => {
                    rules.names.push(entry.to_ascii_lowercase());
                }
                (None, false) => return Err(bad()),
            }
        }
        Ok(rules)
    }

    /// Whether a connection to `address`, which `host` stands for, may be made.
    pub fn permit(&self, host: &str, address: IpAddr) -> bool {
        let address = inner(address);
        is_public(address)
            || self.networks.iter().any(|network| network.holds(address))
            || self.names.iter().any(|name| matches(name, host))
    }
}

impl Network {
    fn parse(text: &str) -> Option<Network> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(most);
        (prefix <= most).then_some(Network { address, prefix })
    }

    fn holds(&self, address: IpAddr) -> bool {
        let same = |a: u128, b: u128, width: u32| {
            let shift = width.saturating_sub(self.prefix);
            a.checked_shr(shift).unwrap_or(0) == b.checked_shr(shift).unwrap_or(0)
        };
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(u128::from(u32::from(a)), u128::from(u32::from(b)), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.into(), b.into(), 128),
            _ => false,
        }
    }
}

fn is_name(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !text.is_empty() && text.chars().all(good)
}

fn matches(name: &str, host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    match name.strip_prefix('*') {
        Some(tail) => host.len() > tail.len() && host.ends_with(tail),
        None => host == *name,
    }
}

/// The IPv4 address within an IPv6 address that only carries one (mapped, compatible, NAT64, 6to4): it is where the
/// connection ends.
fn inner(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address.to_canonical() else { return address.to_canonical() };
    let [a, b, c, d, e, f, g, h] = six.segments();
    let four = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0) if g != 0 => four(g, h),
        (0x64, 0xff9b, 0, 0, 0, 0) => four(g, h),
        (0x2002, high, low, ..) => four(high, low),
        _ => IpAddr::V6(six),
    }
}

/// Whether an address is one of the public Internet (IANA's special-purpose registries say which are not).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => is_public_v4(four),
        IpAddr::V6(six) => is_public_v6(six),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    // Azure answers its machines' questions about themselves on a public address.
    let wire_server = Ipv4Addr::new(168, 63, 129, 16);
    !(matches!(
        (a, b, c),
        // This network, private, shared (carriers'), loopback, link-local (metadata of clouds).
        (0 | 10 | 127, ..) | (100, 64..=127, _) | (169, 254, _) | (172, 16..=31, _) | (192, 168, _)
        // Protocols', documentation, 6to4 relays, benchmarks.
            | (192, 0, 0 | 2) | (192, 88, 99) | (198, 18 | 19, _) | (198, 51, 100) | (203, 0, 113)
        // Multicast, reserved, broadcast.
            | (224..=255, ..)
    ) || address == wire_server)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // Only 2000::/3 is given out; of it not protocols' (2001::/23), documentation, 6to4 (judged by what is in it).
    (0x2000..=0x3fff).contains(&a)
        && !(a == 0x2001 && (b < 0x200 || b == 0xdb8))
        && a != 0x2002
        && !(a == 0x3fff && b < 0x1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(rules: &[&str], host: &str, address: &str) -> bool {
        let rules: Vec<String> = rules.iter().map(|rule| (*rule).to_owned()).collect();
        let rules = EgressRules::new(&rules).expect("rules");
        rules.permit(host, address.parse().expect("an address"))
    }

    #[test]
    fn the_public_internet_is_open() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "169.253.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.169.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
        ] {
            assert!(permits(&[], "x", address), "{address}");
        }
    }

    #[test]
    fn networks_of_ones_own_are_closed_in_whatever_dress() {
        for address in [
            "0.0.0.0",
            "10.0.0.1",
            "127.0.0.1",
            "127.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "169.254.169.254",
            "168.63.129.16",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "5f00::1",
            "3fff::1",
        ] {
            assert!(!permits(&[], "x", address), "{address}");
        }
    }

    #[test]
    fn what_the_operator_allows_is_open_and_nothing_beside_it() {
        let lan = ["10.1.0.0/16", "fd12::/16", "192.168.0.7", "studio.lan", "*.example.net"];
        for (host, address, expected) in [
            ("x", "10.1.255.1", true),
            ("x", "::ffff:10.1.0.1", true),
            ("x", "10.2.0.1", false),
            ("x", "fd12:3::1", true),
            ("x", "fd13::1", false),
            ("x", "192.168.0.7", true),
            ("x", "192.168.0.8", false),
            ("STUDIO.lan.", "127.0.0.1", true),
            ("xstudio.lan", "127.0.0.1", false),
            ("a.example.net", "10.9.9.9", true),
            ("example.net", "10.9.9.9", false),
            ("aexample.net", "10.9.9.9", false),
        ] {
            assert_eq!(permits(&lan, host, address), expected, "{host} {address}");
        }
        assert!(permits(&["0.0.0.0/0"], "x", "127.0.0.1") && !permits(&["0.0.0.0/0"], "x", "::1"));
        assert!(permits(&["::/0"], "x", "::1"));
    }

    #[test]
    fn rules_that_mean_nothing_are_refused() {
        for rule in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "a b", "https://x", "x/8", "*."] {
            let refused = EgressRules::new(&[rule.to_owned()]);
            assert_eq!(refused.err(), Some(EgressError::BadRule(rule.to_owned())), "{rule:?}");
        }
    }
}
