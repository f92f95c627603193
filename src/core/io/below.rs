//! Opens a file below a folder by a name that a stranger gave: no part of the name may lead out of the folder, neither by
//! its letters nor by a link.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Parts of a name at most.
const MAX_DEPTH: usize = 32;

/// Opens the plain file `name` (parts between `/`) below `folder` for reading.
pub fn open(folder: &Path, name: &str) -> io::Result<File> {
    let parts: Vec<&str> = name.split('/').collect();
    let bad = |part: &&str| part.is_empty() || matches!(*part, "." | "..") || part.contains('\0');
    if parts.len() > MAX_DEPTH || parts.iter().any(bad) {
        return Err(io::ErrorKind::NotFound.into());
    }
    // The folder itself is the operator's choice: links are followed there.
    let mut at = OwnedFd::from(File::open(folder)?);
    let (last, folders) = parts.split_last().ok_or(io::ErrorKind::NotFound)?;
    for part in folders {
        at = step(&at, part, libc::O_DIRECTORY)?;
    }
    // A pipe would hold the opener up until somebody writes.
    let file = File::from(step(&at, last, libc::O_NONBLOCK)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn step(at: &OwnedFd, part: &str, flags: libc::c_int) -> io::Result<OwnedFd> {
    let part = CString::new(part).map_err(|_| io::ErrorKind::NotFound)?;
    let flags = flags | libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: `part` is a text that ends with zero and lives through the call; `at` is open.
    let fd = unsafe { libc::openat(at.as_raw_fd(), part.as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call gave this descriptor to us and to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_leads_out_of_the_folder() {
        let root = std::env::temp_dir().join(format!("viaduct-below-{}", std::process::id()));
        let (inside, outside) = (root.join("media"), root.join("secret"));
        fs::create_dir_all(inside.join("deep")).expect("a folder");
        fs::create_dir_all(&outside).expect("a folder");
        for (path, text) in
            [(inside.join("a.wav"), "a"), (inside.join("deep/b.mp4"), "b"), (outside.join("c"), "c")]
        {
            fs::write(path, text).expect("a file");
        }
        symlink(outside.join("c"), inside.join("link")).expect("a link");
        symlink(&outside, inside.join("folder")).expect("a link");
        symlink("a.wav", inside.join("near")).expect("a link");
        symlink(&inside, root.join("media-link")).expect("a link");
        let read = |folder: &Path, name: &str| {
            let mut text = String::new();
            open(folder, name).ok()?.read_to_string(&mut text).ok().map(|_| text)
        };
        assert_eq!(read(&inside, "a.wav").as_deref(), Some("a"));
        assert_eq!(read(&inside, "deep/b.mp4").as_deref(), Some("b"));
        assert_eq!(read(&root.join("media-link"), "a.wav").as_deref(), Some("a"));
        for name in [
            "",
            "/",
            "/a.wav",
            "a.wav/",
            "deep",
            "deep/",
            ".",
            "./a.wav",
            "..",
            "../secret/c",
            "deep/../a.wav",
            "deep//b.mp4",
            "link",
            "folder/c",
            "near",
            "a\0.wav",
            "none",
            "a.wav/x",
            "/etc/passwd",
        ] {
            assert_eq!(read(&inside, name), None, "{name:?}");
        }
        fs::remove_dir_all(&root).expect("removed");
    }
}
