//! Whom we trust when we connect by TLS: the authorities of a file, else the system's.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Where systems keep the authorities they trust.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The certificates in a PEM file; the text says what is wrong with it.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let fault = |error: rustls::pki_types::pem::Error| format!("{}: {error}", path.display());
    let all = CertificateDer::pem_file_iter(path).map_err(fault)?;
    all.collect::<Result<_, _>>().map_err(fault)
}

/// The authorities of `file`; without one the system's, or none where it has none.
pub fn authorities(file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    let system = || SYSTEM.iter().map(Path::new).find(|path| path.exists());
    if let Some(path) = file.or_else(system) {
        store.add_parsable_certificates(certificates(path)?);
    }
    Ok(store)
}
