//! Media of a WebRTC session: from its first decrypted packet to its producer, and from its consumers'
//! stores to sealed datagrams (RFC 3550, RFC 3711, RFC 8843 §9.2 for whose packet one is).

use std::time::Duration;

use serde_json::{Value, json};

use crate::core::consumer::{Progress, ReplayLimits, Seal, Sink};
use crate::core::id::TransportId;
use crate::core::producer::Producer;
use crate::core::router::Router;
use crate::core::rtp::batch::SendBatch;
use crate::core::rtp::bwe::RateLimits;
use crate::core::rtp::extension::{ExtensionKind, ExtensionMap, abs_send_time};
use crate::core::rtp::header::RtpView;
use crate::core::rtp::keys::SrtpKeys;
use crate::core::rtp::mirror::Mirror;
use crate::core::rtp::path::Path;
use crate::core::rtp::receive::TransportCcRecorder;
use crate::core::rtp::srtp::{MAX_RTCP_OVERHEAD, SrtpError, SrtpReceiver, SrtpSender};
use crate::core::rtp::tone::Tone;
use crate::core::session::Session;
use crate::core::time::{Epoch, MediaTime};
use crate::core::transport::feedback::{Asked, Feedback, Incoming, compounds};

/// Distinct SSRCs one party may send; a browser with simulcast and RTX needs a dozen.
const MAX_STREAMS: usize = 64;
/// Remote addresses one party may have answered checks from.
pub(crate) const MAX_PATHS: usize = 16;
/// How much faster than its path takes a receiver may catch up, in percent, where the path has shown its bound.
const CATCHUP_MARGIN: u64 = 25;
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
    /// Copies of its packets for somebody who listens in.
    pub mirror: Option<Box<Mirror>>,
    keys: Option<Keys>,
    feedback: Feedback,
    mids: Vec<(Vec<u8>, usize)>,
    /// Producers whose packets may come with an SSRC that was not named: those with a MID, and those of parties that
    /// name none (SIP).
    unnamed: Vec<usize>,
    rids: Vec<Rid>,
    extensions: ExtensionMap,
    counters: Counters,
}

/// A stream that is found by the name its packets carry (RFC 8852).
struct Rid {
    rid: Vec<u8>,
    producer: usize,
    stream: usize,
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
    received_bytes: u64,
    sent_bytes: u64,
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
            mirror: None,
            keys: None,
            feedback: Feedback::new(ssrc, rates),
            mids: Vec::new(),
            unnamed: Vec::new(),
            rids: Vec::new(),
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
        self.feedback.add_producer(key, &parameters.encodings);
        for (stream, encoding) in parameters.encodings.iter().enumerate() {
            if let Some(rid) = &encoding.encoding_id {
                self.rids.push(Rid { rid: rid.clone().into_bytes(), producer: key, stream });
            }
        }
        if let Some(mid) = &parameters.mux_id {
            self.mids.push((mid.clone().into_bytes(), key));
        }
        if parameters.mux_id.is_some() || parameters.encodings.iter().all(|encoding| encoding.ssrc.is_none())
        {
            self.unnamed.push(key);
        }
        for extension in &parameters.header_extensions {
            if let Some(kind) = ExtensionKind::from_uri(&extension.uri) {
                self.extensions.set(kind, extension.id);
            }
        }
        let takes =
            |kind, parameter| parameters.codecs.iter().any(|codec| codec.has_feedback(kind, parameter));
        let has = |kind| self.extensions.id(kind).is_some();
        if takes("transport-cc", "") && has(ExtensionKind::TransportCc) {
            self.feedback.recorder.get_or_insert_with(|| TransportCcRecorder::new(FEEDBACK_INTERVAL));
        } else if (takes("goog-remb", "") || takes("ccm", "tmmbr")) && has(ExtensionKind::AbsSendTime) {
            self.feedback.watch_arrivals();
        }
    }

    /// A producer is gone.
    pub fn remove_producer(&mut self, key: usize) {
        self.feedback.remove_producer(key);
        self.mids.retain(|(_, producer)| *producer != key);
        self.unnamed.retain(|producer| *producer != key);
        self.rids.retain(|rid| rid.producer != key);
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
        self.counters.received_bytes += data.len() as u64;
        let plain = data.get(..len).unwrap_or_default();
        if let Some(mirror) = &mut self.mirror {
            mirror.received(plain);
        }
        let Ok(view) = RtpView::parse(plain) else { return Received::Refused };
        self.counters.received += 1;
        if let (Some(recorder), Some(id)) =
            (&mut self.feedback.recorder, self.extensions.id(ExtensionKind::TransportCc))
            && let Some((_, element)) = view.extensions().find(|(found, _)| *found == id)
            && let Some(sequence) = element.first_chunk::<2>()
        {
            recorder.received(now, u16::from_be_bytes(*sequence));
        }
        if let (Some(arrivals), Some(id)) =
            (&mut self.feedback.arrivals, self.extensions.id(ExtensionKind::AbsSendTime))
            && let Some((_, element)) = view.extensions().find(|(found, _)| *found == id)
        {
            arrivals.arrived(now, element, len, self.feedback.round_trip);
        }
        let Some(Incoming { producer: key, stream, rtx }) = self.owner(&view, router) else {
            self.counters.unknown += 1;
            return Received::Media;
        };
        let Some(producer) = router.producers.get_mut(key) else { return Received::Media };
        if producer.receive(stream, &view, rtx, now) {
            router.note_changed(key);
            return Received::Media;
        }
        if !rtx {
            producer.receive_other(stream, &view, now, &mut self.tones);
        }
        if self.tones.is_empty() { Received::Media } else { Received::Tones }
    }

    /// Whose packet this is: by SSRC, then by MID and RID, then by payload type if only one producer has it. What
    /// was found is remembered by SSRC.
    fn owner(&mut self, view: &RtpView<'_>, router: &mut Router) -> Option<Incoming> {
        if let Some(found) = self.feedback.incoming.get(&view.ssrc) {
            return Some(*found);
        }
        if self.feedback.incoming.len() >= MAX_STREAMS {
            return None;
        }
        let (key, stream) = self.named(view).or_else(|| self.alone(view, router))?;
        let producer = router.producers.get_mut(key)?;
        let incoming = Incoming { producer: key, stream, rtx: is_rtx(producer, view.payload_type)? };
        if let Some(reception) = producer.streams.get_mut(stream).and_then(|stream| stream.reception.as_mut())
        {
            let slot = if incoming.rtx { &mut reception.rtx_ssrc } else { &mut reception.ssrc };
            // A party that changes its source (a restarted encoder) is followed; reports name the new one.
            *slot = Some(view.ssrc);
        }
        self.feedback.incoming.insert(view.ssrc, incoming);
        Some(incoming)
    }

    /// The producer and stream that the packet's header extensions name. A track of several streams is not
    /// named by its MID alone.
    fn named(&self, view: &RtpView<'_>) -> Option<(usize, usize)> {
        let element = |kind| {
            let id = self.extensions.id(kind)?;
            view.extensions().find(|(found, _)| *found == id).map(|(_, data)| data)
        };
        let by_mid = element(ExtensionKind::Mid)
            .and_then(|mid| self.mids.iter().find(|(known, _)| known == mid))
            .map(|(_, key)| *key);
        let Some(name) = element(ExtensionKind::RepairedRid).or_else(|| element(ExtensionKind::Rid)) else {
            return by_mid.filter(|key| !self.has_rids(*key)).map(|key| (key, 0));
        };
        let fits = |rid: &&Rid| rid.rid == name && by_mid.is_none_or(|key| key == rid.producer);
        let mut fitting = self.rids.iter().filter(fits);
        let found = fitting.next().filter(|_| fitting.next().is_none());
        found.map(|rid| (rid.producer, rid.stream))
    }

    fn has_rids(&self, producer: usize) -> bool {
        self.rids.iter().any(|rid| rid.producer == producer)
    }

    /// The only producer of those, and of one stream, that has the packet's payload type.
    fn alone(&self, view: &RtpView<'_>, router: &Router) -> Option<(usize, usize)> {
        let fits = |key: &usize| {
            let producer = router.producers.get(*key)?;
            is_rtx(producer, view.payload_type).filter(|_| producer.streams.len() == 1)
        };
        let mut fitting = self.unnamed.iter().copied().filter(|key| fits(key).is_some());
        fitting.next().filter(|_| fitting.next().is_none()).map(|key| (key, 0))
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
        self.counters.received_bytes += data.len() as u64;
        let Some(plain) = data.get(..len) else { return Received::Refused };
        if let Some(mirror) = &mut self.mirror {
            mirror.received(plain);
        }
        self.feedback.take(plain, router, now, epoch, asked);
        Received::Media
    }

    /// When the transport itself has something to say.
    pub fn next_due(&self, producers: &[usize], router: &Router) -> Option<MediaTime> {
        if !self.can_report() {
            return None;
        }
        self.feedback.next_due(producers, router)
    }

    /// Its reports are due now.
    pub fn report_soon(&mut self) {
        self.feedback.report_soon();
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
            if let Some(mirror) = &mut self.mirror {
                mirror.sends_rtcp(compound);
            }
            let mut sealed = vec![0; compound.len() + MAX_RTCP_OVERHEAD];
            if let Ok(len) = keys.sender.seal_rtcp(compound, &mut sealed) {
                sealed.truncate(len);
                self.counters.sent_bytes += len as u64;
                out(path, sealed);
            }
        }
    }

    /// What the receiver's path takes in bits per second, where it has shown that it takes no more.
    pub fn bound(&self, now: MediaTime) -> Option<u64> {
        self.feedback.estimator.bound(now)
    }

    /// What the receiver's path takes in bits per second, where anything has been heard of it.
    pub fn estimate(&self) -> Option<u64> {
        self.feedback.estimator.estimate()
    }

    /// Something better could be sent if the path took `bitrate`.
    pub fn want(&mut self, now: MediaTime, bitrate: u64) {
        self.feedback.estimator.want(now, bitrate);
    }

    /// Whether media may flow out.
    pub fn can_send(&self) -> bool {
        self.keys.is_some() && self.path.is_some()
    }

    /// Whether RTCP can go out now.
    pub fn can_report(&self) -> bool {
        self.can_send() && self.allowance != Some(0)
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
        let limits = &self.feedback.estimator.bound(now).map_or(*limits, |bound| ReplayLimits {
            bitrate: limits.bitrate.min(bound + bound * CATCHUP_MARGIN / 100),
            ..*limits
        });
        let before = (batch.packets(), batch.sealed());
        let mut sink = Sink {
            path,
            now,
            seal: Seal::new(Some(&mut keys.sender), self.mirror.as_deref_mut()),
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
        self.counters.sent += batch.packets() - before.0;
        self.counters.sent_bytes += batch.sealed() - before.1;
        match (full, paced) {
            (true, _) => Progress::Full,
            (false, Some(at)) => Progress::Paced(at),
            (false, None) => Progress::Drained,
        }
    }

    /// `transport.dump`.
    pub fn dump(&self, router: &Router) -> Value {
        let mut dump = self.session.dump();
        // Tables of this dump have ids as text.
        let producer_id =
            |key: &usize| json!(router.producers.get(*key).map(|producer| producer.id.to_string()));
        let ssrcs: serde_json::Map<String, Value> = self
            .feedback
            .incoming
            .iter()
            .map(|(ssrc, incoming)| (ssrc.to_string(), producer_id(&incoming.producer)))
            .collect();
        let mids: serde_json::Map<String, Value> = self
            .mids
            .iter()
            .map(|(mid, key)| (String::from_utf8_lossy(mid).into_owned(), producer_id(key)))
            .collect();
        let rids: serde_json::Map<String, Value> = self
            .rids
            .iter()
            .map(|rid| (String::from_utf8_lossy(&rid.rid).into_owned(), producer_id(&rid.producer)))
            .collect();
        let mut ids = serde_json::Map::new();
        for (name, kind) in [
            ("absSendTime", ExtensionKind::AbsSendTime),
            ("mid", ExtensionKind::Mid),
            ("rid", ExtensionKind::Rid),
        ] {
            if let Some(id) = self.extensions.id(kind) {
                ids.insert(name.into(), json!(id));
            }
        }
        dump["headerExtensionIds"] = Value::Object(ids);
        dump["rtpListener"] = json!({"ssrcTable": ssrcs, "muxIdTable": mids, "ridTable": rids});
        dump
    }

    /// `transport.getStats`; `most`: what its party may send at most, where its controller has said.
    pub fn stats(&self, id: TransportId, most: Option<u64>, now: MediaTime) -> Value {
        let dump = self.session.dump();
        let told = &self.feedback.told_bound;
        let mut stats = json!({
            "type": "transport",
            "timestamp": now.as_micros() / 1000,
            "id": id,
            "bytesReceived": self.counters.received_bytes,
            "bytesSent": self.counters.sent_bytes,
            "dtlsState": dump.get("dtlsState"),
            "iceConnectionState": dump.get("iceState"),
            "localAvailableSendBw": {
                "maxBitrate": most.unwrap_or(0),
                "bitrate": told.bitrate,
                "ssrcs": told.ssrcs,
            },
            "remoteAvailableSendBw": self.feedback.heard_bound,
            "x.estimate": self.feedback.estimator.estimate(),
            "x.packetsReceived": self.counters.received,
            "x.packetsSent": self.counters.sent,
            "x.packetsRefused": self.counters.refused,
            "x.packetsUnknown": self.counters.unknown,
            "x.roundTripTime": self.feedback.round_trip.map(|rtt| rtt.as_secs_f64() * 1000.0),
        });
        if let Some(tuple) = dump.get("iceSelectedTuple") {
            stats["iceSelectedTuple"] = tuple.clone();
        }
        if let Some(state) = dump.get("sctpState") {
            stats["sctpState"] = state.clone();
        }
        json!([stats])
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

/// Whether the producer's packets of `payload_type` are retransmissions; `None` when it has no such packets.
fn is_rtx(producer: &Producer, payload_type: u8) -> Option<bool> {
    let formats = &producer.formats;
    if formats.iter().any(|format| format.codec.payload_type == payload_type) {
        return Some(false);
    }
    formats.iter().any(|format| format.rtx_payload_type == Some(payload_type)).then_some(true)
}
