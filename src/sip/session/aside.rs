//! Requests of ours beside a call's media, whose answers matter little (BYE, INFO, NOTIFY, PRACK): sent with our
//! password where the other side wants one, once more if it asks only then.

use crate::sip::session::digest::{Account, Answerer};
use crate::sip::session::{ClientTx, Ctx, Destination};
use crate::sip::wire::{Request, Response};

/// Those without an answer.
#[derive(Debug, Default)]
pub struct Asides(Vec<Aside>);

#[derive(Debug)]
struct Aside {
    tx: ClientTx,
    request: Request,
    to: Destination,
}

/// Who answers challenges, with what.
type Passport<'a> = (&'a mut Answerer, Option<&'a Account>);

impl Asides {
    /// Sends a request.
    pub fn send(
        &mut self,
        ctx: &mut Ctx<'_>,
        mut request: Request,
        to: Destination,
        (answerer, account): Passport<'_>,
    ) -> ClientTx {
        if let Some(account) = account {
            answerer.sign(&mut request, account);
        }
        let tx = ctx.send(request.clone(), to.clone());
        self.0.push(Aside { tx, request, to });
        tx
    }

    /// Whether a transaction is one of these.
    pub fn has(&self, tx: ClientTx) -> bool {
        self.0.iter().any(|aside| aside.tx == tx)
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the answer to one. Some: it was a challenge, and this is the transaction that answers it. `seq` is the
    /// dialog's last number, where it goes on.
    pub fn answered(
        &mut self,
        ctx: &mut Ctx<'_>,
        tx: ClientTx,
        response: &Response,
        seq: Option<&mut u32>,
        (answerer, account): Passport<'_>,
    ) -> Option<ClientTx> {
        if response.status < 200 {
            return None;
        }
        let at = self.0.iter().position(|aside| aside.tx == tx)?;
        let mut aside = self.0.swap_remove(at);
        let account = account.filter(|_| matches!(response.status, 401 | 407))?;
        if !answerer.challenged(response) {
            return None;
        }
        let (number, method) = aside.request.headers.cseq()?;
        let next = seq.map_or(number.saturating_add(1), |last| {
            *last += 1;
            *last
        });
        aside.request.headers.set("CSeq", format!("{next} {method}"));
        Some(self.send(ctx, aside.request, aside.to, (answerer, Some(account))))
    }

    /// One had no answer at all.
    pub fn failed(&mut self, tx: ClientTx) {
        self.0.retain(|aside| aside.tx != tx);
    }
}
