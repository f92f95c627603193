//! Transactions on `rsipstack` (RFC 3261 §17), behind a small interface of our own.
//!
//! Of the crate only transactions, their timers and its parser are used. Sockets are ours: bytes are
//! bounded and judged before they reach it, nothing it logs is ours to log (it prints whole messages), and
//! dialogs are values elsewhere. One task owns it; each transaction has a task that ends with it.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rsipstack::transaction::endpoint::{EndpointInnerRef, EndpointOption};
use rsipstack::transaction::key::{TransactionKey, TransactionRole};
use rsipstack::transaction::transaction::{TransactionEvent, TransactionEventSender};
use rsipstack::transaction::{Endpoint, EndpointBuilder, Transaction, TransactionReceiver};
use rsipstack::transport::SipAddr;
use rsipstack::{platform::CancellationToken, sip};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, trace};

use crate::sip::config::Transport;
use crate::sip::io::Event;
use crate::sip::io::flows::Way;
use crate::sip::session::{ClientTx, Incoming, ServerTx, Source, TxFailure, token};
use crate::sip::wire::uri::bracketed;
use crate::sip::wire::via::Via;
use crate::sip::wire::{Message, Method, NameAddr, Request, Response, WireLimits};

/// What is known of an INVITE of ours, for its CANCEL.
#[derive(Clone)]
struct Sent {
    request: Request,
    way: Way,
}

#[derive(Default)]
struct Open {
    server: HashMap<ServerTx, TransactionEventSender>,
    client: HashMap<ClientTx, Sent>,
}

/// The transaction layer.
pub(super) struct Stack {
    endpoint: Endpoint,
    incoming: TransactionReceiver,
    open: Arc<Mutex<Open>>,
    events: mpsc::Sender<Event>,
    told: VecDeque<Incoming>,
    limits: WireLimits,
    most: usize,
    last: u64,
    cancel: CancellationToken,
    /// What the crate signs its own responses with: those it makes up for a silent party are known by it.
    mark: Arc<str>,
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stack {
    /// A layer that tells `events` what happens; at most `most` transactions at once.
    pub fn new(events: mpsc::Sender<Event>, limits: WireLimits, most: usize) -> Result<Self, String> {
        let cancel = CancellationToken::new();
        // We acknowledge 2xx ourselves: that belongs to the call, not to the transaction.
        let option = EndpointOption { auto_ack_2xx: false, ..EndpointOption::default() };
        let mut builder = EndpointBuilder::new();
        let mark: Arc<str> = format!("viaduct-{}", token()).into();
        builder.with_user_agent(&mark).with_cancel_token(cancel.clone()).with_option(option);
        let endpoint = builder.build();
        let incoming = endpoint.incoming_transactions().map_err(|error| error.to_string())?;
        let timers = endpoint.inner.clone();
        let ended = cancel.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = timers.process_timer() => {}
                () = ended.cancelled() => {}
            }
        });
        let open = Arc::new(Mutex::new(Open::default()));
        Ok(Stack {
            endpoint,
            incoming,
            open,
            events,
            told: VecDeque::new(),
            limits,
            most,
            last: 0,
            cancel,
            mark,
        })
    }

    fn inner(&self) -> &EndpointInnerRef {
        &self.endpoint.inner
    }

    /// Whether another transaction of a remote party fits.
    pub fn has_room(&self) -> bool {
        self.inner().transactions.len() < self.most
    }

    /// Takes a message that was read and let through. `Err`: a request that the crate cannot make a transaction of.
    pub async fn receive(&mut self, message: Message, source: Source, way: &Way) -> Result<(), Request> {
        match message {
            Message::Response(response) => self.receive_response(response, source, way).await,
            Message::Request(request) => return self.receive_request(request, source, way).await,
        }
        Ok(())
    }

    async fn receive_response(&mut self, response: Response, source: Source, way: &Way) {
        let answers_invite = response.headers.cseq().is_some_and(|(_, method)| method == Method::Invite);
        let bytes = Message::Response(response.clone()).to_bytes();
        let Ok(sip::SipMessage::Response(parsed)) = sip::SipMessage::try_from(bytes.as_slice()) else {
            trace!("a response was dropped: not understood");
            return;
        };
        let key = TransactionKey::from_response(&parsed, TransactionRole::Client);
        let awaited = key.is_ok_and(|key| self.inner().transactions.get(&key).is_some());
        if !awaited && answers_invite && (200..300).contains(&response.status) {
            self.told.push_back(Incoming::Late { source, response });
            return;
        }
        let from = sip_addr(source.addr, source.transport);
        let received = self.inner().on_received_message(parsed.into(), way.connection.clone(), &from).await;
        if let Err(error) = received {
            debug!(%error, "a response was dropped");
        }
    }

    async fn receive_request(&mut self, request: Request, source: Source, way: &Way) -> Result<(), Request> {
        let Some(parsed) = readable(&request) else { return Err(request) };
        let from = sip_addr(source.addr, source.transport);
        let received = self.inner().on_received_message(parsed, way.connection.clone(), &from).await;
        if let Err(error) = received {
            debug!(%error, "a request was dropped");
        }
        // One request begins one transaction at most.
        if let Ok(transaction) = self.incoming.try_recv() {
            self.begin(transaction, request, source).await;
        }
        Ok(())
    }

    /// What came of the messages that were taken, in order. It goes by no queue: the task that would have to empty it
    /// is the one that fills it.
    pub fn poll_incoming(&mut self) -> Option<Incoming> {
        self.told.pop_front()
    }

    /// A remote party opened a transaction.
    async fn begin(&mut self, transaction: Transaction, request: Request, source: Source) {
        self.last += 1;
        let tx = ServerTx(self.last);
        lock(&self.open).server.insert(tx, transaction.tu_sender.clone());
        let task = serve(transaction, tx, source, (self.events.clone(), self.open.clone()), self.generous());
        tokio::spawn(task);
        self.told.push_back(Incoming::Request { tx, source, request });
    }

    /// What the crate writes may be a little longer than what came.
    fn generous(&self) -> WireLimits {
        WireLimits {
            max_bytes: self.limits.max_bytes + 4096,
            max_header_bytes: self.limits.max_header_bytes + 4096,
            max_headers: self.limits.max_headers + 10,
        }
    }

    /// Answers a request.
    pub fn respond(&self, tx: ServerTx, response: &Response) {
        let bytes = Message::Response(response.clone()).to_bytes();
        let Ok(sip::SipMessage::Response(mut parsed)) = sip::SipMessage::try_from(bytes.as_slice()) else {
            debug!(status = response.status, "a response of ours is not understood by the stack");
            return;
        };
        // Words of ours for people, which it would replace by the usual ones.
        if parsed.status_code.text() != response.reason {
            parsed.status_code = sip::StatusCode::Other(response.status, response.reason.clone());
        }
        if let Some(sender) = lock(&self.open).server.get(&tx) {
            let _ = sender.send(TransactionEvent::Respond(parsed));
        }
    }

    /// What begins transactions of ours, also from another task.
    pub fn sender(&self) -> Sender {
        Sender {
            inner: self.inner().clone(),
            open: self.open.clone(),
            events: self.events.clone(),
            limits: self.generous(),
            mark: self.mark.clone(),
        }
    }

    /// Sends a CANCEL for an INVITE of ours (RFC 3261 §9.1).
    pub fn cancel(&self, tx: ClientTx, reason: Option<String>) {
        let Some(Sent { request: invite, way }) = lock(&self.open).client.get(&tx).cloned() else { return };
        let mut request = Request::new(Method::Cancel, invite.uri.clone());
        let via = invite.headers.all("Via").next().unwrap_or_default().to_owned();
        request.headers.push("Via", via);
        request.headers.push("Max-Forwards", "70");
        for name in ["From", "To", "Call-ID", "Route"] {
            request.headers.copy(name, &invite.headers);
        }
        let number = invite.headers.cseq().map_or(1, |(number, _)| number);
        request.headers.push("CSeq", format!("{number} CANCEL"));
        if let Some(reason) = reason {
            request.headers.push("Reason", reason);
        }
        let bytes = Message::Request(request).to_bytes();
        let Ok(sip::SipMessage::Request(parsed)) = sip::SipMessage::try_from(bytes.as_slice()) else {
            return;
        };
        let Ok(key) = TransactionKey::from_request(&parsed, TransactionRole::Client) else { return };
        let mut transaction =
            Transaction::new_client(key, parsed, self.inner().clone(), Some(way.connection.clone()));
        transaction.destination = Some(sip_addr(way.remote, way.transport));
        tokio::spawn(async move {
            if transaction.send().await.is_ok() {
                while transaction.receive().await.is_some() {}
            }
        });
    }

    /// How many transactions are open.
    pub fn len(&self) -> usize {
        self.inner().transactions.len()
    }
}

/// What became of a request at one place.
pub(super) enum Outcome {
    /// It was answered, and the answers were told.
    Over,
    /// It was not, and nothing was told: another place may do better.
    Failed(TxFailure),
}

/// Begins transactions of ours.
pub(super) struct Sender {
    inner: EndpointInnerRef,
    open: Arc<Mutex<Open>>,
    events: mpsc::Sender<Event>,
    limits: WireLimits,
    mark: Arc<str>,
}

impl Sender {
    /// Sends a request and tells its answers; `way` is how it goes. With `patience` there are other places: so much
    /// silence, or a 503, and it is theirs.
    pub async fn send(
        &self,
        tx: ClientTx,
        mut request: Request,
        way: Way,
        patience: Option<Duration>,
    ) -> Outcome {
        add_via(&mut request, &way, &format!("z9hG4bK{}", token()));
        let Some(mut transaction) = self.transaction(&request, &way) else {
            debug!(method = %request.method, "a request of ours is not understood by the stack");
            return Outcome::Failed(TxFailure::Transport);
        };
        if request.method == Method::Invite {
            lock(&self.open).client.insert(tx, Sent { request, way: way.clone() });
        }
        let outcome = self.carry(&mut transaction, tx, &way, patience).await;
        lock(&self.open).client.remove(&tx);
        outcome
    }

    fn transaction(&self, request: &Request, way: &Way) -> Option<Transaction> {
        let bytes = Message::Request(request.clone()).to_bytes();
        let Ok(sip::SipMessage::Request(parsed)) = sip::SipMessage::try_from(bytes.as_slice()) else {
            return None;
        };
        let key = TransactionKey::from_request(&parsed, TransactionRole::Client).ok()?;
        let connection = Some(way.connection.clone());
        let mut transaction = Transaction::new_client(key, parsed, self.inner.clone(), connection);
        transaction.destination = Some(sip_addr(way.remote, way.transport));
        Some(transaction)
    }

    async fn carry(
        &self,
        transaction: &mut Transaction,
        tx: ClientTx,
        way: &Way,
        patience: Option<Duration>,
    ) -> Outcome {
        let source = Source { addr: way.remote, transport: way.transport, flow: way.flow };
        let (mut heard, mut answered) = (false, false);
        if transaction.send().await.is_err() {
            return Outcome::Failed(TxFailure::Transport);
        }
        loop {
            let message = match patience.filter(|_| !heard) {
                Some(patience) => match timeout(patience, transaction.receive()).await {
                    Ok(message) => message,
                    Err(_) => return Outcome::Failed(TxFailure::Timeout),
                },
                None => transaction.receive().await,
            };
            let Some(message) = message else { break };
            let bytes = message.to_bytes();
            let Ok(Message::Response(mut response)) = Message::parse(&bytes, &self.limits) else { continue };
            // Words of theirs for people, which the crate keeps beside the usual ones.
            if let sip::SipMessage::Response(sip::Response { wire_reason: Some(said), .. }) = &message {
                response.reason.clone_from(said);
            }
            // The stack speaks for a party that did not answer (RFC 3261 §8.1.3.1).
            if response.headers.get("User-Agent") == Some(&self.mark) {
                let sent = response.status != 503;
                return Outcome::Failed(if sent { TxFailure::Timeout } else { TxFailure::Transport });
            }
            if response.status == 503 && patience.is_some() {
                return Outcome::Failed(TxFailure::Transport);
            }
            heard = true;
            answered |= response.status >= 200;
            if self.events.send(Event::Incoming(Incoming::Response { tx, source, response })).await.is_err() {
                break;
            }
        }
        if answered { Outcome::Over } else { Outcome::Failed(TxFailure::Timeout) }
    }
}

/// A request as the crate reads it: as it came, or else with those headers written plainly that it looks at.
fn readable(request: &Request) -> Option<sip::SipMessage> {
    let read = |request: Request| {
        let bytes = Message::Request(request).to_bytes();
        let Ok(sip::SipMessage::Request(read)) = sip::SipMessage::try_from(bytes.as_slice()) else {
            return None;
        };
        TransactionKey::from_request(&read, TransactionRole::Server).ok()?;
        Some(read.into())
    };
    read(request.clone()).or_else(|| read(plain(request)?))
}

fn plain(request: &Request) -> Option<Request> {
    let mut plain = request.clone();
    let headers = &mut plain.headers;
    for name in ["From", "To"] {
        let mut party = NameAddr::parse(headers.get(name)?).ok()?;
        // Names of people are nothing to it, and a party of RFC 2543 has no tag, without which it does nothing.
        party.display.clear();
        if name == "From" && party.param("tag").is_none() {
            party = party.with_param("tag", "none");
        }
        headers.set(name, party.to_string());
    }
    let (number, method) = headers.cseq()?;
    headers.set("CSeq", format!("{number} {method}"));
    let vias: Option<Vec<String>> =
        headers.all("Via").map(|via| Some(Via::parse(via).ok()?.to_string())).collect();
    headers.set("Via", vias?.join(", "));
    Some(plain)
}

/// Sends a message outside of any transaction: the ACK of a 2xx.
pub(super) async fn send_bare(mut request: Request, way: &Way) {
    add_via(&mut request, way, &format!("z9hG4bK{}", token()));
    let bytes = Message::Request(request).to_bytes();
    if let Ok(parsed) = sip::SipMessage::try_from(bytes.as_slice())
        && let Err(error) = way.connection.send(parsed, Some(&sip_addr(way.remote, way.transport))).await
    {
        debug!(%error, "an ACK could not be sent");
    }
}

fn add_via(request: &mut Request, way: &Way, branch: &str) {
    let (host, port) = (bracketed(&way.local.ip().to_string()), way.local.port());
    let via = format!("SIP/2.0/{} {host}:{port};branch={branch};rport", way.transport.via());
    request.headers.push_front("Via", via);
}

type Shared = (mpsc::Sender<Event>, Arc<Mutex<Open>>);

/// Drives a transaction that a remote party opened.
async fn serve(
    mut transaction: Transaction,
    tx: ServerTx,
    source: Source,
    (events, open): Shared,
    limits: WireLimits,
) {
    let invite = transaction.original.method == sip::Method::Invite;
    let mut acknowledged = false;
    while let Some(message) = transaction.receive().await {
        let bytes = message.to_bytes();
        let Ok(Message::Request(request)) = Message::parse(&bytes, &limits) else { continue };
        let incoming = match request.method {
            Method::Ack => {
                acknowledged = true;
                Incoming::Ack { source, request }
            }
            Method::Cancel => Incoming::Cancel { tx },
            _ => continue,
        };
        if events.send(Event::Incoming(incoming)).await.is_err() {
            break;
        }
    }
    lock(&open).server.remove(&tx);
    let answered = transaction.last_response.as_ref().is_some_and(|response| {
        let code = response.status_code.code();
        (200..300).contains(&code)
    });
    if invite && answered && !acknowledged {
        let _ = events.send(Event::Incoming(Incoming::NoAck { tx })).await;
    }
}

fn transport(transport: Transport) -> sip::Transport {
    match transport {
        Transport::Udp => sip::Transport::Udp,
        Transport::Tcp => sip::Transport::Tcp,
        Transport::Tls => sip::Transport::Tls,
        Transport::Ws => sip::Transport::Ws,
        Transport::Wss => sip::Transport::Wss,
    }
}

/// An address as the crate has it.
pub(super) fn sip_addr(address: SocketAddr, of: Transport) -> SipAddr {
    let ip: IpAddr = address.ip().to_canonical();
    SipAddr { r#type: Some(transport(of)), addr: SocketAddr::new(ip, address.port()).into() }
}
