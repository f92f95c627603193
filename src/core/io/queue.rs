//! Bytes that wait until a stream socket takes them.

use std::io;
use std::os::fd::BorrowedFd;

use crate::core::io::sys;

/// Memory above this is given back when the queue runs empty.
const KEEP: usize = 64 << 10;

/// A queue of bytes; its bound is its user's.
#[derive(Default)]
pub(crate) struct WriteQueue {
    bytes: Vec<u8>,
    head: usize,
}

impl WriteQueue {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.head
    }

    /// Whether none wait.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where to append; room is made first where much has been sent.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        if self.head > KEEP && self.head > self.len() {
            self.bytes.drain(..self.head);
            self.head = 0;
        }
        &mut self.bytes
    }

    /// Writes what `fd` takes; how much it took.
    pub fn write_to(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let mut written = 0;
        while let Some(waiting) = self.bytes.get(self.head..).filter(|waiting| !waiting.is_empty()) {
            match sys::send(fd, waiting) {
                Ok(sent) => {
                    self.head += sent;
                    written += sent;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(written),
                Err(error) => return Err(error),
            }
        }
        self.head = 0;
        self.bytes.clear();
        self.bytes.shrink_to(KEEP);
        Ok(written)
    }
}
