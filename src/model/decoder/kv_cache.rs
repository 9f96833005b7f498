//! Keys and values of the tokens that a sequence has seen.

use super::config::Config;
use crate::error::{ModelError, Result};
use half::f16;

/// Room for a fixed number of positions, as f16 in the layout `[layer][kv_head][position][head_dim]`, so that attention
/// reads the keys of a head as one run of memory.
pub struct KvCache {
    keys: Vec<f16>,
    values: Vec<f16>,
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
    /// Positions filled in every layer.
    pub len: usize,
}

impl KvCache {
    /// Errors: `OutOfMemory`.
    pub fn new(config: &Config, capacity: usize) -> Result<Self> {
        let len = [config.layers, config.kv_len()].iter().try_fold(capacity, |len, &n| len.checked_mul(n));
        let allocate = || {
            let mut numbers = Vec::new();
            let len = len.filter(|&len| numbers.try_reserve_exact(len).is_ok());
            let reason = || ModelError::OutOfMemory(format!("a sequence of {capacity} tokens is too long for it"));
            numbers.resize(len.ok_or_else(reason)?, f16::ZERO);
            Ok(numbers)
        };
        let (keys, values) = (allocate()?, allocate()?);
        Ok(Self { keys, values, kv_heads: config.kv_heads, head_dim: config.head_dim, capacity, len: 0 })
    }

    /// Bytes of a cache with room for so many positions.
    pub fn bytes(config: &Config, capacity: usize) -> u64 {
        2 * (capacity * config.layers * config.kv_len() * size_of::<f16>()) as u64
    }

    /// Stores the keys and values of one position of one layer (`kv_heads × head_dim` each).
    pub fn store(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        assert!(position < self.capacity, "position {position} is outside the cache");
        for head in 0..self.kv_heads {
            let from = head * self.head_dim;
            let to = ((layer * self.kv_heads + head) * self.capacity + position) * self.head_dim;
            for (cache, numbers) in [(&mut self.keys, keys), (&mut self.values, values)] {
                for (cell, &number) in cache[to..to + self.head_dim].iter_mut().zip(&numbers[from..]) {
                    *cell = f16::from_f32(number);
                }
            }
        }
    }

    /// Keys of positions `start..end` of one head.
    pub fn keys(&self, layer: usize, head: usize, start: usize, end: usize) -> &[f16] {
        &self.keys[self.range(layer, head, start, end)]
    }

    /// Values of positions `start..end` of one head.
    pub fn values(&self, layer: usize, head: usize, start: usize, end: usize) -> &[f16] {
        &self.values[self.range(layer, head, start, end)]
    }

    fn range(&self, layer: usize, head: usize, start: usize, end: usize) -> std::ops::Range<usize> {
        assert!(start <= end && end <= self.capacity, "positions {start} to {end} are outside the cache");
        let base = (layer * self.kv_heads + head) * self.capacity;
        (base + start) * self.head_dim..(base + end) * self.head_dim
    }
}
