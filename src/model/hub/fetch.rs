//! Downloading a model from a Hugging Face hub.
//!
//! Only `pg_rag_server fetch` calls this; nothing is ever downloaded to answer a query. The wanted files and their
//! SHA-256 are given, so what arrives is what the caller pinned, whatever the network says. A folder appears under its
//! final name complete and verified, or not at all.

use crate::error::{ModelError, Result};
use crate::source::{hash, inside};
use hf_hub::api::sync::{ApiBuilder, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Times that an interrupted transfer is resumed.
const RETRIES: usize = 3;

/// What to download.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// `organisation/name`
    pub repo: String,
    /// Commit, branch or tag.
    pub revision: String,
    /// Names in the repository, with the lower-case hexadecimal SHA-256 of each.
    pub files: Vec<(String, String)>,
    /// Folder to create.
    pub dest: PathBuf,
    /// Cache in the hub's layout, consulted before the network and filled from it. Without it nothing is kept.
    pub cache_dir: Option<PathBuf>,
    /// Address of another hub.
    pub endpoint: Option<String>,
    /// For repositories that need one.
    pub token: Option<String>,
}

/// Downloads the files into a new folder `dest`. Does nothing if `dest` holds exactly these contents already.
///
/// Errors: `InvalidArgument` for a bad name, or when `dest` exists with other contents; `Unreadable` naming the file
/// when the hub cannot be reached or refuses; `Changed` when a file is not the pinned one.
pub fn fetch(request: &Fetch) -> Result<()> {
    check_request(request)?;
    let dest = &request.dest;
    if dest.try_exists().map_err(|error| ModelError::from_io(dest, error))? {
        return match verify_files(request, dest) {
            Ok(()) => Ok(()),
            Err(error) => Err(ModelError::InvalidArgument(format!(
                "folder \"{}\" already exists and is not the model to download: {error}",
                dest.display()
            ))),
        };
    }
    let name = dest
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| ModelError::InvalidArgument(format!("\"{}\" is not the name of a folder", dest.display())))?;
    let work = dest.with_file_name(format!(".{name}.download-{}", std::process::id()));
    let result = fetch_into(request, &work);
    // Also after success: the cache of a download that keeps none is in there.
    let cleaned = std::fs::remove_dir_all(&work);
    result?;
    cleaned.map_err(|error| ModelError::from_io(&work, error))
}

fn fetch_into(request: &Fetch, work: &Path) -> Result<()> {
    let folder = work.join("model");
    create_dir(&folder)?;
    let cache_dir = request.cache_dir.clone().unwrap_or_else(|| work.join("cache"));
    create_dir(&cache_dir)?;
    let repo = connect(request, &cache_dir)?;
    for (name, _) in &request.files {
        let cached = cached_file(request, &cache_dir, name);
        let source = match cached {
            Some(path) => path,
            None => repo.get(name).map_err(|error| download_error(request, name, error))?,
        };
        let target = inside(&folder, name)?;
        if let Some(parent) = target.parent() {
            create_dir(parent)?;
        }
        std::fs::copy(&source, &target).map_err(|error| ModelError::from_io(&source, error))?;
        File::open(&target).and_then(|file| file.sync_all()).map_err(|error| ModelError::from_io(&target, error))?;
    }
    verify_files(request, &folder)?;
    std::fs::rename(&folder, &request.dest).map_err(|error| ModelError::from_io(&request.dest, error))
}

fn connect(request: &Fetch, cache_dir: &Path) -> Result<ApiRepo> {
    let mut builder = ApiBuilder::from_cache(Cache::new(cache_dir.to_owned()))
        .with_progress(false)
        .with_retries(RETRIES)
        .with_token(request.token.clone());
    if let Some(endpoint) = &request.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    let api = builder.build().map_err(|error| ModelError::Internal(format!("could not set up downloads: {error}")))?;
    Ok(api.repo(Repo::with_revision(request.repo.clone(), RepoType::Model, request.revision.clone())))
}

/// The file in a cache that another program filled, when the revision is a commit: such a cache may lack the reference
/// that [`ApiRepo::get`] looks for.
fn cached_file(request: &Fetch, cache_dir: &Path, name: &str) -> Option<PathBuf> {
    let folder = Repo::new(request.repo.clone(), RepoType::Model).folder_name();
    let file = cache_dir.join(folder).join("snapshots").join(&request.revision).join(name);
    file.is_file().then_some(file)
}

fn check_request(request: &Fetch) -> Result<()> {
    let sound = |text: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        text.bytes().all(allowed) && text.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
    };
    if !sound(&request.repo) || request.repo.matches('/').count() > 1 {
        return Err(ModelError::InvalidArgument(format!("\"{}\" is not the name of a repository", request.repo)));
    }
    if !sound(&request.revision) {
        return Err(ModelError::InvalidArgument(format!("\"{}\" is not the name of a revision", request.revision)));
    }
    if request.files.is_empty() {
        return Err(ModelError::InvalidArgument("no file to download".to_owned()));
    }
    for (name, sha256) in &request.files {
        if !sound(name) {
            return Err(ModelError::InvalidArgument(format!("\"{name}\" is not the name of a file in a repository")));
        }
        if sha256.len() != 64 || !sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ModelError::InvalidArgument(format!("\"{sha256}\" is not the SHA-256 of file \"{name}\"")));
        }
    }
    Ok(())
}

fn verify_files(request: &Fetch, folder: &Path) -> Result<()> {
    for (name, expected_sha256) in &request.files {
        let path = inside(folder, name)?;
        let found_sha256 = hash(&path)?;
        if found_sha256 != *expected_sha256 {
            return Err(ModelError::Changed { path, expected_sha256: Some(expected_sha256.clone()), found_sha256 });
        }
    }
    Ok(())
}

fn create_dir(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| ModelError::from_io(path, error))
}

fn download_error(request: &Fetch, name: &str, error: impl std::fmt::Display) -> ModelError {
    let path = PathBuf::from(format!("{}@{}/{name}", request.repo, request.revision));
    ModelError::Unreadable { path, source: std::io::Error::other(format!("download failed: {error}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    const COMMIT: &str = "0123456789012345678901234567890123456789";

    fn sha256(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A hub on the loopback interface that has one repository with two files; returns its address.
    fn hub() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(|line| line.ok());
                let Some(request) = lines.next() else { continue };
                let headers: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
                let one_byte = headers.iter().any(|line| line.eq_ignore_ascii_case("range: bytes=0-0"));
                let body: &[u8] = match request.split_whitespace().nth(1) {
                    Some(path) if path.ends_with("/resolve/main/config.json") => b"{}",
                    Some(path) if path.ends_with("/resolve/main/1_Pooling/config.json") => b"{\"mean\": 1}",
                    _ => {
                        stream
                            .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                            .unwrap();
                        continue;
                    }
                };
                let part = if one_byte { &body[..1] } else { body };
                let head = format!(
                    "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes 0-{}/{}\r\nETag: \"{}\"\r\n\
                     X-Repo-Commit: {COMMIT}\r\nConnection: close\r\n\r\n",
                    part.len(),
                    part.len() - 1,
                    body.len(),
                    sha256(body),
                );
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(part).unwrap();
            }
        });
        format!("http://{address}")
    }

    fn request(test: &str, endpoint: String) -> Fetch {
        let root = std::env::temp_dir().join(format!("pg_rag-hub-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        Fetch {
            repo: "org/tiny".to_owned(),
            revision: "main".to_owned(),
            files: vec![
                ("config.json".to_owned(), sha256(b"{}")),
                ("1_Pooling/config.json".to_owned(), sha256(b"{\"mean\": 1}")),
            ],
            dest: root.join("tiny"),
            cache_dir: None,
            endpoint: Some(endpoint),
            token: None,
        }
    }

    fn entries(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_model_arrives_complete_and_alone() {
        let request = request("whole", hub());
        fetch(&request).unwrap();
        assert_eq!(std::fs::read(request.dest.join("1_Pooling/config.json")).unwrap(), b"{\"mean\": 1}");
        assert_eq!(entries(&request.dest), ["1_Pooling", "config.json"]);
        assert_eq!(entries(request.dest.parent().unwrap()), ["tiny"]);

        // What is there is not downloaded again, and not overwritten either.
        let offline = Fetch { endpoint: Some("http://127.0.0.1:1".to_owned()), ..request.clone() };
        fetch(&offline).unwrap();
        std::fs::write(request.dest.join("config.json"), "{ }").unwrap();
        assert!(matches!(fetch(&request), Err(ModelError::InvalidArgument(_))));
        std::fs::remove_dir_all(request.dest.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_file_with_other_contents_leaves_nothing_behind() {
        let mut request = request("changed", hub());
        request.files[1].1 = sha256(b"another");
        assert!(matches!(fetch(&request), Err(ModelError::Changed { .. })));
        assert!(entries(request.dest.parent().unwrap()).is_empty());
        std::fs::remove_dir_all(request.dest.parent().unwrap()).unwrap();
    }

    #[test]
    fn without_a_network_only_the_cache_helps() {
        let mut request = request("offline", "http://127.0.0.1:1".to_owned());
        let error = fetch(&request).unwrap_err();
        assert!(error.to_string().contains("org/tiny@main/config.json"), "{error}");
        assert!(entries(request.dest.parent().unwrap()).is_empty());

        let cache = request.dest.with_file_name("cache");
        request.cache_dir = Some(cache.clone());
        request.endpoint = Some(hub());
        fetch(&request).unwrap();
        std::fs::remove_dir_all(&request.dest).unwrap();
        request.endpoint = Some("http://127.0.0.1:1".to_owned());
        fetch(&request).unwrap();
        // The same files by their commit, which no reference of the cache names.
        std::fs::remove_dir_all(&request.dest).unwrap();
        request.revision = COMMIT.to_owned();
        fetch(&request).unwrap();
        assert_eq!(entries(&request.dest), ["1_Pooling", "config.json"]);
        std::fs::remove_dir_all(request.dest.parent().unwrap()).unwrap();
    }

    #[test]
    fn names_cannot_leave_their_folder() {
        let good = request("names", "http://127.0.0.1:1".to_owned());
        let with_file = |name: &str| Fetch { files: vec![(name.to_owned(), sha256(b""))], ..good.clone() };
        for bad in [
            with_file("../config.json"),
            with_file("/etc/passwd"),
            with_file("a?b"),
            Fetch { repo: "../x".to_owned(), ..good.clone() },
            Fetch { revision: "..".to_owned(), ..good.clone() },
            Fetch { files: vec![("a".to_owned(), "00".to_owned())], ..good.clone() },
            Fetch { files: Vec::new(), ..good.clone() },
        ] {
            assert!(matches!(fetch(&bad), Err(ModelError::InvalidArgument(_))), "{bad:?}");
        }
        assert!(!good.dest.parent().unwrap().exists());
    }
}
