//! Every instruction set of this CPU against the scalar truth, not only the one that would be chosen.

mod bits;
mod convert;
mod memory;
mod metrics;
mod special;
mod sums;

use half::f16;

use super::scalar::{self, Element};
use super::{InstructionSet, KernelTable, Kernels};

/// What the tests need of an element type.
trait Tested: Kernels + Element {
    fn of(value: f32) -> Self;
}

impl Tested for f32 {
    fn of(value: f32) -> f32 {
        value
    }
}

impl Tested for f16 {
    fn of(value: f32) -> f16 {
        f16::from_f32(value)
    }
}

/// The tables of all sets, with their names for messages.
fn tables<E: Kernels>() -> Vec<(&'static str, &'static KernelTable<E>)> {
    InstructionSet::available().map(|set| (set.name(), E::kernels_of(set))).collect()
}

/// The three sums of a table.
fn sums<E>(table: &KernelTable<E>, a: &[E], b: &[E]) -> [f32; 3] {
    [(table.l2_squared)(a, b), (table.inner_product)(a, b), (table.l1)(a, b)]
}

fn true_sums<E: Element>(a: &[E], b: &[E]) -> [f32; 3] {
    [scalar::l2_squared(a, b), scalar::inner_product(a, b), scalar::l1(a, b)]
}

/// Half the distance from 1 to the next `f32`: the largest relative error of one operation.
const UNIT: f64 = 1.0 / (1 << 24) as f64;

/// How far apart two `f32` sums of `terms`, in whatever order, may be: each addition and each of the two operations
/// that make a term adds at most one unit of the sum of magnitudes, in either sum; a term may lose what is subnormal.
fn tolerance(terms: impl Iterator<Item = f64>) -> f64 {
    let (count, magnitude) = terms.fold((0.0, 0.0), |(count, sum), term| (count + 1.0, sum + term.abs()));
    2.0 * (count + 2.0) * (UNIT * magnitude + f64::from(f32::from_bits(1)))
}

fn tolerances<E: Element>(a: &[E], b: &[E]) -> [f64; 3] {
    let pairs = || a.iter().zip(b).map(|(x, y)| (f64::from(x.to_single()), f64::from(y.to_single())));
    [
        tolerance(pairs().map(|(x, y)| (x - y) * (x - y))),
        tolerance(pairs().map(|(x, y)| x * y)),
        tolerance(pairs().map(|(x, y)| x - y)),
    ]
}

/// Elements with all digits in use, without a pattern that a swap of lanes would keep.
fn elements<E: Tested>(seed: u32, length: usize) -> Vec<E> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        E::of((state >> 8) as f32 / (1 << 22) as f32 - 2.0)
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn the_best_set_is_chosen() {
    let best = InstructionSet::available().last().unwrap();
    assert_eq!(super::instruction_set(), best.name());
    assert!(["scalar", "avx2", "avx512", "neon"].contains(&best.name()));
    assert_eq!(InstructionSet::available().next().unwrap().name(), "scalar");
}
