//! Integer products of every instruction set against the plain sum.

use crate::code::dispatch::ProductSet;
use crate::code::quantise::SUM_OF_WORDS;
use crate::test_scale::scaled;

fn truth(a: impl IntoIterator<Item = i32>, code: &[u8]) -> i32 {
    let sum: i64 = a.into_iter().zip(code).map(|(x, y)| i64::from(x) * i64::from(*y as i8)).sum();
    i32::try_from(sum).unwrap()
}

fn bytes(seed: u32, length: usize) -> Vec<u8> {
    super::elements(seed, length).into_iter().map(|x| (x * 128.0).floor() as i8 as u8).collect()
}

/// Every start within a register as well: nothing may rely on alignment.
#[test]
fn every_set_gives_the_sum_for_every_length_and_alignment() {
    for set in ProductSet::available() {
        let long = [384, 768, 1536, 2000, 16_000];
        for length in (0..=130).step_by(scaled(1, 7)).chain(long.into_iter().take(scaled(5, 0))) {
            for shift in [0, 1, 3, 7].into_iter().step_by(scaled(1, 3)) {
                let (a, b) = (bytes(length as u32, length + shift), bytes(99 + length as u32, length + shift));
                let (a, b) = (&a[shift..], &b[shift..]);
                let expected = truth(a.iter().map(|x| i32::from(*x as i8)), b);
                assert_eq!((set.of_codes())(a, b), expected, "{} of {length}", set.name());
                assert_eq!((set.of_codes())(b, a), expected, "{} of {length}", set.name());
                let most = (SUM_OF_WORDS / length.max(1)).min(32_767) as f32;
                let query: Vec<i16> = super::elements(5, length).into_iter().map(|x| (x * most) as i16).collect();
                let expected = truth(query.iter().map(|x| i32::from(*x)), b);
                assert_eq!((set.of_query())(&query, b), expected, "{} of {length}", set.name());
            }
        }
    }
}

/// The largest sums that a code or a query can give, where a narrower intermediate sum would have saturated.
#[test]
fn the_largest_sums_are_exact() {
    for set in ProductSet::available() {
        for length in [64, 129, 511, 512, 513, 16_000].into_iter().take(scaled(6, 2)) {
            for (x, y) in [(-128i8, -128i8), (127, 127), (-128, 127)] {
                let (a, b) = (vec![x as u8; length], vec![y as u8; length]);
                assert_eq!((set.of_codes())(&a, &b), length as i32 * i32::from(x) * i32::from(y), "{}", set.name());
            }
            let most = (SUM_OF_WORDS / length).min(32_767) as i16;
            for (x, y) in [(most, -128i8), (-most, -128), (most, 127)] {
                let (query, b) = (vec![x; length], vec![y as u8; length]);
                assert_eq!((set.of_query())(&query, &b), length as i32 * i32::from(x) * i32::from(y), "{}", set.name());
            }
        }
    }
}

#[test]
fn slices_of_unequal_length_are_taken_to_the_shorter_one() {
    for set in ProductSet::available() {
        let (a, b) = (bytes(1, 100), bytes(2, 77));
        let expected = truth(a.iter().map(|x| i32::from(*x as i8)), &b);
        assert_eq!((set.of_codes())(&a, &b), expected);
        assert_eq!((set.of_codes())(&b, &a), expected);
    }
}

#[test]
fn the_best_set_is_chosen() {
    assert_eq!(crate::code::instruction_set(), ProductSet::available().last().unwrap().name());
    assert_eq!(ProductSet::available().next().unwrap().name(), "scalar");
}
