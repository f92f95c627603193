//! A picture for rooms that have none to show: the arches of a viaduct, what is the matter, and the room's name. It
//! hardly moves, so it is coded twice a second only, on the sound's threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use openh264::formats::YUVSlices;

use super::config::BridgeConfig;
use super::glyphs::glyph;
use super::jobs::Pass;
use super::picture_encoder::PictureEncoder;
use super::rate::SourceRate;
use crate::core::convert::{DirectIn, DirectOut, SlateJob};
use crate::core::lane::{Receiver, SendError, Sender};
use crate::core::time::{Epoch, MediaTime};

const WIDTH: usize = 640;
const HEIGHT: usize = 360;
/// Between two pictures, in microseconds.
const INTERVAL: i64 = 500_000;
/// A keyframe that is asked for comes no sooner after the last picture.
const GAP: i64 = 100_000;
/// What a picture counts for when the bit rate is set, in bytes: little.
const BYTES: usize = 5_000;
const TITLE: &str = "NO PICTURE";

/// A slate on its lanes. No thread, no clock of its own: `io` calls [`RunningSlate::pass`].
pub struct RunningSlate {
    room: String,
    epoch: Epoch,
    input: Receiver<DirectOut>,
    output: Sender<DirectIn>,
    canvas: Canvas,
    encoder: PictureEncoder,
    rate: SourceRate,
    last: Option<MediaTime>,
}

impl RunningSlate {
    /// `job` with the bounds of `config`.
    pub fn new(job: SlateJob, config: &BridgeConfig) -> RunningSlate {
        let SlateJob { room, epoch, to, input, output } = job;
        let encoder = PictureEncoder::new(config, &to);
        let canvas = Canvas::new(&room);
        RunningSlate { room, epoch, input, output, canvas, encoder, rate: SourceRate::default(), last: None }
    }

    /// Does what is due at `tick`. A panic inside ends this slate only.
    pub fn pass(&mut self, tick: Instant) -> Pass {
        let now = self.epoch.media_time(tick);
        let done = catch_unwind(AssertUnwindSafe(|| self.work(now)));
        let pass = done.unwrap_or_else(|_| Err("the slate broke an invariant of its own".to_owned()));
        pass.unwrap_or_else(|reason| {
            tracing::error!(room = self.room, "{reason}");
            // A lane that is full or closed has nobody to tell.
            drop(self.output.send(DirectIn::Failed(reason)));
            Pass::Ended
        })
    }

    fn work(&mut self, now: MediaTime) -> Result<Pass, String> {
        let mut asked = false;
        loop {
            match self.input.pop() {
                Ok(Some(DirectOut::KeyframeRequest)) => asked = true,
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return Ok(Pass::Ended),
            }
        }
        if asked {
            self.encoder.request_keyframe();
        }
        let since = self.last.map_or(INTERVAL, |last| now.micros_since(last));
        if since < if asked { GAP } else { INTERVAL } {
            return Ok(Pass::Idle);
        }
        self.last = Some(now);
        self.rate.add(now, BYTES);
        let frame = self.encoder.encode(&self.canvas.picture(), now, &self.rate)?;
        let closed = matches!(self.output.send(DirectIn::Frame(frame)), Err(SendError::Closed(_)));
        Ok(if closed { Pass::Ended } else { Pass::Idle })
    }
}

/// The picture in planes: 4:2:0.
struct Canvas {
    luma: Vec<u8>,
    chroma: [Vec<u8>; 2],
}

impl Canvas {
    fn new(room: &str) -> Canvas {
        let chroma = WIDTH * HEIGHT / 4;
        let mut canvas =
            Canvas { luma: vec![0; WIDTH * HEIGHT], chroma: [vec![142; chroma], vec![116; chroma]] };
        for (y, row) in canvas.luma.chunks_exact_mut(WIDTH).enumerate() {
            row.fill((34 + y * 26 / HEIGHT) as u8);
        }
        canvas.arches();
        canvas.text(TITLE, HEIGHT * 2 / 5, 7, 210);
        canvas.text(&room.to_uppercase(), HEIGHT * 3 / 5, 3, 140);
        canvas
    }

    /// The foot of the picture: a wall with eight openings that are round above.
    fn arches(&mut self) {
        let (top, span, radius) = (HEIGHT - 70, WIDTH / 8, WIDTH / 8 / 2 - 8);
        for y in top..HEIGHT {
            for x in 0..WIDTH {
                let across = (x % span).abs_diff(span / 2);
                let above = (top + 14 + radius).saturating_sub(y);
                if across * across + above * above >= radius * radius {
                    self.luma[y * WIDTH + x] = 76;
                }
            }
        }
    }

    /// Writes a line whose middle is at `y`, in the middle of the picture; what does not fit is left out.
    fn text(&mut self, text: &str, y: usize, scale: usize, luma: u8) {
        let cell = 6 * scale;
        let line: Vec<char> = text.chars().take(WIDTH / cell - 1).collect();
        let left = (WIDTH - (line.len() * cell).saturating_sub(scale)) / 2;
        let top = y - 7 * scale / 2;
        for (at, letter) in line.into_iter().enumerate() {
            for (row, bits) in glyph(letter).into_iter().enumerate() {
                for column in (0..5).filter(|column| bits >> (4 - column) & 1 == 1) {
                    self.block(left + at * cell + column * scale, top + row * scale, scale, luma);
                }
            }
        }
    }

    fn block(&mut self, x: usize, y: usize, size: usize, luma: u8) {
        let rows = self.luma.chunks_exact_mut(WIDTH).skip(y).take(size);
        rows.for_each(|row| row[x..x + size].fill(luma));
    }

    fn picture(&self) -> YUVSlices<'_> {
        let [u, v] = &self.chroma;
        YUVSlices::new((&self.luma, u, v), (WIDTH, HEIGHT), (WIDTH, WIDTH / 2, WIDTH / 2))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use openh264::decoder::Decoder;
    use openh264::formats::YUVSource;

    use super::*;
    use crate::bridge::target::slate;
    use crate::core::capabilities::{Kind, RtpCodec};
    use crate::core::lane::lane;
    use crate::core::payload::h264::{self, nals};

    fn h264(mode: &str) -> RtpCodec {
        RtpCodec {
            mime_type: "video/H264".into(),
            payload_type: 96,
            clock_rate: 90_000,
            channels: None,
            parameters: [("packetization-mode".to_owned(), mode.into())].into_iter().collect(),
            rtcp_feedback: Vec::new(),
        }
    }

    #[test]
    fn a_still_picture_is_sent_slowly_and_a_keyframe_when_it_is_asked_for() {
        let now = Instant::now();
        let epoch = Epoch { instant: now, unix: Duration::ZERO };
        let (requests, input) = lane(16, None);
        let (output, frames) = lane(64, None);
        let to = slate(&[h264("0")]).expect("a format");
        assert_eq!(to.kind, Kind::Video);
        let job = SlateJob { room: "board-7 ä".into(), epoch, to, input, output };
        let mut slate = RunningSlate::new(job, &BridgeConfig::default());
        let mut got = Vec::new();
        for tick in 0..200u64 {
            if tick == 60 {
                requests.send(DirectOut::KeyframeRequest).expect("room");
            }
            assert_eq!(slate.pass(now + Duration::from_millis(tick * 20)), Pass::Idle);
            while let Ok(Some(DirectIn::Frame(frame))) = frames.pop() {
                got.push((tick, frame));
            }
        }
        assert!((8..=10).contains(&got.len()), "{}", got.len());
        assert_eq!(
            got.iter().position(|(tick, _)| *tick >= 60),
            got.iter().position(|(t, f)| *t >= 60 && f.keyframe)
        );
        let mut decoder = Decoder::new().expect("a decoder");
        for (_, frame) in &got {
            assert!(nals(&frame.data).all(|nal| nal.len() <= 1_100), "each slice fits a packet");
            let mut stream = Vec::new();
            h264::to_annex_b(&frame.data, &mut stream);
            let shown = decoder.decode(&stream).expect("decodes").expect("a picture");
            assert_eq!(shown.dimensions(), (WIDTH, HEIGHT));
            let bright = shown.y().iter().filter(|luma| **luma > 180).count();
            assert!((2_000..20_000).contains(&bright), "{bright} bright points make the letters");
        }
        drop(frames);
        assert_eq!(slate.pass(now + Duration::from_secs(9)), Pass::Ended);
    }
}
