//! Estimated tokens, for models whose vocabulary is not here.
//!
//! The rule: a run of letters and digits counts one token for every four bytes (UTF-8) begun, every other character but white
//! space counts one. For English that is 10 to 30 % more than the vocabularies of today need, so that what is cut or
//! packed by it fits. Like real tokens, these have places in the text, which is what texts are cut by.

use pg_rag_protocol::message::{ChatMessage, TokenizedText};

/// Bytes of letters that count as a token.
const TOKEN_BYTES: usize = 4;

/// What a message costs beside its text: its role and the marks around it.
const MESSAGE_TOKENS: usize = 4;

/// What a conversation costs beside its messages.
const CONVERSATION_TOKENS: usize = 3;

/// The estimated tokens of a text. Their ids are all 0: nobody knows them.
pub fn tokens(text: &str) -> TokenizedText {
    let mut found = TokenizedText::default();
    // Where the token begins that goes on.
    let mut open: Option<usize> = None;
    let end_open = |open: &mut Option<usize>, end: usize, found: &mut TokenizedText| {
        if let Some(start) = open.take() {
            push(found, start, end);
        }
    };
    for (at, character) in text.char_indices() {
        let end = at + character.len_utf8();
        if !character.is_alphanumeric() {
            end_open(&mut open, at, &mut found);
            if !character.is_whitespace() {
                push(&mut found, at, end);
            }
            continue;
        }
        match open {
            Some(start) if end - start <= TOKEN_BYTES => {}
            _ => {
                end_open(&mut open, at, &mut found);
                open = Some(at);
            }
        }
    }
    end_open(&mut open, text.len(), &mut found);
    found
}

fn push(found: &mut TokenizedText, start: usize, end: usize) {
    found.ids.push(0);
    found.starts.push(u32::try_from(start).unwrap_or(u32::MAX));
    found.ends.push(u32::try_from(end).unwrap_or(u32::MAX));
}

/// The estimated tokens of a conversation that is asked to go on.
pub fn conversation(messages: &[ChatMessage]) -> usize {
    let of = |message: &ChatMessage| MESSAGE_TOKENS + tokens(&message.content).ids.len();
    CONVERSATION_TOKENS + messages.iter().map(of).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pieces(text: &str) -> Vec<&str> {
        let tokens = tokens(text);
        tokens.starts.iter().zip(&tokens.ends).map(|(start, end)| &text[*start as usize..*end as usize]).collect()
    }

    #[test]
    fn the_rule() {
        assert_eq!(pieces("Partial indexes, 12345!"), ["Part", "ial", "inde", "xes", ",", "1234", "5", "!"]);
        assert_eq!(pieces("Größe"), ["Grö", "ße"]);
        assert_eq!(pieces("индекс"), ["ин", "де", "кс"]);
        assert_eq!(pieces("数据库。"), ["数", "据", "库", "。"]);
        assert_eq!(pieces(" \n\t"), [""; 0]);
    }

    proptest! {
        #[test]
        fn tokens_are_in_order_and_leave_out_white_space_only(text in "\\PC{0,60}") {
            let tokens = tokens(&text);
            let mut last = 0;
            let mut kept = String::new();
            for (start, end) in tokens.starts.iter().zip(&tokens.ends) {
                let (start, end) = (*start as usize, *end as usize);
                prop_assert!(start >= last && end > start);
                prop_assert!(text[last..start].chars().all(char::is_whitespace));
                kept.push_str(&text[start..end]);
                last = end;
            }
            prop_assert!(text[last..].chars().all(char::is_whitespace));
            prop_assert_eq!(kept, text.split_whitespace().collect::<String>());
        }
    }
}
