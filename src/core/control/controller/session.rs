//! One connection of a controller as a value: bytes in, bytes out, and who it is before anything else.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::core::auth::{AuthError, Authority, Principal};
use crate::core::control::Rooms;
use crate::core::control::controller::code::{Code, Fault};
use crate::core::control::controller::config::ControlConfig;
use crate::core::control::controller::guard::Guard;
use crate::core::control::controller::member::Attachment;
use crate::core::control::controller::ready::{Ready, Turn};
use crate::core::control::controller::vocabulary::{self, By, Entry, Greeting};
use crate::core::control::controller::watch::Watch;
use crate::core::control::controller::wire::{Ask, Form, Heard, Wire, WireError};
use crate::core::control::controller::{ControllerId, Opening, Rest, Task};

/// What all connections share.
pub struct Door {
    rooms: Rooms,
    authority: Arc<Authority>,
    config: ControlConfig,
    /// Names that no room may have.
    reserved: &'static [&'static str],
    guard: Mutex<Guard>,
}

impl Door {
    /// The door to `rooms` for those whom `authority` knows; no room may have a `reserved` name.
    pub fn new(
        rooms: Rooms,
        authority: Arc<Authority>,
        config: ControlConfig,
        reserved: &'static [&'static str],
    ) -> Arc<Self> {
        let guard = Mutex::new(Guard::new(config.max_failures, config.failure_window()));
        rooms.step(|state| state.controllers.configure(&config));
        Arc::new(Door { rooms, authority, config, reserved, guard })
    }

    /// Its settings.
    pub fn config(&self) -> &ControlConfig {
        &self.config
    }

    /// Tells every controller that the server stops.
    pub fn shut_down(&self) {
        self.rooms.step(|state| state.controllers.end_all(&Fault::new(Code::Shutdown, "the server stops")));
    }

    /// Who the bearer of `secret` is, if he may be a controller.
    pub fn identify(&self, secret: Option<&str>) -> Result<Principal, AuthError> {
        let who = self.authority.identify(secret)?;
        match self.authority.controls(&who) {
            true => Ok(who),
            false if who == Principal::anonymous() => Err(AuthError::NeedCredentials),
            false => Err(AuthError::Denied),
        }
    }

    /// Whether a controller has to say who it is.
    pub fn asks_for_credentials(&self) -> bool {
        self.authority.knows_controllers()
    }
}

/// What is to be done for a connection.
#[derive(Debug)]
pub enum Output {
    /// Write these bytes.
    Bytes(Vec<u8>),
    /// Close it.
    End(Ending),
}

/// Why a connection is closed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ending {
    /// Its first bytes were no control protocol: it gets no answer.
    Stranger,
    /// It was told, as far as it listens.
    Fault(Fault),
}

enum Stage {
    /// It has not said who it is.
    Greeting(Option<Waker>),
    Open(ControllerId),
}

/// See the module. Dropping it ends the controller.
pub struct Session {
    door: Arc<Door>,
    from: IpAddr,
    wire: Wire,
    stage: Stage,
    out: Vec<u8>,
    deadline: Option<Instant>,
    ended: Option<Ending>,
    /// Requests that take time.
    tasks: Ready<Task>,
    watches: Ready<Watch>,
    attachments: Ready<Attachment>,
}

impl Session {
    /// A connection from an address; from a UNIX socket, where there is none, from this machine.
    pub fn new(door: Arc<Door>, from: Option<IpAddr>, now: Instant) -> Self {
        let wire = Wire::new(door.config.max_message_bytes);
        let deadline = Some(now + door.config.greeting_timeout());
        let from = from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Session {
            door,
            from,
            wire,
            stage: Stage::Greeting(None),
            out: Vec::new(),
            deadline,
            ended: None,
            tasks: Ready::default(),
            watches: Ready::default(),
            attachments: Ready::default(),
        }
    }

    /// A controller whose secret the door has looked at already.
    pub fn authenticated(door: Arc<Door>, who: Principal, form: Form, now: Instant) -> Result<Self, Fault> {
        let mut session = Session::new(door, None, now);
        session.wire = Wire::of(form, session.door.config.max_message_bytes);
        session.open(now, who);
        match session.ended.take() {
            Some(Ending::Fault(fault)) => Err(fault),
            _ => Ok(session),
        }
    }

    /// Whether it has said who it is, or needs not.
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    /// Takes bytes of the controller. Not to be called while [`wants_input`](Self::wants_input) says no.
    pub fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) {
        self.wire.feed(bytes);
        if self.is_open() {
            self.deadline = self.door.config.idle_timeout().map(|idle| now + idle);
        }
        self.advance(now);
    }

    /// Goes on with what was taken in before, as far as answers have made room; call it after each output.
    pub fn advance(&mut self, now: Instant) {
        while self.wants_input() {
            match self.wire.next_heard() {
                Ok(Some(heard)) => self.heard(now, heard),
                Ok(None) => return,
                Err(error) => self.lost(error),
            }
        }
    }

    /// Whether it may say more: not when too many of its requests or too many bytes for it wait.
    pub fn wants_input(&self) -> bool {
        let room = match self.stage {
            Stage::Greeting(_) => true,
            Stage::Open(id) => self.door.rooms.step(|state| state.controllers.has_room(id)),
        };
        room && self.ended.is_none() && self.out.len() < self.door.config.max_message_bytes
    }

    /// What is to be done next.
    pub fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Output> {
        match &mut self.stage {
            Stage::Greeting(waker) => *waker = Some(cx.waker().clone()),
            Stage::Open(id) => {
                let id = *id;
                self.work(id, cx);
                match self.door.rooms.step(|state| state.controllers.poll_output(id, cx)) {
                    Poll::Ready(Output::End(ending)) => drop(self.ended.get_or_insert(ending)),
                    Poll::Ready(bytes) => return Poll::Ready(bytes),
                    Poll::Pending => {}
                }
            }
        }
        match &self.ended {
            _ if !self.out.is_empty() => Poll::Ready(Output::Bytes(std::mem::take(&mut self.out))),
            Some(ending) => Poll::Ready(Output::End(ending.clone())),
            None => Poll::Pending,
        }
    }

    /// Goes on with requests that take time, and tells what happened in rooms as long as the controller reads.
    fn work(&mut self, id: ControllerId, cx: &mut Context<'_>) {
        self.tasks.poll(cx, |task, cx| task.as_mut().poll(cx).into());
        let rooms = &self.door.rooms;
        let reads = || rooms.step(|state| state.controllers.reads(id));
        self.attachments.poll(cx, |it, cx| drain(reads, || it.poll(cx, rooms, id)));
        self.watches.poll(cx, |it, cx| drain(reads, || it.poll(cx, rooms, id)));
    }

    /// Ready when nothing is to be written any more, whatever waits: the controller did not read.
    pub fn poll_given_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.stage {
            Stage::Greeting(_) => Poll::Pending,
            Stage::Open(id) => self.door.rooms.step(|state| state.controllers.poll_given_up(id, cx)),
        }
    }

    /// Whether answers or bytes are to come without the controller saying more.
    pub fn owes(&self) -> bool {
        let owed = match self.stage {
            Stage::Greeting(_) => false,
            Stage::Open(id) => self.door.rooms.step(|state| state.controllers.owes(id)),
        };
        owed || !self.out.is_empty()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline.filter(|_| self.ended.is_none())
    }

    /// It was silent for too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            let what = if self.is_open() { "nothing was heard for too long" } else { "no greeting in time" };
            self.end(Fault::new(Code::Idle, what));
        }
    }

    /// Closes it, with a last word where that can be understood.
    pub fn end(&mut self, fault: Fault) {
        if self.ended.is_none() {
            if self.wire.form().is_some() {
                self.tell(&fault);
            }
            self.finish(Ending::Fault(fault));
        }
    }

    fn finish(&mut self, ending: Ending) {
        self.ended = Some(ending);
        if let Stage::Greeting(Some(waker)) = &self.stage {
            waker.wake_by_ref();
        }
    }

    fn lost(&mut self, error: WireError) {
        match error {
            WireError::Stranger => self.finish(Ending::Stranger),
            // Somebody who has not said a word yet may be a web page that hit on the right first one.
            _ if !self.is_open() => self.finish(Ending::Stranger),
            error => self.end(Fault::new(Code::BadFraming, error.to_string())),
        }
    }

    fn heard(&mut self, now: Instant, heard: Heard) {
        match heard {
            Heard::Unneeded => {}
            Heard::Nonsense(fault) => self.tell(&fault),
            Heard::Ask(ask) => {
                if !self.is_open() && !self.door.asks_for_credentials() {
                    self.open(now, Principal::local());
                }
                if self.ended.is_none() {
                    self.asked(now, ask);
                }
            }
        }
    }

    fn asked(&mut self, now: Instant, ask: Ask) {
        let greeting = Entry::find(&ask.method).and_then(|entry| match entry.by {
            By::Session(greeting) => Some((entry, greeting)),
            _ => None,
        });
        let answer = match (greeting, &self.stage) {
            (Some((entry, greeting)), _) => {
                entry.check(&ask.internal, &ask.data).and_then(|()| match greeting {
                    Greeting::Hello => Ok(self.hello()),
                    Greeting::Authenticate => self.authenticate(now, &ask.data),
                    Greeting::Resume => self.resume(&ask.data),
                })
            }
            (None, Stage::Greeting(_)) => {
                Err(Fault::new(Code::NotAuthenticated, "`Authenticate` comes first"))
            }
            (None, &Stage::Open(id)) => return self.ask(id, ask),
        };
        if let Some(form) = self.wire.form() {
            form.answer(ask.id, &ask.method, &answer, &mut self.out);
        }
    }

    fn ask(&mut self, id: ControllerId, ask: Ask) {
        let task = match self.door.rooms.step(|state| state.controller_asks(id, ask)) {
            Rest::Nothing | Rest::Now(_) => None,
            Rest::Member(waiting) => Some(Box::pin(waiting.finish(self.door.rooms.clone())) as Task),
            Rest::Room(method, ask) => self.room_asked(id, method, ask),
            Rest::Call(method, ask) => Some(self.call_asked(id, method, ask)),
            Rest::Stream(method, ask) => Some(self.stream_asked(id, method, ask)),
        };
        if let Some(task) = task {
            self.tasks.push(task);
        }
    }

    pub(super) fn rooms(&self) -> &Rooms {
        &self.door.rooms
    }

    pub(super) fn reserved(&self) -> &'static [&'static str] {
        self.door.reserved
    }

    pub(super) fn keep_watch(&mut self, watch: Watch) {
        self.watches.push(watch);
    }

    pub(super) fn unwatch(&mut self, id: u32) {
        self.watches.remove(|watch| watch.id == id);
    }

    pub(super) fn keep_attachment(&mut self, attachment: Attachment) {
        self.attachments.push(attachment);
    }

    fn hello(&self) -> Value {
        let config = &self.door.config;
        let mut answer = json!({
            "name": "viaduct",
            "version": env!("CARGO_PKG_VERSION"),
            "authenticated": self.is_open(),
            "capabilities": {
                "methods": vocabulary::names().collect::<Vec<_>>(),
                "events": vocabulary::EVENTS.iter().map(|event| event.name).collect::<Vec<_>>(),
                "codes": Code::ALL.iter().map(|(code, _)| code.as_str()).collect::<Vec<_>>(),
                "maxMessageBytes": config.max_message_bytes,
                "maxOpenRequests": config.max_open_requests,
                "maxLingerMs": config.max_linger_ms,
            },
        });
        if let Stage::Open(id) = self.stage {
            answer["session"] = json!(self.door.rooms.step(|state| state.controllers.session(id)));
        }
        answer
    }

    fn authenticate(&mut self, now: Instant, data: &Map<String, Value>) -> Result<Value, Fault> {
        if self.is_open() && self.door.asks_for_credentials() {
            return Err(Fault::new(Code::Refused, "the controller is authenticated already"));
        }
        let mut guard = self.door.guard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = guard.blocked(self.from, now) {
            let reason =
                format!("too many wrong passwords; the next is looked at in {} s", left.as_secs() + 1);
            return Err(Fault::new(Code::TooManyAttempts, reason));
        }
        let text = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or_default();
        let Ok(who) = self.door.authority.identify_user(text("user"), text("passwd")) else {
            guard.blame(self.from, now);
            tracing::info!("a controller was turned away: wrong user or password");
            return Err(Fault::new(Code::BadCredentials, "user and password do not belong together"));
        };
        drop(guard);
        if !self.door.authority.controls(&who) {
            return Err(Fault::new(Code::NotAllowed, "this key has not the action `control`"));
        }
        self.open(now, who);
        match self.stage {
            Stage::Open(id) => {
                Ok(json!({"session": self.door.rooms.step(|state| state.controllers.session(id))}))
            }
            Stage::Greeting(_) => Err(Fault::new(Code::TooManyControllers, "there are too many controllers")),
        }
    }

    fn resume(&mut self, data: &Map<String, Value>) -> Result<Value, Fault> {
        let Stage::Open(id) = self.stage else {
            return Err(Fault::new(Code::NotAuthenticated, "`Authenticate` comes first"));
        };
        let session = data.get("session").and_then(Value::as_str).unwrap_or_default();
        let resumed = self.door.rooms.step(|state| state.controller_resumes(id, session))?;
        self.stage = Stage::Open(resumed);
        Ok(self.door.rooms.step(|state| state.controllers.belongings(resumed)))
    }

    fn open(&mut self, now: Instant, who: Principal) {
        let Some(form) = self.wire.form() else { return };
        let opening = Opening { who, authority: self.door.authority.clone(), form };
        match self.door.rooms.step(|state| state.controllers.open(opening)) {
            Ok(id) => {
                self.stage = Stage::Open(id);
                self.deadline = self.door.config.idle_timeout().map(|idle| now + idle);
            }
            Err(fault) => self.end(fault),
        }
    }

    /// Says a fault that answers no request.
    fn tell(&mut self, fault: &Fault) {
        let data = json!({"code": fault.code.as_str(), "reason": fault.reason});
        self.wire.form().unwrap_or(Form::Text).event(0, "error", &data, &mut self.out);
    }
}

/// Polls as long as there is something and somebody reads.
fn drain(reads: impl Fn() -> bool, mut poll: impl FnMut() -> Poll<bool>) -> Turn {
    while reads() {
        match poll() {
            Poll::Ready(true) => {}
            Poll::Ready(false) => return Turn::Over,
            Poll::Pending => return Turn::Waits,
        }
    }
    Turn::Later
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Stage::Open(id) = self.stage {
            self.door.rooms.step(|state| state.controller_left(id));
        }
    }
}
