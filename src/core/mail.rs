//! Mail: what cannot go through the control protocol because it is no text. Sessions with their socket and
//! the ends of lanes are handed to a worker beside the request that names them by their `attach` number.
//!
//! The sender puts a piece of mail into the mailbox before it writes the request that names it, so a
//! worker's loop that reads control bytes first, then empties its mailbox and only then handles what it
//! read always finds the mail a request speaks of.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::core::convert::{DirectIn, DirectOut};
use crate::core::data::DataMessage;
use crate::core::lane::{Receiver, Sender, Wake};
use crate::core::rtp::extension::ExtensionKind;
use crate::core::rtp::store::PacketMeta;
use crate::core::session::Session;

/// One piece of mail for a worker.
pub enum Mail {
    /// A stream session for `x.router.createStreamTransport`.
    Stream {
        /// The number the request names.
        attach: u32,
        /// The session, with whatever it has read so far.
        session: Box<dyn Session>,
        /// Its socket; none for a source inside the program.
        socket: Option<OwnedFd>,
    },
    /// The worker's lane ends of a conversion for `x.router.createDirectTransport`.
    Direct {
        /// The number the request names.
        attach: u32,
        /// What the job writes.
        input: Receiver<DirectIn>,
        /// What the job reads.
        output: Sender<DirectOut>,
    },
    /// The lane ends of one side of a pipe for `x.router.createPipeTransport`.
    Pipe {
        /// The number the request names.
        attach: u32,
        /// What the other router sends.
        input: Receiver<PipeMessage>,
        /// What goes to the other router.
        output: Sender<PipeMessage>,
    },
}

/// What routers tell each other through a pipe.
#[derive(Debug)]
pub enum PipeMessage {
    /// A packet of a track.
    Packet(Box<PipePacket>),
    /// A message of a data channel.
    Data {
        /// The channel's number on the pipe: the data consumer's id on the sending side.
        track: u32,
        /// The message.
        message: DataMessage,
    },
    /// A receiver behind the pipe needs a keyframe of this track.
    KeyframeRequest {
        /// The track's number on the pipe.
        track: u32,
        /// Which of its streams.
        stream: u8,
    },
    /// Which streams of a track receivers behind the pipe want; all, before this is said.
    Wanted {
        /// The track's number on the pipe.
        track: u32,
        /// A bit for each stream.
        streams: u32,
    },
}

/// One packet of a producer's store.
#[derive(Debug)]
pub struct PipePacket {
    /// The track's number on the pipe: the consumer's id on the sending side.
    pub track: u32,
    /// Which of its streams.
    pub stream: u8,
    /// What is known of it.
    pub meta: PacketMeta,
    /// Its header extension elements.
    pub extensions: Vec<(ExtensionKind, Vec<u8>)>,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// Where a worker takes its mail from.
pub trait Mailbox: Send + Sync {
    /// Puts a piece of mail in and wakes the worker; gives it back when the box is full or the worker gone.
    #[allow(clippy::result_large_err)]
    fn send(&self, mail: Mail) -> Result<(), Mail>;

    /// Wakes the worker; for lanes that end there.
    fn waker(&self) -> Arc<dyn Wake>;
}

/// The mailbox of one worker, shared.
pub type MailSender = Arc<dyn Mailbox>;
