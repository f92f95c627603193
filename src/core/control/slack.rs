//! What is kept after a crowd has left: tables keep the room they once needed, and the allocator keeps pages. When
//! most of what there was is gone for a while, both are given back.

use std::time::Duration;

use crate::core::control::rooms::Rooms;
use crate::core::control::state::{State, Timer};

/// Fewer entities than that are not worth it.
const CROWD: usize = 1_000;
/// How long it has to have been quiet.
const QUIET: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Default)]
pub(super) struct Slack {
    /// The most entities since something was given back.
    most: usize,
    /// A look is due.
    waits: bool,
    /// Pages can be given back.
    due: bool,
}

impl Rooms {
    /// Whether much was freed, so that the allocator should be asked to give it back; true once each time.
    pub fn take_slack(&self) -> bool {
        self.step(|state| std::mem::take(&mut state.slack.due))
    }
}

impl State {
    /// Looks whether most of what there was is gone.
    pub fn watch_slack(&mut self) {
        let now = self.dispatcher.subscriptions();
        self.slack.most = self.slack.most.max(now);
        if self.is_slack() && !self.slack.waits {
            self.slack.waits = true;
            self.timers.set(QUIET, Timer::Slack);
        }
    }

    /// It was quiet for a while.
    pub fn slack_over(&mut self) {
        self.slack.waits = false;
        if !self.is_slack() {
            return;
        }
        self.slack.most = self.dispatcher.subscriptions();
        self.slack.due = true;
        self.dispatcher.shrink();
        self.members.shrink_to_fit();
        self.owners.shrink_to_fit();
        self.controllers.shrink();
    }

    fn is_slack(&self) -> bool {
        self.slack.most >= CROWD && self.dispatcher.subscriptions() < self.slack.most / 2
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::core::control::RoomsConfig;
    use crate::core::control::state::Target;
    use crate::core::id::WorkerId;
    use crate::core::room::RoomName;
    use crate::core::time::Epoch;

    #[test]
    fn what_a_crowd_took_is_given_back_once_it_is_gone_for_a_while() {
        let now = Instant::now();
        let rooms = Rooms::new(RoomsConfig::default(), Epoch { instant: now, unix: Duration::ZERO }, None);
        let room = RoomName::new("r", &[]).expect("a name");
        let come = |many: u32| {
            rooms.step(|state| {
                (0..many)
                    .for_each(|id| state.dispatcher.subscribe(id, WorkerId(0), Target::Router(room.clone())));
            });
        };
        let go = |many: u32| rooms.step(|state| (0..many).for_each(|id| state.dispatcher.unsubscribe(id)));
        let later = |seconds: u64| {
            rooms.handle_time(now + Duration::from_secs(seconds));
            rooms.take_slack()
        };
        come(900);
        assert!(!later(0));
        go(900);
        assert!(!later(1) && !later(9), "that was no crowd");
        come(2_000);
        assert!(!later(10));
        go(1_500);
        assert!(!later(11), "they may come back at once");
        come(1_500);
        assert!(!later(20), "as they did");
        go(1_500);
        assert!(!later(21));
        assert!(later(24));
        assert!(!later(30), "once is enough");
    }
}
