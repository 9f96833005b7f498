//! Byte-level vocabularies of pairs (`tokenizer.ggml.model` = `gpt2`).
//!
//! The vocabulary and the merges are in the metadata; how text is cut before merging is not, only its name
//! (`tokenizer.ggml.pre`). [`Style::find`] knows the names that llama.cpp writes. A text that is cut otherwise than the
//! model was trained with gives worse answers without anybody noticing, so an unknown name is an error; files from the
//! time before there were names are of the kind of GPT-2.

use super::{added_tokens, corrupt, kinds, text, texts, Metadata};
use crate::error::{ModelError, Result};
use crate::tokenizer::Tokenizer;
use std::path::Path;
use tokenizers::models::bpe::{Merges, Vocab, BPE};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior};

pub fn build(path: &Path, metadata: &Metadata) -> Result<Tokenizer> {
    let style = Style::find(text(metadata, "tokenizer.ggml.pre"))?;
    let tokens = texts(path, metadata, "tokenizer.ggml.tokens")?;
    let kinds = kinds(path, metadata, &tokens)?;
    let vocab: Vocab = tokens.iter().zip(0..).map(|(token, id)| (token.clone(), id)).collect();
    if vocab.len() != tokens.len() {
        return Err(corrupt(path, "a token occurs twice in the vocabulary"));
    }
    let merges = merges(path, metadata, &vocab)?;
    let bpe = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(style.keeps_words())
        .build()
        .map_err(|error| corrupt(path, error))?;
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    if style == Style::Qwen2 {
        tokenizer.with_normalizer(Some(NFC)).map_err(|error| ModelError::Internal(error.to_string()))?;
    }
    tokenizer.with_pre_tokenizer(Some(style.splitter()?));
    tokenizer.with_decoder(Some(ByteLevel::new(false, false, false)));
    let added = added_tokens(tokens, &kinds);
    tokenizer.add_tokens(added).map_err(|error| corrupt(path, error))?;
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
        let (left, right) = pair.ok_or_else(|| corrupt(path, format!("merge \"{merge}\" is not one of two tokens")))?;
        Ok((left.to_owned(), right.to_owned()))
    });
    parsed.collect()
}

/// How text is cut before merging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Gpt2,
    /// Digits one by one, then as GPT-2.
    SingleDigits,
    /// Up to three digits together; whole words of the vocabulary are not split.
    Llama3,
    /// As Llama 3, but words are merged.
    Cl100k,
    /// As Llama 3 with single digits, after canonical composition.
    Qwen2,
    /// Words are cut where small letters are followed by capital ones; digits one by one.
    Tekken,
    /// As Tekken with contractions, and up to three digits together.
    Gpt4o,
}

impl Style {
    /// Errors: `Unsupported` naming the splitter.
    pub fn find(pre: Option<&str>) -> Result<Self> {
        Ok(match pre {
            None
            | Some(
                "default" | "gpt-2" | "gpt2" | "phi-2" | "mpt" | "olmo" | "jais" | "roberta-bpe" | "jina-es"
                | "jina-de" | "jina-v1-en" | "jina-v2-es" | "jina-v2-de" | "jina-v2-code" | "gigachat" | "trillion"
                | "granite-docling" | "exaone4" | "modern-bert" | "mellum" | "a.x-4.0",
            ) => Style::Gpt2,
            Some(
                "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" | "mellum2",
            ) => Style::SingleDigits,
            Some("llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2") => {
                Style::Llama3
            }
            Some("dbrx" | "smaug-bpe" | "chatglm-bpe" | "glm4") => Style::Cl100k,
            Some("qwen2" | "deepseek-r1-qwen" | "stablelm2" | "hunyuan" | "megrez" | "solar-open") => Style::Qwen2,
            Some("tekken") => Style::Tekken,
            Some("gpt-4o" | "llama4" | "kanana2") => Style::Gpt4o,
            Some(other) => {
                let message = format!("splitter \"{other}\" of a vocabulary (\"tokenizer.ggml.pre\")");
                return Err(ModelError::Unsupported(message));
            }
        })
    }

    /// Whether words that are tokens are not merged from their parts.
    fn keeps_words(self) -> bool {
        matches!(self, Style::Llama3 | Style::Tekken)
    }

    /// Whether a text starts with a token of its own where the file does not say so.
    pub fn starts_texts(self) -> bool {
        matches!(self, Style::Llama3 | Style::Tekken)
    }

    fn splitter(self) -> Result<PreTokenizerWrapper> {
        const CONTRACTIONS: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
        let bytes = |use_regex| PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, use_regex));
        let split = |pattern: String| {
            Split::new(SplitPattern::Regex(pattern), SplitDelimiterBehavior::Isolated, false)
                .map(|split| vec![PreTokenizerWrapper::Split(split), bytes(false)])
                .map_err(|error| ModelError::Internal(format!("pattern of a splitter is wrong: {error}")))
        };
        let words = |digits: &str| {
            split(format!(
                r"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            ))
        };
        let cased = |contractions: &str, digits: &str| {
            let (upper, lower) = (r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]");
            let before = r"[^\r\n\p{L}\p{N}]?";
            split(format!(
                r"{before}{upper}*{lower}+{contractions}|{before}{upper}+{lower}*{contractions}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            ))
        };
        let parts = match self {
            Style::Gpt2 => vec![bytes(true)],
            Style::SingleDigits => vec![PreTokenizerWrapper::Digits(Digits::new(true)), bytes(true)],
            Style::Llama3 | Style::Cl100k => words(r"\p{N}{1,3}")?,
            Style::Qwen2 => words(r"\p{N}")?,
            Style::Tekken => cased("", r"\p{N}")?,
            Style::Gpt4o => cased(&format!("{CONTRACTIONS}?"), r"\p{N}{1,3}")?,
        };
        Ok(PreTokenizerWrapper::Sequence(Sequence::new(parts)))
    }
}
