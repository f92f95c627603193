//! The certificate of the HTTPS listener, read again when its files change.

use std::fs;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use crate::http::{Error, TlsFiles};

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// An acceptor for the certificate in `files`, and the endless task that keeps it up to date.
pub(super) fn acceptor(
    files: TlsFiles,
    every: Duration,
) -> Result<(TlsAcceptor, impl Future<Output = ()> + Send), Error> {
    let stamp = Stamp::of(&files);
    let current = Arc::new(Current(RwLock::new(Arc::new(load(&files)?))));
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(current.clone());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((TlsAcceptor::from(Arc::new(config)), reload(files, stamp, current, every)))
}

async fn reload(files: TlsFiles, mut stamp: Stamp, current: Arc<Current>, every: Duration) {
    let mut complained = None;
    loop {
        tokio::time::sleep(every).await;
        let seen = Stamp::of(&files);
        if seen == stamp {
            continue;
        }
        // A certificate that does not fit its key may be half of a renewal: the old pair stays, and
        // the files are looked at again next time.
        match load(&files) {
            Ok(loaded) => {
                *current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
                stamp = seen;
                complained = None;
                info!(certificate = %files.certificate.display(), "HTTPS certificate read again");
            }
            Err(error) if complained != Some(seen) => {
                warn!(%error, "the changed HTTPS certificate is not used, the old one stays");
                complained = Some(seen);
            }
            Err(_) => {}
        }
    }
}

/// What tells one version of the files from another.
#[derive(Clone, Copy, Eq, PartialEq)]
struct Stamp([Option<(SystemTime, u64)>; 2]);

impl Stamp {
    fn of(files: &TlsFiles) -> Self {
        Stamp([&files.certificate, &files.key].map(|path| {
            let data = fs::metadata(path).ok()?;
            Some((data.modified().ok()?, data.len()))
        }))
    }
}

fn load(files: &TlsFiles) -> Result<CertifiedKey, Error> {
    let certificates = CertificateDer::pem_slice_iter(&read(&files.certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unreadable(&files.certificate, error))?;
    if certificates.is_empty() {
        return Err(unreadable(&files.certificate, "no certificate in it"));
    }
    let key =
        PrivateKeyDer::from_pem_slice(&read(&files.key)?).map_err(|error| unreadable(&files.key, error))?;
    CertifiedKey::from_der(certificates, key, &aws_lc_rs::default_provider())
        .map_err(|error| Error::Certificate { path: files.certificate.clone(), reason: error.to_string() })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| unreadable(path, error))
}

fn unreadable(path: &Path, reason: impl ToString) -> Error {
    Error::Read { path: path.to_owned(), reason: reason.to_string() }
}
