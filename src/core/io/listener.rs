//! The listening TCP socket of a worker's port. When the process has no descriptor left, it stops
//! accepting for a moment instead of being woken over and over for what it cannot take.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::core::io::epoll::{Epoll, Interest};
use crate::core::io::sys;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;
/// Connections accepted in one round.
const ACCEPTS: usize = 16;
/// How long to accept none when the process has no descriptor left.
const PAUSE: Duration = Duration::from_millis(200);

/// One listening socket.
pub(crate) struct Listener {
    fd: OwnedFd,
    token: u64,
    paused: Option<Instant>,
}

impl Listener {
    /// Binds `address` and listens.
    pub fn bind(address: SocketAddr) -> io::Result<Listener> {
        let fd = sys::socket(&address, libc::SOCK_STREAM)?;
        // Connections of a process that has just ended do not hold the port.
        sys::set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        if address.is_ipv6() {
            sys::set_option(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
        }
        sys::bind(fd.as_fd(), &address)?;
        sys::listen(fd.as_fd(), BACKLOG)?;
        Ok(Listener { fd, token: 0, paused: None })
    }

    /// What it is bound to.
    #[cfg(test)]
    pub fn address(&self) -> io::Result<SocketAddr> {
        sys::local_address(self.fd.as_fd())
    }

    /// Has `epoll` tell under `token` when a connection waits.
    pub fn register(&mut self, epoll: &Epoll, token: u64) -> io::Result<()> {
        (self.token, self.paused) = (token, None);
        epoll.add(&self.fd, token, Interest::READ)
    }

    /// Hands out connections that wait, up to the bound of a round.
    pub fn accept(&mut self, now: Instant, epoll: &Epoll, mut take: impl FnMut((OwnedFd, SocketAddr))) {
        for _ in 0..ACCEPTS {
            match sys::accept(self.fd.as_fd()) {
                Ok(connection) => take(connection),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return,
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                        tracing::warn!(%error, "no connection can be accepted for a moment");
                        let none = Interest { read: false, write: false };
                        if epoll.modify(&self.fd, self.token, none).is_ok() {
                            self.paused = Some(now + PAUSE);
                        }
                        return;
                    }
                    // A connection that broke before it was accepted; the next may be sound.
                    _ => {}
                },
            }
        }
    }

    /// When `handle_timeout` wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.paused
    }

    /// Accepts again after a pause.
    pub fn handle_timeout(&mut self, now: Instant, epoll: &Epoll) {
        if self.paused.is_some_and(|until| until <= now)
            && epoll.modify(&self.fd, self.token, Interest::READ).is_ok()
        {
            self.paused = None;
        }
    }
}
