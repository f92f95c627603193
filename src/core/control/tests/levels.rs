//! How loud rooms are and who speaks in them, with a mix and without.

use super::events::{drain, room};
use super::fake::{Net, aac, h264, opus, vp8};
use super::track;
use crate::core::message::Method;
use crate::core::room::Ears;

fn ears(net: &Net) -> Ears {
    net.rooms.step(|state| state.rooms[&room()].ears)
}

#[test]
fn watchers_hear_how_loud_tracks_are_and_who_speaks_for_as_long_as_they_watch() {
    let mut net = Net::new(1, |_| {});
    let (alice, hers, _) = net.member("alice", &[opus(), vp8()]);
    let (bob, his, _) = net.member("bob", &[opus()]);
    assert_eq!(net.workers[0].count(Method::RouterSetAudioLevelsEvent), 0, "nobody wants to know");
    let mut member = net.rooms.watch(&room());
    let mut watcher = net.rooms.oversee(&room());
    net.pump();
    drain(&mut member);
    assert_eq!((ears(&net), net.workers[0].levels.len()), (Ears::Router, 1));
    drain(&mut watcher);
    let (a, b) = ((alice.conn(), hers[0]), (bob.conn(), his[0]));
    let speaks = |who: (_, _)| format!("ActiveSpeaker(Some({who:?}))");
    let loud = |one: (_, _, i8), other: (_, _, i8)| format!("AudioLevels({:?})", [one, other]);
    net.hears(&[(hers[0], -30), (his[0], -60)]);
    assert_eq!(drain(&mut watcher), [loud((a.0, a.1, -30), (b.0, b.1, -60)), speaks(a)]);
    assert_eq!(drain(&mut member), [speaks(a)], "members are told who speaks, not how loud");
    drop(member);
    net.hears(&[(hers[0], -60), (his[0], -30)]);
    assert_eq!(drain(&mut watcher), [loud((b.0, b.1, -30), (a.0, a.1, -60))], "not at once");
    net.hears(&[(hers[0], -60), (his[0], -30)]);
    assert_eq!(drain(&mut watcher)[1..], [speaks(b)]);
    assert!(drain(&mut net.rooms.watch(&room())).contains(&speaks(b)), "who comes later is told");
    net.run(bob.pause_producer(his[0])).expect("paused");
    assert_eq!(drain(&mut watcher)[1..], ["ActiveSpeaker(None)"]);
    net.hears(&[]);
    net.hears(&[]);
    assert_eq!(drain(&mut watcher), ["AudioLevels([])"], "silence is said once");
    net.hears(&[(hers[0], -30)]);
    net.run(alice.close_producer(hers[0])).expect("closed");
    assert_eq!(drain(&mut watcher)[1..], [speaks(a), "ActiveSpeaker(None)".into(), "-track".into()]);

    drop(watcher);
    net.hears(&[(his[0], -30)]);
    assert_eq!((ears(&net), net.workers[0].levels.len()), (Ears::Off, 0));
    net.leave(&alice);
    net.leave(&bob);
    net.assert_clean();
}

#[test]
fn the_picture_follows_the_speaker_without_a_mix() {
    let mut net = Net::new(1, |_| {});
    let (alice, hers, _) = net.member("alice", &[opus(), vp8()]);
    let (bob, his, _) = net.member("bob", &[opus(), vp8()]);
    let (viewer, consumers) = net.view(&[vp8()]);
    assert_eq!((net.mixer.running(), ears(&net)), (0, Ears::Router));
    assert_eq!(net.source(consumers[0]), Some(his[1]), "the newest");
    net.hears(&[(hers[0], -30), (his[0], -70)]);
    assert_eq!(net.source(consumers[0]), Some(hers[1]));
    net.hears(&[(his[0], -30)]);
    net.hears(&[(his[0], -30)]);
    assert_eq!(net.source(consumers[0]), Some(hers[1]), "it stays for a moment");
    net.advance(2_100);
    assert_eq!(net.source(consumers[0]), Some(his[1]));
    net.leave(&viewer);
    assert_eq!(ears(&net), Ears::Off);
    net.leave(&alice);
    net.leave(&bob);
    net.assert_clean();
}

#[test]
fn a_mix_that_runs_is_asked_instead_because_it_hears_everybody() {
    let mut net = Net::new(1, |_| {});
    let (encoder, stream) = net.stream("live");
    net.event(0, stream, "x.track", track(0, &aac(), false));
    net.event(0, stream, "x.track", track(1, &h264(), false));
    let (alice, hers, _) = net.member("alice", &[opus(), h264()]);
    let mut watcher = net.rooms.watch(&room());
    net.pump();
    assert_eq!(ears(&net), Ears::Router);
    let (viewer, consumers) = net.view(&[opus(), h264()]);
    assert_eq!((ears(&net), net.mixer.running(), net.workers[0].levels.len()), (Ears::Mix, 1, 0));
    let of_encoder = net.tracks(&encoder);
    let told = drain(&mut watcher);
    assert!(told.iter().all(|line| !line.starts_with("ActiveSpeaker")), "{told:?}");
    // The encoder's sound says nothing of its level, and is heard all the same, by its conversion.
    let job = net.rooms.step(|state| state.jobs.of(of_encoder[0])[0]);
    let converted = net.rooms.step(|state| state.jobs.get(job).map(|job| job.output)).expect("a job");
    net.speaks(converted);
    let speaks = format!("ActiveSpeaker(Some(({}, {:?})))", encoder.conn(), of_encoder[0]);
    assert!(drain(&mut watcher).contains(&speaks));
    assert_eq!(net.source(consumers[1]), Some(of_encoder[1]));
    net.advance(2_100);
    net.speaks(hers[0]);
    assert_eq!(net.source(consumers[1]), Some(hers[1]));
    net.leave(&viewer);
    net.advance(5_100);
    assert_eq!((ears(&net), net.mixer.running(), net.workers[0].levels.len()), (Ears::Router, 0, 1));
    net.kill(0);
    net.revive(0);
    assert!(net.closed(&alice).is_some() && net.closed(&encoder).is_some());
    net.advance(10_100);
    net.assert_clean();
}
