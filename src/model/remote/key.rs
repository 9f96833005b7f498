//! The key for a server, out of a file that only this process needs to read.
//!
//! A key is never printed: it has no `Debug` that shows it, and [`Key::blot_out`] removes it from texts of others.

use super::error::RemoteError;
use pg_rag_protocol::message::FailureKind;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Longest key.
const MAX_KEY_BYTES: u64 = 8192;

/// Largest file of certificates.
const MAX_CERTIFICATES_BYTES: u64 = 1 << 20;

/// A key as it goes into the header of a request.
#[derive(Clone)]
pub struct Key(String);

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Key(***)")
    }
}

impl Key {
    /// Reads the key of `server`: the file's only line.
    ///
    /// Errors: `RemoteFile` when others may read the file, or when what it holds cannot be a key.
    pub fn read(server: &str, path: &Path) -> Result<Self, RemoteError> {
        let refuse = |reason: &str| refuse(server, "key", reason);
        let (file, mode) = open(path).map_err(|error| refuse(&plain(&error)))?;
        if mode & 0o077 != 0 {
            return Err(refuse("others may read or write it")
                .with_hint("Allow only the operating system user that runs PostgreSQL to use the file: chmod 600."));
        }
        let text = read_up_to(&file, MAX_KEY_BYTES).map_err(|error| refuse(&plain(&error)))?;
        let text = String::from_utf8(text).map_err(|_| refuse("it does not hold a key"))?;
        let key = text.trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(refuse("it does not hold a key"));
        }
        Ok(Self(key.to_owned()))
    }

    /// The value of the header `Authorization`.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// `text` without the key.
    pub fn blot_out(&self, text: &str) -> String {
        text.replace(&self.0, "***")
    }

    #[cfg(test)]
    pub fn for_test(key: &str) -> Self {
        Self(key.to_owned())
    }
}

/// The certificates in the file that `server` names.
pub fn read_certificates(server: &str, path: &Path) -> Result<Vec<u8>, RemoteError> {
    let refuse = |error: io::Error| refuse(server, "certificate", &plain(&error));
    let (file, _) = open(path).map_err(refuse)?;
    read_up_to(&file, MAX_CERTIFICATES_BYTES).map_err(refuse)
}

/// An error about a file of `server`. Its path is for those who may see the options.
pub fn refuse(server: &str, what: &str, reason: &str) -> RemoteError {
    RemoteError::new(FailureKind::RemoteFile, format!("could not use the {what} file of server \"{server}\": {reason}"))
}

/// Opens an ordinary file; does not wait for the other end of anything else. Tells the permissions of what was opened.
fn open(path: &Path) -> io::Result<(File, u32)> {
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    Ok((file, metadata.mode()))
}

fn read_up_to(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        true => Err(io::Error::other(format!("it has more than {limit} bytes"))),
        false => Ok(bytes),
    }
}

/// What the operating system said, without the number that Rust adds.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(plain, _)| plain.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_a_file_that_nobody_else_may_use_gives_a_key() {
        let folder = std::env::temp_dir().join(format!("pg_rag-key-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("key");
        let read = |content: &[u8], mode: u32| {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            Key::read("s", &path).map(|key| key.bearer()).map_err(|error| error.to_string())
        };
        assert_eq!(read(b"sk-123\n", 0o600).unwrap(), "Bearer sk-123");
        assert_eq!(read(b"sk-123", 0o400).unwrap(), "Bearer sk-123");
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610] {
            let told = read(b"sk-123\n", mode).unwrap_err();
            assert_eq!(told, "could not use the key file of server \"s\": others may read or write it");
        }
        for content in
            [&b""[..], b" \n", b"two words", b"a\nb", b"a\0b", "schlüssel".as_bytes(), b"\xff\xfe", &[b'x'; 9000]]
        {
            let told = read(content, 0o600).unwrap_err();
            assert!(told.starts_with("could not use the key file of server \"s\": it "), "{told}");
            assert!(!told.contains("words") && !told.contains(path.to_str().unwrap()), "{told}");
        }
        let told = Key::read("s", &folder).unwrap_err().to_string();
        assert!(told.ends_with("it is not a file"), "{told}");
        let told = Key::read("s", &folder.join("none")).unwrap_err().to_string();
        assert!(told.ends_with("No such file or directory"), "{told}");
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(format!("{:?}", Key::for_test("sk-123")), "Key(***)");
    }
}
