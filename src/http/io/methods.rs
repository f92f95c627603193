//! The control protocol over HTTP: each request of the vocabulary as a POST, what happens as server-sent events.
//!
//! Whoever has a key with the right `control` is one controller, by however many connections its requests come. It
//! counts as gone when it has asked nothing for `http.control_idle_ms` and reads no events; what it made ends then, or
//! lingers as it asked.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::body::Frame;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Interval, interval, sleep_until};

use crate::core::auth::Principal;
use crate::core::control::controller::code::{Code, Fault};
use crate::core::control::controller::vocabulary::Entry;
use crate::core::control::controller::wire::Form;
use crate::core::control::controller::{Door, Ending, Output, Session};
use crate::core::control::netstring;
use crate::http::Config;
use crate::http::api::bearer;
use crate::http::manage::{Answer, Asked, Problem, Since, fresh};

const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
/// Between comments in a stream of events in which nothing happens: far less than proxies wait.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

struct Shared {
    door: Arc<Door>,
    idle: Duration,
    max_events: usize,
    lines: Mutex<HashMap<Principal, Line>>,
}

/// The way to a controller's session.
struct Line {
    wishes: mpsc::Sender<Wish>,
    board: Arc<Board>,
}

/// A request on its way.
struct Wish {
    method: &'static str,
    internal: Map<String, Value>,
    data: Map<String, Value>,
    answer: oneshot::Sender<Result<Value, Fault>>,
}

/// The routes.
pub fn router(door: Arc<Door>, config: &Config) -> Router {
    let shared = Shared {
        door,
        idle: Duration::from_millis(config.control_idle_ms),
        max_events: config.max_control_events.max(1),
        lines: Mutex::default(),
    };
    Router::new()
        .route("/api/control/{method}", post(ask))
        .route("/api/events", get(events))
        .with_state(Arc::new(shared))
}

async fn ask(
    State(shared): State<Arc<Shared>>,
    Path(method): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let who = shared.admit(&headers)?;
    let unknown = || Fault::new(Code::UnknownMethod, "nothing is called so");
    let entry = Entry::find(&method).ok_or_else(unknown)?;
    let body = body.map_err(|error| Problem::new(error.status(), "bad_request", error.body_text()))?;
    let (internal, data) = fields(entry, &body)?;
    let (answer, answered) = oneshot::channel();
    shared.send(&who, Wish { method: entry.name, internal, data, answer })?;
    let ended = || Fault::new(Code::Shutdown, "the controller ended before the answer came");
    let data = answered.await.map_err(|_| ended())??;
    Ok(fresh(if data.is_null() { json!({}) } else { data }))
}

async fn events(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    since: Asked<Since>,
) -> Answer<Response> {
    let Query(since) = since?;
    let who = shared.admit(&headers)?;
    let last = headers.get(LAST_EVENT).and_then(|value| value.to_str().ok()?.parse().ok());
    let board = shared.line(&who, |line| line.board.clone())?;
    let reader = Reader::new(board, last.or(since.after));
    let kind = HeaderValue::from_static("text/event-stream");
    let headers =
        [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((StatusCode::OK, headers, Body::new(reader)).into_response())
}

/// Ids and data stand beside each other, as in the text form.
fn fields(entry: &Entry, body: &[u8]) -> Answer<(Map<String, Value>, Map<String, Value>)> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok((Map::new(), Map::new()));
    }
    let fields: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|error| Fault::new(Code::BadRequest, format!("the body is a JSON object: {error}")))?;
    Ok(fields.into_iter().partition(|(key, _)| entry.is_internal(key)))
}

impl Shared {
    /// Who asks, if he may be a controller.
    fn admit(&self, headers: &HeaderMap) -> Answer<Principal> {
        Ok(self.door.identify(bearer(headers))?)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Principal, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a request to its controller's session. Under the lock, so that none goes to one that is ending.
    fn send(self: &Arc<Self>, who: &Principal, wish: Wish) -> Result<(), Fault> {
        let overloaded =
            |_| Fault::new(Code::Overloaded, "too many requests of this key wait for their answers");
        self.line(who, |line| line.wishes.try_send(wish))?.map_err(overloaded)
    }

    /// Does something with a controller's session, which is made where there is none.
    fn line<T>(self: &Arc<Self>, who: &Principal, act: impl FnOnce(&Line) -> T) -> Result<T, Fault> {
        let mut lines = self.lock();
        if let Some(line) = lines.get(who) {
            return Ok(act(line));
        }
        let session = Session::authenticated(self.door.clone(), who.clone(), Form::Json, Instant::now())?;
        let (wishes, inbox) = mpsc::channel(self.door.config().max_open_requests.max(1));
        let board = Arc::new(Board { most: self.max_events, news: Mutex::default() });
        let line = Line { wishes, board: board.clone() };
        let acted = act(&line);
        lines.insert(who.clone(), line);
        let limit = self.door.config().max_message_bytes;
        let carrier = Carrier { session, inbox, board, limit, waiting: HashMap::new(), last: 0 };
        tokio::spawn(carrier.run(self.clone(), who.clone()));
        Ok(acted)
    }
}

/// Carries requests to one session, and answers and events away from it.
struct Carrier {
    session: Session,
    inbox: mpsc::Receiver<Wish>,
    board: Arc<Board>,
    /// Bytes of a request; the session would end over a longer one.
    limit: usize,
    waiting: HashMap<u32, oneshot::Sender<Result<Value, Fault>>>,
    last: u32,
}

impl Carrier {
    async fn run(mut self, shared: Arc<Shared>, who: Principal) {
        let mut reader = netstring::Reader::new(usize::MAX);
        let mut idle_at = Instant::now() + shared.idle;
        let ending = loop {
            let wants = self.session.wants_input();
            tokio::select! {
                Some(wish) = self.inbox.recv(), if wants => {
                    idle_at = Instant::now() + shared.idle;
                    self.pass_on(wish);
                }
                output = poll_fn(|cx| self.session.poll_output(cx)) => match output {
                    Output::Bytes(bytes) => {
                        reader.feed(&bytes);
                        while let Ok(Some(payload)) = reader.next_payload() {
                            self.take(payload);
                        }
                        self.session.advance(Instant::now());
                    }
                    Output::End(ending) => break Some(ending),
                },
                () = sleep_until(idle_at.into()) => {
                    let mut lines = shared.lock();
                    if self.waiting.is_empty() && self.inbox.is_empty() && !self.board.is_read() {
                        lines.remove(&who);
                        break None;
                    }
                    idle_at = Instant::now() + shared.idle;
                }
            }
        };
        if let Some(ending) = ending {
            shared.lock().remove(&who);
            let fault = match ending {
                Ending::Fault(fault) => fault,
                Ending::Stranger => Fault::new(Code::BadFraming, "the controller's session broke"),
            };
            for (_, answer) in self.waiting.drain() {
                let _ = answer.send(Err(fault.clone()));
            }
        }
        self.board.close();
    }

    /// Gives a request to the session, under a number that none has that waits.
    fn pass_on(&mut self, wish: Wish) {
        self.last = self.last.wrapping_add(1);
        let id = self.last;
        let message = json!({"id": id, "method": wish.method, "internal": wish.internal, "data": wish.data});
        let mut framed = Vec::new();
        if netstring::write(message.to_string().as_bytes(), self.limit, &mut framed).is_err() {
            let reason = format!("a request has at most {} bytes", self.limit);
            let _ = wish.answer.send(Err(Fault::new(Code::TooBig, reason)));
            return;
        }
        self.waiting.insert(id, wish.answer);
        self.session.handle_bytes(Instant::now(), &framed);
    }

    fn take(&mut self, payload: &[u8]) {
        let Ok(mut message) = serde_json::from_slice::<Value>(payload) else { return };
        let id = message.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        let Some(id) = id else { return self.board.post(&message) };
        let Some(answer) = self.waiting.remove(&id) else { return };
        let result = match message.get("rejected") {
            None => Ok(message["data"].take()),
            Some(_) => {
                let text = |key: &str| message[key].as_str().unwrap_or_default();
                Err(Fault::new(Code::parse(text("code")).unwrap_or(Code::Refused), text("reason")))
            }
        };
        // Whoever asked may have gone.
        let _ = answer.send(result);
    }
}

/// What happened lately, for those who read it.
struct Board {
    most: usize,
    news: Mutex<News>,
}

#[derive(Default)]
struct News {
    kept: VecDeque<(u64, String)>,
    /// Number of the newest.
    last: u64,
    readers: usize,
    wakers: Vec<Waker>,
    over: bool,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_read(&self) -> bool {
        self.lock().readers > 0
    }

    fn post(&self, message: &Value) {
        let mut news = self.lock();
        news.last += 1;
        let number = news.last;
        let name = message["event"].as_str().unwrap_or("message");
        let text = format!("id: {number}\nevent: {name}\ndata: {message}\n\n");
        news.kept.push_back((number, text));
        if news.kept.len() > self.most {
            news.kept.pop_front();
        }
        news.wakers.drain(..).for_each(Waker::wake);
    }

    fn close(&self) {
        let mut news = self.lock();
        news.over = true;
        news.wakers.drain(..).for_each(Waker::wake);
    }
}

/// Somebody who reads events: a body without end.
struct Reader {
    board: Arc<Board>,
    /// Number of the last that was read.
    seen: u64,
    beat: Interval,
}

impl Reader {
    /// Reads from behind `after`; without it, from now on.
    fn new(board: Arc<Board>, after: Option<u64>) -> Self {
        let mut news = board.lock();
        news.readers += 1;
        let seen = after.unwrap_or(news.last);
        drop(news);
        Reader { board, seen, beat: interval(KEEP_ALIVE) }
    }

    /// What is to be written now; `None`: it is over.
    fn poll_text(&mut self, cx: &mut Context<'_>) -> Poll<Option<String>> {
        let mut news = self.board.lock();
        let first = news.kept.front().map_or(news.last + 1, |(number, _)| *number);
        // Numbers of an earlier life of the controller are none of this one.
        if self.seen > news.last || self.seen + 1 < first {
            let lost = json!({"after": self.seen, "next": first});
            self.seen = first - 1;
            return Poll::Ready(Some(format!("event: lagged\ndata: {lost}\n\n")));
        }
        if self.seen < news.last {
            let fresh = news.kept.iter().filter(|(number, _)| *number > self.seen);
            let text = fresh.map(|(_, text)| text.as_str()).collect();
            self.seen = news.last;
            return Poll::Ready(Some(text));
        }
        if news.over {
            return Poll::Ready(None);
        }
        news.wakers.retain(|waker| !waker.will_wake(cx.waker()));
        news.wakers.push(cx.waker().clone());
        drop(news);
        self.beat.poll_tick(cx).map(|_| Some(":\n\n".to_owned()))
    }
}

impl HttpBody for Reader {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.poll_text(cx).map(|text| text.map(|text| Ok(Frame::data(text.into()))))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.board.lock().readers -= 1;
    }
}
