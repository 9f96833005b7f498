//! Threads that work on one loop after the other with hardly a pause in between.
//!
//! A forward pass over a short text is some fifty loops of a few microseconds each. Waking a sleeping thread for each
//! costs more than the loop. A [`Crew`] borrows the pool's threads for the whole pass: they spin for the next loop and
//! share it by taking chunks from a counter. A thread that the operating system holds back takes none, and nobody waits
//! for it, unless it has one in hand.
//!
//! Invariants:
//! - A loop's closure and data are only touched by who has taken one of its chunks; the loop ends when all are done.
//! - A panic in a chunk is raised by the thread that runs the loop, after the loop's other chunks.
#![allow(unsafe_code)]

use super::Pool;
use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bits of a ticket that number the next chunk; the others hold the number of chunks. One word, so that who takes a
/// chunk knows that the loop it belongs to is the one in progress.
const NEXT_BITS: u32 = 32;
const NEXT_MASK: u64 = (1 << NEXT_BITS) - 1;
/// Looks at the ticket before a thread lets others run.
const SPINS: u32 = 2_000;

/// A closure that runs one chunk, without its lifetime.
type Job = *const (dyn Fn(usize) + Sync);

/// What the threads of a crew share.
struct Shared {
    /// Chunks of the loop in progress, and the next of them to be taken.
    ticket: AtomicU64,
    finished: AtomicUsize,
    closed: AtomicBool,
    job: UnsafeCell<Option<Job>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is written by the leader between two loops and read by who has taken a chunk of the loop, which orders
// the two by `ticket` and `finished`; the closure behind it is `Sync`.
unsafe impl Sync for Shared {}

/// Closes the crew, so that its threads go home, however the leader leaves.
struct Close<'a>(&'a Shared);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
    }
}

/// Threads at the disposal of the one that leads them; not shared with others.
pub struct Crew<'a> {
    shared: Option<&'a Shared>,
    threads: usize,
}

impl Crew<'static> {
    /// The calling thread alone.
    pub fn alone() -> Self {
        Self { shared: None, threads: 1 }
    }
}

impl Crew<'_> {
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `work(index, chunk)` for every chunk of `chunk_len` elements of `data` (the last may be shorter).
    pub fn for_chunks_mut<T: Send>(&mut self, data: &mut [T], chunk_len: usize, work: impl Fn(usize, &mut [T]) + Sync) {
        let chunk_len = chunk_len.max(1);
        let chunks = data.len().div_ceil(chunk_len);
        let Some(shared) = self.shared.filter(|_| (2..NEXT_MASK as usize).contains(&chunks)) else {
            data.chunks_mut(chunk_len).enumerate().for_each(|(index, chunk)| work(index, chunk));
            return;
        };
        struct Start<T>(*mut T);
        // SAFETY: the pointer is only used for chunks that one thread has each, of elements that may change threads.
        unsafe impl<T: Send> Sync for Start<T> {}
        impl<T> Start<T> {
            fn at(&self, offset: usize) -> *mut T {
                self.0.wrapping_add(offset)
            }
        }
        let length = data.len();
        let start = Start(data.as_mut_ptr());
        shared.run(chunks, &|index: usize| {
            let first = index * chunk_len;
            // SAFETY: `run` calls with every index below `chunks` once, so the slices lie inside `data` and do not
            // overlap; `data` is borrowed until `run` has returned.
            let chunk = unsafe { std::slice::from_raw_parts_mut(start.at(first), chunk_len.min(length - first)) };
            work(index, chunk);
        });
    }
}

impl Shared {
    /// Calls `job` with every number below `chunks`, on all threads that are there.
    fn run(&self, chunks: usize, job: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes. The job is called by who holds a chunk, and this function returns after
        // the last chunk.
        let job = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(job) };
        // SAFETY: the previous loop is over, and nobody reads the job without a chunk of the new one.
        unsafe { *self.job.get() = Some(job) };
        self.finished.store(0, Ordering::Relaxed);
        self.ticket.store((chunks as u64) << NEXT_BITS, Ordering::Release);
        while self.take_chunk() {}
        let mut spins = 0;
        while self.finished.load(Ordering::Acquire) < chunks {
            pause(&mut spins);
        }
        let panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Runs one chunk of the loop, if one is left.
    fn take_chunk(&self) -> bool {
        let ticket = self.ticket.load(Ordering::Acquire);
        let chunk = (ticket & NEXT_MASK) as usize;
        if chunk as u64 >= ticket >> NEXT_BITS {
            return false;
        }
        if self.ticket.compare_exchange(ticket, ticket + 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return true;
        }
        // SAFETY: a chunk of the loop in progress is taken and not finished, so the leader waits and the job is that loop's.
        if let Some(job) = unsafe { *self.job.get() } {
            // SAFETY: as above, the closure lives until the leader has seen all chunks finished.
            let call = || unsafe { (*job)(chunk) };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
                *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
            }
        }
        self.finished.fetch_add(1, Ordering::Release);
        true
    }

    /// What the other threads do until the crew is closed.
    fn serve(&self) {
        let mut spins = 0;
        while !self.closed.load(Ordering::Acquire) {
            if self.take_chunk() {
                spins = 0;
            } else {
                pause(&mut spins);
            }
        }
    }
}

/// Waits a moment; after many moments it lets other threads of the machine run.
fn pause(spins: &mut u32) {
    *spins += 1;
    if *spins > SPINS {
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}

impl Pool {
    /// Runs `work` on the calling thread with the pool's threads as its crew: as many threads in all as the pool has.
    pub fn with_crew<R>(&self, work: impl FnOnce(&mut Crew) -> R) -> R {
        if self.threads() == 1 {
            return work(&mut Crew::alone());
        }
        let shared = Shared {
            ticket: AtomicU64::new(0),
            finished: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            job: UnsafeCell::new(None),
            panic: Mutex::new(None),
        };
        self.rayon().in_place_scope(|scope| {
            let close = Close(&shared);
            for _ in 1..self.threads() {
                scope.spawn(|_| shared.serve());
            }
            let result = work(&mut Crew { shared: Some(&shared), threads: self.threads() });
            drop(close);
            result
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
