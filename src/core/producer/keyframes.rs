//! When a stream's source is asked for a keyframe.

use std::time::Duration;

use crate::core::time::MediaTime;

/// When to ask the source for a keyframe: asked for by many receivers, asked once per window, and again
/// while none comes.
#[derive(Debug, Default)]
pub struct KeyframeRequests {
    wanted: bool,
    asked: Option<MediaTime>,
    unanswered: u32,
    deaf: bool,
}

/// Shortest time between two requests to one source.
const KEYFRAME_WINDOW: Duration = Duration::from_millis(500);
/// A keyframe that comes so soon after a request is its answer.
const ANSWER: i64 = 1_000_000;
/// Requests in a row without a keyframe after which the source counts as deaf (OBS ignores them all).
const DEAF_AFTER: u32 = 3;

impl KeyframeRequests {
    /// A receiver cannot go on without a keyframe.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether the source is to be asked now. Call again no later than [`KeyframeRequests::next`].
    pub fn take(&mut self, now: MediaTime) -> bool {
        let open = self.next().is_none_or(|at| now >= at);
        if !self.wanted || !open {
            return false;
        }
        self.asked = Some(now);
        self.unanswered += 1;
        self.deaf |= self.unanswered >= DEAF_AFTER;
        // Asked again while none comes, at a slower pace once the source seems deaf.
        self.wanted = self.unanswered < DEAF_AFTER;
        true
    }

    /// When the next request may go out.
    pub fn next(&self) -> Option<MediaTime> {
        self.asked.map(|asked| asked + KEYFRAME_WINDOW)
    }

    /// Whether a request waits for its window.
    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// When a request that waits may go out.
    pub fn due(&self) -> Option<MediaTime> {
        self.wanted.then(|| self.next().unwrap_or_default())
    }

    /// The source has ignored several requests in a row, and has followed none since.
    pub fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// A first request has brought nothing within its window.
    pub fn is_overdue(&self) -> bool {
        self.unanswered > 1
    }

    /// A keyframe came.
    pub(super) fn answered(&mut self, now: MediaTime) {
        let soon = self.asked.is_some_and(|asked| now.micros_since(asked) <= ANSWER);
        self.deaf &= self.unanswered == 0 || !soon;
        (self.wanted, self.unanswered) = (false, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyframe_requests_are_merged_and_retried() {
        let mut requests = KeyframeRequests::default();
        let at = MediaTime::from_millis;
        assert!(!requests.take(at(0)), "nobody asked");
        requests.want();
        requests.want();
        assert!(requests.take(at(0)));
        assert!(!requests.take(at(100)), "within the window");
        assert!(requests.take(at(500)), "none came: again");
        assert!(requests.is_overdue());
        requests.answered(at(600));
        assert!(!requests.take(at(1000)));
        for n in 2..10 {
            requests.want();
            assert_eq!(requests.is_deaf(), n >= 5);
            assert!(requests.take(at(n * 1000)));
        }
        requests.answered(at(15_000));
        assert!(requests.is_deaf(), "that one came by itself");
        requests.want();
        assert!(requests.take(at(16_000)));
        requests.answered(at(16_100));
        assert!(!requests.is_deaf());
    }
}
