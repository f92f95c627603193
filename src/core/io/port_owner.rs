//! Who holds a port: `/proc/net/{tcp,tcp6,udp,udp6}` names the socket's inode, `/proc/<pid>/fd` the
//! process that has it open (proc(5)). Processes of other users stay unknown without privileges.

use std::fmt;
use std::fs;
use std::path::Path;

/// UDP or TCP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// Streams.
    Tcp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Udp => "UDP",
            Protocol::Tcp => "TCP",
        })
    }
}

/// A port that could not be bound because somebody has it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct PortTaken {
    /// The port.
    pub port: u16,
    /// Of which protocol.
    pub protocol: Protocol,
    /// `name (pid 123)`, where the system tells.
    pub process: Option<String>,
}

impl PortTaken {
    /// The error for `port`, with its holder looked up.
    pub fn find(port: u16, protocol: Protocol) -> PortTaken {
        PortTaken { port, protocol, process: owner(port, protocol) }
    }
}

impl fmt::Display for PortTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} port {} is already taken", self.protocol, self.port)?;
        match &self.process {
            Some(process) => write!(f, " by {process}"),
            None => f.write_str(" by another process"),
        }
    }
}

/// `name (pid 123)` of the process that holds `port`, where the system tells.
pub fn owner(port: u16, protocol: Protocol) -> Option<String> {
    let tables: [&str; 2] = match protocol {
        Protocol::Udp => ["/proc/net/udp", "/proc/net/udp6"],
        Protocol::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
    };
    let inodes: Vec<u64> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| table.lines().filter_map(|line| inode(line, port, protocol)).collect::<Vec<_>>())
        .collect();
    inodes.iter().find_map(|inode| holder(*inode))
}

/// The inode of a line of `/proc/net/…` whose local port is `port`; of TCP, listening sockets only.
fn inode(line: &str, port: u16, protocol: Protocol) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace();
    let (_, local_port) = fields.nth(1)?.rsplit_once(':')?;
    if u16::from_str_radix(local_port, 16).ok()? != port {
        return None;
    }
    let state = fields.nth(1)?;
    if protocol == Protocol::Tcp && state != "0A" {
        return None;
    }
    fields.nth(5)?.parse().ok().filter(|inode| *inode != 0)
}

fn holder(inode: u64) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) else {
            continue;
        };
        let path = process.path();
        let Ok(descriptors) = fs::read_dir(path.join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            if fs::read_link(descriptor.path()).is_ok_and(|target| target == Path::new(&wanted)) {
                let command = fs::read_to_string(path.join("comm")).unwrap_or_default();
                return Some(format!("{} (pid {pid})", command.trim()));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn finds_this_process_behind_its_ports() {
        let pid = format!("(pid {})", std::process::id());
        let udp = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let port = udp.local_addr().expect("address").port();
        let taken = PortTaken::find(port, Protocol::Udp).to_string();
        assert!(taken.starts_with(&format!("UDP port {port} is already taken by ")), "{taken}");
        assert!(taken.ends_with(&pid), "{taken}");
        let tcp = TcpListener::bind("[::1]:0").or_else(|_| TcpListener::bind("127.0.0.1:0")).expect("bind");
        let port = tcp.local_addr().expect("address").port();
        assert!(owner(port, Protocol::Tcp).is_some_and(|owner| owner.ends_with(&pid)));
    }

    #[test]
    fn a_tcp_connection_is_no_listener() {
        let line = "   1: 0100007F:0016 0100007F:D2F0 01 00000000:00000000 02:000A 00000000  0 0 4711 2 0 20";
        assert_eq!(inode(line, 22, Protocol::Tcp), None);
        assert_eq!(inode(line, 22, Protocol::Udp), Some(4711));
    }
}
