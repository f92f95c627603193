//! Sends a [`SendBatch`]: each run as one message with a segment size (`UDP_SEGMENT`), many messages a
//! `sendmmsg`. Where segmentation is missing, each datagram is a message.
//!
//! What the kernel says about one message concerns that message: it is skipped and counted. A full socket
//! buffer is waited for within a bound of the whole flush, then the rest is dropped and counted.

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;
use std::time::Duration;

use libc::{c_int, iovec, mmsghdr, sockaddr_storage};

use crate::core::id::StreamId;
use crate::core::io::clock;
use crate::core::io::legs::Legs;
use crate::core::io::receive::empty_header;
use crate::core::io::stats::IoCounters;
use crate::core::io::sys;
use crate::core::io::udp::UdpSocket;
use crate::core::rtp::batch::SendBatch;
use crate::core::rtp::path::Path;

/// Messages in one call. More gain nothing (measured: the kernel's work is per message).
const MESSAGES: usize = 64;
/// Room for packet info and segment size.
const CONTROL: usize = 96;

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// What a staged message holds, for the counters and for sending it again singly.
#[derive(Clone, Copy, Default)]
struct Staged {
    packets: u64,
    segment: usize,
    /// Length of the control messages without the segment size.
    plain_control: usize,
}

/// Where a staged message goes.
struct Address {
    local: IpAddr,
    remote: SocketAddr,
}

/// Sockets by the numbers that paths call them by.
pub(crate) trait Sockets {
    /// The socket called `number`.
    fn socket(&mut self, number: u32) -> Option<&mut UdpSocket>;
}

impl Sockets for [UdpSocket] {
    fn socket(&mut self, number: u32) -> Option<&mut UdpSocket> {
        self.get_mut(number as usize)
    }
}

/// A worker's own sockets, and those of its legs.
pub(crate) struct AllSockets<'a> {
    /// Its own.
    pub own: &'a mut [UdpSocket],
    /// Its legs'.
    pub legs: &'a mut Legs,
}

impl Sockets for AllSockets<'_> {
    fn socket(&mut self, number: u32) -> Option<&mut UdpSocket> {
        match self.own.get_mut(number as usize) {
            None => self.legs.socket(number),
            own => own,
        }
    }
}

/// Headers for one call, allocated once a worker.
pub(crate) struct Sender {
    names: Vec<sockaddr_storage>,
    controls: Vec<Control>,
    iovecs: Vec<iovec>,
    headers: Vec<mmsghdr>,
    staged: Vec<Staged>,
    used: usize,
    wait: Duration,
}

impl Sender {
    /// A sender that waits at most `wait` a flush for room in a socket's buffer.
    pub fn new(wait: Duration) -> Sender {
        Sender {
            names: vec![sys::empty_storage(); MESSAGES],
            controls: vec![Control([0; CONTROL]); MESSAGES],
            iovecs: vec![iovec { iov_base: ptr::null_mut(), iov_len: 0 }; MESSAGES],
            headers: vec![empty_header(); MESSAGES],
            staged: vec![Staged::default(); MESSAGES],
            used: 0,
            wait,
        }
    }

    /// Sends `batch`; frames for TCP go to `tcp`.
    pub fn send(
        &mut self,
        sockets: &mut (impl Sockets + ?Sized),
        batch: &SendBatch,
        counters: &mut IoCounters,
        mut tcp: impl FnMut(StreamId, &[u8]),
    ) {
        let mut budget = self.wait;
        let mut current: u32 = 0;
        for run in batch.runs() {
            let (socket, local, remote) = match run.path {
                Path::Tcp { stream, .. } => {
                    batch.datagrams(run).for_each(|frame| tcp(stream, frame));
                    continue;
                }
                Path::Udp { socket, local, remote } => (socket, local, remote),
            };
            let Some(chosen) = sockets.socket(socket) else {
                counters.udp_out_refused += u64::from(run.count);
                continue;
            };
            let (gso, address) = (chosen.gso(), Address { local, remote });
            let pinned = chosen.any_address && !local.is_unspecified();
            if socket != current {
                self.dispatch(sockets, current, counters, &mut budget);
                current = socket;
            }
            if gso || run.count == 1 {
                self.stage(batch.bytes(run), usize::from(run.segment), run.count, &address, pinned);
            } else {
                for datagram in batch.datagrams(run) {
                    if self.used == MESSAGES {
                        self.dispatch(sockets, current, counters, &mut budget);
                    }
                    self.stage(datagram, datagram.len(), 1, &address, pinned);
                }
            }
            if self.used == MESSAGES {
                self.dispatch(sockets, current, counters, &mut budget);
            }
        }
        self.dispatch(sockets, current, counters, &mut budget);
    }

    /// Makes one message of `bytes`, which live until the next `dispatch`.
    fn stage(&mut self, bytes: &[u8], segment: usize, packets: u16, address: &Address, pinned: bool) {
        let index = self.used;
        let control = &mut self.controls[index].0;
        let plain_control = if pinned { put_packet_info(control, address.local) } else { 0 };
        let mut control_len = plain_control;
        if packets > 1 {
            control_len = put(control, plain_control, libc::SOL_UDP, libc::UDP_SEGMENT, segment as u16);
        }
        let iovec = &mut self.iovecs[index];
        *iovec = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let name = &mut self.names[index];
        let header = &mut self.headers[index];
        header.msg_len = 0;
        header.msg_hdr.msg_namelen = sys::write_storage(&address.remote, name);
        header.msg_hdr.msg_name = ptr::from_mut(name).cast();
        header.msg_hdr.msg_iov = iovec;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_control =
            if control_len == 0 { ptr::null_mut() } else { control.as_mut_ptr().cast() };
        header.msg_hdr.msg_controllen = control_len as _;
        self.staged[index] = Staged { packets: u64::from(packets), segment, plain_control };
        self.used += 1;
    }

    /// Sends what is staged.
    fn dispatch(
        &mut self,
        sockets: &mut (impl Sockets + ?Sized),
        socket: u32,
        out: &mut IoCounters,
        budget: &mut Duration,
    ) {
        let end = std::mem::take(&mut self.used);
        let Some(socket) = sockets.socket(socket) else { return };
        let mut at = 0;
        while at < end {
            out.udp_out_calls += 1;
            let (fd, headers) = (socket.as_fd().as_raw_fd(), &mut self.headers[at..end]);
            let (first, count) = (headers.as_mut_ptr(), headers.len() as u32);
            // SAFETY: `first` leads to `count` headers whose pointers lead into vectors of `self` and into
            // the batch that `send` borrows; all are as long as the lengths beside the pointers say.
            match unsafe { send_messages(fd, first, count) } {
                Ok(sent) => {
                    let next = (at + sent as usize).min(end);
                    self.account(at..next, socket, out);
                    at = next;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !wait(socket, out, budget) {
                        out.udp_out_dropped += self.staged[at..end].iter().map(|s| s.packets).sum::<u64>();
                        return;
                    }
                }
                Err(error) => {
                    self.refused(at, socket, &error, out);
                    at += 1;
                }
            }
        }
    }

    fn account(&self, sent: std::ops::Range<usize>, socket: &mut UdpSocket, out: &mut IoCounters) {
        for index in sent {
            let packets = self.staged[index].packets;
            out.udp_out_messages += 1;
            out.udp_out_packets += packets;
            out.udp_out_bytes += self.iovecs[index].iov_len as u64;
            if packets > 1 {
                out.udp_out_segments += packets;
                socket.gso_worked();
            }
        }
    }

    /// The kernel refused message `at`. A run is tried again datagram by datagram where the reason can be
    /// the segmentation.
    fn refused(&mut self, at: usize, socket: &mut UdpSocket, error: &io::Error, out: &mut IoCounters) {
        let Staged { packets, segment, plain_control } = self.staged[at];
        let suspect = matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIO | libc::EOPNOTSUPP));
        if packets < 2 || !suspect {
            tracing::trace!(%error, "a message was refused");
            out.udp_out_refused += packets;
            return;
        }
        let whole = self.iovecs[at];
        let mut delivered = 0;
        for offset in (0..whole.iov_len).step_by(segment.max(1)) {
            let len = segment.min(whole.iov_len - offset);
            // SAFETY: `offset` is within the staged run, which the batch that `send` borrows still holds.
            let start = unsafe { whole.iov_base.cast::<u8>().add(offset) };
            self.iovecs[at] = libc::iovec { iov_base: start.cast(), iov_len: len };
            let mut header = self.headers[at].msg_hdr;
            header.msg_controllen = plain_control as _;
            if plain_control == 0 {
                header.msg_control = ptr::null_mut();
            }
            out.udp_out_calls += 1;
            let fd = socket.as_fd().as_raw_fd();
            // SAFETY: as in `dispatch`; the control messages are cut behind the packet info.
            let sent = unsafe { libc::sendmsg(fd, &raw const header, libc::MSG_DONTWAIT) };
            if sent < 0 {
                out.udp_out_refused += 1;
                continue;
            }
            delivered += 1;
            out.udp_out_messages += 1;
            out.udp_out_packets += 1;
            out.udp_out_bytes += len as u64;
        }
        if delivered == packets {
            socket.gso_failed(error);
        }
    }
}

/// sendmmsg(2); in tests it fails as it is told to.
///
/// # Safety
/// As for sendmmsg(2).
unsafe fn send_messages(fd: c_int, first: *mut mmsghdr, count: u32) -> io::Result<c_int> {
    #[cfg(test)]
    if let Some(errno) = tests::FAULTS.with_borrow_mut(|faults| faults.pop()) {
        return Err(io::Error::from_raw_os_error(errno));
    }
    // SAFETY: the caller's promise.
    sys::check(unsafe { libc::sendmmsg(fd, first, count, libc::MSG_DONTWAIT as _) })
}

/// Waits for room within the flush's budget; `false` when it is spent.
fn wait(socket: &UdpSocket, out: &mut IoCounters, budget: &mut Duration) -> bool {
    out.udp_out_full += 1;
    if budget.is_zero() {
        return false;
    }
    let began = clock::now();
    let ready = sys::wait_writable(socket.as_fd(), *budget);
    // A microsecond at least, so that a socket which says "ready" and "full" by turns ends the wait too.
    let took = clock::now().saturating_duration_since(began).max(Duration::from_micros(1));
    out.udp_out_wait_us += took.as_micros() as u64;
    *budget = budget.saturating_sub(took);
    match ready {
        Ok(ready) => ready,
        Err(error) => error.kind() == io::ErrorKind::Interrupted && !budget.is_zero(),
    }
}

fn put_packet_info(control: &mut [u8; CONTROL], local: IpAddr) -> usize {
    match local {
        IpAddr::V4(v4) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: sys::in_addr(v4),
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            put(control, 0, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
        }
        IpAddr::V6(v6) => {
            let info = libc::in6_pktinfo { ipi6_addr: sys::in6_addr(v6), ipi6_ifindex: 0 };
            put(control, 0, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
        }
    }
}

/// Writes one control message at `offset`; where the next one goes.
fn put<T: Copy>(control: &mut [u8; CONTROL], offset: usize, level: c_int, kind: c_int, value: T) -> usize {
    let size = size_of::<T>() as u32;
    // SAFETY: arithmetic only.
    let (len, space) = unsafe { (libc::CMSG_LEN(size) as usize, libc::CMSG_SPACE(size) as usize) };
    let end = offset + space;
    assert!(end <= CONTROL, "control messages fit");
    // SAFETY: `space` bytes from `offset` are within the buffer; header and value are written unaligned.
    unsafe {
        let start = control.as_mut_ptr().add(offset);
        let mut header: libc::cmsghdr = std::mem::MaybeUninit::zeroed().assume_init();
        header.cmsg_len = len as _;
        header.cmsg_level = level;
        header.cmsg_type = kind;
        ptr::write_unaligned(start.cast(), header);
        ptr::write_unaligned(start.add(libc::CMSG_LEN(0) as usize).cast(), value);
    }
    end
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::net::UdpSocket as StdSocket;

    use super::*;
    use crate::core::io::config::IoConfig;
    use crate::core::io::receive::Receiver;

    thread_local! {
        /// Errors that the next calls answer, the last first.
        pub(super) static FAULTS: RefCell<Vec<i32>> = const { RefCell::new(Vec::new()) };
    }

    struct Bench {
        sockets: Vec<UdpSocket>,
        receiver: StdSocket,
        batch: SendBatch,
        sender: Sender,
        counters: IoCounters,
    }

    impl Bench {
        fn new(gso: bool) -> Bench {
            let config = IoConfig { gso, ..IoConfig::default() };
            let socket = UdpSocket::bind("0.0.0.0:0".parse().expect("address"), &config).expect("bind");
            let receiver = StdSocket::bind("127.0.0.1:0").expect("bind");
            receiver.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
            Bench {
                sockets: vec![socket],
                receiver,
                batch: SendBatch::new(1 << 20, 1024),
                sender: Sender::new(Duration::from_millis(2)),
                counters: IoCounters::default(),
            }
        }

        fn path(&self) -> Path {
            let local = "127.0.0.1".parse().expect("address");
            Path::Udp { socket: 0, local, remote: self.receiver.local_addr().expect("address") }
        }

        fn push(&mut self, path: Path, sizes: &[usize]) {
            for (number, size) in sizes.iter().enumerate() {
                assert!(self.batch.push(path, &vec![number as u8; *size]));
            }
        }

        fn send(&mut self) {
            self.sender.send(&mut self.sockets[..], &self.batch, &mut self.counters, |_, _| {});
            self.batch.clear();
        }

        /// The sizes of the next `count` datagrams; each holds its number.
        fn received(&self, count: usize) -> Vec<usize> {
            let mut buffer = [0; 2000];
            let mut next = || {
                let (len, _) = self.receiver.recv_from(&mut buffer).expect("datagram");
                (len, buffer[0])
            };
            let all: Vec<_> = (0..count).map(|_| next()).collect();
            assert!(all.iter().enumerate().all(|(at, (_, number))| at == usize::from(*number)), "{all:?}");
            all.into_iter().map(|(len, _)| len).collect()
        }
    }

    #[test]
    fn runs_leave_as_one_message_and_singly_without_segmentation() {
        let sizes = [1200, 1200, 1200, 300, 1200];
        for gso in [true, false] {
            let mut bench = Bench::new(gso);
            bench.push(bench.path(), &sizes);
            bench.send();
            assert_eq!(bench.received(5), sizes);
            let out = bench.counters;
            let expected = if gso { (5, 2, 4) } else { (5, 5, 0) };
            assert_eq!((out.udp_out_packets, out.udp_out_messages, out.udp_out_segments), expected);
            assert_eq!(out.udp_out_bytes, 5100);
        }
    }

    #[test]
    fn a_route_without_segmentation_gets_its_datagrams_singly_and_the_socket_stops_trying() {
        let mut bench = Bench::new(true);
        // A socket that sends no checksums cannot have runs cut by the kernel: EINVAL.
        sys::set_option(bench.sockets[0].as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).expect("option");
        let mut flushes = 0;
        while bench.sockets[0].gso() {
            bench.push(bench.path(), &[1000, 1000, 500]);
            bench.send();
            assert_eq!(bench.received(3), [1000, 1000, 500]);
            flushes += 1;
            assert!(flushes < 20, "gives up");
        }
        let calls = bench.counters.udp_out_calls;
        bench.push(bench.path(), &[1000, 1000, 500]);
        bench.send();
        assert_eq!(bench.received(3), [1000, 1000, 500]);
        assert_eq!(bench.counters.udp_out_calls, calls + 1);
        assert_eq!(bench.counters.udp_out_refused, 0);
    }

    #[test]
    fn a_refused_message_takes_no_other_with_it() {
        let mut bench = Bench::new(true);
        let nowhere = Path::Udp {
            socket: 0,
            local: "0.0.0.0".parse().expect("address"),
            remote: "255.255.255.255:9".parse().expect("address"),
        };
        bench.push(bench.path(), &[100]);
        bench.batch.push(nowhere, &[9; 100]);
        bench.batch.push(bench.path(), &[1; 200]);
        bench.send();
        assert_eq!(bench.received(2), [100, 200]);
        assert_eq!(bench.counters.udp_out_refused, 1);
    }

    #[test]
    fn a_full_buffer_is_waited_for_and_then_dropped_never_spun_on() {
        let mut bench = Bench::new(true);
        bench.push(bench.path(), &[100, 100]);
        FAULTS.set(vec![libc::EAGAIN, libc::EINTR, libc::EAGAIN]);
        bench.send();
        assert_eq!(bench.received(2), [100, 100]);
        assert_eq!((bench.counters.udp_out_full, bench.counters.udp_out_dropped), (2, 0));

        bench.push(bench.path(), &[100, 100]);
        FAULTS.set(vec![libc::EAGAIN; 1_000_000]);
        let began = clock::now();
        bench.send();
        let left = FAULTS.take().len();
        assert!(left > 900_000, "gave up after {} calls", 1_000_000 - left);
        assert!(began.elapsed() < Duration::from_secs(1));
        assert_eq!(bench.counters.udp_out_dropped, 2);
        bench.push(bench.path(), &[50]);
        bench.send();
        assert_eq!(bench.received(1), [50]);
    }

    #[test]
    fn trains_arrive_whole_and_are_cut_apart() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let address: SocketAddr = address.parse().expect("address");
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let config = IoConfig::default();
            let sink = UdpSocket::bind(any.parse().expect("address"), &config).expect("bind");
            let mut bench = Bench::new(true);
            bench.sockets = vec![UdpSocket::bind(address, &config).expect("bind")];
            let remote = SocketAddr::new(address.ip(), sink.address.port());
            let path = Path::Udp { socket: 0, local: address.ip(), remote };
            bench.push(path, &[700, 700, 700, 20]);
            bench.send();
            let mut receiver = Receiver::new(4);
            assert!(sys::wait_readable(sink.as_fd(), Duration::from_secs(5)).expect("poll"));
            assert_eq!(receiver.receive(&sink).expect("receive"), 1, "one train");
            let mut train = receiver.train(0).expect("train");
            assert_eq!(train.remote, bench.sockets[0].address);
            assert_eq!(train.local, address.ip());
            let sizes: Vec<_> = train.datagrams().map(|datagram| (datagram.len(), datagram[0])).collect();
            assert_eq!(sizes, [(700, 0), (700, 1), (700, 2), (20, 3)]);
        }
    }
}
