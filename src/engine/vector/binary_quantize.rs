//! One bit per element: whether it is positive. The Hamming distance of the bits is a cheap first guess at the angle
//! between vectors (Charikar 2002), which a second pass over the full vectors refines.

use super::Element;

/// The bits as PostgreSQL's `bit` type stores them: the first element in the most significant bit, zeros at the end.
pub fn binary_quantize<E: Element>(a: &[E]) -> Vec<u8> {
    let zero = E::default();
    let byte = |elements: &[E]| elements.iter().fold(0, |byte, &element| byte << 1 | u8::from(element > zero));
    let (full, rest) = a.as_chunks::<8>();
    let mut bits: Vec<u8> = full.iter().map(|elements| byte(elements)).collect();
    if !rest.is_empty() {
        bits.push(byte(rest) << (8 - rest.len()));
    }
    bits
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn positive_elements_are_ones_from_the_left() {
        assert_eq!(binary_quantize(&[1f32, -1.0, 0.0, -0.0, 2.0]), [0b1000_1000]);
        assert_eq!(binary_quantize(&[f16::ONE; 9]), [0xff, 0x80]);
        assert_eq!(binary_quantize(&[f32::from_bits(1); 8]), [0xff]);
    }

    proptest! {
        #[test]
        fn every_bit_is_that_of_its_element(a in prop::collection::vec(-1f32..1.0, 1..70)) {
            let bits = binary_quantize(&a);
            prop_assert_eq!(bits.len(), a.len().div_ceil(8));
            for index in 0..8 * bits.len() {
                let bit = bits[index / 8] >> (7 - index % 8) & 1;
                prop_assert_eq!(bit == 1, a.get(index).is_some_and(|&x| x > 0.0));
            }
        }
    }
}
