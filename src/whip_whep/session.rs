//! Sessions by the secret in their URL, and the ICE state that their entity tags stand for.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::rand;

use super::Role;
use crate::core::auth::Principal;
use crate::core::id::TransportId;
use crate::core::room::RoomName;
use crate::webrtc::sdp::{LocalTransport, Negotiated};

/// Bytes of randomness in a session's URL; RFC 9725 §5 wants it unguessable.
const SECRET_BYTES: usize = 20;
/// Bytes of randomness in an entity tag, which only has to change.
const TAG_BYTES: usize = 6;

/// One publisher or viewer.
#[derive(Clone)]
pub(super) struct Session<M> {
    pub(super) member: M,
    pub(super) room: RoomName,
    pub(super) role: Role,
    pub(super) principal: Principal,
    pub(super) transport: TransportId,
    /// What was agreed; `remote_ice` is kept up to date.
    pub(super) negotiated: Negotiated,
    /// Our end; its ICE credentials are kept up to date.
    pub(super) local: LocalTransport,
    /// Entity tag of the ICE session, quotes included.
    pub(super) tag: String,
    /// An ICE restart is under way.
    pub(super) restarting: bool,
}

pub(super) struct Sessions<M> {
    max: usize,
    open: Mutex<HashMap<String, Session<M>>>,
}

impl<M: Clone> Sessions<M> {
    pub(super) fn new(max: usize) -> Self {
        Sessions { max, open: Mutex::default() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.lock().len() >= self.max
    }

    /// Keeps `session` and returns the secret of its URL; `None` when there are too many.
    pub(super) fn insert(&self, session: Session<M>) -> Option<String> {
        let secret = random_hex(SECRET_BYTES);
        let mut open = self.lock();
        if open.len() >= self.max {
            return None;
        }
        open.insert(secret.clone(), session);
        Some(secret)
    }

    /// The session of that URL.
    pub(super) fn get(&self, role: Role, room: &str, secret: &str) -> Option<Session<M>> {
        let open = self.lock();
        let session = open.get(secret)?;
        (session.role == role && session.room.as_str() == room).then(|| session.clone())
    }

    /// Forgets it; `false` when it was gone already.
    pub(super) fn remove(&self, secret: &str) -> bool {
        self.lock().remove(secret).is_some()
    }

    /// Changes it, if it is still there.
    pub(super) fn update<T>(&self, secret: &str, change: impl FnOnce(&mut Session<M>) -> T) -> Option<T> {
        self.lock().get_mut(secret).map(change)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session<M>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fresh strong entity tag, quotes included.
pub(super) fn new_tag() -> String {
    format!("\"{}\"", random_hex(TAG_BYTES))
}

fn random_hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    fill(&mut random);
    random.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn fill(bytes: &mut [u8]) {
    // It fails only where the system has no source of randomness, where nothing of ours may run.
    #[allow(clippy::expect_used)]
    rand::fill(bytes).expect("the system has randomness");
}
