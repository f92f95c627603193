//! Which pages may open a WebSocket here. A browser names the page's origin, and lets any page try: unlike a
//! request, a WebSocket is not held back by CORS.

use axum::http::{HeaderMap, header};

/// Whether the page behind a request, if it is one, may open a WebSocket: one of the server's own, or one of
/// `origins` (`*`: any). What names no origin is no page.
pub fn admits(origins: &[String], headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    if !headers.contains_key(header::ORIGIN) {
        return true;
    }
    let Some(origin) = text(header::ORIGIN) else { return false };
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let own = host.zip(text(header::HOST)).is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host));
    own || origins.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(origin: Option<&str>, origins: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "Media.example:8889".parse().expect("a value"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().expect("a value"));
        }
        let origins: Vec<String> = origins.iter().map(|origin| origin.to_string()).collect();
        admits(&origins, &headers)
    }

    #[test]
    fn pages_of_other_sites_have_to_be_named() {
        assert!(admitted(None, &[]));
        assert!(admitted(Some("http://media.example:8889"), &[]));
        assert!(admitted(Some("https://media.example:8889"), &[]));
        for stranger in ["http://media.example", "https://evil.example", "null", "media.example:8889", ""] {
            assert!(!admitted(Some(stranger), &[]), "{stranger}");
        }
        assert!(admitted(Some("https://app.example"), &["https://APP.example"]));
        assert!(!admitted(Some("http://app.example"), &["https://app.example"]));
        assert!(admitted(Some("null"), &["*"]));
    }
}
