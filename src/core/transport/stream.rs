//! A stream session's media: tracks as they are announced, frames held back for the instant between a
//! track's announcement and its producer, frames of consumers on their way to the session.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use crate::core::convert::DirectOut;
use crate::core::id::StreamId;
use crate::core::lane::{Receiver, Sender, lane};
use crate::core::router::Router;
use crate::core::session::{Frame, Session, Track};
use crate::core::time::MediaTime;

/// Tracks of one session; a protocol needs two, and more are a mistake or an attack.
const MAX_TRACKS: usize = 16;
/// Frames held back for a track whose producer is being made (a round trip over a socket pair).
const MAX_HELD: usize = 512;
/// Frames of consumers between two looks at them, which follow each other within a flush.
const OUTGOING: usize = 64;

/// See the module.
pub struct StreamTransport {
    /// The protocol.
    pub session: Box<dyn Session>,
    /// Its socket, if it has one.
    pub stream: Option<StreamId>,
    tracks: Vec<TrackEntry>,
    /// What consumers have put together, until the session is given it.
    outgoing: Option<(Arc<Sender<DirectOut>>, Receiver<DirectOut>)>,
}

struct TrackEntry {
    track: Track,
    producer: Option<usize>,
    held: VecDeque<Frame>,
}

impl StreamTransport {
    /// A transport around `session`.
    pub fn new(session: Box<dyn Session>, stream: Option<StreamId>) -> Self {
        StreamTransport { session, stream, tracks: Vec::new(), outgoing: None }
    }

    /// Where consumers put their frames; `None`: the session takes none.
    pub fn outlet(&mut self) -> Option<Arc<Sender<DirectOut>>> {
        if !self.session.takes_frames() {
            return None;
        }
        let (sender, _) = self.outgoing.get_or_insert_with(|| {
            let (sender, receiver) = lane(OUTGOING, None);
            (Arc::new(sender), receiver)
        });
        Some(sender.clone())
    }

    /// Gives the session the frames of its `consumers`; answers whether there were some.
    pub fn pass_frames(&mut self, now: Instant, consumers: &[usize], router: &Router) -> bool {
        let Some((_, receiver)) = &self.outgoing else { return false };
        let mut passed = false;
        while let Ok(Some(message)) = receiver.pop() {
            let DirectOut::Frame { frame, .. } = message else { continue };
            let entries = consumers.iter().filter_map(|key| router.consumers.get(*key));
            let consumer = entries.into_iter().find(|consumer| consumer.id.0 == frame.track);
            let source = consumer.and_then(|consumer| router.producers.get(consumer.producer?));
            if let Some(format) = source.and_then(|source| source.formats.first()) {
                self.session.handle_frame(now, &format.codec, frame);
                passed = true;
            }
        }
        passed
    }

    /// Notes a track, new or changed; answers the data of the event that announces it.
    pub fn announce(&mut self, track: Track) -> Option<Value> {
        let hex: String = track.config.iter().map(|byte| format!("{byte:02x}")).collect();
        let event = json!({
            "track": track.id,
            "kind": track.kind,
            "codec": track.codec,
            "config": hex,
            "reordered": track.reordered,
        });
        let count = self.tracks.len();
        match self.tracks.iter_mut().find(|entry| entry.track.id == track.id) {
            Some(entry) => entry.track = track,
            None if count < MAX_TRACKS => {
                self.tracks.push(TrackEntry { track, producer: None, held: VecDeque::new() });
            }
            None => return None,
        }
        Some(event)
    }

    /// Gives a track its producer, and the producer what was held back.
    pub fn attach(
        &mut self,
        track: u32,
        producer: usize,
        router: &mut Router,
        now: MediaTime,
    ) -> Result<(), String> {
        let entry = self
            .tracks
            .iter_mut()
            .find(|entry| entry.track.id == track)
            .ok_or_else(|| format!("the session has no track {track}"))?;
        if entry.producer.is_some() {
            return Err(format!("track {track} already has a producer"));
        }
        entry.producer = Some(producer);
        for frame in entry.held.drain(..) {
            if let Some(producer) = router.producers.get_mut(producer) {
                producer.receive_frame(&frame, frame.pts, now);
            }
        }
        router.note_changed(producer);
        Ok(())
    }

    /// A track lost its producer; its frames are held again.
    pub fn detach(&mut self, producer: usize) {
        for entry in self.tracks.iter_mut().filter(|entry| entry.producer == Some(producer)) {
            entry.producer = None;
        }
    }

    /// Takes a frame to its producer.
    pub fn receive(&mut self, frame: Frame, router: &mut Router, now: MediaTime) {
        let Some(entry) = self.tracks.iter_mut().find(|entry| entry.track.id == frame.track) else { return };
        match entry.producer.and_then(|key| Some((key, router.producers.get_mut(key)?))) {
            Some((key, producer)) => {
                producer.receive_frame(&frame, frame.pts, now);
                router.note_changed(key);
            }
            None => {
                if entry.held.len() >= MAX_HELD {
                    entry.held.pop_front();
                }
                entry.held.push_back(frame);
            }
        }
    }

    /// The track a producer takes its frames from.
    pub fn track_of(&self, producer: usize) -> Option<u32> {
        self.tracks.iter().find(|entry| entry.producer == Some(producer)).map(|entry| entry.track.id)
    }
}
