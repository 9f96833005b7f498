//! Symbolic links in the folder of a model. They may lead to other places in the folder, or, in the cache of the hub's own
//! tools, from a commit's folder to the contents that it shares with other commits:
//!
//! ```text
//! models--owner--name/snapshots/0123…/config.json -> ../../blobs/53aa…
//! ```
//!
//! Anything else is refused: who can write to the folder of a model, but not everywhere, must not make the server read
//! files that it can read and they cannot.

use crate::error::{ModelError, Result};
use std::path::{Path, PathBuf};

/// Checks that the files `names` in `dir` lie where they seem to. Files that are not there are no matter here.
///
/// Errors: `LinkedOutside` naming the first that does not.
pub fn check(dir: &Path, names: &[String]) -> Result<()> {
    let from_io = |path: &Path, error| ModelError::from_io(path, error);
    let root = root_of(&dir.canonicalize().map_err(|error| from_io(dir, error))?);
    for name in names {
        let path = super::inside(dir, name)?;
        match path.canonicalize() {
            Ok(real) if real.starts_with(&root) => {}
            Ok(_) => return Err(ModelError::LinkedOutside(path)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(from_io(&path, error)),
        }
    }
    Ok(())
}

/// What links of the model in `dir` may not leave.
fn root_of(dir: &Path) -> PathBuf {
    let repository = || {
        let snapshots = dir.parent()?;
        let repository = snapshots.parent()?;
        let is_cache = snapshots.file_name()? == "snapshots"
            && repository.file_name()?.to_str()?.starts_with("models--")
            && repository.join("blobs").is_dir();
        is_cache.then(|| repository.to_owned())
    };
    repository().unwrap_or_else(|| dir.to_owned())
}
