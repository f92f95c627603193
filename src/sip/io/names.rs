//! Asking name servers: UDP first, TCP where an answer does not fit, answers kept as long as they say.
//!
//! Only for what the system's resolver does not know (SRV, NAPTR); addresses are the system's to find.

use std::collections::HashMap;
use std::io::{Error, Result};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tracing::debug;

use crate::sip::session::random;
use crate::sip::wire::dns::{Answer, Kind, Record, answer, question};

/// The usual place of the system's name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How long one server may take, and how often all of them are asked.
const PATIENCE: Duration = Duration::from_millis(1500);
const ROUNDS: usize = 2;
/// How long an answer is kept that does not say so itself, and any answer at most.
const UNSAID: Duration = Duration::from_secs(60);
const LONGEST: u32 = 3600;
/// Names kept; all are forgotten when there are more.
const MAX_KEPT: usize = 1000;

/// Name servers, and what they said lately.
pub(super) struct Names {
    servers: Vec<SocketAddr>,
    kept: Mutex<HashMap<(Kind, String), Kept>>,
}

/// Records, and until when they hold.
type Kept = (Instant, Vec<Record>);

impl Names {
    /// Those that are configured, else the system's.
    pub fn new(configured: &[SocketAddr]) -> Self {
        let servers = if configured.is_empty() {
            let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
            let named = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
            named.filter_map(|rest| rest.trim().parse().ok()).map(|ip: IpAddr| (ip, 53).into()).collect()
        } else {
            configured.to_vec()
        };
        Names { servers, kept: Mutex::default() }
    }

    /// The records of a name; none, where there are none or nobody answers.
    pub async fn ask(&self, kind: Kind, name: &str) -> Vec<Record> {
        let key = (kind, name.to_ascii_lowercase());
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some((_, records)) = kept.filter(|(until, _)| *until > Instant::now()) {
            return records;
        }
        let answer = self.ask_servers(kind, &key.1).await.unwrap_or_else(|error| {
            debug!(%error, "no name server answers");
            Answer::default()
        });
        let lasts = answer.ttl.map_or(UNSAID, |ttl| Duration::from_secs(u64::from(ttl.min(LONGEST))));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(key, (Instant::now() + lasts, answer.records.clone()));
        answer.records
    }

    async fn ask_servers(&self, kind: Kind, name: &str) -> Result<Answer> {
        let mut last = Error::other("there is no name server");
        for server in (0..ROUNDS).flat_map(|_| &self.servers) {
            match timeout(PATIENCE, ask(*server, kind, name)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = error,
                Err(_) => last = Error::other("it took too long"),
            }
        }
        Err(last)
    }
}

async fn ask(server: SocketAddr, kind: Kind, name: &str) -> Result<Answer> {
    let id = u16::from_be_bytes(random());
    let question = question(id, name, kind).ok_or_else(|| Error::other("that is no name"))?;
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    // A port of its own for each question, and only that server's datagrams: an answer is hard to forge.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(&question).await?;
    let mut buffer = [0; 4096];
    loop {
        let count = socket.recv(&mut buffer).await?;
        match answer(buffer.get(..count).unwrap_or_default(), id) {
            Ok(answer) if answer.truncated => return ask_by_stream(server, id, &question).await,
            Ok(answer) => return Ok(answer),
            Err(error) if refuses(&buffer, count, id) => return Err(Error::other(error)),
            // Somebody else's; ours may still come.
            Err(_) => {}
        }
    }
}

/// Whether it answers our question, though not with what we asked for.
fn refuses(buffer: &[u8], count: usize, id: u16) -> bool {
    count >= 12 && buffer.starts_with(&id.to_be_bytes())
}

async fn ask_by_stream(server: SocketAddr, id: u16, question: &[u8]) -> Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut data = vec![0; usize::from(length)];
    stream.read_exact(&mut data).await?;
    answer(&data, id).map_err(Error::other)
}
