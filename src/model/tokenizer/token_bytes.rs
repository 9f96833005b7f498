//! The bytes that tokens stand for, for those who work on a vocabulary instead of on a text.

use super::Tokenizer;

/// Starts the bytes of a control token, which no text contains.
const CONTROL: u8 = 0xff;

impl Tokenizer {
    /// The bytes of every token, in the order of the ids; those of control tokens start with a byte that is not UTF-8, and
    /// ids without a token have none. `None` for vocabularies in which bytes depend on the neighbours.
    pub fn token_bytes(&self) -> Option<Vec<Vec<u8>>> {
        let spelling = Spelling::of(self.inner())?;
        let added = self.inner().get_added_tokens_decoder();
        let count = self.inner().get_vocab_size(true) as u32;
        let bytes = |id: u32| match (added.get(&id), self.inner().id_to_token(id)) {
            (Some(token), _) if token.special => [&[CONTROL], token.content.as_bytes()].concat(),
            (Some(token), _) => token.content.clone().into_bytes(),
            (None, Some(token)) => spelling.bytes(&token),
            (None, None) => Vec::new(),
        };
        Some((0..count).map(bytes).collect())
    }
}

/// How a vocabulary spells bytes.
#[derive(Clone, Copy)]
enum Spelling {
    /// A letter for each byte.
    ByteLevel,
    /// `▁` for a space, and tokens like `<0x0A>`.
    SentencePiece,
}

impl Spelling {
    fn of(tokenizer: &tokenizers::Tokenizer) -> Option<Self> {
        // The parts of a decoder that is a sequence can only be seen in its serialised form.
        let decoder = serde_json::to_string(tokenizer.get_decoder()?).ok()?;
        let has = |part: &str| decoder.contains(&format!("\"{part}\""));
        if has("ByteLevel") {
            Some(Spelling::ByteLevel)
        } else if has("ByteFallback") || has("Metaspace") {
            Some(Spelling::SentencePiece)
        } else {
            None
        }
    }

    fn bytes(self, token: &str) -> Vec<u8> {
        match self {
            Spelling::ByteLevel => token.chars().flat_map(byte_of_letter).collect(),
            Spelling::SentencePiece => {
                let hex =
                    token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>')).filter(|hex| hex.len() == 2);
                match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                    Some(byte) => vec![byte],
                    None => token.replace('▁', " ").into_bytes(),
                }
            }
        }
    }
}

/// The byte that GPT-2's alphabet spells with this letter: printable bytes with themselves, the others, in order, with the
/// letters from 256 on. Letters outside it stand for themselves.
fn byte_of_letter(letter: char) -> Vec<u8> {
    let code = letter as u32;
    let printable = |byte: &u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    if printable(&code) {
        return vec![code as u8];
    }
    let other = code.checked_sub(256).and_then(|index| (0..256).filter(|byte| !printable(byte)).nth(index as usize));
    match other {
        Some(byte) => vec![byte as u8],
        None => letter.to_string().into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::models::bpe::{Vocab, BPE};
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    #[test]
    fn letters_of_the_alphabet_are_the_bytes_that_they_decode_to() {
        let vocab: Vocab = ByteLevel::alphabet().into_iter().map(String::from).zip(0..).collect();
        let bpe = BPE::builder().vocab_and_merges(vocab, Vec::new()).build().unwrap();
        let mut tokenizer = tokenizers::Tokenizer::new(bpe);
        tokenizer.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
        tokenizer.with_decoder(Some(ByteLevel::new(false, true, true)));
        let tokenizer = Tokenizer::from_tokenizers(tokenizer).unwrap();
        let bytes = tokenizer.token_bytes().unwrap();
        assert_eq!(bytes.len(), 256);
        let text = "a \n\u{7f}\u{0}é漢🐘\u{ad}";
        let ids = tokenizer.encode_ids(text, false).unwrap();
        let joined: Vec<u8> = ids.iter().flat_map(|&id| bytes[id as usize].clone()).collect();
        assert_eq!(joined, text.as_bytes());
        let mut all: Vec<u8> = bytes.concat();
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..=255));
    }

    #[test]
    fn sentence_pieces_have_spaces_and_bytes() {
        assert_eq!(Spelling::SentencePiece.bytes("▁a▁"), b" a ");
        assert_eq!(Spelling::SentencePiece.bytes("<0x0A>"), b"\n");
        assert_eq!(Spelling::SentencePiece.bytes("<0xZZ>"), b"<0xZZ>");
    }
}
