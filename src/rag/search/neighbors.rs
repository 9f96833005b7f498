//! Found chunks with the chunks of the same row before and after them.
//!
//! A chunk is given to one hit only, the best that reaches it, so no text is returned twice but what neighbouring chunks
//! repeat of one another.

use super::statements::Statements;
use super::Hit;
use crate::error::Result;
use pg_rag_engine::neighbors::{joined, Piece};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Extends each hit by up to `reach` chunks on both sides. Who may not see a row does not get its neighbours: they are read
/// as the hits are.
pub fn extend(statements: &Statements<'_>, hits: &mut [Hit], reach: i32) -> Result<()> {
    let mut around: HashMap<i64, BTreeMap<i32, Piece>> = HashMap::new();
    for (hit, seq, piece) in statements.around(hits.iter().map(|hit| hit.chunk_id).collect(), reach)? {
        around.entry(hit).or_default().insert(seq, piece);
    }
    let place = |hit: &Hit, seq: i32| (hit.source_key.to_string(), seq);
    let mut given: HashSet<(String, i32)> = hits.iter().map(|hit| place(hit, hit.chunk_seq)).collect();
    for hit in hits {
        let Some(mut pieces) = around.remove(&hit.chunk_id) else { continue };
        let is_free = |seq: &i32| pieces.contains_key(seq) && !given.contains(&place(hit, *seq));
        let first = (1..=reach).map(|step| hit.chunk_seq - step).take_while(is_free).last();
        let last = (1..=reach).map(|step| hit.chunk_seq + step).take_while(is_free).last();
        let window = first.unwrap_or(hit.chunk_seq)..=last.unwrap_or(hit.chunk_seq);
        let own = (hit.chunk_seq - window.start()) as usize;
        given.extend(window.clone().map(|seq| place(hit, seq)));
        let pieces: Vec<Piece> = window.filter_map(|seq| pieces.remove(&seq)).collect();
        if own >= pieces.len() {
            continue; // the chunk itself is gone: deleted by this very session, since all statements share a snapshot
        }
        let whole = joined(&pieces, own);
        hit.chunk = whole.text;
        (hit.char_start, hit.char_end) = (whole.chars.start as i32, whole.chars.end as i32);
    }
    Ok(())
}
