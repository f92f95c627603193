//! What is written is read back; what is malformed is refused; known bytes of others are understood.

use proptest::prelude::*;

use super::*;

fn one(bytes: &[u8]) -> Packet<'_> {
    let mut packets = Compound::new(bytes);
    let packet = packets.next().unwrap().unwrap();
    assert!(packets.next().is_none());
    packet
}

fn report(ssrc: u32) -> ReportBlock {
    ReportBlock {
        ssrc,
        fraction_lost: 25,
        lost: -3,
        highest: 70_000,
        jitter: 90,
        last_sr: 0x1234_5678,
        delay_since_last_sr: 65_536,
    }
}

#[test]
fn a_compound_comes_back() {
    let mut out = Vec::new();
    let info = SenderInfo { ntp: 0x0123_4567_89ab_cdef, rtp: 1, packets: 2, octets: 3 };
    write::sender_report(&mut out, 7, &info, &[report(1), report(2)]);
    write::cname(&mut out, 7, "somebody");
    write::picture_loss(&mut out, 7, 1);
    write::full_intra_request(&mut out, 7, 1, 200);
    write::goodbye(&mut out, &[7, 8]);
    assert_eq!(out.len() % 4, 0);
    let packets: Vec<_> = Compound::new(&out).map(Result::unwrap).collect();
    assert_eq!(packets.len(), 5);
    let Packet::SenderReport(sr) = packets[0] else { panic!("{packets:?}") };
    assert_eq!((sr.ssrc, sr.info), (7, info));
    assert_eq!(sr.reports.collect::<Vec<_>>(), [report(1), report(2)]);
    let Packet::SourceDescription(sdes) = packets[1] else { panic!("{packets:?}") };
    assert_eq!(sdes.cnames().collect::<Vec<_>>(), [(7, &b"somebody"[..])]);
    assert!(matches!(packets[2], Packet::PictureLoss { sender: 7, media: 1 }));
    let Packet::FullIntraRequest(fir) = packets[3] else { panic!("{packets:?}") };
    assert_eq!(fir.entries().collect::<Vec<_>>(), [FirEntry { ssrc: 1, number: 200 }]);
    let Packet::Goodbye(bye) = packets[4] else { panic!("{packets:?}") };
    assert_eq!(bye.ssrcs().collect::<Vec<_>>(), [7, 8]);
}

#[test]
fn cnames_of_each_length_and_of_several_sources() {
    for len in 0..=255 {
        let name = "x".repeat(len);
        let mut out = Vec::new();
        write::cname(&mut out, 9, &name);
        let Packet::SourceDescription(sdes) = one(&out) else { panic!() };
        assert_eq!(sdes.cnames().collect::<Vec<_>>(), [(9, name.as_bytes())]);
    }
    // Two chunks; the first has a NOTE before its CNAME, the second no CNAME at all.
    let two = [
        &[0x82, 202, 0, 6][..],
        &[0, 0, 0, 1, 7, 1, b'n', 1, 2, b'a', b'b', 0],
        &[0, 0, 0, 2, 6, 2, b't', b't', 0, 0, 0, 0],
    ]
    .concat();
    let Packet::SourceDescription(sdes) = one(&two) else { panic!() };
    assert_eq!(sdes.cnames().collect::<Vec<_>>(), [(1, &b"ab"[..])]);
}

#[test]
fn nack_packs_and_wraps() {
    let mut out = Vec::new();
    let lost = [65_530, 65_535, 3, 10, 11, 28, 29, 500];
    write::nack(&mut out, 1, 2, &lost);
    assert_eq!(out.len(), 12 + 4 * 4, "65530+.., 11+.., 28+.., 500");
    let Packet::Nack(nack) = one(&out) else { panic!() };
    assert_eq!((nack.sender, nack.media), (1, 2));
    assert_eq!(nack.lost().collect::<Vec<_>>(), lost);
}

#[test]
fn tmmbr_keeps_17_bits() {
    let mut out = Vec::new();
    write::max_bitrate_request(&mut out, 1, 500_000, &[5, 6]);
    assert_eq!(out[..4], [0x83, 205, 0, 6], "FMT 3 of transport feedback, seven words");
    let words: Vec<u32> =
        out[4..].chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect();
    let value = |word: u32| u64::from(word >> 9 & 0x1_ffff) << (word >> 26);
    assert_eq!((words[0], words[1], words[2], words[4]), (1, 0, 5, 6));
    assert_eq!((value(words[3]), value(words[5]), words[3] & 0x1ff), (500_000, 500_000, 0));
}

#[test]
fn remb_keeps_18_bits() {
    for (bitrate, read) in [(0, 0), (1, 1), (262_143, 262_143), (262_145, 262_144), (2_000_001, 2_000_000)] {
        let mut out = Vec::new();
        write::remb(&mut out, 1, bitrate, &[5, 6]);
        let Packet::Remb(remb) = one(&out) else { panic!() };
        assert_eq!((remb.sender, remb.bitrate), (1, read));
        assert_eq!(remb.ssrcs().collect::<Vec<_>>(), [5, 6]);
    }
    let mut out = Vec::new();
    write::remb(&mut out, 1, u64::MAX, &[]);
    let Packet::Remb(remb) = one(&out) else { panic!() };
    assert_eq!(remb.bitrate, 0x3_ffff << 46);
    // An exponent that shifts everything out is a very large number, not zero.
    out[17] |= 0xfc;
    let Packet::Remb(remb) = one(&out) else { panic!() };
    assert_eq!(remb.bitrate, u64::MAX);
}

/// A message of libwebrtc: base 1, seven packets, one run chunk of small deltas, padded.
#[test]
fn transport_feedback_of_another_stack() {
    let bytes = [
        0xaf, 0xcd, 0x00, 0x07, 0xfa, 0x17, 0xfa, 0x17, 0xfa, 0x17, 0xfa, 0x17, 0x00, 0x01, 0x00, 0x07, 0x00,
        0x00, 0x02, 0x05, 0x20, 0x07, 0x04, 0x08, 0x00, 0x01, 0x02, 0x03, 0x04, 0x00, 0x00, 0x03,
    ];
    let Packet::TransportFeedback(feedback) = one(&bytes) else { panic!() };
    assert_eq!((feedback.base, feedback.count, feedback.reference, feedback.number), (1, 7, 2, 5));
    let times: Vec<_> = feedback.arrivals().map(|arrival| arrival.time.unwrap() - 128_000).collect();
    assert_eq!(times, [1000, 3000, 3000, 3250, 3750, 4500, 5500]);
}

#[test]
fn transport_feedback_stops_where_a_delta_cannot_reach() {
    let arrivals = [(1, Some(0)), (2, Some(8_000_000)), (3, None), (4, Some(20_000_000))];
    let arrivals = arrivals.map(|(sequence, time)| Arrival { sequence, time });
    let mut out = Vec::new();
    assert_eq!(write::transport_feedback(&mut out, 1, 2, 3, &arrivals), 3);
    let Packet::TransportFeedback(feedback) = one(&out) else { panic!() };
    assert_eq!(feedback.arrivals().collect::<Vec<_>>(), arrivals[..3]);
    assert_eq!(write::transport_feedback(&mut out, 1, 2, 3, &[]), 0);
}

#[test]
fn malformed_packets_are_refused_and_what_came_before_is_kept() {
    let mut good = Vec::new();
    write::picture_loss(&mut good, 1, 2);
    let after = |bad: &[u8]| {
        let bytes = [&good[..], bad].concat();
        let results: Vec<_> = Compound::new(&bytes).collect();
        assert!(matches!(results[0], Ok(Packet::PictureLoss { .. })));
        assert_eq!(results.len(), 2);
        results[1].map(|_| ()).unwrap_err()
    };
    assert_eq!(after(&[0x81, 206]), RtcpError::Short);
    assert_eq!(after(&[0x81, 206, 0, 5, 0, 0, 0, 1]), RtcpError::Short);
    assert_eq!(after(&[0x41, 206, 0, 0]), RtcpError::Version);
    assert_eq!(after(&[0xa1, 206, 0, 1, 0, 0, 0, 9]), RtcpError::Padding);
    assert_eq!(after(&[0xa1, 206, 0, 1, 0, 0, 0, 0]), RtcpError::Padding);
    assert_eq!(after(&[0xa0, 206, 0, 0]), RtcpError::Padding);
    assert_eq!(after(&[0x82, 201, 0, 1, 0, 0, 0, 1]), RtcpError::Malformed(201));
    assert_eq!(after(&[0x84, 203, 0, 1, 0, 0, 0, 1]), RtcpError::Malformed(203));
    assert!(matches!(one(&[0x80, 207, 0, 0]), Packet::Other { packet_type: 207, format: 0 }));
}

#[test]
fn round_trip_time() {
    let report = ReportBlock { last_sr: 0x0002_8000, delay_since_last_sr: 0x8000, ..Default::default() };
    assert_eq!(report.round_trip(0x0003_4000 << 16), Some(250_000));
    assert_eq!(report.round_trip(0x0002_f000 << 16), Some(0), "clocks that disagree a little");
    assert_eq!(ReportBlock::default().round_trip(1 << 40), None);
}

proptest! {
    #[test]
    fn transport_feedback_comes_back(
        base: u16,
        start in 0i64..10_000_000_000,
        steps in prop::collection::vec(prop::option::weighted(0.8, prop_oneof![0i64..60_000, -50_000i64..3_000_000]), 1..300),
    ) {
        let mut time = start;
        let arrivals: Vec<_> = steps.iter().enumerate().map(|(n, step)| {
            let sequence = base.wrapping_add(n as u16);
            time += step.unwrap_or(0);
            Arrival { sequence, time: step.map(|_| time) }
        }).collect();
        let mut out = Vec::new();
        prop_assert_eq!(write::transport_feedback(&mut out, 1, 2, 3, &arrivals), arrivals.len());
        let Packet::TransportFeedback(feedback) = one(&out) else { panic!() };
        let read: Vec<_> = feedback.arrivals().collect();
        prop_assert_eq!(read.len(), arrivals.len());
        // The reference time has 24 bits; times are true to a delta's unit.
        let round = 64_000i64 << 24;
        for (read, sent) in read.iter().zip(&arrivals) {
            prop_assert_eq!(read.sequence, sent.sequence);
            prop_assert_eq!(read.time.is_some(), sent.time.is_some());
            if let (Some(read), Some(sent)) = (read.time, sent.time) {
                let error = (sent - read).rem_euclid(round);
                prop_assert!(error < 250, "{} read as {}", sent, read);
            }
        }
    }

    #[test]
    fn nack_comes_back(mut lost in prop::collection::btree_set(0u16..2000, 0..200)) {
        lost.insert(1);
        let lost: Vec<_> = lost.into_iter().collect();
        let mut out = Vec::new();
        write::nack(&mut out, 1, 2, &lost);
        let Packet::Nack(nack) = one(&out) else { panic!() };
        prop_assert_eq!(nack.lost().collect::<Vec<_>>(), lost);
    }
}
