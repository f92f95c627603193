//! STUN against the test vectors of RFC 5769, against itself, and against noise.

use std::net::SocketAddr;

use proptest::prelude::*;

use crate::webrtc::wire::hello::HelloReader;
use crate::webrtc::wire::stun::{Class, IntegrityKey, Message, Writer, attr};

const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";
const TRANSACTION: [u8; 12] = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ascii"), 16).expect("hex"))
        .collect()
}

/// RFC 5769 §2.1.
fn sample_request() -> Vec<u8> {
    hex("00010058 2112a442 b7e7a701 bc34d686 fa87dfae
         80220010 5354554e 20746573 7420636c 69656e74
         00240004 6e0001ff 80290008 932ff9b1 51263b36
         00060009 6576746a 3a683676 59202020
         00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2
         80280004 e57a3bcf")
}

#[test]
fn the_sample_request_is_read_and_verified() {
    let bytes = sample_request();
    let message = Message::parse(&bytes).expect("parse");
    assert_eq!(message.class, Class::Request);
    assert_eq!(message.transaction, TRANSACTION);
    assert_eq!(message.username, Some("evtj:h6vY"));
    assert_eq!((message.local_ufrag(), message.remote_ufrag()), (Some("evtj"), Some("h6vY")));
    assert_eq!(message.priority, Some(0x6e00_01ff));
    assert_eq!(message.controlled, Some(0x932f_f9b1_5126_3b36));
    assert!(message.verify(&IntegrityKey::new(PASSWORD)));
    assert!(!message.verify(&IntegrityKey::new("VOkJxbRl1RmTxUk/WvJxBu")));
}

#[test]
fn the_sample_responses_are_read_and_verified() {
    let v4 = hex("0101003c 2112a442 b7e7a701 bc34d686 fa87dfae
         8022000b 74657374 20766563 746f7220 00200008 0001a147 e112a643
         00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7 80280004 c07d4c96");
    let v6 = hex("01010048 2112a442 b7e7a701 bc34d686 fa87dfae
         8022000b 74657374 20766563 746f7220 00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9
         00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41 80280004 c8fb0b4c");
    for (bytes, mapped) in [(v4, "192.0.2.1:32853"), (v6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")] {
        let message = Message::parse(&bytes).expect("parse");
        assert_eq!(message.class, Class::Success);
        assert_eq!(message.mapped, Some(mapped.parse().expect("address")));
        assert!(message.verify(&IntegrityKey::new(PASSWORD)));
    }
}

#[test]
fn any_changed_bit_of_what_is_signed_is_noticed() {
    let bytes = sample_request();
    let key = IntegrityKey::new(PASSWORD);
    for bit in 0..(bytes.len() - 8) * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let accepted = Message::parse(&changed).is_ok_and(|message| message.verify(&key));
        assert!(!accepted, "bit {bit}");
    }
}

#[test]
fn what_stands_behind_the_integrity_counts_for_nothing() {
    let key = IntegrityKey::new("secret");
    let signed =
        Writer::new(Class::Request, TRANSACTION).attribute(attr::USERNAME, b"a:b").finish(Some(&key));
    let mut forged = signed[..signed.len() - 8].to_vec();
    forged.extend_from_slice(&[0x00, 0x25, 0, 0]);
    let length = (forged.len() - 20) as u16;
    forged[2..4].copy_from_slice(&length.to_be_bytes());
    let message = Message::parse(&forged).expect("parse");
    assert!(message.verify(&key));
    assert!(!message.use_candidate);
}

#[test]
fn errors_and_unknown_attributes_are_told() {
    let refusal = Writer::new(Class::Error, TRANSACTION).error(487, "Role Conflict").finish(None);
    assert_eq!(Message::parse(&refusal).expect("parse").error, Some(487));
    let odd =
        Writer::new(Class::Request, TRANSACTION).attribute(0x0031, b"?").attribute(0x9999, b"").finish(None);
    assert_eq!(Message::parse(&odd).expect("parse").unknown, Some(0x0031));
}

proptest! {
    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Message::parse(&bytes);
    }

    #[test]
    fn noise_is_no_client_hello(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..3) {
        let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0];
        record.extend_from_slice(&(bytes.len() as u16 + 12).to_be_bytes());
        let length = [0, 0, bytes.len() as u8];
        record.extend_from_slice(&[kind]);
        record.extend_from_slice(&length);
        record.extend_from_slice(&[0, 0, 0, 0, 0]);
        record.extend_from_slice(&length);
        record.extend_from_slice(&bytes);
        let offered = HelloReader::default().push(&record);
        prop_assert!(kind == 1 || offered.is_none());
    }

    #[test]
    fn noise_behind_a_good_header_never_panics(mut body in proptest::collection::vec(any::<u8>(), 0..160)) {
        body.truncate(body.len() / 4 * 4);
        let mut bytes = vec![0, 1];
        bytes.extend_from_slice(&(body.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
        bytes.extend_from_slice(&TRANSACTION);
        bytes.extend_from_slice(&body);
        if let Ok(message) = Message::parse(&bytes) {
            prop_assert!(!message.verify(&IntegrityKey::new("x")));
        }
    }

    #[test]
    fn what_is_written_is_read(
        username in "[a-z]{1,20}:[a-z]{1,20}", password in "[ -~]{1,90}", priority: u32, tie: u64,
        use_candidate: bool, v6: bool, port: u16, ip: u128, transaction: [u8; 12],
    ) {
        let key = IntegrityKey::new(&password);
        let address = if v6 {
            SocketAddr::new(std::net::Ipv6Addr::from(ip).into(), port)
        } else {
            SocketAddr::new(std::net::Ipv4Addr::from(ip as u32).into(), port)
        };
        let mut writer = Writer::new(Class::Request, transaction)
            .attribute(attr::USERNAME, username.as_bytes())
            .attribute(attr::PRIORITY, &priority.to_be_bytes())
            .attribute(attr::ICE_CONTROLLING, &tie.to_be_bytes())
            .mapped(address);
        if use_candidate {
            writer = writer.attribute(attr::USE_CANDIDATE, &[]);
        }
        let bytes = writer.finish(Some(&key));
        let message = Message::parse(&bytes).expect("own message");
        prop_assert_eq!(message.username, Some(username.as_str()));
        prop_assert_eq!(message.priority, Some(priority));
        prop_assert_eq!(message.controlling, Some(tie));
        prop_assert_eq!(message.use_candidate, use_candidate);
        prop_assert_eq!(message.mapped, Some(address));
        prop_assert!(message.verify(&key));
    }
}
