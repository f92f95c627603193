//! What of an offer we take (RFC 8829 §5.3, RFC 9725 §4.4): at most one track of each kind, in every codec
//! that can be forwarded, over one bundled transport.
//!
//! H.264 without `packetization-mode` is mode 0 by RFC 6184, single NAL units only. Such an offer
//! (GStreamer's whepclientsrc) is taken as it is and gets FU-A all the same: nothing is packetized anew on
//! the way, and every depayloader of that kind known to us reads FU-A whatever the mode says.

use super::offer::{MediaOffer, Offer, OfferedCodec, OfferedExtension, Setup};
use super::{Accepted, Negotiated, NegotiatedTrack, Policy, Section};
use crate::core::capabilities::{
    Direction, Encoding, Kind, RtcpParameters, RtpCodec, RtpParameters, RtxEncoding, ext,
};
use crate::core::producer::MAX_STREAMS;
use crate::core::session::DtlsRole;
use crate::webrtc::SdpError;

/// Codecs that are forwarded, with their RTP clock.
const FORWARDABLE: [(&str, u32); 8] = [
    ("video/H264", 90_000),
    ("video/VP8", 90_000),
    ("video/VP9", 90_000),
    ("video/AV1", 90_000),
    ("audio/opus", 48_000),
    ("audio/PCMU", 8_000),
    ("audio/PCMA", 8_000),
    ("audio/G722", 8_000),
];

/// Feedback messages we send or understand.
const FEEDBACK: [(&str, &str); 5] =
    [("nack", ""), ("nack", "pli"), ("ccm", "fir"), ("goog-remb", ""), ("transport-cc", "")];

const EXTENSIONS: [&str; 8] = [
    ext::MID,
    ext::ABS_SEND_TIME,
    ext::TRANSPORT_CC,
    ext::AUDIO_LEVEL,
    ext::VIDEO_ORIENTATION,
    ext::PLAYOUT_DELAY,
    ext::DEPENDENCY_DESCRIPTOR,
    ext::ABS_CAPTURE_TIME,
];

/// Extensions that tell simulcast layers apart; only with layers.
const LAYER_EXTENSIONS: [&str; 2] = [ext::RID, ext::REPAIRED_RID];

/// The offer of somebody who sends (WHIP): which tracks we take, in which codecs.
pub fn negotiate_publish(offer: &Offer, policy: &Policy) -> Result<Negotiated, SdpError> {
    let mut accept = |media: &MediaOffer, mut codecs: Vec<OfferedCodec>| {
        prefer(&mut codecs, &policy.video_codecs);
        let layers = layers(media);
        let mut rtp = parameters(media, &codecs, policy, Side::Publish, !layers.is_empty());
        rtp.encodings = sent_encodings(media, &layers);
        rtp.rtcp.cname = media.ssrcs.iter().find_map(|ssrc| ssrc.cname.clone());
        Accepted::new(media, &codecs, rtp, layers, None)
    };
    negotiate(offer, Side::Publish, policy, &mut accept)
}

/// The offer of somebody who receives (WHEP): every codec of it that can be forwarded, so that a later
/// source in another codec still plays. `random` gives SSRCs and the CNAME.
pub fn negotiate_play(
    offer: &Offer,
    policy: &Policy,
    random: &mut dyn FnMut() -> u64,
) -> Result<Negotiated, SdpError> {
    let cname = format!("{:016x}", random());
    let mut taken = Vec::new();
    let mut accept = |media: &MediaOffer, codecs: Vec<OfferedCodec>| {
        let mut rtp = parameters(media, &codecs, policy, Side::Play, false);
        let mut ssrc = || fresh_ssrc(&mut taken, random);
        let has_rtx = rtp.codecs.iter().any(|codec| codec.apt().is_some());
        let encoding = Encoding {
            ssrc: Some(ssrc()),
            rtx: has_rtx.then(|| RtxEncoding { ssrc: ssrc() }),
            max_bitrate: media.bandwidth,
            ..Encoding::default()
        };
        rtp.encodings = vec![encoding];
        rtp.rtcp.cname = Some(cname.clone());
        Accepted::new(media, &codecs, rtp, Vec::new(), Some(cname.clone()))
    };
    negotiate(offer, Side::Play, policy, &mut accept)
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Side {
    Publish,
    Play,
}

impl Side {
    /// Whether media (or an extension) of this direction goes our way.
    fn fits(self, direction: Direction) -> bool {
        match self {
            Side::Publish => direction.sends(),
            Side::Play => direction.receives(),
        }
    }
}

type Accept<'a> = dyn FnMut(&MediaOffer, Vec<OfferedCodec>) -> Accepted + 'a;

fn negotiate(
    offer: &Offer,
    side: Side,
    policy: &Policy,
    accept: &mut Accept<'_>,
) -> Result<Negotiated, SdpError> {
    let wanted = wanted(offer, side)?;
    let mut tracks = Vec::new();
    let mut sections = Vec::new();
    for (index, media) in offer.media.iter().enumerate() {
        let mut section = Section::rejected(media);
        let codecs = if wanted.contains(&index) { forwardable(media, policy) } else { Vec::new() };
        if let (Some(kind), false) = (media.kind(), codecs.is_empty()) {
            let accepted = accept(media, codecs);
            let mid = media.mid.clone().unwrap_or_default();
            tracks.push(NegotiatedTrack { kind, mid, rtp: accepted.rtp.clone() });
            section.accepted = Some(accepted);
        }
        sections.push(section);
    }
    let first = wanted.iter().filter_map(|index| offer.media.get(*index)).find(|media| {
        let mid = media.mid.clone().unwrap_or_default();
        tracks.iter().any(|track: &NegotiatedTrack| track.mid == mid && Some(track.kind) == media.kind())
    });
    let Some(first) = first else { return Err(no_codec(offer)) };
    let remote_ice = first.ice.clone().ok_or_else(|| missing("ICE credentials (a=ice-ufrag, a=ice-pwd)"))?;
    if first.fingerprints.is_empty() {
        return Err(missing("certificate fingerprint (a=fingerprint)"));
    }
    let role = match first.setup {
        Some(Setup::Active) => DtlsRole::Client,
        Some(Setup::Passive) => DtlsRole::Server,
        Some(Setup::Actpass) | None => DtlsRole::Auto,
    };
    let bundled = bundle_of(offer, first).is_some();
    Ok(Negotiated { tracks, remote_ice, remote_dtls: (role, first.fingerprints.clone()), sections, bundled })
}

/// The sections we answer: the first of each kind that goes our way, all on one transport.
fn wanted(offer: &Offer, side: Side) -> Result<Vec<usize>, SdpError> {
    let of_kind = |kind: Kind| {
        offer
            .media
            .iter()
            .position(|media| media.kind() == Some(kind) && media.is_usable() && side.fits(media.direction))
    };
    let mut wanted: Vec<usize> = [Kind::Audio, Kind::Video].into_iter().filter_map(of_kind).collect();
    wanted.sort_unstable();
    let chosen: Vec<&MediaOffer> = wanted.iter().filter_map(|index| offer.media.get(*index)).collect();
    let Some(first) = chosen.first() else { return Err(wrong_way(offer, side)) };
    if chosen.iter().any(|media| !media.rtcp_mux) {
        let text = "the offer does not multiplex RTP and RTCP (a=rtcp-mux), which this server needs";
        return Err(SdpError::NotAcceptable(text.to_owned()));
    }
    let bundle = bundle_of(offer, first);
    if chosen.len() > 1 && chosen.iter().any(|media| bundle.is_none() || bundle_of(offer, media) != bundle) {
        let text = "the offer does not put audio and video on one transport (a=group:BUNDLE), which this server needs";
        return Err(SdpError::NotAcceptable(text.to_owned()));
    }
    // A publisher whose picture nobody can get should hear of it, not lose it quietly.
    if side == Side::Publish
        && chosen.iter().any(|media| !media.codecs.iter().any(|c| is_forwardable(&c.codec)))
    {
        return Err(no_codec(offer));
    }
    Ok(wanted)
}

fn bundle_of(offer: &Offer, media: &MediaOffer) -> Option<usize> {
    let mid = media.mid.as_ref()?;
    offer.bundles.iter().position(|mids| mids.contains(mid))
}

fn wrong_way(offer: &Offer, side: Side) -> SdpError {
    let tracks = || offer.media.iter().filter(|media| media.kind().is_some());
    let text = match side {
        _ if tracks().next().is_none() => "the offer has neither audio nor video",
        _ if !tracks().any(MediaOffer::is_usable) => {
            "the offer has no audio or video over DTLS-SRTP (UDP/TLS/RTP/SAVPF)"
        }
        Side::Publish => "the offer sends nothing: this address is for publishing",
        Side::Play => "the offer receives nothing: this address is for playing",
    };
    SdpError::NotAcceptable(text.to_owned())
}

fn no_codec(offer: &Offer) -> SdpError {
    let mut names: Vec<&str> = Vec::new();
    let codecs = offer.media.iter().filter(|media| media.kind().is_some()).flat_map(|media| &media.codecs);
    for codec in codecs.map(|offered| &offered.codec).filter(|codec| !codec.is_feature()) {
        let name = codec.mime_type.split('/').nth(1).unwrap_or_default();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let offered = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let taken: Vec<_> = FORWARDABLE.iter().filter_map(|(mime, _)| mime.split('/').nth(1)).collect();
    let taken = taken.join(", ");
    SdpError::NotAcceptable(format!(
        "the offer has a track with no codec that can be forwarded (offered: {offered}; taken: {taken})"
    ))
}

fn missing(what: &str) -> SdpError {
    SdpError::Missing(format!("has no {what}"))
}

fn is_forwardable(codec: &RtpCodec) -> bool {
    FORWARDABLE.iter().any(|(mime, rate)| codec.is(mime) && codec.clock_rate == *rate)
}

/// The codecs of a section that we take, each with what we do of its feedback, and their RTX.
fn forwardable(media: &MediaOffer, policy: &Policy) -> Vec<OfferedCodec> {
    let taken: Vec<u8> = media
        .codecs
        .iter()
        .filter(|offered| is_forwardable(&offered.codec))
        .map(|offered| offered.codec.payload_type)
        .collect();
    let repairs = |codec: &RtpCodec| {
        let name = codec.mime_type.split('/').nth(1).unwrap_or_default();
        name.eq_ignore_ascii_case("rtx") && codec.apt().is_some_and(|apt| taken.contains(&apt))
    };
    let mut codecs = media.codecs.clone();
    codecs.retain(|offered| taken.contains(&offered.codec.payload_type) || repairs(&offered.codec));
    for offered in &mut codecs {
        offered.codec.rtcp_feedback.retain(|feedback| {
            let known =
                FEEDBACK.iter().any(|(kind, name)| feedback.kind == *kind && feedback.parameter == *name);
            known && (policy.transport_cc || feedback.kind != "transport-cc")
        });
    }
    codecs
}

/// Puts the wanted codecs of pictures first, each with its RTX; a publisher sends the first of the answer.
fn prefer(codecs: &mut [OfferedCodec], wanted: &[String]) {
    if wanted.is_empty() {
        return;
    }
    let media: Vec<RtpCodec> = codecs.iter().map(|offered| offered.codec.clone()).collect();
    let rank = |codec: &RtpCodec| {
        let name = codec.mime_type.strip_prefix("video/").unwrap_or_default();
        let place =
            wanted.iter().position(|wanted| wanted.eq_ignore_ascii_case(name)).unwrap_or(wanted.len());
        let profile = codec.parameter("profile-level-id").unwrap_or_default().to_ascii_lowercase();
        let baseline = profile.starts_with("42e0") || profile.starts_with("42c0");
        let mode = codec.parameter("packetization-mode").as_deref() == Some("1");
        (place, codec.is("video/H264") && !(baseline && mode), codec.is("video/H264") && !baseline)
    };
    codecs.sort_by_key(|offered| {
        let repaired =
            offered.codec.apt().and_then(|apt| media.iter().find(|codec| codec.payload_type == apt));
        rank(repaired.unwrap_or(&offered.codec))
    });
}

fn parameters(
    media: &MediaOffer,
    codecs: &[OfferedCodec],
    policy: &Policy,
    side: Side,
    layers: bool,
) -> RtpParameters {
    let knows = |offered: &&OfferedExtension| {
        let uri = offered.extension.uri.as_str();
        let known = EXTENSIONS.contains(&uri) && (policy.transport_cc || uri != ext::TRANSPORT_CC);
        // Ids beyond 14 need the two-byte form, which not every receiver reads.
        let id_fits = (1..=14).contains(&offered.extension.id);
        id_fits && side.fits(offered.direction) && (known || (layers && LAYER_EXTENSIONS.contains(&uri)))
    };
    let extensions = media.extensions.iter().filter(knows).map(|offered| offered.extension.clone());
    RtpParameters {
        mux_id: media.mid.clone(),
        codecs: codecs.iter().map(|offered| offered.codec.clone()).collect(),
        encodings: Vec::new(),
        header_extensions: extensions.collect(),
        rtcp: RtcpParameters::default(),
    }
}

/// The layers of a simulcast, as far as we take them and packets can name theirs (RFC 8852).
fn layers(media: &MediaOffer) -> Vec<String> {
    let named = |offered: &OfferedExtension| {
        offered.extension.uri == ext::RID && (1..=14).contains(&offered.extension.id)
    };
    let mut layers = media.simulcast.clone();
    layers.truncate(if media.extensions.iter().any(named) { MAX_STREAMS } else { 0 });
    layers
}

/// The streams a publisher announces: its layers by name or by source, or its first SSRC with its RTX, or one
/// found by its MID.
fn sent_encodings(media: &MediaOffer, layers: &[String]) -> Vec<Encoding> {
    if !layers.is_empty() {
        let layer = |rid: &String| Encoding { encoding_id: Some(rid.clone()), ..Encoding::default() };
        return layers.iter().map(layer).collect();
    }
    let repairs = |ssrc: u32| media.fid.iter().any(|(_, rtx)| *rtx == ssrc);
    let stream = |ssrc: Option<u32>| {
        let rtx = media.fid.iter().find(|(main, _)| Some(*main) == ssrc);
        Encoding { ssrc, rtx: rtx.map(|(_, rtx)| RtxEncoding { ssrc: *rtx }), ..Encoding::default() }
    };
    if media.sim.len() > 1 {
        return media.sim.iter().take(MAX_STREAMS).map(|ssrc| stream(Some(*ssrc))).collect();
    }
    vec![stream(media.ssrcs.iter().map(|offered| offered.ssrc).find(|ssrc| !repairs(*ssrc)))]
}

/// An SSRC that is neither 0 nor given out before.
fn fresh_ssrc(taken: &mut Vec<u32>, random: &mut dyn FnMut() -> u64) -> u32 {
    let mut ssrc = random() as u32;
    while ssrc == 0 || taken.contains(&ssrc) {
        ssrc = ssrc.wrapping_add(1);
    }
    taken.push(ssrc);
    ssrc
}
