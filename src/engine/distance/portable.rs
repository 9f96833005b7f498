//! The kernels without intrinsics: arrays of four lanes, which the compiler turns into what every CPU of the
//! architecture has (SSE2, NEON). For CPUs, and virtual machines, without the better sets.
#![allow(unsafe_code)]

use half::f16;

use super::bits::Words;
use super::lanes::{Lanes, Load, Set, Work};

/// Works on every CPU.
pub(super) struct Portable;

impl Set for Portable {
    type Lanes = Array;
    type Words = Word;

    unsafe fn enter<W: Work<Self, A, B>, A, B>(a: A, b: B) -> W::Output {
        // SAFETY: called by `enter`.
        unsafe { W::run(a, b) }
    }
}

/// The same where one instruction counts the bits of a word.
#[cfg(target_arch = "x86_64")]
pub(super) struct Popcnt;

#[cfg(target_arch = "x86_64")]
impl Set for Popcnt {
    type Lanes = Array;
    type Words = Word;

    #[target_feature(enable = "popcnt")]
    unsafe fn enter<W: Work<Self, A, B>, A, B>(a: A, b: B) -> W::Output {
        // SAFETY: called by `enter`.
        unsafe { W::run(a, b) }
    }
}

const COUNT: usize = 4;

#[derive(Clone, Copy)]
pub(super) struct Array([f32; COUNT]);

#[inline(always)]
fn lanes(lane: impl Fn(usize) -> f32) -> Array {
    Array([lane(0), lane(1), lane(2), lane(3)])
}

impl Lanes for Array {
    const COUNT: usize = COUNT;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Array([0.0; COUNT])
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        lanes(|i| self.0[i] + other.0[i])
    }

    #[inline(always)]
    fn subtract(self, other: Self) -> Self {
        lanes(|i| self.0[i] - other.0[i])
    }

    #[inline(always)]
    fn absolute(self) -> Self {
        lanes(|i| self.0[i].abs())
    }

    /// Rounded twice: `f32::mul_add` would call a library where there is no instruction.
    #[inline(always)]
    fn multiply_add(self, factor: Self, sum: Self) -> Self {
        lanes(|i| self.0[i] * factor.0[i] + sum.0[i])
    }

    #[inline(always)]
    fn total(self) -> f32 {
        let [first, second, third, fourth] = self.0;
        (first + third) + (second + fourth)
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[f32; COUNT]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn store_half(self, to: *mut f16) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[f16; COUNT]>().write_unaligned(self.0.map(f16::from_f32)) }
    }
}

impl Load<f32> for Array {
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        Array(unsafe { from.cast::<[f32; COUNT]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        // SAFETY: only elements before `count` are read.
        lanes(|i| if i < count { unsafe { from.wrapping_add(i).read_unaligned() } } else { 0.0 })
    }
}

impl Load<f16> for Array {
    #[inline(always)]
    unsafe fn load(from: *const f16) -> Self {
        // SAFETY: the caller's promise.
        let halves = unsafe { from.cast::<[u16; COUNT]>().read_unaligned() };
        lanes(|i| widen(halves[i]))
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f16, count: usize) -> Self {
        // SAFETY: only elements before `count` are read.
        lanes(|i| if i < count { widen(unsafe { from.cast::<u16>().wrapping_add(i).read_unaligned() }) } else { 0.0 })
    }
}

/// The value of a half from its bits, without branches, so that four become one register's worth of instructions.
#[inline(always)]
fn widen(half: u16) -> f32 {
    let (sign, magnitude) = (u32::from(half & 0x8000) << 16, u32::from(half & 0x7fff) << 13);
    // The exponents' biases differ by 112. The product is exact, and normalises what is subnormal as a half.
    let value = f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23);
    // Infinity and NaN have the highest exponent in both formats.
    let special = if magnitude >= 0x7c00 << 13 { 0x7f80_0000 } else { 0 };
    f32::from_bits(value.to_bits() | special | sign)
}

/// Eight bytes in a general register.
#[derive(Clone, Copy)]
pub(super) struct Word(u64);

impl Words for Word {
    const BYTES: usize = 8;
    const BURST: usize = usize::MAX;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Word(0)
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's promise.
        Word(unsafe { from.cast::<u64>().read_unaligned() })
    }

    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Word(self.0 & other.0)
    }

    #[inline(always)]
    fn or(self, other: Self) -> Self {
        Word(self.0 | other.0)
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Word(self.0 ^ other.0)
    }

    #[inline(always)]
    fn count(self) -> Self {
        Word(u64::from(self.0.count_ones()))
    }

    #[inline(always)]
    fn add_counts(self, other: Self) -> Self {
        Word(self.0 + other.0)
    }

    #[inline(always)]
    fn gather(self, narrow: Self) -> Self {
        self.add_counts(narrow)
    }

    #[inline(always)]
    fn total(self) -> u64 {
        self.0
    }
}
