//! The PIN before a room: the caller waits in a lobby of his own, where prompts are played to him.

use std::time::Duration;

use tracing::info;

use crate::core::control::RoomEvent;
use crate::sip::session::Ctx;
use crate::sip::session::call::{Alarm, Call};
use crate::sip::session::media::MediaAsk;

/// Time for the last prompt before the call ends.
const GOODBYE: Duration = Duration::from_secs(4);

/// A PIN to be entered.
pub struct Pin {
    rooms: Vec<(String, String)>,
    typed: String,
    tries: u32,
    asked: bool,
    /// No key counts any more.
    over: bool,
}

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pin").field("tries", &self.tries).finish_non_exhaustive()
    }
}

impl Pin {
    /// PINs and the rooms they open; None where there are none.
    pub fn new(rooms: Vec<(String, String)>) -> Option<Self> {
        let pin = Pin { rooms, typed: String::new(), tries: 0, asked: false, over: false };
        (!pin.rooms.is_empty()).then_some(pin)
    }

    /// Takes a key; the entry when it is complete: behind `#`, or when no PIN is longer.
    fn press(&mut self, key: char) -> Option<String> {
        let longest = self.rooms.iter().map(|(pin, _)| pin.len()).max().unwrap_or_default();
        match key {
            '#' => {}
            '*' => {
                self.typed.clear();
                return None;
            }
            key => {
                self.typed.push(key);
                if self.typed.len() < longest {
                    return None;
                }
            }
        }
        Some(std::mem::take(&mut self.typed)).filter(|typed| !typed.is_empty())
    }
}

impl Call {
    /// The caller is there: ask.
    pub(super) fn ask_pin(&mut self, ctx: &mut Ctx<'_>) {
        let Some(pin) = self.pin.as_mut().filter(|pin| !pin.asked) else { return };
        pin.asked = true;
        ctx.media(self.id, MediaAsk::Play { prompts: vec!["enter-pin"] });
        self.await_pin(ctx);
    }

    fn await_pin(&mut self, ctx: &mut Ctx<'_>) {
        let wait = Duration::from_secs(u64::from(self.settings.calls.pin_s.max(5)));
        self.set(Alarm::Pin, ctx.now + wait);
    }

    /// A key was pressed: part of a PIN, or something for those who watch.
    pub(super) fn key(&mut self, ctx: &mut Ctx<'_>, digit: char, duration_ms: u32) {
        let Some(pin) = &mut self.pin else {
            if let Some(conn) = self.conn {
                self.announce(ctx, RoomEvent::Dtmf { conn, digit, duration_ms });
            }
            return;
        };
        if pin.over {
            return;
        }
        let Some(typed) = pin.press(digit) else {
            self.await_pin(ctx);
            return;
        };
        let found = pin.rooms.iter().find(|(known, _)| *known == typed).map(|(_, room)| room.clone());
        match found {
            Some(room) => self.admit(ctx, room),
            None => self.wrong_pin(ctx),
        }
    }

    fn wrong_pin(&mut self, ctx: &mut Ctx<'_>) {
        let most = self.settings.calls.pin_tries.max(1);
        let Some(pin) = &mut self.pin else { return };
        pin.tries += 1;
        info!(call = %self.id, trunk = self.settings.trunk, tries = pin.tries, "a wrong PIN");
        if pin.tries < most {
            ctx.media(self.id, MediaAsk::Play { prompts: vec!["wrong-pin"] });
            self.await_pin(ctx);
            return;
        }
        pin.over = true;
        ctx.media(self.id, MediaAsk::Play { prompts: vec!["no-more-tries", "goodbye"] });
        self.set(Alarm::Pin, ctx.now + GOODBYE);
    }

    /// The PIN is right: out of the lobby, into the room. Keys on the way are nobody's.
    fn admit(&mut self, ctx: &mut Ctx<'_>, room: String) {
        self.clear(Alarm::Pin);
        if let Some(pin) = &mut self.pin {
            pin.over = true;
        }
        info!(call = %self.id, trunk = self.settings.trunk, room, "the PIN is right");
        ctx.media(self.id, MediaAsk::Move { room });
    }

    pub(super) fn pin_overdue(&mut self, ctx: &mut Ctx<'_>) {
        let over = self.pin.as_ref().is_some_and(|pin| pin.over);
        let text = if over { "too many wrong PINs" } else { "no PIN was entered" };
        self.hang_up(ctx, text, None);
    }
}
