//! What survives a restart, in `state_dir` (mode 0700): the publish key and the certificates, each in a file
//! that only the server's user can read. All are made when they are first needed.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::core::auth::Secret;
use crate::http::{self, TlsFiles};
use crate::webrtc::Certificate;

/// Letters and digits that are not mistaken for one another when read aloud or copied by hand.
const ALPHABET: &[u8] = b"abcdefghjkmnpqrstuvwxyz23456789";

/// 28 characters of [`ALPHABET`] hold 138 bits.
const GROUPS: usize = 4;
const GROUP: usize = 7;

/// A key that somebody wrote into the file by hand must be at least this long.
const SHORTEST_KEY: usize = 16;

/// The folder.
#[derive(Clone, Debug)]
pub(super) struct StateDir(PathBuf);

impl StateDir {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("state_dir: cannot make the folder {}", path.display()))?;
        Ok(StateDir(path.to_path_buf()))
    }

    /// Where the publish key lies.
    pub(super) fn publish_key_file(&self) -> PathBuf {
        self.0.join("publish.key")
    }

    /// The publish key, made at the first start.
    pub(super) fn publish_key(&self) -> anyhow::Result<Secret> {
        let path = self.publish_key_file();
        let text = self.keep(&path, || Ok(random_key()?))?;
        let key = text.lines().next().unwrap_or_default().trim();
        if key.len() < SHORTEST_KEY {
            let path = path.display();
            bail!(
                "{path}: a publish key has at least {SHORTEST_KEY} characters; delete the file to have one made"
            );
        }
        Ok(Secret::new(key))
    }

    /// The certificate shown in DTLS.
    pub(super) fn certificate(&self) -> anyhow::Result<Certificate> {
        let path = self.0.join("webrtc.pem");
        let pem = self.keep(&path, || Ok(Certificate::generate()?.to_pem()))?;
        Certificate::from_pem(&pem).with_context(|| format!("{} is damaged; delete it", path.display()))
    }

    /// The self-signed certificate of `--dev`, for this host's names.
    pub(super) fn dev_tls(&self, addresses: &[IpAddr]) -> anyhow::Result<TlsFiles> {
        let files = TlsFiles { certificate: self.0.join("dev-cert.pem"), key: self.0.join("dev-key.pem") };
        if !files.certificate.exists() || !files.key.exists() {
            let mut names = vec!["localhost".to_string(), "127.0.0.1".into(), "::1".into()];
            names.extend(
                addresses
                    .iter()
                    .map(IpAddr::to_string)
                    .filter(|name| !names.contains(name))
                    .collect::<Vec<_>>(),
            );
            let made = http::tls::self_signed(&names)?;
            write_private(&files.key, &made.key)?;
            write_private(&files.certificate, &made.certificate)?;
        }
        Ok(files)
    }

    /// The content of `path`, which is made where there is none.
    fn keep(&self, path: &Path, make: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<String> {
        match fs::read_to_string(path) {
            Ok(text) => {
                warn_if_open(path);
                Ok(text)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let text = make()?;
                write_private(path, &text)?;
                Ok(text)
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}

/// Writes a new file of mode 0600, whole or not at all.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let draft = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        if !text.ends_with('\n') {
            file.write_all(b"\n")?;
        }
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn warn_if_open(path: &Path) {
    let mode = fs::metadata(path).map(|data| data.permissions().mode() & 0o077).unwrap_or(0);
    if mode != 0 {
        tracing::warn!(file = %path.display(), "other users can read this secret; chmod 600 it");
    }
}

fn random_key() -> Result<String, aws_lc_rs::error::Unspecified> {
    let mut key = String::new();
    // The largest multiple of the alphabet's length that fits a byte: above it the choice would lean.
    let fair = u8::MAX - u8::MAX % ALPHABET.len() as u8;
    while key.len() < GROUPS * (GROUP + 1) - 1 {
        let mut byte = [0];
        aws_lc_rs::rand::fill(&mut byte)?;
        if byte[0] < fair {
            if key.len() % (GROUP + 1) == GROUP {
                key.push('-');
            }
            key.push(ALPHABET[usize::from(byte[0]) % ALPHABET.len()] as char);
        }
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_publish_key_is_made_once_and_private() {
        let root = std::env::temp_dir().join(format!("viaduct-state-{}", std::process::id()));
        let state = StateDir::open(&root.join("inner")).unwrap();
        let key = state.publish_key().unwrap();
        assert_eq!(key.reveal().len(), 31);
        assert_eq!(state.publish_key().unwrap(), key);
        assert_eq!(mode(&state.publish_key_file()), 0o600);
        assert_eq!(mode(&root.join("inner")), 0o700);
        fs::write(state.publish_key_file(), "short\n").unwrap();
        assert!(state.publish_key().unwrap_err().to_string().contains("at least"));
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn keys_differ_and_use_every_character() {
        let keys: Vec<String> = (0..100).map(|_| random_key().unwrap()).collect();
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert!(ALPHABET.iter().all(|c| keys.iter().any(|key| key.contains(*c as char))));
    }
}
