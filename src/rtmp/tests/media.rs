use super::*;
use crate::core::payload::h264;
use crate::core::session::{Command, Session};

fn millis(client: &Client, track: u32) -> Vec<(i64, i64)> {
    let of_track = client.frames().into_iter().filter(|frame| frame.track == track);
    of_track.map(|frame| (frame.pts.as_micros() / 1000, frame.dts.as_micros() / 1000)).collect()
}

fn nal_types(data: &[u8]) -> Vec<u8> {
    h264::nals(data).map(h264::nal_type).collect()
}

#[test]
fn picture_and_sound_on_one_clock() {
    let mut client = Client::publishing();
    client.wait(700);
    client.video(5000, &avc(true, 0, 0, &bytes(BASELINE)));
    client.audio(5000, AAC_48K);
    client.video(5000, &avc(true, 1, 0, &unit(&[IDR])));
    client.audio(5021, &[0xaf, 1, 0x21, 0x22]);
    client.video(5033, &avc(false, 1, 0, &unit(&[P])));
    assert_eq!(millis(&client, 0), [(700, 700), (733, 733)]);
    assert_eq!(millis(&client, 1), [(721, 721)]);
    let tracks = client.tracks();
    assert_eq!(tracks.len(), 2);
    assert_eq!(
        (tracks[0].codec.mime_type.as_str(), tracks[0].codec.clock_rate),
        ("audio/mpeg4-generic", 48_000)
    );
    assert_eq!((tracks[0].codec.channels, tracks[0].config.as_slice()), (Some(2), &[0x11, 0x90][..]));
    assert_eq!(tracks[1].codec.mime_type, "video/H264");
    assert_eq!(tracks[1].codec.parameter("profile-level-id").unwrap(), "42c01e");
    assert!(!tracks[1].reordered && tracks[1].config.is_empty());
    let frames = client.frames();
    assert!(frames[0].keyframe && !frames[2].keyframe);
    assert_eq!(nal_types(&frames[0].data), [7, 8, 5]);
    assert_eq!(frames[1].data, [0x21, 0x22]);
    assert!(client.notices().is_empty());
}

#[test]
fn lengths_of_two_bytes_become_four() {
    let mut record = bytes(BASELINE);
    record[4] = 0xfd;
    let mut client = Client::publishing();
    client.video(0, &avc(true, 0, 0, &record));
    client.video(0, &avc(true, 1, 0, &[&[0, 4][..], IDR].concat()));
    assert_eq!(nal_types(&client.frames()[0].data), [7, 8, 5]);
    client.video(40, &avc(false, 1, 0, &[0, 9, 1]));
    assert_eq!((client.frames().len(), client.notices().len()), (1, 1));
}

#[test]
fn parameter_sets_in_band_are_not_doubled_and_replace_the_header() {
    let mut client = Client::publishing();
    client.video(0, &avc(true, 0, 0, &bytes(MAIN)));
    let inband = h264::DecoderConfig::parse(&bytes(BASELINE)).unwrap();
    client.video(0, &avc(true, 1, 0, &unit(&[&inband.sps[0], &inband.pps[0], IDR])));
    client.video(40, &avc(true, 1, 0, &unit(&[IDR])));
    let frames = client.frames();
    assert_eq!((nal_types(&frames[0].data), nal_types(&frames[1].data)), (vec![7, 8, 5], vec![7, 8, 5]));
    assert_eq!(h264::nals(&frames[1].data).next(), Some(inband.sps[0].as_slice()));
    assert_eq!(client.tracks()[0].codec.parameter("profile-level-id").unwrap(), "42c01e");
}

#[test]
fn b_frames_are_known_from_the_first_keyframe() {
    let mut client = Client::publishing();
    client.video(0, &avc(true, 0, 0, &bytes(MAIN)));
    client.video(0, &avc(true, 1, 67, &unit(&[IDR])));
    client.video(33, &avc(false, 1, 133, &unit(&[P])));
    client.video(67, &avc(false, 1, 33, &unit(&[B])));
    assert_eq!(millis(&client, 0), [(67, 0), (166, 33), (100, 67)]);
    assert_eq!(client.tracks().len(), 1);
    assert!(client.tracks()[0].reordered);
    let frames = client.frames();
    assert!(!frames[1].discardable && frames[2].discardable);
    assert_eq!(client.notices().len(), 1);
    assert!(client.notices()[0].contains("B-frames") && client.notices()[0].contains("-bf 0"));
}

#[test]
fn b_frames_that_come_later_change_the_track() {
    let mut client = Client::publishing();
    client.video(0, &avc(true, 0, 0, &bytes(MAIN)));
    client.video(0, &avc(true, 1, 0, &unit(&[IDR])));
    client.video(33, &avc(false, 1, 0, &unit(&[P])));
    assert!(client.tracks().iter().all(|track| !track.reordered));
    client.video(67, &avc(false, 1, 0, &unit(&[B])));
    assert_eq!(client.tracks().iter().map(|track| track.reordered).collect::<Vec<_>>(), [false, true]);
    let position = |wanted: fn(&Event) -> bool| client.events.iter().rposition(wanted).unwrap();
    let changed = position(|event| matches!(event, Event::TrackChanged(_)));
    assert!(changed < position(|event| matches!(event, Event::Frame(_))), "told before the frame");
}

#[test]
fn a_constant_offset_in_a_stream_that_cannot_reorder_is_no_b_frame() {
    let mut client = Client::publishing();
    client.video(0, &avc(true, 0, 0, &bytes(BASELINE)));
    for frame in 0..10 {
        client.video(frame * 33, &avc(frame == 0, 1, 33, &unit(&[if frame == 0 { IDR } else { P }])));
    }
    assert!(client.tracks().iter().all(|track| !track.reordered));
    client.video(400, &avc(false, 1, -200, &unit(&[P])));
    assert!(client.tracks().last().unwrap().reordered, "presentation went back");
}

#[test]
fn a_small_step_back_of_the_encoder_is_not_taken_for_b_frames() {
    let mut client = Client::publishing();
    client.video(3000, &avc(true, 0, 0, &bytes(MAIN)));
    client.video(3000, &avc(true, 1, 0, &unit(&[IDR])));
    client.video(1000, &avc(false, 1, 0, &unit(&[P])));
    client.video(1033, &avc(false, 1, 0, &unit(&[P])));
    assert!(client.tracks().iter().all(|track| !track.reordered) && client.notices().is_empty());
    assert_eq!(millis(&client, 0), [(0, 0), (-2000, -2000), (-1967, -1967)]);
}

#[test]
fn new_parameters_are_told_at_the_keyframe_that_uses_them() {
    let mut client = Client::publishing();
    client.video(0, &avc(true, 0, 0, &bytes(BASELINE)));
    client.video(0, &avc(true, 1, 0, &unit(&[IDR])));
    client.video(40, &avc(true, 0, 0, &bytes(BASELINE)));
    client.video(40, &avc(true, 1, 0, &unit(&[IDR])));
    assert_eq!(client.tracks().len(), 1, "the same header again is no change");
    client.video(80, &avc(true, 0, 0, &bytes(MAIN)));
    client.video(80, &avc(false, 1, 0, &unit(&[P])));
    assert_eq!(client.tracks().len(), 1);
    client.video(120, &avc(true, 1, 0, &unit(&[IDR])));
    assert_eq!(client.tracks()[1].codec.parameter("profile-level-id").unwrap(), "4d4028");
    client.audio(0, AAC_48K);
    client.audio(0, &[0xaf, 0, 0x12, 0x10]);
    assert_eq!(client.tracks().last().unwrap().codec.clock_rate, 44_100);
    assert!(matches!(client.events.last(), Some(Event::TrackChanged(_))));
}

#[test]
fn media_before_its_configuration_is_left_out_with_one_notice() {
    let mut client = Client::publishing();
    for time in [0, 40] {
        client.video(time, &avc(true, 1, 0, &unit(&[IDR])));
        client.audio(time, &[0xaf, 1, 1, 2]);
    }
    assert!(client.frames().is_empty());
    assert_eq!(client.notices().len(), 2);
    client.video(80, &avc(true, 0, 0, &bytes(BASELINE)));
    client.video(80, &avc(false, 1, 0, &unit(&[P])));
    assert!(client.frames().is_empty(), "nothing before the first keyframe");
    client.video(120, &avc(true, 1, 0, &unit(&[IDR])));
    assert_eq!(client.frames().len(), 1);
}

#[test]
fn the_clock_runs_on_over_32_bits_and_a_restart_is_said() {
    let mut client = Client::publishing();
    client.video(u32::MAX - 19, &avc(true, 0, 0, &bytes(BASELINE)));
    client.video(u32::MAX - 19, &avc(true, 1, 0, &unit(&[IDR])));
    client.video(20, &avc(false, 1, 0, &unit(&[P])));
    assert_eq!(millis(&client, 0), [(0, 0), (40, 40)]);
    client.wait(100);
    client.video(500_000, &avc(true, 1, 0, &unit(&[IDR])));
    client.video(0, &avc(false, 1, 0, &unit(&[P])));
    assert_eq!(millis(&client, 0)[2..], [(100, 100), (20, 20)]);
    assert_eq!(client.notices().len(), 1);
    assert!(client.notices()[0].contains("499.98"), "{}", client.notices()[0]);
}

#[test]
fn other_codecs_are_named_once() {
    let mut client = Client::publishing();
    for _ in 0..3 {
        client.video(0, b"\x90hvc1record");
        client.audio(0, b"\x2fmp3");
    }
    assert!(client.tracks().is_empty() && client.frames().is_empty());
    assert_eq!(client.notices().len(), 2);
    assert!(client.notices()[0].contains("H.265") && client.notices()[1].contains("MP3"));
}

#[test]
fn enhanced_opus_and_avc1() {
    let mut client = Client::publishing();
    client.audio(0, b"\x90OpusOpusHead\x01\x02\0\0\x80\xbb\0\0\0\0\0");
    client.audio(20, b"\x91Opus\x78\x01");
    client.video(0, &[b"\x90avc1", bytes(BASELINE).as_slice()].concat());
    client.video(0, &[b"\x93avc1", unit(&[IDR]).as_slice()].concat());
    assert_eq!(client.tracks()[0].codec.mime_type, "audio/opus");
    assert_eq!(client.tracks()[1].codec.mime_type, "video/H264");
    assert_eq!(client.frames()[0].data, [0x78, 1]);
    assert_eq!(client.frames().len(), 2);
}

#[test]
fn missing_picture_or_sound_is_said_after_five_seconds() {
    let mut client = Client::publishing();
    client.audio(0, AAC_48K);
    client.wait(4_999);
    assert!(client.notices().is_empty());
    client.wait(1);
    assert!(client.notices()[0].starts_with("no picture"));
    let mut client = Client::publishing();
    client.wait(5_000);
    assert!(client.notices()[0].starts_with("neither picture nor sound"));
}

#[test]
fn open_groups_of_pictures_are_said() {
    let mut client = Client::publishing();
    client.video(0, &avc(true, 0, 0, &bytes(BASELINE)));
    client.video(0, &avc(true, 1, 0, &unit(&[IDR])));
    for group in 1..4 {
        client.video(group * 1000, &avc(true, 1, 0, &unit(&[P])));
    }
    assert_eq!(client.notices().len(), 1);
    assert!(client.notices()[0].contains("open GOP"));
}

#[test]
fn aggregates_are_taken_apart() {
    let mut client = Client::publishing();
    let tag = |kind: u8, time: u32, body: &[u8]| {
        let mut out = vec![kind];
        out.extend(&(body.len() as u32).to_be_bytes()[1..]);
        out.extend(&time.to_be_bytes()[1..]);
        out.extend([time.to_be_bytes()[0], 0, 0, 0]);
        out.extend(body);
        out.extend((body.len() as u32 + 11).to_be_bytes());
        out
    };
    let body = [
        tag(kind::AUDIO, 70_000, AAC_48K),
        tag(kind::AUDIO, 70_000, &[0xaf, 1, 9]),
        tag(kind::AUDIO, 70_021, &[0xaf, 1, 8]),
    ]
    .concat();
    client.feed(&client.message(4, 1, kind::AGGREGATE, 1000, body));
    assert_eq!(millis(&client, 1), [(0, 0), (21, 21)]);
}

#[test]
fn a_keyframe_request_is_not_an_error() {
    let mut client = Client::publishing();
    assert!(client.session.command(client.now, Command::RequestKeyframe { track: 0 }).is_ok());
    assert!(client.start <= client.now);
}
