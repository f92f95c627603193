//! What can be set for SIP: listeners, trunks, who is let in where, who may be called, and every bound.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use crate::core::auth::Secret;
use crate::sip::wire::auth::Algorithm;

/// The `sip` section. Without it there is no SIP at all; with an empty one (`sip: {}`) the server listens,
/// answers OPTIONS and refuses every call, because no rule lets one in.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct SipConfig {
    /// Address and port for UDP. Default `[::]:5060`; `null` turns it off.
    pub udp: Option<SocketAddr>,
    /// Address and port for TCP. Default `[::]:5060`; `null` turns it off.
    pub tcp: Option<SocketAddr>,
    /// Address and port for TLS; needs `certificate` and `key`. Default none.
    pub tls: Option<SocketAddr>,
    /// PEM file of the certificate for TLS. Default none.
    pub certificate: Option<PathBuf>,
    /// PEM file of its key. Default none.
    pub key: Option<PathBuf>,
    /// PEM file of authorities whose client certificates TLS callers must show. Default none: not asked for.
    pub client_ca: Option<PathBuf>,
    /// PEM file of authorities that trunks' certificates are checked against. Default: those of the system.
    pub ca: Option<PathBuf>,
    /// Serve SIP over WebSocket (RFC 7118) at `/sip` of the HTTP listener. Default true.
    pub websocket: bool,
    /// Answers to UDP go to where the request came from, whether it asks for that (RFC 3581) or not: a phone behind NAT
    /// that does not is reached all the same. False: as RFC 3261 says, for devices that send from one port and listen
    /// on another. Default true.
    pub symmetric_answers: bool,
    /// Address told to remote parties in Via and Contact: the public side of a NAT. Default: the one
    /// that leads to them.
    pub announced_address: Option<IpAddr>,
    /// Realm of digest authentication and domain of registered phones. Default `viaduct`.
    pub realm: String,
    /// Hashes of digest authentication that we ask for, each in a challenge of its own, in this order: `md5`,
    /// `sha-256`. Default `[md5]`: many phones give up on a challenge with a hash they do not know, even
    /// where another one stands beside it.
    pub digest: Vec<Algorithm>,
    /// Offer digests over bodies too (`auth-int`). Default false: some phones give up on a choice.
    pub digest_integrity: bool,
    /// File of users that may register, written by `viaduct hash-password`; mode 0600. Default none.
    pub users_file: Option<PathBuf>,
    /// Seconds a registration may last at most. Default 3600.
    pub max_registration_s: u32,
    /// Seconds a registration must last at least; less is answered with 423. Default 60.
    pub min_registration_s: u32,
    /// Name servers that are asked for SRV and NAPTR, with their ports. Default: those of the system.
    pub nameservers: Vec<SocketAddr>,
    /// Contacts of one user. Default 10.
    pub max_contacts: usize,
    /// Providers, PBXs and peers. Default none.
    pub trunks: Vec<TrunkConfig>,
    /// Which call goes to which room; the first match wins. Default none: every call is refused.
    pub dispatch: Vec<DispatchRule>,
    /// Who may call out, to where, over which trunk; the first match wins. Default none: nobody.
    pub outbound: Vec<OutboundRule>,
    /// How calls are treated where no trunk says otherwise.
    pub calls: CallConfig,
    /// Bounds against hostile and broken parties.
    pub limits: SipLimits,
}

impl Default for SipConfig {
    fn default() -> Self {
        let every = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 5060));
        SipConfig {
            udp: Some(every),
            tcp: Some(every),
            tls: None,
            certificate: None,
            key: None,
            client_ca: None,
            ca: None,
            websocket: true,
            symmetric_answers: true,
            announced_address: None,
            realm: "viaduct".into(),
            digest: vec![Algorithm::Md5],
            digest_integrity: false,
            users_file: None,
            max_registration_s: 3600,
            min_registration_s: 60,
            nameservers: Vec::new(),
            max_contacts: 10,
            trunks: Vec::new(),
            dispatch: Vec::new(),
            outbound: Vec::new(),
            calls: CallConfig::default(),
            limits: SipLimits::default(),
        }
    }
}

/// How a SIP message travels.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
    Ws,
    Wss,
}

impl Transport {
    /// Its name in Via.
    pub fn via(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Ws => "WS",
            Transport::Wss => "WSS",
        }
    }

    /// Its name in a URI's `transport` parameter; none for UDP, which is the default.
    pub fn param(self) -> Option<&'static str> {
        match self {
            Transport::Udp => None,
            Transport::Tcp => Some("tcp"),
            Transport::Tls => Some("tls"),
            Transport::Ws | Transport::Wss => Some("ws"),
        }
    }

    /// The port where a URI names none.
    pub fn port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp => 5060,
            Transport::Tls => 5061,
            Transport::Ws => 80,
            Transport::Wss => 443,
        }
    }

    /// Whether what is sent arrives or the connection breaks.
    pub fn is_reliable(self) -> bool {
        self != Transport::Udp
    }
}

/// Well-known kinds of trunks; each sets the keys that the file leaves out.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Twilio Elastic SIP Trunking: inbound by its published signalling addresses, outbound by credentials
    /// to `NAME.pstn.twilio.com`, which `host` must name. No REGISTER. Numbers in E.164 with `+`. G.711.
    Twilio,
    /// Telnyx: REGISTER to `sip.telnyx.com`, inbound by its published signalling addresses. Numbers in E.164 with `+`.
    /// G.722 and G.711.
    Telnyx,
    /// An Asterisk (chan_pjsip) that we register with and ask every minute whether it is there. G.722 and G.711.
    Asterisk,
    /// A FreeSWITCH that we register with and ask every minute whether it is there.
    Freeswitch,
    /// Any server that takes a REGISTER.
    Registrar,
    /// Any server that knows us by our address; asked every minute whether it is there.
    Peer,
}

/// How numbers are written in calls out.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum NumberFormat {
    /// As they were dialled.
    AsDialled,
    /// `+` and digits, where it is a number of the world's plan.
    E164,
}

/// Whether media is protected.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Srtp {
    /// Taken when offered, not offered.
    Accept,
    /// Offered with SDES and required.
    Sdes,
    /// Offered with DTLS and required.
    Dtls,
    /// Refused, neither offered.
    Off,
}

/// How tones are sent.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Dtmf {
    /// In RTP (RFC 4733), or by INFO where the other side cannot.
    Rfc4733,
    /// By INFO.
    Info,
}

/// A provider, PBX or peer. Keys left out take the preset's value, then the general one.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct TrunkConfig {
    /// Its name in rules, logs and the API. No default.
    pub name: String,
    /// What it is like. Default `peer`.
    pub preset: Option<Preset>,
    /// Host (and port) where calls and registrations go. Default none: calls only come in.
    pub host: Option<String>,
    /// PEM file of authorities that its certificate is checked against. Default the general one.
    pub ca: Option<PathBuf>,
    /// PEM file of the certificate that we show to it by TLS. Default the general one.
    pub certificate: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
    /// Host (and port) of a proxy that everything to it goes through. Default none.
    pub proxy: Option<String>,
    /// How messages go there: `udp`, `tcp`, `tls`. Default: as the name server says (RFC 3263), else `udp`.
    pub transport: Option<Transport>,
    /// Addresses and networks (`10.0.0.0/8`) from which its calls come. Default: those of `host` and `proxy`.
    pub peers: Option<Vec<String>>,
    /// Calls from its addresses need no password. Default true.
    pub trust_address: Option<bool>,
    /// User name by which it authenticates calls to us. Default none.
    pub inbound_username: Option<String>,
    /// Password that goes with it.
    pub inbound_password: Option<Secret>,
    /// User name by which we authenticate. Default none.
    pub username: Option<String>,
    /// User name within the digest, where it is another. Default `username`.
    pub auth_username: Option<String>,
    /// Our password.
    pub password: Option<Secret>,
    /// A file whose first line is our password.
    pub password_file: Option<PathBuf>,
    /// Register there. Default by preset.
    pub register: Option<bool>,
    /// Seconds to register for. Default 600.
    pub register_s: Option<u32>,
    /// Domain in From. Default the host.
    pub from_domain: Option<String>,
    /// Caller's number in calls out, where the caller names none. Default `username`.
    pub caller_id: Option<String>,
    /// Codecs by preference. Default by preset, else those of `calls`.
    pub codecs: Option<Vec<String>>,
    /// Whether media is protected. Default `accept`.
    pub srtp: Option<Srtp>,
    /// How tones are sent. Default `rfc4733`.
    pub dtmf: Option<Dtmf>,
    /// RTP and RTCP on one port from the start. Default false: offered, and done where the other side agrees.
    pub rtcp_mux: Option<bool>,
    /// Offer video in calls out. Default false.
    pub video: Option<bool>,
    /// Seconds between OPTIONS that ask whether it is there; 0 sends none. Default by preset.
    pub options_s: Option<u32>,
    /// Calls at once, both ways. Default 100.
    pub max_calls: Option<usize>,
    /// Calls out in a minute. Default 60.
    pub max_calls_per_minute: Option<u32>,
    /// How numbers called and callers' numbers are written: `as-dialled`, `e164`. Default by preset.
    pub number_format: Option<NumberFormat>,
    /// Beginnings of numbers that may be called over it. Default: any that a rule allows.
    pub prefixes: Option<Vec<String>>,
    /// Follow a 302: each number it points to is asked of the outbound rules as if it had been dialled. Default false.
    pub follow_redirects: Option<bool>,
}

/// Which call goes to which room. In patterns `*` stands for any characters and `?` for one; what the
/// stars of `number` stood for is `{1}`, `{2}`, ... in `room`, beside `{number}`, `{caller}` and `{user}`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct DispatchRule {
    /// Its name in logs. Default its place in the list.
    pub name: Option<String>,
    /// Trunks whose calls it is for; `phones` are the registered ones, `anyone` also callers nobody knows.
    /// Default: every trunk and registered phones.
    pub from: Option<Vec<String>>,
    /// Numbers called. Default any.
    pub number: Option<String>,
    /// Callers' numbers that may. Default any.
    pub allow: Option<Vec<String>>,
    /// Callers' numbers that may not. Default none.
    pub deny: Vec<String>,
    /// Room. Needed, unless `pins` or `refuse` is given.
    pub room: Option<String>,
    /// A PIN to be entered before the room opens. Default none.
    pub pin: Option<Secret>,
    /// Rooms by PIN.
    pub pins: BTreeMap<String, String>,
    /// A new room for every caller: its name gets a random end. Default false.
    pub per_caller: bool,
    /// Nobody in the room sees the caller's number. Default true.
    pub hide_number: Option<bool>,
    /// Callers in a room by this rule at once; by a rule with PINs, in all of its rooms. Default 100.
    pub max_callers: Option<usize>,
    /// Refuse with these words.
    pub refuse: Option<String>,
}

/// Who may call out to where.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct OutboundRule {
    /// Its name in logs. Default its place in the list.
    pub name: Option<String>,
    /// Numbers, as patterns. No default.
    pub number: String,
    /// The trunk, or `phones` for registered ones. No default.
    pub trunk: String,
    /// Who may (names of keys as they stand in logs, as patterns). Default nobody.
    pub principals: Vec<String>,
    /// Rooms from which. Default any.
    pub rooms: Option<Vec<String>>,
    /// Caller's number shown. Default the trunk's.
    pub caller_id: Option<String>,
    /// A party in a call may be moved there by REFER. Default false.
    pub transfer: bool,
}

/// How calls are treated.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct CallConfig {
    /// Audio codecs by preference: `opus`, `g722`, `pcma`, `pcmu`. Default in this order.
    pub codecs: Vec<String>,
    /// Take video where it is offered (H.264, else VP8). Default true.
    pub video: bool,
    /// Bits per second of video asked for. Default 2000000.
    pub video_bitrate: u32,
    /// Send H.264 in fragments (packetization mode 1) to phones, too, that announce mode 0 or none. Most can put them
    /// together, and nothing needs to be re-encoded for them. Default false.
    pub h264_fragments: bool,
    /// Media is protected. Default `accept`.
    pub srtp: Srtp,
    /// Seconds of a session timer that we ask for; 0 asks for none. Default 1800.
    pub session_expires_s: u32,
    /// Seconds of a session timer that we take at least; below 90 is against RFC 4028. Default 90.
    pub min_se_s: u32,
    /// Seconds a call out may ring. Default 60.
    pub ring_s: u32,
    /// Seconds after which any call is ended; 0 for never. Default 86400.
    pub max_s: u32,
    /// Seconds without one packet of a party that should send, after which its call is ended. Default 30.
    pub media_timeout_s: u32,
    /// Take what a party sends while it holds the call (music, mostly) into the room. Default false.
    pub hold_music: bool,
    /// Wrong PINs before the call is ended. Default 3.
    pub pin_tries: u32,
    /// Seconds to wait for a PIN. Default 30.
    pub pin_s: u32,
}

impl Default for CallConfig {
    fn default() -> Self {
        CallConfig {
            codecs: ["opus", "g722", "pcma", "pcmu"].map(str::to_owned).to_vec(),
            video: true,
            video_bitrate: 2_000_000,
            h264_fragments: false,
            srtp: Srtp::Accept,
            session_expires_s: 1800,
            min_se_s: 90,
            ring_s: 60,
            max_s: 86_400,
            media_timeout_s: 30,
            hold_music: false,
            pin_tries: 3,
            pin_s: 30,
        }
    }
}

/// Bounds against hostile and broken parties.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct SipLimits {
    /// Bytes of one message. Default 16384.
    pub max_message_bytes: usize,
    /// Bytes of its headers. Default 8192.
    pub max_header_bytes: usize,
    /// Header lines. Default 100.
    pub max_headers: usize,
    /// Calls at once. Default 2000.
    pub max_calls: usize,
    /// Transactions at once. Default 20000.
    pub max_transactions: usize,
    /// Stream connections at once. Default 4096.
    pub max_connections: usize,
    /// Stream connections of one address (IPv6: one /64). Default 64.
    pub max_connections_per_address: usize,
    /// Seconds a stream connection may be silent. Default 1800.
    pub idle_s: u64,
    /// Seconds that a message may take to arrive whole on a stream. Default 30.
    pub partial_s: u64,
    /// Requests that open something, of one unknown address (IPv6: one /64), in a second. Default 20.
    pub requests_per_second: u32,
    /// The same of a trunk's address. Default 1000.
    pub trunk_requests_per_second: u32,
    /// Failures (wrong passwords, unreadable messages, refused calls) of one address within `ban_window_s`
    /// after which it is banned. Default 20.
    pub ban_failures: u32,
    /// Seconds over which failures are counted. Default 60.
    pub ban_window_s: u64,
    /// Seconds a ban lasts. Default 600; 0 bans nobody.
    pub ban_s: u64,
    /// Addresses that are counted and banned at once; the oldest goes first. Default 10000.
    pub max_tracked_addresses: usize,
    /// Networks that are never banned. Default loopback.
    pub never_ban: Vec<String>,
    /// Milliseconds without any answer after which the next address of a server is tried, if it has one. Default 4000.
    pub failover_ms: u64,
    /// Seconds for which an address that did not answer is tried last. Default 60.
    pub failover_s: u64,
    /// Seconds that a nonce is good for. Default 300.
    pub nonce_s: u64,
}

impl Default for SipLimits {
    fn default() -> Self {
        SipLimits {
            max_message_bytes: 16 << 10,
            max_header_bytes: 8 << 10,
            max_headers: 100,
            max_calls: 2000,
            max_transactions: 20_000,
            max_connections: 4096,
            max_connections_per_address: 64,
            idle_s: 1800,
            partial_s: 30,
            requests_per_second: 20,
            trunk_requests_per_second: 1000,
            ban_failures: 20,
            ban_window_s: 60,
            ban_s: 600,
            max_tracked_addresses: 10_000,
            never_ban: vec!["127.0.0.0/8".into(), "::1/128".into()],
            failover_ms: 4000,
            failover_s: 60,
            nonce_s: 300,
        }
    }
}
