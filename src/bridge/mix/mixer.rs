//! One room's mix as a value: packets and commands in, frames out, a tick each 20 ms.
//!
//! Who takes part is decided first, by levels; only then is decoded. A source that nobody could hear (the only
//! listener is its own) is not decoded at all, one that says how loud it is only while it is among the loudest.
//! Who does not take part hears what everybody hears, in the same encoding.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;

use crate::bridge::mix::codec::{Encoder, native_rate};
use crate::bridge::mix::config::MixConfig;
use crate::bridge::mix::level::gain;
use crate::bridge::mix::limiter::Limiter;
use crate::bridge::mix::player::Player;
use crate::bridge::mix::prompts::Prompts;
use crate::bridge::mix::source::{Source, TICK};
use crate::core::convert::{DirectIn, Format, MixCommand, Packet, Sound};
use crate::core::id::ConnId;
use crate::core::payload::Codec;
use crate::core::session::Frame;
use crate::core::time::MediaTime;

/// How old sound is when it is mixed, in microseconds, as long as nothing else is known: its packet, and the wait for
/// it. Pictures that were taken at the same time are shown with it.
const AGE: i64 = 40_000;
/// Ticks in which it follows what is found: reports to receivers are a second apart and more.
const SLOWLY: i64 = 32;
/// The oldest that is believed.
const OLDEST: i64 = 400_000;
/// Those that take part are given up for somebody louder by so many dB.
const PREFERENCE: f32 = 4.0;
/// A lower rate is taken after so many ticks in which it would have done.
const CALM: u32 = 250;
/// Who hears a mix of their own goes on doing so for so many ticks.
const OWN: u32 = 50;

struct Input {
    track: u32,
    owner: ConnId,
    native: u32,
    source: Source,
    frame: Vec<f32>,
    /// Loudness at the end of the last tick: 0 or 1.
    gain: f32,
    chosen: bool,
    /// It is in this tick's sum.
    sounds: bool,
}

struct Output {
    track: u32,
    codec: Codec,
    native: u32,
    without: Option<ConnId>,
    own: Option<(Encoder, Limiter)>,
    own_ticks: u32,
    player: Option<Player>,
}

/// What everybody hears who is not heard.
#[derive(Default)]
struct Common {
    encoder: Option<Encoder>,
    limiter: Limiter,
    idle: bool,
}

/// See the module.
pub struct Mix {
    config: Arc<MixConfig>,
    prompts: Prompts,
    rate: u32,
    calm: u32,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    commons: HashMap<Codec, Common>,
    /// Played to all.
    player: Option<Player>,
    /// What has been played to its end, and where.
    played: Vec<(u32, u32)>,
    /// Ticks since levels were told, where they are wanted.
    levels: Option<u32>,
    /// How old what goes out is.
    age: i64,
    noise: Noise,
    sum: Vec<f32>,
    scratch: Vec<f32>,
}

/// What an encoder made of 20 ms.
#[derive(Clone)]
struct Coded {
    /// Nothing, where a packet is longer than that.
    data: Vec<u8>,
    /// Microseconds by which it begins later.
    lead: i64,
}

impl Coded {
    fn of(encoder: &mut Encoder, samples: &[f32]) -> Result<Coded, String> {
        let data = encoder.encode(samples).map_err(|error| format!("the encoder failed: {error}"))?;
        Ok(Coded { data, lead: encoder.lead() })
    }
}

impl Mix {
    /// A mix without sources and listeners.
    pub fn new(config: Arc<MixConfig>, prompts: Prompts) -> Mix {
        Mix {
            noise: Noise::new(config.comfort_noise_dbfs),
            config,
            prompts,
            rate: 8_000,
            calm: 0,
            inputs: Vec::new(),
            outputs: Vec::new(),
            commons: HashMap::new(),
            player: None,
            played: Vec::new(),
            levels: None,
            age: AGE,
            sum: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Samples per second it runs at.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// Takes a packet of a source.
    pub fn packet(&mut self, packet: Packet) {
        if let Some(input) = self.inputs.iter_mut().find(|input| input.track == packet.track) {
            input.source.insert(packet);
        }
    }

    /// Takes a command.
    pub fn command(&mut self, command: MixCommand) {
        match command {
            MixCommand::AddSource { track, owner, format } => {
                self.add_source(track, owner, &format);
                self.chime(Sound::JoinChime);
            }
            MixCommand::RemoveSource { track } => {
                let before = self.inputs.len();
                self.inputs.retain(|input| input.track != track);
                if self.inputs.len() < before {
                    self.chime(Sound::LeaveChime);
                }
            }
            MixCommand::AddOutput { track, format, without } => {
                let codec = Codec::from_mime(&format.codec.mime_type);
                let native = native_rate(&format.codec);
                let output = Output { track, codec, native, without, own: None, own_ticks: 0, player: None };
                self.outputs.push(output);
            }
            MixCommand::TellLevels(wanted) => {
                for input in &mut self.inputs {
                    input.source.voice.take_mean();
                }
                self.levels = wanted.then_some(0);
            }
            MixCommand::RemoveOutput { track } => self.outputs.retain(|output| output.track != track),
            MixCommand::Play { output, sounds, over, number } => {
                let player = (!sounds.is_empty()).then(|| Player::new(sounds, over, number));
                match output {
                    None => self.player = player,
                    Some(track) => {
                        let found = self.outputs.iter_mut().find(|output| output.track == track);
                        found.into_iter().for_each(|output| output.player = None);
                        if let Some(output) = self.outputs.iter_mut().find(|output| output.track == track) {
                            output.player = player;
                        }
                    }
                }
            }
        }
        self.suit_rate(true);
    }

    fn chime(&mut self, sound: Sound) {
        // Nothing that somebody had played is cut off by it.
        if self.config.chimes && !self.outputs.is_empty() && self.player.is_none() {
            self.player = Some(Player::new(vec![sound], true, 0));
        }
    }

    fn add_source(&mut self, track: u32, owner: ConnId, format: &Format) {
        let codec = Codec::from_mime(&format.codec.mime_type);
        let numbers = (format.codec.payload_type, format.codec.clock_rate);
        match Source::new(codec, numbers, self.rate, &self.config) {
            Ok(source) => self.inputs.push(Input {
                track,
                owner,
                native: native_rate(&format.codec),
                source,
                frame: Vec::new(),
                gain: 0.0,
                chosen: false,
                sounds: false,
            }),
            Err(reason) => tracing::warn!(conn = %owner, "a voice cannot be mixed: {reason}"),
        }
    }

    /// The rate at which nothing is lost that anybody sends and anybody could hear; lower only once that has been
    /// enough for a while.
    fn suit_rate(&mut self, now: bool) {
        let sent = self.inputs.iter().map(|input| input.native).max();
        let heard = self.outputs.iter().map(|output| output.native).max();
        let (Some(sent), Some(heard)) = (sent, heard) else { return };
        let wanted = sent.min(heard).min(self.config.max_rate.max(8_000));
        self.calm = if wanted < self.rate { self.calm + u32::from(!now) } else { 0 };
        if wanted > self.rate || self.calm > CALM {
            self.set_rate(wanted);
        }
    }

    fn set_rate(&mut self, rate: u32) {
        (self.rate, self.calm) = (rate, 0);
        for input in &mut self.inputs {
            input.gain = 0.0;
            if let Err(reason) = input.source.set_rate(rate) {
                tracing::warn!(conn = %input.owner, "a voice cannot be mixed any more: {reason}");
            }
        }
        self.commons.clear();
        for output in &mut self.outputs {
            output.own = None;
            output.player.iter_mut().for_each(|player| player.set_rate(rate));
        }
        self.player.iter_mut().for_each(|player| player.set_rate(rate));
    }

    /// 20 ms pass, up to `now`. `Err` is a sentence for people and ends the mix.
    pub fn tick(&mut self, now: MediaTime, sink: &mut dyn FnMut(DirectIn)) -> Result<(), String> {
        self.suit_rate(false);
        self.choose(now);
        self.add_up(now);
        self.tell_levels(sink);
        self.note_age(now);
        self.send(now, sink)
    }

    /// The loudest decides how old the mix is.
    fn note_age(&mut self, now: MediaTime) {
        let heard = self.inputs.iter().filter(|input| input.chosen && input.source.voice.is_speaking());
        let loudest = heard.max_by(|a, b| a.source.voice.score().total_cmp(&b.source.voice.score()));
        if let Some(age) = loudest.and_then(|input| input.source.age(now)) {
            // What was taken for this tick comes before what is next.
            self.age += ((age + TICK).clamp(0, OLDEST) - self.age) / SLOWLY;
        }
    }

    /// Decides who takes part.
    fn choose(&mut self, now: MediaTime) {
        let mut order: Vec<(f32, usize)> = Vec::new();
        for (at, input) in self.inputs.iter_mut().enumerate() {
            let owner = input.owner;
            let heard = self.outputs.iter().any(|output| output.without != Some(owner));
            let upcoming = input.source.upcoming(now);
            if heard && (input.source.voice.is_active() || upcoming || !input.source.tells_level()) {
                let preference = if input.chosen { PREFERENCE } else { 0.0 };
                order.push((input.source.voice.score() + preference, at));
            }
        }
        // Those that do not say how loud they are must be decoded anyway to be judged.
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut places = self.config.loudest;
        let mut decoded = vec![false; self.inputs.len()];
        for (_, at) in order {
            let input = &mut self.inputs[at];
            let active = input.source.voice.is_active() || input.source.upcoming(now);
            input.chosen = active && places > 0;
            places -= usize::from(input.chosen);
            decoded[at] = input.chosen || !input.source.tells_level() || input.gain > 0.0;
        }
        let length = self.rate as usize / 50;
        for (input, decoded) in self.inputs.iter_mut().zip(decoded) {
            if decoded {
                input.frame.resize(length, 0.0);
                input.source.pull(now, &mut input.frame);
                input.sounds = input.chosen || input.gain > 0.0;
            } else {
                let owner = Some(input.owner);
                input.source.skip(now, self.outputs.iter().any(|output| output.without != owner));
                (input.chosen, input.sounds, input.gain) = (false, false, 0.0);
            }
        }
    }

    /// Sums those that take part; who begins or ends to does so over 5 ms.
    fn add_up(&mut self, _now: MediaTime) {
        let length = self.rate as usize / 50;
        self.sum.clear();
        self.sum.resize(length, 0.0);
        for input in self.inputs.iter_mut().filter(|input| input.sounds) {
            let target = if input.chosen { 1.0 } else { 0.0 };
            if input.gain != target {
                let edge = (length / 4) as f32;
                for (at, sample) in input.frame.iter_mut().enumerate() {
                    *sample *= input.gain + (target - input.gain) * (at as f32 / edge).min(1.0);
                }
                input.gain = target;
            }
            self.sum.iter_mut().zip(&input.frame).for_each(|(sum, sample)| *sum += sample);
        }
    }

    /// How loud everybody was lately, for those who want to know who speaks.
    fn tell_levels(&mut self, sink: &mut dyn FnMut(DirectIn)) {
        let Some(ticks) = &mut self.levels else { return };
        *ticks += 1;
        if *ticks < MixCommand::LEVELS_MS / 20 {
            return;
        }
        *ticks = 0;
        let heard = |input: &mut Input| Some((input.track, input.source.voice.take_mean()?));
        let entries: Vec<(u32, i8)> = self.inputs.iter_mut().filter_map(heard).collect();
        sink(DirectIn::Event { name: "x.levels", data: json!({"entries": entries}) });
    }

    fn send(&mut self, now: MediaTime, sink: &mut dyn FnMut(DirectIn)) -> Result<(), String> {
        self.noise.add(&mut self.sum);
        let mut prompts_end = false;
        if let Some(player) = &mut self.player {
            if !player.over {
                self.sum.fill(0.0);
            }
            prompts_end = !player.add(self.rate, &self.prompts, &mut self.sum);
        }
        if prompts_end {
            self.player = None;
        }
        let time = MediaTime::from_micros(now.as_micros() - self.age);
        let mut ready: HashMap<Codec, Coded> = HashMap::new();
        let mut outputs = std::mem::take(&mut self.outputs);
        let mut result = Ok(());
        for output in &mut outputs {
            let Coded { data, lead } = match self.encode(output, &mut ready) {
                Ok(coded) => coded,
                Err(reason) => {
                    result = Err(reason);
                    break;
                }
            };
            if data.is_empty() {
                continue;
            }
            let (track, later) =
                (output.track, |at: MediaTime| MediaTime::from_micros(at.as_micros() + lead));
            let pts = later(now);
            let frame = Frame { track, pts, dts: pts, keyframe: true, discardable: false, data };
            sink(DirectIn::Aged { frame, time: later(time) });
        }
        self.outputs = outputs;
        for (track, number) in self.played.drain(..) {
            sink(DirectIn::Event { name: "x.playend", data: json!({"track": track, "number": number}) });
        }
        for (codec, common) in &mut self.commons {
            common.idle = !ready.contains_key(codec);
        }
        result
    }

    fn encode(&mut self, output: &mut Output, ready: &mut HashMap<Codec, Coded>) -> Result<Coded, String> {
        let mine = |input: &&Input| input.sounds && Some(input.owner) == output.without;
        let contributes = self.inputs.iter().any(|input| mine(&input)) || output.player.is_some();
        output.own_ticks = if contributes { OWN } else { output.own_ticks.saturating_sub(1) };
        if output.own_ticks == 0 {
            output.own = None;
            return match ready.get(&output.codec) {
                Some(coded) => Ok(coded.clone()),
                None => {
                    let coded = self.encode_common(output.codec)?;
                    ready.insert(output.codec, coded.clone());
                    Ok(coded)
                }
            };
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.sum);
        for input in self.inputs.iter().filter(mine) {
            self.scratch.iter_mut().zip(&input.frame).for_each(|(sum, sample)| *sum -= sample);
        }
        if let Some(player) = &mut output.player {
            if !player.over {
                self.scratch.fill(0.0);
            }
            if !player.add(self.rate, &self.prompts, &mut self.scratch) {
                self.played.push((output.track, player.number));
                output.player = None;
            }
        }
        let (encoder, limiter) = match &mut output.own {
            Some(own) => own,
            None => {
                let encoder = Encoder::new(output.codec, self.rate, &self.config)?;
                output.own.insert((encoder, Limiter::default()))
            }
        };
        limiter.process(&mut self.scratch);
        Coded::of(encoder, &self.scratch)
    }

    fn encode_common(&mut self, codec: Codec) -> Result<Coded, String> {
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.sum);
        let common = self.commons.entry(codec).or_default();
        common.limiter.process(&mut self.scratch);
        let encoder = match &mut common.encoder {
            Some(encoder) => {
                if common.idle {
                    encoder.restart();
                }
                encoder
            }
            None => common.encoder.insert(Encoder::new(codec, self.rate, &self.config)?),
        };
        Coded::of(encoder, &self.scratch)
    }

    /// What became of the packets of each source.
    pub fn counts(&self) -> impl Iterator<Item = (ConnId, crate::bridge::mix::source::Counts)> {
        self.inputs.iter().map(|input| (input.owner, input.source.counts))
    }
}

impl Drop for Mix {
    fn drop(&mut self) {
        for (conn, counts) in self.counts() {
            tracing::debug!(%conn, ?counts, "a mixed voice");
        }
    }
}

/// Noise so soft that nobody hears it and no line sounds dead.
struct Noise {
    gain: f32,
    seed: u32,
    last: f32,
}

impl Noise {
    fn new(dbfs: i32) -> Noise {
        // Uniform noise between -1 and 1 has -4.8 dB, and the filter takes another 1.2.
        let level = if dbfs <= -100 { 0.0 } else { gain(dbfs as f32 + 6.0) };
        Noise { gain: level, seed: 0x2545_f491, last: 0.0 }
    }

    fn add(&mut self, samples: &mut [f32]) {
        if self.gain == 0.0 {
            return;
        }
        for sample in samples {
            self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let white = (self.seed >> 8) as f32 / (1 << 23) as f32 - 1.0;
            *sample += (white + self.last) * 0.5 * self.gain;
            self.last = white;
        }
    }
}

/// Ticks between two moments that are whole ticks apart but for the rounding of clocks.
pub fn ticks_between(from: MediaTime, to: MediaTime) -> i64 {
    (to.micros_since(from) + TICK / 2).div_euclid(TICK)
}
