//! The worker threads: ports bound before anything runs, one pinned thread a worker, and a fresh worker
//! on the same ports when one panics.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::core::id::WorkerId;
use crate::core::io::config::IoConfig;
use crate::core::io::engine::Engine;
use crate::core::io::error::IoError;
use crate::core::io::stats::IoStats;
use crate::core::mail::MailSender;
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

/// All worker threads of the process.
pub struct WorkerPool {
    events: mpsc::UnboundedReceiver<PoolEvent>,
}

impl WorkerPool {
    /// Binds all ports, then starts the threads. `make` makes a worker's engine on its thread, and again
    /// after a panic.
    pub fn start<E, F>(
        _config: IoConfig,
        _epoch: Epoch,
        _factory: Arc<dyn SessionFactory>,
        _make: F,
    ) -> Result<(WorkerPool, Vec<WorkerPort>), IoError>
    where
        E: Engine,
        F: Fn(Seat) -> E + Send + Sync + 'static,
    {
        todo!()
    }

    /// The next thing that happens to a worker; `None` when no worker is left.
    pub async fn next_event(&mut self) -> Option<PoolEvent> {
        self.events.recv().await
    }

    /// Ends all workers and waits for their threads. Close the rooms first, so that peers are told.
    pub fn shutdown(self) {
        todo!()
    }
}
