//! Bounds and sizes of the workers' input and output, and which addresses and ports they open.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Ports, threads, buffers and the tick. Every field has a default that suits most hosts. The first ones
/// stand in the `webrtc` section of the file, the others in `workers`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct IoConfig {
    /// Worker threads; 0: one fewer than the cores this process may use, at least one. Default 0.
    #[serde(rename = "count")]
    pub workers: u16,
    /// Pin each worker to a core of its own. Default true.
    pub pin: bool,
    /// UDP and TCP port of the first worker, the next one has the next number. Default 8189.
    #[serde(skip)]
    pub port: u16,
    /// Addresses to listen on. An IPv6 address that the host cannot bind is skipped while another one
    /// can. Default `0.0.0.0` and `::`.
    #[serde(skip)]
    pub listen: Vec<IpAddr>,
    /// Addresses told to remote parties beside the host's own: the public side of a NAT or the host
    /// of a container. Default none.
    #[serde(skip)]
    pub announced_addresses: Vec<IpAddr>,
    /// Tell remote parties the loopback addresses too, not only where there is nothing else.
    /// Default false.
    #[serde(skip)]
    pub announce_loopback: bool,
    /// Accept ICE-TCP on the same port numbers. Default true.
    #[serde(skip)]
    pub tcp: bool,

    /// First port for plain RTP legs. Default 10000.
    #[serde(skip)]
    pub leg_port_min: u16,
    /// Last port for plain RTP legs. Default 10999.
    #[serde(skip)]
    pub leg_port_max: u16,

    /// Under load, the next round of a worker begins this long after the last one began, in
    /// microseconds, so that a frame's packets leave together; up to twice that above 85 % load.
    /// 0 turns it off. Default 2000.
    pub tick_us: u32,
    /// The load (percent of a core) above which the tick begins. Default 25.
    pub tick_from_percent: u8,

    /// Socket receive buffer in bytes (the kernel's limit may cap it). Default 4 MiB.
    pub udp_receive_buffer: usize,
    /// Socket send buffer in bytes (the kernel's limit may cap it). Default 4 MiB.
    pub udp_send_buffer: usize,
    /// Receive buffer of a plain RTP leg's socket in bytes. Default 256 KiB.
    pub leg_receive_buffer: usize,
    /// Messages received in one call, 64 KiB of address space each. Default 32.
    pub receive_batch: usize,
    /// Calls to receive on one socket in one round. Default 8.
    pub receive_calls: usize,
    /// Bytes of sealed datagrams in one flush. Default 512 KiB.
    pub send_batch_bytes: usize,
    /// Runs of datagrams in one flush. Default 512.
    pub send_batch_runs: usize,
    /// How long one flush may wait for room in the socket's buffer before it drops the rest, in
    /// microseconds. Default 2000.
    pub send_wait_us: u32,
    /// Use generic segmentation offload where the kernel has it. Default true.
    pub gso: bool,

    /// ICE-TCP connections of one worker. Default 1024.
    pub tcp_connections: usize,
    /// ICE-TCP connections of one remote address with one worker. Default 64.
    pub tcp_connections_per_address: usize,
    /// An ICE-TCP connection that brought nothing valid for so long is closed, in milliseconds.
    /// Default 5000.
    pub tcp_first_frame_ms: u32,
    /// The longest ICE-TCP frame taken, in bytes. Default 4096.
    pub tcp_frame_bytes: usize,
    /// Bytes that wait for an ICE-TCP connection; a frame beyond it is dropped. Default 512 KiB.
    pub tcp_write_bytes: usize,
    /// Bytes that wait for an adopted stream (RTMP); beyond it the stream is closed. Default 4 MiB.
    pub stream_write_bytes: usize,
    /// Bytes read from one stream in one round. Default 64 KiB.
    pub stream_read_bytes: usize,
    /// How long a stream that is being closed may take to deliver what waits, in milliseconds.
    /// Default 2000.
    pub stream_linger_ms: u32,

    /// Hand-overs (sessions, lanes) that wait for one worker; beyond it they are refused. Default 1024.
    pub mail: usize,
    /// Bytes of answers and events that wait for the main thread; beyond it the worker reads no more
    /// requests and gives out no more events until it is taken. Default 8 MiB.
    pub control_write_bytes: usize,
}

impl Default for IoConfig {
    fn default() -> Self {
        IoConfig {
            workers: 0,
            pin: true,
            port: 8189,
            listen: vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            announced_addresses: Vec::new(),
            announce_loopback: false,
            tcp: true,
            leg_port_min: 10_000,
            leg_port_max: 10_999,
            tick_us: 2000,
            tick_from_percent: 25,
            udp_receive_buffer: 4 << 20,
            udp_send_buffer: 4 << 20,
            leg_receive_buffer: 256 << 10,
            receive_batch: 32,
            receive_calls: 8,
            send_batch_bytes: 512 << 10,
            send_batch_runs: 512,
            send_wait_us: 2000,
            gso: true,
            tcp_connections: 1024,
            tcp_connections_per_address: 64,
            tcp_first_frame_ms: 5000,
            tcp_frame_bytes: 4096,
            tcp_write_bytes: 512 << 10,
            stream_write_bytes: 4 << 20,
            stream_read_bytes: 64 << 10,
            stream_linger_ms: 2000,
            mail: 1024,
            control_write_bytes: 8 << 20,
        }
    }
}

impl IoConfig {
    /// The tick, or `None` when it is turned off.
    pub fn tick(&self) -> Option<Duration> {
        (self.tick_us > 0).then(|| Duration::from_micros(u64::from(self.tick_us)))
    }
}
