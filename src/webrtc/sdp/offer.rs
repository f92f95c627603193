//! An offer as typed values (RFC 8866, RFC 8829 §5.8): what each media section says about codecs, header
//! extensions, streams, ICE and DTLS. Lines that cannot be read are as if they were not there.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use serde_json::{Map, Value};

use super::clean;
use crate::core::capabilities::{Direction, HeaderExtension, Kind, RtcpFeedback, RtpCodec};
use crate::core::session::Fingerprint;
use crate::webrtc::{SdpError, SdpLimits};

/// A parsed offer.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The mids of each `a=group:BUNDLE`.
    pub bundles: Vec<Vec<String>>,
    /// The media sections, in order.
    pub media: Vec<MediaOffer>,
}

/// `a=setup` (RFC 8842).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Setup {
    /// The answerer chooses.
    Actpass,
    /// The offerer is the DTLS client.
    Active,
    /// The offerer is the DTLS server.
    Passive,
}

/// A codec as a section lists it.
#[derive(Clone, Debug)]
pub struct OfferedCodec {
    /// Its values.
    pub codec: RtpCodec,
    /// The text of `a=fmtp`, to be repeated in the answer.
    pub fmtp: Option<String>,
}

/// A header extension as a section lists it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OfferedExtension {
    /// URI and id.
    pub extension: HeaderExtension,
    /// Which way the offerer would use it (`a=extmap:1/sendonly`, RFC 8285 §5).
    pub direction: Direction,
}

/// One SSRC of a section.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OfferedSsrc {
    /// RTP synchronisation source.
    pub ssrc: u32,
    /// Its CNAME.
    pub cname: Option<String>,
}

/// A media section.
#[derive(Clone, Debug)]
pub struct MediaOffer {
    /// `audio`, `video`, `application`, ...
    pub media: String,
    /// Its port; 0 is a section already rejected, unless it is bundle-only.
    pub port: u16,
    /// `UDP/TLS/RTP/SAVPF`, ...
    pub proto: String,
    /// Its formats as they stand.
    pub fmt: String,
    /// `a=mid`.
    pub mid: Option<String>,
    /// Which way media goes.
    pub direction: Direction,
    /// Codecs in the order of preference.
    pub codecs: Vec<OfferedCodec>,
    /// Header extensions.
    pub extensions: Vec<OfferedExtension>,
    /// SSRCs in order of appearance.
    pub ssrcs: Vec<OfferedSsrc>,
    /// `a=ssrc-group:FID` pairs: a stream and its retransmissions.
    pub fid: Vec<(u32, u32)>,
    /// `a=ssrc-group:SIM`: the layers of a simulcast by their sources.
    pub sim: Vec<u32>,
    /// `b=TIAS` or `b=AS`: bits a second the offerer takes at most.
    pub bandwidth: Option<u64>,
    /// `a=msid`.
    pub msid: Option<String>,
    /// Layers the offerer would send (`a=simulcast:send`), in its order.
    pub simulcast: Vec<String>,
    /// `a=rtcp-mux`.
    pub rtcp_mux: bool,
    /// `a=rtcp-rsize`.
    pub rtcp_rsize: bool,
    /// `a=extmap-allow-mixed` (RFC 8285 §6), of the section or the session: elements of more than 16 bytes may come.
    pub mixed_extensions: bool,
    /// `a=bundle-only`.
    pub bundle_only: bool,
    /// ICE ufrag and password, of the section or the session.
    pub ice: Option<(String, String)>,
    /// Certificate fingerprints, of the section or the session.
    pub fingerprints: Vec<Fingerprint>,
    /// DTLS role, of the section or the session.
    pub setup: Option<Setup>,
    /// Values of `a=candidate`.
    pub candidates: Vec<String>,
}

impl Offer {
    /// Parses an offer within the default limits.
    pub fn parse(text: &str) -> Result<Offer, SdpError> {
        Offer::from_bytes(text.as_bytes(), &SdpLimits::default())
    }

    /// Parses an offer as it came over the wire.
    pub fn from_bytes(bytes: &[u8], limits: &SdpLimits) -> Result<Offer, SdpError> {
        let text = clean::sanitize(bytes, limits)?;
        let session = sdp_types::Session::parse(text.as_bytes())
            .map_err(|error| SdpError::Malformed(error.to_string()))?;
        let top = Attributes(&session.attributes);
        let bundles = top
            .values("group")
            .filter_map(|group| group.strip_prefix("BUNDLE"))
            .map(|mids| mids.split_ascii_whitespace().map(str::to_owned).collect())
            .collect();
        let media = session.medias.iter().map(|media| MediaOffer::read(media, &top)).collect();
        Ok(Offer { bundles, media })
    }
}

impl MediaOffer {
    /// Sound or picture; `None` for everything else.
    pub fn kind(&self) -> Option<Kind> {
        match self.media.as_str() {
            "audio" => Some(Kind::Audio),
            "video" => Some(Kind::Video),
            _ => None,
        }
    }

    /// Whether it is RTP over DTLS-SRTP and still wanted.
    pub fn is_usable(&self) -> bool {
        self.proto.contains("RTP/SAVP") && (self.port != 0 || self.bundle_only)
    }

    fn read(media: &sdp_types::Media, session: &Attributes<'_>) -> MediaOffer {
        let own = Attributes(&media.attributes);
        let levels = [&own, session];
        MediaOffer {
            media: media.media.clone(),
            port: media.port,
            proto: media.proto.clone(),
            fmt: media.fmt.clone(),
            mid: own.value("mid").map(str::to_owned),
            direction: levels.iter().find_map(|level| level.direction()).unwrap_or(Direction::SendRecv),
            codecs: own.codecs(&media.media, &media.fmt),
            extensions: own.extensions(),
            ssrcs: own.ssrcs(),
            fid: own.fid(),
            sim: own.sim(),
            bandwidth: bandwidth(&media.bandwidths),
            msid: own.value("msid").map(str::to_owned),
            simulcast: own.simulcast(),
            rtcp_mux: own.has("rtcp-mux"),
            rtcp_rsize: own.has("rtcp-rsize"),
            mixed_extensions: levels.iter().any(|level| level.has("extmap-allow-mixed")),
            bundle_only: own.has("bundle-only"),
            ice: levels.iter().find_map(|level| level.ice()),
            fingerprints: levels
                .iter()
                .map(|level| level.fingerprints())
                .find(|prints| !prints.is_empty())
                .unwrap_or_default(),
            setup: levels.iter().find_map(|level| level.setup()),
            candidates: own.values("candidate").map(str::to_owned).collect(),
        }
    }
}

/// The attributes of a section, or of the session.
struct Attributes<'a>(&'a [sdp_types::Attribute]);

impl<'a> Attributes<'a> {
    fn values(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |attribute| attribute.attribute == name)
            .map(|attribute| attribute.value.as_deref().unwrap_or_default().trim())
    }

    fn value(&self, name: &'static str) -> Option<&'a str> {
        self.values(name).next().filter(|value| !value.is_empty())
    }

    fn has(&self, name: &'static str) -> bool {
        self.values(name).next().is_some()
    }

    fn direction(&self) -> Option<Direction> {
        self.0.iter().find_map(|attribute| Direction::read(&attribute.attribute))
    }

    fn ice(&self) -> Option<(String, String)> {
        let fits = |text: &&str| text.len() <= 256 && text.chars().all(|c| c.is_ascii_graphic());
        let ufrag = self.value("ice-ufrag").filter(fits)?;
        let pwd = self.value("ice-pwd").filter(fits)?;
        Some((ufrag.to_owned(), pwd.to_owned()))
    }

    fn fingerprints(&self) -> Vec<Fingerprint> {
        self.values("fingerprint")
            .filter_map(|text| {
                let (algorithm, value) = text.split_once(' ')?;
                Some(Fingerprint {
                    algorithm: algorithm.to_ascii_lowercase(),
                    value: value.trim().to_ascii_uppercase(),
                })
            })
            .collect()
    }

    fn setup(&self) -> Option<Setup> {
        match self.value("setup")? {
            "active" => Some(Setup::Active),
            "passive" => Some(Setup::Passive),
            _ => Some(Setup::Actpass),
        }
    }

    fn extensions(&self) -> Vec<OfferedExtension> {
        let read = |text: &str| {
            let (id, rest) = text.split_once(' ')?;
            let (id, direction) = id.split_once('/').unwrap_or((id, "sendrecv"));
            let uri = rest.split_ascii_whitespace().next()?.to_owned();
            let extension = HeaderExtension::new(uri, id.parse().ok()?);
            Some(OfferedExtension { extension, direction: Direction::read(direction)? })
        };
        self.values("extmap").filter_map(read).collect()
    }

    fn ssrcs(&self) -> Vec<OfferedSsrc> {
        let mut ssrcs: Vec<OfferedSsrc> = Vec::new();
        for text in self.values("ssrc") {
            let (number, attribute) = text.split_once(' ').unwrap_or((text, ""));
            let Ok(ssrc) = number.parse() else { continue };
            let cname = attribute.strip_prefix("cname:").map(str::to_owned);
            match ssrcs.iter_mut().find(|known| known.ssrc == ssrc) {
                Some(known) => known.cname = known.cname.take().or(cname),
                None => ssrcs.push(OfferedSsrc { ssrc, cname }),
            }
        }
        ssrcs
    }

    fn fid(&self) -> Vec<(u32, u32)> {
        let read = |text: &str| {
            let mut ssrcs = text.strip_prefix("FID ")?.split_ascii_whitespace().map(str::parse);
            Some((ssrcs.next()?.ok()?, ssrcs.next()?.ok()?))
        };
        self.values("ssrc-group").filter_map(read).collect()
    }

    fn sim(&self) -> Vec<u32> {
        let group = self.values("ssrc-group").find_map(|text| text.strip_prefix("SIM "));
        group
            .map(|group| group.split_ascii_whitespace().filter_map(|ssrc| ssrc.parse().ok()).collect())
            .unwrap_or_default()
    }

    /// RFC 8853: `send a;b,c;~d`; of alternatives the first is taken, paused layers are layers.
    fn simulcast(&self) -> Vec<String> {
        let Some(text) = self.value("simulcast") else { return Vec::new() };
        let mut words = text.split_ascii_whitespace();
        while let Some(direction) = words.next() {
            let streams = words.next().unwrap_or_default();
            if direction == "send" {
                let rid = |stream: &str| Some(stream.split(',').next()?.trim_start_matches('~').to_owned());
                return streams.split(';').filter_map(rid).filter(|rid| !rid.is_empty()).collect();
            }
        }
        Vec::new()
    }

    fn codecs(&self, media: &str, fmt: &str) -> Vec<OfferedCodec> {
        let mut codecs: Vec<OfferedCodec> = Vec::new();
        for payload_type in fmt.split_ascii_whitespace().filter_map(|pt| pt.parse::<u8>().ok()) {
            let known = codecs.iter().any(|known| known.codec.payload_type == payload_type);
            if let Some(codec) = self.codec(media, payload_type).filter(|_| !known && payload_type < 128) {
                codecs.push(codec);
            }
        }
        codecs
    }

    fn codec(&self, media: &str, payload_type: u8) -> Option<OfferedCodec> {
        let map = self.of_payload("rtpmap", payload_type).next().or(static_map(payload_type))?;
        let mut parts = map.split('/');
        let name = parts.next()?.trim();
        let clock_rate = parts.next()?.trim().parse().ok()?;
        let channels = parts.next().and_then(|channels| channels.trim().parse().ok());
        let fmtp = self.of_payload("fmtp", payload_type).next();
        let codec = RtpCodec {
            mime_type: format!("{media}/{name}"),
            payload_type,
            clock_rate,
            channels,
            parameters: fmtp.map(parameters).unwrap_or_default(),
            rtcp_feedback: self.feedback(payload_type),
        };
        Some(OfferedCodec { codec, fmtp: fmtp.map(str::to_owned) })
    }

    /// What stands behind the payload type in `a=<name>:<payload type> ...`.
    fn of_payload(&self, name: &'static str, payload_type: u8) -> impl Iterator<Item = &'a str> {
        self.values(name).filter_map(move |text| {
            let (number, rest) = text.split_once(' ')?;
            (number.parse() == Ok(payload_type)).then_some(rest.trim())
        })
    }

    fn feedback(&self, payload_type: u8) -> Vec<RtcpFeedback> {
        let mut found: Vec<RtcpFeedback> = Vec::new();
        for text in self.values("rtcp-fb") {
            let Some((target, rest)) = text.split_once(' ') else { continue };
            if target != "*" && target.parse() != Ok(payload_type) {
                continue;
            }
            let (kind, parameter) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
            let feedback = RtcpFeedback { kind: kind.to_owned(), parameter: parameter.trim().to_owned() };
            if !found.contains(&feedback) {
                found.push(feedback);
            }
        }
        found
    }
}

/// Bits a second (RFC 3890), else kilobits with headers (RFC 8866 §5.8).
fn bandwidth(lines: &[sdp_types::Bandwidth]) -> Option<u64> {
    let of = |kind: &str| lines.iter().find(|line| line.bwtype == kind).map(|line| line.bandwidth);
    of("TIAS").or_else(|| of("AS")?.checked_mul(1000)).filter(|bitrate| *bitrate > 0)
}

/// Payload types that need no `a=rtpmap` (RFC 3551 §6), as far as we forward them.
fn static_map(payload_type: u8) -> Option<&'static str> {
    match payload_type {
        0 => Some("PCMU/8000"),
        8 => Some("PCMA/8000"),
        9 => Some("G722/8000"),
        _ => None,
    }
}

/// `a=b;c=1` as a map; numbers where the text is one exactly. A profile stays text though it may look like
/// a number, as in the v2 dictionaries.
fn parameters(fmtp: &str) -> Map<String, Value> {
    let mut map = Map::new();
    for item in fmtp.split(';').map(str::trim).filter(|item| !item.is_empty()) {
        let (name, text) = item.split_once('=').unwrap_or((item, ""));
        let number = text.parse::<u32>().ok().filter(|number| number.to_string() == text);
        let value = match number {
            Some(number) if name != "profile-level-id" => Value::from(number),
            _ => Value::from(text),
        };
        map.insert(name.trim().to_owned(), value);
    }
    map
}
