//! Figures and how they are shown.

use std::fmt::Write;

/// Delays in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Delays(Vec<u32>);

impl Delays {
    /// Notes one, in nanoseconds.
    pub fn add(&mut self, nanos: u64) {
        self.0.push(u32::try_from(nanos / 1000).unwrap_or(u32::MAX));
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The delay in milliseconds below which `percent` of 100 lie; `None` without any.
    pub fn percentile(&mut self, percent: usize) -> Option<f64> {
        let place = (self.0.len() * percent / 100).min(self.0.len().checked_sub(1)?);
        let (_, value, _) = self.0.select_nth_unstable(place);
        Some(f64::from(*value) / 1000.0)
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
    /// Viewers.
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
        let sent = self.sent();
        let calls = ratio(self.delta(|usage| usage.calls), sent);
        let messages = ratio(self.delta(|usage| usage.messages), sent);
        let (p50, p99) = (self.delays.percentile(50), self.delays.percentile(99));
        let (key50, key99) = (self.key_delays.percentile(50), self.key_delays.percentile(99));
        format!(
            "| {} | {:.0} | {:.0} | {:.1} | {:.0} | {calls} | {messages} | {} | {} | {} | {} | {:.0} | {} | {} |",
            self.viewers,
            sent as f64 / self.seconds.max(0.001),
            self.cpu_per_packet(),
            100.0 * self.load(),
            100.0 * self.system(),
            delay(p50),
            delay(p99),
            delay(key50),
            delay(key99),
            self.resident_per_viewer(),
            self.lost,
            self.refused,
        )
    }
}

/// The report: a heading, the machine, a table.
pub fn report(machine: &str, stages: &mut [Stage]) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "# viaduct bench\n\n{machine}\n");
    text.push_str(
        "| viewers | packets/s | CPU ns/packet | % of a core | % system | packets/call | packets/run \
         | p50 ms | p99 ms | keyframes p50 | p99 | KiB/viewer | lost | refused |\n",
    );
    text.push_str(&"| --- ".repeat(14));
    text.push_str("|\n");
    for stage in stages {
        text.push_str(&stage.row());
        text.push('\n');
    }
    text
}
