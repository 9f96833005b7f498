//! Where a decoder's passes run: on the processor ([`super::forward`]) or on a device ([`super::accelerated`]).
//!
//! Called by [`super::generation`], which is the same for both. A decoder on a device keeps the mapped weights, too: its
//! embeddings are looked up there, and its adapters are made there.

use super::accelerated::{self, AcceleratedCache};
use super::forward::{self, Abandoned};
use super::kv_cache::KvCache;
use super::Decoder;
use crate::compute::Pool;
use crate::error::{ModelError, Result};

/// Keys and values of a sequence, where its model computes.
pub enum Cache {
    Processor(KvCache),
    Device(AcceleratedCache),
}

impl Cache {
    /// Positions filled.
    pub fn len(&self) -> usize {
        match self {
            Self::Processor(cache) => cache.len(),
            Self::Device(cache) => cache.len(),
        }
    }

    /// Forgets all positions from `len` on.
    pub fn rollback(&mut self, len: usize) {
        match self {
            Self::Processor(cache) => cache.rollback(len),
            Self::Device(cache) => cache.rollback(len),
        }
    }
}

/// A sequence's part in a pass, as [`forward::Run`].
pub struct Part<'a> {
    pub cache: &'a mut Cache,
    pub tokens: &'a [u32],
    pub wanted: usize,
}

impl Decoder {
    /// Room for a sequence of `capacity` tokens. Errors: `OutOfMemory`.
    pub(super) fn new_cache(&self, capacity: usize) -> Result<Cache> {
        let config = &self.network.config;
        Ok(match self.accelerated {
            None => Cache::Processor(KvCache::new(config, capacity)?),
            Some(_) => Cache::Device(AcceleratedCache::new(config, capacity)),
        })
    }

    /// Most tokens of a prompt that a pass reads.
    pub(super) fn slice_tokens(&self) -> usize {
        match self.accelerated {
            None => forward::SLICE_TOKENS,
            Some(_) => accelerated::SLICE_TOKENS,
        }
    }

    /// As [`forward::Network::pass`], wherever this model computes.
    ///
    /// Errors: those of a device; caches are as they were.
    pub(super) fn pass(
        &self,
        pool: &Pool,
        parts: &mut [Part],
        logits: &mut Vec<f32>,
        abandoned: Abandoned<'_>,
    ) -> Result<bool> {
        // Caches are made by the model that their sequence is of, so this is a bug.
        let elsewhere = || ModelError::Internal("a sequence that was begun elsewhere".into());
        if let Some(network) = &self.accelerated {
            let mut runs = Vec::with_capacity(parts.len());
            for Part { cache, tokens, wanted } in parts.iter_mut() {
                let Cache::Device(cache) = &mut **cache else { return Err(elsewhere()) };
                runs.push(accelerated::Run { cache, tokens, wanted: *wanted });
            }
            return network.pass(&mut runs, logits, abandoned);
        }
        let mut runs = Vec::with_capacity(parts.len());
        for Part { cache, tokens, wanted } in parts.iter_mut() {
            let Cache::Processor(cache) = &mut **cache else { return Err(elsewhere()) };
            runs.push(forward::Run { cache, tokens, wanted: *wanted });
        }
        Ok(self.network.pass(pool, &mut runs, logits, abandoned))
    }
}
