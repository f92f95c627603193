//! `From`, `To`, `Contact`, `Route`, `Refer-To` and their like: a name, a URI, parameters (RFC 3261 §20.10).
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;

use crate::sip::error::WireError;
use crate::sip::wire::Uri;
use crate::sip::wire::value;

/// A name-addr or addr-spec with the header's parameters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NameAddr {
    /// Display name, unquoted; empty where there is none.
    pub display: String,
    /// The URI as it stood.
    pub uri: String,
    /// Parameters of the header, names in lower case.
    pub params: Vec<(String, Option<String>)>,
}

impl NameAddr {
    /// Reads one value.
    pub fn parse(text: &str) -> Result<Self, WireError> {
        let text = text.trim();
        let Some(open) = find_open(text) else {
            // Without brackets every parameter belongs to the header (RFC 3261 §20.10).
            let (uri, params) = text.split_once(';').unwrap_or((text, ""));
            let uri = uri.trim();
            if uri.is_empty() || uri.contains(char::is_whitespace) {
                return Err(WireError::Uri);
            }
            let params = value::params(params, ';');
            return Ok(NameAddr { display: String::new(), uri: uri.to_owned(), params });
        };
        let (display, rest) = text.split_at_checked(open).ok_or(WireError::Uri)?;
        let (uri, params) =
            rest.strip_prefix('<').and_then(|rest| rest.split_once('>')).ok_or(WireError::Uri)?;
        Ok(NameAddr {
            display: value::unquote(display),
            uri: uri.trim().to_owned(),
            params: value::params(params, ';'),
        })
    }

    /// `<uri>` without name and parameters.
    pub fn new(uri: impl fmt::Display) -> Self {
        NameAddr { display: String::new(), uri: uri.to_string(), params: Vec::new() }
    }

    /// The same with a display name.
    pub fn named(mut self, display: &str) -> Self {
        self.display = display.to_owned();
        self
    }

    /// The same with a parameter more.
    pub fn with_param(mut self, name: &str, value: &str) -> Self {
        self.params.retain(|(known, _)| known != name);
        self.params.push((name.to_owned(), (!value.is_empty()).then(|| value.to_owned())));
        self
    }

    /// The same without a parameter.
    pub fn without(mut self, name: &str) -> Self {
        self.params.retain(|(known, _)| known != name);
        self
    }

    /// A parameter's value; a flag has an empty one.
    pub fn param(&self, name: &str) -> Option<&str> {
        let found = self.params.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_deref().unwrap_or_default())
    }

    /// The URI taken apart.
    pub fn uri(&self) -> Result<Uri, WireError> {
        Uri::parse(&self.uri)
    }
}

/// Where `<` stands outside quotes.
fn find_open(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '<' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.display.is_empty() {
            write!(f, "{} ", value::quote(&self.display))?;
        }
        write!(f, "<{}>", self.uri)?;
        for (name, value) in &self.params {
            match value {
                Some(value)
                    if !value.is_empty() && value.bytes().all(|b| value::is_token(b) || b == b':') =>
                {
                    write!(f, ";{name}={value}")?;
                }
                Some(text) => write!(f, ";{name}={}", value::quote(text))?,
                None => write!(f, ";{name}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_belong_where_the_brackets_say() {
        let a = NameAddr::parse(r#""A <B>" <sip:a@h;lr>;tag=1;x"#).expect("value");
        assert_eq!((a.display.as_str(), a.uri.as_str(), a.param("tag")), ("A <B>", "sip:a@h;lr", Some("1")));
        assert_eq!(a.to_string(), r#""A <B>" <sip:a@h;lr>;tag=1;x"#);
        let b = NameAddr::parse("sip:a@h;tag=2").expect("value");
        assert_eq!((b.uri.as_str(), b.param("tag")), ("sip:a@h", Some("2")));
        assert!(NameAddr::parse("\"unfinished <sip:a@h>").is_err());
    }
}
