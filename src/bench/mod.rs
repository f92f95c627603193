//! `viaduct bench`: how much a server spends on a packet, and how long it holds it.
//!
//! One publisher (WHIP) and any number of viewers (WHEP), all in this process, with ICE checks, DTLS, SRTP and
//! RTCP as a browser has them, against a server in a process of its own. The publisher sends 30 frames a second
//! of 7 equal packets, each frame at once, and a larger keyframe now and then; each packet carries the time it
//! was sent. The kernel stamps its arrival, so what is measured is the server and the path, not this process.
//!
//! | file | what |
//! | --- | --- |
//! | `client` | one party: checks, handshake, keys |
//! | `sdp`, `http` | what is said at the door |
//! | `media` | the frames |
//! | `phone` | a telephone, for `--legs`: its call, its note, what it hears |
//! | `viewer` | one receiver: counting, reports, feedback |
//! | `result` | figures and how they are shown |
//! | `io` | sockets, processes, the clock |

pub mod client;
pub mod http;
pub mod io;
pub mod media;
pub mod phone;
pub mod result;
pub mod sdp;
pub mod viewer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use io::run;

/// What to measure; arguments of the command line.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How many viewers, one stage each; ascending.
    #[arg(long, value_delimiter = ',', default_value = "1,100,500")]
    pub viewers: Vec<usize>,
    /// Measure telephones in mixed rooms instead, this many, one stage each; ascending.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["viewers", "url"])]
    pub legs: Vec<usize>,
    /// Telephones in one room.
    #[arg(long, default_value_t = 10)]
    pub room_size: usize,
    /// How many of a room's telephones sound; the others send silence. At most 6.
    #[arg(long, default_value_t = 3)]
    pub singing: usize,
    /// What telephones speak.
    #[arg(long, value_enum, default_value = "pcmu")]
    pub codec: phone::Codec,
    /// Seconds measured in each stage.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Seconds before each measurement, for newcomers to reach the live edge.
    #[arg(long, default_value_t = 4)]
    pub settle: u64,
    /// Measure a server that runs already, by its pages' address; needs --pid and --key. Without it one is
    /// started for the purpose.
    #[arg(long, value_name = "URL", requires_all = ["pid", "key"])]
    pub url: Option<String>,
    /// Its process.
    #[arg(long)]
    pub pid: Option<u32>,
    /// The publish key.
    #[arg(long)]
    pub key: Option<String>,
    /// Write the report into this file as well.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
