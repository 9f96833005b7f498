//! Keys and values of the beginnings of prompts, shared by the generations of a model.
//!
//! Prompts of one application begin alike: the system prompt, the template, often the question before the last one.
//! Prompts are cut into blocks of [`BLOCK_TOKENS`]; a block is known by its tokens and the block before it, so its keys
//! and values are those that any prompt with this beginning has. A generation copies the blocks that it finds and reads
//! the rest of its prompt.
//!
//! The store has a limit of bytes. The blocks used longest ago go first, the later blocks of a prompt before the earlier.

use super::config::Config;
use super::kv_cache::KvCache;
use half::f16;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Tokens per block.
pub const BLOCK_TOKENS: usize = 16;

/// Bytes of a store unless told otherwise.
pub const DEFAULT_BYTES: usize = 64 << 20;

/// The store of one model.
pub struct PrefixCache {
    inner: Mutex<Inner>,
    block_bytes: usize,
}

/// What a block is known by: the number of the block before it, or how a sequence begins, and its tokens.
type Key = (u64, [u32; BLOCK_TOKENS]);

/// What stands for the block before the first one: sequences that are rotated by the long table have other keys.
fn beginning(cache: &KvCache) -> u64 {
    if cache.is_long() {
        u64::MAX
    } else {
        0
    }
}

struct Block {
    number: u64,
    numbers: Arc<[f16]>,
    /// Larger for a later use.
    used: u64,
}

struct Inner {
    blocks: HashMap<Key, Block>,
    most_bytes: usize,
    /// The number of the next block, and of the next use.
    next: u64,
}

impl PrefixCache {
    pub fn new(config: &Config, most_bytes: usize) -> Self {
        let inner = Inner { blocks: HashMap::new(), most_bytes, next: 1 };
        Self { inner: Mutex::new(inner), block_bytes: BLOCK_TOKENS * KvCache::position_bytes(config) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here calls out, so a panic cannot leave the map half-changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the limit; 0 keeps nothing.
    pub fn set_most_bytes(&self, most_bytes: usize) {
        let mut inner = self.lock();
        inner.most_bytes = most_bytes;
        inner.shrink(most_bytes / self.block_bytes.max(1));
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.lock().blocks.len() * self.block_bytes
    }

    /// Fills the empty `cache` with the longest known beginning of `tokens`.
    pub fn copy_to(&self, tokens: &[u32], cache: &mut KvCache) {
        let found: Vec<Arc<[f16]>> = {
            let mut inner = self.lock();
            let known = inner.known(beginning(cache), tokens);
            known.iter().filter_map(|key| inner.blocks.get(key).map(|block| Arc::clone(&block.numbers))).collect()
        };
        // Copied without the lock: other generations need not wait for the memory.
        for numbers in found {
            cache.copy_in(BLOCK_TOKENS, &numbers);
        }
    }

    /// Keeps the blocks of `tokens`, whose keys and values are the first of `cache`.
    pub fn keep(&self, tokens: &[u32], cache: &KvCache) {
        let most = self.lock().most_bytes / self.block_bytes.max(1);
        let blocks = (tokens.len().min(cache.len()) / BLOCK_TOKENS).min(most);
        let tokens = &tokens[..blocks * BLOCK_TOKENS];
        let known = self.lock().known(beginning(cache), tokens).len();
        // Copied without the lock; if another generation keeps the same block meanwhile, its copy is as good.
        let copies: Vec<Arc<[f16]>> =
            (known..blocks).map(|block| cache.copy_out(block * BLOCK_TOKENS, BLOCK_TOKENS).into()).collect();
        let mut inner = self.lock();
        let (mut before, mut copies) = (beginning(cache), copies.into_iter());
        for (index, tokens) in tokens.as_chunks::<BLOCK_TOKENS>().0.iter().enumerate() {
            let copy = if index < known { None } else { copies.next() };
            before = match (inner.blocks.get(&(before, *tokens)), copy) {
                (Some(block), _) => block.number,
                (None, Some(numbers)) => inner.insert((before, *tokens), numbers),
                // It has gone meanwhile, so those behind it have nothing to follow.
                (None, None) => break,
            };
        }
        inner.known(beginning(cache), tokens);
        inner.shrink(most);
    }
}

impl Inner {
    /// Returns the number of the new block.
    fn insert(&mut self, key: Key, numbers: Arc<[f16]>) -> u64 {
        self.next += 1;
        self.blocks.insert(key, Block { number: self.next, numbers, used: self.next });
        self.next
    }

    /// The keys of the known blocks that `tokens` begin with, now used.
    fn known(&mut self, beginning: u64, tokens: &[u32]) -> Vec<Key> {
        let (mut keys, mut before) = (Vec::new(), beginning);
        for tokens in tokens.as_chunks::<BLOCK_TOKENS>().0 {
            let key = (before, *tokens);
            let Some(block) = self.blocks.get(&key) else { break };
            before = block.number;
            keys.push(key);
        }
        // Later blocks first, so that none outlives the one before it.
        for key in keys.iter().rev() {
            self.next += 1;
            let now = self.next;
            if let Some(block) = self.blocks.get_mut(key) {
                block.used = now;
            }
        }
        keys
    }

    /// Drops the blocks used longest ago until there are at most `most`.
    fn shrink(&mut self, most: usize) {
        let extra = self.blocks.len().saturating_sub(most);
        if extra == 0 {
            return;
        }
        let mut uses: Vec<u64> = self.blocks.values().map(|block| block.used).collect();
        let (_, last, _) = uses.select_nth_unstable(extra - 1);
        let last = *last;
        self.blocks.retain(|_, block| block.used > last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::plain(1, 1, 1, 16)
    }

    /// Tokens of a prompt that begins with `same` equal tokens.
    fn prompt(same: usize, len: usize, seed: u32) -> Vec<u32> {
        (0..len).map(|at| if at < same { at as u32 } else { 1000 + seed }).collect()
    }

    fn cache(tokens: &[u32]) -> KvCache {
        let mut cache = KvCache::new(&config(), 320).unwrap();
        for block in tokens.chunks_exact(BLOCK_TOKENS) {
            let number = f16::from_f32(block.iter().sum::<u32>() as f32 / 1000.0);
            cache.copy_in(BLOCK_TOKENS, &vec![number; BLOCK_TOKENS * KvCache::position_bytes(&config()) / 2]);
        }
        cache
    }

    fn found(store: &PrefixCache, tokens: &[u32]) -> usize {
        let mut found = KvCache::new(&config(), 320).unwrap();
        store.copy_to(tokens, &mut found);
        let whole = cache(tokens);
        let len = found.len();
        assert_eq!(found.copy_out(0, len), whole.copy_out(0, len));
        len
    }

    #[test]
    fn the_longest_known_beginning_is_found() {
        let store = PrefixCache::new(&config(), DEFAULT_BYTES);
        let (a, b) = (prompt(32, 75, 1), prompt(32, 150, 2));
        assert_eq!(found(&store, &a), 0);
        store.keep(&a, &cache(&a));
        assert_eq!(found(&store, &a), 64);
        assert_eq!(found(&store, &a[..63]), 48);
        assert_eq!(found(&store, &b), 32);
        store.keep(&b, &cache(&b));
        store.keep(&b, &cache(&b));
        assert_eq!((found(&store, &b), found(&store, &a)), (144, 64));
        // Equal blocks behind another beginning are other blocks.
        assert_eq!(found(&store, &a[16..]), 0);
        assert_eq!(store.bytes(), (4 + 7) * 16 * 64);
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_no_block_outlives_its_beginning() {
        let store = PrefixCache::new(&config(), 8 * 16 * 64 + 100);
        let prompts: Vec<_> = (0..3).map(|seed| prompt(32, 80, seed)).collect();
        store.keep(&prompts[0], &cache(&prompts[0]));
        store.keep(&prompts[1], &cache(&prompts[1]));
        assert_eq!((found(&store, &prompts[1]), found(&store, &prompts[0])), (80, 80));
        store.keep(&prompts[2], &cache(&prompts[2]));
        assert_eq!(store.bytes(), 8 * 16 * 64);
        assert_eq!(found(&store, &prompts[2]), 80);
        assert_eq!(found(&store, &prompts[0]), 80);
        assert_eq!(found(&store, &prompts[1]), 32);
        store.set_most_bytes(3 * 16 * 64);
        assert_eq!((found(&store, &prompts[0]), found(&store, &prompts[2])), (48, 32));
        store.set_most_bytes(0);
        store.keep(&prompts[0], &cache(&prompts[0]));
        assert_eq!((store.bytes(), found(&store, &prompts[0])), (0, 0));
    }

    #[test]
    fn many_generations_at_a_time_find_what_is_theirs() {
        let store = PrefixCache::new(&config(), 12 * 16 * 64);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let store = &store;
                scope.spawn(move || {
                    for round in 0..200 {
                        let tokens = prompt(16 * (round % 4), 80, (thread + round) as u32 % 5);
                        found(store, &tokens);
                        store.keep(&tokens, &cache(&tokens));
                    }
                });
            }
        });
        assert!(store.bytes() <= 12 * 16 * 64);
    }
}
