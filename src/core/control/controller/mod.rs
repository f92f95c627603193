//! Controllers: applications outside that speak the control protocol, many at once.
//!
//! Each has an identity, the rights of its key, requests that wait for answers, and what it made. It knows that by
//! ids of its own ([`scope`]); requests are renumbered towards the workers. What it made ends with it, unless it
//! asked that it should linger: then the next connection of the same user can resume it.
//!
//! | file | what |
//! | --- | --- |
//! | `session` | a connection: bytes, greeting, authentication |
//! | `wire` | requests, answers, events in either form |
//! | `vocabulary` | every request, its fields, the events |
//! | `code` | why a request was refused |
//! | `scope` | ids |
//! | `worker` | requests that a worker carries out |
//! | `rooms`, `calls`, `streams` | requests about the gateway's rooms, their peers, calls, streams |
//! | `watch` | what happens in rooms, as events |
//! | `member` | a controller in a room, which is a router to it |
//! | `channels` | data channels of such a room |
//! | `ready` | polling only what was woken |
//! | `guard` | who guesses passwords too often |

mod calls;
mod channels;
pub mod code;
mod config;
mod guard;
mod member;
mod ready;
mod rooms;
mod scope;
mod session;
mod streams;
pub mod vocabulary;
mod watch;
pub mod wire;
mod worker;

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use serde_json::{Value, json};
use tracing::{debug, info};

use crate::core::auth::{Action, Authority, Principal};
use crate::core::control::state::{State, Timer};
use crate::core::id::{RouterId, WorkerId};
use crate::core::room::RoomName;
use code::{Code, Fault};
pub use config::{ControlConfig, ControlConfigError};
pub use guard::network;
use member::{Unbound, Waiting};
use scope::Scope;
pub use session::{Door, Ending, Output, Session};
use vocabulary::{By, CallMethod, Entry, RoomMethod, StreamMethod};
use wire::{Ask, Form};
pub(super) use worker::Asked;

/// A controller, by number.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ControllerId(u64);

/// Who connects, and how it speaks.
pub(super) struct Opening {
    pub who: Principal,
    pub authority: Arc<Authority>,
    pub form: Form,
}

/// Something that goes on until it is done.
pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is left to do of a request.
pub(super) enum Rest {
    /// Nothing, or a worker will answer.
    Nothing,
    /// This is the answer.
    Now(Value),
    /// A worker answers the peer behind an attached router.
    Member(Waiting),
    /// The session carries it out.
    Room(RoomMethod, Ask),
    /// Whoever carries calls does.
    Call(CallMethod, Ask),
    /// Whoever carries streams does.
    Stream(StreamMethod, Ask),
}

/// A room that a controller opened.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// Tells it from another of the same name.
    home: RouterId,
    /// Milliseconds that it outlives the connection.
    linger: Option<u64>,
}

/// A connection as the Dispatcher sees it.
struct Line {
    form: Form,
    authority: Arc<Authority>,
    open: HashMap<u32, &'static str>,
    out: Vec<u8>,
    waker: Option<Waker>,
    ended: Option<Fault>,
}

struct Controller {
    who: Principal,
    /// Names it to the one who may resume it.
    session: String,
    /// None while what it made lingers.
    line: Option<Line>,
    scope: Scope,
    /// Routers that outlive the connection, by the controller's ids, with the milliseconds.
    linger: HashMap<u32, u64>,
    /// Rooms that it opened.
    rooms: HashMap<RoomName, Kept>,
    /// Its consumers of rooms that are on no transport yet.
    unbound: HashMap<u32, Unbound>,
    /// How often its connection closed; tells a stale timer from a fresh one.
    left: u64,
}

/// All of them.
#[derive(Default)]
pub(super) struct Controllers {
    config: ControlConfig,
    list: HashMap<ControllerId, Controller>,
    next: u64,
    /// Routers left behind that wait to be closed, and how many are being closed.
    swept: VecDeque<(WorkerId, u32)>,
    sweeping: usize,
}

impl Line {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Ends the connection of a controller that does not take what it is told.
    fn bound(&mut self, limit: usize) {
        if self.out.len() > limit && self.ended.is_none() {
            self.out = Vec::new();
            let reason = format!("more than {limit} bytes wait to be read");
            self.ended = Some(Fault::new(Code::TooSlow, reason));
        }
        self.wake();
    }
}

impl Controllers {
    /// Takes the settings.
    pub fn configure(&mut self, config: &ControlConfig) {
        self.config = config.clone();
    }

    /// A controller has said who it is.
    pub fn open(&mut self, opening: Opening) -> Result<ControllerId, Fault> {
        let connected = self.list.values().filter(|controller| controller.line.is_some()).count();
        if connected >= self.config.max_controllers {
            return Err(Fault::new(Code::TooManyControllers, "there are all the controllers there may be"));
        }
        self.next += 1;
        let id = ControllerId(self.next);
        let Opening { who, authority, form } = opening;
        info!(controller = id.0, principal = %who, ?form, "a controller is connected");
        let (open, out) = (HashMap::new(), Vec::new());
        let line = Line { form, authority, open, out, waker: None, ended: None };
        let controller = Controller {
            who,
            session: random_token(),
            line: Some(line),
            scope: Scope::default(),
            linger: HashMap::new(),
            rooms: HashMap::new(),
            unbound: HashMap::new(),
            left: 0,
        };
        self.list.insert(id, controller);
        Ok(id)
    }

    /// The text by which it can be resumed.
    pub fn session(&self, id: ControllerId) -> Option<String> {
        self.list.get(&id).map(|controller| controller.session.clone())
    }

    /// What it has, for one that resumes.
    pub fn belongings(&self, id: ControllerId) -> Value {
        let Some(controller) = self.list.get(&id) else { return Value::Null };
        let mut routers = controller.scope.routers();
        routers.sort_unstable();
        let mut rooms: Vec<&RoomName> = controller.rooms.keys().collect();
        rooms.sort_unstable();
        json!({"session": controller.session, "routers": routers, "rooms": rooms})
    }

    /// Whether it may ask more: not while too many of its requests or too many bytes for it wait.
    pub fn has_room(&self, id: ControllerId) -> bool {
        let config = &self.config;
        self.list.get(&id).and_then(|controller| controller.line.as_ref()).is_some_and(|line| {
            line.ended.is_none()
                && line.open.len() < config.max_open_requests
                && line.out.len() < config.max_queued_bytes / 2
        })
    }

    /// Whether it takes what it is told.
    pub fn reads(&self, id: ControllerId) -> bool {
        let line = self.list.get(&id).and_then(|controller| controller.line.as_ref());
        line.is_some_and(|line| line.ended.is_none() && line.out.len() < self.config.max_queued_bytes / 2)
    }

    /// What is to be written to it, all at once.
    pub fn poll_output(&mut self, id: ControllerId, cx: &mut Context<'_>) -> Poll<Output> {
        let line = self.list.get_mut(&id).and_then(|controller| controller.line.as_mut());
        let Some(line) = line else {
            return Poll::Ready(Output::End(Ending::Fault(gone())));
        };
        if !line.out.is_empty() {
            return Poll::Ready(Output::Bytes(std::mem::take(&mut line.out)));
        }
        if let Some(fault) = &line.ended {
            return Poll::Ready(Output::End(Ending::Fault(fault.clone())));
        }
        line.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Ready when the connection was given up because nobody reads it.
    pub fn poll_given_up(&mut self, id: ControllerId, cx: &mut Context<'_>) -> Poll<()> {
        let Some(line) = self.line(id) else { return Poll::Ready(()) };
        if line.ended.as_ref().is_some_and(|fault| fault.code == Code::TooSlow) {
            return Poll::Ready(());
        }
        line.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether answers or bytes wait for it.
    pub fn owes(&self, id: ControllerId) -> bool {
        let line = self.list.get(&id).and_then(|controller| controller.line.as_ref());
        line.is_some_and(|line| !line.open.is_empty() || !line.out.is_empty())
    }

    /// Ends every connection, with a last word.
    pub fn end_all(&mut self, fault: &Fault) {
        let data = json!({"code": fault.code.as_str(), "reason": fault.reason});
        for line in self.list.values_mut().filter_map(|controller| controller.line.as_mut()) {
            line.form.event(0, "error", &data, &mut line.out);
            line.ended.get_or_insert_with(|| fault.clone());
            line.wake();
        }
    }

    /// Gives back the room that tables needed once.
    pub fn shrink(&mut self) {
        self.list.values_mut().for_each(|controller| controller.scope.shrink());
    }

    /// `max_linger_ms`.
    fn max_linger_ms(&self) -> u64 {
        self.config.max_linger_ms
    }

    /// `drills`.
    fn drills(&self) -> bool {
        self.config.drills
    }

    /// `max_watches`.
    fn max_watches(&self) -> usize {
        self.config.max_watches
    }

    /// Whether its connection is closed since that time.
    fn lingers(&self, id: ControllerId, left: u64) -> bool {
        self.list.get(&id).is_some_and(|controller| controller.line.is_none() && controller.left == left)
    }

    /// Who it is.
    fn who(&self, id: ControllerId) -> Result<Principal, Fault> {
        let controller = self.list.get(&id).ok_or_else(gone)?;
        Ok(controller.who.clone())
    }

    /// Whether it may do something in a room.
    fn may(&self, id: ControllerId, action: Action, room: &str) -> Result<(), Fault> {
        let controller = self.list.get(&id).ok_or_else(gone)?;
        let line = controller.line.as_ref().ok_or_else(gone)?;
        let allowed = line.authority.authorise(&controller.who, action, room);
        allowed.map_err(|error| Fault::new(Code::NotAllowed, error.to_string()))
    }

    /// Whether it may look at a room and change it.
    fn may_control(&self, id: ControllerId, room: &str) -> Result<(), Fault> {
        self.may(id, Action::Control, room)
    }

    fn line(&mut self, id: ControllerId) -> Option<&mut Line> {
        self.list.get_mut(&id)?.line.as_mut()
    }

    /// Gives an answer.
    fn answer(&mut self, id: ControllerId, request: u32, result: &Result<Value, Fault>) {
        let limit = self.config.max_queued_bytes;
        let Some(line) = self.line(id).filter(|line| line.ended.is_none()) else { return };
        let Some(method) = line.open.remove(&request) else { return };
        line.form.answer(request, method, result, &mut line.out);
        line.bound(limit);
    }

    /// Tells of something that happened.
    fn tell(&mut self, id: ControllerId, target: u32, event: &str, data: &Value) {
        let limit = self.config.max_queued_bytes;
        let Some(line) = self.line(id).filter(|line| line.ended.is_none()) else { return };
        line.form.event(target, event, data, &mut line.out);
        line.bound(limit);
    }

    /// Whether a request may be carried out; it counts as open from then on.
    fn admit(&mut self, id: ControllerId, ask: &Ask) -> Result<&'static Entry, Fault> {
        let controller = self.list.get_mut(&id).ok_or_else(gone)?;
        let line = controller.line.as_mut().ok_or_else(gone)?;
        let entry = Entry::find(&ask.method);
        let entry = entry.ok_or_else(|| Fault::new(Code::UnknownMethod, "nothing is called so"))?;
        let allowed = line.authority.authorise_method(&controller.who, entry.action, entry.name);
        allowed.map_err(|error| Fault::new(Code::NotAllowed, error.to_string()))?;
        entry.check(&ask.internal, &ask.data)?;
        if line.open.contains_key(&ask.id) {
            let reason = format!("request {} waits for its answer", ask.id);
            return Err(Fault::new(Code::DuplicateRequest, reason));
        }
        line.open.insert(ask.id, entry.name);
        Ok(entry)
    }
}

impl State {
    /// A controller asks for something.
    pub fn controller_asks(&mut self, id: ControllerId, ask: Ask) -> Rest {
        let entry = match self.controllers.admit(id, &ask) {
            Ok(entry) => entry,
            Err(fault) => {
                let limit = self.controllers.config.max_queued_bytes;
                if let Some(line) = self.controllers.line(id) {
                    line.form.answer(ask.id, &ask.method, &Err(fault), &mut line.out);
                    line.bound(limit);
                }
                return Rest::Nothing;
            }
        };
        let request = ask.id;
        let done = match entry.by {
            By::Worker(method) => self.worker_asked(id, entry, method, ask),
            By::Room(method) => Ok(Rest::Room(method, ask)),
            By::Call(method) => Ok(Rest::Call(method, ask)),
            By::Stream(method) => Ok(Rest::Stream(method, ask)),
            // The connection answers these itself.
            By::Session(_) => Err(Fault::new(Code::NotSupported, "not here")),
        };
        match done {
            Ok(Rest::Now(answer)) => self.controllers.answer(id, request, &Ok(answer)),
            Ok(rest) => return rest,
            Err(fault) => self.controllers.answer(id, request, &Err(fault)),
        }
        Rest::Nothing
    }

    /// A connection is closed: what its controller made ends, but for what shall linger.
    pub fn controller_left(&mut self, id: ControllerId) {
        let lingering = self.controllers.list.values().filter(|controller| controller.line.is_none()).count();
        let crowded = lingering >= self.controllers.config.max_controllers;
        let Some(controller) = self.controllers.list.get_mut(&id) else { return };
        controller.line = None;
        controller.left += 1;
        let left = controller.left;
        info!(controller = id.0, principal = %controller.who, "a controller is gone");
        let mut ending = controller.scope.routers();
        if !crowded {
            ending.retain(|router| !controller.linger.contains_key(router));
        }
        let lingers: Vec<(u32, u64)> = controller.linger.iter().map(|(router, ms)| (*router, *ms)).collect();
        for router in ending {
            self.end_router(id, router);
        }
        self.drop_watches(id);
        self.rooms_left(id, (left, crowded));
        self.forget_if_bare(id);
        if self.controllers.list.contains_key(&id) {
            for (router, ms) in lingers {
                self.timers.set(State::millis(ms), Timer::Linger(id, router, left));
            }
        }
    }

    /// A router has outlived its controller for as long as was asked.
    pub fn linger_over(&mut self, id: ControllerId, router: u32, left: u64) {
        let lingers = |controller: &Controller| controller.line.is_none() && controller.left == left;
        if self.controllers.list.get(&id).is_some_and(lingers) {
            self.end_router(id, router);
            self.forget_if_bare(id);
        }
    }

    /// Nobody is told by a watch any more.
    fn drop_watches(&mut self, id: ControllerId) {
        let Ok(controller) = self.own(id) else { return };
        for watch in controller.scope.all(scope::Kind::Watch) {
            controller.scope.remove(watch);
        }
    }

    fn forget_if_bare(&mut self, id: ControllerId) {
        let bare = |controller: &Controller| {
            controller.line.is_none() && controller.scope.len() == 0 && controller.rooms.is_empty()
        };
        if self.controllers.list.get(&id).is_some_and(bare) {
            self.controllers.list.remove(&id);
            debug!(controller = id.0, "nothing is left of a controller");
        }
    }

    /// A controller takes over what an earlier connection of it left behind.
    pub fn controller_resumes(&mut self, id: ControllerId, session: &str) -> Result<ControllerId, Fault> {
        let list = &mut self.controllers.list;
        let unknown = || Fault::new(Code::UnknownId, "nothing lingers of that session");
        let current = list.get(&id).ok_or_else(unknown)?;
        let made = current.scope.len() > 0 || !current.rooms.is_empty();
        if made || current.line.as_ref().is_none_or(|line| !line.open.is_empty()) {
            let reason = "a controller can resume only before it has made anything";
            return Err(Fault::new(Code::Refused, reason));
        }
        let matches = |left: &Controller| {
            let same = aws_lc_rs::constant_time::verify_slices_are_equal(
                left.session.as_bytes(),
                session.as_bytes(),
            );
            left.line.is_none() && left.who == current.who && !session.is_empty() && same.is_ok()
        };
        let found = list.iter().find(|(_, left)| matches(left)).map(|(id, _)| *id).ok_or_else(unknown)?;
        let line = list.remove(&id).and_then(|controller| controller.line);
        if let Some(left) = list.get_mut(&found) {
            left.line = line;
        }
        info!(controller = found.0, "a controller resumed what it had left");
        Ok(found)
    }
}

fn gone() -> Fault {
    Fault::new(Code::Shutdown, "the controller is gone")
}

fn random_token() -> String {
    let mut bytes = [0u8; 16];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        tracing::warn!("the system gives no randomness; what a controller left cannot be resumed");
        return String::new();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
