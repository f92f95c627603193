//! What a viewer and a retransmission find in the store.

use proptest::prelude::*;

use super::*;

const MS: i64 = 1000;

fn meta(sequence: u64, frame: u64, flags: u8) -> PacketMeta {
    let time = MediaTime::from_millis(frame as i64 * 33);
    PacketMeta { sequence, timestamp: frame * 3000, time, arrival: time, flags, ..Default::default() }
}

fn push(store: &mut PacketStore, meta: PacketMeta, payload: &[u8]) -> u64 {
    store.push(meta, [(ExtensionKind::AudioLevel, &[0x12][..])], payload)
}

/// Frames of three packets, a keyframe each `group` frames.
fn film(store: &mut PacketStore, frames: std::ops::Range<u64>, group: u64, size: usize) {
    for frame in frames {
        for part in 0..3 {
            let mut flags = if frame % group == 0 { KEYFRAME } else { 0 };
            flags |= if part == 0 { FRAME_START } else { 0 };
            flags |= if part == 2 { FRAME_END } else { 0 };
            push(store, meta(frame * 3 + part, frame, flags), &vec![frame as u8; size]);
        }
        store.trim(MediaTime::from_millis(frame as i64 * 33));
    }
}

#[test]
fn gives_back_what_was_put_in() {
    let mut store = PacketStore::new(StoreLimits::VIDEO);
    let elements = [(ExtensionKind::AudioLevel, &[0x80][..]), (ExtensionKind::VideoOrientation, &[][..])];
    let given = PacketMeta { marker: true, payload_type: 96, codec: 3, ..meta(70_000, 4, FRAME_END) };
    let index = store.push(given, elements, b"payload");
    let stored = store.get(index).unwrap();
    assert_eq!((stored.meta, stored.payload), (given, &b"payload"[..]));
    assert_eq!(stored.extensions().collect::<Vec<_>>(), elements);
    assert_eq!(stored.extension(ExtensionKind::VideoOrientation), Some(&[][..]));
    assert_eq!(stored.extension(ExtensionKind::Mid), None);
    assert_eq!((store.tail(), store.head(), store.find(70_000), store.find(4464)), (0, 1, Some(0), None));
}

#[test]
fn a_flood_of_elements_is_cut() {
    let mut store = PacketStore::new(StoreLimits::VIDEO);
    let elements = std::iter::repeat_n((ExtensionKind::AudioLevel, &[1][..]), 40_000);
    let index = store.push(meta(1, 1, 0), elements, b"payload");
    let stored = store.get(index).unwrap();
    assert_eq!((stored.payload, stored.extensions().count()), (&b"payload"[..], 341));
}

#[test]
fn holds_the_current_group_and_lets_the_former_go() {
    let mut store = PacketStore::new(StoreLimits::VIDEO);
    film(&mut store, 0..290, 240, 1200);
    let start = store.keyframe().unwrap();
    assert_eq!(store.get(start).unwrap().meta.sequence, 720);
    assert_eq!(store.group_packets(), 150);
    assert_eq!(store.group_bytes(), 150 * 1200);
    // A second after the keyframe nothing older than it and than a second is left.
    assert!(store.tail() >= start - 1);
    film(&mut store, 290..479, 240, 1200);
    assert_eq!(store.group_packets(), 239 * 3, "the group is complete however old it is");
    assert!(store.memory() < 239 * 3 * 1200 + 600_000, "{}", store.memory());
}

#[test]
fn a_group_too_old_or_too_large_is_given_up() {
    let limits = StoreLimits { group_age: Duration::from_secs(2), ..StoreLimits::VIDEO };
    let mut store = PacketStore::new(limits);
    film(&mut store, 0..59, 1000, 1200);
    assert!(store.keyframe().is_some());
    film(&mut store, 59..100, 1000, 1200);
    assert_eq!((store.keyframe(), store.group_packets(), store.group_bytes()), (None, 0, 0));
    assert!(store.head() - store.tail() <= 31 * 3, "only the history stays");

    let limits = StoreLimits { max_bytes: 500_000, ..StoreLimits::VIDEO };
    let mut store = PacketStore::new(limits);
    film(&mut store, 0..200, 1000, 1200);
    assert_eq!(store.keyframe(), None);
    assert!(store.memory() < 500_000 + 5 * 65_536 + 200_000);
    film(&mut store, 200..1001, 1000, 1200);
    assert!(store.keyframe().is_some(), "the next keyframe begins anew");
}

#[test]
fn packets_are_bounded_whatever_comes() {
    let mut store = PacketStore::new(StoreLimits { max_packets: 100, ..StoreLimits::VIDEO });
    for sequence in 0..10_000 {
        push(&mut store, meta(sequence, 1, FRAME_START | KEYFRAME), b"");
    }
    assert_eq!(store.head() - store.tail(), 100);
    assert_eq!(store.find(9_950), Some(9_950));
    assert_eq!(store.find(9_850), None);
    assert!(store.get(9_899).is_none() && store.get(9_900).is_some());
}

#[test]
fn an_idle_store_gives_its_memory_back() {
    for limits in [StoreLimits::VIDEO, StoreLimits::AUDIO] {
        let mut store = PacketStore::new(limits);
        film(&mut store, 0..300, 30, 1000);
        assert!(store.memory() > 10_000);
        for step in 0..1000 {
            store.trim(MediaTime(10_000 * MS + step * 100 * MS));
        }
        assert_eq!((store.memory(), store.keyframe()), (0, None));
        let index = push(&mut store, meta(900, 9000, 0), b"again");
        assert_eq!(store.get(index).unwrap().payload, b"again");
        assert_eq!(store.find(900), Some(index));
    }
}

#[test]
fn an_audio_store_is_small() {
    let mut store = PacketStore::new(StoreLimits::AUDIO);
    for n in 0..5000u64 {
        let time = MediaTime::from_millis(n as i64 * 20);
        let meta = PacketMeta { sequence: n, timestamp: n * 960, arrival: time, flags: 7, ..meta(0, 0, 0) };
        push(&mut store, meta, &[1; 120]);
        store.trim(time);
    }
    assert!(store.memory() < 64 << 10, "{}", store.memory());
    assert_eq!(store.keyframe(), None);
}

#[test]
fn a_keyframe_shown_late_begins_at_its_first_packet() {
    let mut store = PacketStore::new(StoreLimits::VIDEO);
    push(&mut store, meta(1, 1, FRAME_START | FRAME_END), b"p");
    push(&mut store, meta(2, 2, FRAME_START), b"parameter sets");
    push(&mut store, meta(0, 0, FRAME_END), b"late, of another frame");
    assert_eq!(store.keyframe(), None);
    push(&mut store, meta(3, 2, KEYFRAME), b"picture");
    assert_eq!(store.keyframe(), Some(1));
    push(&mut store, meta(4, 2, KEYFRAME | FRAME_END), b"picture");
    assert_eq!(store.keyframe(), Some(1));
    // Without its first packet a keyframe is of no use to a newcomer.
    push(&mut store, meta(8, 3, KEYFRAME | FRAME_END), b"end of a keyframe");
    assert_eq!(store.keyframe(), Some(1));
    store.break_group();
    assert_eq!(store.keyframe(), None);
}

#[test]
fn a_late_packet_of_an_older_keyframe_does_not_move_the_group_back() {
    let mut store = PacketStore::new(StoreLimits::VIDEO);
    push(&mut store, meta(10, 10, FRAME_START | KEYFRAME), b"new");
    push(&mut store, meta(1, 1, FRAME_START | KEYFRAME), b"old");
    assert_eq!(store.keyframe(), Some(0));
}

#[test]
fn a_frame_split_about_equally_is_padded_to_one_length() {
    let mut store = PacketStore::new(StoreLimits::VIDEO);
    let sizes = [60, 1160, 1160, 1161, 1161, 900];
    for (number, size) in sizes.into_iter().enumerate() {
        push(&mut store, meta(100 + number as u64, 1, 0), &vec![1; size]);
    }
    let padding = |index| store.get(index).unwrap().padding;
    assert_eq!((0..6).map(padding).collect::<Vec<_>>(), [0, 1, 1, 0, 0, 0]);
    // Another frame, or a gap before the longer packet, is no reason to pad.
    push(&mut store, meta(106, 2, 0), &[1; 901]);
    push(&mut store, meta(108, 2, 0), &[1; 902]);
    assert_eq!((5..8).map(|index| store.get(index).unwrap().padding).collect::<Vec<_>>(), [0, 0, 0]);
}

proptest! {
    /// Whatever order sequence numbers come in, what is held is found under its own number and intact.
    #[test]
    fn finds_each_packet_it_holds(steps in prop::collection::vec((0u64..5000, 0usize..3000, 0i64..50), 1..400)) {
        let limits = StoreLimits { max_packets: 150, segment: 4096, ..StoreLimits::VIDEO };
        let mut store = PacketStore::new(limits);
        let mut model = Vec::new();
        let mut now = 0;
        for (sequence, size, wait) in steps {
            now += wait;
            let meta = PacketMeta { arrival: MediaTime::from_millis(now), ..meta(sequence, 0, 0) };
            let index = push(&mut store, meta, &vec![sequence as u8; size]);
            prop_assert_eq!(index, model.len() as u64);
            model.push((sequence, size));
            store.trim(MediaTime::from_millis(now));
        }
        for (index, (sequence, size)) in model.iter().enumerate() {
            let held = store.get(index as u64);
            prop_assert_eq!(held.is_some(), index as u64 >= store.tail());
            if let Some(held) = held {
                prop_assert_eq!(held.meta.sequence, *sequence);
                prop_assert_eq!(held.payload, &vec![*sequence as u8; *size][..]);
            }
        }
        if let Some((sequence, _)) = model.last() {
            prop_assert_eq!(store.find(*sequence), Some(model.len() as u64 - 1));
        }
    }
}
