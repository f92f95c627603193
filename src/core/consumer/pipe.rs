//! Packets for another router: copied once per worker, with what is known of them, so that the far store
//! is like the near one and its receivers join there as they would here.

use std::sync::Arc;
use std::time::Duration;

use crate::core::consumer::Progress;
use crate::core::consumer::cursor::Cursor;
use crate::core::lane::{SendError, Sender};
use crate::core::mail::{PipeMessage, PipePacket};
use crate::core::producer::Stream;
use crate::core::time::MediaTime;

/// When to look again at a full lane.
const RETRY: Duration = Duration::from_millis(2);

/// See the module.
pub struct PipeOutput {
    lane: Arc<Sender<PipeMessage>>,
    track: u32,
}

impl PipeOutput {
    /// Packets marked as of `track` into `lane`.
    pub fn new(lane: Arc<Sender<PipeMessage>>, track: u32) -> Self {
        PipeOutput { lane, track }
    }

    pub(super) fn send(&mut self, stream: &Stream, cursor: &mut Cursor, now: MediaTime) -> Progress {
        let head = stream.store.head();
        let mut progress = Progress::Drained;
        let mut sent = false;
        while let Some(packet) = stream.store.get(cursor.at()).filter(|_| cursor.at() < head) {
            let message = PipeMessage::Packet(Box::new(PipePacket {
                track: self.track,
                stream: 0,
                meta: packet.meta,
                extensions: packet.extensions().map(|(kind, data)| (kind, data.to_vec())).collect(),
                payload: packet.payload.to_vec(),
            }));
            match self.lane.push(message) {
                Ok(()) | Err(SendError::Closed(_)) => sent = true,
                Err(SendError::Full(_)) => {
                    progress = Progress::Paced(now + RETRY);
                    break;
                }
            }
            cursor.advance(packet.payload.len(), head);
        }
        if sent {
            self.lane.wake();
        }
        progress
    }
}
