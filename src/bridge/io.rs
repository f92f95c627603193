//! The bridge's threads. Conversions of sound and mixes share a small pool on a clock of 20 ms: each tick a thread
//! drains the lanes of all its jobs, no packet wakes it, and a pool without jobs sleeps until one comes.
//!
//! A re-encoding of a picture has a thread of its own for as long as it runs: it can take most of a core, and sound
//! must not wait for it. It looks at its lane every 5 ms: a look costs some 25 µs at worst, half a percent of a
//! core beside the tens of percent of the encoder, and three quarters of the delay of a 20 ms clock are saved.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::jobs::{Pass, RunningJob};
use super::mix::config::MixConfig;
use super::mix::{Prompts, RunningMix, Wav};
use super::slate::RunningSlate;

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

/// What the pool runs.
enum Task {
    Convert(RunningJob),
    Mix(Box<RunningMix>),
    Slate(Box<RunningSlate>),
}

impl Task {
    /// `tick` is when the thread should have woken: the clock of mixes, which knows no lateness.
    fn pass(&mut self, tick: Instant) -> Pass {
        match self {
            Task::Convert(job) => job.pass(SOUND_TURN),
            Task::Mix(mix) => mix.pass(tick),
            Task::Slate(slate) => slate.pass(tick),
        }
    }
}

type Placed = (Task, Slot);

/// One thread of the pool, and how much it runs.
struct Worker {
    inbox: Sender<Placed>,
    load: Arc<AtomicUsize>,
}

/// The threads. Dropping them ends all jobs and waits for the threads.
pub struct Threads {
    pool: Vec<Worker>,
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
            stop: Arc::new(AtomicBool::new(false)),
            handles: Mutex::new(Vec::new()),
            named: AtomicUsize::new(0),
        };
        for _ in 0..count {
            let (sender, receiver) = channel();
            let (stop, load) = (threads.stop.clone(), Arc::new(AtomicUsize::new(0)));
            let worker = Worker { inbox: sender, load: load.clone() };
            threads.spawn(move || run_pool(&receiver, &load, &stop))?;
            threads.pool.push(worker);
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
        self.place(Task::Convert(job), slot)
    }

    /// Runs a mix on the pool.
    pub fn run_mix(&self, mix: RunningMix, slot: Slot) -> io::Result<()> {
        self.place(Task::Mix(Box::new(mix)), slot)
    }

    /// Runs a slate on the pool.
    pub fn run_slate(&self, slate: RunningSlate, slot: Slot) -> io::Result<()> {
        self.place(Task::Slate(Box::new(slate)), slot)
    }

    fn place(&self, task: Task, slot: Slot) -> io::Result<()> {
        let gone = || io::Error::other("the bridge has stopped");
        let idlest = self.pool.iter().min_by_key(|worker| worker.load.load(Ordering::Relaxed));
        let worker = idlest.ok_or_else(gone)?;
        worker.load.fetch_add(1, Ordering::Relaxed);
        worker.inbox.send((task, slot)).map_err(|_| gone())
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

fn run_pool(inbox: &Receiver<Placed>, load: &AtomicUsize, stop: &AtomicBool) {
    let mut tasks: Vec<Placed> = Vec::new();
    let mut tick = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if tasks.is_empty() {
            match inbox.recv() {
                Ok(placed) => tasks.push(placed),
                Err(_) => return,
            }
        }
        loop {
            match inbox.try_recv() {
                Ok(placed) => tasks.push(placed),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
        // Held up, or asleep without jobs: on with the present, in step with what was before.
        let missed = tick.elapsed().as_micros() / SOUND_TICK.as_micros();
        tick += SOUND_TICK * u32::try_from(missed).unwrap_or(u32::MAX);
        let mut busy = true;
        while busy && !stop.load(Ordering::Relaxed) {
            busy = false;
            tasks.retain_mut(|(task, _)| {
                let pass = task.pass(tick);
                busy |= pass == Pass::More;
                if pass == Pass::Ended {
                    load.fetch_sub(1, Ordering::Relaxed);
                }
                pass != Pass::Ended
            });
        }
        tick += SOUND_TICK;
        thread::sleep(tick.saturating_duration_since(Instant::now()));
    }
}

/// Reads the prompts and the music that stand in the configuration; what cannot be read is said and left out.
pub fn load_prompts(config: &MixConfig) -> Prompts {
    let mut own = HashMap::new();
    if let Some(folder) = &config.prompts {
        match std::fs::read_dir(folder) {
            Ok(entries) => {
                let files = entries.flatten().map(|entry| entry.path());
                for file in files.filter(|file| file.extension().is_some_and(|kind| kind == "wav")) {
                    let name = file.file_stem().map(|name| name.to_string_lossy().into_owned());
                    own.extend(name.zip(load_wav(&file)));
                }
            }
            Err(error) => {
                tracing::warn!(folder = %folder.display(), "bridge.mix.prompts cannot be read: {error}")
            }
        }
    }
    Prompts::new(own, config.hold_music.as_deref().and_then(load_wav))
}

fn load_wav(file: &Path) -> Option<Wav> {
    let read = std::fs::read(file).map_err(|error| error.to_string());
    read.and_then(|data| Wav::parse(&data).map_err(|error| error.to_string()))
        .inspect_err(
            |reason| tracing::warn!(file = %file.display(), "a recording cannot be played: {reason}"),
        )
        .ok()
}
