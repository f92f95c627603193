//! Messages that wait for one receiver: bounded in bytes, with a stated fate when full. A reliable channel
//! is lost with its first message that finds no place; an unreliable one loses its oldest messages.

use std::collections::VecDeque;

use crate::core::data::DataMessage;

/// What a waiting message costs beside its bytes, so that empty ones do not come for nothing.
const OVERHEAD: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct SendQueue {
    reliable: bool,
    waiting: VecDeque<DataMessage>,
    bytes: usize,
    dropped: u64,
}

/// A reliable channel's message found no place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Overflow;

impl SendQueue {
    /// An empty queue.
    pub fn new(reliable: bool) -> Self {
        SendQueue { reliable, waiting: VecDeque::new(), bytes: 0, dropped: 0 }
    }

    /// Adds `message`, where at most `limit` bytes may wait.
    pub fn push(&mut self, message: DataMessage, limit: usize) -> Result<(), Overflow> {
        let cost = cost(&message);
        while self.bytes + cost > limit {
            if self.reliable {
                return Err(Overflow);
            }
            self.dropped += 1;
            if self.pop().is_none() {
                return Ok(());
            }
        }
        self.bytes += cost;
        self.waiting.push_back(message);
        Ok(())
    }

    /// The oldest message.
    pub fn pop(&mut self) -> Option<DataMessage> {
        let message = self.waiting.pop_front()?;
        self.bytes -= cost(&message);
        Some(message)
    }

    /// Puts back what was popped and found no taker.
    pub fn put_back(&mut self, message: DataMessage) {
        self.bytes += cost(&message);
        self.waiting.push_front(message);
    }

    /// What waits, in bytes, each message's overhead included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What waits, in bytes of messages alone.
    pub fn payload_bytes(&self) -> usize {
        self.bytes - self.waiting.len() * OVERHEAD
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Messages given up because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

fn cost(message: &DataMessage) -> usize {
    message.payload.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(byte: u8, length: usize) -> DataMessage {
        DataMessage::binary(vec![byte; length])
    }

    #[test]
    fn a_reliable_channel_is_lost_when_full() {
        let mut queue = SendQueue::new(true);
        assert_eq!(queue.push(message(1, 100), 400), Ok(()));
        assert_eq!(queue.push(message(2, 100), 400), Ok(()));
        assert_eq!(queue.push(message(3, 100), 400), Err(Overflow));
        assert_eq!((queue.bytes(), queue.payload_bytes(), queue.dropped()), (328, 200, 0));
        assert_eq!(queue.pop(), Some(message(1, 100)));
        queue.put_back(message(1, 100));
        assert_eq!(queue.pop(), Some(message(1, 100)));
        assert_eq!(queue.pop(), Some(message(2, 100)));
        assert_eq!((queue.pop(), queue.bytes(), queue.is_empty()), (None, 0, true));
    }

    #[test]
    fn an_unreliable_channel_loses_its_oldest() {
        let mut queue = SendQueue::new(false);
        for byte in 0..5 {
            assert_eq!(queue.push(message(byte, 100), 400), Ok(()));
        }
        assert_eq!(queue.dropped(), 3);
        assert_eq!(queue.pop(), Some(message(3, 100)));
        assert_eq!(queue.push(message(9, 1000), 400), Ok(()), "what can never fit is lost too");
        assert!(queue.is_empty());
    }
}
