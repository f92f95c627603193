//! The built-in source: a short clip of H.264 and Opus that is shipped inside the program and plays in a
//! loop, so that there is something to watch before any encoder exists. Driven by time alone. Picture and sound
//! have the period of the loop, so their times go on over its seam as if there were none.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bridge::vclip::Clip;
use crate::core::payload::h264;
use crate::core::session::{Command, Ending, Event, Frame, Input, Output, Session, Track};
use crate::core::time::{Epoch, MediaTime};

/// Made by `tools/make-demo-clip.sh`.
static DEMO: &[u8] = include_bytes!("../../assets/demo.vclip");

/// When the thread was held up for longer, the clip goes on from now and does not hurry after the time lost.
const MAX_LAG: Duration = Duration::from_secs(1);

/// The clip as a session with one video track (1) and one audio track (2).
pub struct ClipSession {
    clip: Clip<'static>,
    epoch: Epoch,
    /// When the current round of the loop began.
    round: Instant,
    /// The packet that is due next.
    next: usize,
    rounds: u64,
    output: VecDeque<Output>,
    closed: bool,
}

impl ClipSession {
    /// Begins to play at `now`.
    pub fn new(epoch: Epoch, now: Instant) -> ClipSession {
        let empty = Clip { period: 0, tracks: Vec::new(), packets: Vec::new() };
        let clip = Clip::parse(DEMO).unwrap_or(empty);
        let mut session = ClipSession {
            clip,
            epoch,
            round: now,
            next: 0,
            rounds: 0,
            output: VecDeque::new(),
            closed: false,
        };
        session.announce();
        session.handle_timeout(now);
        session
    }

    fn announce(&mut self) {
        for index in 0..self.clip.tracks.len() {
            if let Some((kind, codec)) = self.clip.rtp_codec(index) {
                let track = Track { id: track_id(index), kind, codec, config: Vec::new(), reordered: false };
                self.output.push_back(Output::Event(Event::Track(track)));
            }
        }
        if self.clip.packets.is_empty() {
            self.close("the built-in clip cannot be read", Ending::Error);
        }
    }

    fn close(&mut self, reason: &str, ending: Ending) {
        if !self.closed {
            self.closed = true;
            self.output.push_back(Output::Event(Event::Closed { reason: reason.to_owned(), ending }));
        }
    }

    fn due(&self) -> Option<Instant> {
        let packet = self.clip.packets.get(self.next)?;
        Some(self.round + Duration::from_micros(u64::try_from(packet.dts).unwrap_or(0)))
    }

    fn emit(&mut self) {
        let Some(packet) = self.clip.packets.get(self.next) else { return };
        let start = self.epoch.media_time(self.round).as_micros();
        let video = self.clip.tracks.get(packet.track).is_some_and(|track| track.channels == 0);
        self.output.push_back(Output::Event(Event::Frame(Frame {
            track: track_id(packet.track),
            pts: MediaTime::from_micros(start + packet.pts),
            dts: MediaTime::from_micros(start + packet.dts),
            keyframe: packet.keyframe,
            discardable: video && h264::is_discardable(packet.data),
            data: packet.data.to_vec(),
        })));
        self.next += 1;
        if self.next >= self.clip.packets.len() {
            self.next = 0;
            self.rounds += 1;
            self.round += Duration::from_micros(u64::from(self.clip.period));
        }
    }
}

/// Tracks count from 1.
fn track_id(index: usize) -> u32 {
    index as u32 + 1
}

impl Session for ClipSession {
    fn handle_input(&mut self, _now: Instant, _input: Input<'_>) {}

    fn command(&mut self, _now: Instant, command: Command) -> Result<Value, String> {
        match command {
            Command::Close { reason } => self.close(&reason, Ending::Closed),
            // A keyframe comes every two seconds and cannot be hurried.
            Command::RequestKeyframe { .. } => {}
            _ => return Err("a clip has no remote party".to_owned()),
        }
        Ok(Value::Null)
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        if self.due().is_some_and(|due| now.saturating_duration_since(due) > MAX_LAG) {
            self.round = now;
            self.next = 0;
        }
        while self.due().is_some_and(|due| due <= now) {
            self.emit();
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.output.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.closed { None } else { self.due() }
    }

    fn dump(&self) -> Value {
        json!({ "clip": "demo", "rounds": self.rounds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::capabilities::Kind;
    use crate::core::payload::opus;

    fn play(session: &mut ClipSession, start: Instant, span: Duration) -> (Vec<Track>, Vec<Frame>) {
        let (mut tracks, mut frames) = (Vec::new(), Vec::new());
        loop {
            while let Some(Output::Event(event)) = session.poll_output() {
                match event {
                    Event::Track(track) => tracks.push(track),
                    Event::Frame(frame) => frames.push(frame),
                    other => panic!("{other:?}"),
                }
            }
            match session.poll_timeout() {
                Some(at) if at < start + span => session.handle_timeout(at),
                _ => return (tracks, frames),
            }
        }
    }

    fn epoch(now: Instant) -> Epoch {
        Epoch { instant: now, unix: Duration::from_secs(1_700_000_000) }
    }

    #[test]
    fn three_rounds_have_no_seam() {
        let now = Instant::now();
        let mut session = ClipSession::new(epoch(now), now);
        let (tracks, frames) = play(&mut session, now, Duration::from_secs(24));
        assert_eq!(tracks.iter().map(|track| track.kind).collect::<Vec<_>>(), [Kind::Video, Kind::Audio]);
        assert!(tracks[0].codec.parameter("profile-level-id").unwrap().starts_with("42c0"));
        let times = |id: u32| -> Vec<i64> {
            frames.iter().filter(|frame| frame.track == id).map(|frame| frame.pts.as_micros()).collect()
        };
        let (video, audio) = (times(1), times(2));
        assert_eq!((video.len(), audio.len()), (720, 1200));
        assert!(video.windows(2).all(|pair| (33_332..=33_335).contains(&(pair[1] - pair[0]))));
        assert!(audio.windows(2).all(|pair| pair[1] - pair[0] == 20_000));
        assert!(frames.windows(2).all(|pair| pair[0].dts <= pair[1].dts));
    }

    #[test]
    fn keyframes_come_every_two_seconds_with_their_parameter_sets() {
        let now = Instant::now();
        let mut session = ClipSession::new(epoch(now), now);
        let (_, frames) = play(&mut session, now, Duration::from_secs(8));
        let video: Vec<&Frame> = frames.iter().filter(|frame| frame.track == 1).collect();
        for (index, frame) in video.iter().enumerate() {
            assert_eq!(frame.keyframe, index % 60 == 0);
            assert!(h264::is_well_formed(&frame.data) && !h264::has_b_slices(&frame.data));
            assert_eq!((frame.pts, h264::is_keyframe(&frame.data)), (frame.dts, frame.keyframe));
        }
        let kinds: Vec<u8> = h264::nals(&video[60].data).map(h264::nal_type).collect();
        assert_eq!(kinds, [h264::NAL_SPS, h264::NAL_PPS, h264::NAL_IDR]);
        let sound = frames.iter().filter(|frame| frame.track == 2);
        assert!(sound.map(|frame| opus::duration(&frame.data)).all(|samples| samples == Some(960)));
    }

    #[test]
    fn a_thread_held_up_does_not_hurry_after() {
        let now = Instant::now();
        let mut session = ClipSession::new(epoch(now), now);
        play(&mut session, now, Duration::from_millis(500));
        session.handle_timeout(now + Duration::from_secs(60));
        let (_, frames) = play(&mut session, now + Duration::from_secs(60), Duration::from_millis(1));
        assert!(!frames.is_empty() && frames.len() < 4 && frames[0].keyframe);
        assert_eq!(frames[0].pts, MediaTime::from_millis(60_000));
    }

    #[test]
    fn close_is_said_once_and_ends_it() {
        let now = Instant::now();
        let mut session = ClipSession::new(epoch(now), now);
        play(&mut session, now, Duration::from_millis(1));
        for _ in 0..2 {
            session.command(now, Command::Close { reason: "shutdown".into() }).unwrap();
        }
        assert!(matches!(
            session.poll_output(),
            Some(Output::Event(Event::Closed { ending: Ending::Closed, .. }))
        ));
        assert!(session.poll_output().is_none() && session.poll_timeout().is_none());
    }
}
