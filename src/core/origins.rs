//! Whose pages may open a WebSocket here. A browser lets any page try, and says in `Origin` which page it is
//! (RFC 6455 §10.2); cookies and the address of the one who reads the page go with it, so somebody must look.

/// Origins beside our own whose pages may connect, such as `https://app.example`; `*` stands for all.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Those of a configuration.
    pub fn new(allowed: Vec<String>) -> Self {
        Origins(allowed)
    }

    /// Whether a page of `origin` may connect to the listener that it reached as `host`: our own pages may, and
    /// what is no browser, which sends no `Origin`.
    pub fn allow(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        let own = || {
            let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"))?;
            Some(authority.eq_ignore_ascii_case(host?))
        };
        let named = |name: &String| name == "*" || name.trim_end_matches('/').eq_ignore_ascii_case(origin);
        own() == Some(true) || self.0.iter().any(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_peoples_pages_are_kept_out() {
        let none = Origins::default();
        let some = Origins::new(vec!["https://app.example/".to_owned()]);
        let own = Some("media.example:8889");
        assert!(none.allow(None, own));
        assert!(none.allow(Some("https://media.example:8889"), own));
        assert!(!none.allow(Some("https://media.example"), own));
        assert!(!some.allow(Some("https://evil.example"), own));
        for stranger in ["null", "media.example:8889", "", "http://app.example"] {
            assert!(!some.allow(Some(stranger), own), "{stranger}");
        }
        assert!(!none.allow(Some("https://x"), None));
        assert!(some.allow(Some("https://APP.example"), own));
        assert!(Origins::new(vec!["*".to_owned()]).allow(Some("null"), own));
    }
}
