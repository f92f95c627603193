//! Addresses of streams: `rtmp://host[:port]/app[/instance]/stream[?query]`, `rtmps` with TLS. The last part is the
//! stream's name, which usually is a secret.

use std::fmt;

use crate::rtmp::RtmpError;

/// The longest address.
const MAX_LENGTH: usize = 2_048;
const PORT: u16 = 1935;
const TLS_PORT: u16 = 443;

/// An address. It is printed without the stream's name.
#[derive(Clone, Eq, PartialEq)]
pub struct RtmpUrl {
    tls: bool,
    host: String,
    port: Option<u16>,
    app: String,
    stream: String,
}

impl RtmpUrl {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, RtmpError> {
        let bad = |what| Err(RtmpError::BadUrl(what));
        if text.len() > MAX_LENGTH || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return bad("it is too long, or has characters that no address has");
        }
        let (tls, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("rtmp") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("rtmps") => (true, rest),
            _ => return bad("it begins with rtmp:// or rtmps://"),
        };
        let Some((authority, path)) = rest.split_once('/') else { return bad("it has no application") };
        if authority.contains('@') {
            return bad("users and passwords are not sent; put the key into the stream's name");
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(literal) => match literal.split_once(']') {
                Some((host, rest)) => (host, rest),
                None => return bad("a bracket is open"),
            },
            None => {
                authority.split_at_checked(authority.find(':').unwrap_or(authority.len())).unwrap_or_default()
            }
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            Some(number) => match number.parse() {
                Ok(number) if number > 0 => Some(number),
                _ => return bad("its port is none"),
            },
            None => return bad("its port is none"),
        };
        if host.is_empty() {
            return bad("it has no host");
        }
        let (path, query) = path.split_at_checked(path.find('?').unwrap_or(path.len())).unwrap_or_default();
        let path = path.trim_end_matches('/');
        let (app, stream) = path.rsplit_once('/').unwrap_or((path, ""));
        if app.is_empty() {
            return bad("it has no application");
        }
        let host = host.to_owned();
        Ok(RtmpUrl { tls, host, port, app: app.to_owned(), stream: format!("{stream}{query}") })
    }

    /// Whether it asks for TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Its host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.tls { TLS_PORT } else { PORT })
    }

    /// The application.
    pub fn app(&self) -> &str {
        &self.app
    }

    /// The stream's name.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// As `connect` names it: without the stream.
    pub fn connect_url(&self) -> String {
        let scheme = if self.tls { "rtmps" } else { "rtmp" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{scheme}://{host}{port}/{}", self.app)
    }

    /// Where a server that moved it says it is: with the name it had, if the new address has none. A name that was
    /// to go over TLS goes nowhere without.
    pub fn moved(&self, to: &str) -> Result<Self, RtmpError> {
        let whole = Self::parse(to)?;
        if self.tls && !whole.tls {
            return Err(RtmpError::BadUrl("it was rtmps:// and is moved to rtmp://"));
        }
        let named = Self::parse(&format!("{}/{}", to.trim_end_matches('/'), self.stream));
        // `app/instance` and `app/stream` look the same.
        match named {
            Ok(named) if whole.stream.is_empty() || named.app == self.app => Ok(named),
            _ => Ok(whole),
        }
    }
}

impl fmt::Display for RtmpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream = if self.stream.is_empty() { "" } else { "/..." };
        write!(f, "{}{stream}", self.connect_url())
    }
}

impl fmt::Debug for RtmpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_write_them() {
        for (text, connect, stream, port) in [
            ("rtmp://a.example/live/k3y", "rtmp://a.example/live", "k3y", 1935),
            ("RTMPS://a.example/app/k3y?x=1/2", "rtmps://a.example/app", "k3y?x=1/2", 443),
            ("rtmp://[::1]:1936/a/b/c", "rtmp://[::1]:1936/a/b", "c", 1936),
            ("rtmp://1.2.3.4/live", "rtmp://1.2.3.4/live", "", 1935),
            ("rtmp://h/live/k3y/", "rtmp://h/live", "k3y", 1935),
        ] {
            let url = RtmpUrl::parse(text).unwrap();
            assert_eq!(
                (url.connect_url().as_str(), url.stream(), url.port()),
                (connect, stream, port),
                "{text}"
            );
            assert!(!format!("{url} {url:?}").contains("k3y"));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "http://a/b/c",
            "rtmp://",
            "rtmp://host",
            "rtmp://host/",
            "rtmp:///app/s",
            "rtmp://u:p@host/app/s",
            "rtmp://host:0/app/s",
            "rtmp://host:x/app/s",
            "rtmp://[::1/app/s",
            "rtmp://[::1]x/app/s",
            "rtmp://ho st/app/s",
            "rtmp://h/a\r\nb/s",
        ] {
            assert!(RtmpUrl::parse(text).is_err(), "{text}");
        }
        assert!(RtmpUrl::parse(&format!("rtmp://h/a/{}", "x".repeat(3_000))).is_err());
    }

    #[test]
    fn a_stream_that_moved_stays_under_tls() {
        let url = RtmpUrl::parse("rtmps://a/live/k3y").unwrap();
        assert!(url.moved("rtmp://b/live").is_err());
        assert!(url.moved("rtmps://b/live").is_ok());
    }

    #[test]
    fn a_stream_that_moved_keeps_its_name() {
        let url = RtmpUrl::parse("rtmp://a/live/k3y").unwrap();
        let to =
            |text: &str| url.moved(text).map(|url| (url.connect_url(), url.stream().to_owned())).unwrap();
        assert_eq!(to("rtmp://b/live"), ("rtmp://b/live".to_owned(), "k3y".to_owned()));
        assert_eq!(to("rtmp://b/live/k3y"), ("rtmp://b/live".to_owned(), "k3y".to_owned()));
        assert_eq!(to("rtmp://b/other/k4y"), ("rtmp://b/other".to_owned(), "k4y".to_owned()));
        assert!(url.moved("http://b/live").is_err());
    }
}
