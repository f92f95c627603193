//! Connects to where somebody asked us to, within the rules of [`crate::core::egress`]: a name is resolved once, what
//! is found is judged, and the connection goes there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::core::egress::{EgressConfig, EgressError, EgressRules};
use crate::core::io::trust;

/// Addresses of a name that are tried at most.
const MAX_TRIES: usize = 4;

/// The one way out.
pub struct Egress {
    rules: EgressRules,
    connect_timeout: Duration,
    max_redirects: u32,
    tls: Arc<rustls::ClientConfig>,
}

impl Egress {
    /// Reads the rules, and the authorities that are trusted.
    pub fn new(config: &EgressConfig) -> Result<Self, EgressError> {
        let roots = trust::authorities(config.ca.as_deref()).map_err(EgressError::BadAuthorities)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| EgressError::BadAuthorities(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Egress {
            rules: EgressRules::new(&config.allow)?,
            connect_timeout: config.connect_timeout(),
            max_redirects: config.max_redirects,
            tls: Arc::new(tls),
        })
    }

    /// TLS as we speak it to others: their certificates are checked.
    pub fn tls(&self) -> Arc<rustls::ClientConfig> {
        self.tls.clone()
    }

    /// Times a target may point elsewhere.
    pub fn max_redirects(&self) -> u32 {
        self.max_redirects
    }

    /// Refuses at once what is an address and may not be connected to.
    pub fn check(&self, host: &str) -> Result<(), EgressError> {
        match host.parse() {
            Ok(address) if !self.rules.permit(host, address) => Err(EgressError::Forbidden),
            _ => Ok(()),
        }
    }

    /// Connects to `host`, a name or an address without brackets.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, EgressError> {
        let found = timeout(self.connect_timeout, lookup_host((host, port))).await;
        let found: Vec<SocketAddr> = match found {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(_)) | Err(_) => return Err(EgressError::Unresolved),
        };
        if found.is_empty() {
            return Err(EgressError::Unresolved);
        }
        let permitted = found.into_iter().filter(|address| self.rules.permit(host, address.ip()));
        let mut last = EgressError::Forbidden;
        for address in permitted.take(MAX_TRIES) {
            last = match timeout(self.connect_timeout, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => EgressError::Unreachable(error.kind().to_string()),
                Err(_) => EgressError::Unreachable("it does not answer in time".to_owned()),
            };
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(allow: &[&str]) -> Egress {
        let allow = allow.iter().map(|rule| (*rule).to_owned()).collect();
        Egress::new(&EgressConfig { allow, ..EgressConfig::default() }).expect("rules")
    }

    #[tokio::test]
    async fn a_name_is_judged_by_where_it_leads() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        for host in ["127.0.0.1", "localhost", "::ffff:127.0.0.1"] {
            assert_eq!(egress(&[]).connect(host, port).await.err(), Some(EgressError::Forbidden), "{host}");
        }
        assert!(egress(&["127.0.0.0/8"]).connect("localhost", port).await.is_ok());
        assert!(egress(&["localhost"]).connect("localhost", port).await.is_ok());
        assert_eq!(egress(&[]).check("10.0.0.1"), Err(EgressError::Forbidden));
        assert_eq!(egress(&[]).check("a.name"), Ok(()), "is judged once it is resolved");
        drop(listener);
        let refused = egress(&["127.0.0.0/8"]).connect("127.0.0.1", port).await.err();
        assert!(matches!(refused, Some(EgressError::Unreachable(_))), "{refused:?}");
    }
}
