//! Sockets: one UDP socket, listeners for TCP and TLS, connections in both directions and WebSockets.
//!
//! What comes is cut into messages here and handed on in a bounded queue; what goes to a connection waits in
//! its own queue, and a party that does not take it in time loses the connection.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rsipstack::transport::channel::ChannelConnection;
use rsipstack::transport::udp::UdpConnection;
use rsipstack::transport::{SipConnection, TransportEvent};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::{timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::ServerName;
use tracing::{debug, trace};

use crate::core::id::Pii;
use crate::sip::config::{SipLimits, Transport};
use crate::sip::error::WireError;
use crate::sip::io::files::Connectors;
use crate::sip::io::names::Names;
use crate::sip::io::stack::sip_addr;
use crate::sip::session::locate::{Search, Step};
use crate::sip::session::{Destination, FlowId, Source, token};
use crate::sip::wire::frame::{Frame, next};
use crate::sip::wire::refusal::refusal_bytes;
use crate::sip::wire::{Message, Uri, WireLimits};

/// How long a connection may take to be made, and to take what is sent to it.
const CONNECT: Duration = Duration::from_secs(5);
const WRITE: Duration = Duration::from_secs(10);
/// Messages that may wait for a connection.
const MAX_WAITING: usize = 1024;
/// Addresses that one destination comes to at most.
const MAX_PLACES: usize = 8;
/// Bytes beside messages that may wait for one: pongs, answers to what was not understood.
const RAW: usize = 4;

/// Bytes that go out beside the crate: a pong, an answer to what it could not read.
pub(super) enum Raw {
    /// These.
    Bytes(Vec<u8>),
    /// These, and then the connection is closed.
    Last(Vec<u8>),
}

/// Where they go.
#[derive(Clone)]
pub(super) enum RawWay {
    Datagrams(Arc<Both>),
    Stream(mpsc::Sender<Raw>),
}

/// How a message goes to somebody.
#[derive(Clone)]
pub(super) struct Way {
    pub connection: SipConnection,
    pub raw: RawWay,
    pub remote: SocketAddr,
    pub local: SocketAddr,
    pub transport: Transport,
    pub flow: Option<FlowId>,
}

/// A message as it came.
pub(super) struct Packet {
    pub data: Vec<u8>,
    pub source: Source,
    pub way: Way,
}

/// What sockets tell.
pub(super) enum Arrival {
    Packet(Box<Packet>),
    Closed(FlowId),
}

/// Every socket of SIP.
pub(super) struct Flows {
    udp: Option<Way>,
    tls: Connectors,
    names: Names,
    announced: Announced,
    arrivals: mpsc::Sender<Arrival>,
    limits: SipLimits,
    wire: WireLimits,
    table: Mutex<Table>,
    last: AtomicU64,
}

/// Where a connection leads: how, to whom, and by which name its certificate was checked.
type LeadsTo = (Transport, SocketAddr, String);

/// Where a connection that was accepted leads; nobody's certificate was checked.
fn accepted(transport: Transport, remote: SocketAddr) -> LeadsTo {
    (transport, remote, String::new())
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Where a message can be sent.
#[derive(Clone)]
pub(super) enum Place {
    /// By a connection that stands.
    Standing(Box<Way>),
    /// To this address.
    Address(Transport, SocketAddr),
}

/// A connection that was entered into the table, and what is to be written to it.
struct Registered {
    way: Way,
    flow: FlowId,
    outgoing: mpsc::UnboundedReceiver<TransportEvent>,
    raw: mpsc::Receiver<Raw>,
}

#[derive(Default)]
struct Table {
    ways: HashMap<FlowId, Way>,
    /// Connections by where they lead.
    by_remote: HashMap<LeadsTo, FlowId>,
    /// Places that did not answer, and until when others are tried first.
    doubtful: HashMap<(Transport, SocketAddr), Instant>,
    per_address: HashMap<IpAddr, usize>,
    /// TLS handshakes under way; they count as connections.
    handshakes: usize,
}

impl Table {
    /// Counts one more connection of an address, if there may be one.
    fn count(&mut self, address: IpAddr, limits: &SipLimits) -> Result<(), &'static str> {
        if self.ways.len() + self.handshakes >= limits.max_connections {
            return Err("too many connections");
        }
        let here = self.per_address.entry(address).or_default();
        if *here >= limits.max_connections_per_address {
            return Err("too many connections of this address");
        }
        *here += 1;
        Ok(())
    }
}

/// The place of a connection whose TLS handshake is under way.
struct Handshaking {
    flows: Arc<Flows>,
    address: IpAddr,
}

impl Handshaking {
    fn begin(flows: &Arc<Flows>, address: IpAddr) -> Option<Handshaking> {
        let mut table = flows.table();
        table.count(address, &flows.limits).ok()?;
        table.handshakes += 1;
        Some(Handshaking { flows: Arc::clone(flows), address })
    }
}

impl Drop for Handshaking {
    fn drop(&mut self) {
        let mut table = self.flows.table();
        table.handshakes -= 1;
        forget_address(&mut table, self.address);
    }
}

/// Our addresses as told to others.
#[derive(Clone, Debug)]
pub(super) struct Announced {
    /// The public side of a NAT.
    pub ip: Option<IpAddr>,
    /// Listening ports by transport.
    pub ports: HashMap<Transport, SocketAddr>,
}

impl Announced {
    /// Our address toward a remote one: what is configured, what the socket is bound to, or what the
    /// kernel would send from.
    pub fn toward(&self, remote: Option<IpAddr>, transport: Transport) -> SocketAddr {
        let bound = self.ports.get(&transport).or_else(|| self.ports.values().next()).copied();
        let bound = bound.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], transport.port())));
        let own = || {
            let remote = remote?.to_canonical();
            let any: SocketAddr = match remote {
                IpAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
                IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            // Connecting a datagram socket sends nothing; it only asks the kernel for the route.
            let socket = std::net::UdpSocket::bind(any).ok()?;
            socket.connect((remote, 9)).ok()?;
            Some(socket.local_addr().ok()?.ip())
        };
        let bound_ip = Some(bound.ip()).filter(|ip| !ip.is_unspecified());
        let loopback = remote.is_some_and(|ip| ip.to_canonical().is_loopback());
        let told = self.ip.filter(|_| !loopback).or(bound_ip).or_else(own);
        let ip = told.unwrap_or(IpAddr::from([127, 0, 0, 1])).to_canonical();
        SocketAddr::new(ip, bound.port())
    }
}

impl crate::sip::session::Addresses for Announced {
    fn toward(&self, remote: Option<IpAddr>, transport: Transport) -> SocketAddr {
        Announced::toward(self, remote, transport)
    }
}

impl Way {
    /// Sends bytes as they are, if there is room for them.
    pub async fn send_raw(&self, bytes: Vec<u8>) {
        match &self.raw {
            RawWay::Datagrams(socket) => {
                let _ =
                    rsipstack::platform::net::UdpSocket::send_to(socket.as_ref(), &bytes, self.remote).await;
            }
            RawWay::Stream(queue) => drop(queue.try_send(Raw::Bytes(bytes))),
        }
    }
}

/// A UDP socket that may be one of IPv6 for both families.
pub(super) struct Both(Arc<UdpSocket>, bool);

#[async_trait::async_trait]
impl rsipstack::platform::net::UdpSocket for Both {
    async fn recv_from(&self, _: &mut [u8]) -> rsipstack::Result<(usize, SocketAddr)> {
        // We read for ourselves.
        std::future::pending().await
    }

    async fn send_to(&self, data: &[u8], to: SocketAddr) -> rsipstack::Result<usize> {
        let to = match to.ip() {
            IpAddr::V4(ip) if self.1 => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            _ => to,
        };
        Ok(self.0.send_to(data, to).await?)
    }

    fn local_addr(&self) -> rsipstack::Result<SocketAddr> {
        Ok(self.0.local_addr()?)
    }
}

impl Flows {
    /// Opens what is bound; `udp` is read by a task of its own.
    pub async fn new(
        udp: Option<UdpSocket>,
        (tls, names): (Connectors, Names),
        announced: Announced,
        arrivals: mpsc::Sender<Arrival>,
        limits: SipLimits,
    ) -> std::io::Result<Arc<Self>> {
        let wire = wire_limits(&limits);
        let mut read = None;
        let udp = match udp {
            None => None,
            Some(socket) => {
                let (socket, local) = (Arc::new(socket), announced.ports.get(&Transport::Udp).copied());
                let local = local.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 5060)));
                let both = Arc::new(Both(socket.clone(), local.is_ipv6()));
                let raw = RawWay::Datagrams(both.clone());
                let connection = UdpConnection::from_socket(both, None, None).await;
                let connection = SipConnection::Udp(connection.map_err(std::io::Error::other)?);
                read = Some(socket);
                Some(Way { connection, raw, remote: local, local, transport: Transport::Udp, flow: None })
            }
        };
        let flows = Arc::new(Flows {
            udp,
            tls,
            names,
            announced,
            arrivals,
            limits,
            wire,
            table: Mutex::default(),
            last: AtomicU64::new(0),
        });
        if let Some(socket) = read {
            tokio::spawn(read_udp(flows.clone(), socket));
        }
        Ok(flows)
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.table().ways.len()
    }

    /// Everywhere a destination can be reached, in the order to be tried: by the connection that stands, at the address
    /// that is known, or where name servers say (RFC 3263). What did not answer lately comes last.
    pub async fn places(&self, to: &Destination) -> Vec<Place> {
        if let Some(way) = to.flow.and_then(|flow| self.table().ways.get(&flow).cloned()) {
            return vec![Place::Standing(Box::new(way))];
        }
        if let Some(remote) = to.addr {
            return vec![Place::Address(to.transport, remote)];
        }
        let mut places = self.locate(&to.uri, to.transport, to.any).await;
        let mut table = self.table();
        let now = Instant::now();
        table.doubtful.retain(|_, until| *until > now);
        places.sort_by_key(|place| table.doubtful.contains_key(place));
        drop(table);
        places.into_iter().map(|(transport, remote)| Place::Address(transport, remote)).collect()
    }

    /// The way to a destination that needs neither a name server nor a new connection.
    pub fn ready(&self, to: &Destination) -> Option<Way> {
        if let Some(way) = to.flow.and_then(|flow| self.table().ways.get(&flow).cloned()) {
            return Some(way);
        }
        let own = || Some(SocketAddr::new(to.uri.ip()?, to.uri.port.unwrap_or(to.transport.port())));
        let remote = canonical(to.addr.or_else(own)?);
        if to.transport == Transport::Udp {
            return self.by_udp(remote).ok();
        }
        let name =
            if to.transport == Transport::Tls { to.uri.host.to_ascii_lowercase() } else { String::new() };
        let table = self.table();
        table.by_remote.get(&(to.transport, remote, name)).and_then(|flow| table.ways.get(flow)).cloned()
    }

    /// What a URI's host comes to.
    pub async fn locate(&self, uri: &Uri, transport: Transport, any: bool) -> Vec<(Transport, SocketAddr)> {
        let mut search = Search::new(uri, transport, any);
        let hops = loop {
            match search.step() {
                Step::Ask(kind, name) => search.handle_records(&self.names.ask(kind, &name).await),
                Step::Try(hops) => break hops,
            }
        };
        let mut places = Vec::new();
        for hop in hops {
            let found = addresses(&hop.host, hop.port).await.unwrap_or_else(|error| {
                debug!(%error, "a host was not found");
                Vec::new()
            });
            for remote in found {
                if places.len() < MAX_PLACES && !places.contains(&(hop.transport, remote)) {
                    places.push((hop.transport, remote));
                }
            }
        }
        places
    }

    /// The way to a place; connects where there is no connection. `host` is what a certificate must name.
    pub async fn way_to(self: &Arc<Self>, place: &Place, host: &str) -> std::io::Result<Way> {
        let (transport, remote) = match place {
            Place::Standing(way) => return Ok(way.as_ref().clone()),
            Place::Address(transport, remote) => (*transport, canonical(*remote)),
        };
        match transport {
            Transport::Udp => self.by_udp(remote),
            Transport::Tcp | Transport::Tls => self.by_stream(remote, transport, host).await,
            Transport::Ws | Transport::Wss => {
                Err(std::io::Error::other("the party's WebSocket is closed, and only the party can open one"))
            }
        }
    }

    /// A place did not answer: for a while others are tried before it.
    pub fn doubt(&self, place: &Place) {
        if let Place::Address(transport, remote) = place {
            let until = Instant::now() + Duration::from_secs(self.limits.failover_s);
            let mut table = self.table();
            if table.doubtful.len() < self.limits.max_tracked_addresses {
                table.doubtful.insert((*transport, *remote), until);
            }
        }
    }

    fn by_udp(&self, remote: SocketAddr) -> std::io::Result<Way> {
        let udp = self.udp.clone().ok_or_else(|| std::io::Error::other("SIP over UDP is turned off"))?;
        let local = self.announced.toward(Some(remote.ip()), Transport::Udp);
        Ok(Way { remote, local, ..udp })
    }

    async fn by_stream(
        self: &Arc<Self>,
        remote: SocketAddr,
        transport: Transport,
        host: &str,
    ) -> std::io::Result<Way> {
        // A certificate speaks for the name it was checked against, and no other.
        let name = if transport == Transport::Tls { host.to_ascii_lowercase() } else { String::new() };
        let leads_to = (transport, remote, name);
        let known = {
            let table = self.table();
            table.by_remote.get(&leads_to).and_then(|flow| table.ways.get(flow)).cloned()
        };
        if let Some(way) = known {
            return Ok(way);
        }
        let stream = timeout(CONNECT, TcpStream::connect(remote)).await??;
        let _ = stream.set_nodelay(true);
        if transport == Transport::Tcp {
            return Ok(self.add(stream, leads_to)?.0);
        }
        let connector = self.tls.toward(host);
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        let stream = timeout(CONNECT, connector.connect(name, stream)).await??;
        Ok(self.add(stream, leads_to)?.0)
    }

    /// Takes a connection; the future ends with it.
    fn add<S>(self: &Arc<Self>, stream: S, leads_to: LeadsTo) -> std::io::Result<(Way, FlowId)>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let Registered { way, flow, mut outgoing, mut raw } = self.register(leads_to)?;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let write = async move {
            loop {
                let (bytes, last) = tokio::select! {
                    event = outgoing.recv() => match event {
                        Some(TransportEvent::Incoming(message, _, _)) => (message.to_bytes(), false),
                        Some(_) => continue,
                        None => break,
                    },
                    Some(raw) = raw.recv() => match raw {
                        Raw::Bytes(bytes) => (bytes, false),
                        Raw::Last(bytes) => (bytes, true),
                    },
                };
                let late = outgoing.len() > MAX_WAITING;
                if late || !matches!(timeout(WRITE, writer.write_all(&bytes)).await, Ok(Ok(()))) || last {
                    break;
                }
            }
            let _ = writer.shutdown().await;
        };
        let (flows, read_way) = (self.clone(), way.clone());
        let read = async move {
            let mut held = Vec::new();
            let mut chunk = vec![0; 4096];
            let idle = Duration::from_secs(flows.limits.idle_s.max(1));
            let partial = Duration::from_secs(flows.limits.partial_s.max(1));
            let mut deadline = Instant::now() + idle;
            while let Ok(Ok(count @ 1..)) = timeout_at(deadline.into(), reader.read(&mut chunk)).await {
                let begun = !held.is_empty();
                held.extend_from_slice(&chunk[..count]);
                let before = held.len();
                if !flows.cut(&mut held, &read_way).await {
                    break;
                }
                // A message that was begun is to be ended soon, however it trickles in.
                match held.len() {
                    0 => deadline = Instant::now() + idle,
                    left if left < before || !begun => deadline = Instant::now() + partial,
                    _ => {}
                }
            }
        };
        self.run(flow, read, write);
        Ok((way, flow))
    }

    /// Hands on every whole message; `false` when the connection is of no use any more.
    async fn cut(&self, held: &mut Vec<u8>, way: &Way) -> bool {
        loop {
            match next(held, &self.wire) {
                Frame::More => return true,
                Frame::Bad => {
                    debug!(transport = way.transport.via(), "closes a connection: no SIP, or too much of it");
                    if let (RawWay::Stream(queue), Some(answer)) = (&way.raw, self.last_word(held))
                        && queue.try_send(Raw::Last(answer)).is_ok()
                    {
                        // The writer closes it behind that.
                        std::future::pending::<()>().await;
                    }
                    return false;
                }
                Frame::Skip(count) => drop(held.drain(..count)),
                Frame::Ping(count) => {
                    held.drain(..count);
                    way.send_raw(b"\r\n".to_vec()).await;
                }
                Frame::Message(count) => {
                    let data: Vec<u8> = held.drain(..count).collect();
                    if !self.hand_on(data, way).await {
                        return false;
                    }
                }
            }
        }
    }

    /// What to say to a request whose end cannot be told, or which is too long.
    fn last_word(&self, held: &[u8]) -> Option<Vec<u8>> {
        let error = match Message::parse(held, &self.wire) {
            Err(WireError::Short) | Ok(_) => WireError::TooLarge("message"),
            Err(error) => error,
        };
        refusal_bytes(held, &error, &self.wire, &token())
    }

    async fn hand_on(&self, data: Vec<u8>, way: &Way) -> bool {
        let source = Source { addr: way.remote, transport: way.transport, flow: way.flow };
        self.arrivals.send(Arrival::Packet(Box::new(Packet { data, source, way: way.clone() }))).await.is_ok()
    }

    /// Enters a connection into the table, within its bounds.
    fn register(&self, (transport, remote, name): LeadsTo) -> std::io::Result<Registered> {
        let remote = canonical(remote);
        let local = self.announced.toward(Some(remote.ip()), transport);
        let flow = FlowId(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        let (sender, outgoing) = mpsc::unbounded_channel();
        let (_, nothing) = mpsc::unbounded_channel();
        // Made at once: its constructor awaits nothing.
        let made = ChannelConnection::create_connection(nothing, sender, sip_addr(remote, transport), None);
        let connection = poll_once(made).ok_or_else(|| std::io::Error::other("no connection"))?;
        let connection = SipConnection::Channel(connection.map_err(std::io::Error::other)?);
        let (queue, raw) = mpsc::channel(RAW);
        let way = Way { connection, raw: RawWay::Stream(queue), remote, local, transport, flow: Some(flow) };
        let mut table = self.table();
        table.count(remote.ip(), &self.limits).map_err(std::io::Error::other)?;
        table.ways.insert(flow, way.clone());
        table.by_remote.insert((transport, remote, name), flow);
        Ok(Registered { way, flow, outgoing, raw })
    }

    fn run(
        self: &Arc<Self>,
        flow: FlowId,
        read: impl Future<Output = ()> + Send + 'static,
        write: impl Future<Output = ()> + Send + 'static,
    ) {
        let flows = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = read => {}
                () = write => {}
            }
            flows.unregister(flow);
            let _ = flows.arrivals.send(Arrival::Closed(flow)).await;
        });
    }

    fn unregister(&self, flow: FlowId) {
        let mut table = self.table();
        if let Some(way) = table.ways.remove(&flow) {
            table.by_remote.retain(|_, known| *known != flow);
            forget_address(&mut table, way.remote.ip());
        }
    }

    /// Accepts connections until the program ends.
    pub async fn accept(self: Arc<Self>, listener: TcpListener, tls: Option<TlsAcceptor>) {
        loop {
            let Ok((stream, remote)) = listener.accept().await else {
                // Out of file descriptors, mostly: the next one may fare better.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let _ = stream.set_nodelay(true);
            let flows = self.clone();
            let Some(tls) = tls.clone() else {
                if let Err(error) = flows.add(stream, accepted(Transport::Tcp, remote)) {
                    trace!(remote = %Pii(remote), %error, "refused a connection");
                }
                continue;
            };
            let Some(place) = Handshaking::begin(&flows, canonical(remote).ip()) else {
                trace!(remote = %Pii(remote), "refused a connection");
                continue;
            };
            tokio::spawn(async move {
                let shaken = timeout(CONNECT, tls.accept(stream)).await;
                drop(place);
                match shaken {
                    Ok(Ok(stream)) => drop(flows.add(stream, accepted(Transport::Tls, remote))),
                    Ok(Err(error)) => debug!(%error, "a TLS handshake failed"),
                    Err(_) => debug!("a TLS handshake took too long"),
                }
            });
        }
    }

    /// A WebSocket whose messages go through two queues; the future ends with it (RFC 7118: one message
    /// of SIP in each of WebSocket).
    pub async fn websocket(
        self: Arc<Self>,
        remote: SocketAddr,
        secure: bool,
        mut from: mpsc::Receiver<Vec<u8>>,
        to: mpsc::Sender<Vec<u8>>,
    ) {
        let transport = if secure { Transport::Wss } else { Transport::Ws };
        let Ok(Registered { way, flow, mut outgoing, mut raw }) = self.register(accepted(transport, remote))
        else {
            return;
        };
        let write = async move {
            loop {
                let bytes = tokio::select! {
                    event = outgoing.recv() => match event {
                        Some(TransportEvent::Incoming(message, _, _)) => message.to_bytes(),
                        Some(_) => continue,
                        None => break,
                    },
                    Some(Raw::Bytes(bytes) | Raw::Last(bytes)) = raw.recv() => bytes,
                };
                let late = outgoing.len() > MAX_WAITING;
                if late || !matches!(timeout(WRITE, to.send(bytes)).await, Ok(Ok(()))) {
                    break;
                }
            }
        };
        let flows = self.clone();
        let read = async move {
            while let Some(data) = from.recv().await {
                let keepalive = data.iter().all(u8::is_ascii_whitespace);
                if !keepalive && !flows.hand_on(data, &way).await {
                    break;
                }
            }
        };
        tokio::select! {
            () = read => {}
            () = write => {}
        }
        self.unregister(flow);
        let _ = self.arrivals.send(Arrival::Closed(flow)).await;
    }
}

fn forget_address(table: &mut Table, address: IpAddr) {
    if let Some(count) = table.per_address.get_mut(&address) {
        *count -= 1;
        if *count == 0 {
            table.per_address.remove(&address);
        }
    }
}

/// Reads datagrams; a full queue drops them, as a full socket would.
async fn read_udp(flows: Arc<Flows>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; 65_536];
    loop {
        let Ok((count, remote)) = socket.recv_from(&mut buffer).await else { continue };
        let data = &buffer[..count];
        if data.len() > flows.limits.max_message_bytes {
            trace!(bytes = count, "a datagram was dropped: too large");
            continue;
        }
        if data.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0) {
            // Keepalives: a double line end wants a single one back (RFC 5626 §4.4.1 on streams; phones
            // send it on UDP too).
            continue;
        }
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        // Answers go back by it; our own address is looked up only for what we ask.
        let Some(way) = flows.udp.clone().map(|udp| Way { remote, ..udp }) else { return };
        let source = Source { addr: remote, transport: Transport::Udp, flow: None };
        let packet = Packet { data: data.to_vec(), source, way };
        if let Err(mpsc::error::TrySendError::Closed(_)) =
            flows.arrivals.try_send(Arrival::Packet(Box::new(packet)))
        {
            return;
        }
    }
}

/// The bounds of a message.
pub(super) fn wire_limits(limits: &SipLimits) -> WireLimits {
    WireLimits {
        max_bytes: limits.max_message_bytes,
        max_header_bytes: limits.max_header_bytes,
        max_headers: limits.max_headers,
    }
}

/// Looks a host's addresses up.
async fn addresses(host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let found = timeout(CONNECT, tokio::net::lookup_host((host, port))).await??;
    Ok(found.map(canonical).collect())
}

fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}
