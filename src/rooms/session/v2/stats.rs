//! Statistics that a client subscribed to: asked for at its interval, one request for each at a time, sent in
//! the shape in which the worker tells them. Nothing is told of what is paused or not there yet.

use std::time::{Duration, Instant};

use serde_json::json;

use super::messages::{Ref, Subscribe};
use super::{Ask, Inside, Link, Then, notify};
use crate::rooms::error::Refusal;
use crate::rooms::session::Answered;
use crate::rooms::session::asks::Answer;

/// What statistics are of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject {
    /// One of the client's transports.
    Transport,
    /// One of its tracks.
    Producer,
    /// One of its consumers.
    Consumer,
}

/// All subscriptions of a client.
#[derive(Default)]
pub(super) struct Stats(Vec<Subscription>);

struct Subscription {
    subject: Subject,
    id: u32,
    interval: Duration,
    next: Instant,
    /// The last ones are waited for.
    asked: bool,
}

impl Stats {
    /// When the next are due.
    pub fn next(&self) -> Option<Instant> {
        self.0.iter().map(|subscription| subscription.next).min()
    }
}

impl Inside {
    pub(super) fn subscribe(
        &mut self,
        link: &mut Link,
        subject: Subject,
        subscribe: Subscribe,
    ) -> Result<(), Refusal> {
        let Subscribe { id, interval } = subscribe;
        if !self.has(subject, id) {
            return Err(Refusal::unknown("such thing", id));
        }
        let shortest = link.config().stats_interval_ms;
        let interval = Duration::from_millis((interval.unwrap_or_default() as u64).max(shortest).max(1));
        self.stats.0.retain(|known| (known.subject, known.id) != (subject, id));
        if self.stats.0.len() >= link.config().max_stats {
            return Err(Refusal::new(429, "there are as many subscriptions as there may be"));
        }
        let next = link.now() + interval;
        self.stats.0.push(Subscription { subject, id, interval, next, asked: false });
        Ok(())
    }

    pub(super) fn unsubscribe(&mut self, subject: Subject, Ref { id }: Ref) -> Result<(), Refusal> {
        self.stats.0.retain(|known| (known.subject, known.id) != (subject, id));
        Ok(())
    }

    /// Asks for what is due.
    pub(super) fn ask_stats(&mut self, link: &mut Link) {
        let now = link.now();
        let mut stats = std::mem::take(&mut self.stats);
        stats.0.retain(|known| self.has(known.subject, known.id));
        for due in stats.0.iter_mut().filter(|subscription| subscription.next <= now) {
            due.next = now + due.interval;
            if !due.asked
                && let Some(ask) = self.stats_ask(due.subject, due.id)
            {
                due.asked = true;
                link.ask(ask, Then::Stats(due.subject, due.id));
            }
        }
        self.stats = stats;
    }

    pub(super) fn stats_came(&mut self, link: &mut Link, subject: Subject, id: u32, answer: Answered) {
        let known = self.stats.0.iter_mut().find(|known| (known.subject, known.id) == (subject, id));
        let Some(subscription) = known else { return };
        subscription.asked = false;
        let Ok(Answer::Value(stats)) = answer else { return };
        match subject {
            Subject::Transport => notify(link, "transportStats", json!({"id": id, "stats": stats})),
            Subject::Producer => notify(link, "producerStats", json!({"id": id, "stats": stats})),
            Subject::Consumer => {
                if let Some(consumer) = self.consumers.get(&id) {
                    let data = json!({"id": id, "peerName": consumer.peer(), "stats": stats});
                    notify(link, "consumerStats", data);
                }
            }
        }
    }

    fn has(&self, subject: Subject, id: u32) -> bool {
        match subject {
            Subject::Transport => self.transports.contains_key(&id),
            Subject::Producer => self.producers.contains_key(&id),
            Subject::Consumer => self.consumers.contains_key(&id),
        }
    }

    /// `None` while there is nothing to tell.
    fn stats_ask(&self, subject: Subject, id: u32) -> Option<Ask> {
        match subject {
            Subject::Transport => self.transports.get(&id)?.id.map(Ask::TransportStats),
            Subject::Producer => {
                self.producers.get(&id).filter(|known| !known.is_paused())?.id.map(Ask::ProducerStats)
            }
            Subject::Consumer => {
                self.consumers.get(&id).filter(|known| !known.is_paused())?.id().map(Ask::ConsumerStats)
            }
        }
    }
}
