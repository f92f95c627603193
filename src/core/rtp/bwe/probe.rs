//! Probing: for a few milliseconds more is sent than the tracks need, to see whether it would go through.
//! A forwarder sends what its publishers make, so nothing but a probe tells it that the next layer fits.

use std::time::Duration;

use crate::core::time::MediaTime;

/// How long a probe lasts: longer than the few packets that even a narrow path takes at once.
const LENGTH: Duration = Duration::from_millis(40);
/// A probe is ahead of its rate by one step of the caller's clock, so that the rate is reached.
const LEAD_MICROS: i64 = 2_000;
/// Packets that make a reading, however low the rate.
const MIN_PACKETS: u32 = 5;
/// The part of a probe that must have arrived.
const MIN_ARRIVED: f64 = 0.8;
/// A probe whose end did not arrive by then is given up.
const PATIENCE: Duration = Duration::from_secs(1);
/// A link that delivers less than this part of what was sent is full: what arrived is all it takes.
const UNSATURATED: f64 = 0.9;
/// Of a full link so much is used.
const USABLE: f64 = 0.95;
/// Between probes, after one that showed room, and at most, after several that did not.
const PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// A probe asks for this much more than is wanted, so that what is wanted fits with ease.
const MARGIN: f64 = 1.15;
/// ... but for no more than this multiple of what is known to fit.
const MAX_STEP: f64 = 3.0;

#[derive(Clone, Copy, Debug)]
struct Span {
    first: i64,
    last: i64,
    bytes: u64,
    /// Bytes at the first and at the last instant: they do not lie between the two.
    at_first: u64,
    at_last: u64,
    packets: u32,
}

impl Span {
    fn add(span: &mut Option<Span>, at: i64, bytes: u16) {
        let bytes = u64::from(bytes);
        let span =
            span.get_or_insert(Span { first: at, last: at, bytes: 0, at_first: 0, at_last: 0, packets: 0 });
        span.packets += 1;
        span.bytes += bytes;
        if at < span.first {
            (span.first, span.at_first) = (at, 0);
        }
        if at > span.last {
            (span.last, span.at_last) = (at, 0);
        }
        if at == span.first {
            span.at_first += bytes;
        }
        if at == span.last {
            span.at_last += bytes;
        }
    }

    fn bitrate(&self, without: u64) -> Option<f64> {
        let micros = self.last - self.first;
        (micros > 0).then(|| self.bytes.saturating_sub(without) as f64 * 8e6 / micros as f64)
    }
}

#[derive(Debug)]
struct Running {
    id: u8,
    target: f64,
    began: MediaTime,
    sending: bool,
    sent: Option<Span>,
    arrived: Option<Span>,
}

/// See the module.
#[derive(Debug)]
pub struct Prober {
    running: Option<Running>,
    last_id: u8,
    next: Option<MediaTime>,
    pause: Duration,
}

impl Default for Prober {
    fn default() -> Self {
        Prober { running: None, last_id: 0, next: None, pause: PAUSE.0 }
    }
}

impl Prober {
    /// Something that needs `wanted` bits per second waits; `known` is what fits for sure.
    pub fn want(&mut self, now: MediaTime, wanted: f64, known: f64) {
        if let Some(running) = &self.running
            && now < running.began + PATIENCE
        {
            return;
        }
        if self.running.take().is_some() {
            self.failed(now);
        }
        if wanted <= known || self.next.is_some_and(|at| now < at) {
            return;
        }
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let target = (wanted * MARGIN).min(known * MAX_STEP);
        let id = self.last_id;
        self.running = Some(Running { id, target, began: now, sending: true, sent: None, arrived: None });
    }

    /// Bytes of padding that are due now; media that was sent in the meantime counts.
    pub fn due(&mut self, now: MediaTime) -> usize {
        let Some(running) = self.running.as_mut().filter(|running| running.sending) else { return 0 };
        let passed = now.micros_since(running.began).max(0);
        let sent = running.sent.map_or(0, |span| span.bytes);
        let packets = running.sent.map_or(0, |span| span.packets);
        if passed >= LENGTH.as_micros() as i64 && packets >= MIN_PACKETS {
            running.sending = false;
            return 0;
        }
        let due = running.target * (passed + LEAD_MICROS) as f64 / 8e6;
        (due - sent as f64).max(0.0) as usize
    }

    /// When more padding is due.
    pub fn next_due(&self) -> Option<MediaTime> {
        let running = self.running.as_ref().filter(|running| running.sending)?;
        let sent = running.sent.map_or(0, |span| span.bytes);
        let paid = (sent as f64 * 8e6 / running.target) as i64 - LEAD_MICROS + 1_000;
        let enough = running.sent.is_some_and(|span| span.packets >= MIN_PACKETS);
        let end = if enough { LENGTH.as_micros() as i64 } else { i64::MAX };
        Some(MediaTime::from_micros(running.began.as_micros() + paid.clamp(0, end)))
    }

    /// The probe that a packet sent now is part of; 0: none.
    pub fn sent(&mut self, now: MediaTime, bytes: usize) -> u8 {
        let Some(running) = self.running.as_mut().filter(|running| running.sending) else { return 0 };
        Span::add(&mut running.sent, now.as_micros(), u16::try_from(bytes).unwrap_or(u16::MAX));
        running.id
    }

    /// A packet of probe `id` arrived.
    pub fn arrived(&mut self, id: u8, at: i64, bytes: u16) {
        if let Some(running) = self.running.as_mut().filter(|running| running.id == id) {
            Span::add(&mut running.arrived, at, bytes);
        }
    }

    /// What the probe showed in bits per second, once enough of it is reported.
    pub fn result(&mut self, now: MediaTime) -> Option<f64> {
        let running = self.running.as_ref().filter(|running| !running.sending)?;
        let (sent, arrived) = (running.sent?, running.arrived?);
        if f64::from(arrived.packets) < f64::from(sent.packets) * MIN_ARRIVED {
            return None;
        }
        let sending = sent.bitrate(sent.at_last);
        // All at one instant of the receiver's clock: as fast as it was sent.
        let arriving = arrived.bitrate(arrived.at_first).or(sending);
        let (sending, arriving) = (sending?, arriving?);
        let full = arriving < sending * UNSATURATED;
        let shown = if full { arriving * USABLE } else { arriving.min(sending) };
        self.running = None;
        if full {
            self.failed(now);
        } else {
            self.pause = PAUSE.0;
            self.next = Some(now);
        }
        Some(shown)
    }

    fn failed(&mut self, now: MediaTime) {
        self.next = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE.1);
    }
}
