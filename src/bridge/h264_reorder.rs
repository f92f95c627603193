//! H.264 into H.264 that its receiver can show: decoded, put in order of presentation, encoded again as constrained
//! baseline, and for receivers of single NAL units (packetization-mode 0) in slices that fit packets. Browsers show pictures in the order in which RTP brings them and cannot wait for a reordered one:
//! of ffmpeg's default libx264 (three B-frames, pyramid) forwarded as it is, Chromium 156 showed 56 of 420 pictures.
//!
//! openh264 gives pictures out in order of presentation, none or one for each access unit. Presentation times wait
//! beside it in rising order, so each picture takes the lowest. (Asking it for held pictures early would leak their
//! buffers: it does not give them back then.) No picture is dropped on the way.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use openh264::OpenH264API;
use openh264::decoder::{Decoder, DecoderConfig, Flush};

use super::config::BridgeConfig;
use super::jobs::{Convert, Sink};
use super::reencoding::Output;
use crate::core::convert::{DirectIn, DirectOut, Format};
use crate::core::payload::h264::{self, NAL_IDR, NAL_SPS, Sps, nal_type, nals};
use crate::core::session::Frame;
use crate::core::time::MediaTime;

/// A stream may hold back at most this many pictures (ITU-T H.264 §A.3.1, MaxDpbFrames); openh264 one more.
const MAX_HELD: usize = 17;
/// So many keyframes with which decoding fails, without a picture between them, end the job.
const MAX_ERRORS: u32 = 10;

/// One re-encoding.
pub struct H264Reorder {
    decoder: Decoder,
    output: Output,
    /// Presentation times of the pictures inside the decoder.
    held: BinaryHeap<Reverse<MediaTime>>,
    annex_b: Vec<u8>,
    /// Nothing can be decoded before a keyframe.
    waiting: bool,
    errors: u32,
}

fn open_decoder() -> Result<Decoder, String> {
    let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
    Decoder::with_api_config(OpenH264API::from_source(), config)
        .map_err(|error| format!("the H.264 decoder cannot be set up: {error}"))
}

/// What openh264 decodes: 8 bits, 4:2:0, whole frames.
fn check(sps: &Sps) -> Result<(), String> {
    if !matches!(sps.profile, 66 | 77 | 88 | 100) {
        return Err(format!(
            "H.264 profile {} cannot be converted; set the encoder to 8 bits and 4:2:0",
            sps.profile
        ));
    }
    if !sps.frames_only {
        return Err("interlaced pictures cannot be converted; set the encoder to progressive".to_owned());
    }
    Ok(())
}

impl H264Reorder {
    /// A conversion with the bounds of `config`.
    pub fn new(config: &BridgeConfig, to: &Format) -> Result<H264Reorder, String> {
        Ok(H264Reorder {
            decoder: open_decoder()?,
            output: Output::new(config, to),
            held: BinaryHeap::new(),
            annex_b: Vec::new(),
            waiting: true,
            errors: 0,
        })
    }

    fn frame(&mut self, frame: &Frame, catchup: bool, sink: Sink<'_>) -> Result<(), String> {
        self.output.rate.add(frame.dts, frame.data.len());
        if self.waiting && !frame.keyframe {
            return Ok(());
        }
        self.waiting = false;
        self.output.reached(catchup);
        if frame.keyframe {
            self.begin_group(frame)?;
        }
        if nals(&frame.data).any(|nal| matches!(nal_type(nal), 1..=NAL_IDR)) {
            self.decode(frame, catchup, sink)?;
        }
        Ok(())
    }

    /// Colours come with the parameter sets of a keyframe. An IDR picture that is not shown after all before it is
    /// the start of another timeline: the times inside the decoder would be mixed up with the new ones.
    fn begin_group(&mut self, frame: &Frame) -> Result<(), String> {
        let sps = nals(&frame.data).find(|nal| nal_type(nal) == NAL_SPS).and_then(Sps::parse);
        if let Some(sps) = sps {
            check(&sps)?;
            self.output.encoder.set_colour(sps.colour);
        }
        let idr = nals(&frame.data).any(|nal| nal_type(nal) == NAL_IDR);
        if idr && self.held.iter().any(|Reverse(held)| *held >= frame.pts) {
            self.restart()?;
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<(), String> {
        self.held.clear();
        self.decoder = open_decoder()?;
        Ok(())
    }

    /// Decodes one access unit; the picture that comes out is another one as a rule.
    fn decode(&mut self, frame: &Frame, catchup: bool, sink: Sink<'_>) -> Result<(), String> {
        self.annex_b.clear();
        h264::to_annex_b(&frame.data, &mut self.annex_b);
        self.held.push(Reverse(frame.pts));
        let reason = match self.decoder.decode(&self.annex_b) {
            Ok(Some(picture)) => {
                self.errors = 0;
                let Some(Reverse(pts)) = self.held.pop() else { return Ok(()) };
                return self.output.picture(&picture, pts, catchup, sink);
            }
            Ok(None) if self.held.len() <= MAX_HELD => return Ok(()),
            Ok(None) => "no picture comes out".to_owned(),
            Err(error) => error.to_string(),
        };
        self.errors += 1;
        if self.errors > MAX_ERRORS {
            return Err(format!("the publisher's picture cannot be decoded: {reason}"));
        }
        tracing::debug!("an access unit could not be decoded: {reason}");
        // Pictures and times are no longer paired; a new decoder is in step again.
        self.restart()?;
        self.waiting = true;
        sink(DirectIn::NeedKeyframe);
        Ok(())
    }

    /// Gives out what is held, as at the end of a stream.
    #[cfg(test)]
    pub fn finish(&mut self, sink: Sink<'_>) -> Result<(), String> {
        for picture in self.decoder.flush_remaining().map_err(|error| error.to_string())? {
            let Some(Reverse(pts)) = self.held.pop() else { break };
            self.output.picture(&picture, pts, false, sink)?;
        }
        Ok(())
    }
}

impl Convert for H264Reorder {
    fn push(&mut self, input: DirectOut, sink: Sink<'_>) -> Result<(), String> {
        match input {
            DirectOut::Frame { frame, catchup } => self.frame(&frame, catchup, sink),
            DirectOut::Packet(_) | DirectOut::Gap => Ok(()),
            DirectOut::KeyframeRequest => {
                self.output.encoder.request_keyframe();
                Ok(())
            }
        }
    }

    fn resync(&mut self) {
        self.output.encoder.request_keyframe();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::rate::SourceRate;
    use crate::bridge::vclip::Clip;
    use crate::core::capabilities::RtpCodec;
    use openh264::decoder::DecodedYUV;
    use openh264::formats::YUVSource;

    const SAMPLES: [(&str, &[u8]); 4] = [
        ("default", include_bytes!("../../tests/data/bframes-default.vclip")),
        ("flat", include_bytes!("../../tests/data/bframes-flat.vclip")),
        ("many", include_bytes!("../../tests/data/bframes-many.vclip")),
        ("obs", include_bytes!("../../tests/data/bframes-obs.vclip")),
    ];

    fn source(clip: &[u8]) -> Vec<Frame> {
        let clip = Clip::parse(clip).unwrap();
        clip.packets
            .iter()
            .map(|packet| Frame {
                track: 1,
                pts: MediaTime::from_micros(packet.pts),
                dts: MediaTime::from_micros(packet.dts),
                keyframe: packet.keyframe,
                discardable: false,
                data: packet.data.to_vec(),
            })
            .collect()
    }

    fn job() -> H264Reorder {
        for_mode("1")
    }

    /// For receivers of a packetization mode.
    fn for_mode(mode: &str) -> H264Reorder {
        let parameters = [("packetization-mode".to_owned(), mode.into())].into_iter().collect();
        let codec = RtpCodec { mime_type: "video/H264".into(), parameters, ..RtpCodec::default() };
        let to = crate::bridge::target::slate(&[codec]).unwrap();
        H264Reorder::new(&BridgeConfig::default(), &to).unwrap()
    }

    fn feed(job: &mut H264Reorder, frame: &Frame, catchup: bool) -> Vec<Frame> {
        let mut out = Vec::new();
        let input = DirectOut::Frame { frame: frame.clone(), catchup };
        let mut sink = |output| match output {
            DirectIn::Frame(frame) => out.push(frame),
            other => panic!("{other:?}"),
        };
        job.push(input, &mut sink).unwrap();
        out
    }

    fn drain(job: &mut H264Reorder) -> Vec<Frame> {
        let mut out = Vec::new();
        let mut sink = |output| {
            if let DirectIn::Frame(frame) = output {
                out.push(frame);
            }
        };
        job.finish(&mut sink).unwrap();
        out
    }

    fn run(frames: &[Frame]) -> Vec<Frame> {
        let mut job = job();
        let mut out: Vec<Frame> = frames.iter().flat_map(|frame| feed(&mut job, frame, false)).collect();
        out.extend(drain(&mut job));
        out
    }

    fn number(picture: &DecodedYUV<'_>) -> u32 {
        let bit = |index: usize| picture.y()[12 * picture.strides().0 + index * 24 + 12] > 128;
        (0..8).map(|index| u32::from(bit(index)) << index).sum()
    }

    /// The numbers burnt into the pictures, in the order in which a decoder gives them out.
    fn numbers(frames: &[Frame]) -> Vec<u32> {
        let mut decoder = open_decoder().unwrap();
        let mut stream = Vec::new();
        let mut seen = Vec::new();
        for frame in frames {
            stream.clear();
            h264::to_annex_b(&frame.data, &mut stream);
            seen.extend(decoder.decode(&stream).unwrap().as_ref().map(number));
        }
        seen.extend(decoder.flush_remaining().unwrap().iter().map(number));
        seen
    }

    #[test]
    fn slices_for_receivers_of_single_units_fit_packets() {
        let mut job = for_mode("0");
        let frames: Vec<Frame> =
            source(SAMPLES[0].1)[..40].iter().flat_map(|frame| feed(&mut job, frame, false)).collect();
        assert!(frames.len() > 20, "{}", frames.len());
        let mut many = 0;
        for frame in &frames {
            let sizes: Vec<usize> = nals(&frame.data).map(<[u8]>::len).collect();
            assert!(sizes.iter().all(|size| *size <= 1_100), "{sizes:?}");
            many += usize::from(sizes.len() > 3);
        }
        assert!(many > 0, "keyframes are cut");
    }

    #[test]
    fn every_picture_comes_out_once_and_in_order() {
        for (name, clip) in SAMPLES {
            let frames = source(clip);
            assert!(frames.iter().any(|frame| h264::has_b_slices(&frame.data)), "{name}");
            assert!(frames.windows(2).any(|pair| pair[1].pts < pair[0].pts), "{name}");
            let out = run(&frames);
            assert_eq!(out.len(), frames.len(), "{name}");
            assert_eq!(numbers(&out), (0..out.len() as u32).collect::<Vec<_>>(), "{name}");
            let mut times: Vec<_> = frames.iter().map(|frame| frame.pts).collect();
            times.sort();
            assert_eq!(out.iter().map(|frame| frame.pts).collect::<Vec<_>>(), times, "{name}");
        }
    }

    #[test]
    fn what_comes_out_is_constrained_baseline_without_b_slices() {
        let out = run(&source(SAMPLES[0].1));
        assert!(out.iter().all(|frame| !h264::has_b_slices(&frame.data) && frame.pts == frame.dts));
        for frame in out.iter().filter(|frame| frame.keyframe) {
            let kinds: Vec<u8> = nals(&frame.data).map(nal_type).collect();
            assert_eq!(kinds, [NAL_SPS, h264::NAL_PPS, NAL_IDR]);
            let sps = nals(&frame.data).next().and_then(Sps::parse).unwrap();
            assert_eq!((sps.profile, sps.constraints & 0xc0, sps.width, sps.height), (66, 0xc0, 192, 112));
            assert!(!sps.may_reorder());
        }
        let keys: Vec<usize> = (0..out.len()).filter(|index| out[*index].keyframe).collect();
        assert_eq!(keys, [0, 60, 120]);
    }

    #[test]
    fn pictures_wait_no_longer_than_their_order_needs() {
        for (name, clip) in SAMPLES {
            let frames = source(clip);
            let mut job = job();
            let mut given = 0;
            for (taken, frame) in frames.iter().enumerate() {
                given += feed(&mut job, frame, false).len();
                assert!(taken + 1 - given <= 3, "{name}: {} wait", taken + 1 - given);
            }
        }
    }

    #[test]
    fn a_group_read_fast_gives_its_keyframe_at_once_and_then_the_live_edge() {
        let frames = source(SAMPLES[3].1);
        let mut job = job();
        let mut first = feed(&mut job, &frames[0], true);
        first.extend(feed(&mut job, &frames[1], true));
        assert!(first.len() == 1 && first[0].keyframe && first[0].pts == frames[0].pts);
        for frame in &frames[2..50] {
            assert!(feed(&mut job, frame, true).is_empty());
        }
        let mut out = first;
        for frame in &frames[50..] {
            out.extend(feed(&mut job, frame, false));
        }
        out.extend(drain(&mut job));
        let seen = numbers(&out);
        assert!(seen[1] >= 46 && seen[1] <= 52, "{seen:?}");
        assert!(seen[1..].windows(2).all(|pair| pair[1] == pair[0] + 1), "{seen:?}");
        assert!(out.windows(2).all(|pair| pair[0].pts < pair[1].pts));
    }

    #[test]
    fn keyframe_requests_are_merged() {
        let frames = source(SAMPLES[3].1);
        let mut job = job();
        let mut keys = Vec::new();
        for frame in &frames[..60] {
            job.push(DirectOut::KeyframeRequest, &mut |_| {}).unwrap();
            keys.extend(
                feed(&mut job, frame, false).into_iter().filter(|out| out.keyframe).map(|out| out.pts),
            );
        }
        assert!(keys.len() >= 3, "{keys:?}");
        assert!(keys.windows(2).all(|pair| pair[1].micros_since(pair[0]) >= 500_000), "{keys:?}");
    }

    #[test]
    fn after_a_hole_it_goes_on_at_the_next_keyframe() {
        let frames = source(SAMPLES[0].1);
        let mut job = job();
        frames[..20].iter().for_each(|frame| drop(feed(&mut job, frame, false)));
        let at = frames.iter().skip(21).position(|frame| frame.keyframe).unwrap() + 21;
        let mut out: Vec<Frame> =
            frames[at..].iter().flat_map(|frame| feed(&mut job, frame, false)).collect();
        out.extend(drain(&mut job));
        assert!(out.windows(2).all(|pair| pair[0].pts < pair[1].pts));
        assert_eq!(out.last().unwrap().pts, frames.iter().map(|frame| frame.pts).max().unwrap());
        assert!(out.len() >= frames.len() - at);
    }

    /// Between routers frames have one time only, that of presentation.
    #[test]
    fn decoding_times_are_not_needed() {
        let mut frames = source(SAMPLES[3].1);
        frames.iter_mut().for_each(|frame| frame.dts = frame.pts);
        let out = run(&frames);
        assert_eq!(numbers(&out), (0..frames.len() as u32).collect::<Vec<_>>());
        let bytes: usize = frames.iter().map(|frame| frame.data.len()).sum();
        let mut rate = SourceRate::default();
        frames.iter().for_each(|frame| rate.add(frame.dts, frame.data.len()));
        let bits = rate.bits_per_second().unwrap() as usize;
        assert!(bits.abs_diff(bytes * 8 / 3) < bits / 10, "{bits}");
        assert!((rate.frames_per_second().unwrap() - 30.0).abs() < 1.0);
    }

    #[test]
    fn forms_that_cannot_be_decoded_are_named_at_the_first_keyframe() {
        let good = Sps::parse(nals(&source(SAMPLES[0].1)[0].data).next().unwrap()).unwrap();
        assert_eq!(check(&good), Ok(()));
        assert!(check(&Sps { profile: 110, ..good }).is_err_and(|reason| reason.contains("8 bits")));
        assert!(
            check(&Sps { frames_only: false, ..good }).is_err_and(|reason| reason.contains("progressive"))
        );
        // High 4:4:4 in place of High, in the parameter set itself.
        let mut frame = source(SAMPLES[0].1)[0].clone();
        let at = frame.data.iter().position(|byte| *byte == 0x67).unwrap();
        frame.data[at + 1] = 244;
        let input = DirectOut::Frame { frame, catchup: false };
        assert!(job().push(input, &mut |_| {}).is_err_and(|reason| reason.contains("244")));
    }

    #[test]
    fn garbage_ends_in_a_request_and_then_in_words() {
        let good = source(SAMPLES[1].1);
        let mut job = job();
        feed(&mut job, &good[0], false);
        let mut bad = good[0].clone();
        bad.data = [0, 0, 0, 9, 0x65, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff].to_vec();
        let mut asked = 0;
        let ended = (0..1000).find_map(|_| {
            let input = DirectOut::Frame { frame: bad.clone(), catchup: false };
            job.push(input, &mut |output| asked += u32::from(matches!(output, DirectIn::NeedKeyframe))).err()
        });
        assert!(asked > 1 && ended.is_some_and(|reason| reason.contains("cannot be decoded")));
    }
}
