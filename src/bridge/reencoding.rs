//! What happens with the pictures of a re-encoding once they are decoded and in order.

use openh264::formats::YUVSource;

use super::config::BridgeConfig;
use super::jobs::Sink;
use super::picture_encoder::PictureEncoder;
use super::rate::SourceRate;
use crate::core::convert::{DirectIn, Format};
use crate::core::time::MediaTime;

/// Presentation times that fall back by more begin a new timeline.
const NEW_TIMELINE: i64 = 1_000_000;

/// See the module.
pub(super) struct Output {
    pub encoder: PictureEncoder,
    pub rate: SourceRate,
    /// The first keyframe is out; while a group is caught up with, nothing else goes out.
    begun: bool,
    /// Pictures are shown as they come.
    live: bool,
    last: Option<MediaTime>,
}

impl Output {
    /// For receivers of `to`, with the bounds of `config`.
    pub fn new(config: &BridgeConfig, to: &Format) -> Output {
        let encoder = PictureEncoder::new(config, to);
        Output { encoder, rate: SourceRate::default(), begun: false, live: false, last: None }
    }

    /// The source is read from its cache (`catchup`), or as it comes: then its rate is known well enough.
    pub fn reached(&mut self, catchup: bool) {
        if !catchup && !self.live {
            self.live = true;
            self.encoder.settle(&self.rate);
        }
    }

    /// Encodes a picture, if it is to be shown.
    pub fn picture(
        &mut self,
        picture: &impl YUVSource,
        pts: MediaTime,
        catchup: bool,
        sink: Sink<'_>,
    ) -> Result<(), String> {
        // The first picture is what somebody waits for.
        if (catchup && self.begun) || !self.in_order(pts) {
            return Ok(());
        }
        self.begun = true;
        self.last = Some(pts);
        let frame = self.encoder.encode(picture, pts, &self.rate)?;
        sink(DirectIn::Frame(frame));
        Ok(())
    }

    fn in_order(&self, pts: MediaTime) -> bool {
        self.last.is_none_or(|last| !(-NEW_TIMELINE..=0).contains(&pts.micros_since(last)))
    }
}
