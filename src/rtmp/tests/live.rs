//! Real encoders on loopback. Ignored by default: they need `ffmpeg` and take seconds of real time
//! (`cargo test --lib rtmp::tests::live -- --ignored --nocapture`; `FFMPEG` names another binary).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use super::*;
use crate::core::id::{ConnId, WorkerId};
use crate::rtmp::io::{Admission, Listener, RtmpDoor, TlsProvider, serve};
use crate::rtmp::{Reject, Target};

pub(super) type Handed = (Box<dyn Session>, OwnedFd, Target);

pub(super) struct Door(pub(super) tokio::sync::mpsc::UnboundedSender<Handed>);

pub(super) struct Place(tokio::sync::mpsc::UnboundedSender<Handed>, Target);

impl RtmpDoor for Door {
    type Admission = Place;

    async fn publish(&self, target: Target, _remote: SocketAddr) -> Result<Place, Reject> {
        match target.key.as_deref() {
            Some("k3y") => Ok(Place(self.0.clone(), target)),
            _ => Err(Reject::BadAuth),
        }
    }
}

impl Admission for Place {
    fn conn(&self) -> ConnId {
        ConnId::new(0, WorkerId(0), 1)
    }

    async fn adopt(self, session: Box<dyn Session>, socket: OwnedFd) -> Result<(), String> {
        self.0.send((session, socket, self.1)).map_err(|error| error.to_string())
    }

    async fn abandon(self) {}
}

/// What a worker would do with the socket, until the session ends.
fn drive(mut session: Box<dyn Session>, socket: OwnedFd) -> Vec<Event> {
    let mut socket = TcpStream::from(socket);
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let (mut events, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        while let Some(output) = session.poll_output() {
            match output {
                Output::Bytes(bytes) => drop(socket.write_all(&bytes)),
                Output::Event(event) => events.push(event),
                Output::Datagram { .. } => {}
            }
        }
        if matches!(events.last(), Some(Event::Closed { .. })) {
            return events;
        }
        match socket.read(&mut buffer) {
            Ok(0) => session.handle_input(Instant::now(), Input::Eof),
            Ok(count) => session.handle_input(Instant::now(), Input::Bytes(&buffer[..count])),
            Err(_) if session.poll_timeout().is_some_and(|at| at <= Instant::now()) => {
                session.handle_timeout(Instant::now());
            }
            Err(_) => {}
        }
    }
}

/// Serves on `address` until one publisher, brought by `encoder`, has come and gone.
fn serve_one<T>(
    address: &str,
    tls: Option<TlsProvider>,
    patience: Duration,
    encoder: impl FnOnce(SocketAddr) -> T,
) -> (T, Option<(Target, Vec<Event>)>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = TcpListener::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        let (sender, mut handed) = tokio::sync::mpsc::unbounded_channel();
        let epoch = Epoch { instant: Instant::now(), unix: Duration::ZERO };
        let listeners = vec![Listener { socket, tls }];
        let server = serve(listeners, Arc::new(RtmpConfig::default()), epoch, Arc::new(Door(sender)));
        let server = tokio::spawn(server);
        let encoder = encoder(address);
        let handed = tokio::time::timeout(patience, handed.recv()).await.ok().flatten();
        let outcome = match handed {
            Some((session, socket, target)) => {
                let events = tokio::task::spawn_blocking(move || drive(session, socket)).await.unwrap();
                Some((target, events))
            }
            None => None,
        };
        server.abort();
        (encoder, outcome)
    })
}

/// Runs `ffmpeg ARGS ADDRESS` against a listener and returns what its session said.
fn publish(arguments: &str, path: &str) -> Option<(Target, Vec<Event>)> {
    publish_with("rtmp", None, arguments, path)
}

fn publish_with(
    scheme: &str,
    tls: Option<TlsProvider>,
    arguments: &str,
    path: &str,
) -> Option<(Target, Vec<Event>)> {
    let (mut encoder, outcome) = serve_one("127.0.0.1:0", tls, Duration::from_secs(5), |address| {
        let binary = std::env::var("FFMPEG").unwrap_or_else(|_| "ffmpeg".to_owned());
        Command::new(binary)
            .args(["-hide_banner", "-loglevel", "warning"])
            .args(arguments.split_whitespace())
            .args(["-f", "flv", &format!("{scheme}://{address}/{path}")])
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    });
    let _ = encoder.wait();
    outcome
}

/// For an encoder started by hand: serves on `RTMP_LISTEN` (key `k3y`) and prints what it said.
#[test]
#[ignore = "waits for an encoder"]
fn whoever_comes() {
    let address = std::env::var("RTMP_LISTEN").unwrap_or_else(|_| "127.0.0.1:19350".to_owned());
    let ((), outcome) = serve_one(&address, None, Duration::from_secs(60), |_| ());
    let (target, events) = outcome.unwrap();
    println!(
        "{target:?}: {} frames of video, {} of audio",
        frames(&events, 0).len(),
        frames(&events, 1).len()
    );
    events.iter().filter(|event| !matches!(event, Event::Frame(_))).for_each(|event| println!("{event:?}"));
}

const SOURCE: &str =
    "-re -f lavfi -i testsrc2=size=640x360:rate=30 -f lavfi -i sine=frequency=440:sample_rate=48000 -t 4";

fn frames(events: &[Event], track: u32) -> Vec<&Frame> {
    let of_track = events.iter().filter_map(super::frame);
    of_track.filter(|frame| frame.track == track).collect()
}

fn reordered(events: &[Event]) -> Vec<bool> {
    let tracks = events.iter().filter_map(super::track).filter(|track| track.id == 0);
    tracks.map(|track| track.reordered).collect()
}

fn check_times(events: &[Event]) {
    let mut times: Vec<i64> = frames(events, 0).iter().map(|frame| frame.pts.as_micros()).collect();
    let dts: Vec<i64> = frames(events, 0).iter().map(|frame| frame.dts.as_micros()).collect();
    assert!(dts.windows(2).all(|pair| pair[0] < pair[1]), "decoding times rise");
    times.sort_unstable();
    assert!(times.windows(2).all(|pair| (30_000..37_000).contains(&(pair[1] - pair[0]))), "{times:?}");
    let sound: Vec<i64> = frames(events, 1).iter().map(|frame| frame.pts.as_micros()).collect();
    assert!(sound.windows(2).all(|pair| (19_000..25_000).contains(&(pair[1] - pair[0]))), "{sound:?}");
}

#[test]
#[ignore = "runs ffmpeg for seconds"]
fn ffmpeg_as_it_comes_sends_b_frames() {
    let arguments = format!("{SOURCE} -c:v libx264 -pix_fmt yuv420p -c:a aac");
    let (target, events) = publish(&arguments, "studio/k3y").unwrap();
    assert_eq!(target.room, "studio");
    let count = frames(&events, 0).len();
    println!("{count} frames of video, {} of audio, {:?}", frames(&events, 1).len(), reordered(&events));
    for event in &events {
        if !matches!(event, Event::Frame(_)) {
            println!("{event:?}");
        }
    }
    assert_eq!(count, 120);
    assert_eq!(reordered(&events), [true]);
    assert!(frames(&events, 0)[0].keyframe);
    check_times(&events);
    assert!(matches!(events.last(), Some(Event::Closed { ending, .. }) if ending.is_clean()));
}

#[test]
#[ignore = "runs ffmpeg for seconds"]
fn ffmpeg_without_b_frames_and_44100_hertz() {
    let arguments = format!("{SOURCE} -c:v libx264 -tune zerolatency -pix_fmt yuv420p -c:a aac -ar 44100");
    let (target, events) = publish(&arguments, "live/studio?key=k3y").unwrap();
    assert_eq!(target.room, "studio");
    assert_eq!((frames(&events, 0).len(), reordered(&events)), (120, vec![false]));
    check_times(&events);
    assert!(!events.iter().any(|event| matches!(event, Event::Notice(_))));
}

#[test]
#[ignore = "runs ffmpeg"]
fn a_wrong_key_turns_ffmpeg_away() {
    let arguments = format!("{SOURCE} -c:v libx264 -pix_fmt yuv420p -c:a aac");
    assert!(publish(&arguments, "studio/wrong").is_none());
}

#[test]
#[ignore = "runs ffmpeg for seconds"]
fn ffmpeg_over_tls() {
    let (server, _) = super::tls::configs();
    let provider: TlsProvider = Arc::new(move || server.clone());
    let arguments = format!("{SOURCE} -c:v libx264 -pix_fmt yuv420p -c:a aac");
    let (_, events) = publish_with("rtmps", Some(provider), &arguments, "studio/k3y").unwrap();
    assert_eq!(frames(&events, 0).len(), 120);
    check_times(&events);
    assert!(matches!(events.last(), Some(Event::Closed { ending, .. }) if ending.is_clean()));
}

#[test]
#[ignore = "runs ffmpeg for seconds"]
fn other_codecs_are_said() {
    let source = SOURCE.replace("-t 4", "-t 2");
    let (_, events) =
        publish(&format!("{source} -c:v flv1 -c:a libmp3lame -ar 44100"), "studio/k3y").unwrap();
    let notices = events.iter().filter(|event| matches!(event, Event::Notice(_))).count();
    assert_eq!((notices, frames(&events, 0).len(), frames(&events, 1).len()), (2, 0, 0));
}
