//! The receiver's half of transport-wide congestion control: arrival times go back to the sender, whose
//! estimator does the rest (draft-holmer-rmcat-transport-wide-cc-extensions-01).

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::rtp::rtcp::{Arrival, write};
use crate::core::rtp::sequence::SequenceUnwrapper;
use crate::core::time::MediaTime;

/// Sequence numbers in one feedback packet, so that it fits a datagram.
const MAX_PER_PACKET: usize = 300;
/// Reported numbers remembered, so that one that comes late can be reported again.
const MAX_REPORTED: u64 = 256;
/// A gap wider than this is a new beginning.
const MAX_GAP: u64 = 4096;

/// Records arrivals of transport-wide sequence numbers and writes the feedback for the sender's estimator.
#[derive(Debug)]
pub struct TransportCcRecorder {
    interval: Duration,
    unwrapper: SequenceUnwrapper,
    /// Arrival times from `start` on.
    times: VecDeque<Option<i64>>,
    start: u64,
    /// First number not reported on.
    next: u64,
    due: Option<MediaTime>,
    number: u8,
    scratch: Vec<Arrival>,
}

impl TransportCcRecorder {
    /// Feedback is due every `interval` (50 to 100 ms) while packets come.
    pub fn new(interval: Duration) -> Self {
        TransportCcRecorder {
            interval,
            unwrapper: SequenceUnwrapper::new(),
            times: VecDeque::new(),
            start: 0,
            next: 0,
            due: None,
            number: 0,
            scratch: Vec::new(),
        }
    }

    /// Notes a packet.
    pub fn received(&mut self, now: MediaTime, sequence: u16) {
        let wire = sequence;
        let mut sequence = self.unwrapper.unwrap(wire);
        let end = self.start + self.times.len() as u64;
        if self.times.is_empty() || sequence > end + MAX_GAP || sequence + MAX_GAP < self.start {
            self.unwrapper.reset();
            sequence = self.unwrapper.unwrap(wire);
            self.times.clear();
            (self.start, self.next) = (sequence, sequence);
        }
        let Some(place) = sequence.checked_sub(self.start) else {
            return; // older than all we remember
        };
        let place = place as usize;
        if self.times.len() <= place {
            self.times.resize(place + 1, None);
        }
        let slot = &mut self.times[place];
        if slot.is_some() {
            return;
        }
        *slot = Some(now.as_micros());
        self.next = self.next.min(sequence);
        self.due.get_or_insert(now + self.interval);
    }

    /// When feedback is due; `None` while there is nothing to report.
    pub fn next_timeout(&self) -> Option<MediaTime> {
        self.due
    }

    /// Appends the feedback that is due at `now` to `out`, one or more RTCP packets; `false` when none is.
    pub fn poll(&mut self, now: MediaTime, sender: u32, media: u32, out: &mut Vec<u8>) -> bool {
        if self.due.is_none_or(|due| now < due) {
            return false;
        }
        self.due = None;
        let end = self.start + self.times.len() as u64;
        while self.next < end {
            let from = (self.next - self.start) as usize;
            self.scratch.clear();
            let times = self.times.range(from..).take(MAX_PER_PACKET).zip(self.next..);
            self.scratch
                .extend(times.map(|(time, sequence)| Arrival { sequence: sequence as u16, time: *time }));
            let taken = write::transport_feedback(out, sender, media, self.number, &self.scratch);
            self.number = self.number.wrapping_add(1);
            self.next += taken.max(1) as u64;
        }
        let old = (self.next - self.start).saturating_sub(MAX_REPORTED);
        self.times.drain(..old as usize);
        self.start += old;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rtp::rtcp::{Compound, Packet};

    fn ms(millis: i64) -> MediaTime {
        MediaTime::from_millis(millis)
    }

    fn feedback(recorder: &mut TransportCcRecorder, at: i64) -> Vec<(u16, Option<i64>)> {
        let mut out = Vec::new();
        assert_eq!(recorder.poll(ms(at), 1, 2, &mut out), !out.is_empty());
        let mut all = Vec::new();
        for packet in Compound::new(&out) {
            let Ok(Packet::TransportFeedback(feedback)) = packet else { panic!("{packet:?}") };
            assert_eq!((feedback.sender, feedback.media), (1, 2));
            all.extend(feedback.arrivals().map(|arrival| (arrival.sequence, arrival.time.map(|t| t / 1000))));
        }
        all
    }

    #[test]
    fn reports_what_came_and_what_did_not_across_the_wrap() {
        let mut recorder = TransportCcRecorder::new(Duration::from_millis(100));
        assert_eq!(recorder.next_timeout(), None);
        for (at, sequence) in [(0, 65_534), (1, 65_535), (3, 1), (4, 2)] {
            recorder.received(ms(at), sequence);
        }
        assert_eq!(recorder.next_timeout(), Some(ms(100)));
        assert_eq!(feedback(&mut recorder, 99), []);
        let expected = [(65_534, Some(0)), (65_535, Some(1)), (0, None), (1, Some(3)), (2, Some(4))];
        assert_eq!(feedback(&mut recorder, 100), expected);
        assert_eq!((recorder.next_timeout(), feedback(&mut recorder, 300)), (None, vec![]));
        // The one missed comes late: it and what follows are reported again, corrected.
        recorder.received(ms(310), 0);
        recorder.received(ms(311), 3);
        let expected = [(0, Some(310)), (1, Some(3)), (2, Some(4)), (3, Some(311))];
        assert_eq!(feedback(&mut recorder, 410), expected);
    }

    #[test]
    fn many_packets_become_several_messages_and_memory_stays_bounded() {
        let mut recorder = TransportCcRecorder::new(Duration::from_millis(100));
        for round in 0..20i64 {
            for n in 0..1000i64 {
                recorder.received(MediaTime(round * 100_000 + n * 90), (round * 1000 + n) as u16);
            }
            let all = feedback(&mut recorder, round * 100 + 100);
            assert_eq!(all.len(), 1000);
            assert_eq!(all[999].0, (round * 1000 + 999) as u16);
        }
        assert!(recorder.times.len() <= MAX_REPORTED as usize);
        // A sender that begins anew far away.
        recorder.received(ms(3000), 60_000);
        assert_eq!(feedback(&mut recorder, 3100), [(60_000, Some(3000))]);
    }
}
