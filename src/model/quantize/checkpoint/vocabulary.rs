//! `tokenizer.json` or `tokenizer.model`, and what belongs to it, as the metadata of GGUF.
//!
//! Two kinds of vocabulary can be expressed: byte-level BPE (`gpt2`), with the name of one of the ways to cut text that
//! readers of GGUF know; and SentencePiece's BPE with fallback to bytes (`llama`), whose scores are the ranks of the merges
//! that give the tokens, so that merging by score is merging in that order.

use crate::error::{ModelError, Result};
use crate::quantize::metadata::Metadata;
use crate::tokenizer::folder::{optional, template};
use crate::tokenizer::folder_files;
use crate::tokenizer::sentencepiece_file::{Vocabulary, SENTENCEPIECE_FILE};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// Kinds of tokens (`tokenizer.ggml.token_type`).
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// A larger file is not a vocabulary.
const MOST_BYTES: u64 = 256 << 20;

/// Adds the tokenizer in `dir` to `metadata`, with as many tokens as the embedding has rows.
///
/// Errors: `Missing`, `Unreadable`; `Corrupt` for what is not a tokenizer or does not fit the embedding; `Unsupported` for
/// one that GGUF cannot express.
pub fn describe(dir: &Path, rows: usize, metadata: &mut Metadata) -> Result<()> {
    let config = optional(&dir.join("tokenizer_config.json"))?;
    if let Some(template) = template(dir, &config)? {
        metadata.set_text("tokenizer.chat_template", &template);
    }
    let config = Value::Object(config);
    if folder_files(dir).first() == Some(&SENTENCEPIECE_FILE) {
        return describe_sentencepiece(dir, &config, rows, metadata);
    }
    let path = dir.join("tokenizer.json");
    let json = read(&path)?;
    let model = &json["model"];
    let kind = model["type"].as_str().unwrap_or("BPE");
    if kind != "BPE" {
        return Err(ModelError::Unsupported(format!("vocabulary of kind \"{kind}\" in a GGUF file")));
    }
    let tokens = Tokens::read(&path, &json, rows)?;
    if model["byte_fallback"].as_bool() == Some(true) {
        metadata.set_text("tokenizer.ggml.model", "llama");
        metadata.set_text("tokenizer.ggml.pre", "default");
        metadata.set_f32s("tokenizer.ggml.scores", &tokens.scores(&merges(&path, model)?));
        metadata.set_bool("tokenizer.ggml.add_space_prefix", adds_space(&json));
    } else {
        metadata.set_text("tokenizer.ggml.model", "gpt2");
        metadata.set_text("tokenizer.ggml.pre", splitter(&json)?);
        let merges: Vec<String> =
            merges(&path, model)?.into_iter().map(|(left, right)| format!("{left} {right}")).collect();
        metadata.set_texts("tokenizer.ggml.merges", &merges);
        metadata.set_bool("tokenizer.ggml.add_space_prefix", false);
    }
    metadata.set_texts("tokenizer.ggml.tokens", &tokens.spellings);
    metadata.set_i32s("tokenizer.ggml.token_type", &tokens.kinds);
    special_ids(dir, &config, &tokens, metadata)?;
    metadata.set_bool("tokenizer.ggml.add_bos_token", adds_bos(&json, &config));
    Ok(())
}

/// A file of JSON; `Corrupt` if it is something else.
fn read(path: &Path) -> Result<Value> {
    let from_io = |error| ModelError::from_io(path, error);
    let length = std::fs::metadata(path).map_err(from_io)?.len();
    if length > MOST_BYTES {
        return Err(ModelError::corrupt(path, format!("file of {length} bytes is not a vocabulary")));
    }
    let bytes = std::fs::read(path).map_err(from_io)?;
    serde_json::from_slice(&bytes).map_err(|error| ModelError::corrupt(path, error))
}

/// As [`describe`], for a folder with SentencePiece's own file, which says what GGUF wants to know.
fn describe_sentencepiece(dir: &Path, config: &Value, rows: usize, metadata: &mut Metadata) -> Result<()> {
    let path = dir.join(SENTENCEPIECE_FILE);
    let Vocabulary { texts: mut spellings, mut scores, mut kinds, adds_prefix, .. } = Vocabulary::read(&path)?;
    if spellings.len() > rows {
        let reason = format!("vocabulary has {} tokens for the {rows} rows of the embedding", spellings.len());
        return Err(ModelError::corrupt(path, reason));
    }
    spellings.extend((spellings.len()..rows).map(padding));
    scores.resize(rows, 0.0);
    kinds.resize(rows, UNUSED);
    let tokens = Tokens { spellings, kinds };
    metadata.set_text("tokenizer.ggml.model", "llama");
    metadata.set_text("tokenizer.ggml.pre", "default");
    metadata.set_f32s("tokenizer.ggml.scores", &scores);
    metadata.set_bool("tokenizer.ggml.add_space_prefix", adds_prefix);
    metadata.set_texts("tokenizer.ggml.tokens", &tokens.spellings);
    metadata.set_i32s("tokenizer.ggml.token_type", &tokens.kinds);
    special_ids(dir, config, &tokens, metadata)?;
    metadata.set_bool("tokenizer.ggml.add_bos_token", config["add_bos_token"].as_bool().unwrap_or(true));
    Ok(())
}

/// Name of a row of the embedding that has no token.
fn padding(id: usize) -> String {
    format!("[PAD{id}]")
}

struct Tokens {
    spellings: Vec<String>,
    kinds: Vec<i32>,
}

impl Tokens {
    fn read(path: &Path, json: &Value, rows: usize) -> Result<Self> {
        let mut spellings: Vec<Option<String>> = vec![None; rows];
        let mut kinds = vec![UNUSED; rows];
        let unknown = json["model"]["unk_token"].as_str();
        let bytes = json["model"]["byte_fallback"].as_bool() == Some(true);
        let mut put = |token: &str, id: Option<u64>, kind: i32| -> Result<()> {
            let id = id.and_then(|id| usize::try_from(id).ok()).filter(|&id| id < rows).ok_or_else(|| {
                ModelError::corrupt(path, format!("token \"{token}\" has no row among the {rows} of the embedding"))
            })?;
            spellings[id] = Some(token.to_owned());
            kinds[id] = kind;
            Ok(())
        };
        let vocabulary = json["model"]["vocab"].as_object();
        let vocabulary = vocabulary.ok_or_else(|| ModelError::corrupt(path, "file has no vocabulary"))?;
        for (token, id) in vocabulary {
            let kind = match token {
                token if bytes && is_byte(token) => BYTE,
                token if Some(token.as_str()) == unknown => UNKNOWN,
                _ => NORMAL,
            };
            put(token, id.as_u64(), kind)?;
        }
        for added in json["added_tokens"].as_array().into_iter().flatten() {
            let token = added["content"].as_str().unwrap_or_default();
            let kind = match added["special"].as_bool() {
                Some(true) if bytes && Some(token) == unknown => UNKNOWN,
                Some(true) => CONTROL,
                _ => USER_DEFINED,
            };
            put(token, added["id"].as_u64(), kind)?;
        }
        let named = |(id, token): (usize, Option<String>)| token.unwrap_or_else(|| padding(id));
        Ok(Self { spellings: spellings.into_iter().enumerate().map(named).collect(), kinds })
    }

    fn id(&self, token: &str) -> Option<u32> {
        self.spellings.iter().position(|known| known == token).map(|id| id as u32)
    }

    /// A score for every token: the lower, the later it is merged.
    fn scores(&self, merges: &[(String, String)]) -> Vec<f32> {
        let mut ranks: HashMap<String, usize> = HashMap::new();
        for (rank, (left, right)) in merges.iter().enumerate() {
            ranks.entry(format!("{left}{right}")).or_insert(rank);
        }
        let score = |(token, kind): (&String, &i32)| match ranks.get(token) {
            Some(&rank) if *kind == NORMAL => -(rank as f32),
            _ if *kind == NORMAL => -(merges.len() as f32),
            _ => 0.0,
        };
        self.spellings.iter().zip(&self.kinds).map(score).collect()
    }
}

/// Whether a token stands for a byte: `<0x0A>`.
fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

/// Pairs of tokens in the order in which they merge. Older files write a pair as one text.
fn merges(path: &Path, model: &Value) -> Result<Vec<(String, String)>> {
    let broken = || ModelError::corrupt(path, "merges are not pairs of tokens");
    let pair = |merge: &Value| match merge {
        Value::String(text) => text.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())),
        merge => Some((merge[0].as_str()?.to_owned(), merge[1].as_str()?.to_owned())),
    };
    let merges = model["merges"].as_array().ok_or_else(broken)?;
    merges.iter().map(|merge| pair(merge).ok_or_else(broken)).collect()
}

/// The parts of a normalizer, pre-tokenizer or post-processor that may be a sequence.
fn parts<'a>(step: &'a Value, key: &str) -> Vec<&'a Value> {
    match step[key].as_array() {
        Some(parts) => parts.iter().collect(),
        None if step.is_object() => vec![step],
        None => Vec::new(),
    }
}

/// The name of the way in which text is cut before merging.
fn splitter(json: &Value) -> Result<&'static str> {
    let steps = parts(&json["pre_tokenizer"], "pretokenizers");
    let kind = |step: &Value| step["type"].as_str().unwrap_or_default().to_owned();
    let pattern = |step: &Value| step["pattern"]["Regex"].as_str().unwrap_or_default().to_owned();
    let composed = parts(&json["normalizer"], "normalizers").iter().any(|step| kind(step) == "NFC");
    let contractions = |text: &str| text.contains("'s|'t|'re") || text.contains("(?i:'s");
    match steps.as_slice() {
        [bytes] if kind(bytes) == "ByteLevel" && bytes["use_regex"].as_bool() != Some(false) => Ok("gpt-2"),
        [digits, bytes]
            if kind(digits) == "Digits"
                && digits["individual_digits"].as_bool() == Some(true)
                && kind(bytes) == "ByteLevel" =>
        {
            Ok("smollm")
        }
        [split, bytes] if kind(split) == "Split" && kind(bytes) == "ByteLevel" => {
            let text = pattern(split);
            let cased = text.contains(r"\p{Lu}");
            let digits = (text.contains(r"\p{N}{1,3}"), text.contains(r"|\p{N}|"));
            match (cased, contractions(&text), digits, composed) {
                // Whether words that are tokens are merged from their parts all the same.
                (false, true, (true, false), false) if json["model"]["ignore_merges"] == true => Ok("llama-bpe"),
                (false, true, (true, false), false) => Ok("smaug-bpe"),
                (false, true, (false, true), true) => Ok("qwen2"),
                (true, false, (false, true), false) => Ok("tekken"),
                (true, true, (true, false), false) => Ok("gpt-4o"),
                _ => Err(unnamed(&json["pre_tokenizer"])),
            }
        }
        _ => Err(unnamed(&json["pre_tokenizer"])),
    }
}

fn unnamed(step: &Value) -> ModelError {
    let text: String = step.to_string().chars().take(200).collect();
    ModelError::Unsupported(format!("GGUF has no name for this way to cut text: {text}"))
}

/// Whether a space is put before a text.
fn adds_space(json: &Value) -> bool {
    let prepends = |step: &&Value| step["type"].as_str() == Some("Prepend");
    let metaspace = |step: &&Value| {
        step["type"].as_str() == Some("Metaspace")
            && step["prepend_scheme"]
                .as_str()
                .map_or(step["add_prefix_space"].as_bool() == Some(true), |s| s != "never")
    };
    parts(&json["normalizer"], "normalizers").iter().any(prepends)
        || parts(&json["pre_tokenizer"], "pretokenizers").iter().any(metaspace)
}

/// Whether a text starts with the token for that.
fn adds_bos(json: &Value, config: &Value) -> bool {
    if let Some(adds) = config["add_bos_token"].as_bool() {
        return adds;
    }
    let starts = |step: &&Value| {
        step["type"].as_str() == Some("TemplateProcessing") && step["single"][0]["SpecialToken"].is_object()
    };
    parts(&json["post_processor"], "processors").iter().any(starts)
}

/// Ids of the tokens with a meaning: as the tokenizer's configuration spells them, or as the model's numbers them.
fn special_ids(dir: &Path, config: &Value, tokens: &Tokens, metadata: &mut Metadata) -> Result<()> {
    let mut numbers = Vec::new();
    for name in ["generation_config.json", "config.json"] {
        numbers.push(Value::Object(optional(&dir.join(name))?));
    }
    for (short, key) in [("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")] {
        let token = &config[format!("{short}_token")];
        let spelled = token.as_str().or(token["content"].as_str()).and_then(|token| tokens.id(token));
        let numbered = numbers.iter().find_map(|json| {
            let id = &json[format!("{short}_token_id")];
            // Several ends of a text: the first.
            id.as_u64().or(id[0].as_u64())
        });
        let numbered = numbered.and_then(|id| u32::try_from(id).ok()).filter(|&id| (id as usize) < tokens.kinds.len());
        if let Some(id) = spelled.or(numbered) {
            metadata.set_u32(&format!("tokenizer.ggml.{key}_token_id"), id);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// How the cut of a vocabulary is called whose words match `pattern`.
    fn name(pattern: &str, ignore_merges: bool, normalizer: &Value) -> Result<&'static str> {
        splitter(&json!({
            "model": {"type": "BPE", "ignore_merges": ignore_merges},
            "normalizer": normalizer,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
            ]},
        }))
    }

    #[test]
    fn patterns_of_words_have_the_names_that_readers_know() {
        let words = |digits: &str| {
            format!(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            )
        };
        let cased = |contractions: &str, digits: &str| {
            let (upper, lower) = (r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]");
            format!(
                r"[^\r\n\p{{L}}\p{{N}}]?{upper}*{lower}+{contractions}|[^\r\n\p{{L}}\p{{N}}]?{upper}+{lower}*{contractions}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            )
        };
        let (three, one) = (r"\p{N}{1,3}", r"\p{N}");
        let (plain, composed) = (Value::Null, json!({"type": "NFC"}));
        let contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?";
        assert_eq!(name(&words(three), true, &plain).unwrap(), "llama-bpe");
        assert_eq!(name(&words(three), false, &plain).unwrap(), "smaug-bpe");
        assert_eq!(name(&words(one), false, &composed).unwrap(), "qwen2");
        assert_eq!(name(&cased("", one), true, &plain).unwrap(), "tekken");
        assert_eq!(name(&cased(contractions, three), false, &plain).unwrap(), "gpt-4o");
        // Nobody has named these.
        assert!(name(&words(one), false, &plain).is_err());
        assert!(name(&cased(contractions, one), false, &plain).is_err());
        assert!(name(r"\p{N}{1,3}", false, &plain).is_err());
    }
}
