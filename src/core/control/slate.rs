//! A picture of ours for those who follow the program and can be shown none: nobody in the room shows one, or none in
//! a codec they take. It comes after a while only, so that a publisher whose sound came first flashes nothing up.

use tracing::info;

use crate::core::capabilities::Kind;
use crate::core::control::jobs::Conversion;
use crate::core::control::publish::same_codec;
use crate::core::control::state::{State, Timer};
use crate::core::convert::{Format, SlateJob};
use crate::core::id::{ConnId, ConsumerId, ProducerId};
use crate::core::mail::Mail;
use crate::core::peer::{Follows, Source};
use crate::core::room::{Blank, RoomName};

impl State {
    /// What a consumer of the program's picture gets while there is no picture for it; `None` for now, or where no
    /// slate can be made.
    pub fn slate_source(&mut self, conn: ConnId, consumer: ConsumerId) -> Option<Source> {
        let entry = self.members.get(&conn)?;
        let feed = entry.peer.feeds.iter().find(|feed| feed.consumer == consumer)?;
        let follows =
            feed.kind == Kind::Video && feed.follows == Follows::Program && entry.peer.watch.is_none();
        let (name, router, old) = (entry.room.clone(), feed.router, feed.source);
        let to = self.converter.as_ref().filter(|_| follows)?.slate(&feed.accepts)?;
        let after = self.config.slate_after_ms;
        let room = self.rooms.get_mut(&name)?;
        if room.program.is_none() || room.awaited.is_some() || after == 0 {
            return None;
        }
        if room.blank == Blank::No {
            room.blank = Blank::Waiting;
            self.timers.set(State::millis(after), Timer::Slate(name));
            return None;
        }
        if room.blank == Blank::Waiting {
            return None;
        }
        let (id, origin) = self.slate_job(&name, to)?;
        let home = self.jobs.get(id)?.output;
        let local = self.on_router_of_viewer(&name, router, home).ok()?;
        if old.is_none_or(|old| old.origin != origin) {
            info!(room = %name, %conn, "there is no picture for it: a slate is shown");
        }
        Some(Source { origin, job: Some(id), mix: None, home, local })
    }

    /// Somebody has seen nothing for long enough.
    pub fn slate_due(&mut self, name: &RoomName) {
        if let Some(room) = self.rooms.get_mut(name).filter(|room| room.blank == Blank::Waiting) {
            room.blank = Blank::Shown;
            self.refresh(name);
        }
    }

    /// A slate of a room was shown to nobody for a while.
    pub fn slate_over(&mut self, name: &RoomName, origin: ProducerId) {
        let last = self.jobs.of(origin).is_empty();
        if let Some(room) = self.rooms.get_mut(name).filter(|room| room.slate == Some(origin) && last) {
            room.blank = Blank::No;
        }
    }

    /// The room's slate in a format, made if it is not there, and what stands for its source.
    fn slate_job(&mut self, name: &RoomName, to: Format) -> Option<(u32, ProducerId)> {
        let origin = match self.rooms.get(name)?.slate {
            Some(origin) => origin,
            None => ProducerId(self.dispatcher.allocate()),
        };
        self.rooms.get_mut(name)?.slate = Some(origin);
        let wanted = |job: &Conversion| {
            same_codec(&job.to.codec, &to.codec) && job.to.codec.parameters == to.codec.parameters
        };
        let mut running = self.jobs.of(origin).iter().copied();
        if let Some(id) = running.find(|id| self.jobs.get(*id).is_some_and(wanted)) {
            return Some((id, origin));
        }
        if self.failures.contains_key(&origin) {
            return None;
        }
        let started = self.start_slate(name, origin, to);
        started
            .inspect_err(|text| info!(room = %name, "no slate is shown: {text}"))
            .ok()
            .map(|id| (id, origin))
    }

    fn start_slate(&mut self, name: &RoomName, origin: ProducerId, to: Format) -> Result<u32, String> {
        let (router, worker) = self.job_place(name).map_err(|refused| refused.text)?;
        let converter = self.converter.clone().ok_or("there is no converter")?;
        let (lanes, ends) = self.job_lanes(worker).map_err(|refused| refused.text)?;
        let (input, output) = ends;
        let job = SlateJob { room: name.to_string(), epoch: self.epoch, to: to.clone(), input, output };
        converter.show_slate(job).map_err(|refusal| refusal.to_string())?;
        let id = self.dispatcher.allocate();
        let mail = Mail::Direct { attach: id, input: lanes.0, output: lanes.1 };
        let mailbox = self.dispatcher.mail(worker).ok_or("the worker failed")?;
        mailbox.send(mail).map_err(|_| "the worker is overloaded")?;
        let job = Conversion::new((name.clone(), origin, to), (worker, router), None, || {
            self.dispatcher.allocate()
        });
        let conn = self.rooms.get(name).and_then(|room| room.program).ok_or("the room is closing")?;
        self.ask_for_output(id, &job, conn);
        self.jobs.insert(id, job);
        Ok(id)
    }
}
