//! Vectors rounded to integers, once for all matrices that multiply them.
//!
//! A number becomes `scale * (256 * high + low)` with two signed bytes, so that kernels multiply bytes with bytes and
//! still have 15 bits: with 8 bits alone, logits are off by up to 1, which changes answers. The second byte costs
//! nothing where the memory is what one waits for.

use super::format::UNIT;

/// 32 numbers. Rows of these lie one after the other, so everything about a number is near.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct XUnit {
    pub high: [i8; UNIT],
    pub low: [i8; UNIT],
    pub scale: f32,
    /// The sum of all numbers, which an offset of the weights is multiplied with.
    pub sum: f32,
    /// The sums of the first and the second 16.
    pub half_sums: [f32; 2],
}

/// Rows of rounded numbers.
#[derive(Clone, Debug, Default)]
pub struct Activations {
    units: Vec<XUnit>,
    columns: usize,
}

/// The largest number becomes 127 * 256: both bytes of everything smaller are in their range.
const STEPS: f32 = 32512.0;

impl Activations {
    /// Makes room for `rows` rows of `columns` numbers, a multiple of [`UNIT`]. What is in them is undefined until
    /// [`round`] has written it.
    pub fn resize(&mut self, rows: usize, columns: usize) {
        assert_eq!(columns % UNIT, 0, "vector does not consist of whole units");
        self.columns = columns;
        self.units.resize(rows * columns / UNIT, XUnit::default());
    }

    /// Takes the rows of `vectors`, which lie one after the other.
    pub fn set(&mut self, vectors: &[f32], columns: usize) {
        self.resize(vectors.len() / columns.max(1), columns);
        round(vectors, &mut self.units);
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn rows(&self) -> usize {
        self.units.len() * UNIT / self.columns.max(1)
    }

    pub fn units(&self) -> &[XUnit] {
        &self.units
    }

    /// For [`round`], row by row on several threads. A row has `columns / UNIT` units.
    pub fn units_mut(&mut self) -> &mut [XUnit] {
        &mut self.units
    }
}

/// Rounds the numbers of `vector` to `units`.
pub fn round(vector: &[f32], units: &mut [XUnit]) {
    assert_eq!(vector.len(), units.len() * UNIT, "units do not have the length of the vector");
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    match super::Level::best() {
        // SAFETY: the CPU has the instructions; there are 32 numbers for each unit.
        super::Level::Avx512Vnni => return unsafe { round_avx512(vector, units) },
        // SAFETY: the CPU has the instructions.
        super::Level::Avx2 | super::Level::AvxVnni => return unsafe { round_avx2(vector, units) },
        super::Level::Portable => {}
    }
    round_body(vector, units);
}

/// [`round_body`] with 16 numbers at a time, which a compiler does not see.
///
/// # Safety
/// AVX-512 F, BW and VL; `vector` has 32 numbers for each unit.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn round_avx512(vector: &[f32], units: &mut [XUnit]) {
    use std::arch::x86_64::*;
    for (numbers, unit) in vector.chunks_exact(UNIT).zip(units) {
        // SAFETY: 32 numbers.
        let numbers = unsafe { [_mm512_loadu_ps(numbers.as_ptr()), _mm512_loadu_ps(numbers.as_ptr().add(16))] };
        let magnitudes = _mm512_max_ps(_mm512_abs_ps(numbers[0]), _mm512_abs_ps(numbers[1]));
        let scale = _mm512_reduce_max_ps(magnitudes) / STEPS;
        let inverse = if scale > 0.0 && scale.is_finite() { 1.0 / scale } else { 0.0 };
        let mut sums = [0; 2];
        for (half, numbers) in numbers.into_iter().enumerate() {
            let steps = _mm512_cvtps_epi32(_mm512_mul_ps(numbers, _mm512_set1_ps(inverse)));
            let upper = _mm512_srai_epi32::<8>(_mm512_add_epi32(steps, _mm512_set1_epi32(128)));
            let shifted = _mm512_slli_epi32::<8>(upper);
            let lower = _mm512_max_epi32(_mm512_sub_epi32(steps, shifted), _mm512_set1_epi32(-127));
            // SAFETY: 16 bytes of 32 on each side.
            unsafe {
                let (high, low) = (unit.high.as_mut_ptr().add(16 * half), unit.low.as_mut_ptr().add(16 * half));
                _mm_storeu_si128(high.cast(), _mm512_cvtepi32_epi8(upper));
                _mm_storeu_si128(low.cast(), _mm512_cvtepi32_epi8(lower));
            }
            sums[half] = _mm512_reduce_add_epi32(_mm512_add_epi32(shifted, lower));
        }
        unit.scale = scale;
        unit.half_sums = sums.map(|sum| scale * sum as f32);
        unit.sum = scale * sums[0].wrapping_add(sums[1]) as f32;
    }
}

/// [`round_body`] compiled for AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn round_avx2(vector: &[f32], units: &mut [XUnit]) {
    round_body(vector, units);
}

#[inline(always)]
fn round_body(vector: &[f32], units: &mut [XUnit]) {
    // Adding 1.5 * 2^23 leaves the nearest integer in the low bits.
    const MAGIC: f32 = 12_582_912.0;
    for (numbers, unit) in vector.chunks_exact(UNIT).zip(units) {
        let mut lanes = [0.0_f32; 8];
        for chunk in numbers.chunks_exact(8) {
            for (lane, number) in lanes.iter_mut().zip(chunk) {
                let magnitude = number.abs();
                *lane = if magnitude > *lane { magnitude } else { *lane };
            }
        }
        let largest = lanes.iter().fold(0.0_f32, |a, &b| if b > a { b } else { a });
        let scale = largest / STEPS;
        let inverse = if scale > 0.0 && scale.is_finite() { 1.0 / scale } else { 0.0 };
        let mut steps = [0_i32; UNIT];
        for (steps, number) in steps.iter_mut().zip(numbers) {
            *steps = (number * inverse + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32;
        }
        for ((steps, high), low) in steps.iter_mut().zip(&mut unit.high).zip(&mut unit.low) {
            let upper = (*steps + 128) >> 8;
            // -128 has no negative, which some kernels need; the number is off by 1/32512 of the largest instead.
            let lower = *steps - (upper << 8);
            let lower = if lower < -127 { -127 } else { lower };
            *steps = (upper << 8) + lower;
            (*high, *low) = (upper as i8, lower as i8);
        }
        let (first, second) = steps.split_at(UNIT / 2);
        let sums = [first, second].map(|half| half.iter().fold(0_i32, |a, b| a.wrapping_add(*b)));
        unit.scale = scale;
        unit.half_sums = sums.map(|sum| scale * sum as f32);
        unit.sum = scale * sums[0].wrapping_add(sums[1]) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_within_half_a_step_and_sums_are_theirs() {
        let vector: Vec<f32> = (0..320).map(|i| ((i * 7919 % 1009) as f32 / 504.5 - 1.0) * (1.0 + i as f32)).collect();
        let mut activations = Activations::default();
        activations.set(&vector, 160);
        assert_eq!((activations.rows(), activations.columns()), (2, 160));
        for (numbers, unit) in vector.chunks(UNIT).zip(activations.units()) {
            let largest = numbers.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
            let mut sums = [0.0; 2];
            for (i, number) in numbers.iter().enumerate() {
                let back = unit.scale * (256.0 * f32::from(unit.high[i]) + f32::from(unit.low[i]));
                assert!((back - number).abs() <= 1.1 * largest / STEPS, "{number} became {back}");
                assert!(unit.low[i] > -128 && unit.high[i] > -128);
                sums[i / 16] += back;
            }
            assert!((unit.half_sums[0] - sums[0]).abs() < 1e-3 && (unit.half_sums[1] - sums[1]).abs() < 1e-3);
            assert!((unit.sum - sums[0] - sums[1]).abs() < 1e-3);
        }
    }

    #[test]
    fn zeros_and_non_numbers_do_no_harm() {
        let mut activations = Activations::default();
        activations.set(&[0.0; 32], 32);
        assert_eq!(activations.units()[0], XUnit::default());
        for number in [f32::NAN, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE / 1e5] {
            activations.set(&[number; 64], 32);
            assert_eq!(activations.rows(), 2);
        }
    }

    #[test]
    fn variants_agree() {
        type Variant = (&'static str, fn(&[f32], &mut [XUnit]));
        let mut variants: Vec<Variant> = vec![("the best", round)];
        #[cfg(target_arch = "x86_64")]
        #[allow(unsafe_code)]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                // SAFETY: the CPU has the instructions.
                variants.push(("AVX2", |vector, units| unsafe { round_avx2(vector, units) }));
            }
            if super::super::Level::best() == super::super::Level::Avx512Vnni {
                // SAFETY: the CPU has the instructions; vectors of the test are as long as their units.
                variants.push(("AVX-512", |vector, units| unsafe { round_avx512(vector, units) }));
            }
        }
        let cubes: Vec<f32> = (0..640).map(|i| ((i * 104729 % 2003) as f32 - 1001.0).powi(3)).collect();
        // Whole steps and halves between them, where a rounding shows; the lowest byte that has no negative.
        let steps: Vec<f32> = (0..640).map(|i| if i % 32 == 0 { STEPS } else { i as f32 * 64.5 - 20000.0 }).collect();
        let tiny: Vec<f32> = cubes.iter().map(|number| number * 1e-30).collect();
        for vector in [cubes, steps, tiny, vec![0.0; 640], vec![-1.0; 640]] {
            for units in [1, 2, 3, 20] {
                let vector = &vector[..units * UNIT];
                let mut want = vec![XUnit::default(); units];
                round_body(vector, &mut want);
                for (name, variant) in &variants {
                    let mut got = vec![XUnit { scale: f32::NAN, ..XUnit::default() }; units];
                    variant(vector, &mut got);
                    assert_eq!(got, want, "{name}, {units} units");
                }
            }
        }
    }
}
