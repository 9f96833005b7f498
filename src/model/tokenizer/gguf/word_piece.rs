//! WordPiece vocabularies (`tokenizer.ggml.model` = `bert`).
//!
//! Converters write the beginning of a word with `▁` before it and what continues a word as it is; WordPiece itself
//! marks the latter, with `##`.

use super::{added_tokens, corrupt, kinds, texts, Kind, Metadata};
use crate::error::{ModelError, Result};
use crate::tokenizer::Tokenizer;
use std::path::Path;
use tokenizers::models::bpe::Vocab;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;

pub fn build(path: &Path, metadata: &Metadata) -> Result<Tokenizer> {
    let tokens = texts(path, metadata, "tokenizer.ggml.tokens")?;
    let kinds = kinds(path, metadata, &tokens)?;
    let spelled = |(token, kind): (&String, &Kind)| match (token.strip_prefix('▁'), kind) {
        (Some(word), _) => word.to_owned(),
        (None, Kind::Normal) if !(token.starts_with('[') && token.ends_with(']')) => format!("##{token}"),
        (None, _) => token.clone(),
    };
    let tokens: Vec<String> = tokens.iter().zip(&kinds).map(spelled).collect();
    let vocab: Vocab = tokens.iter().cloned().zip(0..).collect();
    let token = |key: &str, usual: &str| {
        let id = metadata.get(&format!("tokenizer.ggml.{key}_token_id")).and_then(|id| id.to_u32().ok());
        let id = id.filter(|id| (*id as usize) < tokens.len());
        let id = id.or_else(|| tokens.iter().position(|token| token == usual).map(|at| at as u32));
        let id = id.ok_or_else(|| corrupt(path, format!("vocabulary has no token \"{usual}\"")))?;
        Ok::<_, ModelError>((tokens[id as usize].clone(), id))
    };
    let (unknown, _) = token("unknown", "[UNK]")?;
    let around = BertProcessing::new(token("seperator", "[SEP]")?, token("cls", "[CLS]")?);
    let model = WordPiece::builder().vocab(vocab).unk_token(unknown).build();
    let mut tokenizer = tokenizers::Tokenizer::new(model.map_err(|error| corrupt(path, error))?);
    let internal = |error: tokenizers::Error| ModelError::Internal(error.to_string());
    tokenizer.with_normalizer(Some(BertNormalizer::default())).map_err(internal)?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_post_processor(Some(around));
    tokenizer.with_decoder(Some(tokenizers::decoders::wordpiece::WordPiece::default()));
    let added = added_tokens(tokens, &kinds);
    tokenizer.add_tokens(added).map_err(|error| corrupt(path, error))?;
    Tokenizer::from_tokenizers(tokenizer)
}
