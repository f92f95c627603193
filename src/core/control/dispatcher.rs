//! The Dispatcher as a value: who owes whom an answer.
//!
//! Requests of everybody go through it to the workers, answers and events come back through it. Each
//! worker has a bounded queue; a request whose asker can be told is refused early, one that keeps our
//! picture of the worker true is taken up to twice the bound, beyond which the worker is stuck and given up.
//!
//! `R` is whatever the asker wants back with the answer, `T` whatever a subscriber to an entity's events is
//! called.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::core::control::config::RoomsConfig;
use crate::core::control::error::ControlError;
use crate::core::control::netstring::INSIDE_LIMIT;
use crate::core::id::WorkerId;
use crate::core::mail::MailSender;
use crate::core::message::{FromWorker, Internal, Method, Request};

/// One life of a worker: a replacement has the same id and another generation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Link {
    /// Which worker.
    pub worker: WorkerId,
    generation: u64,
}

/// What a worker's message comes to.
pub enum Incoming<R, T> {
    /// An answer for somebody.
    Answer(R, Result<Value, ControlError>),
    /// An event of an entity somebody subscribed to.
    Event {
        /// Who subscribed.
        subscriber: T,
        /// The entity.
        target: u32,
        /// The event's name.
        event: String,
        /// Its data.
        data: Value,
    },
}

struct Worker<R> {
    generation: u64,
    mail: MailSender,
    queue: VecDeque<Vec<u8>>,
    queued_bytes: usize,
    pending: HashMap<u32, R>,
    /// Requests in the order they were made; the deadline is set once somebody with a clock has looked.
    order: VecDeque<(u32, Option<Instant>)>,
    load: usize,
    waker: Option<Waker>,
}

/// See the module.
pub struct Dispatcher<R, T> {
    workers: BTreeMap<WorkerId, Worker<R>>,
    subscribers: HashMap<u32, (WorkerId, T)>,
    next_id: u32,
    next_request: u32,
    next_generation: u64,
    timeout: Duration,
    max_bytes: usize,
    max_pending: usize,
}

impl<R, T: Clone> Dispatcher<R, T> {
    /// No worker yet.
    pub fn new(config: &RoomsConfig) -> Self {
        Dispatcher {
            workers: BTreeMap::new(),
            subscribers: HashMap::new(),
            next_id: 0,
            next_request: 0,
            next_generation: 0,
            timeout: Duration::from_millis(config.request_timeout_ms),
            max_bytes: config.max_queued_bytes,
            max_pending: config.max_pending_requests,
        }
    }

    /// An id for an entity, unique over all kinds and workers.
    pub fn allocate(&mut self) -> u32 {
        loop {
            self.next_id = self.next_id.wrapping_add(1);
            if self.next_id != 0 && !self.subscribers.contains_key(&self.next_id) {
                return self.next_id;
            }
        }
    }

    /// A worker is there. Any earlier life of it must have been [`remove`](Self::remove)d.
    pub fn add(&mut self, worker: WorkerId, mail: MailSender) -> Link {
        self.next_generation += 1;
        let generation = self.next_generation;
        let entry = Worker {
            generation,
            mail,
            queue: VecDeque::new(),
            queued_bytes: 0,
            pending: HashMap::new(),
            order: VecDeque::new(),
            load: 0,
            waker: None,
        };
        self.workers.insert(worker, entry);
        Link { worker, generation }
    }

    /// The present life of a worker.
    pub fn link(&self, worker: WorkerId) -> Option<Link> {
        self.workers.get(&worker).map(|entry| Link { worker, generation: entry.generation })
    }

    /// A worker is gone. Returns what it owed; its subscriptions are forgotten.
    pub fn remove(&mut self, link: Link) -> Option<Vec<R>> {
        self.live(link)?;
        let mut entry = self.workers.remove(&link.worker)?;
        self.subscribers.retain(|_, (worker, _)| *worker != link.worker);
        if let Some(waker) = entry.waker.take() {
            waker.wake();
        }
        Some(entry.pending.into_values().collect())
    }

    fn live(&mut self, link: Link) -> Option<&mut Worker<R>> {
        self.workers.get_mut(&link.worker).filter(|entry| entry.generation == link.generation)
    }

    /// The worker with the least load, but for those in `except`.
    pub fn least_loaded(&self, except: &[WorkerId]) -> Option<WorkerId> {
        let free = self.workers.iter().filter(|(id, _)| !except.contains(id));
        free.min_by_key(|(_, entry)| entry.load).map(|(id, _)| *id)
    }

    /// Counts one more peer on a worker.
    pub fn add_load(&mut self, worker: WorkerId) {
        if let Some(entry) = self.workers.get_mut(&worker) {
            entry.load += 1;
        }
    }

    /// Counts one peer less.
    pub fn drop_load(&mut self, worker: WorkerId) {
        if let Some(entry) = self.workers.get_mut(&worker) {
            entry.load = entry.load.saturating_sub(1);
        }
    }

    /// All workers there are.
    pub fn workers(&self) -> impl Iterator<Item = WorkerId> {
        self.workers.keys().copied()
    }

    /// The mailbox of a worker.
    pub fn mail(&self, worker: WorkerId) -> Option<&MailSender> {
        self.workers.get(&worker).map(|entry| &entry.mail)
    }

    /// Sends the events of entity `id` on `worker` to `subscriber`.
    pub fn subscribe(&mut self, id: u32, worker: WorkerId, subscriber: T) {
        self.subscribers.insert(id, (worker, subscriber));
    }

    /// Nobody wants that entity's events any more.
    pub fn unsubscribe(&mut self, id: u32) {
        self.subscribers.remove(&id);
    }

    /// What is counted on each worker.
    #[cfg(test)]
    pub fn loads(&self) -> Vec<usize> {
        self.workers.values().map(|entry| entry.load).collect()
    }

    /// How many requests wait for their answer, or are remembered for their deadline.
    #[cfg(test)]
    pub fn pending(&self) -> usize {
        self.workers.values().map(|entry| entry.pending.len() + entry.order.len() + entry.queue.len()).sum()
    }

    /// How many entities somebody is subscribed to.
    pub fn subscriptions(&self) -> usize {
        self.subscribers.len()
    }

    /// Gives back the room that tables needed once.
    pub fn shrink(&mut self) {
        self.subscribers.shrink_to_fit();
        for worker in self.workers.values_mut() {
            worker.pending.shrink_to_fit();
            worker.order.shrink_to_fit();
            worker.queue.shrink_to_fit();
        }
    }

    /// The entities somebody is subscribed to.
    #[cfg(test)]
    pub fn targets(&self) -> Vec<u32> {
        self.subscribers.keys().copied().collect()
    }

    /// Queues a request. `patient`: refuse it at the bound; otherwise take it up to twice the bound.
    pub fn request(
        &mut self,
        worker: WorkerId,
        (method, internal, data): (Method, Internal, Value),
        reply: R,
        patient: bool,
    ) -> Result<(), (R, ControlError)> {
        self.next_request = self.next_request.wrapping_add(1);
        let id = self.next_request;
        let factor = if patient { 1 } else { 2 };
        let (max_bytes, max_pending) = (self.max_bytes * factor, self.max_pending * factor);
        let Some(entry) = self.workers.get_mut(&worker) else {
            return Err((reply, ControlError::WorkerLost));
        };
        let json = Request::new(id, method, internal, data).to_json();
        if json.len() > INSIDE_LIMIT {
            return Err((reply, ControlError::NotAllowed("the request is too big")));
        }
        if entry.queued_bytes + json.len() > max_bytes || entry.pending.len() >= max_pending {
            return Err((reply, ControlError::Overloaded));
        }
        entry.queued_bytes += json.len();
        entry.queue.push_back(json);
        entry.pending.insert(id, reply);
        entry.order.push_back((id, None));
        if let Some(waker) = entry.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    /// The next message for a worker: `None` once this life of it is over.
    pub fn poll_send(&mut self, link: Link, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        let Some(entry) = self.live(link) else { return Poll::Ready(None) };
        match entry.queue.pop_front() {
            Some(json) => {
                entry.queued_bytes -= json.len();
                Poll::Ready(Some(json))
            }
            None => {
                entry.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Takes a message from a worker; `None` for one that concerns nobody any more.
    pub fn receive(&mut self, link: Link, json: &[u8]) -> Option<Incoming<R, T>> {
        let entry = self.live(link)?;
        match FromWorker::parse(json)? {
            FromWorker::Response(response) => {
                let reply = entry.pending.remove(&response.id)?;
                Some(Incoming::Answer(reply, response.result.map_err(ControlError::Rejected)))
            }
            FromWorker::Notification(event) => {
                let (worker, subscriber) = self.subscribers.get(&event.target_id)?;
                (*worker == link.worker).then(|| Incoming::Event {
                    subscriber: subscriber.clone(),
                    target: event.target_id,
                    event: event.event,
                    data: event.data,
                })
            }
        }
    }

    /// Gives up requests that were not answered in time.
    pub fn expire(&mut self, now: Instant) -> Vec<R> {
        let mut expired = Vec::new();
        for entry in self.workers.values_mut() {
            while let Some((id, deadline)) = entry.order.front_mut() {
                let deadline = *deadline.get_or_insert(now + self.timeout);
                if entry.pending.contains_key(id) {
                    if deadline > now {
                        break;
                    }
                    expired.extend(entry.pending.remove(id));
                }
                entry.order.pop_front();
            }
            for (_, deadline) in entry.order.iter_mut().rev().take_while(|(_, at)| at.is_none()) {
                *deadline = Some(now + self.timeout);
            }
        }
        expired
    }

    /// When [`expire`](Self::expire) should be called next, as far as is known.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.workers.values().filter_map(|entry| entry.order.front().and_then(|(_, at)| *at)).min()
    }
}
