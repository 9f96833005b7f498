//! What a repository has at one commit: names, sizes and hashes of its files, as the hub's interface for programs tells
//! them. Checked as a whole before anything is done with it.

use super::names::{self, FileName};
use super::HubError;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// Longest answer that is read.
pub const MOST_BYTES: u64 = 16 << 20;

/// Most files that a repository may have.
const MOST_FILES: usize = 20_000;

/// Longest name of a licence.
const MOST_LICENSE_CHARS: usize = 100;

/// What the contents of a file must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ContentHash {
    /// Of large files, which a hub keeps apart.
    Sha256(String),
    /// Of small files: SHA-1 of the blob in git, which is "blob", the length and the contents.
    GitBlob(String),
}

impl ContentHash {
    /// Name of a file that holds these contents.
    pub fn file_name(&self) -> String {
        match self {
            ContentHash::Sha256(hash) => format!("sha256-{hash}"),
            ContentHash::GitBlob(hash) => format!("git-{hash}"),
        }
    }

    fn is_valid(&self) -> bool {
        match self {
            ContentHash::Sha256(hash) => names::is_hex(hash, 64),
            ContentHash::GitBlob(hash) => names::is_hex(hash, 40),
        }
    }
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFile {
    pub name: String,
    pub bytes: u64,
    pub hash: ContentHash,
}

/// A repository at one commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    pub commit: String,
    pub license: Option<String>,
    pub files: Vec<RemoteFile>,
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    siblings: Vec<Sibling>,
    #[serde(rename = "cardData")]
    card: Option<Card>,
}

/// Of what the model card says, the licence. The rest is skipped: a tree of it could be many times as large as its text.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Card {
    license_name: Words,
    license: Words,
}

/// A text; nothing where there is something else.
#[derive(Default)]
struct Words(Option<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Words;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("anything")
            }

            fn visit_str<E>(self, text: &str) -> Result<Words, E> {
                Ok(Words(Some(text.to_owned())))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Words, E> {
                Ok(Words(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Words, E> {
                Ok(Words(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Words, E> {
                Ok(Words(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Words, E> {
                Ok(Words(None))
            }

            fn visit_unit<E>(self) -> Result<Words, E> {
                Ok(Words(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Words, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Words(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Words, A::Error> {
                while items.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Words(None))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    #[serde(alias = "oid")]
    sha256: String,
    size: u64,
}

impl Listing {
    /// Reads the answer of a hub to the question for a revision with its files.
    ///
    /// Errors: `Invalid`.
    pub fn from_answer(host: &str, bytes: &[u8]) -> Result<Self, HubError> {
        let invalid = |reason: String| HubError::Invalid { host: host.to_owned(), reason };
        let answer: Answer = serde_json::from_slice(bytes).map_err(|error| invalid(without_quotes(&error)))?;
        if answer.siblings.len() > MOST_FILES {
            return Err(invalid(format!(
                "it lists {} files, of which {MOST_FILES} are read at most",
                answer.siblings.len()
            )));
        }
        let mut files = Vec::with_capacity(answer.siblings.len());
        for sibling in answer.siblings {
            match names::judge_file(&sibling.rfilename) {
                FileName::Harmless => {}
                FileName::Unusual => continue,
                FileName::Hostile => return Err(invalid("a file's name leads out of its folder".to_owned())),
            }
            let (bytes, hash) = match (sibling.lfs, sibling.size, sibling.blob_id) {
                (Some(lfs), ..) => (lfs.size, ContentHash::Sha256(lfs.sha256)),
                (None, Some(size), Some(id)) => (size, ContentHash::GitBlob(id)),
                // Without a hash it can never be loaded.
                _ => continue,
            };
            files.push(RemoteFile { name: sibling.rfilename, bytes, hash });
        }
        let card = answer.card.unwrap_or_default();
        let says = |words: &String| !matches!(words.as_str(), "" | "other");
        let license = [card.license_name, card.license].into_iter().filter_map(|words| words.0).find(says);
        let license =
            license.filter(|text| text.chars().count() <= MOST_LICENSE_CHARS && !text.chars().any(char::is_control));
        Self { commit: answer.sha, license, files }.checked(host)
    }

    /// Reads what [`Listing::to_bytes`] wrote; `None` for anything else.
    pub fn from_bytes(bytes: &[u8], commit: &str) -> Option<Self> {
        let listing: Self = serde_json::from_slice(bytes).ok()?;
        let listing = listing.checked("").ok()?;
        let harmless = |file: &RemoteFile| names::judge_file(&file.name) == FileName::Harmless;
        (listing.commit == commit && listing.files.iter().all(harmless)).then_some(listing)
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        // Texts and numbers can always be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    fn checked(self, host: &str) -> Result<Self, HubError> {
        let invalid = |reason: &str| HubError::Invalid { host: host.to_owned(), reason: reason.to_owned() };
        if !names::is_commit(&self.commit) {
            return Err(invalid("its commit is not a commit"));
        }
        if !self.files.iter().all(|file| file.hash.is_valid()) {
            return Err(invalid("a file's hash is not a hash"));
        }
        let mut names: Vec<&str> = self.files.iter().map(|file| file.name.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(invalid("it lists a file twice"));
        }
        Ok(self)
    }

    pub fn file(&self, name: &str) -> Option<&RemoteFile> {
        self.files.iter().find(|file| file.name == name)
    }
}

/// What is wrong, and where, without the text itself, which may be anything.
fn without_quotes(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Data => "it does not list files with their hashes",
        serde_json::error::Category::Io => "it cannot be read",
        serde_json::error::Category::Syntax | serde_json::error::Category::Eof => "it is not JSON",
    };
    format!("{kind} (line {}, column {})", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789012345678901234567890123456789";

    #[test]
    fn a_listing_is_read_and_kept() {
        let sha256 = "ab".repeat(32);
        let answer = format!(
            r#"{{"id": "o/n", "sha": "{COMMIT}", "cardData": {{"license": "other", "license_name": "gemma"}}, "siblings": [
                 {{"rfilename": "config.json", "size": 2, "blobId": "{COMMIT}"}},
                 {{"rfilename": "model.safetensors", "size": 5, "blobId": "{COMMIT}", "lfs": {{"sha256": "{sha256}", "size": 9, "pointerSize": 1}}}},
                 {{"rfilename": ".gitattributes", "size": 1, "blobId": "{COMMIT}"}},
                 {{"rfilename": "no hash"}}]}}"#
        );
        let listing = Listing::from_answer("h", answer.as_bytes()).unwrap();
        assert_eq!(
            (listing.commit.as_str(), listing.license.as_deref(), listing.files.len()),
            (COMMIT, Some("gemma"), 2)
        );
        assert_eq!(listing.file("model.safetensors").unwrap().bytes, 9);
        assert_eq!(listing.file("model.safetensors").unwrap().hash, ContentHash::Sha256(sha256));
        assert_eq!(Listing::from_bytes(&listing.to_bytes(), COMMIT), Some(listing.clone()));
        assert_eq!(Listing::from_bytes(&listing.to_bytes(), &"a".repeat(40)), None);
        assert_eq!(Listing::from_bytes(b"{}", COMMIT), None);
    }

    #[test]
    fn a_licence_is_a_text_or_none() {
        let license = |card: &str| {
            let answer = format!(r#"{{"sha": "{COMMIT}", "siblings": []{card}}}"#);
            Listing::from_answer("h", answer.as_bytes()).unwrap().license
        };
        assert_eq!(license(r#", "cardData": {"tags": [["a"], {"b": 1}], "license": "mit"}"#).as_deref(), Some("mit"));
        for card in ["", r#", "cardData": null"#, r#", "cardData": {}"#] {
            assert_eq!(license(card), None, "{card}");
        }
        for other in [r#"["mit"]"#, r#"{"name": "mit"}"#, "null", "true", "1", "-1", "1.5", r#""""#, r#""other""#] {
            assert_eq!(license(&format!(r#", "cardData": {{"license": {other}}}"#)), None, "{other}");
            let both = format!(r#", "cardData": {{"license_name": {other}, "license": "gpl-3.0"}}"#);
            assert_eq!(license(&both).as_deref(), Some("gpl-3.0"), "{other}");
        }
    }

    #[test]
    fn hostile_listings_are_refused() {
        let one = |file: &str| format!(r#"{{"sha": "{COMMIT}", "siblings": [{file}]}}"#);
        let named = |name: &str| one(&format!(r#"{{"rfilename": "{name}", "size": 1, "blobId": "{COMMIT}"}}"#));
        let twice = format!(r#"{{"rfilename": "a", "size": 1, "blobId": "{COMMIT}"}}"#);
        for answer in [
            String::new(),
            "[]".to_owned(),
            "[".repeat(100_000),
            r#"{"sha": "main", "siblings": []}"#.to_owned(),
            r#"{"sha": "../../../../../../../../../../../../etc", "siblings": []}"#.to_owned(),
            named("../../config.json"),
            named("/etc/passwd"),
            named("a/../../b"),
            one(r#"{"rfilename": "a", "size": 1, "blobId": "../../../../x"}"#),
            one(r#"{"rfilename": "a", "size": 1, "lfs": {"sha256": "/etc/passwd", "size": 1}}"#),
            one(r#"{"rfilename": "a", "size": -1, "blobId": "a"}"#),
            one(r#"{"rfilename": "a", "size": 1e300, "blobId": "a"}"#),
            one(&format!("{twice},{twice}")),
            one(&vec![r#"{"rfilename": "a"}"#; MOST_FILES + 1].join(",")),
        ] {
            let error = Listing::from_answer("h", answer.as_bytes()).unwrap_err();
            assert!(matches!(error, HubError::Invalid { .. }), "{error}");
            assert!(!error.to_string().contains("etc"), "{error}");
        }
    }
}
