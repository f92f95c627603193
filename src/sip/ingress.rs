//! Which call is let into which room: callers and numbers against the dispatch rules, first match wins.
//!
//! A rule is a grant: what it says of rooms is told to the [`Authority`](crate::core::auth::Authority), which is asked
//! once more when a caller goes in. Every refusal comes with the walk: each rule, and why it did not match, without a phone number in it.

use crate::core::auth::{Action, Grant, Principal};
use crate::sip::config::{DispatchRule, SipConfig};

/// Who calls, as far as we know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Caller {
    /// A trunk, by its address or password.
    Trunk(String),
    /// A registered phone's user.
    Phone(String),
    /// Nobody we know.
    Anyone,
}

impl Caller {
    /// Its name in rules.
    pub fn origin(&self) -> &str {
        match self {
            Caller::Trunk(name) => name,
            Caller::Phone(_) => "phones",
            Caller::Anyone => "anyone",
        }
    }

    /// Its name among rights, safe to log. A caller nobody knows is still no stranger from the web.
    pub fn principal(&self) -> Principal {
        match self {
            Caller::Trunk(name) => Principal::known("trunk", name),
            Caller::Phone(user) => Principal::known("user", user),
            Caller::Anyone => Principal::known("sip", "anyone"),
        }
    }
}

/// A call that comes in, as the rules see it.
#[derive(Clone, Debug)]
pub struct Arrival<'a> {
    /// Who.
    pub caller: &'a Caller,
    /// The caller's number.
    pub from: &'a str,
    /// The number called.
    pub to: &'a str,
}

/// A rule's decision.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Route {
    /// Into this room.
    Room(String),
    /// Ask for a PIN; each opens a room.
    Pin(Vec<(String, String)>),
    /// Not at all, in these words.
    Refuse(String),
}

/// What the rules came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dispatch {
    /// The rule's name.
    pub rule: String,
    /// What it says.
    pub route: Route,
    /// Whether the caller's number stays hidden.
    pub hide_number: bool,
    /// Callers by this rule at once.
    pub max_callers: usize,
}

/// Finds the rule for a call; `Err` is the walk.
pub fn dispatch(config: &SipConfig, call: &Arrival<'_>, random: &str) -> Result<Dispatch, Vec<String>> {
    let mut walk = Vec::new();
    for (at, rule) in config.dispatch.iter().enumerate() {
        let name = rule_name(rule.name.as_deref(), at);
        match matches(rule, call) {
            Ok(stars) => return decide(rule, name, call, &stars, random),
            Err(why) => walk.push(format!("rule {name}: {why}")),
        }
    }
    if walk.is_empty() {
        walk.push("there are no dispatch rules".into());
    }
    Err(walk)
}

/// Whether every rule can be followed: its rooms name nothing that a call does not have.
pub fn check(config: &SipConfig) -> Result<(), String> {
    for (at, rule) in config.dispatch.iter().enumerate() {
        let stars = rule.number.as_deref().unwrap_or_default().matches('*').count();
        let known = |name: &str| {
            let star = name.parse().is_ok_and(|number: usize| (1..=stars).contains(&number));
            star || matches!(name, "number" | "caller" | "user")
        };
        for room in rule.pins.values().chain(&rule.room) {
            if let Some(name) = placeholders(room).find(|name| !known(name)) {
                let rule = rule_name(rule.name.as_deref(), at);
                return Err(format!(
                    "dispatch rule {rule}: room {room:?} names {{{name}}}, which its number has not"
                ));
            }
        }
    }
    Ok(())
}

/// What stands in a template's brackets.
fn placeholders(template: &str) -> impl Iterator<Item = &str> {
    template.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}

/// Rooms of callers who have yet to enter a PIN begin so.
pub const LOBBY: &str = "lobby-";

/// The rights that the rules give.
pub fn grants(config: &SipConfig) -> Vec<Grant> {
    config.dispatch.iter().filter(|rule| rule.refuse.is_none()).flat_map(granted).collect()
}

fn granted(rule: &DispatchRule) -> Vec<Grant> {
    let callers = match &rule.from {
        None => vec!["trunk:*".to_owned(), "user:*".to_owned()],
        Some(names) => names
            .iter()
            .flat_map(|name| match name.as_str() {
                "phones" => vec!["user:*".to_owned()],
                "anyone" => ["sip:anyone", "trunk:*", "user:*"].map(str::to_owned).to_vec(),
                name => vec![format!("trunk:{name}")],
            })
            .collect(),
    };
    let mut rooms: Vec<String> = rule.pins.values().chain(&rule.room).map(|room| any_room(room)).collect();
    if rule.per_caller {
        rooms.iter_mut().for_each(|room| room.push_str("-*"));
    }
    if rule.pin.is_some() || !rule.pins.is_empty() {
        rooms.push(format!("{LOBBY}*"));
    }
    let grant = |who: &String, room: &String| Grant {
        who: who.clone(),
        rooms: room.clone(),
        actions: vec![Action::Publish, Action::Watch],
    };
    callers.iter().flat_map(|who| rooms.iter().map(move |room| grant(who, room))).collect()
}

/// The rooms that a template can come to: `*` for each of its `{...}`.
fn any_room(template: &str) -> String {
    let mut rest = template;
    let mut glob = String::new();
    while let Some((before, after)) = rest.split_once('{') {
        let Some((_, behind)) = after.split_once('}') else { break };
        glob.push_str(before);
        glob.push('*');
        rest = behind;
    }
    glob + rest
}

/// A rule's name, or its place.
pub fn rule_name(name: Option<&str>, at: usize) -> String {
    name.map_or_else(|| format!("#{}", at + 1), str::to_owned)
}

fn matches(rule: &DispatchRule, call: &Arrival<'_>) -> Result<Vec<String>, &'static str> {
    let origin = call.caller.origin();
    let from = match &rule.from {
        Some(list) => list.iter().any(|name| name == origin || (name == "anyone")),
        None => *call.caller != Caller::Anyone,
    };
    if !from {
        return Err("is not for calls from there");
    }
    let stars = match &rule.number {
        Some(pattern) => glob(pattern, call.to).ok_or("its number does not match")?,
        None => Vec::new(),
    };
    if rule.deny.iter().any(|pattern| glob(pattern, call.from).is_some()) {
        return Err("denies the caller's number");
    }
    if rule.allow.as_ref().is_some_and(|list| !list.iter().any(|pattern| glob(pattern, call.from).is_some()))
    {
        return Err("does not allow the caller's number");
    }
    Ok(stars)
}

fn decide(
    rule: &DispatchRule,
    name: String,
    call: &Arrival<'_>,
    stars: &[String],
    random: &str,
) -> Result<Dispatch, Vec<String>> {
    let fill = |template: &str| {
        let mut room = template.replace("{number}", call.to).replace("{caller}", call.from);
        let user = if let Caller::Phone(user) = call.caller { user.as_str() } else { call.from };
        room = room.replace("{user}", user);
        for (at, star) in stars.iter().enumerate() {
            room = room.replace(&format!("{{{}}}", at + 1), star);
        }
        let mut room: String = room
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~' | '-'))
            .collect();
        if rule.per_caller {
            room = format!("{room}-{random}");
        }
        room
    };
    let mut pins: Vec<(String, String)> =
        rule.pins.iter().map(|(pin, room)| (pin.clone(), fill(room))).collect();
    if let (Some(pin), Some(room)) = (&rule.pin, &rule.room) {
        pins.push((pin.reveal().to_owned(), fill(room)));
    }
    let route = match (&rule.refuse, &rule.room) {
        (Some(text), _) => Route::Refuse(text.clone()),
        (None, _) if !pins.is_empty() => Route::Pin(pins),
        (None, Some(room)) => Route::Room(fill(room)),
        (None, None) => return Err(vec![format!("rule {name}: names neither room nor refusal")]),
    };
    let hide_number = rule.hide_number.unwrap_or(true);
    Ok(Dispatch { rule: name, route, hide_number, max_callers: rule.max_callers.unwrap_or(100) })
}

/// Matches `*` (any characters) and `?` (one); answers what each star stood for.
pub fn glob(pattern: &str, text: &str) -> Option<Vec<String>> {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let mut stars = Vec::new();
    // The last star: where the pattern goes on behind it, where its text begins, where it ends now.
    let mut last: Option<(usize, usize, usize, usize)> = None;
    let (mut p, mut t) = (0, 0);
    while t < text.len() || p < pattern.len() {
        match pattern.get(p) {
            Some('*') => {
                last = Some((p + 1, t, t, stars.len()));
                stars.push((t, t));
                p += 1;
                continue;
            }
            Some(c) if t < text.len() && (*c == '?' || *c == text[t]) => {
                p += 1;
                t += 1;
                continue;
            }
            _ => {}
        }
        let (after, start, end, index) = last?;
        if end >= text.len() {
            return None;
        }
        stars.truncate(index);
        stars.push((start, end + 1));
        last = Some((after, start, end + 1, index));
        (p, t) = (after, end + 1);
    }
    Some(stars.into_iter().map(|(a, b)| text[a..b].iter().collect()).collect())
}
