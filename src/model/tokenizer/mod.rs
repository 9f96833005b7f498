//! Text to token ids and back.
//!
//! A [`Tokenizer`] wraps a `tokenizers::Tokenizer`, whatever it was made from: a `tokenizer.json` ([`Tokenizer::from_file`]),
//! a `tokenizer.model` ([`Tokenizer::from_sentencepiece_file`]) or the metadata of a GGUF file ([`gguf`]). Two invariants hold for every instance:
//!
//! - Nothing is padded or truncated. A `tokenizer.json` may carry both (all-MiniLM-L6-v2 pads to 128 tokens, although
//!   the model takes 256); they are switched off here, and lengths are the caller's decision.
//! - Text of a user is data. [`Tokenizer::encode`] does not recognise special tokens that are spelled out in it, so a
//!   document cannot end a turn or inject a separator. Only [`Tokenizer::encode_template`], meant for the fixed parts
//!   of a prompt, recognises them.
//!
//! The encoder and the decoder own one each; the server answers tokenize requests with it.

pub mod chat_template;
pub(crate) mod folder;
pub mod gguf;
pub(crate) mod sentencepiece_file;
mod token_bytes;

pub use folder::files as folder_files;

use crate::error::{ModelError, Result};
use pg_rag_protocol::message::TokenizedText;
use std::collections::HashSet;
use std::path::Path;
use tokenizers::models::unigram::Unigram;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::ModelWrapper;
use tokenizers::PreTokenizerWrapper;

/// Names of control tokens that end a turn, for files that do not declare them.
const END_NAMES: [&str; 7] =
    ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "</s>", "<|endoftext|>"];

/// What a generation model's files say about its text: the tokenizer, the tokens with a meaning, the template.
pub struct ModelTokenizer {
    pub tokenizer: Tokenizer,
    /// Token that starts a text, if there is one.
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    /// Whether a text must start with `bos`, if the template does not write it.
    pub add_bos: bool,
    /// Tokens that end the assistant's turn.
    pub ends: Vec<u32>,
    /// Source of the chat template.
    pub template: Option<String>,
}

/// Control tokens that end a turn by their names.
fn ends_by_name(tokenizer: &Tokenizer) -> Vec<u32> {
    let control = tokenizer.inner().get_added_tokens_decoder();
    let named = END_NAMES.iter().filter_map(|name| tokenizer.token_id(name));
    named.filter(|id| control.get(id).is_some_and(|token| token.special)).collect()
}

/// A tokenizer and its vocabulary. Shared between threads; every method takes `&self`.
pub struct Tokenizer {
    /// Treats special tokens in a text as ordinary text.
    data: tokenizers::Tokenizer,
    /// Recognises them. A second copy because the switch is a field of the tokenizer; it costs a few MiB.
    template: tokenizers::Tokenizer,
    /// For text that does not begin the whole, where the vocabulary puts a space before what does.
    inside: Option<tokenizers::Tokenizer>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// Errors: `Missing`, `Unreadable`; `Corrupt` when the file is not a tokenizer.
    pub fn from_file(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| ModelError::from_io(path, error))?;
        let tokenizer = tokenizers::Tokenizer::from_bytes(&bytes).map_err(|error| ModelError::corrupt(path, error))?;
        Self::from_tokenizers(tokenizer)
    }

    /// Takes over a tokenizer built in memory.
    pub fn from_tokenizers(mut tokenizer: tokenizers::Tokenizer) -> Result<Self> {
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| ModelError::Unsupported(format!("tokenizer cannot work without truncation: {error}")))?;
        let mut template = tokenizer.clone();
        template.set_encode_special_tokens(false);
        tokenizer.set_encode_special_tokens(true);
        hide_special_pieces(&mut tokenizer)?;
        let inside = without_first_space(&tokenizer);
        Ok(Self { data: tokenizer, template, inside })
    }

    /// Token ids of `text` with the byte range of `text` that each stands for.
    ///
    /// Ranges lie on character boundaries; tokens of one character's bytes share its range. With `add_special`, the
    /// tokens that the model puts around a text are added; each has an empty range where it was put.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<TokenizedText> {
        if u32::try_from(text.len()).is_err() {
            return Err(ModelError::InvalidInput(format!("text of {} bytes is too long to tokenize", text.len())));
        }
        let encoding = self.data.encode(text, add_special).map_err(encode_error)?;
        let mut tokens = TokenizedText {
            ids: encoding.get_ids().to_vec(),
            starts: Vec::with_capacity(encoding.len()),
            ends: Vec::with_capacity(encoding.len()),
        };
        let mut position = 0;
        for (&(start, end), &special) in encoding.get_offsets().iter().zip(encoding.get_special_tokens_mask()) {
            let (start, end) = if special == 1 { (position, position) } else { (start as u32, end as u32) };
            tokens.starts.push(start);
            tokens.ends.push(end);
            position = end;
        }
        Ok(tokens)
    }

    /// [`Tokenizer::encode`] without the ranges, which makes it faster.
    pub fn encode_ids(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let encoding = self.data.encode_fast(text, add_special).map_err(encode_error)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Token ids of two texts in one, as the model takes them, and the segment of each.
    pub fn encode_pair(&self, first: &str, second: &str) -> Result<(Vec<u32>, Vec<u32>)> {
        let encoding = self.data.encode_fast((first, second), true).map_err(encode_error)?;
        Ok((encoding.get_ids().to_vec(), encoding.get_type_ids().to_vec()))
    }

    /// Token ids of a text that follows other tokens.
    pub fn encode_ids_inside(&self, text: &str) -> Result<Vec<u32>> {
        let tokenizer = self.inside.as_ref().unwrap_or(&self.data);
        Ok(tokenizer.encode_fast(text, false).map_err(encode_error)?.get_ids().to_vec())
    }

    /// Token ids of a fixed part of a prompt: special tokens written in `text` are recognised, none are added.
    pub fn encode_template(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.template.encode_fast(text, false).map_err(encode_error)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `ids`; bytes that do not form UTF-8 become U+FFFD.
    ///
    /// Errors: `InvalidArgument` when an id is not in the vocabulary.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        if let Some(id) = ids.iter().find(|&&id| self.data.id_to_token(id).is_none()) {
            return Err(ModelError::InvalidArgument(format!("token id {id} is not in the model's vocabulary")));
        }
        self.data
            .decode(ids, skip_special)
            .map_err(|error| ModelError::InvalidArgument(format!("could not decode tokens: {error}")))
    }

    /// The largest id and one more.
    pub fn vocabulary_size(&self) -> usize {
        let ids = self.data.get_vocab(true).into_values().max();
        ids.map_or(0, |id| id as usize + 1)
    }

    /// Id of a token by its spelling in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.data.token_to_id(token)
    }

    /// The wrapped tokenizer, for incremental decoding and for looking at its parts.
    pub fn inner(&self) -> &tokenizers::Tokenizer {
        &self.data
    }
}

/// Makes special tokens unreachable for the text of a user where they are pieces of the vocabulary like any other, as in
/// those of SentencePiece: renames them there to what no text contains. Their own names still stand for their ids.
fn hide_special_pieces(tokenizer: &mut tokenizers::Tokenizer) -> Result<()> {
    let ModelWrapper::Unigram(unigram) = tokenizer.get_model() else { return Ok(()) };
    let special: HashSet<String> = tokenizer
        .get_added_tokens_decoder()
        .into_values()
        .filter(|token| token.special)
        .map(|token| token.content)
        .collect();
    if !unigram.iter().any(|(piece, _)| special.contains(piece)) {
        return Ok(());
    }
    let pieces = unigram.iter().map(|(piece, score)| match special.contains(piece) {
        true => (format!("\0{piece}"), *score),
        false => (piece.clone(), *score),
    });
    let pieces = pieces.collect();
    let unsupported = |error: &dyn std::fmt::Display| ModelError::Unsupported(format!("tokenizer: {error}"));
    // The only way to learn which token stands for what is unknown.
    let fields = serde_json::to_value(unigram).map_err(|error| unsupported(&error))?;
    let unknown = fields.get("unk_id").and_then(|id| id.as_u64()).map(|id| id as usize);
    let hidden = Unigram::from(pieces, unknown, unigram.byte_fallback()).map_err(|error| unsupported(&error))?;
    tokenizer.with_model(hidden);
    Ok(())
}

/// A tokenizer that puts no space before a text, of one that does so where the text is the first.
fn without_first_space(tokenizer: &tokenizers::Tokenizer) -> Option<tokenizers::Tokenizer> {
    let PreTokenizerWrapper::Metaspace(spaces) = tokenizer.get_pre_tokenizer()? else { return None };
    if spaces.get_prepend_scheme() != PrependScheme::First {
        return None;
    }
    let mut spaces = spaces.clone();
    spaces.set_prepend_scheme(PrependScheme::Never);
    let mut inside = tokenizer.clone();
    inside.with_pre_tokenizer(Some(spaces));
    Some(inside)
}

/// Encoding is total for a sound vocabulary; what fails is a vocabulary without the unknown token it names.
fn encode_error(error: tokenizers::Error) -> ModelError {
    ModelError::Unsupported(format!("tokenizer cannot encode this text: {error}"))
}
