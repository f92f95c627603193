//! What both ends of a connection have in common: messages in and out, acknowledgements, pings.

use serde_json::{Map, Value as Json};

use crate::core::session::{Ending, Event, Output};
use crate::rtmp::ingress::Sink;
use crate::rtmp::wire::amf0::{self, Value};
use crate::rtmp::wire::chunk::{ChunkLimits, ChunkReader, DEFAULT_CHUNK_SIZE, Message, write_message};
use crate::rtmp::wire::{kind, take_u32, take_uint};
use crate::rtmp::{RtmpConfig, RtmpError};

/// Chunk size we send with once we said so.
const OUR_CHUNK_SIZE: u32 = 4096;
/// User control events (specification 1.0, section 7.1.7).
pub(super) const STREAM_BEGIN: u16 = 0;
pub(super) const STREAM_EOF: u16 = 1;
pub(super) const SET_BUFFER_LENGTH: u16 = 3;
const PING_REQUEST: u16 = 6;
const PING_RESPONSE: u16 = 7;
/// Chunk streams we send on: control, commands, sound, status, picture.
pub(super) const CONTROL_CHUNKS: u32 = 2;
pub(super) const COMMAND_CHUNKS: u32 = 3;
pub(super) const AUDIO_CHUNKS: u32 = 4;
pub(super) const STATUS_CHUNKS: u32 = 5;
pub(super) const VIDEO_CHUNKS: u32 = 6;

/// See the module.
pub(super) struct Link {
    pub sink: Sink,
    reader: ChunkReader,
    send_chunk_size: usize,
    received: u64,
    acknowledged: u64,
    ack_window: u32,
    sent: u64,
}

impl Link {
    pub fn new(config: &RtmpConfig) -> Self {
        let limits = ChunkLimits {
            message_bytes: config.max_message_bytes,
            partial_bytes: config.max_partial_bytes,
            streams: config.max_chunk_streams,
        };
        Link {
            sink: Sink::default(),
            reader: ChunkReader::new(limits),
            send_chunk_size: DEFAULT_CHUNK_SIZE,
            received: 0,
            acknowledged: 0,
            ack_window: config.window_bytes,
            sent: 0,
        }
    }

    /// Bytes that came so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Counts bytes that came.
    pub fn count(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes as u64);
    }

    /// As if so much had come and been acknowledged.
    #[cfg(test)]
    pub fn pretend_received(&mut self, bytes: u64) {
        (self.received, self.acknowledged) = (bytes, bytes);
    }

    /// Bytes of unfinished messages.
    pub fn partial_bytes(&self) -> usize {
        self.reader.partial_bytes()
    }

    /// The next message that is not the connection's own affair; `None`: more bytes are needed.
    pub fn next(&mut self, data: &mut &[u8]) -> Result<Option<Message>, RtmpError> {
        while let Some(message) = self.reader.read(data)? {
            let mut body = message.payload.as_slice();
            let short = RtmpError::Truncated(message.kind);
            match message.kind {
                kind::SET_CHUNK_SIZE => self.reader.set_chunk_size(take_u32(&mut body).ok_or(short)?)?,
                kind::ABORT => self.reader.abort(take_u32(&mut body).ok_or(short)?),
                kind::WINDOW_ACK_SIZE => self.ack_window = take_u32(&mut body).ok_or(short)?,
                kind::USER_CONTROL => match take_uint(&mut body, 2).ok_or_else(|| short.clone())? as u16 {
                    PING_REQUEST => {
                        let time = take_u32(&mut body).ok_or(short)?;
                        self.send_control(PING_RESPONSE, time);
                    }
                    STREAM_EOF => return Ok(Some(message)),
                    _ => {}
                },
                _ => return Ok(Some(message)),
            }
        }
        Ok(None)
    }

    /// Says how much came, when that is due.
    pub fn acknowledge(&mut self) {
        if self.received.saturating_sub(self.acknowledged) >= u64::from(self.ack_window.max(1)) {
            self.acknowledged = self.received;
            // The report counts modulo 2^32.
            self.send(CONTROL_CHUNKS, 0, kind::ACK, (self.received as u32).to_be_bytes().to_vec());
        }
    }

    /// Sends with larger chunks from now on.
    pub fn enlarge_chunks(&mut self) {
        self.send(CONTROL_CHUNKS, 0, kind::SET_CHUNK_SIZE, OUR_CHUNK_SIZE.to_be_bytes().to_vec());
        self.send_chunk_size = OUR_CHUNK_SIZE as usize;
    }

    pub fn send_bytes(&mut self, bytes: Vec<u8>) {
        self.sent = self.sent.saturating_add(bytes.len() as u64);
        match self.sink.out.back_mut() {
            Some(Output::Bytes(waiting)) => waiting.extend_from_slice(&bytes),
            _ => self.sink.out.push_back(Output::Bytes(bytes)),
        }
    }

    pub fn send(&mut self, chunk_stream: u32, stream: u32, kind: u8, payload: Vec<u8>) {
        self.send_message(&Message { chunk_stream, stream, kind, timestamp: 0, payload });
    }

    pub fn send_message(&mut self, message: &Message) {
        let mut bytes = Vec::with_capacity(message.payload.len().saturating_add(64));
        write_message(&mut bytes, self.send_chunk_size, message);
        self.send_bytes(bytes);
    }

    pub fn send_control(&mut self, event: u16, value: u32) {
        let mut payload = event.to_be_bytes().to_vec();
        payload.extend_from_slice(&value.to_be_bytes());
        self.send(CONTROL_CHUNKS, 0, kind::USER_CONTROL, payload);
    }

    pub fn send_command(&mut self, stream: u32, values: &[Value]) {
        self.send(COMMAND_CHUNKS, stream, kind::COMMAND_AMF0, amf0::write_all(values));
    }

    /// Says that the session is over; the last word.
    pub fn close(&mut self, reason: &str, ending: Ending) {
        self.sink.event(Event::Closed { reason: reason.to_owned(), ending });
    }

    /// The facts of a dump that every connection has.
    pub fn dump(&self) -> Map<String, Json> {
        let facts: [(&str, Json); 3] = [
            ("protocol", "rtmp".into()),
            ("bytesReceived", self.received.into()),
            ("bytesSent", self.sent.into()),
        ];
        facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// The AMF3 forms of messages carry AMF0 behind one byte that says so.
pub(in crate::rtmp) fn strip_amf3(body: &[u8]) -> &[u8] {
    body.strip_prefix(&[0]).unwrap_or(body)
}
