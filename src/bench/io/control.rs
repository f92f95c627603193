//! Controllers over TCP: one thread that asks, beside the one that plays publisher and viewers.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;

use super::process::{Server, Share, machine};
use super::rooms::live_and_die;
use super::{Bench, write};
use crate::bench::Options;
use crate::bench::control::{Asked, Forwarded, Line, Percentiles, Report, Said, Tally, furnish, routine};
use crate::core::io::sys;

/// Between two looks at the sockets.
const NAP: Duration = Duration::from_micros(100);
/// Between two requests of the one that asks one at a time: long enough for every thread to fall asleep.
const REST: Duration = Duration::from_millis(2);
/// Requests that a controller has under way where as many as go are asked.
const UNDER_WAY: usize = 32;
/// For an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures and prints.
pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let control = &options.control;
    // A port that nobody has at this moment; should somebody take it, the server says so.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let more = vec![
        format!("control.listen={address}"),
        format!("control.max_controllers={}", control.controllers + 64),
        format!("rooms.max_rooms={}", control.conferences + 10),
        "control.max_entities=1000000".into(),
    ];
    let server = Server::start(&more)?;
    let machine = machine();
    if let Some(core) = sys::allowed_cores().first() {
        sys::pin_to(*core)?;
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let mut report = Report {
        machine,
        unix_time: since.as_secs(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        ..Report::default()
    };
    // Memory first: what else is measured leaves its own traces.
    if control.cycles > 0 {
        report.memory = Some(live_and_die(&server, address, control)?);
    }
    let mut bench = Bench::new(server, options)?;
    report.asked.push(one_at_a_time(&mut bench.server, address, options)?);
    bench.progress.done(&format!("one at a time: p99 {:.3} ms", report.asked[0].delay.p99));
    bench.begin()?;
    let quiet = bench.stage(control.watching)?;
    let load = Load::start(address, control.controllers, Some(control.rate))?;
    let before = bench.server.shares()?;
    let began = Instant::now();
    let busy = bench.stage(control.watching)?;
    let spent = (before, bench.server.shares()?, began.elapsed());
    report.asked.push(load.end("at a steady rate", &spent)?);
    let mut delays = (quiet.delays, busy.delays);
    report.forwarded = Some(Forwarded {
        viewers: control.watching,
        quiet: Percentiles::of(&mut delays.0),
        busy: Percentiles::of(&mut delays.1),
        lost: (quiet.lost, busy.lost),
    });
    let load = Load::start(address, control.controllers, None)?;
    let (before, began) = (bench.server.shares()?, Instant::now());
    bench.drive(began + Duration::from_secs(options.seconds))?;
    let spent = (before, bench.server.shares()?, began.elapsed());
    report.asked.push(load.end("as many as go", &spent)?);
    finish(options, &report)
}

fn finish(options: &Options, report: &Report) -> anyhow::Result<()> {
    let text = report.text();
    println!("{text}");
    if let Some(file) = &options.output {
        write(file, &text)?;
    }
    if let Some(file) = &options.json {
        write(file, &(serde_json::to_string_pretty(report)? + "\n"))?;
    }
    Ok(())
}

/// The server's threads at two moments, and the time between.
type Spent = (Share, Share, Duration);

fn row(what: &str, mut tally: Tally, seconds: f64, (before, after, time): &Spent) -> Asked {
    let percent = |nanos: u64| 100.0 * nanos as f64 / 1e9 / time.as_secs_f64().max(0.001);
    let (main, workers) = (after.main - before.main, after.workers - before.workers);
    Asked {
        what: what.to_owned(),
        per_second: tally.answered as f64 / seconds.max(0.001),
        delay: Percentiles::of(&mut tally.delays),
        refused: tally.refused,
        core_percent: percent(after.all - before.all),
        main_percent: percent(main),
        workers_percent: percent(workers),
    }
}

/// A request's way there and back when nothing else goes on.
fn one_at_a_time(server: &mut Server, address: SocketAddr, options: &Options) -> anyhow::Result<Asked> {
    let mut controller = Controller::connect(address)?;
    let made = furnish(&mut controller.line);
    controller.settle(made)?;
    let (before, began) = (server.shares()?, Instant::now());
    let mut tally = Tally::default();
    let end = began + Duration::from_secs(options.seconds);
    for turn in 0.. {
        thread::sleep(REST);
        let asked = Instant::now();
        if asked >= end {
            break;
        }
        routine(&mut controller.line, turn);
        tally.refused += controller.settle(1)? as u64;
        tally.answered += 1;
        tally.delays.add(asked.elapsed().as_nanos() as u64);
    }
    let time = began.elapsed();
    let spent = (before, server.shares()?, time);
    Ok(row("one at a time", tally, time.as_secs_f64(), &spent))
}

/// A connection.
pub(super) struct Controller {
    stream: TcpStream,
    pub line: Line,
    buffer: Vec<u8>,
    /// What was asked and not answered, with the moment.
    open: HashMap<u32, Instant>,
    turn: usize,
}

impl Controller {
    pub fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Controller {
            stream,
            line: Line::default(),
            buffer: vec![0; 256 << 10],
            open: HashMap::new(),
            turn: 0,
        })
    }

    /// Writes what was asked and waits for so many answers; how many of them were refusals.
    pub fn settle(&mut self, answers: usize) -> anyhow::Result<usize> {
        let mut left = answers;
        let mut refused = 0;
        self.converse(|said| {
            if let Said::Answer(_, result) = said {
                left -= 1;
                refused += usize::from(result.is_err());
            }
            Ok(left == 0)
        })?;
        Ok(refused)
    }

    /// Writes what was asked and reads until `each` says that it is enough.
    pub fn converse(&mut self, mut each: impl FnMut(Said) -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let out = std::mem::take(self.line.out());
        self.stream.write_all(&out)?;
        loop {
            while let Some(said) = self.line.hear()? {
                if each(said)? {
                    return Ok(());
                }
            }
            let count = self.stream.read(&mut self.buffer).context("no answer")?;
            anyhow::ensure!(count > 0, "the server hung up");
            self.line.feed(&self.buffer[..count]);
        }
    }

    fn ask(&mut self, now: Instant) {
        let id = routine(&mut self.line, self.turn);
        self.turn += 1;
        self.open.insert(id, now);
    }

    /// Writes what the socket takes, and notes what was answered.
    fn exchange(&mut self, tally: &mut Tally) -> anyhow::Result<()> {
        let out = self.line.out();
        while !out.is_empty() {
            match self.stream.write(out) {
                Ok(count) => drop(out.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        match self.stream.read(&mut self.buffer) {
            Ok(0) => anyhow::bail!("the server hung up"),
            Ok(count) => self.line.feed(&self.buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let now = Instant::now();
        while let Some(said) = self.line.hear()? {
            let Said::Answer(id, result) = said else { continue };
            let Some(asked) = self.open.remove(&id) else { continue };
            tally.answered += 1;
            tally.refused += u64::from(result.is_err());
            tally.delays.add(now.duration_since(asked).as_nanos() as u64);
        }
        Ok(())
    }
}

/// Controllers that ask until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<anyhow::Result<(Tally, f64)>>,
}

impl Load {
    /// So many requests a second; `None`: as many as go.
    fn start(address: SocketAddr, controllers: usize, rate: Option<u64>) -> anyhow::Result<Self> {
        let mut all = Vec::new();
        for _ in 0..controllers.max(1) {
            let mut controller = Controller::connect(address)?;
            let made = furnish(&mut controller.line);
            anyhow::ensure!(controller.settle(made)? == 0, "a controller's router was refused");
            controller.stream.set_nonblocking(true)?;
            all.push(controller);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            sys::sharpen_timers();
            ask_until(&mut all, rate, &stopped)
        });
        Ok(Load { stop, thread })
    }

    fn end(self, what: &str, spent: &Spent) -> anyhow::Result<Asked> {
        self.stop.store(true, Ordering::Relaxed);
        let joined = self.thread.join().map_err(|_| anyhow::anyhow!("the asking thread panicked"))?;
        let (tally, seconds) = joined?;
        let row = row(what, tally, seconds, spent);
        eprintln!("{what}: {:.0} a second, p99 {:.2} ms", row.per_second, row.delay.p99);
        Ok(row)
    }
}

fn ask_until(
    all: &mut [Controller],
    rate: Option<u64>,
    stopped: &AtomicBool,
) -> anyhow::Result<(Tally, f64)> {
    let (began, mut tally, mut asked) = (Instant::now(), Tally::default(), 0);
    while !stopped.load(Ordering::Relaxed) {
        let now = Instant::now();
        match rate {
            Some(rate) => {
                let due = (now.duration_since(began).as_secs_f64() * rate as f64) as usize;
                for number in asked..due {
                    let controller = number % all.len();
                    all[controller].ask(now);
                }
                asked = due;
            }
            None => {
                for controller in all.iter_mut() {
                    while controller.open.len() < UNDER_WAY {
                        controller.ask(now);
                    }
                }
            }
        }
        for controller in all.iter_mut() {
            controller.exchange(&mut tally)?;
        }
        thread::sleep(NAP);
    }
    Ok((tally, began.elapsed().as_secs_f64()))
}
