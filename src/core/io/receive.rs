//! Receives datagrams in batches: `recvmmsg` into buffers large enough for whole trains (`UDP_GRO`),
//! allocated once a worker. Pages of a buffer that no train has reached stay untouched.

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;
use std::time::Duration;

use libc::{cmsghdr, iovec, mmsghdr, msghdr, sockaddr_storage};

use crate::core::io::sys;

/// The longest train the kernel makes, in bytes.
const BUFFER: usize = 65_536;
/// Room for the control messages we ask for: packet info, train's segment size, count of drops, arrival.
const CONTROL: usize = 128;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// Buffers for one call.
pub(crate) struct Receiver {
    bytes: Vec<u8>,
    names: Vec<sockaddr_storage>,
    controls: Vec<Control>,
    iovecs: Vec<iovec>,
    headers: Vec<mmsghdr>,
}

/// What came in one message: one datagram, or a train of them.
pub(crate) struct Train<'a> {
    /// Who sent it.
    pub remote: SocketAddr,
    /// The local address it was sent to; unspecified when the kernel did not say.
    pub local: IpAddr,
    /// When it arrived, since 1970, where the socket asks for it (`SO_TIMESTAMPNS`).
    pub arrived: Option<Duration>,
    /// How many datagrams the kernel dropped on this socket, since it was bound, if it said so.
    pub overflow: Option<u32>,
    segment: usize,
    bytes: &'a mut [u8],
}

impl Train<'_> {
    /// Its datagrams.
    pub fn datagrams(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let segment = if self.segment == 0 { self.bytes.len() } else { self.segment };
        self.bytes.chunks_mut(segment.max(1))
    }

    /// Its length.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl Receiver {
    /// Buffers for `messages` messages.
    pub fn new(messages: usize) -> Receiver {
        let messages = messages.clamp(1, 1024);
        Receiver {
            bytes: vec![0; messages * BUFFER],
            names: vec![sys::empty_storage(); messages],
            controls: vec![Control([0; CONTROL]); messages],
            iovecs: vec![iovec { iov_base: ptr::null_mut(), iov_len: 0 }; messages],
            headers: vec![empty_header(); messages],
        }
    }

    /// How many messages one call takes.
    pub fn capacity(&self) -> usize {
        self.headers.len()
    }

    /// Receives what waits, up to the capacity; how many messages came, 0 when none waited.
    pub fn receive(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        self.receive_some(socket, self.headers.len())
    }

    /// The same, up to `most` messages: preparing a message that does not come costs time too.
    pub fn receive_some(&mut self, socket: &impl AsFd, most: usize) -> io::Result<usize> {
        let most = most.min(self.headers.len());
        for (index, header) in self.headers.iter_mut().enumerate().take(most) {
            let Some(buffer) = self.bytes.get_mut(index * BUFFER..(index + 1) * BUFFER) else { break };
            let iovec = &mut self.iovecs[index];
            *iovec = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: BUFFER };
            header.msg_hdr.msg_name = ptr::from_mut(&mut self.names[index]).cast();
            header.msg_hdr.msg_namelen = size_of::<sockaddr_storage>() as u32;
            header.msg_hdr.msg_iov = iovec;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = self.controls[index].0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL as _;
            header.msg_hdr.msg_flags = 0;
            header.msg_len = 0;
        }
        let (fd, count) = (socket.as_fd().as_raw_fd(), most as u32);
        let (headers, flags) = (self.headers.as_mut_ptr(), libc::MSG_DONTWAIT);
        // SAFETY: `headers` has `count` entries whose pointers lead into vectors of `self`, which live
        // through the call and are as long as the lengths beside the pointers say.
        let received = sys::check(unsafe { libc::recvmmsg(fd, headers, count, flags as _, ptr::null_mut()) });
        match received {
            Ok(count) => Ok(count as usize),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// The `index`th message of the last call; `None` when it is unusable (cut short, no IP address).
    pub fn train(&mut self, index: usize) -> Option<Train<'_>> {
        let header = self.headers.get(index)?;
        if header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
            return None;
        }
        let remote = sys::from_storage(self.names.get(index)?)?;
        let start = index.checked_mul(BUFFER)?;
        let bytes = self.bytes.get_mut(start..start.checked_add(header.msg_len as usize)?)?;
        let unknown: IpAddr =
            if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let mut train = Train { remote, local: unknown, overflow: None, arrived: None, segment: 0, bytes };
        // SAFETY: the kernel has filled in this header in `receive`, and its control buffer still lives
        // in `self.controls`.
        unsafe { read_control(&header.msg_hdr, &mut train) };
        Some(train)
    }
}

/// # Safety
/// `header` was filled in by the kernel and its control buffer lives.
unsafe fn read_control(header: &msghdr, train: &mut Train<'_>) {
    // SAFETY: the macros walk the control buffer within the length the kernel set; each value is read
    // unaligned, in the type that its level and kind name, after its length was checked.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(header);
        while let Some(message) = next.as_ref() {
            match (message.cmsg_level, message.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    if let Some(info) = value::<libc::in_pktinfo>(message) {
                        train.local = Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into();
                    }
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    if let Some(info) = value::<libc::in6_pktinfo>(message) {
                        train.local = Ipv6Addr::from(info.ipi6_addr.s6_addr).into();
                    }
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let segment = value::<libc::c_int>(message).unwrap_or(0);
                    train.segment = usize::try_from(segment).unwrap_or(0);
                }
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    let time = value::<libc::timespec>(message);
                    train.arrived = time.map(|time| Duration::new(time.tv_sec as u64, time.tv_nsec as u32));
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => train.overflow = value::<u32>(message),
                _ => {}
            }
            next = libc::CMSG_NXTHDR(header, message);
        }
    }
}

/// # Safety
/// `message` is a control message as the kernel wrote it, of a kind whose value is a `T`.
#[allow(clippy::unnecessary_cast)] // 32 bits with musl
unsafe fn value<T: Copy>(message: &cmsghdr) -> Option<T> {
    // SAFETY: the length says that the value is there; it need not be aligned.
    unsafe {
        let whole = (message.cmsg_len as usize) >= libc::CMSG_LEN(size_of::<T>() as u32) as usize;
        whole.then(|| ptr::read_unaligned(libc::CMSG_DATA(message).cast::<T>()))
    }
}

/// A header that points nowhere.
pub(crate) fn empty_header() -> mmsghdr {
    // SAFETY: plain integers and null pointers.
    unsafe { std::mem::MaybeUninit::zeroed().assume_init() }
}
