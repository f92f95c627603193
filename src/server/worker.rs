//! The program as a worker of somebody else's dispatcher: the v2 worker channel of mediasoup on a descriptor
//! that was passed to it, its arguments, its log lines on that channel, its end.

use std::ffi::OsString;
use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use tokio::signal::unix::{SignalKind, signal};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::Config;
use crate::core::io::{ChannelLog, IoConfig, ProcessConfig, RunningProcess, Seat, WorkerProcess};
use crate::core::worker::{ChannelConfig, LogLevel, LogSettings, LogTag, Worker, WorkerConfig};
use crate::webrtc::{Certificate, Factory};

/// The name under which the program is a worker whatever its arguments say.
const NAME: &str = "mediasoup-worker";
/// Names the descriptor of the channel.
const CHANNEL: &str = "MEDIASOUP_CHANNEL_FD";

/// Be a worker of a mediasoup 2 server.
#[derive(clap::Args)]
#[command(rename_all = "camelCase")]
pub struct WorkerArguments {
    /// The name the server gives to the worker.
    id: String,
    /// How much the log tells: debug, warn, error or none.
    #[arg(long, default_value = "error", value_parser = log_level)]
    log_level: LogLevel,
    /// What the log tells it about: info, ice, dtls, rtp, srtp, rtcp, rtx, rbe, tmp.
    #[arg(long = "logTag", value_name = "TAG")]
    log_tags: Vec<String>,
    /// An IPv4 address to listen on, true for any, false for none.
    #[arg(long = "rtcIPv4", default_value = "true")]
    ipv4: Listen,
    /// An IPv6 address to listen on, true for any, false for none.
    #[arg(long = "rtcIPv6", default_value = "true")]
    ipv6: Listen,
    /// The IPv4 address told to others instead of the own.
    #[arg(long = "rtcAnnouncedIPv4", value_name = "ADDRESS")]
    announced_ipv4: Option<Ipv4Addr>,
    /// The IPv6 address told to others instead of the own.
    #[arg(long = "rtcAnnouncedIPv6", value_name = "ADDRESS")]
    announced_ipv6: Option<Ipv6Addr>,
    /// The first port for media.
    #[arg(long, default_value_t = 10_000)]
    rtc_min_port: u16,
    /// The last port for media.
    #[arg(long, default_value_t = 59_999)]
    rtc_max_port: u16,
    /// The certificate for DTLS, in PEM; a new one is made without it.
    #[arg(long, value_name = "FILE", requires = "dtls_private_key_file")]
    dtls_certificate_file: Option<PathBuf>,
    /// Its private key: ECDSA, P-256 or P-384.
    #[arg(long, value_name = "FILE", requires = "dtls_certificate_file")]
    dtls_private_key_file: Option<PathBuf>,
}

/// Where to listen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Listen {
    Any,
    Nowhere,
    On(IpAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(Listen::Any),
            "false" => Ok(Listen::Nowhere),
            address => match address.parse::<IpAddr>() {
                Ok(ip) if ip.is_unspecified() => Err(format!("say true instead of {ip}")),
                Ok(ip) => Ok(Listen::On(ip)),
                Err(_) => Err("true, false or an address".to_owned()),
            },
        }
    }
}

fn log_level(name: &str) -> Result<LogLevel, String> {
    LogLevel::from_name(name).ok_or_else(|| "debug, warn, error or none".to_owned())
}

/// The arguments of the program. A server calls its worker by path alone, so a link called `mediasoup-worker`
/// says what else takes a word.
pub fn arguments(given: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut given = given.peekable();
    let meant = given.peek().is_some_and(|program| Path::new(program).file_name() == Some(NAME.as_ref()));
    let program = given.next();
    program.into_iter().chain(meant.then(|| "worker".into())).chain(given)
}

impl WorkerArguments {
    /// Is a worker until its dispatcher closes the channel or a signal comes. `config` has the bounds.
    pub fn run(self, config: Config) -> anyhow::Result<()> {
        let fd = std::env::var(CHANNEL);
        let fd = fd.with_context(|| format!("{CHANNEL} is not set: only a mediasoup server starts this"))?;
        let fd: RawFd = fd.parse().with_context(|| format!("{CHANNEL}: no descriptor is called {fd:?}"))?;
        let log = LogSettings::new(self.log_level, self.log_tags.iter().map(String::as_str));
        let process = ProcessConfig { io: self.io(&config)?, log };
        let process = WorkerProcess::open(process, fd)?;
        tracing_subscriber::registry().with(ChannelLayer(process.log())).init();
        let factory = Factory::new(config.webrtc.session.clone(), self.certificate()?)?;
        let channel = ChannelConfig { name: self.id, log };
        let make = move |seat: Seat| {
            let Seat { id, epoch, factory, candidates, seed } = seat;
            let config = WorkerConfig { channel: Some(channel), ..config.worker(id, candidates) };
            Worker::new(config, epoch, factory, seed)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start the runtime")?;
        runtime.block_on(async {
            // These are the server's affair: once watched they no longer end the process.
            for kind in [
                SignalKind::hangup(),
                SignalKind::alarm(),
                SignalKind::user_defined1(),
                SignalKind::user_defined2(),
            ] {
                drop(signal(kind).context("cannot watch for signals")?);
            }
            until_the_end(process.start(Arc::new(factory), make)?).await
        })
    }

    fn io(&self, config: &Config) -> anyhow::Result<IoConfig> {
        ensure!(self.rtc_min_port >= 1024, "rtcMinPort must not be below 1024");
        ensure!(self.rtc_max_port > self.rtc_min_port, "rtcMaxPort must be above rtcMinPort");
        let mut listen = Vec::new();
        for (name, listen_on, any) in [
            ("rtcIPv4", self.ipv4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            ("rtcIPv6", self.ipv6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        ] {
            match listen_on {
                Listen::Any => listen.push(any),
                Listen::Nowhere => {}
                Listen::On(ip) if ip.is_ipv4() == any.is_ipv4() => listen.push(ip),
                Listen::On(ip) => bail!("{name} cannot be {ip}"),
            }
        }
        ensure!(!listen.is_empty(), "one of rtcIPv4 and rtcIPv6 must be enabled");
        let announced = [self.announced_ipv4.map(IpAddr::from), self.announced_ipv6.map(IpAddr::from)];
        Ok(IoConfig {
            listen,
            announced_addresses: announced.into_iter().flatten().collect(),
            tcp: true,
            leg_port_min: self.rtc_min_port,
            leg_port_max: self.rtc_max_port,
            ..config.io()
        })
    }

    fn certificate(&self) -> anyhow::Result<Certificate> {
        let (Some(certificate), Some(key)) = (&self.dtls_certificate_file, &self.dtls_private_key_file)
        else {
            return Ok(Certificate::generate()?);
        };
        let read = |file: &Path| {
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
        };
        let pem = read(certificate)? + "\n" + &read(key)?;
        let files = || format!("{} with {}", certificate.display(), key.display());
        Certificate::from_pem(&pem).with_context(files)
    }
}

/// Runs until SIGINT, SIGTERM or the worker's own end.
async fn until_the_end(mut process: RunningProcess) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    tokio::select! {
        ended = process.ended() => return Ok(ended?),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    process.stop();
    process.ended().await?;
    process.join();
    Ok(())
}

/// Writes what is logged to the channel, as far as its dispatcher wants to hear it.
struct ChannelLayer(Arc<ChannelLog>);

impl<S: Subscriber> Layer<S> for ChannelLayer {
    /// What is wanted may change, so no place in the code is settled for good.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: LayerContext<'_, S>) -> bool {
        let ours = metadata.target().starts_with(env!("CARGO_CRATE_NAME"));
        ours && self.0.wants(level(metadata), tag(metadata.target()))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.0.settings().level {
            LogLevel::None => LevelFilter::OFF,
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Debug => LevelFilter::TRACE,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: LayerContext<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.push(level(event.metadata()), &line.text());
    }
}

/// The channel knows three levels; what a user feels is no warning there.
fn level(metadata: &Metadata<'_>) -> LogLevel {
    match *metadata.level() {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        _ => LogLevel::Debug,
    }
}

/// What a line is about, by where in the code it is written.
fn tag(target: &str) -> LogTag {
    const TAGS: [(&str, LogTag); 7] = [
        ("::srtp", LogTag::Srtp),
        ("::rtcp", LogTag::Rtcp),
        ("::feedback", LogTag::Rtcp),
        ("::dtls", LogTag::Dtls),
        ("::ice", LogTag::Ice),
        ("::webrtc", LogTag::Ice),
        ("::rtp", LogTag::Rtp),
    ];
    TAGS.iter().find(|(part, _)| target.contains(part)).map_or(LogTag::Info, |(_, tag)| *tag)
}

/// An event's message with its fields behind it.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn text(self) -> String {
        self.message + &self.fields
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing into a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value}"),
            name => write!(self.fields, " {name}={value}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::*;

    fn parse(arguments: &[&str]) -> Result<WorkerArguments, String> {
        let given = [NAME, "abc#1"].iter().chain(arguments);
        let matches = WorkerArguments::augment_args(Command::new(NAME)).try_get_matches_from(given);
        matches.and_then(|m| WorkerArguments::from_arg_matches(&m)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_arguments_of_the_npm_package_are_taken() {
        let arguments = parse(&[
            "--logLevel=debug",
            "--logTag=ice",
            "--logTag=dtls",
            "--rtcIPv4=192.0.2.1",
            "--rtcIPv6=false",
            "--rtcAnnouncedIPv4=203.0.113.9",
            "--rtcMinPort=20000",
            "--rtcMaxPort=20099",
        ])
        .expect("as the package says");
        assert_eq!((arguments.id.as_str(), arguments.log_level), ("abc#1", LogLevel::Debug));
        assert_eq!(arguments.log_tags, ["ice", "dtls"]);
        let io = arguments.io(&Config::default()).expect("sound");
        assert_eq!(io.listen, ["192.0.2.1".parse::<IpAddr>().expect("an address")]);
        assert_eq!(io.announced_addresses, ["203.0.113.9".parse::<IpAddr>().expect("an address")]);
        assert_eq!((io.leg_port_min, io.leg_port_max), (20_000, 20_099));
        let io = parse(&[]).expect("all have defaults").io(&Config::default()).expect("sound");
        assert_eq!((io.listen.len(), io.leg_port_min, io.leg_port_max), (2, 10_000, 59_999));
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        for (arguments, part) in [
            (&["--logLevel=loud"][..], "debug, warn, error or none"),
            (&["--rtcIPv4=0.0.0.0"], "say true instead"),
            (&["--rtcIPv4=nonsense"], "true, false or an address"),
            (&["--rtcMinPort=90000"], "90000"),
            (&["--dtlsCertificateFile=a.pem"], "dtlsPrivateKeyFile"),
            (&["--explode=true"], "--explode"),
        ] {
            let error = parse(arguments).map(drop).expect_err("refused");
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
        for (arguments, part) in [
            (&["--rtcIPv4=::1"][..], "rtcIPv4 cannot be ::1"),
            (&["--rtcIPv4=false", "--rtcIPv6=false"], "must be enabled"),
            (&["--rtcMinPort=80"], "below 1024"),
            (&["--rtcMinPort=2000", "--rtcMaxPort=2000"], "above rtcMinPort"),
        ] {
            let arguments = parse(arguments).expect("read");
            let error = arguments.io(&Config::default()).map(drop).expect_err("refused").to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn the_name_of_the_link_decides() {
        let of = |given: &[&str]| -> Vec<OsString> { arguments(given.iter().map(OsString::from)).collect() };
        for program in ["/usr/lib/viaduct/mediasoup-worker", "mediasoup-worker"] {
            assert_eq!(of(&[program, "abc#1"]), [program, "worker", "abc#1"]);
        }
        for program in ["/usr/bin/viaduct", "/opt/mediasoup-worker/viaduct"] {
            assert_eq!(of(&[program, "check"]), [program, "check"]);
        }
    }

    #[test]
    fn lines_have_a_subject() {
        assert_eq!(tag("viaduct::webrtc::session"), LogTag::Ice);
        assert_eq!(tag("viaduct::webrtc::session::dtls"), LogTag::Dtls);
        assert_eq!(tag("viaduct::core::transport::feedback"), LogTag::Rtcp);
        assert_eq!(tag("viaduct::core::rtp::srtp::receiver"), LogTag::Srtp);
        assert_eq!(tag("viaduct::core::worker::control"), LogTag::Info);
    }
}
