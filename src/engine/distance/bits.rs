//! Distances between bit strings in the byte layout of PostgreSQL's `bit`: first bit highest, the last byte padded with
//! zeros. Counts are exact; the bytes that both slices have are compared.
//!
//! As in `lanes`, counting is written once over [`Words`], what a set offers for counting bits, and inlined into
//! [`Set::enter`]. The bytes after the last whole register are counted eight at a time in general registers.
#![allow(unsafe_code)]

use super::dispatch::InstructionSet;
use super::lanes::{Set, Work};

/// Number of bits that differ.
#[inline]
pub fn hamming(a: &[u8], b: &[u8]) -> u64 {
    (InstructionSet::chosen().bit_kernels().hamming)(a, b)
}

/// One minus the share of common bits among the bits set in either; 1 if no bit is common.
#[inline]
pub fn jaccard(a: &[u8], b: &[u8]) -> f64 {
    (InstructionSet::chosen().bit_kernels().jaccard)(a, b)
}

/// The distances of bit strings in one instruction set.
pub(super) struct BitKernels {
    pub(super) hamming: fn(&[u8], &[u8]) -> u64,
    pub(super) jaccard: fn(&[u8], &[u8]) -> f64,
}

impl BitKernels {
    /// # Safety
    /// The functions of this table are called only on a CPU that has the instructions of `S`.
    pub(super) const unsafe fn of<S: Set>() -> BitKernels {
        BitKernels {
            // SAFETY: the caller's promise.
            hamming: |a, b| unsafe { S::enter::<Hamming, _, _>(a, b) },
            // SAFETY: see above.
            jaccard: |a, b| unsafe { S::enter::<Jaccard, _, _>(a, b) },
        }
    }
}

/// A register of bits. As with `Lanes`, a value exists only where the CPU has its instructions.
pub(super) trait Words: Copy {
    const BYTES: usize;
    /// How many [`Words::count`]s may be added before [`Words::gather`] has to empty the narrow counters.
    const BURST: usize;

    /// # Safety
    /// The CPU has the instructions of this type.
    unsafe fn zero() -> Self;
    /// # Safety
    /// The CPU has the instructions of this type, and [`Words::BYTES`] bytes can be read.
    unsafe fn load(from: *const u8) -> Self;
    fn and(self, other: Self) -> Self;
    fn or(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    /// Bits set, in counters of a width of the set's choosing.
    fn count(self) -> Self;
    /// Sums of those counters.
    fn add_counts(self, other: Self) -> Self;
    /// Adds narrow counters to counters of 64 bits.
    fn gather(self, narrow: Self) -> Self;
    /// The sum of the counters of 64 bits.
    fn total(self) -> u64;
}

/// Combinations of two strings of which the bits are counted.
trait Combination<const N: usize> {
    fn words<W: Words>(a: W, b: W) -> [W; N];
    fn word(a: u64, b: u64) -> [u64; N];
}

#[inline(always)]
unsafe fn counts<W: Words, C: Combination<N>, const N: usize>(a: &[u8], b: &[u8]) -> [u64; N] {
    let length = a.len().min(b.len());
    let (a, b) = (&a[..length], &b[..length]);
    let mut totals = [0; N];
    let mut done = 0;
    if length >= W::BYTES {
        // SAFETY: the caller promised the instructions.
        let zero = unsafe { W::zero() };
        let mut sums = [zero; N];
        while length - done >= W::BYTES {
            let end = done + ((length - done) / W::BYTES).min(W::BURST) * W::BYTES;
            let mut narrow = [zero; N];
            while done < end {
                // SAFETY: done + BYTES <= end <= length.
                let (x, y) =
                    unsafe { (W::load(a.as_ptr().wrapping_add(done)), W::load(b.as_ptr().wrapping_add(done))) };
                let combined = C::words(x, y);
                for n in 0..N {
                    narrow[n] = narrow[n].add_counts(combined[n].count());
                }
                done += W::BYTES;
            }
            for n in 0..N {
                sums[n] = sums[n].gather(narrow[n]);
            }
        }
        for n in 0..N {
            totals[n] = sums[n].total();
        }
    }
    let (words_a, bytes_a) = a[done..].as_chunks::<8>();
    let (words_b, bytes_b) = b[done..].as_chunks::<8>();
    // `take` takes them all; it tells the compiler that they are too few to vectorise.
    for (x, y) in words_a.iter().zip(words_b).take(W::BYTES / 8 - 1) {
        add::<C, N>(&mut totals, u64::from_le_bytes(*x), u64::from_le_bytes(*y));
    }
    if !bytes_a.is_empty() {
        add::<C, N>(&mut totals, partial(bytes_a), partial(bytes_b));
    }
    totals
}

#[inline(always)]
fn add<C: Combination<N>, const N: usize>(totals: &mut [u64; N], a: u64, b: u64) {
    for (total, word) in totals.iter_mut().zip(C::word(a, b)) {
        *total += u64::from(word.count_ones());
    }
}

/// Fewer than eight bytes as a number.
#[inline(always)]
fn partial(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

struct Hamming;

impl Combination<1> for Hamming {
    #[inline(always)]
    fn words<W: Words>(a: W, b: W) -> [W; 1] {
        [a.xor(b)]
    }

    #[inline(always)]
    fn word(a: u64, b: u64) -> [u64; 1] {
        [a ^ b]
    }
}

impl<'a, S: Set> Work<S, &'a [u8], &'a [u8]> for Hamming {
    type Output = u64;

    #[inline(always)]
    unsafe fn run(a: &'a [u8], b: &'a [u8]) -> u64 {
        // SAFETY: `enter` was told that the CPU has the instructions.
        let [differing] = unsafe { counts::<S::Words, Hamming, 1>(a, b) };
        differing
    }
}

/// Bits in both and bits in either: two counts give the quotient, where three would be needed from the strings alone.
struct Jaccard;

impl Combination<2> for Jaccard {
    #[inline(always)]
    fn words<W: Words>(a: W, b: W) -> [W; 2] {
        [a.and(b), a.or(b)]
    }

    #[inline(always)]
    fn word(a: u64, b: u64) -> [u64; 2] {
        [a & b, a | b]
    }
}

impl<'a, S: Set> Work<S, &'a [u8], &'a [u8]> for Jaccard {
    type Output = f64;

    #[inline(always)]
    unsafe fn run(a: &'a [u8], b: &'a [u8]) -> f64 {
        // SAFETY: `enter` was told that the CPU has the instructions.
        let [common, either] = unsafe { counts::<S::Words, Jaccard, 2>(a, b) };
        if common == 0 {
            1.0
        } else {
            1.0 - common as f64 / either as f64
        }
    }
}
