//! Receivers behind paths that are narrow, become narrow, or lose packets, in virtual time: what they see, with a
//! player that waits, asks again and gives up as browsers do.

use std::collections::{BTreeMap, HashSet};

use super::simulcast::{Coding, Name, PICTURE, Publisher, enable, read_mark};
use super::*;
use crate::core::rtp::receive::{NackGenerator, NackLimits, TransportCcRecorder};
use crate::core::rtp::sequence::SequenceUnwrapper;

/// The network between us and a receiver: one queue, then a way of some length.
struct Network {
    /// Bits a second.
    capacity: f64,
    /// How long a packet waits at most; what would wait longer is lost.
    queue: Duration,
    one_way: Duration,
    /// The part that is lost at random, 0 to 1.
    loss: f64,
    free: Instant,
    coming: VecDeque<(Instant, Vec<u8>)>,
    going: VecDeque<(Instant, Vec<u8>)>,
    random: u64,
    dropped: u32,
}

impl Network {
    fn new(lab: &Lab) -> Network {
        Network {
            capacity: 100e6,
            queue: Duration::from_millis(200),
            one_way: Duration::from_millis(20),
            loss: 0.0,
            free: lab.now,
            coming: VecDeque::new(),
            going: VecDeque::new(),
            random: 0x9e37_79b9_7f4a_7c15,
            dropped: 0,
        }
    }

    fn chance(&mut self) -> f64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 40) as f64 / (1u64 << 24) as f64
    }

    fn send(&mut self, at: Instant, data: Vec<u8>) {
        let waits = self.free.saturating_duration_since(at);
        if waits > self.queue || self.chance() < self.loss {
            self.dropped += 1;
            return;
        }
        // With the headers of UDP and IP.
        let bits = (data.len() + 28) as f64 * 8.0;
        self.free = at + waits + Duration::from_secs_f64(bits / self.capacity);
        self.coming.push_back((self.free + self.one_way, data));
    }

    fn answer(&mut self, at: Instant, data: Vec<u8>) {
        if self.chance() >= self.loss {
            self.going.push_back((at + self.one_way, data));
        }
    }
}

/// A packet that waits to be decoded.
struct Waiting {
    name: Name,
    references: Vec<Name>,
    first: bool,
    last: bool,
    marker: bool,
    filler: bool,
}

/// A picture that was shown.
#[derive(Clone, Copy, Debug)]
struct Shown {
    at: Instant,
    stream: u8,
    spatial: u8,
}

/// A receiver as browsers are.
struct Player {
    id: u32,
    viewer: Viewer,
    network: Network,
    recorder: TransportCcRecorder,
    nack: NackGenerator,
    numbers: SequenceUnwrapper,
    waiting: BTreeMap<u64, Waiting>,
    next: Option<u64>,
    decoded: HashSet<Name>,
    shown: Vec<Shown>,
    asked: Option<Instant>,
    /// It cannot go on without a keyframe.
    lost: bool,
    plis: u32,
    received: usize,
}

impl Player {
    fn join(lab: &mut Lab, coding: Coding, id: u32, name: u8) -> Player {
        enable(lab, coding, id, name);
        Player {
            id,
            viewer: Viewer::new(name),
            network: Network::new(lab),
            recorder: TransportCcRecorder::new(Duration::from_millis(100)),
            nack: NackGenerator::new(NackLimits::default()),
            numbers: SequenceUnwrapper::new(),
            waiting: BTreeMap::new(),
            next: None,
            decoded: HashSet::new(),
            shown: Vec::new(),
            asked: None,
            lost: false,
            plis: 0,
            received: 0,
        }
    }

    /// What has arrived by now is taken in, and answered.
    fn live(&mut self, lab: &mut Lab) {
        for (_, at, data) in lab.sent.extract_if(.., |(to, ..)| *to == path(self.viewer.name)) {
            self.network.send(at, data);
        }
        let now = lab.epoch.media_time(lab.now);
        while let Some((at, data)) = self.network.coming.pop_front_if(|(at, _)| *at <= lab.now) {
            self.received += data.len();
            self.take(lab.epoch.media_time(at), data);
        }
        self.decode(lab.now);
        let mut plain = Vec::new();
        self.recorder.poll(now, 1, self.id, &mut plain);
        let mut missing = Vec::new();
        let round_trip = self.network.one_way * 2 + Duration::from_millis(50);
        self.lost |= self.nack.poll(now, round_trip, &mut missing);
        if !missing.is_empty() {
            write::nack(&mut plain, 1, self.id, &missing);
        }
        let patient = self.asked.is_some_and(|at| lab.now < at + Duration::from_millis(500));
        if self.lost && !patient {
            (self.asked, self.plis) = (Some(lab.now), self.plis + 1);
            write::picture_loss(&mut plain, 1, self.id);
        }
        if !plain.is_empty() {
            self.network.answer(lab.now, plain);
        }
        while let Some((_, plain)) = self.network.going.pop_front_if(|(at, _)| *at <= lab.now) {
            self.viewer.say(lab, &plain);
        }
    }

    fn take(&mut self, at: MediaTime, mut data: Vec<u8>) {
        if data[0] < 128 || (192..=223).contains(&data[1]) {
            return;
        }
        let (len, _) = self.viewer.keys.open_rtp(&mut data).expect("for me");
        let view = RtpView::parse(&data[..len]).unwrap();
        let (_, element) = view.extensions().find(|(id, _)| *id == 5).expect("numbered");
        self.recorder.received(at, u16::from_be_bytes(element.try_into().unwrap()));
        let (number, payload) = match view.ssrc == self.id {
            true => (self.numbers.unwrap(view.sequence), view.payload),
            false => {
                let (original, rest) = view.payload.split_first_chunk::<2>().expect("a number");
                (self.numbers.peek(u16::from_be_bytes(*original)), rest)
            }
        };
        self.nack.received(at, number);
        let next = *self.next.get_or_insert(number);
        if number < next {
            return;
        }
        let filler = payload.is_empty();
        let (name, references, first, last) =
            if filler { ((0, 0, 0), Vec::new(), false, false) } else { read_mark(payload) };
        self.waiting.insert(number, Waiting { name, references, first, last, marker: view.marker, filler });
    }

    /// The number behind the frame that begins at `at`, if all of it is there.
    fn whole(&self, at: u64) -> Option<u64> {
        (at..).map(|number| Some((number, self.waiting.get(&number)?))).find_map(|found| match found {
            None => Some(None),
            Some((number, packet)) => packet.last.then_some(Some(number + 1)),
        })?
    }

    fn decode(&mut self, now: Instant) {
        while let Some(next) = self.next {
            if self.waiting.get(&next).is_some_and(|packet| packet.filler) {
                self.go_on(next + 1);
            } else if self.waiting.get(&next).is_some_and(|packet| packet.first)
                && let Some(end) = self.whole(next)
            {
                self.frame(next, now);
                self.go_on(end);
            } else if let Some(keyframe) = self.keyframe_after(next) {
                self.nack.forget_before(keyframe);
                self.go_on(keyframe);
            } else {
                break;
            }
        }
    }

    fn go_on(&mut self, next: u64) {
        self.next = Some(next);
        self.waiting = self.waiting.split_off(&next);
    }

    fn keyframe_after(&self, next: u64) -> Option<u64> {
        let begins = |(_, packet): &(&u64, &Waiting)| packet.first && packet.references.is_empty();
        let mut fitting = self.waiting.range(next + 1..).filter(begins).map(|(number, _)| *number);
        fitting.find(|number| self.whole(*number).is_some())
    }

    fn frame(&mut self, at: u64, now: Instant) {
        let Some(packet) = self.waiting.get(&at) else { return };
        let marker = self.whole(at).and_then(|end| self.waiting.get(&(end - 1))).is_some_and(|it| it.marker);
        if !packet.references.iter().all(|reference| self.decoded.contains(reference)) {
            self.lost = true;
            return;
        }
        if packet.references.is_empty() {
            self.lost = false;
        }
        let (stream, _, spatial) = packet.name;
        self.decoded.insert(packet.name);
        if marker && !self.lost {
            self.shown.push(Shown { at: now, stream, spatial });
        }
    }

    /// The longest time without a new picture since then.
    fn longest_break(&self, since: Instant) -> Duration {
        let shown: Vec<_> = self.shown.iter().filter(|shown| shown.at >= since).collect();
        shown.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap_or(Duration::MAX)
    }

    fn rate(&self) -> usize {
        let last = self.shown.last().expect("pictures").at;
        self.shown
            .iter()
            .filter(|shown| last.saturating_duration_since(shown.at) < Duration::from_secs(1))
            .count()
    }

    fn now(&self) -> (u8, u8) {
        let shown = self.shown.last().expect("pictures");
        (shown.stream, shown.spatial)
    }
}

/// A publisher, and one receiver behind a path of its own.
struct World {
    lab: Lab,
    publisher: Publisher,
    player: Player,
    next: Instant,
}

impl World {
    fn new(coding: Coding, streams: usize) -> World {
        let mut lab = Lab::new();
        let mut publisher = Publisher::join(&mut lab, coding, streams, streams > 1);
        (publisher.keyframe_weight, publisher.delay) = (6, Duration::from_millis(60));
        publisher.run(&mut lab, Duration::from_secs(3));
        let player = Player::join(&mut lab, coding, 11, b'v');
        let next = lab.now;
        World { lab, publisher, player, next }
    }

    fn run(&mut self, seconds: f64) {
        let end = self.lab.now + Duration::from_secs_f64(seconds);
        while self.lab.now < end {
            if self.lab.now >= self.next {
                self.next += PICTURE;
                self.publisher.capture(&mut self.lab);
            }
            self.lab.run(Duration::from_millis(1));
            self.player.live(&mut self.lab);
        }
    }

    /// Runs until the receiver sees `stream`, at most so long; answers how long that took.
    fn until(&mut self, stream: u8, seconds: f64) -> f64 {
        let began = self.lab.now;
        while self.player.shown.last().is_none_or(|shown| shown.stream != stream) {
            let took = (self.lab.now - began).as_secs_f64();
            assert!(took < seconds, "still on {:?} after {took} s", self.player.shown.last());
            self.run(0.1);
        }
        (self.lab.now - began).as_secs_f64()
    }
}

/// Milliseconds of the longest break, when a path that took everything takes `capacity` only, with a queue of so many
/// milliseconds on a way of so many.
fn longest_break(coding: Coding, capacity: f64, queue: u64, one_way: u64, stream: u8) -> u128 {
    let mut world = World::new(coding, 3);
    world.player.network.one_way = Duration::from_millis(one_way);
    world.run(12.0);
    assert_eq!(world.player.now().0, 2, "the best while there is room");
    let since = world.lab.now;
    (world.player.network.capacity, world.player.network.queue) = (capacity, Duration::from_millis(queue));
    world.run(20.0);
    assert_eq!(world.player.now().0, stream, "what fits");
    assert!(world.player.rate() >= 29, "{} pictures a second", world.player.rate());
    assert_eq!(world.player.plis, 0, "its decoder was never lost");
    world.player.longest_break(since).as_millis()
}

#[test]
fn a_path_that_becomes_narrow_leaves_no_frozen_picture() {
    for coding in [Coding::Vp8, Coding::H264] {
        for (queue, one_way) in [(100, 5), (200, 5), (500, 20), (2_000, 20)] {
            let longest = longest_break(coding, 500e3, queue, one_way, 1);
            assert!(longest <= 320, "{longest} ms with a queue of {queue} ms on a way of {one_way} ms");
        }
        // What was sent before anybody could know takes its time: a picture of the best takes 220 ms here.
        let longest = longest_break(coding, 150e3, 200, 5, 0);
        assert!(longest <= 450, "{longest} ms");
    }
}

#[test]
fn a_path_that_is_wide_again_is_found_out() {
    let mut world = World::new(Coding::Vp8, 3);
    world.run(8.0);
    world.player.network.capacity = 500e3;
    world.run(10.0);
    assert_eq!(world.player.now().0, 1);
    let since = world.lab.now;
    (world.player.network.capacity, world.player.network.dropped) = (20e6, 0);
    let took = world.until(2, 30.0);
    assert!(took < 20.0, "{took} s");
    world.run(5.0);
    let longest = world.player.longest_break(since);
    assert!(longest < Duration::from_millis(250), "{longest:?}");
    assert_eq!(world.player.network.dropped, 0, "what probes do not find is not tried");
}

#[test]
fn scalable_pictures_become_smaller_at_once() {
    for coding in [Coding::Vp9Spatial, Coding::Av1Key] {
        let mut world = World::new(coding, 1);
        world.run(8.0);
        assert_eq!(world.player.now(), (0, 1));
        let since = world.lab.now;
        world.player.network.capacity = 200e3;
        world.run(10.0);
        assert_eq!(world.player.now(), (0, 0));
        let longest = world.player.longest_break(since);
        assert!(longest <= Duration::from_millis(300), "{longest:?}");
    }
}

#[test]
fn a_wide_path_that_loses_packets_keeps_the_best() {
    let mut world = World::new(Coding::Vp8, 3);
    world.player.network.one_way = Duration::from_millis(50);
    world.run(8.0);
    (world.player.network.loss, world.player.received) = (0.05, 0);
    let since = world.lab.now;
    world.run(30.0);
    assert_eq!(world.player.now().0, 2);
    let longest = world.player.longest_break(since);
    assert!(longest < Duration::from_millis(400), "{longest:?}");
    let bitrate = world.player.received * 8 / 30;
    assert!(bitrate < 1_300_000, "{bitrate} bit/s: what is sent again, and little more");
}
