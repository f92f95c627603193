//! Whatever peers do in whatever order: no worker is ever asked for something impossible, everybody is fed
//! from the right publisher, and nothing is left at the end.

use proptest::prelude::*;

use serde_json::json;

use super::fake::{Net, aac, h264, opus, pcmu};
use super::track;
use crate::core::control::Peer;
use crate::core::convert::DirectIn;
use crate::core::id::{ConnId, ConsumerId, TransportId};
use crate::core::peer::Track;

#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    Stream(u8),
    Call(u8),
    Speak(usize),
    Change(u8, bool),
    View(Option<u8>),
    Leave(usize),
    Wait(u16),
    Jobs(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3u8).prop_map(Step::Publish),
        (0..3u8).prop_map(Step::Stream),
        (3..5u8).prop_map(Step::Call),
        (0..8usize).prop_map(Step::Speak),
        (0..3u8, any::<bool>()).prop_map(|(name, reordered)| Step::Change(name, reordered)),
        prop::option::of(0..3u8).prop_map(Step::View),
        (0..8usize).prop_map(Step::Leave),
        (0..6_000u16).prop_map(Step::Wait),
        (0..3usize).prop_map(Step::Jobs),
    ]
}

#[derive(Default)]
struct World {
    /// In the order they went live.
    publishers: Vec<(u8, Peer)>,
    viewers: Vec<(Option<u8>, Peer, Vec<ConsumerId>)>,
    streams: Vec<(u8, Peer, TransportId)>,
    calls: Vec<(Peer, ConsumerId)>,
}

impl World {
    fn step(&mut self, net: &mut Net, step: Step) {
        match step {
            Step::Publish(name) => {
                let (peer, _) = net.publish(&name.to_string(), &[opus(), h264()]);
                self.publishers.push((name, peer));
            }
            Step::Stream(name) => {
                let (peer, transport) = net.stream(&name.to_string());
                net.event(0, transport, "x.track", track(0, &aac(), false));
                net.event(0, transport, "x.track", track(1, &h264(), false));
                self.publishers.push((name, peer.clone()));
                self.streams.push((name, peer, transport));
            }
            Step::Call(name) => {
                let (peer, _, consumer) = net.call(&name.to_string(), &pcmu());
                self.publishers.push((name, peer.clone()));
                self.calls.push((peer, consumer));
            }
            Step::Speak(index) => {
                let voices: Vec<_> = net.voices_in_mix();
                if let Some(track) = voices.get(index) {
                    net.mix_says(DirectIn::Event {
                        name: "x.levels",
                        data: json!({"entries": [[track, -30]]}),
                    });
                }
            }
            Step::Change(name, reordered) => {
                let stream = self.streams.iter().rev().find(|(other, _, _)| *other == name);
                if let Some((_, peer, transport)) = stream.cloned()
                    && net.closed(&peer).is_none()
                {
                    net.event(0, transport, "x.trackchange", track(1, &h264(), reordered));
                }
            }
            Step::View(watch) => {
                let name = watch.map(|name| name.to_string());
                let live = net.try_join(false, |join| join.watch.clone_from(&name)).ok();
                if let Some(peer) = live {
                    net.leave(&peer);
                    let (peer, consumers) = net.view_of(name.as_deref(), &[opus(), h264()]);
                    self.viewers.push((watch, peer, consumers));
                }
            }
            Step::Leave(index) if index < self.viewers.len() => {
                let (_, peer, _) = self.viewers.remove(index);
                net.leave(&peer);
            }
            Step::Leave(index) => {
                if let Some((_, peer)) = self.publishers.get(index.wrapping_sub(self.viewers.len())) {
                    net.leave(&peer.clone());
                }
            }
            Step::Wait(millis) => net.advance(u64::from(millis)),
            Step::Jobs(limit) => *net.stub.limit.lock().expect("a lock") = limit,
        }
    }

    /// The publisher a viewer should see: the newest, or the one of the name it asked for.
    fn expected(&self, net: &mut Net, watch: Option<u8>) -> Option<ConnId> {
        let mut newest = self.publishers.iter().rev().filter(|(name, _)| watch.is_none_or(|w| w == *name));
        newest.find(|(_, peer)| net.closed(peer).is_none()).map(|(_, peer)| peer.conn())
    }

    /// Each consumer is fed by the right publisher, or the mix of all, unless its viewer was told why not, and no
    /// worker had anything to object.
    fn check(&self, net: &mut Net) {
        for (watch, peer, consumers) in &self.viewers {
            let expected = self.expected(net, *watch);
            let live: Vec<ConnId> = self
                .publishers
                .iter()
                .filter(|(_, p)| net.closed(p).is_none())
                .map(|(_, p)| p.conn())
                .collect();
            for (at, consumer) in consumers.iter().enumerate() {
                let (source, refused) = net.rooms.step(|state| {
                    let feed = &state.members[&peer.conn()].peer.feeds[at];
                    (feed.source, feed.refusal.is_some())
                });
                assert_eq!(net.source(*consumer), source.map(|source| source.local));
                let mixed = source.is_some_and(|source| source.mix.is_some());
                let called = |conn: &ConnId| self.calls.iter().any(|(peer, _)| peer.conn() == *conn);
                // A telephone's codec is none of the viewer's.
                let needed = live.len() > 1 || live.iter().any(called);
                assert_eq!(mixed, at == 0 && watch.is_none() && needed, "{source:?} of {live:?}");
                if mixed {
                    continue;
                }
                let owner = source.and_then(|source| {
                    let owns = |track: &Track| track.producer == source.origin;
                    net.rooms.step(|state| {
                        let mut entries = state.members.values();
                        entries.find(|e| e.peer.tracks.iter().any(owns)).map(|e| e.peer.conn)
                    })
                });
                // Whom the viewer's codecs do not fit, who has no picture, or does not speak, is replaced.
                let pictures = live.iter().any(|conn| !called(conn));
                let shown = |owner: ConnId| live.contains(&owner) && !called(&owner);
                let replaced = owner.map_or(refused || !pictures, shown);
                let instead = at == 1 && watch.is_none() && replaced;
                let right = owner == expected || (refused && owner.is_none()) || instead;
                assert!(right, "{owner:?} for {expected:?}");
            }
        }
        for (peer, consumer) in &self.calls {
            let Some(source) =
                net.rooms.step(|state| Some(state.members.get(&peer.conn())?.peer.feeds[0].source))
            else {
                continue;
            };
            let own = net.rooms.step(|state| state.members[&peer.conn()].peer.tracks[0].producer);
            assert!(
                source.is_some_and(|source| source.origin != own),
                "a telephone hears something, not itself"
            );
            assert_eq!(net.source(*consumer), source.map(|source| source.local));
        }
        for worker in &net.workers {
            assert_eq!(worker.refusals, Vec::<String>::new());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_impossible_is_asked_and_nothing_is_left(steps in prop::collection::vec(step(), 1..40)) {
        let mut net = Net::new(2, |config| config.receivers_per_router = 2);
        let mut world = World::default();
        for step in steps {
            world.step(&mut net, step);
            world.check(&mut net);
        }
        let viewers = world.viewers.iter().map(|(_, peer, _)| peer);
        for peer in viewers.chain(world.publishers.iter().map(|(_, peer)| peer)) {
            net.leave(peer);
        }
        net.assert_clean();
    }
}
