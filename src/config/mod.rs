//! The configuration: one YAML file, then the environment, then flags, each laid over the last.
//!
//! | source | example | rule |
//! |---|---|---|
//! | file | `http: { listen: "[::]:8889" }` | unknown keys are refused with file, line and column |
//! | environment | `VIADUCT_HTTP__LISTEN=0.0.0.0:80` | `__` goes one level down, names in lower case; lists and maps as YAML |
//! | flag | `--set http.listen=0.0.0.0:80` | `.` goes one level down |
//!
//! Values are read straight into their type, never through a tree of guesses, so that a password `0123`
//! keeps its zero. Each part owns its section's struct; `config/viaduct.yml` is the annotated reference.

mod error;
mod overlay;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use error::ConfigError;

use crate::bridge::BridgeConfig;
use crate::core::auth::{AuthConfig, Authority, Secret};
use crate::core::control::RoomsConfig;
use crate::core::control::controller::ControlConfig;
use crate::core::control::streams::StreamsConfig;
use crate::core::egress::{EgressConfig, EgressRules};
use crate::core::id::WorkerId;
use crate::core::io::IoConfig;
use crate::core::rtp::bwe::RateLimits;
use crate::core::session::LocalCandidate;
use crate::core::worker::{DataConfig, GopConfig, LayersConfig, LegsConfig, WorkerConfig};
use crate::http;
use crate::rooms;
use crate::rtmp::RtmpConfig;
use crate::sip::SipConfig;
use crate::webrtc::SessionConfig;
use crate::whip_whep;
use overlay::Overrides;

/// Everything that can be configured.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is logged.
    pub log: LogConfig,
    /// Folder for what survives a restart: publish key, certificates. Default: `state`.
    pub state_dir: PathBuf,
    /// Folder with the files that may be played in rooms; links in it are not followed. Default: none, no file may.
    pub media_dir: Option<PathBuf>,
    /// Play the built-in clip in the room `demo`. Default: true.
    pub demo: bool,
    /// Worker threads: how many, their tick, their buffers.
    pub workers: IoConfig,
    /// Controllers: applications outside.
    pub control: ControlConfig,
    /// The HTTP listener: pages, API, WHIP and WHEP.
    pub http: http::Config,
    /// The WHIP and WHEP doors.
    pub whip_whep: whip_whep::Config,
    /// WebRTC: ports, addresses, how its parties are treated.
    pub webrtc: WebRtcConfig,
    /// RTMP.
    pub rtmp: RtmpConfig,
    /// SIP. Default: none, nothing listens.
    pub sip: Option<SipConfig>,
    /// Bounds of rooms.
    pub rooms: RoomsConfig,
    /// Rooms over WebSocket.
    pub room_clients: rooms::Config,
    /// What a new viewer sees at once: the cached group of pictures.
    pub gop: GopConfig,
    /// Tracks with layers (simulcast, scalable coding): when a viewer gets another.
    pub layers: LayersConfig,
    /// Plain RTP legs of telephones: ports, and how their parties are found and given up.
    pub legs: LegsConfig,
    /// Data channels on their way between parties.
    pub data: DataConfig,
    /// Where the server may connect because somebody asked it to.
    pub egress: EgressConfig,
    /// RTMP pushed and pulled, files played.
    pub streams: StreamsConfig,
    /// Conversions.
    pub bridge: BridgeConfig,
    /// Keys, and rooms closed to strangers.
    pub auth: AuthConfig,
    /// Bounds of the process as a whole.
    pub limits: LimitsConfig,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            log: LogConfig::default(),
            state_dir: "state".into(),
            media_dir: None,
            demo: true,
            workers: IoConfig::default(),
            control: ControlConfig::default(),
            http: http::Config::default(),
            whip_whep: whip_whep::Config::default(),
            webrtc: WebRtcConfig::default(),
            rtmp: RtmpConfig::default(),
            sip: None,
            rooms: RoomsConfig::default(),
            room_clients: rooms::Config::default(),
            gop: GopConfig::default(),
            layers: LayersConfig::default(),
            legs: LegsConfig::default(),
            data: DataConfig::default(),
            egress: EgressConfig::default(),
            streams: StreamsConfig::default(),
            bridge: BridgeConfig::default(),
            auth: AuthConfig::default(),
            limits: LimitsConfig::default(),
        }
    }
}

/// The `log` section.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,viaduct::rtmp=debug`.
    /// Default: `info`.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { level: "info".into() }
    }
}

/// The `webrtc` section.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct WebRtcConfig {
    /// UDP and TCP port of the first worker; the next one has the next number. Default: 8189.
    pub port: u16,
    /// Addresses to listen on. Default: `0.0.0.0` and `::`.
    pub listen: Vec<IpAddr>,
    /// Addresses told to remote parties beside the host's own: the public side of a NAT, the host of a
    /// container. Default: none.
    pub announced_addresses: Vec<IpAddr>,
    /// Tell remote parties the loopback addresses too. Default: false.
    pub announce_loopback: bool,
    /// Accept ICE-TCP on the same port numbers. Default: true.
    pub tcp: bool,
    /// What a publisher is told it may send at most, in bits per second. Default: 20000000.
    pub max_publish_bitrate: u64,
    /// What a receiver's path is thought to take.
    pub rates: RateLimits,
    /// DTLS, time-outs and bounds of one party.
    pub session: SessionConfig,
}

impl Default for WebRtcConfig {
    fn default() -> Self {
        let io = IoConfig::default();
        WebRtcConfig {
            port: io.port,
            listen: io.listen,
            announced_addresses: io.announced_addresses,
            announce_loopback: io.announce_loopback,
            tcp: io.tcp,
            max_publish_bitrate: 20_000_000,
            rates: RateLimits::default(),
            session: SessionConfig::default(),
        }
    }
}

/// The `limits` section.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// How long publishers and viewers are given to be told of the end, in milliseconds. Default: 3000.
    pub shutdown_ms: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        LimitsConfig { shutdown_ms: 3000 }
    }
}

impl Config {
    /// Reads `file` (none: all defaults), lays `env` over it, then `sets` (`key.below=value`), then
    /// reads the key files it names.
    pub fn load(
        file: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        sets: &[String],
    ) -> Result<Self, ConfigError> {
        let name = file.map_or_else(|| "(no file)".into(), |file| file.display().to_string());
        let text = match file {
            Some(file) => read_file(file)?,
            None => String::new(),
        };
        let overrides = overrides(env, sets)?;
        let mut config: Config = overrides.read(&name, &text)?;
        config.read_key_files()?;
        config.validate()?;
        Ok(config)
    }

    /// What the workers' input and output need, of both sections that speak of it.
    pub fn io(&self) -> IoConfig {
        IoConfig {
            port: self.webrtc.port,
            listen: self.webrtc.listen.clone(),
            announced_addresses: self.webrtc.announced_addresses.clone(),
            announce_loopback: self.webrtc.announce_loopback,
            tcp: self.webrtc.tcp,
            leg_port_min: self.legs.port_min,
            leg_port_max: self.legs.port_max,
            ..self.workers.clone()
        }
    }

    /// What a worker needs that offers `candidates`.
    pub fn worker(&self, id: WorkerId, candidates: Vec<LocalCandidate>) -> WorkerConfig {
        WorkerConfig {
            id,
            candidates,
            gop: self.gop.clone(),
            layers: self.layers.clone(),
            max_publish_bitrate: self.webrtc.max_publish_bitrate,
            rates: self.webrtc.rates,
            legs: self.legs.clone(),
            data: self.data.clone(),
            channel: None,
        }
    }

    fn read_key_files(&mut self) -> Result<(), ConfigError> {
        for key in &mut self.auth.keys {
            if let (None, Some(file)) = (&key.key, &key.key_file) {
                let text = read_file(Path::new(file))?;
                key.key = Some(Secret::new(text.lines().next().unwrap_or_default().trim()));
                key.key_file = None;
            }
        }
        Ok(())
    }

    /// What the types alone cannot say.
    fn validate(&self) -> Result<(), ConfigError> {
        let authority = Authority::new(&self.auth, None)?;
        let control = self.control.validate(&authority);
        control.map_err(|error| ConfigError::Contradiction(error.to_string()))?;
        let doors = self.whip_whep.validate();
        doors.map_err(|error| ConfigError::Contradiction(error.to_string()))?;
        EgressRules::new(&self.egress.allow)
            .map_err(|error| ConfigError::Contradiction(error.to_string()))?;
        tracing_subscriber::EnvFilter::builder()
            .parse(&self.log.level)
            .map_err(|error| ConfigError::Contradiction(format!("log.level: {error}")))?;
        Ok(())
    }
}

fn read_file(file: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(file).map_err(|error| ConfigError::Unreadable {
        file: file.display().to_string(),
        fault: match error.kind() {
            std::io::ErrorKind::NotFound => "no such file".into(),
            std::io::ErrorKind::InvalidData => "this is not UTF-8 text".into(),
            _ => error.to_string(),
        },
    })
}

fn overrides(
    env: impl IntoIterator<Item = (String, String)>,
    sets: &[String],
) -> Result<Overrides, ConfigError> {
    let mut overrides = Overrides::default();
    let mut env: Vec<_> = env.into_iter().collect();
    env.sort();
    for (name, value) in &env {
        if let Some(key) = name.strip_prefix("VIADUCT_").filter(|key| !is_service_link(key)) {
            let path: Vec<String> = key.split("__").map(str::to_lowercase).collect();
            overrides.set(&path, value, name)?;
        }
    }
    let mut flags = Overrides::default();
    for set in sets {
        let Some((key, value)) = set.split_once('=') else {
            let fault = "write it as --set section.key=value".into();
            return Err(ConfigError::Override { origin: format!("--set {set}"), fault });
        };
        let path: Vec<String> = key.split('.').map(|part| part.trim().to_string()).collect();
        flags.set(&path, value, &format!("--set {key}"))?;
    }
    overrides.lay_over(flags);
    Ok(overrides)
}

/// Kubernetes sets such variables for every service; ours is likely called `viaduct`.
fn is_service_link(key: &str) -> bool {
    key.starts_with("SERVICE_") || key == "PORT" || key.starts_with("PORT_")
}

#[cfg(test)]
mod tests;
