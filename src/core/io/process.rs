//! A worker as a process of its own, started by somebody else's dispatcher: the same loop as a worker
//! thread's, around the channel that was passed to it and ports out of a range it was given. Nobody replaces
//! it when it breaks; it ends, and its dispatcher sees that.

use std::net::IpAddr;
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::core::id::WorkerId;
use crate::core::io::addresses;
use crate::core::io::channel::{self, ChannelLog};
use crate::core::io::config::IoConfig;
use crate::core::io::engine::Engine;
use crate::core::io::error::IoError;
use crate::core::io::eventfd::EventFd;
use crate::core::io::legs::PortRange;
use crate::core::io::pool::Seat;
use crate::core::io::ports::Ports;
use crate::core::io::worker::{self, WorkerSetup};
use crate::core::io::{clock, sys};
use crate::core::lane::{self, Wake};
use crate::core::session::{LocalCandidate, SessionFactory};
use crate::core::worker::LogSettings;

/// What a worker process is told when it is started.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// Bounds, and the addresses to listen on. `leg_port_min` to `leg_port_max` are the ports for everything.
    pub io: IoConfig,
    /// What its log tells at first.
    pub log: LogSettings,
}

/// Everything that is opened before the worker runs.
pub struct WorkerProcess {
    config: ProcessConfig,
    channel: UnixStream,
    log: Arc<ChannelLog>,
    wake: Arc<EventFd>,
    stop: Arc<AtomicBool>,
}

/// A worker that runs.
pub struct RunningProcess {
    wake: Arc<EventFd>,
    stop: Arc<AtomicBool>,
    ended: oneshot::Receiver<std::io::Result<()>>,
    thread: JoinHandle<()>,
}

impl WorkerProcess {
    /// Takes over the channel that was passed as descriptor `fd`. Nothing else may own it.
    pub fn open(config: ProcessConfig, fd: RawFd) -> Result<Self, IoError> {
        let channel = channel::inherit(fd)
            .map_err(|error| IoError::system(format!("descriptor {fd} cannot be the channel"), error))?;
        Self::over(config, channel)
    }

    /// Over a socket at hand.
    pub(super) fn over(config: ProcessConfig, channel: UnixStream) -> Result<Self, IoError> {
        let wake = EventFd::new().map_err(|error| IoError::system("cannot make an eventfd", error))?;
        let wake = Arc::new(wake);
        let log = Arc::new(ChannelLog::new(config.log, wake.clone() as Arc<dyn Wake>));
        Ok(WorkerProcess { config, channel, log, wake, stop: Arc::default() })
    }

    /// Where log lines go.
    pub fn log(&self) -> Arc<ChannelLog> {
        self.log.clone()
    }

    /// Binds the ports and runs the engine that `make` makes, on a thread of its own.
    pub fn start<E, F>(self, factory: Arc<dyn SessionFactory>, make: F) -> Result<RunningProcess, IoError>
    where
        E: Engine,
        F: FnOnce(Seat) -> E + Send + 'static,
    {
        if let Err(error) = sys::raise_open_files() {
            tracing::debug!(%error, "the limit of open files stays as it is");
        }
        let WorkerProcess { config: ProcessConfig { io: config, .. }, channel, log, wake, stop } = self;
        let detected = addresses::detect(config.announce_loopback)
            .map_err(|error| IoError::system("cannot read the host's addresses", error))?;
        let mut ports = Ports::bind_within(&config, config.leg_port_min, config.leg_port_max)?;
        let candidates = candidates(&config, &detected, &ports);
        if candidates.is_empty() {
            return Err(IoError::NothingToListenOn);
        }
        let seat = Seat { id: WorkerId(0), epoch: clock::epoch(), factory, candidates, seed: sys::random() };
        // Nobody hands anything over here.
        let (_, mail) = lane::lane(1, None);
        let leg_ports = Arc::new(PortRange::new(&config));
        let setup = WorkerSetup {
            config,
            control: channel,
            log: Some(log),
            mail,
            leg_ports,
            wake: wake.clone(),
            stop: stop.clone(),
            stats: Arc::default(),
        };
        let (tell, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("viaduct-worker".to_owned())
            .spawn(move || {
                let life = worker::run(make(seat), &mut ports, setup);
                // Nobody may be there to hear it.
                let _ = tell.send(life.map(|exit| tracing::debug!(?exit, "worker ended")));
            })
            .map_err(|error| IoError::system("cannot start the worker's thread", error))?;
        Ok(RunningProcess { wake, stop, ended, thread })
    }
}

impl RunningProcess {
    /// Has the worker say good-bye and end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake.wake();
    }

    /// Waits until it has ended: because it was stopped, because its channel was closed, or with an error.
    pub async fn ended(&mut self) -> Result<(), IoError> {
        match (&mut self.ended).await {
            Ok(life) => life.map_err(|error| IoError::system("the worker broke", error)),
            Err(_) => Err(IoError::system("the worker broke", std::io::Error::other("it panicked"))),
        }
    }

    /// Waits for the thread.
    pub fn join(self) {
        // Its panic has been told by `ended`.
        let _ = self.thread.join();
    }
}

/// Where an address is announced for a family, it is the only one told.
fn candidates(config: &IoConfig, detected: &[IpAddr], ports: &Ports) -> Vec<LocalCandidate> {
    let listening: Vec<_> = ports.udp.iter().map(|socket| socket.address).collect();
    let announced = &config.announced_addresses;
    let mut candidates = addresses::candidates(config, detected, &listening);
    candidates.retain(|candidate| {
        let ip = candidate.address.ip();
        announced.contains(&ip) || announced.iter().all(|other| other.is_ipv4() != ip.is_ipv4())
    });
    candidates
}
