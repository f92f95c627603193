//! Lanes: bounded single-producer, single-consumer queues between threads, with a stated fate when full
//! and at most one wake per batch.
//!
//! | lane | holds | when full |
//! |---|---|---|
//! | mail to a worker | sessions and lanes handed over by the main thread | the hand-over is refused |
//! | frames to a bridge job | access units of one producer | frames are dropped up to the next keyframe, counted |
//! | frames from a bridge job | its output | the newest frame is dropped, counted |
//! | packets of a pipe | plain RTP of one router for another | packets are dropped, counted |
//! | messages of a pipe (the same lane) | data channels | they wait in the consumer's bounded queue |

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{
    Receiver as StdReceiver, Sender as StdSender, SyncSender, TryRecvError, TrySendError, channel,
    sync_channel,
};

/// Wakes the thread at the receiving end (an eventfd in `io`; nothing for threads on a clock).
pub trait Wake: Send + Sync {
    /// Makes the receiver look at its lanes soon. Cheap when a wake is already pending.
    fn wake(&self);
}

/// The sending end.
pub struct Sender<T> {
    queue: Queue<T>,
    wake: Option<Arc<dyn Wake>>,
    dropped: Arc<AtomicU64>,
}

enum Queue<T> {
    /// Room for all it may hold.
    Fixed(SyncSender<T>),
    /// Room for what waits.
    Growing { queue: StdSender<T>, waiting: Arc<AtomicUsize>, capacity: usize },
}

impl<T> Queue<T> {
    fn push(&self, value: T) -> Result<(), SendError<T>> {
        match self {
            Queue::Fixed(queue) => queue.try_send(value).map_err(|error| match error {
                TrySendError::Full(value) => SendError::Full(value),
                TrySendError::Disconnected(value) => SendError::Closed(value),
            }),
            // Nobody else counts up.
            Queue::Growing { waiting, capacity, .. } if waiting.load(Ordering::Relaxed) >= *capacity => {
                Err(SendError::Full(value))
            }
            Queue::Growing { queue, waiting, .. } => {
                waiting.fetch_add(1, Ordering::Relaxed);
                queue.send(value).map_err(|error| SendError::Closed(error.0))
            }
        }
    }
}

/// The receiving end.
pub struct Receiver<T> {
    queue: StdReceiver<T>,
    waiting: Option<Arc<AtomicUsize>>,
    dropped: Arc<AtomicU64>,
}

/// Why a value was not taken.
#[derive(Debug, Eq, PartialEq)]
pub enum SendError<T> {
    /// The lane is full; the value comes back.
    Full(T),
    /// The other end is gone; the value comes back.
    Closed(T),
}

/// A lane of `capacity` values.
pub fn lane<T>(capacity: usize, wake: Option<Arc<dyn Wake>>) -> (Sender<T>, Receiver<T>) {
    let (sender, queue) = sync_channel(capacity);
    let dropped = Arc::new(AtomicU64::new(0));
    let receiver = Receiver { queue, waiting: None, dropped: dropped.clone() };
    (Sender { queue: Queue::Fixed(sender), wake, dropped }, receiver)
}

/// A lane of `capacity` values that takes up no more memory than what waits in it: for lanes of which there may be
/// many, and in which little waits.
pub fn growing<T>(capacity: usize, wake: Option<Arc<dyn Wake>>) -> (Sender<T>, Receiver<T>) {
    let (sender, queue) = channel();
    let (dropped, waiting) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
    let receiver = Receiver { queue, waiting: Some(waiting.clone()), dropped: dropped.clone() };
    (Sender { queue: Queue::Growing { queue: sender, waiting, capacity }, wake, dropped }, receiver)
}

impl<T> Sender<T> {
    /// Puts `value` in and does not wake; call [`Sender::wake`] once a batch.
    pub fn push(&self, value: T) -> Result<(), SendError<T>> {
        let pushed = self.queue.push(value);
        if matches!(pushed, Err(SendError::Full(_))) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        pushed
    }

    /// Wakes the receiver.
    pub fn wake(&self) {
        if let Some(wake) = &self.wake {
            wake.wake();
        }
    }

    /// Puts `value` in and wakes the receiver.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.push(value)?;
        self.wake();
        Ok(())
    }
}

impl<T> Receiver<T> {
    /// The next value, if one waits.
    pub fn pop(&self) -> Result<Option<T>, Closed> {
        match self.queue.try_recv() {
            Ok(value) => {
                if let Some(waiting) = &self.waiting {
                    waiting.fetch_sub(1, Ordering::Relaxed);
                }
                Ok(Some(value))
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Closed),
        }
    }

    /// How many values found the lane full since it was made.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// The other end of a lane is gone and nothing is left in it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Closed;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_lane_takes_no_more_until_something_is_taken_out() {
        for (sender, receiver) in [lane(2, None), growing(2, None)] {
            assert_eq!((sender.push(1), sender.push(2)), (Ok(()), Ok(())));
            assert_eq!(sender.push(3), Err(SendError::Full(3)));
            assert_eq!((receiver.pop(), receiver.dropped()), (Ok(Some(1)), 1));
            assert_eq!(sender.push(4), Ok(()));
            assert_eq!(
                (receiver.pop(), receiver.pop(), receiver.pop()),
                (Ok(Some(2)), Ok(Some(4)), Ok(None))
            );
            drop(sender);
            assert_eq!(receiver.pop(), Err(Closed));
        }
        for (sender, receiver) in [lane(2, None), growing(2, None)] {
            drop(receiver);
            assert_eq!(sender.push(1), Err(SendError::Closed(1)));
        }
    }
}
