//! Without intrinsics: arrays of eight words, which the compiler turns into what every CPU of the architecture has.
#![allow(unsafe_code)]

use super::kernels::{product, Integer, Set, Words};

/// Works on every CPU.
pub(super) struct Portable;

impl Set for Portable {
    type Words = Array;

    unsafe fn enter<E: Integer>(a: &[E], code: &[u8]) -> i32 {
        // SAFETY: called by `enter`.
        unsafe { product::<Self::Words, E>(a, code) }
    }
}

const COUNT: usize = 8;

#[derive(Clone, Copy)]
pub(super) struct Array([i16; COUNT]);

impl Words for Array {
    const COUNT: usize = COUNT;
    type Sums = [i32; COUNT / 2];

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        [0; COUNT / 2]
    }

    #[inline(always)]
    unsafe fn load(from: *const i16) -> Self {
        // SAFETY: the caller's promise.
        Array(unsafe { from.cast::<[i16; COUNT]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn widen(from: *const i8) -> Self {
        // SAFETY: the caller's promise.
        Array(unsafe { from.cast::<[i8; COUNT]>().read_unaligned() }.map(i16::from))
    }

    #[inline(always)]
    fn and(mut self, mask: Self) -> Self {
        for (word, mask) in self.0.iter_mut().zip(mask.0) {
            *word &= mask;
        }
        self
    }

    /// Neighbours are summed in pairs: one instruction of SSE2.
    #[inline(always)]
    fn multiply_add(self, factor: Self, mut sums: Self::Sums) -> Self::Sums {
        for (i, sum) in sums.iter_mut().enumerate() {
            let product = |i: usize| i32::from(self.0[i]).wrapping_mul(i32::from(factor.0[i]));
            *sum = sum.wrapping_add(product(2 * i).wrapping_add(product(2 * i + 1)));
        }
        sums
    }

    #[inline(always)]
    fn add(mut a: Self::Sums, b: Self::Sums) -> Self::Sums {
        for (x, y) in a.iter_mut().zip(b) {
            *x = x.wrapping_add(y);
        }
        a
    }

    #[inline(always)]
    fn total(sums: Self::Sums) -> i32 {
        sums.into_iter().fold(0, i32::wrapping_add)
    }
}
