//! Decoded sound on its way from the source's clock to frames of 20 ms at the encoder's rate: resampling, gaps, and
//! slow drift between the count of samples and the source's timestamps.
//!
//! Time is kept by counting samples from an anchor, so frames follow each other exactly; the source's timestamps
//! only correct it. A gap of up to a second is filled with silence. A slow drift is worked off by making a frame
//! from one sample more or fewer than it has, which nobody hears. Anything larger sets a new anchor.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Indexing, Resampler};

use crate::core::time::MediaTime;

/// Timestamps off by more are a gap or an overlap, not jitter of the sender's clock.
const GAP: i64 = 60_000;
/// Longest gap filled with silence; a longer one leaves a hole in the output's times.
const MAX_FILL: i64 = 1_000_000;
/// An overlap beyond this is a new timeline.
const MAX_OVERLAP: i64 = 2_000_000;
/// Drift is worked off from here ...
const DRIFT_HIGH: i64 = 2_000;
/// ... down to here.
const DRIFT_LOW: i64 = 300;
/// Source samples per channel and resampler call.
const CHUNK: usize = 1_024;
/// Samples over which sound fades at the edges of a gap.
const FADE: usize = 240;

/// Takes decoded samples, gives frames.
pub struct Pcm {
    rate_in: u32,
    rate_out: u32,
    channels: usize,
    resampler: Option<Fft<f32>>,
    /// Output samples of the resampler that are only its delay.
    trim: usize,
    /// Interleaved samples at the source's rate, waiting for a whole chunk.
    waiting: Vec<f32>,
    scratch: Vec<f32>,
    /// The source sample taken last, one of each channel.
    last: Vec<f32>,
    /// Interleaved samples at the output's rate.
    ready: Vec<f32>,
    /// Time of the first ready sample.
    next: Option<MediaTime>,
    /// Source samples taken and output samples made since the anchor.
    taken: u64,
    made: u64,
    drift: i64,
    correcting: bool,
    fade_in: usize,
}

impl Pcm {
    /// From `rate_in` to `rate_out` with `channels` interleaved channels; the text says why not.
    pub fn new(rate_in: u32, rate_out: u32, channels: usize) -> Result<Pcm, String> {
        let resampler = if rate_in == rate_out {
            None
        } else {
            let fixed = FixedSync::Input;
            let made = Fft::new(rate_in as usize, rate_out as usize, CHUNK, channels, fixed);
            Some(made.map_err(|error| format!("no resampler from {rate_in} to {rate_out} Hz: {error}"))?)
        };
        let mut pcm = Pcm {
            rate_in,
            rate_out,
            channels,
            resampler,
            trim: 0,
            waiting: Vec::new(),
            scratch: Vec::new(),
            last: vec![0.0; channels],
            ready: Vec::new(),
            next: None,
            taken: 0,
            made: 0,
            drift: 0,
            correcting: false,
            fade_in: 0,
        };
        pcm.anchor(None);
        Ok(pcm)
    }

    /// Begins anew at `time`; what was waiting is dropped.
    fn anchor(&mut self, time: Option<MediaTime>) {
        self.next = time;
        if let Some(resampler) = &mut self.resampler {
            resampler.reset();
            self.trim = resampler.output_delay();
        }
        self.waiting.clear();
        self.ready.clear();
        self.taken = 0;
        self.made = 0;
        self.drift = 0;
        self.correcting = false;
        self.fade_in = FADE;
    }

    /// The time at which the count of samples expects the next source sample.
    fn expected(&self) -> Option<MediaTime> {
        let ready = (self.ready.len() / self.channels) as i128 * 1_000_000 / i128::from(self.rate_out);
        let pending = i128::from(self.taken) * 1_000_000 / i128::from(self.rate_in)
            - i128::from(self.made) * 1_000_000 / i128::from(self.rate_out);
        Some(MediaTime::from_micros(self.next?.as_micros() + (ready + pending) as i64))
    }

    /// Takes interleaved `samples` that the source presents at `time`.
    pub fn push(&mut self, time: MediaTime, samples: &mut [f32]) -> Result<(), String> {
        let error = match self.expected() {
            Some(expected) => time.micros_since(expected),
            None => i64::MAX,
        };
        if !(-MAX_OVERLAP..=MAX_FILL).contains(&error) {
            self.anchor(Some(time));
        } else if error < -GAP {
            return Ok(());
        } else if error > GAP {
            self.fill(error)?;
        } else {
            self.drift += (error - self.drift) / 16;
        }
        self.begin_softly(samples);
        self.feed(samples)
    }

    /// Puts silence in place of a gap of `micros`, falling to it from the last sample without a step.
    fn fill(&mut self, micros: i64) -> Result<(), String> {
        let count = (micros * i64::from(self.rate_in) / 1_000_000) as usize;
        let mut silence = vec![0.0; count * self.channels];
        for (index, frame) in silence.chunks_exact_mut(self.channels).take(FADE).enumerate() {
            let gain = 1.0 - (index + 1) as f32 / FADE as f32;
            frame.iter_mut().zip(&self.last).for_each(|(sample, last)| *sample = last * gain);
        }
        self.drift = 0;
        self.fade_in = FADE;
        self.feed(&silence)
    }

    fn begin_softly(&mut self, samples: &mut [f32]) {
        for frame in samples.chunks_exact_mut(self.channels) {
            if self.fade_in == 0 {
                break;
            }
            let gain = 1.0 - self.fade_in as f32 / FADE as f32;
            frame.iter_mut().for_each(|sample| *sample *= gain);
            self.fade_in -= 1;
        }
    }

    fn feed(&mut self, samples: &[f32]) -> Result<(), String> {
        self.taken += (samples.len() / self.channels) as u64;
        if let Some(last) = samples.chunks_exact(self.channels).next_back() {
            self.last.copy_from_slice(last);
        }
        if self.resampler.is_none() {
            self.made += (samples.len() / self.channels) as u64;
            self.ready.extend_from_slice(samples);
            return Ok(());
        }
        self.waiting.extend_from_slice(samples);
        while self.waiting.len() >= CHUNK * self.channels {
            self.resample().map_err(|error| format!("the sound cannot be resampled: {error}"))?;
        }
        Ok(())
    }

    fn resample(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let Some(resampler) = &mut self.resampler else { return Ok(()) };
        let room = resampler.output_frames_max();
        self.scratch.resize(room * self.channels, 0.0);
        let input = InterleavedSlice::new(&self.waiting[..], self.channels, CHUNK)?;
        let mut output = InterleavedSlice::new_mut(&mut self.scratch[..], self.channels, room)?;
        let (read, written) = resampler.process_into_buffer(&input, &mut output, None::<&Indexing>)?;
        let skip = self.trim.min(written);
        self.trim -= skip;
        self.made += (written - skip) as u64;
        self.ready.extend_from_slice(&self.scratch[skip * self.channels..written * self.channels]);
        self.waiting.drain(..read * self.channels);
        Ok(())
    }

    /// The next 20 ms into `frame` and their time, when they are complete.
    pub fn pop(&mut self, frame: &mut Vec<f32>) -> Option<MediaTime> {
        let length = self.rate_out as usize / 50;
        let sample = 1_000_000 / i64::from(self.rate_out) + 1;
        self.correcting = self.drift.abs() > if self.correcting { DRIFT_LOW } else { DRIFT_HIGH };
        let take = match (self.correcting, self.drift > 0) {
            (false, _) => length,
            // The source's clock is ahead of the count: fewer samples have to last as long.
            (true, true) => length - 1,
            (true, false) => length + 1,
        };
        if self.ready.len() < (take + 1) * self.channels {
            return None;
        }
        if take < length {
            self.drift -= sample;
        } else if take > length {
            self.drift += sample;
        }
        frame.clear();
        for index in 0..length {
            let (at, fraction) = (index * take / length, (index * take % length) as f32 / length as f32);
            for channel in 0..self.channels {
                let here = self.ready[at * self.channels + channel];
                let there = self.ready[(at + 1) * self.channels + channel];
                frame.push(here + (there - here) * fraction);
            }
        }
        self.ready.drain(..take * self.channels);
        let time = self.next?;
        self.next = Some(MediaTime::from_micros(time.as_micros() + 20_000));
        Some(time)
    }
}
