//! What SIP reads from disk: the users' file, passwords of trunks, certificates.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::core::io::trust;
use crate::sip::config::SipConfig;
use crate::sip::error::SipError;
use crate::sip::ingress;
use crate::sip::session::digest::Ha1s;
use crate::sip::session::registrar::read_users;
use crate::sip::session::trunk::Trunk;
use crate::sip::wire::uri::host_port;

/// Reads the users who may register. What stands there is as good as their passwords, so nobody else may
/// be able to read the file.
pub(super) fn users(config: &SipConfig) -> Result<HashMap<String, Ha1s>, SipError> {
    let Some(path) = &config.users_file else { return Ok(HashMap::new()) };
    let text = private(path, "users_file")?;
    read_users(&text, &config.realm).map_err(|error| SipError::Config(format!("users_file: {error}")))
}

fn private(path: &Path, key: &str) -> Result<String, SipError> {
    let fault = |text: String| SipError::Config(format!("{key} {}: {text}", path.display()));
    let facts = std::fs::metadata(path).map_err(|error| fault(error.to_string()))?;
    let mode = facts.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(fault(format!("its mode is {mode:o}; others may read it: chmod 600")));
    }
    std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))
}

/// The trunks, with the passwords that stand in files.
pub(super) fn trunks(config: &SipConfig) -> Result<Vec<Trunk>, SipError> {
    ingress::check(config).map_err(SipError::Config)?;
    let mut trunks: Vec<Trunk> = Vec::new();
    for section in &config.trunks {
        let named = !section.name.is_empty()
            && section.name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
            && !["phones", "anyone"].contains(&section.name.as_str());
        if !named {
            let text = format!(
                "a trunk may not be called {:?}: letters, digits and . _ -, not phones or anyone",
                section.name
            );
            return Err(SipError::Config(text));
        }
        if trunks.iter().any(|known| known.name == section.name) {
            return Err(SipError::Config(format!("two trunks are called {:?}", section.name)));
        }
        let password = match &section.password_file {
            Some(path) => {
                Some(private(path, "password_file")?.lines().next().unwrap_or_default().trim().to_owned())
            }
            None => None,
        };
        trunks.push(Trunk::new(section, config, password).map_err(SipError::Config)?);
    }
    for (key, named) in [
        ("dispatch", config.dispatch.iter().flat_map(|rule| rule.from.iter().flatten()).collect::<Vec<_>>()),
        ("outbound", config.outbound.iter().map(|rule| &rule.trunk).collect()),
    ] {
        for name in named {
            let known =
                trunks.iter().any(|trunk| trunk.name == *name) || name == "phones" || name == "anyone";
            if !known {
                return Err(SipError::Config(format!("{key} names the trunk {name:?}, which is not there")));
            }
        }
    }
    Ok(trunks)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SipError> {
    trust::certificates(path).map_err(SipError::Tls)
}

fn roots(path: Option<&Path>) -> Result<RootCertStore, SipError> {
    trust::authorities(path).map_err(SipError::Tls)
}

/// TLS for those who connect to us.
pub(super) fn acceptor(config: &SipConfig) -> Result<Option<Arc<ServerConfig>>, SipError> {
    if config.tls.is_none() {
        return Ok(None);
    }
    let (Some(certificate), Some(key)) = (&config.certificate, &config.key) else {
        return Err(SipError::Config("tls needs certificate and key".into()));
    };
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| SipError::Tls(format!("key: {error}")))?;
    let builder = ServerConfig::builder();
    let builder = match &config.client_ca {
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots(Some(path))?)).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| SipError::Tls(error.to_string()))?)
        }
        None => builder.with_no_client_auth(),
    };
    let made = builder.with_single_cert(chain, key).map_err(|error| SipError::Tls(error.to_string()))?;
    Ok(Some(Arc::new(made)))
}

/// TLS toward others: their certificates are checked, and ours is shown to those who ask.
pub(super) struct Connectors {
    usual: TlsConnector,
    /// Of trunks with authorities or certificates of their own, by host.
    own: HashMap<String, TlsConnector>,
}

impl Connectors {
    pub fn new(config: &SipConfig) -> Result<Self, SipError> {
        let usual = Identity { ca: &config.ca, certificate: &config.certificate, key: &config.key };
        let mut own = HashMap::new();
        for trunk in &config.trunks {
            if trunk.ca.is_none() && trunk.certificate.is_none() {
                continue;
            }
            let identity = Identity {
                ca: if trunk.ca.is_some() { &trunk.ca } else { &config.ca },
                certificate: if trunk.certificate.is_some() {
                    &trunk.certificate
                } else {
                    &config.certificate
                },
                key: if trunk.certificate.is_some() { &trunk.key } else { &config.key },
            };
            let made = connector(identity)?;
            for host in [&trunk.host, &trunk.proxy].into_iter().flatten().filter_map(|text| host_port(text)) {
                own.insert(host.0.to_ascii_lowercase(), made.clone());
            }
        }
        Ok(Connectors { usual: connector(usual)?, own })
    }

    /// The one for a host.
    pub fn toward(&self, host: &str) -> TlsConnector {
        self.own.get(&host.to_ascii_lowercase()).unwrap_or(&self.usual).clone()
    }
}

/// Whom we trust, and who we are.
struct Identity<'a> {
    ca: &'a Option<PathBuf>,
    certificate: &'a Option<PathBuf>,
    key: &'a Option<PathBuf>,
}

fn connector(identity: Identity<'_>) -> Result<TlsConnector, SipError> {
    let store = roots(identity.ca.as_deref())?;
    let builder = ClientConfig::builder().with_root_certificates(store);
    let made = match (identity.certificate, identity.key) {
        (Some(certificate), Some(key)) => {
            let key =
                PrivateKeyDer::from_pem_file(key).map_err(|error| SipError::Tls(format!("key: {error}")))?;
            let made = builder.with_client_auth_cert(certificates(certificate)?, key);
            made.map_err(|error| SipError::Tls(error.to_string()))?
        }
        (Some(path), None) => {
            return Err(SipError::Config(format!("certificate {} has no key", path.display())));
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(made)))
}
