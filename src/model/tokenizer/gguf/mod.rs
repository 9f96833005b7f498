//! Tokenizers from GGUF metadata.
//!
//! The kind of vocabulary (`tokenizer.ggml.model`) decides who reads it: [`byte_level`], [`sentencepiece`] or
//! [`word_piece`]. What they have in common is here: lists of the metadata, kinds of tokens, tokens with a meaning.

mod byte_level;
mod sentencepiece;
mod word_piece;

#[cfg(test)]
mod reference_tests;

use super::{ends_by_name, ModelTokenizer, Tokenizer};
use crate::error::{ModelError, Result};
use byte_level::Style;
use candle_core::quantized::gguf_file::Value;
use std::collections::HashMap;
use std::path::Path;
use tokenizers::AddedToken;

pub type Metadata = HashMap<String, Value>;

/// SentencePiece texts begin with a space unless the file says otherwise.
const SPM_DEFAULT_PREFIX: bool = true;

/// What `tokenizer.ggml.token_type` says of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    /// Only templates may contain it.
    Control,
    /// An addition to the vocabulary.
    UserDefined,
    Unused,
    Byte,
}

impl ModelTokenizer {
    /// Builds the tokenizer of the GGUF file at `path` from its `metadata`; a `tokenizer.json` in the same folder takes
    /// precedence over the vocabulary in the metadata.
    ///
    /// Errors: `Unsupported` for another kind of vocabulary or an unknown splitter; `Corrupt` for a vocabulary that
    /// contradicts itself.
    pub fn from_gguf(path: &Path, metadata: &Metadata) -> Result<Self> {
        let sibling = path.with_file_name("tokenizer.json");
        let model = text(metadata, "tokenizer.ggml.model");
        let tokenizer = match model {
            _ if sibling.is_file() => Tokenizer::from_file(&sibling)?,
            Some("gpt2") => byte_level::build(path, metadata)?,
            Some("llama") => sentencepiece::build(path, metadata)?,
            Some("bert") => word_piece::build(path, metadata)?,
            Some(other) => {
                let message = format!("vocabulary of kind \"{other}\" (supported: gpt2, llama, bert)");
                return Err(ModelError::Unsupported(message));
            }
            None => return Err(corrupt(path, "metadata has no text \"tokenizer.ggml.model\"")),
        };
        let id = |name: &str| {
            let key = format!("tokenizer.ggml.{name}_token_id");
            let id = metadata.get(&key).and_then(|id| id.to_u32().ok());
            id.filter(|&id| tokenizer.inner().id_to_token(id).is_some())
        };
        let (bos, eos) = (id("bos"), id("eos"));
        let declared = [eos, id("eot"), id("eom")];
        let mut ends: Vec<u32> = declared.into_iter().flatten().chain(ends_by_name(&tokenizer)).collect();
        ends.sort_unstable();
        ends.dedup();
        // Without a word about it, SentencePiece texts start with a token of their own, others by their splitter.
        let by_default = match model {
            Some("llama") => true,
            Some("gpt2") => Style::find(text(metadata, "tokenizer.ggml.pre")).is_ok_and(Style::starts_texts),
            _ => false,
        };
        let add_bos = flag(metadata, "tokenizer.ggml.add_bos_token").unwrap_or(by_default);
        let template = text(metadata, "tokenizer.chat_template").map(str::to_owned);
        Ok(Self { bos, eos, add_bos, ends, tokenizer, template })
    }
}

/// The tokenizer of a SentencePiece vocabulary that was read elsewhere into `metadata`.
pub fn from_sentencepiece(path: &Path, metadata: &Metadata) -> Result<Tokenizer> {
    sentencepiece::build(path, metadata)
}

/// The kind of each token; all are normal where the file does not say.
fn kinds(path: &Path, metadata: &Metadata, tokens: &[String]) -> Result<Vec<Kind>> {
    let Some(types) = metadata.get("tokenizer.ggml.token_type") else { return Ok(vec![Kind::Normal; tokens.len()]) };
    let types = types.to_vec().map_err(|error| corrupt(path, error))?;
    if types.len() != tokens.len() {
        let (types, tokens) = (types.len(), tokens.len());
        return Err(corrupt(path, format!("vocabulary has {types} types for {tokens} tokens")));
    }
    let number = |value: &Value| value.to_i64().ok().or_else(|| value.to_i32().ok().map(i64::from));
    let number = |value: &Value| number(value).or_else(|| value.to_u32().ok().map(i64::from));
    let kind = |value| match number(value) {
        Some(2) => Kind::Unknown,
        Some(3) => Kind::Control,
        Some(4) => Kind::UserDefined,
        Some(5) => Kind::Unused,
        Some(6) => Kind::Byte,
        _ => Kind::Normal,
    };
    Ok(types.iter().map(kind).collect())
}

/// Control tokens (special) and user-defined ones.
fn added_tokens(tokens: Vec<String>, kinds: &[Kind]) -> Vec<AddedToken> {
    let tokens = tokens.into_iter().zip(kinds).filter(|(token, _)| !token.is_empty());
    let added = tokens.filter_map(|(token, kind)| match kind {
        Kind::Control => Some(AddedToken::from(token, true).normalized(false)),
        Kind::UserDefined => Some(AddedToken::from(token, false).normalized(false)),
        _ => None,
    });
    added.collect()
}

fn corrupt(path: &Path, reason: impl std::fmt::Display) -> ModelError {
    ModelError::corrupt(path, reason)
}

fn flag(metadata: &Metadata, key: &str) -> Option<bool> {
    metadata.get(key).and_then(|value| value.to_bool().ok())
}

fn text<'a>(metadata: &'a Metadata, key: &str) -> Option<&'a str> {
    metadata.get(key).and_then(|value| value.to_string().ok()).map(String::as_str)
}

fn texts(path: &Path, metadata: &Metadata, key: &str) -> Result<Vec<String>> {
    let missing = || corrupt(path, format!("metadata has no list of texts \"{key}\""));
    let values = metadata.get(key).and_then(|value| value.to_vec().ok()).ok_or_else(missing)?;
    values.iter().map(|value| value.to_string().cloned().map_err(|_| missing())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    /// A vocabulary of the 256 bytes, a few merges and two control tokens.
    fn metadata(pre: &str) -> Metadata {
        let mut tokens: Vec<String> = ByteLevel::alphabet().into_iter().map(String::from).collect();
        tokens.sort();
        tokens.extend(["ab", "12", "123", "<|im_end|>", "<tool>"].map(String::from));
        let mut types = vec![Value::I32(1); tokens.len() - 2];
        types.extend([Value::I32(3), Value::I32(4)]);
        let list = |texts: &[&str]| Value::Array(texts.iter().map(|text| Value::String((*text).into())).collect());
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        Metadata::from([
            ("tokenizer.ggml.model".into(), Value::String("gpt2".into())),
            ("tokenizer.ggml.pre".into(), Value::String(pre.into())),
            ("tokenizer.ggml.tokens".into(), list(&tokens)),
            ("tokenizer.ggml.merges".into(), list(&["a b", "1 2", "12 3"])),
            ("tokenizer.ggml.token_type".into(), Value::Array(types)),
            ("tokenizer.ggml.eos_token_id".into(), Value::U32(tokens.len() as u32 - 2)),
        ])
    }

    fn load(metadata: &Metadata) -> Result<ModelTokenizer> {
        ModelTokenizer::from_gguf(Path::new("/nowhere/model.gguf"), metadata)
    }

    fn pieces(pre: &str, text: &str) -> Vec<String> {
        let loaded = load(&metadata(pre)).unwrap();
        let ids = loaded.tokenizer.encode_ids(text, false).unwrap();
        ids.iter().map(|&id| loaded.tokenizer.decode(&[id], false).unwrap()).collect()
    }

    #[test]
    fn digits_are_split_as_the_model_expects() {
        assert_eq!(pieces("smollm", "ab1234"), ["ab", "1", "2", "3", "4"]);
        assert_eq!(pieces("llama-bpe", "ab1234"), ["ab", "123", "4"]);
        assert_eq!(pieces("qwen2", "ab123"), ["ab", "1", "2", "3"]);
        assert_eq!(pieces("gpt-2", "ab123"), ["ab", "123"]);
        assert_eq!(pieces("tekken", "ab123"), ["ab", "1", "2", "3"]);
        assert_eq!(pieces("gpt-4o", "ab1234"), ["ab", "123", "4"]);
        match load(&metadata("a name of the future")).err() {
            Some(ModelError::Unsupported(message)) => {
                assert!(message.contains("\"a name of the future\""), "{message}")
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_templates_contain_control_tokens() {
        let loaded = load(&metadata("smollm")).unwrap();
        let end = loaded.tokenizer.token_id("<|im_end|>").unwrap();
        assert_eq!(loaded.ends, [end]);
        assert_eq!(loaded.tokenizer.encode_template("ab<|im_end|>").unwrap().last(), Some(&end));
        assert!(!loaded.tokenizer.encode_ids("ab<|im_end|>", false).unwrap().contains(&end));
        assert!(loaded.tokenizer.encode_ids("<tool>", false).unwrap().len() == 1);
        assert_eq!(
            loaded.tokenizer.decode(&loaded.tokenizer.encode_ids(" é\n 漢", false).unwrap(), true).unwrap(),
            " é\n 漢"
        );
    }

    #[test]
    fn contradictions_are_corrupt_and_other_kinds_unsupported() {
        let change = |key: &str, value: Value| {
            let mut metadata = metadata("smollm");
            metadata.insert(format!("tokenizer.ggml.{key}"), value);
            load(&metadata).err()
        };
        let list = |text: &str| Value::Array(vec![Value::String(text.into())]);
        assert!(matches!(change("merges", list("a zz")), Some(ModelError::Corrupt { .. })));
        assert!(matches!(change("merges", list("a c")), Some(ModelError::Corrupt { .. })));
        assert!(matches!(change("merges", Value::U8(1)), Some(ModelError::Corrupt { .. })));
        assert!(matches!(change("token_type", Value::Array(vec![Value::I32(1)])), Some(ModelError::Corrupt { .. })));
        assert!(matches!(change("tokens", Value::Array(vec![Value::U8(1)])), Some(ModelError::Corrupt { .. })));
        match change("model", Value::String("rwkv".into())) {
            Some(ModelError::Unsupported(message)) => assert!(message.contains("\"rwkv\"")),
            other => panic!("{other:?}"),
        }
    }
}
