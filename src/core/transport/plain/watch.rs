//! Whether a leg is alive, and in both directions: no packets for a time, nothing after the connection, or
//! nothing of ours heard by the other side. Silence is no fault, and neither is a hold.

use std::time::Duration;

use crate::core::time::MediaTime;
use crate::core::transport::plain::config::LegsConfig;

/// Reports that say nothing of our stream before that means something.
const REPORTS: u32 = 2;

/// What is wrong with a leg.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Trouble {
    /// Nothing came for the time that makes the leg dead.
    Timeout,
    /// Nothing has come since the connection.
    Deaf,
    /// We send, and the party's reports say that nothing arrives.
    Unheard,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Watch {
    timeout: Option<Duration>,
    one_way: Duration,
    /// The party should send now, since then.
    expected: Option<MediaTime>,
    /// It wants our media.
    wanted: bool,
    heard: Option<MediaTime>,
    /// Media came since the connection, not only reports.
    media: bool,
    sending: Option<MediaTime>,
    /// Reports since we began to send that name no stream of ours.
    unnamed: u32,
    named: bool,
    told_timeout: bool,
    told_deaf: bool,
    told_unheard: bool,
}

impl Watch {
    /// `timeout_ms`: without a packet, where it was said; 0 for never.
    pub fn new(config: &LegsConfig, timeout_ms: Option<u64>) -> Self {
        let millis = timeout_ms.unwrap_or(config.media_timeout_ms);
        Watch {
            timeout: (millis > 0).then(|| Duration::from_millis(millis)),
            one_way: config.one_way(),
            expected: None,
            wanted: false,
            heard: None,
            media: false,
            sending: None,
            unnamed: 0,
            named: false,
            told_timeout: false,
            told_deaf: false,
            told_unheard: false,
        }
    }

    /// The party's SDP was taken; `anew`: it is somewhere else now, so what was heard before counts no more.
    pub fn connect(&mut self, now: MediaTime, sends: bool, wants: bool, anew: bool) {
        if anew {
            (self.heard, self.media, self.sending) = (None, false, None);
            (self.unnamed, self.named) = (0, false);
            (self.told_deaf, self.told_unheard, self.told_timeout) = (false, false, false);
        }
        // What is agreed on after a timeout, such as the answer to a call that rang with an early media nobody sent,
        // has its time again.
        let again = std::mem::take(&mut self.told_timeout);
        self.expected = match (sends, self.expected) {
            (true, Some(since)) if !anew && !again => Some(since),
            (true, _) => Some(now),
            (false, _) => None,
        };
        self.wanted = wants;
        if !wants {
            (self.sending, self.unnamed) = (None, 0);
        }
    }

    /// Something of the party's came, media or only a report.
    pub fn hear(&mut self, now: MediaTime, media: bool) {
        self.heard = Some(now);
        self.media |= media;
        self.told_timeout = false;
    }

    /// Something was sent to it.
    pub fn send(&mut self, now: MediaTime) {
        if self.wanted {
            self.sending.get_or_insert(now);
        }
    }

    /// It reported; `names`: on a stream of ours.
    pub fn report(&mut self, now: MediaTime, names: bool) {
        self.named |= names;
        let long =
            self.sending.is_some_and(|since| now.micros_since(since) > self.one_way.as_micros() as i64);
        if !names && long {
            self.unnamed += 1;
        }
    }

    fn deaf_at(&self) -> Option<MediaTime> {
        let since = self.expected.filter(|_| !self.media && !self.told_deaf)?;
        Some(since + self.one_way)
    }

    fn timeout_at(&self) -> Option<MediaTime> {
        let since = self.expected.filter(|_| !self.told_timeout)?;
        Some(self.heard.map_or(since, |heard| heard.max(since)) + self.timeout?)
    }

    /// When to call [`Watch::poll`].
    pub fn due(&self) -> Option<MediaTime> {
        self.deaf_at().into_iter().chain(self.timeout_at()).min()
    }

    /// What is wrong since the last call; call until nothing is.
    pub fn poll(&mut self, now: MediaTime) -> Option<Trouble> {
        if self.deaf_at().is_some_and(|at| now >= at) {
            self.told_deaf = true;
            return Some(Trouble::Deaf);
        }
        if self.timeout_at().is_some_and(|at| now >= at) {
            self.told_timeout = true;
            return Some(Trouble::Timeout);
        }
        if self.unnamed >= REPORTS && !self.named && !std::mem::replace(&mut self.told_unheard, true) {
            return Some(Trouble::Unheard);
        }
        None
    }

    /// Whether anything was sent since the connection.
    pub fn is_sending(&self) -> bool {
        self.sending.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: i64) -> MediaTime {
        MediaTime::from_millis(millis)
    }

    fn connected() -> Watch {
        let mut watch = Watch::new(&LegsConfig::default(), None);
        assert_eq!(watch.due(), None, "nothing is expected before the SDP");
        watch.connect(ms(0), true, true, true);
        watch
    }

    #[test]
    fn nothing_at_all_is_said_after_three_seconds_and_is_death_after_thirty() {
        let mut watch = connected();
        assert_eq!(watch.due(), Some(ms(3000)));
        assert_eq!(watch.poll(ms(2999)), None);
        assert_eq!(watch.poll(ms(3000)), Some(Trouble::Deaf));
        assert_eq!((watch.poll(ms(3000)), watch.due()), (None, Some(ms(30_000))));
        assert_eq!(watch.poll(ms(30_000)), Some(Trouble::Timeout));
        assert_eq!((watch.poll(ms(90_000)), watch.due()), (None, None), "said once");
        watch.hear(ms(90_000), true);
        assert_eq!(watch.poll(ms(120_000)), Some(Trouble::Timeout), "it came back and went again");
    }

    #[test]
    fn what_is_agreed_on_after_a_timeout_has_its_time_again() {
        let mut watch = connected();
        assert_eq!(watch.poll(ms(3000)), Some(Trouble::Deaf));
        assert_eq!(watch.poll(ms(30_000)), Some(Trouble::Timeout));
        watch.connect(ms(50_000), true, true, false);
        assert_eq!((watch.poll(ms(79_999)), watch.due()), (None, Some(ms(80_000))));
        assert_eq!(watch.poll(ms(80_000)), Some(Trouble::Timeout));
    }

    #[test]
    fn a_hold_is_no_silence() {
        let mut watch = connected();
        watch.hear(ms(20), true);
        watch.connect(ms(10_000), false, false, false);
        assert_eq!((watch.due(), watch.poll(ms(2_000_000))), (None, None));
        watch.connect(ms(1_200_000), true, true, false);
        assert_eq!(watch.due(), Some(ms(1_230_000)), "counted from the end of the hold");
        watch.hear(ms(1_200_020), true);
        assert_eq!(watch.poll(ms(1_210_000)), None);
    }

    #[test]
    fn reports_that_never_name_our_stream_tell_that_it_does_not_arrive() {
        let mut watch = connected();
        watch.hear(ms(0), true);
        watch.report(ms(5000), false);
        watch.send(ms(5000));
        watch.report(ms(6000), false);
        assert_eq!(watch.poll(ms(6000)), None, "too early to tell");
        watch.report(ms(9000), false);
        watch.report(ms(14_000), false);
        assert_eq!(watch.poll(ms(14_000)), Some(Trouble::Unheard));
        assert_eq!(watch.poll(ms(14_001)), None);
        let mut watch = connected();
        watch.hear(ms(0), true);
        watch.send(ms(0));
        watch.report(ms(5000), true);
        watch.report(ms(10_000), false);
        watch.report(ms(15_000), false);
        assert_eq!(watch.poll(ms(15_000)), None);
    }

    #[test]
    fn a_time_of_its_own_or_none() {
        let mut watch = Watch::new(&LegsConfig::default(), Some(0));
        watch.connect(ms(0), true, true, true);
        watch.hear(ms(1), true);
        assert_eq!(watch.due(), None);
        let mut watch = Watch::new(&LegsConfig::default(), Some(5000));
        watch.connect(ms(0), true, true, true);
        watch.hear(ms(1), true);
        assert_eq!(watch.due(), Some(ms(5001)));
    }
}
