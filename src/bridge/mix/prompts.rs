//! Recorded prompts by name: the built-in English set, or files of a folder in its place. Read once, kept for all rooms.

use std::collections::HashMap;
use std::sync::Arc;

use crate::bridge::mix::wav::Wav;

/// The built-in set; `prompts/make.sh` speaks it.
const BUILT_IN: &[(&str, &[u8])] = &[
    ("enter-pin", include_bytes!("prompts/enter-pin.wav")),
    ("wrong-pin", include_bytes!("prompts/wrong-pin.wav")),
    ("no-more-tries", include_bytes!("prompts/no-more-tries.wav")),
    ("joining", include_bytes!("prompts/joining.wav")),
    ("alone", include_bytes!("prompts/alone.wav")),
    ("room-full", include_bytes!("prompts/room-full.wav")),
    ("no-such-room", include_bytes!("prompts/no-such-room.wav")),
    ("please-hold", include_bytes!("prompts/please-hold.wav")),
    ("goodbye", include_bytes!("prompts/goodbye.wav")),
];

/// See the module.
#[derive(Clone, Default)]
pub struct Prompts {
    by_name: Arc<HashMap<String, Arc<Wav>>>,
    /// Music on hold.
    pub music: Option<Arc<Wav>>,
}

impl Prompts {
    /// The built-in set with `own` recordings before it.
    pub fn new(own: HashMap<String, Wav>, music: Option<Wav>) -> Prompts {
        let built_in =
            BUILT_IN.iter().filter_map(|(name, data)| Some(((*name).to_owned(), Wav::parse(data).ok()?)));
        let all = built_in.chain(own).map(|(name, wav)| (name, Arc::new(wav))).collect();
        Prompts { by_name: Arc::new(all), music: music.map(Arc::new) }
    }

    /// One by name.
    pub fn get(&self, name: &str) -> Option<Arc<Wav>> {
        self.by_name.get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_set_is_whole_and_can_be_replaced() {
        let own = HashMap::from([("goodbye".to_owned(), Wav { rate: 8_000, samples: vec![0.5] })]);
        let prompts = Prompts::new(own, None);
        for (name, _) in BUILT_IN {
            let wav = prompts.get(name).expect(name);
            let seconds = wav.samples.len() as f32 / wav.rate as f32;
            assert!(*name == "goodbye" || (0.3..6.0).contains(&seconds), "{name}: {seconds}");
        }
        assert_eq!(prompts.get("goodbye").expect("there").samples, [0.5]);
        assert!(prompts.get("nonsense").is_none());
    }
}
