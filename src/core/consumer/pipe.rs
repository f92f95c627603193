//! Packets for another router: copied once per worker, with what is known of them, so that the far store
//! is like the near one and its receivers join there as they would here. Of a track with several streams those
//! are carried that receivers over there want.

use std::sync::Arc;
use std::time::Duration;

use crate::core::consumer::Progress;
use crate::core::consumer::cursor::Cursor;
use crate::core::lane::{SendError, Sender};
use crate::core::mail::{PipeMessage, PipePacket};
use crate::core::producer::{Producer, Stream};
use crate::core::time::MediaTime;

/// When to look again at a full lane.
const RETRY: Duration = Duration::from_millis(2);

/// See the module.
pub struct PipeOutput {
    lane: Arc<Sender<PipeMessage>>,
    track: u32,
    /// Where each stream is read, and whether it is wanted.
    readers: Vec<(Cursor, bool)>,
}

impl PipeOutput {
    /// Packets marked as of `track` into `lane`.
    pub fn new(lane: Arc<Sender<PipeMessage>>, track: u32) -> Self {
        PipeOutput { lane, track, readers: Vec::new() }
    }

    /// Another source, or all is to be sent again.
    pub(super) fn restart(&mut self) {
        self.readers.clear();
    }

    /// One stream is to be sent again, from its cached group on.
    pub(super) fn restart_stream(&mut self, at: usize) {
        if let Some((cursor, _)) = self.readers.get_mut(at) {
            *cursor = Cursor::new();
        }
    }

    /// Which streams somebody over there wants.
    pub fn set_wanted(&mut self, source: &Producer, wanted: u32) {
        self.readers.resize_with(source.streams.len(), || (Cursor::new(), true));
        for (at, (cursor, was)) in self.readers.iter_mut().enumerate() {
            let is = wanted >> at & 1 == 1;
            if is && !*was {
                *cursor = Cursor::new();
            }
            *was = is;
        }
    }

    /// Whether a stream is carried.
    pub fn carries(&self, at: usize) -> bool {
        self.readers.get(at).is_none_or(|(_, wanted)| *wanted)
    }

    pub(super) fn send(&mut self, source: &Producer, video: bool, now: MediaTime) -> Progress {
        self.readers.resize_with(source.streams.len(), || (Cursor::new(), true));
        let mut progress = Progress::Drained;
        let mut sent = false;
        let readers = self.readers.iter_mut().zip(&source.streams).enumerate();
        for (at, ((cursor, _), stream)) in readers.filter(|(_, ((_, wanted), _))| *wanted) {
            if cursor.is_waiting() && cursor.begin(&stream.store, video, now).is_none() {
                continue;
            }
            match carry(&self.lane, (self.track, at as u8), stream, cursor) {
                Ok(any) => sent |= any,
                Err(()) => progress = Progress::Paced(now + RETRY),
            }
        }
        if sent || progress != Progress::Drained {
            self.lane.wake();
        }
        progress
    }
}

/// Lays what waits of a stream into the lane; answers whether that was anything, or that the lane is full.
fn carry(
    lane: &Sender<PipeMessage>,
    (track, at): (u32, u8),
    stream: &Stream,
    cursor: &mut Cursor,
) -> Result<bool, ()> {
    let head = stream.store.head();
    if cursor.at() < stream.store.tail() {
        // The lane was full for longer than the history lasts.
        cursor.restart(head, false);
        return Ok(false);
    }
    let mut sent = false;
    while let Some(packet) = stream.store.get(cursor.at()).filter(|_| cursor.at() < head) {
        let message = PipeMessage::Packet(Box::new(PipePacket {
            track,
            stream: at,
            meta: packet.meta,
            extensions: packet.extensions().map(|(kind, data)| (kind, data.to_vec())).collect(),
            payload: packet.payload.to_vec(),
        }));
        match lane.push(message) {
            Ok(()) | Err(SendError::Closed(_)) => sent = true,
            Err(SendError::Full(_)) => return Err(()),
        }
        cursor.advance(packet.payload.len(), head);
    }
    Ok(sent)
}
