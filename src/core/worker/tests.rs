//! The worker with a hand-moved clock.
