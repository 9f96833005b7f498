//! The token that a private or gated repository asks for. It lies in a file which the user that runs PostgreSQL can read
//! and nobody else; only the server reads it, for one download, and it is in no error, log or view.

use super::HubError;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Longest token.
const MOST_BYTES: u64 = 4096;

/// A secret, which its debugging output does not tell.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Reads the file at `path`. Errors name neither its contents nor its path, which is for superusers alone.
    pub fn read(path: &Path) -> Result<Self, HubError> {
        let refused = |reason: &str| HubError::Token(reason.to_owned());
        if !path.is_absolute() {
            return Err(refused("the file's path is not absolute"));
        }
        let from_io = |error: std::io::Error| HubError::Token(format!("the file cannot be read: {}", error.kind()));
        // Opening a pipe would wait for its other end.
        if !std::fs::metadata(path).map_err(from_io)?.is_file() {
            return Err(refused("it is not a file"));
        }
        let file = File::open(path).map_err(from_io)?;
        // Asked of the open file, so that no other can take its place.
        let metadata = file.metadata().map_err(from_io)?;
        if !metadata.is_file() {
            return Err(refused("it is not a file"));
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(refused("the file can be read by its group or by others"));
        }
        let mut text = String::new();
        file.take(MOST_BYTES + 1).read_to_string(&mut text).map_err(from_io)?;
        let token = text.trim();
        if token.is_empty() || text.len() as u64 > MOST_BYTES || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(refused("the file does not hold one token"));
        }
        Ok(Self(token.to_owned()))
    }

    /// Value of the header that shows it.
    pub fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;

    #[test]
    fn only_a_private_file_with_one_token_is_taken() {
        let folder = std::env::temp_dir().join(format!("pg_rag-token-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("token");
        let read = |contents: &[u8], mode: u32| {
            std::fs::write(&path, contents).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            Token::read(&path)
        };
        let token = read(b"hf_secret\n", 0o600).unwrap();
        assert_eq!((token.header().as_str(), format!("{token:?}").as_str()), ("Bearer hf_secret", "Token"));
        for (contents, mode) in [
            (&b"hf_secret\n"[..], 0o640),
            (b"hf_secret\n", 0o604),
            (b"", 0o600),
            (b"hf_secret\r\nX-Evil: 1", 0o600),
            (b"\xff\xfe", 0o600),
            (&[b'x'; 5000], 0o600),
        ] {
            let error = read(contents, mode).unwrap_err().to_string();
            assert!(!error.contains("hf_secret") && !error.contains("pg_rag-token"), "{error}");
        }
        Token::read(Path::new("token")).unwrap_err();
        Token::read(&folder).unwrap_err();
        Token::read(&folder.join("missing")).unwrap_err();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
