//! Session descriptions as telephones write them (RFC 8866), read into what offer and answer need:
//! codecs, addresses, directions, SDES keys (RFC 4568), DTLS fingerprints (RFC 8122), ICE (RFC 8839).
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::core::base64;
use crate::core::capabilities::Kind;
use crate::core::session::Fingerprint;
use crate::sip::error::WireError;

/// Bytes of a description, media sections and attributes that are taken.
const MAX_BYTES: usize = 16 << 10;
const MAX_MEDIA: usize = 8;
const MAX_ATTRIBUTES: usize = 400;

/// In which direction media flows, as the description's writer sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Direction {
    /// The writer sends.
    pub send: bool,
    /// The writer takes.
    pub receive: bool,
}

impl Direction {
    /// Both.
    pub const BOTH: Direction = Direction { send: true, receive: true };
    /// Neither.
    pub const NONE: Direction = Direction { send: false, receive: false };

    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "sendrecv" => Direction { send: true, receive: true },
            "sendonly" => Direction { send: true, receive: false },
            "recvonly" => Direction { send: false, receive: true },
            "inactive" => Direction { send: false, receive: false },
            _ => return None,
        })
    }

    /// The same as the other side sees it.
    pub fn mirrored(self) -> Self {
        Direction { send: self.receive, receive: self.send }
    }

    /// Where both agree.
    pub fn and(self, other: Self) -> Self {
        Direction { send: self.send && other.send, receive: self.receive && other.receive }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.send, self.receive) {
            (true, true) => "sendrecv",
            (true, false) => "sendonly",
            (false, true) => "recvonly",
            (false, false) => "inactive",
        })
    }
}

/// A codec of a media section.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Codec {
    /// Payload type.
    pub payload: u8,
    /// Encoding name as written.
    pub name: String,
    /// Clock rate in Hz.
    pub rate: u32,
    /// Channels, where given.
    pub channels: Option<u8>,
    /// `a=fmtp`.
    pub fmtp: Option<String>,
}

impl Codec {
    /// Whether its name is `name`, without case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// One `a=crypto` line.
#[derive(Clone, Eq, PartialEq)]
pub struct Crypto {
    /// To be repeated in the answer.
    pub tag: u32,
    /// Name of the suite.
    pub suite: String,
    /// Key and salt.
    pub inline: Vec<u8>,
    /// It has session parameters that we do not know; such a line is not taken (RFC 4568 §6.3).
    pub has_parameters: bool,
}

impl fmt::Debug for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crypto").field("tag", &self.tag).field("suite", &self.suite).finish_non_exhaustive()
    }
}

/// `a=setup` (RFC 4145).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(missing_docs)]
pub enum Setup {
    Active,
    Passive,
    ActPass,
}

/// A media section.
#[derive(Clone, Debug)]
pub struct Media {
    /// The word behind `m=`.
    pub media: String,
    /// Sound or picture, if it is one of these.
    pub kind: Option<Kind>,
    /// Port; 0 means not wanted.
    pub port: u16,
    /// Transport, in upper case.
    pub proto: String,
    /// The formats as written.
    pub formats: String,
    /// Where it wants RTP, when that is an address.
    pub ip: Option<IpAddr>,
    /// `a=rtcp`.
    pub rtcp: Option<(u16, Option<IpAddr>)>,
    /// `a=rtcp-mux`.
    pub rtcp_mux: bool,
    /// Direction as its writer sees it.
    pub direction: Direction,
    /// Codecs in order of preference.
    pub codecs: Vec<Codec>,
    /// `a=crypto`.
    pub crypto: Vec<Crypto>,
    /// DTLS fingerprints.
    pub fingerprints: Vec<Fingerprint>,
    /// DTLS role.
    pub setup: Option<Setup>,
    /// ICE credentials.
    pub ice: Option<(String, String)>,
    /// `a=mid`.
    pub mid: Option<String>,
    /// `a=ptime`, in milliseconds.
    pub ptime: Option<u32>,
    /// `a=rtcp-fb` as written: payload type or `*`, then what.
    pub feedback: Vec<String>,
}

impl Media {
    /// Where it wants RTP.
    pub fn rtp(&self) -> Option<SocketAddr> {
        let ip = self.ip.filter(|ip| !ip.is_unspecified())?;
        (self.port != 0).then(|| SocketAddr::new(ip, self.port))
    }

    /// Where it wants RTCP, when it says so.
    pub fn rtcp(&self) -> Option<SocketAddr> {
        let (port, ip) = self.rtcp?;
        let ip = ip.or(self.ip).filter(|ip| !ip.is_unspecified())?;
        (port != 0).then(|| SocketAddr::new(ip, port))
    }

    /// Whether feedback `what` (`nack pli`) was offered for any codec.
    pub fn has_feedback(&self, what: &str) -> bool {
        self.feedback.iter().any(|line| line.split_once(' ').is_some_and(|(_, rest)| rest.trim() == what))
    }
}

/// A whole description.
#[derive(Clone, Debug)]
pub struct Description {
    /// `o=`: session and version; a version that does not grow means nothing changed.
    pub version: (String, u64),
    /// Media sections in their order.
    pub media: Vec<Media>,
    /// Which sections share one transport (`a=group:BUNDLE`).
    pub bundle: Vec<String>,
}

impl Description {
    /// Reads a description.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let text = clean(bytes)?;
        let session =
            sdp_types::Session::parse(text.as_bytes()).map_err(|e| WireError::Sdp(e.to_string()))?;
        let top = Attributes(&session.attributes);
        let ip = session.connection.as_ref().and_then(address);
        let media = session.medias.iter().map(|media| read_media(media, &top, ip)).collect();
        let group = top.values("group").find_map(|value| value.strip_prefix("BUNDLE "));
        let bundle = group.unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect();
        Ok(Description { version: (session.origin.sess_id, session.origin.sess_version), media, bundle })
    }
}

/// What comes before the parser: bounds, broken line ends, bytes that are not UTF-8, odd `o=` lines.
fn clean(bytes: &[u8]) -> Result<String, WireError> {
    let too_many = |what: &str| WireError::Sdp(format!("too many {what}"));
    if bytes.len() > MAX_BYTES {
        return Err(too_many("bytes"));
    }
    let text = String::from_utf8_lossy(bytes);
    let (mut head, mut body) = (String::new(), String::new());
    let (mut origin, mut connection) = (None, None);
    let (mut media, mut attributes) = (0usize, 0usize);
    for line in text.split(['\r', '\n', '\0']).map(|line| line.trim_matches(['\u{feff}', ' '])) {
        let Some((kind, value)) = line.split_once('=') else { continue };
        match kind {
            "o" if origin.is_none() => origin = Some(repair_origin(value)),
            "c" if media == 0 => connection = Some(value.trim().to_owned()),
            "m" => media = media.saturating_add(1),
            "a" => attributes = attributes.saturating_add(1),
            _ => {}
        }
        let out = if media == 0 { &mut head } else { &mut body };
        if matches!(kind, "m" | "a") || (kind == "c" && media > 0) {
            out.push_str(kind);
            out.push('=');
            out.push_str(value.trim());
            out.push_str("\r\n");
        }
    }
    match () {
        _ if media > MAX_MEDIA => return Err(too_many("media sections")),
        _ if attributes > MAX_ATTRIBUTES => return Err(too_many("attributes")),
        _ if media == 0 => return Err(WireError::Sdp("it names no media".into())),
        _ => {}
    }
    let origin = origin.unwrap_or_else(|| "- 0 0 IN IP4 0.0.0.0".to_owned());
    let connection = connection.map(|value| format!("c={value}\r\n")).unwrap_or_default();
    Ok(format!("v=0\r\no={origin}\r\ns=-\r\n{connection}t=0 0\r\n{head}{body}"))
}

fn repair_origin(value: &str) -> String {
    let parts: Vec<&str> = value.split_ascii_whitespace().collect();
    let number = |text: Option<&&str>| -> u64 {
        let digits: String =
            text.map(|text| text.chars().filter(char::is_ascii_digit).collect()).unwrap_or_default();
        // A number beyond 64 bits changes in its low digits.
        let tail = digits.len().saturating_sub(18);
        digits.get(tail..).unwrap_or_default().parse().unwrap_or_default()
    };
    let ids: Vec<&&str> = parts.iter().filter(|part| part.bytes().all(|b| b.is_ascii_digit())).collect();
    let (session, version) = (ids.first().copied(), ids.get(1).or(ids.first()).copied());
    let session = session.copied().unwrap_or("0");
    format!("- {session} {} IN IP4 0.0.0.0", number(version))
}

/// Attributes of a section or of the whole.
struct Attributes<'a>(&'a [sdp_types::Attribute]);

impl<'a> Attributes<'a> {
    fn values(&self, name: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        let matching = self.0.iter().filter(move |a| a.attribute.eq_ignore_ascii_case(name));
        matching.map(|a| a.value.as_deref().unwrap_or_default().trim())
    }

    fn get(&self, name: &'a str) -> Option<&'a str> {
        self.values(name).next()
    }

    fn direction(&self) -> Option<Direction> {
        self.0.iter().find_map(|a| Direction::parse(&a.attribute.to_ascii_lowercase()))
    }

    fn fingerprints(&self) -> Vec<Fingerprint> {
        let pairs = self.values("fingerprint").filter_map(|value| value.split_once(' '));
        pairs
            .map(|(algorithm, value)| Fingerprint {
                algorithm: algorithm.to_ascii_lowercase(),
                value: value.trim().to_ascii_uppercase(),
            })
            .collect()
    }
}

fn address(connection: &sdp_types::Connection) -> Option<IpAddr> {
    connection.connection_address.split('/').next()?.trim().parse().ok()
}

fn read_media(media: &sdp_types::Media, top: &Attributes<'_>, session_ip: Option<IpAddr>) -> Media {
    let own = Attributes(&media.attributes);
    let both = |name| own.get(name).or_else(|| top.get(name));
    let kind = match media.media.to_ascii_lowercase().as_str() {
        "audio" => Some(Kind::Audio),
        "video" => Some(Kind::Video),
        _ => None,
    };
    let ip = media.connections.first().and_then(address).or(session_ip);
    let mut direction = own.direction().or_else(|| top.direction()).unwrap_or(Direction::BOTH);
    if ip.is_some_and(|ip| ip.is_unspecified()) {
        // Hold as it was before RFC 3264: the writer takes nothing.
        direction.receive = false;
    }
    let fingerprints = own.fingerprints();
    Media {
        media: media.media.clone(),
        kind,
        port: media.port,
        proto: media.proto.to_ascii_uppercase(),
        formats: media.fmt.clone(),
        ip,
        rtcp: own.get("rtcp").and_then(rtcp),
        rtcp_mux: own.get("rtcp-mux").is_some(),
        direction,
        codecs: codecs(&media.fmt, &own),
        crypto: own.values("crypto").filter_map(crypto).collect(),
        fingerprints: if fingerprints.is_empty() { top.fingerprints() } else { fingerprints },
        setup: both("setup").and_then(setup),
        ice: both("ice-ufrag").zip(both("ice-pwd")).map(|(u, p)| (u.to_owned(), p.to_owned())),
        mid: own.get("mid").map(str::to_owned),
        ptime: own.get("ptime").and_then(|value| value.parse().ok()),
        feedback: own.values("rtcp-fb").map(str::to_owned).collect(),
    }
}

fn setup(value: &str) -> Option<Setup> {
    Some(match value.to_ascii_lowercase().as_str() {
        "active" => Setup::Active,
        "passive" => Setup::Passive,
        "actpass" => Setup::ActPass,
        _ => return None,
    })
}

fn rtcp(value: &str) -> Option<(u16, Option<IpAddr>)> {
    let mut parts = value.split_ascii_whitespace();
    let port = parts.next()?.parse().ok()?;
    Some((port, parts.nth(2).and_then(|ip| ip.parse().ok())))
}

/// Payload types that need no `a=rtpmap` (RFC 3551 §6).
const STATIC: &[(u8, &str, u32)] = &[
    (0, "PCMU", 8000),
    (3, "GSM", 8000),
    (8, "PCMA", 8000),
    (9, "G722", 8000),
    (13, "CN", 8000),
    (18, "G729", 8000),
];

fn codecs(formats: &str, own: &Attributes<'_>) -> Vec<Codec> {
    let mut found: Vec<Codec> = Vec::new();
    for payload in formats.split_ascii_whitespace().filter_map(|text| text.parse::<u8>().ok()) {
        if payload > 127 || found.iter().any(|codec| codec.payload == payload) {
            continue;
        }
        let of = |name| {
            own.values(name).find_map(|value| {
                let (number, rest) = value.split_once(char::is_whitespace)?;
                (number.trim().parse() == Ok(payload)).then(|| rest.trim())
            })
        };
        let mapped = of("rtpmap").and_then(|map| {
            let mut parts = map.split('/');
            let (name, rate) = (parts.next()?.trim(), parts.next()?.trim().parse().ok()?);
            Some((name.to_owned(), rate, parts.next().and_then(|text| text.trim().parse().ok())))
        });
        let fixed = || {
            let known = STATIC.iter().find(|(number, _, _)| *number == payload)?;
            Some((known.1.to_owned(), known.2, None))
        };
        let Some((name, rate, channels)) = mapped.or_else(fixed) else { continue };
        found.push(Codec { payload, name, rate, channels, fmtp: of("fmtp").map(str::to_owned) });
    }
    found
}

fn crypto(value: &str) -> Option<Crypto> {
    let mut parts = value.split_ascii_whitespace();
    let (tag, suite, key) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
    let inline = key.split(';').next()?.strip_prefix("inline:")?;
    // Lifetime and MKI stand behind bars; an MKI would change the packets' shape.
    let mut rest = inline.split('|');
    let inline = base64::decode(rest.next()?)?;
    let has_mki = rest.any(|part| part.contains(':'));
    Some(Crypto { tag, suite: suite.to_owned(), inline, has_parameters: parts.next().is_some() || has_mki })
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    #[test]
    fn a_phones_offer_is_read() {
        let text = "v=0\no=- 1 99999999999999999999999 IN IP4 h\ns=\nc=IN IP4 192.0.2.1\nt=0 0\n\
                    m=audio 4000 RTP/SAVP 8 9 101 99 13\na=rtpmap:101 telephone-event/8000\na=fmtp:101 0-16\n\
                    a=rtpmap:99 opus/48000/2\na=crypto:1 AES_CM_128_HMAC_SHA1_80 \
                    inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4 FEC_ORDER=FEC_SRTP\na=sendonly\n\
                    m=video 0 RTP/AVP 31\nc=IN IP4 0.0.0.0\n";
        let description = Description::parse(text.as_bytes()).expect("description");
        let audio = &description.media[0];
        let names: Vec<_> = audio.codecs.iter().map(|codec| (codec.payload, codec.name.as_str())).collect();
        assert_eq!(names, [(8, "PCMA"), (9, "G722"), (101, "telephone-event"), (99, "opus"), (13, "CN")]);
        assert_eq!(audio.rtp(), Some("192.0.2.1:4000".parse().expect("address")));
        assert_eq!(audio.direction.to_string(), "sendonly");
        assert!(audio.crypto[0].has_parameters);
        assert_eq!(audio.crypto[0].inline.len(), 30);
        assert_eq!(description.media[1].rtp(), None);
    }
}
