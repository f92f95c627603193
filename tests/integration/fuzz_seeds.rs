//! Replays every seed of the fuzz targets, and thousands of mutations of each, on every test run: the same
//! ones each time, so that a failure can be had again.

use std::fs;
use std::path::Path;

use viaduct::fuzzing::{TARGETS, Target};

/// Mutations of each seed: fewer of a long one, whose reading takes longer.
fn mutations(seed: &[u8]) -> usize {
    if seed.len() < 1000 { 2000 } else { 300 }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// One to four changes: bits, bytes, edge values, cuts, repeats, a piece of another seed.
fn mutated(seed: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(data.len());
        match random.below(8) {
            0 if !data.is_empty() => data[at] ^= 1 << random.below(8),
            1 if !data.is_empty() => data[at] = random.next() as u8,
            2 if !data.is_empty() => data[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            3 => data.truncate(at),
            4 => drop(data.drain(..at)),
            5 => {
                let piece = data[at..].to_vec();
                data.extend_from_slice(&piece);
            }
            6 => {
                let from = random.below(other.len());
                let to = from + random.below(other.len() - from);
                data.splice(at..at, other[from..to].iter().copied());
            }
            7 if data.len() >= at + 2 => data[at..at + 2].copy_from_slice(&[0xff, 0xff]),
            _ => data.push(random.next() as u8),
        }
        data.truncate(8192);
    }
    data
}

fn seeds(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let mut seeds: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable entry").path())
        .map(|path| (path.display().to_string(), fs::read(path).expect("a readable seed")))
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{name} has no seeds");
    seeds
}

/// Runs one input; a panic names the input, so that it can become a seed.
fn run(target: Target, data: &[u8], origin: &str) {
    if let Err(panic) = std::panic::catch_unwind(|| target(data)) {
        let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
        eprintln!("{origin}, as changed: {hex}");
        std::panic::resume_unwind(panic);
    }
}

fn replay(name: &str) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of this name");
    let seeds = seeds(name);
    run(*target, &[], "nothing");
    for (number, (origin, seed)) in seeds.iter().enumerate() {
        run(*target, seed, origin);
        let mut random = Random(number as u64);
        for _ in 0..mutations(seed) {
            let other = &seeds[random.below(seeds.len())].1;
            run(*target, &mutated(seed, other, &mut random), origin);
        }
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn every_target_is_replayed_and_has_its_binary() {
            let replayed = [$(stringify!($name)),*];
            assert_eq!(TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>(), replayed);
            let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/Cargo.toml");
            let manifest = fs::read_to_string(manifest).expect("the fuzz manifest");
            for name in replayed {
                assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} has no binary");
            }
        }
    };
}

targets! { amf0 control controller dcep dns dtls hello leg rooms rtcp rtmp_chunk rtmp_client rtp sctp sdp sip srtp stun }
