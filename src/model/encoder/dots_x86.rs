//! The sums of byte products of x86: [`Avx2`], [`AvxVnni`] and [`Avx512Vnni`]. See `dots.rs` for who may use them.
#![allow(unsafe_code)]

use super::dots::{ByteBlock, Dots, IntBlock};
use super::lanes_x86;
use std::arch::x86_64::*;

/// Sixteen sums in two registers, by the multiplication of bytes to sums of two in 16 bits.
///
/// It takes the magnitudes of the values and gives their signs to the weights: 2 · 127 · 127 fits into 16 bits, where two
/// products of factors up to 255 would saturate.
#[derive(Clone, Copy)]
pub struct Avx2(__m256i, __m256i);

impl Avx2 {
    #[inline]
    pub fn detected() -> bool {
        lanes_x86::Avx2::detected()
    }
}

// SAFETY of every block: the type is only used after `detected`, in functions compiled for AVX2; loads stay inside the
// block behind the reference, which is aligned to 64 bytes.
impl Dots for Avx2 {
    type Lanes = lanes_x86::Avx2;
    const TILE_ROWS: usize = 4;
    const TILE_PANELS: usize = 1;
    const OFFSET: i32 = 0;

    #[inline(always)]
    fn load(from: &IntBlock) -> Self {
        let from = from.0.as_ptr().cast::<__m256i>();
        // SAFETY: as above.
        unsafe { Self(_mm256_load_si256(from), _mm256_load_si256(from.add(1))) }
    }
    #[inline(always)]
    fn add_products(self, factors: [u8; 4], weights: &ByteBlock) -> Self {
        let weights = weights.0.as_ptr().cast::<__m256i>();
        // SAFETY: as above.
        unsafe {
            let values = _mm256_set1_epi32(i32::from_ne_bytes(factors) ^ i32::from_ne_bytes([0x80; 4]));
            let magnitudes = _mm256_abs_epi8(values);
            let low = _mm256_sign_epi8(_mm256_load_si256(weights), values);
            let high = _mm256_sign_epi8(_mm256_load_si256(weights.add(1)), values);
            let ones = _mm256_set1_epi16(1);
            let low = _mm256_madd_epi16(_mm256_maddubs_epi16(magnitudes, low), ones);
            let high = _mm256_madd_epi16(_mm256_maddubs_epi16(magnitudes, high), ones);
            Self(_mm256_add_epi32(self.0, low), _mm256_add_epi32(self.1, high))
        }
    }
    #[inline(always)]
    fn to_lanes(self) -> Self::Lanes {
        // SAFETY: as above.
        unsafe { lanes_x86::Avx2(_mm256_cvtepi32_ps(self.0), _mm256_cvtepi32_ps(self.1)) }
    }
}

/// Sixteen sums in two registers, by one instruction for four products each.
#[derive(Clone, Copy)]
pub struct AvxVnni(__m256i, __m256i);

impl AvxVnni {
    #[inline]
    pub fn detected() -> bool {
        std::is_x86_feature_detected!("avxvnni") && lanes_x86::Avx2::detected()
    }
}

// SAFETY of every block: as for `Avx2`, in functions compiled for AVX-VNNI too.
impl Dots for AvxVnni {
    type Lanes = lanes_x86::Avx2;
    const TILE_ROWS: usize = 6;
    const TILE_PANELS: usize = 1;
    const OFFSET: i32 = 128;

    #[inline(always)]
    fn load(from: &IntBlock) -> Self {
        let from = from.0.as_ptr().cast::<__m256i>();
        // SAFETY: as above.
        unsafe { Self(_mm256_load_si256(from), _mm256_load_si256(from.add(1))) }
    }
    #[inline(always)]
    fn add_products(self, factors: [u8; 4], weights: &ByteBlock) -> Self {
        let weights = weights.0.as_ptr().cast::<__m256i>();
        // SAFETY: as above.
        unsafe {
            let factors = _mm256_set1_epi32(i32::from_ne_bytes(factors));
            Self(
                _mm256_dpbusd_avx_epi32(self.0, factors, _mm256_load_si256(weights)),
                _mm256_dpbusd_avx_epi32(self.1, factors, _mm256_load_si256(weights.add(1))),
            )
        }
    }
    #[inline(always)]
    fn to_lanes(self) -> Self::Lanes {
        // SAFETY: as above.
        unsafe { lanes_x86::Avx2(_mm256_cvtepi32_ps(self.0), _mm256_cvtepi32_ps(self.1)) }
    }
}

/// Sixteen sums in one register, by one instruction for four products each.
#[derive(Clone, Copy)]
pub struct Avx512Vnni(__m512i);

impl Avx512Vnni {
    #[inline]
    pub fn detected() -> bool {
        std::is_x86_feature_detected!("avx512vnni") && lanes_x86::Avx512::detected()
    }
}

// SAFETY of every block: as for `Avx2`, in functions compiled for AVX-512 with VNNI.
impl Dots for Avx512Vnni {
    type Lanes = lanes_x86::Avx512;
    const TILE_ROWS: usize = 14;
    const TILE_PANELS: usize = 2;
    const OFFSET: i32 = 128;

    #[inline(always)]
    fn load(from: &IntBlock) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm512_load_si512(from.0.as_ptr().cast()) })
    }
    #[inline(always)]
    fn add_products(self, factors: [u8; 4], weights: &ByteBlock) -> Self {
        // SAFETY: as above.
        unsafe {
            let factors = _mm512_set1_epi32(i32::from_ne_bytes(factors));
            Self(_mm512_dpbusd_epi32(self.0, factors, _mm512_load_si512(weights.0.as_ptr().cast())))
        }
    }
    #[inline(always)]
    fn to_lanes(self) -> Self::Lanes {
        // SAFETY: as above.
        lanes_x86::Avx512(unsafe { _mm512_cvtepi32_ps(self.0) })
    }
}
