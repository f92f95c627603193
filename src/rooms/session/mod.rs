//! One client's session as a value: messages, events of the room and time in; messages, requests to the room
//! and the end out. What the dialects have in common is here; a dialect is a [`Protocol`].

pub mod asks;
pub mod v2;
pub mod v3;
pub mod view;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tracing::{debug, trace};

use super::config::Config;
use super::error::Refusal;
use super::wire::Message;
use crate::core::control::{PeerEvent, RoomEvent};
use crate::core::peer::CloseReason;
use asks::{Answer, Ask};

/// Requests of ours that may be open, to the room and to the client each, before the client is read no further.
const MAX_OPEN: usize = 256;

/// What came of a request to the room.
pub type Answered = Result<Answer, Refusal>;

/// Names a request to the room.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct AskId(u64);

/// Names a request of the client.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct RequestId(pub u64);

/// Why a WebSocket is closed (RFC 6455 §7.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CloseCode {
    /// Not text.
    NotText,
    /// A message longer than it may be.
    TooBig,
    /// Too slow, too silent, or never joined: come back if you like.
    Policy,
    /// Something of ours failed: come back.
    Restart,
    /// The server stops.
    GoingAway,
    /// Do not come back by yourself: removed from the room, or another connection took over.
    Removed,
}

impl CloseCode {
    /// The number; 4000 is the one at which protoo's clients do not connect again.
    pub fn number(self) -> u16 {
        match self {
            CloseCode::NotText => 1003,
            CloseCode::Policy => 1008,
            CloseCode::TooBig => 1009,
            CloseCode::Restart => 1012,
            CloseCode::GoingAway => 1001,
            CloseCode::Removed => 4000,
        }
    }

    /// The code for somebody whose place in the room ended so.
    pub fn of(reason: &CloseReason) -> Self {
        match reason.code {
            "shutdown" => CloseCode::GoingAway,
            "worker_lost" | "timeout" | "error" => CloseCode::Restart,
            _ => CloseCode::Removed,
        }
    }
}

/// What a session wants done.
#[derive(Debug)]
pub enum Output {
    /// Send this message.
    Send(String),
    /// Ask the room; the result goes to [`Session::handle_answer`].
    Ask(AskId, Ask),
    /// Close the WebSocket; nothing comes after it.
    Close(CloseCode, String),
}

/// A dialect: what methods mean.
pub trait Protocol {
    /// What to do when a request of ours is answered.
    type Then;

    /// A request of the client. It must be responded to, now or later.
    fn request(&mut self, link: &mut Link<Self::Then>, id: RequestId, method: &str, data: Value);
    /// A notification of the client.
    fn notification(&mut self, link: &mut Link<Self::Then>, method: &str, data: Value);
    /// The room answered.
    fn answered(&mut self, link: &mut Link<Self::Then>, then: Self::Then, answer: Answered);
    /// The client responded.
    fn responded(&mut self, link: &mut Link<Self::Then>, then: Self::Then, response: Result<Value, Refusal>);
    /// Something happened in the room.
    fn room_event(&mut self, link: &mut Link<Self::Then>, event: RoomEvent);
    /// Something happened to the client's own things.
    fn own_event(&mut self, link: &mut Link<Self::Then>, event: PeerEvent);
    /// The client's place in the room ended without its doing; the WebSocket is closed after this.
    fn left(&mut self, link: &mut Link<Self::Then>, reason: &CloseReason);
    /// Time passed.
    fn timeout(&mut self, link: &mut Link<Self::Then>);
    /// When [`timeout`](Self::timeout) is wanted.
    fn poll_timeout(&self) -> Option<Instant>;
    /// Whether the client is in the room, or on its way in.
    fn is_inside(&self) -> bool;
}

/// A dialect's way to the client and to the room.
pub struct Link<T> {
    config: Config,
    now: Instant,
    random: fn() -> u64,
    outputs: VecDeque<Output>,
    /// Requests of the client without a response yet.
    open: HashSet<u64>,
    /// Requests to the room without an answer yet.
    asked: HashMap<AskId, T>,
    last_ask: u64,
    /// Requests to the client without a response yet, the oldest first.
    requested: VecDeque<Requested<T>>,
    /// Messages of the client that may still be read now.
    budget: Budget,
    closed: bool,
}

struct Requested<T> {
    id: u64,
    until: Instant,
    then: T,
}

impl<T> Link<T> {
    /// Bounds.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The time of what is being handled.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// A random number.
    pub fn random(&self) -> u64 {
        (self.random)()
    }

    /// Answers a request of the client; only the first answer counts.
    pub fn respond(&mut self, RequestId(id): RequestId, result: Result<Value, Refusal>) {
        if self.open.remove(&id) {
            if let Err(refusal) = &result {
                debug!(%refusal, "a request of a client was refused");
            }
            self.send(&Message::Response { id, result });
        }
    }

    /// Notifies the client.
    pub fn notify(&mut self, method: &str, data: Value) {
        self.send(&Message::Notification { method: method.to_owned(), data });
    }

    /// Requests something of the client.
    pub fn request(&mut self, method: &str, data: Value, then: T) {
        // As large as protoo's own.
        let id = (self.random)() % 10_000_000;
        let until = self.now + self.config.request_timeout();
        self.requested.push_back(Requested { id, until, then });
        self.send(&Message::Request { id, method: method.to_owned(), data });
    }

    /// Asks the room.
    pub fn ask(&mut self, ask: Ask, then: T) {
        self.last_ask += 1;
        let id = AskId(self.last_ask);
        self.asked.insert(id, then);
        self.outputs.push_back(Output::Ask(id, ask));
    }

    /// Ends the session; what was said before is still sent.
    pub fn close(&mut self, code: CloseCode, reason: impl Into<String>) {
        if !self.closed {
            self.outputs.push_back(Output::Close(code, reason.into()));
            self.closed = true;
        }
    }

    fn send(&mut self, message: &Message) {
        self.outputs.push_back(Output::Send(message.to_text()));
    }
}

/// See the module.
pub struct Session<P: Protocol> {
    link: Link<P::Then>,
    protocol: P,
    /// When a client that is in no room is sent away.
    outside: Option<Instant>,
}

impl<P: Protocol> Session<P> {
    /// A session that begins now; `random` gives ids and SSRCs.
    pub fn new(config: Config, now: Instant, random: fn() -> u64, protocol: P) -> Self {
        let outside = Some(now + config.join_timeout());
        let link = Link {
            budget: Budget::new(now, &config),
            config,
            now,
            random,
            outputs: VecDeque::new(),
            open: HashSet::new(),
            asked: HashMap::new(),
            last_ask: 0,
            requested: VecDeque::new(),
            closed: false,
        };
        Session { link, protocol, outside }
    }

    /// Takes the time; whether there is anything left to handle.
    fn begin(&mut self, now: Instant) -> bool {
        self.link.now = now;
        !self.link.closed
    }

    /// What the client sent. Asked for only as [`may_read`](Self::may_read) says.
    pub fn handle_text(&mut self, now: Instant, text: &str) {
        if !self.begin(now) {
            return;
        }
        self.link.budget.spend(now);
        match Message::parse(text) {
            Ok(Message::Request { id, method, data }) => self.handle_request(id, &method, data),
            Ok(Message::Response { id, result }) => self.handle_response(id, result),
            Ok(Message::Notification { method, data }) => {
                trace!(method, "notification");
                self.protocol.notification(&mut self.link, &method, data);
            }
            Err(error) => debug!(%error, "a message of a client was dropped"),
        }
        self.settle();
    }

    fn handle_request(&mut self, id: u64, method: &str, data: Value) {
        trace!(method, "request");
        let refusal = match self.link.open.len() {
            _ if self.link.open.contains(&id) => {
                // It answers the newer one; the older keeps the id.
                Some(Refusal::bad("a request of this id is under way"))
            }
            open if open >= self.link.config.max_requests => {
                Some(Refusal::new(429, "too many requests are under way"))
            }
            _ => None,
        };
        if let Some(refusal) = refusal {
            return self.link.send(&Message::Response { id, result: Err(refusal) });
        }
        self.link.open.insert(id);
        self.protocol.request(&mut self.link, RequestId(id), method, data);
    }

    fn handle_response(&mut self, id: u64, result: Result<Value, Refusal>) {
        let Some(place) = self.link.requested.iter().position(|request| request.id == id) else {
            debug!("a response that nobody waits for");
            return;
        };
        if let Some(request) = self.link.requested.remove(place) {
            self.protocol.responded(&mut self.link, request.then, result);
        }
    }

    /// What came of a request to the room.
    pub fn handle_answer(&mut self, now: Instant, id: AskId, answer: Answered) {
        if !self.begin(now) {
            return;
        }
        if let Some(then) = self.link.asked.remove(&id) {
            self.protocol.answered(&mut self.link, then, answer);
        }
        self.settle();
    }

    /// Something happened in the room.
    pub fn handle_room_event(&mut self, now: Instant, event: RoomEvent) {
        if !self.begin(now) {
            return;
        }
        self.protocol.room_event(&mut self.link, event);
        self.settle();
    }

    /// Something happened to the client's own things.
    pub fn handle_own_event(&mut self, now: Instant, event: PeerEvent) {
        if !self.begin(now) {
            return;
        }
        self.protocol.own_event(&mut self.link, event);
        self.settle();
    }

    /// The client's place in the room ended without its doing.
    pub fn handle_left(&mut self, now: Instant, reason: &CloseReason) {
        if !self.begin(now) {
            return;
        }
        self.protocol.left(&mut self.link, reason);
        self.link.close(CloseCode::of(reason), reason.text.clone());
    }

    /// The client, or this connection of it, is to go.
    pub fn handle_end(&mut self, now: Instant, code: CloseCode, reason: &str) {
        self.link.now = now;
        self.link.close(code, reason);
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.begin(now) {
            return;
        }
        while self.link.requested.front().is_some_and(|request| request.until <= now) {
            let Some(request) = self.link.requested.pop_front() else { break };
            let refusal = Refusal::new(504, "the client did not respond in time");
            self.protocol.responded(&mut self.link, request.then, Err(refusal));
        }
        self.protocol.timeout(&mut self.link);
        self.settle();
        if self.outside.is_some_and(|until| until <= now) {
            self.link.close(CloseCode::Policy, "joined no room in time");
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let requested = self.link.requested.front().map(|request| request.until);
        [self.outside, requested, self.protocol.poll_timeout()].into_iter().flatten().min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.link.outputs.pop_front()
    }

    /// Whether the next message of the client may be read at `now`; else when, if time alone helps.
    pub fn may_read(&self, now: Instant) -> Result<(), Option<Instant>> {
        if self.link.asked.len() >= MAX_OPEN || self.link.requested.len() >= MAX_OPEN {
            return Err(None);
        }
        self.link.budget.ready(now).map_or(Ok(()), |at| Err(Some(at)))
    }

    /// The clock of those who are in no room runs while they are.
    fn settle(&mut self) {
        self.outside = match (self.protocol.is_inside(), self.outside) {
            (true, _) => None,
            (false, None) => Some(self.link.now + self.link.config.join_timeout()),
            (false, outside) => outside,
        };
    }
}

/// A bucket that fills steadily (the generic cell rate algorithm): it holds a burst, each message takes one.
struct Budget {
    /// The time each message takes.
    cost: Duration,
    /// How far ahead of the clock the account may be.
    burst: Duration,
    /// Until when what was read is paid for.
    paid: Instant,
}

impl Budget {
    fn new(now: Instant, config: &Config) -> Self {
        let cost = Duration::from_secs(1) / config.messages_per_second.max(1);
        Budget { cost, burst: cost * config.message_burst.max(1), paid: now }
    }

    fn spend(&mut self, now: Instant) {
        self.paid = self.paid.max(now) + self.cost;
    }

    /// When the next message may be read; `None`: now.
    fn ready(&self, now: Instant) -> Option<Instant> {
        let at = (self.paid + self.cost).checked_sub(self.burst)?;
        (at > now).then_some(at)
    }
}

/// An object without anything in it: the data of a response that has nothing to say.
pub fn nothing() -> Value {
    json!({})
}
