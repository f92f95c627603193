//! The edge of the core: the only place where workers meet sockets, threads and clocks.
//!
//! | file | what |
//! |---|---|
//! | `pool`, `ports` | binds the media ports, starts the pinned worker threads, replaces one that panics |
//! | `worker` | one thread's loop: receive, handle, flush, send |
//! | `engine` | what the loop drives: the sans-IO worker, or a test's stand-in |
//! | `udp`, `receive`, `send` | datagrams in batches (`recvmmsg` + GRO, `sendmmsg` + GSO) |
//! | `legs` | UDP sockets of plain RTP legs, opened on demand from a range of ports |
//! | `listener`, `stream`, `framing`, `queue` | TCP: ICE-TCP (RFC 6544, RFC 4571) and adopted sockets (RTMP) |
//! | `control` | the worker's end of the control socket |
//! | `controllers` | the sockets of controllers |
//! | `process`, `channel` | a worker as a process of its own: one loop, one socket that its dispatcher passed |
//! | `dispatcher` | the main thread's ends: bytes and the clock for the Dispatcher |
//! | `load` | how busy a worker is, and the adaptive tick |
//! | `epoll`, `eventfd`, `clock`, `sys` | the kernel's calls, made safe |
//! | `addresses`, `port_owner` | the host's addresses; who holds a port |
//! | `below` | files below a folder, by names that strangers give |
//! | `connections` | how many connections a listener has, in all and of one address |
//! | `egress`, `trust` | connections to where somebody asked us to, and whom we trust there |
//! | `config`, `stats`, `error` | bounds, counters, what can fail at start |

pub mod addresses;
#[cfg(test)]
pub(crate) mod allocations;
pub mod below;
mod channel;
pub mod clock;
pub mod config;
pub mod connections;
mod control;
pub mod controllers;
pub mod dispatcher;
pub mod egress;
pub mod engine;
pub(crate) mod epoll;
pub mod error;
pub mod eventfd;
mod framing;
mod legs;
mod listener;
mod load;
#[cfg(test)]
mod measure;
pub mod pool;
pub mod port_owner;
mod ports;
pub mod process;
mod queue;
pub(crate) mod receive;
mod send;
pub mod stats;
mod stream;
pub(crate) mod sys;
#[cfg(test)]
mod tests;
pub mod trust;
mod udp;
mod worker;

pub use channel::ChannelLog;
pub use config::IoConfig;
pub use engine::Engine;
pub use error::IoError;
pub use pool::{PoolEvent, Seat, WorkerPool, WorkerPort};
pub use port_owner::{PortTaken, Protocol};
pub use process::{ProcessConfig, RunningProcess, WorkerProcess};
pub use stats::{IoCounters, IoStats};
