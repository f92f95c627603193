//! A router: who sends and who receives on one worker, and which consumers read which producer. It moves
//! nothing: producers fill their stores, consumers read them when their transport is flushed, and the
//! router only knows whose turn it is.

use slab::Slab;

use crate::core::consumer::Consumer;
use crate::core::data::{DataConsumer, DataProducer};
use crate::core::id::RouterId;
use crate::core::producer::Producer;

/// See the module.
pub struct Router {
    /// Its id in the control protocol.
    pub id: RouterId,
    /// Tracks in.
    pub producers: Slab<Producer>,
    /// Tracks out.
    pub consumers: Slab<Consumer>,
    /// Data channels in.
    pub data_producers: Slab<DataProducer>,
    /// Data channels out.
    pub data_consumers: Slab<DataConsumer>,
    changed: Vec<usize>,
}

impl Router {
    /// An empty router.
    pub fn new(id: RouterId) -> Self {
        Router {
            id,
            producers: Slab::new(),
            consumers: Slab::new(),
            data_producers: Slab::new(),
            data_consumers: Slab::new(),
            changed: Vec::new(),
        }
    }

    /// Gives a consumer another source, or none.
    pub fn connect(&mut self, consumer: usize, producer: Option<usize>) {
        let Some(entry) = self.consumers.get_mut(consumer) else { return };
        if let Some(old) = entry.producer.and_then(|old| self.producers.get_mut(old)) {
            old.consumers.retain(|key| *key != consumer);
        }
        let source = producer.and_then(|key| self.producers.get_mut(key));
        let producer = producer.filter(|_| source.is_some());
        entry.set_producer(producer, source.as_deref());
        if let Some(source) = source {
            source.consumers.push(consumer);
        }
    }

    /// Notes that a producer's store has something new.
    pub fn note_changed(&mut self, producer: usize) {
        if let Some(entry) = self.producers.get_mut(producer)
            && !entry.changed
        {
            entry.changed = true;
            self.changed.push(producer);
        }
    }

    /// Calls `each` with the transport of every consumer of every producer that changed since the last
    /// call; a transport may come several times.
    pub fn take_turns(&mut self, mut each: impl FnMut(usize)) {
        for key in self.changed.drain(..) {
            let Some(producer) = self.producers.get_mut(key) else { continue };
            producer.changed = false;
            for &consumer in &producer.consumers {
                let transport = self.consumers.get(consumer).and_then(|entry| entry.transport);
                if let Some(transport) = transport {
                    each(transport);
                }
            }
        }
    }

    /// Whether any producer changed since the last turn.
    pub fn has_turns(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Notes that a consumer needs a keyframe of a stream of its source that nobody has yet. Answers the source
    /// where it must be asked and has not been.
    pub fn want_keyframe(&mut self, consumer: usize) -> Option<usize> {
        let entry = self.consumers.get(consumer)?;
        let key = entry.producer?;
        let source = self.producers.get_mut(key)?;
        let at = entry.wants_keyframe(source)?;
        let stream = source.streams.get_mut(at)?;
        if stream.keyframes.is_wanted() {
            return None;
        }
        stream.keyframes.want();
        Some(key)
    }

    /// Adds a data consumer to its producer.
    pub fn add_data_consumer(&mut self, consumer: DataConsumer) -> usize {
        let producer = consumer.producer;
        let key = self.data_consumers.insert(consumer);
        if let Some(source) = self.data_producers.get_mut(producer) {
            source.consumers.push(key);
        }
        key
    }

    /// Removes a data consumer.
    pub fn remove_data_consumer(&mut self, key: usize) -> Option<DataConsumer> {
        let consumer = self.data_consumers.try_remove(key)?;
        if let Some(source) = self.data_producers.get_mut(consumer.producer) {
            source.consumers.retain(|other| *other != key);
        }
        Some(consumer)
    }

    /// Removes a consumer.
    pub fn remove_consumer(&mut self, key: usize) -> Option<Consumer> {
        self.connect(key, None);
        self.consumers.try_remove(key)
    }

    /// Removes a producer; its consumers stay, with no source.
    pub fn remove_producer(&mut self, key: usize) -> Option<Producer> {
        let producer = self.producers.try_remove(key)?;
        for &consumer in &producer.consumers {
            if let Some(entry) = self.consumers.get_mut(consumer) {
                entry.set_producer(None, None);
            }
        }
        self.changed.retain(|changed| *changed != key);
        Some(producer)
    }
}
