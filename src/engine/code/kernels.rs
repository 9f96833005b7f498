//! Integer inner products, written once for all instruction sets.
//!
//! Elements of codes are `i8`; those of a query are `i16`, so that its own rounding does not count. Both are taken as
//! `i16` and pairs of products are summed in `i32`: widening a code costs one instruction, which is what the
//! alternative (bytes times bytes, `maddubs`) spends on its signs, and no intermediate sum can saturate.
//!
//! Sums are exact, in any order, as long as the sum of the magnitudes of all products is below 2³¹: always so for two
//! codes of up to 131,071 elements (2⁷·2⁷ each), and a query is scaled for it (`quantise::SUM_OF_WORDS`). Beyond that
//! they wrap. As in `distance::lanes`, everything is inlined into [`Set::enter`], and a value of a type of [`Words`]
//! exists only on a CPU that has its instructions.
#![allow(unsafe_code)]

/// A register of `i16`.
pub(super) trait Words: Copy {
    /// At most [`MOST_WORDS`].
    const COUNT: usize;
    /// A register of `i32`.
    type Sums: Copy;

    /// # Safety
    /// The CPU has the instructions of this type.
    unsafe fn zero() -> Self::Sums;
    /// # Safety
    /// The CPU has the instructions of this type, and [`Words::COUNT`] elements can be read, at any alignment.
    unsafe fn load(from: *const i16) -> Self;
    /// # Safety
    /// As [`Words::load`].
    unsafe fn widen(from: *const i8) -> Self;
    fn and(self, mask: Self) -> Self;
    /// Adds the products; which lane of the sums takes which product is the set's choice.
    fn multiply_add(self, factor: Self, sums: Self::Sums) -> Self::Sums;
    fn add(a: Self::Sums, b: Self::Sums) -> Self::Sums;
    /// The sum of all lanes.
    fn total(sums: Self::Sums) -> i32;
}

/// An instruction set: its registers, and the way into code compiled for it.
pub(super) trait Set {
    type Words: Words;

    /// Runs [`product`] compiled for these instructions.
    ///
    /// # Safety
    /// The CPU has them.
    unsafe fn enter<E: Integer>(a: &[E], code: &[u8]) -> i32;
}

/// Elements of the first factor: those of a query, or those of a code as bytes.
pub(super) trait Integer: Copy {
    /// # Safety
    /// As [`Words::load`].
    unsafe fn load<W: Words>(from: *const Self) -> W;
    fn value(self) -> i32;
}

impl Integer for i16 {
    #[inline(always)]
    unsafe fn load<W: Words>(from: *const i16) -> W {
        // SAFETY: the caller's promise.
        unsafe { W::load(from) }
    }

    #[inline(always)]
    fn value(self) -> i32 {
        i32::from(self)
    }
}

/// A byte of a code: an `i8`.
impl Integer for u8 {
    #[inline(always)]
    unsafe fn load<W: Words>(from: *const u8) -> W {
        // SAFETY: the caller's promise.
        unsafe { W::widen(from.cast()) }
    }

    #[inline(always)]
    fn value(self) -> i32 {
        i32::from(self as i8)
    }
}

/// The widest register of any set, in words.
pub(super) const MOST_WORDS: usize = 32;

/// Disabled words before enabled ones: what starts `n` before the middle disables its first `n`.
static MASKS: [i16; 2 * MOST_WORDS] = {
    let mut masks = [0; 2 * MOST_WORDS];
    let mut i = MOST_WORDS;
    while i < masks.len() {
        masks[i] = -1;
        i += 1;
    }
    masks
};

/// Independent sums, to hide the latency of a multiplication.
const PARALLEL: usize = 4;

/// The inner product over the elements that both slices have.
///
/// # Safety
/// Called by [`Set::enter`] only.
#[inline(always)]
pub(super) unsafe fn product<W: Words, E: Integer>(a: &[E], code: &[u8]) -> i32 {
    let length = a.len().min(code.len());
    let count = W::COUNT;
    if length < count {
        return a.iter().zip(code).fold(0, |sum, (x, y)| sum.wrapping_add(x.value().wrapping_mul(y.value())));
    }
    // `wrapping_add`: the same instruction as `add`, without the checks of a debugging build inside the loop.
    let pair = |at: usize| {
        // SAFETY: the CPU has the instructions; every call below has at + COUNT <= length.
        unsafe { (E::load::<W>(a.as_ptr().wrapping_add(at)), u8::load::<W>(code.as_ptr().wrapping_add(at))) }
    };
    // SAFETY: the CPU has the instructions.
    let zero = unsafe { W::zero() };
    let mut sums = [zero; PARALLEL];
    let mut done = 0;
    while length - done >= PARALLEL * count {
        for (k, sum) in sums.iter_mut().enumerate() {
            let (x, y) = pair(done + k * count);
            *sum = x.multiply_add(y, *sum);
        }
        done += PARALLEL * count;
    }
    let [first, second, third, fourth] = sums;
    let mut sum = W::add(W::add(first, second), W::add(third, fourth));
    while length - done >= count {
        let (x, y) = pair(done);
        sum = x.multiply_add(y, sum);
        done += count;
    }
    let rest = length - done;
    if rest > 0 {
        // The last register overlaps the one before it: what that one had is masked out.
        let (x, y) = pair(length - count);
        // SAFETY: 0 < rest < COUNT <= MOST_WORDS, so COUNT words from there are inside the table.
        let mask = unsafe { W::load(MASKS.as_ptr().wrapping_add(MOST_WORDS - (count - rest))) };
        sum = x.and(mask).multiply_add(y, sum);
    }
    W::total(sum)
}
