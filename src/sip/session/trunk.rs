//! A trunk with its preset's values filled in, and what is known of it while the server runs.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::auth::Secret;
use crate::sip::config::{Dtmf, Preset, SipConfig, Srtp, Transport, TrunkConfig};
use crate::sip::session::call::CallSettings;
use crate::sip::session::digest::{Account, Ha1s};
use crate::sip::session::offer::Policy;
use crate::sip::session::{Destination, register::Registration};
use crate::sip::wire::uri::host_port;
use crate::sip::wire::{NameAddr, Uri};

/// A network: an address and how many of its bits count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Net {
    address: IpAddr,
    bits: u8,
}

impl Net {
    /// Reads `192.0.2.1`, `10.0.0.0/8`, `2001:db8::/32`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let address: IpAddr = address.trim().parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |bits| bits.trim().parse().ok())?;
        (bits <= most).then_some(Net { address, bits })
    }

    /// Whether it holds an address. IPv4 written as IPv6 counts as IPv4.
    pub fn holds(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                (u32::from(net) ^ u32::from(address)) & mask == 0
            }
            (IpAddr::V6(net), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                (u128::from(net) ^ u128::from(address)) & mask == 0
            }
            _ => false,
        }
    }
}

/// Signalling addresses that providers publish; `peers` in the file overrides them.
const TWILIO: &[&str] = &[
    "54.172.60.0/30",
    "54.244.51.0/30",
    "54.171.127.192/30",
    "35.156.191.128/30",
    "54.65.63.192/30",
    "54.169.127.128/30",
    "54.252.254.64/30",
    "177.71.206.192/30",
];
const TELNYX: &[&str] = &[
    "192.76.120.10",
    "64.16.250.10",
    "185.246.41.140",
    "185.246.41.141",
    "103.115.244.145",
    "103.115.244.146",
    "192.76.120.31",
    "64.16.250.13",
];

/// A trunk.
#[derive(Debug)]
pub struct Trunk {
    /// Its name.
    pub name: String,
    /// Where calls and registrations go.
    pub host: Option<(String, Option<u16>)>,
    /// The proxy that requests to it go through.
    pub proxy: Option<(String, Option<u16>)>,
    /// How.
    pub transport: Transport,
    /// The name server may choose another transport.
    pub any: bool,
    /// From where its calls come, as written; names among them are looked up.
    pub peers: Vec<Net>,
    /// Names to look up: of `host` and among `peers`.
    pub names: Vec<String>,
    /// What the names came to.
    pub resolved: Vec<IpAddr>,
    /// Calls from there need no password.
    pub trust_address: bool,
    /// What the other side authenticates with.
    pub inbound: Option<(String, Ha1s)>,
    /// Host part of From.
    pub from_domain: Option<String>,
    /// Caller's number in calls out.
    pub caller_id: Option<String>,
    /// Beginnings of numbers.
    pub prefixes: Option<Vec<String>>,
    /// How calls over it are treated.
    pub settings: Arc<CallSettings>,
    /// Our registration there.
    pub registration: Option<Registration>,
    /// Between OPTIONS.
    pub options_every: Option<Duration>,
    /// Whether the last OPTIONS was answered.
    pub alive: Option<bool>,
    /// Calls at once.
    pub max_calls: usize,
    /// Calls now.
    pub calls: usize,
    max_per_minute: u32,
    dialled: VecDeque<Instant>,
}

impl Trunk {
    /// Fills a trunk's configuration in; `password` is what a `password_file` held.
    pub fn new(config: &TrunkConfig, sip: &SipConfig, password: Option<String>) -> Result<Self, String> {
        let preset = config.preset.unwrap_or(Preset::Peer);
        let registers =
            matches!(preset, Preset::Telnyx | Preset::Asterisk | Preset::Freeswitch | Preset::Registrar);
        let named = config.host.clone().or((preset == Preset::Telnyx).then(|| "sip.telnyx.com".to_owned()));
        let host = match &named {
            Some(text) => {
                Some(host_port(text).ok_or_else(|| config.fault("host is none that can be called"))?)
            }
            None => None,
        };
        let proxy = match &config.proxy {
            Some(text) => Some(host_port(text).ok_or_else(|| config.fault("proxy is no host"))?),
            None => None,
        };
        if matches!(config.transport, Some(Transport::Ws | Transport::Wss)) {
            return Err(config.fault("a WebSocket is opened by the phone, never by us"));
        }
        let secret = config.password.as_ref().map(Secret::reveal).map(str::to_owned).or(password);
        let account = match (&config.username, secret) {
            (Some(username), Some(password)) => {
                let username = config.auth_username.clone().unwrap_or_else(|| username.clone());
                Some(Account { username, password })
            }
            (None, Some(_)) => return Err(config.fault("a password without a username")),
            _ => None,
        };
        let (peers, names) = peers(config, preset, host.as_ref(), proxy.as_ref())?;
        let inbound = match (&config.inbound_username, &config.inbound_password) {
            (Some(user), Some(password)) => {
                Some((user.clone(), Ha1s::of(user, &sip.realm, password.reveal())))
            }
            (None, None) => None,
            _ => return Err(config.fault("inbound_username and inbound_password go together")),
        };
        let register = config.register.unwrap_or(registers);
        if register && (host.is_none() || config.username.is_none()) {
            return Err(config.fault("registering needs host and username"));
        }
        let settings = Arc::new(settings(config, sip, account.clone()));
        let mut trunk = Trunk {
            name: config.name.clone(),
            host,
            proxy,
            transport: config.transport.unwrap_or(Transport::Udp),
            any: config.transport.is_none(),
            peers,
            names,
            resolved: Vec::new(),
            trust_address: config.trust_address.unwrap_or(inbound.is_none()),
            inbound,
            from_domain: config.from_domain.clone(),
            caller_id: config.caller_id.clone().or_else(|| config.username.clone()),
            prefixes: config.prefixes.clone(),
            settings,
            registration: None,
            options_every: options(config, preset),
            alive: None,
            max_calls: config.max_calls.unwrap_or(100),
            calls: 0,
            max_per_minute: config.max_calls_per_minute.unwrap_or(60),
            dialled: VecDeque::new(),
        };
        let way = trunk.uri(None).zip(trunk.destination());
        if let (true, Some(way), Some(user)) = (register, way, &config.username) {
            let domain = trunk.domain();
            let seconds = config.register_s.unwrap_or(600);
            trunk.registration = Some(Registration::new((user, &domain), way, account, seconds));
        }
        Ok(trunk)
    }

    /// Where requests to it go: to its proxy, if it has one, else to itself.
    pub fn destination(&self) -> Option<Destination> {
        let own = self.uri(None)?;
        let (uri, routes) = match &self.proxy {
            Some((host, port)) => {
                let proxy = self.spoken(Uri::sip(None, host, *port));
                let route = NameAddr::new(proxy.clone().with_param("lr", "")).to_string();
                (proxy, vec![route])
            }
            None => (own, Vec::new()),
        };
        Some(Destination { uri, flow: None, addr: None, transport: self.transport, any: self.any, routes })
    }

    /// Names that are to be looked up: where requests go, then the peers'.
    pub fn searches(&self) -> Vec<Destination> {
        let own = self.destination().filter(|to| to.uri.ip().is_none());
        let search = |name: &String| Destination {
            uri: Uri::sip(None, name, None),
            flow: None,
            addr: None,
            transport: Transport::Udp,
            any: true,
            routes: Vec::new(),
        };
        let others = self.names.iter().filter(|name| own.as_ref().is_none_or(|to| to.uri.host != **name));
        own.iter().cloned().chain(others.map(search)).collect()
    }

    /// What its names came to, and how it is to be spoken with where nobody said.
    pub fn resolve(&mut self, addresses: Vec<IpAddr>, transport: Option<Transport>) {
        self.resolved = addresses.into_iter().map(|address| address.to_canonical()).collect();
        if let Some(transport) = transport.filter(|_| self.any) {
            self.transport = transport;
            if let Some(registration) = &mut self.registration {
                registration.speak(transport);
            }
        }
    }

    /// A number of it, or itself.
    pub fn uri(&self, user: Option<&str>) -> Option<Uri> {
        let (host, port) = self.host.as_ref()?;
        Some(self.spoken(Uri::sip(user, host, *port)))
    }

    /// A URI with the transport that was configured.
    fn spoken(&self, uri: Uri) -> Uri {
        match self.transport.param().filter(|_| !self.any) {
            Some(name) => uri.with_param("transport", name),
            None => uri,
        }
    }

    /// Whether a URI is at its host.
    pub fn is_at(&self, uri: &Uri) -> bool {
        let host = self.host.as_ref().is_some_and(|(host, _)| host.eq_ignore_ascii_case(&uri.host));
        host || uri.ip().is_some_and(|ip| self.is_from(ip))
    }

    /// Host part of From, To and the registration.
    pub fn domain(&self) -> String {
        let host = self.host.as_ref().map(|(host, _)| host.clone());
        self.from_domain.clone().or(host).unwrap_or_else(|| "invalid".into())
    }

    /// Whether calls from an address are its.
    pub fn is_from(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.peers.iter().any(|net| net.holds(address)) || self.resolved.contains(&address)
    }

    /// Whether another call out is within its limits; counts it.
    pub fn admit_out(&mut self, number: &str, now: Instant) -> Result<(), &'static str> {
        let digits = number.trim_start_matches('+');
        let fits = |prefix: &String| digits.starts_with(prefix.trim_start_matches('+'));
        if self.prefixes.as_ref().is_some_and(|prefixes| !prefixes.iter().any(fits)) {
            return Err("the trunk's prefixes do not allow this number");
        }
        if self.calls >= self.max_calls {
            return Err("the trunk has all the calls it may have");
        }
        while self
            .dialled
            .front()
            .is_some_and(|at| now.saturating_duration_since(*at) >= Duration::from_secs(60))
        {
            self.dialled.pop_front();
        }
        if self.dialled.len() >= self.max_per_minute as usize {
            return Err("the trunk has had all the calls out it may have in a minute");
        }
        self.dialled.push_back(now);
        Ok(())
    }
}

impl TrunkConfig {
    fn fault(&self, text: &str) -> String {
        format!("trunk {:?}: {text}", self.name)
    }
}

/// How calls are treated that belong to no trunk, or to one.
pub fn settings(config: &TrunkConfig, sip: &SipConfig, account: Option<Account>) -> CallSettings {
    let calls = sip.calls.clone();
    let codecs = config.codecs.clone().unwrap_or_else(|| calls.codecs.clone());
    CallSettings {
        policy: Policy {
            codecs: codecs.iter().map(|name| name.to_ascii_lowercase()).collect(),
            video: calls.video,
            offer_video: config.video.unwrap_or(false),
            video_bitrate: calls.video_bitrate,
            h264_fragments: calls.h264_fragments,
            srtp: config.srtp.unwrap_or(if config.name.is_empty() { calls.srtp } else { Srtp::Accept }),
            offer_ice: false,
            rtcp_mux: config.rtcp_mux.unwrap_or(false),
            hold_music: calls.hold_music,
        },
        calls,
        dtmf: config.dtmf.unwrap_or(Dtmf::Rfc4733),
        trunk: config.name.clone(),
        rule: String::new(),
        account,
        follow_redirects: config.follow_redirects.unwrap_or(false),
    }
}

fn options(config: &TrunkConfig, preset: Preset) -> Option<Duration> {
    let usual = if matches!(preset, Preset::Peer) && config.host.is_some() { 60 } else { 0 };
    let seconds = config.options_s.unwrap_or(usual);
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
}

fn peers(
    config: &TrunkConfig,
    preset: Preset,
    host: Option<&(String, Option<u16>)>,
    proxy: Option<&(String, Option<u16>)>,
) -> Result<(Vec<Net>, Vec<String>), String> {
    let published: &[&str] = match preset {
        Preset::Twilio => TWILIO,
        Preset::Telnyx => TELNYX,
        _ => &[],
    };
    let mut names: Vec<String> = Vec::new();
    let mut nets = Vec::new();
    let written =
        config.peers.clone().unwrap_or_else(|| published.iter().map(|text| (*text).to_owned()).collect());
    let own = host.filter(|_| config.peers.is_none()).map(|(host, _)| host.clone());
    let proxy = proxy.filter(|_| config.peers.is_none()).map(|(host, _)| host.clone());
    for text in written.into_iter().chain(own).chain(proxy) {
        match Net::parse(&text) {
            Some(net) => nets.push(net),
            None if text.contains('/') => return Err(config.fault(&format!("{text:?} is no network"))),
            None => names.push(text),
        }
    }
    Ok((nets, names))
}
