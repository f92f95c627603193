//! Who may publish, watch, control rooms and place calls: the one place every door asks.
//!
//! A door turns the secret a party brought (Bearer token, stream key) into a [`Principal`] and asks
//! [`Authority::authorise`] before it joins a room. Secrets are kept only as SHA-256 digests and
//! compared in constant time, so neither a log, a core dump's strings nor a stopwatch gives them away.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::{constant_time, digest};
use serde::Deserialize;

/// Who a party is, as far as rights go. The text is safe to log: it names a key, never holds one.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Principal(String);

impl Principal {
    /// Somebody who brought no secret.
    pub fn anonymous() -> Self {
        Principal("anonymous".into())
    }

    /// The server itself (the demo clip).
    pub fn internal() -> Self {
        Principal("internal".into())
    }

    /// A controller on this machine where no controller needs a secret.
    pub fn local() -> Self {
        Principal("local".into())
    }

    /// Somebody whom a door knows by means of its own, such as `trunk:office`.
    pub fn known(kind: &str, name: &str) -> Self {
        Principal(format!("{kind}:{name}"))
    }

    /// The holder of a key called `name`.
    fn key(name: &str) -> Self {
        Principal(format!("key:{name}"))
    }

    /// The holder of the publish key that the server made at its first start.
    fn publish_key() -> Self {
        Principal("publish-key".into())
    }

    /// The holder of a token that opens closed rooms, named by the first of them.
    fn viewer(room: &str) -> Self {
        Principal(format!("viewer:{room}"))
    }

    /// The id, safe to log.
    pub fn id(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a party wants to do in a room.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Send media.
    Publish,
    /// Receive media.
    Watch,
    /// Look at rooms from outside and change them: kick, mute, move, close; have routers of one's own.
    Control,
    /// Dial and hang up.
    Call,
}

/// Why somebody was turned away.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AuthError {
    /// The secret is none that we know (401).
    #[error("this key or token is not known here")]
    UnknownSecret,
    /// No secret was brought and one is needed (401).
    #[error("a key or token is needed")]
    NeedCredentials,
    /// The secret is known and does not allow this (403).
    #[error("this key or token does not allow that in this room")]
    Denied,
}

/// A secret as configured: never printed.
#[derive(Clone, Default, Deserialize, Eq, PartialEq)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The secret itself, for the one who must show or send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The `auth` section: keys beside the generated publish key, and rooms that are closed to strangers.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// More keys. Default: none.
    pub keys: Vec<KeyConfig>,
    /// Rooms by name that need a token to watch. Default: none; watching is open.
    pub rooms: BTreeMap<String, RoomAuthConfig>,
}

/// One key and what it opens.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// Its name in logs. No default.
    pub name: String,
    /// The key itself; either this, `key_file` or `key_sha256`.
    #[serde(default)]
    pub key: Option<Secret>,
    /// A file whose first line is the key.
    #[serde(default)]
    pub key_file: Option<String>,
    /// The key's SHA-256 in hexadecimal, for a long random key that shall not stand in the configuration.
    #[serde(default)]
    pub key_sha256: Option<Secret>,
    /// Rooms it opens: names, where `*` stands for any characters. Default: every room.
    #[serde(default = "everything")]
    pub rooms: Vec<String>,
    /// What it allows. Default: publish and watch.
    #[serde(default = "media_actions")]
    pub actions: Vec<Action>,
    /// Methods of the control protocol it may use, where `*` stands for any characters. Default: all.
    #[serde(default = "everything")]
    pub methods: Vec<String>,
}

fn everything() -> Vec<String> {
    vec!["*".into()]
}

fn media_actions() -> Vec<Action> {
    vec![Action::Publish, Action::Watch]
}

/// The rights of one room.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct RoomAuthConfig {
    /// The token that watching needs. Default: none, everybody may watch.
    pub watch: Option<Secret>,
}

/// What is wrong with an `auth` section.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AuthConfigError {
    /// None of `key`, `key_file` and `key_sha256`, or more than one.
    #[error("auth.keys: the key named {0:?} needs one of `key`, `key_file` and `key_sha256`")]
    NoKey(String),
    /// The digest is no digest.
    #[error("auth.keys: `key_sha256` of the key named {0:?} has to be 64 hexadecimal digits")]
    NoDigest(String),
    /// An empty secret would let everybody in.
    #[error("auth: {0} is empty")]
    Empty(String),
    /// Two keys of one name cannot be told apart.
    #[error("auth.keys: two keys are named {0:?}")]
    SameName(String),
    /// Two keys with one secret cannot be told apart.
    #[error("auth: {0} and {1} are the same secret")]
    SameSecret(String, String),
}

#[derive(Clone, Copy, Eq, PartialEq)]
struct Digest([u8; 32]);

impl Digest {
    fn of(secret: &str) -> Self {
        let mut bytes = [0; 32];
        let digest = digest::digest(&digest::SHA256, secret.as_bytes());
        bytes.copy_from_slice(digest.as_ref());
        Digest(bytes)
    }

    fn from_hex(text: &str) -> Option<Self> {
        let digits: Option<Vec<u8>> =
            text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
        let digits = digits.filter(|digits| digits.len() == 64)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair.iter().fold(0, |byte, digit| (byte << 4) | digit);
        }
        Some(Digest(bytes))
    }

    fn matches(&self, other: &Digest) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

#[derive(Clone)]
struct Entry {
    digest: Digest,
    principal: Principal,
    rooms: Vec<String>,
    actions: Vec<Action>,
    methods: Vec<String>,
}

impl Entry {
    /// Publishing and watching in every room.
    fn new(digest: Digest, principal: Principal) -> Self {
        Entry { digest, principal, rooms: everything(), actions: media_actions(), methods: everything() }
    }
}

/// The digest of a secret, which must not be empty: that would let everybody in.
fn secret(label: &str, secret: &Secret) -> Result<Digest, AuthConfigError> {
    match secret.reveal() {
        "" => Err(AuthConfigError::Empty(label.into())),
        secret => Ok(Digest::of(secret)),
    }
}

impl KeyConfig {
    fn digest(&self, label: &str) -> Result<Digest, AuthConfigError> {
        match (&self.key, &self.key_file, &self.key_sha256) {
            (Some(key), None, None) => secret(label, key),
            (None, None, Some(digest)) => {
                Digest::from_hex(digest.reveal()).ok_or_else(|| AuthConfigError::NoDigest(self.name.clone()))
            }
            _ => Err(AuthConfigError::NoKey(self.name.clone())),
        }
    }
}

/// Rights that rules of a door give to parties which it knows by means of its own: a dispatch rule lets the calls of
/// a trunk into its rooms.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    /// Principals, where `*` stands for any characters.
    pub who: String,
    /// Rooms, likewise.
    pub rooms: String,
    /// What they may do there.
    pub actions: Vec<Action>,
}

/// Decides. Built once from the configuration and the publish key.
#[derive(Clone, Default)]
pub struct Authority {
    grants: Vec<Grant>,
    entries: Vec<Entry>,
    closed: Vec<String>,
}

impl Authority {
    /// Builds it. `config` must hold every key in `key` (whoever loads the configuration reads the
    /// files); without `publish_key` only configured keys may publish.
    pub fn new(config: &AuthConfig, publish_key: Option<&Secret>) -> Result<Self, AuthConfigError> {
        let mut authority = Authority::default();
        if let Some(key) = publish_key {
            let digest = secret("the publish key", key)?;
            authority.add("the publish key", Entry::new(digest, Principal::publish_key()))?;
        }
        for key in &config.keys {
            let label = format!("the key named {:?}", key.name);
            let principal = Principal::key(&key.name);
            if authority.entries.iter().any(|entry| entry.principal == principal) {
                return Err(AuthConfigError::SameName(key.name.clone()));
            }
            let entry = Entry {
                rooms: key.rooms.clone(),
                actions: key.actions.clone(),
                methods: key.methods.clone(),
                ..Entry::new(key.digest(&label)?, principal)
            };
            authority.add(&label, entry)?;
        }
        for (room, rights) in &config.rooms {
            if let Some(token) = &rights.watch {
                authority.close(room, token)?;
            }
        }
        Ok(authority)
    }

    /// The same with what a door's own rules give.
    pub fn with_grants(mut self, grants: impl IntoIterator<Item = Grant>) -> Self {
        self.grants.extend(grants);
        self
    }

    fn grants(&self, who: &Principal, action: Action, room: &str) -> bool {
        let mut grants = self.grants.iter().filter(|grant| grant.actions.contains(&action));
        grants.any(|grant| matches(&grant.who, who.id()) && matches(&grant.rooms, room))
    }

    /// Who the bearer of `secret` is; no secret, or an empty one, is nobody in particular.
    pub fn identify(&self, secret: Option<&str>) -> Result<Principal, AuthError> {
        let Some(secret) = secret.filter(|secret| !secret.is_empty()) else {
            return Ok(Principal::anonymous());
        };
        let digest = Digest::of(secret);
        // Every entry is looked at, whichever matches.
        let found = self.entries.iter().fold(None, |found, entry| {
            let matches = entry.digest.matches(&digest);
            if matches { Some(entry) } else { found }
        });
        found.map(|entry| entry.principal.clone()).ok_or(AuthError::UnknownSecret)
    }

    /// Who the bearer of `secret` is, if it is the one called `user`.
    pub fn identify_user(&self, user: &str, secret: &str) -> Result<Principal, AuthError> {
        let who = self.identify(Some(secret))?;
        if who == Principal::key(user) { Ok(who) } else { Err(AuthError::UnknownSecret) }
    }

    /// Whether `who` may do `action` in `room`.
    pub fn authorise(&self, who: &Principal, action: Action, room: &str) -> Result<(), AuthError> {
        let open = action == Action::Watch && !self.closed.iter().any(|name| name == room);
        if open || self.grants(who, action, room) {
            return Ok(());
        }
        self.ask(who, |entry| {
            entry.actions.contains(&action) && entry.rooms.iter().any(|glob| matches(glob, room))
        })
    }

    /// Whether `who` may use `method` of the control protocol at all.
    pub fn authorise_method(&self, who: &Principal, action: Action, method: &str) -> Result<(), AuthError> {
        self.ask(who, |entry| {
            entry.actions.contains(&action) && entry.methods.iter().any(|glob| matches(glob, method))
        })
    }

    /// Whether some key may control rooms: then controllers have to bring one.
    pub fn knows_controllers(&self) -> bool {
        self.entries.iter().any(|entry| entry.actions.contains(&Action::Control))
    }

    /// Whether `who` may control some room.
    pub fn controls(&self, who: &Principal) -> bool {
        self.ask(who, |entry| entry.actions.contains(&Action::Control)).is_ok()
    }

    fn ask(&self, who: &Principal, allows: impl Fn(&Entry) -> bool) -> Result<(), AuthError> {
        if *who == Principal::internal() || *who == Principal::local() {
            return Ok(());
        }
        if *who == Principal::anonymous() {
            return Err(AuthError::NeedCredentials);
        }
        let allowed = self.entries.iter().filter(|entry| entry.principal == *who).any(allows);
        if allowed { Ok(()) } else { Err(AuthError::Denied) }
    }

    fn add(&mut self, label: &str, entry: Entry) -> Result<(), AuthConfigError> {
        if let Some(other) = self.entries.iter().find(|other| other.digest.matches(&entry.digest)) {
            return Err(AuthConfigError::SameSecret(label.into(), other.principal.id().into()));
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Closes `room` to those without `token`; one token may open several rooms.
    fn close(&mut self, room: &str, token: &Secret) -> Result<(), AuthConfigError> {
        self.closed.push(room.into());
        let digest = Digest::of(token.reveal());
        let known = self
            .entries
            .iter_mut()
            .find(|entry| entry.digest.matches(&digest) && entry.principal.id().starts_with("viewer:"));
        if let Some(entry) = known {
            entry.rooms.push(room.into());
            return Ok(());
        }
        let label = format!("the watch token of room {room:?}");
        let entry = Entry {
            rooms: vec![room.into()],
            actions: vec![Action::Watch],
            ..Entry::new(secret(&label, token)?, Principal::viewer(room))
        };
        self.add(&label, entry)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("keys", &self.entries.len()).finish_non_exhaustive()
    }
}

/// Whether `name` matches `pattern`, in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(head) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = name.find(part) else {
            return false;
        };
        name = name.split_at(at + part.len()).1;
    }
    name.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, secret: &str, rooms: &[&str], actions: &[Action]) -> KeyConfig {
        KeyConfig {
            name: name.into(),
            key: Some(Secret::new(secret)),
            key_file: None,
            key_sha256: None,
            methods: everything(),
            rooms: rooms.iter().map(|room| room.to_string()).collect(),
            actions: actions.to_vec(),
        }
    }

    fn authority() -> Authority {
        let watch = |token: &str| RoomAuthConfig { watch: Some(Secret::new(token)) };
        let config = AuthConfig {
            keys: vec![
                key("studio", "s3", &["news", "sport-*"], &[Action::Publish]),
                key("guard", "g4", &["*"], &[Action::Watch]),
                KeyConfig {
                    key: None,
                    // Of "c5".
                    key_sha256: Some(Secret::new(
                        "D0BF3E6EE1D668DE18C9CA200A4F152062F345283EE68CADFE41204F215D75E9",
                    )),
                    methods: vec!["room.*".into(), "Hello".into()],
                    ..key("desk", "", &["news"], &[Action::Control])
                },
            ],
            rooms: [("board", "t5"), ("staff", "t5"), ("vault", "t6")]
                .map(|(room, token)| (room.into(), watch(token)))
                .into(),
        };
        Authority::new(&config, Some(&Secret::new("publish-me"))).unwrap()
    }

    fn ask(secret: &str, action: Action, room: &str) -> Result<(), AuthError> {
        let authority = authority();
        let who = authority.identify(Some(secret))?;
        authority.authorise(&who, action, room)
    }

    #[test]
    fn strangers_watch_open_rooms_and_nothing_else() {
        assert_eq!(ask("", Action::Watch, "demo"), Ok(()));
        assert_eq!(ask("", Action::Watch, "board"), Err(AuthError::NeedCredentials));
        assert_eq!(ask("", Action::Publish, "demo"), Err(AuthError::NeedCredentials));
        assert_eq!(authority().identify(None), Ok(Principal::anonymous()));
    }

    #[test]
    fn a_wrong_secret_is_refused_at_the_door() {
        for wrong in ["publish-m", "publish-mE", "publish-me ", "s4"] {
            assert_eq!(ask(wrong, Action::Publish, "demo"), Err(AuthError::UnknownSecret));
        }
    }

    #[test]
    fn the_publish_key_opens_everything() {
        assert_eq!(ask("publish-me", Action::Publish, "any"), Ok(()));
        assert_eq!(ask("publish-me", Action::Watch, "board"), Ok(()));
    }

    #[test]
    fn a_key_opens_its_rooms_for_its_actions() {
        assert_eq!(ask("s3", Action::Publish, "news"), Ok(()));
        assert_eq!(ask("s3", Action::Publish, "sport-1"), Ok(()));
        assert_eq!(ask("s3", Action::Publish, "sport"), Err(AuthError::Denied));
        assert_eq!(ask("s3", Action::Watch, "board"), Err(AuthError::Denied));
        assert_eq!(ask("g4", Action::Watch, "vault"), Ok(()));
        assert_eq!(ask("g4", Action::Publish, "vault"), Err(AuthError::Denied));
    }

    #[test]
    fn a_controller_has_its_rooms_and_methods() {
        let authority = authority();
        assert!(authority.knows_controllers());
        let desk = authority.identify_user("desk", "c5").unwrap();
        assert_eq!(authority.authorise(&desk, Action::Control, "news"), Ok(()));
        assert_eq!(authority.authorise(&desk, Action::Control, "demo"), Err(AuthError::Denied));
        assert_eq!(authority.authorise(&desk, Action::Call, "news"), Err(AuthError::Denied));
        assert_eq!(authority.authorise_method(&desk, Action::Control, "room.kick"), Ok(()));
        assert_eq!(authority.authorise_method(&desk, Action::Control, "worker.dump"), Err(AuthError::Denied));
        assert_eq!(authority.identify_user("studio", "c5"), Err(AuthError::UnknownSecret));
        assert_eq!(authority.identify_user("desk", ""), Err(AuthError::UnknownSecret));
        assert_eq!(ask("publish-me", Action::Control, "demo"), Err(AuthError::Denied));
        assert_eq!(authority.authorise(&Principal::local(), Action::Call, "demo"), Ok(()));
    }

    #[test]
    fn a_watch_token_opens_the_rooms_that_name_it() {
        assert_eq!(ask("t5", Action::Watch, "board"), Ok(()));
        assert_eq!(ask("t5", Action::Watch, "staff"), Ok(()));
        assert_eq!(ask("t5", Action::Watch, "vault"), Err(AuthError::Denied));
        assert_eq!(ask("t5", Action::Watch, "demo"), Ok(()));
        assert_eq!(ask("t5", Action::Publish, "board"), Err(AuthError::Denied));
    }

    #[test]
    fn a_doors_rules_give_rights_to_those_it_knows_and_to_nobody_else() {
        let grant = |who: &str, rooms: &str| Grant {
            who: who.into(),
            rooms: rooms.into(),
            actions: vec![Action::Publish],
        };
        let authority = authority().with_grants([grant("trunk:office", "sales-*"), grant("user:*", "desk")]);
        let may = |kind, name, room| {
            authority.authorise(&Principal::known(kind, name), Action::Publish, room).is_ok()
        };
        assert!(may("trunk", "office", "sales-1") && may("user", "alice", "desk"));
        assert!(!may("trunk", "office", "desk") && !may("trunk", "other", "sales-1"));
        assert_eq!(
            authority.authorise(&Principal::anonymous(), Action::Publish, "desk"),
            Err(AuthError::NeedCredentials)
        );
    }

    #[test]
    fn a_section_that_would_let_anybody_in_is_refused() {
        let with = |key: KeyConfig| AuthConfig { keys: vec![key], ..AuthConfig::default() };
        let publish = Secret::new("p");
        let refused = |config: &AuthConfig| Authority::new(config, Some(&publish)).unwrap_err();
        assert!(matches!(refused(&with(key("a", "", &["*"], &[]))), AuthConfigError::Empty(_)));
        assert!(matches!(refused(&with(key("a", "p", &["*"], &[]))), AuthConfigError::SameSecret(..)));
        let without = KeyConfig { key: None, ..key("a", "", &["*"], &[]) };
        let both = KeyConfig { key_sha256: Some(Secret::new("00")), ..key("a", "x", &["*"], &[]) };
        assert!(matches!(refused(&with(both.clone())), AuthConfigError::NoKey(_)));
        let short = KeyConfig { key: None, ..both };
        assert!(matches!(refused(&with(short)), AuthConfigError::NoDigest(_)));
        assert!(matches!(refused(&with(without)), AuthConfigError::NoKey(_)));
        let twice = AuthConfig {
            keys: vec![key("a", "1", &["*"], &[]), key("a", "2", &["*"], &[])],
            ..AuthConfig::default()
        };
        assert!(matches!(refused(&twice), AuthConfigError::SameName(_)));
    }

    #[test]
    fn nothing_prints_a_secret() {
        let config = AuthConfig {
            keys: vec![key("a", "hunter2", &["*"], &[Action::Publish])],
            ..AuthConfig::default()
        };
        let authority = Authority::new(&config, Some(&Secret::new("hunter3"))).unwrap();
        let who = authority.identify(Some("hunter2")).unwrap();
        let shown = format!("{config:?} {authority:?} {who:?} {who}");
        assert!(!shown.contains("hunter"), "{shown}");
    }

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, name) in
            [("*", ""), ("*", "x"), ("a*", "a"), ("a*c*e", "abcde"), ("*-x", "y-x"), ("a", "a")]
        {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a", "ab"), ("a*", "b"), ("a*c*e", "abd"), ("*-x", "x"), ("a*a", "a")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
