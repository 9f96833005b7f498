//! Every sum over pairs of elements, written once for all instruction sets and element types.
//!
//! [`Lanes`] is the little a sum needs of a SIMD register of `f32`; [`Load`] fills one from elements of a type, widening
//! them on the way. An [`Operation`] is one step on lanes and what to make of the totals; [`Reduce`] carries it over two
//! slices. A set's file implements the traits and [`Set::enter`], and `dispatch` stamps out its table.
//!
//! Everything here is inlined into `enter`, the only function compiled for the set's instructions: an
//! `inline(always)` missing in this file costs calls inside the loops, not correctness.
//!
//! Invariant: a value of a type of [`Lanes`] exists only on a CPU that has its instructions. So making one is unsafe,
//! and calculating with it is not.
#![allow(unsafe_code)]

use super::bits::Words;

/// A register of `f32`.
pub(super) trait Lanes: Copy {
    const COUNT: usize;

    /// # Safety
    /// The CPU has the instructions of this type.
    unsafe fn zero() -> Self;
    fn add(self, other: Self) -> Self;
    fn subtract(self, other: Self) -> Self;
    fn absolute(self) -> Self;
    /// `self * factor + sum`, rounded once where the set has the instruction.
    fn multiply_add(self, factor: Self, sum: Self) -> Self;
    /// The sum of all lanes.
    fn total(self) -> f32;
    /// # Safety
    /// `to` is valid for writing [`Lanes::COUNT`] elements, at any alignment.
    unsafe fn store(self, to: *mut f32);
    /// Rounded to nearest, ties to even; to infinity beyond the largest half.
    ///
    /// # Safety
    /// As [`Lanes::store`].
    unsafe fn store_half(self, to: *mut half::f16);
}

/// A register of `f32` filled from elements of type `E`, at any alignment.
pub(super) trait Load<E>: Lanes {
    /// # Safety
    /// The CPU has the instructions of this type, and [`Lanes::COUNT`] elements can be read.
    unsafe fn load(from: *const E) -> Self;

    /// The first `count` elements, followed by zeros, which add nothing to any of the sums. Reads nothing beyond.
    ///
    /// # Safety
    /// The CPU has the instructions of this type, `count` elements can be read, and `0 < count < COUNT`.
    unsafe fn load_first(from: *const E, count: usize) -> Self;
}

/// An instruction set: its registers, and the way into code compiled for it.
pub(super) trait Set: Sized {
    type Lanes: Load<f32> + Load<half::f16>;
    type Words: Words;

    /// Runs `W` compiled for these instructions.
    ///
    /// # Safety
    /// The CPU has them.
    unsafe fn enter<W: Work<Self, A, B>, A, B>(a: A, b: B) -> W::Output;
}

/// What can be run in an instruction set. Two arguments rather than a structure: two slices travel in registers.
pub(super) trait Work<S: Set, A, B> {
    type Output;

    /// Must be `inline(always)`.
    ///
    /// # Safety
    /// Called by [`Set::enter`] only.
    unsafe fn run(a: A, b: B) -> Self::Output;
}

/// `N` sums over pairs of elements and what becomes of them.
pub(super) trait Operation<const N: usize> {
    type Output;

    /// Adds one pair of registers to the sums.
    fn step<L: Lanes>(sums: [L; N], a: L, b: L) -> [L; N];
    fn finish(totals: [f32; N]) -> Self::Output;
}

/// An operation over the dimensions that both slices have.
pub(super) struct Reduce<O, const N: usize>(O);

/// Independent sums, to hide the latency of an addition: with two loads per step, more than four would wait for memory.
const PARALLEL: usize = 4;

impl<'a, S, E, O, const N: usize> Work<S, &'a [E], &'a [E]> for Reduce<O, N>
where
    S: Set,
    S::Lanes: Load<E>,
    O: Operation<N>,
{
    type Output = O::Output;

    #[inline(always)]
    unsafe fn run(a: &'a [E], b: &'a [E]) -> O::Output {
        let length = a.len().min(b.len());
        let (a, b) = (a.as_ptr(), b.as_ptr());
        let count = S::Lanes::COUNT;
        // SAFETY: `enter` was told that the CPU has the instructions.
        let mut sums = [unsafe { S::Lanes::zero() }; N];
        // `wrapping_add`: the same instruction as `add`, without the checks of a debugging build inside the loop.
        let mut done = 0;
        if length >= PARALLEL * count {
            let mut parallel = [sums; PARALLEL];
            while length - done >= PARALLEL * count {
                for (k, sums) in parallel.iter_mut().enumerate() {
                    let at = done + k * count;
                    // SAFETY: at + count <= length, which neither slice is shorter than.
                    let (x, y) = unsafe { (S::Lanes::load(a.wrapping_add(at)), S::Lanes::load(b.wrapping_add(at))) };
                    *sums = O::step(*sums, x, y);
                }
                done += PARALLEL * count;
            }
            let [first, second, third, fourth] = parallel;
            for (n, sum) in sums.iter_mut().enumerate() {
                *sum = first[n].add(second[n]).add(third[n].add(fourth[n]));
            }
        }
        while length - done >= count {
            // SAFETY: done + count <= length.
            let (x, y) = unsafe { (S::Lanes::load(a.wrapping_add(done)), S::Lanes::load(b.wrapping_add(done))) };
            sums = O::step(sums, x, y);
            done += count;
        }
        let rest = length - done;
        if rest > 0 {
            // SAFETY: done + rest == length, and the loop above left 0 < rest < count.
            let (x, y) = unsafe {
                (S::Lanes::load_first(a.wrapping_add(done), rest), S::Lanes::load_first(b.wrapping_add(done), rest))
            };
            sums = O::step(sums, x, y);
        }
        let mut totals = [0.0; N];
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total = sum.total();
        }
        O::finish(totals)
    }
}
