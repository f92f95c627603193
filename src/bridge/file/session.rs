//! A file as a session: what the reading thread has laid ready goes out when its time has come. It can be held.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bridge::file::{Item, Opened, Sample};
use crate::core::capabilities::Kind;
use crate::core::payload::h264;
use crate::core::session::{Command, Ending, Event, Frame, Input, Output, Session};
use crate::core::time::{Epoch, MediaTime};

/// When the thread was held up for longer, the file goes on from now and does not hurry after the time lost.
const MAX_LAG: Duration = Duration::from_secs(1);
/// How often it is looked whether the reading thread has something again, or the hold is over.
const LOOK: Duration = Duration::from_millis(20);

/// Holds a player, or lets it go on.
#[derive(Clone, Debug, Default)]
pub struct Remote(Arc<AtomicBool>);

impl Remote {
    /// From now on, or no longer.
    pub fn hold(&self, held: bool) {
        self.0.store(held, Ordering::Relaxed);
    }

    fn holds(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// See the module.
pub struct FileSession {
    file: Opened,
    epoch: Epoch,
    remote: Remote,
    /// When the file's beginning would have been, as the next frame tells it.
    origin: Option<Instant>,
    next: Option<Sample>,
    held: Option<Instant>,
    look_at: Option<Instant>,
    output: VecDeque<Output>,
    frames: u64,
}

impl FileSession {
    /// Begins to play at `now`.
    pub fn new(file: Opened, epoch: Epoch, now: Instant, remote: Remote) -> FileSession {
        let output = file.tracks.iter().map(|track| Output::Event(Event::Track(track.clone()))).collect();
        let look_at = Some(now);
        FileSession { file, epoch, remote, origin: None, next: None, held: None, look_at, output, frames: 0 }
    }

    fn close(&mut self, reason: &str, ending: Ending) {
        if self.look_at.take().is_some() {
            self.next = None;
            self.output.push_back(Output::Event(Event::Closed { reason: reason.to_owned(), ending }));
        }
    }

    /// When the next frame is due, as far as one is there.
    fn due(&self) -> Option<Instant> {
        let (origin, next) = (self.origin?, self.next.as_ref()?);
        Some(origin + Duration::from_micros(u64::try_from(next.time).unwrap_or(0)))
    }

    /// Takes the next frame off the reading thread; `false`: there is none now.
    fn fetch(&mut self, now: Instant) -> bool {
        if self.next.is_some() {
            return true;
        }
        match self.file.items.try_recv() {
            Ok(Item::Sample(sample)) => {
                let time = Duration::from_micros(u64::try_from(sample.time).unwrap_or(0));
                // A file may begin later than at zero.
                let origin = *self.origin.get_or_insert_with(|| now.checked_sub(time).unwrap_or(now));
                self.next = Some(sample);
                if now.saturating_duration_since(origin + time) > MAX_LAG {
                    self.origin = now.checked_sub(time);
                }
                true
            }
            Err(TryRecvError::Empty) => false,
            Ok(Item::End) => {
                self.close("the file is at its end", Ending::Left);
                false
            }
            Ok(Item::Failed(error)) => {
                self.close(&error.to_string(), Ending::Error);
                false
            }
            Err(TryRecvError::Disconnected) => {
                self.close("the file cannot be read any more", Ending::Error);
                false
            }
        }
    }

    fn emit(&mut self, due: Instant) {
        let Some(Sample { track, keyframe, data, .. }) = self.next.take() else { return };
        let time = MediaTime::from_micros(self.epoch.media_time(due).as_micros());
        let video = self.file.tracks.iter().any(|known| known.id == track && known.kind == Kind::Video);
        let discardable = video && h264::is_discardable(&data);
        self.frames += 1;
        let frame = Frame { track, pts: time, dts: time, keyframe, discardable, data };
        self.output.push_back(Output::Event(Event::Frame(frame)));
    }
}

impl Session for FileSession {
    fn handle_input(&mut self, _now: Instant, _input: Input<'_>) {}

    fn command(&mut self, _now: Instant, command: Command) -> Result<Value, String> {
        match command {
            Command::Close { reason } => self.close(&reason, Ending::Closed),
            // Keyframes come as they stand in the file.
            Command::RequestKeyframe { .. } => {}
            _ => return Err("a file has no remote party".to_owned()),
        }
        Ok(Value::Null)
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.look_at.is_none() {
            return;
        }
        self.look_at = Some(now + LOOK);
        if self.remote.holds() {
            self.held.get_or_insert(now);
            return;
        }
        if let (Some(since), Some(origin)) = (self.held.take(), &mut self.origin) {
            *origin += now.saturating_duration_since(since);
        }
        while self.fetch(now) {
            let Some(due) = self.due() else { return };
            if due > now {
                // No later than the next look at the hold.
                self.look_at = Some(due.min(now + LOOK));
                return;
            }
            self.emit(due);
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.output.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.look_at
    }

    fn dump(&self) -> Value {
        json!({ "protocol": "file", "frames": self.frames, "held": self.held.is_some() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{SyncSender, sync_channel};

    use super::*;
    use crate::bridge::file::FileError;

    struct Lab {
        start: Instant,
        session: FileSession,
        items: SyncSender<Item>,
        remote: Remote,
    }

    impl Lab {
        fn new(times: &[i64]) -> Lab {
            let (items, receiver) = sync_channel(100);
            let (start, remote) = (Instant::now(), Remote::default());
            let epoch = Epoch { instant: start, unix: Duration::ZERO };
            let opened = Opened { tracks: Vec::new(), items: receiver };
            let session = FileSession::new(opened, epoch, start, remote.clone());
            let lab = Lab { start, session, items, remote };
            times.iter().for_each(|time| lab.give(*time));
            lab
        }

        fn give(&self, millis: i64) {
            let sample = Sample { track: 2, time: millis * 1_000, keyframe: true, data: vec![1] };
            self.items.send(Item::Sample(sample)).expect("a session");
        }

        /// Lets time pass up to `millis`; answers the times of what came out.
        fn until(&mut self, millis: u64) -> Vec<i64> {
            let end = self.start + Duration::from_millis(millis);
            let mut times = Vec::new();
            loop {
                while let Some(Output::Event(event)) = self.session.poll_output() {
                    match event {
                        Event::Frame(frame) => times.push(frame.pts.as_micros() / 1_000),
                        Event::Closed { .. } => times.push(-1),
                        _ => {}
                    }
                }
                match self.session.poll_timeout() {
                    Some(at) if at <= end => self.session.handle_timeout(at),
                    _ => return times,
                }
            }
        }
    }

    #[test]
    fn frames_go_out_at_their_time() {
        let mut lab = Lab::new(&[500, 520, 540, 1_000]);
        assert_eq!(lab.until(45), [0, 20, 40], "a file that begins late begins at once");
        assert_eq!(lab.until(600), [500]);
        lab.items.send(Item::End).expect("a session");
        assert_eq!(lab.until(700), [-1]);
        assert_eq!(lab.session.poll_timeout(), None);
    }

    #[test]
    fn a_hold_moves_what_follows() {
        let mut lab = Lab::new(&[0, 100, 200, 300]);
        assert_eq!(lab.until(150), [0, 100]);
        lab.remote.hold(true);
        assert_eq!(lab.until(5_000), [] as [i64; 0]);
        lab.remote.hold(false);
        let later = lab.until(6_000);
        assert_eq!(later.len(), 2);
        assert!((5_030..=5_090).contains(&later[0]) && later[1] == later[0] + 100, "{later:?}");
    }

    #[test]
    fn a_disk_that_was_slow_is_not_hurried_after() {
        let mut lab = Lab::new(&[0]);
        assert_eq!(lab.until(3_000), [0]);
        lab.give(20);
        lab.give(40);
        let late = lab.until(3_100);
        assert_eq!(late.len(), 2);
        assert!(late[0] >= 3_000 && late[1] == late[0] + 20, "{late:?}");
        lab.items.send(Item::Failed(FileError::NotFound)).expect("a session");
        assert_eq!(lab.until(3_200), [-1]);
    }
}
