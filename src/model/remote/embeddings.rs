//! Vectors: `POST /embeddings`.
//!
//! The answer must have exactly one vector for each text, each with its place, of the registered length and of finite
//! numbers; the places decide the order. A vector may come as an array or as base64 of little-endian floats.

use super::client::Client;
use super::error::RemoteError;
use super::options::RemoteOptions;
use base64::Engine;
use pg_rag_protocol::message::Purpose;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::Deserialize;
use serde_json::{json, Map};
use std::fmt;

/// Vectors of one request of the database, in the order of its texts.
pub struct Vectors {
    pub values: Vec<f32>,
    /// As the server counts them; 0 where it does not.
    pub tokens: u64,
}

/// The vectors of `texts`, in as many HTTP requests as they need. `dimensions` is the registered length; None to take any.
pub fn embed(
    client: &Client,
    options: &RemoteOptions,
    texts: &[String],
    purpose: Purpose,
    dimensions: Option<u32>,
) -> Result<Vectors, RemoteError> {
    let prefix = match purpose {
        Purpose::Query => &options.query_prefix,
        Purpose::Passage => &options.passage_prefix,
    };
    let mut vectors = Vectors { values: Vec::new(), tokens: 0 };
    for batch in texts.chunks(options.batch.max(1)) {
        let input: Vec<String> = batch.iter().map(|text| format!("{prefix}{text}")).collect();
        let mut body = Map::new();
        body.insert("model".to_owned(), json!(options.model));
        body.insert("input".to_owned(), json!(input));
        if options.base64 {
            body.insert("encoding_format".to_owned(), json!("base64"));
        }
        if let (true, Some(dimensions)) = (options.send_dimensions, options.dimensions) {
            body.insert("dimensions".to_owned(), json!(dimensions));
        }
        let answer = client.post("/embeddings", &options.body(body), true)?;
        let (values, tokens) =
            read(&answer, batch.len(), dimensions).map_err(|reason| RemoteError::protocol(client.name(), reason))?;
        vectors.values.extend(values);
        vectors.tokens = vectors.tokens.saturating_add(tokens);
    }
    Ok(vectors)
}

#[derive(Deserialize)]
struct Reply {
    data: Vec<Item>,
    usage: Option<Counts>,
}

#[derive(Deserialize)]
struct Counts {
    total_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Item {
    index: usize,
    embedding: Numbers,
}

/// Numbers in either form.
struct Numbers(Vec<f32>);

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Numbers;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an array of numbers or base64")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Numbers, A::Error> {
                let mut numbers = Vec::new();
                while let Some(number) = items.next_element::<f64>()? {
                    numbers.push(number as f32);
                }
                Ok(Numbers(numbers))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Numbers, E> {
                let bytes =
                    base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| E::custom("wrong base64"))?;
                let numbers = bytes.chunks_exact(size_of::<f32>());
                if !numbers.remainder().is_empty() {
                    return Err(E::custom("base64 of a part of a number"));
                }
                Ok(Numbers(numbers.map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// The vectors in `answer`, by their places, and the number of tokens.
fn read(answer: &[u8], count: usize, dimensions: Option<u32>) -> Result<(Vec<f32>, u64), String> {
    let reply: Reply = serde_json::from_slice(answer).map_err(|error| not_json(&error))?;
    if reply.data.len() != count {
        return Err(format!("it has {} vectors for {count} texts", reply.data.len()));
    }
    let tokens = reply.usage.and_then(|usage| usage.total_tokens).unwrap_or(0);
    let wanted = match (dimensions, reply.data.first()) {
        (Some(dimensions), _) => dimensions as usize,
        (None, Some(first)) => first.embedding.0.len(),
        (None, None) => 0,
    };
    let mut placed: Vec<Option<Vec<f32>>> = vec![None; count];
    for Item { index, embedding: Numbers(numbers) } in reply.data {
        if numbers.len() != wanted {
            return Err(format!("it has a vector with {} dimensions, not {wanted}", numbers.len()));
        }
        // A number too large for its type has become infinite.
        if !numbers.iter().all(|number| number.is_finite()) {
            return Err("it has a vector with a number that is not finite".to_owned());
        }
        match placed.get_mut(index) {
            None => return Err(format!("it has a vector at place {index} for {count} texts")),
            Some(Some(_)) => return Err(format!("it has two vectors at place {index}")),
            Some(place) => *place = Some(numbers),
        }
    }
    // As many as places, none twice: all are there.
    let values = placed.into_iter().flatten().flatten().collect();
    Ok((values, tokens))
}

/// Why bytes are not the JSON that was expected; without quoting them.
pub(super) fn not_json(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let place = format!("line {}, column {}", error.line(), error.column());
    match error.classify() {
        Category::Eof => "its JSON ends early".to_owned(),
        Category::Data => format!("its JSON has another shape ({place})"),
        Category::Syntax | Category::Io => format!("it is not JSON ({place})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(answer: &str, count: usize) -> Result<Vec<f32>, String> {
        read(answer.as_bytes(), count, Some(2)).map(|(values, _)| values)
    }

    #[test]
    fn vectors_are_put_in_their_places() {
        let answer = r#"{"data": [{"index": 1, "embedding": [3, 4e0], "object": "embedding"},
            {"embedding": "AACAPwAAAEA=", "index": 0}], "usage": {"total_tokens": 9}, "more": {}}"#;
        assert_eq!(read(answer.as_bytes(), 2, Some(2)), Ok((vec![1.0, 2.0, 3.0, 4.0], 9)));
        assert_eq!(read(br#"{"data": [{"index": 0, "embedding": [1, 2, 3]}]}"#, 1, None).unwrap().0.len(), 3);
    }

    #[test]
    fn everything_else_is_refused() {
        for (answer, count, error) in [
            ("", 1, "its JSON ends early"),
            ("{\"data\": [", 1, "its JSON ends early"),
            ("<html>", 1, "it is not JSON (line 1, column 1)"),
            ("{}", 1, "its JSON has another shape (line 1, column 2)"),
            (r#"{"data": []}"#, 1, "it has 0 vectors for 1 texts"),
            (
                r#"{"data": [{"index": 0, "embedding": [1, 2]}, {"index": 1, "embedding": [1, 2]}]}"#,
                1,
                "it has 2 vectors for 1 texts",
            ),
            (
                r#"{"data": [{"index": 0, "embedding": [1, 2]}, {"index": 0, "embedding": [1, 2]}]}"#,
                2,
                "it has two vectors at place 0",
            ),
            (r#"{"data": [{"index": 5, "embedding": [1, 2]}]}"#, 1, "it has a vector at place 5 for 1 texts"),
            (r#"{"data": [{"index": 0, "embedding": [1]}]}"#, 1, "it has a vector with 1 dimensions, not 2"),
            (
                r#"{"data": [{"index": 0, "embedding": [1, 1e300]}]}"#,
                1,
                "it has a vector with a number that is not finite",
            ),
            (
                r#"{"data": [{"index": 0, "embedding": "AADAfwAAAEA="}]}"#,
                1,
                "it has a vector with a number that is not finite",
            ),
        ] {
            assert_eq!(told(answer, count), Err(error.to_owned()), "{answer}");
        }
        for answer in [
            r#"{"data": [{"index": 0, "embedding": [1, NaN]}]}"#,
            r#"{"data": [{"index": 0, "embedding": [1, 1e999]}]}"#,
            r#"{"data": [{"index": 0, "embedding": [1, null]}]}"#,
            r#"{"data": [{"index": 0, "embedding": "AACAPwA"}]}"#,
            r#"{"data": [{"index": 0, "embedding": "?"}]}"#,
            r#"{"data": [{"index": -1, "embedding": [1, 2]}]}"#,
            r#"{"data": [{"embedding": [1, 2]}]}"#,
            r#"{"data": {"index": 0}}"#,
            &"[".repeat(100_000),
        ] {
            assert!(told(answer, 1).is_err(), "{answer}");
        }
    }
}
