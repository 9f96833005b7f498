//! One file of a repository: into the store, whole and verified, or as the beginning that the next attempt continues.

use super::client::{passing, Answer, Client, Trouble};
use super::listing::{ContentHash, RemoteFile};
use super::store::{unwritable, Store};
use super::{HubError, Observer};
use crate::error::{ModelError, Result};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Attempts in a row that bring next to nothing.
const MOST_FAILURES: u32 = 5;

/// An attempt that brought so much counts as a success.
const PROGRESS_BYTES: u64 = 1 << 20;

/// Pause after the first failure; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 300 });

const BUFFER_BYTES: usize = 1 << 18;

/// What is downloaded, from where, and who watches.
pub struct Source<'a> {
    pub client: &'a Client,
    pub store: &'a Store,
    pub commit: &'a str,
    pub observer: &'a dyn Observer,
}

/// The hash of a file in the making.
enum Hasher {
    Sha256(Sha256),
    GitBlob(Sha1),
}

impl Hasher {
    fn new(file: &RemoteFile) -> Self {
        match file.hash {
            ContentHash::Sha256(_) => Hasher::Sha256(Sha256::new()),
            ContentHash::GitBlob(_) => Hasher::GitBlob(Sha1::new_with_prefix(format!("blob {}\0", file.bytes))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::GitBlob(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> ContentHash {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Hasher::Sha256(hasher) => ContentHash::Sha256(hex(&hasher.finalize())),
            Hasher::GitBlob(hasher) => ContentHash::GitBlob(hex(&hasher.finalize())),
        }
    }
}

/// A file that is being filled, with the hash of what it has.
struct Part<'a> {
    path: &'a Path,
    file: File,
    hasher: Hasher,
    bytes: u64,
}

impl Part<'_> {
    fn start_again(&mut self, wanted: &RemoteFile) -> Result<()> {
        self.file.set_len(0).map_err(|error| unwritable(self.path, error))?;
        self.file.seek(SeekFrom::Start(0)).map_err(|error| unwritable(self.path, error))?;
        (self.hasher, self.bytes) = (Hasher::new(wanted), 0);
        Ok(())
    }
}

impl Source<'_> {
    fn check_cancelled(&self) -> Result<()> {
        match self.observer.is_cancelled() {
            true => Err(ModelError::Cancelled),
            false => Ok(()),
        }
    }

    /// Has `wanted` in the store. `progress` is told how many of its bytes are there.
    ///
    /// Errors: `Cancelled`; `Hub` with what the hub did; `Unwritable`.
    pub fn fetch(&self, wanted: &RemoteFile, progress: &dyn Fn(u64)) -> Result<()> {
        let blob = self.store.blob(&wanted.hash);
        if self.is_there(wanted, &blob)? {
            progress(wanted.bytes);
            return Ok(());
        }
        let path = self.store.part(&wanted.hash);
        let mut part = self.open_part(wanted, &path)?;
        let mut resumed = part.bytes > 0;
        loop {
            self.fill(wanted, &mut part, progress)?;
            let found = std::mem::replace(&mut part.hasher, Hasher::new(wanted)).finish();
            if found == wanted.hash {
                break;
            }
            part.start_again(wanted)?;
            // What was there already may have been the fault.
            if !std::mem::take(&mut resumed) {
                // Nothing is worth keeping.
                let _ = std::fs::remove_file(&path);
                return Err(self.wrong(wanted, wanted.hash.file_name(), found.file_name()));
            }
        }
        part.file.sync_all().map_err(|error| unwritable(&path, error))?;
        std::fs::rename(&path, &blob).map_err(|error| unwritable(&blob, error))
    }

    /// Whether the store has the contents; a damaged file is removed.
    fn is_there(&self, wanted: &RemoteFile, blob: &Path) -> Result<bool> {
        let mut file = match File::open(blob) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(ModelError::from_io(blob, error)),
        };
        let length = file.metadata().map_err(|error| ModelError::from_io(blob, error))?.len();
        if length == wanted.bytes {
            let mut hasher = Hasher::new(wanted);
            self.read_all(blob, &mut file, &mut hasher)?;
            if hasher.finish() == wanted.hash {
                return Ok(true);
            }
        }
        std::fs::remove_file(blob).map_err(|error| unwritable(blob, error))?;
        Ok(false)
    }

    /// The beginning that an earlier attempt left, or an empty file.
    fn open_part<'a>(&self, wanted: &RemoteFile, path: &'a Path) -> Result<Part<'a>> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = file.map_err(|error| unwritable(path, error))?;
        let mut hasher = Hasher::new(wanted);
        let bytes = self.read_all(path, &mut file, &mut hasher)?;
        let mut part = Part { path, file, hasher, bytes };
        if bytes > wanted.bytes {
            part.start_again(wanted)?;
        }
        Ok(part)
    }

    fn read_all(&self, path: &Path, file: &mut File, hasher: &mut Hasher) -> Result<u64> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut bytes = 0;
        loop {
            self.check_cancelled()?;
            match file.read(&mut buffer) {
                Ok(0) => return Ok(bytes),
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    bytes += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(ModelError::from_io(path, error)),
            }
        }
    }

    /// Attempts until the part has as many bytes as it should.
    fn fill(&self, wanted: &RemoteFile, part: &mut Part<'_>, progress: &dyn Fn(u64)) -> Result<()> {
        let mut attempts = Attempts::new(self.client.host());
        while part.bytes < wanted.bytes {
            let before = part.bytes;
            let outcome = self.transfer(wanted, part, progress);
            self.check_cancelled()?;
            match outcome {
                Ok(()) => {}
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing { reason, wait }) => {
                    if part.bytes >= before.saturating_add(PROGRESS_BYTES) {
                        attempts = Attempts::new(self.client.host());
                    }
                    attempts.failed(reason, wait, self.observer)?;
                }
            }
        }
        Ok(())
    }

    /// One request for what is missing.
    fn transfer(
        &self,
        wanted: &RemoteFile,
        part: &mut Part<'_>,
        progress: &dyn Fn(u64),
    ) -> std::result::Result<(), Trouble> {
        let mut answer = self.client.file(self.commit, &wanted.name, part.bytes)?;
        match answer.status {
            206 => self.check_range(wanted, part.bytes, &answer)?,
            416 if part.bytes > 0 => {
                part.start_again(wanted)?;
                return Err(Trouble::Passing { reason: "it cannot continue the file".to_owned(), wait: None });
            }
            416 => return Err(HubError::Status { host: self.client.host().to_owned(), status: 416 }.into()),
            _ => {
                part.start_again(wanted)?;
                if let Some(bytes) = number(&answer, "Content-Length").filter(|&bytes| bytes != wanted.bytes) {
                    return Err(self.wrong_size(wanted, bytes.to_string()).into());
                }
            }
        }
        let mut buffer = vec![0; BUFFER_BYTES];
        while part.bytes < wanted.bytes {
            let count = match answer.body.read(&mut buffer) {
                Ok(0) => return Err(passing(&ErrorKind::UnexpectedEof.into())),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(passing(&error)),
            };
            self.check_cancelled()?;
            if count as u64 > wanted.bytes - part.bytes {
                return Err(self.wrong_size(wanted, "more".to_owned()).into());
            }
            part.file.write_all(&buffer[..count]).map_err(|error| unwritable(part.path, error))?;
            part.hasher.update(&buffer[..count]);
            part.bytes += count as u64;
            progress(part.bytes);
        }
        Ok(())
    }

    /// Checks that a partial answer begins where the part ends, and is of a file of the right size.
    fn check_range(&self, wanted: &RemoteFile, from: u64, answer: &Answer) -> std::result::Result<(), Trouble> {
        let range = answer.headers.get("Content-Range").and_then(|value| value.to_str().ok());
        let parsed = range.and_then(|range| {
            let (places, total) = range.strip_prefix("bytes ")?.split_once('/')?;
            let start: u64 = places.split_once('-')?.0.parse().ok()?;
            Some((start, total.parse::<u64>().ok()?))
        });
        match parsed {
            Some((start, total)) if start == from && total == wanted.bytes => Ok(()),
            Some((start, total)) if start == from => Err(self.wrong_size(wanted, total.to_string()).into()),
            _ => {
                let reason = "it sends another part of the file".to_owned();
                Err(HubError::Invalid { host: self.client.host().to_owned(), reason }.into())
            }
        }
    }

    fn wrong_size(&self, wanted: &RemoteFile, found: String) -> ModelError {
        self.wrong(wanted, format!("{} bytes", wanted.bytes), format!("{found} bytes"))
    }

    fn wrong(&self, wanted: &RemoteFile, expected: String, found: String) -> ModelError {
        let (host, file) = (self.client.host().to_owned(), wanted.name.clone());
        HubError::WrongContents { host, file, expected, found }.into_error()
    }
}

fn number(answer: &Answer, header: &str) -> Option<u64> {
    answer.headers.get(header)?.to_str().ok()?.trim().parse().ok()
}

/// Failures in a row, and the pauses after them.
pub struct Attempts<'a> {
    host: &'a str,
    failures: u32,
}

impl<'a> Attempts<'a> {
    pub fn new(host: &'a str) -> Self {
        Self { host, failures: 0 }
    }

    /// Waits before the next attempt. Errors: `Cancelled`; `Hub` after too many failures.
    pub fn failed(&mut self, reason: String, wait: Option<Duration>, observer: &dyn Observer) -> Result<()> {
        self.failures += 1;
        if self.failures >= MOST_FAILURES {
            let host = self.host.to_owned();
            return Err(HubError::Unreachable { host, reason, known_commits: Vec::new() }.into_error());
        }
        let until = Instant::now() + wait.unwrap_or(FIRST_PAUSE * (1 << (self.failures - 1)));
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if observer.is_cancelled() {
                return Err(ModelError::Cancelled);
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        Ok(())
    }
}
