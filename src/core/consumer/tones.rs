//! Keys of a telephone played into an outgoing stream (RFC 4733 §2.5): packets of our own between those of
//! the source, with the stream's own numbers and clock, while the source's sound is left out.

use crate::core::consumer::cursor::Cursor;
use crate::core::consumer::rtp::{RtpOutput, Sink};
use crate::core::consumer::{Consumer, Output, Progress};
use crate::core::producer::{Producer, Stream};
use crate::core::rtp::header::HeaderFields;
use crate::core::rtp::tone::TonePlayer;
use crate::core::time::MediaTime;

/// What plays into one stream.
pub(super) struct Tones {
    types: Vec<(u8, u32)>,
    player: TonePlayer,
    timestamp: u32,
}

impl Tones {
    /// With the receiver's payload types; nothing where it takes no events.
    pub fn new(types: Vec<(u8, u32)>) -> Option<Box<Tones>> {
        (!types.is_empty()).then(|| Box::new(Tones { types, player: TonePlayer::default(), timestamp: 0 }))
    }
}

impl Consumer {
    /// The payload types of events that the receiver takes, where they became known after the consumer.
    pub fn set_tone_types(&mut self, types: &[(u8, u32)]) {
        if let Output::Rtp(output) = &mut self.output {
            match &mut output.tones {
                Some(tones) => tones.types = types.to_vec(),
                none => *none = Tones::new(types.to_vec()),
            }
        }
    }

    /// Plays keys, each `millis` long.
    pub fn play(&mut self, now: MediaTime, keys: &str, millis: u32) -> Result<(), String> {
        match &mut self.output {
            Output::Rtp(output) => {
                let tones = output.tones.as_mut().filter(|tones| !tones.types.is_empty());
                let tones = tones.ok_or("the receiver takes no telephone events")?;
                tones.player.play(now, keys, millis)
            }
            _ => Err("only RTP receivers can be played keys".into()),
        }
    }

    /// When the next packet of a key is due.
    pub fn tone_due(&self) -> Option<MediaTime> {
        match &self.output {
            Output::Rtp(output) => output.tones.as_ref()?.player.next(),
            _ => None,
        }
    }

    /// Sends what is due of the keys being played. `Some`: the turn ends here, because the batch is full, or
    /// because a key sounds in place of the source.
    #[inline]
    pub fn advance_tones(&mut self, source: Option<&Producer>, sink: &mut Sink<'_>) -> Option<Progress> {
        match &mut self.output {
            Output::Rtp(output) if output.tones.is_some() => {
                let stream = source.and_then(|source| source.streams.get(self.stream));
                output.advance_tones(stream, &mut self.cursor, sink)
            }
            _ => None,
        }
    }
}

impl RtpOutput {
    fn advance_tones(
        &mut self,
        stream: Option<&Stream>,
        cursor: &mut Cursor,
        sink: &mut Sink<'_>,
    ) -> Option<Progress> {
        let mut tones = self.tones.take()?;
        let progress = self.play_tones(&mut tones, stream, sink);
        let sounding = tones.player.is_sounding();
        self.tones = Some(tones);
        if progress == Progress::Full {
            return Some(progress);
        }
        if !sounding {
            return None;
        }
        match stream {
            Some(stream) if cursor.is_waiting() => cursor.restart(stream.store.head(), false),
            Some(stream) => self.leave_out(stream, cursor),
            None => {}
        }
        Some(Progress::Drained)
    }

    fn play_tones(&mut self, tones: &mut Tones, stream: Option<&Stream>, sink: &mut Sink<'_>) -> Progress {
        loop {
            if tones.player.next().is_none_or(|at| sink.now < at) {
                return Progress::Drained;
            }
            if sink.batch.is_full() {
                return Progress::Full;
            }
            let Some(packet) = tones.player.poll(sink.now) else { return Progress::Drained };
            let own = self.clock_rate();
            let fitting = tones.types.iter().find(|(_, rate)| *rate == own).or(tones.types.first());
            let Some(&(payload_type, rate)) = fitting else { return Progress::Drained };
            if packet.first {
                tones.timestamp = self.timestamp_of(stream, sink.now - packet.elapsed, rate);
            }
            let index = self.next_index();
            let fields = HeaderFields {
                marker: packet.first,
                padding: false,
                payload_type,
                sequence: index as u16,
                timestamp: tones.timestamp,
                ssrc: self.ssrc(),
            };
            let stamp = self.fresh_stamp(sink);
            if self.seal(&fields, index, None, &packet.payload(rate), &stamp, sink) {
                self.stamp_used(sink);
            }
        }
    }
}
