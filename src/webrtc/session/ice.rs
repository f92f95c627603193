//! ICE-lite, always controlled (RFC 8445 §2.5, §7.3), with consent as a lite agent can have it (RFC 7675):
//! it sends no checks, so the remote party's own checks and authenticated packets count as its consent.
//!
//! A check proves who sent it, not where from: its source can be forged by the party itself. So a path is
//! `proven` only by the DTLS handshake or an authenticated packet; until then media on it is limited, and a
//! party that hops between addresses gets that allowance once in a while only.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::core::rtp::path::Path;
use crate::core::session::{Event, Output};
use crate::webrtc::SessionConfig;
use crate::webrtc::wire::stun::{Class, IntegrityKey, Message, Writer, attr};

/// One generation of our credentials.
pub(super) struct Credentials {
    pub ufrag: String,
    pub pwd: String,
    key: IntegrityKey,
    remote_ufrag: Option<String>,
}

impl Credentials {
    /// Fresh ones: 80 random bits of ufrag, 160 of password.
    pub fn random() -> Result<Credentials, String> {
        let ufrag = random_text(16)?;
        let pwd = random_text(32)?;
        let key = IntegrityKey::new(&pwd);
        Ok(Credentials { ufrag, pwd, key, remote_ufrag: None })
    }
}

/// As the control protocol names it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum IceState {
    New,
    Connected,
    Completed,
    Disconnected,
}

impl IceState {
    pub fn name(self) -> &'static str {
        match self {
            IceState::New => "new",
            IceState::Connected => "connected",
            IceState::Completed => "completed",
            IceState::Disconnected => "disconnected",
        }
    }
}

struct PathState {
    path: Path,
    /// Last valid check or authenticated packet.
    seen: Instant,
    /// Last proof that the party really is there.
    proven: Option<Instant>,
}

/// The agent of one session.
pub(super) struct IceAgent {
    current: Credentials,
    previous: Option<Credentials>,
    state: IceState,
    paths: Vec<PathState>,
    selected: Option<Path>,
    /// When consent was lost.
    lost: Option<Instant>,
    consent_timeout: Duration,
    lost_timeout: Duration,
    probation: u32,
    probation_interval: Duration,
    /// When an allowance was last given once media could flow.
    granted: Option<Instant>,
    /// The handshake is through.
    media_flows: bool,
    max_paths: usize,
}

impl IceAgent {
    pub fn new(config: &SessionConfig) -> Result<IceAgent, String> {
        Ok(IceAgent {
            current: Credentials::random()?,
            previous: None,
            state: IceState::New,
            paths: Vec::new(),
            selected: None,
            lost: None,
            consent_timeout: config.consent_timeout(),
            lost_timeout: config.lost_timeout(),
            probation: config.probation_packets,
            probation_interval: config.probation_interval(),
            granted: None,
            media_flows: false,
            max_paths: config.max_paths.max(1),
        })
    }

    pub fn credentials(&self) -> &Credentials {
        &self.current
    }

    pub fn state(&self) -> IceState {
        self.state
    }

    pub fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// Whether a valid check came over `path`.
    pub fn knows(&self, path: &Path) -> bool {
        self.paths.iter().any(|known| known.path == *path)
    }

    /// Whether any valid check came.
    pub fn heard_of_remote(&self) -> bool {
        self.state != IceState::New
    }

    pub fn set_remote_ufrag(&mut self, ufrag: String) {
        self.current.remote_ufrag = Some(ufrag);
    }

    /// Makes new credentials; the old ones are good until the first check with the new ones, so media goes
    /// on meanwhile (RFC 8445 §9).
    pub fn restart(&mut self, out: &mut VecDeque<Output>) -> Result<&Credentials, String> {
        let mut old = std::mem::replace(&mut self.current, Credentials::random()?);
        old.remote_ufrag = None;
        if let Some(oldest) = self.previous.replace(old) {
            out.push_back(Output::Event(Event::Unroute { key: oldest.ufrag }));
        }
        out.push_back(Output::Event(Event::Route { key: self.current.ufrag.clone() }));
        Ok(&self.current)
    }

    /// Takes a STUN datagram. Whatever is wrong with it costs nobody but its sender.
    pub fn handle(&mut self, now: Instant, path: Path, datagram: &[u8], out: &mut VecDeque<Output>) {
        let Ok(message) = Message::parse(datagram) else { return };
        if message.class != Class::Request {
            return;
        }
        match self.judge(&message) {
            Ok(renewed) => {
                let answer = Writer::new(Class::Success, message.transaction).mapped(path.remote());
                let key = if renewed { Some(&self.current) } else { self.previous.as_ref() };
                let data = answer.finish(key.map(|credentials| &credentials.key));
                out.push_back(Output::Datagram { path, data });
                if renewed && let Some(old) = self.previous.take() {
                    out.push_back(Output::Event(Event::Unroute { key: old.ufrag }));
                }
                self.accept(now, path, message.use_candidate, out);
            }
            Err(refusal) => out.push_back(Output::Datagram { path, data: self.refuse(&message, &refusal) }),
        }
    }

    /// An SRTP or SRTCP packet or a DTLS handshake proved that the party is at `path`.
    pub fn prove(&mut self, now: Instant, path: Path, out: &mut VecDeque<Output>) {
        self.media_flows = true;
        let selected = self.selected == Some(path);
        let Some(known) = self.paths.iter_mut().find(|known| known.path == path) else { return };
        known.seen = now;
        let first = known.proven.replace(now).is_none();
        if first && selected {
            out.push_back(Output::Event(Event::SelectedPath { path, probation: None }));
        }
    }

    /// An ICE-TCP connection is gone.
    pub fn path_closed(&mut self, now: Instant, path: Path, out: &mut VecDeque<Output>) {
        self.paths.retain(|known| known.path != path);
        if self.selected == Some(path) {
            self.reselect(now, out);
        }
    }

    pub fn handle_timeout(&mut self, now: Instant, out: &mut VecDeque<Output>) {
        if self.consent_deadline().is_some_and(|deadline| now >= deadline) {
            self.reselect(now, out);
        }
    }

    /// Whether consent has been gone for so long that the session should end.
    pub fn is_dead(&self, now: Instant) -> bool {
        self.lost.is_some_and(|lost| now >= lost + self.lost_timeout)
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.consent_deadline().or(self.lost.map(|lost| lost + self.lost_timeout))
    }

    fn consent_deadline(&self) -> Option<Instant> {
        let selected = self.selected?;
        let known = self.paths.iter().find(|known| known.path == selected)?;
        Some(known.seen + self.consent_timeout)
    }

    /// Who signed a request: `Ok(true)` with the current credentials, `Ok(false)` with the previous.
    fn judge(&self, message: &Message<'_>) -> Result<bool, Refusal> {
        let (Some(local), true) = (message.local_ufrag(), message.is_signed()) else {
            return Err(Refusal::new(400, "Bad Request"));
        };
        let candidates = [(true, Some(&self.current)), (false, self.previous.as_ref())];
        let (renewed, credentials) = candidates
            .into_iter()
            .find_map(|(renewed, found)| Some((renewed, found.filter(|c| c.ufrag == local)?)))
            .ok_or(Refusal::new(401, "Unauthorized"))?;
        let stranger =
            credentials.remote_ufrag.as_deref().is_some_and(|ufrag| message.remote_ufrag() != Some(ufrag));
        if stranger || !message.verify(&credentials.key) {
            return Err(Refusal::new(401, "Unauthorized"));
        }
        if message.unknown.is_some() {
            return Err(Refusal { signed: Some(renewed), ..Refusal::new(420, "Unknown Attribute") });
        }
        if message.controlled.is_some() {
            return Err(Refusal { signed: Some(renewed), ..Refusal::new(487, "Role Conflict") });
        }
        Ok(renewed)
    }

    fn refuse(&self, message: &Message<'_>, refusal: &Refusal) -> Vec<u8> {
        let mut answer = Writer::new(Class::Error, message.transaction).error(refusal.code, refusal.reason);
        if let Some(unknown) = message.unknown {
            answer = answer.attribute(attr::UNKNOWN_ATTRIBUTES, &unknown.to_be_bytes());
        }
        let credentials = match refusal.signed {
            Some(true) => Some(&self.current),
            Some(false) => self.previous.as_ref(),
            None => None,
        };
        answer.finish(credentials.map(|credentials| &credentials.key))
    }

    /// The first valid check selects its path, so that DTLS can begin; a nomination moves the selection.
    fn accept(&mut self, now: Instant, path: Path, nominates: bool, out: &mut VecDeque<Output>) {
        match self.paths.iter_mut().find(|known| known.path == path) {
            Some(known) => known.seen = now,
            None => self.remember(PathState { path, seen: now, proven: None }),
        }
        if self.selected.is_none() || (nominates && self.selected != Some(path)) {
            self.select(now, path, out);
        }
        let state = match (nominates, self.state) {
            (true, _) => IceState::Completed,
            (false, IceState::New | IceState::Disconnected) => IceState::Connected,
            (false, state) => state,
        };
        self.set_state(state, out);
    }

    fn remember(&mut self, path: PathState) {
        if self.paths.len() >= self.max_paths {
            let stale = self
                .paths
                .iter()
                .enumerate()
                .filter(|(_, known)| self.selected != Some(known.path))
                .min_by_key(|(_, known)| known.seen)
                .map_or(0, |(index, _)| index);
            self.paths.swap_remove(stale);
        }
        self.paths.push(path);
    }

    fn select(&mut self, now: Instant, path: Path, out: &mut VecDeque<Output>) {
        let still_proven = self
            .paths
            .iter_mut()
            .find(|known| known.path == path)
            .and_then(|known| {
                known.proven = known.proven.filter(|proven| now < *proven + self.consent_timeout);
                known.proven
            })
            .is_some();
        self.selected = Some(path);
        self.lost = None;
        let probation = if still_proven { None } else { Some(self.allowance(now)) };
        out.push_back(Output::Event(Event::SelectedPath { path, probation }));
    }

    /// What an unproven path may get. Before the handshake there is no media, so that does not count.
    fn allowance(&mut self, now: Instant) -> u32 {
        if self.granted.is_some_and(|granted| now < granted + self.probation_interval) {
            return 0;
        }
        self.granted = self.media_flows.then_some(now);
        self.probation
    }

    /// The selected path is gone or silent: take the one heard from last, or none.
    fn reselect(&mut self, now: Instant, out: &mut VecDeque<Output>) {
        self.paths.retain(|known| now < known.seen + self.consent_timeout);
        match self.paths.iter().max_by_key(|known| known.seen).map(|known| known.path) {
            Some(path) => self.select(now, path, out),
            None => {
                self.selected = None;
                self.lost = Some(now);
                out.push_back(Output::Event(Event::PathLost));
                self.set_state(IceState::Disconnected, out);
            }
        }
    }

    fn set_state(&mut self, state: IceState, out: &mut VecDeque<Output>) {
        if self.state != state {
            self.state = state;
            out.push_back(Output::Event(Event::IceState(state.name())));
        }
    }
}

struct Refusal {
    code: u16,
    reason: &'static str,
    /// Signed with the current (`true`) or previous credentials, where the request was signed rightly.
    signed: Option<bool>,
}

impl Refusal {
    fn new(code: u16, reason: &'static str) -> Refusal {
        Refusal { code, reason, signed: None }
    }
}

/// `length` characters of five random bits each.
fn random_text(length: usize) -> Result<String, String> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnopqrstuvwxyz0123456";
    let mut bytes = vec![0; length];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "no random numbers".to_owned())?;
    Ok(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect())
}
