//! Tracks with layers: publishers that send several, receivers that are put on one and on another, and what they
//! see.

use super::simulcast::{Coding, Decoder, PICTURE, Publisher, RIDS, Watcher, enable_with, read_mark};
use super::*;

fn events(lab: &mut Lab, target: u32, name: &str) -> Vec<Value> {
    let found = lab.events.extract_if(.., |event| event["targetId"] == target && event["event"] == name);
    found.map(|event| event["data"].clone()).collect()
}

#[test]
fn a_viewer_gets_the_best_stream_its_path_takes_and_sees_no_break() {
    for rids in [false, true] {
        let mut lab = Lab::new();
        let mut publisher = Publisher::join(&mut lab, Coding::Vp8, 3, rids);
        publisher.run(&mut lab, Duration::from_secs(3));
        let mut watcher = Watcher::join(&mut lab, Coding::Vp8, 11, b'v');
        watcher.remb(&mut lab, 5_000_000);
        watcher.watch(&mut lab, &mut publisher, 3.0);
        assert_eq!(watcher.decoder.now().0, 2, "the best");
        for (bitrate, stream) in [(400_000, 1), (90_000, 0), (400_000, 1), (3_000_000, 2)] {
            watcher.remb(&mut lab, bitrate);
            watcher.watch(&mut lab, &mut publisher, 6.0);
            assert_eq!(watcher.decoder.now().0, stream, "at {bitrate} bit/s");
            assert!((30..=31).contains(&watcher.decoder.rate()), "at {bitrate} bit/s");
        }
        watcher.whole();
        assert!(
            watcher.decoder.longest_break() < Duration::from_millis(80),
            "{:?}",
            watcher.decoder.longest_break()
        );
    }
}

#[test]
fn frame_rate_is_given_up_before_the_picture_size() {
    for coding in [Coding::Vp8, Coding::H264Described] {
        let mut lab = Lab::new();
        let mut publisher = Publisher::join(&mut lab, coding, 1, false);
        publisher.run(&mut lab, Duration::from_secs(3));
        let mut watcher = Watcher::join(&mut lab, coding, 11, b'v');
        for (bitrate, rate) in [(2_000_000, 30), (500_000, 15), (250_000, 8), (560_000, 15), (2_000_000, 30)]
        {
            watcher.remb(&mut lab, bitrate);
            watcher.watch(&mut lab, &mut publisher, 8.0);
            let now = watcher.decoder.rate();
            assert!(now.abs_diff(rate) <= 1, "{now} pictures a second at {bitrate} bit/s");
        }
        watcher.whole();
    }
}

#[test]
fn scalable_pictures_are_cut_down_and_keep_their_marker() {
    for coding in [Coding::Vp9Spatial, Coding::Av1Key] {
        let mut lab = Lab::new();
        let mut publisher = Publisher::join(&mut lab, coding, 1, false);
        publisher.run(&mut lab, Duration::from_secs(3));
        let mut watcher = Watcher::join(&mut lab, coding, 11, b'v');
        for (bitrate, spatial) in [(1_000_000, 1), (100_000, 0), (1_000_000, 1)] {
            watcher.remb(&mut lab, bitrate);
            watcher.watch(&mut lab, &mut publisher, 6.0);
            assert_eq!(watcher.decoder.now(), (0, spatial), "at {bitrate} bit/s");
            assert!((30..=31).contains(&watcher.decoder.rate()), "at {bitrate} bit/s");
        }
        watcher.whole();
        assert!(watcher.decoder.longest_break() < Duration::from_millis(80));
    }
}

#[test]
fn who_cannot_tell_sizes_apart_gets_the_smallest() {
    let mut lab = Lab::new();
    let mut publisher = Publisher::join(&mut lab, Coding::Av1Key, 1, false);
    publisher.run(&mut lab, Duration::from_secs(3));
    enable_with(&mut lab, Coding::Av1Key, 11, b'v', &[]);
    let mut viewer = Viewer::new(b'v');
    publisher.run(&mut lab, Duration::from_secs(3));
    lab.received(&mut viewer);
    let packets = viewer.of(11);
    assert!(packets.len() >= 90, "{} packets", packets.len());
    let spatial = |view: &RtpView<'_>| read_mark(view.payload).0.2;
    assert!(packets.iter().filter(|view| !view.payload.is_empty()).all(|view| spatial(view) == 0));
    assert!(packets.iter().any(|view| view.marker));
}

#[test]
fn a_stream_that_dies_is_left_at_once_and_taken_again_when_it_is_back() {
    let mut lab = Lab::new();
    let mut publisher = Publisher::join(&mut lab, Coding::Vp8, 3, false);
    publisher.run(&mut lab, Duration::from_secs(3));
    let mut watcher = Watcher::join(&mut lab, Coding::Vp8, 11, b'v');
    watcher.remb(&mut lab, 5_000_000);
    watcher.watch(&mut lab, &mut publisher, 3.0);
    publisher.streams[2].active = false;
    watcher.watch(&mut lab, &mut publisher, 3.0);
    assert_eq!(watcher.decoder.now().0, 1);
    let silence = watcher.decoder.longest_break();
    assert!(silence < Duration::from_millis(800), "{silence:?}");
    (publisher.streams[2].active, publisher.streams[2].keyframe) = (true, true);
    watcher.watch(&mut lab, &mut publisher, 6.0);
    assert_eq!(watcher.decoder.now().0, 2);
    assert_eq!(watcher.decoder.longest_break(), silence, "no break on the way back");
    watcher.whole();
}

#[test]
fn profiles_are_preferred_and_told() {
    let mut lab = Lab::new();
    let mut publisher = Publisher::join(&mut lab, Coding::Vp8, 3, false);
    publisher.run(&mut lab, Duration::from_secs(3));
    let mut watcher = Watcher::join(&mut lab, Coding::Vp8, 11, b'v');
    watcher.remb(&mut lab, 10_000_000);
    watcher.prefer(&mut lab, "consumer.setPreferredProfile", json!({"profile": "low"}));
    watcher.watch(&mut lab, &mut publisher, 2.0);
    assert_eq!(watcher.decoder.now().0, 0);
    events(&mut lab, 111, "effectiveprofilechange");
    watcher.prefer(&mut lab, "consumer.setPreferredProfile", json!({"profile": "high"}));
    watcher.watch(&mut lab, &mut publisher, 1.0);
    assert_eq!(events(&mut lab, 111, "effectiveprofilechange"), [json!({"profile": "high"})]);
    let layers = events(&mut lab, 111, "x.layerschange");
    assert_eq!(layers.last(), Some(&json!({"spatialLayer": 2, "temporalLayer": 2})));
    let dump = lab.ok("consumer.dump", [0, 0, 111], json!({}));
    assert_eq!((&dump["preferredProfile"], &dump["effectiveProfile"]), (&json!("high"), &json!("high")));
    watcher.prefer(&mut lab, "consumer.setPreferredProfile", json!({"profile": "default"}));
    lab.ok("producer.setPreferredProfile", [0, 20, 0], json!({"profile": "medium"}));
    watcher.watch(&mut lab, &mut publisher, 1.0);
    assert_eq!(watcher.decoder.now().0, 1);
    watcher.prefer(&mut lab, "x.consumer.setPreferredLayers", json!({"spatialLayer": 0, "temporalLayer": 1}));
    watcher.watch(&mut lab, &mut publisher, 2.0);
    assert!(watcher.decoder.now().0 == 0 && (15..=16).contains(&watcher.decoder.rate()));
    for (profile, fault) in [("none", "invalid profile"), ("best", "unknown profile")] {
        let refused = lab.request("consumer.setPreferredProfile", [0, 0, 111], json!({"profile": profile}));
        assert!(refused.unwrap_err().contains(fault));
    }
    lab.ok("consumer.pause", [0, 0, 111], json!({}));
    watcher.watch(&mut lab, &mut publisher, 0.5);
    assert_eq!(events(&mut lab, 111, "effectiveprofilechange").last(), Some(&json!({"profile": "none"})));
    watcher.whole();
}

#[test]
fn nobody_is_asked_for_keyframes_of_streams_that_nobody_wants() {
    let mut lab = Lab::new();
    let mut publisher = Publisher::join(&mut lab, Coding::Vp8, 3, true);
    publisher.run(&mut lab, Duration::from_secs(25));
    let mut watcher = Watcher::join(&mut lab, Coding::Vp8, 11, b'v');
    watcher.prefer(&mut lab, "x.consumer.setPreferredLayers", json!({"spatialLayer": 1}));
    watcher.remb(&mut lab, 5_000_000);
    watcher.watch(&mut lab, &mut publisher, 0.1);
    publisher.streams[2].asked = 0;
    watcher.watch(&mut lab, &mut publisher, 6.0);
    assert_eq!(watcher.decoder.now().0, 1);
    assert_eq!(publisher.streams[2].asked, 0);
    assert!(publisher.streams[1].asked > 0, "its cached group was too old");
    let wanted = events(&mut lab, 20, "x.wantedlayers");
    let last = wanted.last().expect("told")["encodings"].clone();
    assert_eq!(
        last.as_array().unwrap().iter().map(|of| of["wanted"] == true).collect::<Vec<_>>(),
        [true, true, false]
    );
    assert_eq!(last[2]["rid"], "f");
    watcher.watch(&mut lab, &mut publisher, 1.0);
    assert!((400_000..600_000).contains(&publisher.limit), "{}: it need not send the best", publisher.limit);
    // Its source stops it, and it can be had again.
    publisher.streams[2].active = false;
    watcher.watch(&mut lab, &mut publisher, 5.0);
    watcher.prefer(&mut lab, "x.consumer.setPreferredLayers", json!({"spatialLayer": 2}));
    watcher.watch(&mut lab, &mut publisher, 0.1);
    let wanted = events(&mut lab, 20, "x.wantedlayers");
    assert_eq!(wanted.last().expect("told")["encodings"][2]["wanted"], true);
    assert_eq!(publisher.limit, 10_000_000, "and hears at once that it may");
    (publisher.streams[2].active, publisher.streams[2].keyframe) = (true, true);
    watcher.watch(&mut lab, &mut publisher, 3.0);
    assert_eq!(watcher.decoder.now().0, 2);
    watcher.whole();
}

#[test]
fn a_receiver_that_says_nothing_climbs_step_by_step() {
    let mut lab = Lab::new();
    let mut publisher = Publisher::join(&mut lab, Coding::Vp8, 3, false);
    publisher.run(&mut lab, Duration::from_secs(3));
    let mut watcher = Watcher::join(&mut lab, Coding::Vp8, 11, b'v');
    watcher.watch(&mut lab, &mut publisher, 20.0);
    assert_eq!(watcher.decoder.now().0, 2);
    watcher.whole();
    assert_eq!(events(&mut lab, 20, "x.score"), [json!(null); 0], "all is well");
    assert_eq!(events(&mut lab, 111, "x.score").last().unwrap()["producerScores"], json!([10, 10, 10]));
    publisher.streams[0].active = false;
    watcher.watch(&mut lab, &mut publisher, 1.0);
    let scores = events(&mut lab, 20, "x.score");
    assert_eq!(scores.last().unwrap()["scores"][0], json!({"encodingIdx": 0, "ssrc": 1001, "score": 0}));
}

#[test]
fn one_path_is_shared_and_priority_counts() {
    let mut lab = Lab::new();
    let mut publisher = Publisher::join(&mut lab, Coding::Vp8, 3, false);
    publisher.run(&mut lab, Duration::from_secs(3));
    let mut watcher = Watcher::join(&mut lab, Coding::Vp8, 11, b'v');
    // A second view of the same track on the same transport.
    lab.ok("router.createConsumer", [0, 20, 211], json!({"kind": "video"}));
    let mut codec = Coding::Vp8.codec();
    codec["payloadType"] = json!(102);
    let parameters = json!({"codecs": [codec], "encodings": [{"ssrc": 500}]});
    lab.ok("consumer.enable", [11, 20, 211], json!({"rtpParameters": parameters}));
    lab.ok("x.consumer.setPriority", [0, 0, 211], json!({"priority": 20}));
    watcher.remb(&mut lab, 1_050_000);
    watcher.watch(&mut lab, &mut publisher, 10.0);
    let mut second = Decoder::default();
    second.take(Coding::Vp8, &mut watcher.viewer, 500);
    assert_eq!((watcher.decoder.now().0, second.now().0), (0, 2));
}

#[test]
fn a_network_that_loses_pictures_breaks_no_more_than_those() {
    let mut lab = Lab::new();
    let mut publisher = Publisher::join(&mut lab, Coding::Vp8, 3, true);
    publisher.run(&mut lab, Duration::from_secs(3));
    let mut watcher = Watcher::join(&mut lab, Coding::Vp8, 11, b'v');
    watcher.remb(&mut lab, 5_000_000);
    watcher.watch(&mut lab, &mut publisher, 3.0);
    let next = publisher.picture;
    publisher.lose = (0..3).flat_map(|stream| [(stream, next + 5), (stream, next + 40)]).collect();
    // The decoder insists on numbers without gaps: what is lost on the way in is a gap indeed.
    publisher.run(&mut lab, Duration::from_secs(3));
    lab.received(&mut watcher.viewer);
    let sequences: Vec<u16> = watcher.viewer.of(11).iter().map(|view| view.sequence).collect();
    let gaps = sequences.windows(2).filter(|pair| pair[1] != pair[0].wrapping_add(1)).count();
    assert_eq!(gaps, 2);
    publisher.keyframes();
    watcher.remb(&mut lab, 200_000);
    publisher.run(&mut lab, Duration::from_secs(3));
    lab.received(&mut watcher.viewer);
    let after: Vec<u16> = watcher.viewer.of(11).iter().map(|view| view.sequence).collect();
    let gaps = after.windows(2).filter(|pair| pair[1] != pair[0].wrapping_add(1)).count();
    assert_eq!(gaps, 2, "a change of the stream brings none");
}

#[test]
fn receivers_behind_a_pipe_choose_too_and_what_they_do_not_want_is_not_carried() {
    let (mut near, mut far) = (Lab::new(), Lab::new());
    let mut publisher = Publisher::join(&mut near, Coding::Vp8, 3, true);
    let ((to_far, at_far), (to_near, at_near)) = (lane(1024, None), lane(1024, None));
    near.worker.handle_mail(near.now, Mail::Pipe { attach: 1, input: at_near, output: to_far }, None);
    near.ok("x.router.createPipeTransport", [50, 0, 0], json!({"attach": 1}));
    near.ok("router.createConsumer", [0, 20, 70], json!({"kind": "video"}));
    let one = json!({"codecs": [Coding::Vp8.codec()], "encodings": [{"ssrc": 70}]});
    near.ok("consumer.enable", [50, 20, 70], json!({"rtpParameters": one}));
    far.ok("worker.createRouter", [0; 3], json!({}));
    far.worker.handle_mail(far.now, Mail::Pipe { attach: 2, input: at_far, output: to_near }, None);
    far.ok("x.router.createPipeTransport", [60, 0, 0], json!({"attach": 2}));
    let three = json!({
        "codecs": [Coding::Vp8.codec()],
        "encodings": RIDS.map(|rid| json!({"encodingId": rid})),
    });
    let track = json!({"kind": "video", "rtpParameters": three, "x.track": 70});
    far.ok("router.createProducer", [60, 20, 0], track);

    let run = |near: &mut Lab, far: &mut Lab, publisher: &mut Publisher, seconds: u32| {
        let mut carried = [0; 3];
        for _ in 0..30 * seconds {
            publisher.run(near, PICTURE);
            let before: Vec<u64> = counts(far);
            far.worker.handle_lanes(near.now);
            far.run(near.now - far.now);
            near.worker.handle_lanes(near.now);
            near.flush();
            counts(far)
                .iter()
                .zip(before)
                .zip(&mut carried)
                .for_each(|((after, before), sum)| *sum += after - before);
        }
        carried
    };
    fn counts(far: &mut Lab) -> Vec<u64> {
        let space = far.worker.spaces.get(0).expect("a router");
        space
            .router
            .producers
            .iter()
            .next()
            .map(|(_, source)| source)
            .map_or_else(Vec::new, |source| source.streams.iter().map(|stream| stream.store.head()).collect())
    }
    run(&mut near, &mut far, &mut publisher, 3);
    let mut watcher = Watcher::join(&mut far, Coding::Vp8, 11, b'v');
    watcher.remb(&mut far, 5_000_000);
    run(&mut near, &mut far, &mut publisher, 10);
    watcher.look(&mut far);
    assert_eq!(watcher.decoder.now().0, 2);
    let carried = run(&mut near, &mut far, &mut publisher, 2);
    assert!(carried[0] > 0 && carried[1] == 0 && carried[2] > 0, "{carried:?}");
    watcher.remb(&mut far, 400_000);
    run(&mut near, &mut far, &mut publisher, 12);
    watcher.look(&mut far);
    assert_eq!(watcher.decoder.now().0, 1);
    let carried = run(&mut near, &mut far, &mut publisher, 1);
    assert!(carried[1] > 0 && carried[2] == 0, "{carried:?}");
    watcher.look(&mut far);
    watcher.whole();
    let silence = watcher.decoder.longest_break();
    assert!(silence < Duration::from_millis(150), "{silence:?}");
}
