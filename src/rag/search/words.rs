//! The chunks that have the words of a question, by BM25.
//!
//! How many chunks have a word is estimated from PostgreSQL's statistics of the column, and counted among the chunks that
//! are read. The statistics are of all rows: whoever is under row security does not get to know them, not even by the
//! order of results, and ranks by what can be seen.

use super::statements::Statements;
use super::Scored;
use crate::error::{OrError, Result};
use crate::pg::statistics;
use crate::rag::catalog::Index;
use crate::rag::lexemes::{self, decode};
use pg_rag_engine::lexical::bm25;
use pg_rag_engine::lexical::terms::{self, Term};
use pgrx::pg_sys;
use pgrx::prelude::*;

/// About as many chunks are read and ranked.
const RANKED_CHUNKS: f64 = 2_000.0;
/// Never more.
const MOST_CHUNKS: i64 = 10_000;
/// Words of a question that count: a question that is a text of its own has its first ones.
const MOST_WORDS: usize = 64;

/// What is known of a word.
struct Word {
    text: String,
    /// How many chunks have it, by the statistics; None where they do not have it, or may not be seen.
    rows: Option<f64>,
}

/// The best chunks by the words of the question, with their BM25 scores, best first.
pub fn best(index: &Index, statements: &Statements<'_>, question: &str, limit: usize) -> Result<Vec<Scored>> {
    let (words, chunks) = words_of(index, question)?;
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let terms: Vec<Term> = words.iter().map(|word| Term { rows: word.rows.unwrap_or(0.0) }).collect();
    let selecting = terms::selecting(&terms, RANKED_CHUNKS);
    let query: Vec<String> = selecting.iter().map(|&at| quoted(&words[at].text)).collect();
    // Where all rows may be known, only the best are looked for in the source table.
    let ranks_all = chunks.is_some() && !statements.has_condition();
    let found = statements.having(&query.join(" | "), MOST_CHUNKS, ranks_all)?;

    // By chunk: how often it has each word, and its length.
    let mut counts = Vec::with_capacity(found.len());
    for (id, bytes) in &found {
        let (mut length, mut of_words) = (0u32, vec![0u32; words.len()]);
        lexemes::for_each(bytes, |lexeme| {
            length += lexeme.count;
            if let Some(at) = words.iter().position(|word| word.text.as_bytes() == lexeme.text) {
                of_words[at] = lexeme.count;
            }
        })?;
        counts.push((*id, f64::from(length), of_words));
    }
    let mean_length = counts.iter().map(|(_, length, _)| length).sum::<f64>() / counts.len().max(1) as f64;
    let weight = |at: usize| {
        let seen = counts.iter().filter(|(_, _, counts)| counts[at] > 0).count() as f64;
        bm25::idf(chunks.unwrap_or(0.0).max(counts.len() as f64), words[at].rows.unwrap_or(0.0).max(seen))
    };
    let weights: Vec<f64> = (0..words.len()).map(weight).collect();
    let mut scored: Vec<Scored> = counts
        .iter()
        .map(|(id, length, counts)| {
            (*id, bm25::score(weights.iter().copied().zip(counts.iter().copied()), *length, mean_length))
        })
        .collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if ranks_all {
        scored = visible(statements, &scored, limit)?;
    }
    scored.truncate(limit);
    Ok(scored)
}

/// The first of these chunks, `limit` if there are so many, that belong to rows of the source.
fn visible(statements: &Statements<'_>, scored: &[Scored], limit: usize) -> Result<Vec<Scored>> {
    let mut found = Vec::new();
    for some in scored.chunks(limit.max(1)) {
        let visible = statements.visible(some.iter().map(|&(id, _)| id).collect())?;
        found.extend(some.iter().filter(|(id, _)| visible.contains(id)));
        if found.len() >= limit {
            break;
        }
    }
    Ok(found)
}

/// The lexemes of a question, and about how many chunks there are, if that may be known.
fn words_of(index: &Index, question: &str) -> Result<(Vec<Word>, Option<f64>)> {
    let bytes = lexemes::of_texts(&index.fts_config, vec![question.to_owned()])?.concat();
    let texts: Vec<String> = decode(&bytes)?
        .iter()
        .take(MOST_WORDS)
        .map(|lexeme| String::from_utf8_lossy(lexeme.text).into_owned())
        .collect();
    let Some((table, chunks)) = readable_table(index)? else {
        return Ok((texts.into_iter().map(|text| Word { rows: None, text }).collect(), None));
    };
    let shares = statistics::frequencies(table, c"lexemes", &texts);
    let rows = |text: &String| shares.get(text).map(|share| share * chunks);
    Ok((texts.into_iter().map(|text| Word { rows: rows(&text), text }).collect(), Some(chunks)))
}

/// The chunk table, and about how many rows it has; None where that is not known, or nobody's business: under row security
/// of this table or of the source.
fn readable_table(index: &Index) -> Result<Option<(pg_sys::Oid, f64)>> {
    Spi::connect(|client| {
        let query = "SELECT c.oid, c.reltuples::pg_catalog.float8 FROM pg_catalog.pg_class c
              WHERE c.oid OPERATOR(pg_catalog.=) $1::pg_catalog.regclass AND c.reltuples OPERATOR(pg_catalog.>) 0
                AND NOT pg_catalog.row_security_active(c.oid) AND NOT pg_catalog.row_security_active($2)";
        let rows = client.select(query, None, &[index.chunks.as_str().into(), index.source_oid.into()]).or_error()?;
        let mut found = rows.into_iter().map(|row| {
            let table = row.get::<pg_sys::Oid>(1).or_error()?;
            Ok(table.zip(row.get::<f64>(2).or_error()?))
        });
        found.next().unwrap_or(Ok(None))
    })
}

/// A lexeme as `tsquery` reads it.
fn quoted(lexeme: &str) -> String {
    format!("'{}'", lexeme.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(any(test, feature = "pg_test"))]
#[pg_schema]
mod tests {
    use super::quoted;
    use pgrx::prelude::*;

    #[pg_test]
    fn any_lexeme_is_read_back() {
        for lexeme in ["cat", "o'brien", "back\\slash", "a & b | !c", "<->", "ü:*A"] {
            let read = Spi::get_one_with_args::<String>("SELECT $1::tsquery::text", &[quoted(lexeme).into()]);
            assert_eq!(read, Ok(Some(quoted(lexeme))));
        }
    }
}
