//! The choice of instruction set, once per process, and the tables of functions compiled for each.
//!
//! An [`InstructionSet`] exists only where it was detected (its field is private to this file): so the tables, which
//! are reached through one, are never called on a CPU that lacks their instructions.
#![allow(unsafe_code)]

use std::ptr::{from_ref, null_mut};
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use half::f16;

#[cfg(target_arch = "x86_64")]
use super::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use super::avx512::{Avx512, Avx512Popcnt};
use super::bits::BitKernels;
use super::convert::ConversionKernels;
use super::lanes::{Load, Reduce, Set};
#[cfg(target_arch = "aarch64")]
use super::neon::Neon;
use super::operations::*;
#[cfg(target_arch = "x86_64")]
use super::portable::Popcnt;
use super::portable::Portable;

/// The sums and distances of vectors of `E` in one instruction set, over the dimensions that both slices have.
pub struct KernelTable<E> {
    pub(super) l2_squared: fn(&[E], &[E]) -> f32,
    pub(super) inner_product: fn(&[E], &[E]) -> f32,
    pub(super) l1: fn(&[E], &[E]) -> f32,
    pub(super) cosine: fn(&[E], &[E]) -> f64,
    /// The others as distances.
    pub(super) l2_distance: fn(&[E], &[E]) -> f64,
    pub(super) l2_squared_distance: fn(&[E], &[E]) -> f64,
    pub(super) negative_inner_product: fn(&[E], &[E]) -> f64,
    pub(super) l1_distance: fn(&[E], &[E]) -> f64,
}

impl<E> KernelTable<E> {
    /// # Safety
    /// The functions of this table are called only on a CPU that has the instructions of `S`.
    const unsafe fn of<S: Set>() -> KernelTable<E>
    where
        S::Lanes: Load<E>,
    {
        // SAFETY (all): the caller's promise.
        KernelTable {
            // SAFETY: see above.
            l2_squared: |a, b| unsafe { S::enter::<Reduce<SquaredDifferences, 1>, _, _>(a, b) },
            // SAFETY: see above.
            inner_product: |a, b| unsafe { S::enter::<Reduce<Products, 1>, _, _>(a, b) },
            // SAFETY: see above.
            l1: |a, b| unsafe { S::enter::<Reduce<AbsoluteDifferences, 1>, _, _>(a, b) },
            // SAFETY: see above.
            cosine: |a, b| unsafe { S::enter::<Reduce<Cosine, 3>, _, _>(a, b) },
            // SAFETY: see above.
            l2_distance: |a, b| unsafe { S::enter::<Reduce<Euclidean, 1>, _, _>(a, b) },
            // SAFETY: see above.
            l2_squared_distance: |a, b| unsafe { S::enter::<Reduce<EuclideanSquared, 1>, _, _>(a, b) },
            // SAFETY: see above.
            negative_inner_product: |a, b| unsafe { S::enter::<Reduce<NegativeProduct, 1>, _, _>(a, b) },
            // SAFETY: see above.
            l1_distance: |a, b| unsafe { S::enter::<Reduce<Manhattan, 1>, _, _>(a, b) },
        }
    }
}

/// Elements of vectors that have kernels: `f32` and `f16`.
pub trait Kernels: Copy + 'static {
    /// The table of an instruction set of this CPU.
    fn kernels_of(set: InstructionSet) -> &'static KernelTable<Self>;

    /// The table of the best one.
    #[inline]
    fn kernels() -> &'static KernelTable<Self> {
        Self::kernels_of(InstructionSet::chosen())
    }
}

impl Kernels for f32 {
    #[inline]
    fn kernels_of(set: InstructionSet) -> &'static KernelTable<f32> {
        &set.0.single
    }
}

impl Kernels for f16 {
    #[inline]
    fn kernels_of(set: InstructionSet) -> &'static KernelTable<f16> {
        &set.0.half
    }
}

/// All that is compiled for an instruction set.
struct Tables {
    name: &'static str,
    is_available: fn() -> bool,
    single: KernelTable<f32>,
    half: KernelTable<f16>,
    bits: BitKernels,
    conversions: ConversionKernels,
}

impl Tables {
    /// # Safety
    /// `is_available` tells whether the CPU has the instructions of `S`.
    const unsafe fn of<S: Set>(name: &'static str, is_available: fn() -> bool) -> Tables {
        // SAFETY: tables are reached through `InstructionSet` only, which is made after `is_available`.
        unsafe {
            Tables {
                name,
                is_available,
                single: KernelTable::of::<S>(),
                half: KernelTable::of::<S>(),
                bits: BitKernels::of::<S>(),
                conversions: ConversionKernels::of::<S>(),
            }
        }
    }
}

// SAFETY (all): each set is given the test of its instructions.
/// From the plainest to the best.
static SETS: &[Tables] = &[
    // SAFETY: what every CPU of the architecture has.
    unsafe { Tables::of::<Portable>("scalar", || true) },
    #[cfg(target_arch = "x86_64")]
    // SAFETY: see above.
    unsafe {
        Tables::of::<Popcnt>("scalar", has_popcnt)
    },
    #[cfg(target_arch = "x86_64")]
    // SAFETY: see above.
    unsafe {
        Tables::of::<Avx2>("avx2", has_avx2)
    },
    #[cfg(target_arch = "x86_64")]
    // SAFETY: see above.
    unsafe {
        Tables::of::<Avx512>("avx512", has_avx512)
    },
    #[cfg(target_arch = "x86_64")]
    // SAFETY: see above.
    unsafe {
        Tables::of::<Avx512Popcnt>("avx512", || has_avx512() && is_x86_feature_detected!("avx512vpopcntdq"))
    },
    #[cfg(target_arch = "aarch64")]
    // SAFETY: see above.
    unsafe {
        Tables::of::<Neon>("neon", || std::arch::is_aarch64_feature_detected!("neon"))
    },
];

#[cfg(target_arch = "x86_64")]
fn has_popcnt() -> bool {
    is_x86_feature_detected!("popcnt")
}

/// No CPU has AVX2 without the others, but a virtual machine may hide any of them.
#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    has_popcnt()
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// All CPUs with AVX-512 but the retired Xeon Phi have these parts of it.
#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
}

/// An instruction set that this CPU has.
#[derive(Clone, Copy)]
pub struct InstructionSet(&'static Tables);

/// An element of [`SETS`], or null before the first use. Relaxed accesses suffice, since what it points to was written
/// by the compiler; threads that are first at once detect the same.
static CHOSEN: AtomicPtr<Tables> = AtomicPtr::new(null_mut());

impl InstructionSet {
    /// The sets of this CPU, from the plainest to the best.
    pub fn available() -> impl DoubleEndedIterator<Item = InstructionSet> {
        SETS.iter().filter(|set| (set.is_available)()).map(InstructionSet)
    }

    /// The set that this process uses: the best.
    #[inline]
    pub fn chosen() -> InstructionSet {
        let chosen = CHOSEN.load(Relaxed);
        if chosen.is_null() {
            return InstructionSet::detect();
        }
        // SAFETY: not null, so `detect` stored it: a reference to an immutable static.
        InstructionSet(unsafe { &*chosen })
    }

    #[cold]
    fn detect() -> InstructionSet {
        let best = InstructionSet::available().next_back().unwrap_or(InstructionSet(&SETS[0]));
        CHOSEN.store(from_ref(best.0).cast_mut(), Relaxed);
        best
    }

    /// "avx512", "avx2", "neon" or "scalar".
    pub fn name(self) -> &'static str {
        self.0.name
    }

    #[inline]
    pub(super) fn bit_kernels(self) -> &'static BitKernels {
        &self.0.bits
    }

    #[inline]
    pub(super) fn conversion_kernels(self) -> &'static ConversionKernels {
        &self.0.conversions
    }
}
