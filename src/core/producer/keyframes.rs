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
}

/// Shortest time between two requests to one source.
const KEYFRAME_WINDOW: Duration = Duration::from_millis(500);
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

    /// The source has ignored several requests in a row.
    pub fn is_deaf(&self) -> bool {
        self.unanswered >= DEAF_AFTER
    }

    pub(super) fn answered(&mut self) {
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
        requests.answered();
        assert!(!requests.take(at(1000)));
        for n in 2..10 {
            requests.want();
            assert_eq!(requests.is_deaf(), n >= 5);
            assert!(requests.take(at(n * 1000)));
        }
    }
}
