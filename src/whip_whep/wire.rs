//! The header fields of WHIP and WHEP, read and written.
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use super::config::IceServer;

pub(super) const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");
pub(super) const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
/// Media type of offers and answers.
pub(super) const SDP: &str = "application/sdp";
/// Media type of trickled candidates and ICE restarts (RFC 8840 §9).
pub(super) const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// The token of `Authorization: Bearer` (RFC 6750 §2.1).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether the body is said to be of media type `kind`, whatever its parameters.
pub(super) fn is_content(headers: &HeaderMap, kind: &str) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case(kind))
}

/// How `If-Match` relates to the current entity tag (RFC 9110 §13.1.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum IfMatch {
    /// Not there.
    Missing,
    /// `*`, also in the quotes that RFC 9725's own example puts around it.
    Any,
    /// One of its tags is the current one.
    Current,
    /// None is.
    Stale,
}

impl IfMatch {
    /// Compares with `current`, which has its quotes on.
    pub(super) fn of(headers: &HeaderMap, current: &str) -> Self {
        let mut found = IfMatch::Missing;
        for value in headers.get_all(header::IF_MATCH) {
            for tag in value.to_str().unwrap_or_default().split(',').map(str::trim) {
                match tag {
                    "*" | "\"*\"" => return IfMatch::Any,
                    tag if tag == current => found = IfMatch::Current,
                    _ if found == IfMatch::Missing => found = IfMatch::Stale,
                    _ => {}
                }
            }
        }
        found
    }
}

/// The `Link` header of one server (RFC 9725 §4.6). Values stand in quotes, because a common reader
/// splits at commas and semicolons; `None` where a value cannot stand in a header.
pub(super) fn link(server: &IceServer) -> Option<HeaderValue> {
    let (scheme, rest) = server.url.split_once(':')?;
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '<' | '>' | '"' | ',' | ';');
    if !matches!(scheme, "stun" | "stuns" | "turn" | "turns") || rest.is_empty() || !rest.chars().all(plain) {
        return None;
    }
    let mut line = format!("<{}>; rel=\"ice-server\"", server.url);
    if let (Some(username), Some(credential)) = (&server.username, &server.credential) {
        let (username, credential) = (quoted(username), quoted(credential));
        line.push_str(&format!(
            "; username={username}; credential={credential}; credential-type=\"password\""
        ));
    }
    HeaderValue::from_str(&line).ok()
}

/// A quoted-string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn if_match(values: &[&'static str]) -> IfMatch {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, HeaderValue::from_static(value));
        }
        IfMatch::of(&headers, "\"a1\"")
    }

    #[test]
    fn if_match_knows_stars_lists_and_weak_tags() {
        assert_eq!(if_match(&[]), IfMatch::Missing);
        assert_eq!(if_match(&["*"]), IfMatch::Any);
        assert_eq!(if_match(&["\"*\""]), IfMatch::Any);
        assert_eq!(if_match(&["\"a1\""]), IfMatch::Current);
        assert_eq!(if_match(&["\"x\", \"a1\""]), IfMatch::Current);
        assert_eq!(if_match(&["\"x\"", "\"a1\""]), IfMatch::Current);
        assert_eq!(if_match(&["\"x\""]), IfMatch::Stale);
        assert_eq!(if_match(&["a1"]), IfMatch::Stale);
        assert_eq!(if_match(&["W/\"a1\""]), IfMatch::Stale);
    }

    #[test]
    fn a_link_quotes_its_credentials() {
        let server = IceServer {
            url: "turn:turn.example.net:3478?transport=udp".into(),
            username: Some("a;b".into()),
            credential: Some("x\"y".into()),
        };
        assert_eq!(
            link(&server).unwrap(),
            "<turn:turn.example.net:3478?transport=udp>; rel=\"ice-server\"; \
             username=\"a;b\"; credential=\"x\\\"y\"; credential-type=\"password\""
        );
        let plain = |url: &str| link(&IceServer { url: url.into(), ..IceServer::default() });
        assert_eq!(plain("stun:s.example:3478").unwrap(), "<stun:s.example:3478>; rel=\"ice-server\"");
        for bad in ["", "http://x", "stun:", "stun:a>b", "stun:a\r\nb", "stun:a,b"] {
            assert_eq!(plain(bad), None, "{bad:?}");
        }
    }
}
