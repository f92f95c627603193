//! Who is connected under which name: a client that connects again takes the place of its former connection,
//! which may not have noticed yet that it is dead.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::core::auth::Principal;
use crate::rooms::demux::Target;

/// Told to a connection that is taken over; dropped when it is out of the room.
pub(super) type TakenOver = oneshot::Sender<()>;

#[derive(Default)]
pub(super) struct Places(Mutex<Table>);

#[derive(Default)]
struct Table {
    places: HashMap<Target, Holder>,
    count: u64,
}

struct Holder {
    principal: Principal,
    number: u64,
    tell: oneshot::Sender<TakenOver>,
}

/// A connection's claim to its name.
pub(super) struct Claim {
    number: u64,
    taken: oneshot::Receiver<TakenOver>,
}

impl Places {
    /// Claims a place for a connection, and waits until its former holder, if it is the same party, is out. Where
    /// another party has it, the newcomer gets none: the room decides whether the name is free.
    pub async fn claim(&self, target: &Target, principal: &Principal) -> Option<Claim> {
        let (claim, former) = self.take(target, principal)?;
        if let Some(former) = former {
            let (told, out) = oneshot::channel();
            if former.tell.send(told).is_ok() {
                // It says nothing, it only drops its end.
                let _ = out.await;
            }
        }
        Some(claim)
    }

    fn take(&self, target: &Target, principal: &Principal) -> Option<(Claim, Option<Holder>)> {
        let mut table = self.lock();
        if table.places.get(target).is_some_and(|holder| holder.principal != *principal) {
            return None;
        }
        table.count += 1;
        let number = table.count;
        let (tell, taken) = oneshot::channel();
        let holder = Holder { principal: principal.clone(), number, tell };
        let former = table.places.insert(target.clone(), holder);
        Some((Claim { number, taken }, former))
    }

    /// Gives the place up, unless somebody has taken it over.
    pub fn release(&self, target: &Target, claim: &Claim) {
        let mut table = self.lock();
        if table.places.get(target).is_some_and(|holder| holder.number == claim.number) {
            table.places.remove(target);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Ready, once, when somebody takes the place over.
    pub fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<Option<TakenOver>> {
        Pin::new(&mut self.taken).poll(cx).map(Result::ok)
    }
}
