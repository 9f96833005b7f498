//! Scores: `POST /rerank`, as Cohere, Jina, vLLM and llama.cpp have it.

use super::client::Client;
use super::embeddings::not_json;
use super::error::RemoteError;
use super::options::RemoteOptions;
use serde::Deserialize;
use serde_json::{json, Map};

/// How well each passage answers the query, in order, in as many HTTP requests as they need.
pub fn score(
    client: &Client,
    options: &RemoteOptions,
    query: &str,
    passages: &[String],
) -> Result<Vec<f32>, RemoteError> {
    let mut scores = Vec::new();
    for batch in passages.chunks(options.batch.max(1)) {
        let mut body = Map::new();
        body.insert("model".to_owned(), json!(options.model));
        body.insert("query".to_owned(), json!(query));
        body.insert("documents".to_owned(), json!(batch));
        // The name that TEI has for them.
        body.insert("texts".to_owned(), json!(batch));
        let answer = client.post("/rerank", &options.body(body), true)?;
        scores.extend(read(&answer, batch.len()).map_err(|reason| RemoteError::protocol(client.name(), reason))?);
    }
    Ok(scores)
}

#[derive(Deserialize)]
struct Reply {
    results: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    index: usize,
    #[serde(alias = "score")]
    relevance_score: f64,
}

fn read(answer: &[u8], count: usize) -> Result<Vec<f32>, String> {
    // TEI has the list alone.
    let items: Vec<Item> = match answer.trim_ascii_start().first() {
        Some(b'[') => serde_json::from_slice(answer).map_err(|error| not_json(&error))?,
        _ => serde_json::from_slice::<Reply>(answer).map_err(|error| not_json(&error))?.results,
    };
    if items.len() != count {
        return Err(format!("it has {} scores for {count} passages", items.len()));
    }
    let mut placed = vec![None; count];
    for Item { index, relevance_score } in items {
        let score = relevance_score as f32;
        if !score.is_finite() {
            return Err("it has a score that is not finite".to_owned());
        }
        match placed.get_mut(index) {
            Some(place @ None) => *place = Some(score),
            _ => return Err(format!("it has no place or two scores for passage {index} of {count}")),
        }
    }
    Ok(placed.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_put_in_their_places() {
        let cohere = r#"{"results": [{"index": 1, "relevance_score": 0.5, "document": {"text": "b"}}, {"index": 0, "relevance_score": -2}]}"#;
        assert_eq!(read(cohere.as_bytes(), 2), Ok(vec![-2.0, 0.5]));
        assert_eq!(read(br#"[{"index": 0, "score": 0.25}]"#, 1), Ok(vec![0.25]));
        for answer in [
            "{}",
            "[]",
            r#"[{"index": 1, "score": 0.25}]"#,
            r#"[{"index": 0, "score": 1e300}]"#,
            r#"[{"index": 0, "score": "a"}]"#,
            r#"[{"index": 0, "score": 1}, {"index": 0, "score": 1}]"#,
        ] {
            assert!(read(answer.as_bytes(), 1).is_err(), "{answer}");
        }
        assert!(read(br#"[{"index": 0, "score": 1}, {"index": 0, "score": 1}]"#, 2).is_err());
    }
}
