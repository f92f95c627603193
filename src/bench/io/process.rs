//! The server's process: found or started, and what the kernel says of it.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::bench::Options;
use crate::bench::result::Usage;

const START_TIMEOUT: Duration = Duration::from_secs(15);

/// Processor time of a server's threads, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    pub all: u64,
    pub main: u64,
    pub workers: u64,
}

/// A server to measure.
pub(super) struct Server {
    /// IP and port of its pages.
    pub(super) host: String,
    /// The publish key.
    pub(super) key: String,
    pid: u32,
    /// Ours: ended with us.
    own: Option<(Child, PathBuf)>,
}

impl Server {
    /// The one the options name, or one of our own.
    pub(super) fn find(options: &Options) -> anyhow::Result<Self> {
        match (&options.url, options.pid) {
            (Some(url), Some(pid)) => {
                let host = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
                Ok(Server { host, key: options.key.clone().unwrap_or_default(), pid, own: None })
            }
            _ => Self::start(&[format!("workers.count={}", options.workers)]),
        }
    }

    /// One of our own, with further settings.
    pub(super) fn start(more: &[String]) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("viaduct-bench-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        // Numbers nobody has at this moment; should somebody take one before the server does, it says so.
        let pages = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let media = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        let host = pages.to_string();
        let mut command = Command::new(std::env::current_exe()?);
        for set in [
            format!("state_dir={}", folder.display()),
            format!("http.listen=[\"{host}\"]"),
            format!("webrtc.port={media}"),
            "control.listen=null".to_owned(),
            "webrtc.listen=[127.0.0.1]".to_owned(),
            "webrtc.announce_loopback=true".to_owned(),
            "rtmp.listen=null".to_owned(),
            "demo=false".to_owned(),
            "log.level=warn".to_owned(),
        ] {
            command.arg("--set").arg(set);
        }
        for set in more {
            command.arg("--set").arg(set);
        }
        let child = command.stdout(Stdio::null()).spawn().context("cannot start a server")?;
        let mut server =
            Server { host, key: String::new(), pid: child.id(), own: Some((child, folder.clone())) };
        server.key = server.wait_for_key(&folder.join("publish.key"))?;
        Ok(server)
    }

    /// The key is written and the port open once the server stands.
    fn wait_for_key(&mut self, file: &Path) -> anyhow::Result<String> {
        let limit = Instant::now() + START_TIMEOUT;
        loop {
            let open = std::net::TcpStream::connect(&self.host).is_ok();
            if let (true, Ok(key)) = (open, fs::read_to_string(file)) {
                return Ok(key.trim().to_owned());
            }
            if let Some((child, _)) = &mut self.own
                && let Some(status) = child.try_wait()?
            {
                anyhow::bail!("the server ended at once: {status}");
            }
            anyhow::ensure!(Instant::now() < limit, "the server did not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether it outlives the measurement.
    pub(super) fn is_foreign(&self) -> bool {
        self.own.is_none()
    }

    fn proc(&self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.pid);
        fs::read_to_string(&path).with_context(|| format!("{path}: has the server ended?"))
    }

    /// Processor time so far. The scheduler's own sum over the threads is exact to the nanosecond; the division
    /// into user and system is by clock ticks.
    pub(super) fn usage(&self) -> anyhow::Result<Usage> {
        let stat = self.proc("stat")?;
        // The name, which may hold anything, ends with the last bracket; user and system are fields 14 and 15.
        let fields: Vec<_> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks = |field: usize| fields.get(field - 3).and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok(Usage { cpu: self.shares()?.all, user: ticks(14), system: ticks(15), ..Default::default() })
    }

    /// What its threads have used so far, in nanoseconds.
    pub(super) fn shares(&self) -> anyhow::Result<Share> {
        let mut share = Share::default();
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let thread = thread?;
            let read = |file: &str| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
            let used =
                read("schedstat").split(' ').next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
            share.all += used;
            if thread.file_name().to_str() == Some(&self.pid.to_string()) {
                share.main += used;
            } else if read("comm").starts_with("viaduct-worker") {
                share.workers += used;
            }
        }
        Ok(share)
    }

    /// Resident bytes.
    pub(super) fn resident(&self) -> anyhow::Result<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((child, folder)) = &mut self.own {
            let _ = child.kill();
            let _ = child.wait();
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Processor, cores and kernel, in words.
pub(super) fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{model}, {cores} cores, Linux {}, loopback, viaduct {}",
        kernel.trim(),
        env!("CARGO_PKG_VERSION")
    )
}
