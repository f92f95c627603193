//! Bookkeeping of one incoming stream: statistics and report blocks (RFC 3550 §6.4, A.3, A.8), loss and its
//! repair (RFC 4585), transport-wide feedback.

mod nack;
mod score;
mod stats;
mod transport_cc;

pub use nack::{DuplicateGuard, NackGenerator, NackLimits};
pub use score::Score;
pub use stats::ReceiveStats;
pub use transport_cc::TransportCcRecorder;
