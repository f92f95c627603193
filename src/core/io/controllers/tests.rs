//! Controllers over real sockets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Listeners, bind_unix, serve};
use crate::core::auth::{AuthConfig, Authority};
use crate::core::control::controller::{ControlConfig, Door};
use crate::core::control::{Rooms, RoomsConfig};
use crate::core::time::Epoch;

/// What a test in real time waits at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves on sockets of its own until dropped.
struct Served {
    address: std::net::SocketAddr,
    path: std::path::PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Served {
    fn new(name: &str, change: impl FnOnce(&mut ControlConfig)) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let path = std::env::temp_dir().join(format!("viaduct-{name}-{}", std::process::id()));
        let unix = bind_unix(&path).expect("a UNIX socket");
        let (stop, stopped) = oneshot::channel();
        let mut config = ControlConfig::default();
        change(&mut config);
        let file = path.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let epoch = Epoch { instant: Instant::now(), unix: Duration::ZERO };
            let rooms = Rooms::new(RoomsConfig::default(), epoch, None);
            let authority = Authority::new(&AuthConfig::default(), None).expect("no keys");
            let door = Door::new(rooms, Arc::new(authority), config, &[]);
            let listeners = Listeners { plain: Some(listener), tls: None, unix: Some((unix, file)) };
            let stopped = async { stopped.await.unwrap_or_default() };
            runtime.block_on(serve(door, listeners, stopped)).expect("served");
        });
        Served { address, path, stop: Some(stop), thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        stream
    }

    fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

/// Reads until `end` is there.
fn until(stream: &mut impl Read, end: &str) -> String {
    let (mut said, mut buffer) = (String::new(), [0; 4096]);
    while !said.contains(end) {
        let count = stream.read(&mut buffer).expect("something to read");
        assert!(count > 0, "it ended after {said:?}");
        said.push_str(std::str::from_utf8(&buffer[..count]).expect("text"));
    }
    said
}

/// Reads to the end, which may be a reset.
fn rest(stream: &mut impl Read) -> String {
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8(said).expect("text")
}

#[test]
fn both_forms_on_one_port_and_a_socket_of_the_users_own() {
    let mut served = Served::new("forms", |_| {});
    let mut text = served.connect();
    text.write_all(b"Request Hello\r\n1\r\n\r\n").expect("written");
    assert!(until(&mut text, "\r\n\r\n").starts_with("Response Hello\r\n1 OK\r\n"));
    let mut json = served.connect();
    json.write_all(b"25:{\"id\":1,\"method\":\"Hello\"},").expect("written");
    assert!(until(&mut json, "},").contains("\"accepted\":true"));
    let mode = std::fs::metadata(&served.path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut unix = UnixStream::connect(&served.path).expect("a connection");
    unix.write_all(b"Request worker.createRouter\r\n1\r\nrouterId: 1\r\n\r\n").expect("written");
    unix.shutdown(std::net::Shutdown::Write).expect("half closed");
    assert_eq!(
        rest(&mut unix),
        "Response worker.createRouter\r\n1 ERROR\r\ncode: worker_lost\r\nreason: the worker failed\r\n\r\n",
        "what was asked before hanging up is answered"
    );
    assert!(bind_unix(&served.path).is_err(), "somebody listens there");
    served.stop();
    assert!(until(&mut text, "\r\n\r\n").contains("code: shutdown"));
    assert_eq!((rest(&mut text), rest(&mut json).contains("shutdown")), (String::new(), true));
    assert!(!served.path.exists());
}

#[test]
fn strangers_hear_nothing() {
    let served = Served::new("strangers", |_| {});
    for stranger in
        [&b"POST / HTTP/1.1\r\nHost: x\r\n\r\nRequest Hello\r\n1\r\n\r\n"[..], b"\x16\x03\x01\x02", b"?"]
    {
        let mut stream = served.connect();
        stream.write_all(stranger).expect("written");
        assert_eq!(rest(&mut stream), "");
    }
}

#[test]
fn who_says_nothing_gives_way_and_goes_in_time() {
    let served =
        Served::new("silent", |config| (config.max_half_open, config.greeting_timeout_ms) = (8, 300));
    let mut silent: Vec<TcpStream> = (0..40).map(|_| served.connect()).collect();
    let mut speaks = served.connect();
    speaks.write_all(b"Request Hello\r\n1\r\n\r\n").expect("written");
    assert!(until(&mut speaks, "\r\n\r\n").contains("1 OK"));
    assert!(silent.iter_mut().all(|stream| rest(stream).is_empty()));
}

#[test]
fn who_never_reads_is_given_up() {
    let served = Served::new("deaf", |config| {
        (config.max_queued_bytes, config.write_timeout_ms) = (64 << 10, 500);
    });
    let mut deaf = served.connect();
    deaf.set_write_timeout(Some(PATIENCE)).expect("a time limit");
    let hello = b"Request Hello\r\n1\r\n\r\n".repeat(100);
    // The server stops reading when nobody reads its answers, and closes then.
    let refused = (0..100_000).find_map(|_| deaf.write_all(&hello).err());
    let kind = refused.expect("closed").kind();
    assert!(matches!(kind, std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe), "{kind:?}");
    let mut speaks = served.connect();
    speaks.write_all(b"Request Hello\r\n1\r\n\r\n").expect("written");
    assert!(until(&mut speaks, "\r\n\r\n").contains("1 OK"));
}
