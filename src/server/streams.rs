//! Streams that the server carries because somebody asked it to: each is a task that connects, puts its session into
//! the room as a peer, and begins anew when it breaks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::bridge::BridgeConfig;
use crate::bridge::file::{self, FileError, FileSession, Opened, Remote};
use crate::core::auth::Principal;
use crate::core::capabilities::{Encoding, Kind, RtpCodec, RtpParameters};
use crate::core::control::streams::{Play, StreamKind, StreamState, StreamsConfig, Url, Wanted};
use crate::core::control::{
    ControlError, Join, JoinError, Peer, RoomEvent, Rooms, StreamError, StreamInfo, Streams,
};
use crate::core::id::{SessionId, random};
use crate::core::peer::{CloseReason, PeerKind};
use crate::core::room::RoomName;
use crate::rtmp::io::client::{ClientError, Connected, Connector};
use crate::rtmp::{RtmpUrl, Wish};

/// An answer that takes time.
type Later<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Sampling rates of AAC.
const AAC_RATES: [u32; 12] =
    [48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 64_000, 88_200, 96_000];
/// Reasons for which a stream that was live is not begun anew: somebody wanted its end.
const WANTED_ENDS: [&str; 4] = ["kicked", "closed", "shutdown", "taken_over"];

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct Carrier(Arc<Inner>);

struct Inner {
    rooms: Rooms,
    config: StreamsConfig,
    connector: Connector,
    library: Library,
    table: Mutex<BTreeMap<SessionId, Entry>>,
}

/// Where files are, and how their sound is coded where it is not.
pub(super) struct Library {
    pub folder: Option<PathBuf>,
    pub bridge: BridgeConfig,
}

struct Entry {
    info: StreamInfo,
    peer: Option<Peer>,
    stop: mpsc::Sender<()>,
    remote: Option<Remote>,
    over: Option<Instant>,
}

/// What a stream's task needs to know.
#[derive(Clone)]
struct Plan {
    id: SessionId,
    room: RoomName,
    who: Principal,
    url: RtmpUrl,
    /// A push of this publisher, or a pull as a publisher of this name.
    name: Option<String>,
    display_name: Option<String>,
    kind: StreamKind,
}

/// Why an attempt came to nothing.
struct Broken {
    text: String,
    /// Trying again may help.
    passing: bool,
}

impl Carrier {
    pub fn new(rooms: Rooms, config: StreamsConfig, connector: Connector, library: Library) -> Self {
        Carrier(Arc::new(Inner { rooms, config, connector, library, table: Mutex::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, Entry>> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a stream, if there is room for it.
    fn enter(&self, info: StreamInfo, remote: Option<Remote>) -> Result<mpsc::Receiver<()>, StreamError> {
        let (stop, stopped) = mpsc::channel(1);
        let config = &self.0.config;
        let mut table = self.lock();
        self.sweep(&mut table);
        let running = || table.values().filter(|entry| entry.over.is_none());
        let here = running().filter(|entry| entry.info.room == info.room).count();
        if running().count() >= config.max || here >= config.max_per_room {
            let most = if here >= config.max_per_room { "streams.max_per_room" } else { "streams.max" };
            return Err(StreamError::Limit(format!("there are all the streams there may be ({most})")));
        }
        table.insert(info.id, Entry { info, peer: None, stop, remote, over: None });
        Ok(stopped)
    }

    /// Forgets what has been over for long enough.
    fn sweep(&self, table: &mut BTreeMap<SessionId, Entry>) {
        let keep = Duration::from_millis(self.0.config.keep_ended_ms);
        table.retain(|_, entry| entry.over.is_none_or(|since| since.elapsed() < keep));
    }

    /// Changes what is known of a stream, and tells the room.
    fn note(&self, id: SessionId, change: impl FnOnce(&mut Entry)) {
        let told = {
            let mut table = self.lock();
            let Some(entry) = table.get_mut(&id) else { return };
            change(entry);
            entry.info.conn = entry.peer.as_ref().map(Peer::conn);
            if entry.info.state.is_over() {
                entry.over.get_or_insert_with(Instant::now);
            }
            entry.info.clone()
        };
        let StreamInfo { state, what, reason, .. } = &told;
        tracing::info!(stream = %id, room = %told.room, ?state, what, reason, "a stream got on");
        let room = told.room.clone();
        self.0.rooms.announce(&room, RoomEvent::Stream(told));
    }

    fn settle(&self, id: SessionId, state: StreamState, reason: String) {
        self.note(id, |entry| {
            entry.peer = None;
            entry.info.state = state;
            entry.info.reason = Some(reason);
        });
    }

    /// A push or a pull, from its beginning to its end.
    async fn run(self, plan: Plan, mut stopped: mpsc::Receiver<()>) {
        let asked = || "ended as it was asked".to_owned();
        loop {
            self.note(plan.id, |entry| {
                entry.info.state = StreamState::Connecting;
                entry.info.attempts += 1;
            });
            let broken = tokio::select! {
                _ = stopped.recv() => return self.settle(plan.id, StreamState::Ended, asked()),
                attempt = self.attempt(&plan) => match attempt {
                    Err(broken) => broken,
                    Ok(peer) => {
                        self.note(plan.id, |entry| {
                            entry.peer = Some(peer.clone());
                            entry.info.state = StreamState::Live;
                            entry.info.reason = None;
                            entry.info.attempts = 0;
                        });
                        let reason = tokio::select! {
                            _ = stopped.recv() => {
                                peer.close(CloseReason::new("closed", asked())).await;
                                return self.settle(plan.id, StreamState::Ended, asked());
                            }
                            reason = peer.closed() => reason,
                        };
                        if WANTED_ENDS.contains(&reason.code) {
                            return self.settle(plan.id, StreamState::Ended, reason.text);
                        }
                        Broken { text: reason.text, passing: true }
                    }
                },
            };
            let attempts = self.lock().get(&plan.id).map_or(0, |entry| entry.info.attempts).max(1);
            let pause = self.0.config.pause(attempts, random()).filter(|_| broken.passing);
            let Some(pause) = pause else {
                return self.settle(plan.id, StreamState::Failed, broken.text);
            };
            self.settle(plan.id, StreamState::Waiting, broken.text);
            tokio::select! {
                _ = stopped.recv() => return self.settle(plan.id, StreamState::Ended, asked()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Connects, and puts what came of it into the room.
    async fn attempt(&self, plan: &Plan) -> Result<Peer, Broken> {
        let wish = if plan.kind == StreamKind::Push { Wish::Publish } else { Wish::Play };
        let connected = self.0.connector.connect(plan.url.clone(), wish).await?;
        let join = match plan.kind {
            StreamKind::Push => Join {
                watch: plan.name.clone(),
                ..Join::new(plan.room.clone(), PeerKind::Push, plan.who.clone())
            },
            _ => Join {
                name: Some(name_of(plan.name.as_deref(), "pull", plan.id)),
                publishes: true,
                display_name: plan.display_name.clone(),
                ..Join::new(plan.room.clone(), PeerKind::Pull, plan.who.clone())
            },
        };
        let peer = self.0.rooms.join(join).await?;
        match seat(&peer, connected, plan.kind).await {
            Ok(()) => Ok(peer),
            Err(error) => {
                peer.close(CloseReason::new("error", error.to_string())).await;
                Err(Broken { text: error.to_string(), passing: true })
            }
        }
    }
}

/// Hands session and socket to the room's worker; a push is then fed from the program.
async fn seat(peer: &Peer, connected: Connected, kind: StreamKind) -> Result<(), ControlError> {
    let Connected { session, socket, takes_opus } = connected;
    let transport = peer.adopt(session, Some(socket)).await?;
    if kind == StreamKind::Push {
        // The picture first: sound waits for it.
        peer.consume_program(transport, Kind::Video, taking(vec![h264()])).await?;
        peer.consume_program(transport, Kind::Audio, taking(sounds(takes_opus))).await?;
    }
    Ok(())
}

fn taking(codecs: Vec<RtpCodec>) -> RtpParameters {
    let encodings = vec![Encoding { ssrc: Some(1), ..Encoding::default() }];
    RtpParameters { codecs, encodings, ..RtpParameters::default() }
}

fn codec(mime: &str, payload_type: u8, clock_rate: u32, channels: Option<u8>) -> RtpCodec {
    RtpCodec {
        mime_type: mime.to_owned(),
        payload_type,
        clock_rate,
        channels,
        parameters: serde_json::Map::new(),
        rtcp_feedback: Vec::new(),
    }
}

fn h264() -> RtpCodec {
    let mut codec = codec("video/H264", 96, 90_000, None);
    codec.parameters.insert("packetization-mode".to_owned(), 1.into());
    codec
}

/// What an RTMP server takes of sound: AAC at whatever rate, and Opus where it says so.
fn sounds(takes_opus: bool) -> Vec<RtpCodec> {
    let aac = (97..).zip(AAC_RATES).map(|(number, rate)| codec("audio/mpeg4-generic", number, rate, Some(2)));
    let opus = takes_opus.then(|| codec("audio/opus", 111, 48_000, Some(2)));
    opus.into_iter().chain(aac).collect()
}

/// A name that was asked for, or one of its own.
fn name_of(wanted: Option<&str>, kind: &str, id: SessionId) -> String {
    wanted.map_or_else(|| format!("{kind}-{}", id.to_string().get(..6).unwrap_or_default()), str::to_owned)
}

fn new_info(kind: StreamKind, room: &RoomName, what: String) -> StreamInfo {
    StreamInfo {
        id: SessionId::new((u128::from(random()) << 64) | u128::from(random())),
        kind,
        room: room.clone(),
        conn: None,
        what,
        state: StreamState::Connecting,
        reason: None,
        attempts: 0,
    }
}

impl From<ClientError> for Broken {
    fn from(error: ClientError) -> Self {
        Broken { passing: error.is_expected(), text: error.to_string() }
    }
}

impl From<JoinError> for Broken {
    fn from(error: JoinError) -> Self {
        let passing = !matches!(error, JoinError::NameTaken | JoinError::BadName(_) | JoinError::DataTooBig);
        Broken { passing, text: error.to_string() }
    }
}

impl Carrier {
    async fn link(
        &self,
        who: &Principal,
        room: &RoomName,
        wanted: Wanted,
    ) -> Result<StreamInfo, StreamError> {
        let (kind, Url(url), name, display_name) = match wanted {
            Wanted::Push(push) => (StreamKind::Push, push.url, push.peer, None),
            Wanted::Pull(pull) => (StreamKind::Pull, pull.url, pull.name, pull.display_name),
            Wanted::Play(play) => return self.play(who, room, play).await,
        };
        let url = RtmpUrl::parse(&url).map_err(|error| StreamError::Bad(error.to_string()))?;
        let may = self.0.connector.egress.check(url.host());
        may.map_err(|error| StreamError::Forbidden(error.to_string()))?;
        let info = new_info(kind, room, url.to_string());
        let stopped = self.enter(info.clone(), None)?;
        let plan = Plan { id: info.id, room: room.clone(), who: who.clone(), url, name, display_name, kind };
        tokio::spawn(self.clone().run(plan, stopped));
        Ok(info)
    }
}

impl Carrier {
    async fn play(&self, who: &Principal, room: &RoomName, play: Play) -> Result<StreamInfo, StreamError> {
        let folder = self.0.library.folder.clone().ok_or(StreamError::NoFile)?;
        let (remote, info) = (Remote::default(), new_info(StreamKind::Play, room, play.file.clone()));
        let stopped = self.enter(info.clone(), Some(remote.clone()))?;
        let (name, repeats, bridge) = (play.file.clone(), play.repeats, self.0.library.bridge.clone());
        let open = move || file::io::open(&folder, &name, repeats, &bridge);
        let opened = tokio::task::spawn_blocking(open).await;
        let opened = match opened.unwrap_or_else(|_| Err(FileError::Broken("the reader broke".to_owned()))) {
            Ok(opened) => opened,
            Err(error) => {
                // As if it had never been asked for.
                self.lock().remove(&info.id);
                return Err(error.into());
            }
        };
        let join = Join {
            name: Some(name_of(play.name.as_deref(), "file", info.id)),
            publishes: true,
            display_name: play.display_name,
            ..Join::new(room.clone(), PeerKind::File, who.clone())
        };
        tokio::spawn(self.clone().run_player(info.id, join, (opened, remote), stopped));
        Ok(info)
    }

    /// A player, from its beginning to its end.
    async fn run_player(
        self,
        id: SessionId,
        join: Join,
        (opened, remote): (Opened, Remote),
        mut stopped: mpsc::Receiver<()>,
    ) {
        let peer = match self.0.rooms.join(join).await {
            Ok(peer) => peer,
            Err(error) => return self.settle(id, StreamState::Failed, error.to_string()),
        };
        let session = FileSession::new(opened, self.0.connector.epoch, Instant::now(), remote);
        if let Err(error) = peer.adopt(Box::new(session), None).await {
            peer.close(CloseReason::new("error", error.to_string())).await;
            return self.settle(id, StreamState::Failed, error.to_string());
        }
        self.note(id, |entry| {
            entry.peer = Some(peer.clone());
            entry.info.state = StreamState::Live;
        });
        tokio::select! {
            _ = stopped.recv() => {
                let reason = "ended as it was asked";
                peer.close(CloseReason::new("closed", reason)).await;
                self.settle(id, StreamState::Ended, reason.to_owned());
            }
            reason = peer.closed() => {
                let ended = reason.code == "left" || WANTED_ENDS.contains(&reason.code);
                let state = if ended { StreamState::Ended } else { StreamState::Failed };
                self.settle(id, state, reason.text);
            }
        }
    }
}

impl From<FileError> for StreamError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::NotFound => StreamError::NoFile,
            FileError::Unsupported(_) | FileError::Broken(_) => StreamError::Bad(error.to_string()),
        }
    }
}

impl Streams for Carrier {
    fn begin<'a>(
        &'a self,
        who: &'a Principal,
        room: &'a RoomName,
        wanted: Wanted,
    ) -> Later<'a, Result<StreamInfo, StreamError>> {
        Box::pin(self.link(who, room, wanted))
    }

    fn list(&self, room: &RoomName) -> Vec<StreamInfo> {
        let mut table = self.lock();
        self.sweep(&mut table);
        let here = table.values().filter(|entry| entry.info.room == *room);
        let found: Vec<_> = here.map(|entry| (entry.info.clone(), entry.peer.clone())).collect();
        drop(table);
        let told = found.into_iter().map(|(info, peer)| {
            let said = peer.map(|peer| peer.notices().join(" ")).filter(|text| !text.is_empty());
            StreamInfo { reason: info.reason.or(said), ..info }
        });
        told.collect()
    }

    fn pause(&self, room: &RoomName, stream: SessionId, paused: bool) -> Result<StreamInfo, StreamError> {
        let table = self.lock();
        let known = table.get(&stream).filter(|entry| entry.info.room == *room);
        let entry = known.ok_or(StreamError::Unknown)?;
        let plays = matches!(entry.info.state, StreamState::Live | StreamState::Paused);
        let remote = entry.remote.clone().filter(|_| plays);
        drop(table);
        remote.ok_or(StreamError::NotNow("only a player that plays can be held"))?.hold(paused);
        self.note(stream, |entry| {
            if !entry.info.state.is_over() {
                entry.info.state = if paused { StreamState::Paused } else { StreamState::Live };
            }
        });
        self.lock().get(&stream).map(|entry| entry.info.clone()).ok_or(StreamError::Unknown)
    }

    fn stop(&self, room: &RoomName, stream: SessionId) -> Result<(), StreamError> {
        let table = self.lock();
        let known = table.get(&stream).filter(|entry| entry.info.room == *room && entry.over.is_none());
        // It may be stopping already.
        let _ = known.ok_or(StreamError::Unknown)?.stop.try_send(());
        Ok(())
    }
}
