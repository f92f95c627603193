//! Digest authentication as a policy: challenges that cannot be replayed, and answers to others' challenges
//! (RFC 3261 §22, RFC 7616, RFC 8760).

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use aws_lc_rs::{constant_time, digest};

use crate::sip::session::{random, token};
use crate::sip::wire::auth::{Algorithm, Challenge, Credentials};
use crate::sip::wire::{Headers, Request, Response};

/// Nonces whose counts are remembered; the oldest is forgotten first.
const MAX_NONCES: usize = 10_000;

/// What stands for a password.
#[derive(Clone, Eq, PartialEq)]
pub struct Ha1s {
    /// By MD5.
    pub md5: String,
    /// By SHA-256.
    pub sha256: String,
}

impl std::fmt::Debug for Ha1s {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

impl Ha1s {
    /// Of a password.
    pub fn of(user: &str, realm: &str, password: &str) -> Self {
        Ha1s {
            md5: Algorithm::Md5.ha1(user, realm, password),
            sha256: Algorithm::Sha256.ha1(user, realm, password),
        }
    }

    fn get(&self, algorithm: Algorithm) -> &str {
        match algorithm {
            Algorithm::Md5 => &self.md5,
            Algorithm::Sha256 => &self.sha256,
        }
    }
}

/// What became of a request's credentials.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// They are right; the user's name.
    Right(String),
    /// There are none for our realm, or their nonce is old: ask (again). No fault of anybody's.
    Ask {
        /// The answer was right but for its nonce.
        stale: bool,
    },
    /// They are wrong.
    Wrong,
}

/// Our side of challenges.
pub struct Verifier {
    realm: String,
    algorithms: Vec<Algorithm>,
    /// Offer to protect bodies too.
    integrity: bool,
    lifetime: Duration,
    started: Instant,
    secret: [u8; 32],
    counts: HashMap<String, u32>,
    order: VecDeque<String>,
}

impl Verifier {
    /// A new one with a secret of its own.
    pub fn new(
        realm: &str,
        (algorithms, integrity): (&[Algorithm], bool),
        lifetime: Duration,
        now: Instant,
    ) -> Self {
        Verifier {
            integrity,
            algorithms: algorithms.to_vec(),
            realm: realm.to_owned(),
            lifetime,
            started: now,
            secret: random(),
            counts: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    fn nonce(&self, now: Instant) -> String {
        let seconds = now.saturating_duration_since(self.started).as_secs();
        let salt = token();
        let stamp = format!("{seconds:x}.{salt}");
        format!("{stamp}.{}", self.seal(&stamp))
    }

    fn seal(&self, stamp: &str) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.secret);
        context.update(stamp.as_bytes());
        context.update(&self.secret);
        context.finish().as_ref().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether a nonce is ours, and still good.
    fn check(&self, nonce: &str, now: Instant) -> Option<bool> {
        let (stamp, seal) = nonce.rsplit_once('.')?;
        let ours = self.seal(stamp);
        constant_time::verify_slices_are_equal(ours.as_bytes(), seal.as_bytes()).ok()?;
        let seconds = u64::from_str_radix(stamp.split('.').next()?, 16).ok()?;
        let made = self.started + Duration::from_secs(seconds);
        Some(now.saturating_duration_since(made) <= self.lifetime)
    }

    /// The challenges for a 401, one a hash (RFC 8760 §2.4).
    pub fn challenge(&self, response: &mut Response, stale: bool, now: Instant) {
        let nonce = self.nonce(now);
        for algorithm in self.algorithms.iter().copied() {
            let challenge = Challenge {
                realm: self.realm.clone(),
                nonce: nonce.clone(),
                opaque: None,
                algorithm,
                qop: ["auth", "auth-int"][..1 + usize::from(self.integrity)]
                    .iter()
                    .map(|q| (*q).into())
                    .collect(),
                stale,
            };
            response.headers.push("WWW-Authenticate", challenge.to_string());
        }
    }

    /// Judges a request; `ha1` looks a user up.
    pub fn verify(&mut self, request: &Request, now: Instant, ha1: impl Fn(&str) -> Option<Ha1s>) -> Verdict {
        let lines = request.headers.lines("Authorization").filter_map(Credentials::parse);
        let Some(given) = lines.into_iter().find(|given| given.realm == self.realm) else {
            return Verdict::Ask { stale: false };
        };
        let Some(good) = self.check(&given.nonce, now) else { return Verdict::Ask { stale: false } };
        // An unknown user takes as long as a wrong password.
        let known = ha1(&given.username);
        let keys = known.clone().unwrap_or_else(|| Ha1s::of(&given.username, &self.realm, ""));
        let expected = given.expected(keys.get(given.algorithm), request.method.as_str(), &request.body);
        let right = constant_time::verify_slices_are_equal(expected.as_bytes(), given.response.as_bytes());
        if right.is_err() || known.is_none() || !same_target(&given.uri, &request.uri) {
            return Verdict::Wrong;
        }
        // A count that does not grow is a replay; an answer without a count could be replayed at will.
        let Some((_, count, _)) = given.qop else { return Verdict::Ask { stale: true } };
        if !good || !self.count(&given.nonce, count) {
            return Verdict::Ask { stale: true };
        }
        Verdict::Right(given.username)
    }

    fn count(&mut self, nonce: &str, count: u32) -> bool {
        if let Some(last) = self.counts.get_mut(nonce) {
            let grows = count > *last;
            *last = count.max(*last);
            return grows;
        }
        if self.order.len() >= MAX_NONCES
            && let Some(oldest) = self.order.pop_front()
        {
            self.counts.remove(&oldest);
        }
        self.order.push_back(nonce.to_owned());
        self.counts.insert(nonce.to_owned(), count);
        count > 0
    }
}

/// Clients write the request's URI into the digest, some without its parameters.
fn same_target(given: &str, uri: &str) -> bool {
    let bare = |text: &str| text.split([';', '?']).next().unwrap_or_default().to_ascii_lowercase();
    bare(given) == bare(uri)
}

/// What we authenticate with.
#[derive(Clone, Eq, PartialEq)]
pub struct Account {
    /// User name of the digest.
    pub username: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// Our answers to one server's challenges.
#[derive(Clone, Debug, Default)]
pub struct Answerer {
    challenge: Option<Challenge>,
    proxy: bool,
    count: u32,
    refused: u32,
}

impl Answerer {
    /// Takes the challenge of a 401 or 407. `false`: our password was wrong, or there is no challenge that
    /// we can answer; asking again would not help.
    pub fn challenged(&mut self, response: &Response) -> bool {
        let proxy = response.status == 407;
        let name = if proxy { "Proxy-Authenticate" } else { "WWW-Authenticate" };
        let challenges = response.headers.lines(name).filter_map(Challenge::parse);
        let best = challenges.max_by_key(|challenge| challenge.algorithm);
        let Some(best) = best else { return false };
        if self.challenge.is_some() && self.proxy == proxy && !best.stale {
            self.refused += 1;
            // Some servers forget to say stale: one more try with the new nonce.
            let same = self.challenge.as_ref().is_some_and(|old| old.nonce == best.nonce);
            if self.refused > 1 || same {
                return false;
            }
        }
        self.challenge = Some(best);
        self.proxy = proxy;
        self.count = 0;
        true
    }

    /// The last answer was taken.
    pub fn accepted(&mut self) {
        self.refused = 0;
    }

    /// Puts credentials into a request, when there was a challenge.
    pub fn sign(&mut self, request: &mut Request, account: &Account) {
        let Some(challenge) = &self.challenge else { return };
        let qop = challenge
            .qop
            .iter()
            .find(|qop| *qop == "auth")
            .or_else(|| challenge.qop.iter().find(|qop| *qop == "auth-int"));
        self.count += 1;
        let mut credentials = Credentials {
            username: account.username.clone(),
            realm: challenge.realm.clone(),
            nonce: challenge.nonce.clone(),
            uri: request.uri.clone(),
            response: String::new(),
            algorithm: challenge.algorithm,
            opaque: challenge.opaque.clone(),
            qop: qop.map(|qop| (qop.clone(), self.count, token())),
        };
        let ha1 = challenge.algorithm.ha1(&account.username, &challenge.realm, &account.password);
        credentials.response = credentials.expected(&ha1, request.method.as_str(), &request.body);
        let name = if self.proxy { "Proxy-Authorization" } else { "Authorization" };
        set(&mut request.headers, name, credentials.to_string());
    }
}

fn set(headers: &mut Headers, name: &str, value: String) {
    headers.set(name, value);
}
