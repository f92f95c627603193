//! Calls set up and ended one after the other, for `--calls`: INVITE, ACK, a while, BYE (RFC 3261 §13, §15), so many
//! begun a second, each into a room of its own. A value: answers and time in, requests out.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::phone::{Answer, Codec, Phone};
use super::result::Delays;

/// First interval of repetition, and the time after which there is no answer any more (RFC 3261 §17.1.1.1; shorter).
const T1: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(10);

/// What of telephones to measure.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CallOptions {
    /// Measure how calls are set up and ended instead, this many in all.
    #[arg(long, conflicts_with_all = ["viewers", "legs", "url"])]
    pub calls: Option<usize>,
    /// Calls begun a second.
    #[arg(long, default_value_t = 200)]
    pub cps: u32,
    /// Seconds for which each call lasts.
    #[arg(long, default_value_t = 2)]
    pub talk: u64,
    /// Measure how late telephones and browsers of mixed rooms hear each other instead, in so many rooms.
    #[arg(long, value_name = "ROOMS", conflicts_with_all = ["viewers", "legs", "url", "calls"])]
    pub ear: Option<usize>,
}

/// What became of all calls.
#[derive(Debug, Default)]
pub struct Tally {
    /// Begun.
    pub begun: usize,
    /// Answered with 200.
    pub answered: usize,
    /// Answered and ended with a 200 each.
    pub whole: usize,
    /// What went wrong, and how often.
    pub failed: BTreeMap<String, usize>,
    /// Requests sent once more, because their answer took more than half a second.
    pub repeated: usize,
    /// From the INVITE to its 200.
    pub setups: Delays,
    /// From the BYE to its 200.
    pub endings: Delays,
    /// Calls that stood at once, at most.
    pub most: usize,
}

/// All calls.
pub struct Calls {
    addresses: Addresses,
    total: usize,
    every: Duration,
    talk: Duration,
    began: Instant,
    live: BTreeMap<usize, Live>,
    out: VecDeque<String>,
    /// What became of them.
    pub tally: Tally,
}

/// Who is where.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The server's SIP.
    pub server: SocketAddr,
    /// Our SIP.
    pub own: SocketAddr,
    /// Where all of our telephones take RTP.
    pub rtp: SocketAddr,
}

struct Live {
    phone: Phone,
    stage: Stage,
    /// When its open request was sent first, and is sent again.
    asked: Instant,
    again: Instant,
    interval: Duration,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Calls,
    Talks(Instant),
    Ends,
}

impl Calls {
    /// None begun; the first at `now`.
    pub fn new(options: &CallOptions, addresses: Addresses, now: Instant) -> Self {
        Calls {
            addresses,
            total: options.calls.unwrap_or_default(),
            every: Duration::from_secs(1) / options.cps.max(1),
            talk: Duration::from_secs(options.talk),
            began: now,
            live: BTreeMap::new(),
            out: VecDeque::new(),
            tally: Tally::default(),
        }
    }

    /// Whether all have come to an end.
    pub fn is_over(&self) -> bool {
        self.tally.begun == self.total && self.live.is_empty()
    }

    /// What to send next.
    pub fn poll_output(&mut self) -> Option<String> {
        self.out.pop_front()
    }

    /// Begins what is due, ends what is due, repeats what had no answer; call it every millisecond or so.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self.tally.begun < self.total && now >= self.began + self.every * self.tally.begun as u32 {
            self.begin(now);
        }
        let numbers: Vec<usize> = self.live.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.tend(number, now));
        let standing = self.live.values().filter(|call| call.stage != Stage::Calls).count();
        self.tally.most = self.tally.most.max(standing);
    }

    fn begin(&mut self, now: Instant) {
        let number = self.tally.begun;
        self.tally.begun += 1;
        let phone = Phone::new(number, 1, 0, Codec::Pcmu);
        let call = Live { phone, stage: Stage::Calls, asked: now, again: now + T1, interval: T1 };
        self.out.extend(call.request(&self.addresses));
        self.live.insert(number, call);
    }

    fn tend(&mut self, number: usize, now: Instant) {
        let Some(call) = self.live.get_mut(&number) else { return };
        match call.stage {
            Stage::Talks(until) if now >= until => {
                (call.stage, call.asked, call.again, call.interval) = (Stage::Ends, now, now + T1, T1);
                self.out.extend(call.request(&self.addresses));
            }
            Stage::Talks(_) => {}
            Stage::Calls | Stage::Ends if now >= call.asked + PATIENCE => {
                let what = if call.stage == Stage::Ends { "no answer to BYE" } else { "no answer to INVITE" };
                self.fail(number, what.to_owned());
            }
            Stage::Calls | Stage::Ends if now >= call.again => {
                call.interval *= 2;
                call.again = now + call.interval;
                self.tally.repeated += 1;
                self.out.extend(call.request(&self.addresses));
            }
            Stage::Calls | Stage::Ends => {}
        }
    }

    fn fail(&mut self, number: usize, what: String) {
        self.live.remove(&number);
        *self.tally.failed.entry(what).or_default() += 1;
    }

    /// Takes an answer.
    pub fn handle_answer(&mut self, answer: &Answer<'_>, now: Instant) {
        let Some((number, method)) = answer.call() else { return };
        let Some(call) = self.live.get_mut(&number).filter(|_| answer.status >= 200) else { return };
        match (method, call.stage) {
            ("INVITE", _) if answer.status >= 300 => {
                let (Addresses { server, own, .. }, room) = (self.addresses, room(number));
                self.out.extend(call.phone.ack_refusal(&room, server, own, answer));
                self.fail(number, format!("{} to INVITE", answer.status));
            }
            ("INVITE", Stage::Calls) => match call.phone.answered(answer) {
                Ok(()) => {
                    call.stage = Stage::Talks(now + self.talk);
                    self.tally.answered += 1;
                    self.tally.setups.add(now.duration_since(call.asked).as_nanos() as u64);
                    self.out.extend(call.phone.ack(self.addresses.own));
                }
                Err(error) => self.fail(number, format!("an answer that says too little: {error}")),
            },
            // Ours was lost.
            ("INVITE", _) => self.out.extend(call.phone.ack(self.addresses.own)),
            ("BYE", Stage::Ends) if answer.status >= 300 => {
                self.fail(number, format!("{} to BYE", answer.status));
            }
            ("BYE", Stage::Ends) => {
                self.tally.endings.add(now.duration_since(call.asked).as_nanos() as u64);
                self.tally.whole += 1;
                self.live.remove(&number);
            }
            _ => {}
        }
    }
}

/// Each call has a room of its own.
fn room(number: usize) -> String {
    format!("call{number}")
}

impl Live {
    /// Its open request.
    fn request(&self, addresses: &Addresses) -> Option<String> {
        let Addresses { server, own, rtp } = *addresses;
        match self.stage {
            Stage::Calls => Some(self.phone.invite(&room(self.phone.number), server, own, rtp)),
            Stage::Ends => self.phone.bye(own),
            Stage::Talks(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(request: &str, status: &str) -> String {
        let line =
            |name: &str| request.lines().find(|line| line.starts_with(name)).expect("a header").to_owned();
        let body = "v=0\r\nc=IN IP4 127.0.0.1\r\nm=audio 10002 RTP/AVP 0\r\n";
        let (to, id, cseq) = (line("To:"), line("Call-ID:"), line("CSeq:"));
        format!(
            "SIP/2.0 {status}\r\n{to};tag=b\r\n{id}\r\n{cseq}\r\nContact: <sip:g@127.0.0.1:5060>\r\n\r\n{body}"
        )
    }

    struct Lab {
        calls: Calls,
        now: Instant,
    }

    impl Lab {
        fn new(total: usize) -> Self {
            let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
            let addresses = Addresses { server: address(5060), own: address(4000), rtp: address(4002) };
            let options = CallOptions { calls: Some(total), cps: 10, talk: 1, ear: None };
            let now = Instant::now();
            Lab { calls: Calls::new(&options, addresses, now), now }
        }

        /// Passes so many milliseconds; the server says `status` to what it is asked.
        fn pass(&mut self, millis: u64, status: impl Fn(&str) -> Option<&'static str>) -> Vec<String> {
            let mut sent = Vec::new();
            for _ in 0..millis {
                self.now += Duration::from_millis(1);
                self.calls.handle_timeout(self.now);
                while let Some(request) = self.calls.poll_output() {
                    let method = request.split(' ').next().expect("a method").to_owned();
                    if let Some(status) = status(&method).filter(|_| method != "ACK") {
                        let text = answer(&request, status);
                        let answer = Answer::read(&text).expect("an answer");
                        self.calls.handle_answer(&answer, self.now + Duration::from_micros(300));
                    }
                    sent.push(method);
                }
            }
            sent
        }
    }

    #[test]
    fn calls_begin_at_their_rate_and_end_in_good_order() {
        let mut lab = Lab::new(20);
        let sent = lab.pass(3500, |_| Some("200 OK"));
        let count = |method: &str| sent.iter().filter(|sent| *sent == method).count();
        assert_eq!((count("INVITE"), count("ACK"), count("BYE")), (20, 20, 20));
        assert!(lab.calls.is_over());
        let tally = &mut lab.calls.tally;
        assert_eq!((tally.answered, tally.whole, tally.failed.len(), tally.repeated), (20, 20, 0, 0));
        assert!((9..=11).contains(&tally.most), "{}", tally.most);
        assert_eq!(tally.setups.percentile(99.0), Some(0.3));
    }

    #[test]
    fn refusals_and_silence_are_failures() {
        let mut lab = Lab::new(1);
        let sent = lab.pass(100, |_| Some("503 Service Unavailable"));
        assert_eq!(sent, ["INVITE", "ACK"]);
        assert_eq!(lab.calls.tally.failed.get("503 to INVITE"), Some(&1));
        let mut lab = Lab::new(1);
        let sent = lab.pass(11_000, |_| None);
        assert_eq!(sent.len(), 5, "at 0, 0.5, 1.5, 3.5 and 7.5 s");
        assert_eq!(lab.calls.tally.failed.get("no answer to INVITE"), Some(&1));
        let mut lab = Lab::new(1);
        lab.pass(12_000, |method| (method == "INVITE").then_some("200 OK"));
        assert_eq!((lab.calls.tally.answered, lab.calls.tally.whole), (1, 0));
        assert_eq!(lab.calls.tally.failed.get("no answer to BYE"), Some(&1));
    }
}
