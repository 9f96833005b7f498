//! Causal attention of the tokens of a pass over their sequences' caches, on the device.
//!
//! Sequences attend one after the other, each with all its heads at once. Query heads that share a head of keys are rows of
//! one product with it, so keys and values are not repeated.

use super::super::config::Config;
use super::Run;
use crate::error::Result;
use candle_core::{Device, Tensor};
use candle_nn::ops::softmax_last_dim;

/// The positions that a run's tokens see in layers of one kind.
pub struct View {
    /// The first of them.
    start: usize,
    count: usize,
    /// `[tokens, count]`: zero where a token sees a position, else minus infinity; None where all see all.
    mask: Option<Tensor>,
}

/// What the runs see through a window of `window` positions, or without one. One for each run.
pub fn views(device: &Device, runs: &[Run], window: Option<usize>) -> Result<Vec<View>> {
    runs.iter().map(|run| View::new(device, run.cache.len(), run.tokens.len(), window)).collect()
}

impl View {
    /// Of `tokens` tokens behind `first` positions, before they are counted as filled.
    fn new(device: &Device, first: usize, tokens: usize, window: Option<usize>) -> Result<Self> {
        let end = first + tokens;
        // What the first token does not see any more, no later one does.
        let start = window.map_or(0, |window| (first + 1).saturating_sub(window));
        let count = end - start;
        if tokens == 1 {
            return Ok(Self { start, count, mask: None });
        }
        // Positions are exact in f32: no context is that long.
        let numbers = |range: std::ops::Range<usize>| Tensor::arange(range.start as f32, range.end as f32, device);
        let (queries, keys) = (numbers(first..end)?.unsqueeze(1)?, numbers(start..end)?.unsqueeze(0)?);
        let mut visible = keys.broadcast_le(&queries)?;
        if let Some(window) = window {
            let last_hidden = queries.affine(1.0, -(window as f64))?;
            visible = (visible * keys.broadcast_gt(&last_hidden)?)?;
        }
        let everywhere = |number: f32| Tensor::full(number, (tokens, count), device);
        let mask = visible.where_cond(&everywhere(0.0)?, &everywhere(f32::NEG_INFINITY)?)?;
        Ok(Self { start, count, mask: Some(mask) })
    }
}

/// Attention in layer `layer`: `[tokens, heads · dimensions]`. `queries` are `[tokens, heads, dimensions]`, already
/// multiplied by the scale of the scores; the caches hold the keys and values of the tokens.
pub fn attend(config: &Config, runs: &[Run], layer: usize, views: &[View], queries: &Tensor) -> Result<Tensor> {
    let mut first = 0;
    let mut outputs = Vec::with_capacity(runs.len());
    for (run, view) in runs.iter().zip(views) {
        let tokens = run.tokens.len();
        outputs.push(attend_run(config, run, layer, view, &queries.narrow(0, first, tokens)?)?);
        first += tokens;
    }
    match outputs.as_slice() {
        [only] => Ok(only.clone()),
        outputs => Ok(Tensor::cat(outputs, 0)?),
    }
}

fn attend_run(config: &Config, run: &Run, layer: usize, view: &View, queries: &Tensor) -> Result<Tensor> {
    let Config { heads, kv_heads, head_dim, .. } = *config;
    let tokens = run.tokens.len();
    let rows = config.group() * tokens;
    let [keys, values] = run.cache.read(layer, view.start, view.count)?;
    // Neighbouring heads share a head of keys, so their rows follow each other.
    let queries = queries.transpose(0, 1)?.contiguous()?.reshape((kv_heads, rows, head_dim))?;
    let mut scores = queries.matmul(&keys.t()?)?;
    if let Some(cap) = config.score_cap {
        scores = soft_cap(&scores, cap)?;
    }
    if let Some(mask) = &view.mask {
        scores = scores.reshape((heads, tokens, view.count))?.broadcast_add(mask)?;
    }
    let weights = softmax_last_dim(&scores)?.reshape((kv_heads, rows, view.count))?;
    let attended = weights.matmul(&values)?.reshape((heads, tokens, head_dim))?;
    Ok(attended.transpose(0, 1)?.reshape((tokens, heads * head_dim))?)
}

/// `cap · tanh(numbers / cap)`
pub fn soft_cap(numbers: &Tensor, cap: f32) -> Result<Tensor> {
    let cap = f64::from(cap);
    Ok(numbers.affine(1.0 / cap, 0.0)?.tanh()?.affine(cap, 0.0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accelerator::testing::device;

    #[test]
    fn tokens_see_what_is_before_them_and_in_their_window() {
        for (first, tokens, window) in [
            (0, 1, None),
            (0, 5, None),
            (3, 4, None),
            (9, 1, Some(4)),
            (2, 6, Some(4)),
            (20, 3, Some(1)),
            (0, 3, Some(9)),
        ] {
            let view = View::new(&device(), first, tokens, window).unwrap();
            assert_eq!(view.start + view.count, first + tokens);
            let mask = match &view.mask {
                Some(mask) => mask.to_vec2::<f32>().unwrap(),
                None => vec![vec![0.0; view.count]; tokens],
            };
            for (token, mask) in mask.iter().enumerate() {
                let own = first + token;
                for position in 0..first + tokens {
                    let seen = position >= view.start && mask[position - view.start] == 0.0;
                    let wanted = position <= own && window.is_none_or(|window| position + window > own);
                    assert_eq!(seen, wanted, "token {own}, position {position}, window {window:?}");
                }
            }
        }
    }
}
