//! The answer (RFC 8829 §5.3.1, RFC 8843 §7.3, RFC 8839 §4.2.2): every section of the offer in its place,
//! each accepted one complete in itself, and all candidates there, because some publishers never send or
//! take one later.

use sdp_types::{Attribute, Connection, Media, Origin, Session};

use super::{Accepted, LocalTransport, Negotiated, Section, candidate};
use crate::core::session::DtlsRole;

const NOWHERE: std::net::Ipv4Addr = std::net::Ipv4Addr::UNSPECIFIED;

impl Negotiated {
    /// The answer, ready to send.
    pub fn answer(&self, local: &LocalTransport) -> String {
        let origin = Origin::with_ip_addr(session_id(&local.ufrag), 1, NOWHERE);
        let mut session = Session::new(origin, "-");
        session.attributes.extend(self.group());
        session.attributes.push(Attribute::new("ice-lite"));
        session.attributes.push(Attribute::with_value("msid-semantic", " WMS *"));
        session.medias = self.sections.iter().map(|section| write_section(section, local)).collect();
        write(&session)
    }

    /// The `application/trickle-ice-sdpfrag` body that answers an ICE restart (RFC 9725 §4.3.3).
    pub fn restart_answer(&self, local: &LocalTransport) -> String {
        let mut text = String::new();
        let mut line = |name: &str, attribute: &Attribute| {
            let value = attribute.value.as_deref().map(|value| format!(":{value}")).unwrap_or_default();
            text.push_str(&format!("{name}={}{value}\r\n", attribute.attribute));
        };
        for attribute in self.group().iter().chain([&Attribute::new("ice-lite")]) {
            line("a", attribute);
        }
        let accepted = self.sections.iter().find_map(|section| Some((section, section.accepted.as_ref()?)));
        if let Some((section, accepted)) = accepted {
            let formats = formats(accepted);
            let media = format!("{} 9 {} {formats}", section.media, section.proto);
            line("m", &Attribute::new(media));
            for attribute in mid(section).iter().chain(&ice_attributes(local)) {
                line("a", attribute);
            }
        }
        text
    }

    fn group(&self) -> Option<Attribute> {
        let mids: Vec<&str> = self
            .sections
            .iter()
            .filter(|section| section.accepted.is_some())
            .filter_map(|section| section.mid.as_deref())
            .collect();
        (self.bundled && !mids.is_empty())
            .then(|| Attribute::with_value("group", format!("BUNDLE {}", mids.join(" "))))
    }
}

fn write(session: &Session) -> String {
    let mut bytes = Vec::new();
    // Writing into memory does not fail.
    let _ = session.write(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A number that stays the same for one transport and differs between them (FNV-1a, 63 bits).
fn session_id(ufrag: &str) -> u64 {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    ufrag.bytes().fold(0xcbf2_9ce4_8422_2325, hash) >> 1
}

fn write_section(section: &Section, local: &LocalTransport) -> Media {
    let default = local.candidates.iter().find(|candidate| !candidate.tcp).map(|candidate| candidate.address);
    let (port, fmt, attributes) = match &section.accepted {
        Some(accepted) => {
            let port = default.map_or(9, |address| address.port());
            (port, formats(accepted), accepted_attributes(section, accepted, local))
        }
        None => {
            let mut attributes = mid(section);
            attributes.push(Attribute::new("inactive"));
            (0, section.fmt.clone(), attributes)
        }
    };
    let address = default.filter(|_| port != 0).map_or(NOWHERE.into(), |address| address.ip());
    Media {
        media: section.media.clone(),
        port,
        num_ports: None,
        proto: section.proto.clone(),
        fmt,
        media_title: None,
        connections: vec![Connection::from_ip_addr(address)],
        bandwidths: Vec::new(),
        key: None,
        attributes,
    }
}

fn mid(section: &Section) -> Vec<Attribute> {
    section.mid.iter().map(|mid| Attribute::with_value("mid", mid)).collect()
}

fn formats(accepted: &Accepted) -> String {
    let types: Vec<_> = accepted.rtp.codecs.iter().map(|codec| codec.payload_type.to_string()).collect();
    types.join(" ")
}

fn accepted_attributes(section: &Section, accepted: &Accepted, local: &LocalTransport) -> Vec<Attribute> {
    let mut attributes = mid(section);
    let mut flag = |name: &str| attributes.push(Attribute::new(name));
    flag("rtcp-mux");
    if accepted.mixed_extensions {
        flag("extmap-allow-mixed");
    }
    if accepted.rtcp_rsize {
        flag("rtcp-rsize");
    }
    let direction = if accepted.stream.is_some() { "sendonly" } else { "recvonly" };
    flag(direction);
    attributes.extend(ice_attributes(local));
    attributes.extend(dtls_attributes(local));
    attributes.extend(accepted.rtp.header_extensions.iter().map(|extension| {
        let one_way = accepted.one_way.contains(&extension.id);
        let suffix = if one_way { format!("/{direction}") } else { String::new() };
        Attribute::with_value("extmap", format!("{}{suffix} {}", extension.id, extension.uri))
    }));
    attributes.extend(codec_attributes(accepted));
    attributes.extend(layer_attributes(accepted));
    attributes.extend(stream_attributes(section, accepted));
    attributes
}

fn ice_attributes(local: &LocalTransport) -> Vec<Attribute> {
    let mut attributes =
        vec![Attribute::with_value("ice-ufrag", &local.ufrag), Attribute::with_value("ice-pwd", &local.pwd)];
    attributes.extend(
        local
            .candidates
            .iter()
            .enumerate()
            .map(|(index, local)| Attribute::with_value("candidate", candidate::line(local, index))),
    );
    attributes.push(Attribute::new("end-of-candidates"));
    attributes
}

/// Of our fingerprints sha-256 alone, which everybody takes; all of them where it is not there.
fn dtls_attributes(local: &LocalTransport) -> Vec<Attribute> {
    let sha256 = |algorithm: &str| algorithm.eq_ignore_ascii_case("sha-256");
    let has_sha256 = local.fingerprints.iter().any(|print| sha256(&print.algorithm));
    let prints = local.fingerprints.iter().filter(|print| !has_sha256 || sha256(&print.algorithm));
    let setup = if local.role == DtlsRole::Client { "active" } else { "passive" };
    prints
        .map(|print| Attribute::with_value("fingerprint", format!("{} {}", print.algorithm, print.value)))
        .chain([Attribute::with_value("setup", setup)])
        .collect()
}

fn codec_attributes(accepted: &Accepted) -> Vec<Attribute> {
    let mut attributes = Vec::new();
    for codec in &accepted.rtp.codecs {
        let payload_type = codec.payload_type;
        let name = codec.mime_type.split('/').nth(1).unwrap_or_default();
        let channels = codec.channels.map(|channels| format!("/{channels}")).unwrap_or_default();
        let map = format!("{payload_type} {name}/{}{channels}", codec.clock_rate);
        attributes.push(Attribute::with_value("rtpmap", map));
        for feedback in &codec.rtcp_feedback {
            let text = format!("{payload_type} {} {}", feedback.kind, feedback.parameter);
            attributes.push(Attribute::with_value("rtcp-fb", text.trim_end()));
        }
        if let Some((_, fmtp)) = accepted.fmtp.iter().find(|(of, _)| *of == payload_type) {
            attributes.push(Attribute::with_value("fmtp", format!("{payload_type} {fmtp}")));
        }
    }
    attributes
}

fn layer_attributes(accepted: &Accepted) -> Vec<Attribute> {
    let rid = |rid: &String| Attribute::with_value("rid", format!("{rid} recv"));
    let mut attributes: Vec<_> = accepted.layers.iter().map(rid).collect();
    if !attributes.is_empty() {
        attributes.push(Attribute::with_value("simulcast", format!("recv {}", accepted.layers.join(";"))));
    }
    attributes
}

/// What we send: one media stream for sound and picture, so that the receiver keeps them together.
fn stream_attributes(section: &Section, accepted: &Accepted) -> Vec<Attribute> {
    let Some(stream) = &accepted.stream else { return Vec::new() };
    let track = format!("{stream}-{}", section.media);
    let mut attributes = vec![Attribute::with_value("msid", format!("{stream} {track}"))];
    let cname = accepted.rtp.rtcp.cname.as_deref().unwrap_or(stream);
    for encoding in &accepted.rtp.encodings {
        let rtx = encoding.rtx.as_ref().map(|rtx| rtx.ssrc);
        if let (Some(ssrc), Some(rtx)) = (encoding.ssrc, rtx) {
            attributes.push(Attribute::with_value("ssrc-group", format!("FID {ssrc} {rtx}")));
        }
        for ssrc in encoding.ssrc.into_iter().chain(rtx) {
            attributes.push(Attribute::with_value("ssrc", format!("{ssrc} cname:{cname}")));
            attributes.push(Attribute::with_value("ssrc", format!("{ssrc} msid:{stream} {track}")));
        }
    }
    attributes
}
