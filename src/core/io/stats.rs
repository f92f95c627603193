//! Counters of one worker's input and output. The worker counts in plain integers and publishes them
//! once a round; other threads read the published copy.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts since the worker started (gauges where the comment says so).
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
        pub struct IoCounters {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The published copy of a worker's [`IoCounters`].
        #[derive(Debug, Default)]
        pub struct IoStats {
            $($name: AtomicU64,)*
        }

        impl IoStats {
            /// The counters as last published.
            pub fn snapshot(&self) -> IoCounters {
                IoCounters { $($name: self.$name.load(Ordering::Relaxed),)* }
            }

            /// Publishes `counters`.
            pub(crate) fn publish(&self, counters: &IoCounters) {
                $(self.$name.store(counters.$name, Ordering::Relaxed);)*
            }
        }
    };
}

counters! {
    /// Rounds of the loop.
    rounds,
    /// Load in thousandths of a core (gauge).
    load_permille,
    /// Rounds that were put off by the tick.
    tick_rounds,
    /// Microseconds that rounds were put off in all: what the tick can have added to packets' delay.
    tick_wait_us,
    /// The longest a round was put off, in microseconds (gauge).
    tick_wait_max_us,
    /// Datagrams received.
    udp_in_packets,
    /// Their payload bytes.
    udp_in_bytes,
    /// Messages (coalesced trains of datagrams) received.
    udp_in_messages,
    /// Calls that received them.
    udp_in_calls,
    /// Messages cut short because they were longer than a buffer, or otherwise unusable.
    udp_in_malformed,
    /// Datagrams the kernel dropped because the socket's buffer was full.
    udp_in_overflow,
    /// Datagrams sent.
    udp_out_packets,
    /// Their payload bytes.
    udp_out_bytes,
    /// Messages (runs, or single datagrams) sent.
    udp_out_messages,
    /// Calls that sent them.
    udp_out_calls,
    /// Datagrams that left as a segment of a longer message.
    udp_out_segments,
    /// Datagrams dropped because the socket's buffer stayed full.
    udp_out_dropped,
    /// Datagrams the kernel refused (no route, not permitted, too long).
    udp_out_refused,
    /// Times the socket's buffer was full.
    udp_out_full,
    /// Microseconds waited for room in it.
    udp_out_wait_us,
    /// ICE-TCP connections accepted.
    tcp_accepted,
    /// ICE-TCP connections refused or closed by a bound (count, silence, a frame that is nobody's).
    tcp_refused,
    /// ICE-TCP frames received.
    tcp_in_packets,
    /// ICE-TCP frames sent.
    tcp_out_packets,
    /// ICE-TCP frames dropped because the connection's queue was full.
    tcp_out_dropped,
    /// Streams open (gauge).
    streams,
    /// Sockets of plain RTP legs open (gauge).
    legs,
    /// Streams closed because their queue was full.
    streams_overflowed,
    /// Bytes read from streams.
    stream_in_bytes,
    /// Bytes written to streams.
    stream_out_bytes,
}
