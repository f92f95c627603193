//! Telephone events, the keys of a telephone, in RTP (RFC 4733): read from what a party sends, played into
//! what it is sent.
//!
//! An event is a run of packets with one timestamp and a growing duration; the last is marked as the end and
//! sent three times. Which packets belong together is told by the timestamp alone, because markers are set
//! wrongly and any packet may be lost or come twice.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::time::MediaTime;

/// The keys, in the order of their event numbers (RFC 4733 §3.2).
const KEYS: &str = "0123456789*#ABCD";
/// An event whose end never comes is over when nothing was heard of it for this long.
const LOST_END: Duration = Duration::from_millis(200);
/// Between the packets of an event.
const STEP: Duration = Duration::from_millis(20);
/// Between the end of one event and the beginning of the next.
const GAP: Duration = Duration::from_millis(80);
/// What a comma stands for.
const PAUSE: Duration = Duration::from_millis(1000);
/// How often the end of an event is sent.
const ENDS: u8 = 3;
/// Power of the tone, in dB below the reference (0 to 63).
const VOLUME: u8 = 10;
/// Keys that may wait to be played.
const MAX_WAITING: usize = 128;
/// Bounds of one key's length.
const LENGTHS: (u32, u32) = (40, 6000);

/// A key that was pressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tone {
    /// `0` to `9`, `*`, `#`, `A` to `D`.
    pub key: char,
    /// How long, in milliseconds.
    pub duration_ms: u32,
}

/// Reads the events of one party.
#[derive(Clone, Debug, Default)]
pub struct ToneReceiver {
    /// Payload types with their clock rates.
    types: Vec<(u8, u32)>,
    current: Option<Current>,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    key: char,
    timestamp: u32,
    clock: u32,
    /// Ticks of earlier segments of a long event (RFC 4733 §2.5.1.3).
    before: u64,
    duration: u16,
    heard: MediaTime,
    told: bool,
}

impl Current {
    fn tone(&self) -> Tone {
        let ticks = self.before.saturating_add(u64::from(self.duration));
        let millis = ticks.saturating_mul(1000).checked_div(u64::from(self.clock)).unwrap_or(0);
        Tone { key: self.key, duration_ms: u32::try_from(millis).unwrap_or(u32::MAX) }
    }
}

impl ToneReceiver {
    /// For the given payload types, each with its clock rate.
    pub fn new(types: Vec<(u8, u32)>) -> Self {
        ToneReceiver { types, current: None }
    }

    /// Takes further payload types in.
    pub fn add_types(&mut self, types: &[(u8, u32)]) {
        for (payload_type, clock) in types {
            self.types.retain(|(known, _)| known != payload_type);
            self.types.push((*payload_type, *clock));
        }
    }

    /// Whether packets of `payload_type` are events.
    pub fn takes(&self, payload_type: u8) -> bool {
        self.types.iter().any(|(known, _)| *known == payload_type)
    }

    /// Takes one packet; tones that are complete are added to `out`.
    pub fn receive(
        &mut self,
        now: MediaTime,
        payload_type: u8,
        timestamp: u32,
        payload: &[u8],
        out: &mut Vec<Tone>,
    ) {
        let Some((_, clock)) = self.types.iter().find(|(known, _)| *known == payload_type) else { return };
        let Some(&[event, flags, d0, d1]) = payload.first_chunk::<4>() else { return };
        let Some(key) = KEYS.chars().nth(usize::from(event)) else { return };
        let (end, duration) = (flags & 0x80 != 0, u16::from_be_bytes([d0, d1]));
        let mut before = 0;
        if let Some(current) = &mut self.current {
            let step = timestamp.wrapping_sub(current.timestamp);
            if step == 0 {
                current.duration = current.duration.max(duration);
                current.heard = now;
                if end && !std::mem::replace(&mut current.told, true) {
                    out.push(current.tone());
                }
                return;
            }
            if step > u32::MAX / 2 && now.micros_since(current.heard) < 2_000_000 {
                return; // of an event before this one
            }
            let goes_on = !current.told && current.key == key && step == u32::from(current.duration);
            if goes_on {
                before = current.before.saturating_add(u64::from(current.duration));
            } else if !current.told {
                out.push(current.tone());
            }
        }
        let current = Current { key, timestamp, clock: *clock, before, duration, heard: now, told: end };
        if end {
            out.push(current.tone());
        }
        self.current = Some(current);
    }

    /// When to call [`ToneReceiver::handle_timeout`].
    pub fn next_timeout(&self) -> Option<MediaTime> {
        self.current.filter(|current| !current.told).map(|current| after(current.heard, LOST_END))
    }

    /// The tone whose end was lost, if there is one.
    pub fn handle_timeout(&mut self, now: MediaTime) -> Option<Tone> {
        self.next_timeout().filter(|at| now >= *at)?;
        let current = self.current.as_mut()?;
        current.told = true;
        Some(current.tone())
    }
}

/// One packet of an event to send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TonePacket {
    /// The first of its event: it carries the marker and fixes the timestamp.
    pub first: bool,
    /// The event, by number.
    pub event: u8,
    /// The event is over.
    pub end: bool,
    /// How long it has lasted.
    pub elapsed: Duration,
}

impl TonePacket {
    /// The payload, for a clock of `rate` Hz.
    pub fn payload(&self, rate: u32) -> [u8; 4] {
        let ticks = self.elapsed.as_micros().saturating_mul(u128::from(rate)) / 1_000_000;
        let [d0, d1] = u16::try_from(ticks).unwrap_or(u16::MAX).to_be_bytes();
        [self.event, (u8::from(self.end) << 7) | VOLUME, d0, d1]
    }
}

/// Plays keys, one after another.
#[derive(Clone, Debug, Default)]
pub struct TonePlayer {
    waiting: VecDeque<(Option<u8>, Duration)>,
    playing: Option<Playing>,
    /// Nothing begins before.
    rest: Option<MediaTime>,
}

#[derive(Clone, Copy, Debug)]
struct Playing {
    event: u8,
    begun: MediaTime,
    length: Duration,
    next: MediaTime,
    first: bool,
    ends: u8,
}

impl TonePlayer {
    /// Adds keys, each `millis` long; a comma is a pause of a second. Refuses all when one of them is no key.
    pub fn play(&mut self, now: MediaTime, keys: &str, millis: u32) -> Result<(), String> {
        let length = Duration::from_millis(u64::from(millis.clamp(LENGTHS.0, LENGTHS.1)));
        let mut added = Vec::new();
        for key in keys.chars() {
            let event = KEYS.chars().position(|known| known == key.to_ascii_uppercase());
            match (event.and_then(|event| u8::try_from(event).ok()), key) {
                (Some(event), _) => added.push((Some(event), length)),
                (None, ',') => added.push((None, PAUSE)),
                (None, _) => return Err(format!("\"{key}\" is no key of a telephone")),
            }
        }
        if self.waiting.len().saturating_add(added.len()) > MAX_WAITING {
            return Err("too many keys wait to be played".into());
        }
        self.waiting.extend(added);
        self.rest.get_or_insert(now);
        Ok(())
    }

    /// Whether a key sounds now: other sound is left out.
    pub fn is_sounding(&self) -> bool {
        self.playing.is_some()
    }

    /// When the next packet is due.
    pub fn next(&self) -> Option<MediaTime> {
        match &self.playing {
            Some(playing) => Some(playing.next),
            None if self.waiting.is_empty() => None,
            None => self.rest,
        }
    }

    /// The next packet that is due; call until there is none.
    pub fn poll(&mut self, now: MediaTime) -> Option<TonePacket> {
        while self.playing.is_none() {
            self.next().filter(|at| now >= *at)?;
            let (event, length) = self.waiting.pop_front()?;
            match event {
                Some(event) => {
                    let next = after(now, STEP);
                    self.playing = Some(Playing { event, begun: now, length, next, first: true, ends: 0 });
                }
                None => self.rest = Some(after(now, length)),
            }
        }
        let playing = self.playing.as_mut()?;
        if now < playing.next {
            return None;
        }
        let elapsed = playing.next.micros_since(playing.begun);
        let elapsed = Duration::from_micros(u64::try_from(elapsed).unwrap_or(0)).min(playing.length);
        let end = elapsed == playing.length;
        let packet = TonePacket { first: playing.first, event: playing.event, end, elapsed };
        playing.first = false;
        playing.next = after(playing.next, STEP);
        playing.ends = playing.ends.saturating_add(u8::from(end));
        if playing.ends >= ENDS {
            self.playing = None;
            self.rest = Some(after(now, GAP));
        }
        Some(packet)
    }
}

fn after(time: MediaTime, span: Duration) -> MediaTime {
    MediaTime(time.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    fn ms(millis: i64) -> MediaTime {
        MediaTime::from_millis(millis)
    }

    fn event(number: u8, end: bool, duration: u16) -> [u8; 4] {
        let [d0, d1] = duration.to_be_bytes();
        [number, (u8::from(end) << 7) | 10, d0, d1]
    }

    struct Ear {
        receiver: ToneReceiver,
        heard: Vec<Tone>,
        at: i64,
    }

    impl Ear {
        fn new() -> Self {
            Ear { receiver: ToneReceiver::new(vec![(101, 8000), (110, 48_000)]), heard: Vec::new(), at: 0 }
        }
        fn take(&mut self, payload_type: u8, timestamp: u32, payload: &[u8]) {
            self.at += 20;
            self.receiver.receive(ms(self.at), payload_type, timestamp, payload, &mut self.heard);
        }
        fn heard(&self) -> String {
            self.heard.iter().map(|tone| tone.key).collect()
        }
    }

    #[test]
    fn an_event_is_told_once_however_often_its_end_comes() {
        let mut ear = Ear::new();
        for duration in [160, 320, 480] {
            ear.take(101, 5000, &event(1, false, duration));
        }
        for _ in 0..3 {
            ear.take(101, 5000, &event(1, true, 640));
        }
        assert_eq!(ear.heard, [Tone { key: '1', duration_ms: 80 }]);
        // The same key again is another event by its timestamp, whatever the marker says.
        ear.take(101, 9000, &event(1, true, 640));
        ear.take(101, 5000, &event(1, true, 640));
        ear.take(101, 9000, &event(1, true, 640));
        assert_eq!(ear.heard(), "11");
    }

    #[test]
    fn a_lost_end_is_made_up_for_by_silence_or_by_the_next_key() {
        let mut ear = Ear::new();
        ear.take(101, 1000, &event(10, false, 800));
        assert_eq!(ear.receiver.next_timeout(), Some(ms(220)));
        assert_eq!(ear.receiver.handle_timeout(ms(219)), None);
        assert_eq!(ear.receiver.handle_timeout(ms(220)), Some(Tone { key: '*', duration_ms: 100 }));
        ear.take(101, 1000, &event(10, true, 960));
        assert_eq!(ear.heard(), "", "told already");
        ear.take(101, 3000, &event(11, false, 160));
        ear.take(101, 6000, &event(12, false, 160));
        assert_eq!(ear.heard(), "#");
        assert!(ear.receiver.next_timeout().is_some(), "A still sounds");
    }

    #[test]
    fn each_clock_has_its_duration_and_long_keys_their_segments() {
        let mut ear = Ear::new();
        ear.take(110, 0, &event(9, true, 4800));
        assert_eq!(ear.heard, [Tone { key: '9', duration_ms: 100 }]);
        ear.take(110, 100_000, &event(3, false, 0xffff));
        ear.take(110, 100_000 + 0xffff, &event(3, false, 4800));
        ear.take(110, 100_000 + 0xffff, &event(3, true, 30_465));
        assert_eq!(ear.heard[1], Tone { key: '3', duration_ms: 2000 });
        assert_eq!(ear.heard.len(), 2);
    }

    #[test]
    fn what_is_no_key_is_nothing() {
        let mut ear = Ear::new();
        ear.take(101, 0, &event(16, true, 800));
        ear.take(101, 0, &[1, 0x80]);
        ear.take(99, 0, &event(1, true, 800));
        assert_eq!(ear.heard(), "");
        assert!(!ear.receiver.takes(99) && ear.receiver.takes(110));
    }

    #[test]
    fn what_is_played_is_heard() {
        let mut player = TonePlayer::default();
        assert!(player.play(ms(0), "12x", 100).is_err());
        assert_eq!(player.next(), None);
        player.play(ms(0), "1,#d", 100).unwrap();
        let mut ear = Ear::new();
        let (mut timestamp, mut ends, mut firsts) = (0, 0, Vec::new());
        for now in 0..3000 {
            while let Some(packet) = player.poll(ms(now)) {
                if packet.first {
                    timestamp = 8 * now as u32;
                    firsts.push(now);
                }
                ends += u32::from(packet.end);
                ear.receiver.receive(ms(now), 101, timestamp, &packet.payload(8000), &mut ear.heard);
            }
        }
        assert_eq!(ear.heard(), "1#D");
        assert!(ear.heard.iter().all(|tone| tone.duration_ms == 100), "{:?}", ear.heard);
        assert_eq!(ends, 9);
        // The first packet speaks of the 20 ms before it; the comma waits a second.
        assert_eq!(firsts, [20, 1240, 1460]);
        assert_eq!((player.next(), player.is_sounding()), (None, false));
    }
}
