//! Many rooms of members that take each other's tracks: all of it comes and goes, no step costs more for what happens
//! in other rooms, and what the main thread keeps of it is back at nothing. The workers say yes to everything.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::fake::{Post, one, opus, vp8};
use crate::core::auth::Principal;
use crate::core::capabilities::{Kind, RtpCodec, RtpParameters};
use crate::core::control::dispatcher::Link;
use crate::core::control::{End, Join, Peer, Produce, Rooms, RoomsConfig, WebRtcOptions};
use crate::core::id::{ProducerId, TransportId, WorkerId};
use crate::core::message::{Method, Request, Response};
use crate::core::peer::{CloseReason, PeerKind};
use crate::core::room::RoomName;
use crate::core::time::Epoch;

struct Town {
    rooms: Rooms,
    links: Vec<Link>,
    now: Instant,
    ssrc: u32,
    /// Requests the workers were made.
    requests: usize,
}

impl Town {
    fn new(config: RoomsConfig) -> Self {
        let now = Instant::now();
        let rooms = Rooms::new(config, Epoch { instant: now, unix: Duration::ZERO }, None);
        let link = |id| rooms.worker_up(WorkerId(id), Arc::new(Post::default()));
        let links = vec![link(0), link(1)];
        Town { rooms, links, now, ssrc: 0, requests: 0 }
    }

    fn pump(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        self.rooms.handle_time(self.now);
        for &link in &self.links {
            while let Poll::Ready(Some(json)) = self.rooms.poll_send(link, &mut cx) {
                let request = Request::parse(&json).expect("a request");
                self.requests += 1;
                self.rooms.receive(link, &Response::accepted(request.id, answer(&request)).to_json());
            }
        }
    }

    fn run<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        self.pump();
        match future.poll(&mut cx) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("the workers answered all, and yet it waits"),
        }
    }

    fn join(&mut self, number: usize, name: usize) -> (Peer, TransportId, TransportId) {
        let room = RoomName::new(&format!("room{number}"), &[]).expect("a name");
        let join = Join {
            name: Some(name.to_string()),
            publishes: true,
            ..Join::new(room, PeerKind::RoomV2, Principal::anonymous())
        };
        let rooms = self.rooms.clone();
        let peer = self.run(rooms.join(join)).expect("let in");
        let mut transport =
            || self.run(peer.create_webrtc_transport(WebRtcOptions::default())).expect("a transport").id;
        let (send, receive) = (transport(), transport());
        (peer, send, receive)
    }

    fn rtp(&mut self, codec: &RtpCodec) -> RtpParameters {
        self.ssrc += 1;
        one(codec, self.ssrc)
    }

    /// A room in which everybody sends sound and picture, and takes those of the others.
    fn fill(&mut self, number: usize, members: usize) -> Vec<Peer> {
        let mut there: Vec<(Peer, Vec<ProducerId>, TransportId)> = Vec::new();
        for name in 0..members {
            let (peer, send, receive) = self.join(number, name);
            let tracks = [(Kind::Audio, opus()), (Kind::Video, vp8())].map(|(kind, codec)| {
                let rtp = self.rtp(&codec);
                self.run(peer.produce(send, Produce::new(kind, rtp))).expect("a track")
            });
            there.push((peer, tracks.into(), receive));
        }
        for (at, (peer, _, receive)) in there.iter().enumerate() {
            let others = there.iter().enumerate().filter(|(other, _)| *other != at);
            for (_, (_, tracks, _)) in others {
                for (track, codec) in tracks.iter().zip([opus(), vp8()]) {
                    let rtp = self.rtp(&codec);
                    self.run(peer.consume(*receive, *track, rtp, false)).expect("a consumer");
                }
            }
        }
        there.into_iter().map(|(peer, ..)| peer).collect()
    }

    fn assert_empty(&mut self) {
        self.pump();
        self.now += Duration::from_secs(60);
        self.pump();
        self.rooms.step(|state| {
            let kept = [
                ("rooms", state.rooms.len()),
                ("members", state.members.len()),
                ("owners", state.owners.len()),
                ("waiting", state.waiting.len()),
                ("jobs", state.jobs.len()),
                ("mixes", state.mixes.len() + state.unmixed.len() + state.players.len()),
                ("failures", state.failures.len() + state.busy.len()),
                ("subscriptions", state.dispatcher.subscriptions()),
                ("requests", state.dispatcher.pending()),
                ("timers", state.timers.len()),
                ("watchers", state.watchers.count()),
            ];
            assert_eq!(kept.into_iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>(), []);
        });
    }
}

fn answer(request: &Request) -> Value {
    match request.method() {
        Some(Method::RouterCreateWebRtcTransport) => json!({
            "transportId": request.internal.transport_id,
            "iceLocalParameters": {"usernameFragment": "u", "password": "p", "iceLite": true},
            "iceLocalCandidates": [],
            "dtlsLocalParameters": {"role": "auto", "fingerprints": []},
        }),
        _ => Value::Null,
    }
}

#[test]
fn a_thousand_rooms_of_three_come_and_go_and_nothing_of_them_is_kept() {
    let mut town = Town::new(RoomsConfig::default());
    let all = town.rooms.watch_all();
    let rooms: Vec<Vec<Peer>> = (0..1_000).map(|number| town.fill(number, 3)).collect();
    let watchers: Vec<_> = rooms.iter().map(|peers| town.rooms.watch(&peers[0].room())).collect();
    assert_eq!(town.rooms.summaries().len(), 1_000);
    assert_eq!(all.end(), Some(End::Lagged), "nobody waited for who does not read");
    drop(watchers);
    for (number, peers) in rooms.iter().enumerate() {
        if number % 2 == 0 {
            assert!(town.rooms.close(&peers[0].room(), &CloseReason::left()));
        } else {
            peers.iter().for_each(|peer| town.run(peer.close(CloseReason::left())));
        }
    }
    town.assert_empty();
}

#[test]
fn a_member_that_joins_a_large_room_costs_three_requests_a_track_and_no_more() {
    let mut town = Town::new(RoomsConfig::default());
    let mut peers = town.fill(0, 40);
    let before = town.requests;
    let (peer, _, receive) = town.join(0, 40);
    let events = town.rooms.watch(&peer.room());
    // Asked for all at once, answered all at once.
    let tracks = town.rooms.peers(&peer.room()).expect("a room").into_iter().flat_map(|peer| peer.tracks);
    let mut asked: Vec<_> = tracks
        .map(|track| {
            let rtp = town.rtp(&track.codec);
            let peer = peer.clone();
            Box::pin(async move { peer.consume(receive, track.producer, rtp, false).await })
        })
        .collect();
    assert_eq!(asked.len(), 80);
    let all = poll_fn(|cx| {
        asked.retain_mut(|one| match one.as_mut().poll(cx) {
            Poll::Ready(answer) => answer.map(|_| false).expect("a consumer"),
            Poll::Pending => true,
        });
        if asked.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    });
    town.run(all);
    // Two transports; of each track the consumer, its transport, its source; and the levels, which somebody watches.
    assert_eq!(town.requests - before, 2 + 3 * 80 + 1);
    drop(events);
    peers.push(peer);
    for peer in peers {
        town.run(peer.close(CloseReason::left()));
    }
    town.assert_empty();
}
