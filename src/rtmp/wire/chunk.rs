//! Chunks: messages cut into pieces and interleaved (specification 1.0, section 5.3).
//!
//! The reader takes bytes as they come and copies them straight into the message they belong to, so
//! that nothing but headers and unfinished messages is ever held, whatever chunk size is announced.

use crate::rtmp::RtmpError;
use crate::rtmp::wire::{take, take_u8, take_u32, take_uint};

/// One message, its chunks joined.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Message {
    /// Chunk stream it came on.
    pub chunk_stream: u32,
    /// Message stream (0: the connection itself).
    pub stream: u32,
    /// Message type, see [`crate::rtmp::wire::kind`].
    pub kind: u8,
    /// Milliseconds on the sender's clock, modulo 2^32.
    pub timestamp: u32,
    /// The body.
    pub payload: Vec<u8>,
}

/// What a reader holds at most.
#[derive(Clone, Copy, Debug)]
pub struct ChunkLimits {
    /// Bytes of one message.
    pub message_bytes: usize,
    /// Bytes of all unfinished messages.
    pub partial_bytes: usize,
    /// Chunk streams.
    pub streams: usize,
}

/// Chunk size both sides begin with.
pub const DEFAULT_CHUNK_SIZE: usize = 128;
/// A timestamp field of this value announces four more bytes.
const EXTENDED: u32 = 0x00ff_ffff;
/// How much of an announced length is reserved before any of it came.
const RESERVE: usize = 64 << 10;

/// The newest header and the unfinished message of one chunk stream.
#[derive(Default)]
struct Stream {
    id: u32,
    timestamp: u32,
    /// The timestamp field of the newest header: what a header without one repeats.
    field: u32,
    extended: bool,
    length: usize,
    kind: u8,
    stream: u32,
    /// Whether a message is begun.
    open: bool,
    partial: Vec<u8>,
}

/// A chunk's body that is being read.
struct Body {
    stream: usize,
    left: usize,
}

/// Joins chunks to messages.
pub struct ChunkReader {
    limits: ChunkLimits,
    chunk_size: usize,
    streams: Vec<Stream>,
    head: Vec<u8>,
    body: Option<Body>,
    /// Bytes taken for an extended timestamp that were not one.
    unread: Vec<u8>,
    partial_bytes: usize,
}

impl ChunkReader {
    /// A reader at the beginning of a connection.
    pub fn new(limits: ChunkLimits) -> Self {
        ChunkReader {
            limits,
            chunk_size: DEFAULT_CHUNK_SIZE,
            streams: Vec::new(),
            head: Vec::new(),
            body: None,
            unread: Vec::new(),
            partial_bytes: 0,
        }
    }

    /// The peer's Set Chunk Size; the topmost bit is no part of it.
    pub fn set_chunk_size(&mut self, size: u32) -> Result<(), RtmpError> {
        if size == 0 || size > 0x7fff_ffff {
            return Err(RtmpError::BadChunkSize(size));
        }
        self.chunk_size = size as usize;
        Ok(())
    }

    /// The peer's Abort Message: drops what is begun on a chunk stream.
    pub fn abort(&mut self, chunk_stream: u32) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == chunk_stream) {
            self.partial_bytes = self.partial_bytes.saturating_sub(stream.partial.len());
            stream.open = false;
            stream.partial = Vec::new();
        }
    }

    /// Bytes of unfinished messages held now.
    pub fn partial_bytes(&self) -> usize {
        self.partial_bytes
    }

    /// Takes bytes off `data` until a message is whole or nothing is left.
    pub fn read(&mut self, data: &mut &[u8]) -> Result<Option<Message>, RtmpError> {
        loop {
            if !self.unread.is_empty() {
                let held = std::mem::take(&mut self.unread);
                let mut rest = held.as_slice();
                let message = self.advance(&mut rest)?;
                self.unread.extend_from_slice(rest);
                if message.is_some() {
                    return Ok(message);
                }
            }
            let message = self.advance(data)?;
            if message.is_some() || self.unread.is_empty() {
                return Ok(message);
            }
        }
    }

    /// Takes bytes until a message is whole, nothing is left, or bytes had to be given back.
    fn advance(&mut self, data: &mut &[u8]) -> Result<Option<Message>, RtmpError> {
        loop {
            if let Some(body) = self.body.take() {
                let message = self.read_body(body, data)?;
                if message.is_some() || self.body.is_some() {
                    return Ok(message);
                }
            }
            if !self.fill_head(data) {
                return Ok(None);
            }
            self.begin_chunk()?;
            if !self.unread.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Collects a chunk's header; false: more bytes are needed.
    fn fill_head(&mut self, data: &mut &[u8]) -> bool {
        loop {
            let missing = self.head_length().saturating_sub(self.head.len());
            if missing == 0 {
                return true;
            }
            let count = missing.min(data.len());
            match take(data, count) {
                Some(bytes) if !bytes.is_empty() => self.head.extend_from_slice(bytes),
                _ => return false,
            }
        }
    }

    /// How long the header is, as far as its first bytes tell.
    fn head_length(&self) -> usize {
        let mut rest = self.head.as_slice();
        let Some(first) = take_u8(&mut rest) else { return 1 };
        let (basic, message) = (basic_length(first), message_length(first));
        if self.head.len() < basic {
            return basic;
        }
        let length = basic.saturating_add(message);
        if self.head.len() < length {
            return length;
        }
        let Some((_, id)) = take_basic(&mut self.head.as_slice()) else { return length };
        let extended = match self.head.get(basic..basic.saturating_add(3)).filter(|_| message > 0) {
            Some(field) => field == [0xff; 3],
            None => self.find(id).is_some_and(|stream| stream.extended),
        };
        if extended { length.saturating_add(4) } else { length }
    }

    fn find(&self, id: u32) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.id == id)
    }

    /// The place of a chunk stream, made if it is new and `format` may begin one.
    fn place(&mut self, id: u32, format: u8) -> Result<usize, RtmpError> {
        if let Some(place) = self.streams.iter().position(|stream| stream.id == id) {
            return Ok(place);
        }
        if format > 1 {
            return Err(RtmpError::NoPreviousHeader(id));
        }
        if self.streams.len() >= self.limits.streams {
            return Err(RtmpError::TooManyChunkStreams(self.limits.streams));
        }
        self.streams.push(Stream { id, ..Stream::default() });
        Ok(self.streams.len().saturating_sub(1))
    }

    /// Reads the collected header and opens the chunk's body.
    fn begin_chunk(&mut self) -> Result<(), RtmpError> {
        let head = std::mem::take(&mut self.head);
        let mut rest = head.as_slice();
        let Some((format, id)) = take_basic(&mut rest) else { return Ok(()) };
        let place = self.place(id, format)?;
        if format < 3 {
            self.abort(id);
        }
        let limit = self.limits.message_bytes;
        let Some(stream) = self.streams.get_mut(place) else { return Ok(()) };
        let unread = if format < 3 { stream.read_header(format, rest) } else { stream.repeat_header(rest) };
        if !stream.open {
            if stream.length > limit {
                return Err(RtmpError::MessageTooLong { size: stream.length, limit });
            }
            stream.timestamp = match format {
                0 => stream.field,
                _ => stream.timestamp.wrapping_add(stream.field),
            };
            stream.open = true;
            stream.partial = Vec::with_capacity(stream.length.min(RESERVE));
        }
        let left = stream.length.saturating_sub(stream.partial.len()).min(self.chunk_size);
        self.unread.extend_from_slice(unread);
        self.body = Some(Body { stream: place, left });
        self.head = head;
        self.head.clear();
        Ok(())
    }

    /// Moves bytes into the open message; leaves `body` set while the chunk wants more.
    fn read_body(&mut self, mut body: Body, data: &mut &[u8]) -> Result<Option<Message>, RtmpError> {
        let Some(stream) = self.streams.get_mut(body.stream) else { return Ok(None) };
        let count = body.left.min(data.len());
        self.partial_bytes = self.partial_bytes.saturating_add(count);
        if self.partial_bytes > self.limits.partial_bytes {
            return Err(RtmpError::TooManyPartialBytes(self.limits.partial_bytes));
        }
        stream.partial.extend_from_slice(take(data, count).unwrap_or_default());
        body.left = body.left.saturating_sub(count);
        if body.left > 0 {
            self.body = Some(body);
            return Ok(None);
        }
        if stream.partial.len() < stream.length {
            return Ok(None);
        }
        self.partial_bytes = self.partial_bytes.saturating_sub(stream.partial.len());
        stream.open = false;
        Ok(Some(Message {
            chunk_stream: stream.id,
            stream: stream.stream,
            kind: stream.kind,
            timestamp: stream.timestamp,
            payload: std::mem::take(&mut stream.partial),
        }))
    }
}

impl Stream {
    /// Takes a header of format 0, 1 or 2. Such a header begins a message.
    fn read_header<'a>(&mut self, format: u8, mut rest: &'a [u8]) -> &'a [u8] {
        self.field = take_uint(&mut rest, 3).unwrap_or_default() as u32;
        if format < 2 {
            self.length = take_uint(&mut rest, 3).unwrap_or_default() as usize;
            self.kind = take_u8(&mut rest).unwrap_or_default();
        }
        if format == 0 {
            self.stream = take_u32(&mut rest).unwrap_or_default().swap_bytes();
        }
        self.extended = self.field == EXTENDED;
        if self.extended {
            self.field = take_u32(&mut rest).unwrap_or_default();
        }
        rest
    }

    /// Takes a header of format 3. After an extended timestamp it repeats those four bytes; some
    /// encoders leave them out, so other bytes than the expected ones belong to the body.
    fn repeat_header<'a>(&mut self, rest: &'a [u8]) -> &'a [u8] {
        let repeated =
            take_u32(&mut &*rest).is_none_or(|value| value == self.field || value == self.timestamp);
        if repeated { &[] } else { rest }
    }
}

fn basic_length(first: u8) -> usize {
    match first & 0x3f {
        0 => 2,
        1 => 3,
        _ => 1,
    }
}

fn message_length(first: u8) -> usize {
    match first >> 6 {
        0 => 11,
        1 => 7,
        2 => 3,
        _ => 0,
    }
}

/// Takes the basic header: format and chunk stream id.
fn take_basic(rest: &mut &[u8]) -> Option<(u8, u32)> {
    let first = take_u8(rest)?;
    let id = match first & 0x3f {
        0 => u32::from(take_u8(rest)?).saturating_add(64),
        1 => u32::from(u16::from_le_bytes([take_u8(rest)?, take_u8(rest)?])).saturating_add(64),
        id => u32::from(id),
    };
    Some((first >> 6, id))
}

/// Writes a message on a chunk stream below 64, with a full header.
pub fn write_message(out: &mut Vec<u8>, chunk_size: usize, message: &Message) {
    let id = (message.chunk_stream as u8) & 0x3f;
    let extended = message.timestamp >= EXTENDED;
    let field = message.timestamp.min(EXTENDED);
    out.push(id);
    out.extend_from_slice(field.to_be_bytes().get(1..).unwrap_or_default());
    out.extend_from_slice((message.payload.len() as u32).to_be_bytes().get(1..).unwrap_or_default());
    out.push(message.kind);
    out.extend_from_slice(&message.stream.to_le_bytes());
    let extension = message.timestamp.to_be_bytes();
    let extension = if extended { extension.as_slice() } else { &[] };
    out.extend_from_slice(extension);
    for (number, piece) in message.payload.chunks(chunk_size.max(1)).enumerate() {
        if number > 0 {
            out.push(0xc0 | id);
            out.extend_from_slice(extension);
        }
        out.extend_from_slice(piece);
    }
}
