//! A room in virtual time: who hears which tone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Map;

use super::{amplitude, sine};
use crate::bridge::mix::codec::{Decoder, Encoder, native_rate};
use crate::bridge::mix::config::MixConfig;
use crate::bridge::mix::level::dbfs;
use crate::bridge::mix::mixer::Mix;
use crate::bridge::mix::prompts::Prompts;
use crate::core::capabilities::{Kind, RtpCodec};
use crate::core::convert::{DirectIn, Format, MixCommand, Packet, Sound};
use crate::core::id::{ConnId, WorkerId};
use crate::core::payload::Codec;
use crate::core::time::MediaTime;

fn format(codec: Codec) -> Format {
    let (mime_type, payload_type, clock_rate) = match codec {
        Codec::Opus => ("audio/opus", 111, 48_000),
        Codec::Pcma => ("audio/PCMA", 8, 8_000),
        Codec::G722 => ("audio/G722", 9, 8_000),
        _ => ("audio/PCMU", 0, 8_000),
    };
    let codec = RtpCodec {
        mime_type: mime_type.into(),
        payload_type,
        clock_rate,
        channels: None,
        parameters: Map::new(),
        rtcp_feedback: Vec::new(),
    };
    Format { kind: Kind::Audio, codec, config: Vec::new(), reordered: false }
}

fn conn(number: u32) -> ConnId {
    ConnId::new(0, WorkerId(0), u128::from(number))
}

struct Party {
    number: u32,
    format: Format,
    frequency: f32,
    peak: f32,
    encoder: Encoder,
    native: u32,
    at: usize,
    /// The packets say how loud they are.
    tells: bool,
    /// Milliseconds from its microphone to us.
    far: u64,
}

/// Decodes one output.
struct Ear {
    decoder: Decoder,
    samples: Vec<f32>,
    packets: usize,
}

struct Room {
    mix: Mix,
    parties: Vec<Party>,
    ears: HashMap<u32, Ear>,
    levels: Vec<(u32, i8)>,
    tick: u64,
    last: Vec<(u32, Vec<u8>)>,
    /// How old the newest frame says it is, in microseconds.
    age: i64,
}

/// Rate at which the ears decode.
const EARS: u32 = 48_000;

impl Room {
    fn new(change: impl FnOnce(&mut MixConfig)) -> Room {
        let mut config = MixConfig { opus_complexity: 3, ..MixConfig::default() };
        change(&mut config);
        let mix = Mix::new(Arc::new(config), Prompts::new(HashMap::new(), None));
        Room {
            mix,
            parties: Vec::new(),
            ears: HashMap::new(),
            levels: Vec::new(),
            tick: 0,
            last: Vec::new(),
            age: 0,
        }
    }

    /// A party that talks (a tone) and hears a mix of its own.
    fn call(&mut self, codec: Codec, frequency: f32) -> u32 {
        let number = self.talk(codec, frequency);
        self.listen(1_000 + number, codec, Some(number));
        number
    }

    fn talk(&mut self, codec: Codec, frequency: f32) -> u32 {
        let number = self.parties.len() as u32 + 1;
        let format = format(codec);
        let native = native_rate(&format.codec);
        let encoder = Encoder::new(codec, native, &MixConfig::default()).expect("an encoder");
        let command = MixCommand::AddSource { track: number, owner: conn(number), format: format.clone() };
        self.mix.command(command);
        self.parties.push(Party {
            number,
            format,
            frequency,
            peak: 0.2,
            encoder,
            native,
            at: 0,
            tells: false,
            far: 0,
        });
        number
    }

    fn listen(&mut self, track: u32, codec: Codec, without: Option<u32>) {
        let without = without.map(conn);
        self.mix.command(MixCommand::AddOutput { track, format: format(codec), without });
        let decoder = Decoder::new(codec, EARS).expect("a decoder");
        self.ears.insert(track, Ear { decoder, samples: Vec::new(), packets: 0 });
    }

    fn hang_up(&mut self, number: u32) {
        self.mix.command(MixCommand::RemoveSource { track: number });
        self.mix.command(MixCommand::RemoveOutput { track: 1_000 + number });
        self.parties.retain(|party| party.number != number);
    }

    fn run(&mut self, ticks: u64) {
        for _ in 0..ticks {
            let now = MediaTime::from_micros(self.tick as i64 * 20_000);
            for party in &mut self.parties {
                let packet = party.packet(self.tick, now);
                self.mix.packet(packet);
            }
            let (ears, levels, last) = (&mut self.ears, &mut self.levels, &mut self.last);
            let age = &mut self.age;
            last.clear();
            let mut sink = |value| match value {
                DirectIn::Aged { frame, time } => {
                    *age = now.micros_since(time);
                    assert_eq!(frame.pts, now, "its timestamps run evenly");
                    last.push((frame.track, frame.data.clone()));
                    if let Some(ear) = ears.get_mut(&frame.track) {
                        ear.decoder.decode(&frame.data, &mut ear.samples).expect("a packet");
                        ear.packets += 1;
                    }
                }
                DirectIn::Event { name, data } => {
                    assert_eq!(name, "x.levels");
                    *levels = serde_json::from_value(data["entries"].clone()).expect("numbers and levels");
                }
                other => panic!("{other:?}"),
            };
            self.mix.tick(now, &mut sink).expect("a tick");
            self.tick += 1;
        }
    }

    /// Forgets what was heard and listens for a while. Answers what each output holds of each frequency.
    fn hear(&mut self, ticks: u64) {
        self.ears.values_mut().for_each(|ear| ear.samples.clear());
        self.run(ticks);
    }

    /// How loud a source was said to be.
    fn level(&self, track: u32) -> Option<i8> {
        self.levels.iter().find(|(other, _)| *other == track).map(|(_, level)| *level)
    }

    fn has(&self, output: u32, frequency: f32) -> bool {
        let heard = amplitude(&self.ears[&output].samples, frequency, EARS);
        assert!(!(0.02..0.1).contains(&heard), "{heard} of {frequency} Hz at {output}");
        heard >= 0.1
    }
}

impl Party {
    fn packet(&mut self, tick: u64, now: MediaTime) -> Packet {
        let count = self.native as usize / 50;
        let tone = sine(self.frequency, self.native, self.at + count, self.peak);
        let piece = &tone[self.at..];
        let payload = self.encoder.encode(piece).expect("a packet");
        let level = self
            .tells
            .then(|| (-dbfs(piece).min(0.0)) as u8 & 0x7f | if self.peak > 0.01 { 0x80 } else { 0 });
        // Tones go on for a second, so that the test need not make ever longer ones.
        self.at = (self.at + count) % self.native as usize;
        let ticks = u64::from(self.format.codec.clock_rate) / 50;
        Packet {
            track: self.number,
            sequence: 70_000 + tick,
            timestamp: 1_000_000 + tick * ticks,
            time: now - Duration::from_millis(self.far),
            arrival: now,
            marker: false,
            payload_type: self.format.codec.payload_type,
            level,
            payload,
        }
    }
}

#[test]
fn everybody_hears_the_others_and_not_itself() {
    for codecs in [
        [Codec::Pcmu, Codec::Pcma, Codec::Pcmu],
        [Codec::Opus, Codec::G722, Codec::Pcmu],
        [Codec::Opus, Codec::Opus, Codec::Opus],
    ] {
        let mut room = Room::new(|_| {});
        let tones = [400.0, 700.0, 1_100.0];
        let calls: Vec<u32> = codecs.iter().zip(tones).map(|(codec, tone)| room.call(*codec, tone)).collect();
        room.listen(2_000, Codec::Opus, None);
        room.run(60);
        room.hear(100);
        for (at, number) in calls.iter().enumerate() {
            for (other, tone) in tones.iter().enumerate() {
                assert_eq!(room.has(1_000 + number, *tone), at != other, "{codecs:?}: {number} hears {tone}");
            }
        }
        assert!(tones.iter().all(|tone| room.has(2_000, *tone)), "{codecs:?}: the viewer");
    }
}

#[test]
fn the_rate_is_as_low_as_it_can_be() {
    let mut room = Room::new(|_| {});
    room.call(Codec::Pcmu, 400.0);
    room.call(Codec::Pcma, 700.0);
    assert_eq!(room.mix.rate(), 8_000);
    // A viewer with Opus hears no more of telephones than telephones have.
    room.listen(2_000, Codec::Opus, None);
    assert_eq!(room.mix.rate(), 8_000);
    let browser = room.call(Codec::Opus, 1_000.0);
    assert_eq!(room.mix.rate(), 48_000);
    room.run(50);
    room.hear(50);
    assert!([400.0, 700.0].iter().all(|tone| room.has(1_000 + browser, *tone)));
    room.hang_up(browser);
    room.run(100);
    assert_eq!(room.mix.rate(), 48_000, "it may come back");
    room.run(200);
    assert_eq!(room.mix.rate(), 8_000);
    room.hear(50);
    assert!(room.has(1_001, 700.0) && !room.has(1_001, 1_000.0) && room.has(2_000, 400.0));
}

#[test]
fn only_the_loudest_are_heard_and_only_they_are_decoded() {
    let mut room = Room::new(|config| config.loudest = 3);
    room.listen(2_000, Codec::Opus, None);
    let tones = [300.0, 500.0, 700.0, 900.0, 1_100.0];
    for tone in tones {
        room.talk(Codec::Opus, tone);
    }
    for (party, peak) in room.parties.iter_mut().zip([0.05, 0.3, 0.25, 0.2, 0.04]) {
        (party.peak, party.tells) = (peak, true);
    }
    room.run(100);
    room.hear(100);
    let heard: Vec<f32> =
        tones.iter().map(|tone| amplitude(&room.ears[&2_000].samples, *tone, EARS)).collect();
    assert!(heard[1] > 0.2 && heard[2] > 0.15 && heard[3] > 0.1, "{heard:?}");
    assert!(heard[0] < 0.005 && heard[4] < 0.005, "{heard:?}");
    let decoded: Vec<u64> = room.mix.counts().map(|(_, counts)| counts.decoded).collect();
    assert!(decoded[0] < 10 && decoded[4] < 10 && decoded[1] > 190, "{decoded:?}");
    assert_eq!(room.levels, [], "nobody asked how loud they are");
    room.mix.command(MixCommand::TellLevels(true));
    room.run(20);
    // A sine of a peak of 0.3 has 13.5 dB less than full scale.
    assert_eq!(room.level(2), Some(-13));
    assert!(room.level(1) < room.level(4) && room.level(4) < room.level(3), "{:?}", room.levels);
    // Somebody falls silent: the next takes the place.
    room.parties[1].peak = 0.0;
    room.run(100);
    room.hear(50);
    let heard: Vec<f32> =
        tones.iter().map(|tone| amplitude(&room.ears[&2_000].samples, *tone, EARS)).collect();
    assert!(heard[1] < 0.005 && heard[0] > 0.03, "{heard:?}");
    assert!(
        room.level(2).is_some_and(|level| level < -90) && room.level(3) == Some(-15),
        "{:?}",
        room.levels
    );
    room.mix.command(MixCommand::TellLevels(false));
    room.levels.clear();
    room.run(20);
    assert_eq!(room.levels, []);
}

#[test]
fn who_only_hisses_is_not_decoded_and_a_tone_that_is_no_voice_is_heard() {
    let mut room = Room::new(|_| {});
    room.listen(2_000, Codec::Opus, None);
    let quiet = room.talk(Codec::Opus, 400.0);
    room.talk(Codec::Opus, 700.0);
    room.parties[0].peak = 0.0002;
    room.run(250);
    let decoded: Vec<u64> = room.mix.counts().map(|(_, counts)| counts.decoded).collect();
    assert!(decoded[0] < 60 && decoded[1] > 230, "{decoded:?} with {quiet}");
    room.parties[0].peak = 0.2;
    room.run(40);
    room.hear(50);
    assert!(room.has(2_000, 400.0) && room.has(2_000, 700.0));
}

#[test]
fn nothing_is_decoded_for_nobody() {
    let mut room = Room::new(|_| {});
    let alone = room.call(Codec::Opus, 400.0);
    room.run(100);
    assert!(room.mix.counts().all(|(_, counts)| counts.decoded == 0));
    room.hear(50);
    let level = dbfs(&room.ears[&(1_000 + alone)].samples);
    assert!((-80.0..-60.0).contains(&level), "a line that is not dead: {level}");
    room.listen(2_000, Codec::Pcmu, None);
    room.run(50);
    room.hear(50);
    assert!(room.has(2_000, 400.0) && !room.has(1_000 + alone, 400.0));
}

#[test]
fn who_is_silent_shares_what_all_hear() {
    let mut room = Room::new(|_| {});
    let talks = room.call(Codec::Opus, 400.0);
    let quiet = room.call(Codec::Opus, 700.0);
    let calm = room.call(Codec::Opus, 900.0);
    room.listen(2_000, Codec::Opus, None);
    for party in room.parties.iter_mut().skip(1) {
        party.peak = 0.0;
    }
    room.run(150);
    let of =
        |room: &Room, track: u32| room.last.iter().find(|(t, _)| *t == track).map(|(_, data)| data.clone());
    assert_eq!(of(&room, 1_000 + quiet), of(&room, 2_000));
    assert_eq!(of(&room, 1_000 + calm), of(&room, 2_000));
    assert_ne!(of(&room, 1_000 + talks), of(&room, 2_000));
    // It begins to talk, and does not hear itself.
    room.parties[1].peak = 0.2;
    room.run(30);
    room.hear(50);
    assert!(
        room.has(1_000 + quiet, 400.0) && !room.has(1_000 + quiet, 700.0) && room.has(1_000 + talks, 700.0)
    );
}

#[test]
fn prompts_are_heard_by_one_and_chimes_by_all() {
    let mut room = Room::new(|config| config.chimes = true);
    let one = room.call(Codec::Pcmu, 400.0);
    let two = room.call(Codec::Pcma, 700.0);
    room.run(50);
    let sounds = vec![Sound::Busy];
    room.mix.command(MixCommand::Play { output: Some(1_000 + one), sounds, over: false, number: 7 });
    room.hear(20);
    assert!(room.has(1_000 + one, 425.0) && !room.has(1_000 + one, 700.0) && room.has(1_000 + two, 400.0));
    room.mix.command(MixCommand::Play {
        output: Some(1_000 + one),
        sounds: Vec::new(),
        over: false,
        number: 8,
    });
    room.run(10);
    room.hear(50);
    assert!(!room.has(1_000 + one, 425.0) && room.has(1_000 + one, 700.0));
    let third = room.call(Codec::Pcmu, 1_500.0);
    room.parties[2].peak = 0.0;
    room.hear(4);
    assert!(amplitude(&room.ears[&(1_000 + two)].samples, 660.0, EARS) > 0.03, "{third} joins");
}

#[test]
fn sound_from_afar_is_as_old_as_the_picture_with_it() {
    let mut room = Room::new(|_| {});
    room.talk(Codec::Opus, 400.0);
    room.listen(2_000, Codec::Opus, None);
    room.run(100);
    assert!((20_000..30_000).contains(&room.age), "{}", room.age);
    // Also while somebody talks, for music never pauses.
    room.parties[0].far = 150;
    let before = room.ears[&2_000].packets;
    room.run(300);
    assert!((170_000..195_000).contains(&room.age), "{}", room.age);
    assert_eq!(room.ears[&2_000].packets - before, 300, "and no frame is left out for it");
}

#[test]
fn many_at_once_do_not_crackle() {
    let mut room = Room::new(|_| {});
    for tone in [310.0, 430.0, 590.0, 710.0, 970.0, 1_130.0] {
        room.call(Codec::Pcmu, tone);
    }
    room.parties.iter_mut().for_each(|party| party.peak = 0.6);
    room.listen(2_000, Codec::Opus, None);
    room.run(100);
    room.hear(100);
    let samples = &room.ears[&2_000].samples;
    assert!(samples.iter().all(|sample| sample.abs() < 1.05));
    let tones: f32 = [310.0, 430.0, 590.0, 710.0, 970.0, 1_130.0]
        .iter()
        .map(|tone| amplitude(samples, *tone, EARS).powi(2) / 2.0)
        .sum();
    let whole = samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32;
    assert!(tones / whole > 0.9, "{}", tones / whole);
}

/// Not a test of anything: prints what a leg costs. Run it optimised, alone.
#[test]
#[ignore = "a measurement"]
fn what_a_leg_costs() {
    let room = |codec, talking: usize, max_rate, tells| {
        let mut room = Room::new(|config| (config.max_rate, config.opus_complexity) = (max_rate, 5));
        for n in 0..10 {
            room.call(codec, 300.0 + 70.0 * n as f32);
        }
        for (n, party) in room.parties.iter_mut().enumerate() {
            party.tells = tells;
            party.peak = if n < talking { 0.2 } else { 0.0002 };
        }
        room.ears.clear();
        room.run(100);
        let packets: Vec<Vec<Packet>> = (0..500)
            .map(|tick| {
                let now = MediaTime::from_micros((room.tick + tick) as i64 * 20_000);
                room.parties.iter_mut().map(|party| party.packet(100 + tick, now)).collect()
            })
            .collect();
        let (mut bytes, began) = (0, Instant::now());
        for (n, packets) in packets.into_iter().enumerate() {
            packets.into_iter().for_each(|packet| room.mix.packet(packet));
            let now = MediaTime::from_micros((room.tick as i64 + n as i64) * 20_000);
            let mut sink = |value| match value {
                DirectIn::Aged { frame, .. } => bytes += frame.data.len(),
                _ => bytes += 1,
            };
            room.mix.tick(now, &mut sink).expect("a tick");
        }
        let spent = began.elapsed().as_nanos() / 5_000;
        println!(
            "{codec:?}, {talking} of 10 talk, at {max_rate} Hz, levels {tells}: {spent} ns a leg and 20 ms ({bytes} bytes)"
        );
    };
    for talking in [3, 10] {
        room(Codec::Pcmu, talking, 48_000, false);
        room(Codec::G722, talking, 48_000, false);
        room(Codec::Opus, talking, 16_000, false);
        room(Codec::Opus, talking, 16_000, true);
        room(Codec::Opus, talking, 48_000, true);
    }
}
