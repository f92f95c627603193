//! SIP, SIPS and tel URIs (RFC 3261 §19.1, RFC 3966).
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::sip::error::WireError;

/// A URI taken apart. A `tel:` URI has its number as user and no host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Uri {
    /// `sip`, `sips`, `tel` or something else, in lower case.
    pub scheme: String,
    /// User part, percent signs undone; a phone number's visual separators are kept.
    pub user: Option<String>,
    /// Host name or address (IPv6 without brackets).
    pub host: String,
    /// Port.
    pub port: Option<u16>,
    /// Parameters behind `;`, names in lower case.
    pub params: Vec<(String, Option<String>)>,
    /// What stands behind `?`, as it stood.
    pub headers: Option<String>,
}

impl Uri {
    /// Reads a URI.
    pub fn parse(text: &str) -> Result<Self, WireError> {
        let (scheme, rest) = text.trim().split_once(':').ok_or(WireError::Uri)?;
        let scheme = scheme.to_ascii_lowercase();
        if scheme.is_empty() || !scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) {
            return Err(WireError::Uri);
        }
        if scheme == "tel" {
            let (number, params) = rest.split_once(';').unwrap_or((rest, ""));
            let user = Some(unescape(number));
            let params = parameters(params);
            return Ok(Uri { scheme, user, host: String::new(), port: None, params, headers: None });
        }
        // The user part may hold `;` and `?`, so the host begins behind the last `@` before the parameters.
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        let (rest, headers) = rest.split_once('?').map_or((rest, None), |(a, b)| (a, Some(b.to_owned())));
        let (address, params) = rest.split_once(';').unwrap_or((rest, ""));
        let (host, port) = host_port(address).ok_or(WireError::Uri)?;
        // A password (RFC 3261 §19.1.1) is dropped, never kept.
        let user = user.map(|user| unescape(user.split(':').next().unwrap_or_default()));
        Ok(Uri { scheme, user, host, port, params: parameters(params), headers })
    }

    /// `sip:user@host:port`.
    pub fn sip(user: Option<&str>, host: &str, port: Option<u16>) -> Self {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Uri {
            scheme: "sip".into(),
            user: user.map(str::to_owned),
            host,
            port,
            params: Vec::new(),
            headers: None,
        }
    }

    /// A parameter's value; a flag has an empty one.
    pub fn param(&self, name: &str) -> Option<&str> {
        let found = self.params.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_deref().unwrap_or_default())
    }

    /// The same with a parameter more.
    pub fn with_param(mut self, name: &str, value: &str) -> Self {
        self.params.retain(|(known, _)| known != name);
        self.params.push((name.to_owned(), (!value.is_empty()).then(|| value.to_owned())));
        self
    }

    /// The host where it is an address.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Whether the scheme is one we can call.
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme.as_str(), "sip" | "sips")
    }

    /// The user as a phone number without visual separators (RFC 3966 §5.1.1), or as it is.
    pub fn number(&self) -> String {
        let user = self.user.as_deref().unwrap_or_default();
        let user = user.split(';').next().unwrap_or_default();
        let digits = user.trim_start_matches('+');
        let is_number = digits.bytes().any(|b| b.is_ascii_digit())
            && digits.bytes().all(|b| b.is_ascii_digit() || b"-.()*#".contains(&b));
        if !is_number {
            return user.to_owned();
        }
        user.chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')')).collect()
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme)?;
        if let Some(user) = &self.user {
            f.write_str(&escape(user))?;
            if !self.host.is_empty() {
                f.write_str("@")?;
            }
        }
        f.write_str(&bracketed(&self.host))?;
        write_rest(f, self.port, &self.params)?;
        if let Some(headers) = &self.headers {
            write!(f, "?{headers}")?;
        }
        Ok(())
    }
}

/// What follows a host in a URI and in a Via: port and parameters.
pub(super) fn write_rest(
    f: &mut fmt::Formatter<'_>,
    port: Option<u16>,
    params: &[(String, Option<String>)],
) -> fmt::Result {
    if let Some(port) = port {
        write!(f, ":{port}")?;
    }
    params.iter().try_for_each(|(name, value)| match value {
        Some(value) => write!(f, ";{name}={value}"),
        None => write!(f, ";{name}"),
    })
}

/// A host as it stands in a URI or Via: IPv6 in brackets.
pub fn bracketed(host: &str) -> String {
    if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() }
}

/// Reads `host`, `host:port`, `[v6]`, `[v6]:port`.
pub fn host_port(text: &str) -> Option<(String, Option<u16>)> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        let port = match rest.trim().strip_prefix(':') {
            Some(port) => Some(port.trim().parse().ok()?),
            None if rest.trim().is_empty() => None,
            None => return None,
        };
        return Some((host.to_owned(), port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host.trim(), Some(port.trim().parse().ok()?)),
        None => (text, None),
    };
    let valid = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    valid.then(|| (host.to_owned(), port))
}

fn parameters(text: &str) -> Vec<(String, Option<String>)> {
    crate::sip::wire::value::params(text, ';')
}

fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let hex = (byte == b'%').then(|| Some((hex(ahead.next()?)?, hex(ahead.next()?)?))).flatten();
        match hex {
            Some((high, low)) => {
                out.push(high.wrapping_shl(4) | low);
                bytes = ahead;
            }
            None => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/#".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_taken_apart_and_put_together() {
        for text in [
            "sip:alice@example.com:5070;transport=tcp;lr",
            "sips:[2001:db8::1]:5061",
            "sip:*98#1@h",
            "sip:user;par=x%40y@h",
            "tel:+4930123;phone-context=x",
        ] {
            let uri = Uri::parse(text).expect(text);
            assert_eq!(uri.to_string(), text, "{text}");
        }
        assert_eq!(Uri::parse("sip:a:secret@h").expect("uri").to_string(), "sip:a@h");
    }

    #[test]
    fn numbers_lose_their_separators_and_names_do_not() {
        let number = |text: &str| Uri::parse(text).expect("uri").number();
        assert_eq!(number("tel:+49-30-12.3"), "+4930123");
        assert_eq!(number("sip:(030)123;phone-context=x@h;user=phone"), "030123");
        assert_eq!(number("sip:a.b-c@h"), "a.b-c");
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        for text in ["", "alice", "sip:", "sip:a@", "sip:a@[::1", "sip:a@h:99999", "sip:a@h o"] {
            assert!(Uri::parse(text).is_err(), "{text}");
        }
    }
}
