//! Tracks with layers: who gets which, by what each path takes, what its receiver prefers and what the track has to
//! offer; what controllers ask about it and are told.

use std::time::Instant;

use serde_json::{Value, json};
use tracing::debug;

use crate::core::capabilities::Kind;
use crate::core::consumer::{Ascent, Choice, Consumer, LayerNews, Output, Preference, Wish, allocate};
use crate::core::mail::PipeMessage;
use crate::core::message::Request;
use crate::core::producer::{Input, MAX_STREAMS, Rung, Stream};
use crate::core::profile::Profile;
use crate::core::time::MediaTime;
use crate::core::transport::TransportKind;
use crate::core::worker::control::field;
use crate::core::worker::{Place, Space, Worker};

/// What is asked of a path so that a probe shows whether a higher rung fits, above its rate, in percent.
const PROBE_MARGIN: u64 = 15;

/// What is sent above what the path takes, in percent, that cannot wait: it drowns.
const FLOOD: u64 = 30;

/// A consumer whose source has layers, among others of one transport.
struct Claim {
    consumer: usize,
    /// What it may be put on.
    rungs: Vec<Rung>,
    rates: Vec<u64>,
    now: Option<usize>,
    /// What it is on is not to be had any more.
    gone: bool,
    ascent: Ascent,
    healthy: bool,
    priority: u8,
    start: usize,
}

impl Worker {
    /// Time has passed: looks what each track has to offer, and puts receivers on other layers where that, or
    /// what their path takes, has changed.
    pub(super) fn tick_layers(&mut self, now: MediaTime) {
        let limits = self.config.layers.flow();
        let mut places = Vec::new();
        let mut wanted = Vec::new();
        for (key, space) in &mut self.spaces {
            let mut receivers = Vec::new();
            for (at, producer) in &mut space.router.producers {
                producer.tick(now, &limits);
                if !producer.is_layered() {
                    continue;
                }
                let consumers = producer.consumers.iter().filter_map(|key| space.router.consumers.get(*key));
                receivers.extend(consumers.clone().filter_map(|consumer| consumer.transport));
                let reads: Vec<_> = consumers.filter(|consumer| consumer.is_active()).map(reads).collect();
                let wants = |stream: usize| reads.iter().any(|streams| streams(stream));
                if producer.set_wanted(wants, now, &limits) {
                    wanted.push((key, at));
                }
            }
            receivers.sort_unstable();
            receivers.dedup();
            places.extend(receivers.into_iter().map(|at| (key, at)));
        }
        for place in places {
            self.choose_layers(place, now);
        }
        wanted.into_iter().for_each(|place| self.tell_wanted(place));
        self.tell_scores();
    }

    /// Chooses for the consumers of a transport what they get of sources with layers.
    pub(super) fn choose_layers(&mut self, place: Place, now: MediaTime) {
        let climb = self.config.layers.climb();
        let initial = self.config.rates.initial_bitrate;
        let Some(space) = self.spaces.get_mut(place.0) else { return };
        let claims = claims(space, place.1, now, &climb, initial);
        if claims.is_empty() {
            return;
        }
        let path = path_for(space, place.1, &claims);
        let wishes: Vec<Wish<'_>> = claims
            .iter()
            .map(|claim| Wish {
                rungs: &claim.rates,
                now: claim.now,
                start: claim.start,
                ascent: claim.ascent,
                healthy: claim.healthy,
                priority: claim.priority,
            })
            .collect();
        let mut chosen = Vec::new();
        allocate(path, &wishes, &mut chosen);
        let taken: u64 =
            claims.iter().map(|claim| claim.now.and_then(|at| claim.rates.get(at)).unwrap_or(&0)).sum();
        let flooded = path.is_some_and(|path| taken > path + path * FLOOD / 100);
        let mut changed = false;
        let mut next = None;
        for (claim, to) in claims.iter().zip(chosen) {
            let Some(consumer) = space.router.consumers.get_mut(claim.consumer) else { continue };
            let urgent = claim.gone || flooded;
            let to = consumer.climb.settle(claim.now, to, urgent, now, &climb);
            let Some(rung) = claim.rungs.get(to) else { continue };
            let choice = Choice { stream: rung.stream, layer: rung.layer };
            if let Some(above) = claim.rates.get(to + 1..).and_then(|above| above.iter().min()) {
                let missing = above.saturating_sub(rung.bitrate);
                next = Some(next.map_or(missing, |least: u64| least.min(missing)));
            }
            let source = consumer.producer.and_then(|key| space.router.producers.get(key));
            if let Some(source) = source.filter(|_| consumer.target() != choice) {
                let (spatial, temporal) = (rung.spatial, rung.temporal);
                debug!(conn = %consumer.conn, spatial, temporal, rate = rung.bitrate, path, "another layer was chosen");
                consumer.choose(source, choice, now);
                changed = true;
            }
        }
        if let Some(missing) = next {
            want(space, place.1, missing, now);
        }
        if changed {
            self.queue(place);
        }
    }

    /// Says what has become of what a transport's consumers get.
    pub(super) fn tell_layers(&mut self, place: Place) {
        let Some(space) = self.spaces.get_mut(place.0) else { return };
        let Some(transport) = space.transports.get(place.1) else { return };
        let mut news = Vec::new();
        for key in &transport.consumers {
            let Some(consumer) = space.router.consumers.get_mut(*key).filter(|consumer| consumer.reports)
            else {
                continue;
            };
            let source = consumer.producer.and_then(|key| space.router.producers.get(key));
            let id = consumer.id.0;
            consumer.layer_news(source, |what| news.push((id, what)));
        }
        for (id, what) in news {
            self.tell_layer_news(id, what, &[]);
        }
    }

    fn tell_layer_news(&mut self, id: u32, what: LayerNews, streams: &[u8]) {
        let (event, data) = match what {
            LayerNews::Profile(profile) => ("effectiveprofilechange", json!({"profile": profile})),
            LayerNews::Layers(None) => ("x.layerschange", Value::Null),
            LayerNews::Layers(Some((spatial, temporal))) => {
                ("x.layerschange", json!({"spatialLayer": spatial, "temporalLayer": temporal}))
            }
            LayerNews::Score(own, producer) => {
                ("x.score", json!({"score": own, "producerScore": producer, "producerScores": streams}))
            }
        };
        self.notify(id, event, data);
    }

    /// Says which scores have changed.
    fn tell_scores(&mut self) {
        let mut producers = Vec::new();
        let mut consumers = Vec::new();
        for (_, space) in &mut self.spaces {
            for (_, producer) in &mut space.router.producers {
                producers.extend(producer.score_news().map(|scores| (producer.id.0, scores)));
            }
            for (_, consumer) in &mut space.router.consumers {
                let source = consumer.producer.and_then(|key| space.router.producers.get(key));
                let Some(source) = source.filter(|_| consumer.reports && consumer.is_active()) else {
                    continue;
                };
                if let Some(what) = consumer.score_news(source) {
                    consumers.push((consumer.id.0, what, source.scores()));
                }
            }
        }
        for (id, scores) in producers {
            self.notify(id, "x.score", scores);
        }
        for (id, what, streams) in consumers {
            self.tell_layer_news(id, what, &streams);
        }
    }

    /// Says which streams of a producer its source should send.
    fn tell_wanted(&mut self, place: Place) {
        self.tell_limit(place);
        let Some(space) = self.spaces.get(place.0) else { return };
        let Some(producer) = space.router.producers.get(place.1) else { return };
        let transport = space.transports.get(producer.transport).map(|transport| &transport.kind);
        if let (Some(TransportKind::Pipe { output, .. }), Input::Pipe { track }) =
            (transport, &producer.input)
        {
            let of = |(at, stream): (usize, &Stream)| u32::from(stream.is_wanted()) << at;
            let streams = producer.streams.iter().enumerate().map(of).sum();
            // A lane that is full carries the streams as they were.
            let _ = output.send(PipeMessage::Wanted { track: *track, streams });
        }
        let (id, wanted) = (producer.id.0, producer.wanted());
        self.notify(id, "x.wantedlayers", json!({"encodings": wanted}));
    }

    /// The source of a producer hears at once what it may send now.
    fn tell_limit(&mut self, (space, producer): Place) {
        let Some(entry) = self.spaces.get_mut(space) else { return };
        let Some(source) = entry.router.producers.get(producer).map(|producer| producer.transport) else {
            return;
        };
        if let Some(TransportKind::WebRtc(webrtc)) =
            entry.transports.get_mut(source).map(|transport| &mut transport.kind)
        {
            webrtc.report_soon();
            self.reschedule((space, source));
        }
    }

    /// `consumer.setPreferredProfile`.
    pub(super) fn prefer_profile(&mut self, now: Instant, request: &Request) -> Result<Value, String> {
        let profile = asked_profile(request)?;
        self.prefer(now, request, |preference| preference.profile = profile)
    }

    /// `x.consumer.setPreferredLayers` and, with one more name for the picture size, which was a number of its own
    /// for streams of a simulcast, `consumer.setEncodingPreferences`.
    pub(super) fn prefer_layers(&mut self, now: Instant, request: &Request) -> Result<Value, String> {
        let number = |name: &str| match request.data.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => field::<u8>(&request.data, name).map(Some),
        };
        let spatial = number("spatialLayer")?.or(number("qualityLayer")?);
        let temporal = number("temporalLayer")?;
        self.prefer(now, request, |preference| {
            (preference.spatial, preference.temporal) = (spatial, temporal)
        })
    }

    /// `x.consumer.setPriority`.
    pub(super) fn set_priority(&mut self, now: Instant, request: &Request) -> Result<Value, String> {
        let priority: u8 = field(&request.data, "priority")?;
        if priority == 0 {
            return Err("data.priority is 1 to 255".into());
        }
        let place = self.consumer(request)?;
        if let Some(consumer) = self.consumer_at(place) {
            consumer.priority = priority;
        }
        self.rechoose(place, self.epoch.media_time(now));
        Ok(json!({}))
    }

    fn prefer(
        &mut self,
        now: Instant,
        request: &Request,
        change: impl FnOnce(&mut Preference),
    ) -> Result<Value, String> {
        let place = self.consumer(request)?;
        if let Some(consumer) = self.consumer_at(place) {
            let before = consumer.preference;
            change(&mut consumer.preference);
            if consumer.preference != before {
                consumer.climb.set_free();
            }
        }
        self.rechoose(place, self.epoch.media_time(now));
        Ok(json!({}))
    }

    /// `producer.setPreferredProfile`: what its consumers get that have no preference of their own.
    pub(super) fn prefer_for_all(&mut self, now: Instant, request: &Request) -> Result<Value, String> {
        let profile = asked_profile(request)?;
        let place = self.producer(request)?;
        let space = self.spaces.get_mut(place.0).ok_or("Router does not exist")?;
        let producer = space.router.producers.get_mut(place.1).ok_or("Producer does not exist")?;
        producer.preferred = profile;
        let consumers = producer.consumers.clone();
        for key in consumers {
            if let Some(consumer) = self.consumer_at((place.0, key)) {
                consumer.climb.set_free();
            }
            self.rechoose((place.0, key), self.epoch.media_time(now));
        }
        Ok(json!({}))
    }

    /// Chooses anew for the transport of a consumer.
    pub(super) fn rechoose(&mut self, consumer: Place, now: MediaTime) {
        let transport = self.consumer_at(consumer).and_then(|consumer| consumer.transport);
        if let Some(transport) = transport {
            self.choose_layers((consumer.0, transport), now);
        }
    }

    fn consumer_at(&mut self, place: Place) -> Option<&mut Consumer> {
        self.spaces.get_mut(place.0)?.router.consumers.get_mut(place.1)
    }
}

/// Which streams of its source a consumer reads, or shall read.
fn reads(consumer: &Consumer) -> impl Fn(usize) -> bool + use<> {
    let (now, target) = (consumer.stream(), consumer.target().stream);
    let own = 1u32 << now | 1 << target;
    let read = match &consumer.output {
        Output::Pipe(pipe) => (0..MAX_STREAMS).map(|at| u32::from(pipe.carries(at)) << at).sum(),
        _ => own,
    };
    move |stream| read >> stream & 1 == 1
}

fn asked_profile(request: &Request) -> Result<Profile, String> {
    let name: String = field(&request.data, "profile")?;
    match Profile::from_name(&name) {
        Some(Profile::None) => Err("invalid profile: none".into()),
        Some(profile) => Ok(profile),
        None => Err(format!("unknown profile: {name}")),
    }
}

/// What the consumers of a transport that read sources with layers may be put on.
fn claims(
    space: &Space,
    transport: usize,
    now: MediaTime,
    climb: &crate::core::consumer::ClimbLimits,
    initial: u64,
) -> Vec<Claim> {
    let Some(transport) = space.transports.get(transport) else { return Vec::new() };
    let claim = |key: &usize| {
        let consumer = space.router.consumers.get(*key)?;
        let source = space.router.producers.get(consumer.producer?)?;
        let fits = consumer.kind == Kind::Video && consumer.is_active() && source.is_layered();
        let settled = |stream: usize| {
            let since = source.streams.get(stream).map(|stream| stream.flowing_since());
            since.is_some_and(|since| now.micros_since(since) >= climb.settle.as_micros() as i64)
        };
        let frames = match consumer.output {
            Output::Rtp(_) => false,
            Output::Frames(_) => true,
            Output::Pipe(_) | Output::None => return None,
        };
        let rungs = if fits { consumer.ladder(source, settled) } else { Vec::new() };
        let rates: Vec<u64> = rungs.iter().map(|rung| rung.bitrate).collect();
        let (now_at, gone) = consumer.place_on(source, &rungs);
        let ascent = if frames { Ascent::Free } else { consumer.climb.ascent(now, climb) };
        // What takes frames takes all there is: it is in this process, or paid for by whoever asked for it.
        let start =
            if frames { rungs.len() } else { rates.iter().rposition(|rate| *rate <= initial).unwrap_or(0) };
        (!rungs.is_empty()).then_some(Claim {
            consumer: *key,
            rungs,
            rates,
            now: now_at,
            gone,
            ascent,
            healthy: consumer.is_healthy(),
            priority: consumer.priority,
            start,
        })
    };
    transport.consumers.iter().filter_map(claim).collect()
}

/// What a transport's path leaves for the consumers of sources with layers, where that is known: sound and what
/// has no layers come first.
fn path_for(space: &Space, transport: usize, claims: &[Claim]) -> Option<u64> {
    let transport = space.transports.get(transport)?;
    let TransportKind::WebRtc(webrtc) = &transport.kind else { return None };
    let known = webrtc.estimate()?;
    let others = transport.consumers.iter().filter(|key| claims.iter().all(|claim| claim.consumer != **key));
    let taken: u64 = others.filter_map(|key| bitrate(space, *key)).sum();
    Some(known.saturating_sub(taken))
}

fn bitrate(space: &Space, consumer: usize) -> Option<u64> {
    let consumer = space.router.consumers.get(consumer).filter(|consumer| consumer.is_active())?;
    let source = space.router.producers.get(consumer.producer?)?;
    Some(consumer.stream_of(source)?.bitrate())
}

/// Has a path probed for whether it takes `missing` bits a second more than it gets.
fn want(space: &mut Space, transport: usize, missing: u64, now: MediaTime) {
    let Some(entry) = space.transports.get(transport) else { return };
    let taken: u64 = entry.consumers.iter().filter_map(|key| bitrate(space, *key)).sum();
    let wanted = (taken + missing) * (100 + PROBE_MARGIN) / 100;
    if let Some(TransportKind::WebRtc(webrtc)) =
        space.transports.get_mut(transport).map(|entry| &mut entry.kind)
    {
        webrtc.want(now, wanted);
    }
}
