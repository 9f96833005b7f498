//! Threads that take the chunks of a short loop within a microsecond.
//!
//! A token of a small model is some 150 loops of a few microseconds each, so waking a sleeping thread for every loop
//! would cost more than the loop. Members of a team spin for [`SPIN`] after their last chunk before they sleep: between
//! the loops of a token they are awake, and an idle process uses no CPU.
//!
//! Chunks are claimed one by one. A member that the operating system has taken off its core holds up at most the one
//! chunk it is in; the thread that started the loop does the rest itself if it must.
//!
//! The word `state` holds the number of the loop (high half) and how many of its chunks are unclaimed (low half). A
//! claim is a successful exchange of that word, so whoever has claimed a chunk knows that the loop is still going on:
//! it ends when all its chunks are done, and the job is not replaced before.
#![allow(unsafe_code)]

use crate::error::{ModelError, Result};
use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a member looks for work before it sleeps.
const SPIN: Duration = Duration::from_micros(100);

/// Looks between two looks at the clock.
const LOOKS: u32 = 32;

/// Looks after which the starter of a loop lets others have its core: the member it waits for may need it.
const PATIENCE: u32 = 2_000;

/// See the module.
pub struct Team {
    shared: Arc<Shared>,
    members: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Line<AtomicU64>,
    done: Line<AtomicU32>,
    job: UnsafeCell<Job>,
    /// A loop is going on; another one that starts meanwhile runs on its own thread alone.
    busy: AtomicBool,
    sleepers: AtomicUsize,
    ending: AtomicBool,
    bed: Mutex<()>,
    alarm: Condvar,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is written by the holder of `busy` while no chunk is claimable, and read by those who have claimed one.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer in the job is used only while the loop that it belongs to lasts.
unsafe impl Send for Shared {}

/// A cache line of its own, so that spinning on one word does not slow down writes to another.
#[repr(align(128))]
struct Line<T>(T);

#[derive(Clone, Copy)]
struct Job {
    call: unsafe fn(*const (), usize),
    work: *const (),
    chunks: u32,
}

/// # Safety
/// `work` points to a `F`.
unsafe fn call<F: Fn(usize) + Sync>(work: *const (), chunk: usize) {
    // SAFETY: the caller's.
    unsafe { (*work.cast::<F>())(chunk) }
}

impl Team {
    /// Starts `threads - 1` members; the thread that starts a loop is the other one.
    pub fn new(threads: usize) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Line(AtomicU64::new(0)),
            done: Line(AtomicU32::new(0)),
            job: UnsafeCell::new(Job { call: call::<fn(usize)>, work: std::ptr::null(), chunks: 0 }),
            busy: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
            bed: Mutex::new(()),
            alarm: Condvar::new(),
            panic: Mutex::new(None),
        });
        let mut team = Self { shared, members: Vec::new() };
        for index in 1..threads {
            let shared = Arc::clone(&team.shared);
            let member = std::thread::Builder::new()
                .name(format!("team {index}"))
                .spawn(move || shared.member())
                .map_err(|error| ModelError::Internal(format!("could not start compute threads: {error}")))?;
            team.members.push(member);
        }
        Ok(team)
    }

    /// Calls `work` with every number below `chunks`, on any thread of the team and in any order. A panic in `work`
    /// goes on in the caller, after all chunks.
    pub fn run<F: Fn(usize) + Sync>(&self, chunks: usize, work: F) {
        let shared = &*self.shared;
        let alone = self.members.is_empty() || chunks <= 1 || chunks > u32::MAX as usize;
        if alone || shared.busy.swap(true, Ordering::Acquire) {
            (0..chunks).for_each(work);
            return;
        }
        let chunks = chunks as u32;
        shared.done.0.store(0, Ordering::Relaxed);
        // SAFETY: this thread holds `busy`, and the low half of `state` is 0, so nobody has a chunk or can claim one.
        unsafe { *shared.job.get() = Job { call: call::<F>, work: (&raw const work).cast(), chunks } };
        let number = (shared.state.0.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        shared.state.0.store(number << 32 | u64::from(chunks), Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            drop(shared.bed.lock().unwrap_or_else(PoisonError::into_inner));
            shared.alarm.notify_all();
        }
        while shared.claim_and_call() {}
        let mut looks = 0_u32;
        while shared.done.0.load(Ordering::Acquire) < chunks {
            looks += 1;
            if looks > PATIENCE {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        shared.busy.store(false, Ordering::Release);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        drop(self.shared.bed.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.alarm.notify_all();
        for member in self.members.drain(..) {
            // Members catch panics of their work, so they end normally.
            let _ = member.join();
        }
    }
}

impl Shared {
    fn unclaimed(&self) -> bool {
        self.state.0.load(Ordering::SeqCst) as u32 > 0
    }

    /// Does one chunk; `false` if there is none.
    fn claim_and_call(&self) -> bool {
        let mut state = self.state.0.load(Ordering::Acquire);
        loop {
            if state as u32 == 0 {
                return false;
            }
            match self.state.0.compare_exchange_weak(state, state - 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        // SAFETY: a chunk of the loop is claimed and not done, so the loop lasts, its job stays, and the closure lives.
        let job = unsafe { *self.job.get() };
        let chunk = (job.chunks - state as u32) as usize;
        // SAFETY: `call` and `work` come from the same loop.
        let result = catch_unwind(AssertUnwindSafe(|| unsafe { (job.call)(job.work, chunk) }));
        if let Err(panic) = result {
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
        self.done.0.fetch_add(1, Ordering::Release);
        true
    }

    fn member(&self) {
        while !self.ending.load(Ordering::SeqCst) {
            if !self.claim_and_call() && !self.spin() {
                self.sleep();
            }
        }
    }

    /// Waits for work; `false` if there was none for too long.
    fn spin(&self) -> bool {
        let start = Instant::now();
        loop {
            for _ in 0..LOOKS {
                if self.state.0.load(Ordering::Relaxed) as u32 > 0 {
                    return true;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() > SPIN {
                return false;
            }
        }
    }

    fn sleep(&self) {
        let mut bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        // Whoever makes work after this look sees the sleeper and needs the lock to ring, so nothing is slept through.
        while !self.unclaimed() && !self.ending.load(Ordering::SeqCst) {
            bed = self.alarm.wait(bed).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_is_done_once_in_thousands_of_loops() {
        for threads in [1, 2, 3, 5] {
            let team = Team::new(threads).unwrap();
            for round in 0..3000_usize {
                let chunks = round % 17;
                let counts: Vec<AtomicU32> = (0..chunks).map(|_| AtomicU32::new(0)).collect();
                team.run(chunks, |chunk| {
                    counts[chunk].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    /// Waits until `condition` holds, for ten seconds at most.
    fn wait_for(condition: impl Fn() -> bool) -> bool {
        let start = Instant::now();
        while !condition() {
            if start.elapsed() > Duration::from_secs(10) {
                return false;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        true
    }

    #[test]
    fn members_without_work_sleep_and_wake_up() {
        let team = Team::new(3).unwrap();
        for _ in 0..5 {
            assert!(wait_for(|| team.shared.sleepers.load(Ordering::SeqCst) == 2), "idle members do not sleep");
            let here = AtomicU32::new(0);
            // Each chunk waits for the others, so three threads are needed.
            let together = AtomicU32::new(0);
            team.run(3, |_| {
                here.fetch_add(1, Ordering::SeqCst);
                together.fetch_add(u32::from(wait_for(|| here.load(Ordering::SeqCst) == 3)), Ordering::SeqCst);
            });
            assert_eq!(together.into_inner(), 3);
        }
    }

    #[test]
    fn a_panic_comes_to_the_caller_and_the_team_goes_on() {
        let team = Team::new(2).unwrap();
        let done = AtomicU32::new(0);
        let result = catch_unwind(AssertUnwindSafe(|| {
            team.run(8, |chunk| {
                assert_ne!(chunk, 3, "the third");
                done.fetch_add(1, Ordering::Relaxed);
            });
        }));
        assert!(result.is_err());
        assert_eq!(done.load(Ordering::Relaxed), 7);
        team.run(8, |_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 15);
    }

    #[test]
    fn a_loop_inside_a_loop_and_loops_of_several_threads_are_complete() {
        let team = Team::new(2).unwrap();
        let done = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        team.run(4, |_| {
                            team.run(3, |_| {
                                done.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(done.into_inner(), 3 * 200 * 12);
    }
}
