//! The jitter buffer on a network moved by hand.

use super::{beside, sine};
use crate::bridge::mix::codec::Encoder;
use crate::bridge::mix::config::MixConfig;
use crate::bridge::mix::source::Source;
use crate::core::convert::Packet;
use crate::core::payload::Codec;
use crate::core::time::MediaTime;

/// What becomes of packet `n`: when it arrives after it was sent, in microseconds; `None`: never.
type Network = fn(u64) -> Option<i64>;

struct Call {
    codec: Codec,
    rate: u32,
    frequency: f32,
    /// The sender's clock runs faster by so many parts per million.
    ppm: f64,
    seconds: u64,
    network: Network,
}

struct Heard {
    samples: Vec<f32>,
    counts: crate::bridge::mix::source::Counts,
    /// Delay at each tick, in microseconds.
    delays: Vec<i64>,
}

impl Call {
    fn packets(&self) -> Vec<Packet> {
        let native = if self.codec == Codec::G722 { 16_000 } else { 48_000 };
        let native = if matches!(self.codec, Codec::Pcmu | Codec::Pcma) { 8_000 } else { native };
        let (payload_type, ticks) = if self.codec == Codec::Opus { (111, 960) } else { (0, 160) };
        let config = MixConfig { opus_complexity: 3, ..MixConfig::default() };
        let mut encoder = Encoder::new(self.codec, native, &config).expect("an encoder");
        let tone = sine(self.frequency, native, (native as u64 * self.seconds) as usize, 0.4);
        let mut packets = Vec::new();
        for (n, piece) in tone.chunks(native as usize / 50).enumerate() {
            let payload = encoder.encode(piece).expect("a packet");
            let n = n as u64;
            let sent = (n as f64 * 20_000.0 / (1.0 + self.ppm * 1e-6)) as i64;
            let Some(late) = (self.network)(n) else { continue };
            let arrival = MediaTime::from_micros(sent + 7_300 + late);
            let (sequence, timestamp) = (70_000 + n, 1_000_000 + n * ticks);
            packets.push(Packet {
                track: 1,
                sequence,
                timestamp,
                time: arrival,
                arrival,
                marker: n == 0,
                payload_type,
                level: None,
                payload,
            });
        }
        packets.sort_by_key(|packet| packet.arrival);
        packets
    }

    fn run(&self) -> Heard {
        let (payload_type, clock) = if self.codec == Codec::Opus { (111, 48_000) } else { (0, 8_000) };
        let config = MixConfig::default();
        let mut source =
            Source::new(self.codec, (payload_type, clock), self.rate, &config).expect("a source");
        let mut packets = self.packets().into_iter().peekable();
        let mut heard = Heard { samples: Vec::new(), counts: Default::default(), delays: Vec::new() };
        let mut frame = vec![0.0; self.rate as usize / 50];
        for tick in 0..self.seconds * 50 {
            let now = MediaTime::from_micros(tick as i64 * 20_000);
            while let Some(packet) = packets.next_if(|packet| packet.arrival <= now) {
                source.insert(packet);
            }
            heard.delays.extend(source.waited(now));
            source.pull(now, &mut frame);
            heard.samples.extend_from_slice(&frame);
        }
        heard.counts = source.counts;
        heard
    }
}

impl Heard {
    /// The samples from one second to another.
    fn between(&self, rate: u32, from: f32, to: f32) -> &[f32] {
        &self.samples[(rate as f32 * from) as usize..(rate as f32 * to) as usize]
    }

    fn mean_delay(&self) -> i64 {
        let last = &self.delays[self.delays.len() * 3 / 4..];
        last.iter().sum::<i64>() / last.len() as i64
    }
}

const STEADY: Call =
    Call { codec: Codec::Pcmu, rate: 8_000, frequency: 440.0, ppm: 0.0, seconds: 4, network: |_| Some(0) };

#[test]
fn a_steady_stream_comes_through_untouched_after_one_packet() {
    for (codec, rates) in
        [(Codec::Pcmu, [8_000, 48_000]), (Codec::G722, [8_000, 16_000]), (Codec::Opus, [16_000, 48_000])]
    {
        for rate in rates {
            let call = Call { codec, rate, ..STEADY };
            let heard = call.run();
            let noise = beside(heard.between(rate, 1.0, 4.0), 440.0, rate);
            assert!(noise < 0.004, "{codec:?} at {rate}: {noise}");
            assert_eq!((heard.counts.lost, heard.counts.late, heard.counts.starved), (0, 0, 0));
            assert!((20_000..26_000).contains(&heard.mean_delay()), "{}", heard.mean_delay());
        }
    }
}

#[test]
fn lost_packets_are_made_up_for() {
    for (codec, rate, limit) in [(Codec::Pcma, 8_000, 0.05), (Codec::Opus, 48_000, 0.4)] {
        // A pure tone is the hardest for libopus, which goes on in another phase.
        let call =
            Call { codec, rate, seconds: 8, network: |n| (n < 50 || n % 20 != 7).then_some(0), ..STEADY };
        let heard = call.run();
        let noise = beside(heard.between(rate, 1.5, 7.9), 440.0, rate);
        assert!(noise < limit, "{codec:?}: {noise}");
        assert_eq!(heard.counts.late, 0);
        assert!((15..=18).contains(&heard.counts.lost), "{}", heard.counts.lost);
    }
}

#[test]
fn a_long_loss_becomes_silence_and_sound_comes_back() {
    let call = Call { seconds: 6, network: |n| (!(100..150).contains(&n)).then_some(0), ..STEADY };
    let heard = call.run();
    let rate = call.rate;
    assert!(heard.between(rate, 2.3, 2.9).iter().all(|sample| *sample == 0.0));
    assert!(beside(heard.between(rate, 3.3, 6.0), 440.0, rate) < 0.004);
    let steepest = heard.samples.windows(2).fold(0.0f32, |most, w| most.max((w[1] - w[0]).abs()));
    assert!(steepest < 0.21, "{steepest}");
}

#[test]
fn packets_out_of_order_are_put_in_order() {
    let call = Call { network: |n| Some(if n % 10 == 3 { 25_000 } else { 0 }), seconds: 12, ..STEADY };
    let heard = call.run();
    assert!(beside(heard.between(8_000, 8.0, 12.0), 440.0, 8_000) < 0.01);
    let calm = heard.mean_delay();
    assert!((40_000..60_000).contains(&calm), "{calm}");
}

/// Something like chance, the same each time.
fn shake(n: u64, most: u64) -> i64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((z >> 33) % most) as i64
}

#[test]
fn jitter_is_waited_for_and_forgotten_again() {
    for (codec, rate) in [(Codec::Pcmu, 8_000), (Codec::Opus, 48_000)] {
        let network: Network = |n| Some(if (200..1_200).contains(&n) { shake(n, 60_000) } else { 0 });
        let call = Call { codec, rate, seconds: 60, network, ..STEADY };
        let heard = call.run();
        let shaken = &heard.delays[700..1_150];
        let mean = shaken.iter().sum::<i64>() / shaken.len() as i64;
        assert!((65_000..95_000).contains(&mean), "{mean}");
        let noise = beside(heard.between(rate, 15.0, 23.5), 440.0, rate);
        assert!(noise < 0.05, "{codec:?} shaken: {noise}");
        let noise = beside(heard.between(rate, 26.0, 40.0), 440.0, rate);
        assert!(noise < 0.03, "{codec:?} afterwards: {noise}");
        assert!(heard.mean_delay() < 35_000, "{}", heard.mean_delay());
    }
}

#[test]
fn a_drifting_clock_is_followed_without_a_click() {
    for (codec, rate) in [(Codec::Pcmu, 8_000), (Codec::Opus, 48_000)] {
        for ppm in [-200.0, 200.0] {
            let call = Call { codec, rate, ppm, seconds: 120, ..STEADY };
            let heard = call.run();
            let noise = beside(heard.between(rate, 1.0, 119.0), 440.0, rate);
            assert!(noise < 0.005, "{codec:?} {ppm}: {noise}");
            assert_eq!(
                (heard.counts.lost, heard.counts.late, heard.counts.starved),
                (0, 0, 0),
                "{codec:?} {ppm}"
            );
            assert!(
                heard.delays[50..].iter().all(|delay| (20_000..28_000).contains(delay)),
                "{codec:?} {ppm}"
            );
        }
    }
}

#[test]
fn comfort_noise_is_silence_and_no_loss() {
    let call = Call { seconds: 6, ..STEADY };
    let mut source = Source::new(Codec::Pcmu, (0, 8_000), 8_000, &MixConfig::default()).expect("a source");
    let mut packets = call.packets();
    // Noise is described once in 200 ms, by payload type 13.
    packets.retain(|packet| {
        let place = packet.timestamp - 1_000_000;
        !(100 * 160..200 * 160).contains(&place) || place.is_multiple_of(1_600)
    });
    for (n, packet) in packets.iter_mut().enumerate() {
        packet.sequence = 70_000 + n as u64;
        if (100 * 160..200 * 160).contains(&(packet.timestamp - 1_000_000)) {
            (packet.payload_type, packet.payload) = (13, vec![60]);
        }
    }
    let mut packets = packets.into_iter().peekable();
    let (mut samples, mut frame) = (Vec::new(), vec![0.0; 160]);
    for tick in 0..300 {
        let now = MediaTime::from_micros(tick * 20_000);
        while let Some(packet) = packets.next_if(|packet| packet.arrival <= now) {
            source.insert(packet);
        }
        source.pull(now, &mut frame);
        samples.extend_from_slice(&frame);
    }
    assert_eq!((source.counts.lost, source.counts.late), (0, 0));
    assert!(samples[2 * 8_000 + 2_000..4 * 8_000].iter().all(|sample| *sample == 0.0));
    assert!(beside(&samples[4 * 8_000 + 800..], 440.0, 8_000) < 0.004);
}

#[test]
fn a_silent_sender_is_no_loss() {
    let call = Call { seconds: 6, ..STEADY };
    let mut source = Source::new(Codec::Pcmu, (0, 8_000), 8_000, &MixConfig::default()).expect("a source");
    let mut packets = call.packets();
    // Sent as by a telephone with silence suppression: the sequence goes on, the time leaps.
    packets.retain(|packet| !(1_000_000 + 100 * 160..1_000_000 + 200 * 160).contains(&packet.timestamp));
    for packet in packets.iter_mut().skip(100) {
        packet.sequence -= 100;
    }
    let mut packets = packets.into_iter().peekable();
    let (mut samples, mut frame) = (Vec::new(), vec![0.0; 160]);
    for tick in 0..300 {
        let now = MediaTime::from_micros(tick * 20_000);
        while let Some(packet) = packets.next_if(|packet| packet.arrival <= now) {
            source.insert(packet);
        }
        source.pull(now, &mut frame);
        samples.extend_from_slice(&frame);
    }
    assert_eq!((source.counts.lost, source.counts.late), (0, 0));
    assert!(samples[2 * 8_000 + 2_000..4 * 8_000].iter().all(|sample| *sample == 0.0));
    assert!(beside(&samples[4 * 8_000 + 800..], 440.0, 8_000) < 0.004);
}

mod hostile {
    use proptest::prelude::*;

    use super::*;

    fn packet() -> impl Strategy<Value = Packet> {
        let number =
            prop_oneof![0..200u64, any::<u32>().prop_map(u64::from), any::<u64>().prop_map(|n| n >> 16)];
        let time = prop_oneof![4 => 0..4_000_000i64, 1 => -10_000_000..100_000_000i64];
        let payload = prop::collection::vec(any::<u8>(), 0..400);
        let kind = prop_oneof![4 => Just(111u8), 1 => prop::sample::select(vec![0u8, 8, 9, 13, 101])];
        (number.clone(), number, time, payload, kind, any::<Option<u8>>()).prop_map(
            |(sequence, timestamp, arrival, payload, payload_type, level)| Packet {
                track: 1,
                sequence,
                timestamp: timestamp.saturating_mul(160),
                time: MediaTime::from_micros(arrival),
                arrival: MediaTime::from_micros(arrival),
                marker: false,
                payload_type,
                level,
                payload,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn whatever_comes_20_ms_are_20_ms(
            mut packets in prop::collection::vec(packet(), 1..200),
            codec in prop::sample::select(vec![Codec::Opus, Codec::Pcmu, Codec::G722]),
            rate in prop::sample::select(vec![8_000u32, 16_000, 48_000]),
        ) {
            packets.sort_by_key(|packet| packet.arrival);
            let mut source = Source::new(codec, (111, 48_000), rate, &MixConfig::default()).expect("a source");
            let mut frame = vec![0.0; rate as usize / 50];
            let mut packets = packets.into_iter().peekable();
            for tick in 0..250 {
                let now = MediaTime::from_micros(tick * 20_000);
                while let Some(packet) = packets.next_if(|packet| packet.arrival <= now) {
                    source.insert(packet);
                }
                match tick % 50 {
                    40.. => source.skip(now, true),
                    _ => drop(source.pull(now, &mut frame)),
                }
                prop_assert!(frame.iter().all(|sample| sample.is_finite() && sample.abs() < 4.0));
                prop_assert!(source.ahead_of_time() < rate as usize, "no more is decoded than is needed");
            }
        }
    }
}
