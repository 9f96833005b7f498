//! Attention of the texts of a pass, each to itself, on the device.
//!
//! Linear layers see the tokens of all texts one after the other; attention sees texts of equal length, so shorter ones are
//! padded for it, and what belongs to the padding is left out again. What is added to scores depends on the distance alone
//! ([`super::super::positions::Bias`]), so it is picked from a row of numbers, and a window and causality are such rows, too.
//!
//! Long texts attend some rows at a time, so that the memory for scores has a limit.

use super::super::positions::Bias;
use crate::error::Result;
use candle_core::{DType, Device, Tensor};
use candle_nn::ops::softmax_last_dim;
use std::ops::Range;

/// Scores that are in memory at a time, unless those of one row are more.
const MOST_SCORES: usize = 1 << 27;

/// What attention in all layers of a pass has in common.
pub struct Padding {
    texts: usize,
    /// Tokens of the longest text.
    pub longest: usize,
    /// Where texts differ in length.
    uneven: Option<Uneven>,
    /// What is added to scores, for each of the model's biases; None where that is nothing.
    tables: Vec<Option<Tensor>>,
    /// The same for every pair of tokens, where all rows attend at once.
    biases: Vec<Option<Tensor>>,
    /// Rows of each text that attend at a time.
    rows: usize,
}

struct Uneven {
    /// The token for each padded place: where there is none, any.
    places: Tensor,
    /// The place of each token.
    tokens: Tensor,
    /// `[texts, 1, 1, longest]`: minus infinity where there is no token.
    mask: Tensor,
}

impl Padding {
    /// For texts of these lengths, of which one at least has a token.
    pub fn new(device: &Device, heads: usize, biases: &[Bias], lengths: &[usize]) -> Result<Self> {
        Self::with_limit(device, heads, biases, lengths, MOST_SCORES)
    }

    fn with_limit(device: &Device, heads: usize, biases: &[Bias], lengths: &[usize], scores: usize) -> Result<Self> {
        let (texts, longest) = (lengths.len(), lengths.iter().copied().max().unwrap_or(0));
        let rows = (scores / (texts * heads * longest).max(1)).clamp(1, longest.max(1));
        let table = |bias: &Bias| -> Result<Option<Tensor>> {
            let (numbers, heads) = bias.by_distance(longest - 1);
            if numbers.iter().all(|number| *number == 0.0) {
                return Ok(None);
            }
            Ok(Some(Tensor::from_vec(numbers, (heads, 2 * longest - 1), device)?))
        };
        let uneven = if lengths.iter().all(|length| *length == longest) {
            None
        } else {
            Some(Uneven::new(device, lengths, longest)?)
        };
        let tables = biases.iter().map(table).collect::<Result<Vec<_>>>()?;
        let mut padding = Self { texts, longest, uneven, tables, biases: Vec::new(), rows };
        if rows == longest {
            let whole =
                |table: &Option<Tensor>| table.as_ref().map(|table| padding.picked(table, 0..longest)).transpose();
            padding.biases = padding.tables.iter().map(whole).collect::<Result<_>>()?;
        }
        Ok(padding)
    }

    /// `[texts, longest, columns]` from `[tokens, columns]`.
    pub fn pad(&self, rows: &Tensor) -> Result<Tensor> {
        let columns = rows.dim(1)?;
        let padded = match &self.uneven {
            Some(uneven) => rows.index_select(&uneven.places, 0)?,
            None => rows.clone(),
        };
        Ok(padded.reshape((self.texts, self.longest, columns))?)
    }

    /// `[tokens, columns]` from `[texts, longest, columns]`.
    fn unpad(&self, padded: &Tensor) -> Result<Tensor> {
        let (texts, longest, columns) = padded.dims3()?;
        let rows = padded.reshape((texts * longest, columns))?;
        Ok(match &self.uneven {
            Some(uneven) => rows.index_select(&uneven.tokens, 0)?,
            None => rows,
        })
    }

    /// Attention with the model's bias `bias`: `[tokens, heads · width]`, from queries, which are scaled, keys and values, all
    /// `[texts, longest, heads, width]`.
    pub fn attend(&self, bias: Option<usize>, [queries, keys, values]: &[Tensor; 3]) -> Result<Tensor> {
        let (texts, longest, heads, width) = queries.dims4()?;
        let key_heads = keys.dim(2)?;
        let by_head = |all: &Tensor| -> Result<Tensor> { Ok(all.transpose(1, 2)?.contiguous()?) };
        let keys = by_head(keys)?.reshape((texts * key_heads, longest, width))?;
        let values = by_head(values)?.reshape((texts * key_heads, longest, width))?;
        let queries = by_head(queries)?;
        let mut parts = Vec::new();
        for first in (0..longest).step_by(self.rows) {
            let rows = first..longest.min(first + self.rows);
            let count = rows.len();
            // Neighbouring heads share a head of keys, so their rows follow each other.
            let shared = (texts * key_heads, heads / key_heads * count, width);
            let queries = queries.narrow(2, first, count)?.contiguous()?.reshape(shared)?;
            let mut scores = queries.matmul(&keys.t()?)?.reshape((texts, heads, count, longest))?;
            if let Some(addend) = self.bias(bias, rows)? {
                scores = scores.broadcast_add(&addend)?;
            }
            if let Some(Uneven { mask, .. }) = &self.uneven {
                scores = scores.broadcast_add(mask)?;
            }
            let weights = softmax_last_dim(&scores)?.reshape((shared.0, shared.1, longest))?;
            parts.push(weights.matmul(&values)?.reshape((texts, heads, count, width))?.transpose(1, 2)?);
        }
        let attended = match parts.as_slice() {
            [whole] => whole.clone(),
            parts => Tensor::cat(parts, 1)?,
        };
        self.unpad(&attended.reshape((texts, longest, heads * width))?)
    }

    /// What is added to the scores of some rows: `[1, heads or 1, rows, longest]`.
    fn bias(&self, bias: Option<usize>, rows: Range<usize>) -> Result<Option<Tensor>> {
        let Some(bias) = bias else { return Ok(None) };
        match (self.biases.get(bias), &self.tables[bias]) {
            (Some(whole), _) => Ok(whole.clone()),
            (None, Some(table)) => Ok(Some(self.picked(table, rows)?)),
            (None, None) => Ok(None),
        }
    }

    /// The numbers of a table at the distances from some queries to all keys.
    fn picked(&self, table: &Tensor, rows: Range<usize>) -> Result<Tensor> {
        let count = rows.len();
        // Positions are exact in f32: no text is that long.
        let numbers = |range: Range<usize>| Tensor::arange(range.start as f32, range.end as f32, table.device());
        let (queries, keys) = (numbers(rows)?.unsqueeze(1)?, numbers(0..self.longest)?.unsqueeze(0)?);
        let distances = keys.broadcast_sub(&queries)?.affine(1.0, self.longest as f64 - 1.0)?;
        let picked = table.index_select(&distances.to_dtype(DType::U32)?.flatten_all()?, 1)?;
        Ok(picked.reshape((1, table.dim(0)?, count, self.longest))?)
    }
}

impl Uneven {
    fn new(device: &Device, lengths: &[usize], longest: usize) -> Result<Self> {
        let (mut places, mut tokens, mut mask) = (Vec::new(), Vec::new(), Vec::new());
        let mut first = 0;
        for (text, &length) in lengths.iter().enumerate() {
            let token = |at: usize| if at < length { (first + at) as u32 } else { 0 };
            places.extend((0..longest).map(token));
            tokens.extend((0..length).map(|at| (text * longest + at) as u32));
            mask.extend((0..longest).map(|at| if at < length { 0.0 } else { f32::NEG_INFINITY }));
            first += length;
        }
        let indexes = |numbers: Vec<u32>| {
            let count = numbers.len();
            Tensor::from_vec(numbers, count, device)
        };
        let mask = Tensor::from_vec(mask, (lengths.len(), 1, 1, longest), device)?;
        Ok(Self { places: indexes(places)?, tokens: indexes(tokens)?, mask })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accelerator::testing::device;

    fn noise(shape: (usize, usize), seed: usize) -> Tensor {
        let number = |at: usize| (((at + 977 * seed) * 7919) % 2003) as f32 / 500.0 - 2.0;
        let numbers: Vec<f32> = (0..shape.0 * shape.1).map(number).collect();
        Tensor::from_vec(numbers, shape, &device()).unwrap()
    }

    /// The definition, in f64, of one text: rows of queries, keys and values of all heads.
    fn expected(rows: [&[Vec<f32>]; 3], heads: usize, key_heads: usize, bias: Option<&Bias>) -> Vec<Vec<f64>> {
        let [queries, keys, values] = rows;
        let width = queries[0].len() / heads;
        let mut all = vec![vec![0.0; heads * width]; queries.len()];
        for (query, out) in all.iter_mut().enumerate() {
            for head in 0..heads {
                let (own, shared) = (head * width, head / (heads / key_heads) * width);
                let score = |key: usize| -> f64 {
                    let products =
                        (0..width).map(|d| f64::from(queries[query][own + d]) * f64::from(keys[key][shared + d]));
                    let added = match bias {
                        Some(bias) if !bias.reaches(query, key) => f64::NEG_INFINITY,
                        Some(bias) => f64::from(bias.block(head, query, key).0[0]),
                        None => 0.0,
                    };
                    products.sum::<f64>() + added
                };
                let weights: Vec<f64> = (0..keys.len()).map(|key| score(key).exp()).collect();
                let total: f64 = weights.iter().sum();
                for d in 0..width {
                    let sum: f64 = weights.iter().zip(values).map(|(w, row)| w * f64::from(row[shared + d])).sum();
                    out[own + d] = sum / total;
                }
            }
        }
        all
    }

    #[test]
    fn texts_of_all_lengths_attend_to_themselves() {
        let (heads, key_heads, width) = (4, 2, 3);
        let biases = [Bias::of_slopes(heads, 20), Bias::of_window(2), Bias::causal(20)];
        for lengths in [&[7][..], &[5, 5, 5], &[1, 9, 4, 0, 2], &[3, 17]] {
            let count: usize = lengths.iter().sum();
            let rows = [heads, key_heads, key_heads].map(|heads| heads * width);
            let inputs = [0, 1, 2].map(|part| noise((count, rows[part]), part + 1));
            let numbers = [0, 1, 2].map(|part: usize| inputs[part].to_vec2::<f32>().unwrap());
            // All rows at once, and a few.
            for scores in [MOST_SCORES, 150] {
                let padding = Padding::with_limit(&device(), heads, &biases, lengths, scores).unwrap();
                assert_eq!(padding.rows == padding.longest, scores == MOST_SCORES);
                let padded = [0, 1, 2].map(|part: usize| {
                    let heads = rows[part] / width;
                    let all = (lengths.len(), padding.longest, heads, width);
                    padding.pad(&inputs[part]).unwrap().reshape(all).unwrap()
                });
                for bias in [None, Some(0), Some(1), Some(2)] {
                    let got = padding.attend(bias, &padded).unwrap().to_vec2::<f32>().unwrap();
                    assert_eq!(got.len(), count);
                    let mut first = 0;
                    for &length in lengths.iter().filter(|length| **length > 0) {
                        let own = [0, 1, 2].map(|part: usize| &numbers[part][first..first + length]);
                        let want = expected(own, heads, key_heads, bias.map(|bias| &biases[bias]));
                        for (got, want) in got[first..].iter().zip(want) {
                            let off = got.iter().zip(want).map(|(got, want)| (f64::from(*got) - want).abs());
                            assert!(off.fold(0.0, f64::max) < 1e-5, "{lengths:?}, bias {bias:?}, {scores} scores");
                        }
                        first += length;
                    }
                }
            }
        }
    }
}
