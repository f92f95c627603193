//! From one mouth to another ear, for `--ear`: short tones are sent at known times by a telephone (G.711) and a browser
//! (Opus) of one mixed room, and looked for in what another telephone and another browser receive. What is measured is
//! what the server adds: from the packet that begins with a tone to the packet that brings its first sample, less how
//! deep in that packet it lies, and less what a browser's own encoder looks ahead.

use std::f64::consts::TAU;

use super::phone::to_ulaw;
use super::result::Delays;
use super::sdp::Local;

/// Frames between two tones of one party, and how long a tone is.
pub const EVERY: u64 = 16;
const TONE: f64 = 1000.0;
const LOUD: f64 = 9000.0;
/// From which amplitude on a sample belongs to a tone.
const HEARD: i16 = 2000;
/// Seconds of silence before a tone that counts.
const SILENCE: f64 = 0.06;
/// A tone that comes later than this is none of those that were sent last.
const LATEST: u64 = 150_000_000;
/// Samples of a frame, by rate: 20 ms.
const fn frame(rate: u32) -> usize {
    rate as usize / 50
}

/// Opus in our offers.
pub const OPUS: u8 = 111;

/// Who sends tones.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mouth {
    /// The telephone.
    Phone,
    /// The browser.
    Browser,
}

/// What one party says, frame by frame.
pub struct Voice {
    mouth: Mouth,
    frames: u64,
    encoder: Option<opus::Encoder>,
    /// Nanoseconds by which its encoder is behind.
    behind: u64,
}

impl Voice {
    /// A party's voice; the two take turns.
    pub fn new(mouth: Mouth) -> anyhow::Result<Self> {
        let mut encoder = match mouth {
            Mouth::Phone => None,
            Mouth::Browser => {
                Some(opus::Encoder::new(48_000, opus::Channels::Mono, opus::Application::Voip)?)
            }
        };
        let ahead = encoder.as_mut().map(|encoder| encoder.get_lookahead()).transpose()?.unwrap_or(0);
        Ok(Voice { mouth, frames: 0, encoder, behind: ahead.max(0) as u64 * 1_000_000_000 / 48_000 })
    }

    /// The next frame, and whether a tone begins in it: so many nanoseconds after its start.
    pub fn speak(&mut self) -> anyhow::Result<(Vec<u8>, Option<u64>)> {
        let turn = if self.mouth == Mouth::Phone { 0 } else { EVERY / 2 };
        let begins = self.frames % EVERY == turn;
        self.frames += 1;
        let rate = if self.encoder.is_some() { 48_000 } else { 8_000 };
        let loud = if begins { LOUD } else { 0.0 };
        // A sine of whole waves, begun at its crest: what is heard first is loud.
        let sample = |at: usize| (loud * (TAU * TONE * at as f64 / f64::from(rate)).cos()) as i16;
        let samples: Vec<i16> = (0..frame(rate)).map(sample).collect();
        let payload = match &mut self.encoder {
            Some(encoder) => encoder.encode_vec(&samples, 400)?,
            None => samples.into_iter().map(to_ulaw).collect(),
        };
        Ok((payload, begins.then_some(self.behind)))
    }
}

/// What one party hears: finds where tones begin.
pub struct Ear {
    rate: u32,
    quiet: usize,
}

impl Ear {
    /// Of sound with so many samples a second.
    pub fn new(rate: u32) -> Self {
        Ear { rate, quiet: 0 }
    }

    /// Takes the samples of a packet; answers how many nanoseconds after its start a tone begins.
    pub fn hear(&mut self, samples: &[i16]) -> Option<u64> {
        let mut found = None;
        for (at, sample) in samples.iter().enumerate() {
            if sample.saturating_abs() < HEARD {
                self.quiet += 1;
                continue;
            }
            if self.quiet as f64 > SILENCE * f64::from(self.rate) {
                found = Some(at as u64 * 1_000_000_000 / u64::from(self.rate));
            }
            self.quiet = 0;
        }
        found
    }
}

/// The tones of one room and when they were sent.
#[derive(Debug, Default)]
pub struct Tones(Vec<(Mouth, u64)>);

impl Tones {
    /// One was sent, at so many nanoseconds.
    pub fn sent(&mut self, mouth: Mouth, at: u64) {
        self.0.push((mouth, at));
    }

    /// How many of a party were sent.
    pub fn count(&self, mouth: Mouth) -> usize {
        self.0.iter().filter(|(of, _)| *of == mouth).count()
    }

    /// Whose tone was heard at a time, and how late.
    pub fn heard(&self, at: u64) -> Option<(Mouth, u64)> {
        let (mouth, sent) = self.0.iter().rev().find(|(_, sent)| *sent <= at)?;
        Some((*mouth, at - sent)).filter(|(_, late)| *late < LATEST)
    }
}

/// One way through the server.
#[derive(Debug, Default)]
pub struct Way {
    /// Tones that were sent.
    pub sent: usize,
    /// Delays of those that were heard.
    pub delays: Delays,
    /// How many those are.
    pub heard: usize,
}

/// An offer of a browser with nothing but sound.
pub fn offer(local: &Local<'_>) -> String {
    let direction = if local.ssrc.is_some() { "sendonly" } else { "recvonly" };
    let mut text = format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF {OPUS}\r\n\
         c=IN IP4 0.0.0.0\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:sha-256 {}\r\na=setup:active\r\na=mid:0\r\n\
         a={direction}\r\na=rtcp-mux\r\na=rtpmap:{OPUS} opus/48000/2\r\na=fmtp:{OPUS} minptime=10;useinbandfec=1\r\n",
        local.ufrag, local.pwd, local.fingerprint,
    );
    if let Some(ssrc) = local.ssrc {
        text.push_str(&format!("a=msid:ear ear\r\na=ssrc:{ssrc} cname:ear\r\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::phone::from_ulaw;

    #[test]
    fn a_tone_is_found_where_it_begins() {
        let mut voice = Voice::new(Mouth::Phone).expect("a voice");
        let mut ear = Ear::new(8000);
        let mut found = Vec::new();
        let mut held: Vec<i16> = vec![0; 560];
        for number in 0..40 {
            let (payload, begins) = voice.speak().expect("a frame");
            assert_eq!(begins, (number % 16 == 0).then_some(0));
            held.extend(payload.into_iter().map(from_ulaw));
        }
        // Packets that are cut elsewhere than the frames: 560 samples later, and 40 into a packet.
        for (number, packet) in held[40..].chunks(160).enumerate() {
            found.extend(ear.hear(packet).map(|after| (number, after)));
        }
        assert_eq!(found, [(3, 5_000_000), (19, 5_000_000), (35, 5_000_000)]);
    }

    #[test]
    fn a_browsers_tone_comes_out_where_its_encoder_says() {
        let mut voice = Voice::new(Mouth::Browser).expect("a voice");
        let mut decoder = opus::Decoder::new(48_000, opus::Channels::Mono).expect("a decoder");
        let mut ear = Ear::new(48_000);
        let (mut begun, mut found) = (Vec::new(), Vec::new());
        for number in 0..40u64 {
            let (payload, begins) = voice.speak().expect("a frame");
            begun.extend(begins.map(|behind| number * 20_000_000 + behind));
            let mut samples = [0; 960];
            assert_eq!(decoder.decode(&payload, &mut samples, false).expect("sound"), 960);
            found.extend(ear.hear(&samples).map(|after| number * 20_000_000 + after));
        }
        assert_eq!((begun.len(), found.len()), (2, 2));
        for (begun, found) in begun.iter().zip(&found) {
            assert!(begun.abs_diff(*found) < 2_000_000, "{begun} {found}");
        }
    }

    #[test]
    fn tones_are_told_apart_by_when_they_were_sent() {
        let mut tones = Tones::default();
        tones.sent(Mouth::Phone, 1_000_000_000);
        tones.sent(Mouth::Browser, 1_160_000_000);
        assert_eq!(tones.heard(1_030_000_000), Some((Mouth::Phone, 30_000_000)));
        assert_eq!(tones.heard(1_200_000_000), Some((Mouth::Browser, 40_000_000)));
        assert_eq!((tones.heard(1_400_000_000), tones.heard(5)), (None, None));
        assert_eq!(tones.count(Mouth::Phone), 1);
    }
}
