//! The tokenizer of a model folder: `tokenizer.json`, or `tokenizer.model` where there is none, and what the files beside it
//! say about tokens with a meaning.

use super::sentencepiece_file::{ADDED_TOKENS_FILE, SENTENCEPIECE_FILE};
use super::{ends_by_name, ModelTokenizer, Tokenizer};
use crate::decoder::folder_config::{read_object, token_ids};
use crate::error::{ModelError, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// Longer templates are refused before they are read.
const MAX_TEMPLATE_BYTES: u64 = 1 << 20;

impl ModelTokenizer {
    /// Reads the tokenizer of the model in `dir`; `ends` are the ids that its `config.json` ends a text with.
    ///
    /// A template in a file of its own comes before one in `tokenizer_config.json`; of several with names, that called
    /// "default" counts. Errors: `Missing`, `Unreadable`, `Corrupt`.
    pub fn from_folder(dir: &Path, ends: &[u32]) -> Result<Self> {
        let tokenizer = match files(dir).first() {
            Some(&SENTENCEPIECE_FILE) => Tokenizer::from_sentencepiece_file(&dir.join(SENTENCEPIECE_FILE))?,
            _ => Tokenizer::from_file(&dir.join("tokenizer.json"))?,
        };
        let tokenizer_config = optional(&dir.join("tokenizer_config.json"))?;
        let generation_config = optional(&dir.join("generation_config.json"))?;
        let id = |key: &str| token_text(tokenizer_config.get(key)).and_then(|token| tokenizer.token_id(token));
        let known = |id: &u32| tokenizer.inner().id_to_token(*id).is_some();
        let declared = token_ids(generation_config.get("eos_token_id"));
        let first = |key: &str| token_ids(generation_config.get(key)).into_iter().find(known);
        let bos = id("bos_token").or(first("bos_token_id"));
        let eos = id("eos_token").or(first("eos_token_id")).or(ends.iter().copied().find(known));
        let mut all: Vec<u32> = ends.iter().copied().chain(declared).chain(eos).filter(known).collect();
        all.extend(ends_by_name(&tokenizer));
        all.sort_unstable();
        all.dedup();
        let template = template(dir, &tokenizer_config)?;
        // Templates of folders write every control token themselves.
        Ok(Self { tokenizer, bos, eos, add_bos: false, ends: all, template })
    }
}

/// Files that the tokenizer in `dir` is made of, beside its configuration.
pub fn files(dir: &Path) -> Vec<&'static str> {
    let is_there = |name: &str| dir.join(name).exists();
    match !is_there("tokenizer.json") && is_there(SENTENCEPIECE_FILE) {
        true if is_there(ADDED_TOKENS_FILE) => vec![SENTENCEPIECE_FILE, ADDED_TOKENS_FILE],
        true => vec![SENTENCEPIECE_FILE],
        false => vec!["tokenizer.json"],
    }
}

/// An object of a file that may not be there; empty then.
pub fn optional(path: &Path) -> Result<Map<String, Value>> {
    match read_object(path) {
        Err(ModelError::Missing(_)) => Ok(Map::new()),
        other => other,
    }
}

/// The spelling of a token, which is a text or an object with one.
fn token_text(value: Option<&Value>) -> Option<&str> {
    match value? {
        Value::String(text) => Some(text),
        other => other.get("content")?.as_str(),
    }
}

/// The chat template of the model in `dir`, which newer folders have in a file of its own; of several with names, that
/// called "default".
pub fn template(dir: &Path, tokenizer_config: &Map<String, Value>) -> Result<Option<String>> {
    let path = dir.join("chat_template.jinja");
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.len() > MAX_TEMPLATE_BYTES => {
            return Err(ModelError::corrupt(path, format!("template of {} bytes is too large", metadata.len())));
        }
        Ok(_) => return std::fs::read_to_string(&path).map(Some).map_err(|error| ModelError::from_io(path, error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(ModelError::from_io(path, error)),
    }
    let processor = optional(&dir.join("chat_template.json"))?;
    let value = processor.get("chat_template").or(tokenizer_config.get("chat_template"));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Ok(match value {
        Some(Value::Array(named)) => {
            let is_default = |entry: &&Value| entry.get("name").and_then(Value::as_str) == Some("default");
            let entry = named.iter().find(is_default).or(named.first());
            entry.and_then(|entry| entry.get("template")).and_then(text)
        }
        Some(value) => text(value),
        None => None,
    })
}
