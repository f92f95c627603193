//! `Via` (RFC 3261 §20.42): how a message travels and where its answer goes (RFC 3581).
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;
use std::net::SocketAddr;

use crate::sip::error::WireError;
use crate::sip::wire::uri::{bracketed, host_port, write_rest};
use crate::sip::wire::value;

/// One value of the header.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Via {
    /// `UDP`, `TCP`, `TLS`, `WS`, `WSS` or what else stands there, in capitals.
    pub transport: String,
    /// Who sent it, as it says.
    pub host: String,
    /// The port it says.
    pub port: Option<u16>,
    /// Names in lower case; a value in quotes keeps them.
    params: Vec<(String, Option<String>)>,
}

impl Via {
    /// Reads one value, with whatever white space and folding there is.
    pub fn parse(text: &str) -> Result<Self, WireError> {
        const BAD: WireError = WireError::Missing("Via");
        let (head, rest) = text.split_once(';').map_or((text, None), |(head, rest)| (head, Some(rest)));
        let mut parts = head.splitn(3, '/').map(str::trim);
        let (Some(name), Some(version), Some(sent)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(BAD);
        };
        let (transport, by) = sent.split_once(char::is_whitespace).ok_or(BAD)?;
        let known = name.eq_ignore_ascii_case("SIP") && version == "2.0";
        if !known || transport.is_empty() || !transport.bytes().all(value::is_token) {
            return Err(BAD);
        }
        let (host, port) = host_port(by).ok_or(BAD)?;
        let params = rest.map(read_params).transpose()?.unwrap_or_default();
        Ok(Via { transport: transport.to_ascii_uppercase(), host, port, params })
    }

    /// A parameter's value; a flag has an empty one.
    pub fn param(&self, name: &str) -> Option<&str> {
        let found = self.params.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_deref().unwrap_or_default())
    }

    fn set(&mut self, name: &str, value: String) {
        self.params.retain(|(known, _)| known != name);
        self.params.push((name.to_owned(), Some(value)));
    }

    /// Notes where the message really came from: the address always, since it costs nothing and tells people what a NAT
    /// made of it; the port where the sender asks for that, or `always`.
    pub fn received_from(&mut self, source: SocketAddr, always: bool) {
        self.set("received", source.ip().to_canonical().to_string());
        if always || self.param("rport").is_some() {
            self.set("rport", source.port().to_string());
        }
    }
}

fn read_params(text: &str) -> Result<Vec<(String, Option<String>)>, WireError> {
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').map_or((part, None), |(name, value)| (name, Some(value)));
        let name = name.trim();
        let value = value.map(|value| value.trim().to_owned());
        let fits = !name.is_empty() && name.bytes().all(value::is_token);
        fits.then(|| (name.to_ascii_lowercase(), value)).ok_or(WireError::Missing("Via"))
    };
    text.split(';').map(pair).collect()
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/2.0/{} {}", self.transport, bracketed(&self.host))?;
        write_rest(f, self.port, &self.params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_however_they_are_spaced() {
        let via = Via::parse("SIP  / 2.0  / TCP     spindle.example.com   ;   branch  =   z9hG4bK9ikj8  ");
        assert_eq!(via.expect("a value").to_string(), "SIP/2.0/TCP spindle.example.com;branch=z9hG4bK9ikj8");
        let mut via =
            Via::parse("SIP/2.0/UDP [2001:db8::9:1] : 5070;received=x;rport;branch=z9").expect("a value");
        assert_eq!((via.param("rport"), via.port), (Some(""), Some(5070)));
        via.received_from("192.0.2.1:4000".parse().expect("address"), false);
        assert_eq!(
            via.to_string(),
            "SIP/2.0/UDP [2001:db8::9:1]:5070;branch=z9;received=192.0.2.1;rport=4000"
        );
        let mut via = Via::parse("SIP/2.0/UDP h").expect("a value");
        via.received_from("[::ffff:192.0.2.1]:4000".parse().expect("address"), false);
        assert_eq!(via.to_string(), "SIP/2.0/UDP h;received=192.0.2.1");
    }

    #[test]
    fn what_names_no_sender_is_refused() {
        for bad in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0 h",
            "SIP/3.0/UDP h",
            "HTTP/2.0/UDP h",
            "SIP/2.0/UDP h;;branch=1",
            "SIP/2.0/U@P h",
            "SIP/2.0/UDP a b",
        ] {
            assert!(Via::parse(bad).is_err(), "{bad}");
        }
    }
}
