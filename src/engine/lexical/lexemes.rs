//! The wire form of a `tsvector`, as `tsvectorsend` writes it: a number of lexemes, and for each its text, ended by a zero
//! byte, a number of positions and the positions. Numbers are big-endian.
//!
//! Decoding is total: whatever the bytes are, the result is lexemes or an error.

/// A lexeme of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lexeme<'a> {
    pub text: &'a [u8],
    /// How often it occurs: the number of its positions, of which PostgreSQL keeps 256, and at least one.
    pub count: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not those of a tsvector")]
pub struct NotATsvector;

/// The lexemes of a `tsvector`, in its own order.
pub fn decode(bytes: &[u8]) -> Result<Vec<Lexeme<'_>>, NotATsvector> {
    let mut lexemes = Vec::new();
    for_each(bytes, |lexeme| lexemes.push(lexeme))?;
    Ok(lexemes)
}

/// Calls `visit` with the lexemes of a `tsvector`, in its own order.
pub fn for_each<'a>(bytes: &'a [u8], mut visit: impl FnMut(Lexeme<'a>)) -> Result<(), NotATsvector> {
    let (count, mut rest) = number::<4>(bytes)?;
    for _ in 0..count {
        let end = rest.iter().position(|&byte| byte == 0).ok_or(NotATsvector)?;
        let (text, after) = (&rest[..end], &rest[end + 1..]);
        let (positions, after) = number::<2>(after)?;
        rest = after.get(2 * positions as usize..).ok_or(NotATsvector)?;
        visit(Lexeme { text, count: positions.max(1) });
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(NotATsvector)
    }
}

/// A big-endian number of so many bytes, at most 4, and what follows it.
fn number<const BYTES: usize>(bytes: &[u8]) -> Result<(u32, &[u8]), NotATsvector> {
    let (digits, rest) = bytes.split_first_chunk::<BYTES>().ok_or(NotATsvector)?;
    Ok((digits.iter().fold(0, |value, &digit| value << 8 | u32::from(digit)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The wire form of lexemes with so many positions.
    fn encoded(lexemes: &[(String, u16)]) -> Vec<u8> {
        let mut bytes = (lexemes.len() as u32).to_be_bytes().to_vec();
        for (text, positions) in lexemes {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
            bytes.extend_from_slice(&positions.to_be_bytes());
            (1..=*positions).for_each(|position| bytes.extend_from_slice(&position.to_be_bytes()));
        }
        bytes
    }

    #[test]
    fn a_stripped_lexeme_counts_once() {
        let bytes = encoded(&[("cat".into(), 0), ("sleep".into(), 2)]);
        let expected = [Lexeme { text: b"cat", count: 1 }, Lexeme { text: b"sleep", count: 2 }];
        assert_eq!(decode(&bytes).unwrap(), expected);
    }

    #[test]
    fn an_absurd_number_of_lexemes_is_an_error() {
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff, b'a', 0, 0, 0]), Err(NotATsvector));
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(lexemes in prop::collection::vec(("[a-zé]{1,8}", 0u16..5), 0..20)) {
            let bytes = encoded(&lexemes);
            let decoded = decode(&bytes).unwrap();
            prop_assert_eq!(decoded.len(), lexemes.len());
            for (lexeme, (text, positions)) in decoded.iter().zip(&lexemes) {
                prop_assert_eq!((lexeme.text, lexeme.count), (text.as_bytes(), u32::from(*positions).max(1)));
            }
            for length in 0..bytes.len() {
                prop_assert_eq!(decode(&bytes[..length]), Err(NotATsvector));
            }
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&bytes);
        }
    }
}
