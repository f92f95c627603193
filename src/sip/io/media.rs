//! What calls ask of media, done with rooms: one task a call, asks in their order.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, info};

use crate::core::auth::{Action, Authority};
use crate::core::capabilities::{Kind, RtpParameters};
use crate::core::control::{
    ControlError, Join, JoinError, Peer, PeerEvent, PeerEvents, Produce, RoomEvent, Rooms, WebRtcOptions,
};
use crate::core::convert::Sound;
use crate::core::id::{ConsumerId, ProducerId, TransportId};
use crate::core::peer::{CloseReason, PeerKind};
use crate::core::plain::PlainOptions;
use crate::core::room::RoomName;
use crate::sip::io::Event;
use crate::sip::session::SessionId;
use crate::sip::session::media::{
    ConnectStream, Enter, How, Local, MediaAsk, MediaEvent, OpenStream, Remote,
};

/// Asks that may wait for one call.
const MAX_ASKS: usize = 64;
/// How often the tone is heard that says that nobody came.
const FAREWELLS: usize = 4;
/// How long that may take.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long a key is held.
const KEY_MS: u32 = 120;

/// The media of all calls.
pub(super) struct Media {
    rooms: Rooms,
    authority: Arc<Authority>,
    reserved: &'static [&'static str],
    events: mpsc::Sender<Event>,
    calls: HashMap<SessionId, mpsc::Sender<MediaAsk>>,
}

impl Media {
    pub fn new(
        (rooms, authority): (Rooms, Arc<Authority>),
        reserved: &'static [&'static str],
        events: mpsc::Sender<Event>,
    ) -> Self {
        Media { rooms, authority, reserved, events, calls: HashMap::new() }
    }

    /// Tells those who watch a room.
    pub fn announce(&self, room: &str, event: RoomEvent) {
        if let Ok(room) = RoomName::new(room, self.reserved) {
            self.rooms.announce(&room, event);
        }
    }

    /// Hands an ask to its call's task; the first makes the task, the last ends it.
    pub fn ask(&mut self, call: SessionId, ask: MediaAsk) {
        let last = matches!(ask, MediaAsk::Leave { .. });
        let (rooms, authority, reserved, events) =
            (&self.rooms, &self.authority, self.reserved, &self.events);
        let sender = self.calls.entry(call).or_insert_with(|| {
            let (sender, asks) = mpsc::channel(MAX_ASKS);
            let leg = Leg {
                call,
                rooms: rooms.clone(),
                authority: authority.clone(),
                reserved,
                events: events.clone(),
                peer: None,
                streams: HashMap::new(),
                media_timeout_ms: 0,
                told: None,
            };
            tokio::spawn(leg.run(asks));
            sender
        });
        if sender.try_send(ask).is_err() {
            debug!(%call, "media is overloaded");
            let events = self.events.clone();
            let failed = MediaEvent::Failed { status: 500, text: "media is overloaded".into() };
            tokio::spawn(async move { events.send(Event::Media(call, failed)).await.map_err(drop) });
        }
        if last {
            self.calls.remove(&call);
        }
    }
}

/// One call in its room.
struct Leg {
    call: SessionId,
    rooms: Rooms,
    authority: Arc<Authority>,
    reserved: &'static [&'static str],
    events: mpsc::Sender<Event>,
    peer: Option<Peer>,
    streams: HashMap<usize, Stream>,
    media_timeout_ms: u64,
    told: Option<PeerEvents>,
}

struct Stream {
    transport: TransportId,
    kind: Kind,
    producer: Option<(ProducerId, RtpParameters)>,
    consumer: Option<ConsumerId>,
    takes: bool,
    gives: bool,
    holds: bool,
}

type Fault = (u16, String);

fn fault(error: ControlError) -> Fault {
    let status = if matches!(error, ControlError::Closed | ControlError::BadAnswer(_)) { 500 } else { 503 };
    (status, error.to_string())
}

impl Leg {
    async fn run(mut self, mut asks: mpsc::Receiver<MediaAsk>) {
        loop {
            let peer = self.peer.clone();
            tokio::select! {
                ask = asks.recv() => match ask {
                    Some(MediaAsk::Leave { reason, farewell }) => {
                        if let Some(peer) = self.peer.take() {
                            if let Some(sound) = farewell {
                                self.say_farewell(&peer, sound).await;
                            }
                            peer.close(CloseReason::new("left", reason)).await;
                        }
                        return;
                    }
                    Some(ask) => {
                        if let Err((status, text)) = self.serve(ask).await {
                            self.tell(MediaEvent::Failed { status, text }).await;
                        }
                    }
                    // The call is gone without a word.
                    None => {
                        if let Some(peer) = self.peer.take() {
                            peer.close(CloseReason::left()).await;
                        }
                        return;
                    }
                },
                event = next(&mut self.told), if self.told.is_some() => match event {
                    Some(event) => self.told(event).await,
                    None => self.told = None,
                },
                reason = closed(peer), if self.peer.is_some() => {
                    self.peer = None;
                    self.told = None;
                    self.tell(MediaEvent::Ended(reason)).await;
                }
            }
        }
    }

    /// Lets those in the room hear that nothing came of the call.
    async fn say_farewell(&mut self, peer: &Peer, sound: Sound) {
        let room = self.rooms.summary(&peer.room());
        let others = room.is_some_and(|room| room.publishers.len() + room.viewers > 1);
        let mut sounds = vec![sound; FAREWELLS];
        // A tone that is the last goes on.
        sounds.push(Sound::Silence(20));
        if !others || !peer.play_to_room(sounds) {
            return;
        }
        let told = &mut self.told;
        let played =
            async { while next(told).await.is_some_and(|event| event != PeerEvent::PlayedToRoom) {} };
        if timeout(FAREWELL, played).await.is_err() {
            debug!(call = %self.call, "the farewell took too long");
        }
    }

    async fn tell(&self, event: MediaEvent) {
        let _ = self.events.send(Event::Media(self.call, event)).await;
    }

    async fn told(&self, event: PeerEvent) {
        let event = match event {
            PeerEvent::Dtmf { digit, duration_ms, .. } => MediaEvent::Dtmf { digit, duration_ms },
            PeerEvent::MediaStarted { .. } => MediaEvent::Started,
            PeerEvent::OneWay { text, .. } => MediaEvent::OneWay { text },
            PeerEvent::MediaTimeout { transport } => {
                // A call without its picture is still a call.
                let audio = self.streams.values().any(|s| s.transport == transport && s.kind == Kind::Audio);
                if !audio {
                    return;
                }
                MediaEvent::Timeout
            }
            PeerEvent::KeyframeRequested { .. } => MediaEvent::KeyframeWanted,
            PeerEvent::Moved { room } => return self.moved(&room).await,
            _ => return,
        };
        self.tell(event).await;
    }

    async fn serve(&mut self, ask: MediaAsk) -> Result<(), Fault> {
        match ask {
            MediaAsk::Enter(enter) => self.enter(enter).await,
            MediaAsk::Move { room } => {
                if let Err(text) = self.relocate(&room) {
                    self.tell(MediaEvent::NotMoved { text }).await;
                }
                Ok(())
            }
            MediaAsk::Open { serial, streams } => {
                let mut locals = Vec::new();
                for stream in streams {
                    let index = stream.index;
                    locals.push((index, self.open(stream).await.map_err(fault)?));
                }
                self.tell(MediaEvent::Opened { serial, locals }).await;
                Ok(())
            }
            MediaAsk::Connect { serial, streams } => {
                for stream in streams {
                    self.connect(stream).await.map_err(fault)?;
                }
                self.tell(MediaEvent::Connected { serial }).await;
                Ok(())
            }
            MediaAsk::Close { index } => {
                if let (Some(stream), Some(peer)) = (self.streams.remove(&index), &self.peer) {
                    peer.close_transport(stream.transport).await.map_err(fault)?;
                }
                Ok(())
            }
            MediaAsk::Dtmf { digits } => {
                let audio = self.streams.values().find(|stream| stream.kind == Kind::Audio);
                if let (Some(peer), Some(consumer)) = (&self.peer, audio.and_then(|stream| stream.consumer))
                    && let Err(error) = peer.send_dtmf(consumer, &digits, KEY_MS).await
                {
                    info!(call = %self.call, %error, "keys could not be sent");
                }
                Ok(())
            }
            MediaAsk::Play { prompts } => {
                let audio = self.streams.values().find(|stream| stream.kind == Kind::Audio);
                let sounds = prompts.iter().map(|name| Sound::Prompt((*name).to_owned())).collect();
                if let (Some(peer), Some(consumer)) = (&self.peer, audio.and_then(|stream| stream.consumer))
                    && let Err(error) = peer.play(consumer, sounds, false).await
                {
                    info!(call = %self.call, %error, "a prompt could not be played");
                }
                Ok(())
            }
            MediaAsk::PlayToRoom { sounds } => {
                if let Some(peer) = &self.peer {
                    peer.play_to_room(sounds);
                }
                Ok(())
            }
            MediaAsk::Keyframe => {
                let video = self.streams.values().find(|stream| stream.kind == Kind::Video);
                if let (Some(peer), Some(consumer)) = (&self.peer, video.and_then(|stream| stream.consumer))
                    && let Err(error) = peer.request_keyframe(consumer).await
                {
                    debug!(call = %self.call, %error, "no keyframe could be asked for");
                }
                Ok(())
            }
            MediaAsk::Leave { .. } => Ok(()),
        }
    }

    async fn enter(&mut self, enter: Enter) -> Result<(), Fault> {
        let room = RoomName::new(&enter.room, self.reserved);
        let room = room.map_err(|error| (404, format!("the rule leads to no room: {error}")))?;
        if enter.asks {
            let may = self.authority.authorise(&enter.principal, Action::Publish, room.as_str());
            may.map_err(|error| (403, format!("{} may not enter the room: {error}", enter.principal)))?;
        }
        self.media_timeout_ms = enter.media_timeout_ms;
        let join = Join {
            name: Some(enter.name),
            remote: enter.remote,
            publishes: true,
            ..Join::new(room, PeerKind::Sip, enter.principal)
        };
        let peer = self.rooms.join(join).await.map_err(|error| match error {
            JoinError::RoomFull => (486, error.to_string()),
            JoinError::ServerFull | JoinError::NoWorker => (503, error.to_string()),
            _ => (500, error.to_string()),
        })?;
        self.tell(MediaEvent::Entered { conn: peer.conn() }).await;
        self.told = Some(peer.events());
        self.peer = Some(peer);
        Ok(())
    }

    /// Into another room; that it is there comes as an event. `Err` is for people.
    fn relocate(&self, name: &str) -> Result<(), String> {
        let Some(peer) = &self.peer else { return Err("it is in no room".into()) };
        let room = RoomName::new(name, self.reserved);
        let room = room.map_err(|error| format!("the rule leads to no room: {error}"))?;
        let may = self.authority.authorise(peer.principal(), Action::Publish, room.as_str());
        may.map_err(|error| format!("{} may not enter the room: {error}", peer.principal()))?;
        self.rooms.move_peer(&peer.room(), peer.conn(), &room).map_err(|error| error.to_string())
    }

    /// It is in another room: what was played to it alone ended with the move, and a held party waits to music again.
    async fn moved(&self, room: &RoomName) {
        for stream in self.streams.values().filter(|stream| stream.holds) {
            self.hold(stream, true).await;
        }
        self.tell(MediaEvent::Moved { room: room.to_string() }).await;
    }

    /// Music in place of the program, or no longer.
    async fn hold(&self, stream: &Stream, held: bool) {
        let (Some(peer), Some(consumer)) = (&self.peer, stream.consumer) else { return };
        let sounds = if held { vec![Sound::Hold] } else { Vec::new() };
        if let Err(error) = peer.play(consumer, sounds, false).await {
            // Then it hears nothing.
            info!(call = %self.call, %error, "no music on hold can be played");
        }
    }

    fn peer(&self) -> Result<&Peer, ControlError> {
        self.peer.as_ref().ok_or(ControlError::Closed)
    }

    async fn open(&mut self, stream: OpenStream) -> Result<Local, ControlError> {
        let OpenStream { index, kind, how, ipv6 } = stream;
        if let Some(old) = self.streams.remove(&index) {
            self.peer()?.close_transport(old.transport).await?;
        }
        let (transport, local) = match how {
            How::Plain { .. } | How::Dtls => {
                let options = PlainOptions {
                    rtcp_mux: how == How::Plain { mux: true },
                    dtls: how == How::Dtls,
                    ipv6,
                    media_timeout_ms: Some(self.media_timeout_ms),
                    ..PlainOptions::default()
                };
                let made = self.peer()?.create_plain_transport(options).await?;
                let (ip, port) = (made.ip, made.port);
                let local = match made.dtls {
                    Some(dtls) => Local::Dtls { ip, port, fingerprints: dtls.fingerprints },
                    None => Local::Plain { ip, port, rtcp_port: made.rtcp_port },
                };
                (made.id, local)
            }
            How::Ice => {
                let made = self.peer()?.create_webrtc_transport(WebRtcOptions::default()).await?;
                let udp = made.candidates.iter().filter(|candidate| candidate.protocol == "udp");
                let local = Local::Ice {
                    ice: (made.ice.username_fragment, made.ice.password),
                    candidates: udp.map(|candidate| SocketAddr::new(candidate.ip, candidate.port)).collect(),
                    fingerprints: made.dtls.fingerprints,
                };
                (made.id, local)
            }
        };
        let stream = Stream {
            transport,
            kind,
            producer: None,
            consumer: None,
            takes: true,
            gives: true,
            holds: false,
        };
        self.streams.insert(index, stream);
        Ok(local)
    }

    async fn connect(&mut self, ask: ConnectStream) -> Result<(), ControlError> {
        let peer = self.peer()?.clone();
        let Some(stream) = self.streams.get_mut(&ask.index) else { return Err(ControlError::Closed) };
        match ask.remote {
            Remote::Plain(remote) => peer.connect_plain(stream.transport, remote).await?,
            Remote::Dtls { remote, role, fingerprints } => {
                peer.connect_plain(stream.transport, remote).await?;
                // DTLS is agreed on once; a re-INVITE repeats it.
                if stream.producer.is_none() {
                    peer.connect_webrtc(stream.transport, role, fingerprints, None).await?;
                }
            }
            Remote::Ice { .. } if stream.producer.is_some() => {}
            Remote::Ice { role, fingerprints, ice } => {
                peer.connect_webrtc(stream.transport, role, fingerprints, Some(ice)).await?;
            }
        }
        // Another codec than before, or another end of a fork: the old tracks are of no use any more.
        if let Some((producer, _)) = stream.producer.take_if(|(_, known)| *known != ask.produce) {
            peer.close_producer(producer).await?;
            if let Some(consumer) = stream.consumer.take() {
                peer.close_consumer(consumer).await?;
            }
            (stream.takes, stream.gives) = (true, true);
        }
        if stream.producer.is_none() {
            let produce = Produce::new(ask.kind, ask.produce.clone());
            stream.producer = Some((peer.produce(stream.transport, produce).await?, ask.produce));
        }
        if stream.consumer.is_none() {
            stream.consumer = Some(peer.consume_program(stream.transport, ask.kind, ask.consume).await?);
        }
        if let Some((producer, _)) = stream.producer.as_ref().filter(|_| stream.takes != ask.take) {
            stream.takes = ask.take;
            if ask.take {
                peer.resume_producer(*producer).await?;
            } else {
                peer.pause_producer(*producer).await?;
            }
        }
        let holds = std::mem::replace(&mut stream.holds, ask.hold);
        if let Some(consumer) = stream.consumer.filter(|_| stream.gives != ask.give) {
            stream.gives = ask.give;
            if ask.give {
                peer.resume_consumer(consumer).await?;
            } else {
                peer.pause_consumer(consumer).await?;
            }
        }
        if holds != ask.hold
            && let Some(stream) = self.streams.get(&ask.index)
        {
            self.hold(stream, ask.hold).await;
        }
        Ok(())
    }
}

async fn next(events: &mut Option<PeerEvents>) -> Option<PeerEvent> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

async fn closed(peer: Option<Peer>) -> CloseReason {
    match peer {
        Some(peer) => peer.closed().await,
        None => std::future::pending().await,
    }
}
