//! The H.264 encoder of a re-encoding: constrained baseline, every picture coded, keyframes on request and at least
//! every so often, bit rate after the source's.
//!
//! openh264's rate can only be set anew with a new encoder here, which begins with a keyframe; so that is done
//! where a keyframe is due anyway.

use openh264::OpenH264API;
use openh264::Timestamp;
use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, Profile, QpRange,
    RateControlMode, UsageType, VuiConfig,
};
use openh264::formats::YUVSource;

use super::config::BridgeConfig;
use super::rate::SourceRate;
use crate::core::convert::Format;
use crate::core::payload::h264::{self, Colour};
use crate::core::session::Frame;
use crate::core::time::MediaTime;

/// Baseline needs more bits than the source's profile for the same picture, as numerator and denominator.
const SURPLUS: (u64, u64) = (3, 2);
/// Until the source's rate is known: bits per pixel and second, at 30 frames.
const FIRST_GUESS: u64 = 3;
/// Every picture of the source comes out. The encoder, when it is over its rate, skips a picture and counts that as
/// time gone by; so it is asked again. Three times were the most seen. (Forbidden to skip, it complains on standard
/// error and keeps its rate no better.)
const MAX_TRIES: usize = 100;
/// Bytes of the largest slice for receivers of single NAL units (RFC 6184 §5.6).
const SLICE: u32 = 1_000;
/// A rate that is off by less is left as it is, in percent.
const TOLERANCE: u64 = 30;

/// Encodes pictures one after the other.
pub struct PictureEncoder {
    bounds: (u32, u32),
    /// Bytes of the largest slice, where each must fit a packet.
    slice: Option<u32>,
    interval: i64,
    request_gap: i64,
    current: Option<Current>,
    colour: Option<Colour>,
    requested: bool,
    stale: bool,
    first: MediaTime,
}

struct Current {
    encoder: Encoder,
    size: (usize, usize),
    bitrate: u32,
    frame_rate: f32,
    last_keyframe: Option<MediaTime>,
}

impl PictureEncoder {
    /// An encoder with the bounds of `config` for receivers of `to`; it is set up by the first picture.
    pub fn new(config: &BridgeConfig, to: &Format) -> PictureEncoder {
        let low = config.video_bitrate_min.max(50_000);
        PictureEncoder {
            bounds: (low, config.video_bitrate_max.max(low)),
            slice: to.codec.takes_single_units_only().then_some(SLICE),
            interval: i64::from(config.keyframe_interval_ms.max(100)) * 1000,
            request_gap: i64::from(config.keyframe_request_ms) * 1000,
            current: None,
            colour: None,
            requested: false,
            stale: false,
            first: MediaTime::default(),
        }
    }

    /// A keyframe soon; requests close to each other make one.
    pub fn request_keyframe(&mut self) {
        self.requested = true;
    }

    /// The colours written into the stream.
    pub fn set_colour(&mut self, colour: Option<Colour>) {
        self.stale |= self.current.is_some() && colour != self.colour;
        self.colour = colour;
    }

    /// The live edge is reached: if the rate guessed at first is far off, the next picture is a keyframe with the
    /// right one.
    pub fn settle(&mut self, rate: &SourceRate) {
        self.stale |= self.current.as_ref().is_some_and(|current| self.is_off(current, rate));
    }

    fn target(&self, size: (usize, usize), rate: &SourceRate) -> (u32, f32) {
        let guess = (size.0 * size.1) as u64 * FIRST_GUESS;
        let bits = rate.bits_per_second().map_or(guess, |bits| u64::from(bits) * SURPLUS.0 / SURPLUS.1);
        let bits = bits.clamp(u64::from(self.bounds.0), u64::from(self.bounds.1)) as u32;
        (bits, rate.frames_per_second().unwrap_or(30.0).clamp(1.0, 120.0))
    }

    fn is_off(&self, current: &Current, rate: &SourceRate) -> bool {
        let (bits, frames) = self.target(current.size, rate);
        let (now, wanted) = (u64::from(current.bitrate), u64::from(bits));
        now.abs_diff(wanted) * 100 > now * TOLERANCE || (frames / current.frame_rate - 1.0).abs() > 0.2
    }

    /// Encodes `picture`; every call makes a frame.
    pub fn encode(
        &mut self,
        picture: &impl YUVSource,
        pts: MediaTime,
        rate: &SourceRate,
    ) -> Result<Frame, String> {
        let since = self.current.as_ref().and_then(|current| current.last_keyframe);
        let since = since.map(|last| pts.micros_since(last));
        let due = since.is_none_or(|since| since >= self.interval || since < 0);
        let asked = self.requested && since.is_none_or(|since| since >= self.request_gap);
        let keep = self.current.as_ref().is_some_and(|current| {
            current.size == picture.dimensions() && !self.stale && !(due && self.is_off(current, rate))
        });
        if !keep {
            self.current = Some(self.open(picture.dimensions(), rate)?);
            self.first = pts;
            self.stale = false;
        } else if let Some(current) = self.current.as_mut().filter(|_| due || asked) {
            current.encoder.force_intra_frame();
        }
        self.run(picture, pts)
    }

    fn run(&mut self, picture: &impl YUVSource, pts: MediaTime) -> Result<Frame, String> {
        let current = self.current.as_mut().ok_or("the H.264 encoder is not set up")?;
        let millis = Timestamp::from_millis(pts.micros_since(self.first).max(0) as u64 / 1000);
        let mut data = Vec::new();
        let mut keyframe = false;
        for _ in 0..MAX_TRIES {
            let coded = current
                .encoder
                .encode_at(picture, millis)
                .map_err(|error| format!("the H.264 encoder failed: {error}"))?;
            keyframe = coded.frame_type() == FrameType::IDR;
            h264::from_annex_b(&coded.to_vec(), &mut data);
            if !data.is_empty() {
                break;
            }
        }
        if data.is_empty() {
            return Err("the H.264 encoder left a picture out".to_owned());
        }
        if keyframe {
            current.last_keyframe = Some(pts);
            self.requested = false;
        }
        Ok(Frame { track: 0, pts, dts: pts, keyframe, discardable: false, data })
    }

    fn open(&self, size: (usize, usize), rate: &SourceRate) -> Result<Current, String> {
        let (bitrate, frame_rate) = self.target(size, rate);
        let mut config = EncoderConfig::new()
            .bitrate(BitRate::from_bps(bitrate))
            .max_frame_rate(FrameRate::from_hz(frame_rate))
            .profile(Profile::Baseline)
            .usage_type(UsageType::CameraVideoRealTime)
            .rate_control_mode(RateControlMode::Bitrate)
            .complexity(Complexity::Low)
            .intra_frame_period(IntraFramePeriod::auto())
            .qp(QpRange::new(12, 44))
            .skip_frames(true)
            // The thread this runs on, and no others.
            .num_threads(1)
            .scene_change_detect(false)
            .adaptive_quantization(false)
            .background_detection(false)
            .long_term_reference(false);
        if let Some(slice) = self.slice {
            config = config.max_slice_len(slice);
        }
        if let Some(vui) = self.colour.and_then(vui) {
            config = config.vui(vui);
        }
        let encoder = Encoder::with_api_config(OpenH264API::from_source(), config)
            .map_err(|error| format!("the H.264 encoder cannot be set up: {error}"))?;
        tracing::debug!("re-encoding {}x{} at {bitrate} bit/s, {frame_rate} frames/s", size.0, size.1);
        Ok(Current { encoder, size, bitrate, frame_rate, last_keyframe: None })
    }
}

fn vui(colour: Colour) -> Option<VuiConfig> {
    let known = match colour.matrix {
        1 => VuiConfig::bt709(),
        5 | 6 => VuiConfig::bt601(),
        _ => return None,
    };
    Some(known.full_range(colour.full_range))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::capabilities::RtpCodec;
    use crate::core::payload::h264::{NAL_SPS, Sps, nal_type, nals};
    use openh264::formats::YUVSlices;

    fn any() -> Format {
        let parameters = [("packetization-mode".to_owned(), "1".into())].into_iter().collect();
        let codec = RtpCodec { mime_type: "video/H264".into(), parameters, ..RtpCodec::default() };
        crate::bridge::target::slate(&[codec]).expect("a format")
    }

    fn encode(encoder: &mut PictureEncoder, rate: &SourceRate, size: (usize, usize), millis: i64) -> Frame {
        let plane: Vec<u8> = (0..size.0 * size.1).map(|index| (index * 7 + millis as usize) as u8).collect();
        let chroma = &plane[..size.0 * size.1 / 4];
        let strides = (size.0, size.0 / 2, size.0 / 2);
        let picture = YUVSlices::new((&plane, chroma, chroma), size, strides);
        encoder.encode(&picture, MediaTime::from_millis(millis), rate).unwrap()
    }

    fn sps(frame: &Frame) -> Option<Sps> {
        nals(&frame.data).find(|nal| nal_type(nal) == NAL_SPS).and_then(Sps::parse)
    }

    #[test]
    fn a_new_size_of_picture_is_followed() {
        let mut encoder = PictureEncoder::new(&BridgeConfig::default(), &any());
        let rate = SourceRate::default();
        let sizes = [(64, 64), (64, 64), (128, 96)].into_iter().enumerate().map(|(index, size)| {
            let frame = encode(&mut encoder, &rate, size, index as i64 * 33);
            sps(&frame).map(|sps| (sps.width, sps.height))
        });
        assert_eq!(sizes.collect::<Vec<_>>(), [Some((64, 64)), None, Some((128, 96))]);
    }

    #[test]
    fn colours_of_the_source_are_kept() {
        let mut encoder = PictureEncoder::new(&BridgeConfig::default(), &any());
        let colour = Some(Colour { full_range: true, matrix: 1 });
        encoder.set_colour(colour);
        let frame = encode(&mut encoder, &SourceRate::default(), (64, 64), 0);
        assert_eq!(sps(&frame).unwrap().colour, colour);
    }

    #[test]
    fn the_rate_follows_the_sources_within_bounds() {
        let encoder = PictureEncoder::new(&BridgeConfig::default(), &any());
        let mut rate = SourceRate::default();
        assert_eq!(encoder.target((640, 360), &rate), (691_200, 30.0));
        for (bytes, wanted) in [(5_000, 3_000_000), (500, 300_000), (50_000, 6_000_000)] {
            rate = SourceRate::default();
            (0..100).for_each(|index| rate.add(MediaTime::from_millis(index * 20), bytes));
            assert_eq!(encoder.target((640, 360), &rate), (wanted, 50.0));
        }
    }
}
