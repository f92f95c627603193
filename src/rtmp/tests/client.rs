//! Our end as a client: against our own server, and against written-down servers that refuse, move and play.

use super::*;
use crate::core::capabilities::RtpCodec;
use crate::core::session::{Command, Ending};
use crate::core::time::MediaTime;
use crate::rtmp::wire::handshake::Progress;
use crate::rtmp::{RtmpClient, RtmpUrl, TlsSession, Wish};

fn client(wish: Wish) -> (RtmpClient, Instant, Epoch) {
    let start = Instant::now();
    let epoch = Epoch { instant: start, unix: Duration::from_secs(1_000_000) };
    let url = RtmpUrl::parse("rtmp://there.example/studio/k3y").unwrap();
    (RtmpClient::new(Arc::new(RtmpConfig::default()), epoch, start, url, wish), start, epoch)
}

/// Moves what one end says to the other; answers the events on the way.
fn pass(from: &mut dyn Session, to: &mut dyn Session, now: Instant) -> (bool, Vec<Event>) {
    let (mut moved, mut events) = (false, Vec::new());
    while let Some(output) = from.poll_output() {
        match output {
            Output::Bytes(bytes) => {
                moved = true;
                to.handle_input(now, Input::Bytes(&bytes));
            }
            Output::Event(event) => events.push(event),
            Output::Datagram { .. } => panic!("no datagrams here"),
        }
    }
    (moved, events)
}

fn codec(mime: &str, config: Option<&str>) -> RtpCodec {
    RtpCodec {
        mime_type: mime.to_owned(),
        payload_type: 96,
        clock_rate: 90_000,
        channels: None,
        parameters: config.map(|config| ("config".to_owned(), config.into())).into_iter().collect(),
        rtcp_feedback: Vec::new(),
    }
}

fn sent(millis: i64, data: Vec<u8>) -> Frame {
    let time = MediaTime::from_millis(millis);
    Frame { track: 1, pts: time, dts: time, keyframe: true, discardable: false, data }
}

/// What our server gets of what our client pushes, through whatever is around the two.
fn push(mut near: impl Session, mut far: impl Session, now: Instant) -> Vec<Event> {
    for _ in 0..20 {
        let (one, _) = pass(&mut near, &mut far, now);
        let (other, _) = pass(&mut far, &mut near, now);
        if !one && !other {
            break;
        }
    }
    let config = bytes(BASELINE);
    let sps = &config[8..8 + usize::from(config[7])];
    let pps = &config[8 + sps.len() + 3..];
    let video = codec("video/H264", None);
    near.handle_frame(now, &video, sent(5_000, unit(&[sps, pps, IDR])));
    near.handle_frame(now, &codec("audio/mpeg4-generic", Some("1190")), sent(5_010, vec![1, 2, 3]));
    near.handle_frame(now, &codec("audio/opus", None), sent(5_020, vec![4, 5]));
    near.handle_frame(now, &video, sent(5_033, unit(&[P])));
    near.command(now, Command::Close { reason: "enough".to_owned() }).unwrap();
    let (_, own) = pass(&mut near, &mut far, now);
    assert!(matches!(&own[..], [Event::Closed { ending: Ending::Closed, .. }]), "{own:?}");
    pass(&mut far, &mut near, now).1
}

fn check_pushed(events: &[Event]) {
    let tracks: Vec<_> =
        events.iter().filter_map(track).map(|track| track.codec.mime_type.as_str()).collect();
    assert_eq!(tracks, ["video/H264", "audio/mpeg4-generic", "audio/opus"]);
    let frames: Vec<_> = events.iter().filter_map(frame).collect();
    assert_eq!(frames.len(), 4);
    assert!(frames[0].keyframe && !frames[3].keyframe);
    assert_eq!(frames[3].pts.micros_since(frames[0].pts), 33_000);
    assert_eq!((&frames[1].data[..], &frames[2].data[..]), (&[1, 2, 3][..], &[4, 5][..]));
    assert!(matches!(events.last(), Some(Event::Closed { ending: Ending::Left, .. })));
}

/// Lets the publisher in as soon as it asks, and is the server otherwise.
struct Open(RtmpSession);

impl Session for Open {
    fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        self.0.handle_input(now, input);
        if let Some(request) = self.0.take_request() {
            assert_eq!((request.app.as_str(), request.stream.as_str()), ("studio", "k3y"));
            self.0.accept(now);
        }
    }
    fn command(&mut self, now: Instant, command: Command) -> Result<serde_json::Value, String> {
        self.0.command(now, command)
    }
    fn handle_timeout(&mut self, now: Instant) {
        self.0.handle_timeout(now);
    }
    fn poll_output(&mut self) -> Option<Output> {
        self.0.poll_output()
    }
    fn poll_timeout(&self) -> Option<Instant> {
        self.0.poll_timeout()
    }
    fn dump(&self) -> serde_json::Value {
        self.0.dump()
    }
}

impl crate::rtmp::session::Fail for Open {
    fn fail(&mut self, error: &crate::rtmp::RtmpError) {
        self.0.fail(error);
    }
}

#[test]
fn what_is_pushed_arrives_at_a_server() {
    let (near, now, epoch) = client(Wish::Publish);
    let far = Open(RtmpSession::new(Arc::new(RtmpConfig::default()), epoch, now));
    check_pushed(&push(near, far, now));
}

#[test]
fn the_same_over_tls() {
    let (near, now, epoch) = client(Wish::Publish);
    let (server, connector) = super::tls::configs();
    let near = TlsSession::connect(connector, "localhost", near).unwrap();
    let far = Open(RtmpSession::new(Arc::new(RtmpConfig::default()), epoch, now));
    check_pushed(&push(near, TlsSession::new(server, far).unwrap(), now));
}

#[test]
fn our_server_says_that_it_takes_opus_and_how_it_refuses() {
    let (mut near, now, epoch) = client(Wish::Publish);
    let mut far = RtmpSession::new(Arc::new(RtmpConfig::default()), epoch, now);
    for _ in 0..10 {
        pass(&mut near, &mut far, now);
        pass(&mut far, &mut near, now);
    }
    assert!(near.takes_opus() && !near.is_ready());
    assert!(far.take_request().is_some());
    far.reject(now, crate::rtmp::Reject::Denied("k3y is no good".to_owned()));
    pass(&mut far, &mut near, now);
    let Some(Output::Event(Event::Closed { reason, .. })) = near.poll_output() else { panic!("not closed") };
    assert!(reason.contains("NetStream.Publish.Denied") && reason.contains("(private)"), "{reason}");
    assert!(!reason.contains("k3y"));
}

/// A server by its script: it shakes hands and says what it is told to.
struct Script {
    near: RtmpClient,
    now: Instant,
    events: Vec<Event>,
}

impl Script {
    fn new(wish: Wish) -> Self {
        let (near, now, _) = client(wish);
        let mut script = Script { near, now, events: Vec::new() };
        let mut opening = Vec::new();
        while let Some(Output::Bytes(bytes)) = script.near.poll_output() {
            opening.extend(bytes);
        }
        let mut shake = handshake::Handshake::default();
        let Progress::Answer(answer) = shake.take(&mut &opening[..], 1, 2).unwrap() else {
            panic!("no answer")
        };
        script.near.handle_input(now, Input::Bytes(&answer));
        script
    }

    fn say(&mut self, kind: u8, timestamp: u32, payload: Vec<u8>) {
        let mut out = Vec::new();
        write_message(&mut out, 128, &Message { chunk_stream: 3, stream: 1, kind, timestamp, payload });
        self.near.handle_input(self.now, Input::Bytes(&out));
        while let Some(output) = self.near.poll_output() {
            if let Output::Event(event) = output {
                self.events.push(event);
            }
        }
    }

    fn command(&mut self, values: &[Value]) {
        self.say(kind::COMMAND_AMF0, 0, amf0::write_all(values));
    }

    fn status(&mut self, level: &str, code: &str) {
        let info = Value::object([("level", Value::text(level)), ("code", Value::text(code))]);
        self.command(&[Value::text("onStatus"), Value::Number(0.0), Value::Null, info]);
    }

    fn playing() -> Self {
        let mut script = Script::new(Wish::Play);
        script.command(&[Value::text("_result"), Value::Number(1.0), Value::Null, Value::Null]);
        script.command(&[Value::text("_result"), Value::Number(4.0), Value::Null, Value::Number(1.0)]);
        script.status("status", "NetStream.Play.Reset");
        assert!(!script.near.is_ready());
        script.status("status", "NetStream.Play.Start");
        assert!(script.near.is_ready() && !script.near.takes_opus());
        script
    }

    fn closed(&self) -> Option<(&str, Ending)> {
        self.events.iter().find_map(|event| match event {
            Event::Closed { reason, ending } => Some((reason.as_str(), *ending)),
            _ => None,
        })
    }
}

#[test]
fn what_a_server_plays_becomes_tracks() {
    let mut script = Script::playing();
    script.say(kind::VIDEO, 0, avc(true, 0, 0, &bytes(BASELINE)));
    script.say(kind::VIDEO, 0, avc(true, 1, 0, &unit(&[IDR])));
    script.say(kind::AUDIO, 10, AAC_48K.to_vec());
    script.say(kind::AUDIO, 10, vec![0xaf, 1, 9]);
    assert_eq!(script.events.iter().filter_map(track).count(), 2);
    assert_eq!(script.events.iter().filter_map(frame).count(), 2);
    script.status("status", "NetStream.Play.UnpublishNotify");
    assert_eq!(script.closed(), Some(("the source has ended", Ending::Left)));
}

#[test]
fn the_end_of_a_stream_is_told_by_control_messages_too() {
    let mut script = Script::playing();
    script.say(kind::USER_CONTROL, 0, vec![0, 1, 0, 0, 0, 1]);
    assert_eq!(script.closed().map(|(_, ending)| ending), Some(Ending::Left));
}

#[test]
fn a_source_that_falls_silent_is_given_up() {
    let mut script = Script::playing();
    script.now += Duration::from_secs(31);
    assert!(script.near.poll_timeout().is_some_and(|at| at <= script.now));
    script.near.handle_timeout(script.now);
    let Some(Output::Event(Event::Closed { ending, .. })) = script.near.poll_output() else {
        panic!("not closed")
    };
    assert_eq!(ending, Ending::Timeout);
}

#[test]
fn a_server_may_send_us_elsewhere() {
    let mut script = Script::new(Wish::Publish);
    let ex = Value::object([("code", Value::Number(302.0)), ("redirect", Value::text("rtmp://b/studio"))]);
    let info = Value::object([("level", Value::text("error")), ("ex", ex)]);
    script.command(&[Value::text("_error"), Value::Number(1.0), Value::Null, info]);
    assert_eq!(script.near.take_redirect().as_deref(), Some("rtmp://b/studio"));
    assert!(script.closed().is_some());
}

#[test]
fn whatever_a_server_says_costs_at_most_the_session() {
    let mut whole = Vec::new();
    for (kind, payload) in [
        (
            kind::COMMAND_AMF0,
            amf0::write_all(&[Value::text("_result"), Value::Number(1.0), Value::Null, Value::Null]),
        ),
        (
            kind::COMMAND_AMF0,
            amf0::write_all(&[Value::text("_result"), Value::Number(4.0), Value::Null, Value::Number(1.0)]),
        ),
        (kind::SET_CHUNK_SIZE, vec![0, 0, 16, 0]),
        (kind::VIDEO, avc(true, 0, 0, &bytes(BASELINE))),
        (kind::USER_CONTROL, vec![0, 6, 0, 0, 0, 1]),
    ] {
        write_message(&mut whole, 128, &Message { chunk_stream: 3, stream: 1, kind, timestamp: 0, payload });
    }
    let mut seed = 7u32;
    for _ in 0..500 {
        let mut script = Script::new(Wish::Play);
        let mut bytes = whole.clone();
        for _ in 0..4 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = (seed >> 8) as usize % bytes.len();
            bytes[at] ^= (seed >> 3) as u8;
        }
        script.near.handle_input(script.now, Input::Bytes(&bytes));
        while script.near.poll_output().is_some() {}
    }
}
