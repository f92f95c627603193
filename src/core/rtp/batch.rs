//! What one flush sends: sealed datagrams laid end to end, grouped into runs. A run is consecutive
//! datagrams of equal size (the last may be shorter) for one receiver: one generic-segmentation-offload
//! send (`UDP_SEGMENT`). `io` turns runs into `sendmmsg`; nothing here knows a socket.

use crate::core::rtp::path::Path;

/// The largest datagram we make: fits an Ethernet MTU with IPv6 and UDP headers and room for a tunnel.
pub const MAX_DATAGRAM: usize = 1452;
/// The kernel's bound on segments of one send (`UDP_MAX_SEGMENTS` was 64 before Linux 6.9).
const MAX_SEGMENTS: u16 = 64;
/// A run may not exceed one IP packet's length field; 62 kB leaves room for headers.
const MAX_RUN: u32 = 62_000;

/// Consecutive datagrams for one receiver.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Where they go.
    pub path: Path,
    /// Where they begin in the batch's bytes.
    pub offset: u32,
    /// Bytes in all.
    pub len: u32,
    /// Size of each datagram but perhaps the last.
    pub segment: u16,
    /// How many datagrams.
    pub count: u16,
    /// A shorter datagram closed the run.
    closed: bool,
}

/// The datagrams of one flush.
pub struct SendBatch {
    bytes: Vec<u8>,
    used: usize,
    runs: Vec<Run>,
    max_runs: usize,
    packets: u64,
    sealed: u64,
    last_len: usize,
}

impl SendBatch {
    /// A batch of at most `bytes` bytes and `max_runs` runs; both are allocated here, once.
    pub fn new(bytes: usize, max_runs: usize) -> Self {
        SendBatch {
            bytes: vec![0; bytes.max(2 * MAX_DATAGRAM)],
            used: 0,
            runs: Vec::with_capacity(max_runs),
            max_runs,
            packets: 0,
            sealed: 0,
            last_len: 0,
        }
    }

    /// Whether another datagram may not fit: send, clear, go on.
    pub fn is_full(&self) -> bool {
        self.bytes.len() - self.used < MAX_DATAGRAM || self.runs.len() >= self.max_runs
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Room for the next datagram, at least [`MAX_DATAGRAM`] bytes unless the batch [`is_full`](Self::is_full).
    pub fn slot(&mut self) -> &mut [u8] {
        let end = self.bytes.len().min(self.used + MAX_DATAGRAM);
        &mut self.bytes[self.used..end]
    }

    /// Takes the first `len` bytes of the slot as a datagram for `path`.
    pub fn commit(&mut self, path: Path, len: usize) {
        debug_assert!(len <= self.bytes.len() - self.used);
        self.packets += 1;
        self.sealed += len as u64;
        let (offset, size) = (self.used as u32, len as u32);
        self.used += len;
        self.last_len = len;
        if let Some(run) = self.runs.last_mut() {
            let fits = !run.closed
                && run.path == path
                && len <= usize::from(run.segment)
                && run.count < MAX_SEGMENTS
                && run.len + size <= MAX_RUN;
            if fits {
                run.closed = len < usize::from(run.segment);
                run.len += size;
                run.count += 1;
                return;
            }
        }
        self.runs.push(Run { path, offset, len: size, segment: len as u16, count: 1, closed: false });
    }

    /// Copies `data` in as a datagram for `path`; `false` when it does not fit.
    pub fn push(&mut self, path: Path, data: &[u8]) -> bool {
        if self.is_full() || data.len() > MAX_DATAGRAM {
            return false;
        }
        self.slot()[..data.len()].copy_from_slice(data);
        self.commit(path, data.len());
        true
    }

    /// The runs, in the order they were made.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The bytes of a run.
    pub fn bytes(&self, run: &Run) -> &[u8] {
        &self.bytes[run.offset as usize..(run.offset + run.len) as usize]
    }

    /// The datagrams of a run, one by one.
    pub fn datagrams(&self, run: &Run) -> impl Iterator<Item = &[u8]> {
        self.bytes(run).chunks(usize::from(run.segment).max(1))
    }

    /// Datagrams committed since the batch was made.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Their bytes.
    pub fn sealed(&self) -> u64 {
        self.sealed
    }

    /// Bytes of the last packet.
    pub fn last_len(&self) -> usize {
        self.last_len
    }

    /// Forgets the runs; the memory stays.
    pub fn clear(&mut self) {
        self.used = 0;
        self.runs.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    use super::*;

    fn path(port: u16) -> Path {
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Path::Udp { socket: 0, local, remote: SocketAddr::new(local, port) }
    }

    #[test]
    fn equal_sizes_make_one_run_and_a_shorter_one_closes_it() {
        let mut batch = SendBatch::new(65_536, 16);
        for len in [1200, 1200, 1200, 100, 100] {
            batch.commit(path(1), len);
        }
        batch.commit(path(2), 100);
        let shape: Vec<_> = batch.runs().iter().map(|run| (run.count, run.len)).collect();
        assert_eq!(shape, [(4, 3700), (1, 100), (1, 100)]);
        assert_eq!(batch.datagrams(&batch.runs()[0]).count(), 4);
    }

    #[test]
    fn a_longer_datagram_opens_a_run() {
        let mut batch = SendBatch::new(65_536, 16);
        batch.commit(path(1), 1199);
        batch.commit(path(1), 1200);
        assert_eq!(batch.runs().len(), 2);
    }

    #[test]
    fn fills_up_and_clears() {
        let mut batch = SendBatch::new(4 * MAX_DATAGRAM, 100);
        let mut sent = 0;
        while batch.push(path(1), &[0; 1200]) {
            sent += 1;
        }
        assert!(sent >= 3 && batch.is_full());
        batch.clear();
        assert!(batch.is_empty() && !batch.is_full());
    }
}
