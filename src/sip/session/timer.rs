//! Session timers (RFC 4028): who refreshes a call, how often, and when it counts as dead.

use std::time::Duration;

use crate::sip::config::CallConfig;
use crate::sip::wire::{Headers, value};

/// However brief an interval the other side names, in seconds: no call is refreshed more than ten times a minute.
const BRIEFEST: u32 = 10;

/// What the two sides agreed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SessionTimer {
    /// The interval, in seconds.
    pub interval: u32,
    /// We refresh.
    pub ours: bool,
}

/// The interval is below what we take; the answer is 422 with this `Min-SE`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TooSmall(pub u32);

impl SessionTimer {
    /// When to refresh: at half of the interval (RFC 4028 §7.2).
    pub fn refresh_after(self) -> Duration {
        Duration::from_secs(u64::from(self.interval / 2))
    }

    /// When to give the call up, if nobody refreshed (RFC 4028 §10).
    pub fn dead_after(self) -> Duration {
        let early = (self.interval / 3).min(32);
        Duration::from_secs(u64::from(self.interval - early))
    }

    /// `Session-Expires` as the side that answers a request writes it; `uac` asked.
    pub fn in_response(self) -> String {
        format!("{};refresher={}", self.interval, if self.ours { "uas" } else { "uac" })
    }

    /// `Session-Expires` of a request of ours.
    pub fn in_request(self) -> String {
        format!("{};refresher={}", self.interval, if self.ours { "uac" } else { "uas" })
    }

    /// What we answer to a request's wishes (RFC 4028 §9).
    pub fn answer(headers: &Headers, config: &CallConfig) -> Result<Option<Self>, TooSmall> {
        let min = config.min_se_s;
        let supported = headers.lists("Supported", "timer") || headers.lists("Require", "timer");
        let Some((asked, refresher)) = read(headers) else {
            if config.session_expires_s == 0 {
                return Ok(None);
            }
            // Nobody asked. We may still refresh, which any party answers.
            let least = min_se(headers).unwrap_or(min);
            return Ok(Some(SessionTimer {
                interval: config.session_expires_s.max(min).max(least),
                ours: true,
            }));
        };
        if asked < min && supported {
            return Err(TooSmall(min));
        }
        let interval = asked.max(min);
        // One that cannot do timers got the header from a proxy: only we can refresh.
        let ours = !supported || refresher == Some(Refresher::Uas);
        Ok(Some(SessionTimer { interval, ours }))
    }

    /// What a 2xx to our request says (RFC 4028 §7.2).
    pub fn accepted(headers: &Headers, asked: Option<u32>) -> Option<Self> {
        match read(headers) {
            Some((interval, refresher)) => {
                let ours = refresher != Some(Refresher::Uas);
                Some(SessionTimer { interval: interval.max(BRIEFEST), ours })
            }
            // The other side does not know timers; we refresh, as we said we would.
            None => asked.map(|interval| SessionTimer { interval, ours: true }),
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Refresher {
    Uac,
    Uas,
}

fn read(headers: &Headers) -> Option<(u32, Option<Refresher>)> {
    let line = headers.get("Session-Expires")?;
    let interval = line.split(';').next()?.trim().parse().ok()?;
    let refresher =
        value::param(line, "refresher").and_then(|name| match name.to_ascii_lowercase().as_str() {
            "uac" => Some(Refresher::Uac),
            "uas" => Some(Refresher::Uas),
            _ => None,
        });
    Some((interval, refresher))
}

/// `Min-SE`.
pub fn min_se(headers: &Headers) -> Option<u32> {
    headers.get("Min-SE")?.split(';').next()?.trim().parse().ok()
}
