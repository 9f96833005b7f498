//! Causal attention of the tokens of a pass over their sequences' caches, which hold their keys and values already.
//!
//! The work is cut into tiles: some rows (query heads of neighbouring tokens that share a key head). Where there are too
//! few tiles to keep the threads busy, which is so for single tokens, a tile is cut into the spans of positions as well.

use super::config::Config;
use super::forward::Run;
use crate::compute::cached_attention::{attend_span, Level, Partial, Row, ROWS, SPAN};
use crate::compute::parts::Chunks;
use crate::compute::Pool;
use std::cell::RefCell;

/// Scores below which a pass is computed on one thread.
const WORTH_A_HAND_OVER: usize = 600;

thread_local! {
    /// Partial results of the tile that a thread works on.
    static PARTIALS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Some rows of a run that attend to one key head.
#[derive(Clone, Copy)]
struct Tile {
    run: usize,
    head: usize,
    /// The first row; row `r` is query head `r % group` of the head's group, of token `r / group` of the run.
    row: usize,
    rows: usize,
    /// Positions that the first row does not see because its window begins later.
    hidden: usize,
    /// Positions up to the last one that the last row sees.
    visible: usize,
    /// The run's first token in the pass.
    token: usize,
}

impl Tile {
    /// The first span that a row sees.
    fn first_span(&self) -> usize {
        self.hidden / SPAN
    }

    /// Spans from that one to the last that a row sees.
    fn spans(&self) -> usize {
        self.visible.div_ceil(SPAN) - self.first_span()
    }
}

/// What stays between passes.
#[derive(Default)]
pub struct Scratch {
    tiles: Vec<Tile>,
    /// A chunk of equal length for each tile, or each span of each tile.
    results: Vec<f32>,
}

/// Attention in layer `layer`. Row `i` of the queries is `queries[i * stride..][..heads * head_dim]`, already multiplied
/// by the scale of the scores; the rows of the runs follow each other. `out` is `tokens × heads × head_dim`.
#[allow(clippy::too_many_arguments)]
pub fn attend(
    pool: &Pool,
    config: &Config,
    runs: &[Run],
    layer: usize,
    queries: &[f32],
    stride: usize,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let level = Level::best();
    let (head_dim, window) = (config.head_dim, config.layers[layer].window);
    plan(config, level, runs, window, &mut scratch.tiles);
    let Scratch { tiles, results } = scratch;
    let dimensions = runs.first().map_or(0, |run| run.cache.head(layer, 0).dimensions);
    let partial = Partial::len(dimensions);
    let most_spans = tiles.iter().map(|tile| tile.spans()).max().unwrap_or(0);
    // Tiles with many spans are begun first, so that no thread is left with a large one in the end; see `plan`.
    let by_span = tiles.len() < 4 * pool.threads() && most_spans > 1;
    let chunk = ROWS * partial;
    let chunks = if by_span { tiles.len() * most_spans } else { tiles.len() };
    results.resize(chunks * chunk, 0.0);
    let span_of = |tile: &Tile, span: usize, partials: &mut [f32]| {
        let run = &runs[tile.run];
        let mut rows = [Row::default(); ROWS];
        for (r, row) in rows[..tile.rows].iter_mut().enumerate() {
            let (token, head) = ((tile.row + r) / config.group(), (tile.row + r) % config.group());
            let query = &queries[(tile.token + token) * stride + (tile.head * config.group() + head) * head_dim..];
            let visible = run.cache.len() + token + 1;
            *row = Row { query, first: window.map_or(0, |window| visible.saturating_sub(window)), visible };
        }
        let span = tile.first_span() + span;
        attend_span(level, run.cache.head(layer, tile.head), span, config.score_cap, &rows[..tile.rows], partials);
    };
    let work = |index: usize, result: &mut [f32]| {
        if by_span {
            let tile = &tiles[index / most_spans];
            if index % most_spans < tile.spans() {
                span_of(tile, index % most_spans, &mut result[..tile.rows * partial]);
            }
            return;
        }
        let tile = &tiles[index];
        let result = &mut result[..tile.rows * partial];
        result.chunks_exact_mut(partial).for_each(|total| Partial(total).clear());
        PARTIALS.with_borrow_mut(|partials| {
            partials.resize(tile.rows * partial, 0.0);
            for span in 0..tile.spans() {
                span_of(tile, span, partials);
                for (total, partial) in result.chunks_exact_mut(partial).zip(partials.chunks_exact(partial)) {
                    Partial(total).add(partial);
                }
            }
        });
    };
    let scores: usize = tiles.iter().map(|tile| tile.rows * (tile.visible - tile.hidden)).sum();
    if scores < WORTH_A_HAND_OVER {
        results.chunks_exact_mut(chunk).enumerate().for_each(|(index, result)| work(index, result));
    } else {
        pool.for_parts(Chunks::new(results, chunk), work);
    }
    for (index, tile) in tiles.iter().enumerate() {
        let spans = if by_span { most_spans } else { 1 };
        let (total, later) = results[index * spans * chunk..(index + 1) * spans * chunk].split_at_mut(chunk);
        for r in 0..tile.rows {
            let mut total = Partial(&mut total[r * partial..(r + 1) * partial]);
            if by_span {
                for later in later.chunks_exact(chunk).take(tile.spans() - 1) {
                    total.add(&later[r * partial..(r + 1) * partial]);
                }
            }
            let (token, head) = ((tile.row + r) / config.group(), (tile.row + r) % config.group());
            let at = ((tile.token + token) * config.heads + tile.head * config.group() + head) * head_dim;
            total.finish(&mut out[at..at + head_dim]);
        }
    }
}

/// Cuts the runs into tiles, those that see the most first.
fn plan(config: &Config, level: Level, runs: &[Run], window: Option<usize>, tiles: &mut Vec<Tile>) {
    tiles.clear();
    let mut token = 0;
    for (index, run) in runs.iter().enumerate() {
        let rows = run.tokens.len() * config.group();
        for row in (0..rows).step_by(level.rows()) {
            let count = level.rows().min(rows - row);
            let visible = run.cache.len() + (row + count - 1) / config.group() + 1;
            let first_sees = run.cache.len() + row / config.group() + 1;
            let hidden = window.map_or(0, |window| first_sees.saturating_sub(window));
            for head in 0..config.kv_heads {
                tiles.push(Tile { run: index, head, row, rows: count, hidden, visible, token });
            }
        }
        token += run.tokens.len();
    }
    tiles.sort_by_key(|tile| std::cmp::Reverse(tile.visible - tile.hidden));
}
