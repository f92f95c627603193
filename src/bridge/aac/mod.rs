//! AAC-LC (ISO/IEC 14496-3 §4), two channels at 48 kHz: what every RTMP server takes. Long windows only, mid/side for a
//! whole frame where the sides are alike, a threshold for each band and a common step that meets the bit rate.
//!
//! Why our own: the libraries that encode AAC are large, slow or come under terms that we cannot pass on
//! (docs/dependencies.md). It is made for voices and mixes at 96 kbit/s and above, not to save bits.

mod bits;
mod mdct;
mod tables;

use bits::BitWriter;
use mdct::Mdct;
use tables::{BANDS, BOOK_2, BOOK_4, BOOK_6, BOOK_8, BOOK_10, BOOK_11, Code, SCALE};

/// Samples per second.
pub const RATE: u32 = 48_000;
/// Samples of a frame, for each channel.
pub const FRAME: usize = 1_024;
/// The AudioSpecificConfig: AAC-LC, 48 kHz, two channels.
pub const CONFIG_BYTES: [u8; 2] = [0x11, 0x90];
/// The same in hexadecimal, as RFC 3640 writes it.
pub const CONFIG: &str = "1190";
/// Samples by which what comes out of a decoder is late.
pub const DELAY: usize = FRAME;

/// Bands that are coded: up to 16.5 kHz.
const CODED: usize = 42;
/// Bits that frames may save up for harder ones, in frames.
const RESERVOIR: i64 = 4;
/// The largest quantised value.
const MAX_VALUE: f32 = 8_191.0;
/// Rounding that is best on average where small values are more frequent.
const ROUNDING: f32 = 0.4054;
/// A common step this much coarser than the thresholds ask for leaves nothing; in scale factors (1.5 dB).
const MAX_COARSER: i32 = 120;

/// See the module.
pub struct AacEncoder {
    mdct: Mdct,
    /// Interleaved samples that wait for a whole frame.
    waiting: Vec<f32>,
    /// The frame before, by channels.
    history: [Vec<f32>; 2],
    /// Bits for a frame, and bits that are saved.
    budget: i64,
    saved: i64,
    /// How much coarser than wanted the last frame was.
    coarser: i32,
}

/// One channel of a frame on its way.
struct Channel {
    spectrum: Vec<f32>,
    /// Magnitudes to the power of 3/4.
    powers: Vec<f32>,
    /// The scale factors that the thresholds ask for.
    wanted: Vec<i32>,
}

impl AacEncoder {
    /// An encoder of about `bitrate` bits a second.
    pub fn new(bitrate: u32) -> AacEncoder {
        let bitrate = i64::from(bitrate.clamp(32_000, 320_000));
        AacEncoder {
            mdct: Mdct::new(FRAME),
            waiting: Vec::new(),
            history: [vec![0.0; FRAME], vec![0.0; FRAME]],
            budget: bitrate * FRAME as i64 / i64::from(RATE),
            saved: 0,
            coarser: 0,
        }
    }

    /// Takes interleaved samples, two channels at [`RATE`].
    pub fn push(&mut self, samples: &[f32]) {
        self.waiting.extend_from_slice(samples);
    }

    /// Samples of each channel that wait for a whole frame.
    pub fn waiting(&self) -> usize {
        self.waiting.len() / 2
    }

    /// The next frame, if there are samples for one.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        if self.waiting.len() < 2 * FRAME {
            return None;
        }
        let block: Vec<f32> = self.waiting.drain(..2 * FRAME).collect();
        let mut spectra = [0, 1].map(|side| {
            let new: Vec<f32> = block.iter().skip(side).step_by(2).map(|sample| sample * 32_768.0).collect();
            let spectrum = self.mdct.forward(&self.history[side], &new);
            self.history[side] = new;
            spectrum
        });
        let alike = join(&mut spectra);
        let [left, right] = spectra.map(Channel::new);
        Some(self.fit(&[left, right], alike))
    }

    /// Forgets what went before.
    pub fn reset(&mut self) {
        self.waiting.clear();
        self.history.iter_mut().for_each(|side| side.fill(0.0));
        (self.saved, self.coarser) = (0, 0);
    }

    /// The finest common step with which the frame stays within its bits, but no finer than the thresholds ask for.
    fn fit(&mut self, channels: &[Channel; 2], alike: bool) -> Vec<u8> {
        let limit = self.budget + self.saved / 2;
        let fits = |frame: &BitWriter| frame.len() as i64 <= limit;
        let mut frame = write_frame(channels, alike, 0);
        let mut coarser = 0;
        if !fits(&frame) {
            // Frames are like those before them: it is sought from there.
            let (mut low, mut high) = (0, MAX_COARSER);
            let mut at = self.coarser.clamp(1, MAX_COARSER - 1);
            while high - low > 1 {
                let tried = write_frame(channels, alike, at);
                match fits(&tried) {
                    true => (high, frame, coarser) = (at, tried, at),
                    false => low = at,
                }
                at = if high == MAX_COARSER { (low + 8).min((low + high + 1) / 2) } else { (low + high) / 2 };
            }
            if coarser == 0 {
                frame = write_frame(channels, alike, MAX_COARSER);
            }
        }
        self.coarser = coarser;
        self.saved = (self.saved + self.budget - frame.len() as i64).clamp(0, RESERVOIR * self.budget);
        frame.finish()
    }
}

/// Makes mid and side of left and right where one of the two is far smaller; answers whether it did.
fn join([left, right]: &mut [Vec<f32>; 2]) -> bool {
    let energy = |values: &mut dyn Iterator<Item = f32>| values.map(|value| value * value).sum::<f32>();
    let pairs = || left.iter().zip(right.iter());
    let mid = energy(&mut pairs().map(|(l, r)| (l + r) * 0.5));
    let side = energy(&mut pairs().map(|(l, r)| (l - r) * 0.5));
    if mid.min(side) > 0.1 * mid.max(side) {
        return false;
    }
    for (l, r) in left.iter_mut().zip(right.iter_mut()) {
        (*l, *r) = ((*l + *r) * 0.5, (*l - *r) * 0.5);
    }
    true
}

fn band(number: usize) -> std::ops::Range<usize> {
    BANDS[number]..BANDS[number + 1]
}

impl Channel {
    fn new(spectrum: Vec<f32>) -> Channel {
        let powers = spectrum.iter().map(|value| value.abs().powf(0.75)).collect();
        let wanted = scale_factors(&spectrum);
        Channel { spectrum, powers, wanted }
    }

    /// The values of a band at a scale factor.
    fn quantise(&self, number: usize, scale: i32, out: &mut Vec<i32>) {
        let step = (-0.1875 * (scale - 100) as f32).exp2();
        let values = self.powers[band(number)].iter().zip(&self.spectrum[band(number)]);
        out.extend(values.map(|(power, value)| {
            let level = (power * step + ROUNDING).min(MAX_VALUE) as i32;
            if *value < 0.0 { -level } else { level }
        }));
    }
}

/// The scale factors at which each band's noise stays below what the band hides.
fn scale_factors(spectrum: &[f32]) -> Vec<i32> {
    let energies: Vec<f32> =
        (0..CODED).map(|number| spectrum[band(number)].iter().map(|value| value * value).sum()).collect();
    let mut hidden: Vec<f32> = (0..CODED).map(|number| energies[number] * ratio(number)).collect();
    // A loud band hides noise in its neighbours, above more than below.
    for number in 1..CODED {
        hidden[number] = hidden[number].max(hidden[number - 1] * 0.4);
    }
    for number in (0..CODED - 1).rev() {
        hidden[number] = hidden[number].max(hidden[number + 1] * 0.1);
    }
    let wanted = (0..CODED).map(|number| {
        let roots: f32 = spectrum[band(number)].iter().map(|value| value.abs().sqrt()).sum();
        let noise = hidden[number].max(quiet(number));
        // A value x is quantised in steps of 4/3 x^(1/4) d^(3/4), whose noise is a twelfth of their square.
        let step = (noise * 6.75 / roots.max(1e-9)).powf(2.0 / 3.0);
        let finest = spectrum[band(number)].iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let in_steps = |value: f32| 4.0 * (finest.max(1e-9) / value.powf(4.0 / 3.0)).log2();
        // Neither so fine that a value could not be written, nor coarser than leaves nothing.
        let (least, most) = (in_steps(MAX_VALUE).ceil(), in_steps(1.0 - ROUNDING).ceil());
        100 + (4.0 * step.max(1e-9).log2()).min(most).max(least).clamp(-100.0, 150.0) as i32
    });
    wanted.collect()
}

/// Noise to signal that is not heard: tones of the low bands hide less than the hiss of the high ones.
fn ratio(number: usize) -> f32 {
    let decibel = 30.0 - 16.0 * number as f32 / CODED as f32;
    10.0f32.powf(-decibel / 10.0)
}

/// The energy in a band below which nobody hears anything: a little less than the noise of 16 bit samples.
fn quiet(number: usize) -> f32 {
    // A sample of noise of one step has the energy of 1/12; a coefficient 4 * 1024 times that, halved by the window.
    band(number).len() as f32 * 170.0
}

/// The books: the largest value each takes, and whether signs stand beside.
const BOOKS: [(u8, i32); 6] = [(2, 1), (4, 2), (6, 4), (8, 7), (10, 12), (11, i32::MAX)];

/// raw_data_block (table 4.3) with one channel pair; all of it at scale factors `coarser` than wanted.
fn write_frame(channels: &[Channel; 2], alike: bool, coarser: i32) -> BitWriter {
    let mut out = BitWriter::default();
    // channel_pair_element, tag 0, common_window.
    out.put(1, 3);
    out.put(0, 4);
    out.put(1, 1);
    // ics_info: long window, sine, bands, no prediction.
    out.put(0, 4);
    out.put(CODED as u32, 6);
    out.put(0, 1);
    out.put(if alike { 2 } else { 0 }, 2);
    for channel in channels {
        write_channel(channel, coarser, &mut out);
    }
    // END.
    out.put(7, 3);
    out
}

/// individual_channel_stream (table 4.50).
fn write_channel(channel: &Channel, coarser: i32, out: &mut BitWriter) {
    let highest = channel.wanted.iter().copied().max().unwrap_or(100);
    let scale = |number: usize| {
        let wanted = channel.wanted.get(number).copied().unwrap_or(100);
        // No two may be further apart than the differences that can be said.
        (wanted.max(highest - 60) + coarser).clamp(0, 255)
    };
    let mut values = Vec::with_capacity(FRAME);
    let mut books = [0u8; CODED];
    for (number, book) in books.iter_mut().enumerate() {
        let start = values.len();
        channel.quantise(number, scale(number), &mut values);
        *book = best_book(&values[start..]);
    }
    let used = || (0..CODED).filter(|number| books[*number] != 0);
    let first = used().next().map_or(100, scale);
    out.put(first as u32, 8);
    write_sections(&books, out);
    let mut last = first;
    for number in used() {
        let (code, length) = SCALE[(scale(number) - last + 60) as usize];
        out.put(code, length);
        last = scale(number);
    }
    // No pulses, no temporal noise shaping, no gain control.
    out.put(0, 3);
    for (number, book) in books.iter().enumerate() {
        write_values(*book, &values[band(number)], out);
    }
}

/// section_data (table 4.52): runs of bands with the same book.
fn write_sections(books: &[u8; CODED], out: &mut BitWriter) {
    for run in books.chunk_by(|a, b| a == b) {
        out.put(u32::from(run[0]), 4);
        let mut left = run.len() as u32;
        while left >= 31 {
            out.put(31, 5);
            left -= 31;
        }
        out.put(left, 5);
    }
}

/// The book that takes the fewest bits for some values; 0 where all are nothing.
fn best_book(values: &[i32]) -> u8 {
    let most = values.iter().fold(0, |most, value| most.max(value.abs()));
    if most == 0 {
        return 0;
    }
    let fitting = BOOKS.iter().filter(|(_, limit)| most <= *limit).take(2);
    fitting.map(|(book, _)| *book).min_by_key(|book| cost(*book, values)).unwrap_or(11)
}

fn cost(book: u8, values: &[i32]) -> usize {
    let mut bits = BitWriter::counting();
    write_values(book, values, &mut bits);
    bits.len()
}

/// spectral_data (table 4.56) of one band.
fn write_values(book: u8, values: &[i32], out: &mut BitWriter) {
    let index = |values: &[i32], base: i32, shift: i32| {
        values.iter().fold(0, |index, value| index * base + value + shift) as usize
    };
    let code = |table: &[Code], at: usize, out: &mut BitWriter| {
        let (code, length) = table[at];
        out.put(code, length);
    };
    let signs = |values: &[i32], out: &mut BitWriter| {
        for value in values.iter().filter(|value| **value != 0) {
            out.put(u32::from(*value < 0), 1);
        }
    };
    match book {
        0 => {}
        2 => values.chunks_exact(4).for_each(|four| code(&BOOK_2, index(four, 3, 1), out)),
        4 => {
            for four in values.chunks_exact(4) {
                let sizes: [i32; 4] = std::array::from_fn(|at| four[at].abs());
                code(&BOOK_4, index(&sizes, 3, 0), out);
                signs(four, out);
            }
        }
        6 => values.chunks_exact(2).for_each(|two| code(&BOOK_6, index(two, 9, 4), out)),
        _ => {
            for two in values.chunks_exact(2) {
                let sizes: [i32; 2] = std::array::from_fn(|at| two[at].abs().min(16));
                match book {
                    8 => code(&BOOK_8, index(&sizes, 8, 0), out),
                    10 => code(&BOOK_10, index(&sizes, 13, 0), out),
                    _ => code(&BOOK_11, index(&sizes, 17, 0), out),
                }
                signs(two, out);
                if book == 11 {
                    two.iter()
                        .filter(|value| value.abs() >= 16)
                        .for_each(|value| write_escape(value.unsigned_abs(), out));
                }
            }
        }
    }
}

/// A value from 16 on (§4.6.3.3): its length beyond four bits in ones, then its bits below the highest.
fn write_escape(value: u32, out: &mut BitWriter) {
    let length = value.ilog2();
    out.put((1 << (length - 4)) - 1, (length - 4) as u8);
    out.put(0, 1);
    out.put(value - (1 << length), length as u8);
}

#[cfg(test)]
mod tests {
    use symphonia::core::audio::{Audio, GenericAudioBufferRef};
    use symphonia::core::codecs::audio::well_known::CODEC_ID_AAC;
    use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
    use symphonia::core::packet::PacketRef;
    use symphonia::core::units::{Duration, Timestamp};
    use symphonia::default::codecs::AacDecoder;

    use super::*;

    /// Encodes and decodes; answers the planes and the bits a second.
    fn through(left: &[f32], right: &[f32], bitrate: u32) -> ([Vec<f32>; 2], f64) {
        let mut encoder = AacEncoder::new(bitrate);
        let mut parameters = AudioCodecParameters::new();
        parameters.for_codec(CODEC_ID_AAC).with_extra_data(CONFIG_BYTES.to_vec().into_boxed_slice());
        let mut decoder =
            AacDecoder::try_new(&parameters, &AudioDecoderOptions::default()).expect("a decoder");
        let (mut planes, mut bytes) = ([Vec::new(), Vec::new()], 0);
        let samples: Vec<f32> = left.iter().zip(right).flat_map(|(l, r)| [*l, *r]).collect();
        for piece in samples.chunks(1_920) {
            encoder.push(piece);
            while let Some(frame) = encoder.pop() {
                bytes += frame.len();
                let packet = PacketRef::new(0, Timestamp::ZERO, Duration::ZERO, &frame);
                match decoder.decode_ref(&packet).expect("a frame that decodes") {
                    GenericAudioBufferRef::F32(buffer) => {
                        for (at, plane) in planes.iter_mut().enumerate() {
                            plane.extend_from_slice(buffer.plane(at).expect("two planes"));
                        }
                    }
                    _ => panic!("another format"),
                }
            }
        }
        (planes, bytes as f64 * 8.0 * f64::from(RATE) / left.len() as f64)
    }

    fn sine(hertz: f32, level: f32) -> Vec<f32> {
        (0..RATE * 2)
            .map(|at| level * (at as f32 * hertz * std::f32::consts::TAU / RATE as f32).sin())
            .collect()
    }

    /// Signal to noise in decibels, the decoder's delay and the beginning left out.
    fn quality(source: &[f32], decoded: &[f32]) -> f32 {
        let pairs = || source.iter().zip(&decoded[DELAY..]).skip(4 * FRAME);
        let signal: f32 = pairs().map(|(a, _)| a * a).sum();
        let noise: f32 = pairs().map(|(a, b)| (a - b) * (a - b)).sum();
        10.0 * (signal / noise.max(1e-12)).log10()
    }

    #[test]
    fn sines_come_out_as_they_went_in() {
        // High tones hide more noise than low ones.
        for (left, right, least) in [
            (440.0, 440.0, [24.0, 24.0]),
            (440.0, 1_000.0, [24.0, 20.0]),
            (100.0, 9_000.0, [24.0, 14.0]),
            (15_000.0, 3_000.0, [12.0, 18.0]),
        ] {
            let (left, right) = (sine(left, 0.5), sine(right, 0.25));
            let (planes, rate) = through(&left, &right, 128_000);
            let got = [quality(&left, &planes[0]), quality(&right, &planes[1])];
            assert!(got[0] > least[0] && got[1] > least[1], "{got:?} dB of {least:?}");
            assert!(rate < 130_000.0, "{rate} bit/s");
        }
    }

    #[test]
    fn both_sides_alike_cost_less_than_two() {
        let tone = sine(440.0, 0.5);
        let (planes, rate) = through(&tone, &tone, 128_000);
        assert!(quality(&tone, &planes[0]) > 24.0 && rate < 90_000.0, "{rate} bit/s");
    }

    #[test]
    fn noise_at_full_scale_stays_within_the_bit_rate() {
        let mut seed = 1u32;
        let mut noise = |level: f32| -> Vec<f32> {
            let mut next = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((seed >> 8) as f32 / (1 << 23) as f32 - 1.0) * level
            };
            (0..RATE * 2).map(|_| next()).collect()
        };
        for bitrate in [64_000, 128_000, 256_000] {
            let (left, right) = (noise(1.0), noise(1.0));
            let (_, rate) = through(&left, &right, bitrate);
            assert!((0.5..1.03).contains(&(rate / f64::from(bitrate))), "{rate} of {bitrate} bit/s");
        }
    }

    #[test]
    fn silence_costs_next_to_nothing_and_extremes_do_no_harm() {
        let silence = vec![0.0; RATE as usize];
        let (planes, rate) = through(&silence, &silence, 128_000);
        assert!(rate < 10_000.0 && planes[0].iter().all(|sample| sample.abs() < 1e-4), "{rate} bit/s");
        for level in [1e-30, 1e9, f32::INFINITY, f32::NAN] {
            let wild = vec![level; RATE as usize / 4];
            through(&wild, &silence, 96_000);
        }
    }

    #[test]
    fn large_values_are_written_with_their_escapes() {
        let mut out = BitWriter::default();
        write_escape(16, &mut out);
        write_escape(8_191, &mut out);
        // 0 0000; 11111111 0 111111111111.
        assert_eq!(out.finish(), [0b0000_0111, 0b1111_1011, 0b1111_1111, 0b1100_0000]);
    }
}
