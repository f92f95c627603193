//! The bridge: everything that needs a codec runs here, on its own few threads, never on a worker. Conversions
//! of one track into another ([`Bridge`], asked for by the core through [`Converter`]) and the built-in
//! source ([`clip::ClipSession`]).

pub mod clip;
pub mod config;
pub mod vclip;

use crate::core::capabilities::RtpCodec;
use crate::core::convert::{Converter, Format, Job, Refusal};

pub use config::BridgeConfig;

/// The converter with its threads.
pub struct Bridge {}

impl Bridge {
    /// Starts the bridge's threads.
    pub fn start(config: BridgeConfig) -> std::io::Result<Bridge> {
        let _ = config;
        todo!()
    }
}

impl Converter for Bridge {
    fn target(&self, from: &Format, accepted: &[RtpCodec]) -> Option<Format> {
        let _ = (from, accepted);
        todo!()
    }

    fn start(&self, job: Job) -> Result<(), Refusal> {
        let _ = job;
        todo!()
    }
}
