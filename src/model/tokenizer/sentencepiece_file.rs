//! `tokenizer.model`: a vocabulary as SentencePiece saves it, in the wire format of protocol buffers.
//!
//! Read for folders that have no `tokenizer.json` (as Llama 2's and Gemma's authors published them), and turned into the
//! metadata that a GGUF file would have, so that the rest is what is made of those. Tokens that were added later are in
//! JSON files beside it. Only what decides the ids is read; what is not known is skipped, as the format wants it. Every
//! length is checked against the bytes that are there, and nothing nests deeper than the two levels that are asked for.

use super::folder::optional;
use super::gguf::{self, Metadata};
use super::Tokenizer;
use crate::error::{ModelError, Result};
use candle_core::quantized::gguf_file::Value;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::Path;

pub const SENTENCEPIECE_FILE: &str = "tokenizer.model";

/// Tokens that were added to the vocabulary, with their ids.
pub const ADDED_TOKENS_FILE: &str = "added_tokens.json";

/// Kinds of tokens that only templates may contain, and that were added for everybody.
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// Longest file; the largest vocabularies take a few megabytes.
const MOST_BYTES: u64 = 64 << 20;

/// `model_type` of vocabularies that join pairs.
const BPE: u64 = 2;

/// Field numbers of the format (sentencepiece_model.proto).
mod field {
    pub const PIECES: u64 = 1;
    pub const TRAINER: u64 = 2;
    pub const NORMALIZER: u64 = 3;
    pub const PIECE_TEXT: u64 = 1;
    pub const PIECE_SCORE: u64 = 2;
    pub const PIECE_TYPE: u64 = 3;
    pub const MODEL_TYPE: u64 = 3;
    pub const UNKNOWN_ID: u64 = 40;
    pub const CHARACTER_MAP: u64 = 2;
    pub const ADD_PREFIX: u64 = 3;
    pub const REMOVE_SPACES: u64 = 4;
    pub const ESCAPE_SPACES: u64 = 5;
}

/// A value of the wire format.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Four([u8; 4]),
    Eight,
}

/// The fields of a message, in order; `None` for bytes that are none.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            // Bits beyond the 64th are not a number.
            number |= bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn bytes(&mut self, count: u64) -> Option<&'a [u8]> {
        let count = usize::try_from(count).ok().filter(|&count| count <= self.0.len())?;
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        Some(bytes)
    }

    /// The next field's number and value.
    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let key = self.number()?;
        let value = match key & 7 {
            0 => Wire::Number(self.number()?),
            1 => self.bytes(8).map(|_| Wire::Eight)?,
            2 => {
                let count = self.number()?;
                Wire::Bytes(self.bytes(count)?)
            }
            5 => Wire::Four(self.bytes(4)?.try_into().ok()?),
            // Groups, which nothing here has ever had.
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Wire<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// What decides the ids.
#[derive(Debug, PartialEq)]
pub struct Vocabulary {
    pub texts: Vec<String>,
    pub scores: Vec<f32>,
    /// Numbers that GGUF has for the same kinds, too.
    pub kinds: Vec<i32>,
    /// 1 for pieces by their probability, 2 for pairs.
    model_type: u64,
    unknown_id: Option<u32>,
    /// Changes characters before anything else.
    has_character_map: bool,
    /// Whether a text begins with a space.
    pub adds_prefix: bool,
    removes_spaces: bool,
    escapes_spaces: bool,
}

impl Vocabulary {
    /// Reads a `tokenizer.model`, and the tokens that were added to it.
    ///
    /// Errors: `Missing`, `Unreadable`; `Corrupt` for what is no such file; `Unsupported` for vocabularies that do not join
    /// pairs, and for changes of the text that are not known here.
    pub fn read(path: &Path) -> Result<Self> {
        let from_io = |error| ModelError::from_io(path, error);
        let length = std::fs::metadata(path).map_err(from_io)?.len();
        if length > MOST_BYTES {
            return Err(ModelError::corrupt(path, format!("vocabulary of {length} bytes is too large")));
        }
        let bytes = std::fs::read(path).map_err(from_io)?;
        let mut vocabulary = Self::decode(&bytes)
            .ok_or_else(|| ModelError::corrupt(path, "file is not a vocabulary of SentencePiece"))?;
        vocabulary.add_tokens(path.parent().unwrap_or(Path::new("/")))?;
        let unsupported = |what: &str| {
            let message = format!("vocabulary of SentencePiece {what}; convert it to tokenizer.json");
            Err(ModelError::Unsupported(message))
        };
        match vocabulary {
            Self { model_type, .. } if model_type != BPE => unsupported("that does not join pairs"),
            Self { has_character_map: true, .. } => unsupported("that changes characters"),
            Self { removes_spaces: true, .. } => unsupported("that removes spaces"),
            Self { escapes_spaces: false, .. } => unsupported("that keeps spaces as they are"),
            vocabulary => Ok(vocabulary),
        }
    }

    /// `None` for bytes that are not in the format.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut vocabulary = Self {
            texts: Vec::new(),
            scores: Vec::new(),
            kinds: Vec::new(),
            model_type: 1,
            unknown_id: Some(0),
            has_character_map: false,
            adds_prefix: true,
            removes_spaces: true,
            escapes_spaces: true,
        };
        for field in Fields(bytes) {
            match field? {
                (field::PIECES, Wire::Bytes(piece)) => vocabulary.add_piece(piece)?,
                (field::TRAINER, Wire::Bytes(trainer)) => {
                    for field in Fields(trainer) {
                        match field? {
                            (field::MODEL_TYPE, Wire::Number(model_type)) => vocabulary.model_type = model_type,
                            // Negative numbers, for none, take ten bytes.
                            (field::UNKNOWN_ID, Wire::Number(id)) => vocabulary.unknown_id = u32::try_from(id).ok(),
                            _ => {}
                        }
                    }
                }
                (field::NORMALIZER, Wire::Bytes(normalizer)) => {
                    for field in Fields(normalizer) {
                        match field? {
                            (field::CHARACTER_MAP, Wire::Bytes(map)) => vocabulary.has_character_map = !map.is_empty(),
                            (field::ADD_PREFIX, Wire::Number(flag)) => vocabulary.adds_prefix = flag != 0,
                            (field::REMOVE_SPACES, Wire::Number(flag)) => vocabulary.removes_spaces = flag != 0,
                            (field::ESCAPE_SPACES, Wire::Number(flag)) => vocabulary.escapes_spaces = flag != 0,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        (!vocabulary.texts.is_empty()).then_some(vocabulary)
    }

    fn add_piece(&mut self, piece: &[u8]) -> Option<()> {
        let (mut text, mut score, mut kind) = (None, 0.0, 1);
        for field in Fields(piece) {
            match field? {
                (field::PIECE_TEXT, Wire::Bytes(bytes)) => text = Some(std::str::from_utf8(bytes).ok()?.to_owned()),
                (field::PIECE_SCORE, Wire::Four(bytes)) => score = f32::from_le_bytes(bytes),
                (field::PIECE_TYPE, Wire::Number(number)) => kind = i32::try_from(number).ok()?,
                _ => {}
            }
        }
        self.texts.push(text?);
        self.scores.push(score);
        self.kinds.push(kind);
        Some(())
    }

    /// Adds the tokens that `tokenizer_config.json` and `added_tokens.json` in `dir` tell of.
    fn add_tokens(&mut self, dir: &Path) -> Result<()> {
        let mut added: BTreeMap<usize, (String, bool)> = BTreeMap::new();
        let path = dir.join(ADDED_TOKENS_FILE);
        for (text, id) in optional(&path)? {
            let id = id.as_u64().and_then(|id| usize::try_from(id).ok());
            let id = id.ok_or_else(|| ModelError::corrupt(&path, "the id of a token is not a number"))?;
            added.insert(id, (text, true));
        }
        let path = dir.join("tokenizer_config.json");
        let config = optional(&path)?;
        for (id, token) in config.get("added_tokens_decoder").and_then(Json::as_object).into_iter().flatten() {
            let id = id.parse().map_err(|_| ModelError::corrupt(&path, "the id of a token is not a number"))?;
            let text = token["content"].as_str();
            let text = text.ok_or_else(|| ModelError::corrupt(&path, "an added token has no text"))?;
            added.insert(id, (text.to_owned(), token["special"].as_bool().unwrap_or(false)));
        }
        for (id, (text, special)) in added {
            let kind = if special { CONTROL } else { USER_DEFINED };
            match self.texts.get(id) {
                Some(known) if *known == text && special => self.kinds[id] = kind,
                Some(known) if *known == text => {}
                None if id == self.texts.len() => {
                    self.texts.push(text);
                    self.scores.push(0.0);
                    self.kinds.push(kind);
                }
                _ => {
                    let reason = format!("added token {id} does not fit the vocabulary of {} tokens", self.texts.len());
                    return Err(ModelError::corrupt(&path, reason));
                }
            }
        }
        Ok(())
    }

    /// As a GGUF file has it.
    fn into_metadata(self) -> Metadata {
        let texts = self.texts.into_iter().map(Value::String).collect();
        let mut metadata = Metadata::from([
            ("tokenizer.ggml.tokens".to_owned(), Value::Array(texts)),
            ("tokenizer.ggml.scores".to_owned(), Value::Array(self.scores.into_iter().map(Value::F32).collect())),
            ("tokenizer.ggml.token_type".to_owned(), Value::Array(self.kinds.into_iter().map(Value::I32).collect())),
            ("tokenizer.ggml.add_space_prefix".to_owned(), Value::Bool(self.adds_prefix)),
        ]);
        if let Some(id) = self.unknown_id {
            metadata.insert("tokenizer.ggml.unknown_token_id".to_owned(), Value::U32(id));
        }
        metadata
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.model`. Errors: as for [`Vocabulary::read`].
    pub fn from_sentencepiece_file(path: &Path) -> Result<Self> {
        gguf::from_sentencepiece(path, &Vocabulary::read(path)?.into_metadata())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Fixture {
        texts: Vec<String>,
        sentence_piece: Vec<Reference>,
    }

    #[derive(Deserialize)]
    struct Reference {
        tokens: Vec<String>,
        types: Vec<u8>,
        scores: Vec<f32>,
        prefix: bool,
        ids: Vec<Vec<u32>>,
    }

    fn fixture() -> Fixture {
        serde_json::from_str(include_str!("../../../tests/data/gguf_tokenizers.json")).unwrap()
    }

    fn number(mut number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number > 0x7f {
            bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    }

    fn message(field: u64, contents: &[u8]) -> Vec<u8> {
        [number(field << 3 | 2), number(contents.len() as u64), contents.to_vec()].concat()
    }

    fn flag(field: u64, value: u64) -> Vec<u8> {
        [number(field << 3), number(value)].concat()
    }

    fn encode(reference: &Reference, trainer: &[u8], normalizer: &[u8]) -> Vec<u8> {
        let pieces = reference.tokens.iter().zip(&reference.scores).zip(&reference.types);
        let mut file: Vec<u8> = pieces
            .flat_map(|((text, score), kind)| {
                let score = [vec![2 << 3 | 5], score.to_le_bytes().to_vec()].concat();
                message(1, &[message(1, text.as_bytes()), score, flag(3, u64::from(*kind))].concat())
            })
            .collect();
        file.extend(message(2, trainer));
        file.extend(message(3, normalizer));
        // A field of the future.
        file.extend(message(100, b"anything"));
        file
    }

    fn sound(reference: &Reference) -> Vec<u8> {
        let trainer = [flag(3, BPE), flag(40, 0), flag(43, u64::MAX)].concat();
        let normalizer = [message(1, b"identity"), flag(3, u64::from(reference.prefix)), flag(4, 0)].concat();
        encode(reference, &trainer, &normalizer)
    }

    /// A file with the first pieces of a vocabulary, which has the 256 bytes among them.
    pub(crate) fn beginning(count: usize) -> Vec<u8> {
        let mut reference = fixture().sentence_piece.remove(0);
        reference.tokens.truncate(count);
        sound(&reference)
    }

    fn read(bytes: &[u8]) -> Result<Tokenizer> {
        read_with(bytes, "{}")
    }

    fn read_with(bytes: &[u8], config: &str) -> Result<Tokenizer> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("pg_rag-sentencepiece-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(SENTENCEPIECE_FILE), bytes).unwrap();
        std::fs::write(dir.join("tokenizer_config.json"), config).unwrap();
        let tokenizer = Tokenizer::from_sentencepiece_file(&dir.join(SENTENCEPIECE_FILE));
        std::fs::remove_dir_all(&dir).unwrap();
        tokenizer
    }

    #[test]
    fn added_tokens_continue_the_vocabulary() {
        let reference = &fixture().sentence_piece[0];
        let count = reference.tokens.len();
        let added = |id: usize, text: &str| {
            format!(r#"{{"added_tokens_decoder": {{"{id}": {{"content": "{text}", "special": true}}}}}}"#)
        };
        let tokenizer = read_with(&sound(reference), &added(count, "<|assistant|>")).unwrap();
        assert_eq!(tokenizer.token_id("<|assistant|>"), Some(count as u32));
        assert_eq!(tokenizer.encode_template("<|assistant|>").unwrap(), [count as u32]);
        assert!(!tokenizer.encode_ids("<|assistant|>", false).unwrap().contains(&(count as u32)));
        read_with(&sound(reference), &added(1, &reference.tokens[1])).unwrap();
        for config in [added(count + 1, "<|gap|>"), added(1, "<|other|>"), added(usize::MAX, "<|far|>")] {
            let outcome = read_with(&sound(reference), &config).map(drop);
            assert!(matches!(outcome, Err(ModelError::Corrupt { .. })), "{config}");
        }
    }

    #[test]
    fn ids_equal_those_of_sentencepiece() {
        let Fixture { texts, sentence_piece } = fixture();
        for reference in &sentence_piece {
            let tokenizer = read(&sound(reference)).unwrap();
            for (text, ids) in texts.iter().zip(&reference.ids) {
                assert_eq!(&tokenizer.encode_ids(text, false).unwrap(), ids, "{text:?}");
            }
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let reference = &fixture().sentence_piece[0];
        let plain = [flag(3, 1), flag(4, 0)].concat();
        for (trainer, normalizer) in [
            (flag(3, 1), plain.clone()),
            (Vec::new(), plain.clone()),
            (flag(3, BPE), [plain.clone(), message(2, b"map")].concat()),
            (flag(3, BPE), flag(3, 1)),
            (flag(3, BPE), [plain.clone(), flag(5, 0)].concat()),
        ] {
            let outcome = read(&encode(reference, &trainer, &normalizer));
            assert!(matches!(outcome.map(drop), Err(ModelError::Unsupported(_))));
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused() {
        let whole = sound(&fixture().sentence_piece[0]);
        for end in (0..whole.len()).step_by(7) {
            // What is cut between two fields is a shorter vocabulary.
            Vocabulary::decode(&whole[..end]);
        }
        for (place, flip) in (0..whole.len().min(3000)).flat_map(|place| [(place, 1), (place, 0x80), (place, 0xff)]) {
            let mut damaged = whole.clone();
            damaged[place] ^= flip;
            Vocabulary::decode(&damaged);
        }
        for bytes in [
            &b""[..],
            b"{}",
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[0xff; 40],
            // A length of 2^64 - 1, a group, a piece without a text, a text that is not UTF-8.
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0x0b, 0x0c],
            &[0x0a, 0x00],
            &[0x0a, 0x03, 0x0a, 0x01, 0xff],
        ] {
            assert_eq!(Vocabulary::decode(bytes), None, "{bytes:?}");
        }
        assert!(read(&whole[..whole.len() / 2 + 1]).is_err());
    }
}
