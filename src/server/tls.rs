//! The certificate of `http.tls` for RTMP over TLS, read again when its files change.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::Context;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::http::TlsFiles;
use crate::rtmp::io::TlsProvider;

/// Gives the configuration of the moment. Files that cannot be read leave the last good one in use.
pub(super) fn provider(files: TlsFiles) -> anyhow::Result<TlsProvider> {
    let now = Mutex::new((changed(&files), Arc::new(load(&files)?)));
    Ok(Arc::new(move || {
        let mut now = now.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = changed(&files);
        if now.0 != changed {
            match load(&files) {
                Ok(config) => *now = (changed, Arc::new(config)),
                Err(error) => tracing::warn!("RTMP over TLS keeps its old certificate: {error:#}"),
            }
        }
        now.1.clone()
    }))
}

fn changed(files: &TlsFiles) -> [Option<SystemTime>; 2] {
    [&files.certificate, &files.key].map(|file| fs::metadata(file).and_then(|data| data.modified()).ok())
}

fn load(files: &TlsFiles) -> anyhow::Result<ServerConfig> {
    let named = |path: &Path| format!("cannot read {}", path.display());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&files.certificate)
        .with_context(|| named(&files.certificate))?
        .collect();
    let key = PrivateKeyDer::from_pem_file(&files.key).with_context(|| named(&files.key))?;
    let config = ServerConfig::builder().with_no_client_auth();
    Ok(config.with_single_cert(chain.with_context(|| named(&files.certificate))?, key)?)
}
