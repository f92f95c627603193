//! A trunk with its preset's values filled in, and what is known of it while the server runs.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::auth::Secret;
use crate::sip::config::{Dtmf, NumberFormat, Preset, SipConfig, Srtp, Transport, TrunkConfig};
use crate::sip::session::call::CallSettings;
use crate::sip::session::digest::{Account, Ha1s};
use crate::sip::session::offer::Policy;
use crate::sip::session::preset::Usual;
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
    /// How numbers are written.
    pub number_format: NumberFormat,
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
        let usual = Usual::of(config.preset.unwrap_or(Preset::Peer));
        let place = |text: &str, fault: &str| host_port(text).ok_or_else(|| config.fault(fault));
        let named = config.host.as_deref().or(usual.host);
        let host = named.map(|text| place(text, "host is none that can be called")).transpose()?;
        let proxy = config.proxy.as_deref().map(|text| place(text, "proxy is no host")).transpose()?;
        if matches!(config.transport, Some(Transport::Ws | Transport::Wss)) {
            return Err(config.fault("a WebSocket is opened by the phone, never by us"));
        }
        let account = config.account(password)?;
        let (peers, names) = peers(config, &usual, host.as_ref(), proxy.as_ref())?;
        let inbound = config.inbound(&sip.realm)?;
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
            number_format: config.number_format.unwrap_or(usual.number_format),
            settings,
            registration: None,
            options_every: None,
            alive: None,
            max_calls: config.max_calls.unwrap_or(100),
            calls: 0,
            max_per_minute: config.max_calls_per_minute.unwrap_or(60),
            dialled: VecDeque::new(),
        };
        let seconds = config.options_s.unwrap_or(usual.options_s);
        let asks = seconds > 0 && trunk.host.is_some();
        trunk.options_every = asks.then(|| Duration::from_secs(u64::from(seconds)));
        if config.register.unwrap_or(usual.register) {
            trunk.registration = Some(trunk.registers(config, account)?);
        }
        Ok(trunk)
    }

    fn registers(&self, config: &TrunkConfig, account: Option<Account>) -> Result<Registration, String> {
        let way = self.uri(None).zip(self.destination());
        let (Some(way), Some(user)) = (way, &config.username) else {
            return Err(config.fault("registering needs host and username"));
        };
        Ok(Registration::new((user, &self.domain()), way, account, config.register_s.unwrap_or(600)))
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
    /// What we authenticate with.
    fn account(&self, password: Option<String>) -> Result<Option<Account>, String> {
        let secret = self.password.as_ref().map(Secret::reveal).map(str::to_owned).or(password);
        match (&self.username, secret) {
            (Some(username), Some(password)) => {
                let username = self.auth_username.clone().unwrap_or_else(|| username.clone());
                Ok(Some(Account { username, password }))
            }
            (None, Some(_)) => Err(self.fault("a password without a username")),
            _ => Ok(None),
        }
    }

    /// What it authenticates with.
    fn inbound(&self, realm: &str) -> Result<Option<(String, Ha1s)>, String> {
        match (&self.inbound_username, &self.inbound_password) {
            (Some(user), Some(password)) => {
                Ok(Some((user.clone(), Ha1s::of(user, realm, password.reveal()))))
            }
            (None, None) => Ok(None),
            _ => Err(self.fault("inbound_username and inbound_password go together")),
        }
    }

    fn fault(&self, text: &str) -> String {
        format!("trunk {:?}: {text}", self.name)
    }
}

/// How calls are treated that belong to no trunk, or to one.
pub fn settings(config: &TrunkConfig, sip: &SipConfig, account: Option<Account>) -> CallSettings {
    let calls = sip.calls.clone();
    let usual = config.preset.map(|preset| Usual::of(preset).codecs).filter(|usual| !usual.is_empty());
    let usual = usual.map(|usual| usual.iter().map(|name| (*name).to_owned()).collect());
    let codecs = config.codecs.clone().or(usual).unwrap_or_else(|| calls.codecs.clone());
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

fn peers(
    config: &TrunkConfig,
    usual: &Usual,
    host: Option<&(String, Option<u16>)>,
    proxy: Option<&(String, Option<u16>)>,
) -> Result<(Vec<Net>, Vec<String>), String> {
    let mut names: Vec<String> = Vec::new();
    let mut nets = Vec::new();
    let written =
        config.peers.clone().unwrap_or_else(|| usual.peers.iter().map(|text| (*text).to_owned()).collect());
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
