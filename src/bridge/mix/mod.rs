//! Mixes: what a receiver of one track of sound hears of a room. A jitter buffer a source, the loudest summed each
//! 20 ms, everybody's own voice taken out again, one encoding for all who hear the same.
//!
//! ```text
//! packets ─► source: order, wait, decode, conceal, follow the clock ─► level ─┐
//! tones, prompts ─────────────────────────────────────────────────────────────┼─► sum ─► limit ─► encode ─► frames
//! ```

mod codec;
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
mod source_tests;
#[cfg(test)]
mod tests;
mod tones;
mod wav;
