//! SIP on its sockets: binds, runs the switchboard on the main thread, and takes orders from the server.

mod files;
mod flows;
mod media;
mod names;
mod stack;
mod ws;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, trace, warn};

use crate::core::auth::{Authority, Principal};
use crate::core::control::Rooms;
use crate::core::control::calls::{Asked, CallError, CallInfo, Calls, Dial};
use crate::core::id::Pii;
use crate::core::room::RoomName;
use crate::sip::config::{SipConfig, Transport};
use crate::sip::demux::{self, Switchboard};
use crate::sip::error::{SipError, WireError};
use crate::sip::session::guard::{Admission, Guard, Turned};
use crate::sip::session::media::MediaEvent;
use crate::sip::session::registrar::Registrar;
use crate::sip::session::{Action, ClientTx, Destination, Incoming, SessionId, Source, TxFailure, token};
use crate::sip::wire::refusal::refusal_bytes;
use crate::sip::wire::via::Via;
use crate::sip::wire::{Message, Method, Request, WireLimits};
pub use ws::router as websocket;

use files::Connectors;
use flows::{Announced, Arrival, Flows, Packet, wire_limits};
use media::Media;
use names::Names;
use stack::{Outcome, Sender, Stack};

/// What may wait between the parts of SIP.
const QUEUE: usize = 4096;
/// How often names are looked up anew, and what was turned away is told.
const LOOK_UP: Duration = Duration::from_secs(300);
const REPORT: Duration = Duration::from_secs(10);
/// How long good-byes may take.
const GOODBYE: Duration = Duration::from_millis(1500);

/// What reaches the switchboard from its helpers.
pub(super) enum Event {
    /// From transactions.
    Incoming(Incoming),
    /// From a call's media.
    Media(SessionId, MediaEvent),
    /// A trunk's names were looked up: what they came to, and how it is to be spoken with.
    Resolved(usize, Vec<IpAddr>, Option<Transport>),
}

/// What the server asks.
enum Order {
    Dial(demux::Order, oneshot::Sender<Result<SessionId, CallError>>),
    HangUp(SessionId, String, oneshot::Sender<Result<(), CallError>>),
    Hold(SessionId, bool, oneshot::Sender<Result<(), CallError>>),
    Dtmf(SessionId, String, oneshot::Sender<Result<(), CallError>>),
    Transfer(SessionId, String, String, oneshot::Sender<Result<(), CallError>>),
    Calls(oneshot::Sender<Vec<CallInfo>>),
    State(oneshot::Sender<SipState>),
    Socket(SocketAddr, bool, mpsc::Receiver<Vec<u8>>, mpsc::Sender<Vec<u8>>),
    Drain,
    Close(oneshot::Sender<()>),
}

/// Trunks, phones and loads, as the API shows them.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct SipState {
    /// Trunks: name, registered, alive, calls.
    pub trunks: Vec<(String, Option<bool>, Option<bool>, usize)>,
    /// Registered users and at how many places each can be reached.
    pub phones: Vec<(String, usize)>,
    /// Calls.
    pub calls: usize,
    /// Open transactions.
    pub transactions: usize,
    /// Stream connections.
    pub connections: usize,
    /// Messages of banned addresses that were thrown away since the start.
    pub banned: u64,
    /// Requests beyond the rate.
    pub too_fast: u64,
    /// Bans.
    pub bans: u64,
}

/// Asks things of SIP; cheap to clone.
#[derive(Clone)]
pub struct SipHandle {
    orders: mpsc::Sender<Order>,
    /// What no room may be called.
    reserved: &'static [&'static str],
}

impl SipHandle {
    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.orders.send(order(sender)).await.ok()?;
        receiver.await.ok()
    }

    async fn order<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, CallError>>) -> Order,
    ) -> Result<T, CallError> {
        let stopped = || Err(CallError::Unavailable("SIP is stopping".into()));
        self.ask(order).await.unwrap_or_else(stopped)
    }

    /// Trunks, phones, loads.
    pub async fn state(&self) -> SipState {
        self.ask(Order::State).await.unwrap_or_default()
    }

    /// Hands a WebSocket over: messages in, messages out.
    pub async fn websocket(
        &self,
        remote: SocketAddr,
        secure: bool,
        from: mpsc::Receiver<Vec<u8>>,
        to: mpsc::Sender<Vec<u8>>,
    ) {
        let _ = self.orders.send(Order::Socket(remote, secure, from, to)).await;
    }

    /// Takes no more calls.
    pub async fn drain(&self) {
        let _ = self.orders.send(Order::Drain).await;
    }

    /// Hangs up everywhere and takes registrations back; resolves when that is done or took too long.
    pub async fn close(&self) {
        let _ = self.ask(Order::Close).await;
    }
}

impl Calls for SipHandle {
    fn dial<'a>(&'a self, who: &'a Principal, dial: Dial) -> Asked<'a, Result<SessionId, CallError>> {
        let bad = RoomName::new(&dial.room, self.reserved).err();
        let order = demux::Order { dial, principal: who.id().to_owned() };
        Box::pin(async move {
            match bad {
                Some(error) => Err(CallError::Bad(error.to_string())),
                None => self.order(|reply| Order::Dial(order, reply)).await,
            }
        })
    }

    fn hang_up<'a>(&'a self, call: SessionId, text: &'a str) -> Asked<'a, Result<(), CallError>> {
        Box::pin(self.order(move |reply| Order::HangUp(call, text.to_owned(), reply)))
    }

    fn hold(&self, call: SessionId, held: bool) -> Asked<'_, Result<(), CallError>> {
        Box::pin(self.order(move |reply| Order::Hold(call, held, reply)))
    }

    fn send_dtmf<'a>(&'a self, call: SessionId, digits: &'a str) -> Asked<'a, Result<(), CallError>> {
        Box::pin(self.order(move |reply| Order::Dtmf(call, digits.to_owned(), reply)))
    }

    fn transfer<'a>(
        &'a self,
        who: &'a Principal,
        call: SessionId,
        number: &'a str,
    ) -> Asked<'a, Result<(), CallError>> {
        let ask = move |reply| Order::Transfer(call, number.to_owned(), who.id().to_owned(), reply);
        Box::pin(self.order(ask))
    }

    fn list(&self) -> Asked<'_, Vec<CallInfo>> {
        Box::pin(async { self.ask(Order::Calls).await.unwrap_or_default() })
    }
}

/// Bound sockets that wait to be served.
pub struct Door {
    config: Arc<SipConfig>,
    udp: Option<std::net::UdpSocket>,
    tcp: Option<std::net::TcpListener>,
    tls: Option<std::net::TcpListener>,
}

impl Door {
    /// Binds what the configuration names.
    pub fn bind(config: &SipConfig) -> Result<Self, SipError> {
        let fault = |kind: &str, address: SocketAddr| {
            let name = format!("{kind} {address}");
            move |error| SipError::Listen(name, error)
        };
        let udp = config.udp.map(|address| std::net::UdpSocket::bind(address).map_err(fault("UDP", address)));
        let tcp =
            config.tcp.map(|address| std::net::TcpListener::bind(address).map_err(fault("TCP", address)));
        let tls =
            config.tls.map(|address| std::net::TcpListener::bind(address).map_err(fault("TLS", address)));
        let door = Door {
            config: Arc::new(config.clone()),
            udp: udp.transpose()?,
            tcp: tcp.transpose()?,
            tls: tls.transpose()?,
        };
        // What would only fail later fails now.
        files::trunks(config)?;
        files::users(config)?;
        files::acceptor(config)?;
        Connectors::new(config)?;
        Ok(door)
    }

    /// Each open port with its protocol and what it is for.
    pub fn ports(&self) -> Vec<(u16, &'static str, &'static str)> {
        let udp = self.udp.as_ref().and_then(|socket| socket.local_addr().ok());
        let tcp = self.tcp.as_ref().and_then(|socket| socket.local_addr().ok());
        let tls = self.tls.as_ref().and_then(|socket| socket.local_addr().ok());
        let named = [(udp, "udp", "SIP"), (tcp, "tcp", "SIP"), (tls, "tcp", "SIP over TLS")];
        named.into_iter().filter_map(|(address, kind, what)| Some((address?.port(), kind, what))).collect()
    }

    /// Runs SIP in tasks of the present runtime.
    pub async fn open(
        self,
        (rooms, authority): (Rooms, Arc<Authority>),
        reserved: &'static [&'static str],
    ) -> Result<SipHandle, SipError> {
        let config = self.config;
        let other = |error: std::io::Error| SipError::Config(error.to_string());
        let mut ports = HashMap::new();
        if let Some(address) = self.udp.as_ref().and_then(|socket| socket.local_addr().ok()) {
            ports.insert(Transport::Udp, address);
        }
        for (transport, socket) in [(Transport::Tcp, &self.tcp), (Transport::Tls, &self.tls)] {
            if let Some(address) = socket.as_ref().and_then(|socket| socket.local_addr().ok()) {
                ports.insert(transport, address);
            }
        }
        let announced = Announced { ip: config.announced_address, ports };
        let udp = self.udp.map(|socket| {
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        });
        let outward = (Connectors::new(&config)?, Names::new(&config.nameservers));
        let (arrive, arrivals) = mpsc::channel(QUEUE);
        let flows = Flows::new(
            udp.transpose().map_err(other)?,
            outward,
            announced.clone(),
            arrive,
            config.limits.clone(),
        );
        let flows = flows.await.map_err(other)?;
        let acceptor = files::acceptor(&config)?.map(TlsAcceptor::from);
        for (listener, tls) in [(self.tcp, None), (self.tls, acceptor)] {
            let Some(listener) = listener else { continue };
            listener.set_nonblocking(true).map_err(other)?;
            let listener = TcpListener::from_std(listener).map_err(other)?;
            tokio::spawn(flows.clone().accept(listener, tls));
        }
        let (tell, events) = mpsc::channel(QUEUE);
        let limits = wire_limits(&config.limits);
        let stack =
            Stack::new(tell.clone(), limits, config.limits.max_transactions).map_err(SipError::Config)?;
        let registrar = Registrar::new(files::users(&config)?);
        let trunks = files::trunks(&config)?;
        let board = Switchboard::new(config.clone(), Box::new(announced), trunks, registrar, Instant::now());
        let (orders, taken) = mpsc::channel(256);
        let exchange = Exchange {
            board,
            stack,
            flows,
            media: Media::new((rooms, authority), reserved, tell.clone()),
            guard: Guard::new(&config.limits),
            turned: Turned::default(),
            limits,
            symmetric: config.symmetric_answers,
            patience: Duration::from_millis(config.limits.failover_ms),
            tell,
        };
        tokio::spawn(exchange.run(arrivals, events, taken));
        Ok(SipHandle { orders, reserved })
    }
}

/// Sends a request to the first of its places that answers (RFC 3263 §4.3).
async fn deliver(
    flows: &Arc<Flows>,
    sender: &Sender,
    (tx, request, to): (ClientTx, Request, Destination),
    patience: Duration,
) -> Result<(), TxFailure> {
    let places = flows.places(&to).await;
    let mut failure = TxFailure::Transport;
    for (at, place) in places.iter().enumerate() {
        let more = at + 1 < places.len();
        match flows.way_to(place, &to.uri.host).await {
            Ok(way) => match sender.send(tx, request.clone(), way, more.then_some(patience)).await {
                Outcome::Over => return Ok(()),
                Outcome::Failed(why) => failure = why,
            },
            Err(error) => {
                debug!(transport = to.transport.via(), %error, "a request could not be sent");
                failure = TxFailure::Transport;
            }
        }
        flows.doubt(place);
    }
    Err(failure)
}

/// Sends an ACK, which nobody answers, to the first of its places that can be reached.
async fn acknowledge(flows: &Arc<Flows>, request: Request, to: &Destination) {
    for place in flows.places(to).await {
        match flows.way_to(&place, &to.uri.host).await {
            Ok(way) => return stack::send_bare(request, &way).await,
            Err(error) => debug!(%error, "an ACK could not be sent"),
        }
    }
}

/// Notes in the first Via where a request came from.
fn note_source(request: &mut Request, source: Source, symmetric: bool) {
    let first = request.headers.all("Via").next().and_then(|text| Via::parse(text).ok());
    if let Some(mut via) = first {
        via.received_from(source.addr, symmetric || source.transport.is_reliable());
        request.headers.set_first("Via", via.to_string());
    }
}

/// The switchboard with everything it needs around it.
struct Exchange {
    board: Switchboard,
    stack: Stack,
    flows: Arc<Flows>,
    media: Media,
    guard: Guard,
    /// What it turned away since the start.
    turned: Turned,
    limits: WireLimits,
    symmetric: bool,
    /// How long a place may be silent, where there are others.
    patience: Duration,
    tell: mpsc::Sender<Event>,
}

impl Exchange {
    async fn run(
        mut self,
        mut arrivals: mpsc::Receiver<Arrival>,
        mut events: mpsc::Receiver<Event>,
        mut orders: mpsc::Receiver<Order>,
    ) {
        let mut look_up = tokio::time::interval(LOOK_UP);
        let mut report = tokio::time::interval(REPORT);
        let mut closing: Option<(Instant, oneshot::Sender<()>)> = None;
        self.act().await;
        loop {
            let mut wake = self.board.poll_timeout().unwrap_or_else(|| Instant::now() + LOOK_UP);
            if let Some((end, _)) = &closing {
                wake = wake.min(*end).min(Instant::now() + Duration::from_millis(20));
            }
            tokio::select! {
                biased;
                Some(event) = events.recv() => self.event(event),
                order = orders.recv() => match order {
                    Some(Order::Close(reply)) => {
                        self.board.close(Instant::now());
                        closing = Some((Instant::now() + GOODBYE, reply));
                    }
                    Some(order) => self.order(order),
                    None => return,
                },
                Some(arrival) = arrivals.recv() => self.arrival(arrival).await,
                () = tokio::time::sleep_until(wake.into()) => self.board.handle_timeout(Instant::now()),
                _ = look_up.tick() => self.look_up(),
                _ = report.tick() => self.report(),
            }
            self.act().await;
            let over =
                closing.as_ref().is_some_and(|(end, _)| *end <= Instant::now() || self.board.is_quiet());
            if over && let Some((_, reply)) = closing.take() {
                let _ = reply.send(());
                return;
            }
        }
    }

    fn event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Incoming(incoming) => self.board.handle_incoming(now, incoming),
            Event::Media(call, event) => self.board.handle_media(now, call, event),
            Event::Resolved(trunk, addresses, transport) => {
                self.board.handle_resolved(now, trunk, (addresses, transport));
            }
        }
    }

    async fn arrival(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Closed(flow) => self.board.handle_incoming(Instant::now(), Incoming::FlowClosed(flow)),
            Arrival::Packet(packet) => self.packet(*packet).await,
        }
    }

    /// Judges a message, reads it, judges it again, and hands it to its transaction.
    async fn packet(&mut self, packet: Packet) {
        let (now, address) = (Instant::now(), packet.source.addr.ip());
        if self.guard.is_banned(address, now) {
            return;
        }
        let mut message = match Message::parse(&packet.data, &self.limits) {
            Ok(message) => message,
            Err(error) => return self.not_understood(&packet, &error, now).await,
        };
        if let Message::Request(request) = &mut message {
            // An ACK makes no transaction, a CANCEL belongs to one. A dialog that there is none of is a new request, too.
            let counts = !matches!(request.method, Method::Ack | Method::Cancel);
            let opens = counts && !self.board.knows_dialog(request);
            let admitted =
                !opens || self.guard.admit(address, self.board.is_trunk(address), now) == Admission::Yes;
            if !admitted || (counts && !self.stack.has_room()) {
                return;
            }
            note_source(request, packet.source, self.symmetric);
        }
        if let Err(request) = self.stack.receive(message, packet.source, &packet.way).await {
            // No transaction can be made of it, so it is answered without one, each time it comes.
            if let Some(response) = demux::without_transaction(&request) {
                packet.way.send_raw(Message::Response(response).to_bytes()).await;
            }
        }
        while let Some(incoming) = self.stack.poll_incoming() {
            self.board.handle_incoming(now, incoming);
        }
    }

    /// Tells an honest sender what is wrong, as long as it does not come too often.
    async fn not_understood(&mut self, packet: &Packet, error: &WireError, now: Instant) {
        let address = packet.source.addr.ip();
        trace!(remote = %Pii(packet.source.addr), %error, "a message was not understood");
        // Anybody can put another's address on a datagram.
        if packet.way.flow.is_some() {
            self.blame(address, "an unreadable message");
        }
        let admission = self.guard.admit(address, self.board.is_trunk(address), now);
        let answer = refusal_bytes(&packet.data, error, &self.limits, &token());
        if let (Admission::Yes, Some(answer)) = (admission, answer) {
            packet.way.send_raw(answer).await;
        }
    }

    fn blame(&mut self, address: IpAddr, what: &'static str) {
        if !self.board.is_trunk(address) && self.guard.blame(address, Instant::now()) {
            info!("an address is banned for a while; the last straw was {what}");
        }
    }

    fn order(&mut self, order: Order) {
        let now = Instant::now();
        match order {
            Order::Dial(order, reply) => drop(reply.send(self.board.dial(now, &order))),
            Order::HangUp(call, text, reply) => drop(reply.send(self.board.hang_up(now, call, &text))),
            Order::Hold(call, held, reply) => drop(reply.send(self.board.hold(now, call, held))),
            Order::Dtmf(call, digits, reply) => drop(reply.send(self.board.send_dtmf(now, call, &digits))),
            Order::Transfer(call, number, principal, reply) => {
                drop(reply.send(self.board.transfer(now, call, &number, &principal)));
            }
            Order::Calls(reply) => drop(reply.send(self.board.summaries(now))),
            Order::State(reply) => drop(reply.send(self.state(now))),
            Order::Socket(remote, secure, from, to) => {
                tokio::spawn(self.flows.clone().websocket(remote, secure, from, to));
            }
            Order::Drain => self.board.drain(),
            Order::Close(_) => {}
        }
    }

    fn state(&mut self, now: Instant) -> SipState {
        self.report();
        SipState {
            trunks: self.board.trunk_states(),
            phones: self.board.phones(now),
            calls: self.board.len(),
            transactions: self.stack.len(),
            connections: self.flows.len(),
            banned: self.turned.banned,
            too_fast: self.turned.fast,
            bans: self.turned.bans,
        }
    }

    /// Does what the switchboard wants done.
    async fn act(&mut self) {
        while let Some(action) = self.board.poll_action() {
            match action {
                Action::Send { tx, request, to } => self.send(tx, request, to),
                Action::Cancel { tx, reason } => self.stack.cancel(tx, reason),
                Action::Ack { request, to } => {
                    // At once where nothing has to be found or opened, so that it goes before what follows it.
                    match self.flows.ready(&to) {
                        Some(way) => stack::send_bare(request, &way).await,
                        None => {
                            let flows = self.flows.clone();
                            tokio::spawn(async move { acknowledge(&flows, request, &to).await });
                        }
                    }
                }
                Action::Respond { tx, response } => self.stack.respond(tx, &response),
                Action::Media { call, ask } => self.media.ask(call, ask),
                Action::Tell { room, event, .. } => self.media.announce(&room, event),
                Action::Blame { addr, what } => self.blame(addr, what),
                // The switchboard decides these itself.
                Action::Refer { .. } | Action::Redirect { .. } => {}
            }
        }
    }

    /// Sends a request from a task of its own, which tries one place after the other.
    fn send(&mut self, tx: ClientTx, request: Request, to: Destination) {
        let (flows, tell, sender) = (self.flows.clone(), self.tell.clone(), self.stack.sender());
        let patience = self.patience;
        tokio::spawn(async move {
            if let Err(failure) = deliver(&flows, &sender, (tx, request, to), patience).await {
                let failed = Incoming::Failed { tx, failure };
                let _ = tell.send(Event::Incoming(failed)).await;
            }
        });
    }

    /// Looks the trunks' names up.
    fn look_up(&self) {
        for (trunk, searches) in self.board.searches() {
            let (flows, tell) = (self.flows.clone(), self.tell.clone());
            tokio::spawn(async move {
                let (mut found, mut first) = (Vec::new(), None);
                for to in searches {
                    let places = flows.locate(&to.uri, to.transport, to.any).await;
                    if places.is_empty() {
                        warn!("a trunk's name was not found");
                    }
                    first = first.or(places.first().map(|(transport, _)| *transport));
                    found.extend(places.into_iter().map(|(_, address)| address.ip()));
                }
                let _ = tell.send(Event::Resolved(trunk, found, first)).await;
            });
        }
    }

    fn report(&mut self) {
        let turned = self.guard.take_turned();
        self.turned.add(turned);
        if turned != Default::default() {
            info!(
                banned = turned.banned,
                too_fast = turned.fast,
                bans = turned.bans,
                "turned SIP messages away in the last seconds"
            );
        }
    }
}
