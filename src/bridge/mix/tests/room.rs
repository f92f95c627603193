//! The whole way in virtual time: rooms, the worker and the mix as they are, telephones of plain RTP around them.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::{amplitude, sine};
use crate::bridge::mix::codec::{Decoder, Encoder};
use crate::bridge::mix::config::MixConfig;
use crate::bridge::mix::mixer::Mix;
use crate::bridge::mix::run::RunningMix;
use crate::bridge::mix::{Prompts, is_telephone, takes, target};
use crate::core::auth::Principal;
use crate::core::capabilities::{Encoding, Kind, RtpCodec, RtpParameters};
use crate::core::control::{Join, Peer, Produce, Rooms, RoomsConfig};
use crate::core::convert::{Format, MixJob, Mixer, Refusal};
use crate::core::id::{ConsumerId, WorkerId};
use crate::core::lane::Wake;
use crate::core::mail::{Mail, Mailbox};
use crate::core::payload::Codec;
use crate::core::peer::{CloseReason, PeerKind};
use crate::core::plain::{PlainOptions, PlainRemote};
use crate::core::room::RoomName;
use crate::core::rtp::batch::SendBatch;
use crate::core::rtp::bwe::RateLimits;
use crate::core::rtp::header::{HeaderFields, RtpView, is_rtcp, write_header};
use crate::core::rtp::path::{LegSocket, LegSockets, Path};
use crate::core::session::NoSessions;
use crate::core::time::Epoch;
use crate::core::worker::{Action, GopConfig, Worker, WorkerConfig};

#[derive(Clone, Default)]
struct Post(Arc<Mutex<VecDeque<Mail>>>);

impl Wake for Post {
    fn wake(&self) {}
}

impl Mailbox for Post {
    fn send(&self, mail: Mail) -> Result<(), Mail> {
        self.0.lock().expect("a lock").push_back(mail);
        Ok(())
    }
    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(self.clone())
    }
}

/// Keeps the mixes it is asked for, for the test to run.
#[derive(Default)]
struct Mixes(Mutex<Vec<RunningMix>>);

impl Mixer for Mixes {
    fn takes(&self, from: &Format) -> bool {
        takes(from)
    }
    fn output(&self, accepted: &[RtpCodec]) -> Option<Format> {
        target(accepted)
    }
    fn passes(&self, codec: &RtpCodec) -> bool {
        !is_telephone(codec)
    }
    fn mix(&self, job: MixJob) -> Result<(), Refusal> {
        let mix = Mix::new(Arc::new(MixConfig::default()), Prompts::new(HashMap::new(), None));
        self.0.lock().expect("a lock").push(RunningMix::new(job, mix));
        Ok(())
    }
}

struct Phone {
    peer: Peer,
    consumer: ConsumerId,
    codec: Codec,
    payload_type: u8,
    socket: u32,
    remote: SocketAddr,
    encoder: Encoder,
    tone: Vec<f32>,
    native: usize,
    at: usize,
    sequence: u16,
    timestamp: u32,
    decoder: Decoder,
    heard: Vec<f32>,
    stamps: Vec<(u16, u32)>,
}

struct Lab {
    now: Instant,
    epoch: Epoch,
    rooms: Rooms,
    link: crate::core::control::dispatcher::Link,
    worker: Worker,
    post: Post,
    mixes: Arc<Mixes>,
    batch: SendBatch,
    next_socket: u32,
    phones: Vec<Phone>,
    ticks: u64,
}

const EARS: u32 = 48_000;

impl Lab {
    fn new() -> Lab {
        let now = Instant::now();
        let epoch = Epoch { instant: now, unix: Duration::from_secs(1_700_000_000) };
        let mixes = Arc::new(Mixes::default());
        let rooms = Rooms::new(RoomsConfig::default(), epoch, None).with_mixer(mixes.clone());
        let config = WorkerConfig {
            id: WorkerId(0),
            candidates: Vec::new(),
            gop: GopConfig::default(),
            max_publish_bitrate: 10_000_000,
            layers: Default::default(),
            rates: RateLimits::default(),
            legs: Default::default(),
            channel: None,
            data: Default::default(),
        };
        let post = Post::default();
        let link = rooms.worker_up(WorkerId(0), Arc::new(post.clone()));
        let worker = Worker::new(config, epoch, Arc::new(NoSessions), 42);
        let batch = SendBatch::new(64 * 1024, 64);
        Lab {
            now,
            epoch,
            rooms,
            link,
            worker,
            post,
            mixes,
            batch,
            next_socket: 256,
            phones: Vec::new(),
            ticks: 0,
        }
    }

    /// Everything that is due now, until nothing is.
    fn pump(&mut self) {
        self.rooms.handle_time(self.now);
        let mut cx = Context::from_waker(Waker::noop());
        let mut more = true;
        while more {
            more = false;
            while let Some(mail) = self.post.0.lock().expect("a lock").pop_front() {
                self.worker.handle_mail(self.now, mail, None);
            }
            while let Poll::Ready(Some(json)) = self.rooms.poll_send(self.link, &mut cx) {
                more = true;
                self.worker.handle_control(self.now, &json);
            }
            self.worker.handle_lanes(self.now);
            while let Some(action) = self.worker.poll_action() {
                more = true;
                if let Action::OpenLeg { leg, .. } = action {
                    let ip = "192.0.2.1".parse().expect("an address");
                    let address = SocketAddr::new(ip, self.next_socket as u16 + 10_000);
                    let rtp = LegSocket { socket: self.next_socket, address };
                    self.next_socket += 1;
                    self.worker.handle_leg_opened(self.now, leg, Ok(LegSockets { rtp, rtcp: None }));
                }
            }
            more |= self.worker.flush(self.now, &mut self.batch);
            self.deliver();
            while let Some(json) = self.worker.poll_control() {
                more = true;
                self.rooms.receive(self.link, &json);
            }
        }
    }

    fn deliver(&mut self) {
        for run in self.batch.runs() {
            let Path::Udp { remote, .. } = run.path else { panic!("a TCP path") };
            let Some(phone) = self.phones.iter_mut().find(|phone| phone.remote == remote) else { continue };
            for data in self.batch.datagrams(run).filter(|data| !is_rtcp(data)) {
                let view = RtpView::parse(data).expect("a packet");
                assert_eq!(view.payload_type, phone.payload_type);
                phone.stamps.push((view.sequence, view.timestamp));
                phone.decoder.decode(view.payload, &mut phone.heard).expect("sound");
            }
        }
        self.batch.clear();
    }

    fn wait<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
            self.pump();
        }
        panic!("it still waits");
    }

    fn call(&mut self, name: &str, codec: Codec, frequency: f32) -> usize {
        let (mime, payload_type, rate, native) = match codec {
            Codec::Opus => ("audio/opus", 111, 48_000, 48_000),
            Codec::Pcma => ("audio/PCMA", 8, 8_000, 8_000),
            _ => ("audio/PCMU", 0, 8_000, 8_000),
        };
        let json = serde_json::json!({"mimeType": mime, "payloadType": payload_type, "clockRate": rate});
        let codec_entry: RtpCodec = serde_json::from_value(json).expect("a codec");
        let rtp = |ssrc| RtpParameters {
            codecs: vec![codec_entry.clone()],
            encodings: vec![Encoding { ssrc, ..Encoding::default() }],
            ..RtpParameters::default()
        };
        let room = RoomName::new("room", &[]).expect("a name");
        let join = Join {
            name: Some(name.into()),
            publishes: true,
            ..Join::new(room, PeerKind::Whip, Principal::anonymous())
        };
        let rooms = self.rooms.clone();
        let peer = self.wait(rooms.join(join)).expect("let in");
        let (socket, port) = (self.next_socket, 20_000 + self.next_socket as u16);
        let remote = SocketAddr::new("203.0.113.9".parse().expect("an address"), port);
        let options = PlainOptions { rtcp_mux: true, latch: false, ..PlainOptions::default() };
        let leg = self.wait(peer.create_plain_transport(options)).expect("a leg").id;
        let told = serde_json::json!({"ip": remote.ip(), "port": port, "x.rtcpMux": true});
        let told: PlainRemote = serde_json::from_value(told).expect("a remote side");
        self.wait(peer.connect_plain(leg, told)).expect("connected");
        self.wait(peer.produce(leg, Produce::new(Kind::Audio, rtp(None)))).expect("a producer");
        let consumer = self.wait(peer.consume_program(leg, Kind::Audio, rtp(Some(7_000 + socket))));
        self.phones.push(Phone {
            peer,
            consumer: consumer.expect("a consumer"),
            codec,
            payload_type,
            socket,
            remote,
            encoder: Encoder::new(codec, native, &MixConfig::default()).expect("an encoder"),
            tone: sine(frequency, native, native as usize, 0.2),
            native: native as usize,
            at: 0,
            sequence: 65_500,
            timestamp: 77,
            decoder: Decoder::new(codec, EARS).expect("a decoder"),
            heard: Vec::new(),
            stamps: Vec::new(),
        });
        self.phones.len() - 1
    }

    /// 20 ms at a time: everybody speaks, the mix ticks somewhere in between.
    fn run(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.ticks += 1;
            self.now += Duration::from_micros(13_000);
            for at in 0..self.phones.len() {
                let (path, mut packet) = self.phones[at].speak();
                self.worker.handle_leg(self.now, path, &mut packet);
            }
            self.pump();
            self.now += Duration::from_micros(7_000);
            while self.worker.poll_timeout().is_some_and(|at| at <= self.now) {
                self.worker.handle_timeout(self.now);
            }
            self.mixes
                .0
                .lock()
                .expect("a lock")
                .retain_mut(|mix| mix.pass(self.now) != crate::bridge::jobs::Pass::Ended);
            self.pump();
        }
    }

    fn hear(&mut self, ticks: u64) {
        self.phones.iter_mut().for_each(|phone| {
            phone.heard.clear();
            phone.stamps.clear();
        });
        self.run(ticks);
    }

    fn has(&self, phone: usize, frequency: f32) -> bool {
        let heard = amplitude(&self.phones[phone].heard, frequency, EARS);
        assert!(!(0.02..0.1).contains(&heard), "{heard} of {frequency} Hz");
        heard >= 0.1
    }
}

impl Phone {
    fn speak(&mut self) -> (Path, Vec<u8>) {
        let count = self.native / 50;
        let payload = self.encoder.encode(&self.tone[self.at..self.at + count]).expect("a packet");
        self.at = (self.at + count) % self.native;
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(if self.codec == Codec::Opus { 960 } else { 160 });
        let fields = HeaderFields {
            marker: false,
            padding: false,
            payload_type: self.payload_type,
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: 0x1000 + self.socket,
        };
        let mut packet = vec![0; 1_500];
        let header = write_header(&mut packet, &fields, &[]).expect("a header");
        packet[header..header + payload.len()].copy_from_slice(&payload);
        packet.truncate(header + payload.len());
        let local = "192.0.2.1".parse().expect("an address");
        (Path::Udp { socket: self.socket, local, remote: self.remote }, packet)
    }
}

#[test]
fn telephones_hear_each_other_and_not_themselves_as_they_come_and_go() {
    let mut lab = Lab::new();
    let a = lab.call("a", Codec::Pcmu, 400.0);
    lab.run(50);
    assert!(lab.phones[a].stamps.len() > 40, "alone, the line is alive");
    let b = lab.call("b", Codec::Pcma, 700.0);
    lab.run(50);
    lab.hear(100);
    assert!(lab.has(a, 700.0) && !lab.has(a, 400.0) && lab.has(b, 400.0) && !lab.has(b, 700.0));
    let c = lab.call("c", Codec::Opus, 1_100.0);
    lab.run(50);
    lab.hear(100);
    for (phone, own) in [(a, 400.0), (b, 700.0), (c, 1_100.0)] {
        for tone in [400.0, 700.0, 1_100.0] {
            assert_eq!(lab.has(phone, tone), tone != own, "{phone} hears {tone}");
        }
        let stamps = &lab.phones[phone].stamps;
        let step = if phone == c { 960 } else { 160 };
        assert!(stamps.windows(2).all(|w| w[1].0.wrapping_sub(w[0].0) == 1), "no gap in the sequence");
        assert!(stamps.windows(2).all(|w| w[1].1.wrapping_sub(w[0].1) == step), "no leap in time");
        assert!((98..=102).contains(&stamps.len()));
    }
    let peer = lab.phones[c].peer.clone();
    lab.wait(peer.close(CloseReason::left()));
    lab.phones.remove(c);
    lab.run(50);
    lab.hear(50);
    assert!(lab.has(a, 700.0) && !lab.has(a, 1_100.0));
    for phone in [b, a] {
        let peer = lab.phones[phone].peer.clone();
        lab.wait(peer.close(CloseReason::left()));
        lab.phones.remove(phone);
    }
    lab.run(5);
    assert!(lab.mixes.0.lock().expect("a lock").is_empty(), "the mix ends with the room");
    assert!(lab.epoch.instant <= lab.now);
}

#[test]
fn a_prompt_is_heard_before_the_room() {
    let mut lab = Lab::new();
    let a = lab.call("a", Codec::Pcmu, 400.0);
    let b = lab.call("b", Codec::Pcmu, 700.0);
    let (peer, consumer) = (lab.phones[b].peer.clone(), lab.phones[b].consumer);
    lab.wait(peer.play(consumer, vec![crate::core::convert::Sound::Busy], false)).expect("played");
    lab.run(10);
    lab.hear(200);
    assert!(amplitude(&lab.phones[b].heard, 425.0, EARS) > 0.05 && !lab.has(b, 400.0) && lab.has(a, 700.0));
    lab.wait(peer.stop_playing(consumer)).expect("stopped");
    lab.run(10);
    lab.hear(50);
    assert!(lab.has(b, 400.0) && !lab.has(b, 425.0));
}
