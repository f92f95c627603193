//! Who may call out to where: the outbound rules, first match wins, and without one nobody may.
//!
//! Asked for calls from a room, for transfers that a party asks for, and for redirections.

use crate::sip::config::{OutboundRule, SipConfig};
use crate::sip::ingress::{glob, rule_name};

/// A wish to call out.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The number.
    pub number: &'a str,
    /// Who wants it.
    pub principal: &'a str,
    /// From which room.
    pub room: &'a str,
    /// The trunk asked for, if any.
    pub trunk: Option<&'a str>,
    /// A party in a call wants it by REFER.
    pub transfer: bool,
}

/// A rule that allows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Permit {
    /// The rule's name.
    pub rule: String,
    /// The trunk, or `phones`.
    pub trunk: String,
    /// The caller's number to show.
    pub caller_id: Option<String>,
}

/// Finds the rule for a wish; `Err` is the walk, without a phone number in it.
pub fn permit(config: &SipConfig, wish: &Wish<'_>) -> Result<Permit, Vec<String>> {
    let mut walk = Vec::new();
    for (at, rule) in config.outbound.iter().enumerate() {
        let name = rule_name(rule.name.as_deref(), at);
        match matches(rule, wish) {
            Ok(()) => {
                let (trunk, caller_id) = (rule.trunk.clone(), rule.caller_id.clone());
                return Ok(Permit { rule: name, trunk, caller_id });
            }
            Err(why) => walk.push(format!("rule {name}: {why}")),
        }
    }
    if walk.is_empty() {
        walk.push("there are no outbound rules".into());
    }
    Err(walk)
}

fn matches(rule: &OutboundRule, wish: &Wish<'_>) -> Result<(), &'static str> {
    let any = |list: &[String], text: &str| list.iter().any(|pattern| glob(pattern, text).is_some());
    match () {
        _ if glob(&rule.number, wish.number).is_none() => Err("its number does not match"),
        _ if wish.trunk.is_some_and(|trunk| trunk != rule.trunk) => Err("is for another trunk"),
        _ if !any(&rule.principals, wish.principal) => Err("does not name who asks"),
        _ if rule.rooms.as_ref().is_some_and(|rooms| !any(rooms, wish.room)) => Err("is for other rooms"),
        _ if wish.transfer && !rule.transfer => Err("does not allow transfers"),
        _ => Ok(()),
    }
}
