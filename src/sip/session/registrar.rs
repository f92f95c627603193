//! The registrar for desk phones (RFC 3261 §10.3): users, and where each can be reached for how long.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tracing::info;

use crate::sip::config::SipConfig;
use crate::sip::session::dialog::transport_of;
use crate::sip::session::digest::Ha1s;
use crate::sip::session::{Destination, FlowId, Source};
use crate::sip::wire::{NameAddr, Request, Response, Uri};

/// One place where a user can be reached.
#[derive(Clone, Debug)]
struct Binding {
    contact: NameAddr,
    uri: Uri,
    until: Instant,
    source: Source,
    path: Vec<String>,
    call_id: String,
    seq: u32,
}

/// Who may register, and who has.
#[derive(Debug, Default)]
pub struct Registrar {
    users: HashMap<String, Ha1s>,
    bindings: HashMap<String, Vec<Binding>>,
}

/// Reads the users' file: `user:realm:MD5:SHA-256` a line, `#` for remarks.
pub fn read_users(text: &str, realm: &str) -> Result<HashMap<String, Ha1s>, String> {
    let mut users = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let parts: Vec<&str> = line.split(':').collect();
        let is_hex = |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit());
        match parts.as_slice() {
            [user, of, md5, sha256] if is_hex(md5, 32) && is_hex(sha256, 64) && !user.is_empty() => {
                if *of == realm {
                    let (md5, sha256) = (md5.to_ascii_lowercase(), sha256.to_ascii_lowercase());
                    users.insert((*user).to_owned(), Ha1s { md5, sha256 });
                }
            }
            _ => return Err(format!("line {} is not user:realm:md5:sha256", number + 1)),
        }
    }
    Ok(users)
}

/// The line of a user for that file.
pub fn user_line(user: &str, realm: &str, password: &str) -> String {
    let Ha1s { md5, sha256 } = Ha1s::of(user, realm, password);
    format!("{user}:{realm}:{md5}:{sha256}")
}

impl Registrar {
    /// A registrar of these users.
    pub fn new(users: HashMap<String, Ha1s>) -> Self {
        Registrar { users, bindings: HashMap::new() }
    }

    /// What stands for a user's password.
    pub fn ha1(&self, user: &str) -> Option<Ha1s> {
        self.users.get(user).cloned()
    }

    /// Whether anybody may register.
    pub fn is_open(&self) -> bool {
        !self.users.is_empty()
    }

    /// Whether there is such a user.
    pub fn knows(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// Takes the REGISTER of a user who proved who he is.
    pub fn register(
        &mut self,
        user: &str,
        request: &Request,
        source: Source,
        now: Instant,
        config: &SipConfig,
    ) -> Response {
        let bindings = self.bindings.entry(user.to_owned()).or_default();
        bindings.retain(|binding| binding.until > now);
        let before = bindings.len();
        if let Err((status, header)) = apply(bindings, request, source, now, config) {
            let mut response = request.response(status, "", &super::token());
            if let Some(value) = header {
                response.headers.push("Min-Expires", value);
            }
            return response;
        }
        let after = bindings.len();
        if (before == 0) != (after == 0) {
            info!(
                user,
                transport = source.transport.via(),
                "{}",
                if after > 0 { "a phone registered" } else { "a phone left" }
            );
        }
        let mut response = request.response(200, "", &super::token());
        for binding in bindings.iter() {
            let left = binding.until.saturating_duration_since(now).as_secs();
            let contact = binding.contact.clone().with_param("expires", &left.to_string());
            response.headers.push("Contact", contact.to_string());
        }
        response.headers.copy("Path", &request.headers);
        if bindings.is_empty() {
            self.bindings.remove(user);
        }
        response
    }

    /// Everywhere a user can be reached: the request URI, and the way there.
    pub fn places(&self, user: &str, now: Instant) -> Vec<(Uri, Destination)> {
        let Some(bindings) = self.bindings.get(user) else { return Vec::new() };
        let live = bindings.iter().filter(|binding| binding.until > now);
        live.map(|binding| {
            let source = binding.source;
            let first = binding.path.first().and_then(|path| NameAddr::parse(path).ok()?.uri().ok());
            let direct = first.is_none();
            let next = first.unwrap_or_else(|| binding.uri.clone());
            let transport = transport_of(&next, source.transport);
            // A phone behind NAT is where its REGISTER came from, whatever it says.
            let addr = direct.then_some(source.addr);
            // A Path is the way back (RFC 3327 §5.2).
            let routes = binding.path.clone();
            let to = Destination { uri: next, flow: source.flow, addr, transport, any: false, routes };
            (binding.uri.clone(), to)
        })
        .collect()
    }

    /// A connection is gone, and with it the phones that could be reached by it.
    pub fn flow_closed(&mut self, flow: FlowId) {
        self.bindings.retain(|_, bindings| {
            bindings.retain(|binding| binding.source.flow != Some(flow));
            !bindings.is_empty()
        });
    }

    /// Users that can be reached, and at how many places.
    pub fn present(&self, now: Instant) -> Vec<(String, usize)> {
        let live = |bindings: &Vec<Binding>| bindings.iter().filter(|binding| binding.until > now).count();
        let mut all: Vec<_> =
            self.bindings.iter().map(|(user, bindings)| (user.clone(), live(bindings))).collect();
        all.retain(|(_, count)| *count > 0);
        all.sort();
        all
    }
}

type Fault = (u16, Option<String>);

fn apply(
    bindings: &mut Vec<Binding>,
    request: &Request,
    source: Source,
    now: Instant,
    config: &SipConfig,
) -> Result<(), Fault> {
    let headers = &request.headers;
    let (seq, _) = headers.cseq().ok_or((400u16, None))?;
    let call_id = headers.call_id();
    let general: Option<u32> = headers.get("Expires").and_then(|text| text.trim().parse().ok());
    let contacts: Vec<&str> = headers.all("Contact").collect();
    if contacts.iter().any(|contact| contact.trim() == "*") {
        if contacts.len() > 1 || general != Some(0) {
            return Err((400, None));
        }
        bindings.clear();
        return Ok(());
    }
    let mut next = bindings.clone();
    for text in contacts {
        let contact = NameAddr::parse(text).map_err(|_| (400u16, None))?;
        let uri = contact.uri().map_err(|_| (400u16, None))?;
        let own = contact.param("expires").and_then(|text| text.parse().ok());
        let seconds = own.or(general).unwrap_or(config.max_registration_s);
        let instance = contact.param("+sip.instance").map(str::to_owned);
        let same = |known: &Binding| match (&instance, known.contact.param("+sip.instance")) {
            (Some(a), Some(b)) => a == b && contact.param("reg-id") == known.contact.param("reg-id"),
            _ => known.uri == uri,
        };
        // An old request that was overtaken must not undo a newer one (RFC 3261 §10.3).
        if next.iter().any(|known| same(known) && known.call_id == call_id && known.seq >= seq) {
            return Err((500, None));
        }
        next.retain(|known| !same(known));
        if seconds == 0 {
            continue;
        }
        if seconds < config.min_registration_s {
            return Err((423, Some(config.min_registration_s.to_string())));
        }
        if next.len() >= config.max_contacts {
            return Err((403, None));
        }
        let until = now + Duration::from_secs(u64::from(seconds.min(config.max_registration_s)));
        let path = headers.all("Path").map(str::to_owned).collect();
        let call_id = call_id.to_owned();
        next.push(Binding { contact: contact.without("expires"), uri, until, source, path, call_id, seq });
    }
    *bindings = next;
    Ok(())
}
