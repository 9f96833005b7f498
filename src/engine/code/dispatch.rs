//! The choice of instruction set for products of codes, once per process. It is not that of `distance`: the
//! instructions that matter here are others.
//!
//! A [`ProductSet`] exists only where it was detected (its field is private to this file): so the functions of a table
//! are never called on a CPU that lacks their instructions.
#![allow(unsafe_code)]

use std::ptr::{from_ref, null_mut};
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

#[cfg(target_arch = "x86_64")]
use super::avx2::{Avx2, AvxVnni};
#[cfg(target_arch = "x86_64")]
use super::avx512::{Avx512, Avx512Vnni};
use super::kernels::Set;
#[cfg(target_arch = "aarch64")]
use super::neon::Neon;
use super::portable::Portable;

/// `Σ a·b` over the elements that both slices have, bytes taken as `i8`; exact under the condition of `kernels`.
pub(super) type QueryProduct = fn(query: &[i16], code: &[u8]) -> i32;
/// The same of two codes.
pub(super) type CodeProduct = fn(a: &[u8], b: &[u8]) -> i32;

/// All that is compiled for an instruction set.
struct Table {
    name: &'static str,
    is_available: fn() -> bool,
    of_query: QueryProduct,
    of_codes: CodeProduct,
}

impl Table {
    /// # Safety
    /// `is_available` tells whether the CPU has the instructions of `S`.
    const unsafe fn of<S: Set>(name: &'static str, is_available: fn() -> bool) -> Table {
        Table {
            name,
            is_available,
            // SAFETY: tables are reached through `ProductSet` only, which is made after `is_available`.
            of_query: |query, code| unsafe { S::enter(query, code) },
            // SAFETY: see above.
            of_codes: |a, b| unsafe { S::enter(a, b) },
        }
    }
}

// SAFETY (all): each set is given the test of its instructions.
/// From the plainest to the best.
static SETS: &[Table] = &[
    // SAFETY: what every CPU of the architecture has.
    unsafe { Table::of::<Portable>("scalar", || true) },
    #[cfg(target_arch = "x86_64")]
    // SAFETY: see above.
    unsafe {
        Table::of::<Avx2>("avx2", || is_x86_feature_detected!("avx2"))
    },
    #[cfg(target_arch = "x86_64")]
    // SAFETY: see above.
    unsafe {
        Table::of::<AvxVnni>("avx-vnni", || is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni"))
    },
    #[cfg(target_arch = "x86_64")]
    // SAFETY: see above.
    unsafe {
        Table::of::<Avx512>("avx512", has_avx512)
    },
    #[cfg(target_arch = "x86_64")]
    // SAFETY: see above.
    unsafe {
        Table::of::<Avx512Vnni>("avx512-vnni", || has_avx512() && is_x86_feature_detected!("avx512vnni"))
    },
    #[cfg(target_arch = "aarch64")]
    // SAFETY: see above.
    unsafe {
        Table::of::<Neon>("neon", || std::arch::is_aarch64_feature_detected!("neon"))
    },
];

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
}

/// An instruction set that this CPU has.
#[derive(Clone, Copy)]
pub(super) struct ProductSet(&'static Table);

/// An element of [`SETS`], or null before the first use. Relaxed accesses suffice, since what it points to was written
/// by the compiler; threads that are first at once detect the same.
static CHOSEN: AtomicPtr<Table> = AtomicPtr::new(null_mut());

impl ProductSet {
    /// The sets of this CPU, from the plainest to the best.
    pub(super) fn available() -> impl DoubleEndedIterator<Item = ProductSet> {
        SETS.iter().filter(|set| (set.is_available)()).map(ProductSet)
    }

    /// The set that this process uses: the best.
    #[inline]
    pub(super) fn chosen() -> ProductSet {
        let chosen = CHOSEN.load(Relaxed);
        if chosen.is_null() {
            return ProductSet::detect();
        }
        // SAFETY: not null, so `detect` stored it: a reference to an immutable static.
        ProductSet(unsafe { &*chosen })
    }

    #[cold]
    fn detect() -> ProductSet {
        let best = ProductSet::available().next_back().unwrap_or(ProductSet(&SETS[0]));
        CHOSEN.store(from_ref(best.0).cast_mut(), Relaxed);
        best
    }

    pub(super) fn name(self) -> &'static str {
        self.0.name
    }

    #[inline]
    pub(super) fn of_query(self) -> QueryProduct {
        self.0.of_query
    }

    #[inline]
    pub(super) fn of_codes(self) -> CodeProduct {
        self.0.of_codes
    }
}
