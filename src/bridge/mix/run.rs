//! A mix on its lanes: drains them, keeps the 20 ms clock, and outlives no panic. No thread, no clock of its own: `io`
//! calls [`RunningMix::pass`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver as Commands, TryRecvError};
use std::time::{Duration, Instant};

use crate::bridge::jobs::Pass;
use crate::bridge::mix::mixer::{Mix, ticks_between};
use crate::bridge::mix::source::TICK;
use crate::core::convert::{DirectIn, DirectOut, MixCommand, MixJob};
use crate::core::lane::{Receiver, SendError, Sender};
use crate::core::time::{Epoch, MediaTime};

/// Ticks made up for after the thread was held up; more are left out.
const MAX_BEHIND: i64 = 10;

/// See the module.
pub struct RunningMix {
    room: String,
    epoch: Epoch,
    mix: Mix,
    input: Receiver<DirectOut>,
    output: Sender<DirectIn>,
    commands: Commands<MixCommand>,
    /// The tick made last.
    last: Option<MediaTime>,
    left_out: i64,
}

impl RunningMix {
    /// `mix` on the lanes of `job`.
    pub fn new(job: MixJob, mix: Mix) -> RunningMix {
        let MixJob { room, epoch, input, output, commands } = job;
        RunningMix { room, epoch, mix, input, output, commands, last: None, left_out: 0 }
    }

    /// Does what is due at `tick`, one of the moments 20 ms apart at which it is called, or more than one apart when
    /// the thread was held up. A panic inside ends this mix only.
    pub fn pass(&mut self, tick: Instant) -> Pass {
        let now = self.epoch.media_time(tick);
        let done = catch_unwind(AssertUnwindSafe(|| self.work(now)));
        let pass = done.unwrap_or_else(|_| {
            tracing::error!(room = self.room, "a mix broke an invariant of its own and is ended");
            Err("the mix broke".to_owned())
        });
        pass.unwrap_or_else(|reason| {
            tracing::warn!(room = self.room, "the mix failed: {reason}");
            // A lane that is full or closed has nobody to tell.
            drop(self.output.send(DirectIn::Failed(reason)));
            Pass::Ended
        })
    }

    fn work(&mut self, now: MediaTime) -> Result<Pass, String> {
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.mix.command(command),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(Pass::Ended),
            }
        }
        loop {
            match self.input.pop() {
                Ok(Some(DirectOut::Packet(packet))) => self.mix.packet(packet),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return Ok(Pass::Ended),
            }
        }
        let due = self.last.map_or(1, |last| ticks_between(last, now));
        if due <= 0 {
            return Ok(Pass::Idle);
        }
        let ticks = due.min(MAX_BEHIND);
        self.left_out += due - ticks;
        let first = match self.last {
            Some(last) => MediaTime::from_micros(last.as_micros() + (due - ticks + 1) * TICK),
            None => now,
        };
        let (output, mut closed) = (&self.output, false);
        for tick in 0..ticks {
            let at = first + Duration::from_micros((tick * TICK) as u64);
            self.mix.tick(at, &mut |value| {
                closed |= matches!(output.push(value), Err(SendError::Closed(_)));
            })?;
            self.last = Some(at);
        }
        self.output.wake();
        Ok(if closed { Pass::Ended } else { Pass::Idle })
    }
}

impl Drop for RunningMix {
    fn drop(&mut self) {
        let (room, left_out) = (&self.room, self.left_out);
        tracing::info!(room, left_out, rate = self.mix.rate(), "the mix ends");
    }
}
