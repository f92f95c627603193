//! Offer and answer (RFC 3264) for telephones: which streams, codecs, keys and directions both sides take.
//!
//! A [`MediaSession`] is one call's description of itself. Each change goes through three steps: what must
//! be opened is named, our ends come back, and the text with what to connect is written. A call keeps a
//! copy while a change is under way and goes back to it when the change fails.

use std::net::IpAddr;

use serde_json::Value;

use crate::core::base64;
use crate::core::capabilities::{Encoding, Kind, RtcpFeedback, RtcpParameters, RtpCodec, RtpParameters};
use crate::core::plain::{PlainRemote, SdesKeys};
use crate::core::rtp::keys::SrtpProfile;
use crate::core::session::{DtlsRole, Fingerprint};
use crate::sip::config::Srtp;
use crate::sip::session::media::{ConnectStream, How, Local, OpenStream, Remote};
use crate::sip::session::random;
use crate::sip::wire::sdp::{Codec, Crypto, Description, Direction, Media, Setup};

/// What this call may use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    /// Audio codecs by preference, in lower case.
    pub codecs: Vec<String>,
    /// Take video.
    pub video: bool,
    /// Offer video.
    pub offer_video: bool,
    /// Bits per second of video asked for.
    pub video_bitrate: u32,
    /// Send H.264 in fragments also where only packetization mode 0 was announced.
    pub h264_fragments: bool,
    /// Protection.
    pub srtp: Srtp,
    /// Offer ICE where DTLS is offered: phones in browsers have nothing else.
    pub offer_ice: bool,
    /// One port from the start.
    pub rtcp_mux: bool,
    /// Take what is sent during a hold.
    pub hold_music: bool,
}

impl Policy {
    /// The same for phones in web pages, which have nothing but DTLS behind ICE. Where that is not allowed, they are
    /// offered what is, and refuse it in words.
    pub fn for_browsers(&self) -> Self {
        let allowed = matches!(self.srtp, Srtp::Accept | Srtp::Dtls);
        let srtp = if allowed { Srtp::Dtls } else { self.srtp };
        Policy { srtp, offer_ice: allowed, ..self.clone() }
    }
}

/// Why nothing of an offer or answer can be taken: 488, with a `Warning` that says this.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// Warning code (RFC 3261 §20.43).
    pub code: u16,
    /// For people; names codecs.
    pub text: String,
}

/// Audio codecs we can carry: our name, its name in SDP, clock rate, channels, usual payload type.
const AUDIO: &[(&str, &str, u32, Option<u8>, u8)] = &[
    ("opus", "opus", 48_000, Some(2), 111),
    ("g722", "G722", 8_000, None, 9),
    ("pcma", "PCMA", 8_000, None, 8),
    ("pcmu", "PCMU", 8_000, None, 0),
];
/// Payload types we give to events in offers.
const EVENTS_8: u8 = 101;
const EVENTS_48: u8 = 110;
const VP8: u8 = 96;
const H264: u8 = 97;
const H264_SINGLE: u8 = 98;
/// Places of ends that one offer of ours takes up: sound and a picture.
pub const SECTIONS: usize = 2;
const SUITES: &[(&str, SrtpProfile)] = &[
    ("AES_CM_128_HMAC_SHA1_80", SrtpProfile::Aes128CmSha1_80),
    ("AES_CM_128_HMAC_SHA1_32", SrtpProfile::Aes128CmSha1_32),
];

/// How a stream's packets are protected.
#[derive(Clone, Debug, PartialEq)]
enum Guard {
    None,
    /// Our keys by tag, as offered or as answered.
    Sdes(Vec<(u32, &'static str, SdesKeys)>),
    /// Our `a=setup`.
    Dtls(Setup),
}

/// One media section.
#[derive(Clone, Debug)]
struct Stream {
    media: String,
    proto: String,
    formats: String,
    mid: Option<String>,
    /// None: not taken, port 0.
    live: Option<Live>,
}

#[derive(Clone, Debug)]
struct Live {
    kind: Kind,
    how: How,
    local: Option<Local>,
    /// In the text we write: codecs by preference, then events and comfort noise.
    codecs: Vec<Codec>,
    guard: Guard,
    /// Theirs.
    offered: Direction,
    rtcp_mux: bool,
    feedback: bool,
    /// Of its certificate: another one is another party.
    fingerprints: Vec<Fingerprint>,
    ssrc: u32,
    ptime: Option<u32>,
}

/// A call's media as both sides have agreed on it, or are about to.
#[derive(Clone, Debug)]
pub struct MediaSession {
    policy: Policy,
    /// Place of its first end among those of the call, where several offers lie beside each other.
    base: usize,
    id: u64,
    version: u64,
    last: String,
    streams: Vec<Stream>,
    held: bool,
    remote_version: Option<(String, u64)>,
}

impl MediaSession {
    /// Nothing agreed on yet.
    pub fn new(policy: Policy) -> Self {
        Self::beside(policy, 0)
    }

    /// The same, for one of several offers of a call; its ends lie from place `base` on.
    pub fn beside(policy: Policy, base: usize) -> Self {
        let id = u64::from(u32::from_be_bytes(random()));
        MediaSession {
            policy,
            base,
            id,
            version: 0,
            last: String::new(),
            streams: Vec::new(),
            held: false,
            remote_version: None,
        }
    }

    /// We take nothing and send nothing for a while.
    pub fn set_held(&mut self, held: bool) {
        self.held = held;
    }

    /// Whether we hold the call.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Whether the other side holds the call: it takes no sound.
    pub fn held_by_remote(&self) -> bool {
        self.lives().any(|live| live.kind == Kind::Audio && !live.offered.receive)
    }

    /// Whether keys come of a handshake.
    pub fn shakes_hands(&self) -> bool {
        self.lives().any(|live| !matches!(live.how, How::Plain { .. }))
    }

    /// Name of the codec of the sound.
    pub fn audio_codec(&self) -> Option<&str> {
        let audio = self.lives().find(|live| live.kind == Kind::Audio)?;
        audio.codecs.first().map(|codec| codec.name.as_str())
    }

    /// Whether tones can be sent in RTP.
    pub fn has_events(&self) -> bool {
        let mut audio = self.lives().filter(|live| live.kind == Kind::Audio);
        audio.any(|live| live.codecs.iter().any(|codec| codec.is("telephone-event")))
    }

    fn lives(&self) -> impl Iterator<Item = &Live> {
        self.streams.iter().filter_map(|stream| stream.live.as_ref())
    }

    /// The places of its ends.
    pub fn places(&self) -> Vec<usize> {
        let live = self.streams.iter().enumerate().filter(|(_, stream)| stream.live.is_some());
        live.map(|(index, _)| self.base + index).collect()
    }

    /// Takes an offer; answers which of our ends must be made for it, and which are to be closed.
    pub fn receive_offer(&mut self, offer: &Description) -> Result<(Vec<OpenStream>, Vec<usize>), Refused> {
        let mut open = Vec::new();
        let mut streams = Vec::new();
        let mut seen: Vec<Kind> = Vec::new();
        for (index, media) in offer.media.iter().enumerate() {
            let old = self.streams.get(index).and_then(|stream| stream.live.as_ref());
            let wanted = media.kind.filter(|kind| !seen.contains(kind) && media.port != 0);
            let live = wanted.and_then(|kind| self.take_section(kind, media, old));
            if let Some(live) = &live {
                seen.push(live.kind);
                if live.local.is_none() {
                    let ipv6 = media.ip.is_some_and(|ip| ip.is_ipv6());
                    open.push(OpenStream { index: self.base + index, kind: live.kind, how: live.how, ipv6 });
                }
            }
            streams.push(Stream {
                media: media.media.clone(),
                proto: media.proto.clone(),
                formats: media.formats.clone(),
                mid: media.mid.clone(),
                live,
            });
        }
        // A call without sound is one only where no sound was offered (a door's camera).
        let picture_only = seen.contains(&Kind::Video) && !offer.media.iter().any(wants_audio);
        if !seen.contains(&Kind::Audio) && !picture_only {
            return Err(self.refusal(offer));
        }
        let gone = |(index, old): &(usize, &Stream)| {
            old.live.is_some() && streams.get(*index).is_none_or(|new: &Stream| new.live.is_none())
        };
        let close =
            self.streams.iter().enumerate().filter(gone).map(|(index, _)| self.base + index).collect();
        self.streams = streams;
        self.remote_version = Some(offer.version.clone());
        Ok((open, close))
    }

    fn take_section(&self, kind: Kind, media: &Media, old: Option<&Live>) -> Option<Live> {
        let guard = self.guard_for(media)?;
        let how = match guard {
            Guard::Dtls(_) if media.ice.is_some() => How::Ice,
            Guard::Dtls(_) => How::Dtls,
            _ => How::Plain { mux: self.policy.rtcp_mux && media.rtcp_mux },
        };
        let same = |old: &&Live| {
            old.kind == kind && same_end(old.how, how) && old.fingerprints == media.fingerprints
        };
        let keep = old.filter(same);
        let mut codecs = match kind {
            Kind::Audio => self.audio_codecs(media, keep)?,
            Kind::Video if self.policy.video => video_codec(media)?,
            Kind::Video => return None,
        };
        if kind == Kind::Audio {
            add_features(&mut codecs, media);
        }
        // Another codec means another stream: it gets a new end rather than a surprise on the old one.
        let keep =
            keep.filter(|old| old.codecs.first().map(|c| c.payload) == codecs.first().map(|c| c.payload));
        Some(Live {
            kind,
            how: keep.map_or(how, |old| old.how),
            local: keep.and_then(|old| old.local.clone()),
            codecs,
            guard: match (&guard, keep.map(|old| &old.guard)) {
                // Keys stay while the other side's offer keeps its tag and suite; a changed key is its own affair.
                (Guard::Sdes(new), Some(Guard::Sdes(old))) if same_suite(new, old) => {
                    Guard::Sdes(old.clone())
                }
                _ => guard,
            },
            offered: media.direction,
            rtcp_mux: media.rtcp_mux,
            feedback: media.proto.ends_with('F') || !media.feedback.is_empty(),
            fingerprints: media.fingerprints.clone(),
            ssrc: keep.map_or_else(|| u32::from_be_bytes(random()), |old| old.ssrc),
            ptime: media.ptime,
        })
    }

    /// How an offered section is protected, if we take that.
    fn guard_for(&self, media: &Media) -> Option<Guard> {
        let srtp = self.policy.srtp;
        let dtls = !media.fingerprints.is_empty() && media.proto.contains("SAVP");
        if dtls && media.crypto.is_empty() | media.proto.starts_with("UDP/TLS") {
            let setup = if media.setup == Some(Setup::Passive) { Setup::Active } else { Setup::Passive };
            return matches!(srtp, Srtp::Accept | Srtp::Dtls).then_some(Guard::Dtls(setup));
        }
        match media.proto.as_str() {
            "RTP/AVP" | "RTP/AVPF" => matches!(srtp, Srtp::Accept | Srtp::Off).then_some(Guard::None),
            "RTP/SAVP" | "RTP/SAVPF" if matches!(srtp, Srtp::Accept | Srtp::Sdes) => {
                let (crypto, suite, profile) = media.crypto.iter().find_map(usable)?;
                Some(Guard::Sdes(vec![(crypto.tag, suite, fresh_keys(profile)?)]))
            }
            _ => None,
        }
    }

    /// One codec: the one in use if it is still offered, else the first of the offer that we have.
    fn audio_codecs(&self, media: &Media, old: Option<&Live>) -> Option<Vec<Codec>> {
        let known = |codec: &&Codec| self.policy.codecs.iter().any(|name| is_audio(codec, name));
        let current = old.and_then(|old| old.codecs.first());
        let same = current.and_then(|current| {
            media.codecs.iter().find(|codec| codec.payload == current.payload && codec.is(&current.name))
        });
        same.or_else(|| media.codecs.iter().find(known)).map(|codec| vec![codec.clone()])
    }

    fn refusal(&self, offer: &Description) -> Refused {
        let audio = offer.media.iter().find(|media| wants_audio(media));
        let Some(media) = audio else {
            return Refused { code: 304, text: "no media that can be taken was offered".into() };
        };
        if self.guard_for(media).is_none() {
            let text = match self.policy.srtp {
                Srtp::Off => "protected media is not taken here".to_owned(),
                Srtp::Sdes => "media must be protected by SDES (RTP/SAVP)".to_owned(),
                Srtp::Dtls => "media must be protected by DTLS".to_owned(),
                Srtp::Accept => format!("{} with these keys cannot be taken", media.proto),
            };
            return Refused { code: 302, text };
        }
        let names = |list: Vec<String>| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
        let offered = names(media.codecs.iter().filter(|c| !is_feature(c)).map(|c| c.name.clone()).collect());
        let ours = names(self.policy.codecs.iter().map(|name| name.to_ascii_uppercase()).collect());
        Refused { code: 305, text: format!("offered codecs: {offered}; taken here: {ours}") }
    }

    /// Our ends as they came to be.
    pub fn opened(&mut self, locals: Vec<(usize, Local)>) {
        for (place, local) in locals {
            let stream = place.checked_sub(self.base).and_then(|index| self.streams.get_mut(index));
            if let Some(live) = stream.and_then(|stream| stream.live.as_mut()) {
                live.local = Some(local);
            }
        }
    }

    /// The answer to the offer received, and what to connect.
    pub fn answer(&mut self, offer: &Description) -> (String, Vec<ConnectStream>) {
        let text = self.write();
        let mut connect = Vec::new();
        for (index, media) in offer.media.iter().enumerate() {
            let live = self.streams.get(index).and_then(|stream| stream.live.as_ref());
            connect.extend(live.and_then(|live| self.connect(index, live, media)));
        }
        (text, connect)
    }

    /// Makes a first offer to a party at an address of either family; answers which of our ends must be made.
    pub fn make_offer(&mut self, ipv6: bool) -> Vec<OpenStream> {
        let (proto, how) = match self.policy.srtp {
            Srtp::Dtls if self.policy.offer_ice => ("UDP/TLS/RTP/SAVPF", How::Ice),
            Srtp::Dtls => ("UDP/TLS/RTP/SAVP", How::Dtls),
            Srtp::Sdes => ("RTP/SAVP", How::Plain { mux: self.policy.rtcp_mux }),
            Srtp::Accept | Srtp::Off => ("RTP/AVP", How::Plain { mux: self.policy.rtcp_mux }),
        };
        let mut kinds = vec![Kind::Audio];
        kinds.extend((self.policy.offer_video && self.policy.video).then_some(Kind::Video));
        let stream = |(index, kind): (usize, &Kind)| Stream {
            media: if *kind == Kind::Audio { "audio".into() } else { "video".into() },
            proto: proto.into(),
            formats: String::new(),
            // Browsers name the sections of a description (RFC 8843); desk phones need no names.
            mid: (how == How::Ice).then(|| index.to_string()),
            live: Some(self.offered_live(*kind, how)),
        };
        self.streams = kinds.iter().enumerate().map(stream).collect();
        let open = |(index, kind): (usize, &Kind)| {
            let index = self.base + index;
            OpenStream { index, kind: *kind, how, ipv6 }
        };
        kinds.iter().enumerate().map(open).collect()
    }

    fn offered_live(&self, kind: Kind, how: How) -> Live {
        let guard = match self.policy.srtp {
            Srtp::Dtls => Guard::Dtls(Setup::ActPass),
            Srtp::Sdes => {
                let keys = SUITES.iter().zip(1..);
                let keys =
                    keys.filter_map(|((name, profile), tag)| Some((tag, *name, fresh_keys(*profile)?)));
                Guard::Sdes(keys.collect())
            }
            Srtp::Accept | Srtp::Off => Guard::None,
        };
        Live {
            kind,
            how,
            local: None,
            codecs: if kind == Kind::Audio { self.own_audio() } else { own_video() },
            guard,
            offered: Direction::BOTH,
            rtcp_mux: true,
            feedback: true,
            fingerprints: Vec::new(),
            ssrc: u32::from_be_bytes(random()),
            ptime: (kind == Kind::Audio).then_some(20),
        }
    }

    fn own_audio(&self) -> Vec<Codec> {
        let known = self.policy.codecs.iter().filter_map(|name| AUDIO.iter().find(|row| row.0 == *name));
        let mut codecs: Vec<Codec> = known
            .map(|(_, name, rate, channels, payload)| Codec {
                payload: *payload,
                name: (*name).into(),
                rate: *rate,
                channels: *channels,
                fmtp: (*name == "opus").then(|| "useinbandfec=1".into()),
            })
            .collect();
        let wide = codecs.iter().any(|codec| codec.rate == 48_000);
        let narrow = codecs.iter().any(|codec| codec.rate == 8_000);
        let mut feature = |payload, name: &str, rate, fmtp: Option<&str>| {
            let (name, fmtp) = (name.to_owned(), fmtp.map(str::to_owned));
            codecs.push(Codec { payload, name, rate, channels: None, fmtp });
        };
        if wide {
            feature(EVENTS_48, "telephone-event", 48_000, Some("0-16"));
        }
        if narrow {
            feature(EVENTS_8, "telephone-event", 8_000, Some("0-16"));
            feature(13, "CN", 8_000, None);
        }
        codecs
    }

    /// The text of our present state, as an offer or as an answer. Its version grows when it changed.
    pub fn write(&mut self) -> String {
        let body = self.body();
        if body != self.last {
            self.version += 1;
            self.last = body.clone();
        }
        let address = self.lives().find_map(|live| live.local.as_ref()).map(|local| local.address().ip());
        let address = address.unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let ip = format!("IN {} {address}", if address.is_ipv4() { "IP4" } else { "IP6" });
        let (id, version) = (self.id, self.version);
        format!("v=0\r\no=- {id} {version} {ip}\r\ns=-\r\nc={ip}\r\nt=0 0\r\n{body}")
    }

    fn body(&self) -> String {
        let mut out = String::new();
        if self.lives().any(|live| live.how == How::Ice) {
            out.push_str("a=ice-lite\r\n");
        }
        for stream in &self.streams {
            self.write_stream(stream, &mut out);
        }
        out
    }

    fn write_stream(&self, stream: &Stream, out: &mut String) {
        let Stream { media, proto, formats, mid, live } = stream;
        let mid = mid.as_ref().map(|mid| format!("a=mid:{mid}\r\n")).unwrap_or_default();
        let Some((live, local)) = live.as_ref().and_then(|live| Some((live, live.local.as_ref()?))) else {
            out.push_str(&format!("m={media} 0 {proto} {formats}\r\n{mid}"));
            return;
        };
        let payloads: Vec<String> = live.codecs.iter().map(|codec| codec.payload.to_string()).collect();
        let address = local.address();
        out.push_str(&format!("m={media} {} {proto} {}\r\n", address.port(), payloads.join(" ")));
        let family = if address.is_ipv4() { "IP4" } else { "IP6" };
        out.push_str(&format!("c=IN {family} {}\r\n", address.ip()));
        if live.kind == Kind::Video {
            out.push_str(&format!("b=TIAS:{}\r\n", self.policy.video_bitrate));
        }
        out.push_str(&mid);
        for codec in &live.codecs {
            let Codec { payload, name, rate, channels, fmtp } = codec;
            let channels = channels.filter(|n| *n > 1).map(|n| format!("/{n}")).unwrap_or_default();
            out.push_str(&format!("a=rtpmap:{payload} {name}/{rate}{channels}\r\n"));
            if let Some(fmtp) = fmtp {
                out.push_str(&format!("a=fmtp:{payload} {fmtp}\r\n"));
            }
        }
        if live.kind == Kind::Video && live.feedback {
            for what in ["nack pli", "ccm fir"] {
                out.push_str(&format!("a=rtcp-fb:* {what}\r\n"));
            }
        }
        if let Some(ptime) = live.ptime.filter(|_| live.kind == Kind::Audio) {
            out.push_str(&format!("a=ptime:{}\r\n", ptime.clamp(10, 60)));
        }
        write_guard(live, local, out);
        out.push_str(&format!("a={}\r\n", self.direction(live)));
    }

    /// The direction as we see it.
    fn direction(&self, live: &Live) -> Direction {
        // Whoever is held hears music, and sees nothing of the room.
        let held = Direction { send: live.kind == Kind::Audio, receive: false };
        let ours = if self.held { held } else { Direction::BOTH };
        live.offered.mirrored().and(ours)
    }

    /// Takes the answer to our offer; answers what to connect and which ends are to be closed.
    pub fn receive_answer(
        &mut self,
        answer: &Description,
    ) -> Result<(Vec<ConnectStream>, Vec<usize>), Refused> {
        let (mut connect, mut close) = (Vec::new(), Vec::new());
        let mut streams = self.streams.clone();
        for (index, stream) in streams.iter_mut().enumerate() {
            let Some(live) = &mut stream.live else { continue };
            let media = answer.media.get(index).filter(|media| media.port != 0);
            let taken = media.and_then(|media| {
                narrow(live, media)?;
                self.connect(index, live, media)
            });
            match taken {
                Some(taken) => connect.push(taken),
                None => {
                    stream.live = None;
                    stream.formats = "0".into();
                    close.push(self.base + index);
                }
            }
        }
        if !connect.iter().any(|stream| stream.kind == Kind::Audio) {
            return Err(self.refusal(answer));
        }
        self.streams = streams;
        self.remote_version = Some(answer.version.clone());
        Ok((connect, close))
    }

    /// The text of an offer within the call: what was agreed on, in our direction.
    pub fn reoffer(&mut self) -> String {
        for stream in &mut self.streams {
            if let Some(live) = &mut stream.live {
                live.offered = Direction::BOTH;
                if let Guard::Dtls(setup) = &mut live.guard {
                    *setup = Setup::ActPass;
                }
            }
        }
        self.write()
    }

    fn connect(&self, index: usize, live: &Live, media: &Media) -> Option<ConnectStream> {
        let codec = live.codecs.first()?;
        let direction = self.direction(live);
        let remote = match &live.guard {
            Guard::Dtls(setup) => {
                let role = if *setup == Setup::Active { DtlsRole::Server } else { DtlsRole::Client };
                let fingerprints = media.fingerprints.clone();
                match live.how {
                    How::Ice => Remote::Ice { role, fingerprints, ice: media.ice.clone()? },
                    _ => {
                        let remote = self.plain_remote(live, &live.guard, media, direction)?;
                        Remote::Dtls { remote, role, fingerprints }
                    }
                }
            }
            guard => Remote::Plain(self.plain_remote(live, guard, media, direction)?),
        };
        // What it sends and takes is described in its words; ours say what we take.
        let theirs = media.codecs.iter().find(|theirs| theirs.payload == codec.payload).unwrap_or(codec);
        let (produce, consume) = parameters(theirs, live, self.policy.h264_fragments);
        let holding = !media.direction.receive && !self.policy.hold_music;
        let (kind, give) = (live.kind, direction.send);
        let (take, hold) = (direction.receive && !holding, self.held && kind == Kind::Audio);
        let index = self.base + index;
        Some(ConnectStream { index, kind, remote, produce, consume, take, give, hold })
    }

    fn plain_remote(
        &self,
        live: &Live,
        guard: &Guard,
        media: &Media,
        direction: Direction,
    ) -> Option<PlainRemote> {
        // An address of all zeros (an old hold) or a host name: media is learnt from what arrives.
        let any = std::net::SocketAddr::from(([0, 0, 0, 0], media.port.max(1)));
        let mut remote = PlainRemote::at(media.rtp().unwrap_or(any));
        remote.rtcp = media.rtcp();
        remote.rtcp_mux = live.rtcp_mux && media.rtcp_mux;
        let events = live.codecs.iter().filter(|codec| codec.is("telephone-event"));
        remote.dtmf_payload_types = events.map(|codec| (codec.payload, codec.rate)).collect();
        remote.sends = direction.receive;
        remote.receives = direction.send && media.rtp().is_some();
        if let Guard::Sdes(ours) = guard {
            let (theirs, keys) = media.crypto.iter().find_map(|crypto| {
                let (crypto, suite, profile) = usable(crypto)?;
                let (_, _, ours) = ours.iter().find(|(tag, name, _)| *tag == crypto.tag && *name == suite)?;
                Some((SdesKeys::new(profile, crypto.inline.clone())?, ours.clone()))
            })?;
            remote.srtp = Some(theirs);
            remote.srtp_local = Some(keys);
        }
        Some(remote)
    }
}

fn wants_audio(media: &Media) -> bool {
    media.kind == Some(Kind::Audio) && media.port != 0
}

fn same_end(a: How, b: How) -> bool {
    std::mem::discriminant(&a) == std::mem::discriminant(&b)
}

fn same_suite(a: &[(u32, &'static str, SdesKeys)], b: &[(u32, &'static str, SdesKeys)]) -> bool {
    let key = |list: &[(u32, &'static str, SdesKeys)]| list.first().map(|(tag, name, _)| (*tag, *name));
    key(a) == key(b)
}

fn is_audio(codec: &Codec, name: &str) -> bool {
    let row = AUDIO.iter().find(|row| row.0 == name);
    row.is_some_and(|row| codec.is(row.1) && codec.rate == row.2)
}

fn is_feature(codec: &Codec) -> bool {
    codec.is("telephone-event") || codec.is("CN") || codec.is("red")
}

/// Events at the codec's clock rate (others only if that is missing), and comfort noise.
fn add_features(codecs: &mut Vec<Codec>, media: &Media) {
    let Some(rate) = codecs.first().map(|codec| codec.rate) else { return };
    let events = |wanted: Option<u32>| {
        media.codecs.iter().find(|c| c.is("telephone-event") && wanted.is_none_or(|rate| c.rate == rate))
    };
    if let Some(event) = events(Some(rate)).or_else(|| events(None)) {
        codecs.push(Codec { fmtp: Some("0-16".into()), ..event.clone() });
    }
    codecs.extend(media.codecs.iter().find(|c| c.is("CN") && c.rate == rate).cloned());
}

/// H.264, mode 1 before mode 0, or VP8.
fn video_codec(media: &Media) -> Option<Vec<Codec>> {
    let named =
        |name: &'static str| media.codecs.iter().filter(move |codec| codec.is(name) && codec.rate == 90_000);
    let whole = |codec: &&Codec| fmtp(codec, "packetization-mode").unwrap_or_default() == "1";
    let h264 = named("H264").find(whole).or_else(|| named("H264").next());
    let Some(codec) = h264 else { return named("VP8").next().map(|codec| vec![codec.clone()]) };
    // Parameter sets are the sender's own; the answer says only what we take.
    let level = fmtp(codec, "profile-level-id").unwrap_or_else(|| "42e01f".into());
    let fmtp = Some(format!("profile-level-id={level};packetization-mode={}", packetization_mode(codec)));
    Some(vec![Codec { fmtp, ..codec.clone() }])
}

/// The mode that a format of H.264 means, said or not (RFC 6184 §8.1).
fn packetization_mode(codec: &Codec) -> String {
    fmtp(codec, "packetization-mode").unwrap_or_else(|| "0".into())
}

fn own_video() -> Vec<Codec> {
    let codec = |payload, name: &str, fmtp: Option<&str>| {
        let (name, fmtp) = (name.to_owned(), fmtp.map(str::to_owned));
        Codec { payload, name, rate: 90_000, channels: None, fmtp }
    };
    vec![
        codec(H264, "H264", Some("profile-level-id=42e01f;packetization-mode=1")),
        codec(H264_SINGLE, "H264", Some("profile-level-id=42e01f;packetization-mode=0")),
        codec(VP8, "VP8", None),
    ]
}

/// A format parameter's value.
fn fmtp(codec: &Codec, name: &str) -> Option<String> {
    let list = codec.fmtp.as_deref()?.split(';');
    let mut pairs = list.filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
}

/// Reduces what we offered to what the answer takes; None when nothing is left.
fn narrow(live: &mut Live, media: &Media) -> Option<()> {
    let main = media.codecs.iter().find(|theirs| {
        !is_feature(theirs)
            && live.codecs.iter().any(|ours| ours.is(&theirs.name) && ours.rate == theirs.rate)
    })?;
    let mut codecs = vec![main.clone()];
    if live.kind == Kind::Audio {
        add_features(&mut codecs, media);
        codecs.retain(|codec| live.codecs.iter().any(|ours| ours.is(&codec.name)));
    }
    live.codecs = codecs;
    live.offered = media.direction;
    live.rtcp_mux = media.rtcp_mux;
    match &mut live.guard {
        Guard::None => {}
        Guard::Sdes(keys) => {
            let chosen = media.crypto.first()?;
            keys.retain(|(tag, name, _)| *tag == chosen.tag && *name == chosen.suite);
            keys.first()?;
        }
        Guard::Dtls(setup) => {
            *setup = if media.setup == Some(Setup::Passive) { Setup::Active } else { Setup::Passive };
            media.fingerprints.first()?;
            live.fingerprints.clone_from(&media.fingerprints);
        }
    }
    Some(())
}

fn usable(crypto: &Crypto) -> Option<(&Crypto, &'static str, SrtpProfile)> {
    let (name, profile) = SUITES.iter().find(|(name, _)| *name == crypto.suite)?;
    let fits = !crypto.has_parameters && SdesKeys::new(*profile, crypto.inline.clone()).is_some();
    fits.then_some((crypto, *name, *profile))
}

fn fresh_keys(profile: SrtpProfile) -> Option<SdesKeys> {
    SdesKeys::new(profile, random::<30>().to_vec())
}

fn write_guard(live: &Live, local: &Local, out: &mut String) {
    match &live.guard {
        Guard::None => {}
        Guard::Sdes(keys) => {
            for (tag, suite, keys) in keys {
                out.push_str(&format!("a=crypto:{tag} {suite} inline:{}\r\n", base64::encode(&keys.inline)));
            }
        }
        Guard::Dtls(setup) => {
            let setup = match setup {
                Setup::Active => "active",
                Setup::Passive => "passive",
                Setup::ActPass => "actpass",
            };
            out.push_str(&format!("a=setup:{setup}\r\n"));
        }
    }
    match local {
        Local::Plain { rtcp_port, port, .. } => {
            if live.rtcp_mux {
                out.push_str("a=rtcp-mux\r\n");
            }
            if let Some(rtcp) = rtcp_port.filter(|rtcp| port.checked_add(1) != Some(*rtcp)) {
                out.push_str(&format!("a=rtcp:{rtcp}\r\n"));
            }
        }
        Local::Dtls { fingerprints, .. } => {
            write_fingerprint(fingerprints, out);
            if live.rtcp_mux {
                out.push_str("a=rtcp-mux\r\n");
            }
        }
        Local::Ice { ice: (ufrag, pwd), candidates, fingerprints } => {
            write_fingerprint(fingerprints, out);
            out.push_str(&format!("a=rtcp-mux\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n"));
            for (at, candidate) in candidates.iter().enumerate() {
                let priority = 2_130_706_431 - 256 * at;
                let (ip, port) = (candidate.ip(), candidate.port());
                out.push_str(&format!("a=candidate:{} 1 udp {priority} {ip} {port} typ host\r\n", at + 1));
            }
            out.push_str("a=end-of-candidates\r\n");
        }
    }
}

fn write_fingerprint(fingerprints: &[Fingerprint], out: &mut String) {
    for print in fingerprints.iter().filter(|print| print.algorithm == "sha-256") {
        out.push_str(&format!("a=fingerprint:{} {}\r\n", print.algorithm, print.value));
    }
}

/// What the party sends, and what it may be sent.
fn parameters(codec: &Codec, live: &Live, fragments: bool) -> (RtpParameters, RtpParameters) {
    let kind = if live.kind == Kind::Audio { "audio" } else { "video" };
    let feedback =
        |kind: &str, parameter: &str| RtcpFeedback { kind: kind.into(), parameter: parameter.into() };
    let video = live.kind == Kind::Video && live.feedback;
    let pairs =
        codec.fmtp.as_deref().unwrap_or_default().split(';').filter_map(|pair| pair.trim().split_once('='));
    let mut main = RtpCodec {
        mime_type: format!("{kind}/{}", codec.name),
        payload_type: codec.payload,
        clock_rate: codec.rate,
        channels: codec.channels.filter(|channels| live.kind == Kind::Audio && *channels > 1),
        parameters: pairs.map(|(k, v)| (k.trim().to_owned(), Value::from(v.trim()))).collect(),
        rtcp_feedback: if video { vec![feedback("nack", "pli"), feedback("ccm", "fir")] } else { Vec::new() },
    };
    if codec.is("H264") {
        main.parameters.insert("packetization-mode".into(), packetization_mode(codec).into());
    }
    // Keys and comfort noise travel in the stream of the voice.
    let features = live.codecs.iter().filter(|codec| codec.is("telephone-event") || codec.is("CN"));
    let features = features.map(|codec| RtpCodec {
        mime_type: format!("audio/{}", codec.name),
        payload_type: codec.payload,
        clock_rate: codec.rate,
        channels: None,
        parameters: serde_json::Map::new(),
        rtcp_feedback: Vec::new(),
    });
    let mut codecs: Vec<RtpCodec> = std::iter::once(main).chain(features).collect();
    let produce = RtpParameters {
        codecs: codecs.clone(),
        encodings: vec![Encoding::default()],
        ..RtpParameters::default()
    };
    if let Some(main) = codecs.first_mut().filter(|main| fragments && main.is("video/H264")) {
        main.parameters.insert("packetization-mode".into(), "1".into());
    }
    let consume = RtpParameters {
        codecs,
        encodings: vec![Encoding { ssrc: Some(live.ssrc), ..Encoding::default() }],
        rtcp: RtcpParameters { cname: Some(format!("{:08x}", live.ssrc)), ..RtcpParameters::default() },
        ..RtpParameters::default()
    };
    (produce, consume)
}
