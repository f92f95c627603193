//! Media of a WebRTC session: from its first decrypted packet to its producer, and from its consumers'
//! stores to sealed datagrams (RFC 3550, RFC 3711, RFC 8843 §9.2 for whose packet one is).

use std::time::Duration;

use serde_json::{Value, json};

use crate::core::consumer::{Progress, ReplayLimits, Seal, Sink};
use crate::core::producer::Input as ProducerInput;
use crate::core::router::Router;
use crate::core::rtp::batch::SendBatch;
use crate::core::rtp::bwe::RateLimits;
use crate::core::rtp::extension::{ExtensionKind, ExtensionMap, abs_send_time};
use crate::core::rtp::header::RtpView;
use crate::core::rtp::keys::SrtpKeys;
use crate::core::rtp::path::Path;
use crate::core::rtp::receive::TransportCcRecorder;
use crate::core::rtp::srtp::{MAX_RTCP_OVERHEAD, SrtpError, SrtpReceiver, SrtpSender};
use crate::core::rtp::tone::Tone;
use crate::core::session::Session;
use crate::core::time::{Epoch, MediaTime};
use crate::core::transport::feedback::{Asked, Feedback, compounds};

/// Distinct SSRCs one party may send; a browser with simulcast and RTX needs a dozen.
const MAX_STREAMS: usize = 64;
/// Remote addresses one party may have answered checks from.
pub(crate) const MAX_PATHS: usize = 16;
/// How often a party that uses transport-wide congestion control hears what arrived.
const FEEDBACK_INTERVAL: Duration = Duration::from_millis(50);

/// See the module.
pub struct WebRtcTransport {
    /// ICE and DTLS.
    pub session: Box<dyn Session>,
    /// Where media goes, once known.
    pub path: Option<Path>,
    /// Packets the path may get before it is proven.
    pub allowance: Option<u32>,
    /// Every path that is this transport's.
    pub paths: Vec<Path>,
    /// Route keys that are this transport's.
    pub routes: Vec<String>,
    /// When an authenticated packet last came, and from where.
    pub proven: Option<(MediaTime, Path)>,
    /// Keys of a telephone that were pressed.
    pub tones: Vec<Tone>,
    keys: Option<Keys>,
    feedback: Feedback,
    mids: Vec<(Vec<u8>, usize)>,
    extensions: ExtensionMap,
    counters: Counters,
}

/// SRTP in both directions.
struct Keys {
    sender: SrtpSender,
    receiver: SrtpReceiver,
}

#[derive(Default)]
struct Counters {
    received: u64,
    sent: u64,
    refused: u64,
    unknown: u64,
}

/// What the worker does about a media datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Received {
    /// It was authenticated.
    Media,
    /// It was authenticated, and keys of a telephone that are complete now wait in the transport.
    Tones,
    /// It was dropped.
    Refused,
}

impl WebRtcTransport {
    /// A transport around a fresh session; `ssrc` is our source in feedback messages, `rates` bound what the
    /// path is thought to take.
    pub fn new(session: Box<dyn Session>, ssrc: u32, rates: RateLimits) -> Self {
        WebRtcTransport {
            session,
            path: None,
            allowance: None,
            paths: Vec::new(),
            routes: Vec::new(),
            proven: None,
            tones: Vec::new(),
            keys: None,
            feedback: Feedback::new(ssrc, rates),
            mids: Vec::new(),
            extensions: ExtensionMap::EMPTY,
            counters: Counters::default(),
        }
    }

    /// The handshake is done.
    pub fn set_keys(&mut self, keys: &SrtpKeys) -> Result<(), SrtpError> {
        let sender = SrtpSender::new(keys.profile, &keys.local)?;
        let receiver = SrtpReceiver::new(keys.profile, &keys.remote, MAX_STREAMS)?;
        self.keys = Some(Keys { sender, receiver });
        Ok(())
    }

    /// A producer was added: its streams become known.
    pub fn add_producer(&mut self, key: usize, router: &Router) {
        let Some(producer) = router.producers.get(key) else { return };
        let parameters = &producer.parameters;
        for encoding in &parameters.encodings {
            if let Some(ssrc) = encoding.ssrc {
                self.feedback.incoming.insert(ssrc, (key, false));
            }
            if let Some(rtx) = &encoding.rtx {
                self.feedback.incoming.insert(rtx.ssrc, (key, true));
            }
        }
        if let Some(mid) = &parameters.mux_id {
            self.mids.push((mid.clone().into_bytes(), key));
        }
        for extension in &parameters.header_extensions {
            if let Some(kind) = ExtensionKind::from_uri(&extension.uri) {
                self.extensions.set(kind, extension.id);
            }
        }
        let feedback = parameters.codecs.iter().any(|codec| codec.has_feedback("transport-cc", ""));
        if feedback
            && self.extensions.id(ExtensionKind::TransportCc).is_some()
            && self.feedback.recorder.is_none()
        {
            self.feedback.recorder = Some(TransportCcRecorder::new(FEEDBACK_INTERVAL));
        }
    }

    /// A producer is gone.
    pub fn remove_producer(&mut self, key: usize) {
        self.feedback.remove_producer(key);
        self.mids.retain(|(_, producer)| *producer != key);
    }

    /// A consumer was enabled: what its receiver says of its streams finds it.
    pub fn add_consumer(&mut self, key: usize, router: &Router) -> Result<(), String> {
        self.feedback.add_consumer(key, router)
    }

    /// A consumer is gone.
    pub fn remove_consumer(&mut self, key: usize) {
        self.feedback.remove_consumer(key);
    }

    /// Takes one SRTP packet.
    pub fn receive_rtp(&mut self, router: &mut Router, now: MediaTime, data: &mut [u8]) -> Received {
        let Some(keys) = &mut self.keys else { return Received::Refused };
        let Ok((len, _)) = keys.receiver.open_rtp(data) else {
            self.counters.refused += 1;
            return Received::Refused;
        };
        let Some(Ok(view)) = data.get(..len).map(RtpView::parse) else { return Received::Refused };
        self.counters.received += 1;
        if let (Some(recorder), Some(id)) =
            (&mut self.feedback.recorder, self.extensions.id(ExtensionKind::TransportCc))
            && let Some((_, element)) = view.extensions().find(|(found, _)| *found == id)
            && let Some(sequence) = element.first_chunk::<2>()
        {
            recorder.received(now, u16::from_be_bytes(*sequence));
        }
        let Some((key, rtx)) = self.owner(&view, router) else {
            self.counters.unknown += 1;
            return Received::Media;
        };
        let Some(producer) = router.producers.get_mut(key) else { return Received::Media };
        if producer.receive(&view, rtx, now) {
            router.note_changed(key);
            return Received::Media;
        }
        if !rtx {
            producer.receive_other(&view, now, &mut self.tones);
        }
        if self.tones.is_empty() { Received::Media } else { Received::Tones }
    }

    /// Whose packet this is: by SSRC, then MID, then payload type if only one producer has it.
    fn owner(&mut self, view: &RtpView<'_>, router: &mut Router) -> Option<(usize, bool)> {
        if let Some(found) = self.feedback.incoming.get(&view.ssrc) {
            return Some(*found);
        }
        if self.feedback.incoming.len() >= MAX_STREAMS {
            return None;
        }
        let rtx_of = |key: usize| {
            let formats = &router.producers.get(key)?.formats;
            let media = formats.iter().any(|format| format.codec.payload_type == view.payload_type);
            let rtx = formats.iter().any(|format| format.rtx_payload_type == Some(view.payload_type));
            (media || rtx).then_some(!media)
        };
        let mid = self
            .extensions
            .id(ExtensionKind::Mid)
            .and_then(|id| view.extensions().find(|(found, _)| *found == id).map(|(_, data)| data));
        let by_mid =
            mid.and_then(|mid| self.mids.iter().find(|(known, _)| known == mid)).map(|(_, key)| *key);
        let key = by_mid.or_else(|| {
            let mut fitting = self.mids.iter().map(|(_, key)| *key).filter(|key| rtx_of(*key).is_some());
            fitting.next().filter(|_| fitting.next().is_none())
        })?;
        let rtx = rtx_of(key)?;
        if let ProducerInput::Rtp(input) = &mut router.producers.get_mut(key)?.input {
            let slot = if rtx { &mut input.rtx_ssrc } else { &mut input.ssrc };
            // A party that changes its source (a restarted encoder) is followed; reports name the new one.
            *slot = Some(view.ssrc);
        }
        self.feedback.incoming.insert(view.ssrc, (key, rtx));
        Some((key, rtx))
    }

    /// Takes one SRTCP packet.
    pub fn receive_rtcp(
        &mut self,
        router: &mut Router,
        now: MediaTime,
        epoch: &Epoch,
        data: &mut [u8],
        asked: &mut Asked,
    ) -> Received {
        let Some(keys) = &mut self.keys else { return Received::Refused };
        let Ok(len) = keys.receiver.open_rtcp(data) else {
            self.counters.refused += 1;
            return Received::Refused;
        };
        let Some(plain) = data.get(..len) else { return Received::Refused };
        self.feedback.take(plain, router, now, epoch, asked);
        Received::Media
    }

    /// When the transport itself has something to say.
    pub fn next_due(&self, producers: &[usize], router: &Router) -> Option<MediaTime> {
        if !self.can_send() || self.allowance == Some(0) {
            return None;
        }
        self.feedback.next_due(producers, router)
    }

    /// Makes the RTCP that is due, as sealed datagrams; see [`Feedback::report`].
    pub fn report(
        &mut self,
        tracks: (&[usize], &[usize]),
        router: &mut Router,
        time: (MediaTime, &Epoch),
        limit: u64,
        out: &mut impl FnMut(Path, Vec<u8>),
    ) {
        let Some(path) = self.path.filter(|_| self.allowance != Some(0)) else { return };
        let Some(keys) = &mut self.keys else { return };
        let plain = self.feedback.report(tracks, router, time, limit);
        for compound in compounds(&plain) {
            let mut sealed = vec![0; compound.len() + MAX_RTCP_OVERHEAD];
            if let Ok(len) = keys.sender.seal_rtcp(compound, &mut sealed) {
                sealed.truncate(len);
                out(path, sealed);
            }
        }
    }

    /// What the receiver's path takes in bits per second, where it has shown that it takes no more.
    pub fn bound(&self, now: MediaTime) -> Option<u64> {
        self.feedback.estimator.bound(now)
    }

    /// Whether media may flow out.
    pub fn can_send(&self) -> bool {
        self.keys.is_some() && self.path.is_some()
    }

    /// Lets each consumer send what waits. `Full`: come back with an empty batch.
    pub fn flush(
        &mut self,
        consumers: &[usize],
        router: &mut Router,
        now: MediaTime,
        limits: &ReplayLimits,
        batch: &mut SendBatch,
    ) -> Progress {
        let (Some(keys), Some(path)) = (&mut self.keys, self.path) else { return Progress::Drained };
        let before = batch.packets();
        let mut sink = Sink {
            path,
            now,
            seal: Seal::Srtp(&mut keys.sender),
            batch,
            send_time: abs_send_time(now),
            estimator: Some(&mut self.feedback.estimator),
            allowance: &mut self.allowance,
        };
        let mut paced: Option<MediaTime> = None;
        let mut full = false;
        for &key in consumers {
            let Some(consumer) = router.consumers.get_mut(key) else { continue };
            let source = consumer.producer.and_then(|key| router.producers.get(key));
            match consumer.take_turn(source, now, limits, &mut sink) {
                Progress::Drained => {}
                Progress::Paced(at) => paced = Some(paced.map_or(at, |other| other.min(at))),
                Progress::Full => {
                    full = true;
                    break;
                }
            }
        }
        if !full && let Some(at) = probe(consumers, router, &mut sink) {
            paced = Some(paced.map_or(at, |other| other.min(at)));
        }
        self.counters.sent += batch.packets() - before;
        match (full, paced) {
            (true, _) => Progress::Full,
            (false, Some(at)) => Progress::Paced(at),
            (false, None) => Progress::Drained,
        }
    }

    /// `transport.dump`.
    pub fn dump(&self, router: &Router) -> Value {
        let mut dump = self.session.dump();
        let producer_id = |key: &usize| router.producers.get(*key).map(|producer| producer.id);
        let ssrcs: serde_json::Map<String, Value> = self
            .feedback
            .incoming
            .iter()
            .map(|(ssrc, (key, _))| (ssrc.to_string(), json!(producer_id(key))))
            .collect();
        let mids: serde_json::Map<String, Value> = self
            .mids
            .iter()
            .map(|(mid, key)| (String::from_utf8_lossy(mid).into_owned(), json!(producer_id(key))))
            .collect();
        let mut ids = serde_json::Map::new();
        for (name, kind) in [("absSendTime", ExtensionKind::AbsSendTime), ("mid", ExtensionKind::Mid)] {
            if let Some(id) = self.extensions.id(kind) {
                ids.insert(name.into(), json!(id));
            }
        }
        dump["headerExtensionIds"] = Value::Object(ids);
        dump["rtpListener"] = json!({"ssrcTable": ssrcs, "muxIdTable": mids, "ridTable": {}});
        dump
    }

    /// `transport.getStats`.
    pub fn stats(&self, id: impl serde::Serialize, now: MediaTime) -> Value {
        let dump = self.session.dump();
        json!([{
            "type": "transport",
            "timestamp": now.as_micros() / 1000,
            "id": id,
            "iceSelectedTuple": dump.get("iceSelectedTuple"),
            "dtlsState": dump.get("dtlsState"),
            "iceConnectionState": dump.get("iceState"),
            "remoteAvailableSendBw": {"bitrate": self.feedback.estimator.estimate()},
            "x.packetsReceived": self.counters.received,
            "x.packetsSent": self.counters.sent,
            "x.packetsRefused": self.counters.refused,
            "x.packetsUnknown": self.counters.unknown,
            "x.roundTripTime": self.feedback.round_trip.map(|rtt| rtt.as_secs_f64() * 1000.0),
        }])
    }
}

/// Sends the padding that is due of a probe of the path; answers when more is.
fn probe(consumers: &[usize], router: &mut Router, sink: &mut Sink<'_>) -> Option<MediaTime> {
    let mut missing = sink.estimator.as_mut()?.padding(sink.now);
    for &key in consumers {
        if missing == 0 {
            break;
        }
        let Some(consumer) = router.consumers.get_mut(key) else { continue };
        if let Some(source) = consumer.producer.and_then(|key| router.producers.get(key)) {
            missing = consumer.pad(source, missing, sink);
        }
    }
    sink.estimator.as_ref()?.next_due().filter(|at| *at > sink.now)
}
