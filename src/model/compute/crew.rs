//! Who works on the loops of a pass: the calling thread with the pool's [team](super::team), or alone.
//!
//! A forward pass over a short text is some fifty loops of a few microseconds each, which the team shares. Many texts are
//! better shared by passes: each thread does some alone, and the same code runs its loops without the others.

use super::parts::Chunks;
use super::Pool;

/// See the module.
pub struct Crew<'a> {
    pool: Option<&'a Pool>,
}

impl Crew<'static> {
    /// The calling thread alone.
    pub fn alone() -> Self {
        Self { pool: None }
    }
}

impl Crew<'_> {
    pub fn threads(&self) -> usize {
        self.pool.map_or(1, Pool::threads)
    }

    /// Calls `work(index, chunk)` for every chunk of `chunk_len` elements of `data` (the last may be shorter).
    pub fn for_chunks_mut<T: Send>(&mut self, data: &mut [T], chunk_len: usize, work: impl Fn(usize, &mut [T]) + Sync) {
        let chunk_len = chunk_len.max(1);
        match self.pool {
            Some(pool) if data.len() > chunk_len => pool.for_parts(Chunks::new(data, chunk_len), work),
            _ => data.chunks_mut(chunk_len).enumerate().for_each(|(index, chunk)| work(index, chunk)),
        }
    }
}

impl Pool {
    /// Runs `work` on the calling thread with the pool's team as its crew.
    pub fn with_crew<R>(&self, work: impl FnOnce(&mut Crew) -> R) -> R {
        work(&mut Crew { pool: (self.threads() > 1).then_some(self) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{catch_unwind, AssertUnwindSafe};

    #[test]
    fn every_chunk_is_worked_on_once_in_many_loops() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads).unwrap();
            let mut data = vec![0_u32; 1000];
            for length in [1, 7, 1000, 2000] {
                pool.with_crew(|crew| {
                    for round in 0..200 {
                        crew.for_chunks_mut(&mut data, length, |index, chunk| {
                            assert!(chunk.len() == length || (index + 1) * length > 1000);
                            chunk.iter_mut().enumerate().for_each(|(at, x)| *x += (index * length + at + round) as u32);
                        });
                    }
                });
                let rounds: u32 = (0..200).sum();
                assert!(data.iter().enumerate().all(|(at, x)| *x == at as u32 * 200 + rounds), "{threads}, {length}");
                data.fill(0);
            }
        }
    }

    #[test]
    fn empty_data_is_no_work() {
        Pool::new(2).unwrap().with_crew(|crew| crew.for_chunks_mut(&mut [0_u8; 0], 0, |_, _| panic!("called")));
    }

    #[test]
    fn a_panic_reaches_the_leader_and_the_pool_still_works() {
        let pool = Pool::new(3).unwrap();
        let mut data = [0_u8; 64];
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            pool.with_crew(|crew| {
                crew.for_chunks_mut(&mut data, 1, |index, chunk| {
                    assert!(index != 40, "chunk of the test");
                    chunk[0] += 1;
                });
            });
        }));
        let panic = outcome.unwrap_err();
        assert!(panic.downcast_ref::<&str>().is_some_and(|text| text.contains("chunk of the test")));
        assert_eq!(data.iter().filter(|x| **x == 1).count(), 63);
        pool.with_crew(|crew| crew.for_chunks_mut(&mut data, 3, |_, chunk| chunk.fill(7)));
        assert_eq!(data, [7; 64]);
    }
}
