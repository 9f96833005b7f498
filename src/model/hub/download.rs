//! The way of a model from a hub to a folder that can be registered.
//!
//! The revision becomes a commit first; everything after that is about this commit. What the hub lists is checked against
//! the limits before a byte is loaded. Files go to the store one by one, so that an interrupted download continues where it
//! was, and nothing is loaded twice. A commit that is known already, with all its files in the store, needs no hub.

use super::blob::{Attempts, Source};
use super::client::{self, Client, Trouble};
use super::listing::{ContentHash, Listing, RemoteFile};
use super::selection::{self, Wanted, INDEX_FILE};
use super::store::Store;
use super::token::Token;
use super::{names, HubError};
use crate::error::{ModelError, Result};
use crate::source;
use pg_rag_protocol::message::{ModelInfo, ModelKind, ModelRef};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

/// Disk space that must stay free.
const SPARE_BYTES: u64 = 64 << 20;

/// Most patterns of one call.
const MOST_PATTERNS: usize = 100;

/// Longest pattern.
const MOST_PATTERN_BYTES: usize = 400;

/// What to download.
#[derive(Clone, Debug)]
pub struct Download {
    /// Address of the hub.
    pub endpoint: String,
    pub token_file: Option<PathBuf>,
    /// `owner/name`
    pub repo: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// Patterns of the wanted files; empty for what a model needs.
    pub patterns: Vec<String>,
    /// Found out from the files if it is not given.
    pub kind: Option<ModelKind>,
    /// Options that the model will be registered with.
    pub options_json: String,
    /// For an adapter: the model that it changes.
    pub base: Option<ModelRef>,
    /// Most bytes of all files together.
    pub max_bytes: u64,
}

/// A model on disk, ready to be registered.
#[derive(Clone, Debug, PartialEq)]
pub struct Downloaded {
    pub kind: ModelKind,
    /// Its folder or GGUF file, relative to the server's folder.
    pub path: String,
    pub commit: String,
    pub info: ModelInfo,
}

/// Who waits for a download.
pub trait Observer: Sync {
    /// Another phase begins.
    fn phase(&self, phase: &str);
    /// So many bytes of so many are there.
    fn progress(&self, done: u64, total: u64);
    /// Whether nobody wants the result any more.
    fn is_cancelled(&self) -> bool;
}

/// Downloads a model into the server's folder `dir`, an absolute path, and inspects it.
///
/// Errors: `InvalidArgument` for bad names; `Hub`; `Cancelled`; `Unwritable`; those of [`source::inspect`].
pub fn download(request: &Download, dir: &Path, observer: &dyn Observer) -> Result<Downloaded> {
    names::check_repo(&request.repo)?;
    names::check_revision(&request.revision)?;
    let patterns = &request.patterns;
    if patterns.len() > MOST_PATTERNS || patterns.iter().any(|pattern| pattern.len() > MOST_PATTERN_BYTES) {
        return Err(ModelError::InvalidArgument("too many or too long patterns of files".to_owned()));
    }
    let token = request.token_file.as_deref().map(Token::read).transpose().map_err(HubError::into_error)?;
    let client = Client::new(&request.endpoint, &request.repo, token)?;
    let store = Store::open(dir, &request.repo)?;
    std::thread::scope(|scope| {
        // Ends the watch also where a panic ends the work.
        let (running, ended) = channel::<()>();
        let agent = client.agent();
        let watch = move || client::shut_down_when_cancelled(agent, &|| observer.is_cancelled(), &ended);
        std::thread::Builder::new()
            .name("cancel".into())
            .spawn_scoped(scope, watch)
            .map_err(|error| ModelError::Internal(format!("no thread: {error}")))?;
        let outcome = Downloading { request, client: &client, store: &store, observer }.run(dir);
        drop(running);
        outcome
    })
}

struct Downloading<'a> {
    request: &'a Download,
    client: &'a Client,
    store: &'a Store,
    observer: &'a dyn Observer,
}

impl Downloading<'_> {
    fn run(&self, dir: &Path) -> Result<Downloaded> {
        let request = self.request;
        self.observer.phase("list");
        let listing = self.listing()?;
        let adapter = request.base.is_some();
        let wanted = Wanted { repo: &request.repo, patterns: &request.patterns, adapter };
        let described_by = selection::described_by(&listing, wanted)?;
        self.observer.phase("download");
        let shards = match described_by.iter().find(|file| file.name == INDEX_FILE) {
            Some(index) => {
                self.check_size(&described_by)?;
                self.fetch(&listing.commit, &described_by)?;
                Some(self.shards(&listing, index)?)
            }
            None => None,
        };
        let weights = selection::weights(&listing, wanted, shards.as_deref())?;
        let files: Vec<RemoteFile> = described_by.iter().chain(&weights).cloned().collect();
        self.check_size(&files)?;
        self.fetch(&listing.commit, &files)?;
        self.observer.phase("verify");
        let folder = self.store.root().join(folder_name(&listing.commit, &files));
        for file in &files {
            self.store.link(&file.hash, &folder, &file.name)?;
        }
        let path = match weights.iter().find(|file| file.name.to_ascii_lowercase().ends_with(".gguf")) {
            Some(gguf) => source::inside(&folder, &gguf.name)?,
            None => folder,
        };
        let kind = request.kind.map_or_else(|| kind_of(&path, adapter), Ok)?;
        let mut info = match &request.base {
            Some(base) => source::inspect_adapter(&path, base)?,
            None => source::inspect(kind, &path)?,
        };
        source::apply_options(kind, &path, &request.options_json, &mut info)?;
        self.check_contents(&files, &info)?;
        info.license = info.license.or_else(|| listing.license.clone());
        let path = path.strip_prefix(dir).map_err(|_| ModelError::Internal("a model outside its folder".to_owned()))?;
        let path = path.to_string_lossy().into_owned();
        Ok(Downloaded { kind, path, commit: listing.commit, info })
    }

    /// What the repository has, from the hub unless the commit is known.
    fn listing(&self) -> Result<Listing> {
        let revision = &self.request.revision;
        if let Some(listing) = names::is_commit(revision).then(|| self.store.listing(revision)).flatten() {
            return Ok(listing);
        }
        let mut attempts = Attempts::new(self.client.host());
        let listing = loop {
            let outcome = self.client.listing(revision);
            if self.observer.is_cancelled() {
                return Err(ModelError::Cancelled);
            }
            match outcome {
                Ok(listing) => break listing,
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing { reason, wait }) => {
                    attempts.failed(reason, wait, self.observer).map_err(|error| self.with_known_commits(error))?;
                }
            }
        };
        if names::is_commit(revision) && listing.commit != *revision {
            let reason = "it tells of another commit".to_owned();
            return Err(HubError::Invalid { host: self.client.host().to_owned(), reason }.into_error());
        }
        self.store.keep_listing(&listing)?;
        Ok(listing)
    }

    fn with_known_commits(&self, error: ModelError) -> ModelError {
        match error {
            ModelError::Hub(hub) => match *hub {
                HubError::Unreachable { host, reason, .. } => {
                    HubError::Unreachable { host, reason, known_commits: self.store.known_commits() }.into_error()
                }
                other => other.into_error(),
            },
            other => other,
        }
    }

    /// Checks the sum of the files against the limit and against the disk.
    fn check_size(&self, files: &[RemoteFile]) -> Result<()> {
        let (bytes, limit_bytes) = (total(files), self.request.max_bytes);
        if bytes > limit_bytes {
            return Err(HubError::TooLarge { bytes, limit_bytes }.into_error());
        }
        let missing = files.iter().map(|file| self.store.missing_bytes(&file.hash, file.bytes));
        let needed_bytes = missing.fold(0, u64::saturating_add);
        let free_bytes = self.store.free_bytes()?;
        match needed_bytes == 0 || needed_bytes.saturating_add(SPARE_BYTES) <= free_bytes {
            true => Ok(()),
            false => Err(HubError::DiskFull { needed_bytes, free_bytes }.into_error()),
        }
    }

    /// Has `files` in the store.
    fn fetch(&self, commit: &str, files: &[RemoteFile]) -> Result<()> {
        let Self { client, store, observer, .. } = *self;
        let source = Source { client, store, commit, observer };
        let (mut done, total) = (0_u64, total(files));
        for file in files {
            source.fetch(file, &|bytes| observer.progress(done.saturating_add(bytes), total))?;
            done = done.saturating_add(file.bytes);
            observer.progress(done, total);
        }
        Ok(())
    }

    /// Files of weights that the `index`, which is in the store, names.
    fn shards(&self, listing: &Listing, index: &RemoteFile) -> Result<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: HashMap<String, String>,
        }
        let path = self.store.blob(&index.hash);
        let bytes = std::fs::read(&path).map_err(|error| ModelError::from_io(&path, error))?;
        let index: Index = serde_json::from_slice(&bytes).map_err(|error| ModelError::corrupt(INDEX_FILE, error))?;
        let mut shards: Vec<String> = index.weight_map.into_values().collect();
        shards.sort();
        shards.dedup();
        match shards.iter().all(|shard| shard.ends_with(".safetensors") && listing.file(shard).is_some()) {
            true => Ok(shards),
            false => Err(ModelError::corrupt(INDEX_FILE, "it names files that are not there")),
        }
    }

    /// Checks that what will be registered is what the hub announced.
    fn check_contents(&self, files: &[RemoteFile], info: &ModelInfo) -> Result<()> {
        for registered in &info.files {
            // A GGUF file is registered under its last name.
            let is_it = |file: &&RemoteFile| match file.name.strip_suffix(registered.name.as_str()) {
                Some(folder) => folder.is_empty() || folder.ends_with('/') && registered.name.ends_with(".gguf"),
                None => false,
            };
            let announced = files.iter().find(is_it);
            let Some(RemoteFile { name, hash: ContentHash::Sha256(expected), .. }) = announced else { continue };
            if *expected != registered.sha256 {
                let (host, found) = (self.client.host().to_owned(), registered.sha256.clone());
                let (file, expected) = (name.clone(), expected.clone());
                return Err(HubError::WrongContents { host, file, expected, found }.into_error());
            }
        }
        Ok(())
    }
}

fn total(files: &[RemoteFile]) -> u64 {
    files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
}

/// Name of the folder of exactly these files at this commit.
fn folder_name(commit: &str, files: &[RemoteFile]) -> String {
    let mut names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    names.sort_unstable();
    let digest = Sha256::digest(format!("{commit}\n{}", names.join("\n")));
    let digits: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{digits}", &commit[..12])
}

/// What a model is for, by its files.
fn kind_of(path: &Path, adapter: bool) -> Result<ModelKind> {
    if adapter || !path.is_dir() {
        return Ok(ModelKind::Generate);
    }
    let config_path = path.join("config.json");
    let bytes = std::fs::read(&config_path).map_err(|error| ModelError::from_io(&config_path, error))?;
    let config: Value = serde_json::from_slice(&bytes).map_err(|error| ModelError::corrupt(&config_path, error))?;
    let names = config["architectures"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let names: Vec<&str> = names.collect();
    let any = |ending: &str| names.iter().any(|name| name.ends_with(ending));
    if any("ForSequenceClassification") {
        return Ok(ModelKind::Rerank);
    }
    // Embedding models may be decoders by birth.
    let embeds = path.join("modules.json").exists();
    match !embeds && (any("ForCausalLM") || any("ForConditionalGeneration") || any("LMHeadModel")) {
        true => Ok(ModelKind::Generate),
        false => Ok(ModelKind::Embed),
    }
}
