//! The server's folder of what has been downloaded. For each repository:
//!
//! ```text
//! hub/owner--name/blobs/sha256-53aa…        contents of a file, complete and verified
//! hub/owner--name/blobs/sha256-53aa….part   the beginning of one
//! hub/owner--name/commits/0123….json        what the repository has at that commit
//! hub/owner--name/0123…-89ab…/              folder of a model: links to blobs
//! ```
//!
//! Contents are named by what they must be, so a part is continued by whoever wants the same file, of the same commit or
//! of another, and a file that a new commit has not changed is there already. Links are hard ones: they take no room, and
//! a folder is whole by itself.

use super::listing::{ContentHash, Listing};
use crate::error::{ModelError, Result};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Longest listing that is kept.
const MOST_LISTING_BYTES: u64 = 32 << 20;

/// What has been downloaded of one repository.
pub struct Store {
    root: PathBuf,
}

pub fn unwritable(path: &Path, source: std::io::Error) -> ModelError {
    ModelError::Unwritable { path: path.to_owned(), source }
}

fn create_dir(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| unwritable(path, error))
}

impl Store {
    /// The store of `repo`, whose name was checked, in the server's folder `dir`.
    pub fn open(dir: &Path, repo: &str) -> Result<Self> {
        let store = Self { root: dir.join("hub").join(repo.replace('/', "--")) };
        create_dir(&store.root.join("blobs"))?;
        create_dir(&store.root.join("commits"))?;
        Ok(store)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn blob(&self, hash: &ContentHash) -> PathBuf {
        self.root.join("blobs").join(hash.file_name())
    }

    pub fn part(&self, hash: &ContentHash) -> PathBuf {
        self.root.join("blobs").join(format!("{}.part", hash.file_name()))
    }

    fn listing_path(&self, commit: &str) -> PathBuf {
        self.root.join("commits").join(format!("{commit}.json"))
    }

    /// What the repository has at `commit`, if that is known.
    pub fn listing(&self, commit: &str) -> Option<Listing> {
        let path = self.listing_path(commit);
        let is_small = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= MOST_LISTING_BYTES);
        is_small.then(|| std::fs::read(&path).ok()).flatten().and_then(|bytes| Listing::from_bytes(&bytes, commit))
    }

    pub fn keep_listing(&self, listing: &Listing) -> Result<()> {
        let path = self.listing_path(&listing.commit);
        let unfinished = path.with_extension("unfinished");
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&unfinished)?;
            file.write_all(&listing.to_bytes())?;
            file.sync_all()?;
            std::fs::rename(&unfinished, &path)
        };
        write().map_err(|error| unwritable(&path, error))
    }

    /// Commits that can be used without the hub, as far as their files are there.
    pub fn known_commits(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.join("commits")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut commits: Vec<String> = names
            .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
            .filter(|commit| super::names::is_commit(commit))
            .collect();
        commits.sort();
        commits
    }

    /// Bytes of a file with these contents that are not on disk yet.
    pub fn missing_bytes(&self, hash: &ContentHash, bytes: u64) -> u64 {
        let length = |path: PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        match length(self.blob(hash)) == bytes && bytes > 0 {
            true => 0,
            false => bytes.saturating_sub(length(self.part(hash))),
        }
    }

    /// Bytes that may still be written here.
    pub fn free_bytes(&self) -> Result<u64> {
        let space = rustix::fs::statvfs(&self.root).map_err(|error| ModelError::from_io(&self.root, error.into()))?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    /// Puts the contents into the file `name` of `folder`, replacing what is there unless it is the same file.
    pub fn link(&self, hash: &ContentHash, folder: &Path, name: &str) -> Result<()> {
        let (blob, target) = (self.blob(hash), crate::source::inside(folder, name)?);
        let identity = |path: &Path| std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
        if identity(&target).is_some_and(|of_target| Some(of_target) == identity(&blob)) {
            return Ok(());
        }
        create_dir(target.parent().unwrap_or(folder))?;
        let unfinished = folder.join(".link");
        let link = || -> std::io::Result<()> {
            match std::fs::remove_file(&unfinished) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // Where there are no hard links, a copy does.
            std::fs::hard_link(&blob, &unfinished).or_else(|_| std::fs::copy(&blob, &unfinished).map(drop))?;
            std::fs::rename(&unfinished, &target)
        };
        link().map_err(|error| unwritable(&target, error))
    }
}
