//! The licence of a model, as its card names it: for people to see, nothing depends on it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

const CARD: &str = "README.md";

/// What is read of a card; what matters is at its beginning.
const MOST_CARD_BYTES: u64 = 64 << 10;

const MOST_CHARS: usize = 100;

/// The licence in the card of the model in `dir`, if there is a card with one.
pub fn of_card(dir: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    let path = dir.join(CARD);
    // Opening anything else might wait.
    std::fs::metadata(&path).ok().filter(|metadata| metadata.is_file())?;
    File::open(path).ok()?.take(MOST_CARD_BYTES).read_to_end(&mut bytes).ok()?;
    of_text(&String::from_utf8_lossy(&bytes))
}

/// A name of a licence without anything that could not be shown in a table.
pub fn sound(text: &str) -> Option<String> {
    let text = text.trim();
    let short = !text.is_empty() && text.chars().count() <= MOST_CHARS;
    (short && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

/// The metadata before a card's text lie between two lines of hyphens, in YAML; the licence is a word in it.
fn of_text(card: &str) -> Option<String> {
    let mut lines = card.lines();
    if lines.next()?.trim_end() != "---" {
        return None;
    }
    let (mut license, mut name) = (None, None);
    for line in lines.take_while(|line| line.trim_end() != "---") {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
        match key {
            "license" => license = sound(value),
            "license_name" => name = sound(value),
            _ => {}
        }
    }
    match license {
        Some(other) if other == "other" => name.or(Some(other)),
        license => license,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_licence_is_read_from_the_metadata_of_a_card() {
        for (card, expected) in [
            ("---\nlanguage: en\nlicense: apache-2.0\n---\n# Model\nlicense: other", Some("apache-2.0")),
            ("---\nlicense: other\nlicense_name: \"gemma\"\n---\n", Some("gemma")),
            ("---\nlicense: other\n---\n", Some("other")),
            ("---\r\nlicense: 'mit' # as it was\r\n---\r\n", Some("mit")),
            ("---\nlicense:\n- mit\n---\n", None),
            ("license: mit", None),
            ("", None),
            ("---\nlicense: a\tb\n---\n", None),
        ] {
            assert_eq!(of_text(card).as_deref(), expected, "{card:?}");
        }
        assert_eq!(of_text(&format!("---\nlicense: {}\n---", "x".repeat(200))), None);
    }
}
