//! Builds, starts and stops everything; the only file that names everybody.
//!
//! Ports are bound before anything runs, so that a port already taken stops the start and nothing is half
//! there. The end comes in the other order: peers told, doors closed, workers ended.

mod banner;
mod bind;
mod controllers;
mod counters;
mod demo;
mod doors;
mod phones;
mod state;
mod streams;
mod tls;
mod worker;

use std::future::Future;
use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::bridge::Bridge;
use crate::config::{Config, LogConfig};
use crate::core::auth::Authority;
use crate::core::control::Rooms;
use crate::core::control::controller::Door;
use crate::core::io::egress::Egress;
use crate::core::io::{IoStats, PoolEvent, Seat, WorkerPool, addresses, clock};
use crate::core::origins::Origins;
use crate::core::peer::CloseReason;
use crate::core::session::LocalCandidate;
use crate::core::time::Epoch;
use crate::core::worker::Worker;
use crate::http::{self, Facts, TlsFiles};
use crate::rooms;
use crate::rtmp;
use crate::sip;
use crate::webrtc::Factory;
use crate::whip_whep;
use banner::{Banner, DEMO};
use doors::RtmpPublish;
use state::StateDir;
use streams::{Carrier, Library};

pub use phones::Password;
pub use worker::{WorkerArguments, arguments};

/// Says that a configuration is right.
pub fn say_ok() -> anyhow::Result<()> {
    println!("ok");
    Ok(())
}

/// Sets up logging, then runs `server` on this thread to its end.
pub fn with_runtime(log: &LogConfig, server: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    // The SIP stack prints whole messages, phone numbers and all: it is never heard, whatever is asked for.
    let asked = log.level.split(',').filter(|directive| !directive.contains("rsipstack"));
    let level: Vec<&str> = asked.chain(["rsipstack=off"]).collect();
    let filter = EnvFilter::builder().parse(level.join(",")).context("log.level")?;
    let terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal).init();
    // Several TLS back ends may be compiled in by dependencies; say which one is ours.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let ended = runtime.block_on(server);
    // What still runs (a slow name look-up, say) is not waited for.
    runtime.shutdown_background();
    ended
}

/// The gateway, with every port bound.
pub struct Server {
    config: Config,
    epoch: Epoch,
    state: StateDir,
    host: IpAddr,
    authority: Arc<Authority>,
    tls: Option<TlsFiles>,
    http: Vec<TcpListener>,
    rtmp: Vec<rtmp::io::Listener>,
    sip: Option<sip::io::Door>,
    control: controllers::Listeners,
    media: Vec<LocalCandidate>,
    pool: WorkerPool,
    stats: Vec<Arc<IoStats>>,
    rooms: Rooms,
}

impl Server {
    /// Starts, runs until SIGINT or SIGTERM, stops.
    pub async fn run(config: Config, dev: bool) -> anyhow::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
        let stop = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        let server = Server::start(config, dev)?;
        print!("{}", server.banner());
        server.serve(stop).await
    }

    fn start(config: Config, dev: bool) -> anyhow::Result<Self> {
        let epoch = clock::epoch();
        let own = addresses::detect(false).unwrap_or_default();
        // A listener bound to one address is reached by that one and no other.
        let bound = config.http.listen.first().map(|address| address.ip()).filter(|ip| !ip.is_unspecified());
        let host =
            bound.into_iter().chain(config.webrtc.announced_addresses.iter().chain(&own).copied()).next();
        let http = config.http.listen.iter().map(|address| bind::tcp(*address)).collect::<Result<_, _>>()?;
        let state = StateDir::open(&config.state_dir)?;
        let tls = match config.http.tls.clone() {
            None if dev => Some(state.dev_tls(&own)?),
            files => files,
        };
        let rtmp = rtmp_listeners(&config, tls.as_ref())?;
        let control = controllers::bind(&config.control, tls.as_ref())?;
        let sip = config.sip.as_ref().map(sip::io::Door::bind).transpose()?;
        let authority = Authority::new(&config.auth, Some(&state.publish_key()?))?;
        let authority = Arc::new(authority.with_grants(config.sip.iter().flat_map(sip::ingress::grants)));
        let bridge = Bridge::start(config.bridge.clone()).context("cannot start the bridge's threads")?;
        let bridge = Arc::new(bridge);
        let rooms = Rooms::new(config.rooms.clone(), epoch, Some(bridge.clone())).with_mixer(bridge);
        let factory = Arc::new(Factory::new(config.webrtc.session.clone(), state.certificate()?)?);
        let bounds = config.clone();
        let (pool, ports) = WorkerPool::start(config.io(), epoch, factory, move |seat| {
            let Seat { id, epoch, factory, candidates, seed } = seat;
            Worker::new(bounds.worker(id, candidates), epoch, factory, seed)
        })?;
        let (mut media, mut stats) = (Vec::new(), Vec::new());
        for port in ports {
            stats.push(port.stats.clone());
            media.extend(port.candidates.iter().cloned());
            rooms.attach_worker(port).context("cannot reach a worker")?;
        }
        let host = host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Ok(Server {
            config,
            epoch,
            state,
            host,
            authority,
            tls,
            http,
            rtmp,
            sip,
            control,
            media,
            pool,
            stats,
            rooms,
        })
    }

    fn banner(&self) -> Banner {
        let port = |listener: &TcpListener| listener.local_addr().map_or(0, |address| address.port());
        let http = self.http.first().map(port);
        let rtmp = self.rtmp.iter().find(|listener| listener.tls.is_none());
        let key = match self.state.publish_key() {
            Ok(key) if std::io::stdout().is_terminal() => key.reveal().to_string(),
            _ => format!("(in the file {})", self.state.publish_key_file().display()),
        };
        Banner {
            tls: self.tls.is_some(),
            host: self.host,
            http,
            rtmp: rtmp.map(|listener| port(&listener.socket)),
            key,
            demo: self.config.demo,
            ports: self.ports(),
        }
    }

    /// Every listening port and what it is for.
    fn ports(&self) -> Vec<(u16, &'static str, String)> {
        let mut ports = Vec::new();
        let mut add = |port: u16, protocol: &'static str, purpose: &str| {
            if !ports.iter().any(|(known, of, _)| (*known, *of) == (port, protocol)) {
                ports.push((port, protocol, purpose.to_string()));
            }
        };
        let port = |listener: &TcpListener| listener.local_addr().map_or(0, |address| address.port());
        let pages =
            if self.tls.is_some() { "pages, WHIP and WHEP (HTTPS)" } else { "pages, WHIP and WHEP (HTTP)" };
        for listener in &self.http {
            add(port(listener), "tcp", pages);
        }
        for listener in &self.rtmp {
            let purpose =
                if listener.tls.is_some() { "publishing over RTMPS" } else { "publishing over RTMP" };
            add(port(&listener.socket), "tcp", purpose);
        }
        for (port, purpose) in controllers::ports(&self.control) {
            add(port, "tcp", purpose);
        }
        for (port, protocol, purpose) in self.sip.iter().flat_map(sip::io::Door::ports) {
            add(port, protocol, purpose);
        }
        for candidate in &self.media {
            let (protocol, purpose) = match candidate.tcp {
                true => ("tcp", "WebRTC media where UDP is blocked"),
                false => ("udp", "WebRTC media"),
            };
            add(candidate.address.port(), protocol, purpose);
        }
        ports
    }

    fn facts(&self) -> Facts {
        let banner = self.banner();
        let (http_port, https_port) = if banner.tls { (None, banner.http) } else { (banner.http, None) };
        Facts {
            version: env!("CARGO_PKG_VERSION").into(),
            rtmp_port: banner.rtmp,
            https_port,
            http_port,
            key_hint: "printed when the server starts in a terminal, and kept in its state folder".into(),
            demo_room: self.config.demo.then(|| DEMO.into()),
        }
    }

    /// Runs until `stop` resolves, then tells everybody.
    async fn serve(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let doors = whip_whep::router(
            self.rooms.clone(),
            self.authority.clone(),
            self.config.whip_whep.clone(),
            self.config.webrtc.session.sdp.clone(),
            http::RESERVED,
        )?;
        let counters = counters::router(self.authority.clone(), self.stats.clone());
        let origins = Origins::new(self.config.http.origins.clone());
        let room_clients = rooms::io::router(
            self.rooms.clone(),
            self.authority.clone(),
            self.config.room_clients.clone(),
            origins.clone(),
            http::RESERVED,
        );
        let pages = http::router(self.facts());
        let manage = http::manage::router(self.authority.clone(), self.rooms.clone());
        let mut router = pages.merge(manage).merge(doors).merge(counters).merge(room_clients);
        let (door, secure) = (self.sip, self.tls.is_some());
        let phones = phones::open(door, &self.rooms, &self.authority).await?;
        if let (Some(phones), Some(config)) = (&phones, &self.config.sip) {
            router = router.merge(phones::router(self.authority.clone(), phones, config, secure));
        }
        let control =
            Door::new(self.rooms.clone(), self.authority.clone(), self.config.control, http::RESERVED);
        router = router.merge(controllers::router(&control, origins));
        let methods = http::io::methods::router(control.clone(), &self.config.http);
        router = router.merge(methods);
        let connector = rtmp::io::client::Connector {
            egress: Arc::new(Egress::new(&self.config.egress)?),
            config: Arc::new(self.config.rtmp.clone()),
            epoch: self.epoch,
        };
        let library = Library { folder: self.config.media_dir, bridge: self.config.bridge };
        let carrier = Carrier::new(self.rooms.clone(), self.config.streams, connector, library);
        self.rooms.set_streams(Arc::new(carrier));
        let (dismiss, dismissed) = tokio::sync::oneshot::channel::<()>();
        let dismissed = async { dismissed.await.unwrap_or_default() };
        let mut controllers = tokio::spawn(controllers::serve(control, self.control, dismissed));
        let door = RtmpPublish { authority: self.authority, rooms: self.rooms.clone() };
        let (close, closing) = tokio::sync::oneshot::channel::<()>();
        let closed = async { closing.await.unwrap_or_default() };
        let pages = http::io::serve(self.http, router, self.tls, self.config.http, closed);
        let mut pages = tokio::spawn(pages);
        let rtmp = rtmp::io::serve(self.rtmp, Arc::new(self.config.rtmp), self.epoch, Arc::new(door));
        let rtmp = tokio::spawn(rtmp);
        let clip = self.config.demo.then(|| tokio::spawn(demo::play(self.rooms.clone(), self.epoch)));
        let mut pool = self.pool;
        tokio::select! {
            () = stop => {}
            ended = &mut pages => return Ok(ended.context("the HTTP listener failed")??),
            ended = &mut controllers => return Ok(ended.context("the control listener failed")??),
            () = replace_workers(&mut pool, &self.rooms) => anyhow::bail!("no worker is left"),
        }
        tracing::info!("stopping");
        rtmp.abort();
        if let Some(clip) = clip {
            clip.abort();
        }
        let goodbye = async {
            if let Some(phones) = &phones {
                phones.close().await;
            }
            self.rooms.close_all(CloseReason::shutdown()).await;
            // Controllers have seen it all end by now.
            let _ = dismiss.send(());
            let _ = controllers.await;
            let _ = close.send(());
            let _ = pages.await;
        };
        let limit = Duration::from_millis(self.config.limits.shutdown_ms);
        if tokio::time::timeout(limit, goodbye).await.is_err() {
            tracing::warn!("not everybody could be told in time");
        }
        pool.shutdown();
        Ok(())
    }
}

/// Puts each replacement of a worker that panicked to use; returns when none is left.
async fn replace_workers(pool: &mut WorkerPool, rooms: &Rooms) {
    while let Some(PoolEvent::Replaced { worker, port }) = pool.next_event().await {
        tracing::warn!(%worker, "a worker failed and was replaced; its rooms can be joined again");
        if let Err(error) = rooms.attach_worker(port) {
            tracing::error!(%worker, %error, "cannot reach the new worker");
        }
    }
}

fn rtmp_listeners(config: &Config, tls: Option<&TlsFiles>) -> anyhow::Result<Vec<rtmp::io::Listener>> {
    let mut listeners = Vec::new();
    if let Some(address) = config.rtmp.listen {
        listeners.push(rtmp::io::Listener { socket: bind::tcp(address)?, tls: None });
    }
    if let Some(address) = config.rtmp.tls_listen {
        let files = tls.context("rtmp.tls_listen needs http.tls (or --dev)")?;
        let tls = Some(tls::provider(files.clone())?);
        listeners.push(rtmp::io::Listener { socket: bind::tcp(address)?, tls });
    }
    Ok(listeners)
}
