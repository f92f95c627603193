use proptest::prelude::*;

use super::*;
use crate::core::payload::AccessUnit;

fn unit_of(nals: &[&[u8]]) -> Vec<u8> {
    let mut unit = Vec::new();
    nals.iter().for_each(|nal| push_nal(&mut unit, nal));
    unit
}

fn cut(unit: &[u8], max: usize) -> Vec<(Vec<u8>, bool, FrameFacts)> {
    let mut payloads = Vec::new();
    Packetizer::default().packetize(unit, max, &mut |payload, marker, facts| {
        payloads.push((payload.to_vec(), marker, facts));
    });
    payloads
}

fn slice(header: u8, length: usize) -> Vec<u8> {
    let mut nal: Vec<u8> = (0..length).map(|i| (i * 7 % 251) as u8 | 0x80).collect();
    nal[0] = header;
    nal
}

type Owned = (u32, Vec<u8>, bool, bool);

fn owned(unit: AccessUnit<'_>) -> Owned {
    (unit.timestamp, unit.data.to_vec(), unit.keyframe, unit.gap)
}

#[test]
fn a_large_slice_becomes_equal_pieces() {
    let unit = unit_of(&[&slice(0x41, 7001)]);
    let payloads = cut(&unit, 1200);
    let sizes: Vec<usize> = payloads.iter().map(|(payload, ..)| payload.len()).collect();
    assert_eq!(sizes, [1169, 1169, 1169, 1169, 1169, 1167]);
    assert!(payloads.iter().all(|(payload, marker, facts)| {
        nal_type(payload) == FU_A && facts.end == *marker && !facts.keyframe && !facts.discardable
    }));
    assert_eq!(
        payloads.iter().map(|(_, marker, _)| *marker).collect::<Vec<_>>(),
        [false, false, false, false, false, true]
    );
    assert_eq!(payloads.iter().filter(|(.., facts)| facts.start).count(), 1);
}

#[test]
fn parameter_sets_share_a_payload_in_front_of_the_keyframe() {
    let unit = unit_of(&[&[0x09, 0xf0], &[0x67, 0x42, 0xc0, 0x1f], &[0x68, 0xce], &slice(0x65, 3000)]);
    let payloads = cut(&unit, 1200);
    assert_eq!(payloads[0].0, [0x78, 0, 4, 0x67, 0x42, 0xc0, 0x1f, 0, 2, 0x68, 0xce]);
    assert_eq!(payloads.len(), 4);
    assert!(payloads.iter().all(|(.., facts)| facts.keyframe));
    assert!(inspect(&payloads[0].0, false).keyframe && inspect(&payloads[0].0, false).start);
    let idr = inspect(&payloads[1].0, false);
    assert!(idr.keyframe && idr.start);
    assert!(!inspect(&payloads[2].0, false).start);
}

#[test]
fn unreferenced_slices_are_discardable() {
    let unit = unit_of(&[&slice(0x01, 2000)]);
    assert!(is_discardable(&unit));
    assert!(
        cut(&unit, 1200)
            .iter()
            .all(|(payload, marker, facts)| { facts.discardable && inspect(payload, *marker).discardable })
    );
    assert!(!is_discardable(&unit_of(&[&slice(0x01, 20), &slice(0x41, 20)])));
    assert!(!inspect(&[0x06, 0x05, 0x01], false).discardable);
}

#[test]
fn a_lost_piece_takes_its_unit_and_no_other() {
    let units: Vec<Vec<u8>> = (0..4).map(|i| unit_of(&[&slice(0x41, 3000 + i)])).collect();
    let mut out: Vec<Owned> = Vec::new();
    let mut depacketizer = Depacketizer::default();
    let mut sequence = 65_533u16;
    for (index, unit) in units.iter().enumerate() {
        for (piece, (payload, marker, _)) in cut(unit, 1200).iter().enumerate() {
            sequence = sequence.wrapping_add(1);
            if (index, piece) != (1, 2) {
                let timestamp = index as u32 * 3000;
                depacketizer.push(sequence, timestamp, *marker, payload, &mut |unit| out.push(owned(unit)));
            }
        }
    }
    assert_eq!(
        out.iter().map(|(timestamp, .., gap)| (*timestamp, *gap)).collect::<Vec<_>>(),
        [(0, false), (6000, true), (9000, false)]
    );
    assert_eq!(out[1].1, units[2]);
}

#[test]
fn a_lost_first_piece_is_noticed_without_the_frame_before() {
    let unit = unit_of(&[&slice(0x41, 3000)]);
    let payloads = cut(&unit, 1200);
    let mut depacketizer = Depacketizer::default();
    let mut count = 0;
    depacketizer.push(0, 0, true, &[0x41, 0x80, 1], &mut |_| count += 1);
    for (index, (payload, marker, _)) in payloads.iter().enumerate().skip(1) {
        depacketizer.push(1 + index as u16, 3000, *marker, payload, &mut |_| count += 1);
    }
    assert_eq!(count, 1);
}

#[test]
fn units_without_markers_end_with_the_timestamp() {
    let mut out: Vec<Owned> = Vec::new();
    let mut depacketizer = Depacketizer::default();
    for index in 0..3u16 {
        let payload = slice(0x41, 10 + usize::from(index));
        depacketizer.push(index, u32::from(index), false, &payload, &mut |unit| out.push(owned(unit)));
    }
    assert_eq!(out.len(), 2);
    assert_eq!(out[1].1, unit_of(&[&slice(0x41, 11)]));
}

#[test]
fn annex_b_both_ways() {
    let stream = [0, 0, 0, 1, 0x09, 0xf0, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x65, 0x88, 0, 0, 3, 1, 0, 0];
    let mut unit = Vec::new();
    from_annex_b(&stream, &mut unit);
    assert_eq!(unit, unit_of(&[&[0x67, 1, 2], &[0x65, 0x88, 0, 0, 3, 1]]));
    let mut back = Vec::new();
    to_annex_b(&unit, &mut back);
    assert_eq!(back, [0, 0, 0, 1, 0x67, 1, 2, 0, 0, 0, 1, 0x65, 0x88, 0, 0, 3, 1]);
}

#[test]
fn slice_types() {
    // first_mb_in_slice 0, slice_type 6 (B): 1 00111 ...
    assert_eq!(slice_type(&[0x01, 0b1001_1100]), Some(SliceType::B));
    // slice_type 5 (P): 1 00110
    assert_eq!(slice_type(&[0x41, 0b1001_1000]), Some(SliceType::P));
    // slice_type 7 (I): 1 0001000
    assert_eq!(slice_type(&[0x65, 0b1000_1000]), Some(SliceType::I));
    assert_eq!(slice_type(&[0x67, 0xff]), None);
    assert!(has_b_slices(&unit_of(&[&[0x41, 0x98], &[0x01, 0x9c]])));
}

fn record(hex: &str) -> DecoderConfig {
    let bytes: Vec<u8> =
        (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[i * 2..i * 2 + 2], 16).unwrap()).collect();
    DecoderConfig::parse(&bytes).unwrap()
}

// avcC of three files that libx264 wrote.
const HIGH_1280X718: &str = "0164001fffe1001e6764001facd9405005bfac05a808080a000003000200000300781e30632c01000668ebe3cb22c0f\
    df8f800";
const BASELINE_640X360: &str =
    "0142c01effe1001d6742c01ed900a02ff97016a0202028000003000800000301e078b1724001000568cb83cb20";
const MAIN_1920X1080: &str =
    "014d4028ffe1001e674d4028eca03c0113f2e02d40404050000003001000000303c0f183196001000568ebe3cb20";

#[test]
fn parameter_sets_of_real_encoders() {
    let high = record(HIGH_1280X718);
    let sps = Sps::parse(&high.sps[0]).unwrap();
    assert_eq!((sps.profile, sps.width, sps.height, sps.poc_type), (100, 1280, 718, 0));
    assert_eq!(sps.max_reorder_frames, Some(2));
    assert_eq!(sps.colour, Some(Colour { full_range: false, matrix: 1 }));
    assert!(sps.may_reorder() && sps.frames_only);
    let base = record(BASELINE_640X360);
    let sps = Sps::parse(&base.sps[0]).unwrap();
    assert_eq!((sps.profile, sps.width, sps.height, sps.poc_type), (66, 640, 360, 2));
    assert!(!sps.may_reorder());
    assert_eq!(base.profile_level_id(), "42c01e");
    let sps = Sps::parse(&record(MAIN_1920X1080).sps[0]).unwrap();
    assert_eq!((sps.profile, sps.level, sps.width, sps.height), (77, 40, 1920, 1080));
}

#[test]
fn lengths_are_widened_and_bad_ones_refused() {
    let mut config = record(BASELINE_640X360);
    config.length_size = 2;
    let mut unit = Vec::new();
    assert!(config.widen(&[0, 2, 0x65, 0x88, 0, 1, 0x06], &mut unit));
    assert_eq!(unit, unit_of(&[&[0x65, 0x88], &[0x06]]));
    assert!(!config.widen(&[0, 9, 0x65], &mut unit));
    assert!(is_well_formed(&unit) && !is_well_formed(&unit[..unit.len() - 1]) && !is_well_formed(&[]));
}

proptest! {
    #[test]
    fn what_is_cut_comes_together_again(
        nals in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..4000), 1..12),
        max in 100usize..1400,
    ) {
        let nals: Vec<Vec<u8>> = nals.into_iter().map(|mut nal| { nal[0] = 0x41; nal }).collect();
        let unit = unit_of(&nals.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let payloads = cut(&unit, max);
        let mut out: Vec<Owned> = Vec::new();
        let mut depacketizer = Depacketizer::default();
        for (sequence, (payload, marker, _)) in payloads.iter().enumerate() {
            prop_assert!(payload.len() <= max);
            prop_assert_eq!(*marker, sequence + 1 == payloads.len());
            depacketizer.push(sequence as u16, 5, *marker, payload, &mut |unit| out.push(owned(unit)));
        }
        prop_assert_eq!(out.len(), 1);
        prop_assert_eq!(&out[0].1, &unit);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), marker: bool) {
        let mut depacketizer = Depacketizer::default();
        for sequence in 0..3 {
            depacketizer.push(sequence, 0, marker, &bytes, &mut |_| {});
        }
        let _ = (inspect(&bytes, marker), is_keyframe(&bytes), is_discardable(&bytes), Sps::parse(&bytes));
        let _ = (DecoderConfig::parse(&bytes), has_b_slices(&bytes));
        let mut sps = bytes.clone();
        sps.insert(0, NAL_SPS);
        let _ = Sps::parse(&sps);
        cut(&bytes, 100);
        let mut unit = Vec::new();
        from_annex_b(&bytes, &mut unit);
        prop_assert!(unit.is_empty() || is_well_formed(&unit));
    }
}
