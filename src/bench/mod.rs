//! `viaduct bench`: how much a server spends on a packet, and how long it holds it.
//!
//! Publishers (WHIP) and any number of receivers (WHEP), all in this process, with ICE checks, DTLS, SRTP and
//! RTCP as a browser has them, against a server in a process of its own: one started for the purpose, or any other
//! that speaks WHIP and WHEP. A publisher sends 30 frames a second of 7 equal packets, each frame at once (or paced),
//! and a larger keyframe now and then; each packet carries the time it was sent. The kernel stamps its arrival, so
//! what is measured is the server and the path, not this process.
//!
//! | file | what |
//! | --- | --- |
//! | `control` | controllers, for `--control`: what they ask, what they make of the answers |
//! | `client` | one party: checks, handshake, keys |
//! | `sdp`, `http` | what is said at the door |
//! | `media` | the frames |
//! | `source` | one publisher: what it sends when |
//! | `call` | calls set up and ended one after the other, for `--calls` |
//! | `ear` | tones timed from mouth to ear, for `--ear` |
//! | `viewer` | one receiver: counting, reports, feedback |
//! | `phone` | a telephone, for `--legs`: its call, its note, what it hears |
//! | `result` | figures and how they are shown |
//! | `io` | sockets, processes, the clock |

pub mod call;
pub mod client;
pub mod control;
pub mod ear;
pub mod http;
pub mod io;
pub mod media;
pub mod phone;
pub mod result;
pub mod sdp;
pub mod source;
pub mod viewer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use io::run;

/// What to measure; arguments of the command line.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How many receivers of one stream, one stage each; ascending.
    #[arg(long, value_delimiter = ',', default_value = "1,100,500")]
    pub viewers: Vec<usize>,
    /// Measure rooms instead, this many, one stage each, ascending: every member publishes and receives each of the
    /// others in a session of its own, as WHEP has it.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["viewers", "legs"])]
    pub rooms: Vec<usize>,
    /// Measure telephones in mixed rooms instead, this many, one stage each; ascending.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["viewers", "url"])]
    pub legs: Vec<usize>,
    /// Controllers instead.
    #[command(flatten)]
    pub control: control::ControlOptions,
    /// Telephones, or members, in one room.
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
    /// Instead of stages: so many seconds with the most receivers there are to be, of whom some leave and others come
    /// all the time; fails if one is stuck or the server's memory grows.
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["rooms", "legs", "idle"])]
    pub soak: Option<u64>,
    /// Publishers spread a frame's packets over 10 ms, as browsers do, instead of sending them at once.
    #[arg(long)]
    pub paced: bool,
    /// Publishers are there but send nothing: what receivers cost that wait.
    #[arg(long)]
    pub idle: bool,
    /// Seconds between keyframes.
    #[arg(long, default_value_t = 8)]
    pub keyframe_seconds: u64,
    /// Publishers do not hear requests for keyframes.
    #[arg(long)]
    pub deaf: bool,
    /// Workers of the server that is started.
    #[arg(long, default_value_t = 1)]
    pub workers: u16,
    /// Measure a server that runs already, by its address, as http://IP:PORT; needs --pid. Without it a Viaduct is
    /// started for the purpose.
    #[arg(long, value_name = "URL", requires = "pid")]
    pub url: Option<String>,
    /// The process whose time and memory count.
    #[arg(long)]
    pub pid: Option<u32>,
    /// The bearer token of publishers.
    #[arg(long, value_name = "TOKEN")]
    pub key: Option<String>,
    /// Where a stream is published; {room} stands for its name.
    #[arg(long, value_name = "PATH", default_value = "/{room}/whip")]
    pub whip: String,
    /// Where it is watched.
    #[arg(long, value_name = "PATH", default_value = "/{room}/whep")]
    pub whep: String,
    /// Calls instead.
    #[command(flatten)]
    pub calls: call::CallOptions,
    /// Write the report into this file as well.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write the report as JSON into this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
