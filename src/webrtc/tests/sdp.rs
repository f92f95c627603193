//! Offers of real clients (Chromium 156, Firefox 153 and ffmpeg 9 as they printed them; the others written in
//! their shape), and what we answer.

use crate::core::capabilities::{Kind, ext};
use crate::core::session::{DtlsRole, Fingerprint, LocalCandidate};
use crate::webrtc::sdp::{
    Fragment, LocalTransport, Negotiated, Offer, Policy, negotiate_play, negotiate_publish,
};
use crate::webrtc::{SdpError, SdpLimits};

const CHROMIUM_PLAY: &str = include_str!("offers/chromium-play.sdp");
const CHROMIUM_PUBLISH: &str = include_str!("offers/chromium-publish.sdp");
const CHROMIUM_SIMULCAST: &str = include_str!("offers/chromium-simulcast.sdp");
const FIREFOX_PLAY: &str = include_str!("offers/firefox-play.sdp");
const FIREFOX_PUBLISH: &str = include_str!("offers/firefox-publish.sdp");
const FIREFOX_SIMULCAST: &str = include_str!("offers/firefox-simulcast.sdp");
const FFMPEG: &str = include_str!("offers/ffmpeg-publish.sdp");
const OBS: &str = include_str!("offers/obs-publish.sdp");
const SAFARI: &str = include_str!("offers/safari-publish.sdp");
const GSTREAMER: &str = include_str!("offers/gstreamer-play.sdp");
const PION: &str = include_str!("offers/pion-play.sdp");

fn local(role: DtlsRole) -> LocalTransport {
    LocalTransport {
        ufrag: "abcdefgh01234567".to_owned(),
        pwd: "p".repeat(32),
        candidates: vec![
            LocalCandidate { tcp: false, address: "192.0.2.1:8189".parse().expect("address") },
            LocalCandidate { tcp: false, address: "[2001:db8::1]:8189".parse().expect("address") },
            LocalCandidate { tcp: true, address: "192.0.2.1:8189".parse().expect("address") },
        ],
        fingerprints: vec![
            Fingerprint { algorithm: "sha-1".to_owned(), value: "01:02".to_owned() },
            Fingerprint { algorithm: "sha-256".to_owned(), value: "AA:BB".to_owned() },
        ],
        role,
    }
}

fn publish(text: &str) -> Negotiated {
    negotiate_publish(&Offer::parse(text).expect("offer"), &Policy::default()).expect("negotiated")
}

fn play(text: &str) -> Negotiated {
    let mut count = 41;
    let mut random = || {
        count += 1;
        count
    };
    negotiate_play(&Offer::parse(text).expect("offer"), &Policy::default(), &mut random).expect("negotiated")
}

fn mimes(negotiated: &Negotiated, kind: Kind) -> Vec<String> {
    let track = negotiated.tracks.iter().find(|track| track.kind == kind).expect("track");
    track.rtp.codecs.iter().filter(|c| !c.is_feature()).map(|c| c.mime_type.clone()).collect()
}

/// The sections of an answer, the session's lines first.
fn sections(answer: &str) -> Vec<Vec<&str>> {
    assert!(answer.ends_with("\r\n") && !answer.contains("\n\n"));
    let mut sections: Vec<Vec<&str>> = vec![Vec::new()];
    for line in answer.split_terminator("\r\n") {
        assert!(line.as_bytes()[1] == b'=', "{line}");
        if line.starts_with("m=") {
            sections.push(Vec::new());
        }
        sections.last_mut().expect("section").push(line);
    }
    sections
}

fn count(section: &[&str], prefix: &str) -> usize {
    section.iter().filter(|line| line.starts_with(prefix)).count()
}

/// What holds for every answer to every offer (RFC 8829 §5.3.1).
fn assert_sound(offer: &str, answer: &str) {
    let offered = Offer::parse(offer).expect("offer");
    let answered = Offer::parse(answer).expect("our own answer parses");
    let sections = sections(answer);
    assert_eq!(answered.media.len(), offered.media.len(), "every section has its answer");
    assert_eq!(count(&sections[0], "a=ice-lite"), 1);
    let bundle = answered.bundles.first().cloned().unwrap_or_default();
    for ((ours, theirs), lines) in answered.media.iter().zip(&offered.media).zip(&sections[1..]) {
        assert_eq!((&ours.media, &ours.proto, &ours.mid), (&theirs.media, &theirs.proto, &theirs.mid));
        let accepted = ours.port != 0;
        assert_eq!(bundle.contains(ours.mid.as_ref().expect("mid")), accepted, "{:?}", ours.mid);
        if !accepted {
            assert!(lines.contains(&"a=inactive"));
            continue;
        }
        assert!(ours.rtcp_mux && !ours.codecs.is_empty());
        assert_eq!(ours.rtcp_rsize, theirs.rtcp_rsize);
        assert_eq!(ours.mixed_extensions, theirs.mixed_extensions);
        assert_eq!((count(lines, "a=candidate:"), count(lines, "a=end-of-candidates")), (3, 1));
        assert_eq!((count(lines, "a=setup:"), count(lines, "a=fingerprint:")), (1, 1));
        assert_ne!(ours.direction.sends(), theirs.direction.sends());
        for codec in &ours.codecs {
            let same = theirs.codecs.iter().find(|c| c.codec.payload_type == codec.codec.payload_type);
            let same = same.expect("the offer's numbering");
            assert_eq!(same.codec.mime_type, codec.codec.mime_type);
            assert_eq!(same.fmtp, codec.fmtp);
            assert!(codec.codec.rtcp_feedback.iter().all(|fb| same.codec.rtcp_feedback.contains(fb)));
        }
        for extension in &ours.extensions {
            assert!(theirs.extensions.iter().any(|offered| offered.extension == extension.extension));
        }
    }
}

#[test]
fn every_answer_is_sound() {
    for offer in
        [CHROMIUM_PUBLISH, CHROMIUM_SIMULCAST, FIREFOX_PUBLISH, FIREFOX_SIMULCAST, FFMPEG, OBS, SAFARI]
    {
        let negotiated = publish(offer);
        assert_eq!(negotiated.tracks.len(), 2);
        assert_sound(offer, &negotiated.answer(&local(DtlsRole::Server)));
        for track in &negotiated.tracks {
            let layers = if offer.contains("a=simulcast") && track.kind == Kind::Video { 3 } else { 1 };
            assert_eq!(track.rtp.encodings.len(), layers);
            assert_eq!(track.rtp.mux_id.as_deref(), Some(track.mid.as_str()));
        }
    }
    for offer in [CHROMIUM_PLAY, FIREFOX_PLAY, GSTREAMER, PION] {
        let negotiated = play(offer);
        assert_eq!(negotiated.tracks.len(), 2);
        assert_sound(offer, &negotiated.answer(&local(DtlsRole::Server)));
    }
}

#[test]
fn the_answer_to_obs_word_for_word() {
    let negotiated = publish(OBS);
    assert_eq!(negotiated.remote_ice, ("Hx3b".to_owned(), "Tqk2m8Vd0Jv5sWmB4uXy1R".to_owned()));
    assert_eq!(negotiated.remote_dtls.0, DtlsRole::Auto);
    let candidates = "a=candidate:1 1 udp 2130706431 192.0.2.1 8189 typ host\r\n\
        a=candidate:2 1 udp 2130706175 2001:db8::1 8189 typ host\r\n\
        a=candidate:3 1 tcp 1526726143 192.0.2.1 8189 typ host tcptype passive\r\n\
        a=end-of-candidates\r\n";
    let transport = format!(
        "a=ice-ufrag:abcdefgh01234567\r\na=ice-pwd:{}\r\n{candidates}\
         a=fingerprint:sha-256 AA:BB\r\na=setup:passive\r\n",
        "p".repeat(32)
    );
    let expected = format!(
        "a=group:BUNDLE 0 1\r\na=ice-lite\r\na=msid-semantic: WMS *\r\n\
         m=audio 8189 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 192.0.2.1\r\na=mid:0\r\na=rtcp-mux\r\na=recvonly\r\n\
         {transport}a=rtpmap:111 opus/48000/2\r\n\
         a=fmtp:111 minptime=10;maxaveragebitrate=96000;stereo=1;sprop-stereo=1;useinbandfec=1\r\n\
         m=video 8189 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 192.0.2.1\r\na=mid:1\r\na=rtcp-mux\r\na=recvonly\r\n\
         {transport}a=rtpmap:96 H264/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n\
         a=rtcp-fb:96 goog-remb\r\n\
         a=fmtp:96 profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1\r\n"
    );
    let answer = negotiated.answer(&local(DtlsRole::Server));
    let (head, rest) = answer.split_once("t=0 0\r\n").expect("times");
    assert!(head.starts_with("v=0\r\no=- ") && head.ends_with(" 1 IN IP4 0.0.0.0\r\ns=-\r\n"), "{head}");
    assert_eq!(rest, expected);
    let video = &negotiated.tracks[1].rtp;
    assert_eq!(video.encodings[0].ssrc, Some(1_893_310_402));
    assert_eq!(video.encodings[0].rtx, None);
    assert_eq!(video.rtcp.cname.as_deref(), Some("W6pYq3fW8mJ2nXzR"));
    assert_eq!(video.codecs[0].parameter("packetization-mode").as_deref(), Some("1"));
}

#[test]
fn ffmpeg_wants_us_to_begin() {
    let negotiated = publish(FFMPEG);
    assert_eq!(negotiated.remote_dtls.0, DtlsRole::Server);
    let answer = negotiated.answer(&local(DtlsRole::Client));
    assert!(answer.contains("a=setup:active\r\n") && !answer.contains("passive\r\na=rtpmap"));
    let video = &negotiated.tracks[1].rtp;
    assert_eq!(video.codecs[1].apt(), Some(106));
    assert_eq!(video.encodings[0].rtx.as_ref().map(|rtx| rtx.ssrc), Some(107_598_076));
    assert_eq!(video.codecs[0].parameter("profile-level-id").as_deref(), Some("42000c"));
}

#[test]
fn a_viewer_gets_every_codec_that_can_be_forwarded() {
    let chromium = play(CHROMIUM_PLAY);
    let video = mimes(&chromium, Kind::Video);
    for mime in ["video/VP8", "video/VP9", "video/H264", "video/AV1"] {
        assert!(video.iter().any(|taken| taken == mime), "{mime}");
    }
    assert_eq!(video.iter().filter(|mime| *mime == "video/H264").count(), 8);
    assert_eq!(mimes(&chromium, Kind::Audio), ["audio/opus", "audio/G722", "audio/PCMU", "audio/PCMA"]);
    let answer = chromium.answer(&local(DtlsRole::Server));
    let sections = sections(&answer);
    assert!(sections[3][0].starts_with("m=application 0 UDP/DTLS/SCTP webrtc-datachannel"));
    assert!(!answer.contains("ulpfec") && !answer.contains("red/") && !answer.contains("telephone-event"));

    let [video, audio] = &chromium.tracks[..] else { panic!("two tracks") };
    assert_eq!((video.kind, audio.kind), (Kind::Video, Kind::Audio), "in the offer's order");
    let (ssrc, rtx) = (video.rtp.encodings[0].ssrc.expect("ssrc"), video.rtp.encodings[0].rtx.as_ref());
    assert!(answer.contains(&format!("a=ssrc-group:FID {ssrc} {}", rtx.expect("rtx").ssrc)));
    assert!(audio.rtp.encodings[0].rtx.is_none());
    assert_eq!(video.rtp.rtcp.cname, audio.rtp.rtcp.cname);
    let streams: Vec<_> = answer.lines().filter_map(|line| line.strip_prefix("a=msid:")).collect();
    assert_eq!(streams.len(), 2);
    assert_eq!(streams[0].split(' ').next(), streams[1].split(' ').next(), "one stream keeps lips in step");
    assert_ne!(streams[0], streams[1]);
}

#[test]
fn h264_without_packetization_mode_is_taken() {
    let gstreamer = play(GSTREAMER);
    assert_eq!(mimes(&gstreamer, Kind::Video), ["video/VP8", "video/H264"]);
    assert!(gstreamer.answer(&local(DtlsRole::Server)).contains("a=fmtp:97 profile-level-id=42e016\r\n"));
    assert!(gstreamer.tracks[0].rtp.encodings[0].rtx.is_none(), "no RTX was offered");
}

#[test]
fn extensions_keep_their_direction() {
    let firefox = negotiate_publish(&Offer::parse(FIREFOX_SIMULCAST).expect("offer"), &Policy::default())
        .expect("negotiated");
    let answer = firefox.answer(&local(DtlsRole::Server));
    assert!(answer.contains("a=extmap:8/recvonly https://aomediacodec.github.io/"), "{answer}");
    assert!(!answer.contains("playout-delay"), "that one was for receiving");
    let viewer = play(FIREFOX_PLAY);
    assert!(
        viewer
            .answer(&local(DtlsRole::Server))
            .contains("/sendonly http://www.webrtc.org/experiments/rtp-hdrext/playout-delay")
    );
}

#[test]
fn transport_cc_can_be_declined() {
    let offer = Offer::parse(CHROMIUM_PUBLISH).expect("offer");
    let policy = Policy { transport_cc: false, ..Policy::default() };
    let negotiated = negotiate_publish(&offer, &policy).expect("negotiated");
    let answer = negotiated.answer(&local(DtlsRole::Server));
    assert!(!answer.contains("transport-cc") && !answer.contains("transport-wide-cc"));
    assert!(answer.contains("goog-remb"));
    assert!(publish(CHROMIUM_PUBLISH).answer(&local(DtlsRole::Server)).contains("transport-cc"));
}

#[test]
fn a_publisher_is_asked_for_the_codec_the_room_wants() {
    let offer = Offer::parse(CHROMIUM_PUBLISH).expect("offer");
    let first = |policy: &Policy| {
        let negotiated = negotiate_publish(&offer, policy).expect("negotiated");
        let track = negotiated.tracks.iter().find(|track| track.kind == Kind::Video).expect("a picture");
        let (first, second) = (&track.rtp.codecs[0], &track.rtp.codecs[1]);
        let answer = negotiated.answer(&local(DtlsRole::Server));
        let line = answer.lines().find(|line| line.starts_with("m=video")).expect("a picture");
        assert_eq!(line.split(' ').nth(3), Some(first.payload_type.to_string().as_str()));
        assert_eq!(second.apt(), Some(first.payload_type), "its RTX goes with it");
        (first.mime_type.clone(), first.parameter("profile-level-id"), first.parameter("packetization-mode"))
    };
    assert_eq!(first(&Policy::default()).0, "video/VP8");
    let wants = |codec: &str| Policy { video_codecs: vec![codec.into()], ..Policy::default() };
    let baseline = ("video/H264".to_owned(), Some("42e01f".to_owned()), Some("1".to_owned()));
    assert_eq!(first(&wants("H264")), baseline);
    assert_eq!(first(&wants("vp9")).0, "video/VP9");
}

#[test]
fn layers_are_taken() {
    let plain = publish(CHROMIUM_PUBLISH);
    assert!(!plain.answer(&local(DtlsRole::Server)).contains("simulcast"));
    assert!(!plain.tracks[1].rtp.header_extensions.iter().any(|extension| extension.uri == ext::RID));
    for offer in [CHROMIUM_SIMULCAST, FIREFOX_SIMULCAST] {
        let layered = publish(offer);
        let answer = layered.answer(&local(DtlsRole::Server));
        assert!(answer.contains("a=simulcast:recv l;m;h\r\n"));
        assert!(answer.contains("a=rid:l recv\r\n") && answer.contains("a=rid:h recv\r\n"));
        let video = &layered.tracks[1].rtp;
        let rids: Vec<_> =
            video.encodings.iter().filter_map(|encoding| encoding.encoding_id.as_deref()).collect();
        assert_eq!(rids, ["l", "m", "h"]);
        assert!(video.header_extensions.iter().any(|extension| extension.uri == ext::RID));
    }
}

#[test]
fn layers_that_packets_cannot_name_are_one_stream() {
    let without = CHROMIUM_SIMULCAST.replace("urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", "urn:none");
    let negotiated = publish(&without);
    assert!(!negotiated.answer(&local(DtlsRole::Server)).contains("simulcast"));
    assert_eq!(negotiated.tracks[1].rtp.encodings.len(), 1);
}

#[test]
fn layers_by_their_sources_are_taken_with_their_retransmissions() {
    let sources = "a=ssrc-group:SIM 11 12 13\r\na=ssrc-group:FID 11 21\r\na=ssrc-group:FID 13 23\r\n\
        a=ssrc:11 cname:c\r\na=ssrc:21 cname:c\r\na=ssrc:12 cname:c\r\na=ssrc:13 cname:c\r\n";
    let (head, video) = CHROMIUM_PUBLISH.split_once("m=video").expect("a picture");
    let video: String = video.split_inclusive('\n').filter(|line| !line.starts_with("a=ssrc")).collect();
    let negotiated = publish(&format!("{head}m=video{video}{sources}"));
    let encodings = &negotiated.tracks[1].rtp.encodings;
    let streams: Vec<_> =
        encodings.iter().map(|encoding| (encoding.ssrc, encoding.rtx.as_ref().map(|rtx| rtx.ssrc))).collect();
    assert_eq!(streams, [(Some(11), Some(21)), (Some(12), None), (Some(13), Some(23))]);
}

#[test]
fn a_player_says_how_much_it_takes() {
    for (line, bitrate) in [("b=AS:700", Some(700_000)), ("b=TIAS:650000", Some(650_000)), ("b=CT:9", None)] {
        let (head, video) = CHROMIUM_PLAY.split_once("m=video").expect("a picture");
        let (media, rest) = video.split_once("c=IN").expect("an address");
        let (address, rest) = rest.split_once("\r\n").expect("a line");
        let negotiated = play(&format!("{head}m=video{media}c=IN{address}\r\n{line}\r\n{rest}"));
        let video = negotiated.tracks.iter().find(|track| track.kind == Kind::Video).expect("a picture");
        assert_eq!(video.rtp.encodings[0].max_bitrate, bitrate, "{line}");
    }
}

#[test]
fn static_payload_types_need_no_map() {
    let text = "v=0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 AA\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 0 8 9 13 77\r\na=rtcp-mux\r\na=sendonly\r\n";
    let negotiated = publish(text);
    assert_eq!(mimes(&negotiated, Kind::Audio), ["audio/PCMU", "audio/PCMA", "audio/G722"]);
    assert_eq!(negotiated.tracks[0].mid, "");
    let answer = negotiated.answer(&local(DtlsRole::Server));
    assert!(!answer.contains("BUNDLE") && !answer.contains("a=mid"));
    assert!(answer.contains("m=audio 8189 UDP/TLS/RTP/SAVPF 0 8 9\r\n"));
}

#[test]
fn broken_text_is_mended() {
    let mended = |bytes: &[u8]| {
        let offer = Offer::from_bytes(bytes, &SdpLimits::default()).expect("offer");
        let negotiated = negotiate_publish(&offer, &Policy::default()).expect("negotiated");
        negotiated.answer(&local(DtlsRole::Server))
    };
    let expected = mended(OBS.as_bytes());
    let bare_cr = OBS.replace("\r\n", "\n").replace('\n', "\r");
    assert_eq!(mended(bare_cr.as_bytes()), expected);
    let short_origin =
        OBS.replace("o=- 2413598207 0 IN IP4 127.0.0.1", "o=- 99999999999999999999999 1 IN IP4");
    assert_eq!(mended(short_origin.as_bytes()), expected);
    let mut latin = OBS.replace("s=-", "s=\u{1}stream\r\nb=XX\r\ny=1\r\na=").into_bytes();
    let place = latin.iter().position(|byte| *byte == 1).expect("mark");
    latin[place] = 0xe9;
    assert_eq!(mended(&latin), expected);
}

#[test]
fn refusals_are_words_for_people() {
    let refused = |text: &str| {
        let offer = Offer::parse(text)?;
        negotiate_publish(&offer, &Policy::default()).map(|_| ())
    };
    let error = |text: &str| refused(text).expect_err("refused");
    let hevc = OBS.replace("H264/90000", "H265/90000");
    assert_eq!(
        error(&hevc).to_string(),
        "the offer has a track with no codec that can be forwarded (offered: opus, H265; \
         taken: H264, VP8, VP9, AV1, opus, PCMU, PCMA, G722)"
    );
    assert_eq!(error(&hevc).status(), 406);
    assert_eq!(error(CHROMIUM_PLAY).to_string(), "the offer sends nothing: this address is for publishing");
    assert_eq!(error(CHROMIUM_PLAY).status(), 406);
    let cases = [
        (OBS.replace("a=ice-pwd", "a=x"), 400, "the offer has no ICE credentials (a=ice-ufrag, a=ice-pwd)"),
        (
            OBS.replace("a=fingerprint", "a=x"),
            400,
            "the offer has no certificate fingerprint (a=fingerprint)",
        ),
        (OBS.replace("a=group", "a=x"), 406, "the offer does not put audio and video on one transport"),
        (OBS.replace("a=rtcp-mux", "a=x"), 406, "the offer does not multiplex RTP and RTCP"),
        (OBS.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"), 406, "the offer has no audio or video over DTLS-SRTP"),
        ("v=0\r\n".to_owned(), 406, "the offer has neither audio nor video"),
        ("{\"sdp\": 1}".to_owned(), 400, "the offer is not valid SDP: it does not begin with v=0"),
        ("v=0\r\nm=audio\r\n".to_owned(), 400, "the offer is not valid SDP"),
        (String::new(), 400, "the offer is not valid SDP"),
    ];
    for (text, status, words) in cases {
        let error = error(&text);
        assert!(error.to_string().starts_with(words), "{error}");
        assert_eq!(error.status(), status, "{error}");
    }
    let viewer = Offer::parse(OBS).expect("offer");
    let error = negotiate_play(&viewer, &Policy::default(), &mut || 1).expect_err("refused");
    assert_eq!(error.to_string(), "the offer receives nothing: this address is for playing");
}

#[test]
fn a_viewer_without_our_video_still_hears() {
    let text = CHROMIUM_PLAY
        .replace("VP8/", "H261/")
        .replace("VP9/", "H263/")
        .replace("H264/", "H266/")
        .replace("AV1/", "AV7/");
    let negotiated = play(&text);
    assert_eq!(negotiated.tracks.len(), 1);
    assert_sound(&text, &negotiated.answer(&local(DtlsRole::Server)));
}

#[test]
fn limits_hold() {
    let limits = SdpLimits { max_bytes: 900, ..SdpLimits::default() };
    let too_large = |result: Result<Offer, SdpError>| matches!(result, Err(SdpError::TooLarge(_)));
    assert!(too_large(Offer::from_bytes(OBS.as_bytes(), &limits)));
    let limits = SdpLimits { max_media: 1, ..SdpLimits::default() };
    assert!(too_large(Offer::from_bytes(OBS.as_bytes(), &limits)));
    let limits = SdpLimits { max_attributes: 10, ..SdpLimits::default() };
    assert!(too_large(Offer::from_bytes(OBS.as_bytes(), &limits)));
    let many = format!("v=0\r\n{}", "a=x\r\n".repeat(3_000));
    assert!(too_large(Offer::parse(&many)));
}

#[test]
fn an_offer_cannot_write_lines_into_the_answer() {
    let text = OBS.replace("a=mid:1", "a=mid:1\u{0}a=evil:1").replace("useinbandfec=1", "x=\u{0}a=evil:2");
    let offer = Offer::parse(&text).expect("offer");
    let negotiated = negotiate_publish(&offer, &Policy::default()).expect("negotiated");
    assert!(!negotiated.answer(&local(DtlsRole::Server)).contains("evil"));
}

#[test]
fn fragments_tell_trickle_from_restart() {
    let current = ("EsAw".to_owned(), "P2uYro0UCOQ4zxjKXaWCBui1".to_owned());
    let trickle = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n\
        a=mid:0\r\na=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\n\
        a=end-of-candidates\r\n";
    let fragment = Fragment::parse(trickle).expect("fragment");
    assert!(!fragment.restarts(&current));
    assert!(fragment.end_of_candidates);
    assert_eq!(fragment.candidates, ["1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0"]);
    let restart =
        Fragment::parse("a=ice-ufrag:ysXw\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\n").expect("fragment");
    assert!(restart.restarts(&current));
    assert!(Fragment::parse("").is_err() && Fragment::parse("hello").is_err());

    let answer = publish(OBS).restart_answer(&local(DtlsRole::Server));
    let lines: Vec<_> = answer.split_terminator("\r\n").collect();
    assert_eq!(
        lines[..4],
        ["a=group:BUNDLE 0 1", "a=ice-lite", "m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=mid:0"]
    );
    assert_eq!(lines[4], "a=ice-ufrag:abcdefgh01234567");
    assert_eq!(lines.last(), Some(&"a=end-of-candidates"));
    assert_eq!(Fragment::parse(&answer).expect("our own").candidates.len(), 3);
}

proptest::proptest! {
    #[test]
    fn mangled_offers_never_panic(
        which in 0usize..6, cut in 0usize..8_000, place in 0usize..8_000, byte: u8, swap in 0usize..8_000,
    ) {
        let offers = [CHROMIUM_PLAY, CHROMIUM_SIMULCAST, FIREFOX_SIMULCAST, OBS, GSTREAMER, SAFARI];
        let mut bytes = offers[which].as_bytes().to_vec();
        let length = bytes.len();
        bytes[place % length] = byte;
        bytes.swap(swap % length, place % length);
        bytes.truncate(length - cut % length);
        if let Ok(offer) = Offer::from_bytes(&bytes, &SdpLimits::default()) {
            let policy = Policy::default();
            let both = [negotiate_publish(&offer, &policy), negotiate_play(&offer, &policy, &mut || 7)];
            for negotiated in both.into_iter().flatten() {
                let answer = negotiated.answer(&local(DtlsRole::Server));
                proptest::prop_assert!(Offer::parse(&answer).is_ok());
            }
        }
    }
}
