//! Controllers for `--control`: what they ask, what they make of the answers, and how that is shown.
//!
//! | measured | how |
//! | --- | --- |
//! | a request's way through the Dispatcher to a worker and back | one at a time, at rest between |
//! | many of them | so many a second, by as many controllers as are set, while a stream is forwarded to viewers |
//! | as many as go | each controller has some under way at any time |
//! | memory | rooms of three are made and taken down again and again |

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Value, json};

use super::result::Delays;
use crate::core::control::netstring::{self, NetstringError, Reader};
use crate::core::message::{FromWorker, Notification, Response};

/// The longest message of a server that is read.
const LIMIT: usize = 16 << 20;

/// What to measure; arguments of the command line.
#[derive(Clone, Debug, clap::Args)]
pub struct ControlOptions {
    /// Measure the control protocol instead, over TCP.
    #[arg(long, conflicts_with_all = ["viewers", "rooms", "legs", "soak", "idle", "url"])]
    pub control: bool,
    /// Requests a second while media is measured.
    #[arg(long, default_value_t = 20_000)]
    pub rate: u64,
    /// Controllers that ask at once.
    #[arg(long, default_value_t = 16)]
    pub controllers: usize,
    /// Viewers of the stream that is forwarded meanwhile.
    #[arg(long, default_value_t = 50)]
    pub watching: usize,
    /// Conferences of three that controllers make at once.
    #[arg(long, default_value_t = 1_000)]
    pub conferences: usize,
    /// How often they are made and taken down; 0: not at all.
    #[arg(long, default_value_t = 100)]
    pub cycles: usize,
}

/// A controller's side of a connection, in netstrings and JSON.
pub struct Line {
    reader: Reader,
    out: Vec<u8>,
    next: u32,
}

impl Default for Line {
    fn default() -> Self {
        Line { reader: Reader::new(LIMIT), out: Vec::new(), next: 0 }
    }
}

/// What a server says.
#[derive(Debug)]
pub enum Said {
    /// The answer to a request, by its id.
    Answer(u32, Result<Value, String>),
    /// Something happened to an entity, by its id.
    Event(u32, String, Value),
}

impl Line {
    /// Asks for something; the request's id.
    pub fn ask(&mut self, method: &str, internal: &Value, data: &Value) -> u32 {
        self.next += 1;
        let json = json!({"id": self.next, "method": method, "internal": internal, "data": data});
        // Ours are short.
        let _ = netstring::write(json.to_string().as_bytes(), LIMIT, &mut self.out);
        self.next
    }

    /// What is to be written.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Takes in what was read.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.reader.feed(bytes);
    }

    /// The next thing the server says, if it is whole.
    pub fn hear(&mut self) -> Result<Option<Said>, NetstringError> {
        while let Some(payload) = self.reader.next_payload()? {
            match FromWorker::parse(payload) {
                Some(FromWorker::Response(Response { id, result })) => {
                    return Ok(Some(Said::Answer(id, result)));
                }
                Some(FromWorker::Notification(Notification { target_id, event, data })) => {
                    return Ok(Some(Said::Event(target_id, event, data)));
                }
                None => {}
            }
        }
        Ok(None)
    }
}

/// Ids of what each asking controller has.
pub const ROUTER: u32 = 1;
const TRANSPORT: u32 = 2;
const PRODUCER: u32 = 3;
const CONSUMER: u32 = 4;
/// Behind it those of what comes and goes.
const PASSING: u32 = 1_000;

/// The parameters with which Opus is sent, and received, by an ssrc.
pub fn opus(ssrc: u32) -> Value {
    json!({
        "codecs": [{"mimeType": "audio/opus", "payloadType": 100, "clockRate": 48_000, "channels": 2}],
        "encodings": [{"ssrc": ssrc}],
    })
}

/// Makes a router with a transport, a track into it and one out of it.
pub fn furnish(line: &mut Line) -> usize {
    let on = json!({"routerId": ROUTER, "transportId": TRANSPORT, "producerId": PRODUCER});
    let out =
        json!({"routerId": ROUTER, "transportId": TRANSPORT, "consumerId": CONSUMER, "producerId": PRODUCER});
    line.ask("worker.createRouter", &json!({"routerId": ROUTER}), &json!({}));
    line.ask(
        "router.createWebRtcTransport",
        &json!({"routerId": ROUTER, "transportId": TRANSPORT}),
        &json!({}),
    );
    line.ask("router.createProducer", &on, &json!({"kind": "audio", "rtpParameters": opus(11)}));
    line.ask("router.createConsumer", &out, &json!({"kind": "audio"}));
    line.ask("consumer.enable", &out, &json!({"rtpParameters": opus(12)}));
    5
}

/// One of the requests that are asked over and over: states, statistics, changes, something made and ended. All are
/// a worker's.
pub fn routine(line: &mut Line, turn: usize) -> u32 {
    let producer = json!({"routerId": ROUTER, "producerId": PRODUCER});
    let consumer = json!({"routerId": ROUTER, "consumerId": CONSUMER});
    let transport = json!({"routerId": ROUTER, "transportId": TRANSPORT});
    // A new one each time: an id is free again only once the worker has said so.
    let number = PASSING + (turn / 8) as u32;
    let passing = json!({"routerId": ROUTER, "consumerId": number, "producerId": PRODUCER});
    let nothing = json!({});
    match turn % 8 {
        0 => line.ask("producer.pause", &producer, &nothing),
        1 => line.ask("consumer.getStats", &consumer, &nothing),
        2 => line.ask("producer.resume", &producer, &nothing),
        3 => line.ask("router.createConsumer", &passing, &json!({"kind": "audio"})),
        4 => line.ask("transport.dump", &transport, &nothing),
        5 => line.ask("consumer.close", &passing, &nothing),
        6 => line.ask("consumer.requestKeyFrame", &consumer, &nothing),
        _ => line.ask("transport.getStats", &transport, &nothing),
    }
}

/// How long requests took, and how many were refused.
#[derive(Default)]
pub struct Tally {
    /// From the request to its answer.
    pub delays: Delays,
    /// Answered.
    pub answered: u64,
    /// Of them refused.
    pub refused: u64,
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half are below.
    pub p50: f64,
    /// 99 of 100 are below.
    pub p99: f64,
    /// All are.
    pub max: f64,
}

impl Percentiles {
    /// Of what was noted.
    pub fn of(delays: &mut Delays) -> Self {
        let mut at = |percent| delays.percentile(percent).unwrap_or(f64::NAN);
        Percentiles { p50: at(50.0), p99: at(99.0), max: at(100.0) }
    }
}

/// Requests asked for a while.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Asked {
    /// What it was.
    pub what: String,
    /// Answers a second.
    pub per_second: f64,
    /// Milliseconds from a request to its answer.
    pub delay: Percentiles,
    /// Answers that were refusals.
    pub refused: u64,
    /// What the server spent, in percent of a core: in all, its main thread, its workers.
    pub core_percent: f64,
    /// See `core_percent`.
    pub main_percent: f64,
    /// See `core_percent`.
    pub workers_percent: f64,
}

/// Packets forwarded without and with requests.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Forwarded {
    /// Who received.
    pub viewers: usize,
    /// Milliseconds on the way, without requests.
    pub quiet: Percentiles,
    /// With them.
    pub busy: Percentiles,
    /// Packets lost without and with.
    pub lost: (i64, i64),
}

/// Resident memory, in KiB.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Memory {
    /// Rooms of three.
    pub rooms: usize,
    /// How often.
    pub cycles: usize,
    /// Before.
    pub before: u64,
    /// While they stood, the first time.
    pub full: u64,
    /// After the first time, and after the last.
    pub after_first: u64,
    /// See `after_first`.
    pub after_last: u64,
    /// Seconds that each time took, on average.
    pub seconds: f64,
    /// Requests a second meanwhile.
    pub per_second: f64,
}

impl Memory {
    /// How much more than before is held in the end, in percent.
    pub fn left_percent(&self) -> f64 {
        percent_more(self.before, self.after_last)
    }

    /// How much more than after the first time.
    pub fn grown_percent(&self) -> f64 {
        percent_more(self.after_first, self.after_last)
    }
}

fn percent_more(before: u64, after: u64) -> f64 {
    100.0 * (after as f64 - before as f64) / (before as f64).max(1.0)
}

/// All of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Processor, cores, kernel, version.
    pub machine: String,
    /// When, in seconds since 1970.
    pub unix_time: u64,
    /// The arguments.
    pub command: String,
    /// Each row.
    pub asked: Vec<Asked>,
    /// Beside them.
    pub forwarded: Option<Forwarded>,
    /// Memory.
    pub memory: Option<Memory>,
}

impl Report {
    /// As text.
    pub fn text(&self) -> String {
        let mut text = format!("# viaduct bench --control\n\n{}\n\n`{}`\n\n", self.machine, self.command);
        text.push_str("| requests | a second | p50 ms | p99 ms | max ms | refused | % of a core | main thread | workers |\n");
        text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
        for Asked { what, per_second, delay, refused, core_percent, main_percent, workers_percent } in
            &self.asked
        {
            let Percentiles { p50, p99, max } = delay;
            let _ = writeln!(
                text,
                "| {what} | {per_second:.0} | {p50:.2} | {p99:.2} | {max:.2} | {refused} | {core_percent:.0} | {main_percent:.0} | {workers_percent:.0} |"
            );
        }
        if let Some(Forwarded { viewers, quiet, busy, lost }) = &self.forwarded {
            let _ = writeln!(
                text,
                "\n| packets to {viewers} viewers | p50 ms | p99 ms | lost |\n| --- | --- | --- | --- |\n\
                 | without requests | {:.2} | {:.2} | {} |\n| with them | {:.2} | {:.2} | {} |\n\
                 | moved by | {:.2} | {:.2} | |",
                quiet.p50,
                quiet.p99,
                lost.0,
                busy.p50,
                busy.p99,
                lost.1,
                busy.p50 - quiet.p50,
                busy.p99 - quiet.p99,
            );
        }
        if let Some(memory) = &self.memory {
            let Memory { rooms, cycles, before, full, after_first, after_last, seconds, per_second } = memory;
            let _ = writeln!(
                text,
                "\n| {rooms} rooms of three, {cycles} times | KiB resident |\n| --- | --- |\n| before | {before} |\n\
                 | while they stand | {full} |\n| after the first time | {after_first} |\n\
                 | after the last | {after_last} ({:+.1} % of before, {:+.1} % of after the first) |\n\n\
                 {seconds:.2} s each time, {per_second:.0} requests a second.",
                memory.left_percent(),
                memory.grown_percent(),
            );
        }
        text
    }
}
