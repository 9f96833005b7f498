//! What the server has written into its own folder, and removing it: `rag_stored_models`, `rag_delete_stored_model`.
//!
//! Which of it is registered is for the databases to know. Only what is listed can be removed, by the name that it is listed
//! with; so no name leads anywhere else. What several downloads share stays as long as one of them does: the folder of
//! each has links of its own to the contents.

use super::store::unwritable;
use crate::error::{ModelError, Result};
use pg_rag_protocol::message::StoredModel;
use std::fs::{DirEntry, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Folders in a model's folder that are looked into.
const MOST_DEPTH: usize = 8;

/// The models in the server's folder `dir`, by their paths in it: files of quantised models and folders of downloads.
pub fn list(dir: &Path) -> Result<Vec<StoredModel>> {
    let mut found = Vec::new();
    for (name, entry) in entries(dir)? {
        let path = entry.path();
        // Links are not ours.
        let is_model = entry.file_type().is_ok_and(|kind| kind.is_file()) && name.ends_with(".gguf");
        if is_model {
            found.push(StoredModel { path: name, repository: None, bytes: bytes_of(&path)? });
        }
    }
    for (repository, entry) in entries(&dir.join("hub"))?.into_iter().filter(|(_, entry)| is_folder(entry)) {
        for (name, folder) in entries(&entry.path())?.into_iter().filter(|(_, entry)| is_folder(entry)) {
            if is_model_folder(&name) {
                let path = format!("hub/{repository}/{name}");
                let named = Some(repository.replacen("--", "/", 1));
                found.push(StoredModel { path, repository: named, bytes: bytes_of(&folder.path())? });
            }
        }
    }
    found.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(found)
}

/// Removes the model at `path`, and what was downloaded for it alone. Gives the bytes that this has freed.
///
/// Errors: `InvalidArgument` where the folder has no such model; `Unwritable`.
pub fn remove(dir: &Path, path: &str) -> Result<u64> {
    if !list(dir)?.iter().any(|stored| stored.path == path) {
        return Err(ModelError::InvalidArgument(format!("the server has stored no model \"{path}\"")));
    }
    let target = dir.join(path);
    let Some(repository) = path.starts_with("hub/").then(|| target.parent()).flatten() else {
        let bytes = bytes_of(&target)?;
        std::fs::remove_file(&target).map_err(|error| unwritable(&target, error))?;
        return Ok(bytes);
    };
    // Copies, where there are no links.
    let mut freed = 0;
    visit(&target, 0, &mut |_, file| freed += if file.nlink() == 1 { file.len() } else { 0 })?;
    std::fs::remove_dir_all(&target).map_err(|error| unwritable(&target, error))?;
    let others = entries(repository)?.into_iter().any(|(name, entry)| is_folder(&entry) && is_model_folder(&name));
    if !others {
        visit(repository, 0, &mut |_, file| freed += file.len())?;
        std::fs::remove_dir_all(repository).map_err(|error| unwritable(repository, error))?;
        return Ok(freed);
    }
    let mut unused: Vec<PathBuf> = Vec::new();
    visit(&repository.join("blobs"), 0, &mut |path, file| {
        // The beginning of a download may go on.
        if file.nlink() == 1 && path.extension().is_none_or(|ending| ending != "part") {
            freed += file.len();
            unused.push(path.to_owned());
        }
    })?;
    for path in unused {
        std::fs::remove_file(&path).map_err(|error| unwritable(&path, error))?;
    }
    Ok(freed)
}

/// Whether a folder of a repository is one of a model, and not one of the store.
fn is_model_folder(name: &str) -> bool {
    let digits = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.split_once('-').is_some_and(|(commit, files)| digits(commit) && digits(files))
}

fn is_folder(entry: &DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_dir())
}

/// The entries of a folder with names; none if it is not there.
fn entries(dir: &Path) -> Result<Vec<(String, DirEntry)>> {
    let from_io = |error| ModelError::from_io(dir, error);
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(from_io)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(from_io)?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry));
        }
    }
    Ok(found)
}

fn bytes_of(path: &Path) -> Result<u64> {
    let mut bytes = 0;
    visit(path, 0, &mut |_, file| bytes += file.len())?;
    Ok(bytes)
}

/// Calls `each` for every file in the folder, or for the file; links are not followed.
fn visit(path: &Path, depth: usize, each: &mut dyn FnMut(&Path, &Metadata)) -> Result<()> {
    let metadata = std::fs::symlink_metadata(path).map_err(|error| ModelError::from_io(path, error))?;
    if metadata.is_file() {
        each(path, &metadata);
    } else if metadata.is_dir() && depth < MOST_DEPTH {
        for (_, entry) in entries(path)? {
            visit(&entry.path(), depth + 1, each)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::download_tests::{data, hub_with_encoder, order, Place};
    use super::super::Download;
    use super::*;

    fn names(place: &Place) -> Vec<String> {
        list(&place.dir).unwrap().into_iter().map(|stored| stored.path).collect()
    }

    #[test]
    fn a_download_goes_with_what_no_other_needs() {
        let (hub, place) = (hub_with_encoder(), Place::new());
        assert!(names(&place).is_empty());
        let first = place.download(&order(&hub)).unwrap().path;
        // Another commit, of which one file is another.
        hub.push_folder("org/tiny", "main", &data("encoder_families/distilbert"), &[("modules.json", b"[]")]);
        let tokenizer = ["config.json", "tokenizer*.json", "model.safetensors"].map(str::to_owned).to_vec();
        let second = place.download(&Download { patterns: tokenizer, ..order(&hub) }).unwrap().path;
        let mut both = [first.clone(), second.clone()];
        both.sort();
        assert_eq!(names(&place), both);
        let stored = list(&place.dir).unwrap();
        assert!(stored.iter().all(|stored| stored.repository.as_deref() == Some("org/tiny") && stored.bytes > 1000));

        let blobs = place.blobs();
        let freed = remove(&place.dir, &first).unwrap();
        assert_eq!(names(&place), std::slice::from_ref(&second));
        let left = place.blobs();
        let bytes = |blobs: &[(String, u64)]| blobs.iter().map(|(_, bytes)| bytes).sum::<u64>();
        assert!(left.iter().all(|blob| blobs.contains(blob)) && left.len() < blobs.len(), "{left:?}");
        assert_eq!(freed, bytes(&blobs) - bytes(&left));
        assert!(crate::source::inspect(pg_rag_protocol::message::ModelKind::Embed, &place.dir.join(&second)).is_ok());

        for path in names(&place) {
            remove(&place.dir, &path).unwrap();
        }
        assert!(!place.dir.join("hub/org--tiny").exists());
    }

    #[test]
    fn only_what_is_listed_can_be_removed() {
        let (hub, place) = (hub_with_encoder(), Place::new());
        let path = place.download(&order(&hub)).unwrap().path;
        std::fs::write(place.dir.join("small-0123456789abcdef.gguf"), "weights").unwrap();
        std::fs::write(place.dir.join("notes.txt"), "kept").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", place.dir.join("link.gguf")).unwrap();
        let outside = format!("../{}/notes.txt", place.dir.file_name().unwrap().to_str().unwrap());
        for bad in
            ["", ".", "hub", "hub/org--tiny", "hub/org--tiny/blobs", "notes.txt", "link.gguf", "/etc/passwd", &outside]
        {
            let error = remove(&place.dir, bad).unwrap_err();
            assert!(matches!(error, ModelError::InvalidArgument(_)), "{bad}: {error}");
        }
        assert_eq!(names(&place), [path, "small-0123456789abcdef.gguf".to_owned()]);
        assert_eq!(remove(&place.dir, "small-0123456789abcdef.gguf").unwrap(), 7);
        assert_eq!(names(&place).len(), 1);
    }
}
