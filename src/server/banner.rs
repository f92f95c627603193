//! What is printed at start: where the page is, what to type into OBS, and what each port is for.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;

/// The room of the built-in clip, and of the addresses that are printed for OBS, so that one page shows
/// first the one and then the other; any other name works as well.
pub(super) const DEMO: &str = "demo";

/// What there is to say.
pub(super) struct Banner {
    /// Whether pages come over HTTPS.
    pub tls: bool,
    /// The address that other machines reach us by.
    pub host: IpAddr,
    /// Port of pages, WHIP and WHEP.
    pub http: Option<u16>,
    /// Port of RTMP.
    pub rtmp: Option<u16>,
    /// The publish key, or how to find it.
    pub key: String,
    /// Whether the clip plays.
    pub demo: bool,
    /// Every listening port: number, `tcp` or `udp`, what it is for.
    pub ports: Vec<(u16, &'static str, String)>,
}

impl Banner {
    fn origin(&self, host: &str) -> Option<String> {
        let (scheme, usual) = if self.tls { ("https", 443) } else { ("http", 80) };
        let port = self.http?;
        Some(if port == usual { format!("{scheme}://{host}") } else { format!("{scheme}://{host}:{port}") })
    }

    fn host(&self) -> String {
        match self.host {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        }
    }
}

impl Display for Banner {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "Viaduct {}\n", env!("CARGO_PKG_VERSION"))?;
        let origin = self.origin(&self.host());
        if let (Some(origin), Some(local)) = (&origin, self.origin("localhost")) {
            writeln!(f, "  Page                     {origin}/")?;
            if *origin != local {
                writeln!(f, "    on this machine        {local}/")?;
            }
        }
        if let Some(port) = self.rtmp {
            let port = if port == 1935 { String::new() } else { format!(":{port}") };
            writeln!(f, "  OBS over RTMP, server    rtmp://{}{port}/{DEMO}", self.host())?;
            writeln!(f, "            stream key     {}", self.key)?;
        }
        if let Some(origin) = &origin {
            writeln!(f, "  OBS over WHIP, server    {origin}/{DEMO}/whip")?;
            writeln!(f, "            bearer token   {}", self.key)?;
            if self.demo {
                writeln!(f, "  WHEP of the demo room    {origin}/{DEMO}/whep")?;
            }
        }
        writeln!(f)?;
        for (port, protocol, purpose) in &self.ports {
            writeln!(f, "  Port {:<11} {purpose}", format!("{port}/{protocol}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_everything_in_order() {
        let banner = Banner {
            tls: false,
            host: "203.0.113.7".parse().unwrap(),
            http: Some(8889),
            rtmp: Some(1935),
            key: "the-key".into(),
            demo: true,
            ports: vec![(8889, "tcp", "pages".into()), (8189, "udp", "media".into())],
        };
        let text = banner.to_string();
        let order = [
            "http://203.0.113.7:8889/\n",
            "http://localhost:8889/\n",
            "rtmp://203.0.113.7/demo\n",
            "stream key     the-key\n",
            "http://203.0.113.7:8889/demo/whip\n",
            "bearer token   the-key\n",
            "http://203.0.113.7:8889/demo/whep\n",
            "8889/tcp",
            "8189/udp",
        ];
        let places: Vec<usize> = order.iter().map(|part| text.find(part).expect(part)).collect();
        assert!(places.is_sorted(), "{text}");
    }

    #[test]
    fn leaves_out_what_does_not_run() {
        let banner = Banner {
            tls: true,
            host: "2001:db8::1".parse().unwrap(),
            http: Some(443),
            rtmp: None,
            key: String::new(),
            demo: false,
            ports: Vec::new(),
        };
        let text = banner.to_string();
        assert!(text.contains("https://[2001:db8::1]/demo/whip"), "{text}");
        assert!(!text.contains("rtmp") && !text.contains("WHEP"), "{text}");
    }
}
