//! Where sentences end, for answers that are cut at a limit.

/// Bytes of `text` up to the end of its last complete sentence, if there is one.
///
/// A sentence ends with its mark, behind which only closing quotes and brackets and then a space or, if `whole`, the end of
/// the text may come; a line ends with its break. The number of a list item ("2.") is no sentence.
pub fn last_sentence_end(text: &str, whole: bool) -> Option<usize> {
    let mut end = None;
    let mut ended = None;
    let mut line_start = 0;
    for (at, character) in text.char_indices() {
        match character {
            '\n' => {
                if text[line_start..at].chars().any(char::is_alphabetic) {
                    end = Some(at);
                }
                (line_start, ended) = (at + 1, None);
            }
            '.' | '!' | '?' | '…' | '。' | '！' | '？' => {
                let before = &text[line_start..at];
                let item = character == '.' && before.trim_start().chars().all(|c| c.is_ascii_digit());
                ended = (!item).then_some(at + character.len_utf8());
                // Full-width marks are followed by the next sentence at once.
                if matches!(character, '。' | '！' | '？') {
                    end = ended;
                }
            }
            '"' | '\'' | ')' | ']' | '*' | '”' | '’' | '»' | '」' if ended.is_some() => {
                ended = Some(at + character.len_utf8());
            }
            _ if character.is_whitespace() => end = ended.take().or(end),
            _ => ended = None,
        }
    }
    if whole {
        ended.or(end)
    } else {
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, whole: bool) -> Option<&str> {
        last_sentence_end(text, whole).map(|end| &text[..end])
    }

    #[test]
    fn the_last_complete_sentence_is_found() {
        for (text, open, closed) in [
            ("One. Two", Some("One."), Some("One.")),
            ("One. Two.", Some("One."), Some("One. Two.")),
            ("Is it 3.14? It", Some("Is it 3.14?"), Some("Is it 3.14?")),
            ("He said \"no.\" Then", Some("He said \"no.\""), Some("He said \"no.\"")),
            ("(Yes!) and", Some("(Yes!)"), Some("(Yes!)")),
            ("Steps:\n1. Open it.\n2. ", Some("Steps:\n1. Open it."), Some("Steps:\n1. Open it.")),
            ("Steps:\n1. Open it.\n2.", Some("Steps:\n1. Open it."), Some("Steps:\n1. Open it.")),
            ("- a list\n- of thi", Some("- a list"), Some("- a list")),
            ("終わり。次は", Some("終わり。"), Some("終わり。")),
            ("no end", None, None),
            ("", None, None),
            ("end!", None, Some("end!")),
            ("a.b", None, None),
        ] {
            assert_eq!((cut(text, false), cut(text, true)), (open, closed), "{text:?}");
        }
    }
}
