//! Requests and responses (RFC 3261 §7): start line, headers, body.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;

use crate::sip::error::WireError;
use crate::sip::wire::value;
use crate::sip::wire::via::Via;

/// Bounds that hold before anything is made of a message.
#[derive(Clone, Copy, Debug)]
pub struct WireLimits {
    /// Bytes of a message.
    pub max_bytes: usize,
    /// Bytes of the headers together.
    pub max_header_bytes: usize,
    /// Header lines.
    pub max_headers: usize,
}

/// A request's method.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[allow(missing_docs)]
pub enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Register,
    Options,
    Info,
    Update,
    Prack,
    Refer,
    Notify,
    Subscribe,
    Message,
    Publish,
    Other(String),
}

impl Method {
    /// What we take; goes into `Allow`.
    pub const ALLOW: &'static str =
        "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE, PRACK, REFER, NOTIFY, REGISTER";

    /// Reads a method's name; names are compared with their case (RFC 3261 §7.1).
    pub fn new(name: &str) -> Self {
        match name {
            "INVITE" => Method::Invite,
            "ACK" => Method::Ack,
            "BYE" => Method::Bye,
            "CANCEL" => Method::Cancel,
            "REGISTER" => Method::Register,
            "OPTIONS" => Method::Options,
            "INFO" => Method::Info,
            "UPDATE" => Method::Update,
            "PRACK" => Method::Prack,
            "REFER" => Method::Refer,
            "NOTIFY" => Method::Notify,
            "SUBSCRIBE" => Method::Subscribe,
            "MESSAGE" => Method::Message,
            "PUBLISH" => Method::Publish,
            other => Method::Other(other.to_owned()),
        }
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        match self {
            Method::Invite => "INVITE",
            Method::Ack => "ACK",
            Method::Bye => "BYE",
            Method::Cancel => "CANCEL",
            Method::Register => "REGISTER",
            Method::Options => "OPTIONS",
            Method::Info => "INFO",
            Method::Update => "UPDATE",
            Method::Prack => "PRACK",
            Method::Refer => "REFER",
            Method::Notify => "NOTIFY",
            Method::Subscribe => "SUBSCRIBE",
            Method::Message => "MESSAGE",
            Method::Publish => "PUBLISH",
            Method::Other(name) => name,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The header lines of a message in their order, names in their long form.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first value of a header, whole as it stood on its line.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Every value of a header, one by one, whether they stood on one line (with commas) or several.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let lines = self.0.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name));
        lines.flat_map(|(_, line)| value::split(line, ','))
    }

    /// Every line of a header, whole (for those whose values hold commas of their own).
    pub fn lines<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, line)| line.as_str())
    }

    /// Whether a list header holds `token`, without case.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .any(|value| value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(token))
    }

    /// Adds a line at the end.
    pub fn push(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((name.to_owned(), value.into()));
    }

    /// Adds a line at the beginning, as proxies and clients do with `Via`.
    pub fn push_front(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(0, (name.to_owned(), value.into()));
    }

    /// Puts one line in place of all of that name.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.remove(name);
        self.push(name, value);
    }

    /// Takes all lines of that name out.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    /// Puts one value in place of the first of a header, wherever it stands.
    pub fn set_first(&mut self, name: &str, value: impl Into<String>) {
        let Some(at) = self.0.iter().position(|(known, _)| known.eq_ignore_ascii_case(name)) else { return };
        let rest: Vec<String> = match self.0.get(at) {
            Some((_, line)) => value::split(line, ',').skip(1).map(str::to_owned).collect(),
            None => Vec::new(),
        };
        let line = [value.into()].into_iter().chain(rest).collect::<Vec<_>>().join(", ");
        if let Some(first) = self.0.get_mut(at) {
            first.1 = line;
        }
    }

    /// Copies every line of that name from another message.
    pub fn copy(&mut self, name: &str, from: &Headers) {
        for line in from.lines(name) {
            self.push(name, line);
        }
    }

    /// Name and value of each line.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Call-ID.
    pub fn call_id(&self) -> &str {
        self.get("Call-ID").unwrap_or_default()
    }

    /// Number and method of `CSeq`.
    pub fn cseq(&self) -> Option<(u32, Method)> {
        let mut parts = self.get("CSeq")?.split_ascii_whitespace();
        let number = parts.next()?.parse().ok()?;
        let method = parts.next()?;
        (number < 1 << 31 && parts.next().is_none()).then(|| (number, Method::new(method)))
    }

    /// The tag of `From` or `To`.
    pub fn tag(&self, name: &str) -> Option<String> {
        let address = crate::sip::wire::NameAddr::parse(self.get(name)?).ok()?;
        address.param("tag").filter(|tag| !tag.is_empty()).map(str::to_owned)
    }
}

/// A request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// What is asked.
    pub method: Method,
    /// Of whom: the request URI as it stood.
    pub uri: String,
    /// Headers.
    pub headers: Headers,
    /// Body.
    pub body: Vec<u8>,
}

/// A response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Response {
    /// 100 to 699.
    pub status: u16,
    /// For people.
    pub reason: String,
    /// Headers.
    pub headers: Headers,
    /// Body.
    pub body: Vec<u8>,
}

/// Either.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(missing_docs)]
pub enum Message {
    Request(Request),
    Response(Response),
}

impl Message {
    /// Reads one whole message: a datagram, or what a stream's framing cut out.
    pub fn parse(data: &[u8], limits: &WireLimits) -> Result<Self, WireError> {
        if data.len() > limits.max_bytes {
            return Err(WireError::TooLarge("message"));
        }
        let data = skip_line_ends(data);
        let (head, body) = split_head(data).ok_or(WireError::Header)?;
        if head.len() > limits.max_header_bytes {
            return Err(WireError::TooLarge("headers"));
        }
        let head = String::from_utf8_lossy(head);
        let mut lines = unfold(&head, limits)?.into_iter();
        let start = lines.next().ok_or(WireError::StartLine)?;
        let headers = headers(lines)?;
        let body = cut_body(&headers, body)?;
        let message = start_line(&start, headers, body)?;
        message.check()?;
        Ok(message)
    }

    /// The headers.
    pub fn headers(&self) -> &Headers {
        match self {
            Message::Request(request) => &request.headers,
            Message::Response(response) => &response.headers,
        }
    }

    /// What no message may lack (RFC 3261 §8.1.1), and that `CSeq` names the request's method.
    fn check(&self) -> Result<(), WireError> {
        let headers = self.headers();
        for name in ["Via", "From", "To", "Call-ID"] {
            if headers.get(name).is_none_or(str::is_empty) {
                return Err(WireError::Missing(name));
            }
        }
        let (_, method) = headers.cseq().ok_or(WireError::Missing("CSeq"))?;
        let Message::Request(request) = self else { return Ok(()) };
        // The answer goes by it.
        headers.all("Via").next().ok_or(WireError::Missing("Via")).and_then(Via::parse)?;
        if request.method == method { Ok(()) } else { Err(WireError::Missing("CSeq")) }
    }

    /// The bytes to send.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Message::Request(request) => {
                write(&format!("{} {} SIP/2.0", request.method, request.uri), &request.headers, &request.body)
            }
            Message::Response(response) => write(
                &format!("SIP/2.0 {} {}", response.status, response.reason),
                &response.headers,
                &response.body,
            ),
        }
    }
}

impl Request {
    /// A request without headers.
    pub fn new(method: Method, uri: impl Into<String>) -> Self {
        Request { method, uri: uri.into(), headers: Headers::default(), body: Vec::new() }
    }

    /// Adds a body with its type.
    pub fn set_body(&mut self, kind: &str, body: impl Into<Vec<u8>>) {
        self.headers.set("Content-Type", kind);
        self.body = body.into();
    }

    /// A response to it (RFC 3261 §8.2.6): Via, From, To, Call-ID, CSeq copied. A `To` without a tag gets
    /// `tag`, unless the response is 100.
    pub fn response(&self, status: u16, reason: &str, tag: &str) -> Response {
        let mut headers = Headers::default();
        headers.copy("Via", &self.headers);
        headers.copy("From", &self.headers);
        let to = self.headers.get("To").unwrap_or_default();
        if status > 100 && !tag.is_empty() && self.headers.tag("To").is_none() {
            headers.push("To", format!("{to};tag={tag}"));
        } else {
            headers.push("To", to);
        }
        headers.copy("Call-ID", &self.headers);
        headers.copy("CSeq", &self.headers);
        let reason = if reason.is_empty() { reason_phrase(status) } else { reason };
        Response { status, reason: reason.to_owned(), headers, body: Vec::new() }
    }

    /// Whether the body is of `kind` (without parameters, without case), or has no type and could be.
    pub fn has_body(&self, kind: &str) -> bool {
        is_type(&self.headers, &self.body, kind)
    }
}

impl Response {
    /// Adds a body with its type.
    pub fn set_body(&mut self, kind: &str, body: impl Into<Vec<u8>>) {
        self.headers.set("Content-Type", kind);
        self.body = body.into();
    }

    /// Whether the body is of `kind` (without parameters, without case), or has no type and could be.
    pub fn has_body(&self, kind: &str) -> bool {
        is_type(&self.headers, &self.body, kind)
    }
}

fn is_type(headers: &Headers, body: &[u8], kind: &str) -> bool {
    let named = headers.get("Content-Type").map(|value| value.split(';').next().unwrap_or_default().trim());
    !body.is_empty() && named.is_none_or(|named| named.eq_ignore_ascii_case(kind))
}

/// Keepalives (RFC 5626 §4.4.1) and stray line ends before a message.
pub fn skip_line_ends(data: &[u8]) -> &[u8] {
    let start = data.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(data.len());
    data.get(start..).unwrap_or_default()
}

/// Where the headers end: behind the first empty line, whatever ends lines.
pub fn head_length(data: &[u8]) -> Option<usize> {
    let mut newline = None;
    for (at, byte) in data.iter().enumerate() {
        match byte {
            b'\n' if newline == Some(()) => return at.checked_add(1),
            b'\n' => newline = Some(()),
            b'\r' => {}
            _ => newline = None,
        }
    }
    None
}

pub(super) fn split_head(data: &[u8]) -> Option<(&[u8], &[u8])> {
    match head_length(data) {
        Some(length) => data.split_at_checked(length),
        // A datagram may end without its empty line.
        None => Some((data, &[])),
    }
}

/// Lines with their continuations joined (RFC 3261 §7.3.1).
pub(super) fn unfold(head: &str, limits: &WireLimits) -> Result<Vec<String>, WireError> {
    let mut lines: Vec<String> = Vec::new();
    for line in head.split('\n') {
        let line = line.trim_end_matches('\r');
        if line.starts_with([' ', '\t']) {
            let last = lines.last_mut().ok_or(WireError::StartLine)?;
            last.push(' ');
            last.push_str(line.trim());
        } else if !line.is_empty() {
            lines.push(line.to_owned());
        }
        if lines.len() > limits.max_headers.saturating_add(1) {
            return Err(WireError::TooLarge("number of headers"));
        }
    }
    Ok(lines)
}

fn headers(lines: impl Iterator<Item = String>) -> Result<Headers, WireError> {
    let mut headers = Headers::default();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(WireError::Header)?;
        let name = name.trim_end();
        if name.is_empty() || !name.bytes().all(value::is_token) {
            return Err(WireError::Header);
        }
        // A lone carriage return or a zero byte ends a line for some readers and not for others. An escaped one is
        // legal in quotes, and nobody misses it.
        let value = value.replace("\\\0", "");
        if value.contains(['\r', '\0']) {
            return Err(WireError::Header);
        }
        let name = long_name(name);
        // The transaction and the dialog hang on these: two of one kind have no one meaning.
        let single = ["Call-ID", "CSeq", "From", "To", "Max-Forwards", "Content-Length"];
        if single.contains(&name) && headers.get(name).is_some() {
            return Err(WireError::Header);
        }
        headers.push(name, value.trim());
    }
    Ok(headers)
}

fn cut_body(headers: &Headers, body: &[u8]) -> Result<Vec<u8>, WireError> {
    let Some(length) = headers.get("Content-Length") else { return Ok(body.to_vec()) };
    let length: usize = length.parse().map_err(|_| WireError::Missing("Content-Length"))?;
    body.get(..length).map(<[u8]>::to_vec).ok_or(WireError::Short)
}

fn start_line(line: &str, headers: Headers, body: Vec<u8>) -> Result<Message, WireError> {
    if let Some(rest) = line.strip_prefix("SIP/2.0 ") {
        let (status, reason) = rest.trim_start().split_once(' ').unwrap_or((rest.trim(), ""));
        let status: u16 = status.parse().map_err(|_| WireError::StartLine)?;
        if !(100..700).contains(&status) {
            return Err(WireError::StartLine);
        }
        let reason = reason.chars().filter(|c| !c.is_control()).collect();
        return Ok(Message::Response(Response { status, reason, headers, body }));
    }
    let (method, rest) = line.split_once(' ').ok_or(WireError::StartLine)?;
    let (uri, version) = rest.rsplit_once(' ').ok_or(WireError::StartLine)?;
    if !version.eq_ignore_ascii_case("SIP/2.0") {
        let other = version.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("SIP/"));
        return Err(if other { WireError::Version } else { WireError::StartLine });
    }
    if method.is_empty() || !method.bytes().all(value::is_token) {
        return Err(WireError::StartLine);
    }
    if uri.is_empty() || uri.contains(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"')) {
        return Err(WireError::Uri);
    }
    Ok(Message::Request(Request { method: Method::new(method), uri: uri.to_owned(), headers, body }))
}

fn write(start: &str, headers: &Headers, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len().saturating_add(600));
    out.extend_from_slice(start.as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers.iter() {
        if name.eq_ignore_ascii_case("Content-Length") {
            continue;
        }
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend(value.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)));
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
    out
}

/// Names that have a compact form (RFC 3261 §20 and the registry), and the spelling of those we look up.
const NAMES: &[(&str, &str)] = &[
    ("i", "Call-ID"),
    ("m", "Contact"),
    ("e", "Content-Encoding"),
    ("l", "Content-Length"),
    ("c", "Content-Type"),
    ("f", "From"),
    ("s", "Subject"),
    ("k", "Supported"),
    ("t", "To"),
    ("v", "Via"),
    ("u", "Allow-Events"),
    ("o", "Event"),
    ("r", "Refer-To"),
    ("b", "Referred-By"),
    ("x", "Session-Expires"),
    ("a", "Accept-Contact"),
    ("j", "Reject-Contact"),
    ("d", "Request-Disposition"),
    ("n", "Identity-Info"),
    ("y", "Identity"),
];

pub(super) fn long_name(name: &str) -> &str {
    if name.len() == 1 {
        let found = NAMES.iter().find(|(short, _)| short.eq_ignore_ascii_case(name));
        return found.map_or(name, |(_, long)| long);
    }
    let known = NAMES.iter().map(|(_, long)| *long).chain(["CSeq", "Max-Forwards"]);
    known.into_iter().find(|long| long.eq_ignore_ascii_case(name)).unwrap_or(name)
}

/// The usual words for a status code (RFC 3261 §21 and later).
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        182 => "Queued",
        181 => "Call Is Being Forwarded",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        302 => "Moved Temporarily",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        600 => "Busy Everywhere",
        603 => "Decline",
        606 => "Not Acceptable",
        _ if status < 200 => "Progress",
        _ if status < 300 => "OK",
        _ if status < 400 => "Redirected",
        _ if status < 500 => "Request Failed",
        _ if status < 600 => "Server Failure",
        _ => "Refused",
    }
}
