//! Vectors of the RFCs, and what an attacker or a bad network does.

use super::derive::{Label, derive};
use super::suite::Suite;
use super::*;
use crate::core::rtp::keys::{KeyingMaterial, SrtpProfile};

const PROFILES: [SrtpProfile; 4] = [
    SrtpProfile::Aes128CmSha1_80,
    SrtpProfile::Aes128CmSha1_32,
    SrtpProfile::AeadAes128Gcm,
    SrtpProfile::AeadAes256Gcm,
];

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn keys(profile: SrtpProfile, seed: u8) -> KeyingMaterial {
    let (key, salt) = match profile {
        SrtpProfile::AeadAes256Gcm => (32, 12),
        SrtpProfile::AeadAes128Gcm => (16, 12),
        _ => (16, 14),
    };
    KeyingMaterial { key: (0..key).map(|n| n ^ seed).collect(), salt: (0..salt).map(|n| n + seed).collect() }
}

fn pair(profile: SrtpProfile) -> (SrtpSender, SrtpReceiver) {
    let keys = keys(profile, 3);
    (SrtpSender::new(profile, &keys).unwrap(), SrtpReceiver::new(profile, &keys, 4).unwrap())
}

fn sealed(sender: &mut SrtpSender, index: u64, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 1500];
    let fields = crate::core::rtp::header::HeaderFields {
        sequence: index as u16,
        ssrc,
        payload_type: 96,
        ..Default::default()
    };
    let header = crate::core::rtp::header::write_header(&mut out, &fields, &[(1, b"abc")]).unwrap();
    let len = sender.seal_rtp(&mut out, header, index, ssrc, payload).unwrap();
    assert_eq!(len, header + payload.len() + sender.rtp_overhead());
    out.truncate(len);
    out
}

const RECEIVER_REPORT: &str = "81c90007 00000011 00000022 00000000 00000033 00000000 00000000 00000000";

/// RFC 3711 appendix B.3.
#[test]
fn key_derivation_of_the_rfc() {
    let key = hex("E1F97A0D3E018BE0D64FA32C06DE4139");
    let salt = hex("0EC675AD498AFEEBB6960B3AABE6");
    let mut cipher = [0; 16];
    derive(&key, &salt, Label::RtpCipher, &mut cipher).unwrap();
    assert_eq!(cipher[..], hex("C61E7A93744F39EE10734AFE3FF7A087"));
    let mut session_salt = [0; 14];
    derive(&key, &salt, Label::RtpSalt, &mut session_salt).unwrap();
    assert_eq!(session_salt[..], hex("30CBBC08863D8C85D49DB34A9AE1"));
    let mut auth = [0; 94];
    derive(&key, &salt, Label::RtpAuth, &mut auth).unwrap();
    assert_eq!(auth[..20], hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
}

const GCM_SALT: &str = "517569642070726f2071756f";
const GCM_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const GCM_HEADER: &str = "8040f17b 8041f8d3 5501a0b2";
const GCM_PAYLOAD: &str =
    "47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465 73207472 6573";

fn gcm_suite(key_len: usize) -> Suite {
    Suite::gcm(&hex(GCM_KEY)[..key_len], hex(GCM_SALT).try_into().unwrap()).unwrap()
}

/// RFC 7714 §16.1.1 and §16.2.1.
#[test]
fn gcm_rtp_of_the_rfc() {
    for (key_len, expected) in [
        (
            16,
            "f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf 8833
             899d7f27 beb16a91 52cf765e e4390cce",
        ),
        (
            32,
            "32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b
             7aa3db36 dfffd6b0 f9bb7878 d7a76c13",
        ),
    ] {
        let mut sender = SrtpSender::with(gcm_suite(key_len), gcm_suite(key_len));
        let mut out = hex(GCM_HEADER);
        out.resize(100, 0);
        let len = sender.seal_rtp(&mut out, 12, 0xf17b, 0x5501a0b2, &hex(GCM_PAYLOAD)).unwrap();
        assert_eq!(out[12..len], hex(expected));
        let mut receiver = SrtpReceiver::with(gcm_suite(key_len), gcm_suite(key_len), 1);
        assert_eq!(receiver.open_rtp(&mut out[..len]), Ok((12 + 38, 0xf17b)));
        assert_eq!(out[12..50], hex(GCM_PAYLOAD));
    }
}

/// RFC 7714 §17.1 and §17.2: SRTCP, encrypted.
#[test]
fn gcm_rtcp_of_the_rfc() {
    let plain = hex("81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
         deadbeef deadbeef deadbeef deadbeef deadbeef");
    for (key_len, expected) in [
        (
            16,
            "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1
             730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4",
        ),
        (
            32,
            "81c8000d 4d617273 d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d bffe0a50 a2eaa5c1
             110555be 8415f658 c61de047 6f1b6fad 1d1eb30c 4446839f 57ff6f6c b26ac3be 800005d4",
        ),
    ] {
        let mut sender = SrtpSender::with(gcm_suite(key_len), gcm_suite(key_len));
        sender.set_rtcp_index(0x5d4);
        let mut out = vec![0; 200];
        let len = sender.seal_rtcp(&plain, &mut out).unwrap();
        assert_eq!(out[..len], hex(expected));
        let mut receiver = SrtpReceiver::with(gcm_suite(key_len), gcm_suite(key_len), 1);
        let plain_len = receiver.open_rtcp(&mut out[..len]).unwrap();
        assert_eq!(out[..plain_len], plain);
    }
}

#[test]
fn round_trip_in_each_profile_and_both_ways_of_sealing() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        for (index, len) in [(10, 0), (11, 1), (12, 63), (13, 64), (14, 1180)] {
            let payload: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let mut packet = sealed(&mut sender, index, 7, &payload);

            let header = packet.len() - len - sender.rtp_overhead();
            let mut inside = packet.clone();
            inside[header..header + len].copy_from_slice(&payload);
            let total = sender.seal_rtp_in_place(&mut inside, header, header + len, index, 7).unwrap();
            assert_eq!(inside[..total], packet);

            let (end, opened) = receiver.open_rtp(&mut packet).unwrap();
            assert_eq!((end, opened), (header + len, index));
            assert_eq!(packet[header..end], payload);
        }
        let plain = hex(RECEIVER_REPORT);
        let mut out = [0; 100];
        let len = sender.seal_rtcp(&plain, &mut out).unwrap();
        assert!(len <= plain.len() + MAX_RTCP_OVERHEAD);
        assert_ne!(out[8..plain.len()], plain[8..]);
        let end = receiver.open_rtcp(&mut out[..len]).unwrap();
        assert_eq!(out[..end], plain);
    }
}

#[test]
fn replay_is_refused_and_reordering_is_not() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        let packets: Vec<_> =
            (1000..2200).map(|index| (index, sealed(&mut sender, index, 7, b"hello"))).collect();
        // The first, then every other one forwards, then the rest backwards as far as the window reaches.
        assert!(receiver.open_rtp(&mut packets[0].1.clone()).is_ok());
        for (index, packet) in packets.iter().skip(1).filter(|(index, _)| index % 2 == 1) {
            assert_eq!(receiver.open_rtp(&mut packet.clone()).map(|(_, index)| index), Ok(*index));
        }
        for (index, packet) in packets.iter().rev().filter(|(index, _)| index % 2 == 0) {
            let expected = if 2199 - index < crate::core::rtp::window::WINDOW {
                Ok(*index)
            } else {
                Err(SrtpError::Replay)
            };
            assert_eq!(receiver.open_rtp(&mut packet.clone()).map(|(_, index)| index), expected);
        }
        for (_, packet) in &packets {
            assert_eq!(receiver.open_rtp(&mut packet.clone()), Err(SrtpError::Replay));
        }
        let mut out = [0; 100];
        let len = sender.seal_rtcp(&hex(RECEIVER_REPORT), &mut out).unwrap();
        assert!(receiver.open_rtcp(&mut { out }[..len]).is_ok());
        assert_eq!(receiver.open_rtcp(&mut out[..len]), Err(SrtpError::Replay));
    }
}

#[test]
fn roll_over_is_followed_with_loss_and_reordering_around_it() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        let mut open = |index| receiver.open_rtp(&mut sealed(&mut sender, index, 7, b"hi")).map(|(_, at)| at);
        for index in [65_530, 65_534, 65_537, 65_535, 65_540, 65_533] {
            assert_eq!(open(index), Ok(index));
        }
        // Half the number space lost at once cannot be told from an old packet.
        assert!(open(65_540 + 32_768).is_err());
        for index in (66_000..400_000).step_by(20_000) {
            assert_eq!(open(index), Ok(index));
        }
    }
}

#[test]
fn other_keys_open_nothing() {
    for profile in PROFILES {
        let mut sender = SrtpSender::new(profile, &keys(profile, 3)).unwrap();
        let mut other = SrtpReceiver::new(profile, &keys(profile, 4), 4).unwrap();
        let mut packet = sealed(&mut sender, 1, 7, b"hello");
        assert_eq!(other.open_rtp(&mut packet), Err(SrtpError::Authentication));
        let mut out = [0; 100];
        let len = sender.seal_rtcp(&hex(RECEIVER_REPORT), &mut out).unwrap();
        assert_eq!(other.open_rtcp(&mut out[..len]), Err(SrtpError::Authentication));
        // RTP and RTCP keys differ: a packet of one is none of the other.
        let (mut sender, mut receiver) = pair(profile);
        let mut packet = sealed(&mut sender, 1, 7, b"hello hello hello hello");
        assert!(receiver.open_rtcp(&mut packet).is_err());
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_refused() {
    for profile in PROFILES {
        let (mut sender, _) = pair(profile);
        let packet = sealed(&mut sender, 5, 7, b"some payload");
        let mut rtcp = [0; 100];
        let rtcp_len = sender.seal_rtcp(&hex(RECEIVER_REPORT), &mut rtcp).unwrap();
        let (_, mut receiver) = pair(profile);
        for bit in 0..packet.len() * 8 {
            let mut bad = packet.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(receiver.open_rtp(&mut bad).is_err());
        }
        for bit in 0..rtcp_len * 8 {
            let mut bad = rtcp;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(receiver.open_rtcp(&mut bad[..rtcp_len]).is_err());
        }
        for len in 0..packet.len() {
            assert!(receiver.open_rtp(&mut packet.clone()[..len]).is_err());
        }
        for len in 0..rtcp_len {
            assert!(receiver.open_rtcp(&mut { rtcp }[..len]).is_err());
        }
        assert!(receiver.open_rtp(&mut packet.clone()).is_ok(), "nothing of this may cost the true packet");
    }
}

#[test]
fn streams_are_bounded_and_forged_ones_do_not_count() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        for ssrc in 100..200 {
            let mut forged = sealed(&mut sender, 5, ssrc, b"x");
            *forged.last_mut().unwrap() ^= 1;
            assert_eq!(receiver.open_rtp(&mut forged), Err(SrtpError::Authentication));
        }
        for ssrc in 0..4 {
            assert!(receiver.open_rtp(&mut sealed(&mut sender, 5, ssrc, b"x")).is_ok());
        }
        let fifth = sealed(&mut sender, 5, 4, b"x");
        assert_eq!(receiver.open_rtp(&mut fifth.clone()), Err(SrtpError::TooManyStreams));
        receiver.forget(0);
        assert!(receiver.open_rtp(&mut fifth.clone()).is_ok());
    }
}

#[test]
fn wrong_key_lengths_and_small_buffers_are_errors() {
    for profile in PROFILES {
        let mut bad = keys(profile, 1);
        bad.key.pop();
        assert_eq!(SrtpSender::new(profile, &bad).err(), Some(SrtpError::Keys));
        let (mut sender, _) = pair(profile);
        for len in 0..12 + 5 + sender.rtp_overhead() {
            assert_eq!(sender.seal_rtp(&mut vec![0; len], 12, 0, 0, b"12345"), Err(SrtpError::NoRoom));
        }
        sender.set_rtcp_index(1 << 31);
        let sealed = sender.seal_rtcp(&hex(RECEIVER_REPORT), &mut [0; 100]);
        assert_eq!(sealed, Err(SrtpError::Exhausted));
    }
}
