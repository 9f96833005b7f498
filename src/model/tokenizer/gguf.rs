//! Tokenizers from GGUF metadata: byte-level BPE vocabularies (`tokenizer.ggml.model` = `gpt2`).
//!
//! The vocabulary and the merges are in the metadata; how text is split before merging is not, only its name
//! (`tokenizer.ggml.pre`). [`splitter`] knows the names that llama.cpp writes; an unknown or missing name gets the
//! splitter of GPT-2, which llama.cpp treats as the default as well.

use super::Tokenizer;
use crate::error::{ModelError, Result};
use candle_core::quantized::gguf_file::Value;
use std::collections::HashMap;
use std::path::Path;
use tokenizers::models::bpe::{Merges, Vocab, BPE};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior};

type Metadata = HashMap<String, Value>;

/// `tokenizer.ggml.token_type` of tokens that only templates may contain, and of additions to the vocabulary.
const TYPE_CONTROL: i64 = 3;
const TYPE_USER_DEFINED: i64 = 4;

/// Names of control tokens that end a turn, for files that do not declare them.
const END_NAMES: [&str; 7] =
    ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "</s>", "<|endoftext|>"];

/// What a GGUF file says about its text: the tokenizer and the tokens with a meaning.
pub struct GgufTokenizer {
    pub tokenizer: Tokenizer,
    /// Token that starts a text, if there is one.
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    /// Whether a text must start with `bos`.
    pub add_bos: bool,
    /// Tokens that end the assistant's turn.
    pub ends: Vec<u32>,
}

impl GgufTokenizer {
    /// Builds the tokenizer of the GGUF file at `path` from its `metadata`; a `tokenizer.json` in the same folder takes
    /// precedence over the vocabulary in the metadata.
    ///
    /// Errors: `Unsupported` for another kind of vocabulary than byte-level BPE; `Corrupt` for a vocabulary that
    /// contradicts itself.
    pub fn load(path: &Path, metadata: &Metadata) -> Result<Self> {
        let sibling = path.with_file_name("tokenizer.json");
        let tokenizer =
            if sibling.is_file() { Tokenizer::from_file(&sibling)? } else { from_metadata(path, metadata)? };
        let id = |name: &str| {
            let key = format!("tokenizer.ggml.{name}_token_id");
            let id = metadata.get(&key).and_then(|id| id.to_u32().ok());
            id.filter(|&id| tokenizer.inner().id_to_token(id).is_some())
        };
        let (bos, eos) = (id("bos"), id("eos"));
        let declared = [eos, id("eot"), id("eom")];
        let control = tokenizer.inner().get_added_tokens_decoder();
        let named = END_NAMES.iter().map(|name| tokenizer.token_id(name));
        let named = named.filter(|id| id.is_some_and(|id| control.get(&id).is_some_and(|token| token.special)));
        let mut ends: Vec<u32> = declared.into_iter().chain(named).flatten().collect();
        ends.sort_unstable();
        ends.dedup();
        // Without a word about it, vocabularies of Llama 3 start a text and the others of this kind do not.
        let by_default = split_style(text(metadata, "tokenizer.ggml.pre")) == Style::Llama3;
        let add_bos = metadata.get("tokenizer.ggml.add_bos_token").and_then(|value| value.to_bool().ok());
        Ok(Self { bos, eos, add_bos: add_bos.unwrap_or(by_default), ends, tokenizer })
    }
}

fn from_metadata(path: &Path, metadata: &Metadata) -> Result<Tokenizer> {
    match text(metadata, "tokenizer.ggml.model") {
        Some("gpt2") => {}
        Some(other) => return Err(ModelError::Unsupported(format!("vocabulary of kind \"{other}\""))),
        None => return Err(ModelError::corrupt(path, "metadata has no text \"tokenizer.ggml.model\"")),
    }
    let pre = text(metadata, "tokenizer.ggml.pre");
    let tokens = texts(path, metadata, "tokenizer.ggml.tokens")?;
    let vocab: Vocab = tokens.iter().zip(0..).map(|(token, id)| (token.clone(), id)).collect();
    if vocab.len() != tokens.len() {
        return Err(ModelError::corrupt(path, "a token occurs twice in the vocabulary"));
    }
    let merges = merges(path, metadata, &vocab)?;
    let bpe = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(split_style(pre) == Style::Llama3)
        .build()
        .map_err(|error| ModelError::corrupt(path, error))?;
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    if split_style(pre) == Style::Qwen2 {
        tokenizer.with_normalizer(Some(NFC)).map_err(|error| ModelError::Internal(error.to_string()))?;
    }
    tokenizer.with_pre_tokenizer(Some(splitter(split_style(pre))?));
    tokenizer.with_decoder(Some(ByteLevel::new(false, false, false)));
    let added = added_tokens(path, metadata, tokens)?;
    tokenizer.add_tokens(added).map_err(|error| ModelError::corrupt(path, error))?;
    Tokenizer::from_tokenizers(tokenizer)
}

/// Pairs of tokens in the order in which they merge, each checked to give a token.
fn merges(path: &Path, metadata: &Metadata, vocab: &Vocab) -> Result<Merges> {
    let merges = texts(path, metadata, "tokenizer.ggml.merges")?;
    let known = |token: &str| vocab.contains_key(token);
    let parsed = merges.iter().map(|merge| {
        // The space between the two; a token itself may not contain one, since bytes are spelled as letters.
        let pair = merge
            .split_once(' ')
            .filter(|(left, right)| known(left) && known(right) && vocab.contains_key(&[*left, *right].concat()));
        let (left, right) =
            pair.ok_or_else(|| ModelError::corrupt(path, format!("merge \"{merge}\" is not one of two tokens")))?;
        Ok((left.to_owned(), right.to_owned()))
    });
    parsed.collect()
}

/// Control tokens (special) and user-defined ones.
fn added_tokens(path: &Path, metadata: &Metadata, tokens: Vec<String>) -> Result<Vec<AddedToken>> {
    let Some(types) = metadata.get("tokenizer.ggml.token_type") else { return Ok(Vec::new()) };
    let types = types.to_vec().map_err(|error| ModelError::corrupt(path, error))?;
    if types.len() != tokens.len() {
        let (types, tokens) = (types.len(), tokens.len());
        return Err(ModelError::corrupt(path, format!("vocabulary has {types} types for {tokens} tokens")));
    }
    let kind = |value: &Value| value.to_i64().ok().or_else(|| value.to_i32().ok().map(i64::from));
    let kind = |value: &Value| kind(value).or_else(|| value.to_u32().ok().map(i64::from));
    let tokens = tokens.into_iter().zip(types).filter(|(token, _)| !token.is_empty());
    let added = tokens.filter_map(|(token, value)| match kind(value) {
        Some(TYPE_CONTROL) => Some(AddedToken::from(token, true).normalized(false)),
        Some(TYPE_USER_DEFINED) => Some(AddedToken::from(token, false).normalized(false)),
        _ => None,
    });
    Ok(added.collect())
}

/// How text is cut before merging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Gpt2,
    /// Digits one by one, then as GPT-2.
    SingleDigits,
    /// Up to three digits together; whole words of the vocabulary are not split.
    Llama3,
    /// As Llama 3 with single digits, after canonical composition.
    Qwen2,
}

fn split_style(pre: Option<&str>) -> Style {
    match pre {
        Some("smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone") => Style::SingleDigits,
        Some("llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "pixtral" | "lfm2") => Style::Llama3,
        Some("qwen2" | "deepseek-r1-qwen" | "stablelm2" | "hunyuan") => Style::Qwen2,
        _ => Style::Gpt2,
    }
}

fn splitter(style: Style) -> Result<PreTokenizerWrapper> {
    let bytes = |use_regex| PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, use_regex));
    let words = |digits: &str| {
        let pattern = format!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        );
        Split::new(SplitPattern::Regex(pattern), SplitDelimiterBehavior::Isolated, false)
            .map(|split| vec![PreTokenizerWrapper::Split(split), bytes(false)])
            .map_err(|error| ModelError::Internal(format!("pattern of a splitter is wrong: {error}")))
    };
    let parts = match style {
        Style::Gpt2 => vec![bytes(true)],
        Style::SingleDigits => vec![PreTokenizerWrapper::Digits(Digits::new(true)), bytes(true)],
        Style::Llama3 => words(r"\p{N}{1,3}")?,
        Style::Qwen2 => words(r"\p{N}")?,
    };
    Ok(PreTokenizerWrapper::Sequence(Sequence::new(parts)))
}

fn text<'a>(metadata: &'a Metadata, key: &str) -> Option<&'a str> {
    metadata.get(key).and_then(|value| value.to_string().ok()).map(String::as_str)
}

fn texts(path: &Path, metadata: &Metadata, key: &str) -> Result<Vec<String>> {
    let missing = || ModelError::corrupt(path, format!("metadata has no list of texts \"{key}\""));
    let values = metadata.get(key).and_then(|value| value.to_vec().ok()).ok_or_else(missing)?;
    values.iter().map(|value| value.to_string().cloned().map_err(|_| missing())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn load(metadata: &Metadata) -> Result<GgufTokenizer> {
        GgufTokenizer::load(Path::new("/nowhere/model.gguf"), metadata)
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
        assert_eq!(pieces("a name of the future", "ab123"), ["ab", "123"]);
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
        match change("model", Value::String("llama".into())) {
            Some(ModelError::Unsupported(message)) => assert!(message.contains("\"llama\"")),
            other => panic!("{other:?}"),
        }
    }
}
