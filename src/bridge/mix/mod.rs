//! Mixes: what a receiver of one track of sound hears of a room. A jitter buffer a source, the loudest summed each
//! 20 ms, everybody's own voice taken out again, one encoding for all who hear the same.
//!
//! ```text
//! packets ─► source: order, wait, decode, conceal, follow the clock ─► level ─┐
//! tones, prompts ─────────────────────────────────────────────────────────────┼─► sum ─► limit ─► encode ─► frames
//! ```

pub mod codec;
mod conceal;
pub mod config;
mod delay;
mod drift;
mod fir;
mod level;
mod limiter;
mod mixer;
mod pitch;
mod player;
mod prompts;
mod run;
mod source;
#[cfg(test)]
pub mod tests;
mod tones;
mod wav;

pub use prompts::Prompts;
pub use run::RunningMix;
pub use wav::Wav;

use std::sync::Arc;

use crate::bridge::aac;
use crate::bridge::mix::config::MixConfig;
use crate::bridge::target::aac_format;
use crate::core::capabilities::{Kind, RtpCodec};
use crate::core::convert::{Format, MixJob};
use crate::core::payload::Codec;

/// Whether a track of that format can be mixed in.
pub fn takes(from: &Format) -> bool {
    from.kind == Kind::Audio && codec::is_known(Codec::from_mime(&from.codec.mime_type))
}

/// What a mix is sent as to a receiver of `accepted`: the first it names that can be made.
pub fn target(accepted: &[RtpCodec]) -> Option<Format> {
    let known = |codec: &&RtpCodec| match Codec::from_mime(&codec.mime_type) {
        Codec::Aac => codec.clock_rate == aac::RATE,
        other => codec::is_known(other),
    };
    let mut codec = accepted.iter().find(known)?.clone();
    if Codec::from_mime(&codec.mime_type) == Codec::Aac {
        return Some(aac_format());
    }
    // What only one receiver says must not keep others from sharing.
    codec.parameters.retain(|name, _| name == "maxplaybackrate");
    codec.rtcp_feedback.clear();
    Some(Format { kind: Kind::Audio, codec, config: Vec::new(), reordered: false })
}

/// Whether it is a codec of telephones.
pub fn is_telephone(codec: &RtpCodec) -> bool {
    matches!(Codec::from_mime(&codec.mime_type), Codec::Pcmu | Codec::Pcma | Codec::G722)
}

/// A mix ready to run.
pub fn running(job: MixJob, config: Arc<MixConfig>, prompts: Prompts) -> RunningMix {
    RunningMix::new(job, mixer::Mix::new(config, prompts))
}
