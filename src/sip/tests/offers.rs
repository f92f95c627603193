//! Offers as phones make them, and what we answer.

use super::*;
use crate::sip::session::media::{How, Remote};

fn answer_to(sdp: &str) -> (Bench, String) {
    let mut bench = Bench::new(OFFICE_ONLY);
    let party = Party::new(OFFICE, "room-x");
    let mut invite = party.invite();
    invite.set_body("application/sdp", sdp);
    let tx = bench.request(OFFICE, invite);
    let body = text(&bench.answer(tx).body);
    (bench, body)
}

const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

#[test]
fn sdes_keys_are_exchanged() {
    let sdp = format!(
        "{}a=crypto:4 AES_256_CM_HMAC_SHA1_80 inline:{KEY}{KEY}\r\na=crypto:7 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^31\r\n",
        OFFER.replace("RTP/AVP", "RTP/SAVP")
    );
    let (bench, answer) = answer_to(&sdp);
    let line = answer.lines().find(|line| line.starts_with("a=crypto:7 AES_CM_128_HMAC_SHA1_80 inline:"));
    assert!(line.is_some_and(|line| !line.contains(KEY)), "{answer}");
    assert!(answer.contains("RTP/SAVP"));
    let Remote::Plain(remote) = &bench.connected[0].remote else { panic!("a plain stream") };
    let (theirs, ours) = (remote.srtp.as_ref().expect("keys"), remote.srtp_local.as_ref().expect("keys"));
    assert_eq!((theirs.profile, ours.profile), (CM80, CM80));
    assert_ne!(theirs.inline, ours.inline);
}

#[test]
fn a_browsers_offer_gets_ice_and_dtls() {
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
               m=audio 9 UDP/TLS/RTP/SAVPF 111 110\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\n\
               a=ice-ufrag:u\r\na=ice-pwd:p\r\na=fingerprint:sha-256 aa:bb\r\na=setup:actpass\r\n\
               a=rtpmap:111 opus/48000/2\r\na=rtpmap:110 telephone-event/48000\r\n";
    let (bench, answer) = answer_to(sdp);
    assert_eq!(bench.opened[0].how, How::Ice);
    for line in [
        "a=setup:passive",
        "a=ice-ufrag:ufrag",
        "a=ice-lite",
        "a=mid:0",
        "a=fingerprint:sha-256 AA:BB",
        "a=rtcp-mux",
    ] {
        assert!(answer.lines().any(|known| known == line), "{line} in {answer}");
    }
    assert!(answer.contains("m=audio 8189 UDP/TLS/RTP/SAVPF 111 110"));
    let Remote::Ice { ice, fingerprints, .. } = &bench.connected[0].remote else { panic!("ICE") };
    assert_eq!(ice.0, "u");
    assert_eq!(fingerprints[0].value, "AA:BB");
}

#[test]
fn a_desk_phones_dtls_needs_no_ice_and_another_certificate_gets_another_port() {
    let sdp = format!(
        "{}a=fingerprint:SHA-256 aa:bb\r\na=setup:actpass\r\na=rtcp-mux\r\n",
        OFFER.replace("RTP/AVP", "UDP/TLS/RTP/SAVP")
    );
    let mut bench = Bench::new(OFFICE_ONLY);
    let party = Party::new(OFFICE, "room-x");
    let mut invite = party.invite();
    invite.set_body("application/sdp", sdp.as_str());
    let tx = bench.request(OFFICE, invite);
    let body = text(&bench.answer(tx).body);
    for line in ["a=setup:passive", "a=fingerprint:sha-256 AA:BB", "a=rtcp-mux"] {
        assert!(body.lines().any(|known| known == line), "{line} in {body}");
    }
    assert!(!body.contains("ice"), "{body}");
    let Remote::Dtls { remote, role, fingerprints } = &bench.connected[0].remote else { panic!("DTLS") };
    assert_eq!((remote.rtcp_mux, *role), (true, crate::core::session::DtlsRole::Client));
    assert_eq!(fingerprints[0].value, "AA:BB");
    assert_eq!(bench.opened[0].how, How::Dtls);
    let party = bench.acknowledge(party, tx, None);
    let tx = bench.later(&party, Method::Invite, Some(&sdp));
    let party = bench.acknowledge(party, tx, None);
    assert_eq!(bench.opened.len(), 1, "the same again changes nothing");
    let tx = bench.later(&party, Method::Invite, Some(&sdp.replace("aa:bb", "cc:dd")));
    assert_eq!((bench.status(tx), bench.opened.len()), (200, 2));
}

#[test]
fn video_is_taken_and_what_we_do_not_know_is_declined() {
    let sdp = format!(
        "{OFFER}m=video 4002 RTP/AVP 96 97\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 H264/90000\r\n\
         a=fmtp:97 profile-level-id=42801F;packetization-mode=1;sprop-parameter-sets=Z0KAH9oBQBbsA,aM4G4g==\r\n\
         a=rtcp-fb:* ccm fir\r\nm=application 4004 UDP/BFCP *\r\n"
    );
    let (bench, answer) = answer_to(&sdp);
    assert!(answer.contains("a=fmtp:97 profile-level-id=42801F;packetization-mode=1\r\n"), "{answer}");
    assert!(answer.contains("m=application 0 UDP/BFCP *"), "{answer}");
    assert_eq!(bench.connected.len(), 2);
    let video = &bench.connected[1].produce.codecs[0];
    assert_eq!((video.mime_type.as_str(), video.payload_type), ("video/H264", 97));
    assert!(video.parameters.contains_key("sprop-parameter-sets"), "what it sends is described as it said");
}

#[test]
fn events_follow_the_codecs_clock() {
    let sdp = OFFER.replace(
        "RTP/AVP 8 0 101\r\n",
        "RTP/AVP 107 8 101 102\r\na=rtpmap:107 opus/48000/2\r\na=rtpmap:102 telephone-event/48000\r\n",
    );
    let (bench, answer) = answer_to(&sdp);
    assert!(answer.contains("RTP/AVP 107 102"), "{answer}");
    let Remote::Plain(remote) = &bench.connected[0].remote else { panic!("a plain stream") };
    assert_eq!(remote.dtmf_payload_types, [(102, 48_000)]);
}

#[test]
fn the_same_offer_again_changes_nothing() {
    let mut bench = Bench::new(OFFICE_ONLY);
    let party = bench.call(OFFICE, "room-x");
    let before = text(&bench.answer(ServerTx(1)).body);
    let tx = bench.later(&party, Method::Invite, Some(OFFER));
    assert_eq!(text(&bench.answer(tx).body), before);
    let party = bench.acknowledge(party, tx, None);
    let other = OFFER.replace("RTP/AVP 8 0 101", "RTP/AVP 0 101");
    let tx = bench.later(&party, Method::Invite, Some(&other));
    assert!(text(&bench.answer(tx).body).contains("PCMU/8000"));
    assert_eq!(bench.opened.len(), 2, "another codec gets another port");
    let bad = OFFER.replace("RTP/AVP 8 0 101", "RTP/AVP 18");
    let party = bench.acknowledge(party, tx, None);
    let tx = bench.later(&party, Method::Invite, Some(&bad));
    assert_eq!(bench.status(tx), 488);
    assert_eq!(bench.board.len(), 1, "the call goes on as it was");
}
