//! Sums of products of 8-bit numbers, sixteen at a time: the arithmetic under the int8 products.
//!
//! A factor is four bytes of a row of activations, which hold value + 128, the values from -127 to 127; a weight block
//! has, for each of 16 outputs, the four weights that meet them, from -127 to 127. As with [`super::lanes`], a kernel is written once over [`Dots`] and
//! compiled for each implementation: [`Portable`], the truth; AVX2; AVX-VNNI; AVX-512 VNNI; NEON, with or without its dot
//! product. All give the same sums.
//! [`dispatch_dots!`] picks one at run time.

use super::lanes::{self, Lanes, LANES};

/// Sixteen times four bytes, in one line of the cache.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct ByteBlock(pub [u8; 4 * LANES]);

/// Sixteen whole numbers in one line of the cache.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct IntBlock(pub [i32; LANES]);

impl ByteBlock {
    pub const ZERO: Self = Self([0; 4 * LANES]);
}

/// Sixteen sums in registers. The functions are inlined into kernels.
pub trait Dots: Copy {
    /// The lanes that belong to the same instructions.
    type Lanes: Lanes;
    /// Rows and panels whose sums a matrix product holds in registers.
    const TILE_ROWS: usize;
    const TILE_PANELS: usize;
    /// What `add_products` counts too much of each weight.
    const OFFSET: i32;

    fn load(from: &IntBlock) -> Self;
    /// self + the sum of (value + [`Dots::OFFSET`]) · weight over the four, for each output.
    fn add_products(self, factors: [u8; 4], weights: &ByteBlock) -> Self;
    fn to_lanes(self) -> Self::Lanes;
}

/// Sums as an array.
#[derive(Clone, Copy)]
pub struct Portable([i32; LANES]);

impl Dots for Portable {
    type Lanes = lanes::Portable;
    const TILE_ROWS: usize = 4;
    const TILE_PANELS: usize = 1;
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn load(from: &IntBlock) -> Self {
        Self(from.0)
    }
    #[inline(always)]
    fn add_products(self, factors: [u8; 4], weights: &ByteBlock) -> Self {
        let weights = weights.0.as_chunks::<4>().0;
        Self(std::array::from_fn(|lane| {
            let products = factors.iter().zip(&weights[lane]).map(|(f, w)| (i32::from(*f) - 128) * i32::from(*w as i8));
            self.0[lane] + products.sum::<i32>()
        }))
    }
    #[inline(always)]
    fn to_lanes(self) -> Self::Lanes {
        lanes::Portable(self.0.map(|sum| sum as f32))
    }
}

/// As [`lanes::dispatch!`], with the implementation of [`Dots`] that suits the processor.
macro_rules! dispatch_dots {
    ($($(#[$attribute:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) = $kernel:ident;)*) => {$(
        $(#[$attribute])*
        #[allow(clippy::too_many_arguments)]
        $visibility fn $name($($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::encoder::dots_x86::{Avx2, Avx512Vnni, AvxVnni};
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
                fn with_avx512($($argument: $type),*) {
                    $kernel::<Avx512Vnni>($($argument),*)
                }
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avxvnni,avx2,fma")]
                fn with_avx_vnni($($argument: $type),*) {
                    $kernel::<AvxVnni>($($argument),*)
                }
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx2,fma")]
                fn with_avx2($($argument: $type),*) {
                    $kernel::<Avx2>($($argument),*)
                }
                if $crate::encoder::lanes::allows(3) && Avx512Vnni::detected() {
                    // SAFETY: the processor has the instructions.
                    return unsafe { with_avx512($($argument),*) };
                }
                if $crate::encoder::lanes::allows(2) && AvxVnni::detected() {
                    // SAFETY: the processor has the instructions.
                    return unsafe { with_avx_vnni($($argument),*) };
                }
                if $crate::encoder::lanes::allows(1) && Avx2::detected() {
                    // SAFETY: the processor has AVX2 and FMA.
                    return unsafe { with_avx2($($argument),*) };
                }
            }
            #[cfg(target_arch = "aarch64")]
            {
                use $crate::encoder::dots_neon::{DotProduct, Neon};
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "neon,dotprod")]
                fn with_dot_product($($argument: $type),*) {
                    $kernel::<DotProduct>($($argument),*)
                }
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "neon")]
                fn with_neon($($argument: $type),*) {
                    $kernel::<Neon>($($argument),*)
                }
                if $crate::encoder::lanes::allows(2) && DotProduct::detected() {
                    // SAFETY: the processor has the instructions.
                    return unsafe { with_dot_product($($argument),*) };
                }
                if $crate::encoder::lanes::allows(1) && Neon::detected() {
                    // SAFETY: the processor has the instructions.
                    return unsafe { with_neon($($argument),*) };
                }
            }
            $kernel::<$crate::encoder::dots::Portable>($($argument),*)
        }
    )*};
}
pub(crate) use dispatch_dots;
