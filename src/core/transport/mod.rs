//! Transports: one media path of a peer each. `webrtc` demultiplexes and decrypts, seals and reports;
//! `plain` does so for SIP parties; `stream` takes the frames of a session (RTMP, a looped clip); a Direct transport joins a bridge job,
//! a Pipe transport a router on another worker.

mod feedback;
pub mod plain;
pub mod stream;
pub mod webrtc;

pub use feedback::Asked;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use crate::core::convert::{DirectIn, DirectOut};
use crate::core::id::{ConnId, TransportId};
use crate::core::lane::{Receiver, Sender};
use crate::core::mail::PipeMessage;
use crate::core::producer::Input;
use crate::core::router::Router;
use crate::core::rtp::mirror::Mirror;
use crate::core::time::MediaTime;
use crate::core::transport::plain::PlainTransport;
use crate::core::transport::stream::StreamTransport;
use crate::core::transport::webrtc::WebRtcTransport;

/// The kinds of transport.
pub enum TransportKind {
    /// ICE, DTLS-SRTP.
    WebRtc(Box<WebRtcTransport>),
    /// RTP without a session around it.
    Plain(Box<PlainTransport>),
    /// A stream session.
    Stream(Box<StreamTransport>),
    /// A bridge job's lanes.
    Direct {
        /// What the job writes.
        input: Receiver<DirectIn>,
        /// What the job reads.
        output: Arc<Sender<DirectOut>>,
    },
    /// Lanes to a router of another worker.
    Pipe {
        /// What the other router sends.
        input: Receiver<PipeMessage>,
        /// What goes there.
        output: Arc<Sender<PipeMessage>>,
    },
}

/// The data channels of a transport by their SCTP stream, or by their number on a pipe; values are keys
/// within the router.
#[derive(Default)]
pub struct DataPorts {
    /// Data producers.
    pub inlets: BTreeMap<u32, usize>,
    /// Data consumers.
    pub outlets: BTreeMap<u32, usize>,
}

/// See the module.
pub struct Transport {
    /// Its id in the control protocol.
    pub id: TransportId,
    /// Whose it is.
    pub conn: ConnId,
    /// What it is.
    pub kind: TransportKind,
    /// Keys of its consumers within the router.
    pub consumers: Vec<usize>,
    /// Keys of its producers within the router.
    pub producers: Vec<usize>,
    /// What its party may send at most, in bits per second, where its controller has said.
    pub max_bitrate: Option<u64>,
    /// Its data channels.
    pub data: DataPorts,
    /// It stands in the flush queue.
    pub queued: bool,
    /// When a consumer that is catching up gets its next portion.
    pub pace: Option<MediaTime>,
    /// The time it is entered with among the worker's timers.
    pub deadline: Option<Instant>,
}

impl Transport {
    /// A transport without tracks.
    pub fn new(id: TransportId, conn: ConnId, kind: TransportKind) -> Self {
        Transport {
            id,
            conn,
            kind,
            consumers: Vec::new(),
            producers: Vec::new(),
            max_bitrate: None,
            data: DataPorts::default(),
            queued: false,
            pace: None,
            deadline: None,
        }
    }

    /// Where copies of its packets go, of a transport whose packets are a network's.
    pub fn mirror(&mut self) -> Option<&mut Option<Box<Mirror>>> {
        match &mut self.kind {
            TransportKind::WebRtc(webrtc) => Some(&mut webrtc.mirror),
            TransportKind::Plain(plain) => Some(&mut plain.mirror),
            _ => None,
        }
    }

    /// When something is due of what the transport does by itself (the session's timeout not included).
    pub fn next_due(&self, router: &Router) -> Option<MediaTime> {
        // What cannot be asked for now is, once there is a way to ask.
        let asks = match &self.kind {
            TransportKind::WebRtc(webrtc) => webrtc.can_report(),
            TransportKind::Plain(plain) => plain.can_report(),
            _ => true,
        };
        let producers = self.producers.iter().filter(|_| asks);
        let keyframes = producers.filter_map(|key| router.producers.get(*key)?.keyframes_due());
        let own = match &self.kind {
            TransportKind::WebRtc(webrtc) => webrtc.next_due(&self.producers, router),
            TransportKind::Plain(plain) => plain.next_due(&self.producers, router),
            _ => None,
        };
        let tones = self.producers.iter().filter_map(|key| match &router.producers.get(*key)?.input {
            Input::Rtp(input) => input.tones.next_timeout(),
            _ => None,
        });
        let keys = self.consumers.iter().filter_map(|key| router.consumers.get(*key)?.tone_due());
        keyframes.chain(tones).chain(keys).chain(own).chain(self.pace).min()
    }

    /// `transport.dump`.
    pub fn dump(&self, router: &Router) -> Value {
        let mut dump = match &self.kind {
            TransportKind::WebRtc(webrtc) => webrtc.dump(router),
            TransportKind::Plain(plain) => {
                plain.dump(|key| router.producers.get(key).map(|producer| producer.id))
            }
            TransportKind::Stream(stream) => json!({"x.kind": "stream", "x.session": stream.session.dump()}),
            TransportKind::Direct { input, .. } => json!({"x.kind": "direct", "x.dropped": input.dropped()}),
            TransportKind::Pipe { input, .. } => json!({"x.kind": "pipe", "x.dropped": input.dropped()}),
        };
        dump["transportId"] = json!(self.id);
        dump["x.connId"] = json!(self.conn);
        dump
    }
}
