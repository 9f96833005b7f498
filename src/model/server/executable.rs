//! Whether the server's own executable has been replaced on disk since it was started, as `make install` or a package
//! upgrade does.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What tells one file from another that took its place.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    modified_s: i64,
    modified_ns: i64,
    size_bytes: u64,
}

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
            size_bytes: metadata.size(),
        })
    }
}

/// The file that this process runs, as it was at the start.
pub struct Executable {
    path: PathBuf,
    identity: Option<Identity>,
}

impl Executable {
    /// Remembers what is at `path` now.
    pub fn at(path: PathBuf) -> Self {
        let identity = Identity::of(&path);
        Self { path, identity }
    }

    /// Whether another file is at the path now. One that is missing has no successor, so it does not count.
    pub fn is_replaced(&self) -> bool {
        Identity::of(&self.path).is_some_and(|now| Some(now) != self.identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::testing::temporary_folder;

    #[test]
    fn a_renamed_over_file_is_replaced_and_a_missing_one_is_not() {
        let folder = temporary_folder("executable");
        let path = folder.join("server");
        fs::write(&path, "old").unwrap();
        let executable = Executable::at(path.clone());
        assert!(!executable.is_replaced());
        fs::write(folder.join("new"), "new").unwrap();
        fs::rename(folder.join("new"), &path).unwrap();
        assert!(executable.is_replaced());
        fs::remove_file(&path).unwrap();
        assert!(!executable.is_replaced());
        fs::remove_dir_all(folder).unwrap();
    }
}
