use std::sync::mpsc;
use std::time::Duration;

use super::vclip::Clip;
use super::*;
use crate::core::convert::{DirectIn, DirectOut, MixCommand};
use crate::core::id::{ConnId, WorkerId};
use crate::core::lane::{self, Wake, lane};
use crate::core::session::Frame;
use crate::core::time::{Epoch, MediaTime};

pub fn conn() -> ConnId {
    ConnId::new(0, WorkerId(0), 7)
}

pub fn codec(mime: &str, parameters: &[(&str, &str)]) -> RtpCodec {
    RtpCodec {
        mime_type: mime.to_owned(),
        payload_type: 100,
        clock_rate: 48_000,
        channels: None,
        parameters: parameters.iter().map(|(name, value)| (name.to_string(), (*value).into())).collect(),
        rtcp_feedback: Vec::new(),
    }
}

pub fn audio_format(mime: &str, config: &[u8]) -> Format {
    Format { kind: Kind::Audio, codec: codec(mime, &[]), config: config.to_vec(), reordered: false }
}

pub fn frame(millis: i64, data: Vec<u8>) -> Frame {
    let time = MediaTime::from_millis(millis);
    Frame { track: 0, pts: time, dts: time, keyframe: true, discardable: false, data }
}

fn video(profile: &str, mode: &str) -> RtpCodec {
    codec("video/H264", &[("profile-level-id", profile), ("packetization-mode", mode)])
}

fn picture_format(reordered: bool) -> Format {
    Format { kind: Kind::Video, codec: video("640028", "1"), config: Vec::new(), reordered }
}

fn target(from: &Format, accepted: &[RtpCodec]) -> Option<(String, Option<String>)> {
    let to = super::target::target(from, accepted)?;
    assert!(!to.reordered && to.kind == from.kind);
    let profile = to.codec.parameter("profile-level-id");
    Some((to.codec.mime_type, profile))
}

#[test]
fn sound_becomes_opus_where_it_can() {
    let aac = audio_format("audio/mpeg4-generic", &[0x12, 0x10]);
    let offer = |names: &[&str]| -> Vec<RtpCodec> { names.iter().map(|name| codec(name, &[])).collect() };
    let chosen = |names: &[&str]| target(&aac, &offer(names)).map(|(mime, _)| mime);
    assert_eq!(chosen(&["audio/PCMU", "audio/OPUS"]).as_deref(), Some("audio/opus"));
    assert_eq!(chosen(&["audio/PCMA"]).as_deref(), Some("audio/PCMA"));
    assert_eq!(chosen(&["audio/PCMA", "audio/PCMU"]).as_deref(), Some("audio/PCMU"));
    assert_eq!(chosen(&["audio/G722", "video/H264"]), None);
    assert_eq!(target(&audio_format("audio/opus", &[]), &offer(&["audio/PCMU"])), None);
}

#[test]
fn pictures_become_baseline_only_where_reordered_or_too_large_for_single_units() {
    let baseline = Some(("video/H264".to_owned(), Some("42e01f".to_owned())));
    let offered = [video("64001f", "1"), video("42e01f", "0"), video("42001f", "1")];
    assert_eq!(target(&picture_format(true), &offered), baseline);
    assert_eq!(target(&picture_format(false), &offered), None);
    let single =
        super::target::target(&picture_format(false), &[video("42e01f", "0")]).expect("a conversion");
    assert!(single.codec.takes_single_units_only());
    let unsaid = [codec("video/H264", &[("profile-level-id", "42e01f")])];
    assert_eq!(target(&picture_format(false), &unsaid), None, "nothing said, nothing converted");
    assert_eq!(target(&picture_format(true), &unsaid), baseline);
    assert_eq!(target(&picture_format(true), &[codec("video/VP8", &[])]), None);
    let high = target(&picture_format(true), &[video("640c1f", "1")]);
    assert_eq!(high, Some(("video/H264".to_owned(), Some("640c1f".to_owned()))));
}

struct Bell(mpsc::SyncSender<()>);

impl Wake for Bell {
    fn wake(&self) {
        let _ = self.0.try_send(());
    }
}

struct Ends {
    input: lane::Sender<DirectOut>,
    output: lane::Receiver<DirectIn>,
    bell: mpsc::Receiver<()>,
}

fn job(from: &Format, accepted: &[RtpCodec]) -> (Job, Ends) {
    let (ring, bell) = mpsc::sync_channel(1);
    let (input, to_job) = lane(512, None);
    let (from_job, output) = lane(512, Some(Arc::new(Bell(ring))));
    let to = super::target::target(from, accepted).unwrap();
    (
        Job { conn: conn(), from: from.clone(), to, input: to_job, output: from_job },
        Ends { input, output, bell },
    )
}

/// Frames of the output, as many as `count`, waiting for each wake at most five seconds.
fn receive(ends: &Ends, count: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    while frames.len() < count {
        match ends.output.pop() {
            Ok(Some(DirectIn::Frame(frame) | DirectIn::Aged { frame, .. })) => frames.push(frame),
            Ok(Some(other)) => panic!("{other:?}"),
            Ok(None) => ends.bell.recv_timeout(Duration::from_secs(5)).expect("output"),
            Err(lane::Closed) => panic!("the job is gone after {} frames", frames.len()),
        }
    }
    frames
}

fn send_all(clip: &Clip<'_>, ends: &Ends) {
    for packet in &clip.packets {
        let frame = Frame {
            track: 1,
            pts: MediaTime::from_micros(packet.pts),
            dts: MediaTime::from_micros(packet.dts),
            keyframe: packet.keyframe,
            discardable: false,
            data: packet.data.to_vec(),
        };
        ends.input.push(DirectOut::Frame { frame, catchup: false }).unwrap();
    }
}

#[test]
fn both_kinds_run_on_the_threads_and_end_with_their_lanes() {
    let bridge = Bridge::start(BridgeConfig::default()).unwrap();
    let pictures = Clip::parse(include_bytes!("../../tests/data/bframes-flat.vclip")).unwrap();
    let sounds = Clip::parse(include_bytes!("../../tests/data/aac-44100-stereo.vclip")).unwrap();
    let (picture, picture_ends) = job(&picture_format(true), &[video("42e01f", "1")]);
    let aac = audio_format("audio/mpeg4-generic", sounds.tracks[0].config);
    let (sound, sound_ends) = job(&aac, &[codec("audio/opus", &[])]);
    bridge.start(picture).unwrap();
    bridge.start(sound).unwrap();
    send_all(&pictures, &picture_ends);
    send_all(&sounds, &sound_ends);
    assert_eq!(receive(&sound_ends, 148).len(), 148);
    // The last pictures stay inside until more come.
    assert_eq!(receive(&picture_ends, 88).len(), 88);
    let Ends { input, output, .. } = picture_ends;
    drop(input);
    while output.pop().is_ok() {
        std::thread::yield_now();
    }
}

#[test]
fn the_surplus_viewer_is_told_in_words_and_a_place_is_given_back() {
    let bridge = Bridge::start(BridgeConfig { video_transcodes: 1, ..BridgeConfig::default() }).unwrap();
    let accepted = [video("42e01f", "1")];
    let (first, ends) = job(&picture_format(true), &accepted);
    bridge.start(first).unwrap();
    let refusal = bridge.start(job(&picture_format(true), &accepted).0).unwrap_err();
    assert!(refusal.to_string().contains("B-frames"), "{refusal}");
    drop(ends);
    while bridge.start(job(&picture_format(true), &accepted).0).is_err() {
        std::thread::yield_now();
    }
}

#[test]
fn sound_that_cannot_be_decoded_is_refused_at_once() {
    let bridge = Bridge::start(BridgeConfig { audio_transcodes: 1, ..BridgeConfig::default() }).unwrap();
    let surround = audio_format("audio/mpeg4-generic", &[0x11, 0xb0]);
    let opus = [codec("audio/opus", &[])];
    for _ in 0..3 {
        let refusal = bridge.start(job(&surround, &opus).0).unwrap_err();
        assert!(matches!(refusal, Refusal::Unsupported { .. }), "{refusal}");
    }
}

#[test]
fn a_mix_ticks_on_the_threads_until_nobody_holds_its_lanes() {
    let bridge = Bridge::start(BridgeConfig::default()).unwrap();
    // Threads sleep without jobs, and begin with the present when one comes.
    std::thread::sleep(Duration::from_millis(50));
    let epoch = Epoch { instant: std::time::Instant::now(), unix: Duration::ZERO };
    let (to_mix, input) = lane(64, None);
    let (ring, bell) = mpsc::sync_channel(1);
    let (output, from_mix) = lane(64, Some(Arc::new(Bell(ring)) as Arc<dyn Wake>));
    let (commands, told) = mpsc::channel();
    let format = bridge.output(&[codec("audio/PCMU", &[])]).unwrap();
    commands.send(MixCommand::AddOutput { track: 7, format, without: None }).unwrap();
    bridge.mix(MixJob { room: "room".into(), epoch, input, output, commands: told }).unwrap();
    let ends = Ends { input: to_mix, output: from_mix, bell };
    let frames = receive(&ends, 10);
    assert!(frames.iter().all(|frame| frame.track == 7 && frame.data.len() == 160));
    assert!(frames.windows(2).all(|pair| pair[1].pts.micros_since(pair[0].pts) == 20_000));
    assert!((-100_000..1_000_000).contains(&frames[0].pts.as_micros()), "{:?}", frames[0].pts);
    drop(commands);
    while ends.output.pop().is_ok() {
        std::thread::yield_now();
    }
    let limited =
        BridgeConfig { mix: MixConfig { rooms: 0, ..MixConfig::default() }, ..BridgeConfig::default() };
    let bridge = Bridge::start(limited).unwrap();
    let (_, input) = lane(1, None);
    let (output, _) = lane(1, None);
    let job = MixJob { room: "room".into(), epoch, input, output, commands: mpsc::channel().1 };
    assert!(matches!(bridge.mix(job), Err(Refusal::Busy(_))));
}
