//! Data channels between two parties, in good and bad weather; DTLS is left out.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::core::data::{DataCommand, DataEvent, DataKind, DataMessage, Delivery, SctpStreamParameters};
use crate::webrtc::SctpConfig;
use crate::webrtc::session::channels::Channels;

const MTU: usize = 1_200;
const SECOND: Duration = Duration::from_secs(1);
const LOSSY: Delivery = Delivery { ordered: false, max_packet_life_time: None, max_retransmits: Some(0) };

/// One of two parties.
const A: usize = 0;
const B: usize = 1;

#[derive(Clone, Copy)]
struct Weather {
    loss: u64,
    twice: u64,
    jitter_ms: u64,
}

const FAIR: Weather = Weather { loss: 0, twice: 0, jitter_ms: 0 };
const FOUL: Weather = Weather { loss: 10, twice: 10, jitter_ms: 60 };

struct Link {
    now: Instant,
    ends: [Channels; 2],
    events: [Vec<DataEvent>; 2],
    flying: Vec<(Instant, usize, Vec<u8>)>,
    weather: Weather,
    /// Packets to this party are lost.
    deaf: Option<usize>,
    largest: usize,
    sent: usize,
    seed: u64,
}

impl Link {
    fn new(config: SctpConfig) -> Link {
        let end = |name: &str| Channels::new(&config, MTU, name.to_owned());
        Link {
            now: Instant::now(),
            ends: [end("a"), end("b")],
            events: [Vec::new(), Vec::new()],
            flying: Vec::new(),
            weather: FAIR,
            deaf: None,
            largest: 0,
            sent: 0,
            seed: 7,
        }
    }

    fn connected(config: SctpConfig) -> Link {
        let mut link = Link::new(config);
        link.start();
        assert!(link.run(5 * SECOND, |link| link.state(A) == "connected" && link.state(B) == "connected"));
        link
    }

    fn start(&mut self) {
        for (end, client) in [(A, true), (B, false)] {
            self.ends[end].start(self.now, client);
            self.drain(end);
        }
    }

    fn command(&mut self, end: usize, command: DataCommand) -> Result<Value, String> {
        let result = self.ends[end].command(self.now, command, end == A);
        self.drain(end);
        result
    }

    fn take(&mut self, end: usize, stream_id: u16, delivery: Delivery) {
        let parameters = SctpStreamParameters { stream_id, delivery };
        self.command(end, DataCommand::Take(parameters)).expect("take");
    }

    fn open(&mut self, end: usize, stream: Option<u16>, delivery: Delivery) -> u16 {
        let answer = self.command(end, DataCommand::Open { stream, delivery, announce: None }).expect("open");
        answer["streamId"].as_u64().expect("a stream") as u16
    }

    /// A channel from A to B, and its stream.
    fn channel(&mut self, delivery: Delivery) -> u16 {
        let stream = self.open(A, None, delivery);
        self.take(B, stream, delivery);
        stream
    }

    fn send(&mut self, end: usize, stream: u16, message: DataMessage) -> Result<Value, String> {
        self.command(end, DataCommand::Send { stream, message })
    }

    fn messages(&self, end: usize) -> Vec<&DataMessage> {
        let mut messages = Vec::new();
        for event in &self.events[end] {
            if let DataEvent::Message { message, .. } = event {
                messages.push(message);
            }
        }
        messages
    }

    /// The numbers that `numbered` messages bear.
    fn numbers(&self, end: usize) -> Vec<u32> {
        let number =
            |message: &&DataMessage| u32::from_be_bytes(*message.payload.first_chunk().expect("four"));
        self.messages(end).iter().map(number).collect()
    }

    fn closed(&self, end: usize) -> Vec<(u16, &'static str)> {
        let of = |event: &DataEvent| match event {
            DataEvent::Closed { stream, reason } => Some((*stream, *reason)),
            _ => None,
        };
        self.events[end].iter().filter_map(of).collect()
    }

    fn state(&self, end: usize) -> String {
        self.ends[end].dump().0.as_str().expect("a state").to_owned()
    }

    fn pass(&mut self, time: Duration) {
        self.run(time, |_| false);
    }

    /// Lets virtual time pass, at most `limit`, until `done`.
    fn run(&mut self, limit: Duration, mut done: impl FnMut(&Link) -> bool) -> bool {
        let end = self.now + limit;
        while !done(self) {
            let flying = self.flying.iter().map(|(at, ..)| *at).min();
            let timeouts = self.ends.iter().filter_map(Channels::poll_timeout);
            let Some(next) = timeouts.chain(flying).min().filter(|at| *at <= end) else {
                self.now = end;
                return done(self);
            };
            self.now = next.max(self.now);
            self.deliver();
            for end in [A, B] {
                self.ends[end].handle_timeout(self.now);
                self.drain(end);
            }
        }
        true
    }

    fn deliver(&mut self) {
        let now = self.now;
        let (arrived, flying): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.flying).into_iter().partition(|(at, ..)| *at <= now);
        self.flying = flying;
        for (_, to, packet) in arrived {
            self.ends[to].handle_packet(now, &packet);
            self.drain(to);
        }
    }

    fn drain(&mut self, end: usize) {
        while let Some(event) = self.ends[end].poll_event() {
            self.events[end].push(event);
        }
        while let Some(packet) = self.ends[end].poll_packet() {
            self.largest = self.largest.max(packet.len());
            self.sent += 1;
            let copies = if self.random(100) < self.weather.twice { 2 } else { 1 };
            for _ in 0..copies {
                if self.random(100) >= self.weather.loss && self.deaf != Some(1 - end) {
                    let late = Duration::from_millis(20 + self.random(self.weather.jitter_ms + 1));
                    self.flying.push((self.now + late, 1 - end, packet.to_vec()));
                }
            }
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % below
    }
}

fn numbered(number: u32, length: usize) -> DataMessage {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize(length.max(4), number as u8);
    DataMessage::binary(bytes)
}

#[test]
fn messages_of_every_kind_arrive_as_they_were_sent() {
    let mut link = Link::connected(SctpConfig::default());
    let stream = link.channel(Delivery::RELIABLE);
    let sent = [
        DataMessage::text("grüß dich"),
        DataMessage::text(""),
        DataMessage::binary(Vec::new()),
        DataMessage::binary(vec![0]),
        DataMessage::binary((0..100_000).map(|n| n as u8).collect::<Vec<_>>()),
        DataMessage::binary(vec![3; 262_144]),
    ];
    for message in &sent {
        link.send(A, stream, message.clone()).expect("sent");
    }
    assert!(link.run(10 * SECOND, |link| link.messages(B).len() == sent.len()));
    assert!(link.messages(B).into_iter().eq(&sent));
    assert!(link.largest <= MTU - 40, "{} bytes with DTLS around them are too many", link.largest);
    let refused = link.send(A, stream, DataMessage::binary(vec![0; 262_145]));
    assert!(refused.is_err_and(|reason| reason.contains("262144")));
    assert!(link.closed(A).is_empty(), "a message that is too long costs nothing else");
}

#[test]
fn bad_weather_costs_a_reliable_channel_nothing_but_time() {
    for seed in 1..6 {
        let mut link = Link::new(SctpConfig::default());
        (link.seed, link.weather) = (seed * 991, FOUL);
        link.start();
        let stream = link.channel(Delivery::RELIABLE);
        let back = link.open(B, None, Delivery::RELIABLE);
        link.take(A, back, Delivery::RELIABLE);
        for number in 0..60 {
            link.send(A, stream, numbered(number, 10 + 97 * number as usize)).expect("sent");
            link.send(B, back, numbered(number, 4_000)).expect("sent");
        }
        let all = |link: &Link| link.messages(A).len() == 60 && link.messages(B).len() == 60;
        assert!(
            link.run(300 * SECOND, all),
            "seed {seed}: {} {}",
            link.numbers(A).len(),
            link.numbers(B).len()
        );
        assert!(link.numbers(B).into_iter().eq(0..60), "seed {seed}");
        assert!(link.numbers(A).into_iter().eq(0..60), "seed {seed}");
        assert!(link.messages(B).iter().zip(0..).all(|(it, n)| **it == numbered(n, 10 + 97 * n as usize)));
    }
}

#[test]
fn unordered_messages_do_not_wait_for_each_other() {
    let mut link = Link::connected(SctpConfig::default());
    let delivery = Delivery { ordered: false, ..Delivery::RELIABLE };
    let stream = link.channel(delivery);
    link.weather = Weather { jitter_ms: 200, ..FAIR };
    for number in 0..40 {
        link.send(A, stream, numbered(number, 900)).expect("sent");
    }
    assert!(link.run(30 * SECOND, |link| link.messages(B).len() == 40));
    let mut numbers = link.numbers(B);
    assert!(!numbers.is_sorted(), "{numbers:?}");
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..40));
}

#[test]
fn a_channel_without_retransmissions_loses_what_the_link_loses() {
    let mut link = Link::connected(SctpConfig::default());
    let stream = link.channel(LOSSY);
    link.weather = Weather { loss: 30, ..FAIR };
    for number in 0..100 {
        link.send(A, stream, numbered(number, 100)).expect("sent");
        link.pass(Duration::from_millis(50));
    }
    link.weather = FAIR;
    link.pass(20 * SECOND);
    let arrived = link.numbers(B).len();
    assert!((40..95).contains(&arrived), "{arrived} of 100");
    // The next ones are not held back by those that are lost.
    for number in 100..110 {
        link.send(A, stream, numbered(number, 100)).expect("sent");
    }
    link.pass(10 * SECOND);
    assert!(link.numbers(B).ends_with(&(100..110).collect::<Vec<_>>()), "{:?}", link.numbers(B));
}

#[test]
fn a_message_that_is_too_old_is_given_up() {
    let mut link = Link::connected(SctpConfig::default());
    let delivery = Delivery { ordered: true, max_packet_life_time: Some(300), max_retransmits: None };
    let stream = link.channel(delivery);
    link.deaf = Some(B);
    link.send(A, stream, numbered(1, 50)).expect("sent");
    link.pass(5 * SECOND);
    link.deaf = None;
    link.pass(15 * SECOND);
    link.send(A, stream, numbered(2, 50)).expect("sent");
    assert!(link.run(30 * SECOND, |link| !link.messages(B).is_empty()));
    assert_eq!(link.numbers(B), [2]);
}

#[test]
fn who_does_not_read_loses_a_reliable_channel_and_only_that() {
    let config =
        SctpConfig { channel_send_buffer_bytes: 200_000, in_flight_bytes: 50_000, ..SctpConfig::default() };
    let mut link = Link::connected(config);
    let (file, chat) = (link.channel(Delivery::RELIABLE), link.channel(Delivery::RELIABLE));
    link.deaf = Some(B);
    let mut taken = 0;
    while link.send(A, file, numbered(taken, 10_000)).is_ok() {
        taken += 1;
        assert!(taken < 100, "the queue has no bound");
    }
    assert!((15..=20).contains(&taken), "{taken} messages of 10,000 bytes in a queue of 200,000");
    assert_eq!(link.closed(A), [(file, "the remote party does not take what is sent to it")]);
    assert!(link.send(A, file, numbered(0, 10)).is_err());
    link.send(A, chat, numbered(7, 10)).expect("the other channel goes on");
    link.deaf = None;
    assert!(link.run(60 * SECOND, |link| link.numbers(B).contains(&7)));
    assert!(link.run(60 * SECOND, |link| link.closed(B) == [(file, "the remote party closed it")]));
}

#[test]
fn who_does_not_read_loses_the_oldest_of_an_unreliable_channel() {
    let config =
        SctpConfig { channel_send_buffer_bytes: 100_000, in_flight_bytes: 20_000, ..SctpConfig::default() };
    let mut link = Link::connected(config);
    let stream = link.channel(Delivery { ordered: true, ..LOSSY });
    link.deaf = Some(B);
    for number in 0..200 {
        let buffered = link.send(A, stream, numbered(number, 5_000)).expect("taken");
        assert!(buffered.as_u64().expect("bytes") <= 100_000);
    }
    link.deaf = None;
    link.pass(60 * SECOND);
    let numbers = link.numbers(B);
    assert_eq!(numbers.last(), Some(&199), "{numbers:?}");
    assert!(numbers.is_sorted() && numbers.len() < 40, "{numbers:?}");
}

#[test]
fn all_channels_together_are_bounded() {
    let config = SctpConfig { send_buffer_bytes: 100_000, ..SctpConfig::default() };
    let mut link = Link::connected(config);
    link.deaf = Some(B);
    let streams: Vec<u16> = (0..10).map(|_| link.channel(Delivery::RELIABLE)).collect();
    let mut kept = 0;
    for &stream in streams.iter().cycle().take(100) {
        kept += usize::from(link.send(A, stream, numbered(0, 5_000)).is_ok());
    }
    assert!(kept <= 20, "{kept} messages of 5,000 bytes in 100,000");
}

#[test]
fn a_low_buffer_is_told_once() {
    let mut link = Link::connected(SctpConfig { in_flight_bytes: 10_000, ..SctpConfig::default() });
    let stream = link.channel(Delivery::RELIABLE);
    link.command(A, DataCommand::SetLow { stream, threshold: 5_000 }).expect("set");
    for number in 0..20 {
        link.send(A, stream, numbered(number, 5_000)).expect("sent");
    }
    let low = |link: &Link| link.events[A].iter().filter(|it| matches!(it, DataEvent::Low { .. })).count();
    assert_eq!(low(&link), 0);
    assert!(link.run(10 * SECOND, |link| low(link) > 0));
    let left = link.command(A, DataCommand::Buffered { stream }).expect("bytes").as_u64();
    assert!(left.is_some_and(|bytes| bytes <= 5_000), "{left:?}");
    link.pass(10 * SECOND);
    assert_eq!(low(&link), 1);
    assert_eq!(link.command(A, DataCommand::Buffered { stream }), Ok(0.into()));
}

#[test]
fn a_channel_is_opened_in_band_and_answered() {
    for delivery in [Delivery::RELIABLE, LOSSY] {
        let mut link = Link::new(SctpConfig::default());
        let announce = Some(("chat".to_owned(), "v1".to_owned()));
        let answer = link.command(A, DataCommand::Open { stream: None, delivery, announce }).expect("open");
        let stream = answer["streamId"].as_u64().expect("a stream") as u16;
        assert_eq!(stream % 2, 0, "the DTLS client has the even streams");
        // What is said before the other side knows of the channel waits.
        link.send(A, stream, DataMessage::text("first")).expect("sent");
        link.start();
        let opened = |link: &Link| {
            link.events[B].iter().find_map(|event| match event {
                DataEvent::Opened { parameters, label, protocol } => {
                    Some((*parameters, label.clone(), protocol.clone()))
                }
                _ => None,
            })
        };
        assert!(link.run(5 * SECOND, |link| opened(link).is_some()));
        let parameters = SctpStreamParameters { stream_id: stream, delivery };
        assert_eq!(opened(&link), Some((parameters, "chat".to_owned(), "v1".to_owned())));
        link.take(B, stream, delivery);
        assert!(link.run(5 * SECOND, |link| !link.messages(B).is_empty()));
        assert_eq!(link.messages(B), [&DataMessage::text("first")]);
        // It goes both ways.
        link.take(A, stream, delivery);
        assert_eq!(link.open(B, Some(stream), delivery), stream);
        link.send(B, stream, DataMessage::text("answer")).expect("sent");
        assert!(link.run(5 * SECOND, |link| link.messages(A) == [&DataMessage::text("answer")]));
    }
}

#[test]
fn a_closed_channel_ends_on_both_sides_and_its_stream_serves_again() {
    let mut link = Link::connected(SctpConfig::default());
    let stream = link.channel(Delivery::RELIABLE);
    link.send(A, stream, DataMessage::text("last words")).expect("sent");
    link.command(A, DataCommand::Close { stream }).expect("closed");
    assert!(link.run(10 * SECOND, |link| link.closed(B) == [(stream, "the remote party closed it")]));
    assert_eq!(link.messages(B), [&DataMessage::text("last words")]);
    assert!(link.closed(A).is_empty(), "who closed it knows");
    link.pass(5 * SECOND);
    assert_eq!(link.channel(Delivery::RELIABLE), stream);
    link.send(A, stream, DataMessage::text("again")).expect("sent");
    assert!(link.run(5 * SECOND, |link| link.messages(B).len() == 2));
}

#[test]
fn streams_are_given_out_once_and_within_the_bound() {
    let config = SctpConfig { max_streams: 6, max_channels: 5, ..SctpConfig::default() };
    let mut link = Link::connected(config);
    link.take(B, 3, Delivery::RELIABLE);
    let given: Vec<u16> = (0..4).map(|_| link.open(B, None, Delivery::RELIABLE)).collect();
    assert_eq!(given, [1, 5, 0, 2], "the server's are odd, as long as there are any");
    let open = DataCommand::Open { stream: None, delivery: Delivery::RELIABLE, announce: None };
    assert!(link.command(B, open).is_err(), "as many channels as there may be");
    let stream = |stream_id| SctpStreamParameters { stream_id, delivery: Delivery::RELIABLE };
    assert!(link.command(B, DataCommand::Take(stream(3))).is_err(), "taken twice");
    assert!(link.command(B, DataCommand::Take(stream(6))).is_err(), "beyond the bound");
    let open = DataCommand::Open { stream: Some(1), delivery: Delivery::RELIABLE, announce: None };
    assert!(link.command(B, open).is_err(), "opened twice");
}

#[test]
fn either_side_may_begin_and_both_may_at_once() {
    // Both wait for the other for the same time, so both begin at once.
    let link = Link::connected(SctpConfig::default());
    assert_eq!((link.state(A), link.state(B)), ("connected".to_owned(), "connected".to_owned()));
    for patient in [A, B] {
        let mut link = Link::new(SctpConfig::default());
        let config = SctpConfig { connect_delay_ms: 600_000, ..SctpConfig::default() };
        link.ends[patient] = Channels::new(&config, MTU, "patient".to_owned());
        link.start();
        let both = |link: &Link| link.state(A) == "connected" && link.state(B) == "connected";
        assert!(link.run(5 * SECOND, both), "{patient} waits");
    }
}

#[test]
fn a_party_without_sctp_is_given_up() {
    let mut link = Link::new(SctpConfig { connect_retries: 2, ..SctpConfig::default() });
    link.deaf = Some(B);
    let stream = link.open(A, None, Delivery::RELIABLE);
    link.start();
    assert!(link.run(120 * SECOND, |link| link.state(A) == "failed"));
    assert_eq!(link.closed(A), [(stream, "the remote party does not speak SCTP")]);
    assert!(link.send(A, stream, DataMessage::text("")).is_err());
    let open = DataCommand::Open { stream: None, delivery: Delivery::RELIABLE, announce: None };
    assert!(link.command(A, open).is_err());
    let sent = link.sent;
    link.pass(600 * SECOND);
    assert_eq!(link.sent, sent, "nothing more is sent");
}

#[test]
fn messages_that_nobody_takes_are_counted() {
    let mut link = Link::connected(SctpConfig::default());
    let stream = link.open(A, None, Delivery::RELIABLE);
    for _ in 0..3 {
        link.send(A, stream, DataMessage::text("hello?")).expect("sent");
    }
    link.pass(SECOND);
    assert!(link.messages(B).is_empty());
    assert_eq!(link.ends[B].dump().1["x.unclaimedMessages"], 3);
    assert_eq!(link.ends[A].dump().1["sctpBufferedAmount"], 0);
    assert_eq!(link.messages(A).iter().filter(|it| it.kind == DataKind::Text).count(), 0);
}

#[test]
fn an_idle_association_stays() {
    let mut link = Link::connected(SctpConfig::default());
    let stream = link.channel(Delivery::RELIABLE);
    link.pass(24 * 3_600 * SECOND);
    link.send(A, stream, DataMessage::text("still there?")).expect("sent");
    assert!(link.run(SECOND, |link| link.messages(B).len() == 1));
}
