//! RTCP of a party, whatever its transport: what receivers and publishers tell us, and what they are told
//! (RFC 3550 §6, RFC 4585, RFC 5104, REMB, transport-wide congestion control).
//!
//! | packet | from a receiver | from a publisher | made by us |
//! |---|---|---|---|
//! | SR | – | clock of its streams | for each consumer, at the join and each second |
//! | RR | loss, round-trip time | – | for each producer, each second |
//! | NACK | answered from the store | – | for gaps, where negotiated |
//! | PLI, FIR | merged per producer | – | PLI once a window |
//! | REMB | bounds the estimate of its path | – | to publishers, where negotiated |
//! | transport-cc | the estimate of its path | – | to publishers, where negotiated |

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use crate::core::capabilities::{Encoding, Kind};
use crate::core::consumer::{Output, RtpOutput};
use crate::core::producer::Producer;
use crate::core::router::Router;
use crate::core::rtp::bwe::{ArrivalEstimator, Estimator, RateLimits};
use crate::core::rtp::clock::PublisherClock;
use crate::core::rtp::receive::TransportCcRecorder;
use crate::core::rtp::rtcp::{Compound, Packet, ReportBlock, write};
use crate::core::time::{Epoch, MediaTime};

/// Between reports once a stream is established.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Between the first few: a player aligns sound and picture by the first report it gets of each.
const FIRST_INTERVAL: Duration = Duration::from_millis(200);
const FIRST_REPORTS: u32 = 3;
/// A compound stays below this, so that it fits any path.
const MAX_COMPOUND: usize = 1100;
/// Round trip assumed before one is known.
const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(100);

/// A bound on what is sent, as REMB has it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Bound {
    /// Bits per second.
    pub bitrate: u64,
    /// The streams it is for.
    pub ssrcs: Vec<u32>,
}

/// What receivers ask that concerns more than their transport.
#[derive(Debug, Default)]
pub struct Asked {
    /// Consumers whose receiver needs a keyframe.
    pub keyframes: Vec<usize>,
    /// Consumers with something to resend.
    pub resend: bool,
    /// The path takes less than was thought.
    pub narrower: bool,
}

/// What a packet's source stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Incoming {
    /// Key of the producer within the router.
    pub producer: usize,
    /// Which of its streams.
    pub stream: usize,
    /// The retransmissions of it.
    pub rtx: bool,
}

/// RTCP state of one party.
pub(super) struct Feedback {
    /// The party's wall clock.
    pub publisher: PublisherClock,
    /// What arrived, where transport-wide congestion control was negotiated.
    pub recorder: Option<TransportCcRecorder>,
    /// Streams by the SSRC they come as.
    pub incoming: HashMap<u32, Incoming>,
    /// Consumers by the SSRC they go as.
    pub outgoing: HashMap<u32, usize>,
    /// What the receiver's path takes.
    pub estimator: Estimator,
    /// Round-trip time of the path.
    pub round_trip: Option<Duration>,
    /// What the publisher's path takes, where it is told bounds and not what arrived.
    pub arrivals: Option<Box<ArrivalEstimator>>,
    /// Bounds of estimates.
    rates: RateLimits,
    /// The last REMB that was sent.
    pub told_bound: Bound,
    /// The last REMB that came.
    pub heard_bound: Bound,
    /// Our own source in feedback messages.
    ssrc: u32,
    /// Next compound of SR and RR.
    next: Option<MediaTime>,
    /// Reports made so far: the first few follow each other closely, for lip sync.
    made: u32,
}

impl Feedback {
    /// With `ssrc` as our own source, and bounds for the estimate of the receiver's path.
    pub fn new(ssrc: u32, rates: RateLimits) -> Self {
        Feedback {
            publisher: PublisherClock::default(),
            recorder: None,
            incoming: HashMap::new(),
            outgoing: HashMap::new(),
            estimator: Estimator::new(rates),
            round_trip: None,
            arrivals: None,
            rates,
            told_bound: Bound::default(),
            heard_bound: Bound::default(),
            ssrc,
            next: None,
            made: 0,
        }
    }

    /// Its publisher is told bounds: what its path takes is watched from here.
    pub fn watch_arrivals(&mut self) {
        self.arrivals.get_or_insert_with(|| Box::new(ArrivalEstimator::new(self.rates)));
    }

    /// Reports are due now.
    pub fn report_soon(&mut self) {
        self.next = None;
    }

    /// Our own source in feedback messages.
    pub fn own_ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Forgets a producer's streams.
    pub fn remove_producer(&mut self, key: usize) {
        self.incoming.retain(|_, incoming| incoming.producer != key);
    }

    /// A producer's streams become known, as far as their SSRCs are.
    pub fn add_producer(&mut self, key: usize, encodings: &[Encoding]) {
        for (stream, encoding) in encodings.iter().enumerate() {
            let rtx = encoding.rtx.as_ref().map(|rtx| rtx.ssrc);
            for (ssrc, rtx) in [(encoding.ssrc, false), (rtx, true)] {
                let incoming = Incoming { producer: key, stream, rtx };
                self.incoming.extend(ssrc.map(|ssrc| (ssrc, incoming)));
            }
        }
    }

    /// What the receiver says of a consumer's streams finds it from now on.
    pub fn add_consumer(&mut self, key: usize, router: &Router) -> Result<(), String> {
        let Some(Output::Rtp(output)) = router.consumers.get(key).map(|consumer| &consumer.output) else {
            return Ok(());
        };
        for ssrc in [Some(output.ssrc()), output.rtx_ssrc()].into_iter().flatten() {
            if self.outgoing.insert(ssrc, key).is_some_and(|old| old != key) {
                return Err(format!("ssrc {ssrc} is taken by another consumer of the transport"));
            }
        }
        (self.next, self.made) = (None, 0);
        Ok(())
    }

    /// Forgets a consumer's streams.
    pub fn remove_consumer(&mut self, key: usize) {
        self.outgoing.retain(|_, consumer| *consumer != key);
    }

    /// The consumer that sends `ssrc`.
    pub fn consumer_of(&self, ssrc: u32) -> Option<usize> {
        self.outgoing.get(&ssrc).copied()
    }

    /// Takes one plain compound.
    pub fn take(
        &mut self,
        compound: &[u8],
        router: &mut Router,
        now: MediaTime,
        epoch: &Epoch,
        asked: &mut Asked,
    ) {
        for packet in Compound::new(compound).map_while(Result::ok) {
            self.take_rtcp(&packet, router, now, epoch, asked);
        }
    }

    fn take_rtcp(
        &mut self,
        packet: &Packet<'_>,
        router: &mut Router,
        now: MediaTime,
        epoch: &Epoch,
        asked: &mut Asked,
    ) {
        match packet {
            Packet::SenderReport(report) => {
                // The numbers of a retransmission stream are its own; its clock is the stream's.
                if let Some(incoming) = self.incoming.get(&report.ssrc).filter(|incoming| !incoming.rtx)
                    && let Some(producer) = router.producers.get_mut(incoming.producer)
                {
                    producer.sender_report(incoming.stream, &mut self.publisher, now, &report.info);
                }
                report.reports.for_each(|block| self.take_report(&block, router, now, epoch));
            }
            Packet::ReceiverReport(report) => {
                report.reports.for_each(|block| self.take_report(&block, router, now, epoch));
            }
            Packet::Nack(nack) => {
                let Some(key) = self.consumer_of(nack.media) else { return };
                let Some(consumer) = router.consumers.get_mut(key) else { return };
                let source = consumer.producer.and_then(|key| router.producers.get(key));
                consumer.nack(nack.lost(), source);
                asked.resend = true;
            }
            Packet::PictureLoss { media, .. } => {
                self.lost_picture(*media, router, asked, RtpOutput::note_pli);
            }
            Packet::FullIntraRequest(request) => {
                for entry in request.entries() {
                    self.lost_picture(entry.ssrc, router, asked, RtpOutput::note_fir);
                }
            }
            Packet::Remb(remb) => {
                self.estimator.remb(remb.bitrate);
                self.heard_bound = Bound { bitrate: remb.bitrate, ssrcs: remb.ssrcs().collect() };
            }
            Packet::TransportFeedback(feedback) => {
                let reduced = self.estimator.reduced();
                self.estimator.feedback(now, feedback);
                asked.narrower |= self.estimator.reduced() != reduced;
            }
            Packet::SourceDescription(_) | Packet::Goodbye(_) | Packet::Other { .. } => {}
        }
    }

    /// The receiver of `ssrc` cannot go on without a keyframe.
    fn lost_picture(&self, ssrc: u32, router: &mut Router, asked: &mut Asked, note: fn(&mut RtpOutput)) {
        let Some(key) = self.consumer_of(ssrc) else { return };
        if let Some(Output::Rtp(output)) = router.consumers.get_mut(key).map(|consumer| &mut consumer.output)
        {
            note(output);
        }
        asked.keyframes.push(key);
    }

    fn take_report(&mut self, block: &ReportBlock, router: &mut Router, now: MediaTime, epoch: &Epoch) {
        let ntp = epoch.ntp(now);
        if let Some(micros) = block.round_trip(ntp) {
            self.round_trip = Some(Duration::from_micros(micros));
            self.estimator.set_round_trip(Duration::from_micros(micros));
        }
        let key = self.consumer_of(block.ssrc);
        if let Some(consumer) = key.and_then(|key| router.consumers.get_mut(key)) {
            self.estimator.receiver_report(now, f64::from(block.fraction_lost) / 256.0);
            consumer.receiver_report(block, ntp);
        }
    }

    /// When there is something to say.
    pub fn next_due(&self, producers: &[usize], router: &Router) -> Option<MediaTime> {
        let receptions =
            producers.iter().filter_map(|key| router.producers.get(*key)).flat_map(Producer::receptions);
        let nacks = receptions.filter_map(|reception| reception.nack.as_ref()?.next_timeout());
        let recorder = self.recorder.as_ref().and_then(|recorder| recorder.next_timeout());
        nacks.chain(recorder).chain(Some(self.next.unwrap_or_default())).min()
    }

    /// Makes what is due of reports, NACKs, keyframe requests and estimates, as plain packets one behind the
    /// other. `limit` is what a publisher may send at most, in bits per second.
    pub fn report(
        &mut self,
        (producers, consumers): (&[usize], &[usize]),
        router: &mut Router,
        (now, epoch): (MediaTime, &Epoch),
        limit: u64,
    ) -> Vec<u8> {
        let mut plain = Vec::new();
        let limit = self.arrivals.as_ref().and_then(|arrivals| arrivals.bound()).unwrap_or(limit).min(limit);
        if self.next.is_none_or(|at| now >= at) {
            self.periodic(producers, consumers, router, now, epoch, limit, &mut plain);
        }
        self.repairs(producers, router, now, &mut plain);
        if let Some(recorder) = &mut self.recorder {
            let media =
                producers.iter().find_map(|key| router.producers.get(*key)?.receptions().next()?.ssrc);
            recorder.poll(now, self.ssrc, media.unwrap_or(0), &mut plain);
        }
        plain
    }

    #[allow(clippy::too_many_arguments)] // one caller, and each is a borrow of its own
    fn periodic(
        &mut self,
        producers: &[usize],
        consumers: &[usize],
        router: &mut Router,
        now: MediaTime,
        epoch: &Epoch,
        limit: u64,
        out: &mut Vec<u8>,
    ) {
        let mut spoke = false;
        for consumer in consumers.iter().filter_map(|key| router.consumers.get(*key)) {
            let Output::Rtp(output) = &consumer.output else { continue };
            let Some(source) = consumer.producer.and_then(|key| router.producers.get(key)) else { continue };
            let Some(stream) = consumer.stream_of(source) else { continue };
            if let Some(info) = output.sender_info(stream, now, epoch) {
                write::sender_report(out, output.ssrc(), &info, &[]);
                let cname = consumer.parameters.rtcp.cname.as_deref().unwrap_or("viaduct");
                write::cname(out, output.ssrc(), cname);
                spoke = true;
            }
        }
        let mut blocks = Vec::new();
        let (mut remb, mut tmmbr) = (Vec::new(), Vec::new());
        for key in producers {
            let Some(producer) = router.producers.get_mut(*key) else { continue };
            let takes = |kind, parameter| {
                producer.formats.iter().any(|format| format.codec.has_feedback(kind, parameter))
            };
            let bounds = match producer.kind {
                Kind::Video if takes("goog-remb", "") => Some(&mut remb),
                Kind::Video if takes("ccm", "tmmbr") => Some(&mut tmmbr),
                _ => None,
            };
            let mut heard = Vec::new();
            for reception in producer.streams.iter_mut().filter_map(|stream| stream.reception.as_mut()) {
                let Some(block) = reception.report(now) else { continue };
                heard.push(block.ssrc);
                blocks.push(block);
            }
            if let Some(bounds) = bounds {
                bounds.append(&mut heard);
            }
        }
        if !blocks.is_empty() {
            write::receiver_report(out, self.ssrc, &blocks);
            write::cname(out, self.ssrc, "viaduct");
            spoke = true;
        }
        if !remb.is_empty() {
            write::remb(out, self.ssrc, limit, &remb);
            self.told_bound = Bound { bitrate: limit, ssrcs: remb };
        }
        if !tmmbr.is_empty() {
            write::max_bitrate_request(out, self.ssrc, limit, &tmmbr);
        }
        let interval = if self.made < FIRST_REPORTS { FIRST_INTERVAL } else { REPORT_INTERVAL };
        self.next = Some(now + interval);
        self.made += u32::from(spoke);
    }

    /// NACKs and keyframe requests that are due.
    fn repairs(&mut self, producers: &[usize], router: &mut Router, now: MediaTime, out: &mut Vec<u8>) {
        let round_trip = self.round_trip.unwrap_or(DEFAULT_ROUND_TRIP);
        let mut lost = Vec::new();
        for key in producers {
            let Some(producer) = router.producers.get_mut(*key) else { continue };
            let (video, consumed) = (producer.kind == Kind::Video, !producer.consumers.is_empty());
            for stream in &mut producer.streams {
                let Some(reception) = &mut stream.reception else { continue };
                let Some(ssrc) = reception.ssrc else { continue };
                if let Some(nack) = &mut reception.nack {
                    let given_up = nack.poll(now, round_trip, &mut lost);
                    if !lost.is_empty() {
                        reception.nacks += 1;
                        write::nack(out, self.ssrc, ssrc, &lost);
                    }
                    if given_up && video && consumed {
                        stream.keyframes.want();
                    }
                }
                if video && stream.keyframes.take(now) {
                    reception.picture_losses += 1;
                    write::picture_loss(out, self.ssrc, ssrc);
                }
            }
        }
    }
}

/// Cuts plain RTCP packets into compounds that fit any path. A packet that does not begin a compound with a
/// report is sent all the same (reduced size, RFC 5506).
pub(super) fn compounds(plain: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = plain;
    std::iter::from_fn(move || {
        let mut end = 0;
        while let Some(length) = rest.get(end + 2..end + 4) {
            let size = 4 + 4 * usize::from(u16::from_be_bytes([length[0], length[1]]));
            if end > 0 && end + size > MAX_COMPOUND {
                break;
            }
            end += size;
        }
        let (compound, later) = rest.split_at_checked(end).filter(|_| end > 0)?;
        rest = later;
        Some(compound)
    })
}
