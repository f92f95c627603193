//! Telephone calls as the control protocol knows them: how somebody is called into a room, what may be asked of a
//! call, and what its room is told of it.
//!
//! A door that can call (SIP) is the [`Calls`] of the rooms; HTTP and controllers reach it by
//! [`Rooms::calls`](crate::core::control::Rooms::calls). Who asks has been authorised for the room before; whether
//! that number may be called at all is the door's own affair.

use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

use crate::core::auth::Principal;
use crate::core::id::{ConnId, SessionId};

/// An answer that takes time.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whoever carries telephone calls.
pub trait Calls: Send + Sync {
    /// Calls one or several numbers into a room; the first that answers has the call. Resolves as soon as the call
    /// is under way: what comes of it is announced in the room.
    fn dial<'a>(&'a self, who: &'a Principal, dial: Dial) -> Asked<'a, Result<SessionId, CallError>>;
    /// Ends a call, whatever its state; `text` says why.
    fn hang_up<'a>(&'a self, call: SessionId, text: &'a str) -> Asked<'a, Result<(), CallError>>;
    /// Puts a call on hold, or takes it back.
    fn hold(&self, call: SessionId, held: bool) -> Asked<'_, Result<(), CallError>>;
    /// Sends keys to the other side: `0`-`9`, `*`, `#`, `A`-`D`, `,` for a pause.
    fn send_dtmf<'a>(&'a self, call: SessionId, digits: &'a str) -> Asked<'a, Result<(), CallError>>;
    /// Asks the other side to call somebody else instead, if a rule allows `who` that.
    fn transfer<'a>(
        &'a self,
        who: &'a Principal,
        call: SessionId,
        number: &'a str,
    ) -> Asked<'a, Result<(), CallError>>;
    /// Every call there is.
    fn list(&self) -> Asked<'_, Vec<CallInfo>>;
}

/// A call out that is wanted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Dial {
    /// Into which room; its name is checked as any room's is.
    pub room: String,
    /// Whom: numbers, `sip:` URIs or names of registered users, all rung at once.
    #[serde(alias = "number", deserialize_with = "one_or_more")]
    pub numbers: Vec<String>,
    /// By which trunk, where the rules shall not choose it.
    #[serde(default)]
    pub trunk: Option<String>,
    /// The caller's number to show, where rule and trunk leave it open.
    #[serde(default)]
    pub caller_id: Option<String>,
    /// Seconds it may ring. Default by configuration.
    #[serde(default)]
    pub ring_s: Option<u32>,
    /// What the room hears until somebody answers.
    #[serde(default)]
    pub play: Meanwhile,
}

impl Dial {
    /// A call of one number into a room, with everything else as usual.
    pub fn new(room: &str, number: &str) -> Self {
        Dial {
            room: room.to_owned(),
            numbers: vec![number.to_owned()],
            trunk: None,
            caller_id: None,
            ring_s: None,
            play: Meanwhile::default(),
        }
    }
}

/// What a room hears while a number in it is being called.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Meanwhile {
    /// The ringing tone, from the moment it rings there until sound comes from there.
    #[default]
    Ringback,
    /// Nothing.
    Nothing,
    /// Music on hold.
    Hold,
    /// A recorded prompt, by name.
    Prompt(String),
}

/// Which way a call came to be.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// They called.
    In,
    /// We called.
    Out,
}

/// Where a call has got to.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CallState {
    /// The other side is being called.
    Calling,
    /// It rings there.
    Ringing,
    /// Sound comes from there before the answer.
    Early,
    /// Both talk.
    Answered,
    /// The other side put the call on hold.
    Held,
    /// It took the call back.
    Resumed,
    /// The other side is being moved elsewhere, or asked that somebody be called; the code says how far.
    Transfer,
    /// It went to another room of ours, where it goes on as it was.
    Moved,
    /// It was never answered: the code and the text say why.
    Failed,
    /// It is over.
    Ended,
}

/// Something happened in a call of a room.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct CallEvent {
    /// Which call.
    pub call: SessionId,
    /// The member it is in the room, once it is one.
    pub conn: Option<ConnId>,
    /// Which way it came to be.
    pub direction: Direction,
    /// The trunk, or `phones`, or `anyone`.
    pub trunk: String,
    /// The other side's number, as far as everybody in the room may see it.
    pub number: String,
    /// Where it has got to.
    pub state: CallState,
    /// SIP status that brought it there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// The same for people.
    pub text: String,
}

/// A call as a list shows it to those who may order calls in its room.
#[derive(Clone, Debug, Serialize)]
pub struct CallInfo {
    /// Which.
    pub id: SessionId,
    /// The member it is in the room, once it is one.
    pub conn: Option<ConnId>,
    /// Which way it came to be.
    pub direction: Direction,
    /// `setup`, `active`, `held`, `ending`.
    pub state: &'static str,
    /// The room it is in, or on its way to.
    pub room: String,
    /// The trunk, or `phones`, or `anyone`.
    pub trunk: String,
    /// The other side's number.
    pub number: String,
    /// Codec of its sound.
    pub codec: Option<String>,
    /// Seconds since it was answered.
    pub seconds: u64,
}

/// Why something asked of a call was not done.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CallError {
    /// No rule allows it.
    #[error("no outbound rule allows this call: {0}")]
    Denied(String),
    /// The trunk is not known, or takes no calls now.
    #[error("{0}")]
    Unavailable(String),
    /// Nobody of that name is registered.
    #[error("this user is not registered now")]
    NotRegistered,
    /// The room's name, or what is to be dialled, will not do.
    #[error("{0}")]
    Bad(String),
    /// There is no call of that name.
    #[error("there is no such call")]
    Unknown,
    /// It cannot be done to this call now.
    #[error("{0}")]
    NotNow(&'static str),
}

impl CallError {
    /// For programs.
    pub fn code(&self) -> &'static str {
        match self {
            CallError::Denied(_) => "denied",
            CallError::Unavailable(_) => "unavailable",
            CallError::NotRegistered => "not_registered",
            CallError::Bad(_) => "bad_request",
            CallError::Unknown => "unknown_call",
            CallError::NotNow(_) => "not_now",
        }
    }
}

/// A number of which only the end can be seen: enough to know one's own call, too little to call back.
pub fn masked(number: &str) -> String {
    const SHOWN: usize = 2;
    let count = number.chars().count();
    let hidden = if count > 3 * SHOWN { count - SHOWN } else { count };
    number.chars().enumerate().map(|(at, c)| if at < hidden { '*' } else { c }).collect()
}

/// One text, or a list of them.
fn one_or_more<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(String),
        More(Vec<String>),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::One(text) => vec![text],
        Either::More(texts) => texts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_masked_but_for_their_end() {
        for (number, shown) in
            [("+49301234567", "**********67"), ("601", "***"), ("", ""), ("alice", "*****")]
        {
            assert_eq!(masked(number), shown);
        }
    }

    #[test]
    fn one_number_or_several_can_be_dialled() {
        let one: Dial = serde_json::from_str(r#"{"room": "desk", "number": "601"}"#).expect("one");
        assert_eq!((one.numbers, one.play), (vec!["601".to_owned()], Meanwhile::Ringback));
        let text = r#"{"room": "desk", "numbers": ["601", "602"], "play": {"prompt": "please-hold"}}"#;
        let two: Dial = serde_json::from_str(text).expect("two");
        assert_eq!((two.numbers.len(), two.play), (2, Meanwhile::Prompt("please-hold".into())));
        assert!(serde_json::from_str::<Dial>(r#"{"room": "desk"}"#).is_err());
    }
}
