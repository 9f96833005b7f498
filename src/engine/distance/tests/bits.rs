//! Distances of bit strings: counts are exact.

use proptest::prelude::*;

use super::super::bits::BitKernels;
use super::*;
use crate::test_scale::scaled;

fn bit_tables() -> impl Iterator<Item = (&'static str, &'static BitKernels)> {
    InstructionSet::available().map(|set| (set.name(), set.bit_kernels()))
}

fn true_jaccard(a: &[u8], b: &[u8]) -> f64 {
    match scalar::count(a, b, |x, y| x & y) {
        0 => 1.0,
        common => 1.0 - common as f64 / scalar::count(a, b, |x, y| x | y) as f64,
    }
}

fn assert_exact(a: &[u8], b: &[u8]) {
    for (name, table) in bit_tables() {
        assert_eq!((table.hamming)(a, b), scalar::count(a, b, |x, y| x ^ y), "{name}, {} bytes", a.len());
        assert_eq!((table.jaccard)(a, b), true_jaccard(a, b), "{name}, {} bytes", a.len());
        assert_eq!((table.hamming)(b, a), (table.hamming)(a, b));
        assert_eq!((table.jaccard)(b, a), (table.jaccard)(a, b));
    }
}

fn bytes(seed: u32, length: usize) -> Vec<u8> {
    elements::<f32>(seed, length).into_iter().map(|x| (x.to_bits() >> 7) as u8).collect()
}

#[test]
fn every_length_at_every_start_is_exact() {
    let (a, b) = (bytes(1, 170), bytes(2, 170));
    for length in (0..=130).step_by(scaled(1, 9)) {
        for start in (0..33).step_by(scaled(1, 15)) {
            assert_exact(&a[start..start + length], &b[32 - start..32 - start + length]);
        }
    }
    for length in [991, 992, 993, 1023, 1024, 8000, 8001, 100_000].into_iter().take(scaled(8, 3)) {
        assert_exact(&bytes(3, length), &bytes(4, length));
    }
}

/// Where counters of a byte would overflow first.
#[test]
fn all_bits_set_are_all_counted() {
    for length in [31 * 16, 31 * 32, 32 * 32, 255 * 32, 256 * 32, 100_000].into_iter().take(scaled(6, 3)) {
        let (ones, zeros) = (vec![0xff; length], vec![0; length]);
        for (name, table) in bit_tables() {
            assert_eq!((table.hamming)(&ones, &zeros), 8 * length as u64, "{name}");
            assert_eq!((table.jaccard)(&ones, &ones), 0.0, "{name}");
        }
    }
}

#[test]
fn nothing_in_common_is_as_far_as_can_be() {
    for (name, table) in bit_tables() {
        assert_eq!((table.jaccard)(&[], &[]), 1.0, "{name}");
        assert_eq!((table.jaccard)(&[0; 40], &[0; 40]), 1.0, "{name}");
        assert_eq!((table.jaccard)(&[0xf0; 40], &[0x0f; 40]), 1.0, "{name}");
        assert_eq!((table.jaccard)(&[0b111; 1], &[0b001; 1]), 1.0 - 1.0 / 3.0, "{name}");
    }
}

#[test]
fn the_shorter_slice_bounds_what_is_counted() {
    for (_, table) in bit_tables() {
        assert_eq!((table.hamming)(&[0xff; 100], &[0; 67]), 8 * 67);
        assert_eq!((table.jaccard)(&[0xff; 67], &[0xff; 100]), 0.0);
    }
    assert_eq!(super::super::hamming(&[1], &[3]), 1);
    assert_eq!(super::super::jaccard(&[1], &[3]), 0.5);
}

proptest! {
    #[test]
    fn random_strings_are_exact_and_triangles_close(
        triples in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 0..200)
    ) {
        let corner = |of: fn(&(u8, u8, u8)) -> u8| triples.iter().map(of).collect::<Vec<u8>>();
        let [a, b, c] = [corner(|t| t.0), corner(|t| t.1), corner(|t| t.2)];
        assert_exact(&a, &b);
        for (_, table) in bit_tables() {
            prop_assert!((table.hamming)(&a, &c) <= (table.hamming)(&a, &b) + (table.hamming)(&b, &c));
            prop_assert!((table.jaccard)(&a, &c) <= (table.jaccard)(&a, &b) + (table.jaccard)(&b, &c) + 1e-12);
        }
    }
}
