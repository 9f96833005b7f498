//! Conversions between single and half precision, bit by bit except for the payload of a NaN.

use half::f16;

use super::super::convert::ConversionKernels;
use super::*;
use crate::test_scale::scaled;

fn conversions() -> impl Iterator<Item = (&'static str, &'static ConversionKernels)> {
    InstructionSet::available().map(|set| (set.name(), set.conversion_kernels()))
}

#[test]
fn every_half_is_widened_exactly_and_comes_back() {
    let halves: Vec<f16> = (0..=u16::MAX).step_by(scaled(1, 331)).map(f16::from_bits).collect();
    for (name, kernels) in conversions() {
        let mut wide = vec![0.0; halves.len()];
        (kernels.widen)(&halves, &mut wide);
        let mut back = vec![f16::ZERO; halves.len()];
        (kernels.narrow)(&wide, &mut back);
        for ((half, single), back) in halves.iter().zip(wide).zip(back) {
            if half.is_nan() {
                assert!(single.is_nan() && back.is_nan(), "{name}: {:x}", half.to_bits());
            } else {
                assert_eq!(single.to_bits(), half.to_f32().to_bits(), "{name}: {:x}", half.to_bits());
                assert_eq!(back.to_bits(), half.to_bits(), "{name}");
            }
        }
    }
}

/// Between any two halves: the middle, to the even one, and its neighbours, to the nearer; what overflows, to infinity.
#[test]
fn narrowing_rounds_to_nearest_even() {
    let mut singles = Vec::new();
    for bits in (0..0x7c00u16).step_by(scaled(1, 331)) {
        let (low, high) = (f16::from_bits(bits).to_f32(), f16::from_bits(bits + 1).to_f32());
        let middle = if high.is_infinite() { 65520.0 } else { (low + high) / 2.0 };
        for value in [middle.next_down(), middle, middle.next_up()] {
            singles.extend([value, -value]);
        }
    }
    singles.extend([f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1), f32::INFINITY, -0.0, 1e-8]);
    let expected: Vec<u16> = singles.iter().map(|x| f16::from_f32(*x).to_bits()).collect();
    for (name, kernels) in conversions() {
        let mut halves = vec![f16::ZERO; singles.len()];
        (kernels.narrow)(&singles, &mut halves);
        for ((half, expected), single) in halves.iter().zip(&expected).zip(&singles) {
            assert_eq!(half.to_bits(), *expected, "{name}: {single}");
        }
    }
}

#[test]
fn every_length_is_converted_and_nothing_after_it() {
    let (halves, singles) = (elements::<f16>(1, 131), elements::<f32>(2, 131));
    for (name, kernels) in conversions() {
        for length in (0..=130).step_by(scaled(1, 9)) {
            let mut wide = vec![7.5f32; 131];
            (kernels.widen)(&halves[..length], &mut wide);
            let mut narrow = vec![f16::ONE; 131];
            (kernels.narrow)(&singles, &mut narrow[..length]);
            for i in 0..131 {
                let inside = i < length;
                assert_eq!(wide[i], if inside { halves[i].to_f32() } else { 7.5 }, "{name}, {length}");
                assert_eq!(narrow[i], if inside { f16::from_f32(singles[i]) } else { f16::ONE }, "{name}, {length}");
            }
        }
    }
    let mut wide = [0.0; 2];
    super::super::widen(&[f16::ONE; 3], &mut wide);
    let mut narrow = [f16::ZERO; 3];
    super::super::narrow(&wide, &mut narrow);
    assert_eq!(narrow, [f16::ONE, f16::ONE, f16::ZERO]);
}
