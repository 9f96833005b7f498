//! Codes on disk outlive the program that wrote them.

use super::{codec, elements, encoded};
use crate::code::rotation::Rotation;
use crate::code::{Codec, ElementType};
use crate::distance::Metric;
use crate::test_scale::scaled;

/// FNV-1a, so that a change of any byte shows.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// If this fails, indexes in the field break: give the new code a new version in their metapage instead.
#[test]
fn codes_are_what_they_were() {
    let digests: Vec<u64> = [64, 100, 384, 1023, 1536]
        .into_iter()
        .map(|dimensions| digest(&encoded(&codec(Metric::L2, dimensions), &elements(1, dimensions))))
        .collect();
    assert_eq!(
        digests,
        [
            18_192_800_698_689_489_915,
            3_250_382_160_794_444_590,
            3_719_533_315_480_935_829,
            7_155_133_189_179_682_450,
            9_689_136_248_379_428_732
        ]
    );
}

#[test]
fn codes_depend_on_nothing_but_vector_metric_and_seed() {
    let vector = elements(1, 300);
    let code = |seed| encoded(&Codec::new(Metric::L2, 300, ElementType::Single, seed), &vector);
    assert_eq!(code(1), code(1));
    assert_ne!(code(1), code(2));
    assert_eq!(encoded(&codec(Metric::L2, 300), &vector), encoded(&codec(Metric::InnerProduct, 300), &vector));
}

#[test]
fn the_layout_is_factors_elements_padding() {
    let vector: Vec<f32> = elements(1, 65);
    let code = encoded(&codec(Metric::L2, 65), &vector);
    assert_eq!(code.len(), 80);
    let factor = |at: usize| f32::from_le_bytes(code[at..at + 4].try_into().unwrap());
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    assert!((factor(4) - norm).abs() < 1e-5 * norm);
    let square: f32 = code[12..77].iter().map(|c| (f32::from(*c as i8) * factor(0)).powi(2)).sum();
    // The error is orthogonal to the vector.
    assert!((square - norm * norm - factor(8) * factor(8)).abs() < 1e-4 * norm * norm);
    assert_eq!(code[12..77].iter().map(|c| (*c as i8).unsigned_abs()).max(), Some(127));
    assert_eq!(code[77..], [0; 3]);
}

/// Lengths and angles are kept, and one element is spread over all, in any number of dimensions.
#[test]
fn the_rotation_is_one() {
    let long = [255, 257, 383, 384, 511, 768, 1023, 1024, 1025, 1536, 2047];
    for dimensions in (1..=130).step_by(scaled(1, 21)).chain(long.into_iter().take(scaled(11, 1))) {
        let rotation = Rotation::new(dimensions, 5);
        let (mut a, mut b) = (elements(1, dimensions), elements(2, dimensions));
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(x * y)).sum::<f64>();
        let before = [product(&a, &a), product(&a, &b), product(&b, &b)];
        rotation.apply(&mut a);
        rotation.apply(&mut b);
        for (x, y) in before.into_iter().zip([product(&a, &a), product(&a, &b), product(&b, &b)]) {
            assert!((x - y).abs() < 1e-5 * before[0].max(before[2]), "{dimensions}");
        }
        if dimensions >= 64 {
            for at in [0, 1, dimensions / 2, dimensions - 1] {
                let mut unit = vec![0.0; dimensions];
                unit[at] = 1.0;
                rotation.apply(&mut unit);
                let largest = unit.iter().fold(0f32, |most, x| most.max(x.abs())) * (dimensions as f32).sqrt();
                assert!(largest < 5.5, "{at} of {dimensions}: {largest}");
            }
        }
    }
}
