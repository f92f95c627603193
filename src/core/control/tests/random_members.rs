//! Members that take tracks one by one, whatever they do in whatever order: who watches knows exactly what is there,
//! each member knows what it is sent, no worker is asked for something impossible, and nothing is left at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use serde_json::json;

use super::events::room;
use super::fake::{Net, aac, h264, opus, vp8};
use super::track;
use crate::core::capabilities::{Kind, RtpCodec};
use crate::core::control::state::State;
use crate::core::control::{Peer, PeerEvent, PeerEvents, RoomEvent, RoomEvents};
use crate::core::convert::Sound;
use crate::core::id::{ConnId, ConsumerId, ProducerId, TransportId};
use crate::core::room::{PipedTrack, RoomName};

#[derive(Clone, Debug)]
enum Step {
    Join(u8, u8),
    Stream,
    Reorder(bool),
    Spy,
    View,
    Watch(bool, bool),
    Take(usize, usize, bool),
    Untake(usize),
    Close(usize),
    Pause(usize, bool),
    Mute(usize, bool, bool),
    Rename(usize),
    Move(usize),
    Play(usize, bool),
    Leave(usize),
    Break(usize, usize),
    Kill(usize),
    Jobs(usize),
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let one = 0..12usize;
    prop_oneof![
        3 => (0..4u8, 0..16u8).prop_map(|(name, codecs)| Step::Join(name, codecs)),
        1 => Just(Step::Stream),
        1 => any::<bool>().prop_map(Step::Reorder),
        1 => Just(Step::Spy),
        1 => Just(Step::View),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(oversees, second)| Step::Watch(oversees, second)),
        8 => (one.clone(), one.clone(), any::<bool>()).prop_map(|(who, what, few)| Step::Take(who, what, few)),
        1 => one.clone().prop_map(Step::Untake),
        1 => one.clone().prop_map(Step::Close),
        2 => (one.clone(), any::<bool>()).prop_map(|(track, paused)| Step::Pause(track, paused)),
        2 => (one.clone(), any::<bool>(), any::<bool>()).prop_map(|(who, audio, muted)| Step::Mute(who, audio, muted)),
        1 => one.clone().prop_map(Step::Rename),
        2 => one.clone().prop_map(Step::Move),
        1 => (one.clone(), any::<bool>()).prop_map(|(who, plays)| Step::Play(who, plays)),
        1 => one.clone().prop_map(Step::Leave),
        1 => (one.clone(), one).prop_map(|(who, which)| Step::Break(who, which)),
        1 => (0..2usize).prop_map(Step::Kill),
        1 => (0..3usize).prop_map(Step::Jobs),
        1 => (0..6_000u16).prop_map(Step::Wait),
    ]
}

/// What somebody who only watches knows.
#[derive(Default)]
struct Replica {
    open: bool,
    peers: BTreeMap<ConnId, (Option<String>, BTreeMap<ProducerId, bool>)>,
}

impl Replica {
    fn apply(&mut self, event: RoomEvent) {
        match event {
            RoomEvent::RoomOpened => assert!(!std::mem::replace(&mut self.open, true)),
            RoomEvent::RoomClosed { .. } => {
                assert!(self.peers.is_empty() && std::mem::replace(&mut self.open, false));
            }
            RoomEvent::PeerJoined(peer) => {
                let known = self.peers.insert(peer.conn, (peer.display_name, BTreeMap::new()));
                assert!(self.open && known.is_none());
            }
            RoomEvent::PeerChanged(peer) => {
                self.peers.get_mut(&peer.conn).expect("somebody known").0 = peer.display_name;
            }
            RoomEvent::PeerLeft { conn, .. } => {
                let (_, tracks) = self.peers.remove(&conn).expect("somebody known");
                assert!(tracks.is_empty(), "tracks go before their peer");
            }
            RoomEvent::TrackAdded(track) => {
                let tracks = &mut self.peers.get_mut(&track.conn).expect("somebody known").1;
                assert_eq!(tracks.insert(track.producer, track.paused), None);
            }
            RoomEvent::TrackChanged(track) => {
                let tracks = &mut self.peers.get_mut(&track.conn).expect("somebody known").1;
                assert!(tracks.insert(track.producer, track.paused).is_some());
            }
            RoomEvent::TrackRemoved { conn, producer } => {
                let tracks = &mut self.peers.get_mut(&conn).expect("somebody known").1;
                assert!(tracks.remove(&producer).is_some());
            }
            _ => {}
        }
    }
}

struct Guest {
    peer: Peer,
    receive: TransportId,
    events: PeerEvents,
    /// What it takes, and whether that is paused at its source.
    taken: BTreeMap<ConsumerId, (ProducerId, bool)>,
}

#[derive(Default)]
struct World {
    guests: Vec<Guest>,
    others: Vec<Peer>,
    stream: Option<(Peer, TransportId)>,
    watchers: Vec<(RoomName, bool, RoomEvents, Replica)>,
}

fn pick<T>(all: &[T], index: usize) -> Option<&T> {
    all.get(index % all.len().max(1))
}

impl World {
    fn step(&mut self, net: &mut Net, step: Step) {
        let tracks = tracks(net);
        match step {
            Step::Join(name, mask) => {
                let sent = [opus(), vp8(), h264(), opus()];
                let chosen = sent.iter().enumerate().filter(|(at, _)| mask & (1 << at) != 0);
                let codecs: Vec<RtpCodec> = chosen.map(|(_, codec)| codec.clone()).collect();
                let (peer, _, receive) = net.member(&name.to_string(), &codecs);
                self.guests.push(Guest { events: peer.events(), peer, receive, taken: BTreeMap::new() });
            }
            Step::Stream => {
                let (peer, transport) = net.stream("stream");
                let worker = worker_of(net, transport);
                net.event(worker, transport, "x.track", track(0, &aac(), false));
                net.event(worker, transport, "x.track", track(1, &h264(), false));
                self.others.push(peer.clone());
                self.stream = Some((peer, transport));
            }
            Step::Reorder(reordered) => {
                if let Some((peer, transport)) = self.stream.clone()
                    && net.closed(&peer).is_none()
                {
                    let worker = worker_of(net, transport);
                    net.event(worker, transport, "x.trackchange", track(1, &h264(), reordered));
                }
            }
            Step::Spy => {
                let peer = net.try_join(false, |join| {
                    (join.spy, join.kind) = (true, crate::core::peer::PeerKind::Room)
                });
                if let Ok(peer) = peer {
                    let options = crate::core::control::WebRtcOptions::default();
                    let receive = net.run(peer.create_webrtc_transport(options)).expect("a transport").id;
                    self.guests.push(Guest { events: peer.events(), peer, receive, taken: BTreeMap::new() });
                }
            }
            Step::View => {
                if net.rooms.summary(&room()).is_some_and(|room| room.live) {
                    let (peer, _) = net.view(&[opus(), h264()]);
                    self.others.push(peer);
                }
            }
            Step::Watch(oversees, second) => {
                let name = if second { second_room() } else { room() };
                let events = if oversees { net.rooms.oversee(&name) } else { net.rooms.watch(&name) };
                self.watchers.push((name, oversees, events, Replica::default()));
            }
            Step::Move(who) => {
                if let Some(peer) = pick(&self.everybody(), who) {
                    let (from, rooms) = (peer.room(), net.rooms.clone());
                    let to = if from == room() { second_room() } else { room() };
                    // Somebody of that name may be there already.
                    drop(rooms.move_peer(&from, peer.conn(), &to));
                    net.pump();
                }
            }
            Step::Play(who, plays) => {
                if let Some(guest) = pick(&self.guests, who) {
                    guest.peer.play_to_room(plays.then_some(Sound::Hold).into_iter().collect());
                    net.pump();
                }
            }
            Step::Take(who, what, few) => {
                let (Some(&(_, producer, ..)), count) = (pick(&tracks, what), self.guests.len()) else {
                    return;
                };
                let Some(guest) = self.guests.get_mut(who % count.max(1)) else { return };
                let codecs = if few { vec![opus(), h264()] } else { vec![opus(), vp8(), h264()] };
                if let Ok(taken) = net.take(&guest.peer, guest.receive, producer, &codecs) {
                    guest.taken.insert(taken.consumer, (producer, taken.producer_paused));
                }
            }
            Step::Untake(who) => {
                let count = self.guests.len();
                let Some(guest) = self.guests.get_mut(who % count.max(1)) else { return };
                if net.closed(&guest.peer).is_none()
                    && let Some((consumer, _)) = guest.taken.pop_first()
                {
                    net.run(guest.peer.close_consumer(consumer)).expect("closed");
                }
            }
            Step::Close(which) => {
                if let Some((conn, producer, ..)) = pick(&tracks, which) {
                    let peer = peer(net, *conn);
                    net.run(peer.close_producer(*producer)).expect("closed");
                }
            }
            Step::Pause(which, paused) => {
                if let Some((conn, producer, ..)) = pick(&tracks, which) {
                    let peer = peer(net, *conn);
                    match paused {
                        true => net.run(peer.pause_producer(*producer)).expect("paused"),
                        false => net.run(peer.resume_producer(*producer)).expect("resumed"),
                    }
                }
            }
            Step::Mute(which, audio, muted) => {
                if let Some((conn, ..)) = pick(&tracks, which) {
                    let kind = if audio { Kind::Audio } else { Kind::Video };
                    let (rooms, name) = (net.rooms.clone(), peer(net, *conn).room());
                    net.run(rooms.mute(&name, *conn, kind, muted)).expect("muted");
                }
            }
            Step::Rename(who) => {
                if let Some(guest) = pick(&self.guests, who) {
                    let name = Some(Some(format!("name {who}")));
                    drop(net.rooms.set_peer(&guest.peer.room(), guest.peer.conn(), name, None));
                }
            }
            Step::Leave(who) => {
                if let Some(peer) = pick(&self.everybody(), who) {
                    net.leave(peer);
                }
            }
            Step::Break(who, which) => {
                let Some(guest) = pick(&self.guests, who) else { return };
                let conn = guest.peer.conn();
                let found = net.rooms.step(|state| {
                    let peer = &state.members.get(&conn)?.peer;
                    let player = state.players.get(&conn).map(|player| player.transport);
                    let paths: Vec<_> =
                        peer.transports.iter().filter(|path| Some(path.id) != player).collect();
                    let path = pick(&paths, which)?;
                    Some((path.worker, path.id))
                });
                if let Some((worker, transport)) = found {
                    let data = json!({"reason": "timeout", "clean": false});
                    net.event(usize::from(worker.0), transport, "close", data);
                    // What was made for one producer (a pipe, a conversion) ended with it before we could end it.
                    let crossed = |text: &String| {
                        text.starts_with("Consumer not found") && text.contains("consumer.close")
                    };
                    net.workers.iter_mut().for_each(|worker| worker.refusals.retain(|text| !crossed(text)));
                }
            }
            Step::Kill(worker) => {
                net.kill(worker);
                net.revive(worker);
                net.pump();
            }
            Step::Jobs(limit) => *net.stub.limit.lock().expect("a lock") = limit,
            Step::Wait(millis) => net.advance(u64::from(millis)),
        }
    }

    fn everybody(&self) -> Vec<Peer> {
        let guests = self.guests.iter().map(|guest| &guest.peer);
        guests.chain(&self.others).cloned().collect()
    }

    fn check(&mut self, net: &mut Net) {
        self.check_watchers(net);
        let tracks = tracks(net);
        for guest in &mut self.guests {
            let mut cx = Context::from_waker(Waker::noop());
            while let Poll::Ready(Some(event)) = guest.events.poll_next(&mut cx) {
                match event {
                    PeerEvent::ConsumerClosed { consumer, .. } => {
                        assert!(guest.taken.remove(&consumer).is_some(), "told of what it closed itself");
                    }
                    PeerEvent::ConsumerPaused { consumer } => {
                        guest.taken.get_mut(&consumer).expect("taken").1 = true
                    }
                    PeerEvent::ConsumerResumed { consumer } => {
                        guest.taken.get_mut(&consumer).expect("taken").1 = false
                    }
                    _ => {}
                }
            }
            let conn = guest.peer.conn();
            let there = net.rooms.step(|state| {
                let feeds = &state.members.get(&conn)?.peer.feeds;
                Some(
                    feeds
                        .iter()
                        .map(|feed| (feed.consumer, feed.source, feed.refusal.clone()))
                        .collect::<Vec<_>>(),
                )
            });
            let Some(there) = there else { continue };
            assert_eq!(there.len(), guest.taken.len());
            for (consumer, source, refusal) in there {
                let (track, paused) = guest.taken[&consumer];
                let known = tracks
                    .iter()
                    .find(|(_, producer, ..)| *producer == track)
                    .expect("a track that is there");
                assert_eq!(known.2, paused);
                assert_eq!(net.source(consumer), source.map(|source| source.local));
                assert!(
                    source.map_or(refusal.is_some(), |source| source.origin == track),
                    "{source:?} {refusal:?}"
                );
            }
        }
        for (_, producer, paused) in tracks {
            let sent = net.rooms.step(|state| state.track(producer).map(|(_, track)| track.sent));
            let sent = sent.expect("a track that is there");
            let mut workers = net.workers.iter();
            let found = workers.find_map(|worker| worker.producers.get(&sent.0));
            assert_eq!(found.map(|producer| producer.paused), Some(paused));
            assert!(net.workers.iter().any(|worker| worker.producers.contains_key(&producer.0)));
        }
        let pipes = |state: &State| -> Vec<PipedTrack> {
            let seats = state.rooms.values().flat_map(|room| &room.seats);
            seats
                .filter_map(|seat| seat.pipe.as_ref())
                .flat_map(|pipe| pipe.tracks.values().copied())
                .collect()
        };
        let known: BTreeSet<u32> = net.rooms.step(|state| {
            let tracks = state.members.values().flat_map(|entry| &entry.peer.tracks);
            let mixed = state.mixes.values().flat_map(|mix| mix.producers());
            let all = tracks.flat_map(|track| [track.sent, track.producer]);
            let all = all.chain(pipes(state).into_iter().map(|track| track.producer));
            all.chain(state.jobs.producers()).chain(mixed).map(|producer| producer.0).collect()
        });
        let made = net.workers.iter().flat_map(|worker| worker.producers.keys().copied());
        assert_eq!(made.collect::<BTreeSet<u32>>(), known, "every producer is there for something");
        let known: BTreeSet<u32> = net.rooms.step(|state| {
            let members = || state.members.values().map(|entry| &entry.peer);
            let feeds = members().flat_map(|peer| &peer.feeds).map(|feed| feed.consumer);
            let carriers = members().flat_map(|peer| &peer.tracks).filter_map(|track| track.carrier);
            let mixed = state.mixes.values().flat_map(|mix| mix.consumers());
            let all = feeds.chain(carriers.map(|carrier| carrier.consumer)).chain(mixed);
            let all = all.chain(pipes(state).into_iter().map(|track| track.consumer));
            all.chain(state.jobs.consumers()).map(|consumer| consumer.0).collect()
        });
        let made = net.workers.iter().flat_map(|worker| worker.consumers.keys().copied());
        assert_eq!(made.collect::<BTreeSet<u32>>(), known, "every consumer is there for something");
        net.rooms.step(|state| {
            for (conn, player) in &state.players {
                let peer = &state.members.get(conn).expect("somebody plays").peer;
                assert!(peer.path(player.transport).is_some(), "what is played comes from somewhere");
            }
        });
        for worker in &net.workers {
            assert_eq!(worker.refusals, Vec::<String>::new());
        }
    }

    fn check_watchers(&mut self, net: &Net) {
        for (name, oversees, events, replica) in &mut self.watchers {
            let present = net.rooms.peers(name);
            let mut cx = Context::from_waker(Waker::noop());
            while let Poll::Ready(Some(event)) = events.poll_next(&mut cx) {
                replica.apply(event);
            }
            assert_eq!(replica.open, present.is_some());
            let shown = present.iter().flatten().filter(|peer| *oversees || !peer.info.spy);
            let shown = shown.map(|peer| {
                let tracks = peer.tracks.iter().map(|track| (track.producer, track.paused)).collect();
                (peer.info.conn, (peer.info.display_name.clone(), tracks))
            });
            assert_eq!(replica.peers, shown.collect());
        }
    }
}

fn worker_of(net: &Net, transport: TransportId) -> usize {
    let mut workers = net.workers.iter();
    workers.position(|worker| worker.transports.contains_key(&transport.0)).expect("a transport somewhere")
}

fn second_room() -> RoomName {
    RoomName::new("second", &[]).expect("a name")
}

/// Somebody, wherever it is.
fn peer(net: &Net, conn: ConnId) -> Peer {
    let found = [room(), second_room()].iter().find_map(|name| net.rooms.peer(name, conn));
    found.expect("in a room")
}

/// Every track of the rooms: whose, which, whether it is held back.
fn tracks(net: &Net) -> Vec<(ConnId, ProducerId, bool)> {
    let rooms = [room(), second_room()];
    let peers: Vec<_> = rooms.iter().filter_map(|name| net.rooms.peers(name)).flatten().collect();
    let tracks = peers.iter().flat_map(|peer| &peer.tracks);
    tracks.map(|track| (track.conn, track.producer, track.paused)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn everybody_knows_what_is_there_and_nothing_is_left(steps in prop::collection::vec(step(), 1..60)) {
        let mut net = Net::new(2, |config| config.receivers_per_router = 2);
        let mut world = World::default();
        for step in steps {
            world.step(&mut net, step);
            world.check(&mut net);
        }
        for peer in world.guests.iter().map(|guest| &guest.peer).chain(&world.others) {
            net.leave(peer);
        }
        world.check(&mut net);
        net.assert_clean();
    }
}
