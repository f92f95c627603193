//! What a door does with plain RTP legs (SIP): making and connecting them, tones, hold, and the events
//! that come back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_channel::oneshot;
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::core::control::error::ControlError;
use crate::core::control::handle::{Peer, answer, read};
use crate::core::control::publish::Pending;
use crate::core::control::state::{Reply, State, on_consumer, on_producer, on_transport};
use crate::core::id::{ConnId, ConsumerId, ProducerId, TransportId};
use crate::core::message::Method;
use crate::core::plain::{PlainOptions, PlainRemote, PlainTransport};

/// Events that may wait for one listener; more drop the oldest.
const MAX_WAITING: usize = 256;

/// What a leg's media tells its door.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PeerEvent {
    /// The party pressed a key; said once, when the key is released (or seems to be).
    Dtmf {
        /// On this transport.
        transport: TransportId,
        /// `0`-`9`, `*`, `#`, `A`-`D`.
        digit: char,
        /// How long it was held.
        duration_ms: u32,
    },
    /// Its first media arrived, and we know where to send.
    MediaStarted {
        /// On this transport.
        transport: TransportId,
    },
    /// Media flows in one direction only, or not at all.
    OneWay {
        /// On this transport.
        transport: TransportId,
        /// What is seen, with both addresses, and the likely cause.
        text: String,
    },
    /// No packet came for the configured time although the party should send.
    MediaTimeout {
        /// On this transport.
        transport: TransportId,
    },
    /// Somebody needs a keyframe of the party, and RTCP cannot ask for it.
    KeyframeRequested {
        /// On this transport.
        transport: TransportId,
    },
}

#[derive(Default)]
struct Queue {
    events: VecDeque<PeerEvent>,
    waker: Option<Waker>,
    closed: bool,
}

/// The events of a peer from the moment of [`Peer::events`] on; `None` once the peer is gone.
pub struct PeerEvents(Arc<Mutex<Queue>>);

impl PeerEvents {
    /// The next event.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<PeerEvent>> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match queue.events.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if queue.closed => Poll::Ready(None),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Waits for the next event.
    pub async fn next(&mut self) -> Option<PeerEvent> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }
}

/// Those who listen to a peer.
#[derive(Default)]
pub(super) struct Listeners(Mutex<Vec<Arc<Mutex<Queue>>>>);

impl Listeners {
    fn add(&self) -> PeerEvents {
        let queue = Arc::new(Mutex::new(Queue::default()));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A queue that only this list holds has lost its reader.
        all.retain(|queue| Arc::strong_count(queue) > 1);
        all.push(queue.clone());
        PeerEvents(queue)
    }

    fn tell(&self, event: &PeerEvent) {
        self.each(|queue| {
            if queue.events.len() >= MAX_WAITING {
                queue.events.pop_front();
            }
            queue.events.push_back(event.clone());
        });
    }

    /// Nothing comes any more.
    pub fn close(&self) {
        self.each(|queue| queue.closed = true);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn each(&self, mut step: impl FnMut(&mut Queue)) {
        for queue in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            step(&mut queue);
            if let Some(waker) = queue.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Peer {
    /// Makes a plain RTP transport for it on its room's worker: a port pair, or one port.
    pub async fn create_plain_transport(
        &self,
        options: PlainOptions,
    ) -> Result<PlainTransport, ControlError> {
        let pending = self.rooms().step(|state| state.create_plain(self.conn(), &options))?;
        read(answer(pending).await?)
    }

    /// Tells the transport the remote side, as its SDP says; again after each re-INVITE. A new address
    /// makes it learn anew where media comes from.
    pub async fn connect_plain(
        &self,
        transport: TransportId,
        remote: PlainRemote,
    ) -> Result<(), ControlError> {
        let method = Method::TransportSetRemoteParameters;
        let ask = |state: &mut State| state.ask_transport(self.conn(), transport, method, json!(remote));
        answer(self.rooms().step(ask)?).await.map(drop)
    }

    /// Closes one of its transports, with what it carries; the peer stays.
    pub async fn close_transport(&self, transport: TransportId) -> Result<(), ControlError> {
        answer(self.rooms().step(|state| state.close_one_transport(self.conn(), transport))?).await.map(drop)
    }

    /// Ends one of its tracks; the transport stays.
    pub async fn stop_producer(&self, producer: ProducerId) -> Result<(), ControlError> {
        self.rooms().step(|state| {
            let peer = state.member(self.conn())?;
            if !peer.tracks.iter().any(|track| track.producer == producer) {
                return Err(ControlError::NotAllowed("that is no track of this peer"));
            }
            state.drop_track(self.conn(), producer);
            Ok(())
        })
    }

    /// Ends what it is sent by one consumer; the transport stays.
    pub async fn stop_consumer(&self, consumer: ConsumerId) -> Result<(), ControlError> {
        self.rooms().step(|state| {
            let peer = state.member(self.conn())?;
            if !peer.feeds.iter().any(|feed| feed.consumer == consumer) {
                return Err(ControlError::NotAllowed("that is no consumer of this peer"));
            }
            state.drop_feed(self.conn(), consumer);
            Ok(())
        })
    }

    /// Plays telephone events into what `consumer` sends, one after another: `0`-`9`, `*`, `#`, `A`-`D`,
    /// `,` for a pause, each `ms` long.
    pub async fn send_dtmf(&self, consumer: ConsumerId, digits: &str, ms: u32) -> Result<(), ControlError> {
        let data = json!({"digits": digits, "duration": ms});
        self.ask_consumer(consumer, Method::XConsumerSendDtmf, data).await
    }

    /// What the party sends is forwarded no more.
    pub async fn pause_producer(&self, producer: ProducerId) -> Result<(), ControlError> {
        self.ask_producer(producer, Method::ProducerPause).await
    }

    /// What the party sends is forwarded again.
    pub async fn resume_producer(&self, producer: ProducerId) -> Result<(), ControlError> {
        self.ask_producer(producer, Method::ProducerResume).await
    }

    /// The party is sent nothing more.
    pub async fn pause_consumer(&self, consumer: ConsumerId) -> Result<(), ControlError> {
        self.ask_consumer(consumer, Method::ConsumerPause, json!({})).await
    }

    /// The party is sent the program again.
    pub async fn resume_consumer(&self, consumer: ConsumerId) -> Result<(), ControlError> {
        self.ask_consumer(consumer, Method::ConsumerResume, json!({})).await
    }

    /// The party asked for a keyframe by its signalling.
    pub async fn request_keyframe(&self, consumer: ConsumerId) -> Result<(), ControlError> {
        self.ask_consumer(consumer, Method::ConsumerRequestKeyFrame, json!({})).await
    }

    /// What its legs tell from now on.
    pub fn events(&self) -> PeerEvents {
        let events = self.listeners().add();
        if self.rooms().step(|state| state.member(self.conn()).is_err()) {
            self.listeners().close();
        }
        events
    }

    async fn ask_producer(&self, producer: ProducerId, method: Method) -> Result<(), ControlError> {
        let ask = |state: &mut State| {
            let peer = state.member(self.conn())?;
            if !peer.tracks.iter().any(|track| track.producer == producer) {
                return Err(ControlError::NotAllowed("that is no track of this peer"));
            }
            let (worker, internal) = (peer.worker, on_producer(peer.router, producer));
            let (waiter, pending) = oneshot::channel();
            state.ask(worker, method, internal, json!({}), Reply::Value(waiter));
            Ok(pending)
        };
        answer(self.rooms().step(ask)?).await.map(drop)
    }

    async fn ask_consumer(
        &self,
        consumer: ConsumerId,
        method: Method,
        data: Value,
    ) -> Result<(), ControlError> {
        let ask = |state: &mut State| {
            let peer = state.member(self.conn())?;
            if !peer.feeds.iter().any(|feed| feed.consumer == consumer) {
                return Err(ControlError::NotAllowed("that is no consumer of this peer"));
            }
            let (worker, internal) = (peer.worker, on_consumer(peer.router, consumer));
            let (waiter, pending) = oneshot::channel();
            state.ask(worker, method, internal, data, Reply::Value(waiter));
            Ok(pending)
        };
        answer(self.rooms().step(ask)?).await.map(drop)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DtmfData {
    digit: char,
    duration: u32,
}

impl State {
    /// Asks for a plain transport.
    pub fn create_plain(&mut self, conn: ConnId, options: &PlainOptions) -> Result<Pending, ControlError> {
        let (router, worker, id) = self.new_transport(conn)?;
        let (waiter, pending) = oneshot::channel();
        let mut data = json!(options);
        if let Some(map) = data.as_object_mut() {
            map.insert("x.connId".into(), json!(conn));
        }
        let reply = Reply::Transport(conn, id, waiter);
        self.ask(worker, Method::RouterCreatePlainRtpTransport, on_transport(router, id), data, reply);
        Ok(pending)
    }

    /// Closes a transport of a peer that stays.
    pub fn close_one_transport(
        &mut self,
        conn: ConnId,
        transport: TransportId,
    ) -> Result<Pending, ControlError> {
        let (router, worker) = self.place(conn, transport)?;
        let peer = self.member(conn)?;
        let here = peer.tracks.iter().filter(|track| track.transport == transport);
        let tracks: Vec<_> = here.map(|track| track.producer).collect();
        let feeds: Vec<_> =
            peer.feeds.iter().filter(|feed| feed.transport == transport).map(|feed| feed.consumer).collect();
        for track in tracks {
            self.drop_track(conn, track);
        }
        for feed in feeds {
            self.drop_feed(conn, feed);
        }
        self.forget_transport(conn, transport);
        let (waiter, pending) = oneshot::channel();
        let internal = on_transport(router, transport);
        self.ask(worker, Method::TransportClose, internal, json!({}), Reply::Value(waiter));
        Ok(pending)
    }

    /// Hands a leg's event to those who listen; `false` when it is none.
    pub fn leg_event(&mut self, conn: ConnId, transport: TransportId, event: &str, data: &Value) -> bool {
        let event = match event {
            "x.dtmf" => match DtmfData::deserialize(data) {
                Ok(DtmfData { digit, duration }) => {
                    PeerEvent::Dtmf { transport, digit, duration_ms: duration }
                }
                Err(error) => {
                    warn!(%conn, %error, "a tone's event was not understood");
                    return true;
                }
            },
            "x.mediastarted" => PeerEvent::MediaStarted { transport },
            "x.oneway" => {
                let text = data.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
                PeerEvent::OneWay { transport, text }
            }
            "x.mediatimeout" => PeerEvent::MediaTimeout { transport },
            // A leg with DTLS around it has no address to be found.
            "dtlsstatechange" if data.get("dtlsState").is_some_and(|state| state == "connected") => {
                PeerEvent::MediaStarted { transport }
            }
            "x.keyframerequest" => PeerEvent::KeyframeRequested { transport },
            _ => return false,
        };
        match &event {
            PeerEvent::MediaTimeout { .. } => info!(%conn, %transport, "no media comes any more"),
            // Whoever has to find the fault needs the addresses.
            PeerEvent::OneWay { text, .. } => info!(%conn, %transport, "{text}"),
            _ => {}
        }
        if let Some(entry) = self.members.get(&conn) {
            entry.shared.listeners.tell(&event);
        }
        true
    }
}
