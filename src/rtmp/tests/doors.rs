//! The main thread's part, over loopback: who is handed on, who is turned away, who has to wait.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::live::{Door, Handed};
use super::*;
use crate::rtmp::io::{Listener, serve};

const SOON: Duration = Duration::from_secs(20);

struct Served {
    address: SocketAddr,
    handed: UnboundedReceiver<Handed>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

fn start(config: RtmpConfig) -> Served {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let (sender, handed) = tokio::sync::mpsc::unbounded_channel();
    let epoch = Epoch { instant: Instant::now(), unix: Duration::ZERO };
    let door = Arc::new(Door(sender));
    let task = tokio::spawn(serve(vec![Listener { socket, tls: None }], Arc::new(config), epoch, door));
    Served { address, handed, task }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(SOON, test).await.unwrap() });
}

async fn say(address: SocketAddr, stream: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let opening = [3; 1 + 2 * handshake::BLOCK];
    socket.write_all(&opening).await.unwrap();
    socket.write_all(&Client::new().commands("studio", stream)).await.unwrap();
    socket
}

/// Everything up to the end of the connection, as text.
async fn hear(socket: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    let _ = socket.read_to_end(&mut heard).await;
    String::from_utf8_lossy(&heard).into_owned()
}

#[test]
fn an_admitted_publisher_is_handed_on_with_its_answer_inside() {
    run(async {
        let mut served = start(RtmpConfig::default());
        let client = say(served.address, "k3y").await;
        let (mut session, socket, target) = served.handed.recv().await.unwrap();
        assert_eq!(target.room, "studio");
        let Some(Output::Bytes(answer)) = session.poll_output() else { panic!("no answer waits") };
        assert!(String::from_utf8_lossy(&answer).contains("NetStream.Publish.Start"));
        let theirs = std::net::TcpStream::from(socket).peer_addr().unwrap();
        assert_eq!(theirs, client.local_addr().unwrap());
    });
}

#[test]
fn a_refused_publisher_reads_why_before_the_end() {
    run(async {
        let served = start(RtmpConfig::default());
        let mut client = say(served.address, "wrong").await;
        let heard = hear(&mut client).await;
        assert!(heard.contains("NetStream.Publish.Denied") && heard.contains("key is missing or wrong"));
    });
}

#[test]
fn one_address_may_not_take_all_places() {
    run(async {
        let config = RtmpConfig { max_half_open_per_address: 2, ..RtmpConfig::default() };
        let mut served = start(config);
        let first = TcpStream::connect(served.address).await.unwrap();
        let _second = TcpStream::connect(served.address).await.unwrap();
        let mut third = TcpStream::connect(served.address).await.unwrap();
        assert_eq!(hear(&mut third).await, "");
        drop(first);
        // The place falls free when the server sees the end, which it does in its own time.
        let _client = loop {
            let client = say(served.address, "k3y").await;
            match timeout(Duration::from_millis(500), served.handed.recv()).await {
                Ok(handed) => break (client, handed.unwrap()),
                Err(_) => drop(client),
            }
        };
    });
}

#[test]
fn silence_is_cut_off_and_serving_ends_when_dropped() {
    run(async {
        let served = start(RtmpConfig { handshake_timeout_ms: 50, ..RtmpConfig::default() });
        let mut client = TcpStream::connect(served.address).await.unwrap();
        client.write_all(&[3, 1, 2]).await.unwrap();
        assert_eq!(hear(&mut client).await, "");
        let mut waiting = TcpStream::connect(served.address).await.unwrap();
        served.task.abort();
        assert!(served.task.await.unwrap_err().is_cancelled());
        assert_eq!(hear(&mut waiting).await, "");
    });
}
