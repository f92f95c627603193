//! Data channel establishment on the wire.

use crate::core::data::Delivery;
use crate::webrtc::wire::dcep::{Dcep, Open};

/// What Chromium sends for `createDataChannel("chat", {ordered: false, maxRetransmits: 3, protocol: "v1"})`.
const CHROMIUM: &[u8] = b"\x03\x81\x00\x00\x00\x00\x00\x03\x00\x04\x00\x02chatv1";

#[test]
fn an_open_of_a_browser_is_read() {
    let delivery = Delivery { ordered: false, max_packet_life_time: None, max_retransmits: Some(3) };
    let open = Open { delivery, label: "chat".to_owned(), protocol: "v1".to_owned() };
    assert_eq!(Dcep::parse(CHROMIUM), Ok(Dcep::Open(open)));
    assert_eq!(Dcep::parse(&[2]), Ok(Dcep::Ack));
    assert_eq!(Dcep::parse(&[2, 0, 0, 0]), Ok(Dcep::Ack), "some pad it");
}

#[test]
fn what_is_written_is_read() {
    let lifetime = |ordered| Delivery { ordered, max_packet_life_time: Some(300), max_retransmits: None };
    for delivery in [Delivery::RELIABLE, lifetime(true), lifetime(false)] {
        let open = Dcep::Open(Open { delivery, label: "ü".to_owned(), protocol: String::new() });
        assert_eq!(Dcep::parse(&open.to_bytes()), Ok(open));
    }
    assert_eq!(Dcep::parse(&Dcep::Ack.to_bytes()), Ok(Dcep::Ack));
}

#[test]
fn what_is_cut_or_wrong_is_refused() {
    for length in 0..CHROMIUM.len() {
        assert!(Dcep::parse(&CHROMIUM[..length]).is_err(), "{length} bytes");
    }
    let mut unknown = CHROMIUM.to_vec();
    unknown[1] = 0x03;
    assert!(Dcep::parse(&unknown).is_err(), "no such channel type");
    let mut latin = CHROMIUM.to_vec();
    latin[12] = 0xfc;
    assert!(Dcep::parse(&latin).is_err(), "no UTF-8");
    let mut long = CHROMIUM.to_vec();
    long[4..8].fill(0xff);
    assert!(
        matches!(Dcep::parse(&long), Ok(Dcep::Open(open)) if open.delivery.max_retransmits == Some(65_535))
    );
}
