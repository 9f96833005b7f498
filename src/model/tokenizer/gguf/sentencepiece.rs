//! SentencePiece vocabularies of pairs (`tokenizer.ggml.model` = `llama`): Llama 2, Mistral, Gemma, Phi-3, CodeQwen1.5.
//!
//! A text is one sequence of characters with `▁` for spaces; of all neighbours that make a token when joined, those with
//! the highest score are joined first. Characters without a token fall apart into tokens of bytes. [`tokenizers`] joins
//! by a list of pairs, so the list is made from the scores: every way to cut a token in two tokens, by the score of the
//! whole.

use super::{added_tokens, corrupt, flag, kinds, texts, Kind, Metadata, SPM_DEFAULT_PREFIX};
use crate::error::{ModelError, Result};
use crate::tokenizer::Tokenizer;
use std::path::Path;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{Merges, Vocab, BPE};
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, Sequence as Normalizers};

/// What stands for a space.
const SPACE: &str = "▁";

/// Tokens longer than this are runs of one character, which need not be tried to be cut at every place.
const MOST_CHARACTERS: usize = 256;

pub fn build(path: &Path, metadata: &Metadata) -> Result<Tokenizer> {
    let tokens = texts(path, metadata, "tokenizer.ggml.tokens")?;
    let kinds = kinds(path, metadata, &tokens)?;
    let scores = scores(path, metadata, tokens.len())?;
    // Unused places have all the same name in some files; the first keeps it.
    let mut vocab = Vocab::default();
    for (token, id) in tokens.iter().zip(0..) {
        vocab.entry(token.clone()).or_insert(id);
    }
    let named = metadata.get("tokenizer.ggml.unknown_token_id").and_then(|id| id.to_u32().ok());
    let unknown = named.and_then(|id| tokens.get(id as usize)).or_else(|| {
        let at = kinds.iter().position(|kind| *kind == Kind::Unknown)?;
        tokens.get(at)
    });
    let bytes = (0..=255_u8).all(|byte| vocab.contains_key(&format!("<0x{byte:02X}>")));
    let merges = merges(&tokens, &kinds, &scores, &vocab);
    let mut builder = BPE::builder().vocab_and_merges(vocab, merges).byte_fallback(bytes).fuse_unk(true);
    if let Some(unknown) = unknown {
        builder = builder.unk_token(unknown.clone());
    }
    let bpe = builder.build().map_err(|error| corrupt(path, error))?;
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    let prefix = flag(metadata, "tokenizer.ggml.add_space_prefix").unwrap_or(SPM_DEFAULT_PREFIX);
    let internal = |error: tokenizers::Error| ModelError::Internal(error.to_string());
    let spaces = |from: &str, to: &str| Replace::new(from, to).map_err(internal);
    let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
    if prefix {
        normalizers.push(Prepend::new(SPACE.into()).into());
    }
    normalizers.push(spaces(" ", SPACE)?.into());
    tokenizer.with_normalizer(Some(Normalizers::new(normalizers))).map_err(internal)?;
    let mut decoders = vec![spaces(SPACE, " ")?.into(), ByteFallback::new().into(), Fuse::new().into()];
    if prefix {
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    tokenizer.with_decoder(Some(Decoders::new(decoders)));
    let added = added_tokens(tokens, &kinds);
    tokenizer.add_tokens(added).map_err(|error| corrupt(path, error))?;
    Tokenizer::from_tokenizers(tokenizer)
}

fn scores(path: &Path, metadata: &Metadata, count: usize) -> Result<Vec<f32>> {
    let missing = || corrupt(path, format!("vocabulary of {count} tokens has not a score for each"));
    let values = metadata.get("tokenizer.ggml.scores").and_then(|value| value.to_vec().ok()).ok_or_else(missing)?;
    let scores: Option<Vec<f32>> = values.iter().map(|value| value.to_f32().ok()).collect();
    scores.filter(|scores| scores.len() == count && !scores.iter().any(|score| score.is_nan())).ok_or_else(missing)
}

/// Every cut of an ordinary token into two tokens, the best first.
fn merges(tokens: &[String], kinds: &[Kind], scores: &[f32], vocab: &Vocab) -> Merges {
    let mut cuts: Vec<(f32, &str, &str)> = Vec::new();
    for ((token, kind), score) in tokens.iter().zip(kinds).zip(scores) {
        if !matches!(kind, Kind::Normal | Kind::UserDefined) || token.chars().count() > MOST_CHARACTERS {
            continue;
        }
        let mut own: Vec<(&str, &str)> = token.char_indices().skip(1).map(|(at, _)| token.split_at(at)).collect();
        own.retain(|(left, right)| vocab.contains_key(*left) && vocab.contains_key(*right));
        own.sort_by_key(|(left, right)| (vocab[*left], vocab[*right]));
        cuts.extend(own.into_iter().map(|(left, right)| (*score, left, right)));
    }
    // Of equal scores, the token that comes first in the vocabulary.
    cuts.sort_by(|(a, ..), (b, ..)| b.total_cmp(a));
    cuts.into_iter().map(|(_, left, right)| (left.to_owned(), right.to_owned())).collect()
}
