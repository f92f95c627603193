//! One SCTP association over DTLS (RFC 8261) on `sctp-proto`, from which nothing else of it is seen:
//! packets and time in; packets, messages and the end out.
//!
//! Browsers begin the association as soon as DTLS is through; some stacks only do so in one of the DTLS or
//! ICE roles. So the party is given a moment, and then we begin. Should both begin at once, the DTLS client
//! goes on and the server gives way.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sctp_proto::{
    AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier as Ppid, ReliabilityType, ServerConfig, Stream, StreamEvent, TransportConfig,
};

use crate::core::data::Delivery;
use crate::webrtc::SctpConfig;

/// The port that WebRTC gives to data channels (RFC 8841 §5.2 has it in SDP; everybody says 5000).
pub(super) const PORT: u16 = 5_000;
/// DTLS has the address; the library only wants one.
const REMOTE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);
/// Record header, explicit nonce and tag of DTLS 1.2 with GCM (37 bytes) and a little.
const DTLS_OVERHEAD: usize = 40;
/// Headers of an SCTP packet with one DATA chunk.
const DATA_OVERHEAD: usize = 28;

/// What the association says.
#[derive(Debug)]
pub(super) enum Said {
    /// Streams can be opened.
    Connected,
    /// It is over; why, for people.
    Over(&'static str),
    /// A whole message.
    Message { stream: u16, ppid: Ppid, payload: Bytes },
    /// The party closed a stream, and ours was closed with it.
    Finished(u16),
}

/// See the module.
pub(super) struct Association {
    endpoint: Endpoint,
    transport: Arc<TransportConfig>,
    current: Option<(AssociationHandle, sctp_proto::Association)>,
    /// We began it, and it does not stand yet.
    calling: bool,
    /// We give way to the party's beginning.
    yields: bool,
    /// When we begin.
    call_at: Option<Instant>,
    delay: Duration,
    over: bool,
    packets: VecDeque<Bytes>,
    said: VecDeque<Said>,
}

impl Association {
    /// An association that waits for DTLS; packets fit into DTLS datagrams of `mtu` bytes.
    pub fn new(config: &SctpConfig, mtu: usize) -> Self {
        let transport = || {
            TransportConfig::default()
                .with_max_receive_buffer_size(config.receive_buffer_bytes)
                .with_max_send_message_size(config.max_message_bytes)
                .with_max_receive_message_size(config.max_message_bytes)
                .with_max_num_inbound_streams(config.max_streams)
                .with_max_num_outbound_streams(config.max_streams)
                .with_max_init_retransmits(Some(config.connect_retries))
                .with_rto_initial_ms(config.rto_initial_ms)
                .with_rto_min_ms(config.rto_min_ms)
                .with_rto_max_ms(config.rto_max_ms)
        };
        let payload = mtu.saturating_sub(DTLS_OVERHEAD + DATA_OVERHEAD).max(256) & !3;
        let mut endpoint = EndpointConfig::new();
        endpoint.max_payload_size(u32::try_from(payload).unwrap_or(u32::MAX));
        let mut server = ServerConfig::new();
        server.transport = Arc::new(transport());
        Association {
            endpoint: Endpoint::new(Arc::new(endpoint), Some(Arc::new(server))),
            transport: Arc::new(transport()),
            current: None,
            calling: false,
            yields: true,
            call_at: None,
            delay: config.connect_delay(),
            over: false,
            packets: VecDeque::new(),
            said: VecDeque::new(),
        }
    }

    /// DTLS is through; as its client or its server.
    pub fn start(&mut self, now: Instant, client: bool) {
        self.yields = !client;
        if self.current.is_none() {
            self.call_at = Some(now + self.delay);
        }
    }

    /// Takes one packet.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        let packet = Bytes::copy_from_slice(packet);
        self.step(now, |this| match this.endpoint.handle(now, REMOTE, None, None, packet) {
            Some((handle, DatagramEvent::NewAssociation(association)))
                if this.current.is_none() || (this.calling && this.yields) =>
            {
                (this.current, this.calling, this.call_at) = (Some((handle, association)), false, None);
            }
            Some((handle, DatagramEvent::AssociationEvent(event))) => {
                if let Some((_, association)) = this.current.as_mut().filter(|(own, _)| *own == handle) {
                    association.handle_event(event);
                }
            }
            _ => {}
        });
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.call_at.is_some_and(|at| at <= now) {
            self.call_at = None;
            self.step(now, Association::call);
        }
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.step(now, |this| {
                if let Some((_, association)) = &mut this.current {
                    association.handle_timeout(now);
                }
            });
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = self.current.as_ref().and_then(|(_, association)| association.poll_timeout());
        [self.call_at, own].into_iter().flatten().min()
    }

    /// The next packet to send.
    pub fn poll_packet(&mut self) -> Option<Bytes> {
        self.packets.pop_front()
    }

    /// What it has to say.
    pub fn poll_said(&mut self) -> Option<Said> {
        self.said.pop_front()
    }

    fn call(&mut self) {
        if self.current.is_some() {
            return;
        }
        let mut config = ClientConfig::new();
        config.transport = Arc::clone(&self.transport);
        self.calling = true;
        match self.endpoint.connect(config, REMOTE) {
            Ok(begun) => self.current = Some(begun),
            Err(_) => self.end("SCTP could not begin"),
        }
    }

    /// Opens a stream, or says how one that is there delivers; `false` when that is not possible (now).
    pub fn open(&mut self, now: Instant, stream: u16, delivery: Delivery) -> bool {
        self.ask(now, |association| {
            let opened = association.open_stream(stream, Ppid::Binary).is_ok();
            if !opened && !association.stream(stream).is_ok_and(|stream| stream.is_writable()) {
                return false;
            }
            association.stream(stream).is_ok_and(|mut stream| set_delivery(&mut stream, delivery))
        })
    }

    /// Queues a message on an open stream; `false` when that is not possible.
    pub fn write(&mut self, now: Instant, stream: u16, ppid: Ppid, payload: Bytes) -> bool {
        self.ask(now, |association| {
            let Ok(mut stream) = association.stream(stream) else { return false };
            stream.set_default_payload_type(ppid).is_ok() && stream.write_chunks(&mut [payload]).is_ok()
        })
    }

    /// Bytes of a stream that the party has not acknowledged yet.
    pub fn buffered(&mut self, stream: u16) -> usize {
        let Some((_, association)) = &mut self.current else { return 0 };
        association.stream(stream).and_then(|stream| stream.buffered_amount()).unwrap_or(0)
    }

    /// Closes a stream in both directions.
    pub fn close(&mut self, now: Instant, stream: u16) {
        self.ask(now, |association| {
            association.stream(stream).is_ok_and(|mut stream| stream.close().is_ok())
        });
    }

    fn ask(&mut self, now: Instant, ask: impl FnOnce(&mut sctp_proto::Association) -> bool) -> bool {
        let mut done = false;
        self.step(now, |this| {
            if let Some((_, association)) = &mut this.current {
                done = ask(association);
            }
        });
        done
    }

    /// Does `action` and takes what comes of it. The library works on bytes from a network; should it panic,
    /// only the data channels of this party are lost.
    fn step(&mut self, now: Instant, action: impl FnOnce(&mut Self)) {
        if self.over {
            return;
        }
        let done = catch_unwind(AssertUnwindSafe(|| {
            action(self);
            self.drain(now);
        }));
        if done.is_err() {
            self.end("the SCTP library broke");
        }
    }

    fn drain(&mut self, now: Instant) {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            self.packets.extend(raw(transmit.payload));
        }
        let Some((handle, mut association)) = self.current.take() else { return };
        let mut over = None;
        while let Some(event) = association.poll() {
            match event {
                Event::Connected => {
                    self.calling = false;
                    self.said.push_back(Said::Connected);
                }
                Event::HandshakeFailed { .. } => over = Some("the remote party does not speak SCTP"),
                Event::AssociationLost { .. } => over = Some("the SCTP association is lost"),
                Event::Stream(StreamEvent::Readable { id }) => {
                    if let Ok(stream) = association.stream(id) {
                        read(id, stream, &mut self.said);
                    }
                }
                Event::Stream(StreamEvent::Finished { id }) => self.said.push_back(Said::Finished(id)),
                _ => {}
            }
        }
        while let Some(transmit) = association.poll_transmit(now) {
            self.packets.extend(raw(transmit.payload));
        }
        while let Some(event) = association.poll_endpoint_event() {
            self.endpoint.handle_event(handle, event);
        }
        self.current = Some((handle, association));
        if let Some(reason) = over {
            self.end(reason);
        }
    }

    fn end(&mut self, reason: &'static str) {
        (self.over, self.current, self.call_at) = (true, None, None);
        self.said.push_back(Said::Over(reason));
    }
}

fn raw(payload: Payload) -> Vec<Bytes> {
    match payload {
        Payload::RawEncode(packets) => packets,
        Payload::PartialDecode(_) => Vec::new(),
    }
}

fn set_delivery(stream: &mut Stream<'_>, delivery: Delivery) -> bool {
    let (kind, value) = match (delivery.max_retransmits, delivery.max_packet_life_time) {
        (Some(retransmits), _) => (ReliabilityType::Rexmit, retransmits),
        (None, Some(life_time)) => (ReliabilityType::Timed, life_time),
        (None, None) => (ReliabilityType::Reliable, 0),
    };
    stream.set_reliability_params(!delivery.ordered, kind, u32::from(value)).is_ok()
}

fn read(id: u16, mut stream: Stream<'_>, said: &mut VecDeque<Said>) {
    while let Ok(Some(message)) = stream.read() {
        let mut payload = vec![0; message.len()];
        if message.read(&mut payload).is_ok() {
            said.push_back(Said::Message { stream: id, ppid: message.ppi, payload: payload.into() });
        }
    }
}
