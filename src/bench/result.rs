//! Figures and how they are shown.

use std::fmt::Write;

use serde_json::{Value, json};

/// Delays in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Delays(Vec<u32>);

impl Delays {
    /// Notes one, in nanoseconds.
    pub fn add(&mut self, nanos: u64) {
        self.0.push(u32::try_from(nanos / 1000).unwrap_or(u32::MAX));
    }

    /// The delay in milliseconds below which `percent` of 100 lie; `None` without any.
    pub fn percentile(&mut self, percent: f64) -> Option<f64> {
        let place = (self.0.len() as f64 * percent / 100.0) as usize;
        let place = place.min(self.0.len().checked_sub(1)?);
        let (_, value, _) = self.0.select_nth_unstable(place);
        Some(f64::from(*value) / 1000.0)
    }

    fn json(&mut self) -> Value {
        json!({
            "count": self.0.len(),
            "p50": self.percentile(50.0),
            "p95": self.percentile(95.0),
            "p99": self.percentile(99.0),
            "p99.9": self.percentile(99.9),
        })
    }
}

/// What the server had used and sent at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Processor time in nanoseconds.
    pub cpu: u64,
    /// Of it in user and system mode, in clock ticks.
    pub user: u64,
    /// See `user`.
    pub system: u64,
    /// Datagrams sent, if the server tells.
    pub packets: Option<u64>,
    /// Calls that sent them.
    pub calls: Option<u64>,
    /// Messages (runs) they left in.
    pub messages: Option<u64>,
}

/// One stage.
#[derive(Clone, Debug, Default)]
pub struct Stage {
    /// Streams that were published.
    pub streams: usize,
    /// Receivers of one of them each.
    pub viewers: usize,
    /// Seconds measured.
    pub seconds: f64,
    /// At its begin and end.
    pub usage: (Usage, Usage),
    /// Packets the viewers received.
    pub received: u64,
    /// Packets lost.
    pub lost: i64,
    /// Packets that did not open.
    pub refused: u64,
    /// Delay of ordinary frames' packets.
    pub delays: Delays,
    /// Delay of keyframes' packets.
    pub key_delays: Delays,
    /// From asking to watch to the first whole keyframe, of those who joined in this stage.
    pub first_pictures: Delays,
    /// Who joined and has had none.
    pub no_picture: usize,
    /// Resident bytes of the server.
    pub resident: u64,
    /// The same before there were viewers.
    pub resident_empty: u64,
}

impl Stage {
    fn delta(&self, what: impl Fn(&Usage) -> Option<u64>) -> Option<u64> {
        Some(what(&self.usage.1)?.saturating_sub(what(&self.usage.0)?))
    }

    /// Datagrams the server sent, by its own count or else by ours.
    fn sent(&self) -> u64 {
        self.delta(|usage| usage.packets).unwrap_or(self.received).max(1)
    }

    /// CPU nanoseconds per datagram sent.
    pub fn cpu_per_packet(&self) -> f64 {
        self.delta(|usage| Some(usage.cpu)).unwrap_or(0) as f64 / self.sent() as f64
    }

    /// Share of a core.
    fn load(&self) -> f64 {
        self.delta(|usage| Some(usage.cpu)).unwrap_or(0) as f64 / self.seconds.max(0.001) / 1e9
    }

    /// Share of system mode.
    fn system(&self) -> f64 {
        let (user, system) = (self.delta(|usage| Some(usage.user)), self.delta(|usage| Some(usage.system)));
        let (user, system) = (user.unwrap_or(0) as f64, system.unwrap_or(0) as f64);
        system / (user + system).max(1.0)
    }

    /// KiB a viewer.
    pub fn resident_per_viewer(&self) -> f64 {
        let more = self.resident.saturating_sub(self.resident_empty);
        more as f64 / 1024.0 / self.viewers.max(1) as f64
    }

    fn row(&mut self) -> String {
        let ratio = |part: Option<u64>, sent: u64| match part {
            Some(part) if part > 0 => format!("{:.1}", sent as f64 / part as f64),
            _ => "?".to_owned(),
        };
        let delay = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        let whole = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.0}"));
        let sent = self.sent();
        let cells = [
            self.streams.to_string(),
            self.viewers.to_string(),
            format!("{:.0}", sent as f64 / self.seconds.max(0.001)),
            format!("{:.0}", self.cpu_per_packet()),
            format!("{:.1}", 100.0 * self.load()),
            format!("{:.0}", 100.0 * self.system()),
            ratio(self.delta(|usage| usage.calls), sent),
            ratio(self.delta(|usage| usage.messages), sent),
            delay(self.delays.percentile(50.0)),
            delay(self.delays.percentile(99.0)),
            delay(self.delays.percentile(99.9)),
            delay(self.key_delays.percentile(50.0)),
            delay(self.key_delays.percentile(99.0)),
            whole(self.first_pictures.percentile(50.0)),
            whole(self.first_pictures.percentile(95.0)),
            format!("{:.0}", self.resident_per_viewer()),
            self.lost.to_string(),
            self.refused.to_string(),
        ];
        format!("| {} |", cells.join(" | "))
    }

    /// All of it, for programs. Times are in milliseconds if nothing else is said.
    pub fn json(&mut self) -> Value {
        let sent = self.sent();
        json!({
            "streams": self.streams,
            "receivers": self.viewers,
            "seconds": self.seconds,
            "packetsSent": sent,
            "packetsReceived": self.received,
            "packetsLost": self.lost,
            "packetsRefused": self.refused,
            "cpuNanosPerPacket": self.cpu_per_packet(),
            "cpuOfACore": self.load(),
            "cpuInSystem": self.system(),
            "sendCalls": self.delta(|usage| usage.calls),
            "sendRuns": self.delta(|usage| usage.messages),
            "delay": self.delays.json(),
            "keyframeDelay": self.key_delays.json(),
            "firstPicture": self.first_pictures.json(),
            "withoutPicture": self.no_picture,
            "residentBytes": self.resident,
            "residentKiBPerReceiver": self.resident_per_viewer(),
        })
    }
}

/// The columns of the table.
const COLUMNS: [&str; 18] = [
    "streams",
    "receivers",
    "packets/s",
    "CPU ns/packet",
    "% of a core",
    "% system",
    "packets/call",
    "packets/run",
    "delay p50 ms",
    "p99",
    "p99.9",
    "keyframes p50 ms",
    "p99",
    "first picture p50 ms",
    "p95",
    "KiB/receiver",
    "lost",
    "refused",
];

/// The report: a heading, the circumstances, a table.
pub fn report(circumstances: &str, stages: &mut [Stage]) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "# viaduct bench\n\n{circumstances}\n");
    let _ = writeln!(text, "| {} |", COLUMNS.join(" | "));
    let _ = writeln!(text, "{}|", "| --- ".repeat(COLUMNS.len()));
    for stage in stages {
        let _ = writeln!(text, "{}", stage.row());
    }
    text
}
