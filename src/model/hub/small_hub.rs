//! A small hub on the loopback interface, for tests: repositories in memory, real HTTP, and whatever can go wrong.
//!
//! Also compiled into the tests with whole clusters, so it needs nothing but the standard library and hashes.

use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// A request that the hub has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
    /// Whether it came to the second address, where large files are.
    pub at_store: bool,
    /// Bytes of the file that were sent.
    pub sent: usize,
}

/// How the hub behaves.
#[derive(Clone, Debug, Default)]
pub struct Conduct {
    /// Large files are at another address, to which it redirects.
    pub redirects: bool,
    /// It redirects to the same address for ever.
    pub loops: bool,
    /// Repositories are for those who show this token.
    pub token: Option<String>,
    /// Connections that send a file end after so many bytes of it.
    pub cut_after: Option<usize>,
    /// So many requests for files are cut; all of them if not given.
    pub cuts: Option<usize>,
    /// Answers of these statuses come first, to requests for files.
    pub statuses: Vec<u16>,
    /// Bytes of files come one by one, with a pause.
    pub drip: Option<Duration>,
    /// The hub takes requests and never answers.
    pub silent: bool,
    /// Ranges are ignored.
    pub no_ranges: bool,
    /// Ranges begin somewhere else.
    pub wrong_ranges: bool,
    /// One bit of every file is another.
    pub flips_a_bit: bool,
    /// Files are longer (or shorter) by so many bytes than announced.
    pub grows: isize,
    /// What is answered instead of a list of files.
    pub listing: Option<Vec<u8>>,
}

#[derive(Default)]
struct State {
    /// By name of repository and commit.
    files: BTreeMap<(String, String), BTreeMap<String, Vec<u8>>>,
    /// By name of repository and branch.
    branches: BTreeMap<(String, String), String>,
    conduct: Conduct,
    seen: Vec<Seen>,
}

/// A running hub; its threads end with the process.
#[derive(Clone)]
pub struct SmallHub {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_large(name: &str) -> bool {
    [".safetensors", ".gguf", ".bin"].iter().any(|ending| name.ends_with(ending))
}

impl SmallHub {
    pub fn start() -> Self {
        let listen = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback interface is there");
            let address = listener.local_addr().expect("it is bound");
            (listener, format!("http://{address}"))
        };
        let ((hub, endpoint), (store, store_address)) = (listen(), listen());
        let state = Arc::new(Mutex::new(State::default()));
        for (listener, at_store) in [(hub, false), (store, true)] {
            let (state, store_address) = (state.clone(), store_address.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (state, store_address) = (state.clone(), store_address.clone());
                    // A client that goes away is no failure of the hub.
                    std::thread::spawn(move || answer(&state, &store_address, at_store, stream).err());
                }
            });
        }
        Self { endpoint, state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread of the hub panics")
    }

    /// Lets `branch` of `repo` be at a new commit with these files, and tells the commit.
    pub fn push(&self, repo: &str, branch: &str, files: &[(&str, &[u8])]) -> String {
        let files: BTreeMap<String, Vec<u8>> =
            files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        let commit = hex(&Sha1::digest(format!("{files:?}")));
        let mut state = self.lock();
        state.files.insert((repo.to_owned(), commit.clone()), files);
        state.branches.insert((repo.to_owned(), branch.to_owned()), commit.clone());
        commit
    }

    /// [`SmallHub::push`] of all files below `folder`, and of `more`.
    pub fn push_folder(&self, repo: &str, branch: &str, folder: &Path, more: &[(&str, &[u8])]) -> String {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(next).expect("a folder").flatten() {
                match entry.path() {
                    path if path.is_dir() => folders.push(path),
                    path => found.push(path),
                }
            }
        }
        let files: Vec<(String, Vec<u8>)> = found
            .into_iter()
            .map(|path| {
                let name = path.strip_prefix(folder).expect("it is below").to_string_lossy().into_owned();
                (name, std::fs::read(path).expect("a file"))
            })
            .collect();
        let mut all: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        all.extend(more);
        self.push(repo, branch, &all)
    }

    /// Changes how the hub behaves.
    pub fn behave(&self, change: impl FnOnce(&mut Conduct)) {
        change(&mut self.lock().conduct);
    }

    /// Requests since the last call.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.lock().seen)
    }
}

fn answer(state: &Mutex<State>, store_address: &str, at_store: bool, mut stream: TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ") {
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let (range, authorization) = (headers.get("range").cloned(), headers.get("authorization").cloned());
    let mut lock = state.lock().expect("no thread of the hub panics");
    let seen =
        Seen { path: path.clone(), range: range.clone(), authorization: authorization.clone(), at_store, sent: 0 };
    let number = lock.seen.len();
    lock.seen.push(seen);
    let conduct = lock.conduct.clone();
    if conduct.silent {
        drop(lock);
        std::thread::sleep(Duration::from_secs(600));
        return Ok(());
    }
    let allowed = conduct.token.as_ref().is_none_or(|token| authorization == Some(format!("Bearer {token}")));
    if !allowed && !at_store {
        return status(&mut stream, 401, "");
    }
    if let Some(rest) = path.strip_prefix("/api/models/") {
        let listing = conduct.listing.or_else(|| listing(&lock, rest));
        drop(lock);
        return match listing {
            Some(body) => respond(&mut stream, "200 OK", &[], &body, body.len()),
            None => status(&mut stream, 404, ""),
        };
    }
    if !lock.conduct.statuses.is_empty() {
        let code = lock.conduct.statuses.remove(0);
        drop(lock);
        return status(&mut stream, code, "Retry-After: 0\r\n");
    }
    let file = path.strip_prefix('/').and_then(|path| {
        let (repo, rest) = path.split_once("/resolve/")?;
        let (commit, name) = rest.split_once('/')?;
        let files = lock.files.get(&(repo.to_owned(), commit.to_owned()))?;
        Some((name.to_owned(), files.get(name)?.clone()))
    });
    let Some((name, mut bytes)) = file else {
        drop(lock);
        return status(&mut stream, 404, "");
    };
    if conduct.loops {
        drop(lock);
        return status(&mut stream, 302, &format!("Location: {path}\r\n"));
    }
    if conduct.redirects && is_large(&name) && !at_store {
        drop(lock);
        return status(&mut stream, 302, &format!("Location: {store_address}{path}\r\n"));
    }
    if conduct.flips_a_bit {
        bytes[0] ^= 1;
    }
    bytes.resize(bytes.len().checked_add_signed(conduct.grows).unwrap_or(0), b'x');
    let from = range
        .filter(|_| !conduct.no_ranges)
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let part = &bytes[from.unwrap_or(0).min(bytes.len())..];
    let cut = conduct.cut_after.filter(|_| match &mut lock.conduct.cuts {
        Some(left) => {
            let cuts = *left > 0;
            *left = left.saturating_sub(1);
            cuts
        }
        None => true,
    });
    let sent = part.len().min(cut.unwrap_or(usize::MAX));
    if let Some(seen) = lock.seen.get_mut(number) {
        seen.sent = sent;
    }
    drop(lock);
    let (code, content_range) = match from {
        Some(from) => {
            let from = if conduct.wrong_ranges { from + 1 } else { from };
            ("206 Partial Content", format!("Content-Range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len()))
        }
        None => ("200 OK", String::new()),
    };
    match conduct.drip {
        None => respond(&mut stream, code, &[&content_range], &part[..sent], part.len()),
        Some(pause) => {
            respond(&mut stream, code, &[&content_range], &[], part.len())?;
            for byte in &part[..sent] {
                stream.write_all(&[*byte])?;
                std::thread::sleep(pause);
            }
            Ok(())
        }
    }
}

fn status(stream: &mut TcpStream, code: u16, header: &str) -> std::io::Result<()> {
    respond(stream, &format!("{code} Status"), &[header], &[], 0)
}

fn respond(stream: &mut TcpStream, code: &str, headers: &[&str], body: &[u8], length: usize) -> std::io::Result<()> {
    let headers = headers.concat();
    let head = format!("HTTP/1.1 {code}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    stream.flush()
}

/// What the hub tells of `owner/name/revision/REVISION?blobs=true`.
fn listing(state: &State, rest: &str) -> Option<Vec<u8>> {
    let (repo, revision) = rest.strip_suffix("?blobs=true")?.split_once("/revision/")?;
    let branch = state.branches.get(&(repo.to_owned(), revision.replace("%2F", "/")));
    let commit = branch.map_or(revision, String::as_str);
    let files = state.files.get(&(repo.to_owned(), commit.to_owned()))?;
    let siblings: Vec<String> = files
        .iter()
        .map(|(name, bytes)| {
            let blob = hex(&Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize());
            let size = bytes.len();
            let lfs = match is_large(name) {
                true => {
                    let sha256 = hex(&Sha256::digest(bytes));
                    format!(r#","lfs":{{"sha256":"{sha256}","size":{size},"pointerSize":134}}"#)
                }
                false => String::new(),
            };
            format!(r#"{{"rfilename":"{name}","size":{size},"blobId":"{blob}"{lfs}}}"#)
        })
        .collect();
    let siblings = siblings.join(",");
    let head = format!(r#"{{"id":"{repo}","sha":"{commit}","cardData":{{"license":"mit"}}"#);
    Some(format!(r#"{head},"siblings":[{siblings}]}}"#).into_bytes())
}
