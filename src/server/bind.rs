//! Listening sockets, bound before anything runs, with an error that names the port and who holds it.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Context;

use crate::core::io::{PortTaken, Protocol};

/// Binds `address`. `[::]` on a host without IPv6 means every IPv4 address.
pub(super) fn tcp(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).or_else(|error| match no_ipv6(&error) && is_any_v6(address) {
        true => TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())),
        false => Err(error),
    });
    let listener = bound.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => PortTaken::find(address.port(), Protocol::Tcp).into(),
        ErrorKind::PermissionDenied => {
            anyhow::anyhow!("TCP port {} needs privileges that this user has not", address.port())
        }
        _ => anyhow::Error::from(error).context(format!("cannot listen on {address}")),
    })?;
    listener.set_nonblocking(true).context("cannot make a socket non-blocking")?;
    Ok(listener)
}

fn is_any_v6(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V6(ip) if ip.is_unspecified())
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_holder() {
        let held = tcp(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = held.local_addr().unwrap();
        let error = tcp(address).unwrap_err().to_string();
        assert!(error.contains(&format!("TCP port {}", address.port())), "{error}");
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
    }
}
