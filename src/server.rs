//! Builds, starts and stops everything; the only file that names everybody.
//!
//! Ports are bound before anything runs, so that a port already taken stops the start and nothing is half
//! there. The end comes in the other order: doors closed, peers told, workers and bridge ended.

mod banner;
mod bind;
mod demo;
mod doors;
mod state;

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
use crate::core::io::{addresses, clock};
use crate::core::peer::CloseReason;
use crate::core::time::Epoch;
use crate::http::{self, Facts, TlsFiles};
use crate::rtmp;
use crate::webrtc::Factory;
use banner::{Banner, DEMO};
use doors::{RtmpPublish, VisibleRooms};
use state::StateDir;

/// Sets up logging, then runs `server` on this thread to its end.
pub fn with_runtime(log: &LogConfig, server: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(&log.level).context("log.level")?;
    let terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal).init();
    // Several TLS back ends may be compiled in by dependencies; say which one is ours.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(server)
}

/// The gateway.
pub struct Server {
    config: Config,
    epoch: Epoch,
    state: StateDir,
    host: IpAddr,
    authority: Arc<Authority>,
    tls: Option<TlsFiles>,
    http: Vec<TcpListener>,
    rtmp: Vec<rtmp::io::Listener>,
    rooms: Rooms,
}

impl Server {
    /// Starts, runs until SIGINT or SIGTERM, stops.
    pub async fn run(config: Config, dev: bool) -> anyhow::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
        let server = Server::start(config, dev)?;
        print!("{}", server.banner());
        server
            .serve(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            })
            .await
    }

    fn start(config: Config, dev: bool) -> anyhow::Result<Self> {
        let epoch = clock::epoch();
        let own = addresses::detect(false).unwrap_or_default();
        let host = config.webrtc.announced_addresses.iter().chain(&own).copied().next();
        let http = config.http.listen.iter().map(|address| bind::tcp(*address)).collect::<Result<_, _>>()?;
        let state = StateDir::open(&config.state_dir)?;
        let authority = Arc::new(Authority::new(&config.auth, Some(&state.publish_key()?))?);
        let tls = match config.http.tls.clone() {
            None if dev => Some(state.dev_tls(&own)?),
            files => files,
        };
        let rtmp = rtmp_listeners(&config)?;
        let factory = Factory::new(config.webrtc.session.clone(), state.certificate()?)?;
        let bridge =
            Arc::new(Bridge::start(config.bridge.clone()).context("cannot start the bridge's threads")?);
        let rooms = Rooms::new(config.rooms.clone(), epoch, Some(bridge));
        let _ = factory;
        let host = host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Ok(Server { config, epoch, state, host, authority, tls, http, rtmp, rooms })
    }

    fn banner(&self) -> Banner {
        let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port()).ok();
        let http: Vec<u16> = self.http.iter().filter_map(port).collect();
        let rtmp: Vec<u16> = self.rtmp.iter().filter_map(|listener| port(&listener.socket)).collect();
        let scheme = if self.tls.is_some() { "HTTPS" } else { "HTTP" };
        let mut ports: Vec<(u16, &'static str, String)> =
            http.iter().map(|port| (*port, "tcp", format!("pages, WHIP and WHEP ({scheme})"))).collect();
        for (listener, port) in self.rtmp.iter().zip(&rtmp) {
            let purpose =
                if listener.tls.is_some() { "RTMP over TLS, publishing" } else { "RTMP, publishing" };
            ports.push((*port, "tcp", purpose.into()));
        }
        let key_file = self.state.publish_key_file();
        let key = match self.state.publish_key() {
            Ok(key) if std::io::stdout().is_terminal() => key.reveal().to_string(),
            _ => format!("the line in {}", key_file.display()),
        };
        Banner {
            tls: self.tls.is_some(),
            host: self.host,
            http: http.first().copied(),
            rtmp: self
                .rtmp
                .iter()
                .zip(&rtmp)
                .find(|(listener, _)| listener.tls.is_none())
                .map(|(_, port)| *port),
            key,
            demo: self.config.demo,
            ports,
        }
    }

    fn facts(&self) -> Facts {
        let banner = self.banner();
        let (http_port, https_port) = if banner.tls { (None, banner.http) } else { (banner.http, None) };
        Facts {
            version: env!("CARGO_PKG_VERSION").into(),
            rtmp_port: banner.rtmp,
            https_port,
            http_port,
            key_hint: format!(
                "printed when the server starts in a terminal, and kept in {}",
                self.state.publish_key_file().display()
            ),
            demo_room: self.config.demo.then(|| DEMO.into()),
        }
    }

    /// Runs until `stop` resolves, then tells everybody.
    async fn serve(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let index = VisibleRooms { authority: self.authority.clone(), rooms: self.rooms.clone() };
        let router = http::router(self.facts(), index);
        let door = RtmpPublish { authority: self.authority.clone(), rooms: self.rooms.clone() };
        let (close, closing) = tokio::sync::oneshot::channel::<()>();
        let closed = async { closing.await.unwrap_or_default() };
        let pages = http::io::serve(self.http, router, self.tls, self.config.http, closed);
        let mut pages = tokio::spawn(pages);
        let rtmp = rtmp::io::serve(self.rtmp, Arc::new(self.config.rtmp), self.epoch, Arc::new(door));
        let rtmp = tokio::spawn(rtmp);
        let clip = self.config.demo.then(|| tokio::spawn(demo::play(self.rooms.clone(), self.epoch)));
        tokio::select! {
            () = stop => {}
            ended = &mut pages => return Ok(ended.context("the HTTP listener failed")??),
        }
        tracing::info!("stopping");
        rtmp.abort();
        if let Some(clip) = clip {
            clip.abort();
        }
        let limit = Duration::from_millis(self.config.limits.shutdown_ms);
        let goodbye = async {
            self.rooms.close_all(CloseReason::shutdown()).await;
            let _ = close.send(());
            let _ = pages.await;
        };
        if tokio::time::timeout(limit, goodbye).await.is_err() {
            tracing::warn!("not everybody could be told in time");
        }
        Ok(())
    }
}

fn rtmp_listeners(config: &Config) -> anyhow::Result<Vec<rtmp::io::Listener>> {
    let plain = config.rtmp.listen.map(|address| bind::tcp(address));
    let plain = plain.transpose()?.map(|socket| rtmp::io::Listener { socket, tls: None });
    Ok(plain.into_iter().collect())
}
