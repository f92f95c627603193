//! Digest authentication on the wire (RFC 2617, RFC 7616, RFC 8760): challenges, credentials, their hashes.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;

use aws_lc_rs::digest;
use md5::{Digest, Md5};
use serde::Deserialize;

use crate::sip::wire::value;

/// A hash of digest authentication.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Algorithm {
    /// What every phone has.
    #[serde(rename = "md5")]
    Md5,
    /// RFC 8760.
    #[serde(rename = "sha-256")]
    Sha256,
}

impl Algorithm {
    /// Reads its name; an absent one is MD5. The `-sess` variants are not taken.
    pub fn parse(name: Option<&str>) -> Option<Self> {
        match name {
            None => Some(Algorithm::Md5),
            Some(name) if name.eq_ignore_ascii_case("MD5") => Some(Algorithm::Md5),
            Some(name) if name.eq_ignore_ascii_case("SHA-256") => Some(Algorithm::Sha256),
            Some(_) => None,
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
        }
    }

    /// The hash in lower-case hex.
    pub fn hash(self, data: &[u8]) -> String {
        match self {
            Algorithm::Md5 => hex(&Md5::digest(data)),
            Algorithm::Sha256 => hex(digest::digest(&digest::SHA256, data).as_ref()),
        }
    }

    /// `H(user:realm:password)`: what stands for the password.
    pub fn ha1(self, user: &str, realm: &str, password: &str) -> String {
        self.hash(format!("{user}:{realm}:{password}").as_bytes())
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    let mut out = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// What `WWW-Authenticate` or `Proxy-Authenticate` asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Challenge {
    /// Whose passwords.
    pub realm: String,
    /// To be hashed into the answer.
    pub nonce: String,
    /// To be sent back as it is.
    pub opaque: Option<String>,
    /// Which hash.
    pub algorithm: Algorithm,
    /// `auth`, `auth-int`; empty where the server is older than RFC 2617.
    pub qop: Vec<String>,
    /// The last answer was right but for its nonce.
    pub stale: bool,
}

impl Challenge {
    /// Reads a header line. None: not Digest, or a hash we do not have.
    pub fn parse(line: &str) -> Option<Self> {
        let params = digest_params(line)?;
        let get = |name: &str| find(&params, name);
        Some(Challenge {
            realm: get("realm")?,
            nonce: get("nonce")?,
            opaque: get("opaque"),
            algorithm: Algorithm::parse(get("algorithm").as_deref())?,
            qop: get("qop")
                .map(|list| list.split(',').map(|qop| qop.trim().to_ascii_lowercase()).collect())
                .unwrap_or_default(),
            stale: get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (realm, nonce) = (value::quote(&self.realm), value::quote(&self.nonce));
        write!(f, "Digest realm={realm}, nonce={nonce}")?;
        if let Some(opaque) = &self.opaque {
            write!(f, ", opaque={}", value::quote(opaque))?;
        }
        if self.stale {
            f.write_str(", stale=true")?;
        }
        write!(f, ", algorithm={}", self.algorithm.as_str())?;
        if !self.qop.is_empty() {
            write!(f, ", qop=\"{}\"", self.qop.join(","))?;
        }
        Ok(())
    }
}

/// What `Authorization` or `Proxy-Authorization` answers.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(missing_docs)]
pub struct Credentials {
    pub username: String,
    pub realm: String,
    pub nonce: String,
    pub uri: String,
    pub response: String,
    pub algorithm: Algorithm,
    pub opaque: Option<String>,
    /// `auth` or `auth-int` with nonce count and client nonce.
    pub qop: Option<(String, u32, String)>,
}

impl Credentials {
    /// Reads a header line.
    pub fn parse(line: &str) -> Option<Self> {
        let params = digest_params(line)?;
        let get = |name: &str| find(&params, name);
        let qop = match get("qop") {
            None => None,
            Some(qop) => {
                let count = u32::from_str_radix(&get("nc")?, 16).ok()?;
                Some((qop.to_ascii_lowercase(), count, get("cnonce")?))
            }
        };
        Some(Credentials {
            username: get("username")?,
            realm: get("realm")?,
            nonce: get("nonce")?,
            uri: get("uri")?,
            response: get("response")?.to_ascii_lowercase(),
            algorithm: Algorithm::parse(get("algorithm").as_deref())?,
            opaque: get("opaque"),
            qop,
        })
    }

    /// The response that belongs to the other fields (RFC 7616 §3.4.1).
    pub fn expected(&self, ha1: &str, method: &str, body: &[u8]) -> String {
        let hash = |text: String| self.algorithm.hash(text.as_bytes());
        let (nonce, uri) = (&self.nonce, &self.uri);
        match &self.qop {
            None => {
                let ha2 = hash(format!("{method}:{uri}"));
                hash(format!("{ha1}:{nonce}:{ha2}"))
            }
            Some((qop, count, cnonce)) => {
                let ha2 = match qop.as_str() {
                    "auth-int" => hash(format!("{method}:{uri}:{}", self.algorithm.hash(body))),
                    _ => hash(format!("{method}:{uri}")),
                };
                hash(format!("{ha1}:{nonce}:{count:08x}:{cnonce}:{qop}:{ha2}"))
            }
        }
    }
}

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = value::quote;
        write!(f, "Digest username={}, realm={}, ", quote(&self.username), quote(&self.realm))?;
        write!(f, "nonce={}, uri={}, ", quote(&self.nonce), quote(&self.uri))?;
        write!(f, "response=\"{}\", algorithm={}", self.response, self.algorithm.as_str())?;
        if let Some(opaque) = &self.opaque {
            write!(f, ", opaque={}", quote(opaque))?;
        }
        if let Some((qop, count, cnonce)) = &self.qop {
            write!(f, ", qop={qop}, nc={count:08x}, cnonce={}", quote(cnonce))?;
        }
        Ok(())
    }
}

fn digest_params(line: &str) -> Option<Vec<(String, Option<String>)>> {
    let (scheme, rest) = line.trim().split_once(char::is_whitespace)?;
    scheme.eq_ignore_ascii_case("Digest").then(|| value::params(rest, ','))
}

fn find(params: &[(String, Option<String>)], name: &str) -> Option<String> {
    params.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7616 §3.9.1, both hashes.
    #[test]
    fn the_standards_example_comes_out() {
        let line = |algorithm: &str, response: &str| {
            format!(
                "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", \
                 algorithm={algorithm}, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
                 cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, response=\"{response}\", \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            )
        };
        for (name, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let credentials = Credentials::parse(&line(name, response)).expect("credentials");
            let ha1 = credentials.algorithm.ha1("Mufasa", "http-auth@example.org", "Circle of Life");
            assert_eq!(credentials.expected(&ha1, "GET", b""), response);
            assert_eq!(Credentials::parse(&credentials.to_string()), Some(credentials));
        }
    }

    #[test]
    fn challenges_are_read_and_written() {
        let line = "Digest realm=\"a,b\", nonce=\"n\", qop=\"auth,auth-int\", algorithm=SHA-256, stale=TRUE";
        let challenge = Challenge::parse(line).expect("challenge");
        assert_eq!(challenge.qop, ["auth", "auth-int"]);
        assert!(challenge.stale);
        assert_eq!(Challenge::parse(&challenge.to_string()), Some(challenge));
        assert_eq!(Challenge::parse("Digest realm=\"r\", nonce=\"n\", algorithm=MD5-sess"), None);
        assert_eq!(Challenge::parse("Basic realm=\"r\""), None);
    }
}
