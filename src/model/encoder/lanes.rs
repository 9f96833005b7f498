//! Sixteen f32 lanes at a time: the arithmetic under the encoder's kernels.
//!
//! A kernel is written once over [`Lanes`] and compiled for each of: [`Portable`], which is plain Rust, runs anywhere
//! and is what the tests compare with; AVX2 with FMA, two registers for sixteen lanes; AVX-512, one register; NEON, four.
//! [`dispatch!`] picks one at run time. They differ only in rounding, because FMA rounds once.
//!
//! Lanes of `lanes_x86.rs` and `lanes_neon.rs` must only be used inside a function compiled for their instructions, after detection;
//! `dispatch!` and the tests of the kernels are the only places that name them.

/// Number of lanes.
pub const LANES: usize = 16;

/// Sixteen numbers in one line of the cache. All buffers of the encoder are made of these, so that no load crosses a
/// line.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct Block(pub [f32; LANES]);

impl Block {
    pub const ZERO: Self = Self([0.0; LANES]);
}

/// Asks for lines of the cache that will be read soon. Has no effect but on time.
#[inline(always)]
#[allow(unsafe_code)]
pub fn fetch_ahead<T>(lines: &[T]) {
    const { assert!(size_of::<T>() == 64) };
    #[cfg(target_arch = "x86_64")]
    for line in lines {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T1};
        // SAFETY: every x86-64 has the instruction, and it reads nothing that a program could see.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(line).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = lines;
}

/// `values` as blocks; lanes past the last value are zero.
pub fn blocks_of(values: &[f32]) -> Vec<Block> {
    let mut blocks = Vec::with_capacity(values.len().div_ceil(LANES));
    for chunk in values.chunks(LANES) {
        let mut block = Block::ZERO;
        block.0[..chunk.len()].copy_from_slice(chunk);
        blocks.push(block);
    }
    blocks
}

/// Sixteen numbers in registers. The functions are inlined into kernels.
pub trait Lanes: Copy {
    /// Rows and panels whose sums a matrix product holds in registers.
    const TILE_ROWS: usize;
    const TILE_PANELS: usize;

    fn splat(value: f32) -> Self;
    fn load(from: &Block) -> Self;
    fn store(self, to: &mut Block);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// 1 / self, to the last bit or two; for numbers whose reciprocal is an ordinary number.
    fn reciprocal(self) -> Self;
    /// The larger of each pair; of a pair with a NaN, `other`.
    fn max(self, other: Self) -> Self;
    fn abs(self) -> Self;
    /// self · factor + addend
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// 2ⁿ for lanes that hold n + [`ROUND`], n a whole number from -126 to 127.
    fn exp2_of_rounded(self) -> Self;
    /// The nearest whole numbers of lanes from 0 to 255.
    fn to_bytes(self) -> [u8; LANES];
    /// The sum of the lanes.
    fn sum(self) -> f32;
    /// The largest lane.
    fn largest(self) -> f32;
}

/// Adding 1.5 · 2²³ moves the whole part of a small number into the low bits of the mantissa, rounded to nearest.
pub const ROUND: f32 = 12_582_912.0;

/// eˣ with a relative error below 3e-7; arguments below -87 count as -87, so the result is never 0. For x up to 88.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2; the Taylor polynomial of degree 7 of eʳ has a relative error below 1e-8 there.
#[inline(always)]
pub fn exp<L: Lanes>(x: L) -> L {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = L::splat(-87.0).max(x);
    let rounded = x.mul_add(L::splat(std::f32::consts::LOG2_E), L::splat(ROUND));
    let n = rounded.sub(L::splat(ROUND));
    let r = n.mul_add(L::splat(-LN2_HIGH), x);
    let r = n.mul_add(L::splat(-LN2_LOW), r);
    let mut power = L::splat(1.0 / 5040.0);
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        power = power.mul_add(r, L::splat(coefficient));
    }
    power.mul(rounded.exp2_of_rounded())
}

/// Lanes as an array.
#[derive(Clone, Copy)]
pub struct Portable(pub(super) [f32; LANES]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, operation: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| operation(self.0[lane], other.0[lane])))
    }
}

impl Lanes for Portable {
    const TILE_ROWS: usize = 4;
    const TILE_PANELS: usize = 1;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; LANES])
    }
    #[inline(always)]
    fn load(from: &Block) -> Self {
        Self(from.0)
    }
    #[inline(always)]
    fn store(self, to: &mut Block) {
        to.0 = self.0;
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    fn reciprocal(self) -> Self {
        Self(self.0.map(f32::recip))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Self(self.0.map(f32::abs))
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // f32::mul_add is one instruction where every processor of the architecture has it, else a slow library call.
        if cfg!(target_arch = "aarch64") {
            return Self(std::array::from_fn(|lane| self.0[lane].mul_add(factor.0[lane], addend.0[lane])));
        }
        self.mul(factor).add(addend)
    }
    #[inline(always)]
    fn exp2_of_rounded(self) -> Self {
        Self(self.0.map(|value| f32::from_bits((value.to_bits() << 23).wrapping_add(0x3F80_0000))))
    }
    #[inline(always)]
    fn to_bytes(self) -> [u8; LANES] {
        self.0.map(|value| (value + ROUND).to_bits() as u8)
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        let mut lanes = self.0;
        for width in [8, 4, 2, 1] {
            for lane in 0..width {
                lanes[lane] += lanes[lane + width];
            }
        }
        lanes[0]
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        self.0.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
}

/// Whether a kernel may use the instructions of this level: 1 for AVX2, 2 for AVX-VNNI, 3 for AVX-512; 1 for NEON, 2 for
/// its dot product. Only tests forbid any.
#[cfg(not(test))]
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code))]
#[inline(always)]
pub const fn allows(_level: u8) -> bool {
    true
}

/// `dispatch! { /// docs  pub fn name(arguments) = kernel; }` declares `name`, which runs `kernel::<L>` with the lanes
/// that suit the processor. The file that uses it needs `#![allow(unsafe_code)]`.
macro_rules! dispatch {
    ($($(#[$attribute:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) = $kernel:ident;)*) => {$(
        $(#[$attribute])*
        #[allow(clippy::too_many_arguments)]
        $visibility fn $name($($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::encoder::lanes_x86::{Avx2, Avx512};
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn with_avx512($($argument: $type),*) {
                    $kernel::<Avx512>($($argument),*)
                }
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx2,fma")]
                fn with_avx2($($argument: $type),*) {
                    $kernel::<Avx2>($($argument),*)
                }
                if $crate::encoder::lanes::allows(3) && Avx512::detected() {
                    // SAFETY: the processor has the instructions.
                    return unsafe { with_avx512($($argument),*) };
                }
                if $crate::encoder::lanes::allows(1) && Avx2::detected() {
                    // SAFETY: the processor has AVX2 and FMA.
                    return unsafe { with_avx2($($argument),*) };
                }
            }
            #[cfg(target_arch = "aarch64")]
            {
                use $crate::encoder::lanes_neon::Neon;
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "neon")]
                fn with_neon($($argument: $type),*) {
                    $kernel::<Neon>($($argument),*)
                }
                if $crate::encoder::lanes::allows(1) && Neon::detected() {
                    // SAFETY: the processor has the instructions.
                    return unsafe { with_neon($($argument),*) };
                }
            }
            $kernel::<$crate::encoder::lanes::Portable>($($argument),*)
        }
    )*};
}
pub(crate) use dispatch;

#[cfg(test)]
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(unused_imports))]
pub use limit::allows;

/// Running a test on this thread with each set of instructions, plain Rust first.
#[cfg(test)]
pub mod limit {
    use std::cell::Cell;

    thread_local! {
        static HIGHEST: Cell<u8> = const { Cell::new(u8::MAX) };
    }

    #[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(dead_code))]
    pub fn allows(level: u8) -> bool {
        HIGHEST.get() >= level
    }

    pub fn each_level(mut test: impl FnMut()) {
        for level in 0..=3 {
            HIGHEST.set(level);
            test();
        }
        HIGHEST.set(u8::MAX);
    }
}
