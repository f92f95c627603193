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
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver as StdReceiver, SyncSender, TryRecvError, TrySendError, sync_channel};

/// Wakes the thread at the receiving end (an eventfd in `io`; nothing for threads on a clock).
pub trait Wake: Send + Sync {
    /// Makes the receiver look at its lanes soon. Cheap when a wake is already pending.
    fn wake(&self);
}

/// The sending end.
pub struct Sender<T> {
    queue: SyncSender<T>,
    wake: Option<Arc<dyn Wake>>,
    dropped: Arc<AtomicU64>,
}

/// The receiving end.
pub struct Receiver<T> {
    queue: StdReceiver<T>,
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
    let (sender, receiver) = sync_channel(capacity);
    let dropped = Arc::new(AtomicU64::new(0));
    (Sender { queue: sender, wake, dropped: dropped.clone() }, Receiver { queue: receiver, dropped })
}

impl<T> Sender<T> {
    /// Puts `value` in and does not wake; call [`Sender::wake`] once a batch.
    pub fn push(&self, value: T) -> Result<(), SendError<T>> {
        self.queue.try_send(value).map_err(|error| match error {
            TrySendError::Full(value) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                SendError::Full(value)
            }
            TrySendError::Disconnected(value) => SendError::Closed(value),
        })
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
            Ok(value) => Ok(Some(value)),
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
