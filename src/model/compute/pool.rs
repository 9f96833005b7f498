//! The compute threads of the process: one persistent pool that every model shares.
//!
//! All parallel loops of a forward pass go through [`Pool`]. The scheduler is the only thread that starts forward
//! passes, so loops never compete for the threads.

use crate::error::{ModelError, Result};
use rayon::prelude::*;

/// A fixed number of compute threads.
pub struct Pool {
    threads: usize,
    pool: rayon::ThreadPool,
}

impl Pool {
    /// Starts `threads` threads; 0 means one per core that the process may use.
    pub fn new(threads: usize) -> Result<Self> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("compute {index}"))
            .build()
            .map_err(|error| ModelError::Internal(format!("could not start compute threads: {error}")))?;
        Ok(Self { threads, pool })
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The threads themselves, for [`super::crew`].
    pub(super) fn rayon(&self) -> &rayon::ThreadPool {
        &self.pool
    }

    /// Runs `work` on a compute thread; parallel loops inside it use the pool without another hand-over.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.install(work)
    }

    /// Calls `work(index, chunk)` for every chunk of `chunk_len` elements of `data` (the last may be shorter).
    pub fn for_chunks_mut<T: Send>(&self, data: &mut [T], chunk_len: usize, work: impl Fn(usize, &mut [T]) + Sync) {
        if data.len() <= chunk_len || self.threads == 1 {
            data.chunks_mut(chunk_len.max(1)).enumerate().for_each(|(index, chunk)| work(index, chunk));
        } else {
            self.pool.install(|| {
                data.par_chunks_mut(chunk_len).enumerate().for_each(|(index, chunk)| work(index, chunk));
            });
        }
    }
}
