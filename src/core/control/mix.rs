//! A room's mix: one Direct transport on the home router, every voice of the room brought there as packets, one
//! producer for each sort of listener. It is there while somebody needs it and a little longer.
//!
//! A receiver of one track hears nobody, the one other voice untouched, or a mix: its own where it speaks itself, one
//! shared with all others of its codec where it does not.

use std::collections::BTreeMap;
use std::sync::mpsc;

use serde_json::{Value, json};
use tracing::{debug, info, warn};

use crate::core::capabilities::{Kind, RtpCodec, select};
use crate::core::control::error::ControlError;
use crate::core::control::jobs::one_stream;
use crate::core::control::peer_events::PeerEvent;
use crate::core::control::publish::same_codec;
use crate::core::control::state::{Reply, State, Target, Timer, on_consumer, on_producer, on_transport};
use crate::core::convert::{Format, MixCommand, MixJob, Sound};
use crate::core::id::{ConnId, ConsumerId, ProducerId, RouterId, TransportId, WorkerId};
use crate::core::lane::lane;
use crate::core::mail::Mail;
use crate::core::message::{Internal, Method};
use crate::core::peer::Feed;
use crate::core::room::{Room, RoomName};

/// See the module.
pub(super) struct RoomMix {
    pub transport: TransportId,
    worker: WorkerId,
    router: RouterId,
    commands: mpsc::Sender<MixCommand>,
    /// By the publisher's producer.
    voices: BTreeMap<ProducerId, Voice>,
    /// By their number, which is their producer's.
    outputs: BTreeMap<u32, MixOutput>,
}

/// A track that is brought to a mix.
struct Voice {
    consumer: ConsumerId,
    owner: ConnId,
    /// The conversion that makes it something that can be mixed.
    job: Option<u32>,
}

/// What goes out for one sort of listener.
pub(super) struct MixOutput {
    pub format: Format,
    /// Whose voice is left out.
    without: Option<ConnId>,
    users: usize,
    idled: u64,
}

impl RoomMix {
    /// The output behind a producer.
    pub fn output_of(&self, producer: ProducerId) -> Option<&MixOutput> {
        self.outputs.get(&producer.0)
    }

    #[cfg(test)]
    pub fn producers(&self) -> impl Iterator<Item = ProducerId> {
        self.outputs.keys().copied().map(ProducerId)
    }

    #[cfg(test)]
    pub fn consumers(&self) -> impl Iterator<Item = ConsumerId> {
        self.voices.values().map(|voice| voice.consumer)
    }

    /// Whose voice a track of the mix is, and which of theirs.
    pub fn voice_of(&self, track: ConsumerId) -> Option<(ConnId, ProducerId)> {
        let mut voices = self.voices.iter();
        voices.find(|(_, voice)| voice.consumer == track).map(|(origin, voice)| (voice.owner, *origin))
    }

    fn tell(&self, command: MixCommand) {
        if self.commands.send(command).is_err() {
            // Its lanes are closed too, and the worker will say so.
            debug!("a mix that has ended was told something");
        }
    }
}

impl State {
    /// The voices in a room that are not held back, but for one's own.
    pub fn voices_but(&self, room: &Room, conn: ConnId) -> Vec<(ConnId, ProducerId)> {
        let others = room.publishers.iter().filter(|other| **other != conn);
        let entries = others.filter_map(|other| self.members.get(other));
        let tracks = entries.flat_map(|entry| {
            let running = entry.peer.tracks_of(Kind::Audio).filter(|track| !track.is_paused());
            running.map(|track| (entry.peer.conn, track.producer))
        });
        tracks.collect()
    }

    /// The output of the room's mix that a consumer of sound should get; `None` where it needs none, or there is no
    /// mixer.
    pub fn voices_for(&mut self, conn: ConnId, consumer: ConsumerId) -> Option<(u32, ProducerId)> {
        let (entry, mixer) = (self.members.get(&conn)?, self.mixer.clone()?);
        let name = entry.room.clone();
        let room = self.rooms.get(&name)?;
        let feed = entry.peer.feeds.iter().find(|feed| feed.consumer == consumer)?;
        let speaks = entry.peer.track(Kind::Audio).is_some();
        let others = self.voices_but(room, conn);
        let accepts = feed.accepts.clone();
        let sounds = feed.playing.is_some();
        let needed = sounds
            || match others[..] {
                // Who speaks to an empty room hears that the line is not dead.
                [] => speaks,
                [(_, producer)] => !self.takes_alone(&accepts, producer),
                _ => true,
            };
        if !needed || (room.awaited.is_some() && others.is_empty() && !speaks && !sounds) {
            return None;
        }
        let format = mixer.output(&accepts)?;
        if self.unmixed.contains_key(&name) {
            return None;
        }
        let without = (speaks || feed.playing.is_some()).then_some(conn);
        match self.mix_output(&name, &format, without) {
            Ok(found) => Some(found),
            Err(text) => {
                warn!(room = %name, "the room is not mixed: {text}");
                self.unmixed.insert(name.clone(), text);
                self.timers.set(State::millis(self.config.convert_failure_ms), Timer::Remix(name));
                None
            }
        }
    }

    /// Whether a receiver gets the only other voice untouched, or by a conversion of its own.
    fn takes_alone(&self, accepts: &[RtpCodec], producer: ProducerId) -> bool {
        let Some((_, track)) = self.track(producer) else { return false };
        let opus = accepts.iter().any(|codec| codec.is("audio/opus"));
        let passes = !opus || self.mixer.as_ref().is_none_or(|mixer| mixer.passes(&track.format.codec));
        let as_it_is = passes && !track.format.reordered && select(accepts, &track.format.codec).is_some();
        as_it_is || self.converter.as_ref().is_some_and(|it| it.target(&track.format, accepts).is_some())
    }

    /// The output for listeners of `format`; starts it, and the mix, if it is not there. `Err` is for people.
    fn mix_output(
        &mut self,
        name: &RoomName,
        format: &Format,
        without: Option<ConnId>,
    ) -> Result<(u32, ProducerId), String> {
        if !self.mixes.contains_key(name) {
            self.start_mix(name)?;
        }
        let Some(mix) = self.mixes.get_mut(name) else { return Err("the room is closing".into()) };
        let same = |output: &&MixOutput| {
            output.without == without
                && same_codec(&output.format.codec, &format.codec)
                && output.format.codec.parameters == format.codec.parameters
        };
        if let Some((number, _)) = mix.outputs.iter().find(|(_, output)| same(output)) {
            return Ok((*number, ProducerId(*number)));
        }
        let producer = ProducerId(self.dispatcher.allocate());
        let number = producer.0;
        mix.tell(MixCommand::AddOutput { track: number, format: format.clone(), without });
        mix.outputs.insert(number, MixOutput { format: format.clone(), without, users: 0, idled: 0 });
        let (worker, router, transport) = (mix.worker, mix.router, mix.transport);
        debug!(room = %name, codec = format.codec.mime_type, own = without.is_some(), "an output of the mix begins");
        let internal = Internal { producer_id: Some(number), ..on_transport(router, transport) };
        let rtp = one_stream(&format.codec, number);
        let data = json!({"kind": format.kind, "rtpParameters": rtp, "x.track": number});
        self.ask(worker, Method::RouterCreateProducer, internal, data, Reply::Mix(name.clone(), transport));
        // Nobody may come to listen after all.
        self.timers.set(State::millis(self.config.mix_linger_ms), Timer::MixOutput(name.clone(), number, 0));
        Ok((number, producer))
    }

    fn start_mix(&mut self, name: &RoomName) -> Result<(), String> {
        let Some((router, worker)) = self.rooms.get(name).and_then(Room::home) else {
            return Err("the room is closing".into());
        };
        let transport = TransportId(self.dispatcher.allocate());
        let reply = Reply::Mix(name.clone(), transport);
        let commands = self.open_mix(name, (router, worker, transport), reply)?;
        self.dispatcher.subscribe(transport.0, worker, Target::Mix(name.clone()));
        info!(room = %name, "the mix begins");
        let (voices, outputs) = (BTreeMap::new(), BTreeMap::new());
        self.mixes.insert(name.clone(), RoomMix { transport, worker, router, commands, voices, outputs });
        self.bring_voices(name);
        self.tune(name);
        Ok(())
    }

    /// Starts a mix and asks for the Direct transport it is behind; answers where it is told what to do. `Err` is for
    /// people.
    pub fn open_mix(
        &mut self,
        name: &RoomName,
        (router, worker, transport): (RouterId, WorkerId, TransportId),
        reply: Reply,
    ) -> Result<mpsc::Sender<MixCommand>, String> {
        let Some(mixer) = self.mixer.clone() else { return Err("there is no mixer".into()) };
        let Some(mailbox) = self.dispatcher.mail(worker).cloned() else {
            return Err("the worker failed".into());
        };
        let (packets_in, input) = lane(self.config.mix_lane, None);
        let (output, frames_out) = lane(self.config.mix_lane, Some(mailbox.waker()));
        let (commands, told) = mpsc::channel();
        let job = MixJob { room: name.to_string(), epoch: self.epoch, input, output, commands: told };
        mixer.mix(job).map_err(|refusal| refusal.to_string())?;
        let attach = self.dispatcher.allocate();
        let mail = Mail::Direct { attach, input: frames_out, output: packets_in };
        mailbox.send(mail).map_err(|_| "the worker is overloaded".to_owned())?;
        let data = json!({"attach": attach});
        self.ask(worker, Method::XRouterCreateDirectTransport, on_transport(router, transport), data, reply);
        Ok(commands)
    }

    /// Brings every voice of the room to its mix, if there is one, and takes away those that are gone.
    pub fn bring_voices(&mut self, name: &RoomName) {
        let Some(mix) = self.mixes.get(name) else { return };
        let Some(room) = self.rooms.get(name) else { return };
        let entries = room.publishers.iter().filter_map(|conn| self.members.get(conn));
        let present: Vec<(ProducerId, ConnId, Format)> = entries
            .flat_map(|entry| {
                let tracks = entry.peer.tracks_of(Kind::Audio);
                tracks.map(|track| (track.producer, entry.peer.conn, track.format.clone()))
            })
            .collect();
        let gone: Vec<ProducerId> =
            mix.voices.keys().filter(|known| !present.iter().any(|(p, ..)| p == *known)).copied().collect();
        let stale =
            mix.voices.iter().filter(|(_, voice)| voice.job.is_some_and(|id| self.jobs.get(id).is_none()));
        let gone: Vec<ProducerId> = stale.map(|(origin, _)| *origin).chain(gone).collect();
        for origin in gone {
            self.take_voice(name, origin);
        }
        for (origin, owner, format) in present {
            if self.mixes.get(name).is_some_and(|mix| !mix.voices.contains_key(&origin)) {
                self.bring_voice(name, origin, owner, format);
            }
        }
    }

    fn bring_voice(&mut self, name: &RoomName, origin: ProducerId, owner: ConnId, format: Format) {
        let Some(mixer) = self.mixer.clone() else { return };
        let (home, format, job) = if mixer.takes(&format) {
            (origin, format, None)
        } else {
            match self.job_for(name, owner, origin, &format, &[opus()]) {
                Ok(id) => {
                    let Some(job) = self.jobs.get_mut(id) else { return };
                    job.users += 1;
                    (job.output, job.to.clone(), Some(id))
                }
                Err(refused) => {
                    info!(conn = %owner, room = %name, "not in the mix: {}", refused.text);
                    return;
                }
            }
        };
        let consumer = ConsumerId(self.dispatcher.allocate());
        let Some(mix) = self.mixes.get_mut(name) else { return };
        let (worker, router, transport) = (mix.worker, mix.router, mix.transport);
        mix.voices.insert(origin, Voice { consumer, owner, job });
        mix.tell(MixCommand::AddSource { track: consumer.0, owner, format: format.clone() });
        let reply = || Reply::Mix(name.clone(), transport);
        let data = json!({"kind": format.kind});
        self.ask(worker, Method::RouterCreateConsumer, on_consumer(router, consumer), data, reply());
        let internal = Internal { transport_id: Some(transport.0), ..on_consumer(router, consumer) };
        let data = json!({"rtpParameters": one_stream(&format.codec, consumer.0), "x.packets": true});
        self.ask(worker, Method::ConsumerEnable, internal, data, reply());
        // Not made for this one producer: it must not end by itself, before it is taken away.
        let data = json!({"producerId": home});
        self.tell(worker, Method::XConsumerSetProducer, on_consumer(router, consumer), data);
    }

    fn take_voice(&mut self, name: &RoomName, origin: ProducerId) {
        let Some(mix) = self.mixes.get_mut(name) else { return };
        let Some(voice) = mix.voices.remove(&origin) else { return };
        mix.tell(MixCommand::RemoveSource { track: voice.consumer.0 });
        let (worker, router) = (mix.worker, mix.router);
        self.tell(worker, Method::ConsumerClose, on_consumer(router, voice.consumer), json!({}));
        if let Some(job) = voice.job {
            self.release_job(job);
        }
    }

    /// Counts one more listener of an output.
    pub fn hold_mix(&mut self, name: &RoomName, output: u32) {
        let output = self.mixes.get_mut(name).and_then(|mix| mix.outputs.get_mut(&output));
        output.into_iter().for_each(|output| output.users += 1);
    }

    /// Counts one listener less.
    pub fn release_mix(&mut self, name: &RoomName, number: u32) {
        let Some(output) = self.mixes.get_mut(name).and_then(|mix| mix.outputs.get_mut(&number)) else {
            return;
        };
        output.users = output.users.saturating_sub(1);
        if output.users == 0 {
            output.idled += 1;
            let timer = Timer::MixOutput(name.clone(), number, output.idled);
            self.timers.set(State::millis(self.config.mix_linger_ms), timer);
        }
    }

    /// An output has had no listener since it fell idle for the `idled`th time.
    pub fn mix_output_idle(&mut self, name: &RoomName, number: u32, idled: u64) {
        let Some(mix) = self.mixes.get_mut(name) else { return };
        let is_idle = |output: &MixOutput| output.users == 0 && output.idled == idled;
        if !mix.outputs.get(&number).is_some_and(is_idle) {
            return;
        }
        if mix.outputs.len() == 1 {
            self.end_mix(name, false);
            return;
        }
        mix.outputs.remove(&number);
        mix.tell(MixCommand::RemoveOutput { track: number });
        let (worker, router) = (mix.worker, mix.router);
        self.unpipe_everywhere(name, ProducerId(number));
        self.tell(worker, Method::ProducerClose, on_producer(router, ProducerId(number)), json!({}));
    }

    /// Ends a room's mix, if there is one; `closed`: its transport is gone already.
    pub fn end_mix(&mut self, name: &RoomName, closed: bool) {
        let origins: Vec<ProducerId> =
            self.mixes.get(name).map(|mix| mix.voices.keys().copied().collect()).unwrap_or_default();
        for origin in origins {
            self.take_voice(name, origin);
        }
        let Some(mix) = self.mixes.remove(name) else { return };
        info!(room = %name, "the mix ends");
        self.tune(name);
        for number in mix.outputs.keys() {
            self.unpipe_everywhere(name, ProducerId(*number));
        }
        self.dispatcher.unsubscribe(mix.transport.0);
        if !closed {
            let internal = on_transport(mix.router, mix.transport);
            self.tell(mix.worker, Method::TransportClose, internal, json!({}));
        }
    }

    /// The mix broke down, or could not be put in place; `closed`: its transport is gone.
    pub fn mix_failed(&mut self, name: &RoomName, transport: TransportId, reason: &str, closed: bool) {
        if self.mixes.get(name).is_none_or(|mix| mix.transport != transport) {
            return;
        }
        warn!(room = %name, "the mix failed: {reason}");
        self.end_mix(name, closed);
        self.unmixed.insert(name.clone(), reason.to_owned());
        self.timers.set(State::millis(self.config.convert_failure_ms), Timer::Remix(name.clone()));
        self.refresh(name);
    }

    /// Plays sounds to one consumer of a peer, in place of the program or over it; none: stops.
    pub fn play(
        &mut self,
        conn: ConnId,
        consumer: ConsumerId,
        sounds: Vec<Sound>,
        over: bool,
    ) -> Result<(), ControlError> {
        self.plays = self.plays.wrapping_add(1);
        let number = self.plays;
        let Some(feed) = self.feed_mut(conn, consumer) else {
            return Err(ControlError::NotAllowed("that is no consumer of this peer"));
        };
        feed.playing = (!sounds.is_empty()).then_some(number);
        self.point(conn, consumer);
        let Some(entry) = self.members.get(&conn) else { return Err(ControlError::Closed) };
        let name = entry.room.clone();
        let feed = entry.peer.feeds.iter().find(|feed| feed.consumer == consumer);
        let output = feed.and_then(|feed| feed.source).and_then(|source| source.mix);
        match (self.mixes.get(&name), output) {
            (Some(mix), Some(output)) => {
                mix.tell(MixCommand::Play { output: Some(output), sounds, over, number });
            }
            _ if sounds.is_empty() => {}
            _ => return Err(ControlError::NotAllowed("nothing can be played to this receiver")),
        }
        Ok(())
    }

    /// All that was to be played to one listener has been: it hears the program again, and is told.
    pub fn play_ended(&mut self, name: &RoomName, data: &Value) {
        let number =
            |key| data.get(key).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
        let (Some(track), Some(number)) = (number("track"), number("number")) else { return };
        let Some(room) = self.rooms.get(name) else { return };
        let hears = |feed: &&Feed| {
            feed.playing == Some(number) && feed.source.is_some_and(|source| source.mix == Some(track))
        };
        let of =
            |conn: ConnId| Some((conn, self.members.get(&conn)?.peer.feeds.iter().find(hears)?.consumer));
        let Some((conn, consumer)) = room.everybody().find_map(of) else { return };
        if let Some(feed) = self.feed_mut(conn, consumer) {
            feed.playing = None;
        }
        self.tell_peer(conn, PeerEvent::PlayEnded { consumer });
        self.point(conn, consumer);
    }

    /// Plays sounds once over the room, to those who hear its mix now.
    pub fn play_once(&mut self, name: &RoomName, sounds: Vec<Sound>) {
        if let Some(mix) = self.mixes.get(name) {
            let sounds = sounds.into_iter().chain([Sound::Silence(20)]).collect();
            mix.tell(MixCommand::Play { output: None, sounds, over: true, number: 0 });
        }
    }

    /// Tells a room's mix something, if there is one.
    pub fn tell_mix(&self, name: &RoomName, command: MixCommand) {
        if let Some(mix) = self.mixes.get(name) {
            mix.tell(command);
        }
    }
}

/// What a voice is turned into that cannot be mixed as it is, and what everybody takes.
pub(super) fn opus() -> RtpCodec {
    RtpCodec {
        mime_type: "audio/opus".into(),
        payload_type: 111,
        clock_rate: 48_000,
        channels: Some(2),
        parameters: serde_json::Map::new(),
        rtcp_feedback: Vec::new(),
    }
}
