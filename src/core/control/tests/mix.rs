//! Who hears whom, and whom they see.

use std::task::{Context, Poll, Waker};

use serde_json::json;

use super::events::{drain, room};
use super::fake::{Net, aac, h264, opus, pcmu, vp8};
use super::{one_worker, track};
use crate::core::control::{PeerEvent, WebRtcOptions};
use crate::core::convert::{DirectIn, MixCommand, Sound};
use crate::core::id::{ConsumerId, ProducerId};

fn outputs(told: &[MixCommand]) -> Vec<(u32, bool)> {
    let of = |command: &MixCommand| match command {
        MixCommand::AddOutput { track, without, .. } => Some((*track, without.is_some())),
        _ => None,
    };
    told.iter().filter_map(of).collect()
}

fn sources(told: &[MixCommand]) -> i32 {
    let of = |command: &MixCommand| match command {
        MixCommand::AddSource { .. } => 1,
        MixCommand::RemoveSource { .. } => -1,
        _ => 0,
    };
    told.iter().map(of).sum()
}

#[test]
fn two_telephones_of_one_codec_hear_each_other_untouched() {
    let mut net = one_worker();
    let (a, voice_a, hears_a) = net.call("a", &pcmu());
    // Alone, it hears a mix of nobody.
    assert_eq!(net.mixer.started(), 1);
    let alone = net.source(hears_a).expect("a line that is not dead");
    assert_eq!(outputs(&net.mixer.told()), [(alone.0, true)]);
    let (b, voice_b, hears_b) = net.call("b", &pcmu());
    assert_eq!((net.source(hears_a), net.source(hears_b)), (Some(voice_b), Some(voice_a)));
    net.advance(5_100);
    assert_eq!(net.mixer.running(), 0, "nobody needs the mix any more");
    for peer in [&a, &b] {
        net.leave(peer);
    }
    net.assert_clean();
}

#[test]
fn who_is_held_back_leaves_no_dead_line_and_no_frozen_picture() {
    let mut net = one_worker();
    let (a, voice_a, hears_a) = net.call("a", &pcmu());
    let (b, _, hears_b) = net.call("b", &pcmu());
    assert_eq!(net.source(hears_b), Some(voice_a));
    net.run(a.pause_producer(voice_a)).expect("paused");
    let noise = net.source(hears_b).expect("comfort noise");
    assert_ne!(noise, voice_a);
    assert!(net.source(hears_a).is_some());
    net.run(a.resume_producer(voice_a)).expect("resumed");
    assert_eq!(net.source(hears_b), Some(voice_a));
    let (c, pictures) = net.publish("c", &[opus(), h264()]);
    let (viewer, consumers) = net.view(&[opus(), h264()]);
    assert_eq!(net.source(consumers[1]), Some(pictures[1]));
    net.run(c.pause_producer(pictures[1])).expect("paused");
    assert_eq!(net.source(consumers[1]), None);
    net.advance(1_100);
    assert!(net.source(consumers[1]).is_some(), "a slate");
    net.run(c.resume_producer(pictures[1])).expect("resumed");
    assert_eq!(net.source(consumers[1]), Some(pictures[1]));
    for peer in [&a, &b, &c, &viewer] {
        net.leave(peer);
    }
    net.assert_clean();
}

#[test]
fn three_hear_each_other_mixed_and_viewers_share_one_output() {
    let mut net = one_worker();
    let calls: Vec<_> = ["a", "b", "c"].iter().map(|name| net.call(name, &pcmu())).collect();
    let mut heard: Vec<ProducerId> = calls.iter().filter_map(|(_, _, hears)| net.source(*hears)).collect();
    let (one, one_hears) = net.view(&[opus()]);
    let (two, two_hears) = net.view(&[opus()]);
    assert_eq!(net.source(one_hears[0]), net.source(two_hears[0]));
    heard.extend(net.source(one_hears[0]));
    heard.sort();
    heard.dedup();
    assert_eq!((heard.len(), net.mixer.running()), (4, 1));
    assert_eq!(sources(&net.mixer.told()), 3);
    for producer in &heard {
        let data = &net.workers[0].producers[&producer.0].data;
        assert_eq!(data["x.track"], producer.0);
    }
    // One leaves: the other two are passed through to each other, the viewers still hear both.
    net.leave(&calls[0].0);
    assert_eq!(net.source(calls[1].2), Some(calls[2].1));
    assert_eq!(sources(&net.mixer.told()), -1);
    assert!(heard.contains(&net.source(one_hears[0]).expect("a source")));
    net.leave(&calls[1].0);
    // One speaker is left: its codec is not the viewers', so they still hear the mix.
    assert!(heard.contains(&net.source(one_hears[0]).expect("a source")));
    for peer in [&calls[2].0, &one, &two] {
        net.leave(peer);
    }
    net.assert_clean();
}

#[test]
fn a_browser_and_a_telephone_understand_each_other() {
    let mut net = one_worker();
    let (browser, voices) = net.publish("browser", &[opus()]);
    let (phone, voice, hears) = net.call("phone", &pcmu());
    assert!(net.source(hears).is_some_and(|source| !voices.contains(&source)));
    let (viewer, viewer_hears) = net.view(&[opus(), h264()]);
    assert!(net.source(viewer_hears[0]).is_some_and(|source| source != voice && !voices.contains(&source)));
    // With the browser gone, a viewer that takes G.711 too gets the telephone as it is, unless told otherwise.
    net.leave(&browser);
    let transport =
        net.run(viewer.create_webrtc_transport(WebRtcOptions::default())).expect("a transport").id;
    let mut both = super::fake::one(&opus(), 77);
    both.codecs.push(pcmu());
    let kind = crate::core::capabilities::Kind::Audio;
    let wide = net.run(viewer.consume_program(transport, kind, both.clone())).expect("a consumer");
    assert_eq!(net.source(wide), Some(voice));
    *net.mixer.opus_only.lock().expect("a lock") = true;
    both.encodings[0].ssrc = Some(78);
    let opus_only = net.run(viewer.consume_program(transport, kind, both)).expect("a consumer");
    assert!(net.source(opus_only).is_some_and(|source| source != voice));
    for peer in [&phone, &viewer] {
        net.leave(peer);
    }
    net.assert_clean();
}

#[test]
fn aac_comes_into_the_mix_converted() {
    let mut net = one_worker();
    let (rtmp, transport) = net.stream("obs");
    net.event(0, transport, "x.track", track(0, &aac(), false));
    let (phone, _, hears) = net.call("phone", &pcmu());
    assert!(net.source(hears).is_some());
    assert_eq!((net.stub.running(), sources(&net.mixer.told())), (1, 2));
    net.leave(&phone);
    net.advance(5_100);
    assert_eq!(net.mixer.running(), 0);
    net.advance(5_100);
    assert_eq!(net.stub.running(), 0);
    net.leave(&rtmp);
    net.assert_clean();
}

#[test]
fn without_a_mixer_one_voice_is_heard_until_there_is_one() {
    let mut net = one_worker();
    *net.mixer.full.lock().expect("a lock") = true;
    let (a, _) = net.publish("a", &[opus()]);
    let (b, voices) = net.publish("b", &[opus()]);
    let (viewer, hears) = net.view(&[opus()]);
    assert_eq!(net.source(hears[0]), Some(voices[0]));
    *net.mixer.full.lock().expect("a lock") = false;
    net.advance(10_100);
    let mixed = net.source(hears[0]);
    assert!(mixed.is_some() && mixed != Some(voices[0]));
    // It breaks: one voice again, for a while.
    net.mix_says(DirectIn::Failed("broken".into()));
    assert_eq!(net.source(hears[0]), Some(voices[0]));
    net.advance(10_100);
    assert_eq!(net.mixer.running(), 1);
    for peer in [&a, &b, &viewer] {
        net.leave(peer);
    }
    net.assert_clean();
}

#[test]
fn the_picture_follows_the_speaker_without_flapping() {
    let mut net = one_worker();
    let (a, pictures_a) = net.publish("a", &[opus(), h264()]);
    let (b, pictures_b) = net.publish("b", &[opus(), h264()]);
    let (c, voice_c) = net.publish("c", &[opus()]);
    let (viewer, consumers) = net.view(&[opus(), h264()]);
    let sees = |net: &Net| net.source(consumers[1]);
    assert_eq!(sees(&net), Some(pictures_b[1]), "the newest that has a picture");
    net.speaks(pictures_a[0]);
    assert_eq!(sees(&net), Some(pictures_a[1]));
    net.speaks(pictures_b[0]);
    assert_eq!(sees(&net), Some(pictures_a[1]), "not so soon");
    net.speaks(pictures_a[0]);
    net.speaks(pictures_b[0]);
    net.advance(2_100);
    assert_eq!(sees(&net), Some(pictures_b[1]));
    net.advance(2_100);
    net.speaks(voice_c[0]);
    assert_eq!(sees(&net), Some(pictures_b[1]), "a voice without a picture changes nothing");
    // The speaker sees who spoke before.
    let transport = net.run(b.create_webrtc_transport(WebRtcOptions::default())).expect("a transport").id;
    let rtp = super::fake::one(&h264(), 99);
    let own = net.run(b.consume_program(transport, crate::core::capabilities::Kind::Video, rtp));
    assert_eq!(net.source(own.expect("a consumer")), Some(pictures_a[1]));
    net.leave(&b);
    assert_eq!(sees(&net), Some(pictures_a[1]));
    for peer in [&a, &c, &viewer] {
        net.leave(peer);
    }
    net.assert_clean();
}

#[test]
fn a_picture_that_does_not_fit_is_replaced_by_one_that_does() {
    let mut net = one_worker();
    let (a, pictures_a) = net.publish("a", &[opus(), h264()]);
    let (b, pictures_b) = net.publish("b", &[opus(), vp8()]);
    let (viewer, consumers) = net.view(&[opus(), h264()]);
    assert_eq!(net.source(consumers[1]), Some(pictures_a[1]));
    net.speaks(pictures_b[0]);
    assert_eq!(net.source(consumers[1]), Some(pictures_a[1]));
    assert!(viewer.notices().is_empty());
    net.leave(&a);
    assert_eq!(net.source(consumers[1]), None);
    assert_eq!(viewer.notices(), ["no conversion from video/VP8 to video/H264"]);
    for peer in [&b, &viewer] {
        net.leave(peer);
    }
    net.assert_clean();
}

#[test]
fn who_can_be_shown_nothing_is_shown_a_slate_after_a_moment() {
    let mut net = one_worker();
    let (a, pictures_a) = net.publish("a", &[opus(), vp8()]);
    let (viewer, consumers) = net.view(&[opus(), h264()]);
    assert_eq!((net.source(consumers[1]), net.stub.slates()), (None, 0));
    net.advance(900);
    assert_eq!((net.source(consumers[1]), net.stub.slates()), (None, 0), "something may come");
    net.advance(200);
    let slate = net.source(consumers[1]).expect("a slate");
    assert_eq!(
        (viewer.notices(), net.stub.slates()),
        (vec!["no conversion from video/VP8 to video/H264".to_owned()], 1)
    );
    // Another receiver shares it at once; one that sees something gets none.
    let (other, seen) = net.view(&[opus(), h264()]);
    assert_eq!((net.source(seen[1]), net.stub.slates()), (Some(slate), 1));
    let (third, seen) = net.view(&[opus(), vp8()]);
    assert_eq!(net.source(seen[1]), Some(pictures_a[1]));
    let (b, pictures_b) = net.publish("b", &[opus(), h264()]);
    assert_eq!(net.source(consumers[1]), Some(pictures_b[1]));
    net.advance(6_000);
    assert_eq!(net.stub.slates(), 0, "nobody sees it any more");
    net.leave(&b);
    assert_eq!(net.source(consumers[1]), None);
    net.advance(1_100);
    assert!(net.source(consumers[1]).is_some());
    net.leave(&a);
    assert_eq!(net.source(consumers[1]), None, "nothing is live");
    for peer in [&viewer, &other, &third] {
        net.leave(peer);
    }
    net.assert_clean();
}

#[test]
fn something_is_played_to_one_and_then_the_room_is_heard_again() {
    let mut net = one_worker();
    let (a, voice_a, hears_a) = net.call("a", &pcmu());
    let (b, _, hears_b) = net.call("b", &pcmu());
    net.mixer.told();
    net.run(b.play(hears_b, vec![Sound::Prompt("enter-pin".into())], false)).expect("played");
    let output = net.source(hears_b).expect("a source");
    let told = net.mixer.told();
    let played = told.iter().any(|command| {
        matches!(command, MixCommand::Play { output: Some(number), sounds, .. } if *number == output.0 && sounds.len() == 1)
    });
    assert!(played, "{told:?}");
    assert_ne!(net.source(hears_a), Some(output));
    net.run(b.stop_playing(hears_b)).expect("stopped");
    assert_eq!(net.source(hears_b), Some(voice_a));
    // What ends by itself is told; the end of what was replaced is not taken for that of what is played now.
    let mut events = b.events();
    net.mixer.told();
    for _ in 0..2 {
        net.run(b.play(hears_b, vec![Sound::JoinChime], false)).expect("played");
    }
    let numbers: Vec<u32> = net
        .mixer
        .told()
        .iter()
        .filter_map(|command| match command {
            MixCommand::Play { number, .. } => Some(*number),
            _ => None,
        })
        .collect();
    let output = net.source(hears_b).expect("a source");
    let ended = |net: &mut Net, number: u32| {
        let data = json!({"track": output.0, "number": number});
        net.mix_says(DirectIn::Event { name: "x.playend", data });
    };
    ended(&mut net, numbers[0]);
    assert_eq!(net.source(hears_b), Some(output), "the first was replaced");
    ended(&mut net, numbers[1]);
    assert_eq!(net.source(hears_b), Some(voice_a));
    assert_eq!(net.run(events.next()), Some(PeerEvent::PlayEnded { consumer: hears_b }));
    let strange = net.run(b.play(ConsumerId(9_999), vec![Sound::Busy], false));
    assert!(strange.is_err());
    for peer in [&a, &b] {
        net.leave(peer);
    }
    net.assert_clean();
}

#[test]
fn a_mix_reaches_viewers_on_another_worker() {
    let mut net = Net::new(2, |config| config.receivers_per_router = 1);
    let (a, _) = net.publish("a", &[opus()]);
    let (b, _) = net.publish("b", &[opus()]);
    let (near, near_hears) = net.view(&[opus()]);
    let (far, far_hears) = net.view(&[opus()]);
    assert_eq!(net.mixer.started(), 1);
    let piped = net.source(far_hears[0]).expect("a source");
    assert_ne!(Some(piped), net.source(near_hears[0]));
    assert_eq!(
        net.workers[1].producers[&piped.0].data["rtpParameters"]["codecs"][0]["mimeType"],
        "audio/opus"
    );
    for peer in [&far, &near, &a, &b] {
        net.leave(peer);
    }
    net.assert_clean();
}

#[test]
fn a_lost_worker_takes_the_mix_along_and_nothing_of_it_stays() {
    let mut net = one_worker();
    let (a, _, _) = net.call("a", &pcmu());
    let (b, _, _) = net.call("b", &opus());
    let (viewer, _) = net.view(&[opus()]);
    assert_eq!(net.mixer.running(), 1);
    net.kill(0);
    for peer in [&a, &b, &viewer] {
        assert_eq!(net.closed(peer).map(|reason| reason.code), Some("worker_lost"));
    }
    assert_eq!(net.mixer.running(), 0);
    net.revive(0);
    let (again, _, hears) = net.call("a", &pcmu());
    assert!(net.source(hears).is_some());
    net.leave(&again);
    net.advance(10_100);
    net.assert_clean();
}

#[test]
fn a_publisher_that_comes_back_is_heard_again_by_the_same_listeners() {
    let mut net = one_worker();
    let (other, _) = net.publish("other", &[opus()]);
    let (old, _) = net.publish("live", &[opus()]);
    let (viewer, hears) = net.view(&[opus()]);
    let mixed = net.source(hears[0]);
    net.mixer.told();
    let (new, _) = net.publish("live", &[opus()]);
    assert!(net.closed(&old).is_some());
    assert_eq!(net.source(hears[0]), mixed, "the same output all the time");
    assert_eq!(sources(&net.mixer.told()), 0, "one voice went, one came");
    for peer in [&other, &new, &viewer] {
        net.leave(peer);
    }
    net.assert_clean();
}

#[test]
fn what_is_played_to_a_room_is_a_track_that_everybody_hears_until_it_ends() {
    let mut net = one_worker();
    let (a, _, hears_a) = net.call("a", &pcmu());
    let (b, _, by_b) = net.member("b", &[]);
    net.advance(5_100);
    let mut seen = net.rooms.watch(&room());
    drain(&mut seen);
    // Somebody is called.
    let called = net.join_publisher("called");
    let mut told = called.events();
    assert!(called.play_to_room(vec![Sound::Ringback]));
    let commands = net.mixer.told();
    assert!(matches!(&commands[..], [
        MixCommand::AddOutput { track: 1, without: None, .. },
        MixCommand::Play { output: Some(1), sounds, over: false, .. },
    ] if sounds[..] == [Sound::Ringback]));
    net.pump();
    assert_eq!(drain(&mut seen), ["+called", "+audio/opus"]);
    let [tone] = net.tracks(&called)[..] else { panic!("one track") };
    let heard = net.take(&b, by_b, tone, &[opus()]).expect("a consumer").consumer;
    assert_eq!(net.source(heard), Some(tone), "by itself");
    assert!(net.source(hears_a).is_some_and(|source| source != tone), "converted, or by the mix");
    // Something else in its place; then it has been played.
    assert!(called.play_to_room(vec![Sound::Busy]));
    assert_eq!(net.tracks(&called), [tone]);
    net.mix_says(DirectIn::Event { name: "x.playend", data: json!({"track": 1, "number": 0}) });
    assert_eq!(drain(&mut seen), ["-track"]);
    let played = PeerEvent::PlayedToRoom;
    assert_eq!(told.poll_next(&mut Context::from_waker(Waker::noop())), Poll::Ready(Some(played)));
    assert!(!net.workers[0].consumers.contains_key(&heard.0), "who heard it by itself does no more");
    assert!(net.closed(&called).is_none(), "it stays");

    // What breaks off ends the track alone, and what cannot be played is said.
    assert!(called.play_to_room(vec![Sound::Hold]));
    net.pump();
    assert_eq!(net.tracks(&called).len(), 1);
    net.mix_says(DirectIn::Failed("broke".into()));
    assert!(net.tracks(&called).is_empty() && net.closed(&called).is_none());
    *net.mixer.full.lock().expect("a lock") = true;
    assert!(!called.play_to_room(vec![Sound::Hold]));
    for peer in [&a, &b, &called] {
        net.leave(peer);
    }
    net.assert_clean();
}
