//! Names of repositories, revisions and files. They become parts of paths and addresses, and those of files come from a
//! hub, so only harmless ones pass.

use crate::error::{ModelError, Result};

/// Longest name of a file in a repository.
const MOST_FILE_BYTES: usize = 400;

/// Deepest folder of a file in a repository.
const MOST_PARTS: usize = 6;

/// Longest name of an owner, a repository or a revision.
const MOST_NAME_BYTES: usize = 200;

fn is_plain(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !text.is_empty() && text.bytes().all(allowed) && !text.starts_with(['.', '-']) && !text.contains("..")
}

/// Checks the name of a repository, `owner/name` or, for the oldest ones, `name`.
pub fn check_repo(repo: &str) -> Result<()> {
    let parts: Vec<&str> = repo.split('/').collect();
    // Two hyphens separate the parts in the name of a folder.
    let sound = |part: &&str| is_plain(part) && part.len() <= MOST_NAME_BYTES && !part.contains("--");
    match parts.len() <= 2 && parts.iter().all(sound) {
        true => Ok(()),
        false => Err(ModelError::InvalidArgument(format!("\"{repo}\" is not the name of a repository"))),
    }
}

/// Checks the name of a branch, a tag or a commit.
pub fn check_revision(revision: &str) -> Result<()> {
    match revision.len() <= MOST_NAME_BYTES && revision.split('/').all(is_plain) {
        true => Ok(()),
        false => Err(ModelError::InvalidArgument(format!("\"{revision}\" is not the name of a revision"))),
    }
}

/// Whether `text` is the full name of a commit.
pub fn is_commit(text: &str) -> bool {
    is_hex(text, 40)
}

/// Whether `text` is so many lower-case hexadecimal digits.
pub fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What to make of a file that a hub lists.
#[derive(Debug, PartialEq, Eq)]
pub enum FileName {
    Harmless,
    /// Nothing wrong, but nothing that a model would have: longer, deeper or with other characters.
    Unusual,
    /// A name that leads out of its folder, or is none.
    Hostile,
}

/// Judges the name of a file in a repository.
pub fn judge_file(name: &str) -> FileName {
    let parts: Vec<&str> = name.split('/').collect();
    let leaves = |part: &&str| part.is_empty() || matches!(*part, "." | "..");
    if parts.iter().any(leaves) || name.contains('\\') || name.chars().any(char::is_control) {
        return FileName::Hostile;
    }
    match name.len() <= MOST_FILE_BYTES && parts.len() <= MOST_PARTS && parts.iter().all(|part| is_plain(part)) {
        true => FileName::Harmless,
        false => FileName::Unusual,
    }
}

/// Whether `name` matches `pattern`, in which `*` stands for any text, also across folders, and `?` for any character.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where the last asterisk is, and how much of the name it stands for at the moment.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, until)) => {
                    star = Some((at, until + 1));
                    (p, n) = (at + 1, until + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("*Q4_K_M.gguf", "mistral-7b.Q4_K_M.gguf", true),
            ("*Q4_K_M.gguf", "mistral-7b.Q4_K_M.gguf.part", false),
            ("model.safetensors", "model.safetensors", true),
            ("model.safetensors", "onnx/model.safetensors", false),
            ("*.json", "1_Pooling/config.json", true),
            ("?_Pooling/*", "1_Pooling/config.json", true),
            ("*a*a*a*a*b", &"a".repeat(300), false),
            ("", "a", false),
            ("**", "a", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn names_that_leave_their_folder_are_hostile() {
        for name in ["../x", "/etc/passwd", "a/../b", "a//b", "", ".", "a\\..\\b", "a\nb", "a\0b", "a/"] {
            assert_eq!(judge_file(name), FileName::Hostile, "{name:?}");
        }
        for name in ["modèle.bin", "a b.json", ".gitattributes", "a/b/c/d/e/f/g", &"x".repeat(500), "%2e%2e"] {
            assert_eq!(judge_file(name), FileName::Unusual, "{name:?}");
        }
        for name in ["config.json", "1_Pooling/config.json", "model-00001-of-00002.safetensors"] {
            assert_eq!(judge_file(name), FileName::Harmless, "{name:?}");
        }
    }

    #[test]
    fn repositories_and_revisions_are_plain_names() {
        for repo in ["sentence-transformers/all-MiniLM-L6-v2", "gpt2", "BAAI/bge-m3", "o/n_.1"] {
            check_repo(repo).unwrap();
        }
        for repo in ["", "a/b/c", "../a", "a/..", "a/.b", "/a", "a/", "a--b/c", "a b", "a?b", "a/b#c", "a/b@main"] {
            check_repo(repo).unwrap_err();
        }
        for revision in ["main", "refs/pr/3", "v1.0", &"0".repeat(40)] {
            check_revision(revision).unwrap();
        }
        for revision in ["", "..", "a/../b", "/main", "a b", "a%2f", &"x".repeat(300)] {
            check_revision(revision).unwrap_err();
        }
    }
}
