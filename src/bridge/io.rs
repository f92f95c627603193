//! The bridge's threads. Conversions of sound share a small pool on a clock of 20 ms: each tick a thread drains the
//! lanes of all its jobs, no packet wakes it, and a pool without jobs sleeps until one comes.
//!
//! A re-encoding of a picture has a thread of its own for as long as it runs: it can take most of a core, and sound
//! must not wait for it. It looks at its lane every 5 ms: a look costs some 25 µs at worst, half a percent of a
//! core beside the tens of percent of the encoder, and three quarters of the delay of a 20 ms clock are saved.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::jobs::{Pass, RunningJob};

const SOUND_TICK: Duration = Duration::from_millis(20);
const PICTURE_TICK: Duration = Duration::from_millis(5);
/// Inputs a job may take before the next job has its turn.
const SOUND_TURN: usize = 16;
const PICTURE_TURN: usize = 1;

/// A place among the jobs of one kind, given back when dropped.
pub struct Slot(Arc<AtomicUsize>);

impl Slot {
    /// A place, if fewer than `limit` are taken.
    pub fn take(count: &Arc<AtomicUsize>, limit: usize) -> Option<Slot> {
        let step = |taken: usize| (taken < limit).then_some(taken + 1);
        count.fetch_update(Ordering::AcqRel, Ordering::Acquire, step).ok()?;
        Some(Slot(count.clone()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

type Placed = (RunningJob, Slot);

/// The threads. Dropping them ends all jobs and waits for the threads.
pub struct Threads {
    pool: Vec<Sender<Placed>>,
    turn: AtomicUsize,
    stop: Arc<AtomicBool>,
    handles: Mutex<Vec<JoinHandle<()>>>,
    named: AtomicUsize,
}

impl Threads {
    /// Starts the pool for sound; `count` 0 takes one thread for every four cores, at least one.
    pub fn start(count: usize) -> io::Result<Threads> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let count = if count == 0 { cores.div_ceil(4) } else { count };
        let mut threads = Threads {
            pool: Vec::new(),
            turn: AtomicUsize::new(0),
            stop: Arc::new(AtomicBool::new(false)),
            handles: Mutex::new(Vec::new()),
            named: AtomicUsize::new(0),
        };
        for _ in 0..count {
            let (sender, receiver) = channel();
            let stop = threads.stop.clone();
            threads.spawn(move || run_pool(&receiver, &stop))?;
            threads.pool.push(sender);
        }
        Ok(threads)
    }

    fn spawn(&self, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let number = self.named.fetch_add(1, Ordering::Relaxed);
        let handle = thread::Builder::new().name(format!("viaduct-bridge-{number}")).spawn(body)?;
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.retain(|handle| !handle.is_finished());
        handles.push(handle);
        Ok(())
    }

    /// Runs a conversion of sound on the pool.
    pub fn run_sound(&self, job: RunningJob, slot: Slot) -> io::Result<()> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let gone = || io::Error::other("the bridge has stopped");
        let thread = self.pool.get(turn % self.pool.len().max(1)).ok_or_else(gone)?;
        thread.send((job, slot)).map_err(|_| gone())
    }

    /// Runs a re-encoding on a thread of its own.
    pub fn run_picture(&self, mut job: RunningJob, slot: Slot) -> io::Result<()> {
        let stop = self.stop.clone();
        self.spawn(move || {
            let _slot = slot;
            while !stop.load(Ordering::Relaxed) {
                match job.pass(PICTURE_TURN) {
                    Pass::Ended => break,
                    Pass::Idle => thread::sleep(PICTURE_TICK),
                    Pass::More => {}
                }
            }
        })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.pool.clear();
        let handles = std::mem::take(&mut *self.handles.lock().unwrap_or_else(PoisonError::into_inner));
        for handle in handles {
            let _ = handle.join();
        }
    }
}

fn run_pool(inbox: &Receiver<Placed>, stop: &AtomicBool) {
    let mut jobs: Vec<Placed> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if jobs.is_empty() {
            match inbox.recv() {
                Ok(placed) => jobs.push(placed),
                Err(_) => return,
            }
        }
        loop {
            match inbox.try_recv() {
                Ok(placed) => jobs.push(placed),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
        let began = Instant::now();
        let mut busy = true;
        while busy && !stop.load(Ordering::Relaxed) {
            busy = false;
            jobs.retain_mut(|(job, _)| {
                let pass = job.pass(SOUND_TURN);
                busy |= pass == Pass::More;
                pass != Pass::Ended
            });
        }
        thread::sleep(SOUND_TICK.saturating_sub(began.elapsed()));
    }
}
