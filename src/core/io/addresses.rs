//! The host's own addresses, for host candidates (RFC 8445 §5.1.1.1).

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::core::io::config::IoConfig;
use crate::core::io::sys;
use crate::core::session::LocalCandidate;

/// The addresses of interfaces that are up, without link-local ones; loopback only where there is
/// nothing else or `loopback` asks for it.
pub fn detect(loopback: bool) -> io::Result<Vec<IpAddr>> {
    Ok(select(sys::interface_addresses()?, loopback))
}

fn select(found: Vec<IpAddr>, loopback: bool) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found.iter().filter(|address| usable(address) && !address.is_loopback()) {
        if !addresses.contains(address) {
            addresses.push(*address);
        }
    }
    if loopback || addresses.is_empty() {
        addresses.extend(found.into_iter().filter(|address| usable(address) && address.is_loopback()));
    }
    addresses
}

fn usable(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local() && !v6.is_unspecified() && !v6.is_multicast(),
    }
}

/// The candidates of a worker that listens on `listening`: announced addresses first (they are what a
/// remote party beyond a NAT can reach), then the host's own. An announced address counts where a
/// socket of its family listens.
pub fn candidates(config: &IoConfig, detected: &[IpAddr], listening: &[SocketAddr]) -> Vec<LocalCandidate> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    let mut add = |address: SocketAddr| {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    };
    for announced in &config.announced_addresses {
        if let Some(socket) = listening.iter().find(|socket| socket.is_ipv4() == announced.is_ipv4()) {
            add(SocketAddr::new(*announced, socket.port()));
        }
    }
    for socket in listening {
        if !socket.ip().is_unspecified() {
            add(*socket);
            continue;
        }
        for own in detected.iter().filter(|own| own.is_ipv4() == socket.is_ipv4()) {
            add(SocketAddr::new(*own, socket.port()));
        }
    }
    let udp = addresses.iter().map(|address| LocalCandidate { tcp: false, address: *address });
    let tcp = addresses.iter().filter(|_| config.tcp);
    udp.chain(tcp.map(|address| LocalCandidate { tcp: true, address: *address })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn loopback_and_link_local_are_left_out_where_something_better_is() {
        let found = vec![ip("127.0.0.1"), ip("192.0.2.2"), ip("fe80::1"), ip("fd00::2"), ip("169.254.1.1")];
        assert_eq!(select(found.clone(), false), [ip("192.0.2.2"), ip("fd00::2")]);
        assert_eq!(select(found, true), [ip("192.0.2.2"), ip("fd00::2"), ip("127.0.0.1")]);
        assert_eq!(select(vec![ip("127.0.0.1"), ip("::1")], false), [ip("127.0.0.1"), ip("::1")]);
    }

    #[test]
    fn announced_addresses_come_first_and_only_where_their_family_listens() {
        let config = IoConfig {
            announced_addresses: vec![ip("203.0.113.9"), ip("2001:db8::9")],
            ..IoConfig::default()
        };
        let listening = [SocketAddr::new(ip("0.0.0.0"), 8189)];
        let found = candidates(&config, &[ip("192.0.2.2"), ip("fd00::2")], &listening);
        let text: Vec<String> = found.iter().map(|c| format!("{} {}", c.tcp, c.address)).collect();
        assert_eq!(
            text,
            [
                "false 203.0.113.9:8189",
                "false 192.0.2.2:8189",
                "true 203.0.113.9:8189",
                "true 192.0.2.2:8189"
            ]
        );
    }

    #[test]
    fn the_host_has_an_address() {
        assert!(!detect(true).expect("getifaddrs").is_empty());
    }
}
