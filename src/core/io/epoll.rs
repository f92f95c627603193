//! epoll(7), level-triggered, with waits in nanoseconds where the kernel has `epoll_pwait2` (Linux 5.11)
//! and in milliseconds, rounded up, where it has not.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use crate::core::io::sys;

/// What to be told of. Errors and hang-ups are always told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Interest {
    /// Something can be read, or accepted.
    pub read: bool,
    /// Something can be written.
    pub write: bool,
}

impl Interest {
    /// Reading only.
    pub const READ: Interest = Interest { read: true, write: false };

    fn bits(self) -> u32 {
        let read = if self.read { libc::EPOLLIN | libc::EPOLLRDHUP } else { 0 };
        let write = if self.write { libc::EPOLLOUT } else { 0 };
        (read | write) as u32
    }
}

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    /// The token it was registered with.
    pub token: u64,
    /// Can be read, has ended, or is broken.
    pub read: bool,
    /// Can be written, or is broken.
    pub write: bool,
}

/// An epoll instance and the events of its last wait.
pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
    count: usize,
    precise: bool,
}

impl Epoll {
    /// One that reports at most `capacity` events a wait.
    pub fn new(capacity: usize) -> io::Result<Epoll> {
        // SAFETY: takes no pointers.
        let fd = sys::own(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; capacity.max(1)];
        Ok(Epoll { fd, events, count: 0, precise: true })
    }

    /// Begins to watch `fd`.
    pub fn add(&self, fd: &impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    /// Watches `fd` for something else.
    pub fn modify(&self, fd: &impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    fn control(&self, op: i32, fd: &impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest.bits(), u64: token };
        let (epoll, fd) = (self.fd.as_raw_fd(), fd.as_fd().as_raw_fd());
        // SAFETY: the pointer is to a live event.
        sys::check(unsafe { libc::epoll_ctl(epoll, op, fd, &raw mut event) }).map(drop)
    }

    /// Waits until something happens or `timeout` has passed (`None`: for ever); how many things did.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        self.count = 0;
        let waited = if self.precise { self.wait_precise(timeout) } else { self.wait_coarse(timeout) };
        let count = match waited {
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) && self.precise => {
                self.precise = false;
                self.wait_coarse(timeout)?
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            other => other?,
        };
        self.count = count as usize;
        Ok(self.count)
    }

    fn wait_precise(&mut self, timeout: Option<Duration>) -> io::Result<i32> {
        let timeout = timeout.map(sys::timespec);
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        let (fd, events, room) = (self.fd.as_raw_fd(), self.events.as_mut_ptr(), self.events.len());
        let mask: *const libc::sigset_t = ptr::null();
        // SAFETY: `events` has `room` entries; the timeout is null or live; a null mask changes nothing.
        let count =
            unsafe { libc::syscall(libc::SYS_epoll_pwait2, fd, events, room as i32, timeout, mask, 0usize) };
        sys::check(count as i32)
    }

    fn wait_coarse(&mut self, timeout: Option<Duration>) -> io::Result<i32> {
        let timeout = match timeout {
            Some(timeout) => timeout.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32,
            None => -1,
        };
        let (fd, events, room) = (self.fd.as_raw_fd(), self.events.as_mut_ptr(), self.events.len());
        // SAFETY: `events` has `room` entries.
        sys::check(unsafe { libc::epoll_wait(fd, events, room as i32, timeout) })
    }

    /// The `index`th thing of the last wait.
    pub fn ready(&self, index: usize) -> Option<Ready> {
        let event = self.events.get(..self.count)?.get(index)?;
        let bits = event.events;
        let broken = bits & (libc::EPOLLERR | libc::EPOLLHUP) as u32 != 0;
        Some(Ready {
            token: event.u64,
            read: broken || bits & (libc::EPOLLIN | libc::EPOLLRDHUP) as u32 != 0,
            write: broken || bits & libc::EPOLLOUT as u32 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn tells_what_is_ready_and_keeps_its_time() {
        let mut epoll = Epoll::new(4).expect("epoll");
        let (mut near, far) = UnixStream::pair().expect("pair");
        epoll.add(&far, 7, Interest::READ).expect("add");
        for precise in [true, false] {
            epoll.precise = precise;
            assert_eq!(epoll.wait(Some(Duration::from_millis(1))).expect("wait"), 0);
        }
        near.write_all(b"x").expect("write");
        assert_eq!(epoll.wait(None).expect("wait"), 1);
        assert!(epoll.ready(0).is_some_and(|ready| ready.token == 7 && ready.read && !ready.write));
        assert!(epoll.ready(1).is_none());
        epoll.modify(&far, 8, Interest { read: false, write: true }).expect("modify");
        assert_eq!(epoll.wait(None).expect("wait"), 1);
        assert!(epoll.ready(0).is_some_and(|ready| ready.token == 8 && ready.write));
    }
}
