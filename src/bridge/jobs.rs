//! A running conversion: drains its lane, converts, fills the other lane. No thread, no clock: `io` calls
//! [`RunningJob::pass`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::core::convert::{DirectIn, DirectOut, Job};
use crate::core::id::ConnId;
use crate::core::lane::{Receiver, SendError, Sender};

/// Where a conversion puts its output.
pub type Sink<'a> = &'a mut dyn FnMut(DirectIn);

/// A conversion as a value.
pub trait Convert: Send {
    /// Takes one input; `Err` is a sentence for people and ends the job.
    fn push(&mut self, input: DirectOut, sink: Sink<'_>) -> Result<(), String>;
    /// Output was lost: make a frame at which decoding can start, soon.
    fn resync(&mut self);
}

/// What a pass has left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pass {
    /// Nothing more to do until new input comes.
    Idle,
    /// More input waits.
    More,
    /// The job is over.
    Ended,
}

/// A job with its conversion.
pub struct RunningJob {
    conn: ConnId,
    what: &'static str,
    convert: Box<dyn Convert>,
    input: Receiver<DirectOut>,
    outlet: Outlet,
    taken: u64,
}

/// The output lane and what became of what was put into it.
struct Outlet {
    lane: Sender<DirectIn>,
    /// A frame was dropped: nothing goes out before a keyframe.
    broken: bool,
    pushed: bool,
    closed: bool,
    given: u64,
    dropped: u64,
}

impl Outlet {
    fn put(&mut self, output: DirectIn) {
        if let DirectIn::Frame(frame) = &output {
            if self.broken && !frame.keyframe {
                self.dropped += 1;
                return;
            }
            self.given += 1;
        }
        let is_frame = matches!(output, DirectIn::Frame(_));
        match self.lane.push(output) {
            Ok(()) => {
                self.pushed = true;
                self.broken &= !is_frame;
            }
            Err(SendError::Full(_)) => {
                self.broken |= is_frame;
                self.dropped += u64::from(is_frame);
                self.given -= u64::from(is_frame);
            }
            Err(SendError::Closed(_)) => self.closed = true,
        }
    }
}

impl RunningJob {
    /// `convert` on the lanes of `job`; `what` names it in the log.
    pub fn new(job: Job, what: &'static str, convert: Box<dyn Convert>) -> RunningJob {
        let outlet =
            Outlet { lane: job.output, broken: false, pushed: false, closed: false, given: 0, dropped: 0 };
        RunningJob { conn: job.conn, what, convert, input: job.input, outlet, taken: 0 }
    }

    /// Takes up to `limit` inputs. A panic inside ends this job only.
    pub fn pass(&mut self, limit: usize) -> Pass {
        let done = catch_unwind(AssertUnwindSafe(|| self.work(limit)));
        let pass = done.unwrap_or_else(|_| {
            tracing::warn!(conn = %self.conn, "{} broke on its input and was ended", self.what);
            Err(format!("{} broke on its input", self.what))
        });
        let pass = pass.unwrap_or_else(|reason| {
            tracing::info!(conn = %self.conn, "{} failed: {reason}", self.what);
            self.outlet.put(DirectIn::Failed(reason));
            Pass::Ended
        });
        if std::mem::take(&mut self.outlet.pushed) {
            self.outlet.lane.wake();
        }
        if pass == Pass::Ended { self.ended() } else { pass }
    }

    fn work(&mut self, limit: usize) -> Result<Pass, String> {
        for _ in 0..limit {
            let Ok(input) = self.input.pop() else { return Ok(Pass::Ended) };
            let Some(input) = input else { return Ok(Pass::Idle) };
            let outlet = &mut self.outlet;
            self.taken += u64::from(matches!(input, DirectOut::Frame { .. }));
            let was_broken = outlet.broken;
            self.convert.push(input, &mut |output| outlet.put(output))?;
            if outlet.closed {
                return Ok(Pass::Ended);
            }
            if outlet.broken && !was_broken {
                self.convert.resync();
            }
        }
        Ok(Pass::More)
    }

    fn ended(&self) -> Pass {
        let Outlet { given, dropped, .. } = self.outlet;
        let taken = self.taken;
        tracing::info!(
            conn = %self.conn,
            "{} ended: {taken} frames in, {given} out, {dropped} dropped because nobody took them in time",
            self.what
        );
        Pass::Ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::tests::{audio_format, conn, frame};
    use crate::core::lane::lane;

    struct Echo;

    impl Convert for Echo {
        fn push(&mut self, input: DirectOut, sink: Sink<'_>) -> Result<(), String> {
            if let DirectOut::Frame { frame, .. } = input {
                match frame.data.first() {
                    Some(0xff) => panic!("asked to"),
                    Some(0xfe) => return Err("no such frame".to_owned()),
                    _ => sink(DirectIn::Frame(frame)),
                }
            }
            Ok(())
        }
        fn resync(&mut self) {}
    }

    fn running(input: usize, output: usize) -> (RunningJob, Sender<DirectOut>, Receiver<DirectIn>) {
        let (to_job, input) = lane(input, None);
        let (output, from_job) = lane(output, None);
        let format = audio_format("audio/opus", &[]);
        let job = Job { conn: conn(), from: format.clone(), to: format, input, output };
        (RunningJob::new(job, "test", Box::new(Echo)), to_job, from_job)
    }

    fn send(lane: &Sender<DirectOut>, byte: u8, keyframe: bool) -> bool {
        let mut frame = frame(0, vec![byte]);
        frame.keyframe = keyframe;
        lane.push(DirectOut::Frame { frame, catchup: false }).is_ok()
    }

    #[test]
    fn a_panic_ends_the_job_and_says_so() {
        let (mut job, to_job, from_job) = running(4, 4);
        assert!(send(&to_job, 0xff, true));
        assert_eq!(job.pass(8), Pass::Ended);
        assert!(matches!(from_job.pop(), Ok(Some(DirectIn::Failed(reason))) if reason.contains("broke")));
    }

    #[test]
    fn an_error_ends_the_job_with_its_sentence() {
        let (mut job, to_job, from_job) = running(4, 4);
        assert!(send(&to_job, 0xfe, true));
        assert_eq!(job.pass(8), Pass::Ended);
        assert!(matches!(from_job.pop(), Ok(Some(DirectIn::Failed(reason))) if reason == "no such frame"));
    }

    #[test]
    fn after_a_full_lane_nothing_goes_out_before_a_keyframe() {
        let (mut job, to_job, from_job) = running(8, 1);
        assert!(send(&to_job, 1, true) && send(&to_job, 2, false));
        assert_eq!(job.pass(8), Pass::Idle);
        assert!(matches!(from_job.pop(), Ok(Some(DirectIn::Frame(frame))) if frame.data == [1]));
        assert!(send(&to_job, 3, false) && send(&to_job, 4, true));
        job.pass(8);
        assert!(matches!(from_job.pop(), Ok(Some(DirectIn::Frame(frame))) if frame.data == [4]));
    }

    #[test]
    fn a_full_input_lane_that_is_tried_again_loses_nothing() {
        let (mut job, to_job, from_job) = running(1, 4);
        assert!(send(&to_job, 1, true) && !send(&to_job, 2, false));
        assert_eq!(job.pass(8), Pass::Idle);
        assert!(send(&to_job, 2, false));
        assert_eq!(job.pass(8), Pass::Idle);
        for byte in [1, 2] {
            assert!(matches!(from_job.pop(), Ok(Some(DirectIn::Frame(frame))) if frame.data == [byte]));
        }
        drop(to_job);
        assert_eq!(job.pass(8), Pass::Ended);
    }
}
