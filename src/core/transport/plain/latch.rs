//! Where the party of a plain leg really is: symmetric RTP (RFC 4961) with a guard against strangers.
//!
//! An SDP names an address that a NAT may have made wrong. So media goes to where media comes from, once a
//! few packets in a row of one SSRC came from there; a packet from the SDP's own address, or one that SRTP
//! proves, is enough alone. Before that only sound goes to the SDP's address, and not for long: it may be
//! somebody's who never asked. Afterwards every other source is ignored, but for the same stream going on
//! from elsewhere after a silence (a NAT that forgot), or an address that the SDP newly names.
//!
//! A controller of the v2 worker channel speaks for itself: what it names is where media goes, and a party of
//! its kind often sends from other ports, one for each stream. So there the host is what is held on to: the one
//! it names, or the first that passes the trial.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::core::rtp::path::Path;
use crate::core::time::MediaTime;
use crate::core::transport::plain::config::LegsConfig;

/// Sources that may be on trial at once.
const MAX_CANDIDATES: usize = 4;
/// A stream on trial may lose so many packets between two.
const MAX_STEP: u16 = 50;
/// A stream that moved may have lost so many: some ten seconds.
const MAX_MOVE: u16 = 1000;
/// After a new SDP address, how long the old source is taken for a late one.
const LINGER: Duration = Duration::from_secs(1);
/// How often an address that never answered is given sound anew by a new SDP.
const MAX_GRANTS: u8 = 3;

/// What a packet's header says of its stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    pub ssrc: u32,
    pub sequence: u16,
    /// SRTP has authenticated it.
    pub proven: bool,
}

/// What the latch makes of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Taken {
    /// It is the party's.
    Ours,
    /// It is the party's, and from now on its address is known, or another.
    Found,
    /// It is not, or not shown to be.
    Not,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    path: Path,
    ssrc: u32,
    sequence: u16,
    count: u8,
}

#[derive(Clone, Copy, Debug)]
struct Chosen {
    path: Path,
    ssrc: u32,
    sequence: u16,
    heard: MediaTime,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Latch {
    packets: u8,
    guard: Duration,
    unlatched: Duration,
    rebind: Duration,
    /// An address is out of an SDP, and may be wrong.
    learn: bool,
    sdp: Option<SocketAddr>,
    since: MediaTime,
    granted: MediaTime,
    grants: u8,
    chosen: Option<Chosen>,
    /// Where a handshake showed the party to be, before any media.
    vouched: Option<Path>,
    former: Option<Path>,
    candidates: Vec<Candidate>,
    /// Packets that were not the party's.
    pub ignored: u64,
    /// Where the last of them came from.
    pub stranger: Option<SocketAddr>,
}

impl Latch {
    /// One that has been told no address; `learn`: the SDP's may be wrong.
    pub fn new(config: &LegsConfig, learn: bool) -> Self {
        Latch {
            packets: config.latch_packets.max(1),
            guard: config.guard(),
            unlatched: config.unlatched(),
            rebind: config.rebind(),
            learn,
            sdp: None,
            since: MediaTime::default(),
            granted: MediaTime::default(),
            grants: 0,
            chosen: None,
            vouched: None,
            former: None,
            candidates: Vec::new(),
            ignored: 0,
            stranger: None,
        }
    }

    /// The SDP's address, at first or again. Another than before makes the latch begin anew.
    pub fn arm(&mut self, now: MediaTime, sdp: SocketAddr) {
        let known = self.sdp == Some(sdp);
        if known && self.chosen.is_some() {
            return;
        }
        if let Some(chosen) = self.chosen.take() {
            self.former = Some(chosen.path);
            self.grants = 0;
        }
        if self.grants < MAX_GRANTS {
            self.granted = now;
            self.grants = self.grants.saturating_add(1);
        }
        if !known {
            self.vouched = None;
        }
        (self.sdp, self.since) = (Some(sdp), now);
        self.candidates.clear();
    }

    /// Judges a packet.
    pub fn take(&mut self, now: MediaTime, path: Path, stream: Stream) -> Taken {
        let taken = self.judge(now, path, stream);
        if taken == Taken::Not {
            self.ignored = self.ignored.saturating_add(1);
            self.stranger = Some(path.remote());
        }
        taken
    }

    fn judge(&mut self, now: MediaTime, path: Path, stream: Stream) -> Taken {
        if !self.learn {
            return self.judge_host(now, path, stream);
        }
        let Some(sdp) = self.sdp else { return Taken::Not };
        if let Some(chosen) = &mut self.chosen
            && chosen.path.remote() == path.remote()
        {
            // The SSRC is judged by who reads the streams: a party may change it.
            *chosen = Chosen { path, ssrc: stream.ssrc, sequence: stream.sequence, heard: now };
            return Taken::Ours;
        }
        if let Some(chosen) = self.chosen {
            let step = stream.sequence.wrapping_sub(chosen.sequence);
            let moved = stream.ssrc == chosen.ssrc && (1..=MAX_MOVE).contains(&step);
            // Also what is proven must wait: whoever sits on the way could send a copy ahead.
            let silent = !self.is_speaking(now, &chosen);
            return match silent && (stream.proven || (moved && self.try_out(path, stream))) {
                true => self.choose(now, path, stream),
                false => Taken::Not,
            };
        }
        if stream.proven || path.remote() == sdp {
            return self.choose(now, path, stream);
        }
        let age = now.micros_since(self.since);
        let late = self.former.is_some_and(|former| former.remote() == path.remote()) && age < micros(LINGER);
        if age > micros(self.guard) || late || !self.try_out(path, stream) {
            return Taken::Not;
        }
        self.choose(now, path, stream)
    }

    /// The same where addresses are right and ports of what comes say nothing.
    fn judge_host(&mut self, now: MediaTime, path: Path, stream: Stream) -> Taken {
        let known = self.chosen.filter(|chosen| self.same(&chosen.path, &path));
        if let Some(chosen) = known {
            self.chosen = Some(Chosen { heard: now, ..chosen });
            return Taken::Ours;
        }
        let named = self.sdp.is_some_and(|sdp| sdp.ip() == path.remote().ip());
        let taken = self.chosen.is_some_and(|chosen| self.is_speaking(now, &chosen));
        match named || (!taken && (stream.proven || self.try_out(path, stream))) {
            true => self.choose(now, path, stream),
            false => Taken::Not,
        }
    }

    /// Whether what comes by both paths comes from one party.
    fn same(&self, one: &Path, other: &Path) -> bool {
        let (one, other) = (one.remote(), other.remote());
        one == other || (!self.learn && one.ip() == other.ip())
    }

    fn is_speaking(&self, now: MediaTime, chosen: &Chosen) -> bool {
        now.micros_since(chosen.heard) < micros(self.rebind)
    }

    /// Whether a packet from there has no chance, whatever is in it: nothing need be decrypted.
    pub fn is_hopeless(&mut self, now: MediaTime, path: &Path) -> bool {
        let other = self.chosen.filter(|chosen| !self.same(&chosen.path, path));
        let hopeless = other.is_some_and(|chosen| self.is_speaking(now, &chosen));
        if hopeless {
            self.ignored = self.ignored.saturating_add(1);
            self.stranger = Some(path.remote());
        }
        hopeless
    }

    /// A handshake has shown that the party is at `path`.
    pub fn vouch(&mut self, path: Path) {
        self.vouched = Some(path);
    }

    /// Whether what comes over `path` may be the party's, before anything in it has been looked at.
    pub fn may_be_it(&self, now: MediaTime, path: &Path) -> bool {
        let Some(sdp) = self.sdp else { return false };
        match self.chosen {
            Some(chosen) => chosen.path.remote() == path.remote() || !self.is_speaking(now, &chosen),
            None if path.remote() == sdp => true,
            None => self.learn && now.micros_since(self.since) <= micros(self.guard),
        }
    }

    /// Counts a packet of a source on trial; `true` when it has passed.
    fn try_out(&mut self, path: Path, stream: Stream) -> bool {
        let known = self.candidates.iter_mut().find(|other| other.path.remote() == path.remote());
        let Some(candidate) = known else {
            if self.candidates.len() >= MAX_CANDIDATES {
                self.candidates.remove(0);
            }
            let Stream { ssrc, sequence, .. } = stream;
            self.candidates.push(Candidate { path, ssrc, sequence, count: 1 });
            return self.packets <= 1;
        };
        let step = stream.sequence.wrapping_sub(candidate.sequence);
        let goes_on = candidate.ssrc == stream.ssrc && (1..=MAX_STEP).contains(&step);
        candidate.count = if goes_on { candidate.count.saturating_add(1) } else { 1 };
        (candidate.ssrc, candidate.sequence) = (stream.ssrc, stream.sequence);
        candidate.count >= self.packets
    }

    fn choose(&mut self, now: MediaTime, path: Path, stream: Stream) -> Taken {
        let Stream { ssrc, sequence, .. } = stream;
        self.chosen = Some(Chosen { path, ssrc, sequence, heard: now });
        self.former = None;
        self.candidates.clear();
        Taken::Found
    }

    /// Where the party was found to be.
    pub fn found(&self) -> Option<Path> {
        self.chosen.map(|chosen| chosen.path)
    }

    /// Whether the party is at `ip`, as far as is known.
    pub fn is_at(&self, ip: IpAddr) -> bool {
        let named = self.sdp.is_some_and(|sdp| sdp.ip() == ip);
        self.found().map_or(named, |found| found.remote().ip() == ip || (named && !self.learn))
    }

    /// The party's address, as far as is known.
    pub fn remote(&self) -> Option<SocketAddr> {
        let found = self.found().filter(|_| self.learn);
        found.map(|path| path.remote()).or(self.sdp)
    }

    /// The address of its SDP.
    pub fn sdp(&self) -> Option<SocketAddr> {
        self.sdp
    }

    /// Where to send now through `socket`: sound, or anything (`careful`: not before the party was found).
    pub fn target(&self, now: MediaTime, socket: u32, careful: bool) -> Option<Path> {
        if let Some(chosen) = self.chosen.filter(|_| self.learn) {
            return Some(chosen.path);
        }
        if self.vouched.is_some() {
            return self.vouched;
        }
        let remote = self.sdp.filter(is_one_host)?;
        let granted = now.micros_since(self.granted) <= micros(self.unlatched);
        (!self.learn || (granted && !careful)).then_some(Path::toward(socket, remote))
    }
}

/// Whether one party can be there: an old hold names the address 0.0.0.0, and nobody is sent to by a group.
fn is_one_host(address: &SocketAddr) -> bool {
    let broadcast = matches!(address.ip(), IpAddr::V4(v4) if v4.is_broadcast());
    let ip = address.ip();
    !(ip.is_unspecified() || ip.is_multicast() || broadcast || address.port() == 0)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    fn path(remote: &str) -> Path {
        Path::Udp { socket: 256, local: [192, 0, 2, 1].into(), remote: remote.parse().unwrap() }
    }

    fn stream(ssrc: u32, sequence: u16) -> Stream {
        Stream { ssrc, sequence, proven: false }
    }

    fn ms(millis: i64) -> MediaTime {
        MediaTime::from_millis(millis)
    }

    const SDP: &str = "10.0.0.9:4000";
    const REAL: &str = "198.51.100.7:61000";
    const OTHER: &str = "203.0.113.5:5000";

    fn armed() -> Latch {
        let mut latch = Latch::new(&LegsConfig::default(), true);
        assert_eq!(latch.take(ms(0), path(SDP), stream(1, 1)), Taken::Not, "before any SDP");
        latch.arm(ms(0), SDP.parse().unwrap());
        latch
    }

    fn feed(latch: &mut Latch, at: i64, from: &str, ssrc: u32, sequences: &[u16]) -> Vec<Taken> {
        sequences.iter().map(|sequence| latch.take(ms(at), path(from), stream(ssrc, *sequence))).collect()
    }

    #[test]
    fn a_few_packets_in_a_row_of_one_stream_are_needed() {
        use Taken::{Found, Not, Ours};
        let mut latch = armed();
        assert_eq!(feed(&mut latch, 10, REAL, 7, &[1, 2]), [Not, Not]);
        assert_eq!(feed(&mut latch, 10, REAL, 8, &[3, 4]), [Not, Not], "another SSRC begins again");
        assert_eq!(feed(&mut latch, 10, REAL, 8, &[4, 2]), [Not, Not], "so does a number that does not grow");
        assert_eq!(feed(&mut latch, 10, OTHER, 9, &[1, 2]), [Not, Not]);
        assert_eq!(feed(&mut latch, 10, REAL, 8, &[3, 5, 6]), [Not, Found, Ours]);
        assert_eq!(latch.found().map(|path| path.remote().to_string()).as_deref(), Some(REAL));
        let before = latch.ignored;
        assert_eq!(feed(&mut latch, 20, OTHER, 8, &[7, 8, 9, 10]), [Not; 4], "and nobody else after it");
        assert_eq!(feed(&mut latch, 20, SDP, 8, &[7]), [Not], "not even the SDP's address");
        assert_eq!((latch.ignored - before, latch.stranger), (5, Some(SDP.parse().unwrap())));
    }

    #[test]
    fn the_sdps_own_address_and_a_proof_are_enough_alone() {
        let mut latch = armed();
        assert_eq!(feed(&mut latch, 0, SDP, 7, &[1]), [Taken::Found]);
        let proven = Stream { proven: true, ..stream(7, 2) };
        assert_eq!(latch.take(ms(1), path(OTHER), proven), Taken::Not, "the party speaks from elsewhere");
        assert!(latch.is_hopeless(ms(1), &path(OTHER)) && !latch.is_hopeless(ms(1), &path(SDP)));
        assert!(!latch.is_hopeless(ms(500), &path(OTHER)));
        assert_eq!(latch.take(ms(500), path(OTHER), proven), Taken::Found, "a proven one needs no trial");
    }

    #[test]
    fn nobody_is_found_after_the_guard_but_the_sdps_address() {
        let mut latch = armed();
        assert_eq!(feed(&mut latch, 10_001, REAL, 7, &[1, 2, 3, 4]), [Taken::Not; 4]);
        assert_eq!(feed(&mut latch, 60_000, SDP, 7, &[1]), [Taken::Found]);
    }

    #[test]
    fn a_forgetful_nat_is_followed_and_an_impostor_is_not() {
        let mut latch = armed();
        feed(&mut latch, 0, REAL, 7, &[1, 2, 3]);
        let moved = "198.51.100.7:61044";
        assert_eq!(feed(&mut latch, 400, moved, 7, &[4, 5, 6]), [Taken::Not; 3], "the party just spoke");
        assert_eq!(feed(&mut latch, 900, OTHER, 8, &[4, 5, 6]), [Taken::Not; 3], "another stream");
        assert_eq!(feed(&mut latch, 900, OTHER, 7, &[30_000, 30_001, 30_002]), [Taken::Not; 3]);
        let found = feed(&mut latch, 900, moved, 7, &[30, 31, 32]);
        assert_eq!(found, [Taken::Not, Taken::Not, Taken::Found]);
        assert_eq!(latch.found(), Some(path(moved)));
    }

    #[test]
    fn a_new_sdp_begins_anew_and_late_packets_of_the_old_do_not_count() {
        let mut latch = armed();
        feed(&mut latch, 0, REAL, 7, &[1, 2, 3]);
        latch.arm(ms(1000), SDP.parse().unwrap());
        assert!(latch.found().is_some(), "the same address changes nothing");
        latch.arm(ms(2000), "192.0.2.77:9000".parse().unwrap());
        assert_eq!(latch.found(), None);
        assert_eq!(feed(&mut latch, 2100, REAL, 7, &[4, 5, 6, 7]), [Taken::Not; 4]);
        assert_eq!(feed(&mut latch, 2200, OTHER, 8, &[1, 2, 3])[2], Taken::Found);
        latch.arm(ms(9000), SDP.parse().unwrap());
        assert_eq!(
            feed(&mut latch, 10_100, OTHER, 8, &[60, 61, 62])[2],
            Taken::Found,
            "it went on after all"
        );
    }

    #[test]
    fn before_it_is_found_only_sound_goes_out_and_not_for_long() {
        let mut latch = armed();
        let sdp: SocketAddr = SDP.parse().unwrap();
        let to = |latch: &Latch, at, careful| latch.target(ms(at), 256, careful).map(|path| path.remote());
        assert_eq!(to(&latch, 4999, false), Some(sdp));
        assert_eq!(to(&latch, 0, true), None, "no pictures");
        assert_eq!(to(&latch, 5001, false), None);
        for at in [6000, 12_000, 18_000, 24_000] {
            latch.arm(ms(at), sdp);
        }
        assert_eq!(to(&latch, 16_999, false), Some(sdp));
        assert_eq!(to(&latch, 24_001, false), None, "asking again and again gives no more");
        feed(&mut latch, 24_001, REAL, 7, &[1, 2, 3]);
        assert_eq!(to(&latch, 90_000, true).map(|to| to.to_string()).as_deref(), Some(REAL));
        for nobody in ["0.0.0.0:4000", "224.0.0.5:4000", "255.255.255.255:9", "192.0.2.1:0", "[ff02::1]:5"] {
            let mut latch = Latch::new(&LegsConfig::default(), true);
            latch.arm(ms(0), nobody.parse().unwrap());
            assert_eq!(to(&latch, 0, false), None, "{nobody}");
            assert_eq!(feed(&mut latch, 0, REAL, 7, &[1, 2, 3])[2], Taken::Found);
        }
        let mut fixed = Latch::new(&LegsConfig::default(), false);
        fixed.arm(ms(0), sdp);
        assert_eq!(to(&fixed, 90_000, true), Some(sdp), "a trusted address");
    }

    #[test]
    fn a_host_that_a_controller_names_sends_from_any_port_and_others_only_in_its_stead() {
        use Taken::{Found, Not, Ours};
        let mut latch = Latch::new(&LegsConfig::default(), false);
        assert_eq!(feed(&mut latch, 0, OTHER, 7, &[1, 2, 3]), [Not, Not, Found], "nobody was named");
        assert_eq!(feed(&mut latch, 0, "203.0.113.5:5002", 8, &[90]), [Ours], "its other stream");
        assert_eq!(feed(&mut latch, 100, REAL, 9, &[1, 2, 3, 4]), [Not; 4]);
        assert_eq!(feed(&mut latch, 90_000, REAL, 9, &[1, 2, 3]), [Not, Not, Found], "long silent");
        assert_eq!((latch.target(ms(0), 256, false), latch.remote()), (None, None), "no address was named");
        latch.arm(ms(90_000), SDP.parse().unwrap());
        assert_eq!(feed(&mut latch, 90_001, "10.0.0.9:9", 1, &[5]), [Found], "the one that is named");
        let to = latch.target(ms(90_001), 256, true).map(|path| path.remote());
        assert_eq!((to, latch.remote()), (Some(SDP.parse().unwrap()), Some(SDP.parse().unwrap())));
        assert!(latch.is_at("10.0.0.9".parse().unwrap()) && !latch.is_at("203.0.113.5".parse().unwrap()));
    }
}
