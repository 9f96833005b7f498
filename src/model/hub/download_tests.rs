//! Downloads from a small hub that does what a hub does.

use super::download::{download, Download, Downloaded, Observer};
use super::small_hub::SmallHub;
use super::HubError;
use crate::error::{ModelError, Result};
use crate::source;
use pg_rag_protocol::message::ModelKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A server's folder that disappears with the test, and somebody who waits.
pub struct Place {
    pub dir: PathBuf,
    pub cancelled: AtomicBool,
    pub done: AtomicU64,
    pub total: AtomicU64,
}

impl Place {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("pg_rag-download-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self { dir, cancelled: false.into(), done: 0.into(), total: 0.into() }
    }

    pub fn download(&self, request: &Download) -> Result<Downloaded> {
        download(request, &self.dir, self)
    }

    /// Names and sizes of the blobs of the only repository.
    pub fn blobs(&self) -> Vec<(String, u64)> {
        let repository = std::fs::read_dir(self.dir.join("hub")).unwrap().flatten().next().unwrap().path();
        let entries = std::fs::read_dir(repository.join("blobs")).unwrap().flatten();
        let mut blobs: Vec<_> =
            entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len())).collect();
        blobs.sort();
        blobs
    }
}

impl Observer for Place {
    fn phase(&self, _phase: &str) {}

    fn progress(&self, done: u64, total: u64) {
        assert!(done <= total, "{done} of {total}");
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data").join(name)
}

pub fn order(hub: &SmallHub) -> Download {
    Download {
        endpoint: hub.endpoint.clone(),
        token_file: None,
        repo: "org/tiny".to_owned(),
        revision: "main".to_owned(),
        patterns: Vec::new(),
        kind: None,
        options_json: "{}".to_owned(),
        base: None,
        max_bytes: 1 << 30,
    }
}

pub fn hub_error(outcome: Result<Downloaded>) -> HubError {
    match outcome {
        Err(ModelError::Hub(error)) => *error,
        other => panic!("{other:?}"),
    }
}

/// A hub with an embedding model, and what nobody should load.
pub fn hub_with_encoder() -> SmallHub {
    let hub = SmallHub::start();
    let more: [(&str, &[u8]); 3] =
        [("README.md", b"---\nlicense: apache-2.0\n---\n"), ("pytorch_model.bin", b"evil"), ("modeling.py", b"evil")];
    hub.push_folder("org/tiny", "main", &data("encoder_families/distilbert"), &more);
    hub
}

/// A hub with one file of weights that no runtime would take; enough to look at the transfer.
fn hub_with_weights(bytes: &[u8]) -> SmallHub {
    let hub = SmallHub::start();
    hub.push("org/tiny", "main", &[("model.gguf", bytes)]);
    hub
}

fn weights() -> Vec<u8> {
    (0..100_000_u32).flat_map(u32::to_le_bytes).collect()
}

#[test]
fn an_embedding_model_arrives_as_it_is_at_the_hub() {
    let (hub, place) = (hub_with_encoder(), Place::new());
    hub.behave(|conduct| conduct.redirects = true);
    let downloaded = place.download(&order(&hub)).unwrap();
    assert_eq!(downloaded.kind, ModelKind::Embed);
    assert_eq!(downloaded.info.license.as_deref(), Some("apache-2.0"));
    assert_eq!(place.done.load(Ordering::Relaxed), place.total.load(Ordering::Relaxed));
    let original = source::inspect(ModelKind::Embed, &data("encoder_families/distilbert")).unwrap();
    assert_eq!(downloaded.info.files, original.files);
    assert_eq!(downloaded.info.dimensions, original.dimensions);
    let sizes: Vec<u64> = original
        .files
        .iter()
        .map(|file| data("encoder_families/distilbert").join(&file.name).metadata().unwrap().len())
        .collect();
    assert_eq!(downloaded.info.file_bytes, sizes);
    assert!(downloaded.path.starts_with("hub/org--tiny/"), "{}", downloaded.path);
    assert_eq!(source::inspect(ModelKind::Embed, &place.dir.join(&downloaded.path)).unwrap().files, original.files);
    let seen = hub.seen();
    assert!(!seen.iter().any(|seen| seen.path.ends_with(".bin") || seen.path.ends_with(".py")), "{seen:?}");
    assert_eq!(seen.iter().filter(|seen| seen.at_store).count(), 2, "{seen:?}");

    // Once more: only the list is asked for.
    assert_eq!(place.download(&order(&hub)).unwrap(), downloaded);
    assert_eq!(hub.seen().len(), 1);
}

#[test]
fn kinds_are_found_out_or_given() {
    let (hub, place) = (SmallHub::start(), Place::new());
    hub.push_folder("org/pair", "main", &data("encoder_families/bert_pair"), &[]);
    hub.push_folder("org/llama", "main", &data("tiny_llama"), &[]);
    let of = |repo: &str| Download { repo: repo.to_owned(), ..order(&hub) };
    assert_eq!(place.download(&of("org/pair")).unwrap().kind, ModelKind::Rerank);
    let llama = place.download(&of("org/llama")).unwrap();
    assert_eq!((llama.kind, llama.info.architecture.as_str()), (ModelKind::Generate, "llama"));
    let wrong = Download { kind: Some(ModelKind::Rerank), ..of("org/llama") };
    assert!(place.download(&wrong).is_err());
    // The hub's own word where there is no card.
    assert_eq!(llama.info.license.as_deref(), Some("mit"));
}

#[test]
fn an_interrupted_file_is_continued_in_the_same_call_and_in_the_next() {
    let bytes = weights();
    let (hub, place) = (hub_with_weights(&bytes), Place::new());
    hub.behave(|conduct| (conduct.cut_after, conduct.redirects) = (Some(90_000), true));
    // Four attempts bring 90,000 bytes each, and the fifth is the last: too slow for one call.
    hub.behave(|conduct| conduct.cuts = None);
    hub.behave(|conduct| conduct.cut_after = Some(30_000));
    assert!(matches!(hub_error(place.download(&order(&hub))), HubError::Unreachable { .. }));
    let seen: Vec<_> = hub.seen().into_iter().filter(|seen| seen.at_store).collect();
    let ranges: Vec<_> = seen.iter().map(|seen| seen.range.as_deref()).collect();
    assert_eq!(ranges, [None, Some("bytes=30000-"), Some("bytes=60000-"), Some("bytes=90000-"), Some("bytes=120000-")]);
    let parts = place.blobs();
    assert!(parts.iter().any(|(name, bytes)| name.ends_with(".part") && *bytes == 150_000), "{parts:?}");

    hub.behave(|conduct| conduct.cuts = Some(1));
    // The transfer is whole; that this is no GGUF file is found out afterwards.
    assert!(matches!(place.download(&order(&hub)), Err(ModelError::Corrupt { .. })));
    let seen: Vec<_> = hub.seen().into_iter().filter(|seen| seen.at_store).collect();
    let ranges: Vec<_> = seen.iter().map(|seen| seen.range.as_deref()).collect();
    assert_eq!(ranges, [Some("bytes=150000-"), Some("bytes=180000-")]);
    assert_eq!(seen.iter().map(|seen| seen.sent).sum::<usize>(), bytes.len() - 150_000);
    let blobs = place.blobs();
    assert!(blobs.iter().all(|(name, _)| !name.ends_with(".part")), "{blobs:?}");
    assert!(blobs.iter().any(|(_, length)| *length == bytes.len() as u64), "{blobs:?}");
}

#[test]
fn a_hub_without_ranges_begins_again() {
    let bytes = weights();
    let (hub, place) = (hub_with_weights(&bytes), Place::new());
    hub.behave(|conduct| (conduct.cut_after, conduct.cuts, conduct.no_ranges) = (Some(30_000), Some(2), true));
    assert!(matches!(place.download(&order(&hub)), Err(ModelError::Corrupt { .. })));
    let sent: Vec<usize> = hub.seen().iter().filter(|seen| seen.sent > 0).map(|seen| seen.sent).collect();
    assert_eq!(sent, [30_000, 30_000, bytes.len()]);
}

#[test]
fn a_damaged_beginning_is_found_out_and_loaded_again() {
    let bytes = weights();
    let (hub, place) = (hub_with_weights(&bytes), Place::new());
    hub.behave(|conduct| conduct.cut_after = Some(30_000));
    hub_error(place.download(&order(&hub)));
    hub.behave(|conduct| conduct.cut_after = None);
    let (name, _) = place.blobs().into_iter().find(|(name, _)| name.ends_with(".part")).unwrap();
    let part = place.dir.join("hub/org--tiny/blobs").join(name);
    let mut damaged = std::fs::read(&part).unwrap();
    damaged[1000] ^= 4;
    std::fs::write(&part, damaged).unwrap();
    assert!(matches!(place.download(&order(&hub)), Err(ModelError::Corrupt { .. })));
    assert!(place.blobs().iter().all(|(name, _)| !name.ends_with(".part")));
}

#[test]
fn a_damaged_model_is_repaired() {
    let (hub, place) = (hub_with_encoder(), Place::new());
    let downloaded = place.download(&order(&hub)).unwrap();
    let weights = place.dir.join(&downloaded.path).join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    hub.seen();
    assert_eq!(place.download(&order(&hub)).unwrap(), downloaded);
    assert_eq!(hub.seen().len(), 2);
    assert_eq!(
        source::hash(&weights).unwrap(),
        source::hash(&data("encoder_families/distilbert/model.safetensors")).unwrap()
    );
}

#[test]
fn a_branch_that_moves_leaves_what_was_downloaded() {
    let (hub, place) = (SmallHub::start(), Place::new());
    let folder = data("encoder_families/distilbert");
    let first_commit = hub.push_folder("org/tiny", "main", &folder, &[("README.md", b"---\nlicense: mit\n---\n")]);
    let first = place.download(&order(&hub)).unwrap();
    hub.seen();
    let second_commit = hub.push_folder("org/tiny", "main", &folder, &[("README.md", b"---\nlicense: gpl-3.0\n---\n")]);
    let second = place.download(&order(&hub)).unwrap();
    assert_eq!((first.commit.as_str(), second.commit.as_str()), (first_commit.as_str(), second_commit.as_str()));
    assert_eq!((first.info.license.as_deref(), second.info.license.as_deref()), (Some("mit"), Some("gpl-3.0")));
    assert_ne!(first.path, second.path);
    // What is the same is there already.
    let seen: Vec<_> = hub.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen[1].ends_with(&format!("{second_commit}/README.md")), "{seen:?}");
    let again = Download { revision: first_commit, ..order(&hub) };
    assert_eq!(place.download(&again).unwrap(), first);
}

#[test]
fn a_known_commit_needs_no_hub() {
    let (hub, place) = (hub_with_encoder(), Place::new());
    let downloaded = place.download(&order(&hub)).unwrap();
    let offline = Download { endpoint: "http://127.0.0.1:1".to_owned(), ..order(&hub) };
    let pinned = Download { revision: downloaded.commit.clone(), ..offline.clone() };
    assert_eq!(place.download(&pinned).unwrap(), downloaded);
    match hub_error(place.download(&offline)) {
        HubError::Unreachable { known_commits, .. } => assert_eq!(known_commits, [downloaded.commit]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let (hub, place) = (hub_with_encoder(), Place::new());
    hub.behave(|conduct| (conduct.token, conduct.redirects) = (Some("hf_secret".to_owned()), true));
    match hub_error(place.download(&order(&hub))) {
        HubError::Denied { with_token: false, .. } => {}
        other => panic!("{other:?}"),
    }
    let file = place.dir.join("token");
    let with_token = |token: &str| {
        std::fs::write(&file, token).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        place.download(&Download { token_file: Some(file.clone()), ..order(&hub) })
    };
    let error = hub_error(with_token("hf_wrong"));
    assert!(matches!(error, HubError::Denied { with_token: true, .. }) && !format!("{error:?}{error}").contains("hf_"));
    hub.seen();
    with_token("hf_secret\n").unwrap();
    let seen = hub.seen();
    assert!(seen.iter().any(|seen| seen.at_store));
    for seen in seen {
        let expected = (!seen.at_store).then(|| "Bearer hf_secret".to_owned());
        assert_eq!(seen.authorization, expected, "{}", seen.path);
    }
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = place.download(&Download { token_file: Some(file.clone()), ..order(&hub) });
    assert!(matches!(hub_error(open), HubError::Token(_)));
}

#[test]
fn a_cancelled_download_stops_at_once_and_keeps_what_it_has() {
    for silent in [false, true] {
        let (hub, place) = (hub_with_weights(&weights()), Place::new());
        hub.behave(|conduct| (conduct.drip, conduct.silent) = (Some(Duration::from_millis(1)), silent));
        let cancelled_at = std::thread::scope(|scope| {
            let download = scope.spawn(|| place.download(&order(&hub)));
            let started = Instant::now();
            let mut asked = false;
            while !asked || !silent && place.done.load(Ordering::Relaxed) < 20 {
                asked |= !hub.seen().is_empty();
                assert!(started.elapsed() < Duration::from_secs(30), "nothing happens");
                std::thread::sleep(Duration::from_millis(1));
            }
            place.cancelled.store(true, Ordering::Relaxed);
            let cancelled_at = Instant::now();
            assert!(matches!(download.join().unwrap(), Err(ModelError::Cancelled)));
            cancelled_at
        });
        assert!(cancelled_at.elapsed() < Duration::from_secs(2), "silent {silent}: {:?}", cancelled_at.elapsed());
        assert!(silent || place.blobs().iter().any(|(name, bytes)| name.ends_with(".part") && *bytes > 0));
    }
}

#[test]
fn an_adapter_is_inspected_with_its_base() {
    let (hub, place) = (SmallHub::start(), Place::new());
    hub.push_folder("org/tiny", "main", &data("tiny_llama_lora"), &[]);
    let path = data("tiny_llama");
    let info = source::inspect(ModelKind::Generate, &path).unwrap();
    let base = pg_rag_protocol::message::ModelRef {
        remote: None,
        name: "base".to_owned(),
        kind: ModelKind::Generate,
        path: path.to_str().unwrap().to_owned(),
        files: info.files,
        options_json: "{}".to_owned(),
        base: None,
    };
    let options_json = r#"{"base": "base"}"#.to_owned();
    let downloaded = place.download(&Download { base: Some(base), options_json, ..order(&hub) }).unwrap();
    assert_eq!(downloaded.kind, ModelKind::Generate);
    let names: Vec<_> = downloaded.info.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["adapter_config.json", "adapter_model.safetensors"]);
}
