//! Keys and values of the tokens that a sequence has seen.

use super::config::Config;
use crate::compute::cached_attention::{Head, BLOCK, DIMENSIONS};
use crate::compute::parts::Chunks;
use crate::error::{ModelError, Result};
use half::f16;
use half::slice::HalfFloatSliceExt;
use half::vec::HalfBitsVecExt;

/// Room for a fixed number of positions, as f16. The positions of a head lie together: its values one after the other, its
/// keys in blocks of 16 positions as [`crate::compute::cached_attention`] reads them.
pub struct KvCache {
    keys: Vec<f16>,
    values: Vec<f16>,
    kv_heads: usize,
    /// Of a head, a multiple of what the kernels take at a time.
    dimensions: usize,
    /// Positions, whole blocks.
    capacity: usize,
    /// Positions filled in every layer.
    len: usize,
    /// Whether the sequence is to become so long that the model rotates by its long table.
    long: bool,
}

impl KvCache {
    /// Errors: `OutOfMemory`.
    pub fn new(config: &Config, capacity: usize) -> Result<Self> {
        let dimensions = config.head_dim.next_multiple_of(DIMENSIONS);
        let padded = capacity.checked_next_multiple_of(BLOCK);
        let factors = [config.layers.len(), config.kv_heads, dimensions];
        let long = config.long_from().is_some_and(|most| capacity > most);
        let len = padded.and_then(|padded| factors.iter().try_fold(padded, |len, &n| len.checked_mul(n)));
        let allocate = || -> Result<Vec<f16>> {
            let reason = || ModelError::OutOfMemory(format!("a sequence of {capacity} tokens is too long for it"));
            let len = len.ok_or_else(reason)?;
            // Asked for first, because the allocation below would end the process instead of failing. It comes from the
            // operating system as zeros, so positions that are never reached take no memory.
            let mut trial: Vec<u16> = Vec::new();
            trial.try_reserve_exact(len).map_err(|_| reason())?;
            drop(std::hint::black_box(trial));
            Ok(vec![0_u16; len].reinterpret_into::<f16>())
        };
        let (keys, values) = (allocate()?, allocate()?);
        let capacity = padded.unwrap_or(capacity);
        Ok(Self { keys, values, kv_heads: config.kv_heads, dimensions, capacity, len: 0, long })
    }

    /// Positions filled.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Positions that there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether positions are rotated by the long table of models that have two. It depends on the capacity that was asked
    /// for, so that all positions of a sequence are rotated alike.
    pub fn is_long(&self) -> bool {
        self.long
    }

    /// Counts `count` positions as filled, after [`HeadMut::store`] in every layer.
    pub fn advance(&mut self, count: usize) {
        assert!(self.len + count <= self.capacity, "the cache has no room for {count} more tokens");
        self.len += count;
    }

    /// Forgets all positions from `len` on.
    pub fn rollback(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Bytes of one position.
    pub fn position_bytes(config: &Config) -> usize {
        4 * config.layers.len() * config.kv_heads * config.head_dim.next_multiple_of(DIMENSIONS)
    }

    /// The heads of a layer, each for a part of a parallel loop: chunks of keys and of values.
    pub fn heads_mut(&mut self, layer: usize) -> (Chunks<'_, f16>, Chunks<'_, f16>) {
        let head = self.capacity * self.dimensions;
        let range = layer * self.kv_heads * head..(layer + 1) * self.kv_heads * head;
        (Chunks::new(&mut self.keys[range.clone()], head), Chunks::new(&mut self.values[range], head))
    }

    /// A head as attention reads it.
    pub fn head(&self, layer: usize, head: usize) -> Head<'_> {
        let len = self.capacity * self.dimensions;
        let range = (layer * self.kv_heads + head) * len..(layer * self.kv_heads + head + 1) * len;
        Head { keys: &self.keys[range.clone()], values: &self.values[range], dimensions: self.dimensions }
    }

    /// A copy of `positions` positions from `start` on, both whole blocks: of each head its keys, then its values.
    pub fn copy_out(&self, start: usize, positions: usize) -> Vec<f16> {
        let len = self.check_blocks(start, positions);
        let heads = self.keys.len() / (self.capacity * self.dimensions).max(1);
        let mut out = Vec::with_capacity(2 * len * heads);
        for head in 0..heads {
            let from = (head * self.capacity + start) * self.dimensions;
            out.extend_from_slice(&self.keys[from..from + len]);
            out.extend_from_slice(&self.values[from..from + len]);
        }
        out
    }

    /// Takes what [`KvCache::copy_out`] gave, as the positions behind those that are filled.
    pub fn copy_in(&mut self, positions: usize, from: &[f16]) {
        let len = self.check_blocks(self.len, positions);
        assert_eq!(from.len(), 2 * len * self.keys.len() / (self.capacity * self.dimensions), "not of this model");
        for (head, from) in from.chunks_exact((2 * len).max(1)).enumerate() {
            let (keys, values) = from.split_at(len);
            let to = (head * self.capacity + self.len) * self.dimensions;
            self.keys[to..to + len].copy_from_slice(keys);
            self.values[to..to + len].copy_from_slice(values);
        }
        self.advance(positions);
    }

    /// Numbers of that many positions of a head.
    fn check_blocks(&self, start: usize, positions: usize) -> usize {
        let whole = start.is_multiple_of(BLOCK) && positions.is_multiple_of(BLOCK);
        assert!(whole && start + positions <= self.capacity, "positions {start} and {positions} more are no blocks");
        positions * self.dimensions
    }
}

/// Keys and values of one head of one layer, to be written.
pub struct HeadMut<'a> {
    pub keys: &'a mut [f16],
    pub values: &'a mut [f16],
    pub head_dim: usize,
}

impl HeadMut<'_> {
    /// Stores a position's key and value (`head_dim` numbers each).
    pub fn store(&mut self, position: usize, key: &[f32], value: &[f32]) {
        let dimensions = self.head_dim.next_multiple_of(DIMENSIONS);
        self.values[position * dimensions..][..self.head_dim].convert_from_f32_slice(value);
        let block = &mut self.keys[position / BLOCK * BLOCK * dimensions..][..BLOCK * dimensions];
        let mut rounded = [f16::ZERO; DIMENSIONS];
        for (at, key) in key.chunks(DIMENSIONS).enumerate() {
            rounded[..key.len()].convert_from_f32_slice(key);
            for (d, &number) in rounded[..key.len()].iter().enumerate() {
                block[(at * DIMENSIONS + d) * BLOCK + position % BLOCK] = number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::parts::Parts;

    fn config() -> Config {
        Config::plain(2, 4, 2, 20)
    }

    fn fill(cache: &mut KvCache, positions: std::ops::Range<usize>) {
        for layer in 0..2 {
            let (keys, values) = cache.heads_mut(layer);
            for head in 0..2 {
                #[allow(unsafe_code)]
                // SAFETY: each head once.
                let (keys, values) = unsafe { (keys.part(head), values.part(head)) };
                let mut head_mut = HeadMut { keys, values, head_dim: 20 };
                for position in positions.clone() {
                    let number = |d: usize| (layer * 1000 + head * 500 + position * 10 + d) as f32;
                    let key: Vec<f32> = (0..20).map(number).collect();
                    let value: Vec<f32> = key.iter().map(|number| -number).collect();
                    head_mut.store(position, &key, &value);
                }
            }
        }
        cache.advance(positions.len());
    }

    #[test]
    fn blocks_come_back_and_positions_are_forgotten() {
        let mut cache = KvCache::new(&config(), 40).unwrap();
        assert_eq!((cache.len(), cache.capacity()), (0, 48));
        fill(&mut cache, 0..37);
        let head = cache.head(1, 1);
        assert_eq!((head.dimensions, head.keys.len()), (32, 48 * 32));
        assert_eq!(head.values[36 * 32 + 3].to_f32(), -1863.0);
        assert_eq!(head.keys[(2 * 32 + 3) * 16 + 4].to_f32(), 1863.0);
        assert_eq!(head.values[36 * 32 + 20].to_f32(), 0.0);

        let (first, second) = (cache.copy_out(0, 16), cache.copy_out(16, 16));
        assert_eq!(first.len() * 2, 16 * KvCache::position_bytes(&config()));
        let mut other = KvCache::new(&config(), 64).unwrap();
        other.copy_in(16, &first);
        other.copy_in(16, &second);
        assert_eq!(other.len(), 32);
        for (layer, at) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            assert_eq!(cache.head(layer, at).keys[..32 * 32], other.head(layer, at).keys[..32 * 32]);
            assert_eq!(cache.head(layer, at).values[..32 * 32], other.head(layer, at).values[..32 * 32]);
        }
        other.rollback(20);
        other.rollback(30);
        assert_eq!(other.len(), 20);
    }

    #[test]
    fn a_cache_that_is_too_large_is_an_error() {
        assert!(matches!(KvCache::new(&config(), usize::MAX), Err(ModelError::OutOfMemory(_))));
        assert!(matches!(KvCache::new(&config(), usize::MAX / 1000), Err(ModelError::OutOfMemory(_))));
        assert!(matches!(KvCache::new(&config(), 1 << 40), Err(ModelError::OutOfMemory(_))));
    }
}
