//! The worker threads: ports bound before anything runs, one pinned thread a worker, and a fresh worker
//! on the same ports when one panics.

use std::any::Any;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::core::id::WorkerId;
use crate::core::io::config::IoConfig;
use crate::core::io::engine::Engine;
use crate::core::io::error::IoError;
use crate::core::io::eventfd::EventFd;
use crate::core::io::legs::PortRange;
use crate::core::io::ports::Ports;
use crate::core::io::stats::IoStats;
use crate::core::io::worker::{Exit, WorkerSetup, run};
use crate::core::io::{addresses, clock, sys};
use crate::core::lane::{self, SendError, Wake};
use crate::core::mail::{Mail, MailSender, Mailbox};
use crate::core::session::{LocalCandidate, SessionFactory};
use crate::core::time::Epoch;

/// What an engine is made from; `make` is called on the worker's own thread.
pub struct Seat {
    /// The worker's number.
    pub id: WorkerId,
    /// Where the node's media clock begins.
    pub epoch: Epoch,
    /// Makes sessions.
    pub factory: Arc<dyn SessionFactory>,
    /// The worker's own addresses.
    pub candidates: Vec<LocalCandidate>,
    /// A random number, another one for each worker and replacement.
    pub seed: u64,
}

/// The main thread's ends of one worker.
pub struct WorkerPort {
    /// The worker's number.
    pub id: WorkerId,
    /// The control socket, non-blocking; closing it ends the worker.
    pub control: UnixStream,
    /// Takes the worker's mail and wakes it.
    pub mail: MailSender,
    /// The worker's own addresses.
    pub candidates: Vec<LocalCandidate>,
    /// The counters of its loop.
    pub stats: Arc<IoStats>,
}

/// What happened to a worker.
pub enum PoolEvent {
    /// It panicked; its routers and peers are gone, and a new one listens on its ports.
    Replaced {
        /// Which.
        worker: WorkerId,
        /// The ends of the new one.
        port: WorkerPort,
    },
}

/// A worker that lived no longer than this is replaced only after as long a pause, so that one which
/// cannot live does not take a core.
const SHORT_LIFE: Duration = Duration::from_millis(500);

/// All worker threads of the process. Dropping it ends them.
pub struct WorkerPool {
    events: mpsc::UnboundedReceiver<PoolEvent>,
    threads: Vec<(Arc<EventFd>, JoinHandle<()>)>,
    stop: Arc<AtomicBool>,
}

impl WorkerPool {
    /// Binds all ports, then starts the threads. `make` makes a worker's engine on its thread, and again
    /// after a panic.
    pub fn start<E, F>(
        config: IoConfig,
        epoch: Epoch,
        factory: Arc<dyn SessionFactory>,
        make: F,
    ) -> Result<(WorkerPool, Vec<WorkerPort>), IoError>
    where
        E: Engine,
        F: Fn(Seat) -> E + Send + Sync + 'static,
    {
        if let Err(error) = sys::raise_open_files() {
            tracing::debug!(%error, "the limit of open files stays as it is");
        }
        let cores = sys::allowed_cores();
        let workers = worker_count(&config, cores.len());
        let detected = addresses::detect(config.announce_loopback)
            .map_err(|error| IoError::system("cannot read the host's addresses", error))?;
        let bound = (0..workers).map(|worker| Ports::bind(&config, worker, workers));
        let bound = bound.collect::<Result<Vec<_>, _>>()?;

        let (event_sender, events) = mpsc::unbounded_channel();
        let leg_ports = Arc::new(PortRange::new(&config));
        let (make, stop) = (Arc::new(make), Arc::new(AtomicBool::new(false)));
        let mut pool = WorkerPool { events, threads: Vec::new(), stop: stop.clone() };
        let mut worker_ports = Vec::new();
        for (worker, ports) in (0..).zip(bound) {
            let wake = EventFd::new().map_err(|error| IoError::system("cannot make an eventfd", error))?;
            let thread = WorkerThread {
                id: WorkerId(worker),
                core: core_of(&config, worker, workers, &cores),
                candidates: candidates(&config, &detected, &ports),
                wake: Arc::new(wake),
                stop: stop.clone(),
                leg_ports: leg_ports.clone(),
                stats: Arc::default(),
                events: event_sender.clone(),
                factory: factory.clone(),
                config: config.clone(),
                epoch,
            };
            let (port, setup) = thread.ends()?;
            worker_ports.push(port);
            let (wake, make) = (thread.wake.clone(), make.clone());
            let handle = std::thread::Builder::new()
                .name(format!("viaduct-worker-{worker}"))
                .spawn(move || thread.main(ports, setup, &*make))
                .map_err(|error| IoError::system("cannot start a worker thread", error))?;
            pool.threads.push((wake, handle));
        }
        Ok((pool, worker_ports))
    }

    /// The next thing that happens to a worker; `None` when no worker is left.
    pub async fn next_event(&mut self) -> Option<PoolEvent> {
        self.events.recv().await
    }

    /// Ends all workers and waits for their threads. Close the rooms first, so that peers are told.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for (wake, _) in &self.threads {
            wake.wake();
        }
        for (_, handle) in self.threads.drain(..) {
            // A thread contains its worker's panics; one of its own is logged by the panic hook.
            let _ = handle.join();
        }
    }
}

/// What stays the same of a worker when its engine is replaced.
struct WorkerThread {
    id: WorkerId,
    core: Option<usize>,
    candidates: Vec<LocalCandidate>,
    wake: Arc<EventFd>,
    stop: Arc<AtomicBool>,
    leg_ports: Arc<PortRange>,
    stats: Arc<IoStats>,
    events: mpsc::UnboundedSender<PoolEvent>,
    factory: Arc<dyn SessionFactory>,
    config: IoConfig,
    epoch: Epoch,
}

impl WorkerThread {
    /// Both ends of a new control socket and mailbox.
    fn ends(&self) -> Result<(WorkerPort, WorkerSetup), IoError> {
        let failed = |error| IoError::system("cannot make a socket pair", error);
        let (near, far) = UnixStream::pair().map_err(failed)?;
        near.set_nonblocking(true).map_err(failed)?;
        let (sender, mail) = lane::lane(self.config.mail, Some(self.wake.clone() as Arc<dyn Wake>));
        let port = WorkerPort {
            id: self.id,
            control: near,
            mail: Arc::new(WorkerMailbox { lane: sender, wake: self.wake.clone() }),
            candidates: self.candidates.clone(),
            stats: self.stats.clone(),
        };
        let setup = WorkerSetup {
            config: self.config.clone(),
            control: far,
            log: None,
            mail,
            leg_ports: self.leg_ports.clone(),
            wake: self.wake.clone(),
            stop: self.stop.clone(),
            stats: self.stats.clone(),
        };
        Ok((port, setup))
    }

    fn seat(&self) -> Seat {
        Seat {
            id: self.id,
            epoch: self.epoch,
            factory: self.factory.clone(),
            candidates: self.candidates.clone(),
            seed: sys::random(),
        }
    }

    /// The thread: runs a worker, and another one after it when it breaks.
    fn main<E: Engine>(self, mut ports: Ports, mut setup: WorkerSetup, make: &dyn Fn(Seat) -> E) {
        if let Some(core) = self.core
            && let Err(error) = sys::pin_to(core)
        {
            tracing::debug!(worker = %self.id, core, %error, "a worker could not be pinned");
        }
        loop {
            let began = clock::now();
            let life = catch_unwind(AssertUnwindSafe(|| run(make(self.seat()), &mut ports, setup)));
            if !self.broke(life) || self.stop.load(Ordering::Acquire) {
                return;
            }
            if clock::now().saturating_duration_since(began) < SHORT_LIFE {
                clock::sleep(SHORT_LIFE);
            }
            let port = match self.ends() {
                Ok((port, next)) => {
                    setup = next;
                    port
                }
                Err(error) => {
                    tracing::error!(worker = %self.id, %error, "a worker cannot be replaced");
                    return;
                }
            };
            if self.events.send(PoolEvent::Replaced { worker: self.id, port }).is_err() {
                return;
            }
            self.wake.wake();
        }
    }

    /// Says how a worker ended; `true` when it must be replaced.
    fn broke(&self, life: Result<std::io::Result<Exit>, Box<dyn Any + Send>>) -> bool {
        match life {
            Ok(Ok(exit)) => {
                tracing::debug!(worker = %self.id, ?exit, "worker ended");
                false
            }
            Ok(Err(error)) => {
                tracing::error!(worker = %self.id, %error, "a worker broke and is replaced; its rooms are lost");
                true
            }
            Err(panic) => {
                let text = panic_text(&*panic);
                tracing::error!(worker = %self.id, panic = text, "a worker panicked and is replaced; its rooms are lost");
                true
            }
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)")
}

/// The mailbox of one worker.
struct WorkerMailbox {
    lane: lane::Sender<Mail>,
    wake: Arc<EventFd>,
}

impl Mailbox for WorkerMailbox {
    fn send(&self, mail: Mail) -> Result<(), Mail> {
        self.lane.send(mail).map_err(|(SendError::Full(mail) | SendError::Closed(mail))| mail)
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.wake.clone()
    }
}

/// One fewer than the cores, which main, bridge and kernel want too; at least one.
fn worker_count(config: &IoConfig, cores: usize) -> u16 {
    match config.workers {
        0 => u16::try_from(cores.saturating_sub(1)).unwrap_or(u16::MAX).max(1),
        workers => workers,
    }
}

/// The core for a worker: the last one for the first worker and so on, so that the first is left to main.
fn core_of(config: &IoConfig, worker: u16, workers: u16, cores: &[usize]) -> Option<usize> {
    let fits = config.pin && usize::from(workers) <= cores.len();
    fits.then(|| cores.iter().rev().nth(usize::from(worker)).copied()).flatten()
}

fn candidates(config: &IoConfig, detected: &[IpAddr], ports: &Ports) -> Vec<LocalCandidate> {
    let listening: Vec<_> = ports.udp.iter().map(|socket| socket.address).collect();
    addresses::candidates(config, detected, &listening)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_leave_the_first_core_to_the_rest() {
        let config = IoConfig::default();
        assert_eq!(worker_count(&config, 1), 1);
        assert_eq!(worker_count(&config, 8), 7);
        assert_eq!(worker_count(&IoConfig { workers: 3, ..config.clone() }, 8), 3);
        let cores = [0, 2, 4];
        let chosen: Vec<_> = (0..2).map(|worker| core_of(&config, worker, 2, &cores)).collect();
        assert_eq!(chosen, [Some(4), Some(2)]);
        assert_eq!(core_of(&config, 0, 4, &cores), None, "more workers than cores: the kernel decides");
    }
}
