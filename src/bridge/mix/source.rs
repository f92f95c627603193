//! One source: packets as the network brings them, 20 ms of sound at each tick.
//!
//! A sample is due a while after the earliest moment it could have been played: as long as nearly all packets are
//! late, and one packet. It is brought there and kept there by periods taken out or put in, and where the difference
//! is small (clocks that drift) by reading a little faster or slower. What is lost is made up; what is only late moves
//! the rest back and is caught up with later. A silent sender (DTX) leaves silence.

use std::collections::VecDeque;

use crate::bridge::mix::codec::{Decoder, duration, voice_flag};
use crate::bridge::mix::conceal::Conceal;
use crate::bridge::mix::config::MixConfig;
use crate::bridge::mix::delay::Delay;
use crate::bridge::mix::drift::{Drift, LEAD};
use crate::bridge::mix::level::{SILENCE, Voice, dbfs, of_packet};
use crate::bridge::mix::pitch;
use crate::core::convert::Packet;
use crate::core::payload::Codec;
use crate::core::time::MediaTime;

/// A tick, in microseconds.
pub const TICK: i64 = 20_000;
/// Beside the packet that is waited for: ticks and lanes are not exact either.
const MARGIN: i64 = 3_000;
/// So far off, in microseconds, periods are taken out or put in ...
const FAR: i64 = 12_000;
/// ... and so far the speed is changed, until ...
const NEAR: i64 = 1_500;
/// ... it is this near.
const THERE: i64 = 400;
/// Parts per million for each microsecond off, and at most.
const PPM: f64 = 0.08;
const MAX_PPM: f64 = 900.0;
/// What is made up fades from here to there, in microseconds.
const FADE: (i64, i64) = (40_000, 100_000);
/// Without packets for so long the source is asleep, in microseconds.
const ASLEEP: i64 = 400_000;
/// A loss of more packets is not made up for.
const MAX_LOST: u64 = 15;
/// A timestamp so far off is another timeline, in seconds.
const JUMP: u64 = 5;
/// Packets held at most: five seconds of 20 ms.
const MAX_PACKETS: usize = 256;
/// What stands for the level (RFC 6464) of a voice, and of none, in a packet that says only that much.
const PRESENT: u8 = 0x80 | 35;
const ABSENT: u8 = 127;
/// Every so many packets that are not decoded, two are.
const LISTEN: u32 = 25;
/// Samples of the last 32 ms are kept to go on from.
const RECENT: u32 = 32;
/// Sound begins and ends over so many milliseconds.
const EDGE: u32 = 5;

/// What came of a source's life, for the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Packets decoded.
    pub decoded: u64,
    /// Packets made up for.
    pub lost: u64,
    /// Packets that came too late.
    pub late: u64,
    /// Ticks without anything to play.
    pub starved: u64,
}

/// See the module.
pub struct Source {
    codec: Codec,
    payload_type: u8,
    clock: u32,
    rate: u32,
    least: i64,
    most: i64,
    queue: VecDeque<Packet>,
    delay: Delay,
    decoder: Decoder,
    stale: bool,
    conceal: Conceal,
    drift: Drift,
    correcting: bool,
    /// How loud it is.
    pub voice: Voice,
    /// Samples to play; the first [`LEAD`] have been played.
    pcm: Vec<f32>,
    recent: Vec<f32>,
    /// Timestamp of what is decoded next; none while nothing is played.
    next: Option<u64>,
    last_sequence: u64,
    last_duration: u64,
    /// Microseconds made up in a row, and how many of them did not move the timestamp on.
    made_up: i64,
    waited: i64,
    fade_in: bool,
    said: Option<bool>,
    /// Levels are [`PRESENT`] and [`ABSENT`]: what is no voice may still be loud, and is listened to now and then.
    guesses: bool,
    skipped: u32,
    last_packet: MediaTime,
    /// When the packet decoded last was captured, and its timestamp.
    captured: Option<(MediaTime, u64)>,
    /// See [`Counts`].
    pub counts: Counts,
}

impl Source {
    /// A source that sends `codec` with an RTP clock of `clock` Hz, for a mix at `rate`; the text says why not.
    pub fn new(
        codec: Codec,
        (payload_type, clock): (u8, u32),
        rate: u32,
        config: &MixConfig,
    ) -> Result<Source, String> {
        let hold = (config.voice_hold_ms / 20).max(5);
        Ok(Source {
            codec,
            payload_type,
            clock: clock.max(1),
            rate,
            least: i64::from(config.jitter_min_ms) * 1_000,
            most: i64::from(config.jitter_max_ms) * 1_000,
            queue: VecDeque::new(),
            delay: Delay::new(clock),
            decoder: Decoder::new(codec, rate)?,
            stale: false,
            conceal: Conceal::default(),
            drift: Drift::default(),
            correcting: false,
            voice: Voice::new(config.voice_dbfs as f32, hold),
            pcm: vec![0.0; LEAD],
            recent: Vec::new(),
            next: None,
            last_sequence: 0,
            last_duration: u64::from(clock) / 50,
            made_up: 0,
            waited: 0,
            fade_in: true,
            said: None,
            guesses: false,
            skipped: 0,
            last_packet: MediaTime::default(),
            captured: None,
            counts: Counts::default(),
        })
    }

    /// The mix runs at another rate from now on.
    pub fn set_rate(&mut self, rate: u32) -> Result<(), String> {
        self.decoder = Decoder::new(self.codec, rate)?;
        self.rate = rate;
        self.sleep();
        Ok(())
    }

    /// Takes a packet.
    pub fn insert(&mut self, mut packet: Packet) {
        if packet.payload_type != self.payload_type && !self.switch(packet.payload_type) {
            // Comfort noise (RFC 3389), or a key: silence that takes its place in the sequence.
            packet.payload.clear();
        }
        if packet.level.is_none() && self.codec == Codec::Opus {
            // How loud is not known, but whether there is a voice.
            self.guesses = true;
            packet.level = voice_flag(&packet.payload).map(|voice| if voice { PRESENT } else { ABSENT });
        }
        let last = self.queue.back().map(|last| last.timestamp).or(self.next);
        if last.is_some_and(|last| packet.timestamp.abs_diff(last) > u64::from(self.clock) * JUMP) {
            self.restart();
        }
        self.last_packet = self.last_packet.max(packet.arrival);
        self.delay.arrived(packet.timestamp, packet.arrival);
        if self.next.is_some() && packet.sequence <= self.last_sequence {
            self.counts.late += 1;
            return;
        }
        let at = self.queue.partition_point(|other| other.sequence < packet.sequence);
        if self.queue.get(at).is_some_and(|other| other.sequence == packet.sequence) {
            return;
        }
        self.queue.insert(at, packet);
        if self.queue.len() > MAX_PACKETS {
            self.queue.pop_front();
        }
    }

    /// A telephone may change its codec without a word, among those with numbers of their own (RFC 3551 §6).
    fn switch(&mut self, payload_type: u8) -> bool {
        let codec = match payload_type {
            0 => Codec::Pcmu,
            8 => Codec::Pcma,
            9 => Codec::G722,
            _ => return false,
        };
        let Ok(decoder) = Decoder::new(codec, self.rate) else { return false };
        (self.codec, self.payload_type, self.decoder) = (codec, payload_type, decoder);
        if self.clock != 8_000 {
            self.clock = 8_000;
        }
        self.restart();
        true
    }

    fn restart(&mut self) {
        self.queue.clear();
        self.delay = Delay::new(self.clock);
        self.sleep();
    }

    /// Nothing is played until packets have waited as they should.
    fn sleep(&mut self) {
        self.next = None;
        self.pcm.clear();
        self.pcm.resize(LEAD, 0.0);
        self.recent.clear();
        self.conceal = Conceal::default();
        self.drift = Drift::default();
        self.stale = true;
        (self.made_up, self.waited) = (0, 0);
    }

    fn target(&self) -> i64 {
        self.delay.lateness().clamp(self.least, self.most.max(self.least)) + TICK + MARGIN
    }

    fn ahead(&self) -> usize {
        self.pcm.len().saturating_sub(LEAD)
    }

    /// Samples decoded and not played.
    #[cfg(test)]
    pub fn ahead_of_time(&self) -> usize {
        self.ahead()
    }

    fn micros(&self, samples: usize) -> i64 {
        samples as i64 * 1_000_000 / i64::from(self.rate)
    }

    /// How long the next sample to play has waited at `now`, in microseconds.
    pub fn waited(&self, now: MediaTime) -> Option<i64> {
        let ahead = self.ahead() as i64 * i64::from(self.clock) / i64::from(self.rate);
        Some(self.delay.waited(self.next? as i64 - ahead, now))
    }

    /// How old the next sample to play is at `now`, in microseconds.
    pub fn age(&self, now: MediaTime) -> Option<i64> {
        let (time, timestamp) = self.captured?;
        let ahead = self.ahead() as i64 * i64::from(self.clock) / i64::from(self.rate);
        let since = (self.next? as i64 - ahead - timestamp as i64) * 1_000_000 / i64::from(self.clock);
        Some(now.micros_since(time) - since)
    }

    /// Whether the packets say how loud they are.
    pub fn tells_level(&self) -> bool {
        self.queue.back().map_or(self.said.is_some(), |packet| packet.level.is_some())
    }

    /// Whether a packet that is about to be played says that somebody talks.
    pub fn upcoming(&self, now: MediaTime) -> bool {
        let soon = self.target() - 2 * TICK;
        let due = self.queue.iter().filter(|packet| self.delay.waited(packet.timestamp as i64, now) >= soon);
        due.filter_map(|packet| packet.level).any(|level| self.voice.would_count(of_packet(level)))
    }

    /// Lets 20 ms pass without decoding; `heard`: somebody would hear it if it were loud enough.
    pub fn skip(&mut self, now: MediaTime, heard: bool) {
        if self.next.is_some() {
            self.sleep();
        }
        let target = self.target();
        let mut level = None;
        while let Some(packet) = self.queue.front()
            && self.delay.waited(packet.timestamp as i64, now) >= target
        {
            level = packet.level.or(level);
            let Some(packet) = self.queue.pop_front() else { break };
            if self.guesses && heard {
                self.skipped = (self.skipped + 1) % LISTEN;
                match self.skipped {
                    0 => self.listen(&packet, true),
                    1 => {
                        self.listen(&packet, false);
                        let heard = dbfs(&self.pcm[LEAD..]);
                        self.pcm.truncate(LEAD);
                        self.voice.note(heard, None);
                        return;
                    }
                    _ => {}
                }
            }
        }
        match level.map(of_packet) {
            Some((dbfs, said)) => {
                self.said = Some(said);
                self.voice.note(dbfs, Some(said));
            }
            None if now.micros_since(self.last_packet) > 5 * TICK => self.voice.note(SILENCE, None),
            None => {}
        }
    }

    /// Decodes one packet only to hear how loud it is; the first of two puts the decoder into the picture.
    fn listen(&mut self, packet: &Packet, first: bool) {
        if first {
            self.decoder.reset();
            self.stale = true;
        }
        self.pcm.truncate(LEAD);
        // What cannot be decoded is not heard.
        drop(self.decoder.decode(&packet.payload, &mut self.pcm));
        if first {
            self.pcm.truncate(LEAD);
        }
    }

    /// The next 20 ms. Answers whether there was anything.
    pub fn pull(&mut self, now: MediaTime, output: &mut [f32]) -> bool {
        self.begin(now);
        if self.next.is_none() {
            output.fill(0.0);
            self.voice.note(SILENCE, None);
            return false;
        }
        self.adjust(now);
        while self.pcm.len() < self.drift.needs(output.len()) && self.next.is_some() {
            self.step(now, output.len());
        }
        if self.pcm.len() < self.drift.needs(output.len()) {
            output.fill(0.0);
            return false;
        }
        let spent = self.drift.read(&self.pcm, output);
        self.pcm.drain(..spent);
        self.voice.note(dbfs(output), self.said);
        true
    }

    fn begin(&mut self, now: MediaTime) {
        let (None, Some(first)) = (self.next, self.queue.front()) else { return };
        // Within this tick it will have waited as long as it should.
        let early = self.target() - self.delay.waited(first.timestamp as i64, now);
        if early > TICK - MARGIN {
            return;
        }
        let silence = early.max(0) * i64::from(self.rate) / 1_000_000;
        self.pcm.resize(LEAD + silence as usize, 0.0);
        (self.next, self.last_sequence) = (Some(first.timestamp), first.sequence.wrapping_sub(1));
        self.fade_in = true;
        if std::mem::take(&mut self.stale) {
            self.decoder.reset();
        }
    }

    /// Brings the delay to what it should be.
    fn adjust(&mut self, now: MediaTime) {
        let Some(waited) = self.waited(now) else { return };
        let off = waited - self.target();
        if off.abs() > FAR {
            if self.made_up > 0 {
                return;
            }
            let room = self.rate as usize * 30 / 1_000;
            while self.ahead() < room && self.follows() {
                self.step(now, 0);
            }
            let rate = self.rate;
            match off > 0 {
                // Nothing may be taken that would be missing at this tick.
                true if self.ahead() >= room => drop(pitch::take_out(&mut self.pcm, LEAD, rate)),
                false if self.ahead() > 0 => drop(pitch::put_in(&mut self.pcm, LEAD, rate)),
                _ => {}
            }
        }
        self.correcting = off.abs() > if self.correcting { THERE } else { NEAR };
        let ppm = if self.correcting { (off as f64 * PPM).clamp(-MAX_PPM, MAX_PPM) } else { 0.0 };
        // No less than what works the rest off in a while.
        self.drift.set(if self.correcting { ppm.abs().max(300.0).copysign(ppm) } else { 0.0 });
    }

    /// Whether the packet that comes next is there.
    fn follows(&self) -> bool {
        self.queue.front().is_some_and(|packet| self.next.is_some_and(|next| packet.timestamp <= next))
    }

    /// Makes some more samples: decoded, or made up.
    fn step(&mut self, now: MediaTime, frame: usize) {
        let Some(next) = self.next else { return };
        let Some(first) = self.queue.front() else {
            self.starve(now, frame);
            return;
        };
        if first.payload.is_empty() {
            (self.last_sequence, self.next) = (first.sequence, Some(next.max(first.timestamp)));
            self.queue.pop_front();
            self.silence(frame);
            return;
        }
        let gap = first.timestamp.saturating_sub(next);
        if gap == 0 {
            self.decode();
            return;
        }
        let missing = first.sequence.saturating_sub(self.last_sequence + 1);
        if missing == 0 || missing > MAX_LOST || gap > u64::from(self.clock) {
            // The sender was silent, or more is lost than can be made up for.
            if self.delay.waited(first.timestamp as i64, now) >= self.target() - MARGIN {
                self.next = Some(first.timestamp);
                self.decode();
            } else {
                self.silence(frame);
            }
            return;
        }
        // What was made up while nothing came counts for what is missing.
        let spent = (self.waited * i64::from(self.clock) / 1_000_000).max(0) as u64;
        if spent > 0 {
            self.waited = 0;
            self.counts.lost += missing;
            self.next = Some(next + spent.min(gap));
            return;
        }
        let ticks = self.last_duration.clamp(1, gap);
        self.counts.lost += 1;
        self.make_up(ticks, gap <= self.last_duration);
        self.next = Some(next + ticks);
    }

    fn decode(&mut self) {
        let Some(packet) = self.queue.pop_front() else { return };
        let before = self.pcm.len();
        let ticks = duration(self.codec, &packet.payload).max(1);
        if self.decoder.decode(&packet.payload, &mut self.pcm).is_err() {
            self.pcm.truncate(before);
            self.make_up(ticks, false);
        } else {
            self.counts.decoded += 1;
            self.blend(before);
        }
        self.said = packet.level.map(|level| of_packet(level).1);
        self.captured = Some((packet.time, packet.timestamp));
        self.last_sequence = packet.sequence;
        self.last_duration = ticks;
        self.next = Some(packet.timestamp + ticks);
        (self.made_up, self.waited) = (0, 0);
        self.remember(before);
    }

    /// Joins what was decoded to what was made up before it.
    fn blend(&mut self, from: usize) {
        if self.conceal.is_running() {
            self.conceal.end(&mut self.pcm[from..], self.rate);
        } else if self.fade_in || self.made_up > FADE.0 {
            let (begin, length) = (self.fade(), (self.rate * EDGE / 1_000) as usize);
            let begin = if self.fade_in { 0.0 } else { begin };
            for (at, sample) in self.pcm[from..].iter_mut().take(length).enumerate() {
                *sample *= begin + (1.0 - begin) * at as f32 / length as f32;
            }
        }
        self.fade_in = false;
    }

    fn remember(&mut self, from: usize) {
        if self.decoder.conceals() {
            return;
        }
        let keep = (self.rate * RECENT / 1_000) as usize;
        self.recent.extend_from_slice(&self.pcm[from..]);
        let surplus = self.recent.len().saturating_sub(keep);
        self.recent.drain(..surplus);
    }

    /// Loudness of what is made up now.
    fn fade(&self) -> f32 {
        let share = (self.made_up - FADE.0) as f32 / (FADE.1 - FADE.0) as f32;
        1.0 - share.clamp(0.0, 1.0)
    }

    /// Makes up `ticks`, from the packet behind the gap if it may have a copy.
    fn make_up(&mut self, ticks: u64, copy: bool) {
        let count = (ticks * u64::from(self.rate) / u64::from(self.clock)).max(1) as usize;
        let before = self.pcm.len();
        let gain = self.fade();
        if gain == 0.0 {
            self.pcm.resize(before + count, 0.0);
        } else if self.decoder.conceals() {
            let next = self.queue.front().filter(|_| copy).map(|packet| &packet.payload[..]);
            if !self.decoder.conceal(next, count, &mut self.pcm) {
                self.pcm.resize(before + count, 0.0);
            }
            self.made_up += self.micros(self.pcm.len() - before);
            let end = self.fade();
            let length = (self.pcm.len() - before).max(1) as f32;
            if end < 1.0 {
                for (at, sample) in self.pcm[before..].iter_mut().enumerate() {
                    *sample *= gain + (end - gain) * at as f32 / length;
                }
            }
            return;
        } else {
            self.conceal.fill(&self.recent, count, self.rate, &mut self.pcm);
        }
        self.made_up += self.micros(count);
    }

    /// Nothing is there to play.
    fn starve(&mut self, now: MediaTime, frame: usize) {
        if now.micros_since(self.last_packet) > ASLEEP {
            self.sleep();
            return;
        }
        self.counts.starved += u64::from(self.made_up == 0);
        self.silence(frame);
    }

    /// The timestamp stays where it is.
    fn silence(&mut self, frame: usize) {
        let count = if frame == 0 { self.rate as usize / 50 } else { frame };
        let before = self.pcm.len();
        self.make_up(count as u64 * u64::from(self.clock) / u64::from(self.rate), false);
        self.waited += self.micros(self.pcm.len() - before);
    }
}
