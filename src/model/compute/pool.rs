//! The compute threads of the process: one persistent pool that every model shares.
//!
//! All parallel loops of a forward pass go through [`Pool`]. The scheduler is the only thread that starts forward
//! passes, so loops never compete for the threads.

use super::parts::Parts;
use super::team::Team;
use crate::error::{ModelError, Result};
use rayon::prelude::*;

/// A fixed number of compute threads.
pub struct Pool {
    threads: usize,
    pool: rayon::ThreadPool,
    /// Threads for loops that are too short to be handed to `pool`.
    team: Team,
}

impl Pool {
    /// How many threads a pool of `threads` has: 0 means one per core that the process may use.
    pub fn count(threads: usize) -> usize {
        match threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        }
    }

    /// Starts [`Pool::count`] threads.
    pub fn new(threads: usize) -> Result<Self> {
        let threads = Self::count(threads);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("compute {index}"))
            .build()
            .map_err(|error| ModelError::Internal(format!("could not start compute threads: {error}")))?;
        Ok(Self { threads, pool, team: Team::new(threads)? })
    }

    pub fn threads(&self) -> usize {
        self.threads
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

    /// Calls `work` with every number below `chunks`, for short loops: the threads are there within a microsecond while
    /// one loop follows the other. The calling thread takes part.
    pub fn for_each(&self, chunks: usize, work: impl Fn(usize) + Sync) {
        self.team.run(chunks, work);
    }

    /// Like [`Pool::for_each`], with a part of `parts` for each number.
    #[allow(unsafe_code)]
    pub fn for_parts<P: Parts>(&self, parts: P, work: impl Fn(usize, P::Part) + Sync) {
        // SAFETY: every number below the count comes once.
        self.team.run(parts.count(), |index| work(index, unsafe { parts.part(index) }));
    }

    /// Like [`Pool::for_parts`] on the calling thread alone, for loops that are too short to be shared.
    #[allow(unsafe_code)]
    pub fn for_parts_here<P: Parts>(&self, parts: P, work: impl Fn(usize, P::Part)) {
        // SAFETY: every number below the count comes once.
        (0..parts.count()).for_each(|index| work(index, unsafe { parts.part(index) }));
    }
}
