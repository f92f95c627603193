//! VP8 and VP9 into H.264 constrained baseline, for telephones, players and RTMP servers that take no other picture:
//! decoded and encoded again. A picture that is missing would be seen in all after it, so then the next keyframe is
//! waited for, and asked for.

use openh264::formats::YUVSource;
use oximedia_codec::traits::{DecoderConfig, VideoDecoder};
use oximedia_codec::vp8::Vp8Decoder;
use rusty_vp9::{BitReader, Vp9Decoder, parse_uncompressed_header};

use super::config::BridgeConfig;
use super::jobs::{Convert, Sink};
use super::reencoding::Output;
use crate::core::convert::{DirectIn, DirectOut, Format};
use crate::core::payload::Codec;
use crate::core::session::Frame;

/// So many pictures that cannot be decoded, without one between them that can, end the job.
const MAX_ERRORS: u32 = 30;

/// Frames of a VP9 superframe (VP9 bitstream specification, annex B).
const MAX_FRAMES: usize = 8;

/// One re-encoding.
pub struct VpxToH264 {
    decoder: Decoder,
    max_pixels: u64,
    output: Output,
    /// Nothing can be decoded before a keyframe.
    waiting: bool,
    errors: u32,
}

enum Decoder {
    Vp8(Box<Vp8Decoder>),
    Vp9(Box<Vp9Decoder>),
}

/// A decoded picture, 8 bits, 4:2:0.
struct Picture {
    size: (usize, usize),
    planes: [Vec<u8>; 3],
    strides: [usize; 3],
}

impl YUVSource for Picture {
    fn dimensions(&self) -> (usize, usize) {
        // The encoder takes even sizes only.
        (self.size.0 & !1, self.size.1 & !1)
    }

    fn strides(&self) -> (usize, usize, usize) {
        self.strides.into()
    }

    fn y(&self) -> &[u8] {
        &self.planes[0]
    }

    fn u(&self) -> &[u8] {
        &self.planes[1]
    }

    fn v(&self) -> &[u8] {
        &self.planes[2]
    }
}

impl Decoder {
    fn open(codec: Codec) -> Result<Decoder, String> {
        match codec {
            Codec::Vp8 => Vp8Decoder::new(DecoderConfig::default())
                .map(|decoder| Decoder::Vp8(Box::new(decoder)))
                .map_err(|error| format!("the VP8 decoder cannot be set up: {error}")),
            Codec::Vp9 => Ok(Decoder::Vp9(Box::new(Vp9Decoder::new()))),
            _ => Err("neither VP8 nor VP9".to_owned()),
        }
    }

    /// How many pixels the largest frame of a picture says that it has, where it says so: before anything is made
    /// for them. What takes its size from an earlier picture is no larger than that.
    fn pixels(&self, data: &[u8]) -> u64 {
        match self {
            // RFC 6386 §9.1: frame tag, start code, width and height of 14 bits in a keyframe.
            Decoder::Vp8(_) => match data {
                [tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..] if tag & 1 == 0 => {
                    let side = |low, high| u64::from(u16::from_le_bytes([low, high]) & 0x3fff);
                    side(*w0, *w1) * side(*h0, *h1)
                }
                _ => 0,
            },
            Decoder::Vp9(_) => superframe(data).into_iter().map(vp9_pixels).max().unwrap_or_default(),
        }
    }

    /// The picture that is shown, if one is.
    fn decode(&mut self, data: &[u8]) -> Result<Option<Picture>, String> {
        match self {
            Decoder::Vp8(decoder) => {
                decoder.send_packet(data, 0).map_err(|error| error.to_string())?;
                let shown = decoder.receive_frame().map_err(|error| error.to_string())?;
                let Some(frame) = shown else { return Ok(None) };
                let strides: Vec<usize> = frame.planes.iter().map(|plane| plane.stride).collect();
                let planes = frame.planes.into_iter().map(|plane| plane.data).collect();
                picture((frame.width, frame.height), planes, &strides).map(Some)
            }
            Decoder::Vp9(decoder) => {
                decoder.push(data, None).map_err(|error| error.to_string())?;
                let mut last = None;
                // All that a superframe may hold, and once more: "again" is said of a hidden frame as of none.
                for _ in 0..=MAX_FRAMES {
                    match decoder.next_frame() {
                        Ok(frame)
                            if (frame.bit_depth, frame.subsampling_x, frame.subsampling_y) == (8, 1, 1) =>
                        {
                            last = Some(picture((frame.width, frame.height), frame.planes, &frame.strides)?);
                        }
                        Ok(_) => return Err("only 8 bits and 4:2:0 are converted".to_owned()),
                        Err(rusty_vp9::Error::Again) => {}
                        Err(error) => return Err(error.to_string()),
                    }
                }
                Ok(last)
            }
        }
    }
}

fn vp9_pixels(frame: &[u8]) -> u64 {
    let header = parse_uncompressed_header(&mut BitReader::new(frame), &[(0, 0); 8]);
    header.map_or(0, |header| u64::from(header.width) * u64::from(header.height))
}

/// The frames of a VP9 superframe (VP9 bitstream specification, annex B), or the one there is.
fn superframe(data: &[u8]) -> Vec<&[u8]> {
    let indexed = || {
        let marker = *data.last().filter(|marker| *marker & 0xe0 == 0xc0)?;
        let (count, width) = (usize::from(marker & 7) + 1, usize::from(marker >> 3 & 3) + 1);
        let index = data.get(data.len().checked_sub(2 + width * count)?..)?;
        let sizes = index.strip_prefix(&[marker])?.get(..width * count)?.chunks(width);
        let size = |bytes: &[u8]| bytes.iter().rev().fold(0, |size, byte| size << 8 | usize::from(*byte));
        let mut at = 0;
        let frames = sizes.map(size).filter_map(|size| {
            let frame = data.get(at..at + size);
            at += size;
            frame
        });
        Some(frames.collect::<Vec<_>>()).filter(|frames| !frames.is_empty())
    };
    indexed().unwrap_or_else(|| vec![data])
}

fn picture((width, height): (u32, u32), planes: Vec<Vec<u8>>, strides: &[usize]) -> Result<Picture, String> {
    let size = (width as usize, height as usize);
    let bad = || "the decoder gave no whole picture".to_owned();
    let planes: [Vec<u8>; 3] = planes.try_into().map_err(|_| bad())?;
    let strides: [usize; 3] = strides.try_into().map_err(|_| bad())?;
    let rows = [size.1, size.1.div_ceil(2), size.1.div_ceil(2)];
    let whole =
        planes.iter().zip(strides).zip(rows).all(|((plane, stride), rows)| plane.len() >= stride * rows);
    let wide = strides[0] >= size.0 && strides[1].min(strides[2]) >= size.0 / 2;
    (whole && wide && size.0 > 1 && size.1 > 1).then_some(Picture { size, planes, strides }).ok_or_else(bad)
}

impl VpxToH264 {
    /// A conversion of `from` with the bounds of `config`.
    pub fn new(from: &Format, to: &Format, config: &BridgeConfig) -> Result<VpxToH264, String> {
        Ok(VpxToH264 {
            decoder: Decoder::open(Codec::from_mime(&from.codec.mime_type))?,
            max_pixels: config.video_max_pixels,
            output: Output::new(config, to),
            waiting: true,
            errors: 0,
        })
    }

    fn frame(&mut self, frame: &Frame, catchup: bool, sink: Sink<'_>) -> Result<(), String> {
        self.output.rate.add(frame.dts, frame.data.len());
        self.output.reached(catchup);
        if self.waiting && !frame.keyframe {
            return Ok(());
        }
        self.waiting = false;
        if self.decoder.pixels(&frame.data) > self.max_pixels {
            let most = self.max_pixels;
            return Err(format!("the picture has more than {most} pixels (bridge.video_max_pixels)"));
        }
        match self.decoder.decode(&frame.data) {
            Ok(shown) => {
                self.errors = 0;
                shown.map_or(Ok(()), |picture| self.output.picture(&picture, frame.pts, catchup, sink))
            }
            Err(reason) => {
                self.errors += 1;
                if self.errors > MAX_ERRORS {
                    return Err(format!("the publisher's picture cannot be decoded: {reason}"));
                }
                tracing::debug!("a picture could not be decoded: {reason}");
                self.begin_anew(sink);
                Ok(())
            }
        }
    }

    fn begin_anew(&mut self, sink: Sink<'_>) {
        if !std::mem::replace(&mut self.waiting, true) {
            sink(DirectIn::NeedKeyframe);
        }
    }
}

impl Convert for VpxToH264 {
    fn push(&mut self, input: DirectOut, sink: Sink<'_>) -> Result<(), String> {
        match input {
            DirectOut::Frame { frame, catchup } => return self.frame(&frame, catchup, sink),
            DirectOut::Gap => self.begin_anew(sink),
            DirectOut::KeyframeRequest => self.output.encoder.request_keyframe(),
            DirectOut::Packet(_) => {}
        }
        Ok(())
    }

    fn resync(&mut self) {
        self.output.encoder.request_keyframe();
    }
}

#[cfg(test)]
mod tests {
    use openh264::OpenH264API;
    use openh264::decoder::{DecodedYUV, Flush};

    use super::*;
    use crate::core::capabilities::{Kind, RtpCodec};
    use crate::core::payload::h264;
    use crate::core::time::MediaTime;

    /// 24 pictures of 160 x 98 of a moving gradient, keyframes each 12: ffmpeg 5.1, `-f lavfi -i
    /// "nullsrc=s=160x98:r=30,geq=lum='mod(X*2+Y+N*6\,180)+30':cb=128:cr=128"`, libvpx in real time.
    const CLIPS: [(&str, &[u8]); 2] = [
        ("video/VP8", include_bytes!("../../tests/data/gradient-vp8.ivf")),
        ("video/VP9", include_bytes!("../../tests/data/gradient-vp9.ivf")),
    ];

    fn frames(ivf: &[u8]) -> Vec<Frame> {
        let mut rest = &ivf[32..];
        let mut out = Vec::new();
        while let Some((header, behind)) = rest.split_at_checked(12) {
            let (data, next) = behind.split_at(u32::from_le_bytes(*header.first_chunk().unwrap()) as usize);
            let time = MediaTime::from_micros(out.len() as i64 * 33_333);
            let keyframe = out.len() % 12 == 0;
            out.push(Frame {
                track: 1,
                pts: time,
                dts: time,
                keyframe,
                discardable: false,
                data: data.to_vec(),
            });
            rest = next;
        }
        out
    }

    fn job(mime: &str, config: &BridgeConfig) -> VpxToH264 {
        let codec =
            |mime: &str| RtpCodec { mime_type: mime.into(), clock_rate: 90_000, ..RtpCodec::default() };
        let from = Format { kind: Kind::Video, codec: codec(mime), config: Vec::new(), reordered: false };
        let to = crate::bridge::target::target(&from, &[codec("video/H264")]).unwrap();
        VpxToH264::new(&from, &to, config).unwrap()
    }

    fn feed(job: &mut VpxToH264, input: DirectOut) -> (Vec<Frame>, u32) {
        let (mut out, mut asked) = (Vec::new(), 0);
        let mut sink = |output| match output {
            DirectIn::Frame(frame) => out.push(frame),
            DirectIn::NeedKeyframe => asked += 1,
            other => panic!("{other:?}"),
        };
        job.push(input, &mut sink).unwrap();
        (out, asked)
    }

    fn live(frame: &Frame) -> DirectOut {
        DirectOut::Frame { frame: frame.clone(), catchup: false }
    }

    /// How far the picture `number` of `frames` is from what was painted, per pixel.
    fn errors(frames: &[Frame]) -> Vec<f64> {
        let config = openh264::decoder::DecoderConfig::new().flush_after_decode(Flush::NoFlush);
        let mut decoder =
            openh264::decoder::Decoder::with_api_config(OpenH264API::from_source(), config).unwrap();
        let (mut stream, mut found) = (Vec::new(), Vec::new());
        let mut judge = |picture: &DecodedYUV<'_>| {
            let ((width, height), (stride, ..)) = (picture.dimensions(), picture.strides());
            assert_eq!((width, height), (160, 98));
            let number = found.len();
            let off = |x: usize, y: usize| {
                let painted = (x * 2 + y + number * 6) % 180 + 30;
                painted.abs_diff(usize::from(picture.y()[y * stride + x]))
            };
            let sum: usize =
                (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| off(x, y)).sum();
            found.push(sum as f64 / (width * height) as f64);
        };
        for frame in frames {
            stream.clear();
            h264::to_annex_b(&frame.data, &mut stream);
            if let Some(picture) = decoder.decode(&stream).unwrap() {
                judge(&picture);
            }
        }
        for picture in decoder.flush_remaining().unwrap() {
            judge(&picture);
        }
        found
    }

    #[test]
    fn every_picture_comes_out_as_it_was_painted() {
        for (mime, clip) in CLIPS {
            let mut job = job(mime, &BridgeConfig::default());
            let frames = frames(clip);
            assert_eq!(frames.len(), 24);
            let out: Vec<Frame> = frames.iter().flat_map(|frame| feed(&mut job, live(frame)).0).collect();
            assert!(out[0].keyframe);
            let times = |frames: &[Frame]| frames.iter().map(|frame| frame.pts).collect::<Vec<_>>();
            assert_eq!(times(&out), times(&frames), "{mime}");
            let errors = errors(&out);
            assert_eq!(errors.len(), 24);
            assert!(errors.iter().all(|error| *error < 12.0), "{mime}: {errors:?}");
        }
    }

    #[test]
    fn after_a_missing_picture_a_keyframe_is_asked_for_and_waited_for() {
        for (mime, clip) in CLIPS {
            let mut job = job(mime, &BridgeConfig::default());
            let frames = frames(clip);
            let mut pushed = |input| {
                let (out, asked) = feed(&mut job, input);
                (out.len(), asked)
            };
            assert_eq!(pushed(live(&frames[1])), (0, 0), "nothing before the first keyframe");
            assert_eq!(pushed(live(&frames[0])), (1, 0));
            assert_eq!(pushed(DirectOut::Gap), (0, 1));
            assert_eq!(pushed(DirectOut::Gap), (0, 0), "asked for once");
            assert_eq!(pushed(live(&frames[3])), (0, 0));
            assert_eq!(pushed(live(&frames[12])), (1, 0));
        }
    }

    #[test]
    fn pictures_read_from_the_cache_are_not_shown_but_the_first() {
        let mut job = job(CLIPS[0].0, &BridgeConfig::default());
        let frames = frames(CLIPS[0].1);
        let old = |frame: &Frame| DirectOut::Frame { frame: frame.clone(), catchup: true };
        let shown: usize = frames[..6].iter().map(|frame| feed(&mut job, old(frame)).0.len()).sum();
        assert_eq!(shown, 1);
        assert_eq!(feed(&mut job, live(&frames[6])).0.len(), 1);
    }

    #[test]
    fn a_picture_that_says_it_is_huge_ends_the_job_before_anything_is_made_for_it() {
        for (mime, clip) in CLIPS {
            let config = BridgeConfig { video_max_pixels: 160 * 98 - 1, ..BridgeConfig::default() };
            let mut job = job(mime, &config);
            let error = job.push(live(&frames(clip)[0]), &mut |_| panic!("nothing comes out"));
            assert!(error.is_err_and(|text| text.contains("bridge.video_max_pixels")), "{mime}");
        }
    }

    #[test]
    fn every_frame_of_a_superframe_is_judged() {
        let large = &frames(CLIPS[1].1)[0].data;
        let mut data = vec![0x87, 1, 2];
        let sizes = [3u32, large.len() as u32];
        data.extend(large);
        data.push(0xd9);
        data.extend(sizes.iter().flat_map(|size| size.to_le_bytes()));
        data.push(0xd9);
        assert_eq!(superframe(&data), [&[0x87, 1, 2][..], large]);
        assert_eq!(Decoder::open(Codec::Vp9).unwrap().pixels(&data), 160 * 98);
    }

    #[test]
    fn what_cannot_be_decoded_is_left_out_and_ends_the_job_if_it_goes_on() {
        for (mime, clip) in CLIPS {
            let mut job = job(mime, &BridgeConfig::default());
            let mut bad = frames(clip)[0].clone();
            bad.data.truncate(12);
            let pushed =
                (0..100).map(|_| job.push(live(&bad), &mut |_| {})).position(|result| result.is_err());
            assert!(pushed.is_some_and(|at| at >= 10), "{mime}: {pushed:?}");
        }
    }
}
