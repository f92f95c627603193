//! One WebSocket: feeds its session with what comes from the client and from the room, does what it says, and
//! sees to pings, to clients that do not read, and to the end.

use std::future::{Future, pending, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use tokio::time::{Duration, sleep_until, timeout};
use tracing::{debug, trace};

use super::Door;
use super::asks::{Asks, perform};
use super::places::{Claim, TakenOver};
use crate::core::auth::Principal;
use crate::core::control::{Join, Peer, PeerEvent, PeerEvents, RoomEvent, RoomEvents};
use crate::core::id;
use crate::core::peer::{CloseReason, PeerKind};
use crate::rooms::demux::{Dialect, Target};
use crate::rooms::error::Refusal;
use crate::rooms::session::asks::{Answer, Ask, Entry};
use crate::rooms::session::{Answered, AskId, CloseCode, Output, Protocol, Session};

/// Pings without a sign of life after which a client counts as gone.
const SILENT_PINGS: u32 = 3;
/// How long a client is given to take the end in.
const FAREWELL: Duration = Duration::from_secs(2);

/// Who connected.
pub(super) struct Client {
    pub door: Arc<Door>,
    pub target: Target,
    pub principal: Principal,
    pub remote: Option<SocketAddr>,
    pub may_publish: bool,
}

/// What came of a request to the room.
enum Done {
    Answered(Answered),
    Entered(Result<Peer, Refusal>),
}

/// The client's place in the room; it is given up with this.
struct Seat {
    peer: Peer,
    room: RoomEvents,
    own: PeerEvents,
    /// Somebody else ended it.
    closed: Pin<Box<dyn Future<Output = CloseReason> + Send>>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Closing is one step that waits for nothing.
        let mut closing = pin!(self.peer.close(CloseReason::left()));
        let _ = closing.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
}

/// What there is to handle.
enum Input {
    Message(Option<Result<Message, axum::Error>>),
    Done(AskId, Done),
    Room(Option<RoomEvent>),
    Own(Option<PeerEvent>),
    Left(CloseReason),
    TakenOver(Option<TakenOver>),
    Time,
    Ping,
}

struct Connection<P: Protocol> {
    client: Client,
    socket: WebSocket,
    session: Session<P>,
    asks: Asks<Done>,
    seat: Option<Seat>,
    /// When the client was last heard of.
    heard: Instant,
    next_ping: Instant,
    /// Who took over, until we are out of the room.
    successor: Option<TakenOver>,
}

/// Serves a client to its end.
pub(super) async fn run<P: Protocol>(client: Client, socket: WebSocket, protocol: P) {
    let door = client.door.clone();
    let target = client.target.clone();
    let mut claim = door.places.claim(&target, &client.principal).await;
    let now = Instant::now();
    let session = Session::new(door.config.clone(), now, id::random, protocol);
    let mut connection = Connection {
        next_ping: now + door.config.ping_interval(),
        client,
        socket,
        session,
        asks: Asks::new(),
        seat: None,
        heard: now,
        successor: None,
    };
    let end = connection.serve(claim.as_mut()).await;
    connection.seat = None;
    drop(connection.successor.take());
    if let Some(claim) = claim {
        door.places.release(&target, &claim);
    }
    if let Some((code, reason)) = end {
        debug!(room = %target.room, code = code.number(), reason, "a room client is disconnected");
        connection.say_goodbye(code, reason).await;
    }
}

impl<P: Protocol> Connection<P> {
    /// Until the session ends, or the client is gone.
    async fn serve(&mut self, mut claim: Option<&mut Claim>) -> Option<(CloseCode, String)> {
        loop {
            while let Some(output) = self.session.poll_output() {
                match output {
                    Output::Send(text) => self.send(Message::Text(text.into())).await.ok()?,
                    Output::Ask(id, ask) => self.ask(id, ask),
                    Output::Close(code, reason) => return Some((code, reason)),
                }
            }
            let input = self.next(claim.as_deref_mut()).await;
            let now = Instant::now();
            match input {
                Input::Message(message) => self.message(now, message?.ok()?),
                Input::Done(id, done) => self.done(now, id, done),
                Input::Room(Some(event)) => self.session.handle_room_event(now, event),
                Input::Own(Some(event)) => self.session.handle_own_event(now, event),
                // What happened is lost; only a new start shows how things are.
                Input::Room(None) | Input::Own(None) => {
                    self.session.handle_end(now, CloseCode::Restart, "the client was too slow for its room");
                }
                Input::Left(reason) => {
                    self.seat = None;
                    self.session.handle_left(now, &reason);
                }
                Input::TakenOver(successor) => {
                    self.seat = None;
                    self.successor = successor;
                    claim = None;
                    let reason = "another connection of the same name took over";
                    self.session.handle_left(now, &CloseReason::new("taken_over", reason));
                }
                Input::Time => self.session.handle_timeout(now),
                Input::Ping => self.ping(now).await?,
            }
        }
    }

    async fn next(&mut self, mut claim: Option<&mut Claim>) -> Input {
        let now = Instant::now();
        let readable = self.session.may_read(now);
        let wake = [self.session.poll_timeout(), readable.err().flatten()].into_iter().flatten().min();
        let (seat, asks) = (&mut self.seat, &mut self.asks);
        let from_room = poll_fn(|cx| poll_room(seat.as_mut(), claim.as_deref_mut(), asks, cx));
        tokio::select! {
            biased;
            input = from_room => input,
            () = sleep_until(self.next_ping.into()) => Input::Ping,
            () = until(wake) => Input::Time,
            message = self.socket.recv(), if readable.is_ok() => Input::Message(message),
        }
    }

    fn message(&mut self, now: Instant, message: Message) {
        self.heard = now;
        match message {
            Message::Text(text) if text.len() > self.client.door.config.max_message_bytes => {
                self.session.handle_end(now, CloseCode::TooBig, "the message is too long");
            }
            Message::Text(text) => self.session.handle_text(now, &text),
            Message::Binary(_) => {
                self.session.handle_end(now, CloseCode::NotText, "messages are text");
            }
            // After the client's close frame the stream ends by itself.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
        }
    }

    fn ask(&mut self, id: AskId, ask: Ask) {
        match (ask, &self.seat) {
            (Ask::Join(entry), None) => {
                let (rooms, join) = (self.client.door.rooms.clone(), self.client.join(entry));
                self.asks
                    .push(id, async move { Done::Entered(rooms.join(join).await.map_err(Refusal::from)) });
            }
            (Ask::Leave, _) => {
                self.seat = None;
                self.asks.push(id, async { Done::Answered(Ok(Answer::Done)) });
            }
            (ask, Some(seat)) => {
                let peer = seat.peer.clone();
                self.asks.push(id, async move { Done::Answered(perform(peer, ask).await) });
            }
            (_, None) => {
                self.asks.push(id, async { Done::Answered(Err(Refusal::new(410, "not in the room"))) });
            }
        }
    }

    fn done(&mut self, now: Instant, id: AskId, done: Done) {
        let peer = match done {
            Done::Answered(answer) => return self.session.handle_answer(now, id, answer),
            Done::Entered(Err(refusal)) => return self.session.handle_answer(now, id, Err(refusal)),
            Done::Entered(Ok(peer)) => peer,
        };
        let mut room = peer.watch();
        // What is in the room waits there already, and goes into the response.
        while let Poll::Ready(Some(event)) = room.poll_next(&mut Context::from_waker(Waker::noop())) {
            self.session.handle_room_event(now, event);
        }
        let conn = peer.conn();
        let member = peer.clone();
        let closed = Box::pin(async move { member.closed().await });
        self.seat = Some(Seat { own: peer.events(), room, closed, peer });
        self.session.handle_answer(now, id, Ok(Answer::Joined(conn)));
    }

    async fn ping(&mut self, now: Instant) -> Option<()> {
        let interval = self.client.door.config.ping_interval();
        self.next_ping = now + interval;
        if now.duration_since(self.heard) > interval * SILENT_PINGS {
            self.session.handle_end(now, CloseCode::Policy, "nothing was heard of the client for too long");
            return Some(());
        }
        self.send(Message::Ping(Bytes::new())).await.ok()
    }

    /// Sends a message; a client that does not take it in time is given up.
    async fn send(&mut self, message: Message) -> Result<(), ()> {
        match timeout(self.client.door.config.send_timeout(), self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                trace!(%error, "a WebSocket broke off");
                Err(())
            }
            Err(_) => {
                debug!("a room client does not read; it is given up");
                Err(())
            }
        }
    }

    /// A close frame, and time for it to arrive: closing a socket with unread data in it would overtake it.
    async fn say_goodbye(&mut self, code: CloseCode, reason: String) {
        // RFC 6455 §5.5: 125 bytes with the code.
        let reason: String = reason
            .chars()
            .scan(0, |bytes, c| {
                *bytes += c.len_utf8();
                (*bytes <= 120).then_some(c)
            })
            .collect();
        let frame = CloseFrame { code: code.number(), reason: reason.into() };
        let farewell = async {
            if self.socket.send(Message::Close(Some(frame))).await.is_ok() {
                while let Some(Ok(_)) = self.socket.recv().await {}
            }
        };
        let _ = timeout(FAREWELL, farewell).await;
    }
}

impl Client {
    fn join(&self, entry: Entry) -> Join {
        let kind = match self.target.dialect {
            Dialect::V2 => PeerKind::RoomV2,
            Dialect::V3 => PeerKind::Room,
        };
        Join {
            name: Some(entry.name),
            remote: self.remote,
            publishes: self.may_publish && !entry.spy,
            display_name: entry.display_name,
            app_data: entry.app_data,
            spy: entry.spy,
            takes_over: false,
            announced: entry.announced,
            ..Join::new(self.target.room.clone(), kind, self.principal.clone())
        }
    }
}

/// What there is of the room's side. The end of a seat ends its events, too, and says why: so it is asked first.
fn poll_room(
    seat: Option<&mut Seat>,
    claim: Option<&mut Claim>,
    asks: &mut Asks<Done>,
    cx: &mut Context<'_>,
) -> Poll<Input> {
    let (mut seat, mut claim) = (seat, claim);
    if let Some(seat) = &mut seat
        && let Poll::Ready(reason) = seat.closed.as_mut().poll(cx)
    {
        return Poll::Ready(Input::Left(reason));
    }
    if let Some(claim) = &mut claim
        && let Poll::Ready(successor) = claim.poll_taken(cx)
    {
        return Poll::Ready(Input::TakenOver(successor));
    }
    if let Poll::Ready((id, done)) = asks.poll_next(cx) {
        return Poll::Ready(Input::Done(id, done));
    }
    let Some(seat) = seat else { return Poll::Pending };
    match seat.own.poll_next(cx) {
        Poll::Ready(event) => Poll::Ready(Input::Own(event)),
        Poll::Pending => seat.room.poll_next(cx).map(Input::Room),
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => pending().await,
    }
}
