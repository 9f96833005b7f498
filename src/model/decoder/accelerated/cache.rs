//! Keys and values of a sequence, on the device.

use super::super::config::Config;
use crate::error::{ModelError, Result};
use candle_core::{DType, Device, Tensor};

/// Positions that there is room for at first.
const FIRST_POSITIONS: usize = 512;

/// Keys and values as f16, of each layer in two tensors of `[positions, heads, dimensions]`.
///
/// Room is made when it is needed, twice as much each time, up to what was asked for: an answer without a limit may fill the
/// whole context, and hardly ever does, and a device takes memory for zeros, too.
pub struct AcceleratedCache {
    layers: Vec<[Tensor; 2]>,
    layer_count: usize,
    kv_heads: usize,
    head_dim: usize,
    /// Positions that there is room for.
    room: usize,
    /// Most positions.
    capacity: usize,
    /// Positions filled in every layer.
    len: usize,
    long: bool,
}

impl AcceleratedCache {
    pub fn new(config: &Config, capacity: usize) -> Self {
        Self {
            layers: Vec::new(),
            layer_count: config.layers.len(),
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            room: 0,
            capacity,
            len: 0,
            long: config.long_from().is_some_and(|most| capacity > most),
        }
    }

    /// Positions filled.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether positions are rotated by the long table of models that have two.
    pub fn is_long(&self) -> bool {
        self.long
    }

    /// Makes room for `count` positions behind those that are filled.
    ///
    /// Errors: `OutOfMemory`; `Internal` for more than were asked for in the beginning.
    pub fn reserve(&mut self, device: &Device, count: usize) -> Result<()> {
        let needed = self.len + count;
        if needed > self.capacity {
            return Err(ModelError::Internal(format!("the cache has no room for {count} more tokens")));
        }
        if needed <= self.room {
            return Ok(());
        }
        let room = needed.max(2 * self.room).max(FIRST_POSITIONS).min(self.capacity);
        let mut layers = Vec::with_capacity(self.layer_count);
        for layer in 0..self.layer_count {
            let grown =
                || -> Result<Tensor> { Ok(Tensor::zeros((room, self.kv_heads, self.head_dim), DType::F16, device)?) };
            let pair = [grown()?, grown()?];
            if let Some(old) = self.layers.get(layer) {
                for (old, new) in old.iter().zip(&pair) {
                    new.slice_set(old, 0, 0)?;
                }
            }
            layers.push(pair);
        }
        (self.layers, self.room) = (layers, room);
        Ok(())
    }

    /// Puts keys and values, `[tokens, heads, dimensions]`, behind the filled positions of a layer.
    pub fn store(&self, layer: usize, keys: &Tensor, values: &Tensor) -> Result<()> {
        for (all, new) in self.layers[layer].iter().zip([keys, values]) {
            all.slice_set(new, 0, self.len)?;
        }
        Ok(())
    }

    /// Keys and values of a layer at `count` positions from `start` on, as f32: `[heads, positions, dimensions]`.
    pub fn read(&self, layer: usize, start: usize, count: usize) -> Result<[Tensor; 2]> {
        let [keys, values] = &self.layers[layer];
        let part = |all: &Tensor| -> Result<Tensor> {
            Ok(all.narrow(0, start, count)?.transpose(0, 1)?.to_dtype(DType::F32)?)
        };
        Ok([part(keys)?, part(values)?])
    }

    /// Counts `count` positions as filled, after [`AcceleratedCache::store`] in every layer.
    pub fn advance(&mut self, count: usize) {
        self.len += count;
    }

    /// Forgets all positions from `len` on.
    pub fn rollback(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accelerator::testing::device;

    /// Keys of `count` positions from `first` on, each with its number; values are their negatives.
    fn numbered(first: usize, count: usize) -> [Tensor; 2] {
        let numbers: Vec<f32> = (first * 6..(first + count) * 6).map(|at| (at / 6) as f32).collect();
        let keys = Tensor::from_vec(numbers, (count, 2, 3), &device()).unwrap().to_dtype(DType::F16).unwrap();
        let values = keys.neg().unwrap();
        [keys, values]
    }

    fn fill(cache: &mut AcceleratedCache, count: usize) {
        cache.reserve(&device(), count).unwrap();
        let [keys, values] = numbered(cache.len(), count);
        for layer in 0..2 {
            cache.store(layer, &keys, &values).unwrap();
        }
        cache.advance(count);
    }

    #[test]
    fn room_grows_and_keeps_what_is_there() {
        let mut cache = AcceleratedCache::new(&Config::plain(2, 4, 2, 3), 1500);
        fill(&mut cache, 500);
        assert_eq!((cache.room, cache.len()), (512, 500));
        fill(&mut cache, 100);
        assert_eq!(cache.room, 1024);
        fill(&mut cache, 900);
        assert_eq!((cache.room, cache.len()), (1500, 1500));
        for layer in 0..2 {
            let [keys, values] = cache.read(layer, 480, 700).unwrap();
            assert_eq!(keys.dims(), [2, 700, 3]);
            let (keys, values) = (keys.to_vec3::<f32>().unwrap(), values.to_vec3::<f32>().unwrap());
            for (head, at) in [(0, 0), (1, 19), (0, 20), (1, 120), (1, 699)] {
                assert_eq!((keys[head][at][2], values[head][at][0]), (480.0 + at as f32, -480.0 - at as f32));
            }
        }
        assert!(matches!(cache.reserve(&device(), 1), Err(ModelError::Internal(_))));
    }

    #[test]
    fn forgotten_positions_are_written_anew() {
        let mut cache = AcceleratedCache::new(&Config::plain(2, 4, 2, 3), 40);
        fill(&mut cache, 20);
        cache.rollback(7);
        cache.rollback(9);
        assert_eq!(cache.len(), 7);
        cache.reserve(&device(), 3).unwrap();
        let [keys, values] = numbered(30, 3);
        cache.store(1, &keys, &values).unwrap();
        cache.advance(3);
        let [keys, _] = cache.read(1, 6, 4).unwrap();
        let firsts: Vec<f32> = keys.to_vec3::<f32>().unwrap()[0].iter().map(|position| position[0]).collect();
        assert_eq!(firsts, [6.0, 30.0, 31.0, 32.0]);
    }
}
